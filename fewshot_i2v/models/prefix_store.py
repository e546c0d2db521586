"""Frozen prefixes of clips: read from disk where they were computed before, else computed.

This is the one door to what the frozen tower computes of a clip file. Every clip is encoded alone:
how a matrix product rounds depends on the shape of the batch, and may depend on what else is in it.
So a prefix is a function of the clip, and the same whether it is read or computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_i2v.data.video.feature_files import FeatureEntry, FeatureFiles, FeatureLayout
from fewshot_i2v.errors import VideoChangedError
from fewshot_i2v.models.adapters.base.frozen_prefix import (
    PREFIX_VERSION,
    PrefixSpec,
    compute_prefix,
    prefix_tower,
)
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.models.encoders.transfer import send
from fewshot_i2v.utils.environment import device_name

FrameLoader = Callable[[], NDArray[np.uint8]]
"""Returns the frames of a clip, (T, H, W, 3) uint8."""


class ClipInput(NamedTuple):
    """What the host read of a clip to give its prefix to the device.

    Attributes:
        frames: (T, H, W, 3) uint8, from which the prefix is computed; None where it was on disk.
        prefix: from disk; None where it is computed.
        entry: of the prefix on disk; None where it is not written.
    """

    frames: Tensor | None
    prefix: Tensor | None
    entry: FeatureEntry | None

    def pinned(self) -> ClipInput:
        """Returns the same in memory from which a copy to the device does not wait."""
        frames, prefix = (None if t is None else t.pin_memory() for t in self[:2])
        return self._replace(frames=frames, prefix=prefix)


_MAX_ENTRY_BYTES = 8 << 20
"""Larger prefixes are not written: all tokens of 8 frames have 5 MB in ViT-B/16, and those of all
its blocks 58 MB, for a clip whose frames take 1.2 MB."""
_CHANGED = "changed while it was read: run again"


class PrefixStore:
    """Frozen prefixes of clips, on disk and computed.

    Args:
        encoder: the frozen encoder.
        frames: frames T of a clip.
        files: features on disk; None: everything is computed.
        deterministic: whether operations without a deterministic kernel are refused.

    Attributes:
        n_computed: prefixes that were computed.
    """

    def __init__(
        self, encoder: Encoder, frames: int, files: FeatureFiles | None, *, deterministic: bool
    ) -> None:
        self._encoder, self._frames, self._files = encoder, frames, files
        self._deterministic = deterministic
        self._layouts: dict[PrefixSpec, FeatureLayout | None] = {}
        self.n_computed = 0

    @property
    def n_read(self) -> int:
        """Prefixes that were read from disk."""
        return 0 if self._files is None else self._files.n_read

    def find(
        self, paths: Sequence[Path], spec: PrefixSpec, frame_orders: Sequence[str]
    ) -> list[bool]:
        """Finds the clips whose prefix need not be computed, so that nobody needs their frames.

        Args:
            paths: of the clips.
            spec: what is computed.
            frame_orders: the order of the frames of each clip, "" for the natural one.
        """
        layout = self._layout(spec)
        if layout is None or self._files is None:
            return [False] * len(paths)
        return self._files.find(paths, layout, frame_orders)

    def load(
        self, path: Path, spec: PrefixSpec, load_frames: FrameLoader, frame_order: str = ""
    ) -> Tensor:
        """Returns the prefix of a clip, on the device of the tower; without axes of clips.

        Args and errors are those of `read` and `finish`, which are the parts of it.
        """
        read = self.read(path, spec, load_frames, frame_order)
        return self.finish(path, spec, read, frame_order)

    def read(
        self, path: Path, spec: PrefixSpec, load_frames: FrameLoader, frame_order: str = ""
    ) -> ClipInput:
        """Reads the prefix of a clip, or where it must be computed its frames, on the host.

        Args:
            path: of the clip.
            spec: what is computed.
            load_frames: called where it must be computed.
            frame_order: the order of the frames, "" for the natural one.

        Raises:
            VideoUnreadable: when the clip cannot be read.
        """
        layout, files = self._layout(spec), self._files
        if layout is None or files is None:
            return ClipInput(_tensor(load_frames()), None, None)
        entry = files.entry(path, layout, frame_order)
        data = files.read(entry)
        if data is None:
            return ClipInput(_tensor(load_frames()), None, entry)
        dtype = torch.float32 if layout.dtype == "F32" else torch.bfloat16
        return ClipInput(None, torch.frombuffer(data, dtype=dtype).reshape(layout.shape), entry)

    def finish(
        self, path: Path, spec: PrefixSpec, read: ClipInput, frame_order: str = ""
    ) -> Tensor:
        """Copies the prefix to the device, or computes it there and writes it to disk.

        Args:
            path: of the clip.
            spec: as it was read.
            read: what `read` returned.
            frame_order: as it was read.

        Raises:
            VideoChangedError: when the clip changed since it was read.
        """
        if read.frames is None:
            if read.prefix is None:
                raise ValueError("neither frames nor a prefix was read")
            return send(read.prefix, self._encoder.tower.device)
        prefix = self._compute(read.frames, spec)
        layout, files, entry = self._layout(spec), self._files, read.entry
        if layout is None or files is None or entry is None:
            return prefix
        # frames of another content must not get the name of this one
        if files.entry(path, layout, frame_order).key != entry.key:
            raise VideoChangedError(path, _CHANGED)
        files.write(entry, prefix.contiguous().cpu().view(torch.uint8).numpy().tobytes())
        return prefix

    def compute(self, frames: NDArray[np.uint8], spec: PrefixSpec) -> Tensor:
        """Computes the prefix of one clip from its frames, (T, H, W, 3) uint8."""
        return self._compute(_tensor(frames), spec)

    def _compute(self, frames: Tensor, spec: PrefixSpec) -> Tensor:
        tower = self._encoder.tower
        self.n_computed += 1
        with torch.no_grad():
            pixels = prefix_tower(tower, spec).normalize(frames[None])
            return compute_prefix(tower, spec, pixels)[0]

    def _layout(self, spec: PrefixSpec) -> FeatureLayout | None:
        """Returns the layout on disk; None for what is not written."""
        if spec not in self._layouts:
            self._layouts[spec] = self._make_layout(spec)
        return self._layouts[spec]

    def _make_layout(self, spec: PrefixSpec) -> FeatureLayout | None:
        tower = prefix_tower(self._encoder.tower, spec)
        pooled = spec.is_pooled(tower)
        # pixels and patch embeddings are larger than the frames, and computed in no time
        if not pooled and spec.first_trained_block <= 0:
            return None
        shape = spec.clip_shape(tower, self._frames)
        dtype = torch.float32 if pooled else tower.dtype
        layout = FeatureLayout(
            (
                f"prefix {PREFIX_VERSION}",
                repr(spec),
                self._encoder.digest,
                *tower.computation,
                f"{tower.image_size} pixels",
                str(tower.dtype),
                *_device_facts(tower.device, deterministic=self._deterministic),
            ),
            "BF16" if dtype == torch.bfloat16 else "F32",
            shape,
        )
        return layout if layout.size <= _MAX_ENTRY_BYTES else None


def _tensor(frames: NDArray[np.uint8]) -> Tensor:
    """Returns a copy: frames of the clip cache are read-only, which torch warns of."""
    return torch.from_numpy(np.array(frames))


def _device_facts(device: torch.device, *, deterministic: bool) -> list[str]:
    """Returns what decides the rounding besides the operations themselves."""
    facts = [f"torch {torch.__version__}", device_name(device)]
    if device.type == "cpu":
        return [*facts, torch.backends.cpu.get_cpu_capability()]
    return [*facts, "deterministic" if deterministic else ""]
