"""The run folder when things go wrong: torn and damaged lines, a full disk, kills."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import textwrap
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.errors import FewshotError, RecordError, RecordWriteError
from fewshot_i2v.runs.episode_record import TIMING_KEYS, identity_checksum
from fewshot_i2v.runs.run_folder import read_run
from tests.runs.record_samples import filled, opened, record


@pytest.fixture
def quick_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small files are written in these tests, and none needs to survive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.mark.usefixtures("quick_sync")
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_cut_after_any_byte_of_the_last_line(tmp_path: Path, step: int) -> None:
    """And after some of the line before, which is written alike; after every byte of both ends."""
    journal = filled(tmp_path, 3)
    whole = journal.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    edge = ends[1] + 8
    tail = len(whole) - 8
    cuts = {*range(ends[0], ends[1] - 8, 29), *range(ends[1] - 8, edge), *range(edge, tail, step)}
    for cut in sorted(cuts | set(range(tail, len(whole) + 1))):
        journal.write_bytes(whole[:cut])
        complete = sum(end <= cut for end in ends)
        torn = whole[ends[complete - 1] : cut]
        with opened(tmp_path) as run:
            assert list(run.records) == list(range(complete))
            sides = list(tmp_path.glob("*.torn-*"))
            assert [side.read_bytes() for side in sides] == [torn] * bool(torn)
            run.append([record(i) for i in range(complete, 4)])
        with opened(tmp_path) as run:
            assert run.records == {i: record(i) for i in range(4)}
        for side in sides:
            side.unlink()


def test_torn_lines_are_kept_one_by_one_whatever_their_length(tmp_path: Path) -> None:
    journal = filled(tmp_path, 1)
    tails = [b"x", b"y" * 200_000, b"\0" * 70_000]
    for tail in tails:
        journal.write_bytes(journal.read_bytes() + tail)
        opened(tmp_path).close()
    assert [(tmp_path / f"episodes.jsonl.torn-{n}").read_bytes() for n in (1, 2, 3)] == tails
    assert list(read_run(tmp_path).records) == [0]


def test_a_file_without_any_newline_is_all_torn(tmp_path: Path) -> None:
    journal = filled(tmp_path, 1)
    journal.write_bytes(journal.read_bytes()[:-1])
    with opened(tmp_path) as run:
        assert run.records == {}
    assert journal.read_bytes() == b""


def _replace(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda line: line.replace(old, new, 1)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"\n",
    "blank": lambda _: b"   \n",
    "null": lambda _: b"null\n",
    "empty object": lambda _: b"{}\n",
    "list": lambda _: b"[1, 2]\n",
    "deep": lambda _: b"[" * 100_000 + b"\n",
    "NaN": lambda _: b'{"index": NaN}\n',
    "no newline": lambda line: line[:-1],
    "cut": lambda line: line[:50] + b"\n",
    "cut before the checksum": lambda line: line[: line.rindex(b',"crc32"')] + b"}\n",
    "cut in the checksum": lambda line: line[: line.rindex(b"crc32") + 12] + b"\n",
    "cut after the checksum": lambda line: line[: line.rindex(b'"seconds"') - 1] + b"\n",
    "timing missing": lambda line: line[: line.rindex(b',"peak_memory_mb"')] + b"}\n",
    "unknown key": lambda line: line[:-2] + b',"more":1}\n',
    "NaN in the timings": _replace(b'"seconds":0.25', b'"seconds":NaN'),
    "zeros": lambda line: b"\0" * (len(line) - 1) + b"\n",
    "zeros inside": lambda line: line[:30] + b"\0" * 20 + line[50:],
    "wide characters": lambda line: line.decode().encode("utf-16-le"),
    "joined with itself": lambda line: line[:-1] + line,
    "split": lambda line: line[:40] + b"\n" + line[40:],
    "edited": _replace(b'"status":"ok"', b'"status":"no"'),
    "other index": _replace(b'"index":1', b'"index":7'),
    "other clip": _replace(b"jump/3", b"jump/9"),
    "spaces": _replace(b",", b", "),
}


def _refused(tmp_path: Path, journal: Path, content: bytes) -> None:
    journal.write_bytes(content)
    for attempt in (opened, read_run):
        with pytest.raises(RecordError, match=r"episodes\.jsonl:2: damaged") as caught:
            attempt(tmp_path)
        assert caught.value.exit_code == 2
        assert "Move this line out" in str(caught.value)
    assert journal.read_bytes() == content
    assert {p.name for p in tmp_path.iterdir()} == {"run.json", "episodes.jsonl"}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_middle_line_is_named_and_nothing_is_rewritten(
    tmp_path: Path, damage: str
) -> None:
    journal = filled(tmp_path, 4)
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[1] = DAMAGE[damage](lines[1])
    _refused(tmp_path, journal, b"".join(lines))


@pytest.mark.usefixtures("quick_sync")
def test_any_flipped_bit_before_the_timings_is_found(tmp_path: Path) -> None:
    journal = filled(tmp_path, 3)
    whole, start = journal.read_bytes(), journal.read_bytes().index(b"\n") + 1
    end = start + whole[start:].index(b',"seconds"')
    generator = random.Random(0)
    for _ in range(150):
        flipped = bytearray(whole)
        flipped[generator.randrange(start, end)] ^= 1 << generator.randrange(8)
        _refused(tmp_path, journal, bytes(flipped))


def test_a_bit_flipped_in_the_timings_changes_no_result(tmp_path: Path) -> None:
    journal = filled(tmp_path, 2)
    whole = journal.read_bytes()
    start = whole.index(b',"seconds"')
    accepted = 0
    for place in range(start, whole.index(b"\n")):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            journal.write_bytes(flipped)
            try:
                records = read_run(tmp_path).records
            except RecordError:
                continue
            accepted += 1
            assert all(records[i].same_result(record(i)) for i in range(2))
    assert 0 < accepted < 60


CALLS = ("open", "write", "fsync", "replace", "ftruncate", "mkdir", "link")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES, errno.EROFS)


def _use(folder: Path) -> None:
    with opened(folder) as run:
        run.append([record(i) for i in (2, 3)])
        run.append([record(4)])
        run.write_summary({"mean": 1.0})


@pytest.mark.parametrize("code", ERRORS, ids=lambda code: errno.errorcode[code])
def test_every_call_to_the_system_fails_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = {name: getattr(os, name) for name in CALLS}
    real["fsync"] = lambda _descriptor: None
    count, at, never = 0, 0, -1_000_000

    def failing(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            nonlocal count
            count += 1
            if count == at:
                raise OSError(code, os.strerror(code))
            return real[name](*args, **kwargs)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, failing(name))
    refusals = 0
    while count >= at:
        at, count = at + 1, never
        folder = tmp_path / str(at)
        journal = filled(folder, 2)
        journal.write_bytes(journal.read_bytes() + b"torn")
        count = 0
        try:
            _use(folder)
        except FewshotError as error:
            refusals += 1
            assert {str(folder) in str(error), os.strerror(code) in str(error)} == {True}  # noqa: PT017
            assert error.exit_code == 1  # noqa: PT017
        reached, count = count, never
        assert [read_run(folder).records[i] for i in (0, 1)] == [record(0), record(1)]
        _use(folder)
        assert list(read_run(folder).records) == [0, 1, 2, 3, 4]
        assert not [p for p in folder.iterdir() if ".tmp" in p.name or p.name == "running"]
        count = reached
    assert refusals > 15


def test_a_disk_that_fills_up_in_the_middle_of_a_line_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, real = filled(tmp_path, 2), os.write
    before = journal.read_bytes()
    room = 100

    def write(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(descriptor, bytes(data)[:room])
        room -= written
        return written

    with opened(tmp_path) as run:
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(RecordWriteError, match=r"episodes\.jsonl: cannot be written: No space"):
            run.append([record(2)])
        assert journal.read_bytes() == before
        assert list(run.records) == [0, 1]
        room = 1_000_000
        run.append([record(2)])
    assert read_run(tmp_path).records == {i: record(i) for i in range(3)}


def test_nothing_is_acknowledged_before_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def noted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: object) -> object:
            calls.append(name)
            return real(*args)

        return call

    for name in ("write", "fsync", "replace", "ftruncate"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    filled(tmp_path, 1)
    # the marker; the header and its name; the journal's name; the line
    assert calls[0] == "write"
    assert calls[1:] == ["write", "fsync", "fsync", "fsync", "write", "fsync"]
    with (tmp_path / "episodes.jsonl").open("ab") as file:
        file.write(b"torn")
    calls.clear()
    with opened(tmp_path) as run:
        # the torn bytes are safe under their own name before they are cut off
        expected = ["write", "write", "fsync", "fsync", "ftruncate", "fsync", "fsync"]
        assert calls == expected
        calls.clear()
        run.append([record(i) for i in range(1, 9)])
        assert calls == ["write", "fsync"]


def test_a_second_writer_is_noticed(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.append([record(0)])
        with (tmp_path / "episodes.jsonl").open("ab") as file:
            file.write(b"something else\n")
        with pytest.raises(RecordError, match="another process writes to it"):
            run.append([record(1)])


def test_leftovers_of_an_interrupted_replacement_are_removed(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    for name in ("run.json.tmp-12345", "summary.json.tmp-9"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "notes.tmp-1").touch()
    opened(tmp_path).close()
    assert {p.name for p in tmp_path.iterdir()} == {"run.json", "episodes.jsonl", "notes.tmp-1"}


CHILD = """
import sys
from pathlib import Path
from tests.runs.record_samples import opened, record
with opened(Path(sys.argv[1])) as run:
    for index in range(len(run.records), 10_000_000, 2):
        run.append([record(index), record(index + 1)])
        print(index + 1, flush=True)
"""


def test_killed_at_random_moments_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    generator = random.Random(3)
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    total = 0
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        with child:
            assert child.stdout is not None
            first = child.stdout.readline()
            time.sleep(generator.uniform(0.0, 0.1))
            child.kill()
            acknowledged = [first, *child.stdout.read().splitlines(keepends=True)]
        last = int([line for line in acknowledged if line.endswith(b"\n")][-1])
        with opened(tmp_path) as run:
            indices = list(run.records)
        assert indices == list(range(len(indices)))
        assert last < len(indices) <= last + 3
        assert len(indices) > total
        total = len(indices)
    assert read_run(tmp_path).records == {i: record(i) for i in range(total)}
    indices = [int(line.split(b":")[1].split(b",")[0]) for line in _lines(tmp_path)]
    assert indices == list(range(total))


def _lines(folder: Path) -> list[bytes]:
    return (folder / "episodes.jsonl").read_bytes().splitlines()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 0, 1, 2]}, "no class; expected 0 to 1"),
        ({"predictions": [0, 0, 1, -1]}, "no class"),
        ({"labels": ["0", 0, 1, 1]}, "labels: expected a list of whole numbers"),
        ({"probabilities": [[0.5, 1.5]] * 4}, "expected 0 to 1"),
        ({"probabilities": [[0.5, None]] * 4}, "probabilities: expected lists of numbers"),
        ({"support": [["jump/1.mp4"]]}, "1 lists of support clips"),
        ({"query": [["jump/3.mp4", 4], []]}, "query: expected lists of texts"),
        ({"classes": []}, "at least one"),
        ({"accuracy": 10**400}, "too large"),
        ({"accuracy": 0.1}, "as predicted"),
        ({"losses": [[]]}, "losses: expected"),
        ({"error": "x"}, "error: expected null"),
        ({"status": "failed"}, "failed, with accuracy"),
    ],
)
def test_a_forged_line_with_the_right_checksum_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    journal = filled(tmp_path, 3)
    key = identity_checksum(json.loads((tmp_path / "run.json").read_bytes())["identity"])
    forged = dict(record(1).to_dict()) | changes
    timings = {name: forged.pop(name) for name in TIMING_KEYS}
    head = json.dumps(forged, separators=(",", ":"))[:-1].encode()
    check = {"crc32": f"{zlib.crc32(head, key):08x}"} | timings
    lines = journal.read_bytes().splitlines()
    lines[1] = head + b"," + json.dumps(check, separators=(",", ":"))[1:].encode()
    journal.write_bytes(b"\n".join(lines) + b"\n")
    records = read_run(tmp_path).records
    assert records[2] == record(2)
    with pytest.raises(RecordError, match=rf"episodes\.jsonl:2: damaged: .*{message}"):
        list(records.values())
    with pytest.raises(RecordError, match=rf"episodes\.jsonl:2: damaged: .*{message}"):
        list(records.read_facts(records))


def test_of_a_record_that_was_written_only_its_place_is_kept(tmp_path: Path) -> None:
    count = 600
    with opened(tmp_path) as run:
        tracemalloc.start()
        for first in range(0, count, 100):
            run.append([record(i) for i in range(first, first + 100)])
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        assert sum(1 for one in run.records.values() if one.status == "ok") == count
        peak = tracemalloc.get_traced_memory()[1] - kept
        tracemalloc.stop()
    assert kept / count < 300
    assert peak < 600_000  # a buffer of the file, and one record
