"""`deconvviz invert` and `deconvviz maximise`: their files, JSON, text and errors."""

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

pytestmark = pytest.mark.slow  # together about 5 s

LAYER = ("--layer", "relu2_2", "--model", "minivgg")
QUICK = (*LAYER, "--steps", 2)
NAMES = [f"boat-relu2_2-inversion-tv.{suffix}" for suffix in ("json", "npz", "parquet", "png")]


def run(*arguments, stdin=None):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "300"}, input=stdin)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "boat.png"
    Image.fromarray(scene(2).image).save(path)
    return path


def test_inversion_writes_files_and_json(tmp_path, photo):
    result = run("invert", photo, *QUICK, "--prior-weight", 0.3, "--seed", 4, "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert sorted(printed["files"]) == [str(tmp_path / name) for name in NAMES]
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES
    found = dv.invert(dv.load("minivgg"), photo, "relu2_2", steps=2, prior_weight=0.3, seed=4)
    assert printed["relative_error"] == found.relative_error
    with np.load(tmp_path / NAMES[1]) as stored:
        assert np.array_equal(stored["picture"], found.picture)
    manifest = json.loads((tmp_path / NAMES[0]).read_text())
    assert manifest["pictures"][0]["path"].endswith("boat.png")


def test_inversion_prints_what_the_layer_keeps(tmp_path):
    result = run("invert", "scenes:1@5", *QUICK, "--prior", "none", "--top", 0, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "At relu2_2, the features of the inverse differ from those of scene-000005 by" in result.stdout
    assert "scene-000005-relu2_2-inversion-none.png" in result.stdout


def test_inversion_of_standard_input(tmp_path, photo):
    result = run("invert", "-", *QUICK, "--out", tmp_path, stdin=photo.read_bytes())
    assert result.exit_code == 0, result.output
    assert (tmp_path / "stdin-relu2_2-inversion-tv.png").is_file()


def test_existing_files_are_kept_before_the_work(tmp_path, photo):
    (tmp_path / NAMES[2]).write_text("mine")
    assert_error(run("invert", photo, *QUICK, "--out", tmp_path), "already exists. Overwrite with --force")
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[2]]
    (tmp_path / "relu2_2-maximised.npz").write_text("mine")
    assert_error(run("maximise", *QUICK, "--channel", 1, "--out", tmp_path), "already exists")
    assert run("invert", photo, *QUICK, "--out", tmp_path, "--force").exit_code == 0


@pytest.mark.parametrize("command", ["invert", "maximise"])
def test_interrupted_run_writes_nothing(tmp_path, monkeypatch, command):
    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.optim.Adam.step", interrupted)
    words = ["scenes:1@5"] if command == "invert" else ["--channel", 1]
    result = run(command, *words, *QUICK, "--out", tmp_path / "new")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert not (tmp_path / "new").exists()


def test_maximisation_writes_files_and_json(tmp_path):
    words = ("--channel", 1, "--channel", 3, "--jitter", 2, "--pictures", 2, "--out", tmp_path)
    result = run("maximise", *QUICK, *words, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"relu2_2-maximised.{suffix}" for suffix in ("json", "npz", "parquet", "png")
    ]
    found = dv.maximise(dv.load("minivgg"), "relu2_2", [1, 3], steps=2, jitter=2, pictures=2)
    assert [one["activation"] for one in printed["made_up"]] == [one.activation for one in found.pictures]
    assert [(one["channel"], one["seed"]) for one in printed["made_up"]] == [(1, 0), (1, 1), (3, 0), (3, 1)]


def test_maximisation_prints_that_pictures_are_made_up(tmp_path):
    result = run("maximise", *QUICK, "--unit", "1,2,3", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "made up by optimisation: none is an image of a dataset" in result.stdout


def test_maximisation_compares_with_a_search(tmp_path):
    search = tmp_path / "found"
    dv.search(dv.load("minivgg"), "scenes:6", ["relu2_2"], out=search)
    result = run("maximise", *QUICK, "--channel", 1, "--search", search, "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    peak = dv.open_search(search).top("relu2_2", 1, 1)[0]
    assert json.loads(result.stdout)["made_up"][0]["natural"]["activation"] == peak.activation


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["invert", "--model", "minivgg", "scenes:1@5"], "name a layer"),
        (["invert", *LAYER], "name an image file"),
        (["invert", "none.png", *LAYER], "none.png"),
        (["invert", "scenes:2", *LAYER], "one image is inverted at a time, but 2 were given"),
        (["invert", "scenes:1@5", "--layer", "relu9", "--model", "minivgg"], "no layer 'relu9'"),
        (["invert", "scenes:1@5", *LAYER, "--prior", "haar"], "'haar' is not one of"),
        (["invert", "scenes:1@5", *LAYER, "--steps", "0"], "Input should be greater than or equal to 1"),
        (["invert", "scenes:1@5", *LAYER, "--lr", "-1"], "a learning rate of -1 was requested"),
        (["invert", "scenes:1@5", *LAYER, "--lr", "900"], "Use a learning rate below 900 (--lr 90)"),
        (["invert", "scenes:1@5", *LAYER, "--jitter", "96"], "a jitter of 96 pixels"),
        (["maximise", "--model", "minivgg"], "name a layer"),
        (["maximise", *LAYER], "name a channel"),
        (["maximise", *LAYER, "--channel", "1", "--unit", "1,2,3"], "cannot be combined with --channel"),
        (["maximise", *LAYER, "--channel", "99"], "no channel 99"),
        (["maximise", *LAYER, "--unit", "one"], "one"),
        (["maximise", *LAYER, "--channel", "1", "--search", "nowhere"], "nowhere"),
    ],
)
def test_errors(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert_error(run(*arguments), message)
    assert list(tmp_path.iterdir()) == []
