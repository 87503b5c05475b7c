"""The effect of depth on activations and gradients: how they vanish or explode, and what prevents it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lectures.experiment import OnDigits, Seeded
from lectures.mnist import ADAM
from lectures.report import Report
from supervised import MLP, RNN, Data, Recipe, mnist
from supervised.fitting import inspect
from supervised.streams import generator


@dataclass
class Activations(OnDigits):
    """Sigmoid and ReLU, 3 and 10 layers, initialized from N(0, 1) as in the notes; then five activations, well initialized."""

    width: int = 256
    """Units of each hidden layer."""

    def run(self, report: Report) -> None:
        found = self.digits(report)
        inside: dict[str, dict[str, Tensor]] = {}
        notes = {("sigmoid", 3): ".9421", ("relu", 3): ".9587", ("sigmoid", 10): ".9431", ("relu", 10): ".9300"}
        for (activation, layers), note in notes.items():
            name = f"{activation}, {layers} layers, N(0,1)"
            inside[name] = self.judge(report, found, name, activation, layers, "normal", ADAM, note)
        short = Recipe(epochs=5, batch_size=100)
        for activation in ("sigmoid", "tanh", "relu", "leaky_relu", "elu"):
            init = "he" if activation in ("relu", "leaky_relu", "elu") else "xavier"
            name = f"{activation}, 10 layers, {init}, 5 epochs"
            inside[name] = self.judge(report, found, name, activation, 10, init, short)
        report.picture("activations", draw_by_layer({n: list(a.values()) for n, a in inside.items()}, "after training"))

    def judge(
        self,
        report: Report,
        found: mnist.Digits,
        name: str,
        activation: str,
        layers: int,
        init: str,
        recipe: Recipe,
        note: str = "",
    ) -> dict[str, Tensor]:
        """Train one network. Return its layers' activations for some images after training."""
        inputs, widths = int(np.prod(found.train.x.shape[1:])), [self.width] * (layers - 1)

        def make() -> nn.Module:
            return MLP(inputs, 10, widths, activation=activation, init=init)

        x, y = found.train.x[:200].float() / 255, found.train.y[:200]
        torch.manual_seed(0)
        first, last = slopes(make(), x, y)
        folder = name.replace("N(0,1)", "normal").replace(", ", "_").replace(" ", "_")
        fitted = self.fit(report, folder, make, found.train, recipe)
        report.shares(
            f"{name}: test accuracy", fitted.evaluate(found.test)["accuracy"], self.all_seeds, self.note(report, note)
        )
        report.row(f"{name}: first gradient, first / last hidden layer", first / last)
        answers = inspect.activations(fitted.stack.modules[0], x.to(fitted.stack.device))
        if activation == "relu":
            report.row(f"{name}: share of dead units", inspect.dead_units(fitted.stack.modules[0], answers) or 0.0)
        return {layer: answer.cpu() for layer, answer in answers.items() if activation in layer}


def slopes(module: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the mean absolute gradient of the weights of the first and of the last hidden layer."""
    nn.functional.cross_entropy(module(x), y).backward()
    sizes = [
        float(p.grad.abs().mean())
        for n, p in module.named_parameters()
        if p.grad is not None and n.startswith("trunk") and p.ndim > 1
    ]
    return sizes[0], max(sizes[-1], 1e-30)


def draw_by_layer(answers: dict[str, list[Tensor]], when: str) -> Figure:
    """Plot a histogram for each layer of each network, depth from left to right."""
    deepest = max(len(layers) for layers in answers.values())
    figure = Figure(figsize=(1.7 * deepest + 1.5, 1.5 * len(answers) + 0.6), layout="constrained")
    grid = figure.subplots(len(answers), deepest, squeeze=False)
    for row, (name, layers) in zip(grid, answers.items(), strict=True):
        for i, axes in enumerate(row):
            if i >= len(layers):
                axes.axis("off")
                continue
            values = layers[i].flatten().numpy()
            axes.hist(values, bins=40, color=f"C{list(answers).index(name) % 10}")
            axes.set_title(f"layer {i + 1}, std {values.std():.2g}", fontsize=8)
            axes.set_yticks([])
            axes.tick_params(labelsize=7)
        row[0].set_ylabel("\n".join(name.split(", ")), fontsize=7, rotation=0, ha="right", va="center")
    figure.suptitle(f"How activations are spread, layer by layer, {when}")
    return figure


@dataclass
class Initialization(OnDigits):
    """Activations through ten layers for weights too small, too large and right; and pre-training by a Boltzmann machine."""

    labels: int = 200
    """Number of labeled images in the demonstration of pre-training."""
    unlabeled: int = 5000
    """Number of unlabeled images, from which the Boltzmann machine learns."""

    def run(self, report: Report) -> None:
        spread: dict[str, list[Tensor]] = {}
        scales: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
            "std .01": ("tanh", lambda w: w.normal_(std=0.01)),
            "std 1": ("tanh", lambda w: w.normal_(std=1)),
            "Xavier": ("tanh", nn.init.xavier_normal_),
            "Xavier with ReLU": ("relu", nn.init.xavier_normal_),
            "He with ReLU": ("relu", nn.init.kaiming_normal_),
        }
        notes = {"std .01": "goes to 0", "std 1": "saturates", "Xavier": "stays"}
        for name, (activation, draw) in scales.items():
            torch.manual_seed(0)
            x = torch.randn(1000, 500)
            layers = []
            for _ in range(10):
                x = getattr(torch, activation)(x @ draw(torch.empty(500, 500)).T)
                layers.append(x)
            spread[name] = layers
            stds = [float(layer.std()) for layer in layers]
            text = ", ".join(f"{stds[i]:.2g}" for i in (0, 4, 9))
            report.row(f"{name}: std of layers 1, 5, 10", text, notes.get(name, ""))
            if name == "std 1":
                report.row(
                    "std 1: share of tanh beyond .99 in layer 10",
                    float((layers[-1].abs() > 0.99).float().mean()),
                    "saturated",
                )
            report.curve("activation_std", stds, name.replace(" ", "_"))
        report.picture("by_layer", draw_by_layer(spread, "before training"))
        self.pretrain(report)

    def pretrain(self, report: Report) -> None:
        """Train a restricted Boltzmann machine (Hinton 2002) without labels, then a classifier on few labels."""
        from sklearn.neural_network import BernoulliRBM

        found = self.digits(report)
        x = found.train.x.flatten(1).float() / 255
        few = Data(x[: self.labels], found.train.y[: self.labels])
        rbm = BernoulliRBM(64, learning_rate=0.05, n_iter=20, random_state=0).fit(x[: self.unlabeled].numpy())
        weights, biases = (
            torch.from_numpy(part.astype(np.float32)) for part in (rbm.components_, rbm.intercept_hidden_)
        )

        def make(pretrained: bool) -> nn.Module:
            net = MLP(x.shape[1], 10, (64,), activation="sigmoid", init="xavier")
            if pretrained:
                first = next(part for part in net.modules() if isinstance(part, nn.Linear))
                with torch.no_grad():
                    first.weight.copy_(weights)
                    first.bias.copy_(biases)
            return net

        recipe = Recipe(epochs=100, batch_size=20)
        test = Data(found.test.x.flatten(1).float() / 255, found.test.y)
        for name, pretrained in (("Xavier", False), ("pre-trained by a Boltzmann machine", True)):
            fitted = self.fit(report, "rbm" if pretrained else "xavier", lambda p=pretrained: make(p), few, recipe)
            what = f"{len(few.x)} labels, {name}: test accuracy"
            report.shares(
                what,
                fitted.evaluate(test)["accuracy"],
                self.all_seeds,
                'named; "about .99" with all labels' if pretrained else "",
            )
        figure = Figure(figsize=(6, 6.4), layout="constrained")
        side = found.train.x.shape[1:]
        for axes, filter_ in zip(figure.subplots(8, 8).flat, weights, strict=True):
            axes.imshow(filter_.view(*side), cmap="gray")
            axes.axis("off")
        figure.suptitle("What the Boltzmann machine's 64 units look for")
        report.picture("rbm", figure)


@dataclass
class Gradients(Seeded):
    """Vanishing and exploding gradients: long products, RNN and LSTM; and gradients checked by differences."""

    length: int = 50
    """Length of the products and sequences."""

    def run(self, report: Report) -> None:
        report.row("slopes of three sigmoids in a chain, .01 x .03 x .2", f"{0.01 * 0.03 * 0.2:.0e}", "close to 0")
        report.row("largest slope a sigmoid has, to the power of 10", f"{0.25**10:.1e}", "")
        curves = {}
        for scale in (0.9, 1.0, 1.1):
            curves[f"singular values {scale}"] = norms = self.product(scale)
            note = {0.9: "vanishes", 1.1: "explodes"}.get(scale, "")
            report.row(f"{self.length} factors with singular values {scale}: length of the product", norms[-1], note)
            report.curve("product", norms, f"{scale}")
        cells = {}
        for cell in ("rnn", "lstm", "lstm, forget gate open", "gru"):
            cells[cell] = found = np.mean([self.reach(cell, seed) for seed in self.all_seeds], 0)
            report.row(
                f"{cell}: gradient from {self.length - 1} steps back / gradient at the last step",
                float(found[0] / found[-1]),
            )
        self.checked(report)
        figure = Figure(figsize=(12, 4.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, values in curves.items():
            left.plot(values, label=name)
        left.set(yscale="log", xlabel="factors", ylabel="length of the product", title="A product of matrices")
        for name, values in cells.items():
            right.plot(range(self.length - 1, -1, -1), values, label=name)
        right.set(
            yscale="log", xlabel="steps back", ylabel="gradient of the last output", title="How far back a cell feels"
        )
        for axes in (left, right):
            axes.legend()
        report.picture("gradients", figure)

    def product(self, scale: float) -> list[float]:
        """Return the norm of v after each product with a matrix whose singular values are all `scale`."""
        rng = generator(0, "weights")
        turn, _ = np.linalg.qr(rng.standard_normal((8, 8)))
        v = np.eye(8)[0]
        lengths = [1.0]
        for _ in range(self.length):
            v = scale * turn @ v
            lengths.append(float(np.linalg.norm(v)))
        return lengths

    def reach(self, cell: str, seed: int) -> np.ndarray:
        """Return the gradient norm of the last output of an untrained cell of 32 units with respect to each input, [length]."""
        torch.manual_seed(seed)
        net = RNN(4, 1, 32, cell=cell.split(",", maxsplit=1)[0], shape="many-to-one")
        if "open" in cell:  # bias 3: .95 of the cell's state is kept (Jozefowicz et al. 2015, section 2.2)
            with torch.no_grad():
                net.trunk.cell.bias_ih_l0[32:64] = 3.0
        x = torch.randn(16, self.length, 4, requires_grad=True)
        net(x)[0].sum().backward()
        assert x.grad is not None
        return x.grad.norm(dim=-1).mean(0).numpy()

    def checked(self, report: Report) -> None:
        """Check the lecture's own backward passes against numeric differences (torch.autograd.gradcheck)."""
        x = torch.tensor([-2.0, 5.0, -4.0], dtype=torch.float64, requires_grad=True)
        ((x[0] + x[1]) * x[2]).backward()
        assert x.grad is not None
        report.row("gradient of (x + y) z at -2, 5, -4", ", ".join(f"{value:g}" for value in x.grad), "-4, -4, 3")
        points = torch.linspace(-5, 5, 11, dtype=torch.float64, requires_grad=True)
        report.row(
            "sigmoid's backward by hand equals differences",
            str(torch.autograd.gradcheck(Sigmoid.apply, (points,))),
            "s (1 - s)",
        )
        jacobian = torch.autograd.functional.jacobian(torch.relu, torch.randn(6))
        report.row(
            "ReLU's Jacobian is diagonal", str(bool((jacobian == torch.diag(jacobian.diagonal())).all())), "diagonal"
        )


class Sigmoid(torch.autograd.Function):
    """The sigmoid with a handwritten backward pass, as in the lecture's computational graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return the sigmoid of x [...]."""
        y = 1 / (1 + (-x).exp())
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        """Return the incoming gradient times the local one, s (1 - s)."""
        (y,) = ctx.saved_tensors
        return slopes[0] * y * (1 - y)
