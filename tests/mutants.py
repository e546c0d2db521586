"""Damaged and forged copies of files: bytes flipped, lines lost, values of JSON replaced."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fewshot_i2v.runs.episode_record import identity_checksum

RAW = "<raw>"
"""Stands for JSON text that `json.dumps` does not write; see `_text`."""
_DEEP = "[" * 3000 + "]" * 3000
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 0.5, -0.5, 1e308, 1 << 31, 1 << 70, 10**400),
    *("", "x", "5-10", "\0", "\x1b[2J", "\u202e", "\ud800", "../..", "a" * 5000, "1e5"),
    *([], {}, [[]], [1], ["x"], [None], {"name": "x"}, [[0.5, 0.5]], {"path": 1}, [1, [2, [3]]]),
    *(f"{RAW}{text}" for text in ("NaN", "Infinity", "-Infinity", "1e999", _DEEP)),
)
Mutant = tuple[str, Callable[[bytes], bytes]]


def _text(content: object) -> str:
    """JSON; a text that begins with RAW is put in as it is."""
    text = json.dumps(content, separators=(",", ":"))
    for value in VALUES:
        if isinstance(value, str) and value.startswith(RAW):
            text = text.replace(json.dumps(value), value.removeprefix(RAW))
    return text


def _places(content: object) -> Iterator[tuple[Any, Any]]:
    """Every container in JSON values, with each of its keys."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content)  # type: ignore[arg-type]
    for key, value in list(pairs):
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


def change_values(content: Any, draws: random.Random) -> Any:  # noqa: ANN401 - any JSON
    """JSON values with one of them replaced, deleted, doubled or added."""
    places = list(_places(content))
    # of the thousands of numbers in a record only some
    holder, key = draws.choice([p for p in places if draws.random() < 0.3] or places)
    kind = draws.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.append(holder[key])
    elif kind == 2 and isinstance(holder, dict):
        holder[draws.choice(["", "x", "name"])] = draws.choice(VALUES)
    else:
        holder[key] = draws.choice(VALUES)
    return content


def changed_json(data: bytes, draws: random.Random) -> bytes:
    """A file of one JSON object, with a value changed."""
    return _text(change_values(json.loads(data), draws)).encode()


def forged_line(line: bytes, key: int, draws: random.Random) -> bytes:
    """A line of an `episodes.jsonl` with a value changed, and the checksum of what it says now."""
    import zlib

    record = json.loads(line)
    last = {k: record.pop(k) for k in ("crc32", "seconds", "peak_memory_mb")}
    if draws.random() < 0.1:
        last = change_values(last, draws)
    else:
        record = change_values(record, draws)
    head = _text(record)[:-1].encode()
    if "crc32" in last:
        last["crc32"] = f"{zlib.crc32(head, key):08x}"
    return head + b"," + _text(last)[1:].encode()


def damaged_bytes(data: bytes, draws: random.Random) -> bytes:
    """Bytes flipped, cut, doubled, put in or left out."""
    place, kind = draws.randrange(len(data) or 1), draws.randrange(5)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + bytes([draws.randrange(256)]) + data[place + 1 :]
    if kind == 2:
        return data[:place] + draws.randbytes(draws.choice([1, 40])) + data[place:]
    lines = data.splitlines(keepends=True) or [b""]
    at = draws.randrange(len(lines))
    return b"".join(lines[:at] + (lines[at : at + 1] * 2 if kind == 3 else []) + lines[at + 1 :])


def mutate_run(folder: Path, draws: random.Random) -> Path:
    """Damages or forges one file of a run folder; lines are made to fit a forged header.

    Returns:
        The file.
    """
    name = draws.choice(["run.json"] * 3 + ["episodes.jsonl"] * 4 + ["summary.json"])
    path, journal = folder / name, folder / "episodes.jsonl"
    data = path.read_bytes()
    key = identity_checksum(json.loads((folder / "run.json").read_bytes())["identity"])
    if draws.random() < 0.25:
        path.write_bytes(damaged_bytes(data, draws))
        return path
    if name == "episodes.jsonl":
        lines = data.splitlines()
        at = draws.randrange(len(lines))
        lines[at] = forged_line(lines[at], key, draws)
        path.write_bytes(b"\n".join(lines) + b"\n")
        return path
    path.write_bytes(changed_json(data, draws))
    if name == "run.json":
        _fit_lines(path, journal, key)
    return path


def _fit_lines(header: Path, journal: Path, before: int) -> None:
    """Gives the lines the checksums of another identity, where there is one."""
    import zlib

    try:
        now = identity_checksum(json.loads(header.read_bytes())["identity"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return
    lines = []
    for line in journal.read_bytes().splitlines():
        head, mark, tail = line.rpartition(b',"crc32":"')
        assert tail[:8] == f"{zlib.crc32(head, before):08x}".encode()
        lines.append(head + mark + f"{zlib.crc32(head, now):08x}".encode() + tail[8:])
    journal.write_bytes(b"\n".join(lines) + b"\n")


def mutate_start(folder: Path, draws: random.Random) -> Path:
    """Damages or forges a file of a saved adapter; tensors are made to fit what was forged.

    Returns:
        The file.
    """
    from safetensors.torch import load_file, save_file

    from fewshot_i2v.models.checkpoints import files

    path = folder / draws.choice([files.METADATA_FILE] * 3 + [files.TENSORS_FILE])
    if path.name == files.TENSORS_FILE or draws.random() < 0.2:
        path.write_bytes(damaged_bytes(path.read_bytes(), draws))
        return path
    path.write_bytes(changed_json(path.read_bytes(), draws))
    try:
        plain = json.loads(path.read_bytes(), parse_constant=str)
    except RecursionError:
        return path
    tensors, facts = folder / files.TENSORS_FILE, plain.pop("tensors", None)
    try:
        link = files._metadata_digest(plain)
    except ValueError:  # no JSON
        link = ""
    if isinstance(facts, dict) and facts.keys() == {"bytes", "sha256"}:
        save_file(load_file(tensors), tensors, metadata={files._METADATA_DIGEST_KEY: link})
        facts |= files.file_metadata(tensors).model_dump()
    path.write_text(json.dumps(plain | ({} if facts is None else {"tensors": facts})))
    return path
