"""Names and checks of the files of a search that need neither torch nor pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deconvviz.errors import OutputError, SearchError, UnitError
from deconvviz.similar_names import nearest
from deconvviz.wording import counted, listed, missing_number

FORMAT = "deconvviz search 3"
FORMAT_2 = "deconvviz search 2"  # without the tables of statistics and of images
FORMAT_1 = "deconvviz search 1"  # like 2; the table of peaks also has peaks of rectified channels that are 0
FORMATS = (FORMAT, FORMAT_2, FORMAT_1)
PEAKS, CHANNELS, SKIPPED, MANIFEST = "top.parquet", "channels.parquet", "skipped.csv", "manifest.json"
STATISTICS, IMAGES = "statistics.parquet", "images.parquet"
CHECKPOINT = "checkpoint.npz"


def no_search(home: Path) -> SearchError:
    """Return the error for a folder without a manifest and without a checkpoint."""
    if str(home) == "-" and not home.is_dir():
        return SearchError(
            "- is standard input, but a search is a folder: "
            "give the folder that a search wrote with {option}",
            option="out=FOLDER",
        )
    reason = f"there is no {MANIFEST}" if home.is_dir() else "there is no such folder"
    return SearchError(
        f"no search in {home}: {reason}. Run a search with {{option}} first", option="out=FOLDER"
    )


def read_manifest(home: Path) -> Mapping[str, Any] | None:
    """Return the manifest of a search; None if it is unfinished or damaged: `open_search` raises the error.

    Raises SearchError if the folder has neither a manifest nor a checkpoint.
    """
    if not (home / MANIFEST).is_file():
        if (home / CHECKPOINT).exists():
            return None
        raise no_search(home)
    try:
        manifest = json.loads((home / MANIFEST).read_text(encoding="utf-8"))
        whole = manifest["format"] in FORMATS and manifest["layers"] and manifest["top"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole else None


def searched_layer(manifest: Mapping[str, Any], name: str) -> str:
    """Return the name of a layer in a search, given any of its names. Raises SearchError."""
    names = [layer["name"] for layer in manifest["layers"]]
    if name in names:
        return name
    for layer in manifest["layers"]:
        if name == layer["module"] or name in layer["also"]:
            return str(layer["name"])
    similar = nearest(name, names)
    existing = f"it has {listed(names, 8)}"
    if similar:
        existing = f"nearest {'are' if len(similar) > 1 else 'is'} {', '.join(similar)}"
    raise SearchError(
        f"no layer {name!r} in this search of {counted(len(names), 'layer')}: {existing}. "
        "Search again with {option}",
        option=f"layer={name}",
    )


def check_channels(layers: Mapping[str, int], layer: str, channels: Iterable[int]) -> None:
    """Raise UnitError if a layer lacks a channel. `layers` has the number of channels of each layer."""
    for channel in channels:
        if not 0 <= channel < layers[layer]:
            raise UnitError(missing_number("channel", channel, layer, layers[layer]))


def refuse_search(folder: Path) -> None:
    """Raise OutputError if there is a finished search in a folder."""
    if (folder / MANIFEST).exists():
        raise OutputError(
            f"{folder} already contains a search. Overwrite it with {{option}}, or choose another folder "
            "({option})",
            option=("force=True", "out=FOLDER"),
        )


def files_of_search(folder: Path) -> Sequence[Path]:
    """Return the files that a search writes into its folder."""
    return [folder / name for name in (PEAKS, CHANNELS, STATISTICS, IMAGES, SKIPPED, MANIFEST)]
