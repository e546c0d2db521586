"""What of an evaluation a starting point was trained or chosen on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fewshot_i2v._start_facts import StartFacts
from fewshot_i2v.episodes._likeness_of_names import class_key
from fewshot_i2v.episodes.split import Split

_SHOWN = 5


@dataclass(frozen=True)
class Seen:
    """What of an evaluation a starting point was trained or chosen on; false when nothing.

    Attributes:
        classes: names of those trained on, as the evaluation spells them, sorted.
        clips: names of those trained on, sorted.
        watched: names of the classes that its state was chosen on, likewise.
        watched_clips: names of the clips that its state was chosen on, sorted.
    """

    classes: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    watched_clips: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.classes or self.clips or self.watched or self.watched_clips)

    def __str__(self) -> str:
        trained = _both(self.classes, self.clips)
        chosen = _both(self.watched, self.watched_clips)
        parts = [f"{trained} that it was trained on"] if trained else []
        parts += [f"{chosen} that its state was chosen on"] if chosen else []
        return ", and ".join(parts)


def seen_of(facts: StartFacts, split: Split, subset: str) -> Seen:
    """Classes and clips of a subset that a starting point was trained or chosen on.

    Whatever the split, clips count by name, and classes by name without case, spaces and
    punctuation: of one data set there are several splits, whose base classes are novel in others.

    Raises:
        UnknownNameError: for a subset that the split does not have.
    """
    classes, chosen = split.classes(subset), facts.validation
    clips = {clip.name for name in classes for clip in split.clips(subset, name)}
    return Seen(
        classes=_known(classes, facts.classes),
        clips=tuple(sorted(clips.intersection(facts.clip_names))),
        watched=_known(classes, chosen.classes),
        watched_clips=tuple(sorted(clips.intersection(chosen.clip_names))),
    )


def _known(classes: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    keys = {class_key(name) for name in others}
    return tuple(sorted(name for name in classes if class_key(name) in keys))


def _both(classes: Sequence[str], clips: Sequence[str]) -> str:
    given = (("class", "es", classes), ("clip", "s", clips))
    return " and ".join(_counted(*each) for each in given if each[-1])


def _counted(kind: str, plural: str, names: Sequence[str]) -> str:
    """How many there are, and the first of their names."""
    shown = ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])])
    return f"{len(names)} {kind}{plural if len(names) > 1 else ''} ({shown})"
