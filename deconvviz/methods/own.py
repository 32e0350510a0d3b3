"""Methods of our own engine: deconvnet, guided backprop, gradient, and input times gradient.

All of them start with the activation of the unit as the signal, and are linear in this signal.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from deconvviz.engine.units import Unit
from deconvviz.methods.method import Method, Report, Subject, register
from deconvviz.wording import counted


class _Engine(Method):
    """A method that `Recording.project` computes."""

    takes_signals = True

    def __init__(self, name: str, title: str, source: str, meaning: str, needs: tuple[str, ...] = ()) -> None:
        self.name, self.title, self.source = name, title, source
        self.meaning, self.needs = meaning, needs

    def cost(self, units: int) -> str:
        return f"1 recorded pass, {counted(units, 'projection')} in batches"

    def unsupported(self, subject: Subject) -> str:
        uses = subject.recording.coverage(subject.layer, self.name).unsupported
        return f"{uses[0].short} is unsupported: {uses[0].note}" if uses else ""

    def maps(self, subject: Subject, units: Sequence[Unit] | Tensor, report: Report | None = None) -> Tensor:
        pixels = subject.recording.project(subject.layer, units, method=self.name).pixels
        if report is not None:
            report(len(pixels), len(pixels))
        return pixels.detach().cpu().float()


register(
    _Engine(
        "deconvnet",
        "deconvnet",
        "Zeiler & Fergus 2013",
        "the activation, projected back through rectified signals",
    )
)
register(
    _Engine(
        "guided",
        "guided backprop",
        "Springenberg et al. 2014",
        "the activation, projected back through rectified signals and the mask of the forward pass",
        ("guided",),
    )
)
register(_Engine("gradient", "gradient", "Simonyan et al. 2014", "activation × gradient", ("gradient",)))
register(
    _Engine(
        "input_x_gradient",
        "input × gradient",
        "Shrikumar et al. 2016",
        "activation × gradient × prepared input",
        ("gradient",),
    )
)
