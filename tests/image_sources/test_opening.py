"""What a person may type, scenes, sources of one's own, and the same source once more."""

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

from deconvviz.errors import PictureError, SourceError
from deconvviz.image_sources import Source, open_source, reopen
from deconvviz.image_sources.image_ids import Names
from deconvviz.images.image import Picture
from deconvviz.scenes import scene


class Greys(Source):
    kind = "greys"

    def __init__(self, count: int) -> None:
        super().__init__("greys", Names(f"{shade:03d}" for shade in range(count)))

    def read(self, number: int) -> Picture:
        if number == 2:
            raise OSError(5, "Input/output error")
        return Picture(np.full((4, 4, 3), int(self.names[number]), np.uint8))


def test_scenes() -> None:
    source = open_source("scenes:3@41")
    assert list(source.names) == ["scene-000041", "scene-000042", "scene-000043"]
    for number in range(3):
        np.testing.assert_array_equal(source.picture(number).rgb, scene(41 + number).image)
    assert (source.kind, source.place, source.skipped) == ("scenes", "scenes:3@41", ())
    assert list(open_source("scenes:2").names) == ["scene-000000", "scene-000001"]


def test_a_scene_keeps_its_id_however_many_there_are() -> None:
    source = open_source("scenes:4@999998")
    assert list(source.names) == ["scene-1000000", "scene-1000001", "scene-999998", "scene-999999"]
    np.testing.assert_array_equal(source.picture(0).rgb, scene(1_000_000).image)
    assert open_source("scenes:5@7").limited(3).digest == open_source("scenes:3@7").digest


@pytest.mark.parametrize(
    "place", ["scenes:", "scenes:x", "scenes:-1", "scenes:5@", "scenes:5@-2", "scenes:5@1@2"]
)
def test_no_scenes(place: str) -> None:
    with pytest.raises(SourceError, match=r"are no scenes: write scenes:COUNT or scenes:COUNT@SEED"):
        open_source(place)


@pytest.mark.parametrize("count", ["0", "10000001", "999999999999"])
def test_too_many_or_no_scenes(count: str) -> None:
    with pytest.raises(SourceError, match=f"{count} scenes asked for: give a number from 1 to 10000000"):
        open_source(f"scenes:{count}")


def test_a_source_of_ones_own() -> None:
    own = Greys(5)
    assert open_source(own) is own
    with pytest.raises(PictureError, match="cannot read 002: input/output error"):
        own.picture(2)
    assert own.picture(-1).rgb[0, 0, 0] == 4
    for number in (5, -6):
        with pytest.raises(IndexError):
            own.picture(number)
    few = open_source(own, limit=2)
    assert shades(few) == {"000": 0, "001": 1}
    assert few.digest == Greys(2).digest != own.digest
    assert repr(few) == "Greys(greys, 2 pictures)"
    with pytest.raises(
        SourceError, match="no pictures in greys: it is a source of kind 'greys' without names"
    ):
        open_source(Greys(0))
    with pytest.raises(ValueError, match="1 names and 2 sizes"):
        Source.__init__(own, "x", Names("a"), sizes=np.zeros(2, np.int64))


def test_a_limit(tmp_path: Path) -> None:
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
        with pytest.raises(SourceError, match=f"a limit of {limit} leaves no picture"):
            open_source(tmp_path, limit=limit)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cta.zip", r"no source of pictures '.*cta.zip': nearest in .*: cat.zip"),
        ("nowhere/cat.zip", "there is no folder"),
        ("cat.png", "cat.png is one picture: give the folder that it is in"),
        (
            "cat.h5",
            r"cat.h5 is no source of pictures: give a folder, a text file of paths \(.txt, .lst\), a .zip",
        ),
        ("/dev/null", "/dev/null is no ordinary file: give a folder"),
    ],
)
def test_what_is_no_source(tmp_path: Path, name: str, message: str) -> None:
    for there in ("cat.zip", "cat.h5"):
        (tmp_path / there).touch()
    saved(tmp_path / "cat.png")
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path / name)


def test_addresses_and_odd_words() -> None:
    with pytest.raises(SourceError, match="is an address: fetch the source of pictures first"):
        open_source("https://example.org/photos.zip")
    for odd in ("", "a\0b", "x" * 5000, "a[", "{", "{1..}"):
        with pytest.raises(SourceError):
            open_source(odd)


def test_a_path_is_a_path_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_it_is_opened_again_from_what_it_said_of_itself(tmp_path: Path, limit: int | None) -> None:
    for folder in ("photos", "moved"):
        for name in ("a", "b", "c"):
            saved(tmp_path / folder / f"{name}.png")
    for place in (tmp_path / "photos", zipped(tmp_path, "abc"), "scenes:4@2"):
        source = open_source(place, limit=limit)
        told = json.loads(json.dumps(source.describe()))
        again = reopen(told)
        assert (again.names, again.digest, again.kind) == (source.names, source.digest, source.kind)
        assert again.describe() == told
    photos = open_source(tmp_path / "photos", limit=limit).describe()
    shutil.rmtree(tmp_path / "photos")
    assert len(reopen(photos, tmp_path / "moved")) == (limit or 3)
    with pytest.raises(SourceError, match="no source of pictures"):
        reopen(photos)


def test_another_source_is_refused(tmp_path: Path) -> None:
    told = open_source(zipped(tmp_path, "abc")).describe()
    zipped(tmp_path, "abcd")
    with pytest.raises(SourceError) as caught:
        reopen(told)
    place = tmp_path / "a.zip"
    assert str(caught.value) == (
        f"{place} is not the source that was searched, {place}: 3 pictures then, 4 now"
    )
    zipped(tmp_path, "abx")
    with pytest.raises(SourceError, match="3 pictures then, 3 now, but not the same names and sizes"):
        reopen(told)
    greys = Greys(3).describe()
    with pytest.raises(
        SourceError, match="greys is a source of kind 'greys', made in Python: give that source"
    ):
        reopen(greys)
    own = Greys(3)
    assert reopen(greys, own) is own
    with pytest.raises(SourceError, match="3 pictures then, 2 now"):
        reopen(greys, Greys(2))


def test_a_million_pictures_are_small_to_send() -> None:
    source = open_source("scenes:1000000")
    assert len(pickle.dumps(source)) < 21_000_000
    assert len(pickle.dumps(source.limited(10))) < 1000


def test_neither_torch_nor_datasets_is_needed_for_files(tmp_path: Path) -> None:
    code = (
        "import sys; from deconvviz.image_sources import open_source;"
        "open_source(sys.argv[1]).picture(0);"
        "sys.exit(bool({'torch', 'datasets', 'pyarrow'} & set(sys.modules)))"
    )
    saved(tmp_path / "a.png")
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
