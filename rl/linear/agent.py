"""The live agent: N seeds of linear action values over tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl.core import jit
from rl.core.limits import MOST_BYTES
from rl.core.observations import parts_of
from rl.core.policy import NetworkPolicy
from rl.core.protocols import Plane
from rl.core.spaces import SpaceError, actions_of
from rl.core.types import Batch, Decision, State, Update
from rl.linear.tile_coding import code, coding_of, values
from supervised.device import cpu_only
from supervised.renamed import former_attributes
from supervised.validate import explained, seeds_of


@former_attributes
class LinearAgent:
    """N seeds of linear action values: weights float64 [N, F, A], on the CPU."""

    def __init__(self, config: Any, observation_space: Any, action_space: Any, seeds: Any, device: str = "cpu") -> None:
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
        """Return the weights."""
        return {"weights": self.weights}

    @explained("the state that state_dict returned")
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore saved weights. Raises ValueError if the shape differs, and for NaN or infinite values."""
        saved = state["weights"]
        if saved.shape != self.weights.shape or saved.dtype != self.weights.dtype or not np.isfinite(saved).all():
            raise ValueError(f"The saved weights must be finite float64 {list(self.weights.shape)}.")
        self.weights[:] = saved
