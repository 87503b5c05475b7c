"""N copies of a module as one: weights [N, ...], inputs [N, B, ...] -> outputs [N, B, ...].

The members are ordinary modules, but parameter i of all of them lies in one block [N, ...], the blocks one after another
in one vector, and the gradients in another. A model made of layers that have a rule below is computed for all members at
once, from the same memory; any other member by member. Either way member k of N is member k alone, to the bit, on the CPU
with one torch thread (member by member: with any number of them). tests/supervised/test_stack.py sweeps that.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from supervised import determinism
from supervised.device import choose
from supervised.stack import compiled_mlp, manual_backward
from supervised.stack.memory import FlatMemory, Place
from supervised.streams import PURPOSES, Draws, torch_seed
from supervised.validate import ArgumentError, choice, explained, flag, function, integer, seeds_of, shown, unwrap

Op = Callable[[Tensor], Tensor]
Rule = Callable[["Stack", Sequence[Any]], Op | None]
R = TypeVar("R", bound=Rule)

RULES: dict[type[nn.Module], Rule] = {}
STILL: dict[type[nn.Module], None] = {}  # a set, in the form of RULES


def still(*kinds: type[nn.Module]) -> None:
    """Enter types of modules (not their subclasses) whose forward draws no random numbers, apart from the modules within.

    A stack of such modules alone leaves torch's generators alone.
    """
    STILL.update(dict.fromkeys(kinds))


def rule(*kinds: type[nn.Module]) -> Callable[[R], R]:
    """Enter how modules of these types (not of their subclasses) are computed for all members at once.

    The rule takes the stack and the N modules, and answers with a function [N, B, ...] -> [N, B, ...], or None where it
    has no way that is the same to the bit.
    """

    def enter(function: R) -> R:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return enter


class Stack:
    """N copies of what `make` makes, each initialised from its own seed; called, it maps [N, B, ...] -> [N, B, ...].

    compiled: compute chains of linear layers and ReLUs by machine code of our own, where that is possible (see
    `supervised.stack.compiled_mlp`); outputs and gradients by `vjp` then equal torch's to rounding, not to the bit.
    make: a function () -> nn.Module. Its random numbers come from the seed's own stream, and so do those drawn in a
    forward pass (dropout). `batched` says whether all members are computed at once. The modules stay usable:
    `member(seed)` is one of them, on the live weights. Parameters that need no gradient stay as they are.
    purpose: the stream of each seed that forward passes draw from, one of supervised.streams.PURPOSES: stacks of the same
    seeds share no draws if their purposes differ.
    Raises ValueError when the members differ, when trainable parameters are not all of one type, or for no seed at all.
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
    def of(cls, modules: Sequence[nn.Module], seeds: int | Iterable[int], device: str | torch.device = "cpu") -> Stack:
        """A stack of modules that exist: their parameters keep their values and move into the stack's memory."""
        stack = cls.__new__(cls)
        if not isinstance(modules, (list, tuple)) or not all(isinstance(module, nn.Module) for module in modules):
            raise ArgumentError(f"modules is a list of torch.nn.Modules, not {shown(modules)}.")
        stack._adopt(modules, seeds_of(seeds), choose(device))
        return stack

    def _adopt(
        self,
        modules: Sequence[nn.Module],
        seeds: tuple[int, ...],
        device: torch.device,
        compiled: bool = False,
        purpose: str = "forward",
    ) -> None:
        if not modules or len(modules) != len(seeds):
            raise ValueError(
                f"A stack needs at least one seed, and a module for each: {len(modules)} for {len(seeds)} seeds."
            )
        self.seeds, self.device = seeds, device
        self.modules = [module.to(self.device) for module in modules]
        _check_alike(self.modules, self.seeds)
        self.draws = Draws(seeds, purpose, device)
        self._still = all(_is_still(part) for module in self.modules for part in module.modules())
        self.memory = FlatMemory(self.modules, device)
        self.flat, self.weights, self.gradients = self.memory.flat, self.memory.weights, self.memory.gradients
        self._listeners, self._heard, self._hooks_seen = _listeners(self.modules), False, -1
        self.zero_grad()
        self._op = self.lift(self.modules)
        self.batched = self.memory.batched = self._op is not None
        compiled = (
            compiled and self.device.type == "cpu" and self.flat.dtype == torch.float32 and compiled_mlp.possible()
        )
        self._chain = manual_backward.chain(self.memory, self.modules, compiled) if self.batched else None
        within = [] if self._chain is None else self._chain.parameters
        self._in_chain: set[Place] = {(self.memory.name_of(parameter), None) for parameter in within}
        self.compiled = self._chain is not None and self._chain.compiled
        if self.batched and self.device.type == "cpu":
            determinism.check()

    @explained("x [N, B, ...], or a dict or tuple of such, as its members read it")
    def __call__(self, x: Any, *more: Any) -> Any:
        """x [N, B, ...], or a dict or tuple of such, -> [N, B, ...]; further arguments (a state) go to each member too."""
        first = x
        while isinstance(first, (Mapping, tuple)):
            first = next(iter(first.values() if isinstance(first, Mapping) else first))
        if first.shape[0] != len(self.seeds):
            raise ValueError(
                f"The stack has {len(self.seeds)} members, so its input begins so, not {list(first.shape)}."
            )
        if self._op is None or more or self._listened():
            return self._one_by_one(x, *more)
        self.draws.begin()
        return (
            self._chain(x)
            if self._chain is not None and not torch.is_grad_enabled() and self._chains(x)
            else self._op(x)
        )

    def _chains(self, x: Any) -> bool:
        return self._chain is not None and self._chain.fits(x) and not torch.is_autocast_enabled(self.device.type)

    def lift(self, modules: Sequence[nn.Module]) -> Op | None:
        """How the N modules are computed at once; None where some layer has no rule."""
        kind = _known_as(type(modules[0]), RULES)
        if kind is None or not _compute_alike(modules) or any(_listeners(modules)):
            return None
        return RULES[kind](self, modules)

    @explained("x [N, B, ...], or a dict or tuple of such, as its members read it")
    def vjp(self, x: Any) -> tuple[Tensor, Callable[[Tensor], None]]:
        """The outputs y for x, and a function that takes the gradient by y (of y's shape) back to the weights.

        That function puts the gradient of every weight into `gradients`, in place of what was there. Without a detour by
        autograd where the model is a chain of simple layers (`supervised.stack.manual_backward`), with the same bits.
        """
        if self._chain is not None and self._chains(x) and not self._listened():
            with torch.no_grad():
                y, back = self._chain.vjp(x)

            def through_chain(gradient: Tensor) -> None:
                back(gradient)
                self.memory.arrived = set(self._in_chain)

            return y, through_chain
        y = self(x)

        def pull_back(gradient: Tensor) -> None:
            manual_backward.check_gradient(gradient, y)
            self.zero_grad()
            torch.autograd.backward(y, gradient)

        return y.detach(), pull_back

    def _one_by_one(self, *arguments: Any) -> Any:
        return _together([self.run(k, *(_member(a, k) for a in arguments)) for k in range(len(self.modules))])

    def run(self, k: int, *arguments: Any) -> Any:
        """Call the k-th member alone, its random draws taken from its own stream."""
        with self.drawing(k):
            return self.modules[k](*arguments)

    def drawing(self, k: int) -> contextlib.AbstractContextManager[None]:
        """Have torch's global generator of the device draw from the k-th member's stream meanwhile, if the member can draw."""
        return contextlib.nullcontext() if self._still and not self._listened() else self.draws.everywhere(k)

    @explained("one of its seeds")
    def member(self, seed: int) -> nn.Module:
        """The module of a seed, on the live weights and on the stack's device: its input has to be there too.

        Its tensors are views of all members' memory: to save or copy it, `take` it. Raises ValueError for a seed that is not
        here.
        """
        seed = integer(seed, "seed")
        if seed not in self.seeds:
            raise ValueError(f"Seed {seed} is not in this stack; its seeds are {', '.join(map(str, self.seeds))}.")
        return self.modules[self.seeds.index(seed)]

    @explained("one of its seeds")
    def take(self, seed: int) -> nn.Module:
        """A copy of a seed's module that owns its weights, on the stack's device, for torch.save, pickle and use on its own."""
        return owned(self.member(seed))

    @explained("mode, True or False")
    def train(self, mode: bool = True) -> Stack:
        """Training mode (dropout drops, batch-norm counts), or with False evaluation mode."""
        mode = flag(mode, "mode")
        for module in self.modules:
            module.train(mode)
        return self

    @contextlib.contextmanager
    def judged(self) -> Iterator[None]:
        """Evaluation mode and no gradient meanwhile; afterwards nothing is changed, even where a model draws when judged."""
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

    def _listened(self) -> bool:
        """Whether somebody has put a hook on a module or parameter, which only a call of the module itself would reach."""
        # Torch numbers all hooks of a process: where none has come since the last look, and none was there, none is.
        if self._heard or self._hooks_seen != RemovableHandle.next_id:
            self._hooks_seen = RemovableHandle.next_id
            self._heard = any(self._listeners) or any(map(_has_hook, self.memory.parameters()))
        return self._heard

    def zero_grad(self) -> None:
        """Put every gradient to zero, and back into the stack's memory should somebody have taken it out."""
        self.memory.zero()

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers by the names they have in a member, each [N, ...]: views or copies."""
        buffers = [dict(module.named_buffers()) for module in self.modules]
        stacked = {name: torch.stack([member[name] for member in buffers]) for name in buffers[0]}
        return {**{name: weight.detach() for name, weight in self.weights.items()}, **stacked}

    @explained("the state that state_dict returned")
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state_dict` gave. Raises ValueError, and changes nothing, when names or shapes are others."""
        mine = self.state_dict()
        missing, foreign = mine.keys() - state.keys(), state.keys() - mine.keys()
        if missing or foreign:
            said = [f"lacks {', '.join(sorted(missing))}"] * bool(missing)
            said += [f"has {', '.join(sorted(foreign))}, which the model has not"] * bool(foreign)
            raise ValueError(f"The saved weights are of another model: what was saved {' and '.join(said)}.")
        for name, value in mine.items():
            if state[name].shape != value.shape:
                raise ValueError(
                    f"The saved weights are of another model: {name} is {list(state[name].shape)} there and"
                    f" {list(value.shape)} here."
                )
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state[name])
            for k, module in enumerate(self.modules):
                for name, buffer in module.named_buffers():
                    buffer.copy_(state[name][k])

    def random_state(self) -> Tensor:
        """How often each member has drawn in a forward pass, int64 [N]: all of its random state, on every device."""
        return self.draws.state()

    @explained("the state that random_state returned")
    def load_random_state(self, state: Tensor) -> None:
        """Put back what `random_state` gave, on this device or another one.

        Warns of the states of generators that earlier versions saved, where the model draws. Raises ValueError for anything
        else.
        """
        self.draws.load_state(state, "" if self._still else "what the model draws in a forward pass (dropout)")

    @explained("one learning rate, or one for each seed")
    def groups(self, learning_rate: float | Sequence[float]) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer of torch that treats each number by itself (Adam, SGD, ...).

        One group with all members where they are computed at once and one learning rate is given; otherwise a group for
        each member, so that rates and schedules may differ and several threads change no bit.
        """
        if isinstance(learning_rate, Sequence):
            if len(learning_rate) != len(self.seeds):
                raise ValueError(
                    f"There are {len(learning_rate)} learning rates for {len(self.seeds)} seeds: give one, or one a seed."
                )
        elif self.batched:
            return [{"params": [self.flat], "lr": learning_rate}]
        else:
            learning_rate = [learning_rate] * len(self.seeds)
        return [
            {"params": [p for p in module.parameters() if p.requires_grad], "lr": rate}
            for module, rate in zip(self.modules, learning_rate, strict=True)
        ]


def check_make(make: Any, name: str) -> None:
    """Raise ArgumentError for what is no function without arguments that makes a module."""
    what = "a function () -> torch.nn.Module"
    if isinstance(make, nn.Module):
        raise ArgumentError(
            f"{name} is {what}, not a module that exists ({shown(make)}): it is called once for each seed."
        )
    function(make, name, (), what)


def make_member(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """What `make` makes with the random numbers of `seed`; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed, "weights"))
        module = make()
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"The function that makes the model must return a torch.nn.Module, not {type(module).__name__}."
        )
    return module


def owned(module: nn.Module) -> nn.Module:
    """A copy of a module whose tensors have memory of their own; copy.deepcopy would copy all that they are views of."""
    named = [*module.named_parameters(), *module.named_buffers()]
    memo: dict[int, Any] = {
        id(tensor): nn.Parameter(tensor.detach().clone(), tensor.requires_grad)
        if isinstance(tensor, nn.Parameter)
        else tensor.detach().clone()
        for _, tensor in named
    }
    return copy.deepcopy(module, memo)


def norms(stack: Stack, tensors: Iterable[Tensor]) -> Tensor:
    """The norm of each member's part of [N, ...] tensors, taken together: [N]."""
    return stack.memory.norms(tensors)


@explained("a Stack and a largest norm above 0")
def clip_per_seed(stack: Stack, max_norm: float) -> Tensor:
    """Scale each member's gradient down to `max_norm` where it is longer -> the norms before, [N].

    Each member by its own norm (Pascanu et al. 2013, section 3.2), never by that of all of them.
    """
    return stack.memory.clip(unwrap(max_norm))


def _check_alike(modules: Sequence[nn.Module], seeds: Sequence[int]) -> None:
    if len({id(module) for module in modules}) < len(modules):
        raise ValueError(
            "The function that makes the model returned the same module twice; it must make a new one each time."
        )
    owners: dict[int, int] = {}
    for k, module in enumerate(modules):
        for name, parameter in module.named_parameters():
            if owners.setdefault(id(parameter), k) != k:
                raise ValueError(
                    f"Two members share the parameter {name}; each must have its own: make all of it anew."
                )
    for name, parameter in modules[0].named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise ValueError(f"{name} of the model has no shape yet: a lazy module must see one input first.")
    shapes = [{n: (p.shape, p.dtype, p.requires_grad) for n, p in m.named_parameters()} for m in modules]
    shapes = [
        s | {n: (b.shape, b.dtype, False) for n, b in m.named_buffers()} for s, m in zip(shapes, modules, strict=True)
    ]
    for seed, found in zip(seeds, shapes, strict=True):
        for name in {**shapes[0], **found}:
            if found.get(name) != shapes[0].get(name):
                raise ValueError(
                    f"The models of seeds {seeds[0]} and {seed} differ in {name}: all members must be alike."
                )
    _check_tied(modules, seeds)
    kinds = {kind for shape, kind, trained in shapes[0].values() if trained}
    if len(kinds) > 1 or not all(kind.is_floating_point for kind in kinds):
        names = ", ".join(sorted(str(kind) for kind in kinds))
        raise ValueError(f"All trainable parameters of a model must be of one floating type; these are {names}.")


def _check_tied(modules: Sequence[nn.Module], seeds: Sequence[int]) -> None:
    """Raise ValueError where members tie other weights, or where two parameters share memory without being one."""
    ties = [_ties(module) for module in modules]
    for seed, found in zip(seeds, ties, strict=True):
        for name, other in sorted(found.items() ^ ties[0].items()):
            raise ValueError(
                f"The models of seeds {seeds[0]} and {seed} tie their weights differently: {name} is {other} in one of them."
            )
    spans = sorted((*_span(p), name) for name, p in modules[0].named_parameters() if p.numel())
    for (_, end, one), (begin, _, other) in itertools.pairwise(spans):
        if begin < end:
            raise ValueError(
                f"{' and '.join(sorted((one, other)))} of the model share their memory, but are two parameters: assign one"
                " nn.Parameter to both modules to tie them, or clone one."
            )


def _ties(module: nn.Module) -> dict[str, str]:
    """Each parameter's name, and the first name of the same parameter."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(p), name) for name, p in module.named_parameters(remove_duplicate=False)}


def _span(tensor: Tensor) -> tuple[int, int]:
    """From where to where a tensor reaches in memory, gaps included."""
    begin = tensor.data_ptr()
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return begin, begin + (reach + 1) * tensor.element_size()


def _compute_alike(modules: Sequence[nn.Module]) -> bool:
    """Whether one of these modules' settings stand for all, and nobody has put another function in the place of theirs."""
    kind, said, parts = type(modules[0]), modules[0].extra_repr(), len(modules[0]._modules)
    return kind.__call__ is nn.Module.__call__ and all(
        type(module) is kind
        and module.extra_repr() == said
        and len(module._modules) == parts
        and "forward" not in vars(module)
        for module in modules
    )


def _listeners(modules: Sequence[nn.Module]) -> list[Any]:
    """Where the hooks of modules and of all that lie within them are kept: dicts, empty while nobody listens.

    A rule goes past Module.__call__, so whoever listens there would hear nothing.
    """
    each = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    parts = [part for module in modules for part in module.modules()]
    return [vars(nn.modules.module)[f"_global{name}"] for name in each] + [
        vars(p)[name] for p in parts for name in each
    ]


def _known_as(kind: type[nn.Module], known: dict[type[nn.Module], Any]) -> type[nn.Module] | None:
    """The type among `known` whose forward modules of this kind have; None if there is none.

    A subclass that computes as its base does is known as the base; torch's own types are not, as their forward calls methods
    that a subclass may replace.
    """
    base = next((b for b in kind.__mro__ if b in known and kind.forward is b.forward), None)
    return None if base is not kind and base is not None and base.__module__.startswith("torch.") else base


def _is_still(module: nn.Module) -> bool:
    """Whether a module is known to draw nothing itself."""
    kind = type(module)
    return _known_as(kind, STILL) is not None and kind.__call__ is nn.Module.__call__ and "forward" not in vars(module)


def _has_hook(parameter: nn.Parameter) -> bool:
    """Whether a parameter has a hook beside the `Arrival` that each has."""
    hooks: Any = parameter._post_accumulate_grad_hooks
    return bool(parameter._backward_hooks) or len(hooks) > 1


def _member(argument: Any, k: int) -> Any:
    if isinstance(argument, tuple):
        return tuple(_member(part, k) for part in argument)
    if isinstance(argument, Mapping):
        return {name: _member(part, k) for name, part in argument.items()}
    return argument[k] if isinstance(argument, Tensor) else argument


def _together(outputs: list[Any]) -> Any:
    if isinstance(outputs[0], tuple):
        return tuple(_together(list(parts)) for parts in zip(*outputs, strict=True))
    return torch.stack(outputs) if isinstance(outputs[0], Tensor) else outputs[0]
