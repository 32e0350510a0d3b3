"""Read NIfTI files (.nii, .nii.gz) as volumes (C, D, H, W)."""

from __future__ import annotations

import gzip
import zlib
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from deconvviz.errors import ImageError, MissingExtra
from deconvviz.paths import reason_of

SUFFIXES = (".nii", ".nii.gz")
_GZIP = b"\x1f\x8b"


def read_nifti(stream: BinaryIO, name: str) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Return the scaled voxels (C, D, H, W) as float32, and a note on the orientation.

    D, H and W are the three axes of the file, in its order, as in nibabel and MONAI: a volume is neither
    turned nor resampled. A fourth axis of the file becomes the channels. Messages call the file `name`.
    Raises ImageError, and MissingExtra if nibabel is not installed.
    """
    try:
        import nibabel
    except ImportError as reason:
        raise MissingExtra(f"reading {name}", "volumes") from reason
    try:
        data = stream.read()
        data = gzip.decompress(data) if data.startswith(_GZIP) else data
        kinds = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}  # by the length of the header
        length = next((one for one in kinds if data[:4] in _four_bytes(one)), None)
        if length is None:
            raise ImageError(f"{name} cannot be read: it does not begin with a NIfTI header")
        image: Any = kinds[length].from_bytes(data)
        kind = image.get_data_dtype()
        if kind.kind not in "biuf":
            raise ImageError(f"{name} holds {kind}: give real numbers")
        values = np.asarray(image.get_fdata(dtype=np.float32))
    except (
        OSError,
        EOFError,
        ValueError,
        zlib.error,
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
    ) as reason:
        raise ImageError(f"{name} cannot be read: {reason_of(reason)}") from reason
    if values.ndim not in (3, 4):
        raise ImageError(f"{name} has {values.ndim} axes: a volume has 3, or 4 with its channels")
    axes = "".join(code or "?" for code in nibabel.aff2axcodes(image.affine))
    sizes = " x ".join(f"{size:.3g}" for size in image.header.get_zooms()[:3])
    found = values[None] if values.ndim == 3 else np.moveaxis(values, -1, 0)
    return found, (f"axes {axes}, voxels of {sizes}",)


def _four_bytes(number: int) -> tuple[bytes, bytes]:
    return number.to_bytes(4, "little"), number.to_bytes(4, "big")
