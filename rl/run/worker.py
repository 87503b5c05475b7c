"""The worker process of `rl.run.processes`: it receives its seeds, then executes commands until the pipe is closed."""

from __future__ import annotations

import contextlib
import pickle
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
import torch

from envs.ids import find
from envs.source import Source, from_description, source
from rl.run.run import Run

# The process runs this before the imports, which take seconds. Interrupts are left to the parent. If the parent dies, the kernel
# kills the worker even if it is busy or stopped; on other systems than Linux a thread polls the parent.
BOOT = """
import ctypes, os, signal, sys, threading, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
descriptor, parent = map(int, sys.argv[1:])
def watch():
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
PR_SET_PDEATHSIG = 1
if sys.platform != "linux" or ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL)):
    threading.Thread(target=watch, daemon=True).start()
elif os.getppid() != parent:
    os._exit(1)
from rl.run.worker import serve
serve(descriptor)
"""


def serve(descriptor: int) -> None:
    """Execute the commands from the pipe of a file descriptor, replying with (True, result) or (False, exception)."""
    pipe: Connection[Any, Any] = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):
        data = pipe.recv_bytes()
        try:
            torch.set_num_threads(1)
            (described, made), config, seeds, envs_per_seed, horizon, device, state = pickle.loads(data)
            with warnings.catch_warnings():  # the parent has already issued them
                warnings.simplefilter("ignore")
                run = Run(_source(described, made), config, seeds, envs_per_seed, horizon, None, device)
            run.local.restore(state)
            run.backend.compile_seconds()  # starts counting
        except Exception as error:  # sent to the parent and raised there
            send(pipe, (False, _sendable(error)))
            return
        commands: dict[str, Callable[..., Any]] = {
            "advance": lambda steps: (run.backend.advance(steps), run.step, run.backend.compile_seconds()),
            "metrics": run.backend.metrics,
            "episodes": run.backend.episodes,
            "exploration": run.backend.exploration,
            "reset_metrics": run.backend.reset_metrics,
            "evaluate": run.evaluate,
            "statistics": run.statistics,
            "diagnostics": run.backend.diagnostics,
            "state": run.backend.state,
            "agent": run.agent.state_dict,
        }
        send(pipe, (True, None))
        while True:
            command, arguments = receive(pipe)
            try:
                answer = True, commands[command](*arguments)
            except Exception as error:  # likewise
                answer = False, _sendable(error)
            send(pipe, answer)


def send(pipe: Connection[Any, Any], message: Any) -> None:
    """Send a message that `receive` returns at the other end."""
    # Not pipe.send: torch registers reducers for it that send tensors through shared memory, which these processes do not use.
    pipe.send_bytes(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))


def receive(pipe: Connection[Any, Any]) -> Any:
    """Return the next message, once it has arrived. Raises EOFError if the other end is closed."""
    return pickle.loads(pipe.recv_bytes())


def _sendable(error: Exception) -> Exception:
    """Return the error, or a RuntimeError with the same text if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # pickling a user-defined error may raise anything
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            plain.add_note(note)
        return plain
    return error


def _source(described: dict[str, Any] | None, made: Any) -> Source:
    """Return the environment from its config, registering its id if needed, or from a function."""
    if described is None:
        return source(made)
    if made is not None:
        gym.registry.setdefault(described["id"], made)
    find(described["id"])  # imports the module that "module:id" names
    return from_description(described)
