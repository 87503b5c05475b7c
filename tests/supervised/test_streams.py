import json

import numpy as np
import pytest

from supervised import Streams
from supervised.streams import PURPOSES, BufferedStreams, generator


def test_a_seed_draws_the_same_alone_and_among_others():
    many, alone = Streams([3, 5, 9]), Streams([5])
    for draw in (lambda s: s.uniform(4), lambda s: s.normal(2, 3), lambda s: s.integers(10, 5)):
        assert (draw(many)[1] == draw(alone)[0]).all()


def test_shapes_and_ranges():
    streams = Streams(range(3))
    assert streams.uniform(4, 2).shape == (3, 4, 2)
    assert set(streams.integers(2, 50).unique().tolist()) == {0, 1}


def test_purposes_and_seeds_are_independent():
    draws = {generator(seed, purpose).random() for purpose in PURPOSES for seed in (0, 1)}
    assert len(draws) == 2 * len(PURPOSES)


def test_state_goes_through_json():
    streams = Streams([1, 2])
    streams.integers(7, 3)
    saved = json.loads(json.dumps(streams.state_dict()))
    expected = streams.normal(5)
    other = Streams([1, 2])
    other.load_state_dict(saved)
    assert np.array_equal(other.normal(5), expected)


def test_a_damaged_state_is_refused():
    streams = Streams([1])
    for bad in (
        [],
        [{}],
        [{"bit_generator": "MT19937"}],
        [{**streams.state_dict()[0], "state": {"state": "x", "inc": 1}}],
    ):
        with pytest.raises(ValueError, match="damaged"):
            streams.load_state_dict(bad)


def test_numbers_drawn_ahead_are_the_same_numbers():
    ahead, usual = BufferedStreams([3, 5]), Streams([3, 5])
    for shape in ((1,), (700,), (3, 2), (400,), (5000,), ()):
        assert (ahead.uniform(*shape) == usual.uniform(*shape)).all()
    saved = ahead.state_dict()
    other = BufferedStreams([3, 5])
    other.load_state_dict(saved)
    assert (ahead.uniform(2000) == other.uniform(2000)).all()
    with pytest.raises(ValueError, match="damaged"):
        other.load_state_dict({**saved, "drawn": saved["drawn"][:1]})
