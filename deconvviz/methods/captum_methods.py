"""Methods of captum for units: integrated gradients, gradient SHAP, SmoothGrad, occlusion, Grad-CAM.

captum is imported when a method is used. These methods need only the activation of a unit as a function of
the image, so they are right for every network that autograd can differentiate, with or without modules for
its activation functions. LRP replaces the gradients of modules: see `captum_lrp`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvviz.engine.units import Unit
from deconvviz.engine.wrappers import named_parts
from deconvviz.errors import MethodError
from deconvviz.methods.method import Method, Report, Subject, register
from deconvviz.methods.unit_function import Function, checked_units, network_function, unit_function
from deconvviz.projection import Box
from deconvviz.wording import counted

SEED = 0
"""Seed of random numbers, the same for each unit: a map does not depend on the other units."""

BATCH = 10  # number of images in one pass


class _UnitByUnit(Method):
    """A method that calls captum once for each unit, with a known number of passes."""

    passes: int  # passes for each unit

    def cost(self, units: int) -> str:
        each = " for each unit" if units > 1 else ""
        return f"{counted(self.passes, 'forward and backward pass', 'forward and backward passes')}{each}"

    def maps(self, subject: Subject, units: Sequence[Unit] | Tensor, report: Report | None = None) -> Tensor:
        kept = checked_units(subject, units)
        count = _Count(self.passes * len(kept), report)
        inputs = subject.inputs.detach()
        with unit_function(subject, kept, count.add) as activations:
            found = []
            for number, unit in enumerate(kept):
                with seeded(inputs.device):
                    one = self.attribute(subject, activations, inputs, number)
                found.append((one * self.weight(unit)).detach())
                count.reach(self.passes * (number + 1))
        return torch.cat(found).cpu().float()

    @abstractmethod
    def attribute(self, subject: Subject, activations: Function, inputs: Tensor, number: int) -> Tensor:
        """Return captum's map (1, C, H, W) of output `number` of the function `activations`."""

    def weight(self, unit: Unit) -> float:
        """Return the factor of a unit's map: its activation, if captum starts with a signal of 1."""
        return 1.0


class IntegratedGradients(_UnitByUnit):
    name, title = "integrated_gradients", "integrated gradients"
    source = "Sundararajan et al. 2017, captum"
    signed = True
    passes = 50
    meaning = (
        "what each pixel adds to the activation on the path from the mean colour; sums to the difference"
    )

    def attribute(self, subject: Subject, activations: Function, inputs: Tensor, number: int) -> Tensor:
        from captum.attr import IntegratedGradients as Captum

        found: Tensor = Captum(activations).attribute(
            inputs, baselines=0, target=number, n_steps=self.passes, internal_batch_size=BATCH
        )
        return found


class GradientShap(_UnitByUnit):
    name, title = "gradient_shap", "gradient SHAP"
    source = "Lundberg & Lee 2017, captum"
    signed = True
    passes = 30
    rounds = 3  # captum draws all paths of a round as one batch
    meaning = "what each pixel adds to the activation on random paths from black, the mean colour and white"

    def attribute(self, subject: Subject, activations: Function, inputs: Tensor, number: int) -> Tensor:
        from captum.attr import GradientShap as Captum

        captum, baselines = Captum(activations), plain_images(subject)
        found: list[Tensor] = [
            captum.attribute(inputs, baselines=baselines, target=number, n_samples=self.passes // self.rounds)
            for _ in range(self.rounds)
        ]
        return torch.stack(found).mean(0)


class SmoothGrad(_UnitByUnit):
    name, title = "smoothgrad", "SmoothGrad"
    source = "Smilkov et al. 2017, captum"
    passes = 25
    noise = 0.15  # standard deviation, as a share of the range of the image
    meaning = "activation × mean gradient of 25 images with noise of 15 % of the image's range"

    def attribute(self, subject: Subject, activations: Function, inputs: Tensor, number: int) -> Tensor:
        from captum.attr import NoiseTunnel, Saliency

        found: Tensor = NoiseTunnel(Saliency(activations)).attribute(
            inputs,
            nt_type="smoothgrad",
            nt_samples=self.passes,
            nt_samples_batch_size=BATCH,
            stdevs=self.noise * float(inputs.max() - inputs.min()),
            target=number,
            abs=False,
        )
        return found

    def weight(self, unit: Unit) -> float:
        return unit.activation


class Occlusion(Method):
    name, title = "occlusion", "occlusion"
    source = "Zeiler & Fergus 2013, captum"
    signed = True
    meaning = (
        "fall of the activation when a window of an eighth of the receptive field has the mean colour; "
        "the mean over all windows that contain the pixel"
    )
    across = 8  # number of windows side by side, without overlap
    overlap = 2  # number of windows that contain a pixel, along each axis

    def cost(self, units: int) -> str:
        most = (self.overlap * self.across - 1) ** 2
        return f"up to {counted(most, 'forward pass', 'forward passes')} for each receptive field"

    def window(self, lengths: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the (rows, columns) of the occluding window, and its steps, for a field of this size."""
        size = tuple(-(-length // self.across) for length in lengths)
        return size, tuple(-(-side // self.overlap) for side in size)

    def maps(self, subject: Subject, units: Sequence[Unit] | Tensor, report: Report | None = None) -> Tensor:
        kept = checked_units(subject, units)
        inputs = subject.inputs.detach()
        found = torch.zeros(len(kept), *inputs.shape[1:])
        of_box: dict[Box, list[int]] = {}  # units with the same field share all passes
        for number, box in enumerate(self._fields(subject, kept)):
            of_box.setdefault(box, []).append(number)
        count = _Count(sum(map(self._passes, of_box)), report)
        for (x0, y0, x1, y1), numbers in of_box.items():
            if x0 == x1 or y0 == y1:
                continue  # no pixel reaches the unit
            some = [kept[number] for number in numbers]
            with unit_function(subject, some, count.add) as activations:
                cut = _occluded(activations, inputs, (x0, y0, x1, y1), *self.window((y1 - y0, x1 - x0)))
            found[numbers, :, y0:y1, x0:x1] = cut.detach().cpu().float()
        # Each channel has the whole fall: a third of it makes the sum over colours the fall itself.
        return found / inputs.shape[1]

    def _fields(self, subject: Subject, units: Sequence[Unit]) -> Sequence[Box]:
        """Return the boxes of all pixels that can change each unit."""
        layer, (height, width) = subject.layer, subject.inputs.shape[2:]
        # Gates and statistics depend on pixels outside the field, and unsupported layers have none.
        if layer.depends_on_more or layer.unsupported:
            return [(0, 0, width, height)] * len(units)
        return subject.recording.boxes(layer, units)

    def _passes(self, box: Box) -> int:
        """Return the number of positions of the window in a field, and one pass for the image itself."""
        lengths = (box[3] - box[1], box[2] - box[0])
        if 0 in lengths:
            return 0
        along = [
            -(-(length - side) // step) + 1
            for length, side, step in zip(lengths, *self.window(lengths), strict=True)
        ]
        return math.prod(along) + 1


def _occluded(
    activations: Function, inputs: Tensor, box: Box, size: Sequence[int], steps: Sequence[int]
) -> Tensor:
    """Return captum's occlusion map (K, C, h, w) of a box; the image outside the box stays as it is."""
    from captum.attr import Occlusion as Captum

    x0, y0, x1, y1 = box

    def of_cut(cut: Tensor) -> Tensor:
        images = inputs.repeat(len(cut), 1, 1, 1)
        images[:, :, y0:y1, x0:x1] = cut
        return activations(images)

    channels = inputs.shape[1]
    found: Tensor = Captum(of_cut).attribute(
        inputs[:, :, y0:y1, x0:x1],
        sliding_window_shapes=(channels, *size),
        strides=(channels, *steps),
        baselines=0,
        perturbations_per_eval=BATCH,
    )
    return found


class GradCam(Method):
    name, title = "gradcam", "Grad-CAM"
    source = "Selvaraju et al. 2017, captum"
    one_valued = True
    meaning = "support of the layer for a class, the same for every unit; positive part, enlarged bilinearly"

    def cost(self, units: int) -> str:
        return "1 forward and backward pass, the same for all units"

    def unsupported(self, subject: Subject) -> str:
        layer = subject.layer
        if len(layer.shape) != 3:
            return f"{layer.name} has no feature maps"
        if subject.explained_class is None:
            return "it explains a class: name one"
        if not layer.module:
            return f"{layer.name} is the output of the network"
        name = layer.module.partition(":")[0]
        if any(one.module == f"{name}:2" for one in subject.network.layers):
            return f"the network calls {name} more than once"
        if layer.channels_last:
            return f"the channels of {layer.name} are its last axis, which captum does not expect"
        return ""

    def maps(self, subject: Subject, units: Sequence[Unit] | Tensor, report: Report | None = None) -> Tensor:
        from captum.attr import LayerAttribution, LayerGradCam

        if reason := self.unsupported(subject):
            raise MethodError(f"Grad-CAM cannot be used: {reason}")
        kept = checked_units(subject, units)
        inputs = subject.inputs.detach()
        module = dict(named_parts(subject.network.module))[subject.layer.module]
        with network_function(subject, up_to_layer=False) as scores:

            def unshared(images: Tensor) -> Tensor:
                # A later call may overwrite the output of the layer. captum's hook is already registered, so
                # it has the output itself, and the rest of the network a copy.
                handle = module.register_forward_hook(lambda part, args, output: output.clone())
                try:
                    return scores(images)
                finally:
                    handle.remove()

            small = LayerGradCam(unshared, module).attribute(
                inputs, target=subject.explained_class, relu_attributions=True
            )
        large: Tensor = LayerAttribution.interpolate(small.detach(), tuple(inputs.shape[2:]), "bilinear")
        if report is not None:
            report(1, 1)
        return large.cpu().float().expand(len(kept), *inputs.shape[1:]).clone() / inputs.shape[1]


def plain_images(subject: Subject) -> Tensor:
    """Return a black, a mean-coloured and a white image as the network's input, (3, C, H, W)."""
    preprocessing, inputs = subject.network.preprocessing, subject.inputs
    mean, std = (torch.tensor(list(one)).to(inputs) for one in (preprocessing.mean, preprocessing.std))
    levels = torch.stack([(0 - mean) / std, torch.zeros_like(mean), (1 - mean) / std])
    return levels[:, :, None, None].expand(3, *inputs.shape[1:]).clone()


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Seed the random numbers of torch and NumPy, and restore their state at the end."""
    state = np.random.get_state()
    kinds: dict[str, Any] = {} if device.type in ("cpu", "cuda") else {"device_type": device.type}
    with torch.random.fork_rng([] if device.type == "cpu" else [device.index or 0], **kinds):
        torch.manual_seed(SEED)
        np.random.seed(SEED)
        try:
            yield
        finally:
            np.random.set_state(state)


class _Count:
    """Number of finished passes, reported to the caller. captum may run a few more than expected."""

    def __init__(self, total: int, report: Callable[[int, int], None] | None) -> None:
        self._done, self._total, self._report = 0, total, report

    def add(self, images: int) -> None:
        self.reach(self._done + images)

    def reach(self, done: int) -> None:
        done = min(done, self._total)
        if self._report is not None and done != self._done:
            self._report(done, self._total)
        self._done = done


for _one in (IntegratedGradients(), GradientShap(), SmoothGrad(), Occlusion(), GradCam()):
    register(_one)
