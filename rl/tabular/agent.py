"""What all tabular agents share: N tables, and the settings of a tabular rule as numbers."""

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
from rl.core.renamed import accept_renamed_members, module_getattr
from rl.core.spaces import StateIndex, actions_of
from rl.core.types import Batch, Decision, State, Update
from rl.explore import BOLTZMANN, EPSILON_GREEDY, EpsilonGreedy, TableExplore, masked
from rl.explore.masked import as_mask, check_allowed
from rl.tabular.batches import check, check_learnable, masks_of, states_of
from supervised.device import cpu_only
from supervised.schedules import STEPS, VISITS, Curve, Inverse, Linear, Schedule, as_schedule, setting, value_at
from supervised.streams import generator
from supervised.validate import ArgumentError, as_float, explained, integer, number, seeds_of, shown, store

LONGEST_LOOKUP = 65_536
MOST_BYTES = 16_000_000_000
MOST_TIMES = 2**60  # that anything was counted
MOST_Q = 1e100  # of what a table starts with: squares stay finite


class Transition(NamedTuple):
    """What a rule learns from: one step of one environment, in numbers."""

    env: int  # which of the seed's environments
    s: int
    a: int
    reward: float
    discount: (
        float  # how the future counts: gamma * scale, or 0 after a termination; then next_s and next_a are not read
    )
    gamma: float  # also after a termination
    next_s: int
    next_a: int  # the next action, for params that needs_next_action; else -1
    step_size: float
    episode_end: bool  # the episode has ended, by termination or truncation
    explore: int  # EPSILON_GREEDY, BOLTZMANN, NOISE or UPPER_BOUND, and
    level: float  # its epsilon, temperature or scale, for params that are needs_policy; else 0
    scale: float = 1.0  # the step's own discount, which is in `discount` and not in `gamma`; 1 where it has none


class Table(NamedTuple):
    """What one seed has learned, for params that need no more."""

    q: Any  # float64 [S, A]
    visits: Any  # int64 [S, A]
    mask: Any = None  # float64 [S, A], added to q: 0 where an action is allowed, -infinity where not; None: all are


FORMER_FIELDS = {"s2": "next_s", "a2": "next_a", "over": "episode_end"}  # of a Transition


def check_rule(kind: type) -> None:
    """Raise ArgumentError for a rule that reads a Transition's fields by the names of earlier versions: compiled code has no
    other names for them."""
    rule = inspect.unwrap(getattr(kind, "rule", check_rule))
    read = [name for name in FORMER_FIELDS if name in getattr(rule, "__code__", check_rule.__code__).co_names]
    if read:
        said = " and ".join(f"t.{name}, which is t.{FORMER_FIELDS[name]} now" for name in read)
        raise ArgumentError(f"The rule of {kind.__name__} reads {said}.")


@dataclass(frozen=True)
class Tabular:
    """What every tabular agent is described by.

    gamma: discount in [0, 1], a number or a schedule in steps. step_size: in [0, 1], a number or a schedule in steps,
    episodes or visits of the state and action; the default is max(0.01, visits**-0.6). explore: one of
    rl.explore's EpsilonGreedy, Greedy, Boltzmann, DecayingNoise and UCB; the default goes from epsilon 1 to 0.05 in a
    straight line over the run. initial_q: what the table starts with, a number or (low, high) for numbers drawn between
    them; above what can be reached it makes the agent try everything (optimism). count_bonus: what each reward is raised by,
    divided by the square root of how often its pair was tried: values tell of what is new, also of what lies far off (after
    Strehl and Littman 2008, whose bonus belongs to a model; here it is part of the reward as it comes).
    """

    gamma: float | Schedule = 0.99
    step_size: float | Schedule = Inverse(1.0, end=0.01, power=0.6, unit="visits")
    explore: TableExplore = EpsilonGreedy()
    initial_q: float | tuple[float, float] = 0.0
    count_bonus: float = 0.0

    # What an algorithm is: its rule, (table, transition, generator) -> TD error, the arrays that it reads and writes, and what
    # it asks for.
    rule: ClassVar[Callable[..., float]]
    state_type: ClassVar[type] = Table
    needs_next_action: ClassVar[bool] = False  # whether it reads t.next_a
    needs_policy: ClassVar[bool] = False  # whether it reads how likely each action is: t.explore and t.level
    on_policy: ClassVar[bool] = False  # whether it learns what acting as it does is worth, exploration included
    continuing: ClassVar[bool] = False  # whether it is for tasks without an end alone
    respects_masks: ClassVar[bool] = False  # whether the rule's targets leave out actions that `allowed` forbids
    why_no_discounts: ClassVar[str | None] = None  # why no step can have a discount of its own; None: it can

    def __init_subclass__(cls) -> None:
        accept_renamed_members(cls)
        check_rule(cls)

    def __post_init__(self) -> None:
        check_table_settings(self)

    def seed_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        """Arrays beside q and visits that a seed learns, as they are at the start."""
        return {}

    def episode_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        """Arrays that go with an episode, as they are at its start; each environment has its own, [E, ...]."""
        return {}

    def rule_params(self) -> dict[str, np.ndarray]:
        """Arrays that hold the settings of the rule."""
        return {}

    def init_from_q(self, tables: dict[str, np.ndarray]) -> None:
        """Put into all seeds' arrays [N, ...] what depends on the first values of q."""

    def index_bounds(self, states: int, actions: int) -> dict[str, int]:
        """What whole numbers that lead into an array must stay below, by name: saved ones are held to it."""
        return {}

    def validate_state(self, arrays: Mapping[str, Any], states: int, actions: int) -> None:
        """Raise ValueError for saved arrays whose numbers would lead the rule out of its tables."""
        for name, limit in self.index_bounds(states, actions).items():
            if name in arrays and (arrays[name].min() < 0 or arrays[name].max() >= limit):
                raise ValueError(f"The saved {name!r} lies outside 0..{limit - 1}.")

    @property
    def backups_per_step(self) -> int:
        """How often the rule learns from what it remembers after each step, at most; 1 for params without a model."""
        return 1

    def check_model(self, model: Any) -> None:
        """Raise ValueError for the finite model of an environment that this agent is not made for."""

    @property
    def takes_weights(self) -> bool:
        """Whether the weights of a batch scale the rule's steps: where it keeps nothing but Q and visits."""
        return self.state_type is Table

    def build(self, observation_space: Any, action_space: Any, seeds: Any = 1, device: str = "cpu") -> TabularAgent:
        """The live agent: N tables of zeros, or of `initial_q`. Raises SpaceError for spaces that are not finite."""
        return TabularAgent(self, observation_space, action_space, seeds, device)


@dataclass(frozen=True)
class OnPolicy(Tabular):
    """What agents are described by that learn what acting as they do is worth, exploration included.

    Such values change as long as exploration does: epsilon falls to 0.2 over the first half of the run, then stays, and the step
    size falls further than others', max(0.002, visits**-0.6). The rest as in `Tabular`.
    """

    step_size: float | Schedule = Inverse(1.0, end=0.002, power=0.6, unit="visits")
    explore: TableExplore = EpsilonGreedy(Linear(1.0, 0.2, fraction=0.5))

    on_policy: ClassVar[bool] = True


def check_table_settings(description: Tabular) -> None:
    """Raise a ValueError or TypeError, in a sentence, for settings that make no sense."""
    store(description, setting, "gamma", low=0.0, high=1.0, units=("steps",))
    store(description, setting, "step_size", low=0.0, high=1.0)
    if not isinstance(description.explore, TableExplore):
        raise ArgumentError(
            "explore must be one of rl.explore's EpsilonGreedy, Greedy, Boltzmann, DecayingNoise or UCB, not"
            f" {shown(description.explore)}."
        )
    check_number(description, "count_bonus")
    store(description, initial_value, "initial_q")


def initial_value(value: Any, name: str) -> float | tuple[float, float]:
    """What a table starts with: a number, or (low, high). Raises ArgumentError for anything else."""
    several = isinstance(value, (tuple, list)) or getattr(value, "ndim", 0) == 1
    values = [as_float(part) for part in value] if several else [as_float(value)]
    if len(values) != 1 + several or not all(abs(v) <= MOST_Q for v in values) or values[0] > values[-1]:
        raise ArgumentError(
            f"{name} must be a number, or (low, high), from {-MOST_Q:g} to {MOST_Q:g}, not {shown(value)}."
        )
    return (values[0], values[1]) if several else values[0]


class TabularAgent:
    """N tables Q [N, S, A] with their visit counts, float64 and int64, on the CPU."""

    def __init__(
        self, description: Tabular, observation_space: Any, action_space: Any, seeds: Any, device: str = "cpu"
    ) -> None:
        cpu_only(device, "A table lives")
        self.description = description
        self.seeds = seeds_of(seeds)
        self.index = StateIndex(observation_space)
        self.actions, self.first_action = actions_of(action_space)
        shape = (self.index.size, self.actions)
        try:
            extra = description.seed_arrays(*shape)
        except MemoryError:
            raise ArgumentError(
                f"The arrays of {name_of(description)} for {shape[0]:,} states and {shape[1]} actions take more memory than"
                " there is. Take smaller settings, or an agent with a network."
            ) from None
        needed = len(self.seeds) * (shape[0] * shape[1] * 16 + sum(part.nbytes for part in extra.values()))
        if needed > MOST_BYTES:
            raise ValueError(
                f"{len(self.seeds)} tables of {shape[0]:,} states and {shape[1]} actions take {needed / 1e9:.1f} GB, more than"
                f" the {MOST_BYTES / 1e9:.0f} GB that are allowed. Take fewer seeds, or an agent with a network."
            )
        q = np.stack([_initial(description.initial_q, shape, seed) for seed in self.seeds])
        self.visits = np.zeros((len(self.seeds), *shape), np.int64)
        self.tables = {"q": q, "visits": self.visits}
        self.tables |= {name: np.stack([part] * len(self.seeds)) for name, part in extra.items()}
        description.init_from_q(self.tables)
        self.mask: np.ndarray | None = None  # float64 [N, S, A], see `rl.masked`: the actions last allowed; None: all
        self.updates = 0
        self.generators = [generator(seed, "agent") for seed in self.seeds]  # for `update`

    def act(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Decision:
        """`q` as a Decision."""
        return Decision(self.q(obs), {})

    @explained("state indices int64 [N, B]")
    def q(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Tensor:
        """State indices [N, B] -> float64 [N, B, A], -infinity for actions that are forbidden there.

        A table remembers nothing: neither state nor episode_start is read. Raises ValueError for indices outside 0..S-1 or
        another shape.
        """
        states = states_of(obs, len(self.seeds), self.index.size)
        return torch.from_numpy(np.take_along_axis(self.table, states[..., None], axis=1))

    @property
    def table(self) -> np.ndarray:
        """The Q-values float64 [N, S, A]; -infinity for actions that the environment last forbade in a state."""
        return self.tables["q"] if self.mask is None else self.tables["q"] + self.mask

    @property
    def allowed(self) -> np.ndarray | None:
        """The actions that the environment last allowed in each state, bool [N, S, A]; None: all, always."""
        return None if self.mask is None else self.mask == 0

    def allow(self, allowed: np.ndarray | None = None) -> np.ndarray:
        """Keep which actions are allowed from now on, at first those of allowed [S, A] (None: all) -> mask [N, S, A]."""
        if self.mask is None:
            if not self.description.respects_masks:
                warnings.warn(
                    f"The environment forbids some actions. {name_of(self.description)} never takes them, but its rule"
                    " does not say that it leaves them out of its targets: read the best next value by highest(table.q, t.next_s,"
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
        """The table: its states are counted."""
        return self.table

    def state_visits(self) -> np.ndarray:
        """How often each pair was tried, int64 [N, S, A]."""
        return self.visits

    def plane(self, k: int, points: int) -> None:
        """Nothing: states are counted."""

    def graph(self) -> None:
        """Nothing: there is no network."""

    def summary(self) -> dict[str, str]:
        """Nothing beside the settings."""
        return {}

    @property
    def distributional(self) -> bool:
        """False: a table holds values."""
        return False

    def why_no_model(self) -> None:
        """Nothing: a model describes all that a table does."""

    def final_epsilon(self, horizon_steps: int) -> float | None:
        """The epsilon of the behavior policy whose values are learned, at the end; 0: the greedy policy's; None: not known."""
        if not optional_setting(self.description, "on_policy", False):
            return 0.0
        rule, level = self.description.explore, self.description.explore.level.curve(horizon_steps)
        known = rule.kind == EPSILON_GREEDY and level.unit == STEPS
        return value_at(level, horizon_steps) if known else None

    def policy(self, k: int, spaces: tuple[Any, Any], settings: Mapping[str, Any]) -> TablePolicy:
        """The policy of the k-th seed, without its visit counts: what needs them is greedy."""
        allowed = None if self.allowed is None else self.allowed[k].astype(np.uint8)
        return TablePolicy(self.tables["q"][k], *spaces, **settings, allowed=allowed)

    @explained("an rl.Batch of [N, B] with state indices for observations")
    def update(self, batch: Batch) -> Update:
        """Learn from a batch of transitions [N, B], one after another; obs and next_obs are state indices.

        For loops of your own, and params that learn from one step by itself. A schedule in steps counts the transitions (one
        without a horizon spans 100 000 of them), one in visits the visits; episodes are not known here, and such a
        schedule stays at its start. Raises ValueError for other params, and for masks or weights where the rule knows none.
        """
        description = self.description
        check_learnable(batch, description, len(self.seeds), self.index.size, self.actions)
        given = batch.obs, batch.obs if batch.next_obs is None else batch.next_obs
        states, next_states = (states_of(obs, len(self.seeds), self.index.size) for obs in given)
        schedules = (description.step_size, description.explore.level, description.gamma)
        rate, level, discounting = (as_schedule(s).curve(100_000) for s in schedules)
        errors = torch.zeros(states.shape, dtype=torch.float64)
        reward, discount = batch.reward.double().cpu().numpy(), batch.discount.double().cpu().numpy()
        action = batch.action.cpu().numpy()
        check(states, action, reward, discount, next_states, self.actions)
        rule, mask, constants = description.rule, self.mask, description.rule_params()
        masks = None if batch.next_mask is None else masks_of(batch.next_mask, discount, self.actions)
        if masks is not None:
            mask = self.allow()
        own = self.tables
        if mask is not None:
            rule, own = jit.specialise(rule, **masked.RULES), {**own, "mask": mask}
        members = [
            memory_of(description, {**{name: array[k] for name, array in own.items()}, **constants})
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
                if description.count_bonus > 0:
                    bonus_reward += description.count_bonus / math.sqrt(visits + 1)
                gamma, kind = value_at(discounting, self.updates), description.explore.kind
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
        """Take over saved tables. Raises ValueError for another shape, or for NaN or infinite values."""
        for name, mine in self.tables.items():
            saved = state.get(name)
            if saved is None or saved.shape != mine.shape or saved.dtype != mine.dtype:
                found = "nothing" if saved is None else f"{saved.dtype} {list(saved.shape)}"
                raise ArgumentError(
                    f"The saved table {name!r} must be {mine.dtype} {list(mine.shape)}, but is {found}."
                )
            if not np.isfinite(saved).all():
                raise ValueError(f"The saved table {name!r} has values that are NaN or infinite.")
        if (state["visits"] < 0).any() or (state["visits"] >= MOST_TIMES).any():
            raise ValueError(f"The saved visit counts lie outside 0..{MOST_TIMES - 1}.")
        self.description.validate_state(state, self.index.size, self.actions)
        if "allowed" in state:
            check_allowed(state["allowed"], self.visits.shape)
            self.allow()[:] = as_mask(state["allowed"])
        for name, mine in self.tables.items():
            mine[:] = state[name]
        self.updates = int(state["updates"][0]) if "updates" in state else 0
        for rng, saved in zip(self.generators, state.get("generators", ()), strict=False):
            rng.bit_generator.state = saved


def memory_of(description: Tabular, arrays: dict[str, Any]) -> Any:
    """The arrays of one seed as the rule takes them; those that know no masks get none."""
    known = "mask" in getattr(description.state_type, "_fields", ())
    return description.state_type(**{name: array for name, array in arrays.items() if known or name != "mask"})


def lookup(rate: Curve) -> np.ndarray:
    """The step size at the first visits [V], up to where it no longer changes. Empty unless it goes by visits."""
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


def check_expected(description: Any) -> None:
    """Raise ValueError for an exploration whose mean over actions is not known in closed form."""
    if description.explore.kind not in (EPSILON_GREEDY, BOLTZMANN):
        raise ValueError(
            f"{name_of(description)} needs to know how likely each action is: explore by EpsilonGreedy, Greedy or"
            f" Boltzmann, not by {type(description.explore).__name__}."
        )


def check_count(description: Any, name: str, most: int = 1_000_000_000) -> None:
    """Store a setting as an int. Raises ArgumentError for what is no whole number from 1 to `most`."""
    store(description, integer, name, low=1, high=most)


def check_number(description: Any, name: str, most: float = 1e6) -> None:
    """Store a setting as a float. Raises ArgumentError for what is no number in [0, most]."""
    store(description, number, name, low=0.0, high=most)


def check_unused(description: Any, name: str, why: str) -> None:
    """Raise ValueError for a setting that this agent does not have, unless it stands as it comes."""
    if getattr(description, name) != getattr(type(description), name):
        raise ValueError(f"{name_of(description)} takes no {name}: {why}.")


__getattr__ = module_getattr(__name__, globals())
