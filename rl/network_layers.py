"""Modules of Q-networks: `Joined` for observations with several parts, and the dueling layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from supervised.stack import Members, Op, register_batched, register_deterministic
from supervised.stack.manual_backward import LayerBackward, register_backward
from supervised.stack.memory import FlatMemory
from supervised.validate import explained, integer

HIDDEN = 64  # units of the hidden layer of `Joined`


class Joined(nn.Module):
    """A network for observations with several parts: a trunk for each, a hidden layer on all their features, and a head."""

    def __init__(self, trunks: dict[str, nn.Module], features: int, outputs: int) -> None:
        super().__init__()
        self.names = list(trunks)
        self.trunks = nn.ModuleList(trunks.values())
        self.hidden = nn.Sequential(nn.Linear(features, HIDDEN), nn.ReLU())
        self.head = nn.Linear(HIDDEN, outputs)

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
def _dueling(_members: Members, modules: Sequence[Dueling]) -> Op:
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
def _dueling_link(_memory: FlatMemory, modules: Sequence[Dueling]) -> LayerBackward:
    return _Dueling(modules[0])
