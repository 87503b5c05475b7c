#!/usr/bin/env python
"""Check whether a change to the source changed any number: hash every array of every kind of agent, loop and fit.

python scripts/tools/trace.py record before.json                              in this checkout, or, to record another one:
PYTHONPATH=OTHER python scripts/tools/trace.py record before.json             OTHER: a checkout of the commit before
python scripts/tools/trace.py compare before.json                             exit status 1 if something differs

Arrays are compared by their content, so keys of a checkpoint may be renamed. Record and compare on one machine: bits
depend on the processor and on torch.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
import torch
import tyro
from rich.console import Console

import rl
from envs.textbook import access_control
from rl.core import registry
from supervised import CNN, MLP, RNN, Recipe, checkpoint, fit

STEPS = 2_000
SEEDS = 2
Kinds = dict[str, Callable[[], Mapping[str, Any]]]


@dataclasses.dataclass
class Settings:
    """Record the hashes of all arrays, or compare with those recorded."""

    what: Annotated[Literal["record", "compare"], tyro.conf.Positional]
    file: Annotated[Path, tyro.conf.Positional]
    only: str = ""
    """Run only kinds whose name contains this."""


class Plain(gym.Wrapper[Any, Any, Any, Any]):
    """A wrapper that hides the model of an environment, so that the environment itself is stepped."""

    def step(self, action: Any) -> Any:
        return self.env.step(action)


class Pictures(gym.ObservationWrapper[Any, Any, Any]):
    """CartPole's state as an image of 12 x 12."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(0, 255, (12, 12, 1), np.uint8)

    def observation(self, observation: Any) -> Any:
        cells = np.zeros((12, 12, 1), np.uint8)
        place = np.clip(np.asarray(observation)[[0, 2]] * (2, 20) + 6, 0, 11).astype(int)
        cells[tuple(place)] = 255
        return cells


def pictures() -> Any:
    return Pictures(gym.make("CartPole-v1"))


def frozen(size: int = 4) -> Any:
    return Plain(gym.make("FrozenLake-v1" if size == 4 else "FrozenLake8x8-v1"))


def several() -> Any:
    return gym.vector.SyncVectorEnv([frozen] * SEEDS * 2)


def cartpoles() -> Any:
    return gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * SEEDS)


def arrays(tree: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield every array of a checkpoint, with its path."""
    if isinstance(tree, Mapping):
        for name, part in tree.items():
            yield from arrays(part, f"{path}/{name}")
    elif isinstance(tree, (list, tuple)):
        for i, part in enumerate(tree):
            yield from arrays(part, f"{path}/{i}")
    elif tree is not None:
        yield path, np.asarray(tree)


def digest(array: np.ndarray) -> str:
    content = repr(array.tolist()).encode() if array.dtype.hasobject else np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode() + content).hexdigest()[:16]


def of_run(env: Any, agent: Any, steps: int = STEPS, **settings: Any) -> Mapping[str, Any]:
    """Return the content of a run's checkpoint after `steps`, with its metadata."""
    run = rl.train(env, agent, steps, SEEDS, progress=False, **settings)
    with tempfile.TemporaryDirectory() as folder:
        run.save(Path(folder) / "run.safetensors")
        state, _ = checkpoint.load(Path(folder) / "run.safetensors")
    return {"state": state, "episodes": {tag: value.numpy() for tag, value in run.episodes().items()}}


def of_fit(make: Callable[[], Any], recipe: Recipe, shape: tuple[int, ...], classes: int) -> Mapping[str, Any]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(200, *shape, generator=generator), torch.randint(classes, (200,), generator=generator)
    found = fit(make, (x, y), recipe, validation=(x[:50], y[:50]), seeds=SEEDS, progress=False)
    return {"state": found.state_dict(), "predicted": found.predict(x[:20]).numpy()}


def tables() -> Kinds:
    found: Kinds = {}
    for name, agent in registry.presets(group for group in registry.TABLES if group != registry.ENDLESS).items():
        found |= {
            f"{name}, compiled": lambda agent=agent: of_run("FrozenLake-v1", agent, envs_per_seed=2),
            f"{name}, plain": lambda agent=agent: of_run(frozen, agent, envs_per_seed=2),
        }
    found["q-learning, Taxi, one thread"] = lambda: of_run("Taxi-v4", rl.QLearning(), workers=1)
    found["q-learning, CliffWalking"] = lambda: of_run("CliffWalking-v1", rl.QLearning())
    found["q-learning, VectorEnv"] = lambda: of_run(several(), rl.QLearning(), envs_per_seed=2)
    found["r-learning"] = lambda: of_run(access_control, rl.RLearning())
    found["linear-sarsa, MountainCar"] = lambda: of_run("MountainCar-v0", rl.LinearSARSA())
    return found


def networks() -> Kinds:
    few = {"capacity_steps": 1_000, "learn_after_steps": 100, "batch_size": 16, "network": "mlp(16,16)"}
    small = rl.DQN(**few)
    more = {
        "double, dueling, 3 steps": {"double": True, "dueling": True, "n_step": 3},
        "prioritized": {"prioritized": True},
        "torch": {"compiled": False},
        "normalized": {"normalize_observations": True, "reward_scale": 0.1},
        "soft target": {"target_every_updates": 1, "target_rate": 0.01},
        "SGD": {"optimizer": "SGD"},
        "no target": {"target_every_updates": None},
    }
    found: Kinds = {"dqn, CartPole": lambda: of_run("CartPole-v1", small)}
    for name, options in more.items():
        agent = dataclasses.replace(small, **options)
        found[f"dqn, {name}"] = lambda agent=agent: of_run("CartPole-v1", agent)
    convolutional = rl.DQN(**few | {"network": "cnn(4)"})
    found["dqn, 3 environments a seed"] = lambda: of_run("CartPole-v1", small, envs_per_seed=3)
    found["dqn, FrozenLake"] = lambda: of_run("FrozenLake-v1", small)
    found["dqn, pictures"] = lambda: of_run(pictures, convolutional, 500)
    found["dqn, VectorEnv"] = lambda: of_run(cartpoles(), small, 500)
    found["dqn, processes"] = lambda: of_run("CartPole-v1", small, workers=2)
    found["q-network"] = lambda: of_run("FrozenLake-v1", rl.presets()["q-network"])
    return found


def fits() -> Kinds:
    recipe = Recipe(epochs=2, batch_size=32)
    clipped = dataclasses.replace(recipe, clip_norm=0.5, optimizer="SGD", schedule="OneCycleLR")
    return {
        "fit, MLP": lambda: of_fit(lambda: MLP(6, 3, (8, 8)), recipe, (6,), 3),
        "fit, MLP with dropout": lambda: of_fit(lambda: MLP(6, 3, (8,), dropout=0.2), clipped, (6,), 3),
        "fit, CNN": lambda: of_fit(lambda: CNN((1, 8, 8), 3, (4,)), recipe, (1, 8, 8), 3),
        "fit, RNN": lambda: of_fit(lambda: RNN(4, 3, 8, shape="many-to-one"), recipe, (5, 4), 3),
    }


def record(only: str, console: Console) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, make in {**tables(), **networks(), **fits()}.items():
        if only in name:
            began = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name] = {path: digest(array) for path, array in arrays(make())}
            console.print(f"{name}: {len(found[name])} arrays, {time.perf_counter() - began:.1f} s")
    return found


def differences(before: dict[str, str], now: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return the arrays that disappeared and those that are new, compared by content regardless of their names."""
    gone = collections.Counter(before.values()) - collections.Counter(now.values())
    come = collections.Counter(now.values()) - collections.Counter(before.values())
    return [path for path, d in before.items() if d in gone], [path for path, d in now.items() if d in come]


def main(settings: Settings) -> int:
    console = Console()
    now = record(settings.only, console)
    if settings.what == "record":
        settings.file.write_text(json.dumps(now, indent=1))
        return 0
    before = json.loads(settings.file.read_text())
    wrong = 0
    for name in [name for name in {**before, **now} if settings.only in name]:
        gone, come = differences(before.get(name, {}), now.get(name, {}))
        if gone or come:
            wrong += 1
            console.print(f"{name}: gone or changed {', '.join(gone) or '-'}; new or changed {', '.join(come) or '-'}")
    console.print(f"{len(now)} kinds, {sum(map(len, now.values())):,} arrays: {wrong or 'no'} kinds differ.")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
