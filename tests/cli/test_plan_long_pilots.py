"""`fewshot-i2v plan`: what pilots tell of clips, and of rows that differ little or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewshot_i2v.statistics import sample_size
from fewshot_i2v.statistics.clip_variance import (
    clips_for_half_width,
    detectable_over_clips,
    estimate_clip_variance,
    half_width_over_clips,
    max_clip_variance,
)
from fewshot_i2v.statistics.predictions import PredictionTable
from fewshot_i2v.statistics.variance_components import VarianceComponents
from tests.cli.conftest import Invoke
from tests.cli.pilots import plain, reused, some, write


def test_a_long_pilot_tells_how_much_clips_matter(invoke: Invoke, tmp_path: Path) -> None:
    runs = {"frozen": reused(2, 0.5), "aim": reused(3, 0.6)}
    for adapter, records in runs.items():
        write(tmp_path, adapter, np.zeros((0, 5, 3)), records=records)
    found = plain(invoke, str(tmp_path), "--half-width", "2", "--difference", "3")
    needs = {(n["name"], n["against"]): n for n in found["clips"][0]["needs"]}
    outcomes = [PredictionTable.from_records(records) for records in runs.values()]
    one = estimate_clip_variance(outcomes[0], [60] * 10)
    assert one is not None
    row = needs["frozen", None]
    assert not row["most"]
    assert row["left"] == pytest.approx(half_width_over_clips(one, 60))
    assert row["clips"] == clips_for_half_width(one, 0.02)
    assert row["between"][0] < row["clips"] < row["between"][1]
    rest = sample_size.episodes_for_half_width(found["rows"][0]["deviation"], 0.01)
    assert row["episodes"] == pytest.approx(rest, abs=2)
    # clips are as hard for either method, so that the gain hardly depends on them
    gain = needs["aim", "frozen"]
    assert gain["most"]
    most = max_clip_variance(VarianceComponents(**found["pairs"][0]["found"]), 5, 1, 10, clips=60)
    assert gain["left"] == pytest.approx(detectable_over_clips(most, 60))
    text = " ".join(invoke("plan", str(tmp_path), "--half-width", "2").stdout.split())
    assert "however many the episodes, the 60 clips of each class leave ±" in text
    wide = " ".join(invoke("plan", str(tmp_path), "--half-width", "9").stdout.split())
    assert "There are enough." in wide
    narrow = " ".join(invoke("plan", str(tmp_path), "--half-width", "0.5").stdout.split())
    assert "WARNING: there are too few clips, and more episodes do not help." in narrow


def test_rows_without_a_baseline_are_planned_against_the_first(
    invoke: Invoke, tmp_path: Path
) -> None:
    for seed, head in enumerate(("prototype", "otam", "linear")):
        write(tmp_path, "frozen", some(seed, 0.6), head=head)
    found = plain(invoke, str(tmp_path))
    assert len(found["pairs"]) == 2
    assert {pair["against"] for pair in found["pairs"]} == {found["rows"][0]["name"]}
    assert "planned against the first row of each shot" in found["remarks"][0]


def test_episodes_that_are_not_the_same_are_refused(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "frozen", np.zeros((0, 5, 3)), records=reused(2, 0.5, episodes=4))
    write(tmp_path, "aim", some(1, 0.6, query=3, episodes=4))
    result = invoke("plan", str(tmp_path))
    assert result.exit_code != 0
    assert "an episode of the same number is not the same" in result.output


def test_rows_that_hardly_differ_get_the_least_spread_of_such_that_do(
    invoke: Invoke, tmp_path: Path
) -> None:
    values = some(1, 0.6)
    write(tmp_path, "frozen", values)
    values[:6, 0, 0] ^= True
    write(tmp_path, "aim", values)
    (pair,) = plain(invoke, str(tmp_path))["pairs"]
    assert pair["alike"]
    assert pair["deviation"] == pytest.approx(sample_size.min_difference_sd(0.02, 25))
    assert pair["episodes"] == sample_size.episodes_for_difference(pair["deviation"], 0.02)
