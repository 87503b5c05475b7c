"""Two prototypes of GPU computations that the packages do not use, sufficient for `benchmark.py cuda` to time them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rl import losses, targets
from supervised import MLP, Stack
from supervised.stack import clip_per_seed

WARM_UPS = 3  # before a capture, so that libraries have their memory


class Update:
    """An update of N MLPs 4-WIDTH-WIDTH-2 from one batch that stays in place: double_q, Huber, clip, fused Adam.

    Called, it launches one kernel after another. `capture()` records it as one CUDA graph, which later calls replay.
    """

    def __init__(self, seeds: int, width: int, batch: int, device: str) -> None:
        def make() -> MLP:
            return MLP(4, 2, (width, width))

        self.online, self.target = Stack(make, seeds, device), Stack(make, seeds, device)
        adam = torch.optim.Adam([self.online.flat], lr=1e-3, fused=True, capturable=device != "cpu")
        self.step = adam.step
        generator = torch.Generator().manual_seed(0)
        self.obs, self.next_obs = (torch.randn(seeds, batch, 4, generator=generator).to(device) for _ in range(2))
        self.action = torch.randint(2, (seeds, batch), generator=generator).to(device)
        self.reward = torch.randn(seeds, batch, generator=generator).to(device)
        self.discount = torch.full((seeds, batch), 0.99).to(device)
        self.replay: Callable[[], None] = self.eager

    def __call__(self) -> None:
        self.replay()

    def eager(self) -> None:
        with torch.no_grad():
            next_q = self.target(self.next_obs)
        q, backward = self.online.vjp(self.obs)
        error = targets.double_q(self.reward, self.discount, next_q, next_q, None) - losses.select(q, self.action)
        backward(losses.scatter_to_action(losses.huber_grad(error) * (-1.0 / error.shape[1]), q, self.action))
        clip_per_seed(self.online, 10.0)
        self.step()

    def capture(self) -> None:
        """Capture and replay a graph; the warm-up before it counts as WARM_UPS updates."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self.eager()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.eager()
        self.replay = graph.replay


Weights = list[tuple[Tensor, Tensor, int]]  # of each convolution: weight [N, O, C, k, k], bias [N, O], stride


def convolutions(seeds: int, device: str) -> Weights:
    """Return weights for the three convolutions of Mnih et al. (2015), for images with 4 channels."""
    found = []
    for fan, out, kernel, stride in ((4, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)):
        weight = torch.randn(seeds, out, fan, kernel, kernel, generator=torch.Generator().manual_seed(out))
        weight = (weight / (fan * kernel * kernel) ** 0.5).to(device).requires_grad_()
        found.append((weight, torch.zeros(seeds, out).to(device).requires_grad_(), stride))
    return found


def one_by_one(x: Tensor, weights: Weights) -> Tensor:
    """Map x [N, B, C, H, W] to [N, B, ...], one member after another, as `Stack` does."""
    outputs = []
    for k, given in enumerate(x):
        y = given
        for weight, bias, stride in weights:
            y = F.conv2d(y, weight[k], bias[k], stride).relu()
        outputs.append(y)
    return torch.stack(outputs)


def grouped(x: Tensor, weights: Weights) -> Tensor:
    """Compute the same with one grouped convolution per layer, one group per member."""
    n = len(x)
    y = x.transpose(0, 1).flatten(1, 2)  # [B, N*C, H, W]
    for weight, bias, stride in weights:
        y = F.conv2d(y, weight.flatten(0, 1), bias.flatten(), stride, groups=n).relu()
    return y.unflatten(1, (n, -1)).transpose(0, 1)


def vmapped(x: Tensor, weights: Weights) -> Tensor:
    """Compute the same with torch.func.vmap."""
    for weight, bias, stride in weights:
        layer = torch.func.vmap(lambda y, w, b, s=stride: F.conv2d(y, w, b, s).relu())
        x = layer(x, weight, bias)
    return x
