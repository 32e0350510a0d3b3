"""Table of the layers of a network: names, kinds, shapes, receptive fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any, overload

from torch import nn

from deconvviz.engine.choice import FieldGrid
from deconvviz.engine.output_parts import module_of, with_keys
from deconvviz.engine.receptive_fields import View, views
from deconvviz.engine.tape import IMAGE, Output, Tape
from deconvviz.engine.wrappers import named_parts
from deconvviz.errors import LayerError, UnitError
from deconvviz.html_views import table
from deconvviz.models.layer_names import paper_names, unknown_layer_message
from deconvviz.wording import listed, with_article

NOT_REACHED = (
    "was not reached with an empty image (in Python, net.record(image, layer) tries it on the image itself)"
)

OUTPUT = "output"
"""Name of the output of the whole network, unless a module has that name."""
_OUTPUTS = (OUTPUT, f"({OUTPUT})")

_PAPER_KINDS = (
    ("conv", (nn.Conv2d,)),
    ("bn", (nn.BatchNorm2d,)),
    ("relu", (nn.ReLU,)),
    ("pool", (nn.MaxPool2d,)),
    ("fc", (nn.Linear,)),
    ("avgpool", (nn.AvgPool2d, nn.AdaptiveAvgPool2d)),
    ("dropout", (nn.Dropout,)),
    ("flatten", (nn.Flatten,)),
)


_JSON_KEYS = {
    "module": "dotted",
    "is_constant": "held",
    "offset": "first",
    "unsupported": "refused",
    "depends_on_more": "sees_more",
}  # keys of `layers --json` that are older than the attribute names


_FOR_IMAGES = (("spatial", 2), ("axes", None), ("inputs", ()))  # left out of `layers --json`
_UNITS = {1: " samples", 2: " px"}  # of receptive fields; the axes of volumes have different units


@dataclass(frozen=True)
class Layer:
    """Layer of a network: a tensor that a module (or the network itself) returns."""

    name: str  # the paper's name if there is one, else the dotted name
    module: str  # dotted module name; `name:2` for the second call of a module, `name[key]` for a part
    kind: str  # class of the module
    shape: tuple[int, ...]  # output shape for one image: (C, H, W), or (F,)
    field: (
        tuple[int, ...] | None
    )  # receptive field (rows, columns) in pixels; None: the whole image (`sees_all`) or unknown
    stride: tuple[float, ...] | None  # distance of neighbouring units in pixels (rows, columns)
    offset: tuple[float, ...] | None  # first pixel of the field of unit (0, 0); negative in the padding
    parameters: int
    unsupported: str = ""  # why its units cannot be projected; empty if they can
    is_constant: bool = False  # treated as a constant, such as a gate: its projections are zero
    depends_on_more: bool = False  # pixels outside the field can change a unit through gates or statistics
    channels_last: bool = False  # layout inside the network; `shape` and activations are channels first
    same_as: str = ""  # an earlier layer that returns the same tensor, such as the last part of a block
    has_channels: bool = True  # whether units are positions of a map (C, H, W) or entries of a vector (F)
    sees_all: bool = False  # every unit depends on the whole image, whatever its size
    lacks_weights: bool = False  # depends on missing weights and cannot be requested
    spatial: int = 2  # number of axes of the network's input: 1 for signals, 3 for volumes and video
    axes: tuple[int, ...] | None = None  # those that the layer has, if it does not have all: a mean over time
    inputs: tuple[str, ...] = ()  # of several inputs of the network, those that it depends on

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}): {_times(self.shape)}, {self.field_text}"

    def field_of(self, *position: int) -> tuple[float, ...] | None:
        """Return the receptive field (x0, y0, x1, y1) of the unit at (y, x), without cutting at the border.

        The axes of other networks are as in `Recording.boxes`: (x0, x1) of the unit at (x,) of a signal.

        Return None if the field differs from unit to unit, or is the whole image.
        """
        if self.field is None or self.stride is None or self.offset is None:
            return None
        axes = zip(self.offset, position, self.stride, strict=True)
        first = [offset + place * stride for offset, place, stride in axes]
        past = [start + length for start, length in zip(first, self.field, strict=True)]
        return (*reversed(first), *reversed(past))

    def field_grid(self, image: Sequence[int]) -> FieldGrid | None:
        """Return the grid of receptive fields for an image of the given (rows, columns).

        Return None if units have no position, depend on the whole image, or have unknown fields.
        """
        if self.field is None or self.stride is None or self.offset is None:
            return None
        return FieldGrid(self.field, self.stride, self.offset, self._own(image))

    def _own(self, image: Sequence[int]) -> tuple[int, ...]:
        """Return the lengths of the input along the axes of this layer."""
        return tuple(image if self.axes is None else [image[axis] for axis in self.axes])

    def whole_fields(self, image: Sequence[int], lengths: Sequence[int]) -> tuple[range, ...] | None:
        """Return the positions, by axis, whose receptive fields are not cut by the border of an image.

        `lengths` are the (rows, columns) of the map. Return None if units have no position, or depend on the
        whole image. Raise UnitError if the fields are unknown, or all of them are cut.
        """
        if len(self.shape) < 2 or self.sees_all:
            return None
        if (grid := self.field_grid(image)) is None:
            raise UnitError(
                f"the receptive fields of {self.name} are unknown, so fields that the border cuts cannot be "
                "found. Leave {option} out",
                option="whole_fields=True",
            )
        inside = tuple([grid.inside(axis, length) for axis, length in enumerate(lengths)])
        if not all(inside):
            raise UnitError(
                f"every receptive field of {self.name} is cut by the border: a field has "
                f"{_times(self.field or ())} px, the image {_times(self._own(image))} px. "
                "Leave {option} out",
                option="whole_fields=True",
            )
        return inside

    @property
    def is_output(self) -> bool:
        """Whether the layer is what the network returns, or a part of it."""
        return module_of(self.module) == ""

    @property
    def field_text(self) -> str:
        """Receptive field and stride, or why units cannot be projected; and on which of several inputs."""
        inputs = f"depends on {' and '.join(self.inputs)}" if self.inputs else ""
        return " · ".join(filter(None, [self._field_text, inputs]))

    @property
    def _field_text(self) -> str:
        if self.lacks_weights:
            return "cannot be requested: it depends on missing weights"
        if self.unsupported:
            return f"cannot be projected: {self.unsupported}"
        if self.is_constant:
            return "is treated as a constant: its projections are zero"
        if self.sees_all:
            return f"receptive field: the whole {'image' if self.spatial == 2 else 'input'}"
        if self.field is None:
            return "receptive field: unknown"
        more = " (gates or statistics depend on more)" if self.depends_on_more else ""
        every = f", stride {self._with_unit(self.stride)}" if self.stride else ""
        return f"receptive field {self._with_unit(self.field)}{every}{more}"

    def _with_unit(self, lengths: Sequence[float]) -> str:
        unit = _UNITS.get(self.spatial, "")
        return _by(lengths) + (unit.removesuffix("s") if tuple(lengths) == (1,) else unit)


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _by(lengths: Sequence[float]) -> str:
    rounded = [f"{round(n, 2):g}" for n in lengths]
    alike = len(set(rounded)) == 1 and len(lengths) < 3
    return rounded[0] if alike else "x".join(rounded)


def _plain(lengths: Sequence[Fraction]) -> tuple[float, ...]:
    """Return numbers as integers if they are whole."""
    return tuple([int(n) if n.denominator == 1 else float(n) for n in lengths])


class LayerTable(Sequence[Layer]):
    """All layers of a network in the order of the forward pass, found by either of their names."""

    def __init__(
        self,
        layers: Sequence[Layer],
        network: str,
        *,
        see: str | None = None,
        without_row: Mapping[str, str] | None = None,
        missing: str = "",
    ) -> None:
        self._layers = tuple(layers)
        self._without_row = dict(without_row or {})  # names of modules that are not layers, and why
        self._network, self._see = network, see
        self._missing = missing  # the missing weights, as a clause
        self._by_name = {layer.module: layer for layer in layers} | {layer.name: layer for layer in layers}

    @property
    def names(self) -> list[str]:
        return [layer.name for layer in self._layers]

    def __getattr__(self, name: str) -> Layer:
        """Return the layer with this name, so that ``net.layers.conv5_1`` is completed by the Tab key."""
        if name.startswith("_"):  # also while a copy has no attributes yet
            raise AttributeError(name)
        if name not in self._by_name:
            raise AttributeError(unknown_layer_message(name, self._by_name, self._network, see=self._see))
        return self.find(name)

    def __dir__(self) -> list[str]:
        named = [name for name in self.names if name.isidentifier()]
        return sorted({*super().__dir__(), *named})

    def find(self, name: str | Layer) -> Layer:
        """Return the layer with this name; a `Layer` is returned unchanged.

        Raises:
            LayerError: If there is no such layer (the message lists similar names), or it lacks weights.
        """
        if isinstance(name, Layer):
            self._check_has_weights(self._by_name.get(name.module, name))
            return name
        if name not in self._by_name:
            if name in self._without_row:
                raise LayerError(f"{name} of {self._network} {self._without_row[name]}")
            raise LayerError(unknown_layer_message(name, self._by_name, self._network, see=self._see))
        self._check_has_weights(self._by_name[name])
        return self._by_name[name]

    def _check_has_weights(self, layer: Layer) -> None:
        if layer.lacks_weights:
            raise self.lacking(layer.name)

    def lacking(self, name: str) -> LayerError:
        """Return the error for a layer that depends on missing weights."""
        whole = [one.name for one in self if not one.lacks_weights and not one.same_as]
        other = f"Use a layer that does not, such as {whole[-1]}, or give" if whole else "Give"
        return LayerError(
            f"{name} of {self._network} cannot be requested: it depends on {self._missing}. "
            f"{other} a file with all weights: {{option}}",
            option="weights=FILE",
        )

    def is_unreached(self, name: str) -> bool:
        """Return whether a module with this name exists that an empty image does not reach."""
        return name not in self._by_name and self._without_row.get(name) == NOT_REACHED

    @property
    def last(self) -> Layer:
        """The output of the network. Raises LayerError if it is not a single tensor."""
        if not self._layers or self._layers[-1].module:
            raise LayerError(f"{self._network} does not return a single tensor, so it has no class scores")
        return self._layers[-1]

    def scores(self, classes: Sequence[str] = ()) -> Layer:
        """Return the layer of class scores: the output of the network, or a part of it.

        With class names, it is the first part with one channel for each class. Without names, it is the only
        part, or the part ``out`` or ``logits``.

        Raises:
            LayerError: If no part is known to be class scores. The message lists the parts.
        """
        if self._layers and not self._layers[-1].module:
            self._check_has_weights(self._layers[-1])
            return self._layers[-1]
        parts = [layer for layer in self if layer.is_output and layer.has_channels]
        if classes:
            found = [layer for layer in parts if layer.shape[0] == len(classes)]
        else:
            usual = [layer for layer in parts if layer.module in ("[out]", "[logits]")]
            found = parts if len(parts) == 1 else usual
        if not found:
            raise LayerError(self._without_scores(parts, len(classes)))
        self._check_has_weights(found[0])
        return found[0]

    def _without_scores(self, parts: Sequence[Layer], classes: int) -> str:
        returned = next((row for name, row in self._without_row.items() if name in _OUTPUTS), "")
        kind = returned.partition(",")[0] or "does not return a single tensor"
        if not parts:
            return f"{self._network} {kind}, and no part of it has class scores"
        there = ", ".join(f"{layer.name} ({_times(layer.shape)})" for layer in parts)
        if classes:
            return f"{self._network} {kind}; none has one channel for each of {classes} classes: {there}"
        return (
            f"{self._network} {kind}; which of these has class scores is unknown without class names: {there}"
        )

    @overload
    def __getitem__(self, key: int | str) -> Layer: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[Layer]: ...
    def __getitem__(self, key: int | str | slice) -> Layer | Sequence[Layer]:
        return self.find(key) if isinstance(key, str) else self._layers[key]

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    def __contains__(self, key: object) -> bool:
        return key in self._by_name or key in self._layers

    def __repr__(self) -> str:
        ends = f": {self.names[0]} ... {self.names[-1]}" if self._layers else ""
        return f"<{len(self)} layers of {self._network}{ends}>"

    def __str__(self) -> str:
        return "\n".join(map(str, self._layers))

    def _repr_html_(self) -> str:
        return table(self.head, [cells(layer) for layer in self])

    @property
    def head(self) -> tuple[str, ...]:
        """Headings of the columns that `cells` returns."""
        spatial = self._layers[0].spatial if self._layers else 2
        unit = f" ({_UNITS[spatial].strip()})" if spatial in _UNITS else ""
        return ("layer", "module", "kind", "output", f"field{unit}", f"stride{unit}", "parameters")

    def to_json(self) -> list[dict[str, Any]]:
        """Return one plain dictionary for each layer, with the keys of `layers --json`."""
        return [
            {
                _JSON_KEYS.get(key, key): value
                for key, value in asdict(layer).items()
                if (key, value) not in _FOR_IMAGES
            }
            for layer in self
        ]


def cells(layer: Layer) -> tuple[str, str, str, str, str, str, str]:
    """Return a layer as the seven columns of a table."""
    return (
        layer.name,
        layer.module,
        layer.kind,
        _times(layer.shape),
        _field_cell(layer),
        _by(layer.stride) if layer.stride else "",
        f"{layer.parameters:,}" if layer.parameters else "",
    )


def _field_cell(layer: Layer) -> str:
    if layer.lacks_weights:
        return "no weights"
    if layer.unsupported or layer.is_constant:
        return "unsupported" if layer.unsupported else "constant"
    more = "+" if layer.depends_on_more else ""
    if layer.field:
        return f"{_by(layer.field)}{more}"
    if layer.sees_all:
        return "all"
    return "unknown" if layer.has_channels else "no map"


def read_layers(
    module: nn.Module, tape: Tape, network: str, *, see: str | None = None, missing: str = ""
) -> LayerTable:
    """Return the layers of a network from a tape of its whole forward pass.

    `missing` describes the missing weights, if any.
    """
    parts = dict(named_parts(module))
    leaves = [
        (out.module, kind)
        for out in tape.outputs
        if out.call == 1
        and not out.keys
        and (kind := _paper_kind(parts[out.module]))
        and not list(parts[out.module].children())
    ]
    names = _Names({dotted: name for name, dotted in paper_names(leaves).items()}, parts, tape)
    seen, refusals = _Views(tape), tape.unsupported_messages()
    layers: list[Layer] = []
    first_of: dict[int, str] = {}
    for out in tape.outputs:
        if out.value is None or len(out.shape) < 2:
            continue
        dotted = out.name
        name = names.of(out)
        form = tape.layouts[out.value]
        view, source = seen.of(out.value)
        shape = tuple(out.shape[1:])
        is_map = form.is_map and form.shape == shape
        found = view.field if len(shape) == 1 or is_map else None
        sees_all = view.whole or (len(out.shape) == 2 and _covers(view, tape.layouts[source].lengths))
        found = None if sees_all else found
        counts = out.call == 1 and not out.keys
        parameters = sum(p.numel() for p in parts[out.module].parameters()) if counts else 0
        refused = refusals.get(out.value, "")
        no_map = len(shape) == form.spatial + 1 and not is_map
        if no_map:
            refused = refused or f"it returns {_times(shape)} for an image, which is not a map of channels"
        of_pictures = out.shape[0] == tape.batch and not form.folded and not form.batch_at
        last = form.channels_last and of_pictures
        layers.append(
            Layer(
                name,
                dotted,
                out.kind,
                (shape[-1], *shape[:-1]) if last else shape,
                found.size if found else None,
                _plain(found.stride) if found and is_map else None,
                _plain(found.first) if found and is_map else None,
                parameters,
                refused,
                is_constant=out.value not in tape.signal_values,
                depends_on_more=found is not None and found.sees_more,
                channels_last=last,
                same_as=first_of.get(out.value, ""),
                has_channels=(len(shape) == 1 or is_map) and of_pictures,
                sees_all=sees_all,
                lacks_weights=dotted in tape.lacking,
                spatial=form.spatial,
                axes=form.tracked if is_map and len(form.tracked) < form.spatial else None,
                inputs=seen.inputs_of(out.value),
            )
        )
        first_of.setdefault(out.value, name)
    without_row = _without_row(module, tape, layers, names)
    return LayerTable(layers, network, see=see, without_row=without_row, missing=missing)


def _covers(view: View, lengths: Sequence[int]) -> bool:
    """Return whether a unit without position depends on all of an image of this size."""
    field = view.field
    return field is not None and all(
        first <= 0 and first + size >= length
        for first, size, length in zip(field.first, field.size, lengths, strict=True)
    )


class _Views:
    """Receptive fields of each value, in the first input of the network that it depends on.

    Pictures come before inputs without rows and columns.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._sources = sorted(tape.inputs, key=lambda source: tape.layouts[source].axes is None)
        self._views = {source: views(tape, source) for source in self._sources}

    def of(self, value: int) -> tuple[View, int]:
        """Return the view of a value, and the input that it is in."""
        reached = self._sources if len(self._sources) == 1 else self._tape.inputs_of(value)
        source = next((one for one in self._sources if one in reached), IMAGE)
        return self._views[source][value], source

    def inputs_of(self, value: int) -> tuple[str, ...]:
        """Return the names of the inputs that a value depends on; empty if the network has only one."""
        if len(self._sources) == 1:
            return ()
        reached = self._tape.inputs_of(value)
        names = zip(self._tape.inputs, self._tape.input_names, strict=True)
        return tuple([name for source, name in names if source in reached])


class _Names:
    """Names of layers. Names of modules come before those of parts of outputs, which may be equal."""

    def __init__(self, paper: Mapping[str, str], parts: Mapping[str, nn.Module], tape: Tape) -> None:
        self._paper = paper
        tensors = {out.module for out in tape.outputs if not out.keys}
        taken = OUTPUT in (tensors if "" in tensors else parts)
        self.output = f"({OUTPUT})" if taken else OUTPUT
        self._taken = {name: name for name in (*parts, *paper.values(), *(out.name for out in tape.outputs))}

    def of(self, out: Output) -> str:
        """Return the name of a layer."""
        whole = replace(out, keys=()).name
        whole = self._paper.get(whole, whole) if out.module else self.output
        if not out.keys:
            return whole
        joined = ".".join((whole, *out.keys))
        is_own = self._taken.setdefault(joined, out.name) == out.name
        return joined if is_own else with_keys(whole, out.keys)


def _without_row(module: nn.Module, tape: Tape, layers: Sequence[Layer], names: _Names) -> dict[str, str]:
    """Return the names of outputs that are not layers, each with the reason as the end of a sentence."""
    rows = {layer.module: layer.name for layer in layers}
    found = {
        form: _why_no_row(out)
        for out in reversed(tape.outputs)
        if out.keys and out.name not in rows
        for form in (out.name, names.of(out))
    }
    inside: dict[str, list[str]] = {}
    for out in tape.outputs:
        if out.keys and out.call == 1 and out.name in rows:
            inside.setdefault(out.module, []).append(rows[out.name])
    if "" in tape.others:
        found[names.output] = _several(tape.others[""], inside.get("", []))
    first_name = {id(part): name for name, part in named_parts(module)}
    outputs = {out.module: out for out in reversed(tape.outputs) if not out.keys}
    for name, part in named_parts(module, remove_duplicate=False):
        own = first_name[id(part)]
        if name in rows or not name:
            continue
        if own != name:
            found[name] = f"is another name of {rows.get(own, own)}: use that name"
        elif name in tape.others:
            found[name] = _several(tape.others[name], inside.get(name, []))
        elif name not in outputs:
            found[name] = NOT_REACHED
        else:
            found[name] = _why_no_row(outputs[name])
    return found


def _why_no_row(out: Output) -> str:
    if len(out.shape) < 2:
        returns = "is" if out.keys else "returns"
        return f"{returns} a tensor without a batch dimension, of shape {out.shape}"
    return "does not depend on the image"


def _several(kind: str, layers: Sequence[str]) -> str:
    """Return which type a module returns instead of a single tensor, and which layers are parts of it."""
    returns = f"returns {with_article(kind)}, not a single tensor"
    return f"{returns}: use {listed(layers)}" if layers else f"{returns}, and no part of it is a layer"


def _paper_kind(part: nn.Module) -> str | None:
    """Return the kind of a layer in the papers' naming; "other" for any other leaf module."""
    for kind, classes in _PAPER_KINDS:
        if isinstance(part, classes):
            return kind
    return None if list(part.children()) else "other"
