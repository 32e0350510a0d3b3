"""Nothing is built, run or looked up twice on the way from the command line to a figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from deconvviz.cli.app import app
from deconvviz.engine import recorder
from deconvviz.layers import LayerTable
from deconvviz.models.minivgg import MiniVGG
from deconvviz.scenes import scene

Counts = Counter[str]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    found: Counts = Counter()

    def watch(owner: Any, name: str, what: str, counts: Callable[..., bool] = lambda *_: True) -> None:
        real = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            found[what] += counts(*arguments)
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, watched)

    watch(MiniVGG, "__init__", "networks")
    watch(recorder, "record_tape", "passes")
    watch(LayerTable, "find", "look-ups", lambda table, name: isinstance(name, str))
    return found


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    Image.fromarray(scene(3).image).save(path)
    return path


def run(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "options", [[], ["--weights", "random"], ["--channel", "3", "--top", "2"], ["--unit", "3,4,5"]]
)
def test_project(counts: Counts, picture: Path, tmp_path: Path, options: list[str]) -> None:
    run("project", picture, "--model", "minivgg", "--layer", "conv3_1", "--out", tmp_path / "out", *options)
    assert counts == {"networks": 2, "passes": 2, "look-ups": 1}  # a sketch to plan with, and the network


def test_project_a_class_and_two_layers(counts: Counts, picture: Path, tmp_path: Path) -> None:
    run(
        "project", picture, "-m", "minivgg", "-l", "pool1", "-l", "conv3_1", "--class", "fish",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert counts == {"networks": 2, "passes": 2, "look-ups": 2}


def test_project_with_a_file(counts: Counts, picture: Path, tmp_path: Path) -> None:
    """Its code is run once: what was planned with is the network itself."""
    own = tmp_path / "own.py"
    own.write_text(
        "import deconvviz as dv\nfrom deconvviz.models.minivgg import MiniVGG\n"
        "def make():\n    return dv.Network(MiniVGG(), size=96)\n"
    )
    run("project", picture, "--model", f"{own}:make", "--layer", "conv3_1", "--out", tmp_path / "out")
    assert counts == {"networks": 1, "passes": 2, "look-ups": 1}


def test_weights_with_another_number_of_classes(counts: Counts, picture: Path, tmp_path: Path) -> None:
    """The table of the sketch is not that of the network then."""
    import torch

    torch.save(MiniVGG(classes=5).state_dict(), tmp_path / "five.pth")
    counts.clear()
    run(
        "project", picture, "-m", "minivgg", "-l", "output", "--weights", tmp_path / "five.pth", "--top", 5,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert counts["passes"] == 3


@pytest.mark.parametrize("command", ["layers", "check"])
def test_layers_and_check(counts: Counts, command: str) -> None:
    run(command, "--model", "minivgg", *(["--layer", "conv3_1"] if command == "check" else []))
    assert counts == {"networks": 1, "passes": 1, **({"look-ups": 1} if command == "check" else {})}


def test_search_and_topnine(counts: Counts, tmp_path: Path) -> None:
    run(
        "search", "scenes:4", "--model", "minivgg", "-l", "conv3_1", "--workers", 0, "--out",
        tmp_path / "found",
    )  # fmt: skip
    # a pass for the table of layers, and one for the receptive fields; what the sketch found is passed on
    assert (counts["networks"], counts["passes"], counts["look-ups"]) == (2, 2, 1)
    counts.clear()
    run("topnine", tmp_path / "found", "-l", "conv3_1", "--channels", 2, "--out", tmp_path / "out")
    assert counts["networks"] == 1
    assert counts["look-ups"] == 1


def test_search_and_topnine_of_several_layers(counts: Counts, tmp_path: Path) -> None:
    """Each is looked up once by its name, whichever of its names it is."""
    named = ["conv3_1", "features.17", "fc6"]
    layers = [word for name in named for word in ("-l", name)]
    run("search", "scenes:4", "--model", "minivgg", *layers, "--workers", 0, "--out", tmp_path / "found")
    assert counts["look-ups"] == len(named)
    counts.clear()
    run("topnine", tmp_path / "found", *layers, "--channels", 2, "--out", tmp_path / "out")
    assert counts["look-ups"] == len(named)


def test_search_in_python_takes_layers_as_they_are(counts: Counts) -> None:
    import deconvviz as dv

    net = dv.load("minivgg", weights="random")
    layers = [net.layers["conv3_1"], net.layers["fc6"]]
    counts.clear()
    found = dv.search(net, "scenes:4", layers, workers=0)
    assert counts["look-ups"] == 0
    found.topnine(layers, count=2, network=net)
    assert counts["look-ups"] == 0
    found.topnine("fc6", count=2, network=net)
    assert counts["look-ups"] == 1


def test_search_of_weights_with_another_number_of_classes_looks_again(counts: Counts, tmp_path: Path) -> None:
    """The layers of the sketch are not those of the network then."""
    import torch

    torch.save(MiniVGG(classes=5).state_dict(), tmp_path / "five.pth")
    counts.clear()
    run(
        "search", "scenes:3", "-m", "minivgg", "-l", "output", "--weights", tmp_path / "five.pth",
        "--workers", 0, "--out", tmp_path / "found",
    )  # fmt: skip
    assert counts["look-ups"] == 2
    import deconvviz as dv

    assert dv.open_search(tmp_path / "found").layers == {"output": 5}
