"""HTML that notebooks show, in light and dark themes: tables, and figures with a description."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

ROWS = 200
"""Number of rows of a table that are shown."""

_STYLE = """<style>
.deconvviz-table { max-height: 30rem; overflow: auto; }
.deconvviz-table table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.deconvviz-table th { position: sticky; top: 0; z-index: 1; text-align: left;
  background: var(--jp-layout-color0, var(--vscode-editor-background, var(--background, Canvas)));
  color: var(--jp-content-font-color1, var(--vscode-editor-foreground, var(--foreground, CanvasText))); }
.deconvviz-table td { text-align: left; }
</style>"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return a table with a head that stays visible, and at most `ROWS` rows."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    shown = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[:ROWS]
    )
    more = len(rows) - ROWS
    rest = f"<p>{more:,} more rows are not shown.</p>" if more > 0 else ""
    said = f"<p>{escape(caption)}</p>" if caption else ""
    body = f"<table><thead><tr>{titles}</tr></thead><tbody>{shown}</tbody></table>"
    return f'{said}<div class="deconvviz-table">{body}</div>{rest}{_STYLE}'


def figure(png: bytes, description: str, notes: Sequence[str] = ()) -> str:
    """Return a figure with its description as alternative text, and notes below it."""
    image = base64.b64encode(png).decode("ascii")
    said = "".join(f"<p>{escape(note)}</p>" for note in notes if note)
    return f'<img src="data:image/png;base64,{image}" alt="{escape(description)}">{said}'
