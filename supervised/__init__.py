"""Fitting models; the floor that `rl` stands on: N members as one, random streams, schedules, checkpoints, curves.

stack: N networks computed as one. models: networks. fitting: `fit`. session: one call of a training loop. The modules beside
these folders know none of them.
"""

import supervised.determinism  # noqa: F401  (first: what it sets must be there before the first product)
from supervised import _moved, augment, data, losses, metrics, mnist, schedules, shapes, statistics
from supervised.fitting.divergence import Diverged
from supervised.fitting.fit import Fit
from supervised.fitting.loop import fit, load
from supervised.fitting.recipe import Recipe
from supervised.models.cnn import CNN
from supervised.models.layers import Model
from supervised.models.mlp import MLP
from supervised.models.noisy import NoisyLinear, noisy
from supervised.models.regression import LinearRegression, LogisticRegression, SoftmaxRegression
from supervised.models.rnn import RNN, chrono
from supervised.shapes import ShapeError
from supervised.sources import Data, DataError
from supervised.stack import Stack, clip_per_seed, optimizer
from supervised.streams import Streams

_moved.enter()

__all__ = [
    "CNN",
    "MLP",
    "RNN",
    "Data",
    "DataError",
    "Diverged",
    "Fit",
    "LinearRegression",
    "LogisticRegression",
    "Model",
    "NoisyLinear",
    "Recipe",
    "ShapeError",
    "SoftmaxRegression",
    "Stack",
    "Streams",
    "augment",
    "chrono",
    "clip_per_seed",
    "data",
    "fit",
    "load",
    "losses",
    "metrics",
    "mnist",
    "noisy",
    "optimizer",
    "schedules",
    "shapes",
    "statistics",
]
