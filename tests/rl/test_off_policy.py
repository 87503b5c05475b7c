"""Runs of Q-networks: seeds do not feel each other, nothing is lost, every kind of observation is read."""

import itertools
import os
import shutil
import signal

import gymnasium as gym
import numpy as np
import pytest
import torch
from daily import daily
from helpers import Paying, curves
from torch import nn

import rl
from rl.core.observations import parts_of
from rl.explore import Boltzmann, DecayingNoise, EpsilonGreedy
from rl.run import processes as workers
from supervised import MLP, Stack, checkpoint
from supervised.schedules import Exponential, Linear

SMALL = {"network": "mlp(16)", "learn_after_steps": 30, "batch_size": 16, "capacity_steps": 400}
KINDS = {
    "plain": {},
    "all": {
        "double": True,
        "dueling": True,
        "n_step": 3,
        "prioritized": True,
        "target_every_updates": 1,
        "target_rate": 0.1,
    },
    "torch alone": {"compiled": False, "loss": "squared", "optimizer": "RMSprop"},
    "scheduled": {
        "learning_rate": Linear(1e-2, 0.0),
        "explore": EpsilonGreedy(Exponential(1.0, 0.1, 20, "episodes")),
        "updates": 2,
        "update_every_steps": 3,
    },
    "Boltzmann": {"explore": Boltzmann(0.5), "target_every_updates": None},
    "noise": {"explore": DecayingNoise(), "prioritized": True},
    "dropout": {"network": lambda space, outputs: MLP(space.shape[0], outputs, (16,), dropout=0.2)},
}


class Seen(gym.Env):
    """Observations of any space, drawn from it; the reward tells of the action."""

    space = gym.spaces.Box(-1, 1, (3,))

    def __init__(self):
        self.observation_space, self.action_space = self.space, gym.spaces.Discrete(3, start=2)

    def _obs(self):
        self.space.seed(int(self.np_random.integers(2**31)))
        return self.space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(np.int64(action))
        self.t += 1
        return self._obs(), float(action == 3), self.np_random.random() < 0.1, self.t == 12, {}


SPACES = {
    "image": gym.spaces.Box(0, 255, (12, 12, 3), np.uint8),
    "frame": gym.spaces.Box(0, 255, (10, 10), np.uint8),
    "colored frames": gym.spaces.Box(0, 255, (2, 9, 9, 3), np.uint8),
    "bytes": gym.spaces.Box(0, 255, (5,), np.uint8),
    "bits": gym.spaces.Box(0, 1, (8, 8, 4), np.bool_),
    "matrix": gym.spaces.Box(-1, 1, (2, 3), np.float64),
    "numbers": gym.spaces.MultiDiscrete([3, 4], start=[1, -2]),
    "binary": gym.spaces.MultiBinary(5),
    "offset": gym.spaces.Discrete(4, start=-1),
    "dict": gym.spaces.Dict(
        {
            "eye": gym.spaces.Box(0, 255, (8, 8), np.uint8),
            "place": gym.spaces.Discrete(3),
            "more": gym.spaces.Tuple([gym.spaces.Box(-1, 1, (2,))]),
        }
    ),
    "tuple": gym.spaces.Tuple([gym.spaces.Discrete(3), gym.spaces.Box(-1, 1, (2,))]),
}


def same(one, two, k=0, j=0):
    """Whether seed k of one run is, in all that it has learned and remembers, seed j of another."""
    for mine, theirs in ((one.agent.online, two.agent.online), (one.agent.target, two.agent.target)):
        if mine is not None and not all(torch.equal(w[k], theirs.weights[n][j]) for n, w in mine.weights.items()):
            return False
    parts = [workers.split(run.state()["loop"], i, i + 1, len(run.seeds)) for run, i in ((one, k), (two, j))]
    tree = [part["episodes"] for part in parts]
    return all(np.array_equal(tree[0][name], tree[1][name], equal_nan=True) for name in tree[0])


def train(kind="plain", env="CartPole-v1", steps=300, seeds=1, **settings):
    return rl.train(env, rl.DQN(**{**SMALL, **KINDS[kind]}), steps=steps, seeds=seeds, progress=False, **settings)


@pytest.mark.parametrize(
    ("kind", "envs_per_seed"),
    daily(itertools.product(KINDS, (1, 3)), [(kind, (1, 3)[i % 2]) for i, kind in enumerate(KINDS)]),
)
def test_alone_is_stacked(kind, envs_per_seed):
    many = train(kind, seeds=[3, 0, 8], envs_per_seed=envs_per_seed)
    for k, seed in enumerate(many.seeds):
        assert same(many, train(kind, seeds=[seed], envs_per_seed=envs_per_seed), k)
    assert many.agent.updates > 100 / envs_per_seed


@pytest.mark.parametrize("name", SPACES)
def test_every_space_is_read_learned_from_and_resumed(name, tmp_path):
    class Own(Seen):
        space = SPACES[name]

    settings = {**SMALL, "network": "auto"}
    run = rl.train(Own, rl.DQN(**settings), steps=80, seeds=2, progress=False)
    alone = rl.train(Own, rl.DQN(**settings), steps=80, seeds=[1], progress=False)
    assert same(run, alone, 1)
    if "image" in name or name == "frame":
        assert run.loop.replay.obs[""].dtype == np.uint8
    run.save(tmp_path / "r")
    again = rl.load(tmp_path / "r", env=Own)
    run.advance(40), again.advance(40)
    assert same(run, again)
    policy = run.policy(1)
    policy.save(tmp_path / "p")
    obs = Own().reset(seed=5)[0]
    chosen = policy.predict(obs)[0]
    assert chosen.shape == ()
    assert run.spaces[1].contains(np.int64(chosen))
    assert rl.load_policy(tmp_path / "p").predict(obs)[0] == chosen
    vector = gym.vector.SyncVectorEnv([Own] * 4)
    many = policy.predict(vector.reset(seed=[5, 6, 7, 8])[0])[0]
    assert many.shape == (4,)
    assert many[0] == chosen
    assert run.evaluate(3).returns.shape == (2, 3)


def test_how_steps_are_cut_changes_no_bit():
    whole, parts = (rl.start("CartPole-v1", rl.DQN(**SMALL), 2, steps=200) for _ in range(2))
    whole.advance(200)
    for n in (1, 2, 3, 94, 100):
        parts.advance(n)
    assert same(whole, parts)
    assert same(whole, parts, 1, 1)
    assert whole.step == parts.step == 200


def test_evaluation_and_logging_change_no_bit(tmp_path):
    quiet = train("all", seeds=2)
    loud = train(
        "all", seeds=2, logdir=tmp_path, evaluate_every_steps=50, log_every_steps=10, save_every_steps=70, videos=True
    )
    assert same(quiet, loud)
    assert same(quiet, loud, 1, 1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "dropout"])
def test_saved_and_loaded_goes_on_as_if_nothing_had_been(kind, tmp_path):
    run = rl.start("CartPole-v1", rl.DQN(**{**SMALL, **KINDS[kind]}), 2, steps=300, envs_per_seed=2)
    for steps in (10, 150):
        run.advance(steps)
        run.save(tmp_path / "r")
        again = rl.load(tmp_path / "r")
        run.advance(101), again.advance(101)
        assert same(run, again)
        assert same(run, again, 1, 1)
        for name, value in run.loop.metrics().items():
            assert torch.equal(value, again.loop.metrics()[name]), name


def test_functions_are_handed_over_again(tmp_path):
    def net(space, outputs):
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs))

    def mask(obs):
        return torch.ones(*obs.shape[:-1], 2, dtype=torch.bool)

    agent = rl.DQN(**{**SMALL, "network": net}, mask=mask)
    run = rl.train("CartPole-v1", agent, steps=80, seeds=2, logdir=tmp_path / "d", progress=False)
    run.policy().save(tmp_path / "p")
    path = tmp_path / "d" / "run.safetensors"
    for missing, said in (({}, "network="), ({"network": net}, "mask=")):
        with pytest.raises(rl.CheckpointError, match=f"pass it again as {said}"):
            rl.load(path, **missing)
        with pytest.raises(rl.CheckpointError, match=f"pass it again as {said}"):
            rl.load_policy(tmp_path / "p", **missing)
    again = rl.load(path, network=net, mask=mask)
    assert same(run, again)
    assert rl.load_policy(tmp_path / "p", network=net, mask=mask).predict(np.zeros(4))[0].shape == ()
    more = rl.train("CartPole-v1", agent, steps=160, seeds=2, logdir=tmp_path / "d", resume=True, progress=False)
    run.advance(80)
    assert same(run, more)
    train(logdir=tmp_path / "e")
    with pytest.raises(rl.CheckpointError, match="was created without a network function"):
        rl.load(tmp_path / "e" / "run.safetensors", network=net)


def test_the_number_of_workers_changes_no_bit(tmp_path, forked_workers):
    """Nor does it when a run goes on: saved by two processes it is resumed by none, and the other way round."""
    seeds, rare = [5, 1, 7], {"save_every_steps": 150}
    alone, shared = (train("all", seeds=seeds, workers=w, logdir=tmp_path / str(w), **rare) for w in (1, 2))
    assert all(same(alone, shared, k, k) for k in range(3))
    assert curves(tmp_path / "1") == curves(tmp_path / "2")
    assert same(rl.load(tmp_path / "2" / "run.safetensors"), alone, 2, 2)
    whole = rl.train(alone, steps=400, progress=False)
    for saved_by, workers_ in ((2, 1), (1, 2)):
        folder = shutil.copytree(tmp_path / str(saved_by), tmp_path / f"resumed by {workers_}")
        more = train("all", steps=400, seeds=seeds, workers=workers_, logdir=folder, resume=True, **rare)
        assert all(same(more, whole, k, k) for k in range(3))
    shared.advance(100)
    assert all(same(shared, whole, k, k) for k in range(3))


@pytest.mark.full  # takes 14 s; test_workers.py kills one as it starts
def test_a_killed_worker_is_begun_anew(tmp_path, capfd):
    """From where it was handed its seeds, or from the last checkpoint."""
    run = rl.start("CartPole-v1", rl.DQN(**SMALL), 2, steps=300)
    pool = workers.ProcessPool(run, 2)
    run.backend = pool
    pool.advance(60)
    for seed, steps in ((1, 60), (0, 120)):
        os.kill(pool.processes[seed].pid, signal.SIGKILL)
        pool.advance(steps)
        assert f"seeds {seed} died (status -9)" in capfd.readouterr().err
        run.save(tmp_path / "r")
        pool.advance(30)
    state = pool.state()
    pool.close()
    whole = train(seeds=2)
    for name, weight in whole.agent.online.weights.items():
        assert np.array_equal(state["agent"]["online"][name], weight.detach().numpy())
    assert state["loop"]["step"].tolist() == [300, 300]


def test_what_workers_cannot_do_is_told(forked_workers):
    vector = gym.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    with pytest.raises(ValueError, match="VectorEnv cannot be distributed"):
        train(env=vector, seeds=2, workers=2)

    class Bad(Seen):
        def step(self, action):
            return self._obs(), float("nan"), False, False, {}

    with pytest.raises(ValueError, match=r"step 1\): it returned the reward nan"):
        train(env=Bad, seeds=2, workers=2)


def test_curves_tell_what_the_guide_says(tmp_path):
    train("all", seeds=2, steps=600, logdir=tmp_path, log_every_steps=100, save_every_steps=200)
    found = curves(tmp_path)
    for tag in (
        *("train/loss", "train/td_error", "train/q_mean", "train/q_max", "train/gradient_norm", "train/learning_rate"),
        *("train/updates_per_step", "train/dead_units", "replay/size_steps", "replay/age_steps"),
        *("rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/discounted_return", "rollout/predicted_return"),
        *("rollout/exploration_rate", "eval/mean_reward", "eval/mean_ep_length"),
    ):
        assert found[".", tag], tag
        assert found["seed_1", tag], tag
    assert [step for step, _ in found[".", "train/loss"]] == [100, 200, 300, 400, 500, 600]
    assert 98 <= found[".", "replay/size_steps"][0][1] <= 100  # the last two windows of three may not be complete


def test_the_promise_and_what_came_of_it():
    agent = rl.DQN(**{**SMALL, "network": "linear"}, gamma=0.5)
    run = rl.start(lambda: Paying(1, 2), agent, 2, steps=100)
    with torch.no_grad():
        run.agent.online.weights["head.weight"][:, 1, 0] = 7.0
    run.advance(20)
    found = run.episodes()
    assert found["rollout/discounted_return"].tolist() == [2.0, 2.0]
    assert found["rollout/predicted_return"].tolist() == [7.0, 7.0]
    assert found["rollout/ep_rew_mean"].tolist() == [3.0, 3.0]


def test_nan_keeps_the_batch(tmp_path):
    run = rl.start("CartPole-v1", rl.DQN(**SMALL), [3, 6], steps=300)
    run.advance(100)
    with torch.no_grad():
        run.agent.target.flat.fill_(torch.inf)
    with pytest.raises(
        FloatingPointError, match=r"At environment step 101: Seed 3: .*The batch was saved to"
    ) as caught:
        rl.train(run, steps=300, logdir=tmp_path, progress=False)
    state, meta = checkpoint.load(tmp_path / "not_finite.safetensors")
    assert meta["kind"] == "batch"
    assert np.array_equal(state["obs"], caught.value.batch.obs.numpy())


def test_a_vector_env_of_any_kind_trains():
    class Opaque(gym.vector.VectorWrapper):
        pass

    for mode in gym.vector.AutoresetMode:
        env = Opaque(gym.make_vec("CartPole-v1", 4, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}))
        run = train("all", env=env, seeds=2, envs_per_seed=2, steps=200)
        assert run.agent.updates > 50
        assert (run.episodes()["rollout/ep_len_mean"] > 5).all()


def test_a_fresh_episode_where_the_old_cannot_be_reached(tmp_path):
    class Changed(Seen):
        offset = 0.0

        def _obs(self):
            return super()._obs() + Changed.offset

    run = rl.start(Changed, rl.DQN(**SMALL), 2, steps=300)
    run.advance(105)
    run.save(tmp_path / "r")
    Changed.offset = 1e-3  # after the start, which tries whether episodes repeat
    with pytest.warns(RuntimeWarning, match="A new episode starts"):
        again = rl.load(tmp_path / "r", env=Changed)
    again.advance(100)
    assert again.step == 205


def test_a_damaged_checkpoint_of_a_network_is_told(tmp_path):
    run = rl.start("CartPole-v1", rl.DQN(**{**SMALL, **KINDS["all"]}), 2, steps=300)
    run.advance(100)
    path = tmp_path / "r"
    run.save(path)
    state, meta = checkpoint.load(path)

    def with_(name, value):
        agent = {**state["agent"], name: value}
        return {**state, "agent": agent}

    wide = {key: np.concatenate([v, v], -1) for key, v in state["agent"]["online"].items()}
    nan = {key: v * np.nan for key, v in state["agent"]["target"].items()}
    moments = {key: {} for key in state["agent"]["optimizer"]}
    for damaged in (
        with_("online", wide),
        with_("target", nan),
        with_("optimizer", moments),
        with_("streams", np.zeros((2, 3), np.uint8)),
    ):
        checkpoint.save(path, damaged, {k: v for k, v in meta.items() if k != "format"})
        with pytest.raises(rl.CheckpointError, match="damaged checkpoint"):
            rl.load(path)


def test_a_stack_of_modules_is_what_the_agent_has():
    run = train(seeds=2)
    assert isinstance(run.agent.online, Stack)
    module = run.agent.online.member(1)
    obs = torch.randn(2, 5, 4)
    torch.testing.assert_close(run.agent.q(obs)[1], module(obs[1]).detach())


def test_channels_are_found():
    for shape, features in (
        ((84, 84), (1, 84, 84)),
        ((4, 84, 84), (4, 84, 84)),
        ((64, 48, 3), (3, 64, 48)),
        ((4, 64, 48, 3), (12, 64, 48)),
        ((4, 3, 64, 48), (12, 64, 48)),
    ):
        (part,) = parts_of(gym.spaces.Box(0, 255, shape, np.uint8))
        assert (part.kind, part.features) == ("image", features)
        picture = (
            torch.arange(int(np.prod(shape)), dtype=torch.float64).remainder(256).to(torch.uint8).view(1, 1, *shape)
        )
        encoded = part.encode(picture)
        assert encoded.shape == (1, 1, *features)
        assert encoded.sum() == pytest.approx(float(picture.double().sum() / 255), rel=1e-4)
    (part,) = parts_of(gym.spaces.Box(0, 255, (6, 5, 3), np.uint8))
    picture = torch.zeros(1, 1, 6, 5, 3, dtype=torch.uint8)
    picture[0, 0, 2, 4, 1] = 255
    assert part.encode(picture).nonzero().tolist() == [[0, 0, 1, 2, 4]]
