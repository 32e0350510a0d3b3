"""Plan and run ``deconvviz compare``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deconvviz.cli.support.console import Counter, paths_as_json, print_note, stage
from deconvviz.cli.support.details import detail, detail_network
from deconvviz.cli.support.figure_names import ending, file_name
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.notes import print_coverage, print_origin
from deconvviz.cli.support.project_plan import Job, NamedFiles, Page, name_of, plan
from deconvviz.cli.support.second_route import verified_methods
from deconvviz.cli.support.selection import Look, Selection, read_unit
from deconvviz.engine.units import Unit
from deconvviz.figures.spec.style import ComparisonStyle
from deconvviz.loading import ModelRequest
from deconvviz.methods.compare import compare_units
from deconvviz.methods.comparison import Comparison
from deconvviz.methods.method import Subject, method
from deconvviz.printable_names import printable_path
from deconvviz.projection import approximations
from deconvviz.results import refuse_existing, targets

DEFAULT_TOP = 3


def plan_comparison(
    image: str, request: ModelRequest, selection: Selection, look: Look, out: Path, *, force: bool
) -> tuple[Page, Job]:
    """Check a command without weights. Return its image, layer and target, and the plan."""
    job = plan([image], request, selection, look, out, force=True)  # the target differs, and is checked below
    (page,) = job.pages
    stem = name_of(page.image).stem
    page = replace(
        page, target=out / file_name(stem, f"{ending(page.layer.name, (), selection)}-compare", look.format)
    )
    refuse_existing(targets(page.target, look.arrays), force=force)
    return page, job


def compare_and_save(
    page: Page,
    job: Job,
    names: Sequence[str],
    class_name: str | None,
    look: Look,
    *,
    force: bool,
    quiet: bool,
    verify: bool = False,
) -> dict[str, Any]:
    """Compare methods and write the figure. Return its JSON entry."""
    name = job.request.spec.text
    with without_garbage_collection():
        import deconvviz.figures.page.save  # noqa: F401  # imports matplotlib early
    with stage(f"loading {name}", quiet=quiet):
        network = job.request.load(job.sketch)
    print_origin(network, name, quiet=quiet)
    detail_network(network)
    print_coverage(network.coverage([page.layer]), [page.layer], quiet=quiet)
    asked = [method(one) for one in names]
    image = page.image
    assert not isinstance(image, NamedFiles)  # this command has no --inputs
    with stage("recording the image", quiet=quiet):
        subject = Subject.record(network, image, page.layer, names, class_name=class_name)
    for note in subject.recording.input_images[0].notes:
        print_note(f"{printable_path(name_of(page.image))}: {note}", quiet=quiet)
    units = _units(subject, job.selection)
    with _Steps(len(units), quiet=quiet) as steps:
        found = compare_units(subject, units, asked, report=steps)
    for left_out, reason in found.left_out.items():
        print_note(f"{left_out} is left out: {reason}", quiet=quiet)
    if verify:
        found = replace(found, verifications=verified_methods(network, found, quiet=quiet))
    settings = ("percentile", "crop", "medium")
    given = {name: value for name in settings if (value := getattr(look, name)) is not None}
    written = found.save(page.target, ComparisonStyle(**given), dpi=look.dpi, force=force, arrays=look.arrays)
    return _as_json(found, written)


def _units(subject: Subject, selection: Selection) -> Sequence[Unit]:
    if selection.units:
        return [Unit(0, *read_unit(text)) for text in selection.units]
    channel = selection.channels[0] if selection.channels else None
    shape = subject.activations().shape
    available = shape[1] if channel is None else shape[2:].numel()
    top = min(DEFAULT_TOP, available) if selection.top is None else selection.top
    return subject.recording.choose(subject.layer, top, channel, apart=selection.passes_over)


def _as_json(found: Comparison, written: Sequence[Path]) -> dict[str, Any]:
    top = found.top_class
    return {
        "picture": found.projection.image_name(0),
        "layer": found.layer.name,
        "figure": paths_as_json(written)[0],
        "files": paths_as_json(written),
        "units": [
            {**unit.to_json(), "box": list(box)} for unit, box in zip(found.units, found.boxes, strict=True)
        ],
        "methods": [one.to_json() for one in found.methods],
        "left_out": [{"name": name, "reason": reason} for name, reason in found.left_out.items()],
        "class": found.class_name or None,
        "top_class": None if top is None else top.to_json(),
        "by_analogy": approximations(found.coverage),
        "verification": found.verification_json(),
    }


class _Steps:
    """Progress of each method that takes several steps. Its cost is printed before its first step."""

    def __init__(self, units: int, *, quiet: bool) -> None:
        self._units, self._quiet = units, quiet
        self._name = ""
        self._counter: Counter | None = None

    def __enter__(self) -> _Steps:
        return self

    def __exit__(self, *_: object) -> None:
        if self._counter is not None:
            self._counter.close()

    def __call__(self, name: str, done: int, total: int) -> None:
        if name != self._name:
            self.__exit__()
            self._name, self._counter = name, None
            cost = f"{name}: {method(name).cost(self._units)}"
            if done < total:
                print_note(cost, quiet=self._quiet)
                self._counter = Counter(total, quiet=self._quiet)
            else:
                detail(cost)
        if self._counter is not None:
            self._counter.reach(done, total)
