"""scripts/train_supervised.py, as a user runs it."""

import json
import os

import pytest
from daily import daily
from helpers import run_in_process

from supervised import mnist


def train(*words, cwd, check=True):
    return run_in_process("train_supervised.py", *words, cwd=cwd, check=check)


@pytest.mark.parametrize("net", daily(["lecture", "best"], ["best"]))
def test_a_net_on_the_embedded_digits(net, tmp_path):
    words = ["--data", "digits", "--epochs", 3, "--seeds", 2, "--hold-out", 0.1, "--logdir", "run", "--nets", net]
    out = train("mnist-cnn", *words, cwd=tmp_path).stdout
    figures = json.loads((tmp_path / "run" / "result.json").read_text())
    assert figures["data"] == "digits"
    (found,) = figures["nets"].values()
    # The lecture's CNN starts from weights so small that 40 steps do not move it yet.
    assert (0 if net == "lecture" else 0.2) < found["test_accuracy"]["mean"] <= 1
    assert list(found["test_accuracy"]["per_seed"]) == ["0", "1"]
    assert found["recipe"]["epochs"] == 3
    assert found["validation_accuracy"]["mean"] <= 1
    assert f"{found['test_accuracy']['mean']:.4f}" in out
    assert "the notes" in out
    assert "(MNIST) " in out
    assert "tensorboard --logdir run" in out
    assert list((tmp_path / "run").glob("events.out.*"))
    assert figures["versions"]["torch"]
    assert "train_supervised.py mnist-cnn" in figures["command"]


def test_mnist_that_is_not_at_hand_is_said_aloud(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("urllib.request._opener", None)  # urllib keeps the proxies that it finds at its first call
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody answers there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    out = train("mnist-softmax", "--epochs", 1, "--seeds", 1, cwd=tmp_path).stdout
    assert "MNIST is not available" in out
    assert "scikit-learn's 1 797 digits" in out
    assert "(one seed)" in out
    done = train("mnist-softmax", "--data", "mnist", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "could not be downloaded" in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--seeds", "0"), "--seeds must be a whole number of at least 1"),
        (("--epochs", "-1"), "--epochs must be a whole number of at least 1"),
        (("--hold-out", "2"), "must lie in (0, 1)"),
        (("--data-dir", "nowhere", "--data", "auto"), "MNIST was not found: nowhere is not a folder"),
        (("--logdir", "file"), "is a file"),
        (("--device", "tpu9"), "The device 'tpu9' cannot be used here"),
        (("--threads", "0"), "threads must be a whole number"),
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
    assert all(name in out for name in ("linear", "mnist-softmax", "mnist-cnn", "mnist-ensemble", "hihello", "speed"))
    out = train("mnist-cnn", "--help", cwd=tmp_path).stdout
    for flag in ("nets", "data-dir", "data", "seeds", "epochs", "hold-out", "device", "threads", "logdir", "resume"):
        assert f"--{flag}" in out


@pytest.mark.skipif("VALUEBASED_MNIST" not in os.environ, reason="needs MNIST's files: VALUEBASED_MNIST=folder")
def test_real_mnist(tmp_path):
    folder = os.environ["VALUEBASED_MNIST"]
    assert len(mnist.mnist(folder).train.x) == 60_000
    train("mnist-softmax", "--data-dir", folder, "--logdir", "run", cwd=tmp_path)
    figures = json.loads((tmp_path / "run" / "result.json").read_text())
    assert figures["nets"]["best"]["test_accuracy"]["mean"] >= 0.925


def test_an_experiment_is_found_by_its_former_name(tmp_path):
    done = train("normalisation", "--seeds", 2, "--logdir", "run", cwd=tmp_path)
    assert "normalisation is deprecated and will be removed in the next version: use normalization." in done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["experiment"] == "normalization"
