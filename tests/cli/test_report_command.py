"""`deconvviz report`: its file, JSON, search, comparison, trust, and errors."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.reports import PageReader, write_scene
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app

pytestmark = pytest.mark.slow  # together half a minute

MINI = ("--model", "minivgg")
LAYER = ("--layer", "conv2_2", *MINI)


def run(*arguments: object, stdin: bytes | None = None) -> Any:
    wide = {"COLUMNS": "300"}
    return CliRunner().invoke(app, ["report", *map(str, arguments)], env=wide, input=stdin)


def run_ok(*arguments: object, stdin: bytes | None = None) -> str:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("images with 'quotes'")
    return [write_scene(home / f"{number}.png", number) for number in (1, 2)]


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "found"
    dv.search(dv.load("minivgg"), "scenes:16", ["conv2_2"], out=folder, workers=0)
    return folder


def headings(page: PageReader) -> list[str]:
    return [" ".join(one.text.split()) for one in page.elements if one.tag in ("h1", "h2", "h3") and one.text]


def test_whole_report_has_all_parts_in_order(images: list[Path], search: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.html"
    arguments = (*images, *LAYER, "--top", 3, "--search", search, "--compare", "deconvnet,guided", "--trust",
                 "--title", "Two <scenes>", "--notes", "For review.", "--out", out)  # fmt: skip
    printed = json.loads(run_ok(*arguments, "--json"))
    assert printed["report"] == str(out) and printed["bytes"] == out.stat().st_size
    assert printed["pictures"] == list(map(str, images)) and printed["layers"] == ["conv2_2"]
    assert printed["units"] == 6
    kinds = ["Projection"] * 2 + ["Comparison"] * 2 + ["Trust", "TopNine"]
    assert printed["results"] == kinds
    page = PageReader.of(out)
    assert headings(page)[:10] == [
        "Two <scenes>",
        "Network: minivgg",
        "1.png",
        "conv2_2 · 3 units",
        "2.png",
        "conv2_2 · 3 units",
        "Comparisons, trust and experiments",
        "Comparison: minivgg · conv2_2 · 1.png",
        "Comparison: minivgg · conv2_2 · 2.png",
        "Trust: minivgg · conv2_2 · how far to trust the maps of its units",
    ]
    assert "For review." in page.text and "Measured (see Trust): at conv2_2" in page.text
    alive = [one for one in page.all("figure", "card") if "Strongest images" in one.text]
    assert len(alive) == 6
    command = next(one.text for one in page.all("pre") if one.text.startswith("deconvviz report"))
    assert shlex.split(command)[2:] == [
        *map(str, images), *MINI, "--layer", "conv2_2", "--top", "3", "--search", str(search),
        "--compare", "deconvnet,guided", "--trust", "--title", "Two <scenes>", "--notes", "For review.",
        "--out", str(out),
    ]  # fmt: skip


def test_report_shows_the_units_that_project_chooses(images: list[Path], tmp_path: Path) -> None:
    run_ok(images[0], *LAYER, "--out", tmp_path / "a.html")
    (manifest,) = PageReader.of(tmp_path / "a.html").manifests
    assert len(manifest["units"]) == 6
    done = CliRunner().invoke(
        app, ["project", str(images[0]), *LAYER, "--top", "6", "--out", str(tmp_path), "--json"]
    )
    (figure,) = json.loads(done.stdout)["figures"]
    plain = [{k: v for k, v in unit.items() if k != "box"} for unit in figure["units"]]
    assert plain == manifest["units"]
    assert figure["likeness"] == manifest["likeness"]


def test_path_is_printed_and_standard_input_is_an_image(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "a.html"
    assert run_ok("-", *LAYER, "--top", 1, "--out", out, stdin=images[0].read_bytes()).strip() == str(out)
    assert headings(PageReader.of(out))[2] == "stdin"


def test_existing_report_is_kept_without_force(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "a.html"
    out.write_text("mine")
    result = run(images[0], *LAYER, "--out", out)
    assert result.exit_code == 2 and "already exists. Overwrite with --force" in result.stderr
    assert out.read_text() == "mine"
    run_ok(images[0], *LAYER, "--top", 1, "--out", out, "--force")
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_search_with_other_weights_is_refused_before_projecting(
    images: list[Path], search: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.html"
    result = run(images[0], *LAYER, "--weights", "random", "--search", search, "--out", out)
    assert result.exit_code == 2
    assert "was made with other weights: minivgg (sha256:" in result.stderr
    assert "--search" in result.stderr and not out.exists()


def test_dead_channels_have_no_strongest_images(images: list[Path], search: Path, tmp_path: Path) -> None:
    layer = ("--layer", "conv2_2", *MINI)
    run_ok(images[0], *layer, "--top", 32, "--search", search, "--out", tmp_path / "a.html")
    page = PageReader.of(tmp_path / "a.html")
    found = dv.open_search(search)
    (manifest, _) = page.manifests
    alive = [unit for unit in manifest["units"] if found.top("conv2_2", unit["channel"])]
    with_more = [one for one in page.all("figure", "card") if "Strongest images" in one.text]
    assert len(with_more) == len(alive)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.png", *LAYER), "nowhere.png"),
        ((*LAYER,), "name an image file or a folder of images"),
        (("1.png", *MINI), "name a layer (deconvviz layers lists them)"),
        (("1.png", "--layer", "conv9", *MINI), "no layer 'conv9' in minivgg"),
        (("1.png", *LAYER, "--compare", "deconvnet,guidde"), "no method 'guidde'"),
        (("1.png", *LAYER, "--compare", ","), "name a method: deconvnet"),
        (("1.png", *LAYER, "--search", "nowhere"), "no search in nowhere"),
        (("1.png", *LAYER, "--out", "a.pdf"), "not the name of a web page"),
        (("1.png", *LAYER, "--out", "."), "it is a folder"),
        (("1.png", *LAYER, "--out", "1.png/a.html"), "not a folder"),
        (("1.png", *LAYER, "--top", "0"), "Invalid value for '--top'"),
        (("1.png", *LAYER, "--weights", "gone.pth"), "no weights file 'gone.pth'"),
    ],
)
def test_mistakes_are_reported_and_nothing_is_written(
    arguments: tuple[str, ...],
    message: str,
    images: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "1.png").write_bytes(images[0].read_bytes())
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    error = " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.stderr).split())
    assert message in error and "Traceback" not in error
    assert [one.name for one in tmp_path.iterdir()] == ["1.png"]


EARLY = """
import json, sys
from typer.testing import CliRunner
from deconvviz.cli.app import app

for words in json.load(sys.stdin):
    result = CliRunner().invoke(app, ["report", *words])
    assert result.exit_code == 2, (words, result.output)
    heavy = {"torch", "torchvision", "matplotlib", "pyarrow", "jinja2"} & set(sys.modules)
    assert not heavy, (words, heavy)
print("early")
"""


def test_mistakes_are_reported_before_torch_is_imported(images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "taken.html").write_text("mine")
    (tmp_path / "empty").mkdir()
    image = str(images[0])
    cases = [
        ["gone.png", *LAYER],
        [image, *LAYER, "--out", "taken.html"],
        [image, *LAYER, "--compare", "guidde"],
        [image, *LAYER, "--search", "empty"],
        [image, "--layer", "conv9", *MINI],
    ]
    done = subprocess.run(
        [sys.executable, "-c", EARLY], input=json.dumps(cases), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "early\n", done.stderr


def test_interrupt_leaves_nothing(images: list[Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deconvviz", "report", str(images[0]), *LAYER, "--trust", "--top", "9"]
    command += ["--out", str(tmp_path / "new" / "a.html"), "--verbose"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=one_thread,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore SIGINT
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if "projecting" in line:
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) in (130, -signal.SIGINT), rest
    assert "interrupted" in rest and "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_three_photographs_at_three_layers_are_small_and_quick(real_data: Path, tmp_path: Path) -> None:
    """Three photographs, three layers, nine units: under 8 MB, and 30 seconds besides projecting."""
    from deconvviz.web.report.report import report

    net = dv.load("squeezenet1_0", real_data / "squeezenet1_0.pth")
    photos = sorted((real_data / "imagenet-sample").iterdir())[10:13]
    found = []
    for photo in photos:
        recording = net.record(photo, ["features.5", "features.9", "features.12"], scores=True)
        found += [recording.project(layer, recording.strongest(layer, 9)) for layer in recording.layers]
    begun = time.process_time()
    path = report(found, tmp_path / "a.html", network=net)
    assert time.process_time() - begun < 30
    assert path.stat().st_size < 8e6
    assert len(PageReader.of(path).all("figure", "card")) == 81
