"""Damage of whole checkpoints: a table, and a network with a replay. 0 of it may pass."""

import random

import flips
import pytest

import rl
from supervised import checkpoint

pytestmark = pytest.mark.full
KINDS = {
    "table": ("Taxi-v4", rl.QLearning(), 20_000),
    "network": ("CartPole-v1", rl.DQN(network="mlp(16)", prioritized=True, n_step=3, learn_after_steps=500), 1_500),
}


@pytest.fixture(scope="module", params=KINDS)
def path(request, tmp_path_factory):
    env, agent, steps = KINDS[request.param]
    run = rl.start(env, agent, 3, steps=steps)
    run.advance(steps)
    path = tmp_path_factory.mktemp(request.param) / "run.safetensors"
    run.save(path)
    return path


def test_no_flip_of_2000_is_accepted(path):
    whole, rng = path.read_bytes(), random.Random(path.parent.name)
    assert flips.accepted(path, [whole]) == [0]
    bits = [rng.randrange(8 * len(whole)) for _ in range(2_000)]
    assert flips.accepted(path, flips.flipped(whole, bits)) == []


def test_no_flip_of_the_header_is_accepted(path):
    whole, rng = path.read_bytes(), random.Random(path.parent.name)
    size = 8 + int.from_bytes(whole[:8], "little")
    bits = range(8 * size) if size < 4_000 else [*range(1_000), *(rng.randrange(8 * size) for _ in range(4_000))]
    assert flips.accepted(path, flips.flipped(whole, [*bits, *flips.marks(whole)])) == []


def test_no_cut_is_accepted(path):
    whole, rng = path.read_bytes(), random.Random(path.parent.name)
    cuts = [rng.randrange(len(whole)) for _ in range(300)]
    assert flips.accepted(path, (whole[:cut] for cut in cuts)) == []
    assert flips.accepted(path, [whole + b"\0", whole + whole]) == []


def test_no_exchange_is_accepted(path):
    exchanged = list(flips.swapped(path.read_bytes()))
    assert len(exchanged) > 10
    assert flips.accepted(path, exchanged) == []


def test_the_run_says_so_and_names_the_one_before(path):
    whole, rng = path.read_bytes(), random.Random(path.parent.name)
    checkpoint.previous(path).write_bytes(whole)
    try:
        for content in flips.flipped(whole, [rng.randrange(8 * len(whole)) for _ in range(50)]):
            path.write_bytes(content)
            with pytest.raises(rl.CheckpointError, match=r"The previous one is intact: .*run\.safetensors\.previous"):
                rl.load(path)
    finally:
        path.write_bytes(whole)
