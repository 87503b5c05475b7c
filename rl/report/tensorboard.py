"""What TensorBoard and the terminal show of a run while it trains."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from typing import Any

from rl.core import registry
from rl.core.evaluate import STEP_LIMIT
from rl.report import pictures
from rl.run.run import Run
from supervised.fitting import inspect
from supervised.logger import Logger
from supervised.session import RUN as CHECKPOINT
from supervised.session import Session, say
from supervised.statistics import SHARE, Range, aggregate

LARGE_REPLAY = 500_000_000  # bytes, from which on the memory is mentioned
EVALUATION_EPISODES = 10
BANDS = {
    "mean return of the greedy policy": "eval/mean_reward",
    "gap to the exact optimum": "eval/optimality_gap",
    "success of the greedy policy": "eval/success_rate",
    "return while exploring": "rollout/ep_rew_mean",
}


class Report:
    """Logs, evaluates, shows and saves a run. Without a logdir nothing is written, without a bar besides nothing evaluated."""

    def __init__(self, run: Run, session: Session, videos: bool, progress: bool) -> None:
        """Raises ValueError for videos of an environment that cannot be rendered."""
        self.run, self.videos = run, videos
        if videos:
            pictures.rendered(run).close()
        self.logger = session.log(run.curves, run.step, self._describe, self._save)
        memory = run.local.loop.memory_bytes
        if progress and memory > LARGE_REPLAY:
            say(f"The replay takes {memory / 1e9:.1f} GB when it is full.")
        self.label = f"{len(run.seeds)} seed{'s' * (len(run.seeds) > 1)}"
        self.evaluates = (self.logger is not None or progress) and _can_evaluate(run)
        self.result = math.nan  # mean success or return of the last evaluation
        self.start_clock()

    def start_clock(self) -> None:
        """Count steps a second from here."""
        self.began, self.begun_at = time.perf_counter(), self.run.step

    def text(self) -> str:
        """What stands behind the progress bar."""
        known = self.run.model is not None and self.run.model.success is not None
        result = "" if math.isnan(self.result) else f"  {'success' if known else 'return'} {self.result:.3f}"
        return f"{self.run.steps_per_second:,.0f} steps/s{result}"

    def count(self) -> None:
        """Bring the steps a second up to date."""
        taken = (self.run.step - self.begun_at) * len(self.run.seeds)
        self.run.steps_per_second = taken / (time.perf_counter() - self.began)

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Write what training says of itself, and begin a new interval."""
        if self.logger is not None:
            everything = {**metrics, **self.run.episodes()}
            _log(self.logger, self.run, everything, {"time/fps": self.run.steps_per_second})
        self.run.backend.reset_metrics()

    def evaluate(self, shown: bool) -> None:
        """Evaluate the greedy policies, if somebody sees it. shown: whether there is a bar."""
        if self.evaluates and (self.logger is not None or shown):
            together = _log(self.logger, self.run, evaluation(self.run))
            self.result = together.get("eval/success_rate", together.get("eval/mean_reward", math.nan))

    def inspect(self) -> None:
        """Pictures of tables; of networks what can be seen inside; and one greedy episode of the first seed if wanted."""
        run, logger = self.run, self.logger
        if logger is None:
            return
        run.backend.sync_agent()
        for tag, picture in pictures.pixels(run).items():
            logger.image(run.step, tag, picture)
        found = run.backend.diagnostics()
        if found.metrics:
            _log(logger, run, found.metrics)
        for name, values in found.histograms.items():
            logger.histogram(run.step, name, values)
        if self.videos:
            data, size, _ = pictures.gif(run)
            logger.gif(run.step, "episode", data, size)

    def save(self) -> None:
        """Write a checkpoint."""
        if self.logger is not None:
            self._save(self.logger)

    def _save(self, logger: Logger) -> None:
        self.run.curves = logger.state_dict()
        self.run.save(logger.folder / CHECKPOINT)

    def _describe(self, logger: Logger) -> None:
        """Write what TensorBoard shows beside the curves: settings, charts, hyperparameters, the network's graph."""
        run = self.run
        logger.text("configuration", markdown(run))
        charts = {title: tag for title, tag in BANDS.items() if run.exact or not tag.startswith("eval/optim")}
        if run.model is None or run.model.success is None:
            charts.pop("success of the greedy policy")
        logger.bands(charts, run.local.loop.charts, interval=len(run.seeds) > 1)
        settings = {"env": run.where.name, "agent": registry.name_of(run.description), "seeds": len(run.seeds)}
        logger.hparams(settings | vars(run.description), list(charts.values()))
        graph = run.agent.graph()
        if graph is not None:
            inspect.draw_graph(*graph, logger)


def evaluation(run: Run) -> dict[str, Any]:
    """The tags of eval/, each [N]: exact where the model is known, else by episodes."""
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
    """The settings of a run as a table."""
    rows = [
        ("environment", run.where.name),
        ("seeds", ", ".join(map(str, run.seeds))),
        ("envs per seed", run.envs_per_seed),
        ("steps that schedules span", f"{run.horizon_steps:,}"),
        ("agent", registry.name_of(run.description)),
        *vars(run.description).items(),
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


def _log(
    logger: Logger | None, run: Run, metrics: Mapping[str, Any], extra: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Write metrics [N] for each seed and their means, with an interval for those drawn as bands -> the means."""
    arrays, together = aggregate(metrics, () if logger is None else BANDS.values(), _ranges(run, logger))
    together |= extra or {}
    if logger is not None:
        logger.scalars(run.step, together)
        logger.seeds(run.step, arrays, run.seeds)
    return together


def _ranges(run: Run, logger: Logger | None) -> dict[str, Range]:
    """Between what the tags that are drawn with an interval must lie."""
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
    """Whether the run can be evaluated as it goes; if not, a warning says why."""
    why = None if run.exact is not None else run.where.why_not_made()
    if why is not None:
        warnings.warn(f"There is no evaluation during training. {why}", RuntimeWarning, stacklevel=4)
    return why is None
