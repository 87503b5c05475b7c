"""Names of earlier versions: they work, and warn, wherever they are used."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import rl
from rl.core import registry
from rl.core.episode_stats import TAGS
from rl.core.renamed import RENAMED


def test_a_keyword_an_attribute_and_replace_take_the_former_name():
    with pytest.warns(
        DeprecationWarning, match="DQN\\(prioritised=...\\) is deprecated and goes with the next version"
    ):
        old = rl.DQN(prioritised=True)
    assert old == rl.DQN(prioritized=True)
    with pytest.warns(DeprecationWarning, match="use .prioritized"):
        assert old.prioritised
    with pytest.warns(DeprecationWarning, match="prioritized=..."):
        assert dataclasses.replace(rl.DQN(), prioritised=True) == old
    with pytest.warns(DeprecationWarning, match="prioritized"):
        assert not dataclasses.replace(old, prioritised=False).prioritized
    with pytest.raises(AttributeError):
        rl.QLearning().prioritised  # noqa: B018
    with pytest.raises(TypeError, match="priority"):
        rl.DQN(priority=True)


@rl.register
@dataclasses.dataclass(frozen=True)
class OwnDQN(rl.DQN):
    """A description of somebody's own."""

    width: int = 3


def test_a_subclass_takes_the_former_names_of_its_base():
    with pytest.warns(DeprecationWarning, match="OwnDQN\\(prioritised=...\\)"):
        assert OwnDQN(prioritised=True, width=4).prioritized
    assert OwnDQN(0.5).gamma == 0.5  # by position as ever


def test_saved_settings_are_read_by_their_former_names(recwarn):
    saved = registry.to_json(rl.DQN(prioritized=True))
    saved["prioritised"] = saved.pop("prioritized")
    assert registry.from_json(saved) == rl.DQN(prioritized=True)
    sweeping = {**registry.to_json(rl.PrioritizedSweeping()), "type": "PrioritisedSweeping"}
    assert registry.from_json(sweeping) == rl.PrioritizedSweeping()
    assert not recwarn.list


def test_presets_and_public_names_are_found_by_their_former_names():
    for old, new in (("prioritised-dqn", "prioritized-dqn"), ("prioritised-sweeping", "prioritized-sweeping")):
        with pytest.warns(DeprecationWarning, match=new):
            assert rl.presets()[old] == rl.presets()[new]
        assert old not in rl.presets()
    with pytest.raises(KeyError):
        rl.presets()["prioritised"]
    for old, new in (("PrioritisedSweeping", "PrioritizedSweeping"), ("TableAgent", "TabularAgent")):
        with pytest.warns(DeprecationWarning, match=f"rl.{old} .*use rl.{new}"):
            assert getattr(rl, old) is getattr(rl, new)
    with pytest.raises(AttributeError, match="no attribute 'Prioritised'"):
        rl.Prioritised  # noqa: B018


def test_a_rule_of_ones_own_defines_its_hooks_by_their_former_names():
    from rl.tabular import agent

    with pytest.warns(DeprecationWarning, match="Old.trail is deprecated .*use Old.episode_arrays"):

        class Old(agent.Tabular):
            def trail(self, states, actions):
                return {"seen": np.zeros(states)}

    assert Old().episode_arrays(3, 2)["seen"].shape == (3,)
    with pytest.warns(DeprecationWarning, match="Transition"):
        assert agent.Moment is agent.Transition
    with pytest.raises(ValueError, match=r"The rule of Former reads t\.s2, which is t\.next_s now"):

        class Former(agent.Tabular):
            @staticmethod
            def rule(table, t, rng):
                return table.q[t.s2, 0]


def test_results_are_found_by_their_former_names():
    run = rl.start("FrozenLake-v1", rl.QLearning(), seeds=1)
    for old, new in (
        ("best", "optimal_return"),
        ("stationary", "optimal_stationary_return"),
        ("promised", "target_return"),
    ):
        with pytest.warns(DeprecationWarning, match=f"exact.{old} .*use exact.{new}"):
            assert getattr(run.exact, old) == getattr(run.exact, new)
    with pytest.raises(AttributeError):
        run.exact.worst  # noqa: B018
    deep = rl.start("CartPole-v1", rl.DQN(), seeds=1)
    with pytest.warns(DeprecationWarning, match="rollout/predicted_return"):
        assert np.isnan(deep.episodes()["rollout/promised_return"])


def test_every_renamed_name_leads_to_one_of_today():
    for old, new in RENAMED.items():
        if "/" in old:
            assert new in TAGS
            continue
        kind, dot, setting = old.partition(".")
        if dot:
            owner = {"Tabular": rl.QLearning, "Exact": rl.run.exact.Exact}.get(kind) or registry.TYPES[kind]
            assert hasattr(owner, new) or new in owner.__dataclass_fields__
            assert setting not in vars(owner).get("__dataclass_fields__", {})
        else:
            assert new in rl.presets() or hasattr(rl, new) or hasattr(rl.tabular.agent, new)
