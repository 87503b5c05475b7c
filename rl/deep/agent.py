"""The agent shared by all Q-networks: a stack of N networks that act and learn from batches.

An algorithm is a config with a head (`rl.deep.heads`), which computes the loss and its gradient; `rl.deep.learner` applies it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl import networks
from rl.core.observations import leaves, parts_of
from rl.core.registry import optional_setting
from rl.core.spaces import actions_of
from rl.core.types import Batch, Decision, State, Update
from rl.deep import checks
from rl.deep.arrays import of_device
from rl.deep.checks import DeepConfig, NotFinite, check_learner
from rl.deep.heads.head import HeadLoss
from rl.deep.learner import Learner
from rl.deep.moving import arrays_of, on_host, tensors_of
from rl.deep.normalize import RunningMoments, encoded
from rl.deep.replay.buffer import Replay
from rl.deep.replay.storage import Where
from rl.deep.rollout import Rollout
from rl.deep.shown import Shown
from supervised import determinism
from supervised.device import choose, exact_floats
from supervised.models.noisy import noisy
from supervised.renamed import former_attributes
from supervised.schedules import Curve
from supervised.streams import BufferedStreams
from supervised.validate import explained, flag, integer, seeds_of

__all__ = ["DeepAgent", "DeepConfig", "NotFinite", "check_learner"]

STATISTICS = "observations/"  # prefix of running statistics among a policy's weights
ONE_THREAD_BELOW = 1_000_000  # weights; on the CPU, smaller networks run faster on one thread than on torch's default


@former_attributes
class DeepAgent(Shown):
    """N Q-networks trained in lockstep. `online` and `target` are `supervised.Stack`s; target is None without target networks."""

    learner_type = Learner

    def __init__(
        self, config: DeepConfig, observation_space: Any, action_space: Any, seeds: Any, device: str = "cpu"
    ) -> None:
        check_learner(config, [name for name in vars(DeepConfig) if not name.startswith("_")])
        self.config, self.head, self.seeds = config, config.head, seeds_of(seeds)
        self.loop: str = optional_setting(config, "loop", "replay")  # see `rl.run.run.LOOPS`
        self.observation_space = observation_space
        channels = optional_setting(config, "channels", "auto")
        self.parts = parts_of(observation_space, channels=channels)
        self.actions, self.first_action = actions_of(action_space)
        # Environments run on the CPU, and so small networks are fastest there.
        pictures = any(part.kind == "image" for part in self.parts)
        self.device = choose("cpu" if isinstance(device, str) and device == "auto" and not pictures else device)
        normalized = optional_setting(config, "normalize_observations", False)
        self.moments = RunningMoments(self.parts, len(self.seeds), self.device) if normalized else None

        def make() -> nn.Module:
            outputs = self.head.size(self.actions)
            return self.joined(networks.make(config.network, observation_space, outputs, channels))

        arrays = functools.partial(of_device, self.device, self.parts, self.moments)
        self.learner = self.learner_type(config, make, self.seeds, self.device, arrays)
        self.online, self.target = self.learner.online, self.learner.target
        self.optimizer, self.guard, self.rate = self.learner.optimizer, self.learner.guard, self.learner.rate
        self.arrays, self.reward_scale = self.learner.arrays, self.learner.reward_scale
        self.check_networks()
        weights = sum(weight[0].numel() for weight in self.online.weights.values())
        small = self.device.type == "cpu" and not pictures and weights < ONE_THREAD_BELOW
        self.threads: Callable[[], contextlib.AbstractContextManager[None]] = (
            functools.partial(determinism.threads, 1) if small else functools.partial(exact_floats, self.device)
        )
        self.streams = {name: BufferedStreams(self.seeds, name) for name in optional_setting(config, "streams", ())}

    def joined(self, network: nn.Module) -> nn.Module:
        """Return the network with the head's layers appended, and with noisy layers if configured."""
        return self.noisy(self.head.module(network))

    def noisy(self, network: nn.Module) -> nn.Module:
        """Return the network, with noisy linear layers if configured."""
        sigma = optional_setting(self.config, "noise", None)
        return network if sigma is None else noisy(network, sigma)

    def example(self, *lead: int) -> Any:
        """Return example observations of the space, encoded: [N, *lead, *F], on the device."""
        found = {part.name: part.example(len(self.seeds), *lead) for part in self.parts}
        return encoded(self.parts, None, found, self.device)

    def check_networks(self) -> None:
        """Raise ValueError unless the head can read the networks' outputs as one value for each action."""
        checks.check_outputs(self.online, self.head, self.example(2), self.actions, self.observation_space)

    def replay(self, world: Where) -> Replay | None:
        """Return an empty replay buffer for the agent; None if it learns online, without a replay."""
        d: Any = self.config
        if d.capacity_steps is None:
            return None
        alpha = d.priority_exponent if d.prioritized else None
        return Replay(world, d.capacity_steps, d.n_step, d.gamma, alpha, self.initial_state(world.envs_per_seed))

    def rollout(self) -> Rollout:
        """Return an empty rollout, for agents that learn from rollouts."""
        d: Any = self.config
        return Rollout(d.rollout_steps)

    @explained("observations [N, B, *O]")
    def encode(self, obs: Any) -> Any:
        """Encode observations [N, B, *O] as network inputs: tensors on the device, normalized if configured."""
        return encoded(self.parts, self.moments, obs, self.device)

    def examples(self, obs: Any) -> Any:
        """Encode observations [N, B, *O] as inputs of a single member's module, to inspect its layers."""
        return self.encode(obs)

    def observe(self, obs: Any) -> None:
        """Update the running statistics with observations [N, B, *O]; no effect without `normalize_observations=True`.

        `rl.train` does this for each observation it acts on. A custom loop calls this once per step, before `act`. `act`, `q`
        and `update` leave the statistics unchanged.
        """
        if self.moments is not None:
            self.moments.observe(obs)

    @explained("observations [N, B, *O], the state returned by the previous call and episode_start bool [N, B]")
    def act(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Decision:
        """Return (q, state) for acting with exploration: Q-values [N, B, A] in units of scaled rewards, and the recurrent state.

        obs: [N, B, *O]. state: the state returned by the previous call; None: all rows start an episode. episode_start: bool
        [N, B], the rows whose state is reset. Noisy layers are noisy; an exploration rule (`rl.explore`) selects the actions.
        """
        with self.threads():
            q, state = self._decide(obs, state, episode_start, True)
        return Decision(self.arrays.tensor(q), state)

    @explained("observations [N, B, *O], the state returned by the previous call and episode_start bool [N, B]")
    def q(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Tensor:
        """Return the Q-values [N, B, A] of observations [N, B, *O], in units of scaled rewards, without gradient or noise.

        state, episode_start: see `act`.
        """
        with self.threads():
            return self.arrays.tensor(self._decide(obs, state, episode_start, False)[0])

    @explained(
        "observations [N, B, *O], the state returned by the previous call, episode_start bool [N, B] and fractions [Z]"
    )
    def distribution(
        self, obs: Any, state: State | None = None, episode_start: Any = None, fractions: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Return the distribution of each action's return as (values, probabilities), each [N, B, A, Z], without noise.

        Values are in units of scaled rewards. state, episode_start: see `act`. fractions: for rl.ImplicitQuantiles, the fractions
        in [0, 1] of the returned quantiles; None: evenly spaced. Raises ArgumentError for an agent that learns only expected
        values, and for fractions without implicit quantiles.
        """
        with self.threads(), torch.no_grad():
            given = None if fractions is None else self.learner.passes.checked(fractions)
            y, _ = self._answer(obs, state, episode_start, False, given)
            return self.head.distribution(self.arrays.tensor(y))

    def decide(self, obs: Any, state: State) -> Decision:
        """Like `act`, with host arrays, for a loop that has entered `threads` and called `begin`."""
        q, state = self._decide(obs, state, None, True)
        return Decision(self.arrays.host(q), state)

    def judge(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Decision:
        """Return `q` as host arrays, and the next recurrent state."""
        with self.threads():
            q, state = self._decide(obs, state, episode_start, False)
        return Decision(self.arrays.host(q), state)

    def _decide(self, obs: Any, state: State | None, episode_start: Any, exploring: bool) -> tuple[Any, State]:
        y, following = self._answer(obs, state, episode_start, exploring)
        return self.arrays.q(self.head, y), following

    def _answer(
        self, obs: Any, state: State | None, episode_start: Any, exploring: bool, fractions: Tensor | None = None
    ) -> tuple[Any, State]:
        x = self.arrays.encode(obs)
        rows = next(iter(leaves(x).values())).shape[1]
        passes = self.learner.passes
        state = self.begin(state, episode_start, rows)
        try:
            if exploring:
                passes.chosen(self.online, rows)
            elif fractions is not None:
                passes.asked(self.online, fractions)
            return self.respond(x, state, exploring)
        finally:
            passes.clear()

    def respond(self, x: Any, state: State, exploring: bool) -> tuple[Any, State]:
        """Return the outputs for encoded observations and the next recurrent state, in the agent's array type.

        Recurrent agents override this. exploring: whether `act` calls it, not `q`.
        """
        return self.arrays.values(self.online, x), state

    def initial_state(self, rows: int) -> State:
        """Return the recurrent state at an episode's start, arrays [N, rows, ...] by name; empty without recurrence."""
        return {}

    def begin(self, state: State | None, episode_start: Any, rows: int) -> State:
        """Return the state with the rows of episode_start reset to the initial state; all rows if state is None.

        Raises ArgumentError if the parts or the shapes of the state differ.
        """
        first = self.initial_state(rows)
        if not first or state is None:
            return first
        checks.check_state(state, first)
        if not state:
            return first
        state = self.arrays.own(state)
        if episode_start is None:
            return state
        start = np.asarray(episode_start, np.bool_)
        return {name: self.arrays.where(start, first[name], part) for name, part in state.items()}

    @explained("observations and a mask bool [N, B, A] or None")
    def allowed(self, obs: Any, mask: Tensor | None) -> Tensor | None:
        """Combine the environment's action mask [N, B, A] with the config's mask function; None: all actions are allowed.

        The function is called with observations on the CPU.
        """
        if self.config.mask is None:
            return mask
        found: Tensor = self.config.mask(on_host(tensors_of(obs)))
        checks.check_allowed(found, obs, self.actions)
        return found if mask is None else found.to(mask.device) & mask

    def allowed_of(self, obs: Any, allowed: np.ndarray | None) -> np.ndarray | None:
        """Like `allowed`, with arrays."""
        if self.config.mask is None:
            return allowed
        found: np.ndarray = arrays_of(self.allowed(obs, tensors_of(allowed)))
        return found

    def update(self, batch: Batch, measured: bool = True) -> Update:
        """Take one optimizer step on a batch [N, B, ...]. Return metrics, each [N] (empty unless measured), and TD errors [N, B].

        Raises ValueError for wrong shapes or actions, and NotFinite if a gradient is NaN or infinite; in both cases the networks
        are unchanged. On CUDA such an update and those after it are skipped, and NotFinite is raised by the next measured
        update, by `raise_if_not_finite` or by `state_dict`.
        """
        measured = flag(measured, "measured")
        with self.threads():
            found = self.learn(checks.checked(batch, len(self.seeds), self.actions), measured)
        priority = None if found.priority is None else self.arrays.tensor(found.priority)
        return Update(found.metrics, self.arrays.tensor(found.td_error), priority)

    def learn(self, batch: Batch, measured: bool) -> HeadLoss:
        """Like `update`, for a checked batch and within `threads`; the result is in the agent's array type."""
        given = batch
        if self.config.mask is not None and batch.next_obs is not None:
            batch = batch._replace(next_mask=self.allowed(batch.next_obs, tensors_of(batch.next_mask)))
        if self.config.mask is not None and self.head.reads_own:
            batch = batch._replace(mask=self.allowed(batch.obs, tensors_of(batch.mask)))
        return self.learner.learn(self.arrays.batch(batch, self.actions), given, measured)

    def raise_if_not_finite(self) -> None:
        """Raise NotFinite if an update was skipped since the last check. On the CPU `update` raises it itself."""
        self.learner.raise_if_not_finite()

    @explained("the curve of a schedule and a step")
    def set_learning_rate(self, curve: Curve, step: int) -> None:
        """Set the learning rate to the value of a schedule's curve at an environment step."""
        self.learner.set_learning_rate(curve, step)

    @explained("k, the place of one of its seeds")
    def weights_of(self, k: int) -> dict[str, np.ndarray]:
        """Return the k-th seed's weights for a policy, with its running observation statistics, if any."""
        k = integer(k, "k", 0, len(self.seeds) - 1)
        weights = {name: value[k].cpu().numpy() for name, value in self.online.state_dict().items()}
        if self.moments is not None:
            weights |= {STATISTICS + name: np.asarray(array[k]) for name, array in self.moments.state_dict().items()}
        return weights

    @explained("the weights of one seed by name")
    def load_seed_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Load the weights of one seed into all seeds.

        Raises RuntimeError if the weights belong to a different network, ValueError if the statistics do not match.
        """
        stacked = {name: np.stack([np.array(value)] * len(self.seeds)) for name, value in weights.items()}
        if self.moments is not None:
            names = [name for name in stacked if name.startswith(STATISTICS)]
            self.moments.load_state_dict({name.removeprefix(STATISTICS): stacked.pop(name) for name in names})
        self.learner.load_seed_weights(stacked)

    def state_dict(self) -> dict[str, Any]:
        """Return weights, target weights, optimizer state, random streams and running statistics, arrays [N, ...].

        Raises NotFinite like `raise_if_not_finite`.
        """
        saved = self.learner.state_dict()
        if self.moments is not None:
            saved["observations"] = self.moments.state_dict()
        if self.streams:
            saved["own streams"] = {name: stream.state_dict() for name, stream in self.streams.items()}
        return saved

    @explained("the state that state_dict returned")
    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load a state returned by `state_dict`. Raises ValueError for another network, or for NaN or infinite weights."""
        self.learner.check(saved)
        if self.moments is not None:
            self.moments.load_state_dict(saved["observations"])
        self.learner.load_state_dict(saved)
        for name, stream in self.streams.items():
            stream.load_state_dict(saved["own streams"][name])
