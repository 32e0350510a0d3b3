"""`deconvviz project --apart`, `--no-border` and the predicted class: chosen units, notes and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "scene.png"
    Image.fromarray(scene(3).image).save(path)
    return path


@pytest.fixture(scope="module")
def mini() -> dv.Network:
    return dv.load("minivgg")


@pytest.fixture
def run(image: Path, tmp_path: Path) -> Run:
    def invoke(*arguments: object, images: tuple[object, ...] = (image,), model: str = "minivgg") -> Result:
        words = ["project", *images, "--model", model, "--out", tmp_path / "out", "--dpi", 40, *arguments]
        return CliRunner().invoke(app, list(map(str, words)))

    return invoke


def _figures(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    figures: list[dict[str, Any]] = json.loads(result.stdout)["figures"]
    return figures


def _places(figure: dict[str, Any]) -> list[tuple[int, int, int]]:
    return [(unit["channel"], unit["y"], unit["x"]) for unit in figure["units"]]


CHOICES: dict[str, tuple[list[object], list[dict[str, Any]]]] = {
    "default": ([], [{"k": 9, "apart": True}]),
    "top": (["--top", 3], [{"k": 3, "apart": True}]),
    "apart": (["--apart"], [{"k": 9, "apart": True}]),
    "no apart": (["--no-apart"], [{"k": 9, "apart": False}]),
    "no border": (["--no-border"], [{"k": 9, "apart": True, "whole_fields": True}]),
    "no border, no apart": (
        ["--no-border", "--no-apart"],
        [{"k": 9, "apart": False, "whole_fields": True}],
    ),
    "a channel": (["--channel", 4, "--top", 3], [{"k": 3, "channel": 4, "apart": False}]),
    "channels apart": (
        ["--channel", 4, "--channel", 1, "--top", 3, "--apart"],
        [{"k": 3, "channel": channel, "apart": True} for channel in (4, 1)],
    ),
    "channel without border": (
        ["--channel", 4, "--no-border"],
        [{"k": 9, "channel": 4, "apart": False, "whole_fields": True}],
    ),
}


@pytest.mark.parametrize(("arguments", "calls"), CHOICES.values(), ids=CHOICES)
def test_options_choose_the_same_units_as_python(
    image: Path, mini: dv.Network, run: Run, arguments: list[object], calls: list[dict[str, Any]]
) -> None:
    (figure,) = _figures(run("-l", "conv3_1", *arguments, "--json"))
    rec = mini.record(image, "conv3_1")
    choices = [rec.choose("conv3_1", **call) for call in calls]
    expected = [(unit.channel, unit.y, unit.x) for choice in choices for unit in choice]
    assert _places(figure) == expected
    counts = [choice.passed_over for choice in choices if choice.passed_over is not None]
    assert figure["passed_over"] == (sum(counts) if counts else None)
    units = [unit for choice in choices for unit in choice]
    assert figure["cut_by_border"] == rec.project("conv3_1", units).cut_fields


def _read(figure: dict[str, Any], ending: str) -> bytes:
    (path,) = (Path(name) for name in figure["files"] if name.endswith(ending))
    return path.read_bytes()


@pytest.mark.parametrize(
    "options", [["--top", 4], ["--no-border"], ["--channel", 4, "--top", 2, "--apart"]], ids=str
)
def test_figure_from_manifest_is_identical(run: Run, tmp_path: Path, options: list[object]) -> None:
    (figure,) = _figures(run("-l", "conv3_1", *options, "--json"))
    (manifest,) = (name for name in figure["files"] if name.endswith(".json"))
    words = ["project", "--from", manifest, "--out", str(tmp_path / "again"), "--json"]
    (again,) = _figures(CliRunner().invoke(app, words))
    for key in ("units", "passed_over", "cut_by_border", "top_class"):
        assert again[key] == figure[key], key
    assert figure["top_class"] is not None and figure["cut_by_border"] is not None
    assert _read(again, ".png") == _read(figure, ".png")
    first, second = (json.loads(_read(one, ".json")) for one in (figure, again))
    assert first["selection"] == second["selection"] and first["selection"] is not None


def test_json_has_the_predicted_class(image: Path, mini: dv.Network, run: Run) -> None:
    (figure,) = _figures(run("-l", "conv1_1", "--top", 1, "--json"))
    top = mini.record(image, "output").top_class()
    assert top is not None
    assert {key: figure["top_class"][key] for key in ("name", "index")} == {
        "name": top.name, "index": top.index,
    }  # fmt: skip
    assert figure["top_class"]["probability"] == pytest.approx(top.probability, rel=1e-5)


def test_json_of_random_weights_has_no_predicted_class(run: Run) -> None:
    (figure,) = _figures(run("-l", "conv1_1", "--top", 1, "--weights", "random", "--json"))
    assert figure["top_class"] is None


def test_json_of_named_units_and_vectors_has_no_counts(run: Run) -> None:
    first, second = _figures(run("-l", "fc5", "-l", "output", "--apart", "--no-border", "--json"))
    for figure in (first, second):
        assert figure["passed_over"] is None and figure["cut_by_border"] is None
    (figure,) = _figures(run("-l", "conv1_1", "--unit", "3,0,5", "--json", "--no-apart"))
    assert figure["passed_over"] is None and figure["cut_by_border"] == 1
    (figure,) = _figures(run("-l", "conv1_1", "--channel", 3, "--whole-channel", "--json"))
    assert figure["passed_over"] is None and figure["cut_by_border"] is None


EDGE = ["--unit", "3,0,5", "--unit", "3,0,9"]


def test_no_border_is_suggested_if_most_fields_are_cut(run: Run, tmp_path: Path) -> None:
    found = run("-l", "conv4_2", "--json")
    (figure,) = _figures(found)
    cut, count = figure["cut_by_border"], len(figure["units"])
    assert 2 * cut > count
    note = f"conv4_2: {cut} of {count} receptive fields are cut by the border (see --no-border)"
    assert note in found.stderr
    assert "border" not in run("-l", "conv4_2", "--json", "--force", "--quiet").stderr
    assert "border" not in run("-l", "conv4_2", "--no-border", "--force").stderr
    assert "border" not in run("-l", "conv1_1", *EDGE).stderr  # the units were named


def test_fewer_units_than_requested_are_explained(image: Path, tmp_path: Path, run: Run) -> None:
    found = run("-l", "pool4", "--top", 40, "--json")
    (figure,) = _figures(found)
    count = len(figure["units"])
    assert count < 40 == figure["asked"]
    note = f"pool4: {count} units instead of 40, because the others are too close to stronger ones"
    assert f"{note} (see --no-apart)" in found.stderr
    assert "instead" not in run("-l", "pool4", "--top", 40, "--no-apart", "--force").stderr
    other = tmp_path / "other.png"
    Image.fromarray(scene(8).image).save(other)
    found = run("-l", "pool4", "--top", 40, "--force", images=(image, other))
    assert "pool4: fewer than 40 units in 2 of 2 figures, because the others" in found.stderr


def test_no_border_is_suggested_once_for_several_images(image: Path, tmp_path: Path, run: Run) -> None:
    other = tmp_path / "other.png"
    Image.fromarray(scene(8).image).save(other)
    found = run("-l", "conv4_2", "--json", images=(image, other))
    most = sum(2 * one["cut_by_border"] > len(one["units"]) for one in _figures(found))
    assert most == 2
    lines = [line for line in found.stderr.splitlines() if "border" in line]
    assert lines == [
        "deconvviz: conv4_2: the border cuts most receptive fields in 2 of 2 figures (see --no-border)"
    ]


WIDE = """
from torch import nn
import deconvviz as dv

def make():
    layers = nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(4, 4, 5, padding=2)
    return dv.Network(nn.Sequential(*layers), size=8)
"""

MISTAKES: dict[str, tuple[list[object], str]] = {
    "apart with a unit": (["-l", "pool1", "--unit", "3,1,1", "--apart"], "cannot be combined with --top"),
    "no border with a unit": (
        ["-l", "pool1", "--unit", "3,1,1", "--no-border"],
        "cannot be combined with --top",
    ),
    "apart with whole channels": (
        ["-l", "pool1", "--whole-channel", "--apart"],
        "cannot be combined with --apart or --no-border",
    ),
    "no border with whole channels": (
        ["-l", "pool1", "--whole-channel", "--channel", 2, "--no-border"],
        "cannot be combined with --apart or --no-border",
    ),
    "apart with a class only": (["--class", "fish", "--apart"], "name the layer of the units"),
    "no border with a class only": (["--class", "fish", "--no-border"], "name the layer of the units"),
    "too many without the border": (
        ["-l", "pool4", "--channel", 1, "--top", 36, "--no-border"],
        "positions in a channel whose receptive field is not cut by the border",
    ),
    "too many channels": (["-l", "pool4", "--top", 999, "--no-border"], "pool4 has 96 channels"),
    "from a manifest": (["--from", "there.json", "--no-apart"], "the manifest already sets"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_reported_and_writes_nothing(
    run: Run, tmp_path: Path, arguments: list[object], message: str
) -> None:
    found = run(*arguments)
    assert found.exit_code == 2 and found.stdout == "" and "Traceback" not in found.stderr
    assert message in " ".join(found.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_no_border_is_rejected_if_all_fields_are_cut(run: Run, tmp_path: Path) -> None:
    code = tmp_path / "wide.py"
    code.write_text(WIDE)
    found = run("-l", "1", "--no-border", model=f"{code}:make")
    assert found.exit_code == 2 and found.stdout == ""
    assert "every receptive field of 1 is cut by the border" in found.stderr
    assert "Leave --no-border out" in " ".join(found.stderr.split())
    shown = run("-l", "1", "--json", model=f"{code}:make")
    (figure,) = _figures(shown)
    assert figure["cut_by_border"] == len(figure["units"])
    assert "--no-border" not in shown.stderr  # it would leave no unit


def test_project_help_lists_apart_and_no_border() -> None:
    help_text = CliRunner().invoke(app, ["project", "--help"], env={"COLUMNS": "200"}).stdout
    for option in ("--apart", "--no-apart", "--no-border"):
        assert option in help_text
