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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fewshot_i2v.episodes._whole_file import write_whole
from fewshot_i2v.episodes.spec import EpisodeSpec
from fewshot_i2v.episodes.split import Split
from fewshot_i2v.errors import EpisodeError

FORMAT = "fewshot-i2v episodes"
_VERSION = 1
_MOST_BYTES = 1 << 30


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
    episodes: tuple[EpisodeSpec, ...]
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
    return _head(path, _text(path, first=True)[0])


def read_frozen(path: str | Path) -> FrozenEpisodes:
    """Reads episodes and checks their digest.

    Raises:
        EpisodeError: when the file cannot be read, is no file of episodes, or is damaged.
    """
    path = Path(path)
    lines = _text(path)
    head = _head(path, lines[0])
    try:
        classes, clips = head["classes"], head["clips"]
        frozen = FrozenEpisodes(
            head["split"]["name"],
            head["split"]["digest"],
            head["subset"],
            tuple(_spec(json.loads(line), classes, clips) for line in lines[1:]),
            dict(head["settings"]),
        )
        count, whole = int(head["episodes"]), frozen.digest == head["digest"]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise EpisodeError(f"{path}: damaged: {error!r}; have it written again") from error
    if whole and not count and not frozen.episodes:
        raise EpisodeError(f"{path}: has no episodes; expected at least one")
    if not whole or [spec.index for spec in frozen.episodes] != list(range(count)):
        raise EpisodeError(
            f"{path}: damaged: its episodes are not those that were written (they have another "
            "digest or number); have it written again"
        )
    return frozen


def _text(path: Path, *, first: bool = False) -> list[str]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            text = file.readline() if first else file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise EpisodeError(f"{path}: cannot be read: {said}") from error
    if len(text) > _MOST_BYTES:
        raise EpisodeError(f"{path}: is larger than {_MOST_BYTES} characters")
    return text.splitlines() or [""]


def _head(path: Path, line: str) -> dict[str, Any]:
    try:
        head = json.loads(line)
    except (ValueError, RecursionError):
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


def _spec(line: Mapping[str, Any], classes: Sequence[str], clips: Sequence[str]) -> EpisodeSpec:
    return EpisodeSpec(
        index=line["index"],
        classes=tuple(classes[c] for c in line["classes"]),
        support=tuple(tuple(clips[i] for i in row) for row in line["support"]),
        query=tuple(tuple(clips[i] for i in row) for row in line["query"]),
    )
