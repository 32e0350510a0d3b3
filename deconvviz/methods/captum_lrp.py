"""Layer-wise relevance propagation (LRP) of the library captum, for a unit.

captum's LRP replaces the gradients of modules. Operations that a network calls itself get no rule, and a
module that is called twice mixes up two rules: captum notices neither, so such networks are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.coverage import OpUse
from deconvviz.engine.units import Unit
from deconvviz.engine.wrappers import named_parts
from deconvviz.errors import MethodError
from deconvviz.methods.method import Method, Report, Subject, register
from deconvviz.methods.unit_function import Function, checked_units, unit_function

# Operations that only move, join or drop values: their gradients already pass relevance on unchanged.
_MOVES = frozenset(
    (
        *(
            "alias",
            "as_strided",
            "cat",
            "chunk",
            "clone",
            "contiguous",
            "detach",
            "expand",
            "flatten",
            "index",
        ),
        *("lift_fresh", "narrow", "permute", "reshape", "select", "slice", "split", "split_with_sizes"),
        *("squeeze", "stack", "t", "transpose", "unbind", "unflatten", "unsqueeze", "view", "_to_copy"),
        *("_unsafe_view", "_reshape_alias"),
    )
)


BATCH = 10  # number of units in one pass


class Lrp(Method):
    name, title = "lrp", "LRP"
    source = "Bach et al. 2015, captum"
    signed = True
    meaning = "relevance of each pixel by the epsilon rule; sums to the activation, apart from biases"

    def cost(self, units: int) -> str:
        each = " for each unit, in batches" if units > 1 else ""
        return f"2 forward passes and 1 backward pass{each}"

    def unsupported(self, subject: Subject) -> str:
        """Return why captum cannot propagate relevance through this network, or would do so wrongly."""
        parts = dict(named_parts(subject.network.module))
        uses = [use for use in subject.recording.coverage(subject.layer).uses if use.short not in _MOVES]
        for use in uses:
            for name in use.modules:
                if reason := _reason(use, name, parts):
                    return reason
        return _called_twice(uses)

    def maps(self, subject: Subject, units: Sequence[Unit] | Tensor, report: Report | None = None) -> Tensor:
        from captum.attr import LRP

        if reason := self.unsupported(subject):
            raise MethodError(f"LRP cannot be used: {reason}")
        kept = checked_units(subject, units)
        parts = dict(named_parts(subject.network.module))
        uses = subject.recording.coverage(subject.layer).uses
        names = dict.fromkeys(name for use in uses if use.short not in _MOVES for name in use.modules)
        modules = [parts[name] for name in names]
        with unit_function(subject, kept, preserve_each_call=False) as activations, _as_it_was(modules):
            for module in modules:
                if vars(module).get("inplace"):
                    vars(module)["inplace"] = False  # captum's hooks do not support in-place calls
            captum = LRP(_Reached(modules, activations))
            found: list[Tensor] = []
            for numbers in torch.arange(len(kept), device=subject.inputs.device).split(BATCH):
                images = subject.inputs.detach().repeat(len(numbers), 1, 1, 1).requires_grad_()
                found.append(captum.attribute(images, target=numbers).detach())
                if report is not None:
                    report(int(numbers[-1]) + 1, len(kept))
        return torch.cat(found).cpu().float()


def _reason(use: OpUse, name: str, parts: Mapping[str, nn.Module]) -> str:
    """Return why captum has no rule for an operation, as a clause; empty if it has one."""
    from captum.attr._core.lrp import SUPPORTED_LAYERS_WITH_RULES, SUPPORTED_NON_LINEAR_LAYERS

    module = parts.get(name)
    if module is None or list(module.children()):
        where = name or "the network"
        return f"{where} calls {use.short} itself, not in a module, so captum gives it no rule"
    if type(module) not in (*SUPPORTED_LAYERS_WITH_RULES, *SUPPORTED_NON_LINEAR_LAYERS):
        return f"captum has no rule for {type(module).__name__} ({name or 'the network'})"
    return ""


def _called_twice(uses: Sequence[OpUse]) -> str:
    for use in uses:
        if use.count > len(use.modules):
            where = use.modules[0] if len(use.modules) == 1 else f"one of {use.where}"
            return f"{where} is called more than once, which captum does not support"
    return ""


class _Reached(nn.Module):
    """The activations of units as a module, whose children are the modules up to their layer.

    captum saves and loads the weights of the module around its work. The epsilon rule changes no weights, and
    loading would count as a change, so there are no weights to save here.
    """

    def __init__(self, modules: Sequence[nn.Module], activations: Function) -> None:
        super().__init__()
        self.reached = nn.ModuleList(modules)
        self._activations = activations

    def forward(self, images: Tensor) -> Tensor:
        return self._activations(images)

    def state_dict(self, *args: Any, **settings: Any) -> dict[str, Any]:  # type: ignore[override]
        return {}

    def load_state_dict(self, *args: Any, **settings: Any) -> Any:
        return None


@contextmanager
def _as_it_was(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Restore the attributes and hooks of modules at the end."""
    before = [(vars(module), dict(vars(module))) for module in modules]
    tables = [
        (table, dict(table))
        for _, attributes in before
        for table in attributes.values()
        if isinstance(table, dict)
    ]
    try:
        yield
    finally:
        for own, attributes in before:
            own.clear()
            own.update(attributes)
        for table, entries in tables:
            if len(table) != len(entries) or any(table.get(key) is not entries[key] for key in entries):
                table.clear()
                table.update(entries)


register(Lrp())
