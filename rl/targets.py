"""What the value of an action should have been: pure functions of numbers, with any leading axes [...].

`discount` is gamma^k * (1 - terminated): a termination is a discount of 0, and what lies behind it is never read, not
even a NaN. A truncation keeps its discount, for the episode would have gone on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from supervised.validate import explained, number


def _behind(discount: Tensor, value: Tensor) -> Tensor:
    """discount * value, and 0 where the discount is 0 whatever stands there."""
    return torch.where(discount == 0, torch.zeros_like(value), discount * value)


@explained("tensors reward and discount [...], next_q [..., A] and next_mask bool [..., A] or None")
def q_learning(reward: Tensor, discount: Tensor, next_q: Tensor, next_mask: Tensor | None = None) -> Tensor:
    """r + discount * max_a Q(s', a). Watkins (1989); Sutton and Barto (2018), equation 6.8.

    reward, discount [...], next_q [..., A], next_mask bool [..., A] (actions allowed in s') -> [...].
    """
    return reward + _behind(discount, _masked(next_q, next_mask).amax(-1))


@explained(
    "tensors reward and discount [...], next_q_value and next_q_selector [..., A] and next_mask bool [..., A] or None"
)
def double_q(
    reward: Tensor, discount: Tensor, next_q_value: Tensor, next_q_selector: Tensor, next_mask: Tensor | None = None
) -> Tensor:
    """r + discount * Q_value(s', argmax_a Q_selector(s', a)). Van Hasselt, Guez and Silver (2016), equation 4.

    reward, discount [...], both q [..., A] -> [...].
    """
    best = _masked(next_q_selector, next_mask).argmax(-1, keepdim=True)
    return reward + _behind(discount, next_q_value.gather(-1, best).squeeze(-1))


@explained("tensors reward and discount [...], next_q and probability [..., A]")
def expected_sarsa(reward: Tensor, discount: Tensor, next_q: Tensor, probability: Tensor) -> Tensor:
    """r + discount * sum_a pi(a|s') Q(s', a). Sutton and Barto (2018), equation 6.9.

    reward, discount [...], next_q and probability [..., A] -> [...]. Actions of probability 0 are not read.
    """
    return reward + _behind(discount, _behind(probability, next_q).sum(-1))


@explained("tensors q [..., A] and mask bool [..., A] or None, and temperature, a number above 0")
def log_policy(q: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """temperature * ln pi(a) of the policy pi = softmax(q / temperature): [..., A] -> [..., A], -infinity where it is forbidden.

    Vieillard, Pietquin and Geist (2020), "Munchausen Reinforcement Learning", appendix B.1: by a log-sum-exp that subtracts the
    largest value first.
    """
    temperature = number(temperature, "temperature", 0.0, above=True)
    below = _masked(q, mask)
    below = below - below.amax(-1, keepdim=True)
    return below - temperature * torch.logsumexp(below / temperature, -1, keepdim=True)


@explained("tensors values and scaled_log_policy [..., A], and temperature, a number above 0")
def soft_value(values: Tensor, scaled_log_policy: Tensor, temperature: float) -> Tensor:
    """sum_a pi(a) (values(a) - temperature * ln pi(a)), where `log_policy` gave temperature * ln pi: [..., A] -> [...].

    Vieillard, Pietquin and Geist (2020), equation 1. Values of forbidden actions are not read.
    """
    temperature = number(temperature, "temperature", 0.0, above=True)
    return _behind((scaled_log_policy / temperature).exp(), values - scaled_log_policy).sum(-1)


@explained(
    "tensors reward and discount [...], own_q and next_q [..., A], action int64 [...], and masks bool [..., A] or None"
)
def munchausen(
    reward: Tensor,
    discount: Tensor,
    own_q: Tensor,
    action: Tensor,
    next_q: Tensor,
    alpha: float = 0.9,
    temperature: float = 0.03,
    low: float = -1.0,
    mask: Tensor | None = None,
    next_mask: Tensor | None = None,
) -> Tensor:
    """r + alpha [tau ln pi(a|s)]_low^0 + discount * sum_a' pi(a'|s') (Q(s', a') - tau ln pi(a'|s')), pi = softmax(Q / tau).

    Vieillard, Pietquin and Geist (2020), equation 2 with the clipping of section 3. own_q: values of s, next_q: of s', both
    [..., A] and of the target network. mask, next_mask: the actions allowed in s and s'. reward, discount [...] -> [...].
    """
    bonus = munchausen_bonus(own_q, action, alpha, temperature, low, mask)
    policy = log_policy(next_q, temperature, next_mask)
    return reward + bonus + _behind(discount, soft_value(next_q, policy, temperature))


@explained("tensors own_q [..., A] and action int64 [...], numbers, and mask bool [..., A] or None")
def munchausen_bonus(
    own_q: Tensor, action: Tensor, alpha: float, temperature: float, low: float, mask: Tensor | None = None
) -> Tensor:
    """alpha [tau ln pi(a|s)]_low^0: what `munchausen` adds to the reward, [..., A] and [...] -> [...]."""
    alpha, low = number(alpha, "alpha"), number(low, "low", high=0.0)
    policy = log_policy(own_q, temperature, mask)
    return alpha * policy.gather(-1, action[..., None]).squeeze(-1).clamp(low, 0.0)


@explained("tensors reward and discount [..., T], next_value [...]")
def n_step(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """r_0 + d_0 (r_1 + d_1 (... (r_{n-1} + d_{n-1} v))): the n-step return. Sutton and Barto (2018), equation 7.1.

    reward, discount [..., T], next_value [...] (the value after the last step) -> [...]. What follows a discount of 0
    is not read.
    """
    value = next_value
    for t in reversed(range(reward.shape[-1])):
        value = reward[..., t] + _behind(discount[..., t], value)
    return value


@explained("tensors reward, discount, ended and next_value [..., T] and lambda_ in [0, 1]")
def lambda_return(reward: Tensor, discount: Tensor, ended: Tensor, next_value: Tensor, lambda_: float) -> Tensor:
    """G_t = r_t + discount_t * ((1 - lambda) v_{t+1} + lambda G_{t+1}). Sutton and Barto (2018), equation 12.2.

    reward, discount, ended, next_value [..., T] -> [..., T]. `ended` is true where an episode terminated or was
    truncated after the step: there, and at the last step, G_t bootstraps from next_value alone.
    """
    lambda_ = number(lambda_, "lambda_", 0.0, 1.0)
    returns = torch.empty_like(reward)
    following = next_value[..., -1]
    for t in reversed(range(reward.shape[-1])):
        following = torch.where(ended[..., t].bool(), next_value[..., t], following)
        mixed = (1 - lambda_) * next_value[..., t] + lambda_ * following
        following = reward[..., t] + _behind(discount[..., t], mixed)
        returns[..., t] = following
    return returns


@explained("tensors values and probability [..., M] and support [Z], in rising order at equal distances")
def projected(values: Tensor, probability: Tensor, support: Tensor) -> Tensor:
    """A distribution of `probability` on `values` [..., M] -> probabilities [..., Z] on the atoms of a support.

    Each value's mass goes to the two atoms beside it, in proportion to how near they are; beyond the edges, to the edge.
    Bellemare, Dabney and Munos (2017), equation 7. An atom that is hit exactly gets all of the mass.
    """
    distance = support[1] - support[0]
    inside = values.clamp(support[0], support[-1])
    share = (1 - (inside[..., None, :] - support[:, None]).abs() / distance).clamp(min=0)  # [..., Z, M]
    return (share * probability[..., None, :]).sum(-1)


@explained("tensors value [...] and support [Z], and deviation, a number above 0")
def smeared(value: Tensor, support: Tensor, deviation: float) -> Tensor:
    """A normal distribution around value [...] -> probabilities [..., Z] of the bins whose centers are the atoms of a support.

    Imani and White (2018), section 3; Farebrother et al. (2024), "Stop Regressing", equation 4: cut to the bins, so that they add
    up to 1. Values beyond the edges count as on the edge.
    """
    deviation = number(deviation, "deviation", 0.0, above=True)
    half = (support[1] - support[0]) / 2
    edges = torch.cat([support - half, support[-1:] + half])
    inside = value.clamp(support[0], support[-1])
    below: Tensor = torch.special.erf((edges - inside[..., None]) / (deviation * math.sqrt(2.0)))
    mass = below.diff(dim=-1)
    return mass / (below[..., -1:] - below[..., :1])


RESCALING = 1e-3  # epsilon of `rescaled`, as published


@explained("a tensor x [...] and epsilon, a number above 0")
def rescaled(x: Tensor, epsilon: float = RESCALING) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x: values of any size in numbers that a network learns easily.

    Pohlen et al. (2018), "Observe and Look Further", section 3.2; Kapturowski et al. (2019), section 2.3. x [...] -> [...].
    """
    epsilon = number(epsilon, "epsilon", 0.0, above=True)
    return x.sign() * (x.abs() / ((x.abs() + 1).sqrt() + 1)) + epsilon * x


@explained("a tensor x [...] and epsilon, a number above 0")
def unscaled(x: Tensor, epsilon: float = RESCALING) -> Tensor:
    """The inverse of `rescaled` (Pohlen et al. 2018, proposition A.2), in a form that does not lose digits: [...] -> [...]."""
    epsilon = number(epsilon, "epsilon", 0.0, above=True)
    size = x.abs()
    # With s = sqrt(|y| + 1) - 1 for the y sought: epsilon s^2 + (1 + 2 epsilon) s = |x|, and |y| = s (s + 2).
    root = ((1 + 2 * epsilon) ** 2 + 4 * epsilon * size).sqrt()
    s = 2 * size / (root + 1 + 2 * epsilon)
    return x.sign() * s * (s + 2)


def _masked(q: Tensor, mask: Tensor | None) -> Tensor:
    return q if mask is None else q.masked_fill(~mask, -torch.inf)
