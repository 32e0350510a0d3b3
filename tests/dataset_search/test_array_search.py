"""Searches of signals, pictures with bands, volumes and video: peaks, tables, sources and mistakes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.array_searches import KINDS, LAYERS, Found, full_sort, network, prepared, write_arrays
from helpers.asking import noise, positive, seeded
from helpers.oracles import seen_pixels
from helpers.searches import same
from torch import nn

import deconvviz as dv
from deconvviz.dataset_search import checkpoint as state
from deconvviz.dataset_search.result import Search
from deconvviz.errors import ImageError, LayerError, MissingExtra, SearchError, SourceError
from deconvviz.image_sources import open_source
from deconvviz.images import input_files
from deconvviz.images.input_array import InputArray
from deconvviz.images.input_files import InputFiles

EVERY = pytest.mark.parametrize("kind", KINDS)
EDGES = {"x": ["x0", "x1"], "yx": ["x0", "y0", "x1", "y1"], "zyx": ["x0", "y0", "z0", "x1", "y1", "z1"]}


def peaks_of(found: Search) -> dict[tuple[str, int], list[Found]]:
    return {
        (layer, channel): [
            Found(peak.activation, peak.image_id, peak.unit(0).position) for peak in found.top(layer, channel)
        ]
        for layer, count in found.layers.items()
        for channel in range(count)
    }


def check_equal(
    found: dict[tuple[str, int], list[Found]], expected: dict[tuple[str, int], list[Found]], exact: float
) -> None:
    assert found.keys() == expected.keys()
    for key, rows in expected.items():
        assert [(one.image, one.position) for one in found[key]] == [
            (row.image, row.position) for row in rows
        ]
        assert np.allclose(
            [one.activation for one in found[key]], [row.activation for row in rows], exact, exact
        )


@EVERY
@pytest.mark.parametrize(("dtype", "exact"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_peaks_equal_a_full_sort(kind: str, dtype: torch.dtype, exact: float, tmp_path: Path) -> None:
    net, folder = network(kind, dtype), write_arrays(tmp_path / "in", kind)
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*.np?")}
    inputs = {name: prepared(net, file) for name, file in files.items()}
    found = dv.search(net, folder, LAYERS, top=5, batch_size=4, workers=0)
    check_equal(peaks_of(found), full_sort(net, inputs, LAYERS, 5), exact)
    assert (found.image_count, found.skipped) == (13, ())
    assert set(found.labels.values()) == {"even", "odd"}


@EVERY
def test_fields_in_the_table_are_those_that_can_change_the_unit(kind: str, tmp_path: Path) -> None:
    net = network(kind)
    found = dv.search(net, write_arrays(tmp_path, kind, 4), LAYERS, top=2, workers=0)
    module, shape = positive(net.module), net.preprocessing.input_shape
    peaks = [*found.top("0", 0), *found.top("0", 3), *found.top("4", found.choose("4", 1)[0])]
    assert len(peaks) == 6
    for peak in peaks:
        places = np.argwhere(seen_pixels(module, peak.layer, shape, (peak.channel, *peak.unit(0).position)))
        assert peak.box == (*places.min(0)[::-1], *(places.max(0)[::-1] + 1))


@EVERY
def test_tables_have_a_column_for_each_axis(kind: str, tmp_path: Path) -> None:
    axes = KINDS[kind].axes
    found = dv.search(
        network(kind), write_arrays(tmp_path / "in", kind, 4), ["4"], workers=0, out=tmp_path / "out"
    )
    head = ["layer", "channel", "rank", "activation", "image"]
    assert found.peaks.column_names == [*head, *axes, *EDGES[axes]]
    again, channel = dv.open_search(tmp_path / "out"), found.choose("4", 1)[0]
    assert again.peaks.equals(found.peaks)
    assert again.top("4", channel) == found.top("4", channel)
    assert str(found).startswith(f"<Search of 4 inputs in {kind}: 4; top 9 of 4 channels")
    peak = found.top("4", channel)[0]
    position = ", ".join(str(getattr(peak, axis)) for axis in axes)
    position = f"({position})" if len(axes) > 1 else position
    assert str(peak) == f"1. {peak.image_id} at {position} = {peak.activation:.4g}"
    assert f"channel {channel}: 1. {peak.image_id}" in found._repr_html_()


def test_tables_of_images_are_as_before() -> None:
    found = dv.search("minivgg", "scenes:2", ["conv4_2"], workers=0)
    assert found.peaks.column_names[5:] == ["y", "x", "x0", "y0", "x1", "y1"]
    assert "z" not in found.top("conv4_2", found.choose("conv4_2", 1)[0])[0].to_json()


class MeanOfTime(nn.Module):
    """Video network whose last layer has rows and columns, but no time."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv3d(3, 4, 3)
        self.b = nn.Conv2d(4, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.b(self.a(x).mean(2))
        return found


def test_layer_that_lacks_an_axis_has_a_position_without_it(tmp_path: Path) -> None:
    net = dv.Network(seeded(MeanOfTime).double(), shape=(3, 4, 6, 7))
    clips = [noise(3, 4, 6, 7, seed=number).numpy() for number in range(3)]
    found = dv.search(net, clips, ["b"], workers=0)
    peak = found.top("b", 1)[0]
    values = net.record(clips[int(peak.image_id[-1])], "b").activations("b")[0, 1]
    assert np.unravel_index(int(values.argmax()), values.shape) == (peak.y, peak.x)
    assert (peak.z, found.peaks["z"].null_count) == (None, found.peaks.num_rows)
    assert peak.box == (peak.x, peak.y, 0, peak.x + 3, peak.y + 3, 4)
    nine = found.topnine("b", channels=[1], k=2)
    assert nine.arrays()["pixels"].shape == (2, 3, 4, 6, 7)


def test_fully_connected_units_of_a_signal_have_no_position() -> None:
    net = dv.Network(seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(20, 3))), shape=(2, 10))
    found = dv.search(net, [noise(2, 10, seed=number).numpy() for number in range(3)], ["1"], workers=0)
    peak = found.top("1", 2)[0]
    assert (peak.unit(0).position, peak.box) == ((), (0, 10))
    assert found.topnine("1", channels=[2]).arrays()["x"].tolist() == [-1, -1, -1]


@pytest.mark.parametrize("form", ["zip", "tar", "list", "memory"])
def test_other_sources_have_the_same_peaks(form: str, tmp_path: Path) -> None:
    net, folder = network("signal"), write_arrays(tmp_path / "in", "signal")
    files = sorted(folder.rglob("*.np?"))
    expected = dv.search(net, folder, ["4"], workers=0)
    source: object
    if form == "zip":
        source = tmp_path / "all.zip"
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.relative_to(folder))
    elif form == "tar":
        source = tmp_path / "all.tar"
        with tarfile.open(source, "w") as shard:
            for file in files:
                shard.add(file, file.relative_to(folder))
    elif form == "list":
        source = tmp_path / "all.txt"
        source.write_text("\n".join(map(str, files)))
    else:
        ones = np.array(net.preprocessing.std)[:, None], np.array(net.preprocessing.mean)[:, None]
        source = [prepared(net, file).numpy() * ones[0] + ones[1] for file in files]
    found = dv.search(net, source, ["4"], workers=1)  # type: ignore[arg-type]
    assert np.allclose(found.peaks["activation"], expected.peaks["activation"], atol=1e-6)
    assert found.peaks["x"].equals(expected.peaks["x"])
    assert np.allclose(
        found.topnine("4", [1]).arrays()["pixels"], expected.topnine("4", [1]).arrays()["pixels"], atol=1e-6
    )


def test_files_that_do_not_fit_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    folder = write_arrays(tmp_path / "in", "signal", 4)
    np.save(folder / "other channels.npy", np.zeros((3, 60)))
    np.save(folder / "not finite.npy", np.full((2, 60), np.nan))
    np.savez(folder / "two.npz", a=np.zeros((2, 60)), b=np.zeros((2, 60)))
    (folder / "empty.npy").touch()
    (folder / "damaged.npy").write_bytes((folder / "odd" / "01.npy").read_bytes()[:200])
    (folder / "notes.md").write_text("not an input")
    found = dv.search(network("signal"), folder, ["4"], workers=0, out=tmp_path / "out")
    assert (found.image_count, found.manifest["skipped"]) == (4, 5)
    reasons = dict(found.skipped)
    assert reasons["other channels.npy"] == (
        "other channels.npy has shape (3, 60): the network reads (2, 60), channels first"
    )
    assert reasons["not finite.npy"] == "not finite.npy holds NaN or infinity"
    assert reasons["two.npz"] == "two.npz holds a, b: give a file with one array"
    assert reasons["empty.npy"] == "empty.npy is empty (0 bytes)"
    assert reasons["damaged.npy"].startswith("damaged.npy cannot be read: ")
    with pytest.raises(ImageError, match="damaged"):
        dv.search(network("signal"), folder, ["4"], workers=0, strict=True)


def test_arrays_in_memory_of_another_length_are_skipped() -> None:
    arrays = [noise(2, 60).numpy(), noise(2, 61).numpy()]
    found = dv.search(network("signal"), arrays, ["4"], workers=0)
    assert found.skipped == (
        (
            "input-00000001",
            "input-00000001 has shape (2, 61): all arrays of a search have the shape of the network, (2, 60)",
        ),
    )


def test_arrays_in_memory_are_known_by_their_contents(tmp_path: Path) -> None:
    arrays = [noise(2, 60, seed=number).numpy() for number in range(3)]
    net, out = network("signal"), tmp_path / "out"
    dv.search(net, arrays, ["4"], workers=0, out=out)
    again = dv.search(net, [one.copy() for one in arrays], ["4"], workers=0, out=out, resume=True)
    assert again.image_count == 3
    with pytest.raises(SearchError, match="source sha256"):
        dv.search(net, arrays[::-1], ["4"], workers=0, out=out, resume=True)
    opened = dv.open_search(out, network=net, source=arrays)
    assert len(opened.topnine("4", [0]).shown["4"][0]) > 0
    with pytest.raises(SourceError, match="3 inputs in memory is a source of kind 'memory'"):
        dv.open_search(out, network=net).topnine("4", [0])
    assert np.array_equal(open_source(np.stack(arrays), files=InputFiles((2, 60))).input(2).values, arrays[2])  # type: ignore[union-attr]


def test_images_in_memory_are_a_source() -> None:
    images = [np.full((96, 96, 3), value, np.uint8) for value in (0, 200)]
    found = dv.search("minivgg", images, ["conv1_1"], workers=0)
    assert found.images["image"].to_pylist() == ["image-00000000", "image-00000001"]
    assert open_source(images).image(1).rgb[0, 0, 0] == 200


MISTAKES = [
    ("scenes:4", SourceError, r"scenes:4 is a source of images, but the network reads arrays of shape"),
    ("hf:beats", SourceError, "Instead of a dataset of Hugging Face, give a folder"),
    ([], SourceError, "no inputs were given: the sequence is empty"),
    (["a.npy"], SourceError, "a sequence of paths is not a source"),
    ("pictures", SourceError, r"no inputs in pictures or its subfolders: 1 other file .inputs end in .npy"),
    ("pictures/a.npy", SourceError, "a.npy is a single input: give its folder or a list of inputs"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "error", "message"), MISTAKES)
def test_source_that_does_not_fit_is_refused(
    source: object, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    if source == "pictures/a.npy":
        np.save("pictures/a.npy", np.zeros((2, 60)))
    else:
        Path("pictures/a.png").touch()
    with pytest.raises(error, match=message):
        dv.search(network("signal"), source, ["4"], out="out")  # type: ignore[arg-type]
    assert not Path("out").exists()


def test_search_of_a_layer_without_channels_or_of_pixels_without_files_is_refused() -> None:
    with pytest.raises(LayerError):
        dv.search(network("signal"), [np.zeros((2, 60))], ["9"])
    table = dv.Network(nn.Conv2d(5, 2, 1), size=1, mean=[0] * 5, std=[1] * 5, name="five")
    with pytest.raises(ImageError, match="five reads 5 channels, but an image has 3"):
        dv.search(table, [np.zeros((5, 1, 1))], ["output"])


def test_missing_package_is_named_before_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.wav").touch()
    monkeypatch.setattr(input_files, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"reading a\.wav needs the extra signals"):
        dv.search(network("signal"), tmp_path, ["4"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def write_sounds(folder: Path) -> Iterable[tuple[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]]:
    soundfile = pytest.importorskip("soundfile")
    folder.mkdir()
    for number in range(3):
        samples = np.random.default_rng(number).uniform(-1, 1, (60, 2)).astype(np.float32)
        soundfile.write(folder / f"{number}.wav", samples, 100, subtype="FLOAT")
        yield f"{number}.wav", samples.T


def test_sounds_are_searched(tmp_path: Path) -> None:
    written = dict(write_sounds(tmp_path / "in"))
    net = network("signal")
    found = dv.search(net, tmp_path / "in", ["4"], workers=0)
    arrays = dv.search(net, [written[name] for name in sorted(written)], ["4"], workers=0)
    assert found.peaks["activation"].equals(arrays.peaks["activation"])
    assert found.topnine("4", [0]).notes[-1].startswith("100 samples per second: ")


def test_volumes_in_nifti_files_are_searched(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    shape = (8, 10, 12)
    arrays = [np.random.default_rng(number).normal(size=shape).astype(np.float32) for number in range(3)]
    for number, values in enumerate(arrays):
        end = ".nii.gz" if number == 1 else ".nii"
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{number}{end}")
    net = network("volume")
    found = dv.search(net, tmp_path, ["4"], workers=0)
    assert found.peaks["activation"].equals(dv.search(net, arrays, ["4"], workers=0).peaks["activation"])
    assert found.images["image"].to_pylist() == ["0.nii", "1.nii.gz", "2.nii"]


PROGRAM = """
import sys, time
from helpers.array_searches import network
from deconvviz.dataset_search.search import search
def report(progress):
    print(progress.done, flush=True)
    time.sleep(0.01)
search(network("volume"), sys.argv[1], ["0", "4"], batch_size=2, out=sys.argv[2], workers=0, resume=True,
       every=0, report=report)
print("done", flush=True)
"""


@pytest.mark.slow
def test_search_of_volumes_that_is_killed_goes_on(tmp_path: Path) -> None:
    folder, out = write_arrays(tmp_path / "in", "volume", 40), tmp_path / "out"
    command = [sys.executable, "-c", PROGRAM, str(folder), str(out)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            assert line.strip() != "done"
            if int(line) >= 14:
                break
        process.send_signal(signal.SIGKILL)
    progress = state.progress_of(out)
    assert progress is not None and 6 <= progress[0] < progress[1] == 20
    seen: list[int] = []
    found = dv.search(
        network("volume"), folder, LAYERS, batch_size=2, out=out, workers=0, resume=True,
        report=lambda progress: seen.append(progress.done),
    )  # fmt: skip
    assert seen[0] == 2 * progress[0] + 2
    same(found, dv.search(network("volume"), folder, LAYERS, batch_size=2, workers=0))


@pytest.mark.nightly  # test_on_ray.py searches pictures on Ray, and the tests above search arrays
@pytest.mark.filterwarnings("default")
def test_search_on_ray_equals_the_local_one(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    net, folder = network("volume", torch.float32), write_arrays(tmp_path, "volume")
    np.save(folder / "wrong.npy", np.zeros((9, 9)))
    found = dv.search(net, folder, LAYERS, batch_size=4, engine="ray")
    same(found, dv.search(net, folder, LAYERS, batch_size=4, workers=0))
    assert [name for name, _ in found.skipped] == ["wrong.npy"]


def test_source_of_your_own_may_return_arrays() -> None:
    class Own(type(open_source([np.zeros((2, 60))], files=InputFiles((2, 60))))):  # type: ignore[misc]
        def read(self, number: int) -> InputArray:
            return InputArray(noise(2, 60, seed=number).numpy())

    source = Own([0, 1], InputFiles((2, 60)))
    found = dv.search(network("signal"), source, ["4"], workers=0)
    assert found.image_count == 2
    with pytest.raises(ImageError, match="input-00000000 is an array, but this needs images"):
        source.image(0)


def test_manifest_describes_the_arrays(tmp_path: Path) -> None:
    dv.search(
        network("volume"), write_arrays(tmp_path / "in", "volume", 3), ["4"], workers=0, out=tmp_path / "out"
    )
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["network"]["preprocessing"] == {"array": [1, 8, 10, 12], "mean": [0.0], "std": [1.0]}
    assert (manifest["source"]["kind"], manifest["pictures"]) == ("folder", 3)


def write_clip(path: Path, seed: int) -> None:
    """Write a video of 12 random frames, one of them very bright."""
    av = pytest.importorskip("av")
    frames = np.random.default_rng(seed).integers(0, 120, (12, 32, 48, 3), dtype=np.uint8)
    frames[2 * seed + 1] += 130
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 32, 48, "yuv420p", 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize("packed", [False, True])
def test_videos_are_searched(packed: bool, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for seed in range(4):
        write_clip(source / f"{seed}.mp4", seed)
    (source / "damaged.mp4").write_bytes((source / "0.mp4").read_bytes()[:500])
    if packed:
        source = tmp_path / "in.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in (tmp_path / "in").iterdir():
                archive.write(file, file.name)
    net = dv.Network(nn.Conv3d(3, 1, 1), shape=(3, 6, 16, 24), name="video")
    with torch.no_grad():
        for parameter in net.module.parameters():
            parameter.fill_(1.0)
    found = dv.search(net, source, ["output"], workers=0)
    assert [name for name, _ in found.skipped] == ["damaged.mp4"]
    frames = {peak.image_id: peak.z for peak in found.top("output", 0)}
    assert frames == {f"{seed}.mp4": seed for seed in range(4)}  # of the frames 1, 3, 5 and so on
    nine = found.topnine("output", channels=[0])
    assert any(note.startswith("6 of 12 frames: 1, 3, 5, 7, 9, 11: ") for note in nine.notes)
