"""Kinds of episode behind one call: independent, disjoint, published draws, frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from fewshot_i2v.data.episodes.disjoint import DisjointSampler
from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.int_range import Number
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import EpisodeError, UnknownNameError
from fewshot_i2v.utils import resources

Sampling = Literal["independent", "disjoint"]
_ENDINGS = (".jsonl", ".jsonl.gz")


class Episodes(Protocol):
    """Episodes by number."""

    @property
    def count(self) -> int | None:
        """How many there are; None: without end."""

    @property
    def largest(self) -> tuple[int, int, int]:
        """Most classes, support clips and query clips of an episode."""

    def __getitem__(self, index: int) -> EpisodeSpec:
        """Episode `index`, from 0."""


def episodes_of(
    split: Split,
    *,
    seed: int,
    way: Number,
    shot: Number,
    query: Number,
    subset: str = "novel",
    sampling: Sampling = "independent",
    disjoint_groups: bool = False,
    uneven_shots: bool = False,
    draws: str | None = None,
    partitions: int = 1,
) -> Episodes:
    """Episodes of one kind; see `EpisodeSampler` and `DisjointSampler` for the arguments.

    Args:
        split: the split.
        seed: 0 or more.
        way: classes of an episode.
        shot: support clips of each class.
        query: query clips of each class.
        subset: where query clips come from.
        sampling: "independent": clips are in any number of episodes; "disjoint": in at most one.
        disjoint_groups: support and query of an episode share no group.
        uneven_shots: each class has its own number of shots; `shot` is a range.
        draws: published draws, by name.
        partitions: of disjoint episodes.

    Raises:
        EpisodeError: when the split cannot give such episodes, or what is asked for does not go
            together.
        UnknownNameError: for a subset or draws that the split does not have.
    """
    if uneven_shots and isinstance(shot, int):
        raise EpisodeError(f"uneven_shots: expected a range of shots such as 1-5; got {shot}")
    if sampling == "independent":
        if partitions != 1:
            raise EpisodeError("partitions: they are of disjoint episodes; give sampling disjoint")
        return EpisodeSampler(
            split,
            seed=seed,
            way=way,
            shot=shot,
            query=query,
            subset=subset,
            disjoint_groups=disjoint_groups,
            uneven_shots=uneven_shots,
            draws=draws,
        )
    apart = {"disjoint_groups": disjoint_groups, "uneven_shots": uneven_shots, "draws": draws}
    given = [name for name, value in apart.items() if value]
    if given:
        raise EpisodeError(f"{given[0]}: not together with sampling disjoint")
    return DisjointSampler(
        split, seed=seed, way=way, shot=shot, query=query, subset=subset, partitions=partitions
    )


def find_trials(name_or_path: str | Path) -> Path:
    """The file of frozen episodes.

    Args:
        name_or_path: a file, or the name of one that is shipped.

    Raises:
        UnknownNameError: when there is neither.
    """
    text = str(name_or_path)
    if Path(text).is_file():
        return Path(text)
    folder = resources.data_folder("episodes") / "trials"
    if isinstance(name_or_path, Path) or text.endswith(_ENDINGS) or "/" in text or "\\" in text:
        return Path(text)
    names = sorted(path.name.partition(".")[0] for path in folder.glob("*.jsonl*"))
    if text not in names:
        hint = "A file written by `fewshot-i2v episodes freeze` works too."
        raise UnknownNameError("trials", text, names, hint)
    return next(path for path in folder.glob("*.jsonl*") if path.name.partition(".")[0] == text)
