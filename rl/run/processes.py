"""A run whose seeds are shared out over processes, each with one torch thread.

Seeds do not affect each other, so sharing them out changes no bit. Each worker process has a run of its own and carries out
commands (`rl.run.worker`). A worker that dies, at whatever moment, is restarted from the last checkpoint (or from where it was
given its seeds) and repeats the commands since.
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

MOST_RESTARTS = 3  # of one worker in a row, without anything done in between
CLOSE_SECONDS = 5.0  # after which a worker that does not end by itself is killed
LOOK_SECONDS = 1.0  # between two looks at whether a silent worker is alive


def check_workers(agent: LiveAgent, count: int | None) -> None:
    """Raise ValueError where the seeds of an agent cannot be shared out over `count` processes."""
    device = agent.device
    if count is not None and count > 1 and len(agent.seeds) > 1 and device.type != "cpu":
        raise ValueError(
            f"workers={count}: processes would share one GPU by turns, each with memory of its own for it, and all seeds are"
            f' computed there at once as it is. Use workers=1, or device="cpu" instead of {str(device)!r}.'
        )


class WorkerDied(Exception):
    """The process at the other end of a pipe is gone."""


class Workers:
    """A backend (see `rl.core.protocols`) whose calls are carried out in processes."""

    def __init__(self, run: Run, count: int) -> None:
        """Start `count` processes (at most one a seed). Raises ValueError where they cannot take over the run's seeds."""
        if run.where.vector is not None:
            raise ValueError(
                f"workers={count}: the rows of a VectorEnv cannot be shared out over processes. Give an id or a function."
            )
        if sys.platform == "win32":
            raise ValueError(f"workers={count}: sharing seeds out over processes needs a POSIX system. Use workers=1.")
        check_workers(run.agent, count)
        self.run, self.seeds, self.envs_per_seed = run, run.seeds, run.envs_per_seed
        self.step, self.compiled = run.step, 0.0
        self.began = run.backend.state()  # what the processes start from
        self.checkpoint: Path | None = None  # what they start from once it is written
        self.since: list[tuple[str, tuple[Any, ...]]] = []  # the commands after that
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
                raise RuntimeError(f"workers: a process could not be started: {error}. Take fewer workers.") from error

    def _hand_over(self, k: int) -> None:
        """Give a process its seeds, and where they are."""
        import cloudpickle

        first, end = self.shards[k]
        where = self.run.where
        spec = gym.registry.get(where.description["id"]) if where.description else None
        payload = (
            (where.description, spec) if where.description else (None, where.maker),
            *(self.run.description, self.seeds[first:end], self.envs_per_seed, self.run.horizon_steps),
        )
        state = self.began if self.checkpoint is None else checkpoint.load(self.checkpoint)[0]
        part = split({name: state[name] for name in ("agent", "loop")}, first, end, len(self.seeds))
        try:
            data = cloudpickle.dumps((*payload, str(self.run.agent.device), part))
        except Exception as error:  # whatever pickling a user's objects may raise
            raise ValueError(f"workers: the environment or the agent cannot be sent to a process: {error}") from error
        with _noticing_death():
            self.pipes[k].send_bytes(data)
        _answer_of(self._receive(k))

    def _send(self, k: int, command: str, arguments: tuple[Any, ...]) -> None:
        with _noticing_death():
            send(self.pipes[k], (command, arguments))

    def _receive(self, k: int) -> tuple[bool, Any]:
        """A process's next answer: (True, what was asked for) or (False, an exception). Raises WorkerDied."""
        with _noticing_death():
            # A process that the worker itself started may hold its end of the pipe open; so the pipe alone is no proof.
            while not self.pipes[k].poll(LOOK_SECONDS):
                if self.processes[k].poll() is not None and not self.pipes[k].poll(0):
                    raise WorkerDied
            good, found = receive(self.pipes[k])
        return good, found

    def _tell(self, command: str, *arguments: Any, remember: bool = False) -> list[Any]:
        """Have all processes carry out a command -> their answers. Raises the first exception that one of them answers."""
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
        found = [_answer_of(answer) for answer in answers]  # not before each pipe is read empty
        if remember:
            self.since.append((command, arguments))
        return found

    def _restart(self, k: int, command: tuple[str, tuple[Any, ...]] | None = None) -> tuple[bool, Any]:
        """Start a process anew and have it repeat all since the last checkpoint, then this command -> its answer."""
        who = f"The worker of seeds {', '.join(map(str, self.seeds[slice(*self.shards[k])]))}"
        for _ in range(MOST_RESTARTS):
            status = self._end(k)
            print(f"{who} died (status {status}); it restarts from where it was last saved.", file=sys.stderr)
            try:
                self._start(k)
                self._hand_over(k)
                for told in self.since:
                    self._send(k, *told)
                    _answer_of(self._receive(k))
                if command is None:
                    return True, None
                self._send(k, *command)
                return self._receive(k)
            except WorkerDied:
                continue
        raise RuntimeError(
            f"{who} died {MOST_RESTARTS + 1} times at the same place. Most often that is for want of memory: take fewer"
            " workers, fewer seeds or a smaller replay."
        )

    def _end(self, k: int) -> int:
        """Let go of a process that has died, or that no longer answers -> its status."""
        self.pipes[k].close()
        return _wait(self.processes[k], time.monotonic() + CLOSE_SECONDS)

    def advance(self, steps: int) -> dict[str, torch.Tensor]:
        """As the loop's: every process takes these steps."""
        answers = self._tell("advance", steps, remember=True)
        self.step, self.compiled = answers[0][1], max(seconds for _, _, seconds in answers)
        return _together([metrics for metrics, _, _ in answers])

    def compile_seconds(self) -> float:
        """That of the process that has compiled for longest."""
        return self.compiled

    def metrics(self) -> dict[str, torch.Tensor]:
        return _together(self._tell("metrics"))

    def episodes(self) -> dict[str, torch.Tensor]:
        return _together(self._tell("episodes"))

    def reset_metrics(self) -> None:
        self._tell("reset_metrics", remember=True)

    def exploration(self) -> torch.Tensor:
        return torch.cat(self._tell("exploration"))

    def evaluate(self, episodes: int, step_limit: int | None) -> Evaluation:
        """As `run.evaluate`: every process evaluates its own seeds."""
        parts = self._tell("evaluate", episodes, step_limit)
        return joined(parts, self.seeds)

    def statistics(self) -> list[Statistics] | None:
        """As `run.statistics`."""
        parts = self._tell("statistics")
        return None if None in parts else [own for part in parts for own in part]

    def diagnostics(self) -> Diagnostics:
        """As the loop's; the first seed is in the first process."""
        answers = self._tell("diagnostics")
        return Diagnostics(_together([answer.metrics for answer in answers]), answers[0].histograms)

    def state(self) -> dict[str, Any]:
        """Where all seeds are."""
        state: dict[str, Any] = merge(self._tell("state"))
        return state

    def sync_agent(self) -> None:
        """Bring the run's own agent up to date."""
        self.run.agent.load_state_dict(merge(self._tell("agent")))

    def on_checkpoint(self, path: Path) -> None:
        """From now on a process that died restarts from this checkpoint."""
        self.checkpoint, self.since = path, []
        self.began = {}

    def close(self) -> None:
        """End all processes: those that are busy are killed after CLOSE_SECONDS, and all of them at once on an interrupt."""
        deadline = time.monotonic() + CLOSE_SECONDS
        for pipe in self.pipes.values():
            pipe.close()  # which tells a worker to end
        try:
            for process in self.processes.values():
                _wait(process, deadline)
        finally:
            for process in self.processes.values():
                process.kill()
                process.wait()


@contextlib.contextmanager
def shared(run: Run, count: int | None) -> Iterator[None]:
    """Have `count` processes take the steps of a run meanwhile; afterwards it is as if it had taken them itself."""
    if count is None or count == 1 or len(run.seeds) == 1 or not run.local.loop.in_processes:
        yield
        return
    run.backend = workers = Workers(run, count)
    try:
        yield
        run.local.restore(workers.state())
    finally:
        run.backend = run.local
        workers.close()


@contextlib.contextmanager
def _noticing_death() -> Iterator[None]:
    """Turn what a broken pipe raises into WorkerDied. An answer that was cut off raises a plain OSError."""
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
    """Wait for a process, and from `deadline` on kill it -> its status."""
    try:
        return process.wait(timeout=max(deadline - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def split(tree: Any, first: int, end: int, n: int) -> Any:
    """The part of seeds first..end-1 of a state in which all arrays and lists begin with the n seeds (times something)."""
    if isinstance(tree, dict):
        return {key: split(part, first, end, n) for key, part in tree.items()}
    if isinstance(tree, (np.ndarray, list)):
        rows = len(tree) // n
        return tree[first * rows : end * rows]
    return tree


def merge(trees: list[Any]) -> Any:
    """The opposite of `split`. Arrays that are shorter on a later axis (a replay less full) are filled up with zeros."""
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
    """Metrics of some seeds each -> those of all; NaN for seeds that have not one that others have."""
    names = {name: None for answer in answers for name in answer}
    sizes = [len(next(iter(answer.values()))) if answer else 0 for answer in answers]
    missing = [torch.full((size,), torch.nan, dtype=torch.float64) for size in sizes]
    return {
        name: torch.cat([answer.get(name, nothing) for answer, nothing in zip(answers, missing, strict=True)])
        for name in names
    }
