"""Atlas: its numbers and images equal those of the search and of a top-nine figure."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.atlases import FIRST, HOSTILE, LAYERS, HostileNoise, Page, contents, hostile_network, numbers
from PIL import Image

import deconvviz as dv
from deconvviz.dataset_search.result import Search
from deconvviz.errors import OutputError, SearchError, UnitError
from deconvviz.figures.spec.colour import Limit
from deconvviz.trust_measures.statistics import absolute_correlations
from deconvviz.web.atlas.addresses import folder_of, image_of
from deconvviz.web.atlas.check import check_atlas
from deconvviz.web.atlas.tiles import Tiles, sprite, tile_in

pytestmark = pytest.mark.slow
COUNT = 40


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return hostile_network()


@pytest.fixture(scope="module")
def found(net: dv.Network) -> Search:
    return dv.search(net, HostileNoise(COUNT), LAYERS, workers=0)


@pytest.fixture(scope="module")
def site(found: Search, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("atlas") / "site"
    made = dv.atlas(found, folder)
    assert made.layers == dict(zip(LAYERS, (6, 6, 5, 4), strict=True))
    assert made.index == folder / "index.html"
    return folder


def test_every_channel_has_a_page_numbers_and_tiles(site: Path, found: Search) -> None:
    for layer, count in found.layers.items():
        names = {path.name for path in (site / folder_of(layer)).iterdir()}
        silent = {channel for channel in range(count) if not found.top(layer, channel)}
        expected = {f"{channel}.{kind}" for channel in range(count) for kind in ("html", "json", "webp")}
        expected -= {f"{channel}.webp" for channel in silent}
        assert names == expected | {"index.html", "files.json", "patches-0.webp", "projections-0.webp"}
    assert check_atlas(site).faults == ()


def test_numbers_equal_those_of_the_search(site: Path, found: Search) -> None:
    rows = {(row["layer"], row["channel"]): row for row in found.channels.to_pylist()}
    for layer, count in found.layers.items():
        for channel in range(count):
            unit = numbers(site, folder_of(layer), channel)
            peaks = found.top(layer, channel)
            kept = ("rank", "activation", "image", "y", "x")
            assert [[one[name] for name in kept] for one in unit["peaks"]] == [
                [one.rank, one.activation, one.image_id, one.y, one.x] for one in peaks
            ]
            assert [one["label"] for one in unit["peaks"]] == [found.labels[one.image_id] for one in peaks]
            for name in ("maximum", "mean", "density", "dead"):
                assert unit[name] == rows[layer, channel][name]
            edges, counts = found.histogram(layer, channel)
            bins = unit["histogram"]
            assert bins["counts"] == counts[: len(bins["counts"])].tolist() and sum(bins["counts"]) == COUNT
            assert (bins["start"], bins["width"]) == (edges[0], edges[1] - edges[0])
            labels = Counter(found.labels[one.image_id] for one in peaks)
            labels.pop(None, None)
            assert dict(map(tuple, unit["classes"])) == labels
            assert unit["purity"] == (max(labels.values()) / sum(labels.values()) if labels else None)
            means = found.class_means(layer, channel)
            assert [mean for _, mean in unit["class_means"]] == sorted(means.values(), reverse=True)[:5]
            assert all(means[label] == mean for label, mean in unit["class_means"])
            similar = [(one["channel"], one["similarity"]) for one in unit["similar"]]
            assert similar == [
                (other, pytest.approx(value, abs=1e-4))
                for _, other, value in found.similar(layer, channel, 6)
            ]


def test_tiles_equal_the_crops_of_a_top_nine_figure(site: Path, found: Search) -> None:
    channels = [1, 2, 3]
    (panel,) = found.topnine("relu", channels).spec(percentile=99.5).panels
    for channel, block in zip(channels, panel.blocks, strict=True):
        unit = numbers(site, "relu", channel)
        tiles = unit["tiles"]
        assert len(block.crops) == len(unit["peaks"]) == tiles["columns"]
        limit = tiles["limit"]
        values = np.concatenate([np.abs(crop.projection).ravel() for crop in block.crops])
        assert limit == pytest.approx(np.percentile(values[values > 0], 99.5, method="higher"), rel=1e-5)
        with Image.open(site / "relu" / f"{channel}.webp") as stored:
            sheet = np.asarray(stored.convert("RGB")).astype(float)
        across, down = tiles["cell"]
        for column, crop in enumerate(block.crops):
            height, width = crop.size
            assert (height, width) == (tiles["height"], tiles["width"])  # small, so stored without loss
            place = slice(column * across, column * across + width)
            patch, projection = sheet[:height, place], sheet[down : down + height, place]
            assert np.abs(patch - 255 * crop.patch).max() <= 0.51
            grey = 127.5 * (1 + np.clip(crop.projection / limit, -1, 1))
            assert np.abs(projection - grey).max() <= 0.51


def test_likeness_compares_with_the_two_strongest_other_channels(
    site: Path, found: Search, net: dv.Network
) -> None:
    source = HostileNoise(COUNT)
    for channel in (2, 3, 4):
        peak = found.top("relu", channel)[0]
        recording = net.record([source.image(source.names.index(peak.image_id))], ["relu"])
        here = recording.activations("relu")[0, :, peak.y, peak.x]
        order = [int(one) for one in here.argsort(descending=True) if int(one) != channel and here[one] > 0][
            :2
        ]
        likeness = numbers(site, "relu", channel)["likeness"]
        assert likeness["channels"] == order
        units = [dv.Unit(0, one, peak.y, peak.x) for one in [channel, *order]]
        x0, y0, x1, y1 = peak.box or (0, 0, 16, 16)
        pixels = recording.project("relu", units).pixels[:, :, y0:y1, x0:x1].numpy()
        expected = absolute_correlations(pixels[:1], pixels[1:]).mean()
        assert likeness["value"] == pytest.approx(float(expected), abs=2e-4)


def test_whole_images_are_shared_and_contain_what_the_network_sees(site: Path, found: Search) -> None:
    shown = {image for layer in LAYERS for c in range(found.layers[layer]) for image in ids(found, layer, c)}
    assert {f"images/{path.name}" for path in (site / "images").iterdir()} == set(map(image_of, shown))
    source = HostileNoise(COUNT)
    for image in sorted(shown)[:3]:
        with Image.open(site / image_of(image)) as stored:
            pixels = np.asarray(stored.convert("RGB")).astype(float)
        whole = source.image(source.names.index(image)).rgb.astype(float)
        assert pixels.shape == whole.shape
        assert np.corrcoef(pixels.mean(2).ravel(), whole.mean(2).ravel())[0, 1] > 0.8


def ids(found: Search, layer: str, channel: int) -> list[str]:
    return [peak.image_id for peak in found.top(layer, channel)]


def test_dead_and_rarely_active_channels_are_described(site: Path) -> None:
    dead, rare = (Page(site / "relu" / f"{channel}.html") for channel in (0, 1))
    assert "This channel is dead: it is above zero on none of the 40 images." in dead.text
    assert not (site / "relu" / "0.webp").exists()
    assert "Only 6 images of 40 activate this channel." in rare.text
    assert len([label for label in rare.labels if "activation" in label]) == 6


def test_fully_connected_units_have_no_position(site: Path) -> None:
    page = Page(site / "fc" / "0.html")
    peak = numbers(site, "fc", 0)["peaks"][0]
    assert (peak["y"], peak["x"]) == (None, None)
    assert "class 0" in page.text and "relative" not in page.text


def test_hostile_names_are_shown_as_text(site: Path) -> None:
    page = Page(site / folder_of(FIRST) / "2.html")
    assert f"{FIRST} · channel 2" in page.text and "<i>net</i>" in page.text
    seen = "".join(Page(path).text for path in sorted(site.rglob("*.html")))
    escaped = (r"\xe2\x80\xaegnp", r"line\x0abreak", r"half a pair \xed\xa0\x80 (class 3)")
    for name in (HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[6], *escaped):
        assert name in seen


def test_index_names_layers_that_are_searched_and_absent(found: Search, site: Path, tmp_path: Path) -> None:
    dv.atlas(found, tmp_path / "site", ["relu"])
    text = Page(tmp_path / "site" / "index.html").text
    assert f"Searched, but not in this atlas: {FIRST}, site, fc." in text
    assert "Searched, but not in this atlas" not in Page(site / "index.html").text


def test_layers_that_are_added_make_the_same_atlas(found: Search, site: Path, tmp_path: Path) -> None:
    for layer in (LAYERS[2], LAYERS[0], LAYERS[3], LAYERS[1]):
        dv.atlas(found, tmp_path / "site", layer)
    assert contents(tmp_path / "site") == contents(site)


def test_existing_layer_is_refused_before_anything_is_written(found: Search, tmp_path: Path) -> None:
    dv.atlas(found, tmp_path / "site", ["fc"])
    before = contents(tmp_path / "site")
    with pytest.raises(
        OutputError, match=r"already contains fc. Continue with resume=True, make these layers"
    ):
        dv.atlas(found, tmp_path / "site", ["relu", "fc"])
    assert contents(tmp_path / "site") == before


def test_force_makes_layers_again_and_deletes_pages_that_are_no_longer_made(
    found: Search, tmp_path: Path
) -> None:
    dv.atlas(found, tmp_path / "site", ["relu", "fc"])
    (tmp_path / "site" / "relu" / "2.json").write_text("{}")
    dv.atlas(found, tmp_path / "site", ["relu"], channels=2, force=True)
    pages = {path.name for path in (tmp_path / "site" / "relu").glob("*.html")}
    best = sorted(found.choose("relu", 2))
    assert pages == {"index.html", *(f"{channel}.html" for channel in best)}
    assert check_atlas(tmp_path / "site").faults == ()


def test_resume_makes_missing_files_again(found: Search, site: Path, tmp_path: Path) -> None:
    dv.atlas(found, tmp_path / "site")
    for name in ("relu/3.html", "fc/1.webp", "site/style.css", image_of(found.top("fc", 2)[0].image_id)):
        (tmp_path / "site" / name).unlink()
    dv.atlas(found, tmp_path / "site", resume=True)
    assert contents(tmp_path / "site") == contents(site)


def test_resume_with_other_settings_is_refused(found: Search, tmp_path: Path) -> None:
    dv.atlas(found, tmp_path / "site", ["fc"], top=3)
    with pytest.raises(OutputError, match="other settings: images for each channel 3 before, 4 now"):
        dv.atlas(found, tmp_path / "site", ["fc"], top=4, resume=True)


def test_atlas_of_another_search_is_refused_even_with_force(found: Search, tmp_path: Path) -> None:
    dv.atlas(found, tmp_path / "site", ["fc"])
    other = dv.search(hostile_network(), HostileNoise(20), ["fc"], workers=0)
    with pytest.raises(OutputError, match=r"atlas of another search: .*number of images 40 before, 20 now"):
        dv.atlas(other, tmp_path / "site", force=True, network=hostile_network())


def test_numbers_that_are_impossible_are_refused(found: Search, tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="cannot show the 10 strongest images: the search kept 9"):
        dv.atlas(found, tmp_path / "site", top=10)
    with pytest.raises(UnitError, match="invalid number of channels 0"):
        dv.atlas(found, tmp_path / "site", channels=0)
    with pytest.raises(SearchError, match="no layer 'conv9' in this search"):
        dv.atlas(found, tmp_path / "site", ["conv9"])
    with pytest.raises(UnitError, match="invalid number of processes 0"):
        dv.atlas(found, tmp_path / "site", jobs=0)
    assert not (tmp_path / "site").exists()


def test_old_searches_say_what_they_lack(net: dv.Network, found: Search, tmp_path: Path) -> None:
    found.save(tmp_path / "search")
    for name in ("statistics", "images"):
        (tmp_path / "search" / f"{name}.parquet").unlink()
    manifest = json.loads((tmp_path / "search" / "manifest.json").read_text())
    (tmp_path / "search" / "manifest.json").write_text(
        json.dumps({**manifest, "format": "deconvviz search 2"})
    )
    old = dv.open_search(tmp_path / "search", network=net, source=HostileNoise(COUNT))
    assert old.lacks == ("histogram", "labels", "class_means", "similar")
    dv.atlas(old, tmp_path / "site", ["relu"])
    assert check_atlas(tmp_path / "site").faults == ()
    text = "This search lacks the histogram of the peaks, the labels of the images, the mean peaks of the"
    for name in ("index.html", "relu/index.html", "relu/2.html", "relu/0.html"):
        assert text in Page(tmp_path / "site" / name).text
    unit = numbers(tmp_path / "site", "relu", 2)
    assert [unit[name] for name in ("histogram", "purity", "class_means", "similar")] == [None] * 4


def test_check_finds_removed_and_damaged_files(site: Path, tmp_path: Path) -> None:
    copy = tmp_path / "site"
    for name, data in contents(site).items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(data)
    whole = check_atlas(copy)
    assert whole.faults == () and whole.files == len(contents(site)) - len(LAYERS) - 1 and whole.links > 500
    (copy / "relu" / "3.html").unlink()
    damaged = bytearray((copy / "fc" / "1.webp").read_bytes())
    damaged[-1] ^= 1
    (copy / "fc" / "1.webp").write_bytes(damaged)
    (copy / "fc" / "2.json").write_text("short")
    (copy / folder_of(FIRST) / "files.json").write_text("{")
    faults = check_atlas(copy).faults
    assert "relu/3.html is missing" in faults
    assert "fc/1.webp has other contents than were written" in faults
    assert any(fault.startswith("fc/2.json has 5 bytes instead of") for fault in faults)
    assert f"{folder_of(FIRST)}/files.json is damaged" in faults
    linking = {fault.partition(":")[0] for fault in faults if fault.endswith("3.html leads to no file")}
    assert {"relu/2.html", "relu/4.html", "relu/index.html"} <= linking
    with pytest.raises(OutputError, match="no atlas in"):
        check_atlas(tmp_path)


def test_tiles_are_not_enlarged_and_at_most_96_pixels(site: Path) -> None:
    for path in site.rglob("*.json"):
        unit = json.loads(path.read_text())
        if unit.get("tiles"):
            crops = [one["crop"] for one in unit["peaks"]]
            assert unit["tiles"]["width"] == max(x1 - x0 for x0, _, x1, _ in crops) <= 96
            assert unit["tiles"]["scale"] == 1
            with Image.open(io.BytesIO(path.with_suffix(".webp").read_bytes())) as stored:
                across, down = unit["tiles"]["cell"]
                assert stored.size == (across * len(crops), down * 2)


@pytest.mark.parametrize(("side", "stored", "scale"), [(16, 16, 1), (17, 34, 2), (48, 96, 2), (49, 49, 1)])
def test_tiles_in_a_file_are_those_that_were_given(side: int, stored: int, scale: int) -> None:
    random = np.random.default_rng(side)
    smooth = np.linspace(0, 255, side).astype(np.uint8)
    colours = [random.permutation([0, 128, 255]).astype(np.uint8) for _ in range(6)]
    tiles = [np.minimum(smooth[:, None, None], colour) for colour in colours]
    tiles = [np.broadcast_to(tile, (side, side, 3)) for tile in tiles]
    data, geometry = sprite(Tiles(tuple(tiles[:3]), tuple(tiles[3:]), ((0, 0, side, side),) * 3, Limit(1.0)))
    assert (geometry.width, geometry.height, geometry.scale) == (stored, stored, scale)
    with Image.open(io.BytesIO(data)) as image:
        sheet = image.convert("RGB")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, 3)
        found = np.asarray(tile_in(sheet, geometry, column, row)).astype(float)
        assert np.abs(found - tile.repeat(scale, 0).repeat(scale, 1)).mean() < (0.01 if side == 16 else 6)
