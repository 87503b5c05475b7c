"""Gymnasium ids: whether one is known, and where it is not, the sentence that says what to do."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import re
import sys
from importlib import metadata

import gymnasium as gym

from envs.errors import EnvError

# Well-known ids by how they begin, the module that registers them when it is imported, and what pip calls it.
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
    """Raise EnvError unless Gymnasium knows `name`; "module:id" imports the module, as gymnasium.make does."""
    try:
        if ":" in name:
            importlib.import_module(name.split(":", maxsplit=1)[0])
        gym.spec(name.rsplit(":", maxsplit=1)[-1])
    except ImportError as error:
        raise EnvError(f"Gymnasium knows no environment {name!r}. {error}") from error
    except gym.error.Error as error:
        raise EnvError(f"Gymnasium knows no environment {name!r}.{_versions(name) or _packages(name)}") from error


def _versions(name: str) -> str:
    """The newest registered version of the same environment, if there is one."""
    stem = _stem(name.rsplit(":", maxsplit=1)[-1])
    same = [spec for spec in gym.registry.values() if _stem(spec.id) == stem and spec.version is not None]
    if not same:
        return ""
    newest = max(same, key=lambda spec: spec.version or 0)
    return f" The newest registered version of it is {newest.id}."


def _packages(name: str) -> str:
    """What registers the environment, or ids that are spelled alike, or how packages register theirs."""
    short = name.rsplit(":", maxsplit=1)[-1]
    known = {_stem(key).lower(): key for key in gym.registry}
    near = [known[key] for key in difflib.get_close_matches(_stem(short).lower(), known, n=3, cutoff=0.6)]
    alike = f" Did you mean {', '.join(near)}?" if near else ""
    module, package = next((found for begin, found in PACKAGES.items() if re.match(begin, short)), ("", ""))
    if module and module not in sys.modules:
        if _installed(module):
            return (
                f" {package} is installed but not imported: import {module} first, or give '{module}:{short}'.{alike}"
            )
        return f" {module} registers ids like it: pip install '{package}', then give '{module}:{short}'.{alike}"
    others = _builders()
    hint = f" (installed here: {', '.join(others)})" if others else ""
    rest = f" If a package registers it, import that first, or give 'module:{short}' with its name{hint}."
    return f"{alike}{rest}"


def _stem(name: str) -> str:
    return re.sub(r"-v\d+$", "", name)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _builders() -> list[str]:
    """Installed packages that are built on Gymnasium, by the name that pip knows."""
    found = set()
    for package in metadata.distributions():
        needs = package.requires or []
        if any(re.match(r"gymnasium\b(?!-)", need) and "extra ==" not in need for need in needs):
            found.add(package.metadata["Name"])
    return sorted(name for name in found if name and name != "valuebased")
