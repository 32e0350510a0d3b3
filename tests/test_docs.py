"""Pages and drawings of the repository match the package, and their links work."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md"))
    if "_build" not in page.parts
)
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:")  # https:, mailto:
NAMED = re.compile(r"`((?:deconvviz|tests|scripts|docs|examples|benchmarks)/[\w./-]*\w)`")


def _text(page: Path) -> str:
    """Return a page without its code blocks, where brackets are not links."""
    return re.sub(r"^(```|~~~).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def _anchors(page: Path) -> Iterator[str]:
    """Yield the anchors that GitHub gives to the headings of a Markdown page."""
    seen: dict[str, int] = {}
    for heading in re.findall(r"^#+\s+(.*?)\s*#*$", _text(page), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # replace a link by its text
        anchor = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        number = seen[anchor] = seen.get(anchor, -1) + 1
        yield f"{anchor}-{number}" if number else anchor


def _broken(page: Path) -> Iterator[str]:
    """Yield the broken relative links of a page."""
    for target in LINK.findall(_text(page)):
        if ELSEWHERE.match(target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        inside = file.exists() and ROOT in file.resolve().parents
        if not inside or (anchor and anchor not in _anchors(file)):
            yield target


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_of_a_page_work(page: Path) -> None:
    assert list(_broken(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_files_named_in_a_page_exist(page: Path) -> None:
    assert [name for name in NAMED.findall(_text(page)) if not (ROOT / name).exists()] == []


def test_broken_links_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "a.md").write_text("# Head *one*: [two](b.md)\n## Head\n## Head\n", encoding="utf-8")
    page = tmp_path / "b.md"
    page.write_text(
        "[works](a.md) [works](a.md#head-one-two) [works](a.md#head-1) [works](https://example.org/x) "
        '![gone](c.png) [gone](a.md#tail) [gone](#here) [gone](d.md "title") [gone](../outside.md)\n'
        "```\n[no link](in-code.md)\n```\n",
        encoding="utf-8",
    )
    (tmp_path.parent / "outside.md").touch()
    assert list(_broken(page)) == ["c.png", "a.md#tail", "#here", "d.md", "../outside.md"]


def test_every_decision_is_listed_and_has_four_parts() -> None:
    listed = (ROOT / "docs" / "decisions" / "index.md").read_text(encoding="utf-8")
    decisions = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert re.findall(r"\((\d{4}-.*?\.md)\)", listed) == [page.name for page in decisions]
    for number, page in enumerate(decisions, 1):
        text = page.read_text(encoding="utf-8")
        title = text.splitlines()[0].removeprefix(f"# {number}. ")
        assert f"[{title}]({page.name})" in listed
        if number > 1:
            parts = ["Problem", "Decision", "Alternatives", "Consequences"]
            assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == parts, page.name


def test_drawing_of_the_rooms_matches_the_imports() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "draw_rooms.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["check", "test", "test-all", "docs", "build"])
def test_scripts_are_executable_and_named_in_contributing(name: str) -> None:
    script = ROOT / "scripts" / name
    text = script.read_text(encoding="utf-8")
    assert script.stat().st_mode & 0o111 and text.startswith("#!/usr/bin/env bash\n# ")
    assert len(text.splitlines()) <= 15
    assert subprocess.run(["bash", "-n", script], capture_output=True).returncode == 0
    assert f"`scripts/{name}`" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
