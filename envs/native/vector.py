"""Native vector environments: many copies of a game in arrays, as a real `gymnasium.vector.VectorEnv`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.errors import EnvError
from envs.native.arrays import Arrays, place
from envs.native.game import Game
from supervised.validate import integer, shown

MANY = 10_000  # copies, from which on their memory is estimated before it is taken
GB = 1e9


class Outcome(NamedTuple):
    """The result of a step of R copies, arrays where the game computes."""

    reward: Any  # float32 [R]
    terminated: Any  # bool [R]
    truncated: Any  # bool [R]
    next_obs: Any  # [R, *O], the true successor, also at an episode's end
    next_mask: Any  # bool [R, A], the actions allowed there; None: all, always
    obs: Any  # [R, *O], after the resets of the copies whose episode has ended
    mask: Any


class NativeVectorEnv(VectorEnv[Any, Any, Any]):
    """R copies of a game. Copy i depends neither on the number of copies nor on the device.

    make: creates the game where it computes. device: "cpu" (numpy) or a torch device. `reset(seed=s)` gives copy i the seed
    s + i; a list gives each its own. Raises EnvError for more copies than fit into memory.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012  (as Gymnasium declares it)

    def __init__(
        self,
        make: Callable[[Arrays], Game],
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        device: str = "cpu",
    ) -> None:
        self.num_envs = integer(num_envs, "num_envs", 1)
        if render_mode not in (None, "rgb_array"):
            raise EnvError(f"render_mode must be None or 'rgb_array', not {shown(render_mode)}.")
        self.arrays = place(device)
        self.game = make(self.arrays)
        limits = [steps for steps in (max_episode_steps, self.game.limit) if steps]
        self.limit = min(limits, default=0)
        self._check_memory()
        self.mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.mode}
        self.render_mode = render_mode
        self.single_observation_space = self.game.observation_space
        self.single_action_space = self.game.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.first, self.count = int(self.single_action_space.start), int(self.single_action_space.n)
        self.draws: Any = None  # see `envs.native.draws`; None before the first reset
        self.state: dict[str, Any] = {}
        self.elapsed = np.zeros(self.num_envs, np.int64)
        self.over = np.zeros(self.num_envs, np.bool_)  # copies whose episode has ended, and that have not been reset

    def _check_memory(self) -> None:
        """Raise EnvError if so many copies take more memory than is free."""
        if self.num_envs < MANY:
            return
        state = self.game.reset(self.game.draws(self.arrays, [0], *self._sizes()).reset(np.zeros(1, np.int64)))
        arrays = [self.arrays.host(part) for part in (*state.values(), self.game.observe(state))]
        # A step has the state, its successor and observations of both; the spaces of all copies have bounds.
        needed = self.num_envs * (5 * sum(part.nbytes for part in arrays) + self.game.draws.copy_bytes(*self._sizes()))
        free = self.arrays.free()
        if free is not None and needed > free:
            raise EnvError(
                f"{self.num_envs:,} copies take about {needed / GB:.1f} GB, but only {free / GB:.1f} GB are free."
            )

    def _sizes(self) -> tuple[int, int]:
        """Return how many random numbers a step and a reset need."""
        return self.game.step_draws, self.game.reset_draws

    def reset(self, *, seed: Any = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset all copies, or those of options["reset_mask"], bool [R].

        seed: of copy 0 (copy i has seed + i), or a list of R seeds; None: every copy's numbers continue.
        """
        mask = None if options is None else options.get("reset_mask")
        rows = np.arange(self.num_envs) if mask is None else np.flatnonzero(_mask(mask, self.num_envs))
        if len(rows) < self.num_envs and (seed is not None or not self.state):
            raise EnvError("The first reset, and any reset with a seed, resets all copies, so it takes no reset_mask.")
        if seed is not None or self.draws is None:
            self.seed(seed)
        fresh = self.game.reset(self.draws.reset(rows))
        self.state = self.arrays.put(self.state, rows, fresh | self.persistent(rows)) if self.state else fresh
        self.elapsed[rows], self.over[rows] = 0, False
        return self.game.observe(self.state), self._info(self.game.mask(self.state))

    def seed(self, seed: Any = None) -> None:
        """Give each copy its own random numbers, `seed` as in `reset`. The next reset or `load_state_dict` gives it a state."""
        if seed is None or np.ndim(seed) == 0:
            first = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else integer(seed, "seed", 0)
            seed = range(first, first + self.num_envs)
        numbers = [integer(number, "seed", 0, 2**63 - 1) for number in seed]
        if len(numbers) != self.num_envs:
            raise EnvError(f"{self.num_envs} copies need as many seeds, not {len(numbers)}.")
        self.draws, self.state = self.game.draws(self.arrays, numbers, *self._sizes()), {}

    def advance(self, actions: Any) -> Outcome:
        """Take actions int64 [R], counted from 0, and reset the copies whose episode ends in the same call."""
        state, reward, terminated = self.game.transition(self.state, actions, self.draws.step())
        self.elapsed += 1
        truncated = self.elapsed >= self.limit if self.limit else np.zeros(self.num_envs, np.bool_)
        over = self.arrays.host(terminated) | truncated
        self.state = state
        next_obs, next_mask = self.game.observe(state), self.game.mask(state)
        obs, mask = next_obs, next_mask
        if over.any():
            rows = over.nonzero()[0]
            fresh = self.renew(rows, self.persistent(rows))
            obs, mask = self.arrays.replaced(next_obs, rows, self.game.observe(fresh)), self.game.mask(self.state)
        return Outcome(reward, terminated, truncated, next_obs, next_mask, obs, mask)

    def persistent(self, rows: np.ndarray) -> dict[str, Any]:
        """Return copies of the parts of these copies' state that a reset keeps."""
        return {name: self.state[name][rows] for name in self.game.persistent}

    def renew(self, rows: np.ndarray, persistent: dict[str, Any]) -> dict[str, Any]:
        """Reset these copies, except for what persists, with the current step's random numbers. Return their new states."""
        fresh = self.game.reset(self.draws.again(rows)) | persistent
        self.state = self.arrays.put(self.state, rows, fresh)
        self.elapsed[rows] = 0
        return fresh

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Like `gymnasium.vector.VectorEnv.step`, in the autoreset mode of the environment."""
        if self.draws is None:
            raise EnvError("reset() must be called before step().")
        taken = self._actions(actions)
        if self.mode == AutoresetMode.SAME_STEP:
            found = self.advance(taken)
            info = self._info(found.mask)
            over = self.arrays.host(found.terminated) | found.truncated
            if over.any():
                info |= {"final_obs": found.next_obs, "_final_obs": over, "final_info": self._info(found.next_mask)}
                info["_final_info"] = over
            return found.obs, found.reward, found.terminated, self.arrays.here(found.truncated), info
        if self.mode == AutoresetMode.DISABLED and self.over.any():
            raise EnvError(
                "The episodes of some copies have ended: reset them with reset(options={'reset_mask': ...}) before the next step."
            )
        ended = np.flatnonzero(self.over)
        persistent = self.persistent(ended)
        state, reward, terminated = self.game.transition(self.state, taken, self.draws.step())
        self.state = state
        self.elapsed += 1
        truncated = self.elapsed >= self.limit if self.limit else np.zeros(self.num_envs, np.bool_)
        if len(ended):  # in NEXT_STEP mode their action is ignored
            self.renew(ended, persistent)
            reward[ended], terminated[ended], truncated[ended] = 0, False, False
        self.over = self.arrays.host(terminated) | truncated
        mask = self.game.mask(self.state)
        return self.game.observe(self.state), reward, terminated, self.arrays.here(truncated), self._info(mask)

    def _actions(self, actions: Any) -> Any:
        taken = self.arrays.actions(actions)
        if taken is None or tuple(taken.shape) != (self.num_envs,):
            raise EnvError(f"step takes {self.num_envs} actions, whole numbers in an array, not {shown(actions)}.")
        taken = taken - self.first if self.first else taken
        if not self.arrays.below(taken, self.count):
            low, high = int(taken.min()) + self.first, int(taken.max()) + self.first
            raise EnvError(
                f"Actions must be whole numbers from {self.first} to {self.first + self.count - 1}; got {low} to {high}."
            )
        return taken

    def _info(self, mask: Any) -> dict[str, Any]:
        if mask is None:
            return {}
        return {"action_mask": mask, "_action_mask": np.ones(self.num_envs, np.bool_)}

    def render(self) -> tuple[Any, ...] | None:
        """Return a picture of each copy, uint8 [height, width, 3]; None without render_mode="rgb_array"."""
        if self.render_mode is None:
            return None
        state = {name: self.arrays.host(part) for name, part in self.state.items()}
        return tuple(
            self.game.picture({name: part[i : i + 1] for name, part in state.items()}) for i in range(self.num_envs)
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next steps depend on, arrays [R, ...] on the host."""
        if self.draws is None:
            raise EnvError("The environment has no state before the first reset.")
        return {
            "state": {name: self.arrays.host(part).copy() for name, part in self.state.items()},
            "elapsed": self.elapsed.copy(),
            "over": self.over.copy(),
            "draws": self.draws.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """Restore a state returned by `state_dict` and return the observations. The copies need the same seeds: see `seed`.

        Raises EnvError, and changes nothing, if the state belongs to a different game or number of copies.
        """
        if self.draws is None:
            raise EnvError("Seed the environment (reset or seed) before its state is restored.")
        blank = self.game.reset(
            self.game.draws(self.arrays, range(self.num_envs), *self._sizes()).reset(np.arange(self.num_envs))
        )
        mine = {name: (tuple(part.shape), str(self.arrays.host(part).dtype)) for name, part in blank.items()}
        theirs = {name: (part.shape, str(part.dtype)) for name, part in state["state"].items()}
        if mine != theirs or state["elapsed"].shape != self.elapsed.shape or state["over"].shape != self.over.shape:
            raise EnvError(f"The saved state does not match {self.num_envs} copies of this game.")
        self.draws.load_state_dict(state["draws"])
        self.state = {name: self.arrays.array(part, str(part.dtype)) for name, part in state["state"].items()}
        self.elapsed[:], self.over[:] = state["elapsed"], state["over"]
        return self.game.observe(self.state)


def _mask(mask: Any, count: int) -> np.ndarray:
    found = np.asarray(mask)
    if found.shape != (count,) or found.dtype != np.bool_:
        raise EnvError(f"reset_mask must be bool [{count}], not {found.dtype} {list(found.shape)}.")
    return found
