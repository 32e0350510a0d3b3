"""Opening sources from text, generated scenes, sources of the user, and opening a source again."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.shades import saved, shades

from deconvviz.errors import ImageError, SourceError
from deconvviz.image_sources import Source, open_source, reopen
from deconvviz.image_sources.image_ids import Names
from deconvviz.images.image import InputImage
from deconvviz.scenes import scene


class Greys(Source):
    kind = "greys"

    def __init__(self, count: int) -> None:
        super().__init__("greys", Names(f"{shade:03d}" for shade in range(count)))

    def read(self, number: int) -> InputImage:
        if number == 2:
            raise OSError(5, "Input/output error")
        return InputImage(np.full((4, 4, 3), int(self.names[number]), np.uint8))


def test_scenes_source_has_the_images_of_its_seeds() -> None:
    source = open_source("scenes:3@41")
    assert list(source.names) == ["scene-000041", "scene-000042", "scene-000043"]
    for number in range(3):
        np.testing.assert_array_equal(source.image(number).rgb, scene(41 + number).image)
    assert (source.kind, source.place, source.skipped) == ("scenes", "scenes:3@41", ())
    assert list(open_source("scenes:2").names) == ["scene-000000", "scene-000001"]


def test_id_of_a_scene_does_not_depend_on_the_count() -> None:
    source = open_source("scenes:4@999998")
    assert list(source.names) == ["scene-1000000", "scene-1000001", "scene-999998", "scene-999999"]
    np.testing.assert_array_equal(source.image(0).rgb, scene(1_000_000).image)
    assert open_source("scenes:5@7").limited(3).digest == open_source("scenes:3@7").digest


@pytest.mark.parametrize(
    "place", ["scenes:", "scenes:x", "scenes:-1", "scenes:5@", "scenes:5@-2", "scenes:5@1@2"]
)
def test_invalid_text_for_scenes_raises_source_error(place: str) -> None:
    with pytest.raises(
        SourceError, match=r"does not describe scenes: write scenes:COUNT or scenes:COUNT@SEED"
    ):
        open_source(place)


@pytest.mark.parametrize("count", ["0", "10000001", "999999999999"])
def test_scene_count_out_of_range_raises_source_error(count: str) -> None:
    with pytest.raises(SourceError, match=f"{count} scenes requested: give a number from 1 to 10000000"):
        open_source(f"scenes:{count}")


def test_source_subclass_is_used_as_it_is() -> None:
    own = Greys(5)
    assert open_source(own) is own
    with pytest.raises(ImageError, match="cannot read 002: input/output error"):
        own.image(2)
    assert own.image(-1).rgb[0, 0, 0] == 4
    for number in (5, -6):
        with pytest.raises(IndexError):
            own.image(number)
    few = open_source(own, limit=2)
    assert shades(few) == {"000": 0, "001": 1}
    assert few.digest == Greys(2).digest != own.digest
    assert repr(few) == "Greys(greys, 2 images)"
    with pytest.raises(SourceError, match="no images in greys: the source of kind 'greys' has no names"):
        open_source(Greys(0))
    with pytest.raises(ValueError, match="1 names and 2 sizes"):
        Source.__init__(own, "x", Names("a"), sizes=np.zeros(2, np.int64))


def test_limit_keeps_the_first_images_by_id(tmp_path: Path) -> None:
    for name in ("a.png", "c.png", "d.png"):
        saved(tmp_path / name)
    for name in ("b.png", "e.png"):
        (tmp_path / name).symlink_to("gone")
    source = open_source(tmp_path, limit=2)
    assert list(source.names) == ["a.png", "c.png"]
    assert [name for name, _ in source.skipped] == ["b.png"]
    assert source.sizes is not None
    assert len(source.sizes) == 2
    assert open_source(source, limit=9) is source
    for limit in (0, -3):
        with pytest.raises(SourceError, match=f"a limit of {limit} leaves no image"):
            open_source(tmp_path, limit=limit)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cta.zip", r"no source of images '.*cta.zip': similar names in .*: cat.zip"),
        ("nowhere/cat.zip", "there is no folder"),
        ("cat.png", "cat.png is a single image: give its folder or a list of images"),
        (
            "cat.h5",
            r"cat.h5 is not a source of images: give a folder, a text file of paths \(.txt, .lst\), a .zip",
        ),
        ("/dev/null", "/dev/null is not a regular file: give a folder"),
    ],
)
def test_invalid_source_raises_source_error(tmp_path: Path, name: str, message: str) -> None:
    for there in ("cat.zip", "cat.h5"):
        (tmp_path / there).touch()
    saved(tmp_path / "cat.png")
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path / name)


def test_url_and_malformed_text_raise_source_error() -> None:
    with pytest.raises(SourceError, match="is a web address: download the source of images first"):
        open_source("https://example.org/photos.zip")
    for malformed in ("", "a\0b", "x" * 5000, "a[", "{", "{1..}"):
        with pytest.raises(SourceError):
            open_source(malformed)


def test_path_object_named_like_scenes_is_opened_as_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "scenes:3" / "a.png", 5)
    monkeypatch.chdir(tmp_path)
    assert shades(open_source(Path("scenes:3"))) == {"a.png": 5}
    assert shades(open_source("./scenes:3")) == {"a.png": 5}


def zipped(tmp_path: Path, names: str) -> Path:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.write(saved(tmp_path / "x.png"), f"{name}.png")
    return tmp_path / "a.zip"


@pytest.mark.parametrize("limit", [None, 2])
def test_reopen_gives_the_described_source(tmp_path: Path, limit: int | None) -> None:
    for folder in ("photos", "moved"):
        for name in ("a", "b", "c"):
            saved(tmp_path / folder / f"{name}.png")
    for place in (tmp_path / "photos", zipped(tmp_path, "abc"), "scenes:4@2"):
        source = open_source(place, limit=limit)
        described = json.loads(json.dumps(source.describe()))
        again = reopen(described)
        assert (again.names, again.digest, again.kind) == (source.names, source.digest, source.kind)
        assert again.describe() == described
    photos = open_source(tmp_path / "photos", limit=limit).describe()
    shutil.rmtree(tmp_path / "photos")
    assert len(reopen(photos, tmp_path / "moved")) == (limit or 3)
    with pytest.raises(SourceError, match="no source of images"):
        reopen(photos)


def test_reopen_raises_if_the_source_has_changed(tmp_path: Path) -> None:
    described = open_source(zipped(tmp_path, "abc")).describe()
    zipped(tmp_path, "abcd")
    with pytest.raises(SourceError) as caught:
        reopen(described)
    place = tmp_path / "a.zip"
    assert str(caught.value) == (
        f"{place} is not the source that was searched, {place}: 3 images then, 4 now"
    )
    zipped(tmp_path, "abx")
    with pytest.raises(SourceError, match="3 images then, 3 now, but other names or sizes"):
        reopen(described)
    greys = Greys(3).describe()
    with pytest.raises(
        SourceError, match="greys is a source of kind 'greys' that was made in Python: pass that source"
    ):
        reopen(greys)
    own = Greys(3)
    assert reopen(greys, own) is own
    with pytest.raises(SourceError, match="3 images then, 2 now"):
        reopen(greys, Greys(2))


def test_pickled_source_of_a_million_images_is_small() -> None:
    source = open_source("scenes:1000000")
    assert len(pickle.dumps(source)) < 21_000_000
    assert len(pickle.dumps(source.limited(10))) < 1000


def test_reading_files_imports_neither_torch_nor_datasets(tmp_path: Path) -> None:
    code = (
        "import sys; from deconvviz.image_sources import open_source;"
        "open_source(sys.argv[1]).image(0);"
        "sys.exit(bool({'torch', 'datasets', 'pyarrow'} & set(sys.modules)))"
    )
    saved(tmp_path / "a.png")
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
