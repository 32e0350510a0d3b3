"""The files that a network can read."""

from __future__ import annotations

from deconvviz.images.input_files import IMAGE_FILES, InputFiles
from deconvviz.images.preprocessing import Preprocessing


def files_of(preprocessing: Preprocessing, network: str) -> InputFiles:
    """Return the files for a network. Raises ImageError if no file has its input."""
    if preprocessing.array or preprocessing.reads_bands:
        return InputFiles(preprocessing.input_shape)
    preprocessing.check_reads_images(network)
    return IMAGE_FILES
