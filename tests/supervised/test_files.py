"""Files are replaced whole, and a folder has one user at a time."""

import contextlib
import errno
import multiprocessing
import os
import sys
import time
import types

import pytest

from supervised import checkpoint, files
from supervised.checkpoint import CheckpointError
from supervised.session import results


def test_a_file_is_what_it_was_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "f"
    files.write(path, b"old")
    with contextlib.suppress(KeyError), files.replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        raise KeyError
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("f", b"old")]


def test_links_are_replaced_not_followed(tmp_path):
    mine, link = tmp_path / "mine", tmp_path / "run.safetensors"
    mine.write_bytes(b"mine")
    link.symlink_to(mine)
    (tmp_path / "run.safetensors.writing").symlink_to(mine)  # where a temporary file was once
    checkpoint.save(link, {"n": 1}, {})
    checkpoint.save(link, {"n": 2}, {})
    assert mine.read_bytes() == b"mine"
    assert not link.is_symlink()
    assert checkpoint.load(link)[0] == {"n": 2}


def test_a_temporary_name_that_is_taken_is_not_written_to(tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)
    (tmp_path / ".f.00000000.writing").symlink_to(mine)
    with pytest.raises(FileExistsError):
        files.write(tmp_path / "f", b"new")
    assert mine.read_bytes() == b"mine"


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        files.write(tmp_path / "pipe", b"x")
    with pytest.raises(CheckpointError, match="could not be written"):
        checkpoint.save(tmp_path / "pipe", {}, {})


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    before = os.umask(0o022)
    try:
        checkpoint.save(tmp_path / "c", {}, {})
    finally:
        os.umask(before)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o644


def test_a_long_name(tmp_path):
    path = tmp_path / ("ü" * 120)
    files.write(path, b"x")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_killed_processes_left_is_removed(tmp_path):
    path, now = tmp_path / "c", time.time()
    for name, age in ((".c.00000001.writing", 4000), (".c.00000002.writing", 10), (".other.00000003.writing", 4000)):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (now - age, now - age))
    (tmp_path / "c.writing").write_bytes(b"somebody's")
    files.write(path, b"x")
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"c", ".c.00000002.writing", ".other.00000003.writing", "c.writing"}  # the second may be in use
    files.remove_temporary(path)
    assert ".c.00000002.writing" not in {p.name for p in tmp_path.iterdir()}


def test_the_one_before_is_never_missing(tmp_path, monkeypatch):
    """Whichever call is the last before a kill: both names hold a whole checkpoint."""
    path = tmp_path / "c"
    for name in ("replace", "link", "fsync"):
        for stop_at in (1, 2, 3):
            for n in (1, 2):
                checkpoint.save(path, {"n": n}, {})
            real, count = getattr(os, name), [0]

            def stop(*arguments, real=real, count=count, stop_at=stop_at):
                count[0] += 1
                if count[0] >= stop_at:
                    raise KeyboardInterrupt
                return real(*arguments)

            monkeypatch.setattr(os, name, stop)
            try:
                checkpoint.save(path, {"n": 3}, {})
            except KeyboardInterrupt:
                pass
            finally:
                monkeypatch.setattr(os, name, real)
            assert checkpoint.load(path)[0]["n"] in (2, 3)
            assert checkpoint.load(checkpoint.previous(path))[0]["n"] in (1, 2)
            assert not list(tmp_path.glob(".*"))


def test_a_save_after_one_that_was_killed_between_two_renames(tmp_path):
    """Both names are links of one file then."""
    path = tmp_path / "c"
    checkpoint.save(path, {"n": 1}, {})
    os.link(path, checkpoint.previous(path))
    checkpoint.save(path, {"n": 2}, {})
    assert checkpoint.load(checkpoint.previous(path))[0] == {"n": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "c.previous"]


def test_a_result_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    results.write({"steps": 1}, path)
    assert results.finished(path, steps=1) == {"steps": 1}
    assert results.finished(path, steps=2) is None

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"result\.json could not be written: No space left on device"):
        results.write({"steps": 2}, path)
    assert results.finished(path, steps=1) == {"steps": 1}
    assert len(list(tmp_path.iterdir())) == 1
    for damaged in ("", "{", "[]", "[" * 100_000):
        path.write_text(damaged)
        assert results.finished(path, steps=1) is None
    assert results.finished(tmp_path / "none") is None


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path):
    with contextlib.suppress(KeyError), files.exclusive(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
        raise KeyError
    assert not (tmp_path / "a").exists()
    with contextlib.suppress(KeyError), files.exclusive(tmp_path / "a" / "b"):
        (tmp_path / "a" / "file").write_text("x")
        raise KeyError
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["file"]
    with files.exclusive(tmp_path / "c"):
        pass
    assert (tmp_path / "c").is_dir()
    with pytest.raises(RuntimeError), files.exclusive(tmp_path / "c"):
        raise RuntimeError
    assert (tmp_path / "c").is_dir()  # it was there before


def _try(folder, fails, gate, answers):
    gate.wait()
    try:
        with checkpoint.alone_in(folder):
            answers.put("in")
            gate.wait()  # until all have tried
            if fails:
                raise KeyError
            (folder / "file").write_text("x")
    except CheckpointError as error:
        answers.put(str(error))
        gate.wait()
    except KeyError:
        pass


@pytest.mark.parametrize("fails", [False, True])
def test_of_two_that_make_the_same_folder_one_has_it(fails, tmp_path):
    context = multiprocessing.get_context("fork")
    for i in range(10):
        folder, gate, answers = tmp_path / str(i) / "run", context.Barrier(2), context.Queue()
        both = [context.Process(target=_try, args=(folder, fails, gate, answers)) for _ in range(2)]
        for process in both:
            process.start()
        said = sorted(answers.get(timeout=30) for _ in range(2))
        for process in both:
            process.join(30)
        assert said[1] == "in"
        assert said[0].startswith("Another process is training in")
        assert folder.exists() != fails


def test_a_folder_that_is_removed_while_it_is_being_locked(tmp_path, monkeypatch):
    """The lock of a folder that is not there any more holds nobody off: it is made and locked again."""
    lock, count = files._lock, [0]

    def removed(folder):
        count[0] += 1
        if count[0] == 1:
            descriptor = lock(folder)
            folder.rmdir()
            return descriptor
        if count[0] == 2:
            folder.rmdir()
        return lock(folder)

    monkeypatch.setattr(files, "_lock", removed)
    with files.exclusive(tmp_path / "run"):
        monkeypatch.undo()
        assert count[0] == 3
        with pytest.raises(files.FolderInUse), files.exclusive(tmp_path / "run"):
            pass


def test_a_symbolic_link_to_the_folder_is_the_same_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    (tmp_path / "run").mkdir()
    again = checkpoint.alone_in(tmp_path / "link")
    with checkpoint.alone_in(tmp_path / "run"), pytest.raises(CheckpointError, match="Another process"), again:
        pass
    (tmp_path / "run").rmdir()
    with pytest.raises(CheckpointError, match="cannot be created"), checkpoint.alone_in(tmp_path / "link"):
        pass


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    import fcntl

    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.warns(UserWarning, match=r"cannot be locked \(No locks available\)"), files.exclusive(tmp_path / "run"):
        pass


def test_windows_locks_a_file_in_the_folder(tmp_path, monkeypatch):
    """A stand-in for msvcrt, by the locks of this system."""
    import fcntl

    def locking(descriptor, mode, size):
        assert (mode, size) == (2, 1)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setattr(sys, "platform", "win32")
    with files.exclusive(tmp_path / "run"), pytest.raises(files.FolderInUse), files.exclusive(tmp_path / "run"):
        pass
    with files.exclusive(tmp_path / "run"):
        pass
