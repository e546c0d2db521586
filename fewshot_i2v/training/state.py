"""Training state on disk, from which a killed training resumes.

One file, `.training/state`, always replaced completely: a safetensors file with all tensors and, as
its metadata, the identity and the progress of the training; after it the SHA-256 of these bytes, so
that a damaged state is an error and not another result. It is data only and may come from anywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from fewshot_i2v.errors import CheckpointError, ExportError
from fewshot_i2v.runs.header import differences, precision_advice
from fewshot_i2v.utils.files import replace_file, sync_folder
from fewshot_i2v.utils.input_files import parse_json, read_regular

SCHEMA = 1
"""Version of the layout of the file."""
STATE_FOLDER, STATE_FILE = ".training", "state"
_DIGEST_BYTES = 32
_METADATA_RESERVE = 64 << 20
_OPTIMIZER_STATE_KEYS = {"AdamW": {"step", "exp_avg", "exp_avg_sq"}, "SGD": {"momentum_buffer"}}


class AnotherTrainingError(CheckpointError):
    """A folder that belongs to another training.

    Args:
        message: for users.
        keys: of the identity, dotted, whose values differ.
    """

    def __init__(self, message: str, keys: tuple[str, ...]) -> None:
        super().__init__(message)
        self.keys = keys


class _StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class CurveEntry(_StrictModel):
    """Values at one validation; None where there is none."""

    step: int = Field(ge=0)
    loss: float | None
    accuracy: float | None = Field(ge=0, le=1)
    half_width: float | None


class TrainingProgress(_StrictModel):
    """Progress of a training: what the loop changes besides tensors.

    Attributes:
        step: number of finished steps.
        curve: validation curve so far, as in the resulting starting point.
        losses: of the steps since the last entry of the curve.
        best_step: number of finished steps at the best state; -1: none yet.
        best_accuracy: its validation accuracy; None without validation.
        look_seconds: time of one validation.
        threads: of the CPU when the state was saved; None on a GPU.
        clips: content digests of the clips that were read, by name; states of earlier versions have
            none.
    """

    step: int = Field(ge=0)
    curve: list[CurveEntry]
    losses: list[float]
    best_step: int = Field(ge=-1)
    best_accuracy: float | None = Field(ge=0, le=1)
    look_seconds: float = Field(ge=0)
    threads: int | None = Field(ge=1)
    clips: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def before_first_step(cls) -> TrainingProgress:
        """Progress of a training without any step."""
        return cls(
            step=0,
            curve=[],
            losses=[],
            best_step=-1,
            best_accuracy=None,
            look_seconds=0.0,
            threads=None,
        )


@dataclass
class TrainableState:
    """All tensors that change from step to step.

    Attributes:
        adapter: the trained adapter.
        extra: other trained modules.
        optimizer: over the parameters of both.
        best: tensors of the adapter at the best step so far, on the CPU; empty: none yet.
        start_extra: what of `extra` the starting point holds.
        best_extra: its tensors at the best step so far, likewise.
    """

    adapter: nn.Module
    extra: nn.Module
    optimizer: torch.optim.Optimizer
    best: dict[str, Tensor] = field(default_factory=dict)
    start_extra: nn.Module = field(default_factory=nn.Module)
    best_extra: dict[str, Tensor] = field(default_factory=dict)

    def store_best(self) -> None:
        """Makes the current adapter, and what the start holds beside it, the best so far."""
        self.best, self.best_extra = (
            {name: tensor.to("cpu", copy=True) for name, tensor in module.state_dict().items()}
            for module in (self.adapter, self.start_extra)
        )

    def forget_best(self) -> None:
        """Makes the present state the one that the starting point holds."""
        self.best, self.best_extra = {}, {}

    def restore_best(self) -> None:
        """Gives the adapter, and what the start holds beside it, their best state so far."""
        if self.best:
            self.adapter.load_state_dict(self.best)
        if self.best_extra:
            self.start_extra.load_state_dict(self.best_extra)

    @property
    def has_best_extra(self) -> bool:
        """Whether the best state has what the start holds beside the adapter.

        It does not where an earlier version chose it, which saved the adapter alone.
        """
        return not self.best or self.best_extra.keys() == self.start_extra.state_dict().keys()

    def tensors(self) -> dict[str, Tensor]:
        """Returns copies of all tensors by name, on the CPU and contiguous, for safetensors."""
        states = {
            "adapter": self.adapter.state_dict(),
            "extra": self.extra.state_dict(),
            "best": self.best,
            "best_extra": self.best_extra,
        }
        out = {f"{kind}.{name}": t for kind, state in states.items() for name, t in state.items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            for name, value in values.items():
                if isinstance(value, Tensor):
                    out[f"optimizer.{index}.{name}"] = value
        return {n: t.detach().to("cpu", copy=True).contiguous() for n, t in out.items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Loads tensors that `tensors` returned.

        Raises:
            ValueError, RuntimeError: for other names, shapes or types.
        """
        self._check_tensors(tensors)
        self.adapter.load_state_dict(_strip_prefix("adapter.", tensors))
        self.extra.load_state_dict(_strip_prefix("extra.", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _strip_prefix("optimizer.", tensors).items():
            index, _, leaf = name.partition(".")
            state.setdefault(int(index), {})[leaf] = tensor
        expected_keys = _OPTIMIZER_STATE_KEYS[type(self.optimizer).__name__]
        if any(values.keys() != expected_keys for values in state.values()):
            raise ValueError(f"the optimizer's state is not {', '.join(sorted(expected_keys))}")
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.best = _strip_prefix("best.", tensors)
        self.best_extra = _strip_prefix("best_extra.", tensors)

    def _check_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises when the tensors do not fit those of this training."""
        expected = {f"extra.{name}": t for name, t in self.extra.state_dict().items()}
        for kind in ("adapter", "best"):
            expected |= {f"{kind}.{name}": t for name, t in self.adapter.state_dict().items()}
        held = self.start_extra.state_dict()
        expected |= {f"best_extra.{name}": t for name, t in held.items()}
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for name, tensor in tensors.items():
            template = expected.get(name)
            kind, _, tensor_name = name.partition(".")
            index, _, leaf = tensor_name.partition(".")
            if kind == "optimizer" and int(index) in range(len(parameters)):
                template = torch.zeros(()) if leaf == "step" else parameters[int(index)]
            if template is None or (tensor.shape, tensor.dtype) != (template.shape, template.dtype):
                raise ValueError(f"no tensor of it has name, shape and type of {name!r}")
        best = _strip_prefix("best.", tensors)
        if best and best.keys() != self.adapter.state_dict().keys():
            raise ValueError("its best state is not whole")
        best_extra = _strip_prefix("best_extra.", tensors)
        if best_extra and best_extra.keys() != held.keys():
            raise ValueError("the best state of what is trained beside the adapter is not whole")


def save_state(
    output: Path, identity: Mapping[str, Any], trainable: TrainableState, progress: TrainingProgress
) -> None:
    """Replaces the state of a training: the file is completely the old or the new one.

    Args:
        output: folder of the training; `.training` below it must exist.
        identity: what decides the result.
        trainable: tensors to save.
        progress: values to save beside them.

    Raises:
        ExportError: when the disk refuses; the old state stays.
    """
    content = {"schema": SCHEMA, "identity": identity, "progress": progress.model_dump()}
    metadata = {"training": json.dumps(content, allow_nan=False)}
    data = save(trainable.tensors(), metadata=metadata)
    path = output / STATE_FOLDER / STATE_FILE
    try:
        replace_file(path, data + hashlib.sha256(data).digest(), mode=0o666)
        sync_folder(path.parent, ignore_errors=True)
    except OSError as error:
        raise ExportError(
            f"{path}: cannot be written: {error.strerror or error}; once the cause is gone, the "
            "same command goes on from the last saved state"
        ) from error


def load_state(
    output: Path, identity: Mapping[str, Any], trainable: TrainableState
) -> TrainingProgress | None:
    """Loads the saved state, if there is one.

    Args:
        output: folder of the training.
        identity: what decides the result.
        trainable: filled from the file.

    Returns:
        The saved progress; None when nothing was saved.

    Raises:
        CheckpointError: when the file is damaged, or of another training, naming what differs.
    """
    path = output / STATE_FOLDER / STATE_FILE
    # adapter and best state, and up to two tensors of the optimizer for each parameter
    trained_bytes = sum(tensor.nbytes for tensor in trainable.tensors().values())
    max_bytes = 5 * trained_bytes + _METADATA_RESERVE
    try:
        file_bytes = read_regular(path, max_bytes)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; delete it, or give it back") from error
    data, digest = file_bytes[:-_DIGEST_BYTES], file_bytes[-_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        raise CheckpointError(f"{path}: damaged; delete {path.parent} to train from the beginning")
    content = _read_metadata(path, data)
    check_same_training(path.parent, content["identity"], identity)
    try:
        progress = TrainingProgress.model_validate(content["progress"])
        trainable.load_tensors(load(data))
    except (SafetensorError, RuntimeError, ValueError, LookupError) as error:
        message = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise CheckpointError(f"{path}: does not fit this training: {message}") from error
    return progress


def check_same_training(
    folder: Path, stored: Mapping[str, Any], requested: Mapping[str, Any]
) -> None:
    """Raises for a folder that belongs to another training.

    Args:
        folder: named in the error.
        stored: identity of the training in the folder.
        requested: identity of the requested training.

    Raises:
        AnotherTrainingError: with a line for every key that differs.
    """
    differing = list(differences(stored, json.loads(json.dumps(requested))))
    if differing:
        raise AnotherTrainingError(
            f"{folder}: another training is in this folder:\n  "
            + "\n  ".join(differing)
            + "\ngive another --output, or use the settings of the folder"
            + precision_advice(stored, differing),
            tuple(line.partition(":")[0] for line in differing),
        )


def _read_metadata(path: Path, data: bytes) -> dict[str, Any]:
    """Reads the metadata of safetensors bytes whose checksum was verified."""
    try:
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        content = parse_json(header["__metadata__"]["training"])
        version, _ = content["schema"], content["identity"].keys() | content["progress"].keys()
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: is not the state of a training ({error!r}); delete {path.parent} to train "
            "from the beginning"
        ) from error
    if version != SCHEMA:
        raise CheckpointError(
            f"{path}: schema version {version!r}; this version of fewshot-i2v reads {SCHEMA}. "
            f"Delete {path.parent} to train from the beginning"
        )
    return dict(content)


def _strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
