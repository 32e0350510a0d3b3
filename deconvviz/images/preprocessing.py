"""Preprocessing from RGB pixels to the input of a network, and back to colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from deconvviz.errors import ImageError, ManifestError, NetworkError
from deconvviz.images.reduced import Corners, Reduced

_LONGEST = 20  # images with a larger aspect ratio are cropped before they are resized
_MODES = ("center", "squash", "border", "own")
_INTERPOLATIONS = {  # by torchvision's and timm's names
    "nearest": Image.Resampling.NEAREST,
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}
MARGIN = 2
"""A JPEG that is decoded at a fraction of its size stays this many times as large as the resized image."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Size = int | tuple[int, int]  # (rows, columns); one number for a square


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop the centre, scale to [0, 1], subtract the mean, divide by the deviation.

    `crop_mode` is timm's setting for images of another shape than `resize`: ``center`` resizes the shorter
    side to fit and crops the rest, ``squash`` changes the aspect ratio, ``border`` resizes the longer side to
    fit and pads with the mean. ``own`` keeps the size of each image, for detectors, which resize images
    themselves; `crop` is then the size of an empty image. `mean` and `std` have one entry per channel: three
    for RGB, one for a network that reads grey images, any other number for inputs that are not images. Raises
    NetworkError.

    `array` is the shape (C, T) or (C, D, H, W) of an input that is not an image, as `of_array` makes it.
    """

    resize: Size
    crop: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    antialias: bool = True
    crop_mode: str = "center"
    array: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if min(*_pair(self.resize), *_pair(self.crop)) < 1:
            raise NetworkError(
                f"invalid sizes: resize {_by(self.resize)} and crop {_by(self.crop)}. Give at least 1 pixel"
            )
        if not self.mean or len(self.std) != len(self.mean):
            raise NetworkError(
                f"mean {self.mean} and std {self.std} do not match: give one of each for every channel "
                "(three for red, green and blue, one for grey)"
            )
        if not (np.isfinite([*self.mean, *self.std]).all() and min(self.std) > 0):
            raise NetworkError(
                f"invalid mean {self.mean} and std {self.std}: give finite numbers, with every std above 0"
            )
        if self.interpolation not in _INTERPOLATIONS:
            raise NetworkError(
                f"no interpolation {self.interpolation!r}: there are {', '.join(_INTERPOLATIONS)}"
            )
        if self.crop_mode not in _MODES:
            raise NetworkError(f"no crop_mode {self.crop_mode!r}: there are {', '.join(_MODES)}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of the input. Raises ImageError if it is a signal, a volume or a video."""
        self.check_reads_pictures("this network")
        if self.array:
            channels, rows, columns = self.array
            return channels, rows, columns
        return (len(self.mean), *_pair(self.crop))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the network's input, without the batch: (C, H, W), or that of an array."""
        return self.array or self.shape

    @property
    def reads_images(self) -> bool:
        """Whether the input is an image, and the number of channels is that of an image, 1 or 3."""
        return self.array is None and len(self.mean) in (1, 3)

    @property
    def reads_bands(self) -> bool:
        """Whether the input is a picture (C, H, W) with other channels than those of an image."""
        shape = self.input_shape
        return len(shape) == 3 and not self.reads_images and max(shape[1:]) > 1

    @classmethod
    def simple(cls, size: Size, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocessing:
        """Return the preprocessing that resizes to cover `size` and crops the centre."""
        return cls(size, size, tuple(map(float, mean)), tuple(map(float, std)))

    @classmethod
    def of_array(
        cls, shape: Sequence[int], mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> Preprocessing:
        """Return the preprocessing for arrays, such as signals (C, T) and volumes (C, D, H, W).

        Each channel is standardised with its mean and deviation, by default 0 and 1. Raises NetworkError.
        """
        numbers = tuple(shape)
        if len(numbers) not in (2, 3, 4) or not all(isinstance(n, int) and n > 0 for n in numbers):
            raise NetworkError(
                f"shape={numbers} is not the shape of an input: give (C, T) for signals, (C, H, W) for "
                "pictures of C bands, or (C, D, H, W) for volumes and video"
            )
        channels = numbers[0]
        centre = (0.0,) * channels if mean is None else tuple(map(float, mean))
        spread = (1.0,) * channels if std is None else tuple(map(float, std))
        if len(centre) != channels:
            raise NetworkError(f"shape={numbers} has {channels} channels, but mean has {len(centre)} numbers")
        return cls(1, 1, centre, spread, array=numbers)

    def apply_array(self, values: npt.NDArray[Any], name: str = "the array") -> Tensor:
        """Return the network's input as float32 for an array (C, ...) of any numeric type.

        The lengths may differ from those of `shape`. Raises ImageError if the array has other channels.
        """
        wanted = self.input_shape
        if values.ndim != len(wanted) or values.shape[0] != wanted[0] or 0 in values.shape:
            raise ImageError(f"{name} has shape {values.shape}: the network reads {wanted}, channels first")
        if values.dtype.kind not in "biuf":
            raise ImageError(f"{name} holds {values.dtype}: give real numbers")
        ones = [1] * (values.ndim - 1)
        mean, std = (torch.tensor(one, dtype=torch.float64).view(-1, *ones) for one in (self.mean, self.std))
        tensor = (torch.from_numpy(np.array(values, dtype=np.float64)) - mean) / std
        if not bool(tensor.isfinite().all()):
            raise ImageError(f"{name} holds NaN or infinity")
        return tensor.float()

    def apply(self, rgb: npt.NDArray[np.uint8], reduced: Reduced | None = None) -> Tensor:
        """Return the network's input (C, rows, columns) as float32 for RGB pixels (H, W, 3) as uint8.

        C is 1 for a network that reads grey. With `reduced`, the pixels are those of a JPEG that was decoded
        at a fraction of its size. Raises ImageError if the network's input is not an image, or if the pixels
        are reduced more than `reduction` allows.
        """
        image = self._read(rgb, reduced)
        cut = image if self.crop_mode == "own" else _center_cropped(image, *_pair(self.crop))
        pixels = torch.from_numpy(np.array(cut)).view(cut.height, cut.width, len(self.mean)).permute(2, 0, 1)
        mean, std = (torch.tensor(one, dtype=torch.float).view(-1, 1, 1) for one in (self.mean, self.std))
        return (pixels.float() / 255).sub_(mean).div_(std)

    def canvas(
        self, rgb: npt.NDArray[np.uint8], reduced: Reduced | None = None
    ) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
        """Return the image (H, W, C) as it is before `apply` crops it, and the crop's corner (top, left).

        Images shorter than the crop have a black border, as in `apply`. C is 1 for a network that reads grey.
        Raises ImageError if the network's input is not an image.
        """
        image = self._read(rgb, reduced)
        rows, columns = (image.height, image.width) if self.crop_mode == "own" else _pair(self.crop)
        whole = _padded(image, rows, columns, 0)
        pixels = np.array(whole).reshape(whole.height, whole.width, len(self.mean))
        return pixels, _corner(whole, rows, columns)

    def reduction(self, size: tuple[int, int]) -> int:
        """Return by how much an upright JPEG (width, height) may be reduced when decoded: 1, 2, 4 or 8.

        The reduced picture stays at least `MARGIN` times as large as the image that it is then resized to. It
        is 1 if images keep their sizes, or if single pixels are picked (``nearest``).
        """
        if self.array or not self.scales_down:
            return 1
        ratio = self._ratio(size)
        return next((by for by in (8, 4, 2) if ratio >= MARGIN * by), 1)

    @property
    def scales_down(self) -> bool:
        """Whether large images are scaled down such that every pixel counts."""
        return self.crop_mode != "own" and not self.interpolation.startswith("nearest")

    def _ratio(self, size: tuple[int, int]) -> float:
        """Return how many times as large an image (width, height) is as its resized image."""
        (width, height), (rows, columns) = size, _pair(self.resize)
        ratios = height / rows, width / columns
        return max(ratios) if self.crop_mode == "border" else min(ratios)

    def _read(self, rgb: npt.NDArray[np.uint8], reduced: Reduced | None) -> Image.Image:
        self.check_reads_images("this network")
        if reduced is not None and reduced.by > self.reduction(reduced.size):
            raise ImageError(
                f"this picture was decoded at 1/{reduced.by} of its size, too small for this network: open "
                "its file again"
            )
        image = Image.fromarray(np.ascontiguousarray(rgb))
        return self._resized(_Pixels(image.convert("L") if len(self.mean) == 1 else image, reduced))

    def check_reads_pictures(self, network: str) -> None:
        """Raise ImageError if the input is not (C, H, W), but a signal, a volume or a video."""
        if self.array and len(self.array) != 3:
            raise ImageError(
                f"{network} reads arrays of shape {self.array}, but this needs pictures (C, H, W). Use "
                "net.record(...), project, compare, verify, search and topnine"
            )

    def check_reads_images(self, network: str) -> None:
        """Raise ImageError if the input of the network is not an image."""
        self.check_reads_pictures(network)
        if not self.reads_images:
            raise ImageError(
                f"{network} reads {len(self.mean)} channels, but an image has 3 (or 1, grey): "
                f"give a .npy or .tif file with {len(self.mean)} bands, or a prepared tensor "
                f"(B, {len(self.mean)}, H, W) in Python"
            )

    def view(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        """Return the colours (..., H, W, 3) in [0, 1] of inputs (..., C, H, W) made by `apply`."""
        scale = torch.tensor(self.std, dtype=torch.float64).view(-1, 1, 1)
        offset = torch.tensor(self.mean, dtype=torch.float64).view(-1, 1, 1)
        if self.array:
            raise ImageError("arrays have no colours: use the numbers")
        colours = (tensor.detach().cpu().double() * scale + offset).clamp(0, 1).movedim(-3, -1)
        return colours.expand(*colours.shape[:-1], 3).float().numpy()  # (..., H, W, C) -> (..., H, W, 3)

    def array_of(self, tensor: Tensor) -> npt.NDArray[np.float64]:
        """Return an input (C, ...) as it was before `apply_array`."""
        plain = tensor.detach().cpu().double().numpy()
        ones = [1] * (plain.ndim - 1)
        mean, std = (np.asarray(one).reshape(-1, *ones) for one in (self.mean, self.std))
        found: npt.NDArray[np.float64] = plain * std + mean
        return found

    def to_json(self) -> dict[str, Any]:
        fields = {name: list(one) if isinstance(one, tuple) else one for name, one in asdict(self).items()}
        if self.array:
            return {name: fields[name] for name in ("array", "mean", "std")}
        return {name: one for name, one in fields.items() if name != "array"}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Preprocessing:
        """Return the preprocessing that `to_json` wrote. Raises ManifestError for anything else."""
        try:
            fields: dict[str, Any] = {
                name: tuple(one) if isinstance(one, list) else one for name, one in stored.items()
            }
            if "array" in fields:
                return cls.of_array(fields.pop("array"), **fields)
            for name in ("resize", "crop"):
                numbers = fields[name] if isinstance(fields[name], tuple) else (fields[name],)
                if len(numbers) > 2 or not all(isinstance(number, int) for number in numbers):
                    raise TypeError("resize and crop must be integers or pairs of integers")
            if not (isinstance(fields["mean"], tuple) and isinstance(fields["std"], tuple)):
                raise TypeError("mean and std must be lists")
            return cls(**fields)
        except (KeyError, TypeError, ValueError, NetworkError) as error:
            raise ManifestError(f"invalid preprocessing {dict(stored)!r}: {error}") from error

    def _resized(self, image: _Pixels) -> Image.Image:
        """Resize with Pillow like torchvision and timm, with equal pixels."""
        if self.crop_mode == "own":
            return image.pixels
        mode = _INTERPOLATIONS[self.interpolation]
        if self.crop_mode == "squash":
            return image.resized(*_pair(self.resize), mode)
        if self.crop_mode == "border":
            return self._bordered(image, mode)
        if not isinstance(self.resize, int) and self.resize[0] != self.resize[1]:
            return self._covering(image, mode)
        return self._shorter_side(image, _pair(self.resize)[0], mode)

    def _shorter_side(self, image: _Pixels, side: int, mode: Image.Resampling) -> Image.Image:
        """Resize the shorter side to `side`. A very long image is cropped first, to the part that is kept."""
        rows, columns = _pair(self.crop)
        width, height = image.size
        if max(width, height) <= _LONGEST * min(width, height) or max(rows, columns) > side:
            other = int(side * max(width, height) / min(width, height))
            return image.resized(*((other, side) if width <= height else (side, other)), mode)
        # without this, an image of 1 x 60 000 pixels would be resized to 256 x 15 million
        long, kept = side * max(width, height) // min(width, height), columns if width > height else rows
        first = round((long - kept) / 2) * max(width, height) / long
        last = first + kept * max(width, height) / long
        if width > height:
            return image.resized(side, columns, mode, (first, 0, last, height))
        return image.resized(rows, side, mode, (0, first, width, last))

    def _covering(self, image: _Pixels, mode: Image.Resampling) -> Image.Image:
        """Resize to the smallest size that covers `resize`."""
        rows, columns = _pair(self.resize)
        width, height = image.size
        ratio = min(height / rows, width / columns)
        size = round(height / ratio), round(width / ratio)
        if max(size) <= _LONGEST * max(rows, columns):
            return image.resized(*size, mode)
        # as in `_shorter_side`, a very long image is cropped first, with a margin
        kept_rows, kept_columns = min(size[0], 2 * rows), min(size[1], 2 * columns)
        left, top = (width - kept_columns * ratio) / 2, (height - kept_rows * ratio) / 2
        box = left, top, width - left, height - top
        return image.resized(kept_rows, kept_columns, mode, box)

    def _bordered(self, image: _Pixels, mode: Image.Resampling) -> Image.Image:
        """Resize to the largest size inside `resize`, and pad with the mean to the size of the crop."""
        rows, columns = _pair(self.resize)
        width, height = image.size
        ratio = max(height / rows, width / columns)
        resized = image.resized(max(1, round(height / ratio)), max(1, round(width / ratio)), mode)
        fill = tuple(round(255 * value) for value in self.mean)
        return _padded(resized, *_pair(self.crop), fill if len(fill) > 1 else fill[0])


@dataclass(frozen=True)
class _Pixels:
    """Pixels that are resized as the whole image is, even if they were decoded at a fraction of its size."""

    pixels: Image.Image
    reduced: Reduced | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole image."""
        return self.pixels.size if self.reduced is None else self.reduced.size

    def resized(
        self, rows: int, columns: int, mode: Image.Resampling, box: Corners | None = None
    ) -> Image.Image:
        """Resize a box of the whole image, by default all of it."""
        if self.reduced is not None:
            box = self.reduced.within(box or (0, 0, *self.size))
        elif box is None and self.pixels.size == (columns, rows):
            return self.pixels
        return self.pixels.resize((columns, rows), mode, box=box)


def _padded(image: Image.Image, rows: int, columns: int, fill: int | tuple[int, ...]) -> Image.Image:
    """Pad an image on all sides to at least `rows` and `columns`."""
    high, wide = max(0, rows - image.height), max(0, columns - image.width)
    border = wide // 2, high // 2, (wide + 1) // 2, (high + 1) // 2  # left, top, right, bottom
    return ImageOps.expand(image, border, fill) if high or wide else image


def _center_cropped(image: Image.Image, rows: int, columns: int) -> Image.Image:
    """Crop the centre of an image; a smaller image is padded with black."""
    image = _padded(image, rows, columns, 0)
    top, left = _corner(image, rows, columns)
    return image.crop((left, top, left + columns, top + rows))


def _corner(image: Image.Image, rows: int, columns: int) -> tuple[int, int]:
    return round((image.height - rows) / 2), round((image.width - columns) / 2)


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _by(size: Size) -> str:
    return str(size) if isinstance(size, int) else f"{size[0]} x {size[1]}"
