"""`deconvviz topnine`: the figure of a search, and everything for which none is drawn."""

import json
import re
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.dataset_search.result import open_search
from deconvviz.scenes import scene


def invoke(*arguments):
    wide = {"COLUMNS": "300"}  # a long temporary path must not be broken in the middle of a word
    return CliRunner().invoke(app, list(map(str, arguments)), env=wide)


def run(*arguments):
    return invoke("topnine", *arguments)


def reason_of(text):
    """A message without the box that Typer draws, in one line."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def refused(result, message, out):
    """Exit code 2, the whole message and no traceback on stderr, nothing on stdout, nothing written."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    said = reason_of(result.stderr)
    assert said.endswith(message), said
    assert "Traceback" not in said
    assert not out.exists()


def searched(source, out, *arguments):
    result = invoke(
        "search", source, "--model", "minivgg", "--workers", 0, "--batch-size", 8, "--out", out, *arguments
    )
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("searched") / "search"
    return searched("scenes:40", out, "-l", "conv2_1", "-l", "conv4_2", "-l", "output")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        Image.fromarray(scene(number).image).save(folder / f"{number:02}.png")
    return folder


def peaks_of(result):
    assert result.exit_code == 0, result.output
    return {
        layer["name"]: {one["channel"]: one["peaks"] for one in layer["channels"]}
        for layer in json.loads(result.stdout)["layers"]
    }


def test_writes_a_figure_and_its_manifest_and_says_where(found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(found, "--layer", "conv4_2", "--channels", 3)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "deconvviz-out/topnine-conv4_2.png",
        "deconvviz-out/topnine-conv4_2.json",
    ]
    with Image.open(tmp_path / "deconvviz-out" / "topnine-conv4_2.png") as image:
        assert image.width > 1000 and image.info["Software"] == "deconvviz"
    told = json.loads((tmp_path / "deconvviz-out" / "topnine-conv4_2.json").read_text())
    assert told["search"]["path"] == str(found / "manifest.json")
    assert told["style"] == {
        "layout": "panels", "percentile": 99.5, "columns": None, "dpi": 200, "crop": "effective",
        "medium": "screen",
    }  # fmt: skip
    (layer,) = told["layers"]
    assert layer["name"] == "conv4_2" and len(layer["channels"]) == 3 and len(layer["peaks"]) == 27


def test_json_and_arrays_are_what_python_gives(found, tmp_path):
    figure = tmp_path / "figure.png"
    result = run(
        found, "-l", "conv2_1", "--channel", 4, "--channel", 2, "--out", figure, "--arrays", "--json"
    )
    told = json.loads(result.stdout)
    assert set(told) == {"figure", "files", "layers", "notes"}
    assert told["figure"] == str(figure) and told["notes"] == []
    assert told["files"] == [str(figure.with_suffix(suffix)) for suffix in (".png", ".json", ".npz")]
    peaks = peaks_of(result)
    assert list(peaks["conv2_1"]) == [4, 2]
    assert told["layers"][0]["by_analogy"] == []
    python = open_search(found).topnine("conv2_1", [4, 2])
    with np.load(tmp_path / "figure.npz") as stored:
        assert set(stored) == set(python.arrays())
        for name, numbers in python.arrays().items():
            np.testing.assert_array_equal(stored[name], numbers)
    for shown, peak in zip(python.shown["conv2_1"][4], peaks["conv2_1"][4], strict=True):
        assert peak == {
            "layer": "conv2_1", "channel": 4, "rank": shown.peak.rank, "activation": shown.peak.activation,
            "image": shown.peak.image_id, "y": shown.peak.y, "x": shown.peak.x, "box": list(shown.peak.box),
        }  # fmt: skip


def test_several_layers_to_a_page_by_either_name(found, tmp_path):
    module = dv.load("minivgg").layers.find("conv4_2").module
    result = run(
        found, "-l", "output", "-l", module, "-l", "conv4_2", "--channels", 2, "--top", 4, "--out", tmp_path,
        "--layout", "pairs", "--json",
    )  # fmt: skip
    peaks = peaks_of(result)
    assert list(peaks) == ["output", "conv4_2"]
    assert [len(channels) for channels in peaks.values()] == [2, 2]
    assert all(len(one) == 4 for channels in peaks.values() for one in channels.values())
    assert all(peak["y"] is None for peak in next(iter(peaks["output"].values())))
    assert (tmp_path / "topnine-output-conv4_2.png").exists()


def test_channels_by_activation_by_density_and_at_random(found, tmp_path):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_parquet(found / "channels.parquet")
    table = table[(table.layer == "conv4_2") & ~table.dead]
    chosen = {}
    for name, arguments in {
        "activation": [],
        "density": ["--by", "density"],
        "random": ["--by", "random"],
        "again": ["--by", "random", "--seed", 0],
        "other": ["--by", "random", "--seed", 1],
    }.items():
        out = tmp_path / name
        result = run(found, "-l", "conv4_2", "--channels", 4, "--top", 1, "--out", out, "--json", *arguments)
        chosen[name] = list(peaks_of(result)["conv4_2"])
        by = "-" + arguments[1] if arguments else ""
        assert (out / f"topnine-conv4_2{by}.png").exists()
    for by, column in (("activation", "maximum"), ("density", "density")):
        best = table.sort_values([column, "channel"], ascending=[False, True]).channel[:4]
        assert chosen[by] == list(best)
    assert chosen["random"] == sorted(chosen["random"]) == chosen["again"] != chosen["other"]


def test_formats_and_where_they_go(found, tmp_path):
    given = (found, "-l", "conv2_1", "--channel", 1, "--top", 2)
    svg = run(*given, "--out", tmp_path / "new" / "figure.svg")
    assert svg.exit_code == 0, svg.output
    text = "".join(ET.parse(tmp_path / "new" / "figure.svg").getroot().itertext())
    assert "conv2_1" in text and "channel 1" in text
    pdf = run(*given, "--out", tmp_path / "folder", "--format", "pdf")
    assert pdf.stdout.splitlines()[0] == str(tmp_path / "folder" / "topnine-conv2_1-channel1.pdf")
    (tmp_path / "with.dot").mkdir()
    dotted = run(*given, "--out", tmp_path / "with.dot")
    assert dotted.stdout.splitlines()[0] == str(tmp_path / "with.dot" / "topnine-conv2_1-channel1.png")
    there = tmp_path / "with.dot" / "topnine-conv2_1-channel1.png"
    before = there.read_bytes()
    again = run(*given, "--out", tmp_path / "with.dot")
    assert again.exit_code == 2 and f"{there} and 1 more already exists" in reason_of(again.stderr)
    assert run(*given, "--out", tmp_path / "with.dot", "--force", "--dpi", 100).exit_code == 0
    assert there.read_bytes() != before


@pytest.mark.slow
def test_quiet_says_nothing_and_few_channels_are_told(tmp_path):
    out = searched("scenes:6", tmp_path / "search", "-l", "output")
    loud = run(out, "-l", "output", "--out", tmp_path / "a")
    dead = len(json.loads((out / "manifest.json").read_text())["layers"][0]["dead"])
    told = f"{12 - dead} of 16 channels: output has 12 channels, {dead} of them dead (never above zero)"
    assert f"deconvviz: {told}\n" in loud.stderr
    assert run(out, "-l", "output", "--out", tmp_path / "b", "--quiet").stderr == ""


def test_by_analogy_is_told_before_it_is_drawn(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 3))\n"
    )
    out = tmp_path / "search"
    assert invoke("search", "scenes:4", "--model", f"{path}:make", "-l", "2", "--out", out).exit_code == 0
    result = run(out, "-l", "2", "--allow-code", "--out", tmp_path / "a.png", "--json")
    assert result.exit_code == 0, result.output
    assert "deconvviz: by analogy: 1 of 3 calls" in result.stderr
    (layer,) = json.loads(result.stdout)["layers"]
    assert [one["op"] for one in layer["by_analogy"]] == ["aten.silu.default"]
    refused(
        run(out, "-l", "2", "--out", tmp_path / "b.png"),
        f"deconvviz: {out / 'manifest.json'} was made with a network that {path} makes: to make it again, "
        "that file is run. If you trust it, allow it with --allow-code",
        tmp_path / "b.png",
    )


def test_pictures_that_moved_grew_changed_or_went(pictures, tmp_path):
    out = searched(pictures, tmp_path / "search", "-l", "conv4_2")
    given = (out, "-l", "conv4_2", "--channels", 2, "--out")
    moved = tmp_path / "moved"
    shutil.move(pictures, moved)
    gone = run(*given, tmp_path / "a")
    assert gone.exit_code == 2 and f"no source of images '{pictures}'" in reason_of(gone.stderr)
    assert run(*given, tmp_path / "b", "--source", moved).exit_code == 0
    Image.fromarray(scene(99).image).save(moved / "99.png")
    grown = run(*given, tmp_path / "c", "--source", moved, "--json")
    note = f"{moved} is not as it was searched (12 pictures then, 13 now); those that are shown are"
    assert json.loads(grown.stdout)["notes"] == [note]
    assert f"deconvviz: {note}\n" in grown.stderr
    peaks = json.loads(grown.stdout)["layers"][0]["channels"][0]["peaks"]
    Image.fromarray(scene(99).image).save(moved / peaks[0]["image"])
    changed = run(*given, tmp_path / "d", "--source", moved)
    assert changed.exit_code == 2 and changed.stdout == "" and not (tmp_path / "d").exists()
    said = reason_of(changed.stderr)
    assert "of 18 activations do not match the search index; no figure was written" in said
    assert f"in {peaks[0]['image']} was" in said
    assert said.endswith("The images or the weights have changed. Run the search again")
    (moved / peaks[0]["image"]).unlink()
    refused(
        run(*given, tmp_path / "e", "--source", moved, "--channels", 1),
        f"images are not in {moved}: {peaks[0]['image']}. Use --source PLACE to say where they are",
        tmp_path / "e",
    )


def test_other_weights_are_refused(found, tmp_path):
    from safetensors.torch import save_file

    other = dv.load("minivgg", "random", seed=5)
    save_file(dict(other.module.state_dict()), tmp_path / "other.safetensors")
    result = run(
        found, "-l", "conv4_2", "--weights", tmp_path / "other.safetensors", "--out", tmp_path / "out"
    )
    refused(
        result,
        f"deconvviz: the weights of minivgg are not those of {found / 'manifest.json'}: {other.digest} "
        f"instead of {dv.load('minivgg').digest}; give the right file with --weights FILE",
        tmp_path / "out",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Invalid value for --layer: name a layer that was searched"),
        (
            ["-l", "conv4_2", "--channel", 1, "--by", "density"],
            "Invalid value for --channel: these are the channels themselves: leave --channels and --by out",
        ),
        (
            ["-l", "conv4_2", "--channel", 1, "--channels", 3],
            "Invalid value for --channel: these are the channels themselves: leave --channels and --by out",
        ),
        (
            ["-l", "conv4_2", "-l", "conv2_1", "--channel", 1],
            "Invalid value for --channel: goes with one layer, and there are 2: make a figure of each, or "
            "give --channels",
        ),
        (
            ["-l", "conv4_3"],
            "deconvviz: no layer 'conv4_3' in this search of 3 layers: there is conv4_2, conv2_1 (search "
            "again with --layer conv4_3 for it)",
        ),
        (["-l", "conv4_2", "--channel", 96], "deconvviz: no channel 96 in conv4_2: there are 0 to 95"),
        (["-l", "conv4_2", "--channel", -1], "deconvviz: no channel -1 in conv4_2: there are 0 to 95"),
        (
            ["-l", "conv4_2", "--top", 10],
            "deconvviz: the 10 strongest were asked for: the search kept 9 (search again with --top 10)",
        ),
        (
            ["-l", "conv4_2", "--memory", "much"],
            "Invalid value for --memory: 'much' is no amount of memory: give bytes, or a number with K, M, G "
            "or T: 512M, 1.5G",
        ),
    ],
)
def test_mistakes(found, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr("deconvviz.described_network.ModelRequest", None)  # none of them needs the network
    refused(run(found, *arguments, "--out", tmp_path / "out"), message, tmp_path / "out")


def test_an_out_that_is_no_figure(found, tmp_path):
    jpeg = tmp_path / "figure.jpeg"
    refused(
        run(found, "-l", "conv4_2", "--out", jpeg),
        f"{jpeg} is no figure: end it in .png, .svg or .pdf, or name a folder that is there",
        jpeg,
    )
    svg = tmp_path / "figure.svg"
    refused(
        run(found, "-l", "conv4_2", "--out", svg, "--format", "png"),
        f"Invalid value for --format: png does not go with --out {svg}",
        svg,
    )


def test_what_is_no_search(tmp_path):
    for folder, message in (
        ("nothing", "there is no such folder (a search makes one with --out FOLDER)"),
        ("", "there is no manifest.json (a search makes one with --out FOLDER)"),
    ):
        place = tmp_path / folder
        refused(
            run(place, "-l", "conv4_2", "--out", tmp_path / "out"),
            f"deconvviz: no search in {place}: {message}",
            tmp_path / "out",
        )


def test_a_shell_completes_the_layers_that_were_searched(found, tmp_path):
    from types import SimpleNamespace

    from deconvviz.cli.support.completion import complete_searched_layer

    def complete(place, incomplete):
        return complete_searched_layer(SimpleNamespace(params={"search": None}, args=place), incomplete)

    assert complete([str(found)], "") == ["conv2_1", "conv4_2", "output"]
    assert complete([str(found)], "conv4") == ["conv4_2"]
    assert complete([str(tmp_path)], "") == complete([], "") == []
    given = SimpleNamespace(params={"search": found}, args=[])
    assert complete_searched_layer(given, "o") == ["output"]


def test_crop_and_medium(found, tmp_path):
    out = tmp_path / "one.png"
    options = ("--for", "paper", "--crop", "field", "--out", out)
    result = run(found, "--layer", "conv4_2", "--channels", 2, *options)
    assert result.exit_code == 0, result.output
    style = json.loads(out.with_suffix(".json").read_text())["style"]
    assert (style["crop"], style["medium"], style["dpi"]) == ("field", "paper", 300)
    with Image.open(out) as image:
        assert image.width == pytest.approx(86 / 25.4 * 300, abs=1)
