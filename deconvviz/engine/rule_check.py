"""Compare a rule with the vector-Jacobian product of its operation, at full size and in windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.engine.layout import Seen, TensorLayout, Window
from deconvviz.engine.projection_pass import project_step
from deconvviz.engine.receptive_fields import Elementwise, UnitFields
from deconvviz.engine.recorder import TapeRecorder
from deconvviz.engine.rules import PeriodicIntervals, Support, lookup
from deconvviz.engine.tape import Step, Tape
from deconvviz.engine.unit_windows import AllSpans, Windows, spans_of
from deconvviz.errors import RuleError


@dataclass(frozen=True, repr=False)
class RuleCheck:
    """Result of `check_rule` for a rule that has passed."""

    op: str
    support: Support
    inputs: tuple[str, ...]  # the arguments that receive a signal
    windows: int  # number of windows that were compared, in addition to the full size
    by_design: bool  # differs from the vector-Jacobian product by design, and was compared with itself
    largest_difference: float  # relative to the largest value

    def __repr__(self) -> str:
        into = f"projects to {', '.join(self.inputs)}" if self.inputs else "projects to no input"
        reference = f"{ITSELF}; differs from {GRADIENT} by design" if self.by_design else GRADIENT
        compared = f"full size and {self.windows} windows within {self.largest_difference:.1e} of {reference}"
        return f"<RuleCheck of {self.op}: {self.support.value}, {into}; {compared}>"


AXES = {1: ("position",), 2: ("row", "column"), 3: ("slice", "row", "column")}
GRADIENT = "the vector-Jacobian product"
ITSELF = "its projection at full size"


def check_rule(
    op: torch._ops.OpOverload,
    example_inputs: Sequence[Any],
    *,
    tolerance: float = 1e-9,
    seed: int = 0,
    axes: int = 2,
    **options: Any,
) -> RuleCheck:
    """Compare the rule of an ATen operation with the operation's vector-Jacobian product.

    Random signals are projected in double precision: at full size and, if the output is a map, also from
    single positions and from parts of it. An approximate rule (and that of ReLU) differs from the product by
    design. It is compared with its own projection at full size, and must scale with the signal: twice the
    signal gives twice the projection.

    Args:
        op: The operation, for example ``torch.ops.aten.cumsum.default``.
        example_inputs: Arguments of the operation in the order of its schema. A floating-point tensor
            (B, ...) is treated as computed from B images. A ``torch.nn.Parameter`` is treated as a weight,
            which receives no signal.
        tolerance: Largest allowed difference, relative to the largest value.
        seed: Seed of the random signals.
        axes: Number of axes of a map: 2 for (B, C, H, W), 1 for (B, C, T), 3 for (B, C, D, H, W).
        **options: Keyword arguments of the operation.

    Raises:
        RuleError: The operation has no rule, or its rule differs from the reference. The message states the
            input and the position of the largest difference.

    Example:
        >>> dv.check_rule(torch.ops.aten.mean.dim, [torch.randn(2, 3, 8, 8), [2, 3]])
        <RuleCheck of aten.mean.dim: exact, ...>
    """
    if lookup(op) is None:
        raise RuleError(f"{op} has no rule; register a rule with deconvviz.rule(torch.ops.{op})")
    example = _Example(op, example_inputs, options, axes)
    generator = torch.Generator().manual_seed(seed)
    checks = [
        _StepCheck(example, step, number, tolerance).run(generator)
        for number, step in enumerate(example.tape.steps)
    ]
    first = checks[0]
    return RuleCheck(
        str(op),
        first.support,
        tuple(dict.fromkeys(name for check in checks for name in check.inputs)),
        sum(check.windows for check in checks),
        first.by_design,
        max(check.largest_difference for check in checks),
    )


class _Example:
    """An operation with example arguments, recorded on a tape. It can be called again and differentiated."""

    def __init__(
        self, op: torch._ops.OpOverload, inputs: Sequence[Any], options: dict[str, Any], axes: int
    ) -> None:
        self.op, self.axes = op, axes
        schema = [argument.name for argument in op._schema.arguments]
        named = dict(zip(schema, inputs, strict=False)) | options
        self.tensors: list[Tensor] = []
        self.names: list[str] = []
        self.arguments = {name: self._prepared(value, name) for name, value in named.items()}
        if not self.tensors:
            raise RuleError(
                f"{op}: example_inputs has no floating-point tensor that a signal could flow into"
            )
        self.batch = len(self.tensors[0])
        self.tape = self._record()

    def _prepared(self, value: Any, name: str) -> Any:
        """Return an argument with weights in double precision and other float tensors replaced by slots.

        A tensor that is replaced is treated as computed from the images, and added to `tensors`.
        """
        if isinstance(value, (list, tuple)):
            return [self._prepared(one, f"{name}[{number}]") for number, one in enumerate(value)]
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        value, weight = value.detach().double().cpu(), isinstance(value, nn.Parameter)
        if weight:
            return value
        self.tensors.append(value)
        self.names.append(name)
        return _Slot(len(self.tensors) - 1)

    def call(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Call the operation with these tensors; in-place operations overwrite them."""

        def filled(value: Any) -> Any:
            if isinstance(value, list):
                return [filled(one) for one in value]
            return tensors[value.number] if isinstance(value, _Slot) else value

        result = self.op(**{name: filled(value) for name, value in self.arguments.items()})
        results = result if isinstance(result, (list, tuple)) else [result]
        return [one for one in results if isinstance(one, Tensor)]

    def _record(self) -> Tape:
        tape = Tape(self.batch)
        recorder = TapeRecorder(tape)
        copies = [tensor.clone() for tensor in self.tensors]
        for copy in copies:
            recorder.follow(copy, TensorLayout.of(copy.shape[1:], self.axes), receives_signal=True)
        with torch.inference_mode(False), torch.no_grad(), recorder:
            self.call(copies)
        for step in tape.steps:
            if step.op != self.op:
                raise RuleError(
                    f"{self.op} is computed as {step.op} and other calls. Check the rules of those operations"
                )
            if reason := step.unsupported_reason():
                raise RuleError(f"{self.op} does not support this call: {reason}")
        if not tape.steps:
            raise RuleError(f"{self.op} has no output that depends on the example inputs")
        return tape

    def gradient(
        self, number: int, layout: TensorLayout, signals: Tensor, images: Tensor
    ) -> dict[int, Tensor]:
        """Return the vector-Jacobian products (K, ...) of one output with K signals, by value.

        The signals are (K, *layout.shape); `images` (K,) states the image of each.
        """
        found = [torch.zeros(len(signals), *tensor.shape[1:]).double() for tensor in self.tensors]
        with torch.inference_mode(False), torch.enable_grad():
            leaves = [tensor.clone().requires_grad_() for tensor in self.tensors]
            output = self.call([leaf.clone() for leaf in leaves])[number]  # a leaf cannot be overwritten
            output = output.movedim(layout.batch_at, 0).reshape(self.batch, *layout.shape)
            for k, (signal, image) in enumerate(zip(signals, images.tolist(), strict=True)):
                cotangent = torch.zeros_like(output)
                cotangent[image] = signal
                products = torch.autograd.grad(
                    output, leaves, cotangent, retain_graph=True, allow_unused=True
                )
                for into, product in zip(found, products, strict=True):
                    if product is not None:
                        into[k] = product[image]
        return dict(enumerate(found))


@dataclass(frozen=True)
class _Slot:
    """Placeholder for a tensor argument: its index in `_Example.tensors`."""

    number: int


class _StepCheck:
    """Comparison of the rule of one output of an operation with its reference."""

    def __init__(self, example: _Example, step: Step, number: int, tolerance: float) -> None:
        assert step.rule is not None
        self.example, self.step, self.rule, self.tolerance = example, step, step.rule, tolerance
        self.number = number
        self.layout = example.tape.layouts[step.output]
        self.support = self.rule.support
        self.by_design = self.support is not Support.EXACT or not self.rule.is_gradient
        self.values = list(dict.fromkeys(below for below in step.inputs if below is not None))
        self.inputs = [example.names[value] for value in self.values]
        self.windows, self.largest_difference = 0, 0.0

    def run(self, generator: torch.Generator) -> _StepCheck:
        if not self.values:
            return self
        self._check_index_maps()
        for starts, size in _parts(self.layout, generator):
            images = torch.arange(len(starts)) % self.example.batch
            signal = torch.randn(len(starts), *self.layout.shape, generator=generator, dtype=torch.float64)
            part = Window(starts, size, self.layout, images)
            if self.layout.axes:
                whole = Window.all_of(self.layout, images)
                signal = whole.place(_cut(part, signal), starts)
            self._compare(signal, part)
            self.windows += 0 if part.whole else len(starts)
        return self

    def _compare(self, signal: Tensor, part: Window) -> None:
        found, visible = self._projected(signal, part)
        if self.by_design:
            whole = Window.all_of(self.layout, part.image_indices)
            wanted, _ = self._projected(signal, whole)
            doubled, _ = self._projected(2 * signal, part)
            for value, x in doubled.items():
                self._differ(x, 2 * found[value], value, part, "twice the signal", "twice the projection")
        else:
            wanted = self.example.gradient(self.number, self.layout, signal, part.image_indices)
        for value in self.values:
            x = found[value] if value in found else torch.zeros_like(wanted[value])
            self._check_visible(wanted[value], visible[value], value, part)
            self._differ(x, wanted[value], value, part, "the rule", ITSELF if self.by_design else GRADIENT)

    def _projected(self, signal: Tensor, part: Window) -> tuple[dict[int, Tensor], dict[int, Seen]]:
        """Project signals (K, *layout.shape) that fill a part of the output.

        Return the projections at full size, and the positions on which the part depends according to the
        rule; both by value.
        """
        tape, count = self.example.tape, len(signal)
        fields = UnitFields(tape, self.step.output, _seen(part))
        windows = Windows(AllSpans(spans_of(fields, count)), torch.arange(count), part.image_indices)
        here = _cut(windows[self.step.output], signal)
        found: dict[int, Tensor] = {}
        try:
            arrived = self._arrived(here, windows, fields.extent.elementwise)
        except RuleError:
            raise
        except Exception as error:  # the rule is user code and may raise anything
            raise RuleError(
                f"{self._where(part)}: project failed with {type(error).__name__}: {error}"
            ) from error
        for value, x in arrived:
            window = windows[value]
            if tuple(x.shape) != (count, *window.shape):
                raise RuleError(
                    f"{self._where(part)}: project returned a signal of shape {tuple(x.shape)} for "
                    f"{self._name(value)}, whose window has shape {(count, *window.shape)}"
                )
            if window.layout.axes:
                whole = Window.all_of(window.layout, window.image_indices)
                x = whole.place(x, window.start)
            found[value] = found[value] + x if value in found else x
        return found, {value: fields.visibility.seen[value] for value in self.values}

    def _arrived(
        self, signal: Tensor, windows: Mapping[int, Window], elementwise: Elementwise
    ) -> list[tuple[int, Tensor]]:
        """Project a signal that may be overwritten, after an earlier result has been overwritten.

        A rule that returns a part of its own memory as new is then wrong, in this or the next projection.
        """
        if self.rule.returns_new:
            for _, arrival in project_step(self.step, signal, windows, elementwise):
                arrival.x.fill_(torch.nan)
            if bool(signal.isnan().any()):
                raise RuleError(
                    f"the rule of {self.example.op} states returns_new, but returns the memory of the signal"
                )
        arrivals = project_step(self.step, signal.clone(), windows, elementwise, overwrite=True)
        return [(value, arrival.placed()) for value, arrival in arrivals]

    def _differ(self, found: Tensor, wanted: Tensor, value: int, part: Window, left: str, right: str) -> None:
        apart = (found - wanted).abs()
        largest = float(wanted.abs().max()) if wanted.numel() else 0.0
        difference = float(apart.max()) / (largest or 1.0) if apart.numel() else 0.0
        if difference <= self.tolerance:
            self.largest_difference = max(self.largest_difference, difference)
            return
        k, *place = (int(n) for n in torch.unravel_index(apart.argmax(), apart.shape))
        here = (k, *place)
        raise RuleError(
            f"{self._where(part)}: {left} gives {float(found[here]):.6g} for {self._name(value)} at position "
            f"{tuple(place)} of image {int(part.image_indices[k])}, but {right} gives "
            f"{float(wanted[here]):.6g}"
            f"{self._signal(part, k)}"
        )

    @property
    def _nouns(self) -> tuple[str, ...]:
        return AXES[self.example.axes]

    def _check_visible(self, wanted: Tensor, visible: Seen, value: int, part: Window) -> None:
        """Raise RuleError if a signal reaches a position that is not visible according to the rule."""
        axes = self.example.tape.layouts[value].axes
        for axis, (dim, seen) in enumerate(zip(axes or (), visible, strict=False)):
            if dim is None:
                continue
            others = [other for other in range(1, wanted.dim()) if other != dim]
            matters = (wanted != 0).sum(others) > 0  # (K, rows or columns)
            if bool((wrong := matters & ~seen).any()):
                k, place = (int(n) for n in torch.nonzero(wrong)[0])
                where = f"{self._nouns[axis]} {place} of {self._name(value)}"
                raise RuleError(
                    f"{self._where(part)}: {where} affects the output, "
                    f"but visible_inputs (or is_elementwise) excludes it{self._signal(part, k)}"
                )

    def _check_index_maps(self) -> None:
        """Raise RuleError if `index_map` excludes an input that `visible_inputs` includes."""
        for argument, below in enumerate(self.step.inputs):
            if below is None:
                continue
            lengths = self.layout.lengths, self.example.tape.layouts[below].lengths
            for axis in range(self.layout.spatial):
                intervals = self.rule.index_map(argument, axis)
                if not isinstance(intervals, PeriodicIntervals):
                    continue
                n_out, n_in = lengths[0][axis], lengths[1][axis]
                visible = self.rule.visible_inputs(argument, axis, n_out, n_in)
                visible = torch.eye(n_out, n_in, dtype=torch.bool) if visible is None else visible
                for o, i in torch.nonzero(visible).tolist():
                    first, past = intervals.place(o)
                    inside = first >= 0 and past <= n_in  # an index map ignores borders
                    if inside and not first <= i < past:
                        noun = self._nouns[axis]
                        raise RuleError(
                            f"{self.example.op}: {noun} {o} of the output depends on {noun} {i} "
                            f"of {self._name(below)} according to visible_inputs, but only on {first} to "
                            f"{past - 1} according to index_map"
                        )

    def _name(self, value: int) -> str:
        return f"input {self.example.names[value]!r}"

    def _where(self, part: Window) -> str:
        several = len(self.example.tape.steps) > 1
        output = f" (output {self.number})" if several else ""
        return f"{self.example.op}{output}, {'at full size' if part.whole else 'in windows'}"

    def _signal(self, part: Window, k: int) -> str:
        if part.whole:
            return ""
        places = zip(self._nouns, part.start[k].tolist(), part.size, strict=True)
        ranges = [f"{noun}s {first} to {first + length - 1}" for noun, first, length in places]
        *others, last_two = [*ranges[:-2], " and ".join(ranges[-2:])]
        return f" (for a signal in {', '.join([*others, last_two])})"


def _parts(layout: TensorLayout, generator: torch.Generator) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """Yield starts (K, axes) and sizes of parts of a map: all of it, then corners, middle, a random place."""
    lengths = torch.tensor(layout.lengths)
    yield torch.zeros(2, layout.spatial, dtype=torch.long), layout.lengths
    if layout.axes is None:
        return
    for size in (torch.ones_like(lengths), (lengths + 1) // 2):
        last = lengths - size
        first, *others, final = product((0, 1), repeat=layout.spatial)
        corners = [last * torch.tensor(corner) for corner in (first, final, *others)]
        random = (torch.rand(layout.spatial, generator=generator) * (last + 1)).long()
        if not torch.equal(size, lengths):
            yield torch.stack([*corners, last // 2, random]), tuple(size.tolist())


def _seen(part: Window) -> Seen:
    """Return the positions of K windows along each axis as masks, (K, n) bool."""
    masks = []
    for axis, length in enumerate(part.layout.lengths):
        first = part.start[:, axis, None]
        place = torch.arange(length)
        masks.append((place >= first) & (place < first + part.size[axis]))
    return tuple(masks)


def _cut(window: Window, signal: Tensor) -> Tensor:
    """Cut signals (K, *layout.shape) to their windows."""
    each = Window(window.start, window.size, window.layout, torch.arange(len(signal)))
    return each.cut(signal) if window.layout.axes else signal
