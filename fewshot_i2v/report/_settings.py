"""What the headers of rows say: what they have in common, and in what they differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SCHEMA = "schema"
_CLIPS = "clips"
_ABSENT = "-"


def flat(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of nested mappings, its key with dots, its value as text."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from flat(inner, f"{key}.{name}" if key else str(name))
    elif key != _SCHEMA:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield key.removeprefix("identity.config.").removeprefix("identity."), text


def compared(
    headers: Sequence[Mapping[str, Any]],
) -> tuple[list[tuple[str, str]], list[list[tuple[str, str]]]]:
    """Keys and values that all headers share, and for each header the others.

    Args:
        headers: contents of `run.json`.
    """
    # the digests of clips are many, and no setting
    flats = [dict(flat({k: v for k, v in each.items() if k != _CLIPS})) for each in headers]
    keys = list(dict.fromkeys(key for facts in flats for key in facts))
    same = [key for key in keys if len({facts.get(key) for facts in flats}) == 1]
    shared = [(key, flats[0][key]) for key in same]
    others = [key for key in keys if key not in set(same)]
    return shared, [[(key, f.get(key, _ABSENT)) for key in others] for f in flats]
