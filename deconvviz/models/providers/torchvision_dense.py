"""Provider of torchvision's networks for segmentation and detection, by their names in torchvision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from deconvviz.models.catalog import TORCHVISION_DETECTORS, TORCHVISION_SEGMENTATION
from deconvviz.models.model_spec import PLAIN, ModelSpec
from deconvviz.models.providers.provider import ListedModel, LoadedModel, ModelProvider

if TYPE_CHECKING:
    from deconvviz.images.preprocessing import Preprocessing

NAMES = (*TORCHVISION_SEGMENTATION, *TORCHVISION_DETECTORS)


class TorchvisionDense(ModelProvider):
    """Provider of networks with class scores at positions or for boxes; weights are downloaded once.

    Pictures for segmentation are resized and cropped to a square. Detectors receive pictures at their own
    size.
    """

    registry: ClassVar[str] = PLAIN
    form: ClassVar[str] = "a name (see: deconvviz models)"
    package: ClassVar[str | None] = "torchvision"

    def parse(self, text: str) -> ModelSpec | None:
        return ModelSpec(self.registry, text) if text in NAMES else None

    def owns(self, spec: ModelSpec) -> bool:
        return spec.registry == self.registry and spec.name in NAMES

    def sketch(self, spec: ModelSpec) -> LoadedModel:
        """Build the network with random weights: a detector cannot run on the meta device."""
        return self.load(spec, "random", 0)

    def load(self, spec: ModelSpec, weights: str | Path, seed: int) -> LoadedModel:
        from deconvviz.models.downloads import cache_path, fetch
        from deconvviz.models.fit import fit
        from deconvviz.models.torchvision_models import dense, dense_entry
        from deconvviz.models.weights import WeightsInfo, weights_of_file

        name, requested, entry = spec.name, str(weights), dense_entry(spec.name)
        module = dense(name, seed=seed)
        preprocessing, classes = _preprocessing(entry), tuple(entry.meta["categories"])
        notes: tuple[str, ...] = ()
        lacking = None
        if requested == "random":
            source = f"random, seed {seed}"
        elif requested == "default":
            module.load_state_dict(fetch(entry, name))
            requested, source = entry.name, f"torchvision {entry.name} ({cache_path(entry).name})"
        else:
            others = f"named weights of {name}: default, random"
            given = weights_of_file(weights, module, others)
            source, notes = requested, given.notes
            lacking = fit(module, given.state, network=name, source=given.place)
        info = WeightsInfo(name, str(weights), source, preprocessing, classes, notes)
        return LoadedModel(module, info.without(lacking), spec, seed if requested == "random" else None)

    def names(self) -> Sequence[str]:
        return NAMES

    def listed(self) -> Iterable[ListedModel]:
        from deconvviz.models.downloads import cached, download_size
        from deconvviz.models.torchvision_models import dense_entry

        for name in NAMES:
            entry = dense_entry(name)
            yield ListedModel(name, entry.name, cached(entry), download_size(entry))


def _preprocessing(entry: Any) -> Preprocessing:
    from deconvviz.images.preprocessing import Preprocessing

    preset = entry.transforms()
    if not hasattr(preset, "resize_size"):  # of a detector
        return Preprocessing(320, 320, (0.0,) * 3, (1.0,) * 3, crop_mode="own")
    size = int(preset.resize_size[0])
    return Preprocessing(size, size, tuple(map(float, preset.mean)), tuple(map(float, preset.std)))
