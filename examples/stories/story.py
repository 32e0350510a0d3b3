"""What the scripts of the stories share: options, drawn scenes, and the files that a run writes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvviz.figures import draw
from deconvviz.scenes import scenes
from stories.scene_figures import saved


def options(text: str, name: str, files: Mapping[str, str] | None = None) -> argparse.Namespace:
    """Parse --quick, --out and options for files, each with its help text, and create the folder --out."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short run for a test")
    parser.add_argument("--out", type=Path, default=Path("runs") / name, help="folder of the results")
    for option, about in (files or {}).items():
        parser.add_argument(option, type=Path, metavar="FILE", help=about)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    return chosen


def pictures(first: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Return scenes of consecutive seeds as (N, 3, size, size) in [0, 1], and their labels (N,)."""
    drawn = list(scenes(count, first, size))
    images = torch.from_numpy(np.stack([one.image for one in drawn])).permute(0, 3, 1, 2).float() / 255
    return images.contiguous(), torch.tensor([one.label for one in drawn])


def as_image(picture: Tensor) -> np.ndarray[Any, Any]:
    """Return a picture (C, h, w) in [0, 1] as an array (h, w, C) for a figure."""
    return picture.detach().clamp(0, 1).permute(1, 2, 0).numpy()


def show(rows: list[dict[str, Any]]) -> None:
    """Print rows with the same keys as a table."""
    texts = [[*rows[0]], *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for line in texts:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write(out: Path, name: str, numbers: dict[str, Any], *, dpi: float = 150, **figures: Any) -> None:
    """Write NAME.json, and NAME-KEY.png for each figure or figure spec."""
    (out / f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    for key, figure in figures.items():
        drawn = figure if hasattr(figure, "savefig") else draw(figure)
        saved(drawn, out / f"{name}-{key}.png", dpi)
    print(f"written: {out / name}.json")
