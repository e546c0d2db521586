"""The facts of a record that are read from its line without parsing it."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from fewshot_i2v.runs import journal
from fewshot_i2v.runs.episode_record import CHECKSUM_KEY, EpisodeRecord, from_line, to_line
from fewshot_i2v.runs.record_facts import RecordFacts, facts_of_line
from fewshot_i2v.runs.run_folder import RunFolder
from fewshot_i2v.runs.run_index import read_row
from tests.runs.record_samples import HEADER, IDENTITY, failed, record

CHECKSUM = 12345
SAMPLES: dict[str, EpisodeRecord] = {
    "as usual": record(7),
    "of long runs": record(10**14),
    "without losses": record(1, losses=[]),
    "with extreme losses": record(1, losses=[1e-9, 123456.0, 2.5e20, 0.0]),
    "with sure predictions": record(
        1, probabilities=[[1.0, 0.0], [1e-6, 0.5], [2.3e-5, 1], [0, 1]]
    ),
    "with odd names": record(
        1,
        classes=['a","b', "]"],
        support=[['["x"]'], ["\\"]],
        query=[["\u4e2d", '"'], [",", "[0]"]],
    ),
    "of more clips": record(
        1,
        support=[["a", "b"], ["c"]],
        query=[["d"], ["e", "f", "g"]],
        labels=[0, 1, 1, 1],
        predictions=[0, 1, 1, 0],
        accuracy=0.75,
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_facts_of_a_line_are_those_of_its_record(name: str, end: bytes) -> None:
    line = to_line(SAMPLES[name], CHECKSUM) + end
    assert facts_of_line(line, CHECKSUM) == RecordFacts.of(from_line(line, CHECKSUM))


def test_a_line_of_another_run_and_a_failed_episode_have_none() -> None:
    assert facts_of_line(to_line(record(1), CHECKSUM), CHECKSUM + 1) is None
    assert facts_of_line(to_line(failed(1), CHECKSUM), CHECKSUM) is None


def _with_checksum(line: bytes) -> bytes:
    payload, _, tail = line.rpartition(CHECKSUM_KEY)
    return payload + CHECKSUM_KEY + f"{zlib.crc32(payload, CHECKSUM):08x}".encode() + tail[8:]


def _changed(line: bytes, generator: random.Random) -> bytes:
    """A line with a change that keeps much of its form."""
    start = generator.randrange(len(line))
    end = min(len(line), start + generator.choice((0, 1, 1, 2, 6)))
    signs = bytes(generator.choices(b'0123456789.,-e+[]"\\ u', k=generator.choice((0, 1, 1, 2))))
    return line[:start] + signs + line[end:]


def test_a_changed_line_has_facts_only_if_all_checks_accept_it() -> None:
    """Every changed line that has facts is one that the full checks accept, with equal facts."""
    generator, accepted, refused = random.Random(0), 0, 0
    lines = [to_line(sample, CHECKSUM) for sample in SAMPLES.values()]
    for _ in range(12_000):
        line = _changed(generator.choice(lines), generator)
        if CHECKSUM_KEY not in line:
            continue
        line = _with_checksum(line)
        facts = facts_of_line(line, CHECKSUM)
        if facts is None:
            refused += 1
            continue
        accepted += 1
        assert facts == RecordFacts.of(from_line(line, CHECKSUM)), line
    assert accepted > 1000
    assert refused > 5000


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"labels":[0,0,1,1]', b'"labels":[0,0,1,2]'),
        (b'"labels":[0,0,1,1]', b'"labels":[0,0,1,01]'),
        (b'"labels":[0,0,1,1]', b'"labels":[0,0,1]'),
        (b'"accuracy":1.0', b'"accuracy":0.5'),
        (b'"classes":["a","b"]', b'"classes":["a"]'),
        (b'"support":[["c"],["d"]]', b'"support":[["c"]]'),
        (b'["e","f"]', b'["e","f","i"]'),
        (b"[0.5,0.5]", b"[0.5,1.5]"),
        (b"[0.5,0.5]", b"[0.5,5e-00]"),
        (b"[0.5,0.5]", b"[0.5,.5]"),
        (b"[0.5,0.5]", b"[0.5,-0.5]"),
        (b"[0.5,0.5]", b"[0.5]"),
        (b"[0.5,0.5]", b"[0.5,0.25,0.25]"),
        (b'"losses":[]', b'"losses":[NaN]'),
        (b'"losses":[]', b'"losses":[1e999]'),
        (b'"error":null', b'"error":null,"error":null'),
    ],
)
def test_a_line_that_contradicts_itself_has_none(old: bytes, new: bytes) -> None:
    line = to_line(
        record(
            1,
            classes=["a", "b"],
            support=[["c"], ["d"]],
            query=[["e", "f"], ["g", "h"]],
            predictions=[0, 0, 1, 1],
            accuracy=1.0,
            probabilities=[[0.5, 0.5], [0.75, 0.25], [0.25, 0.75], [0.25, 0.75]],
            losses=[],
        ),
        CHECKSUM,
    )
    assert facts_of_line(line, CHECKSUM) is not None
    assert old in line
    assert facts_of_line(_with_checksum(line.replace(old, new)), CHECKSUM) is None


def _never(*_args: Any) -> None:
    raise AssertionError("a line was parsed")


def _folder(path: Path, records: list[EpisodeRecord], *, disjoint: bool = False) -> Path:
    header = {**HEADER, "marks": {"disjoint": disjoint}}
    with RunFolder.open(path, header, identity=IDENTITY) as run:
        run.append(records)
    return path


def test_the_row_of_a_run_is_read_without_parsing_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [replace(sample, index=index) for index, sample in enumerate(SAMPLES.values())]
    folder = _folder(tmp_path, samples[::-1])
    with monkeypatch.context() as patch:
        patch.setattr(journal, "from_line", _never)
        row = read_row(folder)
    assert row.episodes == len(SAMPLES)
    monkeypatch.setattr(journal, "facts_of_line", lambda *_args: None)
    assert vars(read_row(folder)) == vars(row)


def test_a_row_with_failed_episodes_is_the_same_without_the_shortcut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way_3 = record(4)
    way_3 = replace(
        way_3,
        classes=["a", "b", "c"],
        support=[["a"], ["b"], ["c"]],
        probabilities=[[*row, 0.0] for row in way_3.probabilities],
    )
    folder = _folder(tmp_path, [record(0), failed(1), record(2, seconds=3.0), way_3])
    row = read_row(folder)
    assert (row.episodes, row.failed, row.ways, row.last_episode) == (3, 1, (2, 3), 4)
    assert row.chance == mean([1 / 2, 1 / 2, 1 / 2, 1 / 3])
    monkeypatch.setattr(journal, "facts_of_line", lambda *_args: None)
    assert vars(read_row(folder)) == vars(row)


def test_clips_of_a_run_that_promises_other_clips_are_compared(tmp_path: Path) -> None:
    clips: dict[str, Any] = {
        "support": [["a"], ["b"]],
        "query": [["c", "d"], ["e", "f"]],
    }
    same = _folder(tmp_path / "same", [record(0), record(1)], disjoint=True)
    other = _folder(tmp_path / "other", [record(0), record(1, **clips)], disjoint=True)
    assert [read_row(folder).shared for folder in (same, other)] == [True, False]
