"""Fitting models to data: `recipe` contains the settings, `loop` the function `fit`, `fit` the state of training.

batches, updates, evaluator, early_stopping, divergence: the parts of a fit. check_data: whether model and data match. report,
inspect: what TensorBoard shows. files: checkpoints. May import everything else in `supervised`; nothing else in `supervised`
imports it.
"""

from supervised.fitting.fit import Fit
from supervised.fitting.members import freeze

__all__ = ["Fit", "freeze"]
