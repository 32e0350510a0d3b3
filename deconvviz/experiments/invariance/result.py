"""Result of `invariance`: measures of each picture, amount and layer, a table, sentences and a figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from deconvviz.experiments.experiment_result import ExperimentResult, ResultFiles
from deconvviz.experiments.invariance.canvas import Floats
from deconvviz.experiments.invariance.content import InvarianceStyle, figure_of
from deconvviz.experiments.invariance.distances import MEASURES
from deconvviz.experiments.invariance.findings import mean_change, sentences
from deconvviz.experiments.invariance.measured import Example, Varied
from deconvviz.experiments.invariance.names import TRANSFORMS
from deconvviz.experiments.used_images import UsedImages
from deconvviz.figures.spec.panels import Panels
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.printable_names import printable
from deconvviz.provenance import versions
from deconvviz.wording import counted, listed

if TYPE_CHECKING:
    pass

FORMAT = "deconvviz invariance 1"
NAME = "invariance"
TABLE = "invariance.parquet"
NUMBERS = (TABLE,)


@dataclass(frozen=True, eq=False, repr=False)
class Invariance(ExperimentResult[InvarianceStyle, Panels]):
    """How features and the class probability change with the picture. Jupyter shows it as a figure.

    Settings of the figure: ``measure`` (``normalised``, ``distance`` or ``cosine``).

    Attributes:
        network: Facts about the network.
        layers: The L layers, from the first to the top.
        transforms: Names of the transformations.
        amounts: (A,) amounts of each transformation by its name.
        images: Names of the I images.
        classes: Number of the class whose probability is shown, for each image; empty without classes.
        values: Measures of each transformation by its name, with shapes (I, A, ...).
        examples: Transformed pictures for the figure.
        border: What replaces pixels that the image files do not have.
        skipped: Images that could not be used, with the reason.
        used: The images, for the manifest.
        arguments: Arguments that make the result again, as plain JSON values.
    """

    default_style = InvarianceStyle

    network: NetworkInfo
    layers: tuple[Layer, ...]
    transforms: tuple[str, ...]
    amounts: Mapping[str, Floats]
    images: tuple[str, ...]
    classes: tuple[int, ...]
    values: Mapping[str, Varied]
    examples: Mapping[str, tuple[Example, ...]]
    border: str
    skipped: tuple[tuple[str, str], ...] = ()
    used: UsedImages = field(default_factory=UsedImages)
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"<Invariance of {', '.join(layer.name for layer in self.layers)} in {self.network.name}: "
            f"{', '.join(self.transforms)} of {counted(len(self.images), 'image')}>"
        )

    def class_name(self, image: int) -> str:
        """Return the name of the class of an image; empty without classes."""
        if not self.classes:
            return ""
        index = self.classes[image]
        named = self.network.classes
        return named[index] if index < len(named) else f"class {index}"

    def measure(self, name: str, transform: str) -> Floats:
        """Return a measure (I, A, L) of a transformation: see `distances.MEASURES`."""
        return self.values[transform].measures[..., MEASURES.index(name)]

    @cached_property
    def table(self) -> pa.Table:
        """Arrow table with one row for each image, transformation, amount and layer."""
        return pa.concat_tables([self._table(name) for name in self.transforms])

    def _table(self, transform: str) -> pa.Table:
        found, amounts = self.values[transform], self.amounts[transform]
        images, steps, layers = found.measures.shape[:3]

        def known(values: Floats) -> pa.Array:
            flat = np.broadcast_to(values, (images, steps, layers)).ravel()
            return pa.array(flat, pa.float64(), mask=np.isnan(flat))

        each = steps * layers
        return pa.table(
            {
                "image": pa.array(np.repeat(np.array(self.images, object), each), pa.string()),
                "transform": pa.array([transform] * (images * each), pa.string()),
                "amount": known(amounts[None, :, None]),
                "layer": pa.array([layer.name for layer in self.layers] * (images * steps), pa.string()),
                **{name: known(self.measure(name, transform)) for name in MEASURES},
                "probability": known(found.probability[:, :, None]),
                "outside": known(found.outside[:, :, None]),
            }
        )

    def summary(self) -> list[str]:
        """Return for each transformation which layer changes more, and how stable the class is."""
        return sentences(self)

    def _content(self, style: InvarianceStyle) -> Panels:
        return figure_of(self, style)

    def _files_to_write(self) -> ResultFiles:
        return ResultFiles(NAME, {TABLE: self.table})

    def _notes(self) -> list[str]:
        notes = self.summary()
        if self.skipped:
            notes.append(f"skipped: {listed([name for name, _ in self.skipped])}")
        return notes

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return all numbers as NumPy arrays.

        Returns:
            ``images`` (I,), ``layers`` (L,), and for each transformation T: ``T_amount`` (A,);
            ``T_distance``, ``T_normalised``, ``T_cosine`` and ``T_equivariance`` (I, A, L); ``T_probability``
            and ``T_outside`` (I, A). A hyphen in T is an underscore. Unknown numbers are NaN.
        """
        found: dict[str, np.ndarray[Any, Any]] = {
            "images": np.array(self.images),
            "layers": np.array([layer.name for layer in self.layers]),
        }
        for name in self.transforms:
            key = name.replace("-", "_")
            found[f"{key}_amount"] = self.amounts[name]
            found |= {f"{key}_{measure}": self.measure(measure, name) for measure in MEASURES}
            found[f"{key}_probability"] = self.values[name].probability
            found[f"{key}_outside"] = self.values[name].outside
        return found

    def describe(self) -> dict[str, Any]:
        """Return network, layers, images, settings, summary and versions as plain JSON values."""
        used = self.used.to_json()
        for number, one in enumerate(used["pictures"]):
            one["class"] = self.class_name(number) or None
        return {
            "format": FORMAT,
            "network": self.network.to_json(),
            "layers": [{"name": layer.name, "module": layer.module} for layer in self.layers],
            **used,
            "arguments": dict(self.arguments),
            "transforms": [
                {
                    "name": name,
                    "units": TRANSFORMS[name].units,
                    "amounts": self.amounts[name].tolist(),
                    "mean_change": [
                        value if np.isfinite(value) else None for value in mean_change(self, name)
                    ],
                }
                for name in self.transforms
            ],
            "settings": {"border": self.border},
            "skipped": [{"picture": name, "reason": printable(reason)} for name, reason in self.skipped],
            "summary": self.summary(),
            "versions": versions(self.network),
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return the paths of the images and of the user's network file, if any."""
        return {"network": self.network.places(folder), **self.used.places(folder)}
