"""The study of starts from generated scenes: what its variants leave out, and its gains."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.synthetic.world.scene import WorldScene, random_world_scene
from fewshot_i2v.runs.prediction_reader import PredictionReader
from tests.scripts.run_samples import write_sample_row

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "study_motion_world.py"


@pytest.fixture(scope="module")
def script() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))  # as Python does for a script that is run
        yield runpy.run_path(str(SCRIPT))


def scenes() -> list[WorldScene]:
    return [random_world_scene("goes-left-and-back", i, 0, 16, 4) for i in range(12)]


def moving_cameras(of: list[WorldScene]) -> int:
    return sum(scene.camera.moves for scene in of)


def bystanders(of: list[WorldScene]) -> int:
    return sum(len(scene.bystanders) for scene in of)


def backdrop_contrast(of: list[WorldScene]) -> float:
    return max(float(np.ptp(scene.backdrop, (1, 2)).max()) for scene in of)


MEASURES = {
    "still cameras": moving_cameras,
    "no bystanders": bystanders,
    "even backdrops": backdrop_contrast,
}


@pytest.mark.parametrize("variant", MEASURES)
def test_a_variant_leaves_out_one_enrichment_while_it_lasts(
    script: dict[str, Any], variant: str
) -> None:
    before = [measure(scenes()) for measure in MEASURES.values()]
    assert min(before) > 0
    with script["changed"](variant):
        changed = {name: measure(scenes()) for name, measure in MEASURES.items()}
    assert {name for name, value in changed.items() if value == 0} == {variant}
    assert [measure(scenes()) for measure in MEASURES.values()] == before


def test_the_split_of_a_variant_lists_its_clips(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    script["variant_split"].__globals__["write_missing_clips"] = (
        lambda generator, names, folder, progress: written.extend(names)
    )
    (tmp_path / "clips").mkdir()
    split = load_split(script["variant_split"]("no figures", tmp_path / "clips", 3))
    world = load_split("motion-world")
    assert set(split.subsets) == {"base", "val"}
    assert 0 < len(split.subsets["base"]) < len(world.subsets["base"])
    assert not any("kicks" in kind for kinds in split.subsets.values() for kind in kinds)
    listed = [clip.name for kinds in split.subsets.values() for c in kinds.values() for clip in c]
    assert sorted(listed) == sorted(written)


def test_a_gain_is_paired_by_episode(script: dict[str, Any], tmp_path: Path) -> None:
    rows = []
    for adapter, gain in (("frozen", 0.0), ("aim", 0.2)):
        better_in_pairs = 0.04 * (gain > 0)
        accuracies = {i: 0.1 + 0.03 * i + gain + better_in_pairs * (i // 2 % 2) for i in range(20)}
        folder = tmp_path / adapter
        settings = {"adapter": adapter, "head": "prototype", "shot": [1]}
        write_sample_row(folder, settings, accuracies)
        rows.append(PredictionReader().read(folder))
    frozen, aim = rows
    line = script["gain_line"]("all", aim, frozen)
    assert (line["frozen"], line["accuracy"], line["gain"]) == (38.5, 60.5, 22.0)
    assert line["half_width"] == pytest.approx(0.96, abs=0.01)  # accuracies alone spread by 18
    others = line["other clips"]
    assert others["low"] < line["gain"] < others["high"]
