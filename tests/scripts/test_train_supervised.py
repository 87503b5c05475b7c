"""scripts/train_supervised.py, as a user runs it."""

import json
import os

import pytest
from told import inside

from supervised import mnist


def train(*words, cwd, check=True):
    return inside("train_supervised.py", *words, cwd=cwd, check=check)


@pytest.mark.parametrize(
    ("experiment", "net"),
    [
        ("mnist-softmax", "lecture"),
        ("mnist-mlp", "lecture"),
        ("mnist-deep", "lecture"),
        ("mnist-cnn", "lecture"),
        ("mnist-cnn", "best"),
        ("mnist-ensemble", "best"),
    ],
)
def test_each_experiment_on_the_embedded_digits(experiment, net, tmp_path):
    words = ["--data", "digits", "--epochs", 3, "--seeds", 2, "--hold-out", 0.1, "--logdir", "run", "--net", net]
    out = train(experiment, *words, cwd=tmp_path).stdout
    figures = json.loads((tmp_path / "run" / "result.json").read_text())
    assert figures["data"] == "digits"
    # The lecture's CNN starts from weights so small that 40 steps do not move it yet.
    low = 0 if (experiment, net) == ("mnist-cnn", "lecture") else 0.2
    assert low < figures["test_accuracy"]["mean"] <= 1
    assert list(figures["test_accuracy"]["per_seed"]) == ["0", "1"]
    assert figures["recipe"]["epochs"] == 3
    assert ("ensemble_accuracy" in figures) == (experiment == "mnist-ensemble")
    assert f"{figures['test_accuracy']['mean']:.4f}" in out
    assert "the notes" in out
    assert "tensorboard --logdir run" in out
    assert list((tmp_path / "run").glob("events.out.*"))
    assert figures["versions"]["torch"]


def test_hihello(tmp_path):
    out = train("hihello", "--seeds", 3, cwd=tmp_path).stdout
    (found,) = (tmp_path / "runs" / "hihello").glob("*/result.json")
    for cell in json.loads(found.read_text())["cells"].values():
        assert cell["accuracy"]["per_seed"] == {"0": 1.0, "1": 1.0, "2": 1.0}
        assert all(steps <= 50 for steps in cell["steps_to_all_right"].values())
        assert set(cell["free_running"].values()) == {"hihello"}
    assert "3 of 3 seeds" in out
    before = found.read_text()
    again = train("hihello", "--seeds", 3, "--resume", cwd=tmp_path).stdout
    assert "hihello" in again
    figures = json.loads(found.read_text())
    assert figures["cells"] == json.loads(before)["cells"]


def test_mnist_that_is_not_at_hand_is_said_aloud(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("urllib.request._opener", None)  # urllib keeps the proxies that it finds at its first call
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody answers there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    out = train("mnist-softmax", "--epochs", 1, "--seeds", 1, cwd=tmp_path).stdout
    assert "MNIST is not at hand" in out
    assert "scikit-learn's 1 797 digits" in out
    assert "one seed: none" in out
    done = train("mnist-softmax", "--data", "mnist", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "could not be downloaded" in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--seeds", "0"), "--seeds is a whole number from 1 on"),
        (("--epochs", "-1"), "--epochs is a whole number from 1 on"),
        (("--hold-out", "2"), "lies between 0 and 1"),
        (("--data-dir", "nowhere", "--data", "auto"), "MNIST is not at hand: nowhere is no folder"),
        (("--logdir", "file"), "is a file"),
        (("--device", "tpu9"), "The device 'tpu9' cannot be used here"),
        (("--threads", "0"), "threads is a whole number"),
    ],
)
def test_bad_input_is_one_sentence_and_no_file(words, sentence, tmp_path):
    (tmp_path / "file").write_text("mine")
    words = words if "--data" in words else (*words, "--data", "digits")
    done = train("mnist-softmax", *words, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_help_explains_each_flag(tmp_path):
    out = train("--help", cwd=tmp_path).stdout
    for flag in ("net", "data-dir", "data", "seeds", "epochs", "hold-out", "device", "threads", "logdir", "resume"):
        assert f"--{flag}" in out
    assert all(name in out for name in ("mnist-softmax", "mnist-cnn", "mnist-ensemble", "hihello"))


@pytest.mark.skipif("VALUEBASED_MNIST" not in os.environ, reason="needs MNIST's files: VALUEBASED_MNIST=folder")
def test_real_mnist(tmp_path):
    folder = os.environ["VALUEBASED_MNIST"]
    assert len(mnist.mnist(folder).train.x) == 60_000
    train("mnist-softmax", "--data-dir", folder, "--logdir", "run", cwd=tmp_path)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test_accuracy"]["mean"] >= 0.925
