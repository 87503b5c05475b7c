"""The ring against a list of all steps; what it takes, and what it refuses."""

import copy
import itertools
from collections import Counter
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import Counting

import envs
import rl
from rl.deep.replay import storage
from supervised import Streams


class Answer(NamedTuple):
    reward: torch.Tensor
    terminated: torch.Tensor
    truncated: torch.Tensor
    next_obs: torch.Tensor
    next_mask: None = None
    valid: torch.Tensor | None = None


class World:
    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gym.spaces.Discrete(3)
    frames = 1

    def __init__(self, n, e):
        self.seeds, self.envs_per_seed = tuple(range(n)), e


def everything(replay, k, streams):
    """What is sampled of seed k, each once: {observation: (action, return, discount, next observation)}."""
    found = {}
    for _ in range(60):
        batch = replay.sample(100, streams)
        for b in range(100):
            sample = batch.action[k, b], batch.reward[k, b], batch.discount[k, b], batch.next_obs[k, b, 0]
            found[batch.obs[k, b, 0].item()] = tuple(x.item() for x in sample)
    return found


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("envs_per_seed", [1, 2])
@pytest.mark.parametrize("prioritized", [False, True])
def test_windows_against_a_naive_list(n_step, envs_per_seed, prioritized):
    n, e, gamma, steps, capacity = 2, envs_per_seed, 0.9, 400, 60 * envs_per_seed
    rng = np.random.default_rng(0)
    replay = rl.Replay(World(n, e), capacity, n_step, gamma, 0.6 if prioritized else None)
    history = {}  # observation -> its step, of each seed and environment; all observations differ
    number = 0.0
    obs = np.zeros((n, e, 1), np.float32)

    def fresh():
        nonlocal number
        number += 1
        return number

    for k in range(n):
        for i in range(e):
            obs[k, i] = fresh()
    lanes = {(k, i): [] for k in range(n) for i in range(e)}
    for _ in range(steps):
        action = torch.from_numpy(rng.integers(0, 3, (n, e)))
        reward = torch.from_numpy(rng.integers(-5, 5, (n, e)).astype(np.float32))
        ending = torch.from_numpy(rng.random((n, e)))
        terminated, truncated = ending < 0.1, (ending >= 0.1) & (ending < 0.2)
        next_obs = np.array([[[fresh()] for _ in range(e)] for _ in range(n)], np.float32)
        replay.add(torch.from_numpy(obs), action, Answer(reward, terminated, truncated, torch.from_numpy(next_obs)))
        for (k, i), lane in lanes.items():
            over = bool(terminated[k, i]), bool(truncated[k, i])
            lane.append((obs[k, i, 0], int(action[k, i]), float(reward[k, i]), *over, next_obs[k, i, 0]))
            history[obs[k, i, 0]] = (k, i, len(lane) - 1)
        over = (terminated | truncated).numpy()
        obs = np.where(over[..., None], np.array([[[fresh()] for _ in range(e)] for _ in range(n)]), next_obs).astype(
            np.float32
        )
    for k in range(n):
        samples = everything(replay, k, Streams(range(n), "replay"))
        oldest = dict.fromkeys(range(e), steps)
        for start, (action, returned, discount, next_obs) in samples.items():
            owner, i, at = history[start]
            assert owner == k
            lane, total, factor = lanes[k, i], 0.0, 1.0
            for step in lane[at : at + n_step]:
                _, _, reward, terminated, truncated, last = step
                total += factor * reward
                factor *= gamma
                if terminated:
                    factor = 0.0
                if terminated or truncated:
                    break
            assert action == lane[at][1]
            np.testing.assert_allclose((returned, discount), (total, factor), rtol=1e-5, atol=1e-5)
            assert next_obs == last
            oldest[i] = min(oldest[i], at)
        for i in range(e):  # no start between the oldest and the newest whose window is complete is missing
            lane = lanes[k, i]
            complete = [
                at
                for at in range(oldest[i], steps)
                if at + n_step <= steps or any(step[3] or step[4] for step in lane[at:])
            ]
            assert all(lane[at][0] in samples for at in complete)
            assert len(complete) > 30


def test_samples_are_uniform_over_environments_of_unequal_length():
    """A lane with half as many steps that can be drawn gets half as many draws."""
    replay = rl.Replay(World(1, 2), 100, 1, 0.9)
    obs = torch.zeros(1, 2, 1)
    for t in range(30):
        valid = torch.tensor([[True, t % 2 == 0]])
        flags = torch.zeros(1, 2, dtype=torch.bool)
        replay.add(obs, torch.tensor([[0, 1]]), Answer(obs[..., 0], flags, flags, obs, None, valid))
    batch = replay.sample(30_000, Streams([0]))
    share = batch.action.double().mean().item()
    np.testing.assert_allclose(share, 15 / 45, atol=0.01)
    assert len(replay) == 45


@pytest.mark.parametrize("mode", list(gym.vector.AutoresetMode))
@pytest.mark.parametrize("truncates", [False, True])
def test_every_stored_transition_is_legal_in_every_autoreset_mode(mode, truncates):
    make = lambda: Counting(4, truncates, box=True)
    vector = gym.vector.SyncVectorEnv([make] * 2, autoreset_mode=mode)

    class Opaque(gym.vector.VectorWrapper):
        pass

    world = envs.make(Opaque(vector), seeds=2)
    replay = rl.Replay(world, 1000, 2, 0.5)
    obs = world.reset()
    for _ in range(60):
        action = torch.zeros(2, 1, dtype=torch.int64)
        step = world.step(action)
        replay.add(obs, action, step)
        obs = step.obs
    batch = replay.sample(400, Streams([0, 1]))
    (episode, at), (next_episode, after) = (x.unbind(-1) for x in (batch.obs, batch.next_obs))
    assert torch.equal(episode, next_episode)  # no window crosses an ending
    assert set(at.flatten().tolist()) == {0.0, 1.0, 2.0, 3.0}
    assert torch.equal(after, torch.minimum(at + 2, torch.tensor(4.0)))
    reward = 100 * episode + at + 1
    both = reward + 0.5 * (reward + 1)
    assert torch.equal(batch.reward, torch.where(at < 3, both, reward))
    future = torch.where(at < 3, 0.25, 0.5)
    assert torch.equal(batch.discount, torch.where(after == 4, future * truncates, future))


def test_stacked_frames_are_kept_once():
    make = lambda: gym.wrappers.FrameStackObservation(Frames(), 3)
    world = envs.make(make, seeds=2)
    assert world.frames == 3
    replay = rl.Replay(world, 40, 2, 0.9)
    assert replay.obs[""].shape[1:] == (6, 6)
    assert replay.bytes / (2 * 40 * 36) < 1.8  # bytes a pixel; of pictures so small the rest weighs more
    obs, seen = world.reset(), {}
    for _ in range(200):
        action = torch.zeros(2, 1, dtype=torch.int64)
        step = world.step(action)
        replay.add(obs, action, step)
        for k in range(2):
            seen[obs[k, 0].numpy().tobytes()] = True
            seen[step.next_obs[k, 0].numpy().tobytes()] = True
        obs = step.obs
    batch = replay.sample(300, Streams([0, 1]))
    for stack in (*batch.obs.flatten(0, 1), *batch.next_obs.flatten(0, 1)):
        assert stack.numpy().tobytes() in seen  # every stack was really seen, padded first frames too
    assert torch.equal(
        batch.next_obs[..., 0, :, :].flatten(2)[..., 0] - batch.obs[..., 2, :, :].flatten(2)[..., 0] >= 0,
        torch.ones(2, 300).bool(),
    )


class Frames(gym.Env):
    """Frames of 6 x 6 that say how many steps were taken in all; episodes of 7."""

    def __init__(self):
        self.observation_space = gym.spaces.Box(0, 255, (6, 6), np.uint8)
        self.action_space = gym.spaces.Discrete(2)
        self.count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.full((6, 6), self.count % 256, np.uint8), {}

    def step(self, action):
        self.t, self.count = self.t + 1, self.count + 1
        return np.full((6, 6), self.count % 256, np.uint8), 0.0, self.t == 7, False, {}


@pytest.mark.parametrize("settings", [{}, {"n_step": 3}, {"priority_exponent": 0.6}])
def test_state_goes_and_comes_back(settings):
    def filled(steps):
        world = envs.make("CartPole-v1", seeds=[0, 1], envs_per_seed=2)
        replay = rl.Replay(world, 50, **settings)
        streams, obs = Streams([0, 1]), world.reset()
        for _ in range(steps):
            action = (streams.uniform(2) * 2).long()
            step = world.step(action)
            replay.add(obs, action, step)
            obs = step.obs
        return replay

    for steps, before in itertools.product((5, 100), (0, 40)):  # what was in the other before is forgotten
        one, two = filled(steps), filled(before)
        if one.alpha is not None:
            batch = one.sample(20, Streams([0, 1]))
            one.update_priorities(batch.index, torch.randn(2, 20))
        two.load_state_dict(one.state_dict())
        for a, b in zip(one.sample(30, Streams([0, 1])), two.sample(30, Streams([0, 1])), strict=True):
            assert (a is b is None) or torch.equal(a, b)
        np.testing.assert_array_equal(one.total, two.total)
        np.testing.assert_array_equal(one.least, two.least)
    state = one.state_dict()
    for name, damaged in {
        "newest": state["newest"] - 1000,
        "head": state["tail"] + 1,
        "starts": state["starts"] + 5,
        "kind": np.zeros_like(state["kind"]),
        "reward": state["reward"][:1],
    }.items():
        with pytest.raises(ValueError, match="replay"):
            filled(0).load_state_dict({**state, name: damaged})


def test_what_is_refused_is_told():
    world = envs.make("CartPole-v1")
    for settings, said in (
        ({"capacity_steps": 0}, "capacity_steps must be a whole number"),
        ({"n_step": 1.5}, "n_step must be a whole number"),
        ({"gamma": 1.5}, "gamma must lie in"),
        ({"priority_exponent": 2}, "priority_exponent must lie in"),
        ({"capacity_steps": 10**13}, r"takes .* GB.*Use a smaller capacity_steps"),
    ):
        with pytest.raises(ValueError, match=said):
            rl.Replay(world, **settings)
    replay = rl.Replay(world, 10)
    with pytest.raises(ValueError, match="nothing to sample"):
        replay.sample(4, Streams([0]))
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        replay.sample(0, Streams([0]))
    one = rl.Replay(world, 10)
    obs, step = world.reset(), world.step(torch.zeros(1, 1, dtype=torch.int64))
    one.add(obs, torch.zeros(1, 1, dtype=torch.int64), step)
    with pytest.raises(ValueError, match="streams have 2 seeds; the replay has 1"):
        one.sample(4, Streams([0, 1]))
    with pytest.raises(ValueError, match="uniform and has no priorities"):
        replay.update_priorities(torch.zeros(1, 1), torch.zeros(1, 1))
    obs, step = world.reset(), world.step(torch.zeros(1, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"must be flags \[1 seeds"):
        replay.add(obs, torch.zeros(1, 1), step._replace(terminated=torch.zeros(2, 1)))
    replay = rl.Replay(world, 10, priority_exponent=0.5)
    for index, error in ((torch.tensor([[99]]), torch.zeros(1, 1)), (torch.tensor([[-1]]), torch.zeros(1, 1))):
        with pytest.raises(ValueError, match="of one sample of this replay"):
            replay.update_priorities(index, error)


def test_a_step_that_is_refused_is_not_entered_by_half():
    world, action = envs.make("CartPole-v1"), torch.zeros(1, 1, dtype=torch.int64)
    replay = rl.Replay(world, 10, state={"h": np.zeros((1, 1, 2))})
    obs, step, state = world.reset(), world.step(action), {"h": np.ones((1, 1, 2))}
    replay.add(obs, action, step, state)
    before = copy.deepcopy(replay.state_dict())
    wrong = torch.zeros(2, 3, dtype=torch.float64)
    for name in ("reward", "terminated", "truncated", "next_obs", "next_mask", "valid", "discount"):
        with pytest.raises(ValueError, match=r"flags|numbers|floats|Replay\.add takes obs"):
            replay.add(obs, action, step._replace(**{name: wrong}), state)
    for memory in (None, {"other": state["h"]}, {"h": np.ones(3)}):
        with pytest.raises(ValueError, match=r"state must have 'h' \[1, 1, 2\], not"):
            replay.add(obs, action, step, memory)
    after = replay.state_dict()
    assert all(np.array_equal(after[name], array) for name, array in before.items() if isinstance(array, np.ndarray))
    assert len(replay) == 1


def test_the_oldest_are_forgotten_first():
    replay = rl.Replay(World(1, 1), 10, 1, 0.9)
    flags = torch.zeros(1, 1, dtype=torch.bool)
    for t in range(100):
        obs = torch.full((1, 1, 1), float(t))
        replay.add(obs, torch.zeros(1, 1, dtype=torch.int64), Answer(obs[..., 0], flags, flags, obs + 1))
    seen = Counter(replay.sample(2000, Streams([0])).obs.flatten().tolist())
    assert sorted(seen) == list(range(100 - len(replay), 100))
    assert 10 <= len(replay) <= 12
    assert max(seen.values()) < 1.5 * min(seen.values())


def test_without_numba_the_same_comes_out(monkeypatch):
    def batches():
        world = envs.make("CartPole-v1", seeds=[0, 1])
        replay = rl.Replay(world, 40, 3, 0.9, 0.6)
        obs = world.reset()
        for t in range(80):
            action = torch.full((2, 1), t % 2)
            step = world.step(action)
            replay.add(obs, action, step)
            obs = step.obs
        return replay.sample(20, Streams([0, 1]))

    compiled = batches()
    monkeypatch.setattr(storage, "fast", lambda function, **given: storage.jit.specialize(function, **given))
    for a, b in zip(compiled, batches(), strict=True):
        assert (a is b is None) or torch.equal(a, b)
