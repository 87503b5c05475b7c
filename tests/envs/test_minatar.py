"""MinAtar's games in arrays against the original package, and on numpy, torch and any number of copies alike."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from envs.native.arrays import Device, Host
from envs.native.minatar import Asterix, Breakout
from envs.native.vector import NativeVectorEnv
from supervised.validate import ArgumentError

GAMES: dict[str, Callable[..., Any]] = {"breakout": Breakout, "asterix": Asterix}
both = pytest.mark.parametrize("game", GAMES)


# The original, with its random choices answered by ours.
class BreakoutNumbers:
    """The original's random generator: the side of the ball."""

    def __init__(self) -> None:
        self.u = 0.0

    def rand(self) -> float:
        return self.u

    def randint(self, count: int) -> int:
        return int(self.u * count)


class AsterixNumbers:
    """The original's random generator: what appears, as the docstring of `Asterix` says; three numbers from one."""

    def __init__(self) -> None:
        self.u, self.asked = 0.0, 0

    def put(self, u: float) -> None:
        v = 2 * u % 1
        self.numbers, self.asked = (u, v, 3 * v % 1), 0

    def rand(self) -> float:
        self.asked += 1
        return self.numbers[self.asked - 1]

    def randint(self, count: int) -> int:
        return int(self.numbers[2] * count)


class Original:
    """The original game with sticky actions, whose numbers are given."""

    def __init__(self, name: str, sticky: float, ramping: bool) -> None:
        logging.disable(logging.WARNING)  # "cannot import seaborn", which only draws
        from minatar.environment import Environment

        logging.disable(logging.NOTSET)
        self.env = Environment(name, sticky, ramping)
        self.sticks, self.inner = BreakoutNumbers(), self.env.env
        self.numbers: Any = BreakoutNumbers() if name == "breakout" else AsterixNumbers()
        self.env.random, self.inner.random = self.sticks, self.numbers

    def reset(self, u: np.ndarray) -> np.ndarray:
        if len(u):
            self.numbers.u = u[0]
        self.env.reset()
        return self.env.state()

    def step(self, action: int, u: np.ndarray) -> tuple[np.ndarray, float, bool]:
        self.sticks.u = u[0]
        if len(u) > 1:
            self.numbers.put(u[1])
        reward, terminated = self.env.act(action)
        return self.env.state(), reward, terminated


def put_breakout(original: Original, state: dict[str, np.ndarray], i: int) -> None:
    """Bring the original into the state of copy i."""
    own = {name: int(part[i]) for name, part in state.items() if name != "board"}
    env = original.inner
    env.ball_x, env.ball_y, env.pos, env.strike = own["x"], own["y"], own["paddle"], bool(own["touched"])
    env.ball_dir = {(-1, -1): 0, (1, -1): 1, (1, 1): 2, (-1, 1): 3}[own["dx"], own["dy"]]
    env.last_y, env.last_x = divmod(own["trail"], 10)
    env.brick_map = state["board"][i, :, :, 3].astype(float)
    env.terminal, original.env.last_action = False, own["last"]


def put_asterix(original: Original, state: dict[str, np.ndarray], i: int) -> None:
    own = {name: int(part[i]) for name, part in state.items() if name not in ("board", "entities")}
    env = original.inner
    env.player_x, env.player_y = own["x"], own["y"]
    env.entities = [
        [(e - 1) % 10, lane + 1, (e - 1) // 10 % 2 == 1, e > 20] if e else None
        for lane, e in enumerate(state["entities"][i].tolist())
    ]
    env.ramp_index = min(9, own["age"] // 102) if env.ramping else 0
    env.ramp_timer = 100 - own["age"] % 102
    env.spawn_speed, env.move_speed = 10 - env.ramp_index, 5 - env.ramp_index // 2
    env.spawn_timer, env.move_timer = own["spawn"] - own["age"], own["move"] - own["age"]
    env.terminal, original.env.last_action = False, own["last"]


def any_breakout(game: Breakout, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return states that a random number of bricks, positions and directions make."""
    state = game.reset(rng.random((count, 1)))
    x, y, paddle = rng.integers(10, size=count), rng.integers(9, size=count), rng.integers(10, size=count)
    paddle = np.where(rng.random(count) < 0.5, np.clip(x + rng.integers(-1, 2, count), 0, 9), paddle)
    bricks = rng.random((count, 3, 10)) < rng.choice([0, 0.1, 0.5, 0.9, 1], (count, 1, 1))
    board = np.zeros((count, 10, 10, 4), bool)
    rows, trail = np.arange(count), rng.integers(90, size=count)
    board[:, 1:4, :, 3] = bricks
    board[rows, y, x, 1] = board[rows, 9, paddle, 0] = board[rows, trail // 10, trail % 10, 2] = True
    return state | {
        "board": board, "x": x, "y": y, "dx": rng.choice([-1, 1], count), "dy": rng.choice([-1, 1], count), "trail": trail,
        "paddle": paddle, "bricks": bricks.sum((1, 2)), "touched": rng.random(count) < 0.3, "last": rng.integers(6, size=count),
    }  # fmt: skip


def any_asterix(game: Asterix, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    state = game.reset(rng.random((count, 0)))
    x, y, age = rng.integers(10, size=count), rng.integers(1, 9, count), rng.integers(1100, size=count)
    entities = rng.integers(1, 41, (count, 8)) * (rng.random((count, 8)) < rng.choice([0.2, 0.8, 1], (count, 1)))
    board = np.zeros((count, 10, 10, 4), bool)
    for i, lane in zip(*np.nonzero(entities), strict=True):
        e = entities[i, lane] - 1
        column, back = e % 10, e % 10 + (1, -1)[e // 10 % 2]
        board[i, lane + 1, column, 3 if e >= 20 else 1] = True
        if 0 <= back <= 9:
            board[i, lane + 1, back, 2] = True
    board[np.arange(count), y, x, 0] = True
    spawn, move = age + rng.integers(3, size=count), age + rng.integers(2, size=count)
    return state | {
        "board": board, "x": x, "y": y, "entities": entities, "age": age, "spawn": spawn, "move": move,
        "last": rng.integers(6, size=count),
    }  # fmt: skip


PUT: dict[str, Any] = {"breakout": put_breakout, "asterix": put_asterix}
ANY: dict[str, Any] = {"breakout": any_breakout, "asterix": any_asterix}


class Recorded:
    """Draws that remember what they gave last."""

    def __init__(self, draws: Any) -> None:
        self.draws = draws

    def step(self) -> Any:
        self.last = self.draws.step().copy()
        return self.last.copy()

    def reset(self, rows: np.ndarray) -> Any:
        return self.draws.reset(rows)

    def again(self, rows: np.ndarray) -> Any:
        self.renewed = self.draws.again(rows)
        return self.renewed.copy()


def play(name: str, state: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Return actions that keep half the copies alive: the paddle under the ball, the player in a lane without an enemy."""
    count = len(state["last"])
    actions = rng.integers(3 if name == "breakout" else 5, size=count)
    if name == "breakout":
        follow = 1 + (state["x"] + state["dx"] > state["paddle"]) - (state["x"] + state["dx"] == state["paddle"])
        good = np.where(state["x"] + state["dx"] == state["paddle"], 0, np.maximum(follow, 1))
    else:
        good = np.where(state["y"] > 4, 2, 4) * (rng.random(count) < 0.3)
    return np.where(np.arange(count) % 2, good, actions)


def lockstep(name: str, minimal: bool, sticky: float, ramping: bool, transitions: int, seed: int = 0) -> int:
    """Step ours and the original together, resets of terminated and truncated episodes included; return rewards gained."""
    count = min(100, transitions // 100)
    options = {"ramping": ramping} if name == "asterix" else {}
    env = NativeVectorEnv(
        lambda arrays: GAMES[name](arrays, sticky=sticky, minimal=minimal, **options), count, max_episode_steps=1500
    )
    originals = [Original(name, sticky, ramping) for _ in range(count)]
    for i, obs in enumerate(env.reset(seed=seed)[0]):
        originals[i].reset(env.game.draws(env.arrays, [seed + i], env.game.step_draws, env.game.reset_draws).reset(np.arange(1))[0])
        assert np.array_equal(obs, originals[i].env.state())
    draws = env.draws = Recorded(env.draws)
    names = originals[0].env.minimal_action_set() if minimal else list(range(6))
    rng, gained = np.random.default_rng(seed), 0
    for _ in range(transitions // count):
        actions = play(name, env.state, rng)
        if not minimal:
            actions = np.where(np.arange(count) % 2, np.array(originals[0].env.minimal_action_set())[actions], rng.integers(6, size=count))
        found = env.advance(actions)
        ended = iter(range(count))
        for i, original in enumerate(originals):
            obs, reward, terminated = original.step(names[actions[i]], draws.last[i])
            assert np.array_equal(found.next_obs[i], obs)
            assert (found.reward[i], found.terminated[i]) == (reward, terminated)
            if terminated or found.truncated[i]:
                obs = original.reset(draws.renewed[next(ended)])
            assert np.array_equal(found.obs[i], obs)
        gained += int(found.reward.sum())
    return gained


SETTINGS = [(True, 0.1, True), (False, 0.1, True), (True, 0.0, False), (False, 0.5, False)]


@both
@pytest.mark.parametrize(("minimal", "sticky", "ramping"), SETTINGS)
def test_episodes_are_those_of_the_original(game, minimal, sticky, ramping):
    pytest.importorskip("minatar", reason="the original, MinAtar, is not installed")
    assert lockstep(game, minimal, sticky, ramping, 2_500) > 20


@pytest.mark.full
@both
@pytest.mark.parametrize(("minimal", "sticky", "ramping"), SETTINGS)
def test_episodes_are_those_of_the_original_in_a_million_transitions(game, minimal, sticky, ramping):
    pytest.importorskip("minatar", reason="the original, MinAtar, is not installed")
    assert lockstep(game, minimal, sticky, ramping, 125_000, seed=1000) > 1000


@both
@pytest.mark.parametrize("count", [10_000, pytest.param(500_000, marks=pytest.mark.full)])
def test_a_transition_from_any_state_is_that_of_the_original(game, count):
    pytest.importorskip("minatar", reason="the original, MinAtar, is not installed")
    rng, ours = np.random.default_rng(count), GAMES[game](Host(), minimal=False)
    original = Original(game, 0.1, True)
    rewards = ends = refilled = 0
    for _ in range(count // 1000):
        state = ANY[game](ours, 1000, rng)
        before = {name: part.copy() for name, part in state.items()}
        actions, draws = rng.integers(6, size=1000), rng.integers(2**24, size=(1000, ours.step_draws)) / 2**24
        after, reward, terminated = ours.transition(state, actions, draws)
        shown = ours.observe(after)
        for i in range(1000):
            PUT[game](original, before, i)
            assert np.array_equal(ours.observe(before)[i] if i < 10 else original.env.state(), original.env.state())
            obs, gained, over = original.step(int(actions[i]), draws[i])
            assert np.array_equal(shown[i], obs)
            assert (reward[i], terminated[i], after["last"][i]) == (gained, over, original.env.last_action)
            rewards, ends = rewards + gained, ends + over
            refilled += game == "breakout" and before["bricks"][i] == 0 and after["bricks"][i] == 30
        if game == "breakout":
            assert np.array_equal(after["bricks"], after["board"][..., 3].sum((1, 2)))
    assert rewards > count / 100
    assert ends > count / 100
    assert refilled > count / 200 or game == "asterix"
