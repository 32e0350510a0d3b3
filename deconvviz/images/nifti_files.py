"""Read NIfTI files (.nii, .nii.gz) as volumes (C, D, H, W)."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvviz.errors import ImageError, MissingExtra
from deconvviz.paths import reason_of
from deconvviz.printable_names import printable_path

SUFFIXES = (".nii", ".nii.gz")


def read_nifti(file: Path) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Return the scaled voxels (C, D, H, W) as float32, and a note on the orientation.

    D, H and W are the three axes of the file, in its order, as in nibabel and MONAI: a volume is neither
    turned nor resampled. A fourth axis of the file becomes the channels. Raises ImageError, and MissingExtra
    if nibabel is not installed.
    """
    try:
        import nibabel
    except ImportError as reason:
        raise MissingExtra(f"reading {printable_path(file)}", "volumes") from reason
    try:
        image: Any = nibabel.load(file)
        kind = image.get_data_dtype()
        if kind.kind not in "biuf":
            raise ImageError(f"{printable_path(file)} holds {kind}: give real numbers")
        values = np.asarray(image.get_fdata(dtype=np.float32))
    except (OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError) as reason:
        raise ImageError(f"{printable_path(file)} cannot be read: {reason_of(reason)}") from reason
    if values.ndim not in (3, 4):
        raise ImageError(
            f"{printable_path(file)} has {values.ndim} axes: a volume has 3, or 4 with its channels"
        )
    axes = "".join(code or "?" for code in nibabel.aff2axcodes(image.affine))
    sizes = " x ".join(f"{size:.3g}" for size in image.header.get_zooms()[:3])
    found = values[None] if values.ndim == 3 else np.moveaxis(values, -1, 0)
    return found, (f"axes {axes}, voxels of {sizes}",)
