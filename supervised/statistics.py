"""What N seeds say together. The seed is the unit, never the episode."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from supervised.validate import ArgumentError, explained, integer, number, shown

RESAMPLES = 10_000  # of a bootstrap, fewer where there are more than 100 values
FEWEST = 5  # values that a bootstrap needs
SHARE = (0.0, 1.0)  # the range of shares and probabilities
BAND = "with_interval/"  # the group of tags that bands are drawn of
Range = tuple[float | None, float | None]  # what is known of the values' range; None: nothing
UNKNOWN: Range = (None, None)


def interval(
    values: Any, level: float = 0.95, low: float | None = None, high: float | None = None
) -> tuple[float, float]:
    """A confidence interval for the mean of independent values [N].

    low, high: bounds that no value can pass, where they are known. Without any the interval is Student's t, mean -+ t * s /
    sqrt(N). With one it lies within the bounds: for zeros and ones in [0, 1] Wilson's (1927) interval; from five values on the
    percentiles of a bootstrap over the values, expanded for few of them (Hesterberg 2015, "What teachers should know about the
    bootstrap"); for fewer Student's t, cut at the bounds. The bootstrap draws the same samples at each call.

    With one value nothing is known of the spread, and the answer is (nan, nan). Where all are equal it is that value twice.
    Raises ValueError for a level that is not between 0 and 1.
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
    """The mean with its `interval` in words; with one value, why there is no interval; of zeros and ones, how many are ones."""
    array, digits = _values(values), integer(digits, "digits", 0, 100)
    if array.size == 1:
        return f"{array.mean():.{digits}f} (one seed: no interval, for one value says nothing of the spread)"
    found = interval(array, level, low, high)
    return f"{array.mean():.{digits}f} [{found[0]:.{digits}f}, {found[1]:.{digits}f}]{count(array, (low, high))}"


def count(values: Any, possible: Range) -> str:
    """Of shares that are all 0 or 1, " (8 of 10 seeds)"; of others nothing. possible: the values' range."""
    array = np.asarray(values, dtype=np.float64)
    return f" ({int(array.sum())} of {array.size} seeds)" if _is_count(array, possible) else ""


def band(tag: str) -> tuple[str, str, str]:
    """The tags by which a tag's mean is drawn with its interval as a band: mean, lower and upper bound.

    They are a group of their own, the last one, so that no curve of a bound stands among the others; and no seed's run has one
    of the three without the others, which TensorBoard would complain of.
    """
    return f"{BAND}{tag}", f"{BAND}{tag}_low", f"{BAND}{tag}_high"


@explained("metrics, each [N], by tag, and the tags of bands")
def aggregate(
    metrics: Mapping[str, Any], bands: Collection[str], ranges: Mapping[str, Range] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Metrics, each [N], as (float64 arrays [N], their means over the seeds that have a value).

    For tags in `bands` the mean comes a second time with its interval, as `band` names them, where there is an interval.
    ranges: what is known of the values' range, by tag.
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
    """Values [N] as float64. Raises ArgumentError for what is not an array of numbers."""
    try:
        return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(f"values is an array of numbers, not {shown(values)}.") from None


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
    # As far out as Student's t lies with the standard deviation that resampling has, which is too small by sqrt((n - 1) / n).
    tail = float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.5 + level / 2)))
    means = np.einsum("bn,n->b", _resamples(n), array)
    low, high = np.quantile(means, (tail, 1 - tail)).clip(array[0], array[-1]).tolist()
    return low, high


@functools.lru_cache(maxsize=4)
def _resamples(n: int) -> np.ndarray:
    """The weight of each of n values in each resample [B, n], always the same ones."""
    rng = np.random.Generator(np.random.PCG64(n))
    samples = min(RESAMPLES, max(100 * RESAMPLES // n, RESAMPLES // 10))
    return rng.multinomial(n, np.full(n, 1 / n), samples) / n
