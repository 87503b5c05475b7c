"""Runs from files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

import envs
from envs.backends.contract import raised_by_environment
from envs.source import EnvLike, Source, from_description, source
from rl import networks
from rl.core import registry
from rl.run.run import Run, check_steps
from supervised import checkpoint, validate
from supervised.checkpoint import CheckpointError
from supervised.device import choose
from supervised.validate import integer, optional, seeds_of

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
    path, workers = validate.path(path, "path"), optional(integer, workers, "workers", 1)
    choose(device)
    saved = checkpoint.Saved(path, *checkpoint.load(path))
    if network is not None:
        networks.check(network)
    functions = {"network": network, "mask": mask}
    given = {name: function for name, function in functions.items() if function is not None}
    return restored(saved, env, given, env_kwargs=env_kwargs, workers=workers, device=device)


def restored(
    saved: checkpoint.Saved,
    env: EnvLike | Source | None,
    functions: Mapping[str, Any],
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    workers: int | None = None,
    device: str = "auto",
) -> Run:
    """The run in a checkpoint that was read already; see `load`. functions: the settings that no file can hold, by name."""
    path, state, meta = saved
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
        description = registry.from_json(config["agent"], **functions)
        if "network" in functions and "network" not in registry.functions_of(description):
            raise CheckpointError(
                "network=... was given, but the agent in this file was made without a function for it."
            )
        if registry.name_of(description) not in registry.AGENTS:
            raise CheckpointError(f"{path} names no agent.")
        numbers = seeds_of(config["seeds"])
        run = Run(
            where, description, numbers, config["envs_per_seed"], check_steps(meta["horizon_steps"]), workers, device
        )
        run._restore(state, meta)
    except registry.NotHere as error:
        raise CheckpointError(f"{path} holds no code. {error}") from error
    except (CheckpointError, envs.EnvError):
        raise
    except DAMAGE as error:
        if raised_by_environment(error):  # while its episode was replayed
            raise
        if functions:
            raise CheckpointError(f"{path} does not go with the function given, or is damaged: {error}") from error
        raise CheckpointError(f"{path} is a damaged checkpoint: {error}{checkpoint.hint(path)}") from error
    return run
