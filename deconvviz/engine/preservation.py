"""Restore everything that a forward pass changes in a network.

Some networks count their calls in buffers, update running averages, store their last input, or clip their
weights while they run. Recording must not leave such changes behind.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from deconvviz.errors import NetworkError
from deconvviz.wording import listed

BUFFERS_AT_MOST = 256 << 20  # bytes of buffers that are copied before a pass
WEIGHTS_AT_MOST = 64 << 20  # bytes of weights that are copied if writes to them are not reported

Parts = Sequence[tuple[str, nn.Module]]
"""The submodules of a network with their dotted names, the network itself first."""

_TABLES = ("_parameters", "_buffers", "_modules")


@contextmanager
def preserved(parts: Parts, *, weights: bool = False) -> Iterator[State]:
    """Restore everything that a forward pass inside this context has changed in these modules.

    `weights` states whether to copy weights beforehand, up to a limit. Otherwise call `State.before_write`
    before each write. Raise NetworkError if the pass has created parameters; they are removed.
    """
    state = State(parts, weights=weights)
    try:
        yield state
    except BaseException:
        state.restore()
        raise
    created = state.restore()
    if created:
        raise NetworkError(
            f"forward() created parameters: {listed(created)}. They would be initialised anew in each pass. "
            "Run the module once on an input of your own, and then give it to deconvviz"
        )
    if state.changed:
        warnings.warn(
            f"forward() changed {listed(state.changed)}, which deconvviz cannot restore: "
            "too large to copy before each pass",
            stacklevel=2,
        )


@dataclass
class _Copies:
    """Tensors with a common dtype and device, and a concatenated copy of them."""

    tensors: list[Tensor]
    numbers: Tensor

    @classmethod
    def of(cls, tensors: list[Tensor]) -> _Copies:
        return cls(tensors, _row(tensors))

    def put_back(self, before_write: Callable[[Sequence[Tensor]], None]) -> None:
        if _alike(_row(self.tensors), self.numbers):
            return
        first = 0
        for tensor in self.tensors:
            past = first + tensor.numel()
            put_back(tensor, self.numbers[first:past], before_write)
            first = past


def put_back(
    tensor: Tensor, numbers: Tensor, before_write: Callable[[Sequence[Tensor]], None] = lambda targets: None
) -> None:
    """Restore the numbers of a tensor if they have changed."""
    if not _alike(tensor.detach().reshape(-1), numbers):
        before_write([tensor])
        with torch.inference_mode(tensor.is_inference()), torch.no_grad():
            # `.data` keeps the version counter: the user may still want to run a backward pass
            tensor.data.copy_(numbers.view(tensor.shape))


def _row(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _alike(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are equal bit for bit. NaN equals itself."""
    if one.shape != other.shape:
        return False
    if one.numel() == 0:
        return True
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


class State:
    """Everything that a forward pass can change in a network, before the pass."""

    def __init__(self, parts: Parts, *, weights: bool) -> None:
        self.changed: list[str] = []  # names of tensors that have changed and could not be restored
        self.before_restore: Callable[[Sequence[Tensor]], None] = lambda targets: None
        self._parts = parts
        self._attributes = [
            (name, part, _Contents(_attributes(part))) for name, part in self._parts if _writes(part)
        ]
        self._tables = [(name, part, _tables(part)) for name, part in self._parts]
        self._hooks = [
            (hooks, dict(hooks) if hooks else {})  # most are empty, and to copy a dictionary takes long
            for _, part in self._parts
            for hooks in (part._forward_pre_hooks, part._forward_hooks)
        ]
        named = {
            id(p): (f"{name}.{key}" if name else key, p)
            for name, _, (own, _, _) in self._tables
            for key, p in own.items()
            if p is not None
        }
        parameters = dict(named.values())
        self._weights = [(p, p.requires_grad, p.grad) for p in parameters.values()]
        buffers = self._named_tensors()
        plain = {name: p for name, p in parameters.items() if is_plain(p)}
        own = [tensor for _, _, (_, table, _) in self._tables for tensor in table.values()]
        # parameters and buffers with numbers that can be copied
        self.weights = (*plain.values(), *[b for b in own if b is not None and is_plain(b)])
        self._memory = [(tensor, tensor.detach()) for tensor in (*buffers.values(), *plain.values())]
        self._by_memory: dict[int, list[Tensor]] = {}
        self._written: dict[int, tuple[Tensor, Tensor]] = {}
        kept, large = _smallest(buffers, BUFFERS_AT_MOST)
        if weights:
            more, too_large = _smallest(plain, WEIGHTS_AT_MOST)
            kept, large = kept | more, large | too_large
        else:
            for tensor in (*plain.values(), *large.values()):
                if (memory := memory_of(tensor)) is not None:
                    self._by_memory.setdefault(memory, []).append(tensor)
        self._large = {name: (tensor, fingerprint(tensor)) for name, tensor in large.items()}
        self._copies = _grouped(kept.values())

    def _named_tensors(self) -> dict[str, Tensor]:
        """Return buffers and tensors in plain attributes by name, each tensor once."""
        found: dict[int, tuple[str, Tensor]] = {}
        for name, _, (parameters, buffers, _) in self._tables:
            found |= {id(p): ("", p) for p in parameters.values() if p is not None}
            for key, tensor in buffers.items():
                if tensor is not None and is_plain(tensor):
                    found.setdefault(id(tensor), (f"{name}.{key}".lstrip("."), tensor))
        for name, _, contents in self._attributes:
            for key, tensor in contents.tensors:
                if is_plain(tensor):
                    found.setdefault(id(tensor), (f"{name}.{key}".lstrip("."), tensor))
        return {name or f"({number})": tensor for number, (name, tensor) in enumerate(found.values()) if name}

    def before_write(self, memories: Sequence[int | None]) -> None:
        """Copy the weights in memory that is about to be overwritten."""
        for memory in memories:
            for weight in self._by_memory.get(memory or 0, ()):
                if id(weight) not in self._written:
                    self._written[id(weight)] = (weight, weight.detach().reshape(-1).clone())

    def restore(self) -> list[str]:
        """Restore everything, and return the names of parameters that the pass has created."""
        changed = [entry for entry in self._tables if not _same_tables(entry[1], entry[2])]
        created = self._created() if changed else []
        for _, part, contents in self._attributes:
            contents.restore(vars(part))
        for _, part, tables in changed:
            for table, before in zip(_TABLES, tables, strict=True):
                _restore_container(vars(part)[table], before)
        for hooks, registered in self._hooks:  # a pass may register hooks, such as those for hidden states
            if hooks or registered:
                _restore_container(hooks, registered)
        for tensor, own in self._memory:
            if tensor.data_ptr() != own.data_ptr() or tensor.shape != own.shape:
                self.before_restore([tensor])
                tensor.data = own  # its memory was replaced
        for weight, requires_grad, grad in self._weights:
            if weight.requires_grad != requires_grad:
                weight.requires_grad_(requires_grad)
            if weight.grad is not grad:
                weight.grad = grad
        for tensor, numbers in self._written.values():
            put_back(tensor, numbers, self.before_restore)
        for copies in self._copies:
            copies.put_back(self.before_restore)
        self.changed = [
            name
            for name, (tensor, seen) in self._large.items()
            if id(tensor) not in self._written and fingerprint(tensor) != seen
        ]
        return created

    def _created(self) -> list[str]:
        known = {id(part) for _, part in self._parts}
        found = []
        for name, part, (parameters, _, modules) in self._tables:
            prefix = f"{name}." if name else ""
            for key, parameter in part._parameters.items():
                if parameter is not None and parameters.get(key) is None:
                    found.append(prefix + key)
            for key, child in part._modules.items():
                if child is not None and child is not modules.get(key) and id(child) not in known:
                    found += [f"{prefix}{key}.{inner}" for inner, _ in child.named_parameters()]
        return found


def _writes(part: nn.Module) -> bool:
    """Return whether a module's forward pass may set attributes. PyTorch's own layers do so only in hooks."""
    own = type(part).__module__
    if not own.startswith("torch.nn.modules.") or own.endswith(".container") or "forward" in vars(part):
        return True
    return bool(part._forward_pre_hooks or part._forward_hooks)


def _attributes(part: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module except its tables, the flag `training` and hooks."""
    return {name: value for name, value in vars(part).items() if not _is_apart(name)}


@lru_cache(maxsize=4096)
def _is_apart(name: str) -> bool:
    return (
        name in _TABLES
        or name == "training"
        or name.endswith(("_hooks", "_hooks_with_kwargs", "_always_called"))
    )


class _Contents:
    """Attributes of a module, and the contents of the lists, dictionaries and sets among them."""

    DEEPEST = 6

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes
        self.tensors: list[tuple[str, Tensor]] = []
        self._containers: list[tuple[Any, Any]] = []  # containers with their copies
        self._seen: set[int] = set()
        for name, value in attributes.items():
            self._walk(name, value, self.DEEPEST)

    def _walk(self, name: str, value: Any, deepest: int) -> None:
        if isinstance(value, Tensor):
            self.tensors.append((name, value))
        if not isinstance(value, (list, dict, set, deque, tuple)) or not deepest or id(value) in self._seen:
            return
        self._seen.add(id(value))
        if not isinstance(value, tuple):
            self._containers.append((value, _copied(value)))
        for number, one in enumerate(value.values() if isinstance(value, dict) else value):
            if isinstance(one, (Tensor, list, dict, set, deque, tuple)):
                self._walk(f"{name}[{number}]", one, deepest - 1)

    def restore(self, now: dict[str, Any]) -> None:
        for name in [name for name in now if name not in self.attributes and not _is_apart(name)]:
            del now[name]
        for name, value in self.attributes.items():
            if name not in now or now[name] is not value:
                now[name] = value
        for container, before in self._containers:
            _restore_container(container, before)


def _copied(container: Any) -> Any:
    return dict(container) if isinstance(container, dict) else type(container)(container)


_Tables = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]


def _tables(part: nn.Module) -> _Tables:
    if not (part._parameters or part._buffers or part._modules):
        return _EMPTY
    return dict(part._parameters), dict(part._buffers), dict(part._modules)


_EMPTY: _Tables = ({}, {}, {})


def _same_tables(part: nn.Module, before: _Tables) -> bool:
    """Return whether a module has the same parameters, buffers and submodules, in the same order."""
    own = vars(part)
    return all([_same(own[name], table) for name, table in zip(_TABLES, before, strict=True)])


def _same(now: dict[str, Any], before: dict[str, Any]) -> bool:
    if not now or not before:
        return not now and not before
    return list(now) == list(before) and all(map(is_, now.values(), before.values()))


def _restore_container(now: Any, before: Any) -> None:
    """Restore the contents of a list, dictionary, set or deque."""
    if isinstance(now, dict):
        if not _same(now, before):
            now.clear()
            now.update(before)
    elif isinstance(now, set):
        if now != before:
            now.clear()
            now.update(before)
    elif len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True)):
        now.clear()
        now.extend(before)


def is_plain(tensor: Tensor) -> bool:
    """Return whether the numbers of a tensor can be copied and compared."""
    if is_lazy(tensor) or tensor.is_meta or tensor.is_quantized:
        return False
    return tensor.layout == torch.strided and not tensor.is_nested


def _smallest(named: Mapping[str, Tensor], at_most: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the smallest tensors that fit into `at_most` bytes together, and the others."""
    fitting: dict[str, Tensor] = {}
    total = 0
    for name, tensor in sorted(named.items(), key=lambda item: item[1].numel() * item[1].element_size()):
        total += tensor.numel() * tensor.element_size()
        if total <= at_most:
            fitting[name] = tensor
    return fitting, {name: tensor for name, tensor in named.items() if name not in fitting}


def _grouped(tensors: Iterable[Tensor]) -> list[_Copies]:
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    return [_Copies.of(group) for group in groups.values()]


def memory_of(tensor: Tensor) -> int | None:
    """Return an identifier of the memory of a tensor; None if it is sparse or nested."""
    storage = storage_of(tensor)
    return None if storage is None else storage._cdata


def storage_of(tensor: Tensor) -> torch.UntypedStorage | None:
    """Return the memory of a tensor; None if it is sparse or nested."""
    if tensor.is_nested:
        return None
    try:
        return tensor.untyped_storage()
    except (RuntimeError, NotImplementedError, AttributeError):
        return None


SAMPLES = 64


def fingerprint(tensor: Tensor) -> tuple[object, ...]:
    """Return a value that changes when the numbers of a tensor change.

    It contains the version counter, which PyTorch increments at each write except through ``.data``, and a
    sample of the numbers. A write through ``.data`` to other numbers goes unnoticed.
    """
    return fingerprints([tensor])[0]


def fingerprints(tensors: Sequence[Tensor]) -> list[tuple[object, ...]]:
    """Return the fingerprints of several tensors, which is faster than one by one."""
    with torch.no_grad():
        samples = _samples([tensor for tensor in tensors if not tensor.is_meta])
    return [
        (tensor.dtype,)
        if tensor.is_meta
        else (
            0 if tensor.is_inference() else tensor._version,
            tensor.data_ptr(),
            tensor.dtype,
            next(samples),
        )
        for tensor in tensors
    ]


def _samples(tensors: Sequence[Tensor]) -> Iterator[bytes]:
    """Yield the bytes of a sample of each tensor."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, tensor in enumerate(tensors):
        alone = (
            None if type(tensor) in (Tensor, nn.Parameter) else number
        )  # other classes are not concatenated
        groups.setdefault((tensor.dtype, tensor.device, alone), []).append(number)
    found = [b""] * len(tensors)
    for members in groups.values():
        few = [_few(tensors[number]) for number in members]
        row = torch.cat(few) if len(few) > 1 else few[0].clone()
        numbers, first, size = row.view(torch.uint8).cpu().numpy().tobytes(), 0, row.element_size()
        for number, part in zip(members, few, strict=True):
            past = first + part.numel() * size
            found[number] = numbers[first:past]
            first = past
    return iter(found)


def _few(tensor: Tensor) -> Tensor:
    """Return a sample of a tensor's numbers as a vector."""
    count = tensor.numel()
    step = max(1, count // SAMPLES)
    if tensor.is_contiguous():
        return tensor.as_strided((-(-count // step),), (step,))  # no copy of the whole tensor
    last = tensor.storage_offset() + (count - 1) // step * step
    if last * tensor.element_size() < tensor.untyped_storage().nbytes():
        return tensor.as_strided((-(-count // step),), (step,))
    return tensor.reshape(-1)[::step]
