"""scripts/benchmark.py memory: recurrent agents where memory is needed, judged by a bar."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from helpers import ROOT
from rich.console import Console

import envs  # noqa: F401  (its ids)
import rl


@pytest.fixture
def benchmark_memory(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from benchmarks import memory

    return memory


def test_benchmark_memory_judges_the_last_looks(benchmark_memory):
    task = benchmark_memory.tasks()["chain-50"]
    assert benchmark_memory.values(task, np.array([[1.0, 1.0, 1.0, -1.0], [-1.0] * 4])).tolist() == [0.75, 0.0]
    cards = benchmark_memory.tasks()["repeat-previous"]
    assert benchmark_memory.values(cards, np.array([[0.5, 0.7]])).tolist() == [pytest.approx(0.6)]
    looks = np.ones((10, 4))
    looks[4, 0], looks[5, 1], looks[9, 2] = 0.0, 0.94, 0.0  # the first counts no longer
    assert benchmark_memory.reached(task, looks).tolist() == [True, False, False, True]
    assert benchmark_memory.reached(cards, looks).tolist() == [True, True, False, True]


def test_benchmark_memory_says_who_misses_the_bar(benchmark_memory):
    task, all_of_four = (benchmark_memory.tasks()[name] for name in ("chain-50", "chain-20"))
    for count, seeds, says in ((9, 10, "ok"), (8, 10, "missed"), (2, 2, "ok"), (1, 2, "missed")):
        assert benchmark_memory.verdict(task, np.arange(seeds) < count, np.zeros(seeds)) == says
    assert benchmark_memory.verdict(all_of_four, np.arange(4) < 3, np.ones(4)) == "missed"
    poles = benchmark_memory.tasks()["cartpole"]  # its bar is for the mean
    for last, says in ((np.array([500.0, 310.0]), "ok"), (np.array([500.0, 290.0]), "missed")):
        assert benchmark_memory.verdict(poles, last >= 400, last) == says
    assert benchmark_memory.four_frames().reset(seed=0)[0].shape == (8,)
    assert benchmark_memory.bounded(task, 0.45, 0.5) == "ok"
    assert benchmark_memory.bounded(task, 0.51, 0.6) == "off the best without memory"


@pytest.mark.parametrize("name", ["chain-50", "chain-20", "t-maze", "repeat-previous"])
def test_benchmark_memory_knows_the_best_of_its_worlds(name, benchmark_memory):
    task = benchmark_memory.tasks()[name]
    best, without = gym.make(task.env, **task.kwargs).unwrapped.exact_returns()
    found = benchmark_memory.values(task, np.array([[best], [without]]))
    assert found.tolist() == pytest.approx([task.best, task.memoryless])


def test_benchmark_memory(benchmark_memory, monkeypatch):
    tiny = rl.DQN(network="gru(4)", batch_size=2, learn_after_steps=10, update_every_steps=20, compiled=False)
    task = benchmark_memory.tasks()["chain-20"]
    task = dataclasses.replace(
        task, agents={"tiny": tiny}, plain=dataclasses.replace(tiny, network="mlp(4)"), minutes=1e-6
    )
    monkeypatch.setattr(benchmark_memory, "tasks", lambda: {"tiny": task})
    found = benchmark_memory.memory("tiny", 2, 100, 1, 60, Console(quiet=True))
    rows = found["agents"]
    assert list(rows) == ["tiny", "feed-forward"]
    assert np.shape(rows["tiny"]["looks"]) == (10, 2)
    assert rows["tiny"]["settings"]["network"] == "gru(4)"
    assert set(rows["tiny"]["value"]["per_seed"]) == {"100", "101"}
    assert found["failed"] == [who for who, row in rows.items() if row["verdict"] != "ok"] + ["time"]
    with pytest.raises(ValueError, match="--task"):
        benchmark_memory.memory("none", 2, 100, 1, 60, Console(quiet=True))
