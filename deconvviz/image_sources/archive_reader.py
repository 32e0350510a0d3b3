"""Archive files, read in pieces: nothing is unpacked to a disk, and no handle crosses a fork or a pickle."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from deconvviz.errors import PictureError
from deconvviz.paths import spoken

LARGEST = 512 * 2**20
"""Bytes of one member; a picture of the largest size that is opened by default has less."""

_OPEN_AT_ONCE = 16


class ArchiveFiles:
    """The files of one source. Each process opens its own, when it first reads them."""

    def __init__(self, paths: Sequence[str], sizes: Sequence[int]) -> None:
        """`sizes`: of the files when they were listed."""
        self._paths = [os.path.abspath(path) for path in paths]
        self._sizes = list(sizes)
        self._opened: dict[int, _Opened] = {}  # by process

    def piece(self, file: int, start: int, count: int, told: str) -> bytes:
        """`count` bytes from `start` on, for the member that messages call `told`. Raises PictureError."""
        if count > LARGEST:
            raise PictureError(
                f"{told} has {count} bytes; more than {LARGEST} are not read from an archive: "
                "put it into a folder as a file of its own"
            )
        # A forked child must not use its parent's: they share a place in each file, and perhaps a held lock.
        opened = self._opened.setdefault(os.getpid(), _Opened())
        path = self._paths[file]
        try:
            with opened.lock:
                stream = opened.stream(path)
                now = os.fstat(stream.fileno()).st_size
                stream.seek(start)
                data = _whole(stream, count)
        except (OSError, OverflowError) as reason:
            raise PictureError(f"cannot read {told}: {path}: {spoken(reason)}") from reason
        if now != self._sizes[file]:
            raise PictureError(
                f"cannot read {told}: {path} has changed since it was listed, from {self._sizes[file]} "
                f"to {now} bytes"
            )
        if len(data) < count:
            raise PictureError(f"{told} is broken off: {path} ends before it does")
        return data

    def __del__(self) -> None:
        for opened in vars(self).get("_opened", {}).values():
            opened.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": {}}


class _Opened:
    """What one process has open, for all its threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._streams: OrderedDict[str, FileIO] = OrderedDict()

    def stream(self, path: str) -> FileIO:
        """To be used while the lock is held. Raises OSError."""
        if path not in self._streams:
            self._streams[path] = FileIO(path)
        self._streams.move_to_end(path)
        if len(self._streams) > _OPEN_AT_ONCE:
            self._streams.popitem(last=False)[1].close()
        return self._streams[path]

    def close(self) -> None:
        for stream in self._streams.values():
            stream.close()


def _whole(stream: FileIO, count: int) -> bytes:
    """A raw read may give less than what was asked for."""
    data = stream.read(count)
    while len(data) < count and (more := stream.read(count - len(data))):
        data += more
    return data


COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def compression(path: str) -> str | None:
    """How a whole file is compressed, by its first bytes. Raises OSError."""
    with Path(path).open("rb") as stream:
        beginning = stream.read(8)
    return next((name for mark, name in COMPRESSED.items() if beginning.startswith(mark)), None)
