"""Reads the `draws` of a split file: published choices of clips to learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fewshot_i2v.episodes._problems import Problems, text_problem
from fewshot_i2v.episodes.catalog import Clip, Draw, clip_texts

Folders = Mapping[str, str]


def read_draws(
    value: object,
    train: Mapping[str, Sequence[Clip]],
    folders: Folders,
    problems: Problems,
) -> dict[str, tuple[Draw, ...]]:
    """The draws by name, checked against the clips they are taken from.

    Args:
        value: what stands under `draws` in the split file.
        train: the clips of the train subset.
        folders: class -> the folder that is put before its clip names.
        problems: takes what is wrong.

    Returns:
        Only to be used when no problem was noted.
    """
    if not isinstance(value, dict) or not value:
        problems.add("draws", f"got {value!r}; expected {{NAME: [{{class: clips}}, ...]}}")
        return {}
    if not train:
        problems.add("draws", "there is no train subset for them to be taken from")
        return {}
    known = {name: {clip.name for clip in clips} for name, clips in train.items()}
    result = {}
    for name, draws in value.items():
        wrong = text_problem(name)
        if wrong:
            problems.add("draws", wrong)
        if not isinstance(draws, list) or not draws:
            problems.add(f"draws.{name}", f"got {draws!r}; expected a list of {{class: clips}}")
            continue
        read = [
            _draw(draw, f"draws.{name}[{i}]", known, folders, problems)
            for i, draw in enumerate(draws)
        ]
        result[name] = tuple(draw for draw in read if draw is not None)
    return result


def _draw(
    value: object, where: str, known: Mapping[str, set[str]], folders: Folders, problems: Problems
) -> Draw | None:
    if not isinstance(value, dict):
        problems.add(where, f"got {value!r}; expected {{class: clips}}")
        return None
    problems.unknown(where, value, known)
    absent = [name for name in known if name not in value]
    if absent:
        problems.add(where, f"no clips of {', '.join(map(repr, absent))}; expected every class")
    clips: dict[str, tuple[str, ...]] = {}
    for name in known:
        if name in value:
            clips[name] = _clips(value[name], name, f"{where}.{name}", known, folders, problems)
    counts = {len(names) for names in clips.values()}
    if len(counts) > 1 or 0 in counts:
        low, high = min(counts), max(counts)
        problems.add(where, f"{low} to {high} clips of a class; expected as many of every class")
    return Draw(max(counts, default=0), clips)


def _clips(
    value: object,
    name: str,
    where: str,
    known: Mapping[str, set[str]],
    folders: Folders,
    problems: Problems,
) -> tuple[str, ...]:
    texts = clip_texts(value, folders.get(name), where, problems)
    foreign = [text for text in texts if text not in known[name]]
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        problems.add(where, f"{foreign[0]!r}{more} not among the train clips of the class")
    if len(set(texts)) < len(texts):
        problems.add(where, "a clip is there twice")
    return tuple(texts)
