"""Result of `invert`: the inverse, its distances from the image, the curve, figure and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from deconvviz.experiments.experiment_result import ExperimentResult, ResultFiles
from deconvviz.experiments.inversion.inversion_figure import InversionStyle, figure_of
from deconvviz.experiments.inversion.measures import PictureMeasures
from deconvviz.experiments.inversion.names import PRIOR_TEXT, inversion_file
from deconvviz.figures.spec.panels import Panels
from deconvviz.files import place_of
from deconvviz.images.image import InputImage
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.printable_names import printable
from deconvviz.projection import Projection, pixel_digest
from deconvviz.provenance import versions

if TYPE_CHECKING:
    pass

FORMAT = "deconvviz inversion 1"
COLUMNS = ("loss", "distance", "prior", "range")
CLIPPED = 1.5
"""A warning is given if clipping the colours multiplies the relative error by more than this (ours)."""


@dataclass(frozen=True)
class InversionSettings:
    """Settings of one run of `invert`.

    Attributes:
        prior: ``tv``, ``sparse`` or ``none``.
        prior_weight: Weight of the prior.
        exponent: Exponent of the total variation; None for other priors.
        range_weight: Weight of the penalty for colours outside 0 to 1.
        steps: Number of steps.
        lr: Learning rate of the first step.
        jitter: Largest shift in pixels.
        seed: Seed of the noise.
    """

    prior: str
    prior_weight: float
    exponent: float | None
    range_weight: float
    steps: int
    lr: float
    jitter: int
    seed: int


@dataclass(frozen=True, eq=False, repr=False)
class Inversion(ExperimentResult[InversionStyle, Panels]):
    """A picture whose features at a layer are those of an image. Jupyter shows it as a figure.

    Settings of the figure: ``percentile``.

    Attributes:
        network: Facts about the network.
        layer: The layer that was inverted.
        name: Name of the image.
        image: The image; None if a prepared tensor was given.
        original: The image as the network gets it, (H, W, 3), colours from 0 to 1.
        picture: The inverse, (H, W, 3). Colours may be outside 0 to 1; figures clip them.
        curve: ``loss``, ``distance``, ``prior`` and ``range``, each (steps + 1,): before each step, and after
            the last one. The last two are multiplied by their weights.
        relative_error: Euclidean distance of the inverse's features from those of the image, over the length
            of the latter. 0 is an exact inverse; a grey picture is near 1.
        shown_error: The same after the colours are clipped to 0 to 1, as figures show them.
        measures: Likeness of the clipped inverse to the image.
        settings: Settings of the run.
        projection: Projections of the strongest units of the layer; None if there are none.
        refused: Why there are no projections; empty if none were requested.
    """

    default_style = InversionStyle

    network: NetworkInfo
    layer: Layer
    name: str
    image: InputImage | None
    original: np.ndarray[Any, Any]
    picture: np.ndarray[Any, Any]
    curve: Mapping[str, np.ndarray[Any, Any]]
    relative_error: float
    shown_error: float
    measures: PictureMeasures
    settings: InversionSettings
    projection: Projection | None = None
    refused: str = ""

    def __repr__(self) -> str:
        return (
            f"<Inversion of {printable(self.name)} at {self.layer.name} in {self.network.name}: "
            f"{PRIOR_TEXT[self.settings.prior]}, relative error {self.relative_error:.3g}, "
            f"PSNR {self.measures.psnr:.1f} dB>"
        )

    @property
    def shown(self) -> np.ndarray[Any, Any]:
        """The inverse as figures show it: (H, W, 3), colours clipped to 0 to 1."""
        return self.picture.clip(0, 1)

    @property
    def table(self) -> pa.Table:
        """Arrow table with one row for each step: step, loss, distance, prior, range."""
        steps = pa.array(range(self.settings.steps + 1), pa.int32())
        return pa.table({"step": steps} | {name: pa.array(self.curve[name]) for name in COLUMNS})

    def warnings(self) -> list[str]:
        """Return sentences on what makes this inverse doubtful."""
        found = []
        if self.curve["distance"][-1] >= self.curve["distance"][0]:
            found.append(
                "the features are not nearer to those of the image than at the start. Use more steps, "
                "another learning rate, or a smaller weight of the prior"
            )
        if self.shown_error > CLIPPED * self.relative_error and self.shown_error > 0.01:
            found.append(
                "the inverse has colours outside 0 to 1. Clipped, as the figure shows it, its relative error "
                f"is {self.shown_error:.3g} and not {self.relative_error:.3g}"
            )
        if self.refused:
            found.append(f"no projections: {self.refused}")
        return found

    def summary(self) -> list[str]:
        """Return sentences on what the layer keeps of the image."""
        one = self.measures
        ssim = "" if one.ssim is None else f", SSIM {one.ssim:.2f}"
        flat = "" if one.ssim_of_grey is None else f", SSIM {one.ssim_of_grey:.2f}"
        return [
            f"At {self.layer.name}, the features of the inverse differ from those of {printable(self.name)} "
            f"by {100 * self.relative_error:.3g} % of their length.",
            f"The inverse has PSNR {one.psnr:.1f} dB{ssim}; a picture of one colour has "
            f"{one.psnr_of_grey:.1f} dB{flat}.",
            "It is one of many pictures with nearly these features. What the layer does not keep comes from "
            f"the prior ({PRIOR_TEXT[self.settings.prior]}) and from the noise at the start.",
        ]

    def _content(self, style: InversionStyle) -> Panels:
        return figure_of(self, style)

    def _files_to_write(self) -> ResultFiles:
        name = self.file_name()
        return ResultFiles(name, {f"{name}.parquet": self.table}, {f"{name}.npz": self.arrays()})

    def _notes(self) -> list[str]:
        return [*self.summary(), *self.warnings()]

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return all numbers as NumPy arrays.

        Returns:
            ``picture`` (H, W, 3), the inverse, not clipped; ``original`` (H, W, 3); ``step``, ``loss``,
            ``distance``, ``prior`` and ``range`` (steps + 1,); and with projections ``projection``
            (K, C, H, W), ``channel``, ``y``, ``x`` and ``activation`` (K,).
        """
        found = {
            "picture": self.picture,
            "original": self.original,
            "step": np.arange(self.settings.steps + 1),
            **{name: self.curve[name] for name in COLUMNS},
        }
        if self.projection is not None:
            numbers = self.projection.arrays()
            found["projection"] = numbers["pixels"]
            found |= {name: numbers[name] for name in ("channel", "y", "x", "activation")}
        return found

    def describe(self) -> dict[str, Any]:
        """Return network, layer, image, settings, measures and versions as plain JSON values."""
        pixels = {} if self.image is None else {"pixels": pixel_digest(self.image.rgb)}
        return {
            "format": FORMAT,
            "network": self.network.to_json(),
            "layer": {"name": self.layer.name, "module": self.layer.module},
            "pictures": [{"name": self.name, **pixels}],
            "settings": asdict(self.settings),
            "relative_error": self.relative_error,
            "shown_error": self.shown_error,
            "measures": self.measures.to_json(),
            "units": [] if self.projection is None else [unit.to_json() for unit in self.projection.units],
            "summary": self.summary(),
            "warnings": self.warnings(),
            "versions": versions(self.network),
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return the paths of the image and of the user's file, if any, with the keys of `describe`."""
        path = None if self.image is None else self.image.path
        return {
            "network": self.network.places(folder),
            "pictures": [{} if path is None else place_of(path, folder)],
        }

    def file_name(self) -> str:
        """Return the name of the files without suffix: NAME-LAYER-inversion-PRIOR."""
        return inversion_file(self.name, self.layer.name, self.settings.prior)
