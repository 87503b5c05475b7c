"""The settings of agents as flags: read, checked before anything is said, and offered where the agent can act."""

import importlib
import json

import pytest
from helpers import ROOT, run_in_process

LAKE = ("--steps", 200, "--seeds", 2, "--logdir", "run")


def agent_of(folder):
    return json.loads((folder / "run" / "result.json").read_text())["configuration"]["agent"]


def test_settings_are_flags(tmp_path):
    words = ("--agent", "sarsa-lambda", "--lambda", ".5", "--step-size=linear(1,.05,.1)", "--epsilon", ".25")
    out = run_in_process("train_frozenlake.py", *words, *LAKE, "--set", "count_bonus=.5", cwd=tmp_path).stdout
    agent = agent_of(tmp_path)
    assert (agent["lambda_"], agent["count_bonus"]) == (0.5, 0.5)
    assert agent["step_size"] | {"type": "Linear", "fraction": 0.1} == agent["step_size"]
    assert agent["explore"]["epsilon"] == 0.25
    assert "steps/s, the sum of 2 seeds" in out


def test_flags_and_set_say_the_same(tmp_path):
    shown = [
        run_in_process("train.py", "CartPole-v1", "--show-settings", *words, cwd=tmp_path).stdout
        for words in (
            ("--no-double", "--n-step", 4, "--network", "mlp(8)", "--learning_rate", "exponential(.1,.01)"),
            ("--set", "double=False", "n_step=4", "network=mlp(8)", "learning-rate=exponential(.1,.01)"),
        )
    ]
    assert shown[0] == shown[1]
    assert all(words in shown[0] for words in ("exponential(0.1, 0.01)", "mlp(8)"))


def test_a_flag_that_is_not_given_leaves_what_was_tuned(tmp_path):
    """Also where the environment does not come first, so that the defaults that the help shows are others."""
    out = run_in_process("train.py", "--show-settings", "--gamma", ".5", "Acrobot-v1", cwd=tmp_path).stdout
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in out.splitlines() if line.count("│") > 3}
    assert (rows["double"], rows["gamma"], rows["n_step"]) == ("True", "0.5", "3")


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("train_frozenlake.py", ("--learning-rate", "1"), "--learning-rate is not a setting of q-learning, but of q-network"),
        ("train_frozenlake.py", ("--step-sise", "1"), "There is no flag --step-sise. Did you mean --step-size?"),
        ("train_frozenlake.py", ("--no-double",), "--no-double is not a setting of q-learning, but of q-network"),
        ("train_frozenlake.py", ("--gamma", ".9", "--set", "gamma=.8"), "gamma is given twice"),
        ("train_frozenlake.py", ("--epsilon", "2"), "epsilon must lie in [0, 1], not 2"),
        ("train_frozenlake.py", ("--step-size", "linear(1,.05"), "'linear(1,.05' lacks a comma"),
        ("train_frozenlake.py", ("--agent", "q-lerning"), "Did you mean 'q-learning'?"),
        ("train_frozenlake.py", ("--agent", "r-learning"), "There is no agent 'r-learning'"),
        ("train.py", ("CartPole-v1", "--agent", "q-learning"), "Agents that can act there: q-network, dqn-2013"),
        ("train.py", ("FrozenLake-v1", "--agent", "linear-sarsa"), "Agents that can act there: q-learning, double-q"),
        ("train.py", ("FrozenLake-v1", "--agent", "r-learning"), "episodes of FrozenLake-v1 can terminate. Agents that can act"),
        ("train.py", ("Pendulum-v1",), "No agent can act there."),
        ("train.py", ("CartPole-v1", "--seeds", "1", "1"), "more than once"),
        ("train.py", ("CartPole-v1", "--network", "mpl(8)"), "Did you mean 'mlp'?"),
        ("train.py", ("CartPole-v1", "--logdir", "file"), "is a file"),
        ("train.py", ("CartPole-v1", "--wrap", "FrameStackObservatio"), "Did you mean 'FrameStackObservation'?"),
        ("train.py", ("CartPole-v1", "--wrap", "FrameStackObservation:4"), "'4' is no name=value"),
        ("train.py", ("CartPole-v1", "--wrap", "FlattenObservation", "--agent", "sarsa"), "Agents that can act there: q-net"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_else(script, words, said, tmp_path):
    (tmp_path / "file").write_text("")
    done = run_in_process(script, *words, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_taken_is_found_before_anything_is_announced(tmp_path):
    run_in_process("train_frozenlake.py", *LAKE, cwd=tmp_path)
    again = run_in_process("train_frozenlake.py", *LAKE, cwd=tmp_path, check=False)
    assert again.stdout == ""
    assert "already contains a run" in again.stderr


def test_help_lists_the_settings_of_the_agent_with_their_lines(tmp_path):
    out = " ".join(run_in_process("train.py", "CartPole-v1", "--agent", "dqn", "--help", cwd=tmp_path).stdout.split())
    for words in ("--target-every-updates", "--double, --no-double", "Rewards that are summed before", "--epsilon X"):
        assert words in out
    assert "--mask" not in out
    assert "linear-sarsa" not in out  # which cannot act there
    assert "munchausen-dqn" in out
    lake = run_in_process("train_frozenlake.py", "--agent", "dyna-q", "--help", cwd=tmp_path).stdout
    assert "--planning-steps" in lake


def test_wrappers_by_name(tmp_path):
    words = (
        "--wrap",
        "NormalizeObservation",
        "FrameStackObservation:stack_size=3,padding_type=zero",
        "--network",
        "mlp(4)",
    )
    run = ("--steps", 60, "--seeds", 1, "--episodes", 1, "--learn-after-steps", 20, "--no-compiled")
    out = run_in_process("train.py", "CartPole-v1", *words, *run, cwd=tmp_path).stdout
    assert "best in CartPole-v1 with NormalizeObservation, FrameStackObservation:stack_size=3" in out
    (folder,) = (tmp_path / "runs").glob("*/*")
    wrappers = json.loads((folder / "result.json").read_text())["configuration"]["env"]["wrappers"]
    assert wrappers[1] == ["FrameStackObservation", {"stack_size": 3, "padding_type": "zero"}]
    assert "by episodes" in run_in_process("evaluate.py", folder, "--episodes", 1, cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "default"),
        (("--agent", "sarsa"), "sarsa"),
        (("--agent=sarsa", "--seeds", "3"), "sarsa"),
        (("--agent",), ""),
    ],
)
def test_a_flag_is_found_among_any_words_none_included(words, said, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    flags = importlib.import_module("cli.flags")
    assert flags.named(words, "agent", "default") == said
