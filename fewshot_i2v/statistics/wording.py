"""What intervals cover, and why there is none, in words; the other files only choose a sentence."""

from __future__ import annotations

from enum import StrEnum


class Covers(StrEnum):
    """What an interval covers and what not."""

    EPISODES = (
        "It covers the mean accuracy that the episode sampler gives on these clips and classes; "
        "episodes share clips, so it does not cover new clips, new classes or another trained "
        "start."
    )
    EPISODE_DIFFERENCES = (
        "It covers the mean difference on the same episodes, drawn from these clips and classes; "
        "episodes share clips, so it does not cover new clips, new classes or another trained "
        "start."
    )
    DISJOINT_EPISODES = (
        "No clip is in two episodes, so it covers other clips of these classes, drawn as these "
        "were; not new classes or another trained start."
    )
    QUERY_CLIPS = (
        "One episode, so it is over query clips: it covers other query clips of these classes with "
        "these support clips; not other support clips, new classes or another trained start."
    )
    CLIPS = (
        "It covers other clips of these classes, drawn as these were, as support and as query; not "
        "new classes or another trained start."
    )
    GROUPS = (
        "It covers other groups of clips of these classes, drawn as these were, as support and as "
        "query; not new classes or another trained start."
    )
    WIDENED_GROUPS = (
        f"{GROUPS} Where groups show less than clips do, it is as wide as that for other clips, "
        "which other groups come with."
    )
    CLASSES = (
        "It covers other classes with clips of their own, drawn as these were; not another trained "
        "start."
    )
    SEEDS = (
        "It covers other training seeds on these episodes; not new clips, new classes or another "
        "training set."
    )
    CALIBRATION_ERROR = (
        "It covers the binned calibration error that the episode sampler gives on these clips and "
        "classes with any number of episodes, so its lower end is free of the bias of few "
        "predictions; it does not cover new clips, new classes or another trained start."
    )


class NoInterval(StrEnum):
    """Why there is no interval."""

    ONE_EPISODE = "One episode: no interval."
    FEW_EPISODES = "Fewer than {minimum} episodes: no interval."
    ONE_SEED = "One seed: no interval."
    EQUAL_DIFFERENCES = (
        "Where the difference is the same in all {unit}s, these do not show how others would "
        "differ: no interval."
    )
    FEW_DIFFERENCES = (
        "Where two rows differ in fewer than {minimum} {unit}s, and not in all, these do not show "
        "how much others would differ: no interval."
    )
    STUCK_CLUSTER = (
        "{name!r} is in every episode of its class: without it nothing is left. No interval."
    )
    STUCK_CLASS = "{name!r} is in every episode: without it nothing is left. No interval."
    ONE_SET_OF_CLASSES = (
        "All {clusters} classes are in every episode, so one set of classes was seen and nothing "
        "tells how another would do. No interval."
    )
    EQUAL_GAINS = (
        "Where every episode shows the same gain, nothing tells how it would differ: no interval."
    )
    FEW_RECURRING_CLIPS = (
        "With {episodes} episodes too few clips were in several of them to tell how much they "
        "matter: no interval. {enough} or more tell."
    )
    CLIPS_IN_NOISE = (
        "Chance in the draw of {episodes} episodes drowns how much clips matter: no interval. More "
        "episodes tell."
    )
    CLASSES_LIKE_CLIPS = (
        "Where classes show no more spread than their clips do, there are too few of them to tell: "
        "no interval."
    )
    ALL_ALIKE = "All episodes are alike and share clips: no interval."


class Caution(StrEnum):
    """What to know of an interval that looks more certain than it is."""

    EQUAL_VALUES = (
        "All values are equal, so the interval has no width; that is not certainty: these episodes "
        "do not show how much others would differ."
    )
    EQUAL_SEEDS = "All seeds gave the same, so the interval has no width."
    EPISODES_AGREE = (
        "All episodes agree, so the interval has no width; that is not certainty: these episodes "
        "do not show how much others would differ."
    )
    HIDDEN_CLUSTERS = (
        "Where chance in the draw of the episodes hides what {by} add, that counts as 0; more "
        "episodes tell."
    )
