"""What is refused, in sentences: configs, networks and batches that an agent cannot learn with or from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rl import network_names
from rl.core.observations import leaves
from rl.core.registry import lacking, name_of, optional_setting
from rl.core.types import Batch, SequenceBatch, State, check_end, check_masks, no_such_action
from rl.deep.heads.head import Head
from rl.deep.moving import tensors_of
from supervised import Stack
from supervised.schedules import Schedule
from supervised.validate import ArgumentError, explained, instance, kind_of, shown

KINDS = {"iu": "whole numbers", "f": "floats", "b": "bools"}
NUMBERS = (("action", torch.int64), ("reward", torch.float32), ("discount", torch.float32), ("weight", torch.float32))


class NotFinite(FloatingPointError):
    """A number that learning needs is NaN or infinite. `batch` is what was learned from."""

    def __init__(self, message: str, batch: Batch) -> None:
        super().__init__(message)
        self.batch = batch

    def __reduce__(self) -> Any:
        return NotFinite, (str(self), self.batch)


class DeepConfig(Protocol):
    """What every Q-network's config has; to be trained by `rl.train`, also the settings in REPLAYED."""

    @property
    def gamma(self) -> float: ...
    @property
    def network(self) -> network_names.Network: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def learning_rate(self) -> float | Schedule: ...
    @property
    def max_grad_norm(self) -> float | None: ...
    @property
    def target_every_updates(self) -> int | None: ...
    @property
    def target_rate(self) -> float: ...
    @property
    def compiled(self) -> bool: ...
    @property
    def mask(self) -> Callable[[Any], Tensor] | None: ...
    @property
    def head(self) -> Head:
        """What the network's outputs mean, and what is learned from them."""
        ...


REPLAYED = (
    *("explore", "capacity_steps", "batch_size", "learn_after_steps", "update_every_steps", "updates"),
    *("n_step", "prioritized", "priority_exponent", "importance_exponent"),
)


def check_learner(config: Any, needed: Iterable[str] = REPLAYED) -> None:
    """Raise ArgumentError, naming them, where a config lacks settings that learning from a replay needs."""
    missing = lacking(config, needed)
    if missing:
        raise ArgumentError(
            f"{name_of(config)} lacks {', '.join(missing)}: the config of an agent with a network has them as"
            " rl.DQN does, which it may be a subclass of."
        )
    if optional_setting(config, "learn", None) is not None:
        raise ArgumentError(
            f"{name_of(config)} has a function `learn`, which nothing calls: what is learned from a batch is said by"
            " the `loss` of its `head` (rl.deep.heads.head.Head)."
        )
    if not isinstance(config.head, Head):
        raise ArgumentError(
            f"The head of {name_of(config)} is an rl.deep.heads.head.Head, which says what the network's outputs mean, not"
            f" {shown(config.head)}."
        )


def check_outputs(online: Stack, head: Head, example: Any, actions: int, space: Any) -> None:
    """Raise ValueError unless the networks say of an example, 2 observations of each seed, what a head reads as [N, 2, A]."""
    try:
        with online.eval_mode():
            y = online(example)
        values = head.q(y) if isinstance(y, Tensor) else y
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"The network cannot read observations of {space}: {said}") from error
    if not isinstance(values, Tensor):
        raise ValueError(
            f"The network must answer a tensor of values [B, {actions}], not a {type(values).__name__}; one that remembers"
            " answers sequences [B, T, ...] with (values [B, T, actions], state)."
        )
    shape = list(values.shape)
    if shape != [len(online.seeds), 2, actions]:
        raise ValueError(
            f"The network must map observations [B, ...] to values [B, {actions}], one for each action; of a batch of"
            f" 2 it makes {shape[1:]}."
        )


def check_sequences(online: Stack, head: Head, example: Any, actions: int, space: Any) -> None:
    """Raise ValueError unless networks that answer (outputs, state) say of an example what a head reads, and go on from there.

    example: sequences [N, 2, 3, ...].
    """
    try:
        with online.eval_mode():
            _, state = online(example)
            y, again = online(example, state)
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"The network cannot go on from the state that it answered: {said}") from error
    for found in (state, again):
        parts = found if isinstance(found, tuple) else (found,)
        if not parts or not all(isinstance(part, Tensor) and part.ndim > 3 and part.shape[2] == 2 for part in parts):
            raise ValueError(
                "A recurrent network's state is a tensor [layers, B, ...], as those of torch's cells, or a tuple of them; of a"
                f" batch of 2 this one answers {state_shapes(found)}."
            )
    shape = list(head.q(y).shape)
    if shape != [len(online.seeds), 2, 3, actions]:
        raise ValueError(
            f"The network must map sequences [B, T, ...] to values [B, T, {actions}], one for each action at each step; of 2"
            f" sequences of 3 steps of {space} it makes {shape[1:]}."
        )


def state_shapes(state: Any) -> str:
    """What a state is of one member, for a sentence."""
    parts = state if isinstance(state, tuple) else (state,)
    return ", ".join(str(list(p.shape[1:])) if isinstance(p, Tensor) else type(p).__name__ for p in parts) or "nothing"


def check_apart(online: Stack, target: Stack) -> None:
    """Raise ValueError where two stacks have a parameter in common."""
    mine = {id(parameter) for module in online.modules for parameter in module.parameters()}
    if any(id(parameter) in mine for module in target.modules for parameter in module.parameters()):
        raise ValueError(
            "The network function returned parameters that it had returned before; online and target network need"
            " their own: make a new module at each call."
        )


def not_finite(online: Stack, batch: Batch, norm: Tensor, td_error: Any, update: int, later: int) -> NotFinite:
    """The error that names the seed and the first tensor that is not finite.

    update: its number, counted from 1. later: how many updates after it were left out too.
    """
    batch = batch if isinstance(batch.reward, Tensor) else type(batch)(*map(tensors_of, batch))
    k = int((~torch.isfinite(norm)).nonzero()[0])
    named = {f"observation {n}".strip(): part for n, part in leaves(batch.obs).items()}
    next_obs = batch._asdict().get("next_obs")
    if next_obs is not None:
        named |= {f"next observation {n}".strip(): part for n, part in leaves(next_obs).items()}
    named = {"reward": batch.reward, "discount": batch.discount, **named}
    named |= {f"weight {name}": weight.detach() for name, weight in online.weights.items()}
    named |= {"TD error (so the loss)": tensors_of(td_error)}
    found = [name for name, t in named.items() if t.is_floating_point() and not torch.isfinite(t[k]).all()]
    what = f"the {found[0]}, and so the gradient," if found else "the gradient"
    left_out = f" The {later} update{'s' * (later > 1)} after it changed nothing." if later > 0 else ""
    return NotFinite(
        f"Seed {online.seeds[k]}: {what} of update {update:,} is NaN or infinite. The networks are as they were"
        f" before it.{left_out}",
        batch,
    )


def check_allowed(found: Any, obs: Any, actions: int) -> None:
    """Raise ArgumentError unless a config's mask function answered bool [N, B, A] to observations [N, B, *O]."""
    shape = [*np.shape(next(iter(leaves(obs).values())))[:2], actions]
    if not isinstance(found, Tensor) or found.dtype != torch.bool or list(found.shape) != shape:
        what = kind_of(found) if isinstance(found, Tensor) else type(found).__name__
        raise ArgumentError(
            f"mask must return a bool tensor [..., {actions}], one for each action: {shape} for observations {shape[:2]},"
            f" not {what}."
        )


def check_state(state: Any, wanted: State) -> None:
    """Raise ArgumentError for a state with other parts, or parts of other shapes, than `wanted`; without any it begins anew."""
    if isinstance(state, Mapping) and (not state or _shapes(state) == _shapes(wanted)):
        return
    given = ", ".join(f"{name!r} {kind_of(part)}" for name, part in state.items()) if isinstance(state, Mapping) else ""
    parts = " and ".join(f"{name!r} {shape}" for name, shape in _shapes(wanted).items())
    raise ArgumentError(
        f"state is a dict with {parts}, as it was answered for as many observations, or None, not {given or shown(state)}."
    )


def _shapes(state: Mapping[str, Any]) -> dict[str, list[int] | None]:
    """The shape of each part that is an array or a tensor."""
    return {name: list(part.shape) if hasattr(part, "shape") else None for name, part in state.items()}


WINDOWS = (
    *(("action", "iu"), ("reward", "f"), ("discount", "f"), ("bootstrap", "iu"), ("next_mask", "b")),
    *(("length", "iu"), ("burn_in", "iu"), ("weight", "f"), ("index", "iu"), ("mask", "b")),
)  # the numbers of a batch of windows, and of which kind they are
OPTIONAL = ("next_mask", "weight", "index", "mask")


@explained("an rl.SequenceBatch of tensors", "DeepAgent.update")
def checked_windows(batch: SequenceBatch, n: int, actions: int) -> SequenceBatch:
    """The batch with its numbers as float32 and int64. Raises ValueError for other shapes, and for windows that name steps or
    observations that they do not have: compiled code would read past their ends."""
    instance(batch, "batch", SequenceBatch, "an rl.SequenceBatch")
    shape = tuple(batch.reward.shape)
    if len(shape) != 3 or shape[0] != n or 0 in shape:
        raise ValueError(f"A batch's reward is [{n} seeds, B, T], not {kind_of(batch.reward)}.")
    changed: dict[str, Any] = {}
    for name, kinds in WINDOWS:
        part = getattr(batch, name)
        if part is None and name in OPTIONAL:
            continue
        masks = dict.fromkeys(("next_mask", "mask"), (*shape, actions))
        wanted = masks.get(name, shape if name in ("action", "reward", "discount", "bootstrap") else shape[:2])
        array = np.asarray(part.detach().cpu() if isinstance(part, Tensor) else part)
        if array.shape != wanted or array.dtype.kind not in kinds:
            raise ValueError(f"A batch's {name} is {list(wanted)} of {KINDS[kinds]}, not {kind_of(part)}.")
        changed[name] = array.astype({"f": np.float32, "b": np.bool_}.get(kinds, np.int64))
    found = leaves(batch.obs)
    seen = {leaf.shape[:3] if isinstance(leaf, Tensor) else None for leaf in found.values()}
    first: Any = next(iter(seen))
    if len(seen) != 1 or first is None or len(first) != 3 or first[:2] != shape[:2]:
        raise ArgumentError(
            f"A batch's obs begins with [seeds, B, W], with [seeds, B] = {list(shape[:2])} as its rewards."
        )
    length, burn_in = changed["length"], changed["burn_in"]
    if (length < 1).any() or (length > shape[2]).any() or (burn_in < 0).any() or (burn_in >= length).any():
        raise ValueError(f"A batch's windows have a length in 1..{shape[2]} and a burn_in from 0 on that is below it.")
    if first[2] < length.max():
        raise ValueError(
            f"A batch's obs has an observation of each step, {int(length.max())} in the longest window, not {first[2]}."
        )
    within = np.arange(shape[2]) < length[..., None]  # steps behind a window's length are not read
    for name in ("action", "bootstrap"):
        changed[name] = np.where(within, changed[name], 0)
    bootstrap = changed["bootstrap"]
    if (bootstrap < 0).any() or (bootstrap >= first[2]).any():
        raise ValueError(f"A batch's bootstrap names observations of its windows, 0..{first[2] - 1}.")
    if (changed["action"] < 0).any() or (changed["action"] >= actions).any():
        raise no_such_action(actions)
    tensors: dict[str, Any] = {name: torch.from_numpy(array) for name, array in changed.items()}
    return batch._replace(**tensors)


@explained(
    "an rl.Batch whose action, reward, discount, next_mask, weight, index and mask are tensors", "DeepAgent.update"
)
def checked(batch: Batch, n: int, actions: int) -> Batch:
    """The batch with its numbers as float32 and int64. Raises ValueError unless its parts are [N, B] of one B from 1 on.

    Compiled code would read past their ends.
    """
    shape = batch.reward.shape
    sound = len(shape) == 2 and shape[0] == n and shape[1] > 0
    check_masks(batch, actions)
    for name, wanted in NUMBERS:
        part = getattr(batch, name)
        if (part is None and name == "weight") or (sound and part.shape == shape and part.dtype == wanted):
            continue
        alike = part.dtype == wanted or (
            part.is_floating_point() == wanted.is_floating_point and part.dtype != torch.bool
        )
        if part.shape != shape or not alike or not sound:
            raise ValueError(
                f"A batch's {name} is {str(wanted).removeprefix('torch.')} [{n} seeds, B], as all its parts are, not"
                f" {str(part.dtype).removeprefix('torch.')} {list(part.shape)}."
            )
        if part.dtype != wanted:
            batch = batch._replace(**{name: part.to(wanted)})
    check_end(batch)
    for name in ("obs", "next_obs") if batch.next_obs is not None else ("obs",):
        for leaf in leaves(getattr(batch, name)).values():
            if not isinstance(leaf, Tensor) or leaf.shape[:2] != shape:
                raise ArgumentError(
                    f"A batch's {name} begins with [seeds, B] = {list(shape)}, as its rewards, not {kind_of(leaf)}."
                )
    return batch
