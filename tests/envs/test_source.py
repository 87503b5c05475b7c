import gymnasium as gym
import pytest
from helpers import Counting

import envs
from envs.source import from_description, source


def test_an_unknown_id_names_the_nearest():
    with pytest.raises(envs.EnvError, match=r"FrozenLak-v1.*Did you mean FrozenLake"):
        source("FrozenLak-v1")
    with pytest.raises(envs.EnvError, match="has no environment"):
        source("nosuchpackage:Foo-v0")


def test_all_kinds_make_environments():
    for kind in ("FrozenLake-v1", gym.spec("FrozenLake-v1"), lambda: gym.make("FrozenLake-v1")):
        assert source(kind).make().observation_space.n == 16
    assert source(gym.make_vec("FrozenLake-v1", 2)).make().observation_space.n == 16


def test_settings_reach_the_environment():
    assert source("FrozenLake-v1", {"map_name": "8x8"}).make().observation_space.n == 64
    with pytest.raises(envs.EnvError, match="could not be created"):
        source("FrozenLake-v1", {"nonsense": 1}).make()
    with pytest.raises(envs.EnvError, match="require an id"):
        source(Counting, {"length": 3})


def test_what_is_no_environment():
    with pytest.raises(envs.EnvError, match="cannot serve several seeds"):
        source(gym.make("FrozenLake-v1"))
    with pytest.raises(envs.EnvError, match="is not an environment"):
        source(3)
    with pytest.raises(envs.EnvError, match="must return a gymnasium"):
        source(lambda: 3).make()
    env = gym.make("FrozenLake-v1")
    where = source(lambda: env)
    where.make()
    with pytest.raises(envs.EnvError, match="same environment twice"):
        where.make()


def test_a_file_imports_nothing(tmp_path, monkeypatch):
    (tmp_path / "hostile.py").write_text("raise SystemExit('run!')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(envs.EnvError, match="Loading imports nothing"):
        from_description({"id": "hostile:Foo-v0", "kwargs": {}})
    with pytest.raises(envs.EnvError, match="damaged"):
        from_description({"id": 3})
