"""The inputs of a network: their names, which of them are pictures, and how given values are prepared."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deconvviz.engine.network_inputs import LIST, NAMES, ONE, POSITIONS, NetworkInputs
from deconvviz.errors import ImageError, NetworkError
from deconvviz.images.image import InputImage, as_image, open_image
from deconvviz.images.input_array import InputArray, is_band_file, read_array
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.images.recorded_input import RecordedInput
from deconvviz.paths import existing_file, reason_of
from deconvviz.printable_names import printable_path
from deconvviz.wording import listed

Shape = tuple[int, ...]
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class InputPlan:
    """The inputs that a network needs, in the order of the arguments of its forward().

    `names` has one entry for each, or a single empty one for a network with one input. `shapes` are those,
    without the batch, of the inputs that are not pictures. `arguments` are all arguments of forward(); None
    if it takes any.
    """

    names: tuple[str, ...] = ("",)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    arguments: tuple[str, ...] | None = None
    takes_list: bool = False  # whether the network is called with a list of pictures (C, H, W)

    @classmethod
    def of(
        cls,
        module: nn.Module,
        given: Sequence[str] | Mapping[str, Sequence[int] | None] | None,
        *,
        takes_list: bool = False,
    ) -> InputPlan:
        """Return the plan for the argument `inputs` of `Network`. Raise NetworkError if a name is wrong."""
        required, arguments = _arguments(module)
        if takes_list and given is not None:
            raise NetworkError(
                "a network that takes a list of pictures has one input: leave {option} out",
                option="inputs=...",
            )
        if takes_list:
            return cls(takes_list=True)
        if given is None:
            return cls(required if len(required) > 1 else ("",), {}, arguments)
        if isinstance(given, str) or not given:
            raise NetworkError(f"inputs={given!r}: give the names of the inputs, such as ('left', 'right')")
        shapes = given if isinstance(given, Mapping) else dict.fromkeys(given)
        plan = cls(tuple(shapes), {n: tuple(s) for n, s in shapes.items() if s is not None}, arguments)
        plan.check_names(shapes)
        return plan

    @property
    def several(self) -> bool:
        return len(self.names) > 1

    def check_names(self, names: Mapping[str, Any]) -> None:
        """Raise NetworkError for a name that is not an argument of forward()."""
        wrong = [name for name in names if self.arguments is not None and name not in self.arguments]
        if wrong:
            there = listed(self.arguments or (), 8)
            raise NetworkError(f"forward() has no argument {wrong[0]!r}: there are {there}")

    def blank(self, preprocessing: Preprocessing, like: Tensor) -> NetworkInputs:
        """Return zeros for every input."""
        shapes = [self.shapes.get(name, preprocessing.input_shape) for name in self.names]
        zeros = [torch.zeros((1, *shape), device=like.device, dtype=like.dtype) for shape in shapes]
        pictures = [n for n, name in enumerate(self.names) if name not in self.shapes]
        form = LIST if self.takes_list else NAMES if self.shapes or self.several else ONE
        return NetworkInputs(tuple(zeros), self.names, form, pictures[0] if pictures else 0)


def _arguments(module: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Return the required arguments of a module's forward(), and all of them; None if it takes any."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return (), None
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)
    positional = [one for one in parameters if one.kind in _POSITIONAL]
    required = tuple(one.name for one in positional if one.default is inspect.Parameter.empty)
    named = [one.name for one in parameters if one.kind is not inspect.Parameter.VAR_POSITIONAL]
    return required, None if takes_any else tuple(named)


@dataclass(frozen=True)
class Preparation:
    """Turns the values that a user gives into the tensors of a network."""

    network: str
    plan: InputPlan
    preprocessing: Preprocessing
    device: torch.device
    dtype: torch.dtype

    def prepare(self, given: Any) -> tuple[tuple[RecordedInput, ...], NetworkInputs]:
        """Return the inputs with their pictures, and the tensors of the call, in the same order.

        Raises:
            ImageError: If an input is missing, cannot be read, or has the wrong shape.
            NetworkError: If a name is not an argument of forward().
        """
        values, form = self._values(given)
        inputs = [self._one(name, value) for name, value in values.items()]
        if form == LIST and len(inputs[0].tensor) > 1:
            raise ImageError(
                f"{self.network} takes pictures of their own sizes, one in each recording, but "
                f"{len(inputs[0].tensor)} were given: record them one by one"
            )
        counts = {one.name: len(one.tensor) for one in inputs}
        if len(set(counts.values())) > 1:
            there = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise ImageError(f"the inputs of {self.network} are of different numbers of images: {there}")
        pictures = [number for number, one in enumerate(inputs) if one.is_picture]
        tensors = tuple(one.tensor for one in inputs)
        call = NetworkInputs(tensors, tuple(values), form, pictures[0] if pictures else 0)
        if all(one.is_constant for one in inputs):
            raise ImageError(f"no input of {self.network} holds floating point numbers: nothing is projected")
        return tuple(inputs), call

    def _values(self, given: Any) -> tuple[dict[str, Any], str]:
        """Return the value of each input by name, and the form of the call."""
        if isinstance(given, Mapping):
            self.plan.check_names(given)
            if missing := [name for name in self.plan.names if name and name not in given]:
                raise ImageError(f"{self._has()}: {', '.join(missing)} is missing")
            return dict(given), NAMES
        if not self.plan.several:
            return {self.plan.names[0]: given}, LIST if self.plan.takes_list else ONE
        if not isinstance(given, (tuple, list)) or len(given) != len(self.plan.names):
            what = f"{len(given)} were given" if isinstance(given, (tuple, list)) else "one was given"
            raise ImageError(f"{self._has()}, but {what}. Give a tuple, or a dictionary by these names")
        return dict(zip(self.plan.names, given, strict=True)), NAMES if self.plan.shapes else POSITIONS

    def _has(self) -> str:
        names = ", ".join(name for name in self.plan.names if name)
        return f"{self.network} has {len(self.plan.names)} input{'s' * self.plan.several} ({names})"

    def _one(self, name: str, value: Any) -> RecordedInput:
        if self._is_array(name, value):
            path = Path(value) if isinstance(value, (str, os.PathLike)) else None
            return RecordedInput(name, self._array(name, value), is_picture=False, path=path)
        if isinstance(value, Tensor):
            return RecordedInput(name, self._checked(name, value))
        if self.preprocessing.array or self._has_bands(value):
            return self._arrays(name, value)
        self.preprocessing.check_reads_images(self.network)
        several = value if isinstance(value, (list, tuple)) else [value]
        read = tuple(_read(image) for image in several)
        if not read:
            raise ImageError("no image was given")
        applied = [self.preprocessing.apply(image.rgb, image.reduced) for image in read]
        if len({one.shape for one in applied}) > 1:
            raise ImageError(
                f"{self.network} takes pictures of their own sizes, one in each recording, but {len(read)} "
                "were given: record them one by one"
            )
        inputs = torch.stack(applied)
        return RecordedInput(name, inputs.to(self.device, self.dtype), read)

    def _arrays(self, name: str, value: Any) -> RecordedInput:
        """Return the input for one or several arrays (C, ...), or for their files."""
        several = value if isinstance(value, (list, tuple)) else [value]
        read = tuple(read_array(one, self.preprocessing.input_shape) for one in several)
        if not read:
            raise ImageError("no array was given")
        inputs = [self.preprocessing.apply_array(one.values, one.described) for one in read]
        if len({one.shape for one in inputs}) > 1:
            there = ", ".join(dict.fromkeys(str(tuple(one.shape)) for one in inputs))
            raise ImageError(f"arrays of one recording have one shape, not {there}")
        return RecordedInput(name, torch.stack(inputs).to(self.device, self.dtype), read)

    def _has_bands(self, value: Any) -> bool:
        """Return whether the network reads several bands, and a value has them: arrays or their files."""
        several = value if isinstance(value, (list, tuple)) else [value]
        return self.preprocessing.reads_bands and bool(several) and all(map(_may_have_bands, several))

    def _is_array(self, name: str, value: Any) -> bool:
        """Return whether a value is not a picture: by the plan, by its file, or by its shape and type."""
        if name in self.plan.shapes or not name:
            return name in self.plan.shapes
        if name in self.plan.names and not (self.preprocessing.reads_images or isinstance(value, Tensor)):
            return False
        if isinstance(value, (str, os.PathLike)):
            return os.fspath(value).endswith(".npy")
        if isinstance(value, Tensor):
            channels = len(self.preprocessing.mean)
            prepared = value.dim() == 4 and value.shape[1] == channels and value.is_floating_point()
            return not prepared and name not in self.plan.names
        return isinstance(value, np.ndarray) and (value.dtype != np.uint8 or value.ndim not in (2, 3))

    def _array(self, name: str, value: Any) -> Tensor:
        """Return an array as a tensor with a batch. It may lack the batch if its shape is declared."""
        if isinstance(value, (str, os.PathLike)):
            value = _load(Path(value))
        tensor = value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
        shape = self.plan.shapes.get(name)
        if shape is not None and tuple(tensor.shape) == shape:
            tensor = tensor[None]
        if shape is not None and tuple(tensor.shape[1:]) != shape:
            raise ImageError(f"{self._the(name)} has shape (B, {_comma(shape)}), not {tuple(tensor.shape)}")
        if tensor.dim() == 0 or 0 in tensor.shape:
            raise ImageError(
                f"{self._the(name)} has no entry for each image: its shape is {tuple(tensor.shape)}"
            )
        if not tensor.is_floating_point():
            return tensor.to(self.device)
        return self._finite(name, tensor).to(self.device, self.dtype)

    def _checked(self, name: str, tensor: Tensor) -> Tensor:
        shape = self.preprocessing.input_shape
        what = f"a prepared tensor{f' for {name}' if name else ''}"
        if tensor.dim() != len(shape) + 1 or tensor.shape[1] != shape[0] or 0 in tensor.shape:
            axes = {2: "T", 3: "H, W"}.get(len(shape), "D, H, W")
            raise ImageError(f"{what} has shape (B, {shape[0]}, {axes}), not {tuple(tensor.shape)}")
        if not tensor.is_floating_point():
            raise ImageError(
                f"{what} holds floating point numbers, not {tensor.dtype}; "
                "give pixel values 0 to 255 as a uint8 array (H, W, 3)"
            )
        plain = tensor.detach()
        plain = plain if type(plain) is Tensor else plain.as_subclass(Tensor)
        return self._finite(name, plain).to(self.device, self.dtype)

    def _finite(self, name: str, tensor: Tensor) -> Tensor:
        if not (bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())):  # the sum alone is quicker
            raise ImageError(f"{f'the input {name}' if name else 'the tensor'} holds NaN or infinity")
        return tensor

    def _the(self, name: str) -> str:
        return f"the input {name} of {self.network}"


def _may_have_bands(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return bool(value.dtype != np.uint8) or value.shape[-1:] != (3,)  # else it is an image
    return isinstance(value, InputArray) or is_band_file(value)


def _read(image: Any) -> InputImage:
    return open_image(image) if isinstance(image, (str, os.PathLike)) else as_image(image)


def _load(path: Path) -> np.ndarray[Any, Any]:
    file = existing_file(path, ImageError, ".npy file")
    try:
        array: np.ndarray[Any, Any] = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as reason:
        raise ImageError(f"{printable_path(file)} is not a .npy file: {reason_of(reason)}") from reason
    return array


def _comma(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
