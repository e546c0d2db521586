"""A made-up benchmark whose true accuracies are known, for `coverage_of_intervals.py`.

A query clip of class c is recognised with probability

    floor + gain · mean over its class's support clips s of sigmoid(a_c + query + support)
          - pull · mean over the other classes' support clips of (draw of class + draw of clip)

with normal effects of classes, of clips as query and of clips as support; each sum of draws lies
between -1 and 1.
The mean over episodes is then a mean over pairs of clips, so it can be had without drawing any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.statistics.predictions import PredictionTable

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Design:
    """What is simulated.

    Attributes:
        classes: C.
        clips: n, of each class.
        way: classes of an episode.
        shot: support clips of each class.
        query: query clips of each class.
        level: mean of the classes' effects, in logits.
        class_sd, query_sd, support_sd: spread of the effects of classes and clips, in logits.
        group: clips of a group; 1 for clips that stand alone.
        group_share: share of the variance of clips that is common to a group, 0..1.
        pull: how much the other classes' support takes away at most, on either side.
        family: classes that are near relatives of each other; 1 for classes that stand alone.
        family_share: share of the variance of classes that is common to a family, 0..1.
    """

    classes: int = 12
    clips: int = 40
    way: int = 5
    shot: int = 1
    query: int = 1
    level: float = 1.0
    class_sd: float = 0.8
    query_sd: float = 1.2
    support_sd: float = 0.8
    group: int = 1
    group_share: float = 0.0
    pull: float = 0.05
    family: int = 1
    family_share: float = 0.0

    @property
    def floor(self) -> float:
        """Lowest probability that the classes' own clips leave: guessing."""
        return 1 / self.way

    @property
    def gain(self) -> float:
        """How far above the floor it can get, less room for `pull` up to 1."""
        return 1 - self.floor - self.pull


@dataclass(frozen=True)
class Classes:
    """Classes of one benchmark: their effects, and their draws, (C,) each."""

    effect: Array
    draw: Array


@dataclass(frozen=True)
class Clips:
    """Clips of these classes: effects as query, as support, and draws, (C, n) each."""

    query: Array
    support: Array
    draw: Array


def some_classes(design: Design, generator: np.random.Generator) -> Classes:
    """Draws classes; what they share within families of `design.family` is drawn once."""
    normal = generator.normal(size=design.classes)
    draw = generator.uniform(-0.5, 0.5, design.classes)
    if design.family > 1:
        families = -(-design.classes // design.family)
        common = generator.normal(size=families).repeat(design.family)[: design.classes]
        share = design.family_share
        normal = np.sqrt(1 - share) * normal + np.sqrt(share) * common
    return Classes(design.level + design.class_sd * normal, draw)


def some_clips(design: Design, generator: np.random.Generator) -> Clips:
    """Draws clips; what they share within groups of `design.group` is drawn once."""
    shape = (design.classes, design.clips)
    groups = -(-design.clips // design.group)

    def effects(sd: float) -> Array:
        alone = generator.normal(size=shape)
        common = generator.normal(size=(design.classes, groups))
        common = common.repeat(design.group, axis=1)[:, : design.clips]
        share = design.group_share
        return np.asarray(sd * (np.sqrt(1 - share) * alone + np.sqrt(share) * common))

    draw = generator.uniform(-0.5, 0.5, shape)
    return Clips(effects(design.query_sd), effects(design.support_sd), draw)


def truth_here(design: Design, classes: Classes, clips: Clips) -> float:
    """Mean over all episodes on these clips."""
    logit = classes.effect[:, None, None] + clips.query[:, :, None] + clips.support[:, None, :]
    own = _sigmoid(logit)
    n = design.clips
    apart = own.sum((1, 2)) - np.trace(own, axis1=1, axis2=2)
    taken = design.pull * (classes.draw[:, None] + clips.draw).mean()
    return float(design.floor + design.gain * apart.mean() / (n * (n - 1)) - taken)


def truth_of_clips(design: Design, classes: Classes) -> float:
    """Mean over all clips of these classes."""
    sd = np.hypot(design.query_sd, design.support_sd)
    own = _mean_sigmoid(classes.effect, sd)
    return float(design.floor + design.gain * own.mean() - design.pull * classes.draw.mean())


def truth_of_classes(design: Design) -> float:
    """Mean over all classes and clips."""
    sd = np.sqrt(design.class_sd**2 + design.query_sd**2 + design.support_sd**2)
    return float(design.floor + design.gain * _mean_sigmoid(np.array([design.level]), sd)[0])


def shared_episodes(
    design: Design, episodes: int, generator: np.random.Generator
) -> tuple[Ints, Ints]:
    """Independent episodes: classes (T, way), and clips (T, way, shot + query) of their classes."""
    order = generator.random((episodes, design.classes)).argsort(1)[:, : design.way]
    parts: list[Ints] = []
    for taken in range(design.shot + design.query):
        # the r-th of the clips that are left
        pick = generator.integers(design.clips - taken, size=order.shape)
        for earlier in np.sort(np.stack(parts), axis=0) if parts else ():
            pick += pick >= earlier
        parts.append(pick)
    return order, np.stack(parts, axis=-1)


def disjoint_episodes(design: Design, generator: np.random.Generator) -> tuple[Ints, Ints]:
    """As many episodes as share no clip, every class in equally many or one more."""
    size = design.shot + design.query
    left = np.full(design.classes, design.clips // size)
    shuffled = [generator.permutation(design.clips) for _ in left]
    classes, clips = [], []
    while (left > 0).sum() >= design.way:
        # those with the most clips left, ties by chance
        chosen = np.lexsort((generator.random(len(left)), -left))[: design.way]
        left[chosen] -= 1
        classes.append(generator.permutation(chosen))
        clips.append([shuffled[c][left[c] * size : (left[c] + 1) * size] for c in classes[-1]])
    return np.array(classes), np.array(clips)


def answered(
    design: Design,
    classes: Classes,
    clips: Clips,
    drawn: tuple[Ints, Ints],
    generator: np.random.Generator,
) -> PredictionTable:
    """The outcomes of episodes."""
    label, names = drawn
    (episodes, way), shot = label.shape, design.shot
    support, query = names[:, :, :shot], names[:, :, shot:]
    of = label[:, :, None]
    logit = (classes.effect[of] + clips.query[of, query])[..., None]
    own = _sigmoid(logit + clips.support[of, support][:, :, None, :]).mean(-1)
    draws = (classes.draw[of] + clips.draw[of, support]).mean(-1)
    others = (draws.sum(1, keepdims=True) - draws) / (way - 1)
    chance = design.floor + design.gain * own - design.pull * others[:, :, None]
    right = (generator.random(chance.shape) < chance).ravel()
    asked = np.broadcast_to(of, chance.shape).ravel()
    # any other class of the episode; which one decides nothing here
    wrong = np.broadcast_to(np.roll(label, 1, axis=1)[:, :, None], chance.shape).ravel()
    position = np.arange(episodes)
    every = np.ones(len(asked))
    return PredictionTable(
        classes=tuple(f"class-{c:03d}" for c in range(design.classes)),
        clips=_names(design),
        index=position,
        episode=position.repeat(way * design.query),
        label=asked,
        predicted=np.where(right, asked, wrong),
        query=(of * design.clips + query).ravel(),
        probability=every,
        confidence=every,
        support_episode=position.repeat(way * shot),
        support_clip=(of * design.clips + support).ravel(),
        support_class=np.broadcast_to(of, support.shape).ravel(),
        member_episode=position.repeat(way),
        member_class=label.ravel(),
    )


def groups_of(design: Design) -> dict[str, str]:
    """The group of every clip; groups of one name in two classes are two groups."""
    return {name: f"g{(i % design.clips) // design.group}" for i, name in enumerate(_names(design))}


def near_one(design: Design) -> Design:
    """The same with accuracies near 0.97."""
    return replace(design, level=5.0, pull=0.005)


def _names(design: Design) -> tuple[str, ...]:
    return tuple(f"{c:03d}/{i:04d}" for c in range(design.classes) for i in range(design.clips))


def _sigmoid(logit: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-logit)))


def _mean_sigmoid(mean: Array, sd: float) -> Array:
    """Mean of the sigmoid of normal numbers, by Gauss and Hermite."""
    at, weight = np.polynomial.hermite_e.hermegauss(60)
    return np.asarray(_sigmoid(mean[:, None] + sd * at) @ weight / weight.sum())
