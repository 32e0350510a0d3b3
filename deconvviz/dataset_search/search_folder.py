"""The folder of a search, as far as it can be checked without torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deconvviz.errors import OutputError, SearchError, UnitError
from deconvviz.similar_names import nearest
from deconvviz.wording import counted, missing_number

FORMAT = "deconvviz search 2"
OLDER_FORMAT = "deconvviz search 1"  # with rows for peaks that are 0
PEAKS, CHANNELS, SKIPPED, MANIFEST = "top.parquet", "channels.parquet", "skipped.csv", "manifest.json"
CHECKPOINT = "checkpoint.npz"


def no_search(home: Path) -> SearchError:
    """Return the error for a folder without a manifest and without a checkpoint."""
    if str(home) == "-" and not home.is_dir():
        return SearchError(
            "- is standard input, and a search is a folder: "
            "give the folder that a search wrote with {option}",
            option="out=FOLDER",
        )
    lacks = f"there is no {MANIFEST}" if home.is_dir() else "there is no such folder"
    return SearchError(
        f"no search in {home}: {lacks} (a search makes one with {{option}})", option="out=FOLDER"
    )


def read_manifest(home: Path) -> Mapping[str, Any] | None:
    """Return the manifest of a search; None for one that `open_search` has to explain.

    Raises SearchError where there never was a search.
    """
    if not (home / MANIFEST).is_file():
        if (home / CHECKPOINT).exists():
            return None
        raise no_search(home)
    try:
        manifest = json.loads((home / MANIFEST).read_text(encoding="utf-8"))
        whole = manifest["format"] in (FORMAT, OLDER_FORMAT) and manifest["layers"] and manifest["top"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole else None


def searched_layer(manifest: Mapping[str, Any], asked: str) -> str:
    """Return the name of a layer in a search, given either of its names. Raises SearchError."""
    there = [layer["name"] for layer in manifest["layers"]]
    if asked in there:
        return asked
    for layer in manifest["layers"]:
        if asked == layer["module"] or asked in layer["also"]:
            return str(layer["name"])
    some = nearest(asked, there) or there[:8]
    raise SearchError(
        f"no layer {asked!r} in this search of {counted(len(there), 'layer')}: there is "
        f"{', '.join(some)} (search again with {{option}} for it)",
        option=f"layer={asked}",
    )


def check_channels(layers: Mapping[str, int], layer: str, channels: Iterable[int]) -> None:
    """Raise UnitError for a channel that a layer does not have; `layers` has how many each has."""
    for channel in channels:
        if not 0 <= channel < layers[layer]:
            raise UnitError(missing_number("channel", channel, layer, layers[layer]))


def refuse_search(folder: Path) -> None:
    """Raise OutputError if there is a finished search in a folder."""
    if (folder / MANIFEST).exists():
        raise OutputError(
            f"{folder} holds a search already and is left as it is; overwrite it with {{option}} "
            "or choose another folder ({option})",
            option=("force=True", "out=FOLDER"),
        )


def files_of_search(folder: Path) -> Sequence[Path]:
    """Return the files that a search writes into its folder."""
    return [folder / name for name in (PEAKS, CHANNELS, SKIPPED, MANIFEST)]
