"""Boxes of receptive fields from products of rows and columns, compared with masks and measurements.

The measured box of a unit is the smallest around all pixels that can change it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import passes
from helpers.chains import positive
from helpers.oracles import hull, seen_pixels
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.engine import pixel_fields
from deconvviz.engine.pixel_fields import PixelFields
from deconvviz.engine.receptive_fields import UnitFields
from deconvviz.engine.units import Unit, UnitSeed
from deconvviz.errors import UnitError

Wiring = Callable[["Wired", Tensor], Tensor]


class Wired(nn.Module):
    """Small layers, connected by a function. The output is that of the module `end`."""

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.same = nn.Conv2d(3, 3, 3, padding=1)
        self.wide = nn.Conv2d(3, 3, (1, 5), padding=(0, 2))
        self.high = nn.Conv2d(3, 3, (5, 1), padding=(2, 0))
        self.gaps = nn.Conv2d(3, 3, 3, padding=3, dilation=3)
        self.holes = nn.Conv2d(3, 3, 2, padding=4, dilation=8)
        self.halved = nn.Conv2d(3, 3, 2, 2)
        self.end = nn.Identity()
        self.wiring = wiring
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.wiring(self, x))


def _shifted(x: Tensor, rows: int, columns: int) -> Tensor:
    """Move a map by rows and columns, with zeros at the border."""
    return F.pad(x, (columns, -columns, rows, -rows))


WIRINGS: dict[str, Wiring] = {
    "one branch sees all": lambda net, x: x + net.same(x),
    "cross": lambda net, x: net.wide(x) + net.high(x),
    "cross of crosses": lambda net, x: (lambda y: net.wide(y) + net.high(y))(net.wide(x) + net.high(x)),
    "gaps filled by another branch": lambda net, x: net.gaps(x) + net.same(x),
    "corners only": lambda net, x: net.holes(net.same(x))[:, :, :8, :9] + x[:, :, :8, :9],
    "shifts beyond the border": lambda net, x: _shifted(x, 0, 7) + _shifted(x, 6, 0),
    "two shifts and a convolution": lambda net, x: net.same(_shifted(x, 0, 7) + _shifted(x, 6, 0)),
    "shift out of the image": lambda net, x: net.same(x) + _shifted(net.same(x), 0, 9),
    "downsampled and upsampled": lambda net, x: (
        F.interpolate(net.halved(x), scale_factor=2, mode="nearest") + x[:, :, :8, :8]
    ),
    "global mean": lambda net, x: x + net.same(x).mean((2, 3), keepdim=True),
    "concatenated rows": lambda net, x: torch.cat([net.wide(x), net.high(x), net.same(x)], 2),
    "concatenated channels": lambda net, x: torch.cat([net.wide(x), net.gaps(x), net.high(x)], 1)[:, 2:7],
}


def _case(name: str) -> tuple[nn.Module, passes.Pass, list[tuple[int, int]]]:
    network = positive(Wired(WIRINGS[name]))
    image = torch.rand(1, 3, 8, 9, generator=torch.Generator().manual_seed(1)).double()
    ours = passes.run(network, image)
    return network, ours, list(product(*map(range, ours.outputs["end"].shape[2:])))


def _boxes(ours: passes.Pass, places: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    units = [Unit(0, 0, *place) for place in places]
    seed = UnitSeed(ours.outputs["end"], units)
    return [*PixelFields(ours.tape).boxes(ours.values["end"], seed.seen)]


def _boxes_of_windows(ours: passes.Pass, places: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Return the boxes of units after their windows are known."""
    return [*ours.units("end", [Unit(0, 0, *place) for place in places])[1]]


def _boxes_at(ours: passes.Pass, places: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    rows, columns = (torch.tensor(axis) for axis in zip(*places, strict=True))
    return [tuple(box) for box in PixelFields(ours.tape).boxes_at(ours.values["end"], rows, columns).tolist()]


@pytest.mark.slow
@pytest.mark.parametrize("most", [16, 0])
@pytest.mark.parametrize("name", WIRINGS)
def test_boxes_equal_the_pixels_that_can_change_a_unit(
    name: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_fields, "MOST_PRODUCTS", most)  # 0: masks for every value
    network, ours, places = _case(name)
    channels = range(ours.outputs["end"].shape[1])
    wanted = []
    for y, x in places:
        seen = np.any([seen_pixels(network, "end", (3, 8, 9), (c, y, x)) for c in channels], axis=0)
        wanted.append(hull(seen) or (0, 0, 0, 0))
    assert _boxes(ours, places) == wanted
    assert _boxes_at(ours, places) == wanted
    assert _boxes_of_windows(ours, places) == wanted


@pytest.mark.parametrize(
    "name, by_ends, complete",
    [
        ("cross", True, True),
        ("one branch sees all", True, True),
        ("corners only", False, True),  # the first input of a position is not always after those before
        ("shifts beyond the border", False, False),  # some positions depend on padding alone
    ],
)
def test_ranges_are_followed_by_their_ends_and_boxes_taken_from_them_where_exact(
    name: str, by_ends: bool, complete: bool
) -> None:
    _, ours, places = _case(name)
    seed = UnitSeed(ours.outputs["end"], [Unit(0, 0, *places[0])])
    fields = UnitFields(ours.tape, ours.values["end"], seed.seen)
    assert fields.extent.complete == complete
    assert ("visibility" not in vars(fields)) == by_ends


@pytest.mark.parametrize("most", [16, 0])
def test_no_units_have_no_boxes(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_fields, "MOST_PRODUCTS", most)
    _, ours, _ = _case("cross")
    none = (torch.zeros(0, 8, dtype=torch.bool),) * 2
    assert PixelFields(ours.tape).boxes(ours.values["end"], none) == []


def test_union_that_is_a_product_is_stored_as_one() -> None:
    _, ours, _ = _case("one branch sees all")
    fields = PixelFields(ours.tape)
    assert len(fields._products_of(ours.values["end"]) or ()) == 1
    _, ours, _ = _case("cross")
    assert len(PixelFields(ours.tape)._products_of(ours.values["end"]) or ()) == 2


def test_boxes_do_not_depend_on_the_batch_size_of_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ours, places = _case("cross of crosses")
    whole = _boxes(ours, places)
    monkeypatch.setattr(pixel_fields, "MOST_PRODUCTS", 0)
    monkeypatch.setattr(pixel_fields, "_MASK_BYTES", 8 * 72 * 5)  # five of 72 units at a time
    assert _boxes(ours, places) == whole


def test_boxes_of_whole_channels_and_parts_of_a_map() -> None:
    _, ours, _ = _case("two shifts and a convolution")
    value, tape = ours.values["end"], ours.tape
    seen = torch.zeros(3, 8, dtype=torch.bool), torch.zeros(3, 9, dtype=torch.bool)
    seen[0][0], seen[1][0] = True, True  # the whole map
    seen[0][1, 2], seen[1][1, 1:4] = True, True  # part of a row; the third unit has no positions
    parts = [
        [
            tuple(box)
            for box in PixelFields(tape).boxes_at(value, *torch.where(rows[:, None] & columns)).tolist()
        ]
        for rows, columns in zip(*seen, strict=True)
    ]
    for found, single in zip(PixelFields(tape).boxes(value, seen), parts, strict=True):
        some = [box for box in single if box[2] > box[0]]
        assert found == ((0, 0, 0, 0) if not some else (
            min(box[0] for box in some), min(box[1] for box in some),
            max(box[2] for box in some), max(box[3] for box in some),
        ))  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (40, 3), (64, 64)])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_composition_equals_the_boolean_matrix_product(shape: tuple[int, int], share: float) -> None:
    dice = np.random.default_rng(0)
    upper, lower = dice.random(shape) < share, dice.random((shape[1], 7)) < 0.3
    found = pixel_fields._composed(torch.from_numpy(upper), torch.from_numpy(lower))
    assert np.array_equal(found.numpy(), (upper[:, :, None] & lower[None]).any(1))


def test_recording_boxes_at_returns_the_boxes_of_positions() -> None:
    net = dv.Network(nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2)),
                     size=6)  # fmt: skip
    rec = net.record(torch.rand(1, 3, 6, 6), ["1", "output"])
    rows, columns = [0, 2, 5], [1, 3, 5]
    units = [dv.Unit(0, 1, *place) for place in zip(rows, columns, strict=True)]
    assert rec.boxes_at("1", rows, columns).tolist() == [list(box) for box in rec.boxes("1", units)]
    assert rec.boxes_at("1", [], []).shape == (0, 4)
    with pytest.raises(UnitError, match=r"no row 6 in 1: there are 0 to 5"):
        rec.boxes_at("1", [6], [0])
    with pytest.raises(UnitError, match=r"no column -1 in 1: there are 0 to 5"):
        rec.boxes_at("1", [0], [-1])
    with pytest.raises(UnitError, match="2 rows and 1 columns"):
        rec.boxes_at("1", [0, 1], [0])
    with pytest.raises(UnitError, match="the units of output have no position"):
        rec.boxes_at("output", [0], [0])


def test_products_of_each_value_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ours, places = _case("cross of crosses")
    fields, followed = PixelFields(ours.tape), []
    real = PixelFields._through

    def counted(self: PixelFields, step: object) -> object:
        followed.append(step)
        return real(self, step)  # type: ignore[arg-type]

    monkeypatch.setattr(PixelFields, "_through", counted)
    seed = UnitSeed(ours.outputs["end"], [Unit(0, 0, *place) for place in places[:2]])
    for _ in range(2):
        fields.boxes(ours.values["end"], seed.seen)
    assert len(followed) == len(ours.tape.path(ours.values["end"]))
