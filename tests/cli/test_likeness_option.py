"""Likeness to other units of the same places, computed by `project` and `topnine`."""

import json
import re

import pytest
from PIL import Image
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.scenes import scene
from deconvviz.trust_measures.drawn_likeness import likeness_of

pytestmark = pytest.mark.slow  # together half a minute

FOOT = "other units here look alike: median correlation "
SENTENCE = "have nearly the same projection (median correlation "


@pytest.fixture(scope="module")
def image_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "scene.png"
    Image.fromarray(scene(3).image).save(path)
    return path


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("searched") / "search"
    layers = ["-l", "conv1_2", "-l", "conv4_2"]
    result = run("search", "scenes:12", "-m", "minivgg", *layers, "--workers", 0, "--out", out)
    assert result.exit_code == 0, result.output
    return out


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "300"})


def mini(image_file, out, *arguments):
    result = run("project", image_file, "-m", "minivgg", "-o", out, *arguments)
    assert result.exit_code == 0, result.output
    return result


def text_of(path):
    """Return the text of an SVG figure as one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", path.read_text()).split())


def test_high_likeness_is_printed_and_written_at_the_foot(image_file, tmp_path):
    result = mini(image_file, tmp_path, "-l", "conv4_2", "--json", "--format", "svg")
    (figure,) = json.loads(result.stdout)["figures"]
    likeness = figure["likeness"]
    assert set(likeness) == {"value", "places", "units"} and likeness["value"] > 0.8
    assert json.loads((tmp_path / "scene-conv4_2.json").read_text())["likeness"] == likeness
    number = f"{likeness['value']:.2f}"
    assert (
        f"conv4_2: other strong units at these places {SENTENCE}{number}, 2 places): read it as"
        in result.stderr
    )
    assert FOOT + number in text_of(tmp_path / "scene-conv4_2.svg")


def test_value_equals_that_of_python(image_file, tmp_path):
    result = mini(image_file, tmp_path, "-l", "conv3_1", "--top", 4, "--json")
    net = dv.load("minivgg")
    recording = net.record(image_file, "conv3_1")
    projection = recording.project("conv3_1", recording.choose("conv3_1", 4))
    expected = likeness_of(recording, projection)
    assert json.loads(result.stdout)["figures"][0]["likeness"] == expected.to_json()


def test_low_likeness_is_a_number_without_a_word(image_file, tmp_path):
    result = mini(image_file, tmp_path, "-l", "conv1_2", "--json", "--format", "svg")
    (figure,) = json.loads(result.stdout)["figures"]
    assert 0 < figure["likeness"]["value"] < 0.8
    assert "correlation" not in result.stderr
    assert "correlation" not in text_of(tmp_path / "scene-conv1_2.svg")


def test_no_likeness_leaves_it_out(image_file, tmp_path):
    result = mini(image_file, tmp_path, "-l", "conv4_2", "--json", "--format", "svg", "--no-likeness")
    (figure,) = json.loads(result.stdout)["figures"]
    assert figure["likeness"] is None
    assert json.loads((tmp_path / "scene-conv4_2.json").read_text())["likeness"] is None
    assert "correlation" not in result.stderr
    assert "correlation" not in text_of(tmp_path / "scene-conv4_2.svg")


def test_likeness_does_not_change_the_projections(image_file, tmp_path):
    import numpy as np

    for folder, more in (("with", []), ("without", ["--no-likeness"])):
        mini(image_file, tmp_path / folder, "-l", "conv4_2", "--arrays", *more)
    one, other = (np.load(tmp_path / name / "scene-conv4_2.npz") for name in ("with", "without"))
    assert all(np.array_equal(one[name], other[name]) for name in one.files)


def test_several_figures_of_a_layer_have_one_line(tmp_path):
    for seed in (3, 5):
        Image.fromarray(scene(seed).image).save(tmp_path / f"{seed}.png")
    result = mini(tmp_path, tmp_path / "out", "-l", "conv4_2", "--top", 3)
    lines = [line for line in result.stderr.splitlines() if SENTENCE in line]
    assert len(lines) == 1
    assert "at the places of 2 of 2 figures" in lines[0]


def test_remade_figure_keeps_the_likeness_of_its_manifest(image_file, tmp_path):
    mini(image_file, tmp_path, "-l", "conv4_2")
    manifest = tmp_path / "scene-conv4_2.json"
    again = run("project", "--from", manifest, "-o", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert SENTENCE in again.stderr
    remade = tmp_path / "again" / manifest.name
    assert json.loads(remade.read_text())["likeness"] == json.loads(manifest.read_text())["likeness"]
    assert remade.with_suffix(".png").read_bytes() == manifest.with_suffix(".png").read_bytes()
    left_out = run("project", "--from", manifest, "-o", tmp_path / "none", "--no-likeness")
    assert SENTENCE not in left_out.stderr
    assert json.loads((tmp_path / "none" / manifest.name).read_text())["likeness"] is None


def test_older_manifest_without_likeness_and_verification_is_made_again(image_file, tmp_path):
    mini(image_file, tmp_path, "-l", "conv4_2", "--no-likeness")
    manifest = tmp_path / "scene-conv4_2.json"
    stored = json.loads(manifest.read_text())
    del stored["likeness"], stored["verification"]
    manifest.write_text(json.dumps(stored))
    again = run("project", "--from", manifest, "-o", tmp_path / "again")
    assert again.exit_code == 0, again.output
    remade = tmp_path / "again" / "scene-conv4_2.png"
    assert remade.read_bytes() == manifest.with_suffix(".png").read_bytes()


def test_topnine_names_the_likeness_of_a_sample(found, tmp_path):
    layers = ["-l", "conv1_2", "-l", "conv4_2"]
    result = run("topnine", found, *layers, "--channels", 2, "--top", 3, "-o", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    likeness = json.loads(result.stdout)["likeness"]
    assert json.loads((tmp_path / "topnine-conv1_2-conv4_2.json").read_text())["likeness"] == likeness
    assert set(likeness) == {"conv1_2", "conv4_2"}
    assert likeness["conv1_2"]["value"] < 0.8 < likeness["conv4_2"]["value"]
    low, high = likeness["conv1_2"], likeness["conv4_2"]
    assert (
        f"conv1_2: likeness to other strong units at these places: median correlation {low['value']:.2f}, "
        f"a sample of {low['places']} places"
    ) in result.stderr
    assert (
        f"conv4_2: other strong units at these places {SENTENCE}{high['value']:.2f}, a sample"
        in result.stderr
    )


def test_topnine_without_likeness(found, tmp_path):
    result = run(
        "topnine", found, "-l", "conv4_2", "--channels", 1, "-o", tmp_path, "--json", "--no-likeness"
    )
    assert json.loads(result.stdout)["likeness"] is None
    assert json.loads((tmp_path / "topnine-conv4_2.json").read_text())["likeness"] is None
    assert "correlation" not in result.stderr
