"""Write a projection rule for an operation that deconvviz does not support."""

import torch
from torch import nn

import deconvviz as dv
from deconvviz.scenes import scene


class RunningSum(nn.Module):
    """Cumulative sum of a map from left to right, an operation that is rare in networks."""

    def forward(self, x):
        return x.cumsum(3) / x.shape[3]


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 5, stride=2, padding=2)
        self.sum = RunningSum()
        self.block = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        x = self.sum(self.stem(x).relu())
        return torch.relu(x + self.block(x))


net = dv.Network(Own(), size=96, name="own")
rec = net.record(scene(seed=4).image, layers="block")
try:
    rec.project("block")
except dv.DeconvvizError as error:
    print("before:", error)


@dv.rule(torch.ops.aten.cumsum.default)
class RunningSumRule(dv.Rule):
    """Projection rule of a cumulative sum.

    An input position is added to its own output position and to all positions to its right, so it receives
    the sum of their signals.
    """

    def __init__(self, call):
        self.dim = call["dim"]

    def project(self, signal, window, input_windows):
        return [signal.flip(self.dim).cumsum(self.dim).flip(self.dim)]


print(dv.check_rule(torch.ops.aten.cumsum.default, [torch.randn(2, 3, 8, 8), 3]))
rec = net.record(scene(seed=4).image, layers="block")
proj = rec.project("block")
print("after:", proj)
assert proj.pixels.abs().max() > 0
