"""The pass over a source on one machine: read ahead, look, keep the strongest, write down how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from deconvviz.errors import PictureError
from deconvviz.search.loader import Batch, load
from deconvviz.search.peaks import Finder, Numbers, Peaks, finding
from deconvviz.search.plan import Plan
from deconvviz.search.state import State


@dataclass
class Progress:
    """How far a search is, and how fast its parts are."""

    total: int  # pictures
    done: int = 0  # those of an earlier, resumed run included
    skipped: int = 0
    read: int = 0  # pictures of this run
    workers: int = 0
    reading: float = 0.0  # seconds that the workers took, one after the other
    looking: float = 0.0  # seconds that the network took
    waiting: float = 0.0  # seconds that the network waited for pictures
    begun: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Pictures a second, all in all."""
        return self.read / max(time.monotonic() - self.begun, 1e-9)

    @property
    def reading_rate(self) -> float:
        """Pictures a second that the workers could read."""
        return self.read * max(self.workers, 1) / max(self.reading, 1e-9)

    @property
    def network_rate(self) -> float:
        """Pictures a second that the network could look at."""
        return self.read / max(self.looking, 1e-9)

    @property
    def left(self) -> float:
        """Seconds."""
        return (self.total - self.done) / self.rate if self.read else float("nan")

    @property
    def limit(self) -> str:
        """Which part keeps the other waiting: ``reading`` or ``the network``."""
        return "reading" if self.waiting > 0.25 * (self.waiting + self.looking) else "the network"


Report: TypeAlias = Callable[[Progress], None]


def run(
    plan: Plan,
    state: State,
    *,
    workers: int,
    save: Callable[[State], None],
    report: Report,
) -> None:
    """Look at every batch that is left. `save` is called after each, and so may write the state down.

    Raises PictureError where the plan is strict and a picture cannot be read.
    """
    progress = Progress(len(plan.source), state.seen, len(state.skipped), workers=workers)
    pin = plan.network.device.type == "cuda"
    with finding(plan.network, plan.layers) as find:
        before = time.monotonic()
        for batch in load(plan.batches, state.pending, workers=workers, pin=pin):
            arrived = time.monotonic()
            state.take_batch(batch.index, look(plan, find, batch))
            done = time.monotonic()
            progress.done, progress.skipped = state.seen, len(state.skipped)
            progress.read += len(batch.numbers) + len(batch.failures)
            progress.reading += batch.seconds
            progress.looking += done - arrived
            progress.waiting += arrived - before
            report(progress)
            save(state)
            before = time.monotonic()


def look(plan: Plan, find: Finder, batch: Batch) -> Peaks:
    """The peaks in one batch. Raises PictureError where the plan is strict and a picture is no good."""
    count, skipped = len(batch.numbers), dict(batch.failures)
    if count:
        said, places = find(_filled(batch.inputs, plan.batch_size))
        said, places = said[:count], places[:count]
    else:
        said, places = np.empty((0, plan.channels), np.float32), np.empty((0, plan.channels), np.int32)
    finite = np.isfinite(said).all(axis=1)
    for row in np.flatnonzero(~finite):
        number = int(batch.numbers[row])
        skipped[number] = f"{plan.source.names[number]}: {_not_finite(plan, said[row])}"
    if skipped and plan.strict:
        raise PictureError(f"{skipped[min(skipped)]} (without --strict it is skipped)")
    return Peaks(said[finite], places[finite], batch.numbers[finite], skipped)


def _filled(inputs: Tensor, size: int) -> Tensor:
    """Always as many pictures: on most machines a network's last digits depend on that."""
    if len(inputs) == size:
        return inputs
    return torch.cat([inputs, inputs.new_zeros(size - len(inputs), *inputs.shape[1:])])


def _not_finite(plan: Plan, said: Numbers) -> str:
    first = 0
    for layer in plan.layers:
        last = first + layer.shape[0]
        if not np.isfinite(said[first:last]).all():
            return f"{layer.name} gives NaN or infinity"
        first = last
    return "a layer gives NaN or infinity"
