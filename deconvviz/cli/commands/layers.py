"""``deconvviz layers``: the layers of a network."""

from __future__ import annotations

from typing import Annotated

from deconvviz.cli.support.console import print_json, print_note, print_table, stage
from deconvviz.cli.support.early import check_network
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.notes import print_origin
from deconvviz.cli.support.options import DEFAULT_MODEL, Json, Model, ModelArg, Verbose, weights_file_option
from deconvviz.cli.support.parsing import model_arguments


def layers(
    model: Model = None,
    model_arg: ModelArg = None,
    weights: Annotated[
        str | None,
        weights_file_option(
            "Load weights from this file and mark the layers that depend on missing weights."
        ),
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List the layers of a network: names, kind, output shape, receptive field, stride and parameters.

    Nothing is downloaded. The option --layer accepts both names of a layer.
    """
    arguments = model_arguments(model_arg)
    name = model or DEFAULT_MODEL
    check_network(name, arguments, weights=weights)
    with stage("importing torch"):
        with without_garbage_collection():
            from deconvviz.layers import cells
            from deconvviz.loading import load, sketch

        network = load(name, weights, arguments=arguments) if weights else sketch(name, arguments)
        table = network.layers
    print_origin(network)
    if json:
        print_json({"network": name, "layers": table.to_json()})
        return
    head = tuple([one.replace("(", "").replace(")", "") for one in table.head])
    rows: list[tuple[str, ...]] = [cells(layer) for layer in table]
    print_table(head, rows, right=(4, 5, 6))
    if network.preprocessing.crop_mode == "own":
        _, height, width = network.preprocessing.input_shape
        print_note(
            f"field and stride are those for a picture of {width} x {height} pixels. If the network resizes "
            "pictures, other sizes have others. A figure has those of its picture",
            quiet=False,
        )
    if any(row[4] == "unknown" for row in rows):
        print_note(
            "unknown: the fields of neighbouring units do not have one size and one distance, as far as is "
            "known. A figure has the field of each of its units",
            quiet=False,
        )
