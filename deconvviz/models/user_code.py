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
from deconvviz.paths import existing_file, reason_of
from deconvviz.similar_names import nearest


@dataclass(frozen=True)
class Made:
    """Return value of a user's function, and ``sha256:...`` of its file."""

    product: Any
    digest: str


def make(spec: ModelSpec, *, seed: int = 0) -> Made:
    """Run the file and call the function that the spec names, with seeded random generators.

    Printed text goes to stderr. Exceptions of the code are raised as NetworkError with the line of the file.
    The code is not run if the file does not exist, if no function is named, or if the contents of the file do
    not match the digest of the spec (ManifestError).
    """
    file = existing_file(spec.file or "", NetworkError, "Python file")
    source = _contents(file)
    digest = "sha256:" + hashlib.sha256(source).hexdigest()
    if spec.digest not in (None, digest):
        raise ManifestError(f"{file} has changed: its digest is {digest}, not {spec.digest}")
    if not spec.name:
        raise NetworkError(f"no function of {file} is named: {_existing(source, file)}")
    with seeded_everywhere(seed), _importable_folder(file):
        module = _run(source, file)
        factory = _factory(module, spec.name, source, file)
        _check_arguments(factory, spec.arguments, file)
        with errors_in_one_line(file):
            return Made(factory(**spec.arguments), digest)


@contextlib.contextmanager
def errors_in_one_line(file: Path) -> Iterator[None]:
    """Raise the exceptions of a file's code as NetworkError; redirect what it prints to stderr."""
    try:
        with stdout_to_stderr():
            yield
    except (Exception, SystemExit) as reason:  # a user's code can raise anything
        raise NetworkError(_one_line(reason, file)) from reason


def _contents(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as reason:
        raise NetworkError(f"cannot read {file}: {reason_of(reason)}") from reason


def _run(source: bytes, file: Path) -> ModuleType:
    """Run the bytes that were read as a module, without Python's bytecode cache."""
    module = ModuleType(f"deconvviz:{file}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses and others look up the module there
    with errors_in_one_line(file):
        exec(compile(source, str(file), "exec", dont_inherit=True), module.__dict__)
    return module


@contextlib.contextmanager
def _importable_folder(file: Path) -> Iterator[None]:
    """Let a file import modules from its own folder, as a script can."""
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the code may have changed sys.path itself
            sys.path.remove(folder)


def _factory(module: ModuleType, name: str, source: bytes, file: Path) -> Callable[..., Any]:
    factory = getattr(module, name, None)
    if factory is None:
        raise NetworkError(f"no function {name!r} in {file}: {_existing(source, file, like=name)}")
    if isinstance(factory, nn.Module) or not callable(factory):
        raise NetworkError(
            f"{name} in {file} is not a function that returns a network but of type "
            f"{type(factory).__name__}: {_existing(source, file)}"
        )
    return factory  # type: ignore[no-any-return]


def _existing(source: bytes, file: Path, like: str = "") -> str:
    """Return a text that lists the functions and classes of a file, which is not run."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as reason:
        raise NetworkError(_one_line(reason, file)) from reason
    kinds = (ast.FunctionDef, ast.ClassDef)
    names = [node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    if not names:
        return "there are no functions. Write one that returns the network"
    found = nearest(like, names) + names if like else names
    return f"there is {', '.join(f'{file}:{name}' for name in dict.fromkeys(found))}"


def _check_arguments(factory: Callable[..., Any], arguments: Mapping[str, Any], file: Path) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # callables written in C may have no signature
        return
    try:
        signature.bind(**arguments)
    except TypeError as reason:
        takes = ", ".join(str(one) for one in signature.parameters.values()) or "nothing"
        name = getattr(factory, "__name__", "the factory")
        raise _WrongArguments(
            f"{name} in {file} cannot be called with these arguments: {reason}. It takes {takes}. Set them "
            "with {option}",
            option="arguments={...}",
        ) from reason


class _WrongArguments(NetworkError):
    """Error about arguments; it names ``--model-arg`` on the command line and ``arguments`` in Python."""

    def on_command_line(self) -> str:
        return self.message.replace("{option}", "--model-arg NAME=VALUE")


def _one_line(reason: BaseException, file: Path) -> str:
    """Return the line of the file and the message of an exception, in one line of text."""
    if isinstance(reason, SyntaxError) and reason.filename in (str(file), "<unknown>"):
        return f"{file}:{reason.lineno}: {type(reason).__name__}: {reason.msg}"
    frames = traceback.extract_tb(reason.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    place = f"{file}:{lines[-1]}" if lines else str(file)
    words = " ".join(str(reason).split())
    return f"{place}: {type(reason).__name__}{': ' if words else ''}{words}"
