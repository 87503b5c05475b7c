"""Values that diverge: larger than the rewards allow, which a run says once for each seed, with the likely causes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from rl.core.registry import optional_setting

MARGIN = 2.0  # how far beyond the bound values may go: they may be overestimated for a while
QUICK = 100  # updates: a target network that follows within so many hardly stands still
MOST_NAMED = 10  # seeds


def exceeding(metrics: Mapping[str, Tensor]) -> Any:
    """Which seeds' values exceed MARGIN times train/q_bound, bool [N]; where nothing is known of values, False.

    Upwards the largest value decides. Downwards the mean does: targets take the best action's value, so that values diverge
    downwards only where those of all actions do.
    """
    if not {"train/q_max", "train/q_mean", "train/q_bound"} <= metrics.keys():
        return np.False_
    return (_size(metrics) > MARGIN * metrics["train/q_bound"]).numpy()


def sentence(
    description: Any, seeds: Sequence[int], found: np.ndarray, metrics: Mapping[str, Tensor], step: int
) -> str:
    """What to say of the seeds where `found`, bool [N], is true."""
    places = np.flatnonzero(found).tolist()
    worst = max(places, key=lambda k: float(_size(metrics)[k]))
    named = ", ".join(str(seeds[k]) for k in places[:MOST_NAMED]) + ", ..." * (len(places) > MOST_NAMED)
    causes = "; ".join(_causes(description, float(metrics["train/learning_rate"][worst])))
    return (
        f"The values of seed{'s' * (len(places) > 1)} {named} exceed what rewards allow: at step {step:,} they reach"
        f" {float(_size(metrics)[worst]):,.4g}, where the rewards so far allow {float(metrics['train/q_bound'][worst]):,.4g}."
        f" Likely causes: {causes}. This is said once for each seed."
    )


def _size(metrics: Mapping[str, Tensor]) -> Tensor:
    return metrics["train/q_max"].double().maximum(-metrics["train/q_mean"].double())


def _causes(description: Any, rate: float) -> Iterator[str]:
    """The likely ones first. A description of somebody's own may have no loss."""
    every = description.target_every_updates
    if every is None:
        yield "no target network, so that each update moves its own target: take target_every_updates=500"
        if optional_setting(description, "loss", None) == "huber":
            yield (
                'loss="huber", which without a target network clips the few large errors that pull values down and not the'
                ' many small ones that push them up: take loss="squared"'
            )
        if description.max_grad_norm is not None:
            yield f"max_grad_norm={description.max_grad_norm:g}, which does the same to whole batches: take None"
    elif every / description.target_rate < QUICK:
        yield (
            f"a target network that follows within {every / description.target_rate:.0f} updates: take a larger"
            " target_every_updates or a smaller target_rate"
        )
    if description.gamma == 1.0:
        yield "gamma=1, by which the future after a time limit counts without end: take gamma=0.99"
    yield f"a learning rate of {rate:.3g} that is too large: try {rate / 10:.3g}"
