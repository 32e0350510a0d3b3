"""Example parts.py: projections in scenes concentrate on the part that activates their channel."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def parts() -> ModuleType:
    sys.path.insert(0, str(EXAMPLES))
    try:
        import parts as example

        return example
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.mark.slow
def test_energy_concentrates_on_the_part_common_to_the_top_nine(
    parts: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measured with 800 scenes and all channels: 5.7 and 8.1 times the area, 1.1 and 1.4 in the control."""
    rows = parts.agreements(400, every=3)
    parts.print_table(rows)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["layer", "channel", "part"] and len(lines) == len(rows) + len(parts.LAYERS)
    assert {tuple(line.split()[:3]) for line in lines[:-2]} == {
        (row.layer, str(row.channel), row.part) for row in rows
    }
    assert lines[-1].startswith(
        f"conv4_2: {sum(row.layer == 'conv4_2' for row in rows)} channels agree on a part."
    )
    for layer, least in (("conv3_2", 6), ("conv4_2", 10)):
        of_layer = [row for row in rows if row.layer == layer]
        assert len(of_layer) >= least
        assert min(row.ratio for row in of_layer) > 1.25
        assert np.median([row.ratio for row in of_layer]) > 4
        assert (
            np.median([row.energy for row in of_layer]) > 0.3
        )  # although the part covers a tenth of the receptive field
        assert np.median([row.area for row in of_layer]) < 0.2
        control = np.median([row.other_ratio for row in of_layer])
        assert 0.7 < control < 1.7
        assert all(row.ratio > 1.25 * row.other_ratio for row in of_layer if row.agree >= 7)
    assert len({row.part for row in rows}) >= 3


def test_parts_example_prints_its_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its measurements are tested above and would take as long again."""
    monkeypatch.setattr(sys, "argv", ["parts.py", "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_path(str(EXAMPLES / "parts.py"), run_name="__main__")
    assert "--scenes" in capsys.readouterr().out


def shown(parts: ModuleType, energy: np.ndarray, seed: int = 0) -> object:
    height, width = energy.shape
    return parts.Shown(seed, (4, 2, 4 + width, 2 + height), energy / energy.sum())


def test_share_of_constant_energy_equals_share_of_the_area(parts: ModuleType) -> None:
    mask = np.zeros((96, 96), np.bool_)
    mask[2:7, 4:] = True
    even, below = np.ones((10, 8)), np.ones((10, 8))
    below[:5] = 0
    assert shown(parts, even).shares(mask) == pytest.approx((0.5, 0.5))  # type: ignore[attr-defined]
    assert shown(parts, below).shares(mask) == (0, 0.5)  # type: ignore[attr-defined]


def pieces(parts: ModuleType, channel: int, energy_of: Callable[[int], np.ndarray]) -> list[object]:
    """Return nine scenes with a visible eye in a receptive field of conv4_2."""
    dice = np.random.default_rng(channel)
    field = np.s_[14:82, 14:82]
    seeds = [
        seed
        for seed in dice.permutation(150).tolist()
        if "eye" in parts.masks_of(seed) and parts.masks_of(seed)["eye"][field].any()
    ][:9]
    cut = [energy_of(seed)[field] for seed in seeds]
    return [
        parts.Shown(seed, (14, 14, 82, 82), one / one.sum()) for seed, one in zip(seeds, cut, strict=True)
    ]


def test_energy_on_eyes_only_is_an_agreement_on_eyes(parts: ModuleType) -> None:
    for channel in range(5):
        shown = pieces(parts, channel, lambda seed: parts.masks_of(seed)["eye"].astype(float))
        found = parts.agreement("made up", channel, shown)
        assert (found.part, found.agree) == ("eye", 9)
        assert found.energy == pytest.approx(1)
        assert found.ratio == pytest.approx(1 / found.area)
        assert found.other_energy < 0.2


def test_random_energy_has_no_agreement(parts: ModuleType) -> None:
    dice = np.random.default_rng(0)
    shares, agreed = [], 0
    for channel in range(20):
        shown = pieces(parts, channel, lambda seed: dice.exponential(size=(96, 96)))
        agreed += parts.agreement("made up", channel, shown) is not None
        shares += [one.shares(parts.masks_of(one.seed)["eye"]) for one in shown]  # type: ignore[attr-defined]
    energy, area = np.sum(shares, axis=0)
    assert energy / area == pytest.approx(1, abs=0.03)
    assert agreed <= 2
