"""The parameters of N modules in one vector and their gradients in another: parameter i of all members is one block [N, ...].

A single call of a fused optimizer, or a single copy to a target network, thus covers all members.
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

    flat: all trained parameters, block after block, padded to whole SIMD vectors; `flat.grad`: their gradients.
    weights: every parameter by name, [N, ...], trained or not. gradients: those of the trained ones, [N, ...]. starts: the
    offset of each member's part of each block in `flat`. used: the length of `flat` without padding.
    """

    def __init__(self, modules: Sequence[nn.Module], device: torch.device) -> None:
        self.n, self.device = len(modules), device
        self.batched = False  # whether members are computed all at once or one by one
        members = [dict(module.named_parameters()) for module in modules]
        trained = [name for name, parameter in members[0].items() if parameter.requires_grad]
        self._names = {id(parameter): name for name, parameter in members[0].items()}
        self._parameters = {(name, k): member[name] for k, member in enumerate(members) for name in trained}
        sizes = [self.n * members[0][name].numel() for name in trained]
        total = math.ceil(sum(sizes) / LANES) * LANES  # so that fused optimizers round every number alike
        like = members[0][trained[0]] if trained else torch.zeros(0, device=device)
        self.flat = nn.Parameter(torch.zeros(total, dtype=like.dtype, device=device))
        self.flat.grad = self.gradient = torch.zeros_like(self.flat)
        self.weights: dict[str, nn.Parameter] = {}
        self.gradients: dict[str, Tensor] = {}
        self._gradients: list[tuple[nn.Parameter, Tensor]] = []
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}  # the offset and shape of each block in `flat`
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
        self.arrived: set[Place] = set()  # the parameters that received a gradient since the last `zero`
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
        """Return the name of one of the first member's parameters."""
        return self._names[id(parameter)]

    def stacked(self, parameter: Tensor | None) -> Tensor | None:
        """Return all members' parameter, [N, ...], given that of the first member."""
        return None if parameter is None else self.weights[self.name_of(parameter)]

    def gradient_of(self, parameter: Tensor) -> Tensor | None:
        """Return all members' gradient, [N, ...], given the first member's parameter; None if it is not trained."""
        return self.gradients.get(self.name_of(parameter))

    def begin_of(self, parameter: Tensor | None) -> int:
        """Return the offset in `flat` of the block of the first member's parameter; -1 for None, or if it is not trained."""
        return -1 if parameter is None else self._places.get(self.name_of(parameter), (-1, ()))[0]

    def parameter(self, name: str, k: int) -> nn.Parameter:
        """Return the k-th member's trained parameter of that name."""
        return self._parameters[name, k]

    def parameters(self) -> Collection[nn.Parameter]:
        """Return every trained parameter of every member."""
        return self._parameters.values()

    def blocks(self, vector: Tensor) -> dict[str, Tensor]:
        """Return views [N, ...] of each weight's part of a vector as long as `flat`, such as an optimizer's moments."""
        return {
            name: vector[begin : begin + math.prod(shape)].view(shape) for name, (begin, shape) in self._places.items()
        }

    def part(self, vector: Tensor, name: str, k: int) -> Tensor:
        """Return a view of the k-th member's part of the block `name` of a vector as long as `flat`."""
        begin, (_, *shape) = self._places[name]
        size = math.prod(shape)
        return vector[begin + k * size : begin + (k + 1) * size]

    def zero(self) -> None:
        """Zero all gradients, and reattach those that were replaced."""
        self.gradient.zero_()
        self.arrived = set()
        self.put_back_gradients()

    def put_back_gradients(self) -> None:
        """Reattach gradients that were replaced by other tensors."""
        if self.flat.grad is not self.gradient:
            self.flat.grad = self.gradient
        for parameter, gradient in self._gradients:
            if parameter.grad is not gradient:
                parameter.grad = gradient

    def idle(self) -> list[tuple[str, int]]:
        """Return the parameters (name, member) that have received no gradient since the gradients were last zeroed.

        Torch's optimizers skip parameters without a gradient; with a zero gradient they would decay and move by momentum.
        """
        if not self.arrived or len(self.arrived) == len(self.gradients) * (1 if self.batched else self.n):
            return []
        names = [name for name in self.gradients if (name, None) not in self.arrived]
        places = [(name, k) for name in names for k in range(self.n)]
        return [place for place in places if place not in self.arrived]

    def norms(self, tensors: Iterable[Tensor]) -> Tensor:
        """Return each member's norm over its parts of all the [N, ...] tensors: [N]."""
        if self.device.type != "cpu":  # three kernel launches for any number of weights and members
            parts = [part for tensor in tensors for part in tensor.unbind()]
            each = torch.stack(torch._foreach_norm(parts)) if parts else torch.zeros(0, device=self.device)
            found: Tensor = torch.linalg.vector_norm(each.view(-1, self.n), dim=0)
            return found
        # Added one by one: the order of a sum over the list would depend on the number of members. Member by member unless
        # batched, since several threads might split a single sum.
        total = torch.zeros(self.n, device=self.device)
        for tensor in tensors:
            square = tensor.reshape(len(tensor), -1).square()
            total = total + (square.sum(1) if self.batched else torch.stack([row.sum() for row in square]))
        return total.sqrt()

    def gradient_norms(self) -> Tensor:
        """Return the norm of each member's gradient, [N]."""
        if self.device.type != "cpu" or not self.gradients or self.flat.dtype != torch.float32:
            return self.norms(self.gradients.values())
        # One call for the sums of each member and weight, which are then added weight by weight.
        with np.errstate(over="ignore"):  # an infinite norm is the caller's to report
            squares = np.square(self.gradient.numpy()[: self.used])
            sums = np.add.reduceat(squares, self.starts).reshape(-1, self.n)
            total = sums[0].copy()
            for row in sums[1:]:
                total += row
        return torch.from_numpy(np.sqrt(total))

    def clip(self, max_norm: float) -> Tensor:
        """Clip each member's gradient to the norm `max_norm` -> the norms before clipping, [N]."""
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
    """A hook that records in a `FlatMemory` that a parameter has received a gradient."""

    def __init__(self, memory: FlatMemory, place: Place) -> None:
        self.memory, self.place = memory, place

    @classmethod
    def register(cls, parameter: nn.Parameter, memory: FlatMemory, place: Place) -> None:
        """Register the hook for `memory`, replacing that of a memory that held the parameter before."""
        hooks: Any = parameter._post_accumulate_grad_hooks or {}
        for key in [key for key, hook in hooks.items() if isinstance(hook, cls)]:
            del hooks[key]
        parameter.register_post_accumulate_grad_hook(cls(memory, place))

    def __call__(self, parameter: Tensor) -> None:
        self.memory.arrived.add(self.place)
