"""`deconvviz topnine`: the figure of a search, and errors."""

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

pytestmark = pytest.mark.slow


def invoke(*arguments):
    wide = {"COLUMNS": "300"}  # long temporary paths must not be wrapped
    return CliRunner().invoke(app, list(map(str, arguments)), env=wide)


def run(*arguments):
    return invoke("topnine", *arguments)


def message_in(text):
    """Return a message as one line, without the box that Typer draws."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def assert_error(result, message, out):
    """Check for exit code 2, the whole message without traceback, empty stdout and no output file."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    error = message_in(result.stderr)
    assert error.endswith(message), error
    assert "Traceback" not in error
    assert not out.exists()


def run_search(source, out, *arguments):
    result = invoke(
        "search", source, "--model", "minivgg", "--workers", 0, "--batch-size", 8, "--out", out, *arguments
    )
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("searched") / "search"
    return run_search("scenes:40", out, "-l", "conv2_1", "-l", "conv4_2", "-l", "output")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
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


def test_topnine_writes_figure_and_manifest_and_prints_their_paths(found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(found, "--layer", "conv4_2", "--channels", 3)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "deconvviz-out/topnine-conv4_2.png",
        "deconvviz-out/topnine-conv4_2.json",
    ]
    with Image.open(tmp_path / "deconvviz-out" / "topnine-conv4_2.png") as image:
        assert image.width > 1000 and image.info["Software"] == "deconvviz"
    manifest = json.loads((tmp_path / "deconvviz-out" / "topnine-conv4_2.json").read_text())
    assert manifest["search"]["path"] == str(found / "manifest.json")
    assert manifest["style"] == {
        "layout": "panels", "percentile": 99.5, "columns": None, "dpi": 200, "crop": "effective",
        "medium": "screen", "bands": None,
    }  # fmt: skip
    (layer,) = manifest["layers"]
    assert layer["name"] == "conv4_2" and len(layer["channels"]) == 3 and len(layer["peaks"]) == 27


def test_json_and_arrays_equal_the_results_of_python(found, tmp_path):
    figure = tmp_path / "figure.png"
    result = run(
        found, "-l", "conv2_1", "--channel", 4, "--channel", 2, "--out", figure, "--arrays", "--json"
    )
    printed = json.loads(result.stdout)
    assert set(printed) == {"figure", "files", "layers", "notes", "likeness", "verification"}
    assert printed["figure"] == str(figure) and printed["notes"] == []
    assert printed["files"] == [str(figure.with_suffix(suffix)) for suffix in (".png", ".json", ".npz")]
    peaks = peaks_of(result)
    assert list(peaks["conv2_1"]) == [4, 2]
    assert printed["layers"][0]["by_analogy"] == []
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


def test_several_layers_by_either_name_are_drawn_on_one_page(found, tmp_path):
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


def test_channels_are_chosen_by_activation_density_or_at_random(found, tmp_path):
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


def test_file_type_and_path_of_the_figure(found, tmp_path):
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
    existing = tmp_path / "with.dot" / "topnine-conv2_1-channel1.png"
    before = existing.read_bytes()
    again = run(*given, "--out", tmp_path / "with.dot")
    assert again.exit_code == 2 and f"{existing} and 1 more already exist" in message_in(again.stderr)
    assert run(*given, "--out", tmp_path / "with.dot", "--force", "--dpi", 100).exit_code == 0
    assert existing.read_bytes() != before


@pytest.mark.slow
def test_note_on_few_channels_is_printed_unless_quiet(tmp_path):
    out = run_search("scenes:6", tmp_path / "search", "-l", "output")
    result = run(out, "-l", "output", "--out", tmp_path / "a")
    dead = len(json.loads((out / "manifest.json").read_text())["layers"][0]["dead"])
    facts = f"output has 12 channels, {dead} of them dead (never above zero)"
    assert f"deconvviz: only {12 - dead} of 16 channels are drawn: {facts}\n" in result.stderr
    assert run(out, "-l", "output", "--out", tmp_path / "b", "--quiet").stderr == ""


def test_approximate_operations_are_printed_and_code_needs_permission(tmp_path):
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
    assert "deconvviz: approximate: 1 of 3 calls" in result.stderr
    (layer,) = json.loads(result.stdout)["layers"]
    assert [one["op"] for one in layer["by_analogy"]] == ["aten.silu.default"]
    assert_error(
        run(out, "-l", "2", "--out", tmp_path / "b.png"),
        f"deconvviz: the network of {out / 'manifest.json'} is made by the code in {path}. "
        "If you trust that file, let it run with --allow-code",
        tmp_path / "b.png",
    )


@pytest.mark.slow
def test_images_that_were_moved_added_changed_or_deleted(images, tmp_path):
    out = run_search(images, tmp_path / "search", "-l", "conv4_2")
    given = (out, "-l", "conv4_2", "--channels", 2, "--out")
    moved = tmp_path / "moved"
    shutil.move(images, moved)
    missing = run(*given, tmp_path / "a")
    assert missing.exit_code == 2 and f"no source of images '{images}'" in message_in(missing.stderr)
    assert run(*given, tmp_path / "b", "--source", moved).exit_code == 0
    Image.fromarray(scene(99).image).save(moved / "99.png")
    grown = run(*given, tmp_path / "c", "--source", moved, "--json")
    note = f"{moved} has changed since the search (12 images then, 13 now); the images shown have not"
    assert json.loads(grown.stdout)["notes"] == [note]
    assert f"deconvviz: {note}\n" in grown.stderr
    peaks = json.loads(grown.stdout)["layers"][0]["channels"][0]["peaks"]
    Image.fromarray(scene(99).image).save(moved / peaks[0]["image"])
    changed = run(*given, tmp_path / "d", "--source", moved)
    assert changed.exit_code == 2 and changed.stdout == "" and not (tmp_path / "d").exists()
    error = message_in(changed.stderr)
    assert "of 18 activations do not match the search index; no figure was written" in error
    assert f"in {peaks[0]['image']} was" in error
    assert error.endswith("The images or the weights have changed. Run the search again")
    (moved / peaks[0]["image"]).unlink()
    assert_error(
        run(*given, tmp_path / "e", "--source", moved, "--channels", 1),
        f"images are not in {moved}: {peaks[0]['image']}. Use --source PLACE to say where they are",
        tmp_path / "e",
    )


def test_other_weights_are_rejected(found, tmp_path):
    from safetensors.torch import save_file

    other = dv.load("minivgg", "random", seed=5)
    save_file(dict(other.module.state_dict()), tmp_path / "other.safetensors")
    result = run(
        found, "-l", "conv4_2", "--weights", tmp_path / "other.safetensors", "--out", tmp_path / "out"
    )
    assert_error(
        result,
        f"deconvviz: the weights of minivgg are not those of {found / 'manifest.json'}: {other.digest} "
        f"instead of {dv.load('minivgg').digest}. Give the right file with --weights FILE",
        tmp_path / "out",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Invalid value for --layer: name a layer that was searched"),
        (
            ["-l", "conv4_2", "--channel", 1, "--by", "density"],
            "Invalid value for --channel: cannot be combined with --channels or --by",
        ),
        (
            ["-l", "conv4_2", "--channel", 1, "--channels", 3],
            "Invalid value for --channel: cannot be combined with --channels or --by",
        ),
        (
            ["-l", "conv4_2", "-l", "conv2_1", "--channel", 1],
            "Invalid value for --channel: needs a single layer, but there are 2. Draw a figure per layer, "
            "or use --channels",
        ),
        (
            ["-l", "conv4_3"],
            "deconvviz: no layer 'conv4_3' in this search of 3 layers: nearest are conv4_2, conv2_1. "
            "Search again with --layer conv4_3",
        ),
        (["-l", "conv4_2", "--channel", 96], "deconvviz: no channel 96 in conv4_2: there are 0 to 95"),
        (["-l", "conv4_2", "--channel", -1], "deconvviz: no channel -1 in conv4_2: there are 0 to 95"),
        (
            ["-l", "conv4_2", "--top", 10],
            "deconvviz: --top 10: the search kept 9 images of each channel. Search again with --top 10",
        ),
        (
            ["-l", "conv4_2", "--memory", "much"],
            "Invalid value for --memory: 'much' is not a memory size: use bytes, or a number with K, M, G or "
            "T, such as 512M",
        ),
    ],
)
def test_mistake_is_reported_before_the_network_is_loaded(found, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr("deconvviz.described_network.ModelRequest", None)
    assert_error(run(found, *arguments, "--out", tmp_path / "out"), message, tmp_path / "out")


def test_out_with_a_wrong_file_type_is_rejected(found, tmp_path):
    jpeg = tmp_path / "figure.jpeg"
    assert_error(
        run(found, "-l", "conv4_2", "--out", jpeg),
        f"{jpeg} is not a figure file: use .png, .svg or .pdf, or an existing folder",
        jpeg,
    )
    svg = tmp_path / "figure.svg"
    assert_error(
        run(found, "-l", "conv4_2", "--out", svg, "--format", "png"),
        f"Invalid value for --format: png does not match --out {svg}",
        svg,
    )


def test_folder_without_a_search_is_rejected(tmp_path):
    for folder, message in (
        ("nothing", "there is no such folder. Run a search with --out FOLDER first"),
        ("", "there is no manifest.json. Run a search with --out FOLDER first"),
    ):
        search = tmp_path / folder
        assert_error(
            run(search, "-l", "conv4_2", "--out", tmp_path / "out"),
            f"deconvviz: no search in {search}: {message}",
            tmp_path / "out",
        )


def test_shell_completes_searched_layers(found, tmp_path):
    from types import SimpleNamespace

    from deconvviz.cli.support.completion import complete_searched_layer

    def complete(arguments, incomplete):
        return complete_searched_layer(SimpleNamespace(params={"search": None}, args=arguments), incomplete)

    assert complete([str(found)], "") == ["conv2_1", "conv4_2", "output"]
    assert complete([str(found)], "conv4") == ["conv4_2"]
    assert complete([str(tmp_path)], "") == complete([], "") == []
    given = SimpleNamespace(params={"search": found}, args=[])
    assert complete_searched_layer(given, "o") == ["output"]


def test_crop_and_medium_are_applied(found, tmp_path):
    out = tmp_path / "one.png"
    options = ("--for", "paper", "--crop", "field", "--out", out)
    result = run(found, "--layer", "conv4_2", "--channels", 2, *options)
    assert result.exit_code == 0, result.output
    style = json.loads(out.with_suffix(".json").read_text())["style"]
    assert (style["crop"], style["medium"], style["dpi"]) == ("field", "paper", 300)
    with Image.open(out) as image:
        assert image.width == pytest.approx(86 / 25.4 * 300, abs=1)
