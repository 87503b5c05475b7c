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
    ball, trail = int(state["ball"][i]), int(state["trail"][i])
    env = original.inner
    env.ball_y, env.ball_x = divmod(ball // 4, 10)
    env.ball_dir = (0, 1, 3, 2)[ball % 4]
    env.last_y, env.last_x = divmod(trail, 10)
    env.pos, env.strike = int(state["player"][i]) - 90, bool(state["touched"][i])
    env.brick_map = state["board"][i, :, :, 3].astype(float)
    env.terminal, original.env.last_action = False, int(state["last"][i])


def put_asterix(original: Original, state: dict[str, np.ndarray], i: int) -> None:
    player, age, spawn, move, last = (int(state[name][i]) for name in ("player", "age", "spawn", "move", "last"))
    env = original.inner
    env.player_y, env.player_x = divmod(player, 10)
    env.entities = [
        [(e - 1) % 10, lane + 1, (e - 1) // 10 % 2 == 1, e > 20] if e else None
        for lane, e in enumerate(state["entities"][i].tolist())
    ]
    env.ramp_index, env.ramp_timer = min(9, age // 102), 100 - age % 102
    env.spawn_speed, env.move_speed = 10 - env.ramp_index, 5 - env.ramp_index // 2
    env.spawn_timer, env.move_timer = spawn - age, move - age
    env.terminal, original.env.last_action = False, last


def hidden_breakout(original: Original) -> dict[str, Any]:
    """Return the original's state in our terms, as far as an observation does not show it."""
    env = original.inner
    ball = 4 * (10 * env.ball_y + env.ball_x) + (0, 1, 3, 2)[env.ball_dir]
    return {"ball": ball, "touched": env.strike, "bricks": env.brick_map.sum(), "last": original.env.last_action}


def hidden_asterix(original: Original) -> dict[str, Any]:
    env = original.inner
    entities = [0 if e is None else 1 + e[0] + 10 * e[2] + 20 * e[3] for e in env.entities]
    return {"entities": entities, "spawn": env.spawn_timer, "move": env.move_timer, "last": original.env.last_action}


def any_breakout(game: Breakout, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return states with any bricks, and a ball anywhere that flies in any direction."""
    ball, trail, column = rng.integers(360, size=count), rng.integers(90, size=count), rng.integers(10, size=count)
    near = np.clip(ball // 4 % 10 + rng.integers(-1, 2, count), 0, 9)
    paddle = 90 + np.where(rng.random(count) < 0.5, near, column)
    bricks = rng.random((count, 3, 10)) < rng.choice([0, 0.1, 0.5, 0.9, 1], (count, 1, 1))
    board = np.zeros((count, 100, 4), bool)
    rows = np.arange(count)
    board[:, 10:40, 3] = bricks.reshape(count, 30)
    board[rows, ball // 4, 1] = board[rows, paddle, 0] = board[rows, trail, 2] = True
    return game.reset(rng.random((count, 1))) | {
        "board": board.reshape(count, 10, 10, 4), "ball": ball, "trail": trail, "player": paddle,
        "bricks": bricks.sum((1, 2)), "touched": rng.random(count) < 0.3, "last": rng.integers(6, size=count),
    }  # fmt: skip


def any_asterix(game: Asterix, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    player, age = rng.integers(10, 90, count), rng.integers(1100, size=count)
    entities = rng.integers(1, 41, (count, 8)) * (rng.random((count, 8)) < rng.choice([0.2, 0.8, 1], (count, 1)))
    board = np.zeros((count, 10, 10, 4), bool)
    for i, lane in zip(*np.nonzero(entities), strict=True):
        e = entities[i, lane] - 1
        column, back = e % 10, e % 10 + (1, -1)[e // 10 % 2]
        board[i, lane + 1, column, 3 if e >= 20 else 1] = True
        if 0 <= back <= 9:
            board[i, lane + 1, back, 2] = True
    board[np.arange(count), player // 10, player % 10, 0] = True
    return game.reset(rng.random((count, 0))) | {
        "board": board, "player": player, "entities": entities, "age": age, "spawn": age + rng.integers(3, size=count),
        "move": age + rng.integers(2, size=count), "last": rng.integers(6, size=count),
    }  # fmt: skip


PUT: dict[str, Any] = {"breakout": put_breakout, "asterix": put_asterix}
HIDDEN: dict[str, Any] = {"breakout": hidden_breakout, "asterix": hidden_asterix}
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
    """Return actions of all six: random ones for half the copies, for the others those that keep them alive."""
    good = follow_ball(state, rng) if name == "breakout" else avoid_enemies(state)
    odd = np.arange(len(good)) % 2 == 1
    return np.where(odd, good, rng.choice([0, 1, 3] if name == "breakout" else [0, 1, 2, 3, 4], len(good)))


def follow_ball(state: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Move below the ball, or below where it goes: both catch it."""
    ball, paddle = state["ball"] // 4 % 10, state["player"] - 90
    ball += (2 * (state["ball"] % 2) - 1) * rng.integers(2, size=len(ball))
    return np.choose(np.sign(ball - paddle) + 1, [1, 0, 3])


def avoid_enemies(state: dict[str, np.ndarray]) -> np.ndarray:
    """Move toward the lane with gold, else none, else an enemy in it, that is near."""
    entities = state["entities"]
    lane = state["player"] // 10 - 1
    worth = np.where(entities > 20, 1.0, np.where(entities > 0, -3.0, 0.0)) - 0.3 * abs(np.arange(8) - lane[:, None])
    return np.choose(np.sign(worth.argmax(1) - lane) + 1, [2, 0, 4])


def lockstep(name: str, minimal: bool, sticky: float, ramping: bool, count: int, steps: int) -> tuple[int, int]:
    """Step ours and the original together, resets included; return the rewards, and how many boards were cleared."""
    options = {"ramping": ramping} if name == "asterix" else {}
    make = lambda arrays: GAMES[name](arrays, sticky=sticky, minimal=minimal, **options)
    env = NativeVectorEnv(make, count, max_episode_steps=1500)
    originals = [Original(name, sticky, ramping) for _ in range(count)]
    seen = env.reset(seed=7)[0]
    game, draws = env.game, Recorded(env.draws)
    first = game.draws(env.arrays, range(7, 7 + count), game.step_draws, game.reset_draws).reset(np.arange(count))
    for i, original in enumerate(originals):
        assert np.array_equal(seen[i], original.reset(first[i]))
    env.draws = draws
    names = originals[0].env.minimal_action_set() if minimal else list(range(6))
    rng, gained, cleared = np.random.default_rng(7), 0, 0
    for _ in range(steps):
        actions = play(name, env.state, rng)
        bricks = env.state["bricks"].copy() if name == "breakout" else 0
        found = env.advance(np.searchsorted(names, actions))
        ended = iter(range(count))
        for i, original in enumerate(originals):
            obs, reward, terminated = original.step(actions[i], draws.last[i])
            assert np.array_equal(found.next_obs[i], obs)
            assert (found.reward[i], found.terminated[i]) == (reward, terminated)
            if terminated or found.truncated[i]:
                obs = original.reset(draws.renewed[next(ended)])
            assert np.array_equal(found.obs[i], obs)
        gained += int(found.reward.sum())
        cleared += 0 if name != "breakout" else int(((bricks == 0) & (env.state["bricks"] == 30)).sum())
    return gained, cleared


SETTINGS = [(True, 0.1, True), (False, 0.1, True), (True, 0.0, False), (False, 0.5, False)]


@both
@pytest.mark.parametrize(("minimal", "sticky", "ramping"), SETTINGS)
def test_episodes_are_those_of_the_original(game, minimal, sticky, ramping):
    pytest.importorskip("minatar", reason="the original, MinAtar, is not installed")
    assert lockstep(game, minimal, sticky, ramping, 10, 250)[0] > 10


@pytest.mark.full
@both
@pytest.mark.parametrize(("minimal", "sticky", "ramping"), SETTINGS)
def test_a_quarter_million_transitions_are_those_of_the_original(game, minimal, sticky, ramping):
    pytest.importorskip("minatar", reason="the original, MinAtar, is not installed")
    gained, cleared = lockstep(game, minimal, sticky, ramping, 50, 5_000)
    assert gained > 1000
    assert cleared > 10 or game == "asterix" or sticky == 0.5


@both
@pytest.mark.parametrize("count", [10_000, pytest.param(200_000, marks=pytest.mark.full)])
def test_a_transition_from_any_state_is_that_of_the_original(game, count):
    pytest.importorskip("minatar", reason="the original, MinAtar, is not installed")
    rng, ours, original = np.random.default_rng(count), GAMES[game](Host(), minimal=False), Original(game, 0.1, True)
    rewards = ends = cleared = 0
    for _ in range(count // 1000):
        state = ANY[game](ours, 1000, rng)
        before = {name: part.copy() for name, part in state.items()}
        actions, draws = rng.integers(6, size=1000), rng.integers(2**24, size=(1000, ours.step_draws)) / 2**24
        after, reward, terminated = ours.transition(state, actions, draws)
        shown = ours.observe(before), ours.observe(after)
        zero = np.zeros(1000, np.int64)
        timers = {
            name: after["age"] for name in ("spawn", "move") if name in after
        }  # ours say when, the original's how soon
        for i in range(1000):
            PUT[game](original, before, i)
            assert np.array_equal(shown[0][i], original.env.state())
            obs, gained, over = original.step(int(actions[i]), draws[i])
            assert np.array_equal(shown[1][i], obs)
            assert (reward[i], terminated[i]) == (gained, over)
            hidden = HIDDEN[game](original)
            assert all(
                np.array_equal(after[name][i] - timers.get(name, zero)[i], value) for name, value in hidden.items()
            )
            rewards, ends = rewards + gained, ends + over
        if game == "breakout":
            assert np.array_equal(after["bricks"], after["board"][..., 3].sum((1, 2)))
            cleared += int(((before["bricks"] == 0) & (after["bricks"] == 30)).sum())
    assert min(rewards, ends) > count / 100
    assert cleared > count / 200 or game == "asterix"


# Ours alone.
def make(game: str, count: int, torch: bool = False) -> NativeVectorEnv:
    """Return an environment that computes with numpy or with torch on the CPU."""
    env = NativeVectorEnv(lambda arrays: GAMES[game](Device("cpu") if torch else arrays), count)
    env.arrays = env.game.arrays
    return env


def run(game: str, count: int, seed: int, steps: int, torch: bool = False) -> list[dict[str, np.ndarray]]:
    """Return what each step of an environment with fixed actions gives."""
    env = make(game, count, torch)
    host, tensor = env.arrays.host, env.arrays.array
    env.reset(seed=seed)
    rng, found = np.random.default_rng(0), []
    for _ in range(steps):
        action = tensor(rng.integers(3, size=1).repeat(count), "int64")
        out = env.advance(action)
        parts = {name: host(part).copy() for name, part in env.state.items()}
        parts |= {"obs": host(out.obs), "next": host(out.next_obs)}
        found.append(parts | {"reward": host(out.reward), "end": host(out.terminated)})
    return found


def same(one: list[dict[str, np.ndarray]], other: list[dict[str, np.ndarray]], rows: slice = slice(None)) -> bool:
    return all(
        a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name][rows])
        for a, b in zip(one, other, strict=True)
        for name in a
    )


@both
def test_torch_gives_the_bits_of_numpy(game):
    assert same(run(game, 64, 3, 300), run(game, 64, 3, 300, torch=True))


@both
def test_a_copy_does_not_depend_on_their_number(game):
    many = run(game, 12, 20, 200)
    assert sum(int(step["end"].sum()) for step in many) > 10
    assert same(run(game, 1, 25, 200), many, slice(5, 6))


@both
@pytest.mark.parametrize("torch", [False, True])
def test_observations_are_not_overwritten(game, torch):
    env = make(game, 4, torch)
    host = env.arrays.host
    obs = host(env.reset(seed=0)[0])
    kept = obs.copy()
    for _ in range(5):
        later = env.step(env.arrays.array([1, 1, 1, 1], "int64"))[0]
    assert np.array_equal(obs, kept)
    assert not np.array_equal(host(later), kept)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("limit", [3, None])
def test_the_last_action_survives_an_episode_and_no_seed(mode, limit):
    """With actions that always stick, the paddle stays; with the last action put to "left" it goes left in all episodes."""
    env = NativeVectorEnv(lambda arrays: Breakout(arrays, sticky=1.0), 2, limit, autoreset_mode=mode)
    env.reset(seed=0)
    env.state["last"][:] = [1, 3]
    ends = 0
    for _ in range(40):
        *_, terminated, truncated, _ = env.step(np.zeros(2, np.int64))
        over = terminated | truncated
        ends += int(over.sum())
        if mode == "Disabled" and over.any():
            env.reset(options={"reset_mask": over})
        assert env.state["last"].tolist() == [1, 3]
    assert ends > 2
    env.reset()
    assert env.state["last"].tolist() == [1, 3]
    env.reset(seed=0)
    assert env.state["last"].tolist() == [0, 0]


def test_an_ignored_action_does_not_become_the_last():
    env = NativeVectorEnv(lambda arrays: Breakout(arrays, sticky=0.0), 2, 3, autoreset_mode="NextStep")
    env.reset(seed=0)
    for _ in range(3):
        *_, truncated, _ = env.step(np.array([1, 2]))
    assert truncated.all()
    env.step(np.array([0, 0]))
    assert env.state["last"].tolist() == [1, 3]


@both
def test_spaces_and_a_saved_state(game):
    env = NativeVectorEnv(GAMES[game], 3)
    assert env.single_observation_space == gym.spaces.Box(0, 1, (10, 10, 4), np.bool_)
    assert env.single_action_space.n == {"breakout": 3, "asterix": 5}[game]
    assert NativeVectorEnv(lambda arrays: GAMES[game](arrays, minimal=False), 1).single_action_space.n == 6
    env.action_space.seed(1)
    actions = [env.action_space.sample() for _ in range(60)]
    assert env.reset(seed=5)[0] in env.observation_space
    for action in actions[:30]:
        env.step(action)
    saved = env.state_dict()
    first = [env.step(action)[0] for action in actions[30:]]
    other = NativeVectorEnv(GAMES[game], 3)
    other.reset(seed=5)
    other.load_state_dict(saved)
    assert all(np.array_equal(a, other.step(action)[0]) for a, action in zip(first, actions[30:], strict=True))


@both
def test_a_picture_has_a_color_for_each_channel(game):
    ours = GAMES[game](Host())
    state = ANY[game](ours, 1, np.random.default_rng(0))
    colors = set()
    for channel in range(4):
        state["board"][:] = False
        state["board"][0, 2, 7, channel] = True
        picture = ours.picture(state)
        assert picture.shape == (80, 80, 3)
        assert picture.dtype == np.uint8
        assert picture.any(-1).sum() == 64
        assert picture[16:24, 56:64].any(-1).all()
        colors.add(tuple(picture[20, 60].tolist()))
    assert len(colors) == 4


def test_settings_are_checked():
    with pytest.raises(ArgumentError, match=r"sticky must lie in \[0, 1\], not 1.5"):
        Breakout(Host(), sticky=1.5)
    with pytest.raises(ArgumentError, match="minimal must be True or False"):
        Breakout(Host(), minimal=3)
    with pytest.raises(ArgumentError, match="ramping must be True or False"):
        Asterix(Host(), ramping=None)


def test_asterix_without_ramping_keeps_its_pace():
    """After nine levels entities appear every step; without levels every ten."""
    counts = []
    for ramping in (True, False):
        ours = Asterix(Host(), ramping=ramping)
        state = ours.reset(np.zeros((1, 0))) | {
            "age": np.array([1000]),
            "spawn": np.array([1001]),
            "move": np.array([1004]),
        }
        for _ in range(3):
            state, *_ = ours.transition(state, np.zeros(1, np.int64), np.full((1, 2), 0.4))
        counts.append(int((state["entities"] > 0).sum()))
    assert counts == [2, 1]
