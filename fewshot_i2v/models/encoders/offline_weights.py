"""Weights of open_clip's encoders that are on this machine already, and so need no network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_DEFAULT_FILE = "open_clip_pytorch_model.bin"
_DEFAULT_SAFE_FILE = "open_clip_model.safetensors"


class OfflineWeights(NamedTuple):
    """Weights that open_clip has fetched before.

    Attributes:
        path: the file.
        size: bytes.
        names: pairs of an encoder and a tag (`pretrained`) that use it, at least one.
    """

    path: Path
    size: int
    names: tuple[tuple[str, str], ...]


def weights_folder() -> Path:
    """Return the folder that open_clip fetches weights to, which HF_HOME or HF_HUB_CACHE sets."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def find_offline_weights() -> list[OfflineWeights]:
    """Find the weights of open_clip's tags that were fetched before, sorted by encoder."""
    if not weights_folder().is_dir():
        return []  # importing open_clip takes seconds
    import open_clip

    names_by_path: dict[Path, list[tuple[str, str]]] = defaultdict(list)
    for name, tag in sorted(open_clip.list_pretrained()):
        path = _fetched_file(open_clip.get_pretrained_cfg(name, tag).get("hf_hub", ""))
        if path is not None:
            names_by_path[path].append((name, tag))
    return [
        OfflineWeights(path, path.stat().st_size, tuple(names))
        for path, names in names_by_path.items()
    ]


def _fetched_file(hub_path: str) -> Path | None:
    """Return the file that open_clip would use for a tag, REPOSITORY/FILE, without fetching it."""
    from huggingface_hub import try_to_load_from_cache

    repository, _, file_name = hub_path.rpartition("/")
    for candidate in _candidate_names(file_name) if repository else ():
        cached_path = try_to_load_from_cache(repository, candidate)
        if isinstance(cached_path, str):
            return Path(cached_path)
    return None


def _candidate_names(name: str) -> Iterator[str]:
    """Yield the names of the file in the order in which open_clip tries them."""
    if name in ("", _DEFAULT_FILE):
        yield _DEFAULT_SAFE_FILE
    elif name.endswith((".bin", ".pth")):
        yield f"{name[:-4]}.safetensors"
    yield name or _DEFAULT_FILE
