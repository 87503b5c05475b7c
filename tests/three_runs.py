"""Three runs of one agent: two seeds, one of them alone, and the two resumed from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import rl


def whole_alone_and_resumed(description: rl.DQN, folder: Path, alone_too: bool) -> rl.Run:
    """Train on CartPole with seeds 3 and 5; a resumed run, and seed 5 alone, have the same weights to the bit -> the run.

    alone_too: False for recurrent stacks, whose seeds begin to learn together.
    """
    whole, alone = (rl.start("CartPole-v1", description, seeds) for seeds in ([3, 5], [5]))
    for run in (whole, alone):
        run.advance(70)
    whole.save(folder / "run.safetensors")
    resumed = rl.load(folder / "run.safetensors")
    for run in (whole, alone, resumed):
        run.advance(10)
    agents: tuple[Any, ...] = (whole.agent, alone.agent, resumed.agent)
    together, single, again = agents
    assert together.updates > 20
    for name, weight in together.online.weights.items():
        assert torch.equal(weight, again.online.weights[name])
        if alone_too:
            assert torch.equal(weight[1], single.online.weights[name][0]), name
    return whole
