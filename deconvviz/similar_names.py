"""The names most like one that is not there: what a person may have meant."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher
from itertools import takewhile


def nearest(asked: str, there: Iterable[str], n: int = 3) -> list[str]:
    """The up to n names most like `asked`, best first; none where nothing is like it. Case is ignored."""
    wanted = asked.casefold()
    letters, number = Counter(wanted), _last_number(wanted)

    def likeness(name: str) -> tuple[float, int, int, int]:
        folded = name.casefold()
        ratio = 1.0 if folded == wanted else SequenceMatcher(None, wanted, folded, autojunk=False).ratio()
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(wanted, folded, strict=False)))
        return ratio, shared, (letters & Counter(folded)).total(), -abs(number - _last_number(folded))

    # `sorted` is stable: names equally like the one asked for stay in the order they were given in
    scored = [(likeness(name), name) for name in dict.fromkeys(there)]
    ranked = sorted(scored, key=lambda pair: pair[0], reverse=True)
    return [name for (ratio, *_), name in ranked if ratio >= 0.5][:n]


def _last_number(name: str) -> int:
    numbers = re.findall("[0-9]+", name)
    return int(numbers[-1][:9]) if numbers else 0
