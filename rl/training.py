"""The training loop, with logging, evaluation and checkpoints: `train` runs it to the end, `iterate` step by step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from envs.source import EnvLike
from rl.core import compiling
from rl.core.registry import AgentConfig
from rl.deep.agent import NotFinite
from rl.report.tensorboard import Report
from rl.run.open import folder, opened
from rl.run.processes import check_workers, sharded
from rl.run.run import Run, check_steps
from supervised import checkpoint
from supervised.session import RUN as CHECKPOINT
from supervised.session import Cadences, Session, say
from supervised.validate import ArgumentError, flag, function, integer, optional, shown

BAD_BATCH = "not_finite.safetensors"
STOP: Literal["stop"] = "stop"

Metrics = Mapping[str, np.ndarray]  # by tag, float64 [N]
OnLog = Callable[[Run, Metrics], Literal["stop"] | None]


def train(
    env: EnvLike | Run,
    agent: AgentConfig | None = None,
    steps: int | None = None,
    seeds: int | Iterable[int] = 1,
    *,
    envs_per_seed: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    logdir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    env_kwargs: Mapping[str, Any] | None = None,
    log_every_steps: int | None = None,
    evaluate_every_steps: int | None = None,
    save_every_steps: int | None = None,
    videos: bool = False,
    on_log: OnLog | None = None,
) -> Run:
    """Train N seeds in lockstep and return the run.

    env: a Gymnasium id, an EnvSpec, a function that returns a new gym.Env, or a VectorEnv of N * E rows; or a run, which is
    continued in place up to `steps`. agent: a config such as rl.QLearning(). steps: the total number of environment steps per
    seed. seeds: a count (0..n-1), a list or a range. envs_per_seed: the number of environments per seed; None: that of the
    config, or one. workers: the number of threads (tabular agents with a known environment model; None: one per core) or
    processes (networks on the CPU; None: one) among which the seeds are distributed. logdir: the folder for curves and
    checkpoints; None: nothing is written. resume: continue from logdir's newest complete checkpoint, or start if there is none;
    only steps, progress, workers, device and the cadences may differ from the saved run. progress: show a progress bar. The
    three cadences are in environment steps per seed; None: 100 points of the curves and 10 checkpoints over the run. videos: with
    each checkpoint, record an animated GIF of one greedy episode for TensorBoard's Images tab. on_log: a function of (run,
    metrics), called at each point of the curves with the logged metrics, float64 [N] by tag, NaN for seeds without a value; it
    may return "stop" to end the training as if `steps` were reached. If it raises an exception, the run is saved to logdir first.

    Ctrl-C (or SIGTERM) saves to logdir, prints how to resume and raises KeyboardInterrupt.
    """
    given = {"log": log_every_steps, "evaluate": evaluate_every_steps, "save": save_every_steps}
    plan = _checked(steps, given, workers, videos, progress, on_log is not None)
    if on_log is not None:
        function(on_log, "on_log", ("run", "metrics"), "a function of (run, metrics), or None")
    settings = {"envs_per_seed": envs_per_seed, "workers": workers, "device": device, "env_kwargs": env_kwargs}
    resume = flag(resume, "resume")
    with Session(folder(env, logdir), CHECKPOINT) as session:
        run = opened(env, agent, plan.steps, seeds, session, resume, settings)
        with contextlib.closing(_points(run, session, plan)) as points:
            next(points, None)
            for metrics in points:
                if on_log is not None and _stops(on_log(run, metrics)):
                    break
    return run


def iterate(
    env: EnvLike | Run,
    agent: AgentConfig | None = None,
    steps: int | None = None,
    seeds: int | Iterable[int] = 1,
    *,
    envs_per_seed: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    logdir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    env_kwargs: Mapping[str, Any] | None = None,
    log_every_steps: int | None = None,
    evaluate_every_steps: int | None = None,
    save_every_steps: int | None = None,
    videos: bool = False,
) -> Training:
    """Return the loop of `train` as an iterator of (run, metrics): the logged metrics, float64 [N] by tag, at each point.

    The arguments, curves, checkpoints, evaluation, the lock on logdir, Ctrl-C and `resume` are the same as for `train`. The call
    itself checks the arguments and opens the folder, without taking a step. `break` saves the run and releases the folder once
    the iterator is garbage-collected; if a variable refers to it, close it explicitly (`contextlib.closing`).
    """
    given = {"log": log_every_steps, "evaluate": evaluate_every_steps, "save": save_every_steps}
    plan = _checked(steps, given, workers, videos, progress, True)
    settings = {"envs_per_seed": envs_per_seed, "workers": workers, "device": device, "env_kwargs": env_kwargs}
    resume = flag(resume, "resume")

    def iterated() -> Generator[tuple[Run, Metrics]]:
        with Session(folder(env, logdir), CHECKPOINT) as session:
            run = opened(env, agent, plan.steps, seeds, session, resume, settings)
            with contextlib.closing(_points(run, session, plan)) as points:
                yield run, next(points, {})
                for metrics in points:
                    yield run, metrics

    return Training(iterated())


class Training:
    """The iterator of (run, metrics) that `iterate` returns. `run` is the run, even if no steps are left."""

    def __init__(self, points: Generator[tuple[Run, Metrics]]) -> None:
        self._points = points
        self.run, _ = next(points)

    def __iter__(self) -> Training:
        return self

    def __next__(self) -> tuple[Run, Metrics]:
        return next(self._points)

    def close(self) -> None:
        """End the training and save the run."""
        self._points.close()


class _Plan(NamedTuple):
    """The checked arguments of the training loop."""

    steps: int
    cadence: dict[str, int]
    workers: int | None
    videos: bool
    progress: bool
    observed: bool  # whether on_log or an iterator receives the metrics


def _checked(steps: Any, given: Mapping[str, Any], workers: Any, videos: Any, progress: Any, observed: bool) -> _Plan:
    if steps is None:
        raise ValueError("steps is missing: give the total number of environment steps per seed.")
    steps = check_steps(steps)
    videos, progress = flag(videos, "videos"), flag(progress, "progress")
    cadence = {name: check_steps(every, f"{name}_every_steps") for name, every in given.items() if every is not None}
    return _Plan(steps, cadence, workers, videos, progress, observed)


def _points(run: Run, session: Session, plan: _Plan) -> Generator[Metrics]:
    """Train a run up to `plan.steps`: yield {} after all checks, then the logged metrics at each point of the curves.

    Closing the iterator ends the training: the run is saved, and all seeds are back in this process.
    """
    steps = plan.steps
    check_workers(run.agent, optional(integer, plan.workers, "workers", 1))
    run.cadence |= plan.cadence
    run.logdir = session.folder
    if run.step >= steps:
        say(f"The run already has {run.step:,} steps, and steps={steps:,} is the total: no more steps are taken.")
        if session.folder is None or (run.curves and not session.fell_back):
            return
    cadences = _cadences(run)
    report = Report(run, session, plan.videos, plan.progress, plan.observed)
    yield {}
    with contextlib.ExitStack() as around:
        bar = around.enter_context(session.running(report.label, steps, run.step, plan.progress))
        around.enter_context(compiling.notifying(lambda: bar.show(run.step, "compiling (once)")))
        around.enter_context(sharded(run, plan.workers))
        report.start_clock()
        while run.step < steps and not session.interrupted:
            before = run.step
            with _keeping_batches(session.folder):
                metrics = run.advance(min(cadences.next(before), steps) - before)
            report.count()
            if cadences.due("log", before, run.step):
                report.log(metrics)
            if cadences.due("evaluate", before, run.step):
                report.evaluate(bar.shown)
            if cadences.due("save", before, run.step):
                report.inspect()
                report.save()
            bar.show(run.step, report.text())
            if report.logged:
                run.backend.sync_agent()
                try:
                    yield report.handed_over()
                except GeneratorExit:
                    break
    report.save()
    if session.interrupted:
        session.stop(f"at step {run.step:,} of {steps:,}")


def _stops(answer: object) -> bool:
    """Return whether on_log ends the training. Raises ArgumentError for a result that is neither None nor "stop"."""
    if answer is not None and answer != STOP:
        raise ArgumentError(f'on_log must return None to continue, or "stop" to end the training, not {shown(answer)}.')
    return answer is not None


def _cadences(run: Run) -> Cadences:
    """Return the numbers of environment steps between logs, evaluations and checkpoints."""
    log = max(run.horizon_steps // 100, 1)
    evaluate = log if run.exact is not None else max(run.horizon_steps // 20, 1)
    return Cadences({"log": log, "evaluate": evaluate, "save": max(run.horizon_steps // 10, 1), **run.cadence})


@contextlib.contextmanager
def _keeping_batches(folder: Path | None) -> Iterator[None]:
    """On NotFinite, save the batch that caused it to the run's folder."""
    try:
        yield
    except NotFinite as error:
        if folder is None:
            raise
        arrays = {name: _arrays(part) for name, part in error.batch._asdict().items() if part is not None}
        checkpoint.save(folder / BAD_BATCH, arrays, {"kind": "batch"}, keep=False)
        raise NotFinite(f"{error} The batch was saved to {folder / BAD_BATCH}.", error.batch) from None


def _arrays(part: Any) -> Any:
    return {key: _arrays(item) for key, item in part.items()} if isinstance(part, dict) else part.detach().cpu().numpy()
