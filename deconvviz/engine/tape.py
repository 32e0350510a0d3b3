"""A forward pass, written down: every ATen call that took part, and what its mirror needs of it.

The tape sees calls, not modules: it makes no difference whether an author wrote ``nn.ReLU``, ``F.relu`` or
``x.relu_()``, used one module four times, or branched in Python. Values are numbered as they come into being:
an in-place call overwrites a tensor, and gives a new value. A tensor that is overwritten through another
view of its memory is noticed, and refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import TensorWeakRef

from deconvviz.engine.rules import Call, Rule, lookup
from deconvviz.errors import RefusedOp, StaleRecording

PICTURE = 0  # the number of the first value


@dataclass(frozen=True, repr=False)
class Step:
    """One ATen call that took part in the forward pass."""

    op: torch._ops.OpOverload
    module: str  # dotted name of the innermost module it stands in
    inputs: tuple[int | None, ...]  # the values of its tensor arguments; None: does not come from the picture
    outputs: tuple[int, ...]
    rule: Rule | None  # None: the operation has no rule
    stale: str  # why an argument is not what the tape believes it is; empty if it is

    def __repr__(self) -> str:
        return f"<Step {self.op} in {self.module or 'the network'}: {self.inputs} -> {self.outputs}>"

    def refusal(self) -> str:
        """Why the way down cannot pass here, as a sentence; empty if it can."""
        where = f"{self.op} (in module {self.module!r})" if self.module else f"{self.op}"
        if self.stale:
            return f"{where} is refused: {self.stale}"
        if self.rule is None:
            return f"{where} has no rule; register one with deconvviz.rule(torch.ops.{self.op})"
        reason = self.rule.refuses()
        return f"{where} is refused: {reason}" if reason else ""


@dataclass(frozen=True)
class Output:
    """What one call of a module gave."""

    module: str  # dotted name
    call: int  # 1 for the module's first call in this pass
    kind: str  # class name of the module
    value: int | None  # None: does not come from the picture
    shape: tuple[int, ...]  # with the batch


class Tape:
    """The calls of one forward pass, from the picture (value 0) upwards."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.shapes: dict[int, tuple[int, ...]] = {}  # of each value, without the batch
        self.outputs: list[Output] = []  # of modules, in the order in which they were there
        self._constants: dict[int, tuple[Tensor, tuple[object, ...]]] = {}

    def __repr__(self) -> str:
        return f"<Tape of {len(self.steps)} calls, {len(self.outputs)} module outputs>"

    def new_value(self, tensor: Tensor) -> int:
        value = len(self.shapes)
        self.shapes[value] = tuple(tensor.shape[1:])
        return value

    def add(self, step: Step) -> None:
        self.steps.append(step)
        for tensor in step.rule.constants if step.rule else ():
            self._constants.setdefault(id(tensor), (tensor, _state(tensor)))

    def path(self, value: int) -> list[Step]:
        """The steps between the picture and a value, in forward order."""
        wanted, path = {value}, []
        for step in reversed(self.steps):
            if not wanted.isdisjoint(step.outputs):
                path.append(step)
                wanted.update(below for below in step.inputs if below is not None)
        return path[::-1]

    def refusals(self) -> dict[int, str]:
        """For every value from which the way down is refused, the refusal that is nearest to the picture."""
        found: dict[int, str] = {}
        for step in self.steps:
            below = next((found[value] for value in step.inputs if value in found), "")
            if refusal := below or step.refusal():
                found.update(dict.fromkeys(step.outputs, refusal))
        return found

    def require(self, path: list[Step]) -> None:
        """Raise RefusedOp if a step has no mirror, StaleRecording if a weight is no longer what it was."""
        refusals = [refusal for step in path if (refusal := step.refusal())]
        if refusals:
            more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
            raise RefusedOp(refusals[0] + more)
        for tensor, state in self._constants.values():
            if _state(tensor) != state:
                raise StaleRecording(
                    f"a weight of shape {tuple(tensor.shape)} has changed since the forward pass was "
                    "recorded; record it again"
                )


_SAMPLES = 64


def _state(tensor: Tensor) -> tuple[object, ...]:
    """Changes whenever the numbers of a tensor may have changed.

    PyTorch counts what overwrites a tensor, except through its ``.data``; a few of the numbers
    themselves give that away, unless only others were changed.
    """
    if tensor.is_meta:
        return (tensor.dtype,)
    version = 0 if tensor.is_inference() else tensor._version
    return version, tensor.data_ptr(), tensor.dtype, _sample(tensor.detach())


def _sample(tensor: Tensor) -> bytes:
    count = tensor.numel()
    step = max(1, count // _SAMPLES)
    last = tensor.storage_offset() + (count - 1) // step * step
    if last * tensor.element_size() < tensor.untyped_storage().nbytes():
        few = tensor.as_strided((-(-count // step),), (step,))  # no copy of it all
    else:
        few = tensor.reshape(-1)[::step]
    return few.clone().view(torch.uint8).cpu().numpy().tobytes()


class _Writer(TorchDispatchMode):
    """Writes each ATen call onto the tape as it happens."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape
        self.modules: list[str] = []  # the modules that are running now, innermost last
        self.resting = False
        self._followed: dict[int, tuple[TensorWeakRef, int | None]] = {}  # by id; see `_known`
        self._overwritten: dict[int, Tensor] = {}  # memory that took in the picture through a view

    def follow(self, tensor: Tensor) -> int:
        """Give a tensor a new value."""
        value = self.tape.new_value(tensor)
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
        if stale := self._stale([output], [self._known(output)]):
            op = torch.ops.aten.alias.default
            self.tape.add(Step(op, self._module, (None,), (self.follow(output),), None, stale))

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
        inputs = tuple([self._known(tensor) for tensor in tensors])
        stale = self._stale(tensors, inputs)
        if written := _written(op, args, kwargs):
            self._distrust_views(written)
        output = op(*args, **kwargs)
        inputs = tuple([None if value is _FOREIGN else value for value in inputs])
        if stale or any(value is not None for value in inputs):
            self._write(op, args, kwargs, inputs, output, stale, written)
        return output

    def _write(
        self,
        op: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: tuple[int | None, ...],
        output: Any,
        stale: str,
        written: Sequence[Tensor],
    ) -> None:
        results = _tensors([output])
        if not results:
            return  # a number or nothing: no signal comes back through it
        cls = lookup(op)
        rule = None
        if cls is not None:
            derived = tuple(value is not None for value in inputs)
            rule = cls(Call(op, _named(op, args, kwargs), output, derived))
        for target in written:
            if self.value(target) is None:
                self._overwritten[target.untyped_storage()._cdata] = target
        outputs = tuple(self.follow(result) for result in results)
        self.tape.add(Step(op, self._module, inputs, outputs, rule, stale))

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


class _Stop(BaseException):
    """Leaves the network once everything that was asked for is there; no `except Exception` catches it."""


def write(module: nn.Module, pictures: Tensor, wanted: Callable[[Output, Tensor], bool]) -> Tape:
    """Run a network on pictures (B, C, H, W) and write down what happens.

    `wanted` is shown what each module gave, and the tensor itself, and says whether to go on. The network
    runs in evaluation mode without gradients; hooks, training flags and grad mode are put back
    whatever happens.
    """
    tape = Tape()
    writer = _Writer(tape)
    parts = list(module.named_modules())
    # inference mode hides how a call is made up of others
    with torch.inference_mode(False), torch.no_grad(), _evaluation(module), _watched(parts, writer, wanted):
        pictures = pictures.detach().clone()
        writer.follow(pictures)
        try:
            with writer:
                module(pictures)
        except _Stop:
            pass
    return tape


@contextmanager
def _evaluation(module: nn.Module) -> Iterator[None]:
    """Every submodule in evaluation mode, and each back to its own flag."""
    flags = [(part, part.training) for part in module.modules()]
    try:
        if any(training for _, training in flags):
            module.eval()
        yield
    finally:
        for part, training in flags:
            if part.training != training:
                part.training = training


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
                    raise _Stop

        return hook

    try:
        for name, part in parts:
            handles.append(part.register_forward_pre_hook(enter(name)))
            handles.append(part.register_forward_hook(leave(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()
