"""Damaged checkpoints: what was flipped, exchanged, cut or nested is refused."""

import json
import random
import shutil
from pathlib import Path

import flips
import numpy as np
import pytest
from safetensors import safe_open

from supervised import checkpoint
from supervised.checkpoint import CheckpointError

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(params=["table/run", "deep/run", "fit/fit", "network.policy"])
def path(request, tmp_path):
    return Path(shutil.copy(FIXTURES / f"format{checkpoint.FORMAT}" / f"{request.param}.safetensors", tmp_path))


def test_no_flipped_bit_is_accepted(path):
    whole, rng = path.read_bytes(), random.Random(0)
    assert flips.accepted(path, [whole]) == [0]
    bits = [rng.randrange(8 * len(whole)) for _ in range(300)]
    assert flips.accepted(path, flips.flipped(whole, bits)) == []


def test_no_flipped_bit_makes_a_new_file_look_old(path):
    """Each bit of both marks: the format number, and that there is a checksum."""
    whole = path.read_bytes()
    assert len(flips.marks(whole)) == 8 * (21 + 13)
    assert flips.accepted(path, flips.flipped(whole, flips.marks(whole))) == []


def test_no_exchanged_arrays_are_accepted(path):
    assert flips.accepted(path, flips.swapped(path.read_bytes())) == []


def test_the_marks_must_agree(tmp_path):
    """Two flips or more: a format of 1 with a checksum, one of 2 without."""
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"n": np.arange(3)}, {})
    whole = path.read_bytes()
    assert flips.accepted(path, [whole.replace(b'\\"format\\": 2', b'\\"format\\": 1')]) == []
    old = (FIXTURES / "format1" / "table" / "run.safetensors").read_bytes()
    assert flips.accepted(path, [old, old.replace(b'\\"format\\": 1', b'\\"format\\": 2')]) == [0]


@pytest.mark.parametrize("form", [1, 2])
@pytest.mark.parametrize("where", ["state", "meta"])
def test_a_header_nested_950_deep(form, where, tmp_path):
    path = tmp_path / "c.safetensors"
    nested = "[" * 950 + "]" * 950
    state, more = (nested, "") if where == "state" else ('{"n": 1}', f', "config": {nested}')
    header = f'{{"format": {form}, "state": {state}{more}}}'
    metadata = {"header": header} if form == 1 else {"checksum": "00000000", "header": header}
    text = json.dumps({"__metadata__": metadata}, separators=(",", ":")).encode()
    content = len(text).to_bytes(8, "little") + text
    path.write_bytes(content)
    if form == 2:  # with the right checksum
        import zlib

        path.write_bytes(content.replace(b"00000000", f"{zlib.crc32(content):08x}".encode()))
    with pytest.raises(CheckpointError, match="nested more than 64 deep"):
        checkpoint.load(path)


@pytest.mark.parametrize("deep", [65, 950, 5000])
def test_what_is_nested_too_deep_is_not_saved(deep, tmp_path):
    value = 1
    for _ in range(deep):
        value = {"x": value}
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"n": 1}, {})
    for state, meta in (({"n": value}, {}), ({}, {"n": value})):
        with pytest.raises(CheckpointError, match="nested more than 64 deep"):
            checkpoint.save(path, state, meta)
    assert checkpoint.load(path)[0] == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_other_programs_read_the_file(tmp_path):
    path = tmp_path / "c.safetensors"
    state = {
        "a": np.arange(6.0).reshape(2, 3).T,
        "none": np.zeros((0, 3), np.float32),
        "bytes": np.arange(5, dtype=np.uint8),
    }
    state |= {
        "one": np.array(3),
        "yes": np.array([True, False]),
        "half": np.ones(3, np.float16),
        "big": np.arange(3, dtype=">i4"),
    }
    checkpoint.save(path, state, {"kind": "test"})
    with safe_open(path, "numpy") as file:
        assert json.loads(file.metadata()["header"])["format"] == checkpoint.FORMAT
        for name, array in state.items():
            assert np.array_equal(file.get_tensor(name), array)
    found, _ = checkpoint.load(path)
    for name, array in state.items():
        assert found[name].shape == array.shape
        assert found[name].flags.writeable
        assert np.array_equal(found[name], array)


def test_no_two_keys_are_one_array(tmp_path):
    """Keys with slashes in them, empty ones, and the one that safetensors keeps for itself."""
    state = {
        "x": {"y": np.array([1])},
        "x/y": np.array([2]),
        "": {"x": {"y": np.array([3])}},
        "__metadata__": np.array([4]),
    }
    checkpoint.save(tmp_path / "c", state, {})
    found, _ = checkpoint.load(tmp_path / "c")
    assert [int(found["x"]["y"][0]), int(found["x/y"][0]), int(found[""]["x"]["y"][0])] == [1, 2, 3]
    assert int(found["__metadata__"][0]) == 4


@pytest.mark.parametrize("state", [{"x": np.array([object()])}, {"x": np.array(1j)}, {1: 2}, {"$array": "x"}])
def test_what_cannot_come_back_is_not_saved(state, tmp_path):
    with pytest.raises(CheckpointError, match="could not be written"):
        checkpoint.save(tmp_path / "c", state, {})
    assert not list(tmp_path.iterdir())


def test_a_header_is_read_alone(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"n": np.zeros(1000)}, {"kind": "test", "step": 3})
    header = checkpoint.read_header(path)
    assert (header["kind"], header["step"], header["format"]) == ("test", 3, checkpoint.FORMAT)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="not an intact checkpoint"):
        checkpoint.read_header(path)


def test_a_newer_format_is_no_damage(tmp_path):
    """The one before it, of an older format, is not taken in its place: that would lose what the newer package wrote."""
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"n": 1}, {})
    text = json.dumps({"__metadata__": {"header": json.dumps({"format": 99})}}).encode()
    shutil.copy(path, checkpoint.previous(path))
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CheckpointError, match=r"newer version of this package .*upgrade to load it\.$"):
        checkpoint.newest(path)
