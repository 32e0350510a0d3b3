"""`search`: find the strongest images of every channel in one pass over a dataset."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from weakref import ref

from deconvviz.dataset_search import checkpoint as state
from deconvviz.dataset_search import engine_local as local
from deconvviz.dataset_search.checkpoint import Saver, State
from deconvviz.dataset_search.plan import BATCH_SIZE, TOP, Plan, plan
from deconvviz.dataset_search.progress import Progress, Report
from deconvviz.dataset_search.result import Reopening, Search
from deconvviz.dataset_search.resume import batch_size_in, check_free, clear, finished
from deconvviz.dataset_search.search_folder import FORMAT
from deconvviz.dataset_search.tables import channels_table, dead, images_table, peaks_table, statistics_table
from deconvviz.errors import SearchError
from deconvviz.folder_lock import locked
from deconvviz.image_sources import Given, Source, open_source
from deconvviz.image_sources.batches import usual_workers
from deconvviz.images.network_files import files_of
from deconvviz.layers import Layer
from deconvviz.loading import load
from deconvviz.network import Network
from deconvviz.notebook_bar import or_bar
from deconvviz.provenance import versions
from deconvviz.results import merged

_LOGGER = logging.getLogger(__name__)
ENGINES = ("local", "ray")
EVERY = 30.0
"""Minimum number of seconds between checkpoints."""


def search(
    network: Network | str,
    source: Given,
    layers: str | Layer | Iterable[str | Layer],
    *,
    top: int = TOP,
    out: str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    limit: int | None = None,
    resume: bool = False,
    force: bool = False,
    strict: bool = False,
    scaled_decoding: bool = False,
    engine: str = "local",
    address: str | None = None,
    every: float = EVERY,
    report: Report | None = None,
) -> Search:
    """Find the images in a dataset that activate each channel most strongly (paper, section 4, Figure 2).

    The search makes one pass over the images, and the network runs no further than the deepest layer. Each
    image counts at most once for a channel, with its strongest position. Equal peaks are ordered by image id.

    Args:
        network: Network or its name.
        source: Folder, text file of paths, zip file, tar shards, ``hf:NAME``, ``scenes:COUNT``, a `Source`,
            or a sequence of images or arrays. For a network that reads signals, volumes, video or bands, they
            have the files that `Network.record` reads, cut or padded to its shape.
        layers: Layers, names of layers or ``all``.
        top: Number of images to keep for each channel.
        out: Folder for the result and for checkpoints. None writes no files.
        batch_size: Number of images in one forward pass. None is 32, or the batch size of the search that is
            resumed.
        workers: Number of processes that load images. 0 loads them in this process; None depends on the
            number of cores.
        limit: Use only the first images by id.
        resume: Continue an interrupted search in `out`, or return a finished one.
        force: Overwrite existing results in `out`.
        strict: Raise ImageError if an image cannot be read. Otherwise it is skipped and listed in the result.
        scaled_decoding: Decode large JPEG files at 1/2, 1/4 or 1/8 of their size, where they stay at least
            twice as large as the image that they are then resized to. Reading is faster, and activations
            differ slightly.
        engine: ``local``, or ``ray`` for a Ray cluster.
        address: Address of the Ray cluster. None uses the cluster that the program is connected to, or
            starts Ray on this machine.
        every: Minimum number of seconds between checkpoints. 0 writes one after each batch.
        report: Called after each batch with a `Progress`. Default: a bar in a notebook, else nothing.

    Returns:
        Search: The result, also written to `out`.

    Raises:
        LayerError: A layer does not exist, has no channels or was not reached.
        SourceError: The source cannot be opened or has no images.
        SearchError: The options do not fit together, or no image could be read.
        ImageError: An image cannot be read and `strict` is set.
        OutputError: The folder contains other results, cannot be written, or another process is writing into
            it.

    Example:
        >>> found = dv.search("minivgg", "scenes:12", ["conv4_2"], workers=0)
        >>> [peak.image_id for peak in found.top("conv4_2", 42)[:3]]
        ['scene-000005', ...]
    """
    if engine not in ENGINES:
        raise SearchError(f"unknown engine {engine!r}: choose from {', '.join(ENGINES)}")
    if address is not None and engine != "ray":
        raise SearchError(f"address {address} needs the engine ray ({{option}})", option="engine=ray")
    if workers is not None and workers < 0:
        raise SearchError(
            f"invalid number of workers {workers}: it must be 0 or more ({{option}})", option="workers=N"
        )
    folder = None if out is None else Path(out)
    if folder is not None:
        check_free(folder, resume=resume, force=force)
    net = load(network) if isinstance(network, str) else network
    images = open_source(source, limit=limit, files=files_of(net.preprocessing, net.name))
    size = batch_size_in(folder) if batch_size is None and folder is not None and resume else batch_size
    planned = plan(
        net,
        images,
        layers,
        top=top,
        batch_size=BATCH_SIZE if size is None else size,
        strict=strict,
        scaled_decoding=scaled_decoding,
    )
    planned.check_listed()
    run = partial(_run, engine, address=address, workers=workers, report=report or _bar())
    if folder is None:
        begun = State.begin(planned)
        run(planned, begun, save=_no_checkpoint)
        _check_any_read(begun, images)
        return result(planned, begun, engine, None)
    if resume and (found := finished(planned, folder)):  # before the lock: the folder may be read-only
        return found
    with locked(folder):
        check_free(folder, resume=resume, force=force, has_lock=True)
        return _search_into(folder, planned, run, engine, resume=resume, force=force, every=every)


def _search_into(
    folder: Path,
    planned: Plan,
    run: Callable[..., None],
    engine: str,
    *,
    resume: bool,
    force: bool,
    every: float,
) -> Search:
    """Search, and write checkpoints and the result into a folder that the caller has locked."""
    if resume and (
        found := finished(planned, folder)
    ):  # finished by another process before this one got the lock
        return found
    if force:
        clear(folder)
    _LOGGER.debug("batch size: %d images in %d batches", planned.batch_size, len(planned.batches))
    begun = _begin(planned, folder, resume=resume)
    planned.check_strict(begun.skipped)
    save = Saver(planned, folder, every)
    save(begun)
    run(planned, begun, save=save)
    if not begun.top.image_count:
        state.remove(folder)  # it contains nothing to resume
    _check_any_read(begun, planned.source)
    state.write(begun, planned.identity(), folder)  # the tables of many layers may take a while
    done = result(planned, begun, engine, folder)
    done.write_into(folder, force=True)
    state.remove(folder)
    return done


def _run(
    engine: str,
    planned: Plan,
    begun: State,
    *,
    address: str | None,
    workers: int | None,
    save: Callable[[State], None],
    report: Report,
) -> None:
    """Process all remaining images with one of the engines."""
    planned.check_strict(begun.skipped)
    if engine == "ray":
        from deconvviz.dataset_search import engine_ray as on_ray

        on_ray.run(planned, begun, address=address, workers=workers, save=save, report=report)
    else:
        local.run(planned, begun, workers=_workers(workers, planned), save=save, report=report)


def _check_any_read(begun: State, source: Source) -> None:
    """Raise SearchError if no image could be read."""
    if not begun.top.image_count:
        first = begun.skipped[min(begun.skipped)]
        raise SearchError(
            f"none of the {len(source)} {source.files.noun}s in {source.place} could be read: {first}"
        )


def result(planned: Plan, state: State, engine: str, folder: Path | None) -> Search:
    """Return the result of a search with its tables and manifest."""
    source, network = planned.source, planned.network.info()
    unread = [(source.names[index], reason) for index, reason in sorted(state.skipped.items())]
    skipped = tuple(sorted([*source.skipped, *unread]))
    dead_channels = dead(planned.layers, state.top)
    manifest = {
        "format": FORMAT,
        "network": merged(network.to_json(), network.places(folder or Path())),
        "source": source.describe(),
        "layers": [
            {
                "name": layer.name,
                "module": layer.module,
                "also": _other_names(planned.network, layer),
                "channels": layer.shape[0],
                "dead": dead_channels[layer.name],
            }
            for layer in planned.layers
        ],
        "top": planned.top,
        "batch_size": planned.batch_size,
        "scaled_decoding": planned.scaled_decoding,
        "labels": _described_labels(planned),
        "pictures": state.top.image_count,
        "skipped": len(skipped),
        "engine": engine,
        "versions": versions(network),
    }
    return Search(
        peaks_table(planned, state.top),
        channels_table(planned, state.top),
        statistics_table(planned, state.top, state.summary),
        images_table(planned, state.skipped),
        manifest,
        skipped,
        folder,
        Reopening(searched=ref(planned.network), source=source),
    )


def _described_labels(planned: Plan) -> dict[str, Any]:
    """Return the numbers of classes and of images with a label, and the digest of the labels."""
    labels = planned.labels
    if labels is None:
        return {"classes": 0, "images": 0, "digest": None}
    return {"classes": len(labels.names), "images": labels.known, "digest": labels.digest}


def _other_names(network: Network, layer: Layer) -> list[str]:
    """Return the names of later layers that output the same tensor."""
    same = [other for other in network.layers if other.same_as == layer.name]
    return list(dict.fromkeys(name for other in same for name in (other.name, other.module) if name))


def _begin(planned: Plan, folder: Path, *, resume: bool) -> State:
    """Return the state of the interrupted search if it is resumed, else an empty state."""
    saved = state.read(planned, folder) if resume else None
    return saved or State.begin(planned)


def _workers(requested: int | None, planned: Plan) -> int:
    """Return the number of processes that load images, at most one for each batch."""
    return min(usual_workers() if requested is None else requested, len(planned.batches))


def _no_checkpoint(state: State) -> None:
    """Write no checkpoint."""


def _bar() -> Report:
    """Return a progress bar in a notebook, and elsewhere a callback that does nothing."""
    bar = or_bar(None, "searching images")

    def report(progress: Progress) -> None:
        if bar is not None:
            bar(progress.done, progress.total)

    return report
