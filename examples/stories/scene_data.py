"""Drawn scenes as arrays, for the examples that train networks on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from deconvviz.models.minivgg import MEAN, STD
from deconvviz.scenes import CLASSES, scene

BIRD = "bird"
_OTHERS = tuple(name for name in CLASSES if name != BIRD)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of one size with the mask of the object that a network learns to find."""

    names: tuple[str, ...]
    images: np.ndarray  # uint8 (N, H, W, 3)
    masks: np.ndarray  # bool (N, H, W)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def positive(self) -> np.ndarray:
        """Which pictures show the object at all, bool (N,)."""
        return self.masks.any((1, 2))

    def some(self, chosen: np.ndarray | slice) -> Pictures:
        """Return some of the pictures, by a slice, by numbers or by a bool array."""
        names = tuple(np.asarray(self.names)[chosen].tolist())
        return Pictures(names, self.images[chosen], self.masks[chosen])


@lru_cache(maxsize=4)
def bird_scenes(first_seed: int, count: int, size: int) -> Pictures:
    """Return scenes of consecutive seeds: those with an even seed show a bird, the others do not.

    The mask is the union of all visible parts of the bird. The other scenes show an object of another class,
    which the seed determines. The result is kept in memory.
    """
    images = np.empty((count, size, size, 3), np.uint8)
    masks = np.zeros((count, size, size), np.bool_)
    for i, seed in enumerate(range(first_seed, first_seed + count)):
        shows_bird = seed % 2 == 0
        drawn = scene(seed, BIRD if shows_bird else _OTHERS[seed // 2 % len(_OTHERS)], size)
        images[i] = drawn.image
        if shows_bird:
            masks[i] = drawn.object_mask
    names = tuple(f"scene-{seed:09d}" for seed in range(first_seed, first_seed + count))
    return Pictures(names, images, masks)


@lru_cache(maxsize=4)
def scene_images(first_seed: int, count: int, size: int) -> np.ndarray:
    """Return scenes of consecutive seeds, uint8 (N, H, W, 3). The result is kept in memory."""
    return np.stack([scene(seed, size=size).image for seed in range(first_seed, first_seed + count)])


def pixels(images: np.ndarray) -> Tensor:
    """Return uint8 images (N, H, W, 3) as pixel values from 0 to 1, (N, 3, H, W)."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)


def normalised(images: np.ndarray) -> Tensor:
    """Return uint8 images (N, H, W, 3) as input of minivgg, (N, 3, H, W)."""
    return pixels(images).sub_(MEAN[0]).div_(STD[0])
