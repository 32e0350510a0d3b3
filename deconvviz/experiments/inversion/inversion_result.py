"""Result of `invert`: the inverse, its distances from the image, the curve, figure and files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from deconvviz.experiments.inversion.inversion_figure import InversionStyle, figure_of
from deconvviz.experiments.inversion.measures import PictureMeasures
from deconvviz.experiments.inversion.names import PRIOR_TEXT, inversion_file
from deconvviz.experiments.saving import FORMAT as PNG
from deconvviz.experiments.saving import SavedExperiment, save_into
from deconvviz.figures.spec.panels import Panels
from deconvviz.figures.spec.style import DPI
from deconvviz.files import place_of
from deconvviz.images.image import InputImage
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.printable_names import printable
from deconvviz.projection import Projection, pixel_digest
from deconvviz.provenance import versions
from deconvviz.results import SavedFiles, html_of, save_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
class Inversion:
    """A picture whose features at a layer are those of an image. Jupyter shows it as a figure.

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

    def figure(self, style: InversionStyle | None = None, **changes: Any) -> Figure:
        """Draw the image, the inverse, projections of the strongest units, and the curve of the loss.

        Args:
            style: Settings of the figure.
            **changes: Single settings instead: ``percentile``.

        Raises:
            FigureError: If a setting is invalid.
        """
        from deconvviz.figures import draw

        return draw(self.spec(style, **changes))

    def spec(self, style: InversionStyle | None = None, **changes: Any) -> Panels:
        """Return the content of the figure as plain arrays and lines of text."""
        return figure_of(self, replace(style or InversionStyle(), **changes))

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
            "units": [] if self.projection is None else [asdict(unit) for unit in self.projection.units],
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

    def save(
        self,
        path: str | os.PathLike[str],
        style: InversionStyle | None = None,
        *,
        dpi: float | None = None,
        force: bool = False,
        arrays: bool = False,
        **changes: Any,
    ) -> SavedFiles:
        """Write the figure and its manifest (.json), and with `arrays` also the arrays (.npz).

        Raises:
            OutputError: If a file exists or cannot be written.
            FigureError: If the figure cannot be drawn.
        """
        style = replace(style or InversionStyle(), **changes)
        return save_result(self, path, style, dpi=dpi or DPI["screen"], force=force, arrays=arrays)

    def save_into(
        self,
        folder: str | os.PathLike[str],
        style: InversionStyle | None = None,
        *,
        format: str = PNG,
        dpi: float | None = None,
        force: bool = False,
        **changes: Any,
    ) -> SavedExperiment:
        """Write the figure, its manifest, the curve (.parquet) and the arrays (.npz) into a folder.

        The files are called NAME-LAYER-inversion-PRIOR.

        Raises:
            OutputError: If a file exists or cannot be written.
            FigureError: If the figure cannot be drawn.
        """
        name = self.file_name()
        return save_into(
            self,
            folder,
            name,
            replace(style or InversionStyle(), **changes),
            tables={f"{name}.parquet": self.table},
            arrays={f"{name}.npz": self.arrays()},
            format=format,
            dpi=dpi or DPI["screen"],
            force=force,
        )

    def _repr_png_(self) -> bytes:
        from deconvviz.figures.page.save import render_png

        return render_png(self.figure(), dpi=150)

    def _repr_html_(self) -> str | None:
        return html_of(self, [*self.summary(), *self.warnings()])
