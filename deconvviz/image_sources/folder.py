"""A folder and its subfolders as a source of images.

Every file with the suffix of an image format is an image. Hidden files and folders are ignored.
"""

from __future__ import annotations

import heapq
import os
from dataclasses import dataclass, field

import numpy as np

from deconvviz.errors import SourceError
from deconvviz.image_sources.image_files import SeparateFiles, check_file
from deconvviz.image_sources.image_ids import sorted_once
from deconvviz.images.input_files import InputFiles
from deconvviz.paths import reason_of
from deconvviz.printable_names import path_to_text
from deconvviz.wording import counted

TAR = ".tar"
_MACOS_METADATA = "__MACOSX"  # folder that macOS adds to archives


class Folder(SeparateFiles):
    """Images in a folder and its subfolders. The id of an image is its path below the folder."""

    kind = "folder"


@dataclass
class Listing:
    """Files below a folder. Paths are relative to the folder, with '/' as separator."""

    images: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    tars: list[str] = field(default_factory=list)
    other_count: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


def is_hidden(path: str) -> bool:
    """Return True if any part of a path in a folder or archive is hidden."""
    return any(
        part == _MACOS_METADATA or (part[:1] == "." and part not in (".", "..")) for part in path.split("/")
    )


def is_input(path: str, files: InputFiles) -> bool:
    return files.fit(path) and not is_hidden(path)


def list_folder(folder: str, kind: InputFiles) -> Listing:
    """Return all files below a folder. Raises SourceError if the folder itself cannot be read.

    Each folder is entered once: by its own path if that is below `folder`, otherwise by the first link to it
    in alphabetical order. Listing therefore ends even if links form a loop, and the ids do not depend on the
    order in which the system lists entries.
    """
    listing, entered = Listing(), set[tuple[int, int]]()
    subfolders, links = [""], list[str]()
    while subfolders or links:
        subfolder = subfolders.pop() if subfolders else heapq.heappop(links)
        try:
            status = os.stat(os.path.join(folder, subfolder))
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(os.path.join(folder, subfolder)) as entries:
                for entry in entries:
                    if not is_hidden(entry.name):
                        _add_entry(entry, f"{subfolder}{entry.name}", listing, subfolders, links, kind)
        except OSError as reason:
            if not subfolder:
                raise SourceError(f"the folder {folder} cannot be read: {reason_of(reason)}") from reason
            listing.skipped.append(
                (path_to_text(subfolder), f"the folder cannot be read: {reason_of(reason)}")
            )
    return listing


def _add_entry(
    entry: os.DirEntry[str],
    path: str,
    listing: Listing,
    subfolders: list[str],
    links: list[str],
    kind: InputFiles,
) -> None:
    if _is_folder(entry):
        if entry.is_symlink():
            heapq.heappush(links, path + "/")
        else:
            subfolders.append(path + "/")
    elif kind.fit(entry.name):
        check = check_file(entry)
        if check.problem:
            listing.skipped.append((path_to_text(path), check.problem))
        else:
            listing.images.append(path)
            listing.sizes.append(check.size)
    elif entry.name.lower().endswith(TAR):
        listing.tars.append(path)
    else:
        listing.other_count += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # for example a link to itself
        return False


def folder_of(place: str, listing: Listing, kind: InputFiles) -> Folder:
    """Return the source of the listed images. Raises SourceError if there are none."""
    if not listing.images:
        raise SourceError(_no_images_message(place, listing, kind))
    names, order, _ = sorted_once([path_to_text(path) for path in listing.images])
    sizes = np.array(listing.sizes, np.int64)[order]
    return Folder(place, os.path.abspath(place), names, sizes, tuple(sorted(listing.skipped)), kind)


def _no_images_message(place: str, listing: Listing, kind: InputFiles) -> str:
    others = listing.other_count + len(listing.tars)
    other_files = counted(others, "other file")
    unread = f", and {len(listing.skipped)} that cannot be read" if listing.skipped else ""
    first = f" ({listing.skipped[0][0]}: {listing.skipped[0][1]})" if listing.skipped else ""
    shards = f". To search the tar shards, give '{place}/*.tar'" if listing.tars else ""
    return (
        f"no {kind.noun}s in {place} or its subfolders: {other_files}{unread}{first} "
        f"({kind.noun}s end in {' '.join(kind.suffixes)}; hidden files are ignored){shards}"
    )
