"""The live agent: N Q-tables, whatever rule they are learned by."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl.core import jit
from rl.core.limits import MOST_BYTES
from rl.core.policy import TablePolicy
from rl.core.registry import name_of, optional_setting
from rl.core.spaces import StateIndex, actions_of
from rl.core.types import Batch, Decision, State, Update
from rl.explore import EPSILON_GREEDY, masked
from rl.explore.masked import as_mask, check_allowed
from rl.tabular.batches import check, check_learnable, masks_of, states_of
from rl.tabular.rule import MOST_TIMES, Transition, rule_state
from supervised.device import cpu_only
from supervised.renamed import former_attributes
from supervised.schedules import STEPS, VISITS, as_schedule, value_at
from supervised.streams import generator
from supervised.validate import ArgumentError, explained, seeds_of


@former_attributes
class TabularAgent:
    """N Q-tables, float64 [N, S, A], and their visit counts, int64 [N, S, A], on the CPU."""

    def __init__(self, config: Any, observation_space: Any, action_space: Any, seeds: Any, device: str = "cpu") -> None:
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
        known = rule.kind == EPSILON_GREEDY and rule.hold is None and level.unit == STEPS
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
        """Return the tables, the masks that are known, the number of updates and the state of the random generators."""
        drawn = [dict(rng.bit_generator.state) for rng in self.generators]
        masks = {} if self.allowed is None else {"allowed": self.allowed.astype(np.uint8)}
        return {**self.tables, **masks, "updates": np.array([self.updates]), "generators": drawn}

    @explained("the state that state_dict returned")
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore saved tables. Raises ValueError if the shape differs, and for NaN or infinite values."""
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


def _initial(initial_q: float | tuple[float, float], shape: tuple[int, int], seed: int) -> np.ndarray:
    if isinstance(initial_q, tuple):
        return generator(seed, "initial").uniform(*initial_q, size=shape)
    return np.full(shape, float(initial_q))
