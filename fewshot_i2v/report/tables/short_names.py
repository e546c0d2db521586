"""Short names of the heads, adapters and starts of a table, each with what it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from fewshot_i2v.report.tables.interval_text import EMPTY

_MAX_ADAPTER_WIDTH = 18


@dataclass(frozen=True)
class ShortNames:
    """Short names of some labels.

    Attributes:
        cells: of each label, in the same order; different labels have different ones.
        legend: lines for above the table: what all labels have in common, or what each name means.
    """

    cells: Sequence[str]
    legend: Sequence[str] = ()


def short_head_names(labels: Sequence[str]) -> Iterator[ShortNames]:
    """Yield names of heads, each shorter than those before.

    First come the options that not all have, then their values alone, then letters. The labels,
    such as "prototype:pooling=ordered,tokens=motion", are not all the same.
    """
    names, options = zip(*map(_split_label, labels), strict=True)
    same_name = len(set(names)) == 1
    common = {
        key: value
        for key, value in options[0].items()
        if same_name and all(key in of_row and of_row[key] == value for of_row in options)
    }
    legend: tuple[str, ...] = ()
    if same_name:
        legend = (f"head {_join_label(names[0], _option_texts(common))}, and the column head",)
    formats: tuple[Callable[[dict[str, str]], list[str]], ...] = (_option_texts, _value_texts)
    for texts_of in formats:
        cells = [
            _join_label("" if same_name else name, texts_of(_without(of_row, common))) or EMPTY
            for name, of_row in zip(names, options, strict=True)
        ]
        if len(set(zip(labels, cells, strict=True))) == len(set(cells)):
            yield ShortNames(cells, legend)
    yield _lettered(labels)


def head_words(label: str) -> str:
    """Name of a head for a text: options in brackets, of those that are on only their names.

    Example:
        >>> head_words("prototype:center=true,pooling=ordered")
        'prototype (center, pooling ordered)'
    """
    name, options = _split_label(label)
    texts = [key if value == "true" else f"{key} {value}" for key, value in options.items()]
    return name + (f" ({', '.join(texts)})" if texts else "")


def short_adapter_names(labels: Sequence[str]) -> ShortNames:
    """Number adapters whose label with its options is long: "aim #1"."""
    names = dict.fromkeys(labels)
    numbers: dict[str, int] = {}
    shown = {}
    for label in names:
        name = label.partition(":")[0]
        if len(label) <= _MAX_ADAPTER_WIDTH:
            shown[label] = label
            continue
        numbers[name] = numbers.get(name, 0) + 1
        shown[label] = f"{name} #{numbers[name]}"
    legend = [f"{cell}: {label}" for label, cell in shown.items() if cell != label]
    return ShortNames([shown[label] for label in labels], legend)


def _lettered(labels: Sequence[str]) -> ShortNames:
    """Name heads by letters, or by numbers where there are too many."""
    names = list(dict.fromkeys(labels))
    keys = ascii_uppercase if len(names) <= len(ascii_uppercase) else range(1, len(names) + 1)
    key_of = {name: str(key) for name, key in zip(names, keys, strict=False)}
    return ShortNames(
        [key_of[label] for label in labels],
        [f"head {key}: {name}" for name, key in key_of.items()],
    )


def _split_label(label: str) -> tuple[str, dict[str, str]]:
    """Split a label into its name and its options."""
    name, _, text = label.partition(":")
    options: dict[str, str] = {}
    for option in filter(None, text.split(",")):
        key, sign, value = option.partition("=")
        if sign:
            options[key] = value
        elif options:  # a comma inside a value, such as that of a list
            last = next(reversed(options))
            options[last] += f",{option}"
    return name, options


def _without(options: dict[str, str], common: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in options.items() if key not in common}


def _option_texts(options: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in options.items()]


def _value_texts(options: dict[str, str]) -> list[str]:
    """Values alone; of options that are on, their keys."""
    return [key if value == "true" else value for key, value in options.items()]


def _join_label(name: str, options: Sequence[str]) -> str:
    return ":".join(filter(None, (name, ",".join(options))))
