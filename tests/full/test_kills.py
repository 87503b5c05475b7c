"""A kill before any operation on files whatever, in three kinds of loops: nothing is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["table", "deep", "fit"])
def test_a_kill_before_any_operation_loses_nothing(kind, tmp_path):
    command = [sys.executable, str(TESTS / "kills.py"), kind, str(tmp_path), "1", "1000", "1"]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = next(line for line in done.stdout.splitlines() if line.startswith("the run is over before operation"))
    assert int(said.split()[-1]) > 40
