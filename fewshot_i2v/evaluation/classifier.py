"""Classifying clips with an adapter and a head that `fewshot-i2v export` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch
from pydantic import ValidationError
from torch import Tensor

from fewshot_i2v.config.base import LimitsConfig, VideoConfig
from fewshot_i2v.config.error_messages import config_error
from fewshot_i2v.data.video.clip_cache import ClipStore
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.data.video.worker_pool import Limits
from fewshot_i2v.errors import CheckpointError, HeadError, UsageError, VideoUnreadable
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.checkpoints.adapter_checkpoint import Trained, load_adapter, load_merged
from fewshot_i2v.models.checkpoints.files import read_info
from fewshot_i2v.models.checkpoints.metadata import AdapterInfo
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.utils.resources import default_cache

if TYPE_CHECKING:
    from typing import Self

# Tokens times width encoded at once; bounds the memory.
_ENCODE_WORK = 8_000 * 768
_SHOWN = 5


@dataclass(frozen=True)
class Prediction:
    """What a clip was taken for.

    Attributes:
        path: of the clip.
        class_name: the most probable class.
        probabilities: of each class, by name; they add up to 1.
    """

    path: Path
    class_name: str
    probabilities: dict[str, float]


class Classifier:
    """An exported adapter and head, for clips in files.

    ```python
    from fewshot_i2v import Classifier, load_encoder

    classifier = Classifier.load("exported")  # a merged export, alone
    classifier = Classifier.load("exported", load_encoder("demo"))  # one that is not merged
    classifier.fit({  # support clips; heads such as `linear` need none
        "wave": ["clips/a.mp4", "clips/b.mp4"],
        "clap": ["clips/c.mp4", "clips/d.mp4"],
    })
    for prediction in classifier.predict(["new/1.mp4", "new/2.mp4"]):
        print(prediction.path, prediction.class_name, prediction.probabilities)
    ```

    Frames are chosen, cropped and scaled as in the run that the export is from.

    Args:
        encoder: that the adapter belongs to.
        trained: adapter and head, as loaded.
        video: how clips become frames.
        cache: folder of decoded clips; None: the user's cache folder.
        workers: decoding processes; None: one per processor, at most 8.
        limits: what a clip may take; the defaults if None.

    Attributes:
        classes: their names, in the order of the scores.

    Raises:
        CheckpointError: when there is no head, or its classes have no names.
    """

    def __init__(
        self,
        encoder: Encoder,
        trained: Trained,
        video: VideoConfig,
        *,
        cache: str | Path | None = None,
        workers: int | None = None,
        limits: LimitsConfig | None = None,
    ) -> None:
        info, limits = trained.info, limits or LimitsConfig()
        if trained.head is None or len(info.classes) != trained.head.way:
            raise CheckpointError(
                f"{info.adapter.name} was saved without a head, or without the names of its "
                "classes: nothing says which classes there are. Expected a folder that "
                "`fewshot-i2v export` wrote"
            )
        self.classes = tuple(info.classes)
        self._info, self._head, self._tower = info, trained.head, encoder.tower
        self._encoder = AdaptedEncoder(encoder.tower, trained.adapter).eval()
        self._support: tuple[Features, Tensor] | None = None
        options = DecodeOptions(
            frames=trained.adapter.frames,
            policy=video.policy,
            stride=video.stride,
            size=encoder.tower.image_size,
            crop=video.crop,
            backend=video.backend,
            max_pixels=limits.pixels,
            max_frames=limits.frames,
        )
        folder = default_cache() if cache is None else Path(cache)
        self._store = ClipStore(
            folder / "clips", options, workers=workers, limits=Limits.of(limits)
        )

    @classmethod
    def load(
        cls,
        folder: str | Path,
        encoder: Encoder | None = None,
        *,
        device: torch.device | str = "cpu",
        cache: str | Path | None = None,
        workers: int | None = None,
        limits: LimitsConfig | None = None,
    ) -> Self:
        """Loads what `fewshot-i2v export` wrote.

        Args:
            folder: of the export.
            encoder: the one the adapter was trained on; None for a merged export, which brings its
                own.
            device: of a merged export's encoder; one that is given stays where it is.
            cache: folder of decoded clips; None: the user's cache folder.
            workers: decoding processes; None: one per processor, at most 8.
            limits: what a clip may take; the defaults if None.

        Raises:
            CheckpointError: when the files are damaged, there is no head, an encoder is missing,
                too many or another one, or the folder does not say how its clips were read.
            UsageError: when a method is not here (any more).
        """
        folder = Path(folder)
        info = read_info(folder)
        video = _video_of(folder, info)
        if info.merged_from is not None:
            if encoder is not None:
                raise CheckpointError(
                    f"{folder}: holds an encoder that {info.adapter.name} was merged into; leave "
                    "out `encoder`"
                )
            encoder, trained = load_merged(folder, device=device)
        elif encoder is None:
            raise CheckpointError(
                f"{folder}: {info.adapter.name} was not merged and needs its encoder, "
                f"{info.encoder.label}: give what fewshot_i2v.load_encoder returns for it"
            )
        else:
            trained = load_adapter(folder, encoder)
        return cls(encoder, trained, video, cache=cache, workers=workers, limits=limits)

    def fit(self, support: Mapping[str, Sequence[str | Path]]) -> Self:
        """Takes support clips, in place of earlier ones; nothing is tuned.

        Args:
            support: clips of each class, at least one. The classes are those of the export; a head
                without parameters that reads no names takes any others.

        Returns:
            The classifier itself.

        Raises:
            UsageError: when the classes are others, or one has no clip.
            VideoUnreadable: naming the clips that cannot be read.
        """
        for name, clips in support.items():
            if isinstance(clips, str | Path) or not clips:
                raise UsageError(f"support of {name!r}: got {clips!r}; expected a list of clips")
        if not support:
            raise UsageError("support: got no class; expected clips by class name")
        classes = self._classes_of(support)
        paths = [Path(clip) for name in classes for clip in support[name]]
        labels = [i for i, name in enumerate(classes) for _ in support[name]]
        features = self._features(paths)
        if len(classes) != self._head.way:
            self._head = self._rebuilt(len(classes))
        self.classes = classes
        self._support = features, torch.tensor([labels], device=self._tower.device)
        return self

    @torch.no_grad()
    def predict(self, paths: Sequence[str | Path]) -> list[Prediction]:
        """Classifies clips.

        Args:
            paths: of the clips.

        Returns:
            One prediction for each, in order.

        Raises:
            UsageError: when the head needs support clips and has none.
            VideoUnreadable: naming the clips that cannot be read.
        """
        if isinstance(paths, str | Path):
            raise UsageError(f"paths: got {str(paths)!r}; expected a list of clips")
        if not paths:
            return []
        files = [Path(path) for path in paths]
        query, head = self._features(files), self._head
        if self._support is None:
            missing = cast("Features", _NoSupport(self._info))
            labels = torch.arange(head.way, device=self._tower.device)[None]
            scores = head.scores(head.view(query), missing, labels)
        else:
            scores = head(query, *self._support)
        return [
            Prediction(path, self.classes[int(row.argmax())], self._by_name(row))
            for path, row in zip(files, scores[0].softmax(-1).cpu(), strict=True)
        ]

    def _by_name(self, row: Tensor) -> dict[str, float]:
        return dict(zip(self.classes, row.tolist(), strict=True))

    @torch.no_grad()
    def _features(self, paths: Sequence[Path]) -> Features:
        """Features of clips, (1, clips, ...), a few of them at a time."""
        failures = self._store.prepare(paths)
        if failures:
            raise _unreadable([failures[p] for p in dict.fromkeys(paths) if p in failures])
        tower, cells = self._tower, self._head.cells
        size = max(1, _ENCODE_WORK // (self._store.options.frames * tower.tokens * tower.width))
        parts = []
        for first in range(0, len(paths), size):
            clips = [self._store.get(path).copy() for path in paths[first : first + size]]
            pixels = tower.pixels(torch.stack([torch.from_numpy(clip) for clip in clips]))
            kept = self._encoder.prefix(pixels, cells=cells)
            parts.append(self._encoder(kept[None], cells=cells))
        return Features(
            torch.cat([part.frames for part in parts], 1),
            torch.cat([part.clip for part in parts], 1),
            torch.cat([part.grid for part in parts], 1) if cells else None,
        )

    def _classes_of(self, support: Mapping[str, Any]) -> tuple[str, ...]:
        """The classes in the order of the scores."""
        own = self._info.classes
        if support.keys() == set(own):
            return tuple(own)
        if self._head.uses_names or self._head.state_dict():
            odd = sorted(support.keys() ^ set(own))
            name = self._info.head and self._info.head.name
            raise UsageError(
                f"support: the head {name!r} was tuned or embedded for {', '.join(own)}; expected "
                f"clips of these classes and no others (differs in {', '.join(odd)})"
            )
        return tuple(support)

    def _rebuilt(self, way: int) -> Head:
        """The head, which has no parameters, for another number of classes."""
        head, frames = self._head, self._store.options.frames
        new: Head = type(head)(
            head.options, width=self._tower.width, way=way, frames=frames, seeds=[0]
        )
        return new.to(self._tower.device)


class _NoSupport:
    """In place of support clips; reading them is an error that says what to do."""

    def __init__(self, info: AdapterInfo) -> None:
        self._name = info.head and info.head.name

    def __getattr__(self, _: str) -> NoReturn:
        raise HeadError(
            f"the head {self._name!r} compares with support clips and has none: call fit first, "
            "with clips of every class"
        )


def _video_of(folder: Path, info: AdapterInfo) -> VideoConfig:
    """How the run read its clips."""
    config = info.about.get("config")
    video = config.get("video") if isinstance(config, dict) else None
    if video is None:
        raise CheckpointError(
            f"{folder}: does not say how its clips were read (about.config.video); expected a "
            "folder that `fewshot-i2v export` wrote"
        )
    try:
        return VideoConfig.model_validate(video)
    except ValidationError as error:
        raise config_error(error, VideoConfig, origin=f"{folder}: about.config.video") from error


def _unreadable(failures: Sequence[VideoUnreadable]) -> VideoUnreadable:
    first, *others = failures
    if not others:
        return first
    shown = "; ".join(map(str, others[:_SHOWN])) + "; ..." * (len(others) > _SHOWN)
    reason = f"{first.reason}; {len(others)} more cannot be read: {shown}"
    return VideoUnreadable(first.path, reason)
