#!/usr/bin/env python
"""Evaluate a saved run, exactly if the model is known, and in episodes; optionally show an episode.

python scripts/evaluate.py runs/.../run.safetensors
python scripts/evaluate.py runs/.../run.safetensors --render ansi
python scripts/evaluate.py runs/.../run.safetensors --render gif --output episode.gif
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

import rl
from envs import EnvError
from rl.core import registry
from rl.report import results
from supervised.session.results import describe, write_bytes


@dataclass
class Settings:
    """Evaluate the greedy policies of a saved run."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """The run.safetensors of the run, or its folder."""
    episodes: int = 100
    """Greedy episodes per seed."""
    seed: int | None = None
    """Seed whose policy is rendered. Default: the first."""
    render: Literal["none", "ansi", "gif"] = "none"
    """Show one greedy episode: ansi prints it as text, gif saves an animation."""
    output: Path = Path("episode.gif")
    """Path of the GIF."""


def main(settings: Settings) -> None:
    path = settings.checkpoint / "run.safetensors" if settings.checkpoint.is_dir() else settings.checkpoint
    run = rl.load(path)
    evaluation = run.evaluate(settings.episodes)
    print(f"{run.where.name}, {registry.name_of(run.agent_config)}, {len(run.seeds)} seeds, step {run.step:,}")
    print(f"by episodes: {evaluation}")
    if run.exact is None:
        print(f"exactly:     not known ({run.no_model})")
    else:
        figures = results.result(run)
        print(f"exactly:     mean return {describe(figures['return'], 6)} within {run.exact.horizon:,} steps")
        if "success" in figures:
            print(f"             success     {describe(figures['success'], 6)}")
        exact = run.exact
        print(
            f"             best possible {exact.optimal_return:.6f}, best stationary {exact.optimal_stationary_return:.6f}"
        )
        for seed, value in figures["return"]["per_seed"].items():
            print(f"             seed {seed:>4}  {value:.6f}")
    seed = run.seeds[0] if settings.seed is None else settings.seed
    policy = run.policy(seed)
    if settings.render == "ansi":
        show(run, policy, seed)
    elif settings.render == "gif":
        from rl.report import pictures

        data, _, total = pictures.record_gif(run, run.seeds.index(seed))
        write_bytes(data, settings.output)
        print(f"One greedy episode of seed {seed}, return {total:g}: {settings.output}")


def show(run: rl.Run, policy: rl.TablePolicy | rl.NetworkPolicy, seed: int) -> None:
    """Print one greedy episode."""
    from rl.report import pictures
    from rl.report.episode import greedy_episode

    try:
        env = pictures.make_render_env(run, "ansi")
    except EnvError as error:
        raise EnvError(f"{run.where.name} cannot be rendered as text; try --render gif.") from error
    total, steps = 0.0, -1
    for seen in greedy_episode(policy, env, seed):
        total, steps = total + seen.reward, steps + 1
        print(env.render())
    env.close()
    print(f"One greedy episode of seed {seed}: {steps} steps, return {total:g}")


def command() -> int:
    settings = tyro.cli(Settings)
    try:
        main(settings)
    except KeyboardInterrupt:
        return 130
    except (ValueError, TypeError, EnvError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(command())
