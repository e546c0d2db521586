"""Tuples of frames: their keys and values, and a clip's distance from the tuples of a class."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewshot_i2v.adapters._layers import EpisodeLayerNorm, kaiming_uniform, per_episode
from fewshot_i2v.encoders.tower import LayerNorm

_AMPLITUDE = 0.1
_LONGEST_WAVE = 10_000.0


def position_codes(frames: int, width: int) -> Tensor:
    """What is added to the features of each frame, (frames, width) float32.

    Sines on even channels and cosines on odd ones, of wavelengths from 2 pi frames up to 10,000
    times that, with the amplitude of the authors' code (`pe_scale_factor=0.1` in `model.py` of
    https://github.com/tobyperrett/trx); the paper gives none.
    """
    rates = _LONGEST_WAVE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(frames, dtype=torch.float64).unsqueeze(-1) * rates
    pairs = torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)
    return (_AMPLITUDE * pairs[:, :width]).float()


class TupleMaps(nn.Module):
    """Keys and values of all ordered tuples of n frames of a clip, per episode.

    A linear map of n concatenated frames is the sum of n maps of one frame each. So each frame is
    mapped once per place in a tuple, and the results are added up per tuple.

    The values have no bias: it cancels in the distance of a value from a weighted mean of values.

    Args:
        generators: one per episode; E of them.
        frames: frames T of a clip.
        size: frames n of a tuple, at most T.
        width: channels D of a frame.
        channels: channels C of keys and values.

    Attributes:
        key: (E, n D, C); key_bias: (E, C).
        norm: layer norm of the keys, per episode.
        value: (E, n D, C).
    """

    places: Tensor

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        *,
        frames: int,
        size: int,
        width: int,
        channels: int,
    ) -> None:
        super().__init__()
        episodes, self.size = len(generators), size
        self.key, self.value = (
            nn.Parameter(per_episode(kaiming_uniform, generators, size * width, channels))
            for _ in range(2)
        )
        self.key_bias = nn.Parameter(torch.zeros(episodes, channels))
        self.norm = EpisodeLayerNorm(
            LayerNorm(torch.ones(channels), torch.zeros(channels)), episodes
        )
        tuples = torch.tensor(list(itertools.combinations(range(frames), size)))
        places = torch.zeros(len(tuples), frames, size)
        places[torch.arange(len(tuples)).unsqueeze(-1), tuples, torch.arange(size)] = 1.0
        self.register_buffer("places", places.flatten(1), persistent=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of frames (E, clips, T, D), each (E, clips, tuples, C)."""
        keys = self._tuples(frames, self.key) + self.key_bias[:, None, None, :]
        return self.norm(keys), self._tuples(frames, self.value)

    def _tuples(self, frames: Tensor, weight: Tensor) -> Tensor:
        episodes, clips, length, width = frames.shape
        per_place = weight.reshape(episodes, self.size, width, -1).transpose(1, 2).flatten(2)
        mapped = frames.flatten(1, 2) @ per_place
        return self.places @ mapped.reshape(episodes, clips, length * self.size, -1)


class Slots:
    """The support clips sorted by class, with empty slots where a class has fewer than another.

    Args:
        members: as `one_hot` gives them, (E, S, way).

    Attributes:
        clip: support clip of each slot, (E, way, K) int64; any in an empty one.
        filled: (E, way, K) bool.
    """

    def __init__(self, members: Tensor) -> None:
        counts = members.sum(-2)
        most = int(counts.max())
        order = members.mT.argsort(dim=-1, descending=True, stable=True)
        self.clip = order[..., :most]
        self.filled = torch.arange(most, device=members.device) < counts.unsqueeze(-1)

    def sort(self, x: Tensor) -> Tensor:
        """Rows of each support clip (E, S, n, C) by class, (E, way, K n, C)."""
        episode = torch.arange(len(x), device=x.device)[:, None, None]
        return x[episode, self.clip].flatten(2, 3)

    def usable(self, pairs: Tensor | None = None) -> Tensor:
        """Which slots each clip may look at, (E, way, A or 1, K) bool.

        Args:
            pairs: which support clips it may look at, (E, A, S) bool; None: all.
        """
        filled = self.filled.unsqueeze(2)
        if pairs is None:
            return filled
        episode = torch.arange(len(pairs), device=pairs.device)[:, None, None]
        return filled & pairs.mT[episode, self.clip].mT


def tuple_distances(
    query: tuple[Tensor, Tensor], support: tuple[Tensor, Tensor], usable: Tensor
) -> Tensor:
    """Distance of each clip to what its tuples find among the tuples of each class.

    Each tuple of the query clip takes the mean of the class's values, weighted by a softmax over
    the products of keys divided by sqrt(C). The distance is the squared distance of its own value
    from that, per channel, averaged over its tuples.

    Args:
        query: keys and values, each (E, Q, n, C).
        support: keys and values by class, each (E, way, K n, C).
        usable: which of the K clips count, (E, way, Q or 1, K) bool, one at least.

    Returns:
        (E, Q, way).
    """
    (episodes, clips, tuples, channels), shots = query[0].shape, usable.shape[-1]
    keys, values = (x.flatten(1, 2).unsqueeze(1) for x in query)
    products = keys @ (support[0] / math.sqrt(channels)).mT
    per_clip = products.reshape(episodes, -1, clips, tuples, shots, tuples)
    masked = per_clip.masked_fill(~usable[:, :, :, None, :, None], -math.inf)
    found = masked.reshape(products.shape).softmax(-1) @ support[1]
    squares = (values - found).square().mean(-1)
    return squares.reshape(episodes, -1, clips, tuples).mean(-1).mT
