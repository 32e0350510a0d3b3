"""Pictures of a source, prepared for a network a batch at a time, by worker processes."""

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

from deconvviz.errors import PictureError, SourceError
from deconvviz.image_sources import Source
from deconvviz.images.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class Batch:
    """Some pictures next to each other in a source; those that cannot be read are told and left out."""

    index: int
    numbers: npt.NDArray[np.int64]  # (b), of the pictures that could be read
    inputs: Tensor  # (b, C, H, W)
    failures: tuple[tuple[int, str], ...]  # number, reason
    seconds: float  # that reading, decoding and preparing took

    def pin_memory(self) -> Batch:
        """For the loader: what is pinned goes to a GPU while that works."""
        return replace(self, inputs=self.inputs.pin_memory())


class Batches(Dataset[Batch]):
    """A source as batches of `size` pictures, the last one smaller; batch i begins at picture i * size."""

    def __init__(self, source: Source, preprocessing: Preprocessing, size: int) -> None:
        self.source, self.preprocessing, self.size = source, preprocessing, size

    def __len__(self) -> int:
        return -(-len(self.source) // self.size)

    def __getitem__(self, index: int) -> Batch:
        begun = time.perf_counter()
        numbers: list[int] = []
        inputs: list[Tensor] = []
        failures: list[tuple[int, str]] = []
        for number in range(index * self.size, min((index + 1) * self.size, len(self.source))):
            try:
                inputs.append(self.preprocessing.apply(self.source.picture(number).rgb))
                numbers.append(number)
            except PictureError as reason:
                failures.append((number, str(reason)))
        stacked = torch.stack(inputs) if inputs else torch.empty(0, *self.preprocessing.shape)
        seconds = time.perf_counter() - begun
        return Batch(index, np.array(numbers, np.int64), stacked, tuple(failures), seconds)


def load(batches: Batches, indices: Sequence[int], *, workers: int, pin: bool = False) -> Iterator[Batch]:
    """These batches, in this order, read ahead by `workers` processes (0: by this one)."""
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_one_thread if workers else None,
        generator=torch.Generator(),  # it draws a seed, by default from the user's own generator
    )
    stream = iter(loader)
    while True:
        try:
            batch = next(stream, None)
        except (EOFError, ConnectionError, FileNotFoundError) as reason:
            if not workers or str(reason).startswith("Caught "):  # by a worker: an error of the source's own
                raise
            raise RuntimeError(f"{_DEATH} unknown) ended as it handed a batch over: {reason!r}") from reason
        if batch is None:
            return
        yield batch


_DEATH = "DataLoader worker (pid"  # so torch's messages begin


@contextmanager
def telling_of_deaths() -> Iterator[None]:
    """A worker that dies is a SourceError: torch raises one of its own, wherever this process just is."""
    with _telling_of_one(), _telling_of_one():  # it may be told again while it is being handled
        yield


@contextmanager
def _telling_of_one() -> Iterator[None]:
    try:
        yield
    except RuntimeError as reason:
        if not str(reason).startswith(_DEATH):
            raise
        _bury()
        clear_frames(reason.__traceback__)  # they hold the reader, and with it the other workers
        raise SourceError(
            f"a process that read pictures has died ({str(reason).splitlines()[0]}): memory may have run "
            "out; go on with {option}, and with fewer {option} or a smaller {option}",
            option=("resume=True", "workers=N", "batch_size=N"),
        ) from reason


def _bury() -> None:
    """Wait for the dead, because torch tells of each again at every signal of a child, until that is done."""
    with suppress(RuntimeError):
        time.sleep(0.1)  # it may be about to die
        multiprocessing.active_children()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual_workers() -> int:
    """Processes that read, if nobody says how many: one for each core but that of the network."""
    return min(8, max(1, cores() - 1))


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
