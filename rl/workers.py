"""A run whose seeds are shared out over processes, each with one torch thread.

Seeds do not feel each other, so sharing them out changes no bit. Each process has a run of its own and does what it is
told: advance, evaluate, say where it is. One that dies is begun anew from the last checkpoint (or from where it was
handed its seeds) and does again what it had been told since.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from envs.running import Statistics
from envs.source import Source, source
from rl.agents.deep import DeepAgent
from rl.evaluate import Evaluation, joined
from rl.run import Run
from supervised import checkpoint

MOST_DEATHS = 3  # of one process, one after another, without anything done between


class Workers:
    """Stands in for the loop of a run: the same calls, carried out in processes."""

    def __init__(self, run: Run, count: int) -> None:
        if run.where.vector is not None:
            raise ValueError(
                f"workers={count}: the rows of a VectorEnv cannot be shared out over processes. Give an id or a function."
            )
        if sys.platform == "win32":
            raise ValueError(f"workers={count}: sharing seeds out over processes needs a POSIX system. Use workers=1.")
        self.run, self.seeds, self.envs_per_seed = run, run.seeds, run.envs_per_seed
        self.step = run.step
        self.began = run.state()  # what the processes start from
        self.checkpoint: Path | None = None  # what they start from once it is written
        self.since: list[tuple[str, tuple[Any, ...]]] = []  # what they were told after that
        places = [part.tolist() for part in np.array_split(np.arange(len(run.seeds)), min(count, len(run.seeds)))]
        self.shards = [(part[0], part[-1] + 1) for part in places]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.pipes: list[Connection[Any, Any]] = []
        for k in range(len(self.shards)):
            process, pipe = self._start(k)
            self.processes.append(process)
            self.pipes.append(pipe)
        for k in range(len(self.shards)):
            self._hand_over(k)

    def _start(self, k: int) -> tuple[subprocess.Popen[bytes], Connection[Any, Any]]:
        mine, theirs = Pipe()
        paths = [str(Path(part).resolve()) if part else os.getcwd() for part in sys.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        code = f"from rl.workers import serve; serve({theirs.fileno()})"
        process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()], env=environment)
        theirs.close()
        return process, mine

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
            data = cloudpickle.dumps((*payload, str(getattr(self.run.agent, "device", "auto")), part))
        except Exception as error:  # whatever pickling a user's objects may raise
            raise ValueError(f"workers: the environment or the agent cannot be sent to a process: {error}") from error
        self.pipes[k].send_bytes(data)
        self._answer(k)

    def _tell(self, command: str, *arguments: Any, remember: bool = False) -> list[Any]:
        """Have all processes do something -> their answers."""
        dead = []
        for k in range(len(self.shards)):
            try:
                _send(self.pipes[k], (command, arguments))
            except (BrokenPipeError, ConnectionResetError):
                dead.append(k)
        answers: list[Any] = []
        for k in range(len(self.shards)):
            try:
                if k in dead:
                    raise EOFError
                answers.append(self._answer(k))
            except (EOFError, ConnectionResetError):
                answers.append(self._revive(k, command, arguments))
        if remember:
            self.since.append((command, arguments))
        return answers

    def _answer(self, k: int) -> Any:
        good, found = _receive(self.pipes[k])
        if not good:
            raise found
        return found

    def _revive(self, k: int, command: str, arguments: tuple[Any, ...]) -> Any:
        """Begin a process anew, and have it do all that it had done since the last checkpoint, and this."""
        for _ in range(MOST_DEATHS):
            status = self.processes[k].wait()
            print(
                f"The worker of seeds {', '.join(map(str, self.seeds[slice(*self.shards[k])]))} died (status {status}); it is"
                " begun anew from where it was last saved.",
                file=sys.stderr,
            )
            self.pipes[k].close()
            self.processes[k], self.pipes[k] = self._start(k)
            try:
                self._hand_over(k)
                for told, with_ in self.since:
                    _send(self.pipes[k], (told, with_))
                    self._answer(k)
                _send(self.pipes[k], (command, arguments))
                return self._answer(k)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                continue
        raise RuntimeError(
            f"The worker of seeds {', '.join(map(str, self.seeds[slice(*self.shards[k])]))} died {MOST_DEATHS} times at the same"
            " place. Most often that is for want of memory: take fewer workers, fewer seeds or a smaller replay."
        )

    def advance(self, steps: int) -> dict[str, torch.Tensor]:
        """As the loop's: every process takes these steps."""
        answers = self._tell("advance", steps, remember=True)
        self.step = answers[0][0]
        return _together([metrics for _, metrics in answers])

    def metrics(self) -> dict[str, torch.Tensor]:
        return _together(self._tell("metrics"))

    def episodes(self) -> dict[str, torch.Tensor]:
        return _together(self._tell("episodes"))

    def logged(self) -> None:
        self._tell("logged", remember=True)

    def evaluate(self, episodes: int, step_limit: int | None) -> Evaluation:
        """As `run.evaluate`: every process evaluates its own seeds."""
        parts = self._tell("evaluate", episodes, step_limit)
        return joined(parts, self.seeds)

    def statistics(self) -> list[Statistics] | None:
        """As `run.statistics`."""
        parts = self._tell("statistics")
        return None if None in parts else [own for part in parts for own in part]

    def look(self) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
        """As the loop's; the first seed is in the first process."""
        answers = self._tell("look")
        return _together([found for found, _ in answers]), answers[0][1]

    def state(self) -> dict[str, Any]:
        """Where all seeds are, as `run.state`."""
        state: dict[str, Any] = merge(self._tell("state"))
        return state

    def fetch_agent(self) -> None:
        """Bring the run's own agent up to date."""
        self.run.agent.load_state_dict(merge(self._tell("agent")))

    def saved(self, path: Path) -> None:
        """From now on a process that died is begun anew from this checkpoint."""
        self.checkpoint, self.since = path, []
        self.began = {}

    def close(self) -> None:
        """Let the processes go."""
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def shared(run: Run, count: int | None) -> Iterator[None]:
    """Have `count` processes take the steps of a run meanwhile; afterwards it is as if it had taken them itself."""
    if count is None or count == 1 or len(run.seeds) == 1 or not isinstance(run.agent, DeepAgent):
        yield
        return
    own = run.loop
    workers = Workers(run, count)
    run.loop = workers  # type: ignore[assignment]  # it stands in for the loop
    try:
        yield
        state = workers.state()
        run.loop = own
        run.agent.load_state_dict(state["agent"])
        own.load_state_dict(state["loop"])
    finally:
        run.loop = own
        workers.close()


def serve(descriptor: int) -> None:
    """What a process does: take seeds, then commands, until nobody is there any more."""
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever started it decides
        signal.signal(number, signal.SIG_IGN)
    pipe: Connection[Any, Any] = Connection(descriptor)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        data = pipe.recv_bytes()
        try:
            torch.set_num_threads(1)
            (described, made), description, seeds, envs_per_seed, horizon, device, state = pickle.loads(data)
            with warnings.catch_warnings():  # whoever started it has told them already
                warnings.simplefilter("ignore")
                run = Run(_source(described, made), description, seeds, envs_per_seed, horizon, None, device)
            run.agent.load_state_dict(state["agent"])
            run.loop.load_state_dict(state["loop"])
        except Exception as error:  # all of it goes to whoever asked, and is raised there
            _send(pipe, (False, _sendable(error)))
            return
        commands = {
            "advance": lambda steps: (run.advance(steps), run.step)[::-1],
            "metrics": run.loop.metrics,
            "episodes": run.episodes,
            "logged": run.loop.logged,
            "evaluate": run.evaluate,
            "statistics": run.statistics,
            "look": run.loop.look,  # type: ignore[union-attr]  # a network's loop
            "state": run.state,
            "agent": run.agent.state_dict,
        }
        _send(pipe, (True, None))
        while True:
            command, arguments = _receive(pipe)
            try:
                answer = True, commands[command](*arguments)
            except Exception as error:  # likewise
                answer = False, _sendable(error)
            _send(pipe, answer)


def _send(pipe: Connection[Any, Any], message: Any) -> None:
    # Not pipe.send: torch has taught that one to hand tensors over by other ways, which these processes do not share.
    pipe.send_bytes(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))


def _sendable(error: Exception) -> Exception:
    """The error itself, or, where it cannot be sent, one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever a user's error does when it is pickled
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _receive(pipe: Connection[Any, Any]) -> Any:
    return pickle.loads(pipe.recv_bytes())


def _source(described: dict[str, Any] | None, made: Any) -> Source:
    """The environment: by its id and settings, entered into Gymnasium's registry if it is not there; or what a function makes."""
    if described is None:
        return source(made)
    if made is not None:
        gym.registry.setdefault(described["id"], made)
    return source(described["id"], described["kwargs"])


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
