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
from supervised.names import OPTIMIZERS
from supervised.schedules import KINDS, MOST, Schedule, check_range
from supervised.validate import ArgumentError, choice, flag, function, integer, number, shown, store, unwrapped

# Torch's schedules with plain numbers as options: those that span the whole fit advance every step, the others every epoch.
BY_STEP = ("OneCycleLR", "CosineAnnealingLR", "LinearLR", "PolynomialLR")
BY_EPOCH = ("StepLR", "MultiStepLR", "ExponentialLR")
TAKES = ("prediction", "y")  # the arguments of user-defined functions
TAKEN = ("loss", "accuracy", "rmse", "learning_rate", "gradient_norm", "update_to_weight", "dead_units")
AUGMENTATIONS = {kind.__name__: kind for kind in (Shift, Affine, Noise)}


@dataclass(frozen=True)
class Recipe:
    """The settings of `fit`.

    epochs: passes over the data. batch_size: examples per step; None: all of them; a DataLoader's batch size takes precedence.
    loss: a name; a function of one member's prediction [B, ...] and y [B, ...] that returns the loss of each example, [B, ...];
    None: the model's own. metrics: functions of the same form, by name; their means over all examples are logged beside the
    loss. class_weights: the weight of each class in cross_entropy and binary_cross_entropy, as in torch's weighted mean.
    optimizer: the name of a torch.optim optimizer, or "LBFGS" (with batch_size=None). optimizer_options: its further arguments.
    learning_rate: one for all seeds, or one per seed. schedule: None; a schedule of `supervised.schedules` in optimizer steps,
    whose value multiplies the learning rate; or the name of a torch.optim.lr_scheduler: OneCycleLR, CosineAnnealingLR, LinearLR
    and PolynomialLR span the whole fit and advance every step, StepLR, MultiStepLR and ExponentialLR every epoch.
    schedule_options: arguments of the latter. weight_decay: as defined by the optimizer. clip_norm: the maximum gradient norm of
    a seed. bptt_steps: truncated backpropagation through time: cut sequences into parts of this length and carry the state over
    (Williams and Peng 1990). label_smoothing: for cross_entropy (Szegedy et al. 2016, section 7). patience_epochs: stop a seed
    whose validation loss has not improved for this many epochs. keep_best: finish with the weights with the lowest validation
    loss; None: only with patience_epochs. augment: image augmentations. freeze: names of layers, or prefixes of names, that are
    not trained. precision: "auto" (bf16 if the device benefits, else fp32), "fp32" (on CUDA without TF32, which torch uses for
    convolutions by default), "tf32" (CUDA since Ampere), "bf16". stop_if_diverging: raise `Diverged` if the loss diverges.
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
            raise ValueError("schedule_options require schedule to be the name of a torch scheduler.")
        if self.optimizer == "LBFGS":
            for name in ("batch_size", "clip_norm", "bptt_steps", "schedule"):
                if getattr(self, name) is not None:
                    raise ValueError(f"LBFGS uses all data at each step and a line search: {name} must be None.")
            if self.weight_decay or self.augment:
                raise ValueError("LBFGS minimizes one fixed function: weight_decay and augment cannot be used with it.")
            if self.precision in ("tf32", "bf16"):
                raise ValueError("The line search of LBFGS needs full precision: precision must be auto or fp32.")
        if not isinstance(self.augment, tuple) or not all(isinstance(a, Augmentation) for a in self.augment):
            raise ArgumentError(f"augment must be a tuple of {', '.join(AUGMENTATIONS)}, not {shown(self.augment)}.")
        if not isinstance(self.freeze, tuple) or not all(isinstance(name, str) for name in self.freeze):
            raise ArgumentError(f"freeze must be a tuple of layer names, such as ('trunk',), not {shown(self.freeze)}.")

    @property
    def by_step(self) -> bool:
        """Whether the schedule advances every step rather than every epoch."""
        return self.schedule not in BY_EPOCH

    @property
    def spans(self) -> bool:
        """Whether the schedule depends on the length of the whole fit."""
        if self.schedule is None or isinstance(self.schedule, str):
            return self.schedule in BY_STEP
        return self.schedule.curve(10**6) != self.schedule.curve(10**9)

    @staticmethod
    def from_json(data: Mapping[str, Any], **given: Callable[[Tensor, Tensor], Tensor]) -> Recipe:
        """Read a recipe that `to_json` wrote; missing settings have their defaults.

        given: the functions, which files cannot contain, by name: loss=..., and those of metrics. Raises ValueError if one is
        missing, and ValueError, TypeError or KeyError for invalid data.
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
        """Return the settings as JSON values, for checkpoints and results."""
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
    """Check the name of a loss, or a function of prediction and y."""
    if not callable(value):
        return choice(value, name, LOSSES, none=none)
    return function(value, name, TAKES, "the name of a loss or a function (prediction, y) -> the loss of each example")


def _metrics(value: Any, name: str) -> dict[str, Any]:
    """Check functions of prediction and y, by names that no other curves have."""
    if not isinstance(value, Mapping):
        raise ArgumentError(f"{name} must be a mapping from names to functions (prediction, y), not {shown(value)}.")
    for key, metric in value.items():
        if not isinstance(key, str) or not re.fullmatch(r"[\w.-]+", key) or key in TAKEN:
            raise ArgumentError(
                f"Names of {name} may contain letters, digits, _, . and -, and must not be {', '.join(TAKEN)}; not {shown(key)}."
            )
        function(metric, f"{name}[{key!r}]", TAKES, "a function (prediction, y) -> a number for each example")
    return dict(value)


def _weights(value: Any, name: str, none: bool) -> tuple[float, ...]:
    """Check one weight per class."""
    if not isinstance(value, (list, tuple)) and getattr(value, "ndim", 0) != 1:
        raise ArgumentError(
            f"{name} must be a list of numbers of at least 0, one per class{', or None' * none}, not {shown(value)}."
        )
    return tuple(number(weight, f"{name}[{i}]", 0.0) for i, weight in enumerate(value))


def _schedule(value: Any, name: str, none: bool) -> str | Schedule:
    """Check the name of a torch scheduler, or a schedule in steps whose values multiply the learning rate."""
    if isinstance(value, Schedule) and not isinstance(value, type):
        check_range(name, value, 0.0, MOST, ("steps",))
        return value
    return choice(value, name, (*BY_STEP, *BY_EPOCH), none=none)


def _found(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Replace references to functions by the functions given."""
    for name, value in settings.items():
        if functions.is_function(value) and name not in given:
            raise ValueError(
                f"The recipe was created with {name}={value.get('name')}, a function, which files cannot contain: pass it again"
                f" as {name}=..."
            )
    return {name: given[name] if functions.is_function(value) else value for name, value in settings.items()}


def _rates(value: Any, name: str) -> float | tuple[float, ...]:
    """Check one learning rate, or one per seed (a list, an array or a tensor)."""
    several = isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1
    return tuple(number(rate, name, 0.0) for rate in value) if several else number(value, name, 0.0)


def _options(value: Any, name: str) -> dict[str, Any]:
    """Check a mapping of settings by name, and convert numpy and torch scalars to Python's."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ArgumentError(f"{name} must be a mapping from names to values, not {shown(value)}.")
    return dict(unwrapped(dict(value)))
