"""Hugging Face datasets on the local disk, written by `datasets` without network access."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.shades import encoded, saved, shade_of, shades

from deconvviz.errors import ImageError, SourceError
from deconvviz.image_sources import open_source, reopen
from deconvviz.image_sources.huggingface import Rows

datasets: Any = pytest.importorskip("datasets")
Dataset = Any


@pytest.fixture(autouse=True)
def local_cache_without_progress_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


def rows(cells: list[dict[str, Any] | None], column: str = "image") -> Dataset:
    plain = datasets.Dataset.from_dict({column: cells, "label": list(range(len(cells)))})
    return plain.cast_column(column, datasets.Image())


def images(*shades: int) -> Dataset:
    return rows([{"bytes": encoded(shade), "path": None} for shade in shades])


def test_saved_dataset_with_splits_has_split_and_row_in_its_ids(tmp_path: Path) -> None:
    datasets.DatasetDict(train=images(3, 1, 2), test=images(9, 8)).save_to_disk(tmp_path / "set")
    source = open_source(tmp_path / "set")
    assert list(shades(source).items()) == [
        ("test/00000000", 9), ("test/00000001", 8),
        ("train/00000000", 3), ("train/00000001", 1), ("train/00000002", 2),
    ]  # fmt: skip
    assert source.sizes is not None
    assert source.sizes.tolist() == [len(encoded(shade)) for shade in (9, 8, 3, 1, 2)]
    assert (source.kind, source.place, source.skipped) == ("hf", str(tmp_path / "set"), ())
    assert reopen(source.describe()).digest == source.digest


def test_saved_dataset_without_splits_has_rows_as_ids(tmp_path: Path) -> None:
    images(4, 6).save_to_disk(tmp_path / "set")
    assert shades(open_source(tmp_path / "set")) == {"00000000": 4, "00000001": 6}


def test_selected_rows_are_in_the_order_of_the_selection(tmp_path: Path) -> None:
    mixed = images(*range(50)).select([30, 7, 7, 49, 0])
    mixed.save_to_disk(tmp_path / "set")
    assert list(shades(open_source(tmp_path / "set")).values()) == [30, 7, 7, 49, 0]


def test_pickled_source_is_small_and_opens_its_dataset_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.DatasetDict(a=images(*range(200)), b=images(5)).save_to_disk(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    source = open_source("set")
    monkeypatch.chdir("/")
    data = pickle.dumps(source)
    assert len(data) < 200 * 40
    assert shades(pickle.loads(data)) == shades(source)
    assert list(shades(pickle.loads(pickle.dumps(source.limited(2))))) == ["a/00000000", "a/00000001"]


def test_digest_depends_on_sizes_and_not_on_the_place(tmp_path: Path) -> None:
    for name, last in (("one", 2), ("two", 2), ("three", 200)):
        images(1, last).save_to_disk(tmp_path / name)
    one, two, three = (open_source(tmp_path / name) for name in ("one", "two", "three"))
    assert one.digest == two.digest
    assert (one.digest == three.digest) == (len(encoded(2)) == len(encoded(200)))
    with pytest.raises(SourceError, match="is not the source that was searched"):
        reopen(one.limited(1).describe() | {"limit": None}, tmp_path / "two")


def test_rows_with_paths_are_read_and_empty_rows_raise_image_error(tmp_path: Path) -> None:
    cells: list[dict[str, Any] | None] = [
        {"bytes": None, "path": str(saved(tmp_path / "a.png", 5))},
        None,
        {"bytes": None, "path": str(saved(tmp_path / "gone.png"))},
        {"bytes": b"not an image", "path": None},
        {"bytes": b"", "path": None},
    ]
    source = open_source(_saved(rows(cells), tmp_path))
    (tmp_path / "gone.png").unlink()
    assert shade_of(source, 0) == 5
    for number, message in enumerate(
        [
            "00000001 has no image: its row is empty",
            "cannot read 00000002: no such file or directory",
            "00000003 is not an image: it is text, 'not an image'",
            r"00000004 is empty \(0 bytes\)",
        ],
        start=1,
    ):
        with pytest.raises(ImageError, match=f"^{message}"):
            source.image(number)


def _saved(found: Dataset, tmp_path: Path) -> Path:
    # save_to_disk would store the files in the dataset; other programs may store their paths only
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.Image, "embed_storage", lambda self, storage, *_, **__: storage)
        found.save_to_disk(tmp_path / "set")
    return tmp_path / "set"


def test_dataset_must_have_exactly_one_image_column(tmp_path: Path) -> None:
    found = images(1)
    found.select_columns("label").save_to_disk(tmp_path / "none")
    with pytest.raises(SourceError, match=r"no image column in .*none: there are label \(Value\)$"):
        open_source(tmp_path / "none")
    both = datasets.concatenate_datasets([found, rows([None], "mask").select_columns("mask")], axis=1)
    both.save_to_disk(tmp_path / "both")
    with pytest.raises(SourceError, match=r"2 image columns in .*both: image, mask\. Save one of them"):
        open_source(tmp_path / "both")
    both.select_columns("image").save_to_disk(tmp_path / "one")
    assert shades(open_source(tmp_path / "one")) == {"00000000": 1}


def test_image_column_may_have_any_name(tmp_path: Path) -> None:
    for name in ("picture", "pixels"):
        images(3, 1).rename_column("image", name).save_to_disk(tmp_path / name)
        assert list(shades(open_source(tmp_path / name)).values()) == [3, 1]


def test_dataset_without_rows_raises_source_error(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    images(1).to_parquet(tmp_path / "set" / "train.parquet")
    with pytest.raises(SourceError, match=r"^hf:.* cannot be loaded: .* corresponds to no data!"):
        open_source(f"hf:{tmp_path / 'set'}:train[:0]")
    with pytest.raises(SourceError, match=r"^no images in hf:mine: train has 0 rows$"):
        Rows("hf:mine", lambda: {"train": images(1).select([])})


def test_folder_needs_all_info_files_to_be_a_saved_dataset(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text("{}")
    saved(tmp_path / "a.png", 2)
    assert shades(open_source(tmp_path)) == {"a.png": 2}
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(SourceError, match=f"{tmp_path} cannot be loaded: "):
        open_source(tmp_path)


def test_named_dataset_is_opened_with_all_or_one_split(tmp_path: Path) -> None:
    """`load_dataset` also accepts the path of a folder of Parquet files."""
    for split, found in (("train", images(1, 2, 3)), ("test", images(7))):
        (tmp_path / "set").mkdir(exist_ok=True)
        found.to_parquet(tmp_path / "set" / f"{split}.parquet")
    name = f"hf:{tmp_path / 'set'}"
    expected = {"test/00000000": 7, "train/00000000": 1, "train/00000001": 2, "train/00000002": 3}
    source = open_source(name)
    assert shades(source) == shades(pickle.loads(pickle.dumps(source))) == expected
    assert source.describe()["place"] == name
    assert shades(open_source(f"{name}:test")) == {"test/00000000": 7}
    assert shades(open_source(f"{name}:train[1:]")) == {"train[1:]/00000000": 2, "train[1:]/00000001": 3}
    with pytest.raises(SourceError, match=r'cannot be loaded: unknown split "dev"\. Should be one of'):
        open_source(f"{name}:dev")
    with pytest.raises(SourceError, match=r"^hf:.*/nowhere cannot be loaded: couldn't find any data file at"):
        open_source(f"hf:{tmp_path}/nowhere")
    for empty in ("hf:", "hf::train"):
        with pytest.raises(SourceError, match=r"no dataset name in .*: write hf:NAME or hf:NAME:SPLIT"):
            open_source(empty)


def test_unreachable_hub_raises_source_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'no/such' on the Hub (LocalEntryNotFoundError)\nand more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(SourceError) as caught:
        open_source("hf:no/such")
    assert str(caught.value) == (
        "hf:no/such cannot be loaded: couldn't reach 'no/such' on the Hub (LocalEntryNotFoundError)"
    )


def test_missing_datasets_package_raises_source_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images(1).save_to_disk(tmp_path / "set")
    monkeypatch.setitem(sys.modules, "datasets", None)
    for place in ("hf:mnist", str(tmp_path / "set")):
        with pytest.raises(
            SourceError, match=r"needs the extra datasets: pip install 'deconvviz\[datasets\]'"
        ):
            open_source(place)


def test_row_missing_after_the_dataset_has_shrunk_raises_image_error(tmp_path: Path) -> None:
    images(1, 2).save_to_disk(tmp_path / "set")
    source = pickle.loads(pickle.dumps(open_source(tmp_path / "set")))
    shutil.rmtree(tmp_path / "set")  # writing to a memory-mapped file would kill the process
    images(1).save_to_disk(tmp_path / "set")
    with pytest.raises(ImageError, match=r"00000001 no longer exists: .*set has changed since it was listed"):
        source.image(1)
