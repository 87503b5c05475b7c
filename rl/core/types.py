"""The data types shared by all modules of `rl`.

Dimension key of all docstrings: `N` seeds, `E` environments per seed, `T` time, `B` batch, `A` actions, `S` states, `Z` atoms or
quantiles, `*O` observation. The first axis of every array in `rl` is N, also if N = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from supervised.validate import ArgumentError, instance, kind_of

Obs = Tensor | Mapping[str, Tensor]
State = Mapping[str, Any]  # an agent's recurrent state by name, each [N, B, ...]; empty for agents without one


class Decision(NamedTuple):
    """An agent's output for a batch of observations."""

    q: Any  # [N, B, A], the action values
    state: State  # the next recurrent state


class Batch(NamedTuple):
    """A batch of transitions, each field [N, B, ...]: tensors, or numpy arrays from a replay to an agent on the CPU."""

    obs: Any  # a tensor or a dict of tensors; for tabular agents state indices, int64 [N, B]
    action: Tensor  # int64 [N, B], counted from 0
    reward: Tensor  # [N, B], the discounted sum over up to n steps
    # [N, B], gamma^k * (1 - terminated), times the k steps' own discounts; 0: do not bootstrap
    discount: Tensor
    next_obs: Any  # None: discount is 0 everywhere, so the targets are the rewards and no next values are computed
    # bool [N, B, A], the actions allowed in next_obs; None: all. Heads receive it combined with the config's own mask.
    next_mask: Tensor | None = None
    weight: Tensor | None = None  # [N, B], importance weights; None: all 1
    # int64 [N, B], the indices of the samples in the replay
    index: Tensor | None = None  # type: ignore[assignment]  # hides tuple.index, which is not needed
    state: State | None = None  # the agent's recurrent state at obs; None: no state
    mask: Tensor | None = None  # bool [N, B, A], the actions allowed in obs; None: all


class SequenceBatch(NamedTuple):
    """A batch of episode windows for recurrent agents, with at most `T` steps and `W` observations.

    Tensors, or numpy arrays from a replay to an agent.
    """

    obs: Any  # [N, B, W, *O], a tensor or a dict of tensors; any finite padding after a window's last observation
    action: Any  # int64 [N, B, T], counted from 0
    reward: Any  # [N, B, T], the discounted sum over up to n steps
    discount: Any  # [N, B, T], as in `Batch`
    bootstrap: Any  # int64 [N, B, T], the index among the W observations to bootstrap from; at most the episode's end
    length: Any  # int64 [N, B], the number of valid steps; the others are padding
    burn_in: Any  # int64 [N, B], the number of initial steps that only warm up the state and carry no loss
    next_mask: Any = None  # bool [N, B, T, A], the actions allowed in the bootstrap observations; None: all
    weight: Any = None  # [N, B], importance weights; None: all 1
    index: Any = None  # int64 [N, B], the indices of the windows in the replay
    state: State | None = None  # the agent's recurrent state at the first observation; None: no state
    mask: Any = None  # bool [N, B, T, A], the actions allowed at each step; None: all


def check_parts(batch: Any, n: int, actions: int) -> None:
    """Raise ArgumentError, naming the field, unless a batch's fields are tensors and its masks match its rewards."""
    instance(batch, "batch", Batch, "an rl.Batch")
    for name in ("action", "reward", "discount", "next_mask", "weight", "index", "mask"):
        part = getattr(batch, name)
        if not isinstance(part, Tensor) and (part is not None or name in ("action", "reward", "discount")):
            raise ArgumentError(f"A batch's {name} must be a tensor [{n} seeds, B], not {kind_of(part)}.")
    check_masks(batch, actions)
    check_end(batch)


def check_end(batch: Batch) -> None:
    """Raise ArgumentError for a batch without next observations that has nonzero discounts."""
    if batch.next_obs is None and bool((batch.discount != 0).any()):
        raise ArgumentError(
            "A batch without next_obs must have discount 0 everywhere, since its targets cannot bootstrap."
        )


def check_masks(batch: Batch, actions: int) -> None:
    """Raise ArgumentError unless a batch's masks are bool [N, B, A]."""
    shape = (*batch.reward.shape, actions)
    for name, mask in (("next_mask", batch.next_mask), ("mask", batch.mask)):
        if mask is not None and (not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != shape):
            raise ArgumentError(f"A batch's {name} must be bool {list(shape)}, not {kind_of(mask)}.")


def no_such_action(actions: int) -> ValueError:
    """Return the error for a batch with actions that the environment does not have."""
    return ValueError(f"Actions must be whole numbers from 0 to {actions - 1}; the batch has others.")


class Update(NamedTuple):
    """The result of an update."""

    metrics: dict[str, Tensor]  # each [N]
    td_error: Tensor  # [N, B]
    priority: Tensor | None = None  # [N, B], new priorities for a prioritized replay; None: use the TD errors


class Agent(Protocol):
    """A live agent: N seeds that act and learn.

    state: the recurrent state returned by the previous call; None: every row starts an episode. episode_start: bool [N, B], the
    rows that start an episode, whose state is reset.
    """

    def act(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Decision:
        """Return the decision for observations [N, B, *O] while exploring, for example with parameter noise."""
        ...

    def q(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Tensor:
        """Return the action values for evaluation, without gradient: [N, B, *O] -> [N, B, A]."""
        ...

    def update(self, batch: Batch) -> Update:
        """Learn from a batch. Return metrics and TD errors."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all that `load_state_dict` needs to continue learning to the bit."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...
