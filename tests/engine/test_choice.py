"""The strongest units with receptive fields that are apart, compared with a loop over all units."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from deconvviz.engine.choice import FieldGrid, UnitChoice, choose
from deconvviz.engine.units import Unit, strongest
from deconvviz.errors import UnitError

GRID = FieldGrid(size=(8, 8), stride=(4, 4), offset=(-2, -2), image=(20, 20))


@st.composite
def activations(draw: st.DrawFn) -> Tensor:
    """Maps with ties, silent channels and negative values."""
    shape = draw(st.sampled_from([(1, 6, 4, 5), (2, 8, 3, 3), (3, 4, 6, 2), (1, 1, 1, 1)]))
    values = st.sampled_from([-2.0, 0.0, 0.0, 1.0, 1.5, 2.0, 3.0])
    numbers = draw(st.lists(values, min_size=math.prod(shape), max_size=math.prod(shape)))
    return torch.tensor(numbers).reshape(shape)


@st.composite
def grids(draw: st.DrawFn) -> FieldGrid:
    """Receptive fields with unequal sides, fractional strides and a stride of 0."""
    sizes, strides = st.sampled_from([1, 2, 3, 7, 8, 20]), st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0])
    return FieldGrid(
        (draw(sizes), draw(sizes)), (draw(strides), draw(strides)), (draw(st.integers(-4, 2)), -1), (16, 16)
    )


def _centre(grid: FieldGrid, unit: Unit) -> tuple[float, float]:
    assert unit.y is not None and unit.x is not None
    y = grid.offset[0] + unit.y * grid.stride[0] + grid.size[0] / 2
    x = grid.offset[1] + unit.x * grid.stride[1] + grid.size[1] / 2
    return y, x


def _near(grid: FieldGrid, one: Unit, other: Unit) -> bool:
    (y, x), (v, u) = _centre(grid, one), _centre(grid, other)
    return one.image == other.image and abs(y - v) < grid.size[0] / 2 and abs(x - u) < grid.size[1] / 2


def _by_loop(candidates: list[Unit], k: int, grid: FieldGrid) -> tuple[list[Unit], int]:
    """Choose units one by one, strongest first. Return the chosen units and how many were left out."""
    taken: list[Unit] = []
    passed = 0
    for number, unit in enumerate(candidates):
        if len(taken) == k:
            break
        if unit.activation == 0 and number > 0:
            continue
        if any(_near(grid, unit, other) for other in taken):
            passed += 1
        else:
            taken.append(unit)
    return taken, passed


@given(activations(), grids(), st.data())
def test_choice_apart_equals_a_loop_over_all_units(
    maps: Tensor, grid: FieldGrid, data: st.DataObject
) -> None:
    channel = data.draw(st.none() | st.integers(0, maps.shape[1] - 1))
    count = maps.shape[1] if channel is None else maps[:, 0].numel()
    k = data.draw(st.integers(1, count))
    found = choose(maps, k, "layer", channel, apart=grid)
    candidates = strongest(maps, count, "layer", channel)
    want, passed = _by_loop(candidates, k, grid)
    assert list(found) == want and found.passed_over == passed
    assert found.asked == k and not found.whole_fields
    silent = sum(unit.activation == 0 for unit in candidates[1:])
    assert found.silent == (silent if len(want) < k else 0)
    if len(want) < k:
        assert len(want) + passed + silent == count


@given(activations(), st.data())
def test_choice_without_options_equals_strongest(maps: Tensor, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, maps.shape[1]))
    found = choose(maps, k, "layer")
    assert list(found) == strongest(maps, k, "layer") and found.passed_over is None and found.note == ""


@given(activations(), st.data())
def test_choice_inside_ranges_equals_strongest_of_the_cropped_map(maps: Tensor, data: st.DataObject) -> None:
    ends = [sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2))) for n in maps.shape[2:]]
    (top, bottom), (left, right) = ends
    if top == bottom or left == right:
        return
    found = choose(maps, 1, "layer", inside=(range(top, bottom), range(left, right)))
    (unit,) = found
    part = strongest(maps[:, :, top:bottom, left:right], 1, "layer")[0]
    assert part.y is not None and part.x is not None
    assert unit == Unit(part.image, part.channel, part.y + top, part.x + left, part.activation)
    assert found.whole_fields


def _maps(*places: tuple[int, int], size: int = 9) -> Tensor:
    """Return a map with one active position per channel. Each channel is weaker than the one before."""
    maps = torch.zeros(1, len(places), size, size)
    for channel, (y, x) in enumerate(places):
        maps[0, channel, y, x] = 100.0 - channel
    return maps


@pytest.mark.parametrize(
    ("size", "place", "is_kept"),
    [
        ((9, 9), (4, 5), False),  # 4 pixels are less than half of 9
        ((9, 9), (5, 5), False),
        ((8, 8), (4, 5), True),  # 4 pixels are exactly half of 8
        ((8, 8), (4, 4), False),
        ((9, 9), (4, 6), True),
        ((9, 9), (6, 5), True),  # distance in one direction is enough
        ((9, 17), (4, 6), False),  # unequal sides: 8 pixels are less than half of 17
        ((17, 9), (4, 6), True),
        ((17, 9), (6, 4), False),
    ],
)
def test_unit_at_exactly_half_a_field_is_kept(
    size: tuple[int, int], place: tuple[int, int], is_kept: bool
) -> None:
    grid = FieldGrid(size, (4, 4), (0, 0), (99, 99))
    assert len(choose(_maps((4, 4), place), 2, "layer", apart=grid)) == 1 + is_kept


def test_passed_over_unit_does_not_exclude_others() -> None:
    """Unit 1 is within half a field of unit 0; unit 2 is within half a field of unit 1 only."""
    grid = FieldGrid((9, 9), (4, 4), (0, 0), (99, 99))
    found = choose(_maps((4, 2), (4, 3), (4, 4)), 2, "layer", apart=grid)
    assert [unit.channel for unit in found] == [0, 2] and found.passed_over == 1


def test_units_of_different_images_never_exclude_each_other() -> None:
    maps = torch.cat([_maps((4, 4), (0, 0)), _maps((0, 0), (4, 4))])
    maps[0, 1] = 0  # channel 1 peaks in the second image, where channel 0 peaks in the first
    assert [unit.image for unit in choose(maps, 2, "layer", apart=GRID)] == [0, 1]


def test_only_the_peak_of_a_channel_is_a_candidate() -> None:
    """The second-highest position of channel 1 is far from channel 0, but its peak is not."""
    maps = _maps((4, 4), (4, 5))
    maps[0, 1, 0, 0] = 50
    found = choose(maps, 2, "layer", apart=FieldGrid((9, 9), (4, 4), (0, 0), (99, 99)))
    assert [unit.channel for unit in found] == [0] and found.passed_over == 1


def test_choice_within_one_channel_skips_close_positions() -> None:
    maps = torch.arange(25.0).reshape(1, 1, 5, 5)
    found = choose(maps, 4, "layer", 0, apart=FieldGrid((3, 3), (1, 1), (0, 0), (99, 99)))
    assert [(unit.y, unit.x) for unit in found] == [(4, 4), (4, 2), (4, 0), (2, 4)]
    assert found.passed_over == 7


def test_silent_layer_returns_one_unit() -> None:
    found = choose(torch.zeros(1, 5, 4, 4), 3, "layer", apart=GRID)
    assert list(found) == [Unit(0, 0, 0, 0, 0.0)] and found.silent == 4
    assert found.note == "1 unit instead of 3: the others are silent (4)"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_choice_accepts_dtype(dtype: torch.dtype) -> None:
    found = choose(_maps((4, 4), (4, 5), (8, 8)).to(dtype), 2, "layer", apart=GRID)
    assert [unit.channel for unit in found] == [0, 1]


def test_choice_raises_unit_error_for_bad_counts_and_nan() -> None:
    for k, message in ((0, "0 units were requested"), (3, "layer has 2 channels")):
        with pytest.raises(UnitError, match=message):
            choose(_maps((1, 1), (2, 2)), k, "layer", apart=GRID)
    with pytest.raises(UnitError, match="NaN"):
        choose(_maps((1, 1)) * math.nan, 1, "layer", apart=GRID)


def test_field_grid_finds_fields_cut_by_the_border() -> None:
    """The fields are 8 pixels long and start at -2, 2, 6, 10 and 14 in an image of 20 pixels."""
    assert [place for place in range(5) if not GRID.is_cut(place, 1)] == [1, 2, 3]
    assert GRID.is_cut(1, 0) and GRID.is_cut(1, 4)
    assert GRID.inside(0, 5) == range(1, 4) and GRID.inside(1, 3) == range(1, 3)
    assert len(FieldGrid((30, 8), (4, 4), (-2, -2), (20, 20)).inside(0, 5)) == 0
    exact = FieldGrid((20, 20), (1, 1), (0, 0), (20, 20))
    assert not exact.is_cut(0, 0) and exact.is_cut(0, 1)


UNITS = tuple(Unit(0, channel, 0, 0, 1.0) for channel in range(9))
NOTES = [
    (UnitChoice(UNITS, 9), ""),
    (UnitChoice(UNITS, 9, 0), ""),
    (UnitChoice(UNITS, 9, 1), "1 unit left out: it lies within half a receptive field of a stronger one"),
    (
        UnitChoice(UNITS, 9, 4),
        "4 units left out: each lies within half a receptive field of a stronger one",
    ),
    (
        UnitChoice(UNITS[:5], 9, 50, 3),
        "5 units instead of 9: the others lie within half a receptive field of a stronger one (50) "
        "or are silent (3)",
    ),
    (
        UnitChoice(UNITS, 9, whole_fields=True),
        "units whose receptive field is cut by the border are left out",
    ),
]


@pytest.mark.parametrize(("choice", "note"), NOTES)
def test_note_states_which_units_were_left_out(choice: UnitChoice, note: str) -> None:
    assert choice.note == note


def test_together_adds_up_several_choices() -> None:
    found = UnitChoice.together([UnitChoice(UNITS[:2], 3, 7, 1), UnitChoice(UNITS[2:3], 1, 2)])
    assert found == UnitChoice(UNITS[:3], 4, 9, 1)
    assert UnitChoice.together([UnitChoice(UNITS[:1], 1)] * 2).passed_over is None
    assert repr(found) == "<UnitChoice of 3 of 4 units, 9 left out>"


@pytest.mark.parametrize("choice", [choice for choice, _ in NOTES])
def test_choice_is_unchanged_after_json(choice: UnitChoice) -> None:
    assert UnitChoice.from_json(choice.to_json(), choice.units) == choice


GOOD = UnitChoice(UNITS, 9, 4).to_json()


@pytest.mark.parametrize(
    "stored",
    [
        3, [], "text", {}, GOOD | {"asked": "9"}, GOOD | {"passed_over": -1}, GOOD | {"silent": True},
        GOOD | {"whole_fields": "no"}, GOOD | {"passed_over": 1.5}, {"asked": 9},
    ],
)  # fmt: skip
def test_from_json_raises_for_damaged_data(stored: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        UnitChoice.from_json(stored, UNITS)
