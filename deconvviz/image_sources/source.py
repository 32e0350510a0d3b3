"""Interface of a source of images or arrays: ids in a fixed order, and an image or an array for each id."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from deconvviz.errors import ImageError, SourceError
from deconvviz.image_sources.image_ids import Names
from deconvviz.image_sources.labels import Labels
from deconvviz.images.image import InputImage
from deconvviz.images.input_array import InputArray
from deconvviz.images.input_files import IMAGE_FILES, InputFiles
from deconvviz.paths import reason_of
from deconvviz.wording import counted

if TYPE_CHECKING:  # it imports torch
    from deconvviz.images.preprocessing import Preprocessing

Skipped = tuple[tuple[str, str], ...]  # (id, reason)
Sizes = npt.NDArray[np.int64]


class Source(ABC):
    """Base class of sources of images. Images are indexed by number, in the order of their sorted ids.

    A subclass sets `kind`, passes its ids to `super().__init__`, and implements `read`:

        class Slides(Source):
            kind = "slides"

            def __init__(self, file):
                self.file = file
                super().__init__(place=file, names=Names(f"slide-{n:03d}" for n in range(250)))

            def read(self, number):
                return as_image(slide_of(self.file, int(self.names[number].removeprefix("slide-"))))

    For a network that reads signals, volumes, video or bands, `read` returns an `InputArray` with an array of
    the network's shape.

    A source is pickled and sent to worker processes. It should therefore keep paths instead of open files,
    and open files in `read`. If `read` raises ImageError or OSError, the search counts the image as
    unreadable and continues.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        place: str,
        names: Names,
        *,
        sizes: Sizes | None = None,
        skipped: Skipped = (),
        lasting_place: str | None = None,
        labels: Sequence[str | None] | None = None,
        files: InputFiles = IMAGE_FILES,
    ) -> None:
        """Initialise the source.

        Args:
            place: Location of the source as the user gave it.
            names: Ids of the images.
            sizes: Size of each image in bytes, int64 (N,); -1 if unknown.
            skipped: (id, reason) of images that are not in `names`, such as listed files that do not exist.
            lasting_place: Location that is valid from every working directory (default: `place`).
            labels: Class label of each image as text, in the order of `names`; None if it is unknown.
            files: What the files of the source are: images or arrays.
        """
        if sizes is not None and len(sizes) != len(names):
            raise ValueError(
                f"{len(names)} names and {len(sizes)} sizes: every image needs one name and one size"
            )
        if labels is not None and len(labels) != len(names):
            raise ValueError(
                f"{len(names)} names and {len(labels)} labels: every image needs one label, or None"
            )
        self.place = place
        self.names = names
        self.sizes = sizes
        self.skipped = skipped
        self.files = files
        self._lasting_place = place if lasting_place is None else lasting_place
        self._limit: int | None = None
        self._labels = labels if labels is None or isinstance(labels, Labels) else Labels.of(labels)

    @abstractmethod
    def read(self, number: int) -> InputImage | InputArray:
        """Return the image or the array of a number from 0 to `len(self) - 1`.

        Raises:
            ImageError: The image cannot be read.
        """

    def __len__(self) -> int:
        return len(self.names)

    def image(self, number: int) -> InputImage:
        """Return the image of `names[number]`; negative numbers count from the end.

        Raises:
            ImageError: The image cannot be read. The message contains its id.
            IndexError: The number is out of range.
        """
        return self.files.image(self.input(number), self.names[number])

    def input(self, number: int) -> InputImage | InputArray:
        """Return the image or the array of `names[number]`, as `image`."""
        name = self.names[number]
        try:
            return self.read(number % len(self))
        except OSError as reason:
            raise ImageError(f"cannot read {name}: {reason_of(reason)}") from reason

    def limited(self, count: int) -> Source:
        """Return a source of the first `count` images by id.

        Raises:
            SourceError: The count is less than 1.
        """
        if count < 1:
            raise SourceError(f"a limit of {count} leaves no image of {self.place}: give a number above 0")
        if count >= len(self):
            return self
        fewer = copy.copy(self)
        fewer._keep(count)
        return fewer

    def reduced_for(self, preprocessing: Preprocessing | None) -> Source:
        """Return a source that decodes JPEG files at a fraction of their size, as far as `reduction` allows.

        None returns a source that decodes all pixels. Sources without files, such as images in memory and
        scenes, read the same images in both cases.
        """
        if self.files.reduced_for == preprocessing:
            return self
        other = copy.copy(self)
        other.files = replace(self.files, reduced_for=preprocessing)
        return other

    def _keep(self, count: int) -> None:
        """Keep the data of the first `count` images only. It is called on a copy; subclasses extend it."""
        vars(self).pop("digest", None)
        vars(self).pop("class_labels", None)
        self.names = self.names[:count]
        self.sizes = None if self.sizes is None else self.sizes[:count].copy()
        self.skipped = tuple(one for one in self.skipped if one[0] <= self.names[-1])
        self._labels = None if self._labels is None else self._labels.first(count)
        self._limit = count

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ids and sizes as 'sha256:...'. It does not depend on the place or the machine."""
        hashed = hashlib.sha256(self.names.digest.encode())
        sizes = np.full(len(self), -1) if self.sizes is None else self.sizes
        hashed.update(sizes.astype("<i8").tobytes())
        return f"sha256:{hashed.hexdigest()}"

    @cached_property
    def class_labels(self) -> Labels | None:
        """Class labels of the images; None if no label is known."""
        return self._labels

    def describe(self) -> dict[str, Any]:
        """Return what a manifest needs to open the source again and to verify that it is unchanged."""
        return {
            "kind": self.kind,
            "place": self._lasting_place,
            "pictures": len(self),
            "limit": self._limit,
            "digest": self.digest,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place}, {counted(len(self), self.files.noun)})"
