"""Gradients written out: autograd's to the bit by torch, to rounding by compiled code, and there too alone is as stacked."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from supervised import CNN, MLP, LinearRegression, Recipe, Stack, determinism, fit
from supervised.validate import ArgumentError

SHAPES = [
    (4, 2, (64, 64)),
    (3, 3, (7, 33, 5)),
    (5, 18, ()),
    (2, 1, (8,)),
    (1, 2, (8,)),
    (6, 4, (1, 9)),
    (10, 51, (65,)),
]


@pytest.fixture(autouse=True)
def _one_thread():
    with determinism.threads(1):
        yield


def batch(n, size, inputs, outputs):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(n, size, inputs, generator=generator), torch.randn(n, size, outputs, generator=generator)


@pytest.mark.parametrize(("inputs", "outputs", "widths"), SHAPES)
@pytest.mark.parametrize("n", [1, 3, 8])
def test_without_autograd_the_same_to_the_bit(inputs, outputs, widths, n):
    stack = Stack(lambda: MLP(inputs, outputs, widths), range(n))
    x, slope = batch(n, 33, inputs, outputs)
    y, backward = stack.vjp(x)
    backward(slope)
    found = stack.flat.grad.clone()
    usual = stack(x)
    stack.zero_grad()
    usual.backward(slope)
    assert torch.equal(y, usual.detach())
    assert torch.equal(found, stack.flat.grad)
    with torch.no_grad():
        assert torch.equal(stack(x), y)


@pytest.mark.parametrize(("inputs", "outputs", "widths"), SHAPES)
def test_compiled_is_torch_to_rounding_and_alone_is_stacked(inputs, outputs, widths):
    for n, size in itertools.product((1, 2, 3, 8, 32), (1, 5, 64)):
        make = lambda: MLP(inputs, outputs, widths)
        stack, usual = Stack(make, range(n), compiled=True), Stack(make, range(n))
        x, slope = batch(n, size, inputs, outputs)
        y, backward = stack.vjp(x)
        other = stack(torch.randn(n, size + 1, inputs))  # what is computed meanwhile does not disturb
        stack.vjp(torch.randn(n, size, inputs))
        backward(slope)
        wanted, back = usual.vjp(x)
        back(slope)
        assert other.shape == (n, size + 1, outputs)
        torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(stack.flat.grad, usual.flat.grad, rtol=1e-4, atol=1e-4)
        k = n - 1
        alone = Stack(make, [k], compiled=True)
        y_alone, backward = alone.vjp(x[k:])
        backward(slope[k:])
        assert torch.equal(y_alone[0], y[k])
        assert all(torch.equal(gradient[0], stack.gradients[name][k]) for name, gradient in alone.gradients.items())


def test_a_compiled_fit_is_the_usual_one_to_rounding_and_alone_as_stacked():
    x, y = batch(1, 40, 4, 3)
    recipe = Recipe(epochs=2, batch_size=10, loss="mse")

    def fitted(seeds, compiled):
        found = fit(
            lambda: MLP(4, 3, (9,)),
            (x[0], y[0]),
            recipe,
            seeds=seeds,
            compiled=compiled,
            validation=0.25,
            progress=False,
        )
        assert str(found.compute_plan) == "float32, 1 thread" + ", compiled" * compiled
        return found.stack.state_dict()

    both, usual, alone = fitted([0, 1], True), fitted([0, 1], False), fitted([1], True)
    assert any(not torch.equal(both[name], usual[name]) for name in both)
    for name, value in both.items():
        torch.testing.assert_close(value, usual[name], rtol=1e-4, atol=1e-5)
        assert torch.equal(value[1], alone[name][0])


def test_gradients_come_in_place_of_what_was_there():
    for compiled in (True, False):
        stack = Stack(lambda: LinearRegression(4, 3), range(2), compiled=compiled)
        x, slope = batch(2, 6, 4, 3)
        _, backward = stack.vjp(x)
        backward(slope)
        once = stack.flat.grad.clone()
        backward(slope)
        assert torch.equal(stack.flat.grad, once)


def test_models_that_are_no_chain_go_through_autograd():
    for make, shape in (
        (lambda: MLP(4, 3, (8,), norm="batch"), (4,)),
        (lambda: MLP(4, 3, (8,), activation="tanh"), (4,)),
        (lambda: CNN((1, 8, 8), 3, (4,)), (1, 8, 8)),
        (lambda: nn.Sequential(nn.Linear(4, 3)), (5, 4)),
    ):
        stack = Stack(make, range(2), compiled=True)
        x = torch.randn(2, 6, *shape)
        y, backward = stack.vjp(x)
        backward(torch.ones_like(y))
        found = stack.flat.grad.clone()
        stack.zero_grad()
        stack(x).sum().backward()
        torch.testing.assert_close(found, stack.flat.grad)


def test_a_frozen_layer_keeps_its_weights():
    def make():
        model = MLP(4, 3, (8,))
        model.trunk.requires_grad_(False)
        return model

    for compiled in (True, False):
        stack = Stack(make, range(2), compiled=compiled)
        x, slope = batch(2, 6, 4, 3)
        _, backward = stack.vjp(x)
        backward(slope)
        assert stack.gradients.keys() == {"head.weight", "head.bias"}
        found = stack.flat.grad.clone()
        stack.zero_grad()
        stack(x).backward(slope)
        assert torch.equal(found, stack.flat.grad)


def test_the_wrong_number_of_inputs_is_told():
    stack = Stack(lambda: MLP(4, 3, (8,)), range(2), compiled=True)
    with pytest.raises(ValueError, match="takes 4 inputs, not 5"):
        stack.vjp(torch.randn(2, 6, 5))


@pytest.mark.parametrize("n", [1, 3])
def test_the_wrong_number_of_members_is_told(n):
    """Compiled code would read past the weights."""
    for compiled in (True, False):
        stack = Stack(lambda: MLP(4, 3, (8,)), range(2), compiled=compiled)
        for answer in (stack, stack.vjp):
            with (
                torch.no_grad(),
                pytest.raises(ValueError, match=r"has 2 members, so x must be \[2, \.\.\.\], not \[\d, 6, 4"),
            ):
                answer(torch.randn(n, 6, 4))


def test_a_compiled_chain_takes_arrays():
    stack = Stack(lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), 2, compiled=True)
    code, (x, slope) = stack.compiled_chain(), batch(2, 4, 6, 3)
    y, backward = code.array_vjp(x.view(2, 4, 3, 2).numpy())
    with torch.no_grad():
        assert np.array_equal(y, stack(x))
        assert code.forward(np.zeros((2, 0, 3, 2), np.float32)).shape == (2, 0, 3)
    backward(slope.numpy())
    found = stack.flat.grad.clone()
    stack.vjp(x)[1](slope)
    assert torch.equal(found, stack.flat.grad)
    for wrong in (slope.double().numpy(), slope[:, :3].numpy(), slope, None):
        with pytest.raises(ArgumentError, match=r"gradient must match the outputs, float32 \[2, 4, 3\], not"):
            backward(wrong)


@pytest.mark.parametrize("frozen", [0, 1])
def test_no_gradient_is_computed_for_what_nobody_asks_for(frozen, monkeypatch):
    """The input needs none, nor does a layer that is not trained and has none that is trained before it."""

    def make():
        net = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
        net[1].requires_grad_(not frozen)
        return net

    stack, shapes, product = Stack(make, 2), [], torch.bmm

    def counted(a, b, **settings):
        shapes.append([*a.shape, b.shape[-1]])
        return product(a, b, **settings)

    monkeypatch.setattr(torch, "bmm", counted)
    x, slope = batch(2, 4, 6, 3)
    _, backward = stack.vjp(x)
    backward(slope)
    by_weights = [[2, 3, 4, 5], [2, 5, 4, 6]]  # of the second layer and of the first, summed over the batch of 4
    by_inputs = [[2, 4, 3, 5]]  # of the second layer alone
    assert sorted(shapes) == sorted(by_weights[:1] if frozen else by_weights + by_inputs)
