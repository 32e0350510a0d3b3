"""From a picture to what a network reads, and back to true colours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from deconvviz.errors import ManifestError, NetworkError
from deconvviz.nets import minivgg
from deconvviz.nets.builders import default_entry
from deconvviz.nets.catalog import SHIPPED

_LONGEST = 20  # a picture longer than so many times its width is cut before it is resized


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side, crop the centre, scale to [0, 1], subtract the mean, divide by the deviation.

    One mean and one deviation make a network that reads grey pictures. Raises NetworkError.
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        known = [mode.value for mode in InterpolationMode]
        if self.resize < 1 or self.crop < 1:
            raise NetworkError(
                f"a picture cannot be made {self.resize} and cut to {self.crop} pixels: at least 1"
            )
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            raise NetworkError(
                f"mean {self.mean} and std {self.std}: give three of each (red, green, blue), or one (grey)"
            )
        if not (np.isfinite([*self.mean, *self.std]).all() and min(self.std) > 0):
            raise NetworkError(f"mean {self.mean} and std {self.std}: finite numbers, std above 0")
        if self.interpolation not in known:
            raise NetworkError(f"no interpolation {self.interpolation!r}: there are {', '.join(known)}")

    @classmethod
    def simple(cls, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocessing:
        """The shorter side to `size`, then the centre `size` x `size`."""
        return cls(size, size, tuple(map(float, mean)), tuple(map(float, std)))

    @classmethod
    def from_weights(cls, entry: Any) -> Preprocessing:
        """What an entry of torchvision's weights was evaluated with, as its own `transforms()` say."""
        preset = entry.transforms()
        return cls(
            resize=int(preset.resize_size[0]),
            crop=int(preset.crop_size[0]),
            mean=tuple(map(float, preset.mean)),
            std=tuple(map(float, preset.std)),
            interpolation=preset.interpolation.value,
            antialias=bool(preset.antialias),
        )

    @classmethod
    def of_network(cls, name: str) -> Preprocessing:
        """What the default weights of a named network expect; known without having them."""
        if name == SHIPPED:
            return cls.simple(minivgg.SIZE, minivgg.MEAN, minivgg.STD)
        return cls.from_weights(default_entry(name))

    def apply(self, rgb: npt.NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) uint8 -> (3, crop, crop) float32; (1, crop, crop) for a network that reads grey."""
        image = Image.fromarray(np.ascontiguousarray(rgb))
        if len(self.mean) == 1:
            image = image.convert("L")
        image = self._resized(image)
        pixels = F.convert_image_dtype(
            F.pil_to_tensor(F.center_crop(image, [self.crop, self.crop])), torch.float
        )
        normalised: Tensor = F.normalize(pixels, list(self.mean), list(self.std))
        return normalised

    def view(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        """(..., C, H, W) as `apply` makes it -> (..., H, W, 3) in [0, 1], to be looked at."""
        scale = torch.tensor(self.std, dtype=torch.float64).view(-1, 1, 1)
        offset = torch.tensor(self.mean, dtype=torch.float64).view(-1, 1, 1)
        seen = (tensor.detach().cpu().double() * scale + offset).clamp(0, 1).movedim(-3, -1)
        return seen.expand(*seen.shape[:-1], 3).float().numpy()  # (..., H, W, C) -> (..., H, W, 3)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Preprocessing:
        """Raises ManifestError for anything that `to_json` does not write."""
        try:
            if not (isinstance(stored["resize"], int) and isinstance(stored["crop"], int)):
                raise TypeError("resize and crop are whole numbers")
            fields = {**stored, "mean": tuple(stored["mean"]), "std": tuple(stored["std"])}
            return cls(**fields)
        except (KeyError, TypeError, NetworkError) as error:
            raise ManifestError(f"no preprocessing in {dict(stored)!r}: {error}") from error

    def _resized(self, image: Image.Image) -> Image.Image:
        """As torchvision resizes, bit for bit; but of a very long picture only what the crop will keep."""
        mode = InterpolationMode(self.interpolation)
        width, height = image.size
        if max(width, height) <= _LONGEST * min(width, height) or self.crop > self.resize:
            resized: Image.Image = F.resize(image, [self.resize], mode, antialias=self.antialias)
            return resized
        # a strip 1 pixel wide and 60 000 tall would become 256 x 15 million pixels first
        long = self.resize * max(width, height) // min(width, height)
        first = round((long - self.crop) / 2) * max(width, height) / long
        last = first + self.crop * max(width, height) / long
        if width > height:
            return image.resize((self.crop, self.resize), _PILLOW[mode], box=(first, 0, last, height))
        return image.resize((self.resize, self.crop), _PILLOW[mode], box=(0, first, width, last))


_PILLOW = {
    InterpolationMode.NEAREST: Image.Resampling.NEAREST,
    InterpolationMode.NEAREST_EXACT: Image.Resampling.NEAREST,
    InterpolationMode.BILINEAR: Image.Resampling.BILINEAR,
    InterpolationMode.BICUBIC: Image.Resampling.BICUBIC,
    InterpolationMode.BOX: Image.Resampling.BOX,
    InterpolationMode.HAMMING: Image.Resampling.HAMMING,
    InterpolationMode.LANCZOS: Image.Resampling.LANCZOS,
}
