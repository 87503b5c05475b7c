"""Detection of diverging values, larger than the rewards allow: one warning per seed, with the likely causes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from rl.core.registry import optional_setting

MARGIN = 2.0  # tolerated multiple of the bound, since values may be overestimated temporarily
QUICK = 100  # a target network that follows within this many updates is hardly fixed
MOST_NAMED = 10  # maximum number of seeds listed


def exceeding(metrics: Mapping[str, Tensor]) -> Any:
    """Return which seeds' values exceed MARGIN times train/q_bound, bool [N]; False if the metrics contain no values.

    The upper bound applies to the largest value, the lower bound to the mean: targets use the best action's value, so values
    diverge downwards only if those of all actions do.
    """
    if not {"train/q_max", "train/q_mean", "train/q_bound"} <= metrics.keys():
        return np.False_
    return (_size(metrics) > MARGIN * metrics["train/q_bound"]).numpy()


def sentence(config: Any, seeds: Sequence[int], found: np.ndarray, metrics: Mapping[str, Tensor], step: int) -> str:
    """Return the warning about the seeds where `found`, bool [N], is true."""
    places = np.flatnonzero(found).tolist()
    worst = max(places, key=lambda k: float(_size(metrics)[k]))
    named = ", ".join(str(seeds[k]) for k in places[:MOST_NAMED]) + ", ..." * (len(places) > MOST_NAMED)
    causes = "; ".join(_causes(config, float(metrics["train/learning_rate"][worst])))
    return (
        f"The Q-values of seed{'s' * (len(places) > 1)} {named} exceed what rewards allow: at step {step:,} they reach"
        f" {float(_size(metrics)[worst]):,.4g}, but the rewards so far allow at most"
        f" {float(metrics['train/q_bound'][worst]):,.4g}. Likely causes: {causes}. This warning is given once per seed."
    )


def _size(metrics: Mapping[str, Tensor]) -> Tensor:
    return metrics["train/q_max"].double().maximum(-metrics["train/q_mean"].double())


def _causes(config: Any, rate: float) -> Iterator[str]:
    """Yield the causes, most likely first. User-defined configs may have no loss."""
    every = config.target_every_updates
    if every is None:
        yield "no target network, so each update moves its own target: use target_every_updates=500"
        if optional_setting(config, "loss", None) == "huber":
            yield (
                'loss="huber", which without a target network clips the few large errors that pull values down but not the'
                ' many small ones that push them up: use loss="squared"'
            )
        if config.max_grad_norm is not None:
            yield f"max_grad_norm={config.max_grad_norm:g}, which has the same effect on whole batches: use None"
    elif every / config.target_rate < QUICK:
        yield (
            f"a target network that follows within {every / config.target_rate:.0f} updates: use a larger"
            " target_every_updates or a smaller target_rate"
        )
    if config.gamma == 1.0:
        yield "gamma=1, with which values bootstrap beyond time limits without bound: use gamma=0.99"
    yield f"a learning rate of {rate:.3g} that is too large: try {rate / 10:.3g}"
