"""Results keep the facts about the network at recording time, even if the network changes later."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import deconvviz as dv
from deconvviz.errors import OutputError
from deconvviz.results import SavedFiles, merged
from deconvviz.scenes import scene


@pytest.fixture
def net() -> dv.Network:
    return dv.load("minivgg")


@pytest.fixture
def image() -> np.ndarray:
    return scene(3).image


def test_manifest_has_the_digest_of_the_recorded_weights_after_an_in_place_change(
    net: dv.Network, image: np.ndarray, tmp_path: Path
) -> None:
    before = net.digest
    projection = net.record(image, "conv4_2").project("conv4_2")
    with torch.no_grad():
        net.module.features[0].weight.mul_(2)
    files = projection.save(tmp_path / "p.png")
    assert json.loads(files.manifest.read_text())["network"]["digest"] == before
    assert net.digest != before


def test_manifest_has_the_digest_of_the_recorded_weights_after_a_change_through_data(
    net: dv.Network, image: np.ndarray, tmp_path: Path
) -> None:
    projection = net.record(image, "conv4_2").project("conv4_2")  # the digest was not computed before
    want = dv.load("minivgg").digest
    net.module.features[0].weight.data.zero_()
    files = projection.save(tmp_path / "p.png")
    assert json.loads(files.manifest.read_text())["network"]["digest"] == want


def test_figure_uses_the_preprocessing_of_the_recording(net: dv.Network, image: np.ndarray) -> None:
    projection = net.record(image, "conv4_2").project("conv4_2")
    crop, patch = projection.crop(0).copy(), projection.patch(0).copy()
    other = dv.Network(nn.Identity(), size=96, mean=(0.0,) * 3, std=(1.0,) * 3).preprocessing
    assert other != net.preprocessing
    net.preprocessing = other
    assert np.array_equal(projection.crop(0), crop) and crop.any()
    assert np.array_equal(projection.patch(0), patch)
    net.classes, net.name = ("other",) * 12, "other"
    assert projection.network.name == "minivgg" and "other" not in repr(projection.spec().title)


def test_results_hold_no_network_and_no_module(net: dv.Network, image: np.ndarray, tmp_path: Path) -> None:
    projection = net.record(image, "conv4_2").project("conv4_2")
    found = dv.search(net, "scenes:4", "conv2_2", workers=0)
    best = found.topnine("conv2_2", channels=[1], k=2)
    for result in (projection, best):
        assert not _reachable(result, (nn.Module, dv.Network))


def _reachable(start: object, kinds: tuple[type, ...]) -> list[object]:
    """Return the objects of given classes that an object refers to through attributes and containers."""
    waiting, seen, found = [start], set[int](), []
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, kinds):
            found.append(one)
        if isinstance(one, dict):
            waiting += list(one.values())
        elif isinstance(one, (list, tuple, set)):
            waiting += list(one)
        elif type(one).__module__.startswith("deconvviz"):
            waiting += list(vars(one).values()) if hasattr(one, "__dict__") else []
    return found


def test_projection_and_top_nine_implement_the_protocol_of_results(
    net: dv.Network, image: np.ndarray, tmp_path: Path
) -> None:
    projection = net.record(image, "conv4_2").project("conv4_2")
    best = dv.search(net, "scenes:4", "conv2_2", workers=0).topnine("conv2_2", channels=[1], k=2)
    for number, result in enumerate((projection, best)):
        described = result.describe()
        assert str(tmp_path) not in json.dumps(described)
        assert described["network"]["name"] == "minivgg" and described["versions"]["torch"]
        files = result.save(tmp_path / f"{number}.png", arrays=True)
        assert isinstance(files, SavedFiles) and all(path.is_file() for path in files) and len(files) == 3
        assert files.figure == tmp_path / f"{number}.png"
        manifest = json.loads(files.manifest.read_text())
        assert {"figure", "style", *described} <= set(manifest)
        assert set(np.load(files.arrays)) == set(result.arrays())
        assert isinstance(result.figure(), Figure) and result._repr_png_()[:4] == b"\x89PNG"
        with pytest.raises(OutputError, match=r"already exist\. Overwrite with force=True"):
            result.save(tmp_path / f"{number}.png")


def test_error_names_its_option_as_an_argument_and_as_a_flag(tmp_path: Path) -> None:
    error = OutputError("it exists: overwrite with {option}", option="force=True")
    assert str(error) == "it exists: overwrite with force=True"
    assert error.on_command_line() == "it exists: overwrite with --force"
    assert OutputError("give {option}", option="model_arg=A=B").on_command_line() == "give --model-arg A=B"


def test_merged_combines_dictionaries_and_lists() -> None:
    assert merged({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"c": 3}, {}], "d": 4}) == {
        "a": [{"b": 1, "c": 3}, {"b": 2}],
        "d": 4,
    }
