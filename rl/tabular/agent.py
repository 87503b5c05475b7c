"""The base configs of all tabular agents, `TabularConfig` and `OnPolicyConfig`; they build `rl.tabular.tables.TabularAgent`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rl.core.registry import name_of
from rl.core.spaces import StateIndex, actions_of
from rl.explore import BOLTZMANN, EPSILON_GREEDY, EpsilonGreedy, TableExplore
from rl.tabular.rule import QTable, Transition
from supervised import lazy
from supervised.renamed import accept_renamed_members, former_name
from supervised.schedules import VISITS, Curve, Inverse, Linear, Schedule, setting, value_at
from supervised.validate import ArgumentError, as_float, integer, number, shown, store

if TYPE_CHECKING:
    from rl.tabular.tables import TabularAgent

__all__ = [
    "OnPolicyConfig",
    "QTable",
    "TabularAgent",
    "TabularConfig",
    "Transition",
    "check_count",
    "check_expected",
    "check_number",
    "check_rule",
    "check_table_settings",
    "check_unused",
    "initial_value",
    "lookup",
]

LONGEST_LOOKUP = 65_536
MOST_Q = 1e100  # largest initial value: its square stays finite


FORMER_FIELDS = {"s2": "next_s", "a2": "next_a", "over": "episode_end"}  # of a Transition


def check_rule(kind: type) -> None:
    """Raise ArgumentError for a rule that reads a Transition's fields by former names, which compiled code cannot alias."""
    rule = inspect.unwrap(getattr(kind, "rule", check_rule))
    read = [name for name in FORMER_FIELDS if name in getattr(rule, "__code__", check_rule.__code__).co_names]
    if read:
        former = " and ".join(f"t.{name}, which is now called t.{FORMER_FIELDS[name]}" for name in read)
        raise ArgumentError(f"The rule of {kind.__name__} reads {former}.")


@dataclass(frozen=True)
class TabularConfig:
    """The settings of every tabular agent."""

    gamma: float | Schedule = 0.99
    """The discount factor, in [0, 1]: a number or a schedule in steps."""
    step_size: float | Schedule = Inverse(1.0, end=0.01, power=0.6, unit="visits")
    """The step size alpha, in [0, 1]: a number, or a schedule in steps, episodes or visits of the state-action pair; the default
    is max(0.01, visits**-0.6)."""
    explore: TableExplore = EpsilonGreedy()
    """The exploration rule, one of rl.explore's EpsilonGreedy, Greedy, Boltzmann, DecayingNoise and UCB; by default epsilon
    decays linearly from 1 to 0.05 over the run."""
    initial_q: float | tuple[float, float] = 0.0
    """The initial Q-values: a number, or (low, high) to draw them uniformly from this range; values above the highest possible
    return make the agent try every action (optimistic initialization)."""
    count_bonus: float = 0.0
    """The scale of the exploration bonus: count_bonus / sqrt(n) is added to the reward at the n-th visit to a state-action pair,
    so that values also reflect novelty many steps ahead (after Strehl and Littman 2008, who add the bonus in a model; here it is
    part of the observed reward)."""

    # What an algorithm is: its rule, (table, transition, generator) -> TD error, the arrays that it reads and writes, and what
    # it asks for.
    rule: ClassVar[Callable[..., float]]
    state_type: ClassVar[type] = QTable
    needs_next_action: ClassVar[bool] = False  # whether the rule reads t.next_a
    needs_policy: ClassVar[bool] = False  # whether the rule reads the behavior policy, t.explore and t.level
    on_policy: ClassVar[bool] = False  # whether the rule evaluates the behavior policy, exploration included
    continuing: ClassVar[bool] = False  # whether the rule is only for continuing tasks
    respects_masks: ClassVar[bool] = False  # whether the rule's targets ignore forbidden actions
    why_no_discounts: ClassVar[str | None] = None  # why the rule cannot use info["discount"]; None: it can

    def __init_subclass__(cls) -> None:
        accept_renamed_members(cls)
        check_rule(cls)

    def __post_init__(self) -> None:
        check_table_settings(self)

    def seed_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        """Return the initial arrays that each seed learns in addition to q and visits."""
        return {}

    def episode_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        """Return the per-episode arrays as they are at an episode's start; each environment has its own copy, [E, ...]."""
        return {}

    def rule_params(self) -> dict[str, np.ndarray]:
        """Return the rule's own settings as arrays."""
        return {}

    def init_from_q(self, tables: dict[str, np.ndarray]) -> None:
        """Initialize, in place, the arrays [N, ...] that depend on the initial q."""

    def index_bounds(self, states: int, actions: int) -> dict[str, int]:
        """Return exclusive upper bounds of the arrays used as indices, by name; saved arrays are checked against them."""
        return {}

    def validate_state(self, arrays: Mapping[str, Any], states: int, actions: int) -> None:
        """Raise ValueError for saved arrays with out-of-range indices."""
        for name, limit in self.index_bounds(states, actions).items():
            if name in arrays and (arrays[name].min() < 0 or arrays[name].max() >= limit):
                raise ValueError(f"The saved {name!r} has values outside 0..{limit - 1}.")

    @property
    def backups_per_step(self) -> int:
        """Maximum number of backups after each environment step; 1 for model-free rules."""
        return 1

    def check_model(self, model: Any) -> None:
        """Raise ValueError for the finite model of an environment that this agent does not support."""

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Raise SpaceError for spaces that are not finite."""
        StateIndex(observation_space)
        actions_of(action_space)

    @property
    def takes_weights(self) -> bool:
        """Whether a batch's importance weights can scale the rule's step sizes: only if it keeps nothing but Q and visits."""
        return self.state_type is QTable

    def build(self, observation_space: Any, action_space: Any, seeds: Any = 1, device: str = "cpu") -> TabularAgent:
        """Return the live agent: N tables filled from `initial_q`. Raises SpaceError for spaces that are not finite."""
        from rl.tabular.tables import TabularAgent

        return TabularAgent(self, observation_space, action_space, seeds, device)


@dataclass(frozen=True)
class OnPolicyConfig(TabularConfig):
    """The base config of on-policy agents, which evaluate the behavior policy, exploration included.

    Their values keep changing while the exploration does, so the defaults differ from those of `TabularConfig`: epsilon decays
    to 0.2 over the first half of the run and then stays constant, and the step size decays further, max(0.002, visits**-0.6).
    """

    step_size: float | Schedule = Inverse(1.0, end=0.002, power=0.6, unit="visits")
    """As in `TabularConfig`; the default is max(0.002, visits**-0.6)."""
    explore: TableExplore = EpsilonGreedy(Linear(1.0, 0.2, fraction=0.5))
    """As in `TabularConfig`; by default epsilon decays linearly from 1 to 0.2 over the first half of the run."""

    on_policy: ClassVar[bool] = True


def check_table_settings(config: TabularConfig) -> None:
    """Check the settings that all tabular agents share. Raises ArgumentError for invalid ones."""
    store(config, setting, "gamma", low=0.0, high=1.0, units=("steps",))
    store(config, setting, "step_size", low=0.0, high=1.0)
    if not isinstance(config.explore, TableExplore):
        raise ArgumentError(
            "explore must be one of rl.explore's EpsilonGreedy, Greedy, Boltzmann, DecayingNoise or UCB, not"
            f" {shown(config.explore)}."
        )
    check_number(config, "count_bonus")
    store(config, initial_value, "initial_q")


def initial_value(value: Any, name: str) -> float | tuple[float, float]:
    """Check the setting initial_q: a number, or (low, high). Raises ArgumentError for anything else."""
    several = isinstance(value, (tuple, list)) or getattr(value, "ndim", 0) == 1
    values = [as_float(part) for part in value] if several else [as_float(value)]
    if len(values) != 1 + several or not all(abs(v) <= MOST_Q for v in values) or values[0] > values[-1]:
        raise ArgumentError(
            f"{name} must be a number, or (low, high), from {-MOST_Q:g} to {MOST_Q:g}, not {shown(value)}."
        )
    return (values[0], values[1]) if several else values[0]


def lookup(rate: Curve) -> np.ndarray:
    """Return the step sizes at the first V visits, float64 [V], until they stop changing; empty unless scheduled in visits."""
    values: list[float] = []
    while rate.unit == VISITS and len(values) < LONGEST_LOOKUP:
        values.append(value_at(rate, len(values)))
        if values[-1] == rate.end:
            break
    return np.array(values, dtype=np.float64)


def check_expected(config: Any) -> None:
    """Raise ValueError for an exploration whose action probabilities are not known in closed form."""
    if config.explore.kind not in (EPSILON_GREEDY, BOLTZMANN):
        raise ValueError(
            f"{name_of(config)} needs the action probabilities of its policy: explore must be EpsilonGreedy, Greedy or"
            f" Boltzmann, not {type(config.explore).__name__}."
        )


def check_count(config: Any, name: str, most: int = 1_000_000_000) -> None:
    """Store a setting as an int. Raises ArgumentError for anything but a whole number from 1 to `most`."""
    store(config, integer, name, low=1, high=most)


def check_number(config: Any, name: str, most: float = 1e6) -> None:
    """Store a setting as a float. Raises ArgumentError for anything but a number in [0, most]."""
    store(config, number, name, low=0.0, high=most)


def check_unused(config: Any, name: str, why: str) -> None:
    """Raise ValueError if a setting that this agent does not use differs from its default."""
    if getattr(config, name) != getattr(type(config), name):
        raise ValueError(f"{name_of(config)} takes no {name}: {why}.")


__getattr__, _ = lazy.names(__name__, {"TabularAgent": "rl.tabular.tables"}, otherwise=former_name(__name__, 4))
