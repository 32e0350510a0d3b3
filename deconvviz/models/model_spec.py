"""A requested network and its arguments. Does not import torch.

`deconvviz.models.providers.parse` reads one from text, and its provider builds the network.
"""

from __future__ import annotations

import ast
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deconvviz.printable_names import path_to_text

PLAIN = "torchvision"
"""Registry of the networks that are written as a name alone; others are written ``REGISTRY:NAME``."""

_LITERALS = (bool, int, str, bytes, type(None))


@dataclass(frozen=True)
class ModelSpec:
    """A network as the user requested it: its kind, its name and its arguments."""

    registry: str  # the kind of network; written into manifests
    name: str  # the name in the registry; for a file, the function that returns the network
    arguments: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    digest: str | None = None  # of the file's contents; if set, a file with other contents is not run

    @property
    def text(self) -> str:
        """Text that `load` and the command line accept for this network."""
        if self.file is not None:
            return f"{self.file}:{self.name}"
        return self.name if self.registry == PLAIN else f"{self.registry}:{self.name}"

    @property
    def short(self) -> str:
        """Text for titles: as `text`, but without the folder of a file."""
        return f"{path_to_text(self.file.name)}:{self.name}" if self.file else self.text

    @property
    def options(self) -> str:
        """Command-line options that request this network, quoted for a shell."""
        words = ["--model", self.text]
        for name, value in self.arguments.items():
            words += ["--model-arg", f"{name}={_as_typed(value)}"]
        return shlex.join(words)


def read_value(text: str) -> Any:
    """Return the value of a typed text: the Python literal if it is one, otherwise the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def as_literals(arguments: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the arguments as Python literals, to be stored; None if one of them has no literal."""
    return {name: repr(value) for name, value in arguments.items()} if _literal(dict(arguments)) else None


def from_literals(stored: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments that `as_literals` stored. Raises ValueError for anything else."""
    try:
        return {name: ast.literal_eval(value) for name, value in stored.items()}
    except (SyntaxError, TypeError, AttributeError, MemoryError, RecursionError) as reason:
        raise ValueError(f"invalid arguments: {stored!r}") from reason


def _literal(value: Any) -> bool:
    if type(value) in (list, tuple, set):
        # an empty set has no literal: `set()` is a call
        return (bool(value) or type(value) is not set) and all(map(_literal, value))
    if type(value) is dict:
        return all(_literal(key) and _literal(one) for key, one in value.items())
    if type(value) is float:
        return math.isfinite(value)
    return type(value) in _LITERALS


def _as_typed(value: Any) -> str:
    """Return the text from which `read_value` returns this value."""
    return value if isinstance(value, str) and read_value(value) == value else repr(value)
