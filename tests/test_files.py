"""A file is written whole or not at all, whatever goes wrong on the way."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from deconvviz.errors import OutputError
from deconvviz.files import write_whole


def put(content: bytes):
    return lambda stream: stream.write(content)


def entries(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_writes_and_returns_the_path_as_it_was_given(tmp_path):
    given = str(tmp_path / "grid.json")
    assert write_whole(given, put(b"[]")) == Path(given)
    assert (tmp_path / "grid.json").read_bytes() == b"[]"
    assert entries(tmp_path) == ["grid.json"]


def test_makes_missing_folders(tmp_path):
    write_whole(tmp_path / "a" / "b" / "c.bin", put(b"x"))
    assert entries(tmp_path) == ["a", "a/b", "a/b/c.bin"]


def test_new_file_has_the_permissions_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "new", put(b""))
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_refuses_to_overwrite_and_says_how(tmp_path):
    target = tmp_path / "grid.png"
    target.write_bytes(b"old")
    with pytest.raises(OutputError) as caught:
        write_whole(target, put(b"new"))
    assert str(caught.value) == (
        f"{target} already exists. Overwrite it with force=True or choose another name"
    )
    assert target.read_bytes() == b"old"
    assert entries(tmp_path) == ["grid.png"]


def test_refusal_comes_before_the_work(tmp_path):
    (tmp_path / "grid.png").write_bytes(b"old")
    with pytest.raises(OutputError):
        write_whole(tmp_path / "grid.png", lambda stream: pytest.fail("wrote although the file exists"))


def test_force_overwrites_and_keeps_the_mode(tmp_path):
    target = tmp_path / "grid.png"
    target.write_bytes(b"old")
    target.chmod(0o664)
    write_whole(target, put(b"new"), force=True)
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o664


def test_force_needs_no_file_to_be_there(tmp_path):
    write_whole(tmp_path / "new", put(b"new"), force=True)
    assert (tmp_path / "new").read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    target = tmp_path / "grid.png"

    def slow(stream: BinaryIO) -> None:
        target.write_bytes(b"another process")
        stream.write(b"ours")

    with pytest.raises(OutputError, match="already exists"):
        write_whole(target, slow)
    assert target.read_bytes() == b"another process"
    assert entries(tmp_path) == ["grid.png"]


@pytest.mark.parametrize("taken", [False, True])
def test_without_hard_links(tmp_path, monkeypatch, taken):
    def no_links(source: object, target: Path) -> None:
        if taken:
            Path(target).write_bytes(b"another process")
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    if taken:
        with pytest.raises(OutputError, match="already exists"):
            write_whole(tmp_path / "grid.png", put(b"ours"))
    else:
        write_whole(tmp_path / "grid.png", put(b"ours"))
    assert entries(tmp_path) == ["grid.png"]
    assert (tmp_path / "grid.png").read_bytes() == (b"another process" if taken else b"ours")


def test_follows_a_symbolic_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
    write_whole(tmp_path / "link", put(b"new"), force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_bytes() == b"new"


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(OutputError, match="it is a folder; name a file in it"):
        write_whole(tmp_path, put(b""), force=True)


def test_a_device_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="it is a device or a pipe"):
        write_whole(tmp_path / "pipe", put(b""), force=True)
    assert (tmp_path / "pipe").is_fifo()


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="a part of the path is a file, not a folder"):
        write_whole(tmp_path / "file" / "grid.png", put(b""))
    assert entries(tmp_path) == ["file"]


def test_a_name_too_long(tmp_path):
    with pytest.raises(OutputError, match="choose a shorter name"):
        write_whole(tmp_path / ("n" * 300), put(b""))
    assert entries(tmp_path) == []


def test_a_name_as_long_as_names_can_be(tmp_path):
    name = "n" * os.pathconf(tmp_path, "PC_NAME_MAX")
    write_whole(tmp_path / name, put(b"x"))
    assert entries(tmp_path) == [name]


def test_a_zero_byte_in_the_name():
    with pytest.raises(OutputError, match="zero byte"):
        write_whole("a\0b", put(b""))


@contextlib.contextmanager
def somebody_else() -> Iterator[None]:
    """Root may write anywhere: for a while, be a user who may not."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("name", ["grid.png", "new/grid.png"])
def test_a_folder_that_may_not_be_written_to(name):
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o555)
        with somebody_else(), pytest.raises(OutputError) as caught:
            write_whole(folder / name, put(b""))
        folder.chmod(0o755)
        assert str(caught.value) == (
            f"cannot write {folder / name}: permission denied (nothing was written); "
            "choose a folder you may write to"
        )
        assert entries(folder) == []


def test_a_file_system_that_may_not_be_written_to(tmp_path, monkeypatch):
    def read_only(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(OutputError) as caught:
        write_whole(tmp_path / "new" / "grid.png", put(b""))
    monkeypatch.undo()
    assert str(caught.value) == (
        f"cannot write {tmp_path / 'new' / 'grid.png'}: read-only file system (nothing was written); "
        "choose a folder you may write to"
    )
    assert entries(tmp_path) == []


def test_no_space_left(tmp_path):
    def full(stream: BinaryIO) -> None:
        stream.write(b"half of it")
        with open("/dev/full", "wb", buffering=0) as device:  # the system's own ENOSPC
            device.write(b"the rest")

    with pytest.raises(OutputError) as caught:
        write_whole(tmp_path / "new" / "grid.png", full)
    assert str(caught.value) == (
        f"cannot write {tmp_path / 'new' / 'grid.png'}: no space left on device (nothing was written); "
        "free some space or choose another folder"
    )
    assert entries(tmp_path) == []


def test_a_real_limit_reached_while_buffers_are_flushed(tmp_path):
    """The last bytes leave the buffer after `write` has returned: that failure must be caught as well."""
    old = tmp_path / "old.npz"
    old.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match="file too large"):
            write_whole(old, put(b"x" * 2000), force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert old.read_bytes() == b"old"
    assert entries(tmp_path) == ["old.npz"]


@pytest.mark.parametrize("problem", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_interrupt_leaves_nothing_and_passes_through(tmp_path, problem):
    def interrupted(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise problem

    with pytest.raises(problem):
        write_whole(tmp_path / "a" / "grid.png", interrupted)
    assert entries(tmp_path) == []


def test_a_new_folder_that_others_use_meanwhile_stays(tmp_path):
    def interrupted(stream: BinaryIO) -> None:
        (tmp_path / "a" / "other").write_bytes(b"theirs")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a" / "b" / "grid.png", interrupted)
    assert entries(tmp_path) == ["a", "a/other"]


def test_imports_no_heavy_library():
    heavy = ("torch", "matplotlib", "numpy")
    code = f"import sys, deconvviz.files; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
