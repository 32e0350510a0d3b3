"""Names and order of checkpoints. Does not import torch."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from deconvviz.errors import WeightsError
from deconvviz.models.weights_file import check_weights_file
from deconvviz.paths import path_as_typed
from deconvviz.printable_names import printable, quoted

ORDERS = ("number", "given")
LEAST = 2

_NUMBER = re.compile(r"\d+")


def checkpoint_files(typed: Sequence[str | os.PathLike[str]], order: str = "number") -> list[str]:
    """Return the weights files that are named, in their order.

    Args:
        typed: Paths or patterns such as ``runs/epoch_*.pth``. A path may end in #PART.
        order: ``number``: if all names have the same letters and differ only in numbers, by these numbers;
            otherwise as given. ``given``: as given. The files of a pattern are sorted by their numbers.

    Raises:
        WeightsError: If a file or pattern matches nothing, a file is given twice, or there are fewer than
            two files.
    """
    files = [file for one in typed for file in _expanded(path_as_typed(os.fspath(one)))]
    for file in files:
        check_weights_file(file, "a checkpoint is a .pth, .pt or .safetensors file")
    if twice := [file for file in dict.fromkeys(files) if files.count(file) > 1]:
        raise WeightsError(f"the checkpoint {quoted(twice[0])} is given twice. Give each checkpoint once")
    if len(files) < LEAST:
        named = f"only {quoted(files[0])}" if files else "none"
        raise WeightsError(
            f"an evolution needs at least {LEAST} checkpoints, but there is {named}. Name more files, or a "
            "pattern such as 'epoch_*.pth'"
        )
    return sorted(files, key=_numbers) if order == "number" and _one_series(files) else files


def _expanded(typed: str) -> list[str]:
    if os.path.exists(typed) or not glob.has_magic(typed):
        return [typed]
    found = sorted(glob.glob(typed), key=_natural)
    if not found:
        raise WeightsError(f"no file matches {quoted(typed)}. Check the pattern")
    return found


def _natural(file: str) -> tuple[list[str], list[int], str]:
    """Return a key that sorts names by their letters, then by their numbers."""
    return _NUMBER.split(file), _numbers(file), file


def _numbers(file: str) -> list[int]:
    return [int(number) for number in _NUMBER.findall(file)]


def _one_series(files: Sequence[str]) -> bool:
    """Return True if all paths have the same letters, and numbers in the same places that all differ."""
    letters = {tuple(_NUMBER.split(file)) for file in files}
    return len(letters) == 1 and len({tuple(_numbers(file)) for file in files}) == len(files)


def short_labels(files: Sequence[str]) -> list[str]:
    """Return a short label for each checkpoint: the number that differs, or the name of the file.

    ``runs/epoch_003.pth`` and ``runs/epoch_010.pth`` have the labels ``3`` and ``10``.
    """
    if _one_series(files):
        numbers = list(zip(*map(_numbers, files), strict=True))
        varying = [column for column in numbers if len(set(column)) > 1]
        if len(varying) == 1:
            return [str(number) for number in varying[0]]
    stems = [printable(Path(file).stem) for file in files]
    return stems if len(set(stems)) == len(stems) else [printable(file) for file in files]
