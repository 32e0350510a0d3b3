"""Layer names as in the papers, and the message for a name that does not exist. Does not import torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from deconvviz.similar_names import nearest

_LETTERS = {"conv": "c", "bn": "b", "relu": "r", "pool": "p", "fc": "f"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
_UNNAMED = {"avgpool", "dropout", "flatten"}  # these layers keep their dotted names
_ALEXNET = re.compile("crpcrpcrcrcrp(fr)*f")
_VGG = re.compile("((cb?r)+p){2,}(fr)*f")
_DOTTED = {"f": re.compile(r"classifier\.\d+"), "r": re.compile(r"(features|classifier)\.\d+")}
_IN_FEATURES = re.compile(r"features\.\d+")
_PAPER_NAME = re.compile(r"(conv|bn|relu)(\d+)(_\d+)?", re.IGNORECASE)


def paper_names(layers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return {paper name: dotted name} for AlexNet and the VGGs.

    `layers` are pairs (dotted name, kind) in forward order. The kinds conv, bn, relu, pool and fc have paper
    names; avgpool, dropout and flatten are skipped. The result is empty for a network that is not structured
    like torchvision's AlexNet or VGG (`features.N`, `classifier.N`; pools between the blocks).
    """
    named = [(name, _LETTERS.get(kind, "?")) for name, kind in layers if kind not in _UNNAMED]
    if not all(_DOTTED.get(letter, _IN_FEATURES).fullmatch(name) for name, letter in named):
        return {}
    letters = "".join(letter for _, letter in named)
    if _ALEXNET.fullmatch(letters):
        of_paper = _alexnet_names(letters)
    elif _VGG.fullmatch(letters):
        of_paper = _vgg_names(letters)
    else:
        return {}
    return {paper: dotted for paper, (dotted, _) in zip(of_paper, named, strict=True)}


def _vgg_names(letters: str) -> list[str]:
    blocks = letters.count("p")
    names, block, conv, fc = [], 1, 0, blocks
    for letter in letters:
        conv += letter == "c"
        fc += letter == "f"
        if letter == "p":
            names.append(f"pool{block}")
            block, conv = block + 1, 0
        elif block > blocks:
            names.append(f"{_KINDS[letter]}{fc}")
        else:
            names.append(f"{_KINDS[letter]}{block}_{conv}")
    return names


def _alexnet_names(letters: str) -> list[str]:
    names, number = [], 0
    for letter in letters:
        number += letter in "cf"
        names.append(f"{_KINDS[letter]}{number}")
    return names


def unknown_layer_message(
    requested: str, names: Iterable[str], network: str, *, see: str | None = None
) -> str:
    """Return the message for a layer that does not exist.

    `see` is what lists all layers, by default a command.
    """
    names = list(names)
    see = see or f"deconvviz layers --model {network}"
    return f"no layer {requested!r} in {network}: {_existing(requested, names)} (see: {see})"


def _existing(requested: str, names: list[str]) -> str:
    if paper := _PAPER_NAME.fullmatch(requested):
        kind, block = paper[1].lower(), paper[2]
        if siblings := [name for name in names if re.fullmatch(rf"{kind}{block}_\d+", name)]:
            return f"block {block} has {', '.join(siblings)}"
        if paper[3] and (blocks := sorted(_blocks(kind, names))):
            return f"its {kind} blocks run from {blocks[0]} to {blocks[-1]}"
    if similar := nearest(requested, names):
        return f"nearest are {', '.join(similar)}" if len(similar) > 1 else f"nearest is {similar[0]}"
    if not names:
        return "it has no named layers"
    return f"it has {len(names)} layers, from {names[0]} to {names[-1]}"


def _blocks(kind: str, names: Iterable[str]) -> set[int]:
    of_kind = re.compile(rf"{kind}(\d+)_\d+")
    return {int(found[1]) for name in names if (found := of_kind.fullmatch(name))}
