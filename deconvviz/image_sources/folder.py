"""A folder, any depth: what ends like a picture is one. Hidden files and folders are left out."""

from __future__ import annotations

import heapq
import os
from dataclasses import dataclass, field

import numpy as np

from deconvviz.errors import SourceError
from deconvviz.image_sources.image_files import LooseFiles, look_at
from deconvviz.image_sources.image_ids import as_id, sorted_once
from deconvviz.images.discovery import SUFFIXES
from deconvviz.paths import spoken

TAR = ".tar"
_LITTER = "__MACOSX"  # what macOS puts into archives beside the files


class Folder(LooseFiles):
    kind = "folder"


@dataclass
class Listing:
    """What was found below a folder. Paths start at the folder and have '/' between their parts."""

    pictures: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    tars: list[str] = field(default_factory=list)
    others: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


def is_hidden(path: str) -> bool:
    """Any part of a path inside a folder or an archive."""
    return any(part == _LITTER or (part[:1] == "." and part not in (".", "..")) for part in path.split("/"))


def is_picture(path: str) -> bool:
    return path.lower().endswith(SUFFIXES) and not is_hidden(path)


def list_folder(folder: str) -> Listing:
    """Everything below a folder. Raises SourceError where the folder itself cannot be read.

    Each folder is entered once, by its own path if it has one in here, else by the first of the links to it:
    so loops end, and the ids do not depend on the order in which a system lists.
    """
    listing, entered = Listing(), set[tuple[int, int]]()
    ways, links = [""], list[str]()
    while ways or links:
        way = ways.pop() if ways else heapq.heappop(links)
        try:
            seen = os.stat(os.path.join(folder, way))
            if (seen.st_dev, seen.st_ino) in entered:
                continue
            entered.add((seen.st_dev, seen.st_ino))
            with os.scandir(os.path.join(folder, way)) as entries:
                for entry in entries:
                    if not is_hidden(entry.name):
                        _sort_in(entry, f"{way}{entry.name}", listing, ways, links)
        except OSError as reason:
            if not way:
                raise SourceError(f"the folder {folder} cannot be read: {spoken(reason)}") from reason
            listing.skipped.append((as_id(way), f"the folder cannot be read: {spoken(reason)}"))
    return listing


def _sort_in(entry: os.DirEntry[str], path: str, listing: Listing, ways: list[str], links: list[str]) -> None:
    if _is_folder(entry):
        if entry.is_symlink():
            heapq.heappush(links, path + "/")
        else:
            ways.append(path + "/")
    elif entry.name.lower().endswith(SUFFIXES):
        found = look_at(entry)
        if found.refused:
            listing.skipped.append((as_id(path), found.refused))
        else:
            listing.pictures.append(path)
            listing.sizes.append(found.size)
    elif entry.name.lower().endswith(TAR):
        listing.tars.append(path)
    else:
        listing.others += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def folder_of(place: str, listing: Listing) -> Folder:
    """Raises SourceError where there is no picture."""
    if not listing.pictures:
        raise SourceError(_no_pictures(place, listing))
    by_path = sorted(range(len(listing.pictures)), key=listing.pictures.__getitem__, reverse=True)
    paths = [listing.pictures[one] for one in by_path]  # so that of equal ids the first path counts
    ids = [as_id(path) for path in paths]
    names, order, again = sorted_once(ids)
    odd = {ids[one]: paths[one] for one in order if ids[one] != paths[one]}
    for name in again:
        listing.skipped.append((name, "the id of two files, one of which has a name that is no UTF-8"))
    sizes = np.array(listing.sizes, np.int64)[by_path][order]
    return Folder(place, os.path.abspath(place), names, sizes, tuple(sorted(listing.skipped)), odd)


def _no_pictures(place: str, listing: Listing) -> str:
    others = listing.others + len(listing.tars)
    other_files = f"{others} other file{'s' * (others != 1)}"
    unread = f", and {len(listing.skipped)} that cannot be read" if listing.skipped else ""
    first = f" ({listing.skipped[0][0]}: {listing.skipped[0][1]})" if listing.skipped else ""
    tars = f"; for {len(listing.tars)} shards among them give '{place}/*.tar'" if listing.tars else ""
    return (
        f"no pictures in {place}, however deep: {other_files}{unread}{first}{tars} "
        f"(pictures end in {' '.join(SUFFIXES)}; hidden ones are left out)"
    )
