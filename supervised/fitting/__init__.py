"""Fitting models to data: `recipe` says how, `loop` has `fit`, and `fit` the members that are being fitted.

check_data: whether model and data go together. divergence: stops a fit whose loss runs away. inspect: what can be seen inside a
network. It may import everything else in `supervised`; nothing in `supervised` imports it.
"""

from supervised.fitting.fit import Fit
from supervised.fitting.members import freeze

__all__ = ["Fit", "freeze"]
