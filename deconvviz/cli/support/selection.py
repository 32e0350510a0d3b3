"""What was asked for on the command line, before anything is known about networks and layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deconvviz.projection import Style


@dataclass(frozen=True)
class Selection:
    """Which units were asked for."""

    layers: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()
    units: tuple[str, ...] = ()  # "C,Y,X" or "C"
    classes: tuple[str, ...] = ()
    top: int | None = None
    whole_channel: bool = False


@dataclass(frozen=True)
class Look:
    """How figures are drawn and written; None: as the default, or as the manifest says."""

    format: str
    arrays: bool = False
    scale: str | None = None
    percentile: float | None = None
    columns: int | None = None
    projection_only: bool | None = None
    dpi: float | None = None

    def style(self, base: Style) -> Style:
        """The options that were given, over those of `base`."""
        given = {
            name: value
            for name in ("scale", "percentile", "columns", "projection_only")
            if (value := getattr(self, name)) is not None
        }
        return replace(base, **given)
