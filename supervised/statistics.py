"""Statistics over N seeds. The sampling unit is the seed, never the episode."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from supervised.validate import ArgumentError, explained, integer, number, shown

RESAMPLES = 10_000  # of a bootstrap; fewer for more than 100 values
FEWEST = 5  # the smallest number of values for a bootstrap
SHARE = (0.0, 1.0)  # the range of shares and probabilities
BAND = "with_interval/"  # the tag group of the bands
Range = tuple[float | None, float | None]  # bounds of possible values; None: unknown
UNKNOWN: Range = (None, None)


def interval(
    values: Any, level: float = 0.95, low: float | None = None, high: float | None = None
) -> tuple[float, float]:
    """Return a confidence interval for the mean of independent values [N].

    low, high: known bounds of the values; None: unknown. Without bounds this is Student's t interval, mean -+ t * s / sqrt(N).
    With a bound the interval respects it: Wilson's (1927) interval for zeros and ones in [0, 1]; for five or more values a
    percentile bootstrap with a small-sample correction (Hesterberg 2015, "What teachers should know about the bootstrap"); for
    fewer, Student's t clipped to the bounds. The bootstrap draws the same resamples at each call.

    With a single value the spread is unknown, and the result is (nan, nan). If all values are equal, both bounds are that value.
    Raises ValueError for a level outside (0, 1).
    """
    level = number(level, "The level of an interval", 0.0, 1.0, above=True, below=True)
    array = np.sort(_values(values), axis=None)
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    if array.size < 2 or not np.isfinite(array).all():
        return math.nan, math.nan
    if array[0] == array[-1]:
        return float(array[0]), float(array[0])
    if _is_count(array, (low, high)):
        return _wilson(array, level)
    known = math.isfinite(low) or math.isfinite(high)
    found = _bootstrap(array, level) if known and array.size >= FEWEST else _student(array, level)
    return max(found[0], low), min(found[1], high)


def describe(
    values: Any, level: float = 0.95, digits: int = 4, low: float | None = None, high: float | None = None
) -> str:
    """Format the mean with its `interval`; add the count of ones for zeros and ones, and a reason if there is only one value."""
    array, digits = _values(values), integer(digits, "digits", 0, 100)
    if array.size == 1:
        return f"{array.mean():.{digits}f} (one seed: no interval, since one value says nothing about the spread)"
    found = interval(array, level, low, high)
    return f"{array.mean():.{digits}f} [{found[0]:.{digits}f}, {found[1]:.{digits}f}]{count(array, (low, high))}"


def count(values: Any, possible: Range) -> str:
    """Return " (8 of 10 seeds)" for shares that are all 0 or 1, else an empty string. possible: the range of the values."""
    array = np.asarray(values, dtype=np.float64)
    return f" ({int(array.sum())} of {array.size} seeds)" if _is_count(array, possible) else ""


def band(tag: str) -> tuple[str, str, str]:
    """Return the tags of mean, lower and upper bound by which TensorBoard draws a tag with its interval as a band.

    They form a separate group, the last one, so that the bounds do not appear among the other curves. Every run has all three
    or none of them, as TensorBoard requires.
    """
    return f"{BAND}{tag}", f"{BAND}{tag}_low", f"{BAND}{tag}_high"


@explained("metrics, each [N], by tag, and the tags of bands")
def aggregate(
    metrics: Mapping[str, Any], bands: Collection[str], ranges: Mapping[str, Range] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return metrics, each [N], as (float64 arrays [N], their means over the seeds whose value is not NaN).

    For each tag in `bands` that has an interval, the means also contain the three tags of `band`. ranges: the known range of
    the values, by tag.
    """
    arrays = {tag: np.asarray(v.cpu() if hasattr(v, "cpu") else v, np.float64) for tag, v in metrics.items()}
    together: dict[str, float] = {}
    for tag, values in arrays.items():
        known = values[~np.isnan(values)]
        together[tag] = float(known.mean()) if known.size else math.nan
        if tag in bands:
            low, high = interval(known, 0.95, *(ranges or {}).get(tag, UNKNOWN))
            if not math.isnan(low):
                together |= zip(band(tag), (together[tag], low, high), strict=True)
    return arrays, together


def _values(values: Any) -> np.ndarray:
    """Convert values [N] to float64. Raises ArgumentError for anything that is not an array of numbers."""
    try:
        return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(f"values must be an array of numbers, not {shown(values)}.") from None


def _is_count(array: np.ndarray, possible: Range) -> bool:
    return tuple(possible) == SHARE and bool(((array == 0) | (array == 1)).all())


def _student(array: np.ndarray, level: float) -> tuple[float, float]:
    from scipy.special import stdtrit

    n, mean = array.size, float(array.mean())
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * float(array.std(ddof=1)) / math.sqrt(n)
    return mean - half, mean + half


def _wilson(array: np.ndarray, level: float) -> tuple[float, float]:
    from scipy.special import ndtri

    n, p, z = array.size, float(array.mean()), float(ndtri(0.5 + level / 2))
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def _bootstrap(array: np.ndarray, level: float) -> tuple[float, float]:
    from scipy.special import ndtr, stdtrit

    n = array.size
    # The tail probability that matches Student's t; the bootstrap's standard deviation is too small by sqrt((n - 1) / n).
    tail = float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.5 + level / 2)))
    means = np.einsum("bn,n->b", _resamples(n), array)
    low, high = np.quantile(means, (tail, 1 - tail)).clip(array[0], array[-1]).tolist()
    return low, high


@functools.lru_cache(maxsize=4)
def _resamples(n: int) -> np.ndarray:
    """Return the weight of each of n values in each resample, [B, n]; the same at each call."""
    rng = np.random.Generator(np.random.PCG64(n))
    samples = min(RESAMPLES, max(100 * RESAMPLES // n, RESAMPLES // 10))
    return rng.multinomial(n, np.full(n, 1 / n), samples) / n
