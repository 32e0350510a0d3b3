"""Table of layers: names, shapes and receptive fields."""

from __future__ import annotations

import re

import pytest
import torch
import torchvision
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import LayerError
from deconvviz.loading import sketch

VGG19 = {  # (receptive field, stride), computed by hand from 3x3 convolutions and 2x2 pools
    "conv1_1": (3, 1), "conv1_2": (5, 1), "pool1": (6, 2), "conv2_2": (14, 2), "pool2": (16, 4),
    "conv3_1": (24, 4), "conv3_4": (48, 4), "pool3": (52, 8), "conv4_1": (68, 8), "conv4_4": (116, 8),
    "pool4": (124, 16), "conv5_1": (156, 16), "relu5_1": (156, 16), "conv5_4": (252, 16), "pool5": (268, 32),
}  # fmt: skip


@pytest.fixture(scope="module")
def vgg19() -> dv.LayerTable:
    return sketch("vgg19").layers


def test_layers_have_the_names_of_the_paper(vgg19: dv.LayerTable) -> None:
    blocks = enumerate((2, 2, 4, 4, 4), start=1)
    convolutions = [f"conv{block}_{n}" for block, count in blocks for n in range(1, count + 1)]
    assert [layer.name for layer in vgg19 if layer.kind == "Conv2d"] == convolutions
    assert [layer.name for layer in vgg19 if layer.kind == "Linear"] == ["fc6", "fc7", "fc8"]
    assert [layer.name for layer in vgg19 if layer.kind == "MaxPool2d"] == [f"pool{n}" for n in range(1, 6)]
    assert vgg19["conv5_1"] is vgg19["features.28"] is vgg19.find("conv5_1")
    assert vgg19.last.name == "output" and vgg19.last.shape == (1000,)


@pytest.mark.parametrize("name", VGG19)
def test_receptive_fields_and_strides_of_vgg19(vgg19: dv.LayerTable, name: str) -> None:
    field, stride = VGG19[name]
    layer = vgg19[name]
    assert (layer.field, layer.stride) == ((field, field), (stride, stride))


def test_shapes_and_parameters_of_vgg19(vgg19: dv.LayerTable) -> None:
    assert vgg19["conv5_1"].shape == (512, 14, 14)
    assert vgg19["fc6"].shape == (4096,) and vgg19["fc6"].field is None
    assert vgg19["conv1_1"].parameters == 3 * 64 * 9 + 64
    assert vgg19.last.parameters == 143_667_240
    assert vgg19["conv1_1"].offset == (-1, -1)


ALEXNET = {"conv1": (11, 4, -2), "pool1": (19, 8, -2), "conv2": (51, 8, -18), "conv3": (99, 16, -34)}


@pytest.mark.parametrize("name", ALEXNET)
def test_receptive_fields_and_strides_of_alexnet(name: str) -> None:
    field, stride, first = ALEXNET[name]
    layer = sketch("alexnet").layers[name]
    assert (layer.field, layer.stride, layer.offset) == ((field,) * 2, (stride,) * 2, (first,) * 2)


def test_every_name_finds_its_layer(vgg19: dv.LayerTable) -> None:
    for table in (vgg19, sketch("squeezenet1_0").layers, sketch("vgg11_bn").layers, sketch("minivgg").layers):
        assert len(set(table.names)) == len(table)
        for layer in table:
            assert table[layer.name] is table[layer.module] is layer
            assert layer.name in table and layer in table
        assert "nonsense" not in table


def test_unknown_layer_raises_with_the_nearest_names(vgg19: dv.LayerTable) -> None:
    with pytest.raises(LayerError) as wrong:
        vgg19["conv3_5"]
    assert str(wrong.value) == (
        "no layer 'conv3_5' in vgg19: block 3 has conv3_1, conv3_2, conv3_3, conv3_4 "
        "(see: deconvviz layers --model vgg19)"
    )
    own = dv.Network(nn.Sequential(nn.Conv2d(3, 2, 1)), size=8, name="mine").layers
    with pytest.raises(LayerError, match=r"^no layer 'conv' in mine.*\(see: net\.layers\)$"):
        own["conv"]


def test_layer_table_is_a_sequence(vgg19: dv.LayerTable) -> None:
    assert vgg19[0].name == "conv1_1" and vgg19[-1].name == "output"
    assert [layer.name for layer in vgg19[:3]] == ["conv1_1", "relu1_1", "conv1_2"]


def test_text_and_html_of_a_layer_table(vgg19: dv.LayerTable) -> None:
    assert repr(vgg19) == f"<{len(vgg19)} layers of vgg19: conv1_1 ... output>"
    assert str(vgg19).splitlines()[0] == "conv1_1 (Conv2d): 64 x 224 x 224, receptive field 3 px, stride 1 px"
    assert "fc6 (Linear): 4096, receptive field: the whole image" in str(vgg19)
    html = vgg19._repr_html_()
    assert html.count("<tr>") == len(vgg19) + 1
    row = ("conv5_1", "features.28", "Conv2d", "512 x 14 x 14", "156", "16")
    assert "".join(f"<td>{cell}</td>" for cell in row) in html
    assert not re.search(r"<(?!/?(table|thead|tbody|tr|th|td|div|style)[ >])", html)


def test_json_of_a_layer(vgg19: dv.LayerTable) -> None:
    assert vgg19.to_json()[0] == {
        "name": "conv1_1", "dotted": "features.0", "kind": "Conv2d", "shape": (64, 224, 224), "field": (3, 3),
        "stride": (1, 1), "first": (-1, -1), "parameters": 1792, "refused": "",
        "held": False, "sees_more": False, "channels_last": False, "same_as": "", "has_channels": True,
        "sees_all": False, "lacks_weights": False,
    }  # fmt: skip


class RunningSum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


class Odd(nn.Module):
    """A module called three times, unequal axes, an operation without a rule, and a module named `output`."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Conv2d(3, 3, (3, 5), stride=(1, 2), padding=(1, 2))
        self.again = nn.ReLU()
        self.sum = RunningSum()

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.output(self.again(x)))
        return self.sum(self.again(x))


def test_layers_of_a_network_with_reused_modules_and_a_module_named_output() -> None:
    layers = dv.Network(Odd(), size=16, name="odd").layers
    assert layers.names == ["again", "output", "again:2", "again:3", "sum", "(output)"]
    assert (layers["output"].field, layers["output"].stride) == ((3, 5), (1, 2))
    assert str(layers["output"]) == "output (Conv2d): 3 x 16 x 8, receptive field 3x5 px, stride 1x2 px"
    reason = (
        "aten.cumsum.default (in module 'sum') has no rule; "
        "register a rule with deconvviz.rule(torch.ops.aten.cumsum.default)"
    )
    assert layers["sum"].unsupported == layers["(output)"].unsupported == reason
    assert not layers["again:3"].unsupported
    assert str(layers["sum"]) == f"sum (RunningSum): 3 x 16 x 8, cannot be projected: {reason}"


def test_module_names_are_escaped_in_html() -> None:
    class Script(nn.Conv2d):
        pass

    Script.__name__ = "<script>"
    html = dv.Network(nn.Sequential(Script(3, 1, 1)), size=8).layers._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_shapes_of_a_recording_of_every_layer_agree_with_the_table() -> None:
    module = torchvision.models.squeezenet1_0(num_classes=7)
    net = dv.Network(module, size=64, name="squeezenet1_0")
    rec = net.record(torch.randn(2, 3, 64, 64), net.layers.names)
    assert rec.layers == tuple(net.layers)
    for layer in net.layers:
        assert rec.activations(layer.name).shape == (2, *layer.shape)


class Folding(nn.Module):
    """Linear layer whose rows are all positions of all images, as in LeViT."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.mix(self.conv(x).permute(0, 2, 3, 1).reshape(-1, 4))
        return rows.reshape(len(x), -1, 5).mean(1)


def test_layer_whose_rows_are_not_images_has_no_channels() -> None:
    net = dv.Network(nn.Sequential(Folding()), size=8)
    assert {layer.module: layer.has_channels for layer in net.layers} == {
        "0.conv": True,
        "0.mix": False,
        "0": True,
        "": True,
    }
    assert net.layers["output"].same_as == "0"
    recording = net.record(torch.zeros(2, 3, 8, 8), "0.mix")
    with pytest.raises(LayerError, match=r"^0\.mix returns 5 for an image: units are positions of a map"):
        recording.strongest("0.mix")
