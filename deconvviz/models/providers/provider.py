"""Interface of one kind of network. Each kind implements it in a file of its own."""

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
    """A module with the origin of its weights, its spec and its seed."""

    module: nn.Module
    info: WeightsInfo  # where the weights come from, preprocessing, class names, notes
    spec: ModelSpec  # with the digest of the user's file, if one was run
    seed: int | None = None  # of random weights; None if no weights are random
    network: object = None  # the deconvviz.Network that a user's function returned, if any
    shapes: nn.Module | None = None  # the same network with any weights, for reading its layers quickly


@dataclass(frozen=True)
class ListedModel:
    """One network in the list of ``deconvviz models``."""

    name: str
    weights: str | None  # name of the default weights
    cached: Path | None  # their file on this machine; None if they are not downloaded
    download_mb: float | None
    ships_inside: bool = False


class ModelProvider(ABC):
    """One kind of network: how it is named, built and loaded.

    A new kind needs one file with a subclass and one line in `deconvviz.models.providers`. The file must be
    fast to import, because shell completion and ``--help`` import it: heavy packages are imported in methods.
    """

    registry: ClassVar[str]
    """`ModelSpec.registry` of its networks; manifests contain it."""
    form: ClassVar[str]
    """Form of the names, for help texts and messages: ``timm:NAME``."""
    prefix: ClassVar[str] = ""
    """Common prefix of all names, for shell completion: ``timm:``."""
    package: ClassVar[str | None] = None
    """Package whose version determines the names and layers; None: shell completion offers none."""
    takes_arguments: ClassVar[bool] = False
    runs_code: ClassVar[bool] = False
    """Whether a user's own code is run to build a network."""

    @abstractmethod
    def parse(self, text: str) -> ModelSpec | None:
        """Return the spec of a network of this kind, without arguments; None for any other text."""

    def owns(self, spec: ModelSpec) -> bool:
        """Return True if a network is of this kind."""
        return spec.registry == self.registry

    def check(self, spec: ModelSpec, weights: str | Path | None = None) -> None:
        """Raise NetworkError or WeightsError for errors that can be found without importing torch.

        Later errors are found by `sketch` and `load`. `weights` is the argument of `load`; None if no weights
        are requested.
        """
        if weights is not None and str(weights) not in ("default", "random"):
            self.check_weights(spec, weights)

    def check_weights(self, spec: ModelSpec, weights: str | Path) -> None:
        """Check weights other than ``default`` and ``random``, as a part of `check`."""
        check_weights_file(weights, f"named weights of {spec.text}: default, random")

    @abstractmethod
    def sketch(self, spec: ModelSpec) -> LoadedModel:
        """Build the network without its weights; nothing is downloaded. Raises NetworkError.

        A user's code is run, because only it knows the shapes.
        """

    @abstractmethod
    def load(self, spec: ModelSpec, weights: str | Path, seed: int) -> LoadedModel:
        """Build the network in evaluation mode with its weights.

        `weights`: ``default``, ``random`` (from the seed), or a file. Raises NetworkError, WeightsError.
        """

    def shapes(self, spec: ModelSpec, module: nn.Module) -> nn.Module | None:
        """Build a loaded module again on the meta device, for fast forward passes; None if impossible."""
        return None

    def versions(self) -> Mapping[str, str]:
        """Return the versions of packages that affect results, in addition to torch and torchvision."""
        return {}

    def names(self) -> Sequence[str]:
        """Return all names, without the prefix, for shell completion."""
        return ()

    def listed(self) -> Iterable[ListedModel]:
        """Return the networks that ``deconvviz models`` lists."""
        return ()
