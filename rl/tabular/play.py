"""Greedy evaluation episodes of tabular agents in environments without a known model."""

from __future__ import annotations

from envs.backends.running import Statistics
from envs.source import Source
from rl.core.evaluate import Found, environments
from rl.core.spaces import StateIndex
from rl.explore.masked import best_allowed
from rl.tabular.tables import TabularAgent


def play_tables(
    agent: TabularAgent, where: Source, step_limit: int | None, found: Found, running: list[Statistics] | None
) -> None:
    """Play greedy episodes with each seed, one seed after another."""
    for k in range(len(agent.seeds)):
        _play_table(agent, where, k, step_limit, found, running)


def _play_table(
    agent: TabularAgent,
    where: Source,
    k: int,
    step_limit: int | None,
    found: Found,
    running: list[Statistics] | None,
) -> None:
    """Play the k-th seed's greedy episodes in an environment of its own, since some keep state across episodes."""
    index = StateIndex(agent.index.space, where.name)
    with environments(where, agent.seeds, 1, running, index, only=k) as (member,):
        limit = found.set_limit(k, member.env, step_limit)
        greedy, q = agent.table[k].argmax(-1).tolist(), agent.tables["q"][k]
        for i in range(found.returns.shape[1]):
            s = member.reset()
            over = False
            while not over and found.lengths[k, i] < limit:
                a = greedy[s] if member.mask is None else int(best_allowed(q[s], member.mask))
                s, reward, terminated, truncated = member.step(a)
                found.returns[k, i] += reward
                found.lengths[k, i] += 1
                over = terminated or truncated
            if member.recorded_return is not None:
                found.recorded[k, i] = member.recorded_return
