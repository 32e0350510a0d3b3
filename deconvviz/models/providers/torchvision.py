"""Provider of torchvision's classifiers, by their names in torchvision."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from deconvviz.models.catalog import TORCHVISION_NAMES, no_such_network
from deconvviz.models.model_spec import ModelSpec
from deconvviz.models.providers.named import NamedProvider
from deconvviz.models.providers.provider import ListedModel
from deconvviz.models.weights_file import check_weights_file

if TYPE_CHECKING:
    from torch import nn

    from deconvviz.images.preprocessing import Preprocessing
    from deconvviz.models.weights import FoundWeights


_ENTRY = re.compile(r"(\w+_Weights\.)?[A-Z][A-Z0-9_]*")  # IMAGENET1K_V1, VGG19_Weights.IMAGENET1K_V1


class Torchvision(NamedProvider):
    """Provider of networks that torchvision builds; their weights are downloaded once."""

    package: ClassVar[str | None] = "torchvision"

    def parse(self, text: str) -> ModelSpec | None:
        return None if ":" in text else ModelSpec(self.registry, text)

    def check(self, spec: ModelSpec, weights: str | Path | None = None) -> None:
        if spec.name not in TORCHVISION_NAMES and not _may_be_newer(spec.name):
            raise no_such_network(spec.name)
        super().check(spec, weights)

    def check_weights(self, spec: ModelSpec, weights: str | Path) -> None:
        if not _ENTRY.fullmatch(str(weights)):  # names of entries are checked later, by torchvision
            others = "default, random, or an entry of torchvision, such as IMAGENET1K_V1"
            check_weights_file(weights, f"named weights of {spec.text}: {others}")

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
            notes = (f"the published weights contain NaN or infinity in {', '.join(spoiled)}",)
            state = {name: tensor for name, tensor in state.items() if name not in spoiled}
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


def _may_be_newer(name: str) -> bool:
    """Return True if the installed torchvision, which may be newer, has a function of this name."""
    found = find_spec("torchvision")  # does not import it
    if found is None or found.origin is None or not name.isidentifier():
        return False
    definition = f"def {name}("
    files = Path(found.origin).with_name("models").glob("*.py")
    return any(definition in file.read_text(encoding="utf-8") for file in files)
