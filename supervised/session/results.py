"""The result of a run, as one JSON file that says how to reproduce it."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from supervised import files, statistics
from supervised.checkpoint import CheckpointError


def summary(
    values: np.ndarray, seeds: Sequence[int], low: float | None = None, high: float | None = None
) -> dict[str, Any]:
    """Per-seed values, their mean, and its 95 % interval. low, high: between what they must lie, where that is known."""
    possible = [bound if bound is not None and math.isfinite(bound) else None for bound in (low, high)]
    return {
        "per_seed": {str(seed): float(v) for seed, v in zip(seeds, values, strict=True)},
        "mean": float(values.mean()),
        "interval_95": [number(bound) for bound in statistics.interval(values, 0.95, low, high)],
        "possible": possible,
    }


def describe(found: Mapping[str, Any], digits: int = 4) -> str:
    """A `summary` in words, as `statistics.describe`."""
    low, high = found["possible"]
    return statistics.describe(list(found["per_seed"].values()), digits=digits, low=low, high=high)


def write(figures: dict[str, Any], path: Path) -> None:
    """Write the figures as JSON. Raises CheckpointError when that is impossible; what was there is still there then."""
    write_bytes((json.dumps(figures, indent=2) + "\n").encode(), path)


def write_bytes(data: bytes, path: Path) -> None:
    """Write a file of results, such as a picture, and its folder if need be. Raises CheckpointError as `write` does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, data)
    except OSError as error:
        raise CheckpointError(f"The result {path} could not be written: {error.strerror or error}.") from error


def finished(path: Path, **expected: Any) -> dict[str, Any] | None:
    """The figures that a result holds already, if they are of what is `expected`, such as steps=1000; else None."""
    try:
        figures: dict[str, Any] = json.loads(path.read_text())
        plain = json.loads(json.dumps(expected))  # as it looks when it was read
        return figures if all(figures.get(name) == value for name, value in plain.items()) else None
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def number(value: float) -> float | None:
    """A number for JSON, which knows no NaN."""
    return None if math.isnan(value) else float(value)


def about() -> dict[str, Any]:
    """What a result was produced with: versions, commit and machine."""
    packages = ("valuebased", "gymnasium", "numpy", "torch", "numba", "scikit-learn", "tensorboard")
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
        "commit": commit(),
        "machine": {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
    }


def commit() -> str | None:
    """The commit of this package's checkout, with "+changes" if files differ from it; None outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        tracked = git("ls-files", "--error-unmatch", Path(__file__).name)
        return (
            git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "") if tracked else None
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
