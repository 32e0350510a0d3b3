"""Result of `filters`: the filters of one or two networks, their measures, the figure and the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deconvviz.experiments.experiment_result import ExperimentResult, ResultFiles
from deconvviz.experiments.filters_bank import BANDS, ORIENTATIONS, PEAK, Bank, rows_of, sentences_of
from deconvviz.experiments.filters_figure import grid_of
from deconvviz.experiments.filters_measures import ALIASED, DEAD, DOMINANT, DOUBLE
from deconvviz.figures.spec.style import FiltersStyle
from deconvviz.figures.spec.tile_grid import TileGrid
from deconvviz.network_info import NetworkInfo
from deconvviz.provenance import versions
from deconvviz.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

OF = "deconvviz filters 1"
NAME = "filters"
TABLE = "filters.parquet"
WHICH = ("network", "against")


@dataclass(frozen=True, eq=False, repr=False)
class Filters(ExperimentResult[FiltersStyle, TileGrid]):
    """Filters of one or two networks, as in Figure 6 of the paper. Jupyter shows it as a figure.

    Settings of the figure: ``percentile``, ``medium``.

    Attributes:
        banks: The filters of each network.
        by_size: Whether the figure shows filters by descending size.
        seed: Seed for choosing channels of the second layer.
        place: Source of images; empty without one.
        source: Description of the source; None without one.
        arguments: Arguments that make the result again, as plain JSON values.
    """

    default_style = FiltersStyle

    banks: tuple[Bank, ...]
    by_size: bool
    seed: int
    place: str
    source: Mapping[str, Any] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> NetworkInfo:
        """Facts about the first network."""
        return self.banks[0].network

    def __repr__(self) -> str:
        of = " and ".join(
            f"{counted(len(bank.weights), 'filter')} of {bank.layer.name} ({bank.network.origin.short})"
            for bank in self.banks
        )
        return f"<Filters in {self.network.name}: {of}>"

    @property
    def table(self) -> pa.Table:
        """Table with one row per filter.

        The columns are network (``network`` or ``against``), layer, filter, rms, shares of energy (low,
        middle, high; horizontal, vertical, rising, falling; colour; above_nyquist), dead, dominant, aliased,
        double_of and correlation (the most similar other filter; null if the correlation is at most 0.95),
        and silent (never above zero; null without images).
        """
        import pyarrow as pa

        from deconvviz.experiments.tables import table_of

        shares = (*BANDS, *ORIENTATIONS, "colour", "above_nyquist")
        rows = [row for which, bank in zip(WHICH, self.banks, strict=False) for row in rows_of(which, bank)]
        return table_of(
            rows,
            {
                "network": pa.string(),
                "layer": pa.string(),
                "filter": pa.int32(),
                "rms": pa.float64(),
                **dict.fromkeys(shares, pa.float64()),
                **dict.fromkeys(("dead", "dominant", "aliased"), pa.bool_()),
                "double_of": pa.int32(),
                "correlation": pa.float64(),
                "silent": pa.bool_(),
            },
        )

    def sentences(self) -> list[str]:
        """Return what is wrong with the filters, and the paper's remedies, in words."""
        return [sentence for bank in self.banks for sentence in sentences_of(bank, len(self.banks) > 1)]

    def _content(self, style: FiltersStyle) -> TileGrid:
        return grid_of(self.banks, self.by_size, self.place, style)

    def _files_to_write(self) -> ResultFiles:
        return ResultFiles(NAME, {TABLE: self.table})

    def _notes(self) -> list[str]:
        return self.sentences()

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the numbers as NumPy arrays.

        Returns:
            ``weights`` (F, C, h, w), ``rms``, ``colour``, ``above_nyquist``, ``correlation`` and ``nearest``
            (F,), ``bands`` (F, 3) and ``orientations`` (F, 4). Those of the second network start with
            ``against_``.
        """
        names = ("rms", "bands", "orientations", "colour", "above_nyquist", "correlation", "nearest")
        found: dict[str, np.ndarray[Any, Any]] = {}
        for start, bank in zip(("", "against_"), self.banks, strict=False):
            found[f"{start}weights"] = bank.weights
            found |= {f"{start}{name}": getattr(bank.measures, name) for name in names}
        return found

    def describe(self) -> dict[str, Any]:
        """Return networks, layers, settings and measures as plain JSON values, without paths."""
        first = self.banks[0]
        return {
            "format": OF,
            "network": first.network.to_json(),
            "against": self.banks[1].network.to_json() if len(self.banks) > 1 else None,
            "layer": {"name": first.layer.name, "module": first.layer.module},
            "source": self.source and {key: value for key, value in self.source.items() if key != "place"},
            "arguments": dict(self.arguments),
            "settings": {
                "by_size": self.by_size,
                "seed": self.seed,
                "dead": DEAD,
                "dominant": DOMINANT,
                "double": DOUBLE,
                "aliased": ALIASED,
                "peak": PEAK,
            },
            "filters": [bank.to_json() for bank in self.banks],
            "projected": [
                None
                if bank.seen is None
                else {
                    "channels": list(bank.seen.channels),
                    "images": list(bank.seen.images),
                    "activations": bank.seen.activations.tolist(),
                    "skipped": [{"picture": name, "reason": why} for name, why in bank.seen.skipped],
                }
                for bank in self.banks
            ],
            "summary": self.sentences(),
            "versions": versions(first.network),
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return the source of images and the paths of the user's files, if any."""
        found: dict[str, Any] = {"network": self.network.places(folder)}
        if self.source is not None:
            found["source"] = {"place": self.source["place"]}
        if len(self.banks) > 1:
            found["against"] = self.banks[1].network.places(folder)
        return found
