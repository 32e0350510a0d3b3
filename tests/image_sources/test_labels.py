"""Class labels of images: folder names, .cls members of shards, label columns, classes of scenes."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.searches import Noise
from helpers.shades import encoded
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.image_sources import Source, open_source
from deconvviz.image_sources.image_ids import Names
from deconvviz.image_sources.labels import Labels
from deconvviz.images.image import InputImage
from deconvviz.scenes import scene

PNG = encoded(3)


def labels_of(source: Source) -> dict[str, str | None] | None:
    labels = source.class_labels
    return None if labels is None else dict(zip(source.names, labels, strict=True))


@given(st.lists(st.one_of(st.none(), st.sampled_from(["b", "a", "é", "Z", ""]))), st.integers(0, 30))
def test_labels_keep_their_values_and_have_sorted_names(values: list[str | None], count: int) -> None:
    labels = Labels.of(values)
    if not any(value is not None for value in values):
        assert labels is None
        return
    assert labels is not None
    assert list(labels) == values == [labels[one] for one in range(len(labels))] and labels[:2] == values[:2]
    assert list(labels.names) == sorted({value for value in values if value is not None})
    assert labels.known == sum(value is not None for value in values)
    assert list(labels.first(count) or []) in (values[:count], [])
    assert (labels.first(count) is None) == (Labels.of(values[:count]) is None)


def test_digest_depends_on_names_and_on_their_images() -> None:
    digests = [
        labels.digest
        for values in ([["a", "b"], ["a", "c"], ["b", "a"], ["a", None]])
        if (labels := Labels.of(values)) is not None
    ]
    assert len(set(digests)) == 4
    again = Labels.of(["a", "b"])
    assert again is not None and again.digest == digests[0]


def written(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(PNG)
    return folder


def test_label_is_the_name_of_the_folder_of_the_image(tmp_path: Path) -> None:
    source = open_source(written(tmp_path, "train/cat/1.png", "val/cat/2.png", "val/dog/x.png", "top.png"))
    assert labels_of(source) == {
        "top.png": None, "train/cat/1.png": "cat", "val/cat/2.png": "cat", "val/dog/x.png": "dog",
    }  # fmt: skip
    assert labels_of(source.limited(2)) == {"top.png": None, "train/cat/1.png": "cat"}
    assert source.limited(1).class_labels is None
    again = pickle.loads(pickle.dumps(source))
    assert labels_of(again) == labels_of(source)


@pytest.mark.parametrize("paths", [("a.png", "b.png"), ("all/a.png", "all/b.png"), ("all/a.png", "b.png")])
def test_folder_without_class_folders_has_no_labels(tmp_path: Path, paths: tuple[str, ...]) -> None:
    assert open_source(written(tmp_path, *paths)).class_labels is None


def test_folder_name_that_is_not_utf8_is_a_label(tmp_path: Path) -> None:
    written(tmp_path, "dog/1.png")
    odd = os.fsencode(tmp_path) + b"/c\xff"
    os.mkdir(odd)
    with open(odd + b"/1.png", "wb") as stream:
        stream.write(PNG)
    assert labels_of(open_source(tmp_path)) == {r"c\xff/1.png": r"c\xff", "dog/1.png": "dog"}


def test_list_has_the_names_of_the_folders_as_labels(tmp_path: Path) -> None:
    written(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "list.txt").write_text(f"dog/1.png\n{tmp_path}/cat/1.png\n")
    assert list(labels_of(open_source(tmp_path / "list.txt")).values()) == ["cat", "dog"]  # type: ignore[union-attr]


def test_zip_has_the_names_of_its_folders_as_labels(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("x/dog/1.png", "x/cat/1.png"):
            archive.writestr(name, PNG)
    source = open_source(tmp_path / "a.zip")
    assert labels_of(source) == {"x/cat/1.png": "cat", "x/dog/1.png": "dog"}
    assert list(source.limited(1).class_labels or []) == ["cat"]


def shard(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_shards_have_the_text_of_their_cls_members_as_labels(tmp_path: Path) -> None:
    shard(
        tmp_path / "s-0.tar",
        {"0.cls": b"7\n", "0.png": PNG, "./1.seg.png": PNG, "1.cls": b"12", "2.png": PNG},
    )
    shard(tmp_path / "s-1.tar", {"cat/0.png": PNG, "cat/0.cls": b" tabby\xff ", "3.png": PNG, "3.cls": b" "})
    assert labels_of(open_source(str(tmp_path / "s-*.tar"))) == {
        "s-0.tar/0.png": "7", "s-0.tar/1.seg.png": "12", "s-0.tar/2.png": None,
        "s-1.tar/3.png": None, "s-1.tar/cat/0.png": r"tabby\xff",
    }  # fmt: skip


def test_shards_without_cls_members_have_the_names_of_their_folders(tmp_path: Path) -> None:
    shard(tmp_path / "s.tar", {"dog/1.png": PNG, "cat/1.png": PNG, "1.png": PNG})
    assert labels_of(open_source(tmp_path / "s.tar")) == {
        "s.tar/1.png": None, "s.tar/cat/1.png": "cat", "s.tar/dog/1.png": "dog",
    }  # fmt: skip
    shard(tmp_path / "t.tar", {"1.png": PNG, "2.png": PNG})
    assert open_source(tmp_path / "t.tar").class_labels is None
    assert open_source(str(tmp_path / "[st].tar")).class_labels is not None


def test_shard_that_ends_inside_a_cls_member_keeps_the_images_before_it(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", {"0.png": PNG, "0.cls": b"7", "1.png": PNG, "1.cls": b"8"})
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"8")])
    source = open_source(path)
    assert labels_of(source) == {"s.tar/0.png": "7", "s.tar/1.png": None}
    assert len(source.skipped) == 1 and "truncated" in source.skipped[0][1]


def test_long_cls_member_is_not_a_label(tmp_path: Path) -> None:
    assert open_source(shard(tmp_path / "s.tar", {"0.png": PNG, "0.cls": b"x" * 5000})).class_labels is None


def test_label_of_a_scene_is_its_class() -> None:
    source = open_source("scenes:40@7")
    assert list(source.class_labels or []) == [scene(seed).name for seed in range(7, 47)]
    assert list(source.limited(3).class_labels or []) == [scene(seed).name for seed in range(7, 10)]


class Own(Source):
    kind = "own"

    def __init__(self, labels: list[str | None] | None) -> None:
        super().__init__("own", Names(["a", "b", "c"]), labels=labels)

    def read(self, number: int) -> InputImage:
        return InputImage(np.zeros((4, 4, 3), np.uint8))


def test_source_of_a_user_can_have_labels() -> None:
    assert labels_of(Own(["x", None, "y"])) == {"a": "x", "b": None, "c": "y"}
    assert Own([None] * 3).class_labels is None and Own(None).class_labels is None
    assert Noise(3).class_labels is None
    with pytest.raises(ValueError, match="3 names and 2 labels: every image needs one label, or None"):
        Own(["x", "y"])
    with pytest.raises(TypeError, match="a label must be a text, or None if it is unknown, but one is 7"):
        Own(["x", "y", 7])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="surrogates not allowed"):
        Own(["x", "y", "\ud800"])


def test_labels_are_not_part_of_the_digest_of_a_source() -> None:
    assert Own(["x", None, "y"]).digest == Own(None).digest  # searches by earlier versions can be opened


def dataset(tmp_path: Path, columns: Mapping[str, list[Any]], features: Mapping[str, Any]) -> Source:
    datasets = pytest.importorskip("datasets")
    count = len(next(iter(columns.values())))
    cells = [{"bytes": encoded(shade), "path": None} for shade in range(count)]
    whole = datasets.Features({"image": datasets.Image(), **features})
    datasets.disable_progress_bars()
    made = datasets.Dataset.from_dict({"image": cells, **columns}, features=whole)
    datasets.DatasetDict(test=made.select([1, 0]), train=made).save_to_disk(tmp_path / "set")
    return open_source(tmp_path / "set")


def test_dataset_has_the_names_of_its_classes_as_labels(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    classes = datasets.ClassLabel(names=["cat", "dog"])
    source = dataset(
        tmp_path,
        {"coarse": [0, 0, 0, 0], "label": [1, 0, -1, None]},
        {"coarse": classes, "label": classes},
    )
    expected = ["cat", "dog", "dog", "cat", None, None]
    assert list(source.class_labels or []) == expected
    assert list(source.limited(3).class_labels or []) == expected[:3]
    again = pickle.loads(pickle.dumps(source))
    assert (
        list(again.class_labels) == expected and again.image(2).rgb.tolist() == source.image(2).rgb.tolist()
    )


@pytest.mark.parametrize(
    ("column", "kind", "values", "expected"),
    [
        ("fine", "class", [1, 0], ["b", "a"]),
        ("labels", "string", ["x", "y"], ["x", "y"]),
        ("label", "int64", [5, -3], ["5", "-3"]),
        ("label", "float32", [0.5, 1.0], None),
        ("caption", "string", ["x", "y"], None),
    ],
)
def test_label_column_is_found_by_its_name_or_type(
    tmp_path: Path, column: str, kind: str, values: list[Any], expected: list[str] | None
) -> None:
    datasets = pytest.importorskip("datasets")
    feature = datasets.ClassLabel(names=["a", "b"]) if kind == "class" else datasets.Value(kind)
    labels = dataset(tmp_path, {column: values}, {column: feature}).class_labels
    assert (None if labels is None else list(labels)) == (expected and [*expected[::-1], *expected])
