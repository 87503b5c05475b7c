"""A run: N seeds of an agent in an environment, that can go on, be evaluated, saved and loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from torch import Tensor

import envs
from envs import tables, vector
from envs.source import EnvLike, Source, from_description, source
from rl import describe
from rl.agents.deep import DeepAgent
from rl.agents.linear import LinearAgent
from rl.agents.table import TableAgent, Tabular
from rl.describe import Description
from rl.evaluate import Evaluation, Exact, by_episodes, exact_of
from rl.explore import EPSILON_GREEDY, UPPER_BOUND
from rl.policy import NetworkPolicy, TablePolicy
from rl.returns import UNKNOWN, ModelRewards, StepRewards, rewards_of
from rl.runs.linear import Linear
from rl.runs.off_policy import OffPolicy
from rl.runs.online import Online
from rl.spaces import SpaceError, space_to_json
from supervised import checkpoint
from supervised.checkpoint import CheckpointError

DEFAULT_HORIZON = 100_000
DEFAULT_ADVANCE = 1_000
# What putting back a state that does not fit may raise, an environment's own complaints about a replayed action included.
DAMAGE = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    RuntimeError,
    OverflowError,
    AssertionError,
    gym.error.Error,
)


@runtime_checkable
class Shared(Protocol):
    """A loop whose seeds are in other processes (`rl.workers`)."""

    def state(self) -> dict[str, Any]: ...

    def saved(self, path: Path) -> None: ...

    def evaluate(self, episodes: int, step_limit: int | None) -> Evaluation: ...

    def fetch_agent(self) -> None: ...


class Run:
    """Made by `rl.start`, `rl.train` or `rl.load`."""

    def __init__(
        self,
        where: Source,
        description: Description,
        seeds: tuple[int, ...],
        envs_per_seed: int,
        horizon_steps: int,
        workers: int | None = None,
        device: str = "auto",
    ) -> None:
        self.where, self.description = where, description
        self.seeds, self.envs_per_seed, self.horizon_steps = seeds, envs_per_seed, horizon_steps
        if isinstance(envs_per_seed, bool) or not isinstance(envs_per_seed, int) or envs_per_seed < 1:
            raise ValueError(f"envs_per_seed is a whole number from 1 on, not {envs_per_seed!r}.")
        if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
            raise ValueError(f"workers is a whole number from 1 on, or None for a sensible one, not {workers!r}.")
        self.model, self.no_model, spaces = _look(where)
        try:
            self.agent: TableAgent | LinearAgent | DeepAgent = description.build(*spaces, seeds=seeds, device=device)
        except SpaceError as error:
            raise SpaceError(str(error).replace("The environment", where.name, 1)) from None
        self.spaces = spaces
        if isinstance(self.agent, DeepAgent) and self.model is not None and _masked(where, self.agent):
            self.model, self.no_model = None, "which actions are allowed is not part of the environment's model"
        self.loop: Online | Linear | OffPolicy
        if isinstance(self.agent, TableAgent):
            self.loop = Online(self.agent, where, self.model, seeds, envs_per_seed, horizon_steps, workers)
        elif isinstance(self.agent, LinearAgent):
            self.loop = Linear(self.agent, where, seeds, envs_per_seed, horizon_steps, workers)
        else:
            self.loop = OffPolicy(self.agent, where, seeds, envs_per_seed, horizon_steps)
        self.regret = np.zeros(len(seeds))
        self.logdir: Path | None = None
        self.cadence: dict[str, int] = {}
        self.steps_per_second = 0.0  # of the last call of rl.train, all seeds summed, with its logging
        self.curves: dict[str, int] = {}  # sizes of the event files at the last checkpoint

    @property
    def step(self) -> int:
        """Environment steps so far, per seed."""
        return self.loop.step

    def advance(self, steps: int = DEFAULT_ADVANCE) -> dict[str, Tensor]:
        """Take `steps` more environment steps a seed, learning all the while -> metrics, each [N].

        With E environments a seed, whole rounds of E steps are taken. How the steps are cut into calls changes nothing.
        """
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps is a whole number from 1 on, not {steps!r}.")
        return self.loop.advance(steps)

    def episodes(self) -> dict[str, Tensor]:
        """Mean return and length of each seed's last 100 episodes, each [N]; NaN before one has ended."""
        return self.loop.episodes()

    @cached_property
    def exact(self) -> Exact | None:
        """The exact optimum and the exact value of the policies, where the environment's model is known."""
        if self.model is None or isinstance(self.agent, LinearAgent):
            return None
        if isinstance(self.agent, DeepAgent) and not isinstance(self.spaces[0], gym.spaces.Discrete):
            return None
        return exact_of(self.agent, self.model, self.horizon_steps)

    @cached_property
    def rewards(self) -> StepRewards | ModelRewards:
        """What is known of the environment's rewards; of one seed, whose mean has no interval, no environment is made to see."""
        return UNKNOWN if len(self.seeds) == 1 and self.model is None else rewards_of(self.where, self.model)

    def evaluate(self, episodes: int = 100, step_limit: int | None = None) -> Evaluation:
        """Greedy episodes of each seed in environments of its own; the same numbers at each call with the same values."""
        if isinstance(self.loop, Shared):
            return self.loop.evaluate(episodes, step_limit)
        evaluation = by_episodes(self.agent, self.where, self.model, episodes, step_limit)
        return dataclasses.replace(evaluation, possible=self.rewards.returns(evaluation.step_limit))

    def policy(self, seed: int | str | None = None) -> TablePolicy | NetworkPolicy:
        """The greedy policy of a seed (its value, not its place); None: the first; "best": the best by evaluation."""
        if seed is None:
            seed = self.seeds[0]
        elif seed == "best":
            seed = self._best_seed()
        if seed not in self.seeds:
            raise ValueError(f"This run has the seeds {', '.join(map(str, self.seeds))}; {seed!r} is none of them.")
        k = self.seeds.index(int(seed))
        explore: Any = self.description.explore
        level = float(self.loop.metrics()["rollout/exploration_rate"][k])
        rest = {"seed": int(seed), "explore": explore.kind, "level": level}
        if explore.kind == UPPER_BOUND:  # it needs the counts, which stay behind: what is left is greedy
            rest |= {"explore": EPSILON_GREEDY, "level": 0.0}
        if isinstance(self.agent, TableAgent):
            return TablePolicy(self.agent.table[k], *self.spaces, **rest)
        assert not isinstance(self.description, Tabular)
        return NetworkPolicy(self.description, self.agent.weights_of(k), *self.spaces, **rest)

    def _best_seed(self) -> int:
        if self.exact is not None:
            values, how = self.exact.value(self.agent.table.argmax(-1)), "exact value"
        else:
            values, how = self.evaluate(100).per_seed, "mean return of 100 episodes"
        k = int(values.argmax())
        print(
            f"Seed {self.seeds[k]} is the best of {len(self.seeds)} by {how} ({values[k]:.4f}; their mean is"
            f" {values.mean():.4f}). The best of several flatters: report the mean.",
            file=sys.stderr,
        )
        return self.seeds[k]

    def config(self) -> dict[str, Any]:
        """What the run is, as JSON values: a resumed run must have the same."""
        return {
            "env": self.where.description or {"name": self.where.name},
            "agent": describe.to_json(self.description),
            "seeds": list(self.seeds),
            "envs_per_seed": self.envs_per_seed,
        }

    def save(self, path: str | Path) -> None:
        """Write everything that the run needs to go on, bit for bit, to one safetensors file; data only."""
        from rl import __version__

        meta = {
            "kind": "run",
            "package": __version__,
            "config": self.config(),
            "horizon_steps": self.horizon_steps,
            "step": self.step,
            "spaces": [space_to_json(space) for space in self.spaces],
            "model": None if self.model is None else model_digest(self.model),
            "cadence": self.cadence,
        }
        checkpoint.save(path, {**self.state(), "regret": self.regret, "curves": self.curves}, meta)
        if isinstance(self.loop, Shared):
            self.loop.saved(Path(path))

    def state(self) -> dict[str, Any]:
        """Where the agent and the loop are: arrays and lists begin with the seeds."""
        if isinstance(self.loop, Shared):
            return self.loop.state()
        return {"agent": self.agent.state_dict(), "loop": self.loop.state_dict()}

    def _restore(self, state: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        mine = None if self.model is None else model_digest(self.model)
        if meta["spaces"] != [space_to_json(space) for space in self.spaces] or meta["model"] != mine:
            raise CheckpointError(
                f"The checkpoint was made in another environment: {self.where.name} as it is here has other spaces, rewards or"
                " transitions than the one that was saved."
            )
        self.agent.load_state_dict(state["agent"])
        self.loop.load_state_dict(state["loop"])
        self.regret[:] = state["regret"]
        self.cadence = {str(k): int(v) for k, v in meta["cadence"].items()}
        self.curves = {str(k): int(v) for k, v in state["curves"].items()}


def start(
    env: EnvLike | Source,
    description: Description,
    seeds: int | Iterable[int] = 1,
    *,
    steps: int | None = None,
    envs_per_seed: int = 1,
    workers: int | None = None,
    device: str = "auto",
    env_kwargs: Mapping[str, Any] | None = None,
) -> Run:
    """A run at step 0, for a loop of your own: `while run.step < n: metrics = run.advance()`.

    steps: what schedules without a horizon of their own span (100 000 if not given). The rest is as in `rl.train`.
    """
    if not isinstance(description, Description):
        raise TypeError(f"The agent is a description such as rl.QLearning(), not {description!r}.")
    numbers = vector.seeds_of(seeds)
    horizon = check_steps(DEFAULT_HORIZON if steps is None else steps)
    return Run(source(env, env_kwargs), description, numbers, envs_per_seed, horizon, workers, device)


def check_steps(steps: Any, name: str = "steps") -> int:
    """`steps`, if it is a whole number from 1 on; else a ValueError."""
    whole = isinstance(steps, (int, np.integer)) or (isinstance(steps, float) and steps.is_integer())
    if isinstance(steps, bool) or not whole or steps < 1:
        raise ValueError(f"{name} is a whole number from 1 on, not {steps!r}.")
    return int(steps)


def load(
    path: str | Path,
    env: EnvLike | Source | None = None,
    network: Any = None,
    *,
    mask: Any = None,
    env_kwargs: Mapping[str, Any] | None = None,
    workers: int | None = None,
    device: str = "auto",
) -> Run:
    """Read what `run.save` wrote -> a run that can go on.

    env: needed when the run was made with a function, which no file can hold; network and mask likewise.
    Raises CheckpointError for a file that is cut short, foreign, of a newer format, or made in another environment. Nothing
    in the file is run or imported.
    """
    state, meta = checkpoint.load(path)
    if meta.get("kind") != "run":
        raise CheckpointError(f"{path} holds a {meta.get('kind')}, not a run. Read a policy with rl.load_policy.")
    try:
        config = meta["config"]
        if env is None and "id" not in config["env"]:
            raise CheckpointError(
                f"{path} was made with an environment that no file can hold ({config['env']['name']}): hand it over again as"
                " env=..."
            )
        where = from_description(config["env"]) if env is None else source(env, env_kwargs)
        description = describe.from_json(config["agent"], network=network, mask=mask)
        if network is not None and not callable(getattr(description, "network", None)):
            raise CheckpointError(
                "network=... was given, but the agent in this file was made without a function for it."
            )
        if type(description).__name__ not in describe.AGENTS:
            raise CheckpointError(f"{path} names no agent.")
        numbers = vector.seeds_of(config["seeds"])
        run = Run(
            where, description, numbers, config["envs_per_seed"], check_steps(meta["horizon_steps"]), workers, device
        )
        run._restore(state, meta)
    except (CheckpointError, envs.EnvError):
        raise
    except DAMAGE as error:
        old = checkpoint.previous(path)
        hint = f" The one before it is whole: {old}" if checkpoint.is_whole(old) else ""
        raise CheckpointError(f"{path} is a damaged checkpoint: {error}{hint}") from error
    return run


def model_digest(model: tables.Model) -> str:
    """A fingerprint of a model: the same for the same process, whatever it is called."""
    sha = hashlib.sha256(repr((model.limit, model.step_draws, model.reset_draws)).encode())
    for name, value in sorted(vars(model).items()):
        if isinstance(value, np.ndarray):
            sha.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return sha.hexdigest()[:32]


def _masked(where: Source, agent: DeepAgent) -> bool:
    """Whether some actions are not allowed to an agent now and then."""
    if agent.description.mask is not None:
        return True
    env = where.make()
    _, info = env.reset(seed=0)
    env.close()
    return "action_mask" in info


def _look(where: Source) -> tuple[tables.Model | None, str, tuple[Any, Any]]:
    """The model of an environment (None, with the reason, if it has none) and its spaces."""
    if where.vector is not None:
        spaces = where.vector.single_observation_space, where.vector.single_action_space
        return None, "a VectorEnv is stepped as it is", spaces
    first, second = where.make(), where.make()
    spaces = first.observation_space, first.action_space
    try:
        model, other = tables.read(first), tables.read(second)
    except tables.NotATable as reason:
        return None, str(reason), spaces
    finally:
        first.close()
        second.close()
    if not model.same_as(other):
        raise envs.EnvError(
            f"{where.name} is another environment each time it is made (a random map, perhaps), so seeds could not be compared"
            " nor policies evaluated in it. Fix it, for instance with desc=..."
        )
    return model, "", spaces
