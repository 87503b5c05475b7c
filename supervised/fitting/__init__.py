"""Fitting models to data: `recipe` has the settings, `loop` has `fit`, and `fit` the members in training.

batches, updates, evaluator, early_stopping, divergence: the parts of a fit. check_data: whether model and data fit together.
report, inspect: what TensorBoard shows. files: checkpoints. It may import everything else in `supervised`, and nothing in
`supervised` imports it.
"""

from supervised.fitting.fit import Fit
from supervised.fitting.members import freeze

__all__ = ["Fit", "freeze"]
