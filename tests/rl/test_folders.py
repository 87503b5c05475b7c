"""The folder of a run: whose files are touched, who may use it, what is said."""

import dataclasses
import json
import os
import shutil
import warnings
from pathlib import Path

import jobs
import kills
import numpy as np
import pytest
from daily import daily
from forked import Child
from helpers import NoisyWalk, curves

import rl
import supervised
from supervised import MLP, Recipe, checkpoint, fit, renamed
from supervised.fitting import recipe
from supervised.logger import EVENTS, Logger

TESTS = Path(__file__).parents[1]
X = np.sin(np.arange(60.0, dtype=np.float32).reshape(20, 3))
FEW = X, (X.sum(1) > 0).astype(np.int64)


def train(folder, steps=200, env=NoisyWalk, agent=None, **settings):
    cadence = {"log_every_steps": 50, "evaluate_every_steps": 100, "save_every_steps": 100}
    settings = {"seeds": 2, "logdir": folder, "progress": False, **cadence, **settings}
    return rl.train(env, agent or rl.QLearning(), steps=steps, **settings)


def fitted(folder, epochs=2, **settings):
    return fit(
        lambda: MLP(3, 2, (4,)), FEW, Recipe(epochs=epochs, batch_size=10), logdir=folder, progress=False, **settings
    )


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def killed(folder, steps=200):
    """A run as a kill leaves it: its event files have points that its checkpoint does not know."""
    run = rl.start(NoisyWalk, rl.QLearning(), 2, steps=400)
    rl.train(run, steps=steps, logdir=folder, progress=False, log_every_steps=50, save_every_steps=100)
    kept = {path: path.read_bytes() for path in folder.glob("*.safetensors*")}
    rl.train(run, steps=steps + 70, progress=False)
    for path, data in kept.items():
        path.write_bytes(data)


# -- other runs' files ----------------------------------------------------------------------------------------------------


def test_resume_leaves_the_files_of_other_runs_alone(tmp_path):
    """Runs in a run's folder, around it, copies of its own files, and curves of other programs."""
    outer = tmp_path / "outer"
    killed(outer)
    with pytest.warns(UserWarning, match="are nested"):
        killed(outer / "inner")
    with pytest.warns(UserWarning, match="are nested"):
        fitted(outer / "seed_9")  # a fit in a folder that is called as one of a seed's
    shutil.copytree(outer / "seed_1", outer / "seed_1_backup")
    shutil.copytree(outer, tmp_path / "copy")
    shutil.move(tmp_path / "copy", outer / "copy")
    shutil.copytree(outer / "seed_0", tmp_path / "hard", copy_function=os.link)
    (outer / "other").mkdir()
    (outer / "other" / "events.out.tfevents.1.host.2.000001").write_bytes(b"another program's")
    (outer / "events.out.tfevents.1.host.2.000001").write_bytes(b"another program's")
    (outer / "events.out.tfevents.1.host.2.v2").write_bytes(b"another program's")
    before = content(tmp_path)

    with pytest.warns(UserWarning, match=r"outer and .*outer/.*, which contains another run, are nested"):
        train(outer, 400, resume=True)
    after = content(tmp_path)
    changed = {path for path in before if after.get(path) != before[path]}
    assert {str(path.parent) for path in changed} == {"outer", "outer/seed_0", "outer/seed_1"}
    assert not any(path.name.startswith("events.out.tfevents.1.host.2") for path in changed)
    assert curves(outer)[".", "train/td_error"][-1][0] == 400

    before = content(tmp_path)
    with pytest.warns(UserWarning, match=r"inner and .*outer, which contains another run, are nested"):
        train(outer / "inner", 400, resume=True)
    after = content(tmp_path)
    inner = Path("outer") / "inner"
    assert {path for path in before if after.get(path) != before[path] and not path.is_relative_to(inner)} == set()
    whole = train(tmp_path / "whole", 400)
    assert whole.step == 400
    for key, points in curves(tmp_path / "whole").items():
        if key[1].startswith(("train/", "rollout/")):
            assert curves(outer)[key] == curves(outer / "inner")[key] == points


def test_a_new_folder_in_a_runs_or_around_it_is_warned_of(tmp_path):
    train(tmp_path / "a" / "b", 10)
    with pytest.warns(UserWarning, match=r"logdir .*/a and .*/a/b, which contains another run"):
        train(tmp_path / "a", 10)
    with pytest.warns(UserWarning, match=r"logdir .*/a/b/c/d and .*/a/b, which contains another run"):
        fitted(tmp_path / "a" / "b" / "c" / "d")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(tmp_path / "beside", 10)


def test_curves_of_something_else_in_the_very_folder_are_refused(tmp_path):
    for place in (tmp_path / "a", tmp_path / "b" / "seed_0"):
        Logger(place).scalars(1, {"x": 1.0})
    for folder in (tmp_path / "a", tmp_path / "b"):
        before = content(folder)
        for start in (train, fitted):
            with pytest.raises(rl.CheckpointError, match="contains other TensorBoard curves"):
                start(folder)
        assert content(folder) == before
    Logger(tmp_path / "c" / "below").scalars(1, {"x": 1.0})
    assert train(tmp_path / "c", 10).step == 10
    with pytest.raises(rl.CheckpointError, match="already contains a run"):
        fitted(tmp_path / "c")


def test_what_is_missing_at_resume_is_said(tmp_path):
    train(tmp_path, 200)
    (gone,) = (tmp_path / "seed_0").glob(EVENTS)
    (short,) = (tmp_path / "seed_1").glob(EVENTS)
    size = gone.stat().st_size
    gone.unlink()
    short.write_bytes(short.read_bytes()[:-10])
    with pytest.warns(UserWarning, match="do not match the checkpoint") as told:
        run = train(tmp_path, 300, resume=True)
    said = str(told[0].message)
    assert f"seed_0/{gone.name} ({size:,} bytes) is missing" in said
    assert f"seed_1/{short.name} lacks its last 10 of" in said
    assert run.step == 300
    assert [s for s, _ in curves(tmp_path)["seed_0", "train/td_error"]] == [250, 300]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        train(tmp_path, 350, resume=True)


def test_a_file_of_the_first_format_that_may_be_anybodys_stays(tmp_path):
    folder = Path(shutil.copytree(TESTS / "fixtures" / "format1" / "table", tmp_path / "run"))
    Logger(tmp_path / "other").scalars(9999, {"x": 1.0})
    (other,) = (tmp_path / "other").glob(EVENTS)
    mine = folder / other.name.rpartition(".")[0]  # as a program of then would have called it
    shutil.copy(other, mine)
    with pytest.warns(UserWarning, match=f"{mine.name} may belong to this run or another one and is left unchanged"):
        train(folder, 1500, "FrozenLake-v1", rl.QLearning(gamma=0.9), seeds=[2, 5], resume=True)
    assert mine.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    "name", ["../outside/events.out.tfevents.1.host.2.000001", "/tmp/x", "a/b/c", "mine.txt", ".."]
)
def test_a_checkpoint_cannot_name_files_outside_its_folder(name, tmp_path):
    train(tmp_path / "run", 100)
    (tmp_path / "outside").mkdir()
    mine = tmp_path / "outside" / "events.out.tfevents.1.host.2.000001"
    mine.write_bytes(b"mine")
    path = tmp_path / "run" / "run.safetensors"
    state, meta = checkpoint.load(path)
    meta["curves"]["files"][name] = 1
    checkpoint.save(path, state, meta, keep=False)
    with pytest.raises(rl.CheckpointError, match="damaged checkpoint"):
        train(tmp_path / "run", 200, resume=True)
    assert mine.read_bytes() == b"mine"


# -- one process at a time ------------------------------------------------------------------------------------------------


def test_every_way_to_train_holds_the_folder(tmp_path, monkeypatch):
    held = []

    def note(run, *arguments):
        with (
            pytest.raises(checkpoint.CheckpointError, match="Another process is training"),
            checkpoint.alone_in(tmp_path / "a"),
        ):
            pass
        held.append(run)
        return advance(run, *arguments)

    advance = rl.run.run.Run.advance
    monkeypatch.setattr(rl.run.run.Run, "advance", note)
    run = train(tmp_path / "a", 100)  # the folder is new
    made = len(held)
    rl.train(run, steps=200, progress=False)  # in place
    train(tmp_path / "a", 300, resume=True)
    assert 0 < made < len(held)
    with (
        checkpoint.alone_in(tmp_path / "a"),
        pytest.raises(checkpoint.CheckpointError, match="Another process is training"),
    ):
        rl.train(run, steps=400, progress=False)


def test_a_fit_holds_its_folder(tmp_path, monkeypatch):
    held = []

    def note(self, *arguments):
        with (
            pytest.raises(checkpoint.CheckpointError, match="Another process is training"),
            checkpoint.alone_in(tmp_path / "a"),
        ):
            pass
        held.append(1)
        return advance(self, *arguments)

    advance = supervised.Fit.advance
    monkeypatch.setattr(supervised.Fit, "advance", note)
    fitted(tmp_path / "a")
    assert held


def test_in_place_where_another_process_went_on(tmp_path):
    """What it added would be lost."""
    run = train(tmp_path / "a", 100)
    train(tmp_path / "a", 300, resume=True)
    before = content(tmp_path)
    with pytest.raises(rl.CheckpointError, match="a later state of this one, resumed by another"):
        rl.train(run, steps=200, progress=False)
    assert content(tmp_path) == before
    shutil.rmtree(tmp_path / "a")
    train(tmp_path / "a", 50)
    with pytest.raises(rl.CheckpointError, match="now contains another run"):
        rl.train(run, steps=200, progress=False)
    assert rl.train(run, steps=200, logdir=tmp_path / "new", progress=False).step == 200


def test_in_place_where_the_folder_was_removed(tmp_path):
    run = train(tmp_path / "a", 100)
    shutil.rmtree(tmp_path / "a")
    with pytest.warns(UserWarning, match="is missing"):
        rl.train(run, steps=200, progress=False)
    assert rl.load(tmp_path / "a" / "run.safetensors", NoisyWalk).step == 200
    assert [s for s, _ in curves(tmp_path / "a")[".", "train/td_error"]] == [150, 200]


def test_a_linked_folder(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    train(tmp_path / "run", 100)
    train(tmp_path / "run", 200, resume=True)
    assert (tmp_path / "run").is_symlink()
    assert rl.load(tmp_path / "disk" / "run.safetensors", NoisyWalk).step == 200


# -- what is said ----------------------------------------------------------------------------------------------------------


def test_a_finished_run_says_so_and_is_left_as_it_is(tmp_path, capsys):
    run = train(tmp_path / "a", 200)
    before = content(tmp_path)
    again = train(tmp_path / "a", 200, resume=True)
    assert "The run already has 200 steps, and steps=200 is the total" in capsys.readouterr().err
    assert again.step == 200
    rl.train(run, steps=100, progress=False)
    assert "The run already has 200 steps, and steps=100 is the total" in capsys.readouterr().err
    assert content(tmp_path) == before
    rl.train(run, steps=200, logdir=tmp_path / "b", progress=False)  # kept elsewhere too
    assert rl.load(tmp_path / "b" / "run.safetensors", NoisyWalk).step == 200


def test_a_finished_fit_says_so_and_is_left_as_it_is(tmp_path, capsys):
    fitted(tmp_path)
    before = content(tmp_path)
    assert fitted(tmp_path, resume=True).epoch == 2
    assert "is already finished: nothing to do" in capsys.readouterr().err
    assert content(tmp_path) == before


@pytest.mark.parametrize("start", [train, fitted])
@pytest.mark.parametrize("damage", ["flip", "cut", "nested", "missing"])
def test_a_damaged_checkpoint_falls_back_and_says_so(start, damage, tmp_path):
    whole = start(tmp_path / "whole", save_every_epochs=1) if start is fitted else start(tmp_path / "whole")
    start(tmp_path / "a", save_every_epochs=1) if start is fitted else start(tmp_path / "a")
    (path,) = (tmp_path / "a").glob("*.safetensors")
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-5] ^= 4
    elif damage == "cut":
        del content[-5:]
    elif damage == "nested":
        header = json.dumps(
            {"__metadata__": {"header": '{"format": 1, "state": ' + "[" * 950 + "]" * 950 + "}"}}
        ).encode()
        content = len(header).to_bytes(8, "little") + header
    path.write_bytes(content)
    if damage == "missing":
        path.unlink()
    state = "missing" if damage == "missing" else "damaged"
    with pytest.warns(
        UserWarning, match=rf"safetensors is {state}: resuming from the previous checkpoint, .*\.previous"
    ):
        again = start(tmp_path / "a", resume=True)
    assert again.step == whole.step
    one, other = (checkpoint.load(tmp_path / name / path.name)[0] for name in ("whole", "a"))
    assert str(one) == str(other)
    if damage != "missing" and start is train:
        assert path.with_name(f"{path.name}.damaged").read_bytes() == content


def test_the_whole_checkpoint_is_never_replaced_by_the_damaged_one(tmp_path, monkeypatch):
    """The first save after a fall-back keeps what was there as the one before: that must not be the damaged file."""
    train(tmp_path, 200)
    path = tmp_path / "run.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    monkeypatch.setattr(rl.run.run.Run, "advance", lambda *_: 1 / 0)
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(ZeroDivisionError):
        train(tmp_path, 300, resume=True)
    assert checkpoint.is_whole(checkpoint.previous(path))


# -- configs of older packages ----------------------------------------------------------------------------------------


def rewrite(path, change):
    state, meta = checkpoint.load(path)
    change(meta["config"])
    checkpoint.save(path, state, meta, keep=False)


def test_a_setting_that_is_new_does_not_make_older_folders_others(tmp_path):
    agent = rl.DQN(network="mlp(4)", learn_after_steps=20, batch_size=4)
    train(tmp_path, 40, "CartPole-v1", agent)
    rewrite(tmp_path / "run.safetensors", lambda config: [config["agent"].pop(name) for name in ("compiled", "n_step")])
    assert train(tmp_path, 60, "CartPole-v1", agent, resume=True).step == 60
    rewrite(tmp_path / "run.safetensors", lambda config: config["agent"].pop("n_step"))
    with pytest.raises(rl.CheckpointError, match=r"agent\.n_step was 1 and is now 3"):
        train(tmp_path, 80, "CartPole-v1", dataclasses.replace(agent, n_step=3), resume=True)


def test_a_new_setting_of_what_a_setting_holds(tmp_path):
    train(tmp_path, 100)
    rewrite(tmp_path / "run.safetensors", lambda config: config["agent"]["explore"]["epsilon"].pop("fraction"))
    assert train(tmp_path, 200, resume=True).step == 200


def test_what_was_renamed_is_read_by_its_new_name(tmp_path, monkeypatch):
    run = train(tmp_path, 100)

    def older(config):
        agent = config["agent"]
        agent |= {"type": "WatkinsQ", "discount": agent.pop("gamma")}

    rewrite(tmp_path / "run.safetensors", older)
    with pytest.raises(rl.CheckpointError, match="agent was"):
        train(tmp_path, 200, resume=True)
    monkeypatch.setattr(renamed, "RENAMED", {"WatkinsQ": "QLearning", "QLearning.discount": "gamma"})
    assert rl.load(tmp_path / "run.safetensors", NoisyWalk).agent_config == run.agent_config
    assert train(tmp_path, 200, resume=True).step == 200


def net(space, outputs):
    return supervised.MLP(4, outputs, (4,))


def test_functions_are_compared_by_name(tmp_path):
    agent = rl.DQN(network=net, learn_after_steps=20, batch_size=4)
    train(tmp_path, 40, "CartPole-v1", agent)
    rewrite(tmp_path / "run.safetensors", lambda config: config["agent"].pop("compiled"))
    assert train(tmp_path, 60, "CartPole-v1", agent, resume=True).step == 60
    with pytest.raises(rl.CheckpointError, match=r"agent.network was .*'net'.* and is now 'mlp\(4\)'"):
        train(tmp_path, 80, "CartPole-v1", dataclasses.replace(agent, network="mlp(4)"), resume=True)


def test_an_older_recipe(tmp_path):
    fitted(tmp_path)
    for removed in (("precision", "freeze"), ("augment",)):
        rewrite(
            tmp_path / "fit.safetensors",
            lambda config, removed=removed: [config["recipe"].pop(name) for name in removed],
        )
        assert fitted(tmp_path, 3, resume=True).epoch == 3
    assert recipe.Recipe.from_json(Recipe(learning_rate=(0.1, 0.2)).to_json()) == Recipe(learning_rate=(0.1, 0.2))


# -- kills -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "first", "last", "stride"), daily([("table", 1, 22, 6), ("fit", 4, 20, 8)], [("table", 1, 22, 6)])
)
def test_a_kill_in_the_first_checkpoints_loses_nothing(kind, first, last, stride, tmp_path):
    """SIGKILL before each of a run's first operations on files; every one of them in the full suite."""
    output = tmp_path / "output"
    assert Child(kills.main, kind, tmp_path, first, last, stride, output=output).wait() == 0, output.read_text()
    assert output.read_text() == ""


def test_a_folder_without_permission_is_a_sentence(tmp_path, tmp_path_factory):
    """As a user who may not write there; the tests themselves may be run by one who may do anything."""
    train(tmp_path / "run", 100)
    before = content(tmp_path)
    places = [(tmp_path / "run", True), (tmp_path / "new", False), (tmp_path / "closed" / "x", False)]
    output = tmp_path_factory.mktemp("said") / "output"
    (tmp_path / "closed").mkdir()
    for path in (*tmp_path.rglob("*"), tmp_path):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (tmp_path / "closed").chmod(0)
    opened = [parent for parent in tmp_path.parents if parent.stat().st_mode & 0o777 == 0o700]
    for parent in opened:
        parent.chmod(0o711)  # pytest's own folders
    try:
        status = Child(jobs.train_as_nobody, NoisyWalk, places, output=output).wait()
    finally:
        for parent in opened:
            parent.chmod(0o700)
        for path in (tmp_path, *(tmp_path / name for name in ("run", "closed")), *(tmp_path / "run").glob("seed_*")):
            path.chmod(0o755)
    said = output.read_text().splitlines()
    assert status == 0, said
    assert len(said) == 3
    assert "run could not be written: Permission denied. The last checkpoint is intact" in said[0]
    assert "new cannot be created or opened: Permission denied" in said[1]
    assert "x cannot be created or opened: Permission denied" in said[2]
    assert content(tmp_path) == before
