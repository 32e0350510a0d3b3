"""Which operations of a network have exact projection rules, approximate ones, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from deconvviz.engine.rules import Support
from deconvviz.engine.tape import Step, Tape

NETWORK_ITSELF = "(the network)"
"""In place of a module, for operations that the network itself calls."""


@dataclass(frozen=True)
class OpUse:
    """One operation, wherever a network uses it and it is treated alike."""

    op: str  # "aten.silu_.default": `torch.ops` has it under this name
    support: Support
    note: str  # by analogy: what is done instead; refused: why; exact: empty
    count: int  # calls
    modules: tuple[str, ...]  # dotted names of those that call it; "" is the network itself

    def __str__(self) -> str:
        support = f"{self.support.value} ({self.note})" if self.note else self.support.value
        return f"{self.op} x{self.count}: {support}; in {self.where}"

    @property
    def short(self) -> str:
        """``silu``, of ``aten.silu_.default``; an operation of other people's keeps its whole name."""
        space, _, name = self.op.partition(".")
        return name.partition(".")[0].rstrip("_") if space == "aten" else self.op

    @property
    def where(self) -> str:
        """The modules, or the first of them and how many more."""
        names = [name or NETWORK_ITSELF for name in self.modules]
        return ", ".join(names) if len(names) <= 2 else f"{names[0]} and {len(names) - 1} more"

    def to_json(self) -> dict[str, Any]:
        return {
            "op": self.op,
            "verdict": self.support.value,
            "how": self.note,
            "count": self.count,
            "modules": list(self.modules),
        }


@dataclass(frozen=True, repr=False)
class Coverage:
    """Every operation through which some layers of a network are projected, or any layer that it has.

    An operation that receives no signal although it depends on the image (a gate's sigmoid) counts as by
    analogy. Calls that only work on constant numbers, or through which no layer is projected, have no part in
    any projection: they are only counted.
    """

    network: str
    layers: tuple[str, ...]  # whose projections these are; empty: all
    uses: tuple[OpUse, ...]  # in the order in which the network comes to them
    without_part: int  # calls
    see: str = "net.coverage()"  # where a person finds the whole of it

    @property
    def exact(self) -> tuple[OpUse, ...]:
        return self._of(Support.EXACT)

    @property
    def by_analogy(self) -> tuple[OpUse, ...]:
        return self._of(Support.APPROXIMATE)

    @property
    def refused(self) -> tuple[OpUse, ...]:
        return self._of(Support.UNSUPPORTED)

    @property
    def calls(self) -> int:
        """How many calls take part."""
        return _calls(self.uses)

    def _of(self, support: Support) -> tuple[OpUse, ...]:
        return tuple(use for use in self.uses if use.support is support)

    def line(self) -> str:
        """One line: what is refused and what is by analogy, and where to read more."""
        parts = [
            f"{support.value}: {_calls(some)} of {counted(self.calls)} ({_spoken(some)})"
            for support, some in ((Support.UNSUPPORTED, self.refused), (Support.APPROXIMATE, self.by_analogy))
            if some
        ]
        if not parts:
            return (
                f"exact: all of {counted(self.calls)}" if self.calls else "nothing flows down: held constant"
            )
        return f"{'; '.join(parts)}; see: {self.see}"

    def summary(self) -> str:
        """How many calls are of which kind, as one line."""
        counts = [
            f"{_calls(some)} {support.value}"
            for support, some in (
                (Support.EXACT, self.exact),
                (Support.APPROXIMATE, self.by_analogy),
                (Support.UNSUPPORTED, self.refused),
            )
        ]
        below = f", down from {', '.join(self.layers)}" if self.layers else ""
        return f"{self.network}{below}: {counted(self.calls)}, {', '.join(counts)}"

    def __repr__(self) -> str:
        return f"<Coverage of {self.summary()}>"

    def __str__(self) -> str:
        return "\n".join([*map(str, self.uses), self.summary()])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(title)}</th>" for title in TITLES)
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells(use)) + "</tr>" for use in self.uses
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        return f"<p>{escape(self.summary())}</p>{table}"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; counts are of calls."""
        return {
            "network": self.network,
            "layers": list(self.layers),
            "calls": self.calls,
            "exact": _calls(self.exact),
            "by_analogy": _calls(self.by_analogy),
            "refused": _calls(self.refused),
            "without_part": self.without_part,
            "ops": [use.to_json() for use in self.uses],
        }


TITLES = ("operation", "calls", "verdict", "in", "how, or why not")


def cells(use: OpUse) -> tuple[str, str, str, str, str]:
    """One operation as the five columns of a table, as text."""
    return use.op, str(use.count), use.support.value, use.where, use.note


def counted(calls: int) -> str:
    return "1 call" if calls == 1 else f"{calls} calls"


def _calls(uses: Sequence[OpUse]) -> int:
    return sum(use.count for use in uses)


def _spoken(uses: Sequence[OpUse]) -> str:
    """``silu x33: the signal is rectified; sigmoid x16: held constant at its recorded value``."""
    alike: dict[str, Counter[str]] = {}  # operations by what is done, in the order of first appearance
    for use in uses:
        alike.setdefault(use.note.partition(":")[0], Counter())[use.short] += use.count
    return "; ".join(f"{', '.join(ops)} x{ops.total()}: {note}" for note, ops in alike.items())


@dataclass(frozen=True)
class _Call:
    """A step of a tape, without its tensors."""

    use: tuple[str, Support, str]
    module: str
    arguments: tuple[int | None, ...]
    inputs: tuple[int | None, ...]
    output: int
    carries: bool


class Survey:
    """Summary of a tape's calls. Holds no tensors, so it can outlive the tape."""

    def __init__(self, tape: Tape) -> None:
        self._calls = [_call(step) for step in tape.steps]
        self._carrying = frozenset(tape.signal_values)
        self._values = {out.name: out.value for out in tape.outputs if out.value is not None}

    def coverage(
        self, network: str, layers: Sequence[tuple[str, str]] = (), *, see: str = "net.coverage()"
    ) -> Coverage:
        """Return the coverage of some layers, each (name, dotted name); without any, of all there are."""
        starts = [self._values[dotted] for _, dotted in layers] if layers else self._values.values()
        taking = self._taking_part(set(starts))
        counts: Counter[tuple[str, Support, str]] = Counter()
        modules: dict[tuple[str, Support, str], dict[str, None]] = {}
        for number, call in enumerate(self._calls):
            if number in taking:
                counts[call.use] += 1
                modules.setdefault(call.use, {})[call.module] = None
        uses = tuple(OpUse(*use, count, tuple(modules[use])) for use, count in counts.items())
        names = tuple(name for name, _ in layers)
        return Coverage(network, names, uses, len(self._calls) - len(taking), see)

    def _taking_part(self, starts: set[int]) -> set[int]:
        """The calls through which signals of these values flow, and those that are held constant."""
        down, held, taking = set(starts), set[int](), set[int]()
        for number in reversed(range(len(self._calls))):
            call = self._calls[number]
            if call.carries and call.output in down:
                taking.add(number)
                down.update(below for below in call.inputs if below is not None)
                held.update(self._constants(call))
            elif call.output in held or call.output in down:
                held.update(self._constants(call))
                holds = any(argument in self._carrying for argument in call.arguments)
                if holds and call.use[1] is Support.APPROXIMATE:  # a mask, say, is no choice of ours
                    taking.add(number)
        return taking

    def _constants(self, call: _Call) -> list[int]:
        """Those of its arguments that were held constant before."""
        return [value for value in call.arguments if value is not None and value not in self._carrying]


def _call(step: Step) -> _Call:
    use = (str(step.op), *_support(step))
    return _Call(use, step.module, step.arguments, step.inputs, step.output, step.carries)


def _support(step: Step) -> tuple[Support, str]:
    if reason := step.reason():
        return Support.UNSUPPORTED, reason
    if step.rule is None:
        return Support.EXACT, ""  # it gives a mask or numbers of places, into which nothing can flow
    return step.rule.support, step.rule.note if step.rule.support is Support.APPROXIMATE else ""
