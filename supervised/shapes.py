"""Shape arithmetic, and the parameters and activation memory of each layer of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from supervised.validate import flag, instance, integer, integers, shown


class ShapeError(ValueError):
    """Raised when a filter does not fit its input, or a model does not fit its data."""


def conv_output(
    size: int, filter: int, stride: int = 1, padding: int = 0, dilation: int = 1, *, floor: bool = False
) -> int:
    """Return the output size of a convolution along one axis, (size - filter + 2 padding) / stride + 1.

    floor: round down as torch does, ignoring the last rows. Raises ShapeError if the filter is larger than the padded input
    or, without floor, if the result is not a whole number.
    """
    return _fit("filter", size, filter, stride, padding, dilation, ceil=False, floor=flag(floor, "floor"))


def pool_output(size: int, window: int, stride: int | None = None, padding: int = 0, *, ceil: bool = False) -> int:
    """Return the output size of pooling along one axis.

    stride: None: that of the window. ceil: whether the last window may extend beyond the input. Raises ShapeError if the window
    does not fit.
    """
    stride = window if stride is None else stride
    return _fit("window", size, window, stride, padding, 1, ceil=flag(ceil, "ceil"), floor=False)


def _fit(
    what: str, size: int, filter: int, stride: int, padding: int, dilation: int, *, ceil: bool, floor: bool
) -> int:
    sizes = {"size": size, what: filter, "stride": stride, "dilation": dilation}
    size, filter, stride, dilation = (integer(v, f"The {name}", 1, error=ShapeError) for name, v in sizes.items())
    padding = integer(padding, "The padding", 0, error=ShapeError)
    reach = dilation * (filter - 1) + 1
    room = size + 2 * padding - reach
    said = f"A {what} of {filter}" + (f" (dilated to {reach})" if dilation > 1 else "")
    if room < 0:
        raise ShapeError(f"{said} does not fit into {size} with padding {padding}: it is larger than the padded input.")
    rest = room % stride
    if rest and not ceil and not floor:
        raise ShapeError(
            f"{said} with stride {stride} and padding {padding} does not fit into {size}: ({size} - {reach} +"
            f" {2 * padding}) / {stride} + 1 = {room / stride + 1:.3g} is not a whole number. The last {rest} would be"
            " ignored: change stride or padding, or crop the input."
        )
    return room // stride + 1 + (1 if rest and ceil else 0)


@dataclass(frozen=True)
class Layer:
    """One row of a layer table: the shape without the batch axis, bytes per example."""

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    activation_bytes: int


def layer_table(model: nn.Module, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> list[Layer]:
    """Return shape, parameters and activation memory of each layer of `model` for an input of `shape` (no batch axis).

    The first row is the input. Shared parameters are counted once. The model is run once, in eval mode and without gradients.
    Raises ShapeError if it does not accept such an input.
    """
    instance(model, "model", nn.Module, "a torch.nn.Module")
    instance(dtype, "dtype", torch.dtype, "a torch.dtype")
    shape = integers(shape, "shape", 0)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    example = torch.zeros(1, *shape, dtype=dtype, device=device)
    rows = [Layer("input", "", tuple(shape), 0, example.numel() * example.element_size())]
    counted: set[int] = set()
    handles = []
    was_training = {module: module.training for module in model.modules()}

    def listen(name: str, module: nn.Module) -> Callable[..., None]:
        def hear(_: nn.Module, __: Any, output: Any) -> None:
            first = output
            while isinstance(first, (tuple, list)):
                first = first[0]
            own = [p for p in module.parameters(recurse=False) if id(p) not in counted]
            counted.update(id(p) for p in own)
            size = first.numel() * first.element_size() if isinstance(first, Tensor) else 0
            found = tuple(first.shape[1:]) if isinstance(first, Tensor) else ()
            rows.append(Layer(name, type(module).__name__, found, sum(p.numel() for p in own), size))

        return hear

    for name, module in model.named_modules():
        if not any(True for _ in module.children()) or any(True for _ in module.parameters(recurse=False)):
            handles.append(module.register_forward_hook(listen(name, module)))
    try:
        model.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(example)
    except (RuntimeError, ValueError, IndexError, TypeError, KeyError, AttributeError) as error:
        raise ShapeError(f"The model does not accept inputs of shape {tuple(shape)}: {_first_line(error)}") from error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in was_training.items():
            module.training = mode
    return rows


def table_text(rows: Sequence[Layer]) -> str:
    """Format a layer table as text, with totals."""
    if not isinstance(rows, Sequence) or not all(isinstance(row, Layer) for row in rows):
        raise ShapeError(f"rows must be the list of Layers that layer_table returns, not {shown(rows)}.")
    cells = [("layer", "kind", "output", "parameters", "activations")]
    cells += [
        (r.name, r.kind, "x".join(map(str, r.output)) or "-", f"{r.parameters:,}", f"{r.activation_bytes:,} B")
        for r in rows
    ]
    total = (sum(r.parameters for r in rows), sum(r.activation_bytes for r in rows))
    cells.append(("total", "", "", f"{total[0]:,}", f"{total[1]:,} B"))
    width = [max(len(row[i]) for row in cells) for i in range(5)]
    return "\n".join(
        "  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, width, strict=True)))
        for row in cells
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
