"""Zip files and tar shards, written by `zipfile`, `tarfile` and webdataset."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import pickle
import random
import tarfile
import threading
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from helpers.shades import encoded, saved, shade_of, shades

from deconvviz.errors import ImageError, SourceError
from deconvviz.image_sources import Source, archive_reader, open_source, zip_archive
from deconvviz.images.image import read_image

MEMBERS = {f"{'abc'[number % 3]}/{number}.png": encoded(number) for number in range(12)}
ORDERED = {name: int(name[2:-4]) for name in sorted(MEMBERS)}


def zipped(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, link
    return member


def tarred(path: Path, members: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in members.items():
            archive.addfile(entry(name, len(data)), io.BytesIO(data))
    return path


def archive_of(tmp_path: Path, kind: str, members: Mapping[str, bytes] = MEMBERS) -> tuple[Path, str]:
    """Write an archive, and return its path and the prefix of its ids."""
    if kind == "zip":
        return zipped(tmp_path / "a.zip", members), ""
    return tarred(tmp_path / "a.tar", members), "a.tar/"


BOTH = pytest.mark.parametrize("kind", ["zip", "tar"])


@BOTH
def test_images_are_sorted_by_member_name_and_other_files_ignored(tmp_path: Path, kind: str) -> None:
    others = {
        "labels.json": b"{}", "c.cls": b"1", "__MACOSX/a/._0.png": b"x", ".DS_Store": b"", "a/.b.png": b"",
    }  # fmt: skip
    path, prefix = archive_of(tmp_path, kind, MEMBERS | others)
    source = open_source(path)
    assert list(shades(source).items()) == [(prefix + name, shade) for name, shade in ORDERED.items()]
    assert (source.kind, source.place, source.skipped) == (kind, str(path), ())
    assert source.sizes is not None
    assert source.sizes.tolist() == [len(MEMBERS[name]) for name in ORDERED]
    assert source.image(0).path is None


@BOTH
def test_pickled_source_is_small_and_has_no_file_handles(tmp_path: Path, kind: str) -> None:
    source = open_source(archive_of(tmp_path, kind)[0])
    fresh = pickle.dumps(source)
    shades(source)
    assert pickle.dumps(source) == fresh
    assert len(fresh) < 2500
    assert shades(pickle.loads(fresh)) == shades(source)
    few = pickle.loads(pickle.dumps(source.limited(3)))
    assert list(shades(few).values()) == list(ORDERED.values())[:3]


@BOTH
def test_digest_depends_on_content_and_not_on_the_place(tmp_path: Path, kind: str) -> None:
    (tmp_path / "other").mkdir()
    one = open_source(archive_of(tmp_path, kind)[0])
    other = open_source(archive_of(tmp_path / "other", kind)[0])
    changed = open_source(archive_of(tmp_path / "other", kind, MEMBERS | {"a/0.png": encoded(0) + b"\0"})[0])
    assert one.digest == other.digest != changed.digest


def _send_shades(source: Source, numbers: list[int], pipe: object) -> None:
    pipe.send([shade_of(source, number) for number in numbers])  # type: ignore[attr-defined]


@BOTH
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_children_do_not_share_file_positions(tmp_path: Path, kind: str) -> None:
    """If children used the handles of their parent, each would move the position of the others."""
    source, context = open_source(archive_of(tmp_path, kind)[0]), multiprocessing.get_context("fork")
    numbers = [random.Random(7).randrange(len(source)) for _ in range(400)]
    shade_of(source, 0)
    pipes = [context.Pipe() for _ in range(3)]
    children = [context.Process(target=_send_shades, args=(source, numbers, pipe[1])) for pipe in pipes]
    for child in children:
        child.start()
    expected = [list(ORDERED.values())[number] for number in numbers]
    assert [shade_of(source, number) for number in numbers] == expected
    assert [pipe[0].recv() for pipe in pipes] == [expected] * 3
    for child, pipe in zip(children, pipes, strict=True):
        child.join()
        for end in pipe:
            end.close()


@BOTH
def test_threads_read_the_right_images(tmp_path: Path, kind: str) -> None:
    source, wrong = open_source(archive_of(tmp_path, kind)[0]), list[int]()

    def work(seed: int) -> None:
        for number in random.Random(seed).choices(range(len(source)), k=100):
            if shade_of(source, number) != list(ORDERED.values())[number]:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@BOTH
def test_unsafe_member_names_write_no_files(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    names = ["../out.png", "/absolute.png", "a/../../up.png", "C:\\x.png"]
    path, prefix = archive_of(
        tmp_path / "in", kind, {name: encoded(number) for number, name in enumerate(names)}
    )
    assert shades(open_source(path)) == {prefix + name: names.index(name) for name in sorted(names)}
    assert [one.name for one in tmp_path.rglob("*")] == ["in", path.name]


@BOTH
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_last_of_two_members_with_one_name_is_read(tmp_path: Path, kind: str) -> None:
    if kind == "zip":
        path, prefix = zipped(tmp_path / "a.zip", {"a.png": encoded(1)}), ""
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("a.png", encoded(2))
    else:
        path, prefix = tarred(tmp_path / "a.tar", {"a.png": encoded(1)}), "a.tar/"
        with tarfile.open(path, "a") as shard:
            shard.addfile(entry("a.png", len(encoded(2))), io.BytesIO(encoded(2)))
    source = open_source(path)
    assert shades(source) == {f"{prefix}a.png": 2}
    assert [name for name, _ in source.skipped] == [f"{prefix}a.png"]
    assert "more than once: the last copy is read" in source.skipped[0][1]


@BOTH
def test_archive_without_images_raises_source_error(tmp_path: Path, kind: str) -> None:
    path, _ = archive_of(tmp_path, kind, {"a.json": b"{}", "b/c.txt": b"", ".hidden.txt": b""})
    with pytest.raises(SourceError, match=r"no images in .*: 2 other files.*\(images end in \.apng"):
        open_source(path)


@BOTH
def test_changed_or_deleted_archive_raises_image_error(tmp_path: Path, kind: str) -> None:
    path, prefix = archive_of(tmp_path, kind)
    source = open_source(path)
    archive_of(tmp_path, kind, MEMBERS | {"d.png": bytes(20_000)})
    with pytest.raises(ImageError, match=f"cannot read {prefix}a/0.png: .* has changed since it was listed"):
        source.image(0)
    path.unlink()
    again = pickle.loads(pickle.dumps(source))
    with pytest.raises(ImageError, match=f"cannot read {prefix}a/0.png: .*: no such file"):
        again.image(0)


def test_member_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"a.png": encoded(1), "b.png": encoded(2) + bytes(5000)}
    monkeypatch.setattr(archive_reader, "MAX_MEMBER_BYTES", 1000)
    monkeypatch.setattr(zip_archive, "MAX_MEMBER_BYTES", 1000)
    size = len(members["b.png"])
    source = open_source(tarred(tmp_path / "a.tar", members))
    assert shade_of(source, 0) == 1
    with pytest.raises(
        ImageError, match=rf"^a.tar/b.png is too large: it has {size} bytes, and at most 1000"
    ):
        source.image(1)
    source = open_source(zipped(tmp_path / "a.zip", members))
    assert shades(source) == {"a.png": 1}
    assert source.skipped == (
        ("b.png", f"it is too large: it has {size} bytes, and at most 1000 are unpacked"),
    )


@BOTH
def test_damaged_archive_raises_image_error_or_source_error(tmp_path: Path, kind: str) -> None:
    path, _ = archive_of(tmp_path, kind)
    whole, rng, read, rejected = path.read_bytes(), random.Random(3), 0, 0
    for turn in range(120):
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 8, 60])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.randrange(len(damaged))] if turn % 3 == 0 else damaged)
        try:
            source = open_source(path)
        except SourceError:
            rejected += 1
            continue
        for number in range(len(source)):
            try:
                source.image(number)
                read += 1
            except ImageError as reason:
                assert source.names[number] in str(reason)
                rejected += 1
    assert min(read, rejected) > 30


# --- zips


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_zip_images_equal_those_that_zipfile_reads(tmp_path: Path, method: int) -> None:
    path = zipped(tmp_path / "A.ZIP", MEMBERS | {"ünïcode.png": encoded(70)}, method)
    with path.open("r+b") as stream:  # as in a self-extracting program: all offsets change
        content = stream.read()
        stream.seek(0)
        stream.write(b"#!/bin/sh\n" + content)
    source = open_source(path)
    with zipfile.ZipFile(path) as archive:
        for number, name in enumerate(source.names):
            expected = read_image(archive.read(name), name)
            assert (source.image(number).rgb == expected.rgb).all()
    assert len(source) == 13


def test_zip_written_to_a_stream_is_read(tmp_path: Path) -> None:
    """Local headers in such a file have no sizes."""

    class UnseekableStream(io.BytesIO):
        def seekable(self) -> bool:
            return False

    stream = UnseekableStream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
    (tmp_path / "a.zip").write_bytes(stream.getvalue())
    assert shades(open_source(tmp_path / "a.zip")) == ORDERED


def test_unreadable_zip_members_are_skipped_with_a_reason(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.png": encoded(1), "b.png": encoded(2)})
    link = zipfile.ZipInfo("c.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "a.png")
        archive.writestr("d.png", encoded(3), zipfile.ZIP_LZMA)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\1\2", 0, data.rindex(b"b.png")) + 8] |= 1  # set the encryption flag
    path.write_bytes(data)
    source = open_source(path)
    assert shades(source) == {"a.png": 1}
    assert source.skipped == (
        ("b.png", "it is encrypted"),
        ("c.png", "it is a link, not an image"),
        ("d.png", "it is compressed with lzma: compress it with deflate, or not at all"),
    )


def test_member_larger_than_its_entry_is_not_unpacked(tmp_path: Path) -> None:
    """A zip bomb has a false size in its entry; no more bytes than that size are unpacked."""
    path = zipped(tmp_path / "a.zip", {"a.png": bytes(10_000_000)})
    data = bytearray(path.read_bytes())
    size = data.rindex(b"PK\1\2") + 24
    data[size : size + 4] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    source = open_source(path)
    tracemalloc.start()
    with pytest.raises(
        ImageError, match=r"^a.png is damaged: its size or checksum differs from its entry in "
    ):
        source.image(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("field", [20, 24, 42], ids=["packed size", "size", "offset"])
def test_zip_entry_that_points_outside_the_file_is_skipped(tmp_path: Path, field: int) -> None:
    path = zipped(tmp_path / "a.zip", {"a.png": encoded(1), "b.png": encoded(2)})
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\1\2") + field
    data[place : place + 4] = b"\xfe\xff\xff\xff"
    path.write_bytes(data)
    source = open_source(path)
    assert shades(source) == {"a.png": 1}
    assert [name for name, _ in source.skipped] == ["b.png"]


def test_flipped_bit_in_a_zip_raises_image_error(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.bmp": encoded(1, "BMP")}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"BM") + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"^a.bmp is damaged"):
        open_source(path).image(0)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip", b"\0" * 100])
def test_invalid_zip_raises_source_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(SourceError, match=r"a.zip cannot be read as a zip: file is not a zip file"):
        open_source(tmp_path / "a.zip")


# --- tar shards


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_shards_of_webdataset_are_read_by_folder_and_pattern(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(str(tmp_path / "s-%03d.tar"), maxcount=5, verbose=0) as sink:
        for number in range(12):
            sample = {"__key__": f"{number:04d}", "png": encoded(number), "json": {}, "cls": number % 3}
            sink.write(sample)
    expected = {
        f"s-{number // 5:03d}.tar/{number:04d}.png": number for number in range(12)
    }  # fmt: skip
    for pattern in ("", "s-*.tar", "s-{000..002}.tar", "s-00{0,1,2}.tar", "s-00?.tar", "s-0{00..01}*.tar"):
        source = open_source(tmp_path / pattern if pattern else tmp_path)
        if pattern != "s-0{00..01}*.tar":
            assert shades(source) == expected
        else:
            assert shades(source) == {name: shade for name, shade in expected.items() if shade < 10}
    stored = webdataset.WebDataset(str(tmp_path / "s-{000..002}.tar"), shardshuffle=False)
    assert [sample["png"] for sample in stored] == [encoded(number) for number in range(12)]
    del stored
    gc.collect()  # webdataset does not close its last shard


def test_ids_of_shards_in_several_folders_have_the_folder_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shade, name in enumerate(("train", "val")):
        tarred(tmp_path / name / "0.tar", {"a.png": encoded(shade)})
    expected = {"train/0.tar/a.png": 0, "val/0.tar/a.png": 1}
    monkeypatch.chdir(tmp_path)
    for pattern in (str(tmp_path), f"{tmp_path}/*/0.tar", "{val,train}/0.tar", "**/*.tar"):
        assert shades(open_source(pattern)) == expected
    assert shades(open_source("val/0.tar")) == {"0.tar/a.png": 1}
    assert open_source("*/0.tar").describe()["place"] == str(tmp_path / "*" / "0.tar")


def test_existing_file_with_pattern_characters_is_opened_by_its_name(tmp_path: Path) -> None:
    tarred(tmp_path / "a[1]" / "s-{0..1}.tar", {"a.png": encoded(4)})
    assert shades(open_source(tmp_path / "a[1]" / "s-{0..1}.tar")) == {"s-{0..1}.tar/a.png": 4}
    tarred(tmp_path / "a[1]" / "t-0.tar", {"a.png": encoded(5)})
    assert list(shades(open_source(tmp_path / "a[1]" / "t-{0..0}.tar")).values()) == [5]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (
            "s-{0..4}.tar",
            r"3 of the 5 files of '.*s-\{0\.\.4\}\.tar' do not exist: .*s-2.tar, .*s-3.tar, .*s-4.tar$",
        ),
        ("s-{0,9}.tar", r"1 of the 2 files of .* do not exist: .*s-9.tar$"),
        ("t-*.tar", "no file matches '.*t-"),
        ("t-{0..3}.tar", "no file matches '.*t-"),
        ("s-*", "matches 3 files, but .*s-notes.txt is not a .tar"),
        ("s-{0..999999}.tar", "expands to 1000000 files: at most 100000"),
        ("s-{0..999}-{0..999}-{0..999}.tar", "expands to 1000000000 files: at most 100000"),
    ],
)
def test_pattern_with_missing_or_wrong_files_raises_source_error(
    tmp_path: Path, pattern: str, message: str
) -> None:
    for number in range(2):
        tarred(tmp_path / f"s-{number}.tar", {"a.png": encoded(number)})
    (tmp_path / "s-notes.txt").touch()
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path / pattern)


def test_error_for_shards_next_to_other_files_suggests_a_pattern(tmp_path: Path) -> None:
    tarred(tmp_path / "s-0.tar", {"a.png": encoded(0)})
    (tmp_path / "sizes.json").touch()
    with pytest.raises(
        SourceError, match=rf"2 other files \(.*\)\. To search the tar shards, give '{tmp_path}/\*.tar'$"
    ):
        open_source(tmp_path)
    saved(tmp_path / "b.png")
    assert list(open_source(tmp_path).names) == ["b.png"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_format_is_read(tmp_path: Path, form: int) -> None:
    members = {"./a.png": encoded(1), "ä/ö.png": encoded(2)}
    if form != tarfile.USTAR_FORMAT:
        members["long/" * 60 + "c.png"] = encoded(3)
    source = open_source(tarred(tmp_path / "a.tar", members, form))
    assert shades(source) == {
        "a.tar/" + name.removeprefix("./"): shade
        for name, shade in sorted(
            zip(members, (1, 2, 3), strict=False), key=lambda one: one[0].removeprefix("./")
        )
    }


def test_tar_member_name_that_is_not_utf_8_is_escaped(tmp_path: Path) -> None:
    with tarfile.open(
        tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, errors="surrogateescape"
    ) as archive:
        archive.addfile(entry("a\udcff.png", len(encoded(6))), io.BytesIO(encoded(6)))
    assert shades(open_source(tmp_path / "a.tar")) == {"a.tar/a\\xff.png": 6}


def test_member_name_that_looks_like_an_escape_has_its_own_id(tmp_path: Path) -> None:
    members = {r"a\xff.png": encoded(1), "line\nbreak.png": encoded(2)}
    assert shades(open_source(tarred(tmp_path / "a.tar", members))) == {
        r"a.tar/a\x5cxff.png": 1, "a.tar/line\nbreak.png": 2,
    }  # fmt: skip
    assert shades(open_source(zipped(tmp_path / "a.zip", members))) == {
        r"a\x5cxff.png": 1, "line\nbreak.png": 2,
    }  # fmt: skip


def test_zip_with_names_wrongly_marked_as_utf_8_is_read(tmp_path: Path) -> None:
    """`zipfile` rejects such a file as a whole."""
    marked = {"a\u0661.png": encoded(1), "\u0662.png": encoded(2), "c.png": encoded(3)}
    path = zipped(tmp_path / "a.zip", marked)
    path.write_bytes(path.read_bytes().replace("\u0661".encode(), b"\xff\xfe"))
    with pytest.raises(UnicodeDecodeError):
        zipfile.ZipFile(path)
    source = open_source(path)
    assert shades(source) == {r"a\xff\xfe.png": 1, "c.png": 3, "\u0662.png": 2}
    assert shades(pickle.loads(pickle.dumps(source))) == shades(source)
    assert source.skipped == ()


def test_links_inside_a_shard_are_followed_and_others_skipped(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(entry("b/data.bin", len(encoded(8))), io.BytesIO(encoded(8)))
        archive.addfile(entry("b/hard.png", kind=tarfile.LNKTYPE, link="b/data.bin"))
        archive.addfile(entry("b/soft.png", kind=tarfile.SYMTYPE, link="../b/data.bin"))
        archive.addfile(entry("b/out.png", kind=tarfile.SYMTYPE, link="/etc/hostname"))
        archive.addfile(entry("b/pipe.png", kind=tarfile.FIFOTYPE))
        archive.addfile(entry("b/folder.png", kind=tarfile.DIRTYPE))
    source = open_source(tmp_path / "a.tar")
    assert shades(source) == {"a.tar/b/hard.png": 8, "a.tar/b/soft.png": 8}
    assert source.skipped == (
        ("a.tar/b/out.png", "it is a link to /etc/hostname, which is not before it in its shard"),
        ("a.tar/b/pipe.png", "it is not a regular file"),
    )


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_compressed_tar_raises_source_error(tmp_path: Path, mode: str) -> None:
    for name in (f"a.tar.{mode[2:]}", "a.tar"):
        with tarfile.open(tmp_path / name, mode) as archive:  # type: ignore[call-overload]
            archive.addfile(entry("a.png", len(encoded(6))), io.BytesIO(encoded(6)))
        how = {"gz": "gzip", "bz2": "bzip2", "xz": "xz"}[mode[2:]]
        with pytest.raises(SourceError, match=f"{name} is compressed with {how}: .* plain .tar$"):
            open_source(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"it is empty \(0 bytes\)"),
        (b"<html>404</html>", "it cannot be read as a tar: truncated header"),
        (b"not a tar file " * 100, "it cannot be read as a tar: bad checksum|invalid header"),
    ],
)
def test_invalid_tar_is_skipped_or_raises_source_error(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(
        SourceError, match=rf"no images in .*a.tar: 0 other files in 1 shard, .*\(a.tar: {reason}"
    ):
        open_source(tmp_path / "a.tar")
    tarred(tmp_path / "b.tar", {"b.png": encoded(3)})
    source = open_source(tmp_path)
    assert shades(source) == {"b.tar/b.png": 3}
    assert [name for name, _ in source.skipped] == ["a.tar"]


def _header_offset(path: Path, which: int) -> int:
    with tarfile.open(path) as archive:
        return archive.getmembers()[which].offset


def test_members_before_the_end_of_a_truncated_shard_are_read(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar", {f"{number}.bmp": encoded(number, "BMP") for number in range(4)})
    whole, third = path.read_bytes(), _header_offset(path, 2)
    path.write_bytes(whole[: third + 512 + 60])
    source = open_source(path)
    assert list(source.names) == ["a.tar/0.bmp", "a.tar/1.bmp", "a.tar/2.bmp"]
    assert [shade_of(source, number) for number in (0, 1)] == [0, 1]
    with pytest.raises(ImageError, match=r"^a.tar/2.bmp is truncated: .*a.tar ends inside this member"):
        source.image(2)
    assert source.skipped == (
        ("a.tar", f"it is truncated or damaged after byte {third + 1024}: unexpected end of data"),
    )
    path.write_bytes(whole[:third])
    assert open_source(path).skipped == (("a.tar", "it has no end mark and may be truncated"),)


def test_damaged_header_is_reported_and_not_taken_for_the_end(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar", {f"{number}.png": encoded(number) for number in range(4)})
    third = _header_offset(path, 2)
    data = bytearray(path.read_bytes())
    data[third + 150] ^= 1
    path.write_bytes(data)
    source = open_source(path)
    assert shades(source) == {"a.tar/0.png": 0, "a.tar/1.png": 1}
    assert source.skipped == (("a.tar", f"it is damaged at byte {third}: nothing from there on is read"),)


@pytest.mark.parametrize("size", [b"\xff" * 12, b"\xff" * 10 + b"\xf6\x00", b"\x80" + b"\x7f" * 11])
def test_tar_header_with_invalid_size_ends_the_list(tmp_path: Path, size: bytes) -> None:
    """A negative size points back to its own header, so that listing might never end."""
    path = tarred(tmp_path / "a.tar", {f"{number}.png": encoded(number) for number in range(3)})
    second, data = _header_offset(path, 1), bytearray(path.read_bytes())
    data[second + 124 : second + 136] = size
    header = bytes(data[second : second + 148]) + b" " * 8 + bytes(data[second + 156 : second + 512])
    data[second + 148 : second + 156] = b"%06o\0 " % sum(header)
    path.write_bytes(data)
    source = open_source(path)
    assert shades(source) == {"a.tar/0.png": 0}
    assert [name for name, _ in source.skipped] == ["a.tar"]
    assert "truncated or damaged after byte" in source.skipped[0][1]


def test_data_after_the_end_of_a_tar_are_reported(tmp_path: Path) -> None:
    one = tarred(tmp_path / "a.tar", {"a.png": encoded(1)})
    one.write_bytes(one.read_bytes() + tarred(tmp_path / "b.tar", {"b.png": encoded(2)}).read_bytes())
    source = open_source(one)
    assert shades(source) == {"a.tar/a.png": 1}
    assert source.skipped == (
        ("a.tar", "the data after its end mark are not read (several tar files in one?)"),
    )


def test_listing_a_shard_does_not_read_its_data(tmp_path: Path) -> None:
    """Each member has a gigabyte, which is a hole in a sparse file."""
    large = 2**30
    with (tmp_path / "a.tar").open("wb") as stream:
        for number in range(20):
            stream.write(entry(f"{number:02d}.bmp", large).tobuf())
            stream.seek(large, os.SEEK_CUR)
        stream.write(bytes(1024))
    source = open_source(tmp_path / "a.tar")
    assert source.sizes is not None
    assert source.sizes.tolist() == [large] * 20
    with pytest.raises(
        ImageError, match=r"00.bmp is too large: it has 1073741824 bytes, and at most 536870912"
    ):
        source.image(0)


def test_at_most_16_shards_are_open_at_once(tmp_path: Path) -> None:
    for number in range(40):
        tarred(tmp_path / f"s-{number:02d}.tar", {"a.png": encoded(number)})
    source = open_source(tmp_path)
    order = random.Random(0).choices(range(40), k=200)
    assert [shade_of(source, number) for number in order] == order
    open_shards = [file.path for file in psutil.Process().open_files() if str(tmp_path) in file.path]
    assert 1 <= len(open_shards) <= 16
