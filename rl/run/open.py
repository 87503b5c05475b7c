"""How `rl.train` obtains its run: a new one, a given one that continues, or one resumed from a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from envs.source import EnvLike, Source, source
from rl.core import registry
from rl.core.registry import AgentConfig
from rl.run.files import restored
from rl.run.run import Run, start
from supervised import checkpoint
from supervised.checkpoint import CheckpointError, Saved
from supervised.session import Session
from supervised.validate import integer, seeds_of


def folder(env: EnvLike | Run, logdir: str | Path | None) -> str | Path | None:
    """Return the folder for curves and checkpoints: `logdir`, or the existing one of a run that continues."""
    return env.logdir if logdir is None and isinstance(env, Run) else logdir


def opened(
    env: EnvLike | Run,
    agent: AgentConfig | None,
    steps: int,
    seeds: int | Iterable[int],
    session: Session,
    resume: bool,
    settings: dict[str, Any],
) -> Run:
    """Return the run to train. settings: envs_per_seed, workers, device and env_kwargs, as in `rl.train`.

    Raises ValueError for contradictory arguments and CheckpointError for a folder that contains another run.
    """
    if isinstance(env, Run):
        if agent is not None or settings["env_kwargs"] is not None or resume:
            raise ValueError("A run that continues already has its environment, agent and seeds: pass only steps.")
        return _in_place(env, session)
    if agent is None:
        raise ValueError("The agent is missing: pass a config such as rl.QLearning().")
    saved = session.newest(resume)
    if saved is None:
        return start(env, agent, seeds, steps=steps, **settings)
    return _resumed(saved, env, agent, seeds, session.folder, settings)


def _in_place(run: Run, session: Session) -> Run:
    """Return a run that continues, in its existing folder or in a new one."""
    if run.logdir is not None and session.folder is not None and session.folder.resolve() == run.logdir.resolve():
        session.check_unchanged(run.curves, run.step)
    else:
        session.newest(resume=False)
        run.curves = {}
    return run


def _resumed(
    saved: Saved, env: EnvLike, agent: AgentConfig, seeds: Any, place: Path | None, settings: dict[str, Any]
) -> Run:
    """Return the run saved in the folder `place`. Raises CheckpointError if its settings differ from those given now."""
    where = source(env, settings.pop("env_kwargs"))
    wanted = {
        "env": where.description or {"name": where.name},
        "agent": registry.to_json(agent),
        "seeds": list(seeds_of(seeds)),
        "envs_per_seed": integer(registry.envs_per_seed(agent, settings.pop("envs_per_seed")), "envs_per_seed", 1),
    }
    changed = checkpoint.differences(_config(saved, where), wanted)
    if changed:
        lines = "; ".join(f"{field} was {old!r} and is now {new!r}" for field, old, new in changed)
        raise CheckpointError(
            f"The run in {place} was created with other settings: {lines}. Start a new one in another logdir."
        )
    return restored(saved, where, registry.functions_of(agent), **settings)


def _config(saved: Saved, where: Source) -> Any:
    """Return the config of a saved run in the current format of `Run.config`. Unreadable configs are returned unchanged.

    For an EnvSpec with its own settings or wrappers, earlier versions recorded only the name; it is assumed to be the given one,
    `where`.
    """
    config: Any = saved.meta.get("config")
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        here = where.description or {}
        names = ({"name": where.name}, {"name": here.get("id")} if here.get("wrappers") else None)
        env = here if (here.get("kwargs") or here.get("wrappers")) and config["env"] in names else config["env"]
        return {**config, "env": env, "agent": registry.current(config["agent"])}
    return config
