"""`deconvviz trust`: its table, JSON, files and errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.messages import assert_error
from PIL import Image
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow  # together half a minute

MINIVGG = ("--model", "minivgg")
LAYER = ("--layer", "conv1_1", *MINIVGG)
FAST = (*LAYER, "--top", 2, "--methods", "deconvnet")
OF_SEARCH = ("--layer", "conv1_1", "--top", 2, "--methods", "deconvnet")


def run(*arguments, stdin=None):
    wide = {"COLUMNS": "300"}
    return CliRunner().invoke(app, ["trust", *map(str, arguments)], env=wide, input=stdin)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "one.png"
    Image.fromarray(scene(2).image).save(path)
    return path


@pytest.fixture(scope="module")
def printed():
    result = run("scenes:2@1", *FAST, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_json_is_the_contract(printed):
    found = dv.trust(dv.load("minivgg"), "scenes:2@1", "conv1_1", 2, ["deconvnet"])
    assert printed == json.loads(json.dumps(found.to_json()))
    assert printed["network"] == "minivgg"
    assert printed["layer"] == "conv1_1"
    assert set(printed["methods"]) == {"deconvnet"}
    assert len(printed["summary"]) == 3


def test_table_has_values_intervals_baselines_and_sentences(printed):
    result = run("scenes:2@1", *FAST)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["measure", "deconvnet"]
    likeness = printed["methods"]["deconvnet"]["likeness"]
    numbers = [f"{likeness[name]:.2f}" for name in ("value", "low", "high")]
    assert lines[1].split() == ["likeness", numbers[0], f"[{numbers[1]},", f"{numbers[2]}]"]
    assert lines[2].split() == ["baseline", f"{likeness['baseline']:.2f}"]
    assert lines[-3:] == printed["summary"]


def test_nothing_is_written_without_out(tmp_path, monkeypatch, photo):
    monkeypatch.chdir(tmp_path)
    assert run(photo, *FAST).exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_out_writes_figure_manifest_and_arrays(tmp_path, photo):
    result = run(photo, *FAST, "--out", tmp_path, "--arrays", "--format", "svg", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    names = ["trust-conv1_1.json", "trust-conv1_1.npz", "trust-conv1_1.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert sorted(Path(path).name for path in printed["files"]) == names
    manifest = json.loads((tmp_path / names[0]).read_text())
    assert manifest["trust"] == {name: value for name, value in printed.items() if name != "files"}
    again = run(photo, *FAST, "--out", tmp_path, "--format", "svg")
    assert_error(again, "already exist. Overwrite with --force")
    assert run(photo, *FAST, "--out", tmp_path, "--format", "svg", "--force").exit_code == 0


def test_images_are_read_from_files_folders_and_standard_input(photo):
    from_file, from_folder = (run(place, *FAST, "--json") for place in (photo, photo.parent))
    piped = run("-", *FAST, "--json", stdin=photo.read_bytes())
    values = [
        json.loads(one.stdout)["methods"]["deconvnet"]["likeness"]["value"]
        for one in (from_file, from_folder, piped)
    ]
    assert values == [values[0]] * 3


def test_search_names_network_layer_and_pictures(tmp_path):
    folder = tmp_path / "search"
    dv.search(dv.load("minivgg"), "scenes:8", ["conv1_1"], out=folder, workers=0, batch_size=8)
    result = run(folder, *OF_SEARCH, "--limit", 2, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["pictures"] == 2
    assert_error(run(folder, *FAST), "the search already names the network")
    assert_error(run(folder, "--layer", "conv2_1"), "conv2_1")


def test_skipped_images_and_methods_left_out_are_noted(tmp_path, photo, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(photo.read_bytes())
    (folder / "b.png").write_bytes(b"no image")
    from deconvviz.methods import own

    monkeypatch.setattr(own._Engine, "unsupported", lambda self, s: "no" if self.name == "guided" else "")
    result = run(folder, *LAYER, "--top", 2, "--methods", "guided,deconvnet")
    assert result.exit_code == 0, result.output
    assert "guided is left out: no" in result.stderr
    assert "1 image skipped: b.png:" in result.stderr
    assert "skipped" not in run(folder, *FAST, "--quiet").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("scenes:2",), "name a layer (deconvviz layers lists them)"),
        (LAYER, "name an image file or a folder of images"),
        (("scenes:2", "--layer", "conv9", *MINIVGG), "no layer 'conv9' in minivgg"),
        (
            ("scenes:2", *LAYER, "--methods", "deconvnet,guidde"),
            "no method 'guidde': there are",
        ),
        (("scenes:2", *LAYER, "--methods", ","), "name a method: deconvnet"),
        (("scenes:2", *LAYER, "--top", "1"), "greater than"),
        (("scenes:2", *LAYER, "--limit", "0"), "greater than"),
        (("scenes:x", *LAYER), "'scenes:x' does not describe scenes"),
        (("nowhere.jpg", *LAYER), "nowhere.jpg"),
        (("scenes:2", "--layer", "conv1_1", "--model", "nonet"), "nonet"),
        (("scenes:2", *LAYER, "--device", "tpu"), "no device 'tpu'"),
        (("scenes:2", *LAYER, "--out", "a.txt"), "a.txt is not a figure file"),
        (("scenes:2", *LAYER, "--out", "a.png", "--format", "svg"), "svg does not match --out"),
        (("scenes:2", *LAYER, "--allow-code"), "needs the folder of a search"),
    ],
)
def test_mistakes_are_reported_and_nothing_is_written(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_error(run(*arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_interrupt_writes_nothing_and_has_its_exit_code(tmp_path, photo, monkeypatch):
    import deconvviz.trust_measures.trust as module

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(module._Job, "see_random_weights", interrupted)
    result = run(photo, *FAST, "--out", tmp_path / "out")
    assert result.exit_code == 130
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()
