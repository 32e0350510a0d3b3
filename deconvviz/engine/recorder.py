"""Run a network once, and record every ATen call that really happens on a tape."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import TensorWeakRef

from deconvviz.engine.hooks import Stop, evaluation, exclusive, plain
from deconvviz.engine.layout import TensorLayout
from deconvviz.engine.preservation import is_plain, memory_of, preserved
from deconvviz.engine.rules import Call, Rule, lookup
from deconvviz.engine.rules.activation import Gate, Spelled
from deconvviz.engine.rules.arithmetic import Larger
from deconvviz.engine.spellings import Spellings
from deconvviz.engine.tape import Output, Step, Tape


class TapeRecorder(TorchDispatchMode):
    """Records each ATen call on the tape as it happens."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape
        self.modules: list[str] = []  # the modules that are running now, innermost last
        self.resting = False
        self.weights: dict[int, int] = {}  # the network's parameters by id, and where their numbers lie
        self.before_write: Callable[[Sequence[Tensor]], None] = lambda targets: None
        self._followed: dict[int, tuple[TensorWeakRef, int | None]] = {}  # by id; see `_known`
        self._memories: dict[int, _Memory] = {}  # the same values, by the memory they lie in
        self._makers: dict[int, Rule | None] = {}  # by value: the call that gave it
        self._broken: set[int] = set()  # values in which the pictures of a batch are mixed
        self._overwritten: dict[int, Tensor] = {}  # memory that took in the picture through a view
        self._spellings = Spellings()
        self._referring: dict[int, list[Rule]] = {}  # rules, by the memory of the constants they refer to
        self._rewritten: set[int] = set()  # memory that was overwritten in this pass

    def follow(self, tensor: Tensor, layout: TensorLayout, *, carries: bool) -> int:
        """Give a tensor a new value."""
        value = self.tape.new_value(layout, carries=carries)
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
        place = self.weights.get(id(tensor))
        if place is not None and not self._overwritten and place == tensor.data_ptr():
            return _WEIGHT
        if (memory := memory_of(tensor)) is None:
            return _FOREIGN
        kept = self._memories.get(memory)
        if kept is None or kept.reference.expired():
            return _FOREIGN
        return kept.values.get(_geometry(tensor), _FOREIGN)

    def look_at(self, output: Tensor) -> None:
        """A module gave this tensor: if it was overwritten through another one, write that down."""
        if refusal_reason := self._stale([output], [self._known(output)]):
            value = self.follow(output, TensorLayout.of(_shape(output)), carries=True)
            self.tape.add(
                Step(torch.ops.aten.alias.default, self._module, (), (), value, None, refusal_reason)
            )

    @property
    def _module(self) -> str:
        return self.modules[-1] if self.modules else ""

    def value(self, tensor: Tensor) -> int | None:
        value = self._known(tensor)
        return None if value is _FOREIGN or value is _WEIGHT else value

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.resting:
            return op(*args, **kwargs)
        tensors = _tensors(_named(op, args, kwargs).values() if kwargs else args)
        known = [self._known(tensor) for tensor in tensors]
        refusal_reason = self._stale(tensors, known)
        values = tuple([None if value is _FOREIGN or value is _WEIGHT else value for value in known])
        took_part = (
            bool(refusal_reason) or any(value is not None for value in values)
        ) and op not in _SHAPE_ALONE
        named = None
        if written := _written(op, args, kwargs):
            self.before_write(written)
            self.keep_constants(written)
            self._distrust_views(written)
            cls = lookup(op)
            if took_part and cls is not None and cls.needs_input_values and not refusal_reason:
                named = _copied(_named(op, args, kwargs), written)
        output = op(*args, **kwargs)
        if took_part:
            named = named or _named(op, args, kwargs)
            self._write(op, named, values, tuple(_tensors([output])), refusal_reason, written)
        return output

    def _write(
        self,
        op: Any,
        named: dict[str, Any],
        values: tuple[int | None, ...],
        results: tuple[Tensor, ...],
        refusal_reason: str,
        written: Sequence[Tensor],
    ) -> None:
        """Record one call. It returned `results`, or numbers, through which no signal flows."""
        for target in written:
            if self.value(target) is None and (memory := memory_of(target)) is not None:
                self._overwritten[memory] = target
        tape, cls = self.tape, lookup(op)
        derived = tuple([value in tape.signal_values for value in values])
        layouts = tuple([None if value is None else tape.layouts[value] for value in values])
        makers = tuple([self._maker(value) for value in values])
        if any(value in self._broken for value in values):
            refusal_reason = refusal_reason or "one of its arguments mixes the pictures of a batch"
        spelled = None if refusal_reason else self._spellings.activation(op, named, values)
        related = cls is Larger and self._spellings.related(values)
        rule: Rule | None = None
        first = 0
        for number, result in enumerate(results):
            layout, flows, why = TensorLayout.of(_shape(result)), derived, refusal_reason
            if cls is not None and number > 0 and not cls.per_output:  # indices, statistics
                tape.secondary_outputs[self.follow(result, layout, carries=False)] = first
                continue
            call = Call(op, named, results, number, derived, layouts, makers, tape.batch, related)
            inputs = tuple([value if some else None for value, some in zip(values, derived, strict=True)])
            if spelled is not None:
                rule, layout = Spelled(call, spelled), tape.layouts[spelled.root]
                root = spelled.root if spelled.root in tape.signal_values else None
                inputs = (root, *[None] * (len(values) - 1))
            elif cls is not None and not why:
                chosen = Gate if self._spellings.is_gate(op, named, values) else cls
                try:
                    rule = chosen.of(call)
                    layout = rule.output_layout(call)
                    flows = tuple([some and rule.flows(argument) for argument, some in enumerate(derived)])
                    rule.unsupported()
                except Exception as reason:  # whatever a rule may stumble over: its call is unsupported
                    rule, flows = None, derived
                    why = _folded(cls, layouts) or (
                        f"its rule failed with {type(reason).__name__}: {' '.join(str(reason).split())}"
                    )
                inputs = tuple([value if flow else None for value, flow in zip(values, flows, strict=True)])
            elif not (result.is_floating_point() or result.is_complex()):
                inputs = (None,) * len(values)  # a mask, say
            flowing = any(below is not None for below in inputs)
            if not why and flowing:
                why = _folded(None if rule is None else type(rule), (*layouts, layout))
            first = self.follow(result, layout, carries=bool(why) or flowing)
            self._makers[first] = rule
            if _whole_shape(result) != layout.real(tape.batch):
                self._broken.add(first)
            self._spellings.note(op, named, values, first, partial(_of_one_shape, result, values, tape))
            tape.add(Step(op, self._module, values, inputs, first, rule, why))
            self._refer(rule)

    def _maker(self, value: int | None) -> Rule | None:
        """The call that gave a value."""
        return None if value is None else self._makers.get(self.tape.secondary_outputs.get(value, value))

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
        """What shares the memory of an overwritten tensor is no longer what was recorded."""
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
        """Return why one of these is not what it was when it was recorded; empty if all are."""
        for tensor, value in zip(tensors, values, strict=True):
            if value is None:
                return "one of its arguments was overwritten through another view of its memory"
            if value is not _FOREIGN:
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
    return all(tape.layouts[value].real(tape.batch) == shape for value in values if value is not None)


def _folded(cls: type[Rule] | None, layouts: Sequence[TensorLayout | None]) -> str:
    """Why a rule cannot work where the network has folded some of a map into its batch, or moved that."""
    if cls is None:
        return ""
    if not cls.handles_folded_batch and any(layout and layout.folded for layout in layouts):
        return "it works on pictures cut into pieces, each a picture of its own for this call"
    if not cls.any_batch_axis and any(layout and layout.batch_at for layout in layouts):
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
_WEIGHT: Any = object()
"""The same for a parameter of the network: it lies in no map's memory."""


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


def record_tape(module: nn.Module, pictures: Tensor, wanted: Callable[[Output, Tensor], bool]) -> Tape:
    """Run a network on images (B, C, H, W) and record its calls on a tape.

    `wanted` is called with the output of each module and the tensor itself, and returns whether to go on. The
    network runs in evaluation mode without gradients, and no other thread runs it at the same time; hooks,
    training flags, grad mode, and whatever it writes into its own buffers and attributes, are put back.
    """
    tape = Tape(len(pictures))
    recorder = TapeRecorder(tape)
    parts = list(module.named_modules())
    # inference mode hides how a call is made up of others
    with (
        exclusive(parts),
        torch.inference_mode(False),
        torch.no_grad(),
        preserved(parts) as state,
        evaluation(parts),
        _watched(parts, recorder, wanted),
    ):
        recorder.weights = {id(p): p.data_ptr() for p in state.parameters if is_plain(p)}
        recorder.before_write, state.before_restore = state.before_write, recorder.keep_constants
        pictures = plain(pictures.detach()).clone()
        recorder.follow(pictures, TensorLayout.of(pictures.shape[1:]), carries=True)
        try:
            with recorder:
                module(pictures)
        except Stop:
            pass
    tape.seal()
    return tape


@contextmanager
def _watched(
    parts: Sequence[tuple[str, nn.Module]], recorder: TapeRecorder, wanted: Callable[[Output, Tensor], bool]
) -> Iterator[None]:
    """Hooks on every submodule: they note which one is running, and call `wanted` with its output."""
    handles: list[RemovableHandle] = []
    calls: dict[str, int] = {}
    owner = threading.get_ident()

    def enter(name: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any) -> None:
            if threading.get_ident() == owner:
                recorder.modules.append(name)

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any, output: Any) -> None:
            if threading.get_ident() != owner:
                return
            if isinstance(output, Tensor):
                recorder.look_at(output)
            recorder.modules.pop()
            calls[name] = calls.get(name, 0) + 1
            if not isinstance(output, Tensor) or output.is_nested:
                kind = "nested tensor" if isinstance(output, Tensor) else type(output).__name__
                recorder.tape.others.setdefault(name, kind)
            else:
                shape = tuple(output.shape)
                found = Output(name, calls[name], type(part).__name__, recorder.value(output), shape)
                recorder.tape.outputs.append(found)
                recorder.resting = True
                try:
                    go_on = wanted(found, plain(output))
                finally:
                    recorder.resting = False
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
