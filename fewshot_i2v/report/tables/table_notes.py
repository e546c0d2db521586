"""Notes below a table of accuracies: a line each on what matters, and the full text of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from fewshot_i2v.report.tables.interval_text import (
    ALL_EQUAL,
    FEW_DIFFER,
    is_asymmetric,
    join_methods,
    methods_text,
)
from fewshot_i2v.runs.row_names import adapter_name
from fewshot_i2v.runs.row_summary import (
    CLASS_TEXTS,
    INPUT_MISMATCH,
    TOY_ENCODER,
    TOY_ENCODER_ADVICE,
    RowSummary,
    has_starts,
)
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.intervals import MIN_DIFFERING, MIN_EPISODES
from fewshot_i2v.utils.text_table import count_text, escape_name, unique_sentences

READ_NAMES_NOTE = "given the names of the classes; do not rank them with rows that saw clips only."
"""What is said of rows whose head read the names."""
MACS_NOTE = (
    "GMACs/clip: 10^9 multiply-accumulates of the adapted encoder for one clip; a prediction takes "
    "that once for each clip, a step of fine-tuning about three times for each support clip."
)
TOY_ENCODER_NOTE = (
    f"Encoder {TOY_ENCODER} is a toy that was trained on generated pictures of 64 pixels: these "
    "accuracies of real clips say little about adapters."
)
MAX_SHORT_NOTES = 3
"""Lines of notes below a table, unless all are asked for."""


def short_notes(
    rows: Sequence[RowSummary], gains: Sequence[Interval], *, chance: float = 0.0
) -> list[str]:
    """Notes of a line each, at most `MAX_SHORT_NOTES`, those that warn first.

    `chance` is the accuracy of guessing, 0..1, of rows that do not know theirs.
    """
    means = [row.interval for row in rows if row.interval is not None]
    notes = [*_warnings(rows, chance), *_explanations(means, gains)]
    return notes[:MAX_SHORT_NOTES]


def incomplete_notes(rows: Sequence[RowSummary]) -> list[str]:
    """Say in a note, if any, how many episodes of the rows are missing."""
    missing = sum(row.missing for row in rows)
    if not missing:
        return []
    episodes = "1 episode is" if missing == 1 else f"{missing} episodes are"
    return [f"INCOMPLETE: {episodes} missing; the command of the run continues it."]


def rows_below_guessing(rows: Sequence[RowSummary], chance: float) -> list[RowSummary]:
    """Rows whose complete interval is below the accuracy of guessing.

    `chance` is that of rows that do not know theirs, 0..1.
    """
    return [
        row
        for row in rows
        if (mean := row.interval) is not None
        and mean.high is not None
        and mean.high < (chance if row.chance is None else row.chance)
    ]


def _below_guessing_notes(rows: Sequence[RowSummary], chance: float) -> list[str]:
    """Say in full, if any, which rows are below guessing, and why that can be."""
    below = rows_below_guessing(rows, chance)
    if not below:
        return []
    names = dict.fromkeys(
        f"{adapter_name(row)}, head {escape_name(row.head)}, {shots_text(row.shot)}"
        for row in below
    )
    return [
        f"Below guessing, with the complete interval: {'; '.join(names)}. Your labels need not be "
        "wrong: where clips of one scene, person or recording are in different classes, the "
        "support clip that is nearest to a query is often of another class. A head that looks at "
        "changes over time, such as prototype:center=true,pooling=ordered,tokens=motion, depends "
        "less on the scene."
    ]


def _warnings(rows: Sequence[RowSummary], chance: float) -> Iterator[str]:
    """Notes without which a table misleads, in at most 80 characters each."""
    if any(row.toy_encoder for row in rows):
        yield f"Encoder {TOY_ENCODER} is a toy; for real clips: {TOY_ENCODER_ADVICE}"
    yield from incomplete_notes(rows)
    failed = sum(row.failed for row in rows)
    if failed:
        are = "is" if failed == 1 else "are"
        yield f"{count_text(failed, 'episode')} failed and {are} left out; their records say why."
    yield from repeat_notes(rows)
    if any(row.seen for row in rows):
        yield "seen: the start was trained or chosen on these classes or clips: do not rank it."
    if any(row.uses_names for row in rows):
        yield "names read: the head knew the names of the classes: do not rank it with others."
    if episode_notes(rows, paired=False):
        yield "Rows have different episodes: use `fewshot-i2v compare --common`."
    if rows_below_guessing(rows, chance):
        yield "Below guessing: clips of one scene may be in different classes (see --notes)."
    few = min((row.episodes for row in rows if row.accuracies), default=MIN_EPISODES)
    if few < MIN_EPISODES:
        episodes = count_text(few, "episode")
        yield f"{episodes}: no interval below {MIN_EPISODES}, and no verdict; add --episodes 50."
    if any(INPUT_MISMATCH in row.note for row in rows):
        yield f"{INPUT_MISMATCH}: the start was trained with other frames of a clip."
    if tuning_notes(rows):
        yield "1 shot: tuning compares each clip with itself; --recipe auto mends that."


def _explanations(means: Sequence[Interval], gains: Sequence[Interval]) -> Iterator[str]:
    """Notes on what intervals and gains are."""
    with_ends = [mean for mean in means if mean.low is not None]
    if with_ends:
        level, covers_clips = 100 * with_ends[0].level, covers_other_clips(with_ends)
        scope = "these classes" if covers_clips else "these clips and classes"
        yield f"[ ]: {level:g} % interval for {scope}, not for others."
    yield from _reason_notes(gains)
    if gains:
        yield "over frozen: in points, on the same episodes, with the same head and shot."


def _reason_notes(gains: Sequence[Interval]) -> Iterator[str]:
    """Note on the words that stand in place of an interval, those of the table alone."""
    equal = {gain.equal for gain in gains if gain.low is None and gain.n >= MIN_EPISODES}
    few = f"{FEW_DIFFER}: rows differ in fewer than {MIN_DIFFERING} episodes"
    if equal == {True, False}:
        yield f"{few}, or {ALL_EQUAL}: no interval."
    elif equal:
        all_equal = f"{ALL_EQUAL}: the difference is the same in all episodes"
        yield f"{all_equal if True in equal else few}: no interval."


def covers_other_clips(means: Sequence[Interval]) -> bool:
    """Whether intervals of accuracies are for other clips, since no clip is in two episodes."""
    return all(mean.covers.startswith("No clip is in two episodes") for mean in means)


def table_legend(
    rows: Sequence[RowSummary], gains: Sequence[Interval], *, chance: float = 0.0
) -> list[str]:
    """Lists what the columns of accuracy and gain mean, a paragraph each.

    `chance` as for `short_notes`.
    """
    means = [row.interval for row in rows if row.interval is not None]
    lines = []
    with_ends = [mean for mean in means if mean.low is not None]
    if with_ends:
        lines.append(f"± and [ ]: {100 * with_ends[0].level:g} %, {methods_text(with_ends)}")
        if any(map(is_asymmetric, with_ends)):
            lines.append("Where both sides differ the ends are shown, in brackets.")
    lines += unique_sentences(mean.covers for mean in means)
    lines += episode_notes(rows, paired=bool(gains))
    if gains:
        lines.append(
            "over frozen: gain over the frozen encoder with the same head and shot, in points, "
            f"{100 * gains[0].level:g} %, {join_methods(gains)} over the episodes that both have."
        )
        lines += [
            line for line in unique_sentences(gain.covers for gain in gains) if line not in lines
        ]
    lines += _below_guessing_notes(rows, chance)
    lines += [*repeat_notes(rows), *seed_notes(rows), *start_notes(rows), *tuning_notes(rows)]
    if any(row.uses_names for row in rows):
        lines.append(f"names: rows with read were {READ_NAMES_NOTE}")
    if any(CLASS_TEXTS in row.note for row in rows):
        lines.append(
            f"{CLASS_TEXTS}: the head read texts of the user in place of the class names; run.json "
            "has them."
        )
    if any(row.toy_encoder for row in rows):
        lines.insert(0, f"{TOY_ENCODER_NOTE} Add {TOY_ENCODER_ADVICE}.")
    failed = sum(row.failed for row in rows)
    if failed:
        lines.append(f"Failed episodes: {failed}; left out of the means, their records say why.")
    return lines


def episode_notes(rows: Sequence[RowSummary], *, paired: bool) -> list[str]:
    """Note that rows of a table have different episodes; nothing where they have the same.

    `paired`: whether it has a column of differences over the episodes that two rows have.
    """
    succeeded = [row for row in rows if row.accuracies]
    shots = {row.shot for row in succeeded}
    if all(
        len({frozenset(r.accuracies) for r in succeeded if r.shot == shot}) < 2 for shot in shots
    ):
        return []
    n_all = len(set(chain.from_iterable(row.accuracies for row in succeeded)))
    n_fewest = min(len(row.accuracies) for row in succeeded)
    alternative = "the column over frozen or " if paired else ""
    return [
        f"Rows have different episodes, the least {n_fewest} of {n_all}: some are not finished, or "
        "episodes failed. Their accuracies are means over different episodes and are not to be "
        f"compared with each other; use {alternative}fewshot-i2v compare --common, which takes the "
        "episodes that two rows both have."
    ]


def seed_notes(rows: Sequence[RowSummary]) -> list[str]:
    """Note on the column of training seeds; nothing where there is none."""
    if not any(row.seed_means for row in rows):
        return []
    return [
        "over seeds: number of training seeds, and the standard deviation of their means; all "
        "other figures of the row are of the mean over the seeds, episode by episode."
    ]


def repeat_notes(rows: Sequence[RowSummary]) -> list[str]:
    """Say that several runs have the same row of the frozen encoder, which counts once."""
    runs = max((len(row.repeat_folders) for row in rows), default=0) + 1
    if runs == 1:
        return []
    return [f"frozen has equal records in {runs} runs: it is one row and counts once."]


def tuning_notes(rows: Sequence[RowSummary]) -> list[str]:
    """Note on rows that were tuned on clips compared only with themselves."""
    heads = sorted({row.head.partition(":")[0] for row in rows if row.learns_nothing})
    if not heads:
        return []
    # trx has parameters of its own, which need steps
    untuned = ", --steps 0 evaluates adapters as they start" if heads != ["trx"] else ""
    return [
        f"1 shot with head {', '.join(heads)}: in tuning, the only clip of a class is compared "
        "with itself, so there is nothing to learn from, and steps can cost accuracy; "
        f"--recipe auto compares changed views of it{untuned}."
    ]


def start_notes(rows: Sequence[RowSummary]) -> list[str]:
    """Notes on the column of starts; nothing where there is none."""
    if not has_starts(rows):
        return []
    lines = [
        "start: what each episode's adapter begins as: fresh, with untrained values; base-trained "
        "or meta-trained, with those of a starting point. Neither its training nor the choice of "
        "its state looked at the row's classes, but where the row says seen."
    ]
    if any(row.seen for row in rows):
        lines.append(
            "seen: the starting point was trained on classes or clips of this evaluation, or its "
            "state was chosen on them; such a row does not say how well new classes are learnt, "
            "and is not to be ranked with others."
        )
    if any(INPUT_MISMATCH in row.note for row in rows):
        lines.append(
            f"{INPUT_MISMATCH}: the run has other frames of a clip, or another size or crop of "
            "them, than the starting point was trained with."
        )
    return lines


def shots_text(shot: int | str) -> str:
    """Number of shots in words: "1 shot", "5 shots"."""
    return count_text(shot, "shot") if isinstance(shot, int) else f"{shot} shots"
