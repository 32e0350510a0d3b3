"""The names that other programs use: complete, sorted, and cheap until they are used."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest

import deconvviz as dv

CONTRACT = {"load", "Network", "project"}  # of the design, section 4; what they give is tested beside it


def test_all_is_sorted_and_complete() -> None:
    assert dv.__all__ == sorted(set(dv.__all__))
    assert set(dv.__all__) == set(dv._HOME) | {"__version__"}
    assert set(dv.__all__) >= CONTRACT
    assert set(dir(dv)) >= set(dv.__all__)


@pytest.mark.parametrize("name", sorted(dv._HOME))
def test_every_name_is_there_and_at_home(name: str) -> None:
    found = getattr(dv, name)
    assert found.__name__ == name
    assert found.__module__.startswith(dv._HOME[name])
    assert found.__doc__


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(inspect.getsource(dv))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == dv._HOME


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match=r"^module 'deconvviz' has no attribute 'Projektion'$"):
        dv.Projektion  # noqa: B018


CONTRACT_OF_METHODS = {
    ("Network", "record"): ["images", "layers"],
    ("Network", "layers"): None,
    ("Recording", "activations"): ["layer"],
    ("Recording", "strongest"): ["layer", "k", "channel"],
    ("Recording", "project"): ["layer", "units"],
    ("Projection", "figure"): ["style"],
    ("Projection", "spec"): ["style"],
    ("Projection", "save"): ["path", "style"],
    ("Projection", "_repr_png_"): [],
}


@pytest.mark.parametrize(("owner", "method"), CONTRACT_OF_METHODS)
def test_what_the_design_promises(owner: str, method: str) -> None:
    found = getattr(getattr(dv, owner), method)
    arguments = CONTRACT_OF_METHODS[owner, method]
    if arguments is not None:
        parameters = inspect.signature(found).parameters.values()
        named = [p.name for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
        assert named == ["self", *arguments]


@pytest.mark.parametrize(
    "statement",
    [
        "import deconvviz",
        "import deconvviz; dir(deconvviz); deconvviz.__version__",
        "import deconvviz.errors, deconvviz.models, deconvviz.figures, deconvviz.engine, deconvviz.files",
        "from deconvviz import DeconvvizError",
        "import deconvviz.cli",
    ],
)
def test_importing_is_cheap(statement: str) -> None:
    code = f"import sys; {statement}; print(sorted({{'torch', 'matplotlib', 'numpy'}} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


@pytest.mark.parametrize("arguments", [["--help"], ["project", "--help"], ["--version"]])
def test_help_is_cheap(arguments: list[str]) -> None:
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "deconvviz", *arguments], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr[-2000:]
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert not {"torch", "matplotlib", "torchvision"} & imported
    assert "deconvviz.cli" in imported
