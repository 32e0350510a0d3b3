"""Search on one machine: worker processes load the images, this process runs the network."""

from __future__ import annotations

import time
from collections.abc import Callable

from deconvviz.dataset_search.checkpoint import State
from deconvviz.dataset_search.peak_finder import find_peaks, open_finder
from deconvviz.dataset_search.plan import Plan
from deconvviz.dataset_search.progress import Progress, Report
from deconvviz.image_sources.batches import load, telling_of_deaths


def run(plan: Plan, state: State, *, workers: int, save: Callable[[State], None], report: Report) -> None:
    """Process all remaining batches. `save` and `report` are called after each batch.

    Raises ImageError if the plan is strict and an image cannot be used, and SourceError if a worker dies.
    """
    progress = Progress(len(plan.source), state.seen, len(state.skipped), readers=max(workers, 1))
    pin = plan.network.device.type == "cuda"
    with telling_of_deaths(), open_finder(plan.network, plan.layers) as find:
        for batch in load(plan.batches, state.pending, workers=workers, pin=pin):
            begun = time.perf_counter()
            peaks = find_peaks(find, plan.layers, batch, plan.batch_size)
            plan.check_strict(peaks.skipped)
            state.add_batch(batch.index, peaks)
            images = len(batch.numbers) + len(batch.failures)
            progress.step(state, images, batch.seconds, time.perf_counter() - begun)
            report(progress)
            save(state)
