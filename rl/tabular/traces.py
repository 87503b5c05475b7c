"""Eligibility traces: each error is handed back along the steps that led to it, fading by gamma * lambda.

SARSA(lambda): Rummery and Niranjan (1994); Sutton and Barto (2018), section 12.7. Accumulating, replacing (Singh and Sutton 1996)
and Dutch traces (true online SARSA(lambda): van Seijen et al. 2016, algorithm 2). Q(lambda): Watkins (1989); section 12.10.

Deviations: a trace below 1e-4 is let go; a step size that goes by visits is each pair's own, at its last visit (with Dutch traces
the current pair's). A step's own discount shrinks the traces right after it, gamma and lambda before the next. A truncation
bootstraps, then the traces end with the episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.core.registry import add_presets, register
from rl.explore import TableExplore, highest
from rl.tabular.agent import OnPolicy, Tabular, Transition, check_number
from supervised.schedules import Linear, Schedule
from supervised.validate import choice, store

TRACE_CUTOFF = 1e-4
ACCUMULATING, REPLACING, DUTCH = 0, 1, 2
KINDS = ("accumulating", "replacing", "dutch")


class Traces(NamedTuple):
    """A table, and the pairs of each environment that have a trace, in a list, for a sweep over all would take too long."""

    q: Any  # float64 [S, A]
    visits: Any  # int64 [S, A]
    trace: Any  # float64 [E, S, A]
    rate: Any  # float64 [E, S, A], the step size at the pair's last visit
    state: Any  # int64 [E, S * A]: the list's states
    action: Any  # int64 [E, S * A]: and actions
    size: Any  # int64 [E]: and its length
    old: Any  # float64 [E], for Dutch traces: what the last step took Q(s', a') for
    decay: Any  # float64 [1], lambda
    kind: Any  # int64 [1]
    mask: Any = None  # float64 [S, A], added to q: 0 where an action is allowed, -infinity where not; None: all are


def decay_traces(table: Traces, e: int, factor: float) -> None:
    """Shrink all traces of an environment, and let go of the faint ones."""
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
    """Begin or renew the trace of the pair that was just left."""
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
    """Move every pair by its share of the error."""
    for i in range(table.size[e]):
        s, a = table.state[e, i], table.action[e, i]
        table.q[s, a] += table.rate[e, s, a] * error * table.trace[e, s, a]


def reset_traces(table: Traces, e: int) -> None:
    """End all traces of an environment."""
    for i in range(table.size[e]):
        table.trace[e, table.state[e, i], table.action[e, i]] = 0.0
    table.size[e] = 0
    table.old[e] = 0.0


def learn_sarsa(table: Traces, t: Transition, rng: Any) -> float:
    """All pairs learn from r + discount * Q(s', a') - Q(s, a), each by its trace -> that error."""
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
    """As SARSA(lambda) with max Q(s', .); where the next action is not greedy, what led here did not lead to it: traces end."""
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
    """Raise ValueError for saved traces that contradict their lists, which would then outgrow their room.

    trace [R, P], listed [R, P] (places among P) and size [R]; the rest must be finite too.
    """
    good = all(np.isfinite(part).all() for part in (trace, *rest))
    for r in range(len(size) if good else 0):
        places = listed[r, : size[r]]
        unlisted = np.ones(trace.shape[1], np.bool_)
        unlisted[places] = False
        good = good and len(np.unique(places)) == len(places) and not trace[r, unlisted].any()
    if not good:
        raise ValueError("The saved traces are not finite, or contradict their lists.")


@register
@dataclass(frozen=True)
class SARSALambda(OnPolicy):
    """SARSA(lambda). lambda_: in [0, 1]; traces: "accumulating", "replacing" or "dutch"; the rest as in `OnPolicy`.

    Dutch traces are derived for one step size for all pairs: give a schedule in steps, as the preset
    true-online-sarsa-lambda does.
    """

    lambda_: float = 0.8
    traces: str = "replacing"

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
        if "trace" in arrays:  # and not the tables
            listed = arrays["state"] * actions + arrays["action"]
            trace, rate = (arrays[name].reshape(-1, states * actions) for name in ("trace", "rate"))
            check_traces(trace, listed.reshape(trace.shape), arrays["size"].ravel(), rate, arrays["old"])


@register
@dataclass(frozen=True)
class QLambda(SARSALambda):
    """Watkins's Q(lambda). lambda_: in [0, 1]; traces: "accumulating" or "replacing"; the rest as in `Tabular`."""

    step_size: float | Schedule = Tabular.step_size
    explore: TableExplore = Tabular.explore

    rule = staticmethod(learn_q)
    respects_masks: ClassVar[bool] = True
    on_policy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.traces == "dutch":
            raise ValueError(
                "Dutch traces belong to SARSA(lambda): with Q(lambda) traces are accumulating or replacing."
            )


add_presets(
    "from many",
    {
        "sarsa-lambda": SARSALambda(),
        "true-online-sarsa-lambda": SARSALambda(traces="dutch", step_size=Linear(0.2, 0.001)),
        "q-lambda": QLambda(),
    },
)
