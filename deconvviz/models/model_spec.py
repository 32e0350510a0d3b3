"""Which network is meant: a name, ``timm:NAME``, or a function in a file; and its arguments. No torch."""

from __future__ import annotations

import ast
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from deconvviz.errors import NetworkError

FORMS = "a name (see: deconvviz models), timm:NAME, or path/to/file.py:factory"
_FILE = re.compile(r"(?P<file>.+\.py)(?::(?P<function>.*))?", re.DOTALL)
_PLAIN = (bool, int, str, bytes, type(None))


@dataclass(frozen=True)
class ModelSpec:
    """A network as it was asked for; `parse` reads one."""

    registry: Literal["torchvision", "timm", "file"]  # minivgg counts as torchvision's
    name: str  # as the registry has it; in a file, the function that makes the network
    arguments: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    digest: str | None = None  # of the file; if given, no other contents are run

    @property
    def text(self) -> str:
        """What `load` and --model take."""
        prefix = {"torchvision": "", "timm": "timm:", "file": f"{self.file}:"}[self.registry]
        return prefix + self.name

    @property
    def short(self) -> str:
        """For a title: of a file its name alone."""
        return f"{self.file.name}:{self.name}" if self.file else self.text

    @property
    def options(self) -> str:
        """The command line's options for it, quoted for a shell."""
        words = ["--model", self.text]
        for name, value in self.arguments.items():
            words += ["--model-arg", f"{name}={_as_typed(value)}"]
        return shlex.join(words)

    @property
    def runs_code(self) -> bool:
        """Whether a file of somebody's own is run to have it."""
        return self.file is not None


def parse(text: str, arguments: Mapping[str, Any] | None = None) -> ModelSpec:
    """Read ``vgg19``, ``timm:resnet26d`` or ``own.py:make``; nothing is looked up. Raises NetworkError."""
    given = dict(arguments or {})
    for name in given:
        if not (isinstance(name, str) and name.isidentifier()):
            raise NetworkError(f"{name!r} is no name of an argument: letters, digits and _ alone")
    if text.startswith("timm:"):
        return ModelSpec("timm", text.removeprefix("timm:"), given)
    if found := _FILE.fullmatch(text):
        return ModelSpec("file", found["function"] or "", given, Path(found["file"]))
    if ":" in text:
        raise NetworkError(f"no network {text!r}: give {FORMS}")
    if given:
        raise NetworkError(
            f"{text} takes no arguments ({', '.join(given)}): "
            "those are for timm:NAME and path/to/file.py:factory"
        )
    return ModelSpec("torchvision", text)


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
    return type(value) in _PLAIN


def _as_typed(value: Any) -> str:
    """So that `read_value` reads it again."""
    return value if isinstance(value, str) and read_value(value) == value else repr(value)
