"""The tabular family: each agent against the exact optimum, alone as stacked, gone on with; bad settings."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from daily import daily

import rl
from envs import TableEnv
from rl.core import registry
from rl.explore import UCB, Boltzmann, EpsilonGreedy, highest
from rl.planning import value_iteration
from rl.tabular.agent import TabularConfig
from supervised import checkpoint
from supervised.checkpoint import CheckpointError

AGENTS = {
    "QLearning": rl.QLearning(),
    "SARSA": rl.SARSA(),
    "ExpectedSARSA": rl.ExpectedSARSA(),
    "DoubleQ": rl.DoubleQ(),
    "NStepSARSA": rl.NStepSARSA(n=3),
    "TreeBackup": rl.TreeBackup(n=3),
    "accumulating": rl.SARSALambda(traces="accumulating"),
    "replacing": rl.SARSALambda(),
    "dutch": rl.presets()["true-online-sarsa-lambda"],
    "QLambda": rl.QLambda(),
    "MonteCarlo": rl.MonteCarlo(memory_steps=300),
    "DynaQ": rl.DynaQ(planning_steps=5),
    "PrioritizedSweeping": rl.PrioritizedSweeping(planning_steps=5),
    "RMax": rl.RMax(),
    "SpeedyQ": rl.SpeedyQ(),
    "WeightedQ": rl.WeightedQ(),
    "UCB": rl.QLearning(explore=UCB(30.0)),
    "count bonus": rl.QLearning(count_bonus=0.1, explore=EpsilonGreedy(0.05)),
    "optimistic": rl.QLearning(initial_q=1.0, explore=EpsilonGreedy(0.05)),
}
OFF_POLICY = ("QLearning", "DoubleQ", "TreeBackup", "QLambda", "DynaQ")
OFF_POLICY += ("PrioritizedSweeping", "RMax", "SpeedyQ", "WeightedQ", "UCB", "count bonus", "optimistic")


def test_r_learning_finds_the_most_that_can_be_had_per_step():
    """Queues with ten servers, Sutton and Barto's example 10.2; there is no proof that it must."""
    run = rl.train("envs/AccessControl-v0", rl.RLearning(), steps=200_000, seeds=10, progress=False)
    found = run.exact.metrics(run.agent)
    assert (found["eval/gain"] >= 0.99 * 2.74764).sum() >= 9, found["eval/gain"]
    assert (np.abs(run.agent.tables["gain"][:, 0] - 2.74764) < 0.15).sum() >= 9
    with pytest.raises(
        ValueError, match="RLearning is only for continuing tasks, but episodes of FrozenLake-v1 can terminate"
    ):
        rl.start("FrozenLake-v1", rl.RLearning())


def test_a_count_bonus_raises_what_is_learned_and_not_what_is_told():
    run = rl.start("envs/OneStep-v0", rl.QLearning(step_size=1.0, count_bonus=3.0), 1, steps=100)
    run.advance(1)
    assert run.agent.table[0, 0, 0] == pytest.approx(1 + 3)
    run.advance(3)
    assert run.agent.table[0, 0, 0] == pytest.approx(1 + 3 / 2)
    assert run.episodes()["rollout/ep_rew_mean"].tolist() == [1.0]


@pytest.mark.parametrize("name", daily(AGENTS, list(AGENTS)[::3]))
def test_alone_as_stacked_and_gone_on_with_to_the_bit(name, tmp_path):
    agent = AGENTS[name]
    each = 2 if name in ("QLambda", "NStepSARSA") else 1  # (each number is compiled anew)
    whole = rl.start("FrozenLake-v1", agent, [3, 8], steps=4000, envs_per_seed=each)
    whole.advance(4000)
    alone = rl.start("FrozenLake-v1", agent, [8], steps=4000, envs_per_seed=each)
    alone.advance(1234)
    alone.save(tmp_path / "run.safetensors")
    again = rl.load(tmp_path / "run.safetensors")
    again.advance(4000 - again.step)
    assert again.agent_config == agent
    for part, array in whole.agent.tables.items():
        assert array[1].tobytes() == again.agent.tables[part][0].tobytes(), part
    for part, array in whole.loop.episode_arrays.items():
        assert array[1].tobytes() == again.loop.episode_arrays[part][0].tobytes(), part


@pytest.mark.parametrize("name", daily(OFF_POLICY, ("QLearning", "DoubleQ", "UCB")))
def test_off_policy_agents_reach_the_optimum(name):
    # Each of Double Q-learning's two tables learns from half of the steps, and believes no luck: it takes longer. So does speedy
    # Q-learning, which learns from a pair's first try in a round.
    lake, cliff = (1_000_000, 1_000_000) if name in ("DoubleQ", "SpeedyQ") else (400_000, 100_000)
    for env, steps in (("FrozenLake-v1", lake), ("CliffWalking-v1", cliff), ("Taxi-v4", 500_000)):
        run = rl.train(env, AGENTS[name], steps=steps, seeds=10, progress=False)
        value = run.exact.value(run.agent.table.argmax(-1))
        near = value >= run.exact.optimal_stationary_return - 0.01 * abs(run.exact.optimal_stationary_return) - 1e-9
        assert near.sum() >= 9, (env, value, run.exact.optimal_stationary_return)


@pytest.mark.parametrize("name", daily(["SARSA", "ExpectedSARSA"], ["SARSA"]))
def test_what_sarsa_is_promised_it_reaches(name):
    """The best way to act while exploring with epsilon .2, as planning finds it; on the cliff not the edge but the way round."""
    for env, steps in (("FrozenLake-v1", 1_000_000), ("CliffWalking-v1", 500_000), ("Taxi-v4", 500_000)):
        run = rl.train(env, AGENTS[name], steps=steps, seeds=10, progress=False)
        value, promised = run.exact.value(run.agent.table.argmax(-1)), run.exact.target_return
        assert (value >= promised - 0.01 * abs(promised) - 1e-9).sum() >= 9, (env, value, promised)
    assert rl.start("CliffWalking-v1", AGENTS[name]).exact.target_return == -17
    assert rl.start("CliffWalking-v1", rl.QLearning()).exact.target_return == -13


@pytest.mark.parametrize("name", ["SARSA", "ExpectedSARSA", "NStepSARSA", "accumulating", "replacing", "dutch"])
def test_on_policy_agents_take_the_safe_path(name):
    """They learn what acting with exploration is worth: along the cliff's edge, -13, that is less than the way round, -17."""
    run = rl.train("CliffWalking-v1", AGENTS[name], steps=200_000, seeds=10, progress=False)
    value = run.exact.value(run.agent.table.argmax(-1))
    assert ((value <= -15) & (value >= -17)).sum() >= 9, value
    lake = rl.train("FrozenLake-v1", AGENTS[name], steps=1_000_000, seeds=10, progress=False)
    success = lake.exact.success(lake.agent.table.argmax(-1))
    assert (success >= 0.95 * lake.exact.stationary_success).sum() >= 9, success


def test_a_batch_teaches_one_step_rules_alone():
    import gymnasium as gym
    import torch

    spaces = gym.spaces.Discrete(3), gym.spaces.Discrete(2)
    batch = rl.Batch(*(torch.tensor(x) for x in ([[0]], [[1]], [[1.0]], [[0.0]], [[1]])))
    agents = [rl.ExpectedSARSA(step_size=0.5), rl.DynaQ(step_size=0.5, planning_steps=1), rl.WeightedQ(step_size=0.5)]
    for agent in (*agents, rl.PrioritizedSweeping(), rl.SpeedyQ(), rl.RMax(known_after=1, initial_q=0.0)):
        live = agent.build(*spaces, seeds=1)
        assert live.update(batch).td_error.tolist() == [[1.0]]
        assert live.table[0, 0, 1] >= 0.5
    bonus = rl.QLearning(step_size=1.0, count_bonus=3.0).build(*spaces, seeds=1)
    assert bonus.update(batch).td_error.tolist() == [[4.0]]
    with pytest.raises(ValueError, match="SARSA learns from whole episodes or from the next action"):
        rl.SARSA().build(*spaces, seeds=1).update(batch)


def test_a_mask_of_a_batch_holds_also_where_the_state_leads_back_to_itself():
    import gymnasium as gym
    import torch

    spaces = gym.spaces.Discrete(2), gym.spaces.Discrete(2)
    parts = ([[0]], [[1]], [[1.0]], [[0.9]], [[0]])
    batch = rl.Batch(*map(torch.tensor, parts), next_mask=torch.tensor([[[True, False]]]))
    agent = rl.QLearning(step_size=0.5).build(*spaces, seeds=1)
    agent.table[0, 0] = [1.0, 2.0]
    assert agent.update(batch).td_error.tolist() == [[pytest.approx(1 + 0.9 * 1 - 2)]]
    assert agent.tables["q"][0, 0].tolist() == [1.0, pytest.approx(2 - 0.05)]
    assert agent.table[0, 0, 1] == -np.inf
    weighted = batch._replace(next_mask=None, weight=torch.zeros(1, 1))
    with pytest.raises(ValueError, match="PrioritizedSweeping does not support importance weights"):
        rl.PrioritizedSweeping().build(*spaces, seeds=1).update(weighted)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: rl.NStepSARSA(n=0), "n must be a whole number of at least 1"),
        (lambda: rl.SARSALambda(lambda_=1.5), "lambda_ must lie in"),
        (lambda: rl.SARSALambda(traces="none"), "There is no traces 'none'"),
        (lambda: rl.QLambda(traces="dutch"), "Dutch traces are only for SARSA"),
        (lambda: rl.MonteCarlo(memory_steps=True), "memory_steps must be a whole number"),
        (lambda: rl.DynaQ(bonus=math.nan), "bonus must lie in"),
        (lambda: rl.DynaQ(outcomes=-1), "outcomes must be a whole number"),
        (lambda: rl.QLearning(count_bonus=-1.0), "count_bonus must lie in"),
        (
            lambda: rl.PrioritizedSweeping(step_size=0.5),
            "PrioritizedSweeping takes no step_size: its backups are expected",
        ),
        (lambda: rl.PrioritizedSweeping(threshold=-1.0), "threshold must lie in"),
        (lambda: rl.RMax(known_after=0), "known_after must be a whole number"),
        (
            lambda: rl.SpeedyQ(step_size=0.5),
            "SpeedyQ takes no step_size: its step size follows from the number of rounds",
        ),
        (lambda: rl.RLearning(gamma=0.9), "RLearning takes no gamma: nothing is discounted"),
        (lambda: rl.RLearning(gain_step_size=2.0), "gain_step_size must lie in"),
        (lambda: rl.ExpectedSARSA(explore=UCB()), "not UCB"),
    ],
)
def test_bad_settings_are_told(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_a_memory_that_would_not_fit_is_refused():
    with pytest.raises(ValueError, match="per-episode arrays of MonteCarlo for 30 environments need"):
        rl.start("FrozenLake-v1", rl.MonteCarlo(memory_steps=100_000_000), 30, steps=10)


def test_speedy_q_is_right_where_chance_decides_when_a_round_ends():
    """State 0 leads on or back by a fair coin, 1 pays 1 and leads back: a mean over all tries of a round would lean."""
    P = {0: {0: [(0.5, 1, 0.0, False), (0.5, 0, 0.0, False)]}, 1: {0: [(1.0, 0, 1.0, False)]}}
    run = rl.train(lambda: TableEnv(P, [1.0, 0.0]), rl.SpeedyQ(gamma=0.9), steps=200_000, seeds=5, progress=False)
    exact = value_iteration(run.model, 0.9).q
    assert np.abs(run.agent.table.mean(0) - exact).max() < 0.03, (run.agent.table[:, :, 0], exact[:, 0])


def test_a_model_must_hold_what_can_happen():
    with pytest.raises(
        ValueError, match=r"DynaQ keeps 8 outcomes .* envs/AccessControl-v0 has up to 44: set outcomes=44"
    ):
        rl.start("envs/AccessControl-v0", rl.DynaQ())
    with pytest.raises(ValueError, match="RMax keeps 2 outcomes"):
        rl.start("FrozenLake-v1", rl.RMax(outcomes=2))
    rl.start("envs/AccessControl-v0", rl.DynaQ(outcomes=1))


@pytest.mark.full  # takes 4 s
def test_a_model_of_many_outcomes_is_solved():
    run = rl.train(
        "envs/AccessControl-v0", rl.PrioritizedSweeping(gamma=0.9, outcomes=44), steps=300_000, seeds=2, progress=False
    )
    often = run.agent.visits > 2000
    assert np.abs(run.agent.table - value_iteration(run.model, 0.9).q)[often].max() < 0.5


def test_what_is_promised_is_not_known_everywhere():
    run = rl.start("envs/AccessControl-v0", rl.SARSA(gamma=1.0))
    assert run.exact.optimal_stationary_return > 2700
    assert math.isnan(run.exact.target_return)
    assert math.isnan(rl.start("FrozenLake-v1", rl.SARSA(explore=Boltzmann(1.0))).exact.target_return)


def damaged(run, tmp_path, part, **arrays):
    """A checkpoint of a run with some arrays of one part filled with a number, or replaced."""
    run.save(tmp_path / "whole.safetensors")
    state, meta = checkpoint.load(tmp_path / "whole.safetensors")
    where = state["agent"] if part == "agent" else state["loop"][part]
    for name, value in arrays.items():
        where[name] = np.full_like(where[name], value)
    checkpoint.save(tmp_path / "damaged.safetensors", state, meta, keep=False)
    rl.load(tmp_path / "whole.safetensors")
    return tmp_path / "damaged.safetensors"


@pytest.mark.parametrize(
    ("agent", "part", "arrays", "sentence"),
    [
        (
            rl.SARSALambda(),
            "trail",
            {"size": 64, "state": 0, "action": 0, "trace": 0.5},
            "inconsistent with the saved lists",
        ),
        (rl.QLambda(), "trail", {"trace": np.inf}, "not finite"),
        (rl.DynaQ(), "agent", {"count": 64, "tried": 0}, "does not match the pairs that were tried"),
        (rl.DynaQ(bonus=0.01), "agent", {"count": 64, "tried": 0}, "does not match the pairs that were tried"),
        (rl.DynaQ(), "agent", {"clock": -9000}, "'clock' has values outside"),
        (rl.PrioritizedSweeping(), "agent", {"peak": 5.0}, "inconsistent with the saved model"),
        (rl.PrioritizedSweeping(), "agent", {"visits": 2**62}, "visit counts must be in"),
        (rl.SpeedyQ(), "agent", {"counts": -1}, "'counts' has values outside"),
    ],
)
def test_arrays_that_would_lead_out_of_memory_are_refused(agent, part, arrays, sentence, tmp_path):
    run = rl.start("FrozenLake-v1", agent, [0, 1])
    run.advance(300)
    with pytest.raises(CheckpointError, match=sentence):
        rl.load(damaged(run, tmp_path, part, **arrays))


def test_bad_batches_are_refused_before_anything_is_learned():
    import gymnasium as gym
    import torch

    good = {"obs": 0, "action": 0, "reward": 1.0, "discount": 0.9, "next_obs": 1}
    for agent in (rl.QLearning(), rl.DynaQ(), rl.PrioritizedSweeping()):
        live = agent.build(gym.spaces.Discrete(4), gym.spaces.Discrete(2))
        for bad in ({"action": -1}, {"action": 2}, {"action": 0.5}, {"reward": math.nan}, {"discount": 5.0}):
            parts = {name: torch.tensor([[value]]) for name, value in (good | bad).items()}
            with pytest.raises(ValueError, match="A batch's"):
                live.update(rl.Batch(**parts))
        with pytest.raises(ValueError, match=r"A batch's reward must be \[1, 1\], like its obs, not \[1, 2\]"):
            live.update(rl.Batch(**{n: torch.tensor([[v] * (1 + (n == "reward"))]) for n, v in good.items()}))
        assert not live.table.any()
        assert not live.visits.any()


def test_an_untried_pair_keeps_its_discount_in_a_batch():
    """Dyna-Q+ plans it with the agent's gamma, also after a termination."""
    import gymnasium as gym
    import torch

    agent = rl.DynaQ(planning_steps=300, bonus=1e-6, gamma=0.9, step_size=0.5, initial_q=10.0)
    live = agent.build(gym.spaces.Discrete(2), gym.spaces.Discrete(2))
    parts = {"obs": 0, "action": 0, "reward": 1.0, "discount": 0.0, "next_obs": 1}
    live.update(rl.Batch(**{name: torch.tensor([[value]]) for name, value in parts.items()}))
    assert live.table[0, 0, 1] == pytest.approx(0.9 * live.table[0, 0].max(), abs=1.0)
    assert live.table[0, 0, 1] > 0.5


def test_lists_that_go_in_circles_are_refused():
    """The compiled loop would follow them for ever."""
    run = rl.start("FrozenLake-v1", rl.PrioritizedSweeping(), 2, steps=1000)
    run.advance(500)
    saved = {name: array.copy() for name, array in run.agent.state_dict().items() if isinstance(array, np.ndarray)}
    run.agent.load_state_dict(saved)
    first = int(saved["head"][1].max()) - 1
    for name, place, bad in (("after", first, first + 1), ("head", 5, 0), ("head", 5, first + 1)):
        damaged = {**saved, name: saved[name].copy()}
        damaged[name][1, place] = bad
        if (damaged[name] != saved[name]).any():
            with pytest.raises(
                ValueError, match="predecessor lists or priorities are inconsistent with the saved model"
            ):
                run.agent.load_state_dict(damaged)


def believe(table, t, rng):
    before = table.q[t.s, t.a]
    value = t.reward
    if t.discount != 0.0:
        value += t.discount * highest(table.q, t.next_s)
    table.q[t.s, t.a] = max(before, value)
    return value - before


def test_a_rule_of_ones_own_needs_no_other_file(tmp_path):
    """It runs compiled, over seeds; a checkpoint of it needs to be told its name."""

    @dataclass(frozen=True)
    class Own(TabularConfig):
        rule = staticmethod(believe)

    run = rl.train("FrozenLake-v1", Own(), steps=20_000, seeds=2, progress=False, env_kwargs={"is_slippery": False})
    assert run.model is not None
    assert run.exact.metrics(run.agent)["eval/optimality_gap"].tolist() == [0.0, 0.0]
    with pytest.raises(TypeError, match=r"Own is not one of the registered configs: .* with @rl\.register"):
        run.save(tmp_path / "run.safetensors")
    rl.register(Own)
    try:
        run.save(tmp_path / "run.safetensors")
        assert rl.load(tmp_path / "run.safetensors").agent.table.tobytes() == run.agent.table.tobytes()
    finally:
        del registry.TYPES["Own"], registry.AGENTS["Own"]
    with pytest.raises(CheckpointError, match="registered when their module is imported"):
        rl.load(tmp_path / "run.safetensors")
    with pytest.raises(ValueError, match="QLearning is already the name of"):
        rl.register(dataclass(frozen=True)(type("QLearning", (TabularConfig,), {})))
    with pytest.raises(TypeError, match="is not the config of an agent"):
        rl.register(int)


def test_a_damaged_trail_is_refused(tmp_path):
    run = rl.start("FrozenLake-v1", rl.NStepSARSA(n=3), 1, steps=1000)
    run.advance(500)
    state = run.loop.state_dict()
    state["trail"] = {**state["trail"], "state": state["trail"]["state"] + 1000}
    with pytest.raises(ValueError, match="The saved 'state' has values outside"):
        run.loop.load_state_dict(state)


def test_boltzmann_expected_sarsa_solves_its_own_operator():
    """Its fixed point is what the Boltzmann policy is worth, which planning finds by its own sweeps."""
    agent = rl.ExpectedSARSA(gamma=0.9, explore=Boltzmann(0.2))
    run = rl.train("envs/Chain-v0", agent, steps=300_000, seeds=2, progress=False)
    model = run.model
    q = value_iteration(model, 0.9).q * 0
    for _ in range(2000):
        pi = np.exp((q - q.max(-1, keepdims=True)) / 0.2)
        pi /= pi.sum(-1, keepdims=True)
        future = np.where(model.terminated, 0, (pi * q).sum(-1)[model.next_state])
        q = (model.probability * (model.reward + 0.9 * future)).sum(-1)
    np.testing.assert_allclose(run.agent.table, np.broadcast_to(q, run.agent.table.shape), atol=0.02)
