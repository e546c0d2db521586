"""TRX: tuples of frames attend to those of a class, through trained maps (Perrett et al.)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from einops import rearrange
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.adapters.base.layers import (
    init_per_episode,
    initial_layer_norm,
    kaiming_uniform,
)
from fewshot_i2v.models.heads.base.features import comparable_pairs, one_hot, score_in_chunks
from fewshot_i2v.models.heads.base.head import Head, HeadOptions, Scorer
from fewshot_i2v.models.heads.base.labels import clips_per_class

_AMPLITUDE = 0.1
_LONGEST_WAVE = 10_000.0


def position_codes(frames: int, width: int) -> Tensor:
    """Sinusoidal position codes that are added to the frame features, (frames, width) float32.

    Sines on even channels and cosines on odd ones, of wavelengths from 2 pi frames up to 10,000
    times that, with the amplitude of the authors' code (`pe_scale_factor=0.1` in `model.py` of
    https://github.com/tobyperrett/trx); the paper gives none.
    """
    # in float64 and rounded once, so that the codes are the same wherever they are computed
    rates = _LONGEST_WAVE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(frames, dtype=torch.float64).unsqueeze(-1) * rates
    pairs = torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)
    return (_AMPLITUDE * pairs[:, :width]).float()


class TupleMaps(nn.Module):
    """Keys and values of all ordered tuples of n frames of a clip, per episode.

    A linear map of n concatenated frames is the sum of n maps of one frame each. So each frame is
    mapped once per position in a tuple, and the results are added up per tuple.

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

    tuple_positions: Tensor

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
            nn.Parameter(init_per_episode(kaiming_uniform, generators, size * width, channels))
            for _ in range(2)
        )
        self.key_bias = nn.Parameter(torch.zeros(episodes, channels))
        self.norm = initial_layer_norm(episodes, channels)
        tuples = torch.tensor(list(itertools.combinations(range(frames), size)))
        selection = torch.zeros(len(tuples), frames, size)
        selection[torch.arange(len(tuples)).unsqueeze(-1), tuples, torch.arange(size)] = 1.0
        self.register_buffer("tuple_positions", selection.flatten(1), persistent=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of frames (E, clips, T, D), each (E, clips, tuples, C)."""
        keys = self._map_tuples(frames, self.key) + self.key_bias[:, None, None, :]
        return self.norm(keys), self._map_tuples(frames, self.value)

    def _map_tuples(self, frames: Tensor, weight: Tensor) -> Tensor:
        weight_by_position = rearrange(weight, "e (n d) c -> e d (n c)", n=self.size)
        mapped = rearrange(frames, "e clips t d -> e (clips t) d") @ weight_by_position
        mapped = rearrange(
            mapped, "e (clips t) (n c) -> e clips (t n) c", t=frames.shape[2], n=self.size
        )
        return self.tuple_positions @ mapped


class ClassSlots:
    """Support clips sorted by class, with empty slots where a class has fewer clips.

    Args:
        labels: class of each support clip, (E, S) int64.
        members: output of `one_hot` for them, (E, S, way).

    Attributes:
        clip_index: support clip of each slot, (E, way, K) int64; arbitrary in an empty slot.
        filled: (E, way, K) bool.
    """

    def __init__(self, labels: Tensor, members: Tensor) -> None:
        # of the host's copy: a number of the device would be waited for
        max_shots = int(clips_per_class(labels, members.shape[-1]).max())
        order = members.mT.argsort(dim=-1, descending=True, stable=True)
        self.clip_index = order[..., :max_shots]
        self.filled = torch.arange(max_shots, device=members.device) < members.sum(-2).unsqueeze(-1)

    def sort_by_class(self, x: Tensor) -> Tensor:
        """Sorts the rows of each support clip (E, S, n, C) by class, (E, way, K n, C)."""
        episode = torch.arange(len(x), device=x.device)[:, None, None]
        return x[episode, self.clip_index].flatten(2, 3)

    def usable_slots(self, pairs: Tensor | None = None) -> Tensor:
        """Marks the slots that each clip may attend to, (E, way, A or 1, K) bool.

        Args:
            pairs: which support clips it may attend to, (E, A, S) bool; None: all.
        """
        filled = self.filled.unsqueeze(2)
        if pairs is None:
            return filled
        episode = torch.arange(len(pairs), device=pairs.device)[:, None, None]
        return filled & pairs.mT[episode, self.clip_index].mT


def tuple_distances(
    query: tuple[Tensor, Tensor], support: tuple[Tensor, Tensor], usable: Tensor
) -> Tensor:
    """Computes the distance of each query clip from the tuples of each class by attention.

    Each tuple of the query clip takes the mean of the class's values, weighted by a softmax over
    the products of keys divided by sqrt(C). The distance is the squared distance of the tuple's
    own value from that mean, per channel, averaged over the tuples of the clip.

    Args:
        query: keys and values, each (E, Q, n, C).
        support: keys and values by class, each (E, way, K n, C).
        usable: which of the K clips count, (E, way, Q or 1, K) bool, at least one.

    Returns:
        (E, Q, way).
    """
    tuples, channels = query[0].shape[-2:]
    keys, values = (rearrange(x, "e q n c -> e 1 (q n) c") for x in query)
    # products of C channels have a deviation of about sqrt(C); the keys are fewer than the products
    products = keys @ (support[0] / math.sqrt(channels)).mT
    per_clip = rearrange(products, "e way (q n) (k m) -> e way q n k m", n=tuples, m=tuples)
    # each row has a usable clip, so that no softmax is of minus infinity alone, which would be NaN
    masked = per_clip.masked_fill(~usable[:, :, :, None, :, None], -math.inf)
    attended = masked.reshape(products.shape).softmax(-1) @ support[1]
    squares = (values - attended).square().mean(-1)
    return rearrange(squares, "e way (q n) -> e way q n", n=tuples).mean(-1).mT


class TrxOptions(HeadOptions):
    """Options of the tuple head.

    Attributes:
        cardinalities: how many frames a tuple has, one or several different numbers of at least 1,
            none above the number of frames. A clip of T frames has T! / (n! (T - n)!) tuples of n
            frames, and time and memory grow with the square of that.
        channels: width of keys and values, 1152 as published, and never more than the n D channels
            of a tuple.
        temperature: above 0, factor of minus the squared distance per channel, so that one
            temperature fits every width. The published logits are minus the squared distance,
            summed over the channels and averaged over the cardinalities. `temperature=channels`
            gives these where keys and values have that many channels for every cardinality: where
            channels is at most n D with the smallest n. Above that, tuples of few frames have
            fewer, and no temperature gives sums for all cardinalities.
    """

    cardinalities: Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1)] = (2, 3)
    channels: PositiveInt = 1152
    temperature: float = Field(default=10.0, gt=0, allow_inf_nan=False)

    @field_validator("cardinalities")
    @classmethod
    def _check_unique(cls, cardinalities: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(cardinalities)) < len(cardinalities):
            raise ValueError(f"each cardinality counts once; got {list(cardinalities)}")
        return cardinalities


class TrxHead(Head):
    """Logits are minus the distance of a clip's tuples from a class's, which attention selects.

    Tuples are all ordered choices of n frames, after sinusoidal position codes are added to the
    frames; a class offers the tuples of all its support clips, and may have any number of them. The
    distances of the cardinalities are averaged. Keys have a layer norm. There is no dropout, the
    distance is per channel (see `temperature`), and values have no bias since it has no effect.

    Key and value maps start from PyTorch's rule for linear layers, one generator per episode, the
    bias of the keys from zero. Parameters per episode and cardinality n: (2 n D + 3) C, which with
    D = 768 and the defaults is 8.9 million in all. The paper trains them on episodes of the base
    classes; without such a start an episode tunes them on its support clips alone.

    Raises:
        HeadError: as `Head`, and when a tuple has more frames than a clip.
    """

    Options = TrxOptions
    options: TrxOptions
    compares_with_itself = True
    codes: Tensor
    source: ClassVar[str] = (
        "Perrett, Masullo, Burghardt, Mirmehdi, Damen: Temporal-Relational CrossTransformers for "
        "Few-Shot Action Recognition (TRX), CVPR 2021, https://arxiv.org/abs/2101.06184"
    )
    citation: ClassVar[str] = """
    @inproceedings{perrett2021trx,
      author = {Perrett, Toby and Masullo, Alessandro and Burghardt, Tilo and Mirmehdi, Majid and
        Damen, Dima},
      title = {Temporal-Relational {CrossTransformers} for Few-Shot Action Recognition},
      booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
      pages = {475--484},
      year = {2021},
      url = {https://arxiv.org/abs/2101.06184},
    }
    """

    def __init__(
        self, options: TrxOptions, *, width: int, way: int, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(options, width=width, way=way, frames=frames, seeds=seeds)
        largest = max(options.cardinalities)
        if largest > frames:
            raise HeadError(
                f"TrxHead: cardinalities={list(options.cardinalities)} asks for tuples of "
                f"{largest} frames and clips have {frames}; give more frames, or cardinalities of "
                f"at most {frames}"
            )
        self.maps = nn.ModuleList(
            TupleMaps(
                self.generators,
                frames=frames,
                size=size,
                width=self.width,
                channels=min(options.channels, size * self.width),
            )
            for size in options.cardinalities
        )
        self.register_buffer("codes", position_codes(frames, self.width), persistent=False)

    def support_logits(self, support: Features, labels: Tensor) -> Tensor:
        """Logits of the support clips without their own tuples in their class, (E, S, way).

        The only clip of a class (1 shot) attends to its own tuples, and the loss mostly spreads the
        classes.
        """
        members = one_hot(labels, self.way)
        slots, x = ClassSlots(labels, members), support.frames + self.codes
        usable = slots.usable_slots(comparable_pairs(members))
        distances = []
        for maps in self.maps:
            tuples = maps(x)
            distances.append(tuple_distances(tuples, _sort_by_class(tuples, slots), usable))
        return -self.options.temperature * torch.stack(distances).mean(0)

    def query_logits(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Logits of the query clips, (E, Q, way)."""
        return self.prepare(support, labels)(query)

    def prepare(self, support: Features, labels: Tensor) -> Scorer:
        """Computes the tuples of the classes."""
        slots = ClassSlots(labels, one_hot(labels, self.way))
        usable, x = slots.usable_slots(), support.frames + self.codes
        classes = [_sort_by_class(maps(x), slots) for maps in self.maps]

        def _chunk_logits(chunk: Tensor) -> Tensor:
            class_maps = zip(self.maps, classes, strict=True)
            distances = [
                tuple_distances(maps(chunk), class_tuples, usable)
                for maps, class_tuples in class_maps
            ]
            return -self.options.temperature * torch.stack(distances).mean(0)

        elements_per_query = self._elements_per_query(classes)
        return lambda query: score_in_chunks(
            _chunk_logits, query.frames + self.codes, elements_per_query
        )

    def saved_activations(self, n_support: int) -> int:
        """Values that the support logits of an episode store: attention of tuples, and tuples.

        Args:
            n_support: support clips S, the same number of each class.

        Returns:
            For each cardinality, with R tuples of all clips: R^2 weights, R C differences from each
            class, six copies of R C (keys and values, before and after norm and sorting), and the
            two maps in another order.
        """
        total = 0
        for maps in self.maps:
            _, inputs, channels = maps.get_parameter("key").shape
            rows = n_support * len(maps.get_buffer("tuple_positions"))
            total += rows * rows + rows * channels * (self.way + 6) + 2 * inputs * channels
        return total

    def _elements_per_query(self, classes: list[tuple[Tensor, Tensor]]) -> int:
        """Values of attention and results for one query clip and all classes, E episodes."""
        rows = [keys.shape for keys, _ in classes]
        tuples = [len(maps.get_buffer("tuple_positions")) for maps in self.maps]
        return max(e * way * n * (kn + c) for n, (e, way, kn, c) in zip(tuples, rows, strict=True))


def _sort_by_class(tuples: tuple[Tensor, Tensor], slots: ClassSlots) -> tuple[Tensor, Tensor]:
    keys, values = tuples
    return slots.sort_by_class(keys), slots.sort_by_class(values)
