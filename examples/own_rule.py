"""A network of your own with an operation that deconvviz does not know: refused, until it has a rule."""

import torch
from torch import nn

import deconvviz as dv
from deconvviz.scenes import scene


class RunningSum(nn.Module):
    """Adds up its map from left to right. Not a usual layer."""

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
    """y = what stands to the left, added up; mirror: the signals of what stands to the right, added up."""

    def __init__(self, call):
        self.dim = call["dim"]

    def down(self, signal, at, into):
        return [signal.flip(self.dim).cumsum(self.dim).flip(self.dim)]


rec = net.record(scene(seed=4).image, layers="block")
proj = rec.project("block")
print("after:", proj)
assert proj.pixels.abs().max() > 0
