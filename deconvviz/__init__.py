"""Show what in an image activates a unit of a network, with the deconvnet of Zeiler & Fergus (2013).

>>> import deconvviz as dv
>>> net = dv.load("vgg19")
>>> rec = net.record("cat.jpg", layers=["conv5_1"])
>>> proj = rec.project("conv5_1", rec.strongest("conv5_1", k=9))
>>> proj.save("grid.png")

`import deconvviz` does not import torch. Each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from deconvviz.version import __version__ as __version__

if TYPE_CHECKING:
    from deconvviz.coverage import Coverage as Coverage
    from deconvviz.coverage import OpUse as OpUse
    from deconvviz.dataset_search.progress import Progress as Progress
    from deconvviz.dataset_search.result import Search as Search
    from deconvviz.dataset_search.result import open_search as open_search
    from deconvviz.dataset_search.search import search as search
    from deconvviz.engine.layout import TensorLayout as TensorLayout
    from deconvviz.engine.layout import Window as Window
    from deconvviz.engine.region import Region as Region
    from deconvviz.engine.rule_check import check_rule as check_rule
    from deconvviz.engine.rules import Call as Call
    from deconvviz.engine.rules import Rule as Rule
    from deconvviz.engine.rules import Support as Support
    from deconvviz.engine.rules import rule as rule
    from deconvviz.engine.units import Unit as Unit
    from deconvviz.errors import DeconvvizError as DeconvvizError
    from deconvviz.experiments.clip_filters import clip_filters as clip_filters
    from deconvviz.experiments.correspondence import correspondence as correspondence
    from deconvviz.experiments.correspondence_result import Correspondence as Correspondence
    from deconvviz.experiments.evolution.evolve import evolution as evolution
    from deconvviz.experiments.evolution.recorder import EvolutionRecorder as EvolutionRecorder
    from deconvviz.experiments.evolution.result import Evolution as Evolution
    from deconvviz.experiments.filters import filters as filters
    from deconvviz.experiments.filters_result import Filters as Filters
    from deconvviz.experiments.invariance.result import Invariance as Invariance
    from deconvviz.experiments.invariance.vary import invariance as invariance
    from deconvviz.experiments.inversion.inversion_result import Inversion as Inversion
    from deconvviz.experiments.inversion.invert import invert as invert
    from deconvviz.experiments.inversion.maximisation_result import Maximisation as Maximisation
    from deconvviz.experiments.inversion.maximise import maximise as maximise
    from deconvviz.experiments.occlusion import occlusion as occlusion
    from deconvviz.experiments.occlusion_result import Occlusion as Occlusion
    from deconvviz.from_manifest import remake as remake
    from deconvviz.image_sources import Source as Source
    from deconvviz.layers import Layer as Layer
    from deconvviz.layers import LayerTable as LayerTable
    from deconvviz.likeness import PlaceLikeness as PlaceLikeness
    from deconvviz.loading import load as load
    from deconvviz.methods.compare import compare as compare
    from deconvviz.methods.comparison import Comparison as Comparison
    from deconvviz.methods.verify import verify as verify
    from deconvviz.network import Network as Network
    from deconvviz.network import project as project
    from deconvviz.projection import Projection as Projection
    from deconvviz.recording import Recording as Recording
    from deconvviz.topnine.peak import Peak as Peak
    from deconvviz.topnine.result import TopNine as TopNine
    from deconvviz.trust_measures.result import Trust as Trust
    from deconvviz.trust_measures.trust import trust as trust
    from deconvviz.verification.result import Verification as Verification
    from deconvviz.web.atlas.build import atlas as atlas
    from deconvviz.web.atlas.progress import AtlasProgress as AtlasProgress
    from deconvviz.web.atlas.site import Atlas as Atlas
    from deconvviz.web.report.report import report as report

_HOME = {  # the module that defines each public name
    "Atlas": "deconvviz.web.atlas.site",
    "AtlasProgress": "deconvviz.web.atlas.progress",
    "Call": "deconvviz.engine.rules",
    "Comparison": "deconvviz.methods.comparison",
    "Correspondence": "deconvviz.experiments.correspondence_result",
    "Coverage": "deconvviz.coverage",
    "DeconvvizError": "deconvviz.errors",
    "Evolution": "deconvviz.experiments.evolution.result",
    "EvolutionRecorder": "deconvviz.experiments.evolution.recorder",
    "Filters": "deconvviz.experiments.filters_result",
    "Invariance": "deconvviz.experiments.invariance.result",
    "Inversion": "deconvviz.experiments.inversion.inversion_result",
    "Layer": "deconvviz.layers",
    "LayerTable": "deconvviz.layers",
    "Maximisation": "deconvviz.experiments.inversion.maximisation_result",
    "Network": "deconvviz.network",
    "Occlusion": "deconvviz.experiments.occlusion_result",
    "OpUse": "deconvviz.coverage",
    "Peak": "deconvviz.topnine.peak",
    "PlaceLikeness": "deconvviz.likeness",
    "Progress": "deconvviz.dataset_search.progress",
    "Projection": "deconvviz.projection",
    "Recording": "deconvviz.recording",
    "Region": "deconvviz.engine.region",
    "Rule": "deconvviz.engine.rules",
    "Search": "deconvviz.dataset_search.result",
    "Source": "deconvviz.image_sources",
    "Support": "deconvviz.engine.rules",
    "TensorLayout": "deconvviz.engine.layout",
    "TopNine": "deconvviz.topnine.result",
    "Trust": "deconvviz.trust_measures.result",
    "Unit": "deconvviz.engine.units",
    "Verification": "deconvviz.verification.result",
    "Window": "deconvviz.engine.layout",
    "atlas": "deconvviz.web.atlas.build",
    "check_rule": "deconvviz.engine.rule_check",
    "clip_filters": "deconvviz.experiments.clip_filters",
    "compare": "deconvviz.methods.compare",
    "correspondence": "deconvviz.experiments.correspondence",
    "evolution": "deconvviz.experiments.evolution.evolve",
    "filters": "deconvviz.experiments.filters",
    "invariance": "deconvviz.experiments.invariance.vary",
    "invert": "deconvviz.experiments.inversion.invert",
    "load": "deconvviz.loading",
    "maximise": "deconvviz.experiments.inversion.maximise",
    "occlusion": "deconvviz.experiments.occlusion",
    "open_search": "deconvviz.dataset_search.result",
    "project": "deconvviz.network",
    "remake": "deconvviz.from_manifest",
    "report": "deconvviz.web.report.report",
    "rule": "deconvviz.engine.rules",
    "search": "deconvviz.dataset_search.search",
    "trust": "deconvviz.trust_measures.trust",
    "verify": "deconvviz.methods.verify",
}

__all__ = [
    "Atlas",
    "AtlasProgress",
    "Call",
    "Comparison",
    "Correspondence",
    "Coverage",
    "DeconvvizError",
    "Evolution",
    "EvolutionRecorder",
    "Filters",
    "Invariance",
    "Inversion",
    "Layer",
    "LayerTable",
    "Maximisation",
    "Network",
    "Occlusion",
    "OpUse",
    "Peak",
    "PlaceLikeness",
    "Progress",
    "Projection",
    "Recording",
    "Region",
    "Rule",
    "Search",
    "Source",
    "Support",
    "TensorLayout",
    "TopNine",
    "Trust",
    "Unit",
    "Verification",
    "Window",
    "__version__",
    "atlas",
    "check_rule",
    "clip_filters",
    "compare",
    "correspondence",
    "evolution",
    "filters",
    "invariance",
    "invert",
    "load",
    "maximise",
    "occlusion",
    "open_search",
    "project",
    "remake",
    "report",
    "rule",
    "search",
    "trust",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'deconvviz' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
