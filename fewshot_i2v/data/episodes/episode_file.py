"""Files of fixed episodes, so that another program can run the same ones.

A file of JSON Lines. The first line describes the episodes and names all classes and clips;
each further line is one episode, by the positions of these names:

    {"format": "fewshot-i2v episodes", "version": 1, "split": {...}, "classes": [...], ...}
    {"index": 0, "classes": [3, 17], "support": [[12], [190]], "query": [[7, 9], [188, 201]]}

A file whose name ends in .gz is compressed.
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

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import EpisodeError
from fewshot_i2v.utils.files import write_atomic
from fewshot_i2v.utils.input_files import open_regular, parse_json

FORMAT = "fewshot-i2v episodes"
_VERSION = 1
MAX_EPISODES = 1_000_000
"""In one file."""
_MAX_BYTES = 1 << 30
_MAX_LINE_BYTES = 32 << 20


@dataclass(frozen=True)
class EpisodeFile:
    """The content of a file of episodes.

    Attributes:
        split_name: name of the split.
        split_digest: its digest.
        subset: the subset that queries come from.
        episodes: the episodes, numbered from 0.
        settings: how they were sampled, in plain types.
    """

    split_name: str
    split_digest: str
    subset: str
    episodes: Sequence[Episode]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of episodes."""
        return len(self.episodes)

    @cached_property
    def max_shape(self) -> tuple[int, int, int]:
        """Largest number of classes, support clips and query clips of an episode."""
        ways, supports, queries = zip(*(episode.shape for episode in self.episodes), strict=True)
        return max(ways), max(supports), max(queries)

    def __getitem__(self, index: int) -> Episode:
        """Return episode `index`.

        Raises:
            EpisodeError: when it does not exist.
        """
        if not 0 <= index < len(self.episodes):
            raise EpisodeError(f"episode {index}: there are {len(self.episodes)}, from 0")
        return self.episodes[index]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the split's digest, the subset and all episodes."""
        digest = hashlib.sha256(f"{self.split_digest}\n{self.subset}\n".encode())
        for episode in self.episodes:
            digest.update(json.dumps(episode.to_dict(), sort_keys=True).encode())
        return digest.hexdigest()

    def check_split(self, split: Split) -> None:
        """Check that `split` is the one that the episodes were sampled from.

        Raises:
            EpisodeError: naming both, when the digests differ.
        """
        if split.digest != self.split_digest:
            raise EpisodeError(
                f"the episodes were drawn from split {self.split_name!r} with digest "
                f"{self.split_digest[:16]}...; {split.name!r} has {split.digest[:16]}...: it lists "
                "other classes or clips"
            )


def make_episode_file(
    split: Split, subset: str, episodes: Iterable[Episode], settings: Mapping[str, Any]
) -> EpisodeFile:
    """Collect episodes of a split for a file; see `EpisodeFile`.

    Raises:
        EpisodeError: when there are no episodes.
    """
    episode_tuple = tuple(episodes)
    if not episode_tuple:
        raise EpisodeError("there is no episode to be frozen; expected at least one")
    return EpisodeFile(split.name, split.digest, subset, episode_tuple, dict(settings))


def write_episode_file(
    episode_file: EpisodeFile, path: str | Path, *, overwrite: bool = False, names: bool = False
) -> None:
    """Write episodes to a file atomically; the same episodes give the same bytes.

    Args:
        episode_file: the episodes.
        path: the file; one that ends in .gz is compressed.
        overwrite: whether an existing file is replaced.
        names: write the names of clips in every line and no header, for other programs.

    Raises:
        EpisodeError: when the file exists, or cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise EpisodeError(f"{path}: is already there; give another name or say to overwrite it")
    data = "".join((_name_lines if names else _episode_lines)(episode_file)).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    write_atomic(path, data, EpisodeError)


def _name_lines(episode_file: EpisodeFile) -> Iterator[str]:
    for episode in episode_file.episodes:
        yield json.dumps(episode.to_dict(), ensure_ascii=False) + "\n"


def _episode_lines(episode_file: EpisodeFile) -> Iterator[str]:
    classes = sorted({name for episode in episode_file.episodes for name in episode.classes})
    clips = sorted({name for episode in episode_file.episodes for name in episode.clip_names()})
    class_number = {name: i for i, name in enumerate(classes)}
    clip_number = {name: i for i, name in enumerate(clips)}
    header = {
        "format": FORMAT,
        "version": _VERSION,
        "split": {"name": episode_file.split_name, "digest": episode_file.split_digest},
        "subset": episode_file.subset,
        "settings": dict(episode_file.settings),
        "episodes": episode_file.count,
        "digest": episode_file.digest,
        "classes": classes,
        "clips": clips,
    }
    yield json.dumps(header, ensure_ascii=False) + "\n"
    for episode in episode_file.episodes:
        line = {
            "index": episode.index,
            "classes": [class_number[name] for name in episode.classes],
            "support": [[clip_number[name] for name in row] for row in episode.support],
            "query": [[clip_number[name] for name in row] for row in episode.query],
        }
        yield json.dumps(line, separators=(",", ":")) + "\n"


def read_episode_file(path: str | Path) -> EpisodeFile:
    """Read episodes from a file and check their digest.

    Raises:
        EpisodeError: when the file cannot be read, is no file of episodes, or is damaged.
    """
    path = Path(path)
    lines = _read_lines(path)
    header = _parse_header(path, next(lines, ""))
    raw_lines: list[bytes] = []
    try:
        count = min(int(header["episodes"]), MAX_EPISODES)
        in_order = True
        for line in lines:
            episode = _parse_episode(parse_json(line), header["classes"], header["clips"])
            in_order = episode.index == len(raw_lines) < count
            if not in_order:
                break
            raw_lines.append(line.encode())
        identity = header["split"]["name"], header["split"]["digest"], header["subset"]
        episodes = _PackedEpisodes(raw_lines, header["classes"], header["clips"])
        episode_file = EpisodeFile(*identity, episodes, dict(header["settings"]))
        is_complete = (
            in_order and len(raw_lines) == count and episode_file.digest == header["digest"]
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        location = f"{path}: line {len(raw_lines) + 2}"
        raise EpisodeError(f"{location}: damaged: {error!r}; have it written again") from error
    if is_complete and not count:
        raise EpisodeError(f"{path}: has no episodes; expected at least one")
    if not is_complete:
        raise EpisodeError(
            f"{path}: damaged: its episodes are not those that were written (they have another "
            "digest or number); have it written again"
        )
    return episode_file


def _read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file; each is decompressed only when it is needed."""
    n_bytes_left = _MAX_BYTES
    try:
        with open_regular(path) as raw:
            file = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            while line := file.readline(_MAX_LINE_BYTES):
                n_bytes_left -= len(line)
                if n_bytes_left < 0 or len(line) == _MAX_LINE_BYTES:
                    limits = f"lines of {_MAX_LINE_BYTES} bytes and {_MAX_BYTES} in all"
                    raise ValueError(f"it is larger than what is read ({limits})")
                yield line.decode()
    except (OSError, EOFError, zlib.error, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EpisodeError(f"{path}: cannot be read: {reason}") from error


def _parse_header(path: Path, line: str) -> dict[str, Any]:
    try:
        header = parse_json(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise EpisodeError(
            f"{path}: expected a file written by `fewshot-i2v episodes freeze`; it begins with "
            f"{line[:40]!r}"
        )
    if header.get("version") != _VERSION:
        raise EpisodeError(
            f"{path}: version {header.get('version')!r}; this version of fewshot-i2v reads "
            f"{_VERSION}"
        )
    return header


class _PackedEpisodes(Sequence[Episode]):
    """Episodes as raw lines, parsed on access: they take a tenth of the memory."""

    def __init__(
        self, lines: Sequence[bytes], classes: Sequence[str], clips: Sequence[str]
    ) -> None:
        self._lines, self._names = lines, (classes, clips)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> Episode:  # type: ignore[override]  # no slices
        return _parse_episode(json.loads(self._lines[index]), *self._names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def _parse_episode(
    line: Mapping[str, Any], classes: Sequence[str], clips: Sequence[str]
) -> Episode:
    return Episode(
        index=line["index"],
        classes=tuple(classes[c] for c in line["classes"]),
        support=tuple(tuple(clips[i] for i in row) for row in line["support"]),
        query=tuple(tuple(clips[i] for i in row) for row in line["query"]),
    )
