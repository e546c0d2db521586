"""Assigns classes to base, val and novel: by count, by fraction or by name.

Classes are chosen as episodes are: each has a 64-bit rank from its name and the seed (see
`splitmix64`), and the lowest ranks are taken, first for novel, then for val, then for base. So the
choice is the same on every machine, whatever the clips and the order of the list, and the novel
classes stay the same while the number of base classes is varied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from fewshot_i2v.data.hash_ranks import argsort_ranks, hash64, hash_ids, splitmix64
from fewshot_i2v.data.splits.problems import compose_accents
from fewshot_i2v.data.splits.split_fields import CLASS_SUBSETS
from fewshot_i2v.errors import SplitError, UnknownNameError

ClassShare: TypeAlias = int | float | Sequence[str] | None
"""A count from 0, a fraction of all classes between 0 and 1, names of classes, or nothing said."""

_ROUNDING_TOLERANCE = 1e-9


def select_classes(
    class_names: Sequence[str],
    *,
    base: ClassShare = None,
    val: ClassShare = None,
    novel: ClassShare = None,
    seed: int = 0,
) -> dict[str, tuple[str, ...]]:
    """Assign classes to base, val and novel.

    If novel is None, it gets all classes that base and val leave: if all three are None, every
    class is novel. If only novel (and val) are set, base gets the remaining classes. If base and
    novel are both set, classes may be left over, and are then in no subset.

    Args:
        class_names: all classes, in any order.
        base: how many, or which, are base classes: an int is a count, a float a fraction of all.
        val: likewise, for choosing settings.
        novel: likewise, for evaluation.
        seed: 0 or more; another seed chooses other classes. It does not affect classes set by name.

    Returns:
        subset -> its classes, sorted; subsets without classes are left out.

    Raises:
        UnknownNameError: for a class that does not exist.
        SplitError: when the shares do not fit.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise SplitError(f"seed: got {seed!r}; expected a whole number from 0")
    shares = {"base": base, "val": val, "novel": novel}
    classes_by_subset = _named_classes(shares, class_names)
    counts = _class_counts(
        {s: share for s, share in shares.items() if s not in classes_by_subset}, len(class_names)
    )
    explicit_names = {name for row in classes_by_subset.values() for name in row}
    unassigned = _rank_names([name for name in class_names if name not in explicit_names], seed)
    _check_total(counts, len(unassigned), len(class_names))
    remainder_subset = next((s for s in ("novel", "base") if shares[s] is None), None)
    if remainder_subset is not None:
        counts[remainder_subset] = len(unassigned) - sum(counts.values())
        if counts[remainder_subset] == 0 and remainder_subset == "novel":
            raise SplitError(
                f"novel: no class is left of {len(class_names)}; expected fewer for base and val, "
                "or novel 0 for a split that is only trained on"
            )
    selected = dict(classes_by_subset)
    for subset in reversed(CLASS_SUBSETS):
        if subset not in classes_by_subset:
            count = counts.get(subset, 0)
            selected[subset], unassigned = tuple(sorted(unassigned[:count])), unassigned[count:]
    return {subset: selected[subset] for subset in CLASS_SUBSETS if selected[subset]}


def _rank_names(class_names: Sequence[str], seed: int) -> list[str]:
    """Sort class names by rank; two Unicode spellings of one text have the same rank."""
    if not class_names:
        return []
    class_names = sorted(class_names)
    ids = hash_ids([("class", compose_accents(name)) for name in class_names])
    return [class_names[i] for i in argsort_ranks(splitmix64(ids ^ hash64(f"subsets/{seed}")))]


def _named_classes(
    shares: Mapping[str, ClassShare], class_names: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return the classes of the subsets that are set by name."""
    classes_by_subset: dict[str, tuple[str, ...]] = {}
    subset_of: dict[str, str] = {}
    existing_names = set(class_names)
    for subset, share in shares.items():
        if share is None or isinstance(share, int | float):
            continue
        if isinstance(share, str) or not share:
            raise SplitError(f"{subset}: got {share!r}; expected names of classes")
        for name in share:
            if name not in existing_names:
                raise UnknownNameError("class", name, class_names, f"It is listed for {subset}.")
            if name in subset_of:
                raise SplitError(
                    f"{subset}: class {name!r} is already listed for {subset_of[name]}"
                )
            subset_of[name] = subset
        classes_by_subset[subset] = tuple(sorted(share))
    return classes_by_subset


def _class_counts(shares: Mapping[str, ClassShare], n_classes: int) -> dict[str, int]:
    """Return the class counts of the subsets that are set by count or fraction.

    The sum of the fractions is rounded, not each one: 0.6, 0.2 and 0.2 of 12 are 7, 3 and 2.
    """
    counts, fraction_sum, n_assigned = {}, 0.0, 0
    for subset, share in shares.items():
        if isinstance(share, float):
            if not 0 < share < 1:
                expectation = (
                    "expected a count such as 5, or a fraction between 0 and 1 such as 0.6"
                )
                raise SplitError(f"{subset}: got {share!r}; {expectation}")
            fraction_sum += share
            n_cumulative = math.floor(fraction_sum * n_classes + 0.5 + _ROUNDING_TOLERANCE)
            counts[subset], n_assigned = n_cumulative - n_assigned, n_cumulative
            if counts[subset] == 0:
                raise SplitError(f"{subset}: {share} of {n_classes} classes is no class")
        elif isinstance(share, int):
            if isinstance(share, bool) or share < 0:
                raise SplitError(f"{subset}: got {share!r}; expected a count from 0")
            counts[subset] = share
    return counts


def _check_total(counts: Mapping[str, int], n_available: int, n_classes: int) -> None:
    if sum(counts.values()) > n_available:
        request = " + ".join(f"{count} {subset}" for subset, count in counts.items())
        restriction = f" that are not named (of {n_classes})" if n_available < n_classes else ""
        raise SplitError(
            f"{request}: more than the {n_available} classes{restriction}; expected fewer"
        )
