"""This package's outputs for the inputs of `reference_cases`: for each case a function (inputs, dtype) -> arrays [K, ...]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

import rl
from rl import losses, targets
from rl.core.types import Batch
from rl.deep.heads.bootstrap import SoftPolicy
from rl.deep.heads.categorical import Categorical
from rl.deep.heads.head import Fractions, Head, Outputs
from rl.deep.heads.implicit import Implicit
from rl.deep.heads.quantile import Quantile
from rl.deep.heads.scalar import Scalar
from rl.deep.replay import sum_tree
from rl.deep.sequence_learner import mixed_priority
from rl.explore import EPSILON_GREEDY
from rl.linear import sarsa as linear
from rl.tabular import double_q, monte_carlo, n_step, q_learning, sarsa, traces
from rl.tabular.agent import QTable, TabularConfig, Transition
from supervised import Streams
from supervised.losses import cross_entropy, cross_entropy_slope

Arrays = dict[str, np.ndarray]
Ours = Callable[[Arrays, type[np.floating[Any]]], Arrays]
SUPPORT = (-4.0, 4.0, 17)

OURS: dict[str, Ours] = {}  # what computes in float64 and in float32, as it is asked
OWN: dict[str, Ours] = {}  # what has a precision of its own: tables in float64, the replay's samples in float32


def tensors(given: Arrays, dtype: Any, *names: str) -> list[Tensor]:
    """Return the named inputs as tensors of this precision."""
    return [torch.from_numpy(x.astype(dtype) if x.dtype.kind == "f" else x) for x in (given[name] for name in names)]


def arrays(**found: Tensor) -> Arrays:
    """Return tensors as arrays."""
    return {name: tensor.numpy() for name, tensor in found.items()}


def ours(function: Ours) -> Ours:
    """Register a function by its name."""
    OURS[function.__name__] = function
    return function


@ours
def q_learning_(given: Arrays, dtype: Any) -> Arrays:
    parts = tensors(given, dtype, "reward", "discount", "next_q", "mask")
    return arrays(target=targets.q_learning(*parts[:3]), masked=targets.q_learning(*parts))


@ours
def double_q_(given: Arrays, dtype: Any) -> Arrays:
    parts = tensors(given, dtype, "reward", "discount", "next_q", "selector", "mask")
    return arrays(target=targets.double_q(*parts[:4]), masked=targets.double_q(*parts))


@ours
def expected_sarsa(given: Arrays, dtype: Any) -> Arrays:
    return arrays(target=targets.expected_sarsa(*tensors(given, dtype, "reward", "discount", "next_q", "probability")))


@ours
def munchausen(given: Arrays, dtype: Any) -> Arrays:
    names = ("reward", "discount", "own_q", "action", "next_q", "own_mask", "mask")
    parts = tensors(given, dtype, *names)
    found: dict[str, list[Tensor]] = {"target": [], "masked": []}
    for k, (tau, low) in enumerate(zip(given["temperature"], given["low"], strict=True)):
        *plain, mask, next_mask = (x[k] for x in parts)
        settings = {"alpha": 0.9, "temperature": float(tau), "low": float(low)}
        found["target"].append(targets.munchausen(*plain, **settings))
        # In its parts, as heads put it together.
        reward, discount, own_q, action, next_q = plain
        bonus = targets.munchausen_bonus(own_q, action, **settings, mask=mask)
        policy = targets.log_policy(next_q, float(tau), next_mask)
        parted = bonus + torch.where(discount == 0, 0.0, discount * targets.soft_value(next_q, policy, float(tau)))
        whole = targets.munchausen(*plain, **settings, mask=mask, next_mask=next_mask)
        torch.testing.assert_close(reward + parted, whole)
        found["masked"].append(whole)
    return arrays(**{name: torch.stack(rows) for name, rows in found.items()})


@ours
def n_step_(given: Arrays, dtype: Any) -> Arrays:
    return arrays(target=targets.n_step(*tensors(given, dtype, "reward", "discount", "next_value")))


@ours
def lambda_return(given: Arrays, dtype: Any) -> Arrays:
    parts = tensors(given, dtype, "reward", "discount", "ended", "next_value")
    rows = [targets.lambda_return(*(x[k] for x in parts), lambda_=float(l)) for k, l in enumerate(given["lambda"])]
    return arrays(target=torch.stack(rows))


@ours
def projected(given: Arrays, dtype: Any) -> Arrays:
    values, probability = tensors(given, dtype, "values", "probability")
    return arrays(mass=targets.projected(values, probability, torch.linspace(*SUPPORT, dtype=values.dtype)))


@ours
def smeared(given: Arrays, dtype: Any) -> Arrays:
    (value,) = tensors(given, dtype, "value")
    return arrays(mass=targets.smeared(value, torch.linspace(*SUPPORT, dtype=value.dtype), 0.375))


@ours
def rescaled(given: Arrays, dtype: Any) -> Arrays:
    (x,) = tensors(given, dtype, "x")
    return arrays(h=targets.rescaled(x), inverse=targets.unscaled(x / 8))


@ours
def r2d2_target(given: Arrays, dtype: Any) -> Arrays:
    reward, discount, value = tensors(given, dtype, "reward", "discount", "next_value")
    return arrays(target=targets.rescaled(targets.n_step(reward, discount, targets.unscaled(value))))


@ours
def squared(given: Arrays, dtype: Any) -> Arrays:
    (x,) = tensors(given, dtype, "x")
    return arrays(loss=losses.squared(x / 8), slope=losses.squared_grad(x / 8))


@ours
def huber(given: Arrays, dtype: Any) -> Arrays:
    (x,) = tensors(given, dtype, "x")
    return arrays(loss=losses.huber(x), slope=losses.huber_grad(x))


@ours
def clipped(given: Arrays, dtype: Any) -> Arrays:
    (x,) = tensors(given, dtype, "x")
    return arrays(slope=losses.huber_grad(x))


@ours
def quantile_huber(given: Arrays, dtype: Any) -> Arrays:
    parts = tensors(given, dtype, "predicted", "sought", "fraction")
    found = [losses.quantile_huber(*(x[k] for x in parts), float(kappa)) for k, kappa in enumerate(given["kappa"])]
    return arrays(loss=torch.stack([loss for loss, _ in found]), slope=torch.stack([slope for _, slope in found]))


@ours
def cross_entropy_(given: Arrays, dtype: Any) -> Arrays:
    logits, target = tensors(given, dtype, "logits", "target")
    return arrays(loss=cross_entropy(logits, target), slope=cross_entropy_slope(logits, target))


def head(head: Head) -> Ours:
    """Return the updates of a head: from tensors in float64; in float32 as in runs on the CPU, compiled if there is no mask."""

    def found(given: Arrays, dtype: Any) -> Arrays:
        y, next_y, choice, reward, discount, weight = (
            given[name].astype(dtype) for name in ("y", "next_y", "choice", "reward", "discount", "weight")
        )
        more = (given[name].astype(dtype) if name in given else None for name in ("own_y", "fraction"))
        batch = Batch(None, given["action"], reward, discount, None, given.get("mask"), weight)
        if dtype == np.float32:
            gradient, td_error, _, priority = head.loss_of(Outputs(y, next_y, choice, *more), batch, False)
        else:
            outputs = Outputs(*(x if x is None else torch.from_numpy(x) for x in (y, next_y, choice, *more)))
            whole = Batch(*(part if part is None else torch.from_numpy(part) for part in batch))
            gradient, td_error, _, priority = head.loss(outputs, whole, False)
        found = {"gradient": np.asarray(gradient), "td_error": np.asarray(td_error)}
        return found if priority is None else {**found, "priority": np.asarray(priority)}

    return found


NEVER_MASKED = ("scalar_squared", "categorical_rescaled", "hl_gauss", "quantile_straight")


def heads() -> dict[str, Ours]:
    """Return all heads by the names of their cases."""
    found = {
        "scalar": head(Scalar()),
        "scalar_squared": head(Scalar("squared")),
        "scalar_rescaled": head(Scalar(rescale=True)),
        "categorical": head(Categorical(*SUPPORT)),
        "categorical_rescaled": head(Categorical(*SUPPORT, rescale=True)),
        "hl_gauss": head(Categorical(*SUPPORT, deviation=0.75)),
        "quantile": head(Quantile(7)),
        "quantile_straight": head(Quantile(7, kappa=0.0)),
    }
    soft = SoftPolicy(0.9, 0.25, -1.0)
    found |= {
        "scalar_munchausen": head(Scalar(bootstrap=soft)),
        "categorical_munchausen": head(Categorical(*SUPPORT, bootstrap=soft)),
        "quantile_munchausen": head(Quantile(7, bootstrap=soft)),
    }
    masked = {f"{name}_masked": found[name] for name in found if name not in NEVER_MASKED}
    return {**found, **masked, "implicit": head(Implicit(Fractions(8, 6, 4)))}


OURS.update(heads())
OURS.update({name.removesuffix("_"): OURS.pop(name) for name in list(OURS)})  # those whose names a module has


# Tables


def own(function: Ours) -> Ours:
    """Register a function with its own precision by its name."""
    OWN[function.__name__] = function
    return function


def memory(agent: TabularConfig, q: np.ndarray) -> Any:
    """Return the arrays of one seed of an agent with one environment, with the given q."""
    states, actions = q.shape
    held = {"q": q, "visits": np.zeros(q.shape, np.int64)} | agent.seed_arrays(states, actions)
    agent.init_from_q(held)
    trail = {name: np.full((1, *part.shape), part) for name, part in agent.episode_arrays(states, actions).items()}
    return agent.state_type(**held, **trail, **agent.rule_params())


def moments(given: Arrays, k: int, b: int) -> list[Transition]:
    """Return the steps of an episode, with a step size of 1."""
    action, gamma = given["action"][k, b], float(given["gamma"][k])
    steps = len(action) - 1
    found = []
    for t in range(steps):
        scale, last = float(given["scale"][k, b, t]), t == steps - 1
        discount = 0.0 if last and given["terminated"][k, b] else gamma * scale
        first = 0, t, action[t], float(given["reward"][k, b, t]), discount, gamma, t + 1, action[t + 1]
        found.append(Transition(*first, 1.0, last, EPSILON_GREEDY, 0.25, scale))
    return found


def learned(agent: Callable[[float], TabularConfig], rule: Callable[..., float]) -> Ours:
    """Return the values of each episode's state-action pairs at its end."""

    def found(given: Arrays, _dtype: Any) -> Arrays:
        values = np.empty(given["reward"].shape)
        for k, b in np.ndindex(values.shape[:2]):
            table = memory(agent(float(given["lambda"][k])), given["q"][k, b].astype(np.float64))
            for moment in moments(given, k, b):
                rule(table, moment, None)
            steps = np.arange(values.shape[2])
            values[k, b] = table.q[steps, given["action"][k, b, :-1]]
        return {"learned": values}

    return found


OWN["table_n_step_sarsa"] = learned(lambda _: rl.NStepSARSA(n=3), n_step.learn_sarsa)
OWN["table_tree_backup"] = learned(lambda _: rl.TreeBackup(n=6), n_step.learn_tree)
OWN["table_monte_carlo"] = learned(lambda _: rl.MonteCarlo(memory_steps=6), monte_carlo.learn)
OWN["table_sarsa_lambda"] = learned(lambda l: rl.SARSALambda(lambda_=l, traces="accumulating"), traces.learn_sarsa)
OWN["table_q_lambda"] = learned(lambda l: rl.QLambda(lambda_=l), traces.learn_q)


class Heads(NamedTuple):
    """A random generator whose coin always lands on the same side."""

    def random(self) -> float:
        return 0.0


@own
def table_td(given: Arrays, _dtype: Any) -> Arrays:
    rules = {"q_learning": q_learning.learn, "sarsa": sarsa.learn_sarsa, "expected_sarsa": sarsa.learn_expected}
    found = {name: np.empty(given["reward"].shape) for name in (*rules, "double_q")}
    for k, b, t in np.ndindex(given["reward"].shape):
        moment, q = moments(given, k, b)[t], given["q"][k, b].astype(np.float64)
        for name, rule in rules.items():
            found[name][k, b, t] = rule(QTable(q.copy(), None), moment, None)
        two = double_q.TwoTables(q.copy(), None, q.copy(), -q)
        found["double_q"][k, b, t] = double_q.learn(two, moment, Heads())
    return found


@own
def linear_sarsa_lambda(given: Arrays, _dtype: Any) -> Arrays:
    """Return values of tile coding where each state has two tiles of its own, which share its value."""
    values = np.empty(given["reward"].shape)
    for k, b in np.ndindex(values.shape[:2]):
        q = given["q"][k, b].astype(np.float64)
        states, actions = q.shape
        weights = np.stack([q / 2, q / 2], 1).reshape(1, 2 * states, actions)
        size = weights[0].size
        held = linear.EligibilityTraces(
            np.zeros((1, size)), np.zeros((1, size), np.int64), np.zeros(1, np.int64), np.zeros(1)
        )
        for m in moments(given, k, b):
            row = (m.a, m.reward, m.discount, q[m.next_s, m.next_a], m.episode_end, True, m.step_size, m.scale)
            step = linear.TransitionBatch(np.array([[2 * m.s, 2 * m.s + 1]]), *(np.array([x]) for x in row))
            linear.learn(weights, held, step, m.gamma, float(given["lambda"][k]), traces.ACCUMULATING, np.empty(1))
        whole = weights.reshape(states, 2, actions).sum(1)
        values[k, b] = whole[np.arange(values.shape[2]), given["action"][k, b, :-1]]
    return {"learned": values}


# Replay


@own
def priority(given: Arrays, _dtype: Any) -> Arrays:
    found = np.empty(given["error"].shape)
    leaf = np.arange(found.shape[1])[None]
    for k, alpha in enumerate(given["alpha"]):
        total, least = sum_tree.make_trees(1, found.shape[1])
        error = given["error"][k : k + 1].astype(np.float64)
        sum_tree.update_priorities(total, least, np.ones(1), leaf, error, float(alpha), rl.Replay.SMALLEST)
        found[k] = total[0, total.shape[1] // 2 :]
    return {"priority": found}


@own
def draw(given: Arrays, _dtype: Any) -> Arrays:
    """Return weights divided by the largest in the sample, as in dqn_zoo; ours divide by the largest of any leaf."""
    leaves, u = given["leaves"].astype(np.float64), given["u"].astype(np.float64)
    leaf, weight = np.zeros(u.shape, np.int64), np.zeros(u.shape)
    for k in range(len(u)):
        total, least = sum_tree.make_trees(1, leaves.shape[1])
        sum_tree.fill(total, least, leaves[k : k + 1])
        count = (leaves[k : k + 1] > 0).sum(1)
        sum_tree.draw(total, least, u[k : k + 1], count, float(given["beta"][k]), leaf[k : k + 1], weight[k : k + 1])
    return {"leaf": leaf, "weight": weight / weight.max(1, keepdims=True)}


class Answer(NamedTuple):
    """Return a step of an environment."""

    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    next_obs: Tensor
    next_mask: None = None
    valid: None = None


class World(NamedTuple):
    """Return an environment whose observations are the time step; each batch is a seed."""

    seeds: tuple[int, ...]
    observation_space: gym.Space[Any] = gym.spaces.Box(-np.inf, np.inf, (1,))
    action_space: gym.Space[Any] = gym.spaces.Discrete(2)
    envs_per_seed: int = 1
    frames: int = 1


@own
def fold(given: Arrays, _dtype: Any) -> Arrays:
    k, steps = given["reward"].shape
    replay = rl.Replay(World(tuple(range(k))), 2 * steps, 3, 0.9)
    for t in range(steps):
        step = (torch.from_numpy(given[name][:, t : t + 1]) for name in ("reward", "terminated", "truncated"))
        at = torch.full((k, 1, 1), float(t))
        replay.add(at, torch.zeros((k, 1), dtype=torch.int64), Answer(*step, next_obs=at + 1))
    batch = replay.sample(800, Streams(range(k), "replay"))  # so many that each step is among them
    found = {name: np.full((k, steps), np.nan) for name in ("returns", "discount", "end")}
    start = batch.obs[..., 0].numpy().astype(np.int64)
    parts = batch.reward, batch.discount, batch.next_obs[..., 0] - 1
    for name, part in zip(found, parts, strict=True):
        np.put_along_axis(found[name], start, part.numpy().astype(np.float64), 1)
    return found


@own
def mixed_priority_(given: Arrays, _dtype: Any) -> Arrays:
    rows = given["error"].shape[1]
    found = []
    for error in given["error"]:
        row, time = np.nonzero(np.isfinite(error))
        found.append(mixed_priority(error[row, time], row, rows, 0.9))
    return {"priority": np.array(found)}


OWN.update({name.removesuffix("_"): OWN.pop(name) for name in list(OWN)})
SINGLE = ("fold", "mixed_priority")  # of OWN, those that answer in float32
