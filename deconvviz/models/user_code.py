"""Run a user's Python file and call the function in it that returns a network."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from deconvviz.errors import ManifestError, NetworkError
from deconvviz.models.initialization import seeded_everywhere
from deconvviz.models.model_spec import ModelSpec
from deconvviz.models.stdout import stdout_to_stderr
from deconvviz.paths import existing_file, spoken
from deconvviz.similar_names import nearest


@dataclass(frozen=True)
class Made:
    """What a function returned, and ``sha256:...`` of its file."""

    product: Any
    digest: str


def make(spec: ModelSpec, *, seed: int = 0) -> Made:
    """Run the file, and the function in it that the spec names, under a seed.

    What it prints goes to stderr, and whatever it raises comes as one NetworkError with the line of the file.
    Nothing is run if there is no such file, if no function is named, or if the file is not the one whose
    digest the spec has (ManifestError).
    """
    file = existing_file(spec.file or "", NetworkError, "Python file")
    source = _contents(file)
    digest = "sha256:" + hashlib.sha256(source).hexdigest()
    if spec.digest not in (None, digest):
        raise ManifestError(f"{file} has changed: its contents are {digest} instead of {spec.digest}")
    if not spec.name:
        raise NetworkError(f"{file}: which function makes the network? {_there(source, file)}")
    with seeded_everywhere(seed), _imports_beside(file):
        module = _run(source, file)
        factory = _factory(module, spec.name, source, file)
        _check_arguments(factory, spec.arguments, file)
        with told_in_one_line(file):
            return Made(factory(**spec.arguments), digest)


@contextlib.contextmanager
def told_in_one_line(file: Path) -> Iterator[None]:
    """Turn what a file's code raises into a NetworkError; what it prints goes to stderr."""
    try:
        with stdout_to_stderr():  # stdout belongs to the results
            yield
    except (Exception, SystemExit) as reason:  # another's code: it may raise anything
        raise NetworkError(_told(reason, file)) from reason


def _contents(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as reason:
        raise NetworkError(f"cannot read {file}: {spoken(reason)}") from reason


def _run(source: bytes, file: Path) -> ModuleType:
    """The file as a module; from the very bytes that were read, not from what Python has cached of it."""
    module = ModuleType(f"deconvviz:{file}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses and others look there
    with told_in_one_line(file):
        exec(compile(source, str(file), "exec", dont_inherit=True), module.__dict__)
    return module


@contextlib.contextmanager
def _imports_beside(file: Path) -> Iterator[None]:
    """A file may import its neighbours, as a script may."""
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the code may have changed the path itself
            sys.path.remove(folder)


def _factory(module: ModuleType, name: str, source: bytes, file: Path) -> Callable[..., Any]:
    factory = getattr(module, name, None)
    if factory is None:
        raise NetworkError(f"no function {name!r} in {file}: {_there(source, file, like=name)}")
    if isinstance(factory, nn.Module) or not callable(factory):
        raise NetworkError(
            f"{name} in {file} is no function that returns a network, but of type {type(factory).__name__}; "
            f"{_there(source, file)}"
        )
    return factory  # type: ignore[no-any-return]


def _there(source: bytes, file: Path, like: str = "") -> str:
    """What could be called in a file, without running it."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as reason:
        raise NetworkError(_told(reason, file)) from reason
    kinds = (ast.FunctionDef, ast.ClassDef)
    names = [node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    if not names:
        return "it has none; write a function that returns the network"
    found = nearest(like, names) + names if like else names
    return f"there is {', '.join(f'{file}:{name}' for name in dict.fromkeys(found))}"


def _check_arguments(factory: Callable[..., Any], arguments: Mapping[str, Any], file: Path) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # not known of what is written in C
        return
    try:
        signature.bind(**arguments)
    except TypeError as reason:
        takes = ", ".join(str(one) for one in signature.parameters.values()) or "nothing"
        name = getattr(factory, "__name__", "the factory")
        raise _WrongArguments(
            f"{name} in {file} cannot be called so: {reason}. It takes {takes}: give them with {{option}}",
            option="arguments={...}",
        ) from reason


class _WrongArguments(NetworkError):
    """The option of the command line has another name than the argument in Python."""

    def on_command_line(self) -> str:
        return self.message.replace("{option}", "--model-arg NAME=VALUE")


def _told(reason: BaseException, file: Path) -> str:
    """The place in the file, and what was said there, in one line."""
    if isinstance(reason, SyntaxError) and reason.filename in (str(file), "<unknown>"):
        return f"{file}:{reason.lineno}: {type(reason).__name__}: {reason.msg}"
    frames = traceback.extract_tb(reason.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    place = f"{file}:{lines[-1]}" if lines else str(file)
    said = " ".join(str(reason).split())
    return f"{place}: {type(reason).__name__}{': ' if said else ''}{said}"
