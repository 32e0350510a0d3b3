"""Time of projecting 64 units, compared to captum's neuron attribution called 64 times.

With `--method deconvnet` the peer is NeuronDeconvolution, with `guided` it is NeuronGuidedBackprop, and with
`gradient` it is NeuronGradient.

Both use the same image, layer, units and threads, in one run. The time of deconvviz includes the
recording, the choice of the units and their projection. Captum computes a full forward and backward pass
for each unit, which takes the same time for every unit: with `--captum N` it projects N units, and its
time is scaled to all of them. Captum starts from a signal of 1, so its result is multiplied by the
activation. Captum does not find a ReLU that a network calls as a function, and its result is then
different; the column `difference` is the relative difference.

    bound     Ratio of counted multiply-adds: the ratio of times if every multiply-add took equally long.
              All convolutions are counted as direct ones, also where deconvviz uses Winograd's method.
    of bound  Ratio of times, relative to the bound.
    matmul    Multiply-adds per second in the projection pass, relative to a 2048 x 2048 matrix product
              that is measured in this run with the same threads.

Weights are random; the time does not depend on them.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any
from unittest import mock

import torch
from captum.attr import NeuronDeconvolution, NeuronGradient, NeuronGuidedBackprop
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import deconvviz as dv
from deconvviz.engine.rules import transposed

CASES = {
    "vgg19": ("conv3_4", "conv4_4", "conv5_1", "conv5_4"),
    "resnet50": ("layer2", "layer3", "layer4"),
    "googlenet": ("inception3b", "inception4e", "inception5b"),
    "densenet121": ("features.denseblock2", "features.denseblock3", "features.denseblock4"),
}
PEERS = {"deconvnet": NeuronDeconvolution, "guided": NeuronGuidedBackprop, "gradient": NeuronGradient}
ONLY_RELU_MODULES = ("vgg19", "resnet50")  # captum handles only ReLUs that are modules
COLUMNS = (
    "network",
    "layer",
    "captum (s)",
    "deconvviz (s)",
    "ratio",
    "bound",
    "of bound",
    "matmul",
    "difference",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="repetitions for each layer")
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--captum", type=int, default=8, help="units that captum projects in each repetition")
    parser.add_argument("--networks", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--method", default="deconvnet", choices=list(PEERS))
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"one image of 224 px, {options.units} units, float32, {options.threads} threads, "
        f"{options.device}, {options.method}"
    )
    rate = matmul_rate(options.device)
    print(f"matrix product: {rate / 1e9:.0f} billion multiply-adds per second")
    print(_row(COLUMNS))
    for name in options.networks:
        net = dv.load(name, weights="random", device=options.device)
        image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        case = Case(net, image, options.method)
        for layer in CASES[name]:
            print(_row(case.compare(layer, options.units, options.captum, options.repeat, rate)), flush=True)


def _row(cells: Sequence[str]) -> str:
    return "".join(
        cell.ljust(width) if number < 2 else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, (13, 22, 11, 15, 8, 8, 10, 8, 12), strict=True))
    )


@dataclass(frozen=True)
class Turn:
    """Seconds of one repetition."""

    theirs: float  # for all units
    recording: float
    projecting: float

    @property
    def ours(self) -> float:
        return self.recording + self.projecting


class Case:
    """A network, and a copy of it for captum, whose hooks do not support in-place ReLUs."""

    def __init__(self, net: dv.Network, images: Tensor, method: str) -> None:
        self.net, self.images, self.method = net, images.to(net.device), method
        self.module = copy.deepcopy(net.module).eval()
        for part in self.module.modules():
            if isinstance(part, nn.ReLU):
                part.inplace = False

    def compare(self, layer: str, units: int, captum: int, repeat: int, rate: float) -> tuple[str, ...]:
        self.record(layer)  # computes the table of layers, once for each network
        turns = [self._turn(layer, units, captum) for _ in range(repeat)]
        apart = max(difference for _, difference in turns)
        if self.net.name in ONLY_RELU_MODULES and not apart <= 1e-3:
            raise SystemExit(f"{self.net.name} {layer}: deconvviz and captum differ by {apart:.1e}")
        times = [one for one, _ in turns]
        ratio = median(one.theirs / one.ours for one in times)
        seconds = median(one.projecting for one in times)
        theirs, recording, projecting = self._multiply_adds(layer, units)
        bound = units * theirs / (recording + projecting)
        return (
            self.net.name,
            layer,
            f"{median(one.theirs for one in times):.2f}",
            f"{median(one.ours for one in times):.3f}",
            f"{ratio:.1f}",
            f"{bound:.1f}",
            f"{ratio / bound:.0%}",
            f"{projecting / seconds / rate:.0%}",
            f"{apart:.0e}",
        )

    def _turn(self, layer: str, units: int, captum: int) -> tuple[Turn, float]:
        start = clock(self.images)
        recording = self.record(layer)
        chosen = recording.strongest(layer, units)
        between = clock(self.images)
        projection = recording.project(layer, chosen, method=self.method)
        end = clock(self.images)
        sample = chosen[:: max(1, units // captum)][:captum]
        theirs = self.captum(layer, sample)
        seconds = (clock(self.images) - end) * units / len(sample)
        ours = projection.pixels[[chosen.index(unit) for unit in sample]]
        apart = (ours - theirs).abs().amax((1, 2, 3)) / theirs.abs().amax((1, 2, 3))
        return Turn(seconds, between - start, end - between), float(apart.max())

    def captum(self, layer: str, units: Sequence[dv.Unit]) -> Tensor:
        """Return the projections of captum, (K, 3, H, W), computed unit by unit."""
        part = self.module.get_submodule(self.net.layers[layer].module)
        attribution = PEERS[self.method](self.module, part)
        inputs = self.images.clone().requires_grad_(True)
        found = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum warns that it registers hooks
            for unit in units:
                place = (unit.channel, unit.y, unit.x)
                found.append(attribution.attribute(inputs, place).detach() * unit.activation)
        return torch.cat(found)

    def _multiply_adds(self, layer: str, units: int) -> tuple[int, int, int]:
        """Return the multiply-adds of captum for one unit, of a recording, and of projecting all units.

        Those of captum are a forward pass of the whole network and one projection at full size.
        """
        recording = self.record(layer)
        chosen = recording.strongest(layer, units)
        full = torch.ones(1, *self.net.layers[layer].shape, device=self.images.device)
        with mock.patch.object(transposed, "winograd_is_faster", lambda *_: False):
            theirs = multiply_adds(lambda: self.module(self.images))
            theirs += multiply_adds(lambda: recording.project(layer, full, method=self.method))
            ours = multiply_adds(lambda: self.record(layer))
            projecting = multiply_adds(lambda: recording.project(layer, chosen, method=self.method))
        return theirs, ours, projecting

    def record(self, layer: str) -> dv.Recording:
        return self.net.record(self.images, layer, methods=[self.method])


def multiply_adds(call: Callable[[], Any]) -> int:
    """Count the multiply-adds of all convolutions and matrix products in a call."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops()) // 2


def matmul_rate(device: str, n: int = 2048) -> float:
    """Return the multiply-adds per second of the fastest of several matrix products."""
    a, b = torch.randn(2, n, n, device=device)
    a @ b
    times = []
    for _ in range(8):
        start = clock(a)
        b = a @ b / n
        times.append(clock(a) - start)
    return n**3 / min(times)


def clock(where: Tensor) -> float:
    if where.is_cuda:
        torch.cuda.synchronize()
    return perf_counter()


if __name__ == "__main__":
    main()
