"""How long do nine units take, against captum's NeuronDeconvolution called nine times?

The same picture, layer, units and threads, in one run; everything included: for deconvviz the recording,
the choice of the units and their way down. Captum seeds 1, so its result is multiplied by the activation.
Random weights: the time does not depend on them.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Sequence
from statistics import median
from time import perf_counter

import torch
from captum.attr import NeuronDeconvolution
from torch import Tensor, nn

import deconvviz as dv

LAYERS = ("conv3_4", "conv4_4", "conv5_1", "conv5_4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="turns for each layer")
    parser.add_argument("--units", type=int, default=9)
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    net = dv.load("vgg19", weights="random")
    out_of_place = copy.deepcopy(net.module).eval()
    for part in out_of_place.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False  # captum's hooks cannot stand it
    pictures = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    print(f"vgg19, one picture of 224 px, {asked.units} units, float32, {asked.threads} threads")
    print(f"{'layer':<9} {'captum (s)':>11} {'deconvviz (s)':>14} {'ratio':>7} {'difference':>11}")
    for layer in asked.layers:
        net.record(pictures, layer)  # the table of layers is made once
        turns = [turn(net, out_of_place, pictures, layer, asked.units) for _ in range(asked.repeat)]
        theirs, ours = (median(times) for times in zip(*(pair for pair, _ in turns), strict=True))
        ratio = median(captum / own for (captum, own), _ in turns)
        worst = max(difference for _, difference in turns)
        print(f"{layer:<9} {theirs:>11.2f} {ours:>14.3f} {ratio:>7.1f} {worst:>11.1e}", flush=True)


def turn(
    net: dv.Network, module: nn.Module, pictures: Tensor, layer: str, k: int
) -> tuple[tuple[float, float], float]:
    """Seconds of captum and of deconvviz, and how far they lie apart, relative to the largest value."""
    start = perf_counter()
    projection = dv.project(net, pictures, layer, k)
    between = perf_counter()
    theirs = captum(module, net.layers[layer].dotted, pictures, projection.units)
    end = perf_counter()
    apart = (projection.pixels - theirs).abs().amax((1, 2, 3)) / theirs.abs().amax((1, 2, 3))
    if not float(apart.max()) <= 1e-4:
        raise SystemExit(f"{layer}: deconvviz and captum differ by {float(apart.max()):.1e}")
    return (end - between, between - start), float(apart.max())


def captum(module: nn.Module, dotted: str, pictures: Tensor, units: Sequence[dv.Unit]) -> Tensor:
    """(K, 3, H, W), unit by unit."""
    attribution = NeuronDeconvolution(module, module.get_submodule(dotted))
    inputs = pictures.clone().requires_grad_(True)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum warns that it sets hooks
        for unit in units:
            place = (unit.channel, unit.y, unit.x)
            found.append(attribution.attribute(inputs, place).detach() * unit.activation)
    return torch.cat(found)


if __name__ == "__main__":
    main()
