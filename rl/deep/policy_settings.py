"""Checks of the settings that define how every Q-network acts."""

from __future__ import annotations

from typing import Any

from rl import network_names
from rl.explore import Explore
from supervised.validate import ArgumentError, function, shown


def check_policy_settings(config: Any) -> None:
    """Raise ArgumentError unless network, explore and mask of a config are of the right kind."""
    network_names.check(config.network)
    if not isinstance(config.explore, Explore):
        raise ArgumentError(
            "explore must be one of rl.explore's EpsilonGreedy, Greedy, Boltzmann or DecayingNoise, not"
            f" {shown(config.explore)}."
        )
    if config.mask is not None:
        function(config.mask, "mask", ("observations",), "a function of observations -> bool [..., A], or None")
