"""Read BibTeX entries, strictly: what cannot be read is refused, and nothing is guessed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_KEY = r"[A-Za-z0-9][A-Za-z0-9:._/+-]*"
_HEAD = re.compile(rf"@([A-Za-z]+)\s*\{{\s*({_KEY})\s*(?=[,}}])")
_FIELD_START = re.compile(r",\s*([A-Za-z][\w-]*)\s*=\s*")
_PLAIN_VALUE = re.compile(r"\w+")
_END = re.compile(r",?\s*\}")
_SPACE_AND_COMMENTS = re.compile(r"(?:\s|%[^\n]*(?:\n|$))*")
_NO_ENTRY = ("comment", "preamble", "string")
_VENUES = ("booktitle", "journal", "publisher", "howpublished", "school", "institution")
_ADDRESSES = ("url", "doi", "eprint")
_SPECIAL = re.compile(r"(?<!\\)[&%#_]")
_EXAMPLE = "@misc{key2024, author = {Doe, Jane}, title = {A Title}, year = {2024}}"


@dataclass(frozen=True)
class BibEntry:
    """An entry of a BibTeX file.

    Attributes:
        kind: such as "inproceedings", in small letters.
        key: the name under which a paper cites it.
        fields: values by name, names in small letters, white space in values as single spaces.
        text: as it was written, without the margin of its lines.
    """

    kind: str
    key: str
    fields: Mapping[str, str]
    text: str

    @property
    def content(self) -> tuple[str, Mapping[str, str]]:
        """What it says, without its key and its layout."""
        return self.kind, self.fields

    def with_key(self, key: str) -> BibEntry:
        """Return the entry under another key."""
        start = self.text.index(self.key, self.text.index("{"))
        text = self.text[:start] + key + self.text[start + len(self.key) :]
        return BibEntry(self.kind, key, self.fields, text)


def parse_entries(text: str) -> tuple[BibEntry, ...]:
    """Read BibTeX entries; lines that begin with % may stand between them.

    Raises:
        ValueError: saying what cannot be read and where: anything else between entries, braces that
            are not balanced, a value without braces or quotation marks that is no word or number, a
            field or a key twice.
    """
    entries: list[BibEntry] = []
    position = _skip(text, 0)
    while position < len(text):
        entry, position = _read_entry(text, position)
        if entry.key.casefold() in {other.key.casefold() for other in entries}:
            raise ValueError(f"the key {entry.key} is there twice")
        entries.append(entry)
        position = _skip(text, position)
    return tuple(entries)


def _skip(text: str, position: int) -> int:
    match = _SPACE_AND_COMMENTS.match(text, position)
    return position if match is None else match.end()


def _read_entry(text: str, start: int) -> tuple[BibEntry, int]:
    head = _HEAD.match(text, start)
    if head is None or head[1].lower() in _NO_ENTRY:
        raise ValueError(f"expected an entry such as {_EXAMPLE}, found {_shown(text, start)}")
    fields: dict[str, str] = {}
    position = head.end()
    while (end := _END.match(text, position)) is None:
        field = _FIELD_START.match(text, position)
        if field is None:
            raise ValueError(
                f"entry {head[2]}: expected a field such as year = {{2024}}, or the end, after a "
                f"comma; found {_shown(text, position)}"
            )
        name = field[1].lower()
        if name in fields:
            raise ValueError(f"entry {head[2]}: the field {name} is there twice")
        value, position = _read_value(text, field.end(), f"entry {head[2]}: {name}")
        fields[name] = " ".join(value.split())
    written = inspect.cleandoc(text[start : end.end()])  # without the margin of a Python text
    entry = BibEntry(head[1].lower(), head[2], fields, written)
    return entry, end.end()


def _read_value(text: str, start: int, place: str) -> tuple[str, int]:
    """Read a value in braces or quotation marks, or a word; return it and where it ends."""
    opening = text[start : start + 1]
    if opening not in ("{", '"'):
        word = _PLAIN_VALUE.match(text, start)
        if word is None:
            raise ValueError(f"{place}: expected {{...}}, found {_shown(text, start)}")
        return word[0], word.end()
    depth = 0
    for position in range(start, len(text)):
        character = text[position]
        depth += (character == "{") - (character == "}")
        closes = character == ("}" if opening == "{" else '"') and position > start
        if closes and depth == 0:
            return text[start + 1 : position], position + 1
        if depth < 0:
            break
    raise ValueError(f"{place}: its braces are not balanced")


def _shown(text: str, position: int) -> str:
    """The next few characters, for a message."""
    rest = " ".join(text[position : position + 60].split())
    return repr(rest[:40]) if rest else "the end of the text"


def entry_problems(entry: BibEntry) -> Iterator[str]:
    """Say what an entry lacks to be cited, or what LaTeX would not take; nothing if it is whole."""
    yield from (
        f"has no {name}" for name in ("author", "title", "year") if not entry.fields.get(name)
    )
    if not any(entry.fields.get(name) for name in (*_VENUES, *_ADDRESSES)):
        yield f"has neither an address ({', '.join(_ADDRESSES)}) nor a venue ({', '.join(_VENUES)})"
    year = entry.fields.get("year", "")
    if year and not re.fullmatch(r"[12]\d{3}", year):
        yield f"has the year {year!r}; expected four digits"
    for name, value in entry.fields.items():
        if not value.isascii():
            yield f"has letters in {name} that not every BibTeX reads; write {{\\'e}} for an accent"
        if name not in _ADDRESSES and (special := _SPECIAL.search(value)):
            sign = special[0]
            yield f"has {sign} in {name}, which LaTeX reads as a command; write \\{sign}"
