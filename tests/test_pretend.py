"""The pretended GPU is as strict as a real one, counts what it should, and changes no number. With --device cuda: a real one."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pretend import pretend
from torch import nn

MIXED = "same device"
CUDA = torch.device("cuda", 0)


def only_pretended(gpu):
    if not gpu.pretended:
        pytest.skip("counts and numbers of the pretence")


# -- where tensors are -----------------------------------------------------------------------------------------------------


def test_what_is_made_or_moved_says_where_it_is(gpu):
    host = torch.arange(6.0).view(2, 3)
    there = host.to("cuda")
    assert torch.cuda.is_available()
    assert gpu.has(there)
    assert not gpu.has(host)
    for found in (
        *(
            host.cuda(),
            host.to(CUDA),
            host.to(there),
            host.to("cuda", torch.float64),
            host.to(device="cuda", dtype=torch.int64),
        ),
        *(torch.zeros(2, device="cuda"), torch.zeros_like(host, device="cuda"), torch.tensor([1, 2], device="cuda")),
        *(torch.as_tensor(np.ones(2), device="cuda"), torch.as_tensor(host, device="cuda"), torch.empty_like(there)),
        *(
            there + 1,
            there.t(),
            there[0],
            there.sum(),
            there.new_zeros(3),
            there.double(),
            torch.where(there > 1, there, 0.0),
        ),
        *(
            F.one_hot(there.long(), 6),
            torch.rand(3, device="cuda"),
            torch.stack([there, there]),
            there.detach().clone(),
        ),
        *(torch.as_tensor(there), torch.linalg.norm(there), F.softplus(there), there.argmax(-1), copy.deepcopy(there)),
    ):
        assert gpu.has(found)
        assert found.is_cuda
        assert not found.is_cpu
        assert found.device == CUDA
        assert found.get_device() == 0
    for found in (
        *(there.cpu(), there.to("cpu"), there.to(host), torch.zeros_like(there, device="cpu"), torch.ones(2)),
        *(torch.tensor(there.tolist()), torch.as_tensor(there, device="cpu"), there.new_zeros(3, device="cpu")),
    ):
        assert not gpu.has(found)
        assert found.device.type == "cpu"
    assert there.to("cuda") is there
    assert host.to("cpu") is host
    torch.testing.assert_close(there.cpu(), host)
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        host.to(f"cuda:{torch.cuda.device_count()}")


def test_modules_move_and_are_copied_with_their_place(gpu):
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to("cuda")
    twin = copy.deepcopy(module)
    for part in (module, twin):
        assert all(map(gpu.has, [*part.parameters(), *part.buffers()]))
        assert gpu.has(part(torch.ones(5, 3, device="cuda")))
        assert all(map(gpu.has, part.buffers()))  # batch-norm wrote them
    assert not any(map(gpu.has, module.cpu().parameters()))
    assert all(map(gpu.has, twin.parameters()))
    assert gpu.has(nn.Linear(2, 2, device="cuda").weight)


def test_forgotten_storages_leave_no_marks_behind(gpu):
    only_pretended(gpu)
    for _ in range(30_000):
        assert gpu.has(torch.empty(1, device="cuda"))
        assert not gpu.has(torch.empty(1))
    assert len(gpu.storages._known) <= 20_001


# -- where devices mix -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mix",
    [
        lambda h, g: h + g,
        lambda h, g: g * h[0],
        lambda h, g: h @ g,
        lambda h, g: torch.cat([h, g]),
        lambda h, g: torch.stack([g, h]),
        lambda h, g: torch.where(g > 0, g, h),
        lambda h, g: F.linear(g, h),
        lambda h, g: g.gather(1, h.long()),
        lambda h, g: g.index_select(0, h[0].long()),
        lambda h, g: F.embedding(h.long() * 0, g),
        lambda h, g: F.mse_loss(g, h),
        lambda h, g: torch.addmm(g, g, h),
        lambda h, g: F.cross_entropy(g, h.argmax(1)),
        lambda h, g: h.add_(g[0, 0]),
        lambda h, g: h * g.sum(),
        lambda h, g: torch.add(g, g, out=h),
        lambda h, g: F.conv2d(g[None, None], h[None, None]),
        lambda h, g: F.layer_norm(g, (3,), h[0]),
        lambda h, g: g.lerp_(h, 0.5),
        lambda h, g: torch._foreach_add_([g], [h]),
        lambda h, g: g.__setitem__(g > 1, h[0]),
    ],
)
def test_mixing_raises_as_cuda_does(gpu, mix):
    with pytest.raises(RuntimeError, match=f"{MIXED}|on cpu"):
        mix(torch.eye(3), torch.eye(3, device="cuda"))


def test_a_number_of_the_host_may_stand_beside_the_gpu(gpu):
    number, there = torch.tensor(2.0), torch.ones(3, device="cuda")
    for found in (
        number * there,
        there / number,
        torch.where(there > 0, there, number),
        there.masked_fill(there > 0, number),
    ):
        assert gpu.has(found)
    there.mul_(number).fill_(number)
    there[1] = number
    there[there > 9] = 7.0
    assert there.tolist() == [2, 2, 2]
    with pytest.raises(RuntimeError, match=MIXED):
        torch.stack([number, there[0]])


def test_indices_of_the_host_serve_the_gpu_but_not_the_other_way_round(gpu):
    host, index = torch.arange(4.0), torch.tensor([1, 2])
    there = host.cuda()
    gpu.clear()
    assert gpu.has(there[index])
    assert gpu.waits() >= 1
    with pytest.raises(RuntimeError, match="indices should be either on"):
        host[index.cuda()]
    there[index] = torch.zeros(2, device="cuda")
    assert there.tolist() == [0, 0, 0, 3]


def test_backward_passes_are_looked_at_too(gpu):
    class Mixes(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, gradient):
            assert gpu.has(gradient)
            assert gradient.device == CUDA  # asked from Python, within the pass
            return gradient * torch.ones(3)

    there = torch.ones(3, device="cuda", requires_grad=True)
    with pytest.raises(RuntimeError, match=MIXED):
        Mixes.apply(there).sum().backward()
    with pytest.raises(RuntimeError, match=MIXED):
        torch.autograd.grad(Mixes.apply(there).sum(), there)
    with pytest.raises(RuntimeError, match=r"different device|expected device|same device"):
        there.grad = torch.ones(3)


def test_a_gradient_comes_back_to_where_its_tensor_lies(gpu):
    host = torch.arange(3.0, requires_grad=True)
    weight = torch.full((3,), 2.0, device="cuda", requires_grad=True)
    (host.to("cuda") * weight).square().sum().backward()
    assert gpu.has(weight.grad)
    assert not gpu.has(host.grad)
    torch.testing.assert_close(host.grad, torch.tensor([0.0, 8.0, 16.0]))
    torch.testing.assert_close(weight.grad.cpu(), torch.tensor([0.0, 4.0, 16.0]))


@pytest.mark.parametrize("way", [lambda t: t.numpy(), np.asarray, lambda t: t.detach().numpy()])
def test_numpy_wants_the_host(gpu, way):
    with pytest.raises(TypeError, match="can't convert cuda"):
        way(torch.ones(2, device="cuda"))
    assert way(torch.ones(2)).sum() == 2


# -- random numbers ---------------------------------------------------------------------------------------------------------


def test_generators_belong_to_a_device(gpu):
    there, host = torch.Generator("cuda").manual_seed(3), torch.Generator().manual_seed(3)
    assert (there.device.type, host.device.type) == ("cuda", "cpu")
    state = there.get_state()
    assert (state.numel(), state.device.type) == (16, "cpu")
    first = torch.rand(4, generator=there, device="cuda")
    there.set_state(state)
    assert torch.equal(torch.rand(4, generator=there, device="cuda"), first)
    for wrong in (
        lambda: torch.rand(2, generator=there),
        lambda: torch.rand(2, device="cuda", generator=host),
        lambda: torch.zeros(2, device="cuda").uniform_(generator=host),
        lambda: torch.zeros(2).bernoulli_(generator=there),
    ):
        with pytest.raises(RuntimeError, match="device type for generator"):
            wrong()
    with pytest.raises(RuntimeError, match="wrong size"):
        there.set_state(host.get_state())
    with pytest.raises((RuntimeError, TypeError)):
        host.set_state(state)


def test_the_gpu_draws_from_its_own_stream(gpu):
    torch.manual_seed(5)
    host = torch.get_rng_state()
    state = torch.cuda.get_rng_state()
    first = F.dropout(torch.ones(50, device="cuda")), torch.rand(3, device="cuda"), torch.randn(3, device="cuda")
    assert torch.equal(torch.get_rng_state(), host)
    torch.cuda.set_rng_state(state)
    torch.rand(7)
    again = F.dropout(torch.ones(50, device="cuda")), torch.rand(3, device="cuda"), torch.randn(3, device="cuda")
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(first[1], torch.rand(3, device="cuda"))


# -- what is counted --------------------------------------------------------------------------------------------------------


def waits_of(gpu, action):
    gpu.clear()
    action()
    return gpu.waits()


def test_waits_are_counted(gpu):
    there = torch.arange(6.0, device="cuda")
    mask = there > 2
    for waiting in (
        *(there.cpu, there.tolist, lambda: there[mask], lambda: float(there[0]), mask.nonzero, lambda: bool(mask[0])),
        *(
            lambda: torch.equal(there, there),
            lambda: there.masked_select(mask),
            lambda: there.unique(),
            there.sum().item,
        ),
        *(lambda: torch.ones(2).cuda(), lambda: there.copy_(torch.zeros(6)), lambda: torch.zeros(6).copy_(there)),
        *(lambda: torch.tensor([1.0, 2.0], device="cuda"), lambda: there.index_put_((mask,), there[:1])),
    ):
        assert waits_of(gpu, waiting) >= 1
    for free in (
        *(lambda: there * 2, lambda: there.view(2, 3).t(), lambda: there.masked_fill(mask, 0.0), lambda: there.sum()),
        *(
            lambda: torch.zeros(3, device="cuda"),
            lambda: there[2:4],
            lambda: torch.where(mask, there, 0.0),
            there.clone,
        ),
        *(lambda: there.__setitem__(mask, 0.0), lambda: torch.ones(2).to("cuda", non_blocking=True)),
        *(
            lambda: F.one_hot(there.long(), 6),
            lambda: there.__setitem__(slice(1, 3), 5.0),
            lambda: there.copy_(there + 1),
        ),
    ):
        assert waits_of(gpu, free) == 0, gpu.table()


def test_each_kind_is_counted_by_the_line_that_asks(gpu):
    only_pretended(gpu)
    host = torch.ones(3)
    there = host.cuda()
    assert gpu.totals() == {"copy to gpu, waits": 1}
    gpu.clear()
    there = host.to("cuda", non_blocking=True)
    there.view(3, 1)
    (there * 2 + 1).cpu()
    host.pin_memory().to("cuda", non_blocking=True)
    torch.cuda.synchronize()
    there.to("cpu", non_blocking=True)
    assert dict(gpu.totals()) == {
        "copy to gpu, pageable": 1,
        "launch": 2,
        "copy to host, waits": 1,
        "copy to gpu, pinned": 1,
        "waits": 1,
        "copy to host, pinned": 1,
    }
    assert gpu.totals()["no such kind"] == 0
    assert gpu.waits() == 2
    assert "tests/test_pretend.py:" in gpu.table("launch")
    assert len(gpu.table("launch").splitlines()) == 2


def test_pinned_memory(gpu):
    host = torch.arange(3.0).pin_memory()
    assert host.is_pinned()
    assert not gpu.has(host)
    assert torch.zeros(2, pin_memory=True).is_pinned()
    assert not torch.zeros(2).is_pinned()
    assert waits_of(gpu, lambda: torch.zeros(3, device="cuda").copy_(host, non_blocking=True)) == 0
    with pytest.raises(RuntimeError, match="cannot pin"):
        host.cuda().pin_memory()


# -- numbers ----------------------------------------------------------------------------------------------------------------


def learned(device, name, found_inf=False, **options):
    """The weights after five steps of an optimizer of torch."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    x, y = torch.randn(16, 4), torch.randn(16, 2)
    module = module.to(device)
    optimizer = getattr(torch.optim, name)(module.parameters(), lr=1e-2, **options)
    if found_inf:
        optimizer.found_inf = torch.ones((), device=device)
    for _ in range(5):
        optimizer.zero_grad()
        F.mse_loss(module(x.to(device)), y.to(device)).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    return torch.cat([weight.detach().cpu().flatten() for weight in module.parameters()])


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad"])
def test_fused_optimizers_run_and_heed_found_inf(gpu, name):
    torch.testing.assert_close(learned("cuda", name, fused=True), learned("cpu", name, fused=True), **gpu.tolerance)
    still = learned("cuda", name, found_inf=True, fused=True)
    assert torch.equal(still, learned("cpu", name, found_inf=True, fused=True))
    assert not torch.equal(still, learned("cpu", name, fused=True))


@pytest.mark.parametrize("name", ["Adam", "RMSprop", "RAdam", "NAdam", "Adamax", "Adadelta", "Rprop", "ASGD"])
def test_optimizers_that_are_not_fused_run_too(gpu, name):
    torch.testing.assert_close(learned("cuda", name), learned("cpu", name), rtol=1e-4, atol=1e-5)


def test_networks_compute_the_cpus_numbers(gpu):
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 12),
        nn.LayerNorm(12),
    )
    other, lstm, x = copy.deepcopy(module).to("cuda"), nn.LSTM(3, 5), torch.randn(3, 2, 8, 8)
    for net, there in ((module, x), (other, x.to("cuda"))):
        F.cross_entropy(net(there), torch.arange(3, device=there.device)).backward()
    for mine, theirs in zip(module.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad.cpu(), **gpu.tolerance)
    sequence = torch.randn(4, 2, 3)
    expected = lstm(sequence)[0].detach()
    torch.testing.assert_close(lstm.to("cuda")(sequence.cuda())[0].detach().cpu(), expected, **gpu.tolerance)


def test_autocast_computes_in_bf16(gpu):
    a = torch.ones(4, 4, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        assert torch.is_autocast_enabled("cuda")
        assert (a @ a).dtype == torch.bfloat16
    assert not torch.is_autocast_enabled("cuda")


# -- begin and end ----------------------------------------------------------------------------------------------------------


def test_events_and_streams(gpu):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.ones(3, device="cuda")
    end.record()
    end.synchronize()
    assert begin.elapsed_time(end) >= 0
    free, total = torch.cuda.mem_get_info()
    assert 0 < free <= total


def test_the_pretence_ends_and_its_memory_is_of_the_size_asked_for():
    before = torch.cuda.is_available(), torch.Generator, torch.optim.Adam
    with pretend(memory=1000) as gpu:
        assert torch.cuda.mem_get_info() == (1000, 1000)
        there = torch.ones(2, device="cuda")
        assert gpu.has(there)
    assert (torch.cuda.is_available(), torch.Generator, torch.optim.Adam) == before
    assert there.device.type == "cpu"
    with pretend() as other:
        assert not other.has(there)


def test_a_state_of_another_process_is_told_of():
    with pretend(), pytest.raises(RuntimeError, match="of another process"):
        torch.Generator("cuda").set_state(torch.zeros(16, dtype=torch.uint8))
