"""Weights from a file, as plain tensors. Nothing in a file is ever run."""

from __future__ import annotations

import pickle
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from deconvviz.errors import WeightsError
from deconvviz.models.inert_pickle import Malformed
from deconvviz.models.stored_tensors import PLAIN, Stored, named_tensors
from deconvviz.models.torch_file import TorchFile, read_torch_file
from deconvviz.paths import existing_file, spoken
from deconvviz.printable_names import printable, printable_path

# What PyTorch, zipfile and zlib raise for bytes that are not weights, depending on what is wrong with them.
UNREADABLE = (
    pickle.UnpicklingError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError,
    AssertionError, MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_TAR = 257, b"ustar"  # where a tar archive says that it is one


def read_stored(path: str | Path) -> Stored:
    """Read all named tensors in a .safetensors file or one that torch.save wrote.

    Objects of other classes in the file are ignored, and nothing is run for them. Raises WeightsError for a
    file that is missing or damaged, or has no named tensors.
    """
    file = existing_file(path, WeightsError, "weights file")
    _refuse_program(file)
    if _is_safetensors(file):
        return named_tensors(_read_safetensors(file), printable_path(file))
    found = _read_pickle(file)
    return named_tensors(found.content, printable_path(file), found.subclasses)


def refuse_odd(state: Mapping[str, Tensor], file: str | Path) -> None:
    """Raise WeightsError for a tensor that is quantised, sparse, complex or without values."""
    for key, tensor in state.items():
        if odd := unfit(tensor):
            raise WeightsError(f"{file}: {printable(key)} is {odd}: save plain, dense floating-point tensors")


_PROGRAMS = {  # by a file that only the archives of such programs contain
    "constants.pkl": "TorchScript",
    "archive_format": "torch.export",
    "serialized_exported_program.json": "torch.export",
}


def _refuse_program(file: Path) -> None:
    for inside in _inside_zip(file):
        if kind := _PROGRAMS.get(inside):
            shown = printable_path(file)
            raise WeightsError(
                f"{shown} is a {kind} program, which would have to be run; it was not: {PLAIN}"
            )


def _inside_zip(file: Path) -> list[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            return [name.rpartition("/")[2] for name in archive.namelist()]
    except (*UNREADABLE, OSError):
        return []


def _read_safetensors(file: Path) -> Any:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as reason:
        shown = printable_path(file)
        raise WeightsError(f"{shown} is not a whole safetensors file: {spoken(reason)}") from reason


def _read_pickle(file: Path) -> TorchFile:
    try:
        with warnings.catch_warnings():  # of odd escapes in the file, and of PyTorch's about kinds of tensors
            warnings.simplefilter("ignore")
            return read_torch_file(file)
    except OSError as reason:
        raise WeightsError(f"cannot read {printable_path(file)}: {spoken(reason)}") from reason
    except UNREADABLE as reason:
        raise WeightsError(_refusal(file, reason)) from reason


def _is_safetensors(file: Path) -> bool:
    if file.suffix == ".safetensors":
        return True
    beginning = _beginning(file)
    return beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") < file.stat().st_size


def _refusal(file: Path, reason: BaseException) -> str:
    beginning, inside, shown = _beginning(file), _inside_zip(file), printable_path(file)
    if inside and "data.pkl" not in inside:
        return f"{shown} is a zip archive without weights in it: unpack it and give the weights file"
    if beginning[_TAR[0] :].startswith(_TAR[1]):
        return f"{shown} is a tar archive: unpack it and give the weights file in it"
    if inside or beginning.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        why = f" ({reason})" if isinstance(reason, Malformed) else ""
        return (
            f"{shown} is broken off or damaged, or torch.save did not write it{why}; nothing in it was run: "
            f"fetch it again, or {PLAIN}"
        )
    return (
        f"{shown} is not a weights file: it begins with {beginning[:24]!r} "
        "(give what torch.save wrote, .pth or .pt, or .safetensors)"
    )


def _beginning(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(_TAR[0] + len(_TAR[1]))
    except OSError as reason:
        raise WeightsError(f"cannot read {printable_path(file)}: {spoken(reason)}") from reason


def unfit(tensor: Tensor) -> str | None:
    """Say what keeps a tensor from being used as weights; None if it can be used."""
    if tensor.is_quantized:
        return "quantised"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_complex():
        return "complex"
    return "without values (a meta tensor)" if tensor.is_meta else None
