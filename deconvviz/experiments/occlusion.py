"""`dv.occlusion`: a square slides over an image, as in Figure 7 of the paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deconvviz.dataset_search.result import Search
from deconvviz.engine.units import Unit
from deconvviz.errors import LayerError, UnitError
from deconvviz.experiments.class_probabilities import probabilities
from deconvviz.experiments.named_images import NamedImage, Pictures, named_images
from deconvviz.experiments.occlusion_fills import Fill, check_fill, fill_of
from deconvviz.experiments.occlusion_maps import OccludedImage
from deconvviz.experiments.occlusion_result import Occlusion
from deconvviz.experiments.occlusion_squares import Squares, at_places, squares
from deconvviz.experiments.used_images import UsedImages
from deconvviz.layers import Layer
from deconvviz.methods.forward import Forward, batch_size, output_layer
from deconvviz.network import Network

Report: TypeAlias = Callable[[int, int], None]
Floats: TypeAlias = npt.NDArray[np.float64]

SIZE = 0.22
"""Side of the square as a share of the image's side (ours, measured in the paper's figure)."""
STRIDE = 0.05
"""Distance of neighbouring places as a share of the image's side (ours)."""
PHASES = 3
"""Number of grids of places, each shifted by a part of the stride (ours)."""
OTHER_FILL = {"linear": "grey", "without": "grey"}
"""The fill that maps of a fill are compared with; ``linear`` for all others (ours)."""
OTHERS = 3
"""Number of other images whose projections are shown, as in the paper."""


def occlusion(
    net: Network,
    images: Pictures,
    layer: str | Layer,
    *,
    size: float = SIZE,
    stride: float = STRIDE,
    class_name: str | int | None = None,
    fill: str = "grey",
    channel: int | None = None,
    unit: tuple[int, int, int] | None = None,
    phases: int = PHASES,
    compare_fills: bool = True,
    search: Search | None = None,
    batch: int | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> Occlusion:
    """Hide a square of an image at many places, and measure a channel and the classes at each place.

    As in Figure 7 of the paper: the total activation of the channel that is strongest in the complete image,
    the probability of the class, and the most probable class. The paper does not state size and stride.

    The total activation is the sum over all positions, where activations below zero count as zero, because
    the paper's feature maps are rectified. The strongest channel is the one with the highest activation at
    one position, as for `Recording.strongest`.

    Two checks are made. The square is moved over several grids (`phases`), and the result has the standard
    deviation between them. The maps are computed again with another fill, because edges of a square are
    features too, and the result has the rank correlation.

    Args:
        net: The network.
        images: Images as for `Network.record`, scenes (``scenes:5``), or a source of images.
        layer: A layer name or a `Layer`.
        size: Side of the square as a share of the image's shorter side.
        stride: Distance of neighbouring places as a share of the image's shorter side.
        class_name: The right class: a name, a part of a name that only one class has, or an index. Default:
            the most probable class of each complete image.
        fill: ``grey`` (half of white, as in the paper), ``mean`` (mean colour of the preprocessing),
            ``blur``, ``linear`` (noisy linear imputation), or ``without`` (for scenes: the part at the centre
            of the square is really absent).
        channel: Measure this channel instead of the strongest one.
        unit: Measure the activation of one unit (channel, row, column) instead.
        phases: Number of grids. 1 makes no check.
        compare_fills: Compute the maps again with ``linear``, or with ``grey`` if the fill is ``linear`` or
            ``without``.
        search: A search of the layer, for projections of the channel in other images.
        batch: Number of images in one batch. Default: 16 on a CPU, 32 for images of at most 128 x 128
            pixels, 128 on other devices.
        seed: Seed of the noise of ``linear``.
        report: Called with the number of finished and of all squares.

    Returns:
        The maps of each image. Those of classes are missing unless the network's output is a vector with one
        entry for each class; without class names, every vector is taken as class scores.

    Raises:
        LayerError: If the layer does not exist or has no channels.
        UnitError: If the channel, the unit or the class does not exist.
        MethodError: If the fill does not exist.
        ImageError: If the square is larger than the image, or an image cannot be read.
        SearchError: If the layer was not searched.
    """
    check_fill(fill)
    if phases < 1:
        raise UnitError(f"{phases} grids of places were requested: give 1 or more")
    found = net.layers.find(layer)
    if not found.has_channels:
        raise LayerError(f"{found.name} has no channels: its output is not a map (C, H, W) or a vector (F)")
    plan = _Plan(size, stride, fill, phases, OTHER_FILL.get(fill, "linear") if compare_fills else None, seed)
    scores = output_layer(net)
    if class_name is not None and scores is None:
        raise UnitError(f"{net.name} does not return class scores, so it has no class {class_name!r}")
    wanted = None if class_name is None else net.class_index(class_name)
    pictures = named_images(images)
    size_of_batch = batch or batch_size(net)
    job = _Job(net, found, scores, plan, size_of_batch, len(pictures), report)
    used = UsedImages.starting(pictures)
    done = [job.see(one, used, wanted, channel, unit) for one in pictures]
    others = {}
    if search is not None:
        channels = list(dict.fromkeys(one.unit.channel for one in done))
        others = dict(search.topnine(found.name, channels, k=OTHERS, network=net).shown[found.name])
    arguments = {
        "layer": found.name,
        "size": size,
        "stride": stride,
        "class_name": wanted,
        "fill": fill,
        "channel": channel,
        "unit": unit,
        "phases": phases,
        "compare_fills": compare_fills,
        "batch": size_of_batch,
        "seed": seed,
    }
    return Occlusion(
        network=net.info(),
        layer=found,
        images=tuple(done),
        size=size,
        stride=stride,
        fill=fill,
        other_fill=plan.other_fill,
        phases=phases,
        seed=seed,
        others=others,
        used=used,
        arguments=arguments,
        search=None if search is None else search.folder,
    )


class _Plan(NamedTuple):
    """Settings of one run."""

    size: float
    stride: float
    fill: str
    phases: int
    other_fill: str | None
    seed: int


class _Measured(NamedTuple):
    """Numbers of a batch of images, or of all places of a grid."""

    activity: Floats
    probability: Floats | None
    label: npt.NDArray[np.int64] | None


class _Job:
    """One run of `occlusion`."""

    def __init__(
        self,
        net: Network,
        layer: Layer,
        scores: Layer | None,
        plan: _Plan,
        batch: int,
        count: int,
        report: Report | None,
    ) -> None:
        self._net, self._layer, self._scores, self._plan, self._batch = net, layer, scores, plan, batch
        self._report, self._done = report, 0
        grids = plan.phases + (plan.other_fill is not None)
        rows, columns = net.preprocessing.shape[1:]
        self._total = count * grids * len(squares((rows, columns), plan.size, plan.stride))

    def see(
        self,
        picture: NamedImage,
        used: UsedImages,
        class_index: int | None,
        channel: int | None,
        unit: tuple[int, int, int] | None,
    ) -> OccludedImage:
        """Measure one image."""
        opened = picture.open()
        used.add(picture, opened)
        recording = self._net.record(opened, self._layer)
        image = recording.inputs[0]
        if unit is not None:
            channel = unit[0]
        target = recording.strongest(self._layer, 1, channel)[0]
        projected = recording.project(self._layer, target if unit is None else Unit(0, *unit))
        target = projected.units[0]
        run = self._forward(target, one_unit=unit is not None)
        scene = None if picture.scene is None else picture.scene()
        preprocessing = self._net.preprocessing

        def fill(name: str) -> Fill:
            return fill_of(name, image, preprocessing, scene=scene, seed=self._plan.seed)

        plan, size = self._plan, (image.shape[1], image.shape[2])
        complete, all_scores = self._complete(run, image)
        label = None if all_scores is None else int(all_scores.argmax())
        right = label if class_index is None else class_index
        places = squares(size, plan.size, plan.stride)
        measured = self._grid(run, fill(plan.fill), places, right)
        other = None
        if plan.other_fill is not None:
            other = self._grid(run, fill(plan.other_fill), places, right)
        spread = self._spread(run, fill(plan.fill), places, measured, right, size)
        return OccludedImage(
            name=picture.name,
            projection=projected,
            one_unit=unit is not None,
            class_index=right,
            complete_activity=complete,
            complete_probability=None if all_scores is None or right is None else float(all_scores[right]),
            complete_label=label,
            squares=places,
            activity=measured.activity,
            probability=measured.probability,
            label=measured.label,
            activity_spread=spread[0],
            probability_spread=spread[1],
            other_activity=None if other is None else other.activity,
            other_probability=None if other is None else other.probability,
            shown=self._net.preprocessing.view(image) if preprocessing.reads_images else None,
            worst=self._worst(fill(plan.fill), places, measured) if preprocessing.reads_images else None,
        )

    def _forward(self, target: Unit, *, one_unit: bool) -> Forward:
        """Return a run that reduces the layer to one number for each image, and keeps the class scores."""

        def total(output: Tensor) -> Tensor:
            own = output[:, target.channel].detach()
            if own.dim() == 1:
                return own.double().cpu()
            if one_unit and target.y is not None and target.x is not None:
                return own[:, target.y, target.x].double().cpu()
            return own.clamp(min=0).flatten(1).sum(1, dtype=torch.float64).cpu()

        def kept(output: Tensor) -> Tensor:
            return output.detach().clone()

        if self._scores is None:
            return Forward(self._net, {self._layer: total})
        if self._scores == self._layer:

            def both(output: Tensor) -> Tensor:
                return torch.cat([total(output)[:, None], output.detach().double().cpu()], 1)

            return Forward(self._net, {self._layer: both})
        return Forward(self._net, {self._layer: total, self._scores: kept})

    def _run(self, run: Forward, images: Tensor) -> tuple[Floats, Tensor | None]:
        """Return the activity (B,) and the probabilities (B, N) of prepared images."""
        found = run(images)
        values = found[self._layer]
        if self._scores == self._layer:
            return values[:, 0].numpy(), probabilities(values[:, 1:])
        if self._scores is None:
            return values.numpy(), None
        return values.numpy(), probabilities(found[self._scores].cpu())

    def _complete(self, run: Forward, image: Tensor) -> tuple[float, Tensor | None]:
        activity, scores = self._run(run, image[None])
        return float(activity[0]), None if scores is None else scores[0]

    def _grid(self, run: Forward, fill: Fill, places: Squares, right: int | None) -> _Measured:
        """Return the numbers of all places, (rows, columns)."""
        activity, probability, label = [], [], []
        for copies in self._batches(fill, places):
            own, scores = self._run(run, copies)
            activity.append(own)
            if scores is not None and right is not None:
                probability.append(scores[:, right].numpy())
                label.append(scores.argmax(1).numpy())
            self._done += len(copies)
            if self._report is not None:
                self._report(min(self._done, self._total), self._total)
        shape = places.shape
        return _Measured(
            np.concatenate(activity).reshape(shape),
            np.concatenate(probability).reshape(shape) if probability else None,
            np.concatenate(label).reshape(shape) if label else None,
        )

    def _batches(self, fill: Fill, places: Squares) -> Iterator[Tensor]:
        corners = list(places.corners())
        for first in range(0, len(corners), self._batch):
            yield fill.hide_squares(corners[first : first + self._batch], places.side)

    def _spread(
        self,
        run: Forward,
        fill: Fill,
        places: Squares,
        first: _Measured,
        right: int | None,
        size: tuple[int, int],
    ) -> tuple[Floats | None, Floats | None]:
        """Return the standard deviations of activity and probability between shifted grids."""
        plan = self._plan
        if plan.phases == 1:
            return None, None
        activity, probability = [first.activity], [first.probability]
        for number in range(1, plan.phases):
            moved = squares(size, plan.size, plan.stride, number / plan.phases, whole=False)
            own = self._grid(run, fill, moved, right)
            activity.append(at_places(own.activity, moved, places))
            if own.probability is not None:
                probability.append(at_places(own.probability, moved, places))
        known = [one for one in probability if one is not None]
        return np.std(activity, axis=0, ddof=1), np.std(known, axis=0, ddof=1) if known else None

    def _worst(self, fill: Fill, places: Squares, measured: _Measured) -> npt.NDArray[np.float32]:
        """Return the image with the square where the class, or the activity, is lowest."""
        lowest = measured.activity if measured.probability is None else measured.probability
        corner = list(places.corners())[int(lowest.argmin())]
        return self._net.preprocessing.view(fill.hide_squares([corner], places.side)[0])
