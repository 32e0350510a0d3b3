r"""Names as text: one reversible escape for what is not text, and one for what a terminal must not get.

A file name on most systems is a sequence of bytes and need not be valid UTF-8. Wherever such a name is
written down (manifests, ``--json``, tables, figures, messages), each byte that is not part of UTF-8 text is
written as ``\xff``: a backslash, an x and two lowercase hexadecimal digits. A backslash that would otherwise
look like the start of such an escape is written as ``\x5c``, so that `path_from_text` always finds the name
again. Every other name is written as it is.

On a terminal, control characters and invisible marks of direction are escaped in the same way
(``\x1b``, ``\xe2\x80\xae``): `path_from_text` reads these escapes, too.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from typing import Any

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
_LIKE_AN_ESCAPE = re.compile(r"\\(?=x[0-9a-f]{2})")
_BYTES = re.compile(r"[\udc80-\udcff]+")  # how Python has the bytes of a name that are not valid UTF-8
# Controls, separators of lines, invisible marks (direction, byte order, tags), halves of surrogate pairs
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)
_UNSAFE_IN_JSON = re.compile(_UNPRINTABLE.pattern.replace(r"\x00-\x1f", ""))  # JSON escapes these itself

STREAM_ERRORS = "deconvviz.escape"
"""The error handler of `register_stream_errors`."""


def path_to_text(path: str | bytes | os.PathLike[str]) -> str:
    """Return a path as text that UTF-8 can hold; `path_from_text` returns the path again.

    The text depends on the bytes of the path alone, not on the locale.
    """
    raw = path if isinstance(path, bytes) else _bytes_of(os.fspath(path))
    text = _LIKE_AN_ESCAPE.sub(r"\\x5c", raw.decode("utf-8", "surrogateescape"))
    return _BYTES.sub(_escaped, text)


def path_from_text(text: str) -> str:
    """Return the path that `path_to_text` wrote."""
    if text.isascii() and "\\x" not in text:
        return text
    raw = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), _bytes_of_text(text))
    return os.fsdecode(raw)


def printable(text: str) -> str:
    """Return text as one line that a terminal shows and does not obey; ordinary text is left as it is."""
    joined = _BYTES.sub(lambda found: _text_of(found[0].encode("utf-8", "surrogateescape")), text)
    return _UNPRINTABLE.sub(_escaped, joined)


def printable_path(path: str | bytes | os.PathLike[str]) -> str:
    """Return a path as messages and figures show it; `path_from_text` returns the path again."""
    return printable(path_to_text(path))


def quoted(path: str | bytes | os.PathLike[str]) -> str:
    """Return a path as `printable_path` does, in quotation marks."""
    return f"'{printable_path(path)}'"


def json_text(value: Any, *, only_ascii: bool = False) -> str:
    """Return indented JSON that UTF-8 can hold and a terminal does not obey, whatever its strings are."""
    text = json.dumps(value, indent=2, ensure_ascii=only_ascii, allow_nan=False)
    return _UNSAFE_IN_JSON.sub(lambda found: json.dumps(found[0])[1:-1], text)


def register_stream_errors() -> str:
    """Register the error handler that escapes what a stream cannot encode, and return its name."""
    codecs.register_error(STREAM_ERRORS, _escape_unencodable)
    return STREAM_ERRORS


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return _as_escapes(_bytes_of_text(error.object[error.start : error.end])), error.end


def _bytes_of(path: str) -> bytes:
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:  # text that no file of this system can have as its name
        return _bytes_of_text(path)


def _bytes_of_text(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # halves of surrogate pairs
        return text.encode("utf-8", "surrogatepass")


def _text_of(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _escaped(found: re.Match[str]) -> str:
    return _as_escapes(_bytes_of_text(found[0]))


def _as_escapes(raw: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in raw)
