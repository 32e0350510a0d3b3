"""Page of one channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deconvviz.figures.spec.colour import Limit
from deconvviz.figures.spec.effective_crop import CROP_TEXT
from deconvviz.layers import Layer
from deconvviz.printable_names import printable
from deconvviz.web.atlas.addresses import numbers_of, page_of, tiles_of
from deconvviz.web.atlas.unit import UnitNumbers
from deconvviz.web.atlas.wording import (
    channel_name,
    citation,
    classes_text,
    field_name,
    lacking,
    likeness_text,
    number,
    percent,
)
from deconvviz.web.page import render
from deconvviz.wording import counted

PIXELS = 64  # tiles up to this side are enlarged without smoothing


@dataclass(frozen=True)
class Place:
    """What a page says and links besides the numbers of its channel.

    `units` has, for each layer of the atlas, its folder and the tiles of its channels (None without tiles).
    """

    layer: Layer
    folder: str
    channels: Sequence[int]
    units: Mapping[str, tuple[str, Mapping[int, Mapping[str, Any] | None]]]
    image_size: tuple[int, int]  # height, width
    source: str
    lacks: tuple[str, ...]


def unit_page(numbers: UnitNumbers, place: Place) -> str:
    """Return the page of a channel as HTML."""
    channel, layer = numbers["channel"], place.layer
    name = channel_name(len(layer.shape), channel, numbers["class"])
    row = place.channels.index(channel)
    before, after = place.channels[row - 1 : row] if row else (), place.channels[row + 1 : row + 2]
    height, width = place.image_size
    return render(
        "atlas_unit.html",
        scripts=["atlas_unit.js"],
        images="'self' file: data:",
        style_files="'self' file:",
        root="../",
        network=numbers["network"],
        layer=layer.name,
        name=name,
        previous=page_of(before[0]) if before else "",
        next=page_of(after[0]) if after else "",
        facts=[*_facts(numbers), ("receptive field", field_name(layer))],
        notes=[*_notes(numbers), *lacking(place.lacks)],
        image_size=(width, height),
        **_pairs(numbers, name),
        **_histogram(numbers),
        classes=classes_text(
            numbers["classes"], numbers["purity"], len(numbers["peaks"]), "labels" in place.lacks
        ),
        means=_means(numbers),
        likeness=likeness_text(numbers["likeness"], layer.name)
        if numbers["peaks"]
        else "A channel without peaks has no projection.",
        similar=[
            _kin(place, layer.name, one["channel"], f"{one['similarity']:.2f}")
            for one in numbers["similar"] or ()
        ],
        no_similar="This search lacks them." if numbers["similar"] is None else "None.",
        below=[_kin(place, one["layer"], one["channel"], number(one["norm"])) for one in numbers["below"]],
        above=[_kin(place, one["layer"], one["channel"], number(one["norm"])) for one in numbers["above"]],
        numbers=numbers_of(channel),
        address=f"{place.folder}/{page_of(channel)}",
        citation=citation(
            numbers["network"],
            numbers["weights"],
            f"{layer.name}, {name}",
            f"{counted(numbers['images'], 'image')} of {place.source}",
        ),
    )


def _facts(numbers: UnitNumbers) -> list[tuple[str, str]]:
    return [
        ("maximum", number(numbers["maximum"])),
        ("images that activate it", f"{percent(numbers['density'])} of {numbers['images']:,}"),
        ("mean peak", number(numbers["mean"])),
    ]


def _notes(numbers: UnitNumbers) -> list[str]:
    count, images = len(numbers["peaks"]), numbers["images"]
    if numbers["dead"]:
        return [f"This channel is dead: it is above zero on none of the {counted(images, 'image')}."]
    if count and numbers["density"] * images < count:
        return []
    active = round(numbers["density"] * images)
    if 0 < count == active < 9:
        return [f"Only {counted(count, 'image')} of {images:,} activate{'s' * (count == 1)} this channel."]
    return []


def _pairs(numbers: UnitNumbers, name: str) -> dict[str, Any]:
    tiles = numbers["tiles"]
    if tiles is None:
        return {"pairs": [], "small": False}
    (across, down), width, height = tiles["cell"], tiles["width"], tiles["height"]
    limit = Limit(tiles["limit"], tiles["percentile"], tiles["clipped"])
    crop = numbers["peaks"][0]["crop"]
    side = f"{crop[2] - crop[0]} px"
    pairs = []
    for column, one in enumerate(numbers["peaks"]):
        where = "" if one["y"] is None else f" ({one['y']},\u00a0{one['x']})"
        pairs.append(
            {
                "file": f"../{one['file']}",
                "box": " ".join(map(str, one["crop"])),
                "alt": f"{one['rank']}: {numbers['layer']}, {name}, activation {number(one['activation'])}, "
                f"image {printable(one['image'])}",
                "views": [f"{column * across} {row * down} {width} {height}" for row in (0, 1)],
                "activation": number(one["activation"]),
                "label": one["label"] or "",
                "image": one["image"],
                "place": where,
            }
        )
    clipped = f", {percent(limit.clipped)} of the values are beyond" if limit.clipped else ""
    return {
        "pairs": pairs,
        "small": is_small(tiles),
        "sheet": tiles_of(numbers["channel"]),
        "sheet_size": (across * tiles["columns"], down * 2),
        "caption": f"Left: patch, {CROP_TEXT['effective']} ({side}). Right: projection, cut alike. Grey is "
        f"zero, full colour is {limit} in pixel values (white = 1){clipped}. Numbers: activation, image, "
        "position (row, column). Choose a pair to enlarge it.",
    }


def is_small(tiles: Mapping[str, Any]) -> bool:
    """Return whether tiles are so small that they are enlarged without smoothing."""
    return bool(max(tiles["width"], tiles["height"]) <= PIXELS * tiles["scale"])


def _histogram(numbers: UnitNumbers) -> dict[str, Any]:
    found = numbers["histogram"]
    if found is None or not sum(found["counts"]):
        return {
            "bars": "",
            "no_histogram": "This search lacks the histogram." if found is None else "No images.",
        }
    counts, top = found["counts"], max(found["counts"])
    bars = "".join(
        f"M{index} {100 - round(100 * count / top)}h.9V100h-.9z"
        for index, count in enumerate(counts)
        if count
    )
    marks = "".join(
        f"M{_short((one['activation'] - found['start']) / found['width'])} 100v9" for one in numbers["peaks"]
    )
    end = found["start"] + found["width"] * len(counts)
    highest = f"{counted(top, 'image')}"
    return {
        "bars": bars,
        "bins": len(counts),
        "marks": marks,
        "ends": (number(found["start"]), number(end)),
        "highest": highest,
        "histogram_alt": f"Histogram of the peaks of {counted(sum(counts), 'image')} from "
        f"{number(found['start'])} to {number(end)}; the highest bar is {highest}",
    }


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _means(numbers: UnitNumbers) -> list[tuple[str, str, str]]:
    """Return label, share of the highest mean and text of the classes with the highest mean peaks."""
    means = [(label, mean) for label, mean in numbers["class_means"] or () if mean > 0]
    return [(label, f"{mean / means[0][1]:.3f}", number(mean)) for label, mean in means]


def _kin(place: Place, layer: str, channel: int, text: str) -> dict[str, Any]:
    """Return a related channel, with a link and a thumbnail if the atlas contains it."""
    same = layer == place.layer.name
    name = str(channel) if same else f"{layer} {channel}"
    folder, units = place.units.get(layer, ("", {}))
    if channel not in units:
        return {"name": name, "number": text, "href": "", "file": ""}
    tiles, root = units[channel], "" if same else f"../{folder}/"
    found = {"name": name, "number": text, "href": f"{root}{page_of(channel)}", "file": ""}
    if tiles is None:
        return found
    return {
        **found,
        "file": f"{root}{tiles_of(channel)}",
        "width": tiles["width"],
        "height": tiles["height"],
        "small": is_small(tiles),
        "sheet": tiles["cell"][1] * 2,
    }
