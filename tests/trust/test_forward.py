"""Activations without a recording equal those of the module and of a recording."""

from __future__ import annotations

import pytest
import torch
from helpers import trust
from torch import nn

import deconvviz as dv
from deconvviz.trust_measures.forward import BATCH, activations


class WithView(nn.Module):
    """A network that flattens with `view`, which needs contiguous memory."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * trust.SIDE**2, 5)

    def forward(self, x):
        return self.last(self.conv(x).relu().view(len(x), -1))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(True)),
            "3",
        ),
        (WithView(), "last"),
        (WithView(), "conv"),
    ],
)
def test_activations_equal_those_of_the_module(module, name):
    net = trust.network(module)
    inputs = torch.rand(BATCH + 3, 3, trust.SIDE, trust.SIDE)
    kept = []
    hook = module.get_submodule(name).register_forward_hook(lambda part, args, out: kept.append(out.clone()))
    with torch.no_grad():
        module(inputs)
    hook.remove()
    layer = net.layers.find(name)
    assert torch.allclose(activations(net, layer, inputs), kept[0], atol=1e-5)
    assert torch.allclose(
        activations(net, layer, inputs), net.record(inputs, name).activations(name), atol=1e-5
    )
    assert not module.get_submodule(name)._forward_hooks


def test_error_of_the_network_is_passed_on():
    class Broken(nn.Module):
        def forward(self, x):
            if x.shape[0] == 2:
                raise RuntimeError("broken")
            return x * 1

    net = dv.Network(nn.Sequential(nn.Conv2d(3, 3, 1), Broken()), size=8)
    with pytest.raises(RuntimeError, match=r"^broken$"):
        activations(net, net.layers.find("1"), torch.zeros(2, 3, 8, 8))
