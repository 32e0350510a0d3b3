"""`dv.evolution` against a search and projections of every checkpoint by hand, in plain PyTorch."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import deconvviz as dv
from deconvviz.errors import LayerError, OutputError, UnitError, WeightsError
from deconvviz.image_sources import Source
from deconvviz.image_sources.image_ids import Names
from deconvviz.images.image import InputImage

pytestmark = pytest.mark.slow  # together some seconds

SIZE = 16
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
LAYERS = ["0", "3"]
CHANNELS = {"0": 4, "3": 5}


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3)).double().eval()


def small_network():
    torch.manual_seed(0)
    return dv.Network(small(), size=SIZE, mean=MEAN, std=STD, name="small")


def drawn(number):
    return np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


class Counted(Source):
    """Random images that count how often they are read."""

    kind = "counted"

    def __init__(self, count=6):
        super().__init__("counted", Names(f"image-{number}" for number in range(count)))
        self.reads = 0

    def read(self, number):
        self.reads += 1
        return InputImage(drawn(number))


@pytest.fixture(scope="module")
def states():
    """Weights of four checkpoints. A channel of the last layer is dead in the second and in the last."""
    torch.manual_seed(1)
    found = [small().state_dict() for _ in range(4)]
    for state in found:
        state["3.bias"][:] = 0.5  # no channel is dead by chance
    for number in (1, 3):
        found[number]["3.weight"][2] = 0
        found[number]["3.bias"][2] = -1
    return found


@pytest.fixture(scope="module")
def checkpoints(states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    for number, state in enumerate(states):
        save_file(state, folder / f"epoch_{number + 8}.safetensors")
    return folder


def evolved(folder, source=None, **options):
    files = Path(folder) / "epoch_*.safetensors"
    images = Counted() if source is None else source
    return dv.evolution(small_network(), files, images, LAYERS, workers=0, channels=3, **options)


@pytest.fixture(scope="module")
def found(checkpoints):
    return evolved(checkpoints)


def inputs():
    pixels = torch.stack([torch.from_numpy(drawn(number)) for number in range(6)]).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((pixels.float() / 255 - mean) / std).double()


def maps_by_hand(state, layer):
    first = F.conv2d(inputs(), state["0.weight"], state["0.bias"])
    if layer == "0":
        return first
    return F.conv2d(F.max_pool2d(first.relu(), 2), state["3.weight"], state["3.bias"])


def projection_by_hand(state, layer, image, channel, y, x):
    """Project one unit with transposed convolutions, rectification and unpooling."""
    picture = inputs()[image : image + 1]
    first = F.conv2d(picture, state["0.weight"], state["0.bias"])
    signal = torch.zeros_like(first)
    if layer == "0":
        signal[0, channel, y, x] = first[0, channel, y, x]
        return F.conv_transpose2d(signal, state["0.weight"])[0]
    pooled, switches = F.max_pool2d(first.relu(), 2, return_indices=True)
    top = F.conv2d(pooled, state["3.weight"], state["3.bias"])
    kept = torch.zeros_like(top)
    kept[0, channel, y, x] = top[0, channel, y, x]
    below = F.conv_transpose2d(kept, state["3.weight"])
    below = F.max_unpool2d(below, switches, 2, output_size=first.shape[2:]).relu()
    return F.conv_transpose2d(below, state["0.weight"])[0]


def strongest_by_hand(state, layer, channel):
    maps = maps_by_hand(state, layer)[:, channel]
    image, place = divmod(int(maps.flatten().argmax()), maps[0].numel())
    y, x = divmod(place, maps.shape[2])
    return float(maps.max()), image, y, x


def correlation_by_hand(one, other):
    if not one.any() or not other.any():
        return 0.0
    return float(np.corrcoef(one.flatten(), other.flatten())[0, 1])


def rows_of(found):
    return {(row["checkpoint"], row["layer"], row["channel"]): row for row in found.table.to_pylist()}


def test_strongest_units_equal_a_search_by_hand(found, states):
    rows = rows_of(found)
    assert len(rows) == 4 * 9
    for number, state in enumerate(states):
        for layer, count in CHANNELS.items():
            for channel in range(count):
                row = rows[str(number + 8), layer, channel]
                value, image, y, x = strongest_by_hand(state, layer, channel)
                assert row["activation"] == pytest.approx(value, rel=1e-12)
                if value > 0:
                    assert (row["image"], row["y"], row["x"]) == (f"image-{image}", y, x)
                else:
                    assert row["image"] is None
                    assert row["box"] is None


def test_boxes_are_receptive_fields(found):
    for row in found.table.to_pylist():
        if row["image"] is not None:
            step, field = (1, 3) if row["layer"] == "0" else (2, 8)
            x0, y0 = row["x"] * step, row["y"] * step
            assert row["box"] == [x0, y0, x0 + field, y0 + field]


def test_jumps_are_changes_of_the_strongest_image(found):
    rows = rows_of(found)
    for (label, layer, channel), row in rows.items():
        before = rows.get((str(int(label) - 1), layer, channel))
        if before is None or row["image"] is None or before["image"] is None:
            assert row["jump"] is None
        else:
            assert row["jump"] == (row["image"] != before["image"])
    assert {row["jump"] for row in rows.values()} == {None, True, False}


def test_similarities_equal_projections_by_hand(found, states):
    rows = rows_of(found)
    compared = 0
    for number, state in enumerate(states):
        for layer, count in CHANNELS.items():
            for channel in range(count):
                row = rows[str(number + 8), layer, channel]
                value, *place = strongest_by_hand(state, layer, channel)
                if number and value > 0:
                    image, y, x = place
                    expected = correlation_by_hand(
                        *(_in_field(one, layer, image, channel, y, x) for one in (state, states[number - 1]))
                    )
                    assert row["similarity"] == pytest.approx(expected, abs=1e-5)
                    compared += 1
                else:
                    assert row["similarity"] is None
                last, image, y, x = strongest_by_hand(states[3], layer, channel)
                if last > 0:
                    expected = correlation_by_hand(
                        *(_in_field(one, layer, image, channel, y, x) for one in (state, states[3]))
                    )
                    assert row["final_similarity"] == pytest.approx(expected, abs=1e-5)
                    own = float(maps_by_hand(state, layer)[image, channel, y, x])
                    assert row["fixed_activation"] == pytest.approx(own, rel=1e-9)
                else:
                    assert row["final_similarity"] is None
    assert compared > 20


def _in_field(state, layer, image, channel, y, x):
    """Return a projection by hand, cut to the receptive field."""
    whole = projection_by_hand(state, layer, image, channel, y, x)
    step, field = (1, 3) if layer == "0" else (2, 8)
    return whole[:, y * step : y * step + field, x * step : x * step + field].numpy()


def test_responses_are_correlations_of_peaks_over_images(found, states):
    rows = rows_of(found)
    peaks = [maps_by_hand(state, "3").amax((2, 3)).numpy() for state in states]
    for number in range(4):
        for channel in (0, 1, 3, 4):
            expected = np.corrcoef(peaks[number][:, channel], peaks[3][:, channel])[0, 1]
            row = rows[str(number + 8), "3", channel]
            assert row["response_similarity"] == pytest.approx(expected, abs=1e-5)


def test_a_dead_channel_is_counted_and_has_no_unit(found):
    rows = {(row["checkpoint"], row["layer"]): row for row in found.layer_table.to_pylist()}
    dead = [rows[str(number), "3"]["dead"] for number in (8, 9, 10, 11)]
    assert dead == pytest.approx([0, 0.2, 0, 0.2])
    assert [found.cells["3", 2][number].peak is None for number in range(4)] == [False, True, False, True]


def test_layer_table_has_medians_over_channels(found):
    rows = found.table.to_pylist()
    for row in found.layer_table.to_pylist():
        values = [
            one["final_similarity"]
            for one in rows
            if (one["checkpoint"], one["layer"]) == (row["checkpoint"], row["layer"])
            and one["final_similarity"] is not None
        ]
        assert row["final_similarity"] == pytest.approx(np.median(values))
        assert row["final_similarity_low"] <= row["final_similarity"] <= row["final_similarity_high"]


def test_the_given_network_is_not_changed(checkpoints):
    net = small_network()
    before = copy.deepcopy(net.module.state_dict())
    dv.evolution(net, checkpoints / "epoch_*.safetensors", Counted(), "0", channels=[1], workers=0)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.module.state_dict().items())


@pytest.mark.parametrize(("memory", "passes"), [(10**9, 1), (0, 4)])
def test_images_are_decoded_once_where_memory_allows(checkpoints, found, memory, passes):
    source = Counted()
    again = dv.evolution(
        small_network(),
        checkpoints / "epoch_*.safetensors",
        source,
        LAYERS,
        channels=3,
        workers=0,
        memory=memory,
    )
    assert again.table.equals(found.table)
    assert passes * 6 <= source.reads
    if passes == 1:
        assert source.reads <= 2 * 6  # once for the searches, once for the projections


def test_resume_uses_finished_searches(checkpoints, found, tmp_path):
    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evolved(checkpoints, searches=tmp_path, report=stop)
    assert len(list(tmp_path.glob("*.npz"))) == 1
    stored = next(tmp_path.glob("*.npz"))
    written = stored.stat().st_mtime_ns
    again = evolved(checkpoints, searches=tmp_path, resume=True)
    assert stored.stat().st_mtime_ns == written
    assert again.table.equals(found.table)
    assert len(list(tmp_path.glob("*.npz"))) == 4


PAIRS = {"batch_size": 2, "memory": 0}  # three batches, and no image is kept in memory


@pytest.mark.parametrize("by", ["activation", "density"])
def test_channels_are_chosen_by_the_last_checkpoint(checkpoints, states, by):
    files = Path(checkpoints) / "epoch_*.safetensors"
    one = dv.evolution(
        small_network(), files, Counted(), LAYERS, workers=0, channels=2, by=by, measured=3, seed=5
    )
    for layer in LAYERS:
        peaks = maps_by_hand(states[-1], layer).flatten(2).amax(2)  # (6, C)
        numbers = peaks.amax(0) if by == "activation" else (peaks > 0).sum(0)
        order = sorted(range(CHANNELS[layer]), key=lambda channel: -float(numbers[channel]))
        assert one.channels.shown[layer] == tuple(order[:2])
        assert len(one.channels.measured[layer]) == 3
        assert set(order[:2]) <= set(one.channels.measured[layer])


def test_an_unknown_order_of_channels_is_refused(checkpoints):
    with pytest.raises(UnitError, match="unknown order 'size' of channels: choose from random, activation"):
        evolved(checkpoints, by="size")


KILLED = """
import os, signal, sys
from deconvviz.experiments.evolution import strongest
from test_evolution import PAIRS, Counted, evolved
strongest.EVERY = 0.0

class Killer(Counted):
    def read(self, number):
        found = super().read(number)
        if self.reads == {reads}:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

evolved({checkpoints!r}, Killer(), searches={folder!r}, resume={resume}, **PAIRS)
"""


def kill_at(reads, checkpoints, folder, *, resume=False):
    """Run an evolution in another process that kills itself when it reads an image."""
    script = KILLED.format(reads=reads, checkpoints=str(checkpoints), folder=str(folder), resume=resume)
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": here}, stderr=subprocess.PIPE
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_search_that_was_killed_continues_inside_a_checkpoint(checkpoints, tmp_path):
    found = evolved(checkpoints, **PAIRS)
    kill_at(6 + 5, checkpoints, tmp_path)  # the fifth image of the second checkpoint
    assert [len(list(tmp_path.glob(f"*{suffix}"))) for suffix in (".npz", ".unfinished")] == [1, 1]
    kill_at(2 + 1, checkpoints, tmp_path, resume=True)  # two images of the second, one of the third
    assert [len(list(tmp_path.glob(f"*{suffix}"))) for suffix in (".npz", ".unfinished")] == [2, 0]
    again = evolved(checkpoints, searches=tmp_path, resume=True, **PAIRS)
    assert again.table.equals(found.table)
    assert again.layer_table.equals(found.layer_table)
    assert not list(tmp_path.glob("*.unfinished"))


def test_the_state_of_a_killed_search_is_used_only_for_the_same_images(checkpoints, tmp_path):
    kill_at(5, checkpoints, tmp_path)
    fewer = evolved(checkpoints, searches=tmp_path, resume=True, limit=3, **PAIRS)
    assert fewer.table.equals(evolved(checkpoints, limit=3, **PAIRS).table)


def test_a_damaged_state_of_a_search_is_not_used(checkpoints, tmp_path):
    kill_at(5, checkpoints, tmp_path)
    (state,) = tmp_path.glob("*.unfinished")
    state.write_bytes(state.read_bytes()[:500])
    again = evolved(checkpoints, searches=tmp_path, resume=True, **PAIRS)
    assert again.table.equals(evolved(checkpoints, **PAIRS).table)


def test_a_search_of_other_images_is_not_resumed(checkpoints, tmp_path):
    evolved(checkpoints, searches=tmp_path)
    fewer = evolved(checkpoints, searches=tmp_path, resume=True, limit=2)
    assert fewer.images == 2
    assert set(fewer.table["image"].to_pylist()) <= {"image-0", "image-1", None}


def test_one_checkpoint_is_refused(checkpoints):
    with pytest.raises(WeightsError, match="needs at least 2 checkpoints"):
        dv.evolution(small_network(), checkpoints / "epoch_8.safetensors", Counted(), "0")


def test_a_checkpoint_of_another_network_is_refused_before_the_search(checkpoints, tmp_path):
    other = nn.Sequential(nn.Conv2d(3, 7, 5)).double()
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    source = Counted()
    with pytest.raises(WeightsError, match=r"other\.safetensors"):
        dv.evolution(
            small_network(),
            [checkpoints / "epoch_8.safetensors", tmp_path / "other.safetensors"],
            source,
            "0",
        )
    assert source.reads == 0


def test_a_checkpoint_with_nan_is_refused(checkpoints, states, tmp_path):
    spoiled = {name: tensor.clone() for name, tensor in states[0].items()}
    spoiled["3.weight"][0, 0, 0, 0] = torch.nan
    save_file(spoiled, tmp_path / "nan.safetensors")
    with pytest.raises(WeightsError, match=r"nan\.safetensors contains NaN or infinity in 3\.weight"):
        dv.evolution(
            small_network(),
            [checkpoints / "epoch_8.safetensors", tmp_path / "nan.safetensors"],
            Counted(),
            "0",
        )


def test_channels_and_layers_must_exist(checkpoints):
    files = checkpoints / "epoch_*.safetensors"
    with pytest.raises(UnitError, match="no channel 9 in 0"):
        dv.evolution(small_network(), files, Counted(), "0", channels=[9])
    with pytest.raises(LayerError, match="no layer '7'"):
        dv.evolution(small_network(), files, Counted(), "7")


def test_drawn_channels_depend_on_the_seed_only(checkpoints):
    one, same, other = (evolved(checkpoints, seed=seed, measured=3).channels for seed in (0, 0, 5))
    assert one == same
    assert one.shown != other.shown
    assert all(len(channels) == 3 for channels in one.measured.values())


def test_figure_has_a_row_for_each_channel_and_marks_jumps(found):
    spec = found.spec()
    grids = spec.rows[0]
    assert [grid.shape for grid in grids] == [(3, 4), (3, 5)]
    assert grids[0].column_labels == ("8", "9", "10", "11")
    rows = rows_of(found)
    for number, channel in enumerate(found.channels.shown["0"]):
        for column, label in enumerate(grids[0].column_labels):
            (caption,) = grids[0].tiles[number][column].caption
            assert caption.endswith("*") == bool(rows[label, "0", channel]["jump"])


def test_files_are_those_of_the_contract(found, tmp_path):
    written = found.save_into(tmp_path / "out")
    assert [path.name for path in written] == [
        "evolution.png",
        "evolution.json",
        "evolution.parquet",
        "evolution-layers.parquet",
    ]
    assert pq.read_table(written[2]).equals(found.table)
    manifest = json.loads(written[1].read_text())
    assert [one["label"] for one in manifest["checkpoints"]] == ["8", "9", "10", "11"]
    assert manifest["layers"][1]["name"] == "3"
    with Image.open(written[0]) as image:
        assert image.width > 1000
    with pytest.raises(OutputError, match="already exist"):
        found.save_into(tmp_path / "out")


def test_arrays_have_the_numbers_of_the_table(found):
    arrays = found.arrays()
    rows = rows_of(found)
    for column, (layer, channel) in enumerate(zip(arrays["layer"], arrays["channel"], strict=True)):
        for step, label in enumerate(arrays["checkpoint"]):
            assert arrays["activation"][step, column] == rows[label, layer, channel]["activation"]


def test_report_shows_the_evolution(found, tmp_path):
    page = dv.report(found, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "small" in page
    assert "checkpoints" in page
