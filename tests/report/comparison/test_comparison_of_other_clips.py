"""Verdicts on these clips and on other clips: the same from a comparison and from a report."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fewshot_i2v.report.analysis.report_data import ReportRow
from fewshot_i2v.report.analysis.run_analysis import RunAnalysis
from fewshot_i2v.report.comparison.compare import RowComparison, compare_rows
from fewshot_i2v.report.comparison.text import render_comparisons, verdict_sentence
from fewshot_i2v.report.exports import render_tables
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.statistics.jackknife import JackknifeEstimate
from fewshot_i2v.statistics.predictions import PredictionTable
from tests.report.comparison.contenders import contender
from tests.report.page.page_samples import record, section
from tests.report.page.page_samples import row as page_row

CLASSES = tuple("abcdefgh")
NAMES = ("frozen", "aim", "lora")


def made(name: str, skill: float, count: int = 80) -> list[EpisodeRecord]:
    """Of eight classes: no clip and no class is in every episode."""
    return [record(i, skill, CLASSES, salt=name) for i in range(count)]


@pytest.fixture
def records() -> dict[str, list[EpisodeRecord]]:
    return {n: made(n, skill) for n, skill in zip(NAMES, (0.4, 0.9, 0.42), strict=True)}


@pytest.fixture
def compared(records: dict[str, list[EpisodeRecord]]) -> list[RowComparison]:
    rows = [contender(name, answers={r.index: r for r in of}) for name, of in records.items()]
    names = dict(zip(rows, NAMES, strict=True))
    return compare_rows([(row, rows[0]) for row in rows[1:]], names)


def page_rows(records: dict[str, list[EpisodeRecord]]) -> list[ReportRow]:
    rows = []
    for name, of in records.items():
        summary = replace(
            page_row(name, count=1).summary, accuracies={r.index: r.accuracy or 0.0 for r in of}
        )
        rows.append(ReportRow(summary, RunAnalysis.from_records(of)))
    return rows


def test_a_large_gain_is_one_on_other_clips_too(compared: list[RowComparison]) -> None:
    aim, lora = compared
    assert (aim.verdict, aim.decision.holds_on_other_clips) == ("beats", True)
    said = verdict_sentence(aim, 0.95)
    assert said.startswith(
        "aim beats frozen on these clips and on other clips of these classes at 1 shot, by "
    )
    assert not lora.decision.holds_on_other_clips
    told = " ".join(render_comparisons(compared).split())
    assert "other clips: interval of the difference, 95 %, jackknife over clips" in told
    assert "only where, besides, that interval at 97.5 %, so that all 2 hold together" in told
    plainly = json.loads(json.dumps(aim.to_dict()))
    assert plainly["verdict_covers"] == ["these clips", "other clips of these classes"]
    assert plainly["other_clips"]["low"] > 0


def test_the_interval_is_that_of_show(
    records: dict[str, list[EpisodeRecord]], compared: list[RowComparison]
) -> None:
    frozen, aim = (PredictionTable.from_records(records[name]) for name in NAMES[:2])
    assert (
        compared[0].other_clips
        == JackknifeEstimate.from_outcomes(aim, "clips", baseline=frozen).interval()
    )


def test_a_report_says_the_same(
    records: dict[str, list[EpisodeRecord]], compared: list[RowComparison]
) -> None:
    made_section = section(*page_rows(records))
    frozen = made_section.verdicts[0]
    for place, one in enumerate(compared, 1):
        assert frozen[place].other_clips == one.other_clips
        assert frozen[place].decision.holds_on_other_clips == one.decision.holds_on_other_clips
    (table,) = json.loads(render_tables([made_section], ".json"))["tables"]
    aim = table["rows"][1]
    assert aim["over_frozen_verdict"] == "better"
    assert aim["over_frozen_verdict_on"] == "on these clips and on other clips of these classes"
    assert aim["over_frozen_other_clips_low"] == compared[0].other_clips.low  # type: ignore[union-attr]
    assert "beats frozen on these clips and on other clips of these classes" in table["summary"][0]
    shown = render_tables([made_section], ".md")
    assert "over frozen, other clips" in shown
    assert any("over frozen, other clips: of the gain" in note for note in table["notes"])


def test_rows_with_other_episodes_are_judged_by_those_in_common(
    records: dict[str, list[EpisodeRecord]],
) -> None:
    few = {**records, "aim": records["aim"][5:70]}
    (found, _) = section(*page_rows(few)).verdicts[0].values()
    frozen = PredictionTable.from_records(records["frozen"][5:70])
    aim = PredictionTable.from_records(few["aim"])
    assert (
        found.other_clips
        == JackknifeEstimate.from_outcomes(aim, "clips", baseline=frozen).interval()
    )


def test_pairs_of_other_shots_are_told_over_their_own_clips(
    records: dict[str, list[EpisodeRecord]],
) -> None:
    """All pairs had the clips of the first pair with these episode numbers."""
    more = {
        name: [replace(r, support=[[*row, f"{row[0]}+"] for row in r.support]) for r in of]
        for name, of in records.items()
    }
    rows = [
        contender(name, answers={r.index: r for r in of}, shot=shot)
        for shot, runs in ((1, records), (2, more))
        for name, of in runs.items()
    ]
    pairs = [(rows[1], rows[0]), (rows[4], rows[3])]
    first, second = compare_rows(pairs, dict.fromkeys(rows, ""))
    (alone,) = compare_rows(pairs[1:], dict.fromkeys(rows, ""))
    assert second.other_clips == alone.other_clips
    assert second.other_clips != first.other_clips


def test_some_episodes_of_outcomes_are_those_of_their_records(
    records: dict[str, list[EpisodeRecord]],
) -> None:
    some = [i for i in range(80) if i % 3]
    got = PredictionTable.from_records(records["aim"]).select_episodes([*some, 1000])
    expected = PredictionTable.from_records([r for r in records["aim"] if r.index in some])
    assert (got.classes, got.clips) == (expected.classes, expected.clips)
    for name in ("index", "episode", "label", "predicted", "query", "probability", "confidence",
                 "support_episode", "support_clip", "support_class", "member_episode",
                 "member_class"):  # fmt: skip
        assert getattr(got, name).tolist() == getattr(expected, name).tolist(), name
