"""Interface of all methods that ask what in an image activates a unit, and the registry of methods by name.

Importing it is fast: the module of a method is imported when the method is first used.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from deconvviz.errors import ImageError, MethodError
from deconvviz.similar_names import nearest

if TYPE_CHECKING:
    from torch import Tensor

    from deconvviz.engine.units import Unit
    from deconvviz.layers import Layer
    from deconvviz.network import Images, Network
    from deconvviz.recording import Recording

Report: TypeAlias = Callable[[int, int], None]
"""Progress callback: number of finished steps and number of all steps."""

_MODULES = {  # the module that registers each method, in the order of columns
    "deconvnet": "deconvviz.methods.own",
    "guided": "deconvviz.methods.own",
    "gradient": "deconvviz.methods.own",
    "input_x_gradient": "deconvviz.methods.own",
    "contribution": "deconvviz.methods.contribution",
    "contrast": "deconvviz.methods.contribution",
    "integrated_gradients": "deconvviz.methods.captum_methods",
    "gradient_shap": "deconvviz.methods.captum_methods",
    "smoothgrad": "deconvviz.methods.captum_methods",
    "occlusion": "deconvviz.methods.captum_methods",
    "gradcam": "deconvviz.methods.captum_methods",
    "lrp": "deconvviz.methods.captum_lrp",
}

DEFAULT_METHODS = ("deconvnet", "guided", "gradient", "contribution", "contrast")


@dataclass(frozen=True, eq=False)
class Subject:
    """One image in a network, recorded up to a layer. Methods explain units of this layer in this image.

    `class_index` is the class that Grad-CAM explains; None if no class was named.
    """

    network: Network
    layer: Layer
    recording: Recording
    class_index: int | None = None

    @classmethod
    def record(
        cls,
        network: Network,
        image: Images,
        layer: str | Layer,
        methods: Sequence[str] = (),
        *,
        class_name: str | int | None = None,
    ) -> Subject:
        """Record one image with everything that some methods need.

        Args:
            network: The network.
            image: One image, or a prepared tensor (1, C, H, W).
            layer: The layer of the units.
            methods: Names of the methods that will be used.
            class_name: Class for Grad-CAM: a name, a part of a name that only one class has, or an index.

        Raises:
            ImageError: If several images are given, or as for `Network.record`.
            LayerError: As for `Network.record`.
            MethodError: If a method does not exist.
            UnitError: If no class or several classes match.
        """
        needed = dict.fromkeys(name for one in methods for name in method(one).needs)
        class_index = None if class_name is None else network.class_index(class_name)
        recording = network.record(image, layer, scores=True, methods=tuple(needed))
        if len(recording) != 1:
            raise ImageError(f"methods explain one image at a time, but {len(recording)} were given")
        return cls(network, recording.layers[0], recording, class_index)

    @property
    def inputs(self) -> Tensor:
        """The prepared image, (1, C, H, W)."""
        return self.recording.inputs

    @property
    def explained_class(self) -> int | None:
        """The class that Grad-CAM explains: the named class, else the top class, else None."""
        if self.class_index is not None:
            return self.class_index
        top = self.recording.top_class(0)
        return None if top is None else top.index

    def activations(self) -> Tensor:
        """Return a copy of the activations of the layer: (1, C, h, w), or (1, F) if fully connected."""
        return self.recording.activations(self.layer)


class Method(ABC):
    """A method that maps a unit to the pixels of an image. There is one instance of each method."""

    name: str  # for example "deconvnet"
    title: str  # column title in figures, for example "guided backprop"
    source: str  # for example "Springenberg et al. 2014"
    signed: bool = False  # whether the map is the contribution of each pixel, with its sign
    takes_signals: bool = False  # whether `maps` accepts a tensor of signals instead of units
    one_valued: bool = False  # whether all colours of a pixel have the same value (Grad-CAM)
    needs: tuple[str, ...] = ()  # methods of the engine that must be recorded (see `Network.record`)
    meaning: str = ""  # what the values of a map are, in one clause

    @property
    def summed(self) -> bool:
        """Whether figures show the sum over colours of a map."""
        return self.signed or self.one_valued

    @abstractmethod
    def cost(self, units: int) -> str:
        """Return the passes that maps of some units cost, such as ``50 forward and backward passes``."""

    def unsupported(self, subject: Subject) -> str:
        """Return why the method cannot be used for a subject, as a clause; empty if it can."""
        return ""

    @abstractmethod
    def maps(self, subject: Subject, units: Sequence[Unit] | Tensor, report: Report | None = None) -> Tensor:
        """Return one map for each of K units.

        Args:
            subject: The recorded image, made with the name of this method.
            units: Units of the layer, or, if `takes_signals`, a tensor (K, *layer) of signals.
            report: Called with the number of finished steps and the number of all steps.

        Returns:
            (K, C, H, W), float, on the CPU: values in the network's input. Each map is that of the unit's
            own activation, not of a signal of 1.

        Raises:
            MethodError: If the method cannot be used for this subject.
            UnitError: If a unit does not exist.
        """

    def __repr__(self) -> str:
        return f"<Method {self.name}: {self.title}, {self.source}>"


class _Registry(Mapping[str, Method]):
    """Methods by name, in the order of columns. The module of a method is imported at first use."""

    def __init__(self) -> None:
        self._registered: dict[str, Method] = {}

    def add(self, one: Method) -> None:
        self._registered[one.name] = one

    def __getitem__(self, name: str) -> Method:
        if name in _MODULES and name not in self._registered:
            importlib.import_module(_MODULES[name])
        return self._registered[name]

    def __contains__(self, name: object) -> bool:
        return name in _MODULES or name in self._registered

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*_MODULES, *self._registered]))

    def __len__(self) -> int:
        return len(list(iter(self)))


_registry = _Registry()
METHODS: Mapping[str, Method] = _registry
"""All methods by name, in the order of columns."""


def register(one: Method) -> None:
    """Add a method to `METHODS`."""
    _registry.add(one)


def method(name: str) -> Method:
    """Return the method with this name. Raises MethodError, which names all methods."""
    check_method(name)
    return METHODS[name]


def check_method(name: str) -> None:
    """Raise MethodError, which names all methods, if there is no method with this name."""
    if name not in METHODS:
        near = nearest(name, METHODS, 1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise MethodError(f"no method {name!r}: there are {', '.join(METHODS)}.{meant}")
