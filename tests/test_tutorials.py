"""Pages with cells, such as tutorials: the cells are run, and what a notebook would show is made."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
CELL = re.compile(r"^```\{code-cell\} ipython3\n(?::tags:[^\n]*\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(
    page
    for page in DOCS.rglob("*.md")
    if "_build" not in page.parts and CELL.search(page.read_text(encoding="utf-8"))
)


def run(cell: str, names: dict[str, Any]) -> Any:
    """Run a cell and return the value of its last line, as a notebook shows it."""
    tree = ast.parse(cell)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # type: ignore[attr-defined]


def _with_mark(page: Path) -> Any:
    """Mark the gallery as nightly, because building the site runs it, too."""
    mark = pytest.mark.nightly if page.stem == "gallery" else pytest.mark.slow
    return pytest.param(page, id=page.stem, marks=mark)


@pytest.mark.parametrize("page", [_with_mark(page) for page in PAGES])
def test_cells_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = CELL.findall(page.read_text(encoding="utf-8"))
    assert len(cells) >= 3
    for cell in cells:
        shown = run(cell, names)
        html = getattr(shown, "_repr_html_", lambda: "none")()
        assert html or shown.data  # the second is an image


def test_every_tutorial_is_listed() -> None:
    text = (DOCS / "tutorials" / "index.md").read_text(encoding="utf-8")
    tutorials = [page for page in PAGES if page.parent.name == "tutorials"]
    assert [f"({page.name})" in text for page in tutorials] == [True] * 4
