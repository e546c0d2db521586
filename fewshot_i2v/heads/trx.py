"""TRX: tuples of frames attend to those of a class, through trained maps (Perrett et al.)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn

from fewshot_i2v.adapters._contract import Features
from fewshot_i2v.errors import HeadError
from fewshot_i2v.heads._contract import Head, HeadOptions
from fewshot_i2v.heads._features import compared, in_pieces, one_hot
from fewshot_i2v.heads._tuples import Slots, TupleMaps, position_codes, tuple_distances


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
    def _once(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(given)) < len(given):
            raise ValueError(f"each cardinality counts once; got {list(given)}")
        return given


class TrxHead(Head):
    """Scores by minus the distance of a clip's tuples from a class's tuples, made for each of them.

    Tuples are all ordered choices of n frames, after sinusoidal position codes are added to the
    frames; a class offers the tuples of all its support clips, and may have any number of them. The
    distances of the cardinalities are averaged. Keys have a layer norm. There is no dropout, the
    distance is per channel (see `temperature`), and values have no bias since it has no effect.

    Key and value maps start from PyTorch's rule for linear layers, one generator per episode, the
    bias of the keys from zero. Parameters per episode and cardinality n: (2 n D + 3) C, which with
    D = 768 and the defaults is 8.9 million in all. The paper trains them on episodes of the base
    classes; without such a start an episode tunes them on its support clips alone.

    Args:
        options: `TrxOptions`.
        width: channels D of the features.
        way: classes of an episode.
        frames: frames T of a clip.
        seeds: one seed per episode; E = len(seeds).

    Raises:
        HeadError: when a size is below one, there is no seed, or a tuple has more frames than a
            clip.
    """

    Options = TrxOptions
    options: TrxOptions
    compares_with_itself = True
    codes: Tensor
    source: ClassVar[str] = (
        "Perrett, Masullo, Burghardt, Mirmehdi, Damen: Temporal-Relational CrossTransformers for "
        "Few-Shot Action Recognition (TRX), CVPR 2021, https://arxiv.org/abs/2101.06184"
    )

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

    def training_scores(self, support: Features, labels: Tensor) -> Tensor:
        """Scores of the support clips without their own tuples in their class, (E, S, way).

        A class of one clip (1 shot) has no others: its clip looks at its own tuples, and the loss
        mostly spreads the classes.
        """
        members = one_hot(labels, self.way)
        slots, x = Slots(members), support.frames + self.codes
        usable = slots.usable(compared(members))
        distances = []
        for maps in self.maps:
            tuples = maps(x)
            distances.append(tuple_distances(tuples, _by_class(tuples, slots), usable))
        return -self.options.temperature * torch.stack(distances).mean(0)

    def scores(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Scores of the query clips, (E, Q, way)."""
        slots = Slots(one_hot(labels, self.way))
        usable, x = slots.usable(), support.frames + self.codes
        classes = [_by_class(maps(x), slots) for maps in self.maps]

        def _piece_scores(piece: Tensor) -> Tensor:
            seen = zip(self.maps, classes, strict=True)
            distances = [tuple_distances(maps(piece), of, usable) for maps, of in seen]
            return -self.options.temperature * torch.stack(distances).mean(0)

        return in_pieces(_piece_scores, query.frames + self.codes, self._work(classes))

    def training_values(self, support: int) -> int:
        """What one episode's training scores keep: attention of tuples with tuples, and tuples.

        Args:
            support: clips S, as many of each class.

        Returns:
            For each cardinality, with R tuples of all clips: R^2 weights, R C differences from each
            class, six copies of R C (keys and values, before and after norm and sorting), and the
            two maps in another order.
        """
        total = 0
        for maps in self.maps:
            _, inputs, channels = maps.get_parameter("key").shape
            rows = support * len(maps.get_buffer("places"))
            total += rows * rows + rows * channels * (self.way + 6) + 2 * inputs * channels
        return total

    def _work(self, classes: list[tuple[Tensor, Tensor]]) -> int:
        """Values of attention and results for one query clip and all classes, E episodes."""
        rows = [keys.shape for keys, _ in classes]
        tuples = [len(maps.get_buffer("places")) for maps in self.maps]
        return max(e * way * n * (kn + c) for n, (e, way, kn, c) in zip(tuples, rows, strict=True))


def _by_class(tuples: tuple[Tensor, Tensor], slots: Slots) -> tuple[Tensor, Tensor]:
    keys, values = tuples
    return slots.sort(keys), slots.sort(values)
