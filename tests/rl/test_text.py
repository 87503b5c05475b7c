"""Settings as text: every value there and back, every setting documented, and what is no value a sentence."""

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rl
from rl.core import registry, text
from rl.explore import UCB, Boltzmann, DecayingNoise, EpsilonGreedy, Greedy
from supervised.schedules import Constant, Exponential, Inverse, Linear
from supervised.validate import ArgumentError

VALUES = {
    "1": 1,
    "-.5": -0.5,
    "1e-3": 0.001,
    "1e6": 1_000_000,
    "100_000": 100_000,
    "True": True,
    "none": None,
    "huber": "huber",
    "'a, b'": "a, b",
    "(0, 1.5)": (0, 1.5),
    "(0,)": (0,),
    "(0)": 0,
    "()": (),
    "((0, 1), (2, 3))": ((0, 1), (2, 3)),
    "linear(1,.05,.1)": Linear(1.0, 0.05, fraction=0.1),
    "linear(1,.05,10000)": Linear(1.0, 0.05, 10_000),
    "linear(1, .05, 1.0)": Linear(1.0, 0.05),
    "exponential(1, .05, 500, episodes)": Exponential(1.0, 0.05, 500, "episodes"),
    "Inverse(1, every=100, stairs=True, unit='episodes')": Inverse(1.0, every=100, stairs=True, unit="episodes"),
    "constant(.5)": Constant(0.5),
    "greedy": Greedy(),
    "epsilon-greedy(linear(1,.05,.1), first)": EpsilonGreedy(Linear(1.0, 0.05, fraction=0.1), "first"),
    "epsilon_greedy(.1)": EpsilonGreedy(0.1),
    "boltzmann(1)": Boltzmann(1.0),
    "decaying-noise": DecayingNoise(),
    "ucb(2)": UCB(2.0),
    "atoms(0,100,51)": rl.Atoms(0, 100, 51),
    "quantiles(51)": rl.Quantiles(51),
    "implicitquantiles(4, cosines=32)": rl.ImplicitQuantiles(4, cosines=32),
    "implicit-quantiles": rl.ImplicitQuantiles(),
    "munchausen(.9,.03,-1)": rl.Munchausen(0.9, 0.03, -1),
}


@pytest.mark.parametrize("words", VALUES)
def test_what_a_text_stands_for(words):
    found = text.value(words)
    assert found == VALUES[words]
    assert type(found) is type(VALUES[words])
    assert text.value(text.written(found)) == found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("linaer(1, 2)", "Did you mean 'linear'"),
        ("linear(1, 2", "lacks a comma or a closing parenthesis"),
        ("linear(", "lacks a closing parenthesis"),
        ("linear(1 2)", "lacks a comma"),
        ("linear(1)", r"linear\(start, end, horizon=None, unit=steps, fraction=1\): missing .* 'end'"),
        ("linear(1, 2, horizn=3)", "unexpected keyword argument 'horizn'"),
        ("linear(1, 2))", r"should end before '\)'"),
        ("linear(, 2)", "has no value before"),
        ("", "ends where a value is expected"),
        ("1 2", "should end before '2'"),
        ("5x", "cannot be parsed, starting at '5x'"),
        ("(a=1)", "a tuple cannot have a="),
        ("linear(1, 2, unit=weeks)", "unit must be one of steps, episodes, visits"),
        ("epsilon-greedy(2)", r"epsilon must lie in \[0, 1\]"),
        ("__import__('os')", "There is no value '__import__'|cannot be read"),
        ("dqn()", "There is no value 'dqn'"),
    ],
)
def test_what_is_no_value_is_a_sentence(words, said):
    with pytest.raises(ArgumentError, match=said):
        text.value(words)


@given(st.text(alphabet="linear(1,.)='e-3 _N", max_size=20))
def test_no_text_raises_anything_else(words):
    with contextlib.suppress(ArgumentError):
        text.value(words)


@pytest.mark.parametrize("name", rl.presets())
def test_every_setting_of_every_preset_is_documented_and_read_back(name):
    agent = rl.presets()[name]
    found = text.settings_of(agent)
    assert {field.name for field in dataclasses.fields(agent)} - set(found) <= {"mask"}
    for setting in found.values():
        assert setting.what.endswith("."), setting.name
        assert "\n" not in setting.what
    assert text.changed(agent, {setting.option: setting.value for setting in found.values()}) == agent


def test_every_registered_agent_has_its_lines():
    named = {type(agent).__name__ for agent in rl.presets().values()}
    assert named == {name for name, kind in registry.AGENTS.items() if kind.__module__.startswith("rl.")}


def test_settings_are_changed_by_text():
    agent = rl.DQN()
    texts = {"network": "mlp(256,256)", "learning-rate": "linear(1e-3,0)", "capacity_steps": "1e4", "double": "True"}
    assert text.changed(agent, texts) == rl.DQN(
        network="mlp(256,256)", learning_rate=Linear(1e-3, 0.0), capacity_steps=10_000, double=True
    )
    assert text.changed(agent, {"network": "linear"}).network == "linear"  # a text, no schedule
    assert text.changed(agent, {"distribution": "quantiles"}).distribution == rl.Quantiles()
    assert text.changed(agent, {"max_grad_norm": "None"}).max_grad_norm is None
    traces = rl.SARSALambda()
    assert text.changed(traces, {"lambda": ".5"}) == text.changed(traces, {"lambda_": ".5"})
    rates = EpsilonGreedy(Linear(1.0, 0.05, fraction=0.1))
    assert text.changed(agent, {"epsilon": "linear(1,.05,.1)"}).explore == rates
    for texts, said in (
        ({"epsilon": ".1", "explore": "greedy"}, "explore is given twice, once as epsilon"),
        ({"gama": "1"}, "There is no setting of DQN 'gama'. Did you mean 'gamma'"),
        ({"learning_rate": "linear(1"}, "learning_rate: 'linear"),
        ({"mask": "3"}, "mask"),
    ):
        with pytest.raises(ArgumentError, match=said):
            text.changed(agent, texts)
