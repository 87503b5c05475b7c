"""What memory is worth, against numbers worked out by hand and against naive searches."""

import itertools

import gymnasium as gym
import numpy as np
import pytest

import envs
from envs.memory import HiddenStates
from envs.model.model import Model
from envs.model.partial import looked_at
from envs.views import Window
from rl import belief, planning


def partial_of(name, **kwargs):
    return envs.read_partial(gym.make(f"envs/{name}", **kwargs))


# (world, settings, best with memory, best without): the arithmetic is that of the comments.
BY_HAND = [
    ("TMaze-v0", {"length": 1}, 4.0, 1.95),  # (4 - 0.1) / 2: half of the turns are right
    ("TMaze-v0", {"length": 6}, 4.0, 1.95),
    ("TMaze-v0", {"length": 6, "max_episode_steps": 7}, 4.0, 1.95),  # just enough steps
    ("TMaze-v0", {"length": 6, "max_episode_steps": 6}, 0.0, 0.0),  # too few to turn
    ("MemoryChain-v0", {"length": 1}, 1.0, 1.0),  # the bit is still seen
    ("MemoryChain-v0", {"length": 2}, 1.0, 0.0),
    ("MemoryChain-v0", {"length": 12}, 1.0, 0.0),
    # 6 cards; of the 5 others 3 have the other suit: 3/5 - 2/5.
    ("RepeatPrevious-v0", {"k": 2, "suits": 2, "copies": 3}, 1.0, 0.2),
    # 6 cards; of the 5 others 2 have one other suit: 2/5 - 3/5.
    ("RepeatPrevious-v0", {"k": 3, "suits": 3, "copies": 2}, 1.0, -0.2),
    ("RepeatPrevious-v0", {"k": 1, "suits": 2, "copies": 3}, 1.0, 1.0),  # the card that is seen
    # 5 steps; the first is right, at the other 4 the card that is seen has the first one's suit with probability 2/5.
    ("RepeatFirst-v0", {"suits": 2, "copies": 3}, 1.0, (1 + 4 * (2 / 5 - 3 / 5)) / 5),
    # 5 steps; likewise with probability 1/5.
    ("RepeatFirst-v0", {"suits": 3, "copies": 2}, 1.0, (1 + 4 * (1 / 5 - 4 / 5)) / 5),
]


@pytest.mark.parametrize(("name", "kwargs", "best", "memoryless"), BY_HAND)
def test_what_memory_is_worth_by_hand(name, kwargs, best, memoryless):
    worth = belief.worth_of_memory(partial_of(name, **kwargs))
    assert worth.best == pytest.approx(best, abs=1e-12)
    assert worth.memoryless.value == pytest.approx(memoryless, abs=1e-12)
    assert worth.memoryless.proven
    if "max_episode_steps" not in kwargs:
        assert gym.make(f"envs/{name}", **kwargs).unwrapped.exact_returns() == pytest.approx((best, memoryless))


def test_decks_too_large_for_planning_by_hand():
    # 52 cards. The k-th last card is one of 51 others, 13 of them of one other suit.
    assert gym.make("envs/RepeatPrevious-v0").unwrapped.exact_returns() == pytest.approx((1.0, 13 / 51 - 38 / 51))
    # 51 steps, the first of which is right; at 50 the card that is seen has the suit with probability 12/51.
    deck = gym.make("envs/RepeatFirst-v0").unwrapped
    assert deck.exact_returns() == pytest.approx((1.0, (1 + 50 * (12 / 51 - 39 / 51)) / 51))


LAKE = ["GFSFHFSFG"]  # two starts that look alike: from one the goal is to the left, from the other to the right


def test_a_lake_whose_starts_look_alike_by_hand():
    """With memory: go left, and come back where the hole is seen beside. Without, one of the two starts is lost."""
    partial = partial_of("FrozenLake-Window-v1", desc=LAKE, is_slippery=False)
    assert (partial.model.states, partial.observations) == (9, 8)  # the starts look alike
    worth = belief.worth_of_memory(partial)
    assert worth.best == pytest.approx(1.0)
    assert (worth.memoryless.value, worth.memoryless.proven) == (pytest.approx(0.5), True)


def test_where_every_square_looks_different_memory_is_worth_the_time_alone():
    """On the 4x4 map the best with memory is the best of FrozenLake itself, and a map of windows a policy of its states."""
    lake = envs.read(gym.make("FrozenLake-v1"))
    worth = belief.worth_of_memory(partial_of("FrozenLake-Window-v1"))
    assert worth.best == pytest.approx(planning.at_start(lake, planning.optimum_within(lake, 100).v[-1]), abs=1e-10)
    solved = planning.value_iteration(lake, 1.0).policy
    known = planning.at_start(lake, planning.evaluate_policy(lake, solved, 1.0, 100))
    assert worth.memoryless.proven
    assert float(known) - 1e-12 <= worth.memoryless.value <= worth.best


class Tiger(HiddenStates):
    """Kaelbling, Littman and Cassandra (1998), section 5.1, where opening a door ends the episode.

    State: (the tiger's side, what was heard last, 2 at first). Actions: 0, 1 open that door, 2 listen, which is right in 85 of
    100 cases.
    """

    observation_space, action_space = gym.spaces.Discrete(3), gym.spaces.Discrete(3)

    def first(self):
        return [(0.5, (0, 2)), (0.5, (1, 2))]

    def outcomes(self, state, action):
        tiger, _ = state
        if action < 2:
            return [(1.0, state, -100.0 if action == tiger else 10.0, True)]
        return [(0.85, (tiger, tiger), -1.0, False), (0.15, (tiger, 1 - tiger), -1.0, False)]

    def seen(self, state):
        return state[1]


def test_the_tiger_by_hand():
    partial = Tiger().partial_model()
    # With 3 steps: listen twice, open if both agree (.85^2 and .15^2), else listen once more.
    thrice = -2 + 0.85**2 * 10 - 0.15**2 * 100 - 2 * 0.85 * 0.15
    for horizon, value in ((1, -1.0), (2, -2.0), (3, thrice)):
        assert belief.best_return(partial, horizon, most=200) == pytest.approx(value)
        # Who forgets may open what one listening allows (8.5 - 15 - 1 = -7.5), or listen to the end.
        found = belief.best_memoryless(partial, horizon)
        assert (found.value, found.proven) == (pytest.approx(-float(horizon)), True)
    assert belief.best_memoryless(partial, 9).value == pytest.approx(-7.5)


def random_partial(seed):
    """Nine hidden states that look like four, three actions, and now and then an end; six steps."""
    rng = np.random.default_rng(seed)
    rows = [
        [
            [
                (float(p), int(s2), float(rng.integers(-3, 4)), bool(rng.random() < 0.15))
                for p, s2 in zip(rng.dirichlet(np.ones(2)), rng.choice(9, 2, replace=False), strict=True)
            ]
            for _ in range(3)
        ]
        for _ in range(9)
    ]
    return looked_at(Model.of("random", rows, rng.dirichlet(np.ones(9)), 6), [*range(4), *rng.integers(4, size=5)])


def naive_best(partial, weights, steps):
    """The best return by trying every plan: weights [S], how likely each state is together with what was seen so far."""
    if steps == 0 or not weights.any():
        return 0.0
    model, best = partial.model, -np.inf
    for a in range(model.actions):
        joint = weights[:, None] * model.probability[:, a]
        following = np.zeros(model.states)
        np.add.at(following, model.next_state[:, a], np.where(model.terminated[:, a], 0.0, joint))
        seen = [np.where(partial.observation == o, following, 0.0) for o in range(partial.observations)]
        best = max(best, (joint * model.reward[:, a]).sum() + sum(naive_best(partial, w, steps - 1) for w in seen))
    return best


@pytest.mark.parametrize("seed", range(4))
def test_planning_over_beliefs_is_trying_every_plan(seed):
    partial = random_partial(seed)
    starts = [np.where(partial.observation == o, partial.model.start, 0.0) for o in range(partial.observations)]
    for horizon in (1, 3):
        naive = sum(naive_best(partial, weights, horizon) for weights in starts)
        assert belief.best_return(partial, horizon) == pytest.approx(naive, abs=1e-9)


@pytest.mark.parametrize("seed", [*range(8), 12, 22, 35])
def test_branch_and_bound_finds_the_best_of_all_maps(seed):
    """In the last three it is not among the first candidate's neighbors."""
    partial = random_partial(seed)
    maps = np.array(list(itertools.product(range(3), repeat=4)))
    best = belief.memoryless_returns(partial, maps).max()
    found = belief.best_memoryless(partial)
    assert found.proven
    assert found.value == pytest.approx(best, abs=1e-9)
    assert belief.memoryless_returns(partial, found.policy) == pytest.approx(found.value, abs=1e-12)
    assert (belief.best_memoryless(partial, seconds=0).value < best - 0.01) == (seed > 10)


def test_without_time_it_is_the_best_that_was_found():
    found = belief.best_memoryless(partial_of("TMaze-v0", length=2), seconds=0)
    assert (found.value, found.proven) == (pytest.approx(1.95), False)


def test_more_beliefs_than_allowed_are_refused():
    maze = partial_of("TMaze-v0", length=6)
    assert belief.belief_model(maze, most=14).states == 14  # the sign is known from the first step on
    with pytest.raises(belief.TooManyBeliefs, match=r"TMaze-v0 has more than 13 reachable beliefs"):
        belief.belief_model(maze, most=13)
    with pytest.raises(ValueError, match="most must be a whole number"):
        belief.belief_model(maze, most=0)


def test_too_many_beliefs_leave_the_best_open(monkeypatch):
    maze = partial_of("TMaze-v0", length=2)

    def too_many(partial, horizon):
        raise belief.TooManyBeliefs("more than allowed")

    monkeypatch.setattr(belief, "best_return", too_many)
    worth = belief.worth_of_memory(maze)
    assert (worth.best, worth.memoryless.proven) == (None, True)


def test_a_map_is_worth_what_it_brings():
    """The mean return of episodes, against the exact one."""
    env = gym.make("envs/RepeatFirst-v0", suits=2, copies=3)
    partial = envs.read_partial(env)
    policy = np.array([1, 0])[[int(o) for o in partial.seen]]
    total, env = 0.0, gym.make("envs/RepeatFirst-v0", suits=2, copies=3)
    obs, _ = env.reset(seed=0)
    for _ in range(1500 * 5):
        obs, reward, over, _, _ = env.step(1 - obs)
        total += reward
        if over:
            obs, _ = env.reset()
    exact = float(belief.memoryless_returns(partial, policy))
    assert exact == pytest.approx((-1 + 4 * 0.2) / 5)  # wrong at first, then right in 3 of 5 cases
    assert total / 1500 == pytest.approx(exact, abs=0.05)  # four standard errors


def test_windows_of_a_lake_that_is_wrapped_by_hand_keep_its_limit():
    assert envs.read_partial(Window(gym.make("FrozenLake-v1"))).model.limit == 100
