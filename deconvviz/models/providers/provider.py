"""What deconvviz asks of one kind of network: a small class, with one file for each kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from deconvviz.models.model_spec import ModelSpec
from deconvviz.models.weights_file import check_weights_file

if TYPE_CHECKING:
    from torch import nn

    from deconvviz.models.weights import WeightsInfo


@dataclass(frozen=True)
class LoadedModel:
    """A module with everything that is known about it."""

    module: nn.Module
    info: WeightsInfo  # where the weights come from, preprocessing, class names, notes
    spec: ModelSpec  # with the digest of the file, if one was run
    seed: int | None = None  # of weights that were drawn at random; None if none were
    network: object = None  # the deconvviz.Network that a user's function returned, if it did
    shapes: nn.Module | None = None  # the same network with any weights, where its layers are read quickly


@dataclass(frozen=True)
class ListedModel:
    """One line of ``deconvviz models``."""

    name: str
    weights: str | None  # name of the default weights
    cached: Path | None  # where they are on this machine
    download_mb: float | None
    ships_inside: bool = False


class ModelProvider(ABC):
    """One kind of network: how it is named, built and loaded.

    A new kind is one file with a subclass and one line in `deconvviz.models.providers`. What is imported with
    the file must be light, because shell completion and ``--help`` import it; methods import what they need.
    """

    registry: ClassVar[str]
    """`ModelSpec.registry` of its networks; manifests contain it."""
    form: ClassVar[str]
    """How a user names one, for help texts and messages: ``timm:NAME``."""
    prefix: ClassVar[str] = ""
    """What every name begins with, for shell completion: ``timm:``."""
    package: ClassVar[str | None] = None
    """The package whose version decides which names and layers there are; None: nothing is completed."""
    takes_arguments: ClassVar[bool] = False
    runs_code: ClassVar[bool] = False
    """Whether a user's own code is run to build a network."""

    @abstractmethod
    def parse(self, text: str) -> ModelSpec | None:
        """Read a network as a user names it, without arguments; None for any other text."""

    def owns(self, spec: ModelSpec) -> bool:
        """Whether a network is of this kind."""
        return spec.registry == self.registry

    def check(self, spec: ModelSpec, weights: str | Path | None = None) -> None:
        """Raise NetworkError or WeightsError for what can be seen to be wrong without importing torch.

        What passes may still be wrong: `sketch` and `load` check everything. `weights` as in `load`; None if
        none are asked for.
        """
        if weights is not None and str(weights) not in ("default", "random"):
            self.check_weights(spec, weights)

    def check_weights(self, spec: ModelSpec, weights: str | Path) -> None:
        """Do the part of `check` that concerns weights other than ``default`` and ``random``."""
        check_weights_file(weights, f"weights of {spec.text} by name: default, random")

    @abstractmethod
    def sketch(self, spec: ModelSpec) -> LoadedModel:
        """Build the network without its weights; nothing is downloaded. Raises NetworkError.

        Where only a user's code knows the shapes, the code is run.
        """

    @abstractmethod
    def load(self, spec: ModelSpec, weights: str | Path, seed: int) -> LoadedModel:
        """Build the network in evaluation mode with its weights.

        `weights`: ``default``, ``random`` (from the seed), or a file. Raises NetworkError, WeightsError.
        """

    def shapes(self, spec: ModelSpec, module: nn.Module) -> nn.Module | None:
        """Build a loaded module again on the meta device, where forward passes cost little, if possible."""
        return None

    def versions(self) -> Mapping[str, str]:
        """Return the versions of packages that take part in the numbers, besides torch and torchvision."""
        return {}

    def names(self) -> Sequence[str]:
        """Return all names, without the prefix, for shell completion."""
        return ()

    def listed(self) -> Iterable[ListedModel]:
        """Return the networks that ``deconvviz models`` lists."""
        return ()
