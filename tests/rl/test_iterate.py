"""What is handed over at each point of the curves: by `rl.train(on_log=)`, and by `rl.iterate`."""

import os
import re
import signal

import numpy as np
import pytest
from helpers import ROOT, curves

import rl
from supervised import checkpoint

LAKE = ("FrozenLake-v1", rl.QLearning())
SHORT = {"steps": 1000, "seeds": 2, "progress": False}
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "loggers.md").read_text(), re.S)


def state_of(run):
    return {name: array.copy() for name, array in run.agent.state_dict().items() if isinstance(array, np.ndarray)}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_on_log_is_handed_what_the_curves_show(tmp_path):
    seen = []
    rl.train(*LAKE, **SHORT, logdir=tmp_path, on_log=lambda run, metrics: seen.append((run.step, metrics)))
    assert [step for step, _ in seen] == list(range(10, 1001, 10))
    found = curves(tmp_path)
    for tag in ("train/td_error", "eval/success_rate", "eval/regret"):
        assert all(metrics[tag].dtype == np.float64 and metrics[tag].shape == (2,) for _, metrics in seen)
        told = [(step, metrics[tag][1]) for step, metrics in seen]
        assert told == [(step, pytest.approx(value, rel=1e-6)) for step, value in found["seed_1", tag]]


def test_on_log_sees_evaluations_without_a_folder_and_changes_nothing():
    seen = []
    heard = rl.train(*LAKE, **SHORT, evaluate_every_steps=500, on_log=lambda run, metrics: seen.append(metrics))
    assert sum("eval/success_rate" in metrics for metrics in seen) == 2
    assert same(state_of(heard), state_of(rl.train(*LAKE, **SHORT)))


def test_stop_ends_the_training_and_the_run_goes_on_to_the_same_bits(tmp_path):
    whole = rl.train(*LAKE, **SHORT, logdir=tmp_path / "whole")
    run = rl.train(*LAKE, **SHORT, logdir=tmp_path / "cut", on_log=lambda run, _: "stop" if run.step >= 330 else None)
    assert run.step == 330
    assert checkpoint.read_header(tmp_path / "cut" / "run.safetensors")["step"] == 330
    resumed = rl.train(*LAKE, **SHORT, logdir=tmp_path / "cut", resume=True)
    assert same(state_of(whole), state_of(resumed))
    assert curves(tmp_path / "cut") == curves(tmp_path / "whole")


@pytest.mark.parametrize("answer", [True, "halt", 0])
def test_any_other_answer_is_a_sentence(answer, tmp_path):
    with pytest.raises(ValueError, match=r'on_log must return None to continue, or "stop" .*, not '):
        rl.train(*LAKE, **SHORT, logdir=tmp_path, on_log=lambda run, metrics: answer)
    assert checkpoint.read_header(tmp_path / "run.safetensors")["step"] == 10


def test_an_exception_leaves_a_folder_that_goes_on(tmp_path):
    def breaks(run, metrics):
        if run.step == 250:
            raise OSError("no line")

    with pytest.raises(OSError, match="no line"):
        rl.train(*LAKE, **SHORT, logdir=tmp_path / "cut", on_log=breaks)
    assert checkpoint.read_header(tmp_path / "cut" / "run.safetensors")["step"] == 250
    resumed = rl.train(*LAKE, **SHORT, logdir=tmp_path / "cut", resume=True)
    assert same(state_of(resumed), state_of(rl.train(*LAKE, **SHORT, logdir=tmp_path / "whole")))
    assert curves(tmp_path / "cut") == curves(tmp_path / "whole")


def test_a_function_of_other_arguments_is_refused_before_any_file(tmp_path):
    for wrong in (lambda metrics: None, 3):
        with pytest.raises(ValueError, match="on_log must be a function of"):
            rl.train(*LAKE, **SHORT, logdir=tmp_path / "run", on_log=wrong)
    with pytest.raises(ValueError, match="steps must be a whole number"):
        rl.iterate(*LAKE, steps=0, logdir=tmp_path / "run")  # at the call, not at the first step
    assert not (tmp_path / "run").exists()


def test_iterate_is_the_loop_of_train(tmp_path):
    whole = rl.train(*LAKE, **SHORT, logdir=tmp_path / "whole")
    points = [(run.step, sorted(metrics)) for run, metrics in rl.iterate(*LAKE, **SHORT, logdir=tmp_path / "own")]
    assert [step for step, _ in points] == list(range(10, 1001, 10))
    assert "eval/optimality_gap" in points[-1][1]
    assert curves(tmp_path / "own") == curves(tmp_path / "whole")
    assert same(state_of(rl.load(tmp_path / "own" / "run.safetensors")), state_of(whole))


def test_everything_is_opened_at_the_call_and_closed_without_a_step(tmp_path):
    training = rl.iterate(*LAKE, **SHORT, logdir=tmp_path / "run")
    assert (training.run.step, training.run.seeds) == (0, (0, 1))
    with pytest.raises(checkpoint.CheckpointError, match="is training in"):
        rl.iterate(*LAKE, **SHORT, logdir=tmp_path / "run")
    training.close()
    assert rl.train(*LAKE, **SHORT, logdir=tmp_path / "run", resume=True).step == 1000
    again = rl.iterate(*LAKE, **SHORT, logdir=tmp_path / "run", resume=True)  # nothing is left to do
    assert (list(again), again.run.step) == ([], 1000)


def test_break_saves_and_lets_go_of_the_folder(tmp_path):
    for run, _ in rl.iterate(*LAKE, **SHORT, logdir=tmp_path / "cut"):
        if run.step == 430:
            break
    assert checkpoint.read_header(tmp_path / "cut" / "run.safetensors")["step"] == 430
    for run, _ in rl.iterate(*LAKE, **SHORT, logdir=tmp_path / "cut", resume=True):  # noqa: B007  (read after the loop)
        pass
    whole = rl.train(*LAKE, **SHORT, logdir=tmp_path / "whole")
    assert same(state_of(run), state_of(whole))
    assert curves(tmp_path / "cut") == curves(tmp_path / "whole")


def test_ctrl_c_in_a_loop_of_your_own(tmp_path):
    before = signal.getsignal(signal.SIGINT)

    def interrupt():
        for run, _ in rl.iterate(*LAKE, **SHORT, logdir=tmp_path):
            if run.step == 70:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="Stopped at step 70 of 1,000: saved to"):
        interrupt()
    assert checkpoint.read_header(tmp_path / "run.safetensors")["step"] == 70
    assert signal.getsignal(signal.SIGINT) is before


def test_the_run_is_up_to_date_in_spite_of_workers(forked_workers):
    agent = rl.DQN(network="mlp(4)", learn_after_steps=10, batch_size=4, compiled=False)
    settings = {"steps": 80, "seeds": 2, "progress": False, "log_every_steps": 20, "evaluate_every_steps": 80}

    def values(workers):
        obs = np.zeros((2, 1, 4), np.float32)
        found = []
        run = rl.train(
            *("CartPole-v1", agent), workers=workers, on_log=lambda run, _: found.append(run.agent.q(obs)), **settings
        )
        return [*found, run.agent.q(obs)]

    alone, shared = values(1), values(2)
    assert len(alone) == 5
    assert all((a == b).all() for a, b in zip(alone, shared, strict=True))
    assert not (alone[0] == alone[3]).all()


def test_break_brings_the_seeds_back_from_their_processes(forked_workers):
    agent = rl.DQN(network="mlp(4)", learn_after_steps=10, batch_size=4, compiled=False)
    settings = {"steps": 200, "seeds": 2, "progress": False, "log_every_steps": 20, "evaluate_every_steps": 200}
    for run, _ in rl.iterate("CartPole-v1", agent, workers=2, **settings):
        if run.step == 60:
            break
    assert run.step == 60
    assert run.backend is run.local


@pytest.mark.parametrize("code", BLOCKS)
@pytest.mark.filterwarnings("ignore")  # those of the other packages
def test_the_examples_of_the_page_log_where_they_say(code, tmp_path, monkeypatch):
    for package in re.findall(r"^import (wandb|mlflow)", code, re.M):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert len(code[code.index("import") :].strip().splitlines()) <= 15
    exec(compile(code, "docs/loggers.md", "exec"), {})
    if "import csv" in code:
        rows = [line.split(",") for line in (tmp_path / "curves.csv").read_text().splitlines()]
        assert {row[1] for row in rows} == {"0", "1", "2", "3"}
        assert ("20000", "eval/success_rate") in {(row[0], row[2]) for row in rows}
    elif "wandb" in code:
        (log,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
        assert b"eval/success_rate" in log.read_bytes()
    elif "mlflow" in code:
        import mlflow

        client = mlflow.MlflowClient("sqlite:///mlflow.db")
        (found,) = client.search_runs(["0"])
        history = client.get_metric_history(found.info.run_id, "eval/success_rate")
        assert [point.step for point in history] == list(range(200, 20_001, 200))
        assert 0.5 < history[-1].value < 0.75
    else:
        assert (tmp_path / "runs" / "lake" / "run.safetensors").exists()
