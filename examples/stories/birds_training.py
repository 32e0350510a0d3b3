"""Training of the network of `birds.py`, and the measure of its masks."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import deconvviz as dv
from deconvviz.errors import WeightsError
from deconvviz.files import write_text
from deconvviz.models.minivgg import stored_weights
from stories.birds_network import BIRD, LAYOUTS, DeconvolutionNetwork
from stories.scene_data import Pictures, normalised

WEIGHTS, EPOCH_WEIGHTS, TRAINING = (
    "birds.safetensors",
    "weights",
    "training.json",
)  # names in the folder of a run
BATCH = 32  # of pictures outside the training
SHIFT = 6  # largest shift of a training picture, in pixels
WARM_UP = 0.1  # share of the steps


@dataclass(frozen=True)
class Plan:
    """Settings that determine the weights."""

    trunk: str
    epochs: int
    seed: int
    batch: int = 16
    rate: float = 2e-3  # highest learning rate of the decoder
    trunk_rate: float = 0.25  # learning rate of the encoder, as a share of it


@dataclass(frozen=True)
class Epoch:
    """What was measured after one epoch; epoch 0 is before the training."""

    epoch: int
    loss: float | None
    validation: float  # mean IoU
    seconds: float  # processor time of the training so far


@dataclass(frozen=True)
class Overlap:
    """Intersection over union, of all pixels of all pictures together (as PASCAL VOC counts it)."""

    background: float
    bird: float

    @property
    def mean(self) -> float:
        return (self.background + self.bird) / 2


def overlap(masks: np.ndarray, found: np.ndarray) -> Overlap:
    """Return the overlap of true masks with found masks, both bool (N, H, W)."""
    background, bird = (
        float((a & b).sum() / max(1, (a | b).sum())) for a, b in ((~masks, ~found), (masks, found))
    )
    return Overlap(background, bird)


def fresh_network(trunk: str, trunk_weights: str) -> DeconvolutionNetwork:
    """Return the network before the training: a trained encoder, a random decoder.

    Args:
        trunk: Key of `LAYOUTS`.
        trunk_weights: ``default``, ``random`` or a weights file, as for `dv.load`.
    """
    network = DeconvolutionNetwork(LAYOUTS[trunk].blocks)
    if trunk == "minivgg" and trunk_weights == "default":
        network.load_trunk(stored_weights())
    else:
        network.load_trunk(dv.load(trunk, weights=trunk_weights).module.state_dict())
    return network


def train(
    network: DeconvolutionNetwork, plan: Plan, pictures: Pictures, validation: Pictures, out: Path
) -> None:
    """Train the network, and write its weights and what was measured after each epoch into a folder."""
    torch.manual_seed(plan.seed)
    network.to(memory_format=torch.channels_last)
    slow = [weight for name in network.trunk for weight in network.get_submodule(name).parameters()]
    fast = [weight for weight in network.parameters() if not any(weight is other for other in slow)]
    groups = [(slow, plan.rate * plan.trunk_rate), (fast, plan.rate)]
    optimizer = torch.optim.AdamW([{"params": weights, "lr": rate} for weights, rate in groups])
    batches = math.ceil(len(pictures) / plan.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _Decay(plan.epochs * batches))
    started = time.process_time()
    done = [_measured(network, 0, None, validation, started)]
    save(network, out / EPOCH_WEIGHTS / "epoch_00.safetensors", plan)
    for epoch in range(1, plan.epochs + 1):
        generator = torch.Generator().manual_seed(plan.seed * 1000 + epoch)
        network.train()
        losses = []
        for images, masks in _batches(pictures, plan.batch, generator):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), masks)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        done.append(_measured(network, epoch, float(np.mean(losses)), validation, started))
        save(network, out / EPOCH_WEIGHTS / f"epoch_{epoch:02d}.safetensors", plan)
        _write_measured(done, plan, len(pictures), out / TRAINING)
    save(network.eval(), out / WEIGHTS, plan)


def _write_measured(done: list[Epoch], plan: Plan, count: int, path: Path) -> None:
    measured = {
        "plan": asdict(plan),
        "pictures": count,
        "threads": torch.get_num_threads(),
        "epochs": [asdict(one) for one in done],
    }
    write_text(path, json.dumps(measured, indent=2) + "\n", force=True)


@dataclass(frozen=True)
class _Decay:
    """Factor of the learning rate at each step: linear warm-up, then a cosine to 1 %."""

    steps: int

    def __call__(self, step: int) -> float:
        warm_up = max(1, round(WARM_UP * self.steps))
        if step < warm_up:
            return (step + 1) / warm_up
        through = min(1.0, (step - warm_up) / max(1, self.steps - warm_up))
        return 0.01 + 0.99 * (1 + math.cos(math.pi * through)) / 2


def _measured(
    network: DeconvolutionNetwork, epoch: int, loss: float | None, validation: Pictures, started: float
) -> Epoch:
    found = overlap(validation.masks, predicted(network, validation.images))
    one = Epoch(epoch, loss, found.mean, time.process_time() - started)
    text = "before the training" if loss is None else f"loss {loss:.4f}"
    print(
        f"epoch {epoch}: {text}, validation mean IoU {one.validation:.3f}, "
        f"{one.seconds:.0f} s of processor time",
        file=sys.stderr,
        flush=True,
    )
    return one


def _batches(pictures: Pictures, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Return all pictures in random order, flipped, shifted and with another brightness."""
    for chosen in torch.randperm(len(pictures), generator=generator).split(size):
        images = normalised(pictures.images[chosen.numpy()])
        masks = torch.from_numpy(pictures.masks[chosen.numpy()]).float()[:, None]
        both = torch.cat([images, masks], 1)
        flipped = torch.rand(len(both), 1, 1, 1, generator=generator) < 0.5
        both = torch.where(flipped, both.flip(3), both)
        x, y = (int(v) for v in torch.randint(0, 2 * SHIFT + 1, (2,), generator=generator))
        rows, columns = both.shape[2:]
        both = F.pad(both, (SHIFT,) * 4, mode="replicate")[..., y : y + rows, x : x + columns]
        gain = 0.85 + 0.3 * torch.rand(len(both), 1, 1, 1, generator=generator)
        yield (both[:, :3] * gain).contiguous(memory_format=torch.channels_last), both[:, 3].long()


@torch.no_grad()
def predicted(network: DeconvolutionNetwork, images: np.ndarray) -> np.ndarray:
    """Return the masks that the network finds in uint8 images (N, H, W, 3): bool (N, H, W)."""
    network.eval()
    parts = [masks_of(network, normalised(images[i : i + BATCH])) for i in range(0, len(images), BATCH)]
    return np.concatenate(parts)


@torch.no_grad()
def masks_of(network: DeconvolutionNetwork, inputs: Tensor) -> np.ndarray:
    """Return the masks that the network finds in prepared images (N, 3, H, W)."""
    return (network(inputs.contiguous(memory_format=torch.channels_last)).argmax(1) == BIRD).numpy()


def save(network: DeconvolutionNetwork, path: Path, plan: Plan) -> None:
    """Write the weights, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    unfinished = path.with_suffix(".part")
    save_file(weights, unfinished, metadata={"format": "pt", "plan": json.dumps(asdict(plan))})
    os.replace(unfinished, path)


def load(path: Path) -> tuple[DeconvolutionNetwork, Plan]:
    """Return a trained network and the settings of its training.

    Raises:
        WeightsError: If the file is missing, or `birds.py` did not write it.
    """
    if not path.is_file():
        raise WeightsError(
            f"no weights file {path}: give a file that birds.py wrote, such as birds.safetensors"
        )
    try:
        with safe_open(path, "pt") as stored:
            plan = Plan(**json.loads((stored.metadata() or {})["plan"]))
        network = DeconvolutionNetwork(LAYOUTS[plan.trunk].blocks)
        network.load_state_dict(load_file(path))
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise WeightsError(
            f"{path} does not contain a network of birds.py: give a file that birds.py wrote, such as "
            "birds.safetensors"
        ) from error
    return network.eval(), plan
