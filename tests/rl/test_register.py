"""Descriptions of one's own, from a file of one's own: the examples of CONTRIBUTING, through curves, checkpoints, resume."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
from pathlib import Path

import jobs
import numpy as np
import pytest
import torch
from daily import daily
from forked import Child

import rl
from rl.core import registry
from rl.deep.heads.head import Outputs
from rl.deep.moving import tensors_of
from rl.tabular.agent import TabularConfig, Transition
from supervised.checkpoint import CheckpointError
from supervised.validate import ArgumentError

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", TEXT, re.DOTALL))
MADE = {
    "tabular": ("CautiousQ()", "FrozenLake-v1", 3_000),
    "deep": (
        "LogCoshDQN(width=0.5, learn_after_steps=50, batch_size=8, prioritized=True, n_step=2)",
        "CartPole-v1",
        200,
    ),
}
OWN = '''
from dataclasses import dataclass, field
from typing import Any
import rl
from rl.deep.agent import DeepAgent
from rl.deep.heads.scalar import Scalar
from rl.explore import EpsilonGreedy

@rl.register
@dataclass(frozen=True)
class Own:
    """A class of its own, no DQN."""
    gamma: float = 0.9
    network: str = "mlp(8)"
    learning_rate: float = 1e-3
    optimizer: str = "Adam"
    max_grad_norm: float | None = None
    batch_size: int = 8
    capacity_steps: int = 200
    learn_after_steps: int = 50
    update_every_steps: int = 1
    updates: int = 1
    target_every_updates: int | None = 10
    target_rate: float = 1.0
    n_step: int = 1
    prioritized: bool = False
    priority_exponent: float = 0.6
    importance_exponent: float = 1.0
    compiled: bool = True
    mask: Any = None
    explore: EpsilonGreedy = field(default_factory=lambda: EpsilonGreedy(0.1))
    shape: tuple[int, ...] = (1, 2)
    head = Scalar("squared")
    def build(self, observation_space, action_space, seeds=1, device="cpu"):
        return DeepAgent(self, observation_space, action_space, seeds, device)
'''
EXAMPLES_AND_OWN = {**EXAMPLES, "own": OWN}
MADE["own"] = ("Own(gamma=0.5)", "CartPole-v1", 200)


@pytest.fixture
def module(request, tmp_path, monkeypatch):
    """A user's module in a folder on the path; what it registers is forgotten afterwards."""
    kind = request.param
    (tmp_path / f"mine_{kind}.py").write_text(EXAMPLES_AND_OWN[kind])
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(registry.AGENTS), dict(registry.TYPES)
    spec = importlib.util.spec_from_file_location(f"mine_{kind}", tmp_path / f"mine_{kind}.py")
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, made)
    spec.loader.exec_module(made)
    yield kind, made, tmp_path
    for known, old in zip((registry.AGENTS, registry.TYPES), before, strict=True):
        known.clear()
        known.update(old)


def arrays(agent):
    state = agent.state_dict()
    return state["q"] if "q" in state else np.concatenate([w.ravel() for w in state["online"].values()])


@pytest.mark.parametrize("module", daily(EXAMPLES_AND_OWN, ("tabular",)), indirect=True)
def test_it_trains_goes_on_and_its_policy_is_read(module):
    """To the bit as it would have been without a stop; in another process once its module is imported, and not before."""
    kind, made, folder = module
    written, env, steps = MADE[kind]
    agent = eval(written, vars(made))
    settings = {"seeds": 2, "progress": False}
    whole = rl.train(env, agent, steps=steps, logdir=folder / "whole", **settings)
    rl.train(env, agent, steps=steps // 2, logdir=folder / "half", **settings)
    path = folder / "half" / "run.safetensors"
    run = rl.load(path)
    assert run.agent_config == agent
    assert type(run.agent_config) is type(agent)
    # A run that goes on keeps the horizon of its schedules, so both were begun with the same one.
    once = rl.start(env, agent, 2, steps=steps)
    once.advance(steps // 2)
    once.save(folder / "start.safetensors")
    on = rl.load(folder / "start.safetensors")
    on.advance(steps - steps // 2)
    assert arrays(on.agent).tobytes() == arrays(whole.agent).tobytes()
    assert list((folder / "whole").rglob("events*"))
    resumed = rl.train(env, agent, steps=steps, logdir=folder / "half", resume=True, **settings)
    assert resumed.step == steps
    policy = whole.policy(1)
    policy.save(folder / "policy.safetensors")
    obs = policy.observation_space.sample()
    assert rl.load_policy(folder / "policy.safetensors").predict(obs)[0] == policy.predict(obs)[0]
    output = folder / "output"
    Child(jobs.load_described, folder, f"mine_{kind}", path, output=output).wait()
    assert output.read_text().strip() == type(agent).__name__
    del registry.AGENTS[type(agent).__name__], registry.TYPES[type(agent).__name__]
    with pytest.raises(CheckpointError, match="registered when their module is imported"):
        rl.load(path)


@pytest.mark.parametrize("module", ["deep"], indirect=True)
def test_the_slope_of_the_example_is_the_gradient_of_its_loss(module):
    """And with a wide loss near zero it is that of half the square."""
    _, made, _ = module
    import gymnasium as gym

    agent = made.LogCoshDQN(width=2.0, network="mlp(8)", max_grad_norm=None).build(
        gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2), [0, 1]
    )
    generator = torch.Generator().manual_seed(0)
    obs, other = (torch.randn(2, 5, 3, generator=generator) for _ in range(2))
    action = torch.randint(2, (2, 5), generator=generator)
    batch = rl.Batch(obs, action, torch.randn(2, 5, generator=generator), torch.full((2, 5), 0.9), other)
    outputs, _ = agent.learner.outputs(agent.arrays.batch(batch, 2))
    found = agent.head.loss(Outputs(*map(tensors_of, outputs)), batch, True)
    expected = -torch.tanh(found.td_error / 2.0) / 5
    np.testing.assert_allclose(found.gradient.gather(-1, action[..., None])[..., 0], expected, rtol=1e-5)
    assert (found.gradient != 0).sum() == 10


def test_contributing_names_every_field_of_a_transition():
    assert EXAMPLES.keys() == {"tabular", "deep"}
    for field in Transition._fields:
        assert f"`t.{field}`" in TEXT


def test_what_is_no_description():
    @dataclasses.dataclass(frozen=True)
    class Lacking:
        gamma: float = 0.9

    class Plain(rl.DQN):
        pass

    for wrong in (int, 3, None, "DQN", rl.DQN(), Lacking, Plain):
        with pytest.raises(ArgumentError, match="is not the config of an agent"):
            rl.register(wrong)
    with pytest.raises(ArgumentError, match=r"QLearning is already the name of rl\.tabular\.q_learning\.QLearning"):
        rl.register(dataclasses.make_dataclass("QLearning", [], bases=(rl.DQN,), frozen=True))
    for wrong in (rl.QLearning, Lacking(), 3, None, "DQN"):
        with pytest.raises(ArgumentError, match=r"The agent must be a config such as rl\.QLearning\(\)"):
            rl.start("FrozenLake-v1", wrong)


def test_settings_that_a_replay_needs_are_named():
    @dataclasses.dataclass(frozen=True)
    class Few:
        gamma: float = 0.9
        explore: object = rl.explore.Greedy()

        def build(self, observation_space, action_space, seeds=1, device="cpu"):
            return rl.DeepAgent(self, observation_space, action_space, seeds, device)

    with pytest.raises(ArgumentError, match="Few lacks network, optimizer, learning_rate"):
        rl.start("CartPole-v1", Few())


def test_what_was_imported_before_is_found():
    """Rules of one's own name modules where these once lay."""
    from rl.agents import deep, table

    assert (table.TabularConfig, table.TabularAgent, deep.DeepAgent) == (TabularConfig, rl.TabularAgent, rl.DeepAgent)


def test_a_description_that_is_no_tabular_builds_a_table():
    @dataclasses.dataclass(frozen=True)
    class Foreign:
        """Has what a table asks of its config, and is nobody's subclass."""

        inner: rl.QLearning = dataclasses.field(default_factory=rl.QLearning)

        def __getattr__(self, name):
            if name in ("backups_per_step", "on_policy", "inner"):
                raise AttributeError(name)
            return getattr(self.inner, name)

        def build(self, observation_space, action_space, seeds=1, device="cpu"):
            return rl.TabularAgent(self, observation_space, action_space, seeds, device)

    run = rl.start("FrozenLake-v1", Foreign(), 2, steps=1_000)
    run.advance(1_000)
    assert run.exact.target_return == run.exact.optimal_stationary_return


def test_a_description_says_in_how_many_environments_it_acts(tmp_path):
    @rl.register
    @dataclasses.dataclass(frozen=True)
    class Wide(rl.QLearning):
        envs_per_seed: int = 3

    try:
        run = rl.start("FrozenLake-v1", Wide(), 2)
        assert run.envs_per_seed == 3
        assert rl.start("FrozenLake-v1", Wide(), 2, envs_per_seed=2).envs_per_seed == 2
        assert rl.start("FrozenLake-v1", rl.QLearning(), 2).envs_per_seed == 1
        train = {"seeds": 2, "progress": False, "logdir": tmp_path / "run"}
        rl.train("FrozenLake-v1", Wide(), 300, **train)
        assert rl.train("FrozenLake-v1", Wide(), 600, resume=True, **train).envs_per_seed == 3
    finally:
        del registry.AGENTS["Wide"], registry.TYPES["Wide"]
