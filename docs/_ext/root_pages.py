"""Sphinx extension: pages of the repository's root on the site, such as CONTRIBUTING.md.

A line ``<!-- page: CONTRIBUTING.md -->`` is replaced by the text of that page below its title. Its links
are changed so that they work from the page with this line.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MARK = re.compile(r"^<!-- page: (\S+) -->$", re.MULTILINE)
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s]+)(?=\))")
ON_SITE = {
    "CHANGELOG.md": "docs/changelog.md",
    "CODE_OF_CONDUCT.md": "docs/contributing/code-of-conduct.md",
    "CONTRIBUTING.md": "docs/contributing/index.md",
    "SECURITY.md": "docs/contributing/security.md",
}


def text_of(page: str, folder: Path) -> str:
    """Return the text of a page of the root below its title, with links relative to a folder."""

    def moved(link: re.Match[str]) -> str:
        path, hash_, anchor = link[1].partition("#")
        return os.path.relpath(ROOT / ON_SITE.get(path, path), folder) + hash_ + anchor

    _, _, text = (ROOT / page).read_text(encoding="utf-8").partition("\n")
    return LINK.sub(moved, text)


def _fill(app: Any, name: str, source: list[str]) -> None:
    folder = Path(app.env.doc2path(name)).parent

    def replaced(found: re.Match[str]) -> str:
        app.env.note_dependency(str(ROOT / found[1]))
        return text_of(found[1], folder)

    source[0] = MARK.sub(replaced, source[0])


def setup(app: Any) -> dict[str, bool]:
    """Connect the extension to Sphinx."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}
