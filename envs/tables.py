"""The finite model of an environment, read from it and proved to be how it behaves.

Gymnasium's toy-text environments carry their whole model: `P[s][a]` is a list of (probability, next state, reward,
terminated), `initial_state_distrib` the distribution of starts. `read` turns this into arrays, then drives the real
environment and compares: with the same random numbers every step must come out the same, to the bit. Only then may a
compiled loop stand in for the environment. Whatever differs is refused with a sentence.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv
from gymnasium.utils import seeding
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, RecordEpisodeStatistics, TimeLimit

from envs.source import EnvError
from supervised.validate import instance

HARMLESS = (TimeLimit, OrderEnforcing, PassiveEnvChecker, RecordEpisodeStatistics)
CHECKED_PAIRS = 20_000  # as many (state, action) pairs are tried at most
CHECKED_STEPS = 2_000


class NotATable(ValueError):
    """No finite model could be read from the environment, or it does not behave like its model; the message says why."""


@dataclass(frozen=True, eq=False)
class Model:
    """A finite Markov decision process with S states, A actions and up to K outcomes of each pair.

    The outcomes keep the order that the environment lists them in, since its random number picks one by that order.
    """

    name: str
    probability: np.ndarray  # float64 [S, A, K], 0 behind the last outcome
    outcomes: np.ndarray  # int64 [S, A], how many there are
    next_state: np.ndarray  # int64 [S, A, K]
    reward: np.ndarray  # float64 [S, A, K]
    terminated: np.ndarray  # bool [S, A, K]
    start: np.ndarray  # float64 [S]
    limit: int | None  # steps after which an episode is truncated
    success: np.ndarray | None = None  # bool [S, A, K]: the outcome reaches the goal; None: no goal is known
    desc: tuple[str, ...] | None = None  # the map, a letter a state, where there is one
    step_draws: bool = True  # whether a step and a reset take a number from the environment's generator
    reset_draws: bool = True
    mask: np.ndarray | None = None  # bool [S, A], the actions that are allowed; None: all

    @property
    def states(self) -> int:
        return int(self.next_state.shape[0])

    @property
    def actions(self) -> int:
        return int(self.next_state.shape[1])

    @property
    def ends(self) -> bool:
        """Whether there is an outcome that ends an episode."""
        return bool((self.terminated & (self.probability > 0)).any())

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """thresholds, next_state, reward and terminated in the form of `World`.

        Gymnasium takes the first outcome whose running sum is above u, or the first of all where rounding leaves none:
        that is the outcome numbered by how many sums are not above u, with the first one again behind the last.
        """
        sums = np.cumsum(self.probability, -1)
        behind = np.arange(sums.shape[2]) >= self.outcomes[..., None]
        last = self.outcomes[..., None]

        def extended(array: np.ndarray) -> np.ndarray:
            longer = np.concatenate([array, array[..., :1]], -1)
            np.put_along_axis(longer, last, array[..., :1], -1)
            return longer

        return np.where(behind, 2.0, sums), extended(self.next_state), extended(self.reward), extended(self.terminated)

    def same_as(self, other: Model) -> bool:
        """Whether both are the same process, whatever they are called."""
        mine, theirs = vars(self), vars(other)
        return all(
            np.array_equal(mine[name], theirs[name]) for name in mine if isinstance(theirs.get(name), np.ndarray)
        ) and (self.limit, self.step_draws, self.reset_draws, self.mask is None) == (
            *(other.limit, other.step_draws, other.reset_draws),
            other.mask is None,
        )


class World(NamedTuple):
    """A model with E environments in it, for scalar loops: plain arrays and generators."""

    thresholds: Any  # float64 [S, A, K], running sums of the probabilities; 2 behind the last outcome
    next_state: Any  # [S, A, K + 1], as in Model; behind the last outcome the first one again
    reward: Any
    terminated: Any
    start: Any  # float64 [S], cumulative
    limit: int  # 0: none
    step_draws: bool
    reset_draws: bool
    state: Any  # int64 [E]
    elapsed: Any  # int64 [E]
    generators: Any  # E generators


def model_reset(world: Any, e: int) -> int:
    """Begin an episode in environment e -> its first state."""
    u = world.generators[e].random() if world.reset_draws else 0.0
    s = 0
    for i in range(world.start.shape[0]):
        if world.start[i] > u:
            s = i
            break
    world.state[e] = s
    world.elapsed[e] = 0
    return s


def model_step(world: Any, e: int, a: int) -> tuple[int, float, bool, bool]:
    """Take action a in environment e -> (next state, reward, terminated, truncated)."""
    s = world.state[e]
    u = world.generators[e].random() if world.step_draws else 0.0
    k = 0
    for i in range(world.thresholds.shape[2]):
        k += world.thresholds[s, a, i] <= u
    s2 = world.next_state[s, a, k]
    world.state[e] = s2
    elapsed = world.elapsed[e] + 1
    world.elapsed[e] = elapsed
    return s2, world.reward[s, a, k], world.terminated[s, a, k], world.limit > 0 and elapsed >= world.limit


def world_of(
    model: Model, state: np.ndarray, elapsed: np.ndarray, generators: tuple[np.random.Generator, ...]
) -> World:
    """E environments that live in `model`, with state and elapsed int64 [E] kept by the caller."""
    return World(
        *model.arrays,
        np.cumsum(model.start),
        model.limit or 0,
        model.step_draws,
        model.reset_draws,
        state,
        elapsed,
        generators,
    )


def read(env: gym.Env[Any, Any]) -> Model:
    """The finite model of `env`, which is driven (and so disturbed) to prove it.

    Raises NotATable, with the reason, when there is no model or the environment does not behave like it; EnvError for a
    FrozenLake map without start or goal.
    """
    base = instance(env, "env", gym.Env, "a gymnasium.Env").unwrapped
    name = env.spec.id if env.spec is not None else type(base).__name__
    if isinstance(base, FrozenLakeEnv):
        _check_map(base, name)
    limit = _limit_of(env)
    if getattr(base, "fickle_passenger", False):
        raise NotATable(
            f"{name}: with fickle_passenger the passenger's mind is hidden state, so P is not the whole model."
        )
    if not hasattr(base, "P") or not hasattr(base, "initial_state_distrib"):
        raise NotATable(f"{name} has no model: it lacks P or initial_state_distrib.")
    if not isinstance(base.observation_space, gym.spaces.Discrete) or not isinstance(
        base.action_space, gym.spaces.Discrete
    ):
        raise NotATable(f"{name} has P, but its observations or actions are not Discrete.")
    if callable(getattr(base, "action_masks", None)):
        raise NotATable(f"{name} has P, but which actions it allows, by action_masks(), is not part of it.")
    if base.action_space.start != 0 or base.observation_space.start != 0:
        raise NotATable(f"{name} has P, but its states or actions do not count from 0.")
    model = _arrays(base, name, limit)
    return _proved(base, model)


def _check_map(base: FrozenLakeEnv, name: str) -> None:
    """Raise an EnvError for a map on which nobody can begin or win: Gymnasium itself would only divide by zero."""
    letters = np.asarray(base.desc).astype(str)
    for letter, what in (("S", "start"), ("G", "goal")):
        if not (letters == letter).any():
            raise EnvError(f"{name}: the map {[''.join(row) for row in letters]} has no {what} ({letter}).")


def _limit_of(env: gym.Env[Any, Any]) -> int | None:
    """The time limit of the wrappers around `env`; refuses wrappers that may change what a learner sees."""
    limits = []
    while isinstance(env, gym.Wrapper):
        if type(env) not in HARMLESS:
            raise NotATable(f"The wrapper {type(env).__name__} may change observations, rewards, actions or endings.")
        if isinstance(env, TimeLimit):
            limits.append(int(env._max_episode_steps))
        env = env.env
    return min(limits) if limits else None


def _arrays(base: Any, name: str, limit: int | None) -> Model:
    states, actions = int(base.observation_space.n), int(base.action_space.n)
    try:
        rows = [[list(base.P[s][a]) for a in range(actions)] for s in range(states)]
        outcomes = np.array([[len(outcome) for outcome in row] for row in rows], np.int64)
        shape = (states, actions, int(outcomes.max()))
        probability, reward = np.zeros(shape), np.zeros(shape)
        next_state, terminated = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        for s, row in enumerate(rows):
            for a, outcome in enumerate(row):
                k = len(outcome)
                probability[s, a, :k] = [float(o[0]) for o in outcome]
                next_state[s, a, :k] = [int(o[1]) for o in outcome]
                reward[s, a, :k] = [float(o[2]) for o in outcome]
                terminated[s, a, :k] = [bool(o[3]) for o in outcome]
        start = np.array(base.initial_state_distrib, dtype=np.float64).ravel()
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise NotATable(
            f"{name} has P, but not in Gymnasium's form (probability, next state, reward, terminated)."
        ) from error
    sums = probability.sum(-1)
    if (
        start.shape != (states,)
        or not np.isclose(start.sum(), 1)
        or not np.allclose(sums, 1)
        or (probability < 0).any()
    ):
        raise NotATable(f"{name} has P, but its probabilities do not sum to 1 in every state and action.")
    if (next_state < 0).any() or (next_state >= states).any() or not np.isfinite(reward).all():
        raise NotATable(f"{name} has P, but with a next state outside 0..{states - 1} or a reward that is not finite.")
    desc, success = _map_and_goal(base, next_state, terminated)
    mask = _mask(base, name, states, actions)
    return Model(name, probability, outcomes, next_state, reward, terminated, start, limit, success, desc, mask=mask)


def _mask(base: Any, name: str, states: int, actions: int) -> np.ndarray | None:
    """Which actions the environment says are allowed in each state, by its `action_mask(state)`; None: it has no such method.

    Where it allows nothing, all actions count as allowed: nothing is done there.
    """
    if not callable(getattr(base, "action_mask", None)):
        return None
    try:
        mask = np.array([np.asarray(base.action_mask(s)) for s in range(states)]) != 0
    except Exception as error:  # whatever a user's method may raise
        raise NotATable(f"{name} has P, but its action_mask(state) raises {type(error).__name__}: {error}") from error
    if mask.shape != (states, actions):
        raise NotATable(f"{name} has P, but its action_mask(state) does not give {actions} entries.")
    mask |= ~mask.any(-1, keepdims=True)
    return None if mask.all() else mask


def _map_and_goal(
    base: Any, next_state: np.ndarray, terminated: np.ndarray
) -> tuple[tuple[str, ...] | None, np.ndarray | None]:
    """The map as rows of letters, and which outcomes reach the goal, for the environments whose goal is known."""
    if type(base) is FrozenLakeEnv:
        desc = tuple("".join(letter.decode() for letter in row) for row in np.asarray(base.desc).tolist())
        goal = np.array([letter == "G" for row in desc for letter in row])
        return desc, terminated & goal[next_state]
    if type(base) is CliffWalkingEnv:
        rows = [["S" if s == 36 else "F" for s in range(r * 12, r * 12 + 12)] for r in range(4)]
        for column in range(1, 11):
            rows[3][column] = "H"
        rows[3][11] = "G"
        return tuple("".join(row) for row in rows), terminated
    return None, terminated if type(base) is TaxiEnv else None


def _proved(base: Any, model: Model) -> Model:
    """`model`, with its draws found out, after every step of `base` came out as the model says."""
    first, _ = base.reset(seed=0)
    allowed = np.ones((model.states, model.actions), np.bool_) if model.mask is None else model.mask
    if not isinstance(getattr(base, "np_random", None), np.random.Generator):
        raise NotATable(f"{model.name} has P, but its random generator cannot be read.")
    twin = seeding.np_random(0)[0]
    reset_draws = _state(base) != _state_of(twin)
    before = _state(base)
    base.step(int(allowed[int(first)].argmax()))
    model = dataclasses.replace(model, reset_draws=reset_draws, step_draws=_state(base) != before)

    world = world_of(model, np.zeros(1, np.int64), np.zeros(1, np.int64), (twin,))
    actions = np.random.default_rng(0).integers(model.actions, size=CHECKED_STEPS)
    observation, info = base.reset(seed=0)
    twin.bit_generator.state = seeding.np_random(0)[0].bit_generator.state
    _compare(base, model, "reset", observation, model_reset(world, 0), twin)
    _compare_mask(model, "reset", int(observation), info)
    for drawn in actions.tolist():
        s = int(world.state[0])
        a = drawn if allowed[s, drawn] else int(allowed[s].argmax())
        terminated = _compare_step(base, model, world, s, a, twin)
        if terminated or world.elapsed[0] >= 200:
            observation, info = base.reset()
            _compare(base, model, "reset", observation, model_reset(world, 0), twin)
            _compare_mask(model, "reset", int(observation), info)
    if isinstance(getattr(base, "s", None), (int, np.integer)):
        pairs = np.argwhere(allowed).tolist()
        stride = max(1, len(pairs) // CHECKED_PAIRS)
        for s, a in pairs[::stride]:
            base.s = s
            world.state[0] = s
            _compare_step(base, model, world, s, a, twin)
    return model


def _compare_step(base: Any, model: Model, world: World, s: int, a: int, twin: np.random.Generator) -> bool:
    observation, reward, terminated, truncated, info = base.step(a)
    s2, model_reward, model_terminated, _ = model_step(world, 0, a)
    place = f"in state {s}, action {a}"
    _compare(base, model, place, observation, s2, twin)
    if float(reward) != model_reward or bool(terminated) != bool(model_terminated) or truncated:
        raise NotATable(f"{model.name} does not behave like its P: {place} reward or ending differ.")
    _compare_mask(model, place, s2, info, bool(terminated))
    return bool(terminated)


def _compare_mask(model: Model, place: str, state: int, info: Any, over: bool = False) -> None:
    """Raise NotATable where the mask in `info` is not the model's; at an episode's end one that allows nothing is none."""
    given = info.get("action_mask") if isinstance(info, dict) else None
    if given is None and model.mask is None:
        return
    found = np.ones(model.actions, np.bool_) if given is None else np.asarray(given).ravel() != 0
    if given is not None and found.size == model.actions and not found.any() and over:
        found = np.ones(model.actions, np.bool_)
    wanted = np.ones(model.actions, np.bool_) if model.mask is None else model.mask[state]
    if not np.array_equal(found, wanted):
        raise NotATable(f"{model.name} gives action masks ({place}) that its model does not have: action_mask(state).")


def _compare(base: Any, model: Model, place: str, observation: Any, state: int, twin: np.random.Generator) -> None:
    if int(observation) != state:
        raise NotATable(
            f"{model.name} does not behave like its P: {place} came observation {observation}, not {state}."
        )
    if _state(base) != _state_of(twin):
        raise NotATable(f"{model.name} draws random numbers otherwise than by P ({place}).")


def _state(base: Any) -> Any:
    return _state_of(base.np_random)


def _state_of(rng: np.random.Generator) -> Any:
    return rng.bit_generator.state
