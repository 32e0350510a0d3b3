"""The tensors in what a module returns: one, or a dictionary, tuple, list or dataclass of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import NamedTuple

from torch import Tensor


class OutputPart(NamedTuple):
    """One tensor of a module's output, and the keys that lead to it; none if the output is the tensor."""

    keys: tuple[str, ...]
    tensor: Tensor


def output_parts(output: object) -> list[OutputPart]:
    """Return every tensor in the output of a module, in order.

    Keys are those of a dictionary (also of a Hugging Face ModelOutput), the names of the fields of a
    NamedTuple or a dataclass, and the numbers of the entries of a tuple or a list. Nested tensors are left
    out, because they have no shape.
    """
    return [OutputPart(keys, tensor) for keys, tensor in _walk(output, ()) if not tensor.is_nested]


def _walk(output: object, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    if isinstance(output, Tensor):
        yield keys, output
        return
    for key, one in _entries(output):
        yield from _walk(one, (*keys, str(key)))


def _entries(output: object) -> Iterator[tuple[object, object]]:
    if isinstance(output, Mapping):
        yield from output.items()
    elif isinstance(output, (tuple, list)):
        names = getattr(output, "_fields", range(len(output)))  # of a NamedTuple
        yield from zip(names, output, strict=True)
    elif is_dataclass(output) and not isinstance(output, type):
        yield from ((field.name, getattr(output, field.name)) for field in fields(output))


def with_keys(name: str, keys: tuple[str, ...]) -> str:
    """Return the name of a part: ``encoder[out]`` for the entry ``out`` of what ``encoder`` returns."""
    return name + "".join(f"[{key}]" for key in keys)


def module_of(name: str) -> str:
    """Return the name of the module in the name of an output, without its call and its keys."""
    return name.partition("[")[0].partition(":")[0]
