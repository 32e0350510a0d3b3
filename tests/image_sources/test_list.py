from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import pytest
from helpers.shades import encoded, saved, shades

from deconvviz.errors import ImageError, SourceError
from deconvviz.image_sources import open_source


def listed(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_paths_are_relative_to_the_list_or_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "set" / "b.png", 1)
    saved(tmp_path / "set" / "a b" / "ä.png", 2)
    saved(tmp_path / "near.png", 3)
    (tmp_path / "set" / "photo").write_bytes(encoded(4))  # a listed file can have any suffix
    far = saved(tmp_path / "far.png", 5)
    lines = [
        "# chosen by hand",
        "",
        "b.png",
        "  ./a b/ä.png\t",
        "../near.png",
        "photo",
        str(far),
        "   ",
        "# end",
    ]
    expected = {"../near.png": 3, "./a b/ä.png": 2, str(far): 5, "b.png": 1, "photo": 4}
    for name in ("list.txt", "list.LST"):
        listed(tmp_path / "set" / name, *lines)
        monkeypatch.chdir(tmp_path)
        source = open_source(f"set/{name}")
        monkeypatch.chdir("/")
        assert list(shades(source).items()) == sorted(expected.items())
        assert source.describe()["place"] == str(tmp_path / "set" / name)
        assert (source.kind, source.skipped) == ("list", ())
        assert source.image(list(source.names).index("b.png")).path == tmp_path / "set" / "b.png"


def test_byte_order_mark_and_crlf_in_a_list_are_ignored(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", 1)
    (tmp_path / "l.txt").write_bytes(b"\xef\xbb\xbfa.png\r\n\r\n# no more\r\n")
    assert shades(open_source(tmp_path / "l.txt")) == {"a.png": 1}


def test_missing_and_duplicate_lines_are_skipped_with_a_reason(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", 1)
    (tmp_path / "folder").mkdir()
    source = open_source(
        listed(tmp_path / "l.txt", "gone.png", "a.png", "folder", "a.png 12", "a.png", "a.png,3", "x" * 5000)
    )
    assert shades(source) == {"a.png": 1}
    hint = " (a line must contain only a path: remove the label)"
    assert source.skipped == (
        ("a.png", "it is listed more than once and read only once"),
        ("a.png 12", "it does not exist" + hint),
        ("a.png,3", "it does not exist" + hint),
        ("folder", "it is a folder, not an image"),
        ("gone.png", "it does not exist"),
        ("x" * 5000, "it cannot be accessed: file name too long"),
    )


@pytest.mark.skipif(sys.platform != "linux", reason="file names cannot be arbitrary bytes on this system")
def test_line_that_is_not_utf_8_has_an_escaped_id(tmp_path: Path) -> None:
    with open(os.path.join(os.fsencode(tmp_path), b"a\xff.png"), "wb") as stream:
        stream.write(encoded(9))
    (tmp_path / "l.txt").write_bytes(b"a\xff.png\n")
    assert shades(pickle.loads(pickle.dumps(open_source(tmp_path / "l.txt")))) == {"a\\xff.png": 9}


@pytest.mark.skipif(sys.platform != "linux", reason="file names cannot be arbitrary bytes on this system")
def test_line_can_be_written_with_the_escapes_of_an_id(tmp_path: Path) -> None:
    for name, shade in ((b"a\xff.png", 1), (rb"b\xff.png", 2), (b"c\n.png", 3)):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as stream:
            stream.write(encoded(shade))
    (tmp_path / "l.txt").write_bytes(rb"a\xff.png" b"\n" rb"b\xff.png" b"\n" rb"c\x0a.png")
    source = open_source(tmp_path / "l.txt")
    assert shades(source) == {r"a\xff.png": 1, r"b\x5cxff.png": 2, "c\n.png": 3}
    (tmp_path / "l.txt").write_bytes(rb"a\xff.png" b"\n" rb"b\x5cxff.png" b"\n" rb"c\x0a.png")
    assert shades(open_source(tmp_path / "l.txt")) == shades(source)


def test_digest_depends_on_lines_and_sizes_and_not_on_their_order(tmp_path: Path) -> None:
    digests = []
    for folder in ("one", "two"):
        saved(tmp_path / folder / "a.png", 1)
        saved(tmp_path / folder / "b.png", 2)
        digests.append(open_source(listed(tmp_path / folder / "l.txt", "b.png", "a.png")).digest)
        digests.append(open_source(listed(tmp_path / folder / "m.txt", "# sorted", "a.png", "b.png")).digest)
    assert len(set(digests)) == 1
    assert open_source(listed(tmp_path / "one" / "l.txt", "./a.png", "b.png")).digest != digests[0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no images in the list .*l.txt: 0 lines, all blank or comments"),
        (["# a", "", " "], "no images in the list .*l.txt: 3 lines, all blank or comments"),
        (["\0"], "l.txt is not a list of images: it has zero bytes, so it is not a text file"),
        (
            ["a.png", "b.png"],
            r"none of the 2 images in the list .*l.txt can be read: a.png: it does not exist \(paths",
        ),
    ],
)
def test_list_without_readable_images_raises_source_error(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(listed(tmp_path / "l.txt", *lines))


def test_file_deleted_after_listing_raises_image_error(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png")
    source = open_source(listed(tmp_path / "l.txt", "./a.png"))
    path.unlink()
    with pytest.raises(ImageError, match=r"^\./a.png no longer exists"):
        source.image(0)
