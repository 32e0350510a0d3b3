"""Public names of the package: complete, sorted, and imported only when they are used."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest

import deconvviz as dv

CONTRACT = {"load", "Network", "project"}  # names that other programs use; their results are tested elsewhere


def test_all_is_sorted_and_complete() -> None:
    assert dv.__all__ == sorted(set(dv.__all__))
    assert set(dv.__all__) == set(dv._HOME) | {"__version__"}
    assert set(dv.__all__) >= CONTRACT
    assert set(dir(dv)) >= set(dv.__all__)


@pytest.mark.parametrize("name", sorted(dv._HOME))
def test_every_name_is_defined_in_its_module_and_documented(name: str) -> None:
    found = getattr(dv, name)
    assert found.__name__ == name
    assert found.__module__.startswith(dv._HOME[name])
    assert found.__doc__


def test_names_for_type_checkers_are_the_same() -> None:
    tree = ast.parse(inspect.getsource(dv))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    found = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert found == dv._HOME


def test_unknown_name_raises() -> None:
    with pytest.raises(AttributeError, match=r"^module 'deconvviz' has no attribute 'Projektion'$"):
        dv.Projektion  # noqa: B018


METHOD_ARGUMENTS = {
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


@pytest.mark.parametrize(("owner", "method"), METHOD_ARGUMENTS)
def test_public_methods_have_their_documented_arguments(owner: str, method: str) -> None:
    found = getattr(getattr(dv, owner), method)
    arguments = METHOD_ARGUMENTS[owner, method]
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
def test_imports_do_not_load_torch_matplotlib_or_numpy(statement: str) -> None:
    code = f"import sys; {statement}; print(sorted({{'torch', 'matplotlib', 'numpy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("arguments", [["--help"], ["project", "--help"], ["--version"]])
def test_help_and_version_do_not_load_torch_or_matplotlib(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "deconvviz", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not {"torch", "matplotlib", "torchvision"} & imported
    assert "deconvviz.cli" in imported
