"""The public names of `rl.explore.masked`."""

from rl.explore.masked import (
    RULES,
    as_mask,
    best_allowed,
    boltzmann_action,
    check_allowed,
    expected,
    forbidden,
    greedy_action,
    highest,
    noisy_action,
    random_action,
    upper_bound_action,
)

__all__ = [
    "RULES",
    "as_mask",
    "best_allowed",
    "boltzmann_action",
    "check_allowed",
    "expected",
    "forbidden",
    "greedy_action",
    "highest",
    "noisy_action",
    "random_action",
    "upper_bound_action",
]
