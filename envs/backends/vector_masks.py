"""Action masks of a vector environment: from `infos`, the rows' `action_masks()`, or a part of the observation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from envs.backends import masks
from envs.backends.contract import NUMERIC, Breach
from envs.errors import EnvError


class VectorMasks:
    """Reads the masks of R rows, each row separately, by the precedence in `envs.backends.masks`.

    The rows' `action_masks()` is called in a SyncVectorEnv or AsyncVectorEnv. In same-step mode this is too late for an episode's
    last observation: unless infos["final_info"] or the observation contains its mask, all actions count as allowed there.
    """

    def __init__(self, vector: VectorEnv[Any, Any, Any], actions: int | None) -> None:
        self.vector, self.actions = vector.unwrapped, actions
        self.has_method = actions is not None and _has_method(self.vector)
        self.has_part = actions is not None and masks.in_observation(vector.single_observation_space)

    def read(self, infos: Mapping[str, Any], obs: Any, ending: np.ndarray) -> np.ndarray | None:
        """Return the actions allowed in `obs`, bool [R, A], all True in rows without a mask, or None if no row has one.

        ending: bool [R], the rows whose episode has ended, where a mask may allow no action. Raises Breach.
        """
        if masks.KEY not in infos and not self.has_method and not self.has_part:
            return None
        found = _by_row(infos, len(ending))
        if self.has_method and any(mask is None for mask in found):
            asked = self.vector.call(masks.METHOD)  # type: ignore[attr-defined]  # Sync and Async have it
            found = [given if mask is None else mask for mask, given in zip(found, asked, strict=True)]
        if self.has_part:
            found = [obs[masks.KEY][row] if mask is None else mask for row, mask in enumerate(found)]
        return self._checked(found, ending)

    def final(
        self, mask: np.ndarray | None, infos: Mapping[str, Any], final: Any, over: np.ndarray
    ) -> np.ndarray | None:
        """Return `mask` [R, A] with the masks of the true last observations in the rows whose episode has ended."""
        inside = infos.get("final_info")
        found = _by_row(inside if isinstance(inside, Mapping) else {}, len(over))
        if self.has_part:
            found = [final[masks.KEY][row] if given is None else given for row, given in enumerate(found)]
        found = [given if ended else None for given, ended in zip(found, over, strict=True)]
        return merged(over, self._checked(found, over), mask)

    def _checked(self, found: list[Any], ending: np.ndarray) -> np.ndarray | None:
        if all(given is None for given in found):
            return None
        allowed = self._together(found)
        if allowed is None:
            allowed = np.ones((len(found), self.actions or 0), np.bool_)
            for row, given in enumerate(found):
                if given is not None:
                    try:
                        allowed[row] = masks.read(given, self.actions)
                    except Breach as breach:
                        breach.row = row
                        raise
        for row in np.flatnonzero(~allowed.any(1)).tolist():
            try:
                allowed[row] = masks.usable(allowed[row], bool(ending[row]))
            except Breach as breach:
                breach.row = row
                raise
        return allowed

    def _together(self, found: list[Any]) -> np.ndarray | None:
        """Convert masks that are numeric arrays all at once; return None if each must be read separately."""
        if not all(isinstance(given, np.ndarray) and given.dtype.kind in NUMERIC for given in found):
            return None
        if any(given.shape != (self.actions,) for given in found):
            return None
        values = np.array(found)
        allowed: np.ndarray = values.astype(np.bool_)
        return allowed if np.array_equal(allowed, values) else None


def merged(rows: np.ndarray, one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    """Return masks [R, A]: `one` where `rows` is True, elsewhere `other`; None means all True."""
    if one is None and other is None:
        return None
    return np.where(rows[:, None], True if one is None else one, True if other is None else other)


def _by_row(infos: Mapping[str, Any], count: int) -> list[Any]:
    """Return infos["action_mask"] of each row, None for rows without one by Gymnasium's infos["_action_mask"]."""
    given = infos.get(masks.KEY)
    if given is None:
        return [None] * count
    if not hasattr(given, "__len__") or len(given) != count:
        raise Breach(f"its infos['{masks.KEY}'] must have a row for each of its {count} environments, not {given!r}.")
    present = infos.get(f"_{masks.KEY}")
    if present is None:
        return list(given)
    return [mask if there else None for mask, there in zip(given, present, strict=True)]


def _has_method(vector: Any) -> bool:
    """Return whether the rows have `action_masks()`. Raises EnvError if only some of them do."""
    if not isinstance(vector, (SyncVectorEnv, AsyncVectorEnv)):
        return False
    having = vector.call("has_wrapper_attr", masks.METHOD)
    if any(having) and not all(having):
        raise EnvError(
            f"{type(vector).__name__}: only some environments have {masks.METHOD}(); either all or none must have it."
        )
    return all(having)
