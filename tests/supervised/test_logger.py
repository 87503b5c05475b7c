import struct

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from supervised.logger import EVENTS, Logger


def scalars(folder, tag="a"):
    events = EventAccumulator(str(folder), purge_orphaned_data=False)
    events.Reload()
    return [(e.step, e.value) for e in events.Scalars(tag)]


def test_after_going_on_there_is_no_gap_and_no_doubled_point(tmp_path):
    logger = Logger(tmp_path)
    for step in (1, 2, 3):
        logger.scalars(step, {"a": step, "nothing": float("nan")})
        logger.scalars(step, {"a": -step}, "seed_0")
    saved = logger.state_dict()
    for step in (4, 5):
        logger.scalars(step, {"a": 99}, "seed_0")
        logger.scalars(step, {"a": 99})
    logger.scalars(4, {"a": 99}, "seed_1")  # a sub-run that began after the checkpoint
    logger.state_dict()
    # Killed here: the writers are never closed, and the last record is torn.
    file = next(tmp_path.glob(EVENTS))
    file.write_bytes(file.read_bytes() + struct.pack("<Q", 1000) + b"torn")

    again = Logger(tmp_path, saved, step=3)
    for step in (4, 5):
        again.scalars(step, {"a": step})
        again.scalars(step, {"a": -step}, "seed_0")
    again.close()
    assert scalars(tmp_path) == [(n, n) for n in range(1, 6)]
    assert scalars(tmp_path / "seed_0") == [(n, -n) for n in range(1, 6)]
    assert not list((tmp_path / "seed_1").glob(EVENTS))


def test_what_is_written_can_be_read_back(tmp_path):
    logger = Logger(tmp_path)
    logger.image(7, "picture", np.full((4, 5, 3), 128, np.uint8))
    logger.gif(8, "film", b"GIF89a", (4, 5))
    logger.text("note", "hello")
    logger.bands({"title": "a"})
    logger.hparams({"gamma": 0.9, "seeds": 2, "odd": (1, 2)}, ["a"])
    logger.close()
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    assert [e.step for e in events.Images("picture")] == [7]
    assert events.Images("film")[0].encoded_image_string == b"GIF89a"
    assert "note/text_summary" in events.Tags()["tensors"]
    assert set(events.summary_metadata) >= {"_hparams_/experiment", "custom_scalars__config__"}


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    Logger(tmp_path, {}, step=0).close()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(Exception, match="could not be written"):
        Logger(tmp_path / "file").scalars(1, {"a": 1.0})
