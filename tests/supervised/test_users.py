"""What users bring along: modules and classes in the place of functions, losses, metrics, data and schedules of their own."""

import numpy as np
import pytest
import torch
from torch import nn

import supervised
from supervised import DataError, Recipe, Stack

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(50, 4)).astype(np.float32), RNG.integers(0, 3, 50)
NET = lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def quick(model=NET, data=(X, Y), recipe=None, **settings):
    recipe = recipe or Recipe(epochs=2, batch_size=16, loss="cross_entropy")
    return supervised.fit(model, data, recipe, **{"progress": False, "look_every_epochs": 100, **settings})


def weights(fitted):
    return {name: value.clone() for name, value in fitted.stack.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


# -- models --------------------------------------------------------------------------------------------------------------


def test_what_makes_no_model_is_a_sentence(tmp_path):
    takes = "a function .* called with no argument; Linear takes in_features, out_features"
    quick(seeds=2, logdir=tmp_path)
    for call in (
        lambda model: quick(model),
        lambda model: supervised.load(tmp_path, model),
        lambda model: Stack(model, 2),
    ):
        with pytest.raises(ValueError, match=takes):
            call(nn.Linear)
        with pytest.raises(TypeError, match="called with no argument; <lambda> takes size"):
            call(lambda size: NET())
        with pytest.raises(TypeError, match=r"must return a torch\.nn\.Module, not int"):
            call(lambda: 3)
    with pytest.raises(ValueError, match="^A module is fitted in place, so with one seed, not 2"):
        supervised.load(tmp_path, NET())
    with pytest.raises(ValueError, match="not a module that exists"):
        Stack(NET(), 2)


def test_members_share_no_parameter():
    trunk = nn.Linear(4, 8)
    with pytest.raises(ValueError, match=r"share the parameter 0\.weight"):
        quick(lambda: nn.Sequential(trunk, nn.Linear(8, 3)), seeds=2)


def test_a_last_batch_of_one_is_refused_where_the_model_cannot_learn_from_it():
    pictures = lambda *norm: lambda: nn.Sequential(nn.Unflatten(1, (4, 1, 1)), *norm, nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(DataError, match=r"single example \(17 in batches of 16\)"):
        quick(pictures(nn.BatchNorm2d(4)), (X[:17], Y[:17]))
    quick(pictures(), (X[:17], Y[:17]))
    series = lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.BatchNorm1d(2), nn.Flatten(), nn.Linear(4, 3))
    quick(series, (X[:1], Y[:1]))  # two numbers a channel have a spread
    normed = lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))
    frozen = Recipe(epochs=1, batch_size=16, loss="cross_entropy", freeze=("0",))
    quick(normed, (X[:17], Y[:17]), frozen)  # it counts nothing then
