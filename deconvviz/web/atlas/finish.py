"""Pages of an atlas, made from the numbers and tiles of its finished layers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvviz.dataset_search.result import Search
from deconvviz.errors import OutputError
from deconvviz.files import write_text
from deconvviz.network import Network
from deconvviz.printable_names import path_from_text, path_to_text, printable_path
from deconvviz.web.atlas.addresses import ATLAS, FILES, INDEX, STYLE, chunk_of, numbers_of, page_of
from deconvviz.web.atlas.index_page import Best, IndexPlace, LayerEntry, index_page
from deconvviz.web.atlas.layer_page import LayerPlace, layer_page, sheets_of
from deconvviz.web.atlas.plan import FORMAT, LayerPlan, Plan
from deconvviz.web.atlas.records import (
    are_there,
    damaged,
    entry_of,
    read_record,
    remove,
    write_file,
    write_record,
)
from deconvviz.web.atlas.unit import UnitNumbers
from deconvviz.web.atlas.unit_page import Place, unit_page
from deconvviz.web.page import asset


@dataclass(frozen=True)
class FinishedLayer:
    """A layer whose channels are all projected, and what the pages of other layers need of it."""

    name: str
    folder: str
    channels: tuple[int, ...]
    total: int
    lacks: tuple[str, ...]
    identity: Mapping[str, Any]
    chunks: int  # number of its chunk records; 0 if its pages were written before
    files: Mapping[str, Mapping[str, Any]]  # images, tiles and numbers
    tiles: Mapping[int, Mapping[str, Any] | None]
    dead: int
    best: Best | None
    related: tuple[str, ...]  # layers that its numbers name


def finish(
    site: Path, found: Search, network: Network, plan: Plan, existing: Sequence[str], step: Callable[[], None]
) -> dict[str, int]:
    """Write all pages, and return the number of channels of each layer.

    Pages of layers that were in the atlas before are written again only if their links change.

    Args:
        site: Folder of the atlas.
        found: The search.
        network: The network.
        plan: The layers whose channels were projected now.
        existing: Names of the layers of the atlas so far.
        step: Called for each unit whose page is written.
    """
    new = {layer.name: _from_chunks(site, found, layer) for layer in plan.layers}
    old = [_from_record(site, name, folder) for name, folder in _old_folders(site, existing, new)]
    order = {name: row for row, name in enumerate(layer.name for layer in network.layers)}
    layers = sorted([*new.values(), *old], key=lambda one: (order.get(one.name, len(order)), one.name))
    units = {layer.name: (layer.folder, layer.tiles) for layer in layers}
    for number, layer in enumerate(layers):
        around = (
            layers[number - 1] if number else None,
            layers[number + 1] if number + 1 < len(layers) else None,
        )
        _write_layer(site, found, network, layer, units, around, step if layer.name in new else _no_step)
    _write_index(site, found, network, plan, layers)
    return {layer.name: len(layer.channels) for layer in layers}


def _old_folders(site: Path, existing: Sequence[str], new: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    record = read_record(site / ATLAS) or {"layers": []}
    folders = {layer["name"]: layer["folder"] for layer in record["layers"]}
    yield from ((name, folders[name]) for name in existing if name not in new)


def _from_chunks(site: Path, found: Search, layer: LayerPlan) -> FinishedLayer:
    """Return a layer from its own record if it was finished before, else from those of its chunks."""
    if (site / layer.folder / FILES).exists():
        return _from_record(site, layer.name, layer.folder)
    files: dict[str, Any] = {}
    for number in range(len(layer.chunks)):
        path = site / layer.folder / chunk_of(number)
        record = read_record(path)
        if record is None:
            raise damaged(path)
        files |= record["files"]
    return _finished(
        site,
        {
            "layer": layer.name,
            "folder": layer.folder,
            "channels": list(layer.channels),
            "total": found.layers[layer.name],
            "lacks": list(found.lacks),
            "identity": dict(layer.identity),
            "files": files,
        },
        len(layer.chunks),
    )


def _from_record(site: Path, name: str, folder: str) -> FinishedLayer:
    record = read_record(site / folder / FILES)
    if record is None:
        raise OutputError(
            f"{printable_path(site / folder / FILES)} is missing, so {name} cannot be kept in the atlas. "
            "Make it again with {option}",
            option="force=True",
        )
    return _finished(site, record, 0)


def _finished(site: Path, record: Mapping[str, Any], chunks: int) -> FinishedLayer:
    tiles: dict[int, Mapping[str, Any] | None] = {}
    dead, best, related = 0, None, set()
    for unit in read_units(site, record["folder"], record["channels"]):
        tiles[unit["channel"]] = unit["tiles"]
        dead += bool(unit["dead"])
        related |= {one["layer"] for one in (*unit["below"], *unit["above"])}
        if unit["tiles"] is not None and (best is None or unit["maximum"] > best.maximum):
            best = Best(unit["channel"], unit["class"], unit["maximum"], unit["tiles"])
    kept = {numbers_of(channel) for channel in tiles}
    return FinishedLayer(
        name=record["layer"],
        folder=record["folder"],
        channels=tuple(record["channels"]),
        total=record["total"],
        lacks=tuple(record["lacks"]),
        identity=record["identity"],
        chunks=chunks,
        files={
            name: entry
            for name, entry in record["files"].items()
            if name.rpartition("/")[2] in kept or _is_made_by_chunk(name, record["folder"])
        },
        tiles=tiles,
        dead=dead,
        best=best,
        related=tuple(sorted(related)),
    )


def _is_made_by_chunk(name: str, folder: str) -> bool:
    """Return whether a file is a whole image or the tiles of a channel."""
    parent, _, file = name.rpartition("/")
    return file.endswith(".webp") and (parent != folder or file.removesuffix(".webp").isdigit())


def read_units(site: Path, folder: str, channels: Sequence[int]) -> Iterator[UnitNumbers]:
    """Yield the numbers of channels. Raises OutputError if a file is missing or damaged."""
    for channel in channels:
        path = site / folder / numbers_of(channel)
        try:
            yield json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise damaged(path) from error


def _write_layer(
    site: Path,
    found: Search,
    network: Network,
    one: FinishedLayer,
    units: Mapping[str, tuple[str, Mapping[int, Mapping[str, Any] | None]]],
    around: tuple[FinishedLayer | None, FinishedLayer | None],
    step: Callable[[], None],
) -> None:
    """Write the pages of a layer, and its record last. Nothing is written if they would be the same."""
    before, after = ((other.name, other.folder) if other else None for other in around)
    links = {
        "related": {name: _digest(units[name][1]) for name in one.related if name in units},
        "previous": list(before) if before else None,
        "next": list(after) if after else None,
    }
    path = site / one.folder / FILES
    record = read_record(path)
    if record is not None and record["links"] == links and are_there(site, record["files"]):
        for _ in one.channels:
            step()
        return
    layer, files = network.layers.find(one.name), dict(one.files)

    def write(name: str, data: bytes) -> None:
        files[f"{one.folder}/{name}"] = write_file(site / one.folder / name, data)

    height, width = network.preprocessing.shape[1:]
    place = Place(layer, one.folder, one.channels, units, (height, width), source_name(found), one.lacks)
    numbers = list(read_units(site, one.folder, one.channels))
    for unit in numbers:
        write(page_of(unit["channel"]), unit_page(unit, place).encode("utf-8"))
        step()
    for name, data in sheets_of(site, one.folder, numbers):
        write(name, data)
    approximate = network.coverage(layer)
    of_layer = LayerPlace(
        layer, one.total, approximate.line() if approximate.approximate else "", before, after, one.lacks
    )
    write(INDEX, layer_page(numbers, of_layer).encode("utf-8"))
    write_record(
        path,
        {
            "format": FORMAT,
            "layer": one.name,
            "folder": one.folder,
            "channels": list(one.channels),
            "total": one.total,
            "lacks": list(one.lacks),
            "identity": dict(one.identity),
            "links": links,
            "files": dict(sorted(files.items())),
        },
    )
    remove(site / one.folder / chunk_of(number) for number in range(one.chunks))


def _write_index(
    site: Path, found: Search, network: Network, plan: Plan, layers: Sequence[FinishedLayer]
) -> None:
    """Write index, style sheet and the records of the whole atlas."""
    height, width = network.preprocessing.shape[1:]
    names = {layer.name for layer in layers}
    entries = [
        LayerEntry(
            network.layers.find(one.name), one.folder, len(one.channels), one.total, one.dead, one.best
        )
        for one in layers
    ]
    place = IndexPlace(
        network=network.name,
        weights=found.manifest["network"]["digest"],
        source=source_name(found),
        images=found.image_count,
        scaled_decoding=found.scaled_decoding,
        image_size=(height, width),
        absent=[name for name in found.layers if name not in names],
        lacks=tuple(sorted({name for one in layers for name in one.lacks})),
    )
    texts = {
        STYLE: asset("base.css") + asset("atlas.css"),
        INDEX: index_page(entries, place),
        ATLAS: json.dumps(
            {
                "format": FORMAT,
                "identity": dict(plan.identity),
                "layers": [
                    {"name": one.name, "folder": one.folder, "channels": len(one.channels), "dead": one.dead}
                    for one in layers
                ],
            },
            indent=1,
        )
        + "\n",
    }
    for name, text in texts.items():
        write_text(site / name, text, force=True)
    files = {name: entry_of(text.encode("utf-8")) for name, text in texts.items()}
    write_record(site / FILES, {"format": FORMAT, "files": files})


def _digest(tiles: Mapping[int, Mapping[str, Any] | None]) -> str:
    """Return a digest of the channels of a layer and their tiles, to which pages of other layers link."""
    return hashlib.sha256(json.dumps(sorted(tiles.items())).encode()).hexdigest()


def _no_step() -> None:
    """Report no progress."""


def source_name(found: Search) -> str:
    """Return the name of the source without its folder, which other people do not have."""
    place = str(found.manifest["source"]["place"])
    if "/" not in place and "\\" not in place:
        return place
    return path_to_text(Path(path_from_text(place)).name)
