"""Q-networks: `supervised`'s models, created for an observation space.

A network is a name with layer sizes, such as "mlp(64,64)", or a function (observation_space, outputs) -> torch.nn.Module. With a
recurrent cell, as in "gru(64)" or "cnn(16)+gru(128)", it maps sequences to (outputs, state).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from rl.core.observations import CHANNELS, Part, encode, parts_of
from rl.core.spaces import SpaceError
from rl.network_layers import Dueling, Joined
from rl.network_names import CALLED, KNOWN, LAYER_NORM, NAMES, Name, Network, check, parse
from supervised import CNN, MLP, LinearRegression
from supervised.models.layers import Model
from supervised.models.rnn import Recurrent, RecurrentTrunk
from supervised.names import CELLS
from supervised.stack import owned
from supervised.validate import ArgumentError, choice, first_line, instance, integer, is_told, shown

__all__ = [
    "CALLED",
    "KNOWN",
    "NAMES",
    "Dueling",
    "Joined",
    "Name",
    "Network",
    "check",
    "make",
    "nature",
    "on_trunk",
    "parse",
]
__all__ += ["reads_sequences", "recurrent"]

WIDTHS = (64, 64)
LARGE_IMAGE = 36  # minimum height and width in pixels for the network of Mnih et al. (2015)


def make(network: Network, space: gym.Space[Any], outputs: int, channels: str = "auto") -> nn.Module:
    """Create a network for observations of `space`, which maps [B, *O] to [B, outputs], by its name or function.

    channels: the channel axis of images, "first", "last" or "auto" (see `rl.DQN`). Raises ValueError if the network does not
    support the space, and TypeError if the function does not return a module.
    """
    check(network)
    outputs = integer(outputs, "outputs", 1)
    choice(channels, "channels", CHANNELS)
    if not isinstance(network, str):
        try:
            module = network(space, outputs)
        except TypeError as error:  # a class whose constructor takes other arguments
            if is_told(error):
                raise
            raise ArgumentError(
                f"network must be {CALLED}; {getattr(network, '__name__', 'it')}(observation_space, {outputs}) failed:"
                f" {first_line(error)}"
            ) from error
        if not isinstance(module, nn.Module):
            raise TypeError(f"The network function must return a torch.nn.Module, not {type(module).__name__}.")
        return module
    found = parse(network)
    parts = parts_of(space, channels=channels)
    if found[-1].name in CELLS:
        return recurrent(found, parts, outputs)
    name, sizes = found[0]
    return _several(name, sizes, parts, outputs) if len(parts) > 1 else _single(name, sizes, parts[0], outputs)


def recurrent(names: tuple[Name, ...], parts: tuple[Part, ...], outputs: int) -> Recurrent:
    """Create a recurrent cell on top of a feedforward network: if none is named, none for vectors and "auto" otherwise."""
    cell, sizes = names[-1]
    hidden = sizes[0] if sizes else WIDTHS[0]
    before: nn.Module | None = None
    if len(names) == 1 and len(parts) == 1 and parts[0].kind != "image":
        inputs = parts[0].features[0]
    else:
        reader = names[0] if len(names) > 1 else Name("auto", ())
        if len(parts) > 1:
            before, inputs = _several(*reader, parts, hidden), hidden
        else:
            model = _single(*reader, parts[0], 1)
            before, inputs = model.trunk, _features({"": model})
    trunk = RecurrentTrunk(inputs, hidden, cell, max(len(sizes), 1), 0.0, None, before=before)
    return Recurrent(trunk, nn.Linear(hidden, outputs), "huber")


def _several(name: str, sizes: tuple[int, ...], parts: tuple[Part, ...], outputs: int) -> Joined:
    plain, prefix = name.removeprefix(LAYER_NORM), LAYER_NORM if name.startswith(LAYER_NORM) else ""
    if plain not in ("auto", "mlp", "cnn"):
        raise SpaceError(f"The network {name!r} reads one observation; this space has {len(parts)} parts. Use 'auto'.")
    trunks = {part.name: _single(f"{prefix}auto", sizes if plain == "mlp" else (), part, 1) for part in parts}
    return Joined({key: model.trunk for key, model in trunks.items()}, _features(trunks), outputs)


def _single(name: str, sizes: tuple[int, ...], part: Part, outputs: int) -> Model:
    norm = "layer" if name.startswith(LAYER_NORM) else None
    name = name.removeprefix(LAYER_NORM)
    if part.kind != "image":
        if name in ("cnn", "nature"):
            raise SpaceError(f"The network {name!r} reads images; this observation has the shape {list(part.shape)}.")
        if name == "linear":  # with one-hot states a Q-table, initialized to zeros like one
            return LinearRegression(part.features[0], outputs, bias=False, init="zeros")
        return MLP(part.features[0], outputs, sizes or WIDTHS, norm=norm, loss="huber")
    if name in ("mlp", "linear"):
        size = part.features[0] * part.features[1] * part.features[2]
        if name == "linear":
            return LinearRegression(size, outputs, bias=False, init="zeros")
        return MLP(size, outputs, sizes or WIDTHS, norm=norm, loss="huber")
    if name == "nature" or (name == "auto" and min(part.features[1:]) >= LARGE_IMAGE):
        return nature(part.features, outputs, norm)  # type: ignore[arg-type]  # images have three axes
    channels = sizes or (16,)
    shape: Any = part.features
    return CNN(shape, outputs, channels, pool=None, widths=(128,), norm=norm, loss="huber")


def nature(shape: tuple[int, int, int], outputs: int, norm: str | None = None) -> CNN:
    """Create the network of Mnih et al. (2015), "Human-level control", methods: three convolutions and 512 units.

    norm: "layer" for layer normalization before each activation, which the paper does not have.
    """
    return CNN(
        shape,
        outputs,
        (32, 64, 64),
        kernel=(8, 4, 3),
        stride=(4, 2, 1),
        padding=0,
        pool=None,
        widths=(512,),
        norm=norm,
        loss="huber",
    )


def _features(trunks: dict[str, Model]) -> int:
    return sum(model.head.in_features for model in trunks.values())  # type: ignore[misc]  # heads are Linear


def on_trunk(trunk: nn.Module, channels: str = "auto") -> Callable[[gym.Space[Any], int], nn.Module]:
    """Return a network function that puts a new head on a copy of a trained trunk (inputs -> features).

    For example `rl.DQN(network=rl.networks.on_trunk(fit.stack.member(0).trunk))`. trunk: on any device; the network is created on
    the CPU, and the agent moves it. A recurrent trunk, which maps sequences [B, T, ...] to (features [B, T, F], state), gives a
    recurrent network. channels: as in the rl.DQN.
    """
    instance(trunk, "trunk", nn.Module, "a torch.nn.Module")
    choice(channels, "channels", CHANNELS)

    def network(space: gym.Space[Any], outputs: int) -> nn.Module:
        own = owned(trunk).cpu()
        parts = parts_of(space, channels=channels)
        features = _answer(own, parts, 1)
        if isinstance(features, Tensor):
            return Model(own, nn.Linear(features.shape[-1], outputs), "huber")
        answer = _answer(own, parts, 1, 1)
        if not isinstance(answer, tuple):
            raise ArgumentError(f"The trunk does not support observations of {space}: {shown(trunk)}.")
        return Recurrent(own, nn.Linear(answer[0].shape[-1], outputs), "huber")

    return network


def reads_sequences(network: Network, space: gym.Space[Any], outputs: int, channels: str = "auto") -> bool:
    """Return whether a network is recurrent, so that it maps sequences [B, T, *O] to (outputs [B, T, ...], state).

    A network function is called to test its module; the state of torch's random generator is restored.
    """
    check(network)
    if isinstance(network, str):
        return parse(network)[-1].name in CELLS
    with torch.random.fork_rng(devices=[]):
        module = make(network, space, outputs, channels).cpu().eval()
        parts = parts_of(space, channels=channels)
        if isinstance(_answer(module, parts, 2), Tensor):
            return False
        answer = _answer(module, parts, 2, 3)
    return isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Tensor)


@torch.no_grad()
def _answer(module: nn.Module, parts: tuple[Part, ...], *lead: int) -> Any:
    """Return the output of a module for observations [*lead, *O]; None if it fails."""
    example = encode(parts, {p.name: p.example(*lead) for p in parts}, torch.device("cpu"))
    try:
        return module(example)
    except Exception:  # a user's module may raise anything for unsupported inputs
        return None
