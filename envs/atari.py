"""Atari games preprocessed as for DQN: importing this module registers `Atari/Breakout-v5` and the other games.

Four stacked grayscale frames of 84 x 84, frame skip 4 with a maximum over the last two frames (Mnih et al. 2015, methods), up
to 30 no-op steps at the start of an episode, and the sticky actions of Machado et al. 2018. Deviations: episodes end when the
game is over, not when a life is lost, and rewards are not clipped to [-1, 1].
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

NAMESPACE = "Atari"


def play(game: str) -> gym.Env[Any, Any]:
    """Create a game of the Arcade Learning Environment ("Breakout-v5"), preprocessed as above: observations uint8 [4, 84, 84]."""
    screen = gym.make(f"ALE/{game}", frameskip=1)
    return FrameStackObservation(AtariPreprocessing(screen, noop_max=30, frame_skip=4, screen_size=84), 4)


def register() -> None:
    """Register every game with Gymnasium. Raises ImportError, with what to install, if ale-py or OpenCV is missing."""
    try:
        import ale_py
        import cv2  # noqa: F401  (the wrapper needs it, but would fail much later)
    except ImportError as error:
        raise ImportError(
            f"Atari games need ale-py and OpenCV, and {error.name} is missing: pip install '.[atari]'."
        ) from error
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner for each environment
    gym.register_envs(ale_py)
    for spec in list(gym.registry.values()):
        if spec.namespace == "ALE" and spec.version == 5:
            game = f"{spec.name}-v{spec.version}"
            gym.register(f"{NAMESPACE}/{game}", "envs.atari:play", kwargs={"game": game}, disable_env_checker=True)


register()
