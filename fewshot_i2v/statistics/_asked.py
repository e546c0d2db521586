"""What is asked of an interval: which scores, which clusters, and whether that can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics._leave_out import ClusterOf
from fewshot_i2v.statistics.outcomes import Codes, Numbers, Outcomes

By = Literal["clips", "groups", "classes"]


Scope = Literal["class", "global"]


def scores_of(outcomes: Outcomes, against: Outcomes | None) -> Numbers:
    """Of each prediction: 1 where it is right, less 1 where that of the other run is."""
    if not len(outcomes):
        raise UsageError(f"no episode succeeded ({outcomes.failed} failed): there is no accuracy")
    score = outcomes.right.astype(np.float64)
    if against is None:
        return score
    for name in ("index", "query", "support_clip", "clips"):
        one, other = getattr(outcomes, name), getattr(against, name)
        if not np.array_equal(one, other):
            raise UsageError(
                f"a gain needs the same episodes of both runs, in both {name!r} of the outcomes; "
                "make them of the records of episodes that succeeded in both"
            )
    return np.asarray(score - against.right)


def stuck_clips(names: Sequence[str], stuck: Codes) -> str:
    """Why nothing is left without a clip or group; empty where something is."""
    if not len(stuck):
        return ""
    first = names[int(stuck[0])]
    return f"{first!r} is in every episode of its class: without it nothing is left."


def stuck_classes(names: Sequence[str], stuck: Codes) -> str:
    """Why nothing is left without a class; empty where something is."""
    if not len(stuck):
        return ""
    if len(stuck) == len(names):
        return (
            f"All {len(names)} classes are in every episode, so one set of classes was seen and "
            "nothing tells how another would do."
        )
    return f"{names[int(stuck[0])]!r} is in every episode: without it nothing is left."


def check_by(by: str, groups: Mapping[str, str] | None, scope: str) -> None:
    """Refuses what cannot be left out, and groups where none are asked for or none are given."""
    if by not in ("clips", "groups", "classes"):
        raise UsageError(f'by is {by!r}; expected "clips", "groups" or "classes"')
    if scope not in ("class", "global"):
        raise UsageError(f'scope is {scope!r}; expected "class" or "global"')
    if (by == "groups") != (groups is not None):
        raise UsageError('groups: expected the group of every clip for by="groups", and only then')


def per_episode(outcomes: Outcomes, by: By) -> float:
    """Mean number of clusters in an episode; of groups at most that of clips."""
    if by == "classes":
        return len(outcomes.member_class) / len(outcomes)
    return (len(outcomes.query) + len(outcomes.support_clip)) / len(outcomes)


def clusters_of(
    outcomes: Outcomes, groups: Mapping[str, str] | None, scope: Scope
) -> tuple[tuple[str, ...], ClusterOf]:
    """Names of the clusters of clips, and the code of each, given clip and class."""
    if groups is None:
        return outcomes.clips, lambda clips, _: clips
    without = [clip for clip in outcomes.clips if groups.get(clip) is None]
    if without:
        raise UsageError(
            f"groups: {len(without)} of {len(outcomes.clips)} clips have none, such as "
            f"{without[0]!r}; expected the group of every clip"
        )
    names, codes = np.unique([groups[clip] for clip in outcomes.clips], return_inverse=True)
    if scope == "global":
        return tuple(names.tolist()), lambda clips, _: codes[clips]
    several = len(outcomes.classes)

    def _within(clips: Codes, classes: Codes) -> Codes:
        return np.asarray(codes[clips] * several + classes)

    return tuple(f"{n} of {c}" for n in names.tolist() for c in outcomes.classes), _within
