"""What a paper has to cite for the rows of a run: a BibTeX file, from the headers of the rows.

An entry lies with what it is for: adapters and heads have it in their class, splits in their file,
encoders in `models/encoders/publications.py`, and a protocol in its configuration.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_i2v import registry
from fewshot_i2v.config.readouts import FROZEN
from fewshot_i2v.config.start_names import FRESH
from fewshot_i2v.data.episodes.disjoint import DisjointSampler
from fewshot_i2v.data.episodes.episode_file import EpisodeFile, read_episode_file
from fewshot_i2v.data.episodes.factory import find_episode_file
from fewshot_i2v.data.splits.split_file import load_split, read_split_origin
from fewshot_i2v.errors import FewshotError
from fewshot_i2v.models.encoders.publications import encoder_publications
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.bibtex import BibEntry, parse_entries

_NO_PUBLICATION = "no publication"
_KINDS = ("adapter", "head", "readout", "start", "encoder", "split", "episodes", "protocol")
"""In the order of the file."""
_ENCODER_READOUTS = ("summary", "projected")
"""Readouts that are the encoder's own output."""
_COMMENT_WIDTH = 80
Header = Mapping[str, Any]


@dataclass(frozen=True)
class UsedThing:
    """Something that rows used.

    Attributes:
        kind: one of "adapter", "head", "readout", "start", "encoder", "split", "episodes" and
            "protocol".
        name: its name.
        citation: BibTeX entries; or empty.
        remark: why there is none, or what to cite beside it; or empty.
    """

    kind: str
    name: str
    citation: str = ""
    remark: str = ""

    @property
    def label(self) -> str:
        """Kind and name."""
        return f"{self.kind} {self.name}"


def format_references(
    headers: Iterable[Header],
    *,
    title: str = "",
    version: str = "",
    split: str | Path | None = None,
) -> str:
    """Write a BibTeX file with an entry for each publication that rows used, and only these.

    What has no publication is named in a comment at the top, and so is what is not known.

    Args:
        headers: contents of the `run.json` of the rows.
        title: of the table, for the comment.
        version: of this package, for the comment.
        split: name or path of the split where the recorded file is not there.
    """
    things = used_things(headers, split)
    entries, remarks = _entries(things)
    without = [thing.label for thing in things if thing.remark == _NO_PUBLICATION]
    first = f"References of what these rows used: {title}" if title else "References of these rows"
    paragraphs = [f"{first}. Written by fewshot-i2v {version}.".replace(" .", ".")]
    if without:
        paragraphs.append(f"{_NO_PUBLICATION}: {', '.join(without)}")
    paragraphs += remarks
    comments = "".join(map(_comment, paragraphs))
    blocks = [f"{_comment(', '.join(labels))}{entry.text}\n" for entry, labels in entries]
    return "\n".join([comments, *blocks])


def _comment(text: str) -> str:
    # outside entries BibTeX skips everything but this sign
    plain = " ".join(text.replace("@", "(at)").split())
    lines = textwrap.wrap(plain, _COMMENT_WIDTH, break_long_words=False, break_on_hyphens=False)
    return "".join(f"%{'   ' if i else ' '}{line}\n" for i, line in enumerate(lines))


def _entries(
    things: Sequence[UsedThing],
) -> tuple[list[tuple[BibEntry, list[str]]], list[str]]:
    """Entries, each once, with the labels of what they are for; and the remarks on the others."""
    entries: list[tuple[BibEntry, list[str]]] = []
    remarks = [f"{t.label}: {t.remark}" for t in things if t.remark and t.remark != _NO_PUBLICATION]
    for thing in things:
        try:
            parsed = parse_entries(thing.citation)
        except ValueError as error:
            remarks.append(f"{thing.label}: its citation cannot be read as BibTeX: {error}")
            continue
        for entry in parsed:
            same = [labels for other, labels in entries if other.content == entry.content]
            if same:
                same[0].extend([thing.label] if thing.label not in same[0] else [])
                continue
            entries.append((_with_free_key(entry, [e for e, _ in entries]), [thing.label]))
    return entries, remarks


def _with_free_key(entry: BibEntry, others: Sequence[BibEntry]) -> BibEntry:
    """The entry, under another key where one of the others has its own."""
    taken, number, key = {other.key.casefold() for other in others}, 1, entry.key
    while key.casefold() in taken:
        number += 1
        key = f"{entry.key}-{number}"
    return entry if key == entry.key else entry.with_key(key)


def used_things(headers: Iterable[Header], split: str | Path | None = None) -> list[UsedThing]:
    """Collect what rows used, each thing once, by kind and in the order of the rows.

    Args:
        headers: contents of the `run.json` of the rows.
        split: name or path of the split where the recorded file is not there.
    """
    things: dict[UsedThing, None] = {}
    places: dict[tuple[str, str, str], None] = {}
    for header in headers:
        things |= dict.fromkeys(_things_of_row(header))
        facts, identity = header.get("split", {}), header["identity"]
        name = facts.get("name") or identity["config"]["split"]
        places[name, facts.get("path", ""), identity["split"]["digest"]] = None
    things |= dict.fromkeys(_split_of(*place, split) for place in places)
    return sorted(things, key=lambda thing: _KINDS.index(thing.kind))


def _things_of_row(header: Header) -> Iterator[UsedThing]:
    """All but the split."""
    config, marks = header["identity"]["config"], header.get("marks", {})
    methods = header["identity"].get("methods", {})
    for kind in ("adapter", "head"):
        options = {**config[kind]["options"], **methods.get(kind, {}).get("options", {})}
        yield _method(kind, config[kind]["name"], options)
        if kind == "head":
            yield from _readouts(str(options.get("tokens", options.get("readouts", ""))))
    start = marks.get("start") or {}
    if start.get("kind", FRESH) != FRESH:
        text = f"{start['kind']}; cite the data and the method of its training (its adapter.json)"
        yield UsedThing("start", start.get("name", ""), "", text)
    yield _encoder(config["encoder"], header.get("encoder", {}))
    if marks.get("disjoint"):
        yield UsedThing("episodes", "without a common clip", DisjointSampler.citation)
    if "digest" in header["identity"].get("trials", {}):
        yield from _trials(header)
    if header.get("citation"):
        yield UsedThing("protocol", header.get("name", ""), header["citation"])


def _method(kind: str, name: str, options: Mapping[str, Any]) -> UsedThing:
    """An adapter or head, with the publications of options that are not at their defaults."""
    kinds: registry.MethodKind = "adapters" if kind == "adapter" else "heads"
    try:
        method = registry.load_method(kinds, name)
        is_own = registry.code_digest(kinds, name) is None
    except FewshotError as error:
        return UsedThing(kind, name, "", f"its file cannot be used: {error}")
    fields = method.Options.model_fields
    citations = [method.citation]
    citations += [
        text
        for option, text in method.option_citations.items()
        if option in options and options[option] != fields[option].default
    ]
    citation = "\n".join(str(text) for text in citations if text)
    if citation:
        return UsedThing(kind, name, citation)
    remark = f"its class names no entry (citation); its source: {method.source}"
    return UsedThing(kind, name, "", _NO_PUBLICATION if is_own else remark)


def _readouts(names: str) -> Iterator[UsedThing]:
    """Readouts that are made by this package."""
    for name in names.split("+"):
        plain = name.removeprefix(FROZEN)
        if plain and plain not in _ENCODER_READOUTS:
            yield UsedThing("readout", plain, "", _NO_PUBLICATION)


def _encoder(config: Mapping[str, Any], facts: Mapping[str, Any]) -> UsedThing:
    name, architecture = config["name"], config["architecture"]
    loaded = facts.get("pretrained")
    # what was loaded names the tag of a file that is known by its digest
    pretrained = config["pretrained"] if loaded in (None, "shipped", "none") else loaded
    found = encoder_publications(name, pretrained, architecture)
    return UsedThing("encoder", name, "\n".join(found.citations), found.remark)


def _trials(header: Header) -> Iterator[UsedThing]:
    """Published episodes; those of an own sampler have no source."""
    path = str(header.get("trials", {}).get("path", ""))
    name = Path(path).name.partition(".")[0]
    file = _read_trials(path, name, header["identity"]["trials"]["digest"])
    if file is None:
        yield UsedThing("episodes", name, "", f"the file is not there ({path})")
    elif file.settings.get("citation"):
        yield UsedThing("episodes", name, str(file.settings["citation"]))
    elif file.settings.get("source"):
        yield UsedThing("episodes", name, "", f"from {file.settings['source']}")


def _read_trials(path: str, name: str, digest: str) -> EpisodeFile | None:
    """The episodes of a run: those of the recorded file, else the shipped ones of that name."""
    for place in (path, name):
        try:
            file = read_episode_file(find_episode_file(place))
        except FewshotError:
            continue
        if file.digest == digest:
            return file
    return None


def _split_of(name: str, path: str, digest: str, given: str | Path | None) -> UsedThing:
    place = _find_split(name, path, digest, given)
    if place is None:
        where = f" ({path})" if path else ""
        remark = f"its file is not there{where}; give it with --split"
        return UsedThing("split", name, "", remark)
    try:
        origin = read_split_origin(place)
    except FewshotError as error:
        return UsedThing("split", name, "", f"its file cannot be used: {error}")
    if origin.citation:
        return UsedThing("split", name, origin.citation)
    if origin.generated:
        return UsedThing("split", name, "", _NO_PUBLICATION)
    source = f"; its source: {origin.source}" if origin.source else ""
    return UsedThing("split", name, "", f"its file names no entry (citation){source}")


def _find_split(name: str, path: str, digest: str, given: str | Path | None) -> str | Path | None:
    """Where the split of a row is: the recorded file, the one that is given, or the shipped one."""
    if path and Path(path).is_file():
        return Path(path)
    if given is not None:
        return given
    is_shipped = name in resources.data_names("episodes") and load_split(name).digest == digest
    return name if is_shipped else None
