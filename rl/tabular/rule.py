"""What update rules take: a transition, and the arrays of one seed."""

from __future__ import annotations

from typing import Any, NamedTuple

MOST_TIMES = 2**60  # upper limit of every counter


class Transition(NamedTuple):
    """One step of one environment, as scalars: the input of an update rule."""

    env: int  # index among the seed's environments
    s: int
    a: int
    reward: float
    discount: float  # gamma * scale, or 0 after a termination; next_s and next_a must not be read then
    gamma: float  # the discount factor, also after a termination
    next_s: int
    next_a: int  # the next action if the rule sets needs_next_action, else -1
    step_size: float
    episode_end: bool  # whether the episode has terminated or been truncated
    explore: int  # the policy in next_s: EPSILON_GREEDY, BOLTZMANN, GAUSSIAN_NOISE, UPPER_BOUND or HELD, see `expected`
    level: float  # epsilon, temperature, noise scale or the action held if the rule sets needs_policy, else 0
    scale: float = 1.0  # the step's own discount (info["discount"]): included in `discount`, not in `gamma`


class QTable(NamedTuple):
    """The arrays of one seed, for rules that need only Q-values and visit counts."""

    q: Any  # float64 [S, A]
    visits: Any  # int64 [S, A]
    mask: Any = None  # float64 [S, A], added to q: 0 if allowed, -infinity if forbidden; None: all actions are allowed


def rule_state(config: Any, arrays: dict[str, Any]) -> Any:
    """Return the arrays of one seed as the rule's state_type, without the mask if that type has none."""
    known = "mask" in getattr(config.state_type, "_fields", ())
    return config.state_type(**{name: array for name, array in arrays.items() if known or name != "mask"})
