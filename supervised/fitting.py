"""A fit that is under way: N members of a model, their optimizers and random streams, and one epoch after another."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from supervised import losses, metrics, optimize
from supervised.cnn import Image
from supervised.data import Data, DataError, as_data, tensor_of
from supervised.device import check_room, keep_memory, manner
from supervised.divergence import Watchman
from supervised.recipe import BY_STEP, Recipe
from supervised.stack import Stack, clip_per_seed, norms
from supervised.state import check_alike, detached, from_tree, load_optimizer, to_tree
from supervised.streams import Draws, Streams
from supervised.trial import as_input, check_recipe, first, try_out
from supervised.validate import choice, first_line

COUNTERS = ("last_epoch", "_step_count", "_last_lr")  # what moves in a schedule of torch; all else is its settings
CHUNK = 1000  # examples a member sees at once when it is only judged


class Fit:
    """N members being fitted to the same data, each in an order of its own. `advance()` is one epoch.

    `stack` holds the members, `epoch` and `step` count what was done, `history` has a row of metrics for each epoch.
    """

    def __init__(
        self,
        stack: Stack,
        train: Data,
        validation: Data | None,
        recipe: Recipe,
        threads: int | None = None,
    ) -> None:
        keep_memory()
        device = stack.device
        self.stack, self.recipe = stack, recipe
        given = [train, *([] if validation is None else [validation])]
        self.train, self.validation = _to(train, device), None if validation is None else _to(validation, device)
        loss = recipe.loss or getattr(stack.modules[0], "loss", None)
        if not isinstance(loss, str):
            raise ValueError("The loss is missing: the model names none, so the recipe must.")
        choice(loss, "loss", losses.LOSSES)
        if recipe.label_smoothing and loss != "cross_entropy":
            raise ValueError(f"label_smoothing belongs to cross_entropy, and the loss is {loss}.")
        self.loss: str = loss
        precision = "fp32" if recipe.optimizer == "LBFGS" else recipe.precision  # its line search needs every digit
        self.manner = manner(stack.modules[0], train.x.shape[1:], device, precision, threads)
        for module in stack.modules:
            for part in module.modules():
                if isinstance(part, Image):
                    part.channels_last = self.manner.channels_last
        self.train, self.classes, self.recurrent, self.all_count = try_out(stack, self.train, loss, "The training data")
        if self.validation is not None:
            self.validation = try_out(stack, self.validation, loss, "The validation data").data
        used = [part for part in (self.train, self.validation) if part is not None]
        self._fingerprint = _fingerprint(given, used)
        m = len(self.train.x)
        self.batch_size = m if recipe.batch_size is None else min(recipe.batch_size, m)
        check_recipe(stack, self.train, recipe)
        self.pieces = self._time_pieces()
        self.steps_per_epoch = math.ceil(m / self.batch_size) * len(self.pieces)
        self.optimizers, self.schedulers = self._optimizers()
        n = len(stack.seeds)
        self.order = Streams(stack.seeds, "data")
        self.augmenters = Draws(stack.seeds, "augment", device)
        self.epoch = self.step = 0
        self.resumed_at = 0  # the epoch at which the last call of `fit` began
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] | None = None
        self.lowest, self.best_epoch = np.full(n, math.inf), np.zeros(n, np.int64)
        self.stopped = np.zeros(n, bool)
        self.watchman = Watchman(self)
        keep = recipe.keep_best if recipe.keep_best is not None else recipe.patience_epochs is not None
        if (keep or recipe.patience_epochs is not None) and validation is None:
            raise ValueError("patience_epochs and keep_best go by the validation loss: give validation data.")
        self.keeps_best = keep

    # -- learning ------------------------------------------------------------------------------------------------------

    def advance(self, tick: Callable[[], None] | None = None) -> dict[str, Any]:
        """One epoch -> its metrics, each float64 [N]. tick: called after each step. Raises Diverged when the loss runs away."""
        with self.manner.at_work(self.stack.device):
            self.stack.train()
            for module in self.stack.modules:
                for name in self.recipe.freeze:  # what is frozen computes as if judged: batch-norm does not count on
                    part = dict(module.named_modules()).get(name)
                    if part is not None:
                        part.eval()
            m = len(self.train.x)
            shuffled = self.batch_size < m
            order = torch.from_numpy(
                np.stack([g.permutation(m) if shuffled else np.arange(m) for g in self.order.generators])
            )
            order = order.to(self.stack.device, non_blocking=True)
            steps: list[tuple[float, Tensor, Tensor]] = []  # share of the epoch, loss [N], share of right answers [N]
            for begin in range(0, m, self.batch_size):
                index = order[:, begin : begin + self.batch_size]
                x, y = self._batch(index, augment=True)
                state = None
                for i, (piece_x, piece_y) in enumerate(self._cut(x, y)):
                    measured = begin + self.batch_size >= m and i == len(self.pieces) - 1
                    rates = self.learning_rates() if measured else []
                    loss, right, state, measures = self._learn(piece_x, piece_y, state, measured)
                    steps.append((index.shape[1] / m / len(self.pieces), loss, right))
                    self.step += 1
                    self.watchman.look(loss)
                    for scheduler in self.schedulers if self.recipe.schedule in BY_STEP else []:
                        scheduler.step()
                    if tick is not None:
                        tick()
            self.epoch += 1
            for scheduler in self.schedulers if self.recipe.schedule not in BY_STEP else []:
                scheduler.step()
            self.watchman.report()
            found = {"train/learning_rate": rates, **_fetched(measures), **self._means(steps)}
            if self.validation is not None:
                found |= {f"validation/{tag}": value for tag, value in self._judge(self.validation).items()}
            row = {tag: np.asarray(value, np.float64) for tag, value in found.items()}
            if self.validation is not None:
                self._keep(row["validation/loss"])
            self.history.append({"epoch": self.epoch, "step": self.step, **row})
            return row

    def _means(self, steps: list[tuple[float, Tensor, Tensor]]) -> dict[str, Tensor]:
        """Loss and accuracy [N] over an epoch, each step counted by its share of it."""
        share = torch.tensor([s for s, _, _ in steps], dtype=torch.float64)[:, None]
        # float64 on the host: not every device has it.
        loss, right = torch.stack([torch.stack((loss, right)) for _, loss, right in steps], 1).cpu().double()
        found = {"train/loss": (share * loss).sum(0)}
        if self.loss in metrics.CLASSIFYING:
            found["train/accuracy"] = (share * right).sum(0)
        return found

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or every seed has stopped early."""
        return self.epoch >= self.recipe.epochs or bool(self.stopped.all())

    def _batch(self, index: Tensor, augment: bool) -> tuple[Tensor, Tensor]:
        """The examples of index [N, B]: x [N, B, ...] and y [N, B, ...]."""
        flat = index.flatten()
        x, y = (part.index_select(0, flat).unflatten(0, index.shape) for part in self.train)
        x = as_input(x)
        if augment and self.recipe.augment:
            members = []
            self.augmenters.begin()
            for k, member in enumerate(x):
                altered = member
                for augmentation in self.recipe.augment:
                    altered = augmentation(altered, self.augmenters.generator(k))
                members.append(altered)
            x = torch.stack(members)
        return x, y

    def _learn(self, x: Tensor, y: Tensor, state: Any, measured: bool) -> tuple[Tensor, Tensor, Any, dict[str, Tensor]]:
        """One step of each optimizer -> loss [N], share of right answers [N], the state after, measures [N]."""
        if self.recipe.optimizer == "LBFGS":
            return (*self._learn_by_lbfgs(x, y), None, {})
        prediction, state = self._predict(x, state)
        loss = losses.per_seed(*self._losses(prediction, y))
        self.stack.zero_grad()
        loss.sum().backward()
        found: dict[str, Tensor] = {}
        if self.recipe.clip_norm is not None:
            found["train/gradient_norm"] = clip_per_seed(self.stack, self.recipe.clip_norm)
        elif measured:
            found["train/gradient_norm"] = norms(self.stack, self.stack.gradients.values())
        before = [self.stack.weights[name].detach().clone() for name in self.stack.gradients] if measured else []
        for optimizer in self.optimizers:
            optimizer.step()
        if measured:
            after = [self.stack.weights[name].detach() for name in self.stack.gradients]
            moved = norms(self.stack, [a - b for a, b in zip(after, before, strict=True)])
            found["train/update_to_weight"] = moved / norms(self.stack, before).clamp(min=1e-30)
        return loss.detach(), self._right(prediction.detach(), y), detached(state), found

    def _learn_by_lbfgs(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        found: list[Tensor] = []
        right: list[Tensor] = []
        for k, optimizer in enumerate(self.optimizers):

            def closure(k: int = k) -> Tensor:
                self.stack.zero_grad()
                prediction = first(self.stack.run(k, x[k]))[None]
                loss = losses.per_seed(*self._losses(prediction, y[k][None]))[0]
                loss.backward()
                found[k:] = [loss.detach()]
                right[k:] = [self._right(prediction.detach(), y[k][None])[0]]
                return loss

            optimizer.step(closure)  # type: ignore[arg-type]  # torch's type wants a float, its code a tensor
        return torch.stack(found), torch.stack(right)

    def _predict(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        with self._precision():
            output = self.stack(x, state) if self.recipe.bptt_steps is not None else self.stack(x)
        prediction, state = output if self.recurrent else (output, None)
        return prediction.float() if self.manner.bf16 else prediction, state

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.stack.device.type, torch.bfloat16) if self.manner.bf16 else contextlib.nullcontext()

    def _losses(self, prediction: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """The loss of each example [N, B, ...], and which of them count."""
        if self.loss != "cross_entropy":
            return losses.LOSSES[self.loss](prediction, y), None
        counts = None if self.all_count else y != losses.IGNORED
        return losses.cross_entropy(prediction, y, self.recipe.label_smoothing), counts

    def _right(self, prediction: Tensor, y: Tensor) -> Tensor:
        """The share of right answers of each seed, [N]; zeros for a regression."""
        right = metrics.correct(prediction, y, self.loss)
        if right is None:
            return torch.zeros(len(y), device=y.device)
        return losses.per_seed(right.float(), None if self.all_count else y != losses.IGNORED)

    def _keep(self, loss: np.ndarray) -> None:
        better = (loss < self.lowest) & ~self.stopped
        self.lowest, self.best_epoch = (
            np.where(better, loss, self.lowest),
            np.where(better, self.epoch, self.best_epoch),
        )
        if self.keeps_best and better.any():
            now = self.stack.state_dict()
            if self.best is None:
                self.best = {name: value.clone() for name, value in now.items()}
            for name, value in now.items():
                for k in np.flatnonzero(better):
                    self.best[name][k].copy_(value[k])
        if self.recipe.patience_epochs is not None:
            self.stopped |= self.epoch - self.best_epoch >= self.recipe.patience_epochs

    def take_best(self) -> None:
        """Put each member back to the weights of its lowest validation loss, if they were kept."""
        if self.best is not None:
            self.stack.load_state_dict(self.best)

    def learning_rates(self) -> list[float]:
        """The learning rate of each seed now."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        rates = [float(group["lr"]) for group in groups]
        return rates if len(rates) == len(self.stack.seeds) else rates * len(self.stack.seeds)

    # -- judging -------------------------------------------------------------------------------------------------------

    def predict(self, x: Any) -> Tensor:
        """What each member answers to the same x [M, ...]: [N, M, ...], in evaluation mode and without a gradient.

        The answer is on the CPU for an array or a tensor of the CPU, and on its device for a tensor of another one; so are
        those of `probabilities` and `ensemble`. Raises DataError for an x that does not go into the model.
        """
        inputs = tensor_of(x, "x")
        if inputs.dtype != torch.uint8 and self.train.x.is_floating_point():
            inputs = inputs.float()
        with self.manner.at_work(self.stack.device):
            try:
                parts = [self._answer(part.to(self.stack.device)).to(inputs.device) for part in inputs.split(CHUNK)]
            except (RuntimeError, TypeError, IndexError) as error:
                raise DataError(f"x {list(inputs.shape)} does not go into the model: {first_line(error)}") from error
        return torch.cat(parts, 1)

    def probabilities(self, x: Any) -> Tensor:
        """What each member holds for likely, [N, M, ...]: softmax or sigmoid of `predict`, as the loss has it."""
        return metrics.probabilities(self.predict(x), self.loss)

    def ensemble(self, x: Any) -> Tensor:
        """The members' probabilities on average, [M, ...]."""
        return self.probabilities(x).mean(0)

    def evaluate(self, data: Any) -> dict[str, np.ndarray]:
        """Loss, and accuracy or root mean squared error, of each member on the same pair (x, y): each float64 [N].

        Raises DataError for data that do not go with the model.
        """
        return self._judge(try_out(self.stack, _to(as_data(data), self.stack.device), self.loss, "The data").data)

    def _judge(self, data: Data) -> dict[str, np.ndarray]:
        n = len(self.stack.seeds)
        total = torch.zeros(n, dtype=torch.float64)  # on the host: not every device has float64
        right_answers = count = torch.zeros(n, dtype=torch.int64, device=self.stack.device)
        with self.manner.at_work(self.stack.device):
            for x, y in zip(data.x.split(CHUNK), data.y.split(CHUNK), strict=True):
                prediction, target = self._answer(x), y.expand(n, *y.shape)
                loss = losses.LOSSES[self.loss](prediction, target)
                right = metrics.correct(prediction, target, self.loss)
                total += loss.cpu().double().flatten(1).sum(1)
                right_answers = right_answers + (0 if right is None else right.flatten(1).sum(1))
                count = count + (loss[0].numel() if right is None else (target != losses.IGNORED).flatten(1).sum(1))
        return self._averages(*(part.cpu().numpy().astype(np.float64) for part in (total, right_answers, count)))

    def _averages(self, total: np.ndarray, right_answers: np.ndarray, count: np.ndarray) -> dict[str, np.ndarray]:
        found = {"loss": total / np.maximum(count, 1)}
        if self.loss in metrics.CLASSIFYING:
            return {**found, "accuracy": right_answers / np.maximum(count, 1)}
        return {**found, "rmse": np.sqrt(found["loss"])} if self.loss == "mse" else found

    def _answer(self, x: Tensor) -> Tensor:
        x = as_input(x)
        with self.stack.judged(), self._precision():
            prediction: Tensor = first(self.stack(x.expand(len(self.stack.seeds), *x.shape)))
        return prediction.float()

    # -- what it is made of ----------------------------------------------------------------------------------------------

    def _optimizers(self) -> tuple[list[torch.optim.Optimizer], list[Any]]:
        recipe = self.recipe
        if recipe.optimizer == "LBFGS":
            return optimize.lbfgs(self.stack, recipe.learning_rate, **recipe.optimizer_options), []
        options = dict(recipe.optimizer_options)
        if recipe.weight_decay:
            options["weight_decay"] = recipe.weight_decay
        made = optimize.optimizer(self.stack, recipe.optimizer, recipe.learning_rate, **options)
        if recipe.schedule is None:
            return [made], []
        total = recipe.epochs * self.steps_per_epoch
        return [made], [optimize.schedule(made, recipe.schedule, total, **recipe.schedule_options)]

    def _time_pieces(self) -> list[slice]:
        """Where sequences are cut for truncated back-propagation: one piece if they are not."""
        length = self.recipe.bptt_steps
        if length is None:
            return [slice(None)]
        if not self.recurrent:
            raise ValueError("bptt_steps cuts sequences for a recurrent model, and this one answers no state.")
        if self.train.y.ndim < 2 or self.train.x.ndim < 2 or self.train.x.shape[1] != self.train.y.shape[1]:
            raise ValueError(
                "bptt_steps cuts x [M, T, ...] and y [M, T, ...] alike, so there must be a target at each time:"
                f" x is {list(self.train.x.shape)} and y {list(self.train.y.shape)}."
            )
        return [slice(t, t + length) for t in range(0, self.train.x.shape[1], length)]

    def _cut(self, x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(x, y)] if len(self.pieces) == 1 else [(x[:, :, piece], y[:, :, piece]) for piece in self.pieces]

    # -- saving ----------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed fit needs, as arrays and JSON values."""
        return {
            "weights": to_tree(self.stack.state_dict()),
            "best": to_tree(self.best),
            "forward": to_tree(self.stack.random_state()),
            "augment": to_tree(self.augmenters.state()),
            "order": self.order.state_dict(),
            "optimizers": [to_tree(optimizer.state_dict()) for optimizer in self.optimizers],
            "schedulers": [{name: getattr(scheduler, name) for name in COUNTERS} for scheduler in self.schedulers],
            "lowest": self.lowest,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            "watchman": self.watchman.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "history": {tag: np.array([row[tag] for row in self.history]) for tag in (self.history or [{}])[0]},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave. Raises ValueError when it is of another fit or damaged."""
        try:
            self.stack.load_state_dict(from_tree(state["weights"]))
            self.stack.load_random_state(from_tree(state["forward"]))
            self.augmenters.load_state(from_tree(state["augment"]), "augment" if self.recipe.augment else "")
            self.order.load_state_dict(state["order"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                load_optimizer(optimizer, saved)
            for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
                check_alike(saved, {name: getattr(scheduler, name) for name in COUNTERS}, "the schedule")
                scheduler.load_state_dict(saved)
            best = from_tree(state["best"])
            self.best = None if best is None else {name: v.to(self.stack.device) for name, v in best.items()}
            n = len(self.stack.seeds)
            self.lowest, self.best_epoch = state["lowest"].reshape(n).copy(), state["best_epoch"].reshape(n).copy()
            self.stopped = state["stopped"].reshape(n).copy()
            self.watchman.load_state_dict(state["watchman"])
            self.epoch, self.step = int(state["epoch"]), int(state["step"])
            columns = {tag: list(np.asarray(column)) for tag, column in state["history"].items()}
            self.history = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
            self._check_loaded()
        except (KeyError, TypeError, AttributeError, IndexError, RuntimeError, ValueError) as error:
            raise ValueError(f"The saved fit is damaged or of another model: {first_line(error)}") from error

    def _check_loaded(self) -> None:
        """Damage that would be noticed only an epoch later, or never."""
        n = len(self.stack.seeds)
        if not (0 <= self.epoch <= self.step < 2**62 and len(self.history) == self.epoch):
            raise ValueError("its counters contradict each other")
        if self.watchman.far.shape != (n,) or any(loss.shape != (n,) for loss in self.watchman.recent):
            raise ValueError("its losses are of another number of seeds")

    def fingerprint(self) -> str:
        """A short name of the training and validation data, to know them again."""
        return self._fingerprint


def _fingerprint(given: Sequence[Data], used: Sequence[Data]) -> str:
    """A checksum of each tensor of the data as they were given, so that a device need not send them back, with the type they
    are used in."""
    pairs = [pair for parts in zip(given, used, strict=True) for pair in zip(*parts, strict=True)]
    return "-".join(f"{zlib.crc32(g.cpu().to(u.dtype).contiguous().numpy().data):08x}" for g, u in pairs)


def _fetched(measures: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Measures [N] of a device as arrays, fetched at once."""
    rows = torch.stack(list(measures.values())).cpu().numpy() if measures else ()
    return dict(zip(measures, rows, strict=True))


def _to(data: Data, device: torch.device) -> Data:
    check_room(sum(part.nbytes for part in data if part.device.type != device.type), device, "The data")
    return Data(data.x.to(device), data.y.to(device))


def freeze(module: nn.Module, names: Sequence[str]) -> nn.Module:
    """Take the layers of these names (or that lie below them) out of training -> the module.

    Raises ValueError for a name that no parameter has.
    """
    for name in names:
        found = [p for key, p in module.named_parameters() if key == name or key.startswith(f"{name}.")]
        if not found:
            known = ", ".join(key for key, _ in module.named_parameters())
            raise ValueError(f"freeze names {name!r}, but the model's parameters are {known}.")
        for parameter in found:
            parameter.requires_grad_(False)
    return module
