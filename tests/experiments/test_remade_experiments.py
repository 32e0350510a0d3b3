"""Results of experiments, made again from their manifests: equal tables, and what is missing or differs."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.errors import ManifestError, SourceError
from deconvviz.experiments.correspondence_parts import PartBox
from deconvviz.scenes import scene
from deconvviz.web.report.commands import command_of

pytestmark = pytest.mark.slow  # together about 40 s

SQUARES = {"size": 0.5, "stride": 0.25, "phases": 2}
BOXES = [PartBox(f"s{seed}.png", "spot", (10 * seed, 20, 40, 60)) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return dv.load("minivgg", weights="random", seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three images, two checkpoints, and the files of all experiments."""
    folder = tmp_path_factory.mktemp("saved")
    for seed in (1, 2, 3):
        Image.fromarray(scene(seed).image).save(folder / f"s{seed}.png")
    for epoch in (1, 2):
        state = dv.load("minivgg", weights="random", seed=epoch).module.state_dict()
        save_file(state, folder / f"epoch_{epoch}.safetensors")
    return folder


def images(folder: Path) -> list[Path]:
    return [folder / f"s{seed}.png" for seed in (1, 2, 3)]


def evolution(net: dv.Network, folder: Path) -> Any:
    checkpoints = str(folder / "epoch_*.safetensors")
    options: Any = {"channels": 2, "measured": 5, "seed": 4, "workers": 0, "limit": 6}
    return dv.evolution("minivgg", checkpoints, "scenes:9", ["conv1_2", "conv2_2"], **options)


def invariance(net: dv.Network, folder: Path) -> Any:
    names, ranges = ["translate", "blur"], {"translate": (-4.0, 4.0)}
    return dv.invariance(
        net, images(folder), ["relu1_1", "relu3_1"], transforms=names, ranges=ranges, steps=3
    )


def filters(net: dv.Network, folder: Path) -> Any:
    other = folder / "epoch_1.safetensors"
    return dv.filters(net, source="scenes:6", limit=4, count=3, against=other, by_size=True, seed=2)


def occlusion(net: dv.Network, folder: Path) -> Any:
    return dv.occlusion(
        net, images(folder)[:2], "relu3_1", class_name="fish", channel=2, fill="blur", **SQUARES
    )


def occlusion_of_scenes(net: dv.Network, folder: Path) -> Any:
    return dv.occlusion(net, [scene(5)], "relu3_1", unit=(1, 2, 3), fill="without", **SQUARES)


def correspondence(net: dv.Network, folder: Path) -> Any:
    return dv.correspondence(net, images(folder), BOXES, ["relu2_1", "fc6"], draws=2, seed=1)


def correspondence_of_scenes(net: dv.Network, folder: Path) -> Any:
    return dv.correspondence(net, "scenes:12", ["eye"], "relu3_1", draws=2, fill="without")


ALL = (
    evolution, invariance, filters, occlusion, occlusion_of_scenes, correspondence, correspondence_of_scenes,
)  # fmt: skip


@pytest.fixture(scope="module")
def saved(net: dv.Network, folder: Path) -> dict[str, tuple[Any, Path]]:
    """Each result and its manifest."""
    found = {make.__name__: make(net, folder) for make in ALL}
    return {name: (one, one.save_into(folder / name, dpi=60).manifest) for name, one in found.items()}


def edited(manifest: Path, tmp_path: Path, **changes: Any) -> Path:
    """Return a copy of a manifest, whose relative paths no longer fit, with other entries."""
    copy = tmp_path / manifest.name
    copy.write_text(json.dumps({**json.loads(manifest.read_text()), **changes}))
    return copy


def error_of(manifest: Path, **options: Any) -> str:
    with pytest.raises(ManifestError) as caught:
        dv.remake(manifest, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", [make.__name__ for make in ALL])
def test_remade_table_and_arrays_are_equal(name: str, saved: Any) -> None:
    original, manifest = saved[name]
    again = dv.remake(manifest)
    assert again.result.table.equals(original.table)
    assert again.result.describe() == original.describe()
    assert again.dpi == 60
    if name == "evolution":
        assert again.result.layer_table.equals(original.layer_table)
    if name.startswith("occlusion"):
        ours, theirs = original.arrays(), again.result.arrays()
        assert all((ours[key] == theirs[key]).all() for key in ours if ours[key].dtype.kind in "iU")


def test_figure_has_the_style_of_the_manifest(saved: Any, tmp_path: Path) -> None:
    original, _ = saved["evolution"]
    manifest = original.save_into(tmp_path / "one", columns=2, crop="field", dpi=70).manifest
    again = dv.remake(manifest)
    assert (again.style.columns, again.style.crop, again.dpi) == (2, "field", 70)


def test_everything_is_found_in_a_moved_folder(net: dv.Network, folder: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    for file in (*images(folder), *folder.glob("*.safetensors")):
        shutil.copy(file, old)
    made = {make: make(net, old) for make in (evolution, occlusion)}
    for make, one in made.items():
        one.save_into(old / make.__name__)
    shutil.move(old, new)
    for make, one in made.items():
        (manifest,) = (new / make.__name__).glob("*.json")
        assert dv.remake(manifest).result.table.equals(one.table)


def test_changed_and_missing_checkpoints_are_named(net: dv.Network, folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("*.safetensors"):
        shutil.copy(file, tmp_path)
    manifest = evolution(net, tmp_path).save_into(tmp_path / "out").manifest
    shutil.copy(folder / "epoch_2.safetensors", tmp_path / "epoch_1.safetensors")
    first = tmp_path / "epoch_1.safetensors"
    assert error_of(manifest) == (
        f"the checkpoint 1 of {manifest} has changed: {first} is not the file that was used"
    )
    first.unlink()
    assert error_of(manifest) == f"the checkpoint 1 of {manifest} no longer exists: it was {first}"


def test_changed_and_missing_images_are_named(net: dv.Network, folder: Path, tmp_path: Path) -> None:
    for file in images(folder):
        shutil.copy(file, tmp_path)
    manifests = [make(net, tmp_path).save_into(tmp_path / make.__name__).manifest
                 for make in (invariance, occlusion, correspondence)]  # fmt: skip
    Image.fromarray(scene(9).image).save(tmp_path / "s2.png")
    for manifest in manifests:
        assert error_of(manifest).startswith(f"the pixels of s2.png are not those of {manifest}: ")
    (tmp_path / "s2.png").unlink()
    for manifest in manifests:
        assert error_of(manifest) == f"the image of {manifest} no longer exists: it was {tmp_path / 's2.png'}"


def test_images_with_the_same_name_are_not_confused(net: dv.Network, folder: Path, tmp_path: Path) -> None:
    files = []
    for place, file in zip(("a", "b"), images(folder), strict=False):
        (tmp_path / place).mkdir()
        files.append(shutil.copy(file, tmp_path / place / "same.png"))
    one = dv.occlusion(net, files, "relu1_1", **SQUARES)
    assert dv.remake(one.save_into(tmp_path / "out").manifest).result.table.equals(one.table)


def test_search_of_an_occlusion_is_opened_again(net: dv.Network, folder: Path, tmp_path: Path) -> None:
    found = dv.search(net, "scenes:6", ["relu1_1"], out=tmp_path / "found", workers=0)
    one = dv.occlusion(net, images(folder)[0], "relu1_1", search=found, **SQUARES)
    manifest = one.save_into(tmp_path / "out").manifest
    again = dv.remake(manifest).result
    assert again.describe()["others"] == one.describe()["others"] != {}
    shutil.move(tmp_path / "found", tmp_path / "gone")
    assert error_of(manifest) == f"the search of {manifest} no longer exists: it was {tmp_path / 'found'}"
    unsaved = dv.search(net, "scenes:6", ["relu1_1"], workers=0)
    one = dv.occlusion(net, images(folder)[0], "relu1_1", search=unsaved, **SQUARES)
    assert "from a search that was not saved" in error_of(one.save_into(tmp_path / "other").manifest)


def test_changed_source_is_named(net: dv.Network, folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    for file in images(folder):
        shutil.copy(file, source)
    manifest = dv.filters(net, source=source, count=2).save_into(tmp_path / "out").manifest
    shutil.copy(source / "s1.png", source / "s4.png")
    with pytest.raises(SourceError, match="3 images then, 4 now"):
        dv.remake(manifest)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("evolution", lambda stored: stored["layers"][0]["activations"].__setitem__(0, 99.5)),
        ("invariance", lambda stored: stored["transforms"][0]["mean_change"].__setitem__(0, 99.5)),
        ("filters", lambda stored: stored["filters"][1].update(median_rms=99.5)),
        ("occlusion", lambda stored: stored["occlusion"][1].update(activity=99.5)),
        ("correspondence", lambda stored: stored["correspondence"][0].update(mean=99.5)),
    ],
)
def test_other_numbers_are_named_with_the_versions(
    name: str, change: Any, saved: Any, tmp_path: Path
) -> None:
    manifest = saved[name][1]
    stored = json.loads(manifest.read_text())
    change(stored)
    stored["versions"]["torch"] = "1.0"
    copy = edited(manifest, tmp_path, **stored)
    message = error_of(copy)
    assert message.startswith(f"the {name} differs from {copy}: {name[:3] if name == 'filters' else ''}")
    assert "was 99.5 and is " in message
    assert "Versions differ: torch 1.0 then and " in message


def test_other_weights_are_refused(saved: Any, folder: Path) -> None:
    for name in ("invariance", "filters", "occlusion", "correspondence"):
        message = error_of(saved[name][1], weights=folder / "epoch_2.safetensors")
        assert message.startswith("the weights of minivgg are not those of ")


def test_results_that_only_a_program_can_make_are_refused(
    net: dv.Network, folder: Path, tmp_path: Path
) -> None:
    array = scene(4).image
    manifest = dv.occlusion(net, array, "relu1_1", **SQUARES).save_into(tmp_path / "array").manifest
    assert error_of(manifest).startswith(f"{manifest} was made from an image in memory: ")
    own = dv.Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)), size=32)
    manifest = dv.filters(own).save_into(tmp_path / "own").manifest
    assert error_of(manifest).startswith(f"{manifest} was made in Python from a module, not by name: ")


def test_manifests_of_older_versions_are_refused(saved: Any, tmp_path: Path) -> None:
    manifest = saved["invariance"][1]
    stored = json.loads(manifest.read_text())
    del stored["arguments"]
    copy = tmp_path / "old.json"
    copy.write_text(json.dumps(stored))
    assert error_of(copy) == (
        f"{copy} is of an older version, whose manifests of experiments do not have all arguments. Use the "
        "command again that made it"
    )
    assert error_of(edited(manifest, tmp_path, arguments={"steps": 3})).startswith(f"{tmp_path}")


def test_projection_of_the_manifest_of_an_experiment_is_refused(saved: Any) -> None:
    again = dv.remake(saved["filters"][1])
    with pytest.raises(ManifestError, match=r"not of a projection: use \.result"):
        _ = again.projection


def test_manifests_in_a_report_make_the_results_again(saved: Any, tmp_path: Path) -> None:
    results = [saved[name][0] for name in ("evolution", "filters", "occlusion", "correspondence_of_scenes")]
    page = dv.report(results, tmp_path / "report.html").read_text(encoding="utf-8")
    start = page.index('id="manifests">') + len('id="manifests">')
    for one, stored in zip(results, json.loads(page[start : page.index("</script>", start)]), strict=True):
        manifest = tmp_path / stored.pop("file")
        manifest.write_text(json.dumps(stored))
        assert dv.remake(manifest).result.table.equals(one.table)
        assert f"deconvviz remake {manifest.name}" in page


def test_report_shows_every_experiment_as_html_and_not_as_an_image_of_a_figure(
    saved: Any, tmp_path: Path
) -> None:
    for name, what in (
        ("evolution", ('class="tiles usual"', 'class="plot"', "settle", "same image and unit")),
        ("invariance", ('class="tiles usual"', 'class="plot"', "changes features by", "distance / length")),
        ("filters", ('class="tiles large"', "filters of", "energy by frequency")),
        ("occlusion", ('class="tiles usual"', "(e) most probable", "place of the lowest probability")),
        ("correspondence", ('class="bars"', "against random places", "spot")),
    ):
        one = saved[name][0]
        page = dv.report(one, tmp_path / f"{name}.html").read_text(encoding="utf-8")
        assert [words for words in what if words not in page] == []
        assert 'class="drawn"' not in page
        for sentence in one.describe().get("summary", one.describe().get("warnings")):
            assert sentence in html.unescape(page)


def test_report_has_no_command_for_results_of_a_program(
    net: dv.Network, folder: Path, tmp_path: Path
) -> None:
    for image, words in ((scene(4).image, None), (images(folder)[0], "deconvviz remake 1.json")):
        one = dv.occlusion(net, image, "relu1_1", **SQUARES)
        assert command_of(one.describe(), one.places(tmp_path), "1.json") == words


def test_command_writes_the_same_files(saved: Any, tmp_path: Path) -> None:
    for name in ("evolution", "correspondence"):
        manifest = saved[name][1]
        out = tmp_path / name
        done = CliRunner().invoke(app, ["remake", str(manifest), "--out", str(out), "--quiet"])
        assert done.exit_code == 0, done.output
        assert {path.name for path in out.iterdir()} == {path.name for path in manifest.parent.iterdir()}
        table = f"{name}.parquet"
        assert (out / table).read_bytes() == (manifest.parent / table).read_bytes()


def test_command_writes_nothing_if_something_differs(saved: Any, tmp_path: Path) -> None:
    manifest = edited(saved["correspondence"][1], tmp_path, correspondence=[])
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["remake", str(manifest), "--out", str(out)])
    assert (done.exit_code, out.exists()) == (2, False)
    assert "the correspondence differs from" in " ".join(done.stderr.split())
    missing = CliRunner().invoke(app, ["remake", str(tmp_path / "no.json"), "--out", str(out)])
    assert (missing.exit_code, out.exists()) == (2, False)
    assert "importing torch" not in missing.stderr


def test_command_makes_projections_again(net: dv.Network, folder: Path, tmp_path: Path) -> None:
    net.record(images(folder)[0], "relu2_1").project("relu2_1").save(tmp_path / "sheet.png", dpi=50)
    args = ["remake", str(tmp_path / "sheet.json"), "--out", str(tmp_path / "again"), "-q"]
    assert CliRunner().invoke(app, args).exit_code == 0
    assert (tmp_path / "again" / "sheet.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()
