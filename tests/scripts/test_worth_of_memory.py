"""scripts/compare.py memory: agents without one and with, beside the best return with it and without."""

import importlib
import json

import numpy as np
import pytest
from helpers import ROOT, run_in_process


def test_agents_without_memory_stand_beside_what_it_is_worth(tmp_path):
    words = ["memory", "--panels", "repeat-previous", "--steps", 1000, "--seeds", 2, "--logdir", "run"]
    run_in_process("compare.py", *words, cwd=tmp_path)
    curves = json.loads((tmp_path / "run" / "result.json").read_text())["curves"]["repeat-previous"]
    assert set(curves) == {"Q-learning", "SARSA", "DRQN"}
    assert np.shape(curves.pop("DRQN")["values"]) == (20, 2)
    best = 2 * 6 / 11 - 1  # 12 cards; of the 11 others 6 have the other suit
    values = np.array([one["values"] for one in curves.values()])
    assert values.max() == pytest.approx(best)
    assert (tmp_path / "run" / "memory.png").stat().st_size > 5000


def test_every_world_of_the_comparison_has_two_lines(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    memory = importlib.import_module("comparisons.memory").memory()
    known = {name: [round(value, 4) for value, _ in panel.lines] for name, panel in memory.items()}
    assert known == {
        "t-maze": [4.0, 1.95],
        "memory-chain": [1.0, 0.0],
        "repeat-previous": [1.0, 0.0909],  # 2 * 6 / 11 - 1
        "repeat-first": [1.0, 0.0083],  # (1 + 10 * (5 / 11 - 6 / 11)) / 11
        "window": [1.0, 0.5],
    }
    assert {what for panel in memory.values() for _, what in panel.lines} == {"best with memory", "best without memory"}
