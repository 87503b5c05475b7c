"""Images: transfer learning, augmentation, fractional pooling, and captions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lectures.experiment import OnDigits
from lectures.report import Report
from supervised import CNN, RNN, Data, Fit, Recipe, mnist
from supervised.augment import Affine, Augmentation, Noise, Shift
from supervised.data import Characters

RECIPE = Recipe(epochs=10, batch_size=50)
CAPTIONS = Recipe(epochs=15, batch_size=100, learning_rate=5e-3, schedule="LinearLR", clip_norm=1.0)


def small_cnn(shape: Sequence[int], outputs: int, **options: Any) -> CNN:
    """Two convolutions and a dense layer."""
    return CNN((1, *shape), outputs, (16, 32), widths=(64,), **options)


@dataclass
class Transfer(OnDigits):
    """Transfer learning: a CNN trained on 0 to 4 learns 5 to 9; features frozen, fine-tuned, or trained from scratch."""

    few: tuple[int, ...] = (5, 20, 100)
    """Number of examples of each new digit."""
    pictures: int = 12_000
    """Number of training images of the old digits."""

    def run(self, report: Report) -> None:
        found = self.digits(report, self.pictures)
        shape = found.train.x.shape[1:]
        old, new, test = (
            part for part in (self.half(found.train, 0), self.half(found.train, 5), self.half(found.test, 5))
        )
        before = self.fit(report, "old", lambda: small_cnn(shape, 5), old, RECIPE)
        report.shares("0 to 4: test accuracy", before.evaluate(self.half(found.test, 0))["accuracy"], self.all_seeds)
        for few in self.few:
            some = self.first(new, few)
            recipe = Recipe(epochs=60, batch_size=min(25, len(some.x)))
            for how in ("frozen", "retrained", "from scratch"):
                right = [
                    self.after(report, how, before, k, shape, some, recipe, test, few)
                    for k in range(len(self.all_seeds))
                ]
                report.shares(f"5 to 9 from {few} examples each, {how}: test accuracy", right, self.all_seeds)

    def after(
        self,
        report: Report,
        how: str,
        before: Fit,
        k: int,
        shape: Sequence[int],
        some: Data,
        recipe: Recipe,
        test: Data,
        few: int,
    ) -> float:
        """Fit one seed to the new digits, starting with the trunk fitted to the old ones. Return the test accuracy."""
        seed = self.all_seeds[k]

        def make() -> nn.Module:
            net = small_cnn(shape, 5)
            if how != "from scratch":
                net.trunk.load_state_dict(before.stack.member(seed).trunk.state_dict())
            return net

        recipe = dataclasses.replace(recipe, freeze=("trunk",) if how == "frozen" else ())
        fitted = self.fit(
            report, f"{how.replace(' ', '_')}_{few}/{seed}", make, some, recipe, seeds=[seed], progress=False
        )
        return float(fitted.evaluate(test)["accuracy"][0])

    def half(self, data: Data, first: int) -> Data:
        """Return the digits first .. first + 4, as the classes 0 .. 4."""
        chosen = (data.y >= first) & (data.y < first + 5)
        return Data(data.x[chosen], data.y[chosen] - first)

    def first(self, data: Data, few: int) -> Data:
        """Return the first `few` examples of each class."""
        chosen = torch.cat([(data.y == c).nonzero()[:few, 0] for c in range(5)])
        return Data(data.x[chosen], data.y[chosen])


@dataclass
class Altered(OnDigits):
    """A CNN on a thousand images, augmented in batches on the device: shifted, rotated and sheared, with noise, all of these."""

    pictures: int = 1000
    """Number of training images."""

    def run(self, report: Report) -> None:
        found = self.digits(report, self.pictures)
        shape = found.train.x.shape[1:]
        side = shape[0]
        kinds: dict[str, tuple[Augmentation, ...]] = {
            "none": (),
            "shifted by up to 2 pixels": (Shift(2 if side > 10 else 1),),
            "rotated, sheared, scaled": (Affine(degrees=10, scale=0.1, shear=5, shift=0.05),),
            "with noise": (Noise(0.1),),
            "all three": (Shift(1), Affine(degrees=10, scale=0.1, shear=5), Noise(0.05)),
        }
        some = found.train.x[:8].float()[:, None] / 255
        figure = Figure(figsize=(8, 5.4), layout="constrained")
        for row, (name, augment) in zip(figure.subplots(len(kinds), 8), kinds.items(), strict=True):
            altered = some
            for augmentation in augment:
                altered = augmentation(altered, torch.Generator().manual_seed(0))
            for axes, picture in zip(row, altered, strict=True):
                axes.imshow(picture[0], cmap="gray_r", vmin=0, vmax=1)
                axes.set(xticks=[], yticks=[])
            row[0].set_ylabel(name.replace(" ", "\n", 1), rotation=0, ha="right", va="center", fontsize=8)
            recipe = Recipe(epochs=40, batch_size=50, augment=augment, schedule="LinearLR")
            folder = name.replace(",", "").replace(" ", "_")
            fitted = self.fit(report, folder, lambda: small_cnn(shape, 10), found.train, recipe)
            right = fitted.evaluate(found.test)["accuracy"]
            report.shares(f"{len(found.train.x):,} images, {name}: test accuracy", right, self.all_seeds)
        report.picture("altered", figure)


@dataclass
class FractionalPooling(OnDigits):
    """Max, average and fractional max pooling; the last keeps .7 of the side length, with random windows for each batch."""

    pictures: int = 6000
    """Number of training images."""

    def run(self, report: Report) -> None:
        found = self.digits(report, self.pictures)
        shape = tuple(found.train.x.shape[1:])
        for pool in ("max", "average", "fractional"):
            fitted = self.fit(report, pool, lambda pool=pool: small_cnn(shape, 10, pool=pool), found.train, RECIPE)
            right = fitted.evaluate(found.test)["accuracy"]
            report.shares(
                f"{pool} pooling: test accuracy", right, self.all_seeds, "named" if pool == "fractional" else ""
            )
        picture = found.train.x[:1].float()[:, None] / 255
        figure = Figure(figsize=(11, 2.8), layout="constrained")
        torch.manual_seed(0)
        pooled = [("the picture", picture), ("max 2x2", nn.functional.max_pool2d(picture, 2))]
        pooled += [
            (f"fractional, draw {i + 1}", nn.FractionalMaxPool2d(2, output_ratio=0.7)(picture)) for i in range(3)
        ]
        for axes, (name, image) in zip(figure.subplots(1, 5), pooled, strict=True):
            axes.imshow(image[0, 0], cmap="gray_r")
            axes.set(xticks=[], yticks=[], title=f"{name}\n{image.shape[2]} x {image.shape[3]}")
        report.picture("pooled", figure)


WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
END = "."


class Captioner(nn.Module):
    """A model from images [B, H, W] to words, logits [B, T, characters]: a CNN that initializes the state of an RNN.

    The recurrent network sees the image at the first step only, as in Karpathy and Fei-Fei (2015, section 3.2); Vinyals et
    al. (2015, section 3.1) found the image at every step worse. The weights start from He's and Xavier's distributions: with
    torch's smaller ones the features hardly affect the first state, and many seeds learn one caption for all images.
    """

    def __init__(self, shape: Sequence[int], characters: int, steps: int, cell: str = "rnn") -> None:
        super().__init__()
        self.loss = "cross_entropy"
        self.eye = small_cnn(shape, 1, init="he").trunk
        self.mouth = RNN(64, characters, 48, cell=cell, shape="one-to-many", steps=steps, init="xavier")

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, H, W] to logits [B, T, characters]."""
        words: Tensor = self.mouth(self.eye(x))[0]
        return words


@dataclass
class Caption(OnDigits):
    """Image captioning at its smallest: a CNN reads a digit, a recurrent network spells its name."""

    seeds: int = 10
    """Number of seeds."""
    data: Literal["auto", "mnist", "digits"] = "digits"
    """digits: scikit-learn's 1 797 small images; mnist: MNIST; auto: MNIST if available, otherwise digits."""
    pictures: int = 10_000
    """Number of training images."""
    cell: Literal["rnn", "lstm", "gru"] = "rnn"
    """Cell of the recurrent network."""

    def run(self, report: Report) -> None:
        found = self.digits(report, self.pictures)
        shape, length = tuple(found.train.x.shape[1:]), max(map(len, WORDS)) + 1
        letters = Characters("".join(WORDS) + END)
        spelled = torch.stack([letters.encode(word.ljust(length, END)) for word in WORDS])
        train, test = (Data(part.x, spelled[part.y]) for part in (found.train, found.test))
        fitted = self.fit(report, "", lambda: Captioner(shape, len(letters), length, self.cell), train, CAPTIONS)
        said = fitted.predict(test.x).argmax(-1).cpu()
        right = (said == test.y).all(-1).double().mean(1)
        report.shares("whole words correct, test", right, self.all_seeds, "a picture; no figure")
        report.shares("characters correct, test", (said == test.y).double().mean((1, 2)), self.all_seeds)
        learned = f"{int((right > 0.9).sum())} of {len(right)}"
        report.row("seeds that spell more than 9 of 10 test images correctly", learned)
        report.picture("captions", self.draw(found, said[0], letters))

    def draw(self, found: mnist.Digits, said: Tensor, letters: Characters) -> Figure:
        words = [letters.decode(word).split(END)[0] for word in said]
        wrong = [i for i, (word, y) in enumerate(zip(words, found.test.y, strict=True)) if word != WORDS[y]][:6]
        figure = Figure(figsize=(9, 5), layout="constrained")
        for axes, i in zip(figure.subplots(3, 6).flat, [*range(12), *wrong, *[None] * 6], strict=False):
            axes.axis("off")
            if i is not None:
                axes.imshow(found.test.x[i], cmap="gray_r")
                axes.set_title(words[i], color="k" if words[i] == WORDS[found.test.y[i]] else "r")
        figure.suptitle("What the first seed says of the first test pictures; below, in red, of some it gets wrong")
        return figure
