"""How long do 64 units take, against captum's NeuronDeconvolution called 64 times?

The same picture, layer, units and threads, in one run; everything included: for deconvviz the recording,
the choice of the units and their way down. Captum takes every unit by itself, in a whole forward and backward
pass, and needs just as long for each: `--captum N` has it take N of them, and its time is multiplied.
Captum seeds 1, so its result is multiplied by the activation. Where a network calls ReLU as a function captum
does not see it, and its result is another: the column `apart` says by how much.

    bound     the ratio of counted multiply-adds: what could be had if every one took as long
    of it     what is had of the bound
    matmul    the way down, in counted multiply-adds a second, over this machine's rate for a 2048 x 2048
              matrix product, measured in this run with these threads

Random weights: the time does not depend on them.
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

import torch
from captum.attr import NeuronDeconvolution
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import deconvviz as dv

CASES = {
    "vgg19": ("conv3_4", "conv4_4", "conv5_1", "conv5_4"),
    "resnet50": ("layer2", "layer3", "layer4"),
    "googlenet": ("inception3b", "inception4e", "inception5b"),
    "densenet121": ("features.denseblock2", "features.denseblock3", "features.denseblock4"),
}
SEES_EVERY_RELU = ("vgg19", "resnet50")  # captum: there each ReLU is a module
COLUMNS = ("network", "layer", "captum (s)", "deconvviz (s)", "ratio", "bound", "of it", "matmul", "apart")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="turns for each layer")
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--captum", type=int, default=8, help="units that captum takes in each turn")
    parser.add_argument("--networks", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"one picture of 224 px, {asked.units} units, float32, {asked.threads} threads, {asked.device}")
    rate = matmul_rate(asked.device)
    print(f"matrix product: {rate / 1e9:.0f} thousand million multiply-adds a second")
    print(_row(COLUMNS))
    for name in asked.networks:
        net = dv.load(name, weights="random", device=asked.device)
        case = Case(net, torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
        for layer in CASES[name]:
            print(_row(case.compare(layer, asked.units, asked.captum, asked.repeat, rate)), flush=True)


def _row(cells: Sequence[str]) -> str:
    return "".join(
        cell.ljust(width) if number < 2 else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, (13, 22, 11, 15, 8, 8, 7, 8, 10), strict=True))
    )


@dataclass(frozen=True)
class Turn:
    """Seconds of one turn."""

    theirs: float  # for all units
    recording: float
    down: float

    @property
    def ours(self) -> float:
        return self.recording + self.down


class Case:
    """One network, ours and a copy for captum, whose hooks cannot stand calls in place."""

    def __init__(self, net: dv.Network, pictures: Tensor) -> None:
        self.net, self.pictures = net, pictures.to(net.device)
        self.module = copy.deepcopy(net.module).eval()
        for part in self.module.modules():
            if isinstance(part, nn.ReLU):
                part.inplace = False

    def compare(self, layer: str, units: int, captum: int, repeat: int, rate: float) -> tuple[str, ...]:
        self.net.record(self.pictures, layer)  # the table of layers is made once
        turns = [self._turn(layer, units, captum) for _ in range(repeat)]
        apart = max(difference for _, difference in turns)
        if self.net.name in SEES_EVERY_RELU and not apart <= 1e-3:
            raise SystemExit(f"{self.net.name} {layer}: deconvviz and captum differ by {apart:.1e}")
        times = [one for one, _ in turns]
        ratio = median(one.theirs / one.ours for one in times)
        down = median(one.down for one in times)
        theirs, up, ours_down = self._multiply_adds(layer, units)
        bound = units * theirs / (up + ours_down)
        return (
            self.net.name,
            layer,
            f"{median(one.theirs for one in times):.2f}",
            f"{median(one.ours for one in times):.3f}",
            f"{ratio:.1f}",
            f"{bound:.1f}",
            f"{ratio / bound:.0%}",
            f"{ours_down / down / rate:.0%}",
            f"{apart:.0e}",
        )

    def _turn(self, layer: str, units: int, captum: int) -> tuple[Turn, float]:
        start = clock(self.pictures)
        recording = self.net.record(self.pictures, layer)
        chosen = recording.strongest(layer, units)
        between = clock(self.pictures)
        projection = recording.project(layer, chosen)
        end = clock(self.pictures)
        few = chosen[:: max(1, units // captum)][:captum]
        theirs = self.captum(layer, few)
        seconds = (clock(self.pictures) - end) * units / len(few)
        ours = projection.pixels[[chosen.index(unit) for unit in few]]
        apart = (ours - theirs).abs().amax((1, 2, 3)) / theirs.abs().amax((1, 2, 3))
        return Turn(seconds, between - start, end - between), float(apart.max())

    def captum(self, layer: str, units: Sequence[dv.Unit]) -> Tensor:
        """(K, 3, H, W), unit by unit."""
        part = self.module.get_submodule(self.net.layers[layer].dotted)
        attribution = NeuronDeconvolution(self.module, part)
        inputs = self.pictures.clone().requires_grad_(True)
        found = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum warns that it sets hooks
            for unit in units:
                place = (unit.channel, unit.y, unit.x)
                found.append(attribution.attribute(inputs, place).detach() * unit.activation)
        return torch.cat(found)

    def _multiply_adds(self, layer: str, units: int) -> tuple[int, int, int]:
        """Of captum for one unit; of our recording; of the way down of all units.

        Captum's are those of the whole network forward and of one way down at full size.
        """
        recording = self.net.record(self.pictures, layer)
        chosen = recording.strongest(layer, units)
        full = torch.ones(1, *self.net.layers[layer].shape, device=self.pictures.device)
        theirs = multiply_adds(lambda: self.module(self.pictures))
        theirs += multiply_adds(lambda: recording.project(layer, full))
        ours = multiply_adds(lambda: self.net.record(self.pictures, layer))
        return theirs, ours, multiply_adds(lambda: recording.project(layer, chosen))


def multiply_adds(call: Callable[[], Any]) -> int:
    """Of all convolutions and matrix products."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops()) // 2


def matmul_rate(device: str, n: int = 2048) -> float:
    """Multiply-adds a second of the best of several matrix products."""
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
