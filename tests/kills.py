"""Training killed (SIGKILL) before its n-th file operation, for every n, in a separate process (`forked`)."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from helpers import NoisyWalk, curves
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rl
import supervised
from rl.report import pictures
from supervised import events

DQN = rl.DQN(network="mlp(4)", batch_size=4, capacity_steps=60, learn_after_steps=20, compiled=False)
X = np.sin(np.arange(60.0, dtype=np.float32).reshape(20, 3))


def table(folder: Path) -> None:
    cadence: dict[str, Any] = {"log_every_steps": 50, "save_every_steps": 50, "evaluate_every_steps": 150}
    rl.train(NoisyWalk, rl.QLearning(), steps=150, seeds=2, logdir=folder, resume=True, progress=False, **cadence)


def deep(folder: Path) -> None:
    cadence: dict[str, Any] = {"log_every_steps": 30, "save_every_steps": 30, "evaluate_every_steps": 90}
    rl.train("CartPole-v1", DQN, steps=90, seeds=2, logdir=folder, resume=True, progress=False, **cadence)


def fit(folder: Path) -> None:
    recipe = supervised.Recipe(epochs=3, batch_size=10)
    model = lambda: supervised.MLP(3, 2, (4,))
    data = X, (X.sum(1) > 0).astype(np.int64)
    supervised.fit(model, data, recipe, seeds=2, logdir=folder, resume=True, progress=False, save_every_epochs=1)


KINDS: dict[str, Callable[[Path], None]] = {"table": table, "deep": deep, "fit": fit}


def forked(act: Callable[[], None]) -> bool:
    """Run `act` in a separate process. Return whether the process finished."""
    child = os.fork()
    if child == 0:
        act()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def killed_at(n: int, act: Callable[[], None]) -> None:
    """Run `act`, but kill this process before its n-th file operation."""
    count = [0]

    def counted(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def operation(*arguments: Any, **settings: Any) -> Any:
            count[0] += 1
            if count[0] == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **settings)

        setattr(owner, name, operation)

    for name in ("replace", "link", "fsync", "mkdir"):
        counted(os, name)
    for name in ("__init__", "flush"):
        counted(events.EventFile, name)
    act()


def seen(folder: Path) -> tuple[Any, ...]:
    """Return everything TensorBoard shows, and the last checkpoint's arrays."""
    found = EventAccumulator(str(folder))
    found.Reload()
    (path,) = folder.glob("*.safetensors")
    state, _ = supervised.checkpoint.load(path)
    state.pop("curves", None)
    once = {*found.summary_metadata, *(["graph"] if found.Tags()["graph"] else [])} - {"time/fps"}
    return curves(folder), once, sorted(found.Tags()["tensors"]), str(state)


def main(kind: str, folder: Path, first: int, last: int, stride: int) -> None:
    """Train once without a kill, then kill and resume for each n from `first` to `last`.

    Print each n at which something is lost, and the first n that the run does not reach.
    """
    np.set_printoptions(threshold=sys.maxsize)
    pictures.to_images = lambda *_: {}
    train = KINDS[kind]
    assert forked(lambda: train(folder / "whole"))
    whole, one = seen(folder / "whole"), folder / "killed"
    for n in range(first, last + 1, stride):
        shutil.rmtree(one, ignore_errors=True)
        if forked(functools.partial(killed_at, n, functools.partial(train, one))):
            print(f"the run is over before operation {n}")
            return
        if not forked(lambda: train(one)):
            print(f"kill before operation {n}: cannot be resumed")
        elif seen(one) != whole:
            print(f"kill before operation {n}: something is lost")
        elif left := [path.name for path in one.iterdir() if path.name.endswith(".writing")]:
            print(f"kill before operation {n}: {left} stay behind")
