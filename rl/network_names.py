"""Networks by name, as settings hold them: "mlp(64,64)", "cnn(16)+gru(128)". `rl.networks` makes the networks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym

from supervised.names import CELLS
from supervised.validate import ArgumentError, choice, function, loaded, shown

if TYPE_CHECKING:
    from torch import nn

Network = str | Callable[[gym.Space[Any], int], "nn.Module"]
NAMES = ("auto", "linear", "mlp", "cnn", "nature")
KNOWN = (*NAMES, *CELLS)
CALLED = "a name such as 'mlp(64,64)' or a function (observation_space, outputs) -> torch.nn.Module"


class Name(NamedTuple):
    """A part of a network's name: "mlp(64,64)" is ("mlp", (64, 64))."""

    name: str
    sizes: tuple[int, ...]


def parse(network: str) -> tuple[Name, ...]:
    """ "mlp(64,64)" -> (("mlp", (64, 64)),), "cnn(16)+gru(128)" -> (("cnn", (16,)), ("gru", (128,))).

    Raises ArgumentError for an unknown name, with the nearest, for wrong sizes, and where a plus does not join what reads single
    observations and a recurrent cell.
    """
    written = network.split("+") if isinstance(network, str) else [network]
    found = tuple(map(_parsed, written))
    cells = [part.name in CELLS for part in found]
    if len(found) > 1 and cells != [False, True]:
        raise ArgumentError(
            f"The network {shown(network)} joins what it cannot: a plus stands between a network that reads single observations"
            f" and a recurrent cell ({', '.join(CELLS)}), as in mlp(64)+gru(64)."
        )
    if found[0].name == "linear" and len(found) > 1:
        raise ArgumentError(f"In {shown(network)} the linear network has no layer whose outputs a cell could read.")
    return found


def _parsed(written: Any) -> Name:
    found = re.fullmatch(r"\s*([a-z]+)\s*(?:\(([\d,\s]*)\))?\s*", written) if isinstance(written, str) else None
    name = choice(found[1] if found else written, "network", KNOWN)
    each = [size.strip() for size in ((found and found[2]) or "").split(",") if size.strip()]
    sizes = tuple(int(size) for size in each if len(size) < 8 and size.isdecimal())
    if (each and name not in ("mlp", "cnn", *CELLS)) or 0 in sizes or len(sizes) < len(each):
        raise ArgumentError(
            f"The network {shown(written)} is no name with sizes such as mlp(64,64), cnn(16,32) or gru(64)."
        )
    if name in CELLS and len(set(sizes)) > 1:
        raise ArgumentError(
            f"The layers of {shown(written)} have one width: {name}({sizes[0]},{sizes[0]}) is two of them."
        )
    return Name(name, sizes)


def check(network: Any) -> None:
    """Raise ArgumentError for what is neither a name nor a function of two arguments."""
    module = loaded("torch.nn", "Module")
    if isinstance(network, module):
        raise ArgumentError(
            f"network is {CALLED}, which is called once for each seed, not a module that exists ({shown(network)}). To start"
            " from a trained one, give rl.networks.on_trunk(trunk)."
        )
    if isinstance(network, str):
        parse(network)
    elif isinstance(network, type) and not issubclass(network, module):
        raise ArgumentError(f"network is {CALLED}, not {shown(network)}.")
    else:
        function(network, "network", ("observation_space", "outputs"), CALLED)
