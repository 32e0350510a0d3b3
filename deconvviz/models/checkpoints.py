"""Read weights files as plain tensors. No code from a file is ever run."""

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
from deconvviz.models.stored_tensors import ADVICE, Stored, named_tensors
from deconvviz.models.torch_file import TorchFile, read_torch_file
from deconvviz.paths import existing_file, reason_of
from deconvviz.printable_names import printable, printable_path

# Exceptions that PyTorch, zipfile and zlib raise for files that are damaged or are not weights.
UNREADABLE = (
    pickle.UnpicklingError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError,
    AssertionError, MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_TAR = 257, b"ustar"  # offset and bytes of the signature of a tar archive


def read_stored(path: str | Path) -> Stored:
    """Return all named tensors in a .safetensors file or a file of torch.save.

    Objects of other classes in the file are ignored, and none of their code is run. Raises WeightsError for a
    file that is missing or damaged, or has no named tensors.
    """
    file = existing_file(path, WeightsError, "weights file")
    _check_not_a_program(file)
    if _is_safetensors(file):
        return named_tensors(_read_safetensors(file), printable_path(file))
    found = _read_pickle(file)
    return named_tensors(found.content, printable_path(file), found.subclasses)


def check_usable(state: Mapping[str, Tensor], file: str | Path) -> None:
    """Raise WeightsError for a tensor that is quantised, sparse, complex or without values."""
    for key, tensor in state.items():
        if kind := unusable_kind(tensor):
            raise WeightsError(
                f"{file} cannot be used: {printable(key)} is {kind}. Save dense floating-point tensors"
            )


_PROGRAMS = {  # by the name of a file that only archives of these programs contain
    "constants.pkl": "TorchScript",
    "archive_format": "torch.export",
    "serialized_exported_program.json": "torch.export",
}


def _check_not_a_program(file: Path) -> None:
    for inside in _inside_zip(file):
        if kind := _PROGRAMS.get(inside):
            shown = printable_path(file)
            raise WeightsError(f"{shown} is a {kind} program, not a weights file; it was not run. {ADVICE}")


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
        raise WeightsError(f"{shown} is not a complete safetensors file: {reason_of(reason)}") from reason


def _read_pickle(file: Path) -> TorchFile:
    try:
        with warnings.catch_warnings():  # about escapes in the pickle and about unusual tensors
            warnings.simplefilter("ignore")
            return read_torch_file(file)
    except OSError as reason:
        raise WeightsError(f"cannot read {printable_path(file)}: {reason_of(reason)}") from reason
    except UNREADABLE as reason:
        raise WeightsError(_unreadable(file, reason)) from reason


def _is_safetensors(file: Path) -> bool:
    if file.suffix == ".safetensors":
        return True
    beginning = _beginning(file)
    return beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") < file.stat().st_size


def _unreadable(file: Path, reason: BaseException) -> str:
    """Return the message for a file that cannot be read, with advice that depends on what it is."""
    beginning, inside, shown = _beginning(file), _inside_zip(file), printable_path(file)
    if inside and "data.pkl" not in inside:
        return f"{shown} is a zip archive, not a weights file: unpack it and give the weights file in it"
    if beginning[_TAR[0] :].startswith(_TAR[1]):
        return f"{shown} is a tar archive, not a weights file: unpack it and give the weights file in it"
    if inside or beginning.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        why = f" ({reason})" if isinstance(reason, Malformed) else ""
        return (
            f"{shown} is truncated or damaged, or was not written by torch.save{why}; no code in it was run. "
            "Download the file again, or give one that contains only tensors"
        )
    return (
        f"{shown} is not a weights file: it begins with {beginning[:24]!r}. "
        "Give a file of torch.save (.pth or .pt) or a .safetensors file"
    )


def _beginning(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(_TAR[0] + len(_TAR[1]))
    except OSError as reason:
        raise WeightsError(f"cannot read {printable_path(file)}: {reason_of(reason)}") from reason


def unusable_kind(tensor: Tensor) -> str | None:
    """Return why a tensor cannot be used as weights, such as "sparse"; None if it can."""
    if tensor.is_quantized:
        return "quantised"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_complex():
        return "complex"
    return "without values (a meta tensor)" if tensor.is_meta else None
