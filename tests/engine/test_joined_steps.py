"""A convolution and the batch norm after it are projected as one step, with scaled weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.engine import receptive_fields
from deconvviz.engine.joined_steps import NormalisedConvolution, joined
from deconvviz.engine.tape import Step
from deconvviz.errors import StaleRecording


def normalised(norm: nn.Module) -> nn.Module:
    """Give a batch norm factors that differ from channel to channel, some of them negative."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        norm.running_var.uniform_(0.1, 4, generator=generator)
        norm.running_mean.normal_(generator=generator)
        if norm.weight is not None:
            norm.weight.normal_(generator=generator)
            norm.bias.normal_(generator=generator)
    return norm


def stack(*, affine: bool = True, groups: int = 1, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        normalised(nn.BatchNorm2d(8, affine=affine)),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=stride, groups=groups),
        normalised(nn.BatchNorm2d(12, affine=affine)),
        nn.ReLU(),
    )


class ReadTwice(nn.Module):
    """The output of the first convolution is read by a batch norm and by a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), normalised(nn.BatchNorm2d(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return (self.norm(x) + x).relu()


def network(module: nn.Module, size: int = 12) -> dv.Network:
    return dv.Network(module.double().eval(), shape=(3, size, size))


def image(size: int = 12) -> Tensor:
    return torch.randn(1, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def steps_of(net: dv.Network, layer: str) -> list[Step]:
    rec = net.record(image(), layer)
    return joined(rec._tape.path(rec._values[net.layers[layer]]))


def test_each_batch_norm_joins_the_convolution_before_it() -> None:
    kinds = [type(step.rule).__name__ for step in steps_of(network(stack()), "5")]
    assert kinds == ["NormalisedConvolution", "ReLU"] * 2


def test_layer_between_a_convolution_and_its_batch_norm_can_be_projected() -> None:
    net = network(stack())
    kinds = [type(step.rule).__name__ for step in steps_of(net, "3")]
    assert kinds == ["NormalisedConvolution", "ReLU", "Convolution"]
    assert dv.verify(net, net.record(image(), "3").project("3")).passed


@pytest.mark.parametrize(
    "module",
    [
        ReadTwice(),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        nn.Sequential(nn.ConvTranspose2d(3, 4, 3), normalised(nn.BatchNorm2d(4))),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), normalised(nn.BatchNorm2d(4))),
    ],
    ids=["read twice", "statistics of the batch", "transposed", "ReLU between"],
)
def test_others_stay_apart(module: nn.Module) -> None:
    kinds = {type(step.rule) for step in steps_of(network(module), "output")}
    assert NormalisedConvolution not in kinds


@pytest.mark.parametrize("method", ["deconvnet", "gradient", "guided"])
@pytest.mark.parametrize(
    "module",
    [stack(), stack(affine=False), stack(groups=4), stack(stride=2), ReadTwice()],
    ids=["plain", "without scale", "groups", "stride", "read twice"],
)
def test_projection_is_that_of_separate_steps(
    module: nn.Module, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network(module)
    layer = net.layers[-1]
    rec = net.record(image(), layer, methods=[] if method == "deconvnet" else [method])
    units = [*rec.strongest(layer, 2), dv.Unit(0, 1)]
    together = rec.project(layer, units, method=method).pixels
    monkeypatch.setattr(receptive_fields, "joined", list)
    apart = rec.project(layer, units, method=method).pixels
    assert float(apart.abs().max()) > 0
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("count", [1, 80])
def test_few_and_many_units_are_projected_alike(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smaller of signal and weights is scaled."""
    net = network(stack())
    rec = net.record(image(), "5")
    units = [dv.Unit(0, 2, number // 10, number % 10) for number in range(count)]
    together = rec.project("5", units).pixels
    scaled = []
    filters = NormalisedConvolution.filters

    def watched(self: NormalisedConvolution, signal: Tensor) -> Tensor:
        scaled.append(self.weight.shape[0])
        return filters(self, signal)

    monkeypatch.setattr(NormalisedConvolution, "filters", watched)
    assert torch.equal(rec.project("5", units).pixels, together)
    assert scaled == ([] if count == 1 else [12, 8])
    monkeypatch.setattr(receptive_fields, "joined", list)
    torch.testing.assert_close(rec.project("5", units).pixels, together, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "change",
    [lambda norm: norm.weight.mul_(2), lambda norm: norm.running_var.add_(1)],
    ids=["scale", "variance"],
)
def test_change_of_the_batch_norm_is_noticed(change: Callable[[nn.Module], object]) -> None:
    net = network(stack())
    rec = net.record(image(), "5")
    with torch.no_grad():
        change(net.module[1])
    with pytest.raises(StaleRecording):
        rec.project("5", dv.Unit(0, 0, 1, 1))
