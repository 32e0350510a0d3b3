"""The way up: a network is run once, and every ATen call that really happens is written onto a tape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import TensorWeakRef

from deconvviz.engine.rules import Call, Rule, lookup
from deconvviz.engine.tape import Output, Step, Tape
from deconvviz.engine.watching import Stop, evaluation
from deconvviz.engine.windows import Form


class _Writer(TorchDispatchMode):
    """Writes each ATen call onto the tape as it happens."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape
        self.modules: list[str] = []  # the modules that are running now, innermost last
        self.resting = False
        self._followed: dict[int, tuple[TensorWeakRef, int | None]] = {}  # by id; see `_known`
        self._makers: dict[int, Rule | None] = {}  # by value: the call that gave it
        self._broken: set[int] = set()  # values in which the pictures of a batch are mixed
        self._overwritten: dict[int, Tensor] = {}  # memory that took in the picture through a view

    def follow(self, tensor: Tensor, form: Form, *, carries: bool) -> int:
        """Give a tensor a new value."""
        value = self.tape.new_value(form, carries=carries)
        self._followed[id(tensor)] = (TensorWeakRef(tensor), value)
        return value

    def _known(self, tensor: Tensor) -> Any:
        """A tensor's value; None once it was overwritten through another one; _FOREIGN if it has none."""
        found = self._followed.get(id(tensor))
        if found is None or found[0]() is not tensor:  # of another tensor, that is gone
            return _FOREIGN
        return found[1]

    def look_at(self, output: Tensor) -> None:
        """A module gave this tensor: if it was overwritten through another one, write that down."""
        if obstacle := self._stale([output], [self._known(output)]):
            value = self.follow(output, Form.of(output.shape[1:]), carries=True)
            self.tape.add(Step(torch.ops.aten.alias.default, self._module, (), (), value, None, obstacle))

    @property
    def _module(self) -> str:
        return self.modules[-1] if self.modules else ""

    def value(self, tensor: Tensor) -> int | None:
        value = self._known(tensor)
        return None if value is _FOREIGN else value

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.resting:
            return op(*args, **kwargs)
        tensors = _tensors(args)
        if kwargs:
            tensors += _tensors(kwargs.values())
        known = [self._known(tensor) for tensor in tensors]
        obstacle = self._stale(tensors, known)
        values = tuple([None if value is _FOREIGN else value for value in known])
        took_part = (bool(obstacle) or any(value is not None for value in values)) and op not in _SHAPE_ALONE
        named = None
        if written := _written(op, args, kwargs):
            self._distrust_views(written)
            cls = lookup(op)
            if took_part and cls is not None and cls.keeps_inputs and not obstacle:
                named = _copied(_named(op, args, kwargs), written)
        output = op(*args, **kwargs)
        if took_part:
            named = named or _named(op, args, kwargs)
            self._write(op, named, values, tuple(_tensors([output])), obstacle, written)
        return output

    def _write(
        self,
        op: Any,
        named: dict[str, Any],
        values: tuple[int | None, ...],
        results: tuple[Tensor, ...],
        obstacle: str,
        written: Sequence[Tensor],
    ) -> None:
        """Write down one call; it gives `results`, or numbers, through which no signal comes back."""
        for target in written:
            if self.value(target) is None:
                self._overwritten[target.untyped_storage()._cdata] = target
        tape, cls = self.tape, lookup(op)
        derived = tuple([value in tape.carrying for value in values])
        forms = tuple([None if value is None else tape.forms[value] for value in values])
        makers = tuple([self._maker(value) for value in values])
        if any(value in self._broken for value in values):
            obstacle = obstacle or "one of its arguments mixes the pictures of a batch"
        rule: Rule | None = None
        first = 0
        for number, result in enumerate(results):
            form, flows = Form.of(result.shape[1:]), derived
            if cls is not None and number > 0 and not cls.each_output:  # indices, statistics
                tape.beside[self.follow(result, form, carries=False)] = first
                continue
            if cls is not None and not obstacle:
                call = Call(op, named, results, number, derived, forms, makers, tape.batch)
                rule = cls.of(call)
                form = rule.form(call)
                flows = tuple([some and rule.flows(argument) for argument, some in enumerate(derived)])
            elif not (result.is_floating_point() or result.is_complex()):
                flows = (False,) * len(values)  # a mask, say
            inputs = tuple([value if flow else None for value, flow in zip(values, flows, strict=True)])
            why = obstacle or (_folded(cls, (*forms, form)) if any(flows) else "")
            first = self.follow(result, form, carries=bool(why) or any(flows))
            self._makers[first] = rule
            if tuple(result.shape) != form.real(tape.batch):
                self._broken.add(first)
            tape.add(Step(op, self._module, values, inputs, first, rule, why))

    def _maker(self, value: int | None) -> Rule | None:
        """The call that gave a value."""
        return None if value is None else self._makers.get(self.tape.beside.get(value, value))

    def _distrust_views(self, targets: Sequence[Tensor]) -> None:
        """What shares the memory of an overwritten tensor is no longer what was written down."""
        memory = {target.untyped_storage()._cdata for target in targets}
        for key, (reference, _) in list(self._followed.items()):
            followed = reference()
            if followed is None:
                del self._followed[key]
            elif followed.untyped_storage()._cdata in memory and all(followed is not t for t in targets):
                self._followed[key] = (reference, None)

    def _stale(self, tensors: Sequence[Tensor], values: Sequence[Any]) -> str:
        """Why one of these is not what it was when it was written down; empty if all are."""
        for tensor, value in zip(tensors, values, strict=True):
            if value is None:
                return "one of its arguments was overwritten through another view of its memory"
            if value is not _FOREIGN or not self._overwritten:
                continue
            if tensor.untyped_storage()._cdata in self._overwritten:
                return "one of its arguments was written to through a view of its memory"
        return ""


def _folded(cls: type[Rule] | None, forms: Sequence[Form | None]) -> str:
    """Why a rule cannot work where the network has folded some of a map into its batch, or moved that."""
    if cls is None:
        return ""
    if not cls.folds and any(form and form.folded for form in forms):
        return "it works on pictures cut into pieces, each a picture of its own for this call"
    if not cls.anywhere and any(form and form.batch_at for form in forms):
        return "the pictures of the batch do not lie along the first dimension"
    return ""


def _copied(named: dict[str, Any], written: Sequence[Tensor]) -> dict[str, Any]:
    """The arguments of a call with copies of those that it overwrites."""
    return {
        name: value.clone() if any(value is target for target in written) else value
        for name, value in named.items()
    }


_SHAPE_ALONE = frozenset(
    getattr(torch.ops.aten, name).default
    for name in (
        "new_zeros", "new_ones", "new_empty", "new_full",
        "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like",
    )
)  # fmt: skip
"""Calls that take a tensor's shape and type, and none of its numbers."""

_FOREIGN: Any = object()
"""In place of its value, for a tensor that does not come from the picture."""


def _tensors(arguments: Iterable[Any]) -> list[Tensor]:
    """The tensors among arguments and in lists of them."""
    found = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            found.append(argument)
        elif isinstance(argument, (list, tuple)):
            found += _tensors(argument)
    return found


@cache
def _schema(op: Any) -> tuple[tuple[str, Any, bool], ...]:
    """Name and default of each argument of an operation, and whether it is overwritten."""
    arguments = []
    for argument in op._schema.arguments:
        default = argument.default_value
        if default is None and "int[" in str(argument.type):
            default = ()
        written = argument.alias_info is not None and argument.alias_info.is_write
        arguments.append((argument.name, default, written))
    return tuple(arguments)


def _named(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call under the names of the operation's schema, defaults filled in."""
    schema = _schema(op)
    named = {name: kwargs.get(name, default) for name, default, _ in schema[len(args) :]}
    return dict(zip((name for name, _, _ in schema), args, strict=False)) | named


def _written(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Tensor]:
    """The tensors that the call overwrites."""
    overwritten = _overwritten(op)
    if not overwritten:
        return ()
    named = _named(op, args, kwargs)
    return [t for name in overwritten if isinstance(t := named[name], Tensor)]


@cache
def _overwritten(op: Any) -> tuple[str, ...]:
    return tuple(name for name, _, written in _schema(op) if written)


def write(module: nn.Module, pictures: Tensor, wanted: Callable[[Output, Tensor], bool]) -> Tape:
    """Run a network on pictures (B, C, H, W) and write down what happens.

    `wanted` is shown what each module gave, and the tensor itself, and says whether to go on. The network
    runs in evaluation mode without gradients; hooks, training flags and grad mode are put back
    whatever happens.
    """
    tape = Tape(len(pictures))
    writer = _Writer(tape)
    parts = list(module.named_modules())
    # inference mode hides how a call is made up of others
    with torch.inference_mode(False), torch.no_grad(), evaluation(module), _watched(parts, writer, wanted):
        pictures = pictures.detach().clone()
        writer.follow(pictures, Form.of(pictures.shape[1:]), carries=True)
        try:
            with writer:
                module(pictures)
        except Stop:
            pass
    return tape


@contextmanager
def _watched(
    parts: Sequence[tuple[str, nn.Module]], writer: _Writer, wanted: Callable[[Output, Tensor], bool]
) -> Iterator[None]:
    """Hooks on every submodule that tell the writer where it is, and show `wanted` what came out."""
    handles: list[RemovableHandle] = []
    calls: dict[str, int] = {}

    def enter(name: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any) -> None:
            writer.modules.append(name)

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                writer.look_at(output)
            writer.modules.pop()
            calls[name] = calls.get(name, 0) + 1
            if isinstance(output, Tensor):
                shape = tuple(output.shape)
                found = Output(name, calls[name], type(part).__name__, writer.value(output), shape)
                writer.tape.outputs.append(found)
                writer.resting = True
                try:
                    go_on = wanted(found, output)
                finally:
                    writer.resting = False
                if not go_on:
                    raise Stop

        return hook

    try:
        for name, part in parts:
            handles.append(part.register_forward_pre_hook(enter(name)))
            handles.append(part.register_forward_hook(leave(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()
