"""`search`: the strongest pictures of every channel, in one pass over a dataset."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from weakref import ref

from deconvviz.dataset_search import checkpoint as state
from deconvviz.dataset_search import engine_local as local
from deconvviz.dataset_search.checkpoint import Saver, State
from deconvviz.dataset_search.plan import BATCH_SIZE, TOP, Plan, plan
from deconvviz.dataset_search.progress import Progress, Report
from deconvviz.dataset_search.result import Reopening, Search
from deconvviz.dataset_search.resume import batch_size_in, check_free, clear, finished
from deconvviz.dataset_search.search_folder import FORMAT
from deconvviz.dataset_search.tables import channels_table, dead, peaks_table
from deconvviz.errors import SearchError
from deconvviz.folder_lock import locked
from deconvviz.image_sources import Source, open_source
from deconvviz.image_sources.batches import usual_workers
from deconvviz.layers import Layer
from deconvviz.loading import load
from deconvviz.network import Network
from deconvviz.provenance import versions
from deconvviz.results import merged

_LOGGER = logging.getLogger(__name__)
ENGINES = ("local", "ray")
EVERY = 30.0
"""Seconds between checkpoints, at least."""


def search(
    network: Network | str,
    source: str | os.PathLike[str] | Source,
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
    engine: str = "local",
    address: str | None = None,
    every: float = EVERY,
    report: Report | None = None,
) -> Search:
    """Find the `top` pictures that fire each channel of some layers most (paper, section 4, Figure 2).

    One pass; the network runs no further than the deepest layer. A picture counts once for a channel, with
    its highest position; equal peaks are in the order of the pictures' ids. `layers`: layers, their names,
    or ``all``.
    `source` is a folder, a text file of paths, a zip, tar shards, ``hf:NAME`` or ``scenes:COUNT``, or a
    `Source`; with `limit` only the first pictures by id.

    With `out` the result is written there, and a checkpoint now and then (not more often than `every`
    seconds; 0: after every batch), with which `resume` goes on after the process was killed. `workers` processes read pictures
    ahead (0: none; None: as the machine has cores). `report` is called after each batch with a `Progress`.
    With `engine` ``ray`` the same is done on a Ray cluster at `address`, or on this machine.
    Only one search at a time writes into a folder: a second one is refused, as an OutputError.

    Pictures that cannot be read are skipped and told of (`strict`: they are an error). Raises LayerError,
    SourceError, SearchError, ImageError, OutputError.
    """
    if engine not in ENGINES:
        raise SearchError(f"no engine {engine!r}: there are {', '.join(ENGINES)}")
    if address is not None and engine != "ray":
        raise SearchError(f"an address, {address}, goes with the engine ray: {{option}}", option="engine=ray")
    if workers is not None and workers < 0:
        raise SearchError(
            f"{workers} workers were asked for: ask for 0 or more ({{option}})", option="workers=N"
        )
    folder = None if out is None else Path(out)
    if folder is not None:
        check_free(folder, resume=resume, force=force)
    net = load(network) if isinstance(network, str) else network
    pictures = open_source(source, limit=limit)
    size = batch_size_in(folder) if batch_size is None and folder is not None and resume else batch_size
    planned = plan(
        net, pictures, layers, top=top, batch_size=BATCH_SIZE if size is None else size, strict=strict
    )
    planned.check_listed()
    run = partial(_run, engine, address=address, workers=workers, report=report or _silent)
    if folder is None:
        begun = State.begin(planned)
        run(planned, begun, save=_nowhere)
        _check_any_read(begun, pictures)
        return result(planned, begun, engine, None)
    if resume and (found := finished(planned, folder)):  # before the lock: it may be read-only
        return found
    with locked(folder):
        check_free(folder, resume=resume, force=force, alone=True)
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
    """Search, and write the result and the checkpoints into a folder that nobody else writes to."""
    if resume and (found := finished(planned, folder)):  # by another process, a moment ago
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
        state.remove(folder)  # there is nothing in it to go on with
    _check_any_read(begun, planned.source)
    state.write(begun, planned.identity(), folder)  # tables of many layers may take a while
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
    """Look at every image that is left."""
    planned.check_strict(begun.skipped)
    if engine == "ray":
        from deconvviz.dataset_search import engine_ray as on_ray

        on_ray.run(planned, begun, address=address, workers=workers, save=save, report=report)
    else:
        local.run(planned, begun, workers=_workers(workers, planned), save=save, report=report)


def _check_any_read(begun: State, source: Source) -> None:
    """Raise SearchError if not one image could be read."""
    if not begun.top.image_count:
        first = begun.skipped[min(begun.skipped)]
        raise SearchError(f"none of the {len(source)} pictures of {source.place} could be read: {first}")


def result(planned: Plan, state: State, engine: str, folder: Path | None) -> Search:
    """What was found, as tables."""
    source, network = planned.source, planned.network.info()
    lost = [(source.names[number], reason) for number, reason in sorted(state.skipped.items())]
    skipped = tuple(sorted([*source.skipped, *lost]))
    dead_ones = dead(planned.layers, state.top)
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
                "dead": dead_ones[layer.name],
            }
            for layer in planned.layers
        ],
        "top": planned.top,
        "batch_size": planned.batch_size,
        "pictures": state.top.image_count,
        "skipped": len(skipped),
        "engine": engine,
        "versions": versions(network),
    }
    return Search(
        peaks_table(planned, state.top),
        channels_table(planned, state.top),
        manifest,
        skipped,
        folder,
        Reopening(searched=ref(planned.network), source=source),
    )


def _other_names(network: Network, layer: Layer) -> list[str]:
    """Of the layers after it that give the very same tensor."""
    same = [one for one in network.layers if one.same_as == layer.name]
    return list(dict.fromkeys(name for one in same for name in (one.name, one.module) if name))


def _begin(planned: Plan, folder: Path, *, resume: bool) -> State:
    """What a search that was broken off has found, or nothing yet."""
    there = state.read(planned, folder) if resume else None
    return there or State.begin(planned)


def _workers(asked: int | None, planned: Plan) -> int:
    """Processes that read, no more than there are batches."""
    return min(usual_workers() if asked is None else asked, len(planned.batches))


def _nowhere(state: State) -> None:
    """Nothing is written down."""


def _silent(progress: Progress) -> None:
    """Nobody asks how far it is."""
