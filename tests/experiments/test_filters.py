"""`dv.filters`: measures of filters that are made for the test, and the projections of the second layer."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import deconvviz as dv
from deconvviz.errors import LayerError, NetworkError, OutputError
from deconvviz.experiments.filters_measures import measure, peak_at_stride
from deconvviz.image_sources.image_ids import Names
from deconvviz.image_sources.source import Source
from deconvviz.images.image import InputImage

pytestmark = pytest.mark.slow  # together about 10 s


def grating(y, x, size=11, channels=3):
    """Return a filter (C, size, size): a grating with these frequencies in cycles per pixel, windowed."""
    rows, columns = np.mgrid[:size, :size] - size // 2
    window = np.exp(-(rows**2 + columns**2) / (2 * (size / 4) ** 2))
    return np.stack([window * np.cos(2 * np.pi * (y * rows + x * columns))] * channels)


@pytest.mark.parametrize(
    ("y", "x", "name"),
    [(0.2, 0, "horizontal"), (0, 0.2, "vertical"), (0.15, 0.15, "rising"), (0.15, -0.15, "falling")],
)
def test_orientation_is_that_of_the_bars(y, x, name):
    found = measure(grating(y, x)[None], (1, 1)).orientations[0]
    names = ("horizontal", "vertical", "rising", "falling")
    assert names[found.argmax()] == name
    assert found.max() > 0.8
    assert found.sum() == pytest.approx(1)


def test_rising_bars_rise_to_the_right():
    bars = grating(0.15, 0.15, size=9, channels=1)[0]
    corner = 9 // 2 + 2
    # the bar through the centre: bright at the upper right, not at the lower right
    assert bars[9 // 2 - 2, corner] > 0 > bars[9 // 2 + 2, corner]


@pytest.mark.parametrize(("frequency", "band"), [(0.03, 0), (0.18, 1), (0.4, 2)])
def test_bands_of_frequency(frequency, band):
    found = measure(grating(0, frequency)[None], (1, 1)).bands[0]
    assert found.argmax() == band
    assert found.sum() == pytest.approx(1)


def test_energy_above_nyquist_equals_a_direct_sum():
    weights = np.random.default_rng(0).standard_normal((2, 3, 5, 5))
    wanted = []
    for one in weights:
        total = above = 0.0
        for fy in np.arange(64) / 64:
            for fx in np.arange(64) / 64:
                wave = np.exp(-2j * np.pi * (fy * np.arange(5)[:, None] + fx * np.arange(5)[None]))
                energy = (np.abs((one * wave).sum((1, 2))) ** 2).sum()
                total += energy
                if min(fy, 1 - fy) > 0.25 or min(fx, 1 - fx) > 0.125:
                    above += energy
        wanted.append(above / total)
    np.testing.assert_allclose(measure(weights, (2, 4)).above_nyquist, wanted, rtol=1e-9)


def test_aliased_filters_have_frequencies_above_nyquist():
    weights = np.stack([grating(0, 0.05), grating(0, 0.35)])
    assert measure(weights, (2, 2)).aliased.tolist() == [False, True]
    assert measure(weights, (1, 1)).aliased.tolist() == [False, False]
    assert (measure(weights, (1, 1)).above_nyquist == 0).all()


def test_dead_dominant_and_double_filters():
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((9, 3, 5, 5))
    weights[2] *= 0.001
    weights[5] *= 20
    weights[7] = 3 * weights[1] + 0.01 * rng.standard_normal((3, 5, 5))
    weights[8] = -weights[0]  # the opposite of a filter is not its double
    found = measure(weights, (1, 1))
    assert np.flatnonzero(found.dead).tolist() == [2]
    assert np.flatnonzero(found.dominant).tolist() == [5]
    assert np.flatnonzero(found.doubles).tolist() == [1, 7]
    assert found.nearest[[1, 7]].tolist() == [7, 1]
    wanted = np.corrcoef(weights[1].ravel(), weights[7].ravel())[0, 1]
    assert found.correlation[1] == pytest.approx(wanted)
    np.testing.assert_allclose(found.rms, [np.sqrt((one**2).mean()) for one in weights])


def test_zero_filter_is_dead_and_single_filter_has_no_double():
    found = measure(np.zeros((1, 3, 3, 3)), (1, 1))
    assert found.dead.all()
    assert not found.doubles.any()
    assert np.isfinite([found.colour, found.above_nyquist]).all()


def test_colour_is_zero_for_grey_and_one_for_opponent_colours():
    grey = np.stack([np.random.default_rng(0).standard_normal((5, 5))] * 3)
    opponent = grey * np.array([1, -1, 0])[:, None, None]
    assert measure(np.stack([grey, opponent]), (1, 1)).colour == pytest.approx([0, 1])
    assert measure(grey[None, :1], (1, 1)).colour == pytest.approx([0])


def test_pattern_with_the_period_of_the_stride_raises_the_spectrum():
    rng = np.random.default_rng(0)
    plain = [rng.standard_normal((3, 32, 32)) for _ in range(20)]
    comb = np.zeros((1, 32, 32))
    comb[:, ::4, ::4] = 2
    assert peak_at_stride(plain, (4, 4)) < 2 < peak_at_stride([one + comb for one in plain], (4, 4))
    assert peak_at_stride(plain, (1, 1)) is None
    assert peak_at_stride([], (2, 2)) is None


class Noise(Source):
    """Source of random images."""

    kind = "noise"

    def __init__(self, count):
        super().__init__("noise", Names(f"image-{number}" for number in range(count)))

    def read(self, number):
        return InputImage(np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8))


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)
    ).eval()


def test_projections_are_those_of_the_strongest_unit_of_each_channel_in_all_images():
    net = dv.Network(build(), size=40)
    with torch.no_grad():
        net.module[0].bias[3] = -1000.0
    source = Noise(21)
    found = dv.filters(net, source=source, count=3, seed=4).banks[0]
    assert found.second.name == "2"
    with torch.no_grad():
        inputs = torch.stack([net.preprocessing.apply(source.image(n).rgb) for n in range(21)])
        peaks = net.module[:3](inputs).flatten(2).amax(2)
        tops = net.module[0](inputs).transpose(0, 1).flatten(1).amax(1)
    assert found.seen.silent.tolist() == (tops <= 0).tolist()
    assert found.seen.silent[3]
    for number, channel in enumerate(found.seen.channels):
        winner = int(peaks[:, channel].argmax())
        assert found.seen.images[number] == source.names[winner]
        assert found.seen.activations[number] == pytest.approx(float(peaks[winner, channel]), rel=1e-5)
        record = net.record(source.image(winner), "2")
        projection = record.project("2", record.strongest("2", 1, channel))
        x0, y0, x1, y1 = projection.boxes[0]
        shown = found.seen.pixels[number]
        assert shown.shape == (3, 9, 9)
        assert np.abs(shown).sum() == pytest.approx(
            float(projection.pixels[:, :, y0:y1, x0:x1].abs().sum()), rel=1e-4
        )


def test_channels_depend_on_the_seed_only():
    net = dv.Network(build(), size=40)
    chosen = [
        dv.filters(net, source=Noise(2), count=3, seed=seed).banks[0].seen.channels for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]


def test_against_another_network_and_another_file(tmp_path):
    net = dv.load("minivgg")
    file = tmp_path / "other.safetensors"
    save_file({name: 2 * tensor for name, tensor in net.module.state_dict().items()}, file)
    found = dv.filters(net, against=file)
    assert len(found.banks) == 2
    np.testing.assert_allclose(found.banks[1].measures.rms, 2 * found.banks[0].measures.rms, rtol=1e-5)
    assert found.table["network"].to_pylist() == ["network"] * 16 + ["against"] * 16
    assert found.spec().shape == (1, 2)
    with pytest.raises(NetworkError, match="was made in Python"):
        dv.filters(dv.Network(build(), size=40), against=file)
    assert len(dv.filters(net, against=dv.Network(build(), size=40)).banks[1].weights) == 6


def test_filters_share_one_scale():
    module = build()
    with torch.no_grad():
        module[0].weight[4] *= 50
    found = dv.filters(dv.Network(module, size=40))
    assert found.banks[0].to_json()["dominant"] == [4]
    assert "1 filter (4) dominant" in found.sentences()[0]
    assert "dv.clip_filters" in found.sentences()[0]
    ((tile,),) = found.spec(percentile=100).tiles
    assert (
        np.abs(tile.values[:20, :20] - 0.5).max() < 0.1
    )  # the first filter looks grey next to the large one


def test_by_size_sorts_the_figure_and_not_the_table():
    net = dv.load("minivgg")
    found = dv.filters(net, by_size=True)
    sizes = found.banks[0].measures.rms[found.banks[0].order(True)]
    assert (np.diff(sizes) <= 0).all()
    assert found.table["filter"].to_pylist() == list(range(16))


def test_files_are_those_of_the_contract(tmp_path):
    found = dv.filters(dv.load("minivgg"))
    written = found.save_into(tmp_path)
    assert [path.name for path in written] == ["filters.png", "filters.json", "filters.parquet"]
    assert pq.read_table(tmp_path / "filters.parquet").equals(found.table)
    assert json.loads((tmp_path / "filters.json").read_text())["filters"][0]["layer"] == "conv1_1"
    with pytest.raises(OutputError, match="already exist"):
        found.save_into(tmp_path)


def test_layers_without_readable_filters():
    net = dv.load("minivgg")
    with pytest.raises(LayerError, match="reads 16 channels"):
        dv.filters(net, "conv1_2")
    with pytest.raises(LayerError, match="is not a 2-d convolution"):
        dv.filters(net, "relu1_1")
    with pytest.raises(LayerError, match="no layer 'conv9_9'"):
        dv.filters(net, "conv9_9")
    with pytest.raises(LayerError, match="no convolution that reads"):
        dv.filters(dv.Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)), size=8))


def test_nan_in_a_checkpoint_is_an_error():
    module = build()
    with torch.no_grad():
        module[0].weight[2, 0, 0, 0] = float("nan")
    with pytest.raises(NetworkError, match="1 of 6 filters of 0 have NaN"):
        dv.filters(dv.Network(module, size=40))


def test_single_convolution_has_no_second_layer():
    net = dv.Network(nn.Sequential(nn.Conv2d(3, 4, 3)), size=40)
    with pytest.raises(LayerError, match="no convolution after 0"):
        dv.filters(net, source=Noise(2))
