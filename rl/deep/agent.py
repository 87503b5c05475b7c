"""What all Q-networks share: N members in a stack, their target networks, one optimiser.

An algorithm is a description with a function `learn(agent, batch, measured) -> Learned` (see `rl.deep.dqn`); what is
here carries it out: target networks, clipping for each seed by itself, the optimiser's step, state.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from rl import networks
from rl.core.observations import encode, leaves, parts_of
from rl.core.policy import NetworkPolicy
from rl.core.registry import lacking, name_of, optional_setting
from rl.core.spaces import actions_of
from rl.core.types import Batch, Update, check_end, check_mask
from rl.deep.moving import on_host, together
from rl.deep.normalize import RunningMoments
from supervised import Stack, determinism, optimizer
from supervised.device import choose, exact_floats
from supervised.schedules import Curve, Schedule, as_schedule, value_at
from supervised.stack import clip_per_seed
from supervised.stack.compiled_mlp import CompiledAdam
from supervised.stack.guard import Guard, LeftOut
from supervised.stack.optimizers import load_state_by_seed, state_by_seed
from supervised.validate import ArgumentError, explained, flag, integer, kind_of, seeds_of

STATISTICS = "observations/"  # what the names of running statistics begin with among a policy's weights
ONE_THREAD_BELOW = (
    1_000_000  # weights: on the CPU smaller networks lose by torch's threads, most of all beside other processes
)
MOODY = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.BatchNorm1d, nn.BatchNorm2d)  # that act otherwise when judged


NUMBERS = (("action", torch.int64), ("reward", torch.float32), ("discount", torch.float32), ("weight", torch.float32))
SENT = ("action", "reward", "discount", "next_mask", "weight")  # with the observations, to the device


class NotFinite(FloatingPointError):
    """A number that learning needs is NaN or infinite. `batch` is what was learned from."""

    def __init__(self, message: str, batch: Batch) -> None:
        super().__init__(message)
        self.batch = batch

    def __reduce__(self) -> Any:
        return NotFinite, (str(self), self.batch)


class Origin(NamedTuple):
    """What a step is taken from."""

    batch: Batch  # as it was sampled
    norm: Tensor  # of each seed's gradient, [N]
    td_error: Tensor  # [N, B]


class Learned(NamedTuple):
    """What an algorithm makes of a batch."""

    pull_back: Callable[[Tensor], None]  # of `Stack.vjp`
    slope: Tensor  # the gradient of each seed's mean loss by the network's outputs
    td_error: Tensor  # [N, B]
    metrics: dict[str, Tensor]  # each [N]; empty unless measured
    priority: Tensor | None = None  # [N, B], see `Update`


class DeepDescription(Protocol):
    """What every Q-network's description has; to be trained by `rl.train`, also the settings in REPLAYED."""

    @property
    def gamma(self) -> float: ...
    @property
    def network(self) -> networks.Network: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def learning_rate(self) -> float | Schedule: ...
    @property
    def max_grad_norm(self) -> float | None: ...
    @property
    def target_every_updates(self) -> int | None: ...
    @property
    def target_rate(self) -> float: ...
    @property
    def compiled(self) -> bool: ...
    @property
    def mask(self) -> Callable[[Any], Tensor] | None: ...
    @property
    def learn(self) -> Callable[[DeepAgent, Batch, bool], Learned]: ...
    def outputs(self, actions: int) -> int:
        """How many numbers the network puts out."""
        ...

    def head(self, network: nn.Module) -> nn.Module:
        """The network with what the algorithm puts behind it."""
        ...


REPLAYED = (
    *("explore", "capacity_steps", "batch_size", "learn_after_steps", "update_every_steps", "updates"),
    *("n_step", "prioritised", "priority_exponent", "importance_exponent"),
)


def check_learner(description: Any, needed: Iterable[str] = REPLAYED) -> None:
    """Raise ArgumentError, naming them, where a description lacks settings that learning from a replay needs."""
    missing = lacking(description, needed)
    if missing:
        raise ArgumentError(
            f"{name_of(description)} lacks {', '.join(missing)}: the description of an agent with a network has them as"
            " rl.DQN does, which it may be a subclass of."
        )


class DeepAgent:
    """N Q-networks that learn at once. `online` and `target` are `supervised.Stack`s; target is None without one."""

    def __init__(
        self, description: DeepDescription, observation_space: Any, action_space: Any, seeds: Any, device: str = "cpu"
    ) -> None:
        check_learner(description, [name for name in vars(DeepDescription) if not name.startswith("_")])
        self.description, self.seeds = description, seeds_of(seeds)
        self.observation_space = observation_space
        channels = optional_setting(description, "channels", "auto")
        self.parts = parts_of(observation_space, channels=channels)
        self.actions, self.first_action = actions_of(action_space)
        # Small networks beside environments on the CPU are fastest there.
        pictures = any(part.kind == "image" for part in self.parts)
        self.device = choose("cpu" if isinstance(device, str) and device == "auto" and not pictures else device)
        self.reward_scale = float(optional_setting(description, "reward_scale", 1.0))
        normalized = optional_setting(description, "normalize_observations", False)
        self.moments = RunningMoments(self.parts, len(self.seeds), self.device) if normalized else None

        def make() -> nn.Module:
            outputs = description.outputs(self.actions)
            return description.head(networks.make(description.network, observation_space, outputs, channels))

        self.online = Stack(make, self.seeds, self.device, description.compiled)
        self.target: Stack | None = None
        self._check_outputs()
        if description.target_every_updates is not None:
            self.target = Stack(make, self.seeds, self.device, description.compiled, "target")
            self._check_apart(self.target)
            self.target.load_state_dict(self.online.state_dict())
        self.rate = as_schedule(description.learning_rate)
        self.optimizer = optimizer(self.online, description.optimizer, self.rate.bounds()[1])
        self.adam = (
            CompiledAdam(self.online.memory, self.optimizer)
            if self.online.compiled and description.optimizer == "Adam"
            else None
        )
        weights = sum(weight[0].numel() for weight in self.online.weights.values())
        small = self.device.type == "cpu" and not pictures and weights < ONE_THREAD_BELOW
        self.threads: Callable[[], contextlib.AbstractContextManager[None]] = (
            functools.partial(determinism.threads, 1) if small else functools.partial(exact_floats, self.device)
        )
        self.guard = Guard.of(self.optimizer, self.device)
        self.updates = 0
        self.moody = any(isinstance(part, MOODY) for part in self.online.modules[0].modules())

    def _check_outputs(self) -> None:
        example = {part.name: part.example(len(self.seeds), 2) for part in self.parts}
        try:
            with self.online.eval_mode():
                values = self.online(encode(self.parts, example, self.device))
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"The network cannot read observations of {self.observation_space}: {said}") from error
        if not isinstance(values, Tensor):
            raise ValueError(
                f"The network must answer a tensor of values [B, {self.actions}], not a {type(values).__name__}: a recurrent"
                " network, which answers a state too, has no place here."
            )
        shape = list(values.shape)
        if shape[:2] != [len(self.seeds), 2] or shape[2:] != [self.actions]:
            raise ValueError(
                f"The network must map observations [B, ...] to values [B, {self.actions}], one for each action; of a batch of"
                f" 2 it makes {shape[1:]}."
            )

    def _check_apart(self, target: Stack) -> None:
        mine = {id(parameter) for module in self.online.modules for parameter in module.parameters()}
        if any(id(parameter) in mine for module in target.modules for parameter in module.parameters()):
            raise ValueError(
                "The network function returned parameters that it had returned before; online and target network need"
                " their own: make a new module at each call."
            )

    def encode(self, obs: Any) -> Any:
        """Observations [N, B, *O] as the networks take them, on the device; normalized where the description says so."""
        x = encode(self.parts, obs, self.device)
        return x if self.moments is None else self.moments.normalize(x)

    def observe(self, obs: Any) -> None:
        """Count observations [N, B, *O] for `normalize_observations=True`; without it nothing happens.

        `rl.train` counts each observation that is acted on. A loop of one's own calls this once a step, before `q`. Neither
        `q` nor `update` changes the statistics.
        """
        if self.moments is not None:
            self.moments.observe(obs)

    @explained("observations [N, B, *O]")
    def q(self, obs: Any) -> Tensor:
        """Observations [N, B, *O] as the environment gives them -> values [N, B, A], no gradient, times `reward_scale`."""
        with self.threads():
            return self.values(self.online, self.encode(obs))

    @property
    def table(self) -> np.ndarray:
        """The values of all states of a Discrete observation space, float64 [N, S, A], in units of the environment's rewards.

        Raises ValueError for other spaces.
        """
        space = self.observation_space
        if not isinstance(space, gym.spaces.Discrete):
            raise ValueError(f"Only Discrete observations make a table; these are {space}.")
        states = torch.arange(int(space.start), int(space.start + space.n)).expand(len(self.seeds), -1)
        found: np.ndarray = self.q(states).cpu().double().numpy()
        return found if self.reward_scale == 1.0 else found / self.reward_scale

    loop = "replay"  # see `rl.run.run.LOOPS`

    def state_values(self) -> np.ndarray | None:
        """`table`, or None for observations that are not Discrete."""
        return self.table if isinstance(self.observation_space, gym.spaces.Discrete) else None

    def state_visits(self) -> None:
        """Nothing: nobody counts."""

    def plane(self, k: int, points: int) -> None:
        """Nothing: observations need not be bounded."""

    def graph(self) -> tuple[nn.Module, Any]:
        """The first seed's network and an observation [1, *O] as it takes them, on the CPU."""
        example = self.encode({part.name: part.example(1, 1) for part in self.parts})
        one = {name: part[0].cpu() for name, part in example.items()} if isinstance(example, dict) else example[0].cpu()
        return self.online.modules[0], one

    def summary(self) -> dict[str, str]:
        """How large a network is, and how it is computed."""
        size = sum(parameter.numel() for parameter in self.online.modules[0].parameters())
        computed = "by compiled code" if self.online.compiled else f"by torch, on {self.device}"
        return {"parameters": f"{size:,} a seed", "computed": computed}

    def why_no_model(self) -> str | None:
        """That of a mask function; None without one."""
        if self.description.mask is None:
            return None
        return "which actions the agent's mask allows is not part of the environment's model"

    def final_epsilon(self, horizon_steps: int) -> float | None:
        """0: the values are the greedy policy's."""
        return 0.0

    def policy(self, k: int, spaces: tuple[Any, Any], settings: Mapping[str, Any]) -> NetworkPolicy:
        """The policy of the k-th seed."""
        return NetworkPolicy(self.description, self.weights_of(k), *spaces, **settings)

    def values(self, stack: Stack, x: Any) -> Tensor:
        """What a stack says of encoded observations, no gradient, dropout and batch-norm as when judged."""
        with stack.eval_mode() if self.moody else torch.no_grad():
            values: Tensor = stack(x)
        return values

    def next_values(self, x: Any) -> Tensor:
        """The value of what comes next by the target network, or by the online one where there is none."""
        return self.values(self.target or self.online, x)

    @explained("observations and a mask bool [N, B, A] or None")
    def allowed(self, obs: Any, mask: Tensor | None) -> Tensor | None:
        """The mask [N, B, A] that came with observations, and what the description's function says of them; None: all.

        The function sees observations on the CPU, wherever they are.
        """
        if self.description.mask is None:
            return mask
        found = self.description.mask(on_host(obs))
        if not isinstance(found, Tensor) or found.dtype != torch.bool or found.shape[-1] != self.actions:
            what = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise ArgumentError(
                f"mask must return a bool tensor [..., {self.actions}], one for each action, not {what}."
            )
        return found if mask is None else found.to(mask.device) & mask

    def update(self, batch: Batch, measured: bool = True) -> Update:
        """One step of the optimiser from a batch [N, B, ...] -> metrics each [N] (none unless measured), TD errors [N, B].

        Raises ValueError for a batch of other shapes or actions, and NotFinite where a gradient is NaN or infinite; either way
        the networks are as they were. On CUDA such an update and those after it change nothing, and NotFinite is raised by the
        next that is measured, by `look` or by `state_dict`.
        """
        measured = flag(measured, "measured")
        with self.threads():
            return self._update(batch, measured)

    def _update(self, batch: Batch, measured: bool) -> Update:
        given = batch = _checked(batch, len(self.seeds), self.actions)
        if self.description.mask is not None and batch.next_obs is not None:
            batch = batch._replace(next_mask=self.allowed(batch.next_obs, batch.next_mask))
        if self.device.type != "cpu":
            check_actions(batch.action, self.actions)
            batch = on_device(batch, self.device)
        learned = self.description.learn(self, batch, measured)
        learned.pull_back(learned.slope)
        clip = float("inf") if self.description.max_grad_norm is None else self.description.max_grad_norm
        metrics = learned.metrics
        if self.adam is not None:
            norm, good = self.adam.step(clip)
            left_out = None if good else LeftOut(Origin(given, norm, learned.td_error), 0)
        else:
            norm = clip_per_seed(self.online, clip)
            left_out = self.guard.step(norm, Origin(given, norm, learned.td_error))
        self._heed(left_out)
        self.updates += 1
        self._renew_target()
        if measured:
            self.look()
            metrics = metrics | {"train/gradient_norm": norm}
        return Update(metrics, learned.td_error, learned.priority)

    def look(self) -> None:
        """Raise NotFinite if an update since the last look was left out. On the CPU `update` itself has told of it."""
        self._heed(self.guard.look())

    def _heed(self, left_out: LeftOut | None) -> None:
        if left_out is not None:
            self.updates -= left_out.unseen
            raise self._not_finite(left_out.origin, left_out.unseen - 1)

    @explained("the curve of a schedule and a step")
    def set_learning_rate(self, curve: Curve, step: int) -> None:
        """Put the learning rate to what a schedule says at an environment step."""
        rate = value_at(curve, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _renew_target(self) -> None:
        every, rate = self.description.target_every_updates, self.description.target_rate
        if self.target is None or every is None or self.updates % every:
            return
        with torch.no_grad():
            self.guard.follow(self.target.flat, self.online.flat, rate)
            for mine, theirs in zip(self.target.modules, self.online.modules, strict=True):
                for buffer, other in zip(mine.buffers(), theirs.buffers(), strict=True):
                    self.guard.follow(buffer, other, 1.0)

    def _not_finite(self, origin: Origin, later: int) -> NotFinite:
        """What names the seed and the first tensor that is not finite. later: how many updates after it were left out too."""
        batch, norm, td_error = origin
        k = int((~torch.isfinite(norm)).nonzero()[0])
        named = {f"observation {n}".strip(): part for n, part in leaves(batch.obs).items()}
        if batch.next_obs is not None:
            named |= {f"next observation {n}".strip(): part for n, part in leaves(batch.next_obs).items()}
        named = {"reward": batch.reward, "discount": batch.discount, **named}
        named |= {f"weight {name}": weight.detach() for name, weight in self.online.weights.items()}
        named |= {"TD error (so the loss)": td_error}
        found = [name for name, t in named.items() if t.is_floating_point() and not torch.isfinite(t[k]).all()]
        what = f"the {found[0]}, and so the gradient," if found else "the gradient"
        left_out = f" The {later} update{'s' * (later > 1)} after it changed nothing." if later > 0 else ""
        return NotFinite(
            f"Seed {self.seeds[k]}: {what} of update {self.updates + 1:,} is NaN or infinite. The networks are as they were"
            f" before it.{left_out}",
            batch,
        )

    @explained("k, the place of one of its seeds")
    def weights_of(self, k: int) -> dict[str, np.ndarray]:
        """The k-th seed's weights, for a policy, and its running statistics of observations, where there are any."""
        k = integer(k, "k", 0, len(self.seeds) - 1)
        weights = {name: value[k].cpu().numpy() for name, value in self.online.state_dict().items()}
        if self.moments is not None:
            weights |= {STATISTICS + name: np.asarray(array[k]) for name, array in self.moments.state_dict().items()}
        return weights

    @explained("the weights of one seed by name")
    def take_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Give all seeds the weights of one. Raises RuntimeError for those of another network, ValueError for statistics of
        other observations."""
        stacked = {name: np.stack([np.array(value)] * len(self.seeds)) for name, value in weights.items()}
        if self.moments is not None:
            names = [name for name in stacked if name.startswith(STATISTICS)]
            self.moments.load_state_dict({name.removeprefix(STATISTICS): stacked.pop(name) for name in names})
        self.online.load_state_dict(_tensors(stacked))
        self.guard.forget()

    def state_dict(self) -> dict[str, Any]:
        """Weights, target weights, the optimizer's memory, every stream and running statistics, arrays [N, ...].

        Raises NotFinite as `look` does.
        """
        self.look()
        if self.adam is not None:
            self.adam.close()
        saved: dict[str, Any] = {
            "online": _numpy(self.online.state_dict()),
            "optimizer": state_by_seed(self.online, self.optimizer),
            "updates": np.full(len(self.seeds), self.updates),
            "streams": self.online.random_state().numpy(),
        }
        if self.target is not None:
            saved["target"] = _numpy(self.target.state_dict())
        if self.moments is not None:
            saved["observations"] = self.moments.state_dict()
        return saved

    @explained("the state that state_dict returned")
    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave. Raises ValueError for another network, or for NaN or infinite weights."""
        names = ("online", "target") if self.target is not None else ("online",)
        for name in names:
            for key, value in saved[name].items():
                if not np.isfinite(value).all():
                    raise ValueError(f"The saved {key} of the {name} network has values that are NaN or infinite.")
        if self.moments is not None:
            self.moments.load_state_dict(saved["observations"])
        self.online.load_state_dict(_tensors(saved["online"]))
        if self.target is not None:
            self.target.load_state_dict(_tensors(saved["target"]))
        if self.adam is not None:
            self.adam.close()
        load_state_by_seed(self.online, self.optimizer, saved["optimizer"])
        self.guard.forget()
        self.updates = int(saved["updates"][0])
        self.online.load_random_state(torch.from_numpy(saved["streams"]))


@explained("an rl.Batch whose action, reward, discount, next_mask, weight and index are tensors", "DeepAgent.update")
def _checked(batch: Batch, n: int, actions: int) -> Batch:
    """The batch with its numbers as float32 and int64. Raises ValueError unless its parts are [N, B] of one B from 1 on.

    Compiled code would read past their ends.
    """
    shape = batch.reward.shape
    sound = len(shape) == 2 and shape[0] == n and shape[1] > 0
    if batch.next_mask is not None:
        check_mask(batch.next_mask, (*shape, actions))
    for name, wanted in NUMBERS:
        part = getattr(batch, name)
        if (part is None and name == "weight") or (sound and part.shape == shape and part.dtype == wanted):
            continue
        alike = part.dtype == wanted or (
            part.is_floating_point() == wanted.is_floating_point and part.dtype != torch.bool
        )
        if part.shape != shape or not alike or not sound:
            raise ValueError(
                f"A batch's {name} is {str(wanted).removeprefix('torch.')} [{n} seeds, B], as all its parts are, not"
                f" {str(part.dtype).removeprefix('torch.')} {list(part.shape)}."
            )
        if part.dtype != wanted:
            batch = batch._replace(**{name: part.to(wanted)})
    check_end(batch)
    for name in ("obs", "next_obs") if batch.next_obs is not None else ("obs",):
        for leaf in leaves(getattr(batch, name)).values():
            if not isinstance(leaf, Tensor) or leaf.shape[:2] != shape:
                raise ArgumentError(
                    f"A batch's {name} begins with [seeds, B] = {list(shape)}, as its rewards, not {kind_of(leaf)}."
                )
    return batch


def check_actions(action: Tensor, actions: int) -> None:
    """Raise ValueError for actions that do not exist; on a GPU they would end every later call."""
    numbers = action.cpu().numpy()
    if numbers.min() < 0 or numbers.max() >= actions:
        raise no_such_action(actions)


def no_such_action(actions: int) -> ValueError:
    return ValueError(f"Actions are whole numbers from 0 to {actions - 1}; the batch has others.")


def on_device(batch: Batch, device: torch.device) -> Batch:
    """A batch on the device, by one copy, but for its index, which is of the replay."""
    plain = {name: part for name in SENT if (part := getattr(batch, name)) is not None}
    several = {name: leaves(obs) for name in ("obs", "next_obs") if (obs := getattr(batch, name)) is not None}
    inner = {f"{name}/{key}": leaf for name, found in several.items() for key, leaf in found.items()}
    moved = together({**plain, **inner}, device)
    parts: dict[str, Any] = {name: {key: moved[f"{name}/{key}"] for key in found} for name, found in several.items()}
    return batch._replace(
        **{name: moved[name] for name in plain}, **{name: found.get("", found) for name, found in parts.items()}
    )


def _numpy(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
