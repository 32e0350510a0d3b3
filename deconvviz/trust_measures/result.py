"""Result of `trust`: measures of each method, as plain numbers, three sentences and a figure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deconvviz.figures.spec.measures import MeasuresFigure
from deconvviz.figures.spec.style import DPI, MeasuresStyle
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.provenance import versions
from deconvviz.results import SavedFiles, html_of, save_result
from deconvviz.trust_measures.content import figure_of
from deconvviz.trust_measures.summary import sentences
from deconvviz.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = "deconvviz trust 1"
NUMBERS = ("value", "low", "high", "baseline")
OF_PARTS = ("finds", "tells_apart", "energy_over_area", "pointing")
SINGLE = ("likeness", "identification", "switches", "deletion", "insertion")


@dataclass(frozen=True, eq=False, repr=False)
class Trust:
    """How far to trust what some methods show of the units of a layer. Jupyter shows it as a figure.

    Attributes:
        network: Facts about the network.
        layer: The layer of the units.
        place: Where the images come from; empty for several images.
        pictures: Names of the images that were used.
        units: Number of units.
        k: Largest number of units for each image.
        seed: Seed of all random numbers.
        measures: Measures of each method by name, as plain numbers (see `to_json`).
        titles: Title of each method.
        controls: Scores of controls on scenes that do not depend on a method; None without scenes.
        left_out: Methods that could not be used, with the reason.
        skipped: Images that could not be used, with the reason.
    """

    network: NetworkInfo
    layer: Layer
    place: str
    pictures: tuple[str, ...]
    units: int
    k: int
    seed: int
    measures: Mapping[str, Mapping[str, Any]]
    titles: Mapping[str, str]
    controls: Mapping[str, Any] | None = None
    left_out: Mapping[str, str] | None = None
    skipped: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return (
            f"<Trust in {', '.join(self.measures)} at {self.layer.name} of {self.network.name}: "
            f"{counted(self.units, 'unit')} of {counted(len(self.pictures), 'image')}>"
        )

    def summary(self) -> list[str]:
        """Return three sentences: how alike maps of a place are, whether they are true, which is best."""
        positions = len(self.layer.shape) == 3
        return sentences(self.measures, self.titles, len(self.pictures), positions=positions)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values, as ``deconvviz trust --json`` prints it.

        ``methods`` has for each method ``likeness``, ``identification``, ``switches``, ``deletion``,
        ``insertion`` (each with ``value``, ``low``, ``high``, ``baseline``, ``meaning``), ``parts`` (None
        without scenes) and ``weights``. A number that cannot be computed is None.
        """
        return {
            "network": self.network.name,
            "layer": self.layer.name,
            "units": self.units,
            "methods": {name: dict(one) for name, one in self.measures.items()},
            "summary": self.summary(),
            "pictures": len(self.pictures),
            "parts_controls": None if self.controls is None else dict(self.controls),
            "left_out": dict(self.left_out or {}),
            "skipped": [{"picture": name, "reason": reason} for name, reason in self.skipped],
        }

    def figure(self, style: MeasuresStyle | None = None, **changes: Any) -> Figure:
        """Draw bars with intervals and baselines, and the curves of weights, deletion and insertion.

        Args:
            style: Settings of the figure.
            **changes: Single settings instead: ``columns`` (panels of bars side by side).

        Raises:
            FigureError: If a setting is invalid, or the figure does not fit.
        """
        from deconvviz.figures import draw

        return draw(self.spec(style, **changes))

    def spec(self, style: MeasuresStyle | None = None, **changes: Any) -> MeasuresFigure:
        """Return the content of the figure as plain numbers and lines of text."""
        return figure_of(self, replace(style or MeasuresStyle(), **changes))

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the numbers as NumPy arrays.

        Returns:
            ``methods`` (M,) and ``measures`` (N,) are names. ``value``, ``low``, ``high`` and ``baseline``
            are (M, N), NaN where a number is not known. ``percent`` (Q,), ``deletion_curve`` and
            ``insertion_curve`` (M, Q) are the curves. ``modules`` (S,) and ``cascading``, ``independent``
            (M, S, 3) are the similarities after randomisation: Spearman, SSIM, Pearson.
        """
        every = list(self.measures.values())
        named = [*SINGLE, *(OF_PARTS if any(one["parts"] for one in every) else ())]
        table = {
            number: np.array([[_number(_measure(one, name), number) for name in named] for one in every])
            for number in NUMBERS
        }
        return {
            "methods": np.array(list(self.measures)),
            "measures": np.array(named),
            **table,
            "percent": np.array(every[0]["deletion"]["curve"]["percent"]),
            **{f"{kind}_curve": np.array([one[kind]["curve"]["value"] for one in every])
               for kind in ("deletion", "insertion")},
            "modules": np.array([entry["module"] for entry in every[0]["weights"]["independent"]]),
            "cascading": _similarities(every, "cascading"),
            "independent": _similarities(every, "independent"),
        }  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Return network, layer, images, settings, measures and versions as plain JSON values."""
        return {
            "format": FORMAT,
            "network": self.network.to_json(),
            "layer": {"name": self.layer.name, "module": self.layer.module},
            "pictures": list(self.pictures),
            "settings": {"k": self.k, "seed": self.seed, "methods": list(self.measures)},
            "trust": self.to_json(),
            "versions": versions(self.network),
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return the place of the images and the path of the user's network file, if any."""
        return {"network": self.network.places(folder), "source": self.place or None}

    def save(
        self,
        path: str | os.PathLike[str],
        style: MeasuresStyle | None = None,
        *,
        dpi: float | None = None,
        force: bool = False,
        arrays: bool = False,
        **changes: Any,
    ) -> SavedFiles:
        """Write the figure and its manifest (.json), and with `arrays` also the arrays (.npz).

        Args:
            path: File of the figure: .png, .svg or .pdf.
            style: Settings of the figure; or single settings in `changes`, as for `figure`.
            dpi: Dots per inch; None uses 200.
            force: Overwrite existing files.
            arrays: Also write the result of `arrays`.

        Returns:
            The paths of the written files.

        Raises:
            OutputError: If a file exists or cannot be written.
            FigureError: If the figure cannot be drawn.
        """
        style = replace(style or MeasuresStyle(), **changes)
        return save_result(
            self, path, style, dpi=DPI["screen"] if dpi is None else dpi, force=force, arrays=arrays
        )

    def _repr_png_(self) -> bytes:
        from deconvviz.figures.page.save import render_png

        return render_png(self.figure(), dpi=150)

    def _repr_html_(self) -> str | None:
        return html_of(self, self.summary())


def _measure(one: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (one["parts"] or {}).get(name, {}) if name in OF_PARTS else one[name]
    return found


def _number(measure: Mapping[str, Any], number: str) -> float:
    value = measure.get(number)
    return float("nan") if value is None else float(value)


def _similarities(every: list[Mapping[str, Any]], order: str) -> np.ndarray[Any, Any]:
    names = ("spearman", "ssim", "pearson")
    table = [[[_number(entry, n) for n in names] for entry in one["weights"][order]] for one in every]
    return np.array(table, np.float64)
