"""Pictures of a source, prepared for a network a batch at a time, by worker processes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from traceback import clear_frames

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deconvviz.errors import PictureError, SourceError
from deconvviz.nets.preprocessing import Preprocessing
from deconvviz.search.sources import Source


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
    yield from loader


@contextmanager
def telling_of_deaths() -> Iterator[None]:
    """A worker that dies is a SourceError: torch raises it wherever this process just is, by a signal."""
    try:
        yield
    except RuntimeError as reason:
        if not str(reason).startswith("DataLoader worker (pid"):
            raise
        # they hold the reader, and while that lives the end of any child raises the same again
        clear_frames(reason.__traceback__)
        raise SourceError(
            f"a process that read pictures has died ({str(reason).splitlines()[0]}): memory may have run "
            "out; go on with --resume, and fewer --workers or a smaller --batch-size"
        ) from reason


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
