"""Images on standard input: the function that reads them, and ``-`` on the command line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from PIL import Image
from typer.testing import CliRunner

from deconvviz.cli.app import app
from deconvviz.errors import ImageError
from deconvviz.images import standard_input
from deconvviz.images.standard_input import image_from, read_standard_input
from deconvviz.scenes import scene

MINI = ("--model", "minivgg", "--layer", "conv1_1", "--top", "1")


@pytest.fixture(scope="module")
def contents() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(scene(3).image).save(stream, "PNG")
    return stream.getvalue()


def project(contents: bytes, *arguments: object) -> Any:
    return CliRunner().invoke(app, ["project", *map(str, arguments), *MINI], input=contents)


class Pipe(io.RawIOBase):
    """Stream that returns pieces of at most 100 bytes and is not seekable, like a pipe."""

    def __init__(self, contents: bytes) -> None:
        self._rest = io.BytesIO(contents)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._rest.read(min(len(buffer), 100))
        buffer[: len(piece)] = piece
        return len(piece)


def test_image_from_a_pipe_is_read_to_its_end(contents: bytes) -> None:
    stream: BinaryIO = io.BufferedReader(Pipe(contents))
    image = image_from(stream)
    assert image.rgb.tolist() == scene(3).image.tolist()
    assert (image.name, image.path) == ("stdin", None)
    assert repr(image) == "InputImage(stdin, 96 x 96)"


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"", "standard input is empty (0 bytes): pipe an image into the command"),
        (b"hello", "standard input is"),
        (b"\x89PNG\r\n\x1a\n", "standard input is"),
    ],
)
def test_input_without_an_image_is_rejected(sent: bytes, message: str) -> None:
    with pytest.raises(ImageError) as raised:
        image_from(io.BytesIO(sent))
    assert str(raised.value).startswith(message)


def test_too_many_bytes_are_rejected(monkeypatch: pytest.MonkeyPatch, contents: bytes) -> None:
    monkeypatch.setattr(standard_input, "MOST_BYTES", len(contents))
    image_from(io.BytesIO(contents))
    with pytest.raises(
        ImageError, match=f"standard input has more than {len(contents)} bytes: give the image"
    ):
        image_from(io.BytesIO(contents + b" "))


def test_pixel_limit_applies_to_standard_input(monkeypatch: pytest.MonkeyPatch, contents: bytes) -> None:
    monkeypatch.setenv("DECONVVIZ_MAX_PIXELS", "100")
    with pytest.raises(ImageError, match="standard input has 96 x 96 pixels"):
        image_from(io.BytesIO(contents))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_terminal_and_closed_input_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(ImageError, match="standard input is a terminal, not an image: pipe an image"):
        read_standard_input()
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ImageError, match="standard input is closed: pipe an image"):
        read_standard_input()


@pytest.mark.slow
def test_project_names_the_image_stdin(contents: bytes, tmp_path: Path) -> None:
    result = project(contents, "-", "-o", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    (figure,) = json.loads(result.stdout)["figures"]
    assert figure["picture"] == "stdin"
    assert figure["files"] == [str(tmp_path / f"stdin-conv1_1.{suffix}") for suffix in ("png", "json")]
    stored = json.loads((tmp_path / "stdin-conv1_1.json").read_text(encoding="utf-8"))["pictures"][0]
    assert (stored["name"], stored["path"]) == ("stdin", None)
    again = CliRunner().invoke(
        app, ["project", "--from", str(tmp_path / "stdin-conv1_1.json"), "-o", str(tmp_path / "b")]
    )
    assert again.exit_code == 2
    assert (
        "was made from an image on standard input, which was not kept. Save that image as a file"
        in again.stderr
    )
    assert not (tmp_path / "b").exists()


def test_files_and_standard_input_keep_their_order(contents: bytes, tmp_path: Path) -> None:
    for name in ("a.png", "stdin.png"):
        (tmp_path / name).write_bytes(contents)
    result = project(
        contents, tmp_path / "a.png", "-", tmp_path / "stdin.png", "-o", tmp_path / "out", "--json"
    )
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)["figures"]
    assert [one["picture"] for one in figures] == ["a.png", "stdin", "stdin.png"]
    assert len({file for one in figures for file in one["files"]}) == 6


def test_standard_input_given_twice_is_rejected(contents: bytes, tmp_path: Path) -> None:
    result = project(contents, "-", "-", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "standard input contains one image: give - once" in " ".join(
        result.stderr.replace("│", "").split()
    )
    assert not (tmp_path / "out").exists()


def test_empty_input_writes_no_files(tmp_path: Path) -> None:
    result = project(b"", "-", "-o", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("deconvviz: standard input is empty")
    assert not (tmp_path / "out").exists()


def test_file_named_with_a_hyphen_is_read(
    contents: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("./-").write_bytes(contents)
    result = project(b"", "./-", "-o", "out", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["figures"][0]["picture"] == "-"


@pytest.mark.parametrize("arguments", [("search", "-", *MINI), ("topnine", "-", "--layer", "conv1_1")])
def test_other_commands_reject_standard_input(
    arguments: tuple[str, ...], contents: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, list(arguments), input=contents)
    assert result.exit_code == 2
    assert "- is standard input" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_project_reads_an_image_from_a_pipe(contents: bytes, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "deconvviz", "project", "-", *MINI, "-o", tmp_path],
        input=contents,
        capture_output=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "stdin-conv1_1.png").is_file()
