"""Run context: split, encoder and clips of a run, loaded and decoded once, and cached prefixes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from fewshot_i2v.config.base import CommonConfig, LimitsConfig, VideoConfig
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.synthetic import generate
from fewshot_i2v.data.video.cache_use import mark_used
from fewshot_i2v.data.video.clip_cache import ClipCache
from fewshot_i2v.data.video.clip_disk import ClipDisk
from fewshot_i2v.data.video.feature_files import FeatureFiles
from fewshot_i2v.data.video.frame_sampling import SEGMENT_THIRDS
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.errors import (
    ConfigError,
    UsageError,
    VideoChangedError,
    VideoUnreadable,
)
from fewshot_i2v.models.adapters.base.features import Features, pack_features
from fewshot_i2v.models.adapters.base.frozen_prefix import (
    ClipPrefixes,
    ClipTokens,
    GridSizes,
    PrefixSpec,
    check_grids,
)
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.models.encoders.mixed_tower import load_in_precision
from fewshot_i2v.models.encoders.text_tower import TextTower, load_text_tower
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.feature_cache import FeatureCache
from fewshot_i2v.models.prefix_store import ClipInput, PrefixStore
from fewshot_i2v.tuning.augmentation import FRAMES_PER_SEGMENT
from fewshot_i2v.tuning.feature_caches import FeatureCaches
from fewshot_i2v.utils import environment
from fewshot_i2v.utils.files import remove_stale_files
from fewshot_i2v.utils.progress import OverallProgress, show_note, stage
from fewshot_i2v.utils.resources import (
    CLIPS_FOLDER,
    GENERATED_FOLDER,
    SPLIT_DIGEST_LENGTH,
    default_cache_folder,
)
from fewshot_i2v.utils.sizes import format_size, parse_size

if TYPE_CHECKING:
    from typing import Self

    from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
    from fewshot_i2v.models.heads.base.head import Head

_Config = TypeVar("_Config", bound=CommonConfig)
_Read = TypeVar("_Read")
_DIGEST_LENGTH = 16
_MAX_SHOWN_ERRORS = 20
# Tokens times width encoded at once; bounds the memory of the frozen pass.
_ENCODE_ELEMENT_BUDGET = 8_000 * 768


def resolve_device(name: str) -> torch.device:
    """Resolves a device name; "auto" is the first CUDA device if there is one, else the CPU.

    Raises:
        ConfigError: when the device does not exist. It is never replaced by another device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r}: PyTorch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices; give --device cpu or auto"
        )
    return device


def resolve_precision(config: _Config, device: torch.device) -> _Config:
    """Resolves the precision "auto" of a configuration: mixed where the device has bf16, else fp32.

    What is recorded of a run is the result, so that another machine continues it in the same
    precision or stops.
    """
    if config.precision != "auto":
        return config
    precision = "mixed" if environment.has_bfloat16_products(device) else "fp32"
    return config.model_copy(update={"precision": precision})


def open_clip_cache(
    cache: Path,
    video: VideoConfig,
    limits: LimitsConfig,
    *,
    size: int,
    workers: int | None,
    verify: bool = False,
    cache_limit: str | None = None,
) -> ClipCache:
    """Opens the cache of decoded clips below the user's or the configured cache folder.

    Args:
        cache: the folder.
        video: how clips become frames.
        limits: of decoding.
        size: side of a frame in pixels.
        workers: decoding processes; None: one per processor, at most 8.
        verify: whether clips are read again to identify them.
        cache_limit: largest size of all decoded clips there, such as "20GB"; None: no limit.
    """
    return ClipCache(
        cache / CLIPS_FOLDER,
        DecodeOptions(size=size, **video.model_dump()),
        workers=workers,
        limits=limits.for_clips(),
        verify=verify,
        max_bytes=None if cache_limit is None else parse_size(cache_limit),
    )


def clips_per_pass(tower: Tower, frames: int) -> int:
    """Returns how many clips the frozen tower encodes at once, so that memory stays bounded."""
    return max(1, _ENCODE_ELEMENT_BUDGET // (frames * tower.tokens * tower.width))


@dataclass
class RunContext:
    """Split, encoder and clips of a run, each loaded once.

    Attributes:
        config: the run, with the precision that "auto" stands for on this device.
        split: where the clips come from.
        encoder: the frozen encoder, on the device in the run's precision.
        store: decoded clips.
        folder: of the clip files where the split generates them.
        disk: of the clip files.
        unreadable: clips that could not be read, by clip name; also those of which this showed only
            when they were needed, as where features on disk are damaged and the clip is, too.
        on_encoded: called with 1 for every clip that a feature cache encodes or reads from disk;
            None: no call.
        clips_ahead: returns what was read ahead of a clip for a prefix, None where nothing was;
            None: nothing is read ahead.
    """

    config: CommonConfig
    split: Split
    encoder: Encoder
    store: ClipCache
    folder: Path
    disk: ClipDisk
    unreadable: dict[str, VideoUnreadable] = field(default_factory=dict)
    on_encoded: Callable[[int], object] | None = None
    clips_ahead: Callable[[str, PrefixSpec], ClipInput | None] | None = None
    _decoded_clips: set[str] = field(default_factory=set)
    _digests: dict[str, str] = field(default_factory=dict)
    _progress: bool | OverallProgress = False
    _is_excess_noted: bool = False
    _caches: FeatureCaches | None = None

    @classmethod
    def open(cls, config: CommonConfig, split: Split | None = None) -> Self:
        """Loads split and encoder; decodes nothing yet.

        Args:
            config: of the run.
            split: instead of the one that the configuration names.
        """
        if config.deterministic:
            # cuBLAS reads it when the device starts; without it no product is deterministic
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        device = resolve_device(config.device)
        config = resolve_precision(config, device)
        cache = config.cache or default_cache_folder()
        split = split or load_split(config.split, root=config.root)
        if split.generator and config.root is not None and not config.root.is_dir():
            raise UsageError(
                f"root: no folder {config.root}; split {split.name!r} generates its clips: leave "
                "--root out, or make the folder to have them written there"
            )
        folder = (config.root or cache / GENERATED_FOLDER) / split.digest[:SPLIT_DIGEST_LENGTH]
        source = {name: getattr(config.encoder, name) for name in type(config.encoder).model_fields}
        may_read_none = config.feature_cache and not config.verify
        records = cache if may_read_none and cls.reads_prefixes_alone(config) else None
        encoder = load_in_precision(config.precision, source, device, records=records)
        store = open_clip_cache(
            cache,
            config.video,
            config.limits,
            size=encoder.tower.image_size,
            workers=config.workers,
            verify=config.verify,
            cache_limit=config.cache_limit,
        )
        disk = ClipDisk(folder if split.generator else split.root)
        return cls(config, split, encoder, store, folder, disk)

    @classmethod
    def reads_prefixes_alone(cls, config: Any) -> bool:  # noqa: ANN401 - of a subclass, too
        """Whether a run reads nothing of its encoder but frozen prefixes, which may be on disk."""
        return False

    def with_segment_thirds(self) -> Self:
        """Returns the same context with clips of three frames per segment, for temporal jitter.

        Both share the clips that cannot be read.
        """
        options = replace(
            self.store.options,
            frames=FRAMES_PER_SEGMENT * self.store.options.frames,
            policy=SEGMENT_THIRDS,
        )
        return replace(
            self,
            store=self.store.with_options(options),
            _decoded_clips=set(),
            _caches=self.caches.beside(),
        )

    def clip_path(self, clip: str) -> Path:
        """Returns the file of a clip; SplitError when the split has no root."""
        return self.folder / clip if self.split.generator else self.split.clip_path(clip)

    @cached_property
    def prefixes(self) -> PrefixStore:
        """Frozen prefixes of clips, on disk and computed."""
        config, files = self.config, None
        if config.feature_cache:
            files = FeatureFiles(self.store, lambda line: show_note(self._progress, line))
        frames, deterministic = self.store.options.frames, config.deterministic
        return PrefixStore(self.encoder, frames, files, deterministic=deterministic)

    def find_prefixes(self, clips: Collection[str], spec: PrefixSpec) -> set[str]:
        """Finds the clips whose frozen prefix is on disk, so that nobody needs their frames.

        Args:
            clips: names.
            spec: what is computed.
        """
        names = sorted(set(clips) - self.unreadable.keys())
        paths, orders = map(self.clip_path, names), map(self.frame_order_key, names)
        if self.split.generator and self.config.root is None and self.folder.is_dir():
            mark_used(self.folder, self.folder.stat())
            # of killed processes: nobody generates a clip again whose prefix is on disk
            remove_stale_files(self.folder.glob("*/.*.tmp"))
        arguments = list(paths), spec.cache_key(self.encoder.tower), list(orders)
        root = self.disk.root or self.folder
        is_found = self.disk.read(root, lambda: self.prefixes.find(*arguments))
        return {name for name, found in zip(names, is_found, strict=True) if found}

    def decode_clips(self, clips: Iterable[str], *, progress: bool | OverallProgress) -> None:
        """Generates and decodes the missing clips; unreadable ones are recorded in `unreadable`.

        Args:
            clips: names.
            progress: the overall bar that shows it; or whether to show a bar.
        """
        self._progress = progress
        missing = sorted(set(clips) - self._decoded_clips - self.unreadable.keys())
        generator = self.split.generator
        if generator is not None and missing:
            self.store.announce_use()  # whoever clears the cache leaves generated clips, too
            with stage(progress, "generate", len(missing), "clips") as advance:
                generate.write_missing_clips(generator, missing, self.folder, progress=advance)
            if self.config.root is None:
                mark_used(self.folder, self.folder.stat())
        paths = {self.clip_path(name): name for name in missing}

        def _prepare(some: Sequence[Path]) -> dict[Path, VideoUnreadable]:
            with stage(progress, "decode", len(some), "clips") as advance:
                return self.store.prepare(some, progress=advance)

        failures = self.disk.decode(_prepare, list(paths))
        self._note_excess(progress)
        self.unreadable.update({paths[path]: error for path, error in failures.items()})
        self._decoded_clips.update(set(missing) - self.unreadable.keys())

    def _note_excess(self, progress: bool | OverallProgress) -> None:
        """Says once that the clips in use take more than the limit of the cache."""
        excess, limit = self.store.excess_bytes, self.config.cache_limit
        if excess and not self._is_excess_noted:
            self._is_excess_noted = True
            show_note(
                progress,
                f"note: clips in use take {format_size(excess)} more than --cache-limit {limit}; "
                "they stay",
            )

    def unreadable_lines(self) -> str:
        """Lists the errors of the unreadable clips, at most 20, a line each."""
        lines = [f"  {error}" for error in self.unreadable.values()]
        more = f"  ... and {len(lines) - _MAX_SHOWN_ERRORS} more"
        return "\n".join(lines[:_MAX_SHOWN_ERRORS] + [more] * (len(lines) > _MAX_SHOWN_ERRORS))

    def frames(self, clip: str) -> NDArray[np.uint8]:
        """Decoded frames of a clip, (T, H, W, 3) uint8.

        Raises:
            VideoChangedError: when its content is not that of `content_digests` any more.
            VideoUnreadable: when it can no longer be read; it is then one of `unreadable`.
        """
        return self._read(clip, lambda: self.read_frames(clip))

    def read_frames(self, clip: str) -> NDArray[np.uint8]:
        """Reads what `frames` returns; errors are the same, and nothing is noted of them."""
        self._refuse_changed(clip)
        return self.store.get(self.clip_path(clip))

    def _read(self, clip: str, read: Callable[[], _Read]) -> _Read:
        """Reads something of a clip; one that cannot be read is then one of `unreadable`."""
        try:
            return self.disk.read(self.clip_path(clip), read)
        except VideoChangedError:  # the clip may be fine, and the run is not
            raise
        except VideoUnreadable as error:
            self.unreadable[clip] = error
            raise

    def _refuse_changed(self, clip: str) -> None:
        """Refuses a clip whose content is not what the run recorded of it."""
        path, recorded = self.clip_path(clip), self._digests.get(clip)
        if recorded is not None and self.store.digest(path) != recorded:
            raise VideoChangedError(path, "changed since this run began: run again")

    def frame_order_key(self, clip: str) -> str:
        """Returns what tells the order of a clip's frames; "" for the natural one."""
        return ""

    def _frames_to_encode(self, clip: str) -> NDArray[np.uint8]:
        if clip not in self._decoded_clips:
            # its prefix was on disk, and turned out damaged or was removed
            self.decode_clips([clip], progress=self._progress)
            if clip in self.unreadable:
                raise self.unreadable[clip]
        return self.frames(clip)

    def _load_prefix(self, clip: str, spec: PrefixSpec, *, is_counted: bool = True) -> torch.Tensor:
        """Reads or computes the prefix of a clip, without axes of clips; errors as `frames`."""
        if self.on_encoded is not None and is_counted:
            self.on_encoded(1)
        path, order = self.clip_path(clip), self.frame_order_key(clip)

        def _load() -> torch.Tensor:
            self._refuse_changed(clip)
            read = None if self.clips_ahead is None else self.clips_ahead(clip, spec)
            if read is not None:
                return self.prefixes.finish(path, spec, read, order)
            return self.prefixes.load(path, spec, lambda: self._frames_to_encode(clip), order)

        return self._read(clip, _load)

    def read_clip(self, clip: str, spec: PrefixSpec) -> ClipInput:
        """Reads what a prefix needs of a clip on the host; any thread may do so.

        Raises:
            VideoUnreadable: when it cannot be read, or neither prefix nor frames are on disk.
        """
        self._refuse_changed(clip)
        path, order = self.clip_path(clip), self.frame_order_key(clip)
        return self.prefixes.read(path, spec, lambda: self._decoded_frames(clip), order)

    def _decoded_frames(self, clip: str) -> NDArray[np.uint8]:
        if clip not in self._decoded_clips:
            raise VideoUnreadable(self.clip_path(clip), "is not decoded yet")
        return self.read_frames(clip)

    def content_digests(self, clips: Iterable[str]) -> dict[str, str]:
        """Returns content digests of clips by name, without clips that cannot be read.

        From here on, a clip of another content is refused: records would name the wrong one.
        """
        digests = {}
        for name in sorted(set(clips) - self.unreadable.keys()):
            path = self.clip_path(name)
            with suppress(VideoUnreadable):
                digest = self.disk.read(path, partial(self.store.digest, path))
                digests[name] = self._digests.setdefault(name, digest)[:_DIGEST_LENGTH]
        self.store.save_digests()
        return digests

    @cached_property
    def text_tower(self) -> TextTower:
        """The text tower that belongs to the encoder's weights, loaded at the first access.

        Raises:
            EncoderError: when these weights have none.
        """
        e = self.config.encoder
        return load_text_tower(e.name, pretrained=e.pretrained, architecture=e.architecture)

    @property
    def caches(self) -> FeatureCaches:
        """What is computed of clips once."""
        if self._caches is None:
            self._caches = FeatureCaches.on(self.encoder.tower.device)
        return self._caches

    def prefix_cache(self, encoder: AdaptedEncoder, *, grid_sizes: GridSizes) -> FeatureCache:
        """Returns the cache of adapters and heads that share a frozen prefix."""
        tower, spec = (
            encoder.tower,
            encoder.adapter.prefix_spec(grid_sizes).cache_key(encoder.tower),
        )
        # closes over the spec alone: the adapter and its gradients may go
        check_grids(tower, grid_sizes)
        return self.caches.get_or_create(spec, lambda clip: self._load_prefix(clip, spec))

    def frozen_cache(
        self, encoder: AdaptedEncoder, *, grid_sizes: GridSizes
    ) -> FeatureCache | None:
        """Returns the cache of what heads read of the frozen tower beside the adapted one.

        None where they do not, or the prefix holds it. All adapters share it.
        """
        spec = encoder.frozen_spec(grid_sizes)
        if spec is None:
            return None
        return self.caches.get_or_create(spec, lambda clip: self._load_prefix(clip, spec))

    def feature_cache(self, encoder: AdaptedEncoder, key: Hashable, head: Head) -> FeatureCache:
        """Returns the cache of what a head reads of clips with an adapter that is not tuned.

        Args:
            encoder: tower and adapter of one copy, which do not change from this call on.
            key: unique to this adapter and the readouts, and different from every `PrefixSpec`.
            head: says what it reads; heads with the same readouts share the cache.
        """
        select = head.select_tokens

        def _encode(clip: str) -> torch.Tensor:
            return pack_features(select(self._features(encoder, clip, head.grid_sizes)))[0, 0]

        return self.caches.get_or_create(key, _encode)

    def _features(self, encoder: AdaptedEncoder, clip: str, grid_sizes: GridSizes) -> Features:
        """Computes the features of a clip with an adapter that is not tuned, (1, 1, ...)."""
        check_grids(encoder.tower, grid_sizes)
        spec = encoder.adapter.prefix_spec(grid_sizes).cache_key(encoder.tower)
        prefix = self._load_prefix(clip, spec)[None, None]
        tokens: ClipTokens = prefix
        exact_spec = encoder.exact_spec(grid_sizes)
        if exact_spec is not None:
            exact = self._load_prefix(clip, exact_spec, is_counted=False)[None, None]
            tokens = ClipPrefixes(prefix, exact)
        features: Features = encoder(tokens, grid_sizes=grid_sizes)
        return features

    def fill_feature_caches(
        self,
        encoder: AdaptedEncoder,
        heads: Mapping[Hashable, Head],
        clips: Collection[str],
        advance: Callable[[int], object],
    ) -> None:
        """Encodes clips once for what several heads read of them with the same adapter.

        Args:
            encoder: tower and adapter of one copy.
            heads: by the keys of their caches, see `feature_cache`.
            clips: names of the clips.
            advance: called with 1 for every clip.
        """
        grid_sizes = tuple(sorted({size for head in heads.values() for size in head.grid_sizes}))
        encoder.reads_frozen |= any(head.reads_frozen for head in heads.values())
        caches = {key: self.feature_cache(encoder, key, head) for key, head in heads.items()}

        def _fill(name: str) -> None:
            with torch.no_grad():
                features = self._features(encoder, name, grid_sizes)
                for key, head in heads.items():
                    caches[key].add(name, pack_features(head.select_tokens(features))[0, 0])

        for name in clips:
            self.caches.compute_or_make_room(
                partial(_fill, name),
                f"{name}: the device is out of memory with one clip at a time; give fewer frames "
                "or --precision bf16",
            )
            advance(1)
