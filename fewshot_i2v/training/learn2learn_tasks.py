"""Episodes as learn2learn tasks: an object like its `Taskset`, without a need for learn2learn.

A learn2learn loop calls `sample()`, or indexes, or iterates, and gets one task as `(data, labels)`.
Its published loops then use every second clip for adaptation, `2 * i for i in range(shots * ways)`,
and the remaining ones for evaluation. The layout here makes these the support and the query clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.int_range import require_int
from fewshot_i2v.errors import EpisodeError
from fewshot_i2v.tuning.run_context import RunContext

Encode = Callable[[Sequence[str]], Tensor]
"""From names of n clips to what a model takes of them, (n, ...)."""


class EpisodeTasks:
    """The first `count` episodes of a sampler as tasks.

    Task i is episode i, at any time and on any machine. Only `sample` draws random numbers, from
    its private generator.

    Args:
        sampler: source of the episodes; at least as many query as support clips per class, because
            a learn2learn loop leaves one clip for evaluation beside each one for adaptation.
        encode: returns the data of clips, by name.
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
        require_int("count", count, 1)
        require_int("seed", seed, 0)
        self.sampler, self.encode, self.count = sampler, encode, count
        self._generator = torch.Generator().manual_seed(seed)

    @classmethod
    def of_pixels(
        cls, context: RunContext, sampler: EpisodeSampler, *, count: int, seed: int = 0
    ) -> EpisodeTasks:
        """Makes tasks of normalised pixels, (n, T, 3, H, W), on the device of the encoder.

        Clips are generated and decoded when a task first needs them.

        Args:
            context: split, encoder and clips; the split must be the sampler's.
            sampler: source of the episodes.
            count: number of tasks, at least 1.
            seed: of `sample`.
        """

        def _pixels(names: Sequence[str]) -> Tensor:
            context.decode_clips(names, progress=False)
            bad = [context.unreadable[name] for name in names if name in context.unreadable]
            if bad:
                raise bad[0]
            stacked = np.stack([context.frames(name) for name in names])
            return context.encoder.tower.normalize(torch.from_numpy(stacked))

        return cls(sampler, _pixels, count=count, seed=seed)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns task `index`.

        Args:
            index: 0 to `len - 1`.

        Returns:
            Data of the way * (shot + query) clips, (n, ...), and their labels 0..way-1, (n,) int64
            on the same device. Within each class support and query clips alternate; query clips
            beyond the number of shots come last. So clips 0, 2, 4, ... 2 * (way * shot - 1) are the
            support.

        Raises:
            IndexError: for other indices; iteration ends there.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"task {index}: there are tasks 0 to {self.count - 1}")
        names, labels = _interleave_clips(self.sampler[index])
        data = self.encode(names)
        return data, torch.tensor(labels, device=data.device)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self[index] for index in range(self.count))

    def sample(self) -> tuple[Tensor, Tensor]:
        """Returns a random task, in the form of `[i]`."""
        return self[int(torch.randint(self.count, (), generator=self._generator))]


def _interleave_clips(episode: Episode) -> tuple[list[str], list[int]]:
    """Clip names and labels in the order that `EpisodeTasks` documents."""
    names: list[str] = []
    labels: list[int] = []
    remaining: list[tuple[str, int]] = []
    for label, (support, query) in enumerate(zip(episode.support, episode.query, strict=True)):
        for support_clip, query_clip in zip(support, query, strict=False):
            names += [support_clip, query_clip]
            labels += [label, label]
        remaining += [(name, label) for name in query[len(support) :]]
    return names + [name for name, _ in remaining], labels + [label for _, label in remaining]
