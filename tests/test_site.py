"""The documentation site: it has every page, command and public name, and describes files as they are."""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
COMMANDS = [one.name or one.callback.__name__ for one in app.registered_commands if one.callback]
TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _extension(name: str) -> ModuleType:
    """Import a Sphinx extension of the site."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "_ext" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _children(page: Path) -> Iterator[Path]:
    """Yield the pages that the tables of contents of a page list."""
    for block in TOCTREE.findall(page.read_text(encoding="utf-8")):
        for line in block.splitlines():
            if line and not line.startswith(":"):
                found = sorted(page.parent.glob(f"{line}.md"))
                assert found or "*" in line, f"{page}: {line}"
                yield from (one.resolve() for one in found)


def test_settings_can_be_read_without_sphinx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = runpy.run_path(str(DOCS / "conf.py"))
    assert settings["release"] == dv.__version__
    assert settings["nitpicky"] and settings["nb_execution_raise_on_error"]


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = {child for page in PAGES for child in _children(page)}
    assert {page.resolve() for page in PAGES} - listed == {DOCS / "index.md"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page_that_shows_it(command: str) -> None:
    pages = [page for page in (DOCS / "how-to").glob("*.md") if page.name != "index.md"]
    line = re.compile(rf"^ *deconvviz {command}\b", re.MULTILINE)
    assert [page.name for page in pages if line.search(page.read_text(encoding="utf-8"))]
    for overview in ("how-to/index.md", "reference/cli/index.md"):
        assert re.search(rf"`{command}\b", (DOCS / overview).read_text(encoding="utf-8")), overview


def test_reference_of_the_commands_has_every_help_panel() -> None:
    cli_pages = _extension("cli_pages")
    text = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference" / "cli").glob("*.md"))
    assert sorted(cli_pages.MARK.findall(text)) == sorted(cli_pages.panels())


@pytest.mark.slow
def test_reference_of_the_commands_has_every_option_of_the_help() -> None:
    cli_pages = _extension("cli_pages")
    sections = re.split(
        r"^## deconvviz (\w+)$", "\n".join(map(cli_pages.page, cli_pages.panels())), flags=re.MULTILINE
    )
    pages = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert sorted(pages) == sorted(COMMANDS)
    for command, text in pages.items():
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
        options = set(re.findall(r"^│[ *]+(--[a-z][a-z-]*)", shown, re.MULTILINE)) - {"--help"}
        documented = {
            flag
            for row in re.findall(r"^\| (`-.*?) \|", text, re.MULTILINE)
            for flag in re.findall(r"--[a-z-]+", row)
        }
        assert options and options - documented == set(), command


def test_reference_of_python_has_every_public_name() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference" / "api").glob("*.md"))
    documented = set(re.findall(r"^\.\. auto(?:function|class|exception):: (\w+)$", text, re.MULTILINE))
    assert set(dv.__all__) - {"__version__"} - documented == set()


def test_pages_of_the_root_have_working_links() -> None:
    root_pages = _extension("root_pages")
    for page in PAGES:
        for name in root_pages.MARK.findall(page.read_text(encoding="utf-8")):
            for link in root_pages.LINK.findall(root_pages.text_of(name, page.parent)):
                assert (page.parent / link.partition("#")[0]).exists(), f"{page}: {link}"


def test_version_is_the_same_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    (date,) = re.findall(r"^date-released: (\S+)$", citation, re.MULTILINE)
    assert f"\nversion: {dv.__version__}\n" in citation
    assert f"\n## [{dv.__version__}] - {date}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"{{{dv.__version__}}}" in (DOCS / "how-to" / "cite.md").read_text(encoding="utf-8")


def _documented_columns(file: str) -> list[str]:
    """Return the names of the columns that the page about files lists for a file."""
    text = (DOCS / "reference" / "files.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{file}` \| (.*) \|$", text, re.MULTILINE)
    return re.findall(r"`(\w+)`", row)


@pytest.mark.slow
def test_columns_of_the_page_about_files_are_those_of_the_files(tmp_path: Path) -> None:
    from pyarrow.parquet import read_schema

    from deconvviz.experiments.evolution.comparison import COLUMNS

    net = dv.load("minivgg")
    dv.search(net, "scenes:3", ["conv4_2"], out=tmp_path, workers=0)
    dv.filters(net, source="scenes:2", count=2).save_into(tmp_path)
    dv.invariance(
        net, "scenes:2", ["relu1_1"], transforms=["translate"], ranges={"translate": (-2, 2)}, steps=3
    ).save_into(tmp_path)
    dv.correspondence(net, "scenes:20", ["eye"], ["relu4_2"], draws=1).save_into(tmp_path)
    files = {path.name: read_schema(path).names for path in tmp_path.glob("*.parquet")}
    assert len(files) == 7
    files["evolution.parquet"] = list(COLUMNS)
    assert {name: _documented_columns(name) for name in files} == files
    assert _documented_columns("skipped.csv") == (tmp_path / "skipped.csv").read_text().strip().split(",")
