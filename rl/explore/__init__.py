"""Exploration rules in three forms: `configs` describe them, `scalar` rules run in the tabular loops, plain or compiled (those of
`masked` if an environment forbids actions), and `batched` rules take arrays [N, E, A].

`configs` imports none of the others, the scalar rules import `configs`, and `batched` imports all and torch: its names are
imported on first access (`supervised.lazy`). The package may import `rl.core.jit`.
"""

from typing import TYPE_CHECKING

from rl.explore.configs import (
    BOLTZMANN,
    EPSILON_GREEDY,
    GAUSSIAN_NOISE,
    HELD,
    RULES,
    TIES,
    UCB,
    UPPER_BOUND,
    Boltzmann,
    DecayingNoise,
    EpsilonGreedy,
    Explore,
    Greedy,
    TableExplore,
)
from rl.explore.scalar import (
    boltzmann_action,
    choose,
    epsilon_greedy_action,
    expected,
    forbidden,
    greedy_action,
    held_action,
    highest,
    noisy_action,
    random_action,
    upper_bound,
    upper_bound_action,
)
from supervised import lazy
from supervised.renamed import former_name

if TYPE_CHECKING:
    from rl.explore.batched import (
        boltzmann,
        check_some,
        choose_each,
        epsilon_greedy,
        greedy,
        noisy_greedy,
        select_actions,
        select_on_host,
    )

_PLACES = dict.fromkeys(
    (
        "boltzmann",
        "select_actions",
        "check_some",
        "choose_each",
        "epsilon_greedy",
        "greedy",
        "noisy_greedy",
        "select_on_host",
    ),
    "rl.explore.batched",
)

__all__ = [
    "BOLTZMANN",
    "EPSILON_GREEDY",
    "GAUSSIAN_NOISE",
    "HELD",
    "RULES",
    "TIES",
    "UCB",
    "UPPER_BOUND",
    "Boltzmann",
    "DecayingNoise",
    "EpsilonGreedy",
    "Explore",
    "Greedy",
    "TableExplore",
    "boltzmann",
    "boltzmann_action",
    "check_some",
    "choose",
    "choose_each",
    "epsilon_greedy",
    "epsilon_greedy_action",
    "expected",
    "forbidden",
    "greedy",
    "greedy_action",
    "held_action",
    "highest",
    "noisy_action",
    "noisy_greedy",
    "random_action",
    "select_actions",
    "select_on_host",
    "upper_bound",
    "upper_bound_action",
]

__getattr__, __dir__ = lazy.names(__name__, _PLACES, otherwise=former_name(__name__, 4))
