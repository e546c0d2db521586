"""Comparisons: what is refused, what is found, and what is said."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report.comparison import text
from fewshot_i2v.report.comparison.baselines import names_by_row, pairs_with_frozen
from fewshot_i2v.report.comparison.compare import RowComparison, compare_rows
from fewshot_i2v.report.comparison.text import format_p, render_comparisons, verdict_sentence
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.prediction_reader import RecordedRow, merge_recorded_seeds, share_clips
from fewshot_i2v.statistics.paired_tests import mcnemar
from tests.report.comparison.contenders import (
    OVER,
    UNDER,
    Accuracies,
    answer,
    contender,
    text_of,
)


def compared(*contenders: RecordedRow, **options: Any) -> list[RowComparison]:
    """Each of the later ones with the first."""
    pairs = [(c, contenders[0]) for c in contenders[1:]]
    return compare_rows(pairs, names_by_row(contenders), **options)


def refusal(*contenders: RecordedRow, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        compared(*contenders, **options)
    return str(caught.value)


def test_a_row_that_is_better_in_every_episode_beats_the_other() -> None:
    (got,) = compared(contender(), contender("aim", OVER))
    assert (got.name, got.baseline_name, got.verdict) == ("aim", "frozen", "beats")
    assert (got.test.paired.wins, got.test.paired.ties, got.test.paired.losses) == (12, 0, 0)
    assert got.unit == "episode"
    assert got.test.p == got.decision.p == pytest.approx(2 / 2**12)
    assert got.test.means == pytest.approx((0.5, 0.25))
    assert got.difference.mean == pytest.approx(0.25)
    assert verdict_sentence(got, 0.95) == (
        "aim beats frozen on these clips at 1 shot, by 25.0 points (Holm p 0.0005); what other "
        "clips would show is not known."
    )
    (back,) = compared(contender("aim", OVER), contender())
    assert verdict_sentence(back, 0.95).startswith(
        "frozen is worse than aim on these clips at 1 shot, by 25.0 points"
    )


def test_verdicts_go_by_the_adjusted_p() -> None:
    six = {i: OVER[i] for i in range(6)}
    base = contender(accuracies={i: UNDER[i] for i in range(6)})
    (alone,) = compared(base, contender("aim", six))
    assert (alone.verdict, alone.test.p) == ("beats", pytest.approx(2 / 2**6))
    both = compared(base, contender("aim", six), contender("bitfit", six))
    assert [c.decision.p for c in both] == pytest.approx([4 / 2**6] * 2)
    assert {c.verdict for c in both} == {"cannot be told apart from"}
    assert {c.verdict for c in compared(base, contender("aim", six), level=0.99)} == {
        "cannot be told apart from"
    }


def test_what_cannot_be_told_apart_says_what_could_have_been() -> None:
    swings: Accuracies = {i: (UNDER[i] or 0) + (0.25 if i % 2 else -0.0) for i in range(12)}
    mixed = {i: 0.25 if i % 2 else 0.5 for i in range(12)}
    (got,) = compared(contender(accuracies=mixed), contender("aim", swings))
    assert got.visible is not None
    said = verdict_sentence(got, 0.95)
    assert f"a true difference of {100 * got.visible:.1f} points there would be told apart" in said
    (same,) = compared(contender(), contender("aim"))
    assert verdict_sentence(same, 0.95) == (
        "aim cannot be told apart from frozen on these clips at 1 shot: their accuracies are the "
        "same in every episode."
    )
    few = compared(contender(), contender("aim", UNDER | {0: 1.0, 1: 1.0}, shot=1))[0]
    assert "they differ in 2 of 12 episodes, too few for any verdict" in verdict_sentence(few, 0.95)


def test_rows_that_hardly_differ_have_a_dash_and_a_reason() -> None:
    (got,) = compared(contender(), contender("aim", UNDER | {0: 0.25}))
    shown = render_comparisons([got])
    assert shown.splitlines()[4].split()[-6:] == [*("+2.1", "-", "-", "1.0000", "1.0000", "1/11/0")]
    assert "differ in fewer than 12 episodes, and not in all" in " ".join(shown.split())
    (same,) = compared(contender(), contender("aim"))
    assert re.search(r"  same in all 12 episodes +-  +-  1.0000", render_comparisons([same]))
    (even,) = compared(contender(), contender("aim", OVER))
    assert "  +25.0 in all 12 episodes  " in render_comparisons([even])


def test_one_episode_is_compared_clip_by_clip() -> None:
    a, b = contender("aim", {0: 1.0}), contender(accuracies={0: 0.25})
    (got,) = compared(b, a)
    expected = mcnemar(range(4), [1, 1, 1, 1], range(4), [1, 0, 0, 0])
    assert (got.unit, got.difference.n, got.test.p) == ("clip", 4, expected.p)
    assert (got.test.paired.wins, got.test.paired.ties, got.test.paired.losses) == (3, 1, 0)
    assert got.test.method == expected.method
    assert "not other support clips" in got.difference.covers
    shown = render_comparisons([got]).replace("\n", " ")
    assert "over clips: McNemar, exact binomial" in shown
    assert "sign-flip" not in shown
    assert "  clips  " in shown


def test_the_interval_says_whether_clips_are_shared() -> None:
    (got,) = compared(contender(), contender("aim", OVER))
    assert "episodes share clips" in got.difference.covers, "a/1 is in the support of all"
    apart = {
        i: EpisodeRecord(
            **{"index": i, "status": "ok", "classes": ["a"]},
            **{"support": [[f"s{i}"]], "query": [[f"q{i}"]], "labels": [0]},
            **{"predictions": [0], "probabilities": [[1.0]], "accuracy": 1.0},
        )
        for i in range(3)
    }
    values = dict(enumerate((0.5, 0.25, 0.75)))
    rows = [contender(name, values, answers=apart, apart=True) for name in ("frozen", "aim")]
    assert "No clip is in two episodes" in compared(*rows)[0].difference.covers
    rows = [contender(name, values, answers=apart) for name in ("frozen", "aim")]
    said = compared(*rows)[0].difference.covers
    assert "episodes share clips" in said, "by chance apart is not drawn apart"
    assert share_clips([text_of(apart[0]), text_of(apart[0])])


def test_other_clips_are_refused_whatever_is_asked() -> None:
    said = refusal(
        contender(), contender("aim", digest="0123456789abcdef", subset="val"), common=True
    )
    assert (
        "runs/aim-linear-1shot and runs/frozen-linear-1shot cannot be compared, for these differ"
        in said
    )
    assert "split.digest: 0123456789ab and d" in said
    assert "subset: val and novel" in said
    assert "evaluate both on the same one" in said


def test_keys_that_differ_are_named_and_can_be_allowed() -> None:
    video = {"frames": 16, "policy": "uniform"}
    rows = contender(), contender("aim", OVER, video=video, encoder="b16", precision="bf16")
    said = refusal(*rows)
    for line in (
        "video.frames: 16 and 8",
        "encoder.name: b16 and e",
        "encoder.digest: b16 and e",
        "precision: bf16 and fp32",
    ):
        assert line in said
    assert "add --across encoder and --across video.frames and --across precision" in said
    assert "tuning" not in said
    assert "encoder.digest" not in refusal(*rows, across=["encoder", "video"])
    (got,) = compared(*rows, across=["encoder", "video.frames", "precision"])
    assert "video.frames: 16 and 8" in got.shared_episodes.across
    assert "Compared although it differs: " in render_comparisons([got])


def test_a_name_of_the_same_weights_is_no_difference() -> None:
    other = contender("aim", OVER)
    other.summary.config["encoder"]["name"] = "another name"
    assert compared(contender(), other)[0].verdict == "beats"


def test_other_episodes_are_refused_with_the_cause() -> None:
    drawn = {i: answer(i, x, clips=f"w{i}") for i, x in OVER.items()}
    said = refusal(contender(), contender("aim", answers=drawn, seed=7))
    assert "seed: 7 and 0" in said
    assert "episodes: 12 of 12 differ; the first in query (number 0, 1, 2, ...)" in said
    assert "same split, subset, seed, way, shot and query" in said
    assert "seed: 7 and 0" in refusal(contender(), contender("aim", OVER, seed=7)), "of training"
    assert compared(contender(), contender("aim", OVER, seed=7), across=["seed"])
    trials = contender("aim", OVER, sampling="disjoint", way=5)
    assert compared(contender(), trials), "what the records say was asked is what counts"


def test_what_only_one_of_them_has_is_left_out_on_demand() -> None:
    more = {**OVER, 12: 0.5, 13: 0.5}
    rows = contender(accuracies=UNDER | {3: None}), contender("aim", more)
    said = refusal(*rows)
    assert "episodes: 2 in the first only (number 12, 13)" in said
    assert "episodes: 1 failed in one of the two (number 3)" in said
    assert "add --common (they have 11 episodes in common)" in said
    (got,) = compared(*rows, common=True)
    assert got.shared_episodes.indices == [i for i in range(12) if i != 3]
    assert (got.difference.n, got.shared_episodes.n_excluded) == (11, 3)
    assert "Up to 3 episodes of a comparison were left out" in render_comparisons([got])


def test_nothing_in_common_is_refused() -> None:
    rows = contender(), contender("aim", {20: 0.5})
    assert "12 in the second only" in refusal(*rows, common=True)
    assert "none succeeded in both" in refusal(contender(accuracies={}), contender("aim", {}))
    both = contender(accuracies=UNDER | {0: None}), contender("aim", OVER | {0: None})
    assert compared(*both)[0].shared_episodes.n_excluded == 1, (
        "an episode that failed in both is no difference"
    )


def test_the_text_says_what_is_what() -> None:
    rows = [
        contender(),
        contender("aim", OVER),
        contender("lora", OVER, head="text", row={"uses_names": True, "seen": True}),
    ]
    shown = render_comparisons(compared(*rows, level=0.9), level=0.9)
    lines = shown.splitlines()
    assert lines[0] == SETTING
    assert "90 % interval" in lines[2]
    assert lines[4].split()[:7] == ["aim", "with", "linear", "frozen", "with", "linear", "1"]
    assert "12/0/0" in lines[4]
    joined = " ".join(lines)
    for said in (
        "aim with linear beats frozen with linear on these clips at 1 shot, by 25.0 points",
        "interval: 90 %, paired Student t.",
        "does not cover new clips",
        "sign-flip test: the rows swapped at random in each, all ways counted",
        "Holm p: p adjusted for the 2 comparisons shown",
        "wrong on these clips in at most 10 % of such tables",
        "rows with the head text were given the names of the classes",
        "lora (seen) with text",
    ):
        assert said in joined
    assert max(map(len, lines[7:])) <= 100
    one = render_comparisons(compared(*rows[:2]))
    assert one.startswith(f"{SETTING}, head linear\n")
    assert "Holm p: equal to p" in one


def test_a_key_that_an_identity_has_no_word_of_is_at_its_default() -> None:
    """Records of other versions may lack a key; at its default it is no difference."""
    (got,) = compared(contender(), contender("aim", OVER, precision="fp32", frame_order="natural"))
    assert got.shared_episodes.across == ()
    assert got.verdict == "beats"


def titled(monkeypatch: pytest.MonkeyPatch, titles: Mapping[RecordedRow, str]) -> None:
    """Give rows these settings."""
    by_config = {id(row.summary.config): title for row, title in titles.items()}
    monkeypatch.setattr(text, "setting_text", lambda config, _way: by_config[id(config)])


def test_settings_have_tables_of_their_own_but_one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [contender(), contender("aim", OVER)]
    other = [contender(folder="x/f", digest="z"), contender("aim", OVER, folder="x/a", digest="z")]
    titled(monkeypatch, dict.fromkeys(rows, SETTING) | dict.fromkeys(other, "another setting"))
    pairs, _ = pairs_with_frozen([*rows, *other])
    found = compare_rows(pairs, names_by_row([*rows, *other]))
    assert [c.decision.p for c in found] == pytest.approx([4 / 2**12] * 2)
    shown = render_comparisons(found)
    assert shown.index(f"{SETTING}, head") < shown.index("another setting, head")


SETTING = "split motions (novel), 2-way, 2 query clips per class, seed 0, encoder e, 8 frames"
TITLE = "split motions (novel), 5-way, 2 query clips per class, seed 0, encoder b16, 16 frames"


@pytest.mark.parametrize(
    ("place", "other", "said"),
    [
        (0, "split others (novel)", "split motions and others (novel)"),
        (0, "split motions (val)", "split motions (novel) and (val)"),
        (0, "split others (val)", "split motions (novel) and others (val)"),
        (1, "5-10-way", "5-way and 5-10-way"),
        (2, "4 query clips per class", "2 and 4 query clips per class"),
        (3, "seed 7", "seed 0 and 7"),
        (4, "encoder b32", "encoder b16 and b32"),
        (4, "encoder b16 b16", "encoder b16 and encoder b16 b16"),
        (5, "16 frames", "16 frames"),
        (5, "8 frames", "16 and 8 frames"),
    ],
)
def test_the_title_has_what_differs_of_both_rows(
    place: int, other: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever part of a title differs: that of the row first, as in the columns."""
    rows = [contender(), contender("aim", OVER)]
    parts = zip(rows, (other, None), strict=True)
    titled(monkeypatch, {c: with_part(place, part) for c, part in parts})
    title = render_comparisons(compared(*rows)).splitlines()[0]
    assert title == f"{with_part(place, said)}, head linear"


def with_part(place: int, part: str | None) -> str:
    """The title with another part in a place."""
    parts = TITLE.split(", ")
    return ", ".join([*parts[:place], part or parts[place], *parts[place + 1 :]])


def test_titles_of_other_lengths_are_both_said(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [contender(), contender("aim", OVER)]
    titled(monkeypatch, dict(zip(rows, ("a, b", "a, b, frames shuffled"), strict=True)))
    title = render_comparisons(compared(*rows)).splitlines()[0]
    assert title == "a, b, frames shuffled; against a, b, head linear"


def test_pairs_of_one_setting_and_of_two_have_tables_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [contender(), contender("aim", OVER), contender("lora", OVER)]
    titled(monkeypatch, dict(zip(rows, ("8 frames", "8 frames", "16 frames"), strict=True)))
    shown = render_comparisons(compared(*rows)).splitlines()
    titles = [line for line in shown if line.endswith("frames, head linear")]
    assert titles == ["8 frames, head linear", "16 and 8 frames, head linear"]


def test_small_probabilities_are_bounds() -> None:
    assert [format_p(p) for p in (1.0, 0.05, 0.0001, 1e-12)] == [
        "1.0000",
        "0.0500",
        "0.0001",
        "<0.0001",
    ]


def test_plain_data_is_json() -> None:
    (got,) = compared(contender(), contender("aim", OVER))
    data = json.loads(json.dumps(got.to_dict()))
    assert (data["name"], data["episodes"], data["shot"]) == ("aim", 12, 1)
    assert data["difference"]["mean"] == pytest.approx(0.25)
    assert (data["difference"]["n"], data["difference"]["level"]) == (12, 0.95)


def test_no_pairs_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one pair"):
        compare_rows([], {})


def test_a_single_episode_of_several_training_seeds_is_compared_by_shares() -> None:
    seeds = [
        contender("aim", {0: accuracy}, row={"training_seed": seed})
        for seed, accuracy in enumerate((0.25, 0.0, 0.25))
    ]
    (aim,) = merge_recorded_seeds(seeds)
    (got,) = compared(contender(accuracies={0: 0.0}), aim)
    assert (got.unit, got.test.method) == ("clip", "sign-flip, all 2^1 sign patterns")
    assert got.test.means[0] == pytest.approx(1 / 6)


def test_where_no_verdict_is_possible_that_is_said() -> None:
    """Eight episodes cannot pass the correction for many comparisons, however large they differ."""
    rows = [contender("frozen", dict.fromkeys(range(8), 0.25))]
    over = {i: 0.75 + 0.125 * (i % 3 == 0) for i in range(8)}
    rows += [contender(f"aim:scale={i}.0", over) for i in range(1, 13)]
    found = compare_rows([(row, rows[0]) for row in rows[1:]], names_by_row(rows))
    assert {c.verdict for c in found} == {"cannot be told apart from"}
    said = verdict_sentence(found[0], 0.95)
    assert "12 comparisons left to decide, 8 episodes that differ allow no verdict" in said
    assert said.endswith("it takes at least 9.")
    assert "would be told apart in 80 %" not in said
    few = compare_rows([(rows[1], rows[0])], names_by_row(rows))
    assert few[0].verdict == "beats"


def test_all_baselines_are_not_called_different() -> None:
    rows = [contender(folder="a"), contender(folder="b"), contender(folder="c")]
    with pytest.raises(UsageError, match="all of a, b, c are what others would be compared with"):
        pairs_with_frozen(rows)
