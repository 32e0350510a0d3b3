"""Which output of a network a class name or number refers to. Without torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from deconvviz.errors import UnitError
from deconvviz.similar_names import nearest


def class_index(asked: str | int, classes: Sequence[str], *, outputs: int | None = None) -> int:
    """Return the index of a class, given its name, a part of the name that only one class has, or its index.

    `outputs` is the number of outputs; by default there are as many as class names. Raises UnitError.
    """
    count = outputs if outputs is not None else len(classes) or None
    if isinstance(asked, int) or re.fullmatch(r"\s*-?\d+\s*", asked):
        return _in_range(int(asked), count)
    if not classes:
        numbers = f" (0 to {count - 1})" if count else ""
        raise UnitError(f"no class {asked!r}: this network's classes have no names; give a number{numbers}")
    wanted = _plain(asked)
    plain = [_plain(name) for name in classes]
    for matches in (
        [index for index, name in enumerate(plain) if name == wanted],
        [index for index, name in enumerate(plain) if wanted and wanted in name],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise UnitError(_several(asked, matches, classes))
    like = nearest(wanted, plain)
    hint = _numbered((plain.index(name) for name in like), classes)
    hint = f"nearest: {hint}" if like else "none is like it"
    raise UnitError(f"no class {asked!r} among {len(classes)}: {hint} (a number does too)")


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _in_range(index: int, count: int | None) -> int:
    if index < 0 or (count is not None and index >= count):
        last = f"they run from 0 to {count - 1}" if count else "they start at 0"
        raise UnitError(f"no class number {index}: {last}")
    return index


def _several(asked: str, matches: list[int], classes: Sequence[str], shown: int = 8) -> str:
    more = f" and {len(matches) - shown} more" if len(matches) > shown else ""
    listed = _numbered(matches[:shown], classes)
    return f"class {asked!r} could be {listed}{more}: give the whole name or the number"


def _numbered(indices: Iterable[int], classes: Sequence[str]) -> str:
    return ", ".join(f"{classes[index]!r} ({index})" for index in indices)
