"""The run folder: identity (`run.json`), results (`episodes.jsonl`) and resumption of a run.

| file | content |
|---|---|
| `run.json` | schema version, identity (what decides the results), digests of clips, other facts |
| `episodes.jsonl` | one `EpisodeRecord` per line, appended and synced as episodes finish |
| `summary.json` | what follows from the records; can be made again at any time |
| `running` | host and process of the run in progress |
| `episodes.jsonl.torn-<n>` | bytes of an unfinished last line, set aside when the run resumed |
| `episodes-<k>-of-<n>.jsonl`, `running-<k>-of-<n>` | those of shard k of n, see `runs.shards` |
| `shard-<k>-of-<n>.json` | its host, digests of its clips, number of episodes of the run |

The records of a run are those of all its files: equal ones of an episode count once, and different
ones are an error. A run may be continued with another number of shards, or without.

Each line ends with a checksum over the identity and everything in the line but the timings, so that
a line that was changed, damaged or taken from another run is an error that names it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from fewshot_i2v.errors import RecordError, RecordWriteError
from fewshot_i2v.runs.episode_record import EpisodeRecord, identity_checksum, to_line
from fewshot_i2v.runs.header import (
    add_clip_digests,
    check_clip_digests,
    read_header,
    verify_header,
    write_json,
    write_or_verify_header,
)
from fewshot_i2v.runs.journal import Journal, RecordLines, second_result_error
from fewshot_i2v.runs.lock import RunLock
from fewshot_i2v.runs.shards import (
    JOURNAL_NAME,
    Shard,
    journals_of,
    read_shard_facts,
    write_shard_facts,
)
from fewshot_i2v.utils.files import remove_leftovers
from fewshot_i2v.utils.patience import WAIT_SECONDS, Patience

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class RunData:
    """The content of a run folder.

    Attributes:
        header: content of `run.json`.
        records: the record of each episode, by index, in ascending order; each is read from the
            file when it is accessed.
    """

    header: dict[str, Any]
    records: RecordLines


class RunFolder:
    """A run folder open for appending; a context manager, made by `open`.

    Attributes:
        path: the folder.
        header: content of `run.json`.
        records: the record of each episode so far, by index, of all shards; a later record replaces
            a failed one, never a successful one. Each is read from the file when it is accessed.
    """

    def __init__(
        self,
        path: Path,
        data: RunData,
        journal: Journal,
        resources: contextlib.ExitStack,
        *,
        shard: Shard | None = None,
        planned: int = 0,
        patience: Patience = Patience(),  # noqa: B008 - frozen
    ) -> None:
        self.path, self.header, self.records = path, data.header, data.records
        self._journal, self._resources = journal, resources
        self._shard, self._planned, self._patience = shard, planned, patience
        self._run_checksum = _run_checksum(self.header)

    @classmethod
    def open(
        cls,
        path: str | Path,
        header: Mapping[str, Any],
        *,
        identity: Mapping[str, Any],
        shard: Shard | None = None,
        patience: Patience | None = None,
    ) -> RunFolder:
        """Starts a run in a folder, or resumes the one in it.

        Args:
            path: the folder; created when absent.
            header: facts to store beside the identity (package versions, device, ...); written when
                the run starts and not compared. `planned` is the number of episodes; the largest is
                kept, and the `settings` of the latest command.
            identity: what decides the results, nested; must be that of the folder.
            shard: the part of the run that is added, to files of its own; None: the run.
            patience: how long to wait for its disk from then on; None: a shard waits for the disk
                that several machines share, a process alone stops at once.

        Returns:
            The folder, to be closed after use.

        Raises:
            RecordError: when the folder is in use, damaged, or holds a run of another identity.
            RecordWriteError: when the disk refuses.
        """
        folder, planned = Path(path), int(header.get("planned", 0))
        if patience is None:
            patience = Patience() if shard is None else Patience(WAIT_SECONDS)
        _make_folder(folder)
        journal_path = folder / (shard.journal_name if shard else JOURNAL_NAME)
        with contextlib.ExitStack() as resources:
            lock = RunLock(folder, f"running{shard.suffix}" if shard else "running")
            resources.callback(lock.release)
            _remove_leftovers(folder, shard)
            has_records = any(journal.exists() for journal in journals_of(folder))
            stored = write_or_verify_header(folder, header, identity, has_records=has_records)
            if shard is None:
                stored = _with_latest(folder / "run.json", stored, header, planned)
            journal = Journal(journal_path, patience)
            resources.callback(journal.close)
            records = RecordLines(journals_of(folder), _run_checksum(stored))
            data = RunData(stored, records)
            return cls(
                folder,
                data,
                journal,
                resources.pop_all(),
                shard=shard,
                planned=planned,
                patience=patience,
            )

    def append(self, records: Sequence[EpisodeRecord]) -> None:
        """Adds records: when it returns, they survive a kill and a power cut.

        A record equal to the successful record of its episode is left out.

        Args:
            records: any number; all or none are added.

        Raises:
            RecordError: when a successful episode would get another result; nothing is written.
            RecordWriteError: when the disk refuses; earlier records stay.
        """
        new_records: dict[int, EpisodeRecord] = {}
        lines: list[tuple[EpisodeRecord, bytes]] = []
        for record in records:
            recorded = new_records.get(record.index)
            if recorded is None and record.index not in self.records.failed:
                recorded = self.records.get(record.index)
            if recorded is None or recorded.status == "failed":
                new_records[record.index] = record
                lines.append((record, to_line(record, self._run_checksum)))
            elif not recorded.same_result(record):
                raise second_result_error(f"{self._journal.path}: not added", record.index)
        if not lines:
            return
        offset = self._journal.append([line for _, line in lines])
        for record, line in lines:
            ok = record.status == "ok"
            self.records.add_line(self._journal.path, record.index, offset, ok=ok)
            offset += len(line) + 1

    def read_again(self) -> None:
        """Reads the records again, with those that other processes have added; errors as `read`."""
        self.records = self.read(lambda: RecordLines(journals_of(self.path), self._run_checksum))

    def read(self, read: Callable[[], _Read]) -> _Read:
        """Reads something of the records; waits for their disk as `append` does.

        Raises:
            RecordError: when a file is damaged or cannot be read.
        """

        def _read_while_there() -> _Read:
            result = read()
            # an absent file has no records: where this one is, the others were there, too
            self._journal.path.stat()
            return result

        try:
            return self._patience.run(self._journal.path, _read_while_there)
        except OSError as error:
            reason = error.strerror or error
            raise RecordError(f"{self._journal.path}: cannot be read: {reason}") from error

    def record_clips(self, digests: Mapping[str, str], *, n_cached: int | None = None) -> None:
        """Records the digests of the run's clips, by clip name; errors as `add_clip_digests`.

        `n_cached`: clips whose features were in the cache; the first number is recorded. None: not
        known. A shard records none.
        """
        path = self.path / "run.json"
        if self._shard is None:
            self.header = add_clip_digests(path, self.header, digests, n_cached)
        else:
            check_clip_digests(path, self.header.get("clips", {}), digests)
        shards = read_shard_facts(self.path)
        for shard, facts in shards.items():
            check_clip_digests(self.path / shard.facts_name, facts["clips"], digests)
        if self._shard is not None:
            earlier = shards.get(self._shard, {"clips": {}, "planned": 0})
            write_shard_facts(
                self.path,
                self._shard,
                planned=max(self._planned, earlier["planned"]),
                clips={**earlier["clips"], **digests},
            )

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace `summary.json`, atomically, by anything JSON can carry.

        Raises:
            RecordError: when it holds something JSON cannot carry.
            RecordWriteError: when the disk refuses.
        """
        write_json(self.path / "summary.json", summary, self._patience)

    def close(self) -> None:
        """Closes the files and releases the folder; a second call does nothing."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_run(path: str | Path) -> RunData:
    """Reads a run folder, also while a run writes to it; nothing is changed.

    Returns:
        Header and records; an unfinished last line is left out.

    Raises:
        RecordError: when it is no run folder, or damaged (naming file and line).
    """
    folder = Path(path)
    header = read_header(folder / "run.json")
    if header is None:
        raise RecordError(f"{folder}: not a run folder: it has no run.json")
    records = RecordLines(journals_of(folder), _run_checksum(header))
    planned = [header.get("planned"), *(f["planned"] for f in read_shard_facts(folder).values())]
    if any(count is not None for count in planned):
        header = {**header, "planned": max(count for count in planned if count is not None)}
    return RunData(header, records.sort_by_index())


def check_run(path: Path, identity: Mapping[str, Any]) -> None:
    """Checks that a folder holds no other run than that of an identity; it may be absent.

    Raises:
        RecordError: when the folder is damaged, or holds a run of another identity.
    """
    has_records = path.is_dir() and any(journal.exists() for journal in journals_of(path))
    verify_header(path, identity, has_records=has_records)


def wait_for_run(folder: Path, patience: Patience) -> None:
    """Waits for a run folder that was there: without its disk, another one would be made.

    Raises:
        RecordWriteError: when it is still away in the end.
    """
    try:
        patience.run(folder, (folder / "run.json").stat)
    except OSError as error:
        raise RecordWriteError(folder, error) from error


def _with_latest(
    path: Path, stored: dict[str, Any], header: Mapping[str, Any], planned: int
) -> dict[str, Any]:
    """Writes the settings of the latest command, and the largest number of planned episodes."""
    latest = {**stored, "planned": max(planned, stored.get("planned", planned))}
    if "planned" not in stored:
        del latest["planned"]
    if "settings" in header:
        latest["settings"] = json.loads(json.dumps(header["settings"]))
    if latest != stored:
        write_json(path, latest)
    return latest


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise RecordError(
            f"{folder}: a file; expected a folder. Choose another --output"
        ) from error
    except OSError as error:
        raise RecordWriteError(folder, error) from error


def _remove_leftovers(folder: Path, shard: Shard | None) -> None:
    """Removes the temporary files of killed runs; this process has the lock.

    A shard removes its own alone: others may write at the same time.
    """
    if shard is not None:
        remove_leftovers(folder / shard.facts_name)
        return
    for name in ("run.json", "summary.json"):
        remove_leftovers(folder / name)
        for leftover in folder.glob(f"{name}.tmp-*"):  # of version 0.1
            with contextlib.suppress(OSError):
                leftover.unlink()


def _run_checksum(header: Mapping[str, Any]) -> int:
    return identity_checksum(header["identity"])
