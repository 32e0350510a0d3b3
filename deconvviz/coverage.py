"""How far the way down through a network can be trusted: each operation exact, by analogy, or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from deconvviz.engine.rules import Verdict
from deconvviz.engine.tape import Step, Tape

NETWORK_ITSELF = "(the network)"
"""Where an operation stands that the network calls outside of all its parts."""


@dataclass(frozen=True)
class OpUse:
    """One operation, wherever a network uses it and it is treated alike."""

    op: str  # "aten.silu_.default": `torch.ops` has it under this name
    verdict: Verdict
    how: str  # by analogy: what is done instead; refused: why; exact: empty
    count: int  # calls
    modules: tuple[str, ...]  # dotted names of those it stands in; "" is the network itself

    def __str__(self) -> str:
        told = f"{self.verdict.value} ({self.how})" if self.how else self.verdict.value
        return f"{self.op} x{self.count}: {told}; in {self.where}"

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
        return {**asdict(self), "verdict": self.verdict.value, "modules": list(self.modules)}


@dataclass(frozen=True, repr=False)
class Coverage:
    """Every operation on the way down from some layers of a network, or from any layer that it has.

    An operation into which nothing flows although it comes from the picture (a gate's sigmoid) counts as by
    analogy. What only works on numbers that are constant already, or is on the way down from no layer, has no
    part in any projection: of that only the number of calls is told.
    """

    network: str
    layers: tuple[str, ...]  # whose way down this is; empty: of all
    uses: tuple[OpUse, ...]  # in the order in which the network comes to them
    without_part: int  # calls
    see: str = "net.coverage()"  # where a person finds the whole of it

    @property
    def exact(self) -> tuple[OpUse, ...]:
        return self._of(Verdict.EXACT)

    @property
    def by_analogy(self) -> tuple[OpUse, ...]:
        return self._of(Verdict.ANALOGY)

    @property
    def refused(self) -> tuple[OpUse, ...]:
        return self._of(Verdict.REFUSED)

    @property
    def calls(self) -> int:
        """How many calls take part."""
        return _calls(self.uses)

    def _of(self, verdict: Verdict) -> tuple[OpUse, ...]:
        return tuple(use for use in self.uses if use.verdict is verdict)

    def line(self) -> str:
        """One line: what is refused and what is by analogy, and where to read more."""
        told = [
            f"{verdict.value}: {_calls(some)} of {counted(self.calls)} ({_spoken(some)})"
            for verdict, some in ((Verdict.REFUSED, self.refused), (Verdict.ANALOGY, self.by_analogy))
            if some
        ]
        if not told:
            return (
                f"exact: all of {counted(self.calls)}" if self.calls else "nothing flows down: held constant"
            )
        return f"{'; '.join(told)}; see: {self.see}"

    def summary(self) -> str:
        """How many calls are of which kind, as one line."""
        counts = [
            f"{_calls(some)} {verdict.value}"
            for verdict, some in (
                (Verdict.EXACT, self.exact),
                (Verdict.ANALOGY, self.by_analogy),
                (Verdict.REFUSED, self.refused),
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
    return use.op, str(use.count), use.verdict.value, use.where, use.how


def counted(calls: int) -> str:
    return "1 call" if calls == 1 else f"{calls} calls"


def _calls(uses: Sequence[OpUse]) -> int:
    return sum(use.count for use in uses)


def _spoken(uses: Sequence[OpUse]) -> str:
    """``silu x33: the signal is rectified; sigmoid x16: held constant at its recorded value``."""
    alike: dict[str, Counter[str]] = {}  # operations by what is done, in the order of first appearance
    for use in uses:
        alike.setdefault(use.how.partition(":")[0], Counter())[use.short] += use.count
    return "; ".join(f"{', '.join(ops)} x{ops.total()}: {how}" for how, ops in alike.items())


@dataclass(frozen=True)
class _Call:
    """A step of a tape, without its tensors."""

    use: tuple[str, Verdict, str]
    module: str
    arguments: tuple[int | None, ...]
    inputs: tuple[int | None, ...]
    output: int
    carries: bool


class Survey:
    """What a tape says of the calls on it. It holds no tensor, so that it may outlive the tape."""

    def __init__(self, tape: Tape) -> None:
        self._calls = [_call(step) for step in tape.steps]
        self._carrying = frozenset(tape.carrying)
        self._values = {
            out.module if out.call == 1 else f"{out.module}:{out.call}": out.value
            for out in tape.outputs
            if out.value is not None
        }

    def coverage(
        self, network: str, layers: Sequence[tuple[str, str]] = (), *, see: str = "net.coverage()"
    ) -> Coverage:
        """Of the way down from some layers, each (name, dotted name); without any: from whatever there is."""
        starts = [self._values[dotted] for _, dotted in layers] if layers else self._values.values()
        taking = self._taking_part(set(starts))
        counts: Counter[tuple[str, Verdict, str]] = Counter()
        modules: dict[tuple[str, Verdict, str], dict[str, None]] = {}
        for number, call in enumerate(self._calls):
            if number in taking:
                counts[call.use] += 1
                modules.setdefault(call.use, {})[call.module] = None
        uses = tuple(OpUse(*use, count, tuple(modules[use])) for use, count in counts.items())
        names = tuple(name for name, _ in layers)
        return Coverage(network, names, uses, len(self._calls) - len(taking), see)

    def _taking_part(self, starts: set[int]) -> set[int]:
        """The calls through which a signal comes down from these values, and those at which it is held."""
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
                if holds and call.use[1] is Verdict.ANALOGY:  # a mask, say, is no choice of ours
                    taking.add(number)
        return taking

    def _constants(self, call: _Call) -> list[int]:
        """Those of its arguments that were held constant before."""
        return [value for value in call.arguments if value is not None and value not in self._carrying]


def _call(step: Step) -> _Call:
    use = (str(step.op), *_verdict(step))
    return _Call(use, step.module, step.arguments, step.inputs, step.output, step.carries)


def _verdict(step: Step) -> tuple[Verdict, str]:
    if reason := step.reason():
        return Verdict.REFUSED, reason
    if step.rule is None:
        return Verdict.EXACT, ""  # it gives a mask or numbers of places, into which nothing can flow
    return step.rule.verdict, step.rule.how if step.rule.verdict is Verdict.ANALOGY else ""
