"""`dv.invariance`: transform pictures, and measure the change of features and of the class probability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from deconvviz.errors import ImageError, LayerError, MethodError, UnitError
from deconvviz.experiments.class_probabilities import probabilities
from deconvviz.experiments.invariance.canvas import BORDERS, Canvas, Floats
from deconvviz.experiments.invariance.distances import Distances
from deconvviz.experiments.invariance.measured import EXAMPLES, Example, Varied
from deconvviz.experiments.invariance.names import PAPER, check_transforms
from deconvviz.experiments.invariance.result import Invariance
from deconvviz.experiments.invariance.transforms import Transform, amounts_of, chosen
from deconvviz.experiments.named_images import NamedImage, Pictures, named_images
from deconvviz.experiments.used_images import UsedImages
from deconvviz.layers import Layer
from deconvviz.methods.forward import GPU_BATCH, Forward, output_layer
from deconvviz.network import Network
from deconvviz.printable_names import printable
from deconvviz.wording import listed

Report: TypeAlias = Callable[[int, int], None]

CPU_BATCH = 4
"""Number of pictures in one batch on a CPU (ours). Larger batches have large maps and are slower there."""

_ACTIVATIONS = ("ReLU", "ReLU6", "LeakyReLU", "PReLU", "ELU", "GELU", "SiLU", "Hardswish", "Mish", "Softplus")


def invariance(
    net: Network,
    images: Pictures,
    layers: Sequence[str | Layer] | str | Layer | None = None,
    *,
    class_: str | int | None = None,
    transforms: Sequence[str] = PAPER,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    steps: int | None = None,
    border: str = "reflect",
    limit: int | None = None,
    batch: int | None = None,
    report: Report | None = None,
) -> Invariance:
    """Measure how features and the class probability change if the picture is transformed (paper, Figure 5).

    The transformed pictures have the size of the network's input. What comes in from outside is the real
    picture where the image file has more than the crop, else a reflection, or grey. The paper does not say
    what it used.

    Args:
        net: The network.
        images: Images as for `Network.record`, scenes, or a source of images such as a folder.
        layers: Layers to compare, from the first to the top. Default: the first activation function after a
            convolution, before pooling, and the last one before the class scores. In the paper, layer 1
            includes pooling and contrast normalisation.
        class_: Name or number of the class whose probability is shown. Default: the top class of each
            original picture.
        transforms: Names (`deconvviz.experiments.invariance.names.TRANSFORMS`). Default: those of the paper.
        ranges: Lowest and highest amount by transformation, for example ``{"translate": (-20, 20)}``.
            Default: those of the paper, for pictures of 224 pixels; in proportion for other sizes.
        steps: Number of amounts of each transformation. Default: 41 for translations, with 1 and 2 pixels
            besides; 17 for scales; 36 for rotations.
        border: ``reflect`` or ``grey``: what replaces pixels that the image file does not have.
        limit: Use only the first images.
        batch: Number of pictures in one forward pass.
        report: Called with the number of finished pictures and of all pictures.

    Returns:
        The measures of each picture, amount and layer: `figure`, `table`, `summary`.

    Raises:
        MethodError: If a transformation, range or border does not exist.
        LayerError: If a layer does not exist or has no units.
        UnitError: If the class does not exist, or the network has no classes.
        ImageError: If no image can be read, or a range does not suit the pictures.
    """
    names = tuple(dict.fromkeys(transforms))
    check_transforms(names, ranges or {})
    if border not in BORDERS:
        raise MethodError(f"no border {border!r}: there are {', '.join(BORDERS)}")
    if steps is not None and steps < 2:
        raise MethodError(f"{steps} steps of a transformation were requested: request 2 or more")
    if batch is not None and batch < 1:
        raise MethodError(f"batches of {batch} pictures were requested: request 1 or more")
    net.preprocessing.check_reads_images(net.name)
    found = _layers(net, layers)
    scores = output_layer(net)
    if class_ is not None and scores is None:
        raise UnitError(
            f"class {class_!r} was requested, but the output of {net.name} is not one score for each class. "
            "Leave the class out"
        )
    index = None if class_ is None else net.class_index(class_)
    size = (net.preprocessing.shape[1], net.preprocessing.shape[2])
    amounts = {name: amounts_of(name, size, (ranges or {}).get(name), steps) for name in names}
    pictures = named_images(images)[:limit]
    if not pictures:
        raise ImageError("no image was given")
    size_of_batch = batch or (CPU_BATCH if net.device.type == "cpu" else GPU_BATCH)
    job = _Job(net, found, scores, index, chosen(names), amounts, border, size_of_batch, pictures, report)
    for number, picture in enumerate(pictures):
        job.see(picture, number)
    arguments = {
        "layers": [layer.name for layer in found],
        "class_": index,
        "transforms": list(names),
        "ranges": {name: list(span) for name, span in (ranges or {}).items()},
        "steps": steps,
        "border": border,
        "limit": limit,
        "batch": size_of_batch,
    }
    return job.result(arguments)


def _layers(net: Network, layers: Sequence[str | Layer] | str | Layer | None) -> tuple[Layer, ...]:
    if layers is None:
        return usual_layers(net)
    asked = [layers] if isinstance(layers, (str, Layer)) else list(layers)
    if not asked:
        raise LayerError("no layer was given: name one or more (net.layers lists them)")
    found = tuple(dict.fromkeys(net.layers.find(one) for one in asked))
    for layer in found:
        if not layer.has_channels:
            raise LayerError(f"{layer.name} has no units: its output is not a map (C, H, W) or a vector (F)")
    return tuple(layer for layer in net.layers if layer in found)


def usual_layers(net: Network) -> tuple[Layer, ...]:
    """Return the first activation function of a network, and the last one before its class scores."""
    scores = output_layer(net)
    usable = [
        layer for layer in net.layers if layer.has_channels and layer.module and not layer.lacks_weights
    ]
    active = [layer for layer in usable if layer.kind in _ACTIVATIONS] or usable
    below = [layer for layer in active if scores is None or layer.shape[0] != scores.shape[0]] or active
    if not below:
        raise LayerError(f"{net.name} has no layer whose output is a map (C, H, W) or a vector (F)")
    return tuple(dict.fromkeys((below[0], below[-1])))


class _Job:
    """One run of `invariance`: the measures of all pictures."""

    def __init__(
        self,
        net: Network,
        layers: tuple[Layer, ...],
        scores: Layer | None,
        index: int | None,
        transforms: Sequence[Transform],
        amounts: Mapping[str, Floats],
        border: str,
        batch: int,
        pictures: list[NamedImage],
        report: Report | None,
    ) -> None:
        self._count, self._number = len(pictures), 0
        self._used = UsedImages.starting(pictures)
        self._net, self._layers, self._scores, self._class = net, layers, scores, index
        self._transforms, self._amounts, self._border, self._batch = transforms, amounts, border, batch
        size = (net.preprocessing.shape[1], net.preprocessing.shape[2])
        self._distances = {layer: Distances(layer, size) for layer in layers}
        output: dict[Layer, Callable[[Tensor], Tensor]] = {} if scores is None else {scores: probabilities}
        self._originals = Forward(net, {**{one: d.keep for one, d in self._distances.items()}, **output})
        self._others = Forward(net, {**{one: d.compare for one, d in self._distances.items()}, **output})
        if scores in self._distances:  # its features and its probabilities are both needed
            raise LayerError(
                f"{layers[-1].name} is the output of {net.name}, whose probability is shown anyway. Name a "
                "layer below it"
            )
        self._names: list[str] = []
        self._classes: list[int] = []
        self._values: dict[str, list[Varied]] = {one.name: [] for one in transforms}
        self._examples: dict[str, dict[int, Example]] = {one.name: {} for one in transforms}
        self._skipped: list[tuple[str, str]] = []
        self._each = sum(map(len, amounts.values()))
        self._report = report

    def see(self, picture: NamedImage, number: int) -> None:
        """Measure all transformations of one picture."""
        self._number = number
        try:
            image = picture.open()
            if isinstance(image, Tensor):
                raise ImageError("it is a prepared tensor. Give an image, so that it can be transformed")
            canvas = Canvas.of(image.rgb, self._net.preprocessing, image.reduced)
        except ImageError as reason:
            self._skipped.append((picture.name, str(reason)))
            return
        original = self._original(canvas)
        self._names.append(picture.name)
        self._used.add(picture, image)
        self._classes.append(-1 if original is None else int(original[0]))
        for position, one in enumerate(self._transforms):
            before = sum(len(self._amounts[other.name]) for other in self._transforms[:position])

            def reached(done: int, before: int = before) -> None:
                if self._report is not None:
                    self._report(number * self._each + before + done, self._count * self._each)

            self._values[one.name].append(self._varied(canvas, one, original, reached))

    def _original(self, canvas: Canvas) -> tuple[int, float] | None:
        """Measure the original picture. Return the class and its probability, if there are classes."""
        found = self._originals(self._prepared([canvas.crop()]))
        if self._scores is None:
            return None
        row = found[self._scores][0]
        index = int(row.argmax()) if self._class is None else self._class
        return index, float(row[index])

    def _varied(
        self,
        canvas: Canvas,
        one: Transform,
        original: tuple[int, float] | None,
        reached: Callable[[int], None],
    ) -> Varied:
        amounts = self._amounts[one.name]
        varied = Varied.empty(len(amounts), len(self._layers))
        shown = self._shown(one.name)
        for first in range(0, len(amounts), self._batch):
            block = [float(amount) for amount in amounts[first : first + self._batch]]
            pictures = []
            for place, amount in enumerate(block, first):
                colours, outside = one.apply(canvas, amount, self._border)
                varied.outside[place] = outside
                pictures.append(colours)
                if place in shown:
                    example = Example(len(self._names) - 1, amount, _rgb(colours))
                    self._examples[one.name][shown[place]] = example
            self._measure(one, block, pictures, varied, range(first, first + len(block)), original)
            reached(first + len(block))
        for place in (amounts == one.identity).nonzero()[0]:  # exactly 0, without the rounding of a batch
            varied.set_identity(int(place), None if original is None else original[1])
        return varied

    def _measure(
        self,
        one: Transform,
        amounts: Sequence[float],
        pictures: Sequence[Tensor],
        varied: Varied,
        places: Sequence[int],
        original: tuple[int, float] | None,
    ) -> None:
        for distances in self._distances.values():
            distances.transform, distances.amounts = one, amounts
        found = self._others(self._prepared(pictures))
        for number, layer in enumerate(self._layers):
            varied.measures[list(places), number] = found[layer].cpu().numpy()
        if self._scores is not None and original is not None:
            varied.probability[list(places)] = found[self._scores][:, original[0]].cpu().numpy()

    def _prepared(self, pictures: Sequence[Tensor]) -> Tensor:
        preprocessing = self._net.preprocessing
        mean, std = (torch.tensor(n).view(-1, 1, 1) for n in (preprocessing.mean, preprocessing.std))
        return (torch.stack(list(pictures)) - mean) / std

    def _shown(self, name: str) -> dict[int, int]:
        """Return the examples of the current picture: places in the figure by the number of the amount."""
        last = len(self._amounts[name]) - 1
        spread = {number: round(number * last / (EXAMPLES - 1)) for number in range(EXAMPLES)}
        return {place: number for number, place in spread.items() if number % self._count == self._number}

    def result(self, arguments: Mapping[str, Any]) -> Invariance:
        """Return the result. Raises ImageError if no image could be used."""
        if not self._names:
            reasons = listed([f"{name}: {reason}" for name, reason in self._skipped])
            raise ImageError(f"no image can be used. {printable(reasons)}")
        return Invariance(
            network=self._net.info(),
            layers=self._layers,
            transforms=tuple(one.name for one in self._transforms),
            amounts=dict(self._amounts),
            images=tuple(self._names),
            classes=tuple(self._classes) if self._scores is not None else (),
            values={name: Varied.stack(of_images) for name, of_images in self._values.items()},
            examples={
                name: tuple(found[number] for number in sorted(found))
                for name, found in self._examples.items()
            },
            border=self._border,
            skipped=tuple(self._skipped),
            used=self._used,
            arguments=arguments,
        )


def _rgb(colours: Tensor) -> Floats:
    """Return colours (C, H, W) as an array (H, W, 3)."""
    array = colours.expand(3, *colours.shape[1:]).permute(1, 2, 0).clamp(0, 1).numpy()
    return array.astype("float64")
