"""Files of torch.save with extra pickle operations, and a check that loading them runs no code."""

from __future__ import annotations

import pickletools
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

RUNS = {
    "pickle.find_class", "exec", "compile", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove",
    "subprocess.Popen", "socket.connect", "shutil.rmtree", "ctypes.dlopen", "marshal.loads",
}  # fmt: skip
"""Python audit events that must not occur while weights are read."""

"".encode("cp437")  # imported here, because zipfile imports it when it first reads an old name

_seen: list[str] = []
_watching = [False]
_installed: list[bool] = []


@contextmanager
def nothing_is_run(*imports: str) -> Iterator[None]:
    """Check that Python does not run code, unpickle, start a process, or import one of these modules."""
    if not _installed:
        sys.addaudithook(_hook)  # audit hooks cannot be removed
        _installed.append(True)
    _seen.clear()
    _watching[0] = True
    try:
        yield
    finally:
        _watching[0] = False
    assert not [one for one in _seen if one.removeprefix("import ") in imports or one in RUNS], _seen


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching[0] and (event in RUNS or event == "import"):
        _seen.append(f"import {arguments[0]}" if event == "import" else event)


def text(value: str) -> bytes:
    """Return the operation that pushes a string."""
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + len(data).to_bytes(4, "little") + data


def number(value: int) -> bytes:
    """Return the operation that pushes a whole number of any size."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + len(data).to_bytes(4, "little") + data


def of_class(module: str, name: str) -> bytes:
    """Return the operation that pushes a class or function by its name."""
    return f"c{module}\n{name}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    """Return the operations that call a function."""
    return function + b"(" + b"".join(arguments) + b"tR"


def many(*items: bytes) -> bytes:
    """Return the operations that push a tuple."""
    return b"(" + b"".join(items) + b"t"


def storage(kind: bytes, key: bytes, count: bytes, *, legacy: bool = False) -> bytes:
    """Return the operations that push a storage by its persistent id."""
    view = (b"N",) if legacy else ()
    return many(text("storage"), kind, key, text("cpu"), count, *view) + b"Q"


def save_with(path: Path, stored: dict[str, Any], extra: bytes, *, legacy: bool = False) -> Path:
    """Save a mapping with an additional entry ``extra``, whose value is pushed by the operations `extra`."""
    torch.save(stored, path, _use_new_zipfile_serialization=not legacy)
    if legacy:
        return _rewrite_legacy(path, extra)
    return rewrite(path, lambda name, data: _inserted(data, extra) if name.endswith("data.pkl") else data)


def rewrite(path: Path, change: Any, *, compression: int = zipfile.ZIP_STORED) -> Path:
    """Rewrite a zip archive with the records that `change` returns; None drops a record."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in records.items():
            if (changed := change(name, data)) is not None:
                archive.writestr(name, changed)
    return path


def write_zip(path: Path, pickled: bytes, **storages: bytes) -> Path:
    """Write an archive in the format of torch.save from a pickle and the bytes of its storages."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        for key, data in storages.items():
            archive.writestr(f"a/data/{key.removeprefix('_')}", data)
        archive.writestr("a/version", b"3\n")
    return path


def pickles(data: bytes, count: int) -> list[bytes]:
    """Split bytes into the first `count` pickles and the rest."""
    stream, found, start = BytesIO(data), [], 0
    for _ in range(count):
        for _ in pickletools.genops(stream):
            pass
        found.append(data[start : stream.tell()])
        start = stream.tell()
    return [*found, data[start:]]


def _rewrite_legacy(path: Path, extra: bytes) -> Path:
    *head, content, rest = pickles(path.read_bytes(), 4)
    path.write_bytes(b"".join([*head, _inserted(content, extra), rest]))
    return path


def _inserted(pickled: bytes, extra: bytes) -> bytes:
    assert pickled.endswith(b".")
    return pickled[:-1] + text("extra") + extra + b"s."
