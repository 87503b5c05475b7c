"""Q-networks that remember: what they learn against autograd, where their state begins, and what goes into it."""

from __future__ import annotations

import dataclasses
import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch
from daily import daily
from torch import nn

import envs
import rl
import supervised
from rl import networks, targets
from rl.deep import sequence_learner
from rl.run import processes
from rl.settings import steps_for
from supervised import Streams

pytestmark = pytest.mark.filterwarnings("ignore:Episodes of")

SMALL = {"learn_after_steps": 40, "batch_size": 6, "capacity_steps": 300, "target_every_updates": 3}
R2D2 = {
    **{"double": True, "dueling": True, "n_step": 3, "prioritized": True, "rescale_values": True},
    **{"sequence_steps": 12, "sequence_every_steps": 5, "burn_in_steps": 4},
}


def described(network="gru(8)", **settings):
    return rl.DQN(network=network, **{**SMALL, **settings})


def weights(run, k=0):
    return [weight[k].clone() for weight in run.agent.online.weights.values()]


def alike(a, b):
    return len(a) == len(b) and all(map(torch.equal, a, b))


OPTIONS = (
    {},
    {"double": True},
    {"n_step": 3},
    {"prioritized": True},
    {"dueling": True, "n_step": 2},
    {"optimizer": "SGD"},
)


@pytest.mark.parametrize("options", OPTIONS)
def test_windows_of_one_step_and_a_network_without_a_state_are_dqn_to_the_bit(options):
    plain = described("mlp(8)", compiled=False, **options)
    runs = [
        rl.start("CartPole-v1", d, [3, 5], envs_per_seed=2)
        for d in (plain, dataclasses.replace(plain, sequence_steps=1))
    ]
    for run in runs:
        run.advance(200)
    assert runs[0].agent.updates == runs[1].agent.updates > 50
    assert type(runs[1].agent.learner) is sequence_learner.SequenceLearner
    for k in range(2):
        assert alike(*(weights(run, k) for run in runs))


class Masked(gym.Env):
    """A walk of random length that ends by termination or by its limit, with masks and three actions."""

    observation_space = gym.spaces.Box(-1, 1, (3,))
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.answer()[0], {"action_mask": self.mask()}

    def mask(self):
        mask = np.ones(3, np.int8)
        mask[self.t % 3] = 0
        return mask

    def answer(self):
        return (self.np_random.uniform(-1, 1, 3).astype(np.float32),)

    def step(self, action):
        self.t += 1
        ends = self.np_random.random() < 0.07
        reward = float(self.np_random.normal() + action)
        return *self.answer(), reward, ends, self.t >= 17 and not ends, {"action_mask": self.mask()}


def reference(agent, batch, k, config):
    """The gradient of member k's mean loss: each window by itself, unpadded, by autograd, from its state on."""
    online, target = agent.online.modules[k], agent.target.modules[k]
    online.zero_grad(set_to_none=True)
    costs, priorities = [], []
    for b in range(batch.reward.shape[1]):
        length, burn_in = int(batch.length[k, b]), int(batch.burn_in[k, b])
        seen = int(batch.bootstrap[k, b, :length].max()) + 1
        x = batch.obs[k, b, :seen][None]
        parts = tuple(part[k, b][:, None] for part in batch.state.values())
        state = parts if len(parts) > 1 else parts[0]

        def read(network, x=x, state=state, burn_in=burn_in):
            if not burn_in:
                return network(x, state)[0][0]
            with torch.no_grad():
                first, middle = network(x[:, :burn_in], state)
            return torch.cat([first, network(x[:, burn_in:], middle)[0]], 1)[0]

        y = read(online)
        with torch.no_grad():
            theirs = read(target)
        at = batch.bootstrap[k, b, burn_in:length]
        plain = targets.unscaled if config.rescale_values else lambda q: q
        mask = None if batch.next_mask is None else batch.next_mask[k, b, burn_in:length]
        choice = y.detach() if config.double else theirs
        wanted = targets.double_q(
            *(part[k, b, burn_in:length] for part in (batch.reward * config.reward_scale, batch.discount)),
            plain(theirs)[at],
            choice[at],
            mask,
        )
        wanted = targets.rescaled(wanted) if config.rescale_values else wanted
        error = wanted - y[burn_in:length].gather(-1, batch.action[k, b, burn_in:length, None])[:, 0]
        cost, _ = rl.losses.LOSSES[config.loss]
        scale = 1.0 if batch.weight is None else batch.weight[k, b]
        costs.append(cost(error) * scale)
        size = error.detach().abs()
        priorities.append(float(0.9 * size.max() + 0.1 * size.mean()))
    torch.cat(costs).mean().backward()
    return {name: weight.grad for name, weight in online.named_parameters()}, priorities


@pytest.mark.parametrize(
    "network", daily(["gru(8)", "lstm(8)", "rnn(8,8)", "mlp(6)+gru(8)"], ["lstm(8)", "mlp(6)+gru(8)"])
)
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    "options", [{}, R2D2, {**R2D2, "n_step": 1, "burn_in_steps": 0, "loss": "squared", "reward_scale": 0.5}]
)
def test_the_gradient_is_autograds_over_each_window_by_itself(network, compiled, options):
    config = described(network, compiled=compiled, max_grad_norm=None, **options)
    run = rl.start(Masked, config, [3, 5], envs_per_seed=2)
    run.advance(150)
    batch = run.loop.replay.sample(6, Streams([3, 5], "replay"), 0.4)
    assert batch.next_mask is not None
    assert not options or (batch.burn_in > 0).any() or not options["burn_in_steps"]
    copied = rl.start(Masked, config, [3, 5], envs_per_seed=2)
    copied.agent.load_state_dict(run.agent.state_dict())
    update = run.agent.update(batch)
    for k in range(2):
        wanted, priorities = reference(copied.agent, batch, k, config)
        for name, gradient in run.agent.online.gradients.items():
            torch.testing.assert_close(gradient[k], wanted[name], rtol=1e-4, atol=2e-6)
        np.testing.assert_allclose(update.priority[k], priorities, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("network", ["gru(8)", "lstm(8)"])
def test_what_is_padded_is_never_read(network):
    """99s, and numbers that would be an error, behind each window's steps and observations."""
    config = described(network, **R2D2)
    runs = [rl.start(Masked, config, [3, 5]) for _ in range(2)]
    for run in runs:
        run.advance(150)
    batch = runs[0].loop.replay.sample(6, Streams([3, 5], "replay"), 0.4)
    w, t = (torch.arange(batch.obs.shape[2]), torch.arange(batch.reward.shape[2]))
    last = batch.bootstrap.amax(2)
    no_step, unseen = t >= batch.length[..., None], w > last[..., None]
    assert no_step.any()
    assert unseen.any()
    filled = batch._replace(
        obs=batch.obs.masked_fill(unseen[..., None], 99.0),
        reward=batch.reward.masked_fill(no_step, torch.nan),
        discount=batch.discount.masked_fill(no_step, 99.0),
        action=batch.action.masked_fill(no_step, 2),
        next_mask=batch.next_mask & ~no_step[..., None],
    )
    updates = [run.agent.update(b) for run, b in zip(runs, (batch, filled), strict=True)]
    assert alike(weights(runs[0], 1), weights(runs[1], 1))
    assert torch.equal(updates[0].priority, updates[1].priority)
    assert torch.equal(updates[0].td_error[no_step], torch.zeros(int(no_step.sum())))
    for name, value in updates[0].metrics.items():
        assert torch.equal(value, updates[1].metrics[name]), name


def test_the_stored_state_is_that_of_acting_and_unrolling_from_it_goes_on_as_acting_did():
    config = described(
        "gru(8)", sequence_steps=8, sequence_every_steps=4, explore=rl.explore.Greedy(), learn_after_steps=300
    )
    run = rl.start(Masked, config, [3, 5], envs_per_seed=2)
    answered = {}  # by what was seen
    decide = run.agent.decide

    def noting(obs, state):
        decision = decide(obs, state)
        for k, e in itertools.product(range(2), range(2)):
            answered[obs[k, e].tobytes()] = decision.q[k, e].copy(), np.asarray(state["h"])[k, e].copy()
        return decision

    run.agent.decide = noting
    run.advance(200)
    batch = run.loop.replay.draw(40, Streams([3, 5], "replay"), 1.0)
    assert (batch.state["h"] != 0).any()
    inner = torch.from_numpy(np.ascontiguousarray(batch.state["h"].swapaxes(1, 2)))
    y, _ = run.agent.online.unroll(torch.from_numpy(np.ascontiguousarray(batch.obs)), inner)
    for k, b in itertools.product(range(2), range(40)):
        assert np.array_equal(batch.state["h"][k, b], answered[batch.obs[k, b, 0].tobytes()][1])
        for t in range(batch.length[k, b]):
            np.testing.assert_allclose(y[k, b, t], answered[batch.obs[k, b, t].tobytes()][0], atol=1e-5)


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("gru(8)", {}),
        ("gru(8)", R2D2),
        ("lstm(8)", R2D2),
        ("mlp(6)+gru(8)", {**R2D2, "compiled": False}),
        ("rnn(8)", {}),
    ],
)
def test_a_seed_alone_is_that_seed_in_a_stack_to_the_bit(network, options):
    runs = [rl.start(Masked, described(network, **options), seeds, envs_per_seed=2) for seeds in ([1, 3, 5], [5])]
    for run in runs:
        run.advance(160)
    assert runs[0].agent.updates > 30
    assert alike(weights(runs[0], 2), weights(runs[1], 0))
    assert np.array_equal(runs[0].evaluate(3).returns[2], runs[1].evaluate(3).returns[0])


def dropped_out(space, outputs):
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, outputs))


@pytest.mark.parametrize("network", ["mlp(8)", dropped_out])
def test_a_network_without_a_state_does_not_see_how_long_the_windows_of_other_seeds_are(network):
    config = described(network, compiled=False, sequence_steps=15, batch_size=2)
    runs = [rl.start(Masked, config, seeds) for seeds in ([1, 3, 5], [5])]
    for run in runs:
        run.advance(160)
    assert runs[0].agent.updates > 30
    assert alike(weights(runs[0], 2), weights(runs[1], 0))


@pytest.mark.parametrize("options", [{}, R2D2])
def test_a_run_goes_on_from_a_checkpoint_within_an_episode_to_the_bit(options, tmp_path):
    whole = rl.start(Masked, described("gru(8)", **options), [3, 5], envs_per_seed=2)
    whole.advance(130)
    whole.save(tmp_path / "run.safetensors")
    resumed = rl.load(tmp_path / "run.safetensors", env=Masked)
    for run in (whole, resumed):
        run.advance(130)
    for k in range(2):
        assert alike(weights(whole, k), weights(resumed, k))
    assert whole.agent.updates == resumed.agent.updates


def test_presets_are_dqn_with_a_memory():
    presets = rl.presets()
    assert {"drqn", "r2d2"} <= presets.keys()
    assert presets["drqn"].sequence_steps is None
    assert (presets["r2d2"].sequence_steps, presets["r2d2"].sequence_every_steps) == (80, 40)
    for name in ("drqn", "r2d2"):
        assert rl.presets("CartPole-v1")[name] == presets[name]


def test_the_best_agent_where_velocities_are_hidden_is_recurrent_and_others_stay_as_they_come():
    plain, tuned = rl.presets(), rl.presets("envs/CartPole-NoVelocity-v1")
    assert [name for name in plain if plain[name] != tuned[name]] == ["best"]
    assert steps_for("envs/CartPole-NoVelocity-v1") == 200_000
    run = rl.start("envs/CartPole-NoVelocity-v1", tuned["best"], 2)
    assert run.agent.recurrent
    run.advance(1_100)
    assert run.agent.updates > 0


class Own(nn.Module):
    """A recurrent network of the user's own: two states of different shapes."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.cell, self.head = nn.GRU(inputs, 6, batch_first=True), nn.Linear(9, outputs)

    def forward(self, x, state=None):
        h, mean = (None, x.new_zeros(1, len(x), inputs_of(x))) if state is None else state
        found = []
        for t in range(x.shape[1]):
            mean = 0.9 * mean + 0.1 * x[None, :, t]
            found.append(mean[0])
        features, h = self.cell(x, h)
        return self.head(torch.cat([features, torch.stack(found, 1)], -1)), (h, mean)


def inputs_of(x):
    return x.shape[-1]


def test_a_recurrent_module_of_ones_own_learns_and_comes_back(tmp_path):
    def network(space, outputs):
        return Own(space.shape[0], outputs)

    run = rl.start(Masked, described(network, **R2D2), [3, 5])
    run.advance(120)
    assert run.agent.recurrent
    assert {name: part.shape for name, part in run.loop.actor.state.items()} == {"h": (2, 1, 1, 6), "c": (2, 1, 1, 3)}
    run.save(tmp_path / "run.safetensors")
    resumed = rl.load(tmp_path / "run.safetensors", env=Masked, network=network)
    for each in (run, resumed):
        each.advance(60)
    assert alike(weights(run, 1), weights(resumed, 1))


class Pieces(gym.Env):
    """A picture and a number."""

    observation_space = gym.spaces.Dict(
        {"picture": gym.spaces.Box(0, 255, (12, 12, 1), np.uint8), "number": gym.spaces.Discrete(4)}
    )
    action_space = gym.spaces.Discrete(2)

    def seen(self):
        return {"picture": self.np_random.integers(0, 255, (12, 12, 1), np.uint8), "number": self.np_random.integers(4)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.seen(), {}

    def step(self, action):
        self.t += 1
        return self.seen(), 1.0, False, self.t == 9, {}


class Picture(Pieces):
    observation_space = gym.spaces.Box(0, 255, (12, 12, 1), np.uint8)

    def seen(self):
        return super().seen()["picture"]


@pytest.mark.parametrize(("env", "network"), [(Pieces, "gru(8)"), (Picture, "cnn(4)+lstm(8)"), (Picture, "gru(8)")])
def test_pictures_and_parts_are_read_step_by_step(env, network):
    options = {"capacity_steps": 60, "learn_after_steps": 20, "batch_size": 3, "sequence_steps": 6, "burn_in_steps": 2}
    runs = [rl.start(env, described(network, **options), seeds, device="cpu") for seeds in ([1, 5], [5])]
    for run in runs:
        run.advance(40)
    assert alike(weights(runs[0], 1), weights(runs[1], 0))
    assert runs[0].evaluate(2).returns.tolist() == [[9.0, 9.0]] * 2


def test_a_fitted_sequence_model_starts_an_agent_and_a_trained_agent_is_read_out():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 5, 4)).astype(np.float32), rng.normal(size=(64, 5, 2)).astype(np.float32)
    fit = supervised.fit(
        lambda: supervised.RNN(4, 2, 8, cell="gru", loss="mse"),
        (x, y),
        seeds=[0],
        recipe=supervised.Recipe(epochs=1),
        progress=False,
    )
    fitted = fit.stack.member(0)
    run = rl.start("CartPole-v1", described(networks.on_trunk(fitted.trunk)), [7])
    member = run.agent.online.member(7)
    assert alike(list(member.trunk.parameters()), list(fitted.trunk.parameters()))
    run.advance(100)
    trained = supervised.RNN(4, 3, 8, cell="gru", loss="mse")
    trained.trunk.load_state_dict(run.agent.online.take(7).trunk.state_dict())
    features, _ = trained.trunk(torch.zeros(1, 2, 4))
    assert torch.equal(features, member.trunk(torch.zeros(1, 2, 4))[0])
    assert not alike(list(trained.trunk.parameters()), list(fitted.trunk.parameters()))


def test_chrono_is_a_setting():
    run = rl.start("CartPole-v1", described("gru(8)", chrono_steps=50), [0, 1])
    bias = run.agent.online.member(0).trunk.cell.bias_ih_l0[8:16]
    assert ((bias > 0) & (bias < np.log(49))).all()
    assert not torch.equal(bias, run.agent.online.member(1).trunk.cell.bias_ih_l0[8:16])
    with pytest.raises(ValueError, match="gates"):
        rl.start("CartPole-v1", described("rnn(8)", chrono_steps=50))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"network": "gru(8)+mlp(8)"}, "a plus must join a feedforward network and a recurrent cell"),
        ({"network": "linear+gru(8)"}, "the linear network has no hidden layer"),
        ({"network": "gru(8,9)"}, r"must have the same width, as in gru\(8,8\)"),
        ({"network": "gru(0)"}, "is not a name with layer sizes"),
        ({"network": "mlp(8)+grU"}, "no name|network"),
        ({"sequence_steps": 10, "burn_in_steps": 8}, "some steps are never learned from"),
        ({"burn_in_steps": 8}, "a window is a whole episode"),
        ({"sequence_steps": 2_000, "capacity_steps": 1_500}, "sequence_steps=2000 is larger than capacity_steps=1500"),
        ({"priority_mix": 1.5}, "priority_mix"),
        ({"chrono_steps": 2}, "chrono_steps must be a whole number of at least 3"),
        ({"sequence_steps": 10, "capacity_steps": None, "learn_after_steps": 0, "batch_size": 1}, "needs a replay"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        rl.DQN(**settings)


def test_settings_of_memory_are_refused_where_the_network_has_none():
    for settings in ({"chrono_steps": 20}, {"sequence_steps": 4, "chrono_steps": 5}):
        with pytest.raises(ValueError, match="chrono_steps"):
            rl.start("CartPole-v1", rl.DQN(network="mlp(8)", **settings))


def test_an_agent_whose_actions_depend_on_what_it_remembers_has_no_table():
    run = rl.start("FrozenLake-v1", described("gru(8)"), 2)
    assert run.exact is None
    assert run.agent.state_values() is None
    assert run.evaluate(3).returns.shape == (2, 3)


def test_a_damaged_batch_is_refused_in_a_sentence():
    run = rl.start(Masked, described("gru(8)", **R2D2), [3])
    run.advance(100)
    batch = run.loop.replay.sample(4, Streams([3], "replay"))
    before = weights(run)
    for changed, said in (
        ({"length": batch.length + 50}, "length in 1"),
        ({"bootstrap": batch.bootstrap + 50}, "bootstrap must be indices of observations"),
        ({"burn_in": batch.length}, "burn_in"),
        ({"action": batch.action + 7}, "Actions must be whole numbers"),
        ({"reward": batch.reward[0]}, "reward must be"),
        ({"obs": batch.obs[:, :2]}, "obs must have the leading axes"),
        ({"discount": batch.discount.long()}, "discount must be"),
    ):
        with pytest.raises(ValueError, match=said):
            run.agent.update(batch._replace(**changed))
    with pytest.raises((TypeError, ValueError), match="SequenceBatch"):
        run.agent.update(rl.Batch(*([None] * 5)))
    assert alike(before, weights(run))


def test_rescaled_values_and_back():
    x = torch.tensor([-1e6, -3.0, -1e-3, 0.0, 1e-6, 0.5, 40.0, 1e5], dtype=torch.float64)
    hand = x.sign() * ((x.abs() + 1).sqrt() - 1) + 1e-3 * x
    torch.testing.assert_close(targets.rescaled(x), hand)
    torch.testing.assert_close(targets.unscaled(targets.rescaled(x)), x, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(targets.unscaled(targets.rescaled(x.float())), x.float(), rtol=1e-5, atol=1e-9)
    published = x.sign() * ((((1 + 4e-3 * (x.abs() + 1 + 1e-3)).sqrt() - 1) / 2e-3) ** 2 - 1)
    torch.testing.assert_close(targets.unscaled(x), published, rtol=1e-6, atol=1e-6)


def test_priorities_mix_the_largest_and_the_mean_error_of_a_window():
    found = sequence_learner.mixed_priority(np.array([1.0, -3.0, 2.0], np.float32), np.array([0, 0, 2]), 3, 0.9)
    assert found.tolist() == pytest.approx([0.9 * 3 + 0.1 * 2, 0.0, 2.0])


def test_padding_is_measured_by_each_seeds_own_longest_window():
    batch = rl.SequenceBatch(*[None] * 5, torch.tensor([[2, 4], [8, 8]]), None)
    assert sequence_learner.padding(batch).tolist() == [0.25, 0.0]


def test_stable_baselines_evaluates_the_policy():
    """As `stable_baselines3.common.evaluation.evaluate_policy` calls a recurrent policy, over episodes that end within."""
    run = rl.start("envs/MemoryChain-v0", described("gru(8)"), [0], env_kwargs={"length": 6})
    run.advance(100)
    policy = run.policy()
    world = gym.make_vec("envs/MemoryChain-v0", num_envs=3, length=6)
    obs, _ = world.reset(seed=1)
    state, start = None, np.ones(3, bool)
    by_hand = [None] * 3
    for _ in range(30):
        action, state = policy.predict(obs, state=state, episode_start=start, deterministic=True)
        for e in range(3):
            one, by_hand[e] = policy.predict(obs[e], by_hand[e], bool(start[e]))
            assert one == action[e]
        obs, _, terminated, truncated, _ = world.step(action)
        start = terminated | truncated


def test_worlds_of_envs_are_registered():
    assert envs is not None
    assert gym.spec("envs/MemoryChain-v0") is not None


class Late(gym.Env):
    """One episode of 5 steps, then one without an end; every observation is another."""

    observation_space = gym.spaces.Box(0, 1e6, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self):
        self.episodes = self.seen = 0

    def answer(self):
        self.seen += 1
        return np.array([self.seen], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episodes, self.t = self.episodes + 1, 0
        return self.answer(), {}

    def step(self, action):
        self.t += 1
        return self.answer(), 1.0, self.episodes == 1 and self.t == 5, False, {}


@pytest.mark.parametrize("prioritized", [False, True])
def test_nothing_is_learned_once_the_last_window_is_overwritten(prioritized):
    """The entries of the short episode are those of the endless one from step 30 on."""
    settings = {"learn_after_steps": 3, "batch_size": 4, "capacity_steps": 30}
    run = rl.start(Late, described("gru(4)", prioritized=prioritized, **settings), 1)
    run.advance(200)
    assert len(run.loop.replay) == 0
    assert run.agent.updates == 27


@pytest.mark.filterwarnings("default:Episodes of")
def test_an_endless_episode_that_nothing_is_learned_from_is_said():
    run = rl.start(Late, described("gru(4)", learn_after_steps=3, batch_size=4, capacity_steps=30), 1)
    with pytest.warns(
        RuntimeWarning,
        match="Episodes of 195 steps do not fit into the replay, which holds whole episodes of at most 32",
    ):
        run.advance(200)


def test_the_replay_of_some_seeds_of_a_stack_comes_back():
    """As processes that share the seeds out do it: seeds whose episodes are longer have entered less."""
    config = described("gru(8)", **R2D2)
    seeds = [1, 2, 3, 4]
    run = rl.start(Masked, config, seeds)
    run.advance(150)
    saved = run.loop.replay.state_dict()
    slots = saved["newest"].reshape(-1) // R2D2["sequence_every_steps"]
    assert slots.min() < slots.max()
    shards = [processes.split(saved, k, k + 1, 4) for k in range(4)]
    for k, shard in enumerate(shards):
        one = rl.start(Masked, config, [seeds[k]]).loop.replay
        one.load_state_dict(shard)
        again = one.state_dict()
        held = again["memory"]["h"].shape[2]
        assert np.array_equal(again["memory"]["h"], shard["memory"]["h"][:, :, :held])
        shards[k] = again
    whole = rl.start(Masked, config, seeds).loop.replay
    whole.load_state_dict(processes.merge(shards))
    assert np.array_equal(whole.state_dict()["memory"]["h"], saved["memory"]["h"])


def test_a_state_that_is_none_is_refused_in_a_sentence():
    run = rl.start("CartPole-v1", described("lstm(8)", **R2D2), [3])
    run.advance(100)
    policy, obs = run.policy(), np.zeros((2, 4), np.float32)
    _, state = policy.predict(obs)
    batch = run.loop.replay.sample(4, Streams([3], "replay"))
    before = weights(run)
    for wrong in (
        (state["h"], state["c"]),
        "h",
        {"h": state["h"]},
        {name: part[:, :1] for name, part in state.items()},
        {name: part[..., :3] for name, part in state.items()},
        {name: part.tolist() for name, part in state.items()},
    ):
        for given in (policy.predict, policy.q):
            with pytest.raises(
                ValueError, match=r"state must be a dict with 'h' \[1, 2, 1, 8\] and 'c' \[1, 2, 1, 8\]"
            ):
                given(obs, wrong)
        with pytest.raises(ValueError, match=r"state must be a dict with 'h' \[1, 4, 1, 8\] and 'c'"):
            run.agent.update(batch._replace(state=wrong))
    assert alike(before, weights(run))
    assert np.array_equal(policy.q(obs, {}), policy.q(obs))


@pytest.mark.parametrize("network", ["gru(8)", "lstm(8)"])
def test_windows_of_ones_own_may_have_no_future(network):
    """Whole returns, discount 0: what each step bootstraps from does not count, nor do the numbers of padding."""
    runs = [rl.start(Masked, described(network), [3, 5]) for _ in range(2)]
    for run in runs:
        run.advance(100)
    batch = runs[0].loop.replay.sample(6, Streams([3, 5], "replay"))
    batch = batch._replace(discount=batch.discount * 0, next_mask=None)
    padded = torch.arange(batch.reward.shape[2]) >= batch.length[..., None]
    assert padded.any()
    other = batch._replace(
        obs=batch.obs[:, :, : batch.reward.shape[2]],
        bootstrap=torch.where(padded, 10**6, 0),
        action=torch.where(padded, -1, batch.action),
    )
    found = [run.agent.update(b).td_error for run, b in zip(runs, (batch, other), strict=True)]
    assert torch.equal(*found)
    for k in range(2):
        for mine, theirs in zip(*(weights(run, k) for run in runs), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="A batch's obs must have an observation for each step"):
        runs[0].agent.update(other._replace(obs=other.obs[:, :, :1]))
