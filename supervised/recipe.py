"""How a model is fitted: one frozen description, checked when it is made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from supervised.augment import Affine, Augmentation, Noise, Shift
from supervised.device import PRECISIONS
from supervised.losses import LOSSES
from supervised.names import nearest
from supervised.optimize import OPTIMIZERS

# Torch's schedules that need nothing but numbers: those told how many steps there are go on at each step, others each epoch.
BY_STEP = ("OneCycleLR", "CosineAnnealingLR", "LinearLR", "PolynomialLR")
BY_EPOCH = ("StepLR", "MultiStepLR", "ExponentialLR")
AUGMENTATIONS = {kind.__name__: kind for kind in (Shift, Affine, Noise)}


@dataclass(frozen=True)
class Recipe:
    """The settings of `fit`.

    epochs: passes over the data. batch_size: examples a step; None: all of them. loss: a name; None: the model's own.
    optimizer: a name of torch.optim, or "LBFGS" (with batch_size=None); its further options by name. learning_rate: one,
    or one a seed. schedule: None or a name of torch.optim.lr_scheduler, with options; OneCycleLR, CosineAnnealingLR,
    LinearLR and PolynomialLR span the whole fit and go on at each step, StepLR, MultiStepLR and ExponentialLR at each
    epoch. weight_decay: as the optimizer means it. clip_norm: the longest gradient of a seed. bptt_steps: sequences
    are cut into parts of so many steps, with the state carried over (Williams and Peng 1990). label_smoothing: of
    cross_entropy (Szegedy et al. 2016, section 7). patience_epochs: stop a seed whose validation loss has not come down
    for so long. keep_best: end with the weights of the lowest validation loss; None: if there is a patience. augment: how
    pictures are altered. freeze: names of layers, or beginnings of them, that are not trained. precision: "auto"
    (bf16 where the device gains by it), "fp32", "bf16". stop_if_diverging: raise `Diverged` when the loss runs away.
    """

    epochs: int = 10
    batch_size: int | None = 64
    loss: str | None = None
    optimizer: str = "Adam"
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float | tuple[float, ...] = 1e-3
    schedule: str | None = None
    schedule_options: Mapping[str, Any] = field(default_factory=dict)
    weight_decay: float = 0.0
    clip_norm: float | None = None
    bptt_steps: int | None = None
    label_smoothing: float = 0.0
    patience_epochs: int | None = None
    keep_best: bool | None = None
    augment: tuple[Augmentation, ...] = ()
    freeze: tuple[str, ...] = ()
    precision: str = "auto"
    stop_if_diverging: bool = True

    def __post_init__(self) -> None:
        for name in ("augment", "freeze"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if isinstance(self.learning_rate, list):
            object.__setattr__(self, "learning_rate", tuple(self.learning_rate))
        for name, optional in (
            ("epochs", False),
            ("batch_size", True),
            ("bptt_steps", True),
            ("patience_epochs", True),
        ):
            _whole(name, getattr(self, name), optional)
        if self.loss is not None:
            nearest(self.loss, LOSSES, "loss")
        nearest(self.optimizer, (*OPTIMIZERS, "LBFGS"), "optimizer")
        if self.schedule is not None:
            nearest(self.schedule, (*BY_STEP, *BY_EPOCH), "schedule")
        nearest(self.precision, PRECISIONS, "precision")
        rates = self.learning_rate if isinstance(self.learning_rate, tuple) else (self.learning_rate,)
        for rate in rates:
            _number("learning_rate", rate, 0)
        _number("weight_decay", self.weight_decay, 0)
        if self.clip_norm is not None:
            _number("clip_norm", self.clip_norm, 1e-30)
        _number("label_smoothing", self.label_smoothing, 0, 1)
        if self.schedule_options and self.schedule is None:
            raise ValueError("schedule_options are given, but no schedule.")
        if self.optimizer == "LBFGS":
            for name in ("batch_size", "clip_norm", "bptt_steps", "schedule"):
                if getattr(self, name) is not None:
                    raise ValueError(f"LBFGS takes all data at each step and finds its own way: {name} must be None.")
            if self.weight_decay or self.augment:
                raise ValueError("LBFGS minimises one fixed function: weight_decay and augment have no place in it.")
            if self.precision == "bf16":
                raise ValueError("The line search of LBFGS needs every digit: precision must be auto or fp32.")
        for name in ("optimizer_options", "schedule_options"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name} is a mapping from names to values, not {getattr(self, name)!r}.")
        for augmentation in self.augment:
            if not isinstance(augmentation, tuple(AUGMENTATIONS.values())):
                raise ValueError(f"augment holds {', '.join(AUGMENTATIONS)}, not {augmentation!r}.")
        if not isinstance(self.freeze, tuple) or not all(isinstance(name, str) for name in self.freeze):
            raise ValueError(f"freeze holds names of layers, such as ('trunk',), not {self.freeze!r}.")

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_json` wrote; settings that it does not have are at their defaults.

        Raises ValueError, TypeError or KeyError for anything else.
        """
        augment = [
            AUGMENTATIONS[a["type"]](**{k: v for k, v in a.items() if k != "type"}) for a in data.get("augment", ())
        ]
        return Recipe(**{**data, "augment": tuple(augment)})

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values, for checkpoints and results."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        found["augment"] = [{"type": type(a).__name__, **vars(a)} for a in self.augment]
        found["freeze"] = list(self.freeze)
        if isinstance(self.learning_rate, tuple):
            found["learning_rate"] = list(self.learning_rate)
        for name in ("optimizer_options", "schedule_options"):
            found[name] = {k: list(v) if isinstance(v, tuple) else v for k, v in found[name].items()}
        return found


def _whole(name: str, value: object, optional: bool) -> None:
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is a whole number from 1 on{' or None' if optional else ''}, not {value!r}.")


def _number(name: str, value: object, low: float, high: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < high:
        limits = f"from {low:g} on" if math.isinf(high) else f"in [{low:g}, {high:g})"
        raise ValueError(f"{name} is a number {limits}, not {value!r}.")
