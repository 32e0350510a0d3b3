"""The search index, compared with brute force: record every image, take the maxima and sort them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.searches import (
    Noise,
    Row,
    brute_force,
    channel_statistics,
    minivgg_field,
    rows_of,
    same,
    scenes_folder,
    small,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.dataset_search.result import Search
from deconvviz.dataset_search.search import search
from deconvviz.image_sources import Source, open_source
from deconvviz.images.image import InputImage

COUNT, K = 45, 9
OTHER_BATCHES = 1e-5
"""Tolerance for rounding in the network with another batch size, relative to the largest peak of a layer.
Measured: 4e-7 for minivgg, 0 for SqueezeNet."""


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return dv.load("minivgg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return open_source(scenes_folder(tmp_path_factory.mktemp("scenes"), COUNT))


@pytest.fixture(scope="module")
def one_by_one(net: dv.Network, folder: Source) -> Search:
    return search(net, folder, "all", batch_size=1, workers=0)


@pytest.fixture(scope="module")
def brute(net: dv.Network, folder: Source) -> tuple[list[Row], dict[str, Tensor]]:
    layers = [layer.name for layer in net.layers if layer.has_channels and not layer.same_as]
    return brute_force(net, folder, layers, K, batch=1)


@pytest.mark.slow
def test_index_of_all_layers_equals_brute_force(
    net: dv.Network, one_by_one: Search, brute: tuple[list[Row], dict[str, Tensor]]
) -> None:
    rows, peaks = brute
    assert list(one_by_one.layers) == list(peaks)
    assert list(one_by_one.layers.values())[-4:] == [96, 64, 64, 12]
    assert rows_of(one_by_one) == rows
    assert len(rows) == sum(of_layer.shape[1] for of_layer in peaks.values()) * K
    kept = channel_statistics(one_by_one)
    for layer, of_layer in peaks.items():
        for channel, column in enumerate(of_layer.double().T.tolist()):
            fired = sum(number > 0 for number in column)
            mean = math.fsum(column) / COUNT
            assert kept[f"{layer}/{channel}"] == (mean, fired / COUNT, max(column), fired == 0)


def visible_field(layer: str, y: int, x: int) -> tuple[int, ...]:
    return tuple(min(max(edge, 0), 96) for edge in minivgg_field(layer, y, x))


@pytest.mark.slow
def test_receptive_fields_equal_arithmetic_and_projections(net: dv.Network, one_by_one: Search) -> None:
    cut = 0
    for row in one_by_one.peaks.to_pylist():
        box = (row["x0"], row["y0"], row["x1"], row["y1"])
        if len(net.layers[row["layer"]].shape) == 3:
            assert box == visible_field(row["layer"], row["y"], row["x"]), row
            cut += 0 in box or 96 in box
        else:
            assert box == (0, 0, 96, 96) and row["y"] is None and row["x"] is None, row
    assert cut > 1000
    source = one_by_one.source
    for layer in ("conv1_2", "pool3", "conv4_2", "fc5", "fc6"):
        peak = one_by_one.top(layer, 3)[4]
        rec = net.record([source.image(source.names.index(peak.image_id)).rgb], layer)
        projection = rec.project(layer, dv.Unit(0, 3, peak.y, peak.x))
        assert projection.boxes[0] == peak.box
        assert projection.units[0].activation == peak.activation


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("size", [7, 32])
def test_results_do_not_depend_on_workers(net: dv.Network, folder: Source, size: int, workers: int) -> None:
    layers = ["conv2_2", "conv4_2", "output"]
    expected = search(net, folder, layers, batch_size=size, workers=0)
    assert same(search(net, folder, layers, batch_size=size, workers=workers), expected)


def check_within(found: Search, peaks: dict[str, Tensor], source: Source, tolerance: float) -> None:
    """Check the activations to a tolerance, and the images where adjacent ranks differ by more than that."""
    rows = iter(rows_of(found))
    numbers = {name: number for number, name in enumerate(source.names)}
    for layer, of_layer in peaks.items():
        slack = tolerance * float(of_layer.abs().max())
        for channel, column in enumerate(of_layer.double().T.tolist()):
            order = sorted(range(len(column)), key=lambda number: (-column[number], source.names[number]))
            ranked = [column[number] for number in order]
            shown = (
                sum(number > 0 for number in column) if min(column) >= 0 else len(column)
            )  # no silent units
            for rank in range(min(int(found.manifest["top"]), shown)):
                row = next(rows)
                assert (row.layer, row.channel, row.rank) == (layer, channel, rank + 1)
                own = column[numbers[row.image]]
                assert abs(row.activation - own) <= slack, (row, own)
                assert abs(row.activation - ranked[rank]) <= slack, (row, ranked[rank])
                alone = all(
                    abs(ranked[rank] - ranked[other]) > 2 * slack
                    for other in (rank - 1, rank + 1)
                    if 0 <= other < len(ranked)
                )
                assert not alone or row.image == source.names[order[rank]], row
    assert next(rows, None) is None


@pytest.mark.slow
@pytest.mark.parametrize("size", [7, 32])
def test_other_batch_sizes_change_results_only_by_rounding(
    net: dv.Network, folder: Source, size: int, brute: tuple[list[Row], dict[str, Tensor]]
) -> None:
    found = search(net, folder, "all", batch_size=size, workers=0)
    check_within(found, brute[1], folder, OTHER_BATCHES)


class Shuffled(Source):
    """Source with the same images in reverse order."""

    kind = "shuffled"

    def __init__(self, of: Source) -> None:
        self.of = of
        names = type(of.names)(reversed(list(of.names)))
        super().__init__(of.place, names, sizes=of.sizes, labels=of.class_labels)

    def read(self, number: int) -> InputImage:
        return self.of.image(self.of.names.index(self.names[number]))


def test_results_do_not_depend_on_the_order_of_images_and_layers(
    net: dv.Network, folder: Source, one_by_one: Search
) -> None:
    layers = list(one_by_one.layers)
    assert same(search(net, Shuffled(folder), layers[::-1], batch_size=1, workers=0), one_by_one)


@settings(max_examples=15)
@given(
    copies=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=15),
    size=st.integers(1, 8),
    top=st.integers(1, 25),
)
def test_equal_images_are_ranked_by_id(copies: list[tuple[int, int]], size: int, top: int) -> None:
    source, net = Noise(20, copies=copies), small()
    found = search(net, source, ["0", "3", "6"], top=top, batch_size=size, workers=0)
    rows, _ = brute_force(net, source, ["0", "3", "6"], top, batch=size)
    assert rows_of(found) == rows


def test_network_with_unusual_layers_equals_brute_force() -> None:
    class Odd(nn.Module):
        """Repeated modules, channels last, in-place ReLU, a gate, an unsupported operation and a vector."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)
            self.norm, self.wide = nn.LayerNorm(3), nn.Linear(3, 6)
            self.gate, self.unsupported_op, self.scores = nn.Sigmoid(), nn.Identity(), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.max_pool2d(self.act(self.conv(x)), 2)
            x = self.act(self.conv(x))
            x = self.wide(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
            x = x * self.gate(x)
            x = self.unsupported_op(x.cumsum(3))
            return self.scores(x.mean((2, 3)))

    torch.manual_seed(0)
    net, source = small(Odd()), Noise(30)
    layers = ["conv", "act", "conv:2", "act:2", "norm", "wide", "gate", "unsupported_op", "scores"]
    assert net.layers["unsupported_op"].unsupported and net.layers["gate"].is_constant
    assert net.layers["wide"].channels_last
    rows, _ = brute_force(net, source, layers, 4, batch=5)
    found = search(net, source, layers, top=4, batch_size=5, workers=0)
    assert rows_of(found) == rows
    again = search(net, source, "all", top=4, batch_size=5, workers=0)
    assert list(again.layers) == layers  # the layer output is the same tensor as scores
    assert same(again, found)
    boxes = {
        layer: {peak.box is None for channel in range(count) for peak in found.top(layer, channel)}
        for layer, count in found.layers.items()
    }
    without = {"gate", "unsupported_op", "scores"}
    assert boxes == {layer: {layer in without} for layer in layers}


def test_all_searches_each_tensor_once() -> None:
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Identity(), nn.Dropout())
    net = small(nn.Sequential(inner, nn.Flatten(), nn.Linear(4 * 14 * 14, 2)))
    found = search(net, Noise(3), "all", workers=0)
    assert list(found.layers) == ["0.0", "0.1", "2"]
    assert search(net, Noise(3), ["0", "0.1", "1"], workers=0).layers == {"0.1": 4, "0": 4, "1": 784}


class Kept(Source):
    """Source of every nth image of another one, that keeps the decoded images."""

    kind = "kept"

    def __init__(self, of: Source, step: int) -> None:
        super().__init__(of.place, of.names[::step], sizes=of.sizes[::step])
        self.of, self.step, self.images = of, step, dict[int, InputImage]()

    def read(self, number: int) -> InputImage:
        if number not in self.images:
            self.images[number] = self.of.image(number * self.step)
        return self.images[number]


@pytest.mark.slow
@pytest.mark.usefixtures("spare_threads")
@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.nightly)])
def test_squeezenet_index_of_photographs_equals_brute_force(real_data: Path, step: int) -> None:
    net = dv.load("squeezenet1_0", weights=real_data / "squeezenet1_0.pth")
    source = Kept(open_source(real_data / "imagenet-sample"), step)
    count = len(source)
    assert count == 300 // step
    found = search(net, source, "features.9", batch_size=32, workers=0)
    peaks, places = [], []
    module = net.module.eval()
    with torch.no_grad():
        for first in range(0, count, 20):
            chosen = [source.image(number).rgb for number in range(first, min(first + 20, count))]
            inputs = torch.stack([net.preprocessing.apply(rgb) for rgb in chosen])
            maps = module.features[:10](inputs)  # type: ignore[index, operator]
            peaks.append(maps.amax((2, 3)))
            places.append(maps.flatten(2).argmax(2))
    of_layer, where = torch.cat(peaks), torch.cat(places)
    assert of_layer.shape == (count, 384)
    check_within(found, {"features.9": of_layer}, source, OTHER_BATCHES)
    numbers = {name: number for number, name in enumerate(source.names)}
    moved = 0
    for row in rows_of(found):
        place = int(where[numbers[row.image], row.channel])
        moved += (row.y, row.x) != divmod(place, 27) and row.activation > 0
    assert moved == 0
    dead = (of_layer <= 0).all(0).nonzero().flatten().tolist()
    assert list(found.dead("features.9")) == dead and 96 in dead
    assert found.top("features.9", 96) == []
    some = [(channel, rank) for channel in range(0, 384, 32) if channel not in dead for rank in (0, 8)]
    for channel, rank in some:
        peak = found.top("features.9", channel)[rank]
        rec = net.record([source.image(numbers[peak.image_id]).rgb], "features.9")
        projection = rec.project("features.9", dv.Unit(0, channel, peak.y, peak.x))
        assert projection.boxes[0] == peak.box
        assert math.isclose(projection.units[0].activation, peak.activation, rel_tol=1e-5, abs_tol=1e-5)


class Folded(nn.Module):
    """Network in which a linear layer sees all positions of all images as rows of one matrix, as in LeViT."""

    def __init__(self, fold: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fold = fold
        self.conv, self.mix, self.scores = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.mix(self.fold(self.conv(x)).reshape(-1, 4))
        return self.scores(rows.reshape(len(x), -1, 5).mean(1))


FOLDS = {
    "permuted": lambda maps: maps.permute(0, 2, 3, 1),
    "flattened": lambda maps: maps.flatten(2).transpose(1, 2),
}


@pytest.mark.parametrize("fold", FOLDS)
def test_all_leaves_out_a_layer_without_one_row_per_image(fold: str) -> None:
    found = search(small(Folded(FOLDS[fold])), Noise(3), "all", workers=0)
    assert list(found.layers) == ["conv", "scores"]
