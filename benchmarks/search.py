"""What does a search cost, over a bare loop with the same loader and the same network up to the same layer?

Both run in turns, in one process with the same threads; the ratio of their throughputs is the median of the
turns' ratios. Random weights and pictures of noise in memory: neither changes the time, and reading never is
the limit. The search writes checkpoints as often as it ever may, and begins anew each turn, when every
picture still is among the strongest: both cost less later. What comes once, whatever the number of pictures
(the digest of the weights before, the tables after), is told apart.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.dataset_search import engine_local as local
from deconvviz.dataset_search.checkpoint import CHECKPOINT, Saver, State
from deconvviz.dataset_search.plan import Plan, plan
from deconvviz.dataset_search.tables import channels_table, peaks_table
from deconvviz.image_sources import Source
from deconvviz.image_sources.batches import load
from deconvviz.image_sources.image_ids import Names
from deconvviz.images.image import Picture

WANTED, MOST = 0.95, 0.02


class Noise(Source):
    """Pictures of 256 px, ready in memory."""

    kind = "noise"

    def __init__(self, count: int) -> None:
        dice = np.random.default_rng(0)
        self.pictures = [Picture(dice.integers(0, 256, (256, 256, 3), dtype=np.uint8)) for _ in range(8)]
        super().__init__("noise", Names(f"noise-{number:06d}" for number in range(count)))

    def read(self, number: int) -> Picture:
        return self.pictures[number % len(self.pictures)]


class Clocked:
    """A saver, and how long it took."""

    def __init__(self, saver: Saver) -> None:
        self.saver, self.seconds = saver, 0.0

    def __call__(self, state: State) -> None:
        begun = perf_counter()
        self.saver(state)
        self.seconds += perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5, help="turns for each choice of layers")
    parser.add_argument("--pictures", type=int, default=48, help="in one turn")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0, help="processes that read, of both")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    net = dv.load("vgg19", weights="random", device=asked.device)
    source, module = Noise(asked.pictures), net.module.eval()
    print(
        f"VGG19, random weights, {asked.device}: {asked.repeat} turns of {asked.pictures} pictures of 224 px "
        f"in batches of {asked.batch}, {asked.threads} threads, {asked.workers} workers"
    )
    print(
        f"{'layers':<10} {'channels':>8} {'bare (ms)':>10} {'search (ms)':>12} {'throughput':>11} "
        f"{'checkpoints':>12} {'once (s)':>9}"
    )
    one = report(net, source, "conv5_1", nn.Sequential(*list(module.features)[:29]), asked)
    all_layers = report(net, source, "all", module, asked)
    dearer = all_layers / one - 1
    print(f"a picture takes {dearer:.0%} more with all layers than with conv5_1 alone (times: a picture's)")


def report(net: dv.Network, source: Source, layers: str, bare: nn.Module, asked: argparse.Namespace) -> float:
    """Print one row; give the search's seconds for a picture."""
    planned = plan(net, source, layers, batch_size=asked.batch)
    turns = [
        turn(planned, bare, asked.workers, searched_first=bool(number % 2)) for number in range(asked.repeat)
    ]
    without, with_search, ratios, shares = zip(*turns, strict=True)
    throughput, share = median(ratios), median(shares)
    print(
        f"{layers:<10} {planned.channels:>8,} {median(without) / len(source) * 1e3:>10.1f} "
        f"{median(with_search) / len(source) * 1e3:>12.1f} {throughput:>11.3f} {share:>12.2%} "
        f"{once(planned):>9.1f}",
        flush=True,
    )
    if throughput < WANTED or share > MOST:
        print(f"  wanted: a throughput of {WANTED} and {MOST:.0%} for checkpoints")
    return median(with_search) / len(source)


def turn(
    planned: Plan, bare: nn.Module, workers: int, searched_first: bool
) -> tuple[float, float, float, float]:
    """Seconds of the bare loop and of the search, the ratio of throughputs, and the checkpoints' share."""
    state = State.begin(planned)
    with tempfile.TemporaryDirectory() as folder:
        saver = Clocked(Saver(planned, Path(folder), every=0.0))
        search = clocked(lambda: searched(planned, state, saver, workers)) if searched_first else 0.0
        heard: list[Tensor] = []
        plain = clocked(lambda: heard.extend(looped(planned, bare, workers)))
        search = search or clocked(lambda: searched(planned, state, saver, workers))
        assert (Path(folder) / CHECKPOINT).stat().st_size
    check(planned, state, torch.cat(heard))
    return plain, search, plain / search, saver.seconds / search


def searched(planned: Plan, state: State, saver: Clocked, workers: int) -> None:
    saver(state)
    local.run(planned, state, workers=workers, save=saver, report=lambda progress: None)


@torch.no_grad()
def looped(planned: Plan, bare: nn.Module, workers: int) -> list[Tensor]:
    """What the deepest layer says; of a batch that is not full the search looks at empty pictures, too."""
    heard = []
    net, indices = planned.network, range(len(planned.batches))
    for batch in load(planned.batches, indices, workers=workers, pin=net.device.type == "cuda"):
        heard.append(bare(batch.inputs.to(net.device, net.dtype, non_blocking=True)))
    if net.device.type == "cuda":
        torch.cuda.synchronize()
    return heard


def check(planned: Plan, state: State, heard: Tensor) -> None:
    """That both saw the same: the maximum of every channel of the deepest layer."""
    want = heard.flatten(2).amax(2).amax(0) if heard.dim() == 4 else heard.amax(0)
    found = state.top.activation[-len(want) :, 0]
    if not np.allclose(found, want.cpu().numpy(), rtol=1e-4, atol=1e-5):
        raise SystemExit(f"{planned.layers[-1].name}: the search has found something else than the bare loop")


def once(planned: Plan) -> float:
    """Seconds that a search takes whatever the number of pictures."""
    planned.network._digested = None
    state = State.begin(planned)
    state.top.pictures = len(planned.source)
    state.top.image[:] = np.arange(state.top.k)

    def tables() -> None:
        planned.identity()
        peaks_table(planned, state.top)
        channels_table(planned, state.top)

    return clocked(tables)


def clocked(call: Callable[[], object]) -> float:
    begun = perf_counter()
    call()
    return perf_counter() - begun


if __name__ == "__main__":
    main()
