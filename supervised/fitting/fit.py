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

from supervised import metrics
from supervised.device import keep_memory, manner
from supervised.fitting.check_data import as_input, check_recipe, first, shapes, train, try_out
from supervised.fitting.divergence import Watchman
from supervised.fitting.objective import Objective
from supervised.fitting.recipe import Recipe
from supervised.models.cnn import Image
from supervised.sources import DataError, Source, inputs_of, over, source_of
from supervised.stack import Stack, clip_per_seed, norms, optimizers
from supervised.state import check_alike, detached, from_tree, load_optimizer, to_tree
from supervised.streams import Draws, Streams
from supervised.validate import first_line

COUNTERS = ("last_epoch", "_step_count", "_last_lr")  # what moves in a schedule of torch; all else is its settings
CHUNK = 1000  # examples a member sees at once when it is only judged


class Fit:
    """N members being fitted to the same data, each in an order of its own. `advance()` is one epoch.

    `stack` holds the members, `epoch` and `step` count what was done, `history` has a row of metrics for each epoch.
    """

    def __init__(
        self,
        stack: Stack,
        train: Source,
        validation: Source | None,
        recipe: Recipe,
        threads: int | None = None,
    ) -> None:
        keep_memory()
        device = stack.device
        self.stack, self.recipe = stack, recipe
        given = [train, *([] if validation is None else [validation])]
        self.train: Source = train.to(device)
        self.validation: Source | None = None if validation is None else validation.to(device)
        self.objective = Objective(recipe, stack.modules[0], device)
        self.loss = self.objective.name
        precision = "fp32" if recipe.optimizer == "LBFGS" else recipe.precision  # its line search needs every digit
        self.manner = manner(stack.modules[0], getattr(train.sample.x, "shape", (0,))[1:], device, precision, threads)
        for module in stack.modules:
            for part in module.modules():
                if isinstance(part, Image):
                    part.channels_last = self.manner.channels_last
        self.train, self.classes, self.recurrent = try_out(stack, self.train, self.objective, "The training data")
        if self.validation is not None:
            self.validation = try_out(stack, self.validation, self.objective, "The validation data").data
        used = [part for part in (self.train, self.validation) if part is not None]
        self._fingerprint = _fingerprint(given, used)
        self.plan = self.train.plan(recipe.batch_size)
        check_recipe(stack, self.train.sample, recipe, self.plan)
        self.pieces = self._time_pieces()
        self.steps_per_epoch = math.ceil(self.plan.used / self.plan.size) * len(self.pieces)
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
            for module in self.stack.modules:
                train(module, self.recipe.freeze)
            size, m, shuffled = self.plan
            order = torch.from_numpy(
                np.stack(
                    [g.permutation(self.train.size)[:m] if shuffled else np.arange(m) for g in self.order.generators]
                )
            )
            order = order.to(self.stack.device, non_blocking=True)
            steps: list[tuple[float, dict[str, Tensor]]] = []  # share of the epoch, loss and measures, each [N]
            begin = 0
            for examples, y in self.train.batches(order, size, self.stack.seeds, self.epoch):
                x, share = self._altered(as_input(examples)), y.shape[1] / m / len(self.pieces)
                begin += y.shape[1]
                state = None
                for i, (piece_x, piece_y) in enumerate(self._cut(x, y)):
                    measured = begin == m and i == len(self.pieces) - 1
                    rates = self.learning_rates() if measured else []
                    found, state, extra = self._learn(piece_x, piece_y, state, measured)
                    steps.append((share, found))
                    self.step += 1
                    self.watchman.look(found["loss"])
                    for scheduler in self.schedulers if self.recipe.by_step else []:
                        scheduler.step()
                    if tick is not None:
                        tick()
            self.epoch += 1
            for scheduler in [] if self.recipe.by_step else self.schedulers:
                scheduler.step()
            self.watchman.report()
            epoch = {"train/learning_rate": rates, **_fetched(extra), **self._means(steps)}
            if self.validation is not None:
                epoch |= {f"validation/{tag}": value for tag, value in self._judge(self.validation).items()}
            row = {tag: np.asarray(value, np.float64) for tag, value in epoch.items()}
            if self.validation is not None:
                self._keep(row["validation/loss"])
            self.history.append({"epoch": self.epoch, "step": self.step, **row})
            return row

    def _means(self, steps: list[tuple[float, dict[str, Tensor]]]) -> dict[str, Tensor]:
        """Loss and measures [N] over an epoch, each step counted by its share of it."""
        share = torch.tensor([s for s, _ in steps], dtype=torch.float64)[:, None, None]
        rows = torch.stack([torch.stack(list(found.values())) for _, found in steps])
        means = (share * rows.cpu().double()).sum(0)  # float64 on the host: not every device has it
        return {f"train/{tag}": mean for tag, mean in zip(steps[0][1], means, strict=True)}

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or every seed has stopped early."""
        return self.epoch >= self.recipe.epochs or bool(self.stopped.all())

    def _altered(self, x: Any) -> Any:
        """Pictures [N, B, ...] altered as the recipe says, each seed's from its own stream."""
        if not self.recipe.augment:
            return x
        members = []
        self.augmenters.begin()
        for k, member in enumerate(x):
            altered = member
            for augmentation in self.recipe.augment:
                altered = augmentation(altered, self.augmenters.generator(k))
            members.append(altered)
        return torch.stack(members)

    def _learn(self, x: Any, y: Tensor, state: Any, measured: bool) -> tuple[dict[str, Tensor], Any, dict[str, Tensor]]:
        """One step of each optimizer -> loss and measures [N], the state after, and where `measured` more to draw, [N]."""
        if self.recipe.optimizer == "LBFGS":
            return self._learn_by_lbfgs(x, y), None, {}
        prediction, state, pull_back = self._forward(x, state)
        prediction.requires_grad_()
        loss = self.objective.per_seed(self._wide(prediction), y)
        self._back(loss, prediction, pull_back)
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
        measures = self.objective.measures(self._wide(prediction).detach(), y)
        return {"loss": loss.detach(), **measures}, state, found

    def _learn_by_lbfgs(self, x: Any, y: Tensor) -> dict[str, Tensor]:
        found: list[dict[str, Tensor]] = []
        for k, optimizer in enumerate(self.optimizers):

            def closure(k: int = k) -> Tensor:
                self.stack.zero_grad()
                prediction = first(self.stack.run(k, over(lambda part: part[k], x)))[None]
                loss = self.objective.per_seed(prediction, y[k][None])
                loss.sum().backward()
                found[k:] = [{"loss": loss.detach(), **self.objective.measures(prediction.detach(), y[k][None])}]
                return loss[0]

            optimizer.step(closure)  # type: ignore[arg-type]  # torch's type wants a float, its code a tensor
        return {tag: torch.cat([each[tag] for each in found]) for tag in found[0]}

    def _forward(self, x: Any, state: Any) -> tuple[Tensor, Any, Callable[[Tensor], None]]:
        """The predictions, the state after them, and how a gradient by the predictions goes back to the weights."""
        with self._precision():
            if not self.recurrent:
                prediction, pull_back = self.stack.vjp(x)
                return prediction, None, pull_back
            output, after = self.stack(x, state) if self.recipe.bptt_steps is not None else self.stack(x)

        def through_time(gradient: Tensor) -> None:
            self.stack.zero_grad()
            output.backward(gradient)

        return output.detach(), detached(after), through_time

    def _back(self, loss: Tensor, prediction: Tensor, pull_back: Callable[[Tensor], None]) -> None:
        """Take the gradient of the losses [N] back to the weights."""
        if self.objective.own is None:
            pull_back(*torch.autograd.grad(loss.sum(), prediction))
            return
        memory = self.stack.memory
        memory.zero()
        loss.sum().backward()  # a function of the user may read weights too, of a module that is fitted in place
        direct, arrived = memory.gradient.clone() if memory.arrived else None, memory.arrived
        assert prediction.grad is not None
        pull_back(prediction.grad)
        if direct is not None:
            memory.gradient.add_(direct)
            memory.arrived |= arrived

    def _wide(self, prediction: Tensor) -> Tensor:
        """The predictions in the precision of the loss."""
        return prediction.float() if self.manner.bf16 else prediction

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.stack.device.type, torch.bfloat16) if self.manner.bf16 else contextlib.nullcontext()

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

        x: as in `fit`. The answer is on the CPU for arrays and tensors of the CPU, and on its device for tensors of another
        one; so are those of `probabilities` and `ensemble`. Raises DataError for what does not go into the model.
        """
        source = inputs_of(x)
        place = source.sample.tensors()[0].device
        with self.manner.at_work(self.stack.device):
            try:
                parts = [
                    self._answer(over(_like, part.x, self.train.sample.x)).to(place) for part in source.chunks(CHUNK)
                ]
            except (RuntimeError, TypeError, IndexError, KeyError) as error:
                said = over(lambda part: list(part.shape), source.sample.x)
                raise DataError(f"x {said} does not go into the model: {first_line(error)}") from error
        return torch.cat(parts, 1)

    def probabilities(self, x: Any) -> Tensor:
        """What each member holds for likely, [N, M, ...]: softmax or sigmoid of `predict`, as the loss has it."""
        return metrics.probabilities(self.predict(x), "" if self.objective.own else self.loss)

    def ensemble(self, x: Any) -> Tensor:
        """The members' probabilities on average, [M, ...]."""
        return self.probabilities(x).mean(0)

    def evaluate(self, data: Any) -> dict[str, np.ndarray]:
        """Loss, and accuracy or root mean squared error, and metrics of each member on the same data: each float64 [N].

        data: a pair (x, y), a Dataset or a DataLoader, as in `fit`. Raises DataError for data that do not go with the model.
        """
        source = source_of(data).to(self.stack.device)
        return self._judge(try_out(self.stack, source, self.objective, "The data").data)

    def _judge(self, data: Source) -> dict[str, np.ndarray]:
        n = len(self.stack.seeds)
        sums: dict[str, Tensor] = {}  # by tag: the sum over examples, and how much they count, float64 [2, N]
        with self.manner.at_work(self.stack.device):
            for x, y in data.chunks(CHUNK):
                for tag, (total, count) in self.objective.sums(self._answer(x), y.expand(n, *y.shape)).items():
                    sums[tag] = sums.get(tag, 0) + torch.stack([total, count])
        tags, totals = list(sums), torch.stack(list(sums.values())).numpy()
        found = {tag: total / np.where(count > 0, count, 1) for tag, (total, count) in zip(tags, totals, strict=True)}
        return {**found, "rmse": np.sqrt(found["loss"])} if self.loss == "mse" and not self.objective.own else found

    def _answer(self, x: Any) -> Tensor:
        x, n = over(lambda part: part.to(self.stack.device), as_input(x)), len(self.stack.seeds)
        with self.stack.eval_mode(), self._precision():
            prediction: Tensor = first(self.stack(over(lambda part: part.expand(n, *part.shape), x)))
        return prediction.float()

    # -- what it is made of ----------------------------------------------------------------------------------------------

    def _optimizers(self) -> tuple[list[torch.optim.Optimizer], list[Any]]:
        recipe = self.recipe
        if recipe.optimizer == "LBFGS":
            return optimizers.lbfgs(self.stack, recipe.learning_rate, **recipe.optimizer_options), []
        options = dict(recipe.optimizer_options)
        if recipe.weight_decay:
            options["weight_decay"] = recipe.weight_decay
        made = optimizers.optimizer(self.stack, recipe.optimizer, recipe.learning_rate, **options)
        if recipe.schedule is None:
            return [made], []
        total = recipe.epochs * self.steps_per_epoch
        return [made], [optimizers.schedule(made, recipe.schedule, total, **recipe.schedule_options)]

    def _time_pieces(self) -> list[slice]:
        """Where sequences are cut for truncated back-propagation: one piece if they are not."""
        length = self.recipe.bptt_steps
        if length is None:
            return [slice(None)]
        if not self.recurrent:
            raise ValueError("bptt_steps cuts sequences for a recurrent model, and this one answers no state.")
        x, y = self.train.sample
        if not isinstance(x, Tensor) or y.ndim < 2 or x.ndim < 2 or x.shape[1] != y.shape[1]:
            raise ValueError(
                "bptt_steps cuts x [M, T, ...] and y [M, T, ...] alike, so there must be a target at each time:"
                f" of an example x is {shapes(x)} and y {shapes(y)}."
            )
        return [slice(t, t + length) for t in range(0, x.shape[1], length)]

    def _cut(self, x: Any, y: Tensor) -> list[tuple[Any, Tensor]]:
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


def _fingerprint(given: Sequence[Source], used: Sequence[Source]) -> str:
    """A checksum of each tensor of the data as they were given, so that a device need not send them back, with the type they
    are used in."""
    tensors = ([source.tensors() for source in parts] for parts in zip(given, used, strict=True))
    pairs = [pair for parts in tensors for pair in zip(*parts, strict=True)]
    return "-".join(f"{zlib.crc32(g.cpu().to(u.dtype).contiguous().numpy().data):08x}" for g, u in pairs)


def _fetched(measures: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Measures [N] of a device as arrays, fetched at once."""
    rows = torch.stack(list(measures.values())).cpu().numpy() if measures else ()
    return dict(zip(measures, rows, strict=True))


def _like(part: Tensor, trained: Tensor) -> Tensor:
    """Whole numbers as floats, where the model was trained with floats."""
    return part.float() if part.dtype != torch.uint8 and trained.is_floating_point() else part


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
