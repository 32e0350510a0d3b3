"""File names that are difficult to print, store or parse."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HOSTILE = (
    b"line\nbreak.png",
    b"tab\tin it.png",
    b"\x1b[31mred\x1b[0m\r.png",
    "gpj.\u202egnp.png".encode(),
    b"-rf.png",
    b" space before and after .png",
    b"$(touch owned) `id`; echo.png",
    b'it\'s "quoted".png',
    rb"$\alpha_1^{2}$ x_1^2.png",
    b"[red]rich [bold link=x] [[ ]] [].png",
    b"{} {0} {task.description} %s %(a)s.png",
    "👩‍🔬 🏴\U000e0067\U000e007f 👍🏽.png".encode(),
    "e\u0301 cafe\u0301.png".encode(),  # decomposed, as macOS writes names
    "\u00e9 caf\u00e9.png".encode(),  # the same names, composed
    "猫の写真.png".encode(),
    "שלום مرحبا.png".encode(),
    b"not utf-8 \xff\xfe.png",
    rb"not utf-8 \xff\xfe.png",  # looks like the escaped form of the previous name
    rb"\x5cxff \x5c.png",
    b"\xed\xa0\x80 half a surrogate pair.png",
    b"%20 %2f?a=b#part&c.png",
    b"* ? [a-c] {1,2}.png",
    b"a,b;c|d<e>f:g.png",
    b"\x7f \xc2\x9b31m \xc2\xad.png",
    b"l" * 251 + b".png",
    b"\xc3\xa9" * 125 + b".png",
)

any_bytes = pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows any bytes in file names")


def write_all(folder: Path, contents: bytes) -> list[Path]:
    """Write a file with each of the names, and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [Path(os.fsdecode(os.path.join(os.fsencode(folder), name))) for name in HOSTILE]
    for path in paths:
        path.write_bytes(contents)
    return paths
