"""The loop, its curves, and everything that can be asked of `rl.train`."""

import pytest
from helpers import NoisyWalk, curves

import envs
import rl
from supervised import checkpoint
from supervised.statistics import band


def train(env="FrozenLake-v1", agent=None, steps=2000, seeds=2, **settings):
    if isinstance(steps, int):
        settings = {"save_every_steps": max(steps // 2, 1), **settings}
    return rl.train(env, agent or rl.QLearning(), steps=steps, seeds=seeds, progress=False, **settings)


def test_the_curves_are_those_named_and_lie_on_the_grid(tmp_path, drawn):
    run = rl.train("FrozenLake-v1", rl.QLearning(), steps=4000, seeds=2, logdir=tmp_path, progress=False)
    found = curves(tmp_path)
    grid = list(range(40, 4001, 40))
    for tag in ("rollout/exploration_rate", "train/td_error", "eval/mean_reward", "eval/optimality_gap", "eval/regret"):
        assert [step for step, _ in found[".", tag]] == grid, tag
        assert [step for step, _ in found["seed_1", tag]] == grid, tag
    for tag in (
        "eval/success_rate",
        "eval/q_error",
        "eval/stationary_gap",
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
    ):
        assert (".", tag) in found
    for tag in ("eval/mean_reward", "eval/optimality_gap", "eval/success_rate", "rollout/ep_rew_mean"):
        assert all((".", name) in found for name in band(tag))
    last = {tag: found[".", tag][-1][1] for tag in ("eval/mean_reward", "eval/optimality_gap")}
    exact = run.exact.value(run.agent.table.argmax(-1)).mean()
    assert last["eval/mean_reward"] == pytest.approx(exact, abs=1e-6)
    assert last["eval/optimality_gap"] == pytest.approx(run.exact.optimal_return - exact, abs=1e-6)
    gaps = [v for _, v in found["seed_0", "eval/optimality_gap"]]
    assert found["seed_0", "eval/regret"][-1][1] == pytest.approx(sum(gaps), rel=1e-5)
    assert [step for step, _ in found[".", "table/policy"]] == list(range(400, 4001, 400))


def test_the_rollout_curves_are_the_last_hundred_episodes(tmp_path):
    run = train("envs/OneStep-v0", steps=300, logdir=tmp_path)
    assert run.episodes()["rollout/ep_rew_mean"].tolist() == [1.0, 1.0]
    run = train("FrozenLake-v1", steps=20_000, seeds=1)
    ended = int(run.loop.actor.counters[0, 1])
    assert ended > 100
    assert run.episodes()["rollout/ep_len_mean"].item() == run.loop.actor.lengths[0].mean()


def test_many_seeds_show_the_aggregate_alone(tmp_path):
    train(seeds=17, steps=200, logdir=tmp_path)
    assert {name for name, _ in curves(tmp_path)} == {"."}


def test_without_a_model_the_curves_come_from_episodes(tmp_path):
    train("Blackjack-v1", steps=400, logdir=tmp_path)
    found = curves(tmp_path)
    assert [s for s, _ in found[".", "eval/mean_reward"]] == list(range(20, 401, 20))
    assert (".", "eval/optimality_gap") not in found


def test_cadences(tmp_path):
    settings = {"log_every_steps": 300, "evaluate_every_steps": 500, "save_every_steps": 700}
    train(steps=2000, logdir=tmp_path, **settings)
    found = curves(tmp_path)
    assert [s for s, _ in found[".", "train/td_error"]] == [300, 600, 900, 1200, 1500, 1800]
    assert [s for s, _ in found[".", "eval/mean_reward"]] == [500, 1000, 1500, 2000]
    assert [s for s, _ in found[".", "table/policy"]] == [700, 1400]


@pytest.mark.parametrize("env", ["FrozenLake-v1", NoisyWalk])
@pytest.mark.parametrize("first", [1, 990, 1000, 1234])
def test_resumed_equals_uninterrupted(env, first, tmp_path):
    """Stopped on and off the grid, by finishing a shorter run whose horizon is that of the longer one."""
    whole = train(env, steps=2000, logdir=tmp_path / "whole")
    part = rl.start(env, rl.QLearning(), 2, steps=2000)
    rl.train(part, steps=first, logdir=tmp_path / "part", save_every_steps=1000, progress=False)
    part = train(env, steps=2000, logdir=tmp_path / "part", resume=True)
    assert part.step == 2000
    assert part.agent.table.tobytes() == whole.agent.table.tobytes()
    assert part.agent.visits.tobytes() == whole.agent.visits.tobytes()
    assert part.loop.streams.state_dict() == whole.loop.streams.state_dict()
    assert curves(tmp_path / "part") == curves(tmp_path / "whole")


def test_a_run_goes_on_in_place(tmp_path):
    run = train(steps=1000, logdir=tmp_path)
    assert rl.train(run, steps=2500, progress=False) is run
    assert run.step == 2500
    assert run.horizon_steps == 1000  # schedules keep the horizon they were made with
    assert [s for s, _ in curves(tmp_path)[".", "train/td_error"]] == list(range(10, 2501, 10))
    assert rl.load(tmp_path / "run.safetensors").step == 2500
    rl.train(run, steps=100, progress=False)
    assert run.step == 2500


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    before = train(logdir=tmp_path)
    after = train(logdir=tmp_path, resume=True)
    assert after.step == before.step
    assert after.agent.table.tobytes() == before.agent.table.tobytes()


def test_resume_starts_where_there_is_nothing(tmp_path):
    assert train(logdir=tmp_path / "new", resume=True).step == 2000


def test_resume_takes_the_newest_whole_checkpoint(tmp_path):
    whole = train(steps=2000, logdir=tmp_path / "whole")
    train(steps=2000, logdir=tmp_path / "cut")
    path = tmp_path / "cut" / "run.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    again = train(steps=2000, logdir=tmp_path / "cut", resume=True)
    assert again.agent.table.tobytes() == whole.agent.table.tobytes()
    assert curves(tmp_path / "cut") == curves(tmp_path / "whole")
    for name in (path, checkpoint.previous(path)):
        name.write_bytes(b"x")
    with pytest.raises(rl.CheckpointError, match="not an intact checkpoint"):
        train(steps=2000, logdir=tmp_path / "cut", resume=True)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"agent": rl.QLearning(gamma=0.5)}, r"agent.gamma was 0.99 and is now 0.5"),
        ({"seeds": 3}, r"seeds was \[0, 1\] and is now \[0, 1, 2\]"),
        ({"envs_per_seed": 2}, "envs_per_seed was 1 and is now 2"),
        ({"env": "FrozenLake8x8-v1"}, r"env.id was 'FrozenLake-v1' and is now 'FrozenLake8x8-v1'"),
        ({"env_kwargs": {"is_slippery": False}}, "env.kwargs.is_slippery was None and is now False"),
        ({"agent": rl.QLearning(explore=rl.explore.EpsilonGreedy(0.1))}, "agent.explore.epsilon was"),
    ],
)
def test_resume_with_changed_settings_names_them(changed, words, tmp_path):
    train(steps=100, logdir=tmp_path)
    with pytest.raises(rl.CheckpointError, match=words):
        train(**{"steps": 100, "logdir": tmp_path, "resume": True, **changed})


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    train(steps=100, logdir=tmp_path)
    with checkpoint.alone_in(tmp_path), pytest.raises(rl.CheckpointError, match="Another process is training"):
        train(steps=200, logdir=tmp_path, resume=True)
    assert train(steps=200, logdir=tmp_path, resume=True).step == 200


def test_steps_and_cadences_may_change(tmp_path, forked_workers):
    train(steps=100, logdir=tmp_path)
    assert train(steps=300, logdir=tmp_path, resume=True, log_every_steps=50, workers=2).step == 300


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    train(steps=100, logdir=tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(rl.CheckpointError, match="already contains a run"):
        train(steps=100, logdir=tmp_path / "run")
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before
    (tmp_path / "run" / "run.safetensors").unlink(), (tmp_path / "run" / "run.safetensors.previous").unlink()
    with pytest.raises(rl.CheckpointError, match="other TensorBoard curves"):
        train(steps=100, logdir=tmp_path / "run", resume=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(rl.CheckpointError, match="is a file"):
        train(steps=100, logdir=tmp_path / "file")
    with pytest.raises(rl.CheckpointError, match="cannot be created"):
        train(steps=100, logdir=tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, not 0"),
        ({"steps": -5}, "not -5"),
        ({"steps": 2.5}, "not 2.5"),
        ({"steps": None}, "steps is missing"),
        ({"logdir": ""}, "logdir must be the path of a folder"),
        ({"logdir": 3}, "logdir must be the path of a folder"),
        ({"env_kwargs": [1]}, "env_kwargs must be a dict"),
        ({"seeds": 10**9}, "At most 100,000 seeds"),
        ({"steps": "10"}, "not '10'"),
        ({"steps": float("nan")}, "not nan"),
        ({"seeds": [1, 1]}, "more than once"),
        ({"log_every_steps": 0}, "log_every_steps must be a whole number"),
        ({"envs_per_seed": 0}, "envs_per_seed must be a whole number"),
        ({"workers": 0}, "workers must be a whole number"),
        ({"resume": True}, "resume=True needs logdir"),
        ({"device": "cuda"}, "runs on the CPU"),
        ({"env": "CartPole-v1"}, "CartPole-v1 has the observation space Box.*TransformObservation"),
        ({"env": "Pendulum-v1"}, "Pendulum-v1 has"),
        ({"env": "FrozenLake-v9"}, "has no environment 'FrozenLake-v9'"),
        ({"env": "Frozenlake"}, "Did you mean FrozenLake"),
        ({"env_kwargs": {"desc": ["FFF", "FFG"]}}, "no start"),
        ({"env_kwargs": {"desc": ["SFF", "FFF"]}}, "no goal"),
        ({"env_kwargs": {"desc": ["SF", "FFG"]}}, "could not be created"),
        ({"agent": rl.QLearning}, "The agent must be a config"),
        ({"agent": "q-learning"}, "The agent must be a config"),
    ],
)
def test_bad_input_is_a_sentence_before_any_file(settings, words, tmp_path):
    folder = tmp_path / "run"
    given = {"logdir": folder, **settings} if "resume" not in settings else settings
    with pytest.raises((ValueError, TypeError, envs.EnvError), match=words):
        train(**given)
    assert not folder.exists()


class Breaks(NoisyWalk):
    def __init__(self, how):
        super().__init__()
        self.how, self.count = how, 0

    def step(self, action):
        obs, reward, *rest = super().step(action)
        self.count += 1
        if self.count == 30:
            if self.how == "reward":
                reward = float("nan")
            elif self.how == "obs":
                obs = 77
        return obs, reward, *rest


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("reward", r"seed 0, episode \d+, step \d+\): it returned the reward nan"),
        ("obs", "observation 77, which is outside"),
    ],
)
def test_an_environment_that_breaks_is_told_with_its_place(how, words, tmp_path):
    def broken():
        return Breaks(how)

    with pytest.raises(envs.EnvError, match=words) as told:
        train(broken, steps=500, logdir=tmp_path, evaluate_every_steps=1000)
    assert "broken" in str(told.value) or "Breaks" in str(told.value)
    assert "eed 0" in str(told.value)
    assert rl.load(tmp_path / "run.safetensors", env=broken).step <= 30


def test_a_run_takes_steps_alone():
    run = rl.start("FrozenLake-v1", rl.QLearning(), 1)
    with pytest.raises(ValueError, match="already has its environment, agent and seeds"):
        rl.train(run, rl.QLearning(), steps=10)
    with pytest.raises(ValueError, match="The agent is missing"):
        rl.train("FrozenLake-v1", steps=10)


def test_every_kind_of_environment_trains():
    import gymnasium as gym

    for env in (gym.spec("FrozenLake-v1"), lambda: gym.make("FrozenLake-v1"), gym.make_vec("FrozenLake-v1", 2)):
        run = train(env, steps=100)
        assert run.step == 100
        assert run.agent.visits.sum() == 200


def test_the_readme_loop():
    run = rl.start("FrozenLake-v1", rl.QLearning(), seeds=8)
    while run.step < 3000:
        metrics = run.advance()
    assert run.step == 3000
    assert metrics["train/td_error"].shape == (8,)
    assert metrics["train/q_mean"].isfinite().all()


class Odd(NoisyWalk):
    """Answers in a form that Gymnasium does not allow."""

    def __init__(self, reset=(0, {}), obs=0, reward=0.0):
        super().__init__()
        self.answers = reset, obs, reward

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.answers[0]

    def step(self, action):
        return self.answers[1], self.answers[2], False, False, {}


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ({"reset": 0}, "reset must return"),
        ({"obs": 1.7}, "observation 1.7, which is outside"),
        ({"obs": None}, "observation None, which is outside"),
        ({"reward": "x"}, "returned the reward 'x'"),
        ({"reward": [1.0]}, r"returned the reward \[1.0\]"),
    ],
)
def test_odd_answers_are_sentences(odd, words):
    with pytest.raises(envs.EnvError, match=words):
        train(lambda: Odd(**odd), steps=10)
