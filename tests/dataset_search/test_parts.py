"""Example parts.py: true effects of the parts of a scene, and how well maps show them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import deconvviz as dv
from deconvviz.scenes import scene

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def parts() -> ModuleType:
    sys.path.insert(0, str(EXAMPLES))
    try:
        import parts as example

        return example
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return dv.load("minivgg")


def test_rows_state_area_energy_and_fall_of_each_part(parts: ModuleType, net: dv.Network) -> None:
    """Computed again from the whole map, one redrawn scene at a time."""
    drawn = scene(11, label="bicycle")
    unit = net.record(drawn.image, "conv4_2").strongest("conv4_2", k=1)[0]
    rows = parts.parts_of_unit(net, drawn, "conv4_2", unit)
    assert [row.fall for row in rows] == sorted((row.fall for row in rows), reverse=True)
    projection = net.record(drawn.image, "conv4_2").project("conv4_2", unit)
    energy = np.square(projection.pixels[0].numpy()).sum(axis=0)  # zero outside the receptive field
    x0, y0, x1, y1 = projection.boxes[0]
    field = np.zeros((96, 96), np.bool_)
    field[y0:y1, x0:x1] = True
    assert {row.part for row in rows} == {part for part, mask in drawn.parts.items() if (mask & field).any()}
    for row in rows:
        mask = drawn.parts[row.part]
        assert row.area == pytest.approx((mask & field).sum() / field.sum())
        assert row.energy == pytest.approx(energy[mask].sum() / energy.sum(), rel=1e-4)
        without = net.record(scene(11, label="bicycle", without=row.part).image, "conv4_2")
        left = without.activations("conv4_2")[0, unit.channel, unit.y, unit.x]
        assert row.fall == pytest.approx(1 - float(left) / unit.activation, abs=1e-4)


def test_some_part_makes_the_unit_fall_by_a_third(parts: ModuleType, net: dv.Network) -> None:
    for seed in range(40, 46):
        drawn = scene(seed)
        with torch.no_grad():
            unit = net.record(drawn.image, "conv4_2").strongest("conv4_2", k=1)[0]
        rows = parts.parts_of_unit(net, drawn, "conv4_2", unit)
        assert rows[0].fall > 1 / 3, drawn


@pytest.mark.slow
def test_example_prints_both_tables(parts: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    parts.main(["--scenes", "2", "--layers", "conv3_2", "--methods", "deconvnet", "gradient"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("conv3_2, bicycle of seed 11, channel ")
    assert lines[1].split() == ["part", "area", "energy", "fall"]
    head = next(number for number, line in enumerate(lines) if " units of 2 scenes:" in line)
    assert lines[head + 1].split()[:3] == ["method", "finds", "tells"]
    assert [line.split()[0] for line in lines[head + 2 : head + 4]] == ["deconvnet", "gradient"]
    assert lines[head + 2].split()[-1] in ("energy", "contribution")
    assert len(lines) == head + 4 + 3  # and three sentences


def test_parts_example_prints_its_help(parts: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        parts.main(["--help"])
    assert "--scenes" in capsys.readouterr().out
