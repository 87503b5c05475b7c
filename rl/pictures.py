"""Pictures of tables: the greedy policy on the map, what the states are worth, and where the agent has been."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.source import EnvError
from rl.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Action numbers of Gymnasium's grid worlds.
ARROWS = {"FrozenLake": "←↓→↑", "CliffWalking": "↑→↓←"}
MOST_ROWS = 64  # a table with more states than this cannot be read as a picture


def arrows_of(run: Run) -> str | None:
    """The arrow of each action, where the environment is a map."""
    if run.model is None or run.model.desc is None:
        return None
    return ARROWS["CliffWalking" if run.model.name.startswith("CliffWalking") else "FrozenLake"]


def policy_text(run: Run, k: int = 0) -> str | None:
    """The greedy policy of the k-th seed as arrows on the map; None where there is no map."""
    arrows = arrows_of(run)
    if arrows is None or run.model is None or run.model.desc is None:
        return None
    policy = run.agent.table[k].argmax(-1)
    letters = "".join(run.model.desc)
    cells = [letter if letter in "HG" else arrows[a] for letter, a in zip(letters, policy, strict=True)]
    width = len(run.model.desc[0])
    return "\n".join(" ".join(cells[i : i + width]) for i in range(0, len(cells), width))


def figure(run: Run, k: int = 0) -> Figure | None:
    """Three panels for the k-th seed: policy and value on the map, Q-values, visits. None where the table is too large."""
    if run.agent.index.size > MOST_ROWS:
        return None
    from matplotlib.figure import Figure

    arrows = arrows_of(run)
    q, visits = run.agent.table[k], run.agent.visits[k]
    shape = (len(run.model.desc), len(run.model.desc[0])) if run.model is not None and run.model.desc else None
    picture = Figure(figsize=(13.5, 4.6), layout="constrained")
    left, middle, right = picture.subplots(1, 3)
    if shape is not None and arrows is not None and run.model is not None and run.model.desc is not None:
        letters = "".join(run.model.desc)
        values = np.ma.masked_array(q.max(-1), [letter in "HG" for letter in letters])  # type: ignore[no-untyped-call]
        _heat(left, values.reshape(shape), "greedy policy on max Q", "viridis")
        best = q.argmax(-1)
        for s, letter in enumerate(letters):
            mark = letter if letter in "HG" else arrows[best[s]]
            _write(left, divmod(s, shape[1]), mark, "white" if letter not in "HG" else "black", 14)
        _heat(right, np.log10(1 + visits.sum(-1)).reshape(shape), "visits (log10)", "cividis")
        for s, count in enumerate(visits.sum(-1)):
            _write(right, divmod(s, shape[1]), _short(int(count)), "white", 7)
    else:
        _heat(left, q.max(-1)[:, None], "max Q", "viridis")
        _heat(right, np.log10(1 + visits), "visits (log10)", "cividis")
        for panel in (left, right):
            panel.set_aspect("auto")
    _heat(middle, q, "Q-values", "viridis")
    middle.set_aspect("auto")
    middle.set_xticks(range(q.shape[1]), list(arrows) if arrows else [str(a) for a in range(q.shape[1])])
    middle.set_xlabel("action")
    middle.set_ylabel("state")
    picture.suptitle(f"{run.where.name}, seed {run.seeds[k]}, step {run.step:,}")
    return picture


def table(run: Run) -> np.ndarray | None:
    """`figure` of the first seed as pixels, uint8 [height, width, 3]."""
    drawn = figure(run)
    if drawn is None:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawn.set_dpi(70)
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def gif(run: Run, k: int = 0, render_mode: str = "rgb_array") -> tuple[bytes, tuple[int, int], float]:
    """One greedy episode of the k-th seed -> (an animated GIF, its (width, height), the return).

    Raises EnvError when the environment cannot be rendered.
    """
    from PIL import Image

    env = run.where.make(render_mode=render_mode)
    if env.render_mode != render_mode:
        env.close()
        raise EnvError(f"{run.where.name} cannot be rendered as pictures (render_mode={render_mode!r}).")
    frames, total = [], 0.0
    try:
        policy = run.policy(run.seeds[k])
        obs, _ = env.reset(seed=run.seeds[k])
        frames.append(_frame(env))
        for _ in range(500):
            action, _ = policy.predict(obs)
            obs, reward, terminated, truncated, _ = env.step(int(action))
            total += float(reward)
            frames.append(_frame(env))
            if terminated or truncated:
                break
    except (ImportError, RuntimeError) as error:
        raise EnvError(f"{run.where.name} could not be rendered: {error}") from error
    finally:
        env.close()
    images = [Image.fromarray(frame).resize((256, 256 * frame.shape[0] // frame.shape[1])) for frame in frames]
    buffer = io.BytesIO()
    rate = int(env.metadata.get("render_fps", 4) or 4)
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=max(1000 // rate, 20), loop=0)
    return buffer.getvalue(), images[0].size, total


def save_policy(run: Run, path: Path, k: int = 0) -> bool:
    """Write `figure` as a PNG -> whether there was one to write."""
    drawn = figure(run, k)
    if drawn is not None:
        drawn.savefig(path, dpi=110)
    return drawn is not None


def _frame(env: Any) -> np.ndarray:
    frame = env.render()
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        raise EnvError("The environment rendered no picture.")
    return frame


def _heat(panel: Axes, values: Any, title: str, colours: str) -> None:
    drawn = panel.imshow(values, cmap=colours)
    panel.set_title(title)
    panel.set_xticks([])
    panel.set_yticks([])
    assert panel.figure is not None
    panel.figure.colorbar(drawn, ax=panel, shrink=0.8)


def _write(panel: Axes, place: tuple[int, int], text: str, colour: str, size: int) -> None:
    panel.text(place[1], place[0], text, ha="center", va="center", color=colour, fontsize=size)


def _short(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.0f}k" if count >= 1e4 else str(count)
