"""`deconvviz atlas`: what it prints and writes, --check, and errors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.atlases import contents
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app

pytestmark = pytest.mark.slow
LAYERS = ("pool1", "fc6")


def run(*arguments: object) -> Any:
    wide = {"COLUMNS": "300"}  # long temporary paths must not be wrapped
    return CliRunner().invoke(app, ["atlas", *map(str, arguments)], env=wide)


def message_in(text: str) -> str:
    """Return a message as one line, without the box that Typer draws."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def assert_error(result: Any, message: str) -> None:
    """Check for exit code 2, the end of the message, no traceback and empty stdout."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    error = message_in(result.stderr)
    assert error.endswith(message), error
    assert "Traceback" not in error


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched") / "search"
    dv.search("minivgg", "scenes:12", LAYERS, out=folder, workers=0, top=5)
    return folder


@pytest.fixture(scope="module")
def site(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("atlas") / "site"
    result = run(searched, "--out", folder, "--layer", "fc6", "--channels", 3)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{folder}/index.html\n"
    assert "3 units in" in result.stderr and "the atlas has 3 units in 1 layer" in result.stderr
    return folder


def test_result_equals_that_of_python(searched: Path, site: Path, tmp_path: Path) -> None:
    dv.atlas(searched, tmp_path / "site", ["fc6"], channels=3, top=5)
    assert contents(tmp_path / "site") == contents(site)


def test_top_larger_than_what_the_search_kept(searched: Path, tmp_path: Path) -> None:
    result = run(searched, "--out", tmp_path / "site", "--top", 9)
    assert_error(
        result,
        "cannot show the 9 strongest images: the search kept 5. Use fewer (--top 5), or search again",
    )
    assert not (tmp_path / "site").exists()


def test_layer_is_added_by_its_module_name_and_json_describes_the_run(searched: Path, tmp_path: Path) -> None:
    run(searched, "--out", tmp_path / "site", "--layer", "fc6", "--quiet", "--channels", 2)
    result = run(searched, "--out", tmp_path / "site", "--layer", "features.4", "--top", 2, "--json")
    described = json.loads(result.stdout)
    assert described["layers"] == [{"name": "pool1", "channels": 16}, {"name": "fc6", "channels": 2}]
    assert described["run"]["units"] == 16 and 0 < described["run"]["not_projecting"] < 1
    assert (tmp_path / "site" / "pool1" / "15.html").exists()


def test_resume_of_a_finished_atlas_changes_nothing(searched: Path, site: Path) -> None:
    before = contents(site)
    result = run(searched, "--out", site, "--layer", "fc6", "--channels", 3, "--resume")
    assert result.exit_code == 0 and "units in" not in result.stderr.partition("the atlas has")[0]
    assert contents(site) == before


def test_existing_layer_is_refused(searched: Path, site: Path) -> None:
    before = contents(site)
    result = run(searched, "--out", site, "--layer", "fc6")
    assert_error(
        result,
        f"{site} already contains fc6. Continue with --resume, make these layers again with --force, or "
        "choose another folder (--out FOLDER)",
    )
    assert contents(site) == before


def test_check_of_a_whole_atlas(site: Path) -> None:
    result = run("--check", site)
    assert result.exit_code == 0
    assert re.fullmatch(r"[\d,]+ files and [\d,]+ links: all whole\n", result.stdout)


def test_check_lists_faults_and_exits_with_1(searched: Path, tmp_path: Path) -> None:
    run(searched, "--out", tmp_path / "site", "--layer", "fc6", "--channels", 2, "--quiet")
    first = next((tmp_path / "site" / "fc6").glob("[0-9]*.html"))
    first.unlink()
    result = run("--check", tmp_path / "site")
    assert result.exit_code == 1
    assert f"fc6/{first.name} is missing\n" in result.stdout
    assert f"fc6/index.html: {first.name} leads to no file\n" in result.stdout
    as_json = run("--check", tmp_path / "site", "--json")
    assert as_json.exit_code == 1 and json.loads(as_json.stdout)["faults"][0] in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "fc6"], "name the folder of a search, or check an atlas with --check"),
        (["{search}", "--check", "site"], "makes nothing: leave out SEARCH_DIR and --layer"),
        (["{search}", "--resume", "--force"], "cannot be combined with --force"),
        (["{search}", "--device", "tpu"], "no device 'tpu': use auto, cpu, cuda, cuda:N or mps"),
        (["--check", "{empty}"], "there is no atlas.json. Make one with deconvviz atlas"),
        (["{empty}"], "there is no manifest.json. Run a search with --out FOLDER first"),
        (["{search}", "--weights", "no.pth"], "no.pth"),
    ],
)
def test_mistakes(searched: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    filled = [one.format(search=searched, empty=tmp_path / "empty") for one in arguments]
    out = [] if "--check" in arguments else ["--out", tmp_path / "site"]
    result = run(*filled, *out)
    assert result.exit_code == 2 and result.stdout == ""
    assert message in message_in(result.stderr)
    assert not (tmp_path / "site").exists()


def test_moved_images_are_found_with_source(tmp_path: Path) -> None:
    from helpers.searches import scenes_folder

    photos = scenes_folder(tmp_path / "photos", 4)
    dv.search("minivgg", str(photos), ["pool1"], out=tmp_path / "search", workers=0, top=2)
    photos.rename(tmp_path / "moved")
    lost = run(tmp_path / "search", "--out", tmp_path / "site", "--channels", 2)
    assert lost.exit_code == 2 and "photos" in lost.stderr
    assert not (tmp_path / "site").exists()
    found = run(
        tmp_path / "search", "--out", tmp_path / "site", "--channels", 2, "--source", tmp_path / "moved"
    )
    assert found.exit_code == 0, found.output
