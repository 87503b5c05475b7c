"""Recurrent networks: the five shapes of a sequence task, memorized words, a text, and a stock price."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lectures.datasets import FromFiles
from lectures.experiment import Fitted
from lectures.pictures import END, WORDS
from lectures.report import Report
from supervised import MLP, RNN, Data, DataError, Fit, LinearRegression, Recipe, data
from supervised.data import Characters
from supervised.models.rnn import free_running
from supervised.streams import generator

CELLS = ("rnn", "lstm", "gru")


@dataclass
class SequenceShapes(Fitted):
    """The five shapes of a sequence task, each on a toy task with its own test data, with the same model class."""

    seeds: int = 3
    """Number of seeds."""
    examples: int = 1000
    """Number of training sequences, and of test sequences."""

    def run(self, report: Report) -> None:
        for batch, steps in ((1, 1), (1, 5), (3, 5)):
            outputs, _ = nn.LSTM(4, 2, batch_first=True)(torch.zeros(batch, steps, 4))
            shape = ", ".join(map(str, outputs.shape))
            report.row(f"4 inputs, hidden 2, {steps} steps, batch {batch}: outputs", shape, f"{batch}, {steps}, 2")
        parameters = {
            name: p.numel() // 2 for name, p in nn.LSTM(4, 2).named_parameters() if name.startswith("weight_hh")
        }
        report.row(
            "gates of an LSTM (3 sigmoids, 1 tanh)",
            parameters["weight_hh_l0"] // 2,
            '4, "each another non-linearity"',
            0,
        )
        rng = generator(0, "data")
        for shape, (title, make, task) in self.tasks().items():
            train, test = (task(rng) for _ in range(2))
            fitted = self.fit(report, shape, make, train, Recipe(epochs=30, batch_size=32, learning_rate=5e-3))
            report.shares(f"{shape}, {title}: accuracy, test", fitted.evaluate(test)["accuracy"], self.all_seeds)

    def tasks(self) -> dict[str, tuple[str, Callable[[], nn.Module], Callable[[np.random.Generator], Data]]]:
        """Return, for each shape, the task, a model and examples."""
        m, length = self.examples, 8
        letters = Characters("".join(WORDS) + END)
        longest = max(map(len, WORDS)) + 1
        spelled = torch.stack([letters.encode(word.ljust(longest, END)) for word in WORDS])

        def bits(rng: np.random.Generator) -> Tensor:
            return torch.from_numpy(rng.integers(0, 2, (m, length)))

        def larger(rng: np.random.Generator) -> Data:
            x = torch.from_numpy(rng.standard_normal((m, 2)).astype(np.float32))
            return Data(x, (x[:, 0] > x[:, 1]).long())

        def spell(rng: np.random.Generator) -> Data:
            numbers = torch.from_numpy(rng.integers(0, 10, m))
            return Data(nn.functional.one_hot(numbers, 10).float(), spelled[numbers])

        def majority(rng: np.random.Generator) -> Data:
            x = bits(rng)
            return Data(x, (2 * x.sum(1) > length).long())

        def parity(rng: np.random.Generator) -> Data:
            x = bits(rng)
            return Data(x, x.cumsum(1) % 2)

        def backwards(rng: np.random.Generator) -> Data:
            x = torch.from_numpy(rng.integers(0, 4, (m, 4)))
            return Data(x, x.flip(1))

        return {
            "one-to-one": ("the larger of two numbers", lambda: RNN(2, 2, 16, shape="one-to-one"), larger),
            "one-to-many": (
                "a number's name spelled",
                lambda: RNN(10, len(letters), 32, shape="one-to-many", steps=longest),
                spell,
            ),
            "many-to-one": ("more ones than zeros", lambda: RNN(2, 2, 16, shape="many-to-one"), majority),
            "many-to-many": ("parity so far", lambda: RNN(2, 2, 16, shape="many-to-many"), parity),
            "sequence-to-sequence": (
                "the sequence backwards",
                lambda: RNN(4, 4, 48, shape="sequence-to-sequence", steps=4),
                backwards,
            ),
        }


def steps_to_all_right(fitted: Fit) -> list[int | None]:
    """Return the number of steps after which each seed stays right about every letter; None if it never does."""
    right = np.stack([row["train/accuracy"] for row in fitted.history]) == 1.0
    found: list[int | None] = []
    for k in range(right.shape[1]):
        wrong = np.flatnonzero(~right[:, k])
        # Row i is measured before step i + 1, after i steps.
        last = -1 if not len(wrong) else int(wrong[-1])
        found.append(None if last == len(right) - 1 else last + 1)
    return found


@dataclass
class ByHeart(Fitted):
    """Predict the next letter of a short text with an RNN, an LSTM and a GRU; then generate it from its first letter."""

    TEXT: ClassVar[str]
    HIDDEN: ClassVar[int]
    NOTE: ClassVar[str]

    def run(self, report: Report) -> None:
        characters, train = data.next_characters(self.TEXT)
        report.facts["cells"] = {}
        for cell in CELLS:
            recipe = Recipe(epochs=50, batch_size=1, learning_rate=0.1)
            size = len(characters)
            fitted = self.fit(
                report, cell, lambda cell=cell, size=size: RNN(size, size, self.HIDDEN, cell=cell), train, recipe
            )
            steps = steps_to_all_right(fitted)
            first = characters.encode(self.TEXT[0])[None].to(fitted.stack.device)
            written = [free_running(m, first, len(self.TEXT) - 1) for m in fitted.stack.modules]
            said = [self.TEXT[0] + characters.decode(text[0]) for text in written]
            done = [s for s in steps if s is not None]
            report.shares(
                f"{cell}: share of letters correct", fitted.evaluate(train)["accuracy"], self.all_seeds, "all correct"
            )
            took = f"{min(done)} to {max(done)}" if done else "never"
            report.row(f"{cell}: steps until all are correct", f"{took} ({len(done)} of {len(steps)} seeds)", self.NOTE)
            same = sum(text == self.TEXT for text in said)
            report.row(f"{cell}: generates the text", f"{same} of {len(said)} seeds", "")
            report.facts["cells"][cell] = {"steps_to_all_right": steps, "free_running": said}


@dataclass
class HiHello(ByHeart):
    """Predict the next letter of "hihello" with an RNN, an LSTM and a GRU of 5 units; then generate it from its first letter."""

    TEXT: ClassVar[str] = "hihello"
    HIDDEN: ClassVar[int] = 5
    NOTE: ClassVar[str] = "15 epochs, 50 in another version"


@dataclass
class IfYouWantYou(ByHeart):
    """Predict the next letter of "if you want you" with cells of 10 units; then generate it from its first letter."""

    TEXT: ClassVar[str] = "if you want you"
    HIDDEN: ClassVar[int] = 10
    NOTE: ClassVar[str] = "50 steps"


SHIP = (
    "if you want to build a ship, don't drum up people together to collect wood and don't assign them tasks and work,"
    " but rather teach them to long for the endless immensity of the sea."
)


def best_possible(train: Data) -> float:
    """Return the best possible accuracy when predicting the next characters from the start of a window: [M, T] of both."""
    votes: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for x, y in zip(train.x.tolist(), train.y.tolist(), strict=True):
        for t in range(len(x)):
            votes[tuple(x[: t + 1])][y[t]] += 1
    return sum(max(found.values()) for found in votes.values()) / train.y.numel()


@dataclass
class CharRNN(Fitted):
    """Learn a sentence (or your own text) in windows of ten letters with two LSTM layers; then with the state carried along."""

    seeds: int = 3
    """Number of seeds."""
    text: Path | None = None
    """Text file to learn instead of the lecture's sentence."""
    hidden: int | None = None
    """Units of each layer. Default: the number of different characters."""
    write: int = 120
    """Number of characters to generate."""

    def run(self, report: Report) -> None:
        text = SHIP if self.text is None else self.read(self.text)
        characters, windows = data.next_characters(text, 10)
        size, hidden = len(characters), self.hidden or len(characters)
        report.row(
            "characters, different ones, windows of 10",
            f"{len(text)}, {size}, {len(windows.x)}",
            "180, 25, 170" if self.text is None else "",
        )

        def make() -> nn.Module:
            return RNN(size, size, hidden, layers=2)

        batch = None if len(windows.x) <= 1000 else 100
        fitted = self.fit(
            report,
            "windows",
            make,
            windows,
            Recipe(epochs=500 if batch is None else 5, batch_size=batch, learning_rate=0.1 if batch is None else 3e-3),
        )
        report.row(
            "windows: best possible share, since first letters are ambiguous",
            best_possible(windows),
            ".8965" if self.text is None else "",
        )
        report.shares(
            "windows: share of letters correct",
            fitted.evaluate(windows)["accuracy"],
            self.all_seeds,
            "never all" if self.text is None else "",
        )
        whole = data.next_characters(text)[1]
        recipe = Recipe(
            epochs=150 if batch is None else 10,
            batch_size=1,
            learning_rate=1e-2 if batch is None else 3e-3,
            bptt_steps=min(20, len(text) - 1),
            clip_norm=1.0,
        )
        carried = self.fit(report, "carried", make, whole, recipe)
        report.shares(
            "state carried over: share of letters correct", carried.evaluate(whole)["accuracy"], self.all_seeds
        )
        first = characters.encode(text[0])[None].to(carried.stack.device)
        length = min(self.write, len(text) - 1)
        said = [text[0] + characters.decode(free_running(m, first, length)[0]) for m in carried.stack.modules]
        report.row("generated by the first seed", said[0], "")
        same = sum(written == text[: len(written)] for written in said)
        report.row(f"seeds that generate its first {length + 1} characters", f"{same} of {len(said)}", "")
        report.logger.text("written", "\n\n".join(said))
        report.facts["written"] = said

    def read(self, path: Path) -> str:
        """Read a text file. Raise DataError if it cannot be read or is too short."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"--text {path} cannot be read: {error}.") from error
        if len(text) < 12:
            raise DataError(f"--text {path} has {len(text)} characters; at least 12 are needed.")
        return text


class Plan(NamedTuple):
    """A way to predict the price: inputs of each day (the last column is predicted), a model, and the conversion to dollars."""

    name: str
    days: np.ndarray
    make: Callable[[], nn.Module]
    recipe: Recipe
    dollars: Callable[[np.ndarray], np.ndarray]


@dataclass
class Stock(Fitted, FromFiles):
    """Tomorrow's stock price from the last seven days, in dollars, compared with persistence, which predicts today's price."""

    seeds: int = 10
    """Number of seeds."""
    window: int = 7
    """Number of days the models see."""

    def run(self, report: Report) -> None:
        rows = self.days(report)
        cut = int(0.7 * len(rows))
        close = rows[:, -1]
        truth, before = close[cut:], close[cut - 1 : -1]
        found_prices = {"persistence": before[None]}
        for plan in self.plans(rows, cut, before):
            parts = [plan.days[:cut], plan.days[cut - self.window :]]
            train, test = (data.windows(part, self.window, target=part[:, -1:]) for part in parts)
            folder = plan.name.split(" (")[0].replace(", ", "_").replace(" ", "_").replace("'", "")
            fitted = self.fit(report, folder, plan.make, train, plan.recipe)
            found_prices[plan.name] = plan.dollars(fitted.predict(test.x)[..., 0].cpu().numpy())
        errors = {name: [rmse(each, truth) for each in found] for name, found in found_prices.items()}
        known = "missing" not in report.facts
        report.row("persistence: RMSE in dollars", errors["persistence"][0], "7.97" if known else "", 2)
        for name in list(errors)[1:]:
            report.seeds(f"{name}: RMSE in dollars", errors[name], self.all_seeds, "", 2, low=0.0)
        best = min(errors, key=lambda name: float(np.mean(errors[name])))
        report.row("the lowest", best, "not asked there")
        if best == "persistence":
            report.print(
                "Persistence wins: no model predicts the price better than the assumption that it stays the same."
            )
        report.picture("price", self.draw(truth, {name: found[0] for name, found in found_prices.items()}))

    def days(self, report: Report) -> np.ndarray:
        """Return the lecture's stock, oldest day first: open, high, low, volume, close."""
        table = self.table(report, "data-02-stock_daily.csv")
        if table is not None:
            return table.values[::-1].copy()
        report.print("Using a random walk of as many days instead, which cannot be predicted.")
        return 500 + 5 * generator(0, "data").standard_normal((732, 5)).cumsum(0) + np.arange(732)[:, None] * 0.4

    def plans(self, rows: np.ndarray, cut: int, before: np.ndarray) -> list[Plan]:
        """Return the variants. All but the lecture's, which leaks, scale with the training days only."""

        def lstm(inputs: int, hidden: int) -> Callable[[], nn.Module]:
            return lambda: RNN(inputs, 1, hidden, shape="many-to-one", loss="mse")

        def scaled(by: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
            scaler, _ = data.scale("min_max", by)
            span, low = scaler.data_range_[-1], scaler.data_min_[-1]
            return scaler.transform(rows).astype(np.float32), lambda z: z * span + low

        days, back = scaled(rows[:cut])
        peeped, back_from_peeped = scaled(rows)
        moves = np.diff(rows[:, -1], prepend=rows[0, -1])
        size = moves[:cut].std()
        with_moves = np.column_stack([days, moves / size]).astype(np.float32)
        long = Recipe(epochs=500, batch_size=None, learning_rate=0.01)
        short = Recipe(epochs=100, batch_size=None, learning_rate=0.01)
        exact = Recipe(epochs=30, batch_size=None, optimizer="LBFGS", learning_rate=1.0)
        width = self.window * rows.shape[1]
        return [
            Plan("LSTM, hidden 10", days, lstm(5, 10), long, back),
            Plan("LSTM, hidden 5", days, lstm(5, 5), long, back),
            Plan("linear regression on the window", days, lambda: LinearRegression(width), exact, back),
            Plan("MLP on the window", days, lambda: MLP(width, 1, (32,), loss="mse"), long, back),
            Plan(
                "LSTM with the lecture's leak (hidden 10, scaled by all days)",
                peeped,
                lstm(5, 10),
                long,
                back_from_peeped,
            ),
            Plan("LSTM on the change since today", with_moves, lstm(6, 10), short, lambda z: before + z * size),
        ]

    def draw(self, truth: np.ndarray, found_prices: dict[str, np.ndarray]) -> Figure:
        figure = Figure(figsize=(12, 5), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(2, 1))
        for axes, days in ((left, slice(None)), (right, slice(-40, None))):
            axes.plot(truth[days], "k", linewidth=2, label="truth")
            for name in ("persistence", "LSTM, hidden 10", "linear regression on the window"):
                axes.plot(found_prices[name][days], linewidth=1, label=name)
        left.set(xlabel="test day", ylabel="dollars", title="The days after training")
        right.set(xlabel="day", title="The last 40 days")
        left.legend()
        return figure


def rmse(found: np.ndarray | Sequence[float], truth: np.ndarray) -> float:
    """Return the root mean squared error."""
    return float(np.sqrt(((np.asarray(found) - truth) ** 2).mean()))
