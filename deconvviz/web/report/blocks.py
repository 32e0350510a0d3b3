"""One result as a block of a report: its content and its template, by the kind of its spec."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from deconvviz.errors import FigureError
from deconvviz.figures.spec.curves import Curves
from deconvviz.figures.spec.measures import MeasuresFigure
from deconvviz.figures.spec.panels import Panels
from deconvviz.figures.spec.sheet import Sheet
from deconvviz.figures.spec.style import DPI
from deconvviz.figures.spec.tile_grid import TileGrid
from deconvviz.figures.spec.top_nine import TopNineFigure
from deconvviz.printable_names import json_text
from deconvviz.results import merged
from deconvviz.web.page import data_uri
from deconvviz.web.report import curves, figure_image, measures, panels, sheet, strongest, tile_grid
from deconvviz.web.report.document import Block, Manifest, Strongest
from deconvviz.web.report.embedded import Embedded
from deconvviz.web.report.strongest import Channel

_LONGEST = 80  # characters of a layer in a file name


@dataclass(frozen=True, eq=False)
class Given:
    """One result with everything that the protocol says about it."""

    number: int  # from 1, in the order given
    result: Any
    spec: Any
    described: Mapping[str, Any]
    places: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The kind of the result in words: ``Top nine`` for `TopNine`."""
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", type(self.result).__name__)
        return words[:1] + words[1:].lower()

    @property
    def title(self) -> tuple[str, ...]:
        """Lines of the figure's title; its kind if it has none."""
        found = getattr(self.spec, "title", ())
        lines = (found,) if isinstance(found, str) else tuple(map(str, found))
        return lines if any(line.strip() for line in lines) else (self.kind,)

    @property
    def layer(self) -> str:
        """Name of the layer; empty if the result is not about a single layer."""
        return str((self.described.get("layer") or {}).get("name", ""))

    @property
    def network(self) -> str:
        """Digest of the network; empty if the result does not name one."""
        return str((self.described.get("network") or {}).get("digest", ""))

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest, as `save` writes it next to a figure."""
        style = getattr(self.spec, "style", None)
        plain = asdict(style) if is_dataclass(style) and not isinstance(style, type) else None
        if plain is not None and "dpi" not in plain:
            plain["dpi"] = DPI.get(plain.get("medium", "screen"), DPI["screen"])
        both: dict[str, Any] = merged(self.described, self.places)
        return {**both, "style": plain}

    @property
    def manifest_file(self) -> str:
        """Name of the manifest as a file, made of letters, digits, dots and dashes."""
        parts = f"{self.number}-{self.kind}-{self.layer}"[:_LONGEST]
        return re.sub(r"[^A-Za-z0-9.]+", "-", parts).strip("-.").lower() + ".json"


def given(number: int, result: Any, folder: Path) -> Given:
    """Return a result with its spec, its description and the paths of its files."""
    found = Given(number, result, result.spec(), result.describe(), result.places(folder))
    try:
        json.dumps(found.manifest, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise FigureError(
            f"result {number} ({found.kind}) has a description that is not plain JSON: {error}"
        ) from error
    return found


def block_of(
    one: Given, embedded: Embedded, cards: Mapping[Channel, Strongest], *, heading: str = ""
) -> Block:
    """Return the block of a result. `cards` are the strongest images of channels, for cards of units."""
    template, content = _content(one, embedded, cards)
    first, *rest = one.title
    return Block(
        f"result-{one.number}",
        heading or f"{one.kind}: {first}",
        heading or " · ".join(filter(None, [one.kind, one.layer])),
        tuple(rest),
        template,
        content,
        _said(one),
        _methods(one.described),
        manifest_of(one),
    )


def manifest_of(one: Given) -> Manifest:
    """Return the manifest of a result as a file."""
    text = json_text(one.manifest)
    return Manifest(one.manifest_file, data_uri("application/json", text.encode("utf-8")))


def _content(one: Given, embedded: Embedded, cards: Mapping[Channel, Strongest]) -> tuple[str, Any]:
    spec = one.spec
    if isinstance(spec, Sheet):
        content: Any = sheet.block_of(spec, one.described, embedded, cards, prefix=f"result-{one.number}")
        return "report_sheet.html", content
    if isinstance(spec, TopNineFigure):
        return "report_strongest.html", strongest.block_of(spec, embedded)
    if isinstance(spec, TileGrid):
        return "report_tile_grid.html", tile_grid.block_of(spec, embedded)
    if isinstance(spec, Curves):
        return "report_curves.html", curves.block_of(spec)
    if isinstance(spec, MeasuresFigure):
        return "report_measures.html", measures.block_of(spec)
    if isinstance(spec, Panels):
        return "report_panels.html", panels.block_of(spec, embedded)
    return "report_figure.html", figure_image.block_of(one.result, " · ".join(one.title), embedded)


def _said(one: Given) -> tuple[str, ...]:
    """Return what the result says in words; nothing if its figure says it."""
    if isinstance(one.spec, MeasuresFigure):
        return ()
    found = [*(one.described.get("summary") or ()), *(one.described.get("warnings") or ())]
    return tuple(map(str, found))


def _methods(described: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return for each method of a comparison its title, and lines about its maps, source and cost."""
    found = []
    for method in described.get("methods") or ():
        if isinstance(method, Mapping) and "title" in method:
            lines = [str(method[key]) for key in ("meaning", "source", "cost") if method.get(key)]
            found.append((str(method["title"]), tuple(lines)))
    return tuple(found)
