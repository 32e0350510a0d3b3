"""Latency of the explorer, measured in Chromium: from a click on the picture to the cards and projections.

    cards     The strongest channels of the place are listed with their patches.
    first     The first projection is drawn.
    all       All eight projections are drawn.

The first click on a layer comes after the recording of the picture. Medians and 95th percentiles are over
`--clicks` clicks at random places. `--minutes N` clicks, and changes layers and pictures, at random for N
minutes, and prints the latency and the memory of the server's process over time. If DECONVVIZ_REAL_DATA names
a folder with photographs, all networks but minivgg show them.

    python benchmarks/explore.py
    python benchmarks/explore.py --only minivgg --minutes 10
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import psutil
import torch
from playwright.sync_api import Page, sync_playwright

import deconvviz as dv
from deconvviz.web.explorer.opening import add_pictures
from deconvviz.web.explorer.pictures import Shelf
from deconvviz.web.explorer.server import Server
from deconvviz.web.explorer.session import Session
from deconvviz.web.explorer.worker import Worker

LAYERS = {
    "minivgg": ("conv2_2", "conv3_2", "conv4_2"),
    "squeezenet1_0": ("features.3", "features.5", "features.9", "features.12"),
    "vgg19": ("conv3_4", "conv4_4", "conv5_1", "conv5_4"),
}
STAGES = ("cards", "first", "all")
LISTEN = """() => {
  const page = document.querySelector('#explorer');
  window.next = () => new Promise((resolve) => {
    page.addEventListener('deconvviz-looked', (event) => resolve(event.detail), { once: true });
  });
}"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="NETWORK", choices=LAYERS)
    parser.add_argument("--clicks", type=int, default=20, metavar="N")
    parser.add_argument("--minutes", type=float, default=0, metavar="N", help="click at random for N minutes")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    names = [name for name in LAYERS if given.only in (None, name)]
    if given.minutes:
        for name in names:
            with page_of(name) as page:
                click_at_random(page, name, given.minutes)
        return
    print("| network | layer | click | cards (ms) | first (ms) | all (ms) | all, 95 % (ms) |")
    print(f"|{'---|' * 7}")
    for name in names:
        with page_of(name) as page:
            for layer in LAYERS[name]:
                print_rows(page, name, layer, given.clicks)


def network(name: str) -> dv.Network:
    """Return a network, trained if its weights are here. The time does not depend on them."""
    folder = os.environ.get("DECONVVIZ_REAL_DATA")
    if name == "minivgg":
        return dv.load(name)
    file = Path(folder or "") / f"{name}.pth"
    return dv.load(name, weights=str(file) if file.is_file() else "random")


def pictures(name: str) -> str:
    """Return what the explorer of a network shows: photographs if there are any, else scenes."""
    photographs = Path(os.environ.get("DECONVVIZ_REAL_DATA") or "") / "imagenet-sample"
    return str(photographs) if name != "minivgg" and photographs.is_dir() else "scenes:8"


@contextmanager
def page_of(name: str) -> Iterator[Page]:
    """Open the explorer of a network in Chromium."""
    shelf = Shelf()
    add_pictures(shelf, pictures(name))
    worker = Worker(Session([network(name)], shelf))
    server = Server(worker, port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = chromium.new_page(viewport={"width": 1200, "height": 800})
            page.goto(server.address)
            wait(page)
            page.evaluate(LISTEN)
            yield page
            chromium.close()
    finally:
        server.stop()
        thread.join()
        worker.close()


def wait(page: Page) -> None:
    """Wait until the page has answered everything."""
    page.locator(".explorer[aria-busy=false] .card").first.wait_for(timeout=120_000)


def click(page: Page, dice: Random) -> dict[str, float]:
    """Click at a random place of the picture, and return the times of the stages in milliseconds."""
    box = page.locator(".frame").first.bounding_box()
    assert box is not None
    at = [
        box[start] + box[length] * dice.uniform(0.05, 0.95)
        for start, length in (("x", "width"), ("y", "height"))
    ]
    page.evaluate("() => { window.found = window.next(); }")
    page.mouse.click(*at)
    found: dict[str, float] = page.evaluate(
        "window.found"
    )  # waits without polling, which takes processor time
    return found


def print_rows(page: Page, name: str, layer: str, count: int) -> None:
    """Print the first click after a change of the layer, and later clicks."""
    dice = Random(0)
    page.get_by_label("layer", exact=True).select_option(label=layer)
    wait(page)
    times = [click(page, dice) for _ in range(count + 1)]
    print(row(name, layer, "first", times[:1]), flush=True)
    print(row(name, layer, f"{count} later", times[1:]), flush=True)


def row(name: str, layer: str, which: str, times: Sequence[dict[str, float]]) -> str:
    """Return a row with the medians of each stage, and the 95th percentile of the last."""
    columns = {stage: [one[stage] for one in times if stage in one] for stage in STAGES}
    cells = [f"{statistics.median(columns[stage]):.0f}" if columns[stage] else "–" for stage in STAGES]
    cells.append(f"{percentile(columns['all']):.0f}")
    return f"| {name} | {layer} | {which} | {' | '.join(cells)} |"


def percentile(values: Sequence[float], share: float = 0.95) -> float:
    """Return a percentile of some values; NaN if there are none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def click_at_random(page: Page, name: str, minutes: float) -> None:
    """Click and change layers and pictures at random, and print latency and memory once a minute."""
    dice, process = Random(1), psutil.Process()
    shown = page.get_by_label("picture", exact=True).locator("option").count()
    times: list[float] = []
    errors = 0
    began = last = time.monotonic()
    print(f"{name}: minute, clicks, p50 (ms), p95 (ms), memory (MiB), errors", flush=True)
    while time.monotonic() - began < 60 * minutes:
        if dice.random() < 0.1:
            page.get_by_label("layer", exact=True).select_option(label=dice.choice(LAYERS[name]))
        if dice.random() < 0.1:
            page.get_by_label("picture", exact=True).select_option(index=dice.randrange(shown))
        wait(page)
        times.append(click(page, dice).get("all", 0.0))
        errors += page.locator(".status.wrong").count()
        if time.monotonic() - last > 60:
            last = time.monotonic()
            memory = process.memory_info().rss / 2**20
            line = (
                f"{len(times)}, {percentile(times, 0.5):.0f}, {percentile(times):.0f}, {memory:.0f}, {errors}"
            )
            print(f"{(last - began) / 60:.0f}, {line}", flush=True)


if __name__ == "__main__":
    main()
