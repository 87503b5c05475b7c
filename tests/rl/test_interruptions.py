"""An exception within `advance`, from an environment or the keyboard: afterwards all seeds stand at one step again."""

import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from helpers import NoisyWalk

import rl
from supervised import checkpoint
from supervised.checkpoint import CheckpointError


class Breaking(gym.Env):
    """Raises `what` once, in the environment that was reset with `seed`, at its n-th step."""

    seed, at, what = 1, 42, OSError
    broke = False

    def __init__(self, box=False):
        self.observation_space = gym.spaces.Box(0, 9, (1,)) if box else gym.spaces.Discrete(10)
        self.action_space, self.mine, self.steps = gym.spaces.Discrete(2), None, 0

    def _obs(self):
        return np.array([self.t], np.float32) if isinstance(self.observation_space, gym.spaces.Box) else self.t

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.mine = seed if seed is not None else self.mine
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        self.steps += 1
        if self.mine == Breaking.seed and self.steps == Breaking.at and not Breaking.broke:
            Breaking.broke = True
            raise Breaking.what("lost the connection")
        self.t += 1
        return self._obs(), 1.0, False, self.t >= 9, {}


AGENTS = {
    "table": (False, rl.QLearning()),
    "sarsa": (False, rl.SARSALambda()),
    "tiles": (True, rl.LinearSARSA()),
    "dqn": (True, rl.DQN(learn_after_steps=30, batch_size=8, n_step=3)),
    "network alone": (True, replace(rl.presets()["q-network"], learning_rate=1e-4)),
}


@pytest.mark.parametrize("what", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("name", AGENTS)
def test_the_next_advance_brings_every_seed_level(name, what, tmp_path, monkeypatch):
    monkeypatch.setattr(Breaking, "what", what)
    monkeypatch.setattr(Breaking, "broke", False)
    box, agent = AGENTS[name]
    run = rl.start(lambda: Breaking(box), agent, 3, steps=500)
    with pytest.raises(what, match="lost the connection"):
        run.advance(200)
    with pytest.raises(CheckpointError, match=r"call run\.advance\(\) first"):
        run.save(tmp_path / "run.safetensors")
    assert not (tmp_path / "run.safetensors").exists()
    before = run.step
    with pytest.warns(RuntimeWarning, match="new episodes start"):
        run.advance(100)
    assert run.step >= before + 100
    if name in ("table", "sarsa"):
        assert len(set(run.loop.actor.counters[:, 0].tolist())) == 1
        assert (run.loop.actor.length < 9).all()
    run.save(tmp_path / "run.safetensors")
    again = rl.load(tmp_path / "run.safetensors", env=lambda: Breaking(box))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.advance(60), again.advance(60)
    assert again.step == run.step
    assert str(again.loop.state_dict()) == str(run.loop.state_dict())


def test_seeds_that_were_not_interrupted_learn_what_they_would_have(monkeypatch):
    """Single environments take their steps seed after seed: the others' draws do not change."""
    monkeypatch.setattr(Breaking, "broke", False)
    broken = rl.start(Breaking, rl.QLearning(), 3, steps=500)
    with pytest.raises(OSError, match="lost"):
        broken.advance(200)
    with pytest.warns(RuntimeWarning, match="seed 1"):
        broken.advance(300)
    whole = rl.start(Breaking, rl.QLearning(), 3, steps=500)
    whole.advance(broken.step)
    for k in (0, 2):
        assert broken.agent.table[k].tobytes() == whole.agent.table[k].tobytes()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_vector_environment_begins_anew(mode, monkeypatch):
    class Opaque(gym.vector.VectorWrapper):
        pass

    monkeypatch.setattr(Breaking, "broke", False)
    run = rl.start(Opaque(SyncVectorEnv([Breaking] * 2, autoreset_mode=mode)), rl.QLearning(), 2, steps=500)
    with pytest.raises(OSError, match="lost"):
        run.advance(200)
    with pytest.warns(RuntimeWarning, match="new episodes start"):
        run.advance(100)
    assert len(set(run.loop.actor.counters[:, 0].tolist())) == 1


def test_a_signal_between_compiled_calls_changes_nothing(monkeypatch):
    """Ctrl-C in an open loop over a model: the next advance takes the rest, and no bit differs."""
    run, whole = (rl.start("FrozenLake-v1", rl.QLearning(), 6, steps=4000, workers=w) for w in (1, 2))
    loop, calls = run.loop.executor.loop, []

    def interrupted(*arguments):
        loop(*arguments)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(run.loop.executor, "loop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.advance(2000)
    assert len(set(run.loop.actor.counters[:, 0].tolist())) == 2
    with pytest.raises(CheckpointError, match="advance"):
        run.state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.advance(4000)
    whole.advance(4000)
    assert run.step == whole.step == 4000
    assert run.agent.table.tobytes() == whole.agent.table.tobytes()
    assert str(run.state()) == str(whole.state())


def test_a_rule_that_raises_in_compiled_code_leaves_a_run_that_can_go_on():
    run = rl.start("FrozenLake-v1", rl.QLearning(), 2, steps=1000)
    loop = run.loop.executor.loop

    def raising(*arguments):
        run.loop.executor.entry = loop
        raise ValueError("no such value")

    run.loop.executor.loop = raising
    with pytest.raises(ValueError, match="no such value"):
        run.advance(500)
    with pytest.warns(RuntimeWarning, match="new episodes start"):
        run.advance(500)
    assert len(set(run.loop.actor.counters[:, 0].tolist())) == 1


def test_a_file_whose_seeds_stand_at_different_steps_is_refused(tmp_path):
    run = rl.start(NoisyWalk, rl.QLearning(), 3)
    run.advance(100)
    run.save(tmp_path / "run.safetensors")
    state, meta = checkpoint.load(tmp_path / "run.safetensors")
    state["loop"]["actor"]["counters"] = state["loop"]["actor"]["counters"] - np.array([[0, 0], [58, 0], [0, 0]])
    checkpoint.save(tmp_path / "other.safetensors", state, meta)
    with pytest.raises(CheckpointError, match="different numbers of steps"):
        rl.load(tmp_path / "other.safetensors", env=NoisyWalk)
