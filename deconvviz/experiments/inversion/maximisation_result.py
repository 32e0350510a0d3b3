"""Result of `maximise`: pictures that are made up, their activations and curves, figure and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from deconvviz.experiments.experiment_result import ExperimentResult, ResultFiles
from deconvviz.experiments.inversion.made_up import MadeUp, MaximisationSettings, Natural
from deconvviz.experiments.inversion.maximisation_figure import MaximisationStyle, figure_of
from deconvviz.experiments.inversion.names import maximisation_file
from deconvviz.figures.spec.panels import Panels
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.printable_names import printable
from deconvviz.provenance import versions
from deconvviz.wording import counted, listed

if TYPE_CHECKING:
    pass

FORMAT = "deconvviz maximisation 1"
MADE_UP = (
    "These pictures are made up by optimisation: none is an image of a dataset, and each is one of many "
    "pictures that activate its channel strongly."
)


@dataclass(frozen=True, eq=False, repr=False)
class Maximisation(ExperimentResult[MaximisationStyle, Panels]):
    """Pictures made up to activate channels or units of a layer. Jupyter shows them as a figure.

    Settings of the figure: ``columns``.

    Attributes:
        network: Facts about the network.
        layer: The layer.
        pictures: The pictures, in the order of channels or units, and then of seeds.
        settings: Settings of the run.
        natural: The strongest activation of each channel in the images of a search; None for a channel that
            is silent in all of them. Empty without a search.
        searched: Number of images of the search and the kind of their source; None without a search.
    """

    default_style = MaximisationStyle

    network: NetworkInfo
    layer: Layer
    pictures: tuple[MadeUp, ...]
    settings: MaximisationSettings
    natural: Mapping[int, Natural | None]
    searched: tuple[int, str] | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    def __repr__(self) -> str:
        return (
            f"<Maximisation of {self.layer.name} in {self.network.name}: "
            f"{counted(len(self), 'made-up picture')}, {self.settings.parametrisation}, "
            f"{counted(self.settings.steps, 'step')}>"
        )

    @property
    def table(self) -> pa.Table:
        """Arrow table with one row for each picture and step.

        The columns are channel, y, x, seed, step and objective. y and x are null for a whole channel, and for
        units without position.
        """
        steps = self.settings.steps + 1

        def repeated(values: Sequence[int | None]) -> pa.Array:
            return pa.array([value for value in values for _ in range(steps)], pa.int32())

        return pa.table(
            {
                "channel": repeated([one.channel for one in self.pictures]),
                "y": repeated([one.y for one in self.pictures]),
                "x": repeated([one.x for one in self.pictures]),
                "seed": pa.array([one.seed for one in self.pictures for _ in range(steps)], pa.int64()),
                "step": pa.array(list(range(steps)) * len(self), pa.int32()),
                "objective": pa.array(np.concatenate([one.curve for one in self.pictures]), pa.float64()),
            }
        )

    def warnings(self) -> list[str]:
        """Return a sentence if the objective of some pictures did not rise."""
        still = [
            str(number) for number in dict.fromkeys(one.channel for one in self.pictures if not one.rose)
        ]
        if not still:
            return []
        channels = "channel" if len(still) == 1 else "channels"
        return [
            f"the objective of {channels} {listed(still)} did not rise, so their pictures show only noise. "
            "Use another seed, more steps, or the layer before the rectifier"
        ]

    def summary(self) -> list[str]:
        """Return that the pictures are made up, and how their activations compare with natural images."""
        lines = [MADE_UP]
        ratios = [
            one.activation / found.activation
            for one in self.pictures
            if (found := self.natural.get(one.channel)) is not None and found.activation > 0
        ]
        if ratios and self.searched is not None:
            lines.append(
                f"Their strongest activation is {np.median(ratios):.3g} times (median) the strongest "
                f"activation in {self.searched[0]:,} searched images; the lowest ratio is {min(ratios):.3g} "
                f"and the highest {max(ratios):.3g}."
            )
        return lines

    def _content(self, style: MaximisationStyle) -> Panels:
        return figure_of(self, style)

    def _files_to_write(self) -> ResultFiles:
        name = self.file_name()
        return ResultFiles(name, {f"{name}.parquet": self.table}, {f"{name}.npz": self.arrays()})

    def _notes(self) -> list[str]:
        return [*self.summary(), *self.warnings()]

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return all numbers as NumPy arrays.

        Returns:
            ``pictures`` (N, H, W, 3); ``curve`` (N, steps + 1); and (N,) each: ``channel``, ``y`` and ``x``
            (-1 if there is none), ``seed``, ``objective``, ``activation``, and ``natural`` (NaN if not
            known).
        """

        def place(number: int | None) -> int:
            return -1 if number is None else number

        natural = [self.natural.get(one.channel) for one in self.pictures]
        return {
            "pictures": np.stack([one.picture for one in self.pictures]),
            "curve": np.stack([one.curve for one in self.pictures]),
            "channel": np.array([one.channel for one in self.pictures]),
            "y": np.array([place(one.y) for one in self.pictures]),
            "x": np.array([place(one.x) for one in self.pictures]),
            "seed": np.array([one.seed for one in self.pictures]),
            "objective": np.array([one.objective for one in self.pictures]),
            "activation": np.array([one.activation for one in self.pictures]),
            "natural": np.array([np.nan if found is None else found.activation for found in natural]),
        }

    def describe(self) -> dict[str, Any]:
        """Return network, layer, settings, pictures and versions as plain JSON values."""
        return {
            "format": FORMAT,
            "network": self.network.to_json(),
            "layer": {"name": self.layer.name, "module": self.layer.module},
            "settings": asdict(self.settings),
            "made_up": [self._to_json(one) for one in self.pictures],
            "searched": None
            if self.searched is None
            else {"images": self.searched[0], "source": self.searched[1]},
            "summary": self.summary(),
            "warnings": self.warnings(),
            "versions": versions(self.network),
        }

    def _to_json(self, one: MadeUp) -> dict[str, Any]:
        found = self.natural.get(one.channel)
        return {
            "channel": one.channel,
            "y": one.y,
            "x": one.x,
            "seed": one.seed,
            "objective": one.objective,
            "activation": one.activation,
            "natural": None if found is None else {**asdict(found), "image": printable(found.image)},
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return the path of the user's network file, if any."""
        return {"network": self.network.places(folder)}

    def file_name(self) -> str:
        """Return the name of the files without suffix: LAYER-maximised."""
        return maximisation_file(self.layer.name)
