"""The pixels of the image that each position of a value depends on, as products of rows and columns.

They are computed from the image upwards, once for all positions of a value. Through a single branch, a
position depends on some rows of the image times some columns (in general, on some positions of each axis).
Where branches meet, it depends on the union of such products. In most networks one branch covers all the
others, so that only its product remains.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from deconvviz.engine.index_maps import hull as hull
from deconvviz.engine.layout import Seen, TensorLayout
from deconvviz.engine.rules import Rule
from deconvviz.engine.tape import IMAGE, Step, Tape

Box = tuple[int, ...]
"""x0, y0, x1, y1 in pixels of the network's input, half open: the last axis first.

x0, x1 for a signal, and x0, y0, z0, x1, y1, z1 for a volume.
"""

Hull = tuple[Tensor, Tensor]
"""The first and past position of K units along each axis, (K, axes) each; both 0 if there is none."""

MOST_PRODUCTS = 16
"""For a value that needs more products than this, masks are computed unit by unit instead."""

_MASK_BYTES = 1 << 28  # memory for the masks of one batch of units


class Product(tuple[Tensor, ...]):
    """For each axis (n, N) bool: which pixels a position of the value depends on.

    For an image, the position (y, x) depends on the pixels in rows ``product[0][y]`` and columns
    ``product[1][x]``.
    """

    def covers(self, other: Product) -> bool:
        """Return whether this product contains the other at every position."""
        return all(_contains(own, one) for own, one in zip(self, other, strict=True))

    def joined(self, other: Product) -> Product | None:
        """Return the union with another product, or None if the union is not a product."""
        differ = [not torch.equal(own, one) for own, one in zip(self, other, strict=True)]
        if sum(differ) > 1:
            return None
        parts = zip(self, other, differ, strict=True)
        return Product([own | one if unlike else own for own, one, unlike in parts])

    def seen_by(self, seen: Seen) -> Seen:
        """Return the pixels (K, N) of K units along each axis. Each unit fills a part of the value."""
        return something([_composed(one, own) for one, own in zip(seen, self, strict=True)])


def something(seen: Sequence[Tensor]) -> Seen:
    """Return the positions (K, n) along each axis; none for a unit that depends on none along some axis."""
    some = seen[0].any(1, keepdim=True)
    for axis in seen[1:]:
        some = some & axis.any(1, keepdim=True)
    if bool(some.all()):
        return tuple(seen)
    return tuple([axis & some for axis in seen])


class PixelFields:
    """The pixels that the positions of each value of a tape depend on, computed once and on demand.

    They are the pixels of one input of the network, the value `source`.
    """

    def __init__(self, tape: Tape, source: int = IMAGE) -> None:
        self._tape, self.source = tape, source
        self._found: dict[int, tuple[Product, ...] | None] = {}

    def boxes(self, value: int, seen: Seen) -> list[Box]:
        """Return the receptive fields of K units that fill some positions of a value.

        A field is all zero if no signal reaches the image.
        """
        products = self._products_of(value)
        if products is None:
            pixels = _seen_unit_by_unit(self._tape, value, seen, self.source)
        else:
            pixels = self._union(products, seen)
        return [tuple(box) for box in edges(hull_of(pixels)).tolist()]

    def boxes_at(self, value: int, *places: Tensor) -> Tensor:
        """Return the receptive fields of K positions of a map as boxes (K, 2 * axes).

        `places` (K,) are the positions along each axis of the map: rows and columns.
        """
        layout = self._tape.layouts[value]
        own = dict(zip(layout.tracked, places, strict=True))
        every = [own.get(axis, torch.zeros_like(places[0])) for axis in range(layout.spatial)]
        products = self._products_of(value)
        if products is None:
            seen = [one_hot(at, length).bool() for at, length in zip(every, layout.lengths, strict=True)]
            return torch.tensor(self.boxes(value, tuple(seen))).reshape(-1, 2 * layout.spatial)
        found = torch.zeros(len(places[0]), 2 * layout.spatial, dtype=torch.long, device="cpu")
        for product in products:
            hulls = [hull(axis) for axis in product]
            ends = [(first[at], past[at]) for (first, past), at in zip(hulls, every, strict=True)]
            first, past = [torch.stack(one, dim=1) for one in zip(*ends, strict=True)]
            found = _around(found, edges((first, past)))
        return found

    def _union(self, products: Sequence[Product], seen: Seen) -> Seen:
        """Return the union of all products along each axis. This suffices for a box."""
        found = tuple([seen[0].new_zeros(len(seen[0]), n) for n in self._tape.layouts[self.source].lengths])
        for product in products:
            found = tuple([one | more for one, more in zip(found, product.seen_by(seen), strict=True)])
        return found

    def _products_of(self, value: int) -> tuple[Product, ...] | None:
        """Return the products of a value, or None if there are too many."""
        if not self._found:
            lengths = self._tape.layouts[self.source].lengths
            own = {n: torch.eye(n, dtype=torch.bool, device="cpu") for n in lengths}
            itself = Product([own[n] for n in lengths])
            self._found[self.source] = (itself,)
        if value not in self._found:
            for step in self._tape.path(value):
                if step.output not in self._found:
                    self._found[step.output] = self._through(step)
        return self._found.get(value, ())

    def _through(self, step: Step) -> tuple[Product, ...] | None:
        """Return the products of a step's output, computed from those of its arguments."""
        layouts = self._tape.layouts
        found: list[Product] = []
        arguments = list(_arguments(step))
        for rule, argument, below in arguments:
            products = self._found.get(below, ())
            if products is None:
                return None
            visible = [
                rule.visible_inputs(argument, axis, layouts[step.output].lengths[axis], n_in)
                for axis, n_in in enumerate(layouts[below].lengths)
            ]
            if len(arguments) == 1 and all(seen is None for seen in visible):
                return products  # each position depends only on itself
            found += [_product_through(visible, product) for product in products]
        merged = _merged(found)
        return merged if len(merged) <= MOST_PRODUCTS else None


def _product_through(visible: Sequence[Tensor | None], product: Product) -> Product:
    """Return the product of a step's output. Rows and columns of a square image are often computed alike."""
    composed: dict[tuple[int, int], Tensor] = {}
    axes = []
    for seen, own in zip(visible, product, strict=True):
        if seen is None:
            axes.append(own)
            continue
        one = id(seen), id(own)
        if one not in composed:
            composed[one] = _composed(seen, own)
        axes.append(composed[one])
    return Product(axes)


def _merged(products: Iterable[Product]) -> tuple[Product, ...]:
    """Return fewer products with the same union, without empty ones."""
    kept: list[Product] = []
    waiting = [one for one in products if all(bool(axis.any()) for axis in one)]
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


def hull_of(seen: Seen) -> Hull:
    """Return the range that contains the positions (K, n) along each axis."""
    if len({axis.shape for axis in seen}) == 1:  # the axes of a square map at once
        first, past = [one.view(len(seen), len(seen[0])).T for one in hull(torch.cat(seen))]
        return first, past
    first, past = [torch.stack(one, dim=1) for one in zip(*map(hull, seen), strict=True)]
    return first, past


def edges(own: Hull) -> Tensor:
    """Return boxes (K, 2 * axes), x0, y0, x1, y1, from the first and past positions along each axis."""
    first, past = own
    return torch.cat([first.flip(1), past.flip(1)], dim=1)


def _around(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the smallest boxes that contain two boxes each, all (K, 2 * axes). Empty boxes are ignored."""
    n = boxes.shape[1] // 2
    both = torch.cat([torch.minimum(boxes, others)[:, :n], torch.maximum(boxes, others)[:, n:]], dim=1)
    some, more = (_some(one)[:, None] for one in (boxes, others))
    return torch.where(some & more, both, torch.where(some, boxes, torch.where(more, others, 0)))


def _some(boxes: Tensor) -> Tensor:
    """Return which boxes contain a pixel, (K,) bool."""
    n = boxes.shape[1] // 2
    return (boxes[:, n:] > boxes[:, :n]).all(1)


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


def _seen_unit_by_unit(tape: Tape, value: int, seen: Seen, source: int) -> Seen:
    """Return the pixels that K units depend on along each axis, from masks of whole maps."""
    path = tape.path(value)
    values = {value, *(step.output for step in path), source}
    largest = max(math.prod(tape.layouts[one].lengths) for one in values)
    at_once = max(1, _MASK_BYTES // (8 * largest))
    found = []
    for part in zip(*(axis.split(at_once) for axis in seen), strict=True):
        mask = _visible_positions(path, tape.layouts, value, part, source)  # (K, H, W)
        dims = range(1, mask.dim())
        found.append([_any_along(mask, dim) for dim in dims])
    return tuple([torch.cat(axis) for axis in zip(*found, strict=True)])


def _any_along(mask: Tensor, dim: int) -> Tensor:
    """Return which positions along a dimension of masks (K, H, W) contain anything, (K, n) bool."""
    others = [other for other in range(1, mask.dim()) if other != dim]
    return mask.any(others) if others else mask


def _visible_positions(
    steps: Sequence[Step], layouts: Mapping[int, TensorLayout], value: int, seen: Seen, source: int
) -> Tensor:
    """Return the pixels of the image that K units depend on along a path: (K, H, W) bool."""
    found = {value: _outer(seen)}
    for step in reversed(steps):
        if (above := found.pop(step.output, None)) is None:
            continue
        for rule, argument, below in _arguments(step):
            mask = above
            for axis, length in enumerate(layouts[below].lengths):
                visible = rule.visible_inputs(argument, axis, mask.shape[axis + 1], length)
                if visible is not None:
                    moved = mask.float().movedim(axis + 1, -1) @ visible.float()
                    mask = moved.movedim(-1, axis + 1) > 0
            found[below] = found[below] | mask if below in found else mask
    return found.get(source, seen[0].new_zeros(len(seen[0]), *layouts[source].lengths))


def _outer(seen: Seen) -> Tensor:
    """Return the masks (K, H, W) of the positions (K, H) and (K, W) along each axis."""
    mask = seen[0]
    for axis in seen[1:]:
        mask = mask[..., None] & axis.reshape(len(axis), *[1] * (mask.dim() - 1), axis.shape[1])
    return mask


def _arguments(step: Step) -> Iterator[tuple[Rule, int, int]]:
    """Yield the rule of a step, and the number and value of each argument that receives a signal."""
    if step.rule is not None:
        for argument, below in enumerate(step.inputs):
            if below is not None:
                yield step.rule, argument, below
