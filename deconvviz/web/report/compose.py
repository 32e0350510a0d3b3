"""Results as the document that the templates show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deconvviz.figures.spec.measures import MeasuresFigure
from deconvviz.figures.spec.sheet import Sheet
from deconvviz.figures.spec.top_nine import TopNineFigure
from deconvviz.printable_names import path_from_text, path_to_text
from deconvviz.version import __version__
from deconvviz.web.report import methods_text, sentences, strongest
from deconvviz.web.report.blocks import Given, block_of, manifest_of
from deconvviz.web.report.commands import command_of
from deconvviz.web.report.document import Document, PictureSection, Strongest
from deconvviz.web.report.embedded import Embedded
from deconvviz.web.report.network_card import Asked, NetworkCard, card_of, with_network
from deconvviz.web.report.sentences import Blurred, Projected
from deconvviz.web.report.strongest import Channel
from deconvviz.wording import counted, listed

if TYPE_CHECKING:
    from deconvviz.network import Network


@dataclass(eq=False)
class _Picture:
    """One image with its results."""

    name: str
    network: str  # digest
    network_name: str
    described: Mapping[str, Any]  # entry of ``pictures``
    results: list[Given] = field(default_factory=list)


def compose(
    results: Sequence[Given],
    *,
    title: str | None,
    notes: str,
    network: Network | None,
    command: str,
) -> Document:
    """Return the content of a report."""
    embedded = Embedded()
    pictures = _pictures(results)
    cards, covered = _strongest(results, embedded)
    of_pictures = [one for picture in pictures for one in picture.results]
    others = [one for one in results if one not in of_pictures and one not in covered]
    blurred = _blurred(results)
    sections = tuple(
        _section(f"picture-{number}", picture, embedded, cards, blurred.get(picture.network, []))
        for number, picture in enumerate(pictures, 1)
    )
    commands = [command_of(one.described, one.places, one.manifest_file) for one in results]
    described = [one.described for one in results]
    networks = _networks(results, network)
    return Document(
        title=_title(title, pictures, networks),
        date=date.today().isoformat(),
        version=__version__,
        notes=tuple(filter(None, (part.strip() for part in notes.splitlines()))),
        networks=networks,
        pictures=sections,
        others=tuple(block_of(one, embedded, cards) for one in others),
        symbols=embedded.symbols,
        methods=methods_text.paragraph(described),
        approximations=methods_text.approximations(described),
        command=command,
        commands=tuple(dict.fromkeys(one for one in commands if one is not None)),
        not_by_command=sum(one is None for one in commands),
        on_cards=tuple(map(manifest_of, covered)),
        manifests=tuple({"file": one.manifest_file, **one.manifest} for one in results),
        has_search=bool(cards),
    )


def _title(title: str | None, pictures: Sequence[_Picture], networks: Sequence[NetworkCard]) -> str:
    if title is not None and title.strip():
        return title
    names = listed([picture.name for picture in pictures], 2)
    of = listed([card.name for card in networks])
    return " · ".join(filter(None, [f"Report on {names}" if names else "Report", of]))


def _pictures(results: Sequence[Given]) -> list[_Picture]:
    """Return the images whose units are shown as cards, in the order of their first result."""
    found: dict[Any, _Picture] = {}
    for one in results:
        if not isinstance(one.spec, Sheet) or one.spec.image is None:
            continue
        number = next((int(unit["image"]) for unit in one.described.get("units") or ()), 0)
        entries = one.described.get("pictures") or ()
        entry = entries[number] if number < len(entries) and isinstance(entries[number], Mapping) else {}
        pixels = entry.get("pixels") or one.spec.image.tobytes()
        name = _image_name(entry, one.places, number)
        key = (one.network, name, pixels)
        if key not in found:
            network = str((one.described.get("network") or {}).get("name", "The network"))
            found[key] = _Picture(name, one.network, network, entry)
        found[key].results.append(one)
    return list(found.values())


def _image_name(entry: Mapping[str, Any], places: Mapping[str, Any], number: int) -> str:
    if entry.get("name"):
        return str(entry["name"])
    files = places.get("pictures") or ()
    path = files[number].get("path") if number < len(files) and isinstance(files[number], Mapping) else None
    return path_to_text(Path(path_from_text(path)).name) if path else f"image {number + 1}"


def _section(
    id: str,
    picture: _Picture,
    embedded: Embedded,
    cards: Mapping[Channel, Strongest],
    blurred: Sequence[Blurred],
) -> PictureSection:
    projected = [
        Projected(one.layer or one.title[0], len(one.spec.tiles), _likeness(one)) for one in picture.results
    ]
    layers = {one.layer for one in projected}
    top = picture.described.get("top_class")
    if top is not None:
        top = {**top, "others": picture.described.get("other_classes") or ()}
    blocks = tuple(block_of(one, embedded, cards, heading=_layer_heading(one)) for one in picture.results)
    return PictureSection(
        id,
        picture.name,
        tuple(map(str, picture.described.get("notes") or ())),
        sentences.takes_for(picture.network_name, top),
        sentences.class_bars(top),
        sentences.asked(projected),
        sentences.trust(projected, [one for one in blurred if one.layer in layers], picture.name),
        blocks,
    )


def _layer_heading(one: Given) -> str:
    units = counted(len(one.spec.tiles), "unit")
    method = one.described.get("method", "deconvnet")
    return " · ".join(filter(None, [one.layer, units, "" if method == "deconvnet" else str(method)]))


def _likeness(one: Given) -> float | None:
    found = one.described.get("likeness")
    return float(found["value"]) if isinstance(found, Mapping) and "value" in found else None


def _blurred(results: Sequence[Given]) -> dict[str, list[Blurred]]:
    """Return what trust measures say, by the digest of the network."""
    found: dict[str, list[Blurred]] = {}
    for one in results:
        if isinstance(one.spec, MeasuresFigure) and (said := sentences.blurred_of(one.described)):
            found.setdefault(one.network, []).append(said)
    return found


def _strongest(results: Sequence[Given], embedded: Embedded) -> tuple[dict[Channel, Strongest], list[Given]]:
    """Return the strongest images of channels for cards, and the results that cards show completely."""
    shown = {
        (one.network, one.layer, int(unit["channel"]))
        for one in results
        if isinstance(one.spec, Sheet)
        for unit in one.described.get("units") or ()
    }
    cards: dict[Channel, Strongest] = {}
    covered = []
    for one in results:
        if not isinstance(one.spec, TopNineFigure):
            continue
        channels = strongest.channels_of(one.described, strongest.block_of(one.spec, embedded))
        cards.update((channel, found) for channel, found in channels.items() if channel in shown)
        if channels and set(channels) <= shown:
            covered.append(one)
    return cards, covered


def _networks(results: Sequence[Given], network: Network | None) -> tuple[NetworkCard, ...]:
    by_digest: dict[str, list[Given]] = {}
    for one in results:
        if one.network:
            by_digest.setdefault(one.network, []).append(one)
    cards = []
    for digest, members in by_digest.items():
        asked = _asked(members)
        card = card_of([one.described for one in members], asked)
        if network is not None and network.digest == digest:
            card = with_network(card, network, asked)
        cards.append(card)
    return tuple(cards)


def _asked(members: Sequence[Given]) -> list[Asked]:
    """Return the layers of results, each with the largest receptive field of its units in a picture."""
    fields: dict[str, tuple[int, int] | None] = {}
    for one in members:
        layers = [one.layer] if one.layer else []
        layers += [str(entry["name"]) for entry in one.described.get("layers") or () if "name" in entry]
        boxes = one.described.get("boxes") or ()
        sizes = [(int(box[3] - box[1]), int(box[2] - box[0])) for box in boxes if len(box) == 4]
        largest = max(sizes, default=None)
        for layer in layers:
            known = fields.get(layer)
            fields[layer] = largest if known is None else max(known, largest or known)
    return [Asked(name, size) for name, size in fields.items()]
