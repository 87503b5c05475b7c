"""Worker processes that die, hang or lose their parent, by real signals, at every stage."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from daily import daily

import rl
from rl.run import processes as workers
from rl.run import worker

TESTS = str(Path(__file__).parent.parent)
AGENT = rl.DQN(network="mlp(16)", learn_after_steps=30, batch_size=16, capacity_steps=400)


class Forking(gym.Env):
    """Starts a process of its own, which keeps the worker's end of the pipe open after the worker is gone."""

    def __init__(self):
        self.observation_space, self.action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
        if os.getppid() == int(os.environ.get("TEST_PARENT", -1)) and os.fork() == 0:
            time.sleep(20)
            os._exit(0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.random(2, np.float32), {}

    def step(self, action):
        return self.np_random.random(2, np.float32), float(action), self.np_random.random() < 0.1, False, {}


class Fatal(Forking):
    """Takes its process with it."""

    def step(self, action):
        if os.getppid() == int(os.environ["TEST_PARENT"]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


class Busy(Forking):
    """Holds the interpreter for a minute in its 50th step."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 50:
            ctypes.PyDLL(None).sleep(60)
        return super().step(action)


def children(parent="self"):
    """The processes that a process has started and not yet waited for."""
    found = []
    for task in os.listdir(f"/proc/{parent}/task"):
        with open(f"/proc/{parent}/task/{task}/children") as file:
            found += map(int, file.read().split())
    return set(found)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def same_weights(state, run):
    return all(
        np.array_equal(state["agent"]["online"][n], w.detach().numpy()) for n, w in run.agent.online.weights.items()
    )


@pytest.fixture
def parent(monkeypatch):
    monkeypatch.setenv("TEST_PARENT", str(os.getpid()))


def kill_once(monkeypatch, when, k=1):
    """Have the k-th process killed right after it was started, or right before it is given its seeds, once."""
    whole, killed = getattr(workers.ProcessPool, when), []

    def and_kill(self, number):
        if when == "_start":
            whole(self, number)
        if number == k and not killed:
            killed.append(self.processes[k].pid)
            self.processes[k].kill()
            if when == "_hand_over":
                while alive(killed[0]):
                    time.sleep(0.01)
        if when != "_start":
            whole(self, number)

    monkeypatch.setattr(workers.ProcessPool, when, and_kill)
    return killed


@pytest.mark.parametrize("when", daily(["_start", "_hand_over"], ["_hand_over"]))
def test_a_worker_killed_while_starting(when, monkeypatch, capfd):
    before, descriptors = children(), len(os.listdir("/proc/self/fd"))
    killed = kill_once(monkeypatch, when)
    run = rl.train("CartPole-v1", AGENT, steps=150, seeds=2, workers=2, progress=False)
    assert killed
    assert "The worker of seeds 1 died (status -9); it restarts" in capfd.readouterr().err
    assert same_weights(run.state(), rl.train("CartPole-v1", AGENT, steps=150, seeds=2, progress=False))
    assert children() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.full  # the others kill them at a few
def test_workers_killed_at_every_command(parent, tmp_path, capfd):
    """In the middle of an answer, of an advance, of an evaluation, and between two commands; their own children live on."""
    run = rl.start(Forking, AGENT, 2, steps=1600)
    pool = workers.ProcessPool(run, 2)
    run.backend = pool

    def soon(k, seconds):
        threading.Timer(seconds, os.kill, (pool.processes[k].pid, signal.SIGKILL)).start()

    try:
        soon(0, 0.3)
        pool.advance(1500)
        run.save(tmp_path / "r")
        os.kill(pool.processes[1].pid, signal.SIGKILL)
        pool.advance(100)
        soon(1, 0.05)
        judged = pool.evaluate(40, 100)
        os.kill(pool.processes[0].pid, signal.SIGSTOP)  # stopped is not dead: it is waited for
        threading.Timer(1.5, os.kill, (pool.processes[0].pid, signal.SIGCONT)).start()
        state = pool.state()
    finally:
        pool.close()
    assert capfd.readouterr().err.count("died (status -9)") == 3
    whole = rl.train(Forking, AGENT, steps=1600, seeds=2, progress=False)
    assert same_weights(state, whole)
    assert state["loop"]["step"].tolist() == [1600, 1600]
    assert np.array_equal(judged.returns, whole.evaluate(40, 100).returns)


@pytest.mark.full  # takes 8 s
def test_a_worker_that_always_dies_ends_training_with_a_sentence(parent, capfd):
    before, descriptors = children(), len(os.listdir("/proc/self/fd"))
    run = rl.start(Fatal, AGENT, 2, steps=100)
    with pytest.raises(RuntimeError, match=r"^The worker of seeds 0 died 4 times at the same point.*memory ran out"):
        rl.train(run, steps=100, workers=2, progress=False)
    assert capfd.readouterr().err.count("seeds 0 died") == 4 - 1
    assert run.step == 0
    assert children() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_failing_start_leaves_no_process(monkeypatch):
    before, whole = children(), workers.ProcessPool._hand_over

    def fail(self, k):
        if k == 1:
            raise KeyboardInterrupt
        whole(self, k)

    monkeypatch.setattr(workers.ProcessPool, "_hand_over", fail)
    with pytest.raises(KeyboardInterrupt):
        rl.train("CartPole-v1", AGENT, steps=50, seeds=2, workers=2, progress=False)
    assert children() == before


def test_a_stopped_worker_is_killed_when_training_ends(monkeypatch, forked_workers):
    monkeypatch.setattr(workers, "CLOSE_SECONDS", 0.5)
    pool = workers.ProcessPool(rl.start("CartPole-v1", AGENT, 2, steps=100), 2)
    pids = [process.pid for process in pool.processes.values()]
    os.kill(pids[0], signal.SIGSTOP)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 4
    assert not any(map(alive, pids))


@pytest.mark.parametrize("stage", daily(["starting", "busy", "stopped"], ["starting"]))
def test_no_worker_outlives_its_parent(stage):
    code = f"""
import sys, importlib.util, rl
sys.path.insert(0, {TESTS!r})
spec = importlib.util.spec_from_file_location("these_tests", {__file__!r})
these = importlib.util.module_from_spec(spec)
sys.modules["these_tests"] = these
spec.loader.exec_module(these)
import cloudpickle
cloudpickle.register_pickle_by_value(these)
rl.train(these.Busy, these.AGENT, steps=1000, seeds=2, workers=2, progress=False)
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        while len(found := children(parent.pid)) < 2:
            assert parent.poll() is None
            time.sleep(0.02)
        if stage != "starting":
            time.sleep(8)  # until they are in their 50th step, or as far as they are
        if stage == "stopped":
            os.kill(min(found), signal.SIGSTOP)
        assert all(map(alive, found))
    finally:
        parent.kill()
        parent.wait()
    until = time.monotonic() + 5
    while any(map(alive, found)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, found))


def test_where_the_kernel_does_not_kill_orphans_a_thread_does():
    head = worker.BOOT.split("from rl.run.worker")[0]
    code = f"import sys; sys.platform = 'another'\n{head}\nprint(os.getpid(), flush=True); time.sleep(60)"
    start = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}, '0', str(os.getpid())])"
    parent = subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 5
    while alive(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(child)
