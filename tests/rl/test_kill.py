"""A real SIGKILL, at any moment; then the same command again."""

import functools
import random
import signal
import time

import jobs
import numpy as np
import pytest
from daily import daily
from forked import Child
from helpers import NoisyWalk, curves

import rl

NETWORK = {"double": True, "n_step": 3, "prioritized": True, "batch_size": 16, "network": "mlp(16)"}
NETWORK |= {"capacity_steps": 1000, "learn_after_steps": 100}
MEMORY = {"network": "mlp(8)+gru(8)", "dueling": True, "rescale_values": True, "update_every_steps": 4}
MEMORY |= {"sequence_steps": 12, "sequence_every_steps": 4, "burn_in_steps": 4}
ROLLOUT = {"network": "layer_norm_mlp(16)", "envs_per_seed": 8, "rollout_steps": 16, "minibatches": 4}
ROLLOUT |= {"explore": rl.explore.EpsilonGreedy(0.5, hold=2.0)}
HOLD = rl.explore.EpsilonGreedy(0.5, hold=1.5)
RUNS = {
    "compiled": ("Taxi-v4", rl.QLearning(), 600_000, {"seeds": 3}),
    "plain": ("Blackjack-v1", rl.QLearning(), 9_000, {"envs_per_seed": 2, "evaluate_every_steps": 3000}),
    "function": (NoisyWalk, rl.QLearning(), 9_000, {"envs_per_seed": 2, "evaluate_every_steps": 3000}),
    # What agents remember: traces, models, episodes, tiles, a replay; and an environment that changes for good.
    "traces": ("Taxi-v4", rl.SARSALambda(traces="dutch"), 200_000, {}),
    "model": ("Taxi-v4", rl.PrioritizedSweeping(), 200_000, {}),
    "episodes": ("Taxi-v4", rl.MonteCarlo(), 200_000, {}),
    "tiles": ("MountainCar-v0", rl.LinearSARSA(), 3_000, {}),
    "held": ("Taxi-v4", rl.SARSA(explore=HOLD), 200_000, {"envs_per_seed": 2}),
    "held-tiles": ("MountainCar-v0", rl.LinearSARSA(explore=HOLD), 3_000, {"envs_per_seed": 2}),
    "maze": ("envs/BlockingMaze-v0", rl.DynaQ(bonus=1e-3, outcomes=1), 2_500, {}),
    "network": ("CartPole-v1", rl.DQN(**NETWORK), 1_000, {"evaluate_every_steps": 500}),
    # Within episodes and windows, with the states of acting and those in the replay.
    "memory": ("CartPole-v1", rl.DQN(**NETWORK | MEMORY), 600, {"envs_per_seed": 2, "evaluate_every_steps": 300}),
    # In the middle of a rollout, with exploring actions that are held.
    "rollout": ("envs/CartPole-v1", rl.PQN(**ROLLOUT), 4_000, {"evaluate_every_steps": 2_000}),
}
# Before a checkpoint is in its place, right after, and at some file operation behind.
FILES = ("compiled", "plain", "function")
DEATHS = {kind: [(1, 0), (1, 1), (2, 3), (1, 8)] if kind in FILES else [(2, 3)] for kind in RUNS}


class Runs:
    """One run under several names: the same command each time, in a process of its own."""

    def __init__(self, folder, name, saves=12):
        self.folder = folder
        env, agent, steps, settings = RUNS[name]
        self.arguments, self.settings = (env, agent, steps, saves), {"log_every_steps": steps // 20, **settings}
        self.env = None if isinstance(env, str) else env

    def start(self, name, death=None, **settings):
        job = functools.partial(jobs.train, **self.settings | settings)
        return Child(job, self.folder / name, *self.arguments, output=self.folder / f"{name}.txt", death=death)

    def kill_between_checkpoints(self, name, share, **settings):
        """Kill it after its fourth checkpoint, when `share` of the time that the fourth took has passed.

        A new run writes two at its start, before and after its settings.
        """
        child = self.start(name, **settings)
        *_, before, last = (child.checkpoint() for _ in range(4))
        time.sleep(share * (last - before))
        child.send(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL

    def assert_equal(self, one, other):
        runs = [rl.load(self.folder / name / "run.safetensors", env=self.env) for name in (one, other)]
        assert_same(*(run.state() for run in runs))
        assert runs[0].step == self.arguments[2]
        assert curves(self.folder / one) == curves(self.folder / other)


def assert_same(one, two, where="state"):
    """Whatever was saved, to the bit."""
    if isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            assert_same(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert_same(dict(enumerate(one)), dict(enumerate(two)), where)
    elif isinstance(one, np.ndarray):
        assert one.tobytes() == two.tobytes(), where
    else:
        assert one == two, where


@pytest.mark.parametrize("name", daily(RUNS, ("compiled", "network")))
def test_killed_and_resumed_equals_uninterrupted(name, tmp_path):
    runs = Runs(tmp_path, name)
    whole = runs.start("whole")
    for death in DEATHS[name]:
        assert runs.start("killed", death).wait() == -signal.SIGKILL
    runs.kill_between_checkpoints("killed", random.Random(name).random())
    assert runs.start("killed").wait() == whole.wait() == 0
    runs.assert_equal("whole", "killed")


@pytest.mark.full  # takes 15 s; test_workers.py kills workers
@pytest.mark.parametrize("name", ["network", "memory"])
def test_processes_that_share_the_seeds_are_killed_with_the_run(name, tmp_path):
    """And the number of processes changes no bit."""
    runs = Runs(tmp_path, name)
    whole = runs.start("whole")
    runs.kill_between_checkpoints("killed", 0.5, workers=2)
    assert runs.start("killed", workers=2).wait() == whole.wait() == 0
    runs.assert_equal("whole", "killed")


@pytest.mark.full
@pytest.mark.parametrize("name", ["compiled", "function", "memory", "network"])
def test_killed_at_every_file_operation(name, tmp_path):
    """One run after another, each killed one operation later than the last."""
    runs = Runs(tmp_path, name, saves=60)
    whole = runs.start("whole")
    for operation in range(24):
        assert runs.start("killed", (1, operation)).wait() == -signal.SIGKILL
    assert runs.start("killed").wait() == whole.wait() == 0
    runs.assert_equal("whole", "killed")


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    steps = 10_000_000
    child = Child(jobs.train, tmp_path / "run", "Blackjack-v1", rl.QLearning(), steps, 100_000, output=tmp_path / "out")
    for _ in range(4):  # the first two are from the start, before and after the settings are written
        assert child.checkpoint()
    child.send(signal.SIGINT)
    assert child.wait() == 1
    said, saved = (tmp_path / "out").read_text(), rl.load(tmp_path / "run" / "run.safetensors").step
    assert "resume=True" in said
    assert saved > 0
    assert f"Stopped at step {saved:,}" in said


def test_a_full_disk_ends_the_run_with_a_sentence_and_a_whole_checkpoint(tmp_path):
    """A limit on the size of files stands in for the full disk."""
    words = ["--logdir", str(tmp_path / "run"), "--steps", "2000000", "--seeds", "2"]
    job = functools.partial(jobs.script, most_bytes=200_000)
    child = Child(job, "train_frozenlake.py", *words, output=tmp_path / "out")
    assert child.wait() == 1
    said = (tmp_path / "out").read_text()
    assert said.strip().splitlines()[-1].startswith("Error: The curves in")
    assert "Traceback" not in said
    assert rl.load(tmp_path / "run" / "run.safetensors").step > 0
