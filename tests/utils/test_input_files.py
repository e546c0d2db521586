"""Files that are no files, never end, or become far larger than they are: refused at once."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import fewshot_i2v
from fewshot_i2v import registry
from fewshot_i2v.data.episodes.episode_file import FORMAT
from fewshot_i2v.errors import EncoderError
from fewshot_i2v.models.encoders.weights import read_checkpoint
from fewshot_i2v.utils import input_files

HOME = Path(fewshot_i2v.__file__).parents[1]
HEAD = {
    "format": FORMAT, "version": 1, "episodes": 9, "digest": "", "subset": "novel", "settings": {},
    "split": {"name": "a", "digest": ""}, "classes": ["a"], "clips": ["a"],
}  # fmt: skip
LINE = {"index": 0, "classes": [0], "support": [[0]], "query": [[0]]}

# the reader of a kind of file, as Python that ends with a call for `path`
READERS = {
    "trials": "from fewshot_i2v.data.episodes.episode_file import read_episode_file as read; "
    "read(path)",
    "table": "from fewshot_i2v.data.splits.builder.list_importer import import_csv as read; "
    "read(path, root=path.parent, columns={}, all_way=False)",
    "yaml": "from fewshot_i2v.utils.yaml import load_yaml as read; read(path)",
    "names": "from fewshot_i2v.cli.episodes.new import _read_class_names as read; "
    "read('x', str(path))",
    "start": "from fewshot_i2v.models.checkpoints.start_index import find_starts as read; "
    "read(str(path.parent))",
}
# run with less memory than any of these files would take
PROGRAM = """
import resource, sys
from pathlib import Path
from fewshot_i2v.errors import FewshotError
path = Path(sys.argv[1])
{imports}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    {call}
except FewshotError as error:
    print(error)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
print(f"{{grown:.0f}} MB" if grown > 200 else "little memory")
"""


def refusal(kind: str, path: Path) -> str:
    """What a program says that reads a file, and whether it took much memory for it."""
    imports, call = READERS[kind].split("; ")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(imports=imports, call=call), str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(HOME)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def packed(path: Path, start: bytes, block: bytes, times: int) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(start)
        for _ in range(times):
            file.write(block)
    return path


def bombs() -> dict[str, Callable[[Path], Path]]:
    """Files of a few kilobytes or megabytes that become gigabytes."""
    head, line = json.dumps(HEAD).encode() + b"\n", json.dumps(LINE).encode() + b"\n"
    million = 1 << 20
    return {
        "newlines": lambda p: packed(p / "a.jsonl.gz", b"", b"\n" * million, 60),
        "newlines behind a head": lambda p: packed(p / "a.jsonl.gz", head, b"\n" * million, 60),
        "one episode again and again": lambda p: packed(p / "a.jsonl.gz", head, line * 10_000, 100),
        "a line without end": lambda p: packed(p / "a.jsonl.gz", b"", b" " * million, 220),
        "a head of lists": lambda p: packed(
            p / "a.jsonl.gz", head[:-3] + b", ", b"[]," * (million // 3), 30
        ),
    }


@pytest.mark.parametrize("name", bombs())
def test_packed_trials_are_not_unpacked_in_vain(tmp_path: Path, name: str) -> None:
    said = refusal("trials", bombs()[name](tmp_path))
    assert "a.jsonl.gz" in said
    assert said.endswith("little memory\n")


def endless(tmp_path: Path) -> dict[str, Path]:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    return {"is a named pipe": tmp_path / "pipe", "is a device": tmp_path / "device"}


@pytest.mark.parametrize("kind", [k for k in READERS if k != "names"])
def test_what_never_ends_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    # in this process: whoever waited would wait for ever
    from fewshot_i2v.errors import FewshotError

    name = "adapter.json" if kind == "start" else f"a.{kind}"
    for words, target in endless(tmp_path).items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        with pytest.raises(FewshotError) as caught:
            exec(READERS[kind], {"path": path})  # noqa: S102 - written above
        assert name in str(caught.value)
        assert words in str(caught.value) or kind == "start"


def test_a_line_without_end_is_no_list(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.write(b"path,class\n")
        file.truncate(8 << 30)  # takes no room on the disk
    said = refusal("table", path)
    assert "a.csv: cannot be read: has a line of more than" in said
    assert said.endswith("little memory\n")


def test_lists_and_json_are_bounded_in_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_files, "MAX_LINES", 10)
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfa\r\n" * 10)
    with input_files.open_lines(tmp_path / "a.csv") as file:
        assert file.readline() == "a\r\n"
    (tmp_path / "a.csv").write_bytes(b"a\n" * 11)
    with pytest.raises(OSError, match="more than 10 lines"):
        input_files.open_lines(tmp_path / "a.csv")
    monkeypatch.setattr(input_files, "MAX_JSON_VALUES", 3)
    assert input_files.parse_json(b'{"a": 1, "b": 2}') == {"a": 1, "b": 2}
    with pytest.raises(ValueError, match="more than 3 values"):
        input_files.parse_json("[[[[]]]]")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="nested too deep"):
        input_files.parse_json("[" * 100_000 + "]" * 100_000)
    with pytest.raises(OSError, match="NUL character"):
        input_files.read_regular("a\0b", 1)
    with pytest.raises(OSError, match="more than 3 bytes"):
        input_files.read_text(tmp_path / "a.csv", 3)


# --- weights ------------------------------------------------------------------------------------


def saved_by_torch(
    path: Path, replaced: bytes | None = None, method: int = zipfile.ZIP_STORED
) -> Path:
    """A state dict, its pickle replaced or its entries packed."""
    import torch

    torch.save({"a": torch.zeros(1 << 16)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries:
            changed = replaced if name.endswith("data.pkl") else None
            archive.writestr(name, data if changed is None else changed)
    return path


def test_a_checkpoint_never_becomes_larger_than_it_is(tmp_path: Path) -> None:
    assert saved_by_torch(tmp_path / "a.pt").stat().st_size > 1 << 18
    assert list(read_checkpoint(tmp_path / "a.pt").tensors) == ["a"]
    saved_by_torch(tmp_path / "a.pt", method=zipfile.ZIP_DEFLATED)
    with pytest.raises(EncoderError, match=r"a\.pt: holds packed or unusual data"):
        read_checkpoint(tmp_path / "a.pt")
    # a pickle of 35 bytes: bytearray(2 GB)
    bomb = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\0\0\0\x80\0\x85R."
    saved_by_torch(tmp_path / "a.pt", bomb)
    with pytest.raises(EncoderError, match="unusual data"):
        read_checkpoint(tmp_path / "a.pt")
    (tmp_path / "a.pt").unlink()
    os.mkfifo(tmp_path / "a.pt")
    with pytest.raises(EncoderError, match=r"a\.pt: is a named pipe, not a file"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_plug_in_that_is_no_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adapters").mkdir()
    os.mkfifo(tmp_path / "adapters" / "waits.py")
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(tmp_path))
    (row,) = [row for row in registry.list_methods("adapters") if row.name == "waits"]
    assert "is a named pipe, not a file" in row.problem
    with pytest.raises(fewshot_i2v.FewshotError, match="is a named pipe"):
        registry.load_method("adapters", "waits")
