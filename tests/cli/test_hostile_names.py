"""Every command with file names that are not valid text or contain terminal escape sequences."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from helpers.hostile_names import HOSTILE, any_bytes, write_all
from matplotlib.text import Text
from PIL import Image
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.engine.units import Unit
from deconvviz.from_manifest import remake
from deconvviz.printable_names import path_from_text, path_to_text, printable
from deconvviz.scenes import scene

pytestmark = any_bytes
MINI = ("--model", "minivgg", "--layer", "conv1_1")
ODD = os.fsdecode(b"odd \xff\n\x1b[31m")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(
        app, [os.fspath(one) if isinstance(one, Path) else str(one) for one in arguments]
    )


def run_ok(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert_can_be_printed(result.output)
    return str(result.stdout)


def assert_can_be_printed(output: str) -> None:
    assert all(printable(line) == line for line in output.split("\n"))


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("image") / "scene.png"
    Image.fromarray(scene(3).image).save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, contents: bytes) -> list[Path]:
    return write_all(tmp_path_factory.mktemp("images") / ODD / "images", contents)


@pytest.mark.slow
def test_project_and_from_manifest_with_hostile_names(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / ODD
    written = json.loads(
        run_ok("project", images[0].parent, *MINI, "--top", 1, "--dpi", 20, "--out", out, "--json")
    )["figures"]
    assert len(written) == len(images)
    assert {path_from_text(one["picture"]) for one in written} == {image.name for image in images}
    for one in written:
        figure, manifest = (Path(path_from_text(path)) for path in one["files"])
        assert figure.is_file()
        stored = json.loads(manifest.read_text(encoding="utf-8"))["pictures"][0]
        assert Path(path_from_text(stored["path"])).name == path_from_text(one["picture"])
        again = remake(manifest).projection
        assert os.fsencode(again.input_images[0].path.name) == os.fsencode(path_from_text(one["picture"]))
        assert again.spec().title[0].endswith(printable(one["picture"]))


def test_from_manifest_in_a_moved_folder_finds_the_image(images: list[Path], tmp_path: Path) -> None:
    first, moved = tmp_path / ODD, tmp_path / f"moved {ODD}"
    first.mkdir()
    shutil.copy(images[16], first)
    run_ok("project", first, *MINI, "--top", 1, "--dpi", 20, "--out", first / "out")
    first.rename(moved)
    (manifest,) = (moved / "out").glob("*.json")
    found = remake(manifest).projection.input_images[0].path
    assert found is not None and found.resolve() == moved.resolve() / images[16].name


def test_figure_shows_all_names_escaped(images: list[Path]) -> None:
    """Warnings are errors, so this fails if a character is missing in the font."""
    projection = (
        dv.load("minivgg")
        .record(images, "conv1_1")
        .project("conv1_1", [Unit(number, 0, 5, 5) for number in range(len(images))])
    )
    written = {line for tile in projection.spec().tiles for line in tile.caption}
    drawn = " ".join(text.get_text() for text in projection.figure().findobj(Text))
    for name in (
        r"not utf-8 \xff\xfe.png",
        r"not utf-8 \x5cxff\x5cxfe.png",
        r"line\x0abreak.png",
        "é café.png",
    ):
        assert name in written
        assert name in drawn or "…" in drawn


@pytest.mark.slow
def test_printed_paths_are_one_per_line_and_can_be_typed_again(images: list[Path], tmp_path: Path) -> None:
    odd = [image for image in images if image.name.startswith(("not utf", "\\x5c", "line", "\x1b"))]
    lines = run_ok("project", *odd, *MINI, "--top", 1, "--dpi", 20, "--out", tmp_path).splitlines()
    assert len(lines) == 2 * len(odd)
    assert all(Path(path_from_text(line)).is_file() for line in lines)
    for line in lines:
        if line.endswith(".json"):
            run_ok("project", "--from", line, "--out", tmp_path / "again", "--force")
    names = [path_to_text(image) for image in odd]
    run_ok("project", *map(printable, names), *MINI, "--top", 1, "--dpi", 20, "--out", tmp_path / "typed")


@pytest.mark.slow
def test_search_and_topnine_with_hostile_names(images: list[Path], tmp_path: Path) -> None:
    out, folder = tmp_path / ODD, images[0].parent
    options = (*MINI, "--top", len(images), "--workers", 0, "--out", out)
    run_ok("search", folder, *options)
    ids = ids_in(out / "top.parquet")
    assert {os.fsencode(path_from_text(one)) for one in ids} == set(HOSTILE)
    run_ok("search", folder, *options, "--resume")
    run_ok(
        "topnine",
        out,
        "--layer",
        "conv1_1",
        "--channels",
        1,
        "--top",
        len(images),
        "--out",
        tmp_path / "a.png",
    )
    run_ok(
        "topnine",
        printable(path_to_text(out)),
        "--layer",
        "conv1_1",
        "--channels",
        1,
        "--out",
        tmp_path / "b.svg",
    )
    peaks = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["layers"][0]["peaks"]
    assert {os.fsencode(path_from_text(one["image"])) for one in peaks} == set(HOSTILE)


def ids_in(table: Path) -> list[str]:
    with table.open("rb") as stream:
        ids: list[str] = pq.read_table(stream).column("image").to_pylist()
    return ids


def test_names_of_skipped_images_can_be_used_as_paths(tmp_path: Path, contents: bytes) -> None:
    for image in write_all(tmp_path / "images", b"no image"):
        image.with_name("good.png").write_bytes(contents)
    out = tmp_path / "out"
    assert_can_be_printed(run("search", tmp_path / "images", *MINI, "--workers", 0, "--out", out).output)
    again = dv.open_search(out)
    assert {os.fsencode(path_from_text(name)) for name, _ in again.skipped} == set(HOSTILE)
    (tmp_path / "list.txt").write_text(
        "\n".join(name for name, _ in again.skipped if "\n" not in name and "\r" not in name),
        encoding="utf-8",
    )
    result = run("search", tmp_path / "list.txt", *MINI, "--out", tmp_path / "none")
    assert result.exit_code == 2
    assert_can_be_printed(result.output)


def test_weights_file_with_a_hostile_path(images: list[Path], tmp_path: Path) -> None:
    weights = tmp_path / ODD / os.fsdecode(rb"w\xff" + b"\xfe.pth")
    weights.parent.mkdir()
    torch.save(dv.load("minivgg").module.state_dict(), weights)
    run_ok("project", images[2], *MINI, "--top", 1, "--weights", weights, "--out", tmp_path / "out")
    (manifest,) = (tmp_path / "out").glob("*.json")
    run_ok("project", "--from", manifest, "--out", tmp_path / "again")
    stored = json.loads(manifest.read_text(encoding="utf-8"))["network"]
    assert path_from_text(stored["weights"]) == str(weights)
    run_ok(
        "search", images[0].parent, *MINI, "--weights", weights, "--workers", 0, "--out", tmp_path / "found"
    )
    run_ok("topnine", tmp_path / "found", "--layer", "conv1_1", "--channels", 1, "--out", tmp_path / "a.png")


def test_python_file_with_a_hostile_name(images: list[Path], tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"net \xff.py")
    file.write_text(
        "import deconvviz as dv\n"
        "def make():\n"
        "    net = dv.load('minivgg')\n"
        "    return dv.Network(net.module, size=96, classes=['\\udcff\\x1b[31m'] * 12)\n",
        encoding="utf-8",
    )
    model = ("--model", f"{file}:make")
    for selection in (("--layer", "features.0", "--top", 1), ("--class", 3)):
        run_ok("project", images[0], *model, *selection, "--out", tmp_path / "out", "--json", "-v")
    for manifest in (tmp_path / "out").glob("*.json"):
        run_ok("project", "--from", manifest, "--allow-code", "--out", tmp_path / "again")
    assert len(list((tmp_path / "again").glob("*.json"))) == 2


@pytest.mark.parametrize("name", [ODD, "\x1b]0;title\x07.png", "a\u202eb", r"\xff", "[red]x[/nothing]"])
def test_error_messages_are_printable(name: str, tmp_path: Path) -> None:
    for arguments in (
        ("project", name, *MINI),
        ("project", tmp_path, *MINI, f"--{name}"),
        ("project", tmp_path, "--model", name, "--layer", name),
        ("project", "--from", name),
        ("project", tmp_path, *MINI, "--unit", name),
        ("project", tmp_path, *MINI, "--weights", name, "--out", name),
        ("search", name, *MINI),
        ("search", f"{name}*.tar", *MINI),
        ("topnine", name, "--layer", name),
        ("topnine", tmp_path, "--layer", name, "--out", f"{name}.gif"),
        (name,),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert "Traceback" not in result.output
        assert_can_be_printed(result.output)


def test_manifest_of_an_earlier_version_with_literal_backslashes(tmp_path: Path, contents: bytes) -> None:
    image = tmp_path / r"a\xff.png"
    image.write_bytes(contents)
    run_ok("project", image, *MINI, "--top", 1, "--out", tmp_path / "out")
    (manifest,) = (tmp_path / "out").glob("*.json")
    stored = json.loads(manifest.read_text(encoding="utf-8"))
    assert stored["pictures"][0]["path"].endswith(r"a\x5cxff.png")
    stored["pictures"][0] |= {"path": str(image), "beside": r"../a\xff.png"}
    manifest.write_text(json.dumps(stored), encoding="utf-8")
    assert remake(manifest).projection.input_images[0].path == image


IN_THE_C_LOCALE = """
import json, os, sys
from deconvviz.cli.app import app
from deconvviz.cli.support.console import escape_unencodable_characters
escape_unencodable_characters()
folder, out = sys.argv[1:]
mini = ["--model", "minivgg", "--layer", "conv1_1"]
image = [name for name in os.listdir(folder) if name.startswith("caf")][0]
for arguments in (
    ["--help"], ["project", "--help"],
    ["project", folder + "/" + image, *mini, "--top", "1", "--out", out + "/one"],
    ["project", folder, *mini, "--top", "1", "--out", out, "--json"],
    ["search", folder, *mini, "--workers", "0", "--out", out + "/found"],
    ["topnine", out + "/found", "--layer", "conv1_1", "--channels", "1", "--out", out + "/top.svg"],
    ["layers", "--model", "minivgg", "--json"],
):
    try:
        app(arguments, prog_name="deconvviz")
    except SystemExit as end:
        assert not end.code, arguments
for name in os.listdir(out + "/one"):
    if name.endswith(".json"):
        app(["project", "--from", out + "/one/" + name, "--out", out + "/again"], standalone_mode=False)
"""


@pytest.mark.slow
def test_commands_work_in_the_c_locale(tmp_path: Path, contents: bytes) -> None:
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for name in ("café.png".encode(), b"not utf-8 \xff.png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(contents)
    process = subprocess.run(
        [sys.executable, "-W", "error::UnicodeWarning", "-c", IN_THE_C_LOCALE, folder, out],
        env={
            **os.environ,
            "LC_ALL": "C",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert b"Traceback" not in process.stderr
    written = process.stdout.decode("ascii")  # raises if a character was not escaped
    assert rf"{out}/one/caf\xc3\xa9-conv1_1.png" in written
    assert r'"picture": "caf\u00e9.png"' in written
    assert r'"picture": "not utf-8 \\xff.png"' in written
    assert rf"{out}/again/caf\xc3\xa9-conv1_1.json" in written
    assert set(ids_in(out / "found" / "top.parquet")) == {"café.png", r"not utf-8 \xff.png"}
    assert remake(out / "café-conv1_1.json").projection.input_images[0].path == folder / "café.png"
    assert dv.open_search(out / "found").topnine("conv1_1", count=1, k=2).notes == ()
