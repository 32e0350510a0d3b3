"""Which network a user asked for, and with which arguments. Without torch.

`deconvviz.models.providers` reads one from text (`parse`) and builds the network.
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
"""The registry of networks that are known by their name alone; others are written ``REGISTRY:NAME``."""

_LITERALS = (bool, int, str, bytes, type(None))


@dataclass(frozen=True)
class ModelSpec:
    """A network as a user asked for it."""

    registry: str  # which kind of network; written into manifests
    name: str  # within its registry; in a file, the function that returns the network
    arguments: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    digest: str | None = None  # of the file; if given, no other contents are run

    @property
    def text(self) -> str:
        """The network as `load` and the command line take it."""
        if self.file is not None:
            return f"{self.file}:{self.name}"
        return self.name if self.registry == PLAIN else f"{self.registry}:{self.name}"

    @property
    def short(self) -> str:
        """The network as titles name it: of a file its name alone."""
        return f"{path_to_text(self.file.name)}:{self.name}" if self.file else self.text

    @property
    def options(self) -> str:
        """The options of the command line that ask for the same network, quoted for a shell."""
        words = ["--model", self.text]
        for name, value in self.arguments.items():
            words += ["--model-arg", f"{name}={_as_typed(value)}"]
        return shlex.join(words)


def read_value(text: str) -> Any:
    """A value as it was typed: what it says as a Python literal, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def as_literals(arguments: Mapping[str, Any]) -> dict[str, str] | None:
    """Arguments as Python literals, to be stored; None if one cannot be written so."""
    return {name: repr(value) for name, value in arguments.items()} if _literal(dict(arguments)) else None


def from_literals(stored: Mapping[str, str]) -> dict[str, Any]:
    """The arguments that `as_literals` wrote. Raises ValueError for anything else."""
    try:
        return {name: ast.literal_eval(value) for name, value in stored.items()}
    except (SyntaxError, TypeError, AttributeError, MemoryError, RecursionError) as reason:
        raise ValueError(f"no arguments in {stored!r}") from reason


def _literal(value: Any) -> bool:
    if type(value) in (list, tuple, set):
        # `set()` is a call, and no literal
        return (bool(value) or type(value) is not set) and all(map(_literal, value))
    if type(value) is dict:
        return all(_literal(key) and _literal(one) for key, one in value.items())
    if type(value) is float:
        return math.isfinite(value)
    return type(value) in _LITERALS


def _as_typed(value: Any) -> str:
    """So that `read_value` reads it again."""
    return value if isinstance(value, str) and read_value(value) == value else repr(value)
