"""What networks draw before they are asked: the noise of noisy layers, and the fractions of implicit quantiles.

Each pass draws anew, from the seeds' own streams: online(s), target(s') and, where the online network chooses, online(s') share
no noise (Fortunato et al. 2018, section 3.2), and the values that choose an action share no fractions with those of the target
(Dabney, Ostrovski, Silver and Munos 2018, section 3). Judged, an agent draws nothing. Layers keep no numbers beyond an update or
an answer: whoever asks a network in between, as diagnostics and pictures do, sees it as it is judged.
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
    """Draws for the stacks of an agent, before each of their passes."""

    def __init__(self, stacks: Sequence[Stack], fractions: Fractions | None) -> None:
        """stacks: of the same seeds and layers. fractions: None where no layer reads any."""
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
        """Whether anything is drawn, so that no pass can stand in for another."""
        return bool(self.streams)

    def learned(self, stack: Stack, rows: int) -> Tensor | None:
        """Draw for the pass that is learned from -> its fractions [N, rows, K], on the device; None without."""
        return self._draw(stack, rows, 0 if self.fractions is None else self.fractions.learned)

    def chosen(self, stack: Stack, rows: int) -> None:
        """Draw for values that an action is chosen by."""
        self._draw(stack, rows, 0 if self.fractions is None else self.fractions.chosen)

    def following(self, valuing: Stack, choosing: Stack, rows: int, ask: Callable[[Stack], Any]) -> tuple[Any, Any]:
        """What the network that values the next state says of it, and what the one that chooses its action says.

        ask: outputs of a stack, whose last axis is that of fractions. Where both are one network they come of one pass, with
        fractions for each.
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
        """Ask for the quantiles at these fractions [Z], without noise."""
        for numbers in self.heads[id(stack)]:
            numbers.value = fractions.expand(len(stack.seeds), 1, -1)

    def clear(self) -> None:
        """Take away what was drawn: no noise, and fractions at equal distances."""
        for read in (*self.noise.values(), *self.heads.values()):
            for numbers in read:
                numbers.value = None

    def checked(self, fractions: Any) -> Tensor:
        """Fractions [Z] on the device. Raises ArgumentError for what is none, and where no layer reads any."""
        if self.fractions is None:
            raise ArgumentError("fractions are for rl.DQN(distribution=rl.ImplicitQuantiles(...)) alone.")
        found = torch.as_tensor(fractions)
        if found.ndim != 1 or not len(found) or found.dtype == torch.bool or not ((found >= 0) & (found <= 1)).all():
            raise ArgumentError(f"fractions is a list of numbers in [0, 1], not {shown(fractions)}.")
        return found.to(self.device, torch.float32)

    def state_dict(self) -> dict[str, Any]:
        """The streams."""
        return {name: stream.state_dict() for name, stream in self.streams.items()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave. Raises ValueError for anything else."""
        for name, stream in self.streams.items():
            stream.load_state_dict(saved[name])

    def _draw(self, stack: Stack, rows: int, fractions: int) -> Tensor | None:
        """Draw noise, and so many fractions for each row -> these."""
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
        """Numbers of each seed's stream of this name, float32 [N, *shape] on the host."""
        return torch.from_numpy(self.streams[name].random(shape).astype(np.float32))


def layers(module: nn.Module, kind: type[Drawn]) -> list[Any]:
    """The layers of a type in a module, in the order in which they were entered."""
    return [part for part in module.modules() if isinstance(part, kind)]


def shared(stack: Stack, kind: type[Drawn]) -> list[Numbers]:
    """Let each layer of this type read the same numbers as its twins in other members -> the numbers, layer by layer."""
    return [share(twins) for twins in zip(*(layers(module, kind) for module in stack.modules), strict=True)]
