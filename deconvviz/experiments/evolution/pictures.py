"""The pictures of an evolution: read and decoded once where memory allows, for all checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator

import psutil

from deconvviz.image_sources import Source
from deconvviz.image_sources.batches import Batch, Batches, load, telling_of_deaths
from deconvviz.images.image import InputImage
from deconvviz.images.preprocessing import Preprocessing

MEMORY_SHARE = 4
"""Prepared images are kept if they need at most this part (one fourth) of the free memory. Our choice."""


class PreparedBatches:
    """Batches of prepared images. The first pass keeps them in memory if all of them fit."""

    def __init__(
        self, source: Source, preprocessing: Preprocessing, size: int, workers: int, memory: int | None = None
    ) -> None:
        """`memory` is the largest number of bytes to keep. Default: a share of the free memory."""
        self._batches, self._workers = Batches(source, preprocessing, size), workers
        allowed = psutil.virtual_memory().available // MEMORY_SHARE if memory is None else memory
        self._keeps = 4 * len(source) * math.prod(preprocessing.shape) <= allowed
        self._kept: list[Batch] = []

    def __len__(self) -> int:
        return len(self._batches)

    def after(self, done: int) -> Iterator[Batch]:
        """Return the batches after the first `done`. Batches are kept only by a pass over all of them."""
        if len(self._kept) == len(self._batches):
            yield from self._kept[done:]
            return
        self._kept.clear()
        numbers = range(done, len(self._batches))
        with telling_of_deaths():
            for batch in load(self._batches, numbers, workers=min(self._workers, len(numbers))):
                if self._keeps and not done:
                    self._kept.append(batch)
                yield batch


class RememberedImages(Source):
    """A source that keeps the images that were read, up to a number of bytes."""

    kind = "remembered"

    def __init__(self, source: Source, memory: int | None = None) -> None:
        """`memory` is the largest number of bytes to keep. Default: a share of the free memory."""
        super().__init__(source.place, source.names)
        self._source = source
        self._left = psutil.virtual_memory().available // MEMORY_SHARE if memory is None else memory
        self._images: dict[int, InputImage] = {}

    def read(self, number: int) -> InputImage:
        if number in self._images:
            return self._images[number]
        image = self._source.image(number)
        if image.rgb.nbytes <= self._left:
            self._left -= image.rgb.nbytes
            self._images[number] = image
        return image
