"""Weights from a file, as plain tensors. Nothing in a file is ever run."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from deconvviz.errors import WeightsError
from deconvviz.models.stored_tensors import PLAIN, Stored, named_tensors
from deconvviz.paths import existing_file, spoken

# What torch.load raises for bytes that are no weights, depending on the place where it stumbles.
UNREADABLE = (
    pickle.UnpicklingError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError,
    AssertionError, MemoryError,
)  # fmt: skip


def read_stored(path: str | Path) -> Stored:
    """Read all named tensors in a .safetensors file or one that torch.save wrote.

    Raises WeightsError for a file that is missing or broken, has no named tensors, or holds anything that
    would have to be run.
    """
    file = existing_file(path, WeightsError, "weights file")
    _refuse_torchscript(file)
    content = _read_safetensors(file) if _is_safetensors(file) else _read_pickle(file)
    return named_tensors(content, str(file))


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the state dict in a file, whatever network it belongs to. To load weights, see `weights_of_file`.

    Raises WeightsError as `read_stored` and `refuse_odd` do.
    """
    stored = read_stored(path)
    state = stored.below(stored.main)
    refuse_odd(state, path)
    return state


def refuse_odd(state: Mapping[str, Tensor], file: str | Path) -> None:
    """Raise WeightsError for a tensor that is quantised, sparse, complex or without values."""
    for key, tensor in state.items():
        if odd := unfit(tensor):
            raise WeightsError(f"{file}: {key} is {odd}: save plain, dense floating-point tensors")


def _refuse_torchscript(file: Path) -> None:
    if "constants.pkl" in _inside_zip(file):
        raise WeightsError(
            f"{file} is a TorchScript program, which would have to be run; it was not: {PLAIN}"
        )


def _inside_zip(file: Path) -> list[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            return [name.rpartition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError):
        return []


def _read_safetensors(file: Path) -> Any:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as reason:
        raise WeightsError(f"{file} is no whole safetensors file: {spoken(reason)}") from reason


def _read_pickle(file: Path) -> Any:
    try:
        with warnings.catch_warnings():  # it muses about the pickle's protocol
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as reason:
        raise WeightsError(f"cannot read {file}: {spoken(reason)}") from reason
    except UNREADABLE as reason:
        raise WeightsError(_refusal(file, str(reason))) from reason


def _is_safetensors(file: Path) -> bool:
    if file.suffix == ".safetensors":
        return True
    beginning = _beginning(file)
    return beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") < file.stat().st_size


def _refusal(file: Path, reason: str) -> str:
    if wanted := re.search(r"GLOBAL ([\w.]+)", reason):
        return (
            f"{file} holds code or objects ({wanted[1]}), not plain tensors alone, and was not run: {PLAIN}"
        )
    beginning, inside = _beginning(file), _inside_zip(file)
    if inside and "data.pkl" not in inside:
        return f"{file} is a zip archive without weights in it: unpack it and give the weights file"
    if inside or beginning.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return (
            f"{file} is broken off or damaged, or holds more than plain tensors; nothing in it was run: "
            f"fetch it again, or {PLAIN}"
        )
    return (
        f"{file} is no weights file: it begins with {beginning[:24]!r} "
        "(give what torch.save wrote, .pth or .pt, or .safetensors)"
    )


def _beginning(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(32)
    except OSError as reason:
        raise WeightsError(f"cannot read {file}: {spoken(reason)}") from reason


def unfit(tensor: Tensor) -> str | None:
    """Say what keeps a tensor from being used as weights; None if it can be used."""
    if tensor.is_quantized:
        return "quantised"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_complex():
        return "complex"
    return "without values (a meta tensor)" if tensor.is_meta else None
