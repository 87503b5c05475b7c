"""Deep Q-networks: Q-learning with a neural network, experience replay and a target network.

Mnih et al. (2013), "Playing Atari with Deep Reinforcement Learning", and (2015), "Human-level control", equation 1.
Extensions, which combine: double (van Hasselt, Guez and Silver 2016), dueling (Wang et al. 2016), prioritized replay (Schaul et
al. 2016), n-step returns (Sutton and Barto 2018, section 7.1), soft target updates (Lillicrap et al. 2016, section 3).

Deviations: Adam instead of RMSProp; gradient norms are clipped; each stream of the dueling network is one linear layer on a
shared trunk; importance weights are normalized by the maximum over the replay buffer, not over the batch, which keeps the mean
unbiased.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rl import losses, network_names
from rl.core.observations import CHANNELS, parts_of
from rl.core.registry import add_presets, register
from rl.core.spaces import actions_of
from rl.deep.distributions import Atoms, Distribution, ImplicitQuantiles, Quantiles
from rl.deep.munchausen import Munchausen
from rl.deep.policy_settings import check_policy_settings
from rl.deep.replay.windows import windows
from rl.explore import EpsilonGreedy, Explore, Greedy
from supervised.names import OPTIMIZERS
from supervised.schedules import Linear, Schedule, setting
from supervised.validate import ArgumentError, choice, flag, instance, integer, number, shown, store

if TYPE_CHECKING:
    from torch import Tensor

    from rl.deep.agent import DeepAgent
    from rl.deep.heads.head import Head


@register
@dataclass(frozen=True)
class DQN:
    """Deep Q-learning. Raises ValueError or TypeError for settings that are out of range or contradict each other."""

    gamma: float = 0.99
    """The discount factor, in [0, 1]."""
    network: network_names.Network = "auto"
    """A network name with layer sizes ("auto", "linear", "mlp(64,64)", "cnn(16,32)", "nature"; all but "linear" with layer
    normalization, such as "layer_norm_mlp(64,64)"; recurrent: "gru(64)", "lstm(64)",
    "rnn(64)", "cnn(16)+gru(128)"), or a function (observation_space, outputs) -> nn.Module; the module is recurrent if it maps
    sequences to (outputs, state)."""
    learning_rate: float | Schedule = 1e-3
    """The learning rate: a number or a schedule in steps."""
    loss: str = "huber"
    """The loss on TD errors: "huber" or "squared"."""
    max_grad_norm: float | None = 10.0
    """The maximum norm of a seed's gradient; larger gradients are scaled down. None: no clipping."""
    optimizer: str = "Adam"
    """The name of an elementwise optimizer in torch.optim."""
    batch_size: int = 64
    """The number of transitions (or windows, for sequences) per update and seed."""
    capacity_steps: int | None = 100_000
    """The capacity of each seed's replay buffer, in steps; None: no replay, every step is learned from once, online."""
    learn_after_steps: int = 1_000
    """Environment steps per seed before learning starts."""
    update_every_steps: int = 1
    """Environment steps per seed between rounds of updates."""
    updates: int = 1
    """Gradient updates per round."""
    target_every_updates: int | None = 500
    """Updates between target network updates; None: no target network."""
    target_rate: float = 1.0
    """The target network update rate tau, in (0, 1]: target += tau * (online - target); 1: a hard copy."""
    double: bool = False
    """Double Q-learning: the online network selects the next action, the target network evaluates it."""
    dueling: bool = False
    """A dueling network: one stream for the state value, one for the advantages."""
    n_step: int = 1
    """The number of rewards in n-step returns."""
    prioritized: bool = False
    """Prioritized replay, proportional to TD errors."""
    priority_exponent: float = 0.6
    """The exponent alpha of prioritized replay, in [0, 1]; 0: uniform sampling."""
    importance_exponent: float | Schedule = field(default_factory=lambda: Linear(0.4, 1.0))
    """The importance sampling exponent beta of prioritized replay, in [0, 1]: a number or a schedule in steps."""
    explore: Explore = field(default_factory=lambda: EpsilonGreedy(Linear(1.0, 0.05, fraction=0.1)))
    """The exploration rule, one of rl.explore's EpsilonGreedy, Greedy, Boltzmann and DecayingNoise; by default epsilon falls from
    1 to 0.05 over the first tenth of the run."""
    mask: Callable[[Any], Tensor] | None = None
    """A function of observations [..., *O], on the CPU, that returns the allowed actions, bool [..., A]. It is combined with
    info["action_mask"], which is respected in any case."""
    compiled: bool = True
    """Run networks of linear layers, ReLUs, GRUs and tanh cells as compiled code, on the CPU and if numba is installed; False:
    use torch. Results agree up to rounding."""
    channels: str = "auto"
    """The channel axis of images: "first", "last", or "auto": last if the two axes before it have equal sizes, first if the two
    axes after it do, else the shortest."""
    normalize_observations: bool = False
    """Normalize vector observations by the running mean and standard deviation of all that the seed has seen in training, clipped
    to [-10, 10]; the statistics are saved in checkpoints and policies. Images and one-hot codes are unchanged."""
    reward_scale: float = 1.0
    """A factor on rewards in learning only: Q-values, TD errors and losses are scaled; reported returns, predicted ones included,
    are not."""
    sequence_steps: int | None = None
    """The length in steps of the windows that a recurrent network is trained on; None: whole episodes. If given, a feedforward
    network is trained on windows, too."""
    sequence_every_steps: int | None = None
    """Steps between the starts of consecutive windows of an episode; None: half of sequence_steps."""
    burn_in_steps: int = 0
    """The number of initial steps of a window that only warm up the recurrent state, without a loss; 0 at an episode's start."""
    priority_mix: float = 0.9
    """The weight of the maximum absolute TD error in a window's priority; the mean has the rest. Only with prioritized=True."""
    rescale_values: bool = False
    """Learn Q-values in the transformed scale of rl.targets.rescaled."""
    chrono_steps: int | None = None
    """Initialize the gates of a GRU or LSTM for dependencies of up to this many steps (`supervised.chrono`); None: torch's
    initialization."""
    distribution: Distribution | None = None
    """Learn the distribution of returns: rl.Atoms(...), rl.Quantiles(...) or rl.ImplicitQuantiles(...); None: only the mean."""
    munchausen: Munchausen | None = None
    """Munchausen targets with a soft policy: rl.Munchausen(...); None: targets of the greedy action."""
    noise: float | None = None
    """Noisy linear layers with initial standard deviation noise / sqrt(inputs) (sigma_0 in Fortunato et al. 2018, where it is
    .5), used for acting and learning but not for evaluation; None: no noise."""

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def head(self) -> Head:
        """Return the head, which reads the network's outputs and computes their loss."""
        from rl.deep.heads.bootstrap import BEST_ACTION
        from rl.deep.heads.scalar import Scalar

        bootstrap = BEST_ACTION if self.munchausen is None else self.munchausen.bootstrap()
        if self.distribution is not None:
            return self.distribution.head(self.dueling, self.rescale_values, bootstrap)
        return Scalar(self.loss, self.dueling, self.rescale_values, bootstrap)

    def for_returns(self, returns: Callable[[float], tuple[float, float] | None], action_space: Any) -> DQN:
        """Return the config for an environment. returns: maps a discount to the bounds of returns, None if unknown."""
        if self.distribution is None:
            return self
        bounds = returns(self.gamma)
        scaled = None if bounds is None else (bounds[0] * self.reward_scale, bounds[1] * self.reward_scale)
        if self.munchausen is not None:
            scaled = self.munchausen.widened(scaled, self.gamma, actions_of(action_space)[0])
        return dataclasses.replace(self, distribution=self.distribution.within(scaled))

    def for_policy(self) -> DQN:
        """Return the config without a target network, for a policy, which does not learn."""
        return dataclasses.replace(self, double=False, target_every_updates=None, target_rate=1.0)

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Raise SpaceError for action spaces that are not Discrete and for unsupported observation spaces."""
        actions_of(action_space)
        parts_of(observation_space, channels=self.channels)

    def build(self, observation_space: Any, action_space: Any, seeds: Any = 1, device: str = "cpu") -> DeepAgent:
        """Return the agent: N networks, each with its own initial weights. Raises SpaceError for unsupported spaces."""
        from rl import networks
        from rl.deep.agent import DeepAgent
        from rl.deep.checks import check_learner
        from rl.deep.recurrent import NO_GATES, RecurrentAgent

        check_learner(self)
        outputs = self.head.size(actions_of(action_space)[0])
        in_windows = self.sequence_steps is not None
        if in_windows or networks.reads_sequences(self.network, observation_space, outputs, self.channels):
            return RecurrentAgent(self, observation_space, action_space, seeds, device)
        if self.chrono_steps is not None:
            raise ArgumentError(NO_GATES.format(self.chrono_steps, shown(self.network)))
        return DeepAgent(self, observation_space, action_space, seeds, device)


def check_settings(d: DQN) -> None:
    """Raise a ValueError or TypeError for settings that are out of range or contradict each other."""
    store(d, number, "gamma", "priority_exponent", low=0.0, high=1.0)
    store(d, number, "target_rate", low=0.0, high=1.0, above=True)  # at 0 the target network would never change
    store(d, number, "max_grad_norm", low=1e-12, none=True)
    store(d, integer, "batch_size", "update_every_steps", "updates", "n_step", low=1)
    store(d, integer, "learn_after_steps", low=0)
    store(d, integer, "capacity_steps", "target_every_updates", low=1, none=True)
    store(d, flag, "double", "dueling", "prioritized", "compiled", "normalize_observations")
    store(d, number, "reward_scale", low=1e-12, high=1e12)
    store(d, choice, "loss", known=losses.LOSSES)
    store(d, choice, "optimizer", known=OPTIMIZERS)
    store(d, choice, "channels", known=CHANNELS)
    store(d, setting, "learning_rate", low=0.0, units=("steps",))
    store(d, setting, "importance_exponent", low=0.0, high=1.0, units=("steps",))
    store(d, integer, "sequence_steps", "sequence_every_steps", low=1, none=True)
    store(d, integer, "burn_in_steps", low=0)
    store(d, integer, "chrono_steps", low=3, none=True)
    store(d, number, "priority_mix", low=0.0, high=1.0)
    store(d, flag, "rescale_values")
    made = isinstance(d.distribution, Distribution) and not isinstance(d.distribution, type)
    if d.distribution is not None and not made:
        raise ArgumentError(
            "distribution must be rl.Atoms(...), rl.Quantiles(...), rl.ImplicitQuantiles(...) or None, not"
            f" {shown(d.distribution)}."
        )
    if d.munchausen is not None:
        instance(d.munchausen, "munchausen", Munchausen, "rl.Munchausen(...) or None")
    store(d, number, "noise", low=1e-6, high=100.0, none=True)
    if d.distribution is not None and d.loss != "huber":
        raise ArgumentError(f"loss={d.loss!r} contradicts distribution: each distribution has its own loss.")
    check_policy_settings(d)
    _check_together(d)


def _check_together(d: DQN) -> None:
    if d.double and d.munchausen is not None:
        raise ValueError(
            "double=True contradicts munchausen: its targets are expectations under a soft policy, without a greedy action."
        )
    windows(d.sequence_steps, d.sequence_every_steps, d.burn_in_steps)
    if d.target_every_updates is None:
        if d.double:
            raise ValueError(
                "double=True contradicts target_every_updates=None: without a target network the same network would select and"
                " evaluate the next action."
            )
        if d.target_rate != 1.0:
            raise ValueError(
                f"target_rate={d.target_rate} contradicts target_every_updates=None: there is no target network."
            )
    if d.capacity_steps is None:
        sequences = d.sequence_steps is not None
        for name, wanted in (("prioritized", d.prioritized), ("n_step", d.n_step > 1), ("sequence_steps", sequences)):
            if wanted:
                raise ValueError(f"{name}={getattr(d, name)} contradicts capacity_steps=None: it needs a replay.")
        if d.updates > 1 or d.update_every_steps > 1 or d.learn_after_steps > 0:
            raise ValueError(
                "Without a replay (capacity_steps=None) each step is learned from exactly once: updates and update_every_steps"
                " must be 1 and learn_after_steps 0."
            )
    elif d.batch_size > d.capacity_steps:
        raise ValueError(f"batch_size={d.batch_size} is larger than capacity_steps={d.capacity_steps}.")
    elif d.learn_after_steps > d.capacity_steps:
        raise ValueError(
            f"learn_after_steps={d.learn_after_steps:,} is larger than capacity_steps={d.capacity_steps:,}: the first steps"
            " would be overwritten before learning starts."
        )
    elif d.sequence_steps is not None and d.sequence_steps > d.capacity_steps:
        raise ValueError(f"sequence_steps={d.sequence_steps} is larger than capacity_steps={d.capacity_steps}.")


_EVERY_STEP: dict[str, Any] = {"capacity_steps": None, "batch_size": 1, "learn_after_steps": 0}
_RAINBOW: dict[str, Any] = {
    "distribution": Atoms(),
    "double": True,
    "dueling": True,
    "n_step": 3,
    "prioritized": True,
    "priority_exponent": 0.5,
}
add_presets(
    "networks",  # the steps of the lectures (L 06 to 07_3) and the usual variants
    {
        # L 06, 07_1: a linear network, no replay, no target network. SGD at .1 on the squared error is a tabular step size of .2.
        "q-network": DQN(
            network="linear",
            optimizer="SGD",
            learning_rate=0.1,
            loss="squared",
            max_grad_norm=None,
            target_every_updates=None,
            **_EVERY_STEP,
        ),
        # Mnih et al. (2013), L 07_2: a replay, but no target network. The loss is squared and nothing is clipped: with clipped
        # errors or gradients, the many small errors that raise values would outweigh the few large ones.
        "dqn-2013": DQN(
            loss="squared",
            max_grad_norm=None,
            batch_size=32,
            capacity_steps=50_000,
            update_every_steps=4,
            target_every_updates=None,
        ),
        "dqn-2015": DQN(capacity_steps=50_000),
        "dqn": DQN(),
        "double-dqn": DQN(double=True),
        "dueling-dqn": DQN(dueling=True),
        "prioritized-dqn": DQN(prioritized=True),
        "n-step-dqn": DQN(n_step=3),
        "c51": DQN(distribution=Atoms()),
        "hl-gauss": DQN(distribution=Atoms(deviation=0.75)),
        "qr-dqn": DQN(distribution=Quantiles()),
        "iqn": DQN(distribution=ImplicitQuantiles()),
        "munchausen-dqn": DQN(munchausen=Munchausen()),
        "noisy-dqn": DQN(noise=0.5, explore=Greedy()),
        # Hessel et al. (2018): all six extensions. Without noise, exploration is epsilon-greedy.
        "rainbow": DQN(noise=0.5, explore=Greedy(), **_RAINBOW),
        "rainbow-without-noise": DQN(**_RAINBOW),
    },
)
