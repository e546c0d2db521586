"""Reading checkpoints of visual towers: data only, strictly, and never a substitute.

Nothing in a file is trusted: pickles are read as data (`weights_only`) or not at all, names and
shapes must be exactly those of the model, and values must be finite.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn

from fewshot_i2v.errors import EncoderError
from fewshot_i2v.utils.input_files import check_regular_file

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
"""File name endings of the checkpoints that can be read."""

# The largest public CLIP models have some 2,000 tensors and a header of 0.3 MB.
_HEADER_LIMIT = 4 << 20
_FLOATING_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_MAX_LISTED = 5


class Checkpoint(NamedTuple):
    """Tensors of a checkpoint.

    Attributes:
        tensors: on the CPU. Those of the visual tower by their name in it (no `visual.` in front),
            or all others by their name in the full model.
        has_text_tower: whether the file holds weights of a text tower beside a visual one.
    """

    tensors: dict[str, Tensor]
    has_text_tower: bool


def read_checkpoint(path: Path, *, text: bool = False) -> Checkpoint:
    """Read the visual tower's tensors of a local file, or with `text` all others.

    Args:
        path: a `.safetensors` file, or a state dict saved by torch (`.pt`, `.pth`, `.bin`): of a
            full CLIP model or of its visual tower alone, with or without `module.` in front of the
            names, or under the key `state_dict`.
        text: whether to read all but the visual tower.

    Raises:
        EncoderError: when it is absent, not a regular file, damaged, or holds anything but data.
    """
    if path.suffix not in SUFFIXES:
        raise EncoderError(f"{path}: expected a checkpoint ending in {', '.join(SUFFIXES)}")
    try:
        check_regular_file(path)
    except FileNotFoundError as error:
        raise EncoderError(f"{path}: no such file") from error
    except OSError as error:
        raise EncoderError(f"{path}: {error.strerror}; expected a checkpoint") from error
    read = _read_safetensors if path.suffix == ".safetensors" else _read_pickle
    return read(path, text)


def _read_safetensors(path: Path, text: bool) -> Checkpoint:
    size = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    if size < 8 or header_bytes > size - 8:
        raise EncoderError(f"{path}: not a safetensors file, or cut short ({size} bytes)")
    if header_bytes > _HEADER_LIMIT:
        raise EncoderError(
            f"{path}: its header has {header_bytes} bytes; more than {_HEADER_LIMIT} are refused"
        )
    try:
        with safe_open(path, framework="pt") as file:
            names, has_text_tower = _select_names(file.keys(), path, text)
            tensors = {new: file.get_tensor(old) for new, old in names.items()}
            return Checkpoint(tensors, has_text_tower)
    except EncoderError:
        raise
    except Exception as error:
        raise EncoderError(f"{path}: not a safetensors file that can be read: {error}") from error


def _read_pickle(path: Path, text: bool) -> Checkpoint:
    loaded = _load_pickle(path)
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded:
        type_name = type(loaded).__name__
        raise EncoderError(f"{path}: expected a state dict (names to tensors), found {type_name}")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            type_name = type(value).__name__
            raise EncoderError(f"{path}: expected only tensors; {name!r} is a {type_name}")
    names, has_text_tower = _select_names(loaded, path, text)
    return Checkpoint({new: loaded[old].detach() for new, old in names.items()}, has_text_tower)


def _load_pickle(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Load a file saved by torch, as data only and with no more bytes than the file has."""
    if _is_compressed(path) or _contains_bytearray(path):
        raise EncoderError(
            f"{path}: holds packed or unusual data, which may become far larger than the file; no "
            "model's weights need that. Save the model's state_dict() as .safetensors and give "
            "that file"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles raise nearly anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise EncoderError(
            f"{path}: not a state dict that can be read as data only, and nothing else is read "
            f"({reason[0][:300]}). Save the model's state_dict() as .safetensors and give that file"
        ) from error


def _is_compressed(path: Path) -> bool:
    """Return whether an archive unpacks to more than its size; torch.save compresses nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False  # of the older format, or damaged: torch says so
    is_compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    return is_compressed or sum(entry.file_size for entry in entries) > path.stat().st_size


def _contains_bytearray(path: Path) -> bool:
    """Return whether a file has the word by which a pickle can create any number of zeros."""
    word, previous_end = b"bytearray", b""
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            if word in previous_end + block:
                return True
            previous_end = block[-len(word) :]
    return False


def _select_names(names: Iterable[str], path: Path, text: bool) -> tuple[dict[str, str], bool]:
    """Map names in the tower to names in the file; also whether there is a text tower."""
    stored_names = list(names)
    prefix_length = (
        len("module.") if all(name.startswith("module.") for name in stored_names) else 0
    )
    bare_names = {name[prefix_length:]: name for name in stored_names}
    if any(name.startswith("vision_model.") for name in bare_names):
        raise EncoderError(
            f"{path}: these are names of the transformers package ('vision_model. ...'); "
            "convert the checkpoint to open_clip's names first"
        )
    visual = {
        name.removeprefix("visual."): old
        for name, old in bare_names.items()
        if name.startswith("visual.")
    }
    if not visual:
        return bare_names, False
    has_text_tower = len(visual) < len(bare_names) and any(
        "token_embedding" in name for name in bare_names
    )
    full_names = {name.removeprefix("module."): old for name, old in bare_names.items()}
    others = {new: old for new, old in full_names.items() if not new.startswith("visual.")}
    return others if text else visual, has_text_tower


def load_strictly(visual: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Load tensors into a visual tower that may have been built without memory.

    Args:
        visual: an open_clip visual tower, possibly on the meta device.
        tensors: one for each of its names; floating ones of any precision become float32.
        origin: where they are from, for messages.

    Raises:
        EncoderError: listing missing, unexpected and misshapen tensors, or those that are not
            finite.
    """
    expected_state = visual.state_dict()
    common = [name for name in expected_state if name in tensors]
    problems = [
        *_list_names("missing", [name for name in expected_state if name not in tensors]),
        *_list_names("unexpected", [name for name in tensors if name not in expected_state]),
        *_list_names(
            "of another kind",
            [n for n in common if not _is_convertible(expected_state[n], tensors[n])],
        ),
    ] or _list_names(
        "of another shape", [_shape_mismatch(n, expected_state[n], tensors[n]) for n in common]
    )
    if problems:
        raise EncoderError(f"{origin} does not fit this visual tower: {'; '.join(problems)}")
    ready = {name: tensors[name].to(target.dtype) for name, target in expected_state.items()}
    check_finite(ready, origin)
    visual.load_state_dict(ready, strict=True, assign=True)


def check_finite(tensors: Mapping[str, Tensor], origin: str) -> None:
    """Refuse weights with NaN or infinite values.

    Raises:
        EncoderError: naming the tensors.
    """
    # one pass: in float64 finite float32 values cannot overflow a sum, and others do not vanish
    sums = {name: tensor.sum(dtype=torch.float64) for name, tensor in tensors.items()}
    bad = [name for name, total in sums.items() if not torch.isfinite(total)]
    if bad:
        listing = "; ".join(_list_names("with NaN or infinite values", bad))
        raise EncoderError(f"{origin} is damaged: {listing}")


def _is_convertible(expected: Tensor, tensor: Tensor) -> bool:
    """Return whether a tensor is an ordinary one of a type that can become the expected one."""
    if tensor.layout != torch.strided or tensor.is_nested or tensor.device.type != "cpu":
        return False
    return (
        tensor.dtype in _FLOATING_TYPES
        if expected.is_floating_point()
        else tensor.dtype == expected.dtype
    )


def _shape_mismatch(name: str, expected: Tensor, tensor: Tensor) -> str:
    """Describe what is wrong with a tensor's shape, or return ""."""
    if tensor.shape == expected.shape:
        return ""
    return f"{name} {tuple(tensor.shape)} instead of {tuple(expected.shape)}"


def _list_names(problem: str, names: list[str]) -> list[str]:
    """Return `["3 missing (a, b, c)"]` with the first few names, or nothing."""
    names = [name for name in names if name]
    if not names:
        return []
    suffix = ", ..." if len(names) > _MAX_LISTED else ""
    return [f"{len(names)} {problem} ({', '.join(names[:_MAX_LISTED])}{suffix})"]


def randomise_weights(visual: nn.Module, seed: int) -> None:
    """Draw new random weights for a visual tower, without touching any global generator.

    Matrices, kernels and embeddings become normal with variance 1 / fan-in, biases zero; norms and
    layer scales keep the values they are built with.

    Args:
        visual: an open_clip visual tower in memory.
        seed: of the generator.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in visual.modules():
        if "Norm" in type(module).__name__ or type(module).__name__ == "LayerScale":
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                fan_in = parameter[0].numel() if parameter.ndim > 1 else parameter.numel()
                nn.init.normal_(parameter, std=max(1, fan_in) ** -0.5, generator=generator)


def tensor_digest(
    tensors: Mapping[str, Tensor], settings: Mapping[str, object] | None = None
) -> str:
    """Compute the sha256 of named tensors and of the other settings, in hexadecimal.

    Args:
        tensors: on any device; their names, shapes, types and bytes count, not their order.
        settings: what else decides the features; anything that JSON can hold.
    """
    hasher = hashlib.sha256()
    if settings is not None:
        hasher.update(json.dumps(dict(settings), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()
