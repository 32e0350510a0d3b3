"""Cost of a search, relative to a bare loop with the same loader and the same network up to the same layer.

Search and loop alternate in one process with the same number of threads. The reported ratio of their
throughputs is the median over the repetitions. Weights are random and images are noise in memory:
neither changes the time, and loading is not the bottleneck. The search writes checkpoints as often as its
limit of 2% of the time allows, and each repetition starts a new search, in which all images are among the
strongest; both cost less in a long search. Work that is done once, independent of the number of images (the
digest of the weights and the tables), is listed in a separate column.

A second table has the cost of the summary of all peaks (histogram, sums per class and sketch), which the
search keeps for an atlas: the process time of a search with it and of one without it, on one thread. Both
alternate batch by batch, so that they meet the same state of the machine; the cost is the median over the
batches. On a busy machine it varies by a few per cent, so the share of the time inside the summary's own code
is printed too. minivgg and SqueezeNet have the least time for each channel.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.dataset_search import engine_local as local
from deconvviz.dataset_search.checkpoint import CHECKPOINT, Saver, State
from deconvviz.dataset_search.peak_finder import Numbers, find_peaks, open_finder
from deconvviz.dataset_search.plan import Plan, plan
from deconvviz.dataset_search.summary import Summary
from deconvviz.dataset_search.tables import channels_table, peaks_table, statistics_table
from deconvviz.image_sources import Source
from deconvviz.image_sources.batches import load
from deconvviz.image_sources.image_ids import Names
from deconvviz.images.image import InputImage

MIN_THROUGHPUT, MAX_CHECKPOINT_SHARE, MAX_SUMMARY_COST = 0.95, 0.02, 0.03
SUMMARY_BATCHES = {"minivgg": 96, "squeezenet1_1": 24, "vgg19": 6}


class Noise(Source):
    """Source of noise images of 256 px that are kept in memory."""

    kind = "noise"

    def __init__(self, count: int, classes: int = 0) -> None:
        rng = np.random.default_rng(0)
        self.images = [InputImage(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)) for _ in range(8)]
        labels = [str(number % classes) for number in range(count)] if classes else None
        super().__init__("noise", Names(f"noise-{number:06d}" for number in range(count)), labels=labels)

    def read(self, number: int) -> InputImage:
        return self.images[number % len(self.images)]


class TimedSaver:
    """Saver of checkpoints that measures its own time."""

    def __init__(self, saver: Saver) -> None:
        self.saver, self.seconds = saver, 0.0

    def __call__(self, state: State) -> None:
        start = perf_counter()
        self.saver(state)
        self.seconds += perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5, help="repetitions for each choice of layers")
    parser.add_argument("--pictures", type=int, default=48, help="images in one repetition")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0, help="worker processes of search and loop")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    net = dv.load("vgg19", weights="random", device=options.device)
    source, module = Noise(options.pictures), net.module.eval()
    print(
        f"VGG19, random weights, {options.device}: {options.repeat} repetitions, {options.pictures} images "
        f"of 224 px in batches of {options.batch}, {options.threads} threads, {options.workers} workers"
    )
    print(
        f"{'layers':<10} {'channels':>8} {'bare (ms)':>10} {'search (ms)':>12} {'throughput':>11} "
        f"{'checkpoints':>12} {'once (s)':>9}"
    )
    one = report(net, source, "conv5_1", nn.Sequential(*list(module.features)[:29]), options)
    all_layers = report(net, source, "all", module, options)
    extra = all_layers / one - 1
    print(f"times are for one image; all layers take {extra:.0%} more time than conv5_1 alone")
    print(
        f"\ncost of the summary: all layers, noise with 100 classes, batches of {options.batch}, 1 thread, "
        f"process time\n{'network':<14} {'channels':>8} {'without (ms)':>13} {'with (ms)':>10} "
        f"{'cost':>7} {'share':>7} {'first batch':>12}"
    )
    torch.set_num_threads(1)
    for name, batches in SUMMARY_BATCHES.items():
        report_summary(name, options.batch, batches)


def report(
    net: dv.Network, source: Source, layers: str, bare: nn.Module, options: argparse.Namespace
) -> float:
    """Print one row, and return the time of the search for one image, in seconds."""
    planned = plan(net, source, layers, batch_size=options.batch)
    turns = [
        turn(planned, bare, options.workers, search_first=bool(number % 2))
        for number in range(options.repeat)
    ]
    without, with_search, ratios, shares = zip(*turns, strict=True)
    throughput, share = median(ratios), median(shares)
    print(
        f"{layers:<10} {planned.channels:>8,} {median(without) / len(source) * 1e3:>10.1f} "
        f"{median(with_search) / len(source) * 1e3:>12.1f} {throughput:>11.3f} {share:>12.2%} "
        f"{once(planned):>9.1f}",
        flush=True,
    )
    if throughput < MIN_THROUGHPUT or share > MAX_CHECKPOINT_SHARE:
        print(f"  goal missed: throughput {MIN_THROUGHPUT} and {MAX_CHECKPOINT_SHARE:.0%} for checkpoints")
    return median(with_search) / len(source)


class TimedSummary:
    """Summary that measures its own process time for each batch."""

    def __init__(self, summary: Summary) -> None:
        self.summary, self.seconds = summary, list[float]()

    def add(self, activations: Numbers, numbers: Numbers) -> None:
        start = process_time()
        self.summary.add(activations, numbers)
        self.seconds.append(process_time() - start)


def report_summary(name: str, batch: int, batches: int) -> None:
    """Print one row of the cost of the summary. The first batch, in which all channels grow, is separate."""
    net = dv.load(name) if name == "minivgg" else dv.load(name, weights="random")
    planned = plan(net, Noise(batches * batch, classes=100), "all", batch_size=batch)
    timed_summary = TimedSummary(planned.empty_summary())
    states = State.begin(planned), State.begin(planned)
    states[0].summary, states[1].summary = None, timed_summary  # type: ignore[assignment]
    times: tuple[list[float], list[float]] = [], []
    with open_finder(net, planned.layers) as find:
        for index, found in enumerate(load(planned.batches, range(batches), workers=0)):
            for way in (0, 1) if index % 2 else (1, 0):
                start = process_time()
                states[way].add_batch(index, find_peaks(find, planned.layers, found, batch))
                times[way].append(process_time() - start)
    (first, *without), (_, *with_summary) = times
    cost = median(one / other - 1 for one, other in zip(with_summary, without, strict=True))
    share = median(timed_summary.seconds[1:]) / median(without)
    print(
        f"{name:<14} {planned.channels:>8,} {median(without) / batch * 1e3:>13.2f} "
        f"{median(with_summary) / batch * 1e3:>10.2f} {cost:>7.2%} {share:>7.2%} "
        f"{timed_summary.seconds[0] / first:>12.2%}",
        flush=True,
    )
    if share > MAX_SUMMARY_COST:
        print(f"  goal missed: at most {MAX_SUMMARY_COST:.0%} for the summary")


def turn(
    planned: Plan, bare: nn.Module, workers: int, search_first: bool
) -> tuple[float, float, float, float]:
    """Return the seconds of loop and search, the ratio of throughputs and the share of checkpoints."""
    state = State.begin(planned)
    with tempfile.TemporaryDirectory() as folder:
        saver = TimedSaver(Saver(planned, Path(folder), every=1e-9))
        search = timed(lambda: run_search(planned, state, saver, workers)) if search_first else 0.0
        outputs: list[Tensor] = []
        loop = timed(lambda: outputs.extend(run_loop(planned, bare, workers)))
        search = search or timed(lambda: run_search(planned, state, saver, workers))
        assert (Path(folder) / CHECKPOINT).stat().st_size
    check(planned, state, torch.cat(outputs))
    return loop, search, loop / search, saver.seconds / search


def run_search(planned: Plan, state: State, saver: TimedSaver, workers: int) -> None:
    saver(state)
    local.run(planned, state, workers=workers, save=saver, report=lambda progress: None)


@torch.no_grad()
def run_loop(planned: Plan, bare: nn.Module, workers: int) -> list[Tensor]:
    """Return the activations of the deepest layer.

    The search pads a last smaller batch with empty images; the loop does not.
    """
    outputs = []
    net, indices = planned.network, range(len(planned.batches))
    for batch in load(planned.batches, indices, workers=workers, pin=net.device.type == "cuda"):
        outputs.append(bare(batch.inputs.to(net.device, net.dtype, non_blocking=True)))
    if net.device.type == "cuda":
        torch.cuda.synchronize()
    return outputs


def check(planned: Plan, state: State, output: Tensor) -> None:
    """Check that search and loop give the same maximum for every channel of the deepest layer."""
    expected = output.flatten(2).amax(2).amax(0) if output.dim() == 4 else output.amax(0)
    found = state.top.activation[-len(expected) :, 0]
    if not np.allclose(found, expected.cpu().numpy(), rtol=1e-4, atol=1e-5):
        raise SystemExit(f"{planned.layers[-1].name}: search and bare loop give different maxima")


def once(planned: Plan) -> float:
    """Return the seconds for the work that a search does once, whatever the number of images."""
    planned.network._digested = None
    state = State.begin(planned)
    state.top.image_count = len(planned.source)
    state.top.image[:] = np.arange(state.top.k)

    def tables() -> None:
        planned.identity()
        peaks_table(planned, state.top)
        channels_table(planned, state.top)
        statistics_table(planned, state.top, state.summary)

    return timed(tables)


def timed(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


if __name__ == "__main__":
    main()
