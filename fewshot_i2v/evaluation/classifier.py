"""A classifier of clips: fitted to labelled clips, loaded from a file, saved, used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from fewshot_i2v.config.base import EncoderConfig, LimitsConfig, VideoConfig
from fewshot_i2v.config.error_messages import translate_validation_error
from fewshot_i2v.data.splits.builder.labelled_clips import LabelledClips, label_clips
from fewshot_i2v.data.video.live import LiveSource
from fewshot_i2v.errors import CheckpointError, UsageError, VideoUnreadable
from fewshot_i2v.evaluation.clip_scorer import ClipScorer
from fewshot_i2v.evaluation.fitting.candidates import check_fit_keys
from fewshot_i2v.evaluation.fitting.model_fit import FittedModel, fit_model
from fewshot_i2v.evaluation.live_segments import LiveSegments
from fewshot_i2v.evaluation.prediction import Prediction, Predictions
from fewshot_i2v.models.checkpoints.adapter_checkpoint import load_adapter, load_merged
from fewshot_i2v.models.checkpoints.files import read_metadata
from fewshot_i2v.models.checkpoints.model_file import (
    ModelFile,
    load_model_encoder,
    load_recorded_encoder,
    read_model,
    write_model,
)
from fewshot_i2v.models.encoders.loading import Encoder

if TYPE_CHECKING:
    from typing import Self

_Section = TypeVar("_Section", EncoderConfig, VideoConfig)
_SECTION_MEANINGS = {"video": "how its clips were read", "encoder": "which encoder it needs"}


class FewShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # has no types
    """A classifier of clips in files, also for pipelines of scikit-learn.

    ```python
    import fewshot_i2v

    model = fewshot_i2v.fit("CLIPS", encoder="demo")  # class folders
    model.save("gestures.safetensors")
    model = fewshot_i2v.FewShotClassifier.load("gestures.safetensors")
    for prediction in model.predict(["new/1.mp4", "new/2.mp4"]):
        print(prediction.path, prediction.class_name, prediction.probabilities)
    ```

    A folder that `fewshot-i2v export` wrote is loaded likewise, with its encoder if it was not
    merged; it compares with the support clips of its episode, or those of `set_support`.

    Frames are chosen, cropped and scaled as in the run, whatever the length and rate of a clip.

    Args:
        like: run folder of a row, whose encoder, adapter, start, head and tuning are taken.
        folds: of the cross-validation; None: each clip alone, 10 for more than 40 clips, or 5
            where something is tuned.
        reject: share of the clips of the classes that "none of these" may reject; 0: it is off.
        race: whether a fine-tuned method stops predicting held-out clips where it cannot be chosen
            any more; the choice is the same.
        skip_unreadable: leave clips out that cannot be read, instead of an error.
        progress: whether to show progress bars on standard error.
        processes: that fine-tune for folds and classes left out, sharing the cores or GPUs; None:
            this one does. A script that gives it needs `if __name__ == "__main__":`.
        overrides: keys of an evaluation, such as encoder="ViT-B-16", adapter="auto", head, start,
            tokens, seed, device; adapter is "frozen" by default, and head those of `AUTO_HEADS`.
            Keys of sections are nested, or have two underscores: tuning__steps=20.

    Raises:
        UsageError: for a key that has no meaning for a fit.
    """

    def __init__(
        self,
        *,
        like: str | Path | None = None,
        folds: int | None = None,
        reject: float = 0.05,
        race: bool = True,
        skip_unreadable: bool = False,
        progress: bool = False,
        processes: int | None = None,
        **overrides: Any,
    ) -> None:
        self._settings: dict[str, Any] = {
            "like": like,
            "folds": folds,
            "reject": reject,
            "race": race,
            "skip_unreadable": skip_unreadable,
            "progress": progress,
            "processes": processes,
        }
        self._fitted: ClipScorer | None = None
        self.set_params(**overrides)

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002, RUF100 - scikit-learn's
        """Returns the settings of a fit, by name."""
        return dict(self._settings)

    def set_params(self, **params: Any) -> Self:
        """Sets some settings of the next fit; the model that is there stays as it is.

        Raises:
            UsageError: for a key that has no meaning for a fit.
        """
        dotted = {key.replace("__", "."): value for key, value in params.items()}
        check_fit_keys(dotted.keys() - self._settings.keys())
        self._settings |= dotted
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return self._fitted is not None

    def fit(
        self,
        X: Sequence[str | Path] | NDArray[Any],  # noqa: N803 - scikit-learn's name
        y: Sequence[str] | NDArray[Any],
        groups: Sequence[str] | None = None,
    ) -> Self:
        """Fits a model to clips and their classes.

        Args:
            X: paths of R clips, or one column of them.
            y: name of the class of each, (R,).
            groups: who or what each clip is of, (R,); clips of one group are held out together.

        Raises:
            UsageError: when the numbers differ, or a class is no text.
            FewshotError: as `fewshot_i2v.fit`.
        """
        self.fit_labelled(label_clips(_paths(X), list(y), groups))
        return self

    def fit_labelled(self, clips: LabelledClips) -> FittedModel:
        """Fits a model to labelled clips, and returns it with what was tried."""
        fitted = fit_model(clips, **self._settings)
        config = fitted.tried.job.config
        self._fitted = ClipScorer.of_model(
            fitted.model,
            fitted.tried.job.context.encoder,
            cache=config.cache,
            cache_limit=config.cache_limit,
            workers=config.workers,
            limits=config.limits,
            feature_cache=config.feature_cache,
        )
        return fitted

    @classmethod
    def load(
        cls,
        path: str | Path,
        encoder: Encoder | None = None,
        *,
        pretrained: str | Path | None = None,
        architecture: str | Path | None = None,
        device: torch.device | str = "cpu",
        cache: str | Path | None = None,
        cache_limit: str | None = None,
        workers: int | None = None,
        limits: LimitsConfig | None = None,
        feature_cache: bool = True,
    ) -> Self:
        """Loads a model that `fewshot-i2v fit` wrote, or an export of `fewshot-i2v export`.

        Args:
            path: file of the model, or folder of the export.
            encoder: the one it was made with; None: the one that it names; a merged export includes
                its encoder.
            pretrained: where the weights of its encoder are now, as for `load_encoder`.
            architecture: likewise, where the configuration of its encoder is now.
            device: of the encoder; one that is passed stays where it is.
            cache: folder of decoded clips and features; None: the user's cache folder.
            cache_limit: largest size of what is there, such as "20GB"; None: no limit.
            workers: decoding processes; None: one per processor, at most 8.
            limits: limits of decoding; the defaults if None.
            feature_cache: whether frozen features of clips are read from the cache and written to
                it; predictions are the same without.

        Raises:
            CheckpointError: when the files are damaged, there is no head, an encoder is missing,
                too many or another one, or the folder does not say how its clips were read.
            UsageError: when a method is not here (any more).
        """
        path = Path(path)
        options: dict[str, Any] = {"cache": cache, "cache_limit": cache_limit}
        options |= {"workers": workers, "limits": limits, "feature_cache": feature_cache}
        if not path.is_dir():
            model = read_model(path)
            if encoder is None:
                encoder = load_model_encoder(path, model, pretrained, architecture, device)
            return cls.of_model(model, encoder, path, **options)
        classifier = cls()
        places = {"pretrained": pretrained, "architecture": architecture, "device": device}
        classifier._fitted = _scorer_of_export(path, encoder, places, options)
        return classifier

    @classmethod
    def of_model(
        cls, model: ModelFile, encoder: Encoder, path: Path = Path("model"), **options: Any
    ) -> Self:
        """Builds the classifier of a fitted model; the arguments are those of `ClipScorer`.

        Its settings fit the same method again.

        Raises:
            CheckpointError: for another encoder, or tensors that do not fit.
        """
        classifier = cls(**_settings_of(model))
        classifier._fitted = ClipScorer.of_model(model, encoder, path, **options)
        return classifier

    def save(self, path: str | Path) -> None:
        """Writes the file of a fitted model; one that is there is replaced.

        Raises:
            CheckpointError: when it is an export, whose folder is there, or cannot be written.
        """
        if self.model is None:
            raise CheckpointError(
                f"{path}: this is an export; copy its folder instead. A fitted model is one file"
            )
        write_model(Path(path), self.model)

    @property
    def scorer(self) -> ClipScorer:
        """What classifies clips.

        Raises:
            NotFittedError: before a fit.
        """
        if self._fitted is None:
            raise NotFittedError("this classifier has no model yet: call fit, or load one")
        return self._fitted

    @property
    def model(self) -> ModelFile | None:
        """Content of the file of a fitted model, with what to expect of it; None for an export."""
        return self.scorer.model

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder."""
        return self.scorer.encoder

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""
        return self.scorer.classes

    @property
    def classes_(self) -> NDArray[np.str_]:
        """Names of the classes, in the order of the scores, as scikit-learn has them."""
        return np.array(self.scorer.classes)

    def set_support(self, support: Mapping[str, Sequence[str | Path]]) -> Self:
        """Sets the clips that an export compares with, see `ClipScorer.set_support`.

        Returns:
            The classifier itself.
        """
        self.scorer.set_support(support)
        return self

    def predict(
        self,
        X: Sequence[str | Path] | NDArray[Any],  # noqa: N803 - scikit-learn's name
    ) -> Predictions:
        """Classifies clips.

        Args:
            X: paths of the clips, or one column of them.

        Returns:
            One prediction for each, in order; as an array they are the names of the classes.

        Raises:
            UsageError: when the head needs support clips and has none.
            VideoUnreadable: naming the clips that cannot be read.
        """
        predictions = Predictions(self.scorer.iterate(_paths(X)))
        failures = [VideoUnreadable(p.path, p.error) for p in predictions if p.error is not None]
        if failures:
            raise VideoUnreadable.joined(failures)
        return predictions

    def predict_proba(
        self,
        X: Sequence[str | Path] | NDArray[Any],  # noqa: N803 - scikit-learn's name
    ) -> NDArray[np.float64]:
        """Computes the probabilities of the classes, (clips, classes), in the order of `classes`.

        Raises:
            UsageError, VideoUnreadable: as `predict`.
        """
        rows = [list(p.probabilities.values()) for p in self.predict(X)]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.classes))

    def score(
        self,
        X: Sequence[str | Path] | NDArray[Any],  # noqa: N803 - scikit-learn's name
        y: Sequence[str] | NDArray[Any],
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Computes the share of clips whose nearest class is right, as `fit` promises it.

        A clip that is taken for "none of these" counts by its nearest class; for the accuracy with
        these counted as wrong, compare `predict` with the labels.

        Args:
            X: paths of R clips.
            y: name of the class of each, (R,).
            sample_weight: of each clip, (R,); None: all are equal.

        Raises:
            UsageError: when the numbers differ.
            VideoUnreadable: as `predict`.
        """
        paths, labels = _paths(X), list(y)
        if len(paths) != len(labels) or not paths:
            raise UsageError(f"score: got {len(paths)} clips and {len(labels)} classes of them")
        hits = [p.nearest == label for p, label in zip(self.predict(paths), labels, strict=True)]
        weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        return float(np.average(hits, weights=weights))

    def iterate(self, paths: Iterable[str | Path]) -> Iterator[Prediction]:
        """Classifies clips one after the other, see `ClipScorer.iterate`."""
        return self.scorer.iterate(paths)

    def stream(
        self,
        source: str | Path | int,
        window: float,
        stride: float | None = None,
    ) -> LiveSegments:
        """Finds what happens when in a stream, while it runs.

        Args:
            source: address such as rtsp://HOST/..., named pipe, file that grows, "-" for standard
                input, or the number of a camera.
            window: length in seconds of the clips that are classified, about that of the clips
                which the model was fitted to.
            stride: seconds from one to the next; None: a quarter of the window.

        Returns:
            The segments to iterate over, each as soon as the next one begins, with the attributes
            `counts`, `mean_latency` and `max_latency` of `LiveSegments`.

        Raises:
            UsageError: for a source of another kind.
            VideoUnreadable: while iterating, when it cannot be opened, breaks off, or ends before
                its first window is complete.
        """
        live = LiveSource.camera(str(source)) if isinstance(source, int) else None
        live = live or LiveSource.stream(str(source))
        return LiveSegments(self.scorer, live, window, stride or window / 4)


def _paths(clips: Sequence[str | Path] | NDArray[Any]) -> list[Path]:
    """Returns the paths of a list or of one column."""
    if isinstance(clips, str | Path):
        raise UsageError(f"paths: got {str(clips)!r}; expected a list of clips")
    shape = np.shape(clips) if hasattr(clips, "shape") else (len(clips),)
    if len(shape) == 2 and shape[1] == 1:
        return [Path(str(path)) for path in np.asarray(clips)[:, 0]]
    if len(shape) != 1:
        raise UsageError(f"paths: got an array of shape {shape}; expected (clips,) or (clips, 1)")
    return [Path(str(path)) for path in clips]


def _settings_of(model: ModelFile) -> dict[str, Any]:
    """Returns the settings that fit the method of a model again."""
    description = model.description
    checkpoint = description.checkpoint
    settings: dict[str, Any] = {
        "encoder": description.encoder_source.model_dump(exclude_none=True),
        "precision": description.precision,
        "video": description.video.model_dump(),
        "start": description.start,
        "adapter": {"name": checkpoint.adapter.name, "options": dict(checkpoint.adapter.options)},
    }
    if checkpoint.head is not None:
        settings["head"] = {"name": checkpoint.head.name, "options": dict(checkpoint.head.options)}
    if "class_texts" in checkpoint.about:
        settings["class_texts"] = checkpoint.about["class_texts"]
    if description.tuning:
        settings["tuning"] = dict(description.tuning)
    return settings


def _scorer_of_export(
    path: Path, encoder: Encoder | None, places: Mapping[str, Any], options: Mapping[str, Any]
) -> ClipScorer:
    """Returns the scorer of an export.

    `encoder` is that of an adapter that was not merged; None: the one of the run, whose files are
    where `places` says (`pretrained`, `architecture`), on its `device`.
    """
    info = read_metadata(path)
    config = info.about.get("config") or {}
    video = _recorded_section(path, config, "video", VideoConfig)
    if info.merged_from is not None:
        if encoder is not None:
            raise CheckpointError(
                f"{path}: holds an encoder that {info.adapter.name} was merged into; leave "
                "out `encoder`"
            )
        return ClipScorer(*load_merged(path, device=places["device"]), video, **options)
    if encoder is None:
        source = _recorded_section(path, config, "encoder", EncoderConfig)
        precision = str(config.get("precision", "fp32"))
        encoder = load_recorded_encoder(path, source, info.encoder, precision, **places)
    return ClipScorer(encoder, load_adapter(path, encoder), video, **options)


def _recorded_section(folder: Path, config: object, key: str, section: type[_Section]) -> _Section:
    """Returns a section of the configuration of the run, such as how it read its clips."""
    values = config.get(key) if isinstance(config, dict) else None
    if values is None:
        raise CheckpointError(
            f"{folder}: does not say {_SECTION_MEANINGS[key]} (about.config.{key}); expected a "
            "folder that `fewshot-i2v export` wrote"
        )
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise translate_validation_error(
            error, section, origin=f"{folder}: about.config.{key}"
        ) from error
