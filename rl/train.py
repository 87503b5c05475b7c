"""Training: one loop, with logging, evaluation and saving in plain sight."""

from __future__ import annotations

import contextlib
import functools
import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from envs.source import EnvLike, source
from rl import describe, pictures
from rl.agents.deep import DeepAgent, NotFinite
from rl.describe import Description
from rl.greedy import STEP_LIMIT
from rl.run import Run, Shared, check_steps, restored, start
from rl.workers import check_workers, shared
from supervised import checkpoint, watch
from supervised.checkpoint import CheckpointError, Saved
from supervised.logger import Logger
from supervised.session import RUN as CHECKPOINT
from supervised.session import Session, say
from supervised.statistics import SHARE, Range, aggregate
from supervised.validate import flag, integer, optional, seeds_of

TOLD_OF = 500_000_000  # bytes of a replay
BATCH = "not_finite.safetensors"
EVALUATION_EPISODES = 10
BANDS = {
    "mean return of the greedy policy": "eval/mean_reward",
    "gap to the exact optimum": "eval/optimality_gap",
    "success of the greedy policy": "eval/success_rate",
    "return while exploring": "rollout/ep_rew_mean",
}
# The value that the agent gave its best first action, and the discounted return that the episode then brought: where the
# first stays above the second, values are overestimated.
PROMISES = {
    "promised and obtained: above it, values are overestimated": [
        "rollout/promised_return",
        "rollout/discounted_return",
    ],
    "values in the sampled batches, and the bound that rewards set": ["train/q_mean", "train/q_max", "train/q_bound"],
}


def train(
    env: EnvLike | Run,
    agent: Description | None = None,
    steps: int | None = None,
    seeds: int | Iterable[int] = 1,
    *,
    envs_per_seed: int = 1,
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
    all, for each seed. seeds: a count (0..n-1), a list or a range. workers: how many threads (tables, where the
    environment's model is known; None: as many as there are cores) or processes (networks on the CPU; None: one) share out
    the seeds. logdir: where curves and checkpoints go; None: nowhere. resume: go on from logdir's newest whole checkpoint, or
    start if there is none; only steps, progress, workers, device and the cadences may differ from what was saved.
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
    cadences = {name: check_steps(every, f"{name}_every_steps") for name, every in given.items() if every is not None}
    going_on = env.logdir if isinstance(env, Run) else None
    with Session(going_on if logdir is None else logdir, CHECKPOINT) as session:
        if isinstance(env, Run):
            if agent is not None or env_kwargs is not None or resume:
                raise ValueError(
                    "A run that goes on has its environment, agent and seeds already: give it steps alone."
                )
            run = _in_place(env, session)
        elif agent is None:
            raise ValueError("The agent is missing: give a description such as rl.QLearning().")
        else:
            settings = {"envs_per_seed": envs_per_seed, "workers": workers, "device": device, "env_kwargs": env_kwargs}
            run = _open(env, agent, steps, seeds, session, resume, settings)
        check_workers(run.agent, optional(integer, workers, "workers", 1))
        run.cadence |= cadences
        run.logdir = session.folder
        if run.step >= steps:
            say(
                f"The run has {run.step:,} steps already; steps={steps:,} counts from its beginning: no more are taken."
            )
            if session.folder is None or (run.curves and not session.fell_back):
                return run
        grid = _grid(run)
        if videos:
            pictures.rendered(run).close()
        logger = session.log(run.curves, run.step, *(functools.partial(write, run) for write in (_describe, _save)))
        if progress and _replay_bytes(run) > TOLD_OF:
            say(f"The replay takes {_replay_bytes(run) / 1e9:.1f} GB when it is full.")
        label = f"{len(run.seeds)} seed{'s' * (len(run.seeds) > 1)}"
        evaluates = (logger is not None or progress) and _can_evaluate(run)
        with session.running(label, steps, run.step, progress) as bar, shared(run, workers):
            result = math.nan
            began, begun_at = time.perf_counter(), run.step
            while run.step < steps and not session.interrupted:
                before = run.step
                with _keeping_batches(session.folder):
                    metrics = run.advance(min(_next(before, grid), steps) - before)
                run.steps_per_second = (run.step - begun_at) * len(run.seeds) / (time.perf_counter() - began)
                if _due(before, run.step, grid["log"]):
                    if logger is not None:
                        _log(logger, run, {**metrics, **run.episodes()}, {"time/fps": run.steps_per_second})
                    run.loop.logged()
                if _due(before, run.step, grid["evaluate"]) and evaluates and (logger is not None or bar.shown):
                    result = _log(logger, run, _evaluate(run))
                if _due(before, run.step, grid["save"]) and logger is not None:
                    _look(logger, run, videos)
                    _save(run, logger)
                bar.show(run.step, _said(run, result))
        if logger is not None:
            _save(run, logger)
        if session.interrupted:
            session.stop(f"at step {run.step:,} of {steps:,}")
    return run


def _in_place(run: Run, session: Session) -> Run:
    """A run that goes on, in the folder that it has already or in a new one."""
    if run.logdir is not None and session.folder is not None and session.folder.resolve() == run.logdir.resolve():
        session.check_unchanged(run.curves, run.step)
    else:
        session.newest(resume=False)
        run.curves = {}
    return run


def _open(
    env: EnvLike, agent: Description, steps: int, seeds: Any, session: Session, resume: bool, settings: dict[str, Any]
) -> Run:
    """A new run, or the one that lies in the session's folder."""
    saved = session.newest(resume)
    if saved is None:
        return start(env, agent, seeds, steps=steps, **settings)
    where = source(env, settings.pop("env_kwargs"))
    wanted = {
        "env": where.description or {"name": where.name},
        "agent": describe.to_json(agent),
        "seeds": list(seeds_of(seeds)),
        "envs_per_seed": integer(settings.pop("envs_per_seed"), "envs_per_seed", 1),
    }
    changed = checkpoint.differences(_config(saved), wanted)
    if changed:
        lines = "; ".join(f"{field} was {old!r} and is now {new!r}" for field, old, new in changed)
        raise CheckpointError(
            f"The run in {session.folder} was made with other settings: {lines}. Start a new one in another logdir."
        )
    functions = {name: getattr(agent, name, None) for name in ("network", "mask")}
    return restored(saved, where, **{name: f for name, f in functions.items() if callable(f)}, **settings)


def _config(saved: Saved) -> Any:
    """What a saved run is, as `Run.config` would say it today. What cannot be read is left as it is: it differs."""
    config: Any = saved.meta.get("config")
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        return {**config, "agent": describe.current(config["agent"])}
    return config


@contextlib.contextmanager
def _keeping_batches(folder: Path | None) -> Iterator[None]:
    """Where a number is NaN or infinite, keep the batch that it came from in the run's folder."""
    try:
        yield
    except NotFinite as error:
        if folder is None:
            raise
        arrays = {name: _arrays(part) for name, part in error.batch._asdict().items() if part is not None}
        checkpoint.save(folder / BATCH, arrays, {"kind": "batch"}, keep=False)
        raise NotFinite(f"{error} The batch lies in {folder / BATCH}.", error.batch) from None


def _arrays(part: Any) -> Any:
    return {key: _arrays(item) for key, item in part.items()} if isinstance(part, dict) else part.detach().cpu().numpy()


def _describe(run: Run, logger: Logger) -> None:
    """Write what TensorBoard shows of a run beside its curves: settings, charts, hyperparameters, the network's graph."""
    logger.text("configuration", _markdown(run))
    charts = {title: tag for title, tag in BANDS.items() if run.exact or not tag.startswith("eval/optim")}
    if run.model is None or run.model.success is None:
        charts.pop("success of the greedy policy")
    logger.bands(charts, PROMISES if isinstance(run.agent, DeepAgent) else None, interval=len(run.seeds) > 1)
    settings = {"env": run.where.name, "agent": type(run.description).__name__, "seeds": len(run.seeds)}
    logger.hparams(settings | vars(run.description), list(charts.values()))
    if isinstance(run.agent, DeepAgent):
        example = run.agent.encode({part.name: part.example(1, 1) for part in run.agent.parts})
        one = {name: part[0].cpu() for name, part in example.items()} if isinstance(example, dict) else example[0].cpu()
        watch.draw_graph(run.agent.online.modules[0], one, logger)


def _save(run: Run, logger: Logger) -> None:
    run.curves = logger.state_dict()
    run.save(logger.folder / CHECKPOINT)


def _grid(run: Run) -> dict[str, int]:
    """How many steps lie between two logs, evaluations and checkpoints."""
    log = max(run.horizon_steps // 100, 1)
    evaluate = log if run.exact is not None else max(run.horizon_steps // 20, 1)
    return {"log": log, "evaluate": evaluate, "save": max(run.horizon_steps // 10, 1), **run.cadence}


def _next(step: int, grid: dict[str, int]) -> int:
    return min((step // every + 1) * every for every in grid.values())


def _due(before: int, after: int, every: int) -> bool:
    return after // every > before // every


def _can_evaluate(run: Run) -> bool:
    """Whether the run can be evaluated as it goes; if not, a warning says why."""
    why = None if run.exact is not None else run.where.why_not_made()
    if why is not None:
        warnings.warn(f"There is no evaluation during training. {why}", RuntimeWarning, stacklevel=3)
    return why is None


def _evaluate(run: Run) -> dict[str, Any]:
    """The tags of eval/, each [N]: exact where the model is known, else by episodes."""
    found: dict[str, Any]
    if run.exact is None:
        evaluation = run.evaluate(EVALUATION_EPISODES)
        found = {"eval/mean_reward": evaluation.per_seed, "eval/mean_ep_length": evaluation.lengths.mean(1)}
        if evaluation.recorded_per_seed is not None:
            found["eval/recorded_mean_reward"] = evaluation.recorded_per_seed
        return found
    if isinstance(run.loop, Shared):
        run.loop.fetch_agent()
    found = run.exact.metrics(run.agent)
    run.regret += found["eval/optimality_gap"]
    return {**found, "eval/regret": run.regret.copy()}


def _log(
    logger: Logger | None, run: Run, metrics: Mapping[str, Any], extra: Mapping[str, float] | None = None
) -> float:
    """Write metrics [N] for each seed and their mean, with an interval for those drawn as bands -> mean success or return."""
    arrays, together = aggregate(metrics, BANDS.values() if logger is not None else (), _ranges(run, logger))
    together |= extra or {}
    if logger is not None:
        logger.scalars(run.step, together)
        logger.seeds(run.step, arrays, run.seeds)
    return together.get("eval/success_rate", together.get("eval/mean_reward", math.nan))


def _ranges(run: Run, logger: Logger | None) -> dict[str, Range]:
    """Between what the tags that are drawn with an interval must lie."""
    if logger is None:
        return {}
    low, high = run.rewards.returns(None if run.rewards.limit or run.model is None else STEP_LIMIT)
    return {
        "eval/mean_reward": (low, high if run.exact is None else run.exact.best),
        "eval/optimality_gap": (0.0, None),
        "eval/success_rate": SHARE,
        "rollout/ep_rew_mean": run.rewards.returns(),
    }


def _said(run: Run, result: float) -> str:
    """What stands behind the progress bar."""
    known = run.model is not None and run.model.success is not None
    judged = "" if math.isnan(result) else f"  {'success' if known else 'return'} {result:.3f}"
    return f"{run.steps_per_second:,.0f} steps/s{judged}"


def _look(logger: Logger, run: Run, videos: bool) -> None:
    """Pictures of tables; of networks what can be seen inside; and one greedy episode of the first seed if that is wanted."""
    if isinstance(run.loop, Shared):
        run.loop.fetch_agent()
    for name, picture in pictures.pixels(run).items():
        logger.image(run.step, f"table/{name}", picture)
    if isinstance(run.agent, DeepAgent):
        found, spread = run.loop.look()  # type: ignore[union-attr]  # a network's loop
        _log(logger, run, found)
        for name, values in spread.items():
            logger.histogram(run.step, name, values)
    if videos:
        data, size, _ = pictures.gif(run)
        logger.gif(run.step, "episode", data, size)


def _replay_bytes(run: Run) -> int:
    replay = getattr(run.loop, "replay", None)
    return 0 if replay is None else replay.bytes


def _markdown(run: Run) -> str:
    rows = [
        ("environment", run.where.name),
        ("seeds", ", ".join(map(str, run.seeds))),
        ("envs per seed", run.envs_per_seed),
    ]
    rows += [("steps that schedules span", f"{run.horizon_steps:,}")]
    rows += [("agent", type(run.description).__name__), *vars(run.description).items()]
    if isinstance(run.agent, DeepAgent):
        online = run.agent.online
        rows += [("parameters", f"{sum(p.numel() for p in online.modules[0].parameters()):,} a seed")]
        rows += [("computed", "by compiled code" if online.compiled else f"by torch, on {run.agent.device}")]
        rows += [("replay, when full", f"{_replay_bytes(run) / 1e6:,.1f} MB")]
    if run.exact is not None:
        rows += [
            ("best possible return", f"{run.exact.best:.6f}"),
            ("best stationary return", f"{run.exact.stationary:.6f}"),
        ]
    else:
        rows += [("no exact optimum", run.no_model)]
    return "\n".join(["| setting | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])
