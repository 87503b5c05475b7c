#!/usr/bin/env python
"""Q-learning on FrozenLake: N seeds at once, compared with the exact optimum.

python scripts/train_frozenlake.py                       slippery 4x4, 10 seeds, 400 000 steps each
python scripts/train_frozenlake.py --map-name 8x8        slippery 8x8, 4 000 000 steps each
python scripts/train_frozenlake.py --no-is-slippery --agent lecture-dummy
python scripts/train_frozenlake.py --epsilon .1          constant epsilon; --agent NAME --help lists all settings
tensorboard --logdir runs                                view the results
"""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from cli import common, flags
from rich.console import Console
from rich.table import Table

import rl
from rl.core import registry
from rl.report import results
from supervised.logger import Logger
from supervised.session import RUN as CHECKPOINT
from supervised.session.results import write, write_bytes

NETWORKS = {*registry.PRESETS["networks"], *registry.PRESETS["memory"], "best"}


def offered() -> dict[str, Any]:
    """Return the agents that can act here: tile coding needs real-valued observations, R-learning a continuing task."""
    others = registry.presets(("tiles", registry.ENDLESS))
    return {name: agent for name, agent in rl.presets().items() if name not in others}


@dataclass
class Settings:
    """Train on FrozenLake with N seeds at once and evaluate each greedy policy exactly."""

    map_name: Literal["4x4", "8x8"] = "4x4"
    """One of Gymnasium's maps."""
    is_slippery: bool = True
    """On slippery ice a step goes in the chosen direction one time in three; --no-is-slippery makes steps deterministic."""
    random_map: int | None = None
    """Side length of a random map, used instead of map-name."""
    random_map_seed: int = 0
    """Seed of the random map."""
    agent: str = "q-learning"
    """q-learning has settings that converge. lecture-* have those of the lecture notes (Sung Kim's "Deep Learning Zero to
    All"): dummy (step size 1, random ties, no discount), epsilon (1/(episode//100+1)), noise (randn/(episode+1), discount
    .99), slippery (noise, step size .85). ucb, count-bonus and optimistic are Q-learning with exploration bonuses or optimism.
    q-network is a linear network on one-hot states without replay; dqn-2013 adds replay, dqn-2015 and the others a target
    network."""
    steps: int | None = None
    """Total environment steps per seed. Default: 400 000 on 4x4, 4 000 000 on larger maps, 50 000 with a network."""
    workers: int | None = None
    """Number of threads (tables) or processes (networks) over which the seeds are distributed. Default: chosen
    automatically."""
    seeds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="N|SEED SEED ...")] = ("10",)
    """Number of seeds (one number), or the seeds themselves (several numbers; a single one needs a comma: 7,)."""
    set: tuple[str, ...] = ()
    """Settings of the agent as name=value, equivalent to its flags: gamma=.98 'step_size=linear(1,.05,.1)'. The default gamma
    of q-learning is .999 on maps larger than 4x4."""
    logdir: Path | None = None
    """Folder of the run. Default: a new one under runs/."""
    resume: bool = False
    """Continue the run in logdir, or the newest one of this environment and agent under runs/."""
    video: bool = False
    """Save an animated GIF of one greedy episode, in the run's folder and in TensorBoard's Images tab."""


def random_desc(size: int, seed: int) -> list[str]:
    """Return one of Gymnasium's random maps: 80 % ice, with a path to the goal. Raise ValueError if size < 2."""
    from gymnasium.envs.toy_text.frozen_lake import generate_random_map

    if size < 2:
        raise ValueError(f"--random-map must be a side length of at least 2, not {size}.")
    return generate_random_map(size=size, seed=seed)


def main(console: Console) -> None:
    words = flags.words()
    settings, given = flags.read(Settings, offered(), flags.named(words, "agent", "q-learning"), words)
    size = int(settings.map_name[0]) if settings.random_map is None else settings.random_map
    env_kwargs: dict[str, Any] = {"is_slippery": settings.is_slippery}
    place: str
    if settings.random_map is None:
        env_id = "FrozenLake-v1" if settings.map_name == "4x4" else "FrozenLake8x8-v1"
        place = settings.map_name
    else:
        # The time limit of 8x8, scaled by area.
        env_id, place = "FrozenLake-v1", f"random{size}-{settings.random_map_seed}"
        env_kwargs |= {
            "desc": random_desc(size, settings.random_map_seed),
            "max_episode_steps": max(100, 200 * size * size // 64),
        }
    agent: Any = rl.presets(env_id)[settings.agent]
    if settings.agent == "q-learning" and size > 4:
        agent = dataclasses.replace(agent, gamma=0.999)
    agent = flags.with_settings(agent, given, settings.set)
    usual = 50_000 if settings.agent in NETWORKS else 400_000 if size <= 4 else 4_000_000
    steps = usual if settings.steps is None else settings.steps

    ice = "slippery" if settings.is_slippery else "certain"
    family = Path("runs") / f"frozenlake-{place}-{ice}-{settings.agent}"
    logdir = common.folder(settings.logdir, family, settings.resume)

    training = rl.iterate(
        env_id,
        agent,
        steps=steps,
        seeds=common.parse_seeds(settings.seeds),
        logdir=logdir,
        resume=settings.resume,
        workers=settings.workers,
        env_kwargs=env_kwargs,
    )
    began = time.perf_counter()
    announced = f"{settings.agent} on FrozenLake {place}, {ice}: {steps:,} steps per seed. Folder: {logdir}"
    run = common.trained(training, console, announced)
    figures = common.finished(console, logdir / "result.json", run.step) if settings.resume else None
    if figures is None:
        figures = results.result(run)
        figures |= {"wall_seconds": time.perf_counter() - began, "steps_per_second": run.steps_per_second}
        figures |= {"compile_seconds": run.compile_seconds}
        write(figures, logdir / "result.json")
    from rl.report import pictures

    pictures.save_policy(run, logdir / "policy.png")
    if settings.video:
        video(run, logdir, console)
    report(console, run, figures, logdir)


def video(run: rl.Run, logdir: Path, console: Console) -> None:
    """Write one greedy episode as a GIF, beside the run and into TensorBoard."""
    from rl.report import pictures

    data, size, total = pictures.record_gif(run)
    write_bytes(data, logdir / "episode.gif")
    logger = Logger(logdir)
    logger.gif(run.step, "episode", data, size)
    logger.close()
    console.print(f"One greedy episode of seed {run.seeds[0]}, return {total:g}: {logdir / 'episode.gif'}")


def report(console: Console, run: rl.Run, figures: dict[str, Any], logdir: Path) -> None:
    """Print the results."""
    from rl.report import pictures

    success, exact = figures["success"], run.exact
    assert exact is not None
    console.print("\nExact success probability of each seed's greedy policy")
    table = Table()
    table.add_column("seed", justify="right")
    table.add_column("success", justify="right")
    for seed, value in success["per_seed"].items():
        table.add_row(seed, f"{value:.6f}")
    console.print(table)
    low, high = success["interval_95"]
    band = "one seed: no interval" if low is None else f"95 % interval over seeds [{low:.6f}, {high:.6f}]"
    mean, stationary = success["mean"], exact.stationary_success
    best = figures["best_possible"]
    rows = [
        ("mean", f"{mean:.6f}  ({band})"),
        ("best possible", f"{best:.6f}  (policies may depend on the time left; gap {best - mean:.6f})"),
        (
            "best stationary",
            f"{stationary:.6f}  (value iteration at gamma {exact.gamma:g}; gap {stationary - mean:.6f})",
        ),
        ("within 99 % of it", f"{figures['seeds_near_best_stationary']} of {len(run.seeds)} seeds"),
        ("wall time", common.speed(figures)),
    ]
    for name, text in rows:
        console.print(f"{name:>18}  {text}", highlight=False)
    console.print(f"\nGreedy policy of seed {run.seeds[0]}:\n{pictures.policy_text(run)}\n", highlight=False)
    console.print(f"Saved in {logdir}: result.json, policy.png, {CHECKPOINT} and the curves.", soft_wrap=True)
    console.print(f"View it:  tensorboard --logdir {logdir}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(common.run(main))
