"""`--resume` of a finished run says so, and leaves result.json unchanged."""

import json

import pytest
from daily import daily
from helpers import run_in_process

COMMANDS = {
    "train_frozenlake.py": ["--steps", 600, "--seeds", 2],
    "train.py": ["MountainCar-v0", "--agent", "linear-sarsa", "--steps", 60, "--seeds", 2, "--episodes", 2],
    "train_supervised.py": ["mnist-softmax", "--data", "digits", "--epochs", 1, "--seeds", 1],
    "compare.py": ["textbook", "--steps", 50, "--seeds", 2, "--panels", "cliff"],
}


@pytest.mark.parametrize("name", daily(COMMANDS, ("train_frozenlake.py", "train_supervised.py")))
def test_what_is_finished_is_left_as_it_is(name, tmp_path):
    words = [*COMMANDS[name], "--logdir", "run"]
    run_in_process(name, *words, cwd=tmp_path)
    path = tmp_path / "run" / "result.json"
    before = path.read_bytes()
    done = run_in_process(name, *words, "--resume", cwd=tmp_path)
    assert "is unchanged" in done.stdout
    assert path.read_bytes() == before
    wall = json.loads(before)["wall_seconds"]
    assert f"{wall:.1f} s" in done.stdout  # as it was, not as long as looking took


def test_what_went_on_is_judged_anew(tmp_path):
    words = ["--seeds", 2, "--logdir", "run"]
    path = tmp_path / "run" / "result.json"
    run_in_process("train_frozenlake.py", "--steps", 600, *words, cwd=tmp_path)
    run_in_process("train_frozenlake.py", "--steps", 700, *words, "--resume", cwd=tmp_path)
    assert json.loads(path.read_text())["steps"] == 700
    for damaged in ("", "{", '{"steps": 600}'):  # killed before it was written, or of a run that went on
        path.write_text(damaged)
        run_in_process("train_frozenlake.py", "--steps", 700, *words, "--resume", cwd=tmp_path)
        assert json.loads(path.read_text())["steps"] == 700
