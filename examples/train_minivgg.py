"""Train the minivgg of deconvviz on generated scenes, and check its weights.

    python examples/train_minivgg.py --out runs/minivgg           # 22 minutes of processor time
    python examples/train_minivgg.py --out runs/minivgg --resume  # continues after the last complete epoch
    python examples/train_minivgg.py --check                      # accuracy and dead channels on fresh scenes

The run folder contains one safetensors file for each epoch (epoch_000 has the weights before training).
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from deconvviz.errors import DeconvvizError, OutputError
from deconvviz.models.minivgg import BLOCKS, MEAN, SIZE, STD, WEIGHTS, MiniVGG, load_minivgg, minivgg
from deconvviz.scenes import CLASSES, scene

CHECK_SEED = 1_000_000  # for --check; all seeds of training are TRAIN_SEED or larger
VALIDATION_SEED = 2_000_000
TRAIN_SEED = 1_000_000_000
VALIDATION_SCENES = 480
REQUIRED_ACCURACY = 0.95
CHANGES = 11  # makes the choice of missing parts independent of other random numbers of a seed


@dataclass(frozen=True)
class Plan:
    """Settings that determine the weights."""

    seed: int
    epochs: int
    scenes_per_epoch: int
    sets: int  # number of training sets; later epochs reuse them with other shifts and flips
    batch: int
    rate: float
    decay: float
    threads: int
    missing: float = 0.3  # share of training scenes that lack one or two parts
    recoloured: float = 0.15  # share of training scenes with a part in another colour

    @property
    def batches(self) -> int:
        """Full batches in an epoch. A smaller last batch is dropped: batch norm fails on a batch of one."""
        return max(1, self.scenes_per_epoch // self.batch)

    @property
    def steps(self) -> int:
        return self.epochs * self.batches

    def rate_at(self, step: int) -> float:
        """Return the learning rate: linear warm-up over 1/12 of the steps, then cosine decay to 0.2 %."""
        warm_up = max(1, self.steps // 12)
        if step < warm_up:
            return self.rate * (step + 1) / warm_up
        decay = (1 + math.cos(math.pi * (step - warm_up) / (self.steps - warm_up))) / 2
        return self.rate * (0.002 + 0.998 * decay)


@dataclass(frozen=True)
class Images:
    """Scenes of one data set with their classes."""

    images: np.ndarray  # uint8 (N, H, W, 3)
    labels: np.ndarray  # int64 (N,)


@dataclass(frozen=True)
class Check:
    """Result of a check on fresh scenes."""

    scenes: int
    right: dict[str, tuple[int, int]]  # class -> (correct, all)
    dead: dict[str, tuple[int, int]]  # layer -> (dead channels, all)
    without_a_part: float  # accuracy on the same scenes without one or two random parts
    recoloured: float  # accuracy on the same scenes with one part in another colour

    @property
    def accuracy(self) -> float:
        return sum(right for right, _ in self.right.values()) / self.scenes


class Artist:
    """Renderer of scenes. It uses worker processes if `threads` is larger than 1."""

    def __init__(self, threads: int) -> None:
        self._pool = ProcessPoolExecutor(threads, get_context("spawn")) if threads > 1 else None

    def draw(
        self, first: int, count: int, what: str, missing: float = 0.0, recoloured: float = 0.0
    ) -> Images:
        """Return the scenes of some seeds; in a share of them, parts are missing or have another colour."""
        images, labels = np.empty((count, SIZE, SIZE, 3), np.uint8), np.empty(count, np.int64)
        seeds = range(first, first + count)
        drawing = partial(_drawn, missing=missing, recoloured=recoloured)
        drawn = self._pool.map(drawing, seeds, chunksize=32) if self._pool else map(drawing, seeds)
        for i, (image, label) in enumerate(drawn):
            images[i], labels[i] = image, label
            if (i + 1) % 100 == 0 or i + 1 == count:
                _progress(f"drawing {what}: {i + 1}/{count}", last=i + 1 == count)
        return Images(images, labels)

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)


def _drawn(seed: int, missing: float, recoloured: float) -> tuple[np.ndarray, int]:
    one, dice = scene(seed, size=SIZE), np.random.default_rng([seed, CHANGES])
    kind, names = dice.random(), sorted(one.parts)
    if kind < missing:
        count = min(int(dice.integers(1, 3)), len(names) - 1)  # one part remains at least
        one = one.redrawn(without=[str(name) for name in dice.choice(names, count, replace=False)])
    elif kind < missing + recoloured:
        one = one.redrawn(recolour=str(dice.choice(names)))
    return one.image, one.label


def _progress(text: str, last: bool = False) -> None:
    """Overwrite the progress line on a terminal; in a log file, print only the last one of a stage."""
    if sys.stderr.isatty() or last:
        print(f"{text:<90}", end="\n" if last else "\r", file=sys.stderr, flush=True)


def prepared(images: np.ndarray) -> Tensor:
    """Return uint8 images (N, H, W, 3) as a normalised tensor (N, 3, H, W), channels last in memory."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
    return pixels.sub_(torch.tensor(MEAN).view(3, 1, 1)).div_(torch.tensor(STD).view(3, 1, 1))


def varied(images: Tensor, generator: torch.Generator) -> Tensor:
    """Augment a batch: flip half of the images, shift all by up to 6 pixels, and vary their brightness."""
    count, shift = len(images), 6
    flipped = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    images = torch.where(flipped, images.flip(3), images)
    x, y = (int(v) for v in torch.randint(0, 2 * shift + 1, (2,), generator=generator))
    images = F.pad(images, (shift, shift, shift, shift), mode="replicate")[..., y : y + SIZE, x : x + SIZE]
    gain = 0.85 + 0.3 * torch.rand(count, 1, 1, 1, generator=generator)
    return (images * gain).contiguous(memory_format=torch.channels_last)


def normed(network: MiniVGG) -> nn.Sequential:
    """Return the layers with batch norm after each but the last: training is faster, fewer channels die."""
    layers: list[nn.Module] = []
    for layer in [*network.features, nn.Flatten(), *network.classifier]:
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            layers.append(nn.BatchNorm2d(layer.out_channels))
        elif isinstance(layer, nn.Linear) and layer is not network.classifier[-1]:
            layers.append(nn.BatchNorm1d(layer.out_features))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def folded(trained: nn.Sequential) -> MiniVGG:
    """Return an equivalent network without batch norms; each norm is fused into the layer before it."""
    plain, frozen = minivgg().eval(), deepcopy(trained).eval()
    targets = iter([layer for layer in plain.modules() if isinstance(layer, nn.Conv2d | nn.Linear)])
    for layer, following in zip(frozen, [*frozen[1:], None], strict=True):
        if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
            layer = fuse_conv_bn_eval(layer, following)
        elif isinstance(layer, nn.Linear) and isinstance(following, nn.BatchNorm1d):
            layer = fuse_linear_bn_eval(layer, following)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            next(targets).load_state_dict(layer.state_dict())
    return plain


def train(plan: Plan, out: Path, resume: bool, count: int) -> Check:
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    network = normed(minivgg())
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=plan.decay)
    with closing(Artist(plan.threads)) as painter:
        first = TRAIN_SEED * (plan.seed + 1)
        sets: dict[int, Images] = {}
        done = _restore(out, plan, network, optimizer) if resume else 0
        for epoch in range(done + 1, plan.epochs + 1):
            which = (epoch - 1) % plan.sets
            if which not in sets:
                start, what = first + which * plan.scenes_per_epoch, f"training set {which + 1}/{plan.sets}"
                sets[which] = painter.draw(start, plan.scenes_per_epoch, what, plan.missing, plan.recoloured)
            if epoch == 1:
                _save_weights(folded(network), out / "epoch_000.safetensors", plan, epoch=0)
            if epoch == done + 1:
                validation_count = min(VALIDATION_SCENES, plan.scenes_per_epoch)
                validation = painter.draw(VALIDATION_SEED, validation_count, "validation scenes")
            started = time.monotonic()
            loss = _one_epoch(network, optimizer, sets[which], plan, epoch)
            reached = accuracy(folded(network), validation)
            summary = f"loss {loss:.4f}  validation {reached:.4f}  {time.monotonic() - started:.0f} s"
            _progress(f"epoch {epoch}/{plan.epochs}  {summary}", last=True)
            path = out / f"epoch_{epoch:03d}.safetensors"
            _save_weights(folded(network), path, plan, epoch=epoch, validation=reached)
            _save_state(out, plan, network, optimizer, epoch)
        result = checked(folded(network), painter, count)
    facts = {"accuracy": result.accuracy, "accuracy_scenes": count}
    _save_weights(folded(network), out / "minivgg.safetensors", plan, epoch=plan.epochs, **facts)
    return result


def _one_epoch(
    network: nn.Module, optimizer: torch.optim.Optimizer, data: Images, plan: Plan, epoch: int
) -> float:
    """Train for one epoch, and return the mean loss.

    All randomness depends on the seed and the epoch only, so a resumed run gives the same weights.
    """
    torch.manual_seed(plan.seed * 100_003 + epoch)  # for dropout
    generator = torch.Generator().manual_seed(plan.seed * 100_003 + epoch)
    order = torch.randperm(len(data.labels), generator=generator).numpy()
    network.train()
    total, started = 0.0, time.monotonic()
    for i in range(plan.batches):
        chosen = order[i * plan.batch : (i + 1) * plan.batch]
        for group in optimizer.param_groups:
            group["lr"] = plan.rate_at((epoch - 1) * plan.batches + i)
        images = varied(prepared(data.images[chosen]), generator)
        scores = network(images)
        loss = F.cross_entropy(scores, torch.from_numpy(data.labels[chosen]), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        total += loss.item()
        if (i + 1) % 10 == 0:
            speed = (i + 1) * plan.batch / (time.monotonic() - started)
            _progress(f"epoch {epoch}/{plan.epochs}  step {i + 1}/{plan.batches}  {speed:.0f} scenes/s")
    return total / plan.batches


@torch.no_grad()
def accuracy(network: MiniVGG, data: Images) -> float:
    """Return the share of images whose class is predicted correctly."""
    return float(np.mean(_predictions(network, data) == data.labels))


def _predictions(network: MiniVGG, data: Images) -> np.ndarray:
    network.eval()
    parts = [network(prepared(part)).argmax(1).numpy() for part in _chunks(data.images)]
    return np.concatenate(parts)


def _chunks(images: np.ndarray, largest: int = 100) -> Iterator[np.ndarray]:
    return (images[i : i + largest] for i in range(0, len(images), largest))


@torch.no_grad()
def checked(network: MiniVGG, painter: Artist, count: int) -> Check:
    """Return the accuracy per class, and the channels whose ReLU is zero on all of `count` fresh scenes."""
    data = painter.draw(CHECK_SEED, count, "scenes to check")
    names = [f"relu{b}_{i}" for b, block in enumerate(BLOCKS, 1) for i in range(1, len(block) + 1)]
    names.append(f"fc{len(BLOCKS) + 1}")
    peaks: dict[str, Tensor] = {}
    hooks = []
    for name, relu in zip(names, [m for m in network.modules() if isinstance(m, nn.ReLU)], strict=True):

        def keep(_: nn.Module, __: Any, output: Tensor, name: str = name) -> None:
            peak = output.flatten(2).amax((0, 2)) if output.dim() == 4 else output.amax(0)
            peaks[name] = torch.maximum(peaks[name], peak) if name in peaks else peak

        hooks.append(relu.register_forward_hook(keep))
    try:
        right = _predictions(network, data) == data.labels
    finally:
        for hook in hooks:
            hook.remove()
    partless = painter.draw(CHECK_SEED, count, "scenes without one or two parts", missing=1.0)
    coloured = painter.draw(CHECK_SEED, count, "scenes with a part in another colour", recoloured=1.0)
    of_class = {name: data.labels == number for number, name in enumerate(CLASSES)}
    return Check(
        scenes=count,
        right={name: (int(right[own].sum()), int(own.sum())) for name, own in of_class.items()},
        dead={name: (int((peak == 0).sum()), len(peak)) for name, peak in peaks.items()},
        without_a_part=accuracy(network, partless),
        recoloured=accuracy(network, coloured),
    )


def _save_weights(network: MiniVGG, path: Path, plan: Plan, **facts: float) -> None:
    about = {
        "format": "pt",
        "network": "minivgg",
        "classes": ",".join(CLASSES),
        "size": str(SIZE),
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
        "trained_by": "examples/train_minivgg.py",
        **{name: str(value) for name, value in {**asdict(plan), **facts}.items()},
    }
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    unfinished = path.with_suffix(".part")
    save_file(weights, unfinished, metadata=about)
    os.replace(unfinished, path)


def _save_state(
    out: Path, plan: Plan, network: nn.Module, optimizer: torch.optim.Optimizer, epoch: int
) -> None:
    unfinished = out / "state.part"
    state = {"plan": asdict(plan), "epoch": epoch, "network": network.state_dict()}
    torch.save({**state, "optimizer": optimizer.state_dict()}, unfinished)
    os.replace(unfinished, out / "state.pt")


def _restore(out: Path, plan: Plan, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore weights and optimizer, and return the number of the last complete epoch."""
    path = out / "state.pt"
    if not path.exists():
        raise OutputError(f"nothing to resume in {out}: there is no state.pt (start without --resume)")
    state = torch.load(path, weights_only=True)
    if state["plan"] != asdict(plan):
        changed = [key for key, value in asdict(plan).items() if state["plan"].get(key) != value]
        was = ", ".join(f"{key} {state['plan'].get(key)}" for key in changed)
        raise OutputError(f"the run in {out} was started with {was}: resume it with the same settings")
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epoch"])


def show(check: Check) -> None:
    console = Console()
    last = CHECK_SEED + check.scenes - 1
    console.print(
        f"accuracy {check.accuracy:.2%} on {check.scenes} fresh scenes (seeds {CHECK_SEED} to {last}); "
        f"{check.without_a_part:.2%} without one or two of their parts; "
        f"{check.recoloured:.2%} with a part in another colour"
    )
    classes = Table("class", "correct", "of", "accuracy")
    for name, (right, count) in check.right.items():
        classes.add_row(name, str(right), str(count), f"{right / count:.1%}" if count else "-")
    layers = Table("layer", "dead channels", "of")
    for name, (dead, count) in check.dead.items():
        layers.add_row(name, str(dead), str(count))
    console.print(classes)
    console.print(layers)


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/minivgg"),
    seed: Annotated[int, typer.Option(min=0)] = 0,
    epochs: Annotated[int, typer.Option(min=1)] = 14,
    scenes_per_epoch: Annotated[int, typer.Option(min=2)] = 8000,
    sets: Annotated[int, typer.Option(min=1, help="Number of training sets, used in turn.")] = 3,
    batch: Annotated[int, typer.Option(min=2)] = 32,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-3,
    decay: Annotated[float, typer.Option(help="Weight decay.")] = 1e-3,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    missing: Annotated[float, typer.Option(help="Share of training scenes that lack parts.")] = 0.3,
    recoloured: Annotated[float, typer.Option(help="Share with a part in another colour.")] = 0.15,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check the shipped weights instead of training.")
    ] = False,
    count: Annotated[int, typer.Option(min=1, help="Number of fresh scenes for the check.")] = 2000,
    weights: Annotated[Path, typer.Option(help="Weights to check with --check.")] = WEIGHTS,
) -> None:
    """Train minivgg on generated scenes, or check its weights (exit code 1 if accuracy is under 95 %)."""
    try:
        if check:
            torch.set_num_threads(threads)
            with closing(Artist(threads)) as painter:
                result = checked(load_minivgg(weights), painter, count)
        else:
            if (out / "state.pt").exists() and not resume:
                raise OutputError(f"{out} holds a run already: give --resume, or another --out")
            out.mkdir(parents=True, exist_ok=True)
            plan = Plan(
                seed, epochs, scenes_per_epoch, sets, batch, rate, decay, threads, missing, recoloured
            )
            result = train(plan, out, resume, count)
    except DeconvvizError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    show(result)
    if check and result.accuracy < REQUIRED_ACCURACY:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
