"""Load a state dict into a network, or raise WeightsError that lists what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from torch import Tensor, nn

from deconvviz.errors import WeightsError
from deconvviz.models import minivgg
from deconvviz.models.catalog import SHIPPED
from deconvviz.models.missing_weights import MissingWeights, Shape, clear, missing_weights
from deconvviz.models.state_dict import differences, in_todays_names, only_classes_differ
from deconvviz.wrappers import unwrapped

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")


def fit(
    module: nn.Module, state: dict[str, Tensor], *, network: str, source: str, shape: Shape | None = None
) -> MissingWeights | None:
    """Put all weights into the module, or none. Raises WeightsError that lists what does not fit.

    Given the `shape` of the network's input, weights of its lower layers alone will do, too: then what is
    missing becomes NaN, and is returned. A wrapper such as `DataParallel` is looked through.
    """
    module = unwrapped(module)
    own = module.state_dict()
    given = _with_tied(in_todays_names(state, own), module)
    missing = None
    if differing := differences(given, own):
        missing = missing_weights(module, given, shape)
        if missing is None:
            raise WeightsError(f"{source} does not fit {network}: {differing}{_guess(state, own)}")
    for key, tensor in given.items():
        if key in own and own[key].is_floating_point() and not tensor.is_floating_point():
            raise WeightsError(
                f"{source} does not fit {network}: {key} is {str(tensor.dtype).removeprefix('torch.')}, "
                "not floating point (turn quantised weights into floats first)"
            )
    _load(module, given, own, source)
    if missing is not None:
        clear(module, missing)
    return missing


def _with_tied(given: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Add what is there under another name of the same tensor: safetensors keeps tied tensors once."""
    own = module.state_dict(keep_vars=True)
    there = {id(own[key]): given[key] for key in own if key in given}
    for key, tensor in own.items():
        if key not in given and id(tensor) in there:
            given[key] = there[id(tensor)]
    return given


def _load(module: nn.Module, given: dict[str, Tensor], own: Mapping[str, Tensor], source: str) -> None:
    for key in [key for key in given if key not in own or given[key].shape != own[key].shape]:
        del given[key]
    try:
        module.load_state_dict(given, strict=False)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as reason:
        raise WeightsError(f"{source} cannot be loaded: {' '.join(str(reason).split())}") from reason


def _guess(state: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    """Return which other network the weights fit, as a sentence."""
    if (count := only_classes_differ(in_todays_names(state, own), own)) is not None:
        return f". Only the number of classes differs: the weights have {count}"
    for name, build_on_meta in _candidates(state):
        shapes = build_on_meta().state_dict()
        given = in_todays_names(state, shapes)
        if not differences(given, shapes):
            return f". It fits {name}"
        if (count := only_classes_differ(given, shapes)) is not None:
            return f". It fits {name} with {count} classes"
    return ""


def _candidates(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """Yield minivgg, and torchvision's networks with as many parameters below their last layer.

    Their numbers of parameters are known before one is built.
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
