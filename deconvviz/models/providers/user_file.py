"""Provider of networks that a function in a user's file returns: ``path/to/file.py:factory``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from deconvviz.errors import NetworkError
from deconvviz.models.model_spec import ModelSpec
from deconvviz.models.providers.provider import LoadedModel, ModelProvider
from deconvviz.models.weights_file import check_weights_file
from deconvviz.paths import existing_file

if TYPE_CHECKING:
    from torch import nn

    from deconvviz.images.preprocessing import Preprocessing

_FILE = re.compile(r"(?P<file>.+\.py)(?::(?P<function>.*))?", re.DOTALL)
_ASSUMED = (
    "224 px and ImageNet's mean and deviation are assumed; return deconvviz.Network(module, size=..., "
    "mean=..., std=...) to change them"
)


class UserFile(ModelProvider):
    """Provider of networks from a user's file, which is run even for a sketch, to find out the shapes."""

    registry: ClassVar[str] = "file"
    form: ClassVar[str] = "path/to/file.py:factory"
    takes_arguments: ClassVar[bool] = True
    runs_code: ClassVar[bool] = True

    def parse(self, text: str) -> ModelSpec | None:
        found = _FILE.fullmatch(text)
        return ModelSpec(self.registry, found["function"] or "", file=Path(found["file"])) if found else None

    def check(self, spec: ModelSpec, weights: str | Path | None = None) -> None:
        existing_file(spec.file or "", NetworkError, "Python file")
        super().check(spec, weights)

    def check_weights(self, spec: ModelSpec, weights: str | Path) -> None:
        check_weights_file(weights, _others(spec))

    def sketch(self, spec: ModelSpec) -> LoadedModel:
        return self.load(spec, "default", 0)

    def load(self, spec: ModelSpec, weights: str | Path, seed: int) -> LoadedModel:
        from torch import nn

        from deconvviz.models.fit import fit
        from deconvviz.models.user_code import make
        from deconvviz.models.weights import WeightsInfo, weights_of_file

        made = make(spec, seed=seed)
        module, preprocessing, notes = _parts(made.product, spec)
        requested, source, lacking = str(weights), f"created by {spec.short}", None
        if requested == "random":
            source += f", seed {seed}"
        elif requested != "default":
            given = weights_of_file(weights, module, _others(spec), preprocessing.input_shape)
            shape = preprocessing.input_shape
            lacking = fit(module, given.state, network=spec.short, source=given.place, shape=shape)
            source, notes = requested, (*notes, *given.notes)
        info = WeightsInfo(spec.short, requested, source, preprocessing, (), notes)
        return LoadedModel(
            module,
            info.without(lacking),
            replace(spec, file=spec.file and spec.file.resolve(), digest=made.digest),
            seed,
            None if isinstance(made.product, nn.Module) else made.product,
        )


def _others(spec: ModelSpec) -> str:
    return f"named weights of {spec.short}: default, random"


def _parts(product: Any, spec: ModelSpec) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    """Return the module, the preprocessing and notes on assumptions, for the return value of a function.

    The value may be a deconvviz.Network, which this package cannot import: it has a module and a
    preprocessing.
    """
    from torch import nn

    from deconvviz.engine.wrappers import unwrapped
    from deconvviz.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
    from deconvviz.models.expected_input import preprocessing_of_config
    from deconvviz.models.recordable import not_a_module

    if isinstance(product, nn.Module):
        product = unwrapped(product)
        for name in ("pretrained_cfg", "default_cfg"):
            config = getattr(product, name, None)
            if isinstance(config, Mapping) and config:
                return product, preprocessing_of_config(config), ()
        return product, Preprocessing.simple(224, IMAGENET_MEAN, IMAGENET_STD), (_ASSUMED,)
    module, preprocessing = (getattr(product, name, None) for name in ("module", "preprocessing"))
    if isinstance(module, nn.Module) and isinstance(preprocessing, Preprocessing):
        return module, preprocessing, ()
    raise NetworkError(f"{spec.text} did not return a network: {not_a_module(product)}")
