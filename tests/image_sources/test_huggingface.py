"""Datasets that `datasets` itself wrote; nothing is fetched."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
from helpers.shades import encoded, saved, shade_of, shades

from deconvviz.errors import PictureError, SourceError
from deconvviz.image_sources import open_source, reopen
from deconvviz.image_sources.huggingface import Rows


@pytest.fixture(autouse=True)
def quiet_and_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


def rows(cells: list[dict[str, Any] | None], column: str = "image") -> datasets.Dataset:
    plain = datasets.Dataset.from_dict({column: cells, "label": list(range(len(cells)))})
    return plain.cast_column(column, datasets.Image())


def pictures(*shades: int) -> datasets.Dataset:
    return rows([{"bytes": encoded(shade), "path": None} for shade in shades])


def test_a_saved_dataset_with_splits(tmp_path: Path) -> None:
    datasets.DatasetDict(train=pictures(3, 1, 2), test=pictures(9, 8)).save_to_disk(tmp_path / "set")
    source = open_source(tmp_path / "set")
    assert list(shades(source).items()) == [
        ("test/00000000", 9), ("test/00000001", 8),
        ("train/00000000", 3), ("train/00000001", 1), ("train/00000002", 2),
    ]  # fmt: skip
    assert source.sizes is not None
    assert source.sizes.tolist() == [len(encoded(shade)) for shade in (9, 8, 3, 1, 2)]
    assert (source.kind, source.place, source.skipped) == ("hf", str(tmp_path / "set"), ())
    assert reopen(source.describe()).digest == source.digest


def test_saved_rows_without_splits(tmp_path: Path) -> None:
    pictures(4, 6).save_to_disk(tmp_path / "set")
    assert shades(open_source(tmp_path / "set")) == {"00000000": 4, "00000001": 6}


def test_rows_that_were_chosen_and_mixed_stand_in_their_new_order(tmp_path: Path) -> None:
    mixed = pictures(*range(50)).select([30, 7, 7, 49, 0])
    mixed.save_to_disk(tmp_path / "set")
    assert list(shades(open_source(tmp_path / "set")).values()) == [30, 7, 7, 49, 0]


def test_it_travels_by_pickle_and_opens_its_rows_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.DatasetDict(a=pictures(*range(200)), b=pictures(5)).save_to_disk(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    source = open_source("set")
    monkeypatch.chdir("/")
    data = pickle.dumps(source)
    assert len(data) < 200 * 40
    assert shades(pickle.loads(data)) == shades(source)
    assert list(shades(pickle.loads(pickle.dumps(source.limited(2))))) == ["a/00000000", "a/00000001"]


def test_the_digest_knows_sizes_and_not_the_place(tmp_path: Path) -> None:
    for name, last in (("one", 2), ("two", 2), ("three", 200)):
        pictures(1, last).save_to_disk(tmp_path / name)
    one, two, three = (open_source(tmp_path / name) for name in ("one", "two", "three"))
    assert one.digest == two.digest
    assert (one.digest == three.digest) == (len(encoded(2)) == len(encoded(200)))
    with pytest.raises(SourceError, match="is not the source that was searched"):
        reopen(one.limited(1).describe() | {"limit": None}, tmp_path / "two")


def test_rows_that_hold_paths_or_nothing(tmp_path: Path) -> None:
    cells: list[dict[str, Any] | None] = [
        {"bytes": None, "path": str(saved(tmp_path / "a.png", 5))},
        None,
        {"bytes": None, "path": str(saved(tmp_path / "gone.png"))},
        {"bytes": b"no picture", "path": None},
        {"bytes": b"", "path": None},
    ]
    source = open_source(_saved(rows(cells), tmp_path))
    (tmp_path / "gone.png").unlink()
    assert shade_of(source, 0) == 5
    for number, message in enumerate(
        [
            "00000001 has no picture: its row is empty",
            "cannot read 00000002: no such file or directory",
            "00000003 is no picture but text: 'no picture'",
            r"00000004 is empty \(0 bytes\)",
        ],
        start=1,
    ):
        with pytest.raises(PictureError, match=f"^{message}"):
            source.picture(number)


def _saved(found: datasets.Dataset, tmp_path: Path) -> Path:
    # save_to_disk would read the files in; what other programs wrote need not have them
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.Image, "embed_storage", lambda self, storage, *_, **__: storage)
        found.save_to_disk(tmp_path / "set")
    return tmp_path / "set"


def test_columns(tmp_path: Path) -> None:
    found = pictures(1)
    found.select_columns("label").save_to_disk(tmp_path / "none")
    with pytest.raises(SourceError, match=r"no column of pictures in .*none: there are label \(Value\)$"):
        open_source(tmp_path / "none")
    both = datasets.concatenate_datasets([found, rows([None], "mask").select_columns("mask")], axis=1)
    both.save_to_disk(tmp_path / "both")
    with pytest.raises(SourceError, match=r"2 columns of pictures in .*both: image, mask; choose one"):
        open_source(tmp_path / "both")
    both.select_columns("image").save_to_disk(tmp_path / "one")
    assert shades(open_source(tmp_path / "one")) == {"00000000": 1}


def test_no_rows(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    pictures(1).to_parquet(tmp_path / "set" / "train.parquet")
    with pytest.raises(SourceError, match=r"^hf:.* cannot be loaded: .* corresponds to no data!"):
        open_source(f"hf:{tmp_path / 'set'}:train[:0]")
    with pytest.raises(SourceError, match=r"^no pictures in hf:mine: train has 0 rows$"):
        Rows("hf:mine", lambda: {"train": pictures(1).select([])})


def test_a_folder_that_only_looks_like_a_saved_dataset(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text("{}")
    saved(tmp_path / "a.png", 2)
    assert shades(open_source(tmp_path)) == {"a.png": 2}
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(SourceError, match=f"{tmp_path} cannot be loaded: "):
        open_source(tmp_path)


def test_names(tmp_path: Path) -> None:
    """What `load_dataset` knows: here a folder of Parquet."""
    for split, found in (("train", pictures(1, 2, 3)), ("test", pictures(7))):
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
        with pytest.raises(SourceError, match="names no dataset: write hf:NAME or hf:NAME:SPLIT"):
            open_source(empty)


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'no/such' on the Hub (LocalEntryNotFoundError)\nand more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(SourceError) as caught:
        open_source("hf:no/such")
    assert str(caught.value) == (
        "hf:no/such cannot be loaded: couldn't reach 'no/such' on the Hub (LocalEntryNotFoundError)"
    )


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(1).save_to_disk(tmp_path / "set")
    monkeypatch.setitem(sys.modules, "datasets", None)
    for place in ("hf:mnist", str(tmp_path / "set")):
        with pytest.raises(
            SourceError, match=r"needs the extra datasets: pip install 'deconvviz\[datasets\]'"
        ):
            open_source(place)


def test_a_dataset_that_has_shrunk_since(tmp_path: Path) -> None:
    pictures(1, 2).save_to_disk(tmp_path / "set")
    source = pickle.loads(pickle.dumps(open_source(tmp_path / "set")))
    shutil.rmtree(tmp_path / "set")  # rewritten in place, a file that is mapped ends the process
    pictures(1).save_to_disk(tmp_path / "set")
    with pytest.raises(PictureError, match=r"00000001 is gone: .*set has changed since it was listed"):
        source.picture(1)
