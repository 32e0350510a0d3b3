"""Base class for networks known by a plain name, with published weights, random weights or a file's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from deconvviz.models.model_spec import PLAIN, ModelSpec
from deconvviz.models.providers.provider import LoadedModel, ModelProvider

if TYPE_CHECKING:
    from torch import nn

    from deconvviz.images.preprocessing import Preprocessing
    from deconvviz.models.weights import FoundWeights


class NamedProvider(ModelProvider):
    """Base class of minivgg's and torchvision's providers; `weights.NamedNetworks` describes its methods."""

    registry: ClassVar[str] = PLAIN
    form: ClassVar[str] = "a name (see: deconvviz models)"

    @abstractmethod
    def build(
        self, name: str, *, seed: int | None = 0, classes: int | None = None, device: str = "cpu"
    ) -> nn.Module: ...

    @abstractmethod
    def published(self, name: str, weights: str, *, progress: bool) -> FoundWeights | None: ...

    @abstractmethod
    def weight_names(self, name: str) -> Sequence[str]: ...

    @abstractmethod
    def expected(self, name: str) -> tuple[Preprocessing, tuple[str, ...]]: ...

    def sketch(self, spec: ModelSpec) -> LoadedModel:
        from deconvviz.models.weights import WeightsInfo

        module = self.build(spec.name, device="meta")
        preprocessing, _ = self.expected(spec.name)
        return LoadedModel(module, WeightsInfo(spec.name, "none", "no weights", preprocessing, ()), spec)

    def load(self, spec: ModelSpec, weights: str | Path, seed: int) -> LoadedModel:
        from deconvviz.models.weights import load_network

        module, info = load_network(self, spec.name, weights, seed=seed)
        return LoadedModel(module, info, spec, seed if info.spec == "random" else None)

    def shapes(self, spec: ModelSpec, module: nn.Module) -> nn.Module | None:
        from deconvviz.models.state_dict import outputs

        return self.build(spec.name, device="meta", classes=outputs(module))
