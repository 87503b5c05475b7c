"""What N seeds say together. The seed is the unit, never the episode."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from supervised.validate import ArgumentError, explained, integer, number, shown


def interval(values: Any, level: float = 0.95) -> tuple[float, float]:
    """Student's t interval for the mean of independent values [N]: mean -+ t * s / sqrt(N).

    With one value nothing is known of the spread, and the answer is (nan, nan). Raises ValueError for a level that is
    not between 0 and 1.
    """
    level = number(level, "The level of an interval", 0.0, 1.0, above=True, below=True)
    array = _values(values)
    n = array.size
    if n < 2:
        return math.nan, math.nan
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.5 + level / 2)) * float(array.std(ddof=1)) / math.sqrt(n)
    mean = float(array.mean())
    return mean - half, mean + half


def describe(values: Any, level: float = 0.95, digits: int = 4) -> str:
    """The mean with its interval in words; with one value, why there is no interval."""
    array, digits = _values(values), integer(digits, "digits", 0, 100)
    if array.size == 1:
        return f"{array.mean():.{digits}f} (one seed: no interval, for one value says nothing of the spread)"
    low, high = interval(array, level)
    return f"{array.mean():.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


@explained("metrics, each [N], by tag, and the tags of bands")
def aggregate(metrics: Mapping[str, Any], bands: Collection[str]) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Metrics, each [N], as (float64 arrays [N], their means over the seeds that have a value).

    For tags in `bands` the mean comes with TAG_low and TAG_high, its interval.
    """
    arrays = {tag: np.asarray(v.cpu() if hasattr(v, "cpu") else v, np.float64) for tag, v in metrics.items()}
    together: dict[str, float] = {}
    for tag, values in arrays.items():
        known = values[~np.isnan(values)]
        together[tag] = float(known.mean()) if known.size else math.nan
        if tag in bands:
            together[f"{tag}_low"], together[f"{tag}_high"] = interval(known)
    return arrays, together


def _values(values: Any) -> np.ndarray:
    """Values [N] as float64. Raises ArgumentError for what is not an array of numbers."""
    try:
        return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(f"values is an array of numbers, not {shown(values)}.") from None
