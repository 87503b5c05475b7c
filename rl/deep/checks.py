"""Checks of configs, networks, states and batches, which raise errors for those that an agent does not support."""

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
    """Raised if a number in learning is NaN or infinite. `batch`: the batch it occurred in."""

    def __init__(self, message: str, batch: Batch) -> None:
        super().__init__(message)
        self.batch = batch

    def __reduce__(self) -> Any:
        return NotFinite, (str(self), self.batch)


class DeepConfig(Protocol):
    """The settings of every Q-network's config. `rl.train` also needs those in REPLAYED."""

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
        """Return the head, which reads the network's outputs and computes their loss."""
        ...


REPLAYED = (
    *("explore", "capacity_steps", "batch_size", "learn_after_steps", "update_every_steps", "updates"),
    *("n_step", "prioritized", "priority_exponent", "importance_exponent"),
)


def check_learner(config: Any, needed: Iterable[str] = REPLAYED) -> None:
    """Raise ArgumentError if a config lacks settings needed for learning from a replay."""
    missing = lacking(config, needed)
    if missing:
        raise ArgumentError(
            f"{name_of(config)} lacks {', '.join(missing)}: the config of a Q-network needs these settings, as in rl.DQN,"
            " from which it may derive."
        )
    if optional_setting(config, "learn", None) is not None:
        raise ArgumentError(
            f"{name_of(config)} has a method `learn`, which is never called: the loss is defined by the method `loss` of its"
            " `head` (rl.deep.heads.head.Head)."
        )
    if not isinstance(config.head, Head):
        raise ArgumentError(
            f"The head of {name_of(config)} must be an rl.deep.heads.head.Head, which reads the network's outputs, not"
            f" {shown(config.head)}."
        )


def check_outputs(online: Stack, head: Head, example: Any, actions: int, space: Any) -> None:
    """Raise ValueError unless the head reads the outputs for an example, 2 observations per seed, as values [N, 2, A]."""
    try:
        with online.eval_mode():
            y = online(example)
        values = head.q(y) if isinstance(y, Tensor) else y
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"The network cannot read observations of {space}: {said}") from error
    if not isinstance(values, Tensor):
        raise ValueError(
            f"The network must return a tensor of values [B, {actions}], not a {type(values).__name__}; a recurrent one maps"
            " sequences [B, T, ...] to (values [B, T, actions], state)."
        )
    shape = list(values.shape)
    if shape != [len(online.seeds), 2, actions]:
        raise ValueError(
            f"The network must map observations [B, ...] to values [B, {actions}], one for each action; for a batch of 2 it"
            f" returns {shape[1:]}."
        )


def check_sequences(online: Stack, head: Head, example: Any, actions: int, space: Any) -> None:
    """Raise ValueError unless recurrent networks can continue from their state and the head can read their outputs.

    example: sequences [N, 2, 3, ...].
    """
    try:
        with online.eval_mode():
            _, state = online(example)
            y, again = online(example, state)
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"The network cannot continue from the state that it returned: {said}") from error
    for found in (state, again):
        parts = found if isinstance(found, tuple) else (found,)
        if not parts or not all(isinstance(part, Tensor) and part.ndim > 3 and part.shape[2] == 2 for part in parts):
            raise ValueError(
                "A recurrent network's state must be a tensor [layers, B, ...], as for torch's cells, or a tuple of such tensors;"
                f" for a batch of 2 it is {state_shapes(found)}."
            )
    shape = list(head.q(y).shape)
    if shape != [len(online.seeds), 2, 3, actions]:
        raise ValueError(
            f"The network must map sequences [B, T, ...] to values [B, T, {actions}], one for each action at each step; for 2"
            f" sequences of 3 steps of {space} it returns {shape[1:]}."
        )


def state_shapes(state: Any) -> str:
    """Return the shapes of a state's parts for one member, as text for a message."""
    parts = state if isinstance(state, tuple) else (state,)
    return ", ".join(str(list(p.shape[1:])) if isinstance(p, Tensor) else type(p).__name__ for p in parts) or "nothing"


def check_apart(online: Stack, target: Stack) -> None:
    """Raise ValueError if two stacks share a parameter."""
    mine = {id(parameter) for module in online.modules for parameter in module.parameters()}
    if any(id(parameter) in mine for module in target.modules for parameter in module.parameters()):
        raise ValueError(
            "The network function returned the same parameters twice; the online and target networks need their own: create a"
            " new module in each call."
        )


def not_finite(online: Stack, batch: Batch, norm: Tensor, td_error: Any, update: int, later: int) -> NotFinite:
    """Return the error that names the seed and the first tensor that is not finite.

    update: the number of the update, from 1. later: how many updates after it were skipped, too.
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
        f"Seed {online.seeds[k]}: {what} of update {update:,} is NaN or infinite. The networks are unchanged since before this"
        f" update.{left_out}",
        batch,
    )


def check_allowed(found: Any, obs: Any, actions: int) -> None:
    """Raise ArgumentError unless a config's mask function returned bool [N, B, A] for observations [N, B, *O]."""
    shape = [*np.shape(next(iter(leaves(obs).values())))[:2], actions]
    if not isinstance(found, Tensor) or found.dtype != torch.bool or list(found.shape) != shape:
        what = kind_of(found) if isinstance(found, Tensor) else type(found).__name__
        raise ArgumentError(
            f"mask must return a bool tensor [..., {actions}], one for each action: {shape} for observations {shape[:2]},"
            f" not {what}."
        )


def check_state(state: Any, wanted: State) -> None:
    """Raise ArgumentError unless a state is empty or has the parts and shapes of `wanted`."""
    if isinstance(state, Mapping) and (not state or _shapes(state) == _shapes(wanted)):
        return
    given = ", ".join(f"{name!r} {kind_of(part)}" for name, part in state.items()) if isinstance(state, Mapping) else ""
    parts = " and ".join(f"{name!r} {shape}" for name, shape in _shapes(wanted).items())
    raise ArgumentError(
        f"state must be a dict with {parts}, as returned for the same number of observations, or None, not"
        f" {given or shown(state)}."
    )


def _shapes(state: Mapping[str, Any]) -> dict[str, list[int] | None]:
    """Return the shape of each part that is an array or a tensor."""
    return {name: list(part.shape) if hasattr(part, "shape") else None for name, part in state.items()}


WINDOWS = (
    *(("action", "iu"), ("reward", "f"), ("discount", "f"), ("bootstrap", "iu"), ("next_mask", "b")),
    *(("length", "iu"), ("burn_in", "iu"), ("weight", "f"), ("index", "iu"), ("mask", "b")),
)  # the numeric fields of a batch of windows, and their kinds of dtype
OPTIONAL = ("next_mask", "weight", "index", "mask")


@explained("an rl.SequenceBatch of tensors", "DeepAgent.update")
def checked_windows(batch: SequenceBatch, n: int, actions: int) -> SequenceBatch:
    """Return the batch with its numbers as float32 and int64.

    Raises ValueError for wrong shapes, and for windows with indices of steps or observations that they do not have: compiled code
    would read out of bounds.
    """
    instance(batch, "batch", SequenceBatch, "an rl.SequenceBatch")
    shape = tuple(batch.reward.shape)
    if len(shape) != 3 or shape[0] != n or 0 in shape:
        raise ValueError(f"A batch's reward must be [{n} seeds, B, T], not {kind_of(batch.reward)}.")
    changed: dict[str, Any] = {}
    for name, kinds in WINDOWS:
        part = getattr(batch, name)
        if part is None and name in OPTIONAL:
            continue
        masks = dict.fromkeys(("next_mask", "mask"), (*shape, actions))
        wanted = masks.get(name, shape if name in ("action", "reward", "discount", "bootstrap") else shape[:2])
        array = np.asarray(part.detach().cpu() if isinstance(part, Tensor) else part)
        if array.shape != wanted or array.dtype.kind not in kinds:
            raise ValueError(f"A batch's {name} must be {list(wanted)} of {KINDS[kinds]}, not {kind_of(part)}.")
        changed[name] = array.astype({"f": np.float32, "b": np.bool_}.get(kinds, np.int64))
    found = leaves(batch.obs)
    seen = {leaf.shape[:3] if isinstance(leaf, Tensor) else None for leaf in found.values()}
    first: Any = next(iter(seen))
    if len(seen) != 1 or first is None or len(first) != 3 or first[:2] != shape[:2]:
        raise ArgumentError(
            f"A batch's obs must have the leading axes [seeds, B, W], with [seeds, B] = {list(shape[:2])} like its rewards."
        )
    length, burn_in = changed["length"], changed["burn_in"]
    if (length < 1).any() or (length > shape[2]).any() or (burn_in < 0).any() or (burn_in >= length).any():
        raise ValueError(f"The windows of a batch must have a length in 1..{shape[2]} and a burn_in in 0..length - 1.")
    if first[2] < length.max():
        raise ValueError(
            f"A batch's obs must have an observation for each step, {int(length.max())} in the longest window, not {first[2]}."
        )
    within = np.arange(shape[2]) < length[..., None]  # the padding is not read
    for name in ("action", "bootstrap"):
        changed[name] = np.where(within, changed[name], 0)
    bootstrap = changed["bootstrap"]
    if (bootstrap < 0).any() or (bootstrap >= first[2]).any():
        raise ValueError(f"A batch's bootstrap must be indices of observations in its windows, 0..{first[2] - 1}.")
    if (changed["action"] < 0).any() or (changed["action"] >= actions).any():
        raise no_such_action(actions)
    tensors: dict[str, Any] = {name: torch.from_numpy(array) for name, array in changed.items()}
    return batch._replace(**tensors)


@explained(
    "an rl.Batch whose action, reward, discount, next_mask, weight, index and mask are tensors", "DeepAgent.update"
)
def checked(batch: Batch, n: int, actions: int) -> Batch:
    """Return the batch with its numbers as float32 and int64.

    Raises ValueError unless all parts are [N, B] with the same B >= 1: compiled code would read out of bounds.
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
                f"A batch's {name} must be {str(wanted).removeprefix('torch.')} [{n} seeds, B], with one B for all parts, not"
                f" {str(part.dtype).removeprefix('torch.')} {list(part.shape)}."
            )
        if part.dtype != wanted:
            batch = batch._replace(**{name: part.to(wanted)})
    check_end(batch)
    for name in ("obs", "next_obs") if batch.next_obs is not None else ("obs",):
        for leaf in leaves(getattr(batch, name)).values():
            if not isinstance(leaf, Tensor) or leaf.shape[:2] != shape:
                raise ArgumentError(
                    f"A batch's {name} must have the leading axes [seeds, B] = {list(shape)} like its rewards, not"
                    f" {kind_of(leaf)}."
                )
    return batch
