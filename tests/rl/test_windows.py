"""Windows of episodes in the replay, against a list of all steps; and what is refused."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from daily import daily

import rl
from rl.deep.replay import storage
from supervised import Streams


class Answer(NamedTuple):
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_obs: np.ndarray
    next_mask: np.ndarray | None = None
    valid: np.ndarray | None = None
    discount: np.ndarray | None = None


class World:
    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gym.spaces.Discrete(3)
    frames = 1

    def __init__(self, n, e):
        self.seeds, self.envs_per_seed = tuple(range(n)), e


class Taken(NamedTuple):
    """A step of a lane, as a test remembers it."""

    obs: float
    action: int
    reward: float
    discount: float
    terminated: bool
    truncated: bool
    next_obs: float
    mask: list[bool]


GAMMA = 0.9


def played(replay, steps, seed=0, lost=()):
    """Random steps in every lane -> {(k, e): its episodes, each a list of Taken}. All observations differ.

    lost: steps before which every lane begins anew without an ending; elsewhere some rows are none (NEXT_STEP autoreset).
    """
    n, e, rng = replay.n, replay.envs, np.random.default_rng(seed)
    lanes = {(k, i): [[]] for k in range(n) for i in range(e)}
    number = iter(range(1, 10**9))
    obs = np.array([[[next(number)] for _ in range(e)] for _ in range(n)], np.float32)
    for t in range(steps):
        if t in lost:
            replay.begin_anew(np.ones(n * e, bool))
            obs = np.array([[[next(number)] for _ in range(e)] for _ in range(n)], np.float32)
            for episodes in lanes.values():
                episodes.append([])
        action, draw = rng.integers(0, 3, (n, e)), rng.random((n, e))
        reward = rng.integers(-5, 5, (n, e)).astype(np.float32)
        answer = Answer(
            reward,
            draw < 0.06,
            (draw >= 0.06) & (draw < 0.12),
            np.array([[[next(number)] for _ in range(e)] for _ in range(n)], np.float32),
            rng.random((n, e, 3)) < 0.7,
            draw < 0.97,
            rng.choice([1.0, 0.5], (n, e)).astype(np.float32),
        )
        replay.add(obs, action, answer, {"h": np.repeat(obs[:, :, None], 2, 3)})
        following = answer.next_obs.copy()
        for (k, i), episodes in lanes.items():
            over = not answer.valid[k, i]
            if not over:
                flags = bool(answer.terminated[k, i]), bool(answer.truncated[k, i])
                numbers = float(obs[k, i, 0]), int(action[k, i]), float(reward[k, i]), float(answer.discount[k, i])
                episodes[-1].append(
                    Taken(*numbers, *flags, float(answer.next_obs[k, i, 0]), answer.next_mask[k, i].tolist())
                )
                over = any(flags)
            if over:
                following[k, i] = next(number)
                episodes.append([])
        obs = following
    return lanes


def expected(episode, begin, steps, n_step, burn_in):
    """A window that begins at a step of an episode, by hand; None while it is not complete, or holds nothing to learn from."""
    over = bool(episode) and (episode[-1].terminated or episode[-1].truncated)
    length = min(steps, len(episode) - begin)
    if not over and len(episode) < begin + steps + n_step - 1:
        return None
    if begin and length <= burn_in:
        return None
    rows = []
    for t in range(begin, begin + length):
        total, factor, end = 0.0, 1.0, t
        for step in episode[t : t + n_step]:
            total += factor * step.reward
            factor *= GAMMA * step.discount * (not step.terminated)
            end += 1
        mask = [True] * 3 if factor == 0 else episode[end - 1].mask
        rows.append((episode[t].action, total, factor, end - begin, mask))
    seen = [episode[begin].obs, *(step.next_obs for step in episode[begin : begin + rows[-1][3]])]
    return seen, rows


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize(
    ("steps", "every", "burn_in", "n_step", "envs_per_seed"),
    daily(
        [(6, 3, 2, 1, 1), (6, 3, 3, 4, 2), (1, 1, 0, 3, 2), (5, 2, 3, 2, 1), (None, None, 0, 3, 2), (4, 4, 0, 1, 1)],
        [(6, 3, 3, 4, 2), (None, None, 0, 3, 2), (4, 4, 0, 1, 1)],
    ),
)
def test_windows_are_those_of_a_naive_list(steps, every, burn_in, n_step, envs_per_seed, prioritized):
    state = {"h": np.zeros((2, envs_per_seed, 1, 2), np.float32)}
    alpha = 0.6 if prioritized else None
    replay = rl.SequenceReplay(
        World(2, envs_per_seed), 80 * envs_per_seed, steps, every, burn_in, n_step, GAMMA, alpha, state
    )
    lanes = played(replay, 400, lost=(150, 333))
    size, grid = steps or 10**6, every or 10**6
    wanted = {}  # by the first observation
    for (k, _), episodes in lanes.items():
        for episode in episodes:
            for begin in range(0, len(episode), grid):
                window = expected(episode, begin, size, n_step, burn_in)
                if window is not None:
                    wanted[window[0][0]] = (k, begin, *window)
    seen = set()
    streams = Streams(range(2), "replay")
    for _ in range(60):
        batch = replay.sample(16, streams)
        assert batch.obs.shape[:2] == batch.reward.shape[:2] == (2, 16)
        for k in range(2):
            for b in range(16):
                first = float(batch.obs[k, b, 0, 0])
                owner, begin, observations, rows = wanted[first]
                seen.add(first)
                assert owner == k
                length = int(batch.length[k, b])
                assert length == len(rows)
                assert int(batch.burn_in[k, b]) == (burn_in if begin else 0)
                padded = observations + [observations[-1]] * (batch.obs.shape[2] - len(observations))
                assert batch.obs[k, b, :, 0].tolist() == padded
                for t, (action, total, factor, end, mask) in enumerate(rows):
                    found = (float(x[k, b, t]) for x in (batch.reward, batch.discount))
                    np.testing.assert_allclose([*found], (total, factor), rtol=1e-5, atol=1e-5)
                    assert (int(batch.action[k, b, t]), int(batch.bootstrap[k, b, t])) == (action, end)
                    assert batch.next_mask[k, b, t].tolist() == mask
                remembered = first if begin else 0.0  # nothing is stored for an episode's start
                assert batch.state["h"][k, b].tolist() == [[remembered, remembered]]
    for (k, _), episodes in lanes.items():  # nothing that must still be there is missing
        recent = {step.obs for episode in episodes[-4:] for step in episode}
        assert all(first in seen for first, (owner, *_) in wanted.items() if owner == k and first in recent)
    assert len(seen) == sum(int(x) for x in replay.sizes())
    assert len(seen) > 10


@pytest.mark.filterwarnings("ignore:Episodes of")
def test_observations_behind_the_last_repeat_it():
    run = rl.start(
        "CartPole-v1", rl.DQN(network="gru(4)", sequence_steps=5, n_step=2, learn_after_steps=10, batch_size=4), 2
    )
    run.advance(80)
    replay = run.loop.replay
    batch = replay.draw(50, Streams([0, 1], "replay"), 1.0)
    lane, place = divmod(batch.index, replay.length)
    for w in range(batch.obs.shape[2]):
        held = np.minimum(w, batch.bootstrap.max(2))
        entries = lane * replay.length + (place + held) % replay.length
        assert np.array_equal(batch.obs[:, :, w], replay.obs[""][entries])


def test_without_numba_the_same_windows_come_out(monkeypatch):
    def drawn():
        state = {"h": np.zeros((2, 2, 1, 2), np.float32)}
        replay = rl.SequenceReplay(World(2, 2), 120, 6, 3, 2, 2, GAMMA, 0.6, state)
        played(replay, 90)
        return replay.sample(32, Streams([0, 1], "replay"), 0.4)

    compiled = drawn()
    monkeypatch.setattr(storage, "fast", lambda function, **given: storage.jit.specialize(function, **given))
    mine, theirs = ({**batch._asdict(), **batch.state, "state": None} for batch in (compiled, drawn()))
    for name, part in mine.items():
        assert (part is None and theirs[name] is None) or torch.equal(part, theirs[name]), name


def test_priorities_are_those_of_windows():
    replay = rl.SequenceReplay(World(1, 1), 200, 4, 2, 0, 1, GAMMA, 1.0)
    played(replay, 100)
    streams = Streams([0], "replay")
    for _ in range(40):
        batch = replay.sample(32, streams)
        replay.update_priorities(batch.index, (batch.obs[:, :, 0, 0] > 100).float() * 1e6)
    assert (replay.sample(200, streams).obs[:, :, 0, 0] > 100).float().mean() > 0.99


def test_a_replay_comes_back_from_its_state_to_the_bit():
    def made():
        state = {"h": np.zeros((2, 2, 1, 2), np.float32)}
        return rl.SequenceReplay(World(2, 2), 120, 6, 3, 2, 2, GAMMA, 0.6, state)

    whole, resumed = made(), made()
    played(whole, 90)
    resumed.load_state_dict(whole.state_dict())
    for replay in (whole, resumed):  # the stored states fill up, and are overwritten
        played(replay, 200, seed=1)
    a, b = (replay.sample(64, Streams([0, 1], "replay"), 0.4) for replay in (whole, resumed))
    for mine, theirs in zip(a, b, strict=True):
        same = torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else torch.equal(mine["h"], theirs["h"])
        assert same


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sequence_steps": 0}, "sequence_steps must be a whole number of at least 1"),
        ({"sequence_steps": 10, "every_steps": 6, "burn_in_steps": 5}, "some steps are never learned from"),
        ({"sequence_steps": None, "burn_in_steps": 5}, "a window is a whole episode"),
        ({"sequence_steps": 10, "burn_in_steps": -1}, "burn_in_steps must be a whole number of at least 0"),
    ],
)
def test_windows_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        rl.SequenceReplay(World(1, 1), **settings)


def test_nothing_is_sampled_before_a_window_is_complete():
    replay = rl.SequenceReplay(World(1, 1), 100, 50, 25, 0, 1, GAMMA)
    with pytest.raises(ValueError, match="no window of 50 steps, or end of an episode, is in the replay of some seed"):
        replay.sample(1, Streams([0], "replay"))


def test_episodes_longer_than_a_window_or_than_the_replay_are_said_once():
    windows = rl.SequenceReplay(World(1, 1), 100, 10)
    whole = rl.SequenceReplay(World(1, 1), 100, None)
    for replay, fits, longer, said in (
        (windows, 10, 11, "are longer than the windows of 10"),
        (whole, 102, 200, "do not fit into the replay, which holds whole episodes of at most 102"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            replay.notice(fits)
        with pytest.warns(RuntimeWarning, match=f"Episodes of {longer} steps {said}"):
            replay.notice(longer)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            replay.notice(longer + 1)


@pytest.mark.parametrize(("longest", "kept"), [(22, [5, 22]), (23, [5])])
def test_an_episode_longer_than_the_replay_leaves_no_window(longest, kept):
    """The ring has 23 entries: for 22 steps and the last observation."""
    replay = rl.SequenceReplay(World(1, 1), 20, None, None, 0, 1, GAMMA)
    no, yes = np.zeros((1, 1), bool), np.ones((1, 1), bool)
    found = set()
    for length in (longest, 5):
        for t in range(length):
            obs = np.full((1, 1, 1), t, np.float32)
            over = no if t < length - 1 else yes
            replay.add(obs, np.zeros((1, 1), int), Answer(np.ones((1, 1), np.float32), over, no, obs + 1))
        if len(replay):
            found |= set(replay.sample(20, Streams([0], "replay")).length.flatten().tolist())
    assert sorted(found) == kept
