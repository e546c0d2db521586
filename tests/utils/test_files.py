"""What killed writers leave is swept by the next start, and nothing else is; full disks."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from fewshot_i2v.errors import EpisodeError, ExportError, FewshotError
from fewshot_i2v.models.checkpoints.files import atomic_folder
from fewshot_i2v.report.exports import write_text_file
from fewshot_i2v.training import output_folder
from fewshot_i2v.utils import files
from fewshot_i2v.utils.files import write_atomic as write_split


def write_folder(path: Path, text: str) -> None:
    with atomic_folder(path) as new:
        (new / "adapter.json").write_text(text)


WRITERS: dict[str, Callable[[Path, str], None]] = {
    "report": write_text_file,
    "split": write_split,
    "frozen episodes": lambda path, text: write_split(path, text, EpisodeError),
    "saved adapter": write_folder,
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@writers
def test_what_a_killed_writer_left_is_swept_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, str], None]
) -> None:
    path = tmp_path / "a[1]*"
    monkeypatch.setattr(os, "getpid", lambda: 5_000_000)  # nobody has that number
    (files.temporary_path(path)).write_text("half")
    folder = files.temporary_path(path)
    folder.mkdir()
    (folder / "adapter.safetensors").write_text("half")
    others = [files.temporary_path(tmp_path / "a1"), tmp_path / ".a[1]*.tmp-1"]
    monkeypatch.undo()
    running = files.temporary_path(path)
    others += [running, running.with_name(f"{running.name}.txt"), tmp_path / "a[1]*.tmp-9"]
    for other in others:
        other.write_text("kept")
    write(path, "whole")
    assert set(tmp_path.iterdir()) == {path, *others}
    os.utime(running, (0, 0))  # of a process with the number of another one that has ended
    if path.is_dir():
        (path / "adapter.json").unlink()
    write(path, "whole")
    assert set(tmp_path.iterdir()) == {path, *others} - {running}


def test_what_another_host_writes_now_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of several hosts write the summary of a run at the same time."""
    path = tmp_path / "summary.json"
    monkeypatch.setattr(os, "getpid", lambda: 5_000_000)  # no process here
    monkeypatch.setattr(socket, "gethostname", lambda: "node-2")
    elsewhere = files.temporary_path(path)
    monkeypatch.setattr(socket, "gethostname", lambda: "node-1")
    here = files.temporary_path(path)
    monkeypatch.undo()
    monkeypatch.setattr(socket, "gethostname", lambda: "node-1")
    earlier = path.with_name(f".{path.name}.fewshot-i2v-5000000-01234567.tmp")  # of no host
    for left in (elsewhere, here, earlier):
        left.write_text("half")
    files.replace_file(path, b"whole")
    assert set(tmp_path.iterdir()) == {path, elsewhere}


CALLS = ("open", "write", "fsync", "replace", "rename", "mkdir")


@writers
@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EIO", "EROFS"])
def test_a_disk_that_takes_nothing_ends_with_status_1_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, str], None], code: str
) -> None:
    number = getattr(errno, code)
    real = {name: getattr(os, name) for name in CALLS}
    real["fsync"] = lambda _descriptor: None
    count, at = 0, 0

    def failing(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            nonlocal count
            count += 1
            if count == at:
                raise OSError(number, os.strerror(number))
            return real[name](*args, **kwargs)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, failing(name))
    refusals = 0
    while count >= at:
        path, at, count = tmp_path / f"{at}.md", at + 1, 0
        try:
            write(path, "x")
        except FewshotError as error:
            refusals += 1
            assert error.exit_code == 1, error  # noqa: PT017
            assert str(path) in str(error)  # noqa: PT017
            assert os.strerror(number) in str(error)  # noqa: PT017
            # what is there is whole: where only the folder's entry was not made durable
            assert not path.is_dir()
            assert not path.exists() or path.read_text() == "x"
    assert refusals >= 2
    assert {p.suffix for p in tmp_path.iterdir()} == {".md"}


def test_a_name_that_cannot_be_written_stays_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for write in (write_text_file, write_split):
        with pytest.raises(FewshotError, match="cannot be written") as caught:
            write(tmp_path / "file" / "below", "x")
        assert caught.value.exit_code == 2
    with pytest.raises(ExportError):
        write_folder(tmp_path / "file" / "below", "x")


def test_a_disk_that_fills_up_in_the_last_write_of_a_training_is_named(tmp_path: Path) -> None:
    (tmp_path / ".training").mkdir()
    with (
        pytest.raises(ExportError, match=rf"{tmp_path}: cannot be written: .*No space left"),
        output_folder.start_draft(tmp_path),
    ):
        raise SafetensorError("I/O error: No space left on device (os error 28)")
