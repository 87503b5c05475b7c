"""Q-networks on a GPU: the CPU's numbers, no wait where none is needed, and nothing learned from a NaN."""

from __future__ import annotations

import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch

import rl
from rl.deep.agent import NotFinite
from rl.deep.moving import together
from supervised import CNN, MLP, Stack, clip_per_seed, determinism
from supervised.stack.guard import DeviceGuard, Guard
from supervised.stack.optimizers import FUSED, OPTIMIZERS

VECTORS, PICTURES = gym.spaces.Box(-1, 1, (4,), np.float32), gym.spaces.Box(0, 255, (12, 12, 1), np.uint8)
BOTH = gym.spaces.Dict({"at": VECTORS, "seen": PICTURES})
SMALL = {"learn_after_steps": 20, "batch_size": 8, "capacity_steps": 200, "target_every_updates": 7}
EVERYTHING = {"double": True, "dueling": True, "n_step": 3, "prioritized": True}


@pytest.fixture(autouse=True)
def one_thread():
    with determinism.threads(1):
        yield


def obs_of(space, shape, generator):
    if isinstance(space, gym.spaces.Dict):
        return {name: obs_of(part, shape, generator) for name, part in space.items()}
    if space.dtype == np.uint8:
        return torch.randint(256, (*shape, *space.shape), generator=generator, dtype=torch.uint8)
    return torch.rand(*shape, *space.shape, generator=generator) * 2 - 1


def batches(n=1, space=VECTORS, b=16):
    """Random batches without end, the same each time, for two actions."""
    g = torch.Generator().manual_seed(0)
    while True:
        action, reward = torch.randint(2, (n, b), generator=g), torch.randn(n, b, generator=g)
        yield rl.Batch(obs_of(space, (n, b), g), action, reward, torch.full((n, b), 0.99), obs_of(space, (n, b), g))


def agent_of(device, n=1, space=VECTORS, **options):
    options = {"network": "mlp(16,16)" if space is VECTORS else "auto", "compiled": False, **options}
    return rl.DQN(**options).build(space, gym.spaces.Discrete(2), n, device)


def learn(agent, some, measured=False):
    for batch in some:
        agent.update(batch, measured)
    return agent


def assert_same(gpu, mine, theirs, fused=True):
    """Two trees of arrays (states) are the same, but for the states of generators, which belong to a device.

    Optimizers that are not fused compute by other kernels there.
    """
    assert type(mine) is type(theirs)
    if isinstance(mine, dict):
        assert mine.keys() == theirs.keys()
        for key in mine.keys() - {"streams"}:
            assert_same(gpu, mine[key], theirs[key], fused)
    elif isinstance(mine, list):
        for one, other in zip(mine, theirs, strict=True):
            assert_same(gpu, one, other, fused)
    elif isinstance(mine, np.ndarray) and mine.dtype.kind == "f":
        tolerance = gpu.tolerance if fused else {"rtol": 1e-3, "atol": 1e-5}
        torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs), equal_nan=True, **tolerance)
    elif isinstance(mine, np.ndarray):
        assert np.array_equal(mine, theirs)


# -- the CPU's numbers ------------------------------------------------------------------------------------------------------


class Corridor(gym.Env):
    """Left or right over five columns, told by a picture of 12 x 12 or as one number; the last pays."""

    def __init__(self, pictures=True, masks=False):
        self.pictures, self.masks = pictures, masks
        self.observation_space = PICTURES if pictures else gym.spaces.Box(0, 4, (1,), np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def seen(self):
        if not self.pictures:
            return np.full(1, self.at, np.float32)
        picture = np.zeros((12, 12, 1), np.uint8)
        picture[:, 2 * self.at : 2 * self.at + 3] = 200
        return picture

    def told(self):
        return {"action_mask": np.array([self.at > 0, True], np.int8)} if self.masks else {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.t = int(self.np_random.integers(3)), 0
        return self.seen(), self.told()

    def step(self, action):
        self.at, self.t = max(self.at + 2 * int(action) - 1, 0), self.t + 1
        return self.seen(), float(self.at == 4), self.at == 4, self.t == 20, self.told()


@pytest.mark.parametrize(
    ("env", "n", "options"),
    [
        (lambda: Corridor(False), 2, {"update_every_steps": 2}),
        (lambda: Corridor(False, True), 2, {**EVERYTHING, "update_every_steps": 2}),
        (lambda: Corridor(False), 1, {"normalize_observations": True, "reward_scale": 0.5, "target_rate": 0.25}),
        (lambda: Corridor(False), 1, {"mask": lambda x: torch.cat([x > 0, x >= 0], -1), "update_every_steps": 2}),
        (Corridor, 1, {"target_rate": 0.5, "update_every_steps": 3}),
        (lambda: Corridor(True, True), 2, {**EVERYTHING, "update_every_steps": 3}),
    ],
)
def test_training_gives_the_cpus_numbers(gpu, env, n, options):
    found, steps = [], 110
    for device in ("cpu", "cuda"):
        config = rl.DQN(**{**SMALL, "network": "auto", "compiled": False, **options})
        run = rl.start(env, config, n, steps=steps, device=device)
        metrics = run.advance(steps)
        found.append((run.agent.state_dict(), metrics))
        assert run.agent.updates > 25
    if gpu.pretended:  # beyond rounding, another action may be taken on another machine
        assert_same(gpu, found[0][0], found[1][0])
        for name, value in found[0][1].items():
            torch.testing.assert_close(found[1][1][name], value, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("space", [VECTORS, PICTURES, BOTH])
def test_updates_give_the_cpus_numbers(gpu, space):
    states = [
        learn(agent_of(device, 2, space, target_every_updates=3), itertools.islice(batches(2, space), 12)).state_dict()
        for device in ("cpu", "cuda")
    ]
    for part in ("online", "target"):
        assert_same(gpu, states[0][part], states[1][part])


# -- NaN ----------------------------------------------------------------------------------------------------------------------


def poisoned(batch, k):
    reward = batch.reward.clone()
    reward[k, 3] = torch.nan
    return batch._replace(reward=reward)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_nan_changes_nothing_and_is_named_at_the_next_look(gpu, name):
    """Seed 6's NaN in the fourth of eight updates: the eighth is measured. The CPU tells of it at once."""
    some = list(itertools.islice(batches(2), 10))
    some[3] = poisoned(some[3], 1)
    options = {"optimizer": name, "target_every_updates": 3, "target_rate": 0.5}
    host, there = agent_of("cpu", [3, 6], **options), agent_of("cuda", [3, 6], **options)
    learn(host, some[:3])
    with pytest.raises(
        NotFinite, match=r"Seed 6: the reward, and so the gradient, of update 4 .*unchanged since before this update\.$"
    ):
        host.update(some[3], False)
    looks_each_time = type(there.guard) is Guard

    def go_on():
        learn(there, some[:7])
        assert not looks_each_time
        assert torch.isfinite(there.q(some[0].obs)).all()
        there.update(some[7])

    with pytest.raises(NotFinite, match=r"Seed 6: the reward, and so the gradient, of update 4 ") as caught:
        go_on()
    assert ("The 4 updates after it changed nothing." in str(caught.value)) is not looks_each_time
    assert caught.value.batch is some[3]
    assert there.updates == host.updates == 3
    for agent in (host, there):
        learn(agent, some[8:])  # goes on
    assert there.updates == 5
    assert_same(gpu, host.state_dict(), there.state_dict(), name in FUSED)


def test_fused_optimizers_do_not_wait(gpu):
    found = {name: type(agent_of("cuda", optimizer=name).guard) for name in OPTIMIZERS}
    assert {name for name, kind in found.items() if kind is DeviceGuard} >= {"SGD", "Adam", "AdamW"}
    assert found["RMSprop"] is Guard
    assert type(agent_of("cpu").guard) is Guard


@pytest.mark.parametrize("look", ["raise_if_not_finite", "state_dict"])
def test_who_looks_is_told_once(gpu, look):
    agent, some = agent_of("cuda"), list(itertools.islice(batches(), 3))
    learn(agent, [some[0], poisoned(some[1], 0)])
    with pytest.raises(NotFinite, match=r"of update 2 .*unchanged since before this update\.$"):
        getattr(agent, look)()
    agent.raise_if_not_finite()
    assert agent.state_dict()["updates"].tolist() == [1]


def test_many_unmeasured_updates_are_looked_at_by_themselves(gpu):
    agent, some = agent_of("cuda"), batches()
    agent.update(poisoned(next(some), 0), False)
    with pytest.raises(NotFinite, match=r"of update 1 .*The 15 updates after it"):
        learn(agent, itertools.islice(some, DeviceGuard.MOST_UNSEEN))
    assert agent.updates == 0


def test_a_nan_that_was_left_out_is_forgotten_with_the_weights(gpu):
    agent, some = agent_of("cuda"), list(itertools.islice(batches(), 3))
    saved = learn(agent, some[:1]).state_dict()
    agent.update(poisoned(some[1], 0), False)
    agent.load_state_dict(saved)
    before = agent.online.flat.detach().clone()
    agent.update(some[2])
    assert not torch.equal(agent.online.flat.detach(), before)


@pytest.mark.parametrize("prioritized", [False, True])
def test_a_run_goes_on_after_a_nan_as_it_does_from_a_file(gpu, prioritized, tmp_path):
    agent = rl.DQN(**SMALL, compiled=False, prioritized=prioritized, priority_exponent=0.5 * prioritized)
    run = rl.start(lambda: Corridor(False), agent, 2, steps=200, device="cuda")
    run.advance(43)
    whole = run.loop.replay.reward.copy()
    run.loop.replay.reward[:] = np.nan
    weights = run.agent.online.flat.detach().cpu().clone()
    with pytest.raises(NotFinite, match=r"At environment step .*: Seed 0: the reward, .* of update 25 "):
        run.advance(30)
    assert torch.equal(run.agent.online.flat.detach().cpu(), weights)
    assert np.isfinite(run.loop.replay.total).all()
    run.loop.replay.reward[:] = np.where(np.isfinite(run.loop.replay.reward), run.loop.replay.reward, whole)
    run.save(tmp_path / "run.safetensors")
    other = rl.load(tmp_path / "run.safetensors", lambda: Corridor(False), device="cuda")
    for one in (run, other):
        one.advance(30)
    assert run.agent.updates > 40
    assert_same(gpu, run.state(), other.state())


# -- where things are ---------------------------------------------------------------------------------------------------------


TABLE = torch.tensor([[True, True], [False, True], [True, False], [True, True], [True, True]])


@pytest.mark.parametrize(
    "mask",
    [
        lambda s: TABLE[s],
        lambda s: torch.from_numpy(TABLE.numpy()[s.numpy()]),
        lambda s: torch.stack([s != 1, s != 2], -1),
    ],
)
def test_a_mask_function_sees_the_host(gpu, mask):
    agent = rl.DQN(mask=mask, compiled=False).build(gym.spaces.Discrete(5), gym.spaces.Discrete(2), 2, "cuda")
    states = torch.arange(5).expand(2, 5)
    batch = rl.Batch(
        states, torch.ones(2, 5, dtype=torch.int64), torch.zeros(2, 5), torch.ones(2, 5), states.flip(1).contiguous()
    )
    assert torch.equal(agent.allowed(states, None), TABLE.expand(2, 5, 2))
    target = agent.target.weights
    with torch.no_grad():
        for weight in target.values():
            weight.zero_()
        target["head.bias"][:, 1] = 9.0  # which state 2 cannot reach
    error = agent.update(batch).td_error.cpu() + agent_of_same(agent, batch)
    assert error[0].tolist() == pytest.approx([9.0, 9.0, 0.0, 9.0, 9.0])


def agent_of_same(agent, batch):
    """What the agent said of the actions in a batch before its only update: the same seeds' first weights."""
    fresh = rl.DQN(mask=agent.config.mask, compiled=False)
    fresh = fresh.build(gym.spaces.Discrete(5), gym.spaces.Discrete(2), 2, "cpu")
    return fresh.q(batch.obs).gather(-1, batch.action[..., None]).squeeze(-1)


def test_an_algorithm_of_ones_own_may_ask_what_is_allowed(gpu):
    agent = rl.DQN(mask=lambda s: TABLE[s]).build(gym.spaces.Discrete(5), gym.spaces.Discrete(2), 1, "cuda")
    states = torch.arange(5, device="cuda")[None]
    own = torch.ones(1, 5, 2, dtype=torch.bool, device="cuda")
    own[0, 3, 0] = False
    found = agent.allowed(states, own)
    assert gpu.has(found)
    assert torch.equal(found.cpu()[0], TABLE & torch.tensor([[True] * 2] * 3 + [[False, True]] + [[True] * 2]))


@pytest.mark.parametrize("wrong", [-1, 2])
def test_actions_that_do_not_exist_are_found_on_the_host(gpu, wrong):
    agent, batch = agent_of("cuda"), next(batches())
    batch.action[0, 5] = wrong
    gpu.clear()
    with pytest.raises(ValueError, match="Actions must be whole numbers from 0 to 1; the batch has others"):
        agent.update(batch)
    if gpu.pretended:
        assert not gpu.totals()  # nothing was sent


def test_a_batch_may_lie_on_the_gpu_already(gpu):
    host, there = agent_of("cpu"), agent_of("cuda")
    for batch in itertools.islice(batches(), 3):
        moved = rl.Batch(*(part if part is None else part.to("cuda") for part in batch))
        errors = host.update(batch).td_error, there.update(moved).td_error.cpu()
        torch.testing.assert_close(*errors, **gpu.tolerance)


def test_tensors_travel_together(gpu):
    host = {
        "a": torch.arange(3),
        "b": torch.rand(2, 5).T,
        "c": torch.tensor([True, False, True]),
        "none": torch.zeros(0, 4),
        "d": torch.rand(3, dtype=torch.float64),
        "there": torch.ones(2, device="cuda"),
    }
    gpu.clear()
    moved = together(host, torch.device("cuda"))
    assert gpu.waits() == 0
    if gpu.pretended:
        assert gpu.totals() == {"copy to gpu, pinned": 1}
    assert list(moved) == list(host)
    for name, tensor in host.items():
        assert gpu.has(moved[name])
        assert torch.equal(moved[name].cpu(), tensor.cpu())


def test_processes_do_not_share_a_gpu(gpu):
    run = rl.start(Corridor, rl.DQN(**SMALL), 2, steps=50, device="cuda")
    with pytest.raises(ValueError, match=r"workers=2: the processes would take turns on one GPU.*device=\"cpu\""):
        rl.train(run, steps=50, workers=2, progress=False)
    assert rl.train(run, steps=30, workers=1, progress=False).step == 30


def test_a_trunk_fitted_on_the_gpu_serves_a_q_network(gpu):
    trunk = CNN((1, 12, 12), 3, (4,)).to("cuda").trunk
    for device in ("cpu", "cuda"):
        agent = agent_of(device, 2, PICTURES, network=rl.networks.on_trunk(trunk))
        agent.update(next(batches(2, PICTURES)))
    assert all(map(gpu.has, trunk.parameters()))


# -- norms ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("make", [lambda: MLP(4, 2, (8,)), lambda: CNN((1, 8, 8), 3, (4,))])
def test_gradients_are_clipped_as_on_the_cpu(gpu, make, n):
    found = []
    for device in ("cpu", "cuda"):
        stack = Stack(make, n, device)
        stack.flat.grad[: stack.memory.used] = torch.linspace(-1, 2, stack.memory.used)
        found.append([clip_per_seed(stack, 1.0).cpu(), stack.flat.grad.cpu()])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_the_norms_take_as_many_launches_for_any_number_of_weights(gpu):
    if not gpu.pretended:
        pytest.skip("counts launches")
    counts = set()
    for n, widths in ((1, (8,)), (5, (8, 8, 8))):
        stack = Stack(lambda widths=widths: MLP(4, 2, widths), n, "cuda")
        gpu.clear()
        clip_per_seed(stack, float("inf"))
        counts.add(
            sum(count for (kind, where), count in gpu.counts.items() if "norm" in where or "stack" in where.split()[-1])
        )
    assert counts == {3}


# -- waits, copies, launches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "n", "most", "options"),
    [
        (VECTORS, 1, 60, {}),
        (VECTORS, 10, 60, {}),
        (VECTORS, 2, 80, {"double": True, "dueling": True, "target_every_updates": 1, "target_rate": 0.5}),
        (BOTH, 1, 100, {}),
    ],
)
def test_an_update_does_not_wait(gpu, space, n, most, options):
    agent, some = agent_of("cuda", n, space, **{"network": "auto", **options}), batches(n, space)
    learn(agent, itertools.islice(some, 2))
    agent.raise_if_not_finite()
    batch = next(some)
    gpu.clear()
    agent.update(batch, False)
    assert gpu.waits() == 0, gpu.table()
    if gpu.pretended:
        found = gpu.totals()
        assert found["launch"] <= most, gpu.table("launch")
        assert found["copy to gpu, pinned"] == sum(found.values()) - found["launch"] == 1, gpu.table()
    gpu.clear()
    agent.update(batch)
    assert gpu.waits() == 1


DRAWN = {"distribution": rl.ImplicitQuantiles(4, 5, 6, 7), "noise": 0.5, "munchausen": rl.Munchausen()}


def test_what_a_pass_draws_comes_in_one_copy_without_a_wait(gpu):
    agent, batch = agent_of("cuda", 2, **DRAWN), next(batches(2))
    agent.update(batch, False)
    gpu.clear()
    agent.update(batch, False)
    assert gpu.waits() == 0, gpu.table()
    if gpu.pretended:
        found = gpu.totals()
        assert found["copy to gpu, pinned"] == sum(found.values()) - found["launch"] == 1 + 3, gpu.table()


@pytest.mark.filterwarnings("ignore:Episodes of")
@pytest.mark.parametrize("options", [{}, {"sequence_steps": 6}, {"network": "gru(8)"}])
def test_what_is_drawn_is_the_cpus(gpu, options):
    states = []
    for device in ("cpu", "cuda"):
        config = rl.DQN(**{**SMALL, **DRAWN, "network": "mlp(8)", "compiled": False, **options})
        run = rl.start("CartPole-v1", config, 2, device=device)
        run.advance(40)
        assert run.agent.updates > 5
        states.append(run.agent.state_dict())
    if gpu.pretended:  # beyond rounding, another action may be taken on another machine
        assert_same(gpu, *states, fused=False)


@pytest.mark.parametrize(
    ("options", "most"), [({}, 1), ({"prioritized": True}, 2), ({"normalize_observations": True}, 1)]
)
@pytest.mark.parametrize("masks", [False, True])
def test_a_step_fetches_once(gpu, options, masks, most):
    """The values of actions; the TD errors too where they are priorities."""
    run = rl.start(lambda: Corridor(False, masks), rl.DQN(**SMALL, **options), 2, steps=100, device="cuda")
    run.advance(31)  # 12 updates: the 20th is not reached below
    run.agent.raise_if_not_finite()
    gpu.clear()
    for _ in range(5):
        run.loop._round()
    assert gpu.waits() <= 5 * most, gpu.table()
    assert run.agent.updates == 17


def test_acting_alone_fetches_once(gpu):
    for space in (VECTORS, BOTH):
        agent = agent_of("cuda", 2, space)
        x = next(batches(2, space)).obs
        gpu.clear()
        agent.q(x).cpu()
        assert gpu.waits() == 1, gpu.table()


def test_float32_is_float32(gpu):
    """An agent's updates and answers lie within `exact_floats`; test_cuda_fit.py shows what that does to torch's settings."""
    seen = []

    class Noting(MLP):
        def forward(self, x):
            seen.append(torch.backends.cudnn.conv.fp32_precision)
            return super().forward(x)

    agent = agent_of("cuda", network=lambda space, outputs: Noting(4, outputs, (8,)))
    seen.clear()  # building it tries the network on an example
    agent.q(torch.zeros(1, 2, 4))
    learn(agent, itertools.islice(batches(), 2))
    assert set(seen) == {"ieee"}


WINDOWS = {"sequence_steps": 6, "sequence_every_steps": 3, "burn_in_steps": 2, "update_every_steps": 10}


@pytest.mark.filterwarnings("ignore:Episodes of")
@pytest.mark.parametrize("network", ["gru(8)", "mlp(8)+lstm(8)", "mlp(8)"])
def test_windows_give_the_cpus_numbers(gpu, network):
    options = {**SMALL, **EVERYTHING, **WINDOWS, "rescale_values": True, "network": network, "compiled": False}
    runs = []
    for device in ("cuda", "cpu"):
        run = rl.start("CartPole-v1", rl.DQN(**options), 2, device=device)
        run.advance(60)
        runs.append(run)
    assert runs[0].agent.updates > 2
    assert runs[0].agent.online.flat.device.type == "cuda"
    states = [run.agent.state_dict() for run in runs]
    assert_same(gpu, *states)
    again = rl.start("CartPole-v1", rl.DQN(**options), 2, device="cuda")
    again.agent.load_state_dict(states[0])
    assert np.isfinite(again.evaluate(2).returns).all()
