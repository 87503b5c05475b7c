"""Options and fixtures that several tests use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from forked import Worker
from pretend import Tally, on_gpu, pretend
from sketches import sketch

from envs import tables
from rl.report import pictures
from rl.run import processes
from supervised import device

BEST = device.best
PIXELS = pictures.to_images

# What `-m quick` runs: files that together touch every part in less than a minute, and a few tests of slower ones.
QUICK = (
    *("test_layers", "test_validate", "test_fixtures"),
    *("test_vector", "test_member", "test_contract", "test_values"),
    *("test_targets", "test_losses", "test_explore", "test_priority", "test_replay", "test_returns"),
    *("test_seed_axis", "test_run", "test_policy", "test_policies", "test_interruptions"),
    *("test_checkpoint", "test_schedules", "test_statistics", "test_streams", "test_logger", "test_chain"),
    *("test_dqn::test_the_q_network_does_what_the_table_does", "test_fit::test_a_sequence_is_written_backwards"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    choices, what = ("pretended", "cuda"), "what the fixture gpu is: pretended on the CPU, or a real GPU"
    parser.addoption("--device", choices=choices, default="pretended", help=what)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--device") == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError("--device cuda needs a GPU that torch can use, and there is none here.")
    if config.getoption("--device") != "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for processes that tests start
    # Tests are about the CPU, also where there is a GPU, unless they ask for one: "to the bit" holds on the CPU alone.
    device.best = lambda: torch.device("cpu")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the quick tests, and those that use a GPU."""
    for item in items:
        if "gpu" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cuda)
        if {item.path.stem, f"{item.path.stem}::{item.name.split('[')[0]}"} & set(QUICK):
            item.add_marker(pytest.mark.quick)


@pytest.fixture
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tally]:
    """Provide a GPU, which "auto" selects during the test, and its counts: simulated, or real with --device cuda."""
    monkeypatch.setattr(device, "best", BEST)
    with on_gpu() if request.config.getoption("--device") == "cuda" else pretend() as counts:
        yield counts


@pytest.fixture(autouse=True)
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip drawing images of agents, which would take most of many tests' time, unless a test uses the fixture `drawn`."""
    monkeypatch.setattr(pictures, "to_images", sketch)


@pytest.fixture
def drawn(sketched: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw images of agents, as for a user."""
    monkeypatch.setattr(pictures, "to_images", PIXELS)


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the processes of `workers=` from a server that has imported everything, which saves seconds for each."""
    names = SimpleNamespace(Popen=Worker, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(processes, "subprocess", names)


@pytest.fixture
def plain_loop(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that makes every model be rejected from then on, so that the plain loop runs."""

    def refuse_all() -> None:
        def refuse(env: Any) -> tables.Model:
            raise tables.NoModelError("refused by the test")

        monkeypatch.setattr(tables, "read", refuse)

    return refuse_all
