"""Measure the time of a recording relative to the bare forward pass to the same layer.

Both take turns in one process with the same number of threads. The ratio is the median over the turns. The
weights are random, since the time does not depend on them. The last column counts the function calls that
recording adds, including those of built-in functions. Unlike the times, it does not depend on other work on
the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from cProfile import Profile
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

import deconvviz as dv

CASES = [
    ("vgg19", ("conv1_2", "pool1", "conv3_1", "conv4_4", "conv5_1", "pool5", "fc8")),
    ("squeezenet1_0", ("features.5", "features.9", "output")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=15, help="number of turns for each layer")
    parser.add_argument("--batch", type=int, default=1, help="number of images in one forward pass")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"batch size {options.batch}, images of 224 px, float32, {options.threads} threads, "
        f"{options.repeat} turns"
    )
    head = f"{'network':<14} {'layer':<12} {'bare (ms)':>10} {'record (ms)':>12} {'ratio':>7} {'calls':>8}"
    print(head)
    for name, layers in CASES:
        net = dv.load(name, weights="random")
        images = torch.randn(options.batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        for layer in layers:
            bare, recorded, ratio, more = compare(net, images, layer, options.repeat)
            times = f"{bare * 1e3:>10.1f} {recorded * 1e3:>12.1f} {ratio:>7.3f} {more:>8,}"
            print(f"{name:<14} {layer:<12} {times}", flush=True)


def compare(net: dv.Network, images: Tensor, layer: str, repeat: int) -> tuple[float, float, float, int]:
    """Return the median seconds of forward pass and recording, their median ratio and the added calls."""
    truncated = Truncated(net.module.eval(), net.layers[layer].module)
    expected = truncated(images)
    recording = net.record(images, layer)
    if not torch.equal(expected, recording.activations(layer)):
        raise SystemExit(f"{layer}: the activations of recording and bare network differ")
    calls = (lambda: truncated(images), lambda: net.record(images, layer))
    pairs = []
    for turn in range(repeat):
        first = turn % 2  # alternate, so that neither always profits from the caches of the other
        times = {which: clock(calls[which]) for which in (first, 1 - first)}
        pairs.append((times[0], times[1]))
    bare, recorded = (median(times) for times in zip(*pairs, strict=True))
    more = count_calls(calls[1]) - count_calls(calls[0])
    return bare, recorded, median(r / b for b, r in pairs), more


class Truncated:
    """Bare network that is stopped after a layer and returns its output."""

    def __init__(self, module: nn.Module, dotted: str) -> None:
        self.module, self.part = module, module.get_submodule(dotted)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        kept: list[Tensor] = []

        def stop(part: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            kept.append(output.clone())  # as in a recording, since the next layer may overwrite it
            raise _Stopped

        handle = self.part.register_forward_hook(stop)
        try:
            self.module(images)
        except _Stopped:
            pass
        finally:
            handle.remove()
        return kept[0]


class _Stopped(Exception):
    """Raised when the layer has been computed."""


def count_calls(call: Callable[[], object]) -> int:
    """Return the number of function calls in one call, including built-in functions."""
    profile = Profile()
    profile.runcall(call)
    return sum(entry.callcount for entry in profile.getstats())


def clock(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


if __name__ == "__main__":
    main()
