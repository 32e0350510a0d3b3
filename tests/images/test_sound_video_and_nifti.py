"""Files of sound, video and volumes as inputs of a network."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from torch import nn

import deconvviz as dv
from deconvviz.errors import ImageError, MissingExtra
from deconvviz.images.input_array import read_array
from deconvviz.images.video_files import sampled

CLIP = np.zeros((20, 32, 48, 3), np.uint8)  # the upper half becomes red, the lower half loses its green
for _number, _frame in enumerate(CLIP):
    _frame[:16, :, 0], _frame[16:, :, 1] = 12 * _number, 255 - 12 * _number


def write_sound(path: Path, samples: npt.NDArray[Any], rate: int = 8000) -> Path:
    pytest.importorskip("soundfile").write(path, samples, rate)
    return path


def write_clip(path: Path) -> Path:
    av = pytest.importorskip("av")
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.bit_rate = 4_000_000
        for frame in CLIP:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_volume(path: Path, values: npt.NDArray[Any], affine: npt.NDArray[Any]) -> Path:
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_sound_has_channels_first_and_a_note_on_its_rate(tmp_path: Path, suffix: str) -> None:
    samples = np.round(np.random.default_rng(0).uniform(-1, 1, (70, 2)) * 32767).astype(np.int16)
    found = read_array(write_sound(tmp_path / f"two{suffix}", samples), (2, 60))
    assert found.values.dtype == np.float32
    assert np.array_equal(found.values, samples.T[:, 5:65] / np.float32(32768))
    assert found.notes == ("8000 samples per second", "cut from 70 to 60")


def test_sound_with_other_channels_is_refused(tmp_path: Path) -> None:
    file = write_sound(tmp_path / "two.wav", np.zeros((70, 2)))
    with pytest.raises(ImageError, match=r"two\.wav has shape \(2, 70\): the network reads \(1, 60\)"):
        read_array(file, (1, 60))


def test_video_has_frames_from_the_middles_of_equal_parts(tmp_path: Path) -> None:
    found = read_array(write_clip(tmp_path / "clip.mp4"), (3, 5, 32, 48))
    numbers = [2, 6, 10, 14, 18]  # the parts are the frames 0 to 3, 4 to 7, 8 to 11, 12 to 15 and 16 to 19
    want = CLIP[numbers].transpose(3, 0, 1, 2) / 255
    inside = (..., np.r_[3:13, 19:29], slice(None))  # the codec blurs the edge between the halves
    assert found.values.shape == (3, 5, 32, 48) and found.values.dtype == np.float32
    assert np.abs(found.values[inside] - want[inside]).max() < 0.03
    assert found.notes == ("5 of 20 frames: 2, 6, 10, 14, 18",)


def test_video_is_resized_and_its_centre_cropped(tmp_path: Path) -> None:
    file = write_clip(tmp_path / "clip.mkv")
    found = read_array(file, (1, 30, 16, 16))
    red, green = 0.299 * 12 / 255, 0.587  # the weights of grey
    top, bottom = found.values[0, :, 3, 8], found.values[0, :, 12, 8]
    frames = np.array([n * 20 // 60 for n in range(1, 60, 2)])
    assert np.abs(top - red * frames).max() < 0.03
    assert np.abs(bottom - green * (1 - 12 * frames / 255)).max() < 0.03
    assert found.notes == (
        "20 frames, some repeated to get 30: 0 to 19 at equal distances",
        "resized from 48 x 32 to 16 x 16, centre cropped",
    )


def test_rotation_of_a_video_is_applied(tmp_path: Path) -> None:
    file = write_clip(tmp_path / "clip.mp4")
    data = bytearray(file.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    file.write_bytes(data)  # a quarter turn clockwise: (x, y) becomes (-y, x), and y points down
    found = read_array(file, (3, 1, 48, 32))
    assert found.notes == ("1 of 20 frames: 10", "rotation of the file applied")
    want = np.rot90(CLIP[10], -1).transpose(2, 0, 1) / 255
    columns = np.r_[3:13, 19:29]
    assert np.abs(found.values[:, 0, :, columns] - want[:, :, columns].transpose(2, 0, 1)).max() < 0.03


@pytest.mark.parametrize(("count", "wanted"), [(20, 5), (7, 7), (3, 8), (1, 4), (1000, 16)])
def test_sampled_frames_are_at_equal_distances(count: int, wanted: int) -> None:
    numbers = sampled(count, wanted)
    assert numbers == [int((part + 0.5) * count / wanted) for part in range(wanted)]
    assert len(set(numbers)) == min(count, wanted)


@pytest.mark.parametrize(("shape", "reads"), [((3, 60), r"\(3, 60\)"), ((2, 4, 8, 8), r"\(2, 4, 8, 8\)")])
def test_video_for_another_network_is_refused(tmp_path: Path, shape: tuple[int, ...], reads: str) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"anything")
    with pytest.raises(ImageError, match=rf"clip\.mp4 is a video .* the network reads {reads}"):
        read_array(tmp_path / "clip.mp4", shape)


def test_file_of_sound_without_pictures_is_no_video(tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_sound(tmp_path / "sound.wav", np.zeros((800, 1))).rename(tmp_path / "sound.avi")
    with pytest.raises(ImageError, match=r"sound\.avi has no pictures"):
        read_array(tmp_path / "sound.avi", (3, 4, 8, 8))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_volume_keeps_the_axes_of_the_file(tmp_path: Path, suffix: str) -> None:
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    affine = np.diag([-2.0, 1.5, 3, 1])
    found = read_array(write_volume(tmp_path / f"volume{suffix}", values, affine), (1, 4, 3, 8))
    assert np.array_equal(found.values, np.pad(values[None, :, 1:4], [(0, 0)] * 3 + [(1, 1)]))
    assert found.notes == (
        "axes LAS, voxels of 2 x 1.5 x 3",
        "cut from 4 x 5 x 6 to 4 x 3 x 8",
        "padded with zeros from 4 x 5 x 6 to 4 x 3 x 8",
    )


def test_nifti_with_four_axes_has_the_last_as_channels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 5, 6, 2)).astype(np.float32)
    found = read_array(write_volume(tmp_path / "two.nii", values, np.eye(4)), (2, 4, 5, 6))
    assert np.array_equal(found.values, values.transpose(3, 0, 1, 2))


def test_scale_of_a_nifti_file_is_applied(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4))
    image.header.set_slope_inter(2.0, -10.0)
    nibabel.save(image, tmp_path / "scaled.nii")
    found = read_array(tmp_path / "scaled.nii", (1, 2, 2, 2))
    assert np.array_equal(found.values, 2.0 * np.arange(8).reshape(1, 2, 2, 2) - 10)


def test_nifti_with_complex_numbers_is_refused(tmp_path: Path) -> None:
    file = write_volume(tmp_path / "complex.nii", np.zeros((2, 2, 2), np.complex64), np.eye(4))
    with pytest.raises(ImageError, match=r"complex\.nii holds complex64: give real numbers"):
        read_array(file, (1, 2, 2, 2))


@pytest.mark.parametrize("name", ["bad.wav", "bad.flac", "bad.mp4", "bad.mkv", "bad.nii", "bad.nii.gz"])
def test_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    for package in ("soundfile", "av", "nibabel"):
        pytest.importorskip(package)
    (tmp_path / name).write_bytes(b"not such a file" * 40)
    with pytest.raises(ImageError, match=f"{name} cannot be read: "):
        read_array(tmp_path / name, (1, 4, 8, 8))


@pytest.mark.parametrize("name", ["cut.mp4", "cut.nii.gz", "cut.wav"])
def test_truncated_file_is_refused_or_shorter(tmp_path: Path, name: str) -> None:
    whole = tmp_path / name.replace("cut", "whole")
    shape: tuple[int, ...] = (1, 4, 8, 8)
    if name == "cut.mp4":
        write_clip(whole)
    elif name == "cut.wav":
        write_sound(whole, np.ones((800, 1)))
        shape = (1, 800)
    else:
        write_volume(whole, np.random.default_rng(0).normal(size=(9, 9, 9)), np.eye(4))
    data = whole.read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    if name == "cut.wav":  # libsndfile returns the samples there are, and the padding has a note
        notes = read_array(tmp_path / name, shape).notes
        assert len(notes) == 2 and notes[1].startswith("padded with zeros")
        return
    with pytest.raises(ImageError, match="cut"):
        read_array(tmp_path / name, shape)


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(ImageError, match=r"notes\.txt is not a file that can be read as an array.*\.nii\.gz"):
        read_array(tmp_path / "notes.txt", (1, 60))


MISSING = [
    ("soundfile", "a.wav", (1, 60), "signals"),
    ("av", "a.mp4", (3, 4, 8, 8), "video"),
    ("nibabel", "a.nii.gz", (1, 4, 8, 8), "volumes"),
]


@pytest.mark.parametrize(("package", "name", "shape", "extra"), MISSING)
def test_missing_package_is_named_by_its_extra(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    name: str,
    shape: tuple[int, ...],
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(MissingExtra) as error:
        read_array(tmp_path / name, shape)
    assert str(error.value) == (
        f"reading {tmp_path / name} needs the extra {extra}: pip install 'deconvviz[{extra}]'"
    )


def test_projection_of_a_sound_file_is_made_again_from_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\nfrom torch import nn\nimport deconvviz as dv\n\n\n"
        "def make():\n    torch.manual_seed(0)\n"
        "    return dv.Network(nn.Sequential(nn.Conv1d(1, 4, 9), nn.ReLU()), shape=(1, 400))\n"
    )
    tone = np.sin(np.arange(500) ** 1.5 / 20)[:, None]
    file = write_sound(tmp_path / "tone.wav", tone)
    recording = dv.load(f"{tmp_path / 'own.py'}:make").record(file, "1")
    found = recording.project("1", recording.choose("1", 3))
    found.save(tmp_path / "figure.png")
    assert found.describe()["pictures"][0]["notes"] == ["8000 samples per second", "cut from 500 to 400"]
    assert "8000 samples per second · cut from 500 to 400" in found.spec().footer
    again = dv.remake(tmp_path / "figure.json", allow_code=True).projection
    assert np.array_equal(again.arrays()["pixels"], found.arrays()["pixels"])


def test_video_is_standardised_after_it_is_scaled_to_one(tmp_path: Path) -> None:
    net = dv.Network(
        nn.Sequential(nn.Conv3d(3, 2, 3), nn.ReLU()), shape=(3, 4, 32, 48), mean=(0.5,) * 3, std=(0.25,) * 3
    )
    file = write_clip(tmp_path / "clip.mp4")
    inputs = net.record(file, "1").inputs[0].numpy()
    assert np.allclose(inputs, (read_array(file, (3, 4, 32, 48)).values - 0.5) / 0.25, atol=1e-6)
