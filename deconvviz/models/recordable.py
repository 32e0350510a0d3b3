"""Checks for modules that cannot be recorded: scripted, traced, exported and quantised ones."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import torch
from torch import nn

from deconvviz.engine.wrappers import named_modules, named_parts
from deconvviz.errors import NetworkError
from deconvviz.wording import with_article

_SCRIPTED = (
    "it is scripted or traced by torch.jit{where}, so that PyTorch runs it without calls that deconvviz can "
    "record. Give the module that it was made from"
)
_EXPORTED = (
    "it is a program of torch.export{where}, whose operations do not belong to submodules, so that it has no "
    "layers. Give the module that was exported"
)
_QUANTISED = (
    "it is quantised{where}: its operations work on integers and have no projection rules. Give the floating "
    "point module that it was made from"
)
_PREPARED = (
    "it is prepared for quantisation-aware training{where}: fake quantisation has no projection rule. Give "
    "the floating point module that it was made from"
)

_OF_CLASSES = {  # by the Python module that defines a class or one of its bases
    "torch.ao.nn.quantized": _QUANTISED,
    "torch.ao.nn.intrinsic.quantized": _QUANTISED,
    "torch.ao.nn.sparse.quantized": _QUANTISED,
    "torch.ao.nn.qat": _PREPARED,
    "torch.ao.nn.intrinsic.qat": _PREPARED,
    "torch.ao.quantization.fake_quantize": _PREPARED,
}
_FLOATING_POINT = ("FloatFunctional", "FXFloatFunctional")  # defined in these modules, but not quantised
_QUANTISES = frozenset((torch.quantize_per_tensor, torch.quantize_per_channel))

_reasons: WeakKeyDictionary[type, str] = WeakKeyDictionary()


def check_recordable(module: nn.Module, network: str) -> None:
    """Raise NetworkError if the module or one of its submodules cannot be recorded."""
    for _, part in named_modules(module):
        if reason := _reason(part):
            name = next((name for name, one in named_parts(module) if one is part), "")
            where = f" (its submodule {name})" if name else ""
            raise NetworkError(f"{network} cannot be recorded: {reason.format(where=where)}")


def not_a_module(given: object) -> str:
    """Return the message for an object that was given as a network but is not a module."""
    kind = type(given).__name__
    if kind == "ExportedProgram" and type(given).__module__.startswith("torch.export"):
        return f"an ExportedProgram cannot be recorded: {_EXPORTED.format(where='')}"
    if isinstance(given, (torch.jit.ScriptFunction, torch._C.ScriptModule)):
        return f"a {kind} cannot be recorded: {_SCRIPTED.format(where='')}"
    if isinstance(given, type) and issubclass(given, nn.Module):
        return f"{given.__name__} is a class, not a network: give an instance, {given.__name__}(...)"
    if isinstance(given, Mapping):
        return (
            f"a network must be a torch.nn.Module, not {with_article(kind)} of weights: build the module, "
            "load the weights with load_state_dict(...), and give the module"
        )
    return f"a network must be a torch.nn.Module or a deconvviz.Network, not {kind}"


def _reason(part: nn.Module) -> str:
    """Return why a module itself cannot be recorded; empty if it can."""
    kind = type(part)
    reason = _reasons.get(kind)
    if reason is None:
        reason = _reasons[kind] = _reason_of_class(kind)
    if reason:
        return reason
    for tensor in (*part._parameters.values(), *part._buffers.values()):
        if tensor is not None and tensor.is_quantized:
            return _QUANTISED
    return _reason_of_graph(part) if isinstance(part, torch.fx.GraphModule) else ""


def _reason_of_class(kind: type) -> str:
    if issubclass(kind, torch.jit.ScriptModule):
        return _SCRIPTED
    for one in kind.__mro__:
        if one.__name__ in _FLOATING_POINT:
            continue
        for place, reason in _OF_CLASSES.items():
            if one.__module__ == place or one.__module__.startswith(f"{place}."):
                return reason
    return ""


def _reason_of_graph(part: torch.fx.GraphModule) -> str:
    functions = [node.target for node in part.graph.nodes if node.op == "call_function"]
    if any(function in _QUANTISES for function in functions):
        return _QUANTISED
    calls_module = any(
        node.op == "call_module" and type(part.get_submodule(str(node.target))).__name__ != "GuardsFn"
        for node in part.graph.nodes
    )
    exported = any(isinstance(function, torch._ops.OpOverload) for function in functions)
    return _EXPORTED if exported and not calls_module else ""
