"""Tabular rules: each by hand, and against a naive reference over random episodes."""

import math

import numpy as np
import pytest
from daily import daily

import rl
from rl.explore import BOLTZMANN, EPSILON_GREEDY, DecayingNoise
from rl.tabular import double_q, dyna, monte_carlo, n_step, sarsa, traces
from rl.tabular import learned_model as model
from rl.tabular import prioritized_sweeping as sweeping
from rl.tabular import r_learning as average
from rl.tabular import speedy_q as speedy
from rl.tabular import weighted_q as weighted
from rl.tabular.agent import QTable, Transition

GAMMA, RATE = 0.9, 0.1


def memory(agent, q):
    """One seed's arrays of an agent with one environment, around q."""
    states, actions = q.shape
    arrays = {"q": q, "visits": np.zeros(q.shape, np.int64)} | agent.seed_arrays(states, actions)
    agent.init_from_q(arrays)
    trail = {name: np.full((1, *part.shape), part) for name, part in agent.episode_arrays(states, actions).items()}
    return agent.state_type(**arrays, **trail, **agent.rule_params())


def moment(s, a, reward, next_s, next_a=-1, terminated=False, over=None, rate=RATE, explore=EPSILON_GREEDY, level=0.2):
    discount = 0.0 if terminated else GAMMA
    return Transition(
        0, s, a, reward, discount, GAMMA, next_s, next_a, rate, terminated if over is None else over, explore, level
    )


def unread(*rows):
    """A table with 99s in the last row, which must not be read."""
    return np.array([*rows, [99.0] * len(rows[0])])


def test_sarsa_by_hand():
    q = unread([1.0, 2.0], [3.0, 5.0])
    assert sarsa.learn_sarsa(QTable(q, None), moment(0, 1, 10.0, 1, 0), None) == pytest.approx(10 + 0.9 * 3 - 2)
    assert q[0, 1] == pytest.approx(2 + 0.1 * 10.7)
    assert sarsa.learn_sarsa(QTable(q, None), moment(0, 0, 4.0, 2, -1, terminated=True), None) == 3.0


def test_expected_sarsa_by_hand():
    q = unread([1.0, 2.0], [3.0, 5.0])
    mean = 0.8 * 5 + 0.2 * 4
    assert sarsa.learn_expected(QTable(q, None), moment(0, 1, 1.0, 1), None) == pytest.approx(1 + 0.9 * mean - 2)
    q = unread([1.0, 2.0], [3.0, 5.0])
    up = math.exp((3 - 5) / 0.5)
    found = sarsa.learn_expected(QTable(q, None), moment(0, 1, 1.0, 1, explore=BOLTZMANN, level=0.5), None)
    assert found == pytest.approx(1 + 0.9 * (3 * up + 5) / (up + 1) - 2)
    with pytest.raises(ValueError, match="needs the action probabilities"):
        rl.ExpectedSARSA(explore=DecayingNoise(0.1))


class Coin:
    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def random(self):
        return self.numbers.pop(0)


def test_double_q_by_hand():
    table = memory(rl.DoubleQ(), np.zeros((3, 2)))
    table.one[:] = [[1, 2], [5, 3], [99, 99]]
    table.two[:] = [[4, 4], [1, 7], [99, 99]]
    assert double_q.learn(table, moment(0, 1, 1.0, 1), Coin(0.4)) == pytest.approx(1 + 0.9 * 1 - 2)  # two at one's best
    assert table.one[0, 1] == pytest.approx(2 - 0.1 * 0.1)
    assert double_q.learn(table, moment(0, 0, 1.0, 1), Coin(0.6)) == pytest.approx(1 + 0.9 * 3 - 4)
    assert table.q[0].tolist() == pytest.approx([(1 + 4 - 0.03) / 2, (1.99 + 4) / 2])


def test_n_step_by_hand():
    table = memory(rl.NStepSARSA(n=2), unread([0.0, 0.0], [4.0, 0.0], [6.0, 0.0]))
    assert n_step.learn_sarsa(table, moment(0, 0, 1.0, 1, 0), None) == 0
    n_step.learn_sarsa(table, moment(1, 0, 2.0, 2, 0), None)
    assert table.q[0, 0] == pytest.approx(0.1 * (1 + 0.9 * (2 + 0.9 * 6)))
    n_step.learn_sarsa(table, moment(2, 0, 3.0, 3, -1, terminated=True), None)  # and the rest learn without a future
    assert table.q[1, 0] == pytest.approx(4 + 0.1 * (2 + 0.9 * 3 - 4))
    assert table.q[2, 0] == pytest.approx(6 + 0.1 * (3 - 6))
    assert table.count[0] == 0


def test_a_window_that_is_cut_short_keeps_its_future():
    table = memory(rl.NStepSARSA(n=3), np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 7.0]]))
    n_step.learn_sarsa(table, moment(0, 0, 1.0, 1, 0), None)
    n_step.learn_sarsa(table, moment(1, 0, 2.0, 2, 1, over=True), None)
    assert table.q[0, 0] == pytest.approx(0.1 * (1 + 0.9 * (2 + 0.9 * 7)))
    assert table.q[1, 0] == pytest.approx(0.1 * (2 + 0.9 * 7))


def test_tree_backup_by_hand():
    q = np.array([[0.0, 0.0], [4.0, 1.0], [6.0, 2.0]])
    table = memory(rl.TreeBackup(n=2), q)
    n_step.learn_tree(table, moment(0, 0, 1.0, 1), None)
    n_step.learn_tree(table, moment(1, 1, 2.0, 2), None)  # not greedy: what it brought counts for nothing
    assert q[0, 0] == pytest.approx(0.1 * (1 + 0.9 * 4))
    q = np.array([[0.0, 0.0], [4.0, 1.0], [6.0, 2.0]])
    table = memory(rl.TreeBackup(n=2), q)
    n_step.learn_tree(table, moment(0, 0, 1.0, 1), None)
    n_step.learn_tree(table, moment(1, 0, 2.0, 2), None)  # greedy: it counts in full
    assert q[0, 0] == pytest.approx(0.1 * (1 + 0.9 * (2 + 0.9 * 6)))


@pytest.mark.parametrize(
    ("kind", "twice"), [("accumulating", 1.72), ("replacing", 1.0), ("dutch", 1 + 0.72 - 0.1 * 0.72)]
)
def test_traces_by_hand(kind, twice):
    agent = rl.SARSALambda(lambda_=0.8, traces=kind)
    table = memory(agent, np.zeros((3, 1)))
    traces.learn_sarsa(table, moment(0, 0, 1.0, 0, 0), None)
    assert table.q[0, 0] == pytest.approx(0.1)
    traces.learn_sarsa(table, moment(0, 0, 1.0, 1, 0), None)
    assert table.trace[0, 0, 0] == pytest.approx(twice)
    error = 1 + 0.9 * 0 - 0.1
    if kind == "dutch":  # true online: Q was taken for 0 a step ago, and is .1 now
        assert table.q[0, 0] == pytest.approx(0.1 + 0.1 * (error + 0.1) * twice - 0.1 * 0.1)
    else:
        assert table.q[0, 0] == pytest.approx(0.1 + 0.1 * error * twice)
    traces.learn_sarsa(table, moment(1, 0, 5.0, 2, -1, terminated=True), None)
    assert table.size[0] == 0
    assert (table.trace == 0).all()


def test_watkins_traces_end_where_the_greedy_policy_is_left():
    table = memory(rl.QLambda(lambda_=0.8), np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    traces.learn_q(table, moment(0, 0, 0.0, 1, 0), None)
    assert table.size[0] == 1
    traces.learn_q(table, moment(1, 0, 0.0, 1, 1), None)
    assert table.size[0] == 0


@pytest.mark.parametrize("every", [False, True])
def test_monte_carlo_by_hand(every):
    agent = rl.MonteCarlo(every_visit=every, memory_steps=10)
    table = memory(agent, np.zeros((2, 1)))
    for reward, over in ((1.0, False), (2.0, False), (4.0, True)):
        monte_carlo.learn(table, moment(0, 0, reward, 0, 0, terminated=over), None)
    whole = 1 + 0.9 * (2 + 0.9 * 4)
    expected = 0.0
    for value in (4, 2 + 0.9 * 4, whole) if every else (whole,):
        expected += 0.1 * (value - expected)
    assert table.q[0, 0] == pytest.approx(expected)
    assert table.met.sum() == 0


def test_dyna_counts_outcomes_and_makes_them_up():
    agent = rl.DynaQ(planning_steps=1, outcomes=2)
    table = memory(agent, np.zeros((3, 2)))
    dyna.learn(table, moment(0, 0, 1.0, 1), Coin(0.0, 0.0))
    assert table.q[0, 0] == pytest.approx(0.1 + 0.1 * (1 - 0.1))
    for _ in range(2):
        dyna.learn(table, moment(0, 0, 3.0, 2, terminated=True), Coin(0.0, 0.99))
    assert table.times[0, 0].tolist() == [1, 2]
    before = table.q[0, 0]
    assert dyna.simulated_target(table, 0, 0, GAMMA, Coin(0.34)) == 3.0
    assert dyna.simulated_target(table, 0, 0, GAMMA, Coin(0.3)) == pytest.approx(1.0)
    assert model.expected_backup(table, 0, 0) == pytest.approx((1 * 1.0 + 2 * 3.0) / 3)
    assert table.q[0, 0] == before
    dyna.learn(table, moment(0, 0, 9.0, 0), Coin(0.0, 0.0))  # a third: the rarest gives way
    assert sorted(table.times[0, 0].tolist()) == [1, 2]
    assert table.following[0, 0].tolist() == [0, 2]


def test_dyna_plus_is_tempted_by_what_it_has_not_tried():
    table = memory(rl.DynaQ(planning_steps=1, bonus=0.5), np.zeros((2, 2)))
    dyna.learn(table, moment(0, 0, 0.0, 1), Coin(0.9))  # makes up the other action of state 0
    assert table.q[0].tolist() == pytest.approx([0.0, 0.1 * 0.5 * 1.0])


def test_a_model_keeps_the_mean_reward_of_an_outcome():
    table = memory(rl.DynaQ(planning_steps=1), np.zeros((2, 1)))
    for reward in (1.0, 5.0, 3.0):
        dyna.learn(table, moment(0, 0, reward, 1, terminated=True), Coin(0.0, 0.0))
    assert table.reward[0, 0, 0] == pytest.approx(3.0)
    table = memory(rl.DynaQ(planning_steps=1, outcomes=1), np.zeros((2, 1)))
    dyna.learn(table, moment(0, 0, 1.0, 1), Coin(0.0, 0.0))
    for reward in (5.0, 7.0):  # the world has changed: the last outcome is believed, its reward too
        dyna.learn(table, moment(0, 0, reward, 0), Coin(0.0, 0.0))
        assert (table.following[0, 0, 0], table.reward[0, 0, 0], table.times[0, 0, 0]) == (0, reward, 1)


class Bell:
    """Normal numbers, one after another."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def standard_normal(self):
        return self.numbers.pop(0)


def test_weighted_q_by_hand():
    table = memory(rl.WeightedQ(), unread([0.0, 0.0], [1.0, 2.0]))
    assert weighted.spread_of(1.0 + 0.09, 1.0, 0.1) == pytest.approx(math.sqrt(0.09 * 0.1 / 0.9))
    assert table.deviation[0, 0] == weighted.spread_of(1.0, 1.0, 1.0) == 1e10  # seen once at most
    table.deviation[1] = [0.125, 0.0]
    # The first action is the best if its draw is above (2 - 1) / .125.
    assert weighted.learn(table, moment(0, 1, 5.0, 1), Bell(7.9, 0.0)) == pytest.approx(5 + 0.9 * 2)
    assert weighted.learn(table, moment(0, 0, 5.0, 1), Bell(8.1, 0.0)) == pytest.approx(5 + 0.9 * 1)
    assert table.q[0].tolist() == pytest.approx([0.1 * 5.9, 0.1 * 6.8])
    assert table.square[0].tolist() == pytest.approx([0.1 * 5.9**2, 0.1 * 6.8**2])
    assert table.share[0, 0] == pytest.approx(0.9**2 + 0.1**2)
    assert table.deviation[0, 0] == pytest.approx(weighted.spread_of(3.481, 0.59, 0.82))
    assert weighted.learn(table, moment(0, 0, 5.0, 2, terminated=True), Bell()) == pytest.approx(5 - 0.59)


def test_weighted_q_believes_luck_less_than_q_learning_and_more_than_double_q():
    """The estimate of the best of ten equal coins, after 20 tries of each: D'Eramo et al. (2016), theorem 1."""
    rng = np.random.default_rng(0)
    best, drawn = [], []
    for _ in range(300):
        tries = rng.normal(size=(20, 10))
        table = memory(rl.WeightedQ(), np.zeros((2, 10)))
        for n, row in enumerate(tries):
            for a, reward in enumerate(row):
                weighted.learn(table, moment(1, a, reward, 0, terminated=True, rate=1 / (n + 1)), None)
        means = tries.mean(0)
        best.append(means.max())
        np.testing.assert_allclose(table.deviation[1], tries.std(0, ddof=1) / math.sqrt(20), rtol=1e-6)
        drawn.append(np.mean([weighted.learn(table, moment(0, 0, 0.0, 1, rate=0.0), rng) / GAMMA for _ in range(50)]))
    assert 0.3 < np.mean(best) < 0.4  # the truth is 0
    assert 0.1 < np.mean(drawn) < 0.75 * np.mean(best)


def test_speedy_q_by_hand():
    table = memory(rl.SpeedyQ(), np.zeros((2, 1)))
    table.visits[:] = 1
    speedy.learn(table, moment(0, 0, 1.0, 1), None)  # the only pair met: a round of its own
    assert table.q[0, 0] == pytest.approx(1.0)
    assert table.counts.tolist() == [1, 0, 1]
    speedy.learn(table, moment(1, 0, 2.0, 0), None)
    assert table.counts.tolist() == [2, 1, 1]
    assert (table.by_old[1, 0], table.by_q[1, 0]) == (2.0, pytest.approx(2.9))  # old is 0, q is 1
    table.visits[:] = 2
    assert speedy.learn(table, moment(0, 0, 4.0, 1, terminated=True), None) == pytest.approx(4 - 1)
    assert table.counts.tolist() == [2, 0, 2]
    assert table.old[:, 0].tolist() == [1, 0]
    # share = 1/2: q + (by_old - q) / 2 + (by_q - by_old) / 2.
    assert table.q[:, 0].tolist() == pytest.approx([1 + 0.5 * 3, 0 + 0.5 * 2 + 0.5 * 0.9])


def test_speedy_q_against_a_naive_reference():
    steps, old, q, k, round_, met = episodes(8, 1000), np.zeros((5, 3)), np.zeros((5, 3)), 0, [], set()
    for s, a, r, next_s, _, terminated, _ in steps:
        round_.append((s, a, r, next_s, terminated))
        met.add((s, a))
        if {step[:2] for step in round_} != met:
            continue
        new = q.copy()
        for pair in met:
            _, _, r, next_s, over = next(step for step in round_ if step[:2] == pair)
            by_old, by_q = (r + (0 if over else GAMMA * table[next_s].max()) for table in (old, q))
            new[pair] = q[pair] + (by_old - q[pair]) / (k + 1) + k / (k + 1) * (by_q - by_old)
        old, q, k, round_ = q, new, k + 1, []
    table = memory(rl.SpeedyQ(), np.zeros((5, 3)))
    for s, a, r, next_s, next_a, terminated, over in steps:
        table.visits[s, a] += 1
        speedy.learn(table, moment(s, a, r, next_s, next_a, terminated, over), None)
    assert k > 10
    np.testing.assert_allclose(table.q, q, atol=1e-12)


def test_sweeping_by_hand():
    """Along a chain one reward at the end is known everywhere after as many backups as there are states."""
    table = memory(rl.PrioritizedSweeping(planning_steps=3), np.zeros((5, 1)))
    for s in range(3):
        table.visits[s, 0] = 1
        assert sweeping.learn(table, moment(s, 0, 0.0, s + 1), None) == 0
    table.visits[3, 0] = 1
    assert sweeping.learn(table, moment(3, 0, 8.0, 4, terminated=True), None) == 8
    assert table.q[:, 0].tolist() == pytest.approx([0, 8 * 0.9**2, 8 * 0.9, 8, 0])  # three backups
    assert table.peak[1] == pytest.approx(8 * 0.9**3)  # the first state waits
    table.visits[3, 0] = 2
    sweeping.learn(table, moment(3, 0, 4.0, 4, terminated=True), None)
    assert table.q[3, 0] == pytest.approx(6)  # the mean of what came


def test_the_most_urgent_pair_is_found():
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 5, 12):
        peak, plain = np.zeros(2 * n), np.zeros(n)
        for _ in range(200):
            i = int(rng.integers(n))
            plain[i] = rng.integers(6)
            sweeping.make_urgent(peak, i, plain[i])
            assert peak[1] == plain.max()
            assert plain[sweeping.most_urgent(peak)] == plain.max()


@pytest.mark.parametrize("outcomes", daily([1, 2, 8], [1]))
def test_sweeping_solves_the_model_that_it_has_seen(outcomes):
    """Until nothing is urgent: the table is then what value iteration makes of the counted outcomes, with those that gave way
    left out; and the lists of what leads to a state are right."""
    agent = rl.PrioritizedSweeping(planning_steps=100_000, threshold=1e-9, outcomes=outcomes)
    table, counted = memory(agent, np.zeros((5, 3))), {}
    for s, a, r, next_s, next_a, terminated, over in episodes(9):
        table.visits[s, a] += 1
        sweeping.learn(table, moment(s, a, r, next_s, next_a, terminated, over), None)
        known = counted.setdefault((s, a), {})
        if outcomes == 1:  # the last is believed
            known.clear()
        if (next_s, terminated) not in known and len(known) == outcomes:
            # The rarest gives way: of several, the one in the lowest place.
            places = [(int(table.following[s, a, k]), bool(table.discount[s, a, k] == 0)) for k in range(outcomes)]
            gone = [outcome for outcome in known if outcome not in places]
            assert len(gone) == 1
            assert len(known[gone[0]]) == min(map(len, known.values()))
            del known[gone[0]]
        known.setdefault((next_s, terminated), []).append(r)
        leading = {s: [] for s in range(5)}
        for state in range(5):
            i = table.head[state]
            while i:
                leading[state].append(int(i - 1))
                i = table.after[i - 1]
        for state in range(5):
            here = (table.following == state) & (table.times > 0) & (table.discount != 0)
            assert sorted(leading[state]) == np.flatnonzero(here.ravel()).tolist()
    q = np.zeros((5, 3))
    for _ in range(500):
        q = np.array(
            [
                [
                    sum(
                        len(rs) * (np.mean(rs) + (0 if ended else GAMMA * q[next_s].max()))
                        for (next_s, ended), rs in counted[s, a].items()
                    )
                    / sum(map(len, counted[s, a].values()))
                    for a in range(3)
                ]
                for s in range(5)
            ]
        )
    np.testing.assert_allclose(table.q, q, atol=1e-6)


def test_r_max_holds_what_it_does_not_know_for_the_best():
    table = memory(rl.RMax(known_after=2, initial_q=50.0), np.full((2, 2), 50.0))
    table.visits[0, 0] = 1
    sweeping.learn(table, moment(0, 0, 1.0, 1, terminated=True), None)
    assert table.q[0].tolist() == [50, 50]
    table.visits[0, 0] = 2
    sweeping.learn(table, moment(0, 0, 3.0, 1, terminated=True), None)
    assert table.q[0].tolist() == [2, 50]


def test_r_learning_by_hand():
    table = memory(rl.RLearning(gain_step_size=0.5), np.array([[0.0, 1.0], [3.0, 2.0]]))
    table.gain[0] = 0.25
    assert average.learn(table, moment(0, 0, 1.0, 1), None) == pytest.approx(1 - 0.25 + 3 - 0)
    assert table.q[0, 0] == pytest.approx(0.375)
    assert table.gain[0] == 0.25  # not the greedy action
    average.learn(table, moment(0, 1, 1.0, 1), None)
    assert table.q[0, 1] == pytest.approx(1 + 0.1 * 2.75)
    assert table.gain[0] == pytest.approx(0.25 + 0.5 * (1 - 0.25 + 3 - 1.275))
    with pytest.raises(ValueError, match="R-learning is only for continuing tasks"):
        average.learn(table, moment(0, 1, 1.0, 1, terminated=True), None)


def episodes(seed, length=400):
    """Random steps through 5 states with 3 actions: (s, a, r, next_s, next_a, terminated, over)."""
    rng = np.random.default_rng(seed)
    steps, s, a = [], 0, int(rng.integers(3))
    for _ in range(length):
        next_s, next_a, kind = int(rng.integers(5)), int(rng.integers(3)), rng.random()
        terminated, truncated = kind < 0.1, 0.1 <= kind < 0.2
        steps.append((s, a, float(rng.normal()), next_s, next_a, terminated, terminated or truncated))
        s, a = (int(rng.integers(5)), int(rng.integers(3))) if terminated or truncated else (next_s, next_a)
    return steps


def feed(agent, steps):
    table = memory(agent, np.zeros((5, 3)))
    for s, a, r, next_s, next_a, terminated, over in steps:
        agent.rule(table, moment(s, a, r, next_s, next_a, terminated, over), Coin(*[0.3] * 50))
    return table.q


def cut(steps):
    """The episodes among steps."""
    found, episode = [], []
    for step in steps:
        episode.append(step)
        if step[-1]:
            found.append(episode)
            episode = []
    return found


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_n_step_against_a_naive_reference(n):
    steps = episodes(n)
    steps = steps[: max(i for i, step in enumerate(steps) if step[-1]) + 1]
    np.testing.assert_allclose(feed(rl.NStepSARSA(n=n), steps), reference(steps, n), atol=1e-12)


def reference(steps, n):
    """n-step SARSA, written as a list of episodes."""
    q = np.zeros((5, 3))
    for episode in cut(steps):
        for now in range(len(episode)):
            _, _, _, next_s, next_a, terminated, over = episode[now]
            tail = 0.0 if terminated else q[next_s, next_a]
            for begin in range(max(0, now - n + 1), now + 1 if over else now - n + 2):
                if begin < 0:
                    continue
                value = tail
                for step in reversed(episode[begin : now + 1]):
                    value = step[2] + (0.0 if step[5] else GAMMA * value)
                s, a = episode[begin][:2]
                q[s, a] += RATE * (value - q[s, a])
    return q


def test_watkins_against_a_naive_reference():
    steps, q, trace = episodes(5), np.zeros((5, 3)), np.zeros((5, 3))
    for s, a, r, next_s, next_a, terminated, over in steps:
        best = 0.0 if terminated else q[next_s].max()
        error = r + GAMMA * best - q[s, a]
        greedy = terminated or q[next_s, next_a] == best
        trace *= GAMMA * 0.8
        trace[trace < 1e-4] = 0
        trace[s, a] = 1
        q += RATE * error * trace
        if over or not greedy:
            trace[:] = 0
    np.testing.assert_allclose(feed(rl.QLambda(), steps), q, atol=1e-12)


@pytest.mark.parametrize("kind", ["accumulating", "replacing"])
def test_sarsa_lambda_against_a_naive_reference(kind):
    steps, q, trace = episodes(6), np.zeros((5, 3)), np.zeros((5, 3))
    for s, a, r, next_s, next_a, terminated, over in steps:
        error = r + (0.0 if terminated else GAMMA * q[next_s, next_a]) - q[s, a]
        trace *= GAMMA * 0.8
        trace[trace < 1e-4] = 0
        trace[s, a] = 1 if kind == "replacing" else trace[s, a] + 1
        q += RATE * error * trace
        if over:
            trace[:] = 0
    np.testing.assert_allclose(feed(rl.SARSALambda(traces=kind), steps), q, atol=1e-12)


def test_true_online_traces_against_a_naive_reference():
    """van Seijen et al. (2016), algorithm 2, with one-hot features."""
    steps, w, e, old = episodes(7), np.zeros(15), np.zeros(15), 0.0
    for s, a, r, next_s, next_a, terminated, over in steps:
        x, x2 = np.eye(15)[s * 3 + a], np.zeros(15) if terminated else np.eye(15)[next_s * 3 + next_a]
        value, following = w @ x, w @ x2
        error = r + GAMMA * following - value
        e = GAMMA * 0.8 * e
        e[e < 1e-4] = 0
        e = e + x - RATE * (e @ x) * x
        w = w + RATE * (error + value - old) * e - RATE * (value - old) * x
        old = following
        if over:
            e, old = np.zeros(15), 0.0
    np.testing.assert_allclose(feed(rl.SARSALambda(traces="dutch"), steps).ravel(), w, atol=1e-12)


def naive_one_step(worth):
    """Q(s, a) += rate * (r + gamma * worth(q, next_s, next_a) - Q(s, a)), nothing behind a termination."""

    def learned(steps):
        q = np.zeros((5, 3))
        for s, a, r, next_s, next_a, terminated, _ in steps:
            q[s, a] += RATE * (r + (0.0 if terminated else GAMMA * worth(q[next_s], next_a)) - q[s, a])
        return q

    return learned


def naive_double(steps):
    """Coins of .3: the first table learns each time."""
    one, two = np.zeros((5, 3)), np.zeros((5, 3))
    for s, a, r, next_s, _, terminated, _ in steps:
        one[s, a] += RATE * (r + (0.0 if terminated else GAMMA * two[next_s, one[next_s].argmax()]) - one[s, a])
    return (one + two) / 2


def naive_tree(steps, n=3):
    """Sutton and Barto (2018), equation 7.16, by recursion; the greedy policy shares ties out."""
    q = np.zeros((5, 3))

    def value(episode, begin, end):
        _, _, r, next_s, _, terminated, _ = episode[begin]
        if terminated:
            return r
        if begin == end:
            return r + GAMMA * q[next_s].max()
        next_a = episode[begin + 1][1]
        pi = (q[next_s] == q[next_s].max()) / (q[next_s] == q[next_s].max()).sum()
        rest = sum(pi[b] * q[next_s, b] for b in range(3) if b != next_a)
        return r + GAMMA * (rest + pi[next_a] * value(episode, begin + 1, end))

    for episode in cut(steps):
        for now in range(len(episode)):
            first = max(0, now - n + 1)
            for begin in range(first, now + 1 if episode[now][-1] else first + (now - first + 1 == n)):
                s, a = episode[begin][:2]
                q[s, a] += RATE * (value(episode, begin, now) - q[s, a])
    return q


def naive_monte_carlo(every):
    """Returns of whole episodes, from the last step to the first."""

    def learned(steps):
        q = np.zeros((5, 3))
        for episode in cut(steps):
            _, _, _, next_s, next_a, terminated, _ = episode[-1]
            value = 0.0 if terminated else q[next_s, next_a]
            for i, (s, a, r, *_, ended, _) in reversed(list(enumerate(episode))):
                value = r + (0.0 if ended else GAMMA * value)
                if every or (s, a) not in [step[:2] for step in episode[:i]]:
                    q[s, a] += RATE * (value - q[s, a])
        return q

    return learned


def naive_dyna(bonus):
    """Two made-up steps after each: the pair and its outcome that a coin of .3 names."""

    def learned(steps):
        q, known, outcomes, last = np.zeros((5, 3)), [], {}, {}
        for clock, (s, a, r, next_s, _, terminated, _) in enumerate(steps, start=1):
            q[s, a] += RATE * (r + (0.0 if terminated else GAMMA * q[next_s].max()) - q[s, a])
            entered = [(s, b) for b in range(3)] if bonus and all((s, b) not in last for b in range(3)) else []
            known += entered if bonus else [(s, a)] * ((s, a) not in last)
            last[s, a] = clock
            outcomes.setdefault((s, a), {}).setdefault((next_s, terminated), []).append(r)
            for _ in range(2):
                pair = known[int(0.3 * len(known))]
                if pair in outcomes:
                    counted = [outcome for outcome, rewards in outcomes[pair].items() for _ in rewards]
                    left, k = 0.3 * len(counted), 0
                    each = list(outcomes[pair].items())
                    while left >= len(each[k][1]):
                        left, k = left - len(each[k][1]), k + 1
                    (there, over), rewards = each[k]
                    worth = np.mean(rewards) + (0.0 if over else GAMMA * q[there].max())
                else:
                    worth = GAMMA * q[pair[0]].max()
                worth += bonus * math.sqrt(clock - last.get(pair, 0))
                q[pair] += RATE * (worth - q[pair])
        return q

    return learned


def naive_r(steps):
    """Schwartz's rule over steps none of which ends."""
    q, gain = np.zeros((5, 3)), 0.0
    for s, a, r, next_s, *_ in steps:
        q[s, a] += RATE * (r - gain + q[next_s].max() - q[s, a])
        if q[s, a] == q[s].max():
            gain += 0.001 * (r - gain + q[next_s].max() - q[s].max())
    return q


def naive_weighted(steps):
    """Bells of .3: the highest of mean + .3 * deviation, deviations from the lists of all targets and their weights."""
    targets = {(s, a): [] for s in range(5) for a in range(3)}

    def mean_and_deviation(pair):
        n = len(targets[pair])
        weights = np.array([(1 - RATE) ** n] + [RATE * (1 - RATE) ** (n - 1 - i) for i in range(n)])
        values = np.array([0.0, *targets[pair]])
        mean, share = weights @ values, weights @ weights
        return mean, math.sqrt((weights @ values**2 - mean**2) * share / (1 - share)) if n else 1e10

    for s, a, r, next_s, _, terminated, _ in steps:
        next_ones = [mean_and_deviation((next_s, b)) for b in range(3)]
        best = max(range(3), key=lambda b: next_ones[b][0] + 0.3 * next_ones[b][1])
        targets[s, a].append(r + (0.0 if terminated else GAMMA * next_ones[best][0]))
    return np.array([[mean_and_deviation((s, a))[0] for a in range(3)] for s in range(5)])


class Bells(Coin):
    def standard_normal(self):
        return self.numbers.pop(0)


NAIVE = {
    "QLearning": (rl.QLearning(), naive_one_step(lambda row, next_a: row.max())),
    "SARSA": (rl.SARSA(), naive_one_step(lambda row, next_a: row[next_a])),
    "ExpectedSARSA": (rl.ExpectedSARSA(), naive_one_step(lambda row, next_a: 0.8 * row.max() + 0.2 * row.mean())),
    "DoubleQ": (rl.DoubleQ(), naive_double),
    "TreeBackup": (rl.TreeBackup(n=3), naive_tree),
    "first visit": (rl.MonteCarlo(), naive_monte_carlo(False)),
    "every visit": (rl.MonteCarlo(every_visit=True), naive_monte_carlo(True)),
    "DynaQ": (rl.DynaQ(planning_steps=2), naive_dyna(0.0)),
    "DynaQ+": (rl.DynaQ(planning_steps=2, bonus=0.01), naive_dyna(0.01)),
    "WeightedQ": (rl.WeightedQ(), naive_weighted),
    "RLearning": (rl.RLearning(), naive_r),
}


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("seed", [11, 12])
def test_every_rule_against_a_naive_reference(name, seed):
    """Random episodes, with terminations and truncations."""
    agent, learned = NAIVE[name]
    steps = episodes(seed, 300)
    steps = steps[: max(i for i, step in enumerate(steps) if step[-1]) + 1]
    if agent.continuing:
        steps = [(*step[:5], False, False) for step in steps]
    table = memory(agent, np.zeros((5, 3)))
    for s, a, r, next_s, next_a, terminated, over in steps:
        agent.rule(table, moment(s, a, r, next_s, next_a, terminated, over), Bells(*[0.3] * 10))
    np.testing.assert_allclose(table.q, learned(steps), atol=1e-12)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (rl.SARSALambda(lambda_=0.0, traces="replacing"), rl.SARSA()),
        (rl.QLambda(lambda_=0.0), rl.QLearning()),
        (rl.NStepSARSA(n=1), rl.SARSA()),
        (rl.TreeBackup(n=1), rl.QLearning()),
    ],
    ids=["SARSA(0)", "Q(0)", "1-step SARSA", "1-step tree"],
)
def test_at_its_end_each_is_the_one_step_rule(one, other):
    steps = episodes(1)
    np.testing.assert_allclose(feed(one, steps), feed(other, steps), atol=1e-14)


def test_sarsa_1_is_every_visit_monte_carlo_as_the_step_size_vanishes():
    """Offline, which is what online learning comes to when the table does not move meanwhile."""
    steps = [step for episode in cut(episodes(2)) for step in episode]
    rate, found = 1e-7, []
    for agent in (rl.SARSALambda(lambda_=1.0, traces="accumulating"), rl.MonteCarlo(every_visit=True)):
        table = memory(agent, np.zeros((5, 3)))
        for s, a, r, next_s, next_a, terminated, over in steps:
            agent.rule(table, moment(s, a, r, next_s, next_a, terminated, over, rate=rate), None)
        found.append(table.q / rate)
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-3)
