"""One picture of `maximise`, the settings of a run, and activations in natural images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class MaximisationSettings:
    """Settings of one run of `maximise`.

    Attributes:
        objective: ``mean`` of the channel, ``centre`` unit, or ``unit``: units that were named, or units
            without position.
        parametrisation: ``fourier``, ``pixels`` or ``norm``.
        steps: Number of steps for each picture.
        lr: Learning rate of the first step.
        jitter: Largest shift in pixels.
        scale: Largest change of the size, as a share.
        rotate: Largest angle in degrees.
        contrast: Root mean square of the distance from mid-grey, for ``norm``; None otherwise.
        seed: Seed of the first picture.
        pictures: Number of pictures of each channel or unit.
    """

    objective: str
    parametrisation: str
    steps: int
    lr: float
    jitter: int
    scale: float
    rotate: float
    contrast: float | None
    seed: int
    pictures: int


@dataclass(frozen=True)
class Natural:
    """The strongest activation of a channel in the images of a search."""

    activation: float
    image: str


@dataclass(frozen=True, eq=False)
class MadeUp:
    """A picture that activates a channel or a unit strongly.

    Attributes:
        channel: Number of the channel.
        y: Row of the unit; None for a whole channel, and for a unit without position.
        x: Column of the unit; None likewise.
        seed: Seed of the picture.
        picture: Colours (H, W, 3). With ``norm``, they may be outside 0 to 1; figures clip them.
        objective: The mean of the channel, or the activation of the unit, for this picture.
        activation: The strongest activation of the channel at any position, for this picture.
        curve: (steps + 1,) the objective before each step and after the last one, of the moved picture.
    """

    channel: int
    y: int | None
    x: int | None
    seed: int
    picture: np.ndarray[Any, Any]
    objective: float
    activation: float
    curve: np.ndarray[Any, Any]

    @property
    def shown(self) -> np.ndarray[Any, Any]:
        """The picture as figures show it: (H, W, 3), colours clipped to 0 to 1."""
        return self.picture.clip(0, 1)

    @property
    def rose(self) -> bool:
        """Whether the objective is higher after the last step than at the start."""
        return bool(self.objective > self.curve[0])
