"""A greedy episode of a policy, step by step, for pictures and videos."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np

from rl.core.policy import NetworkPolicy, TablePolicy
from rl.core.registry import optional_setting
from rl.core.states import state_norm
from rl.run.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST = 500  # maximum number of steps of an episode


class Seen(NamedTuple):
    """An observation of an episode, and the step that led to it."""

    obs: Any
    state: Any  # the policy's recurrent state at obs
    action: Any  # the environment's action in that step; None at the start
    reward: float  # the reward of that step; 0 at the start
    discount: float  # the step's own discount, info["discount"], which multiplies gamma; 1 if there is none
    terminated: bool


def greedy_episode(policy: TablePolicy | NetworkPolicy, env: gym.Env[Any, Any], seed: int) -> Iterator[Seen]:
    """Play a greedy episode of at most LONGEST steps and yield each observation as it occurs.

    The policy carries its recurrent state and respects `info["action_mask"]`.
    """
    policy.wrap(env)
    obs, info = env.reset(seed=seed)
    state = None
    yield Seen(obs, state, None, 0.0, 1.0, False)
    for step in range(LONGEST):
        action, state = policy.predict(obs, state, step == 0, action_masks=info.get("action_mask"))
        obs, reward, terminated, truncated, info = env.step(int(action))
        yield Seen(obs, state, int(action), float(reward), float(info.get("discount", 1.0)), bool(terminated))
        if terminated or truncated:
            return


class Trace(NamedTuple):
    """Predicted values and obtained returns along an episode of T steps."""

    value: np.ndarray  # [T], the value of the action taken, in units of the environment's rewards
    obtained: np.ndarray  # [T], the discounted return from that step on
    norm: np.ndarray | None  # [T], the norm of the recurrent state; None if there is none
    terminated: bool


def trace(run: Run, k: int) -> Trace:
    """Play a greedy episode of the k-th seed and return its trace."""
    policy: Any = run.policy(run.seeds[k])
    env = run.where.make()
    try:
        *steps, last = greedy_episode(policy, env, run.seeds[k])
    finally:
        env.close()
    behind = [*steps[1:], last]
    first: int = policy.agent.first_action
    value = np.array([policy.q(s.obs, s.state)[a.action - first] for s, a in zip(steps, behind, strict=True)])
    obtained, following = np.zeros(len(steps)), 0.0
    for t, after in reversed(list(enumerate(behind))):
        following = after.reward + float(run.agent_config.gamma) * after.discount * following
        obtained[t] = following
    norms = [state_norm(step.state or {}) for step in steps[1:]]
    remembers = any(found is not None for found in norms)
    norm = np.array([0.0, *(float(found[0]) for found in norms if found is not None)]) if remembers else None
    return Trace(value / optional_setting(run.agent_config, "reward_scale", 1.0), obtained, norm, last.terminated)


def draw_distribution(run: Run, k: int, axes: Axes) -> None:
    """Draw the k-th seed's return distribution of each action at the start of a greedy episode, and the means."""
    policy: Any = run.policy(run.seeds[k])
    env = run.where.make()
    try:
        first = next(greedy_episode(policy, env, run.seeds[k]))
    finally:
        env.close()
    values, probability = policy.distribution(first.obs)
    values = values / optional_setting(run.agent_config, "reward_scale", 1.0)
    for a, (value, p) in enumerate(zip(values, probability, strict=True)):
        order = value.argsort()
        line = axes.step(value[order], p[order].cumsum(), where="post", label=f"action {a}")[0]
        axes.axvline(float((value * p).sum()), color=line.get_color(), linestyle=":", linewidth=1)
    axes.legend(fontsize=8, loc="best")
    axes.set(
        xlabel="return (dotted: mean)",
        ylabel="cumulative probability",
        ylim=(-0.02, 1.02),
        title="first observation",
    )


def draw(run: Run, k: int, axes: Axes) -> None:
    """Draw the predicted values and obtained returns of a greedy episode of the k-th seed, and the norm of its state."""
    found = trace(run, k)
    axes.plot(found.value, label="predicted: max Q", color="tab:blue")
    axes.plot(found.obtained, label="obtained: discounted return", color="tab:orange", linestyle="--")
    lines = axes.get_lines()
    if found.norm is not None:
        behind = axes.twinx()
        behind.plot(found.norm, label="norm of the state (right)", color="gray", linewidth=0.8)
        behind.set_ylim(bottom=0.0)
        lines = [*lines, *behind.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], fontsize=8, loc="best")
    cut = "" if found.terminated else " (cut: later rewards are not counted)"
    axes.set(xlabel=f"step{cut}", title="a greedy episode")
