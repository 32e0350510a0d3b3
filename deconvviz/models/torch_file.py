"""Reader of both file formats of torch.save. Unlike torch.load, it runs no code from a file.

A file consists of a pickle and the bytes of its storages: in a zip archive, or one after the other (legacy
format). `InertPickle` reads the pickle and interprets only the globals in `_known`. The functions of this
module rebuild the tensors, and check every size against the file before they allocate memory.
"""

from __future__ import annotations

import math
import os
import struct
import sys
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Protocol

import torch
from torch import Tensor

from deconvviz.models.inert_pickle import Foreign, InertPickle, Malformed, Rebuilder

ZIP = b"PK\x03\x04"
"""First bytes of a zip archive."""

_MAGIC = 0x1950A86A20F9469CFC6C  # of the legacy format
_PROTOCOL = 1001
_CHUNK = 1 << 24
_HEADER = struct.Struct("<26sHH")  # of a record; the last two fields: the lengths of its name and extra field
_DIMENSIONS = 64  # PyTorch's own limit
_INFLATED = 8, 1 << 26  # limit for an inflated archive: a multiple of the file's size, plus bytes
_SHARED = 64, 1 << 30  # the same for the sum of all tensors, which may share storages

_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64, "QUInt8Storage": torch.quint8, "QInt8Storage": torch.qint8,
    "QInt32Storage": torch.qint32, "QUInt4x2Storage": torch.quint4x2, "QUInt2x4Storage": torch.quint2x4,
    "UntypedStorage": torch.uint8,
}  # fmt: skip


@dataclass(frozen=True)
class TorchFile:
    """Content of a file, and the names of tensor subclasses whose tensors were read as plain tensors."""

    content: Any
    subclasses: tuple[str, ...] = ()


def read_torch_file(path: Path) -> TorchFile:
    """Return the content of a file that torch.save wrote.

    Raises Malformed, OSError, and the exceptions of zipfile and PyTorch for damaged files: see
    `checkpoints.UNREADABLE`.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        zipped = stream.read(len(ZIP)) == ZIP
        stream.seek(0)
        return _read_zip(stream, size) if zipped else _read_legacy(stream, size)


def _read_zip(stream: IO[bytes], size: int) -> TorchFile:
    with zipfile.ZipFile(stream) as archive:
        records = {record.filename: record for record in archive.infolist()}
        inflated = sum(record.file_size for record in records.values())
        stored = all(record.compress_type == zipfile.ZIP_STORED for record in records.values())
        if inflated > (size if stored else _INFLATED[0] * size + _INFLATED[1]):
            raise Malformed(f"its records claim {inflated:,} bytes, but the file has {size:,}")
        places = [name for name in records if name.rpartition("/")[2] == "data.pkl"]
        if len(places) != 1:
            raise Malformed("it must contain exactly one data.pkl")
        root = places[0].removesuffix("data.pkl")
        load = partial(_record, archive, stream)
        order = load(records[f"{root}byteorder"]) if f"{root}byteorder" in records else b"little"
        storages = _ZippedStorages(load, records, f"{root}data/", swapped=order != sys.byteorder.encode())
        rebuilt = _Rebuilt(storages, size)
        content = rebuilt.read(BytesIO(load(records[places[0]])))
        return TorchFile(content, tuple(rebuilt.subclasses))


def _record(archive: zipfile.ZipFile, stream: IO[bytes], record: zipfile.ZipInfo) -> memoryview:
    """Return the bytes of a record, in newly allocated memory."""
    content = torch.empty(record.file_size, dtype=torch.uint8).numpy().data
    if record.compress_type != zipfile.ZIP_STORED:
        with archive.open(record) as inflated:
            _read_into(content, inflated)
        return content
    stream.seek(record.header_offset)
    header = stream.read(_HEADER.size)
    if len(header) != _HEADER.size or not header.startswith(ZIP):
        raise Malformed("one of its records has no header")
    stream.seek(sum(_HEADER.unpack(header)[1:]), os.SEEK_CUR)
    _read_into(content, stream)
    if record.CRC and zlib.crc32(content) != record.CRC:  # torch.save can be set to write no checksum: 0
        raise Malformed("the checksum of one of its records is wrong")
    return content


def _read_legacy(stream: IO[bytes], size: int) -> TorchFile:
    for expected in (_MAGIC, _PROTOCOL):
        found = InertPickle({}).read(stream)
        if type(found) is not int or found != expected:
            raise Malformed("it does not begin like a file of torch.save")
    InertPickle({}).read(stream)  # sizes of C types on the machine that wrote the file
    storages = _FollowingStorages(size)
    rebuilt = _Rebuilt(storages, size)
    content = rebuilt.read(stream)
    storages.fill(stream, InertPickle({}).read(stream))
    return TorchFile(content, tuple(rebuilt.subclasses))


class _Storages(Protocol):
    def bytes_of(self, key: str, count: int, dtype: torch.dtype) -> Tensor:
        """Return `count` bytes of a storage as one tensor of uint8. Raises Malformed if there are fewer."""


class _ZippedStorages:
    """Storages in a zip archive: each one is a record."""

    def __init__(
        self,
        load: Callable[[zipfile.ZipInfo], memoryview],
        records: Mapping[str, zipfile.ZipInfo],
        folder: str,
        *,
        swapped: bool,
    ) -> None:
        self._load, self._records, self._folder = load, records, folder
        self._swapped = swapped
        self._read: dict[str, Tensor] = {}

    def bytes_of(self, key: str, count: int, dtype: torch.dtype) -> Tensor:
        record = self._records.get(f"{self._folder}{key}")
        if record is None or record.file_size < count:
            raise Malformed(f"one of its storages has fewer than {count:,} bytes")
        if key not in self._read:
            self._read[key] = _as_tensor(self._load(record))
            if self._swapped and dtype.itemsize > 1:
                self._read[key].untyped_storage().byteswap(dtype)
        return self._read[key]


class _FollowingStorages:
    """Storages that follow the pickle: they are allocated while it is read, and filled afterwards."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._claimed: dict[str, tuple[Tensor, int]] = {}  # and the bytes of one element

    def bytes_of(self, key: str, count: int, dtype: torch.dtype) -> Tensor:
        if key not in self._claimed:
            self._left -= count
            if self._left < 0:
                raise Malformed("its storages claim more bytes than the file has")
            self._claimed[key] = torch.empty(count, dtype=torch.uint8), dtype.itemsize
        found = self._claimed[key][0]
        if len(found) < count:
            raise Malformed(f"one of its storages has fewer than {count:,} bytes")
        return found

    def fill(self, stream: IO[bytes], keys: Any) -> None:
        """Read all storages, in the order of their keys."""
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise Malformed("its list of storages is damaged")
        waiting = dict(self._claimed)
        for key in keys:
            if key not in waiting:
                raise Malformed("it has a storage that no tensor uses")
            target, itemsize = waiting.pop(key)
            head = stream.read(8)
            if len(head) != 8 or int.from_bytes(head, "little") * itemsize != len(target):
                raise Malformed("the size of a storage does not match its tensors")
            _read_into(target.numpy().data, stream)
            if sys.byteorder == "big" and itemsize > 1:
                target.view(-1, itemsize).copy_(target.view(-1, itemsize).flip(1))
        if waiting:
            raise Malformed(f"{len(waiting)} of its storages are missing")


def _as_tensor(content: memoryview) -> Tensor:
    return torch.frombuffer(content, dtype=torch.uint8) if len(content) else torch.empty(0, dtype=torch.uint8)


def _read_into(memory: memoryview, stream: IO[bytes]) -> None:
    """Fill memory with the next bytes of a stream."""
    for start in range(0, len(memory), _CHUNK):
        piece = memory[start : start + _CHUNK]
        filled = stream.readinto(piece)  # type: ignore[attr-defined]
        if filled != len(piece):
            raise Malformed("it ends in the middle of a storage")


@dataclass(frozen=True, eq=False)
class _StorageType:
    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class _Storage:
    data: Tensor  # uint8
    dtype: torch.dtype
    count: int  # number of elements
    start: int = 0  # index of its first element in `data`


class _Rebuilt:
    """Rebuilds the tensors of one file, and limits their total size."""

    def __init__(self, storages: _Storages, size: int) -> None:
        self._storages = storages
        self._left = _SHARED[0] * size + _SHARED[1]
        self._pairs_left = 1_000_000
        self.subclasses: dict[str, None] = {}

    def read(self, stream: IO[bytes]) -> Any:
        return InertPickle(self._known(), self._persistent).read(stream)

    def _persistent(self, given: Any) -> Any:
        """Resolve a persistent id of torch.save: a storage, or in old files a module."""
        if not isinstance(given, tuple) or not given or not isinstance(given[0], str):
            raise Malformed("its pickle refers to an object that is not a storage")
        if given[0] == "module" and len(given) > 1:
            return given[1]  # the other fields are its source code
        if given[0] != "storage" or len(given) not in (5, 6) or not isinstance(given[1], _StorageType):
            raise Malformed("its pickle refers to an object that is not a storage")
        kind, key, count = given[1], given[2], given[4]
        if not isinstance(key, str) or not _is_size(count):
            raise Malformed("its pickle has a storage without a size")
        storage = _Storage(
            self._storages.bytes_of(key, count * kind.dtype.itemsize, kind.dtype), kind.dtype, count
        )
        view = given[5] if len(given) == 6 else None
        return storage if view is None else _part_of(storage, view)

    def _known(self) -> dict[tuple[str, str], Any]:
        functions: dict[tuple[str, str], Callable[[tuple[Any, ...]], Any]] = {
            ("torch._utils", "_rebuild_tensor"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v3"): self._tensor_of_type,
            ("torch._utils", "_rebuild_qtensor"): self._quantised,
            ("torch._utils", "_rebuild_sparse_tensor"): self._sparse,
            ("torch._utils", "_rebuild_meta_tensor_no_storage"): _without_numbers,
            ("torch._utils", "_rebuild_parameter"): _first_tensor,
            ("torch._utils", "_rebuild_parameter_with_state"): _first_tensor,
            ("torch._tensor", "_rebuild_from_type"): self._of_subclass,
            ("torch._tensor", "_rebuild_from_type_v2"): self._of_subclass,
            ("torch.nn.parameter", "Parameter"): _first_tensor,
            ("torch.nn.parameter", "Buffer"): _first_tensor,
            ("torch", "Tensor"): _first_tensor,
            ("torch", "Size"): _size,
            ("torch", "device"): _plain,
            ("torch.serialization", "_get_layout"): _plain,
            ("collections", "OrderedDict"): self._ordered,
            ("collections", "defaultdict"): _mapping,
            ("_codecs", "encode"): _bytes,
        }
        for module in ("builtins", "__builtin__"):
            functions |= {(module, name): _list for name in ("list", "set", "frozenset", "tuple")}
            functions |= {(module, name): _plain for name in _NUMBERS}
            functions[module, "dict"] = _mapping
        rebuilders = {place: Rebuilder(".".join(place), call) for place, call in functions.items()}
        return {**_constants(), **rebuilders}

    def _tensor(self, arguments: tuple[Any, ...]) -> Tensor:
        storage, offset, size, stride = _taken(arguments, 4)
        negative = len(arguments) > 6 and isinstance(arguments[6], dict) and arguments[6].get("neg") is True
        tensor = self._view(storage, storage.dtype, offset, size, stride)
        return -tensor if negative else tensor

    def _tensor_of_type(self, arguments: tuple[Any, ...]) -> Tensor:
        storage, offset, size, stride, _, _, dtype = _taken(arguments, 7)
        if not isinstance(dtype, torch.dtype):
            raise Malformed("a tensor has no dtype")
        return self._view(storage, dtype, offset, size, stride)

    def _view(self, storage: Any, dtype: torch.dtype, offset: Any, size: Any, stride: Any) -> Tensor:
        size, stride = self._checked(storage, dtype, offset, size, stride)
        whole = storage.data.untyped_storage()
        return torch.empty(0, dtype=dtype).set_(whole, storage.start + offset, size, stride)

    def _checked(
        self, storage: Any, dtype: torch.dtype, offset: Any, size: Any, stride: Any
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return size and stride after checking that all elements of a tensor are in its storage."""
        if not isinstance(storage, _Storage):
            raise Malformed("a tensor has no storage")
        size, stride = _size((size,)), _size((stride,))
        if len(size) != len(stride) or not _is_size(offset):
            raise Malformed("a tensor has a damaged shape")
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else offset
        stored = storage.count * storage.dtype.itemsize // dtype.itemsize
        if (last >= stored and count) or last > stored:
            raise Malformed("a tensor needs more elements than its storage has")
        self._left -= count * dtype.itemsize
        if self._left < 0:
            raise Malformed("too many of its tensors share the same bytes")
        return size, stride

    def _quantised(self, arguments: tuple[Any, ...]) -> Tensor:
        """Return a quantised tensor of the same shape, without its values: quantised weights are rejected."""
        storage, offset, size, stride = _taken(arguments, 4)
        size, _ = self._checked(storage, storage.dtype, offset, size, stride)
        return torch._empty_affine_quantized(size, scale=1.0, zero_point=0, dtype=torch.qint8)

    def _sparse(self, arguments: tuple[Any, ...]) -> Tensor:
        """Return a sparse tensor of the same shape, without its values: sparse weights are rejected."""
        _, data = _taken(arguments, 2)
        values, size = data[-3:-1] if isinstance(data[-1], bool) else data[-2:]
        dtype = values.dtype if isinstance(values, Tensor) else torch.float32
        return torch.empty(_size((size,)), dtype=dtype, layout=torch.sparse_coo)

    def _of_subclass(self, arguments: tuple[Any, ...]) -> Any:
        """Return a tensor of a subclass, or one with extra attributes, as a plain tensor."""
        function, kind, inner = _taken(arguments, 3)
        if not isinstance(function, Rebuilder) or not isinstance(inner, tuple):
            return Foreign(kind.name if isinstance(kind, Foreign) else "torch.Tensor")
        rebuilt = function.call(inner)
        if isinstance(kind, Foreign) and isinstance(rebuilt, Tensor):
            self.subclasses[kind.name] = None
        return rebuilt

    def _ordered(self, arguments: tuple[Any, ...]) -> Any:
        pairs = arguments[0] if arguments else []
        if not isinstance(pairs, list):
            raise Malformed("a mapping is damaged")
        self._pairs_left -= len(pairs)
        if self._pairs_left < 0:
            raise Malformed("too many of its mappings share the same entries")
        made: OrderedDict[str, Any] = OrderedDict()
        for pair in pairs:  # Python 2 wrote pairs
            if not (isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                raise Malformed("a mapping is damaged")
            made[pair[0]] = pair[1]
        return made


_NUMBERS = (
    "complex", "slice", "range", "bytearray", "bytes", "int", "float", "bool", "str", "object",
    "long", "xrange", "unicode",
)  # fmt: skip


@cache
def _constants() -> dict[tuple[str, str], Any]:
    """Return PyTorch's dtypes, layouts and storage types, by module and name."""
    found: dict[tuple[str, str], Any] = {}
    for name, value in vars(torch).items():
        if isinstance(value, torch.dtype | torch.layout | torch.memory_format | torch.qscheme):
            found["torch", name] = value
    for name, dtype in _STORAGES.items():
        for module in ("torch", "torch.cuda", "torch.storage"):
            found[module, name] = _StorageType(dtype)
    return found


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 60


def _taken(arguments: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    if len(arguments) < count:
        raise Malformed("the description of a tensor is incomplete")
    return arguments[:count]


def _size(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    given = arguments[0] if arguments else ()
    if not isinstance(given, list | tuple) or len(given) > _DIMENSIONS or not all(map(_is_size, given)):
        raise Malformed("a tensor has a damaged shape")
    return tuple(given)


def _part_of(storage: _Storage, view: Any) -> _Storage:
    """Return a part of a storage, which old files describe by key, offset and number of elements."""
    if not (isinstance(view, tuple) and len(view) == 3 and _is_size(view[1]) and _is_size(view[2])):
        raise Malformed("its pickle has a storage without a size")
    _, offset, count = view
    if offset + count > storage.count:
        raise Malformed("a part of a storage is outside the storage")
    return _Storage(storage.data, storage.dtype, count, storage.start + offset)


def _without_numbers(arguments: tuple[Any, ...]) -> Tensor:
    dtype, size, stride = _taken(arguments, 3)
    if not isinstance(dtype, torch.dtype):
        raise Malformed("a tensor has no dtype")
    return torch.empty_strided(_size((size,)), _size((stride,)), dtype=dtype, device="meta")


def _first_tensor(arguments: tuple[Any, ...]) -> Any:
    if not arguments:
        raise Malformed("a parameter has no tensor")
    return arguments[0]


def _list(arguments: tuple[Any, ...]) -> Any:
    return arguments[0] if arguments and isinstance(arguments[0], list) else []


def _mapping(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    return {}


def _plain(arguments: tuple[Any, ...]) -> None:
    """Return None for a value that is not needed, such as a device."""


def _bytes(arguments: tuple[Any, ...]) -> bytes:
    """Return empty bytes for bytes in the encoding of protocol 2, which are not needed."""
    return b""
