"""Peaks of a batch, compared with plain loops over the activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.searches import small
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.dataset_search.peak_finder import Numbers, find_peaks, open_finder
from deconvviz.errors import LayerError
from deconvviz.image_sources.batches import Batch


def find(net: dv.Network, names: list[str], inputs: Tensor) -> tuple[Numbers, Numbers]:
    with open_finder(net, [net.layers.find(name) for name in names]) as run:
        return run(inputs)


def images(count: int = 3, size: int = 16, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


class Fixed(nn.Module):
    """Network with fixed feature maps, one for each image."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.anchor = nn.Conv2d(3, 1, 1)
        self.maps, self.out = maps, nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        tied = self.anchor(x).sum() * 0  # makes the output depend on the image
        return self.out(
            (self.maps[:1].expand(len(x), *self.maps.shape[1:]) if len(x) == 1 else self.maps) + tied
        )


@given(
    maps=st.lists(st.sampled_from([-2.0, -0.0, 0.0, 1.0, 1.5]), min_size=2 * 2 * 6, max_size=2 * 2 * 6),
)
def test_first_of_equal_positions_in_row_order_is_the_peak(maps: list[float]) -> None:
    high, places = find(small(Fixed(torch.tensor(maps).reshape(2, 2, 2, 3))), ["out"], images(2))
    for image, channel in np.ndindex(2, 2):
        flat = maps[(image * 2 + channel) * 6 :][:6]
        assert high[image, channel] == max(flat)
        assert places[image, channel] == flat.index(max(flat))


def test_peaks_are_in_the_requested_order_of_layers() -> None:
    net = small()
    rec = net.record(images(), ["3", "0", "6"])
    high, places = find(net, ["3", "0", "6"], images())
    assert (high.dtype, places.dtype, high.shape) == (np.float32, np.int32, (3, 5 + 6 + 4))
    first = 0
    for name in ("3", "0", "6"):
        activations = rec.activations(name).numpy()
        for image in range(3):
            for channel in range(activations.shape[1]):
                flat = activations[image, channel].reshape(-1).tolist()
                assert high[image, first + channel] == max(flat)
                assert places[image, first + channel] == flat.index(max(flat))
        first += activations.shape[1]


def test_peaks_of_a_convolution_are_found_before_an_in_place_relu() -> None:
    net = small(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=True)))
    with torch.no_grad():
        net.module[0].bias.fill_(-50)
        want = net.module[0](images()).amax((2, 3)).numpy()
    high, _ = find(net, ["0", "1"], images())
    assert (high[:, :8] == want).all() and (high[:, :8] < -1).all()
    assert (high[:, 8:] == 0).all()


def test_peaks_of_channels_last_maps_and_vectors() -> None:
    class Last(nn.Module):
        """Layer norm and linear layer over the last axis, as in a ConvNeXt block."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.wide = nn.Conv2d(3, 4, 2, 2), nn.LayerNorm(4), nn.Linear(4, 7)
            self.scores = nn.Linear(7, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.wide(self.norm(self.conv(x).permute(0, 2, 3, 1)))
            return self.scores(x.mean((1, 2)))

    net = small(Last())
    assert net.layers["wide"].channels_last
    rec = net.record(images(), ["wide", "scores"])
    high, places = find(net, ["wide", "scores"], images())
    maps = rec.activations("wide")
    assert maps.shape == (3, 7, 8, 8)
    assert (high[:, :7] == maps.amax((2, 3)).numpy()).all()
    assert (places[:, :7] == maps.flatten(2).argmax(2).numpy()).all()
    assert (high[:, 7:] == rec.activations("scores").numpy()).all()
    assert not places[:, 7:].any()


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(torch.float64, np.float64), (torch.bfloat16, np.float32), (torch.float32, np.float32)],
)
def test_peaks_have_the_precision_of_the_network(dtype: torch.dtype, kept: Any) -> None:
    net = small(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))
    net.module.to(dtype)
    high, _ = find(net, ["0"], images())
    assert high.dtype == kept
    with torch.no_grad():
        want = net.module[0](images().to(dtype)).amax((2, 3))
    assert (high == want.to(torch.float64).numpy()).all()


def test_float64_layer_in_a_float32_network_has_float32_peaks() -> None:
    close = torch.tensor([[1.0, 1 + 2**-40]], dtype=torch.float64).reshape(1, 1, 1, 2).expand(2, 1, 1, 2)
    high, places = find(small(Fixed(close)), ["out"], images(2))
    assert high.dtype == np.float32
    assert places.tolist() == [[0], [0]]  # equal in float32: the first one


def test_peaks_of_a_layer_computed_with_gradients() -> None:
    class Learns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                return self.conv(x)

    net = small(Learns())
    high, _ = find(net, ["conv"], images())
    assert (high == net.record(images(), "conv").activations("conv").amax((2, 3)).numpy()).all()


def test_nan_and_infinity_are_peaks() -> None:
    maps = torch.zeros(2, 3, 2, 2)
    maps[1, 1, 0, 1] = torch.nan
    maps[1, 2, 1, 1] = torch.inf
    maps[0, 0] = -torch.inf
    maps[0, 0, 1, 0] = -3  # -inf in the same map, for example from a mask, is allowed
    high, places = find(small(Fixed(maps)), ["out"], images(2))
    assert high[0].tolist() == [-3, 0, 0] and places[0, 0] == 2
    assert np.isnan(high[1, 1]) and high[1, 2] == np.inf and high[1, 0] == 0


def batch_of(inputs: Tensor, failures: tuple[tuple[int, str], ...] = ()) -> Batch:
    numbers = np.arange(10, 10 + len(inputs))
    return Batch(0, numbers, inputs, failures, 0.0)


def test_images_with_nan_are_skipped_with_the_layer_as_reason() -> None:
    net = small(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)))
    layers = [net.layers["0"], net.layers["1"]]
    inputs = images(4)
    inputs[2, 0, 5, 5] = torch.nan
    with torch.no_grad():
        net.module[1].bias[1] = 3e38
        net.module[1].weight[1] = 1e30
    inputs[1] = 1e10
    with open_finder(net, layers) as run:
        peaks = find_peaks(run, layers, batch_of(inputs, ((9, "not an image"),)), 6)
        alone = [find_peaks(run, layers, batch_of(inputs[one : one + 1]), 6) for one in (0, 3)]
    assert dict(peaks.skipped) == {
        9: "not an image",
        11: "layer 1 has NaN or infinite activations",
        12: "layer 0 has NaN or infinite activations",
    }
    assert peaks.numbers.tolist() == [10, 13]
    assert np.array_equal(peaks.activations, np.concatenate([one.activations for one in alone]))
    assert np.array_equal(peaks.places, np.concatenate([one.places for one in alone]))


def test_smaller_batches_are_padded_to_one_size() -> None:
    sizes: list[int] = []

    class Counts(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            return super().forward(x)

    net = small(nn.Sequential(Counts(3, 2, 1)))
    layers = [net.layers["0"]]
    sizes.clear()
    with open_finder(net, layers) as run:
        for count in (5, 2, 1):
            peaks = find_peaks(run, layers, batch_of(images(count)), 5)
            assert peaks.activations.shape == (count, 2) and peaks.numbers.tolist() == list(
                range(10, 10 + count)
            )
        none = find_peaks(run, layers, batch_of(torch.empty(0, 3, 16, 16), ((1, "no"), (2, "no"))), 5)
    assert sizes == [5, 5, 5]
    assert (
        none.activations.shape == (0, 2)
        and len(none.numbers) == 0
        and dict(none.skipped) == {1: "no", 2: "no"}
    )


def test_padding_does_not_affect_a_network_that_divides_by_its_input() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x / x.abs().amax((1, 2, 3), keepdim=True))

    net = small(Scaled())
    layers = [net.layers["conv"]]
    with open_finder(net, layers) as run:
        peaks = find_peaks(run, layers, batch_of(images(2)), 4)
    assert peaks.numbers.tolist() == [10, 11] and not peaks.skipped
    assert np.isfinite(peaks.activations).all()


def test_layer_without_one_row_per_image_raises() -> None:
    class Tokens(nn.Module):
        """Network in which all positions of all images are rows of one matrix."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.mix = nn.Conv2d(3, 4, 1), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.mix(x.flatten(2).transpose(1, 2).reshape(-1, 4)).reshape(len(x), -1)

    net = small(Tokens())
    with pytest.raises(LayerError, match=r"mix of Tokens returned 768 rows for 3 images"):
        find(net, ["mix"], images())
    assert find(net, ["conv"], images())[0].shape == (3, 4)


def test_layer_that_is_not_reached_or_changes_its_shape_raises() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.rare = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 3)
            self.always = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x) if bool(x.any()) else self.rare(x)
            return self.always(x)

    net = small(Picky())  # the layer table is made with an empty image
    with pytest.raises(LayerError, match="rare of Picky was not reached with these images"):
        find(net, ["rare"], images())
    with pytest.raises(
        LayerError, match=r"always of Picky returned shape \(2, 16, 16\) .* not \(2, 14, 14\)"
    ):
        find(net, ["always"], images())


def test_peaks_do_not_depend_on_earlier_batches() -> None:
    net = small()
    layers = [net.layers["0"]]
    with open_finder(net, layers) as run:
        first, again = run(images(seed=1)), run(images(seed=2))
        third = run(images(seed=1))
    assert np.array_equal(first[0], third[0]) and not np.array_equal(first[0], again[0])
    assert not net.module[0]._forward_hooks
