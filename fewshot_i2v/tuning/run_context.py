"""Split, encoder and clips of a run: loaded once, decoded once, cached prefixes."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from fewshot_i2v.config.base import MaterialConfig
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.synthetic import generate
from fewshot_i2v.data.video.clip_cache import ClipStore
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.data.video.worker_pool import Limits
from fewshot_i2v.errors import ConfigError, VideoUnreadable
from fewshot_i2v.models.adapters.base.features import packed
from fewshot_i2v.models.adapters.base.frozen_prefix import read
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.encoders.text_tower import TextTower, load_text
from fewshot_i2v.models.feature_cache import ClipBank
from fewshot_i2v.utils.progress import bar
from fewshot_i2v.utils.resources import default_cache

if TYPE_CHECKING:
    from typing import Self

    from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder

_DIGITS = 16
_CPU_BANK = 2 << 30
# Tokens times width encoded at once when a bank fills; bounds the memory of the frozen pass.
_ENCODE_WORK = 8_000 * 768


def choose_device(name: str) -> torch.device:
    """The device asked for; "auto" is the first CUDA device if there is one, else the CPU.

    Raises:
        ConfigError: when it is not there. Another device is never taken in its place.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} was asked for, and PyTorch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices; give --device cpu or auto"
        )
    return device


@dataclass
class Material:
    """Split, encoder and clips of a run, each loaded once.

    Attributes:
        config: the run.
        split: where the clips come from.
        encoder: the frozen encoder, on the device in the run's precision.
        store: decoded clips.
        unreadable: clips that could not be decoded, by clip name.
    """

    config: MaterialConfig
    split: Split
    encoder: Encoder
    store: ClipStore
    folder: Path
    unreadable: dict[str, VideoUnreadable] = field(default_factory=dict)
    _ready: set[str] = field(default_factory=set)
    _banks: dict[Hashable, ClipBank] = field(default_factory=dict)

    @classmethod
    def open(cls, config: MaterialConfig) -> Self:
        """Loads split and encoder; decodes nothing yet."""
        if config.deterministic:
            # cuBLAS reads it when the device starts; without it no product is deterministic
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        device = choose_device(config.device)
        cache = config.cache or default_cache()
        split = load_split(config.split, root=config.root)
        folder = (config.root or cache / "generated") / split.digest[:16]
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        e = config.encoder
        encoder = load_encoder(
            e.name,
            pretrained=e.pretrained,
            architecture=e.architecture,
            image_size=e.image_size,
            mean=e.mean,
            std=e.std,
            device=device,
            dtype=dtype,
        )
        video = config.video
        options = DecodeOptions(
            frames=video.frames,
            policy=video.policy,
            stride=video.stride,
            size=encoder.tower.image_size,
            crop=video.crop,
            backend=video.backend,
            max_pixels=config.limits.pixels,
            max_frames=config.limits.frames,
        )
        store = ClipStore(
            cache / "clips",
            options,
            workers=config.workers,
            limits=Limits.of(config.limits),
            verify=config.verify,
        )
        return cls(config, split, encoder, store, folder)

    def file(self, clip: str) -> Path:
        """The file of a clip; SplitError when the split has no root."""
        return self.folder / clip if self.split.generator else self.split.file(clip)

    def prepare(self, clips: Iterable[str], *, progress: bool) -> None:
        """Generates and decodes the clips that are missing; unreadable ones are remembered."""
        names = sorted(set(clips) - self._ready - self.unreadable.keys())
        generator = self.split.generator
        if generator is not None and names:
            with _bar(len(names), "generate", progress) as advance:
                generate.materialize(
                    generator.name,
                    names,
                    self.folder,
                    seed=generator.seed,
                    size=generator.size,
                    frames=generator.frames,
                    fps=generator.fps,
                    progress=advance,
                )
        paths = {self.file(name): name for name in names}
        with _bar(len(paths), "decode", progress) as advance:
            failures = self.store.prepare(list(paths), progress=advance)
        self.unreadable.update({paths[path]: error for path, error in failures.items()})
        self._ready.update(set(names) - self.unreadable.keys())

    def frames(self, clip: str) -> NDArray[np.uint8]:
        """Decoded frames of a clip, (T, H, W, 3) uint8."""
        return self.store.get(self.file(clip))

    def contents(self, clips: Iterable[str]) -> dict[str, str]:
        """Digests of what is in clips, by name; without those that cannot be read."""
        found = {}
        for name in sorted(set(clips) - self.unreadable.keys()):
            with suppress(VideoUnreadable):
                found[name] = self.store.digest(self.file(name))[:_DIGITS]
        return found

    @cached_property
    def text(self) -> TextTower:
        """The text tower that belongs to the encoder's weights, loaded when first asked for.

        Raises:
            EncoderError: when these weights have none.
        """
        e = self.config.encoder
        return load_text(e.name, pretrained=e.pretrained, architecture=e.architecture)

    def forget(self, *, keep: Iterable[Hashable]) -> None:
        """Frees the banks that are kept under another key than these."""
        kept = set(keep)
        self._banks = {key: bank for key, bank in self._banks.items() if key in kept}

    def bank(self, encoder: AdaptedEncoder, *, cells: int) -> ClipBank:
        """The bank of adapters and heads that read the same of the frozen tower."""
        tower, reading = encoder.tower, encoder.adapter.reading(cells).key(encoder.tower)
        # closes over the tower alone: the adapter and its gradients may go
        return self._bank(reading, lambda frames: read(tower, reading, tower.pixels(frames)))

    def features(self, encoder: AdaptedEncoder, key: Hashable, *, cells: int) -> ClipBank:
        """The bank of the features that an adapter of one copy gives as it is, `packed`.

        Args:
            encoder: tower and adapter, which nothing changes from here on.
            key: that no other adapter, and no reading, has.
            cells: cells on a side of the grid that the heads read; 0: none.
        """
        tower = encoder.tower

        def _encode(frames: torch.Tensor) -> torch.Tensor:
            kept = encoder.prefix(tower.pixels(frames), cells=cells)
            return packed(encoder(kept.unsqueeze(0), cells=cells)).squeeze(0)

        return self._bank(key, _encode)

    def _bank(self, key: Hashable, encode: Callable[[torch.Tensor], torch.Tensor]) -> ClipBank:
        if key not in self._banks:
            tower = self.encoder.tower
            cuda = tower.device.type == "cuda"
            budget = torch.cuda.mem_get_info(tower.device)[0] // 4 if cuda else _CPU_BANK
            work = self.config.video.frames * tower.tokens * tower.width
            chunk = max(1, _ENCODE_WORK // work)
            self._banks[key] = ClipBank(self.frames, encode, budget=budget, chunk=chunk)
        return self._banks[key]


@contextmanager
def _bar(total: int, what: str, progress: bool) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar on standard error and gives what advances it."""
    with bar(total=total, desc=what, unit="clip", progress=progress, leave=False) as shown:

        def _advance(count: int) -> None:
            shown.update(count)

        yield _advance
