"""One episode's tensors out of modules of E copies, and back into modules of one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from fewshot_i2v.adapters._saved import TENSORS, AdapterInfo
from fewshot_i2v.errors import CheckpointError

if TYPE_CHECKING:
    from fewshot_i2v.adapters._contract import Adapter
    from fewshot_i2v.heads._contract import Head


def copy_of(kind: str, module: Adapter | Head, episode: int) -> dict[str, Tensor]:
    """One episode's tensors, each with a leading axis of 1, on the CPU.

    Args:
        kind: put before the names with a dot.
        module: of E copies.
        episode: which of them.

    Raises:
        CheckpointError: when there is no such copy, or a tensor has no episode axis.
    """
    if not 0 <= episode < module.episodes:
        raise CheckpointError(
            f"episode {episode}: the {kind} holds copies 0 to {module.episodes - 1}"
        )
    out = {}
    for name, tensor in module.state_dict().items():
        if tensor.shape[:1] != (module.episodes,):
            raise CheckpointError(f"{kind}.{name}: {tuple(tensor.shape)} has no episode axis")
        out[f"{kind}.{name}"] = tensor[episode, None].to("cpu", copy=True).contiguous()
    return out


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hexadecimal) of tensors: their names, types, shapes and bytes."""
    content = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content.update(tensor.numpy().tobytes())
    return content.hexdigest()


def fill(
    folder: Path,
    info: AdapterInfo,
    modules: Mapping[str, nn.Module],
    tensors: Mapping[str, Tensor],
    frames: int,
) -> None:
    """Puts tensors into modules, which must have exactly these, of these shapes and types.

    Args:
        folder: where the tensors are from.
        info: what it says of them.
        modules: of one copy, by kind.
        tensors: named as by `copy_of`.
        frames: that the modules were built for.

    Raises:
        CheckpointError: naming what is missing, too many or of another shape, and where the number
            of frames can be the cause, both numbers.
    """
    states = {kind: module.state_dict() for kind, module in modules.items()}
    wanted = {f"{kind}.{n}": t for kind, state in states.items() for n, t in state.items()}
    odd = sorted(wanted.keys() ^ tensors.keys())
    if odd:
        raise CheckpointError(
            f"{folder / TENSORS}: does not fit {info.adapter.name} with these options and this "
            f"encoder: {len(odd)} tensors are missing or too many ({', '.join(odd[:5])})"
        )
    for name, expected in wanted.items():
        found = tensors[name]
        if (found.shape, found.dtype) == (expected.shape, expected.dtype):
            continue
        here = f"{name} is {_kind(found)} and should be {_kind(expected)}"
        if frames != info.frames:
            raise CheckpointError(
                f"{folder}: trained on clips of {info.frames} frames; you ask for {frames}, and "
                f"its parameters depend on them: {here}"
            )
        raise CheckpointError(f"{folder / TENSORS}: {here}")
    for kind, module in modules.items():
        module.load_state_dict({name: tensors[f"{kind}.{name}"] for name in states[kind]})


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
