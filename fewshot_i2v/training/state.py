"""The state of a training on disk: what a killed training goes on from.

One file, `.training/state`, replaced as a whole: a safetensors file with all tensors and, as its
metadata, the identity of the training and what is known so far; behind it the SHA-256 of these
bytes, so that a damaged state is an error and not another result. It is data only and may come from
anywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
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
from fewshot_i2v.runs.header import differences
from fewshot_i2v.utils.files import sync_folder_if_possible
from fewshot_i2v.utils.input_files import parse_json, read_regular

SCHEMA = 1
"""Version of the layout of the file."""
FOLDER, FILE = ".training", "state"
_DIGEST_BYTES = 32
_ROOM = 64 << 20
_OPTIMIZER_STATE = {"AdamW": {"step", "exp_avg", "exp_avg_sq"}, "SGD": {"momentum_buffer"}}


@dataclass
class Progress:
    """How far a training is; what the loop changes besides tensors.

    Attributes:
        step: steps done.
        curve: what was seen so far, as in the start that comes of it.
        losses: of the steps since the last entry of the curve.
        best_step: steps done when the best state was kept; -1: none yet.
        best_accuracy: its accuracy on validation; None without validation.
        best: tensors of the adapter at that step, on the CPU.
        look_seconds: that a validation took.
        threads: of the CPU when the state was saved; None on a GPU.
    """

    step: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best_step: int = -1
    best_accuracy: float | None = None
    best: dict[str, Tensor] = field(default_factory=dict)
    look_seconds: float = 0.0
    threads: int | None = None


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Entry(_Plain):
    """One entry of the curve."""

    step: int = Field(ge=0)
    loss: float | None
    accuracy: float | None = Field(ge=0, le=1)
    half_width: float | None


class _Known(_Plain):
    """`Progress` in a file, without its tensors."""

    step: int = Field(ge=0)
    curve: list[_Entry]
    losses: list[float]
    best_step: int = Field(ge=-1)
    best_accuracy: float | None = Field(ge=0, le=1)
    look_seconds: float = Field(ge=0)
    threads: int | None = Field(ge=1)


@dataclass(frozen=True)
class Moving:
    """What has tensors that change from step to step.

    Attributes:
        adapter: that is trained.
        extra: what else is trained.
        optimizer: over the parameters of both.
    """

    adapter: nn.Module
    extra: nn.Module
    optimizer: torch.optim.Optimizer

    def tensors(self) -> dict[str, Tensor]:
        """All of them by name, on the CPU."""
        out: dict[str, Tensor] = {}
        for kind, module in (("adapter", self.adapter), ("extra", self.extra)):
            out |= {f"{kind}.{name}": tensor for name, tensor in module.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            for name, value in values.items():
                if isinstance(value, Tensor):
                    out[f"optimizer.{index}.{name}"] = value
        return {name: _own(tensor) for name, tensor in out.items()}

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts back what `tensors` gave.

        Raises:
            ValueError, RuntimeError: for other names, shapes or types.
        """
        self._check(tensors)
        self.adapter.load_state_dict(_below("adapter.", tensors))
        self.extra.load_state_dict(_below("extra.", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _below("optimizer.", tensors).items():
            index, _, leaf = name.partition(".")
            state.setdefault(int(index), {})[leaf] = tensor
        wanted = _OPTIMIZER_STATE[type(self.optimizer).__name__]
        if any(values.keys() != wanted for values in state.values()):
            raise ValueError(f"the optimizer's state is not {', '.join(sorted(wanted))}")
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _check(self, tensors: Mapping[str, Tensor]) -> None:
        """Refuses tensors that are not like those of this training."""
        own = {f"extra.{name}": t for name, t in self.extra.state_dict().items()}
        for kind in ("adapter", "best"):
            own |= {f"{kind}.{name}": t for name, t in self.adapter.state_dict().items()}
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for name, tensor in tensors.items():
            like = own.get(name)
            kind, _, rest = name.partition(".")
            index, _, leaf = rest.partition(".")
            if kind == "optimizer" and int(index) in range(len(parameters)):
                like = torch.zeros(()) if leaf == "step" else parameters[int(index)]
            if like is None or (tensor.shape, tensor.dtype) != (like.shape, like.dtype):
                raise ValueError(f"no tensor of it has name, shape and type of {name!r}")
        if (best := _below("best.", tensors)) and best.keys() != self.adapter.state_dict().keys():
            raise ValueError("its best state is not whole")


def save_state(
    output: Path, identity: Mapping[str, Any], moving: Moving, progress: Progress
) -> None:
    """Replaces the state of a training: it is wholly the old one or wholly this one.

    Args:
        output: folder of the training; `.training` below it must exist.
        identity: what decides the result.
        moving: what is saved of the modules.
        progress: what is saved besides.

    Raises:
        ExportError: when the disk refuses; the old state is kept.
    """
    known = {
        "step": progress.step,
        "curve": progress.curve,
        "losses": progress.losses,
        "best_step": progress.best_step,
        "best_accuracy": progress.best_accuracy,
        "look_seconds": progress.look_seconds,
        "threads": progress.threads,
    }
    content = {"schema": SCHEMA, "identity": identity, "progress": known}
    tensors = moving.tensors()
    tensors |= {f"best.{name}": _own(tensor) for name, tensor in progress.best.items()}
    data = save(tensors, metadata={"training": json.dumps(content, allow_nan=False)})
    replace_file(output / FOLDER / FILE, data + hashlib.sha256(data).digest())


def load_state(output: Path, identity: Mapping[str, Any], moving: Moving) -> Progress | None:
    """Goes back to the state that was saved, if there is one.

    Args:
        output: folder of the training.
        identity: what decides the result.
        moving: filled from the file.

    Returns:
        How far it was; None when nothing was saved.

    Raises:
        CheckpointError: when the file is damaged, or of another training, naming what differs.
    """
    path = output / FOLDER / FILE
    # adapter and best state, and up to two tensors of the optimizer for each parameter
    most = 5 * sum(tensor.nbytes for tensor in moving.tensors().values()) + _ROOM
    try:
        whole = read_regular(path, most)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; delete it, or give it back") from error
    data, digest = whole[:-_DIGEST_BYTES], whole[-_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        raise CheckpointError(f"{path}: damaged; delete {path.parent} to train from the beginning")
    content = _content(path, data)
    refuse_other(path.parent, content["identity"], identity)
    try:
        known = _Known.model_validate(content["progress"])
        tensors = load(data)
        moving.fill(tensors)
    except (SafetensorError, RuntimeError, ValueError, LookupError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise CheckpointError(f"{path}: does not fit this training: {said}") from error
    return Progress(**known.model_dump(), best=_below("best.", tensors))


def refuse_other(where: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuses a folder that belongs to another training.

    Args:
        where: named in the error.
        stored: identity of what is in the folder.
        asked: identity of what is asked for.

    Raises:
        CheckpointError: with a line for every key that differs.
    """
    differing = list(differences(stored, json.loads(json.dumps(asked))))
    if differing:
        raise CheckpointError(
            f"{where}: another training is in this folder:\n  "
            + "\n  ".join(differing)
            + "\ngive another --output, or ask for what is in the folder"
        )


def replace_file(path: Path, data: bytes) -> None:
    """Replaces a file by new content, at once and durably.

    Raises:
        ExportError: when it cannot be written; the old content stays.
    """
    temporary = path.with_name(f"{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder_if_possible(path.parent)
    except OSError as error:
        raise ExportError(
            f"{path}: cannot be written: {error.strerror or error}; once the cause is gone, the "
            "same command goes on from the last saved state"
        ) from error
    finally:  # a signal may end the writing as well
        with contextlib.suppress(OSError):
            temporary.unlink()


def _content(path: Path, data: bytes) -> dict[str, Any]:
    """What the metadata of a safetensors file, whose bytes are known to be whole, says.

    Raises:
        CheckpointError: when it is that of no state, or of one of another version.
    """
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


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _own(tensor: Tensor) -> Tensor:
    """A copy on the CPU with memory of its own, as safetensors asks for."""
    return tensor.detach().to("cpu", copy=True).contiguous()
