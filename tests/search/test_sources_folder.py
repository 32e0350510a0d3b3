from __future__ import annotations

from pathlib import Path

from PIL import Image

from deconvviz.search.sources import Source, open_source


def picture(path: Path, shade: int = 0) -> Path:
    """A picture of one shade, so that each can be told from every other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(path)
    return path


def shades(source: Source) -> list[int]:
    return [int(source.picture(number).rgb[0, 0, 0]) for number in range(len(source))]


def test_a_folder_of_any_depth(tmp_path: Path) -> None:
    for shade, name in enumerate(["b/z.png", "b/a/q.bmp", "a.PNG", "b.png", "Z.png", "ä.png"]):
        picture(tmp_path / name, shade * 9)
    for name in (".b.png", ".git/c.png", "b/__MACOSX/d.png", "labels.csv", "b/notes.txt"):
        picture(tmp_path / name) if name.endswith("png") else (tmp_path / name).touch()
    source = open_source(tmp_path)
    assert list(source.names) == ["Z.png", "a.PNG", "b.png", "b/a/q.bmp", "b/z.png", "ä.png"]
    assert shades(source) == [36, 18, 27, 9, 0, 45]
    assert source.picture(0).path == tmp_path / "Z.png"
    assert (source.kind, source.place, len(source), source.skipped) == ("folder", str(tmp_path), 6, ())
