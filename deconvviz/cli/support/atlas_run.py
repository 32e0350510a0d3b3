"""Run ``deconvviz atlas``: make the pages, or check them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deconvviz.cli.support.atlas_progress import AtlasDisplay
from deconvviz.cli.support.console import stage
from deconvviz.cli.support.details import detail_network
from deconvviz.cli.support.notes import print_coverage
from deconvviz.dataset_search.result import Search, open_search
from deconvviz.loading import pick_device
from deconvviz.web.atlas.build import atlas
from deconvviz.web.atlas.site import Atlas


def open_for_atlas(
    folder: Path, *, source: str | None, weights: str | None, device: str, allow_code: bool
) -> Search:
    """Open a search. Raises SearchError."""
    return open_search(
        folder, source=source, weights=weights, device=str(pick_device(device)), allow_code=allow_code
    )


def make_atlas(
    found: Search,
    out: Path,
    layers: Sequence[str] | None,
    display: AtlasDisplay,
    *,
    channels: int | None,
    top: int,
    resume: bool,
    force: bool,
    jobs: int,
    memory: int | None,
    quiet: bool,
) -> Atlas:
    """Make an atlas, and print which operations are approximate."""
    with stage(f"loading {found.manifest['network']['name']}", quiet=quiet):
        network = found.open_network()
    detail_network(network, memory=memory)
    known = [network.layers.find(name) for name in layers or found.layers]
    print_coverage(
        network.coverage([layer for layer in known if not layer.unsupported] or known), known, quiet=quiet
    )
    return atlas(
        found,
        out,
        layers or None,
        channels=channels,
        top=top,
        resume=resume,
        force=force,
        jobs=jobs,
        network=network,
        memory=memory,
        report=display,
    )
