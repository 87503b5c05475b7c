"""Recurrent models of a compiled stack: torch's numbers to rounding, alone as stacked to the bit; the others by torch."""

import copy
import math

import numpy as np
import pytest
import torch
from daily import daily
from torch import nn

from supervised import RNN, Recipe, Stack, checkpoint, clip_per_seed, determinism, fit, losses, optimizer
from supervised.stack import compiled_adam, compiled_mlp, compiled_rnn, sequences

CELLS = ("gru", "rnn")


@pytest.fixture(autouse=True)
def _one_thread():
    with determinism.threads(1):
        yield


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def off(found, wanted):
    """How far numbers are from others, beside their length."""
    return float((found.double() - wanted).norm() / wanted.norm().clamp(min=1e-30))


def in_double(model, x, state, gradient, resets=None, burn_in=0):
    """Outputs, last state and gradients of one member by autograd in float64, step by step."""
    exact = copy.deepcopy(model).double()
    exact.zero_grad()
    x, gradient = x.double(), gradient.double()
    state = None if state is None else state.double()
    answers = []
    if resets is None and not burn_in:
        y, state = exact(x, state)
    else:
        for t in range(x.shape[1]):
            if t == burn_in and state is not None:
                state = state.detach()
            if resets is not None and state is not None:
                state = state * ~resets[None, :, t, None]
            answer, state = exact(x[:, t : t + 1], state)
            answers.append(answer.detach() if t < burn_in else answer)
        y = torch.cat(answers, 1)
    y.backward(gradient)
    return y.detach(), state.detach(), [parameter.grad for parameter in exact.parameters()]


def assert_is_torchs(stack, x, state, **more):
    y, after, backward = stack.unroll_vjp(x, state, **more)
    slope = drawn(*y.shape)
    backward(slope)
    for k, model in enumerate(stack.modules):
        resets = more.get("resets")
        own = {**more, "resets": None if resets is None else resets[k]}
        wanted, last, gradients = in_double(model, x[k], None if state is None else state[k], slope[k], **own)
        assert off(y[k], wanted) < 1e-6
        assert off(after[k], last) < 1e-6
        for (name, gradient), exact in zip(stack.gradients.items(), gradients, strict=True):
            assert off(gradient[k], exact) < 1e-5, name
    assert not stack.memory.idle()
    judged, _ = stack.unroll(x, state, resets=more.get("resets"))
    assert torch.equal(judged, y) if stack.compiled else torch.allclose(judged, y, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shape", ["many-to-many", "many-to-one", "one-to-one"])
@pytest.mark.parametrize("layers", [1, 2])
def test_compiled_is_torch_to_rounding(cell, shape, layers):
    for hidden, rows, steps in ((5, 3, 1), (32, 1, 9), (64, 8, 40)):
        stack = Stack(lambda h=hidden: RNN(3, 2, h, cell=cell, shape=shape, layers=layers), 2, compiled=True)
        assert stack.compiled
        x = drawn(2, rows, 3) if shape == "one-to-one" else drawn(2, rows, steps, 3)
        assert_is_torchs(stack, x, None)
        assert_is_torchs(stack, x, drawn(2, layers, rows, hidden))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("compiled", [True, False])
def test_resets_and_a_burn_in(cell, compiled):
    stack = Stack(lambda: RNN(3, 2, 6, cell=cell, layers=2), 2, compiled=compiled)
    x, state = drawn(2, 4, 9, 3), drawn(2, 2, 4, 6)
    resets = drawn(2, 4, 9) > 0.5
    assert resets.any()
    assert_is_torchs(stack, x, state, burn_in=4)
    assert_is_torchs(stack, x, state, resets=resets)
    assert_is_torchs(stack, x, None, resets=resets, burn_in=8)
    untouched = drawn(2, 4, 9, 2)
    _, _, backward = stack.unroll_vjp(x, state, resets=resets, burn_in=4)
    backward(untouched)
    assert torch.equal(untouched, drawn(2, 4, 9, 2))


def test_lstms_too_are_unrolled():
    stack = Stack(lambda: RNN(3, 2, 5), 2, compiled=True)
    assert not stack.compiled
    x, resets = drawn(2, 4, 6, 3), torch.zeros(2, 4, 6, dtype=torch.bool)
    resets[1, 2, 3] = True
    y, (h, c) = stack.unroll(x, resets=resets)
    assert h.shape == c.shape == (2, 1, 4, 5)
    torch.testing.assert_close(y[1, 2:3, 3:], stack.modules[1](x[1, 2:3, 3:])[0])
    torch.testing.assert_close(y[0], stack.modules[0](x[0])[0])
    _, _, backward = stack.unroll_vjp(x, (h, c), resets=resets, burn_in=2)
    backward(torch.ones_like(y))
    assert stack.flat.grad.norm() > 0


def test_the_tanh_is_as_exact_as_it_says():
    for x in torch.linspace(-12, 12, 4001).tolist():
        assert abs(float(compiled_rnn.tanh(np.float32(x))) - math.tanh(np.float32(x))) < 4e-7
    assert compiled_rnn.tanh(np.float32(np.inf)) == 1
    assert np.isnan(compiled_rnn.tanh(np.float32(np.nan)))


@pytest.mark.parametrize("cell", CELLS)
def test_step_by_step_is_the_whole_window(cell):
    stack = Stack(lambda: RNN(3, 2, 8, cell=cell), 3, compiled=True)
    x = drawn(3, 5, 7, 3)
    with torch.no_grad():
        whole, last = stack(x)
        state, answers = None, []
        for t in range(7):
            answer, state = stack(x[:, :, t : t + 1], state)
            answers.append(answer)
    torch.testing.assert_close(torch.cat(answers, 2), whole)
    torch.testing.assert_close(state, last)


def trained(make, seeds, x, y, steps, resets=None):
    stack = Stack(make, seeds, compiled=True)
    adam, state = compiled_adam.CompiledAdam(stack.memory, optimizer(stack, "Adam", 1e-2)), None
    for _ in range(steps):
        answer, state, backward = stack.unroll_vjp(x, state, resets=resets, burn_in=int(x.shape[2] > 2))
        answer.requires_grad_()
        losses.per_seed(losses.mse(answer, y)).sum().backward()
        backward(answer.grad)
        adam.step(1.0)
    with torch.no_grad():
        found = stack(x, state)
    return {**stack.state_dict(), "answer": answer.detach(), "state": state, "outputs": found[0]}


SWEEP = [(h, b, t) for h in (5, 32, 64) for b in (1, 8, 32) for t in (1, 8, 40)]
SMALL = [(5, 1, 8), (5, 8, 1), (32, 1, 1), (32, 8, 8), (64, 1, 8), (64, 8, 1), (64, 32, 8)]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("hidden", "rows", "steps"), daily(SWEEP, SMALL))
def test_alone_is_as_stacked(cell, hidden, rows, steps):
    make = lambda: RNN(3, 2, hidden, cell=cell, layers=1 + (hidden == 5))
    resets = drawn(8, rows, steps) > 1
    for n in (2, 3, 8):
        x, y = drawn(n, rows, steps, 3), drawn(n, rows, steps, 2)
        seeds = [7 + 2 * k for k in range(n)]
        together = trained(make, seeds, x, y, 4, resets[:n])
        for k in sorted({0, n // 2, n - 1}):
            one = slice(k, k + 1)
            alone = trained(make, seeds[one], x[one], y[one], 4, resets[one])
            for name, value in together.items():
                assert torch.equal(value[k], alone[name][0]), (name, n, k)


def frozen():
    model = RNN(3, 2, 5, cell="gru")
    model.head.requires_grad_(False)
    return model


class Doubled(RNN):
    """A subclass that computes otherwise."""

    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return 2 * y, state


def replaced():
    """A head whose forward somebody has replaced."""
    model = _with_head(nn.Sequential(nn.Linear(5, 2)))
    model.head.forward = lambda x: 2 * model.head[0](x)
    return model


def altered():
    model = RNN(3, 2, 5, cell="gru")
    model.trunk.cell = nn.GRU(3, 5, batch_first=True, bias=False)
    return model


def relu():
    model = RNN(3, 2, 5, cell="rnn")
    model.trunk.cell = nn.RNN(3, 5, nonlinearity="relu", batch_first=True)
    return model


def bidirectional():
    model = RNN(3, 2, 5, cell="gru")
    model.trunk.cell, model.head = nn.GRU(3, 5, batch_first=True, bidirectional=True), nn.Linear(10, 2)
    return model


FALLS_BACK = {
    "lstm": lambda: RNN(3, 2, 5),
    "dropout": lambda: RNN(3, 2, 5, cell="gru", layers=2, dropout=0.4),
    "sequence-to-sequence": lambda: RNN(3, 2, 5, cell="gru", shape="sequence-to-sequence", steps=4),
    "embedding": lambda: RNN(3, 2, 5, cell="gru", embedding=4),
    "frozen": frozen,
    "a function of one's own": replaced,
    "another forward": lambda: Doubled(3, 2, 5, cell="gru"),
    "no bias": altered,
    "relu": relu,
    "bidirectional": bidirectional,
    "float64": lambda: RNN(3, 2, 5, cell="gru").double(),
    "another head": lambda: _with_head(nn.Tanh()),
}


def _with_head(head):
    model = RNN(3, 5, 5, cell="gru")
    model.head = head
    return model


@pytest.mark.parametrize("name", FALLS_BACK)
def test_what_cannot_be_compiled_is_computed_as_before(name):
    """To the bit: by torch, member by member."""
    found = []
    for compiled in (True, False):
        stack = Stack(FALLS_BACK[name], 2, compiled=compiled)
        assert not stack.compiled
        x = drawn(2, 4, 6, 3).to(stack.flat.dtype) if name != "embedding" else torch.ones(2, 4, 6, dtype=torch.int64)
        y, _, backward = stack.unroll_vjp(x)
        backward(torch.ones_like(y))
        with torch.no_grad():
            found.append((y, stack.flat.grad, stack(x)[0]))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_inputs_that_are_not_compiled_for_go_through_torch():
    stack, plain = (Stack(lambda: RNN(3, 2, 5, cell="gru"), 2, compiled=compiled) for compiled in (True, False))
    x = drawn(2, 4, 6, 3)
    usual = stack(x)[0]  # with a gradient, by autograd
    usual.sum().backward()
    assert torch.equal(usual, plain(x)[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(stack.unroll(x)[0], plain.unroll(x)[0])
    with pytest.raises(ValueError, match="takes x"):
        stack.unroll(drawn(2, 4, 6, 4))


@pytest.mark.parametrize("shape", ["many-to-many", "one-to-one"])
def test_whole_numbers_are_one_hot_vectors(shape):
    stack, plain = (
        Stack(lambda: RNN(3, 2, 5, cell="gru", shape=shape), 2, compiled=compiled) for compiled in (True, False)
    )
    x = torch.tensor([[[0, 2, 1]], [[1, 1, 2]]]) if shape == "many-to-many" else torch.tensor([[0, 2], [1, 1]])
    y, _, backward = stack.unroll_vjp(x)
    wanted, _, back = plain.unroll_vjp(x)
    backward(torch.ones_like(y))
    back(torch.ones_like(y))
    torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-6)
    assert not torch.equal(stack.flat.grad, plain.flat.grad)  # it was compiled
    assert off(stack.flat.grad, plain.flat.grad.double()) < 1e-5
    with pytest.raises(ValueError, match="takes x"):
        stack.unroll(x + 1)


def test_heads_of_several_layers_and_wide_ones():
    stack = Stack(lambda: _with_head(nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 1))), 2, compiled=True)
    assert stack.compiled
    assert_is_torchs(stack, drawn(2, 4, 6, 3), None, burn_in=2)


class Encoded(nn.Module):
    """A model of one's own: layers before the cells, and none behind them."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 4), nn.ReLU())
        self.cell = nn.GRU(4, 5, 2, batch_first=True)

    def forward(self, x, state=None):
        return self.cell(self.encoder(x), state)


def test_layers_before_the_cells(monkeypatch):
    assert not Stack(Encoded, 2, compiled=True).compiled
    monkeypatch.setattr(sequences, "SEQUENCES", dict(sequences.SEQUENCES))
    sequences.register_sequence(Encoded)(
        lambda models: sequences.Layout([[m.encoder for m in models]], [m.cell for m in models], [], "all")
    )
    stack = Stack(Encoded, 2, compiled=True)
    assert stack.compiled
    assert_is_torchs(stack, drawn(2, 4, 6, 3), drawn(2, 2, 4, 5))
    assert_is_torchs(stack, drawn(2, 4, 6, 3), None, resets=drawn(2, 4, 6) > 0.5, burn_in=3)
    whole, plain = torch.tensor([[[0, 2, 1]], [[1, 1, 2]]]), Stack(Encoded, 2)
    for one in (stack, plain):  # this one takes no whole numbers
        with pytest.raises(ValueError, match="takes x"):
            one.unroll(whole)


def test_a_hook_is_heard():
    stack, heard = Stack(lambda: RNN(3, 2, 5, cell="gru"), 2, compiled=True), []
    x = drawn(2, 4, 6, 3)
    stack.unroll(x)
    assert stack.compiled
    handle = stack.modules[1].trunk.cell.register_forward_hook(lambda *_: heard.append(1))
    with torch.no_grad():
        stack(x)
    stack.unroll(x)
    y, _, backward = stack.unroll_vjp(x)
    assert len(heard) == 3
    backward(torch.ones_like(y))
    by_torch = stack.flat.grad.clone()
    handle.remove()
    y, _, backward = stack.unroll_vjp(x)
    backward(torch.ones_like(y))
    assert len(heard) == 3
    assert off(stack.flat.grad, by_torch.double()) < 1e-5


def test_a_gradient_may_be_taken_twice_and_others_computed_meanwhile():
    stack = Stack(lambda: RNN(3, 2, 5, cell="gru"), 2, compiled=True)
    x = drawn(2, 4, 6, 3)
    y, _, backward = stack.unroll_vjp(x)
    slope = drawn(*y.shape)
    backward(slope)
    once = stack.flat.grad.clone()
    stack.unroll_vjp(drawn(2, 3, 5, 3))[2](drawn(2, 3, 5, 2))
    backward(slope)
    assert torch.equal(stack.flat.grad, once)


def test_clipping_and_torchs_optimizers_work_on_it():
    stack = Stack(lambda: RNN(3, 2, 5, cell="gru"), 2, compiled=True)
    before, adam = stack.state_dict()["head.weight"].clone(), optimizer(stack, "Adam", 0.1)
    y, _, backward = stack.unroll_vjp(drawn(2, 4, 6, 3))
    backward(torch.ones_like(y))
    assert clip_per_seed(stack, 0.1).gt(0.1).all()
    adam.step()
    assert not torch.equal(stack.state_dict()["head.weight"], before)


@pytest.mark.parametrize("compiled", [True, False])
def test_what_does_not_fit_is_told(compiled):
    stack = Stack(lambda: RNN(3, 2, 5, cell="gru"), 2, compiled=compiled)
    x = drawn(2, 4, 6, 3)
    with pytest.raises(ValueError, match="less than the 6 steps of x, not 6"):
        stack.unroll_vjp(x, burn_in=6)
    with pytest.raises(ValueError, match=r"burn_in must be a whole number of at least 0"):
        stack.unroll_vjp(x, burn_in=-1)
    with pytest.raises(ValueError, match=r"resets must be a bool tensor \[2, 4, 6\].*int64 \[2, 4, 6\]"):
        stack.unroll(x, resets=torch.zeros(2, 4, 6, dtype=torch.int64))
    for n in (1, 3):
        resets = torch.zeros(n, 4, 6, dtype=torch.bool)
        for way in (stack.unroll, stack.unroll_vjp):
            for more in ({}, {"resets": resets}):
                with pytest.raises(ValueError, match=rf"2 members, so x must be \[2, \.\.\.\], not \[{n}, 4, 6, 3\]"):
                    way(drawn(n, 4, 6, 3), **more)
    for state in (drawn(2, 1, 4, 6), drawn(2, 1, 3, 5), drawn(2, 2, 4, 5), drawn(1, 1, 4, 5)):
        with pytest.raises(ValueError, match=r"takes x \[N|members"):
            stack.unroll(x, state)
    with pytest.raises(ValueError, match="require sequences"):
        stack.unroll(drawn(2, 4), resets=torch.zeros(2, 4, dtype=torch.bool))
    y, _, backward = stack.unroll_vjp(x)
    with pytest.raises(ValueError, match=r"gradient must match the outputs, float32 \[2, 4, 6, 2\], not"):
        backward(y[:1])
    last = Stack(lambda: RNN(3, 2, 5, cell="gru", shape="many-to-one"), 2, compiled=compiled)
    with pytest.raises(ValueError, match="models with an output at each step"):
        last.unroll_vjp(x, burn_in=1)


# -- fits ------------------------------------------------------------------------------------------------------------------

SERIES = drawn(24, 10, 3), drawn(24, 10, 2)
CUT = Recipe(epochs=2, batch_size=8, bptt_steps=4, loss="mse", clip_norm=1.0)


def of_fit(seeds, compiled, cell="gru", **more):
    make = lambda: RNN(3, 2, 6, cell=cell, loss="mse")
    more = {"recipe": CUT, "progress": False, **more}
    return fit(make, SERIES, seeds=seeds, compiled=compiled, validation=0.25, **more)


@pytest.mark.parametrize("cell", CELLS)
def test_a_compiled_fit_is_the_usual_one_to_rounding_and_alone_as_stacked(cell):
    both, usual, alone = of_fit([3, 5], True, cell), of_fit([3, 5], False, cell), of_fit([5], True, cell)
    assert str(both.compute_plan) == "float32, 1 thread, compiled"
    assert str(usual.compute_plan) == "float32, 1 thread"
    for name, value in both.stack.state_dict().items():
        torch.testing.assert_close(value, usual.stack.state_dict()[name], rtol=1e-3, atol=1e-5)
        assert torch.equal(value[1], alone.stack.state_dict()[name][0])
    assert all(
        (a["train/loss"][1] == b["train/loss"][0]).all() for a, b in zip(both.history, alone.history, strict=True)
    )
    assert torch.equal(both.predict(SERIES[0])[1], alone.predict(SERIES[0])[0])


def test_a_compiled_fit_goes_on_where_it_stopped(tmp_path):
    whole = of_fit(2, True)
    of_fit(2, True, recipe=Recipe(**{**vars(CUT), "epochs": 1}), logdir=tmp_path)
    with pytest.raises(checkpoint.CheckpointError, match="compiled was True and is now False"):
        of_fit(2, False, logdir=tmp_path, resume=True)
    resumed = of_fit(2, True, logdir=tmp_path, resume=True)
    assert torch.equal(whole.stack.flat, resumed.stack.flat)


def test_a_compiled_fit_goes_on_without_numba(tmp_path, monkeypatch):
    of_fit(2, True, recipe=Recipe(**{**vars(CUT), "epochs": 1}), logdir=tmp_path)
    monkeypatch.setattr(compiled_mlp, "possible", lambda: False)
    with pytest.warns(
        UserWarning, match="was computed in float32, 1 thread, compiled, and continues in float32, 1 thread:"
    ):
        resumed = of_fit(2, True, logdir=tmp_path, resume=True)
    assert resumed.epoch == 2


def test_lbfgs_is_not_compiled():
    with pytest.raises(ValueError, match="compiled must be False"):
        of_fit(1, True, recipe=Recipe(optimizer="LBFGS", batch_size=None))
