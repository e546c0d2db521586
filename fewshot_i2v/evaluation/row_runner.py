"""Row runner: one adapter, start, head and shot over all episodes of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from fewshot_i2v import registry
from fewshot_i2v.config.evaluation import RowConfig
from fewshot_i2v.config.method import validate_options
from fewshot_i2v.config.start_names import FRESH
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.errors import TuningError, VideoUnreadable
from fewshot_i2v.evaluation.batching import (
    chunked_features,
    default_parallelism,
    group_by_shape,
    mini_batch_indices,
)
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.episode_results import successful_record
from fewshot_i2v.evaluation.identity import run_facts, run_identity
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.features import unpack_features
from fewshot_i2v.models.adapters.base.frozen_prefix import PrefixSpec, check_grid
from fewshot_i2v.models.checkpoints.starting_point import StartingPoint
from fewshot_i2v.models.factory import check_episode_axis
from fewshot_i2v.models.heads.base.head import ClassTexts, Head
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.row_summary import INPUT_MISMATCH
from fewshot_i2v.tuning.augmentation import SupportAugmenter, augmentation_enabled
from fewshot_i2v.tuning.finetune import (
    EpisodeInputs,
    FinetuneResult,
    finetune_and_predict,
    predict_from_features,
)
from fewshot_i2v.utils.environment import peak_memory_mb
from fewshot_i2v.utils.seeding import derive_seed, deterministic


@dataclass(frozen=True)
class RowRunner:
    """Builds, fine-tunes and predicts for the episodes of one row.

    Args:
        row: what to run.
        context: split, encoder, clips and episodes of the evaluation.
        position: index of the row in its evaluation.
    """

    row: RowConfig
    context: EvaluationContext
    position: int = 0

    def build_models(self, indices: Sequence[int]) -> tuple[AdaptedEncoder, Head]:
        """Builds adapter and head, one copy per episode: fresh by its seed, or from the start."""
        return self.build_encoder(indices), self.build_head(indices)

    def build_encoder(self, indices: Sequence[int]) -> AdaptedEncoder:
        """Builds tower and adapter, one copy per episode."""
        row, tower = self.row, self.context.encoder.tower
        adapter_class = registry.load_method("adapters", row.adapter.name)
        adapter: Adapter = adapter_class(
            tower,
            validate_options(row.adapter, adapter_class, "adapter"),
            frames=row.video.frames,
            seeds=[
                derive_seed("adapter", row.adapter.name, row.effective_training_seed, i)
                for i in indices
            ],
        )
        if self.start is not None:
            self.start.load_into(adapter, self.context.encoder)
        check_episode_axis(adapter, row.adapter.name)
        return AdaptedEncoder(tower, adapter.to(tower.device))

    def build_head(self, indices: Sequence[int]) -> Head:
        """Builds the head, one copy per episode."""
        row, tower = self.row, self.context.encoder.tower
        head_class = registry.load_method("heads", row.head.name)
        options = validate_options(row.head, head_class, "head")
        text_arguments = (
            {"texts": self._class_texts(indices, options)} if head_class.uses_class_names else {}
        )
        head: Head = head_class(
            options,
            width=tower.width,
            way=len(self.episodes[indices[0]].classes),
            frames=row.video.frames,
            seeds=[
                derive_seed("head", row.head.name, row.effective_training_seed, i) for i in indices
            ],
            **text_arguments,
        )
        check_grid(tower, head.grid_size)
        check_episode_axis(head, row.head.name)
        return head.to(tower.device)

    def _class_texts(self, indices: Sequence[int], options: Any) -> ClassTexts:  # noqa: ANN401 - any head's
        """Text embeddings of the class names of some episodes."""
        return self.context.class_text_embeddings(
            [self.episodes[i].classes for i in indices], options.templates
        )

    @property
    def episodes(self) -> list[Episode]:
        """The row's episodes."""
        return self.context.episodes[self.row.shot]

    @cached_property
    def start(self) -> StartingPoint | None:
        """Starting point of the adapters; None: fresh.

        Raises:
            ConfigError: when it was trained or selected on what the row evaluates, unless that is
                allowed.
        """
        row, context = self.row, self.context
        if row.start == FRESH:
            return None
        start = context.start(row.start, row.adapter.name)
        if not row.allow_seen:
            start.check_unseen(context.split, row.subset)
        return start

    @property
    def _disjoint(self) -> bool:
        """Whether no clip is in two of the sampled episodes."""
        trials = self.context.trials
        sampling = self.row.sampling if trials is None else trials.settings.get("sampling")
        return sampling == "disjoint"

    @cached_property
    def display_flags(self) -> dict[str, Any]:
        """Facts to show beside the row's results: note, use of class names, and any start."""
        adapter = registry.load_method("adapters", self.row.adapter.name)
        head = registry.load_method("heads", self.row.head.name)
        frame_order = self.row.frame_order
        notes = [adapter.display_note, "" if frame_order == "natural" else f"frames {frame_order}"]
        notes += [INPUT_MISMATCH] if self.input_mismatch else []
        flags: dict[str, Any] = {
            "note": ", ".join(filter(None, notes)),
            "uses_names": head.uses_class_names,
        }
        if self._disjoint:
            flags["disjoint"] = True
        if self.learns_nothing:
            flags["learns_nothing"] = True
        if self.start is None:
            return flags
        overlap = self.start.overlap_with(self.context.split, self.row.subset)
        facts = {key: getattr(self.start, key) for key in ("kind", "name", "digest")}
        class_names = {
            "classes": list(overlap.classes),
            "watched": list(overlap.validation_classes),
        }
        clip_counts = {"clips": len(overlap.clips), "watched_clips": len(overlap.validation_clips)}
        counts = class_names | clip_counts if overlap else None
        return flags | {"start": facts | {"seen": counts}}

    @property
    def learns_nothing(self) -> bool:
        """Whether fine-tuning compares each support clip only with itself."""
        head = registry.load_method("heads", self.row.head.name)
        one_shot = str(self.row.shot).split("-")[0] == "1"  # a range such as 1-5 has such classes
        return bool(
            head.compares_with_itself and one_shot and self.row.tuning.steps and self.parameters
        )

    @cached_property
    def _parameters_and_prefix(self) -> tuple[int, PrefixSpec]:
        encoder, head = self.build_models([0])
        count = sum(p.numel() for module in (encoder, head) for p in module.parameters())
        return count, encoder.adapter.prefix_spec(head.grid_size)

    @property
    def parameters(self) -> int:
        """Trained parameters of one episode."""
        return self._parameters_and_prefix[0]

    @property
    def prefix_spec(self) -> PrefixSpec:
        """Outputs of the frozen tower that the row uses."""
        return self._parameters_and_prefix[1]

    @property
    def is_static(self) -> bool:
        """Whether all episodes share the start's adapter, so that features are cached by clip."""
        return self.start is not None and not self.row.tuning.steps

    @property
    def cache_key(self) -> Hashable:
        """Key of the row's feature cache; rows with equal keys share it."""
        if self.start is None or not self.is_static:
            return self.prefix_spec.cache_key(self.context.encoder.tower)
        options = self.resolved_method("adapters")["options"]
        return (self.row.adapter.name, repr(options), self.start.digest, self.prefix_spec.grid_size)

    @cached_property
    def parallel_episodes(self) -> int:
        """Episodes that run in parallel: as configured, or as many as keep the device busy."""
        setting = self.row.at_once
        return setting if isinstance(setting, int) else default_parallelism(self)

    @property
    def input_mismatch(self) -> str:
        """How clip input differs from the start's training; empty when it does not."""
        if self.start is None:
            return ""
        row = self.row
        return self.start.input_mismatch(row.video, row.precision, self.context.encoder)

    @property
    def notes(self) -> list[str]:
        """Notes for the user about how the row runs."""
        name, notes = self.row.adapter.name, []
        if self.start is not None and self.input_mismatch:
            folder = self.start.folder
            notes.append(
                f"{name}: clips are read unlike its start, {folder}: {self.input_mismatch}"
            )
        if self.row.encoder.name == "demo" and not self.context.split.generator:
            notes.append(
                "encoder demo is a toy that was trained on generated pictures of 64 pixels: on "
                "these clips give --encoder ViT-B-16 --pretrained openai, or another one of "
                "`fewshot-i2v list encoders`"
            )
        one_at_a_time = (
            registry.load_method("adapters", name).one_episode_at_a_time and not self.is_static
        )
        if self.row.at_once == "auto" and one_at_a_time:
            notes.append(f"{name}: episodes run one at a time, each copy is large; see --at-once")
        return notes

    def support_labels(self, episodes: Sequence[Episode]) -> Tensor:
        """Class of each support clip of some episodes, (E, S) int64, on the device."""
        rows = [
            [c for c, clips in enumerate(episode.support) for _ in clips] for episode in episodes
        ]
        return torch.tensor(rows).to(self.context.encoder.tower.device)

    @property
    def feature_rows_per_clip(self) -> int:
        """Rows of a clip's features in one tensor, as made by `pack_features`."""
        frames = self.row.video.frames
        return frames + 1 + frames * self.prefix_spec.grid_size**2

    def failure(self, episode: Episode) -> VideoUnreadable | None:
        """Error of the first unreadable clip of an episode; None when all can be read."""
        bad = self.context.unreadable
        return (
            next((bad[name] for name in episode.clip_names() if name in bad), None) if bad else None
        )

    def run(self, episodes: Sequence[Episode]) -> list[EpisodeRecord]:
        """Fine-tunes and predicts for several episodes; those of one shape run in parallel."""
        records = [record for group in group_by_shape(episodes) for record in self._run(group)[0]]
        return sorted(records, key=lambda record: record.index)

    def run_with_models(
        self, episodes: Sequence[Episode]
    ) -> tuple[list[EpisodeRecord], AdaptedEncoder, Head]:
        """As `run`, for episodes of one shape; also returns the tuned models, a copy of each."""
        records, encoder, head = self._run(episodes)
        if self.is_static:
            encoder = self.build_encoder([episode.index for episode in episodes])
        return records, encoder, head

    def _run(self, episodes: Sequence[Episode]) -> tuple[list[EpisodeRecord], AdaptedEncoder, Head]:
        device = self.context.encoder.tower.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        start = perf_counter()
        indices = [episode.index for episode in episodes]
        encoder, head = (
            self.build_encoder(indices[:1] if self.is_static else indices),
            self.build_head(indices),
        )
        with deterministic(self.row.deterministic):
            result = self._tune(encoder, head, episodes)
            probabilities = result.logits.softmax(-1).cpu()  # waits for the device
        seconds = (perf_counter() - start) / len(episodes)
        peak_memory = peak_memory_mb(device, len(episodes))
        records = [
            successful_record(
                episode, probabilities[e], result.losses[e].tolist(), seconds, peak_memory
            )
            for e, episode in enumerate(episodes)
        ]
        return records, encoder, head

    def _tune(
        self, encoder: AdaptedEncoder, head: Head, batch: Sequence[Episode]
    ) -> FinetuneResult:
        row = self.row
        support_clips = [[name for clips in episode.support for name in clips] for episode in batch]
        query_clips = [[name for clips in episode.query for name in clips] for episode in batch]
        labels = self.support_labels(batch)
        try:
            if self.is_static:
                cache = self.context.feature_cache(
                    encoder, self.cache_key, grid_size=head.grid_size
                )
                frames = row.video.frames
                support_features = unpack_features(cache.gather(support_clips), frames)
                query_features = (
                    unpack_features(chunk, frames)
                    for chunk in chunked_features(cache, query_clips)()
                )
                return predict_from_features(head, support_features, query_features, labels)
            cache = self.context.prefix_cache(encoder, grid_size=head.grid_size)
            support_chunks, query_chunks = (
                chunked_features(cache, support_clips),
                chunked_features(cache, query_clips),
            )
            batch_indices = self._mini_batch_indices(support_clips, batch)
            support_tokens = self._support_tokens(
                encoder, support_clips, batch, head.grid_size, batch_indices
            )
            inputs = EpisodeInputs(
                support_tokens,
                labels,
                query_chunks,
                all_support=support_chunks,
                batch_indices=batch_indices,
            )
            return finetune_and_predict(encoder, head, inputs, row.tuning)
        except TuningError as error:
            first_index, last_index = batch[0].index, batch[-1].index
            raise TuningError(
                f"{row.slug}, episodes {first_index} to {last_index}: {error}"
            ) from error

    def _mini_batch_indices(
        self, names: list[list[str]], episodes: Sequence[Episode]
    ) -> Callable[[int], Tensor] | None:
        """Indices of each step's mini-batch of support clips; None for all of them."""
        batch_size = self.row.tuning.batch
        if batch_size is None or batch_size >= len(names[0]):
            return None
        return mini_batch_indices(names, episodes, batch_size, self.row.effective_training_seed)

    def _support_tokens(
        self,
        encoder: AdaptedEncoder,
        names: list[list[str]],
        episodes: Sequence[Episode],
        grid_size: int,
        batch_indices: Callable[[int], Tensor] | None,
    ) -> Callable[[int], Tensor]:
        """Prefix tokens of the support clips of a step."""
        cache = self.context.prefix_cache(encoder, grid_size=grid_size)

        def _batch_clips(step: int) -> list[list[str]]:
            if batch_indices is None:
                return names
            index_rows = batch_indices(step).tolist()
            return [
                [row[i] for i in positions]
                for row, positions in zip(names, index_rows, strict=True)
            ]

        if not augmentation_enabled(self.row.tuning) or not self.parameters:
            if batch_indices is not None:
                return lambda step: cache.gather(_batch_clips(step))
            static_tokens = (
                cache.gather(names) if self.parameters and self.row.tuning.steps else None
            )
            return lambda _step: cache.gather(names) if static_tokens is None else static_tokens
        seeds = [
            derive_seed("augment", self.row.effective_training_seed, episode.index)
            for episode in episodes
        ]
        augment = SupportAugmenter(
            self.row.tuning, [episode.classes for episode in episodes], seeds
        )
        static_pixels = self._pixels(encoder, names) if batch_indices is None else None

        def _step_tokens(step: int) -> Tensor:
            pixels = (
                self._pixels(encoder, _batch_clips(step))
                if static_pixels is None
                else static_pixels
            )
            with torch.no_grad():
                return encoder.compute_prefix(augment(pixels), grid_size=grid_size)

        return _step_tokens

    def _pixels(self, encoder: AdaptedEncoder, names: list[list[str]]) -> Tensor:
        frames = [[torch.from_numpy(self.context.frames(n).copy()) for n in row] for row in names]
        return encoder.tower.normalize(torch.stack([torch.stack(row) for row in frames]))

    def header(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the facts for the run's header, and its identity, which decides the results."""
        return run_facts(self), run_identity(self)

    def resolved_method(self, kind: registry.MethodKind) -> dict[str, Any]:
        """Returns the resolved options, and a digest of the code of a plug-in."""
        method_spec = self.row.adapter if kind == "adapters" else self.row.head
        method_class = registry.load_method(kind, method_spec.name)
        options = validate_options(method_spec, method_class, kind[:-1]).model_dump(mode="json")
        return {"options": options, "code": registry.code_digest(kind, method_spec.name)}
