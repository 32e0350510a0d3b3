r"""File names as printable text, with reversible escapes.

On most systems a file name is a sequence of bytes that need not be valid UTF-8. In manifests, ``--json``,
tables, figures and messages, each byte that is not part of UTF-8 text is written as ``\xff``: a backslash, an
x and two lowercase hexadecimal digits. A backslash that would look like the start of such an escape is
written as ``\x5c``. Other names are written unchanged. `path_from_text` returns the original name.

On a terminal, control characters and invisible direction marks are escaped in the same way (``\x1b``,
``\xe2\x80\xae``). `path_from_text` reads these escapes too.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from typing import Any

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
_LIKE_AN_ESCAPE = re.compile(r"\\(?=x[0-9a-f]{2})")
_BYTES = re.compile(r"[\udc80-\udcff]+")  # Python's surrogate escapes for bytes that are not valid UTF-8
# Control characters, line separators, invisible marks (direction, byte order, tags), lone surrogates
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)
_UNSAFE_IN_JSON = re.compile(_UNPRINTABLE.pattern.replace(r"\x00-\x1f", ""))  # JSON escapes \x00-\x1f itself

STREAM_ERRORS = "deconvviz.escape"
"""Name of the error handler that `register_stream_errors` registers."""


def path_to_text(path: str | bytes | os.PathLike[str]) -> str:
    """Return a path as text that can be encoded in UTF-8. `path_from_text` is the inverse.

    The text depends only on the bytes of the path, not on the locale.
    """
    raw = path if isinstance(path, bytes) else _bytes_of(os.fspath(path))
    text = _LIKE_AN_ESCAPE.sub(r"\\x5c", raw.decode("utf-8", "surrogateescape"))
    return _BYTES.sub(_escaped, text)


def path_from_text(text: str) -> str:
    """Return the path that `path_to_text` or `printable_path` has written as text."""
    if text.isascii() and "\\x" not in text:
        return text
    raw = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), _bytes_of_text(text))
    return os.fsdecode(raw)


def printable(text: str) -> str:
    """Return text as one line, with control characters and invisible marks escaped."""
    joined = _BYTES.sub(lambda found: _text_of(found[0].encode("utf-8", "surrogateescape")), text)
    return _UNPRINTABLE.sub(_escaped, joined)


def printable_path(path: str | bytes | os.PathLike[str]) -> str:
    """Return a path as text for messages and figures. `path_from_text` is the inverse."""
    return printable(path_to_text(path))


def quoted(path: str | bytes | os.PathLike[str]) -> str:
    """Return the printable path in quotation marks."""
    return f"'{printable_path(path)}'"


def json_text(value: Any, *, only_ascii: bool = False) -> str:
    """Return indented JSON in which control characters, invisible marks and lone surrogates are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=only_ascii, allow_nan=False)
    return _UNSAFE_IN_JSON.sub(lambda found: json.dumps(found[0])[1:-1], text)


def register_stream_errors() -> str:
    """Register the error handler that escapes characters that a stream cannot encode. Return its name."""
    codecs.register_error(STREAM_ERRORS, _escape_unencodable)
    return STREAM_ERRORS


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return _as_escapes(_bytes_of_text(error.object[error.start : error.end])), error.end


def _bytes_of(path: str) -> bytes:
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:  # not a possible file name on this system
        return _bytes_of_text(path)


def _bytes_of_text(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # lone surrogates
        return text.encode("utf-8", "surrogatepass")


def _text_of(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _escaped(found: re.Match[str]) -> str:
    return _as_escapes(_bytes_of_text(found[0]))


def _as_escapes(raw: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in raw)
