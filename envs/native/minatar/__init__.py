"""MinAtar's Breakout and Asterix in arrays (Young and Tian 2019, "MinAtar: An Atari-Inspired Testbed for Thorough and
Reproducible Reinforcement Learning Experiments").

Written from scratch from the rules of the games (version 1.0.15), not from the code of the original, which is under the GPL.
Given the same random choices, every observation, reward and termination equals the original's; `tests/envs/test_minatar.py`
compares them.
"""

from envs.native.minatar.asterix import Asterix
from envs.native.minatar.breakout import Breakout

__all__ = ["Asterix", "Breakout"]
