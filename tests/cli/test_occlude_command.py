"""`deconvviz occlude`: its files, JSON, text and errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.messages import assert_error
from PIL import Image
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow  # together about 10 s

LAYER = ("--layer", "relu4_2", "--model", "minivgg")
FAST = (*LAYER, "--size", 0.5, "--stride", 0.5, "--phases", 1)


def run(*arguments, stdin=None):
    return CliRunner().invoke(app, ["occlude", *map(str, arguments)], env={"COLUMNS": "300"}, input=stdin)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "boat.png"
    Image.fromarray(scene(2).image).save(path)
    return path


def test_files_and_json(tmp_path, photo):
    result = run(photo, *FAST, "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    names = [f"boat-relu4_2-occlusion.{suffix}" for suffix in ("png", "json", "npz")]
    assert printed["files"] == [str(tmp_path / name) for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    found = dv.occlusion(dv.load("minivgg"), photo, "relu4_2", size=0.5, stride=0.5, phases=1)
    assert printed["images"] == json.loads(json.dumps([found.images[0].to_json(found.network.classes)]))
    with np.load(tmp_path / names[2]) as stored:
        assert np.array_equal(stored["probability"], found.images[0].probability)
    manifest = json.loads((tmp_path / names[1]).read_text())
    assert manifest["pictures"][0]["path"].endswith("boat.png")


def test_text_names_lowest_places_and_classes(tmp_path, photo):
    result = run(photo, *FAST, "--out", tmp_path, "--class", "fish")
    assert result.exit_code == 0
    assert "boat.png: activity of channel" in result.stdout
    assert "  fish: probability" in result.stdout
    assert "rank correlation with the other fill" in result.stdout


def test_several_images_share_a_figure(tmp_path, photo):
    result = run(photo, photo, *FAST, "--out", tmp_path, "--no-second-fill")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "boat-1-relu4_2-occlusion.npz",
        "boat-2-relu4_2-occlusion.npz",
        "relu4_2-occlusion.json",
        "relu4_2-occlusion.png",
    ]


def test_scenes_and_without(tmp_path):
    result = run("scenes:1@5", *FAST, "--fill", "without", "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"][0]["image"] == "scene-000005"


def test_standard_input(tmp_path, photo):
    result = run("-", *FAST, "--out", tmp_path, stdin=photo.read_bytes())
    assert result.exit_code == 0, result.output
    assert (tmp_path / "stdin-relu4_2-occlusion.png").is_file()


def test_existing_files_are_kept_before_the_work(tmp_path, photo):
    (tmp_path / "boat-relu4_2-occlusion.npz").write_text("mine")
    assert_error(run(photo, *FAST, "--out", tmp_path), "already exists. Overwrite with --force")
    assert [path.name for path in tmp_path.iterdir()] == ["boat-relu4_2-occlusion.npz"]
    assert run(photo, *FAST, "--out", tmp_path, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "minivgg"], "name a layer"),
        ([*LAYER, "--size", "2"], "should be less than or equal to 1"),
        ([*LAYER, "--fill", "without"], "give scenes:COUNT"),
        ([*LAYER, "--fill", "white"], "'white' is not one of"),
        ([*LAYER, "--channel", "1", "--unit", "1,2,3"], "cannot be combined with --channel"),
        ([*LAYER, "--unit", "7"], "give channel, row and column"),
        ([*LAYER, "--class", "unicorn"], "no class 'unicorn'"),
        ([*LAYER, "--channel", "999"], "no channel 999"),
        (["--layer", "relu9", "--model", "minivgg"], "no layer 'relu9'"),
        ([*LAYER, "--search", "nowhere"], "nowhere"),
        ([*LAYER, "--device", "abacus"], "no device 'abacus'"),
    ],
)
def test_errors(tmp_path, monkeypatch, photo, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert_error(run(photo, *arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_missing_image_is_named():
    assert_error(run("none.png", *LAYER), "none.png")
    assert_error(run(*LAYER), "name an image file")
