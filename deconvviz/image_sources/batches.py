"""Batches of preprocessed images from a source, loaded by worker processes."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from traceback import clear_frames

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deconvviz.errors import ImageError, SourceError
from deconvviz.image_sources import Source
from deconvviz.images.input_array import InputArray
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.printable_names import printable


@dataclass(frozen=True, eq=False)
class Batch:
    """Batch of consecutive images of a source. Images that cannot be read are listed in `failures`."""

    index: int
    numbers: npt.NDArray[np.int64]  # (b), indices of the images that could be read
    inputs: Tensor  # (b, C, H, W), or (b, C, ...) for arrays
    failures: tuple[tuple[int, str], ...]  # (image index, reason)
    seconds: float  # time for reading, decoding and preprocessing

    def pin_memory(self) -> Batch:
        """Return a copy with pinned memory, which can be copied to a GPU while the GPU computes.

        `DataLoader` calls this method.
        """
        return replace(self, inputs=self.inputs.pin_memory())


class Batches(Dataset[Batch]):
    """Dataset of the batches of a source. Batch i starts at image i * size; the last batch may be smaller."""

    def __init__(self, source: Source, preprocessing: Preprocessing, size: int) -> None:
        self.source, self.preprocessing, self.size = source, preprocessing, size

    def __len__(self) -> int:
        return -(-len(self.source) // self.size)

    def __getitem__(self, index: int) -> Batch:
        start = time.perf_counter()
        numbers: list[int] = []
        inputs: list[Tensor] = []
        failures: list[tuple[int, str]] = []
        for number in range(index * self.size, min((index + 1) * self.size, len(self.source))):
            try:
                inputs.append(self._input(number))
                numbers.append(number)
            except ImageError as reason:
                failures.append((number, str(reason)))
        stacked = torch.stack(inputs) if inputs else torch.empty(0, *self.preprocessing.input_shape)
        seconds = time.perf_counter() - start
        return Batch(index, np.array(numbers, np.int64), stacked, tuple(failures), seconds)

    def _input(self, number: int) -> Tensor:
        """Return the network's input for one image or array. Raises ImageError."""
        read = self.source.input(number)
        if isinstance(read, InputArray):
            return self.preprocessing.apply_array(read.values, printable(self.source.names[number]))
        return self.preprocessing.apply(read.rgb, read.reduced)


def load(batches: Batches, indices: Sequence[int], *, workers: int, pin: bool = False) -> Iterator[Batch]:
    """Return an iterator over the batches with these indices, in this order.

    `workers` processes load batches in advance; with 0 workers this process loads them. `pin` puts the inputs
    into pinned memory.
    """
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_use_one_thread if workers else None,
        generator=torch.Generator(),  # DataLoader draws a seed, by default from the global generator
    )
    stream = iter(loader)
    while True:
        try:
            batch = next(stream, None)
        except (EOFError, ConnectionError, FileNotFoundError) as reason:
            if not workers or str(reason).startswith("Caught "):  # raised by the source inside a worker
                raise
            raise RuntimeError(f"{_DEATH_PREFIX} unknown) died while sending a batch: {reason!r}") from reason
        if batch is None:
            return
        yield batch


_DEATH_PREFIX = "DataLoader worker (pid"  # start of the message that torch raises when a worker has died


@contextmanager
def telling_of_deaths() -> Iterator[None]:
    """Raise SourceError if a worker dies. torch raises RuntimeError, from a signal handler, at any point."""
    with _death_as_source_error(), _death_as_source_error():  # torch may raise again during the handling
        yield


@contextmanager
def _death_as_source_error() -> Iterator[None]:
    try:
        yield
    except RuntimeError as reason:
        if not str(reason).startswith(_DEATH_PREFIX):
            raise
        _reap_dead_workers()
        clear_frames(reason.__traceback__)  # these frames keep the loader and its other workers alive
        raise SourceError(
            f"a process that reads images has died ({str(reason).splitlines()[0]}): memory may have run out. "
            "Continue with {option}, and with a smaller {option} or {option}",
            option=("resume=True", "workers=N", "batch_size=N"),
        ) from reason


def _reap_dead_workers() -> None:
    """Reap dead workers; otherwise torch raises for each of them again on every SIGCHLD."""
    with suppress(RuntimeError):
        time.sleep(0.1)  # the worker may still be terminating
        multiprocessing.active_children()


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual_workers() -> int:
    """Return the default number of worker processes: all cores but one, at least 1 and at most 8."""
    return min(8, max(1, cores() - 1))


def _use_one_thread(worker: int) -> None:
    torch.set_num_threads(1)
