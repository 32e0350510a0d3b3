"""The peaks of a batch while the network runs, against plain loops over what it says."""

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
from deconvviz.dataset_search.peak_finder import Numbers, finding, look
from deconvviz.errors import LayerError
from deconvviz.image_sources.batches import Batch


def find(net: dv.Network, names: list[str], pictures: Tensor) -> tuple[Numbers, Numbers]:
    with finding(net, [net.layers.find(name) for name in names]) as run:
        return run(pictures)


def pictures(count: int = 3, size: int = 16, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


class Says(nn.Module):
    """Gives what it is told to, whatever the picture: one row for each."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.anchor = nn.Conv2d(3, 1, 1)
        self.maps, self.out = maps, nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        tied = self.anchor(x).sum() * 0  # so that it depends on the picture
        return self.out(
            (self.maps[:1].expand(len(x), *self.maps.shape[1:]) if len(x) == 1 else self.maps) + tied
        )


@given(
    maps=st.lists(st.sampled_from([-2.0, -0.0, 0.0, 1.0, 1.5]), min_size=2 * 2 * 6, max_size=2 * 2 * 6),
)
def test_the_first_of_equal_positions_row_by_row(maps: list[float]) -> None:
    said = torch.tensor(maps).reshape(2, 2, 2, 3)
    high, places = find(small(Says(said)), ["out"], pictures(2))
    for image, channel in np.ndindex(2, 2):
        flat = maps[(image * 2 + channel) * 6 :][:6]
        assert high[image, channel] == max(flat)
        assert places[image, channel] == flat.index(max(flat))


def test_layers_stand_one_after_the_other_as_asked_for() -> None:
    net = small()
    rec = net.record(pictures(), ["3", "0", "6"])
    high, places = find(net, ["3", "0", "6"], pictures())
    assert (high.dtype, places.dtype, high.shape) == (np.float32, np.int32, (3, 5 + 6 + 4))
    first = 0
    for name in ("3", "0", "6"):
        said = rec.activations(name).numpy()
        for image in range(3):
            for channel in range(said.shape[1]):
                flat = said[image, channel].reshape(-1).tolist()
                assert high[image, first + channel] == max(flat)
                assert places[image, first + channel] == flat.index(max(flat))
        first += said.shape[1]


def test_a_convolution_is_seen_before_the_relu_in_place() -> None:
    net = small(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=True)))
    with torch.no_grad():
        net.module[0].bias.fill_(-50)
        want = net.module[0](pictures()).amax((2, 3)).numpy()
    high, _ = find(net, ["0", "1"], pictures())
    assert (high[:, :8] == want).all() and (high[:, :8] < -1).all()
    assert (high[:, 8:] == 0).all()


def test_maps_with_channels_last_and_vectors() -> None:
    class Last(nn.Module):
        """As a block of ConvNeXt: a layer norm and a linear over the last axis."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.wide = nn.Conv2d(3, 4, 2, 2), nn.LayerNorm(4), nn.Linear(4, 7)
            self.scores = nn.Linear(7, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.wide(self.norm(self.conv(x).permute(0, 2, 3, 1)))
            return self.scores(x.mean((1, 2)))

    net = small(Last())
    assert net.layers["wide"].channels_last
    said = net.record(pictures(), ["wide", "scores"])
    high, places = find(net, ["wide", "scores"], pictures())
    maps = said.activations("wide")
    assert maps.shape == (3, 7, 8, 8)
    assert (high[:, :7] == maps.amax((2, 3)).numpy()).all()
    assert (places[:, :7] == maps.flatten(2).argmax(2).numpy()).all()
    assert (high[:, 7:] == said.activations("scores").numpy()).all()
    assert not places[:, 7:].any()


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(torch.float64, np.float64), (torch.bfloat16, np.float32), (torch.float32, np.float32)],
)
def test_precision(dtype: torch.dtype, kept: Any) -> None:
    net = small(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))
    net.module.to(dtype)
    high, _ = find(net, ["0"], pictures())
    assert high.dtype == kept
    with torch.no_grad():
        want = net.module[0](pictures().to(dtype)).amax((2, 3))
    assert (high == want.to(torch.float64).numpy()).all()


def test_a_layer_of_doubles_in_a_network_of_singles_is_told_in_singles() -> None:
    close = torch.tensor([[1.0, 1 + 2**-40]], dtype=torch.float64).reshape(1, 1, 1, 2).expand(2, 1, 1, 2)
    high, places = find(small(Says(close)), ["out"], pictures(2))
    assert high.dtype == np.float32
    assert places.tolist() == [[0], [0]]  # equal as singles: the first


def test_gradients_within_a_network() -> None:
    class Learns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                return self.conv(x)

    net = small(Learns())
    high, _ = find(net, ["conv"], pictures())
    assert (high == net.record(pictures(), "conv").activations("conv").amax((2, 3)).numpy()).all()


def test_nan_is_a_peak_so_that_it_is_found() -> None:
    maps = torch.zeros(2, 3, 2, 2)
    maps[1, 1, 0, 1] = torch.nan
    maps[1, 2, 1, 1] = torch.inf
    maps[0, 0] = -torch.inf
    maps[0, 0, 1, 0] = -3  # a mask's minus infinity beside it is no harm
    high, places = find(small(Says(maps)), ["out"], pictures(2))
    assert high[0].tolist() == [-3, 0, 0] and places[0, 0] == 2
    assert np.isnan(high[1, 1]) and high[1, 2] == np.inf and high[1, 0] == 0


def batch_of(inputs: Tensor, failures: tuple[tuple[int, str], ...] = ()) -> Batch:
    numbers = np.arange(10, 10 + len(inputs))
    return Batch(0, numbers, inputs, failures, 0.0)


def test_a_look_leaves_out_pictures_with_nan_and_says_in_which_layer() -> None:
    net = small(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)))
    layers = [net.layers["0"], net.layers["1"]]
    inputs = pictures(4)
    inputs[2, 0, 5, 5] = torch.nan
    with torch.no_grad():
        net.module[1].bias[1] = 3e38
        net.module[1].weight[1] = 1e30
    inputs[1] = 1e10
    with finding(net, layers) as run:
        peaks = look(run, layers, batch_of(inputs, ((9, "no picture"),)), 6)
        alone = [look(run, layers, batch_of(inputs[one : one + 1]), 6) for one in (0, 3)]
    assert dict(peaks.skipped) == {
        9: "no picture",
        11: "1 gives NaN or infinity",
        12: "0 gives NaN or infinity",
    }
    assert peaks.numbers.tolist() == [10, 13]
    assert np.array_equal(peaks.said, np.concatenate([one.said for one in alone]))
    assert np.array_equal(peaks.places, np.concatenate([one.places for one in alone]))


def test_a_batch_is_filled_so_that_a_network_always_sees_as_many() -> None:
    sizes: list[int] = []

    class Counts(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            return super().forward(x)

    net = small(nn.Sequential(Counts(3, 2, 1)))
    layers = [net.layers["0"]]
    sizes.clear()
    with finding(net, layers) as run:
        for count in (5, 2, 1):
            peaks = look(run, layers, batch_of(pictures(count)), 5)
            assert peaks.said.shape == (count, 2) and peaks.numbers.tolist() == list(range(10, 10 + count))
        none = look(run, layers, batch_of(torch.empty(0, 3, 16, 16), ((1, "no"), (2, "no"))), 5)
    assert sizes == [5, 5, 5]
    assert none.said.shape == (0, 2) and len(none.numbers) == 0 and dict(none.skipped) == {1: "no", 2: "no"}


def test_a_network_that_divides_by_a_picture_is_not_hurt_by_the_filling() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x / x.abs().amax((1, 2, 3), keepdim=True))

    net = small(Scaled())
    layers = [net.layers["conv"]]
    with finding(net, layers) as run:
        peaks = look(run, layers, batch_of(pictures(2)), 4)
    assert peaks.numbers.tolist() == [10, 11] and not peaks.skipped
    assert np.isfinite(peaks.said).all()


def test_a_layer_whose_rows_are_no_pictures_is_an_error_and_no_wrong_index() -> None:
    class Tokens(nn.Module):
        """All positions of all pictures as the rows of one matrix."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.mix = nn.Conv2d(3, 4, 1), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.mix(x.flatten(2).transpose(1, 2).reshape(-1, 4)).reshape(len(x), -1)

    net = small(Tokens())
    with pytest.raises(LayerError, match=r"mix of Tokens gave 768 rows for 3 pictures"):
        find(net, ["mix"], pictures())
    assert find(net, ["conv"], pictures())[0].shape == (3, 4)


def test_a_layer_that_is_not_reached_or_changes_its_shape_is_an_error() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.rare = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 3)
            self.always = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x) if bool(x.any()) else self.rare(x)
            return self.always(x)

    net = small(Picky())  # the sketch is of an empty picture
    with pytest.raises(LayerError, match="rare of Picky was not reached with these images"):
        find(net, ["rare"], pictures())
    with pytest.raises(LayerError, match=r"always of Picky gave \(2, 16, 16\) .* not \(2, 14, 14\)"):
        find(net, ["always"], pictures())


def test_nothing_of_an_earlier_batch_is_left() -> None:
    net = small()
    layers = [net.layers["0"]]
    with finding(net, layers) as run:
        first, again = run(pictures(seed=1)), run(pictures(seed=2))
        third = run(pictures(seed=1))
    assert np.array_equal(first[0], third[0]) and not np.array_equal(first[0], again[0])
    assert not net.module[0]._forward_hooks
