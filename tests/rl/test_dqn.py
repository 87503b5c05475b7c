"""Q-networks: what they learn against exact solutions, each option and each pair; settings that contradict each other."""

import itertools
import random

import gymnasium as gym
import numpy as np
import pytest
import torch
from daily import daily
from torch import nn

import envs
import rl
from envs.diagnostic import exact_q
from rl.deep.heads.head import Head
from rl.deep.heads.scalar import Scalar
from rl.explore import Boltzmann, EpsilonGreedy
from supervised import MLP, Recipe, Streams, fit
from supervised.schedules import Linear

BASE = {
    "network": "mlp(32)",
    "learning_rate": Linear(5e-3, 0.0),
    "loss": "squared",
    "batch_size": 32,
    "learn_after_steps": 50,
    "target_every_updates": 20,
    "gamma": 0.9,
    "explore": EpsilonGreedy(0.5),
}


def allow_all(obs):
    return torch.ones(*obs.shape, 2, dtype=torch.bool)


OPTIONS = {
    "double": {"double": True},
    "dueling": {"dueling": True},
    "n_step": {"n_step": 3},
    "prioritized": {"prioritized": True},
    "soft": {"target_every_updates": 1, "target_rate": 0.05},
    "no target": {"target_every_updates": None},
    "huber": {"loss": "huber"},
    "Boltzmann": {"explore": Boltzmann(1.0)},
    "several updates": {"updates": 2, "update_every_steps": 2},
    "linear": {"network": "linear", "learning_rate": Linear(2e-2, 0.0)},
    "torch alone": {"compiled": False},
    "c51": {"distribution": rl.Atoms(-20.0, 12.0, 65), "loss": "huber"},
    "hl-gauss": {"distribution": rl.Atoms(-20.0, 12.0, 65, 0.75), "loss": "huber"},
    "quantiles": {"distribution": rl.Quantiles(5), "loss": "huber"},
    "implicit quantiles": {"distribution": rl.ImplicitQuantiles(8, 8, 8, 8), "loss": "huber"},
    "munchausen": {"munchausen": rl.Munchausen(temperature=0.2)},
    "noise": {"noise": 0.1},
    "rescaled": {"rescale_values": True},
    "masked": {"mask": allow_all},
}
LOSSES = ("huber", "c51", "hl-gauss", "quantiles", "implicit quantiles")
CONTRADICTIONS = (
    *({"double", "no target"}, {"soft", "no target"}, {"double", "munchausen"}),
    *(set(pair) for pair in itertools.combinations(LOSSES, 2)),
)


def possible(row):
    return not any(pair <= set(row) for pair in CONTRADICTIONS)


def settings_of(pair, row):
    """Which of two options are on in a row of options."""
    return tuple((option, option in row) for option in pair)


def wanted():
    """Every pair of options in its four settings: both on, one, the other, none."""
    return {
        settings_of(pair, row)
        for pair in itertools.combinations(OPTIONS, 2)
        for row in ((), pair[:1], pair[1:], pair)
        if possible(row)
    }


def covering(seed=0):
    """A covering array of strength 2: few rows of options which together hold all that is `wanted`."""
    rng, left, rows = random.Random(seed), wanted(), []
    while left:
        drawn = [[option for option in OPTIONS if rng.random() < 0.5] for _ in range(300)]
        found = [
            ({settings_of(p, row) for p in itertools.combinations(OPTIONS, 2)}, row) for row in filter(possible, drawn)
        ]
        covered, row = max(found, key=lambda one: len(one[0] & left))
        left -= covered
        rows.append(row)
    return rows


ROWS = covering()
# Where the fixed point of n-step returns is Q* whatever is tried: one action only, or one step only.
SETTLED = ("Delay", "Choice", "Endless")


def learned(name, agent, steps=1200, seeds=3):
    return rl.train(f"envs:envs/{name}-v0", agent, steps=steps, seeds=seeds, progress=False).agent.table


def assert_exact(name, table, gamma=0.9, allowed=0.01):
    np.testing.assert_allclose(table, np.broadcast_to(exact_q(name, gamma), table.shape), atol=allowed)


def delay_and_choice():
    """Delay in states 0 and 1, Choice in 2 and 3: one run for both."""
    delay = [(1.0, 1, 0.0, False)], [(1.0, 1, 1.0, True)]
    P = {s: dict.fromkeys((0, 1), delay[s]) for s in (0, 1)}
    P |= {2 + s: {a: [(1.0, 2 + s, 1.0 if a == s else -1.0, True)] for a in (0, 1)} for s in (0, 1)}
    return envs.TableEnv(P, [0.5, 0.0, 0.25, 0.25])


def fixed_point(env, gamma, munchausen=None, n_step=1, rounds=300):
    """Q [S, A] at which the operator of Q-learning, or of Munchausen, changes nothing, by iteration in plain numpy.

    n_step: with actions drawn uniformly after the first.
    """
    q = np.zeros((len(env.P), len(env.P[0])))
    for _ in range(rounds):
        if munchausen is None:
            value, bonus = q.max(1), np.zeros_like(q)
        else:
            tau = munchausen.temperature
            policy = np.exp((q - q.max(1, keepdims=True)) / tau)
            policy /= policy.sum(1, keepdims=True)
            value = (policy * (q - tau * np.log(policy))).sum(1)
            bonus = munchausen.alpha * np.clip(tau * np.log(policy), munchausen.low, 0)
        for _ in range(n_step):
            found = [
                [sum(p * (r + gamma * (not over) * value[t]) for p, t, r, over in env.P[s][a]) for a in env.P[s]]
                for s in env.P
            ]
            value = np.mean(found, 1)
        q = bonus + found
    return q


def test_the_rows_hold_every_pair_of_options():
    held = {settings_of(pair, row) for row in ROWS for pair in itertools.combinations(OPTIONS, 2)}
    assert held == wanted()
    assert len(ROWS) <= 24


def enough():
    """Two rows in which most of the options are on once."""
    left, found = set(OPTIONS), []
    for _ in range(2):
        found.append(max(ROWS, key=lambda row: len(left & set(row))))
        left -= set(found[-1])
    return found


@pytest.mark.parametrize("row", daily(ROWS, enough()), ids=" & ".join)
def test_every_pair_of_options_finds_the_fixed_point(row):
    agent = rl.DQN(**BASE | {name: value for option in row for name, value in OPTIONS[option].items()})
    run = rl.train(delay_and_choice, agent, steps=1800, seeds=3, progress=False)
    exact = fixed_point(delay_and_choice(), 0.9, agent.munchausen, agent.n_step)
    # Distributions come near more slowly: after 5 400 steps the largest error is a third of that after 1 800.
    allowed = 0.01 if agent.distribution is None else 0.12
    np.testing.assert_allclose(run.agent.table, np.broadcast_to(exact, run.agent.table.shape), atol=allowed)


@pytest.mark.full
@pytest.mark.parametrize(
    "pair", [pair for pair in itertools.combinations(OPTIONS, 2) if possible(pair)], ids=" & ".join
)
def test_every_pair_of_options_by_itself_finds_the_fixed_point(pair):
    test_every_pair_of_options_finds_the_fixed_point(pair)


@pytest.mark.parametrize("option", daily([o for o in OPTIONS if o != "masked"], ("double", "prioritized")))
def test_every_option_alone_bootstraps_through_truncations(option):
    settings = {**BASE, "gamma": 0.7, **OPTIONS[option]}
    allowed = 0.12 if "distribution" in settings else 0.01  # distributions come near more slowly
    assert_exact("Endless", learned("Endless", rl.DQN(**settings), 1200), 0.7, allowed)


PRESETS = ["dqn-2013", "dqn-2015", "dqn", "double-dqn", "dueling-dqn", "prioritized-dqn"]


@pytest.mark.parametrize("name", daily(PRESETS, ("prioritized-dqn",)))
def test_every_preset_finds_the_fixed_point(name):
    import dataclasses

    agent = dataclasses.replace(
        rl.presets()[name], gamma=0.9, explore=EpsilonGreedy(0.5), learning_rate=Linear(5e-3, 0.0), learn_after_steps=50
    )
    if agent.target_every_updates is not None:
        agent = dataclasses.replace(agent, target_every_updates=20)
    agent = dataclasses.replace(agent, update_every_steps=1)
    for where, steps in (("Chain", 3000), ("Delay", 1200)):
        assert_exact(where, learned(where, agent, steps))


def test_the_n_step_preset_finds_the_fixed_point():
    import dataclasses

    agent = dataclasses.replace(
        rl.presets()["n-step-dqn"],
        gamma=0.9,
        learning_rate=Linear(5e-3, 0.0),
        learn_after_steps=50,
        target_every_updates=20,
    )
    for where in ("Delay", "Choice"):
        assert_exact(where, learned(where, agent))


def test_the_q_network_does_what_the_table_does():
    """SGD at .1 on the squared error moves a one-hot linear network as step size .2 moves a table; the draws are the same."""
    explore = EpsilonGreedy(Linear(1.0, 0.1))
    network = rl.presets()["q-network"]
    import dataclasses

    network = dataclasses.replace(network, explore=explore, gamma=0.9)
    table = rl.QLearning(gamma=0.9, step_size=0.2, explore=explore)
    for env, steps in (("FrozenLake-v1", 4000), ("envs:envs/Chain-v0", 2000)):
        one, two = (rl.train(env, agent, steps=steps, seeds=[0, 5], progress=False) for agent in (network, table))
        np.testing.assert_allclose(one.agent.table, two.agent.table, atol=1e-5)
        assert one.episodes()["rollout/ep_len_mean"].tolist() == two.episodes()["rollout/ep_len_mean"].tolist()


def test_targets_and_gradient_by_hand():
    """One update of a linear network with SGD: Q(s, a) += 2 * rate * (r + discount * max Q' - Q) / batch."""
    space = gym.spaces.Discrete(3)
    settings = {
        "network": "linear",
        "optimizer": "SGD",
        "learning_rate": 0.25,
        "max_grad_norm": None,
        "loss": "squared",
    }
    agent = rl.DQN(**settings, target_every_updates=1000).build(space, gym.spaces.Discrete(2), seeds=1)
    weight = agent.online.weights["head.weight"]
    with torch.no_grad():
        weight.copy_(torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]))
        agent.target.weights["head.weight"].copy_(torch.tensor([[[10.0, 20.0, 99.0], [0.0, 30.0, 99.0]]]))
    batch = rl.Batch(
        obs=torch.tensor([[0, 1]]),
        action=torch.tensor([[1, 0]]),
        reward=torch.tensor([[1.0, -1.0]]),
        discount=torch.tensor([[0.5, 0.0]]),
        next_obs=torch.tensor([[1, 2]]),  # the second has ended: its 99s are not read
    )
    update = agent.update(batch)
    assert update.td_error.tolist() == [[1 + 0.5 * 30 - 4, -1 - 2]]
    assert update.metrics["train/loss"].tolist() == [(12**2 + 3**2) / 2]
    assert weight.tolist() == [[[1.0, 2 - 0.25 * 3, 3.0], [4 + 0.25 * 12, 5.0, 6.0]]]
    masked = batch._replace(next_mask=torch.tensor([[[True, False], [True, True]]]))
    agent.load_state_dict({**agent.state_dict()})
    assert agent.update(masked).td_error[0, 0].item() == 1 + 0.5 * 20 - 7
    double = rl.DQN(**settings, double=True).build(space, gym.spaces.Discrete(2), seeds=1)
    with torch.no_grad():
        double.online.weights["head.weight"].copy_(torch.tensor([[[1.0, 9.0, 3.0], [4.0, 5.0, 6.0]]]))
        double.target.weights["head.weight"].copy_(torch.tensor([[[10.0, 20.0, 99.0], [0.0, 30.0, 99.0]]]))
    assert double.update(batch).td_error[0, 0].item() == 1 + 0.5 * 20 - 4  # Q chooses action 0, the target values it


@pytest.mark.parametrize("rate", [1.0, 0.25])
def test_the_target_network_follows(rate):
    agent = rl.DQN(target_every_updates=3, target_rate=rate, network="mlp(8)").build(
        gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2), seeds=2
    )
    batch = random_batch(2)
    for update in range(1, 7):
        before = agent.target.flat.clone()
        agent.update(batch)
        if update % 3:
            assert torch.equal(agent.target.flat, before)
        else:
            torch.testing.assert_close(agent.target.flat, before + rate * (agent.online.flat - before))


def random_batch(n, size=16, inputs=2, actions=2):
    generator = torch.Generator().manual_seed(3)
    obs, next_obs = torch.randn(2, n, size, inputs, generator=generator)
    action = torch.randint(actions, (n, size), generator=generator)
    discount = 0.9 * (torch.rand(n, size, generator=generator) < 0.8).float()
    return rl.Batch(obs, action, torch.randn(n, size, generator=generator), discount, next_obs)


def layer_norm(space, outputs):
    """A network whose normalizations the compiled code takes in."""
    return MLP(space.shape[0], outputs, (16, 16), norm="layer", loss="huber")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"double": True, "dueling": True},
        {"loss": "squared", "max_grad_norm": 0.1},
        {"optimizer": "RAdam"},
        {"optimizer": "RAdam", "network": layer_norm, "max_grad_norm": 0.1},
    ],
)
def test_compiled_and_torch_learn_the_same(settings):
    """To rounding: 1e-5 of each update."""
    spaces = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
    one, two = (rl.DQN(**settings, compiled=c).build(*spaces, seeds=3) for c in (True, False))
    assert one.online.compiled
    assert not two.online.compiled
    assert one.learner.adam is not None
    batch = random_batch(3)
    for _ in range(20):
        before = two.online.flat.clone()
        mine, theirs = one.update(batch), two.update(batch)
        torch.testing.assert_close(mine.td_error, theirs.td_error, rtol=1e-4, atol=1e-5)
        moved = (two.online.flat - before).abs().max()
        assert (one.online.flat - two.online.flat).abs().max() < 1e-2 * moved
        for name, value in theirs.metrics.items():
            torch.testing.assert_close(mine.metrics[name], value, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            one.online.flat.copy_(two.online.flat)
            one.target.flat.copy_(two.target.flat)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    "settings",
    [{}, {"double": True, "dueling": True}, {"max_grad_norm": 0.01, "target_rate": 0.1}, {"optimizer": "RAdam"}],
)
@pytest.mark.parametrize("network", ["auto", "mlp(7,33,5)", "linear", "mlp(1)", layer_norm])
def test_alone_is_stacked(settings, network, compiled):
    spaces = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(3)
    config = rl.DQN(**settings, network=network, compiled=compiled, target_every_updates=2)
    seeds = [4, 0, 9, 2, 7, 1, 3, 8]
    batch = random_batch(len(seeds), actions=3)
    many = config.build(*spaces, seeds=seeds)
    updates = [many.update(batch) for _ in range(5)]
    for k in (0, 3, 7):
        alone = config.build(*spaces, seeds=[seeds[k]])
        part = rl.Batch(*(None if x is None else x[k : k + 1] for x in batch))
        for update in updates:
            own = alone.update(part)
            assert torch.equal(own.td_error[0], update.td_error[k])
            assert all(torch.equal(own.metrics[name][0], value[k]) for name, value in update.metrics.items())
        for mine, theirs in ((alone.online, many.online), (alone.target, many.target)):
            assert all(torch.equal(w[0], theirs.weights[name][k]) for name, w in mine.weights.items())


@pytest.mark.parametrize("poison", ["reward", "obs", "weight"])
def test_nan_is_told_and_changes_nothing(poison):
    for compiled in (True, False):
        agent = rl.DQN(compiled=compiled).build(gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2), seeds=[3, 6])
        batch = random_batch(2)
        agent.update(batch)
        batch = batch._replace(weight=torch.ones(2, 16))
        getattr(batch, poison)[1, 5] = torch.nan
        before = agent.online.flat.clone()
        with pytest.raises(FloatingPointError, match=r"Seed 6: the .*of update 2 is NaN or infinite") as caught:
            agent.update(batch)
        assert torch.equal(agent.online.flat, before)
        assert caught.value.batch is batch
        assert {"reward": "reward", "obs": "observation", "weight": "TD error|gradient|importance"}[poison].split("|")[
            0
        ] in str(caught.value) or poison == "weight"


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_an_infinite_error_is_told_though_its_slope_is_clipped(masked, value):
    agent = rl.DQN().build(gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2), seeds=[3, 6])
    batch = random_batch(2)
    if masked:
        batch = batch._replace(next_mask=torch.ones(2, 16, 2, dtype=torch.bool))
    batch.reward[0, 4] = value
    with pytest.raises(FloatingPointError, match="Seed 3: the reward, and so the gradient, of update 1"):
        agent.update(batch)


@pytest.mark.parametrize("compiled", [True, False])
def test_batches_that_do_not_fit_are_told(compiled):
    agent = rl.DQN(compiled=compiled).build(gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2), seeds=2)
    good = random_batch(2)
    for wrong, said in (
        ({"action": good.action + 5}, "Actions must be whole numbers from 0 to 1|index"),
        ({"action": good.action - 1}, "Actions must be whole numbers from 0 to 1|index"),
        ({"action": good.action.float()}, "action must be int64"),
        ({"action": good.action[:, :3]}, "action must be int64"),
        ({"reward": good.reward.long()}, "reward must be float32"),
        ({"weight": torch.ones(2, 3)}, "weight must be float32"),
        ({"next_obs": good.next_obs[:, :3]}, "next_obs must have the leading axes"),
        ({"obs": good.obs[:1]}, "obs must have the leading axes"),
        ({"obs": good.obs[..., :1]}, "takes 2 inputs|shape|size"),
    ):
        with pytest.raises((ValueError, RuntimeError), match=said):
            agent.update(good._replace(**wrong))
    with pytest.raises(ValueError, match="seeds, B"):
        agent.update(rl.Batch(*(None if part is None else part[:, :0] for part in good)))
    agent.update(good._replace(reward=good.reward.double(), action=good.action.int()))


@pytest.mark.parametrize("compiled", [True, False])
def test_values_of_whatever_holds_observations(compiled):
    agent = rl.DQN(network="mlp(8)", compiled=compiled).build(gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2), 2)
    x = np.random.default_rng(0).random((2, 3, 2), np.float32)
    usual = agent.q(x)
    for same in (torch.from_numpy(x), torch.from_numpy(x).requires_grad_(), x.tolist(), np.asfortranarray(x), {"": x}):
        assert torch.equal(agent.q(same), usual)
        assert torch.equal(agent.act(same).q, usual)
    for n in (1, 3):
        with pytest.raises(ValueError, match="has 2 members"):
            agent.q(np.zeros((n, 3, 2), np.float32))


@pytest.mark.parametrize("compiled", [True, False])
def test_what_a_head_gives_is_checked(compiled):
    class Altered(Head):
        alter = torch.Tensor.clone

        def loss(self, outputs, batch, measured):
            found = Scalar().loss(outputs, batch, measured)
            return found._replace(gradient=self.alter(found.gradient), td_error=found.td_error.requires_grad_())

    class Own(rl.DQN):
        head = Altered()

    agent = Own(network="mlp(8)", compiled=compiled).build(gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2), 2)
    for alter in (torch.Tensor.double, lambda gradient: gradient[:, :3], lambda gradient: None):
        agent.head.alter = alter
        with pytest.raises(ValueError, match=r"gradient must match the outputs, float32 \[2, 16, 2\], not"):
            agent.update(random_batch(2))
    agent.head.alter = torch.Tensor.requires_grad_
    agent.update(random_batch(2))
    assert agent.updates == 1


def test_masked_actions_are_never_taken_nor_believed():
    class Trap(gym.Env):
        """Action 0 is never allowed in state 1 and would pay 100."""

        def __init__(self):
            self.observation_space, self.action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)

        def _info(self):
            return {"action_mask": np.array([self.s == 0, True])}

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.s = 0
            return 0, self._info()

        def step(self, action):
            assert self._info()["action_mask"][action]
            reward, over = float(self.s), self.s == 1
            self.s = 1
            return 1, reward, over, False, self._info()

    agent = rl.DQN(**{**BASE, "explore": EpsilonGreedy(1.0)}, double=True)
    run = rl.train(Trap, agent, steps=1200, seeds=2, progress=False)
    np.testing.assert_allclose(run.agent.table[:, 0], 0.9, atol=0.01)
    np.testing.assert_allclose(run.agent.table[:, 1, 1], 1.0, atol=0.01)
    with torch.no_grad():
        run.agent.online.weights["head.bias"][:, 0] += 100
    assert run.evaluate(3).mean == 1.0  # the mask holds in evaluation
    assert run.policy().predict(1, action_masks=[False, True])[0] == 1

    def allowed(obs):
        return torch.stack([obs == 0, torch.ones_like(obs, dtype=torch.bool)], -1)

    class Silent(Trap):
        def reset(self, **settings):
            return super().reset(**settings)[0], {}

        def step(self, action):
            return *super().step(action)[:4], {}

    told = rl.train(
        Silent, rl.DQN(**{**BASE, "explore": EpsilonGreedy(1.0)}, mask=allowed), steps=600, seeds=2, progress=False
    )
    np.testing.assert_allclose(told.agent.table[:, 0], 0.9, atol=0.02)
    policy = told.policy()
    assert policy.predict(np.array([1, 1]))[0].tolist() == [1, 1]

    def nothing(obs):
        return torch.zeros(*obs.shape, 2, dtype=torch.bool)

    with pytest.raises(ValueError, match="allows no action"):
        rl.train(Silent, rl.DQN(mask=nothing), steps=10, progress=False)
    for wrong in (lambda obs: torch.tensor([True, True]), lambda obs: torch.ones(2, 1, 2), lambda obs: [True, True]):
        with pytest.raises(ValueError, match=r"mask must return a bool tensor \[..., 2\].*: \[2, 1, 2\] for"):
            rl.train(Silent, rl.DQN(mask=wrong), steps=10, seeds=2, progress=False)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"double": True, "target_every_updates": None}, "double=True contradicts target_every_updates=None"),
        ({"target_rate": 0.5, "target_every_updates": None}, "there is no target network"),
        ({"capacity_steps": None, "prioritized": True, "learn_after_steps": 0}, "needs a replay"),
        ({"capacity_steps": None, "n_step": 3, "learn_after_steps": 0}, "needs a replay"),
        ({"capacity_steps": None, "learn_after_steps": 5}, "Without a replay"),
        ({"batch_size": 64, "capacity_steps": 10}, "batch_size=64 is larger than capacity_steps=10"),
        ({"capacity_steps": 100}, "would be overwritten"),
        ({"gamma": 1.5}, r"gamma must lie in \[0, 1\], not 1.5"),
        ({"gamma": float("nan")}, "gamma must lie"),
        ({"target_rate": 0}, r"target_rate must lie in \(0, 1\]"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"n_step": True}, "n_step must be a whole number"),
        ({"loss": "hubert"}, "huber"),
        ({"optimizer": "adam"}, "Adam"),
        ({"network": "mpl"}, "mlp"),
        ({"network": "mlp(0)"}, "is not a name with layer sizes"),
        ({"network": "linear(3)"}, "is not a name with layer sizes"),
        ({"learning_rate": -1.0}, "learning_rate must lie"),
        ({"max_grad_norm": 0}, "max_grad_norm must be a number of at least 1e-12"),
    ],
)
def test_contradictions_and_nonsense_are_told(settings, said):
    with pytest.raises(ValueError, match=said):
        rl.DQN(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"double": 1}, "double must be True or False"),
        ({"explore": 0.1}, "explore must be"),
        ({"network": 5}, "network must be a name"),
        ({"mask": 3}, "mask must be a function"),
    ],
)
def test_wrong_types_are_told(settings, said):
    with pytest.raises(TypeError, match=said):
        rl.DQN(**settings)


def test_networks_that_do_not_fit_are_told():
    spaces = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(3)
    for network, said in (
        (lambda space, outputs: nn.Linear(2, outputs + 1), r"values \[B, 3\].*it returns \[2, 4\]"),
        (lambda space, outputs: nn.Linear(5, outputs), "cannot read observations"),
        ("cnn", "reads images"),
    ):
        with pytest.raises(ValueError, match=said):
            rl.DQN(network=network).build(*spaces)
    with pytest.raises(TypeError, match=r"must return a torch.nn.Module, not int"):
        rl.DQN(network=lambda space, outputs: 3).build(*spaces)
    with pytest.raises(ValueError, match="Discrete actions"):
        rl.DQN().build(gym.spaces.Box(-1, 1, (2,)), gym.spaces.Box(-1, 1, (2,)))
    with pytest.raises(ValueError, match="networks do not support"):
        rl.DQN().build(gym.spaces.Text(5), gym.spaces.Discrete(2))


def test_a_fitted_trunk_starts_a_q_network_and_goes_back():
    digits = torch.rand(60, 4), torch.randint(3, (60,))
    fitted = fit(lambda: MLP(4, 3, (16,)), digits, Recipe(epochs=1, batch_size=20), seeds=1).stack.member(0)
    agent = rl.DQN(network=rl.networks.on_trunk(fitted.trunk)).build(
        gym.spaces.Box(0, 1, (4,)), gym.spaces.Discrete(2), seeds=2
    )
    own = agent.online.member(1).trunk
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), fitted.trunk.parameters(), strict=True))
    agent.update(random_batch(2, inputs=4))
    fitted.trunk.load_state_dict(own.state_dict())
    fit(fitted, digits, Recipe(epochs=1, batch_size=20))  # the Q-network's trunk goes on as a classifier's
    own.load_state_dict(fitted.trunk.state_dict())
    assert torch.equal(agent.online.weights["trunk.linear1.weight"][1], fitted.trunk.linear1.weight)


def test_a_loop_of_ones_own():
    def my_net(space, outputs):
        return MLP(space.shape[0], outputs, (16,))

    world = envs.make("CartPole-v1", seeds=[0, 1], envs_per_seed=4)
    agent = rl.DQN(double=True, network=my_net).build(
        world.observation_space, world.action_space, seeds=world.seeds, device="cpu"
    )
    replay, streams = rl.Replay(world, capacity_steps=100_000, n_step=3, gamma=0.99), Streams(world.seeds)
    obs = world.reset()
    for t in range(100):
        action = rl.explore.epsilon_greedy(agent.q(obs), epsilon=0.1, streams=streams)  # [N, E]
        step = world.step(action)
        replay.add(obs, action, step)
        obs = step.obs
        if t > 20:
            update = agent.update(replay.sample(64, streams))
    assert update.td_error.shape == (2, 64)
    assert {value.shape for value in update.metrics.values()} == {(2,)}
    assert agent.q(obs).shape == (2, 4, 2)


@pytest.mark.parametrize("options", [{}, {"double": True, "dueling": True}, {"compiled": False}, {"mask": "all"}])
def test_without_next_observations_rewards_are_the_targets(options):
    """The same bits as with next observations that count for nothing, and those are not read."""
    if "mask" in options:
        options = {"mask": lambda obs: torch.ones(*obs.shape[:-1], 2, dtype=torch.bool)}
    space, generator = gym.spaces.Box(-1, 1, (4,), np.float32), torch.Generator().manual_seed(0)
    obs, next_obs = (torch.rand(2, 16, 4, generator=generator) for _ in range(2))
    action, reward = torch.randint(2, (2, 16), generator=generator), torch.randn(2, 16, generator=generator)
    batch = rl.Batch(obs, action, reward, torch.zeros(2, 16), next_obs)
    agents = [rl.DQN(network="mlp(8)", **options).build(space, gym.spaces.Discrete(2), 2) for _ in range(2)]
    for _ in range(3):
        agents[0].update(batch)
        agents[1].update(batch._replace(next_obs=None))
    assert torch.equal(agents[0].online.flat, agents[1].online.flat)
    with pytest.raises(ValueError, match="without next_obs must have discount 0"):
        agents[1].update(batch._replace(next_obs=None, discount=torch.full((2, 16), 0.9)))


def test_a_table_learns_without_next_observations():
    table = rl.QLearning(step_size=0.5).build(gym.spaces.Discrete(3), gym.spaces.Discrete(2), 1)
    states, action = torch.tensor([[0, 2]]), torch.tensor([[1, 0]])
    batch = rl.Batch(states, action, torch.tensor([[1.0, -2.0]]), torch.zeros(1, 2), None)
    table.update(batch)
    assert table.table[0].tolist() == [[0, 0.5], [0, 0], [-1, 0]]
    with pytest.raises(ValueError, match="without next_obs must have discount 0"):
        table.update(batch._replace(discount=torch.ones(1, 2)))


def test_a_replay_goes_by_the_priority_that_an_update_gives():
    """One's own is taken where there is one, the TD error elsewhere."""

    class Sevens(Head):
        def loss(self, outputs, batch, measured):
            return Scalar().loss(outputs, batch, measured)._replace(priority=torch.full_like(batch.reward, 7.0))

    class Own(rl.DQN):
        head = Sevens()

    settings = {
        "network": "mlp(8)",
        "prioritized": True,
        "priority_exponent": 1.0,
        "learn_after_steps": 50,
        "batch_size": 32,
    }
    for kind, same in ((Own, True), (rl.DQN, False)):
        run = rl.start("CartPole-v1", kind(capacity_steps=100, **settings), 1, steps=1_000)
        run.advance(400)
        found = run.loop.replay.priorities()
        assert (len(set(np.round(found, 3).tolist())) <= 2) == same  # 7, and the priority of what was not yet sampled
