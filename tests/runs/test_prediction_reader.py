"""What a comparison reads of the records, against the whole records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewshot_i2v.errors import FewshotError, RecordError
from fewshot_i2v.runs.prediction_reader import (
    PredictionReader,
    check_seed_episodes,
    merge_recorded_seeds,
    parse_episode,
)
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.statistics import PredictionTable
from tests.report.comparison.contenders import OVER, UNDER, answer, contender
from tests.runs.record_samples import failed, filled, opened, record


def test_training_seeds_are_one_row() -> None:
    seeds = [
        contender("aim", values, row={"training_seed": seed})
        for seed, values in enumerate((OVER, UNDER, {i: x for i, x in OVER.items() if i != 5}))
    ]
    (merged,) = merge_recorded_seeds(seeds)
    assert sorted(merged.episodes) == [i for i in range(12) if i != 5]
    assert merged.summary.accuracies[0] == pytest.approx((0.25 + 0 + 0.25) / 3)
    shares = np.mean([table.correct for table in merged.select([0])], axis=0)
    assert shares.tolist() == pytest.approx([2 / 3, 0, 0, 0])
    lost = contender("aim", {0: None}, row={"training_seed": 3})
    (merged,) = merge_recorded_seeds([seeds[0], lost])
    assert (list(merged.episodes), dict(merged.summary.accuracies)) == ([0], {})
    moved = contender("aim", answers={0: answer(0, 0.5, "w")}, row={"training_seed": 3})
    check_seed_episodes(seeds)
    with pytest.raises(RecordError, match="episode 0 is not the same"):
        check_seed_episodes([seeds[0], moved])


def test_predictions_are_what_the_records_say(tmp_path: Path) -> None:
    odd = 'x","labels":[0],"accuracy":0.5,"losses":[\\"'
    records = [record(i) for i in range(4)]
    records += [failed(4, reason=odd), record(5, classes=[odd, "b"])]
    with opened(tmp_path) as run:
        run.append(records)
    reader = PredictionReader()
    row = reader.read(tmp_path)
    assert row.summary.header == read_run(tmp_path).header
    assert row.summary.accuracies == {r.index: r.accuracy for r in records if r.index != 4}
    assert row.summary.failed == 1
    for r in records:
        assert parse_episode(row.episodes[r.index]) == {
            key: getattr(r, key) for key in ("classes", "support", "query")
        }
    expected = PredictionTable.from_records(records)
    for table in row.predictions:
        assert table.has_same_episodes(expected)
        assert table.predicted.tolist() == expected.predicted.tolist()
    again = reader.read(tmp_path)
    assert again.episodes[0] is row.episodes[0], "equal episodes are kept once"
    assert again.predictions[0].query is row.predictions[0].query


def test_rows_of_the_same_episodes_keep_their_own_predictions(tmp_path: Path) -> None:
    other = {"predictions": [1, 1, 0, 0], "accuracy": 0.0}
    records = {"a": [record(i) for i in range(3)], "b": [record(i, **other) for i in range(3)]}
    reader = PredictionReader()
    for name, of in records.items():
        with opened(tmp_path / name) as run:
            run.append(of)
        (table,) = reader.read(tmp_path / name).predictions
        expected = PredictionTable.from_records(of)
        assert table.predicted.tolist() == expected.predicted.tolist()


def test_a_failed_episode_gives_way_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.append([failed(0), record(1)])
        run.append([record(0)])
    with (tmp_path / "episodes.jsonl").open("ab") as file:
        file.write(b'{"index":2,"sta')
    row = PredictionReader().read(tmp_path)
    assert row.summary.accuracies == {i: record(i).accuracy for i in (0, 1)}


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="not a run folder"):
        PredictionReader().read(tmp_path)
    path = filled(tmp_path / "a", 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"jump", b"lump") + lines[2])
    with pytest.raises(RecordError, match=r"episodes\.jsonl:2: damaged: changed since"):
        PredictionReader().read(tmp_path / "a")
    path.write_bytes(lines[0] + b"\n")
    with pytest.raises(RecordError, match=r"episodes\.jsonl:2: damaged: no complete record"):
        PredictionReader().read(tmp_path / "a")


def test_a_second_result_of_an_episode_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path / "a", 2)
    with opened(tmp_path / "b") as run:
        run.append([record(1, accuracy=1.0, predictions=[0, 0, 1, 1])])
    path.write_bytes(path.read_bytes() + (tmp_path / "b" / "episodes.jsonl").read_bytes())
    with pytest.raises(FewshotError, match=r":3: a second, different result of episode 1"):
        PredictionReader().read(tmp_path / "a")
    again = filled(tmp_path / "c", 2)
    again.write_bytes(2 * again.read_bytes())
    assert len(PredictionReader().read(tmp_path / "c").episodes) == 2
