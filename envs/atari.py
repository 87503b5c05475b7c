"""Atari games as DQN sees them: importing this registers `Atari/Breakout-v5` and its like.

Four frames of 84 x 84 grey pixels, each the brighter of the last two of four (Mnih et al. 2015, methods), up to 30 steps of
nothing at an episode's start, and the sticky actions of Machado et al. 2018. Deviations: an episode ends with the game, not
with a life, and rewards come as they are, not clipped to -1..1.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

NAMESPACE = "Atari"


def play(game: str) -> gym.Env[Any, Any]:
    """A game of the Arcade Learning Environment ("Breakout-v5"), wrapped as above: observations uint8 [4, 84, 84]."""
    screen = gym.make(f"ALE/{game}", frameskip=1)
    return FrameStackObservation(AtariPreprocessing(screen, noop_max=30, frame_skip=4, screen_size=84), 4)


def register() -> None:
    """Enter every game into Gymnasium's registry. Raises ImportError, with what to install, where ale-py or OpenCV lack."""
    try:
        import ale_py
        import cv2  # noqa: F401  (the wrapper needs it, and says so much later)
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
