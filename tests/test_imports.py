"""Imports between rooms run one way and never in a circle. Imports inside functions count as well."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

import deconvviz

PACKAGE = Path(deconvviz.__file__).parent

GROUND = {
    "errors", "files", "folder_lock", "html_views", "notebook_bar", "paths", "printable_names",
    "similar_names", "version", "views", "wording",
}  # fmt: skip
ROOMS = GROUND | {"engine", "images", "scenes", "models", "image_sources", "figures", "verification"}
FACTS = {"layers", "coverage", "network_info", "provenance", "results", "likeness"}
BELOW = {
    "version": set(),
    "views": set(),
    "html_views": set(),
    "notebook_bar": set(),
    "printable_names": set(),
    "errors": {"printable_names"},
    "similar_names": set(),
    "wording": set(),
    "files": {"errors", "paths", "printable_names"},
    "folder_lock": {"errors", "files", "printable_names", "wording"},
    "paths": {"errors", "similar_names", "printable_names", "wording"},
    "engine": {"errors", "wording"},
    "scenes": {"errors", "files"},
    "images": GROUND,
    "models": GROUND | {"images", "engine"},
    "image_sources": GROUND | {"images", "scenes"},
    "figures": {"errors", "files", "wording", "printable_names"},
    "verification": set(),
    "likeness": set(),
    "layers": GROUND | {"engine", "models"},
    "coverage": GROUND | {"engine"},
    "network_info": GROUND | {"images", "models"},
    "provenance": GROUND | {"models", "network_info"},
    "results": GROUND | {"figures"},
    "projection": ROOMS | FACTS,
    "recording": ROOMS | FACTS | {"projection"},
    "network": ROOMS | FACTS | {"projection", "recording"},
    "loading": ROOMS | FACTS | {"network"},
    "described_network": ROOMS | FACTS | {"network", "loading"},
    "topnine": ROOMS | FACTS | {"projection", "recording", "network"},
    "methods": ROOMS | FACTS | {"projection", "recording", "network"},
    "dataset_search": ROOMS
    | FACTS
    | {"projection", "recording", "network", "loading", "described_network", "topnine"},
    "trust_measures": ROOMS | FACTS | {"projection", "recording", "network", "methods", "dataset_search"},
    "from_manifest": ROOMS
    | FACTS
    | {"projection", "recording", "network", "described_network", "methods", "experiments"},
    "experiments": ROOMS
    | FACTS
    | {"projection", "recording", "network", "loading", "topnine", "methods", "dataset_search"},
    "web": ROOMS
    | FACTS
    | {"projection", "recording", "network", "loading", "topnine", "methods"}
    | {"dataset_search", "trust_measures"},
    "cli": ROOMS
    | FACTS
    | {"projection", "recording", "network", "loading", "topnine", "methods"}
    | {"dataset_search", "from_manifest", "trust_measures", "experiments", "web"},
    "__main__": {"cli"},
    "__init__": ROOMS
    | FACTS
    | {"projection", "recording", "network", "loading", "topnine", "methods"}
    | {"dataset_search", "from_manifest", "trust_measures", "experiments", "web"},
}
"""Rooms that a room may import, besides itself."""

FOREIGN = {
    "errors": set(),
    "files": {"numpy"},
    "engine": {"torch", "psutil"},
    "scenes": {"numpy", "PIL"},
    "figures": {"numpy", "matplotlib", "PIL"},
    "verification": {"torch", "captum"},
    "likeness": set(),
    "cli": {"typer", "click", "rich", "PIL", "numpy", "torch", "torchvision", "shellingham"},
}
"""Third-party packages that some rooms are limited to."""


@dataclass(frozen=True)
class Import:
    """One name imported by one statement."""

    by: str  # dotted name of the importing module
    of: str  # dotted name of the imported module or object
    line: int
    typing: bool  # under `if TYPE_CHECKING`
    at_once: bool  # executed when the module is imported, not when a function is called


@lru_cache
def _imports() -> tuple[Import, ...]:
    return tuple(found for path in sorted(PACKAGE.rglob("*.py")) for found in _imports_of(path))


def _dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def _imports_of(path: Path) -> Iterator[Import]:
    module = _dotted(path)

    def walk(node: ast.AST, typing: bool, at_once: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, typing, at_once)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively"
            for alias in node.names:
                yield Import(module, f"{node.module}.{alias.name}", node.lineno, typing, at_once)
        typing = typing or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        at_once = at_once and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, typing, at_once)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False, True)


def _room(dotted: str) -> str:
    return dotted.split(".")[1]


def test_every_room_is_listed() -> None:
    assert len(_imports()) > 200
    assert {_room(found.by) for found in _imports()} <= set(BELOW)


@pytest.mark.parametrize("room", BELOW)
def test_room_imports_only_the_rooms_below_it(room: str) -> None:
    wrong = [
        f"{found.by}:{found.line} imports {found.of}"
        for found in _imports()
        if _room(found.by) == room
        and found.of.startswith("deconvviz.")
        and _room(found.of) not in BELOW[room] | {room}
    ]
    assert not wrong


@pytest.mark.parametrize("room", FOREIGN)
def test_room_imports_only_its_third_party_packages(room: str) -> None:
    foreign = {
        found.of.partition(".")[0] for found in _imports() if _room(found.by) == room and not found.typing
    }
    assert foreign - {"deconvviz"} - sys.stdlib_module_names <= FOREIGN[room]


def test_pyplot_is_not_imported() -> None:
    assert not [found for found in _imports() if found.of.startswith("matplotlib.pyplot")]


def test_light_modules_import_nothing_heavy() -> None:
    """`import deconvviz` and its `__init__` files import only parts of the standard library."""
    light = {f"deconvviz.{name}" for name in ("__init__", "models", "figures", "engine", "errors")}
    heavy = {
        found.of.partition(".")[0]
        for found in _imports()
        if found.by in light
        and found.at_once
        and not found.typing
        and found.of != "deconvviz.version.__version__"
        and not found.of.startswith("deconvviz.printable_names.")  # imports only the standard library
    }
    assert heavy <= {"__future__", "collections", "importlib", "typing"}


def test_imports_have_no_cycles() -> None:
    """Imports inside functions and for type checkers count as well.

    Exempt are the package's `__init__`, which imports its public objects, and imports of a module by itself.
    """
    modules = {_dotted(path) for path in PACKAGE.rglob("*.py")}
    edges: dict[str, set[str]] = {module: set() for module in modules}
    for found in _imports():
        target = found.of if found.of in modules else found.of.rpartition(".")[0]
        if target in modules and target != found.by and found.by != "deconvviz.__init__":
            edges[found.by].add(target)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " imports ".join((*path[path.index(module) :], module))
        if module not in done:
            for below in sorted(edges[module]):
                visit(below, (*path, module))
            done.add(module)

    for module in sorted(modules):
        visit(module, ())
    assert done == modules
