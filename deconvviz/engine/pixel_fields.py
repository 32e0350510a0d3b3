"""The pixels of the image that each position of a value depends on, as products of rows and columns.

They are computed from the image upwards, once for all positions of a value. Through a single branch, a
position depends on some rows of the image times some columns. Where branches meet, it depends on the union
of such products. In most networks one branch covers all the others, so that only its product remains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from deconvviz.engine.layout import Seen, TensorLayout
from deconvviz.engine.rules import Rule
from deconvviz.engine.tape import IMAGE, Step, Tape

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the network's input, half open."""

MOST_PRODUCTS = 16
"""For a value that needs more products than this, masks are computed unit by unit instead."""

_MASK_BYTES = 1 << 28  # memory for the masks of one batch of units


class Product(NamedTuple):
    """Position (y, x) of a value depends on the pixels in rows ``rows[y]`` and columns ``columns[x]``."""

    rows: Tensor  # (h, H) bool
    columns: Tensor  # (w, W) bool

    def covers(self, other: Product) -> bool:
        """Return whether this product contains the other at every position."""
        return _contains(self.rows, other.rows) and _contains(self.columns, other.columns)

    def joined(self, other: Product) -> Product | None:
        """Return the union with another product, or None if the union is not a product."""
        if torch.equal(self.rows, other.rows):
            return Product(self.rows, self.columns | other.columns)
        if torch.equal(self.columns, other.columns):
            return Product(self.rows | other.rows, self.columns)
        return None

    def seen_by(self, seen: Seen) -> Seen:
        """Return the rows (K, H) and columns (K, W) of K units, each of which fills a part of the value."""
        rows, columns = _composed(seen[0], self.rows), _composed(seen[1], self.columns)
        something = rows.any(1, keepdim=True) & columns.any(1, keepdim=True)
        return rows & something, columns & something


class PixelFields:
    """The pixels that the positions of each value of a tape depend on, computed once and on demand."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._found: dict[int, tuple[Product, ...] | None] = {}

    def boxes(self, value: int, seen: Seen) -> list[Box]:
        """Return the receptive fields of K units that fill rows and columns of a value.

        A field is (0, 0, 0, 0) if no signal reaches the image.
        """
        products = self._products_of(value)
        if products is None:
            rows, columns = _seen_unit_by_unit(self._tape, value, seen)
        else:
            rows, columns = self._union(products, seen)
        return [tuple(box) for box in _edges(hull(rows), hull(columns)).tolist()]

    def boxes_at(self, value: int, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the receptive fields of the positions (rows[k], columns[k]) of a map as boxes (K, 4)."""
        products = self._products_of(value)
        if products is None:
            height, width = self._tape.layouts[value].lengths
            seen = one_hot(rows, height).bool(), one_hot(columns, width).bool()
            return torch.tensor(self.boxes(value, seen)).reshape(-1, 4)
        found = torch.zeros(len(rows), 4, dtype=torch.long, device="cpu")
        for product in products:
            high, wide = hull(product.rows), hull(product.columns)
            new = _edges((high[0][rows], high[1][rows]), (wide[0][columns], wide[1][columns]))
            found = _around(found, new)
        return found

    def _union(self, products: Sequence[Product], seen: Seen) -> Seen:
        """Return the union of the rows, and of the columns, of all products. This suffices for a box."""
        height, width = self._tape.layouts[IMAGE].lengths
        rows, columns = (seen[0].new_zeros(len(seen[0]), n) for n in (height, width))
        for product in products:
            more_rows, more_columns = product.seen_by(seen)
            rows, columns = rows | more_rows, columns | more_columns
        return rows, columns

    def _products_of(self, value: int) -> tuple[Product, ...] | None:
        """Return the products of a value, or None if there are too many."""
        if not self._found:
            lengths = self._tape.layouts[IMAGE].lengths
            itself = Product(*(torch.eye(n, dtype=torch.bool, device="cpu") for n in lengths))
            self._found[IMAGE] = (itself,)
        if value not in self._found:
            for step in self._tape.path(value):
                if step.output not in self._found:
                    self._found[step.output] = self._through(step)
        return self._found.get(value, ())

    def _through(self, step: Step) -> tuple[Product, ...] | None:
        """Return the products of a step's output, computed from those of its arguments."""
        layouts = self._tape.layouts
        found: list[Product] = []
        for rule, argument, below in _arguments(step):
            products = self._found.get(below, ())
            if products is None:
                return None
            visible = [
                rule.visible_inputs(argument, axis, layouts[step.output].lengths[axis], n_in)
                for axis, n_in in enumerate(layouts[below].lengths)
            ]
            for product in products:
                axes = zip(visible, product, strict=True)
                found.append(Product(*(own if seen is None else _composed(seen, own) for seen, own in axes)))
        merged = _merged(found)
        return merged if len(merged) <= MOST_PRODUCTS else None


def _merged(products: Iterable[Product]) -> tuple[Product, ...]:
    """Return fewer products with the same union, without empty ones."""
    kept: list[Product] = []
    waiting = [one for one in products if bool(one.rows.any() and one.columns.any())]
    while waiting:
        new = waiting.pop()
        if any(old.covers(new) for old in kept):
            continue
        kept = [old for old in kept if not new.covers(old)]
        for number, old in enumerate(kept):
            if (union := old.joined(new)) is not None:
                del kept[number]
                waiting.append(union)
                break
        else:
            kept.append(new)
    return tuple(kept)


def _edges(rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> Tensor:
    """Return boxes (K, 4), x0, y0, x1, y1, from the first and past positions of K rows and columns."""
    return torch.stack([columns[0], rows[0], columns[1], rows[1]], dim=1)


def _around(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the smallest boxes (K, 4) that contain two boxes each. Empty boxes are ignored."""
    both = torch.cat([torch.minimum(boxes, others)[:, :2], torch.maximum(boxes, others)[:, 2:]], dim=1)
    some, more = (_some(one)[:, None] for one in (boxes, others))
    return torch.where(some & more, both, torch.where(some, boxes, torch.where(more, others, 0)))


def _some(boxes: Tensor) -> Tensor:
    """Return which boxes contain a pixel, (K,) bool."""
    return (boxes[:, 2:] > boxes[:, :2]).all(1)


def _contains(whole: Tensor, part: Tensor) -> bool:
    return whole is part or not bool((part & ~whole).any())


def _composed(upper: Tensor, lower: Tensor) -> Tensor:
    """Return the boolean matrix product of (n, m) and (m, p): (n, p)."""
    most = int(upper.sum(1).max()) if upper.numel() else 0
    if most * 8 > upper.shape[1]:
        return (upper.float() @ lower.float()) > 0
    seen, places = upper.byte().topk(
        most, dim=1
    )  # of small windows in a large map, one place after the other
    found = upper.new_zeros(upper.shape[0], lower.shape[1])
    for place in range(most):
        found |= lower[places[:, place]] & seen[:, place, None].bool()
    return found


def _seen_unit_by_unit(tape: Tape, value: int, seen: Seen) -> Seen:
    """Return the rows and columns of the image that K units depend on, from masks of whole maps."""
    path = tape.path(value)
    values = {value, *(step.output for step in path), IMAGE}
    largest = max(rows * columns for rows, columns in (tape.layouts[one].lengths for one in values))
    at_once = max(1, _MASK_BYTES // (8 * largest))
    found = []
    for rows, columns in zip(seen[0].split(at_once), seen[1].split(at_once), strict=True):
        mask = _visible_positions(path, tape.layouts, value, (rows, columns))
        found.append((mask.any(2), mask.any(1)))
    return torch.cat([rows for rows, _ in found]), torch.cat([columns for _, columns in found])


def _visible_positions(
    steps: Sequence[Step], layouts: Mapping[int, TensorLayout], value: int, seen: Seen
) -> Tensor:
    """Return the pixels of the image that K units depend on along a path: (K, H, W) bool."""
    found = {value: seen[0][:, :, None] & seen[1][:, None, :]}
    for step in reversed(steps):
        if (above := found.pop(step.output, None)) is None:
            continue
        for rule, argument, below in _arguments(step):
            mask, lengths = above, layouts[below].lengths
            rows = rule.visible_inputs(argument, 0, mask.shape[1], lengths[0])
            columns = rule.visible_inputs(argument, 1, mask.shape[2], lengths[1])
            if rows is not None:
                mask = (rows.T.float() @ mask.float()) > 0
            if columns is not None:
                mask = (mask.float() @ columns.float()) > 0
            found[below] = found[below] | mask if below in found else mask
    return found.get(IMAGE, seen[0].new_zeros(len(seen[0]), *layouts[IMAGE].lengths))


def _arguments(step: Step) -> Iterator[tuple[Rule, int, int]]:
    """Yield the rule of a step, and the number and value of each argument that receives a signal."""
    if step.rule is not None:
        for argument, below in enumerate(step.inputs):
            if below is not None:
                yield step.rule, argument, below


def hull(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first True in each row of (K, n) and one past the last, (K,) each; 0, 0 if there is none."""
    n = seen.shape[1]
    some = seen.any(dim=1)
    first = seen.int().argmax(dim=1)
    past = n - seen.flip(1).int().argmax(dim=1)
    return torch.where(some, first, 0), torch.where(some, past, 0)
