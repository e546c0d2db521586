"""Frozen prefixes of clips: read from disk where they were computed before, else computed.

This is the one door to what the frozen tower computes of a clip file. Every clip is encoded alone:
how a matrix product rounds depends on the shape of the batch, and may depend on what else is in it.
So a prefix is a function of the clip, and the same whether it is read or computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_i2v.data.video.feature_files import FeatureFiles, FeatureLayout
from fewshot_i2v.errors import VideoChangedError
from fewshot_i2v.models.adapters.base.frozen_prefix import (
    PREFIX_VERSION,
    PrefixSpec,
    compute_prefix,
)
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.utils.environment import device_name

FrameLoader = Callable[[], NDArray[np.uint8]]
"""Returns the frames of a clip, (T, H, W, 3) uint8."""

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

        Args:
            path: of the clip.
            spec: what is computed.
            load_frames: called where it must be computed.
            frame_order: the order of the frames, "" for the natural one.

        Raises:
            VideoChangedError: when the clip changed while it was read.
            VideoUnreadable: when it cannot be read.
        """
        layout, files = self._layout(spec), self._files
        if layout is None or files is None:
            return self.compute(load_frames(), spec)
        entry = files.entry(path, layout, frame_order)
        data = files.read(entry)
        if data is not None:
            dtype = torch.float32 if layout.dtype == "F32" else torch.bfloat16
            stored = torch.frombuffer(data, dtype=dtype).reshape(layout.shape)
            return stored.to(self._encoder.tower.device)
        prefix = self.compute(load_frames(), spec)
        # frames of another content must not get the name of this one
        if files.entry(path, layout, frame_order).key != entry.key:
            raise VideoChangedError(path, _CHANGED)
        files.write(entry, prefix.contiguous().cpu().view(torch.uint8).numpy().tobytes())
        return prefix

    def compute(self, frames: NDArray[np.uint8], spec: PrefixSpec) -> Tensor:
        """Computes the prefix of one clip from its frames, (T, H, W, 3) uint8."""
        tower = self._encoder.tower
        self.n_computed += 1
        with torch.no_grad():
            # a copy: frames of the clip cache are read-only, which torch warns of
            pixels = tower.normalize(torch.from_numpy(np.array(frames))[None])
            return compute_prefix(tower, spec, pixels)[0]

    def _layout(self, spec: PrefixSpec) -> FeatureLayout | None:
        """Returns the layout on disk; None for what is not written."""
        if spec not in self._layouts:
            self._layouts[spec] = self._make_layout(spec)
        return self._layouts[spec]

    def _make_layout(self, spec: PrefixSpec) -> FeatureLayout | None:
        tower = self._encoder.tower
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


def _device_facts(device: torch.device, *, deterministic: bool) -> list[str]:
    """Returns what decides the rounding besides the operations themselves."""
    facts = [f"torch {torch.__version__}", device_name(device)]
    if device.type == "cpu":
        return [*facts, torch.backends.cpu.get_cpu_capability()]
    return [*facts, "deterministic" if deterministic else ""]
