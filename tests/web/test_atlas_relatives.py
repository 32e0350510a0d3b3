"""Relatives: channels of other searched layers that one convolution connects."""

from __future__ import annotations

import pytest
import torch
from helpers.searches import small
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.web.atlas.relatives import Relatives


def norms(module: nn.Conv2d) -> Tensor:
    """Return the norm of each kernel (out, in / groups), computed one by one."""
    return torch.tensor(
        [[float((kernel**2).sum()) ** 0.5 for kernel in row] for row in module.weight.detach()]
    )


def check(net: dv.Network, above: str, below: str, expected: Tensor) -> None:
    """Compare all relatives of two layers with a table (above, below); zeros are no relatives."""
    relatives = Relatives(net, [below, above])
    outputs, inputs = expected.shape
    for channel in range(outputs):
        row = {
            one.channel: one.norm for one in relatives.below(above, channel, k=inputs) if one.layer == below
        }
        assert row == pytest.approx({n: float(v) for n, v in enumerate(expected[channel]) if v})
    for channel in range(inputs):
        found = relatives.above(below, channel, k=outputs)
        assert [one.norm for one in found] == sorted((one.norm for one in found), reverse=True)
        column = {one.channel: one.norm for one in found if one.layer == above}
        assert column == pytest.approx({n: float(v) for n, v in enumerate(expected[:, channel]) if v})


def test_convolution_reads_through_relu_pooling_dropout_and_batch_norm() -> None:
    first, second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3)
    net = small(
        nn.Sequential(
            first, nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(), nn.MaxPool2d(2), second, nn.ReLU()
        )
    )
    for below in ("0", "1", "2", "4"):
        for above in ("5", "6"):
            check(net, net.layers.find(above).name, net.layers.find(below).name, norms(second))


def test_grouped_convolution_reads_only_its_group() -> None:
    grouped = nn.Conv2d(6, 4, 3, groups=2)
    net = small(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), grouped))
    whole = torch.zeros(4, 6)
    whole[:2, :3], whole[2:, 3:] = norms(grouped)[:2], norms(grouped)[2:]
    names = [layer.name for layer in net.layers]
    check(net, names[2], names[1], whole)


class Fire(nn.Module):
    """Two convolutions of one map, whose outputs are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.one, self.three = (
            nn.Conv2d(3, 4, 1),
            nn.Conv2d(4, 2, 1),
            nn.Conv2d(4, 3, 3, padding=1),
        )
        self.last = nn.Conv2d(5, 2, 3)
        self.both = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.squeeze(x))
        x = self.both(torch.cat([torch.relu(self.one(x)), torch.relu(self.three(x))], 1))
        return self.last(x)


def test_channels_are_followed_through_concatenations() -> None:
    module = Fire()
    net = small(module)
    together = torch.cat([norms(module.one), norms(module.three)])
    check(net, "both", "squeeze", together)
    check(net, "last", "both", norms(module.last))
    check(net, "last", "three", norms(module.last)[:, 2:])  # `both` is not searched


def test_layer_is_not_related_through_another_searched_layer_or_convolution() -> None:
    net = small(Fire())
    assert Relatives(net, ["squeeze", "last"]).links == ()
    assert Relatives(net, ["squeeze", "both", "last"]).of("both") == (["squeeze"], ["last"])
    assert Relatives(net, ["squeeze", "both", "last"]).of("last") == (["both"], [])


def test_fully_connected_layers_are_related_by_their_weights() -> None:
    first, second = nn.Linear(3 * 16 * 16, 7), nn.Linear(7, 4)
    net = small(nn.Sequential(nn.Flatten(), first, nn.ReLU(), second))
    names = {layer.module: layer.name for layer in net.layers}
    check(net, names["3"], names["1"], second.weight.detach().abs())


def test_only_the_strongest_relatives_are_returned() -> None:
    net = small(nn.Sequential(nn.Conv2d(3, 9, 3), nn.ReLU(), nn.Conv2d(9, 5, 3)))
    names = [layer.name for layer in net.layers]
    assert len(Relatives(net, names).below(names[2], 0, k=4)) == 4
