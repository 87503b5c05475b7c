"""The result of a run as a JSON file, with what is needed to reproduce it."""

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
    """Return per-seed values, their mean and its 95 % interval. low, high: bounds of possible values, if known."""
    possible = [bound if bound is not None and math.isfinite(bound) else None for bound in (low, high)]
    return {
        "per_seed": {str(seed): float(v) for seed, v in zip(seeds, values, strict=True)},
        "mean": float(values.mean()),
        "interval_95": [number(bound) for bound in statistics.interval(values, 0.95, low, high)],
        "possible": possible,
    }


def describe(found: Mapping[str, Any], digits: int = 4) -> str:
    """Format a `summary` by `statistics.describe`."""
    low, high = found["possible"]
    return statistics.describe(list(found["per_seed"].values()), digits=digits, low=low, high=high)


def write(figures: dict[str, Any], path: Path) -> None:
    """Write the figures as JSON. Raises CheckpointError, leaving an existing file unchanged, if that fails."""
    write_bytes((json.dumps(figures, indent=2) + "\n").encode(), path)


def write_bytes(data: bytes, path: Path) -> None:
    """Write a result file, such as an image, and its folder if needed. Raises CheckpointError as `write` does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, data)
    except OSError as error:
        raise CheckpointError(f"The result {path} could not be written: {error.strerror or error}.") from error


def finished(path: Path, **expected: Any) -> dict[str, Any] | None:
    """Return the figures in an existing result file if they match `expected`, such as steps=1000, else None."""
    try:
        figures: dict[str, Any] = json.loads(path.read_text())
        plain = json.loads(json.dumps(expected))  # as read back from JSON
        return figures if all(figures.get(name) == value for name, value in plain.items()) else None
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def number(value: float) -> float | None:
    """Return a number for JSON, with NaN as None."""
    return None if math.isnan(value) else float(value)


def about() -> dict[str, Any]:
    """Return versions, commit and machine that produced a result."""
    packages = ("valuebased", "gymnasium", "numpy", "torch", "numba", "scikit-learn", "tensorboard")
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
        "commit": commit(),
        "machine": {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
    }


def commit() -> str | None:
    """Return the commit of this package's checkout, with "+changes" if files differ from it; None outside a checkout."""
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
