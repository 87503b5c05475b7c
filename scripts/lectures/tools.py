"""Hyperparameter search, and the speed of the machine."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from lectures.experiment import Experiment, Fitted
from lectures.mnist import lecture_cnn
from lectures.report import Report
from supervised import MLP, Data, Recipe, mnist
from supervised import data as data_
from supervised.device import choose


@dataclass
class Search(Fitted):
    """Grid search, random search and TPE with optuna's samplers: learning rate and weight decay of an MLP on the small digits."""

    seeds: int = 10
    """Number of searches of each kind."""
    trials: int = 9
    """Number of settings that each search tries; the grid has as many, in rows and columns."""

    def run(self, report: Report) -> None:
        try:
            import optuna
        except ImportError:
            raise ValueError("search needs optuna: pip install '.[search]'.") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        side = math.isqrt(self.trials)
        if side < 2 or side * side != self.trials:
            raise ValueError(
                f"--trials must be a square number of at least 4, since the grid has as many rows as columns, not {self.trials}."
            )
        digits = mnist.digits()
        train, validation = data_.split(digits.train, 0.3)
        powers = {"learning_rate": (-4.5, -0.5), "weight_decay": (-4.0, 1.0)}
        grid = {name: list(np.linspace(low, high, side)) for name, (low, high) in powers.items()}
        samplers: dict[str, Any] = {
            "grid": lambda seed: optuna.samplers.GridSampler(grid, seed=seed),
            "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
            "TPE": lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=4),
        }
        tried: dict[str, list[tuple[float, float, float]]] = {}
        for name, sampler in samplers.items():
            best, tests = [], []
            tried[name] = []
            for seed in self.all_seeds:
                study = optuna.create_study(direction="maximize", sampler=sampler(seed))

                def objective(trial: Any, seed: int = seed, name: str = name) -> float:
                    rate, decay = (10 ** trial.suggest_float(key, *bounds) for key, bounds in powers.items())
                    accuracy, test = self.judge(rate, decay, seed, train, validation, digits.test)
                    trial.set_user_attr("test", test)
                    tried[name].append((rate, decay, accuracy))
                    return accuracy

                study.optimize(objective, self.trials)
                best.append(study.best_value)
                tests.append(study.best_trial.user_attrs["test"])
                report.logger.scalars(seed, {"best_validation_accuracy": best[-1]}, name)
            note = "better, in theory" if name == "random" else ""
            report.shares(f"{name}: best validation accuracy of {self.trials} trials", best, self.all_seeds, note)
            report.shares(f"{name}: its test accuracy", tests, self.all_seeds)
        report.picture("search", self.draw(tried))

    def judge(
        self, rate: float, decay: float, seed: int, train: Data, validation: Data, test: Data
    ) -> tuple[float, float]:
        """Return the validation and test accuracy of one setting."""
        import supervised

        recipe = Recipe(
            epochs=self.epochs or 8,
            batch_size=50,
            optimizer="AdamW",
            learning_rate=rate,
            weight_decay=decay,
            stop_if_diverging=False,
        )
        fitted = supervised.fit(
            lambda: MLP(64, 10, (64,)),
            train,
            recipe,
            seeds=[seed],
            device=self.device,
            threads=self.threads,
            progress=False,
        )
        return tuple(float(fitted.evaluate(part)["accuracy"][0]) for part in (validation, test))

    def draw(self, tried: dict[str, list[tuple[float, float, float]]]) -> Figure:
        figure = Figure(figsize=(13, 4.2), layout="constrained")
        for axes, (name, found) in zip(figure.subplots(1, 3, sharey=True), tried.items(), strict=True):
            rates, decays, accuracies = zip(*found, strict=True)
            shown = axes.scatter(rates, decays, c=accuracies, vmin=0.5, vmax=1, edgecolors="0.5")
            axes.set(xscale="log", yscale="log", xlabel="learning rate", title=f"{name}: {len(found)} trials in all")
        figure.axes[0].set_ylabel("weight decay")
        figure.colorbar(shown, ax=figure.axes, label="validation accuracy")
        return figure


@dataclass
class Speed(Experiment):
    """Speed of this machine, on the CPU and on a GPU if there is one: matrix products, and the notes' CNN."""

    repeats: int = 5
    """Number of measurements of each; the median is reported."""
    side: int = 2048
    """Size of the square matrices that are multiplied."""
    batches: int = 5
    """Training steps of the CNN per measurement, 100 images each."""

    def run(self, report: Report) -> None:
        places = [
            "cpu",
            *(["cuda"] if torch.cuda.is_available() else []),
            *(["mps"] if torch.backends.mps.is_available() else []),
        ]
        if len(places) == 1:
            report.print("No GPU was found: only the CPU is measured.")
        notes = {
            "cpu": "34 GFLOP/s as quoted (i7-4790K)",
            "cuda": '4 896 to 8 990 GFLOP/s (K520 to GTX-1080; "TFLOPS" there)',
        }
        took = {"cpu": "105 min 31 s (i7-4790K)", "cuda": "22 min 4 s to 5 min 27 s (K520 to GTX-1080)"}
        sides = sorted({max(1, self.side >> k) for k in range(6)})
        for place in places:
            for threads in sorted({1, torch.get_num_threads()}) if place == "cpu" else [None]:
                name = place if threads is None else f"cpu, {threads} thread{'s' * (threads > 1)}"
                for kind in (torch.float32, torch.bfloat16):
                    for side in sides:
                        rate = self.flops(place, kind, threads, side)
                        run = f"{name}_{kind}".replace(", ", "_").replace(" ", "_")
                        report.logger.scalars(side, {"gflops_by_side": rate / 1e9}, run)
                    report.row(
                        f"{name}, {str(kind).split('.')[1]}: GFLOP/s of a matrix product",
                        rate / 1e9,
                        notes.get(place, "") if kind == torch.float32 else "",
                        1,
                    )
                seconds = self.cnn(place, threads)
                report.row(f"{name}: images per second, training the notes' CNN", 100 * self.batches / seconds, "", 0)
                minutes = 15 * 60_000 / (100 * self.batches / seconds) / 60
                report.row(f"{name}: minutes for 15 epochs of 60,000", minutes, took.get(place, ""), 1)
        report.facts["ratios"] = {
            name: round(6331 / seconds, 2) for name, seconds in (("K520", 1324), ("GTX-970", 550), ("GTX-1080", 327))
        }
        report.row(
            "the notes' ratios from their own times",
            ", ".join(f"{v:.2f}" for v in report.facts["ratios"].values()),
            "4.78, 11.5, 19.3",
        )

    def flops(self, place: str, kind: torch.dtype, threads: int | None, side: int) -> float:
        """Return the floating-point operations per second of a product of two square matrices."""
        from torch.utils.benchmark import Timer

        a, b = (torch.randn(side, side, device=choose(place)).to(kind) for _ in range(2))
        timer = Timer("a @ b", globals={"a": a, "b": b}, num_threads=threads or 1)
        timer.timeit(1)
        return 2 * side**3 / median(timer.timeit(1).median for _ in range(self.repeats))

    def cnn(self, place: str, threads: int | None) -> float:
        """Return the seconds for some training steps of the notes' CNN with 100 images each."""
        device, before = choose(place), torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            net = lecture_cnn((28, 28)).to(device)
            optimizer = torch.optim.Adam(net.parameters())
            x, y = torch.rand(100, 28, 28, device=device), torch.randint(10, (100,), device=device)

            def steps() -> float:
                began = time.perf_counter()
                for _ in range(self.batches):
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(net(x), y).backward()
                    optimizer.step()
                if place != "cpu":
                    getattr(torch, place).synchronize()
                return time.perf_counter() - began

            steps()
            return median(steps() for _ in range(self.repeats))
        finally:
            torch.set_num_threads(before)
