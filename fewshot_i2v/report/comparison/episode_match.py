"""Whether two rows were asked the same episodes, and if not, why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report.comparison.baselines import Contender
from fewshot_i2v.runs.fast_reader import PARTS, Answer

_COMPARED = {"adapter", "start", "head", "shot", "tuning", "training_seed"}
_NUMERICS = {"deterministic"}
_DRAWN = {
    "seed", "way", "query", "sampling", "disjoint_groups", "uneven_shots", "draws", "trials",
}  # fmt: skip
_ALWAYS = {"split", "subset"}
_NAMES = {"encoder.name", "encoder.pretrained", "encoder.architecture"}
_ABSENT = "not set"


@dataclass(frozen=True)
class Asked:
    """What two rows have in common.

    Attributes:
        indices: the episodes that both answered, ascending.
        left_out: episodes of either that are not among them.
        across: keys that differ and were allowed to, with both values.
    """

    indices: list[int]
    left_out: int
    across: tuple[str, ...]


def same_episodes(
    row: Contender, other: Contender, *, common: bool, across: Sequence[str]
) -> Asked:
    """The episodes of two rows, which must be the same.

    What counts is what the records say was asked: classes, support and query clips of each episode.
    Beside it the split's clips and, but for what `across` names, encoder, frames and seed are to be
    the same; adapter, start, head and tuning are what is compared.

    Args:
        row: the one.
        other: the other.
        common: take the episodes that both have where one has more, or another one of a number.
        across: keys such as "video.frames" or "encoder" that may differ.

    Raises:
        UsageError: naming each key that differs with both values, and what can be done.
    """
    fixed, drawn, setting = _differing(row.identity, other.identity)
    allowed = [key for key in setting if any(_within(key, name) for name in across)]
    refused = fixed + [key for key in setting if key not in allowed]
    lines = [f"{key}: {_value(row, key)} and {_value(other, key)}" for key in refused]
    indices, odd = _episodes(row.answers, other.answers)
    if (odd and not common) or not indices:
        lines += [f"{key}: {_value(row, key)} and {_value(other, key)}" for key in drawn]
        lines += odd or ["episodes: none succeeded in both"]
    if lines:
        raise UsageError(
            f"{row.folder} and {other.folder} were not asked the same:\n  "
            + "\n  ".join(dict.fromkeys(lines))
            + f"\n{_advice(fixed, refused, partly=bool(odd) and not common, number=len(indices))}"
        )
    numbers = len(row.answers.keys() | other.answers.keys())
    values = tuple(f"{key}: {_value(row, key)} and {_value(other, key)}" for key in allowed)
    return Asked(indices, numbers - len(indices), values)


def _advice(fixed: Sequence[str], refused: Sequence[str], *, partly: bool, number: int) -> str:
    if fixed:
        return "Clips of other splits or subsets cannot be compared: evaluate both on the same one"
    sections = [key.partition(".")[0] for key in refused]
    parts = [
        f"--across {key if sections.count(section) == 1 else section}"
        for key, section in zip(refused, sections, strict=True)
    ]
    if number and partly:
        parts.append(f"--common (they have {number} episodes in common)")
    if not number:
        return (
            "Evaluate both with the same split, subset, seed, way, shot and query, or one --trials"
        )
    return "To compare all the same, add " + " and ".join(dict.fromkeys(parts))


def _episodes(
    one: Mapping[int, Answer], other: Mapping[int, Answer]
) -> tuple[list[int], list[str]]:
    """The episodes that both answered, and what is said of all others."""
    both = sorted(one.keys() & other.keys())
    changed = [i for i in both if one[i].asked != other[i].asked]
    failed = [i for i in both if (one[i].accuracy is None) != (other[i].accuracy is None)]
    odd = [
        _said(sorted(a.keys() - b.keys()), f"in the {which} only")
        for a, b, which in ((one, other, "first"), (other, one, "second"))
    ]
    odd.append(_said(failed, "failed in one of the two"))
    if changed:
        first = changed[0]
        a, b = one[first].episode(), other[first].episode()
        parts = ", ".join(part for part in PARTS if a[part] != b[part])
        odd.append(_said(changed, f"of {len(both)} differ; the first in {parts}"))
    lost = {*changed, *failed}
    answered = [i for i in both if one[i].accuracy is not None and i not in lost]
    return answered, [line for line in odd if line]


def _said(indices: Sequence[int], what: str) -> str:
    if not indices:
        return ""
    some = ", ".join(map(str, islice(indices, 3))) + (", ..." if len(indices) > 3 else "")
    return f"episodes: {len(indices)} {what} (number {some})"


def _differing(
    one: Mapping[str, Any], other: Mapping[str, Any]
) -> tuple[list[str], list[str], list[str]]:
    """Keys that differ: those that no option allows, those of the draw, and those of the setting.

    The seed is of both: it is named as the cause where other episodes were drawn, and where the
    episodes are the same, it still decides how adapters begin.
    """
    a, b = dict(_flat(_relevant(one))), dict(_flat(_relevant(other)))
    keys = [key for key in {**a, **b} if a.get(key, _ABSENT) != b.get(key, _ABSENT)]
    if "encoder.digest" not in keys:
        keys = [key for key in keys if key not in _NAMES]
    parts = {key: key.partition(".")[0] for key in keys}
    fixed = [key for key in keys if parts[key] in _ALWAYS]
    drawn = [key for key in keys if parts[key] in _DRAWN]
    setting = [k for k in keys if parts[k] not in _ALWAYS | _DRAWN or parts[k] == "seed"]
    return fixed, drawn, setting


def _relevant(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration and digests under the keys that a user knows, without what is compared."""
    config = {
        key: value
        # an identity has no word of this key where it is at its default
        for key, value in {"frame_order": "natural", **identity["config"]}.items()
        if key not in _COMPARED | _NUMERICS | {"split"}
    }
    digests = {"split": identity.get("split"), "trials": identity.get("trials")}
    encoder = {**config.get("encoder", {}), **(identity.get("encoder") or {})}
    return {**{k: v for k, v in digests.items() if v is not None}, **config, "encoder": encoder}


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def _within(key: str, name: str) -> bool:
    return key == name or key.startswith(name + ".")


def _value(contender: Contender, key: str) -> str:
    value = dict(_flat(_relevant(contender.identity))).get(key, _ABSENT)
    return value[:12] if key.endswith("digest") else str(value)
