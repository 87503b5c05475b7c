"""Gymnasium ids: looking them up, with advice in the error message for unknown ones."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import re
import sys
from importlib import metadata

import gymnasium as gym

from envs.errors import EnvError

# Patterns of well-known ids, with the module whose import registers them and its name for pip.
PACKAGES = {
    r"ALE/|[A-Z]\w*(NoFrameskip|Deterministic)-v[04]$|[A-Z]\w*-ram": ("ale_py", "ale-py"),
    r"(Asterix|BeamRider|Boxing|Breakout|Enduro|Freeway|MontezumaRevenge|MsPacman|Pong|Qbert|Seaquest|SpaceInvaders)-v[04]$": (
        "ale_py",
        "ale-py",
    ),
    r"MiniGrid-|BabyAI-": ("minigrid", "minigrid"),
    r"MiniWorld-": ("miniworld", "miniworld"),
    r"(highway|merge|roundabout|parking|intersection|racetrack|exit|two-way|u-turn|lane-keeping)(-\w+)?-v\d+$": (
        "highway_env",
        "highway-env",
    ),
    r"Fetch|HandManipulate|HandReach|PointMaze|AntMaze|Adroit|FrankaKitchen": (
        "gymnasium_robotics",
        "gymnasium-robotics",
    ),
    r"dm_control/|OpenSpiel|Meltingpot": ("shimmy", "shimmy"),
    r"PyFlyt/": ("PyFlyt.gym_envs", "PyFlyt"),
    r"MinAtar/": ("minatar.gym", "minatar"),
    r"MO-|mo-": ("mo_gymnasium", "mo-gymnasium"),
    r"Atari/": ("envs.atari", "valuebased[atari]"),
}


def find(name: str) -> None:
    """Raise EnvError unless `name` is registered with Gymnasium; "module:id" imports the module, as gymnasium.make does."""
    try:
        if ":" in name:
            importlib.import_module(name.split(":", maxsplit=1)[0])
        gym.spec(name.rsplit(":", maxsplit=1)[-1])
    except ImportError as error:
        raise EnvError(f"Gymnasium has no environment {name!r}. {error}") from error
    except gym.error.Error as error:
        raise EnvError(f"Gymnasium has no environment {name!r}.{_versions(name) or _packages(name)}") from error


def _versions(name: str) -> str:
    """Return a sentence on the newest registered version of the same environment, if any."""
    stem = _stem(name.rsplit(":", maxsplit=1)[-1])
    same = [spec for spec in gym.registry.values() if _stem(spec.id) == stem and spec.version is not None]
    if not same:
        return ""
    newest = max(same, key=lambda spec: spec.version or 0)
    return f" The newest registered version of it is {newest.id}."


def _packages(name: str) -> str:
    """Return advice: the package that registers the environment, similar ids, or how packages register theirs."""
    short = name.rsplit(":", maxsplit=1)[-1]
    known = {_stem(key).lower(): key for key in gym.registry}
    near = [known[key] for key in difflib.get_close_matches(_stem(short).lower(), known, n=3, cutoff=0.6)]
    alike = f" Did you mean {', '.join(near)}?" if near else ""
    module, package = next((found for begin, found in PACKAGES.items() if re.match(begin, short)), ("", ""))
    if module and module not in sys.modules:
        if _installed(module):
            return f" {package} is installed but not imported: import {module} first, or use '{module}:{short}'.{alike}"
        return f" {module} registers such ids: pip install '{package}', then use '{module}:{short}'.{alike}"
    others = _builders()
    hint = f" (installed here: {', '.join(others)})" if others else ""
    rest = f" If a package registers it, import that package first, or use 'module:{short}' with its name{hint}."
    return f"{alike}{rest}"


def _stem(name: str) -> str:
    return re.sub(r"-v\d+$", "", name)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _builders() -> list[str]:
    """Return the pip names of installed packages that depend on Gymnasium."""
    found = set()
    for package in metadata.distributions():
        needs = package.requires or []
        if any(re.match(r"gymnasium\b(?!-)", need) and "extra ==" not in need for need in needs):
            found.add(package.metadata["Name"])
    return sorted(name for name in found if name and name != "valuebased")
