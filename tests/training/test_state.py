"""The saved state of a training: what comes back, what is refused, what a failed write leaves."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from fewshot_i2v.errors import CheckpointError, ExportError
from fewshot_i2v.models.encoders.weights import tensor_digest
from fewshot_i2v.training.state import (
    STATE_FILE,
    STATE_FOLDER,
    CurveEntry,
    TrainableState,
    TrainingProgress,
    load_state,
    save_state,
)

_IDENTITY: dict[str, Any] = {"config": {"lr": 0.1, "classes": ["a", "b"]}, "split": "ab"}


_ENTRY = CurveEntry(step=0, loss=None, accuracy=0.25, half_width=None)


def _progress(step: int, **changes: Any) -> TrainingProgress:
    return TrainingProgress.before_first_step().model_copy(update={"step": step, **changes})


def _moving(seed: int, kind: type[torch.optim.Optimizer] = torch.optim.AdamW) -> TrainableState:
    """Two linear maps after two steps."""
    generator = torch.Generator().manual_seed(seed)
    adapter, extra = nn.Linear(3, 2), nn.Linear(2, 2)
    parameters = [*adapter.parameters(), *extra.parameters()]
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    more: dict[str, Any] = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizer: Any = kind
    moving = TrainableState(adapter, extra, optimizer(parameters, lr=0.1, **more))
    for _ in range(2):
        _step(moving)
    return moving


def _step(moving: TrainableState) -> torch.Tensor:
    x = torch.tensor([[1.0, -2.0, 0.5]])
    moving.optimizer.zero_grad()
    loss: torch.Tensor = moving.extra.forward(moving.adapter(x)).square().sum()
    torch.autograd.backward(loss)
    moving.optimizer.step()
    return loss.detach()


def _saved(folder: Path) -> Path:
    (folder / STATE_FOLDER).mkdir(exist_ok=True)
    moving = _moving(0)
    moving.best = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    changes = {"losses": [0.1, 1 / 3], "best_step": 0, "best_accuracy": 0.25, "curve": [_ENTRY]}
    save_state(folder, _IDENTITY, moving, _progress(2, **changes))
    return folder / STATE_FOLDER / STATE_FILE


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_training_goes_on_from_it_bit_for_bit(
    tmp_path: Path, kind: type[torch.optim.Optimizer]
) -> None:
    (tmp_path / STATE_FOLDER).mkdir()
    first = _moving(0, kind)
    save_state(tmp_path, _IDENTITY, first, _progress(2))
    second = _moving(1, kind)
    known = load_state(tmp_path, _IDENTITY, second)
    assert known is not None
    assert known.step == 2
    assert [_step(first).item() for _ in range(3)] == [_step(second).item() for _ in range(3)]
    assert tensor_digest(first.tensors()) == tensor_digest(second.tensors())


def test_everything_known_comes_back(tmp_path: Path) -> None:
    _saved(tmp_path)
    moving = _moving(1)
    known = load_state(tmp_path, _IDENTITY, moving)
    assert known is not None
    assert (known.step, known.best_step, known.best_accuracy) == (2, 0, 0.25)
    assert known.losses == [0.1, 1 / 3]
    assert known.curve == [_ENTRY]
    assert torch.equal(moving.best["weight"], torch.ones(2, 3))


def test_no_state_is_no_error(tmp_path: Path) -> None:
    assert load_state(tmp_path, _IDENTITY, _moving(0)) is None


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_damage_is_an_error_and_not_another_result(tmp_path: Path, damage: str) -> None:
    path = _saved(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes({"flipped": data, "cut": data[:-7], "empty": bytearray()}[damage]))
    with pytest.raises(CheckpointError, match=r"state: damaged; delete"):
        load_state(tmp_path, _IDENTITY, _moving(0))


def test_another_training_is_refused_key_by_key(tmp_path: Path) -> None:
    _saved(tmp_path)
    other = {"config": {"lr": 0.2, "classes": ["a", "c"]}, "split": "ab"}
    with pytest.raises(CheckpointError, match=r"config.lr: 0.1 in the folder, 0.2 requested") as e:
        load_state(tmp_path, other, _moving(0))
    assert "config.classes" in str(e.value)
    assert "split" not in str(e.value)


def test_modules_of_other_shapes_are_refused(tmp_path: Path) -> None:
    _saved(tmp_path)
    adapter, extra = nn.Linear(4, 2), nn.Linear(2, 2)
    parameters = [*adapter.parameters(), *extra.parameters()]
    with pytest.raises(CheckpointError, match="does not fit this training"):
        load_state(
            tmp_path, _IDENTITY, TrainableState(adapter, extra, torch.optim.AdamW(parameters))
        )


def test_a_write_that_fails_keeps_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _saved(tmp_path)
    before = path.read_bytes()

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ExportError, match="No space left on device"):
        save_state(tmp_path, _IDENTITY, _moving(1), _progress(4))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [STATE_FILE]


def test_a_digest_tells_names_shapes_and_values_apart() -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    same = {"b": torch.ones(1), "a": torch.zeros(2, 3)}
    assert tensor_digest(base) == tensor_digest(same)
    others = [
        {**base, "a": torch.zeros(3, 2)},
        {**base, "a": torch.zeros(2, 3).double()},
        {"c": base["a"], "b": base["b"]},
        {**base, "b": torch.ones(1) + 1e-6},
    ]
    assert len({tensor_digest(tensors) for tensors in [base, *others]}) == 5


Change = Callable[[dict[str, torch.Tensor], dict[str, Any]], object]


def _resaved(path: Path, change: Change) -> None:
    """Changes tensors and content of a state, with the digest of what it then holds."""
    data = path.read_bytes()[:-32]
    tensors = load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    content = json.loads(header["__metadata__"]["training"])
    change(tensors, content)
    data = save(tensors, metadata={"training": json.dumps(content)})
    path.write_bytes(data + hashlib.sha256(data).digest())


def _put(*keys: Any) -> Change:
    """Sets the last but one key to the last, in the content or, for one key, in the tensors."""

    def _change(tensors: dict[str, torch.Tensor], content: dict[str, Any]) -> None:
        *parents, leaf, value = keys
        place: Any = content if parents or leaf in content else tensors
        for key in parents:
            place = place[key]
        place[leaf] = value

    return _change


@pytest.mark.parametrize(
    "change",
    [
        lambda _, content: content.clear(),
        lambda tensors, _: tensors.clear(),
        lambda tensors, _: tensors.pop("best.bias"),
        lambda tensors, _: tensors.pop("optimizer.0.exp_avg"),
        lambda tensors, _: [tensors.pop(f"optimizer.{i}.exp_avg_sq") for i in range(4)],
        _put("schema", [1]),
        _put("identity", None),
        _put("progress", []),
        _put("progress", "step", "2"),
        _put("progress", "step", -1),
        _put("progress", "step", 1e300),
        _put("progress", "more", 1),
        _put("progress", "curve", [{}]),
        _put("progress", "curve", 0, "accuracy", "high"),
        _put("progress", "losses", [None]),
        _put("progress", "best_accuracy", 7.0),
        _put("progress", "best", {}),
        _put("progress", "threads", "all"),
        _put("optimizer.0.exp_avg", torch.zeros(7)),
        _put("optimizer.0.exp_avg", torch.zeros(2, 3, dtype=torch.int64)),
        _put("optimizer.9.exp_avg", torch.zeros(2, 3)),
        _put("optimizer.x.exp_avg", torch.zeros(2, 3)),
        _put("best.bias", torch.zeros(7)),
        _put("adapter.bias", torch.zeros(2, dtype=torch.int8)),
        _put("other", torch.zeros(2)),
    ],
)
def test_a_forged_state_is_an_error_that_names_it(tmp_path: Path, change: Change) -> None:
    path = _saved(tmp_path)
    _resaved(path, lambda *_: None)
    assert load_state(tmp_path, _IDENTITY, _moving(1)) is not None
    _resaved(path, change)
    with pytest.raises(CheckpointError) as caught:
        load_state(tmp_path, _IDENTITY, _moving(1))
    assert str(path.parent) in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"\x02\0\0\0\0\0\0\0{}", b"\xff" * 8, b"\x04" + b"\0" * 7 + b"null"]
)
def test_what_is_no_state_is_an_error_whatever_its_digest(tmp_path: Path, data: bytes) -> None:
    path = _saved(tmp_path)
    path.write_bytes(data + hashlib.sha256(data).digest())
    with pytest.raises(CheckpointError, match="state: is not the state of a training"):
        load_state(tmp_path, _IDENTITY, _moving(1))


def test_a_state_that_is_no_file_or_too_large_is_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    with path.open("r+b") as file:
        file.truncate(4 << 30)  # takes no room on the disk
    with pytest.raises(CheckpointError, match="the most that is read"):
        load_state(tmp_path, _IDENTITY, _moving(1))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="state: is a named pipe"):
        load_state(tmp_path, _IDENTITY, _moving(1))
