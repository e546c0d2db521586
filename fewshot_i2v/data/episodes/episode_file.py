"""Episodes in a file: what another program needs to run the same ones.

A file of JSON Lines. The first line says what the episodes are and names all classes and clips;
each further line is one episode, by the numbers of these names:

    {"format": "fewshot-i2v episodes", "version": 1, "split": {...}, "classes": [...], ...}
    {"index": 0, "classes": [3, 17], "support": [[12], [190]], "query": [[7, 9], [188, 201]]}

A name that ends in .gz is a compressed file.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import EpisodeError
from fewshot_i2v.utils.files import write_whole
from fewshot_i2v.utils.input_files import open_regular, parse_json

FORMAT = "fewshot-i2v episodes"
_VERSION = 1
MOST_EPISODES = 1_000_000
"""In one file."""
_MOST_BYTES = 1 << 30
_LONGEST_LINE = 32 << 20


@dataclass(frozen=True)
class FrozenEpisodes:
    """Episodes that were written down.

    Attributes:
        split: name of the split.
        split_digest: its digest.
        subset: the subset that queries come from.
        episodes: the episodes, numbered from 0.
        settings: how they were drawn, in plain types.
    """

    split: str
    split_digest: str
    subset: str
    episodes: Sequence[EpisodeSpec]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many episodes there are."""
        return len(self.episodes)

    @cached_property
    def largest(self) -> tuple[int, int, int]:
        """Most classes, support clips and query clips of an episode."""
        ways, supports, queries = zip(*(spec.shape for spec in self.episodes), strict=True)
        return max(ways), max(supports), max(queries)

    def __getitem__(self, index: int) -> EpisodeSpec:
        """Episode `index`.

        Raises:
            EpisodeError: when there is none.
        """
        if not 0 <= index < len(self.episodes):
            raise EpisodeError(f"episode {index}: there are {len(self.episodes)}, from 0")
        return self.episodes[index]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the split's digest, the subset and all episodes."""
        digest = hashlib.sha256(f"{self.split_digest}\n{self.subset}\n".encode())
        for spec in self.episodes:
            digest.update(json.dumps(spec.to_dict(), sort_keys=True).encode())
        return digest.hexdigest()

    def check_fits(self, split: Split) -> None:
        """Refuses another split than the one that the episodes were drawn from.

        Raises:
            EpisodeError: naming both.
        """
        if split.digest != self.split_digest:
            raise EpisodeError(
                f"the episodes were drawn from split {self.split!r} with digest "
                f"{self.split_digest[:16]}...; {split.name!r} has {split.digest[:16]}...: it lists "
                "other classes or clips"
            )


def freeze(
    split: Split, subset: str, episodes: Iterable[EpisodeSpec], settings: Mapping[str, Any]
) -> FrozenEpisodes:
    """Episodes of a split, to be written down; see `FrozenEpisodes`.

    Raises:
        EpisodeError: when there is none.
    """
    specs = tuple(episodes)
    if not specs:
        raise EpisodeError("there is no episode to be frozen; expected at least one")
    return FrozenEpisodes(split.name, split.digest, subset, specs, dict(settings))


def write_frozen(frozen: FrozenEpisodes, path: str | Path, *, overwrite: bool = False) -> None:
    """Writes episodes to a file, whole or not at all; the same episodes give the same bytes.

    Raises:
        EpisodeError: when the file is there, or cannot be written.
    """
    _write(_lines(frozen), path, overwrite=overwrite)


def write_names(frozen: FrozenEpisodes, path: str | Path, *, overwrite: bool = False) -> None:
    """Writes episodes for other programs: JSON Lines with the names themselves, no first line.

    Raises:
        EpisodeError: when the file is there, or cannot be written.
    """
    lines = (json.dumps(spec.to_dict(), ensure_ascii=False) + "\n" for spec in frozen.episodes)
    _write(lines, path, overwrite=overwrite)


def _write(lines: Iterable[str], path: str | Path, *, overwrite: bool) -> None:
    path = Path(path)
    if path.exists() and not overwrite:
        raise EpisodeError(f"{path}: is already there; give another name or say to overwrite it")
    data = "".join(lines).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    write_whole(path, data, EpisodeError)


def _lines(frozen: FrozenEpisodes) -> Iterator[str]:
    classes = sorted({name for spec in frozen.episodes for name in spec.classes})
    clips = sorted({name for spec in frozen.episodes for name in spec.clips()})
    class_number = {name: i for i, name in enumerate(classes)}
    clip_number = {name: i for i, name in enumerate(clips)}
    head = {
        "format": FORMAT,
        "version": _VERSION,
        "split": {"name": frozen.split, "digest": frozen.split_digest},
        "subset": frozen.subset,
        "settings": dict(frozen.settings),
        "episodes": frozen.count,
        "digest": frozen.digest,
        "classes": classes,
        "clips": clips,
    }
    yield json.dumps(head, ensure_ascii=False) + "\n"
    for spec in frozen.episodes:
        line = {
            "index": spec.index,
            "classes": [class_number[name] for name in spec.classes],
            "support": [[clip_number[name] for name in row] for row in spec.support],
            "query": [[clip_number[name] for name in row] for row in spec.query],
        }
        yield json.dumps(line, separators=(",", ":")) + "\n"


def read_head(path: Path) -> dict[str, Any]:
    """The first line of a file of episodes.

    Raises:
        EpisodeError: when it is no such file.
    """
    return _head(path, next(_read_lines(path), ""))


def read_frozen(path: str | Path) -> FrozenEpisodes:
    """Reads episodes and checks their digest.

    Raises:
        EpisodeError: when the file cannot be read, is no file of episodes, or is damaged.
    """
    path = Path(path)
    lines = _read_lines(path)
    head = _head(path, next(lines, ""))
    kept: list[bytes] = []
    try:
        count = min(int(head["episodes"]), MOST_EPISODES)
        in_turn = True
        for line in lines:
            spec = _spec(parse_json(line), head["classes"], head["clips"])
            in_turn = spec.index == len(kept) < count
            if not in_turn:
                break
            kept.append(line.encode())
        named = head["split"]["name"], head["split"]["digest"], head["subset"]
        episodes = _Packed(kept, head["classes"], head["clips"])
        frozen = FrozenEpisodes(*named, episodes, dict(head["settings"]))
        whole = in_turn and len(kept) == count and frozen.digest == head["digest"]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        where = f"{path}: line {len(kept) + 2}"
        raise EpisodeError(f"{where}: damaged: {error!r}; have it written again") from error
    if whole and not count:
        raise EpisodeError(f"{path}: has no episodes; expected at least one")
    if not whole:
        raise EpisodeError(
            f"{path}: damaged: its episodes are not those that were written (they have another "
            "digest or number); have it written again"
        )
    return frozen


def _read_lines(path: Path) -> Iterator[str]:
    """The lines of a file, unpacked while they are asked for, so that none is unpacked in vain."""
    left = _MOST_BYTES
    try:
        with open_regular(path) as raw:
            file = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            while line := file.readline(_LONGEST_LINE):
                left -= len(line)
                if left < 0 or len(line) == _LONGEST_LINE:
                    most = f"lines of {_LONGEST_LINE} bytes and {_MOST_BYTES} in all"
                    raise ValueError(f"it is larger than what is read ({most})")
                yield line.decode()
    except (OSError, EOFError, zlib.error, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise EpisodeError(f"{path}: cannot be read: {said}") from error


def _head(path: Path, line: str) -> dict[str, Any]:
    try:
        head = parse_json(line)
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise EpisodeError(
            f"{path}: expected a file written by `fewshot-i2v episodes freeze`; it begins with "
            f"{line[:40]!r}"
        )
    if head.get("version") != _VERSION:
        raise EpisodeError(
            f"{path}: version {head.get('version')!r}; this version of fewshot-i2v reads {_VERSION}"
        )
    return head


class _Packed(Sequence[EpisodeSpec]):
    """Episodes as lines of a file, each taken apart when it is asked for: a tenth of the memory."""

    def __init__(
        self, lines: Sequence[bytes], classes: Sequence[str], clips: Sequence[str]
    ) -> None:
        self._lines, self._names = lines, (classes, clips)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> EpisodeSpec:  # type: ignore[override]  # no slices
        return _spec(json.loads(self._lines[index]), *self._names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def _spec(line: Mapping[str, Any], classes: Sequence[str], clips: Sequence[str]) -> EpisodeSpec:
    return EpisodeSpec(
        index=line["index"],
        classes=tuple(classes[c] for c in line["classes"]),
        support=tuple(tuple(clips[i] for i in row) for row in line["support"]),
        query=tuple(tuple(clips[i] for i in row) for row in line["query"]),
    )
