"""Compilation is announced, and is not counted in the steps per second."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
from helpers import ROOT

import rl
from rl.core import compiling, jit
from rl.tabular.agent import TabularConfig
from supervised.session import progress


def learn(table, t, rng):
    table.q[t.s, t.a] += t.step_size * (t.reward - table.q[t.s, t.a])
    return 0.0


@dataclass(frozen=True)
class Myopic(TabularConfig):
    rule = staticmethod(learn)


def test_a_compilation_is_told_of_and_timed():
    numba = pytest.importorskip("numba")
    inner, begun = numba.njit(lambda x: x + 1), []
    outer = numba.njit(lambda x: inner(x))
    before, clock = compiling.seconds(), time.perf_counter()
    with compiling.notifying(lambda: begun.append(1)):
        assert outer(1) == 2
    assert begun == [1]  # what is compiled within is no second one
    assert 0 < compiling.seconds() - before <= time.perf_counter() - clock
    numba.njit(lambda x: x)(1)
    assert begun == [1]


def test_steps_a_second_leave_it_out(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setitem(jit.OUTER, "cache", False)  # so that it is compiled in any case
    shown = []
    monkeypatch.setattr(progress.Progress, "show", lambda self, done, text: shown.append((done, text)))
    clock = time.perf_counter()
    run = rl.train("FrozenLake-v1", Myopic(), steps=2000, seeds=2, progress=False)
    wall = time.perf_counter() - clock
    assert run.compile_seconds > 0.1
    assert (0, "compiling (once)") in shown
    assert run.steps_per_second > 2 * 2000 / (wall - run.compile_seconds)
    assert shown[-1][1].endswith("steps/s in all")
    again = rl.train("FrozenLake-v1", Myopic(), steps=2000, seeds=1, progress=False)
    assert again.compile_seconds < 0.1
    assert shown[-1][1].endswith("steps/s")


STALE = """
import sys, warnings
from typing import NamedTuple
sys.path[:0] = {paths!r}
import kept
from rl.core import jit
{act}
"""


def test_machine_code_for_a_class_that_was_renamed_is_compiled_again(tmp_path):
    """numba's cache names the classes of arguments; one that is gone must not stop what calls the function today."""
    pytest.importorskip("numba")
    code = "from typing import NamedTuple\n\n\nclass {}(NamedTuple):\n    x: int\n\n\ndef f(t):\n    return t.x + 1\n"
    for name in ("Former", "Current"):
        (tmp_path / "kept.py").write_text(code.format(name))
        os.utime(tmp_path / "kept.py", (1, 1))  # the same file for numba
        act = f"print(jit.compiled(kept.f)(kept.{name}(2)))"
        script = STALE.format(paths=[str(tmp_path), str(ROOT)], act=act)
        done = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "3", done.stderr
    assert list(tmp_path.glob("__pycache__/*.nbi"))
