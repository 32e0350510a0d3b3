"""What does recording cost, over the bare forward pass to the same layer?

Both run in turns, in one process with the same threads; the ratio is the median of the turns' ratios.
Random weights: the time does not depend on them. The last column counts the function calls that recording
adds, those of built-in functions included: unlike times, it does not depend on what else the machine does.
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
    parser.add_argument("--repeat", type=int, default=15, help="turns for each layer")
    parser.add_argument("--batch", type=int, default=1, help="pictures in one pass")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{asked.batch} picture(s) of 224 px, float32, {asked.threads} threads, {asked.repeat} turns")
    head = f"{'network':<14} {'layer':<12} {'bare (ms)':>10} {'record (ms)':>12} {'ratio':>7} {'calls':>8}"
    print(head)
    for name, layers in CASES:
        net = dv.load(name, weights="random")
        pictures = torch.randn(asked.batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        for layer in layers:
            bare, recorded, ratio, more = compare(net, pictures, layer, asked.repeat)
            times = f"{bare * 1e3:>10.1f} {recorded * 1e3:>12.1f} {ratio:>7.3f} {more:>8,}"
            print(f"{name:<14} {layer:<12} {times}", flush=True)


def compare(net: dv.Network, pictures: Tensor, layer: str, repeat: int) -> tuple[float, float, float, int]:
    """Return the median seconds of a bare pass and of a recording, the median ratio, and the calls added."""
    truncated = Truncated(net.module.eval(), net.layers[layer].module)
    want = truncated(pictures)
    recording = net.record(pictures, layer)
    if not torch.equal(want, recording.activations(layer)):
        raise SystemExit(f"{layer}: the recording says something else than the bare network")
    calls = (lambda: truncated(pictures), lambda: net.record(pictures, layer))
    pairs = []
    for turn in range(repeat):
        first = turn % 2  # neither always runs in what the other has left in the caches
        times = {which: clock(calls[which]) for which in (first, 1 - first)}
        pairs.append((times[0], times[1]))
    bare, recorded = (median(times) for times in zip(*pairs, strict=True))
    more = count_calls(calls[1]) - count_calls(calls[0])
    return bare, recorded, median(r / b for b, r in pairs), more


class Truncated:
    """The bare network, left at a layer; what that gave."""

    def __init__(self, module: nn.Module, dotted: str) -> None:
        self.module, self.part = module, module.get_submodule(dotted)

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        kept: list[Tensor] = []

        def leave(part: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            kept.append(output.clone())  # as the recording: the next layer may overwrite it
            raise _Left

        handle = self.part.register_forward_hook(leave)
        try:
            self.module(pictures)
        except _Left:
            pass
        finally:
            handle.remove()
        return kept[0]


class _Left(Exception):
    """The layer is reached."""


def count_calls(call: Callable[[], object]) -> int:
    """Return how many functions one call calls, those of Python and built-in ones."""
    profile = Profile()
    profile.runcall(call)
    return sum(entry.callcount for entry in profile.getstats())


def clock(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


if __name__ == "__main__":
    main()
