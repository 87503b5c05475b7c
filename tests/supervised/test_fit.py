"""Fitting: what it learns, that seeds do not feel each other, that nothing is lost, and what it refuses."""

import copy
import json
import random
import shutil
import signal
import time
import warnings

import jobs
import numpy as np
import pytest
import torch
from daily import daily
from forked import Child
from helpers import curves
from safetensors.torch import load_file
from torch import nn

import supervised
from supervised import (
    CNN,
    MLP,
    RNN,
    Data,
    DataError,
    Diverged,
    LinearRegression,
    LogisticRegression,
    Recipe,
    SoftmaxRegression,
    Stack,
    augment,
    checkpoint,
    device,
    fit,
    mnist,
)
from supervised.data import next_characters
from supervised.fitting.loop import CHECKPOINT
from supervised.models.rnn import free_running
from supervised.stack.optimizers import OPTIMIZERS

DIGITS = mnist.digits()
BF16 = pytest.mark.skipif(not device.has_bf16(torch.device("cpu")), reason="this processor does not support bf16")
FEW = Data(DIGITS.train.x[:200], DIGITS.train.y[:200])
MLP_ = lambda: MLP(64, 10, (24,), dropout=0.2)
CNN_ = lambda: CNN((1, 8, 8), 10, (4, 6), norm=True, dropout=0.1)


def quick(model=MLP_, data=FEW, recipe=None, **settings):
    settings = {"look_every_epochs": 100, **settings}  # pictures take their time
    return fit(model, data, recipe or Recipe(epochs=3, batch_size=32), progress=False, **settings)


def weights(fitted):
    return {name: value.clone() for name, value in fitted.stack.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def series(rows=120, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3))
    return x, x @ [[1.0], [-2.0], [0.5]] + 3


# -- learning ------------------------------------------------------------------------------------------------------------


def test_digits_are_learnt_by_ten_seeds():
    fitted = quick(lambda: MLP(64, 10, (64,)), DIGITS.train, Recipe(epochs=15, batch_size=32), seeds=10)
    accuracy = fitted.evaluate(DIGITS.test)["accuracy"]
    low, _ = supervised.statistics.interval(accuracy)
    assert low > 0.9, accuracy
    assert accuracy.std() > 0, "the seeds are one and the same"
    together = (fitted.ensemble(DIGITS.test.x).argmax(-1) == DIGITS.test.y).float().mean()
    assert together >= accuracy.mean()


def test_a_cnn_learns_digits():
    recipe = Recipe(epochs=15, batch_size=50, schedule="OneCycleLR", learning_rate=1e-2, augment=(augment.Shift(1),))
    fitted = quick(lambda: CNN((1, 8, 8), 10, (16, 32), norm=True), DIGITS.train, recipe, seeds=2)
    assert (fitted.evaluate(DIGITS.test)["accuracy"] > 0.95).all()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_hihello_by_ten_seeds(cell):
    characters, data = next_characters("hihello")
    recipe = Recipe(epochs=50, batch_size=1, learning_rate=0.1)
    fitted = quick(lambda: RNN(5, 5, 5, cell=cell), data, recipe, seeds=10)
    assert (fitted.evaluate(data)["accuracy"] == 1).all()
    for module in fitted.stack.modules:
        assert characters.decode(free_running(module, characters.encode("h")[None], 6)[0]) == "ihello"


@pytest.mark.parametrize("optimizer", ["LBFGS", "SGD"])
def test_linear_regression_finds_the_least_squares(optimizer):
    data = series()
    settings = {"batch_size": None, "epochs": 3} if optimizer == "LBFGS" else {"batch_size": 20, "epochs": 60}
    recipe = Recipe(optimizer=optimizer, learning_rate=1.0 if optimizer == "LBFGS" else 0.05, **settings)
    fitted = quick(lambda: LinearRegression(3), data, recipe, seeds=3)
    for module in fitted.stack.modules:
        assert module.head.weight.flatten().tolist() == pytest.approx([1, -2, 0.5], abs=1e-3)
        assert module.head.bias.item() == pytest.approx(3, abs=1e-3)
    assert (fitted.evaluate(supervised.data.as_data(data))["rmse"] < 2e-3).all()


def test_logistic_regression_and_xor():
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    recipe = Recipe(epochs=500, batch_size=None, learning_rate=0.05)
    either = quick(lambda: LogisticRegression(2), (x, [0, 1, 1, 1]), recipe, seeds=3)
    assert (either.evaluate(Data(x, torch.tensor([[0.0], [1.0], [1.0], [1.0]])))["accuracy"] == 1).all()
    assert either.probabilities(x).shape == (3, 4, 1)
    xor = Data(x, torch.tensor([[0.0], [1.0], [1.0], [0.0]]))
    assert (quick(lambda: LogisticRegression(2), xor, recipe, seeds=3).evaluate(xor)["accuracy"] <= 0.75).all()
    net = quick(lambda: MLP(2, 1, (10,), activation="tanh", loss="binary_cross_entropy"), xor, recipe, seeds=3)
    assert (net.evaluate(xor)["accuracy"] == 1).all()


def test_a_sequence_is_written_backwards():
    x = torch.randint(4, (300, 4), generator=torch.Generator().manual_seed(0))
    net = lambda: RNN(4, 4, 48, cell="gru", shape="sequence-to-sequence", steps=4)
    fitted = quick(net, (x, x.flip(1)), Recipe(epochs=50, batch_size=30, learning_rate=1e-2, clip_norm=1.0), seeds=2)
    assert (fitted.evaluate(Data(x, x.flip(1)))["accuracy"] > 0.95).all()


def test_a_digit_is_spelled():
    """One to many: a one-hot digit -> the letters of its word, shorter words ignored at their ends."""
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    characters = supervised.data.Characters("".join(words))
    y = torch.full((10, 5), -100)
    for i, word in enumerate(words):
        y[i, : len(word)] = characters.encode(word)
    net = lambda: RNN(10, len(characters), 32, cell="gru", shape="one-to-many", steps=5)
    fitted = quick(net, (torch.eye(10), y), Recipe(epochs=200, batch_size=10, learning_rate=0.01), seeds=3)
    assert (fitted.evaluate((torch.eye(10), y))["accuracy"] == 1).all()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_first_of_a_sequence_is_remembered(cell):
    """Many to one."""
    x = torch.randint(4, (200, 6), generator=torch.Generator().manual_seed(0))
    net = lambda: RNN(4, 4, 24, cell=cell, shape="many-to-one", embedding=5)
    fitted = quick(net, (x, x[:, 0]), Recipe(epochs=40, batch_size=20, learning_rate=0.01, clip_norm=1.0), seeds=3)
    assert (fitted.evaluate((x, x[:, 0]))["accuracy"] > 0.95).all()


def test_it_is_what_torchs_own_loop_computes():
    recipe = Recipe(
        epochs=3, batch_size=64, optimizer="SGD", learning_rate=0.1, weight_decay=0.01, optimizer_options={"momentum": 0.9},
        schedule="CosineAnnealingLR", label_smoothing=0.1,
    )  # fmt: skip
    fitted = quick(lambda: MLP(64, 10, (24,)), FEW, recipe)
    net = Stack(lambda: MLP(64, 10, (24,)), [0]).modules[0]
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    rng = supervised.Streams([0], "data").generators[0]
    rates = []
    for _ in range(3):
        order = torch.from_numpy(rng.permutation(200))
        for index in order.split(64):
            optimizer.zero_grad()
            rates.append(optimizer.param_groups[0]["lr"])
            answer = net(FEW.x[index].float() / 255)
            nn.functional.cross_entropy(answer, FEW.y[index], label_smoothing=0.1).backward()
            optimizer.step()
            schedule.step()
    for a, b in zip(fitted.stack.modules[0].parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert [row["train/learning_rate"][0] for row in fitted.history] == pytest.approx(rates[3::4])


def test_truncated_back_propagation_by_hand():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(5, 7, 2, generator=generator), torch.randn(5, 7, 1, generator=generator)
    make = lambda: RNN(2, 1, 4, cell="lstm", loss="mse")
    recipe = Recipe(epochs=1, batch_size=None, optimizer="SGD", learning_rate=0.1, bptt_steps=3)
    fitted = quick(make, (x, y), recipe)
    net, state = Stack(make, [0]).modules[0], None
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for a, b in zip(x.split(3, 1), y.split(3, 1), strict=True):
        optimizer.zero_grad()
        answer, state = net(a, state)
        nn.functional.mse_loss(answer, b).backward()
        state = tuple(part.detach() for part in state)
        optimizer.step()
    assert fitted.step == 3
    for a, b in zip(fitted.stack.modules[0].parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_ignored_targets_change_nothing():
    x, y = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0)), torch.randint(5, (6, 4))
    net = lambda: RNN(3, 5, 4)
    masked = y.clone()
    masked[:, 2:] = -100
    a = quick(net, (x, masked), Recipe(epochs=2, batch_size=6))
    b = quick(net, (x[:, :2], y[:, :2]), Recipe(epochs=2, batch_size=6))
    for p, q in zip(a.stack.modules[0].parameters(), b.stack.modules[0].parameters(), strict=True):
        torch.testing.assert_close(p, q)
    assert a.evaluate(Data(x, masked))["accuracy"] == b.evaluate(Data(x[:, :2], y[:, :2]))["accuracy"]


# -- the seed axis ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (MLP_, {"clip_norm": 0.5, "patience_epochs": 1}),
        (MLP_, {"learning_rate": (0.1, 0.001, 0.01), "schedule": "OneCycleLR"}),
        (CNN_, {"augment": (augment.Shift(1), augment.Noise(0.1)), "clip_norm": 1.0}),
        (CNN_, {"precision": "fp32"}),
        pytest.param(CNN_, {"precision": "bf16"}, marks=BF16),
        (lambda: MLP(64, 10, (8,)), {"optimizer": "LBFGS", "batch_size": None, "learning_rate": 1.0}),
    ],
    ids=["mlp", "rates", "cnn", "fp32", "bf16", "lbfgs"],
)
def test_alone_is_stacked(model, settings):
    recipe = Recipe(**{"epochs": 3, "batch_size": 30, **settings})
    together = quick(model, FEW, recipe, validation=0.2, seeds=[5, 6, 7])
    for k, seed in enumerate((5, 6, 7)):
        rate = recipe.learning_rate
        own = {"learning_rate": (rate[k],)} if isinstance(rate, tuple) else {}
        alone = quick(model, FEW, Recipe(**{**vars(recipe), **own}), validation=0.2, seeds=[seed])
        for name, value in weights(alone).items():
            assert torch.equal(value[0], weights(together)[name][k]), name
        # A seed that stops early stops; with others it waits for them.
        for mine, ours in zip(alone.history, together.history, strict=False):
            for tag in mine.keys() - {"epoch", "step"}:
                assert mine[tag][0] == ours[tag][k], tag


def test_to_be_judged_changes_nothing():
    recipe = Recipe(epochs=2, batch_size=30)
    fractional = lambda: CNN((1, 8, 8), 10, (4,), pool="fractional", dropout=0.3)
    plain = quick(fractional, FEW, recipe)
    judged = quick(fractional, FEW, Recipe(epochs=1, batch_size=30))
    judged.recipe = recipe
    assert not any(module.training for module in judged.stack.modules)
    judged.stack.train()
    for _ in range(3):
        judged.evaluate(DIGITS.test)
        judged.predict(DIGITS.test.x)
    assert all(module.training for module in judged.stack.modules)
    judged.advance()
    assert_same(weights(plain), weights(judged))


def test_a_module_is_fitted_in_place_and_frozen_layers_stay():
    net = MLP(64, 10, (24,))
    before = copy.deepcopy(net.state_dict())
    fitted = quick(net, FEW, Recipe(epochs=2, freeze=("trunk",)))
    assert fitted.stack.modules[0] is net
    assert torch.equal(net.trunk.linear1.weight, before["trunk.linear1.weight"])
    assert not torch.equal(net.head.weight, before["head.weight"])
    normed = MLP(64, 10, (24,), norm="batch")
    quick(normed, FEW, Recipe(epochs=1, freeze=("trunk",)))
    assert (normed.trunk.norm1.running_mean == 0).all()
    with pytest.raises(ValueError, match="fitted in place, so with one seed, not 2"):
        quick(net, FEW, seeds=2)
    with pytest.raises(
        ValueError, match=r"freeze names 'body', which matches none of the model's parameters: trunk\.linear1\.weight"
    ):
        quick(MLP_, FEW, Recipe(freeze=("body",)))
    with pytest.raises(ValueError, match="nothing to train"):
        quick(MLP_, FEW, Recipe(freeze=("trunk", "head")))


def test_early_stopping_keeps_the_best():
    recipe = Recipe(epochs=40, batch_size=16, learning_rate=0.02, patience_epochs=2)
    fitted = quick(lambda: MLP(64, 10, (64,)), FEW, recipe, validation=0.3, seeds=3)
    loss = np.stack([row["validation/loss"] for row in fitted.history])
    assert fitted.stopped.all()
    assert fitted.epoch < 40
    for k in range(3):
        best = int(fitted.best_epoch[k])
        assert loss[: best + 2, k].argmin() == best - 1
    assert fitted.evaluate(fitted.validation)["loss"] == pytest.approx(fitted.lowest)
    best_only = quick(MLP_, FEW, Recipe(epochs=4, learning_rate=0.05, keep_best=True), validation=0.3)
    assert len(best_only.history) == 4
    assert best_only.evaluate(best_only.validation)["loss"] == pytest.approx(best_only.lowest)
    for settings in ({"patience_epochs": 2}, {"keep_best": True}):
        with pytest.raises(ValueError, match="pass validation data"):
            quick(MLP_, FEW, Recipe(**settings))


def test_bf16_where_the_processor_has_none_is_a_sentence(monkeypatch):
    monkeypatch.setattr(device, "has_bf16", lambda device: False)
    with pytest.raises(ValueError, match="CPU does not support bf16"):
        quick(CNN_, FEW, Recipe(epochs=1, precision="bf16"))
    assert not quick(CNN_, FEW, Recipe(epochs=1)).compute_plan.bf16


def test_fewer_examples_than_a_batch_make_one_smaller_batch():
    few, whole = (quick(MLP_, (FEW.x[:10], FEW.y[:10]), Recipe(epochs=3, batch_size=size)) for size in (16, None))
    assert few.step == 3
    assert torch.equal(few.predict(FEW.x), whole.predict(FEW.x))


@pytest.mark.parametrize(("m", "size"), [(1, 16), (1, None), (33, 16), (5, 1)])
def test_batch_norm_sees_no_single_example(m, size):
    with pytest.raises(DataError, match="The last batch would contain a single example"):
        quick(lambda: MLP(64, 10, (8,), norm="batch"), (FEW.x[:m], FEW.y[:m]), Recipe(epochs=1, batch_size=size))


def test_a_parameter_without_axes_is_trained_and_clipped():
    class Tempered(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.temperature = nn.Linear(64, 10), nn.Parameter(torch.tensor(1.0))

        def forward(self, x):
            return self.body(x.flatten(1)) * self.temperature

    fitted = quick(Tempered, FEW, Recipe(epochs=3, batch_size=16, loss="cross_entropy", clip_norm=0.5), seeds=2)
    temperature = fitted.stack.weights["temperature"]
    assert temperature.shape == (2,)
    assert (temperature != 1).all()
    assert fitted.history[-1]["train/gradient_norm"].shape == (2,)


@BF16
def test_precision_and_threads_are_decided_and_said():
    assert str(quick(MLP_, FEW).compute_plan) == "float32, 1 thread"
    before = torch.get_num_threads()
    forced = quick(CNN_, FEW, Recipe(epochs=1, precision="bf16"), threads=before + 1)
    assert str(forced.compute_plan) == f"bf16, channels last, {before + 1} threads"
    plain = quick(CNN_, FEW, Recipe(epochs=1, precision="fp32"))
    assert plain.compute_plan.bf16 is False
    torch.testing.assert_close(forced.predict(FEW.x), plain.predict(FEW.x), atol=0.1, rtol=0.1)
    assert torch.get_num_threads() == before


# -- running away ------------------------------------------------------------------------------------------------------------


def test_divergence_is_told_with_its_cause():
    # The lecture's stock rows, with a volume of a million beside prices of 800.
    x = np.array([[828.7, 833.5, 908100, 828.4], [823.0, 828.1, 1828100, 821.7], [819.9, 824.4, 1438100, 818.98]])
    y = [[831.7], [824.2], [818.98]]
    settings = {"epochs": 200, "batch_size": None, "optimizer": "SGD", "learning_rate": 1e-5}
    said = r"at step \d+ the loss of seed 0 became (inf|nan)\. .*the inputs reach 1\.83e\+06: scale them"
    with pytest.raises(Diverged, match=said):
        quick(lambda: LinearRegression(4), (x, y), Recipe(**settings))
    on = quick(lambda: LinearRegression(4), (x, y), Recipe(**settings, stop_if_diverging=False))
    assert on.epoch == 200
    assert not np.isfinite(on.history[-1]["train/loss"][0])
    # The lecture's learning rate 1.5 on eight rows of three classes.
    rows = np.array([[1, 2, 1], [1, 3, 2], [1, 3, 4], [1, 5, 5], [1, 7, 5], [1, 2, 5], [1, 6, 6], [1, 7, 7]], float)
    labels = [2, 2, 2, 1, 1, 1, 0, 0]
    for init in ("torch", "zeros"):
        for seed in range(3):
            fast = Recipe(epochs=200, batch_size=None, optimizer="SGD", learning_rate=1.5)
            with pytest.raises(
                Diverged, match=rf"loss of seed {seed} grew to .*the learning rate 1\.5 is too large: try 0\.15"
            ):
                quick(lambda init=init: SoftmaxRegression(3, 3, init=init), (rows, labels), fast, seeds=[seed])
            slow = Recipe(epochs=200, batch_size=None, optimizer="SGD", learning_rate=0.1)
            right = quick(lambda init=init: SoftmaxRegression(3, 3, init=init), (rows, labels), slow, seeds=[seed])
            assert right.history[-1]["train/loss"][0] < right.history[0]["train/loss"][0]


def test_a_bad_start_is_not_taken_for_divergence():
    recipe = Recipe(epochs=10, batch_size=20, optimizer="SGD", learning_rate=0.1)
    fitted = quick(lambda: MLP(64, 10, (64, 64), init="normal"), DIGITS.train, recipe, seeds=3)
    assert (fitted.history[0]["train/loss"] > 2.3).all()


# -- nothing is lost ---------------------------------------------------------------------------------------------------------


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return found


RESUMED = {
    "mlp": (MLP_, {"schedule": "OneCycleLR", "keep_best": True, "optimizer": "AdamW"}),
    "cnn": (
        CNN_,
        {"augment": (augment.Affine(),), "clip_norm": 1.0, "optimizer": "SGD", "optimizer_options": {"momentum": 0.9}},
    ),
    "lbfgs": (lambda: MLP(64, 10, (8,)), {"optimizer": "LBFGS", "batch_size": None, "learning_rate": 1.0}),
    "epochs": (MLP_, {"schedule": "StepLR", "schedule_options": {"step_size": 2}, "learning_rate": (0.01, 0.001)}),
}


@pytest.mark.parametrize("name", daily(OPTIMIZERS, ("SGD", "Adam", "AdamW", "RMSprop")))
def test_every_optimizer_goes_on(name, tmp_path):
    model = lambda: MLP(64, 10, (3,))
    whole = quick(model, FEW, Recipe(epochs=4, optimizer=name), seeds=2)
    quick(model, FEW, Recipe(epochs=2, optimizer=name), seeds=2, logdir=tmp_path)
    assert_same(
        weights(whole),
        weights(quick(model, FEW, Recipe(epochs=4, optimizer=name), seeds=2, logdir=tmp_path, resume=True)),
    )


@pytest.mark.parametrize("name", RESUMED)
def test_resumed_is_uninterrupted(name, tmp_path, monkeypatch):
    model, settings = RESUMED[name]
    recipe = Recipe(**{"epochs": 6, "batch_size": 40, **settings})
    whole = quick(model, FEW, recipe, validation=0.2, seeds=2, logdir=tmp_path / "whole")

    class Stop(Exception):
        pass

    advance, count = supervised.Fit.advance, [0]

    def stop_at_four(self, tick=None):
        count[0] += 1
        if count[0] == 4:
            raise Stop
        return advance(self)

    with monkeypatch.context() as patch:
        patch.setattr(supervised.Fit, "advance", stop_at_four)
        with pytest.raises(Stop):
            quick(model, FEW, recipe, validation=0.2, seeds=2, logdir=tmp_path / "part", save_every_epochs=2)
    resumed = quick(model, FEW, recipe, validation=0.2, seeds=2, logdir=tmp_path / "part", resume=True)
    assert_same(weights(whole), weights(resumed))
    assert [r["step"] for r in resumed.history] == [r["step"] for r in whole.history]
    assert curves(tmp_path / "part") == curves(tmp_path / "whole")
    again = quick(model, FEW, recipe, validation=0.2, seeds=2, logdir=tmp_path / "part", resume=True)
    assert_same(weights(whole), weights(again))


@pytest.mark.full  # takes 14 s
def test_resume_after_kill_9(tmp_path):
    """Before a checkpoint is in its place, right after, at some file operation behind, and between two checkpoints."""
    start = lambda name, death=None: Child(jobs.fit, tmp_path / name, output=tmp_path / f"{name}.txt", death=death)
    whole = start("whole")
    for death in ((1, 0), (2, 1), (2, 6)):
        assert start("killed", death).wait() == -signal.SIGKILL
    child = start("killed")
    _, second, third = child.checkpoint(), child.checkpoint(), child.checkpoint()
    time.sleep((third - second) / 2)
    child.send(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert start("killed").wait() == whole.wait() == 0
    assert_same(*(load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "killed")))
    assert curves(tmp_path / "whole") == curves(tmp_path / "killed")


def test_more_epochs_later(tmp_path):
    quick(MLP_, FEW, Recipe(epochs=2), logdir=tmp_path / "a")
    longer = quick(MLP_, FEW, Recipe(epochs=5), logdir=tmp_path / "a", resume=True)
    assert_same(weights(longer), weights(quick(MLP_, FEW, Recipe(epochs=5))))


def test_a_saved_fit_is_loaded_without_code(tmp_path):
    fitted = quick(CNN_, FEW, validation=0.2, seeds=[3, 8], logdir=tmp_path)
    stack = supervised.load(tmp_path, CNN_)
    assert stack.seeds == (3, 8)
    assert_same(stack.state_dict(), weights(fitted))
    assert not stack.modules[0].training
    with pytest.raises(checkpoint.CheckpointError, match="does not fit this model"):
        supervised.load(tmp_path, MLP_)
    with pytest.raises(checkpoint.CheckpointError, match="There is no checkpoint"):
        supervised.load(tmp_path / "nothing", MLP_)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(checkpoint.CheckpointError, match="not an intact checkpoint"):
        supervised.load(path, CNN_)


def test_what_cannot_be_gone_on_with(tmp_path):
    recipe = Recipe(epochs=2)
    quick(MLP_, FEW, recipe, logdir=tmp_path)
    other = Data(FEW.x.flip(0), FEW.y)
    for said, settings in {
        "already contains a run": {"resume": False},
        "the data differ": {"data": other},
        r"recipe\.batch_size was 64 and is now 32": {"recipe": Recipe(epochs=2, batch_size=32)},
        r"seeds was \[0\] and is now \[0, 1\]": {"seeds": 2},
        "is damaged or belongs to a different model": {"model": lambda: MLP(64, 10, (25,))},
    }.items():
        with pytest.raises(checkpoint.CheckpointError, match=said):
            quick(**{"model": MLP_, "data": FEW, "recipe": recipe, "logdir": tmp_path, "resume": True, **settings})
    quick(MLP_, FEW, recipe, logdir=tmp_path, resume=True)
    quick(MLP_, FEW, Recipe(epochs=2, schedule="LinearLR"), logdir=tmp_path / "b")
    with pytest.raises(checkpoint.CheckpointError, match=r"recipe\.epochs was 2 and is now 3"):
        quick(MLP_, FEW, Recipe(epochs=3, schedule="LinearLR"), logdir=tmp_path / "b", resume=True)


# -- what is seen --------------------------------------------------------------------------------------------------------------


def test_tensorboard_holds_what_the_guide_says(tmp_path):
    quick(CNN_, FEW, Recipe(epochs=2, clip_norm=1.0), validation=0.5, seeds=2, logdir=tmp_path, look_every_epochs=1)
    found = events(tmp_path)
    tags = found.Tags()
    scalars = {
        "train/loss", "train/accuracy", "train/learning_rate", "train/gradient_norm", "train/update_to_weight",
        "train/dead_units", "validation/loss", "validation/accuracy", "with_interval/validation/accuracy_low",
        "time/examples_per_second",
    }  # fmt: skip
    assert scalars <= set(tags["scalars"])
    assert {"weights/trunk.conv1.weight", "activations/trunk.relu1", "activations/head"} <= set(tags["histograms"])
    assert tags["images"] == ["wrong"]
    assert tags["graph"]
    assert [e.step for e in found.Scalars("train/loss")] == [2, 4]
    assert 0 <= found.Scalars("train/dead_units")[-1].value <= 1
    assert any("configuration" in tag for tag in tags["tensors"])
    assert len(events(tmp_path / "seed_1").Scalars("validation/accuracy")) == 2


def test_dead_units_are_counted():
    from supervised.fitting.inspect import activations, dead_units

    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    nn.init.zeros_(net[0].weight)
    with torch.no_grad():
        net[0].bias.copy_(torch.tensor([1.0, -1.0, -1.0, -1.0]))
    assert dead_units(net, activations(net, torch.randn(5, 2))) == 0.75
    conv = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    nn.init.zeros_(conv[0].weight)
    with torch.no_grad():
        conv[0].bias.copy_(torch.tensor([1.0, -1.0]))
    assert dead_units(conv, activations(conv, torch.randn(5, 1, 3, 3))) == 0.5
    assert dead_units(nn.Linear(2, 2), activations(nn.Linear(2, 2), torch.randn(5, 2))) is None


# -- what is refused -------------------------------------------------------------------------------------------------------------

X, Y = np.zeros((20, 64), np.float32), np.arange(20) % 10


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((np.zeros((20, 63)), Y), r"The training data do not fit the model: one example of x is \[63\]"),
        ((X, Y + 1), r"y\[9\] is 10, but the model has the classes 0 to 9"),
        ((X, Y - 1), r"y\[0\] is -1, but"),
        ((X, Y.astype(float)), r"cross_entropy takes whole numbers y of shape \['M'\]"),
        ((X, np.eye(10)[Y]), "cross_entropy takes whole numbers"),
        ((X[:0], Y[:0]), "The training data is empty"),
        ((X, Y[:19]), "x has 20 examples and y has 19"),
        ((np.where(X == 0, np.nan, 0), Y), r"The training data: x\[0, 0\] is nan"),
        (X, "must be a pair"),
    ],
)
def test_bad_data(data, said):
    with pytest.raises(DataError, match=said):
        quick(MLP_, data, Recipe(epochs=1, batch_size=16))


def test_bad_targets_of_other_losses():
    x = np.zeros((20, 3))
    with pytest.raises(DataError, match=r"the model returns \[2\] per example, but y is \[3\]"):
        quick(lambda: LinearRegression(3, 2), (x, x), Recipe(batch_size=5))
    with pytest.raises(DataError, match=r"y\[0, 0\] is 2; binary targets must be in \[0, 1\]"):
        quick(lambda: LogisticRegression(3), (x, np.full(20, 2)), Recipe(batch_size=5))
    with pytest.raises(DataError, match="The validation data do not fit the model"):
        quick(MLP_, (X, Y), Recipe(batch_size=5), validation=(X[:, :3], Y))
    with pytest.raises(DataError, match="must lie in"):
        quick(MLP_, (X, Y), Recipe(batch_size=5), validation=1.5)
    quick(lambda: LinearRegression(3), (x, x[:, 0]), Recipe(epochs=1, batch_size=5))  # [M] for [M, 1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, not 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number of at least 1 or None, not 2.5"),
        ({"optimizer": "Adamm"}, r"Did you mean 'Adam'\?"),
        ({"loss": "crossentropy"}, r"Did you mean 'cross_entropy'\?"),
        ({"schedule": "OneCycle"}, r"Did you mean 'OneCycleLR'\?"),
        ({"precision": "fp16"}, "There is no precision 'fp16'"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number of at least 0, not nan"),
        ({"learning_rate": -1}, "learning_rate must be a number of at least 0, not -1"),
        ({"weight_decay": "a"}, "weight_decay must be a number"),
        ({"clip_norm": 0}, "clip_norm must be a number"),
        ({"label_smoothing": 1.0}, r"label_smoothing must lie in \[0, 1\)"),
        ({"optimizer": "LBFGS"}, "LBFGS uses all data at each step .* batch_size must be None"),
        ({"optimizer": "LBFGS", "batch_size": None, "weight_decay": 1}, "one fixed function"),
        ({"optimizer": "LBFGS", "batch_size": None, "precision": "bf16"}, "needs full precision"),
        ({"schedule_options": {"gamma": 0.1}}, "name of a torch scheduler"),
        ({"augment": (3,)}, r"augment must be a tuple of Shift, Affine, Noise, not \(3,\)"),
        ({"freeze": "trunk"}, "freeze must be a tuple of layer names"),
        ({"optimizer_options": 3}, "optimizer_options must be a mapping"),
    ],
)
def test_bad_settings(settings, said):
    with pytest.raises(ValueError, match=said):
        Recipe(**settings)


def test_bad_arguments(tmp_path):
    for settings, said in (
        ({"seeds": 0}, "At least one seed"),
        ({"seeds": [1, 1]}, "Each seed can run once"),
        ({"seeds": "3"}, "seeds must be a count or a list"),
        ({"device": "gpu"}, "The device 'gpu' cannot be used here"),
        ({"threads": 0}, "threads must be a whole number of at least 1"),
        ({"resume": True}, "resume=True needs logdir"),
        ({"log_every_epochs": 0}, "log_every_epochs must be a whole number"),
        ({"logdir": ""}, "logdir must be the path of a folder"),
        ({"recipe": Recipe(bptt_steps=2, batch_size=5)}, "returns no state"),
        ({"recipe": Recipe(learning_rate=(0.1, 0.2), batch_size=5)}, "2 learning rates for 1 seeds"),
        ({"recipe": Recipe(optimizer_options={"nesterov": True}, batch_size=5)}, "Adam cannot be created"),
        ({"recipe": Recipe(schedule="StepLR", batch_size=5)}, "The schedule StepLR cannot be created: .*step_size"),
        (
            {"model": lambda: MLP(64, 10, loss="mse"), "recipe": Recipe(label_smoothing=0.1)},
            "applies only to cross_entropy",
        ),
        (
            {"model": lambda: nn.Flatten(0), "recipe": Recipe(batch_size=5, loss="mse")},
            "not one output each",
        ),
        ({"model": lambda: CNN((1, 4, 4), 10), "recipe": Recipe(batch_size=5)}, "do not fit the model"),
        ({"model": lambda: nn.Linear(64, 10), "recipe": Recipe(batch_size=5)}, "The loss is missing"),
    ):
        with pytest.raises(ValueError, match=said):
            quick(**{"model": MLP_, "data": (X, Y), **settings})
    with pytest.raises(TypeError, match=r"The model must be a torch\.nn\.Module, or a function"):
        quick(3, (X, Y))
    (tmp_path / "file").write_text("")
    with pytest.raises(checkpoint.CheckpointError, match="is a file; it must be a folder"):
        quick(MLP_, FEW, logdir=tmp_path / "file")


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    child = Child(jobs.fit_for_long, tmp_path / "run", output=tmp_path / "out")
    for _ in range(4):  # the first two are from the start, before and after the settings are written
        assert child.checkpoint()
    child.send(signal.SIGINT)
    assert child.wait() == 1
    assert f"saved to {tmp_path / 'run'}; continue with resume=True" in (tmp_path / "out").read_text()
    state, _ = checkpoint.load(tmp_path / "run" / CHECKPOINT)
    assert state["epoch"] > 0


def test_what_the_recipe_asks_of_the_data():
    with pytest.raises(
        DataError, match=r"single example \(33 in batches of 16\), which has no variance for batch norm"
    ):
        quick(lambda: MLP(64, 10, (8,), norm="batch"), (FEW.x[:33], FEW.y[:33]), Recipe(batch_size=16))
    with pytest.raises(DataError, match=r"augment requires images \[M, \.\.\., height, width\], but x is \[20, 64\]"):
        quick(MLP_, (X, Y), Recipe(batch_size=5, augment=(augment.Shift(1),)))
    with pytest.raises(DataError, match=r"Noise clamps pixels to \[0, 1\], but x exceeds"):
        quick(MLP_, (FEW.x.float(), FEW.y), Recipe(augment=(augment.Noise(),)))


def test_whole_numbers_are_numbers_where_the_model_takes_no_indices():
    fitted = quick(
        lambda: LinearRegression(1),
        ([[1], [2], [3]], [1, 2, 3]),
        Recipe(epochs=300, batch_size=None, learning_rate=0.1),
    )
    assert fitted.predict([[4]]).item() == pytest.approx(4, abs=0.05)


def test_judging_what_does_not_fit():
    fitted = quick(MLP_, FEW, Recipe(epochs=1))
    with pytest.raises(DataError, match=r"x \[5, 63\] does not fit the model"):
        fitted.predict(np.zeros((5, 63)))
    with pytest.raises(DataError, match=r"The data: y\[0\] is 10"):
        fitted.evaluate((X, Y + 10))
    assert fitted.evaluate((X, Y))["accuracy"].shape == (1,)


def test_another_way_of_computing_is_told_of(tmp_path):
    quick(CNN_, FEW, Recipe(epochs=2), logdir=tmp_path, threads=1)
    with pytest.warns(
        UserWarning,
        match=r"was computed in .*1 thread, and continues in .*2 threads: results will not be bit-identical",
    ):
        quick(CNN_, FEW, Recipe(epochs=3), logdir=tmp_path, threads=2, resume=True)


def test_a_file_of_a_former_version_names_its_compute_plan(tmp_path):
    """It has the plan under the key "manner"."""
    quick(MLP_, FEW, Recipe(epochs=2), logdir=tmp_path, threads=1)
    path = tmp_path / CHECKPOINT
    state, meta = checkpoint.load(path)
    plan = meta.pop("compute_plan")
    checkpoint.save(path, state, {**meta, "manner": plan}, keep=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(MLP_, FEW, Recipe(epochs=2), logdir=tmp_path, threads=1, resume=True)
    checkpoint.save(path, state, {**meta, "manner": plan}, keep=False)
    with pytest.warns(UserWarning, match=f"was computed in {plan}, and continues in .*2 threads:"):
        quick(MLP_, FEW, Recipe(epochs=3), logdir=tmp_path, threads=2, resume=True)


def test_damage_of_any_kind_is_one_sentence(tmp_path):
    """Each leaf of the header in turn is something else: refused, or harmless, but never another exception."""
    recipe = Recipe(epochs=3, batch_size=50, schedule="OneCycleLR", keep_best=True)
    quick(MLP_, FEW, recipe, validation=0.2, logdir=tmp_path / "whole", save_every_epochs=1)
    raw = checkpoint.previous(tmp_path / "whole" / CHECKPOINT).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8 : 8 + size])
    meta = json.loads(head["__metadata__"]["header"])

    def leaves(tree, path=()):
        if isinstance(tree, (dict, list)) and tree:
            for key in tree if isinstance(tree, dict) else range(len(tree)):
                yield from leaves(tree[key], (*path, key))
        else:
            yield path

    rng, refused = random.Random(0), 0
    for path in list(leaves(meta)):
        damaged = copy.deepcopy(meta)
        place = damaged
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = rng.choice((None, -1, "x", [], {}, True, 10**30, {"$array": "nothing"}))
        header = json.dumps({**head, "__metadata__": {"header": json.dumps(damaged)}}).encode()
        folder = tmp_path / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / CHECKPOINT).write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + size :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                quick(MLP_, FEW, recipe, validation=0.2, logdir=folder, resume=True)
            except checkpoint.CheckpointError:
                refused += 1
            except Diverged:  # a number that is one, but a wild one
                pass
    assert refused > 50
