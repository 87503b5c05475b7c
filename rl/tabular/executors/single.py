"""The executor over single environments, in plain Python."""

from __future__ import annotations

from typing import Any

from envs.backends.member import ReplayableEnv
from rl.tabular.executors.executor import Stepped, warn_of_fresh_episodes
from rl.tabular.executors.step_by_step import NOTHING, StepByStep
from rl.tabular.kernel import STEPS_DONE


class PythonExecutor(StepByStep):
    """Runs over single environments, one seed after another."""

    kind = "single environments"

    def __init__(self, run: Stepped, members: list[ReplayableEnv]) -> None:
        e = run.envs_per_seed
        self.members = [members[k * e : k * e + e] for k in range(len(run.seeds))]
        super().__init__(run)

    def begin(self) -> None:
        for k in range(len(self.members)):
            self._begin_seed(k)

    def _begin_seed(self, k: int) -> None:
        for e, member in enumerate(self.members[k]):
            self.run.actor.state[k, e] = member.reset()
            if member.mask is not None:
                self._respect_masks()

    def recover(self) -> None:
        for k in sorted(self.within):
            steps = int(self.run.actor.counters[k, STEPS_DONE])
            warn_of_fresh_episodes(self.members[k][0].name, self.run.seeds[k], steps)
            self._begin_seed(k)
            self.run.begin_anew(k)
        self.within.clear()

    def take(self, target: int) -> None:
        self._forget()
        for k in range(len(self.members)):
            rounds = (target - int(self.run.actor.counters[k, STEPS_DONE])) // self.run.envs_per_seed
            try:
                self._take(k, rounds)
            except BaseException:
                self.within.add(k)
                raise

    def _take(self, k: int, rounds: int) -> None:
        """Take `rounds` steps in each environment of the k-th seed."""
        members = list(enumerate(self.members[k]))
        masked, noted, (table, params, actor, rng) = self.masked, self.noted[k], self.parts[k]
        act, learn, state, action, counters = (
            self.act,
            self.learn_from,
            actor.state,
            actor.action,
            actor.counters,
        )
        for _ in range(rounds):
            for e, member in members:
                if masked and noted.get(state[e], NOTHING) is not member.mask:
                    self._allow(k, state[e], member.mask)
                act(table, params, actor, e, rng)
            steps = counters[STEPS_DONE]
            for e, member in members:
                next_s, reward, terminated, truncated = member.step(action[e])
                if member.mask is not None and not masked:  # `state`, `action` and `counters` remain valid
                    self._respect_masks()
                    masked, act, learn, (table, params, actor, rng) = (
                        True,
                        self.act,
                        self.learn_from,
                        self.parts[k],
                    )
                if masked and noted.get(next_s, NOTHING) is not member.mask:
                    self._allow(k, next_s, member.mask)
                scale = member.discount
                if scale != 1.0 and not self.discounted:
                    self._respect_discounts()
                    act, learn, (table, params, actor, rng) = self.act, self.learn_from, self.parts[k]
                if learn(table, params, actor, e, steps, next_s, reward, terminated, truncated, rng, scale):
                    state[e] = member.reset()
                    if member.mask is not None and not masked:
                        self._respect_masks()
                        masked, act, learn, (table, params, actor, rng) = (
                            True,
                            self.act,
                            self.learn_from,
                            self.parts[k],
                        )
            counters[STEPS_DONE] = steps + len(members)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"members": [member.state_dict() for row in self.members for member in row]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        e = self.run.envs_per_seed
        for i, saved in enumerate(state["members"]):
            place = divmod(i, e)
            member = self.members[place[0]][place[1]]
            if not member.load_state_dict(saved):  # replay failed and a new episode was started
                self.run.actor.state[place] = member.encode(member.obs)
                self.run.begin_anew(place)
