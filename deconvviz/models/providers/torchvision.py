"""torchvision's classifiers, by their names there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from deconvviz.models.catalog import TORCHVISION_NAMES
from deconvviz.models.model_spec import ModelSpec
from deconvviz.models.providers.named import NamedProvider
from deconvviz.models.providers.provider import ListedModel

if TYPE_CHECKING:
    from torch import nn

    from deconvviz.images.preprocessing import Preprocessing
    from deconvviz.models.weights import FoundWeights


class Torchvision(NamedProvider):
    """Networks that torchvision builds; their weights are downloaded once."""

    package: ClassVar[str | None] = "torchvision"

    def parse(self, text: str) -> ModelSpec | None:
        return None if ":" in text else ModelSpec(self.registry, text)

    def build(
        self, name: str, *, seed: int | None = 0, classes: int | None = None, device: str = "cpu"
    ) -> nn.Module:
        from deconvviz.models.torchvision_models import build

        return build(name, seed=seed, classes=classes, device=device)

    def published(self, name: str, weights: str, *, progress: bool) -> FoundWeights | None:
        from deconvviz.models.downloads import cache_path, fetch
        from deconvviz.models.expected_input import preprocessing_of_entry
        from deconvviz.models.state_dict import not_finite
        from deconvviz.models.torchvision_models import default_entry, entries
        from deconvviz.models.weights import FoundWeights

        by_name: dict[str, Any] = {**entries(name), "default": default_entry(name)}
        entry = by_name.get(weights.rpartition("_Weights.")[2])
        if entry is None:
            return None
        state = fetch(entry, name, progress=progress)
        notes: tuple[str, ...] = ()
        if spoiled := not_finite(state):  # vgg16's IMAGENET1K_FEATURES comes without a classifier
            notes = (f"no numbers in {', '.join(spoiled)}: layers from there on have no meaning",)
        return FoundWeights(
            spec=entry.name,
            source=f"torchvision {entry.name} ({cache_path(entry).name})",
            state=state,
            preprocessing=preprocessing_of_entry(entry),
            classes=_classes(entry),
            notes=notes,
        )

    def weight_names(self, name: str) -> Sequence[str]:
        from deconvviz.models.torchvision_models import entries

        return list(entries(name))

    def expected(self, name: str) -> tuple[Preprocessing, tuple[str, ...]]:
        from deconvviz.models.expected_input import preprocessing_of_entry
        from deconvviz.models.torchvision_models import default_entry

        entry = default_entry(name)
        return preprocessing_of_entry(entry), _classes(entry)

    def names(self) -> Sequence[str]:
        return TORCHVISION_NAMES

    def listed(self) -> Iterable[ListedModel]:
        from deconvviz.models.downloads import cached, download_size
        from deconvviz.models.torchvision_models import default_entry, model_names

        for name in model_names():
            entry = default_entry(name)
            yield ListedModel(name, entry.name, cached(entry), download_size(entry))


def _classes(entry: Any) -> tuple[str, ...]:
    return tuple(entry.meta.get("categories") or ())
