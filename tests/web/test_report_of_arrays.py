"""Reports on networks whose inputs are arrays."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.asking import noise, seeded
from torch import nn

import deconvviz as dv

NETWORKS = {
    "signal": (lambda: nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU()), (1, 60), "receptive field 5 samples"),
    "bands": (lambda: nn.Sequential(nn.Conv2d(5, 4, 5), nn.ReLU()), (5, 20, 30), "bands 1, 2, 3 of 5 as red"),
    "volume": (lambda: nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU()), (1, 8, 9, 10), "receptive field 3x3x3"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_report_shows_projections_to_arrays(tmp_path: Path, name: str) -> None:
    build, shape, text = NETWORKS[name]
    net = dv.Network(seeded(build), shape=shape, name=name)
    recording = net.record(noise(*shape).numpy(), "1")
    found = recording.project("1", recording.choose("1", 2))
    dv.report([found], tmp_path / "report.html", title="Arrays")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text in page
    assert f"arrays of {' x '.join(map(str, shape))}, channels first" in page
    dv.report([found], tmp_path / "with.html", network=net)
    assert "listed below" in (tmp_path / "with.html").read_text(encoding="utf-8")
    assert all(f"channel {unit.channel}" in page for unit in found.units)
