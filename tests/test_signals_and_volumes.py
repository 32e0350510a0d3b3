"""Networks for signals, volumes and video through the public API: arrays, projections, files and figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from helpers.asking import noise, seeded
from helpers.oracles import Autograd, difference
from torch import Tensor, nn
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.errors import FigureError, ImageError, ManifestError, NetworkError, UnitError
from deconvviz.figures.spec.curves import Curves
from deconvviz.figures.spec.frames import chosen_frames
from deconvviz.figures.spec.tile_grid import TileGrid

EXACT = 1e-10


class Signal(nn.Module):
    """One-dimensional, as for heart signals or DNA; the ReLUs are made anew in every forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv1d(4, 8, 17, padding="same")
        self.b = nn.Conv1d(8, 8, 9, padding="same")
        self.pool = nn.MaxPool1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.pool(nn.ReLU()(self.a(x))))


class Volume(nn.Module):
    """Three-dimensional, for one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv3d(1, 4, 3, padding=1)
        self.pool = nn.MaxPool3d(2)
        self.b = nn.Conv3d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.pool(torch.relu(self.a(x))))


@lru_cache(maxsize=1)
def signal() -> dv.Network:
    return dv.Network(seeded(Signal), shape=(4, 300))


def video() -> nn.Module:
    """Return a video network with batch statistics with which deep layers are not silent."""
    network = seeded(lambda: torchvision.models.video.r3d_18(weights=None, num_classes=7))
    for part in network.modules():
        if isinstance(part, nn.BatchNorm3d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.running_mean, -0.2, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return network


def equal_to_autograd(net: dv.Network, inputs: Tensor, layers: Sequence[str]) -> int:
    """Compare units and a whole channel of some layers with the oracle. Return how many are not zero."""
    recording, oracle = net.record(inputs, layers), Autograd(net.module, inputs)
    alive = 0
    for layer in layers:
        module = net.layers[layer].module
        channel = recording.activations(layer).shape[1] - 1
        units = [*recording.strongest(layer, 2), dv.Unit(len(inputs) - 1, channel)]
        for pixels, unit in zip(recording.project(layer, units).pixels, units, strict=True):
            output = oracle.outputs[module].detach()
            signal = torch.zeros_like(output)
            signal[unit.place] = output[unit.place]
            want = oracle.project(module, signal)[unit.image]
            assert difference(pixels, want) <= EXACT, (layer, unit)
            alive += bool(want.any())
    return alive


def test_projections_of_every_layer_of_a_signal_network_equal_autograd() -> None:
    layers = [layer.name for layer in signal().layers if not layer.same_as]
    assert layers == ["a", "pool", "b"]
    assert equal_to_autograd(signal(), noise(2, 4, 300), layers) == 9


@pytest.mark.parametrize(
    "every", [pytest.param(17, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.nightly)]
)
def test_projections_of_layers_of_r3d_18_equal_autograd(every: int) -> None:
    net = dv.Network(video(), shape=(3, 8, 40, 48))
    layers = [layer.name for layer in net.layers if not layer.same_as]
    assert len(layers) > 50
    layers = layers[every // 2 :: every]
    assert equal_to_autograd(net, noise(2, 3, 8, 40, 48), layers) > 2 * len(layers)
    assert not net.coverage().unsupported


def test_layers_of_a_signal_network_have_fields_in_samples() -> None:
    assert str(signal().layers).splitlines() == [
        "a (Conv1d): 8 x 300, receptive field 17 samples, stride 1 sample",
        "pool (MaxPool1d): 8 x 100, receptive field 19 samples, stride 3 samples",
        "b (Conv1d): 8 x 100, receptive field 43 samples, stride 3 samples",
        "output (Signal): 8 x 100, receptive field 43 samples, stride 3 samples",
    ]
    layer = signal().layers["b"]
    assert layer.field_of(10) == (30 - 20, 30 + 23)
    assert signal().layers.to_json()[0]["spatial"] == 1
    assert "spatial" not in dv.load("minivgg").layers.to_json()[0]


def test_field_of_a_volume_has_three_lengths() -> None:
    layer = dv.Network(seeded(Volume), shape=(1, 12, 14, 16)).layers["b"]
    assert str(layer) == "b (Conv3d): 4 x 4 x 5 x 6, receptive field 8x8x8, stride 2x2x2"
    assert layer.field_of(1, 2, 0) == (-1, 3, 1, 7, 11, 9)


def test_units_of_a_signal_have_x_alone() -> None:
    recording = signal().record(noise(1, 4, 300), "b")
    strongest = recording.strongest("b", 1)[0]
    values = recording.activations("b")[0]
    place = np.unravel_index(int(values.argmax()), values.shape)
    assert (strongest.channel, strongest.position, strongest.y, strongest.z) == (
        place[0],
        (place[1],),
        None,
        None,
    )
    assert str(strongest) == f"image 0, channel {place[0]} at {place[1]} = {float(values.max()):.4g}"
    with pytest.raises(UnitError) as error:
        recording.project("b", dv.Unit(0, 0, 3, 4))
    assert "has a position, but the units of b have only x" in str(error.value)
    with pytest.raises(UnitError, match="no position 100 in b: there are 0 to 99"):
        recording.project("b", dv.Unit(0, 0, x=100))


def test_units_of_a_volume_have_z() -> None:
    net = dv.Network(seeded(Volume), shape=(1, 12, 14, 16))
    recording = net.record(noise(1, 1, 12, 14, 16), "b")
    unit = recording.strongest("b", 1)[0]
    values = recording.activations("b")[0]
    assert (unit.channel, *unit.position) == np.unravel_index(int(values.argmax()), values.shape)
    assert unit.position == (unit.z, unit.y, unit.x)
    with pytest.raises(UnitError, match=r"at \(None, 1, 2\)\) has only half a position. Give z, y and x"):
        recording.project("b", dv.Unit(0, 0, 1, 2))
    with pytest.raises(UnitError, match="no slice 4 in b"):
        recording.project("b", dv.Unit(0, 0, 1, 2, z=4))


def test_unit_of_an_image_is_described_without_z() -> None:
    unit = dv.Unit(0, 3, 1, 2, 0.5)
    assert repr(unit) == "Unit(image=0, channel=3, y=1, x=2, activation=0.5)"
    assert unit.to_json() == {"image": 0, "channel": 3, "y": 1, "x": 2, "activation": 0.5}
    assert dv.Unit(0, 3, 1, 2, 0.5, z=4).to_json()["z"] == 4


def test_chosen_units_of_a_signal_are_apart_and_not_cut() -> None:
    recording = signal().record(noise(1, 4, 300), "b")
    chosen = recording.choose("b", 4, channel=2, whole_fields=True)
    values = recording.activations("b")[0, 2]
    left = [place for place in range(100) if 3 * place >= 20 and 3 * place + 23 <= 300]
    expected: list[int] = []
    while len(expected) < 4:
        expected.append(max(left, key=lambda place: float(values[place])))
        left = [place for place in left if 3 * abs(place - expected[-1]) >= 43 / 2]
    assert [unit.x for unit in chosen] == expected
    assert recording.boxes("b", chosen) == [(3 * x - 20, 3 * x + 23) for x in expected]
    assert recording.boxes_at("b", expected).tolist() == [[3 * x - 20, 3 * x + 23] for x in expected]


def test_arrays_of_a_projection_have_the_axes_of_the_input() -> None:
    net = dv.Network(seeded(Volume), shape=(1, 12, 14, 16))
    recording = net.record(noise(2, 1, 12, 14, 16), "b")
    found = recording.project("b", [dv.Unit(1, 2, 3, 4, z=1), dv.Unit(0, 1)])
    arrays = found.arrays()
    assert arrays["pixels"].shape == (2, 1, 12, 14, 16)
    assert arrays["boxes"].tolist() == [[7, 5, 1, 15, 13, 9], [0, 0, 0, 16, 14, 12]]
    assert (arrays["z"].tolist(), arrays["y"].tolist(), arrays["x"].tolist()) == ([1, -1], [3, -1], [4, -1])
    assert found.patch(0).shape == found.crop(0).shape == (1, 8, 8, 8)
    assert "z" not in signal().record(noise(1, 4, 300), "b").project("b").arrays()


def test_arrays_are_standardised_and_tensors_are_used_as_they_are() -> None:
    net = dv.Network(seeded(Signal), shape=(4, 50), mean=(1, 2, 3, 4), std=(1, 2, 4, 8))
    raw = noise(2, 4, 50).numpy()
    prepared = (raw - np.array([1, 2, 3, 4])[:, None]) / np.array([1, 2, 4, 8])[:, None]
    from_arrays = net.record(list(raw), "b")
    assert (
        difference(from_arrays.activations("b"), net.record(torch.from_numpy(prepared), "b").activations("b"))
        < 1e-5
    )
    found = from_arrays.project("b", dv.Unit(1, 0, x=8))
    assert np.allclose(found.patch(0), raw[1][:, slice(*found.boxes[0])], atol=1e-5)
    pixels = found.pixels[0].numpy()[:, slice(*found.boxes[0])]
    assert np.allclose(found.crop(0), pixels * np.array([1, 2, 4, 8])[:, None])


def test_signal_may_be_longer_than_the_declared_shape() -> None:
    assert signal().record(noise(4, 360).numpy(), "b").activations("b").shape == (1, 8, 120)


WRONG = [
    (np.zeros((3, 300)), r"the array has shape \(3, 300\): the network reads \(4, 300\), channels first"),
    (np.zeros((4, 300), complex), "the array holds complex128: give real numbers"),
    (np.full((4, 300), np.nan), "the array holds NaN or infinity"),
    ([np.zeros((4, 300)), np.zeros((4, 301))], "arrays of one recording have one shape"),
    (torch.zeros(1, 4, 3, 300), r"a prepared tensor has shape \(B, 4, T\), not \(1, 4, 3, 300\)"),
    ("no.npy", "no.npy"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_input_that_does_not_fit_raises(given: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        signal().record(given, "b")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(300,), (4, 0), (1, 2, 3, 4, 5)])
def test_shape_that_no_input_has_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(NetworkError, match="is not the shape of an input"):
        dv.Network(seeded(Signal), shape=shape)


def test_files_of_arrays_are_cut_and_padded_to_the_declared_shape(tmp_path: Path) -> None:
    long, short = noise(4, 311).numpy(), noise(4, 297).numpy()
    np.save(tmp_path / "long.npy", long)
    np.savez(tmp_path / "short.npz", short)
    recording = signal().record([tmp_path / "long.npy", tmp_path / "short.npz"], "b")
    inputs = recording.inputs.numpy()
    assert np.allclose(inputs[0], long[:, 5:305], atol=1e-6)
    assert np.allclose(inputs[1][:, 1:298], short, atol=1e-6)
    assert not inputs[1][:, 0].any() and not inputs[1][:, 298:].any()
    assert [image.notes for image in recording.input_images] == [
        ("cut from 311 to 300",),
        ("padded with zeros from 297 to 300",),
    ]


def test_file_that_holds_objects_or_several_arrays_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(ImageError, match=r"objects\.npy cannot be read"):
        signal().record(tmp_path / "objects.npy", "b")
    with pytest.raises(ImageError, match=r"two\.npz holds a, b: give a file with one array"):
        signal().record(tmp_path / "two.npz", "b")


FACTORY = """
import torch
from torch import nn

import deconvviz as dv


def signals():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv1d(2, 4, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(4, 3, 3))
    return dv.Network(module, shape=(2, 60), mean=(1, 0), std=(2, 3))
"""


def test_projection_of_a_signal_is_made_again_from_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(FACTORY)
    np.save(tmp_path / "signal.npy", noise(2, 60).numpy())
    net = dv.load(f"{tmp_path / 'own.py'}:signals")
    recording = net.record(tmp_path / "signal.npy", "3")
    found = recording.project("3", recording.choose("3", 2))
    found.save(tmp_path / "figure.png")
    manifest = json.loads((tmp_path / "figure.json").read_text())
    assert manifest["network"]["preprocessing"] == {"array": [2, 60], "mean": [1.0, 0.0], "std": [2.0, 3.0]}
    assert manifest["boxes"] == [list(box) for box in found.boxes]
    again = dv.remake(tmp_path / "figure.json", allow_code=True).projection
    assert torch.equal(again.pixels, found.pixels) and again.boxes == found.boxes
    np.save(tmp_path / "signal.npy", noise(2, 60, seed=1).numpy())
    with pytest.raises(ManifestError, match="are not those of"):
        dv.remake(tmp_path / "figure.json", allow_code=True)


def test_figure_of_a_signal_shows_signal_above_projection_on_one_axis() -> None:
    recording = signal().record(noise(4, 300).numpy(), "b")
    found = recording.project("b", recording.choose("b", 4))
    spec = found.spec()
    assert isinstance(spec, Curves) and spec.style.columns == 3
    panels = [panel for panel in spec.panels if not panel.blank]
    assert [panel.y_label for panel in panels] == 3 * ["signal"] + 3 * ["projection"] + [
        "signal",
        "projection",
    ]
    for above, below, number in ((0, 3, 0), (1, 4, 1), (2, 5, 2), (6, 7, 3)):
        (x0, x1) = found.boxes[number]
        first = max(0, x0 - (x1 - x0) // 4)
        for panel, values in ((panels[above], found.inputs[0]), (panels[below], found.pixels[number])):
            assert panel.curves[0].x[0] == first and len(panel.curves) == 4
            assert [line.value for line in panel.references] == [x0 - 0.5, x1 - 0.5]
            for curve, row in zip(panel.curves, values.numpy(), strict=True):
                assert np.allclose(curve.y, row[first : first + len(curve.y)], atol=1e-6)
    assert len({panel.y_range for panel in panels}) == 2  # one scale for signals, one for projections
    low, high = panels[3].y_range or (0, 0)
    assert low == -high
    assert panels[0].title.startswith("1 · channel ")
    assert [panel.title for panel in panels[3:6]] == [f"{number} · projection" for number in (1, 2, 3)]


def test_signal_with_many_channels_is_drawn_as_strips() -> None:
    net = dv.Network(seeded(lambda: nn.Sequential(nn.Conv1d(9, 4, 5), nn.ReLU())), shape=(9, 60))
    found = net.record(noise(9, 60).numpy(), "1").project("1", [dv.Unit(0, 0, x=20), dv.Unit(0, 1, x=3)])
    spec = found.spec()
    assert isinstance(spec, TileGrid) and spec.shape == (4, 1)
    tile = spec.tiles[1][0]
    assert tile is not None and tile.caption == ("samples 20 to 24",)
    rows, columns = np.shape(tile.values)
    assert np.allclose(np.asarray(tile.values)[:: rows // 9, :: columns // 5], found.pixels[0, :, 20:25])


def test_figure_of_a_video_shows_the_frames_with_the_most_energy() -> None:
    module = seeded(lambda: nn.Sequential(nn.Conv3d(3, 4, (5, 3, 3)), nn.ReLU()))
    net = dv.Network(module, shape=(3, 12, 10, 10), mean=(0.5,) * 3, std=(0.25,) * 3)
    clip = torch.rand(3, 12, 10, 10, generator=torch.Generator().manual_seed(0)).numpy()
    found = net.record(clip, "1").project("1", dv.Unit(0, 0, 4, 5, z=6))
    spec = found.spec(crop="field", columns=3)
    assert isinstance(spec, TileGrid) and spec.shape == (2, 3)
    energy = found.pixels[0, :, 6:11].square().sum((0, 2, 3))
    starts = {(step, first): sum(float(energy[first + step * n]) for n in range(3)) for step, first in
              ((1, 0), (1, 1), (1, 2), (2, 0))}  # fmt: skip
    step, first = max(starts, key=lambda key: starts[key])
    for number, (patch, projection) in enumerate(zip(*spec.tiles, strict=True)):
        frame = 6 + first + step * number
        assert patch is not None and projection is not None
        assert projection.caption == (f"frame {frame}",)
        assert np.allclose(patch.values, clip[:, frame, 4:7, 5:8].transpose(1, 2, 0), atol=1e-6)
        own = found.pixels[0, :, frame, 4:7, 5:8].permute(1, 2, 0).numpy()
        assert np.allclose(projection.values, own * 0.25)


def test_chosen_frames_are_at_equal_distances() -> None:
    energy = np.array([0.0, 1, 0, 5, 0, 4, 0, 3, 1])
    assert chosen_frames(np.sqrt(energy)[None, :, None, None], 3) == [3, 5, 7]
    assert chosen_frames(np.ones((1, 4, 2, 2)), 6) == [0, 1, 2, 3]
    assert chosen_frames(np.zeros((1, 9, 2, 2)), 3) == [0, 1, 2]
    assert chosen_frames(np.sqrt(energy)[None, :, None, None], 1) == [3]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("1", "have positions: use --unit C,X"),
        ("1,2,3", "have positions: use --unit C,X"),
        ("1,27", r"no position 27 in 3, of 26 positions"),
    ],
)
def test_unit_on_the_command_line_has_as_many_numbers_as_axes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(FACTORY)
    np.save("signal.npy", noise(2, 60).numpy())
    command = ["project", "signal.npy", "--model", "own.py:signals", "--layer", "3", "--out", "out"]
    done = CliRunner().invoke(app, [*command, "--unit", unit])
    assert (done.exit_code, Path("out").exists()) == (2, False)
    assert message in done.stderr
    done = CliRunner().invoke(app, [*command, "--unit", "1,20"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(next(Path("out").glob("*.json")).read_text())["units"][0]["x"] == 20


def test_squares_and_measures_of_arrays_are_refused() -> None:
    found = signal().record(noise(1, 4, 300), "b").project("b", dv.Unit(0, 0, x=50))
    with pytest.raises(FigureError, match="squares are parts of images"):
        found.effective_boxes()
    with pytest.raises(ImageError, match=r"reads arrays of shape \(4, 300\), but this needs pictures"):
        dv.trust(signal(), noise(1, 4, 300), "b")
    with pytest.raises(ImageError, match=r"reads arrays of shape \(4, 300\), but this needs pictures"):
        dv.occlusion(signal(), noise(1, 4, 300), "b")
