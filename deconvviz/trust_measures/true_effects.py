"""True effects of the parts of a scene, which is redrawn without each part, or with it in another colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deconvviz.images.preprocessing import Preprocessing
from deconvviz.trust_measures.forward import activations
from deconvviz.trust_measures.place import Place
from deconvviz.trust_measures.statistics import Array

LEAST_PIXELS = 6  # of a part inside the receptive field
LEAST_PARTS = 3
MOVED = 0.05  # a unit depends on a part if its activation changes by this share


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects of the parts inside the receptive field of one place.

    Attributes:
        names: Names of the P parts.
        masks: (P, h, w) bool, in the receptive field.
        removed: (P, K), fall of each unit's activation without the part, relative to the activation.
        recoloured: (P, K), the same with the part in another colour.
        blurred: (P, K), the same with the part blurred.
    """

    names: tuple[str, ...]
    masks: Array
    removed: Array
    recoloured: Array
    blurred: Array

    @property
    def areas(self) -> Array:
        """Number of pixels of each part (P,)."""
        found: Array = self.masks.sum(axis=(1, 2)).astype(np.float64)
        return found

    @property
    def moved(self) -> Array:
        """Which units some part moves by 5 % or more, (K,) bool."""
        found: Array = np.any(np.abs(self.removed) >= MOVED, axis=0)
        return found

    def sums(self, pixels: Array) -> Array:
        """Return the sum of pixel values (K, h, w) over each part, (P, K)."""
        found: Array = np.einsum("phw,khw->pk", self.masks.astype(np.float64), pixels)
        return found


def effects_at(place: Place) -> Effects | None:
    """Return the effects at a place, computed once; None without a scene or with fewer than three parts."""
    if "effects" not in place.shared:
        place.shared["effects"] = None if place.picture.scene is None else _effects(place)
    found: Effects | None = place.shared["effects"]
    return found


def _effects(place: Place) -> Effects | None:
    assert place.picture.scene is not None
    drawn, preprocessing = place.picture.scene(), place.network.preprocessing
    masks = {name: place.cut(prepared_mask(mask, preprocessing)) for name, mask in drawn.parts.items()}
    names = [name for name, mask in masks.items() if mask.sum() >= LEAST_PIXELS]
    if len(names) < LEAST_PARTS:
        return None
    removed = [preprocessing.apply(drawn.redrawn(without=name).image) for name in names]
    recoloured = [preprocessing.apply(drawn.redrawn(recolour=name).image) for name in names]
    whole = [prepared_mask(drawn.parts[name], preprocessing) for name in names]
    return Effects(
        tuple(names),
        np.stack([masks[name] for name in names]),
        *(_falls(place, changed) for changed in (removed, recoloured, _blurred(place, whole))),
    )


def _blurred(place: Place, masks: Sequence[Array]) -> list[Tensor]:
    """Return the image with each part replaced by the blurred image, with soft edges."""
    from scipy.ndimage import gaussian_filter

    soft = [torch.from_numpy(gaussian_filter(mask.astype(np.float32), 1)) for mask in masks]
    return [place.inputs[0] * (1 - mask) + place.blurred[0] * mask for mask in soft]


def _falls(place: Place, changed: Sequence[Tensor]) -> Array:
    """Return the relative fall of each unit's activation in changed images, (P, K)."""
    inputs = torch.stack(list(changed)).to(place.inputs.dtype)
    found = place.of_units(activations(place.network, place.layer, inputs))
    falls: Array = 1 - found / place.activations
    return falls


def prepared_mask(mask: Array, preprocessing: Preprocessing) -> Array:
    """Return a mask of a scene (S, S) in the network's input (H, W), resized and cropped like the scene."""
    shown = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    found: Array = np.greater(preprocessing.view(preprocessing.apply(shown))[..., 0], 0.5)
    return found
