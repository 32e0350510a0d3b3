"""Layer names as the papers write them, and the message for a name that does not exist. Without torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from deconvviz.similar_names import nearest

_LETTERS = {"conv": "c", "bn": "b", "relu": "r", "pool": "p", "fc": "f"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
_UNNAMED = {"avgpool", "dropout", "flatten"}  # they keep their dotted names
_ALEXNET = re.compile("crpcrpcrcrcrp(fr)*f")
_VGG = re.compile("((cb?r)+p){2,}(fr)*f")
_LAID_OUT = {"f": re.compile(r"classifier\.\d+"), "r": re.compile(r"(features|classifier)\.\d+")}
_IN_FEATURES = re.compile(r"features\.\d+")
_PAPER_NAME = re.compile(r"(conv|bn|relu)(\d+)(_\d+)?", re.IGNORECASE)


def paper_names(layers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """{paper name: dotted name} for AlexNet and the VGGs, from (dotted name, kind) in forward order.

    Kinds: conv, bn, relu, pool, fc; avgpool, dropout and flatten are passed over. A network that is not laid
    out as torchvision's AlexNet or VGG (`features.N`, `classifier.N`; pools between the blocks) has no
    paper names: the answer is empty.
    """
    told = [(name, _LETTERS.get(kind, "?")) for name, kind in layers if kind not in _UNNAMED]
    if not all(_LAID_OUT.get(letter, _IN_FEATURES).fullmatch(name) for name, letter in told):
        return {}
    letters = "".join(letter for _, letter in told)
    if _ALEXNET.fullmatch(letters):
        spoken = _alexnet_names(letters)
    elif _VGG.fullmatch(letters):
        spoken = _vgg_names(letters)
    else:
        return {}
    return {paper: dotted for paper, (dotted, _) in zip(spoken, told, strict=True)}


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


def unknown_layer_message(asked: str, names: Iterable[str], network: str, *, see: str | None = None) -> str:
    """What to say of a layer that is not there. `see` says where all are listed: by default a command."""
    names = list(names)
    see = see or f"deconvviz layers --model {network}"
    return f"no layer {asked!r} in {network}: {_instead(asked, names)} (see: {see})"


def _instead(asked: str, names: list[str]) -> str:
    if paper := _PAPER_NAME.fullmatch(asked):
        kind, block = paper[1].lower(), paper[2]
        if siblings := [name for name in names if re.fullmatch(rf"{kind}{block}_\d+", name)]:
            return f"block {block} has {', '.join(siblings)}"
        if paper[3] and (blocks := sorted(_blocks(kind, names))):
            return f"its {kind} blocks run from {blocks[0]} to {blocks[-1]}"
    if like := nearest(asked, names):
        return f"nearest are {', '.join(like)}" if len(like) > 1 else f"nearest is {like[0]}"
    if not names:
        return "it has no layer that can be named"
    return f"it has {len(names)} layers, from {names[0]} to {names[-1]}"


def _blocks(kind: str, names: Iterable[str]) -> set[int]:
    of_kind = re.compile(rf"{kind}(\d+)_\d+")
    return {int(found[1]) for name in names if (found := of_kind.fullmatch(name))}
