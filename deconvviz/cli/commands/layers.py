"""``deconvviz layers``: what can be asked for in a network."""

from __future__ import annotations

from typing import Annotated

from deconvviz.cli.support.console import print_json, print_table, stage, tell
from deconvviz.cli.support.options import DEFAULT_MODEL, Json, model_arg_option, model_arguments, model_option


def layers(
    model: Annotated[str, model_option] = DEFAULT_MODEL,
    model_arg: Annotated[list[str] | None, model_arg_option] = None,
    json: Json = False,
) -> None:
    """List the layers of a network: names, kind, output shape, receptive field, stride, parameters.

    Nothing is downloaded: shapes need no weights. Both names of a layer can be given to --layer.
    """
    arguments = model_arguments(model_arg)
    with stage("importing torch"):
        from deconvviz.layers import cells
        from deconvviz.loading import sketch

        network = sketch(model, arguments)
        table = network.layers
    for note in network.origin.notes:
        tell(f"{network.name}: {note}", quiet=False)
    if json:
        print_json({"network": model, "layers": table.to_json()})
        return
    head = ("layer", "module", "kind", "output", "sees px", "every px", "parameters")
    print_table(head, [cells(layer) for layer in table], right=(4, 5, 6))
