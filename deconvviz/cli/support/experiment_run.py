"""Parts that the commands of experiments share: the network, the images, and their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deconvviz.cli.support.console import print_note, stage
from deconvviz.cli.support.details import detail_network
from deconvviz.cli.support.notes import print_coverage, print_origin
from deconvviz.image_sources import open_source
from deconvviz.images.discovery import STANDARD_INPUT, find_images
from deconvviz.images.image import open_image
from deconvviz.images.standard_input import read_standard_input
from deconvviz.layers import Layer
from deconvviz.loading import ModelRequest
from deconvviz.network import Network
from deconvviz.paths import SCENES


@dataclass(frozen=True)
class AskedNetwork:
    """The options --model, --model-arg, --weights, --seed and --device."""

    name: str
    arguments: Mapping[str, Any]
    weights: str | None
    seed: int
    device: str


def open_network(
    asked: AskedNetwork,
    layers: Sequence[str],
    *,
    projects: bool,
    quiet: bool,
    check: Callable[[list[Layer]], None] | None = None,
) -> tuple[Network, list[Layer]]:
    """Find the layers, then load the network.

    `projects` states whether units are projected. `check` is called with the layers before weights are read.
    """
    request = ModelRequest.of(
        asked.name,
        asked.weights or "default",
        arguments=asked.arguments,
        seed=asked.seed,
        device=asked.device,
    )
    sketch = request.sketch()
    found = [sketch.layers.find(name) for name in layers]
    if check is not None:
        check(found)
    with stage(f"loading {asked.name}", quiet=quiet):
        network = request.load(sketch)
    print_origin(network, asked.name, quiet=quiet)
    detail_network(network)
    if projects:
        print_coverage(network.coverage(found), found, quiet=quiet)
    return network, found


def open_images(typed: Sequence[str], *, quiet: bool) -> Any:
    """Return the images that a user named: files, folders, standard input, or one source of scenes."""
    if len(typed) == 1 and typed[0].startswith(SCENES):
        return open_source(typed[0])
    found: list[Any] = []
    for one in typed:
        found += [read_standard_input()] if one == STANDARD_INPUT else map(open_image, find_images([one]))
    for image in found:
        for note in image.notes:
            print_note(f"{image.path or image.name}: {note}", quiet=quiet)
    return found
