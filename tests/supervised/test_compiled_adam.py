"""The compiled steps of Adam and RAdam are those of torch's optimizers, and either goes on from the other's state."""

import functools

import numpy as np
import pytest
import torch

from supervised import MLP, Stack, clip_per_seed, determinism, optimizer
from supervised.stack import norms
from supervised.stack.compiled_adam import CompiledAdam
from supervised.stack.optimizers import load_state_by_seed, state_by_seed

OPTIMIZERS = ("Adam", "RAdam")


@pytest.fixture(autouse=True)
def _one_thread():
    with determinism.threads(1):
        yield


def make():
    return MLP(4, 3, (17, 9), norm="layer")


@functools.cache
def drawn(step):
    """The gradients of five members at a step."""
    generator = torch.Generator().manual_seed(step)
    return {name: torch.randn(5, *p.shape, generator=generator) for name, p in make().named_parameters()}


def gradients(stack, step):
    for name, gradient in stack.gradients.items():
        gradient.copy_(drawn(step)[name][list(stack.seeds)])


def by_torch(stack, made, max_norm, steps):
    for step in steps:
        stack.zero_grad()
        gradients(stack, step)
        clip_per_seed(stack, max_norm)
        made.step()


def compiled(stack, adam, max_norm, steps):
    for step in steps:
        gradients(stack, step)
        found, good = adam.step(max_norm)
        assert good
        torch.testing.assert_close(found, norms(stack, stack.gradients.values()))


@pytest.mark.parametrize(("n", "max_norm"), [(1, 0.5), (2, np.inf), (5, 0.5)])
@pytest.mark.parametrize("options", [{}, {"betas": (0.8, 0.95)}, {"eps": 0.01}, {"betas": (0.9, 0.5)}])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_torchs(name, n, max_norm, options):
    """At beta2 = 0.95 RAdam is rectified from the sixth step on, too, and at 0.5 never."""
    mine, theirs = Stack(make, range(n), compiled=True), Stack(make, range(n))
    alone = Stack(make, [n - 1], compiled=True)
    ours, torchs, single = (optimizer(stack, name, 3e-3, **options) for stack in (mine, theirs, alone))
    adam, other = CompiledAdam(mine.memory, ours), CompiledAdam(alone.memory, single)
    for steps in (range(5), range(5, 7), range(7, 50)):
        compiled(mine, adam, max_norm, steps)
        by_torch(theirs, torchs, max_norm, steps)
        torch.testing.assert_close(mine.flat, theirs.flat, rtol=1e-5, atol=2e-6)
    compiled(alone, other, max_norm, range(50))
    assert all(torch.equal(w[0], mine.weights[key][n - 1]) for key, w in alone.weights.items())
    adam.close()
    state, wanted = ours.state[mine.flat], torchs.state[theirs.flat]
    assert state.keys() == wanted.keys()
    assert state["step"] == wanted["step"] == 50
    for moment in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(state[moment], wanted[moment], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cut", [3, 20])
@pytest.mark.parametrize("begins_compiled", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_goes_on_from_torchs_state_and_torch_from_its(name, begins_compiled, cut):
    first, last, whole = Stack(make, 2, compiled=True), Stack(make, 2, compiled=True), Stack(make, 2)
    one, two, three = (optimizer(stack, name, 3e-3) for stack in (first, last, whole))

    def part(stack, made, by_compiled, steps):
        if not by_compiled:
            return by_torch(stack, made, 1.0, steps)
        adam = CompiledAdam(stack.memory, made)
        compiled(stack, adam, 1.0, steps)
        adam.close()

    part(first, one, begins_compiled, range(cut))
    last.load_state_dict(first.state_dict())
    load_state_by_seed(last, two, state_by_seed(first, one))
    part(last, two, not begins_compiled, range(cut, 40))
    by_torch(whole, three, 1.0, range(40))
    torch.testing.assert_close(last.flat, whole.flat, rtol=1e-5, atol=2e-6)
    assert two.state[last.flat]["step"] == 40


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_changes_nothing(name, value):
    stack = Stack(make, range(2), compiled=True)
    made = optimizer(stack, name, 1e-3)
    adam = CompiledAdam(stack.memory, made)
    compiled(stack, adam, 1.0, range(6))
    before, state = stack.flat.clone(), {key: moment.clone() for key, moment in made.state[stack.flat].items()}
    stack.gradients["head.weight"][1, 0, 0] = value
    found, good = adam.step(1.0)
    assert not good
    assert torch.isfinite(found).tolist() == [True, False]
    adam.close()
    assert torch.equal(stack.flat, before)
    assert made.state[stack.flat]["step"] == 6
    assert all(torch.equal(made.state[stack.flat][key], state[key]) for key in ("exp_avg", "exp_avg_sq"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_moments_of_dead_units_become_zero_before_they_are_denormal(name):
    stack = Stack(make, 1, compiled=True)
    made = optimizer(stack, name, 1e-3)
    adam = CompiledAdam(stack.memory, made)
    compiled(stack, adam, 1.0, range(1))
    for _ in range(900):  # 0.9 ** 900 is 7e-42
        stack.gradients["head.weight"].zero_()
        adam.step(1.0)
    first = stack.memory.blocks(made.state[stack.flat]["exp_avg"])["head.weight"]
    assert not first.any()


def test_others_are_not_compiled():
    stack = Stack(make, 1, compiled=True)
    assert CompiledAdam.of(stack.memory, optimizer(stack, "SGD")) is None
    assert CompiledAdam.of(stack.memory, optimizer(stack, "AdamW")) is None
    assert isinstance(CompiledAdam.of(stack.memory, optimizer(stack, "RAdam")), CompiledAdam)
