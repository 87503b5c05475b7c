"""Networks by name, as settings have them: "mlp(64,64)", "cnn(16)+gru(128)". `rl.networks` creates the networks."""

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
LAYER_NORM = "layer_norm_"  # a prefix: with layer normalization before each activation
NORMALIZED = tuple(f"{LAYER_NORM}{name}" for name in NAMES if name != "linear")
KNOWN = (*NAMES, *NORMALIZED, *CELLS)
CALLED = "a name such as 'mlp(64,64)' or a function (observation_space, outputs) -> torch.nn.Module"


class Name(NamedTuple):
    """A component of a network's name: "mlp(64,64)" is ("mlp", (64, 64))."""

    name: str
    sizes: tuple[int, ...]


def parse(network: str) -> tuple[Name, ...]:
    """Parse a network's name: "cnn(16)+gru(128)" becomes (("cnn", (16,)), ("gru", (128,))).

    Raises ArgumentError for an unknown name, suggesting the closest, for wrong sizes, and for a plus that does not join a
    feedforward network and a recurrent cell.
    """
    written = network.split("+") if isinstance(network, str) else [network]
    found = tuple(map(_parsed, written))
    cells = [part.name in CELLS for part in found]
    if len(found) > 1 and cells != [False, True]:
        raise ArgumentError(
            f"The network {shown(network)} is not supported: a plus must join a feedforward network and a recurrent cell"
            f" ({', '.join(CELLS)}), in this order, as in mlp(64)+gru(64)."
        )
    if found[0].name == "linear" and len(found) > 1:
        raise ArgumentError(f"In {shown(network)} the linear network has no hidden layer as an input for the cell.")
    return found


def _parsed(written: Any) -> Name:
    found = re.fullmatch(r"\s*([a-z_]+)\s*(?:\(([\d,\s]*)\))?\s*", written) if isinstance(written, str) else None
    name = choice(found[1] if found else written, "network", KNOWN)
    each = [size.strip() for size in ((found and found[2]) or "").split(",") if size.strip()]
    sizes = tuple(int(size) for size in each if len(size) < 8 and size.isdecimal())
    if (each and name.removeprefix(LAYER_NORM) not in ("mlp", "cnn", *CELLS)) or 0 in sizes or len(sizes) < len(each):
        raise ArgumentError(
            f"The network {shown(written)} is not a name with layer sizes such as mlp(64,64), cnn(16,32) or gru(64)."
        )
    if name in CELLS and len(set(sizes)) > 1:
        raise ArgumentError(
            f"The layers of {shown(written)} must have the same width, as in {name}({sizes[0]},{sizes[0]})."
        )
    return Name(name, sizes)


def check(network: Any) -> None:
    """Raise ArgumentError unless network is a name or a function of two arguments."""
    module = loaded("torch.nn", "Module")
    if isinstance(network, module):
        raise ArgumentError(
            f"network must be {CALLED}, which is called once for each seed, not an existing module ({shown(network)}). To start"
            " from a trained one, use rl.networks.on_trunk(trunk)."
        )
    if isinstance(network, str):
        parse(network)
    elif isinstance(network, type) and not issubclass(network, module):
        raise ArgumentError(f"network must be {CALLED}, not {shown(network)}.")
    else:
        function(network, "network", ("observation_space", "outputs"), CALLED)
