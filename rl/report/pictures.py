"""Pictures of agents: the greedy policy on the map, values and visit counts, or a greedy episode."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.source import EnvError
from rl.core.protocols import Plane
from rl.explore.masked import best_allowed
from rl.report import episode
from rl.run.run import Run
from supervised.renamed import former_name
from supervised.session.results import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Action numbers of Gymnasium's grid worlds.
ARROWS = {"FrozenLake": "←↓→↑", "CliffWalking": "↑→↓←"}
MOST_STATES = 144
POINTS = 120  # grid points per axis of a drawn plane
MOST_FRAMES = 150  # longer episodes are subsampled: every second, third, ... frame


def arrows_of(run: Run) -> str | None:
    """Return the arrow of each action if the environment is a grid map, else None."""
    if run.model is None or run.model.desc is None:
        return None
    return ARROWS["CliffWalking" if run.model.name.startswith("CliffWalking") else "FrozenLake"]


def policy_text(run: Run, k: int = 0) -> str | None:
    """Return the greedy policy of the k-th seed as arrows on the map; None if there is no map."""
    arrows = arrows_of(run)
    if arrows is None or run.model is None or run.model.desc is None:
        return None
    policy = best_allowed(run.agent.table[k], run.model.mask)
    letters = "".join(run.model.desc)
    cells = [letter if letter in "HG" else arrows[a] for letter, a in zip(letters, policy, strict=True)]
    width = len(run.model.desc[0])
    return "\n".join(" ".join(cells[i : i + width]) for i in range(0, len(cells), width))


def table_plots(run: Run, k: int = 0) -> dict[str, Callable[[Axes], None]]:
    """Return functions that draw the k-th seed into given axes, by TensorBoard tag.

    For tabular agents, and tile coding over two numbers, they draw the values (nothing for tables with more than MOST_STATES
    states); for other agents a greedy episode.
    """
    plane = run.agent.plane(k, POINTS)
    if plane is not None:
        return _over_the_plane(plane)
    values, counted = run.agent.state_values(), run.agent.state_visits()
    if values is None:
        drawn: dict[str, Callable[[Axes], None]] = {"episode/values": functools.partial(episode.draw, run, k)}
        if run.agent.distributional:
            drawn["episode/distribution"] = functools.partial(episode.draw_distribution, run, k)
        return drawn
    visits = None if counted is None else counted[k].sum(-1)
    return _of_table(run, values[k], visits) if values.shape[1] <= MOST_STATES else {}


def _of_table(run: Run, q: Any, visits: np.ndarray | None) -> dict[str, Callable[[Axes], None]]:
    """Return the panels of a table's values q [S, A] and visits [S], on the map if the environment has one."""
    arrows = arrows_of(run)
    if not np.isfinite(q).all():  # forbidden actions are left white
        q = np.ma.masked_invalid(q)
    states, actions = q.shape

    def q_values(axes: Axes) -> None:
        axes.imshow(q, cmap="viridis", aspect="auto")
        axes.set_xticks(range(actions), list(arrows or map(str, range(actions))))
        axes.set(title="Q-values", xlabel="action", ylabel="state")
        if states <= 16:
            for s, a in np.argwhere(~np.ma.getmaskarray(q)):
                _write(axes, a, s, f"{q[s, a]:.3g}", q[s, a] - q.min() > 0.6 * np.ptp(q), 8)

    if run.model is None or run.model.desc is None or arrows is None:
        return {"table/q_values": q_values}
    desc = run.model.desc
    shape, letters = (len(desc), len(desc[0])), "".join(desc)
    size = max(5, 13 - shape[1])

    def policy(axes: Axes) -> None:
        value = q.max(-1)
        shown = np.ma.masked_array(value, [c in "HG" for c in letters])
        bright = shown.min() + 0.6 * (shown.max() - shown.min())
        axes.imshow(shown.reshape(shape), cmap="viridis")
        for s, letter in enumerate(letters):
            text = letter if letter in "HG" else f"{arrows[q[s].argmax()]}\n{value[s]:.2f}"
            dark = letter in "HG" or value[s] > bright
            _write(axes, s % shape[1], s // shape[1], text, dark, size)
        axes.set(title="greedy policy, on max Q", xticks=[], yticks=[])

    def visited(axes: Axes) -> None:
        assert visits is not None
        shade = np.log10(1 + visits)
        axes.imshow(shade.reshape(shape), cmap="cividis")
        for s, count in enumerate(visits):
            _write(axes, s % shape[1], s // shape[1], _short(int(count)), shade[s] > 0.6 * shade.max(), size)
        axes.set(title="visits", xticks=[], yticks=[])

    beside: dict[str, Callable[[Axes], None]] = {} if visits is None else {"table/visits": visited}
    return {"table/policy": policy, "table/q_values": q_values, **beside}


def _over_the_plane(plane: Plane) -> dict[str, Callable[[Axes], None]]:
    """Return the panels of values over a plane: max Q and the greedy action."""
    x, y, q = plane
    shape: dict[str, Any] = {"origin": "lower", "aspect": "auto", "extent": (*(x[0], x[-1]), *(y[0], y[-1]))}

    def value(axes: Axes) -> None:
        axes.figure.colorbar(axes.imshow(q.max(-1), cmap="viridis", **shape), ax=axes)
        axes.set(title="max Q", xlabel="observation[0]", ylabel="observation[1]")

    def policy(axes: Axes) -> None:
        shown = axes.imshow(q.argmax(-1), cmap="viridis", vmin=0, vmax=q.shape[-1] - 1, **shape)
        axes.figure.colorbar(shown, ax=axes, ticks=range(q.shape[-1]))
        axes.set(title="greedy action", xlabel="observation[0]", ylabel="observation[1]")

    return {"table/max_q": value, "table/policy": policy}


def to_images(run: Run, k: int = 0) -> dict[str, np.ndarray]:
    """Return each panel of the k-th seed as a separate image, uint8 [height, width, 3], sized for TensorBoard."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = {}
    for name, draw in table_plots(run, k).items():
        picture = Figure(figsize=(5, 5), dpi=80)
        axes = picture.subplots()
        draw(axes)
        axes.set_title(f"{axes.get_title()}: seed {run.seeds[k]}, step {run.step:,}", fontsize=10)
        canvas = FigureCanvasAgg(picture)
        canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib's
        drawn[name] = np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]  # matplotlib's
    return drawn


def save_policy(run: Run, path: Path, k: int = 0) -> bool:
    """Write all panels of the k-th seed side by side to a PNG file, and return whether there was anything to draw."""
    from matplotlib.figure import Figure

    draws = table_plots(run, k)
    if draws:
        picture = Figure(figsize=(4.6 * len(draws), 5), layout="constrained")
        for axes, draw in zip(picture.subplots(1, len(draws), squeeze=False)[0], draws.values(), strict=True):
            draw(axes)
        picture.suptitle(f"{run.where.name}, seed {run.seeds[k]}, step {run.step:,}")
        drawn = io.BytesIO()
        picture.savefig(drawn, format="png", dpi=110)
        write_bytes(drawn.getvalue(), path)
    return bool(draws)


def make_render_env(run: Run, render_mode: str = "rgb_array") -> Any:
    """Return the environment of a run created with this render mode. Raises EnvError if it does not support it."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws without a screen
    try:
        env = run.where.make(render_mode=render_mode)
        known = env.render_mode == render_mode and render_mode in env.metadata.get("render_modes", ())
        env.close()
    except (AssertionError, TypeError, ValueError) as error:
        raise EnvError(f"{run.where.name} cannot be rendered (render_mode={render_mode!r}): {error}") from error
    if not known:
        raise EnvError(f"{run.where.name} cannot be rendered (render_mode={render_mode!r}).")
    return run.where.make(render_mode=render_mode)


def record_gif(run: Run, k: int = 0, render_mode: str = "rgb_array") -> tuple[bytes, tuple[int, int], float]:
    """Play a greedy episode of the k-th seed and return (animated GIF, its (width, height), the return).

    Raises EnvError if the environment cannot be rendered.
    """
    from PIL import Image

    env = make_render_env(run, render_mode)
    frames, total = [], 0.0
    try:
        for seen in episode.greedy_episode(run.policy(run.seeds[k]), env, run.seeds[k]):
            total += seen.reward
            frames.append(_frame(env))
    except (ImportError, RuntimeError) as error:
        raise EnvError(f"{run.where.name} could not be rendered: {error}") from error
    finally:
        env.close()
    frames = frames[:: max(len(frames) // MOST_FRAMES, 1)]
    images = [Image.fromarray(frame).resize((256, 256 * frame.shape[0] // frame.shape[1])) for frame in frames]
    buffer = io.BytesIO()
    rate = int(env.metadata.get("render_fps", 4) or 4)
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=max(1000 // rate, 20), loop=0)
    return buffer.getvalue(), images[0].size, total


def _frame(env: Any) -> np.ndarray:
    frame = env.render()
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        raise EnvError("The environment's render() did not return an image [height, width, channels].")
    return frame


def _write(axes: Axes, x: int, y: int, text: str, dark: bool, size: int) -> None:
    axes.text(x, y, text, ha="center", va="center", color="black" if dark else "white", fontsize=size)


def _short(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.0f}k" if count >= 1e4 else str(count)


__getattr__ = former_name(__name__)
