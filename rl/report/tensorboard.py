"""The report of a run during training, in TensorBoard and on the terminal."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from rl.core import registry
from rl.core.evaluate import STEP_LIMIT
from rl.report import pictures
from rl.run.run import Run
from supervised.fitting import inspect
from supervised.logger import Logger
from supervised.session import RUN as CHECKPOINT
from supervised.session import Session, say
from supervised.statistics import SHARE, Range, aggregate

REPLAY_NOTICE_BYTES = 500_000_000  # the memory of larger replays is printed
EVALUATION_EPISODES = 10
BANDS = {
    "mean return of the greedy policy": "eval/mean_reward",
    "gap to the exact optimum": "eval/optimality_gap",
    "success of the greedy policy": "eval/success_rate",
    "return while exploring": "rollout/ep_rew_mean",
}


class Report:
    """Logs, evaluates, shows and saves a run. Without a logdir nothing is written.

    Without a logdir, a progress bar or a listener (`heard`) nothing is evaluated either.
    """

    def __init__(self, run: Run, session: Session, videos: bool, progress: bool, heard: bool = False) -> None:
        """Set up the report. Raises ValueError for videos of an environment that cannot be rendered."""
        self.run, self.videos, self.heard = run, videos, heard
        self.logged: dict[str, np.ndarray] = {}  # the current point of the curves by tag, float64 [N]
        if videos:
            pictures.make_render_env(run).close()
        self.logger = session.log(run.curves, run.step, self._describe, self._save)
        memory = run.local.loop.memory_bytes
        if progress and memory > REPLAY_NOTICE_BYTES:
            say(f"The replay takes {memory / 1e9:.1f} GB when full.")
        self.label = f"{len(run.seeds)} seed{'s' * (len(run.seeds) > 1)}"
        self.evaluates = (self.logger is not None or progress or heard) and _can_evaluate(run)
        self.result = math.nan  # mean success or return of the last evaluation
        self.start_clock()

    def start_clock(self) -> None:
        """Start measuring steps per second."""
        self.began, self.begun_at = time.perf_counter(), self.run.step
        self.compiled_before = self.run.backend.compile_seconds()

    def text(self) -> str:
        """Return the text after the progress bar."""
        known = self.run.model is not None and self.run.model.success is not None
        result = "" if math.isnan(self.result) else f"  {'success' if known else 'return'} {self.result:.3f}"
        return f"{self.run.steps_per_second:,.0f} steps/s{' in all' * (len(self.run.seeds) > 1)}{result}"

    def count(self) -> None:
        """Update the steps per second."""
        run, elapsed = self.run, time.perf_counter() - self.began
        run.compile_seconds = run.backend.compile_seconds() - self.compiled_before
        run.steps_per_second = (run.step - self.begun_at) * len(run.seeds) / max(elapsed - run.compile_seconds, 1e-9)

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Write the training metrics and start a new interval."""
        if self.logger is not None or self.heard:
            everything = {**metrics, **self.run.episodes()}
            self._log(everything, {"time/fps": self.run.steps_per_second})
        self.run.backend.reset_metrics()

    def evaluate(self, shown: bool) -> None:
        """Evaluate the greedy policies if the result is logged, shown or passed to a listener.

        shown: whether there is a progress bar.
        """
        if self.evaluates and (self.logger is not None or shown or self.heard):
            together = self._log(evaluation(self.run))
            self.result = together.get("eval/success_rate", together.get("eval/mean_reward", math.nan))

    def handed_over(self) -> dict[str, np.ndarray]:
        """What was logged since the last call, float64 [N] by tag."""
        logged, self.logged = self.logged, {}
        return logged

    def _log(self, metrics: Mapping[str, Any], extra: Mapping[str, float] | None = None) -> dict[str, float]:
        """Write metrics [N] for each seed and their means, with an interval for those drawn as bands -> the means."""
        run, logger = self.run, self.logger
        arrays, together = aggregate(metrics, () if logger is None else BANDS.values(), _ranges(run, logger))
        together |= extra or {}
        if self.heard:
            self.logged |= arrays
        if logger is not None:
            logger.scalars(run.step, together)
            logger.seeds(run.step, arrays, run.seeds)
        return together

    def inspect(self) -> None:
        """Write pictures of the agent, diagnostics of its networks and, if `videos`, a greedy episode of the first seed."""
        run, logger = self.run, self.logger
        if logger is None:
            return
        run.backend.sync_agent()
        for tag, picture in pictures.to_images(run).items():
            logger.image(run.step, tag, picture)
        found = run.backend.diagnostics()
        if found.metrics:
            self._log(found.metrics)
        for name, values in found.histograms.items():
            logger.histogram(run.step, name, values)
        if self.videos:
            data, size, _ = pictures.record_gif(run)
            logger.gif(run.step, "episode", data, size)

    def save(self) -> None:
        """Write a checkpoint."""
        if self.logger is not None:
            self._save(self.logger)

    def _save(self, logger: Logger) -> None:
        self.run.curves = logger.state_dict()
        self.run.save(logger.folder / CHECKPOINT)

    def _describe(self, logger: Logger) -> None:
        """Write settings, charts, hyperparameters and the network's graph to TensorBoard."""
        run = self.run
        logger.text("configuration", markdown(run))
        charts = {title: tag for title, tag in BANDS.items() if run.exact or not tag.startswith("eval/optim")}
        if run.model is None or run.model.success is None:
            charts.pop("success of the greedy policy")
        logger.bands(charts, run.local.loop.charts, interval=len(run.seeds) > 1)
        settings = {"env": run.where.name, "agent": registry.name_of(run.agent_config), "seeds": len(run.seeds)}
        logger.hparams(settings | vars(run.agent_config), list(charts.values()))
        graph = run.agent.graph()
        if graph is not None:
            inspect.draw_graph(*graph, logger)


def evaluation(run: Run) -> dict[str, Any]:
    """Return the metrics of eval/, each [N]: exact if the model is known, else by episodes."""
    found: dict[str, Any]
    if run.exact is None:
        played = run.evaluate(EVALUATION_EPISODES)
        found = {"eval/mean_reward": played.per_seed, "eval/mean_ep_length": played.lengths.mean(1)}
        if played.recorded_per_seed is not None:
            found["eval/recorded_mean_reward"] = played.recorded_per_seed
        return found
    run.backend.sync_agent()
    found = run.exact.metrics(run.agent)
    run.regret += found["eval/optimality_gap"]
    return {**found, "eval/regret": run.regret.copy()}


def markdown(run: Run) -> str:
    """Return the settings of a run as a Markdown table."""
    rows = [
        ("environment", run.where.name),
        ("seeds", ", ".join(map(str, run.seeds))),
        ("envs per seed", run.envs_per_seed),
        ("horizon of schedules (steps)", f"{run.horizon_steps:,}"),
        ("agent", registry.name_of(run.agent_config)),
        *vars(run.agent_config).items(),
        *run.agent.summary().items(),
    ]
    if run.local.loop.memory_bytes:
        rows += [("replay, when full", f"{run.local.loop.memory_bytes / 1e6:,.1f} MB")]
    if run.exact is not None:
        rows += [
            ("best possible return", f"{run.exact.optimal_return:.6f}"),
            ("best stationary return", f"{run.exact.optimal_stationary_return:.6f}"),
        ]
    else:
        rows += [("no exact optimum", run.no_model)]
    return "\n".join(["| setting | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def _ranges(run: Run, logger: Logger | None) -> dict[str, Range]:
    """Return the possible ranges of the tags that are drawn with an interval."""
    if logger is None:
        return {}
    low, high = run.rewards.returns(None if run.rewards.limit or run.model is None else STEP_LIMIT)
    return {
        "eval/mean_reward": (low, high if run.exact is None else run.exact.optimal_return),
        "eval/optimality_gap": (0.0, None),
        "eval/success_rate": SHARE,
        "rollout/ep_rew_mean": run.rewards.returns(),
    }


def _can_evaluate(run: Run) -> bool:
    """Return whether the run can be evaluated during training; if not, a warning gives the reason."""
    why = None if run.exact is not None else run.where.why_not_made()
    if why is not None:
        warnings.warn(f"There is no evaluation during training. {why}", RuntimeWarning, stacklevel=5)
    return why is None
