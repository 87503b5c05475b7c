"""Temporally extended epsilon-greedy: exploring actions are held for several steps."""

from __future__ import annotations

import dataclasses
import itertools
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from family import assert_same
from gymnasium.vector import SyncVectorEnv
from helpers import Counting, NoisyWalk

import rl
from envs import TableEnv
from rl import explore
from rl.core import jit
from rl.explore import EPSILON_GREEDY, HELD, masked
from rl.explore.held import Held, durations, ranked
from rl.tabular.agent import TabularConfig

HOLD = rl.explore.EpsilonGreedy(1.0, hold=2.0, hold_steps=5)
HALF = dataclasses.replace(HOLD, epsilon=0.5)


def test_durations_follow_the_power_law():
    weight = np.array([1, 1 / 4, 1 / 9, 1 / 16, 1 / 25])
    np.testing.assert_allclose(durations(2.0, 5), (weight.cumsum() / weight.sum())[:-1])
    u = np.random.default_rng(0).random(200_000)
    steps = 1 + np.searchsorted(durations(2.0, 5), u, side="right")
    np.testing.assert_allclose(np.bincount(steps)[1:] / len(u), weight / weight.sum(), atol=5e-3)


def test_any_candidate_is_as_likely_as_any_other():
    candidates = np.tile([True, False, True, True], (30_000, 1, 1))
    chosen = ranked(candidates, np.random.default_rng(0).random((30_000, 1)))
    np.testing.assert_allclose(
        np.bincount(chosen.reshape(-1), minlength=4) / 30_000, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.01
    )
    assert ranked(candidates[:1], np.array([[np.nextafter(1.0, 0)]])) == 3


def u(start, action, steps):
    return np.array([[[start, action, steps]]])


def test_an_action_is_held_until_its_steps_or_its_episode_are_over():
    held, q, epsilon = Held(1, 1, 2.0, 5), np.array([[[0.0, 1.0, 0.0]]]), np.full((1, 1), 0.5)
    two = durations(2.0, 5)[0] + 1e-9  # a number for which the duration is two steps
    assert held.select(q, epsilon, u(0.9, 0.0, two), None, False) == 1  # greedy
    assert held.select(q, epsilon, u(0.1, 0.99, two), None, False) == 2  # exploring
    assert held.select(q, epsilon, u(0.9, 0.0, two), None, False) == 2  # held, whatever is drawn
    assert held.select(q, epsilon, u(0.9, 0.0, two), None, False) == 1
    held.select(q, epsilon, u(0.1, 0.99, 0.999), None, False)
    held.let_go(np.ones((1, 1), np.bool_))
    assert held.select(q, epsilon, u(0.9, 0.0, two), None, False) == 1


def test_an_action_that_is_forbidden_is_let_go():
    held, q, epsilon = Held(1, 1, 2.0, 5), np.array([[[5.0, 1.0, 0.0]]]), np.full((1, 1), 0.5)
    assert held.select(q, epsilon, u(0.1, 0.99, 0.999), None, False) == 2
    allowed = np.array([[[False, True, False]]])
    assert held.select(q, epsilon, u(0.9, 0.0, 0.0), allowed, False) == 1
    assert held.select(q, epsilon, u(0.9, 0.0, 0.0), None, False) == 0  # not taken up again


def test_where_episodes_begin_actions_are_selected_anew():
    """Elsewhere what is held and how long stays as it was."""
    held, q, epsilon = Held(1, 2, 2.0, 5), np.array([[[0.0, 1.0, 0.0]] * 2]), np.full((1, 2), 0.5)
    start = np.array([[[0.1, 0.99, 0.999]] * 2])
    assert held.select(q, epsilon, start, None, False).tolist() == [[2, 2]]
    greedy = np.array([[[0.9, 0.0, 0.0]] * 2])
    assert held.select(q, epsilon, greedy, None, False, np.array([[True, False]])).tolist() == [[1, 2]]
    assert held.steps.tolist() == [[0, 4]]


class Listed:
    """A generator of listed numbers."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def random(self):
        return self.numbers.pop(0)


def scalar(steps, rng, mask=None):
    """Select an action after action 2, with the best action 1: (the action, how long it is held further)."""
    rule = jit.specialize(explore.held_action, **(masked.RULES if mask is not None else {}))
    return rule(np.array([[0.0, 1.0, 0.0]]), 0, 0.5, False, 2, steps, durations(2.0, 5), rng, mask)


def test_a_decision_draws_only_the_numbers_that_it_needs():
    assert scalar(3, Listed()) == (2, 2)  # held: none
    assert scalar(0, Listed(0.9)) == (1, 0)  # greedy: one
    first, second = durations(2.0, 5)[:2]
    for v, further in ((0.0, 0), (np.nextafter(first, 0), 0), (first, 1), (second, 2), (np.nextafter(1.0, 0), 4)):
        assert scalar(0, Listed(0.45, v)) == (2, further)  # exploring: two
    mask = np.array([[0.0, 0.0, -np.inf]])
    assert scalar(3, Listed(0.9), mask) == (1, 0)
    assert scalar(3, Listed(0.45, 0.999), mask) == (1, 4)
    assert scalar(3, Listed(), np.zeros((1, 3))) == (2, 2)


def test_durations_of_the_scalar_rule_follow_the_power_law():
    rng, q, counts = np.random.default_rng(0), np.zeros((1, 3)), np.zeros(5)
    for _ in range(30_000):
        _, further = explore.held_action(q, 0, 1.0, True, 0, 0, durations(2.0, 5), rng)
        counts[further] += 1
    weight = np.array([1, 1 / 4, 1 / 9, 1 / 16, 1 / 25])
    np.testing.assert_allclose(counts / counts.sum(), weight / weight.sum(), atol=0.01)


@pytest.mark.parametrize("rule", [explore.expected, masked.expected])
def test_the_policy_that_holds_an_action_takes_it_for_sure(rule):
    assert rule(np.array([[0.0, 1.0, 5.0]]), 0, HELD, 2.0) == 5.0


def test_a_saved_state_is_a_copy_and_goes_on():
    held, q, epsilon = Held(2, 3, 1.5, 9), np.zeros((2, 3, 4)), np.full((2, 3), 0.7)
    rng = np.random.default_rng(0)
    for _ in range(5):
        held.select(q, epsilon, rng.random((2, 3, 3)), None, True)
    saved, other = held.state_dict(), Held(2, 3, 1.5, 9)
    before = {name: part.copy() for name, part in saved.items()}
    other.load_state_dict(saved)
    for _ in range(20):
        drawn = rng.random((2, 3, 3))
        assert np.array_equal(*(one.select(q, epsilon, drawn, None, True) for one in (held, other)))
        held.let_go(np.eye(2, 3, dtype=bool))
        other.let_go(np.eye(2, 3, dtype=bool))
    assert all(np.array_equal(saved[name], part) for name, part in before.items())
    with pytest.raises(ValueError, match="do not match"):
        Held(2, 2, 1.5, 9).load_state_dict(saved)


class Recorded(gym.Wrapper):
    """Notes the actions of each episode."""

    episodes: ClassVar[list] = []

    def reset(self, **settings):
        self.episodes.append([])
        return super().reset(**settings)

    def step(self, action):
        self.episodes[-1].append(int(action))
        return super().step(action)


def test_a_run_repeats_its_exploring_actions():
    """With epsilon 1, an action equals its predecessor more often than one in three times."""
    shares = {}
    for hold in (None, 1.5):
        Recorded.episodes = []
        agent = rl.DQN(network="mlp(4)", explore=rl.explore.EpsilonGreedy(1.0, hold=hold), learn_after_steps=10_000)
        rl.start(lambda: Recorded(gym.make("MountainCar-v0")), agent, 1).advance(3_000)
        pairs = [a == b for episode in Recorded.episodes for a, b in itertools.pairwise(episode)]
        shares[hold] = np.mean(pairs)
    assert shares[None] == pytest.approx(1 / 3, abs=0.03)
    assert shares[1.5] > 0.8


def test_seeds_alone_and_stacked_hold_the_same_actions():
    agent = rl.DQN(network="mlp(8)", batch_size=8, learn_after_steps=50, explore=HALF)
    whole, alone = (
        rl.start("MountainCar-v0", agent, [3, 5], envs_per_seed=2),
        rl.start("MountainCar-v0", agent, [5], envs_per_seed=2),
    )
    for run in (whole, alone):
        run.advance(300)
    for name, weight in whole.agent.online.weights.items():
        assert torch.equal(weight[1], alone.agent.online.weights[name][0])


TABULAR = [rl.QLearning(explore=HALF), rl.SARSA(explore=HALF), rl.ExpectedSARSA(explore=HALF)]
TILES = rl.LinearSARSA(explore=HALF)
RUNS = [("Taxi-v4", TABULAR[0]), (NoisyWalk, TABULAR[1]), ("Taxi-v4", TABULAR[2]), ("MountainCar-v0", TILES)]


def learned(run, k=...):
    """What was learned and what is held, of the k-th seed or of all."""
    if isinstance(run.agent, rl.LinearAgent):
        held = run.loop.actor.held
        parts = run.agent.weights, run.loop.action.reshape(held.steps.shape), held.steps, held.action
    else:
        parts = *run.agent.tables.values(), *run.loop.actor
    return [part[k].tobytes() for part in parts]


@pytest.mark.parametrize(("env", "agent"), RUNS)
def test_tables_and_tiles_alone_and_stacked_hold_the_same_actions(env, agent):
    whole, alone = (rl.start(env, agent, seeds, steps=400, envs_per_seed=2) for seeds in ([3, 5], [5]))
    whole.advance(400), alone.advance(400)
    assert learned(whole, 1) == learned(alone, 0)


@pytest.mark.parametrize(("env", "agent"), RUNS)
def test_a_run_that_is_cut_and_resumed_anywhere_holds_the_same_actions(env, agent, tmp_path):
    whole, cut = (rl.start(env, agent, 2, steps=400, envs_per_seed=2) for _ in range(2))
    holding = 0
    for _ in range(8):
        cut.advance(7)
        cut.save(tmp_path / "run")
        cut = rl.load(tmp_path / "run", env=None if isinstance(env, str) else env)
        actor = cut.loop.actor
        holding += (actor.held.steps if agent is TILES else actor.held).any()
    assert holding > 2
    whole.advance(cut.step)
    assert learned(whole) == learned(cut)


@pytest.mark.parametrize("agent", TABULAR)
def test_compiled_and_plain_loops_hold_the_same_actions(agent, plain_loop):
    fast = rl.start("Taxi-v4", agent, 2, steps=2000, envs_per_seed=2)
    plain_loop()
    plain = rl.start("Taxi-v4", agent, 2, steps=2000, envs_per_seed=2)
    fast.advance(2000), plain.advance(2000)
    assert fast.model is not None
    assert plain.model is None
    assert_same(fast, plain)
    assert not fast.agent.visits[:, ~fast.model.mask].any()


def test_the_number_of_threads_changes_no_held_action():
    one, four = (rl.start("Taxi-v4", TABULAR[0], 5, steps=5000, envs_per_seed=2, workers=n) for n in (1, 4))
    one.advance(5000), four.advance(5000)
    assert_same(one, four)


@pytest.mark.full  # takes 20 s
def test_the_number_of_processes_changes_no_held_action():
    agent = rl.DQN(network="mlp(8)", batch_size=8, learn_after_steps=50, explore=HALF)
    one, two = (rl.train("CartPole-v1", agent, 200, seeds=2, workers=n, progress=False) for n in (1, 2))
    for name, weight in one.agent.online.weights.items():
        assert torch.equal(weight, two.agent.online.weights[name])


def test_tables_that_hold_nothing_are_saved_as_before(tmp_path):
    run = rl.start("Taxi-v4", rl.QLearning(), 2, steps=100)
    run.advance(50)
    assert "held" not in run.loop.state_dict()["actor"]
    again = rl.start("Taxi-v4", TABULAR[0], 2, steps=100)
    again.loop.actor.held[:] = 3
    again.loop.load_state_dict(run.loop.state_dict())
    assert not again.loop.actor.held.any()


@pytest.mark.parametrize(("name", "value"), [("held", -1), ("held", 5), ("action", 6)])
def test_saved_actions_are_checked(name, value):
    run = rl.start("Taxi-v4", TABULAR[0], 2, steps=100)
    run.advance(50)
    state = run.loop.state_dict()
    state["actor"] = {**state["actor"], name: np.full((2, 1), value)}
    with pytest.raises(ValueError, match="actions or counters are out of range"):
        run.loop.load_state_dict(state)


SEEN = []  # (terminated, the next action, the kind and the level of the policy in the next state) of each step


def note(table, t, rng):
    SEEN.append((t.discount == 0, t.next_a, t.explore, t.level))
    return 0.0


@dataclasses.dataclass(frozen=True)
class NotesAction(TabularConfig):
    """Knows the next action."""

    rule = staticmethod(note)
    needs_next_action: ClassVar[bool] = True
    respects_masks: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class NotesPolicy(TabularConfig):
    """Knows the behavior policy."""

    rule = staticmethod(note)
    needs_policy: ClassVar[bool] = True
    respects_masks: ClassVar[bool] = True


class Corridor(gym.Env):
    """Action 2 is forbidden in every other state; episodes are truncated after 9 steps."""

    def __init__(self):
        self.observation_space, self.action_space, self.s = gym.spaces.Discrete(10), gym.spaces.Discrete(3), 0

    def _info(self):
        return {"action_mask": np.array([1, 1, self.s % 2 == 0], np.int8)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = 0
        return 0, self._info()

    def step(self, action):
        assert action < 2 or self.s % 2 == 0
        self.s += 1
        return self.s, 0.0, False, self.s == 9, self._info()


def steps_of(agent, steps):
    """Return each step's note, and the action taken next in the same episode, None at its end."""
    run = rl.start(lambda: Recorded(Corridor()), agent, 1)
    Recorded.episodes, SEEN[:] = [], []
    run.advance(steps)
    following = [a for episode in Recorded.episodes for a in (*episode[1:], None)]
    return list(zip(SEEN, following, strict=False))


def test_the_next_action_that_a_rule_sees_is_the_one_taken():
    seen = [(next_a, taken) for (_, next_a, *_), taken in steps_of(NotesAction(explore=HOLD), 900) if taken is not None]
    assert len(seen) > 700
    assert all(next_a == taken for next_a, taken in seen)


def test_the_policy_that_a_rule_sees_says_which_action_is_held():
    seen = steps_of(NotesPolicy(explore=HOLD), 900)
    held = [(level, taken) for (_, _, kind, level), taken in seen if kind == HELD and taken is not None]
    assert len(held) > 100
    assert all(level == taken for level, taken in held)
    assert {(kind, level) for (_, _, kind, level), _ in seen if kind != HELD} == {(EPSILON_GREEDY, 1.0)}
    # Action 2 is forbidden in the next state: the policy lets it go.
    assert {level for (_, _, kind, level), _ in seen if kind == HELD} == {0.0, 1.0}


def test_an_action_selected_for_the_call_that_resets_is_not_held():
    class Opaque(gym.vector.VectorWrapper):
        pass

    agent = rl.QLearning(explore=dataclasses.replace(HOLD, hold=1.1))
    run = rl.start(Opaque(SyncVectorEnv([lambda: Counting(3)] * 2)), agent, 2, steps=400)
    held = []
    for _ in range(40):
        run.advance(1)
        held.append(run.loop.actor.held.any())
    assert not any(held[2::4])  # the last step of an episode
    assert not any(held[3::4])  # the call that resets
    assert any(held[::4])


class Cut(gym.Env):
    """One state, truncated after 3 steps."""

    def __init__(self):
        self.observation_space, self.action_space = gym.spaces.Box(0, 1, (1,)), gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1, np.float32), 0.0, False, self.t == 3, {}


def test_tiles_bootstrap_from_the_held_action_at_a_truncation():
    run = rl.start(Cut, rl.LinearSARSA(explore=HOLD, step_size=0.0), 1)
    run.agent.weights[:] = np.array([0.0, 1.0, 5.0]) / run.agent.config.tilings
    seen, cut_short = [], run.loop._cut_short

    def noting(answer, following, action, held):
        cut_short(answer, following, action, held)
        if answer.truncated.all():
            seen.append((bool(held[0]), int(action[0]), float(following[0])))

    run.loop._cut_short = noting
    run.advance(600)
    assert {action for held, action, _ in seen if held} == {0, 1, 2}
    for held, action, following in seen:
        assert following == pytest.approx((0.0, 1.0, 5.0)[action] if held else 2.0)


class Ending(Cut):
    """One state, left at any time."""

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, self.np_random.random() < 0.3, False, {}


def test_tiles_hold_actions_while_other_episodes_end():
    run = rl.start(Ending, rl.LinearSARSA(explore=HOLD), 2, envs_per_seed=2)
    held, actor, compared = np.zeros((2, 2), np.int64), run.loop.actor, 0
    for _ in range(200):
        run.advance(2)
        going_on = ~actor.started & (held > 0)
        assert np.array_equal(actor.held.steps[going_on], held[going_on] - 1)
        held, compared = actor.held.steps.copy(), compared + going_on.sum()
    assert compared > 50


def test_a_new_episode_holds_nothing():
    run = rl.start("Taxi-v4", TABULAR[0], 2, envs_per_seed=2)
    run.loop.actor.held[:] = 3
    run.loop.begin_anew((0, 1))
    assert run.loop.actor.held.tolist() == [[3, 0], [3, 3]]


def test_no_exact_policy_is_known_of_what_is_held():
    for rule, epsilon in ((HALF, None), (rl.explore.EpsilonGreedy(0.5), 0.5)):
        assert rl.start("FrozenLake-v1", rl.SARSA(explore=rule), 1).agent.final_epsilon(100) == epsilon


def test_held_actions_reach_the_end_of_a_long_corridor_sooner():
    """A random walk takes about 50**2 steps to the only reward; runs of equal actions take far fewer."""
    n, first = 50, {}
    P = {s: {a: [(1.0, max(s + 2 * a - 1, 0), float(s + a == n), s + a == n)] for a in (0, 1)} for s in range(n)}
    P[n] = {a: [(1.0, n, 0.0, True)] for a in (0, 1)}
    for hold in (None, 1.5):
        agent = rl.QLearning(explore=rl.explore.EpsilonGreedy(0.5, hold=hold))
        run, first[hold] = rl.start(lambda: TableEnv(P, [1.0] + [0.0] * n), agent, 10), np.zeros(10)
        while (run.loop.episodes_ended() == 0).any():
            run.advance(20)
            first[hold] += 20 * (run.loop.episodes_ended() == 0)
    assert first[1.5].mean() * 4 < first[None].mean()
    assert first[1.5].max() < first[None].mean()


@pytest.mark.parametrize(
    "settings", [{"hold": 1.0}, {"hold": "long"}, {"hold": 2.0, "hold_steps": 1}, {"hold": float("nan")}]
)
def test_settings_are_checked(settings):
    with pytest.raises((ValueError, TypeError), match="hold"):
        rl.explore.EpsilonGreedy(**settings)
