"""Valid calls of every public callable, by group, which tests of arguments modify."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from arguments import Case

import envs
import rl
import supervised
from rl import belief, explore, losses, networks, planning, targets
from supervised import schedules

N, E, A = 2, 3, 2
FOLDER = Path(tempfile.mkdtemp())
CARTPOLE = gym.spaces.Box(-1, 1, (4,))


@functools.cache
def streams() -> Any:
    return supervised.Streams([0, 1])


@functools.cache
def world() -> Any:
    found = envs.make("CartPole-v1", [0, 1], E)
    found.reset()
    return found


@functools.cache
def deep() -> Any:
    return rl.DQN(batch_size=8, learn_after_steps=10).build(CARTPOLE, gym.spaces.Discrete(A), [0, 1])


@functools.cache
def table() -> Any:
    return rl.QLearning().build(gym.spaces.Discrete(5), gym.spaces.Discrete(A), [0, 1])


@functools.cache
def tiles() -> Any:
    return rl.LinearSARSA().build(CARTPOLE, gym.spaces.Discrete(A), [0, 1])


@functools.cache
def replay(alpha: float | None = None) -> Any:
    made = rl.Replay(world(), 200, 2, priority_exponent=alpha)
    obs = world().reset()
    for _ in range(12):
        action = torch.zeros(N, E, dtype=torch.int64)
        step = world().step(action)
        made.add(obs, action, step)
        obs = step.obs
    return made


@functools.cache
def model() -> Any:
    return envs.read(gym.make("FrozenLake-v1"))


@functools.cache
def run(kind: str) -> Any:
    agent: Any = {
        "table": rl.QLearning(),
        "deep": rl.DQN(batch_size=8, learn_after_steps=10),
        "tiles": rl.LinearSARSA(),
    }[kind]
    env = {"table": "FrozenLake-v1", "deep": "CartPole-v1", "tiles": "MountainCar-v0"}[kind]
    made = rl.start(env, agent, 2)
    made.advance(20)
    return made


@functools.cache
def saved(kind: str) -> str:
    path = str(FOLDER / f"{kind}.safetensors")
    run(kind).save(path)
    run(kind).policy().save(path + ".policy")
    return path


def batch(**parts: Any) -> Any:
    obs = torch.zeros(N, 4, 4)
    whole = torch.zeros(N, 4, dtype=torch.int64)
    return rl.Batch(
        **{
            "obs": obs,
            "action": whole,
            "reward": torch.ones(N, 4),
            "discount": torch.ones(N, 4),
            "next_obs": obs,
            **parts,
        }
    )


def rows(**parts: Any) -> Any:
    states = torch.zeros(N, 4, dtype=torch.int64)
    return batch(**{"obs": states, "next_obs": states, **parts})


DESCRIBED = {
    **{"gamma": 0.5, "step_size": 0.5, "explore": explore.EpsilonGreedy(0.5), "initial_q": 0.5, "count_bonus": 0.5},
}
ON_POLICY = {**DESCRIBED}
DEEP = {
    **{
        "gamma": 0.5,
        "network": "mlp(8)",
        "learning_rate": 0.5,
        "loss": "huber",
        "max_grad_norm": 1.0,
        "optimizer": "Adam",
    },
    **{"batch_size": 8, "capacity_steps": 100, "learn_after_steps": 10, "update_every_steps": 1, "updates": 1},
    **{
        "target_every_updates": 3,
        "target_rate": 0.5,
        "double": True,
        "dueling": True,
        "n_step": 2,
        "prioritized": True,
    },
    **{"priority_exponent": 0.5, "importance_exponent": 0.5, "explore": explore.EpsilonGreedy(0.5), "mask": None},
    **{"compiled": True, "channels": "auto"},
}


def descriptions() -> list[Case]:
    found = [
        Case(kind.__name__, kind, {**DESCRIBED, **more})
        for kind, more in (
            (rl.QLearning, {}),
            (rl.SARSA, {}),
            (rl.ExpectedSARSA, {}),
            (rl.DoubleQ, {}),
            (rl.WeightedQ, {}),
            (rl.NStepSARSA, {"n": 3}),
            (rl.TreeBackup, {"n": 3}),
            (rl.SARSALambda, {"lambda_": 0.5, "traces": "replacing"}),
            (rl.QLambda, {"lambda_": 0.5, "traces": "replacing"}),
            (rl.MonteCarlo, {"every_visit": True, "memory_steps": 100}),
        )
    ]
    plain = {name: value for name, value in DESCRIBED.items() if name != "count_bonus"}
    no_rate = {name: value for name, value in plain.items() if name != "step_size"}
    found += [
        Case("DynaQ", rl.DynaQ, {**plain, "planning_steps": 3, "bonus": 0.5, "outcomes": 4}),
        Case(
            "PrioritizedSweeping",
            rl.PrioritizedSweeping,
            {**no_rate, "planning_steps": 3, "threshold": 0.5, "outcomes": 4},
        ),
        Case("RMax", rl.RMax, {**no_rate, "planning_steps": 3, "threshold": 0.5, "outcomes": 4, "known_after": 5}),
        Case("SpeedyQ", rl.SpeedyQ, {**no_rate, "count_bonus": 0.5}),
        Case(
            "RLearning", rl.RLearning, {**{n: v for n, v in DESCRIBED.items() if n != "gamma"}, "gain_step_size": 0.5}
        ),
        Case(
            "LinearSARSA",
            rl.LinearSARSA,
            {
                **{
                    "gamma": 0.5,
                    "step_size": 0.5,
                    "explore": explore.EpsilonGreedy(0.5),
                    "lambda_": 0.5,
                    "traces": "dutch",
                },
                **{"tilings": 4, "tiles": 4, "bounds": ((0.0,), (1.0,))},
            },
        ),
        Case("DQN", rl.DQN, DEEP),
        Case("EpsilonGreedy", explore.EpsilonGreedy, {"epsilon": 0.5, "ties": "first"}),
        Case("Greedy", explore.Greedy, {"ties": "first"}),
        Case("Boltzmann", explore.Boltzmann, {"temperature": 0.5}),
        Case("DecayingNoise", explore.DecayingNoise, {"scale": 0.5}),
        Case("UCB", explore.UCB, {"scale": 0.5}),
        Case("Constant", schedules.Constant, {"value": 0.5, "unit": "steps"}),
        Case("Linear", schedules.Linear, {"start": 0.5, "end": 0.25, "horizon": 10, "unit": "episodes"}),
        Case("Linear of a fraction", schedules.Linear, {"start": 0.5, "end": 0.25, "fraction": 0.5}),
        Case("Exponential", schedules.Exponential, {"start": 0.5, "end": 0.25, "horizon": 10, "unit": "episodes"}),
        Case(
            "Inverse",
            schedules.Inverse,
            {"start": 0.5, "end": 0.25, "every": 3, "offset": 0.5, "power": 0.5, "stairs": True, "unit": "visits"},
        ),
        Case("as_schedule", schedules.as_schedule, {"value": 0.5}),
        Case("Shift", supervised.augment.Shift, {"pixels": 2}),
        Case("Affine", supervised.augment.Affine, {"degrees": 0.5, "scale": 0.5, "shear": 0.5, "shift": 0.5}),
        Case("Noise", supervised.augment.Noise, {"std": 0.5}),
        Case(
            "Recipe",
            supervised.Recipe,
            {
                **{
                    "epochs": 2,
                    "batch_size": 5,
                    "loss": "mse",
                    "optimizer": "SGD",
                    "optimizer_options": {"momentum": 0.5},
                },
                **{
                    "learning_rate": 0.5,
                    "schedule": "StepLR",
                    "schedule_options": {"step_size": 2},
                    "weight_decay": 0.5,
                },
                **{"clip_norm": 0.5, "bptt_steps": 3, "label_smoothing": 0.5, "patience_epochs": 2, "keep_best": True},
                **{"augment": (), "freeze": (), "precision": "fp32", "stop_if_diverging": True},
                **{"metrics": {"off": supervised.losses.mse}, "class_weights": (0.5, 2.0)},
            },
        ),
    ]
    return found


def training() -> list[Case]:
    seeds = {"seeds": 2}
    return [
        Case(
            "train",
            lambda **k: rl.train(**k),
            {
                **{"env": "FrozenLake-v1", "agent": rl.QLearning(), "steps": 20, "seeds": 2, "envs_per_seed": 2},
                **{"workers": 1, "device": "cpu", "logdir": None, "resume": False, "progress": False, "env_kwargs": {}},
                **{"log_every_steps": 10, "evaluate_every_steps": 10, "save_every_steps": 10, "videos": False},
            },
            ("steps",),
        ),
        Case(
            "start",
            rl.start,
            {
                **{"env": "CartPole-v1", "description": rl.DQN(), "seeds": 2, "steps": 20, "envs_per_seed": 2},
                **{"workers": 1, "device": "cpu", "env_kwargs": {}},
            },
        ),
        Case(
            "start of a table", rl.start, {"env": "Taxi-v4", "description": rl.SARSA(), "seeds": 2, "envs_per_seed": 2}
        ),
        Case(
            "load",
            rl.load,
            {
                "path": saved("deep"),
                "env": "CartPole-v1",
                "network": None,
                "mask": None,
                "env_kwargs": {},
                "workers": 1,
                "device": "cpu",
            },
        ),
        Case("load_policy", rl.load_policy, {"path": saved("deep") + ".policy", "network": None, "mask": None}),
        Case("presets", rl.presets, {"env": "CartPole-v1"}),
        Case("register", rl.register, {"kind": rl.DQN}),
        *(Case(f"advance {k}", run(k).advance, {"steps": 6}, ("steps",)) for k in ("table", "deep", "tiles")),
        *(Case(f"evaluate {k}", run(k).evaluate, {"episodes": 2, "step_limit": 5}) for k in ("table", "deep", "tiles")),
        Case("interval", run("table").evaluate(2).interval, {"level": 0.5}),
        *(Case(f"policy {k}", run(k).policy, {"seed": 1}) for k in ("table", "deep", "tiles")),
        *(
            Case(f"save {k}", lambda path, k=k: run(k).save(path), {"path": str(FOLDER / "again.safetensors")})
            for k in ("table", "deep", "tiles")
        ),
        *(
            Case(
                f"predict {k}",
                run(k).policy().predict,
                {"obs": obs, "state": None, "episode_start": None, "deterministic": True},
            )
            for k, obs in (("table", 3), ("deep", np.zeros(4)), ("tiles", np.zeros(2)))
        ),
        Case(
            "predict with a mask", run("deep").policy().predict, {"obs": np.zeros(4), "action_masks": np.ones(2, bool)}
        ),
        *(
            Case(f"policy.q {k}", run(k).policy().q, {"obs": obs})
            for k, obs in (("table", 3), ("deep", np.zeros(4)), ("tiles", np.zeros(2)))
        ),
        Case("policy.save", run("table").policy().save, {"path": str(FOLDER / "p.safetensors")}),
        Case(
            "TablePolicy",
            rl.TablePolicy,
            {
                "table": np.zeros((5, 2)),
                "observation_space": gym.spaces.Discrete(5),
                "action_space": gym.spaces.Discrete(2),
                "seed": 1,
                "explore": 0,
                "level": 0.5,
            },
        ),
        Case(
            "NetworkPolicy",
            rl.NetworkPolicy,
            {
                **{"config": rl.DQN(network="mlp(8)"), "weights": _weights(), "observation_space": CARTPOLE},
                **{"action_space": gym.spaces.Discrete(2), "seed": 1, "explore": 0, "level": 0.5},
            },
        ),
        *(
            Case(
                f"build {type(agent).__name__}",
                agent.build,
                {"observation_space": space, "action_space": gym.spaces.Discrete(2), **seeds, "device": "cpu"},
            )
            for agent, space in (
                (rl.QLearning(), gym.spaces.Discrete(5)),
                (rl.DQN(), CARTPOLE),
                (rl.LinearSARSA(), CARTPOLE),
            )
        ),
    ]


def _weights() -> Any:
    agent = rl.DQN(network="mlp(8)").build(CARTPOLE, gym.spaces.Discrete(2), 1)
    return agent.weights_of(0)


def parts() -> list[Case]:
    q = torch.zeros(N, E, A)
    mask = torch.ones(N, E, A, dtype=torch.bool)
    step = world().step(torch.zeros(N, E, dtype=torch.int64))
    good = batch()._asdict()
    return [
        Case("deep.q", deep().q, {"obs": torch.zeros(N, 4, 4)}),
        Case("deep.update", deep().update, {"batch": batch(), "measured": True}),
        Case("deep.update of parts", lambda **k: deep().update(rl.Batch(**k)), good),
        Case(
            "deep.set_learning_rate",
            deep().set_learning_rate,
            {"curve": schedules.Constant(0.001).curve(10), "step": 3},
        ),
        Case("deep.load_state_dict", deep().load_state_dict, {"saved": deep().state_dict()}),
        Case("deep.load_seed_weights", deep().load_seed_weights, {"weights": deep().weights_of(0)}),
        Case("deep.weights_of", deep().weights_of, {"k": 1}),
        Case("deep.allowed", deep().allowed, {"obs": torch.zeros(N, E, 4), "mask": mask}),
        Case("deep.encode", deep().encode, {"obs": torch.zeros(N, 4, 4)}),
        Case("table.q", table().q, {"obs": torch.zeros(N, 4, dtype=torch.int64)}),
        Case("table.update", table().update, {"batch": rows()}),
        Case("table.update of parts", lambda **k: table().update(rl.Batch(**k)), rows()._asdict()),
        Case("table.load_state_dict", table().load_state_dict, {"state": table().state_dict()}),
        Case("tiles.q", tiles().q, {"obs": torch.zeros(N, 4, 4)}),
        Case("tiles.load_state_dict", tiles().load_state_dict, {"state": tiles().state_dict()}),
        Case(
            "Replay",
            rl.Replay,
            {"world": world(), "capacity_steps": 50, "n_step": 2, "gamma": 0.5, "priority_exponent": 0.5},
        ),
        Case(
            "replay.add", replay().add, {"obs": step.obs, "action": torch.zeros(N, E, dtype=torch.int64), "step": step}
        ),
        Case(
            "replay.add of a step's parts",
            lambda **k: replay().add(step.obs, torch.zeros(N, E, dtype=torch.int64), step._replace(**k)),
            {name: part for name, part in step._asdict().items() if name not in ("obs", "mask")},
        ),
        Case("replay.sample", replay().sample, {"batch_size": 4, "streams": streams(), "exponent": 0.5}),
        Case("replay.sample by priority", replay(0.5).sample, {"batch_size": 4, "streams": streams(), "exponent": 0.5}),
        Case(
            "replay.update_priorities",
            lambda **k: replay(0.5).update_priorities(**k),
            {"index": replay(0.5).sample(4, streams()).index, "td_error": torch.ones(N, 4)},
        ),
        Case("replay.begin_anew", replay().begin_anew, {"rows": np.zeros(N * E, bool)}),
        Case("replay.priorities", replay(0.5).priorities, {"k": 1}),
        Case("replay.latest", replay().latest, {"count": 3}),
        Case("replay.age", replay().age, {"index": replay().sample(4, streams()).index}),
        Case("replay.load_state_dict", replay().load_state_dict, {"state": replay().state_dict()}),
        Case("explore.greedy", explore.greedy, {"q": q, "streams": streams(), "mask": mask}),
        Case(
            "explore.epsilon_greedy",
            explore.epsilon_greedy,
            {"q": q, "epsilon": 0.5, "streams": streams(), "mask": mask, "random_ties": True},
        ),
        Case("explore.boltzmann", explore.boltzmann, {"q": q, "temperature": 0.5, "streams": streams(), "mask": mask}),
        Case("explore.noisy_greedy", explore.noisy_greedy, {"q": q, "scale": 0.5, "streams": streams(), "mask": mask}),
        Case(
            "explore.select_actions",
            explore.select_actions,
            {
                "kind": 0,
                "q": q,
                "level": torch.full((N, E), 0.5, dtype=torch.float64),
                "streams": streams(),
                "mask": None,
                "random_ties": True,
            },
        ),
        Case("world.step", world().step, {"actions": torch.zeros(N, E, dtype=torch.int64)}),
        Case("world.load_state_dict", world().load_state_dict, {"state": world().state_dict()}),
    ]


def pure() -> list[Case]:
    r, q = torch.zeros(N, 4), torch.zeros(N, 4, A)
    one, lake = torch.ones(N, 4), model()
    policy = np.zeros(16, np.int64)
    maze = envs.read_partial(gym.make("envs/TMaze-v0", length=2))
    return [
        Case("targets.q_learning", targets.q_learning, {"reward": r, "discount": one, "next_q": q, "next_mask": None}),
        Case(
            "targets.double_q",
            targets.double_q,
            {"reward": r, "discount": one, "next_q_value": q, "next_q_selector": q, "next_mask": None},
        ),
        Case(
            "targets.expected_sarsa",
            targets.expected_sarsa,
            {"reward": r, "discount": one, "next_q": q, "probability": q},
        ),
        Case("targets.n_step", targets.n_step, {"reward": r, "discount": one, "next_value": torch.zeros(N)}),
        Case(
            "targets.lambda_return",
            targets.lambda_return,
            {"reward": r, "discount": one, "ended": r.bool(), "next_value": r, "lambda_": 0.5},
        ),
        *(
            Case(f"losses.{f.__name__}", f, {"error": r})
            for f in (losses.squared, losses.squared_grad, losses.huber, losses.huber_grad)
        ),
        Case("losses.select", losses.select, {"values": q, "action": torch.zeros(N, 4, dtype=torch.int64)}),
        Case(
            "losses.scatter_to_action",
            losses.scatter_to_action,
            {"slope": r, "values": q, "action": torch.zeros(N, 4, dtype=torch.int64)},
        ),
        Case("planning.backup", planning.backup, {"model": lake, "v": np.zeros(16), "gamma": 0.5, "reward": None}),
        Case(
            "planning.value_iteration",
            planning.value_iteration,
            {"model": lake, "gamma": 0.5, "tolerance": 0.5, "epsilon": 0.5},
        ),
        Case("planning.policy_iteration", planning.policy_iteration, {"model": lake, "gamma": 0.5}),
        Case("planning.gauss_seidel", planning.gauss_seidel, {"model": lake, "gamma": 0.5, "tolerance": 0.5}),
        Case(
            "planning.asynchronous",
            planning.asynchronous_value_iteration,
            {"model": lake, "gamma": 0.5, "seed": 3, "tolerance": 0.5},
        ),
        Case(
            "planning.modified",
            planning.modified_policy_iteration,
            {"model": lake, "gamma": 0.5, "evaluations": 3, "tolerance": 0.5},
        ),
        Case(
            "planning.relative",
            planning.relative_value_iteration,
            {"model": envs.read(gym.make("envs/AccessControl-v0")), "tolerance": 0.5},
        ),
        Case("planning.gain", planning.gain, {"model": lake, "policy": policy}),
        Case(
            "planning.evaluate_policy",
            planning.evaluate_policy,
            {"model": lake, "policy": policy, "gamma": 0.5, "horizon": 3, "reward": None},
        ),
        Case(
            "planning.evaluate_policy for ever",
            planning.evaluate_policy,
            {"model": lake, "policy": policy, "gamma": 0.5, "reward": None},
        ),
        Case("planning.optimum_within", planning.optimum_within, {"model": lake, "horizon": 3, "gamma": 0.5}),
        Case("planning.at_start", planning.at_start, {"model": lake, "v": np.zeros(16)}),
        Case("belief.belief_model", belief.belief_model, {"partial": maze, "horizon": 9, "most": 50}),
        Case("belief.best_return", belief.best_return, {"partial": maze, "horizon": 9, "most": 50}),
        Case("belief.memoryless", belief.memoryless_returns, {"partial": maze, "policies": [1, 1, 1, 0], "horizon": 9}),
        Case("belief.best_memoryless", belief.best_memoryless, {"partial": maze, "horizon": 9, "seconds": 1.0}),
        Case("belief.worth_of_memory", belief.worth_of_memory, {"partial": maze, "horizon": 9, "seconds": 1.0}),
        Case("networks.parse", networks.parse, {"network": "mlp(8)"}),
        Case("networks.check", networks.check, {"network": "mlp(8)"}),
        Case(
            "networks.make", networks.make, {"network": "mlp(8)", "space": CARTPOLE, "outputs": 2, "channels": "auto"}
        ),
        Case("networks.nature", networks.nature, {"shape": (4, 36, 36), "outputs": 2}),
        Case("networks.on_trunk", networks.on_trunk, {"trunk": torch.nn.Flatten(), "channels": "auto"}),
        Case("networks.Dueling", lambda x: networks.Dueling()(x), {"x": torch.zeros(2, 3)}),
    ]


def environments() -> list[Case]:
    return [
        Case("envs.make", envs.make, {"env": "CartPole-v1", "seeds": 2, "envs_per_seed": 2, "env_kwargs": {}}),
        Case("envs.source", envs.source, {"env": "CartPole-v1", "env_kwargs": {}}),
        Case("envs.read", envs.read, {"env": gym.make("FrozenLake-v1")}),
        Case("envs.seeds_of", envs.seeds_of, {"seeds": 3}),
        Case("envs.exact_q", envs.exact_q, {"name": "Chain", "gamma": 0.5}),
        Case("envs.exact_textbook_q", envs.exact_textbook_q, {"name": "DynaMaze", "gamma": 0.5, "changed": True}),
        Case("envs.read_partial", envs.read_partial, {"env": gym.make("envs/TMaze-v0")}),
        Case("TMaze", envs.memory.t_maze, {"length": 3}),
        Case("MemoryChain", envs.memory.MemoryChain, {"length": 3}),
        Case("RepeatPrevious", envs.memory.RepeatPrevious, {"k": 2, "suits": 2, "copies": 3}),
        Case("RepeatFirst", envs.memory.RepeatFirst, {"suits": 2, "copies": 3}),
        Case("Components", envs.views.Components, {"env": gym.make("CartPole-v1"), "keep": (0,), "scale": (2.0,)}),
        Case("Window", envs.views.Window, {"env": gym.make("FrozenLake-v1")}),
        Case("envs.TableEnv", envs.TableEnv, {"P": {0: {0: [(1.0, 0, 1.0, True)]}}, "start": [1.0]}),
        Case(
            "blocking maze",
            envs.mazes.blocking_maze,
            {"change_after": 5},
        ),
    ]


def models() -> list[Case]:
    return [
        Case(
            "MLP",
            supervised.MLP,
            {
                **{"inputs": 3, "outputs": 2, "widths": (4, 4), "activation": "relu", "init": "he", "norm": "batch"},
                **{"dropout": 0.5, "loss": "mse"},
            },
        ),
        Case(
            "CNN",
            supervised.CNN,
            {
                **{
                    "shape": (1, 8, 8),
                    "outputs": 2,
                    "channels": (3, 3),
                    "block": "plain",
                    "kernel": 3,
                    "stride": 1,
                    "padding": 1,
                },
                **{
                    "pool": "max",
                    "global_pool": "max",
                    "widths": (4,),
                    "activation": "relu",
                    "init": "he",
                    "norm": True,
                },
                **{"bias": True, "dropout": 0.5, "dense_dropout": 0.5, "loss": "mse"},
            },
        ),
        Case(
            "RNN",
            supervised.RNN,
            {
                **{"inputs": 3, "outputs": 3, "hidden": 4, "cell": "gru", "shape": "sequence-to-sequence", "layers": 2},
                **{"steps": 3, "embedding": 2, "dropout": 0.5, "init": "he", "loss": "mse"},
            },
        ),
        Case(
            "RNN before",
            supervised.RNN,
            {"inputs": 3, "outputs": 3, "hidden": 4, "cell": "gru", "before": torch.nn.Linear(2, 3)},
        ),
        Case(
            "Followed",
            supervised.models.rnn.Followed,
            {"network": supervised.RNN(3, 3, 4), "behind": torch.nn.Linear(3, 2)},
        ),
        Case("LinearRegression", supervised.LinearRegression, {"inputs": 3, "outputs": 2, "bias": True, "init": "he"}),
        Case(
            "LogisticRegression", supervised.LogisticRegression, {"inputs": 3, "outputs": 2, "bias": True, "init": "he"}
        ),
        Case(
            "SoftmaxRegression", supervised.SoftmaxRegression, {"inputs": 3, "classes": 2, "bias": True, "init": "he"}
        ),
        Case("Model", supervised.Model, {"trunk": torch.nn.Flatten(), "head": torch.nn.Linear(3, 2), "loss": "mse"}),
        Case(
            "conv_output",
            supervised.shapes.conv_output,
            {"size": 9, "filter": 3, "stride": 1, "padding": 1, "dilation": 1, "floor": True},
        ),
        Case(
            "pool_output",
            supervised.shapes.pool_output,
            {"size": 9, "window": 3, "stride": 3, "padding": 0, "ceil": True},
        ),
        Case(
            "layer_table",
            supervised.shapes.layer_table,
            {"model": torch.nn.Linear(3, 2), "shape": (3,), "dtype": torch.float32},
        ),
        Case(
            "table_text",
            supervised.shapes.table_text,
            {"rows": supervised.shapes.layer_table(torch.nn.Linear(3, 2), (3,))},
        ),
        Case(
            "free_running",
            supervised.models.rnn.free_running,
            {"model": supervised.RNN(3, 3, 4), "first": torch.zeros(1, 2, dtype=torch.int64), "steps": 3},
        ),
    ]


@functools.cache
def fitted() -> Any:
    x = np.linspace(0, 1, 30).reshape(10, 3).astype(np.float32)
    recipe = supervised.Recipe(epochs=1, batch_size=5)
    return supervised.fit(lambda: supervised.LinearRegression(3), (x, x[:, :1]), recipe, seeds=2, progress=False)


@functools.cache
def stack() -> Any:
    return supervised.Stack(lambda: supervised.MLP(3, 2, (4,), loss="mse"), [0, 1])


def reader() -> Any:
    """Return a stack that reads sequences."""
    return supervised.Stack(lambda: supervised.RNN(3, 2, 4, cell="gru"), [0, 1], compiled=True)


def unrolled() -> dict[str, dict[str, Any]]:
    given: dict[str, Any] = {
        "x": torch.zeros(2, 3, 5, 3),
        "state": torch.zeros(2, 1, 3, 4),
        "resets": torch.ones(2, 3, 5) > 0,
    }
    given["lengths"] = [5, 3]
    return {"unroll": given, "unroll_vjp": {**given, "burn_in": 1}}


def fitting() -> list[Case]:
    x = np.linspace(0, 1, 30).reshape(10, 3).astype(np.float32)
    pair = (x, x[:, :1])
    pictures, generator = torch.zeros(2, 5, 5), torch.Generator()
    text = FOLDER / "table.csv"
    text.write_text("a,b\n1,2\n3,4\n")
    y = torch.zeros(N, 4, dtype=torch.int64)
    logits = torch.zeros(N, 4, 3)
    return [
        Case(
            "fit",
            supervised.fit,
            {
                **{"model": lambda: supervised.LinearRegression(3), "data": pair, "validation": 0.5, "seeds": 2},
                **{"recipe": supervised.Recipe(epochs=1, batch_size=5), "device": "cpu", "threads": 1, "logdir": None},
                **{
                    "compiled": True,
                    "resume": False,
                    "progress": False,
                    "log_every_epochs": 1,
                    "look_every_epochs": 1,
                    "save_every_epochs": 1,
                },
            },
        ),
        Case(
            "supervised.load",
            supervised.load,
            {"path": _fit_folder(), "model": lambda: supervised.LinearRegression(3), "device": "cpu"},
        ),
        *(Case(f"Fit.{name}", getattr(fitted(), name), {"x": x}) for name in ("predict", "probabilities", "ensemble")),
        Case("Fit.evaluate", fitted().evaluate, {"data": pair}),
        Case("Fit.load_state_dict", fitted().load_state_dict, {"state": fitted().state_dict()}),
        Case(
            "Stack",
            supervised.Stack,
            {"make": lambda: supervised.MLP(3, 2, (4,)), "seeds": 2, "device": "cpu", "compiled": True},
        ),
        Case(
            "Stack.of",
            lambda **k: supervised.Stack.of(**k),
            {"modules": [torch.nn.Linear(2, 2)], "seeds": [3], "device": "cpu", "compiled": True},
        ),
        *(Case(f"stack.{name}", getattr(reader(), name), arguments) for name, arguments in unrolled().items()),
        Case("stack()", stack(), {"x": torch.zeros(N, 4, 3)}),
        Case("stack.vjp", stack().vjp, {"x": torch.zeros(N, 4, 3)}),
        Case("pull back", stack().vjp(torch.zeros(N, 4, 3))[1], {"gradient": torch.zeros(N, 4, 2)}),
        Case("stack.member", stack().member, {"seed": 1}),
        Case("stack.train", stack().train, {"mode": True}),
        Case("stack.load_state_dict", stack().load_state_dict, {"state": stack().state_dict()}),
        Case("stack.load_random_state", stack().load_random_state, {"state": stack().random_state()}),
        Case("stack.groups", stack().groups, {"learning_rate": 0.5}),
        Case("chrono", supervised.chrono, {"module": torch.nn.GRU(2, 3), "longest_steps": 9}),
        Case("clip_per_seed", supervised.clip_per_seed, {"stack": stack(), "max_norm": 0.5}),
        Case(
            "optimizer", supervised.optimizer, {"stack": stack(), "name": "SGD", "learning_rate": 0.5, "momentum": 0.5}
        ),
        Case("Streams", supervised.Streams, {"seeds": 2, "purpose": "agent"}),
        Case("streams.uniform", lambda size: streams().uniform(size), {"size": 3}),
        Case("streams.normal", lambda size: streams().normal(size), {"size": 3}),
        Case("streams.integers", streams().integers, {"high": 3}),
        Case("streams.load_state_dict", streams().load_state_dict, {"state": streams().state_dict()}),
        Case("data.as_data", supervised.data.as_data, {"data": pair, "name": "The data"}),
        Case(
            "data.split",
            lambda data, share, **k: supervised.data.split(data, share, **k),
            {"data": pair, "share": 0.5, "seed": 3, "shuffle": True},
        ),
        Case("data.scale", supervised.data.scale, {"how": "standard", "train": x}),
        Case("data.read_csv", supervised.data.read_csv, {"path": text, "names": None}),
        Case("data.windows", supervised.data.windows, {"series": x, "length": 3, "target": None, "ahead": 1}),
        Case("data.Characters", supervised.data.Characters, {"text": "hello"}),
        Case("Characters.encode", supervised.data.Characters("hello").encode, {"text": "hell"}),
        Case("Characters.decode", supervised.data.Characters("hello").decode, {"numbers": torch.tensor([0, 1])}),
        Case("Characters.one_hot", supervised.data.Characters("hello").one_hot, {"text": "hell"}),
        Case("data.next_characters", supervised.data.next_characters, {"text": "hello", "length": 2}),
        Case("Table.columns", lambda name: supervised.data.read_csv(text).columns(name), {"name": "a"}),
        *(
            Case(f"augment {type(a).__name__}", a, {"x": pictures, "generator": generator})
            for a in (supervised.augment.Shift(), supervised.augment.Affine(), supervised.augment.Noise())
        ),
        *(
            Case(f"losses.{f.__name__}", f, {"prediction": torch.zeros(N, 4), "target": torch.ones(N, 4)})
            for f in (supervised.losses.mse, supervised.losses.huber)
        ),
        Case(
            "losses.binary",
            supervised.losses.binary_cross_entropy,
            {"logit": torch.zeros(N, 4), "target": torch.ones(N, 4)},
        ),
        Case(
            "losses.cross_entropy", supervised.losses.cross_entropy, {"logits": logits, "target": y, "smoothing": 0.5}
        ),
        Case("losses.per_seed", supervised.losses.per_seed, {"loss": torch.zeros(N, 4), "counts": None}),
        Case(
            "metrics.correct", supervised.metrics.correct, {"prediction": logits, "target": y, "loss": "cross_entropy"}
        ),
        Case(
            "metrics.probabilities", supervised.metrics.probabilities, {"prediction": logits, "loss": "cross_entropy"}
        ),
        Case("statistics.interval", supervised.statistics.interval, {"values": [1.0, 2.0], "level": 0.5}),
        Case("statistics.describe", supervised.statistics.describe, {"values": [1.0, 2.0], "level": 0.5, "digits": 3}),
        Case("statistics.aggregate", supervised.statistics.aggregate, {"metrics": {"a": [1.0, 2.0]}, "bands": ("a",)}),
    ]


@functools.cache
def _fit_folder() -> str:
    x = np.linspace(0, 1, 30).reshape(10, 3).astype(np.float32)
    recipe = supervised.Recipe(epochs=1, batch_size=5)
    folder = str(FOLDER / "fit")
    supervised.fit(
        lambda: supervised.LinearRegression(3), (x, x[:, :1]), recipe, seeds=2, progress=False, logdir=folder
    )
    return folder


GROUPS = {f.__name__: f for f in (descriptions, training, parts, pure, environments, models, fitting)}
