"""Provider of timm's networks, written ``timm:NAME`` or ``timm:NAME.TAG``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from deconvviz.errors import NetworkError
from deconvviz.models.catalog import TIMM_IS_MISSING
from deconvviz.models.model_spec import ModelSpec
from deconvviz.models.providers.provider import LoadedModel, ModelProvider

if TYPE_CHECKING:
    from torch import nn


class Timm(ModelProvider):
    """Provider of networks that timm builds, with timm's weights; timm is imported when one is built."""

    registry: ClassVar[str] = "timm"
    form: ClassVar[str] = "timm:NAME"
    prefix: ClassVar[str] = "timm:"
    package: ClassVar[str | None] = "timm"
    takes_arguments: ClassVar[bool] = True

    def parse(self, text: str) -> ModelSpec | None:
        if not text.startswith(self.prefix):
            return None
        return ModelSpec(self.registry, text.removeprefix(self.prefix))

    def check(self, spec: ModelSpec, weights: str | Path | None = None) -> None:
        if find_spec("timm") is None:
            raise NetworkError(TIMM_IS_MISSING)
        super().check(spec, weights)

    def sketch(self, spec: ModelSpec) -> LoadedModel:
        from deconvviz.models import timm_models
        from deconvviz.models.weights import WeightsInfo

        module, preprocessing = timm_models.build(spec, device="meta"), timm_models.preprocessing(spec)
        return LoadedModel(module, WeightsInfo(spec.text, "none", "no weights", preprocessing, ()), spec)

    def load(self, spec: ModelSpec, weights: str | Path, seed: int) -> LoadedModel:
        from deconvviz.models import timm_models

        module, info = timm_models.load_network(spec, weights, seed=seed)
        # timm initialises a classifier at random if its size differs from that of the weights
        drawn = info.spec == "random" or bool(spec.arguments)
        return LoadedModel(module, info, spec, seed if drawn else None)

    def shapes(self, spec: ModelSpec, module: nn.Module) -> nn.Module:
        from deconvviz.models import timm_models

        return timm_models.build(spec, device="meta", classes=getattr(module, "num_classes", None))

    def versions(self) -> Mapping[str, str]:
        from importlib.metadata import version

        return {"timm": version("timm")}

    def names(self) -> Sequence[str]:
        from deconvviz.models.timm_models import timm_names

        return timm_names()
