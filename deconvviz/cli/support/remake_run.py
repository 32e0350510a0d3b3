"""Run ``deconvviz remake``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deconvviz.cli.support.console import counting
from deconvviz.from_manifest import remake
from deconvviz.loading import pick_device
from deconvviz.projection import Projection


def run(
    manifest: Path,
    out: Path,
    *,
    weights: str | None,
    device: str,
    allow_code: bool,
    format: str,
    dpi: float | None,
    force: bool,
    quiet: bool,
) -> Sequence[Path]:
    """Make the result of a manifest again, and write its files. Return their paths."""
    figure = out / f"{manifest.stem}.{format}"
    with counting(1, quiet=quiet) as counter:
        found = remake(
            manifest,
            weights=weights,
            device=str(pick_device(device)),
            allow_code=allow_code,
            report=counter.reach,
        )
    resolution = found.dpi if dpi is None else dpi
    if isinstance(found.result, Projection):
        return found.result.save(figure, found.style, dpi=resolution, force=force)
    written: Sequence[Path] = found.result.save_into(
        out, found.style, format=format, dpi=resolution, force=force
    )
    return written
