"""Which classes are base, val and novel: by count, by fraction or by name.

Classes are drawn like episodes are: each has a 64-bit rank made of its name and the seed (see
`_ranks`), and the lowest ranks are taken, first for novel, then for val, then for base. So the
choice is the same on every machine, whatever the clips and the order of the list, and the novel
classes stay the same while the number of base classes is varied.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from fewshot_i2v.data.hash_ranks import ids_of, key_of, lowest, mix
from fewshot_i2v.data.splits.subsets import SUBSETS
from fewshot_i2v.errors import SplitError, UnknownNameError

Share: TypeAlias = int | float | Sequence[str] | None
"""A count from 0, a fraction of all classes between 0 and 1, names of classes, or nothing said."""

_ROUNDING = 1e-9


def choose_classes(
    names: Sequence[str],
    *,
    base: Share = None,
    val: Share = None,
    novel: Share = None,
    seed: int = 0,
) -> dict[str, tuple[str, ...]]:
    """Divides classes among base, val and novel.

    Where nothing is said of novel, it gets all that base and val leave: with nothing said at all,
    every class is novel. Where only novel (and val) are given, base gets the rest. Where base and
    novel are both given, classes may be left over, and are then in no subset.

    Args:
        names: all classes, in any order.
        base: how many, or which, are base classes: an int is a count, a float a fraction of all.
        val: likewise, for choosing settings.
        novel: likewise, for evaluation.
        seed: 0 or more; another one draws other classes. Named classes are not drawn.

    Returns:
        subset -> its classes, sorted; subsets without classes are left out.

    Raises:
        UnknownNameError: for a class that is not there.
        SplitError: when the shares do not fit.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise SplitError(f"seed: got {seed!r}; expected a whole number from 0")
    shares = {"base": base, "val": val, "novel": novel}
    named = _named(shares, names)
    counts = _counts({s: v for s, v in shares.items() if s not in named}, len(names))
    taken = {name for row in named.values() for name in row}
    order = _ranked([name for name in names if name not in taken], seed)
    _check_sum(counts, len(order), len(names))
    rest = next((s for s in ("novel", "base") if shares[s] is None), None)
    if rest is not None:
        counts[rest] = len(order) - sum(counts.values())
        if counts[rest] == 0 and rest == "novel":
            raise SplitError(
                f"novel: no class is left of {len(names)}; expected fewer for base and val, or "
                "novel 0 for a split that is only trained on"
            )
    chosen = dict(named)
    for subset in reversed(SUBSETS):
        if subset not in named:
            count = counts.get(subset, 0)
            chosen[subset], order = tuple(sorted(order[:count])), order[count:]
    return {subset: chosen[subset] for subset in SUBSETS if chosen[subset]}


def _ranked(names: Sequence[str], seed: int) -> list[str]:
    """Names by rank; two spellings of one text in Unicode have the same one."""
    if not names:
        return []
    names = sorted(names)
    ids = ids_of([("class", unicodedata.normalize("NFC", name)) for name in names])
    return [names[i] for i in lowest(mix(ids ^ key_of(f"subsets/{seed}")))]


def _named(shares: Mapping[str, Share], known: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The classes of the subsets whose classes are given by name."""
    named: dict[str, tuple[str, ...]] = {}
    place: dict[str, str] = {}
    exist = set(known)
    for subset, share in shares.items():
        if share is None or isinstance(share, int | float):
            continue
        if isinstance(share, str) or not share:
            raise SplitError(f"{subset}: got {share!r}; expected names of classes")
        for name in share:
            if name not in exist:
                raise UnknownNameError("class", name, known, f"Given for {subset}.")
            if name in place:
                raise SplitError(f"{subset}: class {name!r} is already given for {place[name]}")
            place[name] = subset
        named[subset] = tuple(sorted(share))
    return named


def _counts(shares: Mapping[str, Share], total: int) -> dict[str, int]:
    """Counts of the subsets for which a count or fraction is given.

    The sum of the fractions is rounded, not each one: 0.6, 0.2 and 0.2 of 12 are 7, 3 and 2.
    """
    counts, end, reached = {}, 0.0, 0
    for subset, share in shares.items():
        if isinstance(share, float):
            if not 0 < share < 1:
                what = "expected a count such as 5, or a fraction between 0 and 1 such as 0.6"
                raise SplitError(f"{subset}: got {share!r}; {what}")
            end += share
            upto = math.floor(end * total + 0.5 + _ROUNDING)
            counts[subset], reached = upto - reached, upto
            if counts[subset] == 0:
                raise SplitError(f"{subset}: {share} of {total} classes is no class")
        elif isinstance(share, int):
            if isinstance(share, bool) or share < 0:
                raise SplitError(f"{subset}: got {share!r}; expected a count from 0")
            counts[subset] = share
    return counts


def _check_sum(counts: Mapping[str, int], free: int, total: int) -> None:
    if sum(counts.values()) > free:
        asked = " + ".join(f"{count} {subset}" for subset, count in counts.items())
        other = f" that are not given by name (of {total})" if free < total else ""
        raise SplitError(f"{asked}: more than the {free} classes{other}; expected fewer")
