"""Environments that expose wrong handling of episode ends, random draws or spaces; readers of event files and scripts."""

from __future__ import annotations

import contextlib
import io
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from supervised.logger import EVENTS

ROOT = Path(__file__).parent.parent


class Paying(gym.Env[Any, Any]):
    """An environment with a fixed sequence of rewards, one per step, that then ends; the observation is the number of steps."""

    def __init__(self, *rewards: float) -> None:
        self.rewards = rewards
        self.observation_space, self.action_space = gym.spaces.Discrete(len(rewards)), gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.taken = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        last = len(self.rewards) - 1
        return min(self.taken, last), float(self.rewards[self.taken - 1]), self.taken > last, False, {}


class Counting(gym.Env[Any, Any]):
    """An environment with observation (episode, step) and reward 100 * episode + step, terminated or truncated at `length`."""

    def __init__(self, length: int = 3, truncates: bool = False, box: bool = False) -> None:
        self.observation_space = (
            gym.spaces.Box(0, 1e6, (2,), np.float32) if box else gym.spaces.MultiDiscrete([1000, length + 1])
        )
        self.action_space = gym.spaces.Discrete(2)
        self.length, self.truncates = length, truncates
        self.episode, self.step_number = -1, 0

    def _obs(self) -> np.ndarray:
        return np.array([self.episode, self.step_number], dtype=self.observation_space.dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode += 1
        self.step_number = 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.step_number += 1
        over = self.step_number == self.length
        reward = 100.0 * self.episode + self.step_number
        return self._obs(), reward, over and not self.truncates, over and self.truncates, {}


class NoisyWalk(gym.Env[Any, Any]):
    """A random walk with its own draws, no `P`, and spaces that do not start at 0, so that only the plain loop can run it."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Discrete(7, start=-3)
        self.action_space = gym.spaces.Discrete(2, start=5)
        self.place = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(-1, 2))
        return self.place, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in (5, 6)
        move = 1 if action == 6 else -1
        self.place += move if self.np_random.random() < 0.8 else -move
        return self.place, float(self.place == 3), abs(self.place) == 3, False, {}


def curves(folder: Path) -> dict[tuple[str, str], list[tuple[int, Any]]]:
    """Return every scalar and image under a run's folder, except time/*: {(sub-run, tag): [(step, value), ...]}."""
    found: dict[tuple[str, str], list[tuple[int, Any]]] = {}
    for sub in sorted({path.parent for path in folder.rglob(EVENTS)}):
        events = EventAccumulator(str(sub), size_guidance={"scalars": 0, "images": 0}, purge_orphaned_data=False)
        events.Reload()
        name = sub.relative_to(folder).as_posix()
        for tag in events.Tags()["scalars"]:
            if not tag.startswith("time/"):
                found[name, tag] = [(e.step, e.value) for e in events.Scalars(tag)]
        for tag in events.Tags()["images"]:
            found[name, tag] = [(e.step, e.encoded_image_string) for e in events.Images(tag)]
    return found


def script(name: str, *words: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a script as a user does. Return the completed process."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name), *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def run_in_process(name: str, *words: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a script as `script` does, but in this process, so that torch is not imported again."""
    out, err = io.StringIO(), io.StringIO()
    before, path, returncode = sys.argv, sys.path[:], 0
    sys.argv = [str(ROOT / "scripts" / name), *map(str, words)]
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        returncode = stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.argv, sys.path[:] = before, path
    done = subprocess.CompletedProcess(sys.argv, returncode, out.getvalue(), err.getvalue())
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done
