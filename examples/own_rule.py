"""A network of your own with an operation that deconvviz does not know: refused, until it has a rule."""

import torch
from torch import nn

import deconvviz as dv
from deconvviz.scenes import scene


class Flip(nn.Module):
    """Mirrors its map from left to right. Not a usual layer."""

    def forward(self, x):
        return x.flip(3)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 5, stride=2, padding=2)
        self.flip = Flip()
        self.block = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        x = self.flip(self.stem(x).relu())
        return torch.relu(x + self.block(x))


net = dv.Network(Own(), size=96, name="own")
rec = net.record(scene(seed=4).image, layers="block")
try:
    rec.project("block")
except dv.DeconvvizError as error:
    print("before:", error)


@dv.rule(torch.ops.aten.flip.default)
class FlipRule(dv.Rule):
    """y = x, flipped; mirror: the signal, flipped back."""

    def __init__(self, call):
        self.dims = [dim for dim in call["dims"] if dim != 0]

    def down(self, signal, at, into):
        return [signal.flip(self.dims)]


rec = net.record(scene(seed=4).image, layers="block")
proj = rec.project("block")
print("after:", proj)
assert proj.pixels.abs().max() > 0
