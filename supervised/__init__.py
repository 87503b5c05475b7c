"""Fitting models; the floor that `rl` stands on: N members as one, random streams, schedules, checkpoints, curves."""

import supervised.bits  # (first: what it sets must be there before the first product)
import supervised.rules  # noqa: F401  (it enters the rules of layers)
from supervised import augment, data, losses, metrics, mnist, schedules, shapes, statistics
from supervised.cnn import CNN
from supervised.divergence import Diverged
from supervised.fit import fit, load
from supervised.fitting import Fit
from supervised.layers import Model
from supervised.mlp import MLP
from supervised.optimize import optimizer
from supervised.recipe import Recipe
from supervised.regression import LinearRegression, LogisticRegression, SoftmaxRegression
from supervised.rnn import RNN
from supervised.shapes import ShapeError
from supervised.sources import Data, DataError
from supervised.stack import Stack, clip_per_seed
from supervised.streams import Streams

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
    "Recipe",
    "ShapeError",
    "SoftmaxRegression",
    "Stack",
    "Streams",
    "augment",
    "clip_per_seed",
    "data",
    "fit",
    "load",
    "losses",
    "metrics",
    "mnist",
    "optimizer",
    "schedules",
    "shapes",
    "statistics",
]
