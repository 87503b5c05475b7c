"""Supervised learning with N members at once, and the foundation of `rl`: random streams, schedules, checkpoints, curves.

stack: N networks computed as one. models: networks. fitting: `fit`. session: one call of a training loop. The modules at the
root do not import these folders. Names are imported on first access (`supervised.lazy`).
"""

import os
from typing import TYPE_CHECKING

from supervised import _moved, lazy

os.environ.setdefault("MKL_CBWR", "AVX2")  # before the first matrix product, see `supervised.determinism`

if TYPE_CHECKING:
    from supervised import augment, data, losses, metrics, mnist, schedules, shapes, statistics
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

# Where each name lives; those that are modules of this package are not listed.
_PLACES = {
    "CNN": "supervised.models.cnn",
    "MLP": "supervised.models.mlp",
    "RNN": "supervised.models.rnn",
    "Data": "supervised.sources",
    "DataError": "supervised.sources",
    "Diverged": "supervised.fitting.divergence",
    "Fit": "supervised.fitting.fit",
    "LinearRegression": "supervised.models.regression",
    "LogisticRegression": "supervised.models.regression",
    "Model": "supervised.models.layers",
    "NoisyLinear": "supervised.models.noisy",
    "Recipe": "supervised.fitting.recipe",
    "ShapeError": "supervised.shapes",
    "SoftmaxRegression": "supervised.models.regression",
    "Stack": "supervised.stack",
    "Streams": "supervised.streams",
    "chrono": "supervised.models.rnn",
    "clip_per_seed": "supervised.stack",
    "fit": "supervised.fitting.loop",
    "load": "supervised.fitting.loop",
    "noisy": "supervised.models.noisy",
    "optimizer": "supervised.stack",
}

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

# In addition to the modules of `__all__`, those that earlier versions imported with the package.
_MODULES = (
    *("checkpoint", "determinism", "device", "events", "files", "fitting", "functions", "logger", "models", "session"),
    *("sources", "stack", "state", "streams", "tensors", "validate"),
)

__getattr__, __dir__ = lazy.names(__name__, _PLACES, {*__all__, *_MODULES} - {*_PLACES}, _moved.find)
_moved.enter()
