"""Eligibility traces: each TD error updates all recently visited pairs, with weights that decay by gamma * lambda per step.

SARSA(lambda): Rummery and Niranjan (1994); Sutton and Barto (2018), section 12.7. Accumulating, replacing (Singh and Sutton 1996)
and Dutch traces (true online SARSA(lambda): van Seijen et al. 2016, algorithm 2). Q(lambda): Watkins (1989); section 12.10.

Deviations: traces below 1e-4 are dropped. A step size scheduled in visits is each pair's own, from its last visit (with Dutch
traces that of the current pair). A step's own discount decays the traces right after the step, gamma and lambda before the next
one. At a truncation the update bootstraps, and then the traces are reset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.core.registry import add_presets, register
from rl.explore import TableExplore, highest
from rl.tabular.agent import OnPolicyConfig, TabularConfig, Transition, check_number
from supervised.schedules import Linear, Schedule
from supervised.validate import choice, store

TRACE_CUTOFF = 1e-4
ACCUMULATING, REPLACING, DUTCH = 0, 1, 2
KINDS = ("accumulating", "replacing", "dutch")


class Traces(NamedTuple):
    """A table, and a list of the pairs with a nonzero trace in each environment, which avoids sweeps over all pairs."""

    q: Any  # float64 [S, A]
    visits: Any  # int64 [S, A]
    trace: Any  # float64 [E, S, A]
    rate: Any  # float64 [E, S, A], the step size at the pair's last visit
    state: Any  # int64 [E, S * A], the states of the list
    action: Any  # int64 [E, S * A], its actions
    size: Any  # int64 [E], its length
    old: Any  # float64 [E], for Dutch traces: Q(s', a') as of the previous step
    decay: Any  # float64 [1], lambda
    kind: Any  # int64 [1]
    mask: Any = None  # float64 [S, A], added to q: 0 if allowed, -infinity if forbidden; None: all actions are allowed


def decay_traces(table: Traces, e: int, factor: float) -> None:
    """Decay all traces of an environment and drop those below TRACE_CUTOFF."""
    i = 0
    while i < table.size[e]:
        s, a = table.state[e, i], table.action[e, i]
        table.trace[e, s, a] *= factor
        if table.trace[e, s, a] < TRACE_CUTOFF:
            table.trace[e, s, a] = 0.0
            table.size[e] -= 1
            table.state[e, i] = table.state[e, table.size[e]]
            table.action[e, i] = table.action[e, table.size[e]]
        else:
            i += 1


def update_trace(table: Traces, t: Transition) -> None:
    """Start or update the trace of the current pair."""
    before = table.trace[t.env, t.s, t.a]
    if before == 0.0:
        table.state[t.env, table.size[t.env]] = t.s
        table.action[t.env, table.size[t.env]] = t.a
        table.size[t.env] += 1
    after = before + 1.0
    if table.kind[0] == REPLACING:
        after = 1.0
    elif table.kind[0] == DUTCH:
        after = before + 1.0 - t.step_size * before
    table.trace[t.env, t.s, t.a] = after
    table.rate[t.env, t.s, t.a] = t.step_size


def apply_traces(table: Traces, e: int, error: float) -> None:
    """Update every listed pair in proportion to its trace."""
    for i in range(table.size[e]):
        s, a = table.state[e, i], table.action[e, i]
        table.q[s, a] += table.rate[e, s, a] * error * table.trace[e, s, a]


def reset_traces(table: Traces, e: int) -> None:
    """Reset all traces of an environment to 0."""
    for i in range(table.size[e]):
        table.trace[e, table.state[e, i], table.action[e, i]] = 0.0
    table.size[e] = 0
    table.old[e] = 0.0


def learn_sarsa(table: Traces, t: Transition, rng: Any) -> float:
    """Update all pairs by r + discount * Q(s', a') - Q(s, a) times their traces; return that TD error."""
    value = table.q[t.s, t.a]
    following = 0.0
    if t.discount != 0.0:
        following = table.q[t.next_s, t.next_a]
    error: float = t.reward + t.discount * following - value
    decay_traces(table, t.env, t.gamma * table.decay[0])
    update_trace(table, t)
    if table.kind[0] == DUTCH:
        q_correction = value - table.old[t.env]
        for i in range(table.size[t.env]):
            s, a = table.state[t.env, i], table.action[t.env, i]
            table.q[s, a] += t.step_size * (error + q_correction) * table.trace[t.env, s, a]
        table.q[t.s, t.a] -= t.step_size * q_correction
        table.old[t.env] = following
    else:
        apply_traces(table, t.env, error)
    if t.episode_end:
        reset_traces(table, t.env)
    elif t.scale != 1.0:
        decay_traces(table, t.env, t.scale)
    return error


def learn_q(table: Traces, t: Transition, rng: Any) -> float:
    """Update like SARSA(lambda) with max Q(s', .) as the bootstrap; a non-greedy next action resets the traces."""
    best = 0.0
    greedy = True
    if t.discount != 0.0:
        best = highest(table.q, t.next_s, table.mask)
        greedy = table.q[t.next_s, t.next_a] == best
    error: float = t.reward + t.discount * best - table.q[t.s, t.a]
    decay_traces(table, t.env, t.gamma * table.decay[0])
    update_trace(table, t)
    apply_traces(table, t.env, error)
    if t.episode_end or not greedy:
        reset_traces(table, t.env)
    elif t.scale != 1.0:
        decay_traces(table, t.env, t.scale)
    return error


def check_traces(trace: Any, listed: Any, size: Any, *rest: Any) -> None:
    """Raise ValueError for saved traces that are inconsistent with their lists, which could then overflow.

    trace [R, P], listed [R, P] (indices into P) and size [R]; the rest must be finite too.
    """
    good = all(np.isfinite(part).all() for part in (trace, *rest))
    for r in range(len(size) if good else 0):
        places = listed[r, : size[r]]
        unlisted = np.ones(trace.shape[1], np.bool_)
        unlisted[places] = False
        good = good and len(np.unique(places)) == len(places) and not trace[r, unlisted].any()
    if not good:
        raise ValueError("The saved traces are not finite, or inconsistent with the saved lists of pairs.")


@register
@dataclass(frozen=True)
class SARSALambda(OnPolicyConfig):
    """SARSA(lambda); for its other settings see `OnPolicyConfig`.

    Dutch traces are derived for a single step size shared by all pairs: use a schedule in steps, as the preset
    true-online-sarsa-lambda does.
    """

    lambda_: float = 0.8
    """The trace decay lambda, in [0, 1]."""
    traces: str = "replacing"
    """The kind of traces: "accumulating", "replacing" or (SARSA(lambda) only) "dutch"."""

    rule = staticmethod(learn_sarsa)
    respects_masks: ClassVar[bool] = True
    state_type: ClassVar[type] = Traces
    needs_next_action: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "lambda_", 1)
        store(self, choice, "traces", known=KINDS)

    def episode_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        pairs = np.zeros((states, actions))
        listed = np.zeros(states * actions, np.int64)
        return {
            **{"trace": pairs, "rate": pairs, "state": listed, "action": listed},
            **{"size": np.array(0), "old": np.array(0.0)},
        }

    def rule_params(self) -> dict[str, np.ndarray]:
        return {"decay": np.array([float(self.lambda_)]), "kind": np.array([KINDS.index(self.traces)])}

    def index_bounds(self, states: int, actions: int) -> dict[str, int]:
        return {"state": states, "action": actions, "size": states * actions + 1}

    def validate_state(self, arrays: Mapping[str, Any], states: int, actions: int) -> None:
        super().validate_state(arrays, states, actions)
        if "trace" in arrays:  # these are the per-episode arrays
            listed = arrays["state"] * actions + arrays["action"]
            trace, rate = (arrays[name].reshape(-1, states * actions) for name in ("trace", "rate"))
            check_traces(trace, listed.reshape(trace.shape), arrays["size"].ravel(), rate, arrays["old"])


@register
@dataclass(frozen=True)
class QLambda(SARSALambda):
    """Watkins's Q(lambda); for its settings see `SARSALambda` and `TabularConfig`. Its traces are accumulating or replacing."""

    step_size: float | Schedule = TabularConfig.step_size
    """As in `TabularConfig`; the default is max(0.01, visits**-0.6)."""
    explore: TableExplore = TabularConfig.explore
    """As in `TabularConfig`; by default epsilon decays linearly from 1 to 0.05 over the run."""

    rule = staticmethod(learn_q)
    respects_masks: ClassVar[bool] = True
    on_policy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.traces == "dutch":
            raise ValueError(
                'Dutch traces are only for SARSA(lambda): with QLambda, traces must be "accumulating" or "replacing".'
            )


add_presets(
    "from many",
    {
        "sarsa-lambda": SARSALambda(),
        "true-online-sarsa-lambda": SARSALambda(traces="dutch", step_size=Linear(0.2, 0.001)),
        "q-lambda": QLambda(),
    },
)
