"""Match of the episodes of two rows, with the reason where they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fewshot_i2v.errors import UsageError
from fewshot_i2v.runs.prediction_reader import EPISODE_KEYS, RecordedRow, parse_episode

_COMPARED_KEYS = {"adapter", "start", "head", "shot", "tuning", "training_seed"}
_NUMERIC_KEYS = {"deterministic"}
_SAMPLING_KEYS = {
    "seed", "way", "query", "sampling", "disjoint_groups", "uneven_shots", "draws", "trials",
}  # fmt: skip
_FIXED_KEYS = {"split", "subset"}
_ENCODER_NAME_KEYS = {"encoder.name", "encoder.pretrained", "encoder.architecture"}
_NOT_SET = "not set"


@dataclass(frozen=True)
class SharedEpisodes:
    """Episodes that two rows have in common.

    Attributes:
        indices: the episodes that succeeded in both, ascending.
        n_excluded: episodes of either that are not among them.
        across: keys that differ and were allowed to, with both values.
    """

    indices: list[int]
    n_excluded: int
    across: tuple[str, ...]


def match_episodes(
    row: RecordedRow, baseline: RecordedRow, *, common: bool, across: Sequence[str]
) -> SharedEpisodes:
    """Match the episodes of two rows, which must be the same.

    Classes, support and query clips of each episode decide, as recorded. Besides, the split's clips
    and, but for the keys in `across`, encoder, frames and seed must be the same; adapter, start,
    head and tuning are what is compared.

    Args:
        row: the row.
        baseline: the row that it is compared with.
        common: use the episodes that both have where one has more, or a different one of a number.
        across: keys such as "video.frames" or "encoder" that may differ.

    Raises:
        UsageError: naming each key that differs with both values, and what can be done.
    """
    fixed, sampling, setting = _differing_keys(row.summary.identity, baseline.summary.identity)
    allowed = [key for key in setting if any(_is_under(key, name) for name in across)]
    refused = fixed + [key for key in setting if key not in allowed]
    problems = [
        f"{key}: {_setting_value(row, key)} and {_setting_value(baseline, key)}" for key in refused
    ]
    indices, mismatches = _matching_episodes(row, baseline)
    if (mismatches and not common) or not indices:
        problems += [
            f"{key}: {_setting_value(row, key)} and {_setting_value(baseline, key)}"
            for key in sampling
        ]
        problems += mismatches or ["episodes: none succeeded in both"]
    if problems:
        raise UsageError(
            f"{row.summary.folder} and {baseline.summary.folder} were not asked the same:\n  "
            + "\n  ".join(dict.fromkeys(problems))
            + "\n"
            + _advice(fixed, refused, partly=bool(mismatches) and not common, n_common=len(indices))
        )
    numbers = len(row.episodes.keys() | baseline.episodes.keys())
    values = tuple(
        f"{key}: {_setting_value(row, key)} and {_setting_value(baseline, key)}" for key in allowed
    )
    return SharedEpisodes(indices, numbers - len(indices), values)


def _advice(fixed: Sequence[str], refused: Sequence[str], *, partly: bool, n_common: int) -> str:
    if fixed:
        return "Clips of other splits or subsets cannot be compared: evaluate both on the same one"
    sections = [key.partition(".")[0] for key in refused]
    options = [
        f"--across {key if sections.count(section) == 1 else section}"
        for key, section in zip(refused, sections, strict=True)
    ]
    if n_common and partly:
        options.append(f"--common (they have {n_common} episodes in common)")
    if not n_common:
        return (
            "Evaluate both with the same split, subset, seed, way, shot and query, or one --trials"
        )
    return "To compare all the same, add " + " and ".join(dict.fromkeys(options))


def _matching_episodes(row: RecordedRow, baseline: RecordedRow) -> tuple[list[int], list[str]]:
    """Episodes that succeeded in both, and a line on each kind of mismatch."""
    a, b = row.episodes, baseline.episodes
    succeeded = row.summary.accuracies.keys(), baseline.summary.accuracies.keys()
    common = sorted(a.keys() & b.keys())
    changed = [i for i in common if a[i] != b[i]]
    failed = [i for i in common if (i in succeeded[0]) != (i in succeeded[1])]
    mismatches = [
        _episodes_line(sorted(a.keys() - b.keys()), "in the first only"),
        _episodes_line(sorted(b.keys() - a.keys()), "in the second only"),
        _episodes_line(failed, "failed in one of the two"),
    ]
    if changed:
        episodes = parse_episode(a[changed[0]]), parse_episode(b[changed[0]])
        changed_keys = ", ".join(k for k in EPISODE_KEYS if episodes[0][k] != episodes[1][k])
        mismatches.append(
            _episodes_line(changed, f"of {len(common)} differ; the first in {changed_keys}")
        )
    excluded = {*changed, *failed}
    answered = [i for i in common if i in succeeded[0] and i not in excluded]
    return answered, [line for line in mismatches if line]


def _episodes_line(indices: Sequence[int], problem: str) -> str:
    if not indices:
        return ""
    examples = ", ".join(map(str, islice(indices, 3))) + (", ..." if len(indices) > 3 else "")
    return f"episodes: {len(indices)} {problem} (number {examples})"


def _differing_keys(
    row_identity: Mapping[str, Any], baseline_identity: Mapping[str, Any]
) -> tuple[list[str], list[str], list[str]]:
    """Keys that differ: those that no option allows, those of the draw, and those of the setting.

    The seed is of both: it is named as the cause where other episodes were drawn, and where the
    episodes are the same, it still decides how adapters begin.
    """
    a, b = (
        dict(_flatten(_comparable_settings(row_identity))),
        dict(_flatten(_comparable_settings(baseline_identity))),
    )
    keys = [key for key in {**a, **b} if a.get(key, _NOT_SET) != b.get(key, _NOT_SET)]
    if "encoder.digest" not in keys:
        keys = [key for key in keys if key not in _ENCODER_NAME_KEYS]
    top_keys = {key: key.partition(".")[0] for key in keys}
    fixed = [key for key in keys if top_keys[key] in _FIXED_KEYS]
    sampling = [key for key in keys if top_keys[key] in _SAMPLING_KEYS]
    setting = [
        k for k in keys if top_keys[k] not in _FIXED_KEYS | _SAMPLING_KEYS or top_keys[k] == "seed"
    ]
    return fixed, sampling, setting


def _comparable_settings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration and digests under the keys that users see, without what is compared."""
    config = {
        key: value
        # an identity has no word of this key where it is at its default
        for key, value in {"frame_order": "natural", **identity["config"]}.items()
        if key not in _COMPARED_KEYS | _NUMERIC_KEYS | {"split"}
    }
    digests = {"split": identity.get("split"), "trials": identity.get("trials")}
    encoder = {**config.get("encoder", {}), **(identity.get("encoder") or {})}
    return {**{k: v for k, v in digests.items() if v is not None}, **config, "encoder": encoder}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _is_under(key: str, name: str) -> bool:
    return key == name or key.startswith(name + ".")


def _setting_value(row: RecordedRow, key: str) -> str:
    value = dict(_flatten(_comparable_settings(row.summary.identity))).get(key, _NOT_SET)
    return value[:12] if key.endswith("digest") else str(value)
