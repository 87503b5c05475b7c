"""`fit` on a GPU: the CPU's numbers, checkpoints that cross devices, precision, where answers lie, how often the host waits."""

from __future__ import annotations

import contextlib
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

import rl
import supervised
from supervised import CNN, MLP, Data, Diverged, Recipe, Stack, augment, device, fit, losses
from supervised.fitting import Fit
from supervised.models.cnn import Image
from supervised.stack.optimizers import OPTIMIZERS, load_state_by_seed, state_by_seed
from supervised.streams import Draws

NORMS = ("train/gradient_norm", "train/update_to_weight")
DEVICES = ("cpu", "cuda")
FOUR_WAYS = [(one, other) for one in DEVICES for other in DEVICES]
_g = torch.Generator().manual_seed(0)
X = torch.rand(40, 1, 8, 8, generator=_g)
Y = (X.flatten(1)[:, :32].sum(1) > X.flatten(1)[:, 32:].sum(1)).long()
DATA = Data(X, Y)
MLP_ = lambda: MLP(64, 2, (8,))
DROPPED = lambda: MLP(64, 2, (8,), dropout=0.3)
CNN_ = lambda: CNN((1, 8, 8), 2, (3,), norm=True)
FRACTIONAL = lambda: CNN((1, 8, 8), 2, (3,), pool="fractional", dropout=0.2)


class Foreign(nn.Module):
    """A model of a user that draws in its forward pass without a layer that would tell."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(64, 2)

    def forward(self, x):
        x = x.flatten(1)
        return self.body(x + 0.1 * torch.rand_like(x) if self.training else x)


class Settings(dict):
    """Settings of a recipe beside usual ones."""

    def recipe(self, epochs=2):
        return Recipe(**{"epochs": epochs, "batch_size": 10, "precision": "fp32", **self})


def quick(model, where, epochs=2, data=DATA, recipe=(), **settings):
    settings = {"seeds": 2, "progress": False, "look_every_epochs": 100, **settings}
    return fit(model, data, Settings(recipe).recipe(epochs), device=where, **settings)


def fitter(model, where, epochs=2, data=DATA, recipe=(), validation=None):
    """A fit that has not begun, without files."""
    fitted = Fit(Stack(model, 2, where), data, validation, Settings(recipe).recipe(epochs), threads=1)
    for part in (part for module in fitted.stack.modules for part in module.modules()):
        if isinstance(part, Image):
            part.channels_last = False  # the CPU's way, with other bits
    return fitted


def advanced(fitted, epochs):
    for _ in range(epochs):
        fitted.advance()
    return fitted


def weights(fitted):
    return {name: value.cpu().clone() for name, value in fitted.stack.state_dict().items()}


def assert_close(found, expected, tolerance):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **tolerance)


# -- the same numbers -------------------------------------------------------------------------------------------------------


REGRESSION = Data(X, X.flatten(1)[:, :2])
PARTS = {"mlp": (MLP_, DATA), "cnn": (CNN_, DATA), "regression": (lambda: MLP(64, 2, (4,), loss="mse"), REGRESSION)}


@pytest.mark.parametrize("name", PARTS)
def test_a_fit_has_the_numbers_of_the_cpu(gpu, name):
    model, data = PARTS[name]
    settings = {"schedule": "OneCycleLR", "schedule_options": {"max_lr": 0.1}}
    here, there = (advanced(fitter(model, where, 2, data, settings, data), 2) for where in DEVICES)
    assert gpu.has(there.stack.flat)
    assert_close(weights(there), weights(here), gpu.tolerance)
    for mine, theirs in zip(here.history, there.history, strict=True):
        for tag, value in mine.items():
            # Norms are added up in another order there.
            tolerance = {"rtol": 1e-6} if tag in NORMS and gpu.tolerance["rtol"] == 0 else gpu.tolerance
            np.testing.assert_allclose(theirs[tag], value, **tolerance)


# -- checkpoints ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "then"), FOUR_WAYS, ids=["-".join(way) for way in FOUR_WAYS])
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (MLP_, {}),
        (DROPPED, {"optimizer": "NAdam", "clip_norm": 1.0}),
        (FRACTIONAL, {"augment": (augment.Shift(1), augment.Noise(0.1))}),
        (Foreign, {"loss": "cross_entropy"}),
    ],
    ids=["mlp", "dropout", "cnn", "foreign"],
)
def test_a_state_goes_on_on_the_other_device(gpu, model, settings, first, then):
    """To the bit on the same device. On the other one the counts of draws go on, and all that draws nothing; the pretended
    GPU draws the CPU's numbers."""
    half = advanced(fitter(model, first, 2, recipe=settings), 1)
    again = fitter(model, then, 2, recipe=settings)
    again.load_state_dict(half.state_dict())
    advanced(again, 1)
    whole = advanced(half, 1)
    assert torch.equal(again.stack.random_state(), whole.stack.random_state())
    assert torch.equal(again.batches.augmenters.state(), whole.batches.augmenters.state())
    assert again.batches.order.state_dict() == whole.batches.order.state_dict()
    assert whole.stack.random_state().tolist() == [0 if model is MLP_ else 8] * 2
    if gpu.pretended or first == then or model is MLP_:
        loose = {"rtol": 1e-4, "atol": 1e-5} if gpu.pretended and first != then else gpu.tolerance
        assert_close(weights(again), weights(whole), loose)


@pytest.mark.parametrize(("first", "then"), FOUR_WAYS[1:3], ids=["-".join(way) for way in FOUR_WAYS[1:3]])
def test_a_file_goes_on_on_the_other_device(gpu, tmp_path, first, then):
    settings = {"augment": (augment.Shift(1),)}
    quick(DROPPED, first, 1, recipe=settings, logdir=tmp_path, validation=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is amiss
        again = quick(DROPPED, then, 2, recipe=settings, logdir=tmp_path, validation=0.2, resume=True)
    whole = quick(DROPPED, then, 2, recipe=settings, validation=0.2)
    assert torch.equal(again.stack.random_state(), whole.stack.random_state())
    if gpu.pretended:
        assert_close(weights(again), weights(whole), gpu.tolerance)
    loaded = supervised.load(tmp_path, DROPPED, first)
    assert_close({name: v.cpu() for name, v in loaded.state_dict().items()}, weights(again), gpu.tolerance)


@pytest.mark.parametrize(("first", "then"), FOUR_WAYS, ids=["-".join(way) for way in FOUR_WAYS])
def test_the_state_of_an_agent_goes_on_on_the_other_device(gpu, first, then):
    spaces = gym.spaces.Box(-1, 1, (4,)), gym.spaces.Discrete(2)
    make = lambda where: rl.DQN(network=dropping, compiled=False).build(*spaces, seeds=2, device=where)
    batches = [batch(i) for i in range(3)]
    agent, other = make(first), make(then)
    agent.update(batches[0])
    other.load_state_dict(agent.state_dict())
    for one in batches[1:]:
        agent.update(one)
        other.update(one)
    assert other.online.random_state().tolist() == agent.online.random_state().tolist() == [3, 3]
    if gpu.pretended or first == then:
        loose = {"rtol": 1e-4, "atol": 1e-5} if gpu.pretended and first != then else gpu.tolerance
        torch.testing.assert_close(other.online.flat.cpu(), agent.online.flat.cpu(), **loose)


def dropping(space, outputs):
    return MLP(4, outputs, (8,), dropout=0.2, loss="huber")


def batch(seed):
    g = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.rand(2, 6, *shape, generator=g)
    numbers = {"reward": rand(), "discount": 0.9 * torch.ones(2, 6)}
    return rl.Batch(obs=rand(4), action=torch.randint(2, (2, 6), generator=g), next_obs=rand(4), **numbers)


# -- random streams ---------------------------------------------------------------------------------------------------------


def test_what_draws_nothing_leaves_generators_alone(gpu, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a generator was asked for")

    for where in DEVICES:
        stack = Stack(lambda: CNN((1, 8, 8), 2, (3,), block="residual", norm=True), 2, where)
        mlp = Stack(MLP_, 2, where)
        with monkeypatch.context() as patch:
            for name in ("_start", "everywhere", "generator"):
                patch.setattr(Draws, name, refuse)
            for one in (stack, mlp):
                x = X[:4].expand(2, -1, -1, -1, -1).to(where)
                one(x)
                with one.eval_mode():
                    one(x)


def test_hooks_and_subclasses_that_draw_draw_from_the_seed(gpu):
    class Noisy(nn.Linear):
        def forward(self, x):
            return super().forward(x) + torch.rand(1, device=x.device)

    for where in DEVICES:
        x = torch.ones(2, 3, 4, device=where)
        for make in (lambda: Noisy(4, 2), lambda: nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))):
            both, alone = Stack(make, [5, 9], where), Stack(make, [9], where)
            for _ in range(3):
                assert torch.equal(both(x)[1], alone(x[1:])[0])
            assert both.random_state().tolist() == [3, 3]
        hooked, same = (Stack(lambda: nn.Linear(4, 2), [5], where) for _ in range(2))
        for one in (hooked, same):
            one.modules[0].register_forward_hook(lambda m, i, y: y + torch.rand(1, device=y.device))
        torch.manual_seed(int(torch.randint(1000, ())))  # of the seed, whatever the global generator is at
        assert torch.equal(hooked(x[:1]), same(x[:1]))
        assert hooked.random_state().tolist() == [1]


def test_draws_are_of_seed_purpose_and_count():
    draws = Draws([3, 4], "forward")
    first = torch.rand(2, generator=draws.generator(0)), torch.rand(2, generator=draws.generator(0))
    assert not torch.equal(*first)  # one piece of work goes on
    assert draws.counts == [1, 0]
    draws.begin()
    second = torch.rand(2, generator=draws.generator(0))
    numbers = [*first, second, torch.rand(2, generator=draws.generator(1))]
    numbers.append(torch.rand(2, generator=Draws([3], "augment").generator(0)))
    assert len({tuple(n.tolist()) for n in numbers}) == 5
    again = Draws([3, 4], "forward")
    again.load_state(torch.tensor([1, 0]), "")
    assert torch.equal(torch.rand(2, generator=again.generator(0)), second)
    before = torch.get_rng_state()
    with contextlib.suppress(KeyError), again.everywhere(1):
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
    with again.everywhere(0):
        pass
    assert again.counts == [2, 1]  # nothing drawn is not counted
    for wrong in (
        torch.tensor([1]),
        torch.tensor([1, -1]),
        torch.tensor([1.0, 2.0]),
        torch.zeros(2, 3, dtype=torch.uint8),
    ):
        with pytest.raises(ValueError, match=r"random streams must be nonnegative counts, int64 \[2\]"):
            again.load_state(wrong, "")


@pytest.mark.parametrize("size", [16, 5056], ids=["of a GPU", "of the CPU"])
def test_a_generators_state_of_earlier_versions_is_told_of(gpu, size):
    for model, settings, told in ((MLP_, {}, 0), (DROPPED, {}, 1), (DROPPED, {"augment": (augment.Shift(1),)}, 2)):
        again = fitter(model, "cuda", recipe=settings)
        old = np.zeros((2, size), np.uint8)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            again.load_state_dict(
                {**fitter(model, "cpu", recipe=settings).state_dict(), "forward": old, "augment": old}
            )
        said = [str(one.message) for one in caught]
        assert len(said) == told
        assert all("from an earlier version" in one and "damaged" not in one for one in said)
        advanced(again, 1)


# -- precision --------------------------------------------------------------------------------------------------------------


OPERATIONS = (torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul)


def settings_of_torch():
    newer = [operation.fp32_precision for operation in (*OPERATIONS, torch.backends.mkldnn.matmul)]
    return (
        newer,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        torch.get_float32_matmul_precision(),
    )


class Watched(MLP):
    """Notes torch's settings in its forward and backward pass."""

    def __init__(self):
        super().__init__(64, 2, (4,))
        self.seen = set()

    def note(self, *_):
        older = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        self.seen.add((tuple(operation.fp32_precision for operation in OPERATIONS), older))
        with torch.backends.cudnn.flags(enabled=False):  # reads the older names
            pass

    def forward(self, x):
        self.note()
        y = super().forward(x)
        if y.requires_grad:
            y.register_hook(self.note)
        return y


@pytest.mark.parametrize("precision", ["fp32", "tf32", "auto", "lbfgs"])
@pytest.mark.parametrize("older", [{}, {"matmul": "high", "cudnn": False}, {"matmul": "medium", "cudnn": True}])
def test_fp32_is_without_tf32_and_tf32_with_it(gpu, precision, older):
    before = settings_of_torch()
    try:
        if older:
            torch.set_float32_matmul_precision(older["matmul"])
            torch.backends.cudnn.allow_tf32 = older["cudnn"]
        found = settings_of_torch()
        recipe = {"precision": precision}
        if precision == "lbfgs":
            recipe = {"precision": "auto", "optimizer": "LBFGS", "batch_size": None, "learning_rate": 1.0}
        fitted = quick(Watched, "cuda", 1, recipe=recipe, seeds=1)
        fitted.predict(X)
        assert settings_of_torch() == found
        with device.exact_floats(torch.device("cuda")):
            assert [operation.fp32_precision for operation in OPERATIONS] == ["ieee"] * 3
        assert settings_of_torch() == found
    finally:
        torch.set_float32_matmul_precision(before[-1])
        torch.backends.cudnn.allow_tf32 = before[1]
        for operation, value in zip((*OPERATIONS, torch.backends.mkldnn.matmul), before[0], strict=True):
            operation.fp32_precision = value
    seen = {one for one in fitted.stack.modules[0].seen if one != ()}
    wanted = "tf32" if precision == "tf32" else "ieee"
    assert ((wanted,) * 3, (wanted == "tf32",) * 2) in seen
    assert str(fitted.compute_plan) == ("TF32, 1 thread" if precision == "tf32" else "float32, 1 thread")


def test_precision_is_decided_and_refused(gpu, monkeypatch):
    assert str(quick(CNN_, "cuda", 1, recipe={"precision": "auto"}).compute_plan) == "bf16, channels last, 1 thread"
    with pytest.raises(ValueError, match=r"precision='tf32': this machine's CPU does not support TF32\."):
        quick(MLP_, "cpu", 1, recipe={"precision": "tf32"})
    with pytest.raises(ValueError, match="needs full precision"):
        Recipe(optimizer="LBFGS", batch_size=None, precision="tf32")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    for precision in ("tf32", "bf16"):
        with pytest.raises(ValueError, match="CUDA does not support"):
            quick(MLP_, "cuda", 1, recipe={"precision": precision})
    assert str(quick(CNN_, "cuda", 1, recipe={"precision": "auto"}).compute_plan) == "float32, 1 thread"


# -- where things are -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", DEVICES)
def test_answers_lie_where_x_does(gpu, where):
    fitted = quick(MLP_, where, 1)
    for ask in (fitted.predict, fitted.probabilities, fitted.ensemble):
        for x in (X.numpy(), X):
            assert not gpu.has(ask(x))
        assert gpu.has(ask(X.to("cuda")))
        torch.testing.assert_close(ask(X.to("cuda")).cpu(), ask(X), **gpu.tolerance)
    assert len(fitted.ensemble(X).argmax(-1) == Y) == len(Y)  # as the README compares: both lie on the host
    assert fitted.stack.member(1)(X[:3].to(where)).shape == (3, 2)


def test_a_trunk_of_a_gpu_gets_another_head(gpu):
    trunk = quick(
        lambda: CNN((1, 12, 12), 2, (3,)), "cuda", 1, data=Data(torch.rand(20, 1, 12, 12), Y[:20])
    ).stack.member(0)
    network = rl.networks.on_trunk(trunk.trunk)
    space, actions = gym.spaces.Box(0, 255, (12, 12, 1), np.uint8), gym.spaces.Discrete(3)
    for where in DEVICES:
        agent = rl.DQN(network=network).build(space, actions, seeds=2, device=where)
        assert gpu.has(agent.online.flat) == (where == "cuda")
        assert agent.q(torch.zeros(2, 5, 12, 12, 1, dtype=torch.uint8)).shape == (2, 5, 3)
    assert gpu.has(trunk.trunk[1].weight)  # that of the fit stays where it is


def test_auto_is_the_gpu_for_those_that_ask_for_one(gpu):
    assert device.choose("auto").type == "cuda"


def test_auto_is_the_cpu_for_all_other_tests():
    from pretend import pretend

    with pretend():
        assert torch.cuda.is_available()
        assert device.choose("auto").type == "cpu"


def test_data_that_do_not_fit_are_told_of(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (10_000, 20_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device=None: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device=None: 0)
    with pytest.raises(ValueError, match=r"The data take 1\.06e-05 GB, but cuda has 1e-05 GB free"):
        quick(MLP_, "cuda", 1)
    quick(MLP_, "cpu", 1)
    quick(MLP_, "cuda", 1, data=Data(X.to("cuda"), Y.to("cuda")))  # they are there already


# -- waits ------------------------------------------------------------------------------------------------------------------


def waits(gpu, action):
    gpu.clear()
    action()
    return gpu.waits()


@pytest.mark.parametrize("model", [MLP_, CNN_], ids=["mlp", "cnn"])
def test_a_fit_seldom_waits(gpu, model):
    g = torch.Generator().manual_seed(0)
    data = Data(torch.rand(240, 1, 8, 8, generator=g), torch.randint(2, (240,), generator=g))
    fitted = fitter(model, "cuda", data=data, recipe={"batch_size": 4, "clip_norm": 1.0})
    assert waits(gpu, fitted.advance) <= 0.1 * 60, gpu.table()


def test_a_checkpoint_does_not_fetch_the_data(gpu):
    fitted = fitter(MLP_, "cuda", validation=DATA)
    assert waits(gpu, fitted.fingerprint) == 0
    assert fitted.fingerprint() == fitter(MLP_, "cpu", validation=DATA).fingerprint()
    assert fitted.fingerprint() != fitter(MLP_, "cpu").fingerprint()


@pytest.mark.parametrize("alone", [False, True], ids=["at once", "one by one"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_loaded_optimizer_waits_no_more_often(gpu, name, alone):
    make = (lambda: nn.Sequential(nn.Linear(3, 2), nn.Dropout1d(0.0))) if alone else (lambda: nn.Linear(3, 2))
    x, y = torch.ones(2, 4, 3, device="cuda"), torch.ones(2, 4, 2, device="cuda")

    def trainer():
        stack = Stack(make, 2, "cuda")
        assert stack.batched != alone
        optimizer = supervised.optimizer(stack, name)

        def step():
            stack.zero_grad()
            losses.per_seed(losses.LOSSES["mse"](stack(x), y)).sum().backward()
            optimizer.step()

        step()
        return stack, optimizer, step

    stack, optimizer, step = trainer()
    other, loaded, again = trainer()
    load_state_by_seed(other, loaded, state_by_seed(stack, optimizer))
    from supervised.state import load_optimizer, to_tree

    third, from_tree, anew = trainer()
    load_optimizer(from_tree, to_tree(optimizer.state_dict()))
    expected = waits(gpu, step)
    assert waits(gpu, again) == expected
    assert waits(gpu, anew) == expected
    for one in (other, third):
        torch.testing.assert_close(one.flat.cpu(), stack.flat.cpu(), **gpu.tolerance)


def test_divergence_is_seen_with_one_wait_in_twenty_steps(gpu):
    fitted = Fit(Stack(MLP_, 2, "cuda"), DATA, None, Recipe(batch_size=10))
    monitor, loss = fitted.divergence, torch.full((2,), 0.7, device="cuda")
    look = lambda value, steps: [monitor.look(value, 0) for _ in range(steps)]
    look(loss, 20)
    assert waits(gpu, lambda: look(loss, 40)) == 2
    with pytest.raises(Diverged, match="the loss of seed 1 grew to 9"):
        look(torch.tensor([0.7, 9.0]).to("cuda"), 40)
    with pytest.raises(Diverged, match="at step -19 the loss of seed 0 became nan"):
        look(torch.tensor([float("nan"), 0.7]).to("cuda"), 20)
    regression = Fit(
        Stack(lambda: MLP(64, 1, (4,), loss="mse"), 1, "cuda"), Data(X, X.flatten(1)[:, :1]), None, Recipe()
    )
    look = lambda steps: [regression.divergence.look(torch.zeros(1, device="cuda"), 0) for _ in range(steps)]
    look(20)
    assert waits(gpu, lambda: look(40)) == 2
