"""`dv.evolution`: how the projections of some channels change from checkpoint to checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from deconvviz.dataset_search.plan import BATCH_SIZE, chosen_layers
from deconvviz.errors import SearchError, WeightsError
from deconvviz.experiments.evolution.comparison import Comparisons, compare_states
from deconvviz.experiments.evolution.names import ORDERS, checkpoint_files
from deconvviz.experiments.evolution.pictures import PreparedBatches, RememberedImages
from deconvviz.experiments.evolution.result import Evolution
from deconvviz.experiments.evolution.states import States
from deconvviz.experiments.evolution.strongest import Saver, Strongest, Unfinished, find_strongest
from deconvviz.experiments.evolution.units import (
    MEASURED,
    Channels,
    Geometry,
    check_by,
    check_layers,
    ranked_channels,
)
from deconvviz.folder_lock import locked
from deconvviz.image_sources import Source, open_source
from deconvviz.image_sources.batches import usual_workers
from deconvviz.layers import Layer
from deconvviz.loading import ModelRequest
from deconvviz.network import Network

Report: TypeAlias = Callable[[int, int], None]
Chosen: TypeAlias = "int | Sequence[int] | Mapping[str, Sequence[int]]"

UNFINISHED = ".unfinished"
"""Suffix of the file with the state of the search of one checkpoint."""
CHANNELS = 6
"""Number of channels of a layer in the figure. Our choice; the paper shows a random subset."""


def evolution(
    network: Network | ModelRequest | str,
    checkpoints: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    source: str | os.PathLike[str] | Source,
    layers: str | Layer | Iterable[str | Layer],
    *,
    channels: Chosen = CHANNELS,
    by: str = "random",
    seed: int = 0,
    measured: int = MEASURED,
    order: str = "number",
    limit: int | None = None,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    memory: int | None = None,
    searches: str | os.PathLike[str] | None = None,
    resume: bool = False,
    report: Report | None = None,
) -> Evolution:
    """Show how the projections of some channels change during training (paper, section 4.1, Figure 4).

    For each checkpoint, the strongest activation of each channel over all images is found and projected, as
    in the paper. The paper's figure mixes two effects: another image may become the strongest, and the
    weights change. Therefore the unit that is strongest at the last checkpoint is projected at every
    checkpoint, too, and its projections are compared with the last one.

    A network that is given as an object is not changed: a copy of it gets the weights.

    Args:
        network: The network, or its name.
        checkpoints: Two or more weights files, or patterns such as ``runs/epoch_*.pth``.
        source: Folder, text file of paths, zip file, tar shards, ``hf:NAME``, ``scenes:COUNT`` or a `Source`.
        layers: One or several layers.
        channels: Number of channels of each layer in the figure; or channels; or channels by layer. The same
            channels are shown at all checkpoints.
        by: How that number of channels is chosen: at ``random``, as in the paper; those with the largest
            maximum at the last checkpoint (``activation``); or those that are active on most images at the
            last checkpoint (``density``).
        seed: Seed of the drawn channels and of the bootstrap.
        measured: Number of channels of each layer whose projections are compared, with those in the figure.
            The default is ours.
        order: ``number``: checkpoints whose names differ only in numbers are sorted by these; ``given``.
        limit: Use only the first images by id.
        batch_size: Number of images in one forward pass.
        workers: Number of processes that load images; None depends on the number of cores.
        memory: Bytes for prepared images that are kept for the next checkpoint, and the same for decoded
            ones. Default: a quarter of the free memory. Images that do not fit are read again.
        searches: Folder for the searches of an evolution that may be interrupted, even by a crash. The state
            of an unfinished search is written every 30 seconds. None writes no files.
        resume: Use the searches in this folder that fit, and continue the unfinished one. Otherwise they are
            made again.
        report: Called with the number of finished steps and of all steps.

    Returns:
        The evolution: `figure`, `table` with one row for each checkpoint and channel, `layer_table`.

    Raises:
        WeightsError: If a checkpoint is missing, does not fit the network, contains NaN, or is the only one.
        LayerError: If a layer does not exist or has no units.
        RefusedOp: If a layer cannot be projected.
        UnitError: If a channel does not exist, or `by` is unknown.
        SourceError: If the source cannot be opened.
        SearchError: If no image can be used.
        OutputError: If a search cannot be written, or another process is writing into the folder.
    """
    if order not in ORDERS:
        raise WeightsError(f"no order {order!r} of checkpoints: there are {', '.join(ORDERS)}")
    if batch_size < 1:
        raise SearchError(
            f"invalid batch size {batch_size}: it must be 1 or more ({{option}})", option="batch_size=N"
        )
    given = [checkpoints] if isinstance(checkpoints, (str, os.PathLike)) else list(checkpoints)
    files = checkpoint_files(given, order)
    asked = ModelRequest.of(network) if isinstance(network, str) else network
    states = States.of(asked, files)
    found = chosen_layers(states.sketch, layers)
    check_layers(found)
    chosen = Channels.choose(found, channels, measured, seed)
    check_by(by)
    images = open_source(source, limit=limit)
    states.check()
    job = _Job(states, found, images, min(batch_size, len(images)), workers, memory, report)
    if searches is None:
        strongest = job.search(None, resume=False)
    else:
        with locked(Path(searches)):
            strongest = job.search(Path(searches), resume=resume)
    if by != "random":
        ranked = ranked_channels(found, strongest[-1], by)
        chosen = Channels.choose(found, channels, measured, seed, ranked)
    geometry = Geometry(states.open(len(states) - 1), found)
    pictures = RememberedImages(images, memory)
    compared = compare_states(states, found, pictures, chosen, geometry, strongest, job.step)
    arguments = {
        "layers": [layer.name for layer in found],
        "channels": {name: list(of_layer) for name, of_layer in chosen.shown.items()},
        "seed": seed,
        "measured": measured,
        "batch_size": batch_size,
    }
    return _result(states, found, images, chosen, strongest, compared, arguments)


class _Job:
    """One run of `evolution`: the searches of all checkpoints over the same images."""

    def __init__(
        self,
        states: States,
        layers: tuple[Layer, ...],
        images: Source,
        batch_size: int,
        workers: int | None,
        memory: int | None,
        report: Report | None,
    ) -> None:
        self._states, self._layers, self._images, self._size = states, layers, images, batch_size
        reading = usual_workers() if workers is None else workers
        self._batches = PreparedBatches(images, states.sketch.preprocessing, batch_size, reading, memory)
        self._report, self._done = report, 0
        self._total = len(states) * (len(self._batches) + 1)

    def search(self, folder: Path | None, *, resume: bool) -> list[Strongest]:
        """Search all images with each checkpoint, except for those that are finished in a folder."""
        digests = self._states.digests() if folder is not None else ()
        found = []
        for number in range(len(self._states)):
            if folder is None:
                found.append(self._one(number))
                continue
            identity = self._identity(digests[number])
            file = folder / f"{digests[number].removeprefix('sha256:')[:16]}.npz"
            part = file.with_suffix(UNFINISHED)
            one = Strongest.read(file, identity) if resume else None
            if one is None:
                begun = Unfinished.read(part, identity) if resume else None
                one = self._one(number, begun, Saver(part, identity))
                one.write(file, identity)
                part.unlink(missing_ok=True)
            else:
                self.step(len(self._batches))
            found.append(one)
        return found

    def _one(self, number: int, begun: Unfinished | None = None, save: Saver | None = None) -> Strongest:
        network = self._states.open(number)
        layers = [network.layers.find(layer.name) for layer in self._layers]
        images = len(self._images)
        return find_strongest(network, layers, self._batches, images, self._size, self.step, begun, save)

    def _identity(self, digest: str) -> dict[str, Any]:
        """Return everything that must be equal for a finished search to be used."""
        return {
            "weights": digest,
            "network": self._states.sketch.name,
            "preprocessing": self._states.sketch.preprocessing.to_json(),
            "layers": [layer.module for layer in self._layers],
            "source": self._images.digest,
            "batch size": self._size,
        }

    def step(self, steps: int = 1) -> None:
        """Report that further steps are finished."""
        self._done += steps
        if self._report is not None:
            self._report(self._done, self._total)


def _result(
    states: States,
    layers: tuple[Layer, ...],
    images: Source,
    channels: Channels,
    strongest: Sequence[Strongest],
    compared: Comparisons,
    arguments: Mapping[str, Any],
) -> Evolution:
    seed = int(arguments["seed"])
    skipped = {number: reason for found in strongest for number, reason in found.skipped.items()}
    return Evolution(
        network=compared.network,
        layers=layers,
        checkpoints=states.labels,
        files=states.files,
        source=images.describe(),
        images=max(found.images for found in strongest),
        seed=seed,
        channels=channels,
        cells=compared.cells,
        table=compared.table(states.labels, channels),
        layer_table=compared.layer_table(states.labels, seed),
        coverages=compared.coverages,
        skipped=tuple((images.names[number], reason) for number, reason in sorted(skipped.items())),
        digests=states.digests(),
        arguments=arguments,
    )
