"""The settings of a fit: one frozen dataclass, checked on creation."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from supervised import functions
from supervised.augment import Affine, Augmentation, Noise, Shift
from supervised.device import PRECISIONS
from supervised.losses import LOSSES
from supervised.schedules import KINDS, MOST, Schedule, check_range
from supervised.stack.optimizers import OPTIMIZERS
from supervised.validate import ArgumentError, choice, flag, function, integer, number, shown, store, unwrapped

# Torch's schedules whose options are plain numbers: those that span the whole fit advance every step, the others every epoch.
BY_STEP = ("OneCycleLR", "CosineAnnealingLR", "LinearLR", "PolynomialLR")
BY_EPOCH = ("StepLR", "MultiStepLR", "ExponentialLR")
TAKES = ("prediction", "y")  # what functions of the user are called with
TAKEN = ("loss", "accuracy", "rmse", "learning_rate", "gradient_norm", "update_to_weight", "dead_units")
AUGMENTATIONS = {kind.__name__: kind for kind in (Shift, Affine, Noise)}


@dataclass(frozen=True)
class Recipe:
    """The settings of `fit`.

    epochs: passes over the data. batch_size: examples a step; None: all of them; that of a DataLoader takes precedence. loss: a
    name; a function of one member's prediction [B, ...] and y [B, ...] that returns the loss of each example, [B, ...]; None:
    the model's own. metrics: functions likewise, by name; the mean of what they return over all examples stands beside the loss.
    class_weights: one a class, by which examples count in cross_entropy and binary_cross_entropy: torch's weighted mean.
    optimizer: a name of torch.optim, or "LBFGS" (with batch_size=None); its further options by name. learning_rate: one,
    or one a seed. schedule: None; a schedule of `supervised.schedules` in optimizer steps, whose value multiplies
    the learning rate; or a name of torch.optim.lr_scheduler, with options: OneCycleLR, CosineAnnealingLR, LinearLR and
    PolynomialLR span the whole fit and advance every step, StepLR, MultiStepLR and ExponentialLR every epoch.
    weight_decay: as the optimizer means it. clip_norm: the longest gradient of a seed. bptt_steps: sequences
    are cut into parts of so many steps, with the state carried over (Williams and Peng 1990). label_smoothing: of
    cross_entropy (Szegedy et al. 2016, section 7). patience_epochs: stop a seed whose validation loss has not come down
    for so long. keep_best: end with the weights of the lowest validation loss; None: if there is a patience. augment: how
    pictures are altered. freeze: names of layers, or beginnings of them, that are not trained. precision: "auto"
    (bf16 where the device gains by it, else fp32), "fp32" (on CUDA without TF32, which torch takes for convolutions by
    default), "tf32" (CUDA from Ampere on), "bf16". stop_if_diverging: raise `Diverged` when the loss runs away.
    """

    epochs: int = 10
    batch_size: int | None = 64
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None
    optimizer: str = "Adam"
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float | tuple[float, ...] = 1e-3
    schedule: str | Schedule | None = None
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
    metrics: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = field(default_factory=dict)
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("augment", "freeze"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        store(self, integer, "epochs", low=1)
        store(self, integer, "batch_size", "bptt_steps", "patience_epochs", low=1, none=True)
        store(self, _rates, "learning_rate")
        store(self, number, "weight_decay", low=0.0)
        store(self, number, "clip_norm", low=1e-30, none=True)
        store(self, number, "label_smoothing", low=0.0, high=1.0, below=True)
        store(self, flag, "keep_best", none=True)
        store(self, flag, "stop_if_diverging")
        store(self, choice, "optimizer", known=(*OPTIMIZERS, "LBFGS"))
        store(self, choice, "precision", known=PRECISIONS)
        store(self, _loss, "loss", none=True)
        store(self, _schedule, "schedule", none=True)
        store(self, _metrics, "metrics")
        store(self, _weights, "class_weights", none=True)
        store(self, _options, "optimizer_options", "schedule_options")
        if self.schedule_options and not isinstance(self.schedule, str):
            raise ValueError("schedule_options are given, but no schedule of torch by name.")
        if self.optimizer == "LBFGS":
            for name in ("batch_size", "clip_norm", "bptt_steps", "schedule"):
                if getattr(self, name) is not None:
                    raise ValueError(f"LBFGS takes all data at each step and finds its own way: {name} must be None.")
            if self.weight_decay or self.augment:
                raise ValueError("LBFGS minimises one fixed function: weight_decay and augment have no place in it.")
            if self.precision in ("tf32", "bf16"):
                raise ValueError("The line search of LBFGS needs every digit: precision must be auto or fp32.")
        if not isinstance(self.augment, tuple) or not all(isinstance(a, Augmentation) for a in self.augment):
            raise ArgumentError(f"augment is a tuple of {', '.join(AUGMENTATIONS)}, not {shown(self.augment)}.")
        if not isinstance(self.freeze, tuple) or not all(isinstance(name, str) for name in self.freeze):
            raise ArgumentError(f"freeze holds names of layers, such as ('trunk',), not {shown(self.freeze)}.")

    @property
    def by_step(self) -> bool:
        """Whether the schedule advances every step rather than every epoch."""
        return self.schedule not in BY_EPOCH

    @property
    def spans(self) -> bool:
        """Whether the schedule depends on how long the whole fit is."""
        if self.schedule is None or isinstance(self.schedule, str):
            return self.schedule in BY_STEP
        return self.schedule.curve(10**6) != self.schedule.curve(10**9)

    @staticmethod
    def from_json(data: Mapping[str, Any], **given: Callable[[Tensor, Tensor], Tensor]) -> Recipe:
        """The recipe that `to_json` wrote; settings that it does not have are at their defaults.

        given: the functions, which no file can hold, by name: loss=..., and those of metrics. Raises ValueError where one is
        missing, and ValueError, TypeError or KeyError for anything else.
        """
        data = {**data, **_found({k: data[k] for k in ("loss",) if k in data}, given)}
        data["metrics"] = _found(data.get("metrics", {}), given)
        if isinstance(data.get("schedule"), dict):
            data["schedule"] = KINDS[data["schedule"]["type"]](
                **{k: v for k, v in data["schedule"].items() if k != "type"}
            )
        if data.get("class_weights") is not None:
            data["class_weights"] = tuple(data["class_weights"])
        augment = [
            AUGMENTATIONS[a["type"]](**{k: v for k, v in a.items() if k != "type"}) for a in data.get("augment", ())
        ]
        return Recipe(**{**data, "augment": tuple(augment)})

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values, for checkpoints and results."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        found["augment"] = [{"type": type(a).__name__, **vars(a)} for a in self.augment]
        found["freeze"] = list(self.freeze)
        found["loss"] = functions.to_json(self.loss) if callable(self.loss) else self.loss
        found["metrics"] = {name: functions.to_json(metric) for name, metric in self.metrics.items()}
        if self.class_weights is not None:
            found["class_weights"] = list(self.class_weights)
        if self.schedule is not None and not isinstance(self.schedule, str):
            found["schedule"] = {"type": type(self.schedule).__name__, **vars(self.schedule)}
        if isinstance(self.learning_rate, tuple):
            found["learning_rate"] = list(self.learning_rate)
        for name in ("optimizer_options", "schedule_options"):
            found[name] = {k: list(v) if isinstance(v, tuple) else v for k, v in found[name].items()}
        return found


def _loss(value: Any, name: str, none: bool) -> Any:
    """A name of a loss, or a function of prediction and y."""
    if not callable(value):
        return choice(value, name, LOSSES, none=none)
    return function(value, name, TAKES, "a name of a loss or a function (prediction, y) -> the loss of each example")


def _metrics(value: Any, name: str) -> dict[str, Any]:
    """Functions of prediction and y by names that are no others' in the curves."""
    if not isinstance(value, Mapping):
        raise ArgumentError(f"{name} is a mapping from names to functions (prediction, y), not {shown(value)}.")
    for key, metric in value.items():
        if not isinstance(key, str) or not re.fullmatch(r"[\w.-]+", key) or key in TAKEN:
            raise ArgumentError(
                f"{name} are named by letters, digits, _, . and -, but for {', '.join(TAKEN)}; not {shown(key)}."
            )
        function(metric, f"{name}[{key!r}]", TAKES, "a function (prediction, y) -> a number for each example")
    return dict(value)


def _weights(value: Any, name: str, none: bool) -> tuple[float, ...]:
    """One weight a class."""
    if not isinstance(value, (list, tuple)) and getattr(value, "ndim", 0) != 1:
        raise ArgumentError(
            f"{name} is a list of numbers from 0 on, one a class{' or None' * none}, not {shown(value)}."
        )
    return tuple(number(weight, f"{name}[{i}]", 0.0) for i, weight in enumerate(value))


def _schedule(value: Any, name: str, none: bool) -> str | Schedule:
    """A name of torch's, or a schedule of ours in steps whose values are rates' factors."""
    if isinstance(value, Schedule) and not isinstance(value, type):
        check_range(name, value, 0.0, MOST, ("steps",))
        return value
    return choice(value, name, (*BY_STEP, *BY_EPOCH), none=none)


def _found(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the functions that were given in the place of their names."""
    for name, value in settings.items():
        if functions.is_function(value) and name not in given:
            raise ValueError(
                f"The recipe was made with {name}={value.get('name')}, a function, which no file can hold: give it again as"
                f" {name}=..."
            )
    return {name: given[name] if functions.is_function(value) else value for name, value in settings.items()}


def _rates(value: Any, name: str) -> float | tuple[float, ...]:
    """One learning rate, or one for each seed (a list, an array or a tensor of them)."""
    several = isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1
    return tuple(number(rate, name, 0.0) for rate in value) if several else number(value, name, 0.0)


def _options(value: Any, name: str) -> dict[str, Any]:
    """Settings by name, with scalars of numpy and torch as Python's."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ArgumentError(f"{name} is a mapping from names to values, not {shown(value)}.")
    return dict(unwrapped(dict(value)))
