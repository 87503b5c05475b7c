"""Data: what is read comes out right, and what is wrong is told with its place."""

import functools
import gzip
import hashlib
import http.server
import struct
import threading

import numpy as np
import pytest
import torch

from supervised import mnist
from supervised.augment import Affine, Noise, Shift
from supervised.data import Characters, DataError, as_data, next_characters, read_csv, scale, split, windows


def idx(array):
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Four idx files that pass for MNIST's -> (their folder, their arrays)."""
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.integers(0, 256, (6, 5, 4)) if "images" in name else rng.integers(0, 10, 6) for name in mnist.FILES
    }
    folder = tmp_path / "idx"
    folder.mkdir()
    for i, (name, array) in enumerate(arrays.items()):
        raw = idx(array)
        monkeypatch.setitem(mnist.FILES, name, hashlib.sha256(raw).hexdigest())
        (folder / (name + ".gz" * (i % 2))).write_bytes(gzip.compress(raw) if i % 2 else raw)
    return folder, arrays


def test_idx_files_packed_or_not(small):
    folder, arrays = small
    found = mnist.mnist(folder)
    assert found.train.x.dtype == torch.uint8
    assert np.array_equal(found.train.x, arrays["train-images-idx3-ubyte"])
    assert np.array_equal(found.test.y, arrays["t10k-labels-idx1-ubyte"])
    assert found.test.y.dtype == torch.int64


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda raw: raw[:-3],
            "is truncated or has extra bytes: its header announces 6 x 5 x 4 bytes, but 117 follow",
        ),
        (lambda raw: raw + b"x", "its header announces 6 x 5 x 4 bytes, but 121 follow"),
        (lambda raw: raw[:6], "truncated"),
        (lambda raw: b"", "is not an idx file of bytes: it begins with nothing"),
        (lambda raw: b"PK\x03\x04" + raw, "is not an idx file of bytes: it begins with 504b0304"),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "a valid idx file, but not MNIST's"),
        (lambda raw: gzip.compress(raw)[:-20], "cannot be read: .* truncated or damaged"),
        (lambda raw: raw[:4] + b"\xff" * 12 + raw[16:], "its header announces"),
    ],
)
def test_damaged_idx_files(small, damage, said):
    folder, _ = small
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=said):
        mnist.mnist(folder)


def test_missing_files(small, tmp_path):
    folder, _ = small
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        DataError, match=r"MNIST was not found: .* contains neither t10k-labels-idx1-ubyte nor t10k-labels"
    ):
        mnist.mnist(folder)
    with pytest.raises(DataError, match="is not a folder"):
        mnist.mnist(tmp_path / "nowhere")


@pytest.fixture
def mirror(tmp_path):
    """A web server over a folder -> (its address, the folder)."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


def test_downloads_go_to_the_cache_whole_or_not_at_all(small, mirror, tmp_path, monkeypatch):
    _, arrays = small
    address, served = mirror
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, array in arrays.items():
        (served / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    whole = served / "train-images-idx3-ubyte.gz"
    packed = whole.read_bytes()
    whole.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"could not be downloaded\. .*truncated.* Pass the directory"):
        mnist.mnist(mirrors=[address])
    assert not list((tmp_path / "cache").rglob("*images*")), "half a file was left"
    whole.write_bytes(packed)
    found = mnist.mnist(mirrors=["http://127.0.0.1:9/nobody", address])  # the first does not answer
    assert np.array_equal(found.train.x, arrays["train-images-idx3-ubyte"])
    assert sorted(p.name for p in (tmp_path / "cache" / "valuebased").iterdir()) == sorted(f"{n}.gz" for n in arrays)
    assert np.array_equal(mnist.mnist(mirrors=[]).train.x, found.train.x), "the cache was not used"


def test_the_embedded_digits():
    found = mnist.digits()
    assert found.train.x.shape == (1438, 8, 8)
    assert found.test.x.shape == (359, 8, 8)
    assert found.train.x.dtype == torch.uint8
    assert found.train.x.max() == 255
    assert sorted(found.test.y.unique().tolist()) == list(range(10))


def test_as_data():
    pair = as_data(([[1, 2], [3, 4]], [True, False]))
    assert pair.x.dtype == torch.int64
    assert pair.y.tolist() == [1, 0]
    assert as_data((np.zeros((2, 2)), [0, 1])).x.dtype == torch.float32
    assert as_data((torch.zeros(2, 3, dtype=torch.uint8), [0, 1])).x.dtype == torch.uint8
    x = np.zeros((3, 2))
    x[1, 1] = np.nan
    cases = [
        ((x, [0, 0, 0]), r"x\[1, 1\] is nan; all must be finite"),
        (([[1.0], [np.inf]], [0, 0]), r"x\[1, 0\] is inf"),
        (([[1.0]], [0, 1]), "x has 1 examples and y has 2"),
        (([], []), "is empty"),
        ((5, [1]), "a single number"),
        (([[1], [2, 3]], [0, 1]), "numbers in a regular array"),
        ((["a"], [1]), "numbers in a regular array"),
        (([1j], [1]), "complex"),
        (([1e300], [1]), "exceeds the range of float32"),
        ("xy", "must be a pair"),
        (([1],), "must be a pair"),
    ]
    for bad, said in cases:
        with pytest.raises(DataError, match=said):
            as_data(bad)


def test_split():
    x = torch.arange(100)
    rest, validation, test = split((x, x), 0.1, 0.2, seed=3)
    assert [len(p.x) for p in (rest, validation, test)] == [70, 10, 20]
    assert sorted(torch.cat([p.x for p in (rest, validation, test)]).tolist()) == list(range(100))
    assert torch.equal(rest.x, rest.y)
    assert torch.equal(split((x, x), 0.1, 0.2, seed=3)[0].x, rest.x)
    assert not torch.equal(split((x, x), 0.1, 0.2, seed=4)[0].x, rest.x)
    assert split((x, x), 0.3, shuffle=False)[1].x.tolist() == list(range(70, 100))
    for bad in (0, 1, -0.1, True, "a"):
        with pytest.raises(DataError, match="must lie in"):
            split((x, x), bad)
    with pytest.raises(DataError, match="cannot be cut into parts of"):
        split((x[:3], x[:3]), 0.1)
    with pytest.raises(DataError, match="cannot be cut into parts of"):
        split((x, x), 0.6, 0.6)


def test_scaling_looks_at_the_training_part_alone():
    train, test = np.array([[0.0, 10.0], [2.0, 30.0]]), np.array([[4.0, 20.0]])
    scaler, (a, b) = scale("min_max", train, test)
    assert a.tolist() == [[0, 0], [1, 1]]
    assert b.tolist() == [[2, 0.5]]
    np.testing.assert_allclose(scaler.inverse_transform(b), test)
    _, (a, b) = scale("standard", train, test)
    np.testing.assert_allclose(a.mean(0), 0)
    np.testing.assert_allclose(a.std(0), 1)
    np.testing.assert_allclose(b, [[3, 0]])
    assert b.dtype == np.float32
    assert scale("standard", np.ones((3, 1)))[1][0].tolist() == [[0], [0], [0]]  # a constant column
    with pytest.raises(ValueError, match=r"no scaling 'minmax'\. Did you mean 'min_max'"):
        scale("minmax", train)
    with pytest.raises(DataError, match="the same columns"):
        scale("standard", train, np.ones((2, 3)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n3,x\n", r"line 3, column b: 'x' is not a number"),
        ("1,2\n3,\n", r"line 2, column 1 is empty"),
        ("1,2\n3\n", r"line 2: found 1 columns, expected 2"),
        ("a,b\n1,nan\n", r"line 2, column b: nan is not a finite number"),
        ("# nothing\n\n", "contains no rows of numbers"),
        ("", "contains no rows of numbers"),
        ("a,a\n1,2\n", "two columns are named 'a'"),
        ("1,2\nname,3\n", r"line 2, column 0: 'name' is not a number"),
    ],
)
def test_csv_that_cannot_be_read(text, said, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_csv(path)


def test_csv(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("# a comment, with commas\n\nOpen, Close\n1,2.5\n-3,4e2\n")
    table = read_csv(path)
    assert table.names == ("Open", "Close")
    assert table.values.tolist() == [[1, 2.5], [-3, 400]]
    assert table.columns("Close").tolist() == [[2.5], [400]]
    with pytest.raises(ValueError, match=r"no column 'close'\. Did you mean 'Close'\?"):
        table.columns("close")
    path.write_text("1,2\n3,4\n")
    assert read_csv(path).names == ("column0", "column1")
    assert read_csv(path, names=["a", "b"]).columns("b").tolist() == [[2], [4]]
    with pytest.raises(DataError, match="found 2 columns, expected 3"):
        read_csv(path, names=["a", "b", "c"])
    with pytest.raises(DataError, match="does not exist"):
        read_csv(tmp_path / "no.csv")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_csv(tmp_path)
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_csv(path)


def test_windows():
    series = np.arange(12).reshape(6, 2)
    pair = windows(series, 3)
    assert pair.x.shape == (3, 3, 2)
    assert pair.x[1].tolist() == [[2, 3], [4, 5], [6, 7]]
    assert pair.y.tolist() == [[6, 7], [8, 9], [10, 11]]
    ahead = windows(series, 2, target=series[:, :1], ahead=3)
    assert ahead.x[0].tolist() == [[0, 1], [2, 3]]
    assert ahead.y.tolist() == [[8], [10]]
    with pytest.raises(
        DataError, match="A series of 6 steps is too short for a window of 6 and a target 1 ahead: at least 7"
    ):
        windows(series, 6)
    with pytest.raises(DataError, match="6 steps and its target 5"):
        windows(series, 2, target=series[:5])
    with pytest.raises(DataError, match="whole number of at least 1"):
        windows(series, 0)


def test_characters():
    characters = Characters("hihello")
    assert characters.all == "ehilo"
    assert characters.decode(characters.encode("hello")) == "hello"
    assert characters.one_hot("he").tolist() == [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    with pytest.raises(DataError, match="Character 2, 'x', of the text is not among the 5 known characters"):
        characters.encode("hex")
    with pytest.raises(DataError, match="empty text"):
        Characters("")
    found, pair = next_characters("hihello")
    assert [found.decode(pair.x[0]), found.decode(pair.y[0])] == ["hihell", "ihello"]
    _, pair = next_characters("hihello", 3)
    assert pair.x.shape == (4, 3)
    assert torch.equal(pair.x[1:, 0], pair.y[:-1, 0])
    with pytest.raises(DataError, match="windows of 1 to 6 characters, not 7"):
        next_characters("hihello", 7)


def test_shifts():
    x = torch.zeros(200, 1, 5, 5)
    x[:, 0, 2, 2] = 1
    moved = Shift(2)(x, torch.Generator().manual_seed(0))
    assert (moved.sum((1, 2, 3)) == 1).all()
    assert (moved.sum(0)[0] > 0).all(), "each of the 25 places comes up"
    x[:, 0, 2, 2], x[:, 0, 0, 0] = 0, 1
    assert 0 < (Shift(2)(x, torch.Generator().manual_seed(0)).sum((1, 2, 3)) == 0).sum() < 200, "what leaves is gone"
    assert torch.equal(Shift(0)(x, torch.Generator()), x)


def test_affine():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(8, 3, 9, 7, generator=generator)
    torch.testing.assert_close(Affine(0, 0, 0, 0)(x, generator), x)
    assert Affine()(x[:, 0], generator).shape == (8, 9, 7)
    ring = torch.zeros(500, 21, 21)
    ring[:, 10, 18] = 1  # 8 to the right of the middle
    turned = Affine(degrees=30, scale=0)(ring, generator)
    rows, columns = torch.meshgrid(torch.arange(21.0) - 10, torch.arange(21.0) - 10, indexing="ij")
    mass = turned.sum((1, 2))
    angle = torch.rad2deg(torch.atan2((turned * rows).sum((1, 2)) / mass, (turned * columns).sum((1, 2)) / mass))
    radius = torch.hypot((turned * rows).sum((1, 2)) / mass, (turned * columns).sum((1, 2)) / mass)
    assert 27 < angle.abs().max() < 31
    assert abs(angle.mean()) < 3
    torch.testing.assert_close(radius, torch.full_like(radius, 8), atol=0.3, rtol=0)


@pytest.mark.parametrize("shape", [(6, 14), (14, 6), (2, 20)])
def test_a_picture_that_is_not_square_is_turned_and_slanted_as_within_a_square(shape):
    h, w = shape
    side, settings = 20, {"degrees": 40, "scale": 0.2, "shear": 15}
    x = torch.rand(16, 2, h, w, generator=torch.Generator().manual_seed(1))
    square, top, left = torch.zeros(16, 2, side, side), (side - h) // 2, (side - w) // 2
    square[..., top : top + h, left : left + w] = x
    alone = Affine(**settings)(x, torch.Generator().manual_seed(2))
    within = Affine(**settings)(square, torch.Generator().manual_seed(2))
    torch.testing.assert_close(alone, within[..., top : top + h, left : left + w], atol=1e-4, rtol=1e-4)


def test_noise_and_checks():
    x = torch.full((4, 50, 50), 0.5)
    noisy = Noise(0.1)(x, torch.Generator().manual_seed(0))
    assert noisy.std().item() == pytest.approx(0.1, rel=0.05)
    assert Noise(3)(x, torch.Generator()).min() == 0
    kinds = [
        (Shift, {"pixels": -1}),
        (Shift, {"pixels": 1.5}),
        (Noise, {"std": float("nan")}),
        (Affine, {"scale": 1.0}),
    ]
    for kind, settings in [*kinds, (Affine, {"shear": 90})]:
        with pytest.raises(ValueError, match=r"number of at least 0|(scale|shear) must lie in"):
            kind(**settings)
