"""Processes for tests to kill: forked from a server that has imported the packages, so that each starts in milliseconds.

A child counts the checkpoints that it writes (files moved over a name in CHECKPOINTS) and tells of each. It is killed from
outside, or kills itself at a given file operation: by a real SIGKILL in both cases, so that nothing is flushed or closed.
"""

from __future__ import annotations

import functools
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

TESTS = Path(__file__).parent
CHECKPOINTS = ("run.safetensors", "fit.safetensors")
OPERATIONS = (
    "open",
    "os.rename",
    "os.link",
    "os.remove",
    "os.mkdir",
    "os.truncate",
)  # Python tells of each before it happens
TIMEOUT = 200  # seconds

# (k, n): just before the n-th file operation, counted from the move of the k-th checkpoint, which is the 0th
Death = tuple[int, int]


class Child:
    """A process that calls function(*arguments); the function is one of a module in tests/, such as `jobs`."""

    def __init__(
        self, function: Callable[..., None], *arguments: Any, output: Path, death: Death | None = None
    ) -> None:
        """output: the file that takes what it prints, errors too."""
        self.pipe, theirs = multiprocessing.Pipe(duplex=False)
        self.output = output
        self.process = _server().Process(target=_child, args=(function, arguments, output, death, theirs))
        self.process.start()
        theirs.close()

    def checkpoint(self) -> float | None:
        """Wait until it is about to move a checkpoint to its place -> the time; None when it ends without."""
        try:
            return float(self.pipe.recv()) if self.pipe.poll(TIMEOUT) else None
        except EOFError:
            return None

    def send(self, number: int) -> None:
        """Send a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait(self, seconds: float = TIMEOUT) -> int:
        """Wait for the end -> the exit code: minus the signal's number where one killed it."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(self.output.read_text())
        return self.process.exitcode


class Worker:
    """A worker process of `rl.run.processes`: of the fork server, in place of the `subprocess.Popen` that it starts."""

    def __init__(self, command: list[str], pass_fds: list[int], env: dict[str, str]) -> None:
        """pass_fds: the descriptor of the worker's end of the pipe. command, env: not read, since the server has imported all."""
        with Connection(os.dup(pass_fds[0])) as pipe:
            self.process = _server().Process(target=_work, args=(pipe,), daemon=True)
            self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end -> the exit code. Raises subprocess.TimeoutExpired."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("a worker", timeout or 0.0)
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()


def _work(pipe: Connection) -> None:
    from rl.run.worker import serve

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    serve(pipe.fileno())


@functools.cache
def _server() -> multiprocessing.context.ForkServerContext:
    """The fork server of this test process, started."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["jobs"])
    paths = os.pathsep.join(str(Path(part).resolve()) for part in (str(TESTS), str(TESTS.parent), *sys.path))
    with mock.patch.dict(os.environ, PYTHONPATH=paths):
        multiprocessing.forkserver.ensure_running()
    return context


def _child(
    function: Callable[..., None], arguments: tuple[Any, ...], output: Path, death: Death | None, pipe: Connection
) -> None:
    with open(output, "wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    checkpoints, operations = 0, -1  # -1: not yet counted

    def hook(event: str, details: tuple[Any, ...]) -> None:
        nonlocal checkpoints, operations
        if event not in OPERATIONS:
            return
        if event == "os.rename" and Path(details[1]).name in CHECKPOINTS:
            checkpoints += 1
            pipe.send(time.monotonic())
        if death is not None and checkpoints >= death[0]:
            operations += 1
            if operations == death[1]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    function(*arguments)
