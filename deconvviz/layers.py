"""Table of the layers of a network: names, kinds, shapes, receptive fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, overload

from torch import nn

from deconvviz.engine.choice import FieldGrid
from deconvviz.engine.receptive_fields import View, views
from deconvviz.engine.tape import IMAGE, Tape
from deconvviz.engine.wrappers import named_parts
from deconvviz.errors import LayerError, UnitError
from deconvviz.html_views import table
from deconvviz.models.layer_names import paper_names, unknown_layer_message

NOT_REACHED = (
    "was not reached with an empty image (in Python, net.record(image, layer) tries it on the image itself)"
)

OUTPUT = "output"
"""Name of the output of the whole network, unless a module has that name."""

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


@dataclass(frozen=True)
class Layer:
    """Layer of a network: a module (or the network itself) that returns a tensor."""

    name: str  # the paper's name if there is one, else the dotted name
    module: str  # dotted module name; `name:2` for the second call of a module
    kind: str  # class of the module
    shape: tuple[int, ...]  # output shape for one image: (C, H, W), or (F,)
    field: (
        tuple[int, int] | None
    )  # receptive field (rows, columns) in pixels; None: the whole image (`sees_all`) or unknown
    stride: tuple[float, float] | None  # distance of neighbouring units in pixels (rows, columns)
    offset: tuple[float, float] | None  # first pixel of the field of unit (0, 0); negative in the padding
    parameters: int
    unsupported: str = ""  # why its units cannot be projected; empty if they can
    is_constant: bool = False  # treated as a constant, such as a gate: its projections are zero
    depends_on_more: bool = False  # pixels outside the field can change a unit through gates or statistics
    channels_last: bool = False  # layout inside the network; `shape` and activations are channels first
    same_as: str = ""  # an earlier layer that returns the same tensor, such as the last part of a block
    has_channels: bool = True  # whether units are positions of a map (C, H, W) or entries of a vector (F)
    sees_all: bool = False  # every unit depends on the whole image, whatever its size
    lacks_weights: bool = False  # depends on missing weights and cannot be requested

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}): {_times(self.shape)}, {self.field_text}"

    def field_of(self, y: int, x: int) -> tuple[float, float, float, float] | None:
        """Return the receptive field (x0, y0, x1, y1) of the unit at (y, x), without cutting at the border.

        Return None if the field differs from unit to unit, or is the whole image.
        """
        if self.field is None or self.stride is None or self.offset is None:
            return None
        top, left = self.offset[0] + y * self.stride[0], self.offset[1] + x * self.stride[1]
        return left, top, left + self.field[1], top + self.field[0]

    def field_grid(self, image: tuple[int, int]) -> FieldGrid | None:
        """Return the grid of receptive fields for an image of the given (rows, columns).

        Return None if units have no position, depend on the whole image, or have unknown fields.
        """
        if self.field is None or self.stride is None or self.offset is None:
            return None
        return FieldGrid(self.field, self.stride, self.offset, image)

    def whole_fields(self, image: tuple[int, int], lengths: Sequence[int]) -> tuple[range, range] | None:
        """Return the rows and columns of a map whose receptive fields are not cut by the border of an image.

        `lengths` are the (rows, columns) of the map. Return None if units have no position, or depend on the
        whole image. Raise UnitError if the fields are unknown, or all of them are cut.
        """
        if len(self.shape) != 3 or self.sees_all:
            return None
        if (grid := self.field_grid(image)) is None:
            raise UnitError(
                f"the receptive fields of {self.name} are unknown, so fields that the border cuts cannot be "
                "found. Leave {option} out",
                option="whole_fields=True",
            )
        rows, columns = (grid.inside(axis, length) for axis, length in enumerate(lengths))
        if not rows or not columns:
            raise UnitError(
                f"every receptive field of {self.name} is cut by the border: a field has "
                f"{_times(self.field or ())} px, the image {_times(image)} px. Leave {{option}} out",
                option="whole_fields=True",
            )
        return rows, columns

    @property
    def field_text(self) -> str:
        """Receptive field and stride in words, or why units cannot be projected."""
        if self.lacks_weights:
            return "cannot be requested: it depends on missing weights"
        if self.unsupported:
            return f"cannot be projected: {self.unsupported}"
        if self.is_constant:
            return "is treated as a constant: its projections are zero"
        if self.sees_all:
            return "receptive field: the whole image"
        if self.field is None:
            return "receptive field: unknown"
        more = " (gates or statistics depend on more)" if self.depends_on_more else ""
        every = f", stride {_by(self.stride)} px" if self.stride else ""
        return f"receptive field {_by(self.field)} px{every}{more}"


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _by(pair: tuple[float, float]) -> str:
    return f"{pair[0]:g}" if pair[0] == pair[1] else f"{pair[0]:g}x{pair[1]:g}"


def _plain(pair: tuple[Fraction, Fraction]) -> tuple[float, float]:
    """Return numbers as integers if they are whole."""
    first, second = (int(n) if n.denominator == 1 else float(n) for n in pair)
    return first, second


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
        head = ("layer", "module", "kind", "output", "field (px)", "stride (px)", "parameters")
        return table(head, [cells(layer) for layer in self])

    def to_json(self) -> list[dict[str, Any]]:
        """Return one plain dictionary for each layer, with the keys of `layers --json`."""
        return [{_JSON_KEYS.get(key, key): value for key, value in asdict(layer).items()} for layer in self]


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
    return "all" if layer.sees_all else "unknown"


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
        and (kind := _paper_kind(parts[out.module]))
        and not list(parts[out.module].children())
    ]
    paper = {dotted: name for name, dotted in paper_names(leaves).items()}
    taken = {out.module for out in tape.outputs}
    seen, refusals = views(tape), tape.unsupported_messages()
    layers: list[Layer] = []
    first_of: dict[int, str] = {}
    for out in tape.outputs:
        if out.value is None or len(out.shape) < 2:
            continue
        dotted = out.name
        if not out.module:
            name = OUTPUT if OUTPUT not in taken else f"({OUTPUT})"
        else:
            name = paper.get(dotted, dotted)
        form = tape.layouts[out.value]
        view = seen[out.value]
        found = view.field if len(out.shape) in (2, 4) else None
        sees_all = view.whole or (len(out.shape) == 2 and _covers(view, tape.layouts[IMAGE].lengths))
        found = None if sees_all else found
        parameters = sum(p.numel() for p in parts[out.module].parameters()) if out.call == 1 else 0
        shape = tuple(out.shape[1:])
        refused = refusals.get(out.value, "")
        no_map = len(shape) == 3 and (form.axes not in ((2, 3), (1, 2)) or form.shape != shape)
        if no_map:
            refused = refused or f"it returns {_times(shape)} for an image, which is not a map of channels"
        of_pictures = out.shape[0] == tape.batch and not form.folded and not form.batch_at
        last = form.channels_last and of_pictures
        layers.append(
            Layer(
                name,
                dotted,
                out.kind,
                (shape[2], shape[0], shape[1]) if last else shape,
                found.size if found else None,
                _plain(found.stride) if found and len(out.shape) == 4 else None,
                _plain(found.first) if found and len(out.shape) == 4 else None,
                parameters,
                refused,
                is_constant=out.value not in tape.signal_values,
                depends_on_more=found is not None and found.sees_more,
                channels_last=last,
                same_as=first_of.get(out.value, ""),
                has_channels=len(shape) in (1, 3) and not no_map and of_pictures,
                sees_all=sees_all,
                lacks_weights=dotted in tape.lacking,
            )
        )
        first_of.setdefault(out.value, name)
    without_row = _without_row(module, tape, layers)
    return LayerTable(layers, network, see=see, without_row=without_row, missing=missing)


def _covers(view: View, lengths: tuple[int, int]) -> bool:
    """Return whether a unit without position depends on all of an image of this size."""
    field = view.field
    return field is not None and all(
        first <= 0 and first + size >= length
        for first, size, length in zip(field.first, field.size, lengths, strict=True)
    )


def _without_row(module: nn.Module, tape: Tape, layers: Sequence[Layer]) -> dict[str, str]:
    """Return the names of modules that are not layers, each with the reason as the end of a sentence."""
    rows = {layer.module: layer.name for layer in layers}
    first_name = {id(part): name for name, part in named_parts(module)}
    outputs = {out.module: out for out in reversed(tape.outputs)}
    found: dict[str, str] = {}
    for name, part in named_parts(module, remove_duplicate=False):
        own = first_name[id(part)]
        if name in rows or not name:
            continue
        if own != name:
            found[name] = f"is another name of {rows.get(own, own)}: use that name"
        elif name in tape.others:
            kind = tape.others[name]
            found[name] = (
                f"returns a{'n' * (kind[0] in 'aeiouAEIOU')} {kind}, not a single tensor: use a part of it"
            )
        elif name not in outputs:
            found[name] = NOT_REACHED
        elif len(outputs[name].shape) < 2:
            found[name] = f"returns a tensor without a batch dimension, of shape {outputs[name].shape}"
        else:
            found[name] = "does not depend on the image"
    return found


def _paper_kind(part: nn.Module) -> str | None:
    """Return the kind of a layer in the papers' naming; "other" for any other leaf module."""
    for kind, classes in _PAPER_KINDS:
        if isinstance(part, classes):
            return kind
    return None if list(part.children()) else "other"
