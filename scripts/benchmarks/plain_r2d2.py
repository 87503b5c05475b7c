#!/usr/bin/env python
"""R2D2 (Kapturowski et al. 2019) in CartPole, one seed per run, in plain PyTorch: the baseline of `benchmark.py r2d2`.

python scripts/benchmarks/plain_r2d2.py --seed 0 --steps 50000

Windows overlap by the burn-in, so that each step has a loss in one window. Near the end of a window the n-step targets use
the steps that are left. New windows get the highest priority so far; there are no importance weights.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import Tensor, nn


@dataclass(frozen=True)
class Settings:
    """The settings of a run; steps are environment steps."""

    env: str = "CartPole-v1"
    units: int = 64
    window_steps: int = 80
    burn_in: int = 40
    """Number of burn-in steps, without a loss, in a window that starts within an episode; a new window starts every
    window_steps - burn_in steps."""
    capacity_windows: int = 2_500
    n: int = 5
    gamma: float = 0.99
    batch_size: int = 32
    learning_rate: float = 1e-3
    max_grad_norm: float = 40.0
    learn_after_steps: int = 1_000
    update_every_steps: int = 8
    target_every_updates: int = 100
    epsilon: tuple[float, float] = (1.0, 0.05)
    epsilon_steps: int = 5_000
    priority_exponent: float = 0.9
    priority_max_share: float = 0.9
    """Weight of the largest TD error in a window's priority; the mean has the rest."""


DEFAULT = Settings()


class Network(nn.Module):
    """A GRU over observations with a dueling head."""

    def __init__(self, inputs: int, units: int, actions: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, units)
        self.value, self.advantage = nn.Linear(units, 1), nn.Linear(units, actions)

    def q(self, y: Tensor) -> Tensor:
        advantage: Tensor = self.advantage(y)
        return self.value(y) + advantage - advantage.mean(-1, keepdim=True)

    def step(self, obs: np.ndarray, state: Tensor) -> Tensor:
        """Return the state [1, units] after one more observation; `gru_cell` is faster than a sequence of one step."""
        (weights,) = self.gru.all_weights
        return torch.gru_cell(torch.from_numpy(obs)[None], state, *weights)

    def unroll(self, obs: Tensor, state: Tensor, fresh: Tensor, burn_in: int) -> Tensor:
        """Return values [T, B, A] of obs [T, B, O] from state [B, units]; fresh, bool [B]: windows that start with their episode.

        For the others no gradient flows through the state at the end of the burn-in, and values before it have no loss.
        """
        with torch.set_grad_enabled(bool(fresh.any())):
            early, after = self.gru(obs[:burn_in], state[None])
        late, _ = self.gru(obs[burn_in:], torch.where(fresh[:, None], after, after.detach()))
        return self.q(torch.cat([early, late]))


class Replay:
    """A ring buffer of windows. `boot` and `discount`: the observation a step's target bootstraps from, and its factor."""

    def __init__(self, s: Settings, inputs: int) -> None:
        c, t = s.capacity_windows, s.window_steps
        self.s, self.size, self.cursor, self.highest = s, 0, 0, 1.0
        self.obs = np.zeros((c, t + 1, inputs), np.float32)
        self.state = np.zeros((c, s.units), np.float32)
        self.action, self.boot = np.zeros((c, t), np.int64), np.zeros((c, t), np.int64)
        self.reward, self.discount, self.mask = (np.zeros((c, t), np.float32) for _ in range(3))
        self.fresh = np.zeros(c, np.bool_)
        self.priority = np.zeros(c)

    def add(
        self,
        obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: bool,
        state: np.ndarray,
        fresh: bool,
    ) -> None:
        """obs [L + 1, O], action and reward [L]; fresh: the window begins with its episode."""
        i, length, n, gamma = self.cursor, len(action), self.s.n, self.s.gamma
        t = np.arange(length)
        ahead = np.minimum(n, length - t)
        later = np.concatenate([reward, np.zeros(n)])
        self.obs[i, : length + 1], self.obs[i, length + 1 :] = obs, 0.0
        self.state[i], self.fresh[i] = state, fresh
        self.action[i, :length], self.action[i, length:] = action, 0
        self.boot[i, :length], self.boot[i, length:] = t + ahead, 0
        self.reward[i, :length] = sum(gamma**k * later[k : k + length] for k in range(n))
        self.discount[i, :length] = np.where(terminated & (t + ahead == length), 0.0, gamma**ahead)
        self.mask[i] = 0.0
        self.mask[i, 0 if fresh else self.s.burn_in : length] = 1.0
        self.priority[i] = self.highest
        self.cursor, self.size = (i + 1) % len(self.obs), min(self.size + 1, len(self.obs))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return the indices of a batch of windows, sampled by priority."""
        total = np.cumsum(self.priority[: self.size] ** self.s.priority_exponent)
        return np.searchsorted(total, rng.random(self.s.batch_size) * total[-1], side="right")

    def judge(self, index: np.ndarray, error: np.ndarray) -> None:
        """Update priorities from |TD error| [T, B], which is 0 where masked."""
        share = self.s.priority_max_share
        mean = error.sum(0) / self.mask[index].sum(1)
        self.priority[index] = share * error.max(0) + (1 - share) * mean + 1e-6
        self.highest = max(self.highest, float(self.priority[index].max()))


class Episode:
    """The steps of the current episode; adds windows to the replay once they are full, and the rest at the episode's end."""

    def __init__(self, s: Settings, obs: np.ndarray) -> None:
        self.s, self.windows = s, 0
        self.obs, self.actions, self.rewards, self.states = [obs], list[int](), list[float](), list[Tensor]()

    def record(self, state: Tensor, action: int, reward: float, obs: np.ndarray) -> None:
        """Add a step. state: the one before the observation of the action."""
        self.obs.append(obs)
        self.actions.append(action)
        self.rewards.append(reward)
        self.states.append(state)

    def store(self, replay: Replay, terminated: bool, over: bool) -> None:
        start = self.windows * (self.s.window_steps - self.s.burn_in)
        end = len(self.actions)
        if end - start == self.s.window_steps or over:
            steps = np.array(self.actions[start:]), np.array(self.rewards[start:])
            replay.add(np.array(self.obs[start:]), *steps, terminated, self.states[start][0].numpy(), start == 0)
            self.windows += 1


def rescale(x: Tensor, eps: float = 1e-3) -> Tensor:
    return x.sign() * ((x.abs() + 1).sqrt() - 1) + eps * x


def unscale(x: Tensor, eps: float = 1e-3) -> Tensor:
    """Return the inverse of `rescale`."""
    return x.sign() * ((((1 + 4 * eps * (x.abs() + 1 + eps)).sqrt() - 1) / (2 * eps)).square() - 1)


def td_error(net: Network, target: Network, replay: Replay, index: np.ndarray) -> Tensor:
    """Return TD errors [T, B], 0 in the burn-in and beyond an episode's end."""
    longest = int(replay.boot[index].max())  # steps of the longest of the windows
    obs = torch.from_numpy(replay.obs[index, : longest + 1]).transpose(0, 1)
    action, boot, reward, discount, mask = (
        torch.from_numpy(x[index, :longest]).transpose(0, 1)
        for x in (replay.action, replay.boot, replay.reward, replay.discount, replay.mask)
    )
    state, fresh = torch.from_numpy(replay.state[index]), torch.from_numpy(replay.fresh[index])
    q = net.unroll(obs, state, fresh, min(replay.s.burn_in, longest))
    with torch.no_grad():
        next_q = target.q(target.gru(obs, state[None])[0]).gather(-1, q.argmax(-1, keepdim=True))[..., 0]
        goal = rescale(reward + discount * unscale(next_q.gather(0, boot)))
    error: Tensor = (goal - q[:-1].gather(-1, action[..., None])[..., 0]) * mask
    return error


def run(seed: int, steps: int, s: Settings = DEFAULT) -> list[float]:
    """Train for `steps` environment steps. Return the returns of the finished episodes."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng, env = np.random.default_rng(seed), gym.make(s.env)
    inputs, actions = env.observation_space.shape[0], int(env.action_space.n)  # type: ignore[attr-defined]  # a Box and a Discrete
    net = Network(inputs, s.units, actions)
    target = copy.deepcopy(net)
    optimizer = torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
    replay, returns, updates = Replay(s, inputs), list[float](), 0
    obs, _ = env.reset(seed=seed)
    episode, state = Episode(s, obs), torch.zeros(1, s.units)

    for step in range(1, steps + 1):
        epsilon = max(s.epsilon[1], s.epsilon[0] + (s.epsilon[1] - s.epsilon[0]) * step / s.epsilon_steps)
        before = state
        with torch.no_grad():
            state = net.step(obs, state)
            greedy = rng.random() >= epsilon
            action = int(net.q(state).argmax()) if greedy else int(rng.integers(actions))
        obs, reward, terminated, truncated, _ = env.step(action)
        episode.record(before, action, float(reward), obs)
        episode.store(replay, terminated, terminated or truncated)
        if terminated or truncated:
            returns.append(sum(episode.rewards))
            obs, _ = env.reset()
            episode, state = Episode(s, obs), torch.zeros(1, s.units)

        if step >= s.learn_after_steps and step % s.update_every_steps == 0 and replay.size:
            index = replay.draw(rng)
            error = td_error(net, target, replay, index)
            loss = error.square().sum() / float(replay.mask[index].sum())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), s.max_grad_norm)
            optimizer.step()
            replay.judge(index, error.detach().abs().numpy())
            updates += 1
            if updates % s.target_every_updates == 0:
                target.load_state_dict(net.state_dict())
    env.close()
    return returns


def main(seed: int = 0, steps: int = 50_000, settings: Settings = DEFAULT) -> None:
    """Train one seed and print its returns."""
    began = time.perf_counter()
    returns = run(seed, steps, settings)
    seconds = time.perf_counter() - began
    tenths = [f"{np.mean(part):.0f}" for part in np.array_split(returns, 10) if len(part)]
    print(f"Mean returns of tenths of {len(returns)} episodes: {', '.join(tenths)}")
    print(f"{steps / seconds:,.0f} steps per second, {seconds:.1f} s")


if __name__ == "__main__":
    tyro.cli(main)
