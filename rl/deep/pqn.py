"""Parallelized Q-network (PQN): Q(lambda) on rollouts of many environments, without a replay and without a target network.

Gallici et al. (2025), "Simplifying Deep Temporal Difference Learning", algorithm 1. Layer normalization before each activation,
which the default network has, makes it stable.

Deviations: truncated episodes bootstrap from their true last observation (the authors' scripts for Gymnax and MinAtar treat
truncations as terminations, and bootstrap the second-to-last step of a rollout from the value one step too late); the loss is the
squared error, not half of it, so `max_grad_norm` is twice the paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from rl import network_names
from rl.core.observations import CHANNELS, parts_of
from rl.core.registry import add_presets, register
from rl.core.spaces import actions_of
from rl.deep.policy_settings import check_policy_settings
from rl.explore import EpsilonGreedy, Explore
from supervised.names import OPTIMIZERS
from supervised.schedules import Linear, Schedule, setting
from supervised.validate import ArgumentError, choice, flag, integer, number, shown, store

if TYPE_CHECKING:
    from torch import Tensor

    from rl.deep.agent import DeepAgent
    from rl.deep.heads.scalar import Scalar


@register
@dataclass(frozen=True)
class PQN:
    """A parallelized Q-network. Raises ValueError or TypeError for settings that are out of range or contradict each other."""

    gamma: float = 0.99
    """The discount factor, in [0, 1]."""
    lambda_: float = 0.95
    """Lambda, the mixture of n-step returns, in [0, 1]: 0 for one-step targets, 1 for returns over the whole rollout."""
    network: network_names.Network = "layer_norm_auto"
    """A network name with layer sizes, such as "layer_norm_mlp(256,256)" or "layer_norm_cnn(16)", or a function; see rl.DQN."""
    envs_per_seed: int = 32
    """The number of environments per seed."""
    rollout_steps: int = 64
    """The number of steps in each environment per rollout."""
    memory_steps: int = 0
    """Steps at the end of the previous rollout that warm up the recurrent state, without a loss; only for recurrent networks."""
    minibatches: int = 16
    """The number of minibatches that the rollout_steps * envs_per_seed transitions are divided into, without a remainder; with a
    recurrent network the environments are, each with all of its steps."""
    epochs: int = 4
    """The number of passes over a rollout, each in a new random order."""
    learning_rate: float | Schedule = field(default_factory=lambda: Linear(1e-4, 0.0))
    """The learning rate: a number or a schedule in steps."""
    optimizer: str = "RAdam"
    """The name of an elementwise optimizer in torch.optim."""
    max_grad_norm: float | None = 20.0
    """The maximum norm of a seed's gradient; larger gradients are scaled down. None: no clipping."""
    explore: Explore = field(default_factory=lambda: EpsilonGreedy(Linear(1.0, 0.2, fraction=0.2)))
    """The exploration rule, one of rl.explore's EpsilonGreedy, Greedy, Boltzmann and DecayingNoise; by default epsilon falls from
    1 to 0.2 over the first fifth of the run."""
    reward_scale: float = 1.0
    """A factor on rewards in learning only: Q-values, TD errors and losses are scaled; reported returns, predicted ones included,
    are not."""
    mask: Callable[[Any], Tensor] | None = None
    """A function of observations [..., *O], on the CPU, that returns the allowed actions, bool [..., A]. It is combined with
    info["action_mask"], which is respected in any case."""
    compiled: bool = True
    """Run supported networks as compiled code, on the CPU and if numba is installed; False: use torch. Results agree up to
    rounding."""
    channels: str = "auto"
    """The channel axis of images, "first", "last" or "auto"; see rl.DQN."""
    normalize_observations: bool = False
    """Normalize vector observations by their running mean and standard deviation; see rl.DQN."""

    loop: ClassVar[str] = "rollout"
    # There is no target network.
    target_every_updates: ClassVar[None] = None
    target_rate: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def head(self) -> Scalar:
        """Return the head, which reads the network's outputs and computes their loss."""
        from rl.deep.heads.scalar import Scalar

        return Scalar("squared", False, False)

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Raise SpaceError for action spaces that are not Discrete and for unsupported observation spaces."""
        actions_of(action_space)
        parts_of(observation_space, channels=self.channels)

    def build(self, observation_space: Any, action_space: Any, seeds: Any = 1, device: str = "cpu") -> DeepAgent:
        """Return the agent: N networks, each with its own initial weights. Raises SpaceError for unsupported spaces."""
        from rl import networks
        from rl.deep.agent import DeepAgent
        from rl.deep.sequence_rollout import RecurrentRolloutAgent

        outputs = self.head.size(actions_of(action_space)[0])
        if networks.reads_sequences(self.network, observation_space, outputs, self.channels):
            return RecurrentRolloutAgent(self, observation_space, action_space, seeds, device)
        if self.memory_steps:
            raise ArgumentError(
                f"memory_steps={self.memory_steps} applies only to recurrent networks such as gru(64), not to"
                f" {shown(self.network)}."
            )
        return DeepAgent(self, observation_space, action_space, seeds, device)


def check_settings(d: PQN) -> None:
    """Raise a ValueError or TypeError for settings that are out of range or contradict each other."""
    store(d, number, "gamma", "lambda_", low=0.0, high=1.0)
    store(d, number, "max_grad_norm", low=1e-12, none=True)
    store(d, number, "reward_scale", low=1e-12, high=1e12)
    store(d, integer, "envs_per_seed", "rollout_steps", "minibatches", "epochs", low=1)
    store(d, integer, "memory_steps", low=0)
    store(d, flag, "compiled", "normalize_observations")
    store(d, choice, "optimizer", known=OPTIMIZERS)
    store(d, choice, "channels", known=CHANNELS)
    store(d, setting, "learning_rate", low=0.0, units=("steps",))
    check_policy_settings(d)
    if d.memory_steps > d.rollout_steps:
        raise ArgumentError(
            f"memory_steps={d.memory_steps} exceeds rollout_steps={d.rollout_steps}: the memory is the end of the previous"
            " rollout."
        )
    check_minibatches(d.rollout_steps * d.envs_per_seed, d.minibatches, "transitions of a rollout")


def check_minibatches(units: int, minibatches: int, what: str) -> None:
    """Raise ArgumentError unless a rollout's units can be divided into minibatches of equal size. what: the name of the units."""
    if units % minibatches:
        raise ArgumentError(f"minibatches={minibatches} does not divide the {units:,} {what}.")


add_presets("networks", {"pqn": PQN()})
add_presets("memory", {"pqn-rnn": PQN(network="layer_norm_auto+gru(64)", memory_steps=4)})
