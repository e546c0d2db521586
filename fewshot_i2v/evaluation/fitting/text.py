"""What `fit` and `test` print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import ascii_uppercase

from fewshot_i2v.errors import UsageError
from fewshot_i2v.evaluation.classifier import FewShotClassifier
from fewshot_i2v.evaluation.fitting.candidates import Candidate
from fewshot_i2v.evaluation.fitting.fit import FitResult
from fewshot_i2v.evaluation.fitting.label_check import LabelCheck
from fewshot_i2v.evaluation.fitting.model_fit import TriedMethods
from fewshot_i2v.evaluation.fitting.test import TestResult
from fewshot_i2v.models.checkpoints.model_file import ModelDescription, RejectionFacts, ShareFacts
from fewshot_i2v.statistics.shares import Share
from fewshot_i2v.utils.text_table import WIDTH, align_columns, count_text, wrap_notes

_MAX_SUSPECTS = 5


def percent(share: ShareFacts | Share) -> str:
    """Writes a share with its interval, such as 90.0 % [81.9, 95.1]."""
    mean = 100 * (share.count / share.clips - share.optimism)
    return f"{mean:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def render_fit(result: FitResult) -> str:
    """Writes what was tried, and what to expect of the model."""
    description = result.description
    lines = [
        _size_line(description),
        "",
        *_tried_lines(result.tried, description.folds),
        "",
        *wrap_notes(expectation_lines(description)),
    ]
    return "\n".join(lines)


def render_description(classifier: FewShotClassifier) -> str:
    """Writes what a model is, and what to expect of it."""
    if classifier.model is None:
        raise UsageError("got an export; expected a model that `fewshot-i2v fit` wrote")
    description = classifier.model.description
    return "\n".join([_size_line(description), *wrap_notes(expectation_lines(description))])


def _size_line(description: ModelDescription) -> str:
    sizes = sorted({len(clips) for clips in description.clips.values()})
    each = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    clips = sum(map(len, description.clips.values()))
    return (
        f"{count_text(len(description.clips), 'class')}, {count_text(clips, 'clip')} ({each} "
        f"each), {count_text(description.video.frames, 'frame')}, encoder "
        f"{description.checkpoint.encoder.name}"
    )


def _tried_lines(tried: TriedMethods, folds: int) -> list[str]:
    if not folds:
        return [f"fitted: {tried.chosen.label}"]
    heads = list(dict.fromkeys(c.row.head.label for c in tried.candidates))
    letters = dict(zip(heads, ascii_uppercase, strict=False))
    rows = [_tried_row(candidate, tried.chosen, letters) for candidate in tried.candidates]
    headings = (" ", "method", "head", "right", "accuracy, 95 %", "parameters", "seconds")
    table = align_columns(
        dict(zip(headings, zip(*rows, strict=True), strict=True)), headings[:3], WIDTH
    )
    return [
        f"Clips held out in {folds} parts; * fitted: the simplest of the best",
        *_stopped_lines(tried),
        *(f"head {letter}: {head}" for head, letter in letters.items()),
        "",
        *table,
    ]


def _stopped_lines(tried: TriedMethods) -> list[str]:
    if not any(candidate.is_stopped for candidate in tried.candidates):
        return []
    return ["x stopped: not ahead even if all of its remaining clips had been right"]


def _tried_row(
    candidate: Candidate, chosen: Candidate, letters: Mapping[str, str]
) -> tuple[str, ...]:
    share = candidate.accuracy
    head = candidate.row.head.label
    return (
        "*" if candidate is chosen else "x" if candidate.is_stopped else "",
        candidate.adapter_label,
        letters.get(head, head),
        "-" if share is None else f"{share.count}/{share.clips}",
        "-" if share is None else percent(share),
        f"{candidate.parameters:,}" if candidate.is_tuned else "0",
        f"{candidate.seconds:.1f}",
    )


def expectation_lines(description: ModelDescription, *, names_clips: bool = True) -> Iterator[str]:
    """Yields what to expect of a model, a line each, with the names of suspect clips or without."""
    if description.accuracy is None:
        yield (
            "how accurate it is cannot be said: no clip was held out, as there is one of each "
            "class, or the adapter has seen all of them"
        )
        return
    share = Share(**description.accuracy.model_dump())
    few, many = share.expected_count(20)
    yield (
        f"to expect: {percent(share)} of new clips right; of 20 new clips {few} to {many} "
        "(95 %), if they are like these"
    )
    if share.optimism >= 0.0005:
        tried = len(description.card.get("tried", ()))
        yield (
            f"that is {100 * share.optimism:.1f} points less than the held-out clips say "
            f"({share.count}/{share.clips}): the best of {tried} methods is partly lucky there"
        )
    card = description.card
    if card.get("untested_classes"):
        yield (
            f"this says nothing about {', '.join(card['untested_classes'])}: no clip of it could "
            "be held out"
        )
    if card.get("seen_start"):
        yield "it is too high: the start was trained on these classes or clips"
    yield from _rejection_lines(description.rejection)
    suspects = card.get("suspects", [])
    if suspects and not names_clips:
        yield f"{len(suspects)} of the labelled clips look mislabelled"
    elif suspects:
        shown = "; ".join(
            f"{s['clip']} (labelled {s['label']}, looks like {s['predicted']})"
            for s in suspects[:_MAX_SUSPECTS]
        )
        more = f" and {len(suspects) - _MAX_SUSPECTS} more" if len(suspects) > _MAX_SUSPECTS else ""
        yield f"look mislabelled: {shown}{more}"
    if card.get("confused"):
        pairs = [
            f"{' / '.join(pair['classes'])} ({pair['confused']} of {pair['clips']} confused)"
            for pair in card["confused"][:_MAX_SUSPECTS]
        ]
        yield f"hard to tell apart: {'; '.join(pairs)}"


def _rejection_lines(rejection: RejectionFacts | None) -> Iterator[str]:
    if rejection is None:
        yield '"none of these" is off: every clip gets one of the classes'
        return
    yield f'"none of these" rejects {percent(rejection.rejected_known)} of clips of the classes'
    yield (
        f"of clips of other classes it rejects {percent(rejection.rejected_unknown)}, on average "
        "over many other classes"
    )
    rates, measured = rejection.rejected_by_class, "that was measured by leaving each class out"
    if not rates:
        yield measured
        return
    low, high = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    yield (
        f"{measured}: it rejected {100 * rates[low]:.0f} % of the clips of {low} (least), and "
        f"{100 * rates[high]:.0f} % of {high} (most)"
    )
    yield _few_classes_line(rejection)


def _few_classes_line(rejection: RejectionFacts) -> str:
    """Range of the rate where as many other classes come as were left out.

    Clips of one class are rejected or accepted together, so that a few classes differ from the
    average by more than its interval says. It is the range that `test` compares with.
    """
    n_classes = len(rejection.rejected_by_class)
    share = Share(**rejection.rejected_unknown.model_dump())
    few, many = share.expected_count(n_classes, n_classes)
    low, high = (100 * count / n_classes for count in (few, many))
    return (
        f"where only {n_classes} other classes come, expect {low:.0f} to {high:.0f} % of their "
        "clips (95 %)"
    )


def render_label_check(check: LabelCheck) -> str:
    """Writes which clips look mislabelled, and which classes are hard to tell apart."""
    lines = [
        f"labels of {check.subset}: {percent(check.accuracy)} of clips are what a model that has "
        f"not seen them says ({check.method})"
    ]
    lines += [
        f"  {s.clip}: labelled {s.label}, looks like {s.predicted} ({100 * s.probability:.0f} %)"
        for s in check.suspects
    ] or ["  no clip looks mislabelled"]
    lines += [
        f"  hard to tell apart: {' / '.join(pair.classes)} ({pair.confused} of {pair.clips} clips "
        "confused)"
        for pair in check.confused
    ]
    if check.untested:
        lines.append(f"  with a single clip, not checked: {', '.join(check.untested)}")
    return "\n".join(lines)


def _promise_lines(result: TestResult) -> Iterator[str]:
    """Yields what fit said of the accuracy, and whether it is so."""
    if result.promised is None or result.promised_share is None:
        return
    few, many = result.promised
    clips, said = count_text(result.accuracy.clips, "clip"), percent(result.promised_share)
    if few == 0:
        yield (
            f"too few clips to check what fit said {said}: every result of {clips} agrees with it"
        )
        return
    verdict = "as promised" if result.is_as_promised else "NOT as promised"
    yield f"{verdict}: fit said {said}, so {few} to {many} of {clips}"


def _unknown_lines(result: TestResult) -> Iterator[str]:
    """Yields how many clips of other classes are told, and what fit said of that."""
    names, share = ", ".join(result.unknown_classes), result.rejected_unknown
    if share is None:
        if names:
            n_unknown = len(result.predictions) - result.accuracy.clips
            yield (
                f"{n_unknown} clips of other classes each got one of the model's, as \"none of "
                f'these" is off: {names}'
            )
        return
    clips = count_text(share.clips, "clip")
    yield (
        f'"none of these" rejects {percent(share)} of clips of other classes ({share.count} of '
        f"{clips}): {names}"
    )
    if result.promised_unknown is None or result.promised_unknown_share is None:
        return
    said = f"fit said {percent(result.promised_unknown_share)}, on average over many other classes"
    if result.promised_unknown == (0, share.clips):
        classes = count_text(len(result.unknown_classes), "other class")
        yield f"{said}; {clips} of {classes} are too few to check that"
    else:
        few, many = result.promised_unknown
        yield f"{said}; so {few} to {many} of these {clips}"


def render_test(result: TestResult) -> str:
    """Writes the accuracy on labelled clips, and whether it is as promised."""
    lines = [
        f"accuracy: {percent(result.accuracy)}, {result.accuracy.count} of "
        f"{count_text(result.accuracy.clips, 'clip')} right"
    ]
    lines += _promise_lines(result)
    if result.rejected_known is not None:
        lines.append(f'"none of these" rejects {percent(result.rejected_known)} of these clips')
    lines += _unknown_lines(result)
    for (label, predicted), count in result.confusions:
        lines.append(f"  {label} taken for {predicted}: {count}")
    if result.fitted_clips:
        lines.append(
            "left out, because the model was fitted on them: "
            f"{count_text(len(result.fitted_clips), 'clip')}, "
            f"such as {result.fitted_clips[0]}"
        )
    for path, reason in result.unreadable:
        lines.append(f"cannot be read: {path}: {reason}")
    return "\n".join(wrap_notes(lines))
