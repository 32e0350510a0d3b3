"""Which operations of a network have exact projection rules, approximate ones, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from deconvviz.engine.rules import Support
from deconvviz.engine.tape import Step, Tape
from deconvviz.html_views import table
from deconvviz.wording import counted

NETWORK_ITSELF = "(the network)"
"""In place of a module, for operations that the network itself calls."""


@dataclass(frozen=True)
class OpUse:
    """An operation of a network and the support of its projection rule, with all calls that share it."""

    op: str  # its name in `torch.ops`, such as "aten.silu_.default"
    support: Support
    note: str  # approximate: what is done instead; unsupported: why; exact: empty
    count: int  # number of calls
    modules: tuple[str, ...]  # dotted names of the modules that call it; "" is the network itself

    def __str__(self) -> str:
        support = f"{self.support.value} ({self.note})" if self.note else self.support.value
        return f"{self.op} x{self.count}: {support}; in {self.where}"

    @property
    def short(self) -> str:
        """Short name: ``silu`` for ``aten.silu_.default``; the whole name outside ``aten``."""
        space, _, name = self.op.partition(".")
        return name.partition(".")[0].rstrip("_") if space == "aten" else self.op

    @property
    def where(self) -> str:
        """Names of up to two modules, or the first one and the number of others."""
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
    """The operations that take part in the projection of some layers of a network, or of any layer.

    An operation that depends on the image but is treated as a constant (the sigmoid of a gate) is
    approximate. Calls that take part in no projection are only counted, in `without_part`.
    """

    network: str
    layers: tuple[str, ...]  # the projected layers; empty: all
    uses: tuple[OpUse, ...]  # in the order of the forward pass
    without_part: int  # number of calls that take part in no projection
    see: str = "net.coverage()"  # the command that prints the whole coverage

    @property
    def exact(self) -> tuple[OpUse, ...]:
        return self._of(Support.EXACT)

    @property
    def approximate(self) -> tuple[OpUse, ...]:
        return self._of(Support.APPROXIMATE)

    @property
    def unsupported(self) -> tuple[OpUse, ...]:
        return self._of(Support.UNSUPPORTED)

    @property
    def calls(self) -> int:
        """Number of calls that take part in a projection."""
        return _calls(self.uses)

    def _of(self, support: Support) -> tuple[OpUse, ...]:
        return tuple(use for use in self.uses if use.support is support)

    def line(self) -> str:
        """Return one line with the unsupported and approximate operations, and where to read more."""
        parts = [
            f"{support.value}: {_calls(some)} of {counted(self.calls, 'call')} ({_by_note(some)})"
            for support, some in (
                (Support.UNSUPPORTED, self.unsupported),
                (Support.APPROXIMATE, self.approximate),
            )
            if some
        ]
        if not parts:
            return (
                f"exact: all of {counted(self.calls, 'call')}"
                if self.calls
                else "constant: no operation takes part in the projection"
            )
        return f"{'; '.join(parts)}; see: {self.see}"

    def summary(self) -> str:
        """Return one line with the number of exact, approximate and unsupported calls."""
        counts = [
            f"{_calls(some)} {support.value}"
            for support, some in (
                (Support.EXACT, self.exact),
                (Support.APPROXIMATE, self.approximate),
                (Support.UNSUPPORTED, self.unsupported),
            )
        ]
        below = f", projections of {', '.join(self.layers)}" if self.layers else ""
        return f"{self.network}{below}: {counted(self.calls, 'call')}, {', '.join(counts)}"

    def __repr__(self) -> str:
        return f"<Coverage of {self.summary()}>"

    def __str__(self) -> str:
        return "\n".join([*map(str, self.uses), self.summary()])

    def _repr_html_(self) -> str:
        return table(TITLES, [cells(use) for use in self.uses], self.summary())

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; counts are numbers of calls."""
        return {
            "network": self.network,
            "layers": list(self.layers),
            "calls": self.calls,
            "exact": _calls(self.exact),
            "approximate": _calls(self.approximate),
            "unsupported": _calls(self.unsupported),
            "by_analogy": _calls(self.approximate),  # the two older keys
            "refused": _calls(self.unsupported),
            "without_part": self.without_part,
            "ops": [use.to_json() for use in self.uses],
        }


TITLES = ("operation", "calls", "verdict", "modules", "note")


def cells(use: OpUse) -> tuple[str, str, str, str, str]:
    """Return one operation as the five columns of a table."""
    return use.op, str(use.count), use.support.value, use.where, use.note


def _calls(uses: Sequence[OpUse]) -> int:
    return sum(use.count for use in uses)


def _by_note(uses: Sequence[OpUse]) -> str:
    """Return operations grouped by note: ``silu x33: the signal is rectified; sigmoid x16: ...``."""
    alike: dict[str, Counter[str]] = {}  # operations by note, in the order of first appearance
    for use in uses:
        alike.setdefault(use.note.partition(":")[0], Counter())[use.short] += use.count
    return "; ".join(f"{', '.join(ops)} x{ops.total()}: {note}" for note, ops in alike.items())


class _Call(NamedTuple):
    """Step of a tape without its tensors."""

    use: tuple[str, Support, str]
    module: str
    arguments: tuple[int | None, ...]
    inputs: tuple[int | None, ...]
    output: int
    receives_signal: bool


class Survey:
    """Summary of a tape's calls. Holds no tensors, so it can outlive the tape."""

    def __init__(self, tape: Tape) -> None:
        names = {step.op: str(step.op) for step in tape.steps}
        self._calls = [_call(step, names[step.op]) for step in tape.steps]
        self._carrying = frozenset(tape.signal_values)
        self._values = {out.name: out.value for out in tape.outputs if out.value is not None}

    def coverage(
        self, network: str, layers: Sequence[tuple[str, str]] = (), *, see: str = "net.coverage()"
    ) -> Coverage:
        """Return the coverage of some layers, each (name, dotted name); of all layers if none is given."""
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
        """Return the calls on the projection path from these values, and those treated as constants."""
        projected, constant, taking = set(starts), set[int](), set[int]()
        for number in reversed(range(len(self._calls))):
            call = self._calls[number]
            if call.receives_signal and call.output in projected:
                taking.add(number)
                projected.update(below for below in call.inputs if below is not None)
                constant.update(self._constants(call))
            elif call.output in constant or call.output in projected:
                constant.update(self._constants(call))
                holds = any(argument in self._carrying for argument in call.arguments)
                if holds and call.use[1] is Support.APPROXIMATE:  # a comparison mask is constant anyway
                    taking.add(number)
        return taking

    def _constants(self, call: _Call) -> list[int]:
        """Return the arguments of a call that receive no signal."""
        return [value for value in call.arguments if value is not None and value not in self._carrying]


def _call(step: Step, name: str) -> _Call:
    use = (name, *step.verdict)
    return _Call(use, step.module, step.arguments, step.inputs, step.output, step.receives_signal)
