"""Saving, loading, going on; and what a hostile or damaged file cannot do."""

import itertools
import json

import gymnasium as gym
import numpy as np
import pytest
from daily import daily
from helpers import NoisyWalk

import envs
import rl
from supervised import checkpoint


def started(env="FrozenLake-v1", steps=1500, **settings):
    run = rl.start(env, rl.QLearning(), [2, 5], steps=5000, **settings)
    run.advance(steps)
    return run


WAYS = list(itertools.product((1, 3), (0, 1, 777), ("FrozenLake-v1", "Taxi-v4", "Blackjack-v1", NoisyWalk)))


# Every environment stops at every step and has either number of rows in every run of the tests.
@pytest.mark.parametrize(("envs_per_seed", "stop", "env"), daily(WAYS, [*WAYS[:12:2], *WAYS[13::2]]))
def test_a_loaded_run_goes_on_bit_for_bit(env, stop, envs_per_seed, tmp_path):
    run = rl.start(env, rl.QLearning(), [2, 5], steps=5000, envs_per_seed=envs_per_seed)
    if stop:
        run.advance(stop)
    run.save(tmp_path / "run.safetensors")
    again = rl.load(tmp_path / "run.safetensors", env=None if isinstance(env, str) else env)
    assert again.step == run.step
    assert again.seeds == (2, 5)
    run.advance(1000), again.advance(1000)
    assert run.agent.table.tobytes() == again.agent.table.tobytes()
    assert run.loop.streams.state_dict() == again.loop.streams.state_dict()
    for name, array in run.loop.actor._asdict().items():
        assert array.tobytes() == getattr(again.loop.actor, name).tobytes(), name


def test_settings_come_back(tmp_path):
    agent = rl.QLearning(gamma=0.9, explore=rl.explore.Boltzmann(0.5), initial_q=(0.0, 1.0))
    run = rl.start("FrozenLake-v1", agent, 3, steps=123, env_kwargs={"map_name": "8x8", "is_slippery": False})
    run.save(tmp_path / "r")
    again = rl.load(tmp_path / "r")
    assert again.agent_config == agent
    assert again.horizon_steps == 123
    assert again.model.same_as(run.model)


def test_a_function_is_handed_over_again(tmp_path):
    started(NoisyWalk, 10).save(tmp_path / "r")
    with pytest.raises(rl.CheckpointError, match=r"NoisyWalk.*env="):
        rl.load(tmp_path / "r")
    assert rl.load(tmp_path / "r", env=NoisyWalk).step == 10


def test_another_environment_is_refused(tmp_path):
    started().save(tmp_path / "r")
    for other, kwargs in (("FrozenLake8x8-v1", None), ("FrozenLake-v1", {"is_slippery": False}), (NoisyWalk, None)):
        with pytest.raises(rl.CheckpointError, match="another environment"):
            rl.load(tmp_path / "r", env=other, env_kwargs=kwargs)


def test_replayed_actions_that_the_environment_refuses(tmp_path):
    path = tmp_path / "run.safetensors"
    run = rl.start("Blackjack-v1", rl.QLearning(), 2, steps=100)
    run.advance(1)
    while not run.loop.executor.members[0][0].actions:
        run.advance(1)
    run.save(path)
    rewrite(path, change_state=lambda s: s["loop"]["walk"]["members"][0]["actions"].__setitem__(0, 77))
    with pytest.raises(rl.CheckpointError, match="damaged"):
        rl.load(path)


def rewrite(path, change_meta=None, change_state=None):
    state, meta = checkpoint.load(path)
    if change_state:
        change_state(state)
    if change_meta:
        change_meta(meta)
    checkpoint.save(path, state, meta, keep=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["agent"]["q"].__setitem__((0, 0, 0), np.nan),
        lambda s: s["agent"].__setitem__("q", s["agent"]["q"][:1]),
        lambda s: s["agent"].__setitem__("q", s["agent"]["q"].astype(np.float32)),
        lambda s: s["agent"].pop("visits"),
        lambda s: s["agent"]["visits"].__setitem__((0, 0, 0), -1),
        lambda s: s["loop"]["actor"]["state"].__setitem__((0, 0), 99),
        lambda s: s["loop"]["actor"]["counters"].__setitem__((0, 0), -5),
        lambda s: s["loop"]["actor"].pop("total"),
        lambda s: s["loop"]["walk"]["state"].__setitem__((0, 0), 7),
        lambda s: s["loop"]["walk"].__setitem__("kind", "dreams"),
        lambda s: s["loop"].__setitem__("streams", []),
        lambda s: s["loop"]["walk"].__setitem__("generators", [[{}], [{}]]),
        lambda s: s.pop("regret"),
        lambda s: s.__setitem__("loop", 3),
    ],
)
def test_damaged_state_is_refused_and_the_one_before_offered(change, tmp_path):
    path = tmp_path / "run.safetensors"
    run = started()
    run.save(path), run.save(path)
    rewrite(path, change_state=change)
    with pytest.raises(rl.CheckpointError, match=r"damaged.*The previous one is intact"):
        rl.load(path)
    assert rl.load(checkpoint.previous(path)).step == run.step


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("config"),
        lambda m: m["config"].__setitem__("agent", {"type": "os.system", "command": "false"}),
        lambda m: m["config"].__setitem__("agent", {"type": "Linear", "start": 1.0, "end": 0.0}),
        lambda m: m["config"]["agent"].__setitem__("gamma", 7),
        lambda m: m["config"]["agent"].__setitem__("unheard_of", 7),
        lambda m: m["config"].__setitem__("seeds", [1, 1]),
        lambda m: m["config"].__setitem__("seeds", "all"),
        lambda m: m["config"].__setitem__("envs_per_seed", "x"),
        lambda m: m.__setitem__("horizon_steps", -1),
        lambda m: m.__setitem__("cadence", 3),
        lambda m: m.__setitem__("kind", "cake"),
        lambda m: m["config"].__setitem__("env", {"id": "hostile_module:X-v0", "kwargs": {}}),
    ],
)
def test_damaged_headers_are_refused(change, tmp_path):
    path = tmp_path / "run.safetensors"
    started().save(path)
    rewrite(path, change_meta=change)
    with pytest.raises((rl.CheckpointError, envs.EnvError)):
        rl.load(path)


def test_nothing_in_a_file_is_run(tmp_path, monkeypatch):
    (tmp_path / "hostile_module.py").write_text("raise SystemExit('it was run')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "run.safetensors"
    started().save(path)
    rewrite(path, lambda m: m["config"].__setitem__("env", {"id": "hostile_module:X-v0", "kwargs": {}}))
    with pytest.raises(envs.EnvError, match="Loading imports nothing"):
        rl.load(path)
    raw = path.read_bytes()
    assert b"pickle" not in raw
    json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])


def test_a_policy_is_no_run_and_a_run_no_policy(tmp_path):
    run = started()
    run.save(tmp_path / "r"), run.policy().save(tmp_path / "p")
    with pytest.raises(rl.CheckpointError, match="not a run"):
        rl.load(tmp_path / "p")
    with pytest.raises(rl.CheckpointError, match="not a policy"):
        rl.load_policy(tmp_path / "r")


def test_q_of_states():
    run = started()
    states = np.arange(16)[None].repeat(2, 0)
    q = run.agent.q(states)
    assert q.shape == (2, 16, 4)
    assert np.array_equal(q, run.agent.table)


def test_evaluations():
    run = started(steps=5000)
    evaluation = run.evaluate(episodes=7)
    assert evaluation.returns.shape == evaluation.lengths.shape == (2, 7)
    assert evaluation.step_limit == 100
    assert evaluation.mean == evaluation.returns.mean()
    low, high = evaluation.interval(0.95)
    assert low <= evaluation.mean <= high
    assert np.array_equal(run.evaluate(7).returns, evaluation.returns)


def test_evaluation_by_the_model_and_by_gymnasium_are_the_same(plain_loop):
    fast = started("Taxi-v4", 5000)
    plain_loop()
    plain = started("Taxi-v4", 5000)
    one, two = fast.evaluate(5), plain.evaluate(5)
    assert np.array_equal(one.returns, two.returns)
    assert np.array_equal(one.lengths, two.lengths)
    assert one.step_limit == two.step_limit == 200


def test_without_a_time_limit_evaluation_is_capped_and_says_so():
    run = started("CliffWalking-v1", 10)
    evaluation = run.evaluate(2)
    assert evaluation.step_limit == 1000
    assert evaluation.lengths.max() == 1000
    assert "cut after 1,000 steps" in str(evaluation)
    assert run.evaluate(2, step_limit=50).lengths.max() == 50


class Around(gym.vector.VectorWrapper):
    """A wrapper that nobody knows: it might alter anything."""


def test_a_vector_environment_is_evaluated_in_single_ones_where_they_can_be_made():
    assert started(gym.vector.SyncVectorEnv([NoisyWalk] * 2), 50).evaluate(2).returns.shape == (2, 2)
    run = started(Around(gym.vector.SyncVectorEnv([NoisyWalk] * 2)), 50)
    with pytest.raises(envs.EnvError, match="it is a VectorEnv in Around, so no single environment"):
        run.evaluate(2)
    made = gym.make_vec("FrozenLake-v1", 2, vectorization_mode="sync")
    assert started(made, 50).evaluate(2).returns.shape == (2, 2)


def test_random_maps_that_differ_are_refused():
    with pytest.raises(envs.EnvError, match="a different environment each time"):
        rl.start("FrozenLake-v1", rl.QLearning(), 2, env_kwargs={"map_name": None})


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda r: r.advance(0), "of at least 1"),
        (lambda r: r.advance(2.5), "of at least 1"),
        (lambda r: r.evaluate(0), "episodes must be a whole number"),
        (lambda r: r.evaluate(5, step_limit=-1), "step_limit must be a whole number"),
        (lambda r: r.policy(99), "seeds 2, 5; 99 is not one"),
        (lambda r: r.policy("worst"), "is not one of them"),
        (lambda r: r.evaluate(2).interval(95), "must lie in"),
    ],
)
def test_wrong_calls_are_sentences(act, words):
    with pytest.raises(ValueError, match=words):
        act(started(steps=10))
