"""Images on which a rectified channel is 0 are not among its peaks, as their order would be arbitrary."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.searches import Noise, brute_force, rows_of, same, small
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.dataset_search.checkpoint import CHECKPOINT
from deconvviz.dataset_search.result import Search, open_search
from deconvviz.dataset_search.search import search
from deconvviz.dataset_search.top_k import Top
from deconvviz.errors import SearchError, UnitError
from deconvviz.images.image import InputImage

COUNT, KEPT = 12, 5


class Levels(nn.Module):
    """One channel for each function of the image number, with its maximum in the first row of the map."""

    def __init__(self, *functions: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, x: Tensor) -> Tensor:
        number = x[:, 0, 0, 0].round()  # (B)
        peaks = torch.stack([function(number) for function in self.functions], dim=1)  # (B, C)
        maps = peaks[..., None, None].expand(-1, -1, 2, 2).clone()
        maps[..., 1, :] -= 1
        return maps


def dead(number: Tensor) -> Tensor:
    return 0 * number - 1


def seldom(number: Tensor) -> Tensor:
    """Above zero on images 3 and 7."""
    return torch.where((number == 3) | (number == 7), number, -number - 1)


def negative(number: Tensor) -> Tensor:
    return -number - 1


def up_to_zero(number: Tensor) -> Tensor:
    """0 on image 0, negative on all others."""
    return -number


def always(number: Tensor) -> Tensor:
    return number + 1


FUNCTIONS = (always, dead, seldom, negative, up_to_zero)
ALWAYS, DEAD, SELDOM, NEGATIVE, UP_TO_ZERO = range(5)


class Numbered(Noise):
    """Source in which all pixels of an image have the number of the image as their value."""

    def read(self, number: int) -> InputImage:
        return InputImage(np.full((4, 4, 3), number, np.uint8))


def network(rectifier: nn.Module | None = None) -> dv.Network:
    """Return a network with layer 0, not rectified, and layer 1, rectified."""
    module = nn.Sequential(Levels(*FUNCTIONS), rectifier or nn.ReLU())
    return dv.Network(module, size=4, mean=(0,) * 3, std=(1 / 255,) * 3)


@pytest.fixture(params=[nn.ReLU(), nn.ReLU(inplace=True), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))])
def found(request: pytest.FixtureRequest) -> Search:
    return search(network(request.param), Numbered(COUNT), ["0", "1"], top=KEPT, batch_size=4, workers=0)


def images(found: Search, layer: str, channel: int) -> list[int]:
    return [int(peak.image_id.rpartition("-")[2]) for peak in found.top(layer, channel)]


def test_dead_channel_has_no_peaks(found: Search) -> None:
    for channel in (DEAD, NEGATIVE, UP_TO_ZERO):
        assert found.top("1", channel) == []
        assert channel in found.dead("1")
    table = found.peaks.to_pandas()
    assert set(table[table.layer == "1"].channel) == {ALWAYS, SELDOM}


def test_channel_active_on_two_images_has_two_peaks(found: Search) -> None:
    assert images(found, "1", SELDOM) == [7, 3]
    assert [peak.rank for peak in found.top("1", SELDOM)] == [1, 2]
    assert [peak.activation for peak in found.top("1", SELDOM)] == pytest.approx([7, 3])
    assert found.top("1", SELDOM, 1) == found.top("1", SELDOM)[:1]
    assert found.top("1", SELDOM, KEPT) == found.top("1", SELDOM)
    with pytest.raises(UnitError, match="it must be from 1 to 5"):
        found.top("1", SELDOM, KEPT + 1)


def test_channel_active_on_all_images_has_k_peaks(found: Search) -> None:
    assert images(found, "1", ALWAYS) == [11, 10, 9, 8, 7]


def test_negative_values_without_rectifier_are_ranked(found: Search) -> None:
    assert images(found, "0", NEGATIVE) == [0, 1, 2, 3, 4]
    assert images(found, "0", UP_TO_ZERO) == [0, 1, 2, 3, 4]  # without a rectifier, 0 is an ordinary value
    assert images(found, "0", SELDOM) == [7, 3, 0, 1, 2]
    assert images(found, "0", DEAD) == [0, 1, 2, 3, 4]
    assert [peak.activation for peak in found.top("0", UP_TO_ZERO)] == pytest.approx([0, -1, -2, -3, -4])


def test_column_kept_is_the_number_of_peaks(found: Search) -> None:
    counts = found.peaks.to_pandas().groupby(["layer", "channel"]).size().to_dict()
    for row in found.channels.to_pylist():
        assert row["kept"] == counts.get((row["layer"], row["channel"]), 0)
    assert found.channels["kept"].to_pylist() == [5, 5, 5, 5, 5, 5, 0, 2, 0, 0]


def test_statistics_count_all_images(found: Search) -> None:
    row = found.channels.to_pylist()[5 + SELDOM]
    assert row["pictures"] == COUNT and row["density"] == pytest.approx(2 / COUNT)
    assert row["mean"] == pytest.approx(10 / COUNT)


def test_rows_equal_a_full_sort_without_zeros() -> None:
    net = small()
    with torch.no_grad():
        net.module[3].bias.fill_(-1.5)  # type: ignore[index, operator, union-attr]
    source = Noise(20)
    found = search(net, source, ["2", "4"], top=9, batch_size=1, workers=0)
    rows, _ = brute_force(net, source, ["2", "4"], 9)
    assert any(row.activation == 0 for row in rows)
    assert rows_of(found) == [row for row in rows if row.activation != 0]


def test_table_of_dead_channels_is_empty(tmp_path: Path) -> None:
    net = network(nn.Sequential(nn.ReLU(), Scaled(0)))
    found = search(net, Numbered(4), "1", workers=0, out=tmp_path / "found")
    assert len(found) == 0 and found.dead("1") == [0, 1, 2, 3, 4]
    opened = open_search(tmp_path / "found", network=net, source=Numbered(4))
    assert opened.peaks.schema == found.peaks.schema and opened.top("1", 0) == []
    with pytest.raises(SearchError, match="all channels of 1 are dead: none was above zero"):
        opened.topnine("1")
    opened._repr_html_()


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def test_negative_zero_is_treated_as_zero() -> None:
    found = search(network(nn.Sequential(nn.ReLU(), Scaled(-0.0))), Numbered(4), "1", workers=0)
    assert len(found) == 0


@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_peaks_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    one, other = (
        search(network(), Numbered(COUNT), ["0", "1"], top=KEPT, batch_size=size, workers=0)
        for size in (batch_size, 4)
    )
    assert same(one, other)


def test_zero_is_a_peak_if_a_later_image_is_negative() -> None:
    """With the first image alone the channel seems to be rectified."""
    net = network(nn.Identity())
    some = search(net, Numbered(COUNT), "1", top=1, limit=1, workers=0, batch_size=1)
    assert images(some, "1", UP_TO_ZERO) == []  # 0 on the only image
    more = search(net, Numbered(COUNT), "1", top=1, workers=0, batch_size=1)
    assert images(more, "1", UP_TO_ZERO) == [0]


def test_merge_keeps_the_lowest_peak_of_both_parts() -> None:
    whole, halves = Top.empty(1, 2), [Top.empty(1, 2), Top.empty(1, 2)]
    assert not whole.silent.any()
    for half, value in zip(halves, (0.0, -3.0), strict=True):
        half.lowest[:], half.activation[0, 0], half.image_count = value, value, 1
        whole.merge(half)
    assert halves[0].silent[0, 0] and not whole.silent.any()
    assert whole.lowest.tolist() == [-3.0]


def interrupted(folder: Path, after: int) -> None:
    def report(progress: Any) -> None:
        if progress.done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(
            network(), Numbered(COUNT), ["0", "1"], top=KEPT, batch_size=2, workers=0, every=0, out=folder,
            report=report,
        )  # fmt: skip


@pytest.mark.parametrize("with_lowest", [True, False])
def test_resumed_search_has_the_same_peaks(tmp_path: Path, with_lowest: bool) -> None:
    """Also with a checkpoint of the previous version, which lacks the lowest peaks."""
    interrupted(tmp_path, 6)
    path = tmp_path / CHECKPOINT
    if not with_lowest:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files if name != "lowest" and "." not in name}
        header = json.loads(str(arrays["told"]))
        arrays["told"] = np.array(json.dumps({**header, "format": "deconvviz checkpoint 1"}))
        np.savez(path, **arrays)
    again = search(
        network(), Numbered(COUNT), ["0", "1"], top=KEPT, batch_size=2, workers=0, out=tmp_path, resume=True
    )
    whole = search(network(), Numbered(COUNT), ["0", "1"], top=KEPT, batch_size=2, workers=0)
    assert again.peaks.equals(whole.peaks) and again.channels.equals(whole.channels)
    assert same(again, whole) == with_lowest


def write_older_format(found: Search, folder: Path) -> None:
    """Write a search in the format of the previous version, with k rows for every channel."""
    rows = []
    for channel in found.channels.to_pylist():
        kept = found.top(channel["layer"], channel["channel"])
        listed = {peak.image_id for peak in kept}
        missing = [name for name in found.source.names if name not in listed][: found.kept - len(kept)]
        rows += [
            {"activation": peak.activation, "image": peak.image_id, "y": peak.y, "x": peak.x} for peak in kept
        ] + [{"activation": 0.0, "image": name, "y": 0, "x": 0} for name in missing]
        for rank, row in enumerate(rows[-found.kept :], 1):
            row.update(layer=channel["layer"], channel=channel["channel"], rank=rank)
            row.update(dict.fromkeys(("x0", "y0", "x1", "y1"), None))
    pq.write_table(pa.Table.from_pylist(rows, schema=found.peaks.schema), folder / "top.parquet")
    pq.write_table(found.channels.drop_columns(["kept"]), folder / "channels.parquet")
    (folder / "skipped.csv").write_text("image,reason\n")
    (folder / "manifest.json").write_text(json.dumps({**found.manifest, "format": "deconvviz search 1"}))


def test_search_in_the_older_format_opens_without_zeros(found: Search, tmp_path: Path) -> None:
    write_older_format(found, tmp_path)
    assert pq.read_table(tmp_path / "top.parquet").num_rows == 10 * KEPT
    opened = open_search(tmp_path, source=Numbered(COUNT))
    assert opened.channels.equals(found.channels)
    for layer in ("0", "1"):
        for channel in range(5):
            assert images(opened, layer, channel) == images(found, layer, channel)
    opened.save(tmp_path / "again")
    assert open_search(tmp_path / "again").peaks.equals(opened.peaks)


def test_search_in_the_older_format_with_missing_rows_is_rejected(found: Search, tmp_path: Path) -> None:
    write_older_format(found, tmp_path)
    pq.write_table(found.peaks, tmp_path / "top.parquet")
    with pytest.raises(SearchError, match=r"expected 10 channels with 5 peaks each, but top\.parquet has"):
        open_search(tmp_path)


def test_resume_returns_a_finished_search_in_the_older_format(tmp_path: Path) -> None:
    options: dict[str, Any] = {"top": KEPT, "batch_size": 4, "workers": 0}
    found = search(network(), Numbered(COUNT), ["0", "1"], **options)
    write_older_format(found, tmp_path)
    again = search(network(), Numbered(COUNT), ["0", "1"], **options, out=tmp_path, resume=True)
    assert images(again, "1", SELDOM) == [7, 3]


@pytest.fixture
def drawable() -> Iterator[Search]:
    """Search of a layer 1 in which channel 1 is dead and channel 2 is active on few images."""
    net = small()
    with torch.no_grad():
        net.module[0].bias[1] = -100  # type: ignore[index, operator, union-attr]
        first = search(net, Noise(12), "0", top=12, workers=0).top("0", 2)
        net.module[0].bias[2] -= (first[1].activation + first[2].activation) / 2  # type: ignore[index, operator, union-attr]
    yield search(net, Noise(12), "1", top=4, workers=0)


def test_topnine_leaves_out_images_with_zero_activation(drawable: Search) -> None:
    found = drawable
    assert [len(found.top("1", channel)) for channel in (0, 1, 2)] == [4, 0, 2]
    shown = found.topnine("1", channels=[0, 1, 2], k=4)
    assert {channel: len(peaks) for channel, peaks in shown.shown["1"].items()} == {0: 4, 2: 2}
    assert shown.notes == (
        "1: channel 1 is dead (0 on all 12 images) and not shown",
        "1: channel 2 is 0 on all images except those shown, which are fewer than 4",
    )
    assert all(one.pixels.any() for peaks in shown.shown["1"].values() for one in peaks)
    assert len(shown.arrays()["activation"]) == 6
    for layout in ("panels", "pairs"):
        assert shown.figure(layout=layout).axes is not None
    assert json.loads(json.dumps(shown.describe()))["notes"] == list(shown.notes)


def test_topnine_of_dead_channels_raises(drawable: Search) -> None:
    with pytest.raises(SearchError) as error:
        drawable.topnine("1", channels=[1], k=4)
    assert str(error.value) == (
        "nothing can be shown: 1: channel 1 is dead (0 on all 12 images). Choose other channels"
    )
