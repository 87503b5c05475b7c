"""The lecture notes' experiments, by name."""

from __future__ import annotations

import ast
import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lectures.experiment import Experiment

# Each is a class of a module of this package.
EXPERIMENTS = {
    "linear": "regression.Linear",
    "multivariable": "regression.MultiVariable",
    "logistic": "classification.Logistic",
    "softmax": "classification.Softmax",
    "unsupervised": "unsupervised.Unsupervised",
    "learning-rates": "classification.LearningRates",
    "xor": "classification.Xor",
    "normalization": "preparation.Normalization",
    "overfitting": "preparation.Overfitting",
    "dropout": "remedies.Dropout",
    "regularization": "remedies.Regularization",
    "early-stopping": "remedies.EarlyStopping",
    "online": "remedies.Online",
    "clipping": "remedies.Clipping",
    "imagenet": "history.ImageNet",
    "mnist-softmax": "mnist.Softmax",
    "mnist-mlp": "mnist.Perceptron",
    "mnist-initializers": "mnist.Initializers",
    "mnist-deep": "mnist.Deep",
    "mnist-cnn": "mnist.Convolutional",
    "mnist-ensemble": "mnist.Ensemble",
    "activations": "depth.Activations",
    "initialization": "depth.Initialization",
    "self-normalizing": "normalizing.SelfNormalizing",
    "gradients": "depth.Gradients",
    "backward-by-hand": "checks.BackwardByHand",
    "sanity-checks": "checks.SanityChecks",
    "optimizers": "descent.Optimizers",
    "momentum": "momentum.Momentum",
    "shapes": "shapes.Shapes",
    "residual": "residual.ResidualNetworks",
    "transfer": "pictures.Transfer",
    "augmentation": "pictures.Altered",
    "fractional-pooling": "pictures.FractionalPooling",
    "caption": "pictures.Caption",
    "sequence-shapes": "sequences.SequenceShapes",
    "hihello": "sequences.HiHello",
    "if-you-want-you": "sequences.IfYouWantYou",
    "char-rnn": "sequences.CharRNN",
    "stock": "sequences.Stock",
    "search": "tools.Search",
    "speed": "tools.Speed",
}


def find(name: str) -> type[Experiment]:
    """The experiment of that name."""
    module, kind = EXPERIMENTS[name].split(".")
    found: type[Experiment] = getattr(importlib.import_module(f"lectures.{module}"), kind)
    return found


def name_of(one: Experiment) -> str:
    """The name of an experiment."""
    kind = type(one)
    names = {place: name for name, place in EXPERIMENTS.items()}
    return names[f"{kind.__module__.rpartition('.')[2]}.{kind.__qualname__}"]


def summary(name: str) -> str:
    """The docstring of the experiment of that name, read without importing what it needs."""
    module, kind = EXPERIMENTS[name].split(".")
    return _docstrings(module)[kind]


@functools.cache
def _docstrings(module: str) -> dict[str, str]:
    """The docstrings of a module's classes, by name."""
    tree = ast.parse((Path(__file__).parent / f"{module}.py").read_text())
    return {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.ClassDef)}
