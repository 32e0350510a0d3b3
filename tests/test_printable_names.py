"""File names that are not text are written with reversible escapes."""

from __future__ import annotations

import io
import json
import os
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deconvviz.errors import ImageError
from deconvviz.printable_names import (
    json_text,
    path_from_text,
    path_to_text,
    printable,
    printable_path,
    quoted,
    register_stream_errors,
)

PIECES = [
    b"\\",
    b"x",
    b"\\x",
    b"\\xff",
    b"\\x5c",
    b"\xff",
    b"\xc3",
    b"\xa4",
    b"5c",
    b"\x1b",
    b"\n",
    "é".encode(),
]
NAMES = st.binary(max_size=12) | st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join)


@given(NAMES)
@example(b"\\\xff")
@example(b"\\x\xff")
@example(b"\xed\xa0\x80")
def test_path_from_text_returns_every_name(name: bytes) -> None:
    path = os.fsdecode(name)
    for text in (path_to_text(name), path_to_text(path), printable_path(path), printable(path_to_text(name))):
        assert os.fsencode(path_from_text(text)) == name
        text.encode()  # raises if the text is not valid UTF-8


@given(NAMES, NAMES)
def test_different_names_have_different_texts_and_equal_names_equal_ones(one: bytes, other: bytes) -> None:
    assert (path_to_text(one) == path_to_text(other)) == (one == other)
    assert (printable_path(one) == printable_path(other)) == (one == other)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\"), max_size=12))
def test_names_that_are_text_are_unchanged(name: str) -> None:
    assert path_to_text(name.encode()) == path_to_text(name) == name


@pytest.mark.parametrize(
    ("name", "stored", "shown"),
    [
        (b"cat.jpg", "cat.jpg", "cat.jpg"),
        (b"a\xff/\xc3\xa4.jpg", r"a\xff/ä.jpg", r"a\xff/ä.jpg"),
        (rb"a\xff.png", r"a\x5cxff.png", r"a\x5cxff.png"),
        (rb"C:\new\xyz", r"C:\new\xyz", r"C:\new\xyz"),
        (b"a\nb\t\x1b[31m", "a\nb\t\x1b[31m", r"a\x0ab\x09\x1b[31m"),
        ("a\u202eb".encode(), "a\u202eb", r"a\xe2\x80\xaeb"),
        ("👩\u200d🔬 cafe\u0301".encode(), "👩\u200d🔬 cafe\u0301", "👩\u200d🔬 cafe\u0301"),
    ],
)
def test_stored_and_shown_text_of_a_name(name: bytes, stored: str, shown: str) -> None:
    assert (path_to_text(name), printable_path(name), quoted(name)) == (stored, shown, f"'{shown}'")


@given(st.text(max_size=12))
def test_printable_text_has_no_control_characters_and_no_direction_marks(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(one) for one in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(shown) & {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
    assert printable(shown) == shown


@given(st.text(max_size=12))
def test_json_text_of_any_string_is_printable_and_reversible(text: str) -> None:
    written = json_text({text: [text]})
    written.encode()
    assert json.loads(written) == {text: [text]}
    assert all(one == "\n" or printable(one) == one for one in written)
    assert json.loads(json_text(text, only_ascii=True)) == text
    assert json_text(text, only_ascii=True).isascii()


def test_streams_escape_characters_that_their_encoding_lacks() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors=register_stream_errors())
    stream.write("caf\u00e9 \udcff \ud800")
    stream.flush()
    written = stream.buffer.getvalue()  # type: ignore[attr-defined]
    assert written == rb"caf\xc3\xa9 \xff \xed\xa0\x80"
    assert path_from_text(written.split()[0].decode()) == "café"


def test_error_message_is_one_printable_line() -> None:
    error = ImageError("no image 'a\udcff\n\x1b[2J': {option}", option="x=\u202e")
    assert str(error) == error.on_command_line().replace("--x \\", "x=\\")
    assert str(error) == r"no image 'a\xff\x0a\x1b[2J': x=\xe2\x80\xae"
