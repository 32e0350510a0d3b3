"""Find names similar to a misspelled one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher
from itertools import takewhile


def nearest(asked: str, there: Iterable[str], n: int = 3) -> list[str]:
    """Return up to n names similar to `asked`, most similar first, ignoring case."""
    wanted = asked.casefold()
    letters, number = Counter(wanted), _last_number(wanted)

    def likeness(name: str) -> tuple[float, int, int, int]:
        folded = name.casefold()
        ratio = 1.0 if folded == wanted else SequenceMatcher(None, wanted, folded, autojunk=False).ratio()
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(wanted, folded, strict=False)))
        return ratio, shared, (letters & Counter(folded)).total(), -abs(number - _last_number(folded))

    # `sorted` is stable: equally similar names keep their order
    scored = [(likeness(name), name) for name in dict.fromkeys(there)]
    ranked = sorted(scored, key=lambda pair: pair[0], reverse=True)
    return [name for (ratio, *_), name in ranked if ratio >= 0.5][:n]


def _last_number(name: str) -> int:
    numbers = re.findall("[0-9]+", name)
    return int(numbers[-1][:9]) if numbers else 0
