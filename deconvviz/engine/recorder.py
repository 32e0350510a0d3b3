"""The way up: a network is run once, and every ATen call that really happens is written onto a tape."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import TensorWeakRef

from deconvviz.engine.hooks import Stop, evaluation, exclusive, plain
from deconvviz.engine.layout import Form
from deconvviz.engine.preservation import memory_of, preserved
from deconvviz.engine.rules import Call, Rule, lookup
from deconvviz.engine.rules.activation import Gate, Spelled
from deconvviz.engine.spellings import Spellings
from deconvviz.engine.tape import Output, Step, Tape


class _Writer(TorchDispatchMode):
    """Writes each ATen call onto the tape as it happens."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape
        self.modules: list[str] = []  # the modules that are running now, innermost last
        self.resting = False
        self.before_write: Callable[[Sequence[Tensor]], None] = lambda targets: None
        self._followed: dict[int, tuple[TensorWeakRef, int | None]] = {}  # by id; see `_known`
        self._memories: dict[int, _Memory] = {}  # the same values, by the memory they lie in
        self._makers: dict[int, Rule | None] = {}  # by value: the call that gave it
        self._broken: set[int] = set()  # values in which the pictures of a batch are mixed
        self._overwritten: dict[int, Tensor] = {}  # memory that took in the picture through a view
        self._spellings = Spellings()
        self._referring: dict[int, list[Rule]] = {}  # rules, by the memory of the constants they refer to
        self._rewritten: set[int] = set()  # memory that was overwritten in this pass

    def follow(self, tensor: Tensor, form: Form, *, carries: bool) -> int:
        """Give a tensor a new value."""
        value = self.tape.new_value(form, carries=carries)
        self._followed[id(tensor)] = (TensorWeakRef(tensor), value)
        memory = memory_of(tensor)
        if memory is not None:
            kept = self._memories.get(memory)
            if kept is None or kept.reference.expired():
                kept = self._memories[memory] = _Memory(StorageWeakRef(tensor.untyped_storage()), {})
            kept.values[_geometry(tensor)] = value
        return value

    def _known(self, tensor: Tensor) -> Any:
        """A tensor's value; None once it was overwritten through another one; _FOREIGN if it has none.

        Some tensors come into being without a call, as another name for the numbers of a value: a subclass of
        the user's, a NumPy array's. They are known by their memory.
        """
        found = self._followed.get(id(tensor))
        if found is not None and found[0]() is tensor:  # else it was of another tensor, that is gone
            return found[1]
        if (memory := memory_of(tensor)) is None:
            return _FOREIGN
        kept = self._memories.get(memory)
        if kept is None or kept.reference.expired():
            return _FOREIGN
        return kept.values.get(_geometry(tensor), _FOREIGN)

    def look_at(self, output: Tensor) -> None:
        """A module gave this tensor: if it was overwritten through another one, write that down."""
        if obstacle := self._stale([output], [self._known(output)]):
            value = self.follow(output, Form.of(_shape(output)), carries=True)
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
        tensors = _tensors(_named(op, args, kwargs).values() if kwargs else args)
        known = [self._known(tensor) for tensor in tensors]
        obstacle = self._stale(tensors, known)
        values = tuple([None if value is _FOREIGN else value for value in known])
        took_part = (bool(obstacle) or any(value is not None for value in values)) and op not in _SHAPE_ALONE
        named = None
        if written := _written(op, args, kwargs):
            self.before_write(written)
            self.keep_constants(written)
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
            if self.value(target) is None and (memory := memory_of(target)) is not None:
                self._overwritten[memory] = target
        tape, cls = self.tape, lookup(op)
        derived = tuple([value in tape.carrying for value in values])
        forms = tuple([None if value is None else tape.forms[value] for value in values])
        makers = tuple([self._maker(value) for value in values])
        if any(value in self._broken for value in values):
            obstacle = obstacle or "one of its arguments mixes the pictures of a batch"
        spelled = None if obstacle else self._spellings.activation(op, named, values)
        related = cls is not None and len(values) > 1 and self._spellings.related(values)
        rule: Rule | None = None
        first = 0
        for number, result in enumerate(results):
            form, flows, why = Form.of(_shape(result)), derived, obstacle
            if cls is not None and number > 0 and not cls.each_output:  # indices, statistics
                tape.beside[self.follow(result, form, carries=False)] = first
                continue
            call = Call(op, named, results, number, derived, forms, makers, tape.batch, related)
            inputs = tuple([value if some else None for value, some in zip(values, derived, strict=True)])
            if spelled is not None:
                rule, form = Spelled(call, spelled), tape.forms[spelled.root]
                root = spelled.root if spelled.root in tape.carrying else None
                inputs = (root, *[None] * (len(values) - 1))
            elif cls is not None and not why:
                chosen = Gate if self._spellings.is_gate(op, named, values) else cls
                try:
                    rule = chosen.of(call)
                    form = rule.form(call)
                    flows = tuple([some and rule.flows(argument) for argument, some in enumerate(derived)])
                    rule.refuses()
                except Exception as reason:  # whatever a rule may stumble over: its call is unsupported
                    rule, flows = None, derived
                    why = f"its rule failed with {type(reason).__name__}: {' '.join(str(reason).split())}"
                inputs = tuple([value if flow else None for value, flow in zip(values, flows, strict=True)])
            elif not (result.is_floating_point() or result.is_complex()):
                inputs = (None,) * len(values)  # a mask, say
            flowing = any(below is not None for below in inputs)
            if not why and flowing:
                why = _folded(None if rule is None else type(rule), (*forms, form))
            first = self.follow(result, form, carries=bool(why) or flowing)
            self._makers[first] = rule
            if _whole_shape(result) != form.real(tape.batch):
                self._broken.add(first)
            self._spellings.note(op, named, values, first, same_shape=_of_one_shape(result, values, tape))
            tape.add(Step(op, self._module, values, inputs, first, rule, why))
            self._refer(rule)

    def _maker(self, value: int | None) -> Rule | None:
        """The call that gave a value."""
        return None if value is None else self._makers.get(self.tape.beside.get(value, value))

    def _refer(self, rule: Rule | None) -> None:
        """Note the memory of a rule's constants; copy them if it will not stay as it is now."""
        for tensor in () if rule is None else rule.constants:
            memory = memory_of(tensor)
            if rule is None or memory is None:
                continue
            if memory in self._rewritten:
                rule.keep_copies(memory)
            else:
                self._referring.setdefault(memory, []).append(rule)

    def keep_constants(self, targets: Sequence[Tensor]) -> None:
        """Constants that are about to be overwritten are copied by the rules that refer to them."""
        for target in targets:
            if (memory := memory_of(target)) is not None:
                self._rewritten.add(memory)
                for rule in self._referring.pop(memory, ()):
                    rule.keep_copies(memory)

    def _distrust_views(self, targets: Sequence[Tensor]) -> None:
        """What shares the memory of an overwritten tensor is no longer what was written down."""
        memory = {memory_of(target) for target in targets} - {None}
        for key, (reference, _) in list(self._followed.items()):
            followed = reference()
            if followed is None:
                del self._followed[key]
            elif memory_of(followed) in memory and all(followed is not t for t in targets):
                self._followed[key] = (reference, None)
        for target in targets:
            kept = self._memories.get(memory_of(target) or 0)
            if kept is not None:
                own = kept.values.get(_geometry(target))
                kept.values.clear()
                if own is not None:
                    kept.values[_geometry(target)] = own

    def _stale(self, tensors: Sequence[Tensor], values: Sequence[Any]) -> str:
        """Why one of these is not what it was when it was written down; empty if all are."""
        for tensor, value in zip(tensors, values, strict=True):
            if value is None:
                return "one of its arguments was overwritten through another view of its memory"
            if value is not _FOREIGN or not (self._overwritten or self._memories):
                continue
            memory = memory_of(tensor)
            if memory in self._overwritten:
                return "one of its arguments was written to through a view of its memory"
            kept = None if memory is None else self._memories.get(memory)
            if kept is not None and not kept.reference.expired():
                return "one of its arguments is a view of a map that was made without a call of PyTorch's"
        return ""


@dataclass
class _Memory:
    """The values that lie in one piece of memory, by their place in it."""

    reference: StorageWeakRef
    values: dict[tuple[Any, ...], int]


def _geometry(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _whole_shape(tensor: Tensor) -> tuple[int, ...]:
    """A tensor's shape; a nested one has none."""
    return () if tensor.is_nested else tuple(tensor.shape)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """A tensor's shape for one picture."""
    return _whole_shape(tensor)[1:]


def _of_one_shape(result: Tensor, values: Sequence[int | None], tape: Tape) -> bool:
    """Whether a call's output and all its arguments from the picture have one shape."""
    shape = _whole_shape(result)
    return all(tape.forms[value].real(tape.batch) == shape for value in values if value is not None)


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


_STATISTICS = frozenset(
    getattr(torch.ops.aten, name).default
    for name in ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")
)
"""Calls that move running statistics in training mode, although their schema does not say so."""


def _written(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Tensor]:
    """The tensors that the call overwrites."""
    overwritten = _overwritten(op)
    if op in _STATISTICS and _named(op, args, kwargs)["training"]:
        overwritten = ("running_mean", "running_var")
    if not overwritten:
        return ()
    named = _named(op, args, kwargs)
    return _tensors([named[name] for name in overwritten])


@cache
def _overwritten(op: Any) -> tuple[str, ...]:
    return tuple(name for name, _, written in _schema(op) if written)


def write(module: nn.Module, pictures: Tensor, wanted: Callable[[Output, Tensor], bool]) -> Tape:
    """Run a network on pictures (B, C, H, W) and write down what happens.

    `wanted` is shown what each module gave, and the tensor itself, and says whether to go on. The network
    runs in evaluation mode without gradients, and no other thread runs it at the same time; hooks, training
    flags, grad mode, and whatever the network writes into its own buffers and attributes, are put back.
    """
    tape = Tape(len(pictures))
    writer = _Writer(tape)
    # inference mode hides how a call is made up of others
    with (
        exclusive(module),
        torch.inference_mode(False),
        torch.no_grad(),
        preserved(module) as state,
        evaluation(module),
        _watched(list(module.named_modules()), writer, wanted),
    ):
        writer.before_write, state.before_restore = state.before_write, writer.keep_constants
        pictures = plain(pictures.detach()).clone()
        writer.follow(pictures, Form.of(pictures.shape[1:]), carries=True)
        try:
            with writer:
                module(pictures)
        except Stop:
            pass
    tape.seal()
    return tape


@contextmanager
def _watched(
    parts: Sequence[tuple[str, nn.Module]], writer: _Writer, wanted: Callable[[Output, Tensor], bool]
) -> Iterator[None]:
    """Hooks on every submodule that tell the writer where it is, and show `wanted` what came out."""
    handles: list[RemovableHandle] = []
    calls: dict[str, int] = {}
    owner = threading.get_ident()

    def enter(name: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any) -> None:
            if threading.get_ident() == owner:
                writer.modules.append(name)

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any, output: Any) -> None:
            if threading.get_ident() != owner:
                return
            if isinstance(output, Tensor):
                writer.look_at(output)
            writer.modules.pop()
            calls[name] = calls.get(name, 0) + 1
            if not isinstance(output, Tensor) or output.is_nested:
                kind = "nested tensor" if isinstance(output, Tensor) else type(output).__name__
                writer.tape.others.setdefault(name, kind)
            else:
                shape = tuple(output.shape)
                found = Output(name, calls[name], type(part).__name__, writer.value(output), shape)
                writer.tape.outputs.append(found)
                writer.resting = True
                try:
                    go_on = wanted(found, plain(output))
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
