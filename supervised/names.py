"""Choices by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: object, known: Iterable[str], what: str) -> None:
    """Raise a ValueError that gives the nearest known name, unless `name` is one of them."""
    known = list(known)
    if name in known:
        return
    close = difflib.get_close_matches(str(name).lower(), [k.lower() for k in known], 1)
    hint = next((f" Did you mean {k!r}?" for k in known if close and k.lower() == close[0]), "")
    raise ValueError(f"There is no {what} {name!r}.{hint} There are {', '.join(known)}.")
