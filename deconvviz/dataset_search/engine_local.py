"""The pass over a source on one machine: read ahead, look, keep the strongest, write down how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from deconvviz.dataset_search.checkpoint import State
from deconvviz.dataset_search.peak_finder import finding, look
from deconvviz.dataset_search.plan import Plan
from deconvviz.dataset_search.progress import Progress, Report
from deconvviz.image_sources.batches import load, telling_of_deaths


def run(plan: Plan, state: State, *, workers: int, save: Callable[[State], None], report: Report) -> None:
    """Look at every batch that is left. `save` is called after each, and so may write the state down.

    Raises ImageError where the plan is strict and a picture is no good, SourceError if a worker dies.
    """
    progress = Progress(len(plan.source), state.seen, len(state.skipped), readers=max(workers, 1))
    pin = plan.network.device.type == "cuda"
    with telling_of_deaths(), finding(plan.network, plan.layers) as find:
        for batch in load(plan.batches, state.pending, workers=workers, pin=pin):
            begun = time.perf_counter()
            peaks = look(find, plan.layers, batch, plan.batch_size)
            plan.check_strict(peaks.skipped)
            state.take_batch(batch.index, peaks)
            pictures = len(batch.numbers) + len(batch.failures)
            progress.step(state, pictures, batch.seconds, time.perf_counter() - begun)
            report(progress)
            save(state)
