"""The losses of distributional heads as scalar loops, compiled by `rl.core.jit`; equal to torch's up to rounding.

In torch a categorical or quantile head takes a dozen passes over arrays [N, B, A, Z], and pairs of quantiles are [N, B, Z, Z].
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

HL_GAUSS = 0  # compile-time constant of `categorical_errors`, replaced by `jit`


def softmax(logits: Any, out: Any) -> Any:
    """Write softmax(logits), [Z], to out and return the logsumexp of the logits."""
    top = logits[0]
    for z in range(1, logits.shape[0]):
        if logits[z] > top or math.isnan(logits[z]):
            top = logits[z]
    total = np.float32(0)
    for z in range(logits.shape[0]):
        out[z] = math.exp(logits[z] - top)
        total += out[z]
    share = np.float32(1) / total
    for z in range(logits.shape[0]):
        out[z] = out[z] * share
    return top + np.float32(math.log(total))


def mean(p: Any, values: Any) -> Any:
    """Return the mean of values [Z] with probabilities p [Z]."""
    found = np.float32(0)
    for z in range(p.shape[0]):
        found += p[z] * values[z]
    return found


def categorical_q(y: Any, values: Any, q: Any, p: Any) -> None:
    """Write the Q-values of logits y [N, B, A, Z] over values [Z] to q [N, B, A]. p [Z]: buffer."""
    for k in range(y.shape[0]):
        for b in range(y.shape[1]):
            for a in range(y.shape[2]):
                softmax(y[k, b, a], p)
                q[k, b, a] = mean(p, values)


def best(q: Any) -> int:
    """Return the first index of the maximum of q [A]; NaN counts as the largest."""
    found = 0
    for a in range(1, q.shape[0]):
        if q[a] > q[found] or math.isnan(q[a]):
            found = a
    return found


def best_masses(choice: Any, next_y: Any, values: Any, double: bool, p: Any, room: Any) -> None:
    """Write the probabilities [Z] in next_y [A, Z] of the greedy action under choice [A, Z] to p. room [Z]: buffer."""
    most = np.float32(-np.inf)
    found = 0
    for a in range(choice.shape[0]):
        softmax(choice[a], room)
        value = mean(room, values)
        if a == 0 or value > most or math.isnan(value):
            most, found = value, a
            for z in range(room.shape[0]):
                p[z] = room[z]
    if double:
        softmax(next_y[found], p)


def smear(value: Any, values: Any, width: Any, target: Any) -> None:
    """Write the masses of bins around values [Z], under a normal distribution with mean value and deviation width, to target."""
    half = (values[1] - values[0]) / np.float32(2)
    inside = min(max(value, values[0]), values[-1])
    scale = width * math.sqrt(2.0)
    first = math.erf((values[0] - half - inside) / scale)
    below = first
    for z in range(values.shape[0]):
        above = math.erf((values[z] + half - inside) / scale)
        target[z] = above - below
        below = above
    for z in range(values.shape[0]):
        target[z] = target[z] / (below - first)


def project(reward: Any, discount: Any, p: Any, values: Any, target: Any) -> None:
    """Project masses p [Z] at reward + discount * values onto values [Z] (Bellemare, Dabney and Munos 2017, algorithm 1)."""
    step = (values[-1] - values[0]) / np.float32(values.shape[0] - 1)
    for z in range(values.shape[0]):
        target[z] = np.float32(0)
    for z in range(values.shape[0]):
        value = min(max(reward + discount * values[z], values[0]), values[-1])
        place = (value - values[0]) / step
        low = min(int(place), values.shape[0] - 2)
        share = place - np.float32(low)
        target[low] += p[z] * (np.float32(1) - share)
        target[low + 1] += p[z] * share


def categorical_errors(
    next_y: Any, choice: Any, double: bool, y: Any, action: Any, reward: Any, discount: Any, weight: Any, values: Any, width: Any,
    error: Any, td_error: Any, edge: Any, gradient: Any, p: Any, target: Any,
) -> bool:  # fmt: skip
    """Compute `Categorical.loss` for next_y, choice and y [N, B, A, Z]. Return False if an action does not exist.

    Writes error, td_error and edge mass [N, B], and the gradient of the mean loss into gradient [N, B, A, Z], which starts as
    zeros. double: whether choice differs from next_y. weight: [N, B], or [N, 0] for weights of 1. p, target [Z]: buffers.
    """
    atoms = values.shape[0]
    for k in range(y.shape[0]):
        for b in range(y.shape[1]):
            if not 0 <= action[k, b] < y.shape[2]:
                return False
            r, d = reward[k, b], discount[k, b]
            broken = not (math.isfinite(r) and math.isfinite(d))
            if broken:  # a NaN lies between no atoms, and an infinite target would be clipped to the last one
                r, d = np.float32(0), np.float32(0)
            if d != 0:
                best_masses(choice[k, b], next_y[k, b], values, double, p, target)
            else:
                p[:] = np.float32(1) / np.float32(atoms)
            if HL_GAUSS:
                smear(r + d * mean(p, values), values, width, target)
            else:
                project(r, d, p, values, target)
            broken = broken or math.isnan(p[0])
            logits, into = y[k, b, action[k, b]], gradient[k, b, action[k, b]]
            whole = softmax(logits, p)
            scale = np.float32(1) / np.float32(y.shape[1])
            if weight.shape[1]:
                scale = weight[k, b] * scale
            cost, difference = np.float32(0), np.float32(0)
            for z in range(atoms):
                cost += target[z] * (whole - logits[z])
                difference += (target[z] - p[z]) * values[z]
                into[z] = (p[z] - target[z]) * scale
            error[k, b], td_error[k, b] = cost, difference
            edge[k, b] = target[0] + target[atoms - 1]
            if broken:
                error[k, b], td_error[k, b] = np.float32(np.nan), np.float32(np.nan)
                into[:] = np.float32(np.nan)
    return True


def quantile_errors(
    next_y: Any, next_q: Any, y: Any, action: Any, reward: Any, discount: Any, weight: Any, kappa: Any, fraction: Any,
    error: Any, td_error: Any, gradient: Any, sought: Any, paid: Any,
) -> bool:  # fmt: skip
    """Compute `QuantileRegression.loss`, like `categorical_errors`, with next_q [N, B, A] and next_y [N, B, A, M].

    fraction: [N, B, Z], or [1, 1, Z] if shared. sought [M], paid [Z]: buffers.
    """
    z, most = y.shape[3], next_y.shape[3]
    one = np.float32(1)
    each = one / np.float32(most)
    for k in range(y.shape[0]):
        for b in range(y.shape[1]):
            if not 0 <= action[k, b] < y.shape[2]:
                return False
            total = np.float32(0)
            following = next_y[k, b, best(next_q[k, b])]
            for m in range(most):
                sought[m] = reward[k, b] + (discount[k, b] * following[m] if discount[k, b] != 0 else np.float32(0))
                total += sought[m]
            predicted, into = y[k, b, action[k, b]], gradient[k, b, action[k, b]]
            scale = one / np.float32(y.shape[1])
            if weight.shape[1]:
                scale = weight[k, b] * scale
            paid[:] = np.float32(0)
            at = fraction[min(k, fraction.shape[0] - 1), min(b, fraction.shape[1] - 1)]
            for m in range(most):
                pairs(sought[m], predicted, at, kappa, into, paid)
            cost, mean_predicted = np.float32(0), np.float32(0)
            for j in range(z):
                mean_predicted += predicted[j]
                cost += paid[j]
                into[j] = -into[j] * each * scale
            error[k, b], td_error[k, b] = cost * each, total * each - mean_predicted / np.float32(z)
            if not math.isfinite(cost):
                into[:] = np.float32(np.nan)
    return True


def pairs(sought: Any, predicted: Any, fraction: Any, kappa: Any, slope: Any, paid: Any) -> None:
    """Add the slopes and losses of one target against all predicted quantiles [Z] at fractions [Z] to slope and paid [Z]."""
    one, half = np.float32(1), np.float32(0.5)
    for j in range(predicted.shape[0]):
        u = sought - predicted[j]
        pull = one - fraction[j] if u < 0 else fraction[j]
        if kappa == 0:
            sign = one if u > 0 else (-one if u < 0 else np.float32(0))
            slope[j] += pull * sign
            paid[j] += pull * abs(u)
        else:
            u = u / kappa
            s = one if u > one else u
            s = -one if s < -one else s
            slope[j] += pull * s
            paid[j] += pull * s * (u - half * s) * kappa
