"""Provider of minivgg, which ships with the package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from deconvviz.models.catalog import SHIPPED
from deconvviz.models.model_spec import ModelSpec
from deconvviz.models.providers.named import NamedProvider
from deconvviz.models.providers.provider import ListedModel, LoadedModel

if TYPE_CHECKING:
    from torch import nn

    from deconvviz.images.preprocessing import Preprocessing
    from deconvviz.models.weights import FoundWeights


class Shipped(NamedProvider):
    """Provider of minivgg, which needs no download. Its registry in manifests is that of torchvision."""

    package: ClassVar[str | None] = "deconvviz"

    def parse(self, text: str) -> ModelSpec | None:
        return ModelSpec(self.registry, text) if text == SHIPPED else None

    def owns(self, spec: ModelSpec) -> bool:
        return super().owns(spec) and spec.name == SHIPPED

    def build(
        self, name: str, *, seed: int | None = 0, classes: int | None = None, device: str = "cpu"
    ) -> nn.Module:
        from deconvviz.models import minivgg

        return minivgg.build(seed=seed, classes=classes, device=device)

    def sketch(self, spec: ModelSpec) -> LoadedModel:
        from deconvviz.models.initialization import on_cpu

        found = super().sketch(spec)
        # layers are read on the CPU, because on the meta device PyTorch imports packages for seconds
        return replace(found, shapes=on_cpu(found.module))

    def shapes(self, spec: ModelSpec, module: nn.Module) -> None:
        return None

    def published(self, name: str, weights: str, *, progress: bool) -> FoundWeights | None:
        from deconvviz.models import minivgg
        from deconvviz.models.weights import FoundWeights

        if weights != "default":
            return None
        state = minivgg.stored_weights()
        place = str(minivgg.WEIGHTS)
        return FoundWeights("default", "shipped with deconvviz", state, *self.expected(name), place=place)

    def weight_names(self, name: str) -> Sequence[str]:
        return ()

    def expected(self, name: str) -> tuple[Preprocessing, tuple[str, ...]]:
        from deconvviz.images.preprocessing import Preprocessing
        from deconvviz.models import minivgg

        return Preprocessing.simple(minivgg.SIZE, minivgg.MEAN, minivgg.STD), minivgg.CLASSES

    def names(self) -> Sequence[str]:
        return (SHIPPED,)

    def listed(self) -> Iterable[ListedModel]:
        from deconvviz.models import minivgg

        file = minivgg.WEIGHTS if minivgg.WEIGHTS.is_file() else None
        return (ListedModel(SHIPPED, None, file, 0.0, ships_inside=True),)
