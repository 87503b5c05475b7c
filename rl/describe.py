"""Descriptions of agents as JSON and back, by a fixed list of types: a file can name none but these."""

from __future__ import annotations

import dataclasses
from typing import Any

from rl.agents.q_learning import QLearning
from rl.explore import RULES
from supervised.schedules import Constant, Exponential, Inverse, Linear

AGENTS: dict[str, type] = {"QLearning": QLearning}
TYPES: dict[str, Any] = {**AGENTS, **{t.__name__: t for t in (*RULES, Constant, Linear, Exponential, Inverse)}}


def to_json(value: Any) -> Any:
    """A description as JSON values: dataclasses become {"type": NAME, field: value, ...}."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if type(value).__name__ not in TYPES:
            raise TypeError(f"{type(value).__name__} is not one of this package's descriptions: {', '.join(TYPES)}.")
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    return list(value) if isinstance(value, tuple) else value


def from_json(data: Any) -> Any:
    """The description that `to_json` wrote. Raises ValueError for an unknown type or unknown settings."""
    if isinstance(data, list):
        return tuple(from_json(item) for item in data)
    if not isinstance(data, dict):
        return data
    kind = data.get("type")
    if kind not in TYPES:
        raise ValueError(f"{kind!r} is not one of this package's descriptions: {', '.join(TYPES)}.")
    try:
        return TYPES[kind](**{name: from_json(value) for name, value in data.items() if name != "type"})
    except TypeError as error:
        raise ValueError(f"The settings of {kind} are damaged: {error}") from error
