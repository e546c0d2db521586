"""What a comparison reads of the records, against the whole records."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_i2v.errors import FewshotError, RecordError
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.fast_reader import EpisodeAnswer, average_seeds, read_answers
from fewshot_i2v.runs.run_folder import read_run
from tests.report.comparison.contenders import OVER, UNDER, answer
from tests.runs.record_samples import failed, filled, opened, record


def test_training_seeds_are_one_row() -> None:
    seeds = [{i: answer(i, x) for i, x in values.items()} for values in (OVER, UNDER)]
    merged = average_seeds([*seeds, {i: a for i, a in seeds[0].items() if i != 5}])
    assert sorted(merged) == [i for i in range(12) if i != 5]
    assert merged[0].accuracy == pytest.approx((0.25 + 0 + 0.25) / 3)
    assert merged[0].query_results()[1] == pytest.approx([2 / 3, 0, 0, 0])
    lost = average_seeds([seeds[0], {0: answer(0, None)}])
    assert lost[0].accuracy is None
    with pytest.raises(RecordError, match="episode 0 is not the same"):
        average_seeds([seeds[0], {0: answer(0, 0.5, clips="w")}])


def test_answers_are_what_the_records_say(tmp_path: Path) -> None:
    odd = 'x","labels":[0],"accuracy":0.5,"losses":[\\"'
    records = [record(i) for i in range(4)]
    records += [failed(4, reason=odd), record(5, classes=[odd, "b"])]
    with opened(tmp_path) as run:
        run.append(records)
    header, answers = read_answers(tmp_path)
    assert header == read_run(tmp_path).header
    assert list(answers) == [r.index for r in records]
    for r in records:
        got = answers[r.index]
        assert got.accuracy == r.accuracy
        assert got.parse_episode() == {
            key: getattr(r, key) for key in ("classes", "support", "query")
        }
    assert_clips(answers[2], records[2])
    known: dict[bytes, bytes] = {}
    twice = [read_answers(tmp_path, known)[1] for _ in range(2)]
    assert twice[0][0].episode_text is twice[1][0].episode_text, "equal episodes are kept once"


def assert_clips(got: EpisodeAnswer, expected: EpisodeRecord) -> None:
    names, right = got.query_results()
    assert names == [name for row in expected.query for name in row]
    pairs = zip(expected.labels, expected.predictions, strict=True)
    assert right == [float(a == b) for a, b in pairs]


def test_a_failed_episode_gives_way_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.append([failed(0), record(1)])
        run.append([record(0)])
    with (tmp_path / "episodes.jsonl").open("ab") as file:
        file.write(b'{"index":2,"sta')
    _, answers = read_answers(tmp_path)
    assert {i: a.accuracy for i, a in answers.items()} == {i: record(i).accuracy for i in (0, 1)}


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="not a run folder"):
        read_answers(tmp_path)
    path = filled(tmp_path / "a", 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"jump", b"lump") + lines[2])
    with pytest.raises(RecordError, match=r"episodes\.jsonl:2: damaged: changed since"):
        read_answers(tmp_path / "a")
    path.write_bytes(lines[0] + b"\n")
    with pytest.raises(RecordError, match=r"episodes\.jsonl:2: damaged: no complete record"):
        read_answers(tmp_path / "a")


def test_a_second_result_of_an_episode_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path / "a", 2)
    with opened(tmp_path / "b") as run:
        run.append([record(1, accuracy=1.0, predictions=[0, 0, 1, 1])])
    path.write_bytes(path.read_bytes() + (tmp_path / "b" / "episodes.jsonl").read_bytes())
    with pytest.raises(FewshotError, match=r":3: a second, different result of episode 1"):
        read_answers(tmp_path / "a")
    again = filled(tmp_path / "c", 2)
    again.write_bytes(2 * again.read_bytes())
    assert len(read_answers(tmp_path / "c")[1]) == 2
