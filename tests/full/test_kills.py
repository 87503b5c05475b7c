"""A kill before any operation on files whatever, in three kinds of loops: nothing is lost."""

import kills
import pytest
from forked import Child


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["table", "deep", "fit"])
def test_a_kill_before_any_operation_loses_nothing(kind, tmp_path):
    output = tmp_path / "output"
    child = Child(kills.main, kind, tmp_path, 1, 1000, 1, output=output)
    assert child.wait(850) == 0, output.read_text()
    said = next(line for line in output.read_text().splitlines() if line.startswith("the run is over before operation"))
    assert int(said.split()[-1]) > 40
