"""Comparison of rows over the same episodes: differences, tests and verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report.comparison.baselines import RowPair
from fewshot_i2v.report.comparison.pair_test import JudgedPair, PairTest, compare_pair
from fewshot_i2v.runs.prediction_reader import (
    EPISODE_KEYS,
    RecordedRow,
    parse_episode,
    share_clips,
)
from fewshot_i2v.statistics.verdicts import DifferenceTest, decide_verdicts

VerdictText = Literal["beats", "is worse than", "cannot be told apart from"]
_VERDICT_TEXTS: tuple[VerdictText, ...] = ("cannot be told apart from", "beats", "is worse than")
_POWER = 0.8
_COMPARED_KEYS = {"adapter", "start", "head", "shot", "tuning", "training_seed", "class_texts"}
_NUMERIC_KEYS = {"deterministic", "compile"}
_SAMPLING_KEYS = {
    "seed", "way", "query", "sampling", "disjoint_groups", "uneven_shots", "draws", "trials",
}  # fmt: skip
_FIXED_KEYS = {"split", "subset"}
_ENCODER_NAME_KEYS = {"encoder.name", "encoder.pretrained", "encoder.architecture"}
_DEFAULTS = {
    "frame_order": "natural", "precision": "fp32", "sampling": "independent", "uneven_shots": False,
}  # fmt: skip
"""Values of keys that an identity may have no word of: of later versions, at their defaults."""
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


@dataclass(frozen=True, eq=False)
class RowComparison(JudgedPair):
    """One row against a baseline over the same episodes.

    Attributes:
        row: the row.
        baseline: the row that it is compared with.
        name: display name of the row.
        baseline_name: display name of the baseline.
        visible: smallest true difference that this comparison would mostly (in 80 % of such runs)
            detect, at the level left to one of the comparisons; None where too few episodes differ
            to say it.
        shared_episodes: the episodes compared.
        n_undecided: comparisons of the table without a verdict, this one among them.
    """

    row: RecordedRow
    baseline: RecordedRow
    name: str
    baseline_name: str
    visible: float | None
    shared_episodes: SharedEpisodes
    n_undecided: int

    @property
    def verdict(self) -> VerdictText:
        """What holds at the level for the complete table; `covers` says on which clips."""
        return _VERDICT_TEXTS[self.decision.sign]

    @property
    def n_changed(self) -> int:
        """Number of episodes or clips with a difference."""
        return self.test.paired.wins + self.test.paired.losses

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        mean, baseline_mean = self.test.means
        return {
            "name": self.name,
            "baseline_name": self.baseline_name,
            "unit": self.unit,
            "mean": mean,
            "baseline_mean": baseline_mean,
            "wins": self.test.paired.wins,
            "ties": self.test.paired.ties,
            "losses": self.test.paired.losses,
            "p": self.test.p,
            "test": self.test.method,
            "p_holm": self.decision.p,
            "visible": self.visible,
            "verdict": self.verdict,
            "shot": self.row.summary.shot,
            "folder": str(self.row.summary.folder),
            "baseline_folder": str(self.baseline.summary.folder),
            "training_seeds": len(self.row.predictions),
            "episodes": len(self.shared_episodes.indices),
            "left_out": self.shared_episodes.n_excluded,
            "across": list(self.shared_episodes.across),
            "difference": vars(self.difference),
            "other_clips": None if self.other_clips is None else vars(self.other_clips),
            "verdict_covers": list(self.covers),
        }


def compare_rows(
    pairs: Sequence[RowPair],
    names: Mapping[RecordedRow, str],
    *,
    level: float = 0.95,
    common: bool = False,
    across: Sequence[str] = (),
) -> list[RowComparison]:
    """Compare rows, two at a time, as one family of tests.

    Over episodes p is that of the sign-flip test. A single episode has no spread: its query clips
    are compared instead, with McNemar's test. The adjusted p (Holm, 1979) decides: at the level of
    0.95, a verdict other than "cannot be told apart from" is wrong on these clips in at most one of
    twenty tables, and so is one that covers other clips of these classes, as
    `fewshot_i2v.statistics.verdicts` says. The keys `across` may differ, such as "video.frames";
    `common` is as for `match_episodes`.

    Raises:
        UsageError: when there is no pair, two rows have different episodes, or the level is out of
            range.
    """
    if not pairs:
        raise UsageError("nothing to compare; expected at least one pair of rows")
    matches = [match_episodes(*pair, common=common, across=across) for pair in pairs]
    tests = [
        _test_pair(*pair, match.indices, level) for pair, match in zip(pairs, matches, strict=True)
    ]
    decided = decide_verdicts(
        [DifferenceTest(test.paired.difference.mean, test.p, test.jackknife) for test in tests],
        level,
    )
    undecided = sum(verdict.sign == 0 for verdict in decided)
    return [
        RowComparison(
            test,
            verdict,
            row=row,
            baseline=baseline,
            name=names[row],
            baseline_name=names[baseline],
            visible=test.spread.detectable(power=_POWER, level=level, comparisons=len(pairs)),
            shared_episodes=match,
            n_undecided=undecided,
        )
        for (row, baseline), match, test, verdict in zip(
            pairs, matches, tests, decided, strict=True
        )
    ]


def _test_pair(
    row: RecordedRow, baseline: RecordedRow, indices: Sequence[int], level: float
) -> PairTest:
    drawn_apart = row.summary.header.get("marks", {}).get("disjoint", False)
    return compare_pair(
        (row.summary.accuracies, baseline.summary.accuracies),
        (row.select(indices), baseline.select(indices)),
        indices,
        level=level,
        clips_shared=not drawn_apart or share_clips(row.episodes[i] for i in indices),
    )


def match_episodes(
    row: RecordedRow, baseline: RecordedRow, *, common: bool, across: Sequence[str]
) -> SharedEpisodes:
    """Match the episodes of two rows, which must be the same.

    Classes, support and query clips of each episode decide, as recorded. Besides, the split's clips
    and, but for the keys in `across`, encoder, frames and seed must be the same; adapter, start,
    head and tuning are what is compared. With `common` the episodes that both have are used where
    one has more, or a different one of a number.

    Raises:
        UsageError: naming each key that differs with both values, and what can be done.
    """
    fixed, sampling, setting = _differing_keys(row.summary.identity, baseline.summary.identity)
    allowed = [key for key in setting if any(f"{key}.".startswith(f"{name}.") for name in across)]
    refused = fixed + [key for key in setting if key not in allowed]
    problems = _setting_values(row, baseline, refused)
    indices, mismatches = _matching_episodes(row, baseline)
    if (mismatches and not common) or not indices:
        problems += _setting_values(row, baseline, sampling)
        problems += mismatches or ["episodes: none succeeded in both"]
    if problems:
        raise UsageError(
            f"{row.summary.folder} and {baseline.summary.folder} cannot be compared, for these "
            "differ:\n  "
            + "\n  ".join(dict.fromkeys(problems))
            + "\n"
            + _advice(fixed, refused, partly=bool(mismatches) and not common, n_common=len(indices))
        )
    numbers = len(row.episodes.keys() | baseline.episodes.keys())
    across_values = tuple(_setting_values(row, baseline, allowed))
    return SharedEpisodes(indices, numbers - len(indices), across_values)


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
    missing = {key: v for key, v in _DEFAULTS.items() if key not in identity["config"]}
    config = {
        key: value
        for key, value in ({**identity["config"], **missing}).items()
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


def _setting_values(row: RecordedRow, baseline: RecordedRow, keys: Sequence[str]) -> list[str]:
    """A line on each key, with its values in both rows."""
    settings = [
        dict(_flatten(_comparable_settings(member.summary.identity))) for member in (row, baseline)
    ]
    lines = []
    for key in keys:
        values = [values.get(key, _NOT_SET) for values in settings]
        texts = [value[:12] if key.endswith("digest") else str(value) for value in values]
        lines.append(f"{key}: {' and '.join(texts)}")
    return lines
