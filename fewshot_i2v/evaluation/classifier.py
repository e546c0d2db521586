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
from fewshot_i2v.config.error_messages import translate_validation_error
from fewshot_i2v.errors import CheckpointError, HeadError, UsageError, VideoUnreadable
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features, concat_features
from fewshot_i2v.models.checkpoints.adapter_checkpoint import (
    LoadedAdapter,
    load_adapter,
    load_merged,
)
from fewshot_i2v.models.checkpoints.files import read_metadata
from fewshot_i2v.models.checkpoints.metadata import CheckpointMetadata
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.tuning.run_context import clips_per_pass, open_clip_cache
from fewshot_i2v.utils.resources import default_cache_folder

if TYPE_CHECKING:
    from typing import Self

_MAX_SHOWN_ERRORS = 5


@dataclass(frozen=True)
class Prediction:
    """The predicted class of a clip.

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

    classifier = Classifier.load("exported")  # a merged export
    classifier = Classifier.load("exported", load_encoder("demo"))  # one that is not merged
    classifier.fit({  # support clips; heads such as `linear` need none
        "wave": ["clips/a.mp4", "clips/b.mp4"],
        "clap": ["clips/c.mp4", "clips/d.mp4"],
    })
    for prediction in classifier.predict(["new/1.mp4", "new/2.mp4"]):
        print(prediction.path, prediction.class_name, prediction.probabilities)
    ```

    Frames are chosen, cropped and scaled as in the run of the export.

    Args:
        encoder: that the adapter belongs to.
        trained: adapter and head, as loaded.
        video: how clips become frames.
        cache: folder of decoded clips; None: the user's cache folder.
        workers: decoding processes; None: one per processor, at most 8.
        limits: limits of decoding; the defaults if None.

    Attributes:
        classes: their names, in the order of the scores.

    Raises:
        CheckpointError: when there is no head, or its classes have no names.
    """

    def __init__(
        self,
        encoder: Encoder,
        trained: LoadedAdapter,
        video: VideoConfig,
        *,
        cache: str | Path | None = None,
        workers: int | None = None,
        limits: LimitsConfig | None = None,
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
        self._encoder = AdaptedEncoder(encoder.tower, trained.adapter).eval()
        self._support: tuple[Features, Tensor] | None = None
        self._frames = trained.adapter.frames
        self._store = open_clip_cache(
            default_cache_folder() if cache is None else Path(cache),
            video.model_copy(update={"frames": self._frames}),
            limits or LimitsConfig(),
            size=encoder.tower.image_size,
            workers=workers,
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
        """Loads an export of `fewshot-i2v export`.

        Args:
            folder: of the export.
            encoder: the one the adapter was trained on; None for a merged export, which includes
                its encoder.
            device: of a merged export's encoder; an encoder that is passed stays where it is.
            cache: folder of decoded clips; None: the user's cache folder.
            workers: decoding processes; None: one per processor, at most 8.
            limits: limits of decoding; the defaults if None.

        Raises:
            CheckpointError: when the files are damaged, there is no head, an encoder is missing,
                too many or another one, or the folder does not say how its clips were read.
            UsageError: when a method is not here (any more).
        """
        folder = Path(folder)
        info = read_metadata(folder)
        video = _recorded_video_config(folder, info)
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
        """Sets the support clips, replacing earlier ones; nothing is tuned.

        Args:
            support: clips of each class, at least one. The classes are those of the export; a head
                without parameters that reads no names takes any classes.

        Returns:
            The classifier itself.

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
        features = self._features(paths)
        head = self._head
        if len(classes) != head.way:  # it has no parameters
            self._head = type(head)(
                head.options,
                width=self._tower.width,
                way=len(classes),
                frames=self._frames,
                seeds=[0],
            ).to(self._tower.device)
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
            no_support = cast("Features", _MissingSupport(self._info))
            labels = torch.arange(head.way, device=self._tower.device)[None]
            scores = head.query_logits(head.select_tokens(query), no_support, labels)
        else:
            scores = head(query, *self._support)
        return [
            Prediction(
                path,
                self.classes[int(row.argmax())],
                dict(zip(self.classes, row.tolist(), strict=True)),
            )
            for path, row in zip(files, scores[0].softmax(-1).cpu(), strict=True)
        ]

    @torch.no_grad()
    def _features(self, paths: Sequence[Path]) -> Features:
        """Features of clips, (1, clips, ...), computed in chunks."""
        failures = self._store.prepare(paths)
        if failures:
            raise _unreadable_error([failures[p] for p in dict.fromkeys(paths) if p in failures])
        tower, grid_sizes = self._tower, self._head.grid_sizes
        chunk_size = clips_per_pass(tower, self._frames)
        chunks = []
        for start in range(0, len(paths), chunk_size):
            clips = [self._store.get(path).copy() for path in paths[start : start + chunk_size]]
            pixels = tower.normalize(torch.stack([torch.from_numpy(clip) for clip in clips]))
            prefix = self._encoder.compute_prefix(pixels, grid_sizes=grid_sizes)
            chunks.append(self._encoder(prefix[None], grid_sizes=grid_sizes))
        return concat_features(chunks)

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


class _MissingSupport:
    """Placeholder for missing support clips; any access raises an error that says what to do."""

    def __init__(self, info: CheckpointMetadata) -> None:
        self._name = info.head and info.head.name

    def __getattr__(self, _: str) -> NoReturn:
        raise HeadError(
            f"the head {self._name!r} compares with support clips and has none: call fit first, "
            "with clips of every class"
        )


def _recorded_video_config(folder: Path, info: CheckpointMetadata) -> VideoConfig:
    """Returns how the run read its clips."""
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
        raise translate_validation_error(
            error, VideoConfig, origin=f"{folder}: about.config.video"
        ) from error


def _unreadable_error(failures: Sequence[VideoUnreadable]) -> VideoUnreadable:
    first_error, *remaining = failures
    if not remaining:
        return first_error
    shown = "; ".join(map(str, remaining[:_MAX_SHOWN_ERRORS])) + "; ..." * (
        len(remaining) > _MAX_SHOWN_ERRORS
    )
    reason = f"{first_error.reason}; {len(remaining)} more cannot be read: {shown}"
    return VideoUnreadable(first_error.path, reason)
