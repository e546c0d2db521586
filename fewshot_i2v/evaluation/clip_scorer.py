"""Scoring clips: encoder, adapter, head and support clips, for clips in files and in windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_i2v.config.base import LimitsConfig, VideoConfig
from fewshot_i2v.data.video.clip_cache import ClipArray
from fewshot_i2v.data.video.feature_files import FeatureFiles
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.data.video.windows import VideoWindow, WindowPlan, read_windows
from fewshot_i2v.errors import (
    CheckpointError,
    DeviceMemoryError,
    UsageError,
    VideoUnreadable,
)
from fewshot_i2v.evaluation.missing_support import missing_support
from fewshot_i2v.evaluation.nearest_clip import NEAREST, nearest_clip_head
from fewshot_i2v.evaluation.prediction import Prediction, rejection_scores
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.features import (
    Features,
    concat_features,
    unpack_features,
)
from fewshot_i2v.models.adapters.base.frozen_prefix import (
    ClipPrefixes,
    ClipTokens,
    PrefixSpec,
    check_grids,
)
from fewshot_i2v.models.checkpoints.adapter_checkpoint import (
    LoadedAdapter,
    build_modules,
    check_encoder,
)
from fewshot_i2v.models.checkpoints.model_file import (
    SUPPORT_FEATURES,
    SUPPORT_LABELS,
    ModelFile,
)
from fewshot_i2v.models.device_memory import PartSize
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.models.factory import build_head
from fewshot_i2v.models.heads.base.head import Head, Scorer
from fewshot_i2v.models.prefix_store import PrefixStore
from fewshot_i2v.statistics.temperature import softmax
from fewshot_i2v.tuning.emulation import MODEL_ADVICE, emulation_note
from fewshot_i2v.tuning.run_context import clips_per_pass, open_clip_cache
from fewshot_i2v.utils.limits import ClipLimits
from fewshot_i2v.utils.resources import default_cache_folder
from fewshot_i2v.utils.text_table import count_text

_MAX_CHUNK = 16
_Part = TypeVar("_Part")


class ClipScorer:
    """Encoder, adapter, head and support clips, which together classify clips.

    Args:
        encoder: that the adapter belongs to.
        trained: adapter and head, as loaded.
        video: how clips become frames.
        model: content of the file of a fitted model; None: of an export.
        cache: folder of decoded clips and features; None: the user's cache folder.
        cache_limit: largest size of what is there, such as "20GB"; None: no limit.
        workers: decoding processes; None: one per processor, at most 8.
        limits: limits of decoding; the defaults if None.
        feature_cache: whether frozen features of clips are read from the cache and written to it.

    Attributes:
        classes: their names, in the order of the scores.
        encoder: the frozen encoder.
        model: content of the file of a fitted model; None for an export.
        notes: that the device emulates the precision of the model, and what went wrong with cached
            features or memory; nothing of it changes a prediction.
        on_note: called with each further one; by default it is added to `notes`.

    Raises:
        CheckpointError: when there is no head, or its classes have no names.
    """

    def __init__(
        self,
        encoder: Encoder,
        trained: LoadedAdapter,
        video: VideoConfig,
        *,
        model: ModelFile | None = None,
        cache: str | Path | None = None,
        cache_limit: str | None = None,
        workers: int | None = None,
        limits: LimitsConfig | None = None,
        feature_cache: bool = True,
    ) -> None:
        info = trained.metadata
        if trained.head is None or len(info.classes) != trained.head.way:
            raise CheckpointError(
                f"{info.adapter.name} was saved without a head, or without the names of its "
                "classes: nothing says which classes there are. Expected a folder that "
                "`fewshot-i2v export` wrote"
            )
        self.classes = tuple(info.classes)
        self._info, self._head, self._tower = info, trained.head, encoder.tower
        self.encoder = encoder
        self._encoder = AdaptedEncoder(
            encoder.tower, trained.adapter, reads_frozen=trained.head.reads_frozen
        ).eval()
        self._frames = trained.adapter.frames
        self.model = model
        self._support: tuple[Features, Tensor] | None = None
        self._score: Scorer | None = None
        self._nearest_score: Scorer | None = None
        if trained.support is not None:
            packed, labels = (t[None].to(encoder.tower.device) for t in trained.support)
            self._support = unpack_features(packed, self._frames), labels
        if model is not None:
            self._nearest_score = self.make_nearest_scorer()
        self._store = open_clip_cache(
            default_cache_folder() if cache is None else Path(cache),
            video.model_copy(update={"frames": self._frames}),
            limits or LimitsConfig(),
            size=encoder.tower.image_size,
            workers=workers,
            cache_limit=cache_limit,
        )
        self._part_size = PartSize(on_halved=self._say_halved)
        note = emulation_note(self._encoder.prefix_tower(self._head.grid_sizes), MODEL_ADVICE)
        self.notes: list[str] = [note] if note else []
        self.on_note: Callable[[str], object] = self.notes.append
        files = None
        if feature_cache:
            files = FeatureFiles(self._store, lambda note: self.on_note(note))
        self._prefixes = PrefixStore(encoder, self._frames, files, deterministic=False)

    @classmethod
    def of_model(
        cls, model: ModelFile, encoder: Encoder, path: Path = Path("model"), **options: Any
    ) -> ClipScorer:
        """Builds the scorer of a fitted model.

        `path`, of the file, is for messages; `options` are `cache`, `cache_limit`, `workers`,
        `limits` and `feature_cache`.

        Raises:
            CheckpointError: for another encoder, or tensors that do not fit.
        """
        description = model.description
        check_encoder(path, description.checkpoint, encoder)
        missing = {SUPPORT_FEATURES, SUPPORT_LABELS} - model.tensors.keys()
        if missing:
            raise CheckpointError(f"{path}: damaged: lacks {', '.join(sorted(missing))}")
        trained = build_modules(path, description.checkpoint, encoder, dict(model.tensors))
        return cls(encoder, trained, description.video, model=model, **options)

    def set_support(self, support: Mapping[str, Sequence[str | Path]]) -> None:
        """Sets the clips that an export compares with, replacing its own; nothing is tuned.

        Args:
            support: clips of each class, at least one. The classes are those of the export; a head
                without parameters that reads no names takes any classes.

        Raises:
            UsageError: when the classes do not fit, or one has no clip.
            VideoUnreadable: naming the clips that cannot be read.
        """
        for name, clips in support.items():
            if isinstance(clips, str | Path) or not clips:
                raise UsageError(f"support of {name!r}: got {clips!r}; expected a list of clips")
        if not support:
            raise UsageError("support: got no class; expected clips by class name")
        classes = self._ordered_classes(support)
        paths = [Path(clip) for name in classes for clip in support[name]]
        labels = [i for i, name in enumerate(classes) for _ in support[name]]
        selected = self.select_features(paths)
        self._head = self.head_for(len(classes))
        self.classes = classes
        self._support = selected, torch.tensor([labels], device=self._tower.device)
        self._score = None

    def iterate(self, paths: Iterable[str | Path]) -> Iterator[Prediction]:
        """Classifies clips one after the other; the next ones are decoded meanwhile.

        Args:
            paths: of the clips, of any number; they are taken as they are needed.

        Yields:
            One prediction for each, in order; with an error for a clip that cannot be read.

        Raises:
            UsageError: when the head needs support clips and has none.
        """
        size = self._chunk_size
        files = map(Path, paths)
        chunk = list(islice(files, size))
        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(self._prepare, chunk)
            while chunk:
                failures = pending.result()
                following = list(islice(files, size))
                pending = pool.submit(self._prepare, following)
                prefixes = self._readable_prefixes(chunk, failures)
                readable = [path for path in chunk if path not in failures]
                predictions = iter(self._classify(readable, prefixes))
                for path in chunk:
                    if path in failures:
                        yield Prediction(path, None, {}, error=str(failures[path].reason))
                    else:
                        yield next(predictions)
                chunk = following

    @property
    def adapter(self) -> Adapter:
        """The adapter, of one copy."""
        return self._encoder.adapter

    @property
    def head(self) -> Head:
        """The head, of one copy."""
        return self._head

    def head_for(self, way: int) -> Head:
        """Returns a head without parameters for another number of classes."""
        head = self._head
        if way == head.way:
            return head
        return type(head)(
            head.options, width=self._tower.width, way=way, frames=self._frames, seeds=[0]
        ).to(self._tower.device)

    def select_features(self, paths: Sequence[Path]) -> Features:
        """Computes what the head reads of clips, (1, clips, ...).

        Raises:
            VideoUnreadable: naming the clips that cannot be read.
        """
        return self._head.select_tokens(self._features(paths))

    @property
    def limits(self) -> ClipLimits:
        """Limits of decoding."""
        return self._store.limits

    @property
    def device(self) -> torch.device:
        """Device of the encoder."""
        return self._tower.device

    def content_digest(self, path: Path) -> str:
        """Digest of the content of a clip that was classified."""
        return self._store.digest(path)

    def read_windows(self, path: str | Path, plan: WindowPlan) -> Iterator[VideoWindow]:
        """Reads the windows of a video file as clips are read, see `read_windows`."""
        return read_windows(Path(path), plan, self._store.options, self._store.limits)

    def score_windows(
        self, path: str | Path, windows: Iterator[VideoWindow], at_once: int | None = None
    ) -> Iterator[tuple[VideoWindow, Prediction]]:
        """Classifies windows, and yields each with its prediction.

        They are taken as they are needed, and `at_once` in a pass; None: as many as the device
        takes.
        """
        while chunk := list(islice(windows, at_once or self._chunk_size)):
            prefixes = [self._tokens_of_frames(window.frames) for window in chunk]
            yield from zip(chunk, self._classify([Path(path)] * len(chunk), prefixes), strict=True)

    @property
    def decode_options(self) -> DecodeOptions:
        """How clips become arrays."""
        return self._store.options

    @property
    def _chunk_size(self) -> int:
        return max(1, min(_MAX_CHUNK, clips_per_pass(self._tower, self._frames)))

    @torch.no_grad()
    def make_scorer(self) -> Scorer:
        """Returns what gives the logits of clips, with what depends on the labelled ones done."""
        if self._support is not None:
            return self._head.scorer(*self._support)
        no_support = missing_support(None if self._info.head is None else self._info.head.name)
        labels = torch.arange(self._head.way, device=self._tower.device)[None]
        return lambda query: self._head.query_logits(query, no_support, labels)

    @torch.no_grad()
    def make_nearest_scorer(self) -> Scorer | None:
        """Returns what gives the similarity to the nearest labelled clip of each class.

        None where "none of these" does not go by it.

        Raises:
            CheckpointError: for a head that compares with no clips.
        """
        rejection = None if self.model is None else self.model.description.rejection
        if rejection is None or rejection.score != NEAREST or self._support is None:
            return None
        own = self._info.head
        method = None if own is None else nearest_clip_head(own.name, own.options)
        if method is None:
            raise CheckpointError(
                f'"none of these" goes by the nearest labelled clip, which the head '
                f"{own and own.name} does not compare with; fit the model again"
            )
        way, frames = len(self.classes), self._frames
        head = build_head(method, self._tower, way=way, frames=frames, seeds=[0])
        return head.to(self._tower.device).scorer(*self._support)

    def logits_of(self, clips: Sequence[ClipArray]) -> NDArray[np.float64]:
        """Computes the logits of decoded clips, (T, size, size, 3) each: (clips, classes).

        Raises:
            HeadError: when the head needs support clips and has none.
        """
        return self.scores_of(clips)[0]

    def scores_of(
        self, clips: Sequence[ClipArray]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Computes the logits of decoded clips, and their similarity to the nearest labelled clip.

        Args:
            clips: (T, size, size, 3) each.

        Returns:
            Both (clips, classes); the second is None where "none of these" does not go by it.

        Raises:
            HeadError: when the head needs support clips and has none.
        """
        return self._scores([self._tokens_of_frames(clip) for clip in clips])

    @torch.no_grad()
    def _scores(
        self, prefixes: Sequence[ClipTokens]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Computes the scores of clips from their frozen prefixes."""
        if self._score is None:
            self._score = self.make_scorer()
        scorers = [self._score] + ([self._nearest_score] if self._nearest_score else [])

        def _score(features: Features) -> list[NDArray[np.float64]]:
            selected = self._head.select_tokens(features)
            return [score(selected)[0].double().cpu().numpy() for score in scorers]

        logits, *similarities = map(
            np.concatenate, zip(*self._in_parts(prefixes, _score), strict=True)
        )
        return logits, similarities[0] if similarities else None

    def _classify(self, paths: Sequence[Path], prefixes: Sequence[ClipTokens]) -> list[Prediction]:
        """Classifies clips from their frozen prefixes."""
        if not paths:
            return []
        logits, similarities = self._scores(prefixes)
        description = None if self.model is None else self.model.description
        probabilities = softmax(logits, 1.0 if description is None else description.temperature)
        is_none = np.zeros(len(paths), dtype=bool)
        if description is not None and description.rejection is not None:
            rejection = description.rejection
            scores = rejection_scores(rejection.score, logits, probabilities, similarities)
            is_none = scores < rejection.threshold
        predictions = []
        for path, row, none in zip(paths, probabilities, is_none, strict=True):
            nearest = self.classes[int(row.argmax())]
            by_class = dict(zip(self.classes, row.tolist(), strict=True))
            predictions.append(Prediction(path, None if none else nearest, by_class, nearest))
        return predictions

    @torch.no_grad()
    def _features(self, paths: Sequence[Path]) -> Features:
        """Features of clips, (1, clips, ...), computed in chunks."""
        failures = self._prepare(paths)
        if failures:
            unique = dict.fromkeys(paths)
            raise VideoUnreadable.joined([failures[p] for p in unique if p in failures])
        chunk_size = clips_per_pass(self._tower, self._frames)
        return concat_features(
            [
                features
                for start in range(0, len(paths), chunk_size)
                for features in self._in_parts(
                    [self._prefix_of(p) for p in paths[start : start + chunk_size]], lambda x: x
                )
            ]
        )

    def _say_halved(self, limit: int) -> None:
        self.on_note(
            f"the memory of the device was too small; {count_text(limit, 'clip')} at a time from "
            "here on, which changes no more than rounding"
        )

    def _in_parts(
        self, prefixes: Sequence[ClipTokens], compute: Callable[[Features], _Part]
    ) -> list[_Part]:
        """Computes something of the features of clips, in as few parts as the memory allows.

        Raises:
            DeviceMemoryError: when one clip is too large for the memory of the device.
        """
        try:
            return self._part_size.run(
                len(prefixes), lambda part: compute(self._encode(prefixes[part]))
            )
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError(
                "the device is out of memory with one clip at a time; give the device cpu, or make "
                "the model with fewer frames or in precision bf16 "
                f"({str(error).splitlines()[0]})"
            ) from error

    def _encode(self, prefixes: Sequence[ClipTokens]) -> Features:
        """Features of clips from their frozen prefixes, (1, clips, ...)."""
        stacked: ClipTokens
        if isinstance(prefixes[0], ClipPrefixes):
            stacked = ClipPrefixes(
                *(torch.stack(part)[None] for part in zip(*prefixes, strict=True))
            )
        else:
            stacked = torch.stack(cast("list[Tensor]", list(prefixes)))[None]
        features: Features = self._encoder(stacked, grid_sizes=self._head.grid_sizes)
        return features

    @property
    def _spec(self) -> PrefixSpec:
        """What is computed once per clip."""
        check_grids(self._tower, self._head.grid_sizes)
        return self.adapter.prefix_spec(self._head.grid_sizes).cache_key(self._tower)

    def _prepare(self, paths: Sequence[Path]) -> dict[Path, VideoUnreadable]:
        """Decodes the clips whose prefix is not on disk; returns those that cannot be read."""
        is_found = self._prefixes.find(paths, self._spec, [""] * len(paths))
        pairs = zip(paths, is_found, strict=True)
        return self._store.prepare([path for path, found in pairs if not found])

    def _readable_prefixes(
        self, paths: Sequence[Path], failures: dict[Path, VideoUnreadable]
    ) -> list[ClipTokens]:
        """Reads or computes the prefixes of clips; adds those that cannot be read to `failures`."""
        prefixes: list[ClipTokens] = []
        for path in paths:
            try:
                if path not in failures:
                    prefixes.append(self._prefix_of(path))
            except VideoUnreadable as error:
                failures[path] = error
        return prefixes

    def _prefix_of(self, path: Path) -> ClipTokens:
        """Reads or computes the prefix of a clip that was prepared."""
        return self._tokens(
            lambda spec: self._prefixes.load(path, spec, lambda: self._decoded(path))
        )

    def _tokens_of_frames(self, frames: ClipArray) -> ClipTokens:
        """Computes the prefix of a clip of decoded frames, (T, size, size, 3)."""
        return self._tokens(lambda spec: self._prefixes.compute(frames, spec))

    def _tokens(self, load: Callable[[PrefixSpec], Tensor]) -> ClipTokens:
        """Loads what the encoder reads of a clip: the prefix, and exact features beside it."""
        prefix, exact_spec = load(self._spec), self._encoder.exact_spec(self._head.grid_sizes)
        return prefix if exact_spec is None else ClipPrefixes(prefix, load(exact_spec))

    def _decoded(self, path: Path) -> ClipArray:
        """Returns the frames of a clip, which may have been prepared for its prefix alone."""
        try:
            return self._store.get(path)
        except VideoUnreadable:
            failures = self._store.prepare([path])
        if failures:
            raise failures[path]
        return self._store.get(path)

    def _ordered_classes(self, support: Mapping[str, Any]) -> tuple[str, ...]:
        """Returns the classes in the order of the scores."""
        exported = self._info.classes
        if support.keys() == set(exported):
            return tuple(exported)
        if self._head.uses_class_names or self._head.state_dict():
            differing = sorted(support.keys() ^ set(exported))
            name = self._info.head and self._info.head.name
            raise UsageError(
                f"support: the head {name!r} was tuned or embedded for {', '.join(exported)}; "
                f"expected clips of these classes and no others (differs in {', '.join(differing)})"
            )
        return tuple(support)
