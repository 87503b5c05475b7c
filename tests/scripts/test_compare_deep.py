"""scripts/compare.py deep: one table of deep agents, whose cells are not trained twice."""

import dataclasses
import importlib
import io
import json

import gymnasium as gym
import pytest
from helpers import ROOT, run_in_process
from rich.console import Console

import rl
from rl.core import registry
from supervised import checkpoint
from supervised.session import RUN

TINY = [
    *("deep", "--steps", 300, "--seeds", 2, "--first-seed", 100),
    *("--workers", 1, "--episodes", 2, "--logdir", "run"),
]


@pytest.fixture
def deep(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("comparisons.deep")


def results(folder):
    return json.loads((folder / "result.json").read_text())["cells"]


def result(env, agent, values, steps, **changed):
    config = importlib.import_module("comparisons.deep").Cell(env, steps, agent).config
    settings = dataclasses.replace(config, **changed)
    seeds = {str(20 + i): value for i, value in enumerate(values)}
    summary = {
        "per_seed": seeds,
        "mean": sum(values) / len(values),
        "interval_95": [0.0, 0.0],
        "possible": [0.0, 500.0],
    }
    return {
        "env": env, "steps": steps, "agent": agent, "settings": registry.to_json(settings), "episodes": 100, "return": summary,
    }  # fmt: skip


def test_what_is_done_is_not_done_again(tmp_path):
    agents = ("--agents", "q-network", "c51", "--envs", "CartPole-v1")
    run_in_process("compare.py", *TINY, *agents, cwd=tmp_path)
    first = results(tmp_path / "run")
    assert [one["agent"] for one in first] == ["q-network", "c51"]
    assert all(list(one["return"]["per_seed"]) == ["100", "101"] for one in first)
    assert first[1]["settings"]["distribution"]["type"] == "Atoms"
    cell = tmp_path / "run" / "CartPole-v1-300" / "c51"
    (cell / "result.json").unlink()  # killed before it was judged
    again = run_in_process("compare.py", *TINY, *agents, "--resume", cwd=tmp_path)
    assert again.stdout.count("already finished") == 1
    assert [one["return"] for one in results(tmp_path / "run")] == [one["return"] for one in first]
    before = (tmp_path / "run" / "result.json").read_bytes()
    last = run_in_process("compare.py", *TINY, *agents, "--resume", cwd=tmp_path)
    assert last.stdout.count("already finished") == 2
    assert "result.json is unchanged" in last.stdout
    assert (tmp_path / "run" / "result.json").read_bytes() == before


def test_what_was_interrupted_goes_on_from_its_checkpoint(deep, tmp_path):
    cell, seeds = deep.Cell("CartPole-v1", 300, "q-network"), range(100, 102)
    whole = deep.measure(cell, seeds, 1, 2, tmp_path / "whole")
    run = rl.start(cell.env, cell.config, seeds, steps=cell.steps)
    rl.train(run, steps=150, logdir=tmp_path / "parted", progress=False)
    assert deep.measure(cell, seeds, 1, 2, tmp_path / "parted")["return"] == whole["return"]
    assert checkpoint.load(tmp_path / "parted" / RUN)[1]["step"] == 300


def test_an_environment_that_cannot_be_made_is_left_out(tmp_path):
    def lacking():
        raise gym.error.DependencyNotInstalled("Box2D is not installed")

    gym.register("Lacking-v0", lacking)
    try:
        words = [*TINY, "--agents", "q-network", "--envs", "Lacking-v0", "CartPole-v1"]
        done = run_in_process("compare.py", *words, cwd=tmp_path)
        alone = run_in_process(
            "compare.py", *TINY, "--resume", "--agents", "q-network", "--envs", "Lacking-v0", cwd=tmp_path, check=False
        )
    finally:
        del gym.registry["Lacking-v0"]
    assert "Lacking-v0 is skipped" in done.stdout
    assert "Box2D is not installed" in done.stdout
    assert [one["env"] for one in results(tmp_path / "run")] == ["CartPole-v1"]
    assert alone.returncode == 1
    assert "No agent could be trained" in alone.stderr


@pytest.mark.filterwarnings("ignore:The Q-values of seed:RuntimeWarning")
def test_a_divergence_is_a_result(deep, tmp_path):
    console, shown = (
        Console(file=io.StringIO(), width=200),
        "At environment step 414: Seed 24: the gradient of update 414",
    )
    cell, seeds = deep.Cell("Acrobot-v1", 700, "q-network"), range(23, 25)
    for said in ("s)", "(already finished)"):
        (found,) = deep.fill([cell], seeds, 1, 2, tmp_path, console)
        assert found["diverged"] == f"{shown} is NaN or infinite."
        assert console.file.getvalue().strip().endswith(said)
    assert deep.merged([], [found]) == [found]
    assert deep.seeds_of(found) == [23, 24]
    deep.show([found], console)
    whole = {**found, "seeds": list(deep.SEEDS), "steps": 100_000, "episodes": deep.EPISODES}
    text = deep.page([whole], [deep.Bar(deep.Cell("Acrobot-v1", 100_000, "q-network"), "-", -80.0)])
    assert "| `q-network` |  | diverged |  |  |" in text
    assert "| mean -80 | diverged | missed |  |" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--agents", "c52"), "There is no deep agent 'c52'. Did you mean 'c51'?"),
        (("--agents", "sarsa"), "There is no deep agent 'sarsa'"),
        (("--workers", "0"), "--workers must be a whole number of at least 1, not 0"),
    ],
)
def test_a_table_that_cannot_be_is_told(words, sentence, tmp_path):
    done = run_in_process("compare.py", *TINY, *words, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert sentence in done.stderr


def test_an_agent_that_was_tuned_for_some_environments_has_cells_there_alone(deep):
    chosen = deep.cells(("all",), ("best-c51", "best"), None)
    assert [cell.env for cell in chosen if cell.agent == "best"] == list(deep.ENVS)
    assert deep.Cell("CartPole-v1", 50_000, "best-c51") in chosen
    (long,) = deep.cells(("MountainCar-v0",), ("best-c51-long",), None)
    assert long.steps == 500_000
    with pytest.raises(ValueError, match="no deep agent 'best-c51'"):
        deep.cells(("FrozenLake-v1",), ("best-c51",), None)


def test_the_page_has_every_agent_and_leaves_empty_what_was_not_run(deep):
    values = [500.0] * 9 + [450.0]
    other = result("CartPole-v1", "dqn", values, 50_000) | {"episodes": 5}  # not what the page tells of
    lines = deep.page([result("CartPole-v1", "c51", values, 50_000), other]).splitlines()
    (c51,) = [line for line in lines if line.startswith("| `c51` |")]
    assert c51.startswith("| `c51` | 495.0 [")
    assert c51.endswith(", lowest 450.0 |  |  |  |")
    assert "| `dqn` |  |  |  |  |" in lines
    rows = {line.split("`")[1] for line in lines if line.startswith("| `")}
    assert rows >= {*registry.PRESETS["networks"], "best"} - {"pqn"}
    assert not rows & {"drqn", "pqn", "best-c51-long"}  # the first is recurrent, the others are made for other steps


def test_results_of_other_settings_are_dropped_and_newer_ones_count(deep):
    old, new = (result("CartPole-v1", "c51", [value] * 10, 50_000) for value in (1.0, 2.0))
    stale = result("CartPole-v1", "dqn", [3.0] * 10, 50_000, gamma=0.5)
    other = {"network": "mlp(256,256)", "batch_size": 64, "updates": 128, "target_every_updates": 128}
    gone = {**old, "agent": "an agent of earlier days"}
    zoo = result("CartPole-v1", "double-dqn", [3.0] * 10, 50_000, **other)
    kept = result("CartPole-v1", "qr-dqn", [4.0] * 10, 50_000)
    assert deep.merged([old, stale, gone, zoo, kept], [new]) == [new, kept]


def test_a_bar_is_reached_or_missed_by_a_number(deep):
    bar = deep.Bar(deep.Cell("CartPole-v1", 50_000, "c51"), "500", 490.0, 450.0, "atoms")
    assert bar.verdict([500.0, 480.0]) == "reached"
    assert bar.verdict([500.0, 449.0]) == "missed: mean by 15.5, lowest by 1.0"
    assert dataclasses.replace(bar, lowest=None).verdict([500.0, 480.5]) == "reached"
    text = deep.page([result("CartPole-v1", "c51", [500.0, 460.0] * 5, 50_000)], [bar])
    assert "| CartPole-v1, 50,000 | `c51` | 500 | mean 490, lowest 450 | 480.0 [" in text
    assert text.endswith("| missed: mean by 10.0 | atoms |\n")
    assert deep.page([], [bar]).endswith("| mean 490, lowest 450 | not run |  | atoms |\n")


def test_docs_take_in_what_was_run(deep, tmp_path):
    (tmp_path / "results").mkdir()
    deep.write_docs([result("CartPole-v1", "c51", [500.0] * 10, 50_000)], tmp_path)
    deep.write_docs([result("Acrobot-v1", "c51", [-80.0] * 10, 100_000)], tmp_path)
    cells = json.loads((tmp_path / "results" / "deep.json").read_text())["cells"]
    assert [one["env"] for one in cells] == ["CartPole-v1", "Acrobot-v1"]
    assert "| `c51` | 500.0 [500.0, 500.0], lowest 500.0 | -80.0 [" in (tmp_path / "deep.md").read_text()


@pytest.mark.parametrize(
    ("env", "steps", "updates", "every"), [("CartPole-v1", 256, 64, 64), ("Acrobot-v1", 4, 2, 125)]
)
def test_the_table_of_deep_agents_keeps_the_steps_between_copies(deep, env, steps, updates, every):
    found = deep.Cell(env, 1, "dqn").config
    assert (found.update_every_steps, found.updates, found.target_every_updates) == (steps, updates, every)
    assert (found.network, found.batch_size) == ("mlp(64,64)", 64)
    assert deep.Cell(env, 1, "best").config == rl.presets(env)["best"]
