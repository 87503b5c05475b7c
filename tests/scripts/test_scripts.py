"""The scripts, as a user runs them."""

import json
import signal
import sys
import time

import jobs
import pytest
from daily import daily
from forked import Child
from helpers import ROOT, curves, run_in_process, script
from PIL import Image

import rl
from envs import EnvError
from supervised import determinism


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    out = script(
        "train_frozenlake.py", "--steps", 30_000, "--seeds", 3, "--logdir", folder / "run", "--video", cwd=folder
    ).stdout
    return folder / "run", out


def test_the_main_job_says_and_leaves_what_it_should(lake):
    folder, out = lake
    for words in (
        "best possible  0.744190",
        "best stationary  0.740165",
        "95 % interval",
        "of 3 seeds",
        "steps/s",
        "tensorboard --logdir",
    ):
        assert words in out
    assert any(arrow in out for arrow in "←↓→↑")
    result = json.loads((folder / "result.json").read_text())
    assert list(result["success"]["per_seed"]) == ["0", "1", "2"]
    low, high = result["success"]["interval_95"]
    assert low <= result["success"]["mean"] <= high
    assert result["best_possible"] == pytest.approx(0.744190, abs=1e-6)
    assert result["gap_to_best_possible"] == pytest.approx(result["best_possible"] - result["success"]["mean"])
    assert result["steps"] == 30_000
    assert result["wall_seconds"] > 0
    assert result["steps_per_second"] > 0
    for part in ("configuration", "versions", "commit", "machine", "seeds_near_best_stationary"):
        assert part in result
    assert result["configuration"]["agent"]["gamma"] == 0.99
    assert Image.open(folder / "policy.png").size[0] > 500
    assert Image.open(folder / "episode.gif").n_frames > 1


def test_evaluate_shows_it_again(lake, tmp_path):
    folder, _ = lake
    result = json.loads((folder / "result.json").read_text())
    out = run_in_process(
        "evaluate.py", folder / "run.safetensors", "--episodes", 20, "--render", "ansi", "--seed", 2, cwd=tmp_path
    ).stdout
    assert f"{result['success']['per_seed']['2']:.6f}" in out
    assert "One greedy episode of seed 2" in out
    run_in_process("evaluate.py", folder, "--render", "gif", "--output", "film.gif", cwd=tmp_path)
    assert Image.open(tmp_path / "film.gif").n_frames > 1


@pytest.mark.full  # takes 7 s; test_finished.py
def test_resume_finds_the_newest_and_changes_nothing_when_done(tmp_path):
    words = ("--steps", 20_000, "--seeds", 2)
    script("train_frozenlake.py", *words, cwd=tmp_path)
    (run,) = (tmp_path / "runs").glob("*/*")
    before = (run / "run.safetensors").read_bytes()
    script("train_frozenlake.py", *words, "--resume", cwd=tmp_path)
    assert list((tmp_path / "runs").glob("*/*")) == [run]
    assert len((run / "run.safetensors").read_bytes()) == len(before)


FLAGS = [
    ("--no-is-slippery", "--agent", "lecture-dummy"),
    ("--agent", "lecture-epsilon", "--seeds", "3", "7"),
    ("--agent", "lecture-noise", "--seeds", "5,"),
    ("--agent", "lecture-slippery", "--gamma", "0.9"),
    ("--map-name", "8x8"),
    ("--random-map", "5", "--random-map-seed", "3"),
]


@pytest.mark.parametrize(
    "words", [words if i in (1, 5) else pytest.param(words, marks=pytest.mark.full) for i, words in enumerate(FLAGS)]
)
def test_every_flag(words, tmp_path):
    out = run_in_process("train_frozenlake.py", *words, "--steps", 3000, "--logdir", "run", cwd=tmp_path).stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    expected = {"--agent lecture-epsilon": [3, 7], "--agent lecture-noise": [5]}.get(
        " ".join(words[:2]), list(range(10))
    )
    assert result["seeds"] == expected
    if "--gamma" in words:
        assert result["configuration"]["agent"]["gamma"] == 0.9
    if expected == [5]:
        assert "one seed: no interval" in out
        assert result["success"]["interval_95"] == [None, None]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--steps", "0"), "steps must be a whole number of at least 1, not 0"),
        (("--gamma", "1.5"), "gamma must lie in [0, 1], not 1.5"),
        (("--gamma", "nan"), "finite number"),
        (("--seeds", "1", "1"), "more than once"),
        (("--seeds", "x"), "--seeds takes integers"),
        (("--seeds", "0"), "At least one seed"),
        (("--random-map", "1"), "side length of at least 2"),
        (("--logdir", "file"), "is a file"),
        (("--logdir", "file/below"), "cannot be created"),
    ],
)
def test_bad_input_is_one_sentence_and_no_file(words, sentence, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = run_in_process("train_frozenlake.py", *words, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_evaluate_refuses_what_is_no_run(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"not a checkpoint")
    for name, words in (
        ("bad.safetensors", "not an intact checkpoint"),
        ("none.safetensors", "There is no checkpoint"),
    ):
        done = run_in_process("evaluate.py", name, cwd=tmp_path, check=False)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_help_explains_each_flag(tmp_path):
    out = run_in_process("train_frozenlake.py", "--help", cwd=tmp_path).stdout
    for flag in (
        "map-name",
        "is-slippery",
        "random-map",
        "agent",
        "steps",
        "seeds",
        "gamma",
        "logdir",
        "resume",
        "video",
    ):
        assert f"--{flag}" in out


def test_ctrl_c_then_resume(tmp_path):
    run, output = tmp_path / "run", tmp_path / "output"
    words = ["--steps", "300000000", "--seeds", "2", "--logdir", str(run)]
    child = Child(jobs.script, "train_frozenlake.py", *words, output=output)
    for _ in range(3):  # the first two are from the start, before and after the settings are written
        assert child.checkpoint(), output.read_text()
    child.send(signal.SIGINT)
    assert child.wait() == 130, output.read_text()
    err = output.read_text()
    assert "continue with resume=True (--resume)" in err
    assert "Traceback" not in err
    assert (run / "run.safetensors").exists()


def test_train_py_from_start_to_finish(tmp_path, forked_workers):
    shown = run_in_process(
        "train.py", "CartPole-v1", "--show-settings", "--set", "gamma=.98", "network=mlp(8)", cwd=tmp_path
    ).stdout
    assert all(word in shown for word in ("best in CartPole-v1, 50,000 steps", "mlp(8)", "0.98", "n_step"))
    words = ("CartPole-v1", "--agent", "double-dqn", "--steps", 600, "--seeds", 2, "--episodes", 3, "--logdir", "r")
    small = ("--set", "network=mlp(8)", "update_every_steps=4", "updates=1", "learn_after_steps=100")
    done = run_in_process("train.py", *words, *small, "--workers", 2, "--videos", cwd=tmp_path).stdout
    assert "mean over seeds" in done
    figures = json.loads((tmp_path / "r" / "result.json").read_text())
    assert figures["steps"] == 600
    assert figures["configuration"]["agent"]["double"] is True
    assert figures["return"]["per_seed"].keys() == {"0", "1"}
    found = curves(tmp_path / "r")
    assert found[".", "episode"]
    again = run_in_process("train.py", *words, *small, "--resume", cwd=tmp_path).stdout
    assert "mean over seeds" in again
    assert curves(tmp_path / "r") == found


def test_train_py_says_what_is_wrong(tmp_path):
    for words, said in (
        (("CartPole-v1", "--agent", "double-dqm"), "double-dqn"),
        (("CartPol-v1",), "CartPole"),
        (("CartPole-v1", "--set", "gama=1"), "gamma"),
        (("CartPole-v1", "--set", "gamma"), "name=value"),
        (("Pendulum-v1", "--steps", 10), "Discrete actions"),
        (("CartPole-v1", "--set", "capacity_steps=10000000000000", "--steps", 10), "Use a smaller capacity_steps"),
    ):
        done = run_in_process("train.py", *words, cwd=tmp_path, check=False)
        assert done.returncode == 1, words
        assert said in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("agent", daily(["q-network", "dqn"], ["dqn"]))
def test_networks_on_the_lake(agent, tmp_path):
    done = run_in_process(
        "train_frozenlake.py", "--agent", agent, "--steps", 1200, "--seeds", 2, "--logdir", "r", cwd=tmp_path
    ).stdout
    assert "Exact success probability" in done
    assert (tmp_path / "r" / "policy.png").exists()


def test_benchmark_learning(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from benchmarks import deep as benchmark_deep
    from rich.console import Console

    monkeypatch.setattr(benchmark_deep.tuned, "steps_for", lambda env, agent: 400)
    figures = benchmark_deep.learning("CartPole-v1", "q-network", 2, 1, 3, Console(quiet=True))
    assert figures["settings"]["network"] == "linear"
    assert len(figures["return"]["per_seed"]) == 2
    assert figures["bar"] == 490
    with pytest.raises(ValueError, match="There is no agent"):
        benchmark_deep.learning("CartPole-v1", "none", 2, 1, 3, Console(quiet=True))


def test_a_fall_below_the_published_interval_is_named(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from benchmarks import deep as benchmark_deep
    from rich.console import Console

    page = (ROOT / "docs" / "results.md").read_text()
    found = benchmark_deep.published(page)
    assert found.keys() == benchmark_deep.LEARNING.keys()
    assert found["MountainCar-v0"][0] < found["MountainCar-v0"][1] < -90

    def learning(env, agent, seeds, *rest):
        assert (agent, seeds) == ("best", 10)
        if env == "LunarLander-v3":
            raise EnvError("It lacks a part.")
        low, high = found[env]
        return {"return": {"mean": {"CartPole-v1": low - 0.01, "Acrobot-v1": low}.get(env, high + 1)}}

    monkeypatch.setattr(benchmark_deep, "learning", learning)
    assert benchmark_deep.check(10, 2, 100, Console(quiet=True))["failed"] == ["CartPole-v1", "LunarLander-v3"]


def test_benchmark_recurrent(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from benchmarks import fitting
    from rich.console import Console

    with determinism.threads(1):
        found = fitting.recurrent(2, Console(quiet=True))
    assert found.keys() == {"gru, N = 1", "gru, N = 8", "rnn, N = 1", "rnn, N = 8"}
    for row in found.values():
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert row["torch_ms"] > 0 < row["ours_ms"]


def test_benchmark_r2d2(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from benchmarks import r2d2 as benchmark_r2d2
    from rich.console import Console

    monkeypatch.setattr(benchmark_r2d2, "SEEDS", (1, 2))
    quick = {"learn_after_steps": 100, "batch_size": 2, "update_every_steps": 50}
    monkeypatch.setattr(
        benchmark_r2d2, "SETTINGS", benchmark_r2d2.dataclasses.replace(benchmark_r2d2.SETTINGS, **quick)
    )
    with determinism.threads(1):
        found = benchmark_r2d2.r2d2(1, Console(quiet=True), 200)
    for name in ("N = 1", "N = 2"):
        assert found[name]["ours_s"] > 0 < found[name]["plain_s"]
        assert found[name]["ratio"] == found[name]["plain_s"] / found[name]["ours_s"]


@pytest.mark.full  # takes 6 s
def test_benchmark_deep_in_parts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from benchmarks import deep as benchmark_deep
    from rich.console import Console

    found = benchmark_deep.memory(Console(quiet=True))
    assert found["CartPole, 10 seeds of 1 M steps, GB"] < 0.45
    assert 0.28 < found["the same, measured, GB"] < 0.45
    assert 1 < found["stacked pictures, bytes a stored pixel"] < 1.1
    small = rl.DQN(learn_after_steps=20, batch_size=16, network="mlp(8)")
    assert benchmark_deep.ours(small, 2, 50)() > 0
    time_it = benchmark_deep.shared_out(small, 2, 50, 2)
    assert time_it() > 0


def cuda_figures(folder, *parts):
    words = ("cuda", "--output", folder / "cuda.json", "--parts", *parts)
    child = Child(jobs.script, "benchmark.py", *map(str, words), output=folder / "output")
    status, out = child.wait(270), (folder / "output").read_text()
    assert status == 0, out
    figures = json.loads((folder / "cuda.json").read_text())
    if figures["pretended"]:
        assert "No GPU was found" in out
        assert "per_second" not in json.dumps(figures["parts"])  # no speed is claimed
        assert {bar["held"] for bar in figures["bars"]} == {None}
    assert {"versions", "commit", "machine", "sizes", "note"} < figures.keys()
    for part in figures["parts"].values():
        assert part["status"] == "finished"
        assert part["rows"]
        assert not [row for row in part["rows"].values() if "error" in row], part
    return figures["parts"]


def test_benchmark_cuda_in_its_quickest_parts(tmp_path):
    parts = cuda_figures(tmp_path, 8, 0, 7)
    assert list(parts) == ["0 about", "7 captured", "8 grouped"]
    ((_, row),) = list(parts["8 grouped"]["rows"].items())[:1]
    assert row["largest difference"]["one by one"] == 0
    assert row["largest difference"]["grouped"] < 1e-4
    assert row["largest difference"]["vmap"] < 1e-4
    wrong = run_in_process("benchmark.py", "cuda", "--parts", 11, cwd=tmp_path, check=False)
    assert wrong.returncode == 1
    assert wrong.stderr == "Error: --parts takes numbers from 0 to 8, not 11.\n"


@pytest.mark.full  # takes a minute; part 1 runs tests, which have their own place
def test_benchmark_cuda_as_a_whole(tmp_path):
    parts = cuda_figures(tmp_path, 0, 2, 3, 4, 5, 6, 7, 8)
    assert parts["2 parity"]["rows"]["MLP, float32"]["after 1 updates"]["q"] < 1e-4
    assert parts["5 waits"]["rows"]["update, 64-64, batch 64"]["waits"] == 0


def test_a_part_of_the_benchmark_ends_at_its_deadline_and_an_error_in_its_row(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from benchmarks import cuda as benchmark

    def rows(m):
        yield "first", lambda: {"found": m}
        yield "second", lambda: 1 / 0
        yield "third", lambda: time.sleep(60)
        yield "fourth", lambda: {}

    found = benchmark.carry_out(benchmark.Part(1, rows, "words"), 7, 0.2)
    assert found["rows"] == {"first": {"found": 7}, "second": {"error": "ZeroDivisionError: division by zero."}}
    assert found["status"] == "stopped at its deadline in the row 'third'"
    assert sum(part.seconds for part in benchmark.PARTS.values()) < 8 * 60


def test_references_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rlax", None)
    for module in ("benchmarks.reference_cases", "benchmarks.reference_ours"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    for words, says in (
        (("--check",), "python -m pip install rlax"),
        ((), "Nothing to do: pass --out FILE, --check, or both."),
        (("--check", "--batches", "0"), "--batches must be at least 1, not 0."),
    ):
        done = run_in_process("benchmarks/references.py", *words, cwd=tmp_path, check=False)
        assert done.returncode == 1
        assert says in done.stderr
