"""The random numbers of forward passes: the noise of noisy layers, and the fractions of implicit quantiles.

Each pass draws its own, from the seeds' streams: online(s), target(s') and, with double Q-learning, online(s') use independent
noise (Fortunato et al. 2018, section 3.2), and the values that select an action use other fractions than those of the target
(Dabney, Ostrovski, Silver and Munos 2018, section 3). In evaluation nothing is drawn. Drawn numbers are cleared after every
update and call, so that diagnostics and images in between show the network as it is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl.deep.fractions import QuantileHead
from rl.deep.heads.head import Fractions
from rl.deep.moving import together
from supervised import Stack
from supervised.models.noisy import NoisyLinear, noise_of
from supervised.stack.drawn import Drawn, Numbers, share
from supervised.streams import BufferedStreams
from supervised.validate import ArgumentError, shown


class Passes:
    """Draws random numbers for the stacks of an agent before each forward pass."""

    def __init__(self, stacks: Sequence[Stack], fractions: Fractions | None) -> None:
        """stacks: with the same seeds and layers. fractions: None if no layer uses any."""
        self.fractions, self.device = fractions, stacks[0].device
        self.noise = {id(stack): shared(stack, NoisyLinear) for stack in stacks}
        self.heads = {id(stack): shared(stack, QuantileHead) for stack in stacks}
        self.sizes = [layer.drawn_size for layer in layers(stacks[0].modules[0], NoisyLinear)]
        self.streams: dict[str, BufferedStreams] = {}
        if self.sizes:
            self.streams["noise"] = BufferedStreams(stacks[0].seeds, "noise", np.random.Generator.standard_normal)
        if fractions is not None:
            self.streams["fractions"] = BufferedStreams(stacks[0].seeds, "fractions")

    @property
    def draws(self) -> bool:
        """Whether passes draw random numbers, so that one pass cannot be reused for another."""
        return bool(self.streams)

    def learned(self, stack: Stack, rows: int) -> Tensor | None:
        """Draw for the pass that the loss is computed from. Return its fractions [N, rows, K], on the device, or None."""
        return self._draw(stack, rows, 0 if self.fractions is None else self.fractions.learned)

    def chosen(self, stack: Stack, rows: int) -> None:
        """Draw for the values that select an action."""
        self._draw(stack, rows, 0 if self.fractions is None else self.fractions.chosen)

    def following(self, valuing: Stack, choosing: Stack, rows: int, ask: Callable[[Stack], Any]) -> tuple[Any, Any]:
        """Return the outputs for the next state of the network that evaluates it and of the one that selects its action.

        ask: returns the outputs of a stack, with fractions along the last axis. If both are the same network, a single pass
        computes both, with separate fractions.
        """
        _, sought, chosen = self.fractions or (0, 0, 0)
        if choosing is not valuing:
            self._draw(valuing, rows, sought)
            next_y = ask(valuing)
            self._draw(choosing, rows, chosen)
            return next_y, ask(choosing)
        self._draw(valuing, rows, sought + chosen)
        y = ask(valuing)
        return (y[..., :sought], y[..., sought:]) if sought else (y, y)

    def asked(self, stack: Stack, fractions: Tensor) -> None:
        """Set the fractions [Z] of the quantiles to compute, without noise."""
        for numbers in self.heads[id(stack)]:
            numbers.value = fractions.expand(len(stack.seeds), 1, -1)

    def clear(self) -> None:
        """Clear what was drawn: no noise, and evenly spaced fractions."""
        for read in (*self.noise.values(), *self.heads.values()):
            for numbers in read:
                numbers.value = None

    def checked(self, fractions: Any) -> Tensor:
        """Return fractions [Z] on the device. Raises ArgumentError for invalid ones, and if no layer uses any."""
        if self.fractions is None:
            raise ArgumentError("fractions are supported only by rl.DQN(distribution=rl.ImplicitQuantiles(...)).")
        found = torch.as_tensor(fractions)
        if found.ndim != 1 or not len(found) or found.dtype == torch.bool or not ((found >= 0) & (found <= 1)).all():
            raise ArgumentError(f"fractions must be a list of numbers in [0, 1], not {shown(fractions)}.")
        return found.to(self.device, torch.float32)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the random streams."""
        return {name: stream.state_dict() for name, stream in self.streams.items()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`. Raises ValueError for anything else."""
        for name, stream in self.streams.items():
            stream.load_state_dict(saved[name])

    def _draw(self, stack: Stack, rows: int, fractions: int) -> Tensor | None:
        """Draw noise, and this many fractions for each row, which are returned."""
        if not self.draws:
            return None
        drawn: dict[str, Tensor] = {}
        if self.sizes:
            drawn["noise"] = noise_of(self._random("noise", sum(self.sizes)))
        if fractions:
            drawn["fractions"] = self._random("fractions", rows, fractions)
        drawn = together(drawn, self.device)
        if "noise" in drawn:
            for numbers, part in zip(self.noise[id(stack)], torch.split(drawn["noise"], self.sizes, 1), strict=True):
                numbers.value = part
        if "fractions" in drawn:
            for numbers in self.heads[id(stack)]:
                numbers.value = drawn["fractions"]
        return drawn.get("fractions")

    def _random(self, name: str, *shape: int) -> Tensor:
        """Draw from each seed's stream of this name: float32 [N, *shape], on the host."""
        return torch.from_numpy(self.streams[name].random(shape).astype(np.float32))


def layers(module: nn.Module, kind: type[Drawn]) -> list[Any]:
    """Return the layers of a type in a module, in registration order."""
    return [part for part in module.modules() if isinstance(part, kind)]


def shared(stack: Stack, kind: type[Drawn]) -> list[Numbers]:
    """Let corresponding layers of this type in all members read the same numbers. Return these numbers, one per layer."""
    return [share(twins) for twins in zip(*(layers(module, kind) for module in stack.modules), strict=True)]
