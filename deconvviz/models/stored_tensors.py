"""Named tensors of a checkpoint, at any depth, without the state of optimizers."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deconvviz.errors import WeightsError
from deconvviz.models.inert_pickle import Foreign
from deconvviz.printable_names import printable
from deconvviz.wording import counted, listed, with_article

# Names that do not identify a network: of training scripts, Lightning, DataParallel and torch.compile.
USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "module", "_orig_mod")
ADVICE = "Save only the tensors, with torch.save(net.state_dict(), FILE) or as .safetensors"

_AVERAGED = re.compile(r"(^|_)(ema|shadow|avg|averag\w*|swa|polyak)(_|$)", re.IGNORECASE)
_TRAINING = re.compile(r"^optim$|optimi[sz]er|scheduler", re.IGNORECASE)
_SLOTS = frozenset(  # state of optimizers that store it by parameter name
    ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "acc_delta", "grad", "grads")
)
_NUMPY = {"scalar": "numpy scalar", "_reconstruct": "numpy array", "_frombuffer": "numpy array"}
_SHOWN = 200  # maximum length of a name in messages
_DEPTH, _COUNT = 50, 100_000  # limits, because a mapping can contain itself or occur in very many places


@dataclass(frozen=True)
class Stored:
    """Named tensors of a file.

    The names of nested mappings and lists are joined with dots: ``{"state_dict": {"conv.weight": ...}}`` has
    one tensor, ``state_dict.conv.weight``. A prefix is empty or ends with a dot.
    """

    tensors: Mapping[str, Tensor]
    versions: Mapping[str, Any]  # by prefix: the entry of a module in PyTorch's `_metadata`
    counts: Mapping[str, int]  # by prefix of a mapping: the number of tensors directly in it
    ignored: str = ""  # a note on the objects in the file that are not tensors; empty if there are none

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names start with a prefix, as a state dict without the prefix."""
        state = OrderedDict(_below(self.tensors, prefix))
        versions = OrderedDict((name.rstrip("."), version) for name, version in _below(self.versions, prefix))
        if versions:
            state._metadata = versions  # type: ignore[attr-defined]
        return state

    def within(self, part: str) -> Stored:
        """Return the tensors of one part only, such as ``teacher``. Their names do not change."""
        prefix = f"{part}."

        def kept(of: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in of.items() if name.startswith(prefix)}

        return Stored(kept(self.tensors), kept(self.versions), kept(self.counts), self.ignored)

    def mapping_of(self, prefix: str) -> str:
        """Return the part of a prefix that names mappings in the file; the rest is part of tensor names."""
        return max((one for one in self.counts if prefix.startswith(one)), key=len, default="")

    @property
    def parts(self) -> list[str]:
        """First components of the names, in the order of the file."""
        return list(dict.fromkeys(name.partition(".")[0] for name in self.tensors))

    @property
    def main(self) -> str:
        """Prefix of the tensors that are most likely the state dict of a network."""
        largest = max(
            self.counts or {"": 0},
            key=lambda one: (not is_averaged(one), bool(one) and is_usual(one), self.counts.get(one, 0)),
        )
        return largest + _usual_prefix(dict(_below(self.tensors, largest)))


def is_usual(prefix: str) -> bool:
    """Return True if a prefix is empty or consists of names that do not identify a network."""
    return all(name in USUAL for name in prefix.split(".")[:-1])


def is_averaged(prefix: str) -> bool:
    """Return True if a prefix names an averaged copy of the weights (EMA, SWA)."""
    return any(_AVERAGED.search(name) for name in prefix.split(".")[:-1])


def named_tensors(content: Any, source: str, subclasses: Sequence[str] = ()) -> Stored:
    """Return all named tensors in the content of a file.

    `subclasses` are the tensor subclasses that were read as plain tensors. Raises WeightsError, naming the
    `source`, if there are no tensors.
    """
    foreign = [*foreign_in(content), *subclasses]
    if not _is_searched(content):
        kind = with_article(type(content).__name__)
        message = f"{source} contains no named tensors: it contains {kind}. {ADVICE}"
        raise WeightsError(_only_foreign(foreign, source) if foreign else message)
    search = _Search(source)
    if not _is_optimizer(content):
        search.enter(content, "", 0)
    if not search.tensors:
        raise WeightsError(_without_tensors(content, source, foreign))
    return Stored(search.tensors, search.versions, search.counts, ignored_note(foreign))


def ignored_note(foreign: Sequence[str]) -> str:
    """Return the note on ignored objects, given the names of their classes."""
    if not foreign:
        return ""
    plural = "objects that are not tensors" if len(foreign) > 1 else "object that is not a tensor"
    return f"ignored {len(foreign):,} {plural}: {_kinds(foreign)}"


def foreign_in(content: Any) -> list[str]:
    """Return the class names of the ignored objects in a file, without the objects inside them.

    An object is not ignored but read as a mapping if one of its entries is a tensor. The outermost object is
    read as a mapping if it has any entries.
    """
    found: list[str] = []
    waiting, seen = [content], {id(content)}
    while waiting:
        one = waiting.pop()
        if isinstance(one, Foreign) and not _is_mapping(one, outermost=one is content):
            found.append(_spelled(one.name))
            continue
        inner = list(_values(one))
        for entry in reversed(inner):
            if isinstance(entry, Foreign | Mapping | list | tuple) and id(entry) not in seen:
                seen.add(id(entry))
                waiting.append(entry)
    return found


class _Search:
    def __init__(self, source: str) -> None:
        self.source = source
        self.tensors: dict[str, Tensor] = {}
        self.versions: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.entered = 0

    def enter(self, content: Any, prefix: str, depth: int) -> None:
        self.entered += 1
        if depth > _DEPTH or self.entered > _COUNT:
            raise WeightsError(
                f"{self.source} is nested too deeply, or one of its mappings contains itself. {ADVICE}"
            )
        versions = getattr(content, "_metadata", None)
        if isinstance(versions, Mapping):
            self.versions.update({f"{prefix}{key}." if key else prefix: v for key, v in versions.items()})
        before = len(self.tensors)
        for key, value in _entries(content):
            if isinstance(value, Tensor):
                self.add(f"{prefix}{key}", value)
        if isinstance(content, Foreign | Mapping) and len(self.tensors) > before:
            self.counts[prefix] = len(self.tensors) - before
        for key, value in _entries(content):
            if isinstance(value, Foreign | Mapping | list | tuple) and not _of_training(key, value):
                self.enter(value, f"{prefix}{key}.", depth + 1)

    def add(self, name: str, tensor: Tensor) -> None:
        if name in self.tensors:
            raise WeightsError(f"{self.source} contains two tensors named {printable(name)}. {ADVICE}")
        self.tensors[name] = tensor


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(content, Foreign):
        content = content.entries
    pairs: Iterable[tuple[Any, Any]] = content.items() if isinstance(content, Mapping) else enumerate(content)
    return ((str(key), value) for key, value in pairs)


def _is_mapping(one: Foreign, *, outermost: bool) -> bool:
    return any(outermost or isinstance(entry, Tensor) for entry in one.entries.values())


def _values(content: Any) -> Iterable[Any]:
    if isinstance(content, Foreign):
        return content.entries.values()
    if isinstance(content, Mapping):
        return content.values()
    return content if isinstance(content, list | tuple) else ()


def _is_searched(content: Any) -> bool:
    """Return True if the content can have named tensors: in a mapping, or in a list of mappings."""
    if isinstance(content, list | tuple):
        return any(isinstance(one, Mapping | Foreign) for one in content)
    return isinstance(content, Mapping) or (isinstance(content, Foreign) and bool(content.entries))


def _of_training(key: str, value: Any) -> bool:
    """Return True if an entry is training state, such as that of an optimizer, and not weights."""
    named = key in _SLOTS or _TRAINING.search(key) is not None
    return named or _is_optimizer(value)


def _is_optimizer(content: Any) -> bool:
    """Return True if the content has the form of `torch.optim.Optimizer.state_dict()`."""
    if not (isinstance(content, Mapping) and "param_groups" in content):
        return False
    state = content.get("state")
    return isinstance(state, Mapping) and not any(isinstance(one, Tensor) for one in state.values())


def _without_tensors(content: Any, source: str, foreign: Sequence[str]) -> str:
    if _is_optimizer(content):
        return f"{source} contains the state of an optimizer, not the weights of a network. {ADVICE}"
    if foreign:
        return _only_foreign(foreign, source)
    plain = [key for key, value in _entries(content) if not isinstance(value, Mapping | list | tuple)]
    if not plain:
        return f"{source} contains no tensors. {ADVICE}"
    some = ", ".join(repr(printable(key[:_SHOWN])) for key in plain[:4])
    return (
        f"{source} contains no tensors: it has {counted(len(plain), 'entry', 'entries')} ({some}), and no "
        f"state dict under {', '.join(USUAL[:3])}. {ADVICE}"
    )


def _only_foreign(foreign: Sequence[str], source: str) -> str:
    kinds = _kinds(foreign)
    return f"{source} contains no named tensors: only code or objects ({kinds}), which were not run. {ADVICE}"


def _kinds(foreign: Sequence[str]) -> str:
    return listed(list(dict.fromkeys(foreign)), shown=4)


def _spelled(name: str) -> str:
    """Return the name of a class as notes show it."""
    module, _, last = name.rpartition(".")
    if module.startswith("numpy") and last in _NUMPY:
        return _NUMPY[last]
    return printable(name.replace("__builtin__.", "builtins.", 1))  # its name in Python 2


def _below(named: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    return ((name[len(prefix) :], value) for name, value in named.items() if name.startswith(prefix))


def _usual_prefix(names: Iterable[str]) -> str:
    """Return the longest prefix of usual names that all names share."""
    prefix, names = "", list(names)
    while len(first := {name.partition(".")[0] for name in names}) == 1 and (part := first.pop()) in USUAL:
        if not all(name.startswith(f"{part}.") for name in names):
            break
        prefix, names = f"{prefix}{part}.", [name[len(part) + 1 :] for name in names]
    return prefix
