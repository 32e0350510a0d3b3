"""Commands do not build a network, run it or look up a layer more often than necessary."""

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

pytestmark = pytest.mark.slow

Counts = Counter[str]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    counter: Counts = Counter()

    def count_calls(
        owner: Any, name: str, key: str, is_counted: Callable[..., bool] = lambda *_: True
    ) -> None:
        original = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            counter[key] += is_counted(*arguments)
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)

    count_calls(MiniVGG, "__init__", "networks")
    count_calls(recorder, "record_tape", "passes")
    count_calls(LayerTable, "find", "look-ups", lambda table, name: isinstance(name, str))
    return counter


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    Image.fromarray(scene(3).image).save(path)
    return path


def run(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [[], ["--weights", "random"], ["--channel", "3", "--top", "2"], ["--unit", "3,4,5"]]
)
def test_project_builds_one_sketch_and_one_network(
    counts: Counts, image: Path, tmp_path: Path, options: list[str]
) -> None:
    run("project", image, "--model", "minivgg", "--layer", "conv3_1", "--out", tmp_path / "out", *options)
    assert counts == {"networks": 2, "passes": 2, "look-ups": 1}  # one sketch for the plan, one network


def test_project_class_and_two_layers_looks_up_each_layer_once(
    counts: Counts, image: Path, tmp_path: Path
) -> None:
    run(
        "project", image, "-m", "minivgg", "-l", "pool1", "-l", "conv3_1", "--class", "fish",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert counts == {"networks": 2, "passes": 2, "look-ups": 2}


def test_project_with_a_python_file_runs_its_code_once(counts: Counts, image: Path, tmp_path: Path) -> None:
    """The plan uses the network itself, so the code runs once."""
    own = tmp_path / "own.py"
    own.write_text(
        "import deconvviz as dv\nfrom deconvviz.models.minivgg import MiniVGG\n"
        "def make():\n    return dv.Network(MiniVGG(), size=96)\n"
    )
    run("project", image, "--model", f"{own}:make", "--layer", "conv3_1", "--out", tmp_path / "out")
    assert counts == {"networks": 1, "passes": 2, "look-ups": 1}


def test_project_with_another_number_of_classes_runs_the_network_again(
    counts: Counts, image: Path, tmp_path: Path
) -> None:
    """The layer table of the network differs from that of the sketch."""
    import torch

    torch.save(MiniVGG(classes=5).state_dict(), tmp_path / "five.pth")
    counts.clear()
    run(
        "project", image, "-m", "minivgg", "-l", "output", "--weights", tmp_path / "five.pth", "--top", 5,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert counts["passes"] == 3


@pytest.mark.parametrize("command", ["layers", "check"])
def test_layers_and_check_run_the_network_once(counts: Counts, command: str) -> None:
    run(command, "--model", "minivgg", *(["--layer", "conv3_1"] if command == "check" else []))
    assert counts == {"networks": 1, "passes": 1, **({"look-ups": 1} if command == "check" else {})}


def test_search_and_topnine_look_up_a_layer_once(counts: Counts, tmp_path: Path) -> None:
    run(
        "search", "scenes:4", "--model", "minivgg", "-l", "conv3_1", "--workers", 0, "--out",
        tmp_path / "found",
    )  # fmt: skip
    # one pass for the layer table and one for the receptive fields; the sketch is reused
    assert (counts["networks"], counts["passes"], counts["look-ups"]) == (2, 2, 1)
    counts.clear()
    run("topnine", tmp_path / "found", "-l", "conv3_1", "--channels", 2, "--out", tmp_path / "out")
    assert counts["networks"] == 1
    assert counts["look-ups"] == 1


def test_search_and_topnine_of_several_layers_look_up_each_once(counts: Counts, tmp_path: Path) -> None:
    """Each layer is looked up once, by either of its names."""
    names = ["conv3_1", "features.17", "fc6"]
    layers = [word for name in names for word in ("-l", name)]
    run("search", "scenes:4", "--model", "minivgg", *layers, "--workers", 0, "--out", tmp_path / "found")
    assert counts["look-ups"] == len(names)
    counts.clear()
    run("topnine", tmp_path / "found", *layers, "--channels", 2, "--out", tmp_path / "out")
    assert counts["look-ups"] == len(names)


def test_search_with_layer_objects_does_not_look_up_layers(counts: Counts) -> None:
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


def test_search_with_another_number_of_classes_looks_up_layers_again(counts: Counts, tmp_path: Path) -> None:
    """The layers of the network differ from those of the sketch."""
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
