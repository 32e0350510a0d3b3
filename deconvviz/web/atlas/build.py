"""`atlas`: a folder of static pages with one page for each channel of a search."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from deconvviz.dataset_search.result import Search, open_search
from deconvviz.errors import OutputError, RefusedOp, SearchError, UnitError
from deconvviz.folder_lock import check_unlocked, locked
from deconvviz.image_sources import Source
from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.web.atlas import site as sites
from deconvviz.web.atlas.chunk import Context
from deconvviz.web.atlas.finish import finish
from deconvviz.web.atlas.plan import TOP, Plan, plan
from deconvviz.web.atlas.progress import AtlasProgress, Report
from deconvviz.web.atlas.relatives import Relatives
from deconvviz.web.atlas.site import Atlas, layers_in
from deconvviz.web.atlas.workers import make_here, make_in_processes, one_thread
from deconvviz.wording import listed


def atlas(
    found: Search | str | os.PathLike[str],
    out: str | os.PathLike[str],
    layers: str | Layer | Iterable[str | Layer] | None = None,
    *,
    channels: int | None = None,
    top: int = TOP,
    resume: bool = False,
    force: bool = False,
    jobs: int = 1,
    source: Source | str | os.PathLike[str] | None = None,
    network: Network | None = None,
    memory: int | None = None,
    report: Report | None = None,
) -> Atlas:
    """Make an atlas: a folder of static pages with one page for each channel of a search.

    ``index.html`` shows the layers, ``LAYER/index.html`` all channels of a layer, and ``LAYER/CHANNEL.html``
    one channel. The pages open in a browser without a server and load nothing from outside. Layers can be
    added to the atlas of the same images and weights.

    The result depends neither on the number of processes nor on interruptions.

    Args:
        found: Search, or the folder of one.
        out: Folder of the atlas.
        layers: Layers to make. None takes all searched layers that can be projected.
        channels: Number of channels of each layer, those with the largest maximum. None takes all.
        top: Number of images for each channel. Fewer are shown if the channel is active on fewer.
        resume: Continue an interrupted atlas. Layers that are finished are left as they are.
        force: Make layers again that the atlas contains.
        jobs: Number of processes that project. A program that uses more than one needs
            ``if __name__ == "__main__":``.
        source: Current location of the images. None uses that of the search.
        network: Network of the search. None opens it again.
        memory: Memory in bytes for projecting units in one batch.
        report: Called with an `AtlasProgress` after each batch of images.

    Returns:
        Atlas: The folder and its layers.

    Raises:
        SearchError: A layer was not searched, `top` is too large, or an activation does not match the search.
        RefusedOp: A named layer cannot be projected.
        UnitError: A number is below 1.
        OutputError: The folder contains one of the layers, or an atlas of another search; it cannot be
            written; or another process is writing into it.
    """
    if jobs < 1:
        raise UnitError(
            f"invalid number of processes {jobs}: it must be 1 or more ({{option}})", option="jobs=N"
        )
    if resume and force:
        raise OutputError(
            "{option} continues an atlas and {option} makes its layers again: give only one of them",
            option=("resume=True", "force=True"),
        )
    site = Path(out)
    search = _opened(found, source, network)
    check_unlocked(site)
    named = [layers] if isinstance(layers, (str, Layer)) else layers
    existing = layers_in(site)
    planned = plan(search, named, channels, top, existing)
    _check_site(site, planned, resume=resume, force=force)
    net = search.open_network() if network is None else network
    _check_weights(search, net)
    planned, notes = _projectable(planned, net, named_by_user=named is not None)
    with locked(site), one_thread():
        existing = layers_in(site)
        _check_site(site, planned, resume=resume, force=force)
        sites.remove_leftovers(site, planned)
        if force:
            sites.clear(site, planned.layers)
        context = Context(search, net, site, planned.k, memory, Relatives(net, list(search.layers)))
        made = _make(context, planned, existing, jobs, report or _no_report)
    return Atlas(site, made, notes)


def _opened(
    found: Search | str | os.PathLike[str],
    source: Source | str | os.PathLike[str] | None,
    network: Network | None,
) -> Search:
    if not isinstance(found, Search):
        return open_search(found, source=source, network=network)
    moved = source if source is None or isinstance(source, Source) else os.fspath(source)
    how = found.reopening if moved is None else replace(found.reopening, source=moved)
    return replace(found, reopening=how if network is None else replace(how, network=network))


def _check_weights(search: Search, network: Network) -> None:
    """Raise SearchError if the weights of a network are not those of a search."""
    expected = search.manifest["network"]["digest"]
    if network.digest != expected:
        raise SearchError(
            f"the weights of {network.name} are not those of the search: {network.digest} instead of "
            f"{expected}"
        )


def _check_site(site: Path, planned: Plan, *, resume: bool, force: bool) -> None:
    sites.check_same_search(site, planned.identity)
    sites.check_free(site, planned, resume=resume, force=force)


def _projectable(planned: Plan, network: Network, *, named_by_user: bool) -> tuple[Plan, tuple[str, ...]]:
    """Return the plan without layers that cannot be projected, and a note on them.

    Raises RefusedOp if the user named such a layer, or if no layer remains.
    """
    why = {layer.name: network.layers.find(layer.name).unsupported for layer in planned.layers}
    refused = [name for name, reason in why.items() if reason]
    if refused and (named_by_user or len(refused) == len(why)):
        raise RefusedOp(f"{refused[0]} cannot be projected: {why[refused[0]]}")
    notes = (f"{listed(refused)} cannot be projected and are left out",) if refused else ()
    return replace(planned, layers=tuple(one for one in planned.layers if not why[one.name])), notes


def _make(context: Context, planned: Plan, existing: list[str], jobs: int, report: Report) -> dict[str, int]:
    """Project what is missing, and write the pages."""
    pending = {layer.name: sites.pending(context.site, layer) for layer in planned.layers}
    tasks = [(layer, number) for layer in planned.layers for number in pending[layer.name]]
    missing = sum(len(layer.chunks[number]) for layer, number in tasks)
    progress = AtlasProgress(planned.units, done=planned.units - missing)
    if jobs > 1 and len(tasks) > 1:
        make_in_processes(context, planned, tasks, min(jobs, len(tasks)), progress, report)
    else:
        make_here(context, tasks, progress, report)
    begun = time.perf_counter()

    def step() -> None:
        nonlocal begun
        now = time.perf_counter()
        progress.pages += 1
        progress.other += now - begun
        begun = now
        report(progress)

    return finish(context.site, context.found, context.network, planned, existing, step)


def _no_report(progress: AtlasProgress) -> None:
    """Report no progress."""
