"""Tables and tiles take no forbidden action, leave them out of targets and plans, and learn the same in both executors."""

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
import torch
from daily import daily
from family import FAMILY, advance, assert_same
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import envs
import rl
from envs import tables
from rl import explore, masked, planning
from rl.core import jit
from rl.explore import UCB, Boltzmann, DecayingNoise, EpsilonGreedy, Greedy, highest
from rl.tabular.agent import TabularConfig
from supervised.streams import Streams

TAXI = [
    *(rl.QLearning(explore=rule) for rule in (EpsilonGreedy(0.3), EpsilonGreedy(0.3, ties="first"), Greedy())),
    *(rl.QLearning(explore=rule) for rule in (Boltzmann(0.5), DecayingNoise(), UCB(1.0))),
    *FAMILY,
]


# Every run of the tests takes the rules that test_executors.py has in this world too: each other one is compiled for seconds.
DAILY = [*TAXI[:6:2], *FAMILY[2::3]]


@pytest.mark.parametrize("agent", daily(TAXI, DAILY), ids=range(len(TAXI)))
def test_taxi_takes_no_forbidden_action_and_compiled_equals_plain(agent, plain_loop):
    fast = rl.start("Taxi-v4", agent, [0, 7], steps=2000)
    assert fast.model.mask.sum() == 1392
    plain_loop()
    plain = rl.start("Taxi-v4", agent, [0, 7], steps=2000)
    advance(fast, 2000), advance(plain, 2000)
    assert_same(fast, plain)
    assert not fast.agent.visits[:, ~fast.model.mask].any()
    seen = plain.agent.visits.sum(-1) > 0
    assert (plain.agent.allowed == fast.model.mask)[seen].all()


class Trap(gym.Env):
    """Action 1 is forbidden but in the first state, and would be worth 100; masks come as `kind` gives them."""

    def __init__(self, kind=lambda mask, t: np.array(mask, np.int8), length=4):
        self.observation_space, self.action_space = gym.spaces.Discrete(length + 1), gym.spaces.Discrete(3)
        self.kind, self.length, self.taken = kind, length, []

    def _answer(self):
        mask = self.given = self.kind([1, self.s == 0, self.s % 2], self.s)
        return self.s, {} if mask is None else {"action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = 0
        return self._answer()

    def step(self, action):
        if self.given is not None and not self.given[action]:
            raise AssertionError(f"action {action} is forbidden in state {self.s}")
        self.s += 1
        state, info = self._answer()
        return state, float(action == 2), self.s == self.length, False, info


RULES = [rl.QLearning, rl.SARSA, rl.ExpectedSARSA, rl.DoubleQ, rl.TreeBackup, rl.QLambda, rl.SARSALambda, rl.MonteCarlo]
RULES += [rl.DynaQ, rl.PrioritizedSweeping, rl.RMax, rl.SpeedyQ, rl.WeightedQ, rl.NStepSARSA]


@pytest.mark.parametrize("rule", daily(RULES, RULES[::3]), ids=lambda rule: rule.__name__)
def test_a_forbidden_action_of_great_value_enters_no_target(rule):
    """Optimism makes every action that is never tried worth 100: a target that reads one would keep that value."""
    settings = {"known_after": 1} if rule is rl.RMax else {}
    steps = 30_000 if rule is rl.SpeedyQ else 10_000  # its error falls with the number of rounds, not by a factor
    run = rl.start(Trap, rule(gamma=1.0, initial_q=100.0, **settings), seeds=2, steps=steps)
    run.advance(steps)
    assert run.model is None
    policy = run.policy()
    assert [int(policy.predict(s)[0]) for s in (1, 3)] == [2, 2]
    assert all(int(policy.predict(s)[0]) != 1 for s in (1, 2, 3))
    np.testing.assert_allclose(run.agent.table[:, 0].max(-1), 2.0, atol=0.3)
    assert run.evaluate(3).per_seed.tolist() == [2.0, 2.0]


KINDS = {
    "list": lambda mask, t: [int(x) for x in mask],
    "bool": lambda mask, t: np.array(mask, bool),
    "object": lambda mask, t: np.array([bool(x) for x in mask], object),
    "not at the start": lambda mask, t: None if t == 0 else np.array(mask, np.int8),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", [None, *AutoresetMode])
@pytest.mark.parametrize("agent", [rl.QLearning(), rl.SARSA()], ids=["q", "sarsa"])
def test_masks_of_every_kind_hold_in_every_executor(kind, mode, agent):
    def make():
        return Trap(KINDS[kind])

    class Opaque(gym.vector.VectorWrapper):
        pass

    where = make if mode is None else Opaque(SyncVectorEnv([make] * 4, autoreset_mode=mode))
    run = rl.start(where, agent, seeds=2, envs_per_seed=2, steps=400)
    run.advance(400)  # a forbidden action raises
    assert run.loop.executor.masked
    assert not run.agent.allowed[:, 2, 1].any()


def test_a_seed_with_masks_beside_one_without_is_what_it_is_alone():
    """Masks now and then, by the episode: seed k of N is seed k alone."""

    class Moody(Trap):
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.kind = (lambda mask, t: mask) if self.np_random.random() < 0.3 else (lambda mask, t: None)
            return self._answer()

    many = rl.start(Moody, rl.QLearning(), [3, 4, 5], steps=600)
    many.advance(600)
    for k, seed in enumerate([3, 4, 5]):
        alone = rl.start(Moody, rl.QLearning(), [seed], steps=600)
        alone.advance(600)
        assert alone.agent.tables["q"][0].tobytes() == many.agent.tables["q"][k].tobytes()


def test_masks_are_saved_and_a_resumed_run_equals_one_that_was_not_stopped(tmp_path):
    whole, part = (rl.start(Trap, rl.SARSA(), 2, steps=500) for _ in range(2))
    whole.advance(500), part.advance(233)
    part.save(tmp_path / "run.safetensors")
    again = rl.load(tmp_path / "run.safetensors", env=Trap)
    again.advance(267)
    assert_same(whole, again)
    assert again.agent.mask.tobytes() == whole.agent.mask.tobytes()
    policy = whole.policy(1)
    policy.save(tmp_path / "policy.safetensors")
    loaded = rl.load_policy(tmp_path / "policy.safetensors")
    assert np.array_equal(loaded.allowed, policy.allowed)
    assert np.isneginf(loaded.q(2)[1])
    assert loaded.predict(2, action_masks=[False, True, False])[0] == 1
    for deterministic in (True, False):
        many, _ = loaded.predict(np.full(50, 2), deterministic=deterministic)
        assert set(many.tolist()) <= {0}
    with pytest.raises(ValueError, match="at least one must be allowed"):
        loaded.predict(2, action_masks=[False] * 3)


def test_plans_choose_among_allowed_actions():
    run = rl.start("Taxi-v4", rl.QLearning(), 1)
    solution = planning.value_iteration(run.model, 0.9)
    assert run.model.mask[np.arange(500), solution.policy].all()
    for other in (planning.policy_iteration, planning.gauss_seidel, planning.modified_policy_iteration):
        found = other(run.model, 0.9)
        np.testing.assert_allclose(found.v, solution.v, atol=1e-8)
        assert run.model.mask[np.arange(500), found.policy].all()
    assert run.exact.optimal_return == pytest.approx(7.93)
    # With exploration among allowed actions alone less is lost than with any.
    exploring = planning.value_iteration(run.model, 0.9, epsilon=0.5)
    q = planning.backup(run.model, exploring.v, 0.9)
    mean = np.where(run.model.mask, q, 0).sum(-1) / run.model.mask.sum(-1)
    np.testing.assert_allclose(exploring.v, 0.5 * np.where(run.model.mask, q, -np.inf).max(-1) + 0.5 * mean, atol=1e-9)


def test_a_model_whose_masks_are_not_those_of_the_environment_is_refused():
    class Lying(envs.TableEnv):
        def action_mask(self, state):
            return np.array([1, state != 0])

    class Silent(envs.TableEnv):
        def reset(self, **settings):
            state, info = super().reset(**settings)
            return state, {**info, "action_mask": np.array([1, 0])}

    chances = {s: {a: [(1.0, 1 - s, 1.0, False)] for a in range(2)} for s in range(2)}
    for kind in (Lying, Silent):
        with pytest.raises(tables.NoModelError, match="action masks"):
            tables.read(kind(chances, [1.0, 0.0]))


@pytest.mark.parametrize("random_ties", [True, False])
def test_with_all_allowed_the_masked_rules_choose_as_the_others_do(random_ties):
    rng = np.random.default_rng(0)
    chooser = jit.specialize(explore.choose, **masked.RULES)
    for _ in range(300):
        q, visits = rng.integers(0, 3, (1, 5)).astype(float), rng.integers(0, 3, (1, 5))
        kind, level, seed = int(rng.integers(4)), float(rng.choice([0.1, 0.5, 1.0])), int(rng.integers(1000))
        one, two = (np.random.default_rng(seed) for _ in range(2))
        arguments = q, visits, 0, kind, level, random_ties
        assert explore.choose(*arguments, one) == chooser(*arguments, two, np.zeros((1, 5)))
        allowed = np.append(rng.random(4) < 0.5, True)
        assert allowed[chooser(*arguments, two, masked.as_mask(allowed)[None])]


def test_random_actions_are_spread_evenly_over_the_allowed():
    mask = masked.as_mask([[True, False, True, True]])
    found = [masked.random_action(np.zeros((1, 4)), 0, u, mask) for u in np.linspace(0, 1, 3001)]
    assert np.bincount(found, minlength=4).tolist() == [1000, 0, 1000, 1001]


class TrapBox(gym.ObservationWrapper):
    def __init__(self):
        super().__init__(Trap())
        self.observation_space = gym.spaces.Box(0, 4, (1,))

    def observation(self, observation):
        return np.array([observation], np.float32)


@pytest.mark.parametrize("rule", [EpsilonGreedy(0.5), Boltzmann(0.5)])
def test_tiles_respect_masks(rule):
    run = rl.start(TrapBox, rl.LinearSARSA(explore=rule), seeds=2, envs_per_seed=2)
    run.advance(2000)  # a forbidden action raises
    assert run.evaluate(2).per_seed.tolist() == [2.0, 2.0]


def test_a_rule_that_knows_no_masks_is_told_of_and_acts_within_them():
    def learn(table, t, rng):
        error = t.reward + (t.discount * highest(table.q, t.next_s) if t.discount else 0.0) - table.q[t.s, t.a]
        table.q[t.s, t.a] += t.step_size * error
        return error

    @dataclass(frozen=True)
    class Own(TabularConfig):
        rule = staticmethod(learn)

    with pytest.warns(RuntimeWarning, match="set respects_masks = True"):
        rl.start(Trap, Own(), 1).advance(200)
    with pytest.warns(RuntimeWarning, match="set respects_masks = True"):
        run = rl.start("Taxi-v4", Own(), 1)
    run.advance(2000)
    assert not run.agent.visits[:, ~run.model.mask].any()


def test_a_batch_with_masks_is_learned_from_by_every_one_step_rule():
    spaces = gym.spaces.Discrete(2), gym.spaces.Discrete(2)
    parts = ([[0]], [[0]], [[1.0]], [[0.5]], [[1]])
    batch = rl.Batch(*map(torch.tensor, parts), next_mask=torch.tensor([[[True, False]]]))
    for rule in (rl.QLearning, rl.ExpectedSARSA, rl.DoubleQ, rl.SpeedyQ, rl.WeightedQ, rl.DynaQ):
        agent = rule().build(*spaces, seeds=1)
        for name in {"q", "one", "two", "old"} & agent.tables.keys():
            agent.tables[name][0, 1] = [2.0, 50.0]
        assert agent.update(batch).td_error.tolist() == [[2.0]], rule
        assert np.isneginf(agent.q(torch.tensor([[1]]))[0, 0, 1])
    with pytest.raises(ValueError, match="allows no action"):
        agent.update(batch._replace(next_mask=torch.zeros(1, 1, 2, dtype=torch.bool)))
    ended = batch._replace(discount=torch.zeros(1, 1), next_mask=torch.zeros(1, 1, 2, dtype=torch.bool))
    agent.update(ended)


@pytest.mark.parametrize("kind", [explore.EPSILON_GREEDY, explore.BOLTZMANN, explore.GAUSSIAN_NOISE])
def test_a_mask_that_forbids_nothing_changes_no_choice_of_a_network(kind):
    """Else a seed without masks would not be what it is alone, beside one that has some."""
    q = torch.randn(3, 400, 5, generator=torch.Generator().manual_seed(0))
    level = torch.full((3, 400), 0.37, dtype=torch.float64)
    without, within = (Streams([0, 1, 2]) for _ in range(2))
    mask = torch.ones(3, 400, 5, dtype=torch.bool)
    mask[1, ::2, 1:] = False
    plain = explore.select_actions(kind, q, level, without, None, True)
    found = explore.select_actions(kind, q, level, within, mask, True)
    assert torch.equal(plain[[0, 2]], found[[0, 2]])
    assert torch.equal(plain[1, 1::2], found[1, 1::2])
    assert not found[1, ::2].any()
    for wrong in ((q, level, mask[:, :1]), (q, level, mask[0, 0]), (q, level[:, :1], None), (q[:2], level[:2], None)):
        with pytest.raises(ValueError, match=r"With streams of 3 seeds q must be \[3, E, A\], level \[3, E\] and mask"):
            explore.select_actions(kind, *wrong[:2], within, wrong[2], True)
