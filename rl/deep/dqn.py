"""Deep Q-networks: a network learns what the table learned, from a replay, towards a target network that stands still.

Mnih et al. (2013), "Playing Atari with Deep Reinforcement Learning", and (2015), "Human-level control", equation 1. Options that
combine: double (van Hasselt, Guez and Silver 2016), dueling (Wang et al. 2016), prioritized replay (Schaul et al. 2016),
n-step returns (Sutton and Barto 2018, section 7.1), soft targets (Lillicrap et al. 2016, section 3).

Deviations: Adam instead of RMSProp; the gradient's norm is clipped; of the dueling network's two streams each is one linear
layer on the common trunk; an importance weight is scaled by the largest of the replay, not of the batch, which keeps the
mean unbiased.
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
from rl.deep.replay.windows import windows
from rl.explore import EpsilonGreedy, Explore, Greedy
from supervised.names import OPTIMIZERS
from supervised.schedules import Linear, Schedule, setting
from supervised.validate import ArgumentError, choice, flag, function, instance, integer, number, shown, store

if TYPE_CHECKING:
    from torch import Tensor

    from rl.deep.agent import DeepAgent
    from rl.deep.heads.head import Head


@register
@dataclass(frozen=True)
class DQN:
    """Deep Q-learning. Raises ValueError or TypeError, in a sentence, for settings out of range or in contradiction."""

    gamma: float = 0.99
    """The discount, in [0, 1]."""
    network: network_names.Network = "auto"
    """A name with sizes ("auto", "linear", "mlp(64,64)", "cnn(16,32)", "nature"; recurrent: "gru(64)", "lstm(64)", "rnn(64)",
    "cnn(16)+gru(128)"), or a function (observation_space, outputs) -> nn.Module, whose module is recurrent if it answers
    (outputs, state) to sequences."""
    learning_rate: float | Schedule = 1e-3
    """A number or a schedule in steps."""
    loss: str = "huber"
    """The loss of TD errors: "huber" or "squared"."""
    max_grad_norm: float | None = 10.0
    """A seed's gradient is scaled down to this norm; None: never."""
    optimizer: str = "Adam"
    """One of torch.optim by name that treats numbers one by one."""
    batch_size: int = 64
    """Transitions, or windows, that a seed learns from at each update."""
    capacity_steps: int | None = 100_000
    """Steps that a seed's replay holds; None: there is none, each step is learned from as it comes."""
    learn_after_steps: int = 1_000
    """Steps of a seed before the first update."""
    update_every_steps: int = 1
    """Environment steps of a seed from one round of updates to the next."""
    updates: int = 1
    """Updates in a round."""
    target_every_updates: int | None = 500
    """Updates from one renewal of the target network to the next; None: there is no target network."""
    target_rate: float = 1.0
    """The share of the way that a renewal takes the target network, in (0, 1]; 1: it is copied."""
    double: bool = False
    """Double Q-learning: the online network chooses the next action, the target network values it."""
    dueling: bool = False
    """A stream for the state's value and one for the actions' advantages."""
    n_step: int = 1
    """Rewards that are summed before the target bootstraps."""
    prioritized: bool = False
    """Prioritized replay, by the size of TD errors."""
    priority_exponent: float = 0.6
    """Alpha of prioritized replay, in [0, 1]; 0: uniform."""
    importance_exponent: float | Schedule = field(default_factory=lambda: Linear(0.4, 1.0))
    """Beta of prioritized replay, in [0, 1]: a number or a schedule in steps."""
    explore: Explore = field(default_factory=lambda: EpsilonGreedy(Linear(1.0, 0.05, fraction=0.1)))
    """One of rl.explore's EpsilonGreedy, Greedy, Boltzmann and DecayingNoise; epsilon goes from 1 to 0.05 over a tenth of the
    run."""
    mask: Callable[[Any], Tensor] | None = None
    """A function of observations [..., *O] on the CPU -> bool [..., A], the actions allowed; info["action_mask"] is heeded
    without it."""
    compiled: bool = True
    """Networks of linear layers, ReLUs, GRUs and tanh cells run in compiled code, where numba is at hand and on the CPU; False:
    by torch alone. Both learn the same up to rounding."""
    channels: str = "auto"
    """The axis of an image that holds its channels: "first", "last", or "auto": last where two equal sides stand in front of it,
    first where two equal sides stand behind it, else the shortest."""
    normalize_observations: bool = False
    """The network reads each number of a vector observation as its distance from the mean, in standard deviations, within
    -10..10; mean and variance are those of all that the seed's environments have shown while training, saved in checkpoint and
    policy. Images and one-hot codes stay as they are."""
    reward_scale: float = 1.0
    """The factor of rewards for learning alone: values, TD errors and losses are in scaled units; returns, promised ones too, are
    not."""
    sequence_steps: int | None = None
    """Steps of the windows of an episode that a recurrent network learns from; None: whole episodes. With a number, a network
    without a state learns from windows, too."""
    sequence_every_steps: int | None = None
    """Steps between the beginnings of two windows of an episode; None: half of sequence_steps."""
    burn_in_steps: int = 0
    """Steps of a window that begins within an episode that serve the state alone and carry no loss."""
    priority_mix: float = 0.9
    """If prioritized, the share of a window's largest absolute TD error in its priority; the rest is the mean one's."""
    rescale_values: bool = False
    """The network predicts values rescaled by rl.targets.rescaled."""
    chrono_steps: int | None = None
    """The gates of a GRU or LSTM begin with memories of up to so many steps (`supervised.chrono`); None: as torch's do."""
    distribution: Distribution | None = None
    """rl.Atoms(...), rl.Quantiles(...) or rl.ImplicitQuantiles(...): the network learns how likely each return is; None: the mean
    alone."""
    munchausen: Munchausen | None = None
    """rl.Munchausen(...): rewards and targets are those of a soft policy; None: of the best action."""
    noise: float | None = None
    """Linear layers are noisy, with deviations that begin as this number over sqrt(inputs) (Fortunato et al. 2018, sigma_0, .5
    there); the agent acts and learns with noise, and is judged without; None: none."""

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def head(self) -> Head:
        """What the network's outputs mean, and what is learned from them."""
        from rl.deep.heads.bootstrap import BEST_ACTION
        from rl.deep.heads.scalar import Scalar

        bootstrap = BEST_ACTION if self.munchausen is None else self.munchausen.bootstrap()
        if self.distribution is not None:
            return self.distribution.head(self.dueling, self.rescale_values, bootstrap)
        return Scalar(self.loss, self.dueling, self.rescale_values, bootstrap)

    def for_returns(self, returns: Callable[[float], tuple[float, float] | None], action_space: Any) -> DQN:
        """The same in an environment. returns: the bounds of its returns at a discount, None where they are not known."""
        if self.distribution is None:
            return self
        bounds = returns(self.gamma)
        scaled = None if bounds is None else (bounds[0] * self.reward_scale, bounds[1] * self.reward_scale)
        if self.munchausen is not None:
            scaled = self.munchausen.widened(scaled, self.gamma, actions_of(action_space)[0])
        return dataclasses.replace(self, distribution=self.distribution.within(scaled))

    def for_policy(self) -> DQN:
        """The same without a target network, for a policy, which learns no more."""
        return dataclasses.replace(self, double=False, target_every_updates=None, target_rate=1.0)

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Raise SpaceError for actions that are not Discrete, and for observations that no network reads."""
        actions_of(action_space)
        parts_of(observation_space, channels=self.channels)

    def build(self, observation_space: Any, action_space: Any, seeds: Any = 1, device: str = "cpu") -> DeepAgent:
        """The live agent: N networks, each with first weights of its own. Raises SpaceError for spaces not supported."""
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
    """Raise a ValueError or TypeError, in a sentence, for settings that make no sense or contradict each other."""
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
            "distribution is rl.Atoms(...), rl.Quantiles(...), rl.ImplicitQuantiles(...) or None, not"
            f" {shown(d.distribution)}."
        )
    if d.munchausen is not None:
        instance(d.munchausen, "munchausen", Munchausen, "rl.Munchausen(...) or None")
    store(d, number, "noise", low=1e-6, high=100.0, none=True)
    if d.distribution is not None and d.loss != "huber":
        raise ArgumentError(f"loss={d.loss!r} contradicts distribution: how a distribution is learned is part of it.")
    network_names.check(d.network)
    if not isinstance(d.explore, Explore):
        raise ArgumentError(
            "explore must be one of rl.explore's EpsilonGreedy, Greedy, Boltzmann or DecayingNoise, not"
            f" {shown(d.explore)}."
        )
    if d.mask is not None:
        function(d.mask, "mask", ("observations",), "a function of observations -> bool [..., A], or None")
    _check_together(d)


def _check_together(d: DQN) -> None:
    if d.double and d.munchausen is not None:
        raise ValueError(
            "double=True contradicts munchausen: its targets are means under a soft policy, and no best action is chosen."
        )
    windows(d.sequence_steps, d.sequence_every_steps, d.burn_in_steps)
    if d.target_every_updates is None:
        if d.double:
            raise ValueError(
                "double=True contradicts target_every_updates=None: without a target network the one that chooses is the one"
                " that values, and nothing is double."
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
                "Without a replay (capacity_steps=None) each step is learned from once, as it comes: updates and"
                " update_every_steps must be 1 and learn_after_steps 0."
            )
    elif d.batch_size > d.capacity_steps:
        raise ValueError(f"batch_size={d.batch_size} is larger than capacity_steps={d.capacity_steps}.")
    elif d.learn_after_steps > d.capacity_steps:
        raise ValueError(
            f"learn_after_steps={d.learn_after_steps:,} is larger than capacity_steps={d.capacity_steps:,}: what came first"
            " would be forgotten before anything is learned."
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
    "networks",  # the lectures' ladder (L 06 to 07_3) and the usual variants
    {
        # L 06, 07_1: a linear network, no replay, no target network. SGD at .1 on the squared error is a table's step .2.
        "q-network": DQN(
            network="linear",
            optimizer="SGD",
            learning_rate=0.1,
            loss="squared",
            max_grad_norm=None,
            target_every_updates=None,
            **_EVERY_STEP,
        ),
        # Mnih et al. (2013), L 07_2: a replay, and no target network. The error is squared, and nothing is clipped: clipped
        # errors, or gradients, would let the many small errors that push values up outweigh the few large ones.
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
        # Hessel et al. (2018): all six parts. Without noise it explores by epsilon.
        "rainbow": DQN(noise=0.5, explore=Greedy(), **_RAINBOW),
        "rainbow-without-noise": DQN(**_RAINBOW),
    },
)
