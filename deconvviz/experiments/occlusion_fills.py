"""What hides a part of an image: grey, the mean colour, blur, imputed pixels, or a redrawn scene."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deconvviz.errors import ImageError, MethodError
from deconvviz.experiments.inpainting import NOISE, imputed
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.methods.blur import blurred
from deconvviz.scenes import Scene

GREY = 0.5
"""The grey of the square, where white is 1 (ours; the paper says grey)."""

FILLS = ("grey", "mean", "blur", "linear", "without")

Mask: TypeAlias = npt.NDArray[np.bool_]
Corner: TypeAlias = tuple[int, int]


def check_fill(name: str) -> None:
    """Raise MethodError if there is no fill of this name."""
    if name not in FILLS:
        raise MethodError(f"no fill {name!r}: there are {', '.join(FILLS)}")


class Fill(ABC):
    """Makes copies of one prepared image with hidden pixels."""

    def __init__(self, image: Tensor) -> None:
        self.image = image  # (C, H, W)

    @abstractmethod
    def hide(self, mask: Mask) -> Tensor:
        """Return a copy of the image (C, H, W) with the pixels of a mask (H, W) hidden."""

    def hide_squares(self, corners: Sequence[Corner], side: int) -> Tensor:
        """Return copies (N, C, H, W), each with the square at one corner (y, x) hidden."""
        height, width = self.image.shape[-2:]
        copies = []
        for y, x in corners:
            mask = np.zeros((height, width), np.bool_)
            mask[y : y + side, x : x + side] = True
            copies.append(self.hide(mask))
        return torch.stack(copies)


class _Pasted(Fill):
    """Hides pixels by those of another image (C, H, W)."""

    def __init__(self, image: Tensor, other: Tensor) -> None:
        super().__init__(image)
        self.other = other

    def hide(self, mask: Mask) -> Tensor:
        return torch.where(torch.from_numpy(mask).to(self.image.device), self.other, self.image)

    def hide_squares(self, corners: Sequence[Corner], side: int) -> Tensor:
        copies = self.image.repeat(len(corners), 1, 1, 1)
        for copy, (y, x) in zip(copies, corners, strict=True):
            copy[:, y : y + side, x : x + side] = self.other[:, y : y + side, x : x + side]
        return copies


class _Imputed(Fill):
    """Hides pixels by noisy linear imputation. The noise of a pixel is the same in all copies."""

    def __init__(self, image: Tensor, preprocessing: Preprocessing, seed: int) -> None:
        super().__init__(image)
        self._exact = image.detach().cpu().double().numpy()
        deviations = NOISE / np.array(preprocessing.std)[:, None, None]
        self._noise = np.random.default_rng(seed).standard_normal(self._exact.shape) * deviations

    def hide(self, mask: Mask) -> Tensor:
        found = imputed(self._exact, mask)
        found[:, mask] += self._noise[:, mask]
        return torch.from_numpy(found).to(self.image.device, self.image.dtype)


class _Without(Fill):
    """Draws a scene without the part at the centre of the square. Elsewhere, the scene is unchanged."""

    def __init__(self, image: Tensor, preprocessing: Preprocessing, scene: Scene) -> None:
        super().__init__(image)
        self._preprocessing, self._scene = preprocessing, scene
        self._masks = {part: scaled_mask(mask, preprocessing) for part, mask in scene.parts.items()}
        self._drawn: dict[str, Tensor] = {}

    def hide(self, mask: Mask) -> Tensor:
        """Return the scene without the part that the mask covers best."""
        shares = {part: (own & mask).sum() / max((own | mask).sum(), 1) for part, own in self._masks.items()}
        best = max(shares, key=lambda part: shares[part], default=None)
        return self.image if best is None or not shares[best] else self._without(best)

    def hide_squares(self, corners: Sequence[Corner], side: int) -> Tensor:
        height, width = self.image.shape[-2:]
        copies = []
        for y, x in corners:
            place = min(y + side // 2, height - 1), min(x + side // 2, width - 1)
            part = next((part for part, mask in self._masks.items() if mask[place]), None)
            copies.append(self.image if part is None else self._without(part))
        return torch.stack(copies)

    def _without(self, part: str) -> Tensor:
        if part not in self._drawn:
            pixels = self._preprocessing.apply(self._scene.redrawn(without=part).image)
            self._drawn[part] = pixels.to(self.image.device, self.image.dtype)
        return self._drawn[part]


def scaled_mask(mask: Mask, preprocessing: Preprocessing) -> Mask:
    """Return a mask of a scene in the network's input: the pixels of which the part covers at least half."""
    shown = preprocessing.apply(np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2))
    covered: Mask = preprocessing.view(shown)[..., 0] >= 0.5
    return covered


def fill_of(
    name: str, image: Tensor, preprocessing: Preprocessing, *, scene: Scene | None = None, seed: int = 0
) -> Fill:
    """Return a fill for one prepared image (C, H, W).

    - ``grey``: half of white, as in the paper.
    - ``mean``: the mean colour of the preprocessing, which is 0 in the network's input.
    - ``blur``: the image, blurred with a Gaussian (`deconvviz.methods.blur`).
    - ``linear``: noisy linear imputation from the surrounding pixels.
    - ``without``: the scene drawn without the part at this place; for generated scenes only.

    Raises:
        MethodError: If there is no fill of this name.
        ImageError: If the image is not a scene and the fill is ``without``.
    """
    check_fill(name)
    if name == "linear":
        return _Imputed(image, preprocessing, seed)
    if name == "without":
        if scene is None:
            raise ImageError("the fill 'without' draws a scene again without a part, and this is not a scene")
        return _Without(image, preprocessing, scene)
    if name == "blur":
        return _Pasted(image, blurred(image[None])[0])
    mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
    std = torch.tensor(preprocessing.std, dtype=torch.float64)
    colour = (GREY - mean) / std if name == "grey" else torch.zeros_like(mean)
    return _Pasted(image, colour.to(image.device, image.dtype).view(-1, 1, 1).expand_as(image))
