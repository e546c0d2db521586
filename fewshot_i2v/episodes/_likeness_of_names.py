"""When two names mean the same class or clip, whatever their spelling."""

from __future__ import annotations

import re
import unicodedata

from fewshot_i2v.episodes._layouts import stem_of

_YOUTUBE = re.compile(r"([\w-]{11})(?:_\d{6}_\d{6})?")


def class_key(name: str) -> str:
    """A class name without case, spaces, signs and spellings of accents."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    return "".join(c for c in plain if c.isalnum())


def clip_key(name: str) -> str:
    """A clip without its folders and extension; of a YouTube id with times, the id alone."""
    stem = stem_of(name.rpartition("/")[2])[0]
    match = _YOUTUBE.fullmatch(stem)
    if match is not None:
        return match.group(1)
    return unicodedata.normalize("NFC", stem).casefold().replace(" ", "_")
