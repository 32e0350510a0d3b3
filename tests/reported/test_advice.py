"""Error messages of networks that do not run on the input that is made for them fit the cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.snapshots import left_as_it_was, pictures, wrapped
from torch import Tensor, nn

from deconvviz.errors import NetworkError

SIZE = "size="


def message_of(module: nn.Module, *, size: int = 8) -> str:
    """Return the error message of a network, and check that it is one line with the name of its class."""
    net = wrapped(module, size=size)
    with left_as_it_was(module):
        with pytest.raises(NetworkError) as error:
            _ = net.layers
        with pytest.raises(NetworkError) as same_error:
            net.record(pictures(size=size), "output")
        with pytest.raises(NetworkError):
            net.coverage()
    message = str(error.value)
    assert message == str(same_error.value)
    assert "\n" not in message and type(module).__name__ in message
    return message


class SeveralInputs(nn.Module):
    """Base class of networks with several inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)


class WithMask(SeveralInputs):
    """Minimal reproduction of the reported bug."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        result: Tensor = self.conv(x) * mask
        return result


class WithKeyword(SeveralInputs):
    def forward(self, x: Tensor, *, timestep: int) -> Tensor:
        result: Tensor = self.conv(x) * timestep
        return result


class ThreeInputs(SeveralInputs):
    def forward(self, x: Tensor, left: Tensor, right: Tensor, scale: float = 1.0) -> Tensor:
        result: Tensor = self.conv(x + left + right) * scale
        return result


class Siamese(SeveralInputs):
    """Network with other argument names than `x`."""

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        result: Tensor = self.conv(template) + self.conv(search)
        return result


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (WithMask, ("x", "mask")),
        (ThreeInputs, ("x", "left", "right")),
        (Siamese, ("template", "search")),
    ],
)
def test_network_with_several_required_inputs_has_layers(
    make: Callable[[], nn.Module], names: tuple[str, ...]
) -> None:
    module = make()
    module.conv = nn.Conv2d(3, 3, 1)
    net = wrapped(module)
    assert net.inputs == names and "output" in net.layers.names


def test_message_for_a_required_keyword_advises_inputs_and_no_size() -> None:
    message = message_of(WithKeyword())
    assert "takes more than one input" in message and "inputs=" in message and SIZE not in message
    assert "TypeError" in message


def test_message_for_an_input_that_is_not_a_picture_advises_its_shape() -> None:
    net = wrapped(WithMask())  # four channels times a mask of three
    with pytest.raises(NetworkError, match=r"all its inputs were taken for pictures: .*inputs="):
        _ = net.layers


def test_network_with_optional_inputs_has_layers() -> None:
    class Optional(SeveralInputs):
        def forward(self, x: Tensor, mask: Tensor | None = None, **more: Any) -> Tensor:
            result: Tensor = self.conv(x) if mask is None else self.conv(x * mask)
            return result

    assert wrapped(Optional()).layers.names == ["conv", "output"]


class Clips(nn.Module):
    """Network that unpacks the five dimensions of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, times, channels, height, width = x.shape
        result: Tensor = self.conv(x.reshape(batch * times, channels, height, width))
        return result


class Permuting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 1, 3, 4)


def volumes() -> nn.Module:
    return nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU())


@pytest.mark.parametrize(
    "make",
    [
        volumes,
        lambda: nn.Sequential(nn.Conv3d(2, 4, 1)),
        lambda: nn.Sequential(nn.BatchNorm3d(3), nn.Conv3d(3, 4, 3)),
        lambda: nn.Sequential(nn.Identity(), nn.InstanceNorm3d(3, affine=True), nn.Conv3d(3, 2, 1)),
        Clips,
    ],
    ids=["convolution", "convolution of 2 channels", "batch norm", "instance norm", "unpacked shape"],
)
def test_message_for_a_network_of_volumes_states_five_dimensions(make: Callable[[], nn.Module]) -> None:
    message = message_of(make())
    assert "expects 5-D input" in message and SIZE not in message


def test_message_for_a_network_that_permutes_five_dimensions_does_not_advise_a_size() -> None:
    assert SIZE not in message_of(nn.Sequential(Permuting(), nn.Conv3d(3, 4, 1)))


class Rows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        batch, channels, length = x.shape
        return x.reshape(batch, channels * length)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU()),
        lambda: nn.Sequential(nn.Identity(), nn.Conv1d(8, 2, 1)),
        lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Conv1d(3, 4, 3)),
        lambda: nn.Sequential(nn.Conv1d(3, 4, 1, bias=False), nn.MaxPool1d(2)),
        lambda: nn.Sequential(nn.LSTM(3, 4)),
        lambda: nn.Sequential(Rows(), nn.Linear(24, 2)),
    ],
    ids=["convolution", "convolution of 8 channels", "batch norm", "pool", "recurrent", "unpacked shape"],
)
def test_message_for_a_network_of_sequences_states_three_dimensions(make: Callable[[], nn.Module]) -> None:
    message = message_of(make())
    assert "expects 3-D input" in message and SIZE not in message


class Merged(nn.Module):
    """Module that requires a call of its own `eval`, not only the flag `training`."""

    def __init__(self, message: str, error: type[Exception] = RuntimeError) -> None:
        super().__init__()
        self.conv, self.ready = nn.Conv2d(3, 4, 3), False
        self.message, self.error = message, error

    def train(self, mode: bool = True) -> Merged:
        self.ready = not mode
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            raise self.error(self.message)
        result: Tensor = self.conv(x)
        return result


EVAL_MESSAGES = [
    "call eval() first",
    "the adapters are not merged: call model.eval() before inference",
    "Please call `.eval()` before you run this model.",
    "not ready; did you forget eval()?",
]


@pytest.mark.parametrize("message", EVAL_MESSAGES)
@pytest.mark.parametrize("error", [RuntimeError, ValueError, AssertionError])
def test_message_for_a_network_that_requires_eval_advises_to_call_it(
    message: str, error: type[Exception]
) -> None:
    found = message_of(nn.Sequential(Merged(message, error)).train())
    assert "call module.eval() first" in found and SIZE not in found


def test_network_that_requires_eval_runs_after_the_user_has_called_it() -> None:
    module = nn.Sequential(Merged("call eval() first"), nn.ReLU()).train()
    net = wrapped(module)
    with pytest.raises(NetworkError, match=r"module\.eval\(\)"):
        _ = net.layers
    module.eval()
    with left_as_it_was(module):
        assert net.layers.names == ["0.conv", "0", "1", "output"]
        assert len(net.record(pictures(), "1")) == 1


class Casting(nn.Module):
    def __init__(self, dtype: Any) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)


def half_in_the_middle() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1).half())


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(Casting(torch.float64), nn.Conv2d(3, 4, 1)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Casting(torch.long), nn.Conv2d(4, 4, 1)),
        half_in_the_middle,
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(256, 2).double()),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(256, 2).bfloat16()),
        lambda: nn.Sequential(Casting(torch.float32), nn.Embedding(4, 4)),
    ],
    ids=["cast to double", "cast to integers", "half", "double", "bfloat16", "embedding of floats"],
)
def test_message_for_mismatched_dtypes_does_not_advise_a_size(make: Callable[[], nn.Module]) -> None:
    message = message_of(make())
    assert SIZE not in message and "RuntimeError" in message


def test_message_for_mismatched_devices_does_not_advise_a_size() -> None:
    """The module raises the error message that PyTorch raises on a machine with a GPU."""

    class OtherDevice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError(
                "Expected all tensors to be on the same device, "
                "but found at least two devices, cuda:0 and cpu!"
            )

    assert SIZE not in message_of(nn.Sequential(nn.Conv2d(3, 4, 1), OtherDevice()))


def test_message_for_weights_on_another_device_does_not_advise_a_size() -> None:
    class OtherDevice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError(
                "Input type (torch.FloatTensor) and weight type (torch.cuda.FloatTensor) should be the same "
                "or input should be a MKLDNN tensor and weight is a dense tensor"
            )

    assert SIZE not in message_of(nn.Sequential(OtherDevice(), nn.Conv2d(3, 4, 1)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(5, 2)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 11), nn.ReLU()),
        lambda: nn.Sequential(nn.MaxPool2d(16), nn.Conv2d(3, 4, 1)),
        lambda: nn.Sequential(nn.Conv2d(5, 4, 1)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Unflatten(2, (3, 3))),
    ],
    ids=["linear", "large kernel", "large pool", "channels", "unflatten"],
)
def test_message_for_other_errors_advises_a_size(make: Callable[[], nn.Module]) -> None:
    message = message_of(make())
    assert "does not run on an input of 3 x 8 x 8" in message
    assert "deconvviz.Network(module, size=..., mean=..., std=...)" in message
    assert "more than one input" not in message and "-D input" not in message and "eval()" not in message


def test_error_that_mentions_an_evaluation_still_advises_a_size() -> None:

    class Evaluating(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[-1] != 32:
                raise ValueError("evaluation needs images of 32 x 32")
            return x

    message = message_of(nn.Sequential(Evaluating(), nn.Conv2d(3, 4, 1)))
    assert SIZE in message and "module.eval()" not in message
