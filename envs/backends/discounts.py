"""Per-step discounts: `info["discount"]`, a number in [0, 1] that multiplies gamma for that step only.

An option that took k primitive steps gives gamma**(k - 1) (Sutton, Precup and Singh 1999). The default is 1. A discount in the
`info` of `reset` is ignored, since no step was taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.backends.contract import Breach, numbers_in

KEY = "discount"


def read(given: Any) -> float:
    """Convert a discount to a float in [0, 1]. Raises Breach for anything else, bools included."""
    array = None if given.__class__ is bool else numbers_in(given)
    if array is None or array.ndim or array.dtype.kind == "b" or not 0.0 <= (number := float(array)) <= 1.0:
        raise Breach(
            f"it returned the discount {given!r}; info['{KEY}'] multiplies gamma for the step and must be a number in [0, 1]."
        )
    return number


def together(discounts: Sequence[float]) -> np.ndarray | None:
    """Return the discounts of R rows, float64 [R], or None if all are 1."""
    return None if all(discount == 1.0 for discount in discounts) else np.array(discounts)


def of_rows(infos: Mapping[str, Any], over: np.ndarray, reset: np.ndarray) -> np.ndarray | None:
    """Return the discounts of a vector environment's rows, float64 [R], or None if all are 1.

    over: bool [R], the rows whose episode has just ended; in same-step mode their discounts are in infos["final_info"], while
    infos belongs to their resets. reset: bool [R], the rows that used this call for a reset. Raises Breach, with the row.
    """
    inside = infos.get("final_info")
    separate = isinstance(inside, Mapping) and bool(over.any())
    found = np.ones(len(over))
    _fill(found, infos, ~(reset | over) if separate else ~reset)
    if separate and isinstance(inside, Mapping):
        _fill(found, inside, over)
    return None if (found == 1.0).all() else found


def _fill(found: np.ndarray, infos: Mapping[str, Any], rows: np.ndarray) -> None:
    """Write infos["discount"] of `rows`, bool [R], to `found`, where Gymnasium's infos["_discount"] marks it as present."""
    given = infos.get(KEY)
    if given is None:
        return
    if not hasattr(given, "__len__") or len(given) != len(rows):
        raise Breach(f"its infos['{KEY}'] must have a number for each of its {len(rows)} environments, not {given!r}.")
    for row in np.flatnonzero(rows & np.asarray(infos.get(f"_{KEY}", True), np.bool_)).tolist():
        try:
            found[row] = read(given[row])
        except Breach as breach:
            breach.row = row
            raise
