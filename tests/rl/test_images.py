"""Which boxes are images, which axis holds their channels, how numbers are scaled, and a network for every size."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from daily import daily

import rl
from rl import networks
from rl.core.observations import parts_of

Box = gym.spaces.Box


def part(space, channels="auto"):
    (found,) = parts_of(space, channels=channels)
    return found


SIDES = range(4, 129)
NEAR = (*range(4, 24), *range(24, 129, 26))  # the sides near the numbers of channels, and a few beyond


@pytest.mark.parametrize("sides", daily((SIDES, NEAR), (NEAR,)), ids=["all", "near"])
@pytest.mark.parametrize("kind", [np.uint8, np.bool_, np.float32, np.float64, np.int8, np.int64])
def test_squares_of_every_size_and_number_of_channels_in_both_orders(kind, sides):
    for side in sides:
        for planes in range(1, 21):
            last = part(Box(0, 1, (side, side, planes), kind))
            assert (last.kind, last.features, last.channels_last) == ("image", (planes, side, side), True)
            if planes != side:
                first = part(Box(0, 1, (planes, side, side), kind))
                assert (first.kind, first.features, first.channels_last) == ("image", (planes, side, side), False)


@pytest.mark.parametrize(
    ("shape", "channels", "features"),
    [
        ((84, 84, 3), "auto", (3, 84, 84)),
        ((4, 84, 84), "auto", (4, 84, 84)),
        ((4, 84, 84, 3), "auto", (12, 84, 84)),
        ((4, 3, 84, 84), "auto", (12, 84, 84)),
        ((2, 7, 7, 20), "auto", (40, 7, 7)),
        ((210, 160, 3), "auto", (3, 210, 160)),
        ((3, 210, 160), "auto", (3, 210, 160)),
        ((10, 10, 10), "auto", (10, 10, 10)),
        ((10, 10, 10), "first", (10, 10, 10)),
        ((6, 7, 12), "auto", (6, 7, 12)),  # nothing says that the board is 6 x 7
        ((6, 7, 12), "last", (12, 6, 7)),
        ((7, 7, 20), "first", (7, 7, 20)),
        ((2, 2, 3), "last", (3, 2, 2)),
        ((84, 84), "last", (1, 84, 84)),
    ],
)
def test_which_axis_holds_the_channels(shape, channels, features):
    found = part(Box(0, 255, shape, np.uint8), channels)
    assert (found.kind, found.features) == ("image", features)
    pixels = np.arange(np.prod(shape)).reshape(shape)
    expected = np.moveaxis(pixels, -1, -3) if found.channels_last else pixels
    arrived = found.encode(torch.from_numpy(pixels)[None]) * found.scale
    np.testing.assert_allclose(arrived[0].numpy(), expected.reshape(features), rtol=1e-6)


@pytest.mark.parametrize(
    ("space", "kind"),
    [
        (Box(0, 255, (2, 2, 3), np.uint8), "vector"),
        (Box(0, 255, (1, 1, 3), np.uint8), "vector"),
        (Box(0, 255, (3, 3, 20), np.uint8), "vector"),
        (Box(0, 1, (128,), np.uint8), "vector"),
        (Box(-1, 1, (4, 8)), "vector"),  # stacked vectors
        (Box(0, 255, (28, 28), np.uint8), "image"),
        (Box(-np.inf, np.inf, (8, 8, 3)), "image"),  # what NormalizeObservation makes of an image
    ],
)
def test_what_is_no_image(space, kind):
    assert part(space).kind == kind


@pytest.mark.parametrize(
    ("space", "given", "expected"),
    [
        (Box(0, 255, (4, 4), np.uint8), 255, 1.0),
        (Box(0, 1, (4, 4), np.uint8), 1, 1.0),
        (Box(0, 8, (3,), np.uint8), 2, 0.25),
        (Box(0, 0, (3,), np.uint8), 0, 0.0),
        (Box(0, 1, (4, 4, 3), np.bool_), True, 1.0),
        (Box(0, 255, (4, 4, 3), np.float32), 51.0, 0.2),
        (Box(-1, 1, (4, 4, 3), np.float32), -1.0, -1.0),
        (Box(-10, 5, (4, 4, 3), np.float64), 5.0, 0.5),
        (Box(-np.inf, np.inf, (4, 4, 3)), 300.0, 300.0),
        (Box(0, 255, (4, 4, 3), np.int64), 255, 1.0),
        (Box(-(2**63), 2**63 - 1, (4, 4, 3), np.int64), 7, 7.0),
        (Box(-5, 5, (3,), np.float32), 4.0, 4.0),  # vectors of real numbers stay as they are
        (Box(-5, 5, (3,), np.int16), 4, 4.0),
    ],
)
def test_bytes_and_pixels_are_scaled_by_their_bounds(space, given, expected):
    found = part(space).encode(torch.from_numpy(np.full(space.shape, given, space.dtype))[None])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_bounds_of_each_number_and_bounds_in_part():
    low, high = np.zeros(3), np.array([1, 255, 8])
    found = part(Box(low, high, dtype=np.uint8))
    np.testing.assert_allclose(found.encode(torch.from_numpy(high.astype(np.uint8))[None]).numpy(), [[1, 1, 1]])
    high = np.full((4, 4, 3), np.inf)
    high[..., 0] = 10
    found = part(Box(0, high, dtype=np.float32))
    answer = found.encode(torch.full((1, 4, 4, 3), 5.0))
    assert answer[0, :, 0, 0].tolist() == [0.5, 5.0, 5.0]


def test_a_network_for_every_size():
    """Strided convolutions round down; the network of 2015 from 36 pixels on, as it was."""
    sizes = [(n, n) for n in range(1, 129)] + [(210, 160), (400, 600), (96, 72), (36, 200), (1, 50), (3, 7), (35, 100)]
    with torch.device("meta"):
        for height, width in sizes:
            space = Box(0, 255, (height, width, 3), np.uint8)
            for channels in ("auto", "last"):
                model = networks.make("auto", space, 4, channels)
                assert model(torch.empty(2, *part(space, channels).features)).shape == (2, 4)
    for n in (42, 50, 96):
        model = networks.make("auto", Box(0, 255, (n, n, 3), np.uint8), 4)
        assert [layer.out_channels for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)] == [32, 64, 64]
        assert model(torch.zeros(2, 3, n, n)).shape == (2, 4)


class Board(gym.Env):
    """A board of planes, numbered by the episode and step, of any type."""

    def __init__(self, shape=(5, 5, 7), kind=np.float32):
        self.observation_space, self.action_space = Box(0, 1, shape, kind), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}

    def look(self):
        return np.full(self.observation_space.shape, (self.t % 2), self.observation_space.dtype)

    def step(self, action):
        self.t += 1
        return self.look(), 1.0, self.t >= 5, False, {}


def frames():
    return gym.wrappers.FrameStackObservation(Board((6, 6)), 3)


@pytest.mark.parametrize("make", [Board, frames, lambda: Board((5, 5, 7), np.uint8)], ids=["floats", "frames", "bytes"])
def test_agents_learn_from_images_of_floats(make, tmp_path):
    agent = rl.DQN(learn_after_steps=10, batch_size=4, capacity_steps=50)
    run = rl.train(make, agent, steps=30, seeds=2, progress=False)
    assert run.agent.parts[0].kind == "image"
    assert any(isinstance(layer, torch.nn.Conv2d) for layer in run.agent.online.modules[0].modules())
    policy = run.policy()
    policy.save(tmp_path / "policy")
    obs = make().reset()[0]
    np.testing.assert_array_equal(rl.load_policy(tmp_path / "policy").q(obs), policy.q(obs))


def test_the_setting_reaches_network_and_policy(tmp_path):
    agent = rl.DQN(channels="first", learn_after_steps=10, batch_size=4)
    run = rl.train(Board, agent, steps=20, progress=False)
    assert run.agent.parts[0].features == (5, 5, 7)
    run.policy().save(tmp_path / "policy")
    assert rl.load_policy(tmp_path / "policy").agent.parts[0].features == (5, 5, 7)
    with pytest.raises(ValueError, match="There is no channels 'middle'"):
        rl.DQN(channels="middle")
