"""The strongest units of a layer, the validation of units, and their signals."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from helpers import passes
from hypothesis import given
from torch import Tensor, nn

from deconvviz.engine.layout import Seen, TensorLayout, Window
from deconvviz.engine.pixel_fields import hull_of
from deconvviz.engine.unit_windows import AllSpans, Spans, Windows
from deconvviz.engine.units import TensorSeed, Unit, UnitSeed, checked, strongest
from deconvviz.errors import UnitError

MAP = torch.tensor(
    [
        [[[1.0, 5], [2, 0]], [[9, 9], [3, 9]], [[-1, -2], [-3, -4]]],
        [[[5.0, 5], [5, 5]], [[0, 0], [0, 9]], [[7, 0], [0, 7]]],
    ]
)  # (2 images, 3 channels, 2, 2)
VECTOR = torch.tensor([[1.0, 4, 2], [3, 4, -1]])  # (2 images, 3 units)


def _window(seen: Seen, layout: TensorLayout, images: torch.Tensor) -> Window:
    """Return the smallest windows of a common size that contain the rows and columns of each unit."""
    spans = AllSpans({0: Spans.of(hull_of(seen), layout)})
    return Windows(spans, torch.arange(len(images)), images)[0]


def test_strongest_returns_the_peak_of_each_channel() -> None:
    assert strongest(MAP, 3, "conv1") == [Unit(0, 1, 0, 0, 9.0), Unit(1, 2, 0, 0, 7.0), Unit(0, 0, 0, 1, 5.0)]


def test_strongest_of_one_channel_returns_its_highest_positions() -> None:
    assert strongest(MAP, 4, "conv1", channel=1) == [
        Unit(0, 1, 0, 0, 9.0), Unit(0, 1, 0, 1, 9.0), Unit(0, 1, 1, 1, 9.0), Unit(1, 1, 1, 1, 9.0),
    ]  # fmt: skip


def test_strongest_of_a_fully_connected_layer_has_no_positions() -> None:
    assert strongest(VECTOR, 2, "fc6") == [Unit(0, 1, None, None, 4.0), Unit(1, 0, None, None, 3.0)]
    assert strongest(VECTOR, 2, "fc6", channel=2) == [Unit(0, 2, activation=2.0), Unit(1, 2, activation=-1.0)]


@st.composite
def tied_activations(draw: st.DrawFn) -> Tensor:
    """Activations with many ties."""
    shape = draw(st.sampled_from([(1, 4, 3, 2), (3, 5, 2, 4), (2, 6), (1, 1, 1, 1), (2, 3, 1, 5)]))
    values = st.sampled_from([-2.0, 0.0, 1.0, 1.5])
    numbers = draw(st.lists(values, min_size=math.prod(shape), max_size=math.prod(shape)))
    return torch.tensor(numbers).reshape(shape)


def _all_sorted(activations: Tensor) -> list[tuple[float, int, int, tuple[int, ...]]]:
    """Return every unit, strongest first. Ties go to the lower channel, image, row and column."""
    numbers = np.ndenumerate(activations.numpy())
    return sorted((-float(value), place[1], place[0], place[2:]) for place, value in numbers)


@given(tied_activations(), st.data())
def test_strongest_equals_a_full_sort(activations: Tensor, data: st.DataObject) -> None:
    everything = _all_sorted(activations)
    peaks: dict[int, tuple[float, int, int, tuple[int, ...]]] = {}
    for unit in everything:
        peaks.setdefault(unit[1], unit)
    k = data.draw(st.integers(1, activations.shape[1]))
    found = [(-u.activation, u.channel, u.image, _place(u)) for u in strongest(activations, k, "layer")]
    assert found == sorted(peaks.values())[:k]

    channel = data.draw(st.integers(0, activations.shape[1] - 1))
    own = [unit for unit in everything if unit[1] == channel]
    k = data.draw(st.integers(1, len(own)))
    units = strongest(activations, k, "layer", channel)
    assert [(-u.activation, u.channel, u.image, _place(u)) for u in units] == own[:k]


def _place(unit: Unit) -> tuple[int, ...]:
    return () if unit.y is None or unit.x is None else (unit.y, unit.x)


WRONG_COUNTS = [
    (MAP, 0, None, "0 units were requested. Request 1 or more"),
    (MAP, -3, None, "-3 units were requested. Request 1 or more"),
    (MAP, 4, None, "4 units were requested, but conv1 has 3 channels"),
    (MAP, 9, 1, "9 units were requested, but channel 1 of conv1 has 8 positions"),
    (MAP, 1, 3, "no channel 3 in conv1: there are 0 to 2"),
    (MAP, 1, -1, "no channel -1 in conv1: there are 0 to 2"),
    (MAP[:, :1], 1, 1, "no channel 1 in conv1: there is only 0"),
    (MAP * math.nan, 1, None, "the layer's activations contain NaN: there is no strongest unit"),
    (MAP * math.nan, 1, 0, "the layer's activations contain NaN: there is no strongest unit"),
]


@pytest.mark.parametrize(("activations", "k", "channel", "message"), WRONG_COUNTS)
def test_strongest_raises_for_an_impossible_request(
    activations: Tensor, k: int, channel: int | None, message: str
) -> None:
    with pytest.raises(UnitError) as error:
        strongest(activations, k, "conv1", channel)
    assert str(error.value) == message


HALF = "unit (image 0, channel 0 at ({})) has only half a position. Give both y and x, or neither"
WRONG_UNITS = [
    (MAP, Unit(2, 0, 0, 0), "no image 2 in conv1: there are 0 to 1"),
    (MAP, Unit(-1, 0, 0, 0), "no image -1 in conv1: there are 0 to 1"),
    (MAP[:1], Unit(1, 0, 0, 0), "no image 1 in conv1: there is only 0"),
    (MAP, Unit(0, 3, 0, 0), "no channel 3 in conv1: there are 0 to 2"),
    (MAP, Unit(0, 0, 2, 0), "no row 2 in conv1: there are 0 to 1"),
    (MAP, Unit(0, 0, 0, -1), "no column -1 in conv1: there are 0 to 1"),
    (MAP, Unit(0, 0, 1), HALF.format("1, None")),
    (MAP, Unit(0, 0, x=1), HALF.format("None, 1")),
    (
        VECTOR,
        Unit(0, 1, 0, 0),
        "unit (image 0, channel 1 at (0, 0)) has a position, but the units of conv1 have none",
    ),
]


@pytest.mark.parametrize(("activations", "unit", "message"), WRONG_UNITS)
def test_unit_that_does_not_exist_raises(activations: Tensor, unit: Unit, message: str) -> None:
    with pytest.raises(UnitError) as error:
        checked(activations, [Unit(0, 0), unit], "conv1")
    assert str(error.value) == message


def test_checked_units_have_their_recorded_activations() -> None:
    units = [Unit(0, 1, 1, 0), Unit(1, 2), Unit(0, 2, activation=123.0)]
    assert checked(MAP, units, "conv1") == [
        Unit(0, 1, 1, 0, 3.0),
        Unit(1, 2, None, None, 7.0),  # a whole channel: the maximum of its map
        Unit(0, 2, None, None, -1.0),
    ]


def test_unit_as_text() -> None:
    assert str(Unit(0, 5, 2, 3, 1.23456)) == "image 0, channel 5 at (2, 3) = 1.235"
    assert str(Unit(1, 7)) == "image 1, channel 7"


def test_signals_of_a_unit_a_whole_channel_and_a_vector() -> None:
    seed = UnitSeed(MAP, [Unit(0, 1, 1, 0), Unit(1, 0)])
    assert len(seed) == 2 and seed.image_indices.tolist() == [0, 1]
    assert [axis.tolist() for axis in seed.seen] == [[[False, True], [True] * 2], [[True, False], [True] * 2]]
    both = torch.arange(2)
    at = _window(seed.seen, TensorLayout.of((3, 2, 2)), seed.image_indices)
    want = torch.zeros(2, 3, 2, 2)
    want[0, 1, 1, 0] = 3
    want[1, 0] = 5
    assert torch.equal(seed.signal(both, at), want)
    alone = torch.tensor([0])
    small = _window((seed.seen[0][:1], seed.seen[1][:1]), TensorLayout.of((3, 2, 2)), seed.image_indices[:1])
    assert small.size == (1, 1) and small.start.tolist() == [[1, 0]]
    assert seed.signal(alone, small).flatten().tolist() == [0, 3, 0]

    vector = UnitSeed(VECTOR, [Unit(1, 2)])
    assert vector.signal(
        alone, _window(vector.seen, TensorLayout.of((3,)), vector.image_indices)
    ).tolist() == [[0, 0, -1]]


NONE = [False, False]


def test_signal_of_a_tensor_is_its_window_in_the_dtype_of_the_layer() -> None:
    signals = torch.zeros(2, 3, 2, 2)
    signals[0, 2, 0, 1] = 4
    seed = TensorSeed(MAP.double(), signals, [1, 1], "conv1")
    assert [axis.tolist() for axis in seed.seen] == [[[True, False], NONE], [[False, True], NONE]]
    part = torch.tensor([0])
    small = _window((seed.seen[0][:1], seed.seen[1][:1]), TensorLayout.of((3, 2, 2)), seed.image_indices[:1])
    kept = seed.signal(part, small)
    assert kept.flatten().tolist() == [0, 0, 4] and kept.dtype == torch.float64


@pytest.mark.parametrize(
    ("shape", "images", "message"),
    [
        ((2, 3, 2, 3), [0, 1], "(2, 3, 2, 3) does not fit conv1: the shape must be (2, 3, 2, 2)"),
        ((3, 2, 2), [0], "(3, 2, 2) does not fit conv1: the shape must be (1, 3, 2, 2)"),
        ((2, 3, 2, 2), [0], "(2, 3, 2, 2) does not fit conv1: the shape must be (1, 3, 2, 2)"),
    ],
)
def test_signal_of_another_shape_than_the_layer_raises(
    shape: tuple[int, ...], images: list[int], message: str
) -> None:
    with pytest.raises(UnitError) as error:
        TensorSeed(MAP, torch.zeros(shape), images, "conv1")
    assert str(error.value) == f"a tensor of shape {message}"


def test_dead_layer_projects_to_zero() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    with torch.no_grad():
        net[0].bias.fill_(-1e6)  # type: ignore[union-attr, operator]
    ours = passes.run(net, torch.randn(1, 3, 8, 8))
    pixels, boxes = ours.units("1", [Unit(0, 1, 2, 2), Unit(0, 3)])
    assert not pixels.any() and boxes == [(2, 2, 5, 5), (0, 0, 8, 8)]
    assert not ours.signals("2", torch.zeros(1, 4, 4, 4), [0]).any()
