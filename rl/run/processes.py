"""The backend that distributes the seeds of a run over worker processes, each with one torch thread.

Seeds do not affect each other, so the results are bit-identical to those of a single process. Each worker has its own run and
executes commands (`rl.run.worker`). A worker that dies, at any moment, restarts from the last checkpoint (or from its initial
state) and repeats the commands since.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from envs.backends.running import Statistics
from rl.core.protocols import Diagnostics, LiveAgent
from rl.run.exact import Evaluation, joined
from rl.run.run import Run
from rl.run.worker import BOOT, receive, send
from supervised import checkpoint

MOST_RESTARTS = 3  # consecutive restarts of a worker without progress
CLOSE_SECONDS = 5.0  # a worker that does not exit within this time is killed
POLL_SECONDS = 1.0  # interval of checks whether a silent worker is alive


def check_workers(agent: LiveAgent, count: int | None) -> None:
    """Raise ValueError if the seeds of an agent cannot be distributed over `count` processes."""
    device = agent.device
    if count is not None and count > 1 and len(agent.seeds) > 1 and device.type != "cpu":
        raise ValueError(
            f"workers={count}: the processes would take turns on one GPU, each with its own memory, while a single process"
            f' already computes all seeds there at once. Use workers=1, or device="cpu" instead of {str(device)!r}.'
        )


class WorkerDied(Exception):
    """The process at the other end of a pipe is gone."""


class ProcessPool:
    """A backend (see `rl.core.protocols`) that runs the seeds in worker processes."""

    def __init__(self, run: Run, count: int) -> None:
        """Start `count` processes (at most one per seed). Raises ValueError if they cannot run the seeds."""
        if run.where.vector is not None:
            raise ValueError(
                f"workers={count}: the rows of a VectorEnv cannot be distributed over processes. Pass an environment id or a"
                " function."
            )
        if sys.platform == "win32":
            raise ValueError(f"workers={count}: distributing seeds over processes needs a POSIX system. Use workers=1.")
        check_workers(run.agent, count)
        self.run, self.seeds, self.envs_per_seed = run, run.seeds, run.envs_per_seed
        self.step, self.compiled = run.step, 0.0
        self.initial_state = run.backend.state()  # the processes (re)start from it until there is a checkpoint
        self.checkpoint: Path | None = None  # the last checkpoint written since
        self.replayed_commands: list[tuple[str, tuple[Any, ...]]] = []  # commands since then, which a restart repeats
        places = [part.tolist() for part in np.array_split(np.arange(len(run.seeds)), min(count, len(run.seeds)))]
        self.shards = [(part[0], part[-1] + 1) for part in places]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.pipes: dict[int, Connection[Any, Any]] = {}
        try:
            for k in range(len(self.shards)):
                self._start(k)
            for k in range(len(self.shards)):
                try:
                    self._hand_over(k)
                except WorkerDied:
                    self._restart(k)
        except BaseException:
            self.close()
            raise

    def _start(self, k: int) -> None:
        """Start the k-th process."""
        mine, theirs = Pipe()
        paths = [str(Path(part).resolve()) if part else os.getcwd() for part in sys.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", BOOT, str(theirs.fileno()), str(os.getpid())]
        self.pipes[k] = mine
        with theirs:
            try:
                self.processes[k] = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
            except OSError as error:
                raise RuntimeError(f"A worker process could not be started: {error}. Use fewer workers.") from error

    def _hand_over(self, k: int) -> None:
        """Send a process its seeds and their state."""
        import cloudpickle

        first, end = self.shards[k]
        where = self.run.where
        spec = gym.registry.get(where.description["id"]) if where.description else None
        payload = (
            (where.description, spec) if where.description else (None, where.maker),
            *(self.run.agent_config, self.seeds[first:end], self.envs_per_seed, self.run.horizon_steps),
        )
        state = self.initial_state if self.checkpoint is None else checkpoint.load(self.checkpoint)[0]
        part = split({name: state[name] for name in ("agent", "loop")}, first, end, len(self.seeds))
        try:
            data = cloudpickle.dumps((*payload, str(self.run.agent.device), part))
        except Exception as error:  # pickling user-defined objects may raise anything
            raise ValueError(f"The environment or the agent cannot be sent to a worker process: {error}") from error
        with _noticing_death():
            self.pipes[k].send_bytes(data)
        _answer_of(self._receive(k))

    def _send(self, k: int, command: str, arguments: tuple[Any, ...]) -> None:
        with _noticing_death():
            send(self.pipes[k], (command, arguments))

    def _receive(self, k: int) -> tuple[bool, Any]:
        """Receive the next reply of a process, (True, result) or (False, exception). Raises WorkerDied."""
        with _noticing_death():
            # Not only a closed pipe: a process started by the worker may keep its end of the pipe open.
            while not self.pipes[k].poll(POLL_SECONDS):
                if self.processes[k].poll() is not None and not self.pipes[k].poll(0):
                    raise WorkerDied
            good, found = receive(self.pipes[k])
        return good, found

    def _broadcast(self, command: str, *arguments: Any, remember: bool = False) -> list[Any]:
        """Have all processes execute a command and return their results. Raises the first exception that one of them replies."""
        dead = set()
        for k in self.processes:
            try:
                self._send(k, command, arguments)
            except WorkerDied:
                dead.add(k)
        answers = []
        for k in self.processes:
            try:
                if k in dead:
                    raise WorkerDied
                answers.append(self._receive(k))
            except WorkerDied:
                answers.append(self._restart(k, (command, arguments)))
        found = [_answer_of(answer) for answer in answers]  # may raise, so only after every reply has been received
        if remember:
            self.replayed_commands.append((command, arguments))
        return found

    def _restart(self, k: int, command: tuple[str, tuple[Any, ...]] | None = None) -> tuple[bool, Any]:
        """Restart a process, have it repeat the commands since the last checkpoint, then run `command` and return its reply."""
        who = f"The worker of seeds {', '.join(map(str, self.seeds[slice(*self.shards[k])]))}"
        for _ in range(MOST_RESTARTS):
            status = self._end(k)
            print(f"{who} died (status {status}); it restarts from the last checkpoint.", file=sys.stderr)
            try:
                self._start(k)
                self._hand_over(k)
                for earlier in self.replayed_commands:
                    self._send(k, *earlier)
                    _answer_of(self._receive(k))
                if command is None:
                    return True, None
                self._send(k, *command)
                return self._receive(k)
            except WorkerDied:
                continue
        raise RuntimeError(
            f"{who} died {MOST_RESTARTS + 1} times at the same point, probably because memory ran out: use fewer workers, fewer"
            " seeds or a smaller replay."
        )

    def _end(self, k: int) -> int:
        """Close the pipe of a process that has died or does not respond, and return its exit status."""
        self.pipes[k].close()
        return _wait(self.processes[k], time.monotonic() + CLOSE_SECONDS)

    def advance(self, steps: int) -> dict[str, torch.Tensor]:
        """Take `steps` more steps per seed in every process, as the loop's `advance` does."""
        answers = self._broadcast("advance", steps, remember=True)
        self.step, self.compiled = answers[0][1], max(seconds for _, _, seconds in answers)
        return _together([metrics for metrics, _, _ in answers])

    def compile_seconds(self) -> float:
        """Return the compile time of the process that has compiled for longest."""
        return self.compiled

    def metrics(self) -> dict[str, torch.Tensor]:
        return _together(self._broadcast("metrics"))

    def episodes(self) -> dict[str, torch.Tensor]:
        return _together(self._broadcast("episodes"))

    def reset_metrics(self) -> None:
        self._broadcast("reset_metrics", remember=True)

    def exploration(self) -> torch.Tensor:
        return torch.cat(self._broadcast("exploration"))

    def evaluate(self, episodes: int, step_limit: int | None) -> Evaluation:
        """Evaluate as `run.evaluate` does; every process evaluates its own seeds."""
        parts = self._broadcast("evaluate", episodes, step_limit)
        return joined(parts, self.seeds)

    def statistics(self) -> list[Statistics] | None:
        """Return the running statistics, as `run.statistics` does."""
        parts = self._broadcast("statistics")
        return None if None in parts else [own for part in parts for own in part]

    def diagnostics(self) -> Diagnostics:
        """Return the loop's diagnostics; the first seed is in the first process."""
        answers = self._broadcast("diagnostics")
        return Diagnostics(_together([answer.metrics for answer in answers]), answers[0].histograms)

    def state(self) -> dict[str, Any]:
        """Return the state of all seeds."""
        state: dict[str, Any] = merge(self._broadcast("state"))
        return state

    def sync_agent(self) -> None:
        """Update the run's agent with the state in the processes."""
        self.run.agent.load_state_dict(merge(self._broadcast("agent")))

    def on_checkpoint(self, path: Path) -> None:
        """Let processes that die from now on restart from this checkpoint."""
        self.checkpoint, self.replayed_commands = path, []
        self.initial_state = {}

    def close(self) -> None:
        """End all processes: busy ones are killed after CLOSE_SECONDS, and all of them immediately on an interrupt."""
        deadline = time.monotonic() + CLOSE_SECONDS
        for pipe in self.pipes.values():
            pipe.close()  # signals the worker to exit
        try:
            for process in self.processes.values():
                _wait(process, deadline)
        finally:
            for process in self.processes.values():
                process.kill()
                process.wait()


@contextlib.contextmanager
def sharded(run: Run, count: int | None) -> Iterator[None]:
    """Run the seeds in `count` processes inside the context; afterwards the run is as if it had taken the steps itself."""
    if count is None or count == 1 or len(run.seeds) == 1 or not run.local.loop.in_processes:
        yield
        return
    run.backend = workers = ProcessPool(run, count)
    try:
        yield
        run.local.restore(workers.state())
    finally:
        run.backend = run.local
        workers.close()


@contextlib.contextmanager
def _noticing_death() -> Iterator[None]:
    """Convert the exceptions of a broken pipe to WorkerDied; a truncated reply raises a plain OSError."""
    try:
        yield
    except (EOFError, OSError) as error:
        raise WorkerDied from error


def _answer_of(answer: tuple[bool, Any]) -> Any:
    good, found = answer
    if not good:
        raise found
    return found


def _wait(process: subprocess.Popen[bytes], deadline: float) -> int:
    """Wait for a process until `deadline`, then kill it; return its exit status."""
    try:
        return process.wait(timeout=max(deadline - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def split(tree: Any, first: int, end: int, n: int) -> Any:
    """Return the part of seeds first..end-1 of a state whose arrays and lists have n seeds (times a constant) as first axis."""
    if isinstance(tree, dict):
        return {key: split(part, first, end, n) for key, part in tree.items()}
    if isinstance(tree, (np.ndarray, list)):
        rows = len(tree) // n
        return tree[first * rows : end * rows]
    return tree


def merge(trees: list[Any]) -> Any:
    """Invert `split`. Arrays that are shorter along a later axis (a replay that is less full) are padded with zeros."""
    first = trees[0]
    if isinstance(first, dict):
        return {key: merge([tree[key] for tree in trees]) for key in first}
    if isinstance(first, list):
        return [item for tree in trees for item in tree]
    if not isinstance(first, np.ndarray):
        return first
    shape = np.max([tree.shape[1:] for tree in trees], axis=0, initial=0) if first.ndim > 1 else []
    return np.concatenate(
        [
            np.pad(tree, [(0, 0), *((0, int(want - have)) for want, have in zip(shape, tree.shape[1:], strict=True))])
            for tree in trees
        ]
    )


def _together(answers: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Join the metrics of groups of seeds into those of all seeds; NaN where a group lacks a metric that others have."""
    names = {name: None for answer in answers for name in answer}
    sizes = [len(next(iter(answer.values()))) if answer else 0 for answer in answers]
    missing = [torch.full((size,), torch.nan, dtype=torch.float64) for size in sizes]
    return {
        name: torch.cat([answer.get(name, nothing) for answer, nothing in zip(answers, missing, strict=True)])
        for name in names
    }
