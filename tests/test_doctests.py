"""Run the examples in the docstrings of the public names."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator

import pytest
import torch

import deconvviz as dv
from deconvviz import scenes

pytestmark = pytest.mark.slow

NAMES = {
    name: getattr(dv, name) for name in dv.__all__ if name != "rule"
}  # that example would replace a rule
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _examples() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name, found in [*NAMES.items(), ("scenes.scene", scenes.scene)]:
        if inspect.isclass(found) or inspect.isfunction(found):
            for one in finder.find(
                found, name, module=inspect.getmodule(found), globs={"dv": dv, "torch": torch}
            ):
                if one.examples:
                    yield one


EXAMPLES = list(_examples())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_example_prints_what_its_docstring_says(example: doctest.DocTest) -> None:
    done = doctest.DocTestRunner(optionflags=OPTIONS).run(example)
    assert done.attempted and not done.failed


def test_main_functions_have_an_example() -> None:
    main = {
        "load",
        "Network",
        "Network.record",
        "Recording.strongest",
        "Recording.project",
        "project",
        "search",
        "compare",
    }
    assert main <= {one.name for one in EXAMPLES}
