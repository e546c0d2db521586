"""The file of a fitted model: damage is named, whatever byte it hits."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fewshot_i2v.errors import CheckpointError
from fewshot_i2v.models.checkpoints.model_file import read_model, write_model
from tests.evaluation.fitting.conftest import Material


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fewshot_i2v import fit

    folder = tmp_path_factory.mktemp("model")
    material = Material(folder)
    fit(material.train, folder / "m.safetensors", folds=2, **material.keys(head="prototype"))
    return folder / "m.safetensors"


def test_it_is_read_as_it_was_written(model_path: Path, tmp_path: Path) -> None:
    model = read_model(model_path)
    write_model(tmp_path / "again.safetensors", model)
    assert (tmp_path / "again.safetensors").read_bytes() == model_path.read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_changed_byte_is_refused(
    model_path: Path, tmp_path: Path, position: float, change: int
) -> None:
    data = bytearray(model_path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    index = int(position * len(data))
    data[index] ^= change
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(bytes(data))
    original = read_model(model_path)
    try:
        model = read_model(damaged)
    except CheckpointError:
        return
    # another space between the keys of the header changes nothing
    assert 8 <= index < 8 + length
    assert model.description == original.description


@pytest.mark.parametrize("size", [0, 7, 8, 100, -1])
def test_a_file_that_is_cut_short_is_refused(model_path: Path, tmp_path: Path, size: int) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(model_path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
        read_model(cut)


def test_other_files_are_told_apart(model_path: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such file.*fewshot-i2v fit"):
        read_model(tmp_path / "absent")
    other = tmp_path / "other.safetensors"
    save_file(read_model(model_path).tensors, other)
    with pytest.raises(CheckpointError, match="not of a fitted model"):
        read_model(other)
    with pytest.raises(CheckpointError, match="folder"):
        read_model(tmp_path)


def test_another_version_is_named(model_path: Path, tmp_path: Path) -> None:
    data = model_path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    key = "fewshot_i2v_model"
    plain = json.loads(header["__metadata__"][key].partition(" ")[2]) | {"schema_version": 99}
    later = json.dumps(plain)
    digest = hashlib.sha256(later.encode()).hexdigest()
    header["__metadata__"][key] = f"{digest} {later}"
    text = json.dumps(header).encode()
    path = tmp_path / "later.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    with pytest.raises(CheckpointError, match="schema version 99"):
        read_model(path)
