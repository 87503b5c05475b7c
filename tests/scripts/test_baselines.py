"""What `benchmark.py supervised` times: the peers learn, and the stack's one-by-one baseline is the stack's own step."""

import copy
import importlib.util

import pytest
import torch
from helpers import ROOT

from supervised import CNN, MLP, Stack, losses
from supervised import optimizer as make_optimizer

spec = importlib.util.spec_from_file_location("baselines", ROOT / "scripts" / "benchmarks" / "baselines.py")
baselines = importlib.util.module_from_spec(spec)
spec.loader.exec_module(baselines)


def noise(count=200):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (count, 28, 28), generator=generator, dtype=torch.uint8)
    return x, torch.randint(10, (count,), generator=generator)


@pytest.mark.parametrize("peer", ["data_loader", "plain_mlp", "keras", "lightning"])
def test_an_epoch_of_a_peer(peer, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    if peer in ("keras", "lightning"):
        pytest.importorskip(peer)
    assert getattr(baselines, peer)(*noise())() > 0


def test_the_usual_pictures_are_what_a_model_here_reads():
    x, y = noise(3)
    picture, label = baselines.Pictures(x, y)[1]
    assert torch.equal(picture[0], x[1].float().div(255))
    assert label == int(y[1])


def test_the_usual_loop_of_a_cnn():
    net = CNN((1, 28, 28), 10, (2,))
    before = net.head.weight.clone()
    assert baselines.plain_cnn(net, *noise())() > 0
    assert not torch.equal(before, net.head.weight)


@pytest.mark.parametrize("fused", [False, True])
def test_one_after_another_is_the_same_work(fused):
    stack = Stack(lambda: MLP(4, 2, (8,)), [0, 1, 2])
    nets = copy.deepcopy(stack.modules)
    x, y = torch.randn(3, 5, 4), torch.randint(2, (3, 5))
    optimizer, one_by_one = make_optimizer(stack, "Adam", 1e-3), baselines.one_after_another(nets, x, y, fused)
    for _ in range(5):
        stack.zero_grad()
        losses.per_seed(losses.cross_entropy(stack(x), y)).sum().backward()
        optimizer.step()
        one_by_one()
    for ours, theirs in zip(stack.modules, nets, strict=True):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
