"""Result of `occlusion`: the maps of each image, their checks, the figure and the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deconvviz.experiments.experiment_result import ExperimentResult, ResultFiles
from deconvviz.experiments.occlusion_figure import grid_of
from deconvviz.experiments.occlusion_maps import OccludedImage, class_name
from deconvviz.experiments.used_images import UsedImages
from deconvviz.figures.spec.style import OcclusionStyle
from deconvviz.figures.spec.tile_grid import TileGrid
from deconvviz.files import place_of
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.paths import file_part, image_part
from deconvviz.provenance import versions
from deconvviz.topnine.result import ProjectedPeak
from deconvviz.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

OF = "deconvviz occlusion 1"
LEAST_AGREEMENT = 0.7
"""Rank correlation between two fills below which a warning is given (ours)."""


@dataclass(frozen=True, eq=False, repr=False)
class Occlusion(ExperimentResult[OcclusionStyle, TileGrid]):
    """Maps of occlusion, as in Figure 7 of the paper. Jupyter shows it as a figure with one row per image.

    Settings of the figure: ``percentile``, ``medium``.

    Attributes:
        network: Facts about the network.
        layer: The layer of the channel.
        images: The maps of each image.
        size: Side of the square as a share of the image's shorter side.
        stride: Distance of places as a share of the image's shorter side.
        fill: What the square is filled with.
        other_fill: The fill that the maps are compared with; None if not compared.
        phases: Number of grids.
        seed: Seed of the noise of ``linear``.
        others: For each channel, its projections in other images, from a search.
        used: The images, for the manifest.
        arguments: Arguments that make the result again, as plain JSON values.
        search: Folder of the search, if any.
    """

    default_style = OcclusionStyle

    network: NetworkInfo
    layer: Layer
    images: tuple[OccludedImage, ...]
    size: float
    stride: float
    fill: str
    other_fill: str | None
    phases: int
    seed: int
    others: Mapping[int, tuple[ProjectedPeak, ...]]
    used: UsedImages = field(default_factory=UsedImages)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    search: Path | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return (
            f"<Occlusion of {counted(len(self), 'image')} in {self.network.name}, {self.layer.name}: "
            f"{counted(len(self.images[0].squares), 'square')} of {self.images[0].squares.side} px, "
            f"{self.fill}>"
        )

    @property
    def table(self) -> pa.Table:
        """Table with one row per image and square.

        The columns are image, layer, channel, y, x, activity, probability, label and class (the name of the
        label). The last three are null without classes.
        """
        import pyarrow as pa

        from deconvviz.experiments.tables import table_of

        rows = [row for one in self.images for row in self._rows(one)]
        integers = dict.fromkeys(("channel", "y", "x"), pa.int32())
        return table_of(
            rows,
            {
                "image": pa.string(),
                "layer": pa.string(),
                **integers,
                "activity": pa.float64(),
                "probability": pa.float64(),
                "label": pa.int32(),
                "class": pa.string(),
            },
        )

    def _rows(self, one: OccludedImage) -> list[dict[str, Any]]:
        found = []
        for number, (y, x) in enumerate(one.squares.corners()):
            place = divmod(number, one.squares.shape[1])
            label = None if one.label is None else int(one.label[place])
            found.append(
                {
                    "image": one.name,
                    "layer": self.layer.name,
                    "channel": one.unit.channel,
                    "y": y,
                    "x": x,
                    "activity": float(one.activity[place]),
                    "probability": None if one.probability is None else float(one.probability[place]),
                    "label": label,
                    "class": None if label is None else class_name(label, self.network.classes),
                }
            )
        return found

    def warnings(self) -> list[str]:
        """Return a sentence for each image whose maps depend on the fill of the square."""
        found = []
        for one in self.images:
            for what, value in (
                ("activity", one.activity_agreement),
                ("probability", one.probability_agreement),
            ):
                if value is not None and value < LEAST_AGREEMENT:
                    found.append(
                        f"{one.name}: the map of the {what} depends on the fill: its rank correlation "
                        f"between {self.fill} and {self.other_fill} is {value:.2f} "
                        f"(below {LEAST_AGREEMENT:g})"
                    )
        return found

    def _content(self, style: OcclusionStyle) -> TileGrid:
        return grid_of(self, style)

    def _files_to_write(self) -> ResultFiles:
        names = self.file_names()
        arrays = {f"{name}.npz": one.arrays() for name, one in zip(names, self.images, strict=True)}
        return ResultFiles(figure_name(names, self.layer.name), arrays=arrays)

    def _notes(self) -> list[str]:
        return self.warnings()

    def _repr_png_(self) -> bytes | None:
        return super()._repr_png_() if self.network.preprocessing.reads_images else None

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the arrays of the image, as `OccludedImage.arrays`.

        With several images, the names start with the number of the image: ``0_activity``, ``1_activity``.
        """
        if len(self) == 1:
            return self.images[0].arrays()
        return {
            f"{number}_{name}": value
            for number, one in enumerate(self.images)
            for name, value in one.arrays().items()
        }

    def describe(self) -> dict[str, Any]:
        """Return network, layer, images, settings and checks as plain JSON values, without paths."""
        return {
            "format": OF,
            "network": self.network.to_json(),
            "layer": {"name": self.layer.name, "module": self.layer.module},
            **self.used.to_json(),
            "arguments": dict(self.arguments),
            "settings": {
                "size": self.size,
                "stride": self.stride,
                "fill": self.fill,
                "other_fill": self.other_fill,
                "phases": self.phases,
                "seed": self.seed,
            },
            "occlusion": [one.to_json(self.network.classes) for one in self.images],
            "warnings": self.warnings(),
            "others": {
                str(channel): [peak.peak.to_json() for peak in peaks]
                for channel, peaks in self.others.items()
            },
            "versions": versions(self.network),
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return the paths of the images and of the user's file, if any, with the keys of `describe`."""
        return {
            "network": self.network.places(folder),
            **self.used.places(folder),
            **({} if self.search is None else {"search": place_of(self.search, folder)}),
        }

    def file_names(self) -> list[str]:
        """Return for each image the name of its files without suffix: NAME-LAYER-occlusion."""
        return file_names([one.name for one in self.images], self.layer.name)


def file_names(images: Sequence[str], layer: str) -> list[str]:
    """Return for each image the name of its files without suffix: NAME-LAYER-occlusion."""
    stems = [image_part(name) for name in images]
    unique = [f"{stem}-{number}" if stems.count(stem) > 1 else stem for number, stem in enumerate(stems, 1)]
    return [f"{stem}-{file_part(layer)}-occlusion" for stem in unique]


def figure_name(names: Sequence[str], layer: str) -> str:
    """Return the name of the figure without suffix."""
    return names[0] if len(names) == 1 else f"{file_part(layer)}-occlusion"
