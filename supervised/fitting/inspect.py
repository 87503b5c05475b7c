"""Inspection of a model: activations, dead units, weights, and misclassified images."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from supervised.fitting.check_data import as_input
from supervised.fitting.fit import Fit
from supervised.logger import Logger
from supervised.sources import over

EXAMPLES = 256  # first examples of the data, to inspect activations
SKIPPED = (nn.Dropout, nn.Flatten, nn.Identity)  # layers without a histogram
MOST_WRONG = 16


def activations(model: nn.Module, x: Any) -> dict[str, Tensor]:
    """Return the output of each layer for x [B, ...], by name, in eval mode and without a gradient."""
    found: dict[str, Tensor] = {}

    def recorder(name: str) -> Any:
        def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output
            if isinstance(output, Tensor):
                found[name] = output

        return record

    modes = {module: module.training for module in model.modules()}
    handles = [
        module.register_forward_hook(recorder(name))
        for name, module in model.named_modules()
        if not any(True for _ in module.children()) and not isinstance(module, SKIPPED)
    ]
    try:
        model.eval()
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return found


def dead_units(model: nn.Module, outputs: dict[str, Tensor]) -> float | None:
    """Return the share of ReLU units (channels, after a convolution) that are 0 for every example, or None without a ReLU.

    outputs: the result of `activations`.
    """
    kinds = dict(model.named_modules())
    dead = [
        (output.transpose(0, 1).flatten(1) == 0).all(1).float()
        for name, output in outputs.items()
        if isinstance(kinds[name], nn.ReLU) and output.ndim > 1
    ]
    return float(torch.cat(dead).mean()) if dead else None


def log_inspection(fit: Fit, logger: Logger) -> dict[str, np.ndarray]:
    """Write histograms of the first seed's weights and activations -> metrics of all seeds, each [N]."""
    x = as_input(over(lambda part: part[:EXAMPLES].to(fit.stack.device), fit.train.sample.x))
    shares = []
    for k, module in enumerate(fit.stack.modules):
        with fit.stack.eval_mode(), fit.stack.drawing(k), fit.compute_plan.autocast(fit.stack.device):
            outputs = activations(module, x)
        shares.append(dead_units(module, outputs))
        if k == 0:
            for name, weight in module.named_parameters():
                logger.histogram(fit.step, f"weights/{name}", weight.detach().float().cpu().numpy())
            for name, output in outputs.items():
                logger.histogram(fit.step, f"activations/{name}", output.float().cpu().numpy())
    return {} if None in shares else {"train/dead_units": np.array(shares, np.float64)}


def graph(fit: Fit, logger: Logger) -> None:
    """Write the model's graph to the Graphs tab, if torch can trace it."""
    example = as_input(over(lambda part: part[:1].cpu(), fit.train.sample.x))
    draw_graph(fit.stack.modules[0], (example,) if isinstance(example, tuple) else example, logger)


def draw_graph(model: nn.Module, example: Any, logger: Logger) -> None:
    """Write a model's graph to the Graphs tab, or, if torch cannot trace it, the reason to the Text tab."""
    model = copy.deepcopy(model).cpu().eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a trace for one input shape is fine here
            logger.graph(model, example)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        logger.text("graph", f"The model's graph could not be drawn: {str(error).splitlines()[0]}")


def wrong_pictures(fit: Fit, k: int = 0, names: Sequence[str] | None = None) -> np.ndarray | None:
    """Draw the images that the k-th seed misclassifies, most confident first, with true and predicted class.

    Uses the validation data, or else the training data. Returns uint8 [height, width, 3], or None if the examples are not images
    or not in memory, or if none is misclassified. names: the names of the classes.
    """
    data = (fit.validation or fit.train).known
    if data is None or not isinstance(data.x, Tensor):
        return None
    shape = [n for n in data.x.shape[1:] if n != 1]
    if fit.classes is None or len(shape) != 2 or min(shape) < 4 or data.y.ndim != 1:
        return None
    sure, said = fit.probabilities(data.x)[k].max(-1)
    wrong = (said != data.y).nonzero()[:, 0]
    if not len(wrong):
        return None
    wrong = wrong[sure[wrong].argsort(descending=True)]
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 8), dpi=80, layout="constrained")
    for axes, i in zip(figure.subplots(4, 4).flat, [*wrong[:MOST_WRONG].tolist(), *[None] * MOST_WRONG], strict=False):
        axes.axis("off")
        if i is not None:
            is_, was = (names[int(c)] if names else int(c) for c in (data.y[i], said[i]))
            axes.imshow(data.x[i].reshape(shape).cpu().numpy(), cmap="gray_r")
            axes.set_title(f"true {is_}, predicted {was}\np = {sure[i]:.1%}", fontsize=12)
    where = "validation" if fit.validation else "training"
    figure.suptitle(
        f"{len(wrong)} of {len(data.x):,} {where} images misclassified, seed {fit.stack.seeds[k]}", fontsize=13
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib's
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]  # matplotlib's
