"""The stream of projected peaks, compared with projections of single units."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from helpers.oracles import difference
from helpers.searches import Noise, small
from torch import nn

import deconvviz as dv
from deconvviz.dataset_search.result import Search
from deconvviz.dataset_search.search import search
from deconvviz.errors import RefusedOp, SearchError
from deconvviz.topnine import peak_stream as module
from deconvviz.topnine.peak import Peak
from deconvviz.topnine.peak_crops import PeakCrop
from deconvviz.topnine.peak_stream import stream_peaks

COUNT = 20
LAYERS = ["0", "1", "4", "6"]


def network() -> dv.Network:
    """Return a network with a large stride, padding and pooling of overlapping windows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        parts = nn.Sequential(
            nn.Conv2d(3, 6, 5, stride=2, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(6, 7, 1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(7 * 7 * 7, 4),
        )
    return small(parts, size=32)


@pytest.fixture(scope="module")
def found() -> Search:
    return search(network(), Noise(COUNT, size=32), LAYERS, workers=0, batch_size=4)


def peaks_of(found: Search, layers: list[str], k: int = 9) -> list[Peak]:
    return [
        peak
        for layer in layers
        for channel in range(found.layers[layer])
        for peak in found.top(layer, channel, k)
    ]


def streamed(found: Search, peaks: list[Peak], **more: Any) -> Iterator[PeakCrop]:
    largest = {layer: found.largest(layer) for layer in found.layers}
    return stream_peaks(network(), Noise(COUNT, size=32), peaks, largest, **more)


def test_stream_yields_every_peak_with_its_projection_patch_and_picture(found: Search) -> None:
    peaks, net, source = peaks_of(found, LAYERS), network(), Noise(COUNT, size=32)
    seen = list(streamed(found, peaks))
    assert Counter(one.shown.peak for one in seen) == Counter(peaks)
    for one in seen:
        peak, picture = one.shown.peak, one.picture
        image = source.image(source.names.index(peak.image_id))
        assert picture.image_id == peak.image_id and np.array_equal(picture.image.rgb, image.rgb)
        assert np.allclose(picture.view, image.rgb / 255, atol=1e-6)
        alone = net.record([image], peak.layer)
        want = alone.project(peak.layer, dv.Unit(0, peak.channel, peak.y, peak.x))
        x0, y0, x1, y1 = want.boxes[0]
        assert difference(torch.from_numpy(one.shown.pixels), want.pixels[0, :, y0:y1, x0:x1]) <= 1e-4
        assert np.allclose(one.shown.crop.patch, picture.view[y0:y1, x0:x1])
        assert one.others == ()


def test_others_are_the_strongest_other_channels_above_zero_at_the_place(found: Search) -> None:
    peaks, net, source = peaks_of(found, LAYERS), network(), Noise(COUNT, size=32)
    counts = Counter[int]()
    for one in streamed(found, peaks, others=2):
        peak = one.shown.peak
        if peak.rank > 1:
            assert one.others == ()
            continue
        image = source.image(source.names.index(peak.image_id))
        alone = net.record([image], peak.layer)
        here = alone.activations(peak.layer)[0]
        if peak.y is not None and peak.x is not None:
            here = here[:, peak.y, peak.x]
        by_strength = sorted(enumerate(here.tolist()), key=lambda pair: -pair[1])
        want = [channel for channel, value in by_strength if channel != peak.channel and value > 0][:2]
        assert [other.channel for other in one.others] == (want if peak.activation > 0 else [])
        counts[len(one.others)] += 1
        for other in one.others:
            unit = dv.Unit(0, other.channel, peak.y, peak.x)
            projected = alone.project(peak.layer, unit)
            x0, y0, x1, y1 = projected.boxes[0]
            assert difference(torch.from_numpy(other.pixels), projected.pixels[0, :, y0:y1, x0:x1]) <= 1e-4
            assert other.activation == pytest.approx(projected.units[0].activation, rel=1e-4)
            assert other.pixels.shape == one.shown.pixels.shape
    assert counts[2] > 10


def test_result_does_not_depend_on_the_other_peaks_or_on_the_memory(
    found: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = peaks_of(found, LAYERS)
    together = {one.shown.peak: one for one in streamed(found, peaks, others=2)}
    monkeypatch.setattr(module, "_PIXELS", 5 * 4 * 3 * 32 * 32)  # five projections
    monkeypatch.setattr(module, "BATCH", 3)
    some = peaks[::3]
    for one in streamed(found, some, others=2, memory=1):
        other = together[one.shown.peak]
        assert difference(torch.from_numpy(one.shown.pixels), torch.from_numpy(other.shown.pixels)) <= 1e-5
        assert one.shown.around.box == other.shown.around.box
        assert [each.channel for each in one.others] == [each.channel for each in other.others]


def test_images_are_read_and_recorded_once_while_the_stream_is_consumed(
    found: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[weakref.ref[dv.Recording]] = []
    real = dv.Network.record

    def record(self: dv.Network, images: Any, layers: Any) -> dv.Recording:
        gc.collect()
        assert all(one() is None for one in recorded), "a finished batch is still in memory"
        made = real(self, images, layers)
        recorded.append(weakref.ref(made))
        return made

    monkeypatch.setattr(dv.Network, "record", record)
    reported: list[tuple[int, int]] = []
    peaks = peaks_of(found, LAYERS)
    images = len({peak.image_id for peak in peaks})
    stream = streamed(found, peaks, report=lambda *done: reported.append(done))
    assert recorded == []
    last = next(stream)
    assert len(recorded) == 1 and reported == []
    for one in stream:
        assert len(recorded) == 1 + len(reported)
        assert (one.picture is last.picture) == (one.shown.peak.image_id == last.shown.peak.image_id)
        last = one
    assert reported[-1] == (images, images)
    assert len(recorded) == -(-images // module.BATCH)


def test_only_layers_with_a_peak_in_the_batch_are_recorded(
    found: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[list[str]] = []
    real = dv.Network.record

    def record(self: dv.Network, images: Any, layers: Any) -> dv.Recording:
        recorded.append([layer.name for layer in layers])
        return real(self, images, layers)

    monkeypatch.setattr(dv.Network, "record", record)
    monkeypatch.setattr(module, "BATCH", 1)
    one, other = found.top("1", 0)[0], next(
        peak for channel in range(4) for peak in found.top("6", channel)
        if peak.image_id != found.top("1", 0)[0].image_id
    )  # fmt: skip
    assert len(list(streamed(found, [one, other]))) == 2
    assert sorted(recorded) == [["1"], ["6"]]


def test_first_activation_that_differs_raises(found: Search) -> None:
    peaks = peaks_of(found, ["4"])
    wrong = [Peak(**{**vars(peak), "activation": peak.activation * 1.01}) for peak in peaks]
    with pytest.raises(
        SearchError,
        match=r"^an activation does not match the search index: channel \d of 4 in noise-\d+ was .* and "
        r"is .*\. The images or the weights have changed\. Run the search again$",
    ):
        next(streamed(found, wrong))
    assert next(streamed(found, peaks)).shown.peak in peaks


def test_invalid_requests_raise_before_the_first_image(found: Search) -> None:
    peak = found.top("4", 0)[0]
    absent = Peak(**{**vars(peak), "image_id": "noise-9999"})
    with pytest.raises(SearchError, match=r"1 of 2 images are not in noise: noise-9999\. Use source=PLACE"):
        streamed(found, [peak, absent])

    class Sums(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.cumsum(3)

    net = small(nn.Sequential(nn.Conv2d(3, 2, 3), Sums()))
    other = search(net, Noise(4), "1", workers=0)
    with pytest.raises(RefusedOp, match=r"1 cannot be projected: .*cumsum"):
        stream_peaks(net, Noise(4), [other.top("1", 0)[0]], {"1": 1.0})
