"""Munchausen: its target by hand, its masks, its fixed point on a finite model, and what it combines with."""

from __future__ import annotations

import dataclasses
import math
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch

import envs
import rl
from rl import targets
from rl.core.types import Batch
from rl.deep.heads.bootstrap import BEST_ACTION, SoftPolicy
from rl.deep.heads.categorical import Categorical
from rl.deep.heads.head import Outputs
from rl.deep.heads.quantile import Quantile
from rl.deep.heads.scalar import Scalar
from supervised.schedules import Linear

ALPHA, TAU, LOW = 0.9, 0.3, -1.0
SOFT = SoftPolicy(ALPHA, TAU, LOW)


def policy_of(q, mask=None):
    """softmax(q / TAU) of a list, of those allowed."""
    allowed = [a for a in range(len(q)) if mask is None or mask[a]]
    weight = [math.exp((q[a] - max(q[b] for b in allowed)) / TAU) if a in allowed else 0.0 for a in range(len(q))]
    return [w / sum(weight) for w in weight]


def by_hand(reward, discount, own, action, following, mask=None, next_mask=None):
    own_policy, policy = policy_of(own, mask), policy_of(following, next_mask)
    bonus = ALPHA * min(max(TAU * math.log(own_policy[action]), LOW), 0.0) if own_policy[action] else ALPHA * LOW
    value = sum(p * (q - TAU * math.log(p)) for p, q in zip(policy, following, strict=True) if p)
    return reward + bonus + discount * value


def sample(rows=50, actions=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    own, following = (torch.randn(rows, actions, generator=g, dtype=torch.float64) for _ in range(2))
    mask, next_mask = (torch.rand(rows, actions, generator=g) < 0.6 for _ in range(2))
    mask[:, 0] = next_mask[:, 1] = True
    action = torch.randint(actions, (rows,), generator=g)
    reward = torch.randn(rows, generator=g, dtype=torch.float64)
    discount = torch.tensor([0.9, 0.0]).double().repeat(rows)[:rows]
    return reward, discount, own, action, following, mask, next_mask


@pytest.mark.parametrize("masked", [False, True])
def test_the_target_is_the_papers_by_hand(masked):
    reward, discount, own, action, following, mask, next_mask = sample()
    masks = (mask, next_mask) if masked else (None, None)
    found = targets.munchausen(reward, discount, own, action, following, ALPHA, TAU, LOW, *masks)
    for i in range(len(reward)):
        rows = [None if part is None else part[i].tolist() for part in masks]
        wanted = by_hand(*(part[i].tolist() for part in (reward, discount, own, action, following)), *rows)
        assert float(found[i]) == pytest.approx(wanted, abs=1e-12)


def test_large_values_and_what_lies_behind_an_ending_are_harmless():
    own = torch.tensor([[500.0, -500.0], [1e6, 1e6]])
    found = targets.munchausen(
        torch.zeros(2), torch.zeros(2), own, torch.tensor([1, 0]), torch.full((2, 2), torch.nan), 1.0, 0.03, -1.0
    )
    torch.testing.assert_close(found, torch.tensor([-1.0, -0.03 * math.log(2)]), rtol=1e-4, atol=1e-4)
    # Without a clip the first would be -1000.
    torch.testing.assert_close(targets.log_policy(own[:1], 0.03)[0, 1], torch.tensor(-1000.0))


@pytest.mark.parametrize("rescale", [False, True])
def test_every_head_pulls_towards_the_same_mean(rescale):
    """The values of each head are those of one table, so the targets' means are one number; C51's atoms are far apart."""
    reward, discount, own, action, following, mask, next_mask = (part[None] for part in sample(20))
    plain = targets.munchausen(reward, discount, own, action, following, ALPHA, TAU, LOW, mask, next_mask)
    batch = Batch(None, action, reward, discount, None, next_mask, mask=mask)
    h = targets.rescaled if rescale else (lambda x: x)
    scalar = Scalar("squared", rescale=rescale, bootstrap=SOFT)
    y = torch.zeros_like(own)
    found = scalar.loss(Outputs(y, h(following), h(following), h(own)), batch, False)
    torch.testing.assert_close(found.td_error, h(plain), rtol=1e-9, atol=1e-9)
    spread = torch.tensor([-0.3, 0.0, 0.3], dtype=torch.float64)

    def quantiles(values):
        return h(values[..., None] + spread).flatten(2)

    head = Quantile(3, rescale=rescale, bootstrap=SOFT)
    parts = [quantiles(part) for part in (0 * own, following, following, own)]
    found = head.loss(Outputs(*parts), batch, False)
    if not rescale:
        torch.testing.assert_close(found.td_error, plain, rtol=1e-9, atol=1e-9)

    def logits(values):
        """Atoms at -10, 0 and 10 whose mean is `values`."""
        p = torch.stack([0.5 - values / 20, torch.full_like(values, 1e-12), 0.5 + values / 20], -1)
        return p.log().flatten(2)

    head = Categorical(-10.0, 10.0, 3, bootstrap=SOFT)
    parts = [logits(part) for part in (0 * own, following, following, own)]
    found = head.loss(Outputs(*parts), batch, False)
    inside = (plain.abs() < 0.1) | (discount == 0)  # elsewhere mass is cut at the edges
    torch.testing.assert_close(found.td_error[discount == 0], plain[discount == 0], rtol=1e-6, atol=1e-6)
    assert inside.any()


def test_the_mixture_of_atoms_is_the_return_of_a_drawn_action():
    g = torch.Generator().manual_seed(0)
    atoms, p = torch.linspace(-1, 1, 5), torch.randn(1, 4, 3, 5, generator=g).softmax(-1)
    q = (atoms * p).sum(-1)
    mask = torch.tensor([True, False, True]).expand(1, 4, 3)
    values, mass = SOFT.mixture(atoms, p, q, mask)
    assert values.shape == mass.shape == (1, 4, 15)
    torch.testing.assert_close(mass.sum(-1), torch.ones(1, 4))
    wanted = SOFT.value(q, q, mask)
    torch.testing.assert_close((values * mass).sum(-1), wanted)
    assert (mass.view(1, 4, 3, 5)[:, :, 1] == 0).all()
    best, same = BEST_ACTION.mixture(atoms, p, q, None)
    assert torch.equal(best, atoms)
    assert torch.equal(same, p.gather(2, q.argmax(-1)[..., None, None].expand(1, 4, 1, 5))[:, :, 0])


def operator(model, q, munchausen, gamma):
    """One application of Munchausen's operator to q [S, A], in numpy."""
    tau = munchausen.temperature
    below = q - q.max(1, keepdims=True)
    log_policy = below - tau * np.log(np.exp(below / tau).sum(1, keepdims=True))
    value = (np.exp(log_policy / tau) * (q - log_policy)).sum(1)
    bonus = munchausen.alpha * np.clip(log_policy, munchausen.low, 0)
    following = np.where(model.terminated, 0.0, value[model.next_state])
    return (model.probability * (model.reward + gamma * following)).sum(-1) + bonus


@pytest.mark.parametrize(
    "munchausen", [rl.Munchausen(), rl.Munchausen(0.7, 0.1, -0.2)], ids=["as published", "clipped"]
)
def test_it_learns_the_fixed_point_of_its_own_operator(munchausen):
    model, gamma = envs.read(gym.make("FrozenLake-v1")), 0.9
    exact = np.zeros((model.states, model.actions))
    for _ in range(500):
        exact = operator(model, exact, munchausen, gamma)
    np.testing.assert_allclose(operator(model, exact, munchausen, gamma), exact, atol=1e-12)
    # All outcomes of all pairs in one batch, weighted by their probabilities, until the target network repeats itself.
    places = np.argwhere(model.probability > 0)
    s, a, _ = places.T
    at = tuple(places.T)
    weight = torch.tensor(model.probability[at] * len(s), dtype=torch.float32)[None]
    discount = torch.tensor(gamma * ~model.terminated[at], dtype=torch.float32)[None]
    reward = torch.tensor(model.reward[at], dtype=torch.float32)[None]
    state, after = torch.tensor(s)[None], torch.tensor(model.next_state[at])[None]
    batch = Batch(state, torch.tensor(a)[None], reward, discount, after, weight=weight)
    config = rl.DQN(
        gamma=gamma, network="linear", loss="squared", optimizer="SGD", learning_rate=0.25, max_grad_norm=None,
        munchausen=munchausen, target_every_updates=10,
    )  # fmt: skip
    agent = config.build(gym.spaces.Discrete(model.states), gym.spaces.Discrete(model.actions))
    for _ in range(1_000):
        agent.update(batch, False)
    np.testing.assert_allclose(agent.table[0], exact, atol=1e-3)
    assert np.abs(exact - operator(model, exact, rl.Munchausen(alpha=0.0), gamma)).max() > 0.01  # the bonus matters


class Forbidding(gym.Env):
    """Observation: which of four actions are allowed now, as flags, drawn anew at every step; episodes of three steps."""

    observation_space = gym.spaces.Box(0.0, 1.0, (4,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def _draw(self):
        allowed = self.np_random.random(4) < 0.5
        allowed[self.np_random.integers(4)] = True
        return allowed.astype(np.float32), {"action_mask": allowed.astype(np.int8)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._draw()

    def step(self, action):
        self.t += 1
        obs, info = self._draw()
        return obs, 0.0, self.t == 3, False, info


def flags(obs):
    return obs > 0.5


@pytest.mark.parametrize("network", ["mlp(8)", "gru(8)"])
def test_the_replay_knows_what_was_allowed_in_each_state(network):
    config = rl.DQN(network=network, munchausen=rl.Munchausen(), learn_after_steps=10, batch_size=16, n_step=2)
    run = rl.start(Forbidding, config, seeds=2, envs_per_seed=2)
    run.advance(200)
    replay, sampler = run.loop.replay, run.loop.sampler
    batch = replay.draw(64, sampler, 1.0)
    if network == "mlp(8)":
        assert np.array_equal(batch.mask, flags(batch.obs))
        assert batch.mask[np.arange(2)[:, None], np.arange(64), batch.action].all()
    else:
        t = batch.reward.shape[2]
        known = np.arange(t) < batch.length[..., None]
        assert np.array_equal(batch.mask[known], flags(batch.obs[:, :, :t])[known])


@pytest.mark.parametrize("network", ["mlp(8)", "gru(8)"])
def test_the_descriptions_mask_is_heeded_in_both_states(network):
    asked = []

    def mask(obs):
        asked.append(tuple(obs.shape))
        return flags(obs)

    given = {"network": network, "learn_after_steps": 10, "batch_size": 16}
    run = rl.start(Forbidding, rl.DQN(munchausen=rl.Munchausen(), mask=mask, **given), seeds=1)
    run.advance(30)
    steps = 16 * 3 if network == "gru(8)" else 16
    assert len([shape for shape in asked if shape[1] == steps]) == 2 * run.agent.updates
    plain = rl.start(Forbidding, rl.DQN(munchausen=rl.Munchausen(), **given), seeds=1)
    plain.advance(30)
    for name, weight in run.agent.online.weights.items():
        assert torch.equal(weight, plain.agent.online.weights[name])


def test_a_forbidden_action_changes_nothing():
    """Values of actions that are not allowed are read neither in the state nor in the one that follows."""
    config = rl.DQN(network="linear", munchausen=rl.Munchausen(), compiled=False)
    space = gym.spaces.Discrete(3)
    mask = torch.tensor([[[True, True, False]]])
    batch = Batch(
        *(torch.tensor([[0]]), torch.tensor([[1]]), torch.tensor([[0.5]]), torch.tensor([[0.9]]), torch.tensor([[2]])),
        mask, mask=mask,
    )  # fmt: skip
    errors = []
    for value in (0.0, 100.0):
        agent = config.build(space, space)
        for stack in (agent.online, agent.target):
            stack.weights["head.weight"].data[0, 2] = value
        errors.append(agent.update(batch).td_error)
    assert torch.equal(*errors)
    assert torch.isfinite(errors[0]).all()


def test_only_the_first_step_of_several_has_the_bonus():
    config = rl.DQN(network="linear", munchausen=rl.Munchausen(alpha=1.0), n_step=3, gamma=0.5, max_grad_norm=None)
    run = rl.start("envs/Delay-v0", dataclasses.replace(config, learn_after_steps=2, batch_size=4), seeds=1)
    run.advance(2)
    batch = run.loop.replay.draw(200, run.loop.sampler, 1.0)
    assert set(np.unique(batch.reward)) == {0.5, 1.0}
    with torch.no_grad():
        run.agent.online.flat.zero_(), run.agent.target.flat.zero_()
    error = run.agent.update(Batch(*map(torch.as_tensor, batch[:5]))).td_error
    # One action: pi is 1, the bonus 0, and so is the entropy.
    torch.testing.assert_close(error, torch.as_tensor(batch.reward))
    two = gym.spaces.Discrete(2)
    agent = config.build(two, two)
    folded = Batch(
        torch.tensor([[0]]), torch.tensor([[0]]), torch.tensor([[1.75]]), torch.tensor([[0.0]]), torch.tensor([[0]])
    )
    torch.testing.assert_close(agent.update(folded).td_error, torch.tensor([[1.75 - 0.03 * math.log(2)]]))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: rl.DQN(munchausen=rl.Munchausen(), double=True), "double=True contradicts munchausen"),
        (lambda: rl.DQN(munchausen=0.9), "munchausen must be rl.Munchausen"),
        (lambda: rl.Munchausen(alpha=1.5), "alpha"),
        (lambda: rl.Munchausen(temperature=0.0), "temperature"),
        (lambda: rl.Munchausen(temperature=1e300), "temperature"),
        (lambda: rl.Munchausen(low=0.5), "low must be a number of at most 0, not 0.5"),
        (lambda: rl.Munchausen(low=float("nan")), "low"),
        (lambda: targets.log_policy(torch.zeros(2), 0.0), "temperature"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, said):
    with pytest.raises((ValueError, TypeError), match=said):
        make()


def test_the_derived_atoms_have_room_for_the_bonus():
    soft = rl.DQN(distribution=rl.Atoms(), munchausen=rl.Munchausen(0.5, low=-2.0))
    run = rl.start("CartPole-v1", soft, seeds=1)
    atoms = run.agent.config.distribution
    assert atoms.low == -100.0
    assert atoms.high == pytest.approx(100.0 + 99.0 * 0.03 * math.log(2))  # the entropy of the steps behind the first
    with pytest.raises(ValueError, match="The range of returns is unknown"):
        rl.start("CartPole-v1", dataclasses.replace(soft, gamma=1.0), seeds=1)


class Trickle(gym.Env):
    """Four actions alike, and rewards that are small beside the entropy."""

    observation_space, action_space = gym.spaces.Discrete(1), gym.spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 0, 0.001, False, False, {}


def test_values_of_a_soft_policy_are_no_divergence():
    soft = rl.Munchausen(alpha=0.0, temperature=0.5)
    config = rl.DQN(
        network="linear", munchausen=soft, gamma=0.5, learning_rate=0.1, optimizer="SGD", learn_after_steps=10,
        target_every_updates=1, reward_scale=2.0,
    )  # fmt: skip
    run = rl.start(Trickle, config, seeds=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            metrics = run.advance(200)
    # r + gamma (V + tau ln 4): far above what rewards alone allow.
    exact = (0.002 + 0.5 * 0.5 * math.log(4)) / 0.5
    assert run.agent.table.max() * 2.0 == pytest.approx(exact, rel=0.05)
    assert float(metrics["train/q_bound"]) == pytest.approx((0.002 + 0.5 * math.log(4)) / 0.5)


def test_it_learns_with_settings_of_a_schedule():
    config = dataclasses.replace(
        rl.presets()["munchausen-dqn"],
        network="mlp(16)",
        learning_rate=Linear(1e-2, 0.0),
        learn_after_steps=50,
        gamma=0.9,
    )
    run = rl.train("envs/Choice-v0", config, steps=600, seeds=2, progress=False)
    assert np.array_equal(run.agent.table.argmax(-1), [[0, 1], [0, 1]])
