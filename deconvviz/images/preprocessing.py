"""From a picture to what a network reads, and back to true colours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from deconvviz.errors import ImageError, ManifestError, NetworkError

_LONGEST = 20  # a picture longer than so many times its width is cut before it is resized
_MODES = ("center", "squash", "border")
_INTERPOLATIONS = {  # by torchvision's and timm's names
    "nearest": Image.Resampling.NEAREST,
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Size = int | tuple[int, int]  # (rows, columns); one number for a square


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop the centre, scale to [0, 1], subtract the mean, divide by the deviation.

    `crop_mode` is timm's word for what becomes of a picture of another shape than `resize`: ``center`` covers
    it (the shorter side is made to fit, the rest falls to the crop), ``squash`` stretches the picture,
    ``border`` makes the longer side fit and fills up with the mean. One mean and one deviation make a network
    that reads grey pictures; of any number but 1 and 3, one whose input is no picture. Raises NetworkError.
    """

    resize: Size
    crop: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    antialias: bool = True
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        if min(*_pair(self.resize), *_pair(self.crop)) < 1:
            raise NetworkError(
                f"a picture cannot be made {_by(self.resize)} and cut to {_by(self.crop)} pixels: at least 1"
            )
        if not self.mean or len(self.std) != len(self.mean):
            raise NetworkError(
                f"mean {self.mean} and std {self.std}: give one of each for every channel "
                "(three for red, green and blue, one for grey)"
            )
        if not (np.isfinite([*self.mean, *self.std]).all() and min(self.std) > 0):
            raise NetworkError(f"mean {self.mean} and std {self.std}: finite numbers, std above 0")
        if self.interpolation not in _INTERPOLATIONS:
            raise NetworkError(
                f"no interpolation {self.interpolation!r}: there are {', '.join(_INTERPOLATIONS)}"
            )
        if self.crop_mode not in _MODES:
            raise NetworkError(f"no crop_mode {self.crop_mode!r}: there are {', '.join(_MODES)}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what `apply` makes."""
        return (len(self.mean), *_pair(self.crop))

    @property
    def reads_images(self) -> bool:
        """Whether there are as many channels as a picture has, 1 or 3."""
        return len(self.mean) in (1, 3)

    @classmethod
    def simple(cls, size: Size, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocessing:
        """Cover `size`, then cut its centre out."""
        return cls(size, size, tuple(map(float, mean)), tuple(map(float, std)))

    def apply(self, rgb: npt.NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) uint8 -> (3, rows, columns) float32; (1, ...) for a network that reads grey.

        Raises ImageError where the input is no picture.
        """
        self.check_reads_images("this network")
        image = Image.fromarray(np.ascontiguousarray(rgb))
        if len(self.mean) == 1:
            image = image.convert("L")
        cut = _center_cropped(self._resized(image), *_pair(self.crop))
        pixels = torch.from_numpy(np.array(cut)).view(cut.height, cut.width, len(self.mean)).permute(2, 0, 1)
        mean, std = (torch.tensor(one, dtype=torch.float).view(-1, 1, 1) for one in (self.mean, self.std))
        return (pixels.float() / 255).sub_(mean).div_(std)

    def check_reads_images(self, network: str) -> None:
        """Raise ImageError where the input is no picture."""
        if not self.reads_images:
            raise ImageError(
                f"{network} reads {len(self.mean)} channels, and a picture has 3 (or 1, grey): "
                f"give a prepared tensor (B, {len(self.mean)}, H, W), in Python"
            )

    def view(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        """(..., C, H, W) as `apply` makes it -> (..., H, W, 3) in [0, 1], to be looked at."""
        scale = torch.tensor(self.std, dtype=torch.float64).view(-1, 1, 1)
        offset = torch.tensor(self.mean, dtype=torch.float64).view(-1, 1, 1)
        seen = (tensor.detach().cpu().double() * scale + offset).clamp(0, 1).movedim(-3, -1)
        return seen.expand(*seen.shape[:-1], 3).float().numpy()  # (..., H, W, C) -> (..., H, W, 3)

    def to_json(self) -> dict[str, Any]:
        return {name: list(one) if isinstance(one, tuple) else one for name, one in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Preprocessing:
        """Raises ManifestError for anything that `to_json` does not write."""
        try:
            fields: dict[str, Any] = {
                name: tuple(one) if isinstance(one, list) else one for name, one in stored.items()
            }
            for name in ("resize", "crop"):
                numbers = fields[name] if isinstance(fields[name], tuple) else (fields[name],)
                if len(numbers) > 2 or not all(isinstance(number, int) for number in numbers):
                    raise TypeError("resize and crop are whole numbers, or pairs of them")
            if not (isinstance(fields["mean"], tuple) and isinstance(fields["std"], tuple)):
                raise TypeError("mean and std are lists")
            return cls(**fields)
        except (KeyError, TypeError, ValueError, NetworkError) as error:
            raise ManifestError(f"no preprocessing in {dict(stored)!r}: {error}") from error

    def _resized(self, image: Image.Image) -> Image.Image:
        """Resize with Pillow, as torchvision and timm do it: the pixels are equal to theirs."""
        mode = _INTERPOLATIONS[self.interpolation]
        if self.crop_mode == "squash":
            return _to_size(image, *_pair(self.resize), mode)
        if self.crop_mode == "border":
            return self._bordered(image, mode)
        if not isinstance(self.resize, int) and self.resize[0] != self.resize[1]:
            return self._covering(image, mode)
        return self._shorter_side(image, _pair(self.resize)[0], mode)

    def _shorter_side(self, image: Image.Image, side: int, mode: Image.Resampling) -> Image.Image:
        """The shorter side made `side` long; but of a very long picture only what the crop will keep."""
        rows, columns = _pair(self.crop)
        width, height = image.size
        if max(width, height) <= _LONGEST * min(width, height) or max(rows, columns) > side:
            other = int(side * max(width, height) / min(width, height))
            return _to_size(image, *((other, side) if width <= height else (side, other)), mode)
        # a strip 1 pixel wide and 60 000 tall would become 256 x 15 million pixels first
        long, kept = side * max(width, height) // min(width, height), columns if width > height else rows
        first = round((long - kept) / 2) * max(width, height) / long
        last = first + kept * max(width, height) / long
        if width > height:
            return image.resize((columns, side), mode, box=(first, 0, last, height))
        return image.resize((side, rows), mode, box=(0, first, width, last))

    def _covering(self, image: Image.Image, mode: Image.Resampling) -> Image.Image:
        """No smaller than `resize` in rows and columns, one of them equal to it."""
        rows, columns = _pair(self.resize)
        width, height = image.size
        ratio = min(height / rows, width / columns)
        size = round(height / ratio), round(width / ratio)
        if max(size) <= _LONGEST * max(rows, columns):
            return _to_size(image, *size, mode)
        # as in `_shorter_side`: of a very long picture what the crop will keep, and a margin
        kept_rows, kept_columns = min(size[0], 2 * rows), min(size[1], 2 * columns)
        left, top = (width - kept_columns * ratio) / 2, (height - kept_rows * ratio) / 2
        box = left, top, width - left, height - top
        return image.resize((kept_columns, kept_rows), mode, box=box)

    def _bordered(self, image: Image.Image, mode: Image.Resampling) -> Image.Image:
        """No larger than `resize`, and filled up with the mean to the size of the crop."""
        rows, columns = _pair(self.resize)
        width, height = image.size
        ratio = max(height / rows, width / columns)
        image = _to_size(image, max(1, round(height / ratio)), max(1, round(width / ratio)), mode)
        fill = tuple(round(255 * value) for value in self.mean)
        return _padded(image, *_pair(self.crop), fill if len(fill) > 1 else fill[0])


def _to_size(image: Image.Image, rows: int, columns: int, mode: Image.Resampling) -> Image.Image:
    return image if image.size == (columns, rows) else image.resize((columns, rows), mode)


def _padded(image: Image.Image, rows: int, columns: int, fill: int | tuple[int, ...]) -> Image.Image:
    """The picture in the middle of one that has `rows` and `columns` at least."""
    high, wide = max(0, rows - image.height), max(0, columns - image.width)
    border = wide // 2, high // 2, (wide + 1) // 2, (high + 1) // 2  # left, top, right, bottom
    return ImageOps.expand(image, border, fill) if high or wide else image


def _center_cropped(image: Image.Image, rows: int, columns: int) -> Image.Image:
    """Cut the centre out of a picture; a smaller one is filled up with black."""
    image = _padded(image, rows, columns, 0)
    top, left = round((image.height - rows) / 2), round((image.width - columns) / 2)
    return image.crop((left, top, left + columns, top + rows))


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _by(size: Size) -> str:
    return str(size) if isinstance(size, int) else f"{size[0]} x {size[1]}"
