"""A real SIGKILL, at any moment; then the same command again."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from told import curves

import rl

SCRIPT = """
import sys
import rl
from told import NoisyWalk
kind, folder = sys.argv[1:]
if kind == "compiled":
    rl.train("Taxi-v4", rl.QLearning(), steps=600_000, seeds=3, logdir=folder, resume=True,
             save_every_steps=20_000, progress=False)
elif kind == "remembering":
    for part, env, agent, steps in (
        ("traces", "Taxi-v4", rl.SARSALambda(traces="dutch"), 400_000),
        ("model", "Taxi-v4", rl.PrioritisedSweeping(), 400_000),
        ("episodes", "Taxi-v4", rl.MonteCarlo(), 400_000),
        ("tiles", "MountainCar-v0", rl.LinearSARSA(), 15_000),
        ("maze", "envs/BlockingMaze-v0", rl.DynaQ(bonus=1e-3, outcomes=1), 5_000),
    ):
        rl.train(env, agent, steps=steps, seeds=2, logdir=f"{folder}/{part}", resume=True, save_every_steps=steps // 30,
                 progress=False)
else:
    env = {"plain": "Blackjack-v1", "function": NoisyWalk}[kind]
    rl.train(env, rl.QLearning(), steps=9_000, seeds=2, envs_per_seed=2, logdir=folder, resume=True,
             save_every_steps=500, evaluate_every_steps=3000, progress=False)
"""


def command(kind, folder):
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(__file__))}
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(SCRIPT), kind, str(folder)], env=environment)


@pytest.mark.parametrize("kind", ["compiled", "plain", "function"])
def test_killed_and_resumed_equals_uninterrupted(kind, tmp_path):
    from told import NoisyWalk

    assert command(kind, tmp_path / "whole").wait() == 0
    rng = random.Random(kind)
    killed = 0
    for _ in range(4):
        process = command(kind, tmp_path / "killed")
        # Begin to count when there is something to kill: the first checkpoint.
        while process.poll() is None and not (tmp_path / "killed" / "run.safetensors").exists():
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 2.5 if killed == 0 else 3.5))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed
    assert command(kind, tmp_path / "killed").wait() == 0
    env = NoisyWalk if kind == "function" else None
    whole, again = (rl.load(tmp_path / name / "run.safetensors", env=env) for name in ("whole", "killed"))
    assert again.step == whole.step
    assert again.agent.table.tobytes() == whole.agent.table.tobytes()
    assert again.agent.visits.tobytes() == whole.agent.visits.tobytes()
    assert again.loop.streams.state_dict() == whole.loop.streams.state_dict()
    assert str(again.loop.walk.state_dict()) == str(whole.loop.walk.state_dict())
    assert curves(tmp_path / "killed") == curves(tmp_path / "whole")


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


def test_what_agents_remember_survives_kills(tmp_path):
    """Traces, models, episodes, tiles, and an environment that changes for good: one run after another, each killed."""
    whole, parts = command("remembering", tmp_path / "whole"), ("traces", "model", "episodes", "tiles", "maze")
    for part in parts:
        path = tmp_path / "killed" / part / "run.safetensors"
        process = command("remembering", tmp_path / "killed")
        before, saves = b"", 0
        while process.poll() is None and saves < 5:  # a few checkpoints further on
            now = path.read_bytes() if path.exists() else b""
            saves, before = saves + (now != before), now
            time.sleep(0.002)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert command("remembering", tmp_path / "killed").wait() == whole.wait() == 0
    for part in parts:
        one, other = (rl.load(tmp_path / name / part / "run.safetensors") for name in ("whole", "killed"))
        assert_same(one.state(), other.state())
        assert curves(tmp_path / "killed" / part) == curves(tmp_path / "whole" / part)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    code = f"""
    import rl
    try:
        rl.train("Blackjack-v1", rl.QLearning(), steps=10_000_000, seeds=2, logdir={str(tmp_path)!r}, progress=False)
    except KeyboardInterrupt as stop:
        print(stop)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "run.safetensors").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert "resume=True" in out
    saved = rl.load(tmp_path / "run.safetensors").step
    assert saved > 0
    assert f"Stopped at step {saved:,}" in out


def test_a_full_disk_ends_the_run_with_a_sentence_and_a_whole_checkpoint(tmp_path):
    """A limit on the size of files stands in for the full disk."""
    code = f"""
    import resource, signal, sys
    sys.argv = ["train_frozenlake.py", "--logdir", {str(tmp_path / "run")!r}, "--steps", "2000000", "--seeds", "2"]
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    import runpy
    sys.path.insert(0, "scripts")  # as python does for a script
    runpy.run_path("scripts/train_frozenlake.py", run_name="__main__")
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("Error: The curves in")
    assert "Traceback" not in done.stderr
    assert rl.load(tmp_path / "run" / "run.safetensors").step > 0
