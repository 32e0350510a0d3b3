"""What a folder contains as an atlas: its layers, and whether they are finished."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvviz.dataset_search.plan import decoding_in
from deconvviz.errors import OutputError
from deconvviz.printable_names import printable_path
from deconvviz.web.atlas.addresses import ATLAS, FILES, IMAGES, INDEX, SITE, chunk_of
from deconvviz.web.atlas.plan import FORMAT, LayerPlan, Plan
from deconvviz.web.atlas.records import are_there, read_record, remove
from deconvviz.wording import counted, listed

_CHUNK = re.compile(r"chunk-\d{4,}\.json")


@dataclass(frozen=True)
class Atlas:
    """Atlas that `atlas` made.

    Attributes:
        folder: Folder of the atlas.
        layers: Names of its layers and their numbers of channels with a page.
        notes: Remarks for the user.
    """

    folder: Path
    layers: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def index(self) -> Path:
        """The page to open in a browser."""
        return self.folder / INDEX

    def __repr__(self) -> str:
        units = sum(self.layers.values())
        return f"<Atlas of {counted(units, 'unit')} in {counted(len(self.layers), 'layer')}: {self.index}>"


def layers_in(site: Path) -> list[str]:
    """Return the names of the layers of a finished atlas; nothing if there is none."""
    record = read_record(site / ATLAS)
    return [] if record is None else [str(layer["name"]) for layer in record["layers"]]


def check_same_search(site: Path, identity: Mapping[str, Any]) -> None:
    """Raise OutputError if a folder contains an atlas of another search, or something else."""
    record = read_record(site / ATLAS)
    if record is None:
        return
    if record.get("format") != FORMAT:
        raise OutputError(
            f"{printable_path(site / ATLAS)} is not of an atlas of this version: choose another folder "
            "({option})",
            option="out=FOLDER",
        )
    if different := _differences(record["identity"], identity):
        raise OutputError(
            f"{printable_path(site)} contains the atlas of another search: {different}. Choose another "
            "folder ({option})",
            option="out=FOLDER",
        )


def check_free(site: Path, plan: Plan, *, resume: bool, force: bool) -> None:
    """Raise OutputError if layers of a plan exist and are neither continued nor overwritten."""
    if force:
        return
    started = [layer for layer in plan.layers if records_of(site, layer)]
    if started and not resume:
        finished = [layer.name for layer in started if (site / layer.folder / FILES).exists()]
        what = "already contains" if finished else "contains an unfinished atlas of"
        names = listed(finished or [layer.name for layer in started])
        raise OutputError(
            f"{printable_path(site)} {what} {names}. Continue with {{option}}, make these layers again with "
            "{option}, or choose another folder ({option})",
            option=("resume=True", "force=True", "out=FOLDER"),
        )
    for layer in started:
        for path in records_of(site, layer):
            record = read_record(path) or {}
            if different := _differences(record.get("identity", {}), layer.identity):
                raise OutputError(
                    f"cannot continue {layer.name} in {printable_path(site)}, which was made with other "
                    f"settings: {different}. Make it again with {{option}}, or choose another folder "
                    "({option})",
                    option=("force=True", "out=FOLDER"),
                )


def records_of(site: Path, layer: LayerPlan) -> list[Path]:
    """Return the records of a layer: of the whole layer if it is finished, and of finished chunks."""
    folder = site / layer.folder
    if not folder.is_dir():
        return []
    chunks = [path for path in folder.iterdir() if _CHUNK.fullmatch(path.name)]
    return sorted([*chunks, *([folder / FILES] if (folder / FILES).exists() else [])])


def pending(site: Path, layer: LayerPlan) -> list[int]:
    """Return the numbers of the chunks of a layer whose files are not all there."""
    folder = site / layer.folder
    whole = read_record(folder / FILES)
    if whole is not None and are_there(site, whole["files"]):
        return []
    if whole is not None:
        remove([folder / FILES])
    records = ((number, read_record(folder / chunk_of(number))) for number in range(len(layer.chunks)))
    return [number for number, found in records if found is None or not are_there(site, found["files"])]


def clear(site: Path, layers: Iterable[LayerPlan]) -> None:
    """Delete the files of layers, except for whole images, which other layers may share."""
    for layer in layers:
        for path in reversed(records_of(site, layer)):
            record = read_record(path) or {}
            remove([path])  # first, because it makes the other files invalid
            own = [name.rpartition("/") for name in record.get("files", ())]
            remove(site / folder / name for folder, _, name in own if folder == layer.folder)


def remove_leftovers(site: Path, plan: Plan) -> None:
    """Delete temporary files of killed processes. The caller has locked the atlas."""
    for name in ("", SITE, IMAGES, *(layer.folder for layer in plan.layers)):
        remove((site / name).glob(".deconvviz-*.part"))


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return in words which values differ, or an empty string."""
    plain = json.loads(json.dumps(dict(now)))
    then = {**decoding_in({}), **then}  # atlases by earlier versions do not say how images were decoded
    different = [name for name, value in plain.items() if then.get(name) != value]
    return ", ".join(
        f"{name} {_short(then.get(name))} before, {_short(plain[name])} now" for name in different
    )


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
