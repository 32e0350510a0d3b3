"""Arrays or images in memory as a source."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from deconvviz.errors import ImageError, SourceError
from deconvviz.image_sources.image_ids import Names
from deconvviz.image_sources.source import Source
from deconvviz.images.image import InputImage, as_image
from deconvviz.images.input_array import InputArray, read_array
from deconvviz.images.input_files import InputFiles
from deconvviz.wording import counted


class InMemory(Source):
    """Source of arrays (C, ...), or of images: uint8 arrays (H, W, 3) and PIL images.

    The ids are ``input-00000000``, ``input-00000001`` and so on, or ``image-...``. All arrays must have the
    shape that the network reads, because they are searched in batches.
    """

    kind = "memory"

    def __init__(self, values: Sequence[Any], files: InputFiles) -> None:
        """Raises SourceError for paths, or if there are no values."""
        if not len(values):
            raise SourceError(f"no {files.noun}s were given: the sequence is empty")
        if any(isinstance(one, (str, os.PathLike)) for one in values):
            raise SourceError(
                "a sequence of paths is not a source: give a folder, or a text file with one path per line"
            )
        self._values = list(values)
        names = Names(f"{files.noun}-{number:08d}" for number in range(len(self._values)))
        super().__init__(f"{counted(len(names), files.noun)} in memory", names, files=files)

    def read(self, number: int) -> InputImage | InputArray:
        name, value, shape = self.names[number], self._values[number], self.files.shape
        try:
            read = as_image(value) if shape is None else read_array(value, shape)
        except ImageError as reason:
            raise ImageError(f"{name}: {reason}") from reason
        if isinstance(read, InputArray) and read.values.shape != shape:
            raise ImageError(
                f"{name} has shape {read.values.shape}: all arrays of a search have the shape of the "
                f"network, {shape}"
            )
        return read

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the ids and the contents as 'sha256:...'."""
        hashed = hashlib.sha256(self.names.digest.encode())
        for one in self._values:
            array = np.ascontiguousarray(one.values if isinstance(one, InputArray) else one)
            hashed.update(f"{array.shape} {array.dtype}".encode())
            hashed.update(array.tobytes())
        return f"sha256:{hashed.hexdigest()}"

    def _keep(self, count: int) -> None:
        super()._keep(count)
        self._values = self._values[:count]
