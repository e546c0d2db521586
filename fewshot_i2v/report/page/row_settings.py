"""Settings of the rows of a section: those that all share, and those in which each differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SCHEMA_KEY = "schema"
_CLIPS_KEY = "clips"
_ABSENT = "-"


def flatten(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Iterate over the leaves of nested mappings: key with dots, and value as text."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from flatten(inner, f"{key}.{name}" if key else str(name))
    elif key != _SCHEMA_KEY:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield key.removeprefix("identity.config.").removeprefix("identity."), text


def common_and_differing(
    headers: Sequence[Mapping[str, Any]],
) -> tuple[list[tuple[str, str]], list[list[tuple[str, str]]]]:
    """Keys and values that all headers share, and for each header those that differ."""
    # the digests of clips are many, and no setting
    flats = [
        dict(flatten({k: v for k, v in header.items() if k != _CLIPS_KEY})) for header in headers
    ]
    keys = list(dict.fromkeys(key for facts in flats for key in facts))
    common_keys = [key for key in keys if len({facts.get(key) for facts in flats}) == 1]
    common = [(key, flats[0][key]) for key in common_keys]
    differing_keys = [key for key in keys if key not in set(common_keys)]
    return common, [
        [(key, flat_header.get(key, _ABSENT)) for key in differing_keys] for flat_header in flats
    ]
