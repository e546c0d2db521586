"""Shards of a run: what each runs, and that their files are one run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_i2v.errors import RecordError, UsageError
from fewshot_i2v.runs.row_summary import RowSummary, header_facts
from fewshot_i2v.runs.run_folder import RunFolder, read_run
from fewshot_i2v.runs.shards import Shard
from tests.runs.record_samples import HEADER, IDENTITY, failed, record


def opened(folder: Path, shard: str | None, **identity: object) -> RunFolder:
    return RunFolder.open(
        folder,
        {**HEADER, "planned": 8},
        identity={**IDENTITY, **identity},
        shard=None if shard is None else Shard.parse(shard),
    )


def test_every_batch_is_run_by_one_shard() -> None:
    for count in (1, 2, 3, 5):
        shards = [Shard(k, count) for k in range(1, count + 1)]
        for row in range(4):
            for n_batches in (1, 4, 17):
                for batch in range(n_batches):
                    owners = [s.has_batch(batch, n_batches=n_batches, row=row) for s in shards]
                    assert sum(owners) == 1
    # rows of one batch are divided as well, and rows of many have the same episodes first
    assert [Shard(1, 3).has_batch(0, n_batches=1, row=row) for row in range(3)] == [1, 0, 0]
    assert [Shard(1, 3).has_batch(0, n_batches=9, row=row) for row in range(3)] == [1, 1, 1]


def test_an_array_of_jobs_says_which_shard_it_is() -> None:
    environment = {
        "SLURM_ARRAY_TASK_ID": "6",
        "SLURM_ARRAY_TASK_MIN": "5",
        "SLURM_ARRAY_TASK_COUNT": "8",
    }
    assert Shard.parse("auto", environment) == Shard(2, 8)
    with pytest.raises(UsageError, match="SLURM_ARRAY_TASK_ID=-"):
        Shard.parse("auto", {})


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "-1/4", "a/b", "1/4/2", "01/4", ""])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="shard: got"):
        Shard.parse(text)


def test_the_records_of_all_shards_are_one_run(tmp_path: Path) -> None:
    for shard, indices in (("2/3", [3, 1]), (None, [5]), ("1/3", [0, 3]), ("1/2", [2])):
        with opened(tmp_path, shard) as run:
            run.append([record(i) for i in indices])
    run_data = read_run(tmp_path)
    assert list(run_data.records) == [0, 1, 2, 3, 5]
    assert run_data.records == {i: record(i) for i in (0, 1, 2, 3, 5)}
    assert [r.index for r in run_data.records.read([5, 0, 2, 1])] == [5, 0, 2, 1]


def test_equal_records_of_two_shards_count_once(tmp_path: Path) -> None:
    first, second = opened(tmp_path, "1/2"), opened(tmp_path, "2/2")
    with first, second:  # both began before the other had a record
        first.append([replace(record(0), seconds=1.0)])
        second.append([replace(record(0), seconds=2.0)])
    records = read_run(tmp_path).records
    assert list(records) == [0]
    assert records.repeated == 1


def test_different_records_of_two_shards_name_both_hosts(tmp_path: Path) -> None:
    first, second = opened(tmp_path, "1/2"), opened(tmp_path, "2/2")
    with first, second:
        for run in (first, second):
            run.record_clips({})
        first.append([record(0)])
        second.append([replace(record(0), losses=[0.25])])
    path = tmp_path / "shard-2-of-2.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"host": "other"}))
    with pytest.raises(RecordError, match=r"1-of-2.jsonl \(host .*2-of-2.jsonl \(host other\)"):
        read_run(tmp_path)


def test_success_of_one_shard_replaces_the_failure_of_another(tmp_path: Path) -> None:
    for name, order in (("a", (failed(0), record(0))), ("b", (record(0), failed(0)))):
        runs = [opened(tmp_path / name, shard) for shard in ("1/2", "2/2")]
        for run, result in zip(runs, order, strict=True):
            with run:
                run.append([result])
        records = read_run(tmp_path / name).records
        assert records == {0: record(0)}
        assert not records.failed


def test_shards_of_two_runs_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path, "1/2"), pytest.raises(RecordError, match="another run"):
        opened(tmp_path, "2/2", versions={"torch": "other"})


def test_one_shard_is_run_by_one_process(tmp_path: Path) -> None:
    with (
        opened(tmp_path, "1/2"),
        opened(tmp_path, "2/2"),
        pytest.raises(RecordError, match="in use"),
    ):
        opened(tmp_path, "1/2")


def test_clips_that_differ_between_shards_are_named(tmp_path: Path) -> None:
    with opened(tmp_path, "1/2") as run:
        run.record_clips({"a.mp4": "1", "b.mp4": "1"})
    for shard in ("2/2", None):
        with (
            opened(tmp_path, shard) as run,
            pytest.raises(RecordError, match=r"shard-1-of-2.json: these clips.*b\.mp4"),
        ):
            run.record_clips({"a.mp4": "1", "b.mp4": "2"})


def test_a_run_says_how_many_episodes_are_missing(tmp_path: Path) -> None:
    with opened(tmp_path, "1/2") as run:
        run.record_clips({})
        run.append([record(0), failed(1)])
    data = read_run(tmp_path)
    row = RowSummary.from_records(
        data.records, data.records, display_flags={}, **header_facts(data.header, tmp_path)
    )
    assert (row.planned, row.missing, row.complete) == (8, 6, False)


@pytest.mark.parametrize("content", ["{", "[]", '{"host": 1}', '{"host": "a", "clips": {}}'])
def test_a_damaged_file_of_a_shard_is_named(tmp_path: Path, content: str) -> None:
    with opened(tmp_path, "1/2") as run:
        run.append([record(0)])
    (tmp_path / "shard-1-of-2.json").write_text(content)
    with pytest.raises(RecordError, match=r"shard-1-of-2.json: damaged.*Delete it"):
        read_run(tmp_path)
    (tmp_path / "shard-1-of-2.json").unlink()
    assert list(read_run(tmp_path).records) == [0]


def test_other_files_are_no_shards(tmp_path: Path) -> None:
    with opened(tmp_path, "1/2") as run:
        run.append([record(0)])
    for name in ("episodes-2-of-1.jsonl", "episodes-x.jsonl", "episodes-1-of-2.jsonl.torn-1"):
        (tmp_path / name).write_text("no record\n")
    assert list(read_run(tmp_path).records) == [0]
