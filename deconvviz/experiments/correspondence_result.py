"""Result of `correspondence`: the table, the figures and the files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deconvviz.experiments.correspondence_figure import figure_of, hidden_of
from deconvviz.experiments.correspondence_rows import NUMBERS, HiddenImage, Row, sentence_of, text_of
from deconvviz.experiments.experiment_result import ExperimentResult, ResultFiles
from deconvviz.experiments.saving import FORMAT, SavedExperiment, refuse_files
from deconvviz.experiments.used_images import UsedImages
from deconvviz.figures.spec.measures import MeasuresFigure
from deconvviz.figures.spec.style import DPI, MeasuresStyle
from deconvviz.figures.spec.tile_grid import TileGrid
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.provenance import versions
from deconvviz.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

OF = "deconvviz correspondence 1"
NAME = "correspondence"
TABLE = "correspondence.parquet"
HIDDEN = "correspondence-hidden"


@dataclass(frozen=True, eq=False, repr=False)
class Correspondence(ExperimentResult[MeasuresStyle, MeasuresFigure]):
    """Correspondence of parts between images, as in Table 1 of the paper. Jupyter shows it as a figure.

    Settings of the figure: ``columns`` (panels side by side).

    Attributes:
        network: Facts about the network.
        layers: The layers.
        parts: Names of the parts.
        rows: One row for each layer and part, and for the random places.
        images: Names of the images that have a part.
        images_of: Names of the images of each part.
        fill: What hides a part.
        draws: Number of random places for each part of each image.
        seed: Seed of all random numbers.
        hidden: The first images with hidden parts, for `hidden_spec`.
        used: The images, for the manifest.
        arguments: Arguments that make the result again, as plain JSON values.
    """

    default_style = MeasuresStyle

    network: NetworkInfo
    layers: tuple[Layer, ...]
    parts: tuple[str, ...]
    rows: tuple[Row, ...]
    images: tuple[str, ...]
    images_of: Mapping[str, list[str]]
    fill: str
    draws: int
    seed: int
    hidden: tuple[HiddenImage, ...]
    used: UsedImages = field(default_factory=UsedImages)
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        names = ", ".join(layer.name for layer in self.layers)
        return (
            f"<Correspondence of {counted(len(self.parts), 'part')} in {counted(len(self.images), 'image')}: "
            f"{self.network.name}, {names}>"
        )

    def row(self, layer: str, part: str) -> Row:
        """Return the row of a layer and a part."""
        return next(row for row in self.rows if (row.layer, row.part) == (layer, part))

    @property
    def table(self) -> pa.Table:
        """Table with one row per layer and part; the columns are the attributes of `Row`."""
        import pyarrow as pa

        from deconvviz.experiments.tables import table_of

        return table_of(
            [asdict(row) for row in self.rows],
            {
                "layer": pa.string(),
                "part": pa.string(),
                "mean": pa.float64(),
                "std": pa.float64(),
                "images": pa.int32(),
                **dict.fromkeys(NUMBERS, pa.float64()),
            },
        )

    def text(self) -> str:
        """Return the paper's table as lines of text, with a column for each layer, and a table of cosines."""
        return text_of(self.rows)

    def sentences(self) -> list[str]:
        """Return for each layer which parts differ from random places, in Delta and in the cosine."""
        return [sentence_of(layer.name, self.rows) for layer in self.layers]

    def _content(self, style: MeasuresStyle) -> MeasuresFigure:
        return figure_of(self, style)

    def _files_to_write(self) -> ResultFiles:
        return ResultFiles(NAME, {TABLE: self.table})

    def _notes(self) -> list[str]:
        return self.sentences()

    def hidden_spec(self) -> TileGrid:
        """Return the images with hidden parts as a tile grid, as in Figure 8 of the paper."""
        return hidden_of(self)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the columns of the table as NumPy arrays, NaN where a number is not known."""
        found: dict[str, np.ndarray[Any, Any]] = {
            name: np.array([getattr(row, name) for row in self.rows]) for name in ("layer", "part", "images")
        }
        for name in ("mean", "std", *NUMBERS):
            found[name] = np.array([getattr(row, name) for row in self.rows], np.float64)
        return found

    def describe(self) -> dict[str, Any]:
        """Return network, layers, images, settings, numbers and versions as plain JSON values."""
        return {
            "format": OF,
            "network": self.network.to_json(),
            "layers": [{"name": layer.name, "module": layer.module} for layer in self.layers],
            **self.used.to_json(),
            "arguments": dict(self.arguments),
            "settings": {
                "fill": self.fill,
                "draws": self.draws,
                "seed": self.seed,
                "parts": list(self.parts),
                "images_of": {part: list(names) for part, names in self.images_of.items()},
            },
            "correspondence": [asdict(row) for row in self.rows],
            "summary": self.sentences(),
            "versions": versions(self.network),
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return the paths of the images and of the user's file, if any, with the keys of `describe`."""
        return {
            "network": self.network.places(folder),
            **self.used.places(folder),
        }

    def save_into(
        self,
        folder: str | os.PathLike[str],
        style: MeasuresStyle | None = None,
        *,
        format: str = FORMAT,
        dpi: float | None = None,
        force: bool = False,
        **changes: Any,
    ) -> SavedExperiment:
        """Write the figure, its manifest and ``correspondence.parquet`` into a folder.

        ``correspondence-hidden.png`` shows the images with hidden parts, unless the input is not an image.

        Raises:
            OutputError: If a file exists or cannot be written.
            FigureError: If the figure cannot be drawn.
        """
        from deconvviz.figures import draw
        from deconvviz.figures.page.save import save as save_figure

        dpi = DPI["screen"] if dpi is None else dpi
        hidden = Path(folder) / f"{HIDDEN}.{format}"
        pictures = draw(self.hidden_spec()) if self.hidden else None
        refuse_files(
            Path(folder), NAME, [TABLE, *([hidden.name] if pictures else [])], format=format, force=force
        )
        saved = super().save_into(folder, style, format=format, dpi=dpi, force=force, **changes)
        if pictures is None:
            return saved
        save_figure(pictures, hidden, dpi=dpi, force=force)
        return SavedExperiment(saved.figure, saved.manifest, (*saved.numbers, hidden))
