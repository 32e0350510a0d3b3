"""Check of an atlas: every link resolves, and every file is whole."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deconvviz.errors import OutputError
from deconvviz.printable_names import printable, printable_path
from deconvviz.web.atlas.addresses import ATLAS, FILES, INDEX
from deconvviz.web.atlas.records import Files, fault_of, read_record

_URL = re.compile(r"url\(([^)]*)\)")


@dataclass(frozen=True)
class Checked:
    """Result of a check.

    Attributes:
        files: Number of files that were read.
        links: Number of links that were followed.
        faults: One line for each fault, in the order of the files.
    """

    files: int
    links: int
    faults: tuple[str, ...]


def check_atlas(site: str | os.PathLike[str]) -> Checked:
    """Read all files of an atlas, and follow all links of its pages.

    Raises:
        OutputError: The folder contains no atlas.
    """
    folder = Path(site)
    if not (folder / ATLAS).is_file() and not (folder / INDEX).is_file():
        raise OutputError(
            f"no atlas in {printable_path(folder)}: there is no {ATLAS}. Make one with deconvviz atlas"
        )
    faults: list[str] = []
    files: dict[str, None] = {}
    for name, entry in _listed(folder, faults):
        if name not in files:
            files[name] = None
            if fault := fault_of(folder, name, entry):
                faults.append(f"{printable(name)} {fault}")
    links, is_file = 0, lru_cache(maxsize=100_000)(os.path.isfile)
    for name in sorted(files):
        if name.endswith(".html"):
            for link in _links(folder / name):
                links += 1
                if fault := _fault_of_link(folder, name, link, is_file):
                    faults.append(f"{printable(name)}: {fault}")
    return Checked(len(files), links, tuple(dict.fromkeys(faults)))


def _listed(site: Path, faults: list[str]) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the files that the records of an atlas list. Records that cannot be read are faults."""
    for record in (FILES, *(f"{folder}/{FILES}" for folder in _folders(site, faults))):
        files = _files_of(site, record, faults)
        yield from ((name, dict(entry)) for name, entry in files.items())


def _folders(site: Path, faults: list[str]) -> list[str]:
    try:
        found = read_record(site / ATLAS)
        return [str(layer["folder"]) for layer in found["layers"]] if found else []
    except (OutputError, KeyError, TypeError):
        faults.append(f"{ATLAS} is damaged")
        return []


def _files_of(site: Path, record: str, faults: list[str]) -> Files:
    try:
        found = read_record(site / record)
        files: Files = {} if found is None else found["files"]
        if found is None:
            faults.append(f"{printable(record)} is missing")
        if all(
            isinstance(entry["bytes"], int) and isinstance(entry["sha256"], str) for entry in files.values()
        ):
            return files
    except (OutputError, KeyError, TypeError, AttributeError):
        pass
    faults.append(f"{printable(record)} is damaged")
    return {}


class _Links(HTMLParser):
    """Addresses in a page: links, images, style sheets, and those in embedded style sheets."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        self.found += [value for name, value in attrs if name in ("href", "src") and value]

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.found += _URL.findall(data)


def _links(page: Path) -> list[str]:
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return []  # the file has a fault of its own
    links = _Links()
    links.feed(text)
    links.close()
    return links.found


def _fault_of_link(site: Path, page: str, link: str, is_file: Callable[[str], bool]) -> str:
    """Return what is wrong with a link; an empty string if it leads to a file of the atlas."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return f"{printable(link)} leads out of the atlas"
    if not parts.path:
        return ""  # a place in the same page
    inside = os.path.normpath(os.path.join(os.path.dirname(page), unquote(parts.path)))
    if inside.startswith("..") or os.path.isabs(inside):
        return f"{printable(link)} leads out of the atlas"
    return "" if is_file(os.path.join(site, inside)) else f"{printable(link)} leads to no file"
