"""Command lines of a report, from descriptions and paths of results."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from deconvviz.web.report.commands import command_of

NETWORK = {
    "model": {"registry": "torchvision", "name": "vgg19", "arguments": {}},
    "weights": "default",
    "seed": None,
}
IMAGE = {"pictures": [{"path": "/a b/it's $(x).png", "beside": "x.png"}], "network": {}}


def unit(channel: int, y: int | None = 3, x: int | None = 5, image: int = 0) -> dict[str, Any]:
    return {"image": image, "channel": channel, "y": y, "x": x, "activation": 1.0}


def projection(**changes: Any) -> dict[str, Any]:
    whole = {
        "format": "deconvviz manifest 1",
        "network": NETWORK,
        "layer": {"name": "conv4_2"},
        "method": "deconvnet",
        "units": [unit(42), unit(7)],
    }
    return {**whole, **changes}


def words(described: dict[str, Any], places: dict[str, Any] = IMAGE) -> list[str] | None:
    command = command_of(described, places, "1.json")
    return None if command is None else shlex.split(command)


def test_projection_is_made_again_from_its_image_and_units() -> None:
    assert words(projection()) == [
        "deconvviz", "project", "/a b/it's $(x).png", "--model", "vgg19", "--layer", "conv4_2",
        "--unit", "42,3,5", "--unit", "7,3,5",
    ]  # fmt: skip


def test_weights_seed_file_and_arguments_of_the_network_are_named() -> None:
    network = {
        "model": {"registry": "file", "name": "make", "arguments": {"width": "32"}, "file": {"digest": "d"}},
        "weights": "random",
        "seed": 4,
    }
    places = {**IMAGE, "network": {"model": {"file": {"path": "/nets/own net.py", "beside": "."}}}}
    found = words(projection(network=network), places)
    assert found is not None
    at = found.index("--model")
    assert found[at : at + 8] == [
        "--model", "/nets/own net.py:make", "--model-arg", "width=32", "--weights", "random", "--seed", "4",
    ]  # fmt: skip


def test_units_without_position_are_made_again_from_the_manifest() -> None:
    assert words(projection(units=[unit(3, None, None)])) == ["deconvviz", "project", "--from", "1.json"]


def test_another_method_is_made_again_by_compare() -> None:
    found = words(projection(method="guided"))
    assert found is not None and found[1] == "compare"
    assert found[found.index("--methods") + 1] == "guided"


def test_comparison_names_methods_left_out_and_the_class() -> None:
    described = projection(format="deconvviz comparison 1", methods=[{"name": "deconvnet"}])
    described |= {"left_out": [{"name": "lrp", "reason": "no"}], "class": "tiger cat"}
    found = words(described)
    assert found is not None
    assert found[found.index("--methods") + 1] == "deconvnet,lrp"
    assert found[-2:] == ["--class", "tiger cat"]


def test_top_nine_names_the_folder_of_the_search() -> None:
    described = {
        "format": "deconvviz topnine 1",
        "network": NETWORK,
        "layers": [{"name": "a", "channels": [1, 2]}],
    }
    places = {"search": {"path": "/found/manifest.json", "beside": "."}}
    assert words(described, places) == [
        "deconvviz", "topnine", "/found", "--layer", "a", "--channel", "1", "--channel", "2",
    ]  # fmt: skip
    assert words(described, {"search": {"path": None, "beside": None}}) is None


def test_trust_names_its_source_but_not_an_image_without_folder() -> None:
    described = {
        "format": "deconvviz trust 1",
        "network": NETWORK,
        "layer": {"name": "a"},
        "pictures": ["cat.png"],
        "settings": {"k": 3, "methods": ["deconvnet", "guided"]},
    }
    assert words(described, {"source": "scenes:20"}) == [
        "deconvviz", "trust", "scenes:20", "--model", "vgg19", "--layer", "a",
        "--methods", "deconvnet,guided", "--top", "3",
    ]  # fmt: skip
    assert words(described, {"source": "cat.png"}) is None
    assert words(described, {"source": None}) is None


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({"network": {**NETWORK, "model": None}}, IMAGE),
        ({"units": [unit(1), unit(1, image=1)]}, IMAGE),
        ({"units": []}, IMAGE),
        ({}, {"pictures": [{"path": None, "beside": None}], "network": {}}),
        ({}, {"pictures": [], "network": {}}),
        ({"format": "an experiment"}, IMAGE),
    ],
)
def test_results_that_no_command_makes_have_none(changes: dict[str, Any], places: dict[str, Any]) -> None:
    assert words(projection(**changes), places) is None
