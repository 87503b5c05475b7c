import contextlib
import json
import os
import resource
import signal
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervised import checkpoint
from supervised.checkpoint import CheckpointError

STATE = {"a": np.arange(6.0).reshape(2, 3), "deep": {"list": [np.array([1, 2]), {"x": 7, "y": None}], "text": "ü"}}


def test_a_state_comes_back_as_it_was(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, STATE, {"kind": "test"})
    state, meta = checkpoint.load(path)
    assert np.array_equal(state["a"], STATE["a"])
    assert np.array_equal(state["deep"]["list"][0], [1, 2])
    assert state["deep"]["list"][1] == {"x": 7, "y": None}
    assert meta == {"format": checkpoint.FORMAT, "kind": "test"}


def test_the_one_before_is_kept_and_offered(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"n": 1}, {})
    checkpoint.save(path, {"n": 2}, {})
    assert checkpoint.load(checkpoint.previous(path))[0] == {"n": 1}
    path.write_bytes(path.read_bytes()[:-3] if path.stat().st_size > 3 else b"")
    with pytest.raises(CheckpointError, match=r"truncated.*previous one is intact.*previous"):
        checkpoint.load(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_cut_or_flipped_byte_gives_a_sentence_or_the_right_kind_of_data(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("c") / "c.safetensors"
    checkpoint.save(path, STATE, {"kind": "test"})
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(CheckpointError):
            checkpoint.load(path)
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :])
        with contextlib.suppress(CheckpointError):  # a flipped bit in the numbers themselves is no damage to the form
            checkpoint.load(path)


def header_file(path, metadata):
    head = json.dumps({"__metadata__": metadata}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head)


def test_foreign_future_and_missing_files(tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(CheckpointError, match="There is no checkpoint at"):
        checkpoint.load(path)
    header_file(path, {})
    with pytest.raises(CheckpointError, match="not one of this package"):
        checkpoint.load(path)
    header_file(path, {"header": json.dumps({"format": 99})})
    with pytest.raises(CheckpointError, match="newer version"):
        checkpoint.load(path)
    header_file(path, {"header": "[" * 100_000})
    with pytest.raises(CheckpointError, match="not an intact checkpoint"):
        checkpoint.load(path)
    header_file(path, {"header": json.dumps({"format": 1, "state": {"$array": "missing"}})})
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(path)


def test_what_is_not_data_cannot_be_saved(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"n": 1}, {})
    for bad in ({"f": print}, {"x": float("nan")}):
        with pytest.raises(CheckpointError, match="could not be written"):
            checkpoint.save(path, bad, {})
    assert checkpoint.load(path)[0] == {"n": 1}


def test_a_full_disk_leaves_the_good_one(tmp_path):
    """A limit on the size of files stands in for the full disk: the same error comes from the same call."""
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"n": 1}, {})
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"(?s)could not be written.*untouched"):
            checkpoint.save(path, {"n": np.zeros(10_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert checkpoint.load(path)[0] == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_a_folder_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("x")
    with pytest.raises(CheckpointError, match="it is a folder"):
        checkpoint.save(tmp_path / "folder", {}, {})
    assert (tmp_path / "folder" / "mine").read_text() == "x"


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="could not be written"):
        checkpoint.save(tmp_path / "file" / "c.safetensors", {}, {})


def test_no_moment_without_a_whole_file(tmp_path, monkeypatch):
    """Stop the save at each of its system calls: a whole checkpoint is always there under one of the names."""
    path = tmp_path / "c.safetensors"
    for name in ("fsync", "link", "replace"):
        for n in (1, 2):
            checkpoint.save(path, {"n": n}, {})
        real = getattr(os, name)

        def stop(*args, real=real):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, name, stop)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(path, {"n": 3}, {})
        monkeypatch.setattr(os, name, real)
        assert checkpoint.load(path)[0]["n"] in (2, 3)


def test_a_single_number_stays_one(tmp_path):
    checkpoint.save(tmp_path / "a", {"x": np.array(3.0), "y": np.arange(6).reshape(2, 3).T}, {})
    state, _ = checkpoint.load(tmp_path / "a")
    assert state["x"].shape == ()
    assert state["y"].tolist() == [[0, 3], [1, 4], [2, 5]]
