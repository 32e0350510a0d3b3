"""`dv.correspondence`: does the network find the same part in different images? (Table 1 of the paper)"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deconvviz.errors import LayerError, MethodError, SourceError, UnitError
from deconvviz.experiments.correspondence_cases import (
    LEAST_IMAGES,
    Case,
    Parts,
    cases_of,
    given_parts,
    too_few,
)
from deconvviz.experiments.correspondence_parts import random_place
from deconvviz.experiments.correspondence_result import Correspondence
from deconvviz.experiments.correspondence_rows import RANDOM, HiddenImage, Row
from deconvviz.experiments.correspondence_statistics import (
    bootstrap,
    compared,
    off_diagonal,
    permutation_test,
)
from deconvviz.experiments.named_images import Pictures, named_images
from deconvviz.experiments.occlusion_fills import check_fill
from deconvviz.experiments.used_images import UsedImages
from deconvviz.layers import Layer
from deconvviz.methods.forward import Forward, batch_size
from deconvviz.network import Network

Report: TypeAlias = Callable[[int, int], None]

DRAWS = 5
"""Number of random places for each part of each image (ours)."""
SHOWN = 5
"""Number of images that the figure of hidden parts shows, as in the paper."""


def correspondence(
    net: Network,
    source: Pictures,
    parts: Parts,
    layers: str | Layer | Sequence[str | Layer],
    *,
    fill: str = "grey",
    draws: int = DRAWS,
    limit: int | None = None,
    seed: int = 0,
    batch: int | None = None,
    report: Report | None = None,
) -> Correspondence:
    """Hide the same part in several images and compare how the features change, as in Table 1 of the paper.

    For each image i, the change is eps_i = x_i - y_i, where x_i are the features of the complete image and
    y_i those with the part hidden. Delta is the mean over all ordered pairs i != j of the share of entries at
    which sign(eps_i) and sign(eps_j) differ. A sign is -1, 0 or 1, so entries that change in neither image
    agree. Lower means that hiding the part has a more similar effect in all images.

    The paper leaves open what its ± is; here it is the standard deviation over pairs. Its random control
    hides random places of the object: here, places with the shape of the part, inside the box ``object`` of
    the CSV file or on the parts of a scene, and not on a named part if possible. Each part is compared with
    its own random places; the row ``random`` has all of them.

    Delta is also small if hiding a part changes few entries. Therefore the result also has the share of
    entries that change, Delta among the entries that change in at least one of the two images, and the mean
    cosine of the changes, with its own test.

    Args:
        net: The network.
        source: Images as for `Network.record`, a source of images, or scenes (``scenes:20``).
        parts: A CSV file (see `read_parts`), boxes, or for scenes names of parts, such as ``["eye"]``. An
            image without a part is left out for this part.
        layers: One or more layers.
        fill: What hides a part: ``grey`` (half of white), ``mean``, ``blur``, ``linear`` (see `occlusion`),
            or ``without``: scenes are drawn without the part, and random places are other parts of the
            object.
        draws: Number of random places for each part of each image.
        limit: Number of images, the first ones.
        seed: Seed of random places, resamples and permutations.
        batch: Number of images in one batch. Default: 16 on a CPU, 32 for images of at most 128 x 128
            pixels, 128 on other devices.
        report: Called with the number of finished and of all hidden images.

    Returns:
        One row for each layer and part, and for the random places of each layer.

    Raises:
        LayerError: If a layer does not exist or has no channels.
        SourceError: If the boxes cannot be read, or fewer than two images have a part.
        MethodError: If the fill does not exist, or does not fit.
        ImageError: If an image cannot be read.
        UnitError: If `draws` is below 1.

    All images that have a part are in memory, with their features at these layers.
    """
    check_fill(fill)
    if draws < 1:
        raise UnitError(f"{draws} random places were requested: give 1 or more")
    asked = [layers] if isinstance(layers, (str, Layer)) else list(layers)
    found = list(dict.fromkeys(net.layers.find(one) for one in asked))
    if not found:
        raise LayerError("no layer was given: name one or more")
    for layer in found:
        if not layer.has_channels:
            raise LayerError(
                f"{layer.name} has no channels: its output is not a map (C, H, W) or a vector (F)"
            )
    names, boxes = given_parts(parts)
    images = named_images(source)[:limit]
    cases = cases_of(net, images, names, boxes, fill, seed)
    size_of_batch = batch or batch_size(net)
    job = _Job(net, found, fill, draws, seed, size_of_batch, report)
    used = {name: [case for case in cases if name in case.parts.masks] for name in names}
    for name, having in used.items():
        if len(having) < LEAST_IMAGES:
            raise SourceError(too_few(name, having, images, boxes))
    job.total = sum(len(having) for having in used.values()) * (1 + draws)
    rows, first = [], {}
    for name, having in used.items():
        rows += job.see(name, having)
        first[name] = [case.name for case in having]
    rows += job.random_rows()
    return Correspondence(
        network=net.info(),
        layers=tuple(found),
        parts=names,
        rows=tuple(sorted(rows, key=lambda row: [one.name for one in found].index(row.layer))),
        images=tuple(case.name for case in cases),
        images_of=first,
        fill=fill,
        draws=draws,
        seed=seed,
        hidden=tuple(job.shown.values()),
        used=replace(UsedImages.starting(images), images=[case.used for case in cases]),
        arguments={
            "parts": [asdict(box) for box in boxes] or list(names),
            "layers": [layer.name for layer in found],
            "fill": fill,
            "draws": draws,
            "limit": limit,
            "seed": seed,
            "batch": size_of_batch,
        },
    )


class _Job:
    """One run of `correspondence`."""

    def __init__(
        self,
        net: Network,
        layers: Sequence[Layer],
        fill: str,
        draws: int,
        seed: int,
        batch: int,
        report: Report | None,
    ) -> None:
        self._net, self._layers, self._fill, self._draws, self._seed = net, layers, fill, draws, seed
        self._batch, self._report = batch, report
        self._run = Forward(net, dict.fromkeys(layers, _vectors))
        self._random: dict[Layer, list[npt.NDArray[np.float64]]] = {layer: [] for layer in layers}
        self._random_facts: dict[Layer, list[tuple[float, float, float]]] = {layer: [] for layer in layers}
        self._images: set[str] = set()
        self.shown: dict[str, HiddenImage] = {}
        self.total, self._done = 0, 0

    def see(self, name: str, cases: Sequence[Case]) -> list[Row]:
        """Return the rows of one part."""
        complete = self._features(case.inputs for case in cases)
        changes: dict[Layer, list[Tensor]] = {layer: [] for layer in self._layers}  # (n, F) for each place
        generators = [self._random_of(name, case.name) for case in cases]
        for place in range(1 + self._draws):
            hidden = [
                self._hidden(name, case, place, generator)
                for case, generator in zip(cases, generators, strict=True)
            ]
            for layer, features in self._features(iter(hidden)).items():
                changes[layer].append(complete[layer] - features)
            self._step(len(cases))
        self._images |= {case.name for case in cases}
        return [self._row(layer, name, changes.pop(layer)) for layer in self._layers]

    def random_rows(self) -> list[Row]:
        """Return one row for each layer, for the random places of all parts."""
        rows = []
        for layer in self._layers:
            pairs = np.concatenate([off_diagonal(table) for table in self._random[layer]])
            facts = np.mean(self._random_facts[layer], axis=0)
            rows.append(
                Row(
                    layer=layer.name,
                    part=RANDOM,
                    mean=float(pairs.mean()),
                    std=float(pairs.std()),
                    images=len(self._images),
                    p_value=None,
                    low=None,
                    high=None,
                    changed=float(facts[0]),
                    mean_of_changed=float(facts[1]),
                    cosine=float(facts[2]),
                    cosine_p_value=None,
                    random_mean=float(pairs.mean()),
                    random_cosine=float(facts[2]),
                )
            )
        return rows

    def _row(self, layer: Layer, name: str, changes: list[Tensor]) -> Row:
        images, places = len(changes[0]), len(changes)
        stacked = torch.stack(changes, 1).flatten(0, 1)  # (n * P, F): place a of image i is row i * P + a
        found = compared(stacked)
        random = np.random.default_rng([self._seed, zlib.crc32(f"{name} {layer.name}".encode())])
        of = [
            np.ix_(index, index) for index in (np.arange(images) * places + place for place in range(places))
        ]
        facts = [
            (
                float(found.changed[np.arange(images) * places + place].mean()),
                float(off_diagonal(found.differ_of_changed[square]).mean()),
                float(off_diagonal(found.cosine[square]).mean()),
            )
            for place, square in enumerate(of)
        ]
        self._random[layer] += [found.differ[square] for square in of[1:]]
        self._random_facts[layer] += facts[1:]
        own = found.differ[of[0]]
        low, high = bootstrap(own, random)
        pairs = off_diagonal(own)
        return Row(
            layer=layer.name,
            part=name,
            mean=float(pairs.mean()),
            std=float(pairs.std()),
            images=images,
            p_value=permutation_test(found.differ, images, random),
            low=None if np.isnan(low) else low,
            high=None if np.isnan(high) else high,
            changed=facts[0][0],
            mean_of_changed=facts[0][1],
            cosine=facts[0][2],
            cosine_p_value=permutation_test(found.cosine, images, random),
            random_mean=float(np.mean([off_diagonal(found.differ[square]).mean() for square in of[1:]])),
            random_cosine=float(np.mean([cosine for _, _, cosine in facts[1:]])),
        )

    def _random_of(self, part: str, image: str) -> np.random.Generator:
        """Return a generator that does not depend on the other images and parts."""
        return np.random.default_rng([self._seed, zlib.crc32(f"{part} {image}".encode())])

    def _hidden(self, name: str, case: Case, place: int, random: np.random.Generator) -> Tensor:
        """Return the image with the part hidden (place 0), or a random place."""
        mask = case.parts.masks[name]
        if place == 0:
            hidden = case.fill.hide(mask) if self._fill != "without" else self._without(case, name)
            self._show(case, name, hidden)
            return hidden
        if self._fill == "without":
            hidden = self._without(case, self._another(case, name, random))
        else:
            avoid = np.logical_or.reduce(list(case.parts.masks.values()))
            hidden = case.fill.hide(random_place(mask, case.parts.region, avoid, random))
        if place == 1:
            self._show(case, f"{RANDOM} ({name})", hidden)
        return hidden

    def _without(self, case: Case, part: str) -> Tensor:
        assert case.scene is not None
        drawn = self._net.preprocessing.apply(case.scene.redrawn(without=part).image)
        return drawn.to(case.inputs.device, case.inputs.dtype)

    def _another(self, case: Case, name: str, random: np.random.Generator) -> str:
        """Return another part of the scene at random."""
        assert case.scene is not None
        others = [part for part in case.scene.parts if part != name]
        if not others:
            raise MethodError(f"{case.name} has no part besides {name}, so no random part can be left out")
        return others[int(random.integers(len(others)))]

    def _show(self, case: Case, what: str, hidden: Tensor) -> None:
        """Keep the first images of each part for the figure of hidden parts."""
        if not self._net.preprocessing.reads_images:
            return
        if case.name not in self.shown:
            if sum(what in one.hidden for one in self.shown.values()) >= SHOWN:
                return
            view = self._net.preprocessing.view(case.inputs)
            self.shown[case.name] = HiddenImage(case.name, view, {})
        self.shown[case.name].hidden[what] = self._net.preprocessing.view(hidden)

    def _features(self, images: Iterator[Tensor]) -> dict[Layer, Tensor]:
        """Return the features of images (C, H, W) at each layer, (n, F)."""
        parts: dict[Layer, list[Tensor]] = {layer: [] for layer in self._layers}
        waiting: list[Tensor] = []

        def flush() -> None:
            for layer, features in self._run(torch.stack(waiting)).items():
                parts[layer].append(features)
            waiting.clear()

        for image in images:
            waiting.append(image)
            if len(waiting) == self._batch:
                flush()
        if waiting:
            flush()
        return {layer: torch.cat(found) for layer, found in parts.items()}

    def _step(self, count: int) -> None:
        self._done += count
        if self._report is not None:
            self._report(self._done, self.total)


def _vectors(output: Tensor) -> Tensor:
    return output.detach().flatten(1).clone()
