"""Training: one loop, with logging, evaluation and saving in plain sight."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from envs.source import EnvLike
from rl.core.registry import Description
from rl.deep.agent import NotFinite
from rl.report.tensorboard import Report
from rl.run.open import folder, opened
from rl.run.processes import check_workers, shared
from rl.run.run import Run, check_steps
from supervised import checkpoint
from supervised.session import RUN as CHECKPOINT
from supervised.session import Cadences, Session, say
from supervised.validate import flag, integer, optional

BAD_BATCH = "not_finite.safetensors"


def train(
    env: EnvLike | Run,
    agent: Description | None = None,
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
) -> Run:
    """Train N seeds at once -> the run.

    env: a Gymnasium id, an EnvSpec, a function that returns a new gym.Env, or a VectorEnv of N * E rows; or a run, which
    then goes on, in place, to `steps` in all. agent: a description such as rl.QLearning(). steps: environment steps in
    all, for each seed. seeds: a count (0..n-1), a list or a range. envs_per_seed: environments that each seed acts in; None:
    as many as the description says, else one. workers: how many threads (tables, where the environment's model is known;
    None: as many as there are cores) or processes (networks on the CPU; None: one) share out the seeds. logdir: where
    curves and checkpoints go; None: nowhere. resume: go on from logdir's newest whole checkpoint, or start if there is none;
    only steps, progress, workers, device and the cadences may differ from what was saved.
    progress: a bar on the terminal. The three cadences are in environment steps a seed; None: 100 points of the curves,
    and 10 checkpoints, over the run. videos: with each checkpoint an animated GIF of one greedy episode, in TensorBoard's
    Images tab.

    Ctrl-C (or SIGTERM) saves to logdir, says how to go on and raises KeyboardInterrupt.
    """
    if steps is None:
        raise ValueError("steps is missing: how many environment steps shall each seed take, in all?")
    steps = check_steps(steps)
    resume, progress, videos = flag(resume, "resume"), flag(progress, "progress"), flag(videos, "videos")
    given = {"log": log_every_steps, "evaluate": evaluate_every_steps, "save": save_every_steps}
    cadence = {name: check_steps(every, f"{name}_every_steps") for name, every in given.items() if every is not None}
    settings = {"envs_per_seed": envs_per_seed, "workers": workers, "device": device, "env_kwargs": env_kwargs}
    with Session(folder(env, logdir), CHECKPOINT) as session:
        run = opened(env, agent, steps, seeds, session, resume, settings)
        check_workers(run.agent, optional(integer, workers, "workers", 1))
        run.cadence |= cadence
        run.logdir = session.folder
        if run.step >= steps:
            say(
                f"The run has {run.step:,} steps already; steps={steps:,} counts from its beginning: no more are taken."
            )
            if session.folder is None or (run.curves and not session.fell_back):
                return run
        cadences = _cadences(run)
        report = Report(run, session, videos, progress)
        with session.running(report.label, steps, run.step, progress) as bar, shared(run, workers):
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
        report.save()
        if session.interrupted:
            session.stop(f"at step {run.step:,} of {steps:,}")
    return run


def _cadences(run: Run) -> Cadences:
    """Environment steps between two logs, evaluations and checkpoints."""
    log = max(run.horizon_steps // 100, 1)
    evaluate = log if run.exact is not None else max(run.horizon_steps // 20, 1)
    return Cadences({"log": log, "evaluate": evaluate, "save": max(run.horizon_steps // 10, 1), **run.cadence})


@contextlib.contextmanager
def _keeping_batches(folder: Path | None) -> Iterator[None]:
    """Where a number is NaN or infinite, keep the batch that it came from in the run's folder."""
    try:
        yield
    except NotFinite as error:
        if folder is None:
            raise
        arrays = {name: _arrays(part) for name, part in error.batch._asdict().items() if part is not None}
        checkpoint.save(folder / BAD_BATCH, arrays, {"kind": "batch"}, keep=False)
        raise NotFinite(f"{error} The batch lies in {folder / BAD_BATCH}.", error.batch) from None


def _arrays(part: Any) -> Any:
    return {key: _arrays(item) for key, item in part.items()} if isinstance(part, dict) else part.detach().cpu().numpy()
