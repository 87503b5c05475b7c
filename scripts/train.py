#!/usr/bin/env python
"""Train an agent in any Gymnasium environment: N seeds at once, with an interval.

python scripts/train.py CartPole-v1                          the agent and settings that were tuned for it
python scripts/train.py CartPole-v1 --agent dqn-2013 --seeds 5 --workers 2
python scripts/train.py LunarLander-v3 --show-settings       (needs pip install '.[box2d]')
python scripts/train.py envs.atari:Atari/Breakout-v5 --agent dqn-2015 --seeds 1     (needs pip install '.[atari]')
python scripts/train.py Acrobot-v1 --set double=True n_step=3 learning_rate=1e-3
tensorboard --logdir runs
"""

from __future__ import annotations

import ast
import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import common
import tyro
from rich.console import Console
from rich.table import Table

import rl
from rl import settings as tuned
from rl.core import registry
from rl.report import results
from rl.train import CHECKPOINT
from supervised.session.results import describe, write
from supervised.validate import choice


@dataclass
class Settings:
    """Train N seeds of an agent in a Gymnasium environment and judge each by greedy episodes."""

    env: Annotated[str, tyro.conf.Positional]
    """The environment's id; MODULE:ID imports the module first."""
    agent: str | None = None
    """linear-sarsa (tile coding, for a few real numbers), q-learning, q-network, dqn-2013, dqn-2015, dqn, double-dqn,
    dueling-dqn, prioritized-dqn, n-step-dqn, c51, hl-gauss, qr-dqn, drqn, r2d2, or best: the one that was tuned for the
    environment, which is the default; where it was tuned, best-c51."""
    steps: int | None = None
    """Environment steps a seed in all; what the settings were tuned for if not given, else 100 000."""
    seeds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="N|SEED SEED ...")] = ("5",)
    """How many seeds (one number), or which (several numbers; for a single one write it with a comma: 7,)."""
    set: tuple[str, ...] = ()
    """Settings to change, as name=value: gamma=.98 double=True network='mlp(256,256)'."""
    show_settings: bool = False
    """Say which settings the agent has, and train nothing."""
    envs_per_seed: int = 1
    """Environments that each seed acts in."""
    workers: int | None = None
    """How many threads (tables) or processes (networks) share out the seeds; a sensible number if not given."""
    device: str = "auto"
    """auto, cpu, cuda or mps. auto: a GPU, if there is one, where observations are images; else the CPU."""
    episodes: int = 100
    """Greedy episodes a seed by which the result is judged."""
    evaluate_every_steps: int | None = None
    """Steps between two points of the greedy policy's curve; a hundredth of the run if not given."""
    logdir: Path | None = None
    """The run's folder; a new one under runs/ if not given."""
    resume: bool = False
    """Go on with the run in logdir, or with the newest of the same kind under runs/."""
    videos: bool = False
    """With each checkpoint an animated GIF of a greedy episode, in TensorBoard's Images tab."""


def changed(agent: Any, assignments: tuple[str, ...]) -> Any:
    """The agent with settings replaced, each given as name=value."""
    fields = [field.name for field in dataclasses.fields(agent)]
    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set takes name=value, not {assignment!r}.")
        choice(name, f"setting of {registry.name_of(agent)}", fields)
        try:
            values[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return dataclasses.replace(agent, **values)


def main(settings: Settings, console: Console) -> None:
    presets = rl.presets(settings.env)
    name = settings.agent or "best"
    choice(name, "agent", presets)
    agent = changed(presets[name], settings.set)
    steps = tuned.steps_for(settings.env, name) if settings.steps is None else settings.steps
    if settings.show_settings:
        show(console, f"{name} in {settings.env}, {steps:,} steps a seed", agent)
        return
    logdir = common.folder(
        settings.logdir, Path("runs") / f"{settings.env.replace(':', '-').replace('/', '-')}-{name}", settings.resume
    )
    console.print(f"{name} in {settings.env}: {steps:,} steps a seed. The run lies in {logdir}")
    began = time.perf_counter()
    run = rl.train(
        settings.env,
        agent,
        steps=steps,
        seeds=common.parse_seeds(settings.seeds),
        envs_per_seed=settings.envs_per_seed,
        workers=settings.workers,
        device=settings.device,
        logdir=logdir,
        resume=settings.resume,
        evaluate_every_steps=settings.evaluate_every_steps,
        videos=settings.videos,
    )
    seconds = time.perf_counter() - began
    figures = common.finished(console, logdir / "result.json", run.step) if settings.resume else None
    if figures is None:
        figures = results.result(run, settings.episodes)
        figures |= {"agent": name, "wall_seconds": seconds, "steps_per_second": run.steps_per_second}
        write(figures, logdir / "result.json")
    report(console, figures)
    speed = f"{figures['steps_per_second']:,.0f} steps/s"
    console.print(f"wall time  {figures['wall_seconds']:.1f} s, {speed}", highlight=False)
    console.print(f"The run lies in {logdir}: result.json, {CHECKPOINT} and the curves.", soft_wrap=True)
    console.print(f"Look at it:  tensorboard --logdir {logdir}", soft_wrap=True)


def show(console: Console, title: str, agent: Any) -> None:
    """Print an agent's settings."""
    table = Table(title=title)
    table.add_column("setting")
    table.add_column("value")
    table.add_row("agent", registry.name_of(agent))
    for field in dataclasses.fields(agent):
        table.add_row(field.name, str(getattr(agent, field.name)))
    console.print(table)


def report(console: Console, figures: dict[str, Any]) -> None:
    """Say on the terminal what came out."""
    table = Table(title=f"Mean return of each seed's greedy policy ({figures['evaluation']})")
    table.add_column("seed", justify="right")
    table.add_column("return", justify="right")
    found = figures["return"]["per_seed"]
    for seed, value in found.items():
        table.add_row(seed, f"{value:.2f}")
    console.print(table)
    console.print(f"mean over seeds  {describe(figures['return'], 2)}", highlight=False)


if __name__ == "__main__":
    sys.exit(common.command(Settings, main))
