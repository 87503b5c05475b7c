"""What numbers, flags, choices, seeds and paths may be; tests/full/test_arguments.py asks it of every public callable."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import catalogue
import numpy as np
import pytest
import torch
from arguments import FLAGS, FLOATS, INTEGERS, attempt, fault, names, replaced

import envs
import rl
import supervised
from supervised import validate
from supervised.validate import ArgumentError


@pytest.mark.parametrize("make", INTEGERS)
def test_whole_numbers_of_every_type(make):
    for value in (validate.integer(make(7), "n", 1, 9), rl.DQN(n_step=make(7)).n_step):
        assert type(value) is int
        assert value == 7


@pytest.mark.parametrize("make", [*FLOATS, *INTEGERS, Fraction])
def test_numbers_of_every_type(make):
    for value in (validate.number(make(1.0), "x", 0.0, 1.0), rl.QLearning(gamma=make(1.0)).gamma):
        assert type(value) is float
        assert value == 1.0


@pytest.mark.parametrize("make", [bool, *FLAGS])
def test_flags_of_every_type(make):
    assert validate.flag(make(True), "f") is True
    assert rl.DQN(double=make(False)).double is False


@pytest.mark.parametrize(
    ("check", "given", "said"),
    [
        (validate.integer, (True, "n"), "n must be a whole number, not True."),
        (validate.integer, (1.0, "n"), "n must be a whole number, not 1.0."),
        (validate.integer, (0, "n", 1), "n must be a whole number of at least 1, not 0."),
        (validate.integer, (11, "n", 1, 10), "n must be a whole number of at least 1 and at most 10, not 11."),
        (validate.integer, (10**5000, "n"), "at most 9,223,372,036,854,775,807, not a number with too many digits."),
        (validate.integer, (np.timedelta64(3), "n"), "timedelta64(3)."),
        (validate.integer, (np.array([3]), "n"), "not array([3])."),
        (validate.integer, (np.ma.masked, "n"), "not masked."),
        (validate.number, ("1", "x"), "x must be a finite number, not '1'."),
        (validate.number, (math.nan, "x", 0.0), "x must be a number of at least 0, not nan."),
        (validate.number, (math.inf, "x", 0.0), "x must be a number of at least 0, not inf."),
        (validate.number, (10**400, "x", 0.0, 1.0), "x must lie in [0, 1], not 1000"),
        (validate.number, (1j, "x"), "not 1j."),
        (validate.number, (np.bool_(True), "x"), f"not {np.True_!r}."),
        (validate.flag, (1, "f"), "f must be True or False, not 1."),
        (validate.flag, ("False", "f"), "f must be True or False, not 'False'."),
        (
            validate.choice,
            ("hubr", "loss", ("huber", "squared")),
            "Did you mean 'huber'? Choose one of huber, squared.",
        ),
        (validate.choice, (["huber"], "loss", ("huber",)), "There is no loss ['huber']. Choose one of huber."),
        (validate.path, ("", "logdir"), "logdir must be the path of a file, not ''."),
        (validate.path, (b"x", "logdir"), "not b'x'."),
        (validate.path, ("a\0b", "logdir"), "must be the path of"),
    ],
)
def test_what_is_refused_and_how(check, given, said):
    with pytest.raises(ArgumentError) as caught:
        check(*given)
    assert said in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


def test_ends_that_are_excluded():
    assert validate.number(0.5, "x", 0.0, 1.0, above=True, below=True) == 0.5
    for value, said in ((0.0, r"\(0, 1\)"), (1.0, r"\(0, 1\)")):
        with pytest.raises(ArgumentError, match=said):
            validate.number(value, "x", 0.0, 1.0, above=True, below=True)


SEEDS = [range(3), [0, 1, 2], (0, 1, 2), np.arange(3), torch.arange(3), 3, np.int8(3), np.array(3), torch.tensor(3)]


@pytest.mark.parametrize("seeds", [*SEEDS, iter((0, 1, 2))], ids=lambda seeds: type(seeds).__name__)
def test_seeds_of_every_form(seeds):
    found = validate.seeds_of(seeds)
    assert found == (0, 1, 2)
    assert all(type(seed) is int for seed in found)


def test_one_parser_of_seeds():
    """Whoever takes seeds takes the same ones, and refuses the same ones in the same words."""
    space, actions = envs.make("CartPole-v1").observation_space, envs.make("CartPole-v1").action_space
    lake = envs.make("FrozenLake-v1")
    takers = [
        supervised.Streams,
        envs.seeds_of,
        lambda seeds: envs.make("FrozenLake-v1", seeds),
        lambda seeds: rl.start("FrozenLake-v1", rl.QLearning(), seeds),
        lambda seeds: rl.QLearning().build(lake.observation_space, lake.action_space, seeds),
        lambda seeds: rl.DQN().build(space, actions, seeds),
        lambda seeds: rl.LinearSARSA(tilings=2, tiles=2, bounds=((0,) * 4, (1,) * 4)).build(space, actions, seeds),
        lambda seeds: supervised.Stack(lambda: supervised.MLP(2, 1, ()), seeds),
    ]
    for take, seeds in itertools.product(takers, (np.array([5, 2]), torch.tensor([5, 2]), np.int64(2))):
        found = take(seeds)
        found = found if isinstance(found, tuple) else found.seeds
        assert found == ((0, 1) if np.ndim(seeds) == 0 else (5, 2))
    wrong = [0, -1, True, 2.0, "2", None, {}, {1, 2}, [], [1, 1], [True], [-1], [2**63], [0.5], 10**9, range(10**9)]
    for seeds in wrong:
        said = set()
        for take in takers:
            with pytest.raises(ArgumentError) as caught:
                take(seeds)
            said.add(str(caught.value))
        assert len(said) == 1, said


def test_environments_of_a_seed_have_a_limit():
    for take in (envs.make, lambda env, seeds, count: rl.start(env, rl.QLearning(), seeds, envs_per_seed=count)):
        with pytest.raises(ArgumentError, match="envs_per_seed must be at most 500,000 with 2 seeds"):
            take("FrozenLake-v1", 2, 2**40)
    assert rl.start("FrozenLake-v1", rl.QLearning(), envs_per_seed=np.int16(3)).envs_per_seed == 3


def test_settings_from_numpy_lie_in_files(tmp_path):
    """Of the environment too."""
    agent = rl.QLearning(gamma=np.float32(0.5), explore=rl.explore.EpsilonGreedy(torch.tensor(0.25)))
    kwargs = {"success_rate": np.float64(0.5), "map_name": np.str_("4x4"), "is_slippery": np.bool_(True)}
    run = rl.train("FrozenLake-v1", agent, steps=100, seeds=np.arange(2), progress=False, env_kwargs=kwargs)
    run.save(tmp_path / "run")
    again = rl.load(tmp_path / "run")
    assert again.agent_config == rl.QLearning(gamma=0.5, explore=rl.explore.EpsilonGreedy(0.25))
    assert again.where.description == {
        "id": "FrozenLake-v1",
        "kwargs": {"success_rate": 0.5, "map_name": "4x4", "is_slippery": True},
    }


def test_an_error_of_numpy_gets_a_sentence_and_our_own_passes():
    def failing(x):
        if x is None:
            raise KeyError("said")
        return np.zeros(3) + np.zeros(x)

    wrapped = validate.explained("a size x")(failing)
    with pytest.raises(
        ArgumentError, match=r"failing takes a size x; it was given x=2\. operands could not be broadcast"
    ):
        wrapped(2)
    with pytest.raises(KeyError, match="said"):
        wrapped(None)


def test_every_description_names_the_argument():
    """A part of what the full suite asks."""
    for case in catalogue.descriptions():
        for argument, what, arguments in replaced(case):
            if case.name != "as_schedule" and what in ("text", "nan", "array", "object", "2**70"):
                error = attempt(case, arguments)
                assert error is None or (fault(error) is None and names(error, argument)), (case.name, argument, what)
