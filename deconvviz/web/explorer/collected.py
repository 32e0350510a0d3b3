"""What a user takes along: figures, arrays, code, commands, a report."""

from __future__ import annotations

import io
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deconvviz.engine.units import Unit
from deconvviz.errors import RequestError
from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.paths import file_part
from deconvviz.printable_names import path_to_text
from deconvviz.projection import Projection
from deconvviz.web.explorer.pictures import Picture

TYPES = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
    "npz": "application/octet-stream",
}


@dataclass(frozen=True)
class Collected:
    """Projected units of one picture."""

    network: Network
    picture: Picture
    projection: Projection

    @property
    def stem(self) -> str:
        """File name without suffix."""
        words = [Path(self.picture.name).stem, self.projection.layer.name]
        return file_part("-".join(words))


def saved(collected: Collected, kind: str) -> tuple[str, str, bytes]:
    """Return name, media type and content of a file: a figure, or the arrays."""
    if kind not in TYPES:
        raise RequestError(f"unknown format {kind[:20]!r}: choose from {', '.join(TYPES)}")
    name = f"{collected.stem}.{kind}"
    if kind == "npz":
        stream = io.BytesIO()
        np.savez_compressed(stream, **collected.projection.arrays())  # type: ignore[arg-type]
        return name, TYPES[kind], stream.getvalue()
    return name, TYPES[kind], _written(name, lambda path: collected.projection.save(path))


def report_of(collected: Sequence[Collected], title: str) -> bytes:
    """Return a report with the projections of all that was collected."""
    from deconvviz.web.report.report import report

    projections = [one.projection for one in collected]
    return _written("report.html", lambda path: report(projections, path, title=title))


def python_code(net: Network, picture: Picture, layer: Layer, units: Sequence[Unit]) -> str:
    """Return lines of Python that project the same units."""
    listed = ", ".join(f"dv.Unit(0, {one.channel}, {one.y}, {one.x})" for one in units)
    model = net.origin.model
    arguments = ", ".join(_load_arguments(net))
    first = f"net = dv.load({arguments})" if model else "# net: the network of this session"
    image = picture.code or repr(picture.name)
    more = ["import deconvviz.scenes"] if image.startswith("deconvviz.scenes") else []
    return "\n".join(
        [
            "import deconvviz as dv",
            *more,
            "",
            first,
            f"rec = net.record({image}, {layer.name!r})",
            f"proj = rec.project({layer.name!r}, [{listed}])",
            'proj.save("projection.png")',
        ]
    )


def shell_command(net: Network, picture: Picture, layer: Layer, units: Sequence[Unit]) -> str:
    """Return the command that projects the same units; empty if there is none."""
    model = net.origin.model
    if model is None:
        return ""
    words = ["deconvviz", "project", str(picture.path) if picture.path else "IMAGE"]
    text = " ".join([shlex.join(words), model.options])
    if net.origin.spec not in (None, "default"):
        text += f" --weights {shlex.quote(path_to_text(str(net.origin.spec)))}"
    text += f" --layer {shlex.quote(layer.name)}"
    for unit in units:
        place = [unit.channel] if unit.y is None or unit.x is None else [unit.channel, unit.y, unit.x]
        text += f" --unit {','.join(map(str, place))}"
    return text


def _load_arguments(net: Network) -> list[str]:
    model, spec = net.origin.model, net.origin.spec
    if model is None:
        return []
    named = [f"{name}={value!r}" for name, value in model.arguments.items()]
    weights = [f"weights={str(spec)!r}"] if spec not in (None, "default") else []
    return [repr(model.text), *weights, *named]


def _written(name: str, write: Callable[[Path], object]) -> bytes:
    """Return the content of a file that `write` writes."""
    with tempfile.TemporaryDirectory(prefix="deconvviz-") as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()
