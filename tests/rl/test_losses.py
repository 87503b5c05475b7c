"""TD errors, their cost and its slope; and the compiled loop that does the same."""

import numpy as np
import pytest
import torch

from rl import losses, targets
from rl.core import jit
from rl.deep.heads import scalar


@pytest.mark.parametrize("name", losses.LOSSES)
def test_slopes_are_those_that_autograd_finds(name):
    loss, slope = losses.LOSSES[name]
    error = torch.linspace(-3, 3, 50, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, error)
    (found,) = torch.autograd.grad(loss(error).sum(), error)
    torch.testing.assert_close(slope(error.detach()), found)


def test_losses_by_hand():
    error = torch.tensor([-3.0, -0.5, 0.0, 0.5, 1.0, 2.0])
    assert losses.huber(error).tolist() == [2.5, 0.125, 0.0, 0.125, 0.5, 1.5]
    assert losses.squared(error).tolist() == [9.0, 0.25, 0.0, 0.25, 1.0, 4.0]
    assert losses.huber_grad(error).tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0, 1.0]
    torch.testing.assert_close(losses.huber(error), torch.nn.functional.huber_loss(error, 0 * error, reduction="none"))


def test_any_leading_axes():
    values, action = torch.arange(24.0).view(2, 3, 4), torch.tensor([[0, 1, 2], [3, 2, 1]])
    taken = losses.select(values, action)
    assert taken.tolist() == [[0.0, 5.0, 10.0], [15.0, 18.0, 21.0]]
    assert losses.select(values[1], action[1]).tolist() == taken[1].tolist()
    spread = losses.scatter_to_action(taken, values, action)
    assert spread.sum() == taken.sum()
    assert spread[1, 0].tolist() == [0.0, 0.0, 0.0, 15.0]


@pytest.mark.parametrize("loss", losses.LOSSES)
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_compiled_errors_are_those_of_the_pure_functions_to_the_bit(loss, double, weighted):
    generator = torch.Generator().manual_seed(0)
    shape = (3, 40, 5)
    q, next_q, chooser = (3 * torch.randn(shape, generator=generator) for _ in range(3))
    chooser = chooser if double else next_q
    reward, weight = torch.randn(shape[:2], generator=generator), torch.rand(shape[:2], generator=generator)
    discount = 0.99 * (torch.rand(shape[:2], generator=generator) < 0.7).float()
    next_q[discount == 0] = torch.nan  # what lies behind an ending is not read
    action = torch.randint(5, shape[:2], generator=generator)
    error, gradient = torch.zeros(shape[:2]), torch.zeros(shape)
    fast = jit.compiled(scalar.errors, HUBER=int(loss == "huber"))
    given = weight if weighted else torch.zeros(1, 0)
    fast(*(t.numpy() for t in (next_q, chooser, q, action, reward, discount, given, error, gradient)))
    wanted = targets.double_q(reward, discount, next_q, chooser) - losses.select(q, action)
    scale = weight * (-1.0 / 40) if weighted else -1.0 / 40
    assert torch.equal(error, wanted)
    assert torch.equal(gradient, losses.scatter_to_action(losses.LOSSES[loss][1](wanted) * scale, q, action))


def test_a_nan_in_the_values_is_seen_by_the_compiled_errors():
    next_q = torch.tensor([[[1.0, np.nan, 0.0]]])
    error, gradient = torch.zeros(1, 1), torch.zeros(1, 1, 3)
    one = torch.ones(1, 1)
    given = next_q, next_q, torch.zeros(1, 1, 3), torch.zeros(1, 1, dtype=torch.int64), one, one, torch.zeros(1, 0)
    jit.compiled(scalar.errors, HUBER=1)(*(t.numpy() for t in (*given, error, gradient)))
    assert torch.isnan(error).all()
