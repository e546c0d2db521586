"""Episodes as learn2learn's loops take them: an object like its `Taskset`, without needing it.

A learn2learn loop calls `sample()`, or indexes, or iterates, and gets one task as `(data, labels)`.
Its published loops then take every other clip for adaptation, `2 * i for i in range(shots * ways)`,
and the rest for evaluation. The layout here makes these the support and the query clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.errors import EpisodeError
from fewshot_i2v.tuning.run_context import Material

Encode = Callable[[Sequence[str]], Tensor]
"""From names of n clips to what a model takes of them, (n, ...)."""


class EpisodeTasks:
    """The first episodes of a sampler as tasks.

    Task i is episode i: the same whenever and wherever it is asked for. Only `sample` draws, from a
    generator of its own.

    Args:
        sampler: gives the episodes; at least as many query as support clips per class, because a
            learn2learn loop leaves one clip for evaluation beside each one for adaptation.
        encode: gives the data of clips, by name.
        count: number of tasks, at least 1.
        seed: of `sample`, 0 or more.

    Raises:
        EpisodeError: when there are fewer query than support clips, or `count` or `seed` is too
            small.
    """

    def __init__(
        self, sampler: EpisodeSampler, encode: Encode, *, count: int, seed: int = 0
    ) -> None:
        query, shot = sampler.query, sampler.shot
        if not (isinstance(query, int) and isinstance(shot, int) and query >= shot):
            raise EpisodeError(
                f"tasks for learn2learn need query >= shot, since its loops take every other clip "
                f"as support; got {sampler.shot} shots and {sampler.query} queries"
            )
        for name, value, least in (("count", count, 1), ("seed", seed, 0)):
            if value < least:
                raise EpisodeError(f"{name}: got {value}; expected a whole number from {least}")
        self.sampler, self.encode, self.count = sampler, encode, count
        self._generator = torch.Generator().manual_seed(seed)

    @classmethod
    def of_pixels(
        cls, material: Material, sampler: EpisodeSampler, *, count: int, seed: int = 0
    ) -> EpisodeTasks:
        """Tasks of normalised pixels, (n, T, 3, H, W), on the device of the encoder.

        Clips are generated and decoded when a task first asks for them.

        Args:
            material: split, encoder and clips; the split must be the sampler's.
            sampler: gives the episodes.
            count: number of tasks, at least 1.
            seed: of `sample`.
        """

        def _pixels(names: Sequence[str]) -> Tensor:
            material.prepare(names, progress=False)
            bad = [material.unreadable[name] for name in names if name in material.unreadable]
            if bad:
                raise bad[0]
            stacked = np.stack([material.frames(name) for name in names])
            return material.encoder.tower.pixels(torch.from_numpy(stacked))

        return cls(sampler, _pixels, count=count, seed=seed)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Task `index`.

        Args:
            index: 0 to `len - 1`.

        Returns:
            Data of the way * (shot + query) clips, (n, ...), and their labels 0..way-1, (n,) int64
            on the same device. Class by class a support and a query clip take turns; query clips
            beyond the number of shots come last. So clips 0, 2, 4, ... 2 * (way * shot - 1) are the
            support.

        Raises:
            IndexError: for other indices; iteration ends there.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"task {index}: there are tasks 0 to {self.count - 1}")
        names, labels = _in_turns(self.sampler[index])
        data = self.encode(names)
        return data, torch.tensor(labels, device=data.device)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self[index] for index in range(self.count))

    def sample(self) -> tuple[Tensor, Tensor]:
        """A task drawn at random, as `[i]` gives it."""
        return self[int(torch.randint(self.count, (), generator=self._generator))]


def _in_turns(spec: EpisodeSpec) -> tuple[list[str], list[int]]:
    """Clip names and labels in the order that `EpisodeTasks` documents."""
    names: list[str] = []
    labels: list[int] = []
    rest: list[tuple[str, int]] = []
    for label, (support, query) in enumerate(zip(spec.support, spec.query, strict=True)):
        for own, other in zip(support, query, strict=False):
            names += [own, other]
            labels += [label, label]
        rest += [(name, label) for name in query[len(support) :]]
    return names + [name for name, _ in rest], labels + [label for _, label in rest]
