"""Q-networks: `supervised`'s models, created for an observation space.

A network is a name with layer sizes, such as "mlp(64,64)", or a function (observation_space, outputs) -> torch.nn.Module. With a
recurrent cell, as in "gru(64)" or "cnn(16)+gru(128)", it maps sequences to (outputs, state).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor, nn

from rl.core.observations import CHANNELS, Part, encode, parts_of
from rl.core.spaces import SpaceError
from supervised import CNN, MLP, LinearRegression
from supervised.models.layers import Model
from supervised.models.rnn import CELLS, Recurrent, RecurrentTrunk
from supervised.stack import Members, Op, owned, register_batched, register_deterministic
from supervised.stack.manual_backward import LayerBackward, register_backward
from supervised.stack.memory import FlatMemory
from supervised.validate import (
    ArgumentError,
    choice,
    explained,
    first_line,
    function,
    instance,
    integer,
    is_told,
    shown,
)

Network = str | Callable[[gym.Space[Any], int], nn.Module]
NAMES = ("auto", "linear", "mlp", "cnn", "nature")
KNOWN = (*NAMES, *CELLS)
CALLED = "a name such as 'mlp(64,64)' or a function (observation_space, outputs) -> torch.nn.Module"
WIDTHS = (64, 64)
LARGE_IMAGE = 36  # minimum height and width in pixels for the network of Mnih et al. (2015)


class Name(NamedTuple):
    """A component of a network's name: "mlp(64,64)" is ("mlp", (64, 64))."""

    name: str
    sizes: tuple[int, ...]


def parse(network: str) -> tuple[Name, ...]:
    """Parse a network's name: "cnn(16)+gru(128)" becomes (("cnn", (16,)), ("gru", (128,))).

    Raises ArgumentError for an unknown name, with the closest one, for wrong sizes, and for a plus that does not join a
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
    found = re.fullmatch(r"\s*([a-z]+)\s*(?:\(([\d,\s]*)\))?\s*", written) if isinstance(written, str) else None
    name = choice(found[1] if found else written, "network", KNOWN)
    each = [size.strip() for size in ((found and found[2]) or "").split(",") if size.strip()]
    sizes = tuple(int(size) for size in each if len(size) < 8 and size.isdecimal())
    if (each and name not in ("mlp", "cnn", *CELLS)) or 0 in sizes or len(sizes) < len(each):
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
    if isinstance(network, nn.Module):
        raise ArgumentError(
            f"network must be {CALLED}, which is called once for each seed, not an existing module ({shown(network)}). To start"
            " from a trained one, use rl.networks.on_trunk(trunk)."
        )
    if isinstance(network, str):
        parse(network)
    elif isinstance(network, type) and not issubclass(network, nn.Module):
        raise ArgumentError(f"network must be {CALLED}, not {shown(network)}.")
    else:
        function(network, "network", ("observation_space", "outputs"), CALLED)


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
    if name not in ("auto", "mlp", "cnn"):
        raise SpaceError(f"The network {name!r} reads one observation; this space has {len(parts)} parts. Use 'auto'.")
    trunks = {part.name: _single("auto", sizes if name == "mlp" else (), part, 1) for part in parts}
    return Joined({key: model.trunk for key, model in trunks.items()}, _features(trunks), outputs)


def _single(name: str, sizes: tuple[int, ...], part: Part, outputs: int) -> Model:
    if part.kind != "image":
        if name in ("cnn", "nature"):
            raise SpaceError(f"The network {name!r} reads images; this observation has the shape {list(part.shape)}.")
        if name == "linear":  # with one-hot states a Q-table, initialized to zeros like one
            return LinearRegression(part.features[0], outputs, bias=False, init="zeros")
        return MLP(part.features[0], outputs, sizes or WIDTHS, loss="huber")
    if name in ("mlp", "linear"):
        size = part.features[0] * part.features[1] * part.features[2]
        if name == "linear":
            return LinearRegression(size, outputs, bias=False, init="zeros")
        return MLP(size, outputs, sizes or WIDTHS, loss="huber")
    if name == "nature" or (name == "auto" and min(part.features[1:]) >= LARGE_IMAGE):
        return nature(part.features, outputs)  # type: ignore[arg-type]  # images have three axes
    channels = sizes or (16,)
    return CNN(part.features, outputs, channels, pool=None, widths=(128,), loss="huber")  # type: ignore[arg-type]  # as above


def nature(shape: tuple[int, int, int], outputs: int) -> CNN:
    """Create the network of Mnih et al. (2015), "Human-level control", methods: three convolutions and 512 units."""
    return CNN(
        shape,
        outputs,
        (32, 64, 64),
        kernel=(8, 4, 3),
        stride=(4, 2, 1),
        padding=0,
        pool=None,
        widths=(512,),
        loss="huber",
    )


def _features(trunks: dict[str, Model]) -> int:
    return sum(model.head.in_features for model in trunks.values())  # type: ignore[misc]  # heads are Linear


class Joined(nn.Module):
    """A network for observations with several parts: a trunk for each, a hidden layer on all their features, and a head."""

    def __init__(self, trunks: dict[str, nn.Module], features: int, outputs: int) -> None:
        super().__init__()
        self.names = list(trunks)
        self.trunks = nn.ModuleList(trunks.values())
        self.hidden = nn.Sequential(nn.Linear(features, WIDTHS[-1]), nn.ReLU())
        self.head = nn.Linear(WIDTHS[-1], outputs)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Map {name: [B, ...]} to [B, outputs]."""
        found = [trunk(x[name]) for name, trunk in zip(self.names, self.trunks, strict=True)]
        y: Tensor = self.head(self.hidden(torch.cat(found, -1)))
        return y


@register_batched(Joined)
def _joined(members: Members, modules: Sequence[Joined]) -> Op | None:
    names = modules[0].names
    trunks = [members.batched_op(parts) for parts in zip(*(m.trunks for m in modules), strict=True)]
    hidden, head = members.batched_op([m.hidden for m in modules]), members.batched_op([m.head for m in modules])
    if hidden is None or head is None or any(trunk is None for trunk in trunks):
        return None

    def run(x: Any) -> Tensor:
        found = [trunk(x[name]) for name, trunk in zip(names, trunks, strict=True)]  # type: ignore[misc]  # none is None
        return head(hidden(torch.cat(found, -1)))

    return run


class Dueling(nn.Module):
    """Combines a state value and A advantages into A values: V + advantage - mean advantage (Wang et al. 2016, equation 9).

    atoms: Z, for distributions, each of whose atoms is combined separately, as in Rainbow (Hessel et al. 2018).
    """

    def __init__(self, atoms: int = 1) -> None:
        super().__init__()
        self.atoms = integer(atoms, "atoms", 1)

    @explained("a tensor [..., (1 + A) * Z]")
    def forward(self, x: Tensor) -> Tensor:
        """Map [..., (1 + A) * Z] to [..., A * Z]."""
        if self.atoms == 1:
            advantage = x[..., 1:]
            return x[..., :1] + advantage - advantage.mean(-1, keepdim=True)
        x = x.reshape(*x.shape[:-1], -1, self.atoms)
        advantage = x[..., 1:, :]
        return (x[..., :1, :] + advantage - advantage.mean(-2, keepdim=True)).flatten(-2)


@register_batched(Dueling)
def _dueling(members: Members, modules: Sequence[Dueling]) -> Op:
    return modules[0]


class _Dueling:
    def __init__(self, module: Dueling) -> None:
        self.module = module

    def forward(self, x: Tensor, keep: bool) -> Tensor:
        return self.module.forward(x)

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor, needed: bool) -> Tensor:
        if self.module.atoms == 1:
            value = gradient.sum(-1, keepdim=True)
            return torch.cat([value, gradient - value / gradient.shape[-1]], -1)
        gradient = gradient.reshape(*gradient.shape[:-1], -1, self.module.atoms)
        value = gradient.sum(-2, keepdim=True)
        return torch.cat([value, gradient - value / gradient.shape[-2]], -2).flatten(-2)


register_deterministic(Joined, Dueling)


@register_backward(Dueling)
def _dueling_link(memory: FlatMemory, modules: Sequence[Dueling]) -> LayerBackward:
    return _Dueling(modules[0])


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
