"""The words that every module of `rl` shares.

Dimension key, used in all docstrings: `N` seeds, `E` environments a seed, `T` time, `B` sampled batch, `A` actions,
`S` states, `Z` atoms or quantiles, `*O` observation. Every array in `rl` begins with N, also when N = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from supervised.validate import ArgumentError, instance, kind_of

Obs = Tensor | Mapping[str, Tensor]
State = Mapping[str, Any]  # what an agent remembers of an episode, by name, each [N, B, ...]; empty: nothing


class Decision(NamedTuple):
    """What an agent says of observations."""

    q: Any  # [N, B, A], the values of the actions
    state: State  # what it remembers when it goes on


class Batch(NamedTuple):
    """What an agent learns from, each [N, B, ...]: tensors, or arrays on the way from a replay to an agent on the CPU."""

    obs: Any  # a tensor, or a dict of tensors; for tables state indices, int64 [N, B]
    action: Tensor  # int64 [N, B], counted from 0
    reward: Tensor  # [N, B], folded over up to n steps
    # [N, B], how the future counts: gamma^k * (1 - terminated), times the k steps' own discounts; 0 = there is none
    discount: Tensor
    next_obs: (
        Any  # None: discount is 0 throughout, so the rewards are the whole targets and nothing is computed for them
    )
    # bool [N, B, A]: actions allowed in next_obs; None: all. A head finds in it what the description's mask says too.
    next_mask: Tensor | None = None
    weight: Tensor | None = None  # [N, B], importance weights; None: all 1
    # int64 [N, B], where in the replay each sample lies
    index: Tensor | None = None  # type: ignore[assignment]  # it hides tuple.index, which nobody misses
    state: State | None = None  # what the agent remembered when it came to obs; None: nothing
    mask: Tensor | None = None  # bool [N, B, A]: actions allowed in obs; None: all


class SequenceBatch(NamedTuple):
    """Windows of episodes, which an agent that remembers learns from: `T` steps at most, `W` observations at most.

    Tensors, or arrays on the way from a replay to an agent.
    """

    obs: Any  # [N, B, W, *O], a tensor or a dict of tensors; behind a window's last observation anything finite
    action: Any  # int64 [N, B, T], counted from 0
    reward: Any  # [N, B, T], folded over up to n steps
    discount: Any  # [N, B, T], how the future counts, as of `Batch`
    bootstrap: Any  # int64 [N, B, T], from which of the W observations on; an episode's end at the latest
    length: Any  # int64 [N, B], how many of the T steps there are; the others are not read
    burn_in: Any  # int64 [N, B], how many of them, the first ones, serve the state alone and carry no loss
    next_mask: Any = None  # bool [N, B, T, A]: actions allowed where a step bootstraps from; None: all
    weight: Any = None  # [N, B], importance weights; None: all 1
    index: Any = None  # int64 [N, B], where in the replay each window lies
    state: State | None = None  # what the agent remembered when it came to the first observation; None: nothing
    mask: Any = None  # bool [N, B, T, A]: actions allowed at each step; None: all


def check_parts(batch: Any, n: int, actions: int) -> None:
    """Raise ArgumentError, naming the part, unless a batch's numbers are tensors, and its mask fits its rewards."""
    instance(batch, "batch", Batch, "an rl.Batch")
    for name in ("action", "reward", "discount", "next_mask", "weight", "index", "mask"):
        part = getattr(batch, name)
        if not isinstance(part, Tensor) and (part is not None or name in ("action", "reward", "discount")):
            raise ArgumentError(f"A batch's {name} is a tensor [{n} seeds, B], not {kind_of(part)}.")
    check_masks(batch, actions)
    check_end(batch)


def check_end(batch: Batch) -> None:
    """Raise ArgumentError for a batch without next observations whose discounts ask for them."""
    if batch.next_obs is None and bool((batch.discount != 0).any()):
        raise ArgumentError("A batch without next_obs has discount 0 throughout: its rewards are the whole targets.")


def check_masks(batch: Batch, actions: int) -> None:
    """Raise ArgumentError unless a batch's masks are bool [N, B, A]."""
    shape = (*batch.reward.shape, actions)
    for name, mask in (("next_mask", batch.next_mask), ("mask", batch.mask)):
        if mask is not None and (not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != shape):
            raise ArgumentError(f"A batch's {name} is bool {list(shape)}, not {kind_of(mask)}.")


def no_such_action(actions: int) -> ValueError:
    """The error for a batch with actions that the environment does not have."""
    return ValueError(f"Actions are whole numbers from 0 to {actions - 1}; the batch has others.")


class Update(NamedTuple):
    """What an update says of itself."""

    metrics: dict[str, Tensor]  # each [N]
    td_error: Tensor  # [N, B]
    priority: Tensor | None = None  # [N, B], what a prioritized replay goes by; None: the TD errors


class Agent(Protocol):
    """A live agent: N members that act and learn.

    state: what it remembers of each episode, as it answered before; None: nothing, every row begins an episode. episode_start:
    bool [N, B], the rows that begin one all the same.
    """

    def act(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Decision:
        """What it makes of observations [N, B, *O] while it explores."""
        ...

    def q(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Tensor:
        """How it judges observations: [N, B, *O] -> [N, B, A], no gradient."""
        ...

    def update(self, batch: Batch) -> Update: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
