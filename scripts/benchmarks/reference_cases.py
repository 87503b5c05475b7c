"""Reference outputs of rlax and of the papers' formulas on random batches: the inputs of each case, and the outputs.

Every array begins with [K], one entry a batch; most go on with [B] rows. Inputs are numbers that float32 holds exactly, on coarse
grids, so that ties and atoms that are hit exactly are frequent. Values that must not be read, after a discount of 0, are NaN; the
references see 0 there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

Arrays = dict[str, np.ndarray]
DISCOUNTS = np.array([0.0, 0.5, 0.9, 0.99, 1.0], np.float32)
DQN_ZOO = "google-deepmind/dqn_zoo at 45061f4"
STEPS, ACTIONS = 6, 3  # of an episode that meets no state twice
LEAVES, DRAWS = 13, 8
SUPPORT = np.linspace(-4.0, 4.0, 17)
ALPHA, TEMPERATURE, LOWEST = 0.9, 0.25, -1.0  # of Munchausen's heads
LEARNED, SOUGHT, CHOSEN = 8, 6, 4  # fractions of implicit quantiles


@dataclass(frozen=True)
class Case:
    """source: where the numbers come from. inputs: (generator, K) -> arrays [K, ...]. reference: arrays [K, ...] of those."""

    source: str
    inputs: Callable[[Generator, int], Arrays]
    reference: Callable[[Arrays], Arrays]


CASES: dict[str, Case] = {}


def case(name: str, source: str, inputs: Callable[[Generator, int], Arrays]) -> Callable[[Any], Any]:
    """Register the decorated reference under this name."""

    def enter(reference: Callable[[Arrays], Arrays]) -> Callable[[Arrays], Arrays]:
        CASES[name] = Case(source, inputs, reference)
        return reference

    return enter


@functools.cache
def library() -> tuple[Any, Any, Any]:
    """Return rlax, jax and jax.numpy, in float64. Raise ValueError if they are not installed."""
    try:
        import jax
        import rlax
    except ImportError:
        raise ValueError(
            "rlax computes the references, but is not installed: `python -m pip install rlax`, preferably in a separate virtual"
            " environment that also contains this package."
        ) from None
    jax.config.update("jax_enable_x64", True)
    return rlax, jax, jax.numpy


def over(function: Callable[..., Any], *arrays: Any, depth: int = 2) -> Any:
    """Return `function` vmapped over the first `depth` axes of all arrays, in float64, with numpy outputs."""
    _, jax, _ = library()
    for _ in range(depth):
        function = jax.vmap(function)
    found = jax.jit(function)(*(x.astype(np.float64) if x.dtype.kind == "f" else x for x in arrays))
    return jax.tree_util.tree_map(np.asarray, found)


# Inputs


def grid(rng: Generator, shape: tuple[int, ...], span: float = 2.0, per_unit: int = 4) -> np.ndarray:
    """Return multiples of 1 / per_unit in [-span, span], float32."""
    return (rng.integers(-int(span * per_unit), int(span * per_unit) + 1, shape) / per_unit).astype(np.float32)


def masks(rng: Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return a random mask of allowed actions, with at least one allowed."""
    mask = rng.random(shape) < 0.6
    np.put_along_axis(mask, rng.integers(0, shape[-1], (*shape[:-1], 1)), True, -1)
    return mask


def shares(rng: Generator, shape: tuple[int, ...], among: np.ndarray | None = None) -> np.ndarray:
    """Return probabilities over the last axis in multiples of 1/64, some of them 0; 0 where `among` is false."""
    weight = rng.integers(1, 9, shape) * (rng.random(shape) < 0.7 if among is None else among)
    weight[..., 0] += weight.sum(-1) == 0
    return (rng.multinomial(64, weight / weight.sum(-1, keepdims=True)) / 64).astype(np.float32)


def unread(discount: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return values [..., X] with NaN where the discount [...] is 0."""
    return np.where(discount[..., None] == 0, np.float32(np.nan), values)


def seen(values: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Return values as the references read them: 0 for NaN, and -infinity for forbidden actions."""
    values = np.nan_to_num(values.astype(np.float64))
    return values if mask is None else np.where(mask, values, -np.inf)


def transitions(rng: Generator, k: int, rows: int = 8, actions: int = 4) -> Arrays:
    """Return rewards, discounts, masks and two sets of next values."""
    discount = rng.choice(DISCOUNTS, (k, rows))
    return {
        "reward": grid(rng, (k, rows)),
        "discount": discount,
        "next_q": unread(discount, grid(rng, (k, rows, actions))),
        "selector": unread(discount, grid(rng, (k, rows, actions), 1.0)),
        "mask": masks(rng, (k, rows, actions)),
    }


def with_own(rng: Generator, k: int) -> Arrays:
    """Return transitions with values, allowed actions and action of the first state, and the settings of each batch."""
    given = transitions(rng, k)
    own_mask = masks(rng, given["mask"].shape)
    return {
        **given,
        "own_q": grid(rng, own_mask.shape),
        "own_mask": own_mask,
        "action": (own_mask * rng.random(own_mask.shape)).argmax(-1),
        "temperature": np.resize(np.array([0.03, 0.5, 1.0], np.float32), k),
        "low": np.resize(np.array([-1.0, -0.5, -1000.0, -1.0], np.float32), k),
    }


def with_policy(rng: Generator, k: int) -> Arrays:
    """Return transitions with the probabilities of a policy that never takes forbidden actions, whose values are NaN."""
    given = transitions(rng, k)
    next_q = np.where(given["mask"], given["next_q"], np.float32(np.nan))
    probability = shares(rng, next_q.shape, given["mask"])
    return {"reward": given["reward"], "discount": given["discount"], "next_q": next_q, "probability": probability}


def sequences(rng: Generator, k: int, rows: int = 6, steps: int = 5) -> Arrays:
    """Return rewards and discounts over time; values after a discount of 0 are NaN."""
    discount = rng.choice(DISCOUNTS, (k, rows, steps), p=[0.1, 0.2, 0.3, 0.2, 0.2])
    alive = np.cumprod(np.concatenate([np.ones_like(discount[..., :1]), discount], -1), -1) != 0
    return {
        "reward": np.where(alive[..., :-1], grid(rng, discount.shape), np.float32(np.nan)),
        "discount": discount,
        "next_value": np.where(alive[..., -1], grid(rng, (k, rows)), np.float32(np.nan)),
    }


def trajectories(rng: Generator, k: int, rows: int = 6, steps: int = 6) -> Arrays:
    """Return rewards, discounts, episode ends and next values over consecutive episodes, and lambda of each batch."""
    terminated, truncated = rng.random((k, rows, steps)) < 0.15, rng.random((k, rows, steps)) < 0.15
    discount = np.where(terminated, np.float32(0), rng.choice(DISCOUNTS[1:], terminated.shape))
    return {
        "reward": grid(rng, discount.shape),
        "discount": discount,
        "ended": terminated | truncated,
        "next_value": unread(discount, grid(rng, (*discount.shape, 1)))[..., 0],
        "lambda": rng.choice(np.array([0.0, 0.5, 0.95, 1.0], np.float32), k),
    }


def distributions(rng: Generator, k: int, rows: int = 6) -> Arrays:
    """Return probabilities at places inside and outside SUPPORT, many of them exactly on an atom."""
    return {"values": grid(rng, (k, rows, 9), 8.0), "probability": shares(rng, (k, rows, 9))}


def values(rng: Generator, k: int) -> Arrays:
    """Return numbers of all magnitudes."""
    size = np.array([0.25, 1.0, 10.0, 1000.0], np.float32)
    return {"x": grid(rng, (k, 16), 2.0, 64) * np.tile(size, 4)}


def quantiles(rng: Generator, k: int, rows: int = 6) -> Arrays:
    """Quantiles of a prediction and samples of a target; kappa of each batch.

    Some are equal, but not with kappa 0: |u| has no derivative at 0, where jax says 1 and ours 0.
    """
    kappa = np.resize(np.array([0.0, 0.5, 1.0, 2.0], np.float32), k)
    return {
        "predicted": grid(rng, (k, rows, 5)),
        "sought": grid(rng, (k, rows, 7), 3.0) + np.where(kappa == 0, np.float32(0.125), 0)[:, None, None],
        "fraction": np.sort(rng.integers(1, 64, (k, rows, 5)) / 64, -1).astype(np.float32),
        "kappa": kappa,
    }


def classes(rng: Generator, k: int, rows: int = 6, count: int = 9) -> Arrays:
    """Return logits and soft targets, some of them 0."""
    return {"logits": grid(rng, (k, rows, count), 4.0, 16), "target": shares(rng, (k, rows, count))}


def head_batches(width: int, masked: bool, untied: bool, rng: Generator, k: int) -> Arrays:
    """What a head of `width` numbers for each of 3 actions learns from; in a third of the rows two actions are the same.

    untied: no target equals a prediction, so that the loss has a derivative everywhere.
    """
    rows, discount = 5, rng.choice(DISCOUNTS, (k, 5))
    y, next_y, choice = (grid(rng, (k, rows, ACTIONS, width), 2.0, 16) for _ in range(3))
    same = rng.random((k, rows)) < 1 / 3
    for part in (next_y, choice):
        part[same, 2] = part[same, 0]
    given = {
        "y": y.reshape(k, rows, -1),
        "next_y": unread(discount, next_y.reshape(k, rows, -1)),
        "choice": unread(discount, choice.reshape(k, rows, -1)),
        "action": rng.integers(0, ACTIONS, (k, rows)),
        "reward": grid(rng, (k, rows), 6.0) + np.float32(1 / 128 if untied else 0),
        "discount": discount,
        "weight": rng.integers(1, 65, (k, rows)).astype(np.float32) / 64,
    }
    return {**given, "mask": masks(rng, (k, rows, ACTIONS))} if masked else given


def soft_batches(width: int, masked: bool, rng: Generator, k: int) -> Arrays:
    """Return the same with the target network's outputs for the first state."""
    given = head_batches(width, masked, False, rng, k)
    return {**given, "own_y": grid(rng, given["y"].shape, 1.0, 16)}


def implicit_batches(rng: Generator, k: int) -> Arrays:
    """Return the inputs of a head of quantiles at sampled fractions, LEARNED, SOUGHT and CHOSEN of them."""
    given = head_batches(1, True, False, rng, k)
    rows = given["reward"].shape
    counts = {"y": LEARNED, "next_y": SOUGHT, "choice": CHOSEN}
    given |= {name: grid(rng, (*rows, ACTIONS, count), 2.0, 16) for name, count in counts.items()}
    for name in ("next_y", "choice"):
        given[name] = np.where(given["discount"][..., None, None] == 0, np.float32(np.nan), given[name])
    return {**given, "fraction": (rng.integers(1, 64, (*rows, LEARNED)) / 64).astype(np.float32)}


def episodes(rng: Generator, k: int, rows: int = 3) -> Arrays:
    """Episodes of STEPS steps through states 0, 1, ..., none met twice, cut short or, by a discount of 0, terminated.

    q [S, A] of all states, actions [S], rewards [T], the steps' own discounts [T].
    """
    terminated = rng.random((k, rows)) < 0.5
    q = grid(rng, (k, rows, STEPS + 1, ACTIONS))
    q[terminated, -1] = np.nan
    return {
        "q": q,
        "action": rng.integers(0, ACTIONS, (k, rows, STEPS + 1)),
        "reward": grid(rng, (k, rows, STEPS)),
        "scale": rng.choice(np.array([0.5, 1.0], np.float32), (k, rows, STEPS)),
        "terminated": terminated,
        "gamma": np.resize(np.array([0.9, 0.99, 1.0], np.float32), k),
        "lambda": np.resize(np.array([0.5, 0.9, 1.0, 0.75], np.float32), k),
    }


def priorities(rng: Generator, k: int) -> Arrays:
    """Return TD errors, some of them 0, and alpha of each batch."""
    return {
        "error": grid(rng, (k, 16), 3.0, 8),
        "alpha": np.resize(np.array([0.0, 0.5, 0.75, 1.0], np.float32), k),
    }


def drawings(rng: Generator, k: int) -> Arrays:
    """Return leaves, some of them empty, uniform numbers for sampling, and beta of each batch."""
    leaves = np.maximum(rng.integers(-8, 64, (k, LEAVES)), 0) / 16
    leaves[:, 0] += 1
    return {
        "leaves": leaves.astype(np.float32),
        "u": rng.integers(0, 64, (k, DRAWS)).astype(np.float32) / 64,
        "beta": np.resize(np.array([0.0, 0.4, 1.0], np.float32), k),
    }


def streams_of_steps(rng: Generator, k: int, steps: int = 24) -> Arrays:
    """Return steps of consecutive episodes; the last may be unfinished."""
    ending = rng.random((k, steps))
    return {
        "reward": grid(rng, (k, steps)),
        "terminated": ending < 0.15,
        "truncated": (ending >= 0.15) & (ending < 0.3),
    }


def windows(rng: Generator, k: int, rows: int = 4, steps: int = 5) -> Arrays:
    """Return TD errors of windows of 1 to `steps` steps, padded with NaN."""
    length = rng.integers(1, steps + 1, (k, rows))
    error = np.where(np.arange(steps) < length[..., None], grid(rng, (k, rows, steps), 3.0, 8), np.float32(np.nan))
    return {"error": error}


# Targets


@case("q_learning", "rlax.q_learning; forbidden actions are -infinity there", transitions)
def q_learning(given: Arrays) -> Arrays:
    rlax, _, jnp = library()

    def target(reward: Any, discount: Any, q: Any) -> Any:
        return rlax.q_learning(jnp.zeros(1), 0, reward, discount, q)

    reward, discount = given["reward"], given["discount"]
    return {
        "target": over(target, reward, discount, seen(given["next_q"])),
        "masked": over(target, reward, discount, seen(given["next_q"], given["mask"])),
    }


@case("double_q", "rlax.double_q_learning; forbidden actions are -infinity in the selector there", transitions)
def double_q(given: Arrays) -> Arrays:
    rlax, _, jnp = library()

    def target(reward: Any, discount: Any, q: Any, selector: Any) -> Any:
        return rlax.double_q_learning(jnp.zeros(1), 0, reward, discount, q, selector)

    first = given["reward"], given["discount"], seen(given["next_q"])
    return {
        "target": over(target, *first, seen(given["selector"])),
        "masked": over(target, *first, seen(given["selector"], given["mask"])),
    }


@case("expected_sarsa", "rlax.expected_sarsa; values of actions with probability 0 are 0 there", with_policy)
def expected_sarsa(given: Arrays) -> Arrays:
    rlax, _, jnp = library()

    def target(reward: Any, discount: Any, q: Any, probability: Any) -> Any:
        return rlax.expected_sarsa(jnp.zeros(1), 0, reward, discount, q, probability)

    parts = given["reward"], given["discount"], seen(given["next_q"]), given["probability"]
    return {"target": over(target, *parts)}


@case(
    "munchausen",
    "recomputed: Vieillard et al. (2020), equation 2, as r + alpha [tau ln pi]_low^0 + d tau ln sum exp(q / tau), with"
    " jax.nn.log_softmax and logsumexp; forbidden actions are -infinity there",
    with_own,
)
def munchausen(given: Arrays) -> Arrays:
    _, jax, jnp = library()

    def target(reward: Any, discount: Any, own_q: Any, action: Any, next_q: Any, tau: Any, low: Any) -> Any:
        bonus = ALPHA * jnp.clip(tau * jax.nn.log_softmax(own_q / tau)[action], low, 0.0)
        return reward + bonus + discount * tau * jax.nn.logsumexp(next_q / tau)

    rows = given["reward"].shape
    settings = (np.broadcast_to(given[name][:, None], rows) for name in ("temperature", "low"))
    tau, low = settings
    first = given["reward"], given["discount"]
    own, following = seen(given["own_q"]), seen(given["next_q"])
    masked = seen(given["own_q"], given["own_mask"]), given["action"], seen(given["next_q"], given["mask"])
    return {
        "target": over(target, *first, own, given["action"], following, tau, low),
        "masked": over(target, *first, *masked, tau, low),
    }


@case("n_step", "rlax.n_step_bootstrapped_returns, the first of each row, with n the row's length", sequences)
def n_step(given: Arrays) -> Arrays:
    rlax, _, jnp = library()

    def target(reward: Any, discount: Any, value: Any) -> Any:
        steps = reward.shape[0]
        return rlax.n_step_bootstrapped_returns(reward, discount, jnp.zeros(steps).at[-1].set(value), steps)[0]

    return {"target": over(target, seen(given["reward"]), given["discount"], seen(given["next_value"]))}


@case("lambda_return", "rlax.lambda_returns, with lambda 0 where an episode ended", trajectories)
def lambda_return(given: Arrays) -> Arrays:
    rlax, _, _ = library()
    mixing = given["lambda"][:, None, None] * ~given["ended"]
    return {"target": over(rlax.lambda_returns, given["reward"], given["discount"], seen(given["next_value"]), mixing)}


@case("projected", "rlax.categorical_l2_project on 17 atoms from -4 to 4", distributions)
def projected(given: Arrays) -> Arrays:
    rlax, _, jnp = library()
    support = jnp.asarray(SUPPORT)
    return {
        "mass": over(lambda z, p: rlax.categorical_l2_project(z, p, support), given["values"], given["probability"])
    }


@case(
    "smeared",
    "recomputed: Farebrother et al. (2024), equation 4, with math.erf, on 17 atoms from -4 to 4, deviation 0.375",
    lambda rng, k: {"value": grid(rng, (k, 8), 6.0, 16)},
)
def smeared(given: Arrays) -> Arrays:
    return {"mass": np.array([[bins(float(x), 0.375) for x in row] for row in given["value"]])}


def bins(value: float, deviation: float) -> list[float]:
    """Return the probabilities of a normal distribution in the bins around SUPPORT."""
    half = (SUPPORT[1] - SUPPORT[0]) / 2
    value = min(max(value, SUPPORT[0]), SUPPORT[-1])

    def below(x: float) -> float:
        return 0.5 * (1 + math.erf((x - value) / (deviation * math.sqrt(2))))

    whole = below(SUPPORT[-1] + half) - below(SUPPORT[0] - half)
    return [(below(z + half) - below(z - half)) / whole for z in SUPPORT]


@case("rescaled", "rlax.signed_hyperbolic and rlax.signed_parabolic, epsilon 1e-3", values)
def rescaled(given: Arrays) -> Arrays:
    rlax, _, _ = library()
    return {"h": over(rlax.signed_hyperbolic, given["x"]), "inverse": over(rlax.signed_parabolic, given["x"] / 8)}


@case("r2d2_target", "rlax.transformed_n_step_q_learning with SIGNED_HYPERBOLIC_PAIR, the first of each row", sequences)
def r2d2_target(given: Arrays) -> Arrays:
    rlax, _, jnp = library()

    def target(reward: Any, discount: Any, value: Any) -> Any:
        steps, pair = reward.shape[0], rlax.SIGNED_HYPERBOLIC_PAIR
        first, future = jnp.zeros((steps, 1)), jnp.zeros((steps, 1)).at[-1].set(value)
        action = jnp.zeros(steps, int)
        parts = first, action, future, action, reward, discount
        return rlax.transformed_n_step_q_learning(*parts, n=steps, tx_pair=pair)[0]

    return {"target": over(target, seen(given["reward"]), given["discount"], seen(given["next_value"]))}


# Losses


@case("squared", "2 rlax.l2_loss, and its derivative by jax.grad", values)
def squared(given: Arrays) -> Arrays:
    rlax, jax, _ = library()
    return pair_of(lambda x: 2 * rlax.l2_loss(x), jax.grad, given["x"] / 8)


@case("huber", "rlax.huber_loss, and its derivative by jax.grad", values)
def huber(given: Arrays) -> Arrays:
    rlax, jax, _ = library()
    return pair_of(rlax.huber_loss, jax.grad, given["x"])


@case("clipped", "the derivative by jax.grad of rlax.l2_loss(rlax.clip_gradient(x, -1, 1))", values)
def clipped(given: Arrays) -> Arrays:
    rlax, jax, _ = library()
    return {"slope": over(jax.grad(lambda x: rlax.l2_loss(rlax.clip_gradient(x, -1.0, 1.0))), given["x"])}


def pair_of(loss: Callable[[Any], Any], grad: Callable[[Any], Any], x: np.ndarray) -> Arrays:
    """Return a loss and its derivative."""
    return {"loss": over(loss, x), "slope": over(grad(loss), x)}


@case(
    "quantile_huber",
    "rlax.quantile_regression_loss, divided by kappa where that is above 0, and its derivative by jax.grad",
    quantiles,
)
def quantile_huber(given: Arrays) -> Arrays:
    rlax, jax, _ = library()
    found = []
    for i, kappa in enumerate(given["kappa"].tolist()):
        loss = quantile_loss(rlax, kappa)
        parts = [given[name][i] for name in ("predicted", "fraction", "sought")]
        found.append(over(jax.value_and_grad(loss), *parts, depth=1))
    return {"loss": np.array([loss for loss, _ in found]), "slope": np.array([slope for _, slope in found])}


@functools.cache
def quantile_loss(rlax: Any, kappa: float) -> Callable[..., Any]:
    """Return the function (predicted, fraction, sought) -> quantile loss, with the Huber loss divided by kappa."""

    def loss(predicted: Any, fraction: Any, sought: Any) -> Any:
        return rlax.quantile_regression_loss(predicted, fraction, sought, kappa) / (kappa or 1.0)

    return loss


@case("cross_entropy", "rlax.categorical_cross_entropy, and its derivative by jax.grad", classes)
def cross_entropy(given: Arrays) -> Arrays:
    rlax, jax, _ = library()

    def loss(logits: Any, target: Any) -> Any:
        return rlax.categorical_cross_entropy(target, logits)

    cost, slope = over(jax.value_and_grad(loss), given["logits"], given["target"])
    return {"loss": cost, "slope": slope}


# Heads


def learned(loss: Callable[..., Any], given: Arrays, *, width: int) -> tuple[Any, Arrays]:
    """Return the losses of rows and the gradient of their weighted mean. `loss` returns (loss, TD error) of one row."""
    _, jax, _ = library()
    mask = given["mask"][..., None] if "mask" in given else None
    shape = (*given["reward"].shape, ACTIONS, width)
    y, next_y, choice = (seen(given[name].reshape(shape)) for name in ("y", "next_y", "choice"))
    allowed = np.ones(shape, bool) if mask is None else np.broadcast_to(mask, shape)

    def whole(y: Any, weight: Any, *rest: Any) -> Any:
        cost, more = jax.vmap(loss)(y, *rest)
        return (cost * weight).mean(), (cost, more)

    parts = y, given["weight"], given["action"], given["reward"], given["discount"], next_y, choice, allowed
    parts += (given["own_y"].reshape(shape),) if "own_y" in given else ()
    (_, (cost, more)), gradient = over(jax.value_and_grad(whole, has_aux=True), *parts, depth=1)
    return cost, {"gradient": gradient.reshape(*shape[:2], -1), "td_error": more}


def scalar(cost: str, rescale: bool) -> Callable[[Arrays], Arrays]:
    """Double Q-learning with a loss of the TD error, of values or of rescaled values."""

    def reference(given: Arrays) -> Arrays:
        rlax, jax, jnp = library()
        pair = rlax.SIGNED_HYPERBOLIC_PAIR if rescale else rlax.IDENTITY_PAIR
        loss_of = {"huber": rlax.huber_loss, "squared": lambda x: 2 * rlax.l2_loss(x)}[cost]

        def loss(y: Any, a: Any, r: Any, d: Any, next_y: Any, choice: Any, allowed: Any) -> Any:
            best = jnp.where(allowed[:, 0], choice[:, 0], -jnp.inf).argmax()
            parts = y[None, :, 0], a[None], next_y[None, :, 0], best[None], r[None], d[None]
            error = rlax.transformed_n_step_q_learning(*parts, n=1, tx_pair=pair)[0]
            return loss_of(error), jax.lax.stop_gradient(error)

        return learned(loss, given, width=1)[1]

    return reference


def categorical(rescale: bool) -> Callable[[Arrays], Arrays]:
    """C51 with double Q-learning; with rescaled values each atom goes through h."""

    def reference(given: Arrays) -> Arrays:
        rlax, jax, jnp = library()
        support = jnp.asarray(SUPPORT)
        worth = rlax.signed_parabolic(support) if rescale else support

        def loss(y: Any, a: Any, r: Any, d: Any, next_y: Any, choice: Any, allowed: Any) -> Any:
            mean = (jax.nn.softmax(choice) * worth).sum(-1)
            selector = jnp.where(allowed[:, 0], mean, -jnp.inf)
            place = r + d * worth
            place = rlax.signed_hyperbolic(place) if rescale else place
            target = rlax.categorical_l2_project(place, jax.nn.softmax(next_y[selector.argmax()]), support)
            if rescale:
                cost = rlax.categorical_cross_entropy(target, y[a])
            else:
                cost = rlax.categorical_double_q_learning(support, y, a, r, d, support, next_y, selector)
            difference = ((target - jax.nn.softmax(y[a])) * worth).sum()
            return cost, jax.lax.stop_gradient(difference)

        cost, found = learned(loss, given, width=len(SUPPORT))
        return {**found, "priority": cost}

    return reference


def hl_gauss(given: Arrays) -> Arrays:
    """The cross-entropy with a normal distribution around the scalar target, in numpy."""
    rows, width = given["reward"].shape, len(SUPPORT)
    gradient = np.zeros((*rows, ACTIONS, width))
    error, priority = np.zeros(rows), np.zeros(rows)
    y, next_y, choice = (seen(given[x]).reshape(*rows, ACTIONS, width) for x in ("y", "next_y", "choice"))
    for k, b in np.ndindex(rows):
        a, r, d = (given[name][k, b] for name in ("action", "reward", "discount"))
        best = (soft(choice[k, b]) * SUPPORT).sum(-1).argmax()
        target = bins(float(r) + float(d) * float(soft(next_y[k, b, best]) @ SUPPORT), 0.75 * 0.5)
        p = soft(y[k, b, a])
        gradient[k, b, a] = (p - target) * float(given["weight"][k, b]) / rows[1]
        error[k, b] = (target - p) @ SUPPORT
        priority[k, b] = -(target * np.log(p)).sum()
    return {"gradient": gradient.reshape(*rows, -1), "td_error": error, "priority": priority}


def soft_policy(q: Any, allowed: Any) -> tuple[Any, Any]:
    """Return pi and tau ln pi of values [A], the latter 0 for forbidden actions."""
    _, jax, jnp = library()
    logits = jnp.where(allowed, q / TEMPERATURE, -jnp.inf)
    return jax.nn.softmax(logits), jnp.where(allowed, TEMPERATURE * jax.nn.log_softmax(logits), 0.0)


def bonus(own_q: Any, a: Any) -> Any:
    """Return Munchausen's bonus to the reward from the values [A] of the first state, with all actions allowed."""
    _, _, jnp = library()
    return ALPHA * jnp.clip(soft_policy(own_q, True)[1][a], LOWEST, 0.0)


def soft_scalar(given: Arrays) -> Arrays:
    """Munchausen's target and the Huber loss."""
    rlax, jax, _ = library()

    def loss(y: Any, a: Any, r: Any, d: Any, next_y: Any, choice: Any, allowed: Any, own: Any) -> Any:
        pi, scaled = soft_policy(choice[:, 0], allowed[:, 0])
        error = r + bonus(own[:, 0], a) + d * (pi * (next_y[:, 0] - scaled)).sum() - y[a, 0]
        return rlax.huber_loss(error), jax.lax.stop_gradient(error)

    return learned(loss, given, width=1)[1]


def soft_categorical(given: Arrays) -> Arrays:
    """Munchausen's target of a distribution: that of an action sampled from pi, minus its tau ln pi."""
    rlax, jax, jnp = library()
    support = jnp.asarray(SUPPORT)

    def loss(y: Any, a: Any, r: Any, d: Any, next_y: Any, choice: Any, allowed: Any, own: Any) -> Any:
        pi, scaled = soft_policy((jax.nn.softmax(choice) * support).sum(-1), allowed[:, 0])
        gain = r + bonus((jax.nn.softmax(own) * support).sum(-1), a)
        places, mass = gain + d * (support - scaled[:, None]), pi[:, None] * jax.nn.softmax(next_y)
        target = rlax.categorical_l2_project(places.ravel(), mass.ravel(), support)
        difference = ((target - jax.nn.softmax(y[a])) * support).sum()
        return rlax.categorical_cross_entropy(target, y[a]), jax.lax.stop_gradient(difference)

    cost, found = learned(loss, given, width=len(SUPPORT))
    return {**found, "priority": cost}


def soft_quantile(given: Arrays) -> Arrays:
    """Munchausen's target of quantiles, averaged under pi fraction by fraction."""
    rlax, jax, jnp = library()
    tau = jnp.asarray((np.arange(7) + 0.5) / 7)

    def loss(y: Any, a: Any, r: Any, d: Any, next_y: Any, choice: Any, allowed: Any, own: Any) -> Any:
        pi, scaled = soft_policy(choice.mean(1), allowed[:, 0])
        sought = r + bonus(own.mean(1), a) + d * (pi[:, None] * (next_y - scaled[:, None])).sum(0)
        error = sought.mean() - y[a].mean()
        return rlax.quantile_regression_loss(y[a], tau, sought, 1.0), jax.lax.stop_gradient(error)

    cost, found = learned(loss, given, width=7)
    return {**found, "priority": cost}


@case(
    "implicit",
    "rlax.quantile_q_learning, kappa 1, at fractions of each row; the gradient of the weighted mean by jax.grad",
    implicit_batches,
)
def implicit(given: Arrays) -> Arrays:
    rlax, jax, jnp = library()

    def loss(y: Any, tau: Any, a: Any, r: Any, d: Any, next_y: Any, choice: Any, allowed: Any) -> Any:
        chosen = jnp.where(allowed[:, None], choice, -jnp.inf)
        cost = rlax.quantile_q_learning(y.T, tau, a, r, d, chosen.T, next_y.T, 1.0)
        error = rlax.double_q_learning(y.mean(1), a, r, d, next_y.mean(1), chosen.mean(1))
        return cost, jax.lax.stop_gradient(error)

    def whole(y: Any, weight: Any, *rest: Any) -> Any:
        cost, error = jax.vmap(loss)(y, *rest)
        return (cost * weight).mean(), (cost, error)

    values = (seen(given[name]) for name in ("y", "next_y", "choice"))
    y, next_y, choice = values
    parts = y, given["weight"], given["fraction"], given["action"], given["reward"], given["discount"], next_y, choice
    found = over(jax.value_and_grad(whole, has_aux=True), *parts, given["mask"], depth=1)
    (_, (cost, error)), gradient = found
    return {"gradient": gradient, "td_error": error, "priority": cost}


def soft(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis."""
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def quantile(kappa: float) -> Callable[[Arrays], Arrays]:
    """QR-DQN with double Q-learning."""

    def reference(given: Arrays) -> Arrays:
        rlax, jax, jnp = library()
        tau = jnp.asarray((np.arange(7) + 0.5) / 7)

        def loss(y: Any, a: Any, r: Any, d: Any, next_y: Any, choice: Any, allowed: Any) -> Any:
            chosen = jnp.where(allowed, choice, -jnp.inf)
            cost = rlax.quantile_q_learning(y.T, tau, a, r, d, chosen.T, next_y.T, kappa) / (kappa or 1.0)
            error = rlax.double_q_learning(y.mean(1), a, r, d, next_y.mean(1), chosen.mean(1))
            return cost, jax.lax.stop_gradient(error)

        cost, found = learned(loss, given, width=7)
        return {**found, "priority": cost}

    return reference


def enter_heads() -> None:
    """Register all heads, with and without masks."""
    double = "rlax.transformed_n_step_q_learning with n = 1"
    by_grad = "the gradient of the weighted mean by jax.grad"
    atoms, seven = len(SUPPORT), 7
    logits = "rlax.signed_hyperbolic, categorical_l2_project and categorical_cross_entropy"
    both = "rlax.quantile_q_learning, divided by kappa, and rlax.double_q_learning"
    # name: source, numbers for each action, reference, whether there is one with masks
    parts: dict[str, tuple[str, int, Callable[[Arrays], Arrays], bool]] = {
        "scalar": (f"{double} and rlax.huber_loss; {by_grad}", 1, scalar("huber", False), True),
        "scalar_squared": (f"{double} and rlax.l2_loss; {by_grad}", 1, scalar("squared", False), False),
        "scalar_rescaled": (f"{double}, SIGNED_HYPERBOLIC_PAIR; {by_grad}", 1, scalar("huber", True), True),
        "categorical": (f"rlax.categorical_double_q_learning; {by_grad}", atoms, categorical(False), True),
        "categorical_rescaled": (f"{logits}; {by_grad}", atoms, categorical(True), False),
        "hl_gauss": ("recomputed: Farebrother et al. (2024), equation 4, in numpy", atoms, hl_gauss, False),
        "quantile": (f"{both}, kappa 1; {by_grad}", seven, quantile(1.0), True),
        "quantile_straight": (f"{both}, kappa 0; {by_grad}", seven, quantile(0.0), False),
    }
    for name, (source, width, reference, masked) in parts.items():
        untied = name == "quantile_straight"
        case(name, source, functools.partial(head_batches, width, False, untied))(reference)
        if masked:
            case(f"{name}_masked", source, functools.partial(head_batches, width, True, untied))(reference)


enter_heads()


def enter_soft_heads() -> None:
    """Register the heads with Munchausen's target, with and without masks."""
    parts: dict[str, tuple[str, int, Callable[[Arrays], Arrays]]] = {
        "scalar": ("rlax.huber_loss", 1, soft_scalar),
        "categorical": ("rlax.categorical_l2_project and categorical_cross_entropy", len(SUPPORT), soft_categorical),
        "quantile": ("rlax.quantile_regression_loss, kappa 1", 7, soft_quantile),
    }
    for name, (source, width, reference) in parts.items():
        whole = f"recomputed: Vieillard et al. (2020), equation 2 and appendix B.2, with jax.nn.log_softmax; {source}"
        for masked in (False, True):
            inputs = functools.partial(soft_batches, width, masked)
            case(f"{name}_munchausen{'_masked' * masked}", whole, inputs)(reference)


enter_soft_heads()


# Returns of tables, which see no state twice: with a step size of 1 the pairs hold the returns at the episode's end


def discounts(given: Arrays) -> np.ndarray:
    """Return gamma * the step's own discount, 0 after a termination, [K, B, T]."""
    discount = given["gamma"][:, None, None].astype(np.float64) * given["scale"]
    discount[..., -1] *= ~given["terminated"]
    return discount


def following(given: Arrays) -> np.ndarray:
    """Return Q(s', a') of each step, [K, B, T]."""
    return np.take_along_axis(seen(given["q"]), given["action"][..., None], -1)[..., 1:, 0]


@case("table_n_step_sarsa", "rlax.n_step_bootstrapped_returns, n = 3", episodes)
def table_n_step(given: Arrays) -> Arrays:
    rlax, _, _ = library()
    function = functools.partial(rlax.n_step_bootstrapped_returns, n=3)
    return {"learned": over(function, given["reward"], discounts(given), following(given))}


@case("table_monte_carlo", "rlax.discounted_returns, with Q(s', a') after an episode that was truncated", episodes)
def table_monte_carlo(given: Arrays) -> Arrays:
    rlax, _, _ = library()
    return {"learned": over(rlax.discounted_returns, given["reward"], discounts(given), following(given)[..., -1])}


@case("table_sarsa_lambda", "rlax.sarsa_lambda", episodes)
def table_sarsa_lambda(given: Arrays) -> Arrays:
    rlax, _, jnp = library()

    def target(reward: Any, discount: Any, q: Any, action: Any, lambda_: Any) -> Any:
        zeros = jnp.zeros((STEPS, ACTIONS)), action[:-1]
        return rlax.sarsa_lambda(*zeros, reward, discount, q[1:], action[1:], lambda_)

    rest = seen(given["q"]), given["action"], spread(given["lambda"], given["reward"])
    return {"learned": over(target, given["reward"], discounts(given), *rest)}


@case("table_q_lambda", "rlax.q_lambda, with lambda 0 where the next action is not greedy (Watkins)", episodes)
def table_q_lambda(given: Arrays) -> Arrays:
    rlax, _, jnp = library()
    q = seen(given["q"])[..., 1:, :]
    mixing = given["lambda"][:, None, None] * (following(given) == q.max(-1))

    def target(reward: Any, discount: Any, q: Any, action: Any, lambda_: Any) -> Any:
        return rlax.q_lambda(jnp.zeros((STEPS, ACTIONS)), action[:-1], reward, discount, q, lambda_)

    return {"learned": over(target, given["reward"], discounts(given), q, given["action"], mixing)}


@case(
    "table_tree_backup",
    "rlax.general_off_policy_returns_from_action_values, c the greedy policy's probability of the action",
    episodes,
)
def table_tree_backup(given: Arrays) -> Arrays:
    rlax, _, _ = library()
    q, action = seen(given["q"])[..., 1:, :], given["action"][..., 1:]
    best = q == q.max(-1, keepdims=True)
    greedy = best / best.sum(-1, keepdims=True)
    taken = np.take_along_axis(greedy, action[..., None], -1)[..., 0]
    function = rlax.general_off_policy_returns_from_action_values
    return {"learned": over(function, q, action, given["reward"], discounts(given), taken, greedy)}


@case("table_td", "rlax.q_learning, sarsa, expected_sarsa with rlax.epsilon_greedy(0.25), double_q_learning", episodes)
def table_td(given: Arrays) -> Arrays:
    rlax, _, _ = library()
    q, action = seen(given["q"]), given["action"]
    steps = q[..., :-1, :], action[..., :-1], given["reward"], discounts(given), q[..., 1:, :], action[..., 1:]

    def errors(q: Any, a: Any, reward: Any, discount: Any, next_q: Any, next_a: Any) -> Any:
        probability = rlax.epsilon_greedy(0.25).probs(next_q)
        first = q, a, reward, discount, next_q
        return {
            "q_learning": rlax.q_learning(*first),
            "sarsa": rlax.sarsa(*first, next_a),
            "expected_sarsa": rlax.expected_sarsa(*first, probability),
            "double_q": rlax.double_q_learning(q, a, reward, discount, -next_q, next_q),
        }

    found: Arrays = over(errors, *steps, depth=3)
    return found


def spread(number: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Broadcast [K] to [K, B, T]."""
    return np.broadcast_to(number[:, None, None], like.shape)


CASES["linear_sarsa_lambda"] = CASES["table_sarsa_lambda"]


# Replay


@case("priority", "recomputed: Schaul et al. (2016), section 3.3, (|error| + 1e-6) ** alpha, in numpy", priorities)
def priority(given: Arrays) -> Arrays:
    return {"priority": (np.abs(given["error"].astype(np.float64)) + 1e-6) ** given["alpha"][:, None]}


@case(
    "draw",
    f"recomputed: {DQN_ZOO}, dqn_zoo/replay.py (SumTree.query; importance_sampling_weights, normalized), in numpy;"
    " draws are stratified as in Schaul et al. (2016), appendix B.2.1",
    drawings,
)
def draw(given: Arrays) -> Arrays:
    leaf, weight = np.zeros(given["u"].shape, np.int64), np.zeros(given["u"].shape)
    for k, (leaves, u, beta) in enumerate(
        zip(given["leaves"].astype(np.float64), given["u"], given["beta"], strict=True)
    ):
        whole, count = leaves.sum(), (leaves > 0).sum()
        leaf[k] = np.searchsorted(np.cumsum(leaves), (np.arange(DRAWS) + u) / DRAWS * whole, "right")
        weight[k] = ((1 / count) / (leaves[leaf[k]] / whole)) ** float(beta)
        weight[k] /= weight[k].max()
    return {"leaf": leaf, "weight": weight}


@case(
    "fold",
    f"recomputed: {DQN_ZOO}, dqn_zoo/replay.py (NStepTransitionAccumulator), n = 3 and gamma 0.9, in numpy; NaN: no sample yet",
    streams_of_steps,
)
def fold(given: Arrays) -> Arrays:
    returns, discount, end = (np.full(given["reward"].shape, np.nan) for _ in range(3))
    for k in range(len(returns)):
        waiting: list[int] = []
        for t in range(returns.shape[1]):
            waiting.append(t)
            over_ = bool(given["terminated"][k, t] or given["truncated"][k, t])
            ready = waiting if over_ else waiting[:1] * (len(waiting) == 3)
            for start in ready:
                total, factor = 0.0, 1.0
                for i in range(start, t + 1):
                    total += factor * float(given["reward"][k, i])
                    factor *= 0.0 if given["terminated"][k, i] else 0.9
                returns[k, start], discount[k, start], end[k, start] = total, factor, t
            waiting = [] if over_ else waiting[len(ready) :]
    return {"returns": returns, "discount": discount, "end": end}


@case(
    "mixed_priority",
    "recomputed: Kapturowski et al. (2019), section 2.3, 0.9 max |error| + 0.1 mean |error| of each window, in numpy",
    windows,
)
def mixed_priority(given: Arrays) -> Arrays:
    size = np.abs(given["error"].astype(np.float64))
    return {"priority": 0.9 * np.nanmax(size, -1) + 0.1 * np.nanmean(size, -1)}
