"""Reading parts of archive files without unpacking them to disk.

File handles are never shared with forked processes and never pickled.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from deconvviz.errors import ImageError
from deconvviz.paths import reason_of
from deconvviz.printable_names import path_to_text, printable_path

MAX_MEMBER_BYTES = 512 * 2**20
"""Largest member that is read. It is larger than any image that is opened by default."""

_MAX_OPEN_FILES = 16


def member_id(name: str) -> str:
    """Return the id of an archive member; its name was decoded from UTF-8 with surrogate escapes."""
    return path_to_text(name.encode("utf-8", "surrogateescape"))


class ArchiveFiles:
    """Archive files of one source. Each process opens its own handles when it first reads."""

    def __init__(self, paths: Sequence[str], sizes: Sequence[int]) -> None:
        """`sizes` are the sizes of the files in bytes when they were listed."""
        self._paths = [os.path.abspath(path) for path in paths]
        self._sizes = list(sizes)
        self._opened: dict[int, _OpenFiles] = {}  # by process id

    def read(self, file: int, start: int, count: int, name: str) -> bytes:
        """Return `count` bytes of a file from offset `start`. `name` is the name of the member in messages.

        Raises ImageError if the bytes cannot be read or the file has changed.
        """
        if count > MAX_MEMBER_BYTES:
            raise ImageError(
                f"{name} is too large: it has {count} bytes, and at most {MAX_MEMBER_BYTES} are read from an "
                "archive. Store it as a separate file in a folder"
            )
        # A forked child must not use the handles of its parent: both would share one file position, and the
        # lock could be copied while another thread of the parent has it.
        opened = self._opened.setdefault(os.getpid(), _OpenFiles())
        path = self._paths[file]
        try:
            with opened.lock:
                stream = opened.stream(path)
                now = os.fstat(stream.fileno()).st_size
                stream.seek(start)
                data = _read_all(stream, count)
        except (OSError, OverflowError) as reason:
            raise ImageError(f"cannot read {name}: {printable_path(path)}: {reason_of(reason)}") from reason
        if now != self._sizes[file]:
            raise ImageError(
                f"cannot read {name}: {printable_path(path)} has changed since it was listed, "
                f"from {self._sizes[file]} to {now} bytes"
            )
        if len(data) < count:
            raise ImageError(f"{name} is truncated: {printable_path(path)} ends inside this member")
        return data

    def __del__(self) -> None:
        for opened in vars(self).get("_opened", {}).values():
            opened.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": {}}


class _OpenFiles:
    """Open file handles of one process, shared by its threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._streams: OrderedDict[str, FileIO] = OrderedDict()

    def stream(self, path: str) -> FileIO:
        """Return the handle of a file. The caller must hold the lock as long as it uses the handle.

        Raises OSError.
        """
        if path not in self._streams:
            self._streams[path] = FileIO(path)
        self._streams.move_to_end(path)
        if len(self._streams) > _MAX_OPEN_FILES:
            self._streams.popitem(last=False)[1].close()
        return self._streams[path]

    def close(self) -> None:
        for stream in self._streams.values():
            stream.close()


def _read_all(stream: FileIO, count: int) -> bytes:
    """Read until there are `count` bytes or the file ends; one raw read may return fewer."""
    data = stream.read(count)
    while len(data) < count and (more := stream.read(count - len(data))):
        data += more
    return data


COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def compression(path: str) -> str | None:
    """Return the compression of a file, detected from its first bytes, or None. Raises OSError."""
    with Path(path).open("rb") as stream:
        first_bytes = stream.read(8)
    return next((name for magic, name in COMPRESSED.items() if first_bytes.startswith(magic)), None)
