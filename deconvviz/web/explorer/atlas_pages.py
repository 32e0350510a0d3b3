"""An atlas that the explorer links: which channels have a page, and the files that it lists."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deconvviz.errors import NetworkError, OutputError
from deconvviz.paths import path_as_typed
from deconvviz.printable_names import printable, printable_path
from deconvviz.web.atlas.addresses import ATLAS, FILES, INDEX, page_of
from deconvviz.web.atlas.records import read_record

if TYPE_CHECKING:
    from deconvviz.network import Network

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".webp": "image/webp",
}


@dataclass(frozen=True)
class AtlasPages:
    """A finished atlas.

    Attributes:
        folder: Folder of the atlas.
        weights: Digest of the weights of its network.
        network: Name of its network.
        pages: For each layer, its channels and the paths of their pages, relative to the folder.
        files: Names of all files, relative to the folder, with forward slashes.
    """

    folder: Path
    weights: str
    network: str
    pages: Mapping[str, Mapping[int, str]]
    files: frozenset[str] = field(repr=False)

    def read(self, name: str) -> tuple[str, bytes] | None:
        """Return media type and content of a file; None if the atlas has no such file.

        Only files that the records of the atlas list are read, and only inside its folder.
        """
        kind = TYPES.get(os.path.splitext(name)[1])
        if kind is None or name not in self.files:
            return None
        try:
            path = (self.folder / name).resolve(strict=True)
            if not path.is_relative_to(self.folder.resolve()):
                return None  # a symbolic link, or a record that was changed
            return kind, path.read_bytes()
        except OSError:
            return None


def check_atlas_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the folder of an atlas. Raises OutputError if it contains no finished atlas."""
    site = Path(path_as_typed(os.fspath(folder)))
    if (site / ATLAS).is_file():
        return site
    shown = printable_path(site)
    if not site.is_dir():
        raise OutputError(
            f"no folder {shown}: {{option}} takes a folder that deconvviz atlas made", option="atlas=SITE"
        )
    raise OutputError(
        f"no finished atlas in {shown}: there is no {ATLAS}. Make one with deconvviz atlas, or finish it "
        "with deconvviz atlas --resume"
    )


def open_atlas(folder: str | os.PathLike[str]) -> AtlasPages:
    """Return the atlas in a folder.

    Raises:
        OutputError: The folder contains no finished atlas, or its records are damaged.
    """
    from deconvviz.web.atlas.plan import FORMAT

    site = check_atlas_folder(folder)
    try:
        record = read_record(site / ATLAS) or {}
        if record["format"] != FORMAT:
            raise OutputError(
                f"the atlas in {printable_path(site)} has the format {str(record['format'])[:40]!r} instead "
                f"of {FORMAT!r}. Make it again with deconvviz atlas --force"
            )
        identity = record["identity"]
        files = {INDEX, ATLAS, *_names(site, FILES)}
        pages: dict[str, dict[int, str]] = {}
        for layer in record["layers"]:
            home = str(layer["folder"])
            found = read_record(site / home / FILES)
            if found is None:
                raise KeyError(home)
            files |= found["files"].keys()
            pages[str(layer["name"])] = {int(one): f"{home}/{page_of(int(one))}" for one in found["channels"]}
        return AtlasPages(site, str(identity["weights"]), str(identity["network"]), pages, frozenset(files))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OutputError(
            f"the atlas in {printable_path(site)} is damaged (see: deconvviz atlas --check). Make it again "
            "with deconvviz atlas --force"
        ) from error


def _names(site: Path, record: str) -> list[str]:
    found = read_record(site / record)
    return [] if found is None else list(found["files"])


def networks_of(atlas: AtlasPages | None, networks: Sequence[Network]) -> list[int]:
    """Return the numbers of the networks that an atlas is of. Raises NetworkError if there is none."""
    if atlas is None:
        return []
    numbers = [number for number, net in enumerate(networks) if net.digest == atlas.weights]
    if not numbers:
        net = networks[0]
        raise NetworkError(
            f"the atlas in {printable_path(atlas.folder)} is of {printable(atlas.network)} with the weights "
            f"{printable(atlas.weights)}, not of {net.name} with the weights {net.digest}. Open the atlas "
            "of this network, or leave out {option}",
            option="atlas=SITE",
        )
    return numbers
