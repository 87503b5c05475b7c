"""What the executors that step environments share."""

from __future__ import annotations

from typing import Any

import numpy as np

from rl.core import jit
from rl.core.registry import name_of
from rl.explore import masked
from rl.explore.masked import as_mask
from rl.tabular.executors.executor import Executor, Stepped, as_memoryview
from rl.tabular.kernel import act, learn_from_step

NOTHING = object()  # the cached mask of a state that has not been seen yet


class StepByStep(Executor):
    """Runs over Gymnasium environments in plain Python, calling `act` and `learn_from_step` at each step.

    Both are specialized again for masks when an environment first forbids an action, and for per-step discounts when one
    first returns info["discount"], so that environments without them have no overhead.
    """

    def __init__(self, run: Stepped) -> None:
        super().__init__(run)
        self.masked, self.discounted = False, False
        # Each seed's most recent mask per state, within the current call of `take`.
        self.noted: list[dict[int, Any]] = [{} for _ in run.seeds]
        self._specialize()

    def _specialize(self) -> None:
        if self.masked:
            self.run.agent.allow()
        parts = {**self.run.parts, **(masked.RULES if self.masked else {}), "SEMI_MARKOV": int(self.discounted)}
        self.act, self.learn_from = jit.specialize(act, **parts), jit.specialize(learn_from_step, **parts)
        self.parts = [self.run.seed_slice(k, as_memoryview) for k in range(len(self.run.seeds))]

    def _forget(self) -> None:
        """Clear the cached masks: the agent's masks may change between calls of `take`."""
        for noted in self.noted:
            noted.clear()

    def _respect_masks(self) -> None:
        if not self.masked:
            self.masked = True
            self._specialize()

    def _respect_discounts(self) -> None:
        """Specialize for per-step discounts. Raises ValueError if the rule does not support them."""
        config = self.run.agent.config
        if config.why_no_discounts is not None:
            raise ValueError(
                f"The environment returns a per-step discount, info['discount'], which {name_of(config)} does not support:"
                f" {config.why_no_discounts}."
            )
        self.discounted = True
        self._specialize()

    def _allow(self, k: int, s: int, mask: np.ndarray | None) -> None:
        """Record the actions allowed in state s of the k-th seed; None: all."""
        assert self.run.agent.mask is not None
        self.run.agent.mask[k, s] = 0.0 if mask is None else as_mask(mask)
        self.noted[k][s] = mask

    def state_dict(self) -> dict[str, Any]:
        return {"discounted": True} if self.discounted else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.run.agent.mask is not None:
            self._respect_masks()
        if state.get("discounted", False):
            self._respect_discounts()
