"""Choice of units at different places or with uncut fields: in recordings, figures and manifests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.artists import texts
from matplotlib.figure import Figure
from PIL import Image
from torch import nn
from torchvision.models import vgg

import deconvviz as dv
from deconvviz.errors import ManifestError, UnitError
from deconvviz.models.top_class import TopClass
from deconvviz.scenes import scene


@pytest.fixture(scope="module")
def mini() -> dv.Network:
    return dv.load("minivgg")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "scene.png"
    Image.fromarray(scene(4).image).save(path)
    return path


@pytest.fixture(scope="module")
def rec(mini: dv.Network, path: Path) -> dv.Recording:
    return mini.record(path, ["conv2_2", "conv4_2", "pool4", "fc5", "output"])


def _centre(layer: dv.Layer, unit: dv.Unit) -> tuple[float, float]:
    assert unit.y is not None and unit.x is not None
    field = layer.field_of(unit.y, unit.x)
    assert field is not None
    return (field[0] + field[2]) / 2, (field[1] + field[3]) / 2


def _loop(layer: dv.Layer, candidates: list[dv.Unit], k: int) -> tuple[list[dv.Unit], int]:
    """Choose units apart from each other with a plain loop. Return them and the number left out."""
    assert layer.field is not None
    (high, wide), taken, passed = layer.field, [], 0
    for unit in candidates:
        (x, y), centres = _centre(layer, unit), [_centre(layer, other) for other in taken]
        if len(taken) == k or unit.activation == 0:
            break
        if any(abs(x - u) < wide / 2 and abs(y - v) < high / 2 for u, v in centres):
            passed += 1
        else:
            taken.append(unit)
    return taken, passed


@pytest.mark.parametrize("layer", ["conv2_2", "conv4_2", "pool4"])
@pytest.mark.parametrize("k", [1, 4, 9])
def test_choice_of_units_apart_equals_a_plain_loop(
    mini: dv.Network, rec: dv.Recording, layer: str, k: int
) -> None:
    table = mini.layers[layer]
    found = rec.choose(layer, k)
    want, passed = _loop(table, rec.strongest(layer, table.shape[0]), k)
    assert list(found) == want and found.passed_over == passed
    assert rec.strongest(layer, k, apart=True) == want


def test_strongest_passes_units_over_only_with_apart(rec: dv.Recording) -> None:
    assert (rec.choose("conv2_2").passed_over or 0) > 0
    assert rec.strongest("conv2_2") == list(rec.choose("conv2_2", apart=False))
    assert rec.strongest("conv2_2") != rec.strongest("conv2_2", apart=True)


def test_no_unit_is_left_out_in_layers_without_positions(rec: dv.Recording) -> None:
    for layer in ("fc5", "output"):
        found = rec.choose(layer, 5, whole_fields=True)
        assert found.passed_over is None and list(found) == rec.strongest(layer, 5)
        assert not found.whole_fields and found.note == ""


def test_no_unit_is_left_out_if_all_depend_on_the_whole_image() -> None:
    net = dv.Network(nn.Sequential(nn.Conv2d(3, 9, 3), nn.AdaptiveAvgPool2d(1)), size=8)
    rec = net.record(torch.randn(1, 3, 8, 8), ["1"])
    assert net.layers["1"].sees_all
    found = rec.choose("1", 5, whole_fields=True)
    assert found.passed_over is None and len(found) == 5


def test_choice_in_a_deep_vgg_layer_has_fewer_units_than_requested() -> None:
    torch.manual_seed(0)
    net = dv.Network(vgg.make_layers(vgg.cfgs["A"]), size=160)
    rec = net.record(torch.randn(2, 3, 160, 160), "16")
    found = rec.choose("16", 100)
    layer = net.layers["16"]
    assert layer.field is not None and len(found) < 100
    for n, unit in enumerate(found):
        for other in found[:n]:
            (x, y), (u, v) = _centre(layer, unit), _centre(layer, other)
            far = max(abs(x - u), abs(y - v)) >= layer.field[0] / 2
            assert far or unit.image != other.image
    assert len(found) + (found.passed_over or 0) + found.silent == 512
    assert {unit.image for unit in found} == {0, 1}


def test_whole_fields_keeps_units_whose_box_has_the_size_of_the_field(rec: dv.Recording) -> None:
    every = rec.choose("conv2_2", 32, apart=False)
    whole = rec.choose("conv2_2", 32, apart=False, whole_fields=True)
    size = rec.layers[0].field
    assert size is not None
    assert all((y1 - y0, x1 - x0) == size for x0, y0, x1, y1 in rec.boxes("conv2_2", whole))
    for unit, (x0, y0, x1, y1) in zip(every, rec.boxes("conv2_2", every), strict=True):
        if (y1 - y0, x1 - x0) == size:  # then it is also the strongest uncut unit of its channel
            assert unit in whole
    cut = sum((y1 - y0, x1 - x0) != size for x0, y0, x1, y1 in rec.boxes("conv2_2", every))
    assert 0 < cut < 32
    assert rec.project("conv2_2", every).cut_fields == cut
    assert rec.project("conv2_2", whole).cut_fields == 0


def test_whole_fields_limits_the_positions_of_a_channel(rec: dv.Recording) -> None:
    found = rec.strongest("conv2_2", 5, channel=3, whole_fields=True)
    assert {unit.channel for unit in found} == {3}
    assert rec.project("conv2_2", found).cut_fields == 0
    with pytest.raises(
        UnitError, match=r"^9999 units were requested, but channel 3 of conv2_2 has \d+ positions$"
    ):
        rec.strongest("conv2_2", 9999, channel=3, whole_fields=True)


def test_whole_fields_raises_if_all_fields_are_cut_or_unknown() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(4, 4, 5, padding=2))
    net = dv.Network(module, size=8)
    rec = net.record(torch.randn(1, 3, 8, 8), "1")
    with pytest.raises(UnitError) as wrong:
        rec.choose("1", 2, whole_fields=True)
    assert str(wrong.value) == (
        "every receptive field of 1 is cut by the border: a field has 9 x 9 px, the image 8 x 8 px. "
        "Leave whole_fields=True out"
    )
    assert wrong.value.on_command_line().endswith("Leave --no-border out")

    class Rolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(torch.roll(x, 3, 2))

    net = dv.Network(Rolled(), size=8)
    layer = net.layers["conv"]
    assert layer.field is None and not layer.sees_all
    rec = net.record(torch.randn(1, 3, 8, 8), "conv")
    assert rec.choose("conv", 3).passed_over is None
    with pytest.raises(
        UnitError, match=r"^the receptive fields of conv are unknown, so fields that the border cuts"
    ):
        rec.choose("conv", 3, whole_fields=True)


# --- text of the figure


def _text_of(figure: Figure) -> str:
    return " ".join(text.get_text() for text in texts(figure)).replace("\n", " ")


def test_figure_states_the_number_of_units_passed_over(rec: dv.Recording) -> None:
    found = rec.choose("conv2_2", 9)
    assert found.passed_over is not None and found.passed_over > 1
    proj = rec.project("conv2_2", found)
    line = f"{found.passed_over} units left out: each lies within half a receptive field of a stronger one"
    assert line in _text_of(proj.figure())
    assert "left out" not in _text_of(rec.project("conv2_2", list(found)).figure())
    assert proj.choice == found and proj[:3].choice is None
    assert "left out" not in _text_of(proj[:3].figure())


def test_figure_states_that_there_are_fewer_units_than_requested(rec: dv.Recording) -> None:
    found = rec.choose("pool4", 50)
    assert len(found) < 50 and found.passed_over
    line = f"{len(found)} units instead of 50: the others lie within half a receptive field of a stronger one"
    assert line in _text_of(rec.project("pool4", found).figure())


@pytest.mark.parametrize(
    ("places", "line"),
    [
        ([(0, 0)], "the receptive field is cut by the border"),
        ([(0, 9), (9, 0), (9, 9)], "2 of 3 receptive fields are cut by the border"),
        ([(0, 9), (9, 9)], ""),  # one half is not a majority
        ([(9, 9)], ""),
    ],
)
def test_figure_states_that_most_fields_are_cut(
    rec: dv.Recording, places: list[tuple[int, int]], line: str
) -> None:
    text = _text_of(rec.project("conv2_2", [dv.Unit(0, 1, y, x) for y, x in places]).figure())
    assert line in text
    assert ("border" in text) == bool(line)


def test_figure_states_that_units_with_cut_fields_are_left_out(rec: dv.Recording) -> None:
    found = rec.choose("conv2_2", 4, whole_fields=True)
    text = _text_of(rec.project("conv2_2", found).figure())
    assert "units whose receptive field is cut by the border are left out" in text


def test_title_names_the_predicted_class(mini: dv.Network, path: Path, rec: dv.Recording) -> None:
    top = rec.top_class()
    assert top is not None and top.probability is not None
    proj = rec.project("conv2_2", [dv.Unit(0, 1, 9, 9)])
    assert proj.spec().title[1].startswith(f"predicted class: {top} · weights: ")
    assert f"predicted class: {top.name} (" in _text_of(proj.figure())
    unknown = mini.record(path, "conv2_2").project("conv2_2", [dv.Unit(0, 1, 9, 9)])
    assert "predicted" not in " ".join(unknown.spec().title)


def test_title_of_several_images_has_no_class(mini: dv.Network, path: Path) -> None:
    rec = mini.record([path, scene(5).image], "conv2_2", scores=True)
    both = rec.project("conv2_2", [dv.Unit(0, 1, 9, 9), dv.Unit(1, 1, 9, 9)])
    assert "predicted" not in " ".join(both.spec().title)
    second = both[1]
    assert f"predicted class: {rec.top_class(1)}" in second.spec().title[1]


def test_long_class_name_fits_into_the_figure(rec: dv.Recording) -> None:
    from dataclasses import replace

    from helpers.artists import check_texts

    proj = rec.project("conv2_2", [dv.Unit(0, 1, 9, 9)])
    check_texts(replace(proj, top_classes=(TopClass("a very long name " * 12, 0, 0.5, 1.0),)).figure())


# --- the manifest


def _saved(net: dv.Network, path: Path, out: Path, **options: Any) -> tuple[dv.Projection, dict[str, Any]]:
    rec = net.record(path, "conv3_1", scores=True)
    proj = rec.project("conv3_1", rec.choose("conv3_1", 9, **options))
    return proj, json.loads(proj.save(out, dpi=50).manifest.read_text())


@pytest.mark.parametrize("options", [{}, {"apart": False}, {"whole_fields": True}])
def test_manifest_stores_choice_and_top_class(
    mini: dv.Network, path: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    proj, stored = _saved(mini, path, tmp_path / "a.png", **options)
    choice, top = proj.choice, proj.top_class(0)
    assert choice is not None and top is not None
    assert stored["selection"] == {
        "asked": 9, "apart": options.get("apart", True), "passed_over": choice.passed_over,
        "silent": choice.silent, "whole_fields": options.get("whole_fields", False),
    }  # fmt: skip
    assert stored["pictures"][0]["top_class"] == {
        "name": top.name, "index": top.index, "probability": top.probability, "score": top.score,
    }  # fmt: skip
    again = dv.remake(tmp_path / "a.json").projection
    assert again.choice == choice and again.top_classes == proj.top_classes
    again.save(tmp_path / "b.png", dpi=50)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_remake_of_an_older_manifest_has_no_choice_and_no_top_class(
    mini: dv.Network, path: Path, tmp_path: Path
) -> None:
    _, stored = _saved(mini, path, tmp_path / "a.png")
    del stored["selection"], stored["pictures"][0]["top_class"]
    (tmp_path / "a.json").write_text(json.dumps(stored))
    again = dv.remake(tmp_path / "a.json").projection
    assert again.choice is None and again.top_class(0) is None


@pytest.mark.parametrize("selection", [3, [], {}, {"asked": 9, "passed_over": "many"}])
def test_remake_rejects_a_damaged_selection(
    mini: dv.Network, path: Path, tmp_path: Path, selection: Any
) -> None:
    _, stored = _saved(mini, path, tmp_path / "a.png")
    (tmp_path / "a.json").write_text(json.dumps(stored | {"selection": selection}))
    with pytest.raises(ManifestError, match="is not a complete manifest"):
        dv.remake(tmp_path / "a.json")
