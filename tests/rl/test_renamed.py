"""Names of earlier versions: they work, and warn, wherever they are used."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re

import gymnasium as gym
import numpy as np
import pytest

import envs
import rl
import supervised
from rl.core import registry
from rl.core.episode_stats import TAGS
from supervised.renamed import RENAMED


def test_a_keyword_an_attribute_and_replace_take_the_former_name():
    with pytest.warns(
        DeprecationWarning, match="DQN\\(prioritised=...\\) is deprecated and will be removed in the next version"
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
        rl.QLearning().prioritised  # noqa: B018  (reading it raises)
    with pytest.raises(TypeError, match="priority"):
        rl.DQN(priority=True)


def test_a_policy_takes_the_former_name_of_its_config():
    box, two = gym.spaces.Box(-1.0, 1.0, (3,)), gym.spaces.Discrete(2)
    agent = rl.DQN(network="mlp(4)").build(box, two, [0])
    given = {"weights": agent.weights_of(0), "observation_space": box, "action_space": two}
    with pytest.warns(DeprecationWarning, match=r"NetworkPolicy\(description=...\) is deprecated .* use config=\.\.\."):
        policy = rl.NetworkPolicy(description=agent.config, **given)
    assert policy.config == agent.config
    with pytest.raises(TypeError, match="descriptions"):
        rl.NetworkPolicy(descriptions=agent.config, **given)
    assert inspect.signature(rl.NetworkPolicy).parameters.keys() >= {"config", "weights"}


@rl.register
@dataclasses.dataclass(frozen=True)
class OwnDQN(rl.DQN):
    """A config of somebody's own."""

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
        rl.Prioritised  # noqa: B018  (reading it raises)


def test_a_rule_of_ones_own_defines_its_hooks_by_their_former_names():
    from rl.tabular import agent

    with pytest.warns(DeprecationWarning, match="Old.trail is deprecated .*use Old.episode_arrays"):

        class Old(agent.TabularConfig):
            def trail(self, states, actions):
                return {"seen": np.zeros(states)}

    assert Old().episode_arrays(3, 2)["seen"].shape == (3,)
    with pytest.warns(DeprecationWarning, match="Transition"):
        assert agent.Moment is agent.Transition
    with pytest.raises(ValueError, match=r"The rule of Former reads t\.s2, which is now called t\.next_s"):

        class Former(agent.TabularConfig):
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
        run.exact.worst  # noqa: B018  (reading it raises)
    deep = rl.start("CartPole-v1", rl.DQN(), seeds=1)
    with pytest.warns(DeprecationWarning, match="rollout/predicted_return"):
        assert np.isnan(deep.episodes()["rollout/promised_return"])


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("rl.losses", "huber_slope", "huber_grad"),
        ("rl.losses", "taken", "select"),
        ("rl.explore", "by_rule", "select_actions"),
        ("rl.report.pictures", "gif", "record_gif"),
        ("rl.core.registry", "Description", "AgentConfig"),
        ("rl.tabular.agent", "Tabular", "TabularConfig"),
        ("rl.agents.table", "OnPolicy", "OnPolicyConfig"),
        ("envs", "NotATable", "NoModelError"),
        ("envs", "Member", "ReplayableEnv"),
        ("envs.rows", "MemberRows", "SingleEnvs"),
        ("envs.tables", "World", "ModelState"),
        ("supervised.models.layers", "initialise", "initialize"),
    ],
)
def test_modules_find_their_names_by_the_former_ones(module, old, new):
    module = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated .*use .*{new}"):
        assert getattr(module, old) is getattr(module, new)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing  # noqa: B018  (reading it raises)


def test_attributes_and_keywords_of_agents_and_runs_are_found_by_their_former_names():
    with pytest.warns(DeprecationWarning, match=r"start\(description=...\) is deprecated .*use agent=..."):
        run = rl.start("FrozenLake-v1", description=rl.QLearning(), seeds=1)
    with pytest.warns(DeprecationWarning, match=r"Run.description is deprecated .*use .agent_config"):
        assert run.description is run.agent_config
    with pytest.warns(DeprecationWarning, match=r"Run.config .*use .to_json"):
        assert run.config() == run.to_json()
    with pytest.warns(DeprecationWarning, match=r"TabularAgent.description .*use .config"):
        assert run.agent.description is run.agent.config


class Lasting(gym.Env):
    """An environment of a user that keeps a count over episodes, by methods of former names."""

    observation_space, action_space, steps = gym.spaces.Discrete(2), gym.spaces.Discrete(2), 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        self.steps += 1
        return 0, 0.0, True, False, {}

    def lasting_state(self):
        return self.steps

    def put_back(self, state):
        self.steps = state


def test_environments_keep_their_state_by_methods_of_former_names():
    with pytest.warns(DeprecationWarning, match="Lasting.lasting_state is deprecated .*use Lasting.persistent_state"):
        env = envs.ReplayableEnv(Lasting(), 0)
    env.reset()
    for _ in range(3):
        env.step(0)
        env.reset()
    with pytest.warns(DeprecationWarning, match="put_back"):
        again = envs.ReplayableEnv(Lasting(), 0)
    again.load_state_dict(env.state_dict())
    assert again.env.unwrapped.steps == 3


# Names on the command line of scripts/train_supervised.py.
EXPERIMENTS = ("normalization", "regularization", "initialization", "mnist-initializers", "optimizers")


def modules():
    for package in (rl, envs, supervised):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            yield importlib.import_module(found.name)


def attributes(kind):
    """The names of a class's members, settings and attributes."""
    return {
        *dir(kind),
        *vars(kind).get("__dataclass_fields__", ()),
        *re.findall(r"self\.(\w+)", inspect.getsource(kind)),
    }


def test_every_renamed_name_leads_to_one_of_today():
    names = set(EXPERIMENTS)
    functions = {"start": rl.start, "begin_anew": rl.Replay.begin_anew}
    owners = {name: [set(inspect.signature(function).parameters)] for name, function in functions.items()}
    for module in modules():
        names |= set(vars(module))
        for name, kind in vars(module).items():
            if isinstance(kind, type) and kind.__module__.startswith(("rl.", "envs.", "supervised.")):
                owners.setdefault(name, []).append(kind)
    for old, new in RENAMED.items():
        owner, dot, _ = old.partition(".")
        if "/" in old:
            assert new in TAGS
        elif owner == "env":
            assert hasattr(envs.mazes.ChangingMaze, new)
        elif dot:
            assert any(new in (kind if isinstance(kind, set) else attributes(kind)) for kind in owners[owner]), old
        else:
            assert new in rl.presets() or new in names


def test_a_replay_and_an_agent_answer_to_former_names():
    world = envs.make("CartPole-v1")
    replay = rl.Replay(world, 10)
    with pytest.warns(DeprecationWarning, match=r"begin_anew\(lanes=...\) is deprecated"):
        replay.begin_anew(lanes=np.ones(1, np.bool_))
    agent = rl.DQN(network="mlp(4)").build(world.observation_space, world.action_space)
    with pytest.warns(DeprecationWarning, match=r"DeepAgent\.look is deprecated"):
        agent.look()
