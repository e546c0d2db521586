"""`fewshot-i2v plan`: episodes and clips, from a pilot or from assumed values."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from fewshot_i2v.data.splits.summary import max_disjoint_episodes
from fewshot_i2v.statistics import bounded_interval, sample_size
from fewshot_i2v.statistics.sequential_stopping import decide_stopping
from fewshot_i2v.statistics.variance_components import (
    VarianceComponents,
    assumed_components,
    estimate_components,
)
from fewshot_i2v.utils import resources
from tests.cli.conftest import Invoke
from tests.cli.pilots import plain, some, write


@pytest.fixture(scope="module")
def written_pilot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pilot")
    for shot in (1, 5):
        write(folder, "frozen", some(shot, 0.6), failed=shot == 1, shot=shot)
        write(folder, "aim", some(10 + shot, 0.8), shot=shot)
    return folder


@pytest.fixture
def pilot(written_pilot: Path, tmp_path: Path) -> Path:
    """A copy, to which a test can add."""
    return Path(shutil.copytree(written_pilot, tmp_path, dirs_exist_ok=True))


def test_a_pilot_is_planned_row_by_row(invoke: Invoke, pilot: Path) -> None:
    found = plain(invoke, str(pilot), "--half-width", "2", "--shot", "1")
    assert [(row["name"], row["shot"]) for row in found["rows"]] == [("frozen", 1), ("aim", 1)]
    row, values = found["rows"][0], some(1, 0.6)
    spread = estimate_components(values.tolist())
    assert row["found"]["between"] == pytest.approx(spread.between)
    assert row["deviation"] == pytest.approx(values.mean(axis=(1, 2)).std(ddof=1))
    away = max(spread.mean, 1 - spread.mean)
    assert row["episodes"] == sample_size.episodes_for_half_width(row["deviation"], 0.02)
    assert row["until"] == sample_size.episodes_for_half_width(
        row["deviation"], 0.02, max_distance=away
    )
    assert row["between"][0] < row["episodes"] < row["between"][1]
    assert "Failed episodes of the pilot: 1; left out." in found["remarks"]


def test_until_draws_about_as_many_as_planned(invoke: Invoke, pilot: Path) -> None:
    row = plain(invoke, str(pilot), "--half-width", "2", "--shot", "5")["rows"][1]
    stops = [
        decide_stopping([some(seed, 0.8, episodes=1500).mean(axis=(1, 2)).tolist()], 0.02).episodes
        for seed in range(20, 40)
    ]
    assert np.mean(stops) == pytest.approx(row["until"], rel=0.25)


@pytest.mark.parametrize("target", ["1", "2", "3", "8"])
def test_no_more_episodes_than_there_are_where_the_goal_is_met(
    invoke: Invoke, pilot: Path, target: str
) -> None:
    """The number is that of Student's t, as the intervals of tables are."""
    for row in plain(invoke, str(pilot), "--half-width", target)["rows"]:
        assert (row["episodes"] <= 40) == (row["now"] <= float(target) / 100)
        assert row["episodes"] <= row["until"]


def test_differences_are_planned_from_the_paired_spread(invoke: Invoke, pilot: Path) -> None:
    found = plain(invoke, str(pilot), "--difference", "3", "--power", "0.9")
    pair = found["pairs"][0]
    assert (pair["name"], pair["against"], pair["shot"]) == ("aim", "frozen", 1)
    apart = some(11, 0.8).mean(axis=(1, 2)) - some(1, 0.6).mean(axis=(1, 2))
    assert pair["gain"] == pytest.approx(apart.mean())
    assert pair["deviation"] == pytest.approx(apart.std(ddof=1))
    needed = sample_size.episodes_for_difference(apart.std(ddof=1), 0.03, power=0.9)
    together = sample_size.episodes_for_difference(
        apart.std(ddof=1), 0.03, power=0.9, level=1 - 0.05 / 2
    )
    assert (pair["episodes"], pair["together"]) == (needed, together)
    assert pair["common"] == 40
    assert pair["visible"] > 0.03


def test_clips_are_counted(invoke: Invoke, pilot: Path) -> None:
    found = plain(invoke, str(pilot), "--shot", "1")
    (clips,) = found["clips"]
    sizes = [60] * 10
    assert (clips["classes"], clips["sizes"]) == (10, [60, 60])
    assert clips["asked"]["episodes"] == max_disjoint_episodes(sizes, 5, 1, 5)
    best = clips["best"]
    assert best["episodes"] == max_disjoint_episodes(sizes, 5, 1, best["query"])
    assert best["half_width"] <= clips["asked"]["half_width"]
    assert (
        max_disjoint_episodes([clips["needed"]] * 10, 5, 1, clips["use"]["query"])
        >= (clips["use"]["episodes"])
    )
    assert clips["use"]["half_width"] <= 0.01
    assert clips["pair"] == ["aim", "frozen"]


def test_another_query_count_changes_the_spread(invoke: Invoke, pilot: Path) -> None:
    few, many = (plain(invoke, str(pilot), "--query", query)["rows"][0] for query in ("1", "20"))
    assert few["episodes"] > many["episodes"]
    found = VarianceComponents(**many["found"])
    assert many["deviation"] == pytest.approx(found.deviation(100))


def test_it_is_said_in_plain_words(invoke: Invoke, pilot: Path) -> None:
    result = invoke("plan", str(pilot), "--half-width", "2")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    for said in (
        "From a pilot: split motions (novel), 5-way, 5 query clips per class",
        "- Accuracy to ± 2 points: ",
        "episodes of 5 query clips per class, for every row (--episodes ",
        "--until 2 draws about ",
        "it stops by what it has seen so far, so it needs a margin for what it has not seen.",
        "A difference of 2 points on these clips: ",
        "aim against frozen, 1-shot",
        "All of that holds for these clips only.",
        "however many the episodes, the 60 clips of each class leave at most ±",
        "WARNING: there are not that many. A pilot of some hundred episodes tells if fewer do.",
        "no more than (way · shot · b + w) / (classes · clips)",
        "by episodes that share none (--sampling disjoint): 10 classes with 60 clips",
        "Assumed: later episodes spread as those of the pilot do",
        "may be: what 40 episodes can tell",
    ):
        assert said in text
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) < 125
    # the answer comes before any table
    assert lines[lines.index("") + 1].startswith("- Accuracy to")
    assert lines.index("How to read it, and what is assumed") > 20


def test_rows_that_hardly_differ_are_not_planned(invoke: Invoke, tmp_path: Path) -> None:
    values = some(1, 0.6)
    write(tmp_path, "frozen", values)
    other = values.copy()
    other[0, 0, 0] ^= True
    write(tmp_path, "aim", other)
    (pair,) = plain(invoke, str(tmp_path))["pairs"]
    assert (pair["differ"], pair["episodes"]) == (1, None)
    text = " ".join(invoke("plan", str(tmp_path)).stdout.split())
    reason = "too few episodes in which they differ from frozen"
    assert f"No plan for aim (1-shot, 1 of 40 episodes): {reason}" in text


def test_a_pilot_without_a_mistake_is_no_certainty(invoke: Invoke, tmp_path: Path) -> None:
    values = np.ones_like(some(1, 0.6))
    write(tmp_path, "frozen", values)
    found = plain(invoke, str(tmp_path))
    (row,) = found["rows"]
    low, high = row["between"]
    # as many equal accuracies as a table shows with an interval of ± 1 point
    assert low == row["episodes"]
    for n, is_enough in ((low, True), (low - 1, False)):
        assert (1 - (bounded_interval([1.0] * n).low or 0) <= 0.01) == is_enough
    assert row["until"] == 198
    assert high > 1000
    low_end = bounded_interval([1.0] * len(values)).low
    assert row["now"] == pytest.approx(1 - (low_end or 1.0))
    assert row["now"] > 0.05
    assert found["clips"] == []
    assert any("Other clips are not planned for frozen, 1-shot" in r for r in found["remarks"])
    text = " ".join(invoke("plan", str(tmp_path)).stdout.split())
    assert f"it may take up to {high:,} episodes" in text
    assert "There are enough" not in text
    assert f"{low}-{low}" not in text
    assert "--until 1 draws about 198: where all episodes are alike, its margin is for" in text


def test_a_row_that_is_always_right_leaves_the_others_planned(
    invoke: Invoke, tmp_path: Path
) -> None:
    write(tmp_path, "frozen", some(1, 0.6))
    write(tmp_path, "aim", np.ones_like(some(1, 0.6)))
    found = plain(invoke, str(tmp_path))
    (clips,) = found["clips"]
    names = {(need["name"], need["against"]) for need in clips["needs"]}
    assert names == {("frozen", None), ("aim", "frozen")}
    assert clips["row"] == "frozen"


def test_rows_that_always_differ_alike_are_no_certainty(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "frozen", np.zeros_like(some(1, 0.6)))
    write(tmp_path, "aim", np.ones_like(some(1, 0.6)))
    (pair,) = plain(invoke, str(tmp_path))["pairs"]
    assert pair["visible"] > 0
    assert pair["between"][1] > 5 * pair["between"][0]


def test_one_query_per_class_is_said(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "frozen", some(1, 0.6, query=1))
    text = " ".join(invoke("plan", str(tmp_path)).stdout.split())
    assert "With one query clip per class" in text
    assert "Differences: not planned, there is one row." in text


def test_without_a_pilot_values_are_assumed(invoke: Invoke) -> None:
    found = plain(invoke, "--accuracy", "0.9", "--split", "motions", "--shot", "5")
    (row,) = found["rows"]
    spread = assumed_components(0.9, 25, 0.05)
    assert row["deviation"] == pytest.approx(spread.deviation())
    assert row["between"] is None
    assert found["pairs"][0]["deviation"] == pytest.approx(spread.deviation() * 1.4**0.5)
    assert found["clips"][0]["star"] == pytest.approx((0.95 * 5 / (5 * 0.05)) ** 0.5)
    text = invoke("plan").stdout
    assert "Assumed: accuracy 80 %" in text
    assert "give --split" in text


def test_clips_are_planned_for_all_comparisons_together(invoke: Invoke) -> None:
    """As `compare` decides on other clips: what is planned for is to be a verdict."""

    def _clips(*shots: str) -> int:
        flags = [part for shot in shots for part in ("--shot", shot)]
        found = plain(invoke, "--split", "motions", *flags)
        (need,) = [n for n in found["clips"][0]["needs"] if n["against"]]
        return int(need["clips"])

    alone, of_three = _clips("1"), _clips("1", "5", "10")
    quantile = NormalDist().inv_cdf
    shift = [quantile(1 - 0.025 / comparisons) + quantile(0.8) for comparisons in (1, 3)]
    assert of_three / alone == pytest.approx((shift[1] / shift[0]) ** 2, rel=0.02)


def test_no_common_spread_has_no_best_query_count(invoke: Invoke) -> None:
    (clips,) = plain(invoke, "--common", "0", "--split", "motions")["clips"]
    assert clips["star"] is None
    said = invoke("plan", "--common", "0", "--split", "motions").stdout
    assert "as many as there are at 1-shot" in " ".join(said.split())


def test_a_split_with_too_few_clips_says_so(invoke: Invoke) -> None:
    result = invoke("plan", "--split", "motions", "--shot", "40")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert "2 episodes of 20 query clips per class that share no clip show no difference" in text
    assert " >50" in result.stdout
    result = invoke("plan", "--split", "motions", "--shot", "60")
    assert "60-shot: these clips do not allow two episodes that share none" in result.stdout


def test_a_pilot_whose_split_is_gone_is_planned_without_clips(
    invoke: Invoke, pilot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_i2v.utils.resources.data_folder", lambda _kind: pilot)
    found = plain(invoke, str(pilot))
    assert found["clips"] == []
    assert "the pilot's split cannot be read" in found["remarks"][-1]


def test_a_pilot_on_a_split_of_ones_own_is_planned_with_its_clips(
    invoke: Invoke, pilot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = shutil.copy(resources.data_file("episodes", "motions"), tmp_path / "mine.yaml")
    for path in pilot.glob("*/run.json"):
        header = json.loads(path.read_text()) | {"split": {"path": str(mine)}}
        path.write_text(json.dumps(header))
    known = set(resources.data_names("episodes")) - {"motions"}
    monkeypatch.setattr("fewshot_i2v.report.plan.basis.data_names", lambda _kind: known)
    monkeypatch.setattr("fewshot_i2v.utils.resources.data_folder", lambda _kind: tmp_path)
    found = plain(invoke, str(pilot))
    assert found["clips"] == plain(invoke, str(pilot), "--split", str(mine))["clips"] != []
    assert not [remark for remark in found["remarks"] if "cannot be read" in remark]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--way", "3"], "--way 3: {run} is a pilot of way 5; expected that"),
        (["--shot", "2"], "{run}: no row of shot 2; there are rows of shot 1, 5"),
        (["--accuracy", "0.5"], "--accuracy is assumed where there is no pilot"),
        (["--split", "motion"], "unknown split 'motion'; did you mean 'motions'"),
        (["--subset", "novels", "--split", "motions"], "unknown subset 'novels'"),
        (["--half-width", "0.01"], "--half-width: got 0.01; expected 0.05 to 50 points"),
        (["--power", "0.01"], "--power 0.01: expected more than 1 - --level, 0.05"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    invoke: Invoke, pilot: Path, args: list[str], message: str
) -> None:
    result = invoke("plan", str(pilot), *args)
    assert result.exit_code != 0
    assert message.format(run=pilot) in result.output


def test_too_few_classes_are_refused(invoke: Invoke) -> None:
    result = invoke("plan", "--split", "motions", "--way", "11")
    assert "way: got 11; expected at most 10" in result.output


def test_rows_of_other_settings_do_not_mix(invoke: Invoke, pilot: Path) -> None:
    write(pilot / "more", "frozen", some(3, 0.6, query=2))
    result = invoke("plan", str(pilot))
    assert "rows of 2 settings" in result.output


def test_a_pilot_of_one_episode_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "frozen", some(1, 0.6, episodes=1))
    result = invoke("plan", str(tmp_path))
    assert "fewer than 2 episodes that succeeded in every row" in result.output
