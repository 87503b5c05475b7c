"""The networks of N seeds and their updates: gradient clipping, optimizer step, target network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rl.core.registry import optional_setting
from rl.core.types import Batch
from rl.deep.array_protocol import Arrays
from rl.deep.asked import Asked
from rl.deep.checks import DeepConfig, check_apart, not_finite
from rl.deep.heads.head import HeadLoss, Outputs
from rl.deep.passes import Passes
from supervised import Stack, optimizer
from supervised.schedules import Curve, as_schedule, value_at
from supervised.stack import clip_per_seed
from supervised.stack.compiled_adam import CompiledAdam
from supervised.stack.guard import Guard, LeftOut
from supervised.stack.optimizers import load_state_by_seed, state_by_seed


class Origin(NamedTuple):
    """What an optimizer step was computed from, for the error message if it is not finite."""

    batch: Batch  # as sampled
    norm: Tensor  # gradient norm of each seed, [N]
    td_error: Any  # [N, B]


class Learner:
    """N online networks, their target networks, if any, and one optimizer."""

    def __init__(
        self,
        config: DeepConfig,
        make: Callable[[], nn.Module],
        seeds: tuple[int, ...],
        device: torch.device,
        arrays: Callable[[nn.Module], Arrays],
    ) -> None:
        self.online = Stack(make, seeds, device, config.compiled)
        self.head, self.arrays = config.head, arrays(self.online.modules[0])
        self.reward_scale = float(optional_setting(config, "reward_scale", 1.0))
        self.target: Stack | None = None
        self.every, self.target_rate = config.target_every_updates, config.target_rate
        if self.every is not None:
            self.target = Stack(make, seeds, device, config.compiled, "target")
            check_apart(self.online, self.target)
            self.target.load_state_dict(self.online.state_dict())
        stacks = [self.online] if self.target is None else [self.online, self.target]
        self.passes = Passes(stacks, self.head.fractions)
        double = bool(optional_setting(config, "double", False))
        self.asked = Asked(self.online, self.target, self.passes, double, self.head.reads_own)
        self.rate = as_schedule(config.learning_rate)
        self.optimizer = optimizer(self.online, config.optimizer, self.rate.bounds()[1])
        self.adam = CompiledAdam.of(self.online.memory, self.optimizer) if self.online.compiled else None
        self.guard = Guard.of(self.optimizer, device)
        self.max_norm = float("inf") if config.max_grad_norm is None else config.max_grad_norm
        self.updates = 0

    def learn(self, batch: Batch, given: Batch, measured: bool) -> HeadLoss:
        """Take one update on a batch in the agent's array type. given: the batch as NotFinite should report it."""
        try:
            found, backward = self.found(batch, measured)
            backward(found.gradient)
        finally:
            self.passes.clear()
        norm = self.step(given, found.td_error)
        if not measured:
            return found
        self.raise_if_not_finite()
        return found._replace(metrics={**found.metrics, "train/gradient_norm": norm})

    def found(self, batch: Batch, measured: bool) -> tuple[HeadLoss, Callable[[Any], None]]:
        """Return the loss of a batch and the function that backpropagates its gradient to the weights."""
        outputs, backward = self.outputs(batch)
        scaled = batch if self.reward_scale == 1.0 else batch._replace(reward=batch.reward * self.reward_scale)
        return self.arrays.loss(self.head, outputs, scaled, measured), backward

    def outputs(self, batch: Batch) -> tuple[Outputs, Callable[[Any], None]]:
        """Return the networks' outputs for a batch and the function that backpropagates the gradient of `y` to the weights."""
        x = self.arrays.encode(batch.obs)
        next_x = None if batch.next_obs is None else self.arrays.encode(batch.next_obs)
        return self.asked.outputs(self.arrays, x, next_x, batch.reward.shape[1])

    def step(self, batch: Batch, td_error: Any) -> Tensor:
        """Take an optimizer step with the gradient in `online`. Return the gradient norm of each seed before clipping, [N].

        Raises NotFinite like `raise_if_not_finite`; on the CPU, for this very step.
        """
        if self.adam is not None:
            norm, good = self.adam.step(self.max_norm)
            left_out = None if good else LeftOut(Origin(batch, norm, td_error), 0)
        else:
            norm = clip_per_seed(self.online, self.max_norm)
            left_out = self.guard.step(norm, Origin(batch, norm, td_error))
        self._raise_if_skipped(left_out)
        self.updates += 1
        self._update_target()
        return norm

    def raise_if_not_finite(self) -> None:
        """Raise NotFinite if a step was skipped since the last check. On the CPU `step` raises it itself."""
        self._raise_if_skipped(self.guard.look())

    def _raise_if_skipped(self, left_out: LeftOut | None) -> None:
        if left_out is not None:
            self.updates -= left_out.unseen
            batch, norm, td_error = left_out.origin
            raise not_finite(self.online, batch, norm, td_error, self.updates + 1, left_out.unseen - 1)

    def set_learning_rate(self, curve: Curve, step: int) -> None:
        """Set the learning rate to the value of a schedule's curve at an environment step."""
        rate = value_at(curve, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _update_target(self) -> None:
        if self.target is None or self.every is None or self.updates % self.every:
            return
        with torch.no_grad():
            self.guard.follow(self.target.flat, self.online.flat, self.target_rate)
            for mine, theirs in zip(self.target.modules, self.online.modules, strict=True):
                for buffer, other in zip(mine.buffers(), theirs.buffers(), strict=True):
                    self.guard.follow(buffer, other, 1.0)

    def load_seed_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Load weights [N, ...] into the online networks. Raises ValueError if they belong to a different network."""
        self.online.load_state_dict(_tensors(weights))
        self.guard.forget()

    def state_dict(self) -> dict[str, Any]:
        """Return weights, target weights, optimizer state and the random streams of forward passes, arrays [N, ...].

        Raises NotFinite like `raise_if_not_finite`.
        """
        self.raise_if_not_finite()
        if self.adam is not None:
            self.adam.close()
        saved: dict[str, Any] = {
            "online": _numpy(self.online.state_dict()),
            "optimizer": state_by_seed(self.online, self.optimizer),
            "updates": np.full(len(self.online.seeds), self.updates),
            "streams": self.online.random_state().numpy(),
        }
        if self.passes.draws:
            saved["passes"] = self.passes.state_dict()
        if self.target is not None:
            saved["target"] = _numpy(self.target.state_dict())
        return saved

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`. Raises ValueError for another network."""
        self.online.load_state_dict(_tensors(saved["online"]))
        if self.target is not None:
            self.target.load_state_dict(_tensors(saved["target"]))
        if self.adam is not None:
            self.adam.close()
        load_state_by_seed(self.online, self.optimizer, saved["optimizer"])
        self.guard.forget()
        self.updates = int(saved["updates"][0])
        self.online.load_random_state(torch.from_numpy(saved["streams"]))
        if self.passes.draws:
            self.passes.load_state_dict(saved["passes"])

    def check(self, saved: Mapping[str, Any]) -> None:
        """Raise ValueError if saved weights are NaN or infinite. Changes nothing."""
        for name in ("online", "target") if self.target is not None else ("online",):
            for key, value in saved[name].items():
                if not np.isfinite(value).all():
                    raise ValueError(f"The saved {key} of the {name} network contains NaN or infinite values.")


def _numpy(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
