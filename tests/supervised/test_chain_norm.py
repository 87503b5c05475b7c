"""Layer normalization in chains: autograd's gradients to the bit by torch, to rounding compiled, and alone as stacked."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from supervised import MLP, Stack, determinism
from supervised.stack import manual_backward, mlp_kernels
from supervised.stack.compiled_chain import CompiledChain
from supervised.stack.compiled_mlp import compiled

SHAPES = [(4, 2, (64, 64)), (3, 3, (7, 33, 5)), (2, 2, (8,)), (10, 51, (65,)), (4, 2, (256,))]


@pytest.fixture(autouse=True)
def _one_thread():
    with determinism.threads(1):
        yield


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def shaken(net):
    """Give normalizations scales and shifts other than 1 and 0, some of them 0 and below."""
    for part in net.modules():
        if isinstance(part, nn.LayerNorm) and part.weight is not None:
            nn.init.normal_(part.weight, 0.5)
            nn.init.normal_(part.bias)
            with torch.no_grad():
                part.weight[0] = 0.0
    return net


def normed(inputs, outputs, widths):
    return lambda: shaken(MLP(inputs, outputs, widths, norm="layer"))


def by_autograd(stack, x, slope):
    stack.zero_grad()
    y = stack(x)
    y.backward(slope)
    return y.detach(), stack.flat.grad.clone()


def by_vjp(stack, x, slope):
    y, backward = stack.vjp(x)
    backward(slope)
    return y, stack.flat.grad.clone()


@pytest.mark.parametrize(("inputs", "outputs", "widths"), SHAPES)
@pytest.mark.parametrize("n", [1, 3, 8])
def test_without_autograd_the_same_to_the_bit(inputs, outputs, widths, n):
    stack = Stack(normed(inputs, outputs, widths), range(n))
    assert isinstance(stack._chain, manual_backward.Chain)
    x, slope = drawn(n, 33, inputs), drawn(n, 33, outputs)
    y, backward = stack.vjp(x)
    stack.vjp(drawn(n, 33, inputs) * 2)  # what is computed meanwhile does not disturb
    backward(slope)
    found = stack.flat.grad.clone()
    wanted, gradient = by_autograd(stack, x, slope)
    assert torch.equal(y, wanted)
    assert torch.equal(found, gradient)
    with torch.no_grad():
        assert torch.equal(stack(x), y)


@pytest.mark.parametrize(("inputs", "outputs", "widths"), SHAPES)
def test_compiled_is_torch_to_rounding_and_alone_is_stacked(inputs, outputs, widths):
    make = normed(inputs, outputs, widths)
    for n, size in itertools.product((1, 2, 3, 8), (1, 5, 64)):
        stack, usual = Stack(make, range(n), compiled=True), Stack(make, range(n))
        assert stack.compiled_chain().rest == []
        x, slope = drawn(n, size, inputs), drawn(n, size, outputs)
        y, backward = stack.vjp(x)
        with torch.no_grad():
            assert torch.equal(stack(x), y)
            other = stack(torch.randn(n, size + 1, inputs))  # what is computed meanwhile does not disturb
        stack.vjp(torch.randn(n, size, inputs))
        backward(slope)
        wanted, gradient = by_autograd(usual, x, slope)
        assert other.shape == (n, size + 1, outputs)
        torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(stack.flat.grad, gradient, rtol=1e-4, atol=2e-4)
        k = n - 1
        alone = Stack(make, [k], compiled=True)
        y_alone, backward = alone.vjp(x[k:])
        backward(slope[k:])
        assert torch.equal(y_alone[0], y[k])
        assert all(torch.equal(gradient[0], stack.gradients[name][k]) for name, gradient in alone.gradients.items())


def no_relu():
    return nn.Sequential(nn.Linear(6, 9), nn.LayerNorm(9), nn.Linear(9, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))


def norm_last():
    return nn.Sequential(nn.Linear(6, 9), nn.LayerNorm(9), nn.ReLU(), nn.Linear(9, 3), nn.LayerNorm(3), nn.ReLU())


def norm_behind_relu():
    return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.LayerNorm(9), nn.Linear(9, 3))


def norm_first():
    return nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3))


def no_bias():
    return nn.Sequential(nn.Linear(6, 9, bias=False), nn.LayerNorm(9), nn.ReLU(), nn.Linear(9, 3))


def large_eps():
    return nn.Sequential(nn.Linear(6, 9), nn.LayerNorm(9, eps=0.3), nn.ReLU(), nn.Linear(9, 3))


def some_without():
    return nn.Sequential(
        nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 7, bias=False), nn.ReLU(),
        nn.Linear(7, 3),
    )  # fmt: skip


def frozen_norm():
    net = no_relu()
    net[1].requires_grad_(False)
    return net


def half_frozen_norm():
    net = norm_behind_relu()
    net[2].bias.requires_grad_(False)
    return net


def frozen_linear():
    net = no_relu()
    net[2].requires_grad_(False)
    return net


# How many linear layers of each are compiled, the other layers are torch's; None: all are.
MIXED = {
    no_relu: 3,
    norm_last: 2,
    norm_behind_relu: 1,
    norm_first: None,
    no_bias: 1,
    large_eps: 2,
    some_without: 4,
    frozen_norm: 1,
    half_frozen_norm: 1,
    frozen_linear: 1,
}


@pytest.mark.parametrize("make", MIXED)
def test_normalizations_wherever_they_stand(make):
    made, n = lambda: shaken(make()), 3
    stack, plain = Stack(made, range(n), compiled=True), Stack(made, range(n))
    chain = stack.compiled_chain()
    assert MIXED[make] == (None if chain is None else len(chain.mlp.layout[0]))
    x, slope = drawn(n, 20, 6), drawn(n, 20, 3)
    wanted, gradient = by_autograd(plain, x, slope)
    y, found = by_vjp(stack, x, slope)
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-4)
    assert stack.gradients.keys() == plain.gradients.keys()
    y, found = by_vjp(plain, x, slope)
    assert torch.equal(y, wanted)
    assert torch.equal(found, gradient)
    alone = Stack(made, [2], compiled=True)
    by_vjp(alone, x[2:], slope[2:])
    assert all(torch.equal(gradient[0], stack.gradients[name][2]) for name, gradient in alone.gradients.items())


@pytest.mark.parametrize(
    "make",
    [
        lambda: MLP(4, 3, (8, 1), norm="layer"),
        lambda: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8, elementwise_affine=False), nn.Linear(8, 3)),
        lambda: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8, bias=False), nn.Linear(8, 3)),
        lambda: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)),
    ],
)
def test_others_go_through_autograd(make):
    stack = Stack(make, range(2), compiled=True)
    assert stack._chain is None
    x, slope = drawn(2, 6, 4), drawn(2, 6, 3)
    y, found = by_vjp(stack, x, slope)
    wanted, gradient = by_autograd(stack, x, slope)
    assert torch.equal(y, wanted)
    assert torch.equal(found, gradient)


def test_a_range_of_rows():
    """Rows from `ends` on give zeros, and the gradient is that of the rows from `begins` to `ends`."""
    make, n = normed(4, 2, (16, 9)), 3
    stack, usual = Stack(make, range(n), compiled=True), Stack(make, range(n))
    mlp, x, slope = stack.compiled_chain().mlp, drawn(n, 12, 4), drawn(n, 12, 2)
    begins, ends = np.array([0, 3, 5]), np.array([12, 12, 7])
    y = mlp.forward(x.numpy(), True, ends)
    assert not y[2, 7:].any()
    read = torch.arange(12) >= torch.from_numpy(begins)[:, None]
    read &= torch.arange(12) < torch.from_numpy(ends)[:, None]
    leaf = x.clone().requires_grad_()
    wanted = usual(leaf)
    wanted.backward(slope * read[..., None])
    dx = mlp.backward(slope.numpy(), x.numpy(), y, True, begins, ends)
    np.testing.assert_allclose(y[:2], wanted[:2].detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stack.flat.grad, usual.flat.grad, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dx[read.numpy()], leaf.grad[read], rtol=1e-4, atol=1e-5)
    mlp.forward(x.numpy() + 1, True)  # overwrites what belongs to x, which is computed again
    assert np.array_equal(mlp.backward(slope.numpy(), x.numpy(), y, True, begins, ends)[read.numpy()], dx[read.numpy()])


@pytest.mark.parametrize("width", [2, 7, 8, 65, 256])
def test_a_row_has_the_same_bits_among_any_number(width):
    forward, back = compiled(mlp_kernels.norm_rows), compiled(mlp_kernels.norm_rows_back)
    rng = np.random.default_rng(0)
    array = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    x, slope, vectors = array(37, width), array(37, width), [array(width) for _ in range(3)]

    def both(rows):
        y, dy, normal, factors = x[rows].copy(), slope[rows].copy(), np.empty_like(x[rows]), np.empty(37, np.float32)
        forward(y, *vectors, np.float32(1e-5), np.float32(0), normal, factors)
        back(dy, y, normal, factors, vectors[1], np.float32(0), *(np.empty(width, np.float32) for _ in range(3)))
        return y, dy

    whole = both(slice(None))
    for rows in (slice(0, 1), slice(5, 14), slice(36, 37)):
        for part, found in zip(both(rows), whole, strict=True):
            assert np.array_equal(part, found[rows])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_propagate(value):
    stack = Stack(normed(4, 2, (16, 9)), range(2), compiled=True)
    x, slope = drawn(2, 6, 4), drawn(2, 6, 2)
    right, _ = stack.vjp(x)
    x[1, 3, 2] = value
    y, found = by_vjp(stack, x, slope)
    wrong = torch.isnan(y)
    assert wrong[1, 3].all()
    assert wrong.sum() == 2
    assert torch.equal(y[0], right[0])
    assert all(gradient[0].isfinite().all() for gradient in stack.gradients.values())
    assert torch.isnan(stack.gradients["trunk.norm1.weight"][1]).all()
    assert torch.isnan(found).any()


def test_constant_rows_stay_finite():
    """A row whose values are all the same has variance 0."""

    def make():
        net = normed(4, 2, (8,))()
        nn.init.zeros_(net.trunk[1].weight)
        return net

    stack = Stack(make, range(2), compiled=True)
    y, found = by_vjp(stack, drawn(2, 6, 4), drawn(2, 6, 2))
    wanted, gradient = by_autograd(Stack(make, range(2)), drawn(2, 6, 4), drawn(2, 6, 2))
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-2)


def test_the_chain_is_compiled_as_a_whole():
    stack = Stack(lambda: MLP(4, 2, (8, 8), norm="layer"), 2, compiled=True)
    assert isinstance(stack.compiled_chain(), CompiledChain)
    assert stack.compiled_chain().rest == []
    assert stack.compiled_chain().mlp.normalizes
    assert not Stack(lambda: MLP(4, 2, (8, 8)), 2, compiled=True).compiled_chain().mlp.normalizes
