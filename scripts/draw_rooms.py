"""Draw the top-level modules of the package and the imports between them: docs/rooms.svg.

    python scripts/draw_rooms.py            # write the drawing
    python scripts/draw_rooms.py --check    # exit with 1 if the drawing does not match the imports

A room is a subpackage or module at the top level of the package. An arrow points from a room to one that it
imports. An arrow is omitted if other arrows imply it. Imports inside functions and imports for type checkers
count as well.
"""

from __future__ import annotations

import ast
import io
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "deconvviz"
DRAWING = ROOT / "docs" / "rooms.svg"
OMITTED = {"__init__", "__main__"}

WIDE, HIGH, ACROSS, UP = 1.75, 0.52, 0.4, 0.5  # inches: size of a box, gaps between boxes


def imports() -> dict[str, set[str]]:
    """Return the rooms that each room imports."""
    rooms = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    found: dict[str, set[str]] = {room: set() for room in sorted(rooms - OMITTED)}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room in OMITTED:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            targets = {name.split(".")[1] for name in names if name.startswith("deconvviz.")}
            found[room] |= (targets & found.keys()) - {room}
    return found


def lines_of_code() -> dict[str, int]:
    """Return the number of lines of each room."""
    counts: dict[str, int] = {}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        counts[room] = counts.get(room, 0) + len(path.read_text(encoding="utf-8").splitlines())
    return counts


def levels(edges: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the length of the longest chain of imports from each room. Raises RecursionError for a cycle."""

    @cache
    def level(room: str) -> int:
        return 1 + max((level(below) for below in edges[room]), default=-1)

    return {room: level(room) for room in edges}


def reduced(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return the edges without those that other edges imply (transitive reduction)."""

    @cache
    def below(room: str) -> frozenset[str]:
        return frozenset(edges[room]).union(*(below(one) for one in edges[room]))

    return {
        room: {one for one in direct if not any(one in below(other) for other in direct if other != one)}
        for room, direct in edges.items()
    }


def draw() -> Figure:
    """Return the drawing, with the rooms that import no others at the bottom."""
    edges, counts = imports(), lines_of_code()
    level = levels(edges)
    rows: dict[int, list[str]] = {}
    for room in sorted(edges, key=lambda room: (level[room], room)):
        rows.setdefault(level[room], []).append(room)
    most = max(map(len, rows.values()))
    width, height = most * (WIDE + ACROSS) + ACROSS, len(rows) * (HIGH + UP) + UP
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    centre: dict[str, tuple[float, float]] = {}
    for number, row in rows.items():
        start = (width - len(row) * (WIDE + ACROSS) + ACROSS) / 2
        for place, room in enumerate(row):
            centre[room] = start + place * (WIDE + ACROSS) + WIDE / 2, UP + number * (HIGH + UP) + HIGH / 2
    for room, direct in reduced(edges).items():
        for below in sorted(direct):
            (x, y), (to_x, to_y) = centre[room], centre[below]
            axes.add_patch(
                FancyArrowPatch(
                    (x, y - HIGH / 2),
                    (to_x, to_y + HIGH / 2),
                    arrowstyle="-|>",
                    mutation_scale=8,
                    connectionstyle=f"arc3,rad={0.0 if level[room] - level[below] == 1 else 0.3}",
                    linewidth=0.7,
                    color="0.45",
                    shrinkA=0,
                    shrinkB=1,
                    zorder=1,
                )
            )
    for room, (x, y) in centre.items():
        folder = (PACKAGE / room).is_dir()
        axes.add_patch(
            FancyBboxPatch(
                (x - WIDE / 2, y - HIGH / 2),
                WIDE,
                HIGH,
                boxstyle="round,pad=0,rounding_size=0.06",
                facecolor="#e8eef7" if folder else "#f7f4e8",
                edgecolor="0.3",
                linewidth=0.8,
                zorder=2,
            )
        )
        name = f"{room}/" if folder else f"{room}.py"
        axes.text(x, y + 0.09, name, ha="center", va="center", fontsize=9, zorder=3)
        axes.text(
            x,
            y - 0.13,
            f"{counts[room]:,} lines",
            ha="center",
            va="center",
            fontsize=6.5,
            color="0.35",
            zorder=3,
        )
    return figure


def as_svg() -> str:
    """Return the drawing as SVG, the same text for the same imports."""
    stream = io.StringIO()
    with rc_context({"svg.hashsalt": "rooms", "svg.fonttype": "none"}):
        draw().savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def edges_in(svg: str) -> str:
    """Return the comment in a drawing that lists the imports."""
    return svg.partition("<!-- rooms:")[2].partition("-->")[0].strip()


def summary() -> str:
    """Return all imports between rooms as text, one line for each room."""
    return "\n".join(f"{room}: {' '.join(sorted(below))}".rstrip() for room, below in imports().items())


def main() -> int:
    if "--check" in sys.argv[1:]:
        current = DRAWING.is_file() and edges_in(DRAWING.read_text(encoding="utf-8")) == summary()
        if not current:
            print(f"{DRAWING.relative_to(ROOT)} does not match the imports: run python scripts/draw_rooms.py")
        return 0 if current else 1
    text = as_svg().replace("</svg>", f"<!-- rooms:\n{summary()}\n-->\n</svg>")
    DRAWING.parent.mkdir(exist_ok=True)
    DRAWING.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
