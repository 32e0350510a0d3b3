"""Record an evolution in a training loop."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from deconvviz.dataset_search.plan import chosen_layers
from deconvviz.errors import WeightsError
from deconvviz.experiments.evolution.evolve import CHANNELS, Chosen, evolution
from deconvviz.experiments.evolution.names import LEAST
from deconvviz.experiments.evolution.result import NAME, NUMBERS, Evolution
from deconvviz.experiments.evolution.states import write_state
from deconvviz.experiments.evolution.units import MEASURED, Channels, check_layers
from deconvviz.experiments.saving import refuse_files
from deconvviz.image_sources import Source, open_source
from deconvviz.layers import Layer
from deconvviz.network import Network

EPOCHS = (1, 2, 5, 10, 20, 30, 40, 64)
"""Epochs in Figure 4 of the paper."""
WEIGHTS = "evolution-weights"
"""Folder for the weights of the recorded epochs."""


class EvolutionRecorder:
    """Recorder of an evolution, for training loops.

    Example::

        recorder = dv.EvolutionRecorder(net, "photos", ["conv1", "conv5"], out="evolution")
        for epoch in range(1, 65):
            train_one_epoch(net.module)
            recorder.record(epoch)
        recorder.finish()

    `record` only writes the weights, to `out` / ``evolution-weights``, which takes about as long as saving a
    checkpoint. The images are searched by `finish`, because the projections of earlier epochs depend on which
    units are strongest at the end. Training is not affected: the module is read and not run.

    Args:
        net: The network. Its module is the one that is trained.
        pictures: A source of images, as for `evolution`.
        layers: One or several layers.
        channels: Channels in the figure, as for `evolution`.
        out: Folder for weights and for the result.
        epochs: Epochs to record. Default: those of the paper.
        force: Overwrite an existing result in `out`.
        **options: Further arguments of `evolution`, such as ``seed``, ``limit``, ``batch_size``, ``workers``.

    Raises:
        LayerError: If a layer does not exist or has no units.
        UnitError: If a channel does not exist.
        SourceError: If the source cannot be opened.
        OutputError: If the result exists.
    """

    def __init__(
        self,
        net: Network,
        pictures: str | os.PathLike[str] | Source,
        layers: str | Layer | Iterable[str | Layer],
        channels: Chosen = CHANNELS,
        out: str | os.PathLike[str] = NAME,
        epochs: Collection[int] | None = None,
        *,
        force: bool = False,
        **options: Any,
    ) -> None:
        found = chosen_layers(net, layers)
        check_layers(found)
        Channels.choose(found, channels, MEASURED, options.get("seed", 0))
        self._source = open_source(pictures, limit=options.pop("limit", None))
        self._out, self._force = Path(out), force
        refuse_files(self._out, NAME, NUMBERS, force=force)
        self._net, self._layers, self._channels, self._options = net, found, channels, options
        self.epochs = frozenset(EPOCHS if epochs is None else epochs)
        self._recorded: dict[int, Path] = {}

    def __repr__(self) -> str:
        done = ", ".join(map(str, sorted(self._recorded))) or "none"
        return f"<EvolutionRecorder of {self._net.name}: recorded epochs {done}>"

    def record(self, epoch: int) -> None:
        """Write the current weights if this epoch is to be recorded. Call it after each epoch.

        Raises:
            OutputError: If the weights cannot be written.
        """
        if epoch not in self.epochs:
            return
        path = self._out / WEIGHTS / f"epoch_{epoch:04d}.safetensors"
        write_state(self._net.module, path)
        self._recorded[epoch] = path

    def finish(self) -> Evolution:
        """Search the images with the weights of all recorded epochs, and write the result to `out`.

        It can be called during the training, too, for a first look. The weights are kept, so that
        ``deconvviz evolve`` can use them again.

        Raises:
            WeightsError: If fewer than two epochs were recorded, or weights are NaN.
            SearchError: If no image can be used.
            OutputError: If the result cannot be written.
        """
        if len(self._recorded) < LEAST:
            raise WeightsError(
                f"{len(self._recorded)} of the epochs {', '.join(map(str, sorted(self.epochs)))} were "
                f"recorded, but an evolution needs {LEAST}. Call record(epoch) after each epoch"
            )
        found = evolution(
            self._net,
            [self._recorded[epoch] for epoch in sorted(self._recorded)],
            self._source,
            self._layers,
            channels=self._channels,
            **self._options,
        )
        found.save_into(self._out, force=self._force)
        self._force = True  # a later call replaces its own result
        return found
