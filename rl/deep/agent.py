"""What all Q-networks share: N members in a stack that act, and learn what a head says of a batch.

An algorithm is a config with a head (`rl.deep.heads`). `rl.deep.learner` carries the head's gradient out.
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
from rl.deep.arrays import encoded, of_device
from rl.deep.checks import DeepConfig, NotFinite, check_learner
from rl.deep.heads.head import HeadLoss
from rl.deep.learner import Learner
from rl.deep.moving import arrays_of, on_host, tensors_of
from rl.deep.normalize import RunningMoments
from rl.deep.replay.buffer import Replay
from rl.deep.replay.storage import Where
from rl.deep.shown import Shown
from supervised import determinism
from supervised.device import choose, exact_floats
from supervised.models.noisy import noisy
from supervised.renamed import former_attributes
from supervised.schedules import Curve
from supervised.streams import BufferedStreams
from supervised.validate import explained, flag, integer, seeds_of

__all__ = ["DeepAgent", "DeepConfig", "NotFinite", "check_learner"]

STATISTICS = "observations/"  # what the names of running statistics begin with among a policy's weights
ONE_THREAD_BELOW = (
    1_000_000  # weights: on the CPU smaller networks lose by torch's threads, most of all beside other processes
)


@former_attributes
class DeepAgent(Shown):
    """N Q-networks that learn at once. `online` and `target` are `supervised.Stack`s; target is None without one."""

    loop = "replay"  # see `rl.run.run.LOOPS`
    learner_type = Learner

    def __init__(
        self, config: DeepConfig, observation_space: Any, action_space: Any, seeds: Any, device: str = "cpu"
    ) -> None:
        check_learner(config, [name for name in vars(DeepConfig) if not name.startswith("_")])
        self.config, self.head, self.seeds = config, config.head, seeds_of(seeds)
        self.observation_space = observation_space
        channels = optional_setting(config, "channels", "auto")
        self.parts = parts_of(observation_space, channels=channels)
        self.actions, self.first_action = actions_of(action_space)
        # Small networks beside environments on the CPU are fastest there.
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
        """The network with what the head puts behind it, and with noise where the config asks for it."""
        return self.noisy(self.head.module(network))

    def noisy(self, network: nn.Module) -> nn.Module:
        """The network, its linear layers noisy where the config asks for it."""
        sigma = optional_setting(self.config, "noise", None)
        return network if sigma is None else noisy(network, sigma)

    def example(self, *lead: int) -> Any:
        """Encoded observations [N, *lead, *F] that the space could hold, on the device."""
        found = {part.name: part.example(len(self.seeds), *lead) for part in self.parts}
        return encoded(self.parts, None, found, self.device)

    def check_networks(self) -> None:
        """Raise ValueError unless the networks answer what the head reads as a value for each action."""
        checks.check_outputs(self.online, self.head, self.example(2), self.actions, self.observation_space)

    def replay(self, world: Where) -> Replay | None:
        """An empty replay of the kind that the agent learns from; None where it learns from each step as it comes."""
        d: Any = self.config
        if d.capacity_steps is None:
            return None
        alpha = d.priority_exponent if d.prioritized else None
        return Replay(world, d.capacity_steps, d.n_step, d.gamma, alpha, self.initial_state(world.envs_per_seed))

    @explained("observations [N, B, *O]")
    def encode(self, obs: Any) -> Any:
        """Observations [N, B, *O] as the networks take them, tensors on the device; normalized if the config says so."""
        return encoded(self.parts, self.moments, obs, self.device)

    def examples(self, obs: Any) -> Any:
        """Observations [N, B, *O] as a member can be called with them alone, to look at its layers."""
        return self.encode(obs)

    def observe(self, obs: Any) -> None:
        """Count observations [N, B, *O] for `normalize_observations=True`; without it nothing happens.

        `rl.train` counts each observation that is acted on. A loop of one's own calls this once a step, before `act`. None of
        `act`, `q` and `update` changes the statistics.
        """
        if self.moments is not None:
            self.moments.observe(obs)

    @explained("observations [N, B, *O], a state that it answered before and episode_start bool [N, B]")
    def act(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Decision:
        """What the agent makes of observations [N, B, *O] while it explores: values [N, B, A] times `reward_scale`, and a state.

        The state is handed over with the next observations; None: every row begins an episode, as those do where
        episode_start bool [N, B] is true. Exploration chooses among the values (`rl.explore`).
        """
        with self.threads():
            q, state = self._decide(obs, state, episode_start, True)
        return Decision(self.arrays.tensor(q), state)

    @explained("observations [N, B, *O], a state that it answered before and episode_start bool [N, B]")
    def q(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Tensor:
        """How the agent judges: observations [N, B, *O] as the environment gives them -> values [N, B, A], times `reward_scale`.

        No gradient and no noise. state, episode_start: as of `act`.
        """
        with self.threads():
            return self.arrays.tensor(self._decide(obs, state, episode_start, False)[0])

    @explained("observations [N, B, *O], a state that it answered before, episode_start bool [N, B] and fractions [Z]")
    def distribution(
        self, obs: Any, state: State | None = None, episode_start: Any = None, fractions: Any = None
    ) -> tuple[Tensor, Tensor]:
        """The return of each action as it is judged -> values, times `reward_scale`, and their probabilities: each [N, B, A, Z].

        state, episode_start: as of `act`. fractions: of rl.ImplicitQuantiles, numbers in [0, 1] at which the quantiles are asked
        for; None: at equal distances. Raises ArgumentError for an agent that learns values alone, and for fractions elsewhere.
        """
        with self.threads(), torch.no_grad():
            given = None if fractions is None else self.learner.passes.checked(fractions)
            y, _ = self._answer(obs, state, episode_start, False, given)
            return self.head.distribution(self.arrays.tensor(y))

    def decide(self, obs: Any, state: State) -> Decision:
        """`act` in arrays of the host, for a loop that is within `threads` and has called `begin`."""
        q, state = self._decide(obs, state, None, True)
        return Decision(self.arrays.host(q), state)

    def judge(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Decision:
        """`q` in arrays of the host, and the state that follows."""
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
        """The outputs for encoded observations, and what is remembered after them, in arrays of the agent's kind.

        An agent with a memory or with noise has its own `respond`. exploring: as by `act`, or else as by `q`.
        """
        return self.arrays.values(self.online, x), state

    def initial_state(self, rows: int) -> State:
        """What is remembered when an episode begins, by name, each [N, rows, ...] in arrays of the agent's kind: nothing."""
        return {}

    def begin(self, state: State | None, episode_start: Any, rows: int) -> State:
        """A state with what is remembered at the beginning in the rows of episode_start; without a state, in all rows.

        Raises ArgumentError for a state of other parts or shapes.
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
        """The mask [N, B, A] that came with observations, and what the config's function says of them; None: all.

        The function sees observations on the CPU, wherever they are.
        """
        if self.config.mask is None:
            return mask
        found: Tensor = self.config.mask(on_host(tensors_of(obs)))
        checks.check_allowed(found, obs, self.actions)
        return found if mask is None else found.to(mask.device) & mask

    def allowed_of(self, obs: Any, allowed: np.ndarray | None) -> np.ndarray | None:
        """`allowed` in arrays."""
        if self.config.mask is None:
            return allowed
        found: np.ndarray = arrays_of(self.allowed(obs, tensors_of(allowed)))
        return found

    def update(self, batch: Batch, measured: bool = True) -> Update:
        """One step of the optimizer from a batch [N, B, ...] -> metrics each [N] (none unless measured), TD errors [N, B].

        Raises ValueError for a batch of other shapes or actions, and NotFinite where a gradient is NaN or infinite; either way
        the networks are as they were. On CUDA such an update and those after it change nothing, and NotFinite is raised by the
        next that is measured, by `look` or by `state_dict`.
        """
        measured = flag(measured, "measured")
        with self.threads():
            found = self.learn(checks.checked(batch, len(self.seeds), self.actions), measured)
        priority = None if found.priority is None else self.arrays.tensor(found.priority)
        return Update(found.metrics, self.arrays.tensor(found.td_error), priority)

    def learn(self, batch: Batch, measured: bool) -> HeadLoss:
        """`update` from a batch that is known to be sound, within `threads`, in arrays of the agent's kind."""
        given = batch
        if self.config.mask is not None and batch.next_obs is not None:
            batch = batch._replace(next_mask=self.allowed(batch.next_obs, tensors_of(batch.next_mask)))
        if self.config.mask is not None and self.head.reads_own:
            batch = batch._replace(mask=self.allowed(batch.obs, tensors_of(batch.mask)))
        return self.learner.learn(self.arrays.batch(batch, self.actions), given, measured)

    def look(self) -> None:
        """Raise NotFinite if an update since the last look was left out. On the CPU `update` itself has told of it."""
        self.learner.look()

    @explained("the curve of a schedule and a step")
    def set_learning_rate(self, curve: Curve, step: int) -> None:
        """Put the learning rate to what a schedule says at an environment step."""
        self.learner.set_learning_rate(curve, step)

    @explained("k, the place of one of its seeds")
    def weights_of(self, k: int) -> dict[str, np.ndarray]:
        """The k-th seed's weights, for a policy, and its running statistics of observations, where there are any."""
        k = integer(k, "k", 0, len(self.seeds) - 1)
        weights = {name: value[k].cpu().numpy() for name, value in self.online.state_dict().items()}
        if self.moments is not None:
            weights |= {STATISTICS + name: np.asarray(array[k]) for name, array in self.moments.state_dict().items()}
        return weights

    @explained("the weights of one seed by name")
    def load_seed_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Give all seeds the weights of one. Raises RuntimeError for those of another network, ValueError for statistics of
        other observations."""
        stacked = {name: np.stack([np.array(value)] * len(self.seeds)) for name, value in weights.items()}
        if self.moments is not None:
            names = [name for name in stacked if name.startswith(STATISTICS)]
            self.moments.load_state_dict({name.removeprefix(STATISTICS): stacked.pop(name) for name in names})
        self.learner.load_seed_weights(stacked)

    def state_dict(self) -> dict[str, Any]:
        """Weights, target weights, the optimizer's memory, every stream and running statistics, arrays [N, ...].

        Raises NotFinite as `look` does.
        """
        saved = self.learner.state_dict()
        if self.moments is not None:
            saved["observations"] = self.moments.state_dict()
        if self.streams:
            saved["own streams"] = {name: stream.state_dict() for name, stream in self.streams.items()}
        return saved

    @explained("the state that state_dict returned")
    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave. Raises ValueError for another network, or for NaN or infinite weights."""
        self.learner.check(saved)
        if self.moments is not None:
            self.moments.load_state_dict(saved["observations"])
        self.learner.load_state_dict(saved)
        for name, stream in self.streams.items():
            stream.load_state_dict(saved["own streams"][name])
