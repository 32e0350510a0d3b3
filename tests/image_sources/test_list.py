from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import pytest
from helpers.shades import encoded, saved, shades

from deconvviz.errors import PictureError, SourceError
from deconvviz.image_sources import open_source


def listed(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_paths_start_at_the_list_or_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "set" / "b.png", 1)
    saved(tmp_path / "set" / "a b" / "ä.png", 2)
    saved(tmp_path / "near.png", 3)
    (tmp_path / "set" / "photo").write_bytes(encoded(4))  # what is named itself may have any suffix
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
        assert source.picture(list(source.names).index("b.png")).path == tmp_path / "set" / "b.png"


def test_lists_of_windows(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", 1)
    (tmp_path / "l.txt").write_bytes(b"\xef\xbb\xbfa.png\r\n\r\n# no more\r\n")
    assert shades(open_source(tmp_path / "l.txt")) == {"a.png": 1}


def test_what_is_not_there_or_comes_twice_is_listed(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", 1)
    (tmp_path / "folder").mkdir()
    source = open_source(
        listed(tmp_path / "l.txt", "gone.png", "a.png", "folder", "a.png 12", "a.png", "a.png,3", "x" * 5000)
    )
    assert shades(source) == {"a.png": 1}
    hint = " (a line is a path and nothing else: leave its label out)"
    assert source.skipped == (
        ("a.png", "it is listed more than once, and read once"),
        ("a.png 12", "it is not there" + hint),
        ("a.png,3", "it is not there" + hint),
        ("folder", "it is a folder, not a picture"),
        ("gone.png", "it is not there"),
        ("x" * 5000, "it cannot be seen: file name too long"),
    )


@pytest.mark.skipif(sys.platform != "linux", reason="file names are not any bytes here")
def test_a_line_that_is_no_utf_8(tmp_path: Path) -> None:
    with open(os.path.join(os.fsencode(tmp_path), b"a\xff.png"), "wb") as stream:
        stream.write(encoded(9))
    (tmp_path / "l.txt").write_bytes(b"a\xff.png\n")
    assert shades(pickle.loads(pickle.dumps(open_source(tmp_path / "l.txt")))) == {"a\\xff.png": 9}


def test_the_digest_is_of_lines_and_sizes(tmp_path: Path) -> None:
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
        ([], "l.txt lists no picture: 0 lines, all blank or comments"),
        (["# a", "", " "], "l.txt lists no picture: 3 lines, all blank or comments"),
        (["\0"], "l.txt is no list of pictures: a text file has no zero bytes"),
        (
            ["a.png", "b.png"],
            r"none of the 2 pictures that .*l.txt lists can be read: a.png: it is not there \(paths",
        ),
    ],
)
def test_lists_that_give_nothing(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(listed(tmp_path / "l.txt", *lines))


def test_a_file_gone_since(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png")
    source = open_source(listed(tmp_path / "l.txt", "./a.png"))
    path.unlink()
    with pytest.raises(PictureError, match=r"^\./a.png is gone"):
        source.picture(0)
