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
from deconvviz.nets.given import spoken

LARGEST = 512 * 2**20
"""Bytes of one member; a picture of the largest size that is opened by default has less."""

_OPEN_AT_ONCE = 16


class ArchiveFiles:
    """The files of one source. Each process opens its own, when it first reads them."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = [os.path.abspath(path) for path in paths]
        self._sizes = [os.path.getsize(path) for path in paths]
        self._forget()

    def piece(self, file: int, start: int, count: int, told: str) -> bytes:
        """`count` bytes from `start` on, for the member that messages call `told`. Raises PictureError."""
        if self._process != os.getpid():
            self._forget()
        if count > LARGEST:
            raise PictureError(
                f"{told} has {count} bytes; more than {LARGEST} are not read from an archive: "
                "put it into a folder as a file of its own"
            )
        try:
            with self._lock:
                stream = self._stream(file, told)
                stream.seek(start)
                data = _whole(stream, count)
        except OSError as reason:
            raise PictureError(f"cannot read {told}: {self._paths[file]}: {spoken(reason)}") from reason
        if len(data) < count:
            raise PictureError(f"{told} is broken off: {self._paths[file]} ends before it does")
        return data

    def _stream(self, file: int, told: str) -> FileIO:
        if file in self._open:
            self._open.move_to_end(file)
            return self._open[file]
        stream = FileIO(self._paths[file])
        now = os.fstat(stream.fileno()).st_size
        if now != self._sizes[file]:
            stream.close()
            raise PictureError(
                f"cannot read {told}: {self._paths[file]} has changed since it was listed, from "
                f"{self._sizes[file]} to {now} bytes"
            )
        self._open[file] = stream
        if len(self._open) > _OPEN_AT_ONCE:
            self._open.popitem(last=False)[1].close()
        return stream

    def _forget(self) -> None:
        # A fork gives the child its parent's lock, perhaps held, and one place in each file for both.
        self.close()
        self._process, self._lock = os.getpid(), threading.Lock()
        self._open: OrderedDict[int, FileIO] = OrderedDict()

    def close(self) -> None:
        for stream in vars(self).get("_open", {}).values():
            stream.close()

    __del__ = close

    def __getstate__(self) -> dict[str, Any]:
        return {"_paths": self._paths, "_sizes": self._sizes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()


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
