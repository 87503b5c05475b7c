"""Building blocks of models: activations and initializers by name, and models as a trunk and a head.

A trunk maps inputs to features [B, features], a head maps features to outputs. Another head on the same trunk makes another
model: a Q-network is one with a head of Q-values.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from supervised.losses import LOSSES
from supervised.renamed import former_name
from supervised.stack import Members, Op, register_batched, register_deterministic
from supervised.stack.manual_backward import PARTS
from supervised.validate import ArgumentError, choice, flag, instance, integer

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
MOST_WEIGHTS = 2**30  # of one layer
# Initializers: functions of the weight and the standard deviation.
DRAWN: dict[str, Callable[[Tensor, float], object]] = {
    "zeros": lambda weight, _std: nn.init.zeros_(weight),
    "normal": lambda weight, std: nn.init.normal_(weight, std=std),
    "truncated_normal": lambda weight, std: nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std),
    "xavier": lambda weight, _std: nn.init.xavier_uniform_(weight),
    "he": lambda weight, _std: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "lecun": lambda weight, _std: nn.init.kaiming_normal_(weight, nonlinearity="linear"),
}
INITIALIZERS = ("torch", *DRAWN)


def activation(name: str) -> nn.Module:
    """Return the activation of that name. Raises ValueError for an unknown name, suggesting the closest."""
    choice(name, "activation", ACTIVATIONS)
    return ACTIVATIONS[name]()


def initialize(module: nn.Module, how: str) -> nn.Module:
    """Initialize the weights of `module` and zero its biases -> the module.

    how: "torch" (keep PyTorch's initialization), "zeros", "normal" or "truncated_normal" with a standard deviation as in
    "normal(0.01)" (default 1; truncated at two standard deviations), "xavier" (uniform: Glorot and Bengio 2010, equation 16),
    "he" (normal: He et al. 2015, equation 10), "lecun" (normal with variance 1 / inputs: LeCun et al. 1998, equation 16; for
    "selu", Klambauer et al. 2017). The scales of normalization layers stay at 1.
    """
    instance(module, "module", nn.Module, "a torch.nn.Module")
    name, std = _initializer(how)
    if name == "torch":
        return module
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            if parameter.ndim >= 2:
                DRAWN[name](parameter, std)
            elif "bias" in key:
                parameter.zero_()
    return module


def _initializer(how: Any) -> tuple[str, float]:
    """Parse an initializer into its name and standard deviation. Raises ValueError for anything else."""
    found = re.fullmatch(r"([a-z_]+)(?:\(([-+.\de]+)\))?", how) if isinstance(how, str) else None
    name, written = (found[1], found[2]) if found else (how, None)
    choice(name, "initializer", INITIALIZERS)
    if written is None:
        return name, 1.0
    if name not in ("normal", "truncated_normal"):
        raise ValueError(f"The initializer {name} takes no number: write {name!r}, not {how!r}.")
    try:
        std = float(written)
    except ValueError:
        std = math.nan
    if not (math.isfinite(std) and std > 0):
        raise ValueError(
            f"The standard deviation of an initializer must be a number above 0, not {written} (in {how!r})."
        )
    return name, std


class Model(nn.Module):
    """A trunk (inputs -> features) and a head (features -> outputs). loss: the name of the loss for its outputs."""

    def __init__(self, trunk: nn.Module, head: nn.Module, loss: str) -> None:
        super().__init__()
        for name, part in (("trunk", trunk), ("head", head)):
            instance(part, name, nn.Module, "a torch.nn.Module")
        self.trunk, self.head, self.loss = trunk, head, choice(loss, "loss", LOSSES)

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass [B, ...] -> [B, outputs]."""
        y: Tensor = self.head(self.trunk(x))
        return y


PARTS[Model] = lambda model: [model.trunk, model.head]
register_deterministic(Model)


@register_batched(Model)
def _model(members: Members, modules: Sequence[Model]) -> Op | None:
    trunk, head = members.batched_op([m.trunk for m in modules]), members.batched_op([m.head for m in modules])
    return None if trunk is None or head is None else lambda x: head(trunk(x))


def named(parts: Sequence[tuple[str, nn.Module]]) -> nn.Sequential:
    """Return an nn.Sequential of named layers; TensorBoard and checkpoints show the names."""
    return nn.Sequential(OrderedDict(parts))


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """Create a linear layer. Raises ArgumentError for sizes that are not whole numbers of at least 1, or that are too large."""
    inputs, outputs = integer(inputs, "inputs", 1), integer(outputs, "outputs", 1)
    check_weights(inputs=inputs, outputs=outputs)
    return nn.Linear(inputs, outputs, flag(bias, "bias"))


def check_weights(**sizes: int) -> None:
    """Raise ArgumentError, naming the sizes, for a layer with more than MOST_WEIGHTS weights."""
    if math.prod(sizes.values()) > MOST_WEIGHTS:
        said = " x ".join(f"{name} ({size:,})" for name, size in sizes.items())
        raise ArgumentError(f"{said} are too many weights for one layer: at most {MOST_WEIGHTS:,} are allowed.")


__getattr__ = former_name(__name__)
