"""One row of a table of results: its summary, the merging of training seeds, and its baseline."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from fewshot_i2v.errors import UsageError
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.journal import RecordLines
from fewshot_i2v.runs.record_facts import RecordFacts
from fewshot_i2v.statistics import (
    Interval,
    bounded_interval,
    paired_difference,
    without_too_few_episodes,
)

FRESH = "fresh"
TOY_ENCODER = "demo"
"""The encoder that comes with the package; it was trained on generated pictures of 64 pixels."""
TOY_ENCODER_ADVICE = "--encoder ViT-B-16 --pretrained openai"
"""Flags of a usual encoder for real clips."""
INPUT_MISMATCH = "read unlike its start"
"""Note of rows whose clips are read in another way than the starting point was trained with."""
CLASS_TEXTS = "class texts"
"""Note of rows whose heads read texts of the user in place of the class names."""
_BASELINE_ADAPTER = "frozen"
UNTUNED_NOTE = "untuned"
"""Names a row without steps beside rows that are tuned."""
_JSON_KEYS = (
    "adapter", "head", "shot", "episodes", "failed", "parameters", "seconds_per_episode",
    "peak_memory_mb", "folder", "note", "uses_names", "start", "start_name", "seen", "chance",
    "shared", "training_seed", "learns_nothing",
    "toy_encoder", "planned", "complete", "interval",
)  # fmt: skip


@dataclass(frozen=True)
class RowSummary:
    """One adapter, start, head and shot over all episodes: the row of a table.

    Attributes:
        adapter: label, such as "st-adapter" or "aim:scale=1.0".
        head: label, such as "linear".
        shot: support clips per class, or a range of them.
        accuracies: of each episode that succeeded, 0..1, by episode number.
        failed: number of episodes that failed, with the reason in the records.
        parameters: trained parameters of one episode, adapter and head.
        seconds_per_episode: median over episodes of tuning and prediction time; None where unknown.
        peak_memory_mb: largest over episodes, in MiB: on the CPU of the process since it began the
            row (on Linux; elsewhere since the process began), on a GPU of one episode's share of
            the allocations; None where unknown.
        note: shown beside the adapter's name, such as "reconstruction"; or empty.
        uses_names: whether the head read the class names.
        start: initial weights of the adapters: "fresh", "base-trained" or "meta-trained".
        start_name: name of the starting point; empty for "fresh".
        seen: whether the starting point was trained or selected on classes or clips of this
            evaluation.
        shared: whether episodes have clips in common.
        training_seed: where rows were run with several.
        seed_means: mean accuracy of each training seed, where the row is the mean of several.
        macs_per_clip: multiply-accumulates of the adapted encoder, or None where unknown.
        learns_nothing: whether fine-tuning compared each support clip only with itself.
        toy_encoder: whether the encoder `demo`, made for generated clips, read other clips.
        ways: smallest and largest number of classes of an episode; (0, 0) without records.
        chance: accuracy of guessing, the mean over episodes; None without records.
        last_episode: highest number of an episode, failed ones included.
        planned: number of episodes that the run is to have; None for runs of earlier versions.
        folder: the run folder; that of the first training seed where the row is several.
        seed_folders: run folders of the further training seeds.
        repeat_folders: run folders with the same setting and equal records, which are not rows of
            their own.
        header: content of its `run.json`, with the training seeds of all; empty during the run.
    """

    adapter: str
    head: str
    shot: int | str
    accuracies: Mapping[int, float] = field(repr=False)
    failed: int = 0
    parameters: int = 0
    seconds_per_episode: float | None = None
    peak_memory_mb: float | None = None
    note: str = ""
    uses_names: bool = False
    start: str = FRESH
    start_name: str = ""
    seen: bool = False
    shared: bool = True
    training_seed: int | None = None
    seed_means: tuple[float, ...] = ()
    macs_per_clip: float | None = None
    learns_nothing: bool = False
    toy_encoder: bool = False
    ways: tuple[int, int] = (0, 0)
    chance: float | None = None
    last_episode: int = 0
    planned: int | None = None
    folder: Path = Path()
    seed_folders: tuple[Path, ...] = ()
    repeat_folders: tuple[Path, ...] = ()
    header: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_records(
        cls,
        records: RecordLines,
        indices: Iterable[int],
        *,
        display_flags: Mapping[str, Any],
        **facts: Any,
    ) -> RowSummary:
        """Summarises the records of a run folder.

        Args:
            records: its records.
            indices: numbers of the episodes to summarise.
            display_flags: the `marks` of its header.
            facts: attributes that neither of them has, such as adapter, head, shot and folder.

        Raises:
            RecordError: when a line has values that no record has (naming it).
        """
        totals = RowTotals(display_flags)
        if totals.compares_clips:
            for record in records.read(indices):
                totals.add(record)
        else:
            for record_facts in records.read_facts(indices):
                totals.add_facts(record_facts)
        return totals.to_row(**facts)

    @property
    def episodes(self) -> int:
        """Number of episodes that succeeded."""
        return len(self.accuracies)

    @property
    def missing(self) -> int:
        """Number of episodes that are not recorded yet."""
        return max(0, (self.planned or 0) - self.episodes - self.failed)

    @property
    def complete(self) -> bool:
        """Whether all episodes are recorded, for all that is known."""
        return self.missing == 0

    @cached_property
    def interval(self) -> Interval | None:
        """Mean accuracy, 0..1, with its interval at 95 %; None where no episode succeeded.

        Of fewer episodes than `MIN_EPISODES` it has no ends.
        """
        if not self.accuracies:
            return None
        return without_too_few_episodes(
            bounded_interval(list(self.accuracies.values()), clips_shared=self.shared)
        )

    @property
    def seed_deviation(self) -> float | None:
        """Standard deviation between the means of training seeds; None with fewer than two."""
        return stdev(self.seed_means) if len(self.seed_means) > 1 else None

    @property
    def is_frozen(self) -> bool:
        """Whether it is the frozen encoder without an adapter, the usual baseline."""
        return self.adapter.partition(":")[0] == _BASELINE_ADAPTER

    @property
    def is_untuned(self) -> bool:
        """Whether it is a trained start that is not fine-tuned in an episode."""
        if self.start == FRESH:
            return False
        if not self.header:  # during the run
            return UNTUNED_NOTE in self.note.split(", ")
        return bool(self.config.get("tuning", {}).get("steps") == 0)

    @property
    def tuned_parameters(self) -> int:
        """Parameters that an episode trains: `parameters`, or 0 where it does not fine-tune."""
        return 0 if self.is_untuned else self.parameters

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides its results, from its header: configuration and digests."""
        identity: Mapping[str, Any] = self.header["identity"]
        return identity

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of its identity."""
        config: Mapping[str, Any] = self.identity["config"]
        return config

    @property
    def class_texts(self) -> str:
        """Texts of the user that its head read in place of class names, as JSON; "" for none."""
        texts = self.config.get("class_texts") if self.header else None
        return "" if texts is None else json.dumps(texts, sort_keys=True)

    @property
    def names(self) -> tuple[object, ...]:
        """What a table shows to tell it from other rows."""
        return self.adapter, self.note, self.head, self.start, self.start_name, self.shot

    @cached_property
    def seed_group_key(self) -> Hashable:
        """Key that is equal for rows of one evaluation that differ only in the training seed."""
        if not self.header:
            return self.names
        config = {key: value for key, value in self.config.items() if key != "training_seed"}
        parent = str(self.folder.parent.resolve())
        return json.dumps([parent, {**self.identity, "config": config}], sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for JSON."""
        interval = None if self.interval is None else vars(self.interval)
        plain = {key: getattr(self, key) for key in _JSON_KEYS}
        return plain | {"folder": str(self.folder), "interval": interval}


class RowTotals:
    """Running totals of a row with these `marks`, to which records are added one by one."""

    def __init__(self, display_flags: Mapping[str, Any]) -> None:
        self._display_flags = display_flags
        self._accuracies: dict[int, float] = {}
        self._seconds: list[float] = []
        self._memory, self._last_episode = 0.0, 0
        self._ways: Counter[int] = Counter()
        self._clips: set[str] = set()
        self._clips_shared = not display_flags.get("disjoint")

    @property
    def compares_clips(self) -> bool:
        """Whether the clips of records matter: as long as no two episodes have one in common."""
        return not self._clips_shared

    def add(self, record: EpisodeRecord) -> None:
        """Adds a record."""
        self.add_facts(RecordFacts.of(record))
        if self.compares_clips:
            names = {n for side in (record.support, record.query) for row in side for n in row}
            self._clips_shared = not names.isdisjoint(self._clips)
            self._clips |= names

    def add_facts(self, facts: RecordFacts) -> None:
        """Adds a record of whose clips nothing needs to be known."""
        self._ways[facts.way] += 1
        self._last_episode = max(self._last_episode, facts.episode)
        if facts.accuracy is not None:
            self._accuracies[facts.episode] = facts.accuracy
            self._seconds.append(facts.seconds)
            self._memory = max(self._memory, facts.peak_memory_mb)

    def to_row(self, **facts: Any) -> RowSummary:
        """Returns the summary of the row."""
        ways, n_episodes = self._ways, self._ways.total()
        # exact, so that the order of the records does not matter
        chances = (Fraction(1 / way) * count for way, count in ways.items())
        return RowSummary(
            accuracies=self._accuracies,
            failed=n_episodes - len(self._accuracies),
            seconds_per_episode=median(self._seconds) if self._seconds else 0.0,
            peak_memory_mb=self._memory,
            shared=self._clips_shared,
            ways=(min(ways), max(ways)) if ways else (0, 0),
            chance=float(sum(chances) / n_episodes) if ways else None,
            last_episode=self._last_episode,
            **display_facts(self._display_flags),
            **facts,
        )


def header_facts(header: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Attributes of a row that are in its header, but for the `marks`."""
    from fewshot_i2v.config.method import MethodSpec

    config = header["identity"]["config"]
    return {
        "adapter": MethodSpec.model_validate(config["adapter"]).label,
        "head": MethodSpec.model_validate(config["head"]).label,
        "shot": config["shot"],
        "training_seed": config.get("training_seed"),
        "parameters": header.get("parameters", 0),
        "macs_per_clip": header.get("macs_per_clip"),
        "planned": header.get("planned"),
        "folder": folder,
        "header": header,
    }


def display_facts(display_flags: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a row that are in the `marks` of its header."""
    start = display_flags.get("start") or {}
    return {
        "note": display_flags.get("note", ""),
        "uses_names": display_flags.get("uses_names", False),
        "start": start.get("kind", FRESH),
        "start_name": start.get("name", ""),
        "seen": bool(start.get("seen")),
        "learns_nothing": display_flags.get("learns_nothing", False),
        "toy_encoder": display_flags.get("toy_encoder", False),
    }


def group_seeds(rows: Sequence[RowSummary]) -> list[list[int]]:
    """Positions of rows that differ only in the training seed, in the order of their first row."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        groups[i if row.training_seed is None else row.seed_group_key].append(i)
    return list(groups.values())


def merge_seeds(rows: Sequence[RowSummary]) -> list[RowSummary]:
    """Merge rows that differ only in the training seed, at the position of the first.

    The accuracy of an episode is the mean over the seeds, for the episodes that succeeded with
    every one of them. Rows without a training seed stay as they are.
    """
    return [average_rows([rows[i] for i in group]) for group in group_seeds(rows)]


def average_rows(rows: Sequence[RowSummary]) -> RowSummary:
    """Merge rows of the same setting into one, as `merge_seeds` does."""
    if len(rows) == 1:
        return rows[0]
    common = set.intersection(*(set(row.accuracies) for row in rows))
    times = [r.seconds_per_episode for r in rows if r.seconds_per_episode is not None]
    peaks = [r.peak_memory_mb for r in rows if r.peak_memory_mb is not None]
    means = tuple(fmean(row.accuracies[i] for i in common) for row in rows) if common else ()
    return replace(
        rows[0],
        accuracies={i: fmean(row.accuracies[i] for row in rows) for i in sorted(common)},
        failed=max(row.failed for row in rows),
        seconds_per_episode=median(times) if times else None,
        peak_memory_mb=max(peaks, default=None),
        training_seed=None,
        seed_means=means,
        seed_folders=tuple(row.folder for row in rows[1:]),
        header=_merged_header(rows),
    )


def _merged_header(rows: Sequence[RowSummary]) -> Mapping[str, Any]:
    """Header of the first row, with the training seeds of all."""
    header = rows[0].header
    if not header:
        return header
    seeds = ", ".join(str(row.training_seed) for row in rows)
    config = {**rows[0].config, "training_seed": seeds}
    return {**header, "identity": {**rows[0].identity, "config": config}}


def check_duplicate_seeds(rows: Iterable[RowSummary]) -> None:
    """Refuse a row that occurs twice, such as a copy of its folder, which would count double.

    Raises:
        UsageError: naming both folders.
    """
    folder_by_seed: dict[tuple[Hashable, int], Path] = {}
    for row in rows:
        if row.training_seed is None:
            continue
        seed = row.training_seed
        first_folder = folder_by_seed.setdefault((row.seed_group_key, seed), row.folder)
        if first_folder != row.folder:
            raise UsageError(
                f"{first_folder} and {row.folder} are one row with the same training seed {seed}, "
                "which would count twice; move one of them out of that folder"
            )


def _setting_of(row: RowSummary) -> tuple[object, ...]:
    return row.head, row.class_texts, row.shot


def baseline_of(row: RowSummary, rows: Sequence[RowSummary]) -> RowSummary | None:
    """The row of the frozen encoder with the same head, texts, shot and some of the same episodes.

    A row of the frozen encoder is its own baseline.
    """
    for candidate in rows:
        is_same = _setting_of(candidate) == _setting_of(row)
        if candidate.is_frozen and is_same and row.accuracies.keys() & candidate.accuracies:
            return candidate
    return None


def gain_over_frozen(row: RowSummary, rows: Sequence[RowSummary]) -> Interval | None:
    """Paired difference to the frozen encoder over the episodes that both have, -1..1.

    None for the frozen encoder itself, and where it has not run any of the same episodes.
    """
    frozen = None if row.is_frozen else baseline_of(row, rows)
    if frozen is None:
        return None
    common = sorted(row.accuracies.keys() & frozen.accuracies.keys())
    a, b = ([member.accuracies[i] for i in common] for member in (row, frozen))
    return without_too_few_episodes(paired_difference(a, b, clips_shared=row.shared))


def has_starts(rows: Sequence[RowSummary]) -> bool:
    """Whether any row has a starting point, so that the table needs the column of starts."""
    return any(row.start != FRESH for row in rows)
