"""Other libraries with the same model and data, for `benchmark.py supervised`: each function returns seconds per epoch.

Keras and Lightning come with the `benchmark` extra; if one is not installed, it is skipped with a message.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 100
Epoch = Callable[[], float]


class Pictures(torch.utils.data.Dataset[Any]):
    """The usual dataset: each image through PIL, then converted to a tensor and divided by 255, as by ToTensor."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        from PIL import Image

        picture = Image.fromarray(self.x[i].numpy())
        return torch.from_numpy(np.array(picture, copy=True))[None].float().div(255), int(self.y[i])


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def data_loader(x: Tensor, y: Tensor) -> Epoch:
    """Return the tutorial's loop: a DataLoader over `Pictures`, Adam."""
    net = mlp()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    loader = torch.utils.data.DataLoader(Pictures(x, y), batch_size=BATCH, shuffle=True)

    def epoch() -> float:
        began = time.perf_counter()
        for a, b in loader:
            loss = F.cross_entropy(net(a), b)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - began

    return epoch


def plain_mlp(x: Tensor, y: Tensor) -> Epoch:
    """Return the shortest possible PyTorch loop: data in memory as numbers in [0, 1], a permutation, fused Adam."""
    net = mlp()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    pixels = x.float().div(255)

    def epoch() -> float:
        began = time.perf_counter()
        for index in torch.randperm(len(pixels)).split(BATCH):
            loss = F.cross_entropy(net(pixels[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - began

    return epoch


def keras(x: Tensor, y: Tensor) -> Epoch:
    """Return an epoch of Keras on torch, with the data in memory. Raise ImportError if it is not installed."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras as k

    layers = [k.layers.Flatten(), *(k.layers.Dense(256, activation="relu") for _ in range(2)), k.layers.Dense(10)]
    net = k.Sequential([k.layers.Input((28, 28)), *layers])
    net.compile("adam", k.losses.SparseCategoricalCrossentropy(from_logits=True))
    pixels, labels = x.float().div(255).numpy(), y.numpy()

    def epoch() -> float:
        began = time.perf_counter()
        net.fit(pixels, labels, batch_size=BATCH, epochs=1, verbose=0)
        return time.perf_counter() - began

    return epoch


def lightning(x: Tensor, y: Tensor) -> Epoch:
    """Return an epoch of Lightning over tensors in memory. Raise ImportError if it is not installed."""
    import logging

    import lightning as lit

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Lit(lit.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def training_step(self, batch: Any, _: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), 1e-3)

    pairs = torch.utils.data.TensorDataset(x.float().div(255), y)
    loader = torch.utils.data.DataLoader(pairs, batch_size=BATCH, shuffle=True)
    net = Lit()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }

    def epoch() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = lit.Trainer(max_epochs=1, accelerator="cpu", **quiet)
            began = time.perf_counter()
            trainer.fit(net, loader)
        return time.perf_counter() - began

    return epoch


def plain_cnn(net: nn.Module, x: Tensor, y: Tensor) -> Epoch:
    """Return the usual loop in float32 over tensors in memory, in torch's default memory format, with Adam."""
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def epoch() -> float:
        began = time.perf_counter()
        net.train()
        for index in torch.randperm(len(x)).split(BATCH):
            loss = F.cross_entropy(net(x[index].float().div(255)), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - began

    return epoch


def one_after_another(nets: list[nn.Module], x: Tensor, y: Tensor, fused: bool) -> Callable[[], None]:
    """Return one step of each network in turn, each with its own Adam: x [N, B, ...], y [N, B]."""
    optimizers = [torch.optim.Adam(net.parameters(), 1e-3, fused=fused) for net in nets]

    def step() -> None:
        for net, optimizer, a, b in zip(nets, optimizers, x, y, strict=True):
            loss = F.cross_entropy(net(a), b)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return step


def through_time(nets: list[nn.Module], x: Tensor, y: Tensor) -> Callable[[], None]:
    """Return a step of each recurrent network in turn, each with a fused Adam and the squared error: x and y [N, B, T, ...]."""
    optimizers = [torch.optim.Adam(net.parameters(), 1e-3, fused=True) for net in nets]

    def step() -> None:
        for net, optimizer, a, b in zip(nets, optimizers, x, y, strict=True):
            loss = F.mse_loss(net(a)[0], b)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return step


def stable_baselines3(
    widths: tuple[int, ...],
    steps: int,
    *,
    batch_size: int = 64,
    learn_after_steps: int = 1_000,
    update_every_steps: int = 1,
    updates: int = 1,
    target_every_steps: int = 500,
    learning_rate: float = 1e-3,
) -> Callable[[], float]:
    """Return a function that trains Stable-Baselines3's DQN in CartPole for `steps` steps and returns steps per second."""
    from stable_baselines3 import DQN

    model = DQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_rate=learning_rate,
        batch_size=batch_size,
        buffer_size=100_000,
        learning_starts=learn_after_steps,
        train_freq=update_every_steps,
        gradient_steps=updates,
        target_update_interval=target_every_steps,
        exploration_fraction=0.1,
        policy_kwargs={"net_arch": list(widths)},
        device="cpu",
        seed=0,
    )
    if learn_after_steps:
        model.learn(learn_after_steps + 100)

    def time_it() -> float:
        began = time.perf_counter()
        model.learn(steps, reset_num_timesteps=False)
        return steps / (time.perf_counter() - began)

    return time_it
