"""`dv.clip_filters` against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import deconvviz as dv
from deconvviz.errors import NetworkError


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(), nn.Conv2d(6, 8, 3, groups=2), nn.Flatten(), nn.Linear(8, 2)
    )


def sizes(conv):
    return np.sqrt((conv.weight.detach().numpy().astype(np.float64) ** 2).mean((1, 2, 3)))


@pytest.mark.parametrize(("scale", "first"), [(None, 0.1), (128, 0.1), (2.2, 0.1 * 128 / 2.2), (1, 12.8)])
def test_filters_above_the_radius_are_scaled_down_to_it(scale, first):
    module = build()
    with torch.no_grad():
        for conv in (module[0], module[2]):
            conv.weight *= torch.logspace(-1, 2.5, len(conv.weight)).view(-1, 1, 1, 1)
    before = [(conv.weight.detach().clone(), sizes(conv)) for conv in (module[0], module[2])]
    linear = module[4].weight.detach().clone()
    found = dv.clip_filters(module, input_scale=scale)
    wanted = {}
    for conv, name, (old, size), radius in zip(
        (module[0], module[2]), "02", before, (first, 0.1), strict=True
    ):
        np.testing.assert_allclose(sizes(conv), np.minimum(size, radius), rtol=1e-5)
        factor = np.minimum(1, radius / size)
        np.testing.assert_allclose(
            conv.weight.detach(), old * torch.tensor(factor).view(-1, 1, 1, 1), rtol=1e-4
        )
        wanted[name] = int((size > radius).sum())
    assert found == {name: count for name, count in wanted.items() if count}
    assert torch.equal(module[4].weight, linear)


def test_small_filters_are_unchanged():
    module = build()
    with torch.no_grad():
        for conv in (module[0], module[2]):
            conv.weight *= 0.01
    before = [tensor.clone() for tensor in module.state_dict().values()]
    assert dv.clip_filters(module) == {}
    assert all(map(torch.equal, before, module.state_dict().values()))


def test_scale_of_a_network_is_that_of_its_preprocessing():
    one, other = build(), build()
    net = dv.Network(one, size=16, mean=(0.5, 0.4, 0.5), std=(0.25, 0.2, 0.25))
    with torch.no_grad():
        for module in (one, other):
            module[0].weight *= 1000
    dv.clip_filters(net)
    dv.clip_filters(other, input_scale=3.0)  # (1 - 0.4) / 0.2
    assert torch.equal(one[0].weight, other[0].weight)
    np.testing.assert_allclose(sizes(one[0]), 0.1 * 128 / 3, rtol=1e-5)


def test_training_goes_on_after_clipping():
    module = build()
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    module(torch.randn(2, 3, 7, 7)).sum().backward()
    dv.clip_filters(module, 0.01)
    optimiser.step()
    assert module[0].weight.requires_grad
    assert module[0].weight.is_leaf


def test_errors():
    with pytest.raises(NetworkError, match="has no convolution"):
        dv.clip_filters(nn.Linear(2, 2))
    with pytest.raises(NetworkError, match="must be finite and above 0"):
        dv.clip_filters(build(), 0)
    with pytest.raises(NetworkError, match="must be finite and above 0"):
        dv.clip_filters(build(), input_scale=-1)
    module = build()
    nn.utils.parametrizations.weight_norm(module[2])
    before = module[0].weight.detach().clone()
    with pytest.raises(NetworkError, match="the weight of 2 is computed from other parameters"):
        dv.clip_filters(module, 1e-6)
    assert torch.equal(module[0].weight, before)  # nothing is half done
    with pytest.raises(NetworkError, match="has no values yet"):
        dv.clip_filters(nn.Sequential(nn.LazyConv2d(4, 3)))
