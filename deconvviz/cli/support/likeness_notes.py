"""Notes on how alike the projections of different units of one place are."""

from __future__ import annotations

from collections.abc import Sequence

from deconvviz.cli.support.console import print_note
from deconvviz.likeness import PlaceLikeness
from deconvviz.wording import counted

_READ = "read it as what the network uses there, not as what sets one channel apart"


def print_alike(layer: str, figures: Sequence[PlaceLikeness | None], *, quiet: bool) -> None:
    """Print a note if other units have nearly the same projections. `figures` has one entry per figure."""
    known = [one for one in figures if one is not None]
    alike = sorted(one.value for one in known if one.alike)
    if not alike:
        return
    if len(known) == 1:
        number = f"median correlation {alike[0]:.2f}, {counted(known[0].places, 'place')}"
        where = "this place" if known[0].places == 1 else "these places"
    else:
        number = f"median correlation {alike[0]:.2f} to {alike[-1]:.2f}"
        where = f"the places of {len(alike)} of {len(known)} figures"
    print_note(f"{layer}: {_sentence(where, number)}", quiet=quiet)


def print_likeness(layer: str, found: PlaceLikeness, *, quiet: bool) -> None:
    """Print how alike the units of a top-nine figure are to other units of the same places."""
    number = f"median correlation {found.value:.2f}, a sample of {counted(found.places, 'place')}"
    if found.alike:
        print_note(f"{layer}: {_sentence('these places', number)}", quiet=quiet)
    else:
        print_note(f"{layer}: likeness to other strong units at these places: {number}", quiet=quiet)


def _sentence(where: str, number: str) -> str:
    return f"other strong units at {where} have nearly the same projection ({number}): {_READ}"
