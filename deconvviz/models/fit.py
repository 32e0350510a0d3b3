"""Load a state dict into a network, or raise a WeightsError that lists every mismatch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from torch import Tensor, nn

from deconvviz.engine.wrappers import unwrapped
from deconvviz.errors import WeightsError
from deconvviz.models import minivgg
from deconvviz.models.catalog import SHIPPED
from deconvviz.models.missing_weights import MissingWeights, Shape, clear, missing_weights
from deconvviz.models.state_dict import differences, only_classes_differ, with_current_names

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")


def fit(
    module: nn.Module, state: dict[str, Tensor], *, network: str, source: str, shape: Shape | None = None
) -> MissingWeights | None:
    """Load the weights into the module. Raises WeightsError that lists every mismatch.

    If the `shape` of the network's input is given, weights of only the lower layers are accepted too: the
    missing tensors are then filled with NaN and returned. Wrappers such as `DataParallel` are unwrapped.
    """
    module = unwrapped(module)
    own = module.state_dict()
    given = _with_tied(with_current_names(state, own), module)
    missing = None
    if differing := differences(given, own):
        missing = missing_weights(module, given, shape)
        if missing is None:
            raise WeightsError(f"{source} does not fit {network}: {differing}{_guess(state, own)}")
    for key, tensor in given.items():
        if key in own and own[key].is_floating_point() and not tensor.is_floating_point():
            raise WeightsError(
                f"{source} does not fit {network}: {key} is {str(tensor.dtype).removeprefix('torch.')}, "
                "not floating point. Convert quantised weights to floating point first"
            )
    _load(module, given, own, source)
    if missing is not None:
        clear(module, missing)
    return missing


def _with_tied(given: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Add tensors that are stored under another name only: safetensors stores tied tensors once."""
    own = module.state_dict(keep_vars=True)
    stored = {id(own[key]): given[key] for key in own if key in given}
    for key, tensor in own.items():
        if key not in given and id(tensor) in stored:
            given[key] = stored[id(tensor)]
    return given


def _load(module: nn.Module, given: dict[str, Tensor], own: Mapping[str, Tensor], source: str) -> None:
    for key in [key for key in given if key not in own or given[key].shape != own[key].shape]:
        del given[key]
    try:
        module.load_state_dict(given, strict=False)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as reason:
        raise WeightsError(f"{source} cannot be loaded: {' '.join(str(reason).split())}") from reason


def _guess(state: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    """Return a sentence on the network that the weights do fit; empty if none is known."""
    if (count := only_classes_differ(with_current_names(state, own), own)) is not None:
        return f". Only the number of classes differs: the weights have {count}"
    for name, build_on_meta in _candidates(state):
        shapes = build_on_meta().state_dict()
        given = with_current_names(state, shapes)
        if not differences(given, shapes):
            return f". It fits {name}"
        if (count := only_classes_differ(given, shapes)) is not None:
            return f". It fits {name} with {count} classes"
    return ""


def _candidates(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """Yield minivgg, and torchvision's networks with the same number of parameters below the last layer.

    torchvision states the number of parameters, so that only these networks have to be built.
    """
    from deconvviz.models.torchvision_models import build, default_entry, model_names  # imports torchvision

    yield SHIPPED, partial(minivgg.build, device="meta")
    below, inputs = _below_the_head(state)
    for name in model_names():
        total = getattr(default_entry(name), "meta", {}).get("num_params", 0)
        if below in (total - 1000 * (inputs + 1), total - 1000 * inputs):
            yield name, partial(build, name, device="meta")


def _below_the_head(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return the number of parameters below the last layer, and the number of inputs of the last layer."""
    sizes = {key: tensor.numel() for key, tensor in state.items() if not key.endswith(_BUFFERS)}
    weights = [key for key in sizes if state[key].dim() > 1]
    if not weights:
        return sum(sizes.values()), 0
    head = weights[-1].rpartition(".")[0]
    below = sum(size for key, size in sizes.items() if key.rpartition(".")[0] != head)
    return below, state[weights[-1]][0].numel()
