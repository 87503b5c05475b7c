"""What a run came to, as one JSON file that says how to get it again."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from rl.run import Run
from supervised import statistics
from supervised.checkpoint import CheckpointError

NEAR = 0.99  # a seed is near the optimum within this share of it


def result(run: Run, episodes: int = 100) -> dict[str, Any]:
    """The figures of a run: exact where the model is known, else by episodes. JSON values; what is unknown is None."""
    exact = run.exact
    figures: dict[str, Any] = {"evaluation": "exact" if exact is not None else f"{episodes} episodes a seed"}
    if exact is None:
        evaluation = run.evaluate(episodes)
        figures |= {"step_limit": evaluation.step_limit, "return": summary(evaluation.per_seed, run.seeds)}
        return figures | _about(run)
    policies = run.agent.table.argmax(-1)
    value = exact.value(policies)
    figures |= {
        "step_limit": exact.horizon,
        "return": summary(value, run.seeds),
        "best_possible": exact.best,
        "best_stationary": _number(exact.stationary),
        "gap_to_best_possible": _number(exact.best - value.mean()),
        "gap_to_best_stationary": _number(exact.stationary - value.mean()),
        "seeds_near_best_stationary": near(value, exact.stationary),
    }
    if exact.model.success is not None:
        figures["success"] = summary(exact.success(policies), run.seeds)
    return figures | _about(run)


def near(value: np.ndarray, optimum: float) -> int | None:
    """How many seeds lie within 99 % of the optimum (of its size, where it is negative)."""
    return None if math.isnan(optimum) else int((value >= optimum - (1 - NEAR) * abs(optimum) - 1e-12).sum())


def summary(values: np.ndarray, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Per-seed values, their mean, and its 95 % interval."""
    interval = [_number(bound) for bound in statistics.interval(values)]
    return {
        "per_seed": {str(seed): float(v) for seed, v in zip(seeds, values, strict=True)},
        "mean": float(values.mean()),
        "interval_95": interval,
    }


def write(figures: dict[str, Any], path: Path) -> None:
    """Write the figures as JSON. Raises CheckpointError when that is impossible."""
    try:
        path.write_text(json.dumps(figures, indent=2) + "\n")
    except OSError as error:
        raise CheckpointError(f"The result {path} could not be written: {error.strerror or error}.") from error


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _about(run: Run) -> dict[str, Any]:
    configuration = {**run.config(), "horizon_steps": run.horizon_steps, "cadence": run.cadence}
    return {"steps": run.step, "seeds": list(run.seeds), "configuration": configuration, **about()}


def about() -> dict[str, Any]:
    """What a figure was got with: versions, commit and machine."""
    packages = ("valuebased", "gymnasium", "numpy", "torch", "numba", "tensorboard")
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
