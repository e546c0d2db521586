"""One factory for all kinds of episodes: independent, disjoint, published draws, from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

from fewshot_i2v.data.episodes.disjoint import DisjointSampler
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.int_range import IntOrRange
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import EpisodeError, UnknownNameError
from fewshot_i2v.utils import resources

Sampling = Literal["independent", "disjoint"]
_EPISODE_FILE_SUFFIXES = (".jsonl", ".jsonl.gz")


class EpisodeSource(Protocol):
    """A sequence of episodes by number."""

    @property
    def count(self) -> int | None:
        """Number of episodes; None: unlimited."""

    @property
    def max_shape(self) -> tuple[int, int, int]:
        """Largest number of classes, support clips and query clips of an episode."""

    def __getitem__(self, index: int) -> Episode:
        """Return episode `index`, from 0."""


def make_sampler(
    split: Split,
    *,
    seed: int,
    way: IntOrRange,
    shot: IntOrRange,
    query: IntOrRange,
    subset: str = "novel",
    sampling: Sampling = "independent",
    disjoint_groups: bool = False,
    uneven_shots: bool = False,
    draws: str | None = None,
    partitions: int = 1,
) -> EpisodeSource:
    """Make a sampler of independent or disjoint episodes.

    With `sampling` "independent" clips are in any number of episodes, with "disjoint" in at most
    one of each of the `partitions`. The other arguments are those of `EpisodeSampler` and
    `DisjointSampler`.

    Raises:
        EpisodeError: when the split cannot give such episodes, or options exclude each other.
        UnknownNameError: for a subset or draws that the split does not have.
    """
    if uneven_shots and isinstance(shot, int):
        raise EpisodeError(f"uneven_shots: expected a range of shots such as 1-5; got {shot}")
    common: dict[str, Any] = {"seed": seed, "way": way, "shot": shot, "query": query}
    common["subset"] = subset
    independent_only: dict[str, Any] = {
        "disjoint_groups": disjoint_groups,
        "uneven_shots": uneven_shots,
        "draws": draws,
    }
    if sampling == "independent":
        if partitions != 1:
            raise EpisodeError("partitions: they are of disjoint episodes; give sampling disjoint")
        return EpisodeSampler(split, **common, **independent_only)
    conflicting = [name for name, value in independent_only.items() if value]
    if conflicting:
        raise EpisodeError(f"{conflicting[0]}: not together with sampling disjoint")
    return DisjointSampler(split, **common, partitions=partitions)


def find_episode_file(name_or_path: str | Path) -> Path:
    """Return the path of a file of episodes.

    Args:
        name_or_path: a file, or the name of one that is shipped.

    Raises:
        UnknownNameError: when neither exists.
    """
    text = str(name_or_path)
    if Path(text).is_file():
        return Path(text)
    folder = resources.data_folder("episodes") / "trials"
    if (
        isinstance(name_or_path, Path)
        or text.endswith(_EPISODE_FILE_SUFFIXES)
        or "/" in text
        or "\\" in text
    ):
        return Path(text)
    names = sorted(path.name.partition(".")[0] for path in folder.glob("*.jsonl*"))
    if text not in names:
        hint = "A file written by `fewshot-i2v episodes freeze` works too."
        raise UnknownNameError("trials", text, names, hint)
    return next(path for path in folder.glob("*.jsonl*") if path.name.partition(".")[0] == text)
