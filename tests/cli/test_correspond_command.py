"""`deconvviz correspond`: its table, files, JSON and errors."""

from __future__ import annotations

import json
import re

import pyarrow.parquet as pq
import pytest
from helpers.messages import assert_error
from PIL import Image
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow  # together about 10 s

LAYER = ("--layer", "relu4_2", "--model", "minivgg")
FILES = ["correspondence.png", "correspondence.json", "correspondence.parquet", "correspondence-hidden.png"]


def run(*arguments):
    return CliRunner().invoke(app, ["correspond", *map(str, arguments)], env={"COLUMNS": "300"})


def test_files_and_json(tmp_path):
    result = run(
        "scenes:12", *LAYER, "--layer", "fc6", "--part", "eye", "--draws", 2, "--out", tmp_path, "--json"
    )
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["files"] == [str(tmp_path / name) for name in FILES]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    found = dv.correspondence(dv.load("minivgg"), "scenes:12", ["eye"], ["relu4_2", "fc6"], draws=2)
    assert printed["rows"] == json.loads(json.dumps([vars(row) for row in found.rows]))
    assert printed["pictures"] == list(found.images)
    assert pq.read_table(tmp_path / "correspondence.parquet").equals(found.table)


def test_text_is_the_table(tmp_path):
    result = run("scenes:12", *LAYER, "--part", "eye", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["sign", "change", "relu4_2"]
    assert re.fullmatch(r"eye +\d\.\d{3} ± \d\.\d{3} \(p \S+\)", lines[1])
    assert re.fullmatch(r"random +\d\.\d{3} ± \d\.\d{3}", lines[2])
    assert "relu4_2, against random places (p < 0.05): sign change" in result.stdout


def test_boxes_of_image_files(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.fromarray(scene(number, "face").image).save(photos / f"{number}.png")
    csv = tmp_path / "parts.csv"
    rows = [f"{number}.png,mouth,40,60,56,70" for number in range(3)]
    csv.write_text("\n".join(["image,part,x0,y0,x1,y1", *rows]))
    result = run(photos, *LAYER, "--parts", csv, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["pictures"] == ["0.png", "1.png", "2.png"]
    manifest = json.loads((tmp_path / "out" / "correspondence.json").read_text())
    assert manifest["pictures"][1]["name"] == "1.png"


def test_existing_files_are_kept(tmp_path):
    (tmp_path / "correspondence-hidden.png").write_text("mine")
    assert_error(run("scenes:4", *LAYER, "--part", "eye", "--out", tmp_path), "already exists")
    assert [path.name for path in tmp_path.iterdir()] == ["correspondence-hidden.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*LAYER, "--part", "eye"], "name a source of images"),
        (["scenes:4", "--part", "eye", "--model", "minivgg"], "name a layer"),
        (["scenes:4", *LAYER], "give a CSV file of boxes"),
        (["scenes:4", *LAYER, "--part", "eye", "--parts", "a.csv"], "give a CSV file of boxes"),
        ([".", *LAYER, "--part", "eye"], "names parts of scenes"),
        ([".", *LAYER, "--parts", "a.csv", "--fill", "without"], "give scenes:COUNT"),
        (["scenes:4", *LAYER, "--parts", "none.csv"], "cannot read none.csv"),
        (["scenes:4", *LAYER, "--part", "tentacle"], "no image has it"),
        (["scenes:4", "--layer", "relu9", "-m", "minivgg", "--part", "eye"], "no layer 'relu9'"),
    ],
)
def test_errors(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert_error(run(*arguments), message)
    assert list(tmp_path.iterdir()) == []
