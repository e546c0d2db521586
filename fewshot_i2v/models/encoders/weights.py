"""Reading checkpoints of visual towers: data only, strictly, and never another one in their place.

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
from fewshot_i2v.utils.input_files import regular_file

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
"""File name endings of the checkpoints that can be read."""

# The largest public CLIP models have some 2,000 tensors and a header of 0.3 MB.
_HEADER_LIMIT = 4 << 20
_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SHOWN = 5


class Checkpoint(NamedTuple):
    """The visual part of a checkpoint.

    Attributes:
        tensors: by their name in the visual tower (no `visual.` in front), on the CPU.
        text: whether the file holds weights of a text tower too.
    """

    tensors: dict[str, Tensor]
    text: bool


def read_checkpoint(path: Path) -> Checkpoint:
    """The visual tower's tensors of a local file.

    Args:
        path: a `.safetensors` file, or a state dict saved by torch (`.pt`, `.pth`, `.bin`): of a
            whole CLIP model or of its visual tower alone, with or without `module.` in front of
            the names, or under the key `state_dict`.

    Raises:
        EncoderError: when it is absent, not a regular file, damaged, or holds anything but data.
    """
    if path.suffix not in SUFFIXES:
        raise EncoderError(f"{path}: expected a checkpoint ending in {', '.join(SUFFIXES)}")
    try:
        regular_file(path)
    except FileNotFoundError as error:
        raise EncoderError(f"{path}: no such file") from error
    except OSError as error:
        raise EncoderError(f"{path}: {error.strerror}; expected a checkpoint") from error
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def _read_safetensors(path: Path) -> Checkpoint:
    size = path.stat().st_size
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if size < 8 or header > size - 8:
        raise EncoderError(f"{path}: not a safetensors file, or cut short ({size} bytes)")
    if header > _HEADER_LIMIT:
        raise EncoderError(
            f"{path}: its header has {header} bytes; more than {_HEADER_LIMIT} are refused"
        )
    try:
        with safe_open(path, framework="pt") as file:
            names, text = _visual_names(file.keys(), path)
            return Checkpoint({new: file.get_tensor(old) for new, old in names.items()}, text)
    except EncoderError:
        raise
    except Exception as error:
        raise EncoderError(f"{path}: not a safetensors file that can be read: {error}") from error


def _read_pickle(path: Path) -> Checkpoint:
    loaded = load_pickle(path)
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded:
        what = type(loaded).__name__
        raise EncoderError(f"{path}: expected a state dict (names to tensors), found {what}")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            what = type(value).__name__
            raise EncoderError(f"{path}: expected only tensors; {name!r} is a {what}")
    names, text = _visual_names(loaded, path)
    return Checkpoint({new: loaded[old].detach() for new, old in names.items()}, text)


def load_pickle(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """What torch saved, as data only and with no more bytes than the file has.

    Raises:
        EncoderError: when it is damaged, holds anything but data, or would become larger in memory
            than it is.
    """
    if _is_packed(path) or _names_bytearray(path):
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


def _is_packed(path: Path) -> bool:
    """Whether entries of an archive are larger than in the file; torch.save packs nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False  # of the older format, or damaged: torch says so
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    return packed or sum(entry.file_size for entry in entries) > path.stat().st_size


def _names_bytearray(path: Path) -> bool:
    """Whether a file has the word by which a pickle makes as many zeros as it likes."""
    word, before = b"bytearray", b""
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            if word in before + block:
                return True
            before = block[-len(word) :]
    return False


def _visual_names(names: Iterable[str], path: Path) -> tuple[dict[str, str], bool]:
    """Names in the visual tower to names in the file, and whether there is a text tower."""
    given = list(names)
    cut = len("module.") if all(name.startswith("module.") for name in given) else 0
    bare = {name[cut:]: name for name in given}
    if any(name.startswith("vision_model.") for name in bare):
        raise EncoderError(
            f"{path}: these are names of the transformers package ('vision_model. ...'); "
            "convert the checkpoint to open_clip's names first"
        )
    visual = {
        name.removeprefix("visual."): old
        for name, old in bare.items()
        if name.startswith("visual.")
    }
    if not visual:
        return bare, False
    return visual, len(visual) < len(bare) and any("token_embedding" in name for name in bare)


def load_strictly(visual: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Puts tensors into a visual tower that may have been built without memory.

    Args:
        visual: an open_clip visual tower, possibly on the meta device.
        tensors: one for each of its names; floating ones of any precision become float32.
        origin: where they are from, for messages.

    Raises:
        EncoderError: listing missing, unexpected and misshapen tensors, or those that are not
            finite.
    """
    wanted = visual.state_dict()
    common = [name for name in wanted if name in tensors]
    problems = [
        *_listing("missing", [name for name in wanted if name not in tensors]),
        *_listing("unexpected", [name for name in tensors if name not in wanted]),
        *_listing("of another kind", [n for n in common if not _alike(wanted[n], tensors[n])]),
    ] or _listing("of another shape", [_misfit(n, wanted[n], tensors[n]) for n in common])
    if problems:
        raise EncoderError(f"{origin} does not fit this visual tower: {'; '.join(problems)}")
    ready = {name: tensors[name].to(expected.dtype) for name, expected in wanted.items()}
    check_finite(ready, origin)
    visual.load_state_dict(ready, strict=True, assign=True)


def check_finite(tensors: Mapping[str, Tensor], origin: str) -> None:
    """Refuses weights with NaN or infinite values.

    Raises:
        EncoderError: naming the tensors.
    """
    # one pass: in float64 finite float32 values cannot overflow a sum, and others do not vanish
    sums = {name: tensor.sum(dtype=torch.float64) for name, tensor in tensors.items()}
    bad = [name for name, total in sums.items() if not torch.isfinite(total)]
    if bad:
        found = "; ".join(_listing("with NaN or infinite values", bad))
        raise EncoderError(f"{origin} is damaged: {found}")


def _alike(wanted: Tensor, given: Tensor) -> bool:
    """Whether a tensor is an ordinary one of a type that can become the wanted one."""
    if given.layout != torch.strided or given.is_nested or given.device.type != "cpu":
        return False
    return given.dtype in _FLOATING if wanted.is_floating_point() else given.dtype == wanted.dtype


def _misfit(name: str, wanted: Tensor, given: Tensor) -> str:
    """What is wrong with a tensor's shape, or ""."""
    if given.shape == wanted.shape:
        return ""
    return f"{name} {tuple(given.shape)} instead of {tuple(wanted.shape)}"


def _listing(what: str, names: list[str]) -> list[str]:
    """`["3 missing (a, b, c)"]`, the first few by name, or nothing."""
    names = [name for name in names if name]
    if not names:
        return []
    more = ", ..." if len(names) > _SHOWN else ""
    return [f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{more})"]


def randomise(visual: nn.Module, seed: int) -> None:
    """Draws the weights of a visual tower anew, without touching any global generator.

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


def digest(tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> str:
    """Sha256 of named tensors and of what else decides the features, in hexadecimal.

    Args:
        tensors: on any device; their names, shapes, types and bytes count, not their order.
        facts: anything that JSON can hold.
    """
    total = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
