"""Result of `evolution`: projections at each checkpoint, tables, sentences and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deconvviz.coverage import Coverage
from deconvviz.experiments.evolution.comparison import Cell, Key
from deconvviz.experiments.evolution.content import EvolutionStyle, figure_of
from deconvviz.experiments.evolution.measures import SETTLED, settled_at
from deconvviz.experiments.evolution.units import Channels
from deconvviz.experiments.experiment_result import ExperimentResult, ResultFiles
from deconvviz.figures.spec.panels import Panels
from deconvviz.files import place_of
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.printable_names import printable
from deconvviz.projection import approximations
from deconvviz.provenance import versions
from deconvviz.wording import counted

FORMAT = "deconvviz evolution 1"
NAME = "evolution"
TABLE, LAYER_TABLE = "evolution.parquet", "evolution-layers.parquet"
NUMBERS = (TABLE, LAYER_TABLE)


@dataclass(frozen=True, eq=False, repr=False)
class Evolution(ExperimentResult[EvolutionStyle, Panels]):
    """How the projections of some channels change during training. Jupyter shows it as a figure.

    Settings of the figure: ``columns``, ``rows``, ``percentile``, ``crop``.

    Attributes:
        network: Facts about the network with the weights of the last checkpoint.
        layers: The layers.
        checkpoints: Short labels of the checkpoints, in order.
        files: Their files.
        source: Description of the source of the images.
        images: Number of images that were searched.
        seed: Seed of the drawn channels and of the bootstrap.
        channels: Channels in the figure, and all channels that are measured, by layer.
        cells: By (layer, channel): the channel at each checkpoint.
        table: Arrow table with one row for each checkpoint and measured channel.
        layer_table: Arrow table with one row for each checkpoint and layer: medians over channels with 95 %
            intervals, linear CKA with the last checkpoint, and the shares of dead channels and of jumps.
        coverages: Exact and approximate operations of the projections, by layer.
        skipped: Images that could not be used, with the reason.
        digests: SHA-256 of each file.
        arguments: Arguments that make the result again, as plain JSON values.
    """

    default_style = EvolutionStyle

    network: NetworkInfo
    layers: tuple[Layer, ...]
    checkpoints: tuple[str, ...]
    files: tuple[str, ...]
    source: Mapping[str, Any]
    images: int
    seed: int
    channels: Channels
    cells: Mapping[Key, tuple[Cell, ...]]
    table: pa.Table
    layer_table: pa.Table
    coverages: Mapping[str, Coverage] = field(default_factory=dict)
    skipped: tuple[tuple[str, str], ...] = ()
    digests: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        names = ", ".join(layer.name for layer in self.layers)
        return (
            f"<Evolution of {self.network.name} over {counted(len(self.checkpoints), 'checkpoint')}: "
            f"{names}, {counted(self.images, 'image')}>"
        )

    @cached_property
    def medians(self) -> dict[str, list[float | None]]:
        """Median correlation with the final projections at each checkpoint, by layer."""
        return self.of_layers("final_similarity")

    def of_layers(self, column: str) -> dict[str, list[float | None]]:
        """Return a column of the layer table as one list for each layer, in the order of checkpoints."""
        found: dict[str, list[float | None]] = {layer.name: [] for layer in self.layers}
        names = self.layer_table["layer"].to_pylist()
        for name, value in zip(names, self.layer_table[column].to_pylist(), strict=True):
            found[name].append(value)
        return found

    @property
    def settled(self) -> dict[str, str | None]:
        """The checkpoint from which on each layer is settled (see `measures.SETTLED`); None if none is."""
        places = {name: settled_at(values) for name, values in self.medians.items()}
        return {name: None if at is None else self.checkpoints[at] for name, at in places.items()}

    def summary(self) -> list[str]:
        """Return one sentence for each layer, and one on the paper's claim."""
        lines = []
        for name, at in self.settled.items():
            middle = len(self.checkpoints) // 2
            value = self.medians[name][middle]
            half = "" if value is None else f"; it is {value:.2f} at checkpoint {self.checkpoints[middle]}"
            when = "does not settle before the last checkpoint" if at is None else f"settles at {at}"
            lines.append(f"{name} {when} (median correlation with the final projections {SETTLED:g}){half}.")
        return [*lines, self._claim()]

    def _claim(self) -> str:
        places = [settled_at(values) for values in self.medians.values()]
        steps = [len(self.checkpoints) if at is None else at for at in places]
        if len(steps) < 2:
            return "One layer was examined, so layers cannot be compared."
        if steps == sorted(steps) and steps[0] < steps[-1]:
            return "Lower layers settle before higher layers, as the paper claims."
        if len(set(steps)) == 1:
            return "All layers settle at the same checkpoint, which is not what the paper claims."
        return "Layers do not settle in the order of their depth, which is not what the paper claims."

    def _content(self, style: EvolutionStyle) -> Panels:
        return figure_of(self, style)

    def _files_to_write(self) -> ResultFiles:
        return ResultFiles(NAME, {TABLE: self.table, LAYER_TABLE: self.layer_table})

    def _notes(self) -> list[str]:
        return self.summary()

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the numbers of all measured channels as NumPy arrays.

        Returns:
            ``checkpoint`` (T,), ``layer`` and ``channel`` (N,); ``activation``, ``fixed_activation``,
            ``similarity``, ``final_similarity`` and ``response_similarity`` (T, N), NaN where a number is
            not known; ``image`` (T, N), empty for a dead channel. For each layer of index l,
            ``layers`` (L,), ``cka``, ``dead`` and ``median`` (T, L).
        """
        keys = list(self.cells)
        numbers = ("activation", "fixed_activation", "similarity", "final_similarity", "response_similarity")
        steps = range(len(self.checkpoints))
        table = {
            name: np.array([[getattr(self.cells[key][step], name) for key in keys] for step in steps])
            for name in numbers
        }
        images = [
            ["" if (peak := self.cells[key][step].peak) is None else peak.image_id for key in keys]
            for step in steps
        ]
        return {
            "checkpoint": np.array(self.checkpoints),
            "layer": np.array([layer for layer, _ in keys]),
            "channel": np.array([channel for _, channel in keys]),
            **table,
            "image": np.array(images),
            "layers": np.array([layer.name for layer in self.layers]),
            "cka": _by_step(self.of_layers("cka")),
            "dead": _by_step(self.of_layers("dead")),
            "median": _by_step(self.medians),
        }

    def describe(self) -> dict[str, Any]:
        """Return network, layers, checkpoints, settings, summary and versions as plain JSON values."""
        return {
            "format": FORMAT,
            "network": self.network.to_json(),
            "layers": [
                {
                    "name": layer.name,
                    "module": layer.module,
                    "channels": list(self.channels.shown[layer.name]),
                    "measured": len(self.channels.measured[layer.name]),
                    "settled": self.settled[layer.name],
                    "activations": [
                        self.cells[layer.name, channel][-1].activation
                        for channel in self.channels.shown[layer.name]
                    ],
                    "approximate": approximations(self.coverages[layer.name]),
                }
                for layer in self.layers
            ],
            "checkpoints": [
                {"label": label, "digest": digest}
                for label, digest in zip(self.checkpoints, self.digests, strict=True)
            ],
            "arguments": dict(self.arguments),
            "source": {key: value for key, value in self.source.items() if key != "place"},
            "pictures": self.images,
            "skipped": [{"picture": name, "reason": printable(reason)} for name, reason in self.skipped],
            "settings": {"seed": self.seed, "settled": SETTLED},
            "summary": self.summary(),
            "versions": versions(self.network),
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return the paths of the checkpoints, of the images and of the user's network file, if any."""
        return {
            "network": self.network.places(folder),
            "checkpoints": [{"file": place_of(Path(file), folder)} for file in self.files],
            "source": {"place": self.source["place"]},
        }


def _by_step(columns: Mapping[str, Sequence[float | None]]) -> np.ndarray[Any, Any]:
    """Return the columns of layers as an array (T, L), NaN where a number is not known."""
    by_step: np.ndarray[Any, Any] = np.array(list(zip(*columns.values(), strict=True)), np.float64)
    return by_step
