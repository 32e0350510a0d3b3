"""Run a network once and record every ATen call on a tape."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import TensorWeakRef

from deconvviz.engine.fused_modules import separate_calls
from deconvviz.engine.gradient_tape import GradientTapes, RecordedCall
from deconvviz.engine.hooks import Stop, evaluation, exclusive, plain
from deconvviz.engine.layout import TensorLayout
from deconvviz.engine.memory import Memory, geometry, root_of, section
from deconvviz.engine.network_inputs import NetworkInputs
from deconvviz.engine.output_parts import output_parts
from deconvviz.engine.preservation import memory_of, preserved, storage_of
from deconvviz.engine.repeats import LastRecording, Repeatable, is_repeatable, last_recording
from deconvviz.engine.rules import Call, Rule, lookup
from deconvviz.engine.rules.activation import Gate, Spelled
from deconvviz.engine.rules.arithmetic import Larger
from deconvviz.engine.rules.pieces import rule_of
from deconvviz.engine.spellings import Roles, Spellings
from deconvviz.engine.tape import IMAGE, Output, Step, Tape
from deconvviz.engine.wrappers import eager


class TapeRecorder(TorchDispatchMode):
    """Dispatch mode that records each ATen call on a tape."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape
        self.modules: list[str] = []  # names of the modules that are running, innermost last
        self.paused = False
        self.finished = False  # recording has ended, but recorded constants are still protected
        self.weights: dict[int, int] = {}  # address of each parameter and buffer of the network, by its id
        self.gradients: GradientTapes | None = None
        self.last: LastRecording | None = None  # of the same network
        self.before_write: Callable[[Sequence[int | None]], None] = _ignore
        self._followed: dict[int, tuple[TensorWeakRef, int | None]] = {}  # by id; see `_known`
        self._memories: dict[int, Memory] = {}  # the same values by their memory
        self._makers: dict[int, Rule | None] = {}  # by value: the rule of the call that returned it
        self._broken: set[int] = set()  # values in which the images of a batch are mixed
        self._filled = False  # whether the image was written into a tensor that did not depend on it
        self._spellings = Spellings()
        self._operations: dict[int, _Operation] = {}  # operations that were called, by id
        self._referring: dict[int, list[Rule]] = {}  # rules by the memory of the constants they reference
        self._rewritten: set[int] = set()  # memory that was overwritten in this pass

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False, because otherwise PyTorch would import its compiler, which takes seconds.

        Nothing is compiled while a network is recorded (see `eager`).
        """
        return False

    def follow(self, tensor: Tensor, layout: TensorLayout, *, receives_signal: bool) -> int:
        """Assign a new value to a tensor, and return it."""
        value = self.tape.new_value(layout, receives_signal=receives_signal)
        self._followed[id(tensor)] = (TensorWeakRef(tensor), value)
        storage = storage_of(tensor)
        if storage is not None:
            kept = self._memories.get(storage._cdata)
            if kept is None or kept.reference.expired():
                kept = self._memories[storage._cdata] = Memory(StorageWeakRef(storage), root_of(tensor))
            kept.values[geometry(tensor)] = value
        return value

    def _known(self, tensor: Tensor) -> Any:
        """Return the value of a tensor, _WEIGHT for a parameter or buffer, or _FOREIGN if it has none.

        It is None if the tensor contains a write that cannot be followed. Tensors that are created without a
        call (a user's subclass, or from a NumPy array), and those that were overwritten through another view,
        are identified by their memory.
        """
        found = self._followed.get(id(tensor))
        if found is not None and found[0].ref() is tensor:  # otherwise the id was that of a deleted tensor
            return found[1]
        place = self.weights.get(id(tensor))
        if place is not None and not self._filled and place == tensor.data_ptr():
            return _WEIGHT
        if (memory := memory_of(tensor)) is None:
            return _FOREIGN
        kept = self._memories.get(memory)
        if kept is None or kept.reference.expired():
            return _FOREIGN
        known = kept.values.get(geometry(tensor))
        return self._read_again(tensor, kept) if known is None else known

    def _read_again(self, tensor: Tensor, kept: Memory) -> int | None:
        """Return a new value for a tensor, as a part of the root of its memory; None if it is not known."""
        if kept.root not in kept.values or tensor.dtype != kept.root[1]:
            return None
        where = section(kept.root, geometry(tensor))
        self.last = None  # the values of the last recording have other numbers
        with _disable_current_modes():
            part = kept.root_in(tensor)
            place = (tensor.shape, tensor.stride(), tensor.storage_offset())
            for op, arguments in [(_READ, place)] if where is None else where.reading():
                part = self.__torch_dispatch__(op, (), (part, *arguments))
        read = self.value(part)
        if read is not None:
            kept.values[geometry(tensor)] = read
        return read

    def _write_back(self, target: Tensor) -> None:
        """Give the root of a memory a new value after a write. Other tensors are then read from it again."""
        memory = memory_of(target)
        kept = None if memory is None else self._memories.get(memory)
        written = None if kept is None else kept.values.get(geometry(target))
        if kept is None or written is None:
            return
        before, here = kept.values.get(kept.root), geometry(target)
        kept.values.clear()
        kept.values[here] = written
        for key, (reference, _) in list(self._followed.items()):
            followed = reference()
            if followed is None or (followed is not target and memory_of(followed) == memory):
                del self._followed[key]
        if here == kept.root:
            kept.lost = False
            return
        kept.lost = kept.lost or target.dtype != kept.root[1]
        if kept.lost:
            return
        where = section(kept.root, here)
        self.last = None
        if before is not None:
            kept.values[kept.root] = before
        with _disable_current_modes():
            part = target
            for op, arguments in where.laying() if where is not None else ():
                part = self.__torch_dispatch__(op, (), (part, *arguments))
            if where is None or not where.whole:
                self._patch(kept.root_in(target), part)

    def _patch(self, root: Tensor, part: Tensor) -> None:
        """Record that a part of a tensor was replaced. The memory already contains it."""
        operation = self._operation(torch.ops.aten.as_strided_scatter.default)
        arguments = (root, part, part.shape, part.stride(), part.storage_offset())
        values = (self.value(root), self.value(part))
        self._record(operation, operation.named(arguments, {}), values, (root,), "", ())

    def value_of_output(self, output: Tensor) -> int | None:
        """Return the value of a module's output; a new one if it contains a write that cannot be followed."""
        known = self._known(output)
        if known is None:
            self.last = None  # its values have other numbers
            known = self.follow(output, self.tape.layouts[IMAGE].like(_shape(output)), receives_signal=True)
            self.tape.add(Step(torch.ops.aten.alias.default, self._module, (), (), known, None, _UNFOLLOWED))
        if known is _FOREIGN or known is _WEIGHT:
            return None
        return self._refused(known, "it returns complex numbers") if output.is_complex() else known

    def _refused(self, value: int, reason: str) -> int:
        """Return a new value whose units cannot be projected. Later calls still use the old value."""
        self.last = None
        refused = self.tape.new_value(self.tape.layouts[value], receives_signal=True)
        alias = torch.ops.aten.alias.default
        self.tape.add(Step(alias, self._module, (value,), (None,), refused, None, reason))
        return refused

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
        if self.paused:
            return op(*args, **kwargs)
        operation = self._operation(op)
        written = operation.written(args, kwargs) if operation.writes else ()
        memories = [memory_of(target) for target in written]
        if written:
            self.before_write(memories)
            self._keep_constants_in(memories)
        if self.finished or (op is _COPY and _is_itself(*args[:2])):
            return op(*args, **kwargs)
        tensors = operation.tensors(args, kwargs)
        known = [self._known(tensor) for tensor in tensors]
        no_rule_reason = _UNFOLLOWED if None in known else ""
        values = tuple([None if value is _FOREIGN or value is _WEIGHT else value for value in known])
        took_part = not operation.of_shape_alone and (
            bool(no_rule_reason) or values.count(None) < len(values)
        )
        earlier = named = None
        repeatable = took_part and self.last is not None and not no_rule_reason and not kwargs
        if repeatable:
            earlier = self._earlier(operation, args, tensors, known)
        if written:
            cls = operation.rule
            needs = cls is not None and cls.needs_input_values
            if self.gradients is not None:
                needs = needs or self.gradients.needs_values(cls)
            if took_part and needs and not no_rule_reason:
                named = _copied(operation.named(args, kwargs), written)
        output = op(*args, **kwargs)
        if took_part:
            results = (output,) if isinstance(output, Tensor) else tuple(_tensors([output]))
            if earlier is not None and earlier.shapes == [result.shape for result in results]:
                self._repeat(earlier, results)
            else:
                named = named or operation.named(args, kwargs)
                first = len(self.tape.layouts)
                self._record(operation, named, values, results, no_rule_reason, written)
                if self.last is not None:
                    repeatable = repeatable and not any([id(target) in self.weights for target in written])
                    self._keep_for_next(
                        operation, args if repeatable else None, tensors, known, results, first
                    )
            for target in written:
                self._write_back(target)
        return output

    def _operation(self, op: Any) -> _Operation:
        operation = self._operations.get(id(op))
        if operation is None:
            operation = self._operations[id(op)] = _Operation.of(op, lookup(op))  # type: ignore[arg-type]
        return operation

    def _record(
        self,
        operation: _Operation,
        named: dict[str, Any],
        values: tuple[int | None, ...],
        results: tuple[Tensor, ...],
        no_rule_reason: str,
        written: Sequence[Tensor],
    ) -> None:
        """Record one call with its results. Results that are not tensors receive no signal."""
        tape, op, cls, roles = self.tape, operation.op, operation.rule, operation.roles
        self._filled = self._filled or any([self.value(target) is None for target in written])
        derived = tuple([value in tape.signal_values for value in values])
        layouts = tuple([None if value is None else tape.layouts[value] for value in values])
        makers = tuple([None if value is None else self._maker(value) for value in values])
        if self._broken and not self._broken.isdisjoint(values):
            no_rule_reason = no_rule_reason or "one of its arguments mixes the images of a batch"
        spelled = None
        if roles.completes and not no_rule_reason:
            spelled = self._spellings.activation(op, named, values)
        related = cls is Larger and self._spellings.related(values)
        if self.gradients is not None:
            recorded = RecordedCall(op, cls, named, values, results, layouts, makers, self._module)
        rule: Rule | None = None
        first = 0
        for number, result in enumerate(results):
            shape, why = _whole_shape(result), no_rule_reason
            layout = tape.layouts[IMAGE].like(shape[1:])
            if tape.batch == 1 and shape and shape[0] != 1:  # all values belong to the one image
                layout = layout.unplaced(shape, folded=1)
            if cls is not None and number > 0 and not cls.per_output:  # indices, statistics
                second = self.follow(result, layout, receives_signal=False)
                tape.secondary_outputs[second] = first
                if self.gradients is not None:
                    self._refer(self.gradients.add(recorded, number, second, None))
                continue
            call = Call(op, named, results, number, derived, layouts, makers, tape.batch, related)
            flows = derived
            if spelled is not None:
                rule, layout = Spelled(call, spelled), tape.layouts[spelled.root]
            elif cls is not None and not why:
                chosen = cls
                if roles.saturates and self._spellings.is_gate(op, named, values):
                    chosen = Gate
                try:
                    rule = rule_of(chosen, call)
                    layout = rule.output_layout(call)
                    flows = tuple([some and rule.flows(argument) for argument, some in enumerate(derived)])
                    rule.unsupported()
                except Exception as reason:  # a rule may raise anything; its call is then unsupported
                    rule, flows = None, derived
                    why = _folded(cls, layouts) or (
                        f"its rule failed with {type(reason).__name__}: {' '.join(str(reason).split())}"
                    )
            elif not (result.is_floating_point() or result.is_complex()):
                flows = (False,) * len(values)  # for example a mask
            if spelled is None:
                inputs = tuple([value if flow else None for value, flow in zip(values, flows, strict=True)])
            else:
                root = spelled.root if spelled.root in tape.signal_values else None
                inputs = (root, *[None] * (len(values) - 1))
            flowing = inputs.count(None) < len(inputs)
            if not why and flowing:
                why = _folded(None if rule is None else type(rule), (*layouts, layout))
            first = self.follow(result, layout, receives_signal=bool(why) or flowing)
            self._makers[first] = rule
            if shape != layout.network_shape(tape.batch):
                self._broken.add(first)
            if roles.is_link and _of_one_shape(shape, layouts, tape.batch):
                self._spellings.note(op, named, values, first)
            step = Step(op, self._module, values, inputs, first, rule, why)
            tape.add(step)
            self._refer(rule)
            if self.gradients is not None:
                self._refer(self.gradients.add(recorded, number, first, step))

    def _earlier(
        self, operation: _Operation, args: tuple[Any, ...], tensors: Sequence[Tensor], known: list[Any]
    ) -> Repeatable | None:
        """Return the call of the last recording that this call repeats; None if there is none."""
        earlier = None if self.last is None else self.last.next()
        if earlier is None or not earlier.is_equal(operation, args, tensors, known):
            return None
        if earlier.step.module != self._module or earlier.step.output != len(self.tape.layouts):
            return None
        rewritten = any([memory_of(weight) in self._rewritten for _, weight, _ in earlier.weights])
        return None if rewritten else earlier

    def _repeat(self, earlier: Repeatable, results: Sequence[Tensor]) -> None:
        """Record a call that repeats one of the last recording."""
        assert self.last is not None
        self.last.repeated()
        step, rule = earlier.step, earlier.step.rule
        value = self.follow(results[0], earlier.layouts[0], receives_signal=earlier.receives_signal)
        for result, layout in zip(results[1:], earlier.layouts[1:], strict=True):
            self.tape.secondary_outputs[self.follow(result, layout, receives_signal=False)] = value
        self._makers[value] = rule
        self.tape.add(step)
        self._refer(rule)
        if earlier.link is not None:
            self._spellings.links[value] = earlier.link

    def _keep_for_next(
        self,
        operation: _Operation,
        args: tuple[Any, ...] | None,
        tensors: Sequence[Tensor],
        known: list[Any],
        results: Sequence[Tensor],
        first: int,
    ) -> None:
        """Keep a call with results of the values from `first` on. `args` is None if it cannot be repeated."""
        assert self.last is not None
        tape, call = self.tape, None
        values = range(first, len(tape.layouts))
        defined = [(tape.layouts[v], v in tape.signal_values, v in self._broken) for v in values]
        varies = _FOREIGN in known or operation.roles.completes or operation.roles.saturates
        one_signal = len(values) == len(results) and not any([signal for _, signal, _ in defined[1:]])
        if args is not None and defined and one_signal and not varies:
            (_, receives_signal, broken), step = defined[0], tape.steps[-1]
            if not broken and not step.no_rule_reason and step.rule is not None and is_repeatable(step.rule):
                pairs = enumerate(zip(tensors, known, strict=True))
                weights = [(n, tensor, tensor.shape) for n, (tensor, value) in pairs if value is _WEIGHT]
                call = Repeatable(
                    operation, operation.settings(args), known, weights, step,
                    [layout for layout, _, _ in defined], receives_signal,
                    [result.shape for result in results], self._spellings.links.get(first),
                )  # fmt: skip
        self.last.recorded(defined, call)

    def _maker(self, value: int) -> Rule | None:
        """Return the rule of the call that returned a value."""
        return self._makers.get(self.tape.secondary_outputs.get(value, value))

    def _refer(self, rule: Rule | None) -> None:
        """Store the memory of a rule's constants. Copy them if it has been overwritten in this pass."""
        if rule is None:
            return
        for tensor in rule.constants:
            memory = memory_of(tensor)
            if memory is None:
                continue
            if memory in self._rewritten:
                self._copy_constants(rule, memory)
            else:
                self._referring.setdefault(memory, []).append(rule)

    def _copy_constants(self, rule: Rule, memory: int) -> None:
        rule.keep_copies(memory)
        if is_repeatable(rule):  # the next recording may not use the copies
            self.last = None

    def keep_constants(self, targets: Sequence[Tensor]) -> None:
        """Let the rules copy their constants in tensors that are about to be overwritten."""
        self._keep_constants_in([memory_of(target) for target in targets])

    def _keep_constants_in(self, memories: Sequence[int | None]) -> None:
        for memory in memories:
            if memory is not None:
                self._rewritten.add(memory)
                for rule in self._referring.pop(memory, ()):
                    self._copy_constants(rule, memory)


def _is_itself(target: Tensor, source: Tensor) -> bool:
    """Return whether two tensors are the same part of the same memory."""
    return memory_of(target) == memory_of(source) is not None and geometry(target) == geometry(source)


def _ignore(memories: Sequence[int | None]) -> None:
    """Do nothing before a write."""


def _whole_shape(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape of a tensor, or () for a nested one, which has none."""
    return () if tensor.is_nested else tuple(tensor.shape)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape of a tensor without the batch."""
    return _whole_shape(tensor)[1:]


def _of_one_shape(shape: tuple[int, ...], layouts: Sequence[TensorLayout | None], batch: int) -> bool:
    """Return whether a call's output and all arguments that depend on the image have one shape."""
    return all([layout is None or layout.network_shape(batch) == shape for layout in layouts])


def _folded(cls: type[Rule] | None, layouts: Sequence[TensorLayout | None]) -> str:
    """Return why a rule cannot handle layouts with a folded or moved batch; an empty string if it can."""
    unusual = [layout for layout in layouts if layout and (layout.folded or layout.batch_at)]
    if cls is None or not unusual:
        return ""
    if not cls.handles_folded_batch and any(layout.folded for layout in unusual):
        return "it works on images cut into pieces, each treated as an image of its own"
    if not cls.any_batch_axis and any(layout.batch_at for layout in unusual):
        return "the images of the batch are not along the first dimension"
    return ""


def _copied(named: dict[str, Any], written: Sequence[Tensor]) -> dict[str, Any]:
    """Return the arguments of a call, with copies of those that it overwrites."""
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
"""Operations that use only the shape and dtype of a tensor."""

_READ = torch.ops.aten.as_strided.default
_COPY = torch.ops.aten.copy_.default

_UNFOLLOWED = "one of its arguments was overwritten through a view that cannot be followed"

_FOREIGN: Any = object()
"""Stands for the value of a tensor that does not depend on the image."""
_WEIGHT: Any = object()
"""Stands for the value of a parameter or buffer of the network, which shares no memory with a map."""


def _tensors(arguments: Iterable[Any]) -> list[Tensor]:
    """Return the tensors among arguments, including those in lists."""
    found = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            found.append(argument)
        elif isinstance(argument, (list, tuple)):
            found += _tensors(argument)
    return found


@dataclass(frozen=True)
class _Signature:
    """Arguments of an operation, in the order of its schema."""

    names: tuple[str, ...]
    defaults: tuple[Any, ...]
    overwritten: tuple[str, ...]  # names of the arguments that a call overwrites
    plain: tuple[bool, ...]  # True for arguments that are never tensors, nor lists of them

    @classmethod
    @cache
    def of(cls, op: Any) -> _Signature:
        arguments = op._schema.arguments
        return cls(
            tuple(argument.name for argument in arguments),
            tuple(
                ()
                if argument.default_value is None and "int[" in str(argument.type)
                else argument.default_value
                for argument in arguments
            ),
            tuple(
                argument.name
                for argument in arguments
                if argument.alias_info is not None and argument.alias_info.is_write
            ),
            tuple(_WITHOUT_TENSORS.fullmatch(str(argument.type)) is not None for argument in arguments),
        )


_WITHOUT_TENSORS = re.compile(r"((List|Optional)\[)*(int|float|bool|number|str|Device|Generator)\]*")
"""Types of arguments without tensors, as printed in schemas."""


@dataclass(frozen=True)
class _Operation:
    """Properties of an operation that a recording needs at each call."""

    op: Any
    signature: _Signature
    rule: type[Rule] | None
    roles: Roles
    of_shape_alone: bool
    has_statistics: bool
    writes: bool  # whether its calls may overwrite an argument

    @classmethod
    @cache
    def of(cls, op: Any, rule: type[Rule] | None) -> _Operation:
        signature, statistics = _Signature.of(op), op in _STATISTICS
        writes = statistics or bool(signature.overwritten)
        return cls(op, signature, rule, Roles.of(op), op in _SHAPE_ALONE, statistics, writes)

    def settings(self, args: tuple[Any, ...]) -> list[Any]:
        """Return the arguments of a call, with ... in place of tensors and lists of tensors."""
        plain = self.signature.plain
        return [one if own or one is None else ... for one, own in zip(args, plain, strict=False)]

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name, with defaults filled in."""
        names, defaults, count = self.signature.names, self.signature.defaults, len(args)
        named = dict(zip(names, args, strict=False))
        for name, default in zip(names[count:], defaults[count:], strict=True):
            named[name] = kwargs.get(name, default)
        return named

    def tensors(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        """Return the tensors among the arguments of a call, including lists, in the order of the schema."""
        if kwargs:
            return _tensors(self.named(args, kwargs).values())
        return _tensors([one for one, plain in zip(args, self.signature.plain, strict=False) if not plain])

    def written(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Tensor]:
        """Return the tensors that a call overwrites."""
        overwritten = self.signature.overwritten
        if not kwargs and not self.has_statistics:
            names = zip(self.signature.names, args, strict=False)
            return _tensors([one for name, one in names if name in overwritten])
        named = self.named(args, kwargs)
        if self.has_statistics and named["training"]:
            overwritten = ("running_mean", "running_var")
        return _tensors([named[name] for name in overwritten])


_STATISTICS = frozenset(
    getattr(torch.ops.aten, name).default
    for name in ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")
)
"""Operations that update running statistics in training mode, although their schema does not state it."""


def record_tape(
    module: nn.Module,
    images: Tensor | NetworkInputs,
    wanted: Callable[[Output, Tensor], bool],
    on_result: Callable[[object], None] | None = None,
    methods: Sequence[str] = (),
) -> Tape:
    """Run a network on images (B, C, H, W), or on several inputs, and record its calls on a tape.

    The network runs in evaluation mode without gradients, and no other thread runs it at the same time.
    Hooks, training flags, the grad mode, and the network's buffers and attributes are restored.

    Args:
        module: The network.
        images: The images. They are copied.
        wanted: Called with the `Output` of each module call and its tensor. Returns whether to continue.
        on_result: Called with the return value of the network. If given, the network runs to its end even
            after `wanted` has returned False; the rest is not recorded, and errors in it are ignored.
        methods: Also record these, as `Tape.variants`: "gradient", "guided".
    """
    tape = Tape(len(images))
    recorder = TapeRecorder(tape)
    # In inference mode PyTorch does not decompose composite operations.
    with (
        exclusive(module) as parts,
        eager(module),
        separate_calls(parts),
        torch.inference_mode(False),
        torch.no_grad(),
        preserved(parts) as state,
        evaluation(parts),
        _watched(parts, recorder, wanted, to_the_end=on_result is not None),
    ):
        recorder.weights = {id(tensor): tensor.data_ptr() for tensor in state.weights}
        recorder.before_write, state.before_restore = state.before_write, recorder.keep_constants
        given = NetworkInputs.of(images).copied()
        layouts = given.layouts()
        for name, tensor, layout in zip(given.names, given.tensors, layouts, strict=True):
            if layout is not None:
                tape.inputs.append(recorder.follow(tensor, layout, receives_signal=True))
                tape.input_names.append(name)
        if methods:
            recorder.gradients = GradientTapes(tape, methods)
        else:
            recorder.last = last_recording(module, layouts, len(images))
        try:
            with recorder:
                output = given.call(module)
            if on_result is not None:
                on_result(output)
        except Stop:
            pass
        except Exception:  # raised by a layer, possibly one after the last recorded one
            if not recorder.finished:
                raise
        finally:  # `state` refers to the recorder: without a cycle, both are freed at once
            recorder.before_write = _ignore
            if recorder.last is not None:
                recorder.last.store(module)
    tape.seal()
    if recorder.gradients is not None:
        tape.variants = recorder.gradients.finish()
    return tape


@contextmanager
def _watched(
    parts: Sequence[tuple[str, nn.Module]],
    recorder: TapeRecorder,
    wanted: Callable[[Output, Tensor], bool],
    *,
    to_the_end: bool,
) -> Iterator[None]:
    """Add hooks to every submodule that track which one is running, and call `wanted` with its outputs.

    After `wanted` has returned False, the network is stopped, or runs `to_the_end` without being recorded.
    """
    calls: dict[str, int] = {}
    owner = threading.get_ident()

    def enter(name: str, part: nn.Module, args: Any) -> None:
        if threading.get_ident() == owner:
            recorder.modules.append(name)

    def leave(name: str, part: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() != owner:
            return
        if recorder.finished:
            recorder.modules.pop()
            return
        found = [(keys, tensor, recorder.value_of_output(tensor)) for keys, tensor in output_parts(output)]
        recorder.modules.pop()
        calls[name] = calls.get(name, 0) + 1
        if not isinstance(output, Tensor) or output.is_nested:
            kind = "nested tensor" if isinstance(output, Tensor) else type(output).__name__
            recorder.tape.others.setdefault(name, kind)
        for keys, tensor, value in found:
            one = Output(name, calls[name], type(part).__name__, value, tuple(tensor.shape), keys)
            recorder.tape.outputs.append(one)
            recorder.paused = True
            try:
                proceed = wanted(one, plain(tensor))
            finally:
                recorder.paused = False
            if not proceed:
                recorder.finished = to_the_end
                if not to_the_end:
                    raise Stop
                return

    key = RemovableHandle(OrderedDict()).id
    tables = [hooks for _, part in parts for hooks in (part._forward_pre_hooks, part._forward_hooks)]
    try:
        for number, (name, _) in enumerate(parts):  # `register_forward_hook` would cost as much as a layer
            tables[2 * number][key] = partial(enter, name)
            tables[2 * number + 1][key] = partial(leave, name)
        yield
    finally:
        for hooks in tables:
            hooks.pop(key, None)
