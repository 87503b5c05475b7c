"""Losses and metrics against hand-computed numbers and torch's own."""

import math

import pytest
import torch
import torch.nn.functional as F

from supervised import losses, metrics
from supervised.losses import LOSSES, per_seed


def test_by_hand():
    assert losses.mse(torch.tensor([3.0]), torch.tensor([1.0])).item() == 4
    assert losses.huber(torch.tensor([3.0, 1.5]), torch.tensor([1.0, 1.0])).tolist() == [1.5, 0.125]
    logits = torch.log(torch.tensor([[[0.2, 0.5, 0.3]]]))
    assert losses.cross_entropy(logits, torch.tensor([[1]])).item() == pytest.approx(-math.log(0.5))
    assert losses.binary_cross_entropy(torch.tensor([[0.0]]), torch.tensor([[1.0]])).item() == pytest.approx(
        math.log(2)
    )


def test_binary_cross_entropy_is_torchs_and_never_overflows():
    z = torch.cat([torch.randn(1, 100) * 5, torch.tensor([[-1e4, 1e4, 0.0]])], 1)
    for t in (0.0, 1.0, 0.3):
        expected = F.binary_cross_entropy_with_logits(z, torch.full_like(z, t), reduction="none")
        torch.testing.assert_close(losses.binary_cross_entropy(z, torch.full_like(z, t)), expected)


def test_gradients_by_gradcheck():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 3, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    a.requires_grad_()
    for name in ("mse", "huber"):
        assert torch.autograd.gradcheck(LOSSES[name], (a, b))
    assert torch.autograd.gradcheck(lambda z: losses.binary_cross_entropy(z, b.sigmoid()), (a,))
    target = torch.tensor([[0, 1, losses.IGNORED], [1, 1, 0]])
    assert torch.autograd.gradcheck(lambda z: losses.cross_entropy(z, target, 0.1), (a,))
    assert torch.autograd.gradcheck(lambda z: per_seed(losses.cross_entropy(z, target), target >= 0), (a,))


def test_any_leading_axes():
    generator = torch.Generator().manual_seed(0)
    logits, y = torch.randn(2, 3, 5, 4, generator=generator), torch.randint(4, (2, 3, 5), generator=generator)
    whole = losses.cross_entropy(logits, y)
    for k in range(2):
        torch.testing.assert_close(whole[k], losses.cross_entropy(logits[k], y[k]))
        torch.testing.assert_close(whole[k, 1], losses.cross_entropy(logits[k, 1], y[k, 1]))


def test_a_seeds_gradient_is_its_own():
    """Mean within a seed, sum over seeds; places that do not count are left out of the mean."""
    w = torch.ones(2, 3, requires_grad=True)
    per_seed(losses.mse(w, torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, -2.0]]))).sum().backward()
    torch.testing.assert_close(w.grad, torch.tensor([[2.0, 2.0, 2.0], [2.0, 2.0, 6.0]]) / 3)
    counts = torch.tensor([[True, False, False], [False, False, False]])
    assert per_seed(torch.tensor([[5.0, 99.0, 99.0], [99.0, 99.0, 99.0]]), counts).tolist() == [5.0, 0.0]


def test_ignored_places_cost_nothing():
    logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([[1, losses.IGNORED, 2]])
    expected = F.cross_entropy(logits[0], y[0])
    assert per_seed(losses.cross_entropy(logits, y), y != losses.IGNORED).item() == pytest.approx(expected.item())


def test_metrics():
    logits = torch.tensor([[[0.1, 0.9], [0.8, 0.2]]])
    assert metrics.correct(logits, torch.tensor([[1, 1]]), "cross_entropy").tolist() == [[True, False]]
    assert metrics.correct(
        torch.tensor([[-1.0, 2.0]]), torch.tensor([[1.0, 1.0]]), "binary_cross_entropy"
    ).tolist() == [[False, True]]
    assert metrics.correct(logits, logits, "mse") is None
    assert metrics.probabilities(torch.zeros(1, 2), "cross_entropy").tolist() == [[0.5, 0.5]]
    assert metrics.probabilities(torch.zeros(1, 2), "binary_cross_entropy").tolist() == [[0.5, 0.5]]
    assert metrics.probabilities(torch.full((1, 2), 3.0), "mse").tolist() == [[3.0, 3.0]]
