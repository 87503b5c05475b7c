"""Distributions of returns: against exact ones, against autograd, and by hand."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from lottery import PAIRS, learned

import envs
import rl
from rl import losses, targets
from rl.core.types import Batch
from rl.deep.heads.categorical import Categorical
from rl.deep.heads.head import Outputs
from rl.deep.heads.quantile import Quantile
from rl.deep.moving import arrays_of
from supervised import MLP, Recipe, data, fit
from supervised.losses import cross_entropy, cross_entropy_slope

NAN = float("nan")
HEADS = {
    "c51": Categorical(-3.0, 4.0, 8),
    "hl-gauss": Categorical(-3.0, 4.0, 8, deviation=0.75),
    "quantiles": Quantile(5),
    "true quantiles": Quantile(5, kappa=0.0),
}
HEADS |= {f"{name}, rescaled": dataclasses.replace(head, rescale=True) for name, head in HEADS.items()}


def random_batch(n=2, b=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    discount = torch.tensor([0.9, 0.0, 0.5]).repeat(b)[:b].expand(n, b)
    action, reward = torch.randint(3, (n, b), generator=g), torch.randn(n, b, generator=g)
    mask = torch.rand(n, b, 3, generator=g) < 0.7
    mask[..., 0] = True
    weight = torch.rand(n, b, generator=g)
    return Batch(None, action, reward, discount.contiguous(), None, mask, weight)


def outputs_of(head, n=2, b=6, seed=1):
    g = torch.Generator().manual_seed(seed)
    return Outputs(*(2 * torch.randn(n, b, head.size(3), generator=g) for _ in range(3)))


def by_hand(head, outputs, batch):
    """The mean loss of each seed, as the papers write it, one sample and one atom at a time: differentiable in y."""
    n, b = batch.reward.shape
    total = []
    for k in range(n):
        for i in range(b):
            y = outputs.y[k, i].view(3, -1)[batch.action[k, i]]
            next_y, choice = (part[k, i].view(3, -1) for part in (outputs.next_y, outputs.next_choice))
            plain = targets.unscaled if head.rescale else lambda x: x
            h = targets.rescaled if head.rescale else lambda x: x
            r, d = batch.reward[k, i], batch.discount[k, i]
            if isinstance(head, Quantile):
                value = torch.where(batch.next_mask[k, i], plain(choice).mean(-1), -torch.inf)
                sought = h(r + (d * plain(next_y[value.argmax()]) if d else torch.zeros(head.quantiles)))
                z = len(y)
                cost = 0.0
                for j in range(z):
                    for m in range(z):
                        u = sought[m] - y[j]
                        tau = (2 * j + 1) / (2 * z)
                        pull = tau if u >= 0 else 1 - tau
                        size = u.abs() if not head.kappa else (0.5 * u * u if u.abs() <= 1 else u.abs() - 0.5)
                        cost = cost + pull * size / z
            else:
                support = torch.linspace(head.low, head.high, head.atoms)
                worth = plain(support)
                value = torch.where(batch.next_mask[k, i], (choice.softmax(-1) * worth).sum(-1), -torch.inf)
                p = next_y[value.argmax()].softmax(-1)
                width = (head.high - head.low) / (head.atoms - 1)
                target = torch.zeros(head.atoms)
                if head.deviation is None:
                    for j in range(head.atoms):
                        place = float(((h(r + d * worth[j])).clamp(head.low, head.high) - head.low) / width)
                        below = min(int(place), head.atoms - 2)
                        target[below] += float(p[j]) * (below + 1 - place)
                        target[below + 1] += float(p[j]) * (place - below)
                else:
                    middle = float(h(r + d * (p * worth).sum()).clamp(head.low, head.high))
                    normal = torch.distributions.Normal(middle, 0.75 * width)
                    edges = torch.cat([support - width / 2, support[-1:] + width / 2])
                    target = normal.cdf(edges).diff()
                    target = target / target.sum()
                cost = -(target * y.log_softmax(-1)).sum()
            total.append(cost * batch.weight[k, i])
    return torch.stack(total).view(n, b).mean(1)


@pytest.mark.parametrize("name", HEADS)
def test_the_gradient_is_autograds_of_the_loss_as_the_papers_write_it(name):
    head, batch = HEADS[name], random_batch()
    outputs = outputs_of(head)
    y = outputs.y.clone().requires_grad_()
    loss = by_hand(head, outputs._replace(y=y), batch)
    loss.sum().backward()
    found = head.loss(outputs, batch, True)
    torch.testing.assert_close(found.gradient, y.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.metrics["train/loss"], loss.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close((found.priority * batch.weight).mean(1), loss.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_nothing_is_read_behind_an_ending(name):
    head, batch = HEADS[name], random_batch()
    outputs = outputs_of(head)
    over = (batch.discount == 0)[..., None]
    broken = outputs._replace(
        next_y=outputs.next_y.masked_fill(over, NAN), next_choice=outputs.next_choice.masked_fill(over, 1e9)
    )
    one, other = (head.loss(given, batch, False) for given in (outputs, broken))
    assert torch.equal(one.gradient, other.gradient)


@pytest.mark.parametrize("name", HEADS)
def test_a_number_that_is_not_finite_reaches_the_gradient(name):
    head, batch = HEADS[name], random_batch()
    outputs = outputs_of(head)
    for part, value in itertools.product((batch.reward, batch.discount), (torch.inf, -torch.inf, NAN)):
        kept, part[0, 0] = float(part[0, 0]), value
        assert torch.isnan(head.loss(outputs, batch, False).gradient[0, 0]).any()
        part[0, 0] = kept
    outputs.next_y[0, 0] = NAN
    assert torch.isnan(head.loss(outputs, batch, False).gradient[0, 0]).any()


def test_a_projection_keeps_mass_and_hits_atoms_whole():
    support = torch.linspace(-1, 1, 5)
    values, p = torch.tensor([[-0.5, 0.25, 7.0, -9.0]]), torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    assert targets.projected(values, p, support)[0].tolist() == pytest.approx([0.4, 0.1, 0.1, 0.1, 0.3])


def test_a_smeared_value_adds_up_to_one_and_keeps_its_mean():
    support = torch.linspace(0, 10, 101, dtype=torch.float64)
    value = torch.tensor([2.0, 5.03, 7.77], dtype=torch.float64)
    p = targets.smeared(value, support, 0.075)
    torch.testing.assert_close(p.sum(-1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close((p * support).sum(-1), value, rtol=0, atol=1e-3)


def test_soft_targets_are_torchs_cross_entropy_and_its_slope():
    logits = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    target = torch.rand(2, 5, 4, dtype=torch.float64).softmax(-1)
    found = cross_entropy(logits, target, 0.2)
    wanted = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), target.flatten(0, 1), reduction="none", label_smoothing=0.2
    )
    torch.testing.assert_close(found.flatten(), wanted)
    (slope,) = torch.autograd.grad(cross_entropy(logits, target).sum(), logits)
    torch.testing.assert_close(cross_entropy_slope(logits.detach(), target), slope)
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    hard = torch.randint(4, (2, 5))
    one_hot = torch.nn.functional.one_hot(hard, 4).double()
    for smoothing in (0.0, 0.3):
        torch.testing.assert_close(
            cross_entropy(logits, one_hot, smoothing, weights), cross_entropy(logits, hard, smoothing, weights)
        )


def test_c51_learns_the_exact_masses():
    agent, values, probability = learned(rl.Atoms(-3.0, 6.0, 19))  # every return is an atom
    for s, a in PAIRS:
        exact = envs.exact_returns(s, a, 1.0)
        wanted = torch.tensor([exact.get(round(float(v), 3), 0.0) for v in values[s, a]])
        assert (probability[s, a] - wanted).abs().max() < 1e-2
    q = agent.q(torch.tensor([[0, 1]]))[0]
    assert np.abs(q.numpy() - envs.exact_q("Lottery", 1.0)).max() < 2e-2


def test_quantiles_are_the_exact_ones():
    _, values, probability = learned(rl.Quantiles(10, kappa=0.0), rate=0.3, updates=3000)
    assert torch.equal(probability, torch.full_like(probability, 0.1))
    for s, a in PAIRS:
        exact = sorted(envs.exact_returns(s, a, 1.0).items())
        below = np.cumsum([p for _, p in exact])
        for i in range(10):
            wanted = exact[int(np.searchsorted(below, (i + 0.5) / 10))][0]
            assert abs(float(values[s, a, i]) - wanted) < 1e-2, (s, a, i)


def test_hl_gauss_learns_the_mean():
    agent, values, _ = learned(rl.Atoms(-3.0, 6.0, 91, deviation=0.75))
    q = agent.q(torch.tensor([[0, 1]]))[0].numpy()
    assert np.abs(q - envs.exact_q("Lottery", 1.0)).max() < 2e-2
    assert values.shape == (2, 2, 91)


def test_the_lotterys_returns_add_up_to_its_values():
    for g in (0.0, 0.5, 1.0):
        q = envs.exact_q("Lottery", g)
        for s, a in PAIRS:
            found = envs.exact_returns(s, a, g)
            assert sum(found.values()) == pytest.approx(1.0)
            assert sum(v * p for v, p in found.items()) == pytest.approx(q[s, a])


@pytest.mark.parametrize("preset", ["c51", "hl-gauss", "qr-dqn"])
@pytest.mark.parametrize(
    "options", [{}, {"dueling": True, "double": True, "n_step": 3, "prioritized": True, "rescale_values": True}]
)
def test_presets_learn_combine_and_come_back_to_the_bit(preset, options, tmp_path):
    small = {"network": "mlp(16)", "learn_after_steps": 40, "batch_size": 8, "capacity_steps": 300}
    config = dataclasses.replace(rl.presets()[preset], **small, **options)
    whole, alone = (rl.start("CartPole-v1", config, seeds) for seeds in ([3, 5], [5]))
    for run in (whole, alone):
        run.advance(100)
    whole.save(tmp_path / "run.safetensors")
    resumed = rl.load(tmp_path / "run.safetensors")
    for run in (whole, alone, resumed):
        run.advance(60)
    assert whole.agent.updates > 100
    for name, weight in whole.agent.online.weights.items():
        assert torch.equal(weight[1], alone.agent.online.weights[name][0])
        assert torch.equal(weight, resumed.agent.online.weights[name])
    obs = np.zeros((2, 3, 4), np.float32)
    values, probability = whole.agent.distribution(obs)
    assert values.shape == probability.shape == (2, 3, 2, 51)
    torch.testing.assert_close((values * probability).sum(-1), whole.agent.q(obs), rtol=1e-4, atol=1e-4)
    policy = whole.policy(5)
    policy.save(tmp_path / "policy")
    for found, part in zip(
        rl.load_policy(tmp_path / "policy").distribution(obs[0, 0]), (values, probability), strict=True
    ):
        assert found.shape == (2, 51)
        np.testing.assert_allclose(found, part[1, 0], rtol=1e-5)


def test_a_recurrent_network_learns_distributions():
    config = rl.DQN(
        network="gru(8)", distribution=rl.Quantiles(7), dueling=True, learn_after_steps=30, batch_size=4
    )  # fmt: skip
    runs = [rl.start("envs/MemoryChain-v0", config, seeds, env_kwargs={"length": 4}) for seeds in ([3, 5], [5])]
    for run in runs:
        run.advance(80)
    for name, weight in runs[0].agent.online.weights.items():
        assert torch.equal(weight[1], runs[1].agent.online.weights[name][0])
    assert runs[0].agent.distribution(np.zeros((2, 1, 3), np.float32))[0].shape == (2, 1, 2, 7)


@pytest.mark.parametrize(
    ("env", "settings", "support"),
    [
        ("CartPole-v1", {}, (0.0, 100.0)),
        ("CartPole-v1", {"gamma": 1.0}, (0.0, 500.0)),
        ("MountainCar-v0", {"gamma": 0.9, "reward_scale": 0.5}, (-5.0, 0.0)),
        ("FrozenLake-v1", {}, (0.0, 1.0)),
        ("envs/Lottery-v0", {"gamma": 0.5}, (-4.0, 8.0)),
    ],
)
def test_the_support_is_derived_where_rewards_are_known(env, settings, support):
    run = rl.start(env, rl.DQN(distribution=rl.Atoms(), **settings))
    assert (run.agent.config.distribution.low, run.agent.config.distribution.high) == support
    assert run.agent_config.distribution == rl.Atoms()


def test_a_support_that_is_too_narrow_or_unknown_is_refused():
    with pytest.raises(ValueError, match=r"atoms range from -10 to 10, but the discounted returns .* from 0 to 100"):
        rl.start("CartPole-v1", rl.DQN(distribution=rl.Atoms(-10, 10)))
    with pytest.raises(ValueError, match="The range of returns is unknown here: give the first and last atom"):
        rl.start("envs/TMaze-v0", rl.DQN(distribution=rl.Atoms()))
    rl.start("envs/TMaze-v0", rl.DQN(distribution=rl.Atoms(-10, 4)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: rl.Atoms(1.0), "given together"),
        (lambda: rl.Atoms(1.0, 1.0), "low must be below high"),
        (lambda: rl.Atoms(0, 1, atoms=1), "atoms must be a whole number of at least 2"),
        (lambda: rl.Atoms(0, NAN), "high"),
        (lambda: rl.Quantiles(0), "quantiles must be a whole number of at least 1"),
        (lambda: rl.Quantiles(kappa=-1), "kappa"),
        (lambda: rl.DQN(distribution=51), r"distribution must be rl\.Atoms"),
        (lambda: rl.DQN(distribution=rl.Quantiles(), loss="squared"), "loss='squared' contradicts distribution"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, said):
    with pytest.raises((TypeError, ValueError), match=said):
        make()


def test_an_agent_of_values_alone_has_no_distribution():
    agent = rl.start("CartPole-v1", rl.DQN()).agent
    with pytest.raises(ValueError, match="learns expected values, not distributions"):
        agent.distribution(np.zeros((1, 1, 4), np.float32))


def test_the_taken_values_of_atoms_and_back():
    values, action = torch.randn(2, 3, 4, 5), torch.randint(4, (2, 3))
    found = losses.select(values, action)
    assert found.shape == (2, 3, 5)
    back = losses.scatter_to_action(found, values, action)
    assert torch.equal(losses.select(back, action), found)
    assert int((back != 0).sum()) == found.numel()


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_compiled_losses_are_torchs(name, double, weighted):
    head, batch = HEADS[name], random_batch(b=40)._replace(next_mask=None)
    outputs = outputs_of(head, b=40)
    if not double:
        outputs = outputs._replace(next_choice=outputs.next_y)
    batch = batch if weighted else batch._replace(weight=None)
    wanted = head.loss(outputs, batch, True)
    given = [part.numpy() for part in outputs[:3]]
    arrays = Outputs(given[0], given[1], given[2] if double else given[1])
    found = head.loss_of(arrays, Batch(*(arrays_of(part) for part in batch)), True)
    for name_, mine in wanted.metrics.items():
        torch.testing.assert_close(found.metrics[name_], mine, rtol=1e-4, atol=1e-5)
    for part in ("gradient", "td_error", "priority"):
        torch.testing.assert_close(torch.from_numpy(getattr(found, part)), getattr(wanted, part), rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(head.q_of(given[0]), head.q(outputs.y), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["c51", "hl-gauss", "quantiles", "true quantiles"])
def test_compiled_losses_refuse_actions_and_show_what_is_not_finite(name):
    head, batch = HEADS[name], Batch(*(arrays_of(part) for part in random_batch()._replace(next_mask=None)))
    given = [part.numpy() for part in outputs_of(head)[:3]]
    with pytest.raises(ValueError, match="Actions must be whole numbers from 0 to 2"):
        head.loss_of(Outputs(*given), batch._replace(action=batch.action + 3), False)
    for k, part in ((1, given[1]), (0, given[0])):
        broken = [array.copy() for array in given]
        broken[k][0, 0] = NAN
        choice = broken[1] if k == 1 else broken[2]
        assert np.isnan(head.loss_of(Outputs(broken[0], broken[1], choice), batch, False).gradient[0, 0]).any(), (
            part.shape
        )
    for name_, value in itertools.product(("reward", "discount"), (np.inf, -np.inf, NAN)):
        numbers = getattr(batch, name_).copy()
        numbers[0, 0] = value
        found = head.loss_of(Outputs(*given), batch._replace(**{name_: numbers}), False).gradient
        assert np.isnan(found[0, 0]).any(), (name_, value)
        assert np.isfinite(found[0, 1]).all()


FAMILY = ("c51", "hl-gauss", "qr-dqn", "iqn", "munchausen-dqn", "noisy-dqn", "rainbow", "rainbow-without-noise")


@pytest.fixture(scope="module")
def small_runs():
    """Each preset of the family, and DQN, after 100 updates: how it judges three observations."""
    found = {}
    for name in ("dqn", *FAMILY):
        small = {"network": "mlp(16)", "learn_after_steps": 20, "batch_size": 8, "capacity_steps": 300}
        run = rl.start("CartPole-v1", dataclasses.replace(rl.presets()[name], **small), seeds=[3, 5])
        run.advance(119)
        assert run.agent.updates == 100
        found[name] = run
    return found


OBS = np.linspace(-0.5, 0.5, 24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize("name", FAMILY)
def test_each_preset_learns_something_of_its_own(small_runs, name):
    others = [run.agent.q(OBS) for other, run in small_runs.items() if other != name]
    assert all(not torch.allclose(small_runs[name].agent.q(OBS), q) for q in others)


@pytest.mark.parametrize("name", FAMILY)
def test_each_preset_goes_on_to_the_bit(small_runs, name, tmp_path):
    run = small_runs[name]
    run.save(tmp_path / "run.safetensors")
    again = rl.load(tmp_path / "run.safetensors")
    for one in (run, again):
        one.advance(30)
    for key, weight in run.agent.online.weights.items():
        assert torch.equal(weight, again.agent.online.weights[key])
    assert torch.equal(run.agent.act(OBS).q, again.agent.act(OBS).q)


@pytest.mark.parametrize("distribution", [rl.Atoms(0.0, 100.0, 11), rl.Quantiles(5), rl.ImplicitQuantiles(4, 4, 4)])
def test_a_fitted_classifiers_trunk_starts_an_agent(distribution):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=g)
    fitted = fit(
        lambda: MLP(4, 3, (8,), loss="cross_entropy"), data.Data(x, (x[:, 0] > 0).long()), Recipe(epochs=2), seeds=1
    )
    trunk = fitted.stack.member(0).trunk
    config = rl.DQN(network=rl.networks.on_trunk(trunk), distribution=distribution, learn_after_steps=20, batch_size=8)
    run = rl.start("CartPole-v1", config, seeds=[0, 1])
    first = run.agent.online.modules[1].trunk
    for mine, theirs in zip(first.parameters(), trunk.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    run.advance(60)
    assert run.agent.distribution(OBS)[0].shape == (
        2,
        3,
        2,
        {"Atoms": 11, "Quantiles": 5}.get(type(distribution).__name__, 4),
    )
    for mine, theirs in zip(first.parameters(), trunk.parameters(), strict=True):
        assert not torch.equal(mine, theirs)
