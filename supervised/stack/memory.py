"""The numbers of N modules in one vector, and their gradients in another: parameter i of all members is one block [N, ...].

So one call of a fused optimizer, one copy to a target network or one norm treats all members.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from supervised.determinism import LANES

Place = tuple[str, int | None]  # a parameter's name and the member; None: all members at once


class FlatMemory:
    """One vector for the parameters of N identical modules, which become views of it, as do their gradients.

    flat: all trained numbers, one block after another, padded to whole SIMD vectors; `flat.grad` their gradients.
    weights: every parameter by its name, [N, ...], trained or not. gradients: of the trained ones, [N, ...]. starts: where each
    member's part of each block begins in `flat`. used: the length of `flat` without padding.
    """

    def __init__(self, modules: Sequence[nn.Module], device: torch.device) -> None:
        self.n, self.device = len(modules), device
        self.batched = False  # whether all members are computed at once, or one by one
        members = [dict(module.named_parameters()) for module in modules]
        trained = [name for name, parameter in members[0].items() if parameter.requires_grad]
        self._names = {id(parameter): name for name, parameter in members[0].items()}
        self._parameters = {(name, k): member[name] for k, member in enumerate(members) for name in trained}
        sizes = [self.n * members[0][name].numel() for name in trained]
        total = math.ceil(sum(sizes) / LANES) * LANES  # so that a fused optimizer treats each number alike
        like = members[0][trained[0]] if trained else torch.zeros(0, device=device)
        self.flat = nn.Parameter(torch.zeros(total, dtype=like.dtype, device=device))
        self.flat.grad = self.gradient = torch.zeros_like(self.flat)
        self.weights: dict[str, nn.Parameter] = {}
        self.gradients: dict[str, Tensor] = {}
        self._gradients: list[tuple[nn.Parameter, Tensor]] = []
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}  # where each block begins in `flat`, and its shape
        begin = 0
        for name, size in zip(trained, sizes, strict=True):
            self._take_over(name, [member[name] for member in members], begin)
            begin += size
        self.used = begin
        self.starts = np.array(
            [at + k * math.prod(shape[1:]) for at, shape in self._places.values() for k in range(self.n)],
            dtype=np.int64,
        )
        for name in members[0].keys() - set(trained):
            values = torch.stack([member[name].detach() for member in members])
            self.weights[name] = nn.Parameter(values, requires_grad=False)
            for k, member in enumerate(members):
                member[name].data = values[k]
        self.arrived: set[Place] = set()  # which parameters have got a gradient since it was last zero
        for place, parameter in self._places_and_parameters():
            Arrival.register(parameter, self, place)

    def _take_over(self, name: str, parameters: Sequence[nn.Parameter], begin: int) -> None:
        """Move a trained parameter of all members to its block."""
        shape = self.n, *parameters[0].shape
        part = slice(begin, begin + math.prod(shape))
        values, gradients = self.flat.detach()[part].view(shape), self.gradient[part].view(shape)
        torch.stack([parameter.detach() for parameter in parameters], out=values)
        self.weights[name], self.gradients[name] = nn.Parameter(values), gradients
        self._gradients.append((self.weights[name], gradients))
        self._places[name] = begin, shape
        for k, parameter in enumerate(parameters):
            parameter.data = values[k]
            self._gradients.append((parameter, gradients[k]))

    def _places_and_parameters(self) -> Iterable[tuple[Place, nn.Parameter]]:
        for name in self.gradients:
            yield (name, None), self.weights[name]
        yield from self._parameters.items()

    def name_of(self, parameter: Tensor) -> str:
        """The name of a parameter of the first member."""
        return self._names[id(parameter)]

    def stacked(self, parameter: Tensor | None) -> Tensor | None:
        """The first member's parameter -> that of all members, [N, ...]."""
        return None if parameter is None else self.weights[self.name_of(parameter)]

    def gradient_of(self, parameter: Tensor) -> Tensor | None:
        """The first member's parameter -> where the gradient of all members' lies, [N, ...]; None if it is not trained."""
        return self.gradients.get(self.name_of(parameter))

    def begin_of(self, parameter: Tensor | None) -> int:
        """Where the block of the first member's parameter begins in `flat`; -1 for None, and if it is not trained."""
        return -1 if parameter is None else self._places.get(self.name_of(parameter), (-1, ()))[0]

    def parameter(self, name: str, k: int) -> nn.Parameter:
        """The k-th member's trained parameter of that name."""
        return self._parameters[name, k]

    def parameters(self) -> Collection[nn.Parameter]:
        """Every trained parameter of every member."""
        return self._parameters.values()

    def blocks(self, vector: Tensor) -> dict[str, Tensor]:
        """A vector of the length of `flat`, an optimizer's memory for instance, as each weight's part [N, ...]: views."""
        return {
            name: vector[begin : begin + math.prod(shape)].view(shape) for name, (begin, shape) in self._places.items()
        }

    def part(self, vector: Tensor, name: str, k: int) -> Tensor:
        """The k-th member's part of the block `name` of a vector of the length of `flat`: a view."""
        begin, (_, *shape) = self._places[name]
        size = math.prod(shape)
        return vector[begin + k * size : begin + (k + 1) * size]

    def zero(self) -> None:
        """Zero all gradients, and reattach those that were replaced."""
        self.gradient.zero_()
        self.arrived = set()
        self.put_back_gradients()

    def put_back_gradients(self) -> None:
        """Reattach the gradients that were replaced to this memory."""
        if self.flat.grad is not self.gradient:
            self.flat.grad = self.gradient
        for parameter, gradient in self._gradients:
            if parameter.grad is not gradient:
                parameter.grad = gradient

    def idle(self) -> list[tuple[str, int]]:
        """The parameters (name, member) that have received no gradient since the gradients were last zeroed.

        Torch's optimizers skip such parameters; with a gradient of zero they would decay, and move by their momentum.
        """
        if not self.arrived or len(self.arrived) == len(self.gradients) * (1 if self.batched else self.n):
            return []
        names = [name for name in self.gradients if (name, None) not in self.arrived]
        places = [(name, k) for name in names for k in range(self.n)]
        return [place for place in places if place not in self.arrived]

    def norms(self, tensors: Iterable[Tensor]) -> Tensor:
        """Each member's norm over its parts of all the [N, ...] tensors: [N]."""
        if self.device.type != "cpu":  # in three launches, whatever the number of weights and members
            parts = [part for tensor in tensors for part in tensor.unbind()]
            each = torch.stack(torch._foreach_norm(parts)) if parts else torch.zeros(0, device=self.device)
            found: Tensor = torch.linalg.vector_norm(each.view(-1, self.n), dim=0)
            return found
        # Added one by one: a sum over the list would add up in another order for another number of members. And where several
        # threads may be at work, member by member: they would share out a single sum, but not several.
        total = torch.zeros(self.n, device=self.device)
        for tensor in tensors:
            square = tensor.reshape(len(tensor), -1).square()
            total = total + (square.sum(1) if self.batched else torch.stack([row.sum() for row in square]))
        return total.sqrt()

    def gradient_norms(self) -> Tensor:
        """The norm of each member's gradient, [N]."""
        if self.device.type != "cpu" or not self.gradients or self.flat.dtype != torch.float32:
            return self.norms(self.gradients.values())
        # One sum for each member of each weight, in one call; the weights are then added up one after another.
        squares = np.square(self.gradient.numpy()[: self.used])
        sums = np.add.reduceat(squares, self.starts).reshape(-1, self.n)
        total = sums[0].copy()
        for row in sums[1:]:
            total += row
        return torch.from_numpy(np.sqrt(total))

    def clip(self, max_norm: float) -> Tensor:
        """Clip each member's gradient to the norm `max_norm` -> the norms before, [N]."""
        found = self.gradient_norms()
        if self.device.type == "cpu" and not (found > max_norm).any():
            return found
        scale = (max_norm / (found + 1e-6)).clamp(max=1.0)[:, None]
        if self.n == 1:
            self.gradient.mul_(scale[0])
            return found
        rows = [gradient.view(self.n, -1) for gradient in self.gradients.values()]
        torch._foreach_mul_(rows, [scale] * len(rows))  # in one call
        return found


class Arrival:
    """A hook that records in a memory that a parameter has received a gradient."""

    def __init__(self, memory: FlatMemory, place: Place) -> None:
        self.memory, self.place = memory, place

    @classmethod
    def register(cls, parameter: nn.Parameter, memory: FlatMemory, place: Place) -> None:
        """Record in `memory`, and no longer in one that held the parameter before."""
        hooks: Any = parameter._post_accumulate_grad_hooks or {}
        for key in [key for key, hook in hooks.items() if isinstance(hook, cls)]:
            del hooks[key]
        parameter.register_post_accumulate_grad_hook(cls(memory, place))

    def __call__(self, parameter: Tensor) -> None:
        self.memory.arrived.add(self.place)
