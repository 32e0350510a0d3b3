"""Which files can be the input of a network, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, BinaryIO

from deconvviz.errors import ImageError, MissingExtra
from deconvviz.images import nifti_files, sound_files, video_files
from deconvviz.images.array_files import SUFFIXES as ARRAYS
from deconvviz.images.band_files import SUFFIXES as BANDS
from deconvviz.images.discovery import SUFFIXES as IMAGES
from deconvviz.images.image import InputImage, read_image
from deconvviz.images.input_array import InputArray, array_in
from deconvviz.printable_names import printable

if TYPE_CHECKING:  # it imports torch
    from deconvviz.images.preprocessing import Preprocessing

_EXTRAS = (
    (sound_files.SUFFIXES, "soundfile", "signals"),
    (nifti_files.SUFFIXES, "nibabel", "volumes"),
    (video_files.SUFFIXES, "av", "video"),
)  # suffixes, the package that reads them, its extra


@dataclass(frozen=True)
class InputFiles:
    """Files that a network can read: images, or arrays of a shape (C, ...).

    `shape` is (C, T) for signals, (C, H, W) for pictures with bands, (C, D, H, W) for volumes and video; None
    for images. With `reduced_for`, JPEGs are decoded at a fraction of their size, as far as
    `Preprocessing.reduction` allows; None decodes all pixels.
    """

    shape: tuple[int, ...] | None = None
    reduced_for: Preprocessing | None = None

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of the files, in lower case."""
        if self.shape is None:
            return IMAGES
        if len(self.shape) == 2:
            return (*ARRAYS, *sound_files.SUFFIXES)
        if len(self.shape) == 3:
            return (*ARRAYS, *BANDS)
        videos = video_files.SUFFIXES if self.shape[0] in (1, 3) else ()
        return (*ARRAYS, *nifti_files.SUFFIXES, *videos)

    @property
    def noun(self) -> str:
        """What one of them is called in messages and figures."""
        return "image" if self.shape is None else "input"

    def fit(self, path: str) -> bool:
        """Return whether a file has one of the suffixes."""
        return path.lower().endswith(self.suffixes)

    def read(self, data: bytes | BinaryIO, name: str) -> InputImage | InputArray:
        """Return the input in the contents of a file, which messages call `name`. Raises ImageError."""
        if self.shape is None:
            reduction = None if self.reduced_for is None else self.reduced_for.reduction
            return read_image(data, name, reduction=reduction)
        return array_in(data, printable(name), self.shape)

    def check_can_read(self, names: Iterable[str]) -> None:
        """Raise MissingExtra if the package for one of these files is not installed."""
        if self.shape is None:
            return
        missing = [(suffixes, extra) for suffixes, package, extra in _EXTRAS if find_spec(package) is None]
        for name in names if missing else ():
            for suffixes, extra in missing:
                if name.lower().endswith(suffixes):
                    raise MissingExtra(f"reading {printable(name)}", extra)

    def image(self, read: InputImage | InputArray, name: str) -> InputImage:
        """Return an input that is an image. Raises ImageError for an array."""
        if isinstance(read, InputArray):
            raise ImageError(f"{name} is an array, but this needs images")
        return read


IMAGE_FILES = InputFiles()
EVERY_SUFFIX = tuple(
    dict.fromkeys(
        (*IMAGES, *ARRAYS, *BANDS, *sound_files.SUFFIXES, *nifti_files.SUFFIXES, *video_files.SUFFIXES)
    )
)
"""Suffixes of all files that some network can read."""
