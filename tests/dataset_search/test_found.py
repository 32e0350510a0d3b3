"""Results of a search: tables, queries and files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.searches import Noise, junk, same, small

import deconvviz as dv
from deconvviz.dataset_search.result import Search
from deconvviz.errors import DeconvvizError, OutputError, SearchError, UnitError

COLUMNS = {
    "layer": pa.string(),
    "channel": pa.int32(),
    "rank": pa.int32(),
    "activation": pa.float32(),
    "image": pa.string(),
    **dict.fromkeys(("y", "x", "x0", "y0", "x1", "y1"), pa.int32()),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("found") / "search"


@pytest.fixture(scope="module")
def found(folder: Path) -> Search:
    return dv.search(small(), Noise(30), ["0", "3", "6"], out=folder, workers=0)


def test_search_writes_six_files_with_their_columns(found: Search, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "channels.parquet",
        "images.parquet",
        "manifest.json",
        "skipped.csv",
        "statistics.parquet",
        "top.parquet",
    ]
    table = pq.read_table(folder / "top.parquet")
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == COLUMNS
    assert table.num_rows == (6 + 5 + 4) * 9 == len(found)
    assert table.equals(found.peaks)
    channels = pq.read_table(folder / "channels.parquet")
    names = ["layer", "channel", "pictures", "mean", "density", "maximum", "dead", "kept"]
    assert channels.schema.names == names
    assert (folder / "skipped.csv").read_text() == "image,reason\n"
    assert json.loads((folder / "manifest.json").read_text())["pictures"] == 30


QUERY = "where layer = '3' and channel = 2 order by rank"


def by_pandas(path: Path) -> list[tuple[str, float]]:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(path)
    chosen = frame[(frame.layer == "3") & (frame.channel == 2)].sort_values("rank")
    return list(zip(chosen.image, chosen.activation, strict=True))


def by_polars(path: Path) -> list[tuple[str, float]]:
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(path).filter((polars.col("layer") == "3") & (polars.col("channel") == 2))
    return list(frame.sort("rank").select("image", "activation").iter_rows())


def by_duckdb(path: Path) -> list[tuple[str, float]]:
    duckdb = pytest.importorskip("duckdb")
    rows = duckdb.sql(f"select image, activation from '{path}' {QUERY}").fetchall()
    return list(rows)


@pytest.mark.parametrize("read", [by_pandas, by_polars, by_duckdb])
def test_table_of_peaks_opens_in_other_libraries(
    read: Callable[[Path], list[tuple[str, float]]], found: Search, folder: Path
) -> None:
    want = [(peak.image_id, pytest.approx(peak.activation)) for peak in found.top("3", 2)]
    assert [(str(image), float(activation)) for image, activation in read(folder / "top.parquet")] == want


def test_top_returns_the_peaks_of_a_channel(found: Search) -> None:
    for layer, count in found.layers.items():
        for channel in range(count):
            peaks = found.top(layer, channel)
            assert [(peak.layer, peak.channel) for peak in peaks] == [(layer, channel)] * 9
            assert [peak.rank for peak in peaks] == list(range(1, 10))
            activations = [peak.activation for peak in peaks]
            assert activations == sorted(activations, reverse=True)
            assert len({peak.image_id for peak in peaks}) == 9  # one for each image
    assert found.top("3", 2, 4) == found.top("3", 2)[:4]
    first = found.top("0", 1)[0]
    assert str(first) == f"1. {first.image_id} at ({first.y}, {first.x}) = {first.activation:.4g}"
    assert found.top("6", 0)[0].y is None and " at " not in str(found.top("6", 0)[0])


INVALID: list[tuple[Callable[[Search], Any], type[DeconvvizError], str]] = [
    (
        lambda s: s.top("4", 0),
        SearchError,
        r"no layer '4' in this search of 3 layers: .*Search again with layer=4",
    ),
    (lambda s: s.top("3", 5), UnitError, "no channel 5 in 3: there are 0 to 4"),
    (lambda s: s.top("3", -1), UnitError, "no channel -1"),
    (lambda s: s.top("3", 0, 0), UnitError, "cannot return 0 peaks of a channel: it must be from 1 to 9"),
    (lambda s: s.top("3", 0, 10), UnitError, "10 peaks"),
    (lambda s: s.dead("nowhere"), SearchError, "no layer 'nowhere'"),
    (lambda s: s.choose("3", 0), UnitError, "invalid number of channels 0"),
    (lambda s: s.choose("3", 1, "size"), SearchError, "unknown order 'size'"),
]


@pytest.mark.parametrize(("query", "error", "message"), INVALID)
def test_invalid_query_raises(
    found: Search, query: Callable[[Search], Any], error: type[DeconvvizError], message: str
) -> None:
    with pytest.raises(error, match=message):
        query(found)


def test_choose_orders_channels_by_maximum_density_or_at_random(found: Search) -> None:
    rows = [row for row in found.channels.to_pylist() if row["layer"] == "3" and not row["dead"]]
    for by, column in (("activation", "maximum"), ("density", "density")):
        want = [row["channel"] for row in sorted(rows, key=lambda row: (-row[column], row["channel"]))]
        assert found.choose("3", 99, by) == want
        assert found.choose("3", 2, by) == want[:2]
    chosen = [found.choose("3", 2, "random", seed) for seed in range(20)]
    assert all(one == sorted(set(one)) and len(one) == 2 for one in chosen)
    assert {channel for one in chosen for channel in one} == {row["channel"] for row in rows}
    assert chosen == [found.choose("3", 2, "random", seed) for seed in range(20)]


def test_layer_is_found_by_any_of_its_names() -> None:
    net = dv.load("minivgg")
    found = dv.search(net, "scenes:4", ["features.17", "output"], workers=0)
    assert list(found.layers) == ["conv4_2", "output"]
    assert found.top("features.17", 3) == found.top("conv4_2", 3)
    assert found.dead("features.17") == found.dead("conv4_2")
    assert found.choose("features.17", 4) == found.choose("conv4_2", 4)


def test_opened_search_equals_the_original(found: Search, folder: Path) -> None:
    again = dv.open_search(folder, network=small(), source=Noise(30))
    assert same(again, found) and again.manifest == found.manifest
    assert again.skipped == found.skipped and again.image_count == 30
    assert repr(again) == repr(found) == "<Search of 30 images in Sequential: 0, 3, 6; top 9 of 15 channels>"
    assert again.source.names == Noise(30).names


def test_html_table_lists_the_layers_and_escapes_names(found: Search) -> None:
    shown = found._repr_html_()
    assert shown.count("<tr>") == 4 and "<td>6</td>" in shown
    odd = dv.search(small(name="<b>net</b>"), Noise(2), "0", workers=0)
    assert "<b>" not in odd._repr_html_() and "&lt;b&gt;net" in odd._repr_html_()


def test_save_writes_all_files_or_none(found: Search, tmp_path: Path) -> None:
    assert found.save(tmp_path / "new") == tmp_path / "new"
    assert same(dv.open_search(tmp_path / "new"), found) and junk(tmp_path / "new") == set()
    with pytest.raises(OutputError, match="already exist"):
        found.save(tmp_path / "new")
    found.save(tmp_path / "new", force=True)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "manifest.json").write_text("of another program")
    with pytest.raises(OutputError, match=r"manifest\.json already exists"):
        found.save(tmp_path / "half")
    assert [path.name for path in (tmp_path / "half").iterdir()] == ["manifest.json"]
    assert (tmp_path / "half" / "manifest.json").read_text() == "of another program"


def edited(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing table": (lambda path: (path / "top.parquet").unlink(), "is incomplete or damaged"),
    "incomplete table": (
        lambda path: (path / "top.parquet").write_bytes((path / "top.parquet").read_bytes()[:500]),
        "is incomplete or damaged",
    ),
    "tables of two searches": (
        lambda path: (
            dv.search(small(), Noise(4), "0", out=path / "x", workers=0)
            and shutil.copy(path / "x" / "top.parquet", path / "top.parquet")
        ),
        "expected 15 channels with 135 peaks, but top.parquet has 24 rows and channels.parquet 15",
    ),
    "missing list of skipped images": (
        lambda path: (path / "skipped.csv").unlink(),
        "is incomplete or damaged",
    ),
    "manifest of something else": (
        lambda path: (path / "manifest.json").write_text("{}"),
        "is not the manifest of a search",
    ),
    "list as manifest": (lambda path: (path / "manifest.json").write_text("[]"), "incomplete or damaged"),
    "invalid JSON as manifest": (
        lambda path: (path / "manifest.json").write_text("{"),
        "incomplete or damaged",
    ),
    "manifest without layers": (
        lambda path: edited(path, lambda manifest: manifest.pop("layers")),
        "incomplete or damaged",
    ),
    "manifest without network": (
        lambda path: edited(path, lambda manifest: manifest.pop("network")),
        "incomplete or damaged",
    ),
    "later version": (
        lambda path: edited(path, lambda manifest: manifest.update(format="deconvviz search 9")),
        "its format is not 'deconvviz search 3'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_folder_is_rejected(damage: str, folder: Path, found: Search, tmp_path: Path) -> None:
    copy = tmp_path / "search"
    shutil.copytree(folder, copy)
    spoil, message = DAMAGE[damage]
    spoil(copy)
    with pytest.raises(SearchError, match=message):
        dv.open_search(copy)


def test_folder_without_a_search_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"no search in .*nowhere: there is no such folder"):
        dv.open_search(tmp_path / "nowhere")
    with pytest.raises(SearchError, match=r"no search in .*: there is no manifest\.json"):
        dv.open_search(tmp_path)


@pytest.mark.slow
def test_program_that_opened_a_search_exits_without_error(found: Search, folder: Path) -> None:
    """Threads in which pyarrow reads a stream aborted about half of the programs that had imported torch."""
    code = f"import deconvviz as dv; print(len(dv.open_search({str(folder)!r})))"
    for _ in range(4):
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "135\n", "")
