"""--verbose, --quiet and the short forms of options."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from deconvviz.cli.app import app
from deconvviz.scenes import scene

COMMANDS = ("project", "demo", "search", "topnine", "layers", "models", "check")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "120"})


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "scene.png"
    Image.fromarray(scene(3).image).save(path)
    return path


def test_every_command_has_short_forms_of_common_options() -> None:
    for command in COMMANDS:
        short, long = run(command, "-h"), run(command, "--help")
        assert short.exit_code == long.exit_code == 0
        assert short.stdout == long.stdout
        assert re.search(r"--verbose +-v", short.stdout), command
        if "--quiet" in short.stdout:
            assert re.search(r"--quiet +-q", short.stdout), command
        if "--out " in short.stdout:
            assert re.search(r"--out +-o", short.stdout), command


def test_project_verbose_prints_one_detail_per_line(image: Path, tmp_path: Path) -> None:
    arguments = (
        "project",
        image,
        "--model",
        "minivgg",
        "-l",
        "conv1_1",
        "--top",
        3,
        "--memory",
        "3M",
        "--json",
    )
    result = run(*arguments, "-o", tmp_path, "-v")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["figures"]
    lines = result.stderr.splitlines()
    assert all(line.startswith("deconvviz: ") for line in lines)
    for detail in (
        r"versions: deconvviz [\d.]+, torch .*, python ",
        r"network: minivgg, \d+ layers, float32 on \w+",
        r"weights: shipped with deconvviz",
        r"digest of the weights: sha256:[0-9a-f]{64}",
        r"preprocessing: resize 96 \(bilinear, center\), crop 96, mean 0.5 0.5 0.5, std 0.25 0.25 0.25",
        r"memory for projections: 3 MiB",
        r"projected 3 of 3 units in one batch",
        r"loading minivgg: \d+\.\d\d s",
    ):
        assert any(re.match(f"deconvviz: {detail}", line) for line in lines), (detail, lines)
    silent = run(*arguments, "-o", tmp_path, "--force")
    assert silent.exit_code == 0
    assert "digest" not in silent.stderr


def test_project_verbose_prints_the_units_of_each_batch(image: Path, tmp_path: Path) -> None:
    result = run(
        "project",
        image,
        "--model",
        "minivgg",
        "-l",
        "conv4_2",
        "--top",
        3,
        "--memory",
        1,
        "-o",
        tmp_path,
        "-v",
    )
    assert result.stderr.count("projected 1 of 3 units in one batch") == 3


def test_search_and_topnine_verbose_print_details(tmp_path: Path) -> None:
    result = run(
        "search", "scenes:5", "--model", "minivgg", "-l", "conv1_1", "--workers", 0, "--batch-size", 2,
        "-o", tmp_path, "--verbose",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "deconvviz: batch size: 2 images in 3 batches\n" in result.stderr
    assert "digest of the weights" in result.stderr
    drawn = run("topnine", tmp_path, "-l", "conv1_1", "--channels", 1, "-o", tmp_path / "a.png", "-v")
    assert drawn.exit_code == 0, drawn.output
    assert "memory for projections" in drawn.stderr


def test_verbose_restores_the_logger(image: Path) -> None:
    logger = logging.getLogger("deconvviz")
    before = list(logger.handlers), logger.level
    assert run("layers", "--model", "minivgg", "-v").exit_code == 0
    assert run("layers", "--model", "nothing", "-v").exit_code == 2
    assert run("project", image, "-v", "-q").exit_code == 2
    assert (list(logger.handlers), logger.level) == before


@pytest.mark.parametrize("both", [("-q", "-v"), ("--verbose", "--quiet")])
def test_quiet_and_verbose_together_are_rejected(both: tuple[str, ...], image: Path, tmp_path: Path) -> None:
    result = run("project", image, "--model", "minivgg", "-l", "conv1_1", *both, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "--quiet and --verbose exclude each other: use one of them" in result.stderr
    assert not (tmp_path / "out").exists()
