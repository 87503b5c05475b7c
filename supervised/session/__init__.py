"""One call of a training loop, `supervised.fit` or `rl.train`: its folder, lock, checkpoint to resume from and event files.

cadences: when to log and save. progress: the progress bar and Ctrl-C. results: JSON result files. May import the modules at the
root of `supervised`, and none of its other folders.
"""

from supervised.session.cadences import Cadences
from supervised.session.session import FIT, RUN, Session, check_free, folder_of, neighbors, say

__all__ = ["FIT", "RUN", "Cadences", "Session", "check_free", "folder_of", "neighbors", "say"]
