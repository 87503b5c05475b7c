"""Semi-gradient SARSA(lambda) with tile coding: Q(s, a) is the sum of the weights of the active tiles of s.

Sutton and Barto (2018), section 12.7: the first box with accumulating and replacing traces; the second, true online, with Dutch
traces. Deviations: traces below 1e-4 are dropped. At a truncation no next action is taken, so the update bootstraps from the
expected value under the behavior policy; then the traces are reset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rl.core import jit
from rl.core.observations import parts_of
from rl.core.policy import NetworkPolicy
from rl.core.protocols import Plane
from rl.core.registry import add_presets, register
from rl.core.spaces import SpaceError, actions_of
from rl.core.types import Batch, Decision, State, Update
from rl.explore import EpsilonGreedy, Explore
from rl.linear.tile_coding import Bounds, code, coding_of, values
from rl.tabular.agent import MOST_BYTES, check_count, check_expected, check_number
from rl.tabular.traces import DUTCH, KINDS, REPLACING, TRACE_CUTOFF
from supervised.device import cpu_only
from supervised.renamed import former_attributes
from supervised.schedules import Schedule, setting
from supervised.validate import ArgumentError, as_float, choice, explained, seeds_of, shown, store


class EligibilityTraces(NamedTuple):
    """The traces of R environments, and a list of the (tile, action) pairs with a nonzero trace, as tile * A + action."""

    trace: Any  # float64 [R, F * A]
    listed: Any  # int64 [R, F * A]
    size: Any  # int64 [R]
    old: Any  # float64 [R], for Dutch traces: Q(s', a') as of the previous step


class TransitionBatch(NamedTuple):
    """One step of each of R environments."""

    tiles: Any  # int64 [R, T], the active tiles of s
    action: Any  # int64 [R]
    reward: Any  # float64 [R]
    discount: Any  # float64 [R], gamma times the step's own discount, or 0 after a termination
    following: Any  # float64 [R], Q(s', a')
    over: Any  # bool [R], whether the episode has terminated or been truncated
    valid: Any  # bool [R], false where the call only reset the environment
    step_size: Any  # float64 [R]
    scale: Any  # float64 [R], the step's own discount


def learn(
    weights: Any, m: EligibilityTraces, t: TransitionBatch, gamma: float, decay: float, kind: int, errors: Any
) -> None:
    """Apply w += step_size / T * error * trace row by row and write the TD errors into errors [R].

    error = r + discount * Q(s', a') - Q(s, a).
    """
    actions, grids = weights.shape[2], t.tiles.shape[1]
    rows = t.tiles.shape[0] // weights.shape[0]
    for r in range(t.tiles.shape[0]):
        errors[r] = 0.0
        if not t.valid[r]:
            continue
        w, a, rate = weights[r // rows], t.action[r], t.step_size[r] / grids
        value, seen = 0.0, 0.0
        for i in range(grids):
            value += w[t.tiles[r, i], a]
        following = 0.0 if t.discount[r] == 0.0 else t.following[r]
        errors[r] = t.reward[r] + t.discount[r] * following - value
        decay_traces(m, r, gamma * decay)
        for i in range(grids):
            seen += m.trace[r, t.tiles[r, i] * actions + a]
        for i in range(grids):
            update_trace(m, r, t.tiles[r, i] * actions + a, kind, rate * seen)
        q_correction = value - m.old[r] if kind == DUTCH else 0.0
        for j in range(m.size[r]):
            place = m.listed[r, j]
            w[place // actions, place % actions] += rate * (errors[r] + q_correction) * m.trace[r, place]
        if kind == DUTCH:
            for i in range(grids):
                w[t.tiles[r, i], a] -= rate * q_correction
            m.old[r] = following
        if t.over[r]:
            reset_traces(m, r)
        elif t.scale[r] != 1.0:
            decay_traces(m, r, t.scale[r])


def decay_traces(m: EligibilityTraces, r: int, factor: float) -> None:
    """Decay all traces of an environment and drop those below TRACE_CUTOFF."""
    j = 0
    while j < m.size[r]:
        place = m.listed[r, j]
        m.trace[r, place] *= factor
        if abs(m.trace[r, place]) < TRACE_CUTOFF:  # Dutch traces can be negative
            m.trace[r, place] = 0.0
            m.size[r] -= 1
            m.listed[r, j] = m.listed[r, m.size[r]]
        else:
            j += 1


def update_trace(m: EligibilityTraces, r: int, place: int, kind: int, share: float) -> None:
    """Start or update the trace of an active tile. share: the step size times the summed traces of the active tiles."""
    before = m.trace[r, place]
    if before == 0.0:
        m.listed[r, m.size[r]] = place
        m.size[r] += 1
    after = before + 1.0
    if kind == REPLACING:
        after = 1.0
    elif kind == DUTCH:
        after = before + 1.0 - share
    m.trace[r, place] = after


def reset_traces(m: EligibilityTraces, r: int) -> None:
    """Reset all traces of an environment to 0."""
    for j in range(m.size[r]):
        m.trace[r, m.listed[r, j]] = 0.0
    m.size[r] = 0
    m.old[r] = 0.0


@register
@dataclass(frozen=True)
class LinearSARSA:
    """Semi-gradient SARSA(lambda) with tile coding. All weights start at 0, which is optimistic if rewards are negative."""

    gamma: float = 1.0
    """The discount, in [0, 1]."""
    step_size: float | Schedule = 0.5
    """In [0, 1], shared among the tilings: a number or a schedule in steps or episodes."""
    explore: Explore = field(default_factory=lambda: EpsilonGreedy(0.0))
    """EpsilonGreedy, Greedy or Boltzmann."""
    lambda_: float = 0.9
    """How slowly traces fade, in [0, 1]."""
    traces: str = "replacing"
    """The kind of traces: "replacing", "accumulating" or "dutch"."""
    tilings: int = 8
    """How many grids of tiles."""
    tiles: int = 8
    """How many tiles each grid has along an axis."""
    bounds: Bounds | None = None
    """(lowest, highest) of each number, where the observation space has none."""

    def __post_init__(self) -> None:
        check_number(self, "gamma", 1)
        check_number(self, "lambda_", 1)
        store(self, setting, "step_size", low=0.0, high=1.0, units=("steps", "episodes"))
        if not isinstance(self.explore, Explore):
            raise ArgumentError(f"explore must be EpsilonGreedy, Greedy or Boltzmann, not {shown(self.explore)}.")
        if self.explore.hold is not None:
            raise ArgumentError(
                "EpsilonGreedy(hold=...) is for agents with networks: tiles hold no action. Leave it out."
            )
        check_expected(self)
        check_count(self, "tilings")
        check_count(self, "tiles")
        store(self, choice, "traces", known=KINDS)
        store(self, _bounds, "bounds", none=True)

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Raise SpaceError for what cannot be tiled, and for actions that are not Discrete."""
        coding_of(observation_space, self.tilings, self.tiles, self.bounds)
        actions_of(action_space)

    def build(self, observation_space: Any, action_space: Any, seeds: Any = 1, device: str = "cpu") -> LinearAgent:
        """Return the live agent, with all weights 0. Raises SpaceError unless observations are a bounded Box of a few numbers."""
        return LinearAgent(self, observation_space, action_space, seeds, device)


@former_attributes
class LinearAgent:
    """N seeds of linear action values: weights float64 [N, F, A], on the CPU."""

    def __init__(
        self, config: LinearSARSA, observation_space: Any, action_space: Any, seeds: Any, device: str = "cpu"
    ) -> None:
        cpu_only(device, "Tile coding runs")
        self.config = config
        self.seeds = seeds_of(seeds)
        self.actions, self.first_action = actions_of(action_space)
        self.coding = coding_of(observation_space, config.tilings, config.tiles, config.bounds)
        self.parts = parts_of(observation_space)
        needed = len(self.seeds) * self.coding.features * self.actions * 8
        if needed > MOST_BYTES:
            raise ValueError(
                f"The weights need {needed / 1e9:.1f} GB; at most {MOST_BYTES / 1e9:.0f} GB are allowed. Use fewer seeds or"
                " tiles."
            )
        self.weights = np.zeros((len(self.seeds), self.coding.features, self.actions))
        self._code = jit.compiled(code) or code
        self._values = jit.compiled(values) or values

    @explained("observations [N, B, D]")
    def tiles(self, obs: Any) -> np.ndarray:
        """Return the active tiles int64 [N * B, T] of observations [N, B, D]. Raises ValueError for other shapes and for NaN."""
        array = np.asarray(obs.cpu() if isinstance(obs, Tensor) else obs, np.float64)
        axes = len(self.coding.low)
        if array.ndim != 3 or array.shape[0] != len(self.seeds) or array.shape[2] != axes:
            raise ValueError(
                f"Observations must be [N, B, {axes}] with N = {len(self.seeds)} seeds, not {list(array.shape)}."
            )
        if np.isnan(array).any():
            raise ValueError("The observation contains NaN.")
        found = np.empty((array.shape[0] * array.shape[1], len(self.coding.shift)), np.int64)
        self._code(self.coding, array.reshape(-1, axes), found)
        return found

    def values(self, active: np.ndarray) -> np.ndarray:
        """Return the Q-values float64 [N, B, A] of active tiles int64 [N * B, T]."""
        q = np.empty((len(active), self.actions))
        self._values(self.weights, active, q)
        return q.reshape(len(self.seeds), -1, self.actions)

    def q(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Tensor:
        """Return the Q-values float64 [N, B, A] of observations [N, B, D]; state and episode_start are ignored."""
        return torch.from_numpy(self.values(self.tiles(obs)))

    def act(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Decision:
        """Return the Q-values of `q` as a Decision."""
        return Decision(self.q(obs), {})

    def judge(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Decision:
        """Return the decision of `act` in numpy arrays."""
        return Decision(self.values(self.tiles(obs)), {})

    @property
    def table(self) -> np.ndarray:
        """Raise SpaceError: there is no table of continuous states."""
        raise SpaceError("Tile coding is for continuous states, so this agent has no table of Q-values.")

    loop = "linear"  # see `rl.run.run.LOOPS`
    device = torch.device("cpu")

    def state_values(self) -> None:
        """Return None: states are continuous."""

    def state_visits(self) -> None:
        """Return None: states are continuous."""

    def plane(self, k: int, points: int) -> Plane | None:
        """Return the k-th seed's values over the tiled area; None unless observations are two numbers."""
        if len(self.coding.low) != 2:
            return None
        high = self.coding.low + self.coding.tiles / self.coding.scale
        x, y = (np.linspace(low, top, points) for low, top in zip(self.coding.low, high, strict=True))
        grid = np.stack(np.meshgrid(x, y), -1).reshape(1, -1, 2)
        q = self.q(np.repeat(grid, len(self.seeds), 0))[k].numpy()
        return Plane(x, y, q.reshape(points, points, -1))

    def graph(self) -> None:
        """Return None: there is no network."""

    def summary(self) -> dict[str, str]:
        """Return an empty dict: there is nothing to report but the settings."""
        return {}

    @property
    def distributional(self) -> bool:
        """False: the agent learns expected values, not distributions."""
        return False

    def why_no_model(self) -> None:
        """Return None: a finite model supports everything that tile coding does."""

    def final_epsilon(self, horizon_steps: int) -> float | None:
        """Return None: there is no exact reference for tile coding."""
        return None

    def policy(self, k: int, spaces: tuple[Any, Any], settings: Mapping[str, Any]) -> NetworkPolicy:
        """Return the policy of the k-th seed."""
        return NetworkPolicy(self.config, self.weights_of(k), *spaces, **settings)

    def allowed_of(self, obs: Any, allowed: np.ndarray | None) -> np.ndarray | None:
        """Return the actions allowed, bool [N, B, A], which are those of the environment's mask; None: all."""
        return allowed

    @explained("k, the place of one of its seeds")
    def weights_of(self, k: int) -> dict[str, np.ndarray]:
        """Return the k-th seed's weights, for a policy."""
        return {"weights": self.weights[k]}

    @explained("the weights of one seed by name")
    def load_seed_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Set the weights of all seeds to those of one. Raises ValueError if they belong to another tile coding."""
        self.load_state_dict({"weights": np.stack([weights["weights"]] * len(self.seeds))})

    def update(self, batch: Batch) -> Update:
        """Raise ValueError: SARSA(lambda) learns from the next action, which a batch does not contain."""
        raise ValueError(
            "LinearSARSA learns from the next action, which a batch does not contain: train it with rl.train, or step by step"
            " with run.advance()."
        )

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights}

    @explained("the state that state_dict returned")
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore saved weights. Raises ValueError for weights of another shape and for NaN or infinite values."""
        saved = state["weights"]
        if saved.shape != self.weights.shape or saved.dtype != self.weights.dtype or not np.isfinite(saved).all():
            raise ValueError(f"The saved weights must be finite float64 {list(self.weights.shape)}.")
        self.weights[:] = saved


def _bounds(value: Any, name: str, none: bool) -> Bounds:
    """Return (lowest, highest) as tuples of floats. Raises ArgumentError for anything else."""
    try:
        low, high = (tuple(as_float(x) for x in part) for part in value)
    except (TypeError, ValueError):  # nothing to unpack, or not two of them
        low, high = (math.nan,), (math.nan,)
    if len(low) != len(high) or not all(math.isfinite(x) for x in (*low, *high)):
        raise ArgumentError(
            f"{name} must be (lowest, highest), two sequences of finite numbers of the same length, or None, not {shown(value)}."
        )
    return low, high


add_presets("tiles", {"linear-sarsa": LinearSARSA()})
