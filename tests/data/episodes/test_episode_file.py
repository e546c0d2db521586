"""Frozen episodes: what is written is read back, and what was changed is refused."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.episode_file import (
    EpisodeFile,
    make_episode_file,
    read_episode_file,
    write_episode_file,
)
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.errors import EpisodeError
from tests.data.splits.samples import make_split

SPLIT = make_split()
SAMPLER = EpisodeSampler(SPLIT, seed=5, way="2-4", shot="1-3", query=2, uneven_shots=True)


def frozen(count: int = 6) -> EpisodeFile:
    return make_episode_file(SPLIT, "novel", (SAMPLER[i] for i in range(count)), {"seed": 5})


@pytest.mark.parametrize("name", ["e.jsonl", "e.jsonl.gz"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    episodes, path = frozen(), tmp_path / "new" / name
    write_episode_file(episodes, path)
    read = read_episode_file(path)
    assert read == episodes
    assert read.digest == episodes.digest
    assert [read[i] for i in range(6)] == [SAMPLER[i] for i in range(6)]
    first = path.read_bytes()
    write_episode_file(episodes, path, overwrite=True)
    assert path.read_bytes() == first


def test_another_program_reads_it_in_five_lines(tmp_path: Path) -> None:
    write_episode_file(frozen(), tmp_path / "e.jsonl")
    with (tmp_path / "e.jsonl").open() as lines:
        head = json.loads(next(lines))
        for line, spec in zip(map(json.loads, lines), frozen().episodes, strict=True):
            support = [[head["clips"][i] for i in row] for row in line["support"]]
            query = [[head["clips"][i] for i in row] for row in line["query"]]
            classes = [head["classes"][c] for c in line["classes"]]
            assert (classes, support, query) == tuple(
                json.loads(json.dumps([spec.classes, spec.support, spec.query]))
            )


def test_the_digest_covers_split_subset_and_episodes() -> None:
    episodes = frozen()
    others = [
        frozen(5),
        EpisodeFile("sample", "0" * 64, "novel", episodes.episodes),
        EpisodeFile("sample", SPLIT.digest, "val", episodes.episodes),
        EpisodeFile("sample", SPLIT.digest, "novel", episodes.episodes[::-1]),
    ]
    assert len({episodes.digest, *(other.digest for other in others)}) == 5


def test_no_episodes_are_neither_frozen_nor_read(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match="no episode to be frozen; expected at least one"):
        frozen(0)
    none = EpisodeFile("sample", SPLIT.digest, "novel", ())
    write_episode_file(none, tmp_path / "none.jsonl")
    with pytest.raises(EpisodeError, match=r"none\.jsonl: has no episodes; expected at least one"):
        read_episode_file(tmp_path / "none.jsonl")


def test_the_largest_of_each_number_may_be_of_other_episodes() -> None:
    many = Episode(0, ("a", "b", "c"), (("a1",), ("b1",), ("c1",)), (("a2",), ("b2",), ("c2",)))
    deep = Episode(1, ("a", "b"), (("a1", "a2"), ("b1", "b2")), (("a3", "a4"), ("b3", "b4")))
    for specs in ((many, deep), (deep, many)):
        assert EpisodeFile("s", "0" * 64, "novel", specs).max_shape == (3, 4, 4)


def test_another_split_is_refused() -> None:
    frozen().check_split(make_split())
    with pytest.raises(EpisodeError, match="drawn from split 'sample' with digest") as caught:
        frozen().check_split(make_split(clips=11))
    assert SPLIT.digest[:16] in str(caught.value)


def test_there_is_no_episode_past_the_last() -> None:
    with pytest.raises(EpisodeError, match="episode 6: there are 6, from 0"):
        frozen()[6]
    with pytest.raises(EpisodeError, match="episode -1"):
        frozen()[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], "not those that were written"),
        (lambda lines: [*lines, lines[-1]], "not those that were written"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "not those that were written"),
        (
            lambda lines: [*lines[:2], lines[2].replace('y":[[', 'y":[[99'), *lines[3:]],
            "damaged",
        ),
        (lambda lines: [*lines[:2], lines[2][:20], *lines[3:]], "damaged"),
        (lambda lines: [*lines[:2], "[]", *lines[3:]], "damaged"),
        (
            lambda lines: [lines[0].replace('n": 1', 'n": 2'), *lines[1:]],
            "version 2; this",
        ),
        (lambda lines: lines[1:], "expected a file written by `fewshot-i2v episodes freeze`"),
        (lambda lines: [], "expected a file written by"),
        (lambda lines: [lines[0].replace('"clips"', '"clip"'), *lines[1:]], "damaged: KeyError"),
        (lambda lines: [lines[0].replace('"episodes":', '"e":'), *lines[1:]], "damaged: KeyError"),
        (lambda lines: [lines[0].replace('s": 6', 's": []'), *lines[1:]], "damaged: TypeError"),
        (
            lambda lines: [lines[0].replace('{"seed": 5}', '"seed"'), *lines[1:]],
            "damaged: ValueError",
        ),
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "e.jsonl"
    write_episode_file(frozen(), path)
    lines = path.read_text().splitlines()
    path.write_text("".join(line + "\n" for line in change(lines)))  # type: ignore[operator]
    with pytest.raises(EpisodeError, match=message) as caught:
        read_episode_file(path)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(b"x" * 100)[:20])
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    for name in ("e.jsonl.gz", "bytes.jsonl", "absent.jsonl"):
        with pytest.raises(EpisodeError, match=f"{name}: cannot be read"):
            read_episode_file(tmp_path / name)


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text("mine")
    for names in (False, True):
        with pytest.raises(EpisodeError, match="is already there"):
            write_episode_file(frozen(), path, names=names)
    assert path.read_text() == "mine"
    with pytest.raises(EpisodeError, match="cannot be written"):
        write_episode_file(frozen(), path / "below.jsonl")


def test_names_are_written_for_other_programs(tmp_path: Path) -> None:
    write_episode_file(frozen(), tmp_path / "e.jsonl", names=True)
    lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert lines == [json.loads(json.dumps(spec.to_dict())) for spec in frozen().episodes]


def test_more_episodes_than_the_first_line_says_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    write_episode_file(frozen(), path)
    lines = path.read_text().splitlines()
    more = json.dumps(json.loads(lines[-1]) | {"index": len(lines) - 1})
    path.write_text("\n".join([*lines, more]) + "\n")
    with pytest.raises(EpisodeError, match="damaged: its episodes are not those"):
        read_episode_file(path)


def test_episodes_that_are_read_take_the_memory_of_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    write_episode_file(frozen(), path)
    read_episode_file(path)
    tracemalloc.start()
    found = read_episode_file(path)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < path.stat().st_size + 100 * found.count + 20_000
    assert found.episodes == frozen().episodes
    assert found == frozen()
