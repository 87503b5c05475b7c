import gymnasium as gym
import numpy as np
import pytest
from helpers import NoisyWalk

import rl
from rl.core.spaces import SpaceError, StateIndex, space_from_json, space_to_json


def policy_of(env, steps=3000, **settings):
    return rl.train(env, rl.QLearning(), steps=steps, seeds=[4, 9], progress=False, **settings).policy(9)


@pytest.mark.parametrize("env", ["FrozenLake-v1", "Blackjack-v1", NoisyWalk])
def test_predict_takes_one_observation_or_a_batch(env, tmp_path):
    policy = policy_of(env)
    world = gym.make(env) if isinstance(env, str) else env()
    vector = gym.vector.SyncVectorEnv([(lambda: gym.make(env)) if isinstance(env, str) else env] * 3)
    obs, _ = world.reset(seed=0)
    action, state = policy.predict(obs)
    assert action.shape == ()
    assert state is None
    assert world.action_space.contains(action[()])
    many, _ = vector.reset(seed=0)
    actions, _ = policy.predict(many)
    assert actions.shape == (3,)
    assert actions[0] == action
    vector.step(actions)
    policy.save(tmp_path / "p.safetensors")
    again = rl.load_policy(tmp_path / "p.safetensors")
    assert np.array_equal(again.predict(many)[0], actions)
    assert again.observation_space == policy.observation_space
    assert [int(p.predict(obs, deterministic=False)[0]) for p in (policy,) * 20] == [
        int(p.predict(obs, deterministic=False)[0]) for p in (again,) * 20
    ]


def test_the_greedy_action_and_exploration():
    policy = policy_of("FrozenLake-v1")
    assert [int(policy.predict(s)[0]) for s in range(16)] == policy.table.argmax(1).tolist()
    policy.level = 1.0
    assert len({int(policy.predict(0, deterministic=False)[0]) for _ in range(100)}) == 4


def test_a_policy_file_is_small(tmp_path):
    policy_of("FrozenLake-v1").save(tmp_path / "p")
    assert (tmp_path / "p").stat().st_size < 2000


@pytest.mark.parametrize("obs", [16, -1, 3.7, "3", (1, 99), np.array([0, 99]), np.array([[1], [2]]), "x", None, {}])
def test_observations_outside_the_space_are_sentences(obs):
    with pytest.raises(SpaceError, match="is outside its space"):
        policy_of("FrozenLake-v1", 10).predict(obs)


def test_the_best_seed_is_said_aloud(capsys):
    run = rl.train("FrozenLake-v1", rl.QLearning(), steps=20_000, seeds=[4, 9], progress=False)
    best = run.policy("best")
    values = run.exact.value(run.agent.table.argmax(-1))
    assert best.seed == run.seeds[int(values.argmax())]
    assert "best of 2 by exact value" in capsys.readouterr().err


SPACES = [
    gym.spaces.Discrete(5, start=-2),
    gym.spaces.MultiDiscrete([2, 3, 4]),
    gym.spaces.MultiDiscrete([[2, 3], [2, 2]], start=[[1, 5], [0, -3]]),
    gym.spaces.MultiBinary(4),
    gym.spaces.MultiBinary([2, 2]),
    gym.spaces.Tuple(
        [gym.spaces.Discrete(3), gym.spaces.Tuple([gym.spaces.MultiBinary(2), gym.spaces.Discrete(2, start=7)])]
    ),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_observation_of_a_finite_space_has_a_number_of_its_own(space):
    index = StateIndex(space)
    space.seed(0)
    seen = {}
    for _ in range(3000):
        obs = space.sample()
        number = index(obs)
        assert 0 <= number < index.size
        assert seen.setdefault(number, repr(obs)) == repr(obs)
    assert len(seen) == index.size
    assert space_from_json(space_to_json(space)) == space


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (gym.spaces.Box(0, 1), "DiscretizeObservation"),
        (gym.spaces.Box(0, np.inf), "TransformObservation"),
        (gym.spaces.Text(3), "TransformObservation"),
        (gym.spaces.Dict({"a": gym.spaces.Discrete(2), "b": gym.spaces.Box(0, 1)}), r"a part Box\(.* of .*Transform"),
        (gym.spaces.Box(-(2**63), 2**63 - 1, (2,), np.int64), "without tight bounds"),
    ],
)
def test_other_spaces_are_refused_with_the_way_out(space, words):
    with pytest.raises(SpaceError, match=words):
        StateIndex(space)


def test_a_space_too_large_for_a_table():
    with pytest.raises(SpaceError, match="at most 10,000,000"):
        StateIndex(gym.spaces.MultiDiscrete([1000] * 5))


@pytest.mark.parametrize(
    "data", [{}, None, {"type": "Box"}, {"type": "Discrete", "n": -1, "start": 0}, {"type": "Tuple", "spaces": 3}]
)
def test_damaged_descriptions_of_spaces(data):
    with pytest.raises(SpaceError, match="does not describe a space"):
        space_from_json(data)


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Box(-np.inf, 3.0, (2, 3)),
        gym.spaces.Box(np.array([-1.0, -np.inf]), np.array([np.inf, 2.0]), dtype=np.float64),
        gym.spaces.Box(0, 255, (4, 4, 3), np.uint8),
        gym.spaces.Dict({"a": gym.spaces.Discrete(3, start=-1), "b": gym.spaces.Tuple([gym.spaces.MultiBinary(2)])}),
    ],
)
def test_every_space_goes_through_json(space):
    import json

    assert space_from_json(json.loads(json.dumps(space_to_json(space), allow_nan=False))) == space


def test_the_policy_of_a_network_tells_what_it_cannot_read():
    run = rl.start("CartPole-v1", rl.DQN(), [4, 9])
    policy = run.policy(9)
    assert policy.seed == 9
    assert policy.predict(np.zeros(4), state="s")[1] == "s"
    assert policy.predict(np.zeros((5, 4)), deterministic=False)[0].shape == (5,)
    for wrong in (np.zeros(5), np.zeros((2, 2, 4)), "x", None, {"a": np.zeros(4)}, np.full(4, np.nan)):
        with pytest.raises(SpaceError):
            policy.predict(wrong)
    lake = rl.start("FrozenLake-v1", rl.DQN()).policy()
    assert lake.predict(15)[0].shape == ()
    for wrong in (16, -1, np.array([3, 99])):
        with pytest.raises(SpaceError, match="is neither an observation of"):
            lake.predict(wrong)
    weights = {name: w[0].numpy() * np.nan for name, w in run.agent.online.state_dict().items()}
    with pytest.raises(ValueError, match="NaN or infinite"):
        rl.NetworkPolicy(run.agent_config, weights, *run.spaces)
