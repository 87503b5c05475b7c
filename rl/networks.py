"""Networks that value actions: `supervised`'s models, chosen by the observation space.

A network is a name with sizes, as in "mlp(64,64)", or a function (observation_space, outputs) -> torch.nn.Module. With a
recurrent cell, "gru(64)" or "cnn(16)+gru(128)", it reads sequences and answers (outputs, state).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from rl.core.observations import CHANNELS, Part, encode, parts_of
from rl.core.spaces import SpaceError
from rl.network_names import CALLED, Name, Network, check, parse
from supervised import CNN, MLP, LinearRegression
from supervised.models.layers import Model
from supervised.models.rnn import Recurrent, RecurrentTrunk
from supervised.names import CELLS
from supervised.stack import Members, Op, owned, register_batched, register_deterministic
from supervised.stack.manual_backward import LayerBackward, register_backward
from supervised.stack.memory import FlatMemory
from supervised.validate import (
    ArgumentError,
    choice,
    explained,
    first_line,
    instance,
    integer,
    is_told,
    shown,
)

__all__ = [
    "CALLED",
    "Dueling",
    "Joined",
    "Name",
    "Network",
    "check",
    "make",
    "nature",
    "on_trunk",
    "parse",
    "reads_sequences",
    "recurrent",
]

WIDTHS = (64, 64)
LARGE_IMAGE = 36  # pixels a side, from which on the network of Mnih et al. (2015) has enough to look at


def make(network: Network, space: gym.Space[Any], outputs: int, channels: str = "auto") -> nn.Module:
    """The network of that name for observations of `space`, or what the function makes -> [B, *O] to [B, outputs].

    channels: which axis of an image holds its channels, "first", "last" or "auto" (see `rl.DQN`). Raises ValueError where the
    name does not fit the space, and TypeError where the function returns no module.
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
                f"network is {CALLED}; {getattr(network, '__name__', 'it')}(observation_space, {outputs}) failed:"
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
    """A cell behind what reads single observations. Where none is named: nothing for vectors, "auto" for anything else."""
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
        if name == "linear":  # on one-hot states a Q-table; zeros, as a table begins
            return LinearRegression(part.features[0], outputs, bias=False, init="zeros")
        return MLP(part.features[0], outputs, sizes or WIDTHS, loss="huber")
    if name in ("mlp", "linear"):
        size = part.features[0] * part.features[1] * part.features[2]
        if name == "linear":
            return LinearRegression(size, outputs, bias=False, init="zeros")
        return MLP(size, outputs, sizes or WIDTHS, loss="huber")
    if name == "nature" or (name == "auto" and min(part.features[1:]) >= LARGE_IMAGE):
        return nature(part.features, outputs)  # type: ignore[arg-type]  # three of them, here
    channels = sizes or (16,)
    return CNN(part.features, outputs, channels, pool=None, widths=(128,), loss="huber")  # type: ignore[arg-type]  # likewise


def nature(shape: tuple[int, int, int], outputs: int) -> CNN:
    """The network of Mnih et al. (2015), "Human-level control", methods: three convolutions and 512 units."""
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
    """A trunk for each part of the observation, their features side by side, a hidden layer, and a head."""

    def __init__(self, trunks: dict[str, nn.Module], features: int, outputs: int) -> None:
        super().__init__()
        self.names = list(trunks)
        self.trunks = nn.ModuleList(trunks.values())
        self.hidden = nn.Sequential(nn.Linear(features, WIDTHS[-1]), nn.ReLU())
        self.head = nn.Linear(WIDTHS[-1], outputs)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """{name: [B, ...]} -> [B, outputs]."""
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
    """1 + A numbers -> A values: V + advantage - mean advantage (Wang et al. 2016, equation 9).

    atoms: of Z numbers each, atom by atom, as in Rainbow (Hessel et al. 2018).
    """

    def __init__(self, atoms: int = 1) -> None:
        super().__init__()
        self.atoms = integer(atoms, "atoms", 1)

    @explained("a tensor [..., (1 + A) * Z]")
    def forward(self, x: Tensor) -> Tensor:
        """[..., (1 + A) * Z] -> [..., A * Z]."""
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
    """A network that starts from a fitted trunk (inputs -> features): its own copy of it under a new head.

    For instance `rl.DQN(network=rl.networks.on_trunk(fit.stack.member(0).trunk))`. trunk: on any device; the network is made on
    the CPU, and the agent moves it. A recurrent one, sequences [B, T, ...] -> (features [B, T, F], state), makes a recurrent
    network. channels: as of the rl.DQN.
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
            raise ArgumentError(f"The trunk does not read observations of {space}: {shown(trunk)}.")
        return Recurrent(own, nn.Linear(answer[0].shape[-1], outputs), "huber")

    return network


def reads_sequences(network: Network, space: gym.Space[Any], outputs: int, channels: str = "auto") -> bool:
    """Whether a network is recurrent: whether it answers sequences [B, T, *O] with (outputs [B, T, ...], state).

    A function is called for a module to try it on, without a trace in torch's generator.
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
    """What a module answers to observations [*lead, *O]; None where it fails."""
    example = encode(parts, {p.name: p.example(*lead) for p in parts}, torch.device("cpu"))
    try:
        return module(example)
    except Exception:  # a module of the user's, which may raise anything at what it does not read
        return None
