"""Complete searches: checks of the options, images that cannot be used, results and progress."""

from __future__ import annotations

import csv
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.searches import Noise, junk, rows_of, same, scenes_folder, small
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.dataset_search import checkpoint as state
from deconvviz.dataset_search.plan import plan
from deconvviz.dataset_search.progress import Progress
from deconvviz.dataset_search.result import open_search
from deconvviz.dataset_search.search import search
from deconvviz.errors import DeconvvizError, ImageError, LayerError, OutputError, SearchError, SourceError
from deconvviz.image_sources import Source, open_source
from deconvviz.images.image import InputImage


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return dv.load("minivgg")


def bad_folder(folder: Path) -> Path:
    """Write twelve scenes and four bad files: truncated, text, empty, and one with an invalid UTF-8 name."""
    scenes_folder(folder, 12)
    whole = (folder / "even" / "0000.png").read_bytes()
    (folder / "even" / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "a text.jpg").write_text("not an image")
    (folder / "odd" / "empty.png").touch()
    with open(os.fsencode(folder) + b"/not-utf8-\xff.png", "wb") as stream:
        stream.write(b"not an image")
    return folder


BAD = {"a text.jpg", "even/broken.jpg", "odd/empty.png", "not-utf8-\\xff.png"}


def test_unreadable_images_are_skipped_counted_and_listed(net: dv.Network, tmp_path: Path) -> None:
    source, out = bad_folder(tmp_path / "in"), tmp_path / "out"
    reports: list[tuple[int, int]] = []
    found = search(
        net,
        source,
        ["conv4_2", "fc6"],
        out=out,
        batch_size=3,
        workers=1,
        report=lambda progress: reports.append((progress.done, progress.skipped)),
    )
    good = search(net, scenes_folder(tmp_path / "good", 12), ["conv4_2", "fc6"], batch_size=3, workers=0)
    assert {name for name, _ in found.skipped} == BAD
    assert all(reason for _, reason in found.skipped)
    assert (found.image_count, found.manifest["skipped"], found.manifest["source"]["pictures"]) == (12, 4, 16)
    assert reports[-1] == (16, 4)
    with open(out / "skipped.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["image"] for row in rows} == BAD
    reasons = {row["image"]: row["reason"] for row in rows}
    assert "a text.jpg is not an image: it is text" in reasons["a text.jpg"]
    assert [row.image for row in rows_of(found)] == [row.image for row in rows_of(good)]
    assert np.allclose(
        [row.activation for row in rows_of(found)], [row.activation for row in rows_of(good)], rtol=1e-5
    )
    assert found.channels.column("pictures").to_pylist() == [12] * found.channels.num_rows
    assert open_search(out).skipped == found.skipped


def test_image_deleted_during_the_search_is_skipped(net: dv.Network, tmp_path: Path) -> None:
    source = open_source(scenes_folder(tmp_path, 8))

    def delete(progress: Progress) -> None:
        (tmp_path / "odd" / "0007.png").unlink(missing_ok=True)

    found = search(net, source, "fc6", batch_size=2, workers=0, report=delete)
    assert [name for name, _ in found.skipped] == ["odd/0007.png"]
    assert "no longer exists" in found.skipped[0][1]
    assert found.image_count == 7


def test_strict_search_ends_at_a_bad_image_and_can_be_resumed_without_strict(
    net: dv.Network, tmp_path: Path
) -> None:
    source, out = bad_folder(tmp_path / "in"), tmp_path / "out"
    with pytest.raises(ImageError, match=r"a text\.jpg.*Without strict=True the image is skipped"):
        search(net, source, "fc6", out=out, batch_size=2, workers=0, strict=True)
    with pytest.raises(SearchError, match="is not finished: 0 of 8 batches are done"):
        open_search(out)
    found = search(net, source, "fc6", out=out, workers=0, resume=True)
    assert found.manifest["batch_size"] == 2  # as in the first run
    assert {name for name, _ in found.skipped} == BAD and junk(out) == set()


def test_strict_search_rejects_an_image_that_cannot_be_listed(net: dv.Network, tmp_path: Path) -> None:
    scenes_folder(tmp_path, 3)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match=r"gone\.png: it is a link.*Without strict=True"):
        search(net, tmp_path, "fc6", workers=0, strict=True)
    found = search(net, tmp_path, "fc6", workers=0)
    assert [name for name, _ in found.skipped] == ["gone.png"]
    assert (found.image_count, found.manifest["skipped"]) == (3, 1)


class Torn(Noise):
    def read(self, number: int) -> InputImage:
        if number in (1, 2):
            raise ImageError(f"{self.names[number]} is torn")
        return super().read(number)


def test_strict_resume_is_rejected_if_images_were_skipped(tmp_path: Path) -> None:
    net, source = small(), Torn(12)
    planned = plan(net, source, "0", top=9, batch_size=2)
    begun = state.State.begin(planned)
    begun.skipped[1] = "noise-0001 is torn"
    state.write(begun, planned.identity(), tmp_path)
    with pytest.raises(ImageError, match=r"noise-0001 is torn\. Without strict=True"):
        search(net, source, "0", out=tmp_path, workers=0, resume=True, strict=True)
    found = search(net, source, "0", out=tmp_path, workers=0, resume=True)
    assert [name for name, _ in found.skipped] == ["noise-0001", "noise-0002"]


def test_reason_with_invalid_characters_can_be_written(tmp_path: Path) -> None:
    class Odd(Noise):
        def read(self, number: int) -> InputImage:
            if number == 1:
                raise ImageError('of /photos/\udcff\n, a, "b"')
            return super().read(number)

    search(small(), Odd(3), "0", out=tmp_path, workers=1)
    assert open_search(tmp_path).skipped == (("noise-0001", r'of /photos/\xff\x0a, a, "b"'),)


class Poisoned(nn.Module):
    """Network with NaN in its second layer for images with a white corner."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.root, self.last = nn.Conv2d(3, 4, 3), nn.Identity(), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = self.root(y * (1.9 - x[:, :1, :1, :1]).sqrt())
        return self.last(y)


class Corner(Noise):
    def read(self, number: int) -> InputImage:
        image = super().read(number)
        image.rgb[0, 0] = 255 if number in (3, 8) else 0
        return image


@pytest.mark.parametrize("size", [1, 4, 20])
def test_image_with_nan_in_a_layer_is_skipped_without_affecting_others(size: int) -> None:
    net = small(Poisoned())
    found = search(net, Corner(10), ["conv", "last"], batch_size=size, workers=0, top=10)
    assert found.skipped == (
        ("noise-0003", "layer last has NaN or infinite activations"),
        ("noise-0008", "layer last has NaN or infinite activations"),
    )
    assert {row.image for row in rows_of(found)}.isdisjoint({"noise-0003", "noise-0008"})
    assert (found.image_count, len(found)) == (8, 6 * 8)
    assert np.isfinite(found.peaks.column("activation").to_numpy()).all()
    below = search(net, Corner(10), "conv", batch_size=size, workers=0)
    assert below.skipped == () and below.image_count == 10  # the earlier layer has no NaN
    with pytest.raises(
        ImageError, match=r"noise-0003: layer last has NaN or infinite activations\. Without strict=True"
    ):
        search(net, Corner(10), "last", batch_size=size, workers=0, strict=True)


def test_source_without_readable_images_raises_and_writes_nothing(net: dv.Network, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / f"{number}.jpg").write_text("no")
    with pytest.raises(SearchError, match=r"none of the 3 images in .*in could be read: .*0\.jpg"):
        search(net, tmp_path / "in", "fc6", out=tmp_path / "out", batch_size=2, workers=0)
    assert not (tmp_path / "out").exists()


def test_empty_source_raises(net: dv.Network, tmp_path: Path) -> None:
    for source in (tmp_path, Noise(0)):
        with pytest.raises(SourceError, match="no images in"):
            search(net, source, "fc6", out=tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()


INVALID: list[tuple[dict[str, Any], type[DeconvvizError], str]] = [
    ({"layers": "conv9_9"}, LayerError, "conv9_9"),
    ({"layers": []}, LayerError, "no layer was given"),
    ({"top": 0}, SearchError, "invalid top 0"),
    ({"batch_size": 0}, SearchError, "invalid batch size 0"),
    ({"workers": -1}, SearchError, "invalid number of workers -1"),
    ({"limit": 0}, SourceError, "limit of 0"),
    ({"source": "scenes:0"}, SourceError, "0 scenes"),
    ({"source": "nowhere"}, SourceError, "nowhere"),
    ({"engine": "spark"}, SearchError, "unknown engine 'spark': choose from local, ray"),
    ({"address": "auto"}, SearchError, "address auto needs the engine ray"),
    ({"resume": True, "force": True}, SearchError, "give only one of them"),
]


@pytest.mark.parametrize(("change", "error", "message"), INVALID)
def test_invalid_option_raises_before_anything_is_written(
    net: dv.Network, tmp_path: Path, change: dict[str, Any], error: type[DeconvvizError], message: str
) -> None:
    options = {"source": "scenes:4", "layers": "fc6", "workers": 0, "out": tmp_path / "out", **change}
    with pytest.raises(error, match=message):
        search(net, options.pop("source"), options.pop("layers"), **options)
    assert not (tmp_path / "out").exists()


def test_layer_without_channels_is_rejected_by_name_and_left_out_of_all() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.mix = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 5)
            self.scores = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.scores(self.mix(self.conv(x).flatten(2).transpose(1, 2)).mean(1))

    net = small(Tokens())
    with pytest.raises(
        LayerError, match=r"mix has no channels: its output for an image is 16 x 5, neither feature maps"
    ):
        search(net, Noise(3), "mix", workers=0)
    assert list(search(net, Noise(3), "all", workers=0).layers) == ["conv", "scores"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_output_path_that_is_a_file_raises_before_the_first_image(
    net: dv.Network, tmp_path: Path, force: bool, below: str
) -> None:
    (tmp_path / "taken").write_text("a file")
    reports: list[Progress] = []
    with pytest.raises(OutputError, match="a part of the path is a file"):
        search(
            net,
            "scenes:4",
            "fc6",
            out=tmp_path / "taken" / below,
            workers=0,
            force=force,
            report=reports.append,
        )
    assert reports == [] and (tmp_path / "taken").read_text() == "a file"


def test_full_disk_raises_before_the_first_image(
    net: dv.Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **arrays: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    reports: list[Progress] = []
    with pytest.raises(OutputError, match=r"no space left on device .*free some space"):
        search(net, "scenes:4", "fc6", out=tmp_path / "out", workers=0, report=reports.append)
    assert reports == [] and not (tmp_path / "out").exists()


def test_existing_search_is_overwritten_only_with_force(net: dv.Network, tmp_path: Path) -> None:
    first = search(net, "scenes:6", "fc6", out=tmp_path, workers=0)
    manifest = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(OutputError, match=r"already contains a search\. .*force=True"):
        search(net, "scenes:5", "fc6", out=tmp_path, workers=0)
    assert (tmp_path / "manifest.json").read_bytes() == manifest
    second = search(net, "scenes:5", "fc6", out=tmp_path, workers=0, force=True)
    assert open_search(tmp_path).image_count == 5 and not same(first, second)
    assert junk(tmp_path) == set()


def test_search_overwritten_by_an_interrupted_one_cannot_be_opened(net: dv.Network, tmp_path: Path) -> None:
    search(net, "scenes:6", "fc6", out=tmp_path, workers=0)

    def stop(progress: Progress) -> None:
        if progress.done == 4:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"out": tmp_path, "workers": 0, "batch_size": 2}
    with pytest.raises(KeyboardInterrupt):
        search(net, "scenes:8", "fc6", force=True, every=0, report=stop, **options)
    with pytest.raises(SearchError, match=r"is not finished: 1 of 4 batches are done\. Repeat .*resume=True"):
        open_search(tmp_path)
    with pytest.raises(
        OutputError, match=r"interrupted search: 1 of 4 batches are done\. Continue with resume=True"
    ):
        search(net, "scenes:8", "fc6", out=tmp_path, workers=0)
    found = search(net, "scenes:8", "fc6", out=tmp_path, workers=0, resume=True)
    assert same(found, search(net, "scenes:8", "fc6", batch_size=2, workers=0))
    assert same(open_search(tmp_path), found)


def test_manifest_of_a_search_with_limit_and_large_top(net: dv.Network, tmp_path: Path) -> None:
    found = search(net, "scenes:50", ["relu4_2"], top=10**9, limit=7, out=tmp_path, workers=0)
    assert found.image_count == 7 and len(found) == found.channels["kept"].to_numpy().sum() <= 96 * 7
    assert len(found.top("relu4_2", 0)) == 7
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["source"]["limit"] == 7 and manifest["source"]["pictures"] == 7
    (layer,) = manifest["layers"]
    assert (layer["name"], layer["module"], layer["channels"]) == ("relu4_2", "features.18", 96)
    assert layer["dead"] == found.dead("relu4_2")
    assert manifest["network"]["digest"] == net.digest
    assert manifest["network"]["preprocessing"] == net.preprocessing.to_json()
    assert {"deconvviz", "torch", "numpy", "python"} <= set(manifest["versions"])
    assert (manifest["batch_size"], manifest["top"], manifest["engine"]) == (7, 10**9, "local")


def test_dead_channels_are_counted_and_listed() -> None:
    net = small()
    with torch.no_grad():
        net.module[0].weight[2] = 0
        net.module[0].bias[2] = -1
        net.module[3].weight[1] = 0
        net.module[3].bias[1] = 0  # zero is not above zero
    found = search(net, Noise(8), ["0", "3"], workers=0)
    assert found.dead("0") == [2] and found.dead("3") == [1]
    assert [layer["dead"] for layer in found.manifest["layers"]] == [[2], [1]]
    assert {peak.activation for peak in found.top("0", 2)} == {-1.0}  # not rectified: an ordinary value
    assert found.top("3", 1) == []


def test_search_leaves_network_random_state_and_grad_mode_unchanged(net: dv.Network) -> None:
    net.module.train()
    try:
        before = [
            (name, part.training, len(part._forward_hooks)) for name, part in net.module.named_modules()
        ]
        digest, random = net.digest, torch.random.get_rng_state()
        search(net, "scenes:5", "all", workers=1, batch_size=2)
        with pytest.raises(ZeroDivisionError):
            search(net, "scenes:5", "all", workers=1, batch_size=2, report=lambda progress: 1 / 0)
        after = [(name, part.training, len(part._forward_hooks)) for name, part in net.module.named_modules()]
        assert after == before and net.digest == digest
        assert torch.equal(torch.random.get_rng_state(), random)
        assert torch.is_grad_enabled()
    finally:
        net.module.eval()


def test_progress_measures_reading_and_network_separately(net: dv.Network) -> None:
    class Slow(Noise):
        def read(self, number: int) -> InputImage:
            time.sleep(0.01)
            return super().read(number)

    reports: list[tuple[int, float, float, float]] = []

    def report(progress: Progress) -> None:
        reports.append((progress.done, progress.reading_rate, progress.network_rate, progress.left))
        assert progress.limit == "reading"
        assert progress.total == 12

    search(small(), Slow(12), "0", workers=0, batch_size=3, report=report)
    assert [done for done, *_ in reports] == [3, 6, 9, 12]
    for _, reading, looking, _ in reports:
        assert 20 < reading < 100 and looking > 2 * reading
    assert reports[-1][3] == 0 and reports[0][3] > 0


def test_search_of_a_custom_source_is_opened_with_that_source(tmp_path: Path) -> None:
    class Own(Source):
        kind = "own"

        def __init__(self) -> None:
            super().__init__("own", Noise(3).names)

        def read(self, number: int) -> InputImage:
            if number == 1:
                raise OSError(5, "Input/output error")
            return Noise(3).read(number)

    found = search(small(), Own(), "0", workers=0, out=tmp_path)
    assert found.skipped == (("noise-0001", "cannot read noise-0001: input/output error"),)
    with pytest.raises(SourceError):
        _ = open_search(tmp_path).source
    assert len(open_search(tmp_path, source=Own()).source) == 3


def test_layer_object_is_accepted_like_its_name(net: dv.Network) -> None:
    layer = net.layers["conv2_2"]
    one = search(net, "scenes:6", layer, workers=0, batch_size=3)
    other = search(net, "scenes:6", "conv2_2", workers=0, batch_size=3)
    assert same(one, other)
    assert one.top(layer, 3) == other.top("conv2_2", 3) and one.dead(layer) == other.dead("conv2_2")
    best = one.topnine(layer, channels=[3], k=2)
    assert list(best.shown) == ["conv2_2"]
    recording = net.record(torch.zeros(1, 3, 96, 96), [layer])
    assert recording.strongest(layer, 2) == recording.strongest("conv2_2", 2)
    assert torch.equal(recording.activations(layer), recording.activations("conv2_2"))
    assert net.coverage(layer).layers == recording.coverage(layer).layers == ("conv2_2",)
