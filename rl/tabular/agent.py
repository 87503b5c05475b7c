"""The base of all tabular agents: their config (`TabularConfig`, `OnPolicyConfig`) and the live agent with N Q-tables."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rl.core import jit
from rl.core.policy import TablePolicy
from rl.core.registry import name_of, optional_setting
from rl.core.spaces import StateIndex, actions_of
from rl.core.types import Batch, Decision, State, Update
from rl.explore import BOLTZMANN, EPSILON_GREEDY, EpsilonGreedy, TableExplore, masked
from rl.explore.masked import as_mask, check_allowed
from rl.tabular.batches import check, check_learnable, masks_of, states_of
from supervised.device import cpu_only
from supervised.renamed import accept_renamed_members, former_attributes, module_getattr
from supervised.schedules import STEPS, VISITS, Curve, Inverse, Linear, Schedule, as_schedule, setting, value_at
from supervised.streams import generator
from supervised.validate import ArgumentError, as_float, explained, integer, number, seeds_of, shown, store

LONGEST_LOOKUP = 65_536
MOST_BYTES = 16_000_000_000
MOST_TIMES = 2**60  # upper limit of every counter
MOST_Q = 1e100  # largest initial value: its square stays finite


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
    explore: int  # EPSILON_GREEDY, BOLTZMANN, GAUSSIAN_NOISE or UPPER_BOUND
    level: float  # epsilon, temperature or noise scale if the rule sets needs_policy, else 0
    scale: float = 1.0  # the step's own discount (info["discount"]): included in `discount`, not in `gamma`


class QTable(NamedTuple):
    """The arrays of one seed, for rules that need only Q-values and visit counts."""

    q: Any  # float64 [S, A]
    visits: Any  # int64 [S, A]
    mask: Any = None  # float64 [S, A], added to q: 0 if allowed, -infinity if forbidden; None: all actions are allowed


FORMER_FIELDS = {"s2": "next_s", "a2": "next_a", "over": "episode_end"}  # of a Transition


def check_rule(kind: type) -> None:
    """Raise ArgumentError for a rule that reads a Transition's fields by former names, which compiled code cannot alias."""
    rule = inspect.unwrap(getattr(kind, "rule", check_rule))
    read = [name for name in FORMER_FIELDS if name in getattr(rule, "__code__", check_rule.__code__).co_names]
    if read:
        former = " and ".join(f"t.{name}, which is t.{FORMER_FIELDS[name]} now" for name in read)
        raise ArgumentError(f"The rule of {kind.__name__} reads {former}.")


@dataclass(frozen=True)
class TabularConfig:
    """What every tabular agent is described by."""

    gamma: float | Schedule = 0.99
    """The discount, in [0, 1]: a number or a schedule in steps."""
    step_size: float | Schedule = Inverse(1.0, end=0.01, power=0.6, unit="visits")
    """In [0, 1]: a number, or a schedule in steps, episodes or visits of the state and action; the default is
    max(0.01, visits**-0.6)."""
    explore: TableExplore = EpsilonGreedy()
    """One of rl.explore's EpsilonGreedy, Greedy, Boltzmann, DecayingNoise and UCB; by default epsilon goes from 1 to 0.05 in a
    straight line over the run."""
    initial_q: float | tuple[float, float] = 0.0
    """What the table starts with: a number, or (low, high) for numbers drawn between them; above what can be reached it makes the
    agent try everything (optimism)."""
    count_bonus: float = 0.0
    """What each reward is raised by, divided by the square root of how often its pair was tried: values tell of what is new, also
    of what lies far off (after Strehl and Littman 2008, whose bonus belongs to a model; here it is part of the reward as it
    comes)."""

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
    """As in `TabularConfig`; by default epsilon goes from 1 to 0.2 over the first half of the run."""

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
    if config.explore.hold is not None:
        raise ArgumentError("EpsilonGreedy(hold=...) is for agents with networks: tables hold no action. Leave it out.")
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


@former_attributes
class TabularAgent:
    """N Q-tables, float64 [N, S, A], and their visit counts, int64 [N, S, A], on the CPU."""

    def __init__(
        self, config: TabularConfig, observation_space: Any, action_space: Any, seeds: Any, device: str = "cpu"
    ) -> None:
        cpu_only(device, "A tabular agent runs")
        self.config = config
        self.seeds = seeds_of(seeds)
        self.index = StateIndex(observation_space)
        self.actions, self.first_action = actions_of(action_space)
        shape = (self.index.size, self.actions)
        try:
            extra = config.seed_arrays(*shape)
        except MemoryError:
            raise ArgumentError(
                f"The arrays of {name_of(config)} for {shape[0]:,} states and {shape[1]} actions do not fit into memory."
                " Use smaller settings, or an agent with a network."
            ) from None
        needed = len(self.seeds) * (shape[0] * shape[1] * 16 + sum(part.nbytes for part in extra.values()))
        if needed > MOST_BYTES:
            raise ValueError(
                f"{len(self.seeds)} tables of {shape[0]:,} states and {shape[1]} actions need {needed / 1e9:.1f} GB; at most"
                f" {MOST_BYTES / 1e9:.0f} GB are allowed. Use fewer seeds, or an agent with a network."
            )
        q = np.stack([_initial(config.initial_q, shape, seed) for seed in self.seeds])
        self.visits = np.zeros((len(self.seeds), *shape), np.int64)
        self.tables = {"q": q, "visits": self.visits}
        self.tables |= {name: np.stack([part] * len(self.seeds)) for name, part in extra.items()}
        config.init_from_q(self.tables)
        self.mask: np.ndarray | None = None  # float64 [N, S, A], see `rl.masked`; None: all actions are allowed
        self.updates = 0
        self.generators = [generator(seed, "agent") for seed in self.seeds]  # used by `update`

    def act(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Decision:
        """Return the Q-values of `q` as a Decision."""
        return Decision(self.q(obs), {})

    @explained("state indices int64 [N, B]")
    def q(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Tensor:
        """Return the Q-values float64 [N, B, A] of state indices [N, B]; -infinity for forbidden actions.

        A table has no recurrent state: state and episode_start are ignored. Raises ValueError for indices outside 0..S-1 and
        for any other shape.
        """
        states = states_of(obs, len(self.seeds), self.index.size)
        return torch.from_numpy(np.take_along_axis(self.table, states[..., None], axis=1))

    @property
    def table(self) -> np.ndarray:
        """The Q-values float64 [N, S, A]; -infinity for actions that the environment most recently forbade in a state."""
        return self.tables["q"] if self.mask is None else self.tables["q"] + self.mask

    @property
    def allowed(self) -> np.ndarray | None:
        """The actions most recently allowed in each state, bool [N, S, A]; None: all actions, always."""
        return None if self.mask is None else self.mask == 0

    def allow(self, allowed: np.ndarray | None = None) -> np.ndarray:
        """Start tracking allowed actions, initially those of allowed bool [S, A] (None: all), and return the mask [N, S, A]."""
        if self.mask is None:
            if not self.config.respects_masks:
                warnings.warn(
                    f"The environment forbids some actions. {name_of(self.config)} never takes them, but its rule does"
                    " not declare that its targets ignore them: compute the best next value with highest(table.q, t.next_s,"
                    " table.mask) and set respects_masks = True.",
                    RuntimeWarning,
                    stacklevel=3,
                )
            self.mask = np.zeros(self.visits.shape)
        if allowed is not None:
            self.mask[:] = as_mask(allowed)
        return self.mask

    loop = "tabular"  # see `rl.run.run.LOOPS`
    device = torch.device("cpu")

    def state_values(self) -> np.ndarray:
        """Return the Q-values of all states, float64 [N, S, A]."""
        return self.table

    def state_visits(self) -> np.ndarray:
        """Return the visit counts of all state-action pairs, int64 [N, S, A]."""
        return self.visits

    def plane(self, k: int, points: int) -> None:
        """Return None: finite states have no plane to draw."""

    def graph(self) -> None:
        """Return None: there is no network."""

    def summary(self) -> dict[str, str]:
        """Return an empty dict: there is nothing to report but the settings."""
        return {}

    @property
    def distributional(self) -> bool:
        """False: a table holds expected values, not distributions."""
        return False

    def why_no_model(self) -> None:
        """Return None: a finite model supports everything that a table does."""

    def final_epsilon(self, horizon_steps: int) -> float | None:
        """Return the final epsilon of the policy being evaluated: 0 if it is the greedy policy, None if it is unknown."""
        if not optional_setting(self.config, "on_policy", False):
            return 0.0
        rule, level = self.config.explore, self.config.explore.level.curve(horizon_steps)
        known = rule.kind == EPSILON_GREEDY and level.unit == STEPS
        return value_at(level, horizon_steps) if known else None

    def policy(self, k: int, spaces: tuple[Any, Any], settings: Mapping[str, Any]) -> TablePolicy:
        """Return the policy of the k-th seed. It has no visit counts, so UCB exploration becomes greedy."""
        allowed = None if self.allowed is None else self.allowed[k].astype(np.uint8)
        return TablePolicy(self.tables["q"][k], *spaces, **settings, allowed=allowed)

    @explained("an rl.Batch of [N, B] with state indices for observations")
    def update(self, batch: Batch) -> Update:
        """Update the tables with a batch of transitions [N, B], one after another; obs and next_obs are state indices.

        Meant for custom training loops and for rules that learn from single transitions. A schedule in steps counts transitions
        (without a horizon it spans 100 000 of them) and one in visits counts visits; a schedule in episodes stays at its initial
        value, since a batch has no episodes. Raises ValueError for other rules, and for masks or weights that the rule does not
        support.
        """
        config = self.config
        check_learnable(batch, config, len(self.seeds), self.index.size, self.actions)
        given = batch.obs, batch.obs if batch.next_obs is None else batch.next_obs
        states, next_states = (states_of(obs, len(self.seeds), self.index.size) for obs in given)
        schedules = (config.step_size, config.explore.level, config.gamma)
        rate, level, discounting = (as_schedule(s).curve(100_000) for s in schedules)
        errors = torch.zeros(states.shape, dtype=torch.float64)
        reward, discount = batch.reward.double().cpu().numpy(), batch.discount.double().cpu().numpy()
        action = batch.action.cpu().numpy()
        check(states, action, reward, discount, next_states, self.actions)
        rule, mask, constants = config.rule, self.mask, config.rule_params()
        masks = None if batch.next_mask is None else masks_of(batch.next_mask, discount, self.actions)
        if masks is not None:
            mask = self.allow()
        own = self.tables
        if mask is not None:
            rule, own = jit.specialize(rule, **masked.RULES), {**own, "mask": mask}
        members = [
            rule_state(config, {**{name: array[k] for name, array in own.items()}, **constants})
            for k in range(len(self.seeds))
        ]
        for b in range(states.shape[1]):
            now = value_at(level, self.updates * (level.unit == 0))
            for k, table in enumerate(members):
                s, a, next_s = int(states[k, b]), int(action[k, b]), int(next_states[k, b])
                visits = int(self.visits[k, s, a])
                self.visits[k, s, a] += 1
                step_size = value_at(rate, visits if rate.unit == VISITS else self.updates * (rate.unit == 0))
                if batch.weight is not None:
                    step_size *= float(batch.weight[k, b])
                if mask is not None:
                    mask[k, next_s] = 0.0 if masks is None else as_mask(masks[k, b])
                bonus_reward, future = float(reward[k, b]), float(discount[k, b])
                if config.count_bonus > 0:
                    bonus_reward += config.count_bonus / math.sqrt(visits + 1)
                gamma, kind = value_at(discounting, self.updates), config.explore.kind
                transition = Transition(0, s, a, bonus_reward, future, gamma, next_s, -1, step_size, False, kind, now)
                errors[k, b] = rule(table, transition, self.generators[k])
            self.updates += 1
        return Update({"train/td_error": errors.abs().mean(1)}, errors)

    def state_dict(self) -> dict[str, Any]:
        drawn = [dict(rng.bit_generator.state) for rng in self.generators]
        masks = {} if self.allowed is None else {"allowed": self.allowed.astype(np.uint8)}
        return {**self.tables, **masks, "updates": np.array([self.updates]), "generators": drawn}

    @explained("the state that state_dict returned")
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore saved tables. Raises ValueError for tables of another shape and for NaN or infinite values."""
        for name, mine in self.tables.items():
            saved = state.get(name)
            if saved is None or saved.shape != mine.shape or saved.dtype != mine.dtype:
                found = "missing" if saved is None else f"{saved.dtype} {list(saved.shape)}"
                raise ArgumentError(
                    f"The saved table {name!r} must be {mine.dtype} {list(mine.shape)}, but is {found}."
                )
            if not np.isfinite(saved).all():
                raise ValueError(f"The saved table {name!r} contains NaN or infinite values.")
        if (state["visits"] < 0).any() or (state["visits"] >= MOST_TIMES).any():
            raise ValueError(f"The saved visit counts must be in 0..{MOST_TIMES - 1}.")
        self.config.validate_state(state, self.index.size, self.actions)
        if "allowed" in state:
            check_allowed(state["allowed"], self.visits.shape)
            self.allow()[:] = as_mask(state["allowed"])
        for name, mine in self.tables.items():
            mine[:] = state[name]
        self.updates = int(state["updates"][0]) if "updates" in state else 0
        for rng, saved in zip(self.generators, state.get("generators", ()), strict=False):
            rng.bit_generator.state = saved


def rule_state(config: TabularConfig, arrays: dict[str, Any]) -> Any:
    """Return the arrays of one seed as the rule's state_type, without the mask if that type has none."""
    known = "mask" in getattr(config.state_type, "_fields", ())
    return config.state_type(**{name: array for name, array in arrays.items() if known or name != "mask"})


def lookup(rate: Curve) -> np.ndarray:
    """Return the step sizes at the first V visits, float64 [V], until they stop changing; empty unless scheduled in visits."""
    values: list[float] = []
    while rate.unit == VISITS and len(values) < LONGEST_LOOKUP:
        values.append(value_at(rate, len(values)))
        if values[-1] == rate.end:
            break
    return np.array(values, dtype=np.float64)


def _initial(initial_q: float | tuple[float, float], shape: tuple[int, int], seed: int) -> np.ndarray:
    if isinstance(initial_q, tuple):
        return generator(seed, "initial").uniform(*initial_q, size=shape)
    return np.full(shape, float(initial_q))


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


__getattr__ = module_getattr(__name__, globals())
