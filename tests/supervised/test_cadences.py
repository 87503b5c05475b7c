"""What is due when."""

from supervised.session import Cadences


def test_each_thing_is_due_at_its_multiples_and_everything_at_the_end():
    cadences = Cadences({"log": 3, "save": 5})
    assert [step for step in range(1, 16) if cadences.due("log", step - 1, step)] == [3, 6, 9, 12, 15]
    assert cadences.due("save", 3, 11)  # a long step passes over several
    assert not cadences.due("save", 5, 9)
    assert cadences.due("save", 5, 6, last=True)
    assert [cadences.next(step) for step in (0, 3, 5, 9)] == [3, 5, 6, 10]
