#!/usr/bin/env python
"""Train an agent in any Gymnasium environment: N seeds at once, with an interval.

python scripts/train.py CartPole-v1                          the agent tuned for it
python scripts/train.py CartPole-v1 --agent dqn-2013 --seeds 5 --workers 2
python scripts/train.py LunarLander-v3 --show-settings       (needs pip install '.[box2d]')
python scripts/train.py envs.atari:Atari/Breakout-v5 --agent dqn-2015 --seeds 1     (needs pip install '.[atari]')
python scripts/train.py Acrobot-v1 --double --n-step 3 --learning-rate 'linear(1e-3, 0)'
python scripts/train.py CartPole-v1 --wrap NormalizeObservation FrameStackObservation:stack_size=4
python scripts/train.py Acrobot-v1 --agent dqn --help                (lists every setting of the agent)
tensorboard --logdir runs                                    view the results
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from cli import common, flags
from gymnasium.envs.registration import EnvSpec
from rich.console import Console
from rich.table import Table

import rl
from envs import source, with_wrappers
from rl import settings as tuned
from rl.core import registry, text
from rl.report import results
from rl.run.probe import unable
from supervised.session import RUN as CHECKPOINT
from supervised.session.results import describe, write


@dataclass
class Settings:
    """Train N seeds of an agent in a Gymnasium environment and evaluate each in greedy episodes."""

    env: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")]
    """Id of the environment; MODULE:ID imports the module first."""
    agent: str = "best"
    """best is tuned for some environments (CartPole, Acrobot, MountainCar, LunarLander, Atari), elsewhere double DQN; q-network,
    dqn-2013 and dqn-2015 follow the lecture notes (Sung Kim's "Deep Learning Zero to All"); drqn and r2d2 are recurrent. ENV
    --help lists the agents that can act in ENV."""
    steps: int | None = None
    """Total environment steps per seed. Default: the number the settings were tuned for, otherwise 100 000."""
    seeds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="N|SEED SEED ...")] = ("5",)
    """Number of seeds (one number), or the seeds themselves (several numbers; a single one needs a comma: 7,)."""
    wrap: tuple[str, ...] = ()
    """Wrappers of gymnasium.wrappers by name, the innermost first, with their settings after a colon: NormalizeObservation
    FrameStackObservation:stack_size=4 ResizeObservation:shape=(42,42). LastActionReward of this package works too."""
    set: tuple[str, ...] = ()
    """Settings of the agent as name=value, equivalent to its flags: gamma=.98 double=True network='mlp(256,256)'
    explore='epsilon-greedy(linear(1,.05,.1))'."""
    show_settings: bool = False
    """Print the agent's settings and exit without training."""
    envs_per_seed: int = 1
    """Number of environments per seed."""
    workers: int | None = None
    """Number of threads (tables) or processes (networks) over which the seeds are distributed. Default: chosen
    automatically."""
    device: str = "auto"
    """auto, cpu, cuda or mps. auto uses a GPU, if there is one, for image observations, otherwise the CPU."""
    episodes: int = 100
    """Greedy episodes per seed in the final evaluation."""
    evaluate_every_steps: int | None = None
    """Steps between two evaluations of the greedy policy during training. Default: a hundredth of the run."""
    logdir: Path | None = None
    """Folder of the run. Default: a new one under runs/."""
    resume: bool = False
    """Continue the run in logdir, or the newest one of this environment and agent under runs/."""
    videos: bool = False
    """Save an animated GIF of a greedy episode with each checkpoint, in TensorBoard's Images tab."""


def place(env: str, wrappers: Sequence[str]) -> str | EnvSpec:
    """Return the wrapped environment; each wrapper is NAME or NAME:setting=value,... Raise EnvError for an unknown one."""
    if not wrappers:
        return env
    parts = [wrapper.partition(":") for wrapper in wrappers]
    return with_wrappers(env, [(name, text.arguments(settings)) if settings else name for name, _, settings in parts])


def offered(env: str, where: str | EnvSpec) -> dict[str, Any]:
    """Return the agents that can act in an environment, by name. Raise EnvError for an unknown id."""
    presets = rl.presets(env)
    cannot = unable(source(where), presets)
    return {name: agent for name, agent in presets.items() if name not in cannot}


def check_acts(env: str, where: str | EnvSpec, agent: str) -> None:
    """Raise ValueError, listing the agents that can, if the agent cannot act in the environment."""
    cannot = unable(source(where), {agent: rl.presets(env)[agent]})
    if cannot:
        can = ", ".join(offered(env, where))
        others = f"Agents that can act there: {can}." if can else "No agent can act there."
        raise ValueError(f"{agent}: {cannot[agent]} {others}")


def main(console: Console) -> None:
    words = flags.words()
    env, agent_name = flags.first(words), flags.named(words, "agent", "best")
    presets = rl.presets(env)
    if env is not None and flags.asks_for_help(words):
        able = offered(env, place(env, flags.several(words, "wrap")))
        presets = {name: agent for name, agent in presets.items() if name in able or name == agent_name}
    settings, given = flags.read(Settings, presets, agent_name, words)
    where = place(settings.env, settings.wrap)
    check_acts(settings.env, where, agent_name)
    agent = flags.with_settings(rl.presets(settings.env)[agent_name], given, settings.set)
    steps = tuned.steps_for(settings.env, agent_name) if settings.steps is None else settings.steps
    name = " with ".join([settings.env, ", ".join(settings.wrap)][: 1 + bool(settings.wrap)])
    if settings.show_settings:
        show(console, f"{agent_name} in {name}, {steps:,} steps per seed", agent)
        return
    kind = re.sub(r"[^\w.=-]+", "-", "-".join([settings.env, *settings.wrap, agent_name]))
    logdir = common.folder(settings.logdir, Path("runs") / kind, settings.resume)
    training = rl.iterate(
        where,
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
    began = time.perf_counter()
    run = common.trained(training, console, f"{agent_name} in {name}: {steps:,} steps per seed. Folder: {logdir}")
    seconds = time.perf_counter() - began
    figures = common.finished(console, logdir / "result.json", run.step) if settings.resume else None
    if figures is None:
        figures = results.result(run, settings.episodes)
        figures |= {"agent": agent_name, "wall_seconds": seconds, "steps_per_second": run.steps_per_second}
        figures |= {"compile_seconds": run.compile_seconds}
        write(figures, logdir / "result.json")
    report(console, figures)
    console.print(f"wall time  {common.speed(figures)}", highlight=False)
    console.print(f"Saved in {logdir}: result.json, {CHECKPOINT} and the curves.", soft_wrap=True)
    console.print(f"View it:  tensorboard --logdir {logdir}", soft_wrap=True)


def show(console: Console, title: str, agent: Any) -> None:
    """Print an agent's settings."""
    table = Table(title=title)
    for head in ("setting", "value", "meaning"):
        table.add_column(head)
    table.add_row("agent", registry.name_of(agent), "")
    for setting in text.settings_of(agent).values():
        table.add_row(setting.name, setting.value, setting.what)
    console.print(table, soft_wrap=False)


def report(console: Console, figures: dict[str, Any]) -> None:
    """Print the results."""
    table = Table(title=f"Mean return of each seed's greedy policy ({figures['evaluation']})")
    table.add_column("seed", justify="right")
    table.add_column("return", justify="right")
    found = figures["return"]["per_seed"]
    for seed, value in found.items():
        table.add_row(seed, f"{value:.2f}")
    console.print(table)
    console.print(f"mean over seeds  {describe(figures['return'], 2)}", highlight=False)


if __name__ == "__main__":
    sys.exit(common.run(main))
