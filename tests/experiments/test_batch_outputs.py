"""Outputs of layers for batches, probabilities of classes, and named images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.asking import noise, seeded
from PIL import Image
from torch import nn

import deconvviz as dv
from deconvviz.errors import ImageError
from deconvviz.experiments.class_probabilities import probabilities
from deconvviz.experiments.named_images import named_images
from deconvviz.image_sources import open_source
from deconvviz.methods.forward import Forward, output_layer
from deconvviz.scenes import scene


class Viewing(nn.Module):
    """Network that flattens with `view`, which fails for channels-last tensors, and overwrites its maps."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.last = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Linear(144, 5)

    def forward(self, x):
        maps = self.relu(self.conv(x))
        return self.last(maps.view(len(x), -1))


def test_outputs_equal_those_of_the_modules_for_a_network_that_flattens_with_view():
    net = dv.Network(seeded(Viewing), size=8)
    images = noise(3, 3, 8, 8)
    layers = [net.layers.find(name) for name in ("conv", "output")]
    run = Forward(net, dict.fromkeys(layers, lambda output: output.detach().clone()))
    with torch.no_grad():
        maps = net.module.conv(images)
        scores = net.module.last(maps.relu().flatten(1))
    for _ in range(2):  # the second run does not try channels last again
        conv, output = (run(images)[layer] for layer in layers)
        assert (conv < 0).any()  # before the ReLU, which works in place
        torch.testing.assert_close(conv, maps)
        torch.testing.assert_close(output, scores)


class Counting(nn.Module):
    """Module that counts its calls."""

    calls = 0

    def forward(self, x):
        Counting.calls += 1
        return x


def test_network_runs_no_further_than_the_deepest_layer():
    net = dv.Network(nn.Sequential(nn.Conv2d(3, 4, 3), Counting()).double(), size=8)
    layer = net.layers.find("0")
    before = Counting.calls
    found = Forward(net, {layer: lambda output: output.clone()})(noise(1, 3, 8, 8))
    assert found[layer].shape == (1, 4, 6, 6)
    assert Counting.calls == before


def test_output_layer_is_a_vector_with_one_entry_for_each_class():
    net = dv.Network(seeded(Viewing), size=8)
    assert output_layer(net).shape == (5,)
    assert output_layer(dv.Network(seeded(Viewing), size=8, classes=list("abcde"))) is not None
    assert output_layer(dv.Network(seeded(Viewing), size=8, classes=list("ab"))) is None
    assert output_layer(dv.Network(nn.Conv2d(3, 4, 3), size=8)) is None


def test_probabilities_are_a_softmax_unless_scores_are_probabilities():
    scores = torch.tensor([[0.2, 0.3, 0.5], [1.0, 2.0, 3.0], [0.9, 0.9, 0.9], [-0.5, 0.5, 1.0]])
    found = probabilities(scores)
    assert found[0].tolist() == pytest.approx([0.2, 0.3, 0.5], abs=1e-6)
    torch.testing.assert_close(found[1:], scores[1:].double().softmax(1))


def test_images_keep_their_names(tmp_path):
    Image.fromarray(scene(0).image).save(tmp_path / "a.png")
    file, array = tmp_path / "a.png", scene(1).image
    assert [one.name for one in named_images([file, array])] == ["a.png", "image 1"]
    assert named_images(str(file))[0].path == file
    assert [one.name for one in named_images(torch.zeros(2, 3, 8, 8))] == ["input 0", "input 1"]
    assert [one.name for one in named_images(tmp_path)] == ["a.png"]
    assert named_images(open_source(tmp_path))[0].scene is None
    drawn = named_images("scenes:2@5")
    assert [one.name for one in drawn] == ["scene-000005", "scene-000006"]
    assert np.array_equal(drawn[1].scene().image, scene(6).image)
    own = named_images(scene(3, "car"))[0]
    assert own.scene().name == "car"
    assert np.array_equal(own.open().rgb, scene(3, "car").image)
    with pytest.raises(ImageError, match="no image was given"):
        named_images([])
