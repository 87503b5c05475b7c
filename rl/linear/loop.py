"""The training loop of linear agents: step, select the next action, then learn from the step, in all environments."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from envs.backends.row_step import Rows
from envs.source import EnvError
from envs.vector import Step
from rl.core import jit
from rl.core.actor import Actor
from rl.core.evaluate import play_networks
from rl.core.limits import MOST_BYTES
from rl.core.protocols import Diagnostics, Place
from rl.core.timing import time_in
from rl.explore import HELD, choose_each, masked
from rl.explore.masked import as_mask
from rl.linear.agent import LinearAgent
from rl.linear.sarsa import EligibilityTraces, TransitionBatch, learn, reset_traces
from rl.tabular.traces import KINDS, check_traces
from supervised.schedules import as_schedule, value_at


class LinearLoop:
    """Trains N seeds of tile-coded SARSA(lambda), each in its own E environments, all in lockstep."""

    in_processes = False
    charts: ClassVar[dict[str, list[str]]] = {}
    memory_bytes = 0
    play = staticmethod(play_networks)

    def __init__(self, agent: LinearAgent, place: Place) -> None:
        where, _, seeds, envs_per_seed, horizon_steps, workers = place
        if workers is not None and workers > 1:
            raise ValueError(
                f"workers={workers}: an agent with tile coding runs all its seeds in one process. Use workers=1."
            )
        self.agent, self.seeds = agent, seeds
        rows, pairs = len(seeds) * envs_per_seed, agent.weights.shape[1] * agent.actions
        if rows * pairs * 16 > MOST_BYTES:
            raise ValueError(
                f"The traces of {rows} environments need {rows * pairs * 16 / 1e9:.1f} GB; at most"
                f" {MOST_BYTES / 1e9:.0f} GB are allowed. Use fewer seeds, environments or tiles."
            )
        self.actor = Actor(agent.config, where, seeds, envs_per_seed, horizon_steps)
        self.rate = as_schedule(agent.config.step_size).curve(horizon_steps)
        traces, listed = np.zeros((rows, pairs)), np.zeros((rows, pairs), np.int64)
        self.memory = EligibilityTraces(traces, listed, np.zeros(rows, np.int64), np.zeros(rows))
        self.action = np.zeros(rows, np.int64)  # the next actions
        self.tiles = np.zeros((rows, agent.config.tilings), np.int64)  # the active tiles of the observations
        self.error = np.zeros(len(seeds))  # sum of |TD error| since the last reset of the metrics
        self.last_log = 0
        self._learn = jit.compiled(learn) or learn
        self._choose_each = jit.compiled(choose_each) or choose_each
        self._choose_allowed = jit.compiled(choose_each, **masked.RULES) or jit.specialize(choose_each, **masked.RULES)

    @property
    def rows(self) -> Rows:
        """The environments."""
        return self.actor.world.rows

    @property
    def step(self) -> int:
        """Environment steps taken per seed."""
        return self.actor.step

    def advance(self, steps: int) -> dict[str, torch.Tensor]:
        """Take at least `steps` more steps per seed (whole rounds of its E environments) and return metrics, each [N]."""
        if self.actor.obs is None:
            self.actor.begin()
            self._choose(self._draw())
        if self.actor.recover():
            self._choose(self._draw())
            for r in range(len(self.action)):
                reset_traces(self.memory, r)
        for _ in range(-(-steps // self.actor.envs_per_seed)):
            self._round()
        if not np.isfinite(self.error).all():
            seed = self.seeds[int(np.flatnonzero(~np.isfinite(self.error))[0])]
            raise FloatingPointError(
                f"The weights of seed {seed} overflowed before step {self.step}: values grow without bound if the step size is"
                " too large, or if gamma is 1 and rewards never end."
            )
        return self.metrics()

    def _draw(self) -> np.ndarray:
        """Draw the uniform numbers in [0, 1) of a decision in each environment: one, or three if actions are held, [N, E, 3]."""
        e = self.actor.envs_per_seed
        return self.actor.streams.random((e,) if self.actor.held is None else (e, 3))

    def _choose(self, u: np.ndarray, begins: np.ndarray | None = None) -> np.ndarray:
        """Select the next actions with the numbers u that `_draw` returned, and return their Q-values, [R].

        begins: None, or bool [R], where an episode begins: environments elsewhere keep the next action selected before.
        """
        actor, allowed = self.actor, self.actor.world.arrays.mask
        self.tiles = self.agent.tiles(actor.obs)
        values, rule, level = self.agent.values(self.tiles), actor.rule, actor.level()
        q, chosen = values.reshape(-1, values.shape[-1]), np.empty(len(self.action), np.int64)
        if actor.held is not None:
            fresh = None if begins is None else begins.reshape(level.shape)
            chosen = actor.held.select(values, level, u, allowed, rule.ties == "random", fresh).reshape(-1)
        elif allowed is None:
            self._choose_each(q, rule.kind, level.reshape(-1), rule.ties == "random", u.reshape(-1), chosen)
        else:
            barred = as_mask(allowed.reshape(q.shape))
            self._choose_allowed(q, rule.kind, level.reshape(-1), rule.ties == "random", u.reshape(-1), chosen, barred)
        self.action = chosen if begins is None else np.where(begins, chosen, self.action)
        found: np.ndarray = np.take_along_axis(q, self.action[:, None], 1)[:, 0]
        return found

    def _round(self) -> None:
        """Take one step in every environment and learn from it."""
        d, actor = self.agent.config, self.actor
        tiles, action = self.tiles, self.action
        step_size = self._step_sizes()
        held = None if actor.held is None else actor.held.steps.reshape(-1) > 0
        taken = action.reshape(len(self.seeds), -1)
        answer = actor.take(taken, self.agent.values(tiles), actor.world.arrays.mask)
        over = (answer.terminated | answer.truncated).reshape(-1)
        u = self._draw()
        following = self._choose(u)
        self._cut_short(answer, following, action, held)
        scale = np.ones(len(over)) if answer.discount is None else answer.discount.reshape(-1)
        discount = d.gamma * scale * ~answer.terminated.reshape(-1)
        valid = np.ones_like(over) if answer.valid is None else answer.valid.reshape(-1)
        reward = answer.reward.reshape(-1).astype(np.float64)
        if not np.isfinite(reward).all():
            raise EnvError(
                f"{actor.world.name} returned a reward that is not finite in single precision (at most 3e38) at step"
                f" {actor.step}."
            )
        t = TransitionBatch(tiles, action, reward, discount, following, over, valid, step_size, scale)
        errors = np.empty(len(over))
        self._learn(self.agent.weights, self.memory, t, d.gamma, float(d.lambda_), KINDS.index(d.traces), errors)
        if over.any():  # a new episode's first action is selected with the updated weights
            self._choose(u, over)
        self.error += np.abs(errors).reshape(len(self.seeds), -1).sum(1)
        actor.within = False

    def _cut_short(self, answer: Step, following: np.ndarray, action: np.ndarray, held: np.ndarray | None) -> None:
        """Set `following` at truncations to the expected value of the final state under the behavior policy.

        action [R]: the actions taken. held bool [R] or None: whether they are held for further steps.
        """
        cut = np.flatnonzero((answer.truncated & ~answer.terminated).reshape(-1))
        if cut.size:
            q = self.agent.judge(answer.next_obs).q.reshape(len(following), -1)
            level, allowed = self.actor.level().reshape(-1), answer.next_mask
            barred = None if allowed is None else as_mask(allowed.reshape(len(following), -1))
            for r in cut:
                kind, parameter = self.actor.rule.kind, level[r]
                if held is not None and held[r] and not masked.forbidden(barred, int(r), int(action[r])):
                    kind, parameter = HELD, float(action[r])
                following[r] = masked.expected(q, int(r), kind, parameter, barred)

    def _step_sizes(self) -> np.ndarray:
        episodes = self.actor.episodes.arrays["episodes"].tolist()
        return np.array([value_at(self.rate, time_in(self.rate, self.step, count, 0)) for count in episodes])

    def metrics(self) -> dict[str, torch.Tensor]:
        """Return the training metrics since the last `reset_metrics`, each [N]."""
        taken = max(self.step - self.last_log, 1)
        shape = len(self.seeds), self.actor.envs_per_seed
        return {
            "train/td_error": torch.from_numpy(self.error / taken),
            "train/learning_rate": torch.from_numpy(self._step_sizes().reshape(shape).mean(1)),
            "rollout/exploration_rate": self.exploration(),
        }

    def exploration(self) -> torch.Tensor:
        """Return the current epsilon, temperature or noise scale of each seed, float64 [N]."""
        return self.actor.exploration()

    def diagnostics(self) -> Diagnostics:
        """Return nothing: linear agents are shown as pictures."""
        return Diagnostics({}, {})

    def episodes(self) -> dict[str, torch.Tensor]:
        """Return the statistics of each seed's last 100 episodes, each [N]; NaN before the first one ends."""
        return self.actor.episodes.means()

    def longest(self) -> np.ndarray:
        """Return the length of the longest of each seed's last 100 episodes, int64 [N]; 0 before the first one ends."""
        return self.actor.episodes.longest()

    def reset_metrics(self) -> None:
        """Start a new interval of `metrics`."""
        self.last_log = self.step
        self.error[:] = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {
            **self.actor.state_dict(),
            "memory": self.memory._asdict(),
            "action": self.action,
            "error": self.error,
            "last_log": np.full(len(self.seeds), self.last_log),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state. Raises ValueError for one that does not match this loop."""
        own = {**self.memory._asdict(), "action": self.action, "error": self.error}
        saved = {**state["memory"], "action": state["action"], "error": state["error"]}
        for name, array in own.items():
            if saved[name].shape != array.shape or saved[name].dtype != array.dtype:
                raise ValueError(f"The saved {name!r} must be {array.dtype} {list(array.shape)}.")
        pairs = self.memory.trace.shape[1]
        limits = {"listed": pairs, "size": pairs + 1, "action": self.agent.actions}
        for name, limit in limits.items():
            if saved[name].min() < 0 or saved[name].max() >= limit:
                raise ValueError(f"The saved {name!r} has values outside 0..{limit - 1}.")
        check_traces(saved["trace"], saved["listed"], saved["size"], saved["old"], saved["error"])
        for name, array in own.items():
            array[...] = saved[name]
        self.last_log = int(state["last_log"][0])
        fresh = self.actor.load_state_dict(state)
        if self.actor.obs is not None:
            self.tiles = self.agent.tiles(self.actor.obs)
        if fresh.any():
            self._choose(self._draw(), fresh)
        for r in np.flatnonzero(fresh):
            reset_traces(self.memory, int(r))
