"""Recurrent models with layers around their cells, sequences of unlike lengths, a burn-in for each row, and numpy arrays."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from supervised import CNN, MLP, RNN, Stack, chrono, determinism
from supervised.models.rnn import Followed, RecurrentTrunk
from supervised.stack import compiled_mlp, manual_backward

CELLS = ("gru", "rnn", "lstm")
BURN_IN = torch.tensor([[0, 3, 5, 2], [4, 4, 1, 6]])
LENGTHS = [9, 6]


@pytest.fixture(autouse=True)
def _one_thread():
    with determinism.threads(1):
        yield


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def resets():
    return drawn(2, 4, 9) > 0.8


def off(found, wanted):
    return float((found.double() - wanted.double()).norm() / wanted.double().norm().clamp(min=1e-30))


def at(state, k):
    return tuple(part[k] for part in state) if isinstance(state, tuple) else None if state is None else state[k]


def row_by_row(model, x, state, slope, starts, burn_in, length):
    """Outputs [B, T, O], last states and gradients of one member in float64: each row alone, step by step."""
    exact = copy.deepcopy(model).double()
    exact.zero_grad()
    outputs, states = [], []
    for b in range(len(x)):
        one = lambda part, b=b: None if part is None else part[:, b : b + 1].double()
        held = tuple(map(one, state)) if isinstance(state, tuple) else one(state)
        answers = []
        for t in range(length):
            if t == burn_in[b] and held is not None:
                held = tuple(part.detach() for part in held) if isinstance(held, tuple) else held.detach()
            held = None if starts is not None and starts[b, t] else held
            answer, held = exact(x[b : b + 1, t : t + 1].double(), held)
            answers.append(answer[0, 0])
        if burn_in[b] < length:
            sum((answers[t] * slope[b, t].double()).sum() for t in range(int(burn_in[b]), length)).backward()
        outputs.append(torch.stack([answer.detach() for answer in answers]))
        states.append(held)
    if isinstance(states[0], tuple):
        after = tuple(torch.cat(parts, 1).detach() for parts in zip(*states, strict=True))
    else:
        after = torch.cat(states, 1).detach()
    return torch.stack(outputs), after, [parameter.grad for parameter in exact.parameters()]


def assert_is_row_by_row(stack, x, state, burn_in, lengths, starts):
    n, b, t = x.shape[:3]
    more = {"resets": starts, "lengths": lengths}
    y, after, backward = stack.unroll_vjp(x, state, burn_in=burn_in, **more)
    judged, last = stack.unroll(x, state, **more)
    assert torch.allclose(judged, y, atol=1e-6)
    slope = drawn(*y.shape)
    given = slope.clone()
    rows = torch.full((n, b), burn_in) if isinstance(burn_in, int) else burn_in
    for k in range(n):
        for row in range(b):
            given[k, row, : rows[k, row]] = 99 if row % 2 else torch.nan
        if lengths is not None:
            given[k, :, lengths[k] :] = torch.nan if k % 2 else 99
    untouched = given.clone()
    backward(given)
    assert torch.equal(given.nan_to_num(7), untouched.nan_to_num(7))
    for k, model in enumerate(stack.modules):
        length = t if lengths is None else lengths[k]
        own = None if starts is None else starts[k]
        wanted, ends, gradients = row_by_row(model, x[k], at(state, k), slope[k], own, rows[k], length)
        assert off(y[k, :, :length], wanted) < 1e-6
        assert not y[k, :, length:].any()
        pairs = zip(after, ends, strict=True) if isinstance(after, tuple) else [(after, ends)]
        assert all(off(found[k], end) < 1e-6 for found, end in pairs)
        for (name, gradient), exact in zip(stack.gradients.items(), gradients, strict=True):
            assert off(gradient[k], exact) < 1e-5, name
    assert type(last) is type(after)


def first_state(cell, n=2, layers=2, b=4, h=6):
    return (drawn(n, layers, b, h), drawn(n, layers, b, h + 1)[..., 1:]) if cell == "lstm" else drawn(n, layers, b, h)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("starts", [None, "some"])
def test_gradients_with_a_burn_in_for_each_row_and_unlike_lengths(cell, compiled, starts):
    stack = Stack(lambda: RNN(3, 2, 6, cell=cell, layers=2), 2, compiled=compiled)
    assert stack.compiled == (compiled and cell != "lstm")
    x, starts = drawn(2, 4, 9, 3), None if starts is None else resets()
    for burn_in, lengths in ((BURN_IN, None), (0, LENGTHS), (BURN_IN, LENGTHS), (3, LENGTHS)):
        padded = x.clone()
        if lengths is not None:
            padded[1, :, 6:] = torch.nan
        assert_is_row_by_row(stack, padded, first_state(cell), burn_in, lengths, starts)
        assert_is_row_by_row(stack, padded, None, burn_in, lengths, starts)


@pytest.mark.parametrize("compiled", [True, False])
def test_rows_that_are_within_their_burn_in_to_the_end_have_no_gradient(compiled):
    stack = Stack(lambda: RNN(3, 2, 6, cell="gru"), 2, compiled=compiled)
    x = drawn(2, 4, 9, 3)
    y, _, backward = stack.unroll_vjp(x, burn_in=torch.full((2, 4), 7), lengths=[9, 5])
    backward(torch.ones_like(y))
    for gradient in stack.gradients.values():
        assert gradient[0].any()
        assert not gradient[1].any()
    y, _, backward = stack.unroll_vjp(x, burn_in=7, lengths=[5, 5])
    backward(torch.ones_like(y))
    assert not stack.flat.grad.any()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("hidden", "rows"), [(5, 5), (64, 5), (64, 1)])
def test_a_member_does_not_see_the_others_lengths_nor_its_padding(cell, hidden, rows):
    make = lambda: Followed(
        RNN(7, 5, hidden, cell=cell, before=nn.Sequential(nn.Linear(3, 7), nn.ReLU())),
        nn.Sequential(nn.ReLU(), Doubling()),
    )
    stack, lengths = Stack(make, 4, compiled=True), [13, 1, 8, 5]
    x, burn_in = drawn(4, rows, 13, 3), torch.arange(4 * rows).view(4, rows) % 5
    starts = drawn(4, rows, 13) > 1
    y, after, backward = stack.unroll_vjp(x, resets=starts, burn_in=burn_in, lengths=lengths)
    slope = drawn(*y.shape)
    backward(slope)
    for k, length in enumerate(lengths):
        alone, one = Stack(make, [k], compiled=True), slice(k, k + 1)
        burns = burn_in[one]
        for padded in (length, 13):
            if padded == length and int(burns.max()) >= length:
                continue
            y_, after_, back = alone.unroll_vjp(
                x[one, :, :padded], resets=starts[one, :, :padded], burn_in=burns, lengths=[length]
            )
            back(slope[one, :, :padded])
            assert torch.equal(y[one, :, :length], y_[:, :, :length])
            for part, part_ in zip(after, after_, strict=True) if cell == "lstm" else [(after, after_)]:
                assert torch.equal(part[one], part_)
            for name, gradient in stack.gradients.items():
                assert torch.equal(gradient[k], alone.gradients[name][0]), name


def test_all_lengths_full_is_none():
    stack, x = Stack(lambda: RNN(3, 2, 6, cell="gru"), 2, compiled=True), drawn(2, 4, 9, 3)
    found = []
    for lengths in (None, [9, 9], torch.tensor([9, 9])):
        y, after, backward = stack.unroll_vjp(x, lengths=lengths)
        backward(drawn(*y.shape))
        found.append(torch.cat([part.flatten() for part in (y, after, stack.flat.grad)]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("compiled", [True, False])
def test_what_does_not_fit_is_told(compiled):
    stack, x = Stack(lambda: RNN(3, 2, 6, cell="gru"), 2, compiled=compiled), drawn(2, 4, 9, 3)
    for burn_in, said in (
        (BURN_IN[:1], r"burn_in must be a number of steps, or an int64 tensor \[2, 4\].*not int64 \[1, 4\]"),
        (BURN_IN.int(), r"burn_in must .*not int32"),
        (BURN_IN + 3, "less than the 9 steps of x, not 9"),
        (BURN_IN - 1, "at least 0, not -1"),
    ):
        with pytest.raises(ValueError, match=said):
            stack.unroll_vjp(x, burn_in=burn_in)
    for lengths, said in (
        ([9], "lengths must have one number of steps for each of 2 members, not 1"),
        ([9, 0], r"lengths\[1\] must be a whole number of at least 1"),
        ([10, 9], r"lengths\[0\] must be a whole number of at least 1 and at most 9"),
        (9, "lengths must be a list of whole numbers"),
    ):
        for way in (stack.unroll, stack.unroll_vjp):
            with pytest.raises(ValueError, match=said):
                way(x, lengths=lengths)
    last = Stack(lambda: RNN(3, 2, 5, cell="gru", shape="many-to-one"), 2, compiled=compiled)
    with pytest.raises(ValueError, match="models with an output at each step"):
        last.unroll(x, lengths=[3, 9])


# -- before ----------------------------------------------------------------------------------------------------------------


class Two(nn.Module):
    """{"pixels": [rows, 1, 6, 6], "speed": [rows, 2]} -> [rows, 7]."""

    def __init__(self):
        super().__init__()
        self.pixels, self.speed = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 4)), nn.Linear(2, 3)

    def forward(self, x):
        return torch.cat([self.pixels(x["pixels"]), self.speed(x["speed"])], -1)


def test_a_cnn_before_the_cells():
    cnn = CNN((1, 8, 8), 4, (3,), widths=(5,))
    model = RNN(5, 2, 6, cell="gru", before=cnn.trunk)
    x = drawn(3, 4, 1, 8, 8)
    rows = torch.stack([cnn.trunk(x[:, t]) for t in range(4)], 1)
    torch.testing.assert_close(model.trunk(x)[0], model.trunk.cell(rows)[0])
    assert model(x)[0].shape == (3, 4, 2)
    assert {name.split(".")[0] for name in dict(model.trunk.named_parameters())} == {"before", "cell"}


@pytest.mark.parametrize("shape", ["many-to-many", "many-to-one", "one-to-one"])
@pytest.mark.parametrize("cell", CELLS)
def test_dicts_before_the_cells(shape, cell):
    model, steps = RNN(7, 2, 6, cell=cell, shape=shape, before=Two()), () if shape == "one-to-one" else (4,)
    x = {"pixels": drawn(3, *steps, 1, 6, 6), "speed": drawn(3, *steps, 2)}
    y, _ = model(x)
    rows = Two.forward(model.trunk.before, {k: v.flatten(0, len(steps)) for k, v in x.items()})
    features, _ = model.trunk.cell(rows.view(3, -1, 7))
    wanted = model.head(features if steps else features[:, 0])
    torch.testing.assert_close(y, wanted[:, -1] if shape == "many-to-one" else wanted)


def test_dicts_are_unrolled():
    stack = Stack(lambda: RNN(7, 2, 6, cell="gru", before=Two()), 2, compiled=True)
    assert not stack.compiled
    x = {"pixels": drawn(2, 4, 9, 1, 6, 6), "speed": drawn(2, 4, 9, 2)}
    y, after, backward = stack.unroll_vjp(x, resets=resets(), burn_in=BURN_IN, lengths=LENGTHS)
    backward(torch.ones_like(y))
    gradient = stack.flat.grad.clone()
    for k, length in enumerate(LENGTHS):
        read = torch.stack(
            [stack.modules[k].trunk.before({n: v[k, :, t] for n, v in x.items()}) for t in range(length)], 1
        )
        plain = Stack.of([RNN(7, 2, 6, cell="gru")], 1)
        plain.modules[0].trunk.cell.load_state_dict(stack.modules[k].trunk.cell.state_dict())
        plain.modules[0].head.load_state_dict(stack.modules[k].head.state_dict())
        wanted, last = plain.unroll(read[None].detach(), resets=resets()[k : k + 1, :, :length])
        torch.testing.assert_close(y[k, :, :length], wanted[0])
        torch.testing.assert_close(after[k], last[0])
    y, _, backward = stack.unroll_vjp(x)
    backward(torch.ones_like(y))
    assert gradient.any()
    assert not torch.equal(gradient, stack.flat.grad)
    with pytest.raises(ValueError, match=r"have the same first axes.*\[2, 4, 9, 1, 6, 6\] and \[2, 4, 8, 2\]"):
        stack.unroll({**x, "speed": x["speed"][:, :, :8]}, lengths=[3, 3])


def test_whole_numbers_go_to_before_as_they_are():
    stack = Stack(lambda: RNN(4, 2, 6, cell="gru", before=nn.Embedding(9, 4)), 2, compiled=True)
    x = torch.arange(2 * 4 * 9).view(2, 4, 9) % 9
    y, _ = stack.unroll(x)
    for k, model in enumerate(stack.modules):
        torch.testing.assert_close(y[k], model.head(model.trunk.cell(model.trunk.before(x[k]))[0]))


@pytest.mark.parametrize("shape", ["one-to-many", "sequence-to-sequence"])
def test_what_cannot_stand_before_the_cells_is_told(shape):
    with pytest.raises(ValueError, match=f"A {shape} model.* cannot have a module before its cells"):
        RNN(4, 2, shape=shape, steps=3, before=nn.Linear(3, 4))
    with pytest.raises(ValueError, match="embedding and before are mutually exclusive"):
        RNN(4, 2, embedding=3, before=nn.Linear(3, 4))
    with pytest.raises(ValueError, match=r"before must be a torch\.nn\.Module or None"):
        RNN(4, 2, before=4)
    with pytest.raises(ValueError, match=r"before must return \[6, 4\], `inputs` numbers per row, not \[6, 5\]"):
        RNN(4, 2, before=nn.Linear(3, 5))(drawn(2, 3, 3))


def test_init_leaves_before_alone():
    before = nn.Linear(3, 4)
    weight = before.weight.clone()
    model = RNN(4, 2, 5, before=before, init="zeros")
    assert torch.equal(before.weight, weight)
    assert not model.head.weight.any()
    assert not model.trunk.cell.weight_hh_l0.any()


BEFORE = {
    "mlp": (lambda: MLP(12, 3, (7,)).trunk, 7),
    "mlp with its head": (lambda: MLP(12, 5, (7, 4)), 5),
    "linear, relu": (lambda: nn.Sequential(nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 4)), 4),
}


@pytest.mark.parametrize("name", BEFORE)
@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_layers_before_the_cells_are_compiled(name, cell):
    make, width = BEFORE[name]
    stack = Stack(lambda: RNN(width, 2, 6, cell=cell, layers=2, before=make()), 2, compiled=True)
    assert stack.compiled
    x = drawn(2, 4, 9, 12)
    for burn_in, lengths, starts in itertools.product((0, BURN_IN), (None, LENGTHS), (None, resets())):
        assert_is_row_by_row(stack, x, first_state(cell), burn_in, lengths, starts)
    plain = Stack(lambda: RNN(width, 2, 6, cell=cell, layers=2, before=make()), 2)
    if "mlp" in name:  # which flattens
        assert torch.equal(stack.unroll(x.view(2, 4, 9, 3, 4))[0], stack.unroll(x)[0])
        assert stack.compiled_sequence().fits(x.view(2, 4, 9, 3, 4))
    assert not stack.compiled_sequence().fits(x[..., :11])
    torch.testing.assert_close(stack.unroll(x)[0], plain.unroll(x)[0], rtol=1e-4, atol=1e-6)


def test_layers_before_a_single_step_are_compiled():
    stack, plain = (
        Stack(lambda: RNN(7, 2, 6, cell="gru", shape="one-to-one", before=MLP(12, 3, (7,)).trunk), 2, compiled=compiled)
        for compiled in (True, False)
    )
    assert stack.compiled
    for x in (drawn(2, 4, 12), drawn(2, 4, 12).view(2, 4, 3, 4)):
        assert stack.compiled_sequence().fits(x)
        torch.testing.assert_close(stack.unroll(x)[0], plain.unroll(x)[0], rtol=1e-4, atol=1e-6)


# -- behind ----------------------------------------------------------------------------------------------------------------


class Doubling(nn.Module):
    """x and x squared, side by side."""

    def forward(self, x):
        return torch.cat([x, x * x], -1)


class DoublingBackward:
    """Also of a `Scaled`, with which it never comes to be used."""

    def forward(self, x, keep):
        return torch.cat([x, x * x], -1)

    def backward(self, gradient, x, y, needed):
        width = x.shape[-1]
        return gradient[..., :width] + 2 * x * gradient[..., width:]


class Scaled(nn.Module):
    """A layer with a weight, which is no layer of rows."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([2.0]))

    def forward(self, x):
        return self.scale * x


@manual_backward.register_backward(Doubling, Scaled)
def _doubling(memory, modules):
    return DoublingBackward()


BEHIND = {
    "a layer": Doubling,
    "layers": lambda: nn.Sequential(
        nn.ReLU(), Doubling(), nn.Linear(8, 3), nn.ReLU(), nn.ReLU(), Doubling(), nn.Linear(6, 1)
    ),
    "relu": nn.ReLU,
    "linear": lambda: nn.Linear(4, 3),
}


@pytest.mark.parametrize("name", BEHIND)
@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_layers_behind_the_cells_are_compiled(name, cell):
    stack = Stack(lambda: Followed(RNN(3, 4, 6, cell=cell, layers=2), BEHIND[name]()), 2, compiled=True)
    assert stack.compiled
    x = drawn(2, 4, 9, 3)
    for burn_in, lengths, starts in itertools.product((0, BURN_IN), (None, LENGTHS), (None, resets())):
        assert_is_row_by_row(stack, x, first_state(cell), burn_in, lengths, starts)


@pytest.mark.parametrize("shape", ["many-to-one", "one-to-one"])
def test_layers_behind_other_shapes_are_compiled(shape):
    make = lambda: Followed(RNN(3, 4, 6, cell="gru", shape=shape), BEHIND["layers"]())
    stack, plain = Stack(make, 2, compiled=True), Stack(make, 2)
    assert stack.compiled
    x = drawn(2, 4, 3) if shape == "one-to-one" else drawn(2, 4, 9, 3)
    (y, _, backward), (wanted, _, back) = stack.unroll_vjp(x), plain.unroll_vjp(x)
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-6)
    backward(drawn(*y.shape))
    back(drawn(*y.shape))
    assert off(stack.flat.grad, plain.flat.grad) < 1e-5


def test_what_cannot_lie_behind_compiled_cells_goes_by_torch():
    for behind in (nn.Tanh, nn.Flatten, Scaled):
        make = lambda behind=behind: Followed(RNN(3, 4, 6, cell="gru"), behind())
        stack, plain = Stack(make, 2, compiled=True), Stack(make, 2)
        assert not stack.compiled
        assert torch.equal(stack.unroll(drawn(2, 4, 9, 3))[0], plain.unroll(drawn(2, 4, 9, 3))[0])


def test_a_network_without_a_state_is_followed_too():
    x = drawn(2, 6, 3)
    for behind, compiled in ((lambda: nn.Sequential(nn.ReLU(), nn.Linear(4, 2)), True), (Doubling, False)):
        stack = Stack(lambda behind=behind: Followed(MLP(3, 4, (5,)), behind()), 2, compiled=True)
        assert stack.compiled == stack.batched == compiled  # Doubling is not registered for all members at once
        y, backward = stack.vjp(x)
        backward(drawn(*y.shape))
        found = stack.flat.grad.clone()
        wanted = [model.behind(model.network(x[k])) for k, model in enumerate(stack.modules)]
        torch.testing.assert_close(y, torch.stack(wanted))
        stack.zero_grad()
        torch.stack(wanted).backward(drawn(*y.shape))
        torch.testing.assert_close(found, stack.flat.grad)
    with pytest.raises(ValueError, match=r"behind must be a torch\.nn\.Module"):
        Followed(MLP(3, 4, (5,)), len)


# -- chrono ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("two_ways", [False, True])
def test_chrono_sets_the_gates_that_remember(two_ways):
    lstm, gru = (kind(3, 400, 2, bidirectional=two_ways) for kind in (nn.LSTM, nn.GRU))
    before = copy.deepcopy([lstm.state_dict(), gru.state_dict()])
    both = nn.ModuleList([lstm, gru])
    assert chrono(both, 100) is both
    for layer, way in itertools.product((0, 1), ("", "_reverse") if two_ways else ("",)):
        name = f"l{layer}{way}"
        i, f, g, o = getattr(lstm, f"bias_ih_{name}").detach().chunk(4)
        for memory in (f, getattr(gru, f"bias_ih_{name}").detach().chunk(3)[1]):
            steps = memory.exp()
            assert 1 <= steps.min() < 6
            assert 94 < steps.max() <= 99
            assert abs(steps.mean() - 50) < 6
        assert torch.equal(i, -f)
        hidden = getattr(lstm, f"bias_hh_{name}").chunk(4)
        assert not hidden[0].any()
        assert not hidden[1].any()
        assert not getattr(gru, f"bias_hh_{name}").chunk(3)[1].any()
        assert torch.equal(torch.cat([g, o]), before[0][f"bias_ih_{name}"][800:])
        assert torch.equal(torch.cat(hidden[2:]), before[0][f"bias_hh_{name}"][800:])
        for kept in (0, 2):
            for part in ("bias_ih_", "bias_hh_"):
                assert torch.equal(getattr(gru, part + name).chunk(3)[kept], before[1][part + name].chunk(3)[kept])
    assert torch.equal(lstm.weight_hh_l0, before[0]["weight_hh_l0"])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_chrono_remembers(cell):
    """The state of cells whose other weights are 0 decays in about u steps, as equation 16 has it."""
    model = chrono(nn.GRU(1, 300) if cell == "gru" else nn.LSTM(1, 300), 50)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("weight"):
                parameter.zero_()
    held = torch.ones(1, 1, 300)
    _, state = model(torch.zeros(1, 1, 1), held if cell == "gru" else (held, held))
    u = model.bias_ih_l0.chunk(4 if cell == "lstm" else 3)[1].exp()
    kept = state[1] if cell == "lstm" else state
    if cell == "gru":
        new = torch.tanh(
            model.bias_ih_l0.chunk(3)[2]
            + torch.sigmoid(model.bias_ih_l0.chunk(3)[0] + model.bias_hh_l0.chunk(3)[0]) * model.bias_hh_l0.chunk(3)[2]
        )
    else:
        new = torch.tanh(model.bias_ih_l0.chunk(4)[2] + model.bias_hh_l0.chunk(4)[2])
    torch.testing.assert_close(kept[0, 0], u / (1 + u) + new / (1 + u))


def test_chrono_draws_from_each_members_own_stream():
    make = lambda: chrono(RNN(3, 2, 6, cell="gru"), 20)
    stack, alone = Stack(make, 3), Stack(make, [2])
    assert torch.equal(stack.weights["trunk.cell.bias_ih_l0"][2], alone.weights["trunk.cell.bias_ih_l0"][0])
    assert not torch.equal(*stack.weights["trunk.cell.bias_ih_l0"][:2])


def test_what_chrono_cannot_begin_is_told():
    with pytest.raises(ValueError, match=r"requires the gates of an nn\.LSTM or nn\.GRU; RNN has none"):
        chrono(RNN(3, 2, cell="rnn"), 20)
    with pytest.raises(ValueError, match="bias=False"):
        chrono(nn.GRU(3, 2, bias=False), 20)
    with pytest.raises(ValueError, match="longest_steps must be a whole number of at least 3, not 2"):
        chrono(nn.GRU(3, 2), 2)
    with pytest.raises(ValueError, match=r"module must be a torch\.nn\.Module"):
        chrono("gru", 20)


# -- arrays ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["gru", "rnn"])
@pytest.mark.parametrize("time_major", [False, True])
def test_arrays_are_tensors(cell, time_major):
    make = lambda: Followed(RNN(7, 4, 6, cell=cell, layers=2, before=nn.Linear(3, 7)), Doubling())
    stack = Stack(make, 2, compiled=True)
    sequence = stack.compiled_sequence()
    x, state = drawn(2, 4, 9, 3), first_state(cell)
    given = np.ascontiguousarray(x.numpy().swapaxes(1, 2)).swapaxes(1, 2) if time_major else x.numpy()
    assert sequence.fits(given, state.numpy(), None)
    for lengths, held in itertools.product((None, LENGTHS), (None, state)):
        y, after = sequence.forward(given, None if held is None else held.numpy(), lengths)
        wanted, last = stack.unroll(x, held, lengths=lengths)
        assert np.array_equal(y, wanted.numpy())
        assert np.array_equal(after, last.numpy())
        for burn_in in (None, BURN_IN):
            y, after, back = sequence.array_vjp(
                given, None if held is None else held.numpy(), None if burn_in is None else burn_in.numpy(), lengths
            )
            wanted, last, backward = stack.unroll_vjp(
                x, held, burn_in=0 if burn_in is None else burn_in, lengths=lengths
            )
            assert np.array_equal(y, wanted.numpy())
            assert np.array_equal(after, last.numpy())
            slope = drawn(*wanted.shape)
            backward(slope)
            gradient = stack.flat.grad.clone()
            stack.zero_grad()
            for strided in (slope.numpy(), np.ascontiguousarray(slope.numpy().swapaxes(1, 2)).swapaxes(1, 2)):
                back(strided)
                assert torch.equal(stack.flat.grad, gradient)
            assert not stack.memory.idle()


def test_states_of_arrays_are_nobody_elses():
    stack = Stack(lambda: RNN(3, 2, 6, cell="gru"), 2, compiled=True)
    sequence, x = stack.compiled_sequence(), drawn(2, 4, 1, 3).numpy()
    y, state = sequence.forward(x)
    kept = y.copy(), state.copy()
    sequence.forward(x + 1, state)
    assert np.array_equal(y, kept[0])
    assert np.array_equal(state, kept[1])


def test_which_arrays_fit():
    stack = Stack(lambda: RNN(3, 2, 6, cell="gru"), 2, compiled=True)
    sequence, x, state = stack.compiled_sequence(), drawn(2, 4, 9, 3).numpy(), drawn(2, 1, 4, 6).numpy()
    assert sequence.fits(x)
    assert sequence.fits(x, state)
    for wrong in (x.astype(np.float64), x[:1], x[..., :2], x[:, :0], x[:, :, 0], np.zeros((2, 4, 9), np.int64)):
        assert not sequence.fits(wrong)
    for wrong in (state[:1], state[..., :5], state.astype(np.float64), state[:, :, :3]):
        assert not sequence.fits(x, wrong)
    handle = stack.modules[0].head.register_forward_hook(lambda *_: None)
    assert stack.compiled_sequence() is None
    handle.remove()
    assert stack.compiled_sequence() is not None
    assert Stack(lambda: RNN(3, 2, 6, cell="lstm"), 2, compiled=True).compiled_sequence() is None
    assert isinstance(stack.modules[0].trunk, RecurrentTrunk)


def test_layers_around_the_cells_read_no_more_rows_than_there_are_steps(monkeypatch):
    seen, forward = [], compiled_mlp.CompiledMLP.forward

    def watched(self, x, keep, ends=None):
        seen.append(ends.tolist())
        y = forward(self, x, keep, ends)
        for k, end in enumerate(ends):
            assert np.array_equal(y[k, :end], forward(self, np.ascontiguousarray(x[:, :end]), False)[k])
            assert not y[k, end:].any()
        return y

    monkeypatch.setattr(compiled_mlp.CompiledMLP, "forward", watched)
    stack = Stack(lambda: RNN(7, 2, 6, cell="gru", before=nn.Linear(3, 7)), 2, compiled=True)
    stack.unroll(drawn(2, 4, 9, 3), lengths=LENGTHS)
    assert seen == [[36, 24], [36, 24]]
