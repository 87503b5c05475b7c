"""Sixty kills in all kinds of loops, and more before the first checkpoint and of workers: not a bit and not a tag is lost."""

import attack
import pytest
from attack import KINDS, everything

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]
# Where the four kills of each kind of loop come, as shares of a run's file operations. Each run resumes where the one before
# it died, so they come before its end.
SHARES = ((0.3, "before"), (0.2, "after"), (0.12, "later"), (0.07, "before"))
FIRST = (1, 2, 3, 4, 5, 6, 7, 8)  # operations before the second checkpoint


def same(folder, one, other):
    """Compare with a message that names what differs."""
    whole, again = everything(folder / one), everything(folder / other)
    assert whole.keys() == again.keys()
    assert [key for key in whole if whole[key] != again[key]] == []


@pytest.mark.parametrize("kind", KINDS)
def test_four_kills(kind, tmp_path):
    code, operations = attack.run(kind, tmp_path / "whole")
    assert code == 0
    assert operations > 60
    for place, (share, when) in enumerate(SHARES):
        # One further each time: before and after a file is synced, renamed, linked.
        code, _ = attack.run(kind, tmp_path / "killed", [(int(share * operations) + place, when)])
        assert code == -9, f"the kill {when} operation {int(share * operations) + place} of {operations} did not come"
    assert attack.run(kind, tmp_path / "killed")[0] == 0
    same(tmp_path, "whole", "killed")


def test_the_kills_are_sixty():
    assert len(KINDS) * len(SHARES) == 60


@pytest.mark.parametrize("kind", ["compiled table", "uniform replay", "fit of an MLP"])
def test_kills_before_the_first_checkpoint(kind, tmp_path):
    assert attack.run(kind, tmp_path / "whole")[0] == 0
    for number in FIRST:
        for when in ("before", "after"):
            code, _ = attack.run(kind, tmp_path / f"{number} {when}", [(number, when)])
            assert code == -9
            assert attack.run(kind, tmp_path / f"{number} {when}")[0] == 0
            same(tmp_path, "whole", f"{number} {when}")


def test_killed_workers(tmp_path):
    _, operations = attack.run("two workers", tmp_path / "whole")
    kills = [(int(share * operations), when) for share, when in ((0.2, "before"), (0.5, "later"), (0.8, "after"))]
    assert attack.run("two workers", tmp_path / "killed", kills, "a worker")[0] == 0
    same(tmp_path, "whole", "killed")
