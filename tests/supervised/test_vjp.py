"""`Stack.vjp` of whatever module somebody writes is autograd's gradient, or goes by autograd."""

import io
import itertools
import random

import pytest
import torch
from daily import daily
from torch import nn

from supervised import CNN, MLP, RNN, Stack, clip_per_seed, determinism, optimizer, stack
from supervised.models.layers import Model

WIDTH = 6


@pytest.fixture(autouse=True)
def _one_thread():
    with determinism.threads(1):
        yield


class Branches(nn.Module):
    """Two ways that are added up, of which the first is also taken twice."""

    def __init__(self, one, other, last):
        super().__init__()
        self.one, self.other, self.last = one, other, last

    def forward(self, x):
        return self.last(self.one(self.one(x)) + self.other(x))


class Scaled(nn.Module):
    """A learned temperature: a parameter without axes."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(1.3))

    def forward(self, x):
        return x * self.temperature


class Doubled(nn.Linear):
    """A subclass that computes otherwise than its base does."""

    def forward(self, x):
        return 2 * super().forward(x)


class Called(nn.Sequential):
    """Another way of being called."""

    def __call__(self, x):
        return -super().__call__(x)


SIMPLE = [
    *([lambda: nn.Linear(WIDTH, WIDTH)] * 3),
    *([nn.ReLU] * 2),
    lambda: nn.Linear(WIDTH, WIDTH, bias=False),
    lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(inplace=True)),
    lambda: nn.LayerNorm(WIDTH),
    lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.ReLU()),
]
OTHERS = [
    *(nn.Tanh, nn.Identity, Scaled, lambda: nn.BatchNorm1d(WIDTH)),
    lambda: nn.LayerNorm(WIDTH, elementwise_affine=False),
    lambda: Doubled(WIDTH, WIDTH),
    lambda: nn.Sequential(nn.Linear(WIDTH, 1), nn.Linear(1, WIDTH)),
    lambda: nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH)),
]


def alter(net, rng):
    """Repeat layers, tie weights, freeze parts, put hooks on modules and parameters, replace a forward."""
    linear = [part for part in net.modules() if type(part) is nn.Linear and part.in_features == part.out_features]
    for kind in rng.sample(["tie", "freeze", "module hook", "parameter hook", "forward"], rng.randrange(3)):
        if kind == "tie" and len(linear) > 1:
            linear[1].weight = linear[0].weight
        elif kind == "freeze":
            for parameter in rng.sample(list(net.parameters()), rng.randrange(2)):
                parameter.requires_grad_(False)
        elif kind == "module hook":
            rng.choice(list(net.modules())).register_forward_hook(lambda module, given, found: found * 1.5)
        elif kind == "parameter hook":
            trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
            if trained:
                rng.choice(trained).register_hook(lambda gradient: gradient * -2)
        elif kind == "forward" and linear:
            part = rng.choice(linear)
            part.forward = lambda x, part=part: nn.functional.linear(x, part.weight, None) * 3
    return net


def network(round_):
    rng = random.Random(round_)
    known = SIMPLE if rng.random() < 0.6 else SIMPLE + OTHERS
    layers = [rng.choice(known)() for _ in range(rng.randrange(1, 6))]
    if rng.random() < 0.3:
        layers.insert(rng.randrange(len(layers) + 1), rng.choice(layers))
    head = nn.Linear(WIDTH, 3)
    kind = rng.randrange(4)
    if kind == 0:
        net = Branches(nn.Sequential(*layers), nn.Linear(WIDTH, WIDTH), head)
    elif kind == 1:
        net = Model(nn.Sequential(*layers), head, "mse")
    else:
        net = (Called if rng.random() < 0.2 else nn.Sequential)(*layers, head)
    return alter(net, rng)


def assert_autograd(made, x):
    """The gradients that `vjp` writes are those of the members alone, by autograd."""
    made.train()
    y, backward = made.vjp(x)
    slope = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    backward(slope)
    found = {name: gradient.clone() for name, gradient in made.gradients.items()}
    made.zero_grad()
    for k in range(len(made.seeds)):
        alone = made.run(k, x[k].clone())
        torch.testing.assert_close(y[k], alone.detach(), rtol=1e-4, atol=1e-5)
        alone.backward(slope[k])
    for name, gradient in made.gradients.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-3, atol=1e-4, msg=lambda said, name=name: f"{name}: {said}"
        )


@pytest.mark.parametrize("round_", daily(range(400), range(60)))
@pytest.mark.parametrize("compiled", [False, True])
def test_random_modules(round_, compiled):
    made = Stack(lambda: network(round_), 2, compiled=compiled)
    assert_autograd(made, torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(round_)))


def test_both_ways_are_among_them():
    """So that the sweep above looks at chains, compiled ones too, and at what must not be one."""
    chains = [Stack(lambda r=r: network(r), 2, compiled=True)._chain is not None for r in range(60)]
    assert 10 < sum(chains) < 50


@pytest.mark.parametrize("compiled", [False, True])
def test_hooks_that_come_later_are_called(compiled):
    made = Stack(lambda: MLP(WIDTH, 3, (7, 7)), 3, compiled=compiled)
    x = torch.randn(3, 5, WIDTH)
    assert_autograd(made, x)
    heard = []
    handle = made.member(1).trunk[0].register_forward_hook(lambda *_: heard.append(1))
    assert_autograd(made, x)
    assert len(heard) == 2
    handle.remove()
    made.modules[2].head.weight.register_hook(lambda gradient: 0 * gradient)
    made.vjp(x)[1](torch.ones(3, 5, 3))
    assert not made.gradients["head.weight"][2].any()
    assert made.gradients["head.weight"][1].any()
    every = nn.modules.module.register_module_forward_hook(lambda *_: heard.append(2))
    made(x)
    every.remove()
    assert heard.count(2) >= 3


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: CNN((1, 6, 6), 3, (4,), widths=(5,)), torch.randn(2, 4, 1, 6, 6)),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 3)), torch.randn(2, 4, 1, 6, 6)),
        (lambda: nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 3)), torch.randint(5, (2, 4, 2))),
    ],
)
def test_other_inputs(make, x):
    assert_autograd(Stack(make, 2), x)


def test_members_that_compute_differently_are_computed_one_by_one():
    slopes = itertools.cycle([0.0, 0.5])
    make = lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(next(slopes)), nn.Linear(WIDTH, 3))
    made = Stack(make, 2)
    assert not made.batched
    assert_autograd(made, torch.randn(2, 5, WIDTH))
    kinds = itertools.cycle([nn.ReLU, nn.Tanh])
    assert_autograd(Stack(lambda: nn.Sequential(nn.Linear(WIDTH, 4), next(kinds)()), 2), torch.randn(2, 5, WIDTH))
    extra = itertools.cycle([[], [nn.ReLU()]])
    made = Stack(lambda: nn.Sequential(nn.Linear(WIDTH, 4), *next(extra)), 2)
    assert_autograd(made, torch.randn(2, 5, WIDTH))


def test_a_member_in_evaluation_mode_keeps_all_that_dropout_would_drop():
    made = Stack(lambda: nn.Sequential(nn.Linear(WIDTH, 50), nn.Dropout(0.5)), 2)
    made.member(0).eval()
    y = made(torch.randn(2, 5, WIDTH))
    assert (y[0] != 0).all()
    assert (y[1] == 0).any()


def test_weights_that_share_memory_without_being_one_are_refused():
    def views():
        net = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))
        net[1].weight = nn.Parameter(net[0].weight.detach().T)
        return net

    with pytest.raises(ValueError, match=r"0\.weight and 1\.weight of the model share memory"):
        Stack(views, 2)
    ties = itertools.cycle([True, False])

    def sometimes():
        net = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))
        if next(ties):
            net[1].weight = net[0].weight
        return net

    with pytest.raises(ValueError, match="seeds 0 and 1 differ"):
        Stack(sometimes, 2)


def test_members_that_tie_other_weights_are_refused():
    which = itertools.cycle([0, 1])

    def three():
        net = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(3)))
        net[2].weight = net[next(which)].weight
        return net

    with pytest.raises(ValueError, match=r"seeds 0 and 1 tie their weights differently: 2\.weight is"):
        Stack(three, 2)
    again = itertools.cycle([False, True])

    def alias():
        net = MLP(WIDTH, 3, (4,))
        if next(again):
            net.other = net.head
        return net

    with pytest.raises(ValueError, match="tie their weights differently"):
        Stack(alias, 2)


def test_every_pair_that_shares_memory_is_seen():
    def views():
        net = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(3)))
        whole = torch.randn(4 * WIDTH, WIDTH)
        for part, begin in zip(net, (0, WIDTH, WIDTH), strict=True):
            part.weight = nn.Parameter(whole[begin : begin + WIDTH])
        return net

    with pytest.raises(ValueError, match=r"1\.weight and 2\.weight of the model share memory"):
        Stack(views, 1)


def test_a_member_that_another_stack_adopts_is_computed_as_before():
    """Each stack hears of its own gradients, which are no hooks of a user's."""
    first = Stack(lambda: MLP(WIDTH, 3, (7,)), 2)
    second = Stack.of([first.member(1)], 1)
    assert not second._hooks.present()
    assert_autograd(second, torch.randn(1, 5, WIDTH))
    y = second(torch.randn(1, 5, WIDTH))
    second.zero_grad()
    y.sum().backward()
    assert not second.memory.idle()
    assert not first.memory.arrived


class Switched(nn.Module):
    """Which layer has a part is a matter of the input's first number."""

    def __init__(self):
        super().__init__()
        self.plus, self.minus, self.spare = nn.Linear(WIDTH, 2), nn.Linear(WIDTH, 2), nn.Linear(3, 3)

    def forward(self, x):
        return self.plus(x) if x[0, 0] > 0 else self.minus(x)


class Unused(Model):
    """One layer that nothing reads, beside a chain."""

    def __init__(self):
        super().__init__(nn.Sequential(nn.Linear(WIDTH, 4), nn.ReLU()), nn.Linear(4, 2), "mse")
        self.spare = nn.Linear(3, 3)


OPTIMIZERS = [("SGD", {"momentum": 0.9}), ("Adam", {}), ("AdamW", {}), ("RMSprop", {"momentum": 0.5}), ("Adagrad", {})]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
@pytest.mark.parametrize("kind", [Switched, Unused])
def test_what_has_no_part_in_a_step_neither_decays_nor_moves(name, options, kind):
    """As in torch, where such a gradient is None."""
    made = Stack(kind, 2)
    assert made.batched == (kind is Unused)
    alone = made.take(0)
    ours = optimizer(made, name, 0.1, weight_decay=0.3, **options)
    theirs = getattr(torch.optim, name)(alone.parameters(), 0.1, weight_decay=0.3, **options)
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        x = torch.randn(2, 5, WIDTH, generator=generator)
        x[:, 0, 0] = 1.0 if step % 3 else -1.0
        made.zero_grad()
        made(x).square().sum().backward()
        clip_per_seed(made, 1e9)
        ours.step()
        theirs.zero_grad()
        alone(x[0]).square().sum().backward()
        theirs.step()
    for (key, mine), theirs_ in zip(made.member(0).named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs_, rtol=1e-4, atol=1e-5, msg=lambda said, key=key: f"{key}: {said}")


def test_vjp_marks_what_its_chain_leaves_out():
    made = Stack(Unused, 2)
    ours = optimizer(made, "AdamW", 0.1, weight_decay=0.5)
    before = made.weights["spare.weight"].clone()
    y, backward = made.vjp(torch.randn(2, 5, WIDTH))
    backward(torch.ones_like(y))
    ours.step()
    assert torch.equal(made.weights["spare.weight"], before)


@pytest.mark.parametrize("make", [lambda: MLP(WIDTH, 3, (7,)), lambda: CNN((1, 6, 6), 3, (4,)), lambda: RNN(4, 3, 5)])
def test_a_member_that_is_taken_is_saved_alone(make):
    made, single = Stack(make, 50), make()
    sizes = []
    for module in (single, made.take(7)):
        file = io.BytesIO()
        torch.save(module, file)
        sizes.append(file.tell())
    assert sizes[1] < 1.2 * sizes[0]
    taken = made.take(7)
    for mine, theirs in zip(taken.parameters(), made.member(7).parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.untyped_storage().nbytes() == mine.nbytes
    with torch.no_grad():
        next(taken.parameters()).zero_()
    assert next(made.member(7).parameters()).any()


def test_owned_keeps_ties_and_buffers():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    copy = stack.owned(net)
    assert copy[2].weight is copy[0].weight is not net[0].weight
    copy[1].running_mean.add_(1)
    assert not net[1].running_mean.any()
