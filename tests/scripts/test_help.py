"""The help of every command needs nothing that takes long to import; modules are counted, not seconds."""

import subprocess
import sys

import pytest
from helpers import ROOT

LATE = ("torch", "numba", "scipy", "sklearn", "matplotlib", "tensorboard")
COMMANDS = [(path.name,) for path in sorted((ROOT / "scripts").glob("*.py"))]
CODE = f"""
import runpy, sys
del sys.argv[0]
sys.path.insert(0, {str(ROOT / "scripts")!r})
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    print(end.code, [name for name in {LATE} if name in sys.modules])
"""


@pytest.mark.parametrize("words", [*COMMANDS, ("train.py", "CartPole-v1", "--agent", "rainbow")], ids=" ".join)
def test_help_needs_nothing_that_takes_long_to_import(words):
    command, *more = words
    line = [sys.executable, "-c", CODE, str(ROOT / "scripts" / command), *more, "--help"]
    *shown, last = subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()
    assert any(text.startswith("usage:") for text in shown)
    assert last == "0 []"
