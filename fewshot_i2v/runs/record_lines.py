"""The records of an `episodes.jsonl`, each read from the file when it is asked for."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from pathlib import Path
from typing import BinaryIO

from fewshot_i2v.errors import RecordError
from fewshot_i2v.runs.episode_record import EpisodeRecord, from_line, glance, lasting
from fewshot_i2v.runs.journal import complete_lines


class RecordLines(Mapping[int, EpisodeRecord]):
    """The record of each episode, by index, in the order in which they were recorded.

    A failed record gives way to a later one of its episode, one that is ok never does. What is kept
    in memory is where the lines begin, so that a run may have 100,000 of them.

    Args:
        path: the file; an absent one has no records. Lines may be added to it meanwhile.
        key: fingerprint of the run.

    Attributes:
        failed: the episodes whose record says that they failed.

    Raises:
        RecordError: when a line is damaged (naming it), or an episode has two results. The values
            in a line are checked when it is read, and raise then.
    """

    def __init__(self, path: Path, key: int) -> None:
        self.path, self._key = path, key
        self._places: dict[int, int] = {}
        self.failed: set[int] = set()
        place = 0
        for number, line in complete_lines(path):
            try:
                text = lasting(line, key)
                index, ok = glance(text)
            except ValueError as error:
                raise _damage(f"{path}:{number}", error) from error
            if index not in self._places or index in self.failed:
                self.note(index, place, ok=ok)
            elif lasting(self._line(index), key) != text:
                raise second_result(f"{path}:{number}", index)
            place += len(line) + 1

    def note(self, index: int, place: int, *, ok: bool) -> None:
        """Take up a line that was added to the file.

        Args:
            index: of its episode.
            place: where it begins, in bytes.
            ok: whether the episode succeeded.
        """
        self._places[index] = place
        (self.failed.discard if ok else self.failed.add)(index)

    def read(self, indices: Iterable[int]) -> Iterator[EpisodeRecord]:
        """The records of some episodes, one after the other; at any time one is in memory.

        Raises:
            KeyError: when there is none of an episode.
            RecordError: when a line holds what no record does (naming it).
        """
        for index, line in self.lines(indices):
            try:
                record = from_line(line, self._key)
                if record.index != index:
                    raise ValueError("its index is written twice")
            except ValueError as error:
                raise self.damage(index, error) from error
            yield record

    def lines(self, indices: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """As `read`, the lines as they are."""
        file: BinaryIO | None = None
        at = 0
        try:
            for index in indices:
                place = self._places[index]
                file = file or self.path.open("rb", buffering=1 << 18)
                if at != place:
                    file.seek(place)
                line = file.readline()
                at = place + len(line)
                yield index, line
        except OSError as error:
            raise RecordError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        finally:
            if file is not None:
                file.close()

    def damage(self, index: int, error: Exception) -> RecordError:
        """The error that says what is wrong with the line of an episode, and which line it is."""
        left, number = self._places[index], 1
        with self.path.open("rb") as file:
            while left > 0 and (block := file.read(min(left, 1 << 20))):
                left, number = left - len(block), number + block.count(b"\n")
        return _damage(f"{self.path}:{number}", error)

    def in_order(self) -> RecordLines:
        """The same in ascending order of the episodes."""
        self._places = dict(sorted(self._places.items()))
        return self

    def _line(self, index: int) -> bytes:
        return next(line for _, line in self.lines([index]))

    def __getitem__(self, index: int) -> EpisodeRecord:
        return next(self.read([index]))

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, index: object) -> bool:
        return index in self._places

    def values(self) -> ValuesView[EpisodeRecord]:
        """The records, read one after the other."""
        return _Values(self)

    def items(self) -> ItemsView[int, EpisodeRecord]:
        """Numbers and records, read one after the other."""
        return _Items(self)


class _Values(ValuesView[EpisodeRecord]):
    _mapping: RecordLines

    def __iter__(self) -> Iterator[EpisodeRecord]:
        return self._mapping.read(list(self._mapping))


class _Items(ItemsView[int, EpisodeRecord]):
    _mapping: RecordLines

    def __iter__(self) -> Iterator[tuple[int, EpisodeRecord]]:
        return ((record.index, record) for record in self._mapping.read(list(self._mapping)))


def second_result(where: str, index: int) -> RecordError:
    """The error of an episode that would have two results."""
    return RecordError(
        f"{where}: a second, different result of episode {index}, which has one already. "
        "Nothing was changed. An episode gives one result; compare the two, and remove one if it "
        "is in the file, or use another --output"
    )


def _damage(where: str, error: Exception) -> RecordError:
    return RecordError(
        f"{where}: damaged: {error}. Nothing was changed. Move this line out of the file and run "
        "the same command again: its episode will be computed again"
    )
