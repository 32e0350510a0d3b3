"""Select the tensors of a checkpoint that are the weights of a network."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.errors import WeightsError
from deconvviz.models.checkpoints import unusable_kind
from deconvviz.models.missing_weights import Shape, missing_weights
from deconvviz.models.state_dict import (
    current_name,
    differences,
    listed,
    needed,
    only_classes_differ,
    with_current_names,
)
from deconvviz.models.stored_tensors import Stored, is_averaged, is_usual
from deconvviz.wording import counted

_PROFILED = ("total_ops", "total_params")  # counters that the profiler thop adds to every module
_NUMBER = re.compile(r"\d*$")


@dataclass(frozen=True)
class Choice:
    """Tensors to load, their prefix in the file, and notes for the user."""

    state: dict[str, Tensor]
    prefix: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Aim:
    """The network, or a submodule with most of its tensors: a file may contain only that submodule."""

    prefix: str  # of its tensors' names in the network
    module: nn.Module
    own: dict[str, Tensor]  # its tensors, without the prefix

    def is_new(self, prefix: str) -> bool:
        """Return False if a prefix in a file ends with `self.prefix`: the whole network then matches too."""
        return not self.prefix or prefix.split(".")[-2:] != self.prefix.split(".")[-2:]

    def in_network(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors under their names in the whole network."""
        named = OrderedDict((f"{self.prefix}{key}", tensor) for key, tensor in given.items())
        versions = getattr(given, "_metadata", None)
        if versions is not None:
            named._metadata = _versions_in(versions, self.prefix)  # type: ignore[attr-defined]
        return named


@dataclass(frozen=True)
class _Match:
    """A prefix in a file under which there are all tensors of a network and no others of a larger network.

    If there is no such prefix: one under which there are the tensors of the network's lower layers.
    """

    prefix: str
    inner: str  # the prefix within the part that the user requested
    added: str  # a prefix that the names have in the network but not in the file
    given: dict[str, Tensor]  # with the network's names
    taken: frozenset[str]  # their names in the file
    exact: bool  # False: the number of classes differs, or the upper layers are missing

    @property
    def place(self) -> str:
        return self.prefix.removesuffix(".")

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """Sort key: weights that are not averaged come first, then exact matches, then usual names."""
        return is_averaged(self.inner), not self.exact, not is_usual(self.inner)

    @property
    def order(self) -> tuple[tuple[bool, bool, bool], bool, bool]:
        return self.rank, self.prefix != "", self.added != ""


def choose(
    stored: Stored, module: nn.Module, file: str, part: str = "", shape: Shape | None = None
) -> Choice:
    """Return the tensors in a file that have the names and shapes of a network, after any prefix.

    `part` is the prefix that the user requested. If no tensors fit the whole network and the `shape` of its
    input is given, tensors of the lower layers are returned. If there are none either, the closest tensors
    are returned, so that `fit` can list the differences. Raises WeightsError if there is no such part, or if
    several sets of tensors fit.
    """
    stored = _part_of(stored, part, file) if part else stored
    own = module.state_dict()
    aims = [(aim, _names_found(stored, aim.own)) for aim in _aims(module, own)]
    found = aims[0][1]
    matches = [
        match
        for aim, prefixes in aims
        for prefix, names in prefixes.items()
        if len(names) == len(needed(own)) and aim.is_new(prefix)
        if (match := _match(stored, prefix, part, aim))
    ]
    matches = matches or _beginnings(stored, module, part, aims, shape)
    if not matches:
        return _closest(stored, module, own, found)
    chosen, *others = sorted(matches, key=lambda match: match.order)
    rivals = [match for match in others if match.rank == chosen.rank and not _same(match.given, chosen.given)]
    if rivals and chosen.prefix:
        places = [chosen.place, *(match.place for match in rivals)]
        raise WeightsError(
            f"{file} has {len(places)} sets of weights that fit the network: {listed(places, shown=6)}. "
            "Choose one with {option}",
            option=f"weights={file}#{places[0]}",
        )
    return Choice(chosen.given, chosen.prefix, tuple(_notes(stored, chosen, others, own, found, file, part)))


def _aims(module: nn.Module, own: dict[str, Tensor]) -> Iterator[_Aim]:
    """Yield the network, and the submodules, each inside the last, with at least half of its tensors."""
    yield _Aim("", module, own)
    prefix, least = "", len(needed(own)) / 2
    while True:
        parts = Counter(
            key.removeprefix(prefix).partition(".")[0]
            for key in needed(own)
            if key.startswith(prefix) and "." in key.removeprefix(prefix)
        )
        part, count = next(iter(parts.most_common(1)), ("", 0))
        if not count or count < least:
            return
        prefix = f"{prefix}{part}."
        inside = {key.removeprefix(prefix): own[key] for key in own if key.startswith(prefix)}
        try:
            yield _Aim(prefix, module.get_submodule(prefix.removesuffix(".")), inside)
        except AttributeError:  # the names of the state dict are not those of the modules
            return


def _versions_in(versions: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}".removesuffix("."): version for name, version in versions.items()}


def _part_of(stored: Stored, part: str, file: str) -> Stored:
    within = stored.within(part)
    if not within.tensors:
        raise WeightsError(f"{file} has no tensors under {part!r}: it has {listed(stored.parts, shown=8)}")
    return within


def _names_found(stored: Stored, own: Mapping[str, Tensor]) -> dict[str, set[str]]:
    """Return, for each prefix in the file, the network's names that follow it."""
    names = needed(own)
    found: dict[str, set[str]] = {}
    for name in stored.tensors:
        for spelt in {name, current_name(name)}:
            for prefix, rest in _splits(spelt):
                if rest in names:
                    found.setdefault(prefix, set()).add(rest)
    return found


def _splits(name: str) -> Iterator[tuple[str, str]]:
    yield "", name
    for dot in re.finditer(r"\.", name):
        yield name[: dot.end()], name[dot.end() :]


def _match(stored: Stored, prefix: str, part: str, aim: _Aim) -> _Match | None:
    given = _given(stored, prefix, aim)
    exact = not differences(given, aim.own)
    if not exact and only_classes_differ(given, aim.own) is None:
        return None
    return _matched(stored, prefix, part, aim, given, exact=exact)


def _given(stored: Stored, prefix: str, aim: _Aim) -> dict[str, Tensor]:
    return _without_unrelated(stored.below(prefix), aim.module, aim.own)


def _matched(
    stored: Stored, prefix: str, part: str, aim: _Aim, given: dict[str, Tensor], *, exact: bool
) -> _Match:
    taken = frozenset(name for name in stored.tensors if _is_own(name, prefix, aim.own))
    inner = prefix.removeprefix(f"{part}.")
    return _Match(prefix, inner, aim.prefix, aim.in_network(given), taken, exact)


def _beginnings(
    stored: Stored,
    module: nn.Module,
    part: str,
    aims: Sequence[tuple[_Aim, Mapping[str, set[str]]]],
    shape: Shape | None,
) -> list[_Match]:
    """Return the largest sets of tensors that fill the lower layers of a network and no others."""
    if shape is None:
        return []
    own = aims[0][0].own
    matches = [
        _matched(stored, prefix, part, aim, _given(stored, prefix, aim), exact=False)
        for aim, prefixes in aims
        for prefix in prefixes
        if aim.is_new(prefix)
        if 2 * len(prefixes[prefix]) >= len(needed(own)) or (is_usual(prefix) and not aim.prefix)
    ]
    counts = [len(_fitting(match.given, own)) for match in matches]
    most = max(counts, default=0)
    largest = [match for match, count in zip(matches, counts, strict=True) if count == most > 0]
    return [match for match in largest if missing_weights(module, match.given, shape) is not None]


def _fitting(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> set[str]:
    return {key for key in needed(own) if key in given and given[key].shape == own[key].shape}


def _is_own(name: str, prefix: str, own: Mapping[str, Tensor]) -> bool:
    rest = name.removeprefix(prefix)
    return name.startswith(prefix) and (rest in own or current_name(rest) in own)


def _without_unrelated(
    state: Mapping[str, Tensor], module: nn.Module, own: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors under the network's names, without unrelated ones.

    Tensors that may belong to parts of a larger network are kept, so that they are found not to fit.
    """
    given = with_current_names(state, own)
    parts = _parts(module) | {key.partition(".")[0] for key in own}
    series = {_NUMBER.sub("", part) for part in parts if part[-1:].isdigit()}
    for key in [key for key in given if key not in own]:
        first = key.partition(".")[0]
        # layer5, where the network has layer4, belongs to a larger network
        numbered = first[-1:].isdigit() and _NUMBER.sub("", first) in series
        if not (first in parts or numbered) or key.rpartition(".")[2] in _PROFILED:
            del given[key]
    return given


def _parts(module: nn.Module) -> set[str]:
    """Return the names of a network's direct parts, including parts that it was built without."""
    attributes = vars(module)
    slots = [attributes.get(slot) for slot in ("_modules", "_parameters", "_buffers")]
    registered = {name for slot in slots if isinstance(slot, Mapping) for name in slot}
    return registered | {name for name, value in attributes.items() if value is None}


def _closest(
    stored: Stored, module: nn.Module, own: dict[str, Tensor], found: Mapping[str, set[str]]
) -> Choice:
    """Return the tensors under the prefix with most of the network's names, for an error message."""
    ranked = sorted(found, key=lambda one: (-len(found[one]), is_averaged(one), not is_usual(one)))
    if not ranked or 2 * len(found[ranked[0]]) < len(needed(own)):
        return Choice(stored.below(stored.main), stored.main)
    prefix = ranked[0]
    state = stored.below(prefix)
    if len(found[prefix]) == len(needed(own)):
        state = _without_unrelated(state, module, own)
    return Choice(state, prefix)


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)


def _equal(one: Tensor, other: Tensor) -> bool:
    if unusable_kind(one) or unusable_kind(other) or one.dtype != other.dtype:
        return False
    return torch.equal(one, other)


def _notes(
    stored: Stored,
    chosen: _Match,
    others: Sequence[_Match],
    own: Mapping[str, Tensor],
    found: Mapping[str, set[str]],
    file: str,
    part: str,
) -> Iterator[str]:
    """Yield notes on the chosen tensors and on the other tensors in the file."""
    others = [match for match in others if not match.taken <= chosen.taken]
    mentioned = chosen.taken.union(*(match.taken for match in others))
    averaged = any(is_averaged(match.inner) for match in others)
    partial = [] if averaged or is_averaged(chosen.prefix) else _partial_averages(found, own)
    unused = [name for name in stored.tensors if name not in mentioned]
    if averaged or partial:
        unused = [name for name in unused if not is_averaged(name)]
    mapping = max(stored.mapping_of(chosen.prefix), f"{part}." if part else "", key=len)
    dropped = chosen.prefix[len(mapping) :]
    if is_averaged(chosen.inner):
        yield f"these are averaged weights (EMA), from {chosen.place} in the file"
    elif not is_usual(mapping.removeprefix(f"{part}.")) and len(stored.tensors) > len(chosen.taken):
        yield f"weights from {mapping.removesuffix('.')} in the file"
    if dropped:
        yield f"removed the prefix {dropped} from the names of the tensors"
    if chosen.added:
        yield f"added the prefix {chosen.added} to the names of the tensors"
    for match in others:
        if is_averaged(match.inner):
            yield f"the file also has averaged weights (EMA); to use them, load {file}#{match.place}"
        elif not _same(match.given, chosen.given):
            but = "" if match.exact else ", with another number of classes"
            yield f"{match.place} in the file fits the network too{but}; to use it, load {file}#{match.place}"
    for prefix in partial:
        absent = sorted(needed(own) - found[prefix])
        yield (
            f"the file also has averaged weights (EMA) in {prefix.removesuffix('.')}, which cannot be used "
            f"alone: {counted(len(absent), 'tensor')} missing there ({listed(absent)})"
        )
    if unused:
        yield f"not used: {counted(len(unused), 'other tensor')} in the file ({listed(unused)})"


def _partial_averages(found: Mapping[str, set[str]], own: Mapping[str, Tensor]) -> list[str]:
    """Return the prefixes of averages that lack tensors, such as the statistics of batch normalisation."""
    names = needed(own)
    return [one for one in found if is_averaged(one) and len(names) / 2 <= len(found[one]) < len(names)]
