#!/usr/bin/env python
"""Compare our numbers with those of rlax, and of formulas recomputed from papers and dqn_zoo.

python scripts/benchmarks/references.py --out tests/rl/references/references.npz     20 batches of each case
python scripts/benchmarks/references.py --batches 1000 --seed 1 --check              1 000, compared with ours

The exit status is 1 if a number differs.

Requires rlax, which this package does not: `python -m pip install rlax` in a virtual environment with this package.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

sys.path.append(str(Path(__file__).parents[1]))  # where the packages of the scripts are

from cli.common import command

from benchmarks.reference_cases import CASES, Arrays, library
from benchmarks.reference_ours import OURS, OWN, SINGLE, Ours

DOUBLE, FLOAT = 1e-12, 1e-6
LOOSER = {"categorical_rescaled": 5e-6}  # in float32: h's inverse, and the distance of atoms that errors are divided by
Precision = type[np.float64] | type[np.float32]


@dataclass
class Settings:
    """Write reference numbers, or compare ours with them."""

    out: Path | None = None
    """Path of the .npz file to write."""
    batches: int = 20
    """Number of batches of each case."""
    seed: int = 0
    """Seed of the inputs."""
    check: bool = False
    """Compare ours with the references; writes nothing without --out."""
    only: str = ""
    """Run only cases whose name contains this."""


def rng_of(seed: int, name: str) -> np.random.Generator:
    """Return the generator of a case, which does not depend on the other cases."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def made(settings: Settings) -> dict[str, tuple[Arrays, Arrays]]:
    """Return the inputs of each case, and the outputs of the reference."""
    found = {}
    for name, case in CASES.items():
        if settings.only in name:
            inputs = case.inputs(rng_of(settings.seed, name), settings.batches)
            found[name] = inputs, case.reference(inputs)
    return found


def written(path: Path, cases: dict[str, tuple[Arrays, Arrays]], settings: Settings) -> int:
    """Write the cases with their provenance. Return the file's size in bytes."""
    versions = {name: importlib.metadata.version(name) for name in ("rlax", "jax", "numpy")}
    again = f"python scripts/benchmarks/references.py --batches {settings.batches} --seed {settings.seed} --out FILE"
    provenance = {
        "command": again,
        "seed": settings.seed,
        "batches": settings.batches,
        "versions": versions,
        "sources": {name: CASES[name].source for name in cases},
    }
    parts = {"provenance": np.array(json.dumps(provenance))}
    for name, (inputs, outputs) in cases.items():
        parts |= {f"{name}/in/{key}": value for key, value in inputs.items()}
        parts |= {f"{name}/out/{key}": value for key, value in outputs.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **parts)
    return path.stat().st_size


def read(path: Path) -> tuple[dict[str, object], dict[str, tuple[Arrays, Arrays]]]:
    """Read what `written` wrote. Return the provenance, and inputs and outputs by case."""
    cases: dict[str, tuple[Arrays, Arrays]] = {}
    with np.load(path) as file:
        for key in file.files:
            if key != "provenance":
                name, side, part = key.split("/")
                cases.setdefault(name, ({}, {}))[side == "out"][part] = file[key]
        return json.loads(str(file["provenance"])), cases


def difference(found: Arrays, sought: Arrays) -> float:
    """Return the largest |found - sought| / max(1, |sought|); NaN equals only NaN."""
    if found.keys() != sought.keys():
        raise ValueError(f"Our outputs are {sorted(found)}, those of the references {sorted(sought)}.")
    worst = 0.0
    for name, ours in found.items():
        a, b = ours.astype(np.float64), sought[name].astype(np.float64)
        if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
            return float("inf")
        worst = max(worst, float(np.nan_to_num(np.abs(a - b) / np.maximum(1, np.abs(b))).max(initial=0.0)))
    return worst


def precisions(name: str) -> list[tuple[Ours, Precision, float]]:
    """Return the comparisons of a case: our outputs, their precision, and the tolerance."""
    if name in OWN:
        return [(OWN[name], np.float32, FLOAT) if name in SINGLE else (OWN[name], np.float64, DOUBLE)]
    return [(OURS[name], np.float64, DOUBLE), (OURS[name], np.float32, LOOSER.get(name, FLOAT))]


def main(settings: Settings, console: Console) -> None:
    """Write, compare, or both."""
    if settings.out is None and not settings.check:
        raise ValueError("Nothing to do: pass --out FILE, --check, or both.")
    if settings.batches < 1:
        raise ValueError(f"--batches must be at least 1, not {settings.batches}.")
    library()
    cases = made(settings)
    if not cases:
        raise ValueError(f"No case has {settings.only!r} in its name; the cases are {', '.join(CASES)}.")
    missed = []
    for name, (inputs, outputs) in cases.items() if settings.check else ():
        for function, precision, most in precisions(name):
            worst = difference(function(inputs, precision), outputs)
            missed += [name] if worst > most else []
            verdict = "ok" if worst <= most else f"above {most:g}"
            console.print(f"{name:24} {precision.__name__:8} {worst:.1e} {verdict}")
    if settings.out is not None:
        size = written(settings.out, cases, settings)
        console.print(f"{settings.out}: {len(cases)} cases of {settings.batches} batches, {size / 1e3:.0f} kB")
    if missed:
        raise ValueError(
            f"{', '.join(dict.fromkeys(missed))} differ from the references in {settings.batches} batches."
        )


if __name__ == "__main__":
    raise SystemExit(command(Settings, main))
