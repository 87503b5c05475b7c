"""Policies for deployment: greedy by default, without replay or optimizer, and loaded from files by `load_policy`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envs.backends.running import checked
from rl import network_names
from rl.core.network_policy import NetworkPolicy
from rl.core.registry import AGENTS, NotHere, from_json, name_of
from rl.core.spaces import SpaceError, space_from_json
from rl.core.table_policy import TablePolicy
from supervised import checkpoint, validate
from supervised.checkpoint import CheckpointError

__all__ = ["NetworkPolicy", "TablePolicy", "load_policy"]


def load_policy(path: str | Path, network: Any = None, mask: Any = None) -> TablePolicy | NetworkPolicy:
    """Load a policy written by `policy.save`. Never executes code from the file.

    network, mask: the functions that the agent was created with, if any. Raises CheckpointError for any other file.
    """
    path = validate.path(path, "path")
    state, meta = checkpoint.load(path)
    if meta.get("kind") not in ("policy", "network policy"):
        raise CheckpointError(f"{path} holds a {meta.get('kind')}, not a policy. Read a run with rl.load.")
    if network is not None:
        network_names.check(network)
    try:
        spaces = space_from_json(meta["observation_space"]), space_from_json(meta["action_space"])
        rest: dict[str, Any] = {
            name: kind(meta[name]) for name, kind in (("seed", int), ("explore", int), ("level", float))
        }
        rest["statistics"] = checked(state.get("statistics"))
        if meta["kind"] == "policy":
            return TablePolicy(state["q"], *spaces, **rest, allowed=state.get("allowed"))
        config = from_json(meta["agent"], network=network, mask=mask)
        if name_of(config) not in AGENTS:
            raise CheckpointError(f"{path} does not contain the config of an agent.")
        return NetworkPolicy(config, state["weights"], *spaces, **rest)
    except NotHere as error:
        raise CheckpointError(f"{path} contains no code. {error}") from error
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError, SpaceError) as error:
        if network is not None or mask is not None:
            raise CheckpointError(f"{path} does not match the given function, or is damaged: {error}") from error
        raise CheckpointError(f"{path} is a damaged policy: {error}") from error
