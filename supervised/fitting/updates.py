"""Updates of all members' weights from a batch: by gradient steps, or by LBFGS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from supervised.device import ComputePlan
from supervised.fitting.check_data import first
from supervised.fitting.objective import Objective
from supervised.fitting.recipe import Recipe
from supervised.sources import over
from supervised.stack import Stack, clip_per_seed, norms
from supervised.stack import optimizers as torch_optimizers
from supervised.state import check_alike, load_optimizer, to_tree

COUNTERS = ("last_epoch", "_step_count", "_last_lr")  # the attributes of a torch scheduler that change
# Loss and metrics [N], the next state of a recurrent model, and metrics of the update itself [N].
Updated = tuple[dict[str, Tensor], Any, dict[str, Tensor]]


class Optimizers:
    """The optimizers of a fit and their learning rate schedules."""

    def __init__(self, stack: Stack, recipe: Recipe, steps: int) -> None:
        """steps: the number of steps of the whole fit. Raises ValueError for options an optimizer or schedule does not take."""
        self.seeds = len(stack.seeds)
        self.each: list[torch.optim.Optimizer]
        self._by_step: list[Any] = []  # schedules that advance every step
        self._by_epoch: list[Any] = []
        if recipe.optimizer == "LBFGS":
            self.each = torch_optimizers.lbfgs(stack, recipe.learning_rate, **recipe.optimizer_options)
            return
        options = dict(recipe.optimizer_options)
        if recipe.weight_decay:
            options["weight_decay"] = recipe.weight_decay
        made = torch_optimizers.optimizer(stack, recipe.optimizer, recipe.learning_rate, **options)
        self.each = [made]
        if recipe.schedule is not None:
            schedule = torch_optimizers.schedule(made, recipe.schedule, steps, **recipe.schedule_options)
            (self._by_step if recipe.by_step else self._by_epoch).append(schedule)

    def step_ended(self) -> None:
        """Advance the schedules that change every step."""
        for schedule in self._by_step:
            schedule.step()

    def epoch_ended(self) -> None:
        """Advance the schedules that change every epoch."""
        for schedule in self._by_epoch:
            schedule.step()

    def learning_rates(self) -> list[float]:
        """Return the current learning rate of each seed."""
        rates = [float(group["lr"]) for optimizer in self.each for group in optimizer.param_groups]
        return rates if len(rates) == self.seeds else rates * self.seeds

    def state_dict(self) -> dict[str, Any]:
        """Return the states of optimizers and schedules."""
        schedules = [*self._by_step, *self._by_epoch]
        return {
            "optimizers": [to_tree(optimizer.state_dict()) for optimizer in self.each],
            "schedulers": [{name: getattr(schedule, name) for name in COUNTERS} for schedule in schedules],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`. Raises ValueError if it does not fit."""
        for optimizer, saved in zip(self.each, state["optimizers"], strict=True):
            load_optimizer(optimizer, saved)
        for schedule, saved in zip([*self._by_step, *self._by_epoch], state["schedulers"], strict=True):
            check_alike(saved, {name: getattr(schedule, name) for name in COUNTERS}, "the schedule")
            schedule.load_state_dict(saved)


class Update(Protocol):
    """One update of all members."""

    def step(self, x: Any, y: Tensor, state: Any, measured: bool) -> Updated:
        """Learn from x and y, each [N, B, ...]. state: that of a recurrent model; None: the initial one.

        measured: whether to compute metrics of the update too.
        """
        ...


class GradientUpdate:
    """A forward and a backward pass, clipping, and a step of the optimizer."""

    def __init__(
        self,
        stack: Stack,
        objective: Objective,
        recipe: Recipe,
        compute_plan: ComputePlan,
        recurrent: bool,
        optimizers: Optimizers,
    ) -> None:
        self.stack, self.objective, self.compute_plan, self.recurrent = stack, objective, compute_plan, recurrent
        self.clip_norm, self.carries_state = recipe.clip_norm, recipe.bptt_steps is not None
        (self.optimizer,) = optimizers.each

    def step(self, x: Any, y: Tensor, state: Any, measured: bool) -> Updated:
        prediction, state, backward = self._forward(x, state)
        prediction.requires_grad_()
        wide = prediction.float() if self.compute_plan.bf16 else prediction  # the precision of the loss
        loss = self.objective.per_seed(wide, y)
        self._backward(loss, prediction, backward)
        found: dict[str, Tensor] = {}
        if self.clip_norm is not None:
            found["train/gradient_norm"] = clip_per_seed(self.stack, self.clip_norm)
        elif measured:
            found["train/gradient_norm"] = norms(self.stack, self.stack.gradients.values())
        before = [weight.clone() for weight in self._weights()] if measured else []
        self.optimizer.step()
        if measured:
            moved = norms(self.stack, [b - a for a, b in zip(before, self._weights(), strict=True)])
            found["train/update_to_weight"] = moved / norms(self.stack, before).clamp(min=1e-30)
        measures = self.objective.measures(wide.detach(), y)
        return {"loss": loss.detach(), **measures}, state, found

    def _weights(self) -> list[Tensor]:
        """All trained weights, each [N, ...]."""
        return [self.stack.weights[name].detach() for name in self.stack.gradients]

    def _forward(self, x: Any, state: Any) -> tuple[Tensor, Any, Callable[[Tensor], None]]:
        """Return the predictions, the new state, and a function that backpropagates the gradient of the predictions."""
        with self.compute_plan.autocast(self.stack.device):
            if not self.recurrent:
                prediction, backward = self.stack.vjp(x)
                return prediction, None, backward
            return self.stack.unroll_vjp(x, state if self.carries_state else None)

    def _backward(self, loss: Tensor, prediction: Tensor, backward: Callable[[Tensor], None]) -> None:
        """Backpropagate the losses [N] to the weights."""
        if self.objective.own is None:
            backward(*torch.autograd.grad(loss.sum(), prediction))
            return
        memory = self.stack.memory
        memory.zero()
        loss.sum().backward()  # a user's loss may also depend on weights of a module fitted in place
        direct, arrived = memory.gradient.clone() if memory.arrived else None, memory.arrived
        assert prediction.grad is not None
        backward(prediction.grad)
        if direct is not None:
            memory.gradient.add_(direct)
            memory.arrived |= arrived


class LBFGSUpdate:
    """A step of LBFGS for each member, which evaluates loss and gradient as often as its line search requires."""

    def __init__(self, stack: Stack, objective: Objective, optimizers: Optimizers) -> None:
        self.stack, self.objective, self.optimizers = stack, objective, optimizers.each

    def step(self, x: Any, y: Tensor, state: Any, measured: bool) -> Updated:
        found: list[dict[str, Tensor]] = []
        for k, optimizer in enumerate(self.optimizers):

            def closure(k: int = k) -> Tensor:
                self.stack.zero_grad()
                prediction = first(self.stack.run(k, over(lambda part: part[k], x)))[None]
                loss = self.objective.per_seed(prediction, y[k][None])
                loss.sum().backward()
                found[k:] = [{"loss": loss.detach(), **self.objective.measures(prediction.detach(), y[k][None])}]
                return loss[0]

            optimizer.step(closure)  # type: ignore[arg-type]  # torch's type wants a float, its code a tensor
        return {tag: torch.cat([each[tag] for each in found]) for tag in found[0]}, None, {}


def update_of(
    stack: Stack,
    objective: Objective,
    recipe: Recipe,
    compute_plan: ComputePlan,
    recurrent: bool,
    optimizers: Optimizers,
) -> Update:
    """Return the update that a recipe specifies."""
    if recipe.optimizer == "LBFGS":
        return LBFGSUpdate(stack, objective, optimizers)
    return GradientUpdate(stack, objective, recipe, compute_plan, recurrent, optimizers)
