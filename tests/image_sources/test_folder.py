from __future__ import annotations

import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
from helpers.shades import encoded, saved, shades
from PIL import Image

from deconvviz.errors import ImageError, SourceError
from deconvviz.image_sources import open_source

NOT_AS_ROOT = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root can read every folder"
)
ARBITRARY_BYTES = pytest.mark.skipif(
    sys.platform != "linux", reason="file names cannot be arbitrary bytes on this system"
)


def test_images_of_all_subfolders_are_sorted_by_code_points(tmp_path: Path) -> None:
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
    assert source.image(0).path == tmp_path / "Z.png"
    assert (source.kind, source.place, len(source), source.skipped) == ("folder", str(tmp_path), 6, ())


def test_hidden_folder_is_read_if_it_is_the_source(tmp_path: Path) -> None:
    saved(tmp_path / ".cache" / "a.png")
    assert list(open_source(tmp_path / ".cache").names) == ["a.png"]


def test_source_with_relative_place_is_read_after_chdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "photos" / "a.png", 7)
    monkeypatch.chdir(tmp_path)
    source = open_source("photos")
    described = source.describe()
    monkeypatch.chdir(tmp_path / "photos")
    assert shades(source) == {"a.png": 7}
    assert (source.place, described["place"]) == ("photos", str(tmp_path / "photos"))
    assert source.describe() == described


def test_folder_with_looping_links_is_listed_once(tmp_path: Path) -> None:
    saved(tmp_path / "z" / "a.png", 1)
    (tmp_path / "z" / "up").symlink_to("..")
    (tmp_path / "z" / "itself").symlink_to("itself")
    (tmp_path / "z" / "self.png").symlink_to("self.png")
    (tmp_path / "also-z").symlink_to("z")
    (tmp_path / "z" / "one.png").symlink_to("a.png")
    source = open_source(tmp_path)
    assert shades(source) == {"z/a.png": 1, "z/one.png": 1}
    assert [name for name, _ in source.skipped] == ["z/self.png"]


def test_folder_with_several_links_is_read_through_the_first(tmp_path: Path) -> None:
    saved(tmp_path / "elsewhere" / "deep" / "a.png", 3)
    (tmp_path / "here").mkdir()
    for link in ("n", "m", "o"):
        (tmp_path / "here" / link).symlink_to(tmp_path / "elsewhere")
    assert shades(open_source(tmp_path / "here")) == {"m/deep/a.png": 3}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_unreadable_files_are_skipped_with_a_reason(tmp_path: Path) -> None:
    saved(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("gone.png")
    os.mkfifo(tmp_path / "c.png")
    assert open_source(tmp_path).skipped == (
        ("b.png", "it is a link to a file that does not exist"),
        ("c.png", "it is not a regular file"),
    )


@NOT_AS_ROOT
def test_folder_without_permission_is_skipped_or_raises(tmp_path: Path) -> None:
    saved(tmp_path / "a.png")
    saved(tmp_path / "closed" / "b.png").parent.chmod(0)
    try:
        assert open_source(tmp_path).skipped == (("closed/", "the folder cannot be read: permission denied"),)
        with pytest.raises(SourceError, match="closed cannot be read: permission denied"):
            open_source(tmp_path / "closed")
    finally:
        (tmp_path / "closed").chmod(0o700)


@ARBITRARY_BYTES
def test_file_names_that_are_not_utf_8_have_escaped_ids(tmp_path: Path) -> None:
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


@ARBITRARY_BYTES
def test_file_name_that_looks_like_an_escape_has_its_own_id(tmp_path: Path) -> None:
    saved(tmp_path / "a\\xff.png", 1)
    with open(os.path.join(os.fsencode(tmp_path), b"a\xff.png"), "wb") as stream:
        stream.write(encoded(2))
    source = open_source(tmp_path)
    assert shades(source) == {"a\\x5cxff.png": 1, "a\\xff.png": 2}
    assert source.skipped == ()


def test_folder_without_images_raises_source_error(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"no images in .* or its subfolders: 0 other files \(images end in"
    ):
        open_source(tmp_path)
    for name in ("a.txt", "b.json", ".c.png", "d/e.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "f.png").symlink_to("gone")
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path)
    assert str(caught.value) == (
        f"no images in {tmp_path} or its subfolders: 3 other files, and 1 that cannot be read (f.png: it is "
        "a link to a file that does not exist) (images end in .apng .avif .bmp .gif .jfif .jp2 .jpe .jpeg "
        ".jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp; hidden files are ignored)"
    )


def test_digest_depends_on_names_and_sizes_and_not_on_the_place(tmp_path: Path) -> None:
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


def test_error_for_a_file_changed_after_listing_names_the_image(tmp_path: Path) -> None:
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
            "a.png no longer exists: it existed when the images were listed",
            r"b.png is empty \(0 bytes\)",
            "c.png is truncated",
            "cannot read d/e.png: not a directory",
        )
    ):
        with pytest.raises(ImageError, match=f"^{message}"):
            source.image(number)
    with pytest.raises(IndexError):
        source.image(4)


def test_image_with_too_many_pixels_raises_image_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setenv("DECONVVIZ_MAX_PIXELS", "1000")
    with pytest.raises(ImageError, match=r"^a.png has 40 x 40 pixels"):
        open_source(tmp_path).image(0)
