"""Training in processes that are killed: the jobs, the kills, and everything that must be the same afterwards.

Imported by a fork server (`server`), so that each process starts in milliseconds with everything imported.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium as gym
import numba  # noqa: F401  (imported here once, for all)
import numpy as np
import scipy.special  # noqa: F401  (likewise)
import torch._dynamo
import torch.utils.tensorboard  # noqa: F401  (likewise)
from helpers import NoisyWalk
from sketches import sketch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

import rl
import supervised
from rl.report import pictures
from supervised import MLP, RNN, Recipe, checkpoint
from supervised.logger import EVENTS

Kill = tuple[int, str]  # (at the n-th operation on files, "before" it, right "after" it, or in what comes "later")
LATER = 0.02  # seconds after which a "later" kill comes, at most
DEEP: dict[str, Any] = {"network": "mlp(16)", "batch_size": 16, "capacity_steps": 400, "learn_after_steps": 50}
SEQUENCES = np.random.default_rng(0).normal(size=(60, 5, 3)).astype(np.float32)
VECTORS = SEQUENCES[:, 0]


def tabular(env: Any, agent: Any, steps: int, **settings: Any) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        every = {"save_every_steps": steps // 12, "log_every_steps": steps // 30, "evaluate_every_steps": steps // 6}
        rl.train(
            env, agent, steps=steps, logdir=folder, resume=True, progress=False, **{"seeds": 2, **every, **settings}
        )

    return run


def deep(
    steps: int = 600, env: Any = "CartPole-v1", workers: int = 1, seeds: int = 2, **agent: Any
) -> Callable[[Path], None]:
    return tabular(env, rl.DQN(**{**DEEP, **agent}), steps, workers=workers, seeds=seeds)


def fitted(model: Callable[[], Any], x: np.ndarray, **recipe: Any) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        settings: dict[str, Any] = {
            "seeds": 2,
            "resume": True,
            "progress": False,
            "save_every_epochs": 1,
            "look_every_epochs": 4,
        }
        supervised.fit(
            model,
            (x, (x.sum(-1) > 0).astype(np.int64)),
            Recipe(epochs=12, batch_size=10, **recipe),
            validation=0.2,
            logdir=folder,
            **settings,
        )

    return run


class Picture(gym.Env[Any, Any]):
    """An environment with Dict observations of a small image and two numbers; it ends at random."""

    def __init__(self) -> None:
        spaces: dict[str, gym.Space[Any]] = {
            "eye": gym.spaces.Box(0, 255, (6, 6), np.uint8),
            "place": gym.spaces.Box(-9, 9, (2,)),
        }
        self.observation_space, self.action_space = gym.spaces.Dict(spaces), gym.spaces.Discrete(2)

    def _obs(self) -> Any:
        return {
            "eye": self.np_random.integers(0, 256, (6, 6)).astype(np.uint8),
            "place": self.np_random.normal(3, 2, 2).clip(-9, 9).astype(np.float32),
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._obs(), float(action) + self.np_random.random(), self.np_random.random() < 0.1, False, {}


KINDS: dict[str, Callable[[Path], None]] = {
    "compiled table": tabular("Taxi-v4", rl.QLearning(), 60_000, seeds=3),
    "plain table": tabular("Blackjack-v1", rl.QLearning(), 2_400, envs_per_seed=2),
    "table in a function": tabular(NoisyWalk, rl.DoubleQ(), 2_400),
    "traces": tabular("Taxi-v4", rl.SARSALambda(traces="dutch"), 30_000),
    "episodes": tabular("Taxi-v4", rl.MonteCarlo(), 30_000),
    "model": tabular("envs/BlockingMaze-v0", rl.DynaQ(bonus=1e-3, outcomes=1), 2_400),
    "sweeping": tabular("Taxi-v4", rl.PrioritizedSweeping(), 30_000),
    "tiles": tabular("MountainCar-v0", rl.LinearSARSA(), 1_200),
    "uniform replay": deep(),
    "prioritized replay": deep(prioritized=True, double=True, normalize_observations=True),
    "n steps": deep(n_step=3, dueling=True, reward_scale=0.1, target_every_updates=1, target_rate=0.05),
    "pictures": deep(240, Picture, network="auto", normalize_observations=True),
    "two workers": deep(300, workers=2, prioritized=True, n_step=2),
    "fit of an MLP": fitted(lambda: MLP(3, 2, (8,), dropout=0.2), VECTORS, schedule="OneCycleLR"),
    "fit of an RNN": fitted(lambda: RNN(3, 2, 8), SEQUENCES, clip_norm=1.0),
}


def attacked(kind: str, folder: Path, kills: Sequence[Kill], victim: str = "itself", counted: Any = None) -> None:
    """Train or resume, and die at the first of `kills`; with victim "a worker", a worker process dies at each of them."""
    count, left = itertools.count(1), list(kills)

    def kill(when: str) -> None:
        pid = os.getpid()
        if victim == "a worker":
            workers = children(pid)
            pid = workers[len(left) % len(workers)]
        if when == "later":
            threading.Timer(LATER * np.random.default_rng().random(), _kill, [pid]).start()
        else:
            _kill(pid)

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def operation(*arguments: Any, **settings: Any) -> Any:
            number = next(count)
            due = [when for n, when in left if n == number]
            left[:] = [(n, when) for n, when in left if n != number]
            for when in due:
                if when == "before":
                    kill(when)
            try:
                return function(*arguments, **settings)
            finally:  # it may have failed, for there was nothing to remove
                for when in due:
                    if when != "before":
                        kill(when)

        return operation

    for name in ("fsync", "replace", "link", "unlink", "rename", "truncate"):
        setattr(os, name, wrapped(getattr(os, name)))
    RecordWriter.write = wrapped(RecordWriter.write)
    pictures.to_images = sketch
    KINDS[kind](folder)
    if counted is not None:
        counted.value = next(count) - 1


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Return the child processes of a process."""
    found: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return sorted(found)


@functools.cache
def server() -> Any:
    """Return the fork server of this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["attack"])
    here = Path(__file__).resolve().parent
    paths = os.pathsep.join(str(Path(part).resolve()) for part in (str(here), str(here.parent), *sys.path))
    with mock.patch.dict(os.environ, PYTHONPATH=paths):
        multiprocessing.forkserver.ensure_running()
    return context


def run(kind: str, folder: Path, kills: Sequence[Kill] = (), victim: str = "itself") -> tuple[int, int]:
    """Train in a process. Return its exit code (-9: killed), and the number of file operations."""
    counted = server().Value("i", 0)
    process = server().Process(target=attacked, args=(kind, folder, list(kills), victim, counted))
    process.start()
    process.join(200)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{kind} hangs.")
    return process.exitcode, counted.value


def everything(folder: Path) -> dict[Any, Any]:
    """Return the content of a folder except times: its checkpoint's arrays bit for bit, and what TensorBoard shows."""
    (path,) = folder.glob("*.safetensors")
    state, meta = checkpoint.load(path)
    for part in (state, meta):  # names and sizes of event files
        part.pop("curves", None)
    found: dict[Any, Any] = {"state": _bits(state), "meta": meta}
    for sub in sorted({file.parent for file in folder.rglob(EVENTS)}):
        events = EventAccumulator(
            str(sub), size_guidance=dict.fromkeys(("scalars", "images", "histograms", "tensors"), 0)
        )
        events.Reload()
        name, tags = sub.relative_to(folder).as_posix(), events.Tags()
        for tag in tags["scalars"]:
            if not tag.startswith("time/"):
                found[name, tag] = [(e.step, e.value) for e in events.Scalars(tag)]
        for tag in tags["images"]:
            found[name, tag] = [(e.step, e.encoded_image_string) for e in events.Images(tag)]
        for tag in tags["histograms"]:
            found[name, tag] = [(e.step, str(e.histogram_value)) for e in events.Histograms(tag)]
        for tag in tags["tensors"]:
            found[name, tag] = [e.tensor_proto.SerializeToString() for e in events.Tensors(tag)]
        for tag, metadata in events.summary_metadata.items():
            found[name, tag, "metadata"] = metadata.plugin_data.SerializeToString()
        found[name, "graph"] = events.Graph().SerializeToString(deterministic=True) if tags["graph"] else None
    return {key: value for key, value in found.items() if not str(key[1:2]).startswith("('time/")}


def _bits(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _bits(part) for key, part in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_bits(part) for part in tree]
    return (tree.dtype.str, tree.shape, tree.tobytes()) if isinstance(tree, np.ndarray) else tree
