"""N copies of a module as one: weights [N, ...], inputs [N, B, ...] -> outputs [N, B, ...].

The members are ordinary modules, but parameter i of all of them is one block [N, ...] of a single vector, and their gradients
are blocks of another. A model whose layers are all registered (`supervised.stack.registry`) is computed for all members at
once; any other model member by member. Either way member k of N is bit-identical to member k alone, on the CPU with one torch
thread (member by member: with any number of threads). tests/supervised/test_stack.py verifies this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from supervised import determinism
from supervised.device import choose
from supervised.stack import compiled_mlp, manual_backward, registry, sequences
from supervised.stack.compiled_chain import CompiledChain, compiled_chain
from supervised.stack.compiled_sequence import CompiledSequence, Plan
from supervised.stack.hooks import Hooks
from supervised.stack.members import (
    check_alike,
    check_make,
    check_state,
    make_member,
    member_part,
    owned,
    parameter_groups,
    stacked_parts,
)
from supervised.stack.memory import FlatMemory
from supervised.stack.registry import Op
from supervised.stack.unroll import Unrolling
from supervised.streams import PURPOSES, Draws
from supervised.validate import ArgumentError, choice, explained, flag, integer, seeds_of, shown, unwrap


class Stack(Unrolling):
    """N copies of a model, each initialized from its own seed; calling it maps [N, B, ...] -> [N, B, ...].

    make: a function () -> nn.Module. Its random numbers come from the seed's own stream, and so do those drawn in a
    forward pass (dropout). `batched` tells whether all members are computed at once. The modules stay usable:
    `member(seed)` is one of them, on the live weights. Parameters that require no gradient are not trained.
    compiled: run chains of linear layers, layer normalizations and ReLUs (see `supervised.stack.compiled_mlp`) and sequence
    models with GRU or tanh cells (`supervised.stack.sequences`) as compiled code where possible; outputs without a gradient, and
    the results of `vjp` and `unroll_vjp`, then equal torch's up to rounding, not bit for bit.
    purpose: the stream of each seed that forward passes draw from, one of supervised.streams.PURPOSES; stacks with the same
    seeds but different purposes share no draws.
    Raises ValueError if the members differ, if trainable parameters are not all of one type, or for no seeds.
    """

    def __init__(
        self,
        make: Callable[[], nn.Module],
        seeds: int | Iterable[int],
        device: str | torch.device = "cpu",
        compiled: bool = False,
        purpose: str = "forward",
    ) -> None:
        seeds, compiled = seeds_of(seeds), flag(compiled, "compiled")
        check_make(make, "make")
        choice(purpose, "purpose", PURPOSES)
        self._adopt([make_member(make, seed) for seed in seeds], seeds, choose(device), compiled, purpose)

    @classmethod
    def of(
        cls,
        modules: Sequence[nn.Module],
        seeds: int | Iterable[int],
        device: str | torch.device = "cpu",
        compiled: bool = False,
    ) -> Stack:
        """Create a stack of existing modules; their parameters keep their values and move into the stack's memory."""
        stack = cls.__new__(cls)
        if not isinstance(modules, (list, tuple)) or not all(isinstance(module, nn.Module) for module in modules):
            raise ArgumentError(f"modules must be a list of torch.nn.Modules, not {shown(modules)}.")
        stack._adopt(modules, seeds_of(seeds), choose(device), flag(compiled, "compiled"))
        return stack

    def _adopt(
        self,
        modules: Sequence[nn.Module],
        seeds: tuple[int, ...],
        device: torch.device,
        compiled: bool = False,
        purpose: str = "forward",
    ) -> None:
        self.seeds, self.device = seeds, device
        self.modules = [module.to(self.device) for module in modules]
        check_alike(self.modules, self.seeds)
        self.draws = Draws(seeds, purpose, device)
        self._deterministic = all(map(registry.is_deterministic, self.modules))
        self.memory = FlatMemory(self.modules, device)
        self.flat, self.weights, self.gradients = self.memory.flat, self.memory.weights, self.memory.gradients
        self._hooks = Hooks(self.modules, self.memory.parameters())
        self.zero_grad()
        self._op = self.batched_op(self.modules)
        self.wants_compiled = compiled
        # Planned even where this machine cannot compile, so that an optimizer state saved elsewhere fits here.
        plan = sequences.plan(self.memory, self.modules) if compiled else None
        self.batched = self.memory.batched = self._op is not None or plan is not None
        compiled = compiled and self.batched
        self._sequence, self._compiled = _compiled(self.memory, self.modules, plan) if compiled else (None, None)
        self.compiled = self._compiled is not None or self._sequence is not None
        plain = manual_backward.chain(self.memory, self.modules) if self.batched and not self.compiled else None
        self._chain: manual_backward.Chain | CompiledChain | None = self._compiled or plain
        if self.batched and self.device.type == "cpu":
            determinism.check()

    @explained("x [N, B, ...], or a dict or tuple of tensors, as its members take it")
    def __call__(self, x: Any, *more: Any) -> Any:
        """Forward pass of x [N, B, ...], or a dict or tuple of tensors, -> [N, B, ...]. more: further arguments (a state)."""
        self._check_members(x)
        compiled = self._sequence if len(more) < 2 and not torch.is_grad_enabled() else None
        if compiled is not None and self._fits(compiled, x, *more):
            return compiled(x, *more)
        if self._op is None or more or self._hooks.present():
            return self._one_by_one(x, *more)
        self.draws.begin()
        if self._chain is not None and not torch.is_grad_enabled() and self._chain.fits(x):
            return self._chain(x)
        return self._op(x)

    def batched_op(self, modules: Sequence[nn.Module]) -> Op | None:
        """Return a function that computes the N modules at once, or None if some layer is not registered for it."""
        return registry.batched_op(self, modules)

    @explained("x [N, B, ...], or a dict or tuple of tensors, as its members take it")
    def vjp(self, x: Any) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Return the outputs y for x, and a function that backpropagates a gradient with respect to y (of y's shape).

        That function overwrites `gradients`. If the model is a chain of simple layers, gradients are computed without autograd
        (`supervised.stack.manual_backward`), with bit-identical results.
        """
        if self._chain is not None and self._chain.fits(x) and not self._hooks.present():
            with torch.no_grad():
                return self._chain.vjp(x)
        y = self(x)
        return y.detach(), self._by_autograd(y)

    def compiled_chain(self) -> CompiledChain | None:
        """Return the compiled chain for numpy arrays, or None if there is none or a hook would not be called."""
        return None if self._compiled is None or self._hooks.present() else self._compiled

    def _one_by_one(self, *arguments: Any) -> Any:
        return stacked_parts([self.run(k, *(member_part(a, k) for a in arguments)) for k in range(len(self.modules))])

    def run(self, k: int, *arguments: Any) -> Any:
        """Call the k-th member alone, drawing from its own random stream."""
        with self.drawing(k):
            return self.modules[k](*arguments)

    def drawing(self, k: int) -> contextlib.AbstractContextManager[None]:
        """Context manager in which the device's global generator draws from the k-th member's stream, if the member draws."""
        draws = not self._deterministic or self._hooks.present()
        return self.draws.everywhere(k) if draws else contextlib.nullcontext()

    @explained("one of its seeds")
    def member(self, seed: int) -> nn.Module:
        """Return the module of a seed, on the stack's device, sharing its weights with the stack.

        Its tensors are views of the stack's memory: use `take` to save or copy it. Raises ValueError for an unknown seed.
        """
        seed = integer(seed, "seed")
        if seed not in self.seeds:
            raise ValueError(f"Seed {seed} is not in this stack; its seeds are {', '.join(map(str, self.seeds))}.")
        return self.modules[self.seeds.index(seed)]

    @explained("one of its seeds")
    def take(self, seed: int) -> nn.Module:
        """Return a copy of a seed's module that owns its weights, on the stack's device, for torch.save or separate use."""
        return owned(self.member(seed))

    @explained("mode, True or False")
    def train(self, mode: bool = True) -> Stack:
        """Set training mode, or with False eval mode -> the stack."""
        mode = flag(mode, "mode")
        for module in self.modules:
            module.train(mode)
        return self

    @contextlib.contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Context manager for eval mode without gradients. Modes and random streams are restored on exit."""
        modes = [(part, part.training) for module in self.modules for part in module.modules()]
        drawn = list(self.draws.counts)
        self.train(False)
        try:
            with torch.no_grad():
                yield
        finally:
            self.draws.counts = drawn
            for part, mode in modes:
                part.training = mode

    def zero_grad(self) -> None:
        """Zero all gradients, and reattach those that were replaced to the stack's memory."""
        self.memory.zero()

    def state_dict(self) -> dict[str, Tensor]:
        """Return parameters and buffers by their names in a member, each [N, ...]: views or copies."""
        buffers = [dict(module.named_buffers()) for module in self.modules]
        stacked = {name: torch.stack([member[name] for member in buffers]) for name in buffers[0]}
        return {**{name: weight.detach() for name, weight in self.weights.items()}, **stacked}

    @explained("the state that state_dict returned")
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a state returned by `state_dict`. Raises ValueError, and changes nothing, where names or shapes differ."""
        check_state(state, self.state_dict())
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state[name])
            for k, module in enumerate(self.modules):
                for name, buffer in module.named_buffers():
                    buffer.copy_(state[name][k])

    def random_state(self) -> Tensor:
        """Return how often each member has drawn in a forward pass, int64 [N]: its complete random state, on any device."""
        return self.draws.state()

    @explained("the state that random_state returned")
    def load_random_state(self, state: Tensor) -> None:
        """Load a state returned by `random_state`, on this device or another one.

        Generator states saved by earlier versions cannot be restored, which causes a warning if the model draws. Raises
        ValueError for anything else.
        """
        self.draws.load_state(state, "" if self._deterministic else "what the model draws in a forward pass (dropout)")

    @explained("one learning rate, or one for each seed")
    def groups(self, learning_rate: float | Sequence[float]) -> list[dict[str, Any]]:
        """Return parameter groups for an elementwise torch optimizer (Adam, SGD, ...).

        One group with all members if they are computed at once with one learning rate; otherwise one group per member, so that
        rates and schedules may differ and results do not depend on the number of threads.
        """
        return parameter_groups(self.modules, self.flat if self.batched else None, learning_rate)


def _compiled(
    memory: FlatMemory, modules: Sequence[nn.Module], plan: Plan | None
) -> tuple[CompiledSequence | None, CompiledChain | None]:
    """Compile the modules as a sequence model or as a chain; neither if this machine or device does not support it."""
    if memory.device.type != "cpu" or memory.flat.dtype != torch.float32 or not compiled_mlp.possible():
        return None, None
    sequence = None if plan is None else plan.compile()
    return sequence, compiled_chain(memory, modules) if sequence is None else None


def norms(stack: Stack, tensors: Iterable[Tensor]) -> Tensor:
    """Return each member's norm over its parts of all the [N, ...] tensors: [N]."""
    return stack.memory.norms(tensors)


@explained("a Stack and a largest norm above 0")
def clip_per_seed(stack: Stack, max_norm: float) -> Tensor:
    """Clip each member's gradient to the norm `max_norm` -> the norms before clipping, [N].

    Each member is clipped by its own norm (Pascanu et al. 2013, section 3.2), never by the norm over all members.
    """
    return stack.memory.clip(unwrap(max_norm))
