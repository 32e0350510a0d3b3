"""Names of files and folders in an atlas. They depend only on names and numbers, so that links stay valid."""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Iterable

from deconvviz.errors import OutputError

SITE, IMAGES = "site", "images"
STYLE = f"{SITE}/style.css"
INDEX, ATLAS, FILES = "index.html", "atlas.json", "files.json"

_KEPT = frozenset(string.ascii_letters + string.digits + "._-")
_LONGEST = 120  # characters of a folder name; file systems allow 255 bytes
_OWN = {SITE, IMAGES, INDEX, ATLAS, FILES}
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # reserved on Windows


def folder_of(layer: str) -> str:
    """Return the folder of a layer: its name, in which other bytes than A-Z a-z 0-9 . _ - are ``=XX``.

    Different layers have different folders. A dot at either end, and the first letter of a name that an atlas
    or Windows uses, are escaped too. Very long names are cut and end in a digest.
    """
    raw = layer.encode("utf-8", "surrogatepass")
    text = "".join(chr(byte) if chr(byte) in _KEPT else _escaped(byte) for byte in raw)
    if text.lower() in _OWN or text.startswith(".") or _DEVICES.fullmatch(text):
        text = _escaped(ord(text[0])) + text[1:]
    if text.endswith("."):
        text = text[:-1] + _escaped(ord("."))
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 18]}=={hashlib.sha256(raw).hexdigest()[:16]}"
    return text or "=="


def folders_of(layers: Iterable[str]) -> dict[str, str]:
    """Return the folder of each layer. Raises OutputError if two differ only in upper and lower case."""
    folders = {layer: folder_of(layer) for layer in layers}
    seen: dict[str, str] = {}
    for layer, folder in folders.items():
        other = seen.setdefault(folder.lower(), layer)
        if other != layer:
            raise OutputError(
                f"the layers {other!r} and {layer!r} have names that differ only in upper and lower case, so "
                "some file systems cannot keep both in one atlas. Make one atlas for each of them ({option})",
                option="layers=[LAYER]",
            )
    return folders


def page_of(channel: int) -> str:
    """Return the file name of a channel's page in the folder of its layer."""
    return f"{channel}.html"


def numbers_of(channel: int) -> str:
    """Return the file name of a channel's numbers."""
    return f"{channel}.json"


def tiles_of(channel: int) -> str:
    """Return the file name of a channel's patches and projections."""
    return f"{channel}.webp"


def sheet_of(what: str, number: int) -> str:
    """Return the file name of a sheet of thumbnails; `what` is ``patches`` or ``projections``."""
    return f"{what}-{number}.webp"


def chunk_of(number: int) -> str:
    """Return the file name of the record of a finished chunk."""
    return f"chunk-{number:04d}.json"


def image_of(image_id: str) -> str:
    """Return the path of a whole image in an atlas."""
    digest = hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{IMAGES}/{digest[:20]}.webp"


def _escaped(byte: int) -> str:
    return f"={byte:02X}"
