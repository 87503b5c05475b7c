"""The jobs of the processes of `forked`. Its server imports this module, so slow imports belong here."""

from __future__ import annotations

import importlib
import os
import resource
import runpy
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401  (imported here once, for all children)
import numba  # noqa: F401  (likewise)
import safetensors.torch
import torch.utils.tensorboard  # noqa: F401  (likewise)
from helpers import ROOT
from sketches import sketch

import rl
import supervised
from rl.report import pictures
from supervised import CNN, MLP, Recipe, augment, mnist
from supervised.logger import LoggingError


def train(folder: Path, env: Any, agent: Any, steps: int, saves: int, **settings: Any) -> None:
    """Train in a folder, or resume the run in it, with `saves` checkpoints."""
    pictures.to_images = sketch
    settings = {"seeds": 2, "save_every_steps": steps // saves, **settings}
    rl.train(env, agent, steps=steps, logdir=folder, resume=True, progress=False, **settings)


def fit(folder: Path) -> None:
    """Fit a CNN in a folder, or resume the fit in it; then write its weights to weights.safetensors."""
    digits = mnist.digits().train
    recipe = Recipe(epochs=12, batch_size=50, schedule="OneCycleLR", augment=(augment.Shift(1),))
    settings: dict[str, Any] = {
        "validation": 0.1,
        "seeds": 2,
        "resume": True,
        "progress": False,
        "look_every_epochs": 10,
    }
    fitted = supervised.fit(
        lambda: CNN((1, 8, 8), 10, (4, 6), norm=True, dropout=0.2),
        (digits.x[:300], digits.y[:300]),
        recipe,
        logdir=folder,
        **settings,
    )
    weights = {name: value.contiguous().clone() for name, value in fitted.stack.state_dict().items()}
    safetensors.torch.save_file(weights, folder / "weights.safetensors")


def fit_for_long(folder: Path) -> None:
    settings: dict[str, Any] = {"logdir": folder, "save_every_epochs": 3, "progress": False}
    supervised.fit(lambda: MLP(64, 10), mnist.digits().train, Recipe(epochs=100_000), **settings)


def train_as_nobody(env: Any, places: list[tuple[Path, bool]]) -> None:
    """Train in these folders, given with whether to resume, as a user without write permission. Print the errors."""
    settings: dict[str, Any] = {"steps": 200, "seeds": 2, "progress": False}
    with tempfile.TemporaryDirectory() as passing:  # loads whatever is loaded late
        rl.train(env, rl.QLearning(), logdir=passing, **settings)
    if os.getuid() == 0:
        os.setuid(65534)
    for folder, resume in places:
        try:
            rl.train(env, rl.QLearning(), logdir=folder, resume=resume, **settings)
        except (rl.CheckpointError, LoggingError) as error:
            print(error)


def load_described(folder: Path, module: str, path: Path) -> None:
    """Import a module of a folder, load a run, and print the type of its config."""
    sys.path.insert(0, str(folder))
    importlib.import_module(module)
    print(type(rl.load(path).agent_config).__name__)


def script(name: str, *words: str, most_bytes: int | None = None) -> None:
    """Run a script; no file can grow beyond `most_bytes`, as on a full disk."""
    if most_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    sys.argv = [name, *words]
    sys.path.insert(0, str(ROOT / "scripts"))  # as python does for a script
    runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
