"""Folders of every checkpoint format that there was are resumed as if they were of today."""

import importlib.util
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers import NoisyWalk, curves

import rl
import supervised
from supervised import checkpoint

FIXTURES = Path(__file__).parent / "fixtures"
FORMATS = sorted(int(path.name.removeprefix("format")) for path in FIXTURES.glob("format*"))
spec = importlib.util.spec_from_file_location("fixtures_make", FIXTURES / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


@pytest.fixture(params=FORMATS)
def fixtures(request, tmp_path):
    """A copy of the folders of one format."""
    return Path(shutil.copytree(FIXTURES / f"format{request.param}", tmp_path / "fixtures"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same runs of today, never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return {name: (train(folder / name), curves(folder / name)) for name, train in make.KINDS.items()}


def test_a_fixture_of_the_format_of_today():
    assert checkpoint.FORMAT in FORMATS
    for path in FIXTURES.glob("format*/*/*.safetensors"):
        assert checkpoint.read_header(path)["format"] == int(path.parts[-3].removeprefix("format"))


@pytest.mark.parametrize("name", ["table", "first", "plain"])
def test_tables_are_resumed_bit_for_bit(name, fixtures, whole):
    expected, points = whole[name.replace("first", "table")]
    assert rl.load(fixtures / name / "run.safetensors", NoisyWalk if name == "plain" else None).step < expected.step
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is amiss with the event files
        run = make.KINDS[name.replace("first", "table")](fixtures / name, resume=True)
    assert run.agent.table.tobytes() == expected.agent.table.tobytes()
    assert run.loop.streams.state_dict() == expected.loop.streams.state_dict()
    found = curves(fixtures / name)
    # The fixtures have no pictures; how an interval is computed may change.
    scalars = {
        key: value for key, value in points.items() if not re.search("^table/|^with_interval/|_low$|_high$", key[1])
    }
    assert {key: found[key] for key in scalars} == scalars
    assert tags(fixtures / name) == {"configuration/text_summary", "custom_scalars__config__", "_hparams_/experiment"}


@pytest.mark.parametrize("name", ["deep", "fit"])
def test_networks_are_resumed(name, fixtures, whole):
    """Not to the bit: the fixture's first half was computed on another machine."""
    expected, points = whole[name]
    known = curves(fixtures / name)
    assert len(known) > 20
    again = make.KINDS[name](fixtures / name, resume=True)
    assert again.step == expected.step
    found = again.agent.online.weights if name == "deep" else again.stack.weights
    wanted = expected.agent.online.weights if name == "deep" else expected.stack.weights
    for key, weight in wanted.items():
        np.testing.assert_allclose(found[key].detach(), weight.detach(), rtol=0, atol=2e-2)
    steps = {key: [step for step, _ in value] for key, value in points.items()}
    scalars = {
        key: value
        for key, value in steps.items()
        if key in known and key[1].split("/")[0] in ("train", "rollout", "validation")
    }
    assert {key: [step for step, _ in curves(fixtures / name)[key]] for key in scalars} == scalars
    assert "graph" in tags(fixtures / name)


def test_policies_are_read(fixtures):
    table, network = (rl.load_policy(fixtures / f"{name}.policy.safetensors") for name in ("table", "network"))
    assert table.predict(0)[0] in range(4)
    assert network.predict(np.zeros(4, np.float32))[0] in (0, 1)


def test_the_previous_checkpoint_is_resumed_too(fixtures, whole):
    path = fixtures / "table" / "run.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=r"run.safetensors is damaged: resuming from the previous checkpoint"):
        run = make.table(fixtures / "table", resume=True)
    assert run.agent.table.tobytes() == whole["table"][0].agent.table.tobytes()
    found, points = curves(fixtures / "table"), whole["table"][1]
    assert found["seed_5", "train/td_error"] == points["seed_5", "train/td_error"]


def test_fits_are_loaded(fixtures):
    assert supervised.load(fixtures / "fit", lambda: supervised.MLP(3, 2, (4,))).seeds == (0, 1)


def tags(folder):
    """What is written once, at the beginning."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    found = {*events.summary_metadata, *(["graph"] if events.Tags()["graph"] else [])}
    return found & {"configuration/text_summary", "custom_scalars__config__", "_hparams_/experiment", "graph"}
