"""docs/what-libraries-do.md: what each deviation does, as a small calculation in both forms, the libraries' written anew."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import ROOT

import rl
from rl import losses, targets
from rl.core.types import Batch
from rl.deep.heads.categorical import Categorical
from rl.deep.heads.head import Outputs
from rl.deep.replay import sum_tree
from supervised import Streams
from supervised.models.noisy import NoisyLinear, noise_of

T = torch.tensor
GAMMA = 0.99


def fixed_point(backup, value=0.0):
    """What a value becomes that is replaced by its target again and again."""
    for _ in range(5_000):
        value = backup(value)
    return value


# Endings


def test_an_ending_by_time_limit_taken_for_a_termination():
    """One state, reward 1 for ever, cut after 5 steps: worth 10 with gamma .9, and 3.57 where the cut counts as an ending."""
    kept, cut = torch.full((5,), 0.9), T([0.9, 0.9, 0.9, 0.9, 0.0])

    def mean_target(discount):
        return lambda value: targets.q_learning(torch.ones(5), discount, torch.full((5, 1), value)).mean().item()

    assert fixed_point(mean_target(kept)) == pytest.approx(10, rel=1e-5)
    assert fixed_point(mean_target(cut)) == pytest.approx(1 / (1 - 0.9 * 4 / 5), rel=1e-5)


def starts(endings, n_step, rewards=None):
    """What our replay samples after steps with these endings, "", "terminated" or "truncated": {start: (return, discount)}."""
    world = SimpleNamespace(
        observation_space=gym.spaces.Box(-np.inf, np.inf, (1,)), action_space=gym.spaces.Discrete(2),
        seeds=(0,), envs_per_seed=1, frames=1,
    )  # fmt: skip
    replay = rl.Replay(world, 100, n_step, 1.0)
    for t, ending in enumerate(endings):
        step = SimpleNamespace(
            reward=T([[float(10**t) if rewards is None else rewards[t]]]), terminated=T([[ending == "terminated"]]),
            truncated=T([[ending == "truncated"]]), next_obs=T([[[t + 1.0]]]), next_mask=None, valid=None,
        )  # fmt: skip
        replay.add(T([[[float(t)]]]), T([[0]]), step)
    batch = replay.sample(400, Streams([0], "replay"))
    found = zip(batch.obs[0, :, 0].tolist(), batch.reward[0].tolist(), batch.discount[0].tolist(), strict=True)
    return {int(t): (reward, discount) for t, reward, discount in found}


def deque_starts(endings, n):
    """Windows of a deque of n that is emptied at a termination, after the one window that ends there."""
    waiting, found = [], {}
    for t in range(len(endings)):
        waiting = [*waiting, t][-n:]
        if len(waiting) == n:
            last = next((i for i in waiting if endings[i] == "terminated"), waiting[-1])
            done = endings[last] == "terminated"
            found[waiting[0]] = sum(10.0**i for i in waiting if i <= last), 0.0 if done else 1.0
            waiting = [] if done else waiting
    return found


def test_a_deque_that_is_emptied_at_an_ending_loses_the_last_starts():
    episode = ["", "", "", "", "terminated"]
    assert sorted(starts(episode, 3)) == [0, 1, 2, 3, 4]
    assert sorted(deque_starts(episode, 3)) == [0, 1, 2]
    two_steps = ["", "terminated", "", "", "", "terminated"]  # an episode shorter than n, and one behind it
    assert sorted(starts(two_steps, 3)) == [0, 1, 2, 3, 4, 5]
    assert sorted(deque_starts(two_steps, 3)) == [0, 3]  # of the second, the first step is gone as well
    both = starts(two_steps, 3), deque_starts(two_steps, 3)
    assert [found[0] for found in both] == [(11.0, 0.0), (11.0, 0.0)]  # what is there is right


def test_states_before_an_ending_keep_their_first_values_without_their_starts():
    """A corridor of 5 states that pays 1 at its end: with n = 3 the last two are never learned."""

    def learned(known):
        values = np.zeros(5)
        for _ in range(10):
            for t in known:
                values[t] = 1.0 if t + 3 >= 5 else values[t + 3]
        return values.tolist()

    endings = ["", "", "", "", "terminated"]
    assert learned(starts(endings, 3)) == [1, 1, 1, 1, 1]
    assert learned(deque_starts(endings, 3)) == [0, 0, 1, 0, 0]  # 0 and 1 bootstrap from 3 and 4, which nothing teaches


def test_a_window_that_runs_over_a_truncation_collects_the_next_episode():
    steps = ["", "", "truncated", "", "", ""]
    assert starts(steps, 3)[1] == (10.0 + 100.0, 1.0)  # and bootstraps from the episode's last observation
    assert deque_starts(steps, 3)[1] == (10.0 + 100.0 + 1000.0, 1.0)


def shifted(rewards, n):
    """Transitions of one terminated episode whose flag is read from the step behind the window: {start: (return, discount)}."""
    last, found = len(rewards) - 1, {}
    for start in range(last):  # the last step is never a start
        end = min(start + n, last)
        found[start] = sum(rewards[start : start + n]), 0.0 if end == last else 1.0
    return found


def test_a_terminal_flag_read_one_step_early_loses_the_last_reward():
    endings, rewards = ["", "", "", "", "terminated"], [1.0, 10.0, 100.0, 1000.0, 10000.0]
    assert starts(endings, 1)[3] == (1000.0, 1.0)
    assert starts(endings, 1)[4] == (10000.0, 0.0)
    # What dopamine.jax.replay_memory.accumulator gave, fed with these steps:
    assert shifted(rewards, 1) == {0: (1, 1), 1: (10, 1), 2: (100, 1), 3: (1000, 0)}
    assert shifted(rewards, 3) == {0: (111, 1), 1: (1110, 0), 2: (11100, 0), 3: (11000, 0)}
    paid_at_the_end = [0.0, 0.0, 0.0, 0.0, 1.0]
    assert all(total == 0 for total, _ in shifted(paid_at_the_end, 1).values())  # nothing to learn from
    assert starts(endings, 1, paid_at_the_end)[4] == (1.0, 0.0)


def test_a_return_of_five_steps_that_bootstraps_with_gamma_once():
    """Reward 1 for ever is worth 100; sum of five rewards + gamma V instead of gamma**5 V makes 490 of it."""
    rewards = sum(GAMMA**i for i in range(5))
    reward, next_q = T(rewards, dtype=torch.float64), lambda value: T([value], dtype=torch.float64)
    right = fixed_point(lambda v: targets.q_learning(reward, T(GAMMA**5, dtype=torch.float64), next_q(v)).item())
    once = fixed_point(lambda v: targets.q_learning(reward, T(GAMMA, dtype=torch.float64), next_q(v)).item())
    assert right == pytest.approx(100)
    assert once == pytest.approx(490.1, abs=0.1)


def late_lambda_return(reward, discount, value, last_value, lambda_):
    """Lambda-returns whose last but one row takes the value behind the last: value [T] of s_0 ..., last_value of s_T."""
    found = [reward[-1] + discount[-1] * last_value]
    following = last_value * (discount[-1] != 0)
    for t in range(len(reward) - 2, -1, -1):
        found.append(reward[t] + discount[t] * (following + lambda_ * (found[-1] - following)))
        following = value[t]
    return np.array(found[::-1])


def test_a_lambda_return_that_starts_one_value_too_late():
    rng = np.random.default_rng(0)
    reward, value, lambda_ = rng.normal(size=8), rng.normal(size=9), 0.65
    discount = np.full(8, 0.9)
    parts = (torch.from_numpy(x) for x in (reward, discount, np.zeros(8, bool), value[1:]))
    ours = targets.lambda_return(*parts, lambda_).numpy()
    theirs = late_lambda_return(reward, discount, value[:-1], value[-1], lambda_)
    wrong = 0.9 * (1 - lambda_) * (value[8] - value[7])  # of row 6, and what earlier rows take over of it
    assert theirs[7] == pytest.approx(ours[7])
    np.testing.assert_allclose((theirs - ours)[:7], wrong * (0.9 * lambda_) ** np.arange(6, -1, -1), atol=1e-12)


def test_lambda_returns_whose_every_row_is_one_value_late():
    """A corridor of three steps that pays 1 at its end, over and over, gamma .9 and lambda 0: .81, .9, 1 become .9, .81, 1."""
    reward, discount = T([0.0, 0.0, 1.0]).double().repeat(4), T([0.9, 0.9, 0.0]).double().repeat(4)
    ended = discount == 0

    def learned(late):
        value = torch.zeros(3, dtype=torch.float64)
        for _ in range(50):
            following = value[T([1, 2, 0]).repeat(4)]  # of the state that is seen next, after an ending the first
            following = torch.cat([following[1:], following[-1:]]) if late else following
            value = targets.lambda_return(reward, discount, ended & ~T(late), following, 0.0)[:3]
        return value.tolist()

    assert learned(False) == pytest.approx([0.81, 0.9, 1.0])
    assert learned(True) == pytest.approx([0.9, 0.81, 1.0])  # the second bootstraps from the next episode's first state


def test_a_longer_time_limit_under_the_same_name():
    """CartPole-v1 ends after 500 steps; the same id with max_episode_steps=10_000 pays up to 10 000."""

    def balanced(env):
        obs, _ = env.reset(seed=0)
        for steps in range(1, 701):
            obs, _, terminated, truncated, _ = env.step(int(obs @ np.array([0.1, 0.5, 4.0, 1.0]) > 0))
            if terminated or truncated:
                return steps
        return steps

    assert balanced(gym.make("CartPole-v1")) == 500
    assert balanced(gym.make("CartPole-v1", max_episode_steps=10_000)) == 700


# Targets


def test_a_maximum_over_forbidden_actions():
    """The one legal action pays 0 and leads back: worth 0. The forbidden one, never tried, keeps its first value of 1."""
    reward, discount, mask = T(0.0), T(0.9), T([True, False])

    def q(legal):
        return T([legal, 1.0])

    assert fixed_point(lambda v: targets.q_learning(reward, discount, q(v), mask).item()) == 0
    assert fixed_point(lambda v: targets.q_learning(reward, discount, q(v)).item()) == pytest.approx(0.9)


def test_single_targets_overestimate_noise_that_double_ones_do_not():
    """Four actions worth 0, estimated with errors of N(0, 1)."""
    g = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 100_000, 4, generator=g)
    zero, now = torch.zeros(100_000), torch.ones(100_000)
    assert targets.q_learning(zero, now, one).mean().item() == pytest.approx(1.03, abs=0.01)
    assert targets.double_q(zero, now, one, other).mean().item() == pytest.approx(0, abs=0.01)


def support_value(low, high, atoms):
    """What C51 learns of a reward of 1 for ever with gamma .99, and the mass on its last atom."""
    support = torch.linspace(low, high, atoms, dtype=torch.float64)
    mass = torch.full((atoms,), 1 / atoms, dtype=torch.float64)
    for _ in range(3_000):
        mass = targets.projected(1 + GAMMA * support, mass, support)
    return (mass @ support).item(), mass[-1].item()


def test_a_support_that_ends_before_the_returns_do():
    assert support_value(-10, 10, 51) == pytest.approx((10, 1), abs=1e-6)
    assert support_value(-100, 100, 101)[0] == pytest.approx(100)
    mean, _ = support_value(0, 500, 51)  # wide enough
    assert mean == pytest.approx(100)
    with pytest.raises(ValueError, match="The atoms range from -10 to 10"):
        rl.start("CartPole-v1", rl.DQN(distribution=rl.Atoms(-10, 10)))


def test_the_spread_that_a_wide_support_adds():
    """A return that is certain stays certain in no projection between atoms: its variance is the gap to both sides."""

    def deviation(low, high, atoms, value):
        support = torch.linspace(low, high, atoms, dtype=torch.float64)
        mass = targets.projected(T([value], dtype=torch.float64), torch.ones(1, dtype=torch.float64), support)
        mean = mass @ support
        return (mass @ (support - mean) ** 2).sqrt().item()

    assert deviation(0, 500, 51, 95.0) == pytest.approx(5.0)  # atoms at distances of 10
    assert deviation(-100, 100, 101, 95.0) == pytest.approx(1.0)
    assert deviation(0, 100, 51, 95.0) == pytest.approx(1.0)


def test_the_bonus_of_munchausen_without_its_lower_bound():
    """The action is worth 10 less than the best: alpha .9 times -1, or times -10."""

    def target(low):
        q = T([10.0, 0.0])
        return targets.munchausen(T(0.0), T(0.0), q, T(1), q, low=low).item()

    assert target(-1.0) == pytest.approx(-0.9)
    assert target(-1e3) == pytest.approx(-9.0)


# Losses


def test_squared_and_huber_errors_have_other_gradients_and_other_fixed_points():
    """A reward of 10 one time in ten, else 0: the mean is 1; the clipped error settles at 1/9."""
    error = T(10.0)
    assert losses.squared_grad(error).item() == 20
    assert losses.huber_grad(error).item() == 1
    reward, chance = T([0.0, 10.0]), T([0.9, 0.1])

    def settled(slope):
        return fixed_point(lambda q: q + 0.05 * (chance * slope(reward - q)).sum().item())

    assert settled(losses.squared_grad) == pytest.approx(1, abs=1e-4)
    assert settled(losses.huber_grad) == pytest.approx(1 / 9, abs=1e-4)


class Clip(torch.autograd.Function):
    """Leaves its input as it is, and clips the gradient that comes back."""

    @staticmethod
    def forward(ctx, x, bound):
        ctx.bound = bound
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.clamp(-ctx.bound, ctx.bound), None


def test_clipping_behind_the_importance_weight():
    """Bound 1/32 on the gradient of a mean over 32 rows: what is clipped to 1 is weight * error, not the error."""
    error, weight = torch.full((32,), 5.0), torch.full((32,), 0.1)
    x = error.clone().requires_grad_()
    (0.5 * Clip.apply(x, 1 / 32) ** 2 * weight).mean().backward()
    y = error.clone().requires_grad_()
    (losses.huber(y) * weight).mean().backward()
    torch.testing.assert_close(x.grad * 32, torch.full((32,), 0.5))
    torch.testing.assert_close(y.grad * 32, torch.full((32,), 0.1))
    x, y = (torch.full((32,), 5.0, requires_grad=True) for _ in range(2))  # without weights both are Huber's
    (0.5 * Clip.apply(x, 1 / 32) ** 2).mean().backward()
    losses.huber(y).mean().backward()
    torch.testing.assert_close(x.grad, y.grad)


def pairwise(predicted, sought, fraction, kappa):
    """|tau - 1{u < 0}| L_kappa(u) of all pairs [Z, M], undivided."""
    u = sought[None, :] - predicted[:, None]
    small = u.abs().clamp(max=kappa)
    return (fraction[:, None] - (u < 0).double()).abs() * small * (u.abs() - 0.5 * small)


def quantiles(z, m):
    g = torch.Generator().manual_seed(0)
    predicted, sought = (torch.randn(count, generator=g, dtype=torch.float64) for count in (z, m))
    return predicted.requires_grad_(), sought, (torch.arange(z, dtype=torch.float64) + 0.5) / z


@pytest.mark.parametrize("kappa", [0.5, 1.0, 2.0])
def test_the_quantile_loss_that_is_not_divided_by_kappa(kappa):
    predicted, sought, fraction = quantiles(5, 7)
    pairwise(predicted, sought, fraction, kappa).mean(1).sum().backward()
    _, slope = losses.quantile_huber(predicted.detach(), sought, fraction, kappa)
    torch.testing.assert_close(predicted.grad, kappa * slope)


def test_the_mean_over_the_predicted_and_the_sum_over_the_sought():
    """As many on both sides: the same. 8 predicted and 32 sought: four times the gradient. The sum over both: N times."""
    for z, m in ((8, 8), (8, 32), (32, 8)):
        predicted, sought, fraction = quantiles(z, m)
        pairs = pairwise(predicted, sought, fraction, 1.0)
        ours, _ = losses.quantile_huber(predicted.detach(), sought, fraction, 1.0)
        assert pairs.sum(1).mean(0).item() == pytest.approx(m / z * ours.item())
        assert pairs.sum().item() == pytest.approx(m * ours.item())


def test_the_logarithm_of_a_clipped_probability_has_no_gradient_where_it_is_needed():
    """The target lies on an atom that the network gives 1e-6: ours pulls by nearly 1 there, the clipped one by 0."""
    logits = T([math.log(1e-6), math.log1p(-1e-6)], dtype=torch.float64)
    x = logits.clone().requires_grad_()
    loss = -(T([1.0, 0.0]) * x.softmax(-1).clamp(1e-5, 1 - 1e-5).log()).sum()
    loss.backward()
    assert x.grad.tolist() == [0, 0]
    head = Categorical(0.0, 1.0, atoms=2)
    outputs = Outputs(*(part[None, None] for part in (logits, logits, logits)))
    batch = Batch(None, T([[0]]), T([[0.0]]).double(), T([[0.0]]).double(), None)
    gradient = head.loss(outputs, batch, False).gradient
    assert gradient[0, 0].tolist() == pytest.approx([-1, 1], abs=1e-5)


def test_probabilities_that_are_raised_to_a_thousandth_add_up_to_more_than_1():
    """51 atoms from 0 to 200: a certain return of 0 is worth 5.1 then, and a world that never pays 9.5."""
    support = torch.linspace(0, 200, 51, dtype=torch.float64)
    certain = torch.zeros(51, dtype=torch.float64)
    certain[0] = 1
    assert (certain.clamp(1e-3) @ support).item() == pytest.approx(5.1)
    assert certain.clamp(1e-3).sum().item() == pytest.approx(1.05)

    def learned(least):
        mass = certain
        for _ in range(2_000):
            target = targets.projected(GAMMA * support, mass.clamp(least), support)
            mass = target / target.sum()  # where the cross-entropy of a softmax is lowest
        return (mass.clamp(least) @ support).item()

    assert learned(0.0) == 0
    assert learned(1e-3) == pytest.approx(9.53, abs=0.01)


# Replay


def draws(priority, beta, u):
    """The leaves and weights that our replay draws."""
    total, least = sum_tree.make_trees(1, len(priority))
    sum_tree.fill(total, least, np.array([priority]))
    leaf, weight = np.zeros((1, len(u)), np.int64), np.zeros((1, len(u)))
    sum_tree.draw(total, least, np.array([u]), np.array([len(priority)]), beta, leaf, weight)
    return leaf[0], weight[0]


def test_weights_over_the_largest_of_the_batch_change_from_batch_to_batch():
    """Three transitions are four times as likely as the fourth. Drawn together with it they count 1/4, without it 1."""
    leaf, weight = draws([4.0, 4.0, 4.0, 1.0], 1.0, [0.1, 0.1])
    assert leaf.tolist() == [0, 1]
    assert weight.tolist() == pytest.approx([0.25, 0.25])
    assert (weight / weight.max()).tolist() == [1, 1]
    leaf, weight = draws([4.0, 4.0, 4.0, 1.0], 1.0, [0.1, 0.99])
    assert leaf.tolist() == [0, 3]
    assert (weight / weight.max()).tolist() == weight.tolist() == pytest.approx([0.25, 1])


def test_a_beta_that_stays_at_one_half_keeps_a_bias():
    """The weighted mean of drawn errors, against their mean in the buffer: the same with beta 1 alone."""
    error = np.array([0.01, 0.1, 1.0])

    def pull(beta):
        leaf, weight = draws(np.sqrt(error).tolist(), beta, np.full(1_000, 0.5))  # stratified: each by its share
        return (weight * error[leaf]).mean() / weight.mean() / error.mean()

    assert pull(1.0) == pytest.approx(1, abs=0.01)
    assert pull(0.5) == pytest.approx(1.52, abs=0.01)
    assert pull(0.0) == pytest.approx(1.97, abs=0.01)


def test_what_keeps_a_transition_without_an_error_alive():
    """1e-6 before the power .5 is 1e-3 of a transition with error 1; without it the transition is never drawn again."""

    def priorities(smallest):
        total, least = sum_tree.make_trees(1, 2)
        sum_tree.update_priorities(total, least, np.ones(1), np.array([[0, 1]]), np.array([[0.0, 1.0]]), 0.5, smallest)
        return total[0, 2:].tolist()

    assert priorities(1e-6) == pytest.approx([1e-3, 1], rel=1e-5)
    assert priorities(0.0) == [0, 1]
    leaf, _ = draws([0.0, 1.0], 1.0, np.linspace(0, 0.999, 1_000))
    assert (leaf == 1).all()


# Networks and their targets


def test_a_cosine_from_0_is_a_constant():
    fraction = torch.linspace(0, 1, 1001, dtype=torch.float64)[1:-1, None]
    from_0, from_1 = (torch.cos(math.pi * torch.arange(first, first + 64) * fraction) for first in (0, 1))
    assert (from_0[:, 0] == 1).all()
    assert from_1.std(0).min().item() > 0.7
    assert torch.equal(from_0[:, 1:], from_1[:, :-1])  # the others are the same but the last


def noise(kind, sigma, width, rng, count=20_000):
    """The noise of two outputs of a layer whose inputs are all 1: [count, 2]."""
    scale = sigma / math.sqrt(width)
    if kind == "independent":
        return scale * rng.standard_normal((count, width, 2)).sum(1)
    draw = rng.standard_normal((count, width + 2))
    while kind == "truncated" and (np.abs(draw) > 2).any():
        draw = np.where(np.abs(draw) > 2, rng.standard_normal(draw.shape), draw)
    f = np.sign(draw) * np.sqrt(np.abs(draw))
    return scale * f[:, :width].sum(1)[:, None] * f[:, width:]


def test_how_much_noise_a_noisy_layer_makes():
    rng = np.random.default_rng(0)
    layer = NoisyLinear(torch.nn.Linear(16, 2, bias=False))  # ours
    torch.nn.init.zeros_(layer.weight)
    made = []
    for draw in noise_of(torch.randn(4_000, 1, layer.drawn_size, generator=torch.Generator().manual_seed(0))):
        layer.numbers.value = draw
        made.append(layer(torch.ones(16)).detach())
    assert torch.stack(made).std().item() == pytest.approx(0.5 * math.sqrt(2 / math.pi), rel=0.05)
    factorized = noise("factorized", 0.5, 16, rng)
    assert factorized.std() == pytest.approx(0.5 * math.sqrt(2 / math.pi), rel=0.03)  # E|e| of each factor
    assert noise("factorized", 0.1, 16, rng).std() == pytest.approx(0.1 * math.sqrt(2 / math.pi), rel=0.03)
    independent = noise("independent", 0.5, 16, rng)
    assert independent.std() == pytest.approx(0.5, rel=0.03)
    inside = math.erf(math.sqrt(2))  # the share of a normal distribution within 2 standard deviations
    mean_size = math.sqrt(2 / math.pi) * (1 - math.exp(-2)) / inside
    assert noise("truncated", 0.1, 16, rng).std() == pytest.approx(0.1 * mean_size, rel=0.03)
    # Factorised noise of two outputs has its inputs' factors in common: the sizes go together.
    sizes = [np.corrcoef(*(both**2).T)[0, 1] for both in (factorized, independent)]
    assert sizes[0] > 0.1
    assert abs(sizes[1]) < 0.05


def test_a_target_network_renewed_by_steps_or_by_updates():
    """An update at every 4th step: 10 000 updates are 40 000 steps, in which a network renewed by steps is renewed four times."""

    def value(renewals):
        """Reward 1 for ever, gamma .99, each renewal learned to the end."""
        target = T(0.0, dtype=torch.float64)
        for _ in range(renewals):
            target = targets.q_learning(T(1.0).double(), T(GAMMA).double(), target[None])
        return target.item()

    steps = 4_000_000
    by_updates, by_steps = steps // 40_000, steps // 10_000
    assert value(by_updates) == pytest.approx(100 * (1 - GAMMA**100))  # 63
    assert value(by_steps) == pytest.approx(100 * (1 - GAMMA**400))  # 98


def test_ours_counts_updates():
    env = gym.make("CartPole-v1")
    agent = rl.DQN(network="mlp(4)", target_every_updates=2, update_every_steps=4, compiled=False).build(
        env.observation_space, env.action_space
    )
    obs = torch.rand(1, 8, 4, generator=torch.Generator().manual_seed(0))
    batch = Batch(obs, torch.zeros(1, 8, dtype=torch.int64), torch.ones(1, 8), torch.full((1, 8), GAMMA), obs)
    before = agent.target.flat.clone()
    changed = []
    for _ in range(4):
        agent.update(batch)
        changed.append(not torch.equal(before, agent.target.flat))
        before = agent.target.flat.clone()
    assert changed == [False, True, False, True]


def test_a_target_network_that_is_kept_but_not_used():
    """One weight, features 1 and 1.2, reward 0: each update multiplies it by 1.02, or each renewal, of 100 updates, by 1.19."""

    def after(updates, every):
        weight = target = 1.0
        for update in range(updates):
            target = weight if update % every == 0 else target
            next_q = T([1.2 * target], dtype=torch.float64)
            error = targets.q_learning(T(0.0, dtype=torch.float64), T(GAMMA, dtype=torch.float64), next_q) - weight
            weight += 0.1 * losses.squared_grad(error).item() / 2
        return weight

    assert after(1_000, 100) == pytest.approx(1.188**10, rel=1e-3)  # 5.6
    assert after(1_000, 1) == pytest.approx((1 + 0.1 * 0.188) ** 1_000)  # 1.2e8


def test_the_page_names_every_test_and_no_other():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "what-libraries-do.md").read_text()))
    there = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(), re.MULTILINE))
    assert named == there - {"test_the_page_names_every_test_and_no_other"}
