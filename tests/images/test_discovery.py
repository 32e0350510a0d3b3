"""Find image files by paths and folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deconvviz.errors import ImageError
from deconvviz.images.discovery import find_images


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_folder_yields_its_image_files_sorted_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPEG", "a.png", "c.tif", ".hidden.png", "._c.jpg", "notes.txt", "d.webp")
    touch(tmp_path / "deeper", "e.png")
    touch(tmp_path / "folder.png")
    assert [path.name for path in find_images(tmp_path)] == ["a.png", "b.JPEG", "c.tif", "d.webp"]


def test_named_files_keep_their_order_and_any_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.png", "photo")
    named: list[str | Path] = [tmp_path / "photo", str(tmp_path / "b.png"), tmp_path]
    assert find_images(named) == [tmp_path / "photo", tmp_path / "b.png", tmp_path / "a.png"]


def test_duplicate_files_are_listed_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "z.png").symlink_to("a.png")
    roundabout = tmp_path / ".." / tmp_path.name / "a.png"
    assert find_images([tmp_path / "a.png", roundabout, tmp_path]) == [tmp_path / "a.png"]


def test_broken_link_in_a_folder_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to("gone.png")
    assert [path.name for path in find_images(tmp_path)] == ["a.png", "b.png"]


def test_folder_without_images_error_lists_the_suffixes(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt", "b.csv", ".c.png")
    touch(tmp_path / "train")
    with pytest.raises(ImageError) as caught:
        find_images(tmp_path)
    assert str(caught.value) == (
        f"no images in {tmp_path}: 2 other files and 1 folder, which are not searched. "
        "The suffixes of images are .apng .avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm "
        ".ppm .tif .tiff .webp"
    )


def test_empty_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no images in .*: 0 other files\. "):
        find_images([tmp_path])


def test_missing_file_error_names_the_nearest_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "cat.jpg", "dog.jpg")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError) as caught:
        find_images(["cat.jpg", "dgo.jpg"])
    assert str(caught.value).startswith("no image 'dgo.jpg': similar names here: dog.jpg")


def test_empty_list_of_paths_is_rejected() -> None:
    with pytest.raises(ImageError, match="no image is named"):
        find_images([])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_folder_without_read_permission_is_rejected(tmp_path: Path) -> None:
    touch(tmp_path / "closed", "a.png")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(ImageError, match="cannot be read: permission denied"):
            find_images(tmp_path / "closed")
    finally:
        (tmp_path / "closed").chmod(0o700)
