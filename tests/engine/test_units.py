"""Which units are the strongest, which there are, and what is kept of them."""

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
from deconvviz.engine.receptive_fields import Spans
from deconvviz.engine.units import TensorSeed, Unit, UnitSeed, checked, strongest
from deconvviz.errors import UnitError

MAP = torch.tensor(
    [
        [[[1.0, 5], [2, 0]], [[9, 9], [3, 9]], [[-1, -2], [-3, -4]]],
        [[[5.0, 5], [5, 5]], [[0, 0], [0, 9]], [[7, 0], [0, 7]]],
    ]
)  # (2 pictures, 3 channels, 2, 2)
VECTOR = torch.tensor([[1.0, 4, 2], [3, 4, -1]])  # (2 pictures, 3 units)


def _window(seen: Seen, layout: TensorLayout, images: torch.Tensor) -> Window:
    """The smallest windows of one common size that hold what each unit sees, inside the map."""
    return Spans.of(seen, layout).window(slice(None), images)


def test_the_peak_of_each_channel() -> None:
    assert strongest(MAP, 3, "conv1") == [Unit(0, 1, 0, 0, 9.0), Unit(1, 2, 0, 0, 7.0), Unit(0, 0, 0, 1, 5.0)]


def test_the_highest_positions_of_a_channel() -> None:
    assert strongest(MAP, 4, "conv1", channel=1) == [
        Unit(0, 1, 0, 0, 9.0), Unit(0, 1, 0, 1, 9.0), Unit(0, 1, 1, 1, 9.0), Unit(1, 1, 1, 1, 9.0),
    ]  # fmt: skip


def test_of_a_fully_connected_layer() -> None:
    assert strongest(VECTOR, 2, "fc6") == [Unit(0, 1, None, None, 4.0), Unit(1, 0, None, None, 3.0)]
    assert strongest(VECTOR, 2, "fc6", channel=2) == [Unit(0, 2, activation=2.0), Unit(1, 2, activation=-1.0)]


@st.composite
def said(draw: st.DrawFn) -> Tensor:
    """Activations with many ties."""
    shape = draw(st.sampled_from([(1, 4, 3, 2), (3, 5, 2, 4), (2, 6), (1, 1, 1, 1), (2, 3, 1, 5)]))
    values = st.sampled_from([-2.0, 0.0, 1.0, 1.5])
    numbers = draw(st.lists(values, min_size=math.prod(shape), max_size=math.prod(shape)))
    return torch.tensor(numbers).reshape(shape)


def _sorted_by_hand(said: Tensor) -> list[tuple[float, int, int, tuple[int, ...]]]:
    """Every unit, strongest first; the lower channel, picture, row, column first among equals."""
    units = [(-float(value), place[1], place[0], place[2:]) for place, value in np.ndenumerate(said.numpy())]
    return sorted(units)


@given(said(), st.data())
def test_against_a_full_sort(said: Tensor, data: st.DataObject) -> None:
    everything = _sorted_by_hand(said)
    peaks: dict[int, tuple[float, int, int, tuple[int, ...]]] = {}
    for unit in everything:
        peaks.setdefault(unit[1], unit)
    k = data.draw(st.integers(1, said.shape[1]))
    found = [(-u.activation, u.channel, u.image, _place(u)) for u in strongest(said, k, "layer")]
    assert found == sorted(peaks.values())[:k]

    channel = data.draw(st.integers(0, said.shape[1] - 1))
    own = [unit for unit in everything if unit[1] == channel]
    k = data.draw(st.integers(1, len(own)))
    found = [(-u.activation, u.channel, u.image, _place(u)) for u in strongest(said, k, "layer", channel)]
    assert found == own[:k]


def _place(unit: Unit) -> tuple[int, ...]:
    return () if unit.y is None or unit.x is None else (unit.y, unit.x)


WRONG_COUNTS = [
    (MAP, 0, None, "0 units were asked for; ask for 1 or more"),
    (MAP, -3, None, "-3 units were asked for; ask for 1 or more"),
    (MAP, 4, None, "4 units were asked for; conv1 has 3 channels"),
    (MAP, 9, 1, "9 units were asked for; channel 1 of conv1 has 8 positions"),
    (MAP, 1, 3, "no channel 3 in conv1: there are 0 to 2"),
    (MAP, 1, -1, "no channel -1 in conv1: there are 0 to 2"),
    (MAP[:, :1], 1, 1, "no channel 1 in conv1: there is only 0"),
    (MAP * math.nan, 1, None, "the layer holds NaN: there is no strongest unit"),
    (MAP * math.nan, 1, 0, "the layer holds NaN: there is no strongest unit"),
]


@pytest.mark.parametrize(("said", "k", "channel", "message"), WRONG_COUNTS)
def test_wrong_counts(said: Tensor, k: int, channel: int | None, message: str) -> None:
    with pytest.raises(UnitError) as wrong:
        strongest(said, k, "conv1", channel)
    assert str(wrong.value) == message


HALF = "unit (picture 0, channel 0 at ({})) has half a position: give both y and x, or neither"
WRONG_UNITS = [
    (MAP, Unit(2, 0, 0, 0), "no picture 2 in conv1: there are 0 to 1"),
    (MAP, Unit(-1, 0, 0, 0), "no picture -1 in conv1: there are 0 to 1"),
    (MAP[:1], Unit(1, 0, 0, 0), "no picture 1 in conv1: there is only 0"),
    (MAP, Unit(0, 3, 0, 0), "no channel 3 in conv1: there are 0 to 2"),
    (MAP, Unit(0, 0, 2, 0), "no row 2 in conv1: there are 0 to 1"),
    (MAP, Unit(0, 0, 0, -1), "no column -1 in conv1: there are 0 to 1"),
    (MAP, Unit(0, 0, 1), HALF.format("1, None")),
    (MAP, Unit(0, 0, x=1), HALF.format("None, 1")),
    (
        VECTOR,
        Unit(0, 1, 0, 0),
        "unit (picture 0, channel 1 at (0, 0)) has a position, but the units of conv1 have none",
    ),
]


@pytest.mark.parametrize(("said", "unit", "message"), WRONG_UNITS)
def test_units_outside(said: Tensor, unit: Unit, message: str) -> None:
    with pytest.raises(UnitError) as wrong:
        checked(said, [Unit(0, 0), unit], "conv1")
    assert str(wrong.value) == message


def test_units_learn_what_they_said() -> None:
    units = [Unit(0, 1, 1, 0), Unit(1, 2), Unit(0, 2, activation=123.0)]
    assert checked(MAP, units, "conv1") == [
        Unit(0, 1, 1, 0, 3.0),
        Unit(1, 2, None, None, 7.0),  # a whole channel: the highest of its map
        Unit(0, 2, None, None, -1.0),
    ]


def test_one_readable_line() -> None:
    assert str(Unit(0, 5, 2, 3, 1.23456)) == "picture 0, channel 5 at (2, 3) = 1.235"
    assert str(Unit(1, 7)) == "picture 1, channel 7"


def test_what_is_kept_of_a_unit_of_a_channel_and_of_a_vector() -> None:
    seed = UnitSeed(MAP, [Unit(0, 1, 1, 0), Unit(1, 0)])
    assert len(seed) == 2 and seed.images.tolist() == [0, 1]
    assert [axis.tolist() for axis in seed.seen] == [[[False, True], [True] * 2], [[True, False], [True] * 2]]
    both = torch.arange(2)
    at = _window(seed.seen, TensorLayout.of((3, 2, 2)), seed.images)
    want = torch.zeros(2, 3, 2, 2)
    want[0, 1, 1, 0] = 3
    want[1, 0] = 5
    assert torch.equal(seed.signal(both, at), want)
    alone = torch.tensor([0])
    small = _window((seed.seen[0][:1], seed.seen[1][:1]), TensorLayout.of((3, 2, 2)), seed.images[:1])
    assert small.size == (1, 1) and small.start.tolist() == [[1, 0]]
    assert seed.signal(alone, small).flatten().tolist() == [0, 3, 0]

    vector = UnitSeed(VECTOR, [Unit(1, 2)])
    assert vector.signal(alone, _window(vector.seen, TensorLayout.of((3,)), vector.images)).tolist() == [
        [0, 0, -1]
    ]


NONE = [False, False]


def test_what_is_kept_of_a_tensor() -> None:
    signals = torch.zeros(2, 3, 2, 2)
    signals[0, 2, 0, 1] = 4
    seed = TensorSeed(MAP.double(), signals, [1, 1], "conv1")
    assert [axis.tolist() for axis in seed.seen] == [[[True, False], NONE], [[False, True], NONE]]
    part = torch.tensor([0])
    small = _window((seed.seen[0][:1], seed.seen[1][:1]), TensorLayout.of((3, 2, 2)), seed.images[:1])
    kept = seed.signal(part, small)
    assert kept.flatten().tolist() == [0, 0, 4] and kept.dtype == torch.float64


@pytest.mark.parametrize(
    ("shape", "images", "message"),
    [
        ((2, 3, 2, 3), [0, 1], "a tensor of shape (2, 3, 2, 3) does not fit conv1: (2, 3, 2, 2) is needed"),
        ((3, 2, 2), [0], "a tensor of shape (3, 2, 2) does not fit conv1: (1, 3, 2, 2) is needed"),
        ((2, 3, 2, 2), [0], "a tensor of shape (2, 3, 2, 2) does not fit conv1: (1, 3, 2, 2) is needed"),
    ],
)
def test_tensors_that_do_not_fit(shape: tuple[int, ...], images: list[int], message: str) -> None:
    with pytest.raises(UnitError) as wrong:
        TensorSeed(MAP, torch.zeros(shape), images, "conv1")
    assert str(wrong.value) == message


def test_the_zero_map_of_a_dead_layer() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    with torch.no_grad():
        net[0].bias.fill_(-1e6)  # type: ignore[union-attr, operator]
    ours = passes.run(net, torch.randn(1, 3, 8, 8))
    pixels, boxes = ours.units("1", [Unit(0, 1, 2, 2), Unit(0, 3)])
    assert not pixels.any() and boxes == [(2, 2, 5, 5), (0, 0, 8, 8)]
    assert not ours.signals("2", torch.zeros(1, 4, 4, 4), [0]).any()
