from __future__ import annotations

import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
from helpers.shades import encoded, saved, shades
from PIL import Image

from deconvviz.errors import PictureError, SourceError
from deconvviz.image_sources import open_source

NO_ROOT = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
ANY_BYTES = pytest.mark.skipif(sys.platform != "linux", reason="file names are not any bytes here")


def test_a_folder_of_any_depth_by_code_points(tmp_path: Path) -> None:
    names = ["b/z.png", "b/a/q.webp", "a.PNG", "b.png", "Z.png", "ä.png"]
    for shade, name in enumerate(names):
        saved(tmp_path / name, shade)
    for name in (".b.png", ".git/c.png", "b/__MACOSX/d.png", "b/._z.png"):
        saved(tmp_path / name, 99)
    for name in ("labels.csv", "b/notes.txt", "b/video.mp4", "shard.tar"):
        (tmp_path / name).touch()
    source = open_source(tmp_path)
    assert list(shades(source).items()) == [
        ("Z.png", 4), ("a.PNG", 2), ("b.png", 3), ("b/a/q.webp", 1), ("b/z.png", 0), ("ä.png", 5)
    ]  # fmt: skip
    assert source.picture(0).path == tmp_path / "Z.png"
    assert (source.kind, source.place, len(source), source.skipped) == ("folder", str(tmp_path), 6, ())


def test_a_place_inside_a_hidden_folder_is_not_hidden(tmp_path: Path) -> None:
    saved(tmp_path / ".cache" / "a.png")
    assert list(open_source(tmp_path / ".cache").names) == ["a.png"]


def test_a_relative_place_holds_after_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "photos" / "a.png", 7)
    monkeypatch.chdir(tmp_path)
    source = open_source("photos")
    told = source.describe()
    monkeypatch.chdir(tmp_path / "photos")
    assert shades(source) == {"a.png": 7}
    assert (source.place, told["place"]) == ("photos", str(tmp_path / "photos"))
    assert source.describe() == told


def test_loops_of_links_end_and_each_folder_comes_once(tmp_path: Path) -> None:
    saved(tmp_path / "z" / "a.png", 1)
    (tmp_path / "z" / "up").symlink_to("..")
    (tmp_path / "z" / "itself").symlink_to("itself")
    (tmp_path / "z" / "self.png").symlink_to("self.png")
    (tmp_path / "also-z").symlink_to("z")
    (tmp_path / "z" / "one.png").symlink_to("a.png")
    source = open_source(tmp_path)
    assert shades(source) == {"z/a.png": 1, "z/one.png": 1}
    assert [name for name, _ in source.skipped] == ["z/self.png"]


def test_a_folder_elsewhere_is_followed_by_the_first_of_its_links(tmp_path: Path) -> None:
    saved(tmp_path / "elsewhere" / "deep" / "a.png", 3)
    (tmp_path / "here").mkdir()
    for link in ("n", "m", "o"):
        (tmp_path / "here" / link).symlink_to(tmp_path / "elsewhere")
    assert shades(open_source(tmp_path / "here")) == {"m/deep/a.png": 3}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_what_cannot_be_read_is_listed_with_its_reason(tmp_path: Path) -> None:
    saved(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("gone.png")
    os.mkfifo(tmp_path / "c.png")
    assert open_source(tmp_path).skipped == (
        ("b.png", "it is a link to a picture that is not there"),
        ("c.png", "it is no ordinary file"),
    )


@NO_ROOT
def test_closed_folders(tmp_path: Path) -> None:
    saved(tmp_path / "a.png")
    saved(tmp_path / "closed" / "b.png").parent.chmod(0)
    try:
        assert open_source(tmp_path).skipped == (("closed/", "the folder cannot be read: permission denied"),)
        with pytest.raises(SourceError, match="closed cannot be read: permission denied"):
            open_source(tmp_path / "closed")
    finally:
        (tmp_path / "closed").chmod(0o700)


@ANY_BYTES
def test_names_that_are_no_utf_8_are_read_by_an_id_with_escapes(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name, shade in ((b"a\xff.png", 1), (b"a\xfe/b.png", 2)):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(encoded(shade))
    source = open_source(tmp_path)
    assert shades(source) == {"a\\xfe/b.png": 2, "a\\xff.png": 1}
    assert shades(pickle.loads(pickle.dumps(source))) == shades(source)
    assert source.skipped == ()


@ANY_BYTES
def test_two_files_with_one_id(tmp_path: Path) -> None:
    saved(tmp_path / "a\\xff.png", 1)
    with open(os.path.join(os.fsencode(tmp_path), b"a\xff.png"), "wb") as stream:
        stream.write(encoded(2))
    source = open_source(tmp_path)
    assert shades(source) == {"a\\xff.png": 1}
    assert source.skipped == (
        ("a\\xff.png", "the id of two files, one of which has a name that is no UTF-8"),
    )


def test_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"no pictures in .*, however deep: 0 other files \(pictures end in"
    ):
        open_source(tmp_path)
    for name in ("a.txt", "b.json", ".c.png", "d/e.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "f.png").symlink_to("gone")
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path)
    assert str(caught.value) == (
        f"no pictures in {tmp_path}, however deep: 3 other files, and 1 that cannot be read (f.png: it is a "
        "link to a picture that is not there) (pictures end in .apng .avif .bmp .gif .jfif .jp2 .jpe .jpeg "
        ".jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp; hidden ones are left out)"
    )


def test_the_digest_is_of_names_and_sizes_not_of_the_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        for number in range(3):
            saved(tmp_path / name / f"{number}.png", number)
    one, two = open_source(tmp_path / "one"), open_source(tmp_path / "two")
    assert one.digest == two.digest
    assert len({one.digest, one.limited(2).digest, two.limited(1).digest}) == 3
    with (tmp_path / "two" / "1.png").open("ab") as stream:
        stream.write(b"\0")
    assert open_source(tmp_path / "two").digest != one.digest
    saved(tmp_path / "two" / "1.png", 1)
    (tmp_path / "two" / "1.png").rename(tmp_path / "two" / "4.png")
    assert open_source(tmp_path / "two").digest != one.digest


def test_what_happens_to_files_in_mid_run_names_the_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png", "d/e.png"):
        saved(tmp_path / name)
    source = open_source(tmp_path)
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.png").write_bytes(encoded(3)[:-20])
    shutil.rmtree(tmp_path / "d")
    (tmp_path / "d").touch()
    for number, message in enumerate(
        (
            "a.png is gone: it was there when the pictures were listed",
            r"b.png is empty \(0 bytes\)",
            "c.png is broken off",
            "cannot read d/e.png: not a directory",
        )
    ):
        with pytest.raises(PictureError, match=f"^{message}"):
            source.picture(number)
    with pytest.raises(IndexError):
        source.picture(4)


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setenv("DECONVVIZ_MAX_PIXELS", "1000")
    with pytest.raises(PictureError, match=r"^a.png has 40 x 40 pixels"):
        open_source(tmp_path).picture(0)
