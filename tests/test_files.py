"""`write_whole`: a file is written whole or not at all, whatever fails."""

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


def test_write_whole_writes_the_file_and_returns_the_given_path(tmp_path):
    given = str(tmp_path / "grid.json")
    assert write_whole(given, put(b"[]")) == Path(given)
    assert (tmp_path / "grid.json").read_bytes() == b"[]"
    assert entries(tmp_path) == ["grid.json"]


def test_write_whole_creates_missing_folders(tmp_path):
    write_whole(tmp_path / "a" / "b" / "c.bin", put(b"x"))
    assert entries(tmp_path) == ["a", "a/b", "a/b/c.bin"]


def test_new_file_has_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "new", put(b""))
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_existing_file_is_not_overwritten_and_the_error_names_force(tmp_path):
    target = tmp_path / "grid.png"
    target.write_bytes(b"old")
    with pytest.raises(OutputError) as caught:
        write_whole(target, put(b"new"))
    assert str(caught.value) == (
        f"{target} already exists. Overwrite it with force=True, or choose another name"
    )
    assert target.read_bytes() == b"old"
    assert entries(tmp_path) == ["grid.png"]


def test_existing_file_raises_before_anything_is_computed(tmp_path):
    (tmp_path / "grid.png").write_bytes(b"old")
    with pytest.raises(OutputError):
        write_whole(tmp_path / "grid.png", lambda stream: pytest.fail("wrote although the file exists"))


def test_force_overwrites_and_keeps_the_permissions(tmp_path):
    target = tmp_path / "grid.png"
    target.write_bytes(b"old")
    target.chmod(0o664)
    write_whole(target, put(b"new"), force=True)
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o664


def test_force_works_if_the_file_does_not_exist(tmp_path):
    write_whole(tmp_path / "new", put(b"new"), force=True)
    assert (tmp_path / "new").read_bytes() == b"new"


def test_file_created_by_another_process_meanwhile_is_not_overwritten(tmp_path):
    target = tmp_path / "grid.png"

    def slow_write(stream: BinaryIO) -> None:
        target.write_bytes(b"another process")
        stream.write(b"ours")

    with pytest.raises(OutputError, match="already exists"):
        write_whole(target, slow_write)
    assert target.read_bytes() == b"another process"
    assert entries(tmp_path) == ["grid.png"]


@pytest.mark.parametrize("taken", [False, True])
def test_write_whole_works_without_hard_links(tmp_path, monkeypatch, taken):
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


def test_symbolic_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
    write_whole(tmp_path / "link", put(b"new"), force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_bytes() == b"new"


def test_folder_as_target_raises(tmp_path):
    with pytest.raises(OutputError, match=r"it is a folder\. Name a file in it"):
        write_whole(tmp_path, put(b""), force=True)


def test_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="it is a device or a pipe"):
        write_whole(tmp_path / "pipe", put(b""), force=True)
    assert (tmp_path / "pipe").is_fifo()


def test_file_in_place_of_a_folder_raises(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="a part of the path is a file, not a folder"):
        write_whole(tmp_path / "file" / "grid.png", put(b""))
    assert entries(tmp_path) == ["file"]


def test_name_over_the_maximum_length_raises(tmp_path):
    with pytest.raises(OutputError, match="choose a shorter name"):
        write_whole(tmp_path / ("n" * 300), put(b""))
    assert entries(tmp_path) == []


def test_name_of_the_maximum_length_is_written(tmp_path):
    name = "n" * os.pathconf(tmp_path, "PC_NAME_MAX")
    write_whole(tmp_path / name, put(b"x"))
    assert entries(tmp_path) == [name]


def test_zero_byte_in_the_name_raises():
    with pytest.raises(OutputError, match="zero byte"):
        write_whole("a\0b", put(b""))


@contextlib.contextmanager
def unprivileged_user() -> Iterator[None]:
    """Run the block as an unprivileged user if this process runs as root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("name", ["grid.png", "new/grid.png"])
def test_folder_without_write_permission_raises(name):
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o555)
        with unprivileged_user(), pytest.raises(OutputError) as caught:
            write_whole(folder / name, put(b""))
        folder.chmod(0o755)
        assert str(caught.value) == (
            f"cannot write {folder / name}: permission denied (nothing was written); "
            "choose a folder you may write to"
        )
        assert entries(folder) == []


def test_read_only_file_system_raises(tmp_path, monkeypatch):
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


def test_full_device_raises_and_leaves_nothing(tmp_path):
    def full(stream: BinaryIO) -> None:
        stream.write(b"half of it")
        with open("/dev/full", "wb", buffering=0) as device:  # raises ENOSPC
            device.write(b"the rest")

    with pytest.raises(OutputError) as caught:
        write_whole(tmp_path / "new" / "grid.png", full)
    assert str(caught.value) == (
        f"cannot write {tmp_path / 'new' / 'grid.png'}: no space left on device (nothing was written); "
        "free some space or choose another folder"
    )
    assert entries(tmp_path) == []


def test_failure_while_buffers_are_flushed_raises(tmp_path):
    """The last bytes are written after `write` has returned; that failure must be caught as well."""
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
def test_interrupt_leaves_nothing_and_is_raised_again(tmp_path, problem):
    def interrupted(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise problem

    with pytest.raises(problem):
        write_whole(tmp_path / "a" / "grid.png", interrupted)
    assert entries(tmp_path) == []


def test_new_folder_with_files_of_others_is_not_removed(tmp_path):
    def interrupted(stream: BinaryIO) -> None:
        (tmp_path / "a" / "other").write_bytes(b"theirs")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a" / "b" / "grid.png", interrupted)
    assert entries(tmp_path) == ["a", "a/other"]


def test_files_imports_neither_torch_nor_matplotlib_nor_numpy():
    heavy = ("torch", "matplotlib", "numpy")
    code = f"import sys, deconvviz.files; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
