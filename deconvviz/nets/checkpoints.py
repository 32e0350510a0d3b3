"""Weights from a file, as plain tensors. Nothing in a file is ever run."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from deconvviz.errors import WeightsError
from deconvviz.nets.given import existing_file, spoken

# What torch.load raises for bytes that are no weights, depending on the place where it stumbles.
UNREADABLE = (
    pickle.UnpicklingError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError,
    AssertionError, MemoryError,
)  # fmt: skip
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module")
PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning

_PLAIN = "save the tensors alone, torch.save(net.state_dict(), FILE), or as .safetensors"


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors file or one that torch.save wrote, out of its wrappers.

    Raises WeightsError for a file that is missing or broken, or holds anything that would have to be run.
    """
    file = existing_file(path, WeightsError, "weights file")
    _refuse_torchscript(file)
    stored = _read_safetensors(file) if _is_safetensors(file) else _read_pickle(file)
    state = _state_dict(stored, file)
    for key, tensor in state.items():
        if odd := _unfit(tensor):
            raise WeightsError(f"{file}: {key} is {odd}: save plain, dense floating-point tensors")
    return state


def without_prefixes(state: dict[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """The same tensors without what DataParallel and others put before every name; `own` are the names
    wanted."""
    state, wanted = _copied(state), set(own)
    while not wanted.intersection(state) and (prefix := _shared_prefix(state)):
        consume_prefix_in_state_dict_if_present(state, prefix)  # also in `_metadata`
    return state


def _shared_prefix(state: dict[str, Tensor]) -> str | None:
    return next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in state)), None)


def _refuse_torchscript(file: Path) -> None:
    if "constants.pkl" in _inside_zip(file):
        raise WeightsError(
            f"{file} is a TorchScript program, which would have to be run; it was not: {_PLAIN}"
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
            f"{file} holds code or objects ({wanted[1]}), not plain tensors alone, and was not run: {_PLAIN}"
        )
    beginning, inside = _beginning(file), _inside_zip(file)
    if inside and "data.pkl" not in inside:
        return f"{file} is a zip archive without weights in it: unpack it and give the weights file"
    if inside or beginning.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return (
            f"{file} is broken off or damaged, or holds more than plain tensors; nothing in it was run: "
            f"fetch it again, or {_PLAIN}"
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


def _state_dict(stored: Any, file: Path) -> dict[str, Tensor]:
    while isinstance(stored, Mapping) and not _all_tensors(stored):
        wrapper = next((key for key in WRAPPERS if isinstance(stored.get(key), Mapping)), None)
        if wrapper is None:
            break
        stored = stored[wrapper]
    if not isinstance(stored, Mapping):
        raise WeightsError(f"{file} holds a {type(stored).__name__}, not named tensors: {_PLAIN}")
    if not stored:
        raise WeightsError(f"{file} holds no tensors: {_PLAIN}")
    if not _all_tensors(stored):
        odd = [repr(key) for key, value in stored.items() if not isinstance(value, Tensor)]
        raise WeightsError(
            f"{file} holds {len(odd)} things beside tensors ({', '.join(odd[:4])}) and no state dict under "
            f"{', '.join(WRAPPERS[:3])}: {_PLAIN}"
        )
    state: OrderedDict[str, Tensor] = OrderedDict((str(key), value) for key, value in stored.items())
    metadata = getattr(stored, "_metadata", None)  # versions of layouts, which some modules need to know
    if isinstance(metadata, Mapping):
        state._metadata = OrderedDict(metadata)  # type: ignore[attr-defined]
    return state


def _all_tensors(stored: Mapping[Any, Any]) -> bool:
    return all(isinstance(value, Tensor) for value in stored.values())


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    copied = OrderedDict(state)
    if hasattr(state, "_metadata"):
        copied._metadata = OrderedDict(state._metadata)  # type: ignore[attr-defined]
    return copied


def _unfit(tensor: Tensor) -> str | None:
    if tensor.is_quantized:
        return "quantised"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_complex():
        return "complex"
    return "without values (a meta tensor)" if tensor.is_meta else None
