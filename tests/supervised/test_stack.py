"""Alone is as stacked, to the bit, on whole training steps; and what a stack is besides."""

import copy
import random
import subprocess
import sys
import warnings

import pytest
import torch
from daily import daily
from torch import nn

import supervised
from supervised import CNN, MLP, RNN, Stack, clip_per_seed, determinism, losses
from supervised import optimizer as make_optimizer
from supervised.stack import norms
from supervised.stack.optimizers import OPTIMIZERS

SIZES = (1, 2, 3, 8, 32)


@pytest.fixture(autouse=True)
def _one_thread():
    with determinism.threads(1):
        yield


def trained(make, seeds, x, y, *, loss="mse", name="Adam", rate=1e-2, clip=None, steps=3, **options):
    """Three whole steps -> everything that a stack holds afterwards, and whether it was computed at once."""
    stack = Stack(make, seeds)
    optimizer = make_optimizer(stack, name, rate, **options)
    for _ in range(steps):
        answer = stack(x)
        answer = answer[0] if isinstance(answer, tuple) else answer
        found = losses.per_seed(losses.LOSSES[loss](answer, y))
        stack.zero_grad()
        found.sum().backward()
        if clip is not None:
            clip_per_seed(stack, clip)
        optimizer.step()
    return {**stack.state_dict(), "loss": found.detach(), "random": stack.random_state()}, stack.batched


def assert_alone_is_stacked(make, n, x, y, rate=1e-2, **settings):
    seeds = [50 + 3 * k for k in range(n)]
    together, batched = trained(make, seeds, x, y, rate=rate, **settings)
    for k in sorted({0, n // 2, n - 1}):
        own = [rate[k]] if isinstance(rate, list) else rate
        alone, _ = trained(make, seeds[k : k + 1], x[k : k + 1], y[k : k + 1], rate=own, **settings)
        for name in together:
            assert torch.equal(together[name][k], alone[name][0]), (name, k)
    return batched


def batch(n, size, inputs, outputs, loss, *between):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, size, *between, inputs, generator=generator)
    if loss == "cross_entropy":
        return x, torch.randint(outputs, (n, size, *between), generator=generator)
    return x, torch.rand(n, size, *between, outputs, generator=generator)


@pytest.mark.parametrize("round_", daily(range(12), range(2)))
def test_mlp_sweep(round_):
    """Widths odd and 1 too, depths, activations, norms, dropout, optimizers, losses, batch sizes, N = 1, 2, 3, 8, 32."""
    rng = random.Random(round_)
    for _ in range(60):
        width = rng.choice((1, 2, 3, 6, 7, 10, 16, 17, 18, 51, 64, 65))
        inputs, outputs = rng.choice((1, 2, 4, 7, 17, 51)), rng.choice((1, 2, 3, 5, 10, 18))
        settings = {
            "widths": [rng.choice((width, 1, 33, 64)) for _ in range(rng.choice((0, 1, 2, 3)))],
            "activation": rng.choice(("relu", "tanh", "sigmoid", "elu", "leaky_relu", "gelu", "silu", "selu")),
            "norm": rng.choice((None, None, "layer", "batch")),
            "dropout": rng.choice((0.0, 0.0, 0.3)),
            "init": rng.choice(("torch", "xavier", "he", "normal(0.1)")),
        }
        loss = rng.choice(tuple(losses.LOSSES))
        n, size = rng.choice(SIZES), rng.choice((1, 2, 3, 5, 16, 31, 32, 64, 100))
        size += settings["norm"] == "batch" and size == 1  # one example has no spread
        name = OPTIMIZERS[(round_ + rng.randrange(len(OPTIMIZERS))) % len(OPTIMIZERS)]
        x, y = batch(n, size, inputs, outputs, loss)
        assert assert_alone_is_stacked(
            lambda inputs=inputs, outputs=outputs, settings=settings: MLP(inputs, outputs, **settings),
            n,
            x,
            y,
            loss=loss,
            name=name,
            clip=rng.choice((None, 0.1)),
        ), "the MLP was not computed at once"


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"norm": True, "dropout": 0.3, "block": "vgg"},
        {"norm": True, "block": "residual", "pool": "average", "global_pool": "average"},
        {"pool": "fractional", "widths": (33,), "dense_dropout": 0.5, "activation": "elu"},
        {"global_pool": "max", "channels": (5, 1, 7)},
        {"channels": (16,), "widths": (150,)},  # a layer so large that two threads share out its norm
    ],
)
def test_cnn_sweep(settings, threads):
    generator = torch.Generator().manual_seed(0)
    settings = {"channels": (8, 16), **settings}
    for n in SIZES if threads == 1 else SIZES[:3]:
        x, y = torch.rand(n, 9, 1, 12, 12, generator=generator), torch.randint(10, (n, 9), generator=generator)
        with determinism.threads(threads):
            batched = assert_alone_is_stacked(
                lambda: CNN((1, 12, 12), 10, **settings),
                n,
                x,
                y,
                loss="cross_entropy",
                clip=0.01,
                name="AdamW",
                steps=2,
            )
        assert not batched


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize(
    ("shape", "steps"), [("many-to-many", None), ("many-to-one", None), ("sequence-to-sequence", 4)]
)
def test_rnn_sweep(cell, shape, steps):
    generator = torch.Generator().manual_seed(0)
    for n in SIZES:
        x = torch.randn(n, 3, 6, 5, generator=generator)
        size = {"many-to-many": (6,), "many-to-one": (), "sequence-to-sequence": (4,)}[shape]
        y = torch.randint(7, (n, 3, *size), generator=generator)
        assert_alone_is_stacked(
            lambda: RNN(5, 7, 9, cell=cell, shape=shape, steps=steps, layers=2, dropout=0.2), n, x, y,
            loss="cross_entropy", clip=0.1, steps=2,
        )  # fmt: skip


def test_sequences_through_an_mlp():
    x, y = batch(3, 4, 5, 2, "mse", 7)
    net = lambda: nn.Sequential(nn.Linear(5, 9), nn.LayerNorm(9), nn.Tanh(), nn.Linear(9, 2))
    assert assert_alone_is_stacked(net, 3, x, y)
    stack = Stack(net, [0, 1, 2])
    for k, module in enumerate(stack.modules):
        torch.testing.assert_close(stack(x)[k], module(x[k]))


def test_embeddings_at_once():
    net = lambda: nn.Sequential(nn.Embedding(7, 5), nn.Flatten(), nn.Linear(20, 2))
    x = torch.randint(7, (3, 6, 4), generator=torch.Generator().manual_seed(0))
    assert assert_alone_is_stacked(net, 3, x, torch.zeros(3, 6, 2))


@pytest.mark.parametrize("make", [lambda: MLP(4, 2, (16,)), lambda: CNN((1, 4, 4), 2, (3,))], ids=["mlp", "cnn"])
def test_a_learning_rate_for_each_member(make):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 5, *((1, 4, 4) if isinstance(make(), CNN) else (4,)), generator=generator)
    y = torch.rand(3, 5, 2, generator=generator)
    for name in ("SGD", "Adam", "RMSprop"):
        assert_alone_is_stacked(make, 3, x, y, rate=[0.1, 0.001, 0.0], name=name)
    stack = Stack(make, [0, 1, 2])
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    optimizer = make_optimizer(stack, "SGD", [0.1, 0.001, 0.0])
    losses.per_seed(losses.mse(stack(x), y)).sum().backward()
    optimizer.step()
    assert all(
        torch.equal(before[n][2], v[2]) and not torch.equal(before[n][0], v[0]) for n, v in stack.state_dict().items()
    )


def test_a_member_is_an_ordinary_module_on_the_live_weights():
    stack = Stack(lambda: MLP(3, 2, (5,)), [4, 7])
    x = torch.randn(2, 6, 3)
    torch.testing.assert_close(stack(x)[1], stack.member(7)(x[1]))
    with torch.no_grad():
        stack.member(7).head.bias += 1
    torch.testing.assert_close(stack(x)[1], stack.member(7)(x[1]))
    assert stack.state_dict()["head.bias"].shape == (2, 2)
    with pytest.raises(ValueError, match="Seed 5 is not in this stack; its seeds are 4, 7"):
        stack.member(5)


def test_it_is_what_torch_computes():
    """A stack's step is that of the plain module with torch's own loop, to float accuracy."""
    torch.manual_seed(0)
    x, y = torch.randn(2, 20, 3), torch.randn(2, 20, 1)
    stack = Stack(lambda: MLP(3, 1, (16, 16), norm="layer", activation="tanh"), [0, 1])
    plain = [copy.deepcopy(module) for module in stack.modules]
    optimizer, own = make_optimizer(stack, "Adam", 1e-2), [torch.optim.Adam(p.parameters(), 1e-2) for p in plain]
    for _ in range(20):
        stack.zero_grad()
        losses.per_seed(losses.mse(stack(x), y)).sum().backward()
        clip_per_seed(stack, 0.5)
        optimizer.step()
        for k in range(2):
            own[k].zero_grad()
            nn.functional.mse_loss(plain[k](x[k]), y[k]).backward()
            nn.utils.clip_grad_norm_(plain[k].parameters(), 0.5)
            own[k].step()
    for k in range(2):
        for a, b in zip(stack.modules[k].parameters(), plain[k].parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_clipping_looks_at_one_seed_at_a_time():
    stack = Stack(lambda: nn.Linear(1, 1, bias=False), [0, 1])
    (stack.weights["weight"].flatten() * torch.tensor([3.0, 0.5])).sum().backward()
    assert clip_per_seed(stack, 1.0).tolist() == [3.0, 0.5]
    assert stack.gradients["weight"].flatten().tolist() == pytest.approx([1.0, 0.5])
    assert norms(stack, stack.gradients.values()).tolist() == pytest.approx([1.0, 0.5])


def test_a_norm_beyond_float32_is_infinite_without_a_warning():
    stack = Stack(lambda: nn.Linear(1, 1, bias=False), [0, 1])
    (stack.weights["weight"].flatten() * torch.tensor([1e30, 0.5])).sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert clip_per_seed(stack, 1.0).tolist() == [float("inf"), 0.5]


def test_torchs_zero_grad_takes_nothing_away():
    stack = Stack(lambda: nn.Linear(2, 1), [0, 1])
    optimizer = make_optimizer(stack, "SGD", 0.1)
    before = stack.state_dict()["weight"].clone()
    for parameter in stack.modules[0].parameters():
        parameter.grad = None
    optimizer.zero_grad()
    stack(torch.ones(2, 1, 2)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(stack.state_dict()["weight"], before - 0.1)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.mask = nn.Linear(3, 3), torch.rand(3)  # a plain attribute, drawn at random

    def forward(self, x):
        return self.layer(x) * self.mask + torch.rand_like(x)


@pytest.mark.parametrize("make", [lambda: Doubled(3, 3), Own, lambda: nn.Sequential(nn.Linear(3, 3), nn.PReLU())])
def test_modules_without_a_rule_are_computed_one_by_one(make):
    x, y = batch(3, 4, 3, 3, "mse")
    assert not assert_alone_is_stacked(make, 3, x, y)


def test_a_hook_is_heard():
    heard = []

    def make():
        layer = nn.Linear(3, 3)
        layer.register_forward_hook(lambda *_: heard.append(1))
        return layer

    Stack(make, [0, 1])(torch.randn(2, 4, 3))
    assert len(heard) == 2


def test_shared_and_fixed_parameters():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            first = nn.Linear(3, 3)
            second = nn.Linear(3, 3)
            second.weight = first.weight
            self.layers = nn.Sequential(first, nn.ReLU(), second)

        def forward(self, x):
            return self.layers(x)

    x, y = batch(3, 4, 3, 3, "mse")
    assert_alone_is_stacked(Tied, 3, x, y)
    assert assert_alone_is_stacked(lambda: Tied().layers, 3, x, y)

    def fixed():
        net = MLP(3, 3, (4,))
        net.trunk.requires_grad_(False)
        return net

    stack = Stack(fixed, [0, 1])
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    optimizer = make_optimizer(stack, "Adam", 0.1)
    stack(x[:2]).sum().backward()
    optimizer.step()
    after = stack.state_dict()
    assert torch.equal(after["trunk.linear1.weight"], before["trunk.linear1.weight"])
    assert not torch.equal(after["head.weight"], before["head.weight"])


def test_random_numbers_are_each_seeds_own():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    make = lambda: nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5))
    stack = Stack(make, [1, 2])
    a, b = stack(torch.ones(2, 8, 4))
    assert not torch.equal(a == 0, b == 0)
    assert torch.equal(torch.rand(3), expected), "torch's own generator was touched"
    stack.train(False)
    assert not (stack(torch.ones(2, 8, 4)) == 0).any()


def test_dropout_keeps_the_mean():
    stack = Stack(lambda: nn.Dropout(0.3), [0, 1])
    answer = stack(torch.ones(2, 100_000, 1))
    assert answer.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert answer.mean().item() == pytest.approx(1, abs=0.01)
    assert torch.equal(Stack(lambda: nn.Dropout(1.0), [0])(torch.ones(1, 3, 2)), torch.zeros(1, 3, 2))


def test_states_go_and_come_back():
    make = lambda: MLP(3, 2, (4,), norm="batch", dropout=0.5)
    stack, other = (Stack(make, [0, 1]) for _ in range(2))
    with torch.no_grad():
        other.flat.zero_()
    x = torch.randn(2, 8, 3)
    stack(x)
    other.load_state_dict(stack.state_dict())
    other.load_random_state(stack.random_state())
    assert torch.equal(stack(x), other(x))
    assert "trunk.norm1.running_mean" in stack.state_dict()
    with pytest.raises(ValueError, match=r"belong to a different model: the saved state lacks head\.bias"):
        stack.load_state_dict({k: v for k, v in stack.state_dict().items() if k != "head.bias"})
    with pytest.raises(ValueError, match=r"head\.bias is \[2, 3\] in the file and \[2, 2\] in the model"):
        stack.load_state_dict({**stack.state_dict(), "head.bias": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match=r"has new, which the model does not"):
        stack.load_state_dict({**stack.state_dict(), "new": torch.zeros(2, 3)})


def test_what_cannot_be_stacked_is_told_of():
    widths = iter((3, 4))
    with pytest.raises(
        ValueError, match=r"seeds 0 and 1 differ in weight: all members must have the same architecture"
    ):
        Stack(lambda: nn.Linear(2, next(widths)), [0, 1])
    with pytest.raises(ValueError, match="At least one seed"):
        Stack(lambda: nn.Linear(2, 2), [])
    with pytest.raises(ValueError, match="a module for each: 1 for 2 seeds"):
        Stack.of([nn.Linear(2, 2)], [0, 1])
    one = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="the same module twice"):
        Stack(lambda: one, [0, 1])
    with pytest.raises(ValueError, match="run a lazy module on one input first"):
        Stack(lambda: nn.LazyLinear(2), [0])
    with pytest.raises(TypeError, match=r"must return a torch\.nn\.Module, not int"):
        Stack(lambda: 3, [0])
    with pytest.raises(ValueError, match=r"the same floating-point dtype, not torch\.float32, torch\.float64"):
        Stack(lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), [0])
    with pytest.raises(ValueError, match=r"2 members, so x must be \[2, \.\.\.\], not \[3, 4, 2\]"):
        Stack(lambda: nn.Linear(2, 2), [0, 1])(torch.zeros(3, 4, 2))
    stack = Stack(lambda: nn.Linear(2, 2), [0, 1])
    with pytest.raises(ValueError, match=r"There is no optimizer 'adamm'\. Did you mean 'Adam'\?"):
        make_optimizer(stack, "adamm")
    with pytest.raises(ValueError, match="3 learning rates for 2 seeds"):
        make_optimizer(stack, "Adam", [1, 2, 3])
    with pytest.raises(ValueError, match="Adam cannot be created"):
        make_optimizer(stack, "Adam", 0.1, momentum=0.9)
    with pytest.raises(ValueError, match="nothing to train"):
        make_optimizer(Stack(nn.ReLU, [0]))


def test_double_precision():
    x, y = batch(3, 4, 3, 2, "mse")
    make = lambda: MLP(3, 2, (5,), activation="sigmoid").double()
    assert assert_alone_is_stacked(make, 3, x.double(), y.double())


def test_products_and_activations_by_gradcheck():
    generator = torch.Generator().manual_seed(0)
    for inputs, outputs in ((3, 2), (1, 2), (3, 1), (1, 1)):
        x, w, b = (
            torch.randn(2, *s, dtype=torch.float64, generator=generator, requires_grad=True)
            for s in ((4, inputs), (outputs, inputs), (outputs,))
        )
        assert torch.autograd.gradcheck(determinism.product, (x, w, b))
        assert torch.autograd.gradgradcheck(determinism.product, (x, w, b))
        assert torch.autograd.gradcheck(lambda x, w: determinism.product(x, w, None), (x, w))
    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    for activation in (torch.sigmoid, torch.tanh, nn.functional.elu):
        assert torch.autograd.gradcheck(lambda x, f=activation: determinism.elementwise(f, x), (x,))


def test_a_product_before_the_import_is_told_of():
    """Without MKL's setting the law would break in silence; on a machine without MKL there is nothing to tell."""
    code = (
        "import os, torch\nos.environ.pop('MKL_CBWR', None)\ntorch.set_num_threads(1)\n"
        "torch.bmm(torch.ones(2, 64, 64), torch.ones(2, 64, 64))\n"
        "x, w = torch.randn(2, 10, 32), torch.randn(2, 32, 51)\n"
        "print(torch.equal(torch.bmm(x, w)[1:], torch.bmm(x[1:], w[1:])))\n"
        "import warnings, supervised\nwith warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always')\n    supervised.Stack(lambda: supervised.MLP(3, 2), [0, 1])\n"
        "print(any('MKL_CBWR=AVX2' in str(w.message) for w in said))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    same, told = done.stdout.split()
    assert told == str(same == "False")


def test_the_public_names():
    assert all(hasattr(supervised, name) for name in supervised.__all__)


def test_stacks_of_other_purposes_share_no_draws():
    def drawn(purpose):
        return Stack(lambda: MLP(4, 2, (64,), dropout=0.5), 2, purpose=purpose)(torch.ones(2, 1, 4))

    online, again, target = drawn("forward"), drawn("forward"), drawn("target")
    assert torch.equal(online, again)
    assert not torch.equal(online, target)
    with pytest.raises(ValueError, match="purpose"):
        drawn("other")
