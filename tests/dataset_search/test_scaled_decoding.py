"""Searches that decode large JPEGs at a fraction of their size."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.searches import same, small
from PIL import Image
from torch import nn

import deconvviz as dv
from deconvviz.dataset_search import checkpoint as state
from deconvviz.dataset_search.plan import plan
from deconvviz.dataset_search.result import Search, open_search
from deconvviz.dataset_search.search import search
from deconvviz.errors import OutputError, SearchError
from deconvviz.image_sources import open_source
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.scenes import scene

SIDE = 48  # of the network's input
SIZES = {
    "a.jpg": (203, 301),
    "b.jpg": (401, 209),
    "c.jpg": (790, 777),
    "d.jpg": (191, 300),
    "e.png": (400, 400),
}
REDUCED = {"a.jpg": 2, "b.jpg": 2, "c.jpg": 8, "d.jpg": 1, "e.png": 1}  # the shorter side / (2 x 48)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed, (name, size) in enumerate(SIZES.items()):
        picture = Image.fromarray(scene(seed, size=400).image)
        noise = np.random.default_rng(seed).integers(-40, 40, (size[1], size[0], 3))
        pixels = np.clip(np.asarray(picture.resize(size)) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return small(nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.Conv2d(8, 6, 5, stride=2)), size=SIDE)


def run(net: dv.Network, source: Any, **more: Any) -> Search:
    return search(net, source, "all", **{"workers": 0, "scaled_decoding": True, **more})


def peaks(found: Search) -> dict[tuple[str, int, str], float]:
    rows = found.peaks.to_pylist()
    return {(row["layer"], row["channel"], Path(row["image"]).name): row["activation"] for row in rows}


def prepared(path: Path, by: int) -> torch.Tensor:
    """Return the input of the network, computed with Pillow only."""
    with Image.open(path) as image:
        width, height = image.size
        if by > 1:
            image.draft("RGB", (width // by, height // by))
        box = (0, 0, width / by, height / by)
        shorter = min(width, height)
        columns, rows = int(SIDE * width / shorter), int(SIDE * height / shorter)
        resized = image.convert("RGB").resize((columns, rows), Image.Resampling.BILINEAR, box=box)
    left, top = round((columns - SIDE) / 2), round((rows - SIDE) / 2)
    pixels = np.array(resized.crop((left, top, left + SIDE, top + SIDE)))
    return (torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 - 0.5) / 0.25


def test_peaks_are_those_of_reduced_pictures(net: dv.Network, photos: Path) -> None:
    inputs = torch.stack([prepared(photos / name, by) for name, by in REDUCED.items()])
    recording = net.record(inputs, ["0", "2"])
    found = peaks(run(net, photos))
    for layer in ("0", "2"):
        for activations, name in zip(recording.activations(layer), SIZES, strict=True):
            for channel, activation in enumerate(activations.amax((1, 2)).tolist()):
                assert found[layer, channel, name] == pytest.approx(activation, rel=1e-5, abs=1e-6)


def test_only_large_jpegs_change(net: dv.Network, photos: Path) -> None:
    whole, scaled = peaks(run(net, photos, scaled_decoding=False)), peaks(run(net, photos))
    assert whole.keys() == scaled.keys()
    changed = {key[2] for key in whole if whole[key] != scaled[key]}
    assert changed == {name for name, by in REDUCED.items() if by > 1}


def test_boxes_are_those_of_the_network_input(net: dv.Network, photos: Path) -> None:
    """A unit of the last layer sees 9 x 9 pixels of the input, whatever the size of the file."""
    for peak in run(net, photos).top("2", 0):
        assert peak.y is not None and peak.x is not None
        assert peak.box == (2 * peak.x, 2 * peak.y, 2 * peak.x + 9, 2 * peak.y + 9)


def test_images_are_read_again_as_in_the_search(net: dv.Network, photos: Path, tmp_path: Path) -> None:
    run(net, photos, out=tmp_path)
    found = open_search(tmp_path, network=net)
    assert {name: getattr(found.source.image(n).reduced, "by", 1) for n, name in enumerate(SIZES)} == REDUCED
    best = found.topnine("2", channels=[0, 1])  # compares every activation with the search
    assert "large JPEGs decoded at reduced size" in best.spec().footer
    assert best.describe()["scaled_decoding"] is True
    given = open_search(tmp_path, network=net, source=open_source(photos))
    assert given.topnine("2", channels=[0]).shown["2"][0][0].peak == best.shown["2"][0][0].peak


def test_result_says_how_images_were_decoded(net: dv.Network, photos: Path) -> None:
    whole, scaled = run(net, photos, scaled_decoding=False), run(net, photos)
    assert (whole.scaled_decoding, scaled.scaled_decoding) == (False, True)
    assert repr(scaled) == repr(whole).replace(">", ", scaled decoding>")
    assert "scaled decoding" in scaled._repr_html_() and "scaled decoding" not in whole._repr_html_()
    assert (whole.manifest["scaled_decoding"], scaled.manifest["scaled_decoding"]) == (False, True)
    footer = whole.topnine("2", channels=[0]).spec().footer
    assert "decoded" not in str(footer)


def test_every_source_of_files_is_decoded_alike(net: dv.Network, photos: Path, tmp_path: Path) -> None:
    expected = peaks(run(net, photos))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in SIZES:
            archive.write(photos / name, name)
            tar.add(photos / name, name)
    (tmp_path / "list.txt").write_text("\n".join(str(photos / name) for name in SIZES))
    for place in ("a.zip", "a.tar", "list.txt"):
        assert peaks(run(net, tmp_path / place)) == expected, place
    assert peaks(run(net, photos, workers=1)) == expected


def test_hugging_face_dataset_is_decoded_alike(net: dv.Network, photos: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    cells = [{"bytes": (photos / name).read_bytes(), "path": None} for name in SIZES]
    rows = datasets.Dataset.from_dict({"image": cells}).cast_column("image", datasets.Image())
    rows.save_to_disk(tmp_path / "set")
    found = run(net, tmp_path / "set")
    names = {f"{number:08d}": name for number, name in enumerate(SIZES)}
    named = {(layer, channel, names[image]): one for (layer, channel, image), one in peaks(found).items()}
    assert named == peaks(run(net, photos))


def test_images_without_files_are_not_affected(net: dv.Network, photos: Path) -> None:
    with Image.open(photos / "c.jpg") as opened:
        in_memory = [opened.convert("RGB"), np.asarray(opened)]
    for source in ("scenes:3", in_memory):
        assert same(run(net, source), run(net, source, scaled_decoding=False))


def test_source_of_a_search_is_decoded_as_the_next_search_asks(net: dv.Network, photos: Path) -> None:
    scaled = run(net, photos)
    assert same(run(net, scaled.source, scaled_decoding=False), run(net, photos, scaled_decoding=False))
    assert same(run(net, run(net, photos, scaled_decoding=False).source), scaled)


NEAREST = Preprocessing(SIDE, SIDE, (0.5,) * 3, (0.25,) * 3, interpolation="nearest")
OWN = Preprocessing(SIDE, SIDE, (0.5,) * 3, (0.25,) * 3, crop_mode="own")


@pytest.mark.parametrize(
    ("channels", "preprocessing", "message"),
    [
        (5, Preprocessing.of_array((5, 12, 12)), r"reads arrays of shape \(5, 12, 12\), not images"),
        (3, NEAREST, r"picks single pixels of an image \(nearest\)"),
        (3, OWN, "reads images at their own size"),
    ],
)
def test_network_that_scales_nothing_down_is_rejected(
    channels: int, preprocessing: Preprocessing, message: str, photos: Path, tmp_path: Path
) -> None:
    net = dv.Network(nn.Conv2d(channels, 2, 3), preprocessing=preprocessing, name="odd")
    if channels == 5:
        np.save(tmp_path / "a.npy", np.zeros((5, 12, 12)))
    expected = (
        f"scaled decoding is for JPEGs that are scaled down, but odd {message}. Leave out scaled_decoding"
    )
    with pytest.raises(SearchError, match=expected):
        run(net, tmp_path if channels == 5 else photos, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("finished", [False, True])
def test_resuming_with_another_decoding_is_rejected(
    net: dv.Network, photos: Path, tmp_path: Path, finished: bool, before: bool
) -> None:
    if finished:
        run(net, photos, out=tmp_path, scaled_decoding=before)
    else:
        interrupted(net, photos, tmp_path, scaled_decoding=before)
    words = ("on", "off") if before else ("off", "on")
    with pytest.raises(SearchError, match=f"scaled decoding {words[0]} before, {words[1]} now. Start again"):
        run(net, photos, out=tmp_path, resume=True, scaled_decoding=not before)
    resumed = run(net, photos, out=tmp_path, resume=True, scaled_decoding=before)
    size = resumed.manifest["batch_size"]
    assert same(resumed, run(net, photos, batch_size=size, scaled_decoding=before))


def interrupted(net: dv.Network, photos: Path, out: Path, **more: Any) -> None:
    """Interrupt a search of five images after the checkpoint of the first batch of two."""

    def stop(progress: Any) -> None:
        if progress.done > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(net, photos, out=out, batch_size=2, every=0, report=stop, **more)
    with pytest.raises(OutputError, match="interrupted search"):
        run(net, photos, out=out)


def test_search_of_an_earlier_version_was_made_without_it(
    net: dv.Network, photos: Path, tmp_path: Path
) -> None:
    """Earlier versions write neither the entry of the manifest nor that of the checkpoint."""
    whole = run(net, photos, out=tmp_path, scaled_decoding=False)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["scaled_decoding"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert open_search(tmp_path).scaled_decoding is False
    with pytest.raises(SearchError, match="scaled decoding off before, on now"):
        run(net, photos, out=tmp_path, resume=True)
    assert same(run(net, photos, out=tmp_path, resume=True, scaled_decoding=False), whole)
    planned = plan(net, open_source(photos), "all", scaled_decoding=True)
    identity = {name: one for name, one in planned.identity().items() if name != "scaled decoding"}
    state.write(state.State.begin(planned), identity, tmp_path)
    with pytest.raises(SearchError, match="scaled decoding off before, on now"):
        state.read(planned, tmp_path)
    assert state.read(plan(net, open_source(photos), "all"), tmp_path) is not None


def test_projection_of_a_reduced_picture_is_made_again_from_its_manifest(
    photos: Path, tmp_path: Path
) -> None:
    net = dv.load("minivgg")
    found = run(net, photos, top=1)
    reduced = found.source.image(2)
    assert reduced.reduced is not None
    recording = net.record(reduced, "conv2_1")
    projection = recording.project("conv2_1", recording.strongest("conv2_1", 2))
    projection.save(tmp_path / "a.png")
    assert json.loads((tmp_path / "a.json").read_text())["pictures"][0]["reduced"] == reduced.reduced.by
    again = dv.remake(tmp_path / "a.json").result
    assert torch.equal(again.pixels, projection.pixels)
