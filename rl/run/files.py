"""Loading runs from checkpoint files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

import envs
from envs.backends.contract import raised_by_environment
from envs.source import EnvLike, Source, from_description, source
from rl import network_names
from rl.core import registry
from rl.run.run import Run, check_steps
from supervised import checkpoint, validate
from supervised.checkpoint import CheckpointError
from supervised.device import choose
from supervised.validate import integer, optional, seeds_of

# Exceptions that restoring a mismatched checkpoint may raise, including the environment's own.
RESTORE_ERRORS = (
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
    """Load a run written by `run.save`, ready to continue.

    env, network, mask: required if the run was created with functions for them, which cannot be saved. Raises CheckpointError for
    a file that is truncated, of a different kind or a newer format, or from a different environment. Never executes or imports
    code from the file.
    """
    path, workers = validate.path(path, "path"), optional(integer, workers, "workers", 1)
    choose(device)
    saved = checkpoint.Saved(path, *checkpoint.load(path))
    if network is not None:
        network_names.check(network)
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
    """Restore the run from a checkpoint that has been read; see `load`. functions: settings that cannot be saved, by name."""
    path, state, meta = saved
    if meta.get("kind") != "run":
        raise CheckpointError(f"{path} holds a {meta.get('kind')}, not a run. Read a policy with rl.load_policy.")
    try:
        saved_as = meta["config"]
        if env is None and "id" not in saved_as["env"]:
            raise CheckpointError(
                f"{path} was created with an environment that cannot be saved ({saved_as['env']['name']}): pass it again as"
                " env=..."
            )
        where = from_description(saved_as["env"]) if env is None else source(env, env_kwargs)
        config = registry.from_json(saved_as["agent"], **functions)
        if "network" in functions and "network" not in registry.functions_of(config):
            raise CheckpointError(
                "network=... was given, but the agent in this file was created without a network function."
            )
        if registry.name_of(config) not in registry.AGENTS:
            raise CheckpointError(f"{path} does not contain the config of an agent.")
        numbers = seeds_of(saved_as["seeds"])
        run = Run(
            where, config, numbers, saved_as["envs_per_seed"], check_steps(meta["horizon_steps"]), workers, device
        )
        run.restore(state, meta)
    except registry.NotHere as error:
        raise CheckpointError(f"{path} contains no code. {error}") from error
    except (CheckpointError, envs.EnvError):
        raise
    except RESTORE_ERRORS as error:
        if raised_by_environment(error):  # while its episode was replayed
            raise
        if functions:
            raise CheckpointError(f"{path} does not match the given function, or is damaged: {error}") from error
        raise CheckpointError(f"{path} is a damaged checkpoint: {error}{checkpoint.hint(path)}") from error
    return run
