"""Shards of a run: parts that several processes run, each with files of its own."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_i2v.errors import RecordError, UsageError
from fewshot_i2v.runs.header import read_json_object, write_json
from fewshot_i2v.utils.patience import WAIT_SECONDS, Patience

JOURNAL_NAME = "episodes.jsonl"
"""Records of a run without shards."""
AUTO = "auto"
_NAME = re.compile(r"(?:episodes|shard|running)-([1-9]\d{0,5})-of-([1-9]\d{0,5})(\.jsonl?)?")
_TEXT = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,5})")
_SLURM_KEYS = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")
_ADVICE = "Delete it: its shard writes it again"


@dataclass(frozen=True, order=True)
class Shard:
    """A part of the batches of a run.

    A batch is a number of episodes that run side by side. It is not cut, so that results do not
    depend on the number of shards.

    Attributes:
        number: of the shard, 1..count.
        count: number of shards.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise UsageError(
                f"shard: got {self}; expected K/N with K from 1 to N, such as 1/4 to 4/4"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] | None = None) -> Shard:
        """Reads "K/N", or "auto": the place of this job in an array of SLURM jobs.

        Args:
            text: as typed.
            environment: variables of the process; None: those of this one.

        Raises:
            UsageError: for anything else, and for "auto" outside of an array.
        """
        if text == AUTO:
            return cls._of_array(os.environ if environment is None else environment)
        match = _TEXT.fullmatch(text)
        if not match:
            raise UsageError(f"shard: got {text!r}; expected K/N, such as 1/4, or {AUTO}")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def _of_array(cls, environment: Mapping[str, str]) -> Shard:
        values = [environment.get(key, "") for key in _SLURM_KEYS]
        if not all(value.isdecimal() for value in values):
            named = ", ".join(f"{k}={v or '-'}" for k, v in zip(_SLURM_KEYS, values, strict=True))
            raise UsageError(
                f"shard: {AUTO} is for jobs of a SLURM array; got {named}. Start it with "
                "`sbatch --array=1-8`, or give K/N"
            )
        job, first, count = map(int, values)
        return cls(job - first + 1, count)

    @property
    def suffix(self) -> str:
        """End of the names of its files."""
        return f"-{self.number}-of-{self.count}"

    @property
    def journal_name(self) -> str:
        """Name of the file of its records."""
        return f"episodes{self.suffix}.jsonl"

    @property
    def facts_name(self) -> str:
        """Name of the file of what it says of itself."""
        return f"shard{self.suffix}.json"

    def has_batch(self, batch: int, *, n_batches: int, row: int) -> bool:
        """Whether it runs a batch.

        Args:
            batch: number of the batch in its row.
            n_batches: batches of the row. Rows of fewer batches than shards begin with different
                shards; all others with the first, so that unfinished rows have the same episodes.
            row: position of the row.
        """
        offset = row if n_batches < self.count else 0
        return (batch + offset) % self.count == self.number - 1


def shard_of_file(path: Path) -> Shard | None:
    """Returns the shard that wrote a file of a run folder; None for other files."""
    match = _NAME.fullmatch(path.name)
    return Shard(int(match[1]), int(match[2])) if match and int(match[1]) <= int(match[2]) else None


def journals_of(folder: Path) -> list[Path]:
    """Returns the files of records in a run folder, that of no shard first."""
    sharded = {path: shard_of_file(path) for path in folder.glob("episodes-*.jsonl")}
    shards = sorted((shard, path) for path, shard in sharded.items() if shard is not None)
    return [folder / JOURNAL_NAME, *(path for _, path in shards)]


def read_shard_facts(folder: Path) -> dict[Shard, dict[str, Any]]:
    """Reads what the shards of a run say of themselves, in their order.

    Raises:
        RecordError: when a file is damaged.
    """
    facts = {}
    for path in sorted(folder.glob("shard-*.json")):
        shard = shard_of_file(path)
        content = None if shard is None else read_json_object(path, _ADVICE)
        if shard is None or content is None:
            continue
        clips, planned = content.get("clips"), content.get("planned")
        is_planned = type(planned) is int and planned >= 0
        if not isinstance(clips, dict) or not isinstance(content.get("host"), str):
            raise RecordError(f"{path}: damaged: it has no host and clips. {_ADVICE}")
        if not is_planned:
            raise RecordError(f"{path}: damaged: planned is {planned!r}. {_ADVICE}")
        facts[shard] = content
    return facts


def write_shard_facts(
    folder: Path, shard: Shard, *, planned: int, clips: Mapping[str, str]
) -> None:
    """Writes what a shard says of itself.

    Raises:
        RecordWriteError: when the disk refuses.
    """
    facts = {"host": socket.gethostname(), "planned": planned, "clips": dict(clips)}
    write_json(folder / shard.facts_name, facts, Patience(WAIT_SECONDS))


def writer_of(journal: Path) -> str:
    """Names a file of records and the host that wrote it, for an error."""
    shard = shard_of_file(journal)
    if shard is None:
        return journal.name
    try:
        facts = read_json_object(journal.with_name(shard.facts_name), _ADVICE) or {}
    except RecordError:
        facts = {}
    return f"{journal.name} (host {facts.get('host', 'unknown')})"
