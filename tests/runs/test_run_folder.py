"""The run folder in the ordinary course: what is written, compared and refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.errors import FewshotError, RecordError
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.runs.episode_record import TIMING_KEYS, EpisodeRecord
from fewshot_i2v.runs.header import differences
from fewshot_i2v.runs.run_folder import RunFolder, read_run
from tests.runs.record_samples import HEADER, IDENTITY, failed, filled, opened, record


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    with opened(folder) as run:
        run.append([record(0), failed(1)])
        run.append([record(2)])
        assert list(run.records) == [0, 1, 2]
    data = read_run(folder)
    assert data.records == {0: record(0), 1: failed(1), 2: record(2)}
    with opened(folder) as again:
        assert again.records == data.records
        again.append([record(3)])
    assert list(read_run(str(folder)).records) == [0, 1, 2, 3]


def test_the_header_keeps_schema_identity_and_facts(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    opened(folder).close()
    written = json.loads((folder / "run.json").read_text())
    assert written["schema"] == 1
    assert written["name"] == "sample"
    assert written["identity"] == {**IDENTITY, "shots": [1, 5]}
    before = (folder / "run.json").read_bytes()
    with RunFolder.open(folder, {"name": "other"}, identity=IDENTITY) as run:
        assert run.header["name"] == "sample"
    assert (folder / "run.json").read_bytes() == before


def test_lines_are_the_same_bytes_up_to_the_timings(tmp_path: Path) -> None:
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        with opened(tmp_path / name) as run:
            run.append([record(i, seconds=seconds) for i in range(3)])
    lines = [(tmp_path / name / "episodes.jsonl").read_bytes() for name in "ab"]
    assert lines[0] != lines[1]
    assert lines[0] == lines[1].replace(b'"seconds":2.0', b'"seconds":1.0')
    keys = list(json.loads(lines[0].splitlines()[0]))
    assert keys[-3:] == ["crc32", *TIMING_KEYS]


def test_each_line_is_one_ascii_json_object(tmp_path: Path) -> None:
    journal = filled(tmp_path, 3)
    text = journal.read_bytes().decode("ascii")
    assert text.count("\n") == 3
    assert [json.loads(line)["index"] for line in text.splitlines()] == [0, 1, 2]


def test_numbers_are_rounded_by_the_record_itself() -> None:
    made = record(
        0, probabilities=[[0.123456789, 0.8765432111]] * 4, losses=[1234567.0, 0.000123456789]
    )
    assert made.probabilities[0] == [0.123457, 0.876543]
    assert made.losses == [1234570.0, 0.000123457]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": [1.0, float("nan")]}, "losses holds nan"),
        ({"probabilities": [[float("inf"), 0.0]] * 4}, "probabilities holds inf"),
        ({"seconds": float("nan")}, "seconds holds nan"),
        ({"accuracy": float("nan")}, "accuracy holds nan"),
        ({"index": -1}, "index -1"),
        ({"status": "done"}, "status 'done'"),
        ({"accuracy": None}, "accuracy None"),
        ({"accuracy": 0.1}, "accuracy 0.1; expected"),
        ({"error": {"path": "x", "reason": "y"}}, "expected no error"),
        ({"labels": [0, 1]}, "2 labels, 4 predictions"),
        ({"labels": [], "predictions": [], "probabilities": []}, "at least one"),
        ({"probabilities": [[1.0]] * 4}, "2 numbers, one per class"),
        ({"status": "failed", "accuracy": None}, "an error with path and reason"),
        ({"status": "failed", "accuracy": None, "error": {"path": "x"}}, "path and reason"),
        ({"status": "failed", "error": {"path": "x", "reason": "y"}}, "no accuracy"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message) as caught:
        record(3, **changes)
    assert str(caught.value).startswith("episode ")


def test_each_differing_key_of_the_identity_is_named_with_both_values(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    files = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    other = {"tuning": {"lr": 0.003, "flip": "off", "clip": None}, "shots": [1], "seed": 0}
    with pytest.raises(RecordError) as caught:
        RunFolder.open(tmp_path, HEADER, identity=other)
    message = str(caught.value)
    assert str(tmp_path / "run.json") in message
    for line in (
        "tuning.lr: 0.001 in the folder, 0.003 requested",
        "tuning.clip: absent in the folder, null requested",
        "way: 2 in the folder, absent requested",
        "shots: [1, 5] in the folder, [1] requested",
        "seed: absent in the folder, 0 requested",
        "--output",
    ):
        assert line in message
    assert "flip" not in message
    assert caught.value.exit_code == 2
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == files


@pytest.mark.parametrize(
    ("stored", "requested", "shown"),
    [
        ({"tuning": {"untuned_weight": 0.5}}, {"tuning": {}}, "0.5 in the folder, 0.0 requested"),
        ({"tuning": {}}, {"tuning": {"min_loss": 0.3}}, "0.0 in the folder, 0.3 requested"),
        ({"tuning": {}}, {"tuning": {"recipe": "auto"}}, '"none" in the folder, "auto" requested'),
        ({"tuning": {"views": 2}}, {"tuning": {}}, "2 in the folder, 1 requested"),
        ({"compile": True}, {}, "true in the folder, false requested"),
        ({"frame_order": "reversed"}, {}, '"reversed" in the folder, "natural" requested'),
        ({}, {"start": "mine"}, '"fresh" in the folder, "mine" requested'),
        ({"inner": {}}, {"inner": {"views": 2}}, "1 in the folder, 2 requested"),
        ({}, {"lr_by_width": {"64": 0.1}}, '{} in the folder, {"64": 0.1} requested'),
        (
            {"seed": 7},
            {"seed": 7, "training_seed": 3},
            "not set (seed 7 is used) in the folder, 3 requested",
        ),
        (
            {"seed": 0, "training_seed": 0},  # the same values, but another row
            {"seed": 0},
            "0 in the folder, not set (seed 0 is used) requested",
        ),
    ],
)
def test_a_key_that_has_its_default_is_shown_with_it(
    stored: dict[str, Any], requested: dict[str, Any], shown: str
) -> None:
    (line,) = differences({"config": stored}, {"config": requested})
    assert line.partition(": ")[2] == shown


def test_off_is_shown_as_the_word_that_sets_it() -> None:
    """Files hold null for it; other keys have null in files of a user, too."""
    stored = {"clip_norm": None, "tuning": {"clip_norm": None, "batch": None}}
    requested = {"clip_norm": 1.0, "tuning": {"clip_norm": 0.5, "batch": 4}}
    stored |= {"validation": {"subset": "val"}}
    requested |= {"validation": {"subset": None}}
    lines = differences({"config": stored}, {"config": requested})
    assert [line.removeprefix("config.") for line in lines] == [
        'clip_norm: "off" in the folder, 1.0 requested',
        'tuning.clip_norm: "off" in the folder, 0.5 requested',
        "tuning.batch: null in the folder, 4 requested",
        'validation.subset: "val" in the folder, "off" requested',
    ]


def test_every_key_that_an_identity_can_leave_out_has_a_value() -> None:
    """A row with all keys set, and one that leaves out all that it can."""
    given = {
        **{"compile": True, "frame_order": "reversed", "start": "demo-motions"},
        **{"sampling": "disjoint", "uneven_shots": True, "shot": "1-2", "draws": "a5"},
        "tuning": {
            **{"batch": 2, "recipe": "auto", "optimizer": "start-rates", "flip": "on", "views": 2},
            **{"label_smoothing": 0.1, "untuned_weight": 0.5, "min_loss": 0.1},
        },
    }
    plain = {"split": "motions", "adapter": "aim"}
    full, least = (
        expand_rows(load_config(plain | changes))[0].identity()
        for changes in (given, {"tuning": {"recipe": "none"}})
    )
    lines = [line for line in differences({"config": full}, {"config": least}) if "absent" in line]
    assert lines == []


@pytest.mark.parametrize(("asked", "same"), [(2.0, True), (2, True), (True, False), ("2", False)])
def test_values_are_compared_as_json_has_them(tmp_path: Path, asked: object, same: bool) -> None:
    filled(tmp_path, 1)
    if same:
        with opened(tmp_path, way=asked) as run:
            assert list(run.records) == [0]
    else:
        with pytest.raises(RecordError, match="way: 2 in the folder"):
            opened(tmp_path, way=asked)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[1]", "no JSON object"),
        (b"{}", "schema version None"),
        (b'{"schema": 2, "identity": {}}', "schema version 2; this version of fewshot-i2v reads 1"),
        (b'{"schema": 1}', "no identity"),
        (b"[" * 100_000, "damaged"),
    ],
)
def test_a_header_that_cannot_be_used_is_an_error(
    tmp_path: Path, content: bytes, message: str
) -> None:
    journal = filled(tmp_path, 1)
    before = journal.read_bytes()
    (tmp_path / "run.json").write_bytes(content)
    for attempt in (opened, read_run):
        with pytest.raises(RecordError, match=message) as caught:
            attempt(tmp_path)
        assert str(tmp_path / "run.json") in str(caught.value)
    assert journal.read_bytes() == before
    assert (tmp_path / "run.json").read_bytes() == content


def test_records_without_a_header_are_an_error(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    (tmp_path / "run.json").unlink()
    with pytest.raises(RecordError, match=r"run\.json: absent"):
        opened(tmp_path)
    with pytest.raises(RecordError, match="not a run folder"):
        read_run(tmp_path)


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(RecordError, match="expected a folder"):
        opened(tmp_path / "a")


def test_a_header_that_json_cannot_carry_is_an_error(tmp_path: Path) -> None:
    for value in (float("nan"), {1, 2}, object()):
        with pytest.raises(RecordError, match=r"run\.json: not written"):
            opened(tmp_path, lr=value)
    assert not list(tmp_path.iterdir())


def test_a_failed_record_gives_way_and_one_that_is_ok_does_not(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.append([failed(0), failed(0, "still"), record(0)])
        run.append([record(0, seconds=9.0)])
        assert run.records == {0: record(0)}
        before = (tmp_path / "episodes.jsonl").read_bytes()
        for other in (failed(0), record(0, losses=[9.0])):
            with pytest.raises(RecordError, match="different result of episode 0"):
                run.append([record(1), other])
        assert (tmp_path / "episodes.jsonl").read_bytes() == before
        assert run.records == {0: record(0)}
    assert read_run(tmp_path).records == {0: record(0)}


def test_two_results_of_one_episode_in_the_file(tmp_path: Path) -> None:
    journal = filled(tmp_path / "a", 2)
    with opened(tmp_path / "b") as run:
        run.append([record(0, seconds=7.0)])
    with opened(tmp_path / "c") as run:
        run.append([record(0, losses=[7.0])])
    mine = journal.read_bytes()
    journal.write_bytes(mine + (tmp_path / "b" / "episodes.jsonl").read_bytes())
    assert read_run(tmp_path / "a").records == {0: record(0), 1: record(1)}
    journal.write_bytes(mine + (tmp_path / "c" / "episodes.jsonl").read_bytes())
    with pytest.raises(RecordError, match=r"episodes\.jsonl:3: a second, different result"):
        read_run(tmp_path / "a")


def test_lines_of_another_run_are_refused(tmp_path: Path) -> None:
    journal = filled(tmp_path / "a", 1)
    with opened(tmp_path / "b", way=3) as run:
        run.append([record(1)])
    journal.write_bytes(journal.read_bytes() + (tmp_path / "b" / "episodes.jsonl").read_bytes())
    with pytest.raises(RecordError, match=r"episodes\.jsonl:2: .*another run"):
        opened(tmp_path / "a")


def test_the_summary_is_replaced_whole(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.write_summary({"mean": 0.5})
        run.write_summary({"mean": 0.75})
        with pytest.raises(RecordError, match=r"summary\.json: not written"):
            run.write_summary({"mean": float("nan")})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"mean": 0.75}
    assert {p.name for p in tmp_path.iterdir()} == {"run.json", "episodes.jsonl", "summary.json"}


def test_reading_changes_nothing_and_leaves_out_an_unfinished_line(tmp_path: Path) -> None:
    journal = filled(tmp_path, 2)
    journal.write_bytes(journal.read_bytes()[:-5])
    files = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert list(read_run(tmp_path).records) == [0]
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == files


def test_odd_names_survive(tmp_path: Path) -> None:
    names = ["\udcff broken", "\u2028\u202e", "\x00", 'quote",\n"crc32":"00000000', "🎬" * 500]
    clips = [["a"]] * len(names)
    odd = record(0, classes=names, support=clips, probabilities=[[0.2] * 5] * 4)
    with opened(tmp_path) as run:
        run.append([odd])
    assert read_run(tmp_path).records == {0: odd}


def test_records_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        record(0).accuracy = 1.0  # type: ignore[misc]


def test_appending_after_closing_is_an_error(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.close()
    run.close()
    with pytest.raises(FewshotError, match=r"episodes\.jsonl"):
        run.append([record(0)])


def test_no_heavy_imports() -> None:
    code = (
        "import sys, fewshot_i2v.runs.run_folder, fewshot_i2v.statistics; "
        "import fewshot_i2v.report.tables.accuracy_table; "
        "print(sorted({'torch', 'numpy', 'scipy', 'pydantic'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_record_as_plain_values() -> None:
    assert EpisodeRecord(**record(4).to_dict()) == record(4)
