"""What users bring along: modules and classes in the place of functions, losses, metrics, data and schedules of their own."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import curves
from torch import nn

import supervised
from supervised import DataError, Recipe, Stack, schedules
from supervised.validate import ArgumentError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(50, 4)).astype(np.float32), RNG.integers(0, 3, 50)
NET = lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def quick(model=NET, data=(X, Y), recipe=None, **settings):
    recipe = recipe or Recipe(epochs=2, batch_size=16, loss="cross_entropy")
    return supervised.fit(model, data, recipe, **{"progress": False, "look_every_epochs": 100, **settings})


def weights(fitted):
    return {name: value.clone() for name, value in fitted.stack.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


# -- models --------------------------------------------------------------------------------------------------------------


def test_what_makes_no_model_is_a_sentence(tmp_path):
    takes = "a function .* called with no argument; Linear takes in_features, out_features"
    quick(seeds=2, logdir=tmp_path)
    for call in (
        lambda model: quick(model),
        lambda model: supervised.load(tmp_path, model),
        lambda model: Stack(model, 2),
    ):
        with pytest.raises(ValueError, match=takes):
            call(nn.Linear)
        with pytest.raises(TypeError, match="called with no argument; <lambda> takes size"):
            call(lambda size: NET())
        with pytest.raises(TypeError, match=r"must return a torch\.nn\.Module, not int"):
            call(lambda: 3)
    with pytest.raises(ValueError, match=r"^A module is fitted in place, so with one seed, not 2"):
        supervised.load(tmp_path, NET())
    with pytest.raises(ValueError, match="not an existing module"):
        Stack(NET(), 2)


def test_members_share_no_parameter():
    trunk = nn.Linear(4, 8)
    with pytest.raises(ValueError, match=r"share the parameter 0\.weight"):
        quick(lambda: nn.Sequential(trunk, nn.Linear(8, 3)), seeds=2)


def test_a_last_batch_of_one_is_refused_where_the_model_cannot_learn_from_it():
    pictures = lambda *norm: lambda: nn.Sequential(nn.Unflatten(1, (4, 1, 1)), *norm, nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(DataError, match=r"single example \(17 in batches of 16\)"):
        quick(pictures(nn.BatchNorm2d(4)), (X[:17], Y[:17]))
    quick(pictures(), (X[:17], Y[:17]))
    series = lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.BatchNorm1d(2), nn.Flatten(), nn.Linear(4, 3))
    quick(series, (X[:1], Y[:1]))  # two numbers a channel have a spread
    normed = lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))
    frozen = Recipe(epochs=1, batch_size=16, loss="cross_entropy", freeze=("0",))
    quick(normed, (X[:17], Y[:17]), frozen)  # it counts nothing then


# -- losses, metrics, weights --------------------------------------------------------------------------------------------


def far_off(prediction, y):
    """A loss of one's own: torch's, one number an example and class."""
    return F.l1_loss(prediction.softmax(-1), F.one_hot(y, 3).float(), reduction="none")


def squared(prediction, y):
    return (prediction.softmax(-1) - F.one_hot(y, 3)).square()


def top_two(prediction, y):
    return (prediction.topk(2).indices == y[:, None]).any(-1)


def test_a_loss_of_ones_own_is_minimized():
    recipe = Recipe(epochs=1, batch_size=None, loss=far_off, optimizer="SGD", learning_rate=0.5)
    fitted = quick(recipe=recipe, seeds=2)
    for k in range(2):
        net = supervised.stack.make_member(NET, k)
        optimizer = torch.optim.SGD(net.parameters(), 0.5)
        loss = far_off(net(torch.from_numpy(X)), torch.from_numpy(Y)).mean()
        loss.backward()
        optimizer.step()
        assert fitted.history[0]["train/loss"][k] == pytest.approx(loss.item())
        for name, weight in net.named_parameters():
            torch.testing.assert_close(fitted.stack.state_dict()[name][k], weight.detach())
    assert fitted.loss == "far_off"
    assert set(fitted.evaluate((X, Y))) == {"loss"}
    assert fitted.probabilities(X).equal(fitted.predict(X))


def test_a_loss_of_ones_own_is_the_same_alone_as_stacked():
    recipe = Recipe(epochs=2, batch_size=16, loss=far_off, metrics={"top2": top_two})
    together, alone = quick(recipe=recipe, seeds=3), quick(recipe=recipe, seeds=[2])
    assert_same({k: v[2:] for k, v in weights(together).items()}, weights(alone))


def test_metrics_stand_beside_the_loss_everywhere(tmp_path):
    recipe = Recipe(epochs=3, batch_size=16, loss="cross_entropy", metrics={"top2": top_two})
    fitted = quick(recipe=recipe, seeds=2, validation=0.4, logdir=tmp_path)
    held_out = supervised.data.split((X, Y), 0.4)[1]
    by_hand = [top_two(p, held_out.y).double().mean().item() for p in fitted.predict(held_out.x)]
    assert fitted.evaluate(held_out)["top2"].tolist() == pytest.approx(by_hand)
    assert fitted.history[-1]["validation/top2"].tolist() == pytest.approx(by_hand)
    assert 0.3 < fitted.history[-1]["train/top2"].mean() <= 1
    points = curves(tmp_path)
    tags = {tag for _, tag in points}
    assert {"train/top2", "validation/top2", "with_interval/validation/top2"} <= tags


def test_metrics_leave_out_ignored_targets():
    y = np.tile(Y[:, None], (1, 2))
    y[:, 1] = supervised.losses.IGNORED
    net = lambda: nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)))
    right = lambda prediction, y: prediction.argmax(-1) == y
    found = quick(net, (X, y), Recipe(epochs=1, loss="cross_entropy", metrics={"right": right})).evaluate((X, y))
    assert found["right"] == found["accuracy"]
    assert found["right"] > 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss": lambda prediction: prediction}, "called with prediction, y; <lambda> takes prediction"),
        (
            {"loss": nn.CrossEntropyLoss()},
            r"loss=CrossEntropyLoss must return numbers for each example.*reduction='none'",
        ),
        ({"loss": lambda p, y: p.detach()}, "has no gradient"),
        ({"loss": F.mse_loss}, "loss=mse_loss failed on prediction float32 .* and y int64"),
        ({"loss": "cross_entropy", "metrics": {"mean": lambda p, y: p.mean()}}, "mean=.*<lambda> must return numbers"),
        ({"loss": "cross_entropy", "metrics": {"loss": top_two}}, "Names of metrics may contain"),
        ({"loss": "cross_entropy", "metrics": {"f": 3}}, r"metrics\['f'\] must be a function"),
        ({"loss": "cross_entropy", "metrics": top_two}, "metrics must be a mapping"),
        ({"loss": far_off, "label_smoothing": 0.1}, "applies only to cross_entropy, but the loss is far_off"),
        ({"loss": far_off, "class_weights": (1, 2, 3)}, "class_weights apply only to cross_entropy"),
        ({"loss": "cross_entropy", "class_weights": (1, 2)}, "one number for each of 3 classes, not 2"),
        ({"loss": "cross_entropy", "class_weights": 2}, "class_weights must be a list of numbers"),
        ({"loss": "cross_entropy", "class_weights": (1, 2, -3)}, r"class_weights\[2\] must be a number of at least 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_what_is_no_loss_or_metric(settings, said):
    with pytest.raises(ValueError, match=said):
        quick(recipe=Recipe(batch_size=16, **settings))


def test_functions_are_given_again_by_name(tmp_path):
    recipe = lambda loss=far_off, epochs=2, **metrics: Recipe(epochs=epochs, loss=loss, metrics=metrics)
    quick(recipe=recipe(top2=top_two), logdir=tmp_path)
    more = quick(recipe=recipe(top2=top_two, epochs=4), logdir=tmp_path, resume=True)
    assert_same(weights(more), weights(quick(recipe=recipe(top2=top_two, epochs=4))))
    for other, said in (
        (recipe("cross_entropy", top2=top_two), "loss was the function far_off and is now 'cross_entropy'"),
        (recipe(squared, top2=top_two), r"loss\.name was 'far_off' and is now 'squared'"),
        (recipe(top2=far_off), r"metrics\.top2\.name was 'top_two'"),
        (recipe(), r"metrics\.top2 was the function top_two and is now None"),
    ):
        with pytest.raises(supervised.checkpoint.CheckpointError, match=said):
            quick(recipe=other, logdir=tmp_path, resume=True)
    data = recipe(top2=top_two).to_json()
    json.dumps(data)
    assert Recipe.from_json(data, loss=far_off, top2=top_two) == recipe(top2=top_two)
    with pytest.raises(ValueError, match="created with loss=far_off, a function, which files cannot contain"):
        Recipe.from_json(data)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_are_torchs(smoothing):
    given = (0.2, 1.0, 3.0)
    recipe = Recipe(
        epochs=1, batch_size=None, loss="cross_entropy", optimizer="SGD", learning_rate=0.5, class_weights=given,
        label_smoothing=smoothing,
    )  # fmt: skip
    fitted = quick(recipe=recipe, seeds=2, validation=0.5)
    (train, held_out), torchs = (
        supervised.data.split((X, Y), 0.5),
        nn.CrossEntropyLoss(torch.tensor(given), label_smoothing=smoothing),
    )
    for k in range(2):
        net = supervised.stack.make_member(NET, k)
        optimizer = torch.optim.SGD(net.parameters(), 0.5)
        loss = torchs(net(train.x), train.y)
        loss.backward()
        optimizer.step()
        assert fitted.history[0]["train/loss"][k] == pytest.approx(loss.item())
        for name, weight in net.named_parameters():
            torch.testing.assert_close(fitted.stack.state_dict()[name][k], weight.detach())
        assert fitted.history[0]["validation/loss"][k] == pytest.approx(
            torchs(net(held_out.x), held_out.y).item(), rel=1e-5
        )
        right = (net(held_out.x).argmax(-1) == held_out.y).float().mean().item()
        assert fitted.history[0]["validation/accuracy"][k] == pytest.approx(right)  # each example counts once


def test_binary_class_weights_are_those_of_two_classes():
    y = (Y > 0).astype(np.int64)
    recipe = Recipe(epochs=1, batch_size=None, loss="binary_cross_entropy", class_weights=np.array([0.5, 4.0]))
    fitted = quick(lambda: nn.Linear(4, 1), (X, y), recipe)
    logit = supervised.stack.make_member(lambda: nn.Linear(4, 1), 0)(torch.from_numpy(X))
    two = F.cross_entropy(torch.cat([torch.zeros_like(logit), logit], 1), torch.tensor(y), torch.tensor([0.5, 4.0]))
    assert fitted.history[0]["train/loss"][0] == pytest.approx(two.item())
    with pytest.raises(ValueError, match="each of 2 classes, not 3"):
        quick(lambda: nn.Linear(4, 1), (X, y), Recipe(loss="binary_cross_entropy", class_weights=(1, 2, 3)))


# -- schedules -----------------------------------------------------------------------------------------------------------


def test_a_schedule_of_ours_multiplies_the_rate(tmp_path):
    recipe = lambda epochs=5, rate=0.1, **k: Recipe(
        epochs, 16, "cross_entropy", learning_rate=rate, **k
    )  # 4 steps an epoch
    rates = lambda fitted: [row["train/learning_rate"].tolist() for row in fitted.history]
    whole = quick(recipe=recipe(rate=(0.1, 0.2), schedule=schedules.Linear(1.0, 0.0)), seeds=2)
    assert np.allclose(rates(whole), [[0.1 * (1 - t / 20), 0.2 * (1 - t / 20)] for t in (3, 7, 11, 15, 19)])
    inverse = schedules.Inverse(1.0, every=4, stairs=True)
    assert np.allclose(rates(quick(recipe=recipe(schedule=inverse)))[:3], [[0.1], [0.05], [0.1 / 3]])
    for schedule in (schedules.Linear(1.0, 0.5, horizon=6), inverse, schedules.Linear(1.0, 0.1)):
        folder = tmp_path / repr(schedule)
        spans = schedule == schedules.Linear(1.0, 0.1)
        quick(recipe=recipe(2, schedule=schedule), logdir=folder)
        if spans:
            with pytest.raises(supervised.checkpoint.CheckpointError, match=r"recipe\.epochs was 2 and is now 5"):
                quick(recipe=recipe(schedule=schedule), logdir=folder, resume=True)
        else:
            more = quick(recipe=recipe(schedule=schedule), logdir=folder, resume=True)
            assert_same(weights(more), weights(quick(recipe=recipe(schedule=schedule))))
        again = Recipe.from_json(json.loads(json.dumps(recipe(schedule=schedule).to_json())))
        assert again == recipe(schedule=schedule)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (schedules.Linear(1.0, -0.1), r"schedule must lie in \[0, 1e\+100\]"),
        (schedules.Inverse(1.0, unit="episodes"), "schedule can be scheduled in steps, not in episodes"),
        (schedules.Linear, "There is no schedule"),
    ],
)
def test_what_is_no_schedule(schedule, said):
    with pytest.raises(ValueError, match=said):
        Recipe(schedule=schedule)
    with pytest.raises(ValueError, match="name of a torch scheduler"):
        Recipe(schedule=schedules.Constant(1.0), schedule_options={"gamma": 1})


# -- several inputs ------------------------------------------------------------------------------------------------------


class Two(nn.Module):
    """A model of two inputs, by name or place: numbers, and a word."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(5, 3), nn.Linear(7, 3)

    def forward(self, x):
        numbers, word = x.values() if isinstance(x, dict) else x
        return self.head(torch.cat([numbers, self.words(word)], -1))


WORD = RNG.integers(0, 5, 50)


@pytest.mark.parametrize("x", [{"numbers": X, "word": WORD}, (X, WORD)], ids=["dict", "tuple"])
def test_several_inputs(x, tmp_path):
    recipe = Recipe(epochs=2, batch_size=16, loss="cross_entropy")
    fitted = quick(Two, (x, Y), recipe, seeds=2, validation=0.2, logdir=tmp_path, look_every_epochs=1)
    alone = quick(Two, (x, Y), recipe, seeds=[1], validation=0.2)
    assert_same({k: v[1:] for k, v in weights(fitted).items()}, weights(alone))
    one = torch.from_numpy(X), torch.from_numpy(WORD)
    for k, module in enumerate(fitted.stack.modules):
        assert torch.allclose(fitted.predict(x)[k], module(one), atol=1e-6)
    assert fitted.evaluate((x, Y))["accuracy"].shape == (2,)
    longer = dataclasses.replace(recipe, epochs=3)
    resumed = quick(Two, (x, Y), longer, seeds=2, validation=0.2, logdir=tmp_path, resume=True)
    assert_same(weights(resumed), weights(quick(Two, (x, Y), longer, seeds=2, validation=0.2)))
    parts = quick(Two, supervised.data.split((x, Y), 0.2)[0], recipe, seeds=2)
    assert_same(weights(parts), weights(fitted))


def test_what_is_wrong_with_several_inputs():
    with pytest.raises(DataError, match=r"x\['a'\]\[1, 0\] is nan"):
        quick(Two, ({"a": [[1.0], [np.nan]]}, [0, 1]))
    with pytest.raises(DataError, match="x has 49 examples and y has 50"):
        quick(Two, ((X, WORD[1:]), Y))
    with pytest.raises(DataError, match=r"do not fit the model: one example of x is {'a': \[4\]}"):
        quick(Two, ({"a": X}, Y))
    with pytest.raises(DataError, match="must be a dict of named inputs"):
        quick(Two, ({}, Y))
    with pytest.raises(DataError, match=r"augment requires images .* but x is a tuple"):
        quick(Two, ((X, WORD), Y), Recipe(loss="cross_entropy", augment=(supervised.augment.Shift(1),)))
    assert supervised.data.as_data((((1, 2), (3, 4)), (0, 1))).x.tolist() == [[1, 2], [3, 4]]  # rows, as ever


# -- data that stay where they are ---------------------------------------------------------------------------------------


class Examples(torch.utils.data.Dataset):
    """Reads X and Y one by one, and counts."""

    def __init__(self, noise=0.0):
        self.noise, self.read = noise, []

    def __len__(self):
        return 50

    def __getitem__(self, i):
        self.read.append(i)
        return torch.from_numpy(X[i]) + self.noise * torch.randn(4), int(Y[i])


RECIPE = Recipe(epochs=3, batch_size=16, loss="cross_entropy", metrics={"top2": top_two})


def test_a_dataset_is_fitted_as_its_arrays_are(tmp_path):
    arrays = quick(recipe=RECIPE, seeds=2, validation=0.2)
    files = []
    for name, values in (("x", X), ("y", Y)):
        np.save(tmp_path / name, values)
        files.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    tensors = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    loader = torch.utils.data.DataLoader(Examples(), batch_size=16, shuffle=True)
    for data in (Examples(), tuple(files), (files[0], Y), tensors, loader):
        fitted = quick(data=data, recipe=RECIPE, seeds=2, validation=0.2)
        assert_same(weights(fitted), weights(arrays))
        assert [row["train/loss"].tolist() for row in fitted.history] == [
            r["train/loss"].tolist() for r in arrays.history
        ]
        for tag, values in fitted.evaluate(data).items():
            assert np.allclose(values, arrays.evaluate((X, Y))[tag], rtol=1e-6)
    assert torch.allclose(fitted.predict(files[0]), arrays.predict(X))


def test_a_memmap_is_not_loaded_whole(tmp_path):
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (20_000, 4))
    most = []

    class Spied(np.memmap):
        def __getitem__(self, index):
            found = super().__getitem__(index)
            most.append(np.size(found))
            return np.asarray(found)

    spied = x.view(Spied)
    y = np.zeros(20_000, np.int64)
    fitted = quick(data=(spied, y), recipe=Recipe(epochs=1, batch_size=1000, loss="cross_entropy"), validation=0.1)
    fitted.predict(spied)
    assert sum(most) > 2 * 20_000 * 4
    assert max(most) <= 1000 * 4


def test_each_seed_has_an_order_and_noise_of_its_own():
    examples = Examples(noise=1.0)
    together = quick(data=examples, recipe=RECIPE, seeds=3)
    state = torch.get_rng_state()
    alone = quick(data=Examples(noise=1.0), recipe=RECIPE, seeds=[2])
    assert torch.equal(torch.get_rng_state(), state)  # what the user draws is left alone
    assert_same({k: v[2:] for k, v in weights(together).items()}, weights(alone))
    with_workers = torch.utils.data.DataLoader(Examples(noise=1.0), 16, shuffle=True, num_workers=2)
    assert_same(weights(quick(data=with_workers, recipe=RECIPE, seeds=3)), weights(together))


def test_a_stream_is_resumed_to_the_bit(tmp_path):
    short = dataclasses.replace(RECIPE, epochs=1)
    quick(data=Examples(noise=1.0), recipe=short, seeds=2, validation=0.2, logdir=tmp_path)
    resumed = quick(data=Examples(noise=1.0), recipe=RECIPE, seeds=2, validation=0.2, logdir=tmp_path, resume=True)
    whole = quick(data=Examples(noise=1.0), recipe=RECIPE, seeds=2, validation=0.2)
    assert_same(weights(resumed), weights(whole))
    with pytest.raises(supervised.checkpoint.CheckpointError, match="the data differ"):
        quick(data=Examples(noise=2.0), recipe=RECIPE, seeds=2, validation=0.2, logdir=tmp_path, resume=True)


def test_a_dataloader_gives_batch_size_order_and_drop_last():
    seen = []

    class Spy(Examples):
        def __getitem__(self, i):
            seen.append(i)
            return super().__getitem__(i)

    loader = torch.utils.data.DataLoader(Spy(), batch_size=20, drop_last=True)
    fitted = quick(data=loader, recipe=dataclasses.replace(RECIPE, epochs=1), look_every_epochs=None)
    assert seen[-40:] == list(range(40))
    assert fitted.step == 2
    torchs = torch.utils.data
    for bad, said in (
        (
            torchs.DataLoader(Spy(), sampler=torchs.WeightedRandomSampler([1.0] * 50, 50)),
            "WeightedRandomSampler.*class_weights",
        ),
        (torchs.DataLoader(Spy(), batch_sampler=[[0, 1], [2, 3]]), "custom sampler or batch_sampler"),
        (torchs.DataLoader(Spy(), batch_size=60, drop_last=True), "drop_last leaves nothing of 50"),
        (torchs.DataLoader(Stream()), "cannot be indexed"),
        (Stream(), "cannot be indexed"),
        (torchs.Subset(Spy(), []), "is empty"),
        (Ragged(), "the examples cannot be collated into a batch: stack expects each tensor to be equal size"),
        (Bad(), r"The training data: x\[7, 2\] is nan"),
        (Alone(), r"an example must be a pair \(x, y\), not Tensor"),
        (Foreign(), "^mine$"),
    ):
        with pytest.raises(ValueError, match=said):
            quick(data=bad, recipe=RECIPE)


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([(X[0], 0)])


class Ragged(Examples):
    def __getitem__(self, i):
        return torch.zeros(4 + i % 2), 0


class Bad(Examples):
    def __getitem__(self, i):
        x = torch.zeros(4)
        x[2] = np.nan if i == 7 else 0
        return x, 0


class Alone(Examples):
    def __getitem__(self, i):
        return torch.zeros(4)


class Foreign(Examples):
    def __getitem__(self, i):
        raise ValueError("mine")


def test_a_dataset_of_several_inputs():
    class Both(Examples):
        def __getitem__(self, i):
            return (X[i], WORD[i]), Y[i]

    recipe = Recipe(epochs=2, batch_size=16, loss="cross_entropy")
    arrays = quick(Two, ((X, WORD), Y), recipe, seeds=2)
    assert_same(weights(quick(Two, Both(), recipe, seeds=2)), weights(arrays))
    three = torch.utils.data.TensorDataset(*map(torch.from_numpy, (X, WORD, Y)))
    assert_same(weights(quick(Two, three, recipe, seeds=2)), weights(arrays))


def test_the_last_part_of_a_series_validates():
    train, last = supervised.data.split((X, Y), 0.2, shuffle=False)
    assert np.array_equal(train.x, X[:40])
    assert np.array_equal(last.x, X[40:])
    streamed = supervised.data.split(Examples(), 0.2, shuffle=False)
    fitted = quick(data=streamed[0], validation=streamed[1])
    assert_same(weights(fitted), weights(quick(data=train, validation=last)))
    assert sorted(set(streamed[1].reader.dataset.read)) == list(range(50))


def test_a_loss_that_mixes_examples_is_refused():
    """[B, 1] and [B] broadcast to [B, B], of which nothing is learned."""
    data = torch.randn(20, 3), torch.randn(20)
    recipe = Recipe(epochs=1, loss=lambda prediction, y: (prediction - y).square())
    with pytest.raises(ArgumentError, match="mixes examples"):
        supervised.fit(lambda: torch.nn.Linear(3, 1), data, recipe, progress=False)


def test_a_loss_may_read_weights_of_a_module_that_is_fitted_in_place():
    data, penalty = (torch.randn(20, 3), torch.randn(20, 1)), 0.3
    for compute in (torch.nn.Linear(3, 1), torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))):
        mine = copy.deepcopy(compute)

        def loss(prediction, y, net=compute):
            return (prediction - y).square() + penalty * sum(p.square().sum() for p in net.parameters())

        recipe = Recipe(epochs=3, batch_size=None, optimizer="SGD", learning_rate=0.1, loss=loss)
        supervised.fit(compute, data, recipe, progress=False)
        optimizer = torch.optim.SGD(mine.parameters(), 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            loss(mine(data[0]), data[1], mine).mean().backward()
            optimizer.step()
        for ours, theirs in zip(compute.parameters(), mine.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)
