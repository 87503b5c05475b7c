"""Pictures of what a run has learned, as TensorBoard shows them."""

import numpy as np
import pytest
from told import NoisyWalk

import rl
from rl.report import pictures

KINDS = {
    "lake": ("FrozenLake-v1", rl.QLearning(), {"policy", "q_values", "visits"}),
    "function": (NoisyWalk, rl.QLearning(), {"q_values"}),
    "tiles": ("MountainCar-v0", rl.LinearSARSA(), {"max_q", "policy"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_panel_is_drawn_of_the_seed_and_changes_with_what_it_learns(kind, drawn):
    env, agent, names = KINDS[kind]
    run = rl.start(env, agent, [3, 8], steps=2_000)
    run.advance(50)
    before = pictures.pixels(run, 1)
    run.advance(1_000)
    after, other = pictures.pixels(run, 1), pictures.pixels(run, 0)
    assert before.keys() == after.keys() == other.keys() == names
    for name, picture in after.items():
        assert (picture.shape, picture.dtype) == ((400, 400, 3), np.uint8)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20, name
        below = slice(80, None)  # the title, which names seed and step
        assert not np.array_equal(picture[below], before[name][below]), name
        assert not np.array_equal(picture[below], other[name][below]), name
