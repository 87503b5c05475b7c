"""The lecture notes' experiments: each runs with tiny settings, and says what it is known to say."""

import inspect
import json
import math
import re
import shlex
import shutil

import pytest
from daily import daily
from helpers import ROOT, run_in_process

WITHOUT = ["--data", "digits", "--threads", 1]  # no MNIST
TINY = {
    "linear": ["--seeds", 2, "--epochs", 20],
    "multivariable": ["--seeds", 2, "--epochs", 300],
    "logistic": ["--seeds", 2, "--epochs", 20],
    "softmax": ["--seeds", 2, "--epochs", 20],
    "learning-rates": [],
    "xor": ["--seeds", 2, "--epochs", 2000],
    "unsupervised": ["--threads", 1, "--seeds", 2, "--pictures", 1000],
    "normalization": ["--seeds", 2],
    "overfitting": [*WITHOUT, "--seeds", 2, "--epochs", 1],
    "dropout": [],
    "regularization": [*WITHOUT, "--seeds", 2, "--epochs", 5, "--pictures", 100],
    "early-stopping": [*WITHOUT, "--seeds", 2, "--epochs", 12, "--pictures", 200, "--patience", 1],
    "online": [*WITHOUT, "--seeds", 2, "--epochs", 10, "--pictures", 100, "--arriving", 300],
    "clipping": ["--seeds", 2, "--steps", 20],
    "imagenet": [],
    "mnist-softmax": [*WITHOUT, "--seeds", 2, "--epochs", 1],
    "mnist-mlp": [*WITHOUT, "--seeds", 2, "--epochs", 1],
    "mnist-initializers": [*WITHOUT, "--seeds", 2, "--epochs", 1],
    "mnist-deep": [*WITHOUT, "--seeds", 2, "--epochs", 1],
    "mnist-cnn": [*WITHOUT, "--seeds", 2, "--epochs", 1, "--nets", "lecture", "simple", "best"],
    "mnist-ensemble": [*WITHOUT, "--seeds", 2, "--epochs", 1, "--hold-out", 0.1],
    "activations": [*WITHOUT, "--seeds", 1, "--epochs", 1, "--width", 16],
    "initialization": [*WITHOUT, "--seeds", 2, "--epochs", 1, "--unlabeled", 100],
    "gradients": ["--seeds", 2, "--length", 10],
    "backward-by-hand": ["--threads", 1, "--seeds", 2, "--epochs", 2, "--pictures", 200],
    "sanity-checks": ["--threads", 1, "--seeds", 2, "--epochs", 80, "--pictures", 200],
    "self-normalizing": ["--threads", 1, "--seeds", 2, "--epochs", 1, "--pictures", 100, "--width", 16],
    "momentum": ["--threads", 1, "--seeds", 2, "--epochs", 1, "--pictures", 200, "--rates", 0.01, 0.1, "--steps", 500],
    "residual": ["--threads", 1, "--seeds", 2, "--epochs", 3, "--blocks", 8],
    "optimizers": ["--seeds", 2, "--steps", 20, "--frames", 2],
    "shapes": [],
    "transfer": [*WITHOUT, "--seeds", 1, "--epochs", 1, "--few", 5],
    "augmentation": [*WITHOUT, "--seeds", 1, "--epochs", 1, "--pictures", 100],
    "fractional-pooling": [*WITHOUT, "--seeds", 1, "--epochs", 1, "--pictures", 100],
    "caption": ["--threads", 1, "--seeds", 2, "--epochs", 8],
    "sequence-shapes": ["--seeds", 1, "--epochs", 1, "--examples", 50],
    "hihello": ["--seeds", 3],
    "if-you-want-you": ["--seeds", 2, "--epochs", 5],
    "char-rnn": ["--seeds", 1, "--epochs", 2, "--write", 10],
    "stock": ["--seeds", 1, "--epochs", 2],
    "search": ["--seeds", 1, "--trials", 4, "--epochs", 1],
    "speed": ["--repeats", 1, "--side", 64, "--batches", 1],
}
LONG = {  # left to `-m full`
    *("activations", "xor", "augmentation", "initialization", "mnist-deep", "mnist-initializers"),
    *("fractional-pooling", "unsupervised", "caption", "char-rnn", "self-normalizing", "mnist-mlp"),
    *("overfitting", "optimizers", "learning-rates", "normalization", "mnist-ensemble", "mnist-cnn", "transfer"),
    *("mnist-softmax", "momentum", "residual", "atari", "compare-lectures", "frozenlake-epsilon"),
    *("frozenlake-slippery", "frozenlake-network", "frozenlake-dummy"),
}
PICTURES = {
    "linear": ["cost.png"],
    "logistic": ["boundary.png"],
    "learning-rates": ["costs.png"],
    "xor": ["plane.png"],
    "normalization": ["preparations.png"],
    "overfitting": ["curves.png"],
    "regularization": ["strengths.png"],
    "early-stopping": ["stopping.png"],
    "clipping": ["norms.png"],
    "mnist-initializers": ["costs.png"],
    "activations": ["activations.png"],
    "initialization": ["by_layer.png", "rbm.png"],
    "unsupervised": ["learned.png"],
    "gradients": ["gradients.png"],
    "backward-by-hand": ["costs.png"],
    "sanity-checks": ["overfit.png"],
    "self-normalizing": ["activations.png"],
    "momentum": ["momentum.png"],
    "residual": ["costs.png"],
    "optimizers": ["animation.gif", "noise.png", "optimizers.png"],
    "augmentation": ["altered.png"],
    "fractional-pooling": ["pooled.png"],
    "caption": ["captions.png"],
    "stock": ["price.png"],
    "search": ["search.png"],
}


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No data set is at hand, and no mirror answers."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("urllib.request._opener", None)  # urllib keeps the proxies that it finds at its first call
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield
    monkeypatch.setattr("urllib.request._opener", None)


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def result(folder):
    """The figures of a run; JSON as it should be, without NaN."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads((folder / "result.json").read_text(), parse_constant=refuse)


def linear(found):
    told = [found[f"W from 5, step {step}"] for step in range(5)]
    assert told == pytest.approx([5, 1.2667, 1.0178, 1.0012, 1.00008], abs=5e-5)
    assert found["Newton's method from 5, step 1"] == pytest.approx(1, abs=1e-12)
    assert found["the factor 2 left out: steps 1 and 2"] == "3.133, 2.138"


def least_squares_is_the_floor(found):
    floor = found["five students: cost of the exact solution"]
    assert floor <= found["five students: cost after 300 steps, standardized inputs"]["mean"] < 1.2 * floor
    assert found["five students: cost after 300 steps, raw inputs"]["mean"] > 2 * floor


def only_the_naive_loss_becomes_nan(found):
    assert re.fullmatch(r"nan in [1-9]\d* of 10 seeds", found["rate 1.5, naive loss: cost at the end"])
    assert math.isfinite(found["rate 1.5, library loss: cost at the end"]["mean"])
    assert found["rate 0.1, naive loss: accuracy"]["per_seed"] == {str(k): 1.0 for k in range(10)}
    assert found["rate 1e-10, naive loss: change of the cost"]["mean"] == pytest.approx(0, abs=1e-6)


def raw_rows_diverge_and_prepared_ones_do_not(found):
    first = {kind: found[f"raw, rate 1e-5: first step whose cost is NaN, {kind}"] for kind in ("float32", "float64")}
    assert first["float32"] < 5 < first["float64"] < 30
    assert found["min-max, rate 0.05: cost at step 100"]["mean"] < 0.1
    assert found["whitened: condition number"] < 2 < found["standardized: condition number"]


def one_layer_never_learns_xor(found):
    assert found["one layer: seeds with all four correct"] == "0 of 2"
    assert found["one layer: cost"]["mean"] == pytest.approx(math.log(2), abs=1e-3)
    assert found["wide, 2-10-1: seeds with all four correct"] == "2 of 2"


def hihello_is_learnt(found):
    for cell in ("rnn", "lstm", "gru"):
        assert found[f"{cell}: share of letters correct"]["per_seed"] == {"0": 1.0, "1": 1.0, "2": 1.0}
        assert "(3 of 3 seeds)" in found[f"{cell}: steps until all are correct"]
        assert found[f"{cell}: generates the text"] == "3 of 3 seeds"


def nobody_beats_the_best_possible_share_of_a_window(found):
    assert found["windows: best possible share, since first letters are ambiguous"] == pytest.approx(0.8965, abs=5e-5)


def products_vanish_and_explode(found):
    assert found["10 factors with singular values 0.9: length of the product"] == pytest.approx(0.9**10)
    assert found["10 factors with singular values 1.1: length of the product"] == pytest.approx(1.1**10)
    assert found["gradient of (x + y) z at -2, 5, -4"] == "-4, -4, 3"


def dropout_keeps_the_mean(found):
    for keep in ("0.7", "0.5"):
        mean = found[f"keep {keep}, inverted: mean in training / mean of the input"]
        assert mean["mean"] == pytest.approx(1, abs=0.01)
        assert mean["interval_95"][0] < 1 < mean["interval_95"][1]
        assert found[f"keep {keep}, inverted: largest change at test time"] == 0
        published = found[f"keep {keep}, as first published: mean in training / mean of the input"]
        assert published["mean"] == pytest.approx(float(keep), abs=0.01)
    one, two = (
        found[f"{name}: relative distance of test-time outputs from the mean over masks"]["mean"]
        for name in ("one linear layer", "two layers with ReLU")
    )
    assert one < 0.05 < two


def weight_decay_is_twice_the_penalty(found):
    difference = found["largest difference of weights: .001 sum(W²) in the cost, SGD's weight_decay .002"]
    assert difference < 1e-5
    assert found["no L2: test cost"]["mean"] != found["0.001 sum(W²): test cost"]["mean"]


def the_kept_epoch_is_before_the_end(found):
    kept, ended = found["epoch kept, of 12"]["per_seed"], found["epochs trained with early stopping"]["per_seed"]
    assert all(ended[seed] == 12 or ended[seed] == kept[seed] + 1 for seed in kept)  # patience 1
    assert found["validation loss, lowest"]["mean"] <= found["validation loss, last epoch"]["mean"]


def online_learning_learns_and_forgets(found):
    said = {what: ours["mean"] for what, ours in found.items() if not isinstance(ours, str)}
    assert said["as they come, online: accuracy, test"] > said["as they come, before: accuracy, test"]
    old = "0 to 4, then 5 to 9, {}: accuracy on 0 to 4"
    assert said[old.format("online")] < said[old.format("before")] - 0.2
    assert said[old.format("retrained")] > said[old.format("online")] + 0.2
    assert found["as they come: examples learned from, online and retrained"] == "300, 4,000"


def no_step_is_longer_than_the_clip(found):
    assert found["clipped at 1: largest norm of a step"]["mean"] == pytest.approx(1, abs=1e-4)
    assert found["clipped at 1: largest norm before clipping"]["mean"] > 2
    whole = found["not clipped: largest norm of a step"]
    assert whole["mean"] > 2
    assert whole["per_seed"] == found["not clipped: largest norm before clipping"]["per_seed"]


def vgg_was_second_and_resnet_the_first_below_a_human(found):
    assert found["2014, second: VGG: top-5 error in percent"] == 7.3
    assert found["the first entry below the human's error"] == "ResNet, 2015"


def right_numbers_of_parameters(found):
    assert found["3 convolutions and 625 units: parameters"] == 1_379_557
    assert found["3 convolutions and 625 units: bytes of activations for one image"] == 227_116
    assert found["as in the notes' code, convolutions without bias: parameters"] == 1_379_333
    assert found["MLP 784-256-10: parameters"] == 203_530
    assert found["(7 - 3) / 3 + 1"].startswith("error")


def captions_are_learned_on_every_seed(found):
    assert min(found["whole words correct, test"]["per_seed"].values()) > 0.7


def labels_help(found):
    supervised = found["softmax regression: test accuracy"]["mean"]
    k_means = found["k-means, each cluster named after most of its images: test accuracy"]["mean"]
    assert 0.5 < k_means < supervised - 0.05
    assert found["k-means: adjusted Rand index (1: the digits, 0: chance)"]["mean"] > 0.3


def both_checks_pass_and_fail_where_they_should(found):
    for classes in (2, 5, 10):
        first = found[f"{classes} classes, normal(.01): first cost"]["mean"]
        assert first == pytest.approx(math.log(classes), abs=2e-3)
    assert found["10 classes, with 0.01 sum(W²): first cost"]["mean"] > math.log(10) + 2e-3
    assert found["10 classes, N(0, 1): first cost"]["mean"] > 5
    assert found["ten examples: accuracy"]["mean"] == found["ten random labels: accuracy"]["mean"] == 1
    assert found["ten examples: cost after 80 steps"]["mean"] < 0.05
    assert found["all weights zero: accuracy"]["mean"] < 0.5


def hand_and_autograd_agree(found):
    assert float(found["gradient by hand and by autograd: largest relative difference, 2 seeds"]) < 1e-12
    assert float(found["gradient by hand and by differences: largest relative difference, 2 seeds"]) < 1e-4
    assert float(found["cost by hand and by autograd: largest difference in 8 steps, 2 seeds"]) < 1e-12
    assert found["trained by hand: test accuracy"]["mean"] > 0.15


def selu_goes_to_one(found):
    for scale in ("0.5", "1", "2"):
        assert found[f"SELU, LeCun, inputs of std {scale}: std of layer 20"]["mean"] == pytest.approx(1, abs=0.1)
    small, large = (found[f"ReLU, He, inputs of std {scale}: std of layer 20"]["mean"] for scale in ("0.5", "2"))
    assert large == pytest.approx(4 * small, rel=1e-3)  # ReLU keeps what it was given


def momentum_speeds_up_the_valley_until_it_is_too_large(found):
    steps = [found[f"valley, momentum {m}: steps to the minimum"].split()[0] for m in ("0", "0.9", "0.99")]
    none, some, most = (int(count) if count.isdigit() else math.inf for count in steps)
    assert some < none
    assert some < most


def skip_connections_help_a_deep_network(found):
    plain, residual = (found[f"{name}, 16 convolutions: training cost at the end"] for name in ("plain", "residual"))
    for seed in ("0", "1"):
        assert residual["per_seed"][seed] < 0.7 * plain["per_seed"][seed]


CHECKS = {
    "residual": skip_connections_help_a_deep_network,
    "unsupervised": labels_help,
    "sanity-checks": both_checks_pass_and_fail_where_they_should,
    "backward-by-hand": hand_and_autograd_agree,
    "self-normalizing": selu_goes_to_one,
    "momentum": momentum_speeds_up_the_valley_until_it_is_too_large,
    "caption": captions_are_learned_on_every_seed,
    "linear": linear,
    "multivariable": least_squares_is_the_floor,
    "learning-rates": only_the_naive_loss_becomes_nan,
    "normalization": raw_rows_diverge_and_prepared_ones_do_not,
    "xor": one_layer_never_learns_xor,
    "hihello": hihello_is_learnt,
    "char-rnn": nobody_beats_the_best_possible_share_of_a_window,
    "gradients": products_vanish_and_explode,
    "shapes": right_numbers_of_parameters,
    "dropout": dropout_keeps_the_mean,
    "regularization": weight_decay_is_twice_the_penalty,
    "early-stopping": the_kept_epoch_is_before_the_end,
    "online": online_learning_learns_and_forgets,
    "clipping": no_step_is_longer_than_the_clip,
    "imagenet": vgg_was_second_and_resnet_the_first_below_a_human,
}


@pytest.mark.parametrize("name", daily(TINY, TINY.keys() - LONG))
def test_each_runs_with_tiny_settings(name, tmp_path):
    done = run_in_process("train_supervised.py", name, *TINY[name], "--logdir", "run", cwd=tmp_path)
    found = result(tmp_path / "run")
    assert found["experiment"] == name
    assert found["rows"]
    for row in found["rows"]:
        ours = row["ours"]
        assert isinstance(ours, (str, int, float)) or math.isfinite(ours["mean"]), row
        assert row["what"].split()[0] in done.stdout
    assert sorted(found["pictures"]) == PICTURES.get(name, [])
    for picture in found["pictures"]:
        assert (tmp_path / "run" / picture).stat().st_size > 2000, picture
    assert "tensorboard --logdir run" in done.stdout
    assert list((tmp_path / "run").rglob("events.out.*"))
    if name in CHECKS:
        CHECKS[name]({row["what"]: row["ours"] for row in found["rows"]})


def test_every_experiment_is_tried(scripts):
    from lectures import EXPERIMENTS

    assert set(EXPERIMENTS) == set(TINY)


def test_the_list_of_experiments_has_the_docstring_of_each(scripts):
    from lectures import EXPERIMENTS, find, name_of, summary

    for name in EXPERIMENTS:
        kind = find(name)
        assert name_of(kind()) == name
        assert summary(name) == inspect.getdoc(kind)


def test_resume_comes_to_the_same(tmp_path):
    words = ["if-you-want-you", "--seeds", 2, "--epochs", 2]
    run_in_process("train_supervised.py", *words, cwd=tmp_path)
    (run,) = (tmp_path / "runs" / "if-you-want-you").iterdir()
    before = result(run)
    shutil.rmtree(run / "gru")  # as if it had been killed after the second of three
    run_in_process("train_supervised.py", *words, "--resume", cwd=tmp_path)
    assert [path.name for path in (tmp_path / "runs" / "if-you-want-you").iterdir()] == [run.name]
    assert result(run)["rows"] == before["rows"]


def test_a_text_of_ones_own(tmp_path):
    (tmp_path / "mine.txt").write_text("so long and thanks for all the fish " * 3)
    words = ["--text", "mine.txt", "--seeds", 1, "--epochs", 1, "--logdir", "run"]
    run_in_process("train_supervised.py", "char-rnn", *words, cwd=tmp_path)
    (first, *_) = result(tmp_path / "run")["rows"]
    assert first["ours"].startswith("108, ")
    done = run_in_process("train_supervised.py", "char-rnn", "--text", "none.txt", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: --text none.txt cannot be read")


def test_files_of_the_lecture(tmp_path):
    done = run_in_process("train_supervised.py", "stock", "--data-dir", "nowhere", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "There is no data-02-stock_daily.csv in nowhere" in done.stderr
    (tmp_path / "data-02-stock_daily.csv").write_text("1,2,3,4,5\n")
    done = run_in_process("train_supervised.py", "stock", "--data-dir", ".", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "is not the lecture's data-02-stock_daily.csv: its checksum differs" in done.stderr


def test_every_row_of_the_inventory_has_a_command_and_a_figure(scripts):
    from lectures import EXPERIMENTS
    from lectures.lecture_index import COMMANDS, ITEMS, SECTIONS
    from tools.lectures_page import rows_of

    for item in ITEMS:
        assert item.section in SECTIONS
        assert item.result in EXPERIMENTS or item.result in COMMANDS, item
        path = ROOT / "docs" / "results" / f"{item.result}.json"
        assert path.is_file(), f"{item.result} was never run"
        rows = [row["what"] for row in rows_of(json.loads(path.read_text()))]
        if item.shows:
            assert any(what.startswith(item.shows) for what in rows), item
    assert {item.result for item in ITEMS} >= set(EXPERIMENTS)


def test_the_page_is_made_of_the_results(scripts):
    from tools.lectures_page import written

    assert (ROOT / "docs" / "lectures.md").read_text() == written(), "run python scripts/tools/lectures_page.py"


def commands():
    import sys

    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from lectures.lecture_index import COMMANDS
    finally:
        sys.path.pop(0)
    return COMMANDS


@pytest.mark.parametrize("name", daily(commands(), commands().keys() - LONG))
def test_the_other_commands_run_with_tiny_settings(name, tmp_path):
    words, tiny = (shlex.split(part) for part in commands()[name])
    done = run_in_process(words[0], *words[1:], *tiny, "--logdir", "run", cwd=tmp_path)
    assert "run" in done.stdout
    assert result(tmp_path / "run")


def test_a_comparison_is_gone_on_with(tmp_path):
    words = ["lectures", "--panels", "step-size", "--steps", 400, "--seeds", 3, "--logdir", "run"]
    run_in_process("compare.py", *words, cwd=tmp_path)
    before = result(tmp_path / "run")
    (tmp_path / "run" / "cells" / "step-size_step_size_1.json").unlink()
    done = run_in_process("compare.py", *words, "--resume", cwd=tmp_path)
    assert done.stdout.count("already finished") == 2
    after = result(tmp_path / "run")
    assert after["rows"] == before["rows"]
    assert len(after["curves"]["step-size"]["step size 1"]["values"][0]) == 3
    assert (tmp_path / "run" / "lectures.png").stat().st_size > 5000


def test_tables_are_compared_by_the_exact_optimum(tmp_path):
    words = [
        "--envs",
        "FrozenLake-v1",
        "--agents",
        "q-learning",
        "sarsa",
        "--seeds",
        3,
        "--steps",
        20_000,
        "--logdir",
        "run",
    ]
    done = run_in_process("compare.py", *words, cwd=tmp_path)
    assert "optimal return 0.7442" in done.stdout
    found = result(tmp_path / "run")
    curves = found["curves"]["FrozenLake-v1"]
    assert curves["sarsa"]["steps"][-1] == 20_000
    assert len(curves["sarsa"]["steps"]) == len(curves["sarsa"]["values"]) == 40
    assert 0 <= min(curves["q-learning"]["values"][-1]) < 0.1
    assert (tmp_path / "run" / "tables.png").stat().st_size > 5000
    again = run_in_process("compare.py", *words, "--resume", cwd=tmp_path)
    assert again.stdout.count("already finished") == 2
    assert result(tmp_path / "run")["rows"] == found["rows"]
    (tmp_path / "run" / "cells" / "FrozenLake-v1_sarsa.json").write_text("{}")
    broken = run_in_process("compare.py", *words, "--resume", cwd=tmp_path, check=False)
    assert broken.returncode == 1
    assert "FrozenLake-v1_sarsa.json is not a curve saved by this command" in broken.stderr
    (tmp_path / "run" / "cells" / "FrozenLake-v1_sarsa.json").unlink()
    other = run_in_process(
        "compare.py", *words, "--resume", "--steps", 400, cwd=tmp_path
    )  # another comparison: nothing is taken over
    assert "already finished" not in other.stdout


@pytest.mark.full  # takes 4 s
def test_figures_of_the_textbook(tmp_path):
    """Every one, with few steps and two seeds, by the command; TensorBoard has a band for each."""
    done = run_in_process("compare.py", "textbook", "--steps", 300, "--seeds", 2, "--logdir", "run", cwd=tmp_path)
    found = result(tmp_path / "run")["curves"]
    assert list(found) == [
        *("cliff", "cliff-greedy", "bias", "planning"),
        *("blocking", "shortcut", "queue", "mountain-car"),
    ]
    assert all(len(one["values"][-1]) == 2 for curves in found.values() for one in curves.values())
    assert found["planning"]["50"]["steps"][-1] == 300
    assert "Example 8.3, a shorter path opens" in done.stdout
    assert (tmp_path / "run" / "textbook.png").stat().st_size > 20_000
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    root = EventAccumulator(str(tmp_path / "run")).Reload()
    layout = root.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    assert b"with_interval/bias_low" in layout
    one = EventAccumulator(str(tmp_path / "run" / "R-learning")).Reload()
    assert {"queue", *(f"with_interval/queue{end}" for end in ("", "_low", "_high"))} == set(one.Tags()["scalars"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--agents", "sarsaa"), "There is no tabular agent 'sarsaa'. Did you mean 'sarsa'?"),
        (("--envs", "CartPole-v1", "--agents", "sarsa"), "which is not finite and does not fit into a table"),
        (("--envs", "Blackjack-v1", "--agents", "sarsa", "--steps", "100"), "cannot be evaluated exactly"),
        (("--seeds", "0"), "--seeds must be a whole number of at least 1 or None, not 0"),
        (("lectures", "--panels", "none"), "There is no comparison 'none'"),
        (("textbook", "--panels", "blockin"), "There is no comparison 'blockin'. Did you mean 'blocking'?"),
        (
            ("--envs", "envs/AccessControl-v0", "--agents", "sarsa", "--steps", "0"),
            "--steps must be a whole number of at least 1",
        ),
    ],
)
def test_a_comparison_that_cannot_be_is_told(words, sentence, tmp_path):
    done = run_in_process("compare.py", *words, "--logdir", "run", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert sentence in done.stderr
