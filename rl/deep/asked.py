"""The forward passes of an update, each with its own random numbers (`rl.deep.passes`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from rl.deep.array_protocol import Arrays
from rl.deep.heads.head import Outputs
from rl.deep.passes import Passes
from supervised import Stack


class Asked(NamedTuple):
    """The networks of a learner, and their forward passes."""

    online: Stack
    target: Stack | None
    passes: Passes
    double: bool  # whether the online network selects the next action
    own: bool  # whether `Outputs.own_y` is needed

    @property
    def valuing(self) -> Stack:
        """The network that evaluates the next state."""
        return self.target or self.online

    @property
    def choosing(self) -> Stack:
        """The network that selects the next action."""
        return self.online if self.double else self.valuing

    def outputs(self, arrays: Arrays, x: Any, next_x: Any, rows: int) -> tuple[Outputs, Callable[[Any], None]]:
        """Return the networks' outputs for transitions and the function that backpropagates the gradient of `y`.

        x, next_x: encoded observations [N, rows, *F]; next_x is None if no transition bootstraps.
        """
        next_y = choice = own_y = None
        if next_x is not None:
            next_y, choice = self.passes.following(
                self.valuing, self.choosing, rows, lambda stack: arrays.values(stack, next_x)
            )
        if self.own:
            self.passes.chosen(self.valuing, rows)
            own_y = arrays.values(self.valuing, x)
        fractions = self.passes.learned(self.online, rows)
        y, backward = arrays.vjp(self.online, x)
        if next_y is None:
            next_y = choice = 0 * y
        return Outputs(y, next_y, choice, own_y, arrays.own(fractions)), backward
