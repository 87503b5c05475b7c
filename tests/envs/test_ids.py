"""Ids that Gymnasium does not know: the sentence says what to do."""

import sys

import pytest

import envs
from envs.ids import find


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("MiniGrid-Empty-5x5-v0", "minigrid:MiniGrid-Empty-5x5-v0"),
        ("highway-v0", "highway_env:highway-v0"),
        ("LunarLander-v2", "newest registered version of it is LunarLander-v3"),
        ("Taxi-v3", "newest registered version of it is Taxi-v4"),
        ("CartPole-v9", "newest registered version of it is CartPole-v1"),
        ("FrozenLak-v1", r"Did you mean FrozenLake-v1.*import that package first, or use 'module:FrozenLak-v1'"),
        ("Thing-v0", "import that package first, or use 'module:Thing-v0'"),
        ("nosuchpackage:Foo-v0", "No module named 'nosuchpackage'"),
    ],
)
def test_unknown_ids(name, words):
    with pytest.raises(envs.EnvError, match=f"has no environment '{name}'.*{words}"):
        find(name)


def test_a_package_that_is_installed_but_not_imported(tmp_path, monkeypatch):
    (tmp_path / "minigrid.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(envs.EnvError, match="minigrid is installed but not imported: import minigrid first"):
        find("MiniGrid-Empty-5x5-v0")
    monkeypatch.setitem(sys.modules, "minigrid", sys)
    with pytest.raises(envs.EnvError, match="If a package registers it"):
        find("MiniGrid-Empty-5x5-v0")
