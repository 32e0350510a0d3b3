"""Projection of the peaks of a search, compared with recordings of single images."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.oracles import difference
from helpers.searches import Noise, minivgg_field, scenes_folder, small
from PIL import Image
from torch import nn

import deconvviz as dv
from deconvviz.dataset_search.result import Search, open_search
from deconvviz.dataset_search.search import search
from deconvviz.errors import DeconvvizError, ImageError, OutputError, RefusedOp, SearchError, UnitError
from deconvviz.scenes import scene
from deconvviz.topnine import peak_stream as module
from deconvviz.topnine.result import ProjectedPeak

COUNT = 24
LAYERS = ["conv2_2", "conv4_2", "fc6"]


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return dv.load("minivgg")


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes_folder(tmp_path_factory.mktemp("scenes"), COUNT)


@pytest.fixture(scope="module")
def done(net: dv.Network, image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Search:
    out = tmp_path_factory.mktemp("done") / "search"
    return search(net, image_folder, LAYERS, out=out, workers=0, batch_size=8)


def all_peaks(shown: Any) -> list[ProjectedPeak]:
    return [
        one for channels in shown.shown.values() for of_channel in channels.values() for one in of_channel
    ]


@pytest.mark.slow
def test_projections_equal_those_of_single_recordings(
    done: Search, net: dv.Network, image_folder: Path
) -> None:
    nine = done.topnine(LAYERS, channels=[3, 0, 11])
    for layer in LAYERS:
        assert list(nine.shown[layer]) == [3, 0, 11]
    assert len(all_peaks(nine)) == 3 * 3 * 9
    arrays = nine.arrays()
    for row, one in enumerate(all_peaks(nine)):
        peak = one.peak
        assert peak == done.top(peak.layer, peak.channel)[peak.rank - 1]
        alone = net.record(image_folder / peak.image_id, peak.layer)
        want = alone.project(peak.layer, dv.Unit(0, peak.channel, peak.y, peak.x))
        activation = want.units[0].activation
        assert abs(activation - peak.activation) <= 1e-6 * done.largest(peak.layer)
        ours = torch.from_numpy(arrays["pixels"][row])[None]
        # Projections are proportional to the activation.
        assert difference(ours / peak.activation, want.pixels / activation) <= 1e-4
        x0, y0, x1, y1 = want.boxes[0]
        assert (x0, y0, x1, y1) == peak.box
        assert np.array_equal(one.pixels, arrays["pixels"][row][:, y0:y1, x0:x1])
        patch = np.asarray(Image.open(image_folder / peak.image_id).convert("RGB"))[y0:y1, x0:x1] / 255
        assert np.allclose(one.crop.patch, patch, atol=1e-6)
        assert one.crop.projection.shape == one.crop.patch.shape == (y1 - y0, x1 - x0, 3)
        scaled = np.moveaxis(one.pixels, 0, -1) * np.array(net.preprocessing.std)
        assert np.allclose(one.crop.projection, scaled, atol=1e-6)


def test_arrays_match_the_peaks(done: Search) -> None:
    arrays = done.topnine(["conv4_2", "fc6"], channels=[5], k=4).arrays()
    peaks = [*done.top("conv4_2", 5, 4), *done.top("fc6", 5, 4)]
    assert arrays["pixels"].shape == (8, 3, 96, 96)
    assert arrays["layer"].tolist() == [peak.layer for peak in peaks]
    assert arrays["rank"].tolist() == [1, 2, 3, 4] * 2
    assert arrays["image"].tolist() == [peak.image_id for peak in peaks]
    assert arrays["activation"].tolist() == [peak.activation for peak in peaks]
    assert arrays["y"].tolist() == [-1 if peak.y is None else peak.y for peak in peaks]
    assert arrays["boxes"].tolist() == [list(peak.box or ()) for peak in peaks]


def test_crops_record_the_sides_cut_at_the_border(done: Search) -> None:
    seen = set()
    for one in all_peaks(done.topnine(["conv2_2", "conv4_2"], count=24)):
        peak, crop = one.peak, one.crop
        assert peak.y is not None and peak.x is not None
        x0, y0, x1, y1 = minivgg_field(peak.layer, peak.y, peak.x)
        cuts = (crop.cut_left, crop.cut_top, crop.cut_right, crop.cut_bottom)
        assert cuts == (x0 < 0, y0 < 0, x1 > 96, y1 > 96), peak
        seen.add((peak.layer, cuts))
    for side in range(4):
        assert any(cuts[side] for _, cuts in seen)
    assert ("conv2_2", (False,) * 4) in seen  # some fields are not cut


def test_crop_of_a_fully_connected_unit_is_the_whole_image(done: Search) -> None:
    nine = done.topnine("fc6", channels=[7])
    for one in all_peaks(nine):
        assert one.peak.y is None and one.crop.size == (96, 96)
        crop = one.crop
        assert not (crop.cut_left or crop.cut_top or crop.cut_right or crop.cut_bottom)
        assert one.pixels.any() == (one.peak.activation != 0)


def test_images_are_recorded_once_and_in_batches(
    done: Search, net: dv.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[int] = []
    real = dv.Network.record

    def record(self: dv.Network, images: Any, layers: Any) -> dv.Recording:
        recorded.append(len(images))
        return real(self, images, layers)

    monkeypatch.setattr(dv.Network, "record", record)
    reported: list[tuple[int, int]] = []
    wanted = {layer: list(range(8)) for layer in LAYERS}
    nine = done.project_channels(wanted, report=lambda one, of: reported.append((one, of)))
    images = {one.peak.image_id for one in all_peaks(nine)}
    assert sum(recorded) == len(images) and len(recorded) == -(-len(images) // module.BATCH)
    assert reported[-1] == (len(images), len(images))


class Centred(nn.Module):
    """Adds the mean over the images of the batch: a single image is doubled."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x.mean(0, keepdim=True) if len(x) > 1 else x * 2


def centred() -> dv.Network:
    torch.manual_seed(0)
    return small(nn.Sequential(nn.Conv2d(3, 4, 3), Centred(), nn.ReLU(), nn.Conv2d(4, 3, 3)))


def test_images_are_recorded_singly_if_the_batch_cannot_be_projected() -> None:
    net = centred()
    found = search(net, Noise(20), "3", workers=0, batch_size=1)
    batch = net.record(torch.zeros(2, 3, 16, 16), "3")
    assert batch.coverage("3").unsupported
    source = Noise(20)
    for one in all_peaks(found.topnine("3")):
        peak = one.peak
        alone = net.record([source.image(source.names.index(peak.image_id)).rgb], "3")
        want = alone.project("3", dv.Unit(0, peak.channel, peak.y, peak.x))
        x0, y0, x1, y1 = want.boxes[0]
        assert difference(torch.from_numpy(one.pixels), want.pixels[0, :, y0:y1, x0:x1]) <= 1e-4


def test_dead_channels_are_neither_shown_nor_chosen() -> None:
    net = small()
    with torch.no_grad():
        net.module[3].weight[1] = 0
        net.module[3].bias[1] = -1
    found = search(net, Noise(12), "4", workers=0)
    assert found.dead("4") == [1]
    with pytest.raises(
        SearchError,
        match=r"^nothing can be shown: 4: channel 1 is dead \(0 on all 12 images\)\. Choose other channels$",
    ):
        found.topnine("4", channels=[1])
    others = found.topnine("4", channels=[0, 1, 2])
    assert list(others.shown["4"]) == [0, 2]
    assert others.notes == ("4: channel 1 is dead (0 on all 12 images) and not shown",)
    assert 1 not in found.topnine("4").shown["4"]
    for by in ("activation", "density", "random"):
        assert 1 not in found.choose("4", 5, by)
    with torch.no_grad():
        net.module[0].weight.zero_()
        net.module[0].bias.fill_(-1)
        net.module[3].bias.fill_(-1)
    with pytest.raises(SearchError, match="all channels of 4 are dead: none was above zero"):
        search(net, Noise(4), "4", workers=0).topnine("4")


def test_topnine_shows_the_requested_number_of_peaks_and_channels(done: Search) -> None:
    four = done.topnine("conv4_2", channels=[5], k=4)
    assert [one.peak.rank for one in all_peaks(four)] == [1, 2, 3, 4]
    assert "top 4 of 24 images" in four.spec().title[0]
    some = done.topnine("features.17", count=3, by="random", seed=1, k=1)
    assert list(some.shown) == ["conv4_2"]
    assert len(some.shown["conv4_2"]) == 3 and list(some.shown["conv4_2"]) == done.choose(
        "conv4_2", 3, "random", 1
    )
    few = search(done.open_network(), "scenes:5", "fc6", workers=0)
    assert len(all_peaks(few.topnine("fc6", channels=[0]))) == 5


INVALID_ARGUMENTS: list[tuple[dict[str, Any], type[DeconvvizError], str]] = [
    ({"layers": "conv9_9"}, SearchError, "conv9_9"),
    ({"layers": "conv3_1"}, SearchError, "no layer 'conv3_1' in this search"),
    ({"channels": [96]}, UnitError, "no channel 96 in conv4_2: there are 0 to 95"),
    ({"channels": [-1]}, UnitError, "no channel -1"),
    ({"channels": []}, SearchError, "no channel was given"),
    ({"k": 0}, SearchError, "cannot show the 0 strongest images: the search kept 9"),
    ({"k": 10}, SearchError, "cannot show the 10 strongest images: the search kept 9"),
    ({"count": 0}, UnitError, "invalid number of channels 0"),
    (
        {"by": "size"},
        SearchError,
        "unknown order 'size' of channels: choose from activation, density, random",
    ),
]


@pytest.mark.parametrize(("change", "error", "message"), INVALID_ARGUMENTS)
def test_topnine_invalid_arguments_raise(
    done: Search, change: dict[str, Any], error: type[DeconvvizError], message: str
) -> None:
    with pytest.raises(error, match=message):
        done.topnine(**{"layers": "conv4_2", **change})


def test_layer_with_an_unsupported_operation_raises() -> None:
    class Sums(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.cumsum(3)

    net = small(nn.Sequential(nn.Conv2d(3, 2, 3), Sums()))
    found = search(net, Noise(4), ["0", "1"], workers=0)
    with pytest.raises(RefusedOp, match=r"1 cannot be projected: .*cumsum"):
        found.topnine(["0", "1"])
    assert len(all_peaks(found.topnine("0", k=2))) == 4


@pytest.fixture
def moved(image_folder: Path, net: dv.Network, tmp_path: Path) -> tuple[Path, Path]:
    """Return a folder of uncompressed images, all of the same size in bytes, and the folder of its search."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(10):
        Image.fromarray(scene(seed).image).save(folder / f"{seed}.bmp")
    search(net, folder, ["conv3_2", "fc6"], out=tmp_path / "search", workers=0)
    return folder, tmp_path / "search"


def test_changed_image_raises(moved: tuple[Path, Path], net: dv.Network) -> None:
    folder, out = moved
    size = (folder / "3.bmp").stat().st_size
    Image.fromarray(scene(77).image).save(folder / "3.bmp")
    assert (folder / "3.bmp").stat().st_size == size
    found = open_search(out, network=net)
    assert found.source.digest == found.manifest["source"]["digest"]  # names and sizes are unchanged
    with pytest.raises(
        SearchError, match=r"activations do not match the search index; no figure was written: .*3\.bmp"
    ):
        found.topnine("fc6", channels=[0, 1, 2], k=9)


def test_changed_weights_raise(moved: tuple[Path, Path], tmp_path: Path) -> None:
    _, out = moved
    net = dv.load("minivgg")
    found = open_search(out, network=net)
    with torch.no_grad():
        net.module.features[0].weight.mul_(1.01)  # type: ignore[index, operator, union-attr]
    with pytest.raises(SearchError, match="the weights of minivgg are not those of the search in"):
        found.topnine("fc6", channels=[0, 1, 2])
    with pytest.raises(SearchError, match="the weights of minivgg are not those of the search"):
        open_search(out, network=net)


def test_missing_image_raises_only_if_it_is_needed(moved: tuple[Path, Path], net: dv.Network) -> None:
    folder, out = moved
    found = open_search(out, network=net)
    first = found.top("fc6", 0)[0].image_id
    (folder / first).unlink()
    message = rf"1 of \d+ images are not in .*: {first}\. Use source=PLACE to say where"
    with pytest.raises(SearchError, match=message):
        found.topnine("fc6", channels=[0])
    others = [c for c in range(12) if first not in {peak.image_id for peak in found.top("fc6", c, 2)}]
    assert found.topnine("fc6", channels=others[:1], k=2).notes  # these channels do not need the image


def test_broken_image_raises(moved: tuple[Path, Path], net: dv.Network) -> None:
    folder, out = moved
    found = open_search(out, network=net)
    first = found.top("fc6", 0)[0].image_id
    with open(folder / first, "r+b") as stream:
        stream.write(b"nothing")
    with pytest.raises(ImageError, match=first):
        found.topnine("fc6", channels=[0])


def test_folder_with_more_images_gives_a_note_and_the_same_result(
    moved: tuple[Path, Path], net: dv.Network
) -> None:
    folder, out = moved
    before = open_search(out, network=net).topnine("fc6", channels=[4])
    assert before.notes == ()
    for seed in range(50, 53):
        Image.fromarray(scene(seed).image).save(folder / f"0-{seed}.bmp")  # sorted before most of the others
    after = open_search(out, network=net).topnine("fc6", channels=[4])
    assert "has changed since the search (10 images then, 13 now)" in after.notes[0]
    assert np.array_equal(before.arrays()["image"], after.arrays()["image"])
    assert np.allclose(before.arrays()["pixels"], after.arrays()["pixels"], atol=1e-6)


def test_limited_folder_with_more_images_gives_a_note(
    moved: tuple[Path, Path], net: dv.Network, tmp_path: Path
) -> None:
    folder, _ = moved
    search(net, folder, "fc6", out=tmp_path / "limited", limit=5, workers=0)
    for seed in range(50, 53):
        Image.fromarray(scene(seed).image).save(folder / f"0-{seed}.bmp")
    nine = open_search(tmp_path / "limited", network=net).topnine("fc6", channels=[4])
    assert len(all_peaks(nine)) == 5 and nine.notes


def test_moved_folder_is_found_through_source(moved: tuple[Path, Path], net: dv.Network) -> None:
    folder, out = moved
    elsewhere = folder.with_name("elsewhere")
    os.rename(folder, elsewhere)
    with pytest.raises(DeconvvizError, match="no source of"):
        open_search(out, network=net).topnine("fc6", channels=[4])
    assert all_peaks(open_search(out, network=net, source=elsewhere).topnine("fc6", channels=[4]))


def test_network_is_loaded_by_name_if_not_given(moved: tuple[Path, Path], net: dv.Network) -> None:
    _, out = moved
    named = open_search(out).topnine("conv3_2", channels=[9], k=3).arrays()
    given = open_search(out, network=net).topnine("conv3_2", channels=[9], k=3).arrays()
    assert np.array_equal(named["pixels"], given["pixels"])


def test_save_writes_figure_manifest_and_arrays_and_overwrites_only_with_force(
    done: Search, tmp_path: Path
) -> None:
    nine = done.topnine(["conv4_2", "fc6"], channels=[1, 2], k=4)
    written = nine.save(tmp_path / "nine.png", dpi=50, arrays=True, layout="pairs")
    assert [path.name for path in written] == ["nine.png", "nine.json", "nine.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nine.json", "nine.npz", "nine.png"]
    with Image.open(written[0]) as image:
        assert image.width > 100
    manifest = json.loads(written[1].read_text())
    assert manifest["format"] == "deconvviz topnine 1"
    assert manifest["search"]["path"] == str((done.folder or Path()) / "manifest.json")
    assert manifest["network"]["digest"] == done.manifest["network"]["digest"]
    assert manifest["source"] == done.manifest["source"]
    assert [(layer["name"], layer["channels"]) for layer in manifest["layers"]] == [
        ("conv4_2", [1, 2]),
        ("fc6", [1, 2]),
    ]
    assert manifest["style"]["layout"] == "pairs"
    first = manifest["layers"][0]["peaks"][0]
    top = done.top("conv4_2", 1)[0]
    assert (first["image"], first["y"], first["x"], tuple(first["box"])) == (
        top.image_id,
        top.y,
        top.x,
        top.box,
    )
    with np.load(written[2]) as arrays:
        assert np.array_equal(arrays["pixels"], nine.arrays()["pixels"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputError, match=r"already exists?\b.*force=True"):
        nine.save(tmp_path / "nine.png", arrays=True)
    (tmp_path / "nine.png").unlink()
    with pytest.raises(OutputError, match="already exist"):  # not even partly
        nine.save(tmp_path / "nine.png", arrays=True)
    assert {path.name for path in tmp_path.iterdir()} == {"nine.json", "nine.npz"}
    nine.save(tmp_path / "nine.png", dpi=50, arrays=True, layout="pairs", force=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_repr_and_png_representation(done: Search) -> None:
    nine = done.topnine("conv4_2", channels=[1], k=1)
    assert repr(nine) == "<TopNine of minivgg: conv4_2, 1 channel>"
    assert nine._repr_png_().startswith(b"\x89PNG")
    spec = nine.spec()
    assert [block.name for block in spec.panels[0].blocks] == ["channel 1"]
    scores = search(done.open_network(), "scenes:3", "output", workers=0).topnine("output", channels=[7])
    assert scores.spec().panels[0].blocks[0].name == f"{scores.network.classes[7]} (7)"


def test_effective_crops_are_squares_of_one_size_with_98_percent_of_the_energy(
    done: Search, net: dv.Network
) -> None:
    nine = done.topnine("conv4_2", channels=[1, 2], k=9)
    for block, shown in zip(nine.spec().panels[0].blocks, nine.shown["conv4_2"].values(), strict=True):
        (size,) = {crop.size for crop in block.crops}
        assert size[0] == size[1] and block.size == f"{size[0]} px"
        for crop, one in zip(block.crops, shown, strict=True):
            scale = np.array(net.preprocessing.std)
            kept = ((crop.projection / scale) ** 2).sum()
            assert kept >= 0.98 * (one.pixels.astype(float) ** 2).sum() * (1 - 1e-5)
            assert not any(crop.cut)


@pytest.mark.slow
def test_patches_of_effective_crops_match_the_image(
    done: Search, image_folder: Path, net: dv.Network
) -> None:
    nine = done.topnine("conv4_2", channels=[1], k=9)
    for crop, one in zip(nine.spec().panels[0].blocks[0].crops, nine.shown["conv4_2"][1], strict=True):
        image = np.asarray(Image.open(image_folder / one.peak.image_id).convert("RGB")) / 255
        alone = net.record(image_folder / one.peak.image_id, "conv4_2").project(
            "conv4_2", dv.Unit(0, 1, one.peak.y, one.peak.x)
        )
        places = [
            (y, x)
            for y in range(97 - crop.size[0])
            for x in range(97 - crop.size[1])
            if np.allclose(image[y : y + crop.size[0], x : x + crop.size[1]], crop.patch, atol=1e-6)
        ]
        assert places
        shown = [alone.crop_at(0, (x, y, x + crop.size[1], y + crop.size[0])) for y, x in places]
        largest = np.abs(crop.projection).max()
        assert any(np.abs(there - crop.projection).max() <= 1e-3 * largest for there in shown)


def test_crop_field_uses_the_crops_of_the_peaks(done: Search) -> None:
    nine = done.topnine("conv4_2", channels=[1], k=4)
    spec = nine.spec(crop="field")
    assert not spec.zoom_each and spec.crop_text == "cropped to the receptive field"
    for crop, one in zip(spec.panels[0].blocks[0].crops, nine.shown["conv4_2"][1], strict=True):
        assert crop is one.crop
