"""The top nine of signals, pictures with bands, volumes and video: projections, figures, files and pages."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.array_searches import KINDS, LAYERS, network, prepared, write_arrays
from helpers.asking import noise, seeded
from helpers.oracles import Autograd, difference
from torch import nn

import deconvviz as dv
from deconvviz.dataset_search.result import Search
from deconvviz.errors import FigureError, SearchError
from deconvviz.figures.spec.lines_tile import LinesTile
from deconvviz.figures.spec.tile_grid import GridTile, TileGrid
from deconvviz.figures.spec.top_nine import TopNineFigure
from deconvviz.projection import Box, ranges_of
from deconvviz.topnine.array_figures import shown_frames
from deconvviz.topnine.projected_peak import ProjectedPeak
from deconvviz.topnine.result import TopNine

EVERY = pytest.mark.parametrize("kind", KINDS)


kept = lru_cache(network)  # a search does not keep its network alive


def searched(kind: str, folder: Path, count: int = 13) -> Search:
    return dv.search(kept(kind), write_arrays(folder / "in", kind, count), LAYERS, workers=0)


def every(nine: TopNine) -> list[ProjectedPeak]:
    return [one for channels in nine.shown.values() for shown in channels.values() for one in shown]


def inside(box: Box) -> tuple[slice, ...]:
    return (slice(None), *ranges_of(box))


@EVERY
def test_projections_equal_autograd_and_those_of_a_recording(kind: str, tmp_path: Path) -> None:
    net, folder = network(kind), write_arrays(tmp_path / "in", kind)
    found = dv.search(net, folder, LAYERS, workers=0)
    nine = found.topnine(LAYERS, count=2)
    arrays = nine.arrays()
    assert len(every(nine)) == len(arrays["pixels"]) > 30
    oracles: dict[str, Autograd] = {}
    for number, one in enumerate(every(nine)):
        peak = one.peak
        if peak.image_id not in oracles:
            oracles[peak.image_id] = Autograd(
                net.module, prepared(net, folder / peak.image_id)[None].double()
            )
        want = oracles[peak.image_id].unit(peak.layer, 0, peak.channel, *peak.unit(0).position)
        assert difference(torch.from_numpy(arrays["pixels"][number]).double(), want) < 1e-6
        assert peak.box is not None
        assert np.array_equal(arrays["pixels"][number][inside(peak.box)], one.pixels)
        rec = net.record(folder / peak.image_id, peak.layer)
        proj = rec.project(peak.layer, peak.unit(0))
        assert proj.boxes == (peak.box,)
        assert np.allclose(proj.crop(0), one.projection_in(peak.box), atol=1e-6)
        assert np.allclose(proj.patch(0), one.around.values_in(peak.box), atol=1e-5)
    axes = KINDS[kind].axes
    assert arrays["boxes"].shape == (len(arrays["pixels"]), 2 * len(axes))
    for axis in ("z", "y", "x"):
        if axis in axes:
            assert arrays[axis].tolist() == [getattr(one.peak, axis) for one in every(nine)]
        else:
            assert set(arrays.get(axis, np.array([-1])).tolist()) == {-1}


@EVERY
def test_files_and_views_of_a_result(kind: str, tmp_path: Path) -> None:
    nine = searched(kind, tmp_path, 5).topnine("4", count=2, k=3)
    nine.save(tmp_path / "nine.png", arrays=True)
    manifest = json.loads((tmp_path / "nine.json").read_text())
    (layer,) = manifest["layers"]
    assert layer["peaks"] == [json.loads(json.dumps(one.peak.to_json())) for one in every(nine)]
    assert ("z" in layer["peaks"][0]) == (kind == "volume")
    assert manifest["notes"] == list(nine.notes)
    with np.load(tmp_path / "nine.npz") as stored:
        assert stored["pixels"].shape[1:] == KINDS[kind].shape
    assert repr(nine) == f"<TopNine of {kind}: 4, 2 channels>"
    html = nine._repr_html_()
    assert html is not None and html.startswith("<") and f"TopNine of {kind}" in html
    page = tmp_path / "page.html"
    dv.report([nine], page)
    text = page.read_text()
    assert f"{kind} · top 3 of 5 inputs" in text
    assert ('class="drawn"' in text) == (kind == "signal")


def test_notes_name_the_inputs_that_were_cut_or_padded(tmp_path: Path) -> None:
    nine = searched("signal", tmp_path, 4).topnine("0", channels=[1], k=4)
    assert sorted(nine.notes) == [
        "cut from 63 to 60: odd/01.npy",
        "padded with zeros from 58 to 60: odd/03.npy",
    ]


def grid_of(nine: TopNine, **changes: object) -> TileGrid:
    spec = nine.spec(**changes)
    assert isinstance(spec, TileGrid)
    return spec


def test_signals_are_lines_above_their_projections(tmp_path: Path) -> None:
    nine = searched("signal", tmp_path).topnine(LAYERS, count=2, k=4)
    grid = grid_of(nine)
    assert grid.shape == (8, 4)
    assert grid.title[0] == "signal · top 4 of 13 inputs"
    rows = iter(zip(grid.tiles[::2], grid.tiles[1::2], strict=True))
    for layer, channels in nine.shown.items():
        for channel, shown in channels.items():
            above, below = next(rows)
            number = grid.tiles.index(above)
            assert grid.row_labels[number].startswith(f"{layer} · channel {channel}\n")
            limit = max(np.abs(one.projection_in(one.box)).max() for one in shown)
            assert grid.row_labels[number + 1] == f"projections\n±{limit:.2g}"
            for one, signal, projection in zip(shown, above, below, strict=True):
                assert isinstance(signal, LinesTile) and isinstance(projection, LinesTile)
                first, past = one.box
                margin = max(1, (past - first) // 4)
                shown_from, shown_to = max(0, first - margin), min(60, past + margin)
                assert signal.first == projection.first == shown_from
                assert signal.values.shape == projection.values.shape == (2, shown_to - shown_from)
                part = np.asarray(projection.values)[:, first - shown_from : past - shown_from]
                assert np.allclose(part, one.pixels * np.array([[1.0], [2.0]]))
                assert np.abs(projection.values).sum() == pytest.approx(np.abs(part).sum())
                assert projection.caption == (f"{first}–{past - 1}",)
                assert signal.field == (first, past)
            ranges = {tile.y_range for tile in above if isinstance(tile, LinesTile)}
            (low, high), *others = {tile.y_range for tile in below if isinstance(tile, LinesTile)}
            assert len(ranges) == 1 and not others and low == -high
    assert "channels 0, 1 of the signal: orange, blue" in grid.footer


def test_signals_of_many_channels_are_strips() -> None:
    net = dv.Network(seeded(lambda: nn.Sequential(nn.Conv1d(9, 3, 5), nn.ReLU())), shape=(9, 40), name="many")
    found = dv.search(net, [noise(9, 40, seed=number).numpy() for number in range(4)], ["1"], workers=0)
    grid = grid_of(found.topnine("1", channels=[2], k=2))
    (above, below), (one, _) = grid.tiles, found.topnine("1", channels=[2], k=2).shown["1"][2]
    assert isinstance(above[0], GridTile) and isinstance(below[0], GridTile)
    assert (above[0].kind, below[0].kind, grid.style.scale) == ("map", "signed", "row")
    values = np.asarray(below[0].values)
    assert np.allclose(values[:: values.shape[0] // 9, :: values.shape[1] // 5], one.pixels)


def test_channel_with_fewer_signals_leaves_places_empty() -> None:
    module = nn.Sequential(nn.Conv1d(1, 2, 1, bias=False), nn.ReLU())
    with torch.no_grad():
        module[0].weight[:] = torch.tensor([[[1.0]], [[-1.0]]])
    net = dv.Network(module, shape=(1, 5))
    arrays = [np.full((1, 5), value) for value in (1.0, 2.0, -1.0)]
    grid = grid_of(dv.search(net, arrays, ["1"], workers=0).topnine("1", channels=[0, 1]))
    assert [[tile is None for tile in row] for row in grid.tiles] == 2 * [[False, False]] + 2 * [
        [False, True]
    ]


def figure_of(nine: TopNine, **changes: object) -> TopNineFigure:
    spec = nine.spec(**changes)
    assert isinstance(spec, TopNineFigure)
    return spec


def test_volumes_are_strips_of_the_slices_with_the_most_energy(tmp_path: Path) -> None:
    nine = searched("volume", tmp_path).topnine("4", count=2, k=3)
    figure = figure_of(nine, crop="field")
    assert (figure.across, figure.block_shape, figure.top) == (4, (3, 4), 12)
    for block, shown in zip(figure.panels[0].blocks, nine.shown["4"].values(), strict=True):
        assert len(block.crops) == 4 * len(shown)
        for number, one in enumerate(shown):
            x0, y0, z0, x1, y1, z1 = one.box
            frames = shown_frames(one, 4, 8)
            assert frames == sorted(set(frames)) and set(frames) <= set(range(8))
            if z1 - z0 >= 4:
                energy = np.square(one.pixels[0]).sum((1, 2))
                assert set(frames) <= set(range(z0, z1))
                assert energy[[frame - z0 for frame in frames]].sum() >= energy[:4].sum() * (1 - 1e-6)
            for crop, frame in zip(block.crops[4 * number :][:4], frames, strict=True):
                inside_field = z0 <= frame < z1
                want = one.pixels[0, frame - z0] if inside_field else np.zeros((y1 - y0, x1 - x0))
                assert np.allclose(crop.projection, want)
                assert crop.patch.shape == (y1 - y0, x1 - x0)
    assert (
        "each row of a block: one unit in the 4 slices with the most energy of its projection"
        in figure.footer
    )


def test_patches_of_slices_are_the_input_between_black_and_white() -> None:
    net = dv.Network(nn.Conv3d(1, 1, (2, 1, 1), bias=False), shape=(1, 4, 3, 3))
    with torch.no_grad():
        net.module.weight[:] = 1.0
    volume = np.arange(36, dtype=np.float64).reshape(1, 4, 3, 3)
    nine = dv.search(net, [volume], ["output"], workers=0).topnine("output", channels=[0])
    ((one,),) = nine.shown["output"].values()
    assert one.box == (2, 2, 2, 3, 3, 4)  # the largest sum of two neighbours is 26 + 35
    figure = figure_of(nine, crop="field")
    crops = figure.panels[0].blocks[0].crops
    assert [float(crop.patch[0, 0]) for crop in crops] == [0.0, 1.0]  # black is 26 and white 35
    assert [float(np.asarray(crop.projection)[0, 0]) for crop in crops] == [61.0, 61.0]
    assert "black is 26 and white 35 in the input" in figure.footer


def test_field_that_the_border_cuts_is_shown_with_frames_next_to_it() -> None:
    net = dv.Network(nn.Conv3d(1, 1, (5, 1, 1), padding=(2, 0, 0), bias=False), shape=(1, 9, 2, 2))
    with torch.no_grad():
        net.module.weight[:] = 1.0
    volume = np.zeros((1, 9, 2, 2))
    volume[0, 0, 1, 1] = 1.0  # units 0, 1 and 2 see it; the first one has the peak
    nine = dv.search(net, [volume], ["output"], workers=0).topnine("output", channels=[0])
    ((one,),) = nine.shown["output"].values()
    assert (one.box[2], one.box[5]) == (0, 3)
    assert shown_frames(one, 4, 9) == [0, 1, 2, 3]
    crops = figure_of(nine, crop="field").panels[0].blocks[0].crops
    assert [float(np.asarray(crop.projection).sum()) for crop in crops] == [1.0, 1.0, 1.0, 0.0]
    assert [float(crop.patch.sum()) for crop in crops] == [1.0, 0.0, 0.0, 0.0]


def test_videos_are_in_colour() -> None:
    net = dv.Network(seeded(lambda: nn.Conv3d(3, 2, (2, 3, 3))), shape=(3, 4, 6, 6), name="video")
    clips = [np.random.default_rng(number).random((3, 4, 6, 6)) for number in range(3)]
    nine = dv.search(net, clips, ["output"], workers=0).topnine("output", channels=[0])
    figure, one = figure_of(nine, crop="field"), every(nine)[0]
    crop = figure.panels[0].blocks[0].crops[0]
    (x0, y0, z0, x1, y1, _) = one.box
    clip = clips[int(one.peak.image_id[-1])][:, z0, y0:y1, x0:x1]
    assert np.allclose(crop.patch, clip.transpose(1, 2, 0), atol=1e-6)
    assert np.allclose(crop.projection, one.pixels[:, 0].transpose(1, 2, 0))
    assert "the 2 frames with the most energy" in figure.footer


def test_bands_are_chosen(tmp_path: Path) -> None:
    nine = searched("bands", tmp_path).topnine("4", count=2, k=3)
    figure = figure_of(nine, crop="field", bands=(4, 3, 2))
    values = [one.around.values_in(one.box) for one in every(nine)]
    limits = [np.percentile(np.concatenate([v[n - 1].ravel() for v in values]), (2, 98)) for n in (4, 3, 2)]
    crops = [crop for block in figure.panels[0].blocks for crop in block.crops]
    for one, crop, patch in zip(every(nine), crops, values, strict=True):
        for band, number in enumerate((4, 3, 2)):
            low, high = limits[band]
            want = np.clip((patch[number - 1] - low) / (high - low), 0, 1)
            assert np.allclose(crop.patch[..., band], want, atol=1e-5)
            assert np.allclose(crop.projection[..., band], one.pixels[number - 1] * number)  # std of the band
    energy = sum(np.square(one.pixels, dtype=np.float64).sum((1, 2)) for one in every(nine))
    share = energy[[3, 2, 1]].sum() / energy.sum()
    assert (
        f"bands 4, 3, 2 of 5 as red, green and blue, with {100 * share:.0f} % of the energy" in figure.footer
    )
    assert figure_of(nine, bands=(5,)).panels[0].blocks[0].crops[0].patch.ndim == 2


@pytest.mark.parametrize("kind", ["bands", "volume"])
def test_squares_contain_most_of_the_energy(kind: str, tmp_path: Path) -> None:
    nine = searched(kind, tmp_path).topnine("4", count=2, k=3)
    field, square = figure_of(nine, crop="field"), figure_of(nine)
    for wide, narrow in zip(field.panels[0].blocks, square.panels[0].blocks, strict=True):
        sizes = {crop.size for crop in narrow.crops}
        assert len(sizes) == 1 and len(set(*sizes)) == 1
        if kind == "bands":
            continue  # other bands have energy, too
        before, after = (sum(np.square(c.projection).sum() for c in b.crops) for b in (wide, narrow))
        assert after >= 0.9 * before


def test_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    nine = searched("signal", tmp_path, 3).topnine("0", channels=[0])
    with pytest.raises(FigureError, match=r"bands=\(3, 2, 1\): the input of signal has no bands"):
        nine.figure(bands=(3, 2, 1))
    bands = searched("bands", tmp_path / "bands", 3).topnine("0", channels=[0])
    with pytest.raises(FigureError, match="no band 6: there are 1 to 5"):
        bands.figure(bands=(6,))


@EVERY
@pytest.mark.parametrize("medium", ["screen", "paper", "slide"])
def test_figures_are_drawn_for_every_medium(kind: str, medium: str, tmp_path: Path) -> None:
    nine = searched(kind, tmp_path, 5).topnine("4", count=2, k=3)
    gids = {artist.get_gid() for artist in nine.figure(medium=medium).findobj()}
    if kind == "signal":
        assert {"tile-0-0-0", "tile-0-0-1", "tile-1-0-0", "zero-1-0", "row-label-0-0"} <= gids
    else:
        assert {"projection-0-0-0", "patch-0-0-0"} <= gids


def test_changed_files_are_noticed(tmp_path: Path) -> None:
    found = searched("signal", tmp_path, 4)
    channel = found.choose("4", 1)[0]
    peak = found.top("4", channel)[0]
    file = tmp_path / "in" / peak.image_id
    values = np.load(file)
    changed = (values if isinstance(values, np.ndarray) else values["values"]) * 2
    np.save(file, changed) if file.suffix == ".npy" else np.savez(file, values=changed)
    with pytest.raises(
        SearchError, match=r"do not match the search index.*The inputs or the weights have changed"
    ):
        found.topnine("4", channels=[channel])


def test_an_atlas_of_arrays_is_refused(tmp_path: Path) -> None:
    found = searched("volume", tmp_path, 3)
    with pytest.raises(
        SearchError, match=r"an atlas shows images, but volume reads arrays of shape \(1, 8, 10, 12\)"
    ):
        dv.atlas(found, tmp_path / "site")
    assert not (tmp_path / "site").exists()
