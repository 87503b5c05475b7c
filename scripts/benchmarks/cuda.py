"""Q-networks and fits on a GPU (`benchmark.py cuda`): parity with the CPU, speed, waits, memory, prototypes.

Nine parts, the most important first, each with a deadline, together less than 8 minutes; the JSON is written after each.
Without a GPU everything runs in small sizes on a simulated one, without speeds, to show that it works. tests/pretend.py
simulates the GPU, and counts waits on a real one, so tests/ is added to the path; part 1 runs its tests in either case.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from torch.profiler import ProfilerActivity, profile

import rl
from benchmarks import cuda_prototypes as prototypes
from rl.core.types import Batch
from supervised import CNN, MLP, Data, Fit, Recipe, Stack, determinism
from supervised.device import cores
from supervised.models.cnn import Image
from supervised.session import results
from supervised.validate import ArgumentError, first_line

TESTS = Path(__file__).parents[2] / "tests"
Figures = dict[str, Any]
Rows = Iterator[tuple[str, Callable[[], Figures]]]  # names and functions of the measurements
PRETENDED = (
    "No GPU was found: everything runs on the CPU with a simulated GPU, in small sizes, to show that it works. No figure here"
    " is a speed, a share of time or the memory of a GPU."
)


@dataclass(frozen=True)
class Machine:
    """The device, and the sizes of the measurements."""

    pretended: bool
    count: Callable[[], contextlib.AbstractContextManager[Any]]  # provides a pretend.Tally
    members: tuple[int, ...] = (1, 10, 50)
    updates: tuple[int, ...] = (1, 10, 100)  # after which parity is measured
    side: int = 84  # of an image
    batch: int = 1_000  # at most
    warm_up: int = 50  # calls
    seconds: float = 0.25  # one timing
    repeats: int = 5
    examples: int = 2_000


def checker() -> ModuleType:
    """Import tests/pretend.py, the simulated GPU."""
    sys.path.append(str(TESTS))
    try:
        return importlib.import_module("pretend")
    finally:
        sys.path.remove(str(TESTS))


@contextlib.contextmanager
def machine() -> Iterator[Machine]:
    """Provide the GPU, or a simulated one within the block."""
    if torch.cuda.is_available():
        yield Machine(False, checker().on_gpu)
        return
    with determinism.threads(1), checker().pretend() as gpu:

        def count() -> contextlib.AbstractContextManager[Any]:
            gpu.clear()
            return contextlib.nullcontext(gpu)

        yield Machine(True, count, (1, 2), (1, 3), 36, 4, 1, 0.0, 1, 64)


# -- workloads -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """A Q-network and its batch, with observations of four numbers or images."""

    network: str
    batch: int
    pictures: bool = False

    def spaces(self, m: Machine) -> tuple[gym.Space[Any], gym.Space[Any]]:
        if self.pictures:
            return gym.spaces.Box(0, 255, (4, m.side, m.side), np.uint8), gym.spaces.Discrete(4)
        return gym.spaces.Box(-1, 1, (4,), np.float32), gym.spaces.Discrete(2)

    def agent(self, m: Machine, n: int, device: str, **options: Any) -> Any:
        return rl.DQN(network=self.network, **options).build(*self.spaces(m), n, device)

    def batches(self, m: Machine, n: int, weighted: bool = False) -> Iterator[Batch]:
        """Yield random batches endlessly, the same each time."""
        actions: Any
        space, actions = self.spaces(m)
        g, shape = torch.Generator().manual_seed(0), (n, min(self.batch, m.batch))

        def obs() -> torch.Tensor:
            if self.pictures:
                return torch.randint(256, (*shape, *space.shape), generator=g, dtype=torch.uint8)
            return torch.rand(*shape, 4, generator=g) * 2 - 1

        while True:
            action = torch.randint(int(actions.n), shape, generator=g)
            reward, weight = torch.randn(shape, generator=g), torch.rand(shape, generator=g) if weighted else None
            yield Batch(obs(), action, reward, torch.full(shape, 0.99), obs(), weight=weight)


WORKS = {
    "64-64, batch 64": Work("mlp(64,64)", 64),
    "256-256, batch 128": Work("mlp(256,256)", 128),
    "nature, batch 32": Work("nature", 32, pictures=True),
}
MLP_WORK, NATURE = WORKS["64-64, batch 64"], WORKS["nature, batch 32"]


class Frames(gym.Env[Any, Any]):
    """Images of noise, generated beforehand, in episodes of 100 steps."""

    def __init__(self, side: int) -> None:
        self.observation_space = gym.spaces.Box(0, 255, (4, side, side), np.uint8)
        self.action_space = gym.spaces.Discrete(4)
        self.frames = np.random.default_rng(0).integers(256, size=(8, 4, side, side), dtype=np.uint8)
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.frames[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self.frames[self.t % 8], float(action), self.t == 100, False, {}


def run_of(work: Work, m: Machine, n: int, device: str) -> rl.Run:
    """Return a warmed-up run that learns at each step."""
    env: Any = (lambda: Frames(m.side)) if work.pictures else "CartPole-v1"
    batch = min(work.batch, m.batch)
    agent = rl.DQN(network=work.network, batch_size=batch, learn_after_steps=batch, capacity_steps=1_000)
    run = rl.start(env, agent, n, steps=100_000, device=device)
    run.advance(batch + 3)
    return run


def updater(work: Work, m: Machine, n: int, device: str, threads: int | None = None) -> Callable[[], None]:
    """Return a function that updates N members from the same batch. threads: of the CPU, if they are to be set."""
    agent, batch = work.agent(m, n, device), next(work.batches(m, n))

    def update() -> None:
        with contextlib.nullcontext() if threads is None else determinism.threads(threads):
            agent.update(batch, measured=False)

    return update


def fitter(network: str, m: Machine, n: int, device: str, precision: str, channels_last: bool | None = None) -> Fit:
    """Return a fit of N members to 28x28 images of noise, batch 100."""
    make = {"MLP": lambda: MLP(784, 10, (256, 256)), "CNN": lambda: CNN((1, 28, 28), 10, (32, 64, 128))}[network]
    g = torch.Generator().manual_seed(0)
    x = torch.randint(256, (m.examples, 28, 28), generator=g, dtype=torch.uint8)
    data = Data(x, torch.randint(10, (m.examples,), generator=g))
    recipe = Recipe(batch_size=min(100, m.examples // 2), precision=precision)
    fit = Fit(Stack(make, n, device), data, None, recipe)
    for module in fit.stack.modules if channels_last is not None else ():
        for part in module.modules():
            if isinstance(part, Image):
                part.channels_last = channels_last
    return fit


# -- measuring --------------------------------------------------------------------------------------------------------------


def speeds(ways: dict[str, Callable[[], object]], m: Machine, per_call: float = 1) -> Figures:
    """Time each way in turn, `per_call` units per call. Return median units per second, and the first's ratio to the others."""
    if m.pretended:
        for way in ways.values():
            way()
        return {"ran": list(ways)}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        _calls_for(way, m.seconds * 2, m.warm_up)
    for _ in range(m.repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            calls = _calls_for(way, m.seconds)
            rates[name].append(calls * per_call / (time.perf_counter() - began))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    first, *others = medians
    return {"per_second": medians, "ratio": {name: medians[first] / medians[name] for name in others}}


def _calls_for(way: Callable[[], object], seconds: float, most: float = math.inf) -> int:
    """Call repeatedly for this long, at least once, and synchronize. Return the number of calls."""
    began, calls = time.perf_counter(), 0
    while not calls or (calls < most and time.perf_counter() - began < seconds):
        way()
        calls += 1
    torch.cuda.synchronize()
    return calls


def profiled(action: Callable[[], object], calls: int) -> Figures:
    """Profile `calls` calls. Return kernels, copies and waits per call, and the share of time the GPU worked."""
    for _ in range(3):
        action()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        began = time.perf_counter()
        for _ in range(calls):
            action()
        torch.cuda.synchronize()
        wall = time.perf_counter() - began
    rows = seen.key_averages()
    on_gpu = [row for row in rows if row.device_type == torch.autograd.DeviceType.CUDA]  # type: ignore[attr-defined]  # torch exports it silently
    asked = {row.key: row.count / calls for row in rows if row.key.startswith("cuda")}
    busy = sum(row.self_device_time_total for row in on_gpu) / 1e6
    kernels = sum(row.count for row in on_gpu if not row.key.startswith("Mem")) / calls
    return {"gpu_busy": busy / wall, "kernels": kernels, "calls_of_cuda": asked}


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in convolutions and matrix products within the block."""
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = allowed
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


# -- the parts --------------------------------------------------------------------------------------------------------------


def about(m: Machine) -> Rows:
    def software() -> Figures:
        found = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        return found | {
            "allow_tf32": {"cudnn": torch.backends.cudnn.allow_tf32, "matmul": torch.backends.cuda.matmul.allow_tf32}
        }

    def hardware() -> Figures:
        if m.pretended:
            return {"skipped": "there is no GPU"}
        ask = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        said = subprocess.run(ask, capture_output=True, text=True, check=False).stdout if shutil.which(ask[0]) else ""
        capability = list(torch.cuda.get_device_capability())
        return {"name": torch.cuda.get_device_name(), "capability": capability, "nvidia-smi": said.strip() or None}

    yield "software", software
    yield "GPU", hardware


def tests(m: Machine) -> Rows:
    def run_them() -> Figures:
        command = [sys.executable, "-m", "pytest", "-m", "cuda", "-n", "0", "-p", "no:cacheprovider"]
        command += [] if m.pretended else ["--device", "cuda"]
        done = subprocess.run([*command, str(TESTS)], capture_output=True, text=True, check=False, cwd=TESTS.parent)
        lines = done.stdout.strip().splitlines()
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        return {"passed": done.returncode == 0, "summary": (lines or [done.stderr.strip()])[-1], "failed": failed}

    def judge() -> Figures:
        with m.count() if m.pretended else checker().pretend() as gpu:
            update = updater(MLP_WORK, m, 1, "cuda")
            update()
            gpu.clear()
            update()
            found = {"pretended": dict(gpu.totals())}
        if m.pretended:
            return found | {"profiler": "skipped: there is no GPU"}
        return found | {"profiler": profiled(updater(MLP_WORK, m, 1, "cuda"), 20)}

    yield "pytest -m cuda", run_them
    yield "an update 64-64, counted by the pretence and by torch.profiler", judge


def parity(m: Machine) -> Rows:
    small, pictures = Work("mlp(64,64)", 64), Work("cnn(16)", 32, pictures=True)
    everything = {"double": True, "dueling": True, "n_step": 3, "prioritized": True}
    rows: dict[str, tuple[Work, dict[str, Any], bool]] = {
        "MLP, float32": (small, {}, False),
        "MLP double dueling prioritized, float32": (small, everything, False),
        "CNN, float32": (pictures, {}, False),
        "nature, float32": (NATURE, {}, False),
        "nature, TF32": (NATURE, {}, True),
    }
    for name, (work, options, reduced) in rows.items():
        yield name, lambda w=work, o=options, r=reduced: compared(w, m, o, r)
    for precision in ("fp32", "tf32", "bf16"):
        yield f"fit CNN, {precision}, an epoch", lambda p=precision: compared_fits(m, p)


def compared(work: Work, m: Machine, options: dict[str, Any], reduced: bool) -> Figures:
    """Compare two members after the same updates on the CPU and on the GPU, and twice on the GPU: the largest differences."""
    with tf32(reduced):
        host, first, second = (learned(work, m, device, options, reduced) for device in ("cpu", "cuda", "cuda"))
        with deterministic():
            third, fourth = (learned(work, m, "cuda", options, reduced) for _ in range(2))
    found: Figures = {
        f"after {k} updates": {what: largest(host[k][what], first[k][what]) for what in host[k]} for k in m.updates
    }
    last = m.updates[-1]
    same = {"as it is": (first, second), "deterministic algorithms": (third, fourth)}
    found["twice on the GPU equal to the bit"] = {
        name: all(torch.equal(a[last][what], b[last][what]) for what in a[last]) for name, (a, b) in same.items()
    }
    return found


def learned(
    work: Work, m: Machine, device: str, options: dict[str, Any], reduced: bool
) -> dict[int, dict[str, torch.Tensor]]:
    """Return q, weights and gradient norms after 1, 10, ... updates, on the host. reduced: with TF32, which agents do not use."""
    agent = work.agent(m, 2, device, compiled=False, **options)
    if reduced:
        agent.threads = contextlib.nullcontext
    found, batches = {}, work.batches(m, 2, weighted=options.get("prioritized", False))
    for k in range(1, m.updates[-1] + 1):
        batch = next(batches)
        update = agent.update(batch)
        if k in m.updates:
            norm = update.metrics["train/gradient_norm"]
            parts = {"q": agent.q(batch.obs), "weights": agent.online.flat.detach(), "norm": norm}
            found[k] = {name: part.cpu().clone() for name, part in parts.items()}
    return found


def compared_fits(m: Machine, precision: str) -> Figures:
    """Train a CNN for an epoch on the CPU in float32 and on the GPU in this precision, and compare the results."""
    host, there = fitter("CNN", m, 1, "cpu", "fp32"), fitter("CNN", m, 1, "cuda", precision)
    losses = [float(fit.advance()["train/loss"][0]) for fit in (host, there)]
    weights = [fit.stack.flat.detach().cpu() for fit in (host, there)]
    return {
        "weights": largest(*weights),
        "training loss": dict(zip(("cpu, fp32", f"gpu, {precision}"), losses, strict=True)),
    }


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference of two tensors."""
    return float((a - b).abs().max())


def speed(m: Machine) -> Rows:
    for n in reversed(m.members):
        for name, work in WORKS.items():
            yield f"updates, {name}, N={n}", lambda n=n, w=work: updates_a_second(w, m, n)
    for n in m.members:
        for name in ("64-64, batch 64", "nature, batch 32"):
            yield f"steps with an update each, {name}, N={n}", lambda n=n, w=WORKS[name]: steps_a_second(w, m, n)
    for n in m.members:
        yield f"examples, fit MLP 784-256-256-10, N={n}", lambda n=n: examples_a_second("MLP", m, n)
        yield f"examples, fit CNN 32-64-128, N={n}", lambda n=n: examples_a_second("CNN", m, n)


def updates_a_second(work: Work, m: Machine, n: int) -> Figures:
    """Measure updates per second, summed over seeds."""
    ways: dict[str, Callable[[], object]] = {"gpu": updater(work, m, n, "cuda")}
    if work.pictures:
        ways["cpu, all cores"] = updater(work, m, n, "cpu", cores())
    if n == 1 or not work.pictures:  # vector networks choose one thread; many image networks would take too long on one
        ways["cpu, one thread"] = updater(work, m, n, "cpu", 1)
    return speeds(ways, m, n)


def steps_a_second(work: Work, m: Machine, n: int) -> Figures:
    """Measure steps per second, summed over seeds, with their environments on the CPU."""
    runs = {"gpu": run_of(work, m, n, "cuda"), "cpu": run_of(work, m, n, "cpu")}
    steps = 2 if work.pictures else 20  # per call
    return speeds({name: lambda run=run: run.advance(steps) for name, run in runs.items()}, m, steps * n)


def examples_a_second(network: str, m: Machine, n: int) -> Figures:
    """Measure examples per second, summed over seeds."""
    ways: dict[str, Callable[[], object]] = {}
    chosen: list[tuple[str, bool | None]] = [("fp32", None)]
    if network == "CNN":
        chosen += [("tf32", None), ("bf16", None)]
    if network == "CNN" and n == m.members[1]:
        chosen += [(precision, last) for precision in ("tf32", "bf16") for last in (False, True)]
    for precision, last in chosen:
        fit = fitter(network, m, n, "cuda", precision, last)
        order = "" if last is None else ", channels last" if last else ", channels first"
        ways[f"gpu, {precision}{order}"] = fit.advance
    return speeds(ways, m, m.examples * n)


def busy(m: Machine) -> Rows:
    for n in m.members[:2]:
        for name, work in WORKS.items():
            yield f"{name}, N={n}", lambda n=n, w=work: busy_with(w, m, n)


def busy_with(work: Work, m: Machine, n: int) -> Figures:
    update = updater(work, m, n, "cuda")
    if m.pretended:
        update()
        return {"skipped": "only a GPU has kernels to be timed; the update ran"}
    return profiled(update, 50)


def waits(m: Machine) -> Rows:
    """Count where the host waits for the GPU; on a simulated GPU also copies and launches."""
    for name in ("64-64, batch 64", "nature, batch 32"):
        work = WORKS[name]
        yield f"update, {name}", lambda w=work: counted(updater(w, m, 2, "cuda"), m, 10, 10)
        yield f"step with an update, {name}", lambda w=work: counted_steps(w, m)
    for network in ("MLP", "CNN"):
        yield f"step of a fit, {network}", lambda network=network: counted_epoch(network, m)


def counted(action: Callable[[], object], m: Machine, calls: int, per: int) -> Figures:
    """Return the counts of `calls` calls after a first one, divided by `per`."""
    action()
    with m.count() as tally:
        for _ in range(calls):
            action()
    kinds = {kind: count / per for kind, count in sorted(tally.totals().items())}
    waiting = [kind for kind in kinds if kind.endswith("waits")]
    lines = tally.table(*waiting, per=per).splitlines() if waiting else []
    return {"waits": tally.waits() / per, "kinds": kinds, "lines_that_wait": [" ".join(line.split()) for line in lines]}


def counted_steps(work: Work, m: Machine) -> Figures:
    """Count in a call of 20 steps, so that operations done once per call, such as fetching metrics, weigh little."""
    run = run_of(work, m, 2, "cuda")
    return counted(lambda: run.advance(20), m, 1, 20)


def counted_epoch(network: str, m: Machine) -> Figures:
    """Count per step of the optimizer."""
    fit = fitter(network, m, 2, "cuda", "fp32")
    return counted(fit.advance, m, 1, fit.steps_per_epoch)


def memory(m: Machine) -> Rows:
    for n in m.members:
        yield f"nature, N={n}", lambda n=n: memory_of(NATURE, m, n)


def memory_of(work: Work, m: Machine, n: int) -> Figures:
    """Return the peak memory in bytes of two updates of N members; the host's is this process's peak so far."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    update = updater(work, m, n, "cuda")
    update()
    update()
    host = {"host_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if m.pretended:
        return host | {"gpu": "skipped: there is no GPU"}
    return host | {
        "gpu_peak_mb": torch.cuda.max_memory_allocated() / 1e6,
        "gpu_reserved_mb": torch.cuda.max_memory_reserved() / 1e6,
    }


def captured(m: Machine) -> Rows:
    for n in m.members:
        for width, batch in ((64, 64), (256, 128)):
            yield f"{width}-{width}, batch {batch}, N={n}", lambda n=n, w=width, b=batch: captured_update(m, n, w, b)


def captured_update(m: Machine, n: int, width: int, batch: int) -> Figures:
    """Time a prototype of an update as one CUDA graph, and the same launched kernel by kernel."""
    eager, graph = (prototypes.Update(n, width, batch, "cuda") for _ in range(2))
    if m.pretended:
        eager()
        return {"skipped": "a pretended GPU captures no graph; the update ran kernel by kernel"}
    graph.capture()
    for _ in range(prototypes.WARM_UPS + 100):
        eager()
    for _ in range(100):
        graph()
    difference = largest(eager.online.flat.detach().cpu(), graph.online.flat.detach().cpu())
    found = speeds({"captured": graph, "eager": eager}, m, n)
    return found | {"after 100 replays": {"weights": difference, "equal to the bit": difference == 0}}


def grouped(m: Machine) -> Rows:
    for n in m.members[1:]:
        yield f"nature's convolutions, batch 32, N={n}", lambda n=n: grouped_convolutions(m, n)


def grouped_convolutions(m: Machine, n: int) -> Figures:
    """Time forward and backward passes, computed in three ways."""
    weights = prototypes.convolutions(n, "cuda")
    batch = 2 if m.pretended else 32
    x = torch.rand(n, batch, 4, m.side, m.side, generator=torch.Generator().manual_seed(0)).to("cuda")
    functions = {"grouped": prototypes.grouped, "vmap": prototypes.vmapped, "one by one": prototypes.one_by_one}

    def way(function: Callable[..., torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(function(x, weights).sum(), [weight for weight, *_ in weights])

    with torch.no_grad():
        expected = prototypes.one_by_one(x, weights)
        apart = {name: largest(function(x, weights).cpu(), expected.cpu()) for name, function in functions.items()}
    return speeds({name: way(function) for name, function in functions.items()}, m, n) | {"largest difference": apart}


# -- expectations, stated beforehand ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """An expectation stated before measuring. read: gets the value from the rows of all parts; KeyError: not measured."""

    words: str
    read: Callable[[dict[str, dict[str, Figures]]], float]
    holds: Callable[[float], bool]

    def judge(self, rows: dict[str, dict[str, Figures]], pretended: bool) -> Figures:
        """Return whether it is met; None if it was not measured, as on a simulated GPU."""
        try:
            found = None if pretended else self.read(rows)
        except KeyError:
            found = None
        if found is None:
            return {"bar": self.words, "found": None, "held": None}
        return {"bar": self.words, "found": found, "held": self.holds(found)}


def _first_update(rows: dict[str, dict[str, Figures]]) -> float:
    exact = [row for name, row in rows["2 parity"].items() if name.endswith(", float32")]
    return max(row["after 1 updates"]["q"] for row in exact)


BARS = (
    Bar("after one update in float32 q differs from the CPU's by at most 1e-5", _first_update, lambda v: v <= 1e-5),
    Bar(
        "after one update with TF32 nature's q differs from the CPU's by at most 1e-3",
        lambda rows: rows["2 parity"]["nature, TF32"]["after 1 updates"]["q"],
        lambda v: v <= 1e-3,
    ),
    Bar(
        "50 nature networks are updated 5 times as fast as by all cores",
        lambda rows: rows["3 speed"]["updates, nature, batch 32, N=50"]["ratio"]["cpu, all cores"],
        lambda v: v >= 5,
    ),
    Bar(
        "the GPU works more than 60 % of the time for 10 nature networks",
        lambda rows: rows["4 busy"]["nature, batch 32, N=10"]["gpu_busy"],
        lambda v: v > 0.6,
    ),
    Bar(
        "an update never waits",
        lambda rows: max(row["waits"] for name, row in rows["5 waits"].items() if name.startswith("update")),
        lambda v: v == 0,
    ),
    Bar(
        "a captured update 64-64 of one seed is 5 times as fast as an eager one",
        lambda rows: rows["7 captured"]["64-64, batch 64, N=1"]["ratio"]["eager"],
        lambda v: v >= 5,
    ),
)


# -- running the parts-------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A part of the benchmark; seconds: its deadline."""

    seconds: int
    rows: Callable[[Machine], Rows]
    words: str


PARTS = {
    "0 about": Part(10, about, "what it runs on"),
    "1 tests": Part(90, tests, "the tests of the GPU, and the pretence judged by torch.profiler"),
    "2 parity": Part(40, parity, "largest differences from the CPU after the same updates"),
    "3 speed": Part(120, speed, "units a second, medians, in turn with the CPU"),
    "4 busy": Part(30, busy, "how much of the time the GPU works, and kernels an update"),
    "5 waits": Part(20, waits, "where the host waits for the GPU: per update, environment step or step of a fit"),
    "6 memory": Part(20, memory, "of an update"),
    "7 captured": Part(80, captured, "an update as one CUDA graph, a prototype"),
    "8 grouped": Part(40, grouped, "convolutions of all members at once, prototypes"),
}


class OutOfTime(BaseException):
    """A part's deadline; not an Exception, so that no row handles it as its own error."""


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise OutOfTime within the block after this many seconds."""

    def stop(*_signal_and_frame: Any) -> None:
        raise OutOfTime

    handler = signal.signal(signal.SIGALRM, stop)
    before = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
        signal.signal(signal.SIGALRM, handler)


def carry_out(part: Part, m: Machine, seconds: float) -> Figures:
    """Measure a part's rows one by one; an error ends only its row, the deadline ends the part."""
    found: Figures = {"about": part.words, "deadline_seconds": seconds, "status": "finished", "rows": {}}
    began, name = time.perf_counter(), ""
    try:
        with deadline(seconds):
            for name, measure in part.rows(m):
                try:
                    found["rows"][name] = measure()
                except Exception as error:  # reported in the file, so that the other rows are not lost
                    found["rows"][name] = {"error": f"{type(error).__name__}: {first_line(error)}"}
    except OutOfTime:
        found["status"] = f"stopped at its deadline in the row {name!r}"
    found["seconds"] = round(time.perf_counter() - began, 1)
    return found


def cuda(numbers: tuple[int, ...], output: Path | None, console: Console) -> Figures:
    """Run the parts with these numbers, or all. Return the figures, which are also written to `output` after each part.

    Raises ArgumentError for a part that does not exist.
    """
    known = {int(name.split()[0]): name for name in PARTS}
    if not set(numbers) <= known.keys():
        raise ArgumentError(f"--parts takes numbers from 0 to {max(known)}, not {' '.join(map(str, numbers))}.")
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # required by deterministic algorithms, before CUDA starts
    origin = results.about()
    with machine() as m:
        sizes = {name: value for name, value in vars(m).items() if name not in ("pretended", "count")}
        note = PRETENDED if m.pretended else None
        figures: Figures = {"pretended": m.pretended, "note": note, "sizes": sizes, "parts": {}}
        if m.pretended:
            console.print(PRETENDED, style="bold")
        for name in [known[number] for number in sorted(set(numbers) or known)]:
            found = carry_out(PARTS[name], m, PARTS[name].seconds)
            figures["parts"][name] = found
            show(name, found, console)
            figures["bars"] = [
                bar.judge({n: part["rows"] for n, part in figures["parts"].items()}, m.pretended) for bar in BARS
            ]
            if output is not None:
                results.write(figures | origin, output)
    for bar in figures["bars"]:
        held = {None: "not measured", True: "met", False: "not met"}[bar["held"]]
        console.print(
            f"bar: {bar['bar']}: {held}" + ("" if bar["found"] is None else f" ({bar['found']:.3g})"), highlight=False
        )
    return figures


def show(name: str, found: Figures, console: Console) -> None:
    """Print a part as lines of text."""
    console.print(
        f"\n[bold]{name}[/bold]: {found['about']}; {found['status']} after {found['seconds']} s", highlight=False
    )
    for row, figures in found["rows"].items():
        console.print(f"  {row}: {words(figures)}", highlight=False, markup=False, soft_wrap=True)


def words(figures: Any) -> str:
    if isinstance(figures, dict):
        return ", ".join(f"{name} {words(value)}" for name, value in figures.items())
    if isinstance(figures, (list, tuple)):
        return "; ".join(map(words, figures)) or "none"
    return f"{figures:.4g}" if isinstance(figures, float) else str(figures)
