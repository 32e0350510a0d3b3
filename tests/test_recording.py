"""`Recording`: activations, strongest units and projections."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.oracles import Autograd, difference
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import LayerError, RefusedOp, StaleRecording, UnitError
from deconvviz.scenes import scene


@pytest.fixture(scope="module")
def mini() -> dv.Network:
    return dv.load("minivgg", weights="random")


@pytest.fixture(scope="module")
def rec(mini: dv.Network) -> dv.Recording:
    return mini.record([scene(1).image, scene(2).image], ["conv2_2", "pool4", "fc5", "output", "conv2_2"])


def test_recording_has_the_requested_layers_only(rec: dv.Recording) -> None:
    assert [layer.name for layer in rec.layers] == ["conv2_2", "pool4", "fc5", "output"]
    shapes = {layer.name: tuple(rec.activations(layer.name).shape) for layer in rec.layers}
    assert shapes == {
        "conv2_2": (2, 32, 48, 48), "pool4": (2, 96, 6, 6), "fc5": (2, 64), "output": (2, 12),
    }  # fmt: skip
    with pytest.raises(LayerError) as wrong:
        rec.activations("conv3_1")
    assert str(wrong.value) == ("conv3_1 was not recorded: this recording has conv2_2, pool4, fc5, output")
    with pytest.raises(LayerError, match=r"^no layer 'conv9' in minivgg"):
        rec.strongest("conv9")


def test_activations_are_those_of_a_bare_forward_pass(mini: dv.Network, rec: dv.Recording) -> None:
    """Equal to the last bit, and not overwritten by the in-place ReLU after the convolution."""
    module = mini.module.eval()
    assert mini.layers["conv2_2"].module == "features.7" and module.get_submodule("features.8").inplace
    kept: list[Tensor] = []
    handle = module.get_submodule("features.7").register_forward_hook(
        lambda part, args, output: kept.append(output.clone())
    )
    with torch.no_grad():
        scores = module(rec.inputs)
    handle.remove()
    assert torch.equal(rec.activations("conv2_2"), kept[0]) and float(kept[0].min()) < 0
    assert torch.equal(rec.activations("output"), scores)


def test_activations_returns_a_copy(rec: dv.Recording) -> None:
    before = rec.activations("fc5")
    rec.activations("fc5").zero_()
    assert torch.equal(rec.activations("fc5"), before) and bool(before.any())


def test_layers_can_be_named_in_two_ways(rec: dv.Recording) -> None:
    assert torch.equal(rec.activations("features.7"), rec.activations("conv2_2"))
    assert rec.strongest("features.7", 3) == rec.strongest("conv2_2", 3)
    assert rec.project("features.7").layer.name == "conv2_2"


def test_strongest_units_are_sorted_and_have_the_activations_of_their_positions(rec: dv.Recording) -> None:
    activations = rec.activations("conv2_2")
    units = rec.strongest("conv2_2")
    assert len(units) == 9 == len({unit.channel for unit in units})
    assert [unit.activation for unit in units] == sorted((u.activation for u in units), reverse=True)
    for unit in units:
        assert activations[unit.image, unit.channel, unit.y, unit.x] == unit.activation
        assert unit.activation == activations[:, unit.channel].max()
    peaks = activations.amax((0, 2, 3)).sort(descending=True).values
    assert [unit.activation for unit in units] == peaks[:9].tolist()


def test_projections_of_units_channels_scores_and_tensors_equal_the_oracle(
    mini: dv.Network, rec: dv.Recording
) -> None:
    oracle = Autograd(mini.module.eval(), rec.inputs)

    def close(ours: Tensor, theirs: Tensor) -> bool:
        return bool(theirs.any()) and difference(ours, theirs) <= 1e-4

    units = [*rec.strongest("pool4", 2), dv.Unit(1, 3, 0, 5), dv.Unit(0, 7)]
    proj = rec.project("pool4", [*units, *rec.strongest("pool4", 2, channel=5)])
    activations = rec.activations("pool4")
    for one, unit in zip(proj.pixels, proj.units, strict=True):
        signal = torch.zeros_like(activations)
        place: Any = (unit.image, unit.channel) + (() if unit.y is None else (unit.y, unit.x))
        signal[place] = activations[place]
        if signal.any():
            assert close(one, oracle.project("features.19", signal)[unit.image])

    score = rec.class_unit(mini.classes[5], image=1)
    assert (score.image, score.channel, score.y) == (1, 5, None)
    (pixels,) = rec.project("output", score).pixels
    assert close(pixels, oracle.unit("", 1, 5))

    signal = torch.randn(activations.shape, generator=torch.Generator().manual_seed(0))
    assert close(rec.project("pool4", signal).pixels, oracle.project("features.19", signal))
    swapped = rec.project("pool4", signal[[1, 0, 1]], image_indices=[1, 0, 1])
    assert swapped.image_indices == (1, 0, 1) and swapped.units == ()
    assert close(swapped.pixels[0], oracle.project("features.19", signal)[1])


def test_project_accepts_one_unit_several_units_or_no_argument(rec: dv.Recording) -> None:
    unit = rec.strongest("conv2_2", 1)[0]
    one = rec.project("conv2_2", unit)
    assert one.units == (unit,) and torch.equal(one.pixels, rec.project("conv2_2", [unit]).pixels)
    nine = rec.project("conv2_2")
    assert list(nine.units) == rec.strongest("conv2_2")
    assert difference(nine.pixels[:1], one.pixels) <= 1e-5
    with pytest.raises(UnitError, match=r"^no unit of conv2_2 was given: name one or more$"):
        rec.project("conv2_2", [])
    assert len(rec.project("output")) == 9


def test_memory_budget_does_not_change_the_projection(rec: dv.Recording) -> None:
    want = rec.project("pool4")
    assert difference(rec.project("pool4", memory=1).pixels, want.pixels) <= 1e-5


ZEROS = torch.zeros(2, 96, 6, 6)
WRONG_SIGNALS = [
    (ZEROS[[0, 0, 1]], None, "3 tensors for 2 images: give the image of each with image_indices=[...]"),
    (ZEROS, [0, 2], "no image 2 in this recording: it has 2"),
    (ZEROS, [0, -1], "no image -1 in this recording: it has 2"),
    (ZEROS, [0], "a tensor of shape (2, 96, 6, 6) does not fit pool4: the shape must be (1, 96, 6, 6)"),
    (ZEROS[..., 0], None, "a tensor of shape (2, 96, 6) does not fit pool4: the shape must be (2, 96, 6, 6)"),
]


@pytest.mark.parametrize(("signal", "images", "message"), WRONG_SIGNALS)
def test_tensors_that_do_not_fit_raise(
    rec: dv.Recording, signal: Tensor, images: list[int] | None, message: str
) -> None:
    with pytest.raises(UnitError) as wrong:
        rec.project("pool4", signal, image_indices=images)
    assert str(wrong.value) == message


def test_units_outside_the_layer_raise(rec: dv.Recording) -> None:
    with pytest.raises(UnitError, match=r"^no row 6 in pool4: there are 0 to 5$"):
        rec.project("pool4", dv.Unit(0, 0, 6, 0))
    with pytest.raises(UnitError, match=r"^97 units were requested, but pool4 has 96 channels$"):
        rec.strongest("pool4", 97)
    with pytest.raises(UnitError):
        rec.class_unit("no such thing")


def test_several_tensors_can_be_projected_for_one_image(mini: dv.Network) -> None:
    rec = mini.record(scene(1).image, "pool4")
    proj = rec.project("pool4", torch.eye(96)[:4, :, None, None].expand(-1, -1, 6, 6))
    assert proj.image_indices == (0, 0, 0, 0) and proj.pixels.shape == (4, 3, 96, 96)


def test_repr_and_html_of_a_recording(mini: dv.Network, rec: dv.Recording) -> None:
    assert repr(rec) == "<Recording of 2 images in minivgg: conv2_2, pool4, fc5, output>"
    assert repr(mini.record(scene(1).image, "fc5")) == "<Recording of 1 image in minivgg: fc5>"
    html = rec._repr_html_()
    assert html.startswith("<p>Recording of 2 images in minivgg: conv2_2, pool4, fc5, output</p>")
    assert html.count("<tr>") == 5
    alive = int((rec.activations("pool4") > 0).any(0).any(1).any(1).sum())
    assert f"<td>pool4</td><td>96 x 6 x 6</td><td>{alive} of 96</td>" in html


def test_strongest_in_a_layer_without_channels_raises() -> None:
    net = dv.Network(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(2)), size=8, name="flat")
    rec = net.record(torch.randn(1, 3, 8, 8), ["0", "1"])
    assert rec.activations("1").shape == (1, 4, 64)
    with pytest.raises(LayerError) as wrong:
        rec.strongest("1")
    assert str(wrong.value) == (
        "1 returns 4 x 64 for an image: units are positions of a map (C, H, W) or entries of a vector (F)"
    )
    assert "<td>4 x 64</td>" in rec._repr_html_()


class RunningSum(nn.Module):
    """Module with an operation that has no rule."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(1)


def test_projecting_an_unsupported_operation_or_changed_weights_raises() -> None:
    net = dv.Network(nn.Sequential(nn.Conv2d(3, 4, 1), RunningSum(), nn.Conv2d(4, 2, 1)), size=8)
    rec = net.record(torch.randn(1, 3, 8, 8), ["0", "2"])
    assert len(rec.strongest("2", 2)) == 2
    with pytest.raises(RefusedOp) as wrong:
        rec.project("2", dv.Unit(0, 0, 1, 1))
    assert str(wrong.value) == (
        "aten.cumsum.default (in module '1') has no rule; "
        "register a rule with deconvviz.rule(torch.ops.aten.cumsum.default)"
    )
    assert bool(rec.project("0", dv.Unit(0, 0, 1, 1)).pixels.any())
    net.module.half()
    with pytest.raises(StaleRecording):
        rec.project("0", dv.Unit(0, 0, 1, 1))


def test_layers_of_a_module_that_is_called_several_times() -> None:
    conv, relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()
    net = dv.Network(nn.Sequential(conv, relu, conv, relu), size=8)
    assert net.layers.names == ["0", "1", "0:2", "1:2", "output"]
    rec = net.record(torch.randn(1, 3, 8, 8), ["0:2", "1"])
    want = conv(torch.relu(conv(rec.inputs)))
    assert torch.equal(rec.activations("0:2"), want)
    assert rec.project("0:2", dv.Unit(0, 0, 4, 4)).boxes == ((2, 2, 7, 7),)
    assert rec.project("1", dv.Unit(0, 0, 4, 4)).boxes == ((3, 3, 6, 6),)


def test_projecting_twice_gives_the_same_result(rec: dv.Recording) -> None:
    first, second = rec.project("fc5"), rec.project("fc5")
    assert torch.equal(first.pixels, second.pixels) and not first.pixels.requires_grad
