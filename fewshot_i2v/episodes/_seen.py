"""Which classes an encoder has seen with labels, before any split was looked at."""

from __future__ import annotations

from fewshot_i2v.episodes._finding import Finding
from fewshot_i2v.episodes._kinetics400 import NAMES as KINETICS_400
from fewshot_i2v.episodes._likeness_of_names import class_key, word_key
from fewshot_i2v.episodes.split import Split
from fewshot_i2v.errors import UnknownNameError

SEEN_BY = {"kinetics400": KINETICS_400}
"""Class names that encoders were trained on with labels."""


def seen_by(split: Split, what: str) -> list[Finding]:
    """Which classes an encoder has seen that was trained with labels on a data set.

    Args:
        split: the split.
        what: a name of `SEEN_BY`. Classes are the same where their names are, apart from spelling;
            names that differ in articles and endings of words are given beside them, in the fact
            "alike". A class may have been seen under quite another name, so nothing found does not
            mean nothing seen.

    Raises:
        UnknownNameError: for a data set that is not known.
    """
    if what not in SEEN_BY:
        raise UnknownNameError("data set", what, SEEN_BY)
    known = {class_key(name) for name in SEEN_BY[what]}
    words = {word_key(name): name for name in SEEN_BY[what]}
    found = []
    for subset in split.subsets:
        names = split.classes(subset)
        seen = [name for name in names if class_key(name) in known]
        rest = {name: words.get(word_key(name)) for name in names if name not in seen}
        alike = {name: other for name, other in rest.items() if other is not None}
        if seen or alike:
            facts = {"subset": subset, "seen": seen, "alike": alike, "classes": len(names)}
            text = _text(subset, len(names), seen, alike, what)
            found.append(Finding("seen", subset in {"novel", "test", "val"}, text, facts))
    return found


def _text(subset: str, classes: int, seen: list[str], alike: dict[str, str], what: str) -> str:
    also = f"{len(alike)} more" if seen else f"{len(alike)} of {classes} {subset} classes"
    parts = []
    if seen:
        have = "class has" if classes == 1 else "classes have"
        parts.append(f"{len(seen)} of {classes} {subset} {have} the name of a class of {what}")
    if alike:
        parts.append(
            f"{also} but for endings of words" if seen else
            f"{also} have the name of a class of {what} but for endings of words"
        )  # fmt: skip
    text = f"{', '.join(parts)}: an encoder that was trained on it has seen them with labels"
    if len(seen) + len(alike) < classes:
        text += ", and may have seen others under another name"
    return text
