"""`deconvviz.report`: the content of the file, made of any results."""

from __future__ import annotations

import base64
import json
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.reports import PageReader, projections, write_scene
from helpers.tile_grids import random_curves, random_grid
from matplotlib.figure import Figure
from torch import nn
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.figures.spec.curves import Curves
from deconvviz.figures.spec.panels import Panels

pytestmark = pytest.mark.slow  # together 20 seconds

LAYERS = ("conv2_2", "conv4_2")


@dataclass(frozen=True)
class Experiment:
    """A kind of result that the report has never seen. It uses a known spec."""

    content: Any

    def spec(self) -> Any:
        return self.content

    def figure(self) -> Figure:
        figure = Figure((1, 1))
        figure.patch.set_facecolor("#ff0000")
        return figure

    def arrays(self) -> dict[str, Any]:
        return {}

    def describe(self) -> dict[str, Any]:
        return {"format": "an experiment"}

    def places(self, folder: Path) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class OtherSpec:
    """A spec that the report does not know."""

    title: tuple[str, ...] = ("a new figure", "more")


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return dv.load("minivgg")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def results(net: dv.Network, home: Path) -> list[Any]:
    """Two images at two layers, a comparison, trust, the strongest images of two channels, curves."""
    found: list[Any] = []
    for number in (1, 2):
        found += projections(net, write_scene(home / f"scene {number}.png", number), LAYERS)
    first = home / "scene 1.png"
    found.append(dv.compare(net, first, "conv4_2", units=found[1].units[:2], methods=["deconvnet", "guided"]))
    found.append(dv.trust(net, [first], "conv4_2", 2, ["deconvnet"]))
    channels = [unit.channel for unit in found[0].units[:2]]
    found.append(dv.search(net, "scenes:12", ["conv2_2"], workers=0).topnine("conv2_2", channels, k=4))
    found.append(Experiment(random_curves(2, 3)))
    return found


@pytest.fixture(scope="module")
def page(results: list[Any], net: dv.Network, home: Path) -> PageReader:
    path = dv.report(
        results, home / "all.html", title="Two scenes", notes="One line.\n\nAnother.", network=net
    )
    return PageReader.of(path)


def headings(page: PageReader) -> list[str]:
    return [" ".join(one.text.split()) for one in page.elements if one.tag in ("h1", "h2", "h3")]


def test_parts_are_in_the_order_of_the_contract(page: PageReader) -> None:
    assert headings(page)[:12] == [
        "Two scenes",
        "Network: minivgg",
        "scene 1.png",
        "conv2_2 · 3 units",
        "conv4_2 · 3 units",
        "scene 2.png",
        "conv2_2 · 3 units",
        "conv4_2 · 3 units",
        "Comparisons, trust and experiments",
        "Comparison: minivgg · conv4_2 · scene 1.png",
        "Trust: minivgg · conv4_2 · how far to trust the maps of its units",
        "Experiment: minivgg",
    ]
    assert [one for one in headings(page)[12:] if one] == [
        "How to read this",
        "Limits",
        "Methods",
        "Make it again",
    ]
    assert [" ".join(one.text.split()) for one in page.all("p")][1:3] == ["One line.", "Another."]


def test_network_card_has_all_layers_and_their_fields_to_scale(page: PageReader, net: dv.Network) -> None:
    assert net.digest in page.text and "27, listed below" in page.text
    bars = [one.attributes for one in page.all("rect", "layer")]
    assert len([one for one in bars if "chosen" not in str(one["class"])]) == len(net.layers)
    chosen = [one for one in bars if "chosen" in str(one["class"])]
    heights = [float(str(one["height"])) / 118 for one in chosen]
    fields = [net.layers.find(name).field for name in LAYERS]
    assert heights == pytest.approx([field[0] / 96 for field in fields if field], abs=0.01)
    assert "18 calls of operations in the projections of these layers: 18 exact, 0 approximate" in page.text


def test_sentences_name_the_class_the_layers_and_the_likeness(page: PageReader, results: list[Any]) -> None:
    top = results[0].top_classes[0]
    assert f"minivgg takes this image for {top.name} ({100 * top.probability:.3g} %)." in page.text
    rows = [one.text.split() for one in page.all("tr") if top.others[0].name in one.text]
    assert rows
    assert (
        "Units of 2 layers were projected back to pixels: conv2_2 (3 units) and conv4_2 (3 units)"
        in page.text
    )
    for projection in results[:4]:
        assert f"{projection.likeness.value:.2f}" in page.text
    assert page.text.count("Measured (see Trust): at conv4_2,") == 1
    assert page.text.count("Measured on other images (see Trust): at conv4_2,") == 1


def test_every_unit_is_a_card_with_layer_channel_position_activation_and_rank(
    page: PageReader, results: list[Any]
) -> None:
    cards = [one for one in page.all("figure", "card") if one.attributes.get("id")]
    assert len(cards) == 12
    for number, projection in enumerate(results[:4]):
        for place, unit in enumerate(projection.units):
            text = " ".join(cards[3 * number + place].text.split())
            assert f"channel {unit.channel}at ({unit.y}" in text
            assert f"at ({unit.y}, {unit.x}) · activation {unit.activation:.4g}" in text
            assert f"rank {place + 1} of 3" in text
    names = [one.attributes["aria-label"] for one in page.all("svg", "patch")]
    first = results[0].units[0]
    assert names[0] == (
        f"patch: conv2_2 · channel {first.channel}, at ({first.y}, {first.x}) · "
        f"activation {first.activation:.4g}"
    )


def test_an_image_is_embedded_once_and_patches_are_parts_of_it(page: PageReader, results: list[Any]) -> None:
    image = np.rint(results[0].spec().image * 255)
    ids = [str(one.attributes["id"]) for one in page.all("symbol")]
    same = [id for id in ids if np.array_equal(page.symbol(id), image)]
    assert len(same) == 1
    uses = [one for one in page.all("use") if one.attributes["href"] == f"#{same[0]}"]
    assert len(uses) >= 2 + 6  # the image at two layers, and the patches of six units
    tile = results[0].spec().tiles[0]
    x0, y0, x1, y1 = tile.shown_box
    assert page.all("svg", "patch")[0].attributes["viewbox"] == f"{x0} {y0} {x1 - x0} {y1 - y0}"


def test_projections_have_the_pixels_of_the_figure(page: PageReader, results: list[Any]) -> None:
    from deconvviz.figures.spec.colour import limit_of, to_rgb

    sheet = results[1].spec()
    limit = limit_of([one.projection for one in sheet.tiles], percentile=99.5)
    svgs = [i for i, one in enumerate(page.elements) if one.attributes.get("class") == "projection"]
    for place, tile in enumerate(sheet.tiles):
        use = page.elements[svgs[3 + place] + 1].attributes["href"] or ""
        shown = page.symbol(use[1:])
        assert np.array_equal(shown, np.rint(to_rgb(tile.projection, limit.value) * 255))


def test_cards_show_the_strongest_images_of_their_channel_and_the_result_is_not_repeated(
    page: PageReader, results: list[Any]
) -> None:
    with_more = [one for one in page.all("figure", "card") if "Strongest images" in one.text]
    channels = {unit.channel for unit in results[0].units[:2]}
    second = [unit for unit in results[2].units if unit.channel in channels]
    assert len(with_more) == 2 + len(second)
    assert "Top nine:" not in page.text
    sprites = [one.attributes["aria-label"] for one in page.all("svg", "sprite")]
    channel = results[0].units[0].channel
    assert str(sprites[0]).startswith(
        f"patches of the 4 strongest images of conv2_2 · channel {channel}, activ"
    )


def test_manifests_are_plain_json_and_downloads_are_equal(page: PageReader, results: list[Any]) -> None:
    assert len(page.manifests) == len(results)
    links = [one.attributes for one in page.all("a") if "download" in one.attributes]
    assert len({link["download"] for link in links}) == len(links) == len(results)
    by_file = {one["file"]: one for one in page.manifests}
    for link in links:
        head, _, body = str(link["href"]).partition(",")
        assert head == "data:application/json;base64"
        downloaded = json.loads(base64.b64decode(body))
        assert {"file": link["download"], **downloaded} == by_file[str(link["download"])]
    assert page.manifests[0]["units"] == results[0].describe()["units"]
    assert page.manifests[0]["network"]["digest"] == results[0].network.digest


def test_downloaded_manifest_makes_the_projection_again(
    page: PageReader, results: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "1.json"
    path.write_text(json.dumps(page.manifests[1]))
    again = dv.remake(path).projection
    assert torch.equal(again.pixels, results[1].pixels)


def test_commands_make_the_results_again(page: PageReader, results: list[Any], tmp_path: Path) -> None:
    lines = [one.text for one in page.all("pre") if one.text.startswith("deconvviz ")]
    assert len(lines) == 5  # four projections and the comparison
    for line, result in zip(lines, results, strict=False):
        words = shlex.split(line)[1:]
        done = CliRunner().invoke(app, [*words, "--out", str(tmp_path), "--json", "--dpi", "20"])
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        units = found["figures"][0]["units"] if words[0] == "project" else found["units"]
        expected = [(unit.channel, unit.y, unit.x) for unit in result.units]
        assert [(unit["channel"], unit["y"], unit["x"]) for unit in units] == expected
        for file in tmp_path.iterdir():
            file.unlink()


def test_methods_paragraph_names_network_versions_and_other_methods(page: PageReader) -> None:
    (text,) = [" ".join(one.text.split()) for one in page.all("p", "copied")]
    assert "minivgg (weights shipped with deconvviz, sha256:" in text
    assert f"PyTorch {torch.__version__}" in text
    assert "guided backprop (Springenberg et al." in text
    assert "@inproceedings{zeiler2014visualizing," in page.text


def test_curves_of_an_unknown_experiment_are_lines_and_tables(page: PageReader) -> None:
    plots = [one.attributes["aria-label"] for one in page.all("svg", "plot")]
    assert "conv0_1: distance (normalised) against rotation (degrees), image 0, image 1, image 2" in plots
    assert page.text.count("Numbers of conv0_1") == 0  # a name for assistive technology only
    assert len(page.all("polyline", "curve")) >= 6


def test_page_allows_nothing_from_outside(page: PageReader) -> None:
    (policy,) = [
        str(one.attributes["content"])
        for one in page.all("meta")
        if one.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    assert re.fullmatch(r"'sha256-[^']+'", rules["script-src"])
    assert not [one for one in page.elements if "style" in one.attributes]
    addresses = [v for one in page.elements for k, v in one.attributes.items() if k in ("src", "href")]
    assert all(str(one).startswith(("#", "data:")) for one in addresses)


def test_panels_are_tile_grids_and_curves_with_their_titles(tmp_path: Path) -> None:
    grid, lines = random_grid(2, 3, title=("a grid",)), random_curves(1, 2, title=("some curves", "more"))
    page = PageReader.of(
        dv.report(Experiment(Panels(("both",), ((grid, lines), (lines,)))), tmp_path / "a.html")
    )
    assert [one.text for one in page.all("h4")] == ["a grid", "some curves", "some curves"]
    assert len(page.all("table", "tiles")) == 1 and len(page.all("svg", "plot")) == 2
    assert not page.all("svg", "drawn")


def test_unknown_spec_is_shown_as_the_figure_of_the_result(tmp_path: Path) -> None:
    page = PageReader.of(dv.report(Experiment(OtherSpec()), tmp_path / "a.html"))
    assert "Experiment: a new figure" in headings(page)
    (drawn,) = page.all("svg", "drawn")
    assert drawn.attributes["aria-label"] == "Figure: a new figure · more"
    (symbol,) = page.all("symbol")
    pixels = page.symbol(str(symbol.attributes["id"]))
    assert pixels.shape == (150, 150, 3) and (pixels == (255, 0, 0)).all()


def test_report_of_one_result_without_network_shows_the_fields_of_its_units(
    results: list[Any], tmp_path: Path
) -> None:
    page = PageReader.of(dv.report(results[0], tmp_path / "a.html"))
    assert headings(page)[0] == "Report on scene 1.png · minivgg"
    assert "The layers of the results, by the size of their receptive fields." in page.text
    assert "All operations in the projections are exact." in page.text
    assert not page.all("rect", "without")


def test_projection_of_several_images_has_cards_without_an_image(net: dv.Network, tmp_path: Path) -> None:
    recording = net.record([np.zeros((96, 96, 3), np.uint8), np.full((96, 96, 3), 200, np.uint8)], "conv1_1")
    units = [dv.Unit(number, 0, 4, 4) for number in (0, 1)]
    page = PageReader.of(dv.report(recording.project("conv1_1", units), tmp_path / "a.html"))
    assert len(page.all("figure", "card")) == 2 and not page.all("figure", "beside")
    assert "can only be made again by the Python program" in page.text


def test_results_of_two_networks_have_a_card_each(net: dv.Network, tmp_path: Path, home: Path) -> None:
    torch.manual_seed(0)
    small = dv.Network(nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU()), size=96, name="<small>")
    image = write_scene(home / "scene 1.png", 1)
    both = [projections(net, image, ("conv1_1",))[0], projections(small, image, ("0",))[0]]
    page = PageReader.of(dv.report(both, tmp_path / "a.html", network=small))
    assert [one for one in headings(page) if one.startswith("Network")] == [
        "Network: minivgg",
        "Network: <small>",
    ]
    assert headings(page).count("scene 1.png") == 2
    assert "It is not known what <small> takes this image for" in page.text


def test_likeness_that_is_not_known_is_said(results: list[Any], tmp_path: Path) -> None:
    page = PageReader.of(dv.report(replace(results[0], likeness=None), tmp_path / "a.html"))
    assert "the report does not know how alike the projections of other units are" in page.text


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([], dv.DeconvvizError, "at least one result"),
        ([1], dv.DeconvvizError, "result 1 is int, which cannot be drawn"),
        ("results", dv.DeconvvizError, "a report is made of results, not of str"),
        (None, dv.DeconvvizError, "not of NoneType"),
        ([Curves], dv.DeconvvizError, "result 1 is type"),
    ],
)
def test_things_that_are_not_results_are_refused(
    given: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        dv.report(given, tmp_path / "new" / "a.html")
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_found_before_anything_is_written(
    results: list[Any], net: dv.Network, tmp_path: Path
) -> None:
    taken = tmp_path / "taken.html"
    taken.write_text("mine")
    other = dv.load("minivgg", "random")
    for path, settings, message in (
        (taken, {}, "already exists"),
        (tmp_path, {}, "it is a folder"),
        (tmp_path / "a.pdf", {}, "not the name of a web page"),
        (tmp_path / "a.html", {"network": other}, "no result is from the network minivgg"),
        (tmp_path / "a.html", {"title": 3}, "the title must be text"),
    ):
        with pytest.raises(dv.DeconvvizError, match=message):
            dv.report(results[:1], path, **settings)  # type: ignore[arg-type]
    assert taken.read_text() == "mine" and list(tmp_path.iterdir()) == [taken]
    dv.report(results[:1], taken, force=True)
    assert taken.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_description_that_is_not_json_is_refused(tmp_path: Path) -> None:
    class Odd(Experiment):
        def describe(self) -> dict[str, Any]:
            return {"value": float("nan")}

    with pytest.raises(dv.DeconvvizError, match=r"result 1 \(Odd\) has a description that is not plain JSON"):
        dv.report(Odd(OtherSpec()), tmp_path / "a.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["resnet152", "densenet121"])
def test_strip_of_a_deep_network_has_a_bar_for_each_layer(name: str) -> None:
    from deconvviz.web.report.network_card import Asked, card_of, with_network

    net = dv.load(name, "random")
    layers = net.layers.names[3 :: len(net.layers) // 4]
    asked = [Asked(layer, (224, 224)) for layer in layers]
    card = with_network(card_of([{"network": net.info().to_json()}], asked), net, asked)
    assert card.strip is not None and card.strip.side == 224
    assert len(card.strip.bars) == len(net.layers) == len(card.layers) > 300
    assert [one.name for one in card.strip.chosen] == layers
    last = card.strip.bars[-1]
    assert last.x + last.width <= 100 and last.kind == "whole" and last.height == 1
    assert all(0 < bar.height <= 1 for bar in card.strip.bars)


def test_numbers_of_near_layers_are_in_different_rows() -> None:
    from deconvviz.web.report.network_card import Asked, card_of, with_network

    net = dv.load("alexnet", "random")
    layers = net.layers.names[:4]
    asked = [Asked(layer, (11, 11)) for layer in layers]
    card = with_network(card_of([{"network": net.info().to_json()}], asked), net, asked)
    assert card.strip is not None
    for one in card.strip.chosen:
        near = [b for b in card.strip.chosen if b is not one and b.row == one.row and abs(b.x - one.x) < 4]
        assert near == []
