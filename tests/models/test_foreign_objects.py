"""Checkpoints with objects that are not tensors: no code from a file is imported or called."""

from __future__ import annotations

import argparse
import copyreg
import io
import os
import pathlib
import pickle
import sys
import tarfile
import types
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pickles import (
    call,
    many,
    nothing_is_run,
    number,
    of_class,
    pickles,
    rewrite,
    save_with,
    storage,
    text,
    write_zip,
)
from torch import Tensor, nn

from deconvviz.errors import WeightsError
from deconvviz.models import inert_pickle
from deconvviz.models.checkpoints import read_stored
from deconvviz.models.stored_tensors import Stored

SYSTEM = of_class("posix", "system")
FLOATS = of_class("torch", "FloatStorage")
REBUILD = of_class("torch._utils", "_rebuild_tensor_v2")
TWO = b"K\x02"
ONE = b"K\x01"
ZERO = b"K\x00"
HOOKS = b"}"


@dataclass
class Settings:
    """Class of a training script."""

    rate: float = 0.1


class Resists:
    """Class that creates a file whenever its unpickling runs any of its methods."""

    trace: Path

    def __new__(cls, *arguments: Any, **keywords: Any) -> Resists:
        if arguments or keywords:
            cls.trace.touch()
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.trace.touch()

    def append(self, value: Any) -> None:
        self.trace.touch()

    def __setitem__(self, key: Any, value: Any) -> None:
        self.trace.touch()


class OwnDict(OrderedDict[str, Any]):
    """Mapping class of a training script."""


class OwnTensor(Tensor):
    """Tensor subclass of a training script."""


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Path]:
    """Path of a file that every attack in this module would create."""
    found = tmp_path / "it ran"
    Resists.trace = found
    yield found
    assert not found.exists()


def state(seed: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()


def read(path: Path, *imports: str) -> Stored:
    with nothing_is_run(*imports):
        return read_stored(path)


def note_of_read_file(path: Path, *imports: str) -> str:
    """Return the note on a file whose tensors under `model` are read."""
    found = read(path, *imports)
    given = found.below("model.")
    assert given.keys() == state().keys()
    assert all(torch.equal(value, given[key]) for key, value in state().items())
    return found.ignored


def rejection(path: Path) -> str:
    started = perf_counter()
    with nothing_is_run(), pytest.raises(WeightsError) as caught:
        read_stored(path)
    assert perf_counter() - started < 2
    message = str(caught.value)
    assert message.isprintable() and len(message) < 600
    return message


# --- objects that training scripts save with the weights

SAVED_OBJECTS: dict[str, tuple[Any, str]] = {
    "argparse": (argparse.Namespace(rate=0.1, model="a"), "argparse.Namespace"),
    "path": (pathlib.PurePosixPath("runs"), "PurePosixPath"),
    "numpy number": (np.float64(0.5), "numpy scalar"),
    "numpy array": (np.ones((3, 3)), "numpy array"),
    "dataclass": (Settings(), "Settings"),
    "class": (Settings, "Settings"),
    "function": (torch.relu, "relu"),
    "fraction": (Fraction(1, 3), "fractions.Fraction"),
    "counter": (Counter("aab"), "collections.Counter"),
    "namespace": (types.SimpleNamespace(a=1), "SimpleNamespace"),
    "module": (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    "random state": (np.random.RandomState(0), "__randomstate_ctor"),
    "exception": (ValueError("a"), "ValueError"),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", SAVED_OBJECTS)
def test_object_is_ignored_with_a_note(tmp_path: Path, kind: str, legacy: bool) -> None:
    value, name = SAVED_OBJECTS[kind]
    path = tmp_path / "a.pth"
    torch.save({"model": state(), "kept": value}, path, _use_new_zipfile_serialization=not legacy)
    note = note_of_read_file(path)
    assert note.startswith("ignored 1 object that is not a tensor: ") and note.endswith(name)


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pt", ".pth.tar", ".model", ""])
def test_file_suffix_does_not_matter(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    torch.save({"model": state(), "args": argparse.Namespace(a=1)}, path)
    assert note_of_read_file(path) == "ignored 1 object that is not a tensor: argparse.Namespace"


def test_objects_inside_ignored_objects_are_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    kept = [
        argparse.Namespace(inner=[Settings(), Path("a")]),
        np.float32(1),
        np.float32(2),
        {"a": (Settings(),)},
    ]
    torch.save({"model": state(), "kept": kept}, path)
    note = note_of_read_file(path)
    assert note.startswith("ignored 4 objects that are not tensors: argparse.Namespace, numpy scalar, ")


def test_plain_values_are_not_noted(tmp_path: Path) -> None:
    plain = {
        "numbers": [1, 2.5, True, None, 10**30, 1j], "bytes": b"a", "sets": {1, 2}, "frozen": frozenset((3,)),
        "type": torch.float16, "size": torch.Size((1, 2)), "device": torch.device("cpu"),
        "default": defaultdict(int, a=1), "memory": bytearray(b"a"), "range": range(3), "kinds": (int, float),
    }  # fmt: skip
    for legacy in (False, True):
        torch.save({"model": state(), **plain}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
        assert note_of_read_file(tmp_path / "a.pth") == ""


def test_tensors_in_a_custom_mapping_are_read(tmp_path: Path) -> None:
    for stored in ({"model": OwnDict(state())}, OwnDict(model=state())):
        torch.save(stored, tmp_path / "a.pth")
        assert note_of_read_file(tmp_path / "a.pth") == ""


def test_parameters_and_tensor_subclasses_become_plain_tensors(tmp_path: Path) -> None:
    values = state()
    parameter = nn.Parameter(values["0.weight"].clone())
    parameter.tag = "mine"  # type: ignore[attr-defined]
    own = values["0.bias"].as_subclass(OwnTensor)  # type: ignore[arg-type]
    path = tmp_path / "a.pth"
    torch.save({"model": {**values, "0.weight": parameter, "0.bias": own}}, path)
    assert note_of_read_file(path) == f"ignored 1 object that is not a tensor: {__name__}.OwnTensor"
    given = read(path).tensors
    assert {type(tensor) for tensor in given.values()} == {Tensor}
    assert not any(tensor.requires_grad for tensor in given.values())


TYPES = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
         torch.uint8, torch.bool, torch.uint16, torch.float8_e4m3fn)  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
def test_every_tensor_equals_that_of_torch_load(tmp_path: Path, legacy: bool) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {f"type {dtype}": torch.arange(5).to(dtype) for dtype in TYPES[: -2 if legacy else None]} | {
        "transposed": base.T, "slice": base[1:3, 2:5], "strided": base[::2, ::3], "scalar": torch.tensor(3.5),
        "none": torch.empty(0, 4), "expanded": torch.ones(1, 3).expand(5, 3), "shared": base, "again": base,
        "complex": torch.ones(2, dtype=torch.complex64),
        "channels last": torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    }  # fmt: skip
    path = tmp_path / "a.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)
    found, expected = read(path).tensors, torch.load(path, weights_only=True)
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert (found[key].dtype, found[key].stride()) == (tensor.dtype, tensor.stride()), key
        assert torch.equal(found[key], tensor), key
    assert found["shared"].data_ptr() == found["again"].data_ptr()


def test_negated_view_is_read_with_its_sign(tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([1 + 2j, 3 - 4j]).conj().imag}, tmp_path / "a.pth")
    assert torch.equal(read(tmp_path / "a.pth").tensors["a"], torch.tensor([-2.0, 4.0]))


def test_compressed_archive_is_read(tmp_path: Path) -> None:
    torch.save({"model": state()}, tmp_path / "a.pth")
    rewrite(tmp_path / "a.pth", lambda name, data: data, compression=zipfile.ZIP_DEFLATED)
    assert note_of_read_file(tmp_path / "a.pth") == ""


def test_archive_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": state()}, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert note_of_read_file(tmp_path / "a.pth") == ""


def test_tensors_with_swapped_byte_order_are_read(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(4.0), "b": torch.arange(3)}, tmp_path / "a.pth")
    swapped = {"0": "<f4", "1": "<i8"}

    def change(name: str, data: bytes) -> bytes:
        if name.endswith("byteorder"):
            return b"big" if sys.byteorder == "little" else b"little"
        kind = swapped.get(name.rpartition("data/")[2])
        return np.frombuffer(data, kind).byteswap().tobytes() if kind else data

    found = read(rewrite(tmp_path / "a.pth", change)).tensors
    assert torch.equal(found["a"], torch.arange(4.0)) and torch.equal(found["b"], torch.arange(3))


def test_state_dict_of_pairs_from_python_2_is_read(tmp_path: Path) -> None:
    """The state dict is pickled like in Python 2, with the layout versions as its state."""
    pair = b"](" + text("a") + storage_of_one() + b"e"
    ordered = call(of_class("collections", "OrderedDict"), b"](" + pair + b"e")
    versions = b"}" + text("_metadata") + b"}" + text("a") + b"}" + text("version") + TWO + b"sss"
    found = read(write_zip(tmp_path / "a.pth", b"\x80\x02" + ordered + versions + b"b.", _0=bytes(4)))
    assert found.tensors.keys() == {"a"} and found.versions == {"a.": {"version": 2}}


def test_invalid_layout_versions_are_ignored(tmp_path: Path) -> None:
    values = OrderedDict(state())
    values._metadata = {"": {"version": [1]}, "0": {"version": "2"}, "1": 7}  # type: ignore[attr-defined]
    torch.save({"model": values}, tmp_path / "a.pth")
    assert read(tmp_path / "a.pth").versions == {}


# --- attacks that are ignored


class Attack:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


def attacks(trace: Path) -> dict[str, Any]:
    command = f"touch '{trace}'"
    return {
        "os.system": Attack(os.system, command),
        "eval": Attack(eval, f"__import__('os').mkdir({str(trace)!r})"),
        "exec": Attack(exec, f"__import__('os').mkdir({str(trace)!r})"),
        "in a list": [1, [Attack(os.system, command)]],
        "in a key": {Attack(os.system, command): 1},
        "in a tuple": ({"a": (Attack(os.system, command),)},),
        "os.mkdir": Attack(os.mkdir, str(trace)),
        "touch": Attack(Path.touch, trace),
        "its own pickle": Attack(pickle.loads, pickle.dumps(Attack(os.system, command))),
        "loads weights": Attack(torch.load, str(trace)),
    }


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".bin"])
@pytest.mark.parametrize("legacy", [False, True])
def test_attacks_are_ignored(tmp_path: Path, trace: Path, legacy: bool, suffix: str) -> None:
    for name, attack in attacks(trace).items():
        path = tmp_path / f"a{suffix}"
        torch.save({"model": state(), "extra": attack}, path, _use_new_zipfile_serialization=not legacy)
        assert note_of_read_file(path).startswith("ignored") or name == "in a key"


def test_attacks_work_with_torch_load(tmp_path: Path) -> None:
    worked = []
    for name, attack in attacks(tmp_path / "it ran").items():
        torch.save({"extra": attack}, tmp_path / "a.pth")
        with suppress(OSError, TypeError, EOFError):
            torch.load(tmp_path / "a.pth", weights_only=False)
        if (tmp_path / "it ran").exists():
            worked.append(name)
            (Path.rmdir if (tmp_path / "it ran").is_dir() else Path.unlink)(tmp_path / "it ran")
    assert worked == [name for name in attacks(tmp_path) if name != "loads weights"]


TOUCH = "touch it-ran"
GADGETS = [
    "os.system", "nt.system", "posix.popen", "builtins.eval", "builtins.exec", "builtins.__import__",
    "__builtin__.apply", "builtins.getattr", "builtins.compile", "subprocess.Popen", 
    "subprocess.check_output",
    "importlib.import_module", "runpy._run_code", "runpy.run_path", "timeit.timeit", "code.interact",
    "pty.spawn", "webbrowser.open", "shutil.rmtree", "pickle.loads", "_pickle.loads", "marshal.loads",
    "torch.load", "torch.jit.load", "torch.hub.load", "torch.storage._load_from_bytes", "numpy.load",
    "torch.utils.cpp_extension.load_inline", "torch._dynamo.guards.GuardBuilder.get", "operator.methodcaller",
    "functools.partial", "types.FunctionType", "types.CodeType", "ctypes.CDLL", "socket.create_connection",
    "urllib.request.urlopen", "pip._internal.main", "antigravity.fly", "evil_module.run", "pydoc.pipepager",
    "cProfile.run", "pdb.run", "bdb.Bdb.run", "asyncio.run", "multiprocessing.util.spawnv_passfds",
]  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
def test_functions_used_by_attackers_are_ignored(tmp_path: Path, legacy: bool) -> None:
    for gadget in GADGETS:
        module, _, name = gadget.rpartition(".")
        path = save_with(tmp_path / "a.pth", {"model": state()}, call(of_class(module, name), text(TOUCH)),
                         legacy=legacy)  # fmt: skip
        imports = () if module in sys.modules else (module, module.partition(".")[0])
        plain = gadget.replace("__builtin__", "builtins")
        assert note_of_read_file(path, *imports) == f"ignored 1 object that is not a tensor: {plain}"


RESISTS = of_class(__name__, "Resists")
MADE = RESISTS + b")\x81"  # an object of this class, without arguments
SYSTEM_2 = text("posix") + text("system") + b"\x93"
LOOKALIKES = (
    "evil.OrderedDict",
    "collections.abc.OrderedDict",
    "Collections.OrderedDict",
    "torch.OrderedDict",
)
BY_OPERATION: dict[str, tuple[bytes, str]] = {
    "INST": (b"(" + text(TOUCH) + b"iposix\nsystem\n", "posix.system"),
    "OBJ": (b"(" + SYSTEM + text(TOUCH) + b"o", "posix.system"),
    "NEWOBJ": (SYSTEM + many(text(TOUCH)) + b"\x81", "posix.system"),
    "NEWOBJ of a class": (RESISTS + many(text("a")) + b"\x81", "Resists"),
    "NEWOBJ_EX": (RESISTS + many(text("a")) + b"}\x92", "Resists"),
    "BUILD": (MADE + b"}" + text("a") + ONE + b"sb", "Resists"),
    "BUILD with slots": (MADE + many(b"N", b"}" + text("a") + ONE + b"s") + b"b", "Resists"),
    "APPEND": (MADE + ONE + b"a", "Resists"),
    "APPENDS": (MADE + b"(" + ONE + TWO + b"e", "Resists"),
    "ADDITEMS": (MADE + b"(" + ONE + TWO + b"\x90", "Resists"),
    "SETITEM": (MADE + text("a") + ONE + b"s", "Resists"),
    "SETITEMS": (MADE + b"(" + text("a") + ONE + b"u", "Resists"),
    "an object by copyreg": (
        call(of_class("copyreg", "_reconstructor"), RESISTS, of_class("builtins", "object"), b"N"), "Resists"
    ),
    "STACK_GLOBAL": (call(SYSTEM_2, text(TOUCH)), "posix.system"),
    "a name with dots": (
        call(text("torch._utils") + text("os.system") + b"\x93", text(TOUCH)), "torch._utils.os.system"
    ),
    "a rebuilder with dots": (
        call(text("torch") + text("_utils._rebuild_tensor_v2.__globals__") + b"\x93", text("os")),
        "torch._utils._rebuild_tensor_v2.__globals__",
    ),
    "a rebuilder of another module": (
        call(of_class("evil", "_rebuild_tensor_v2"), text(TOUCH)), "evil._rebuild_tensor_v2"
    ),
    "a parameter of another module": (call(of_class("evil", "Parameter"), text(TOUCH)), "evil.Parameter"),
    "an extension code": (call(b"\x82\x77", text(TOUCH)), "extension 119"),
    "an extension code of two bytes": (call(b"\x83\x77\x01", text(TOUCH)), "extension 375"),
    "what a call returned is called": (call(call(SYSTEM, text(TOUCH)), text(TOUCH)), "posix.system"),
    "an attribute": (call(of_class("builtins", "getattr"), of_class("os", "path"), text("os")), "os.path.os"),
    "a subclass of tensors": (
        call(of_class("torch._tensor", "_rebuild_from_type_v2"), SYSTEM, SYSTEM, many(text(TOUCH)), b"}"),
        "posix.system",
    ),
    "a source file of an old module": (
        many(text("module"), RESISTS, text("/etc/passwd"), text("changed")) + b"Q", "Resists"
    ),
    "an empty name": (of_class("", ""), "."),
    "a name with spaces": (b"ctorch._utils x\n_rebuild_tensor_v2 y\n", "torch._utils.x _rebuild_tensor_v2 y"),
    "a name with an escape": (b"ca\\o\nb\\x1b\n", "a\\o.b\\x1b"),
    "a long name": (of_class("m" * 10_000, "n" * 10_000), f"{'m' * 100}.{'n' * 100}"),
    "a name with terminal control codes": (of_class("a", "\x1b[31mred\x07"), "a.\\x1b[31mred\\x07"),
}  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("operation", BY_OPERATION)
def test_every_object_creating_operation_is_inert(
    tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch, operation: str, legacy: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    copyreg.add_extension("posix", "system", 0x77)
    copyreg.add_extension("os", "popen", 0x177)
    try:
        extra, name = BY_OPERATION[operation]
        path = save_with(tmp_path / "a.pth", {"model": state()}, extra, legacy=legacy)
        note = note_of_read_file(path, "evil")
    finally:
        copyreg.remove_extension("posix", "system", 0x77)
        copyreg.remove_extension("os", "popen", 0x177)
    assert note.startswith("ignored 1 object that is not a tensor: ") and note.endswith(name)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("name", LOOKALIKES)
def test_class_with_the_name_of_a_known_one_is_ignored(tmp_path: Path, name: str) -> None:
    module, _, last = name.rpartition(".")
    made = call(of_class(module, last)) + b"(" + text("a") + ONE + b"u" + b"}" + text("b") + ONE + b"sb"
    path = save_with(tmp_path / "a.pth", {"model": state()}, made)
    assert note_of_read_file(path, "evil", "Collections") == f"ignored 1 object that is not a tensor: {name}"


def doubled(levels: int) -> bytes:
    """Return a tuple that contains another one twice, and so on: computing its hash would take forever."""
    return b")" + b"2\x86" * levels


HARMLESS = {
    "a key that cannot be hashed quickly": b"}" + doubled(60) + ONE + b"s",
    "a key that is a list": b"}]" + ONE + b"s",
    "a key with many digits": b"}" + number(10**20_000) + ONE + b"s",
    "a place in the memo that is far away": b"]r\xff\xff\xff\x7f" + ONE + b"a",
    "a frame that claims too much": b"\x95" + (2**62).to_bytes(8, "little") + ONE,
    "a set of unhashable values": b"\x8f(]}\x90",
    "a frozen set": b"(]\x91",
    "a mark without an end, removed": b"(" + ONE + b"1" + ONE,
    "a value that is removed": ONE + SYSTEM + b"0",
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", HARMLESS)
def test_costly_contents_are_read_quickly(tmp_path: Path, kind: str, legacy: bool) -> None:
    started = perf_counter()
    path = save_with(tmp_path / "a.pth", {"model": state()}, HARMLESS[kind], legacy=legacy)
    assert note_of_read_file(path) == ""
    assert perf_counter() - started < 2


@pytest.mark.parametrize("extra", [b"]" * 20_000 + b"a" * 19_999, b"]q\xf0h\xf0a", b"}q\xf0K\x01h\xf0s"])
def test_recursive_containers_are_rejected(tmp_path: Path, extra: bytes) -> None:
    message = rejection(save_with(tmp_path / "a.pth", {"model": state()}, extra))
    assert "is nested too deeply, or one of its mappings contains itself" in message


# --- attacks that are rejected


def storage_of_one(size: bytes = many(ONE), stride: bytes = many(ONE), offset: bytes = ZERO) -> bytes:
    one = storage(FLOATS, text("0"), ONE)
    return call(REBUILD, one, offset, size, stride, b"\x89", HOOKS)


HUGE = number(2**50)
REJECTED_PICKLES: dict[str, tuple[bytes, str]] = {
    "a storage of 2**50 numbers": (storage(FLOATS, text("0"), HUGE), "one of its storages has fewer than"),
    "a storage with a negative size": (storage(FLOATS, text("0"), number(-1)), "storage without a size"),
    "a storage whose size is text": (storage(FLOATS, text("0"), text("1")), "storage without a size"),
    "a storage whose size is True": (storage(FLOATS, text("0"), b"\x88"), "storage without a size"),
    "a storage that does not exist": (storage(FLOATS, text("77"), ONE), "one of its storages has fewer than"),
    "a storage outside of the archive": (
        storage(FLOATS, text("../../etc/passwd"), ONE), "one of its storages has fewer than"
    ),
    "a storage without a name": (storage(FLOATS, ONE, ONE), "storage without a size"),
    "a storage of another module": (
        storage(of_class("evil", "FloatStorage"), text("0"), ONE), "an object that is not a storage"
    ),
    "a storage of a function": (storage(SYSTEM, text("0"), ONE), "an object that is not a storage"),
    "a persistent id that is a number": (ONE + b"Q", "an object that is not a storage"),
    "a persistent id that is empty": (b")Q", "an object that is not a storage"),
    "a persistent id that is short": (many(text("storage"), FLOATS) + b"Q", "that is not a storage"),
    "a persistent id of another kind": (many(text("file"), text("a")) + b"Q", "that is not a storage"),
    "a persistent id that is text": (b"Pmodel\n", "an object outside of it by text"),
    "a persistent id that is a nested tuple": (doubled(60) + b"Q", "an object that is not a storage"),
    "more elements than the storage has": (storage_of_one(many(TWO)), "more elements than its storage has"),
    "elements far behind the storage": (
        storage_of_one(offset=number(2**59)), "more elements than its storage"
    ),
    "elements before the storage": (storage_of_one(offset=number(-1)), "a damaged shape"),
    "a negative step": (storage_of_one(many(TWO), many(number(-1))), "a damaged shape"),
    "a negative size": (storage_of_one(many(number(-2))), "a damaged shape"),
    "a size of 2**70": (storage_of_one(many(number(2**70)), many(ZERO)), "a damaged shape"),
    "one element 2**50 times": (
        storage_of_one(many(HUGE), many(ZERO)), "too many of its tensors share the same bytes"
    ),
    "no step": (storage_of_one(many(ONE), many()), "a damaged shape"),
    "a hundred dimensions": (storage_of_one(many(*[ONE] * 100), many(*[ONE] * 100)), "a damaged shape"),
    "a shape that is text": (storage_of_one(text("1"), text("1")), "a damaged shape"),
    "a shape that is an object": (storage_of_one(SYSTEM, SYSTEM), "a damaged shape"),
    "a tensor of an object": (
        call(REBUILD, SYSTEM, ZERO, many(ONE), many(ONE), b"\x89", HOOKS), "is damaged"
    ),
    "a tensor of nothing": (call(REBUILD), "the description of a tensor is incomplete"),
    "a tensor without a type": (
        call(of_class("torch._utils", "_rebuild_tensor_v3"), storage(FLOATS, text("0"), ONE), ZERO, many(ONE),
             many(ONE), b"\x89", HOOKS, text("float32")), "a tensor has no dtype"
    ),
    "a parameter of nothing": (
        call(of_class("torch._utils", "_rebuild_parameter")), "a parameter has no tensor"
    ),
    "a sparse tensor of nothing": (
        call(of_class("torch._utils", "_rebuild_sparse_tensor"), text("a"), many()), "is damaged"
    ),
    "a sparse tensor of 2**118 numbers": (
        call(of_class("torch._utils", "_rebuild_sparse_tensor"), text("a"),
             many(ONE, ONE, many(number(2**59), number(2**59)))),
        "damaged",
    ),
    "a mapping of text": (call(of_class("collections", "OrderedDict"), text("a")), "a mapping is damaged"),
    "a mapping of objects": (
        call(of_class("collections", "OrderedDict"), b"](" + SYSTEM + b"e"), "a mapping is damaged"
    ),
    "a call of a number": (call(ONE, text("a")), "calls a int"),
    "a call without a tuple": (SYSTEM + b"]R", "arguments that are not a tuple"),
    "an append to a tuple": (b")" + ONE + b"a", "appends to a tuple"),
    "an entry of a list": (b"]" + ONE + ONE + b"s", "sets entries of a list"),
    "a key without a value": (b"}(" + ONE + b"u", "a key without a value"),
    "a class without a name": (ONE + ONE + b"\x93", "names a class by something other than text"),
    "nothing on the stack": (b"0" * 200, "is damaged"),
    "no mark": (b"t", "is damaged"),
    "nothing in the memo": (b"j\xff\xff\xff\x6f", "is damaged"),
    "an unknown operation": (b"\xff", "damaged"),
    "a buffer outside of the file": (b"\x97", "buffers outside of it"),
    "text that claims 2**62 bytes": (b"\x8d" + (2**62).to_bytes(8, "little"), "damaged"),
    "bytes that claim 2**62 bytes": (b"\x8e" + (2**62).to_bytes(8, "little"), "damaged"),
    "a number that claims 2**31 bytes": (b"\x8b\xff\xff\xff\x7f", "damaged"),
    "a number of too many digits": (b"I" + b"9" * 10_000 + b"\n", "damaged"),
    "text that is not UTF-8": (b"X\x02\0\0\0\xff\xfe", "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REJECTED_PICKLES)
def test_invalid_pickle_is_rejected(tmp_path: Path, kind: str) -> None:
    extra, why = REJECTED_PICKLES[kind]
    path = tmp_path / "a.pth"
    write_zip(
        path, b"\x80\x02}" + text("a") + storage_of_one() + b"s" + text("b") + extra + b"s.", _0=bytes(4)
    )
    message = rejection(path)
    assert message.startswith(f"{path} is truncated or damaged") and why in message
    assert "no code in it was run" in message


REJECTED_LEGACY_PICKLES = {
    "a storage of 2**50 numbers": storage(FLOATS, text("9"), HUGE, legacy=True),
    "a part outside of a storage": many(
        text("storage"), FLOATS, text("9"), text("cpu"), ONE, many(text("v"), ONE, ONE)
    ) + b"Q",
    "a storage that does not follow": storage(FLOATS, text("9"), ONE, legacy=True),
    "a storage with too few elements": storage(FLOATS, text("0"), number(10_000), legacy=True),
}  # fmt: skip


@pytest.mark.parametrize("kind", REJECTED_LEGACY_PICKLES)
def test_invalid_legacy_pickle_is_rejected(tmp_path: Path, kind: str) -> None:
    path = save_with(tmp_path / "a.pth", {"model": state()}, REJECTED_LEGACY_PICKLES[kind], legacy=True)
    assert "is truncated or damaged" in rejection(path)


def test_part_of_a_storage_in_an_old_file_is_read(tmp_path: Path) -> None:
    """PyTorch before 0.4 wrote tensors that share a storage in this form."""
    stored = torch.arange(6.0)
    torch.save({"a": stored}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    *head, content, keys, rest = pickles((tmp_path / "a.pth").read_bytes(), 5)
    key = content[content.index(b"cpu") - 30 :]
    name = key[key.index(b"X") + 5 :].partition(b"q")[0].decode()
    view = (
        many(text("storage"), FLOATS, text(name), text("cpu"), b"K\x06", many(text("v"), TWO, b"K\x03"))
        + b"Q"
    )
    tensor = call(REBUILD, view, ONE, many(TWO), many(ONE), b"\x89", HOOKS)
    content = content[:-1] + text("b") + tensor + b"s."
    (tmp_path / "a.pth").write_bytes(b"".join([*head, content, keys, rest]))
    assert torch.equal(read(tmp_path / "a.pth").tensors["b"], torch.tensor([3.0, 4.0]))


def test_damaged_legacy_files_are_rejected(tmp_path: Path) -> None:
    torch.save({"model": state()}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "a.pth").read_bytes()
    magic, protocol, system, content, keys, numbers = pickles(whole, 5)
    empty = pickle.dumps([], protocol=2)
    for data in (
        magic + protocol,
        magic + pickle.dumps(1002, protocol=2) + system + content + keys + numbers,
        pickle.dumps([1], protocol=2) + protocol + system + content + keys + numbers,
        magic + protocol + system + content + empty + numbers,
        magic + protocol + system + content + pickle.dumps(["x"], protocol=2) + numbers,
        magic + protocol + system + content + pickle.dumps({"a": 1}, protocol=2) + numbers,
        magic + protocol + system + content + keys + bytes(8) + numbers[8:],
        magic + protocol + system + content + keys + b"\xff" * 8 + numbers[8:],
        magic + protocol + system + content + keys + numbers[:-1],
        magic + protocol + ONE + b"Q." + content + keys + numbers,
        content + keys + numbers,
    ):
        (tmp_path / "a.pth").write_bytes(data)
        assert "is truncated or damaged" in rejection(tmp_path / "a.pth")


def test_truncated_file_is_rejected_at_every_length(tmp_path: Path) -> None:
    for legacy in (False, True):
        torch.save({"a": torch.ones(2)}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
        whole = (tmp_path / "a.pth").read_bytes()
        for length in range(2, len(whole) - 1, 7):
            (tmp_path / "a.pth").write_bytes(whole[:length])
            rejection(tmp_path / "a.pth")


def test_changed_byte_is_read_or_rejected(tmp_path: Path) -> None:
    """Whatever the result is, only WeightsError is raised, and no code is run."""
    for legacy in (False, True):
        torch.save(
            {"a": torch.ones(2), "b": [1]}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy
        )
        whole = bytearray((tmp_path / "a.pth").read_bytes())
        generator = np.random.default_rng(0)
        for place in range(0, len(whole), 7):
            changed = bytes(whole[:place]) + generator.bytes(1) + bytes(whole[place + 1 :])
            (tmp_path / "a.pth").write_bytes(changed)
            with nothing_is_run(), suppress(WeightsError):
                read_stored(tmp_path / "a.pth")


# --- archives


def test_damaged_archives_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": state()}, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("a/data.pkl")
        place = archive.getinfo("a/data/0").header_offset

    def again(data: bytes) -> str:
        path.write_bytes(data)
        return rejection(path)

    changed = whole[:place] + whole[place:].replace(b"\x3e", b"\x3d", 3)
    assert "the checksum of one of its records is wrong" in again(changed)
    assert "one of its records has no header" in again(whole[:place] + b"XX" + whole[place + 2 :])
    path.write_bytes(whole)
    rewrite(path, lambda name, data: None if name.endswith("data/0") else data)
    assert "one of its storages has fewer than" in rejection(path)
    path.write_bytes(whole)
    rewrite(path, lambda name, data: data[:-4] if name.endswith("data/0") else data)
    assert "one of its storages has fewer than" in rejection(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("b/data.pkl", pickled)
    assert "it must contain exactly one data.pkl" in rejection(path)


def test_archive_that_inflates_too_much_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(100 << 20))
    assert path.stat().st_size < 1 << 20
    assert "its records claim 104,857," in rejection(path)


def test_storage_shared_by_too_many_tensors_is_rejected(tmp_path: Path) -> None:
    """A thousand tensors share one storage of a million elements."""
    one = storage(FLOATS, text("0"), number(10**6)) + b"q\x01"
    first = call(REBUILD, one, ZERO, many(number(10**6)), many(ONE), b"\x89", HOOKS)
    other = call(REBUILD, b"h\x01", ZERO, many(number(10**6)), many(ONE), b"\x89", HOOKS)
    entries = b"".join(text(f"t{n}") + other for n in range(1000))
    pickled = b"\x80\x02}(" + text("a") + first + entries + b"u."
    path = write_zip(tmp_path / "a.pth", pickled, _0=bytes(4 * 10**6))
    assert "too many of its tensors share the same bytes" in rejection(path)


def test_too_many_operations_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inert_pickle, "OPERATIONS", 1000)
    path = save_with(tmp_path / "a.pth", {"model": state()}, b"]" + (ONE + b"a") * 500)
    assert "more than 1,000 operations" in rejection(path)


def test_deeply_nested_rebuilders_are_rejected(tmp_path: Path) -> None:
    rebuild = of_class("torch._tensor", "_rebuild_from_type_v2")
    nested = many()
    for _ in range(5000):
        nested = many(rebuild, SYSTEM, nested, b"}")
    path = save_with(tmp_path / "a.pth", {"model": state()}, rebuild + nested + b"R")
    assert "is truncated or damaged" in rejection(path)


def test_tar_archive_is_rejected(tmp_path: Path) -> None:
    torch.save({"model": state()}, tmp_path / "a.pth")
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        archive.add(tmp_path / "a.pth", "a.pth")
    assert rejection(tmp_path / "b.tar") == (
        f"{tmp_path}/b.tar is a tar archive, not a weights file: unpack it and give the weights file in it"
    )


def test_file_without_tensors_is_rejected_with_its_contents(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    advice = "Save only the tensors, with torch.save(net.state_dict(), FILE) or as .safetensors"
    torch.save({"args": argparse.Namespace(a=1), "path": Fraction(1)}, path)
    assert rejection(path) == (
        f"{path} contains no named tensors: only code or objects (argparse.Namespace, fractions.Fraction), "
        f"which were not run. {advice}"
    )
    torch.save(nn.Linear(2, 2), path)
    assert "no named tensors: only code or objects (torch.nn.modules.linear.Linear)" in rejection(path)
    torch.save({"weight": np.ones(3)}, path)
    assert "no named tensors: only code or objects (numpy array)" in rejection(path)
    torch.save([argparse.Namespace(a=torch.ones(1))], path)
    assert "no named tensors: only code or objects (argparse.Namespace)" in rejection(path)
    stream = io.BytesIO()
    pickle.dump({"a": 1}, stream)
    path.write_bytes(stream.getvalue())
    assert "not written by torch.save (it does not begin like a file of torch.save)" in rejection(path)


def test_tensor_names_are_escaped_in_messages(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a\x1b[31m\n": torch.ones(2).to_sparse(), "x" * 10_000: torch.ones(1)}, path)
    assert read(path).tensors.keys() == {"a\x1b[31m\n", "x" * 10_000}
    torch.save({"a\x1b\n": {"b": torch.ones(1)}, "a\x1b\n.b": torch.ones(1)}, path)
    assert "two tensors named a\\x1b\\x0a.b" in rejection(path)
