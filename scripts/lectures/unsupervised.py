"""Supervised compared with unsupervised learning: the inputs of each, and how well each classifies the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lectures.experiment import OnDigits
from lectures.report import Report
from supervised import Recipe, SoftmaxRegression

SOFTMAX = Recipe(epochs=30, batch_size=100, learning_rate=1e-2, schedule="LinearLR")
CLUSTERS = 10


@dataclass
class Unsupervised(OnDigits):
    """Softmax regression, given images and labels, compared with k-means, given images only, on the same test images."""

    seeds: int = 10
    """Number of seeds."""
    data: Literal["auto", "mnist", "digits"] = "digits"
    """digits: scikit-learn's 1 797 small images; mnist: MNIST; auto: MNIST if available, otherwise digits."""
    pictures: int = 10_000
    """Number of training images."""

    def run(self, report: Report) -> None:
        from sklearn.metrics import adjusted_rand_score

        found = self.digits(report, self.pictures)
        train, test = (part.x.flatten(1).float() / 255 for part in (found.train, found.test))
        labels, truth = found.train.y.numpy(), found.test.y.numpy()
        pixels = math.prod(found.train.x.shape[1:])
        fitted = self.fit(report, "softmax", lambda: SoftmaxRegression(pixels, 10), found.train, SOFTMAX)
        said = fitted.predict(found.test.x).argmax(-1).cpu().numpy()
        clusters, learned, centers = zip(*[cluster(train, test, seed) for seed in self.all_seeds], strict=True)
        report.row("softmax regression is given", f"{len(train):,} images and their labels", "supervised")
        report.row("k-means is given", f"{len(train):,} images and that there are {CLUSTERS} clusters", "unsupervised")
        seeds = self.all_seeds
        report.shares("softmax regression: test accuracy", (said == truth).mean(1), seeds)
        every = [(names_by_majority(own, labels)[c] == truth).mean() for own, c in zip(learned, clusters, strict=True)]
        report.shares("k-means, each cluster named after most of its images: test accuracy", every, seeds)
        distances = [torch.cdist(center, train) for center in centers]
        once = [(labels[d.argmin(1).numpy()][c] == truth).mean() for d, c in zip(distances, clusters, strict=True)]
        what = f"k-means, each cluster named after one image, {CLUSTERS} labels in all: test accuracy"
        report.shares(what, once, seeds)
        for name, answers in (("softmax regression", said), ("k-means", clusters)):
            index = [adjusted_rand_score(truth, answer) for answer in answers]
            what = f"{name}: adjusted Rand index (1: the digits, 0: chance)"
            report.seeds(what, index, seeds, "needs no names" if name == "k-means" else "", low=-0.5, high=1.0)
        weights = fitted.stack.member(seeds[0]).state_dict()["head.weight"].cpu()
        names = names_by_majority(learned[0], labels)
        report.picture("learned", draw(weights, centers[0], names, found.train.x.shape[1:]))


def cluster(train: Tensor, test: Tensor, seed: int) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Run k-means (Lloyd 1982, one initialization). Return the clusters of the test and training images, and the centers."""
    from sklearn.cluster import KMeans

    found = KMeans(CLUSTERS, n_init=1, random_state=seed).fit(train.numpy())
    return found.predict(test.numpy()), found.labels_, torch.from_numpy(found.cluster_centers_)


def names_by_majority(clusters: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the most frequent label of each cluster, [CLUSTERS]; labels are used to evaluate the clusters only."""
    return np.array([np.bincount(labels[clusters == c], minlength=10).argmax() for c in range(CLUSTERS)])


def draw(weights: Tensor, centers: Tensor, names: np.ndarray, shape: torch.Size) -> Figure:
    """Plot what both have learned: the weights of each digit above, the center of each cluster below."""
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    above, below = figure.subplots(2, 10)
    bound = float(weights.abs().max())
    for digit, axes in enumerate(above):
        shown = axes.imshow(weights[digit].view(*shape), cmap="RdBu_r", vmin=-bound, vmax=bound)
        axes.set(xticks=[], yticks=[], title=str(digit))
    for axes, c in zip(below, np.argsort(names, kind="stable"), strict=True):
        axes.imshow(centers[c].view(*shape), cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[], title=f"mostly {names[c]}")
    above[0].set_ylabel("softmax regr.:\nweights")
    below[0].set_ylabel("k-means:\ncenters")
    figure.colorbar(shown, ax=[*above, *below], label="weight", shrink=0.5, anchor=(0, 1))
    figure.suptitle("Learned from images with labels (above) and from the images alone (below), first seed")
    return figure
