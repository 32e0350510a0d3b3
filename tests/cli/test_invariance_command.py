"""`deconvviz invariance`: its files, JSON and errors."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from helpers.messages import assert_error
from PIL import Image
from typer.testing import CliRunner

from deconvviz.cli.app import app
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow  # together some seconds

FEW = ("--transform", "scale,jpeg", "--steps", 2, "--layer", "relu1_1")


def run(*arguments):
    return CliRunner().invoke(
        app, ["invariance", *map(str, arguments), "--model", "minivgg"], env={"COLUMNS": "300"}
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(2):
        Image.fromarray(scene(number).image).save(folder / f"{number}.png")
    return folder


def test_files_and_json(photos, tmp_path):
    out = tmp_path / "out"
    result = run(photos / "0.png", photos / "1.png", *FEW, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert [one["name"] for one in printed["pictures"]] == ["0.png", "1.png"]
    assert [one["amounts"] for one in printed["transforms"]] == [[1, 1.8], [5, 100]]
    assert sorted(path.name for path in out.iterdir()) == [
        "invariance.json",
        "invariance.parquet",
        "invariance.png",
    ]
    assert pq.read_table(out / "invariance.parquet").num_rows == 2 * 2 * 2
    assert_error(run(photos / "0.png", *FEW, "--out", out), "already exist")


def test_a_folder_a_range_and_a_class(photos, tmp_path):
    result = run(
        photos, "--transform", "translate", "--range", "translate=-4:4", "--steps", 3, "--class", "robot",
        "--limit", 1, "--out", tmp_path, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["transforms"][0]["amounts"] == [-4, 0, 4]
    assert printed["pictures"] == [{"name": "0.png", "class": "robot"}]
    assert printed["layers"] == ["relu1_1", "relu5"]


def test_mistakes(photos, tmp_path):
    image = photos / "0.png"
    assert_error(run(), "name an image file")
    assert_error(run(image, "--transform", "shear", "--out", tmp_path), "no transformation 'shear'")
    assert_error(run(image, "--range", "scale", "--out", tmp_path), "is not NAME=FROM:TO")
    assert_error(run(image, "--range", "scale=2:1", "--out", tmp_path), "Give the smaller number first")
    assert_error(run(image, "--layer", "relu9", "--out", tmp_path), "no layer 'relu9' in minivgg")
    assert_error(run(image, *FEW, "--class", "cow", "--out", tmp_path), "no class 'cow'")
    assert_error(run(photos / "2.png", *FEW, "--out", tmp_path), "2.png")
    assert list(tmp_path.iterdir()) == []
