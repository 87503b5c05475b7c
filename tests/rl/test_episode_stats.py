"""Episode statistics of both forms, on the same steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from envs.vector import Step, tensors
from rl.core.batched_stats import BatchedEpisodeStats
from rl.core.episode_stats import EpisodeStats
from rl.core.timing import WINDOW


def steps(rng, n, envs, actions, count, resets):
    """Random steps in arrays, with q [N, E, A]; and a third of the episodes end at each step."""
    for _ in range(count):
        shape = n, envs
        reward = (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4)).astype(np.float32)
        terminated, truncated = rng.random(shape) < 0.2, rng.random(shape) < 0.2
        valid = rng.random(shape) < 0.7 if resets else None
        q = rng.standard_normal((*shape, actions)).astype(np.float32)
        q[..., 1:][rng.random((*shape, actions - 1)) < 0.3] = -np.inf
        discount = rng.random(shape) if resets else None
        yield Step(reward, terminated, truncated, None, None, valid=valid, discount=discount), q


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("n", "envs", "resets"), [(1, 1, False), (3, 5, True), (2, 3 * WINDOW, True)])
def test_the_batched_form_counts_as_the_scalar_one_to_the_bit(gpu, device, n, envs, resets):
    rng = np.random.default_rng(envs)
    scalar, batched = EpisodeStats(n, envs, 0.9), BatchedEpisodeStats(n, envs, 0.9, device)
    for step, q in steps(rng, n, envs, 4, 150, resets):
        scalar.add(step, q)
        batched.add(Step(*(part if part is None else part.to(device) for part in tensors(step))), tensors(q).to(device))
        found = batched.episodes()
        for name, array in scalar.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
    assert scalar.arrays["ended"].min() > WINDOW / 3
    for mine, theirs in zip(scalar.means().values(), found.means().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_adding_a_step_does_not_wait_for_the_device(gpu):
    batched = BatchedEpisodeStats(3, 5, 0.9, "cuda")
    made = [
        (Step(*(part if part is None else part.to("cuda") for part in tensors(step))), tensors(q).to("cuda"))
        for step, q in steps(np.random.default_rng(0), 3, 5, 4, 10, True)
    ]
    gpu.clear()
    for step, q in made:
        batched.add(step, q)
    assert gpu.waits() == 0
