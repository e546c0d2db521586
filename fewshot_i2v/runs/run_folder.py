"""The run folder: what a run is (`run.json`), what it found (`episodes.jsonl`), how to go on.

| file | content |
|---|---|
| `run.json` | schema version, identity (what decides the results), contents of clips, other facts |
| `episodes.jsonl` | one `EpisodeRecord` per line, appended and synced as episodes finish |
| `summary.json` | what follows from the records; can be made again at any time |
| `running` | host and process of the run in progress |
| `episodes.jsonl.torn-<n>` | bytes of an unfinished last line, set aside when the run went on |

Each line ends with a checksum over the identity and everything in the line but the timings, so that
a line that was changed, damaged or taken from another run is an error that names it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fewshot_i2v.errors import RecordError
from fewshot_i2v.runs.episode_record import TIMING_KEYS, EpisodeRecord, fingerprint, to_line
from fewshot_i2v.runs.header import SCHEMA, read_header, start_or_compare, to_json, with_clips
from fewshot_i2v.runs.journal import Journal
from fewshot_i2v.runs.lock import RunMarker
from fewshot_i2v.runs.record_lines import RecordLines, second_result
from fewshot_i2v.utils.files import RecordWriteError, remove_temporaries, write_atomically

__all__ = [
    "SCHEMA",
    "TIMING_KEYS",
    "EpisodeRecord",
    "RecordWriteError",
    "RunData",
    "RunFolder",
    "read_run",
]


@dataclass(frozen=True)
class RunData:
    """A run folder as read.

    Attributes:
        header: content of `run.json`.
        records: the record of each episode, by index, in ascending order; each is read from the
            file when it is asked for.
    """

    header: dict[str, Any]
    records: RecordLines


class RunFolder:
    """A run folder held open for appending; a context manager. Made by `open`.

    Attributes:
        path: the folder.
        header: content of `run.json`.
        records: the record of each episode so far, by index; a failed one gives way to a later one,
            one that is ok never does. Each is read from the file when it is asked for.
    """

    def __init__(
        self,
        path: Path,
        data: RunData,
        journal: Journal,
        held: contextlib.ExitStack,
    ) -> None:
        self.path, self.header, self.records = path, data.header, data.records
        self._journal, self._held = journal, held
        self._fingerprint = _key(self.header)

    @classmethod
    def open(
        cls, path: str | Path, header: Mapping[str, Any], *, identity: Mapping[str, Any]
    ) -> RunFolder:
        """Start a run in a folder, or go on with the one that is there.

        Args:
            path: the folder; created when absent.
            header: facts to keep beside the identity (package versions, device, ...); written when
                the run starts and not compared.
            identity: what decides the results, nested; must be that of the folder.

        Returns:
            The folder, to be closed after use.

        Raises:
            RecordError: when the folder is in use, damaged, or holds a run of another identity.
            RecordWriteError: when the disk refuses.
        """
        folder = Path(path)
        _make_folder(folder)
        with contextlib.ExitStack() as held:
            held.callback(RunMarker(folder).release)
            for name in ("run.json", "summary.json"):
                remove_temporaries(folder / name)
            stored = start_or_compare(folder, header, identity)
            records = RecordLines(folder / "episodes.jsonl", _key(stored))
            journal = Journal(folder / "episodes.jsonl")
            held.callback(journal.close)
            return cls(folder, RunData(stored, records), journal, held.pop_all())

    def append(self, records: Sequence[EpisodeRecord]) -> None:
        """Add records: when it returns, they survive a kill and a power cut.

        A record of an episode that is already there and ok is left out when it says the same.

        Args:
            records: any number; all or none are added.

        Raises:
            RecordError: when an episode that is ok would get another result; nothing is written.
            RecordWriteError: when the disk refuses; earlier records are kept.
        """
        new: dict[int, EpisodeRecord] = {}
        lines: list[tuple[EpisodeRecord, bytes]] = []
        for record in records:
            known = new.get(record.index) or self._known(record.index)
            if _adds(known, record, f"{self._journal.path}: not added"):
                new[record.index] = record
                lines.append((record, to_line(record, self._fingerprint)))
        if not lines:
            return
        place = self._journal.append([line for _, line in lines])
        for record, line in lines:
            self.records.note(record.index, place, ok=record.status == "ok")
            place += len(line) + 1

    def _known(self, index: int) -> EpisodeRecord | None:
        """The record of an episode where a new one may not replace it."""
        return None if index in self.records.failed else self.records.get(index)

    def keep_clips(self, contents: Mapping[str, str]) -> None:
        """Note what is in the clips of the run; errors as `with_clips`.

        Args:
            contents: clip name -> digest of its content.
        """
        self.header = with_clips(self.path / "run.json", self.header, contents)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace `summary.json`, atomically.

        Args:
            summary: anything JSON can carry.

        Raises:
            RecordError: when it holds something JSON cannot carry.
            RecordWriteError: when the disk refuses.
        """
        path = self.path / "summary.json"
        write_atomically(path, to_json(path, summary))

    def close(self) -> None:
        """Close the files and let go of the folder; a second call does nothing."""
        self._held.close()

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
    """Read a run folder, also while a run writes to it; nothing is changed.

    Args:
        path: the folder.

    Returns:
        Header and records; an unfinished last line is left out.

    Raises:
        RecordError: when it is no run folder, or damaged (naming file and line).
    """
    folder = Path(path)
    header = read_header(folder / "run.json")
    if header is None:
        raise RecordError(f"{folder}: not a run folder: it has no run.json")
    records = RecordLines(folder / "episodes.jsonl", _key(header))
    return RunData(header, records.in_order())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise RecordError(
            f"{folder}: a file; expected a folder. Choose another --output"
        ) from error
    except OSError as error:
        raise RecordWriteError(folder, error) from error


def _key(header: Mapping[str, Any]) -> int:
    return fingerprint(header["identity"])


def _adds(known: EpisodeRecord | None, record: EpisodeRecord, where: str) -> bool:
    """Whether a record is to be taken beside the one known of its episode.

    Raises:
        RecordError: when an episode that is ok has a second, different record.
    """
    if known is None or known.status == "failed":
        return True
    if known.same_result(record):
        return False
    raise second_result(where, record.index)
