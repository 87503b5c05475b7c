"""How many of torch's threads a Q-network computes with in a loop of one's own."""

from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

import rl
from supervised import determinism


class Noting(nn.Module):
    """A linear network that notes how many threads it computes with."""

    seen: ClassVar[set[int]] = set()

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.inside, self.out = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)

    def forward(self, x):
        Noting.seen.add(torch.get_num_threads())
        return self.out(torch.tanh(self.inside(x.flatten(1))))


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("shape", "hidden", "threads"), [((4,), 8, 1), ((4,), 200_000, 3), ((1, 12, 12), 8, 3)])
def test_small_networks_compute_with_one_thread(shape, hidden, threads, three_threads):
    dtype = np.uint8 if len(shape) == 3 else np.float32
    space = gym.spaces.Box(0, 255, shape, dtype)
    inputs = int(np.prod(shape))
    agent = rl.DQN(network=lambda _, outputs: Noting(inputs, outputs, hidden), capacity_steps=10, batch_size=2,
                   learn_after_steps=0).build(space, gym.spaces.Discrete(2), 2)  # fmt: skip
    Noting.seen.clear()
    obs = torch.ones(2, 2, *shape).to(torch.uint8 if dtype == np.uint8 else torch.float32)
    agent.q(obs)
    flat = torch.zeros(2, 2)
    agent.update(rl.Batch(obs, flat.long(), flat, flat + 0.9, obs))
    assert Noting.seen == {threads}
    assert torch.get_num_threads() == 3
    with pytest.raises(ValueError, match="A batch's"):
        agent.update(rl.Batch(obs, flat.long(), flat[:1], flat, obs))
    assert torch.get_num_threads() == 3


def test_threads_nest(three_threads):
    with determinism.threads(1):
        with determinism.threads(2):
            assert torch.get_num_threads() == 2
        with determinism.threads(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
