"""A run: N seeds of an agent in an environment, which can be trained further, evaluated, saved and loaded."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from envs.backends.running import Statistics
from envs.source import EnvLike, Source, source
from rl._version import __version__
from rl.core import registry
from rl.core.policy import NetworkPolicy, TablePolicy
from rl.core.protocols import Backend, LiveAgent, Loop, Place
from rl.core.registry import AgentConfig
from rl.core.spaces import SpaceError, space_from_json, space_to_json
from rl.deep.loops.replay import ReplayLoop
from rl.deep.loops.rollout import RolloutLoop
from rl.explore import EPSILON_GREEDY, UPPER_BOUND
from rl.linear.loop import LinearLoop
from rl.run import divergence
from rl.run.exact import Evaluation, Exact, exact_of
from rl.run.local import Local
from rl.run.probe import model_digest, probe
from rl.run.returns import UNKNOWN, ModelRewards, StepRewards, discounted, rewards_of
from rl.tabular.loop import TabularLoop
from supervised import checkpoint, validate
from supervised.checkpoint import CheckpointError
from supervised.events import Curves
from supervised.renamed import ByName, former_attributes, former_keywords
from supervised.validate import ArgumentError, integer, is_whole, optional, seeds_of, shown, unwrap

DEFAULT_HORIZON = 100_000
DEFAULT_ADVANCE = 1_000


# The loop that trains an agent, by the agent's attribute `loop`.
LOOPS: dict[str, Callable[[Any, Place], Loop]] = {
    "tabular": TabularLoop,
    "linear": LinearLoop,
    "replay": ReplayLoop,
    "rollout": RolloutLoop,
}


@former_attributes
class Run:
    """N seeds of an agent in an environment. Created by `rl.start`, `rl.train` or `rl.load`."""

    def __init__(
        self,
        where: Source,
        config: AgentConfig,
        seeds: tuple[int, ...],
        envs_per_seed: int,
        horizon_steps: int,
        workers: int | None = None,
        device: str = "auto",
    ) -> None:
        self.where, self.agent_config = where, config
        envs_per_seed = validate.envs_per_seed(envs_per_seed, len(seeds))
        workers = optional(integer, workers, "workers", 1)
        self.seeds, self.envs_per_seed, self.horizon_steps = seeds, envs_per_seed, horizon_steps
        self.model, self.no_model, spaces = probe(where)
        try:
            fitted = registry.for_returns(config, self._returns, spaces[1])
            self.agent: LiveAgent = fitted.build(*spaces, seeds=seeds, device=device)
        except SpaceError as error:
            raise SpaceError(str(error).replace("The environment", where.name, 1)) from None
        self.spaces = spaces
        why = self.agent.why_no_model()
        if why is not None:
            self.model, self.no_model = None, why
        place = Place(where, self.model, seeds, envs_per_seed, horizon_steps, workers)
        self.local = Local(self.agent, LOOPS[self.agent.loop](self.agent, place), where, self.model)
        self.backend: Backend = self.local  # what currently runs the seeds
        self.regret = np.zeros(len(seeds))
        self.diverged = np.zeros(len(seeds), np.bool_)  # seeds whose diverging values a warning has reported
        self.logdir: Path | None = None
        self.cadence: dict[str, int] = {}
        # Steps per second in the last call of rl.train: summed over seeds, logging included, compiling not.
        self.steps_per_second = 0.0
        self.compile_seconds = 0.0  # in the last call of rl.train
        self.curves: dict[str, Any] = {}  # state of the event files at the last checkpoint: `Logger.state_dict`

    def _returns(self, gamma: float) -> tuple[float, float] | None:
        return discounted(rewards_of(self.where, self.model), gamma)

    @property
    def step(self) -> int:
        """Environment steps so far per seed."""
        return self.backend.step

    @property
    def loop(self) -> Any:
        """The loop that takes the steps in this process."""
        return self.local.loop

    def advance(self, steps: int = DEFAULT_ADVANCE) -> dict[str, Tensor]:
        """Train for `steps` more environment steps per seed and return metrics, each [N].

        With E environments per seed, whole rounds of E steps are taken. How steps are divided into calls does not affect results.
        """
        metrics = self.backend.advance(check_steps(steps))
        found = divergence.exceeding(metrics) & ~self.diverged
        if found.any():
            self.diverged |= found
            message = divergence.sentence(self.agent_config, self.seeds, found, metrics, self.step)
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return metrics

    def episodes(self) -> dict[str, Tensor]:
        """Return the mean return and length of each seed's last 100 episodes, each [N]; NaN before the first one ends.

        rollout/ep_rew_mean is computed from the rewards that the agent learns from. If info["episode"] contains returns (for
        example from RecordEpisodeStatistics below a wrapper that alters rewards), their mean is rollout/recorded_ep_rew_mean.
        """
        return ByName(self.backend.episodes())

    def statistics(self) -> list[Statistics] | None:
        """Return the current running statistics of each seed's wrappers (NormalizeObservation), pooled over its environments.

        None if there are none or if they cannot be read (in the processes of an AsyncVectorEnv).
        """
        return self.backend.statistics()

    @cached_property
    def exact(self) -> Exact | None:
        """The exact reference: optimum and values of policies; None unless the model is known and the agent is tabular."""
        if self.model is None or self.agent.state_values() is None:
            return None
        return exact_of(self.agent, self.model, self.horizon_steps)

    @cached_property
    def rewards(self) -> StepRewards | ModelRewards:
        """The known bounds of the environment's rewards; with a single seed, whose mean has no interval, no environment is
        created to find them."""
        return UNKNOWN if len(self.seeds) == 1 and self.model is None else rewards_of(self.where, self.model)

    def evaluate(self, episodes: int = 100, step_limit: int | None = None) -> Evaluation:
        """Evaluate the greedy policy of each seed in its own environments; deterministic for the same parameters."""
        found: Evaluation = self.backend.evaluate(episodes, step_limit)
        return dataclasses.replace(found, possible=self.rewards.returns(found.step_limit))

    def policy(self, seed: int | str | None = None) -> TablePolicy | NetworkPolicy:
        """Return the greedy policy of a seed (its value, not its index); None: the first; "best": the best by evaluation."""
        if seed is None:
            seed = self.seeds[0]
        elif isinstance(seed, str) and seed == "best":
            seed = self._best_seed()
        plain = unwrap(seed)
        if not is_whole(plain) or plain not in self.seeds:
            known = ", ".join(map(str, self.seeds[:20])) + ", ..." * (len(self.seeds) > 20)
            raise ArgumentError(f"This run has the seeds {known}; {shown(seed)} is not one of them.")
        k = self.seeds.index(int(plain))
        explore: Any = self.agent_config.explore
        level = float(self.backend.exploration()[k])
        statistics = self.statistics()
        own = None if statistics is None else statistics[k]
        rest = {"seed": self.seeds[k], "explore": explore.kind, "level": level, "statistics": own}
        if explore.kind == UPPER_BOUND:  # it needs visit counts, which a policy does not have
            rest |= {"explore": EPSILON_GREEDY, "level": 0.0}
        return self.agent.policy(k, self.spaces, rest)  # type: ignore[no-any-return]  # one of two

    def _best_seed(self) -> int:
        if self.exact is not None:
            values, how = self.exact.value(self.exact.policies(self.agent)), "exact value"
        else:
            values, how = self.evaluate(100).per_seed, "mean return of 100 episodes"
        k = int(values.argmax())
        print(
            f"Seed {self.seeds[k]} is the best of {len(self.seeds)} by {how} ({values[k]:.4f}; the mean is"
            f" {values.mean():.4f}). The best of several seeds is optimistically biased: report the mean.",
            file=sys.stderr,
        )
        return self.seeds[k]

    def to_json(self) -> dict[str, Any]:
        """Return the settings of the run as JSON values; they must be the same when a run is resumed."""
        return {
            "env": self.where.description or {"name": self.where.name},
            "agent": registry.to_json(self.agent_config),
            "seeds": list(self.seeds),
            "envs_per_seed": self.envs_per_seed,
        }

    def save(self, path: str | Path) -> None:
        """Save everything needed to continue the run bit for bit to one safetensors file, which contains no code."""
        meta = {
            "kind": "run",
            "package": __version__,
            "config": self.to_json(),
            "horizon_steps": self.horizon_steps,
            "step": self.step,
            "spaces": [space_to_json(space) for space in self.spaces],
            "model": None if self.model is None else model_digest(self.model),
            "cadence": self.cadence,
            "curves": self.curves,
        }
        checkpoint.save(
            validate.path(path, "path"),
            {**self.backend.state(), "regret": self.regret, "diverged": self.diverged},
            meta,
        )
        self.backend.on_checkpoint(Path(path))

    def state(self) -> dict[str, Any]:
        """Return the state of the agent and the loop, in which arrays and lists have the seeds as their first axis."""
        return self.backend.state()

    def restore(self, state: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Continue from a checkpoint's state and header; `rl.load` creates a run that matches them.

        Raises CheckpointError for a checkpoint from a different environment, ValueError and the like for a damaged one.
        """
        mine = None if self.model is None else model_digest(self.model)
        spaces = [space_to_json(space_from_json(space)) for space in meta["spaces"]]  # in the current format
        if spaces != [space_to_json(space) for space in self.spaces] or meta["model"] != mine:
            raise CheckpointError(
                f"The checkpoint is from another environment: the spaces, rewards or transitions of {self.where.name} differ from"
                " those saved."
            )
        self.local.restore(state)
        self.regret[:] = state["regret"]
        self.diverged[:] = state.get("diverged", False)  # older versions did not save it
        self.cadence = {str(k): int(v) for k, v in meta["cadence"].items()}
        self.curves = dict(meta["curves"] if meta["format"] > 1 else state["curves"])
        Curves.of(self.curves)  # raises ValueError if they are damaged


@former_keywords
def start(
    env: EnvLike | Source,
    agent: AgentConfig,
    seeds: int | Iterable[int] = 1,
    *,
    steps: int | None = None,
    envs_per_seed: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    env_kwargs: Mapping[str, Any] | None = None,
) -> Run:
    """Return a run at step 0, for a custom training loop: `while run.step < n: metrics = run.advance()`.

    steps: the horizon of schedules without their own (default: 100 000). The other arguments are those of `rl.train`.
    """
    registry.check(agent)
    numbers = seeds_of(seeds)
    horizon = check_steps(DEFAULT_HORIZON if steps is None else steps)
    count = registry.envs_per_seed(agent, envs_per_seed)
    return Run(source(env, env_kwargs), agent, numbers, count, horizon, workers, device)


def check_steps(steps: Any, name: str = "steps") -> int:
    """Return `steps` as an int of at least 1; 1e6 is accepted for 1 000 000. Raises ArgumentError for anything else."""
    return integer(steps, name, 1, floats=True)
