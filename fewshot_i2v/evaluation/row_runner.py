"""Row runner: one adapter, start, head and shot over the episodes of an evaluation.

`RowRunner.run` is a pipe: group the episodes by shape, build adapter and head, load the inputs,
fine-tune and predict, make the records.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import prod
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from fewshot_i2v import registry
from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.config.evaluation import RowConfig
from fewshot_i2v.config.readouts import Readout
from fewshot_i2v.config.start_names import FRESH
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.errors import TuningError, VideoUnreadable
from fewshot_i2v.evaluation.adapters_ahead import AdapterBuilder
from fewshot_i2v.evaluation.batching import (
    chunked_features,
    group_by_shape,
    max_parallel_episodes,
)
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.episode_result import record_of
from fewshot_i2v.evaluation.head_start import HeadStart, find_head_start
from fewshot_i2v.evaluation.identity import (
    display_flags,
    row_notes,
    run_facts,
    run_identity,
)
from fewshot_i2v.evaluation.inputs import load_inputs, support_labels
from fewshot_i2v.evaluation.memory_notes import part_notes
from fewshot_i2v.evaluation.precision_notes import precision_notes
from fewshot_i2v.evaluation.step_memory import FirstLimit, find_first_limit
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.features import unpack_features
from fewshot_i2v.models.adapters.base.frozen_prefix import GridSizes, PrefixSpec, count_cells
from fewshot_i2v.models.checkpoints.starting_point import StartingPoint
from fewshot_i2v.models.device_memory import PartSize
from fewshot_i2v.models.factory import (
    build_adapter,
    build_head,
    check_episode_axis,
    resolve_options,
)
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.tuning.finetune import (
    FinetuneResult,
    finetune_and_predict,
    predict_from_features,
)
from fewshot_i2v.utils.environment import peak_memory_mb, reset_peak_memory
from fewshot_i2v.utils.seeding import derive_seed, deterministic

_Part = TypeVar("_Part")
_KEYS_OF_UNTUNED = ("untuned_weight", "min_loss")
"""Keys of fine-tuning that count on what adapter and head are before it."""


class _ModelSizes(NamedTuple):
    """Trained values of one episode, and what its features are computed from.

    `frozen_spec` is that of `AdaptedEncoder.frozen_spec`.
    """

    adapter_parameters: int
    head_parameters: int
    prefix_spec: PrefixSpec
    frozen_spec: PrefixSpec | None
    readouts: tuple[Readout, ...]


class TunedGroup(NamedTuple):
    """Records of episodes that were tuned in parallel, and the tuned models.

    Attributes:
        records: one per episode.
        logits: of the query clips of each episode, (E, Q, way), float32 on the CPU.
        tuned_logits: those of the tuned models alone, without the untuned ones.
        encoder: with a copy of the adapter per episode; with the one that all share in static rows.
        head: with a copy per episode.
    """

    records: list[EpisodeRecord]
    logits: Tensor
    tuned_logits: Tensor
    encoder: AdaptedEncoder
    head: Head


@dataclass(frozen=True)
class RowRunner:
    """Builds, fine-tunes and predicts for the episodes of one row.

    Args:
        row: what to run.
        context: split, encoder, clips and episodes of the evaluation.
        position: index of the row in its evaluation.
        part_size: how many episodes fit into the memory of the device side by side.
        prediction_size: how many clips fit there at once without gradients.
        worker_notes: what the last worker process said about memory.
    """

    row: RowConfig
    context: EvaluationContext
    position: int = 0
    part_size: PartSize = field(default_factory=PartSize, compare=False)
    prediction_size: PartSize = field(default_factory=PartSize, compare=False)
    worker_notes: list[str] = field(default_factory=list, compare=False)

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

    @cached_property
    def head_start(self) -> HeadStart:
        """Where the heads begin: fresh, or as the head of the starting point."""
        return find_head_start(self.row, self.context, self.start)

    @property
    def is_static(self) -> bool:
        """Whether all episodes share an adapter that is not tuned: features are cached by clip."""
        if self.start is not None:
            return not self.row.tuning.steps
        return not self.parameters

    @property
    def precision(self) -> str:
        """The precision in which this row alone gives the same: of mixed ones the part it uses."""
        precision, sizes = self.context.config.precision, self.sizes
        if precision != "mixed":
            return precision
        if sizes.prefix_spec.is_complete(self.context.encoder.tower):
            return "fp32"
        return "bf16" if sizes.frozen_spec is None else "mixed"

    @property
    def is_tuned(self) -> bool:
        """Whether anything is fine-tuned."""
        return self.parameters > 0 and self.row.tuning.steps > 0

    @property
    def tuning(self) -> FinetuneConfig:
        """The keys of fine-tuning that the episodes are tuned with.

        Those that count on what is there before the tuning are off where the head knows nothing
        then.
        """
        if self.is_tuned and not (self.sizes.head_parameters and self.head_start.head is None):
            return self.row.tuning
        return self.row.tuning.model_copy(update=dict.fromkeys(_KEYS_OF_UNTUNED, 0.0))

    @cached_property
    def sizes(self) -> _ModelSizes:
        """Sizes of adapter and head, from a copy of each."""
        encoder, head = self.build_encoder([0]), self.build_head([0])
        adapter_count, head_count = (
            sum(p.numel() for p in module.parameters()) for module in (encoder, head)
        )
        prefix_spec = encoder.adapter.prefix_spec(head.grid_sizes)
        frozen_spec = encoder.frozen_spec(head.grid_sizes)
        return _ModelSizes(adapter_count, head_count, prefix_spec, frozen_spec, head.readouts)

    @property
    def grid_sizes(self) -> GridSizes:
        """Cells on a side of each grid of patch tokens that the head reads."""
        return tuple(sorted({readout.grid_size for readout in self.sizes.readouts} - {0}))

    @property
    def parameters(self) -> int:
        """Trained parameters of one episode."""
        return self.sizes.adapter_parameters + self.sizes.head_parameters

    @cached_property
    def display_flags(self) -> dict[str, Any]:
        """Facts to show beside the row's results."""
        return display_flags(self.row, self.context, self.start, self.parameters)

    @property
    def notes(self) -> list[str]:
        """Notes for the user about how the row runs."""
        notes = row_notes(self.row, self.context, self.start) + precision_notes([self])
        notes += self.memory_notes
        config = self.context.config
        sections = filter(None, (config.tuning, config.recipes.get(self.row.adapter.name)))
        are_set = {key for section in sections for key in section.model_fields_set}
        for key in _KEYS_OF_UNTUNED if self.is_tuned else ():
            value = getattr(self.row.tuning, key)
            if key in are_set and value != getattr(self.tuning, key):
                notes.append(
                    f"tuning.{key} {value:g} is not used with head {self.row.head.label}, whose "
                    "weights begin untrained in every episode"
                )
        if self.tuning.min_loss:
            notes.append(
                f"{self.row.adapter.name}: episodes whose support loss is below "
                f"{self.tuning.min_loss:g} before the first step are left untuned "
                "(tuning.min_loss); their records have that loss alone"
            )
        if self.head_start.why_fresh and self.sizes.head_parameters:
            notes.append(
                f"{self.row.adapter.name}: head {self.row.head.label} begins fresh in every "
                f"episode, unlike its start: {self.head_start.why_fresh}"
            )
        return notes

    @property
    def memory_notes(self) -> list[str]:
        """Notes for the user about what the memory of the device was too small for."""
        cache_notes = map(self.context.caches.note, self.cache_keys)
        lines = [f"{self.row.slug}: {note}" for note in cache_notes if note is not None]
        return part_notes(self) + lines

    def heard_from_worker(self, notes: Sequence[str]) -> None:
        """Remembers what a worker process said about its memory; no notes say nothing new."""
        if notes:
            self.worker_notes[:] = notes

    def header(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the facts for the run's header, and its identity."""
        return self.facts(), self.identity()

    def facts(self) -> dict[str, Any]:
        """Returns the facts for the run's header, which are not compared."""
        facts = run_facts(
            self.row,
            self.context,
            self.start,
            position=self.position,
            parameters=self.parameters,
            flags=self.display_flags,
        )
        return {**facts, "planned": len(self.episodes)}

    def identity(self) -> dict[str, Any]:
        """Returns the identity for the run's header, which decides the results."""
        row, context, start = self.row, self.context, self.start
        identity = run_identity(row, context, start, self.parallel_episodes)
        if start is not None:
            identity["start"] |= self.head_start.identity(self.sizes.head_parameters)
            if row.tuning.optimizer == "start-rates" and start.rates is not None:
                identity["start"]["rates"] = start.rates.digest
        return identity

    @property
    def cache_key(self) -> Hashable:
        """Key of the row's feature cache; rows with equal keys share it."""
        if not self.is_static:
            return self.sizes.prefix_spec.cache_key(self.context.encoder.tower)
        options = resolve_options("adapters", self.row.adapter).model_dump(mode="json")
        digest = self.start.digest if self.start else ""
        return (self.row.adapter.name, repr(options), digest, self.sizes.readouts)

    @property
    def cache_keys(self) -> tuple[Hashable, ...]:
        """Keys of all caches that the row reads: its own, and that of the frozen encoder."""
        frozen_spec = None if self.is_static else self.sizes.frozen_spec
        return (self.cache_key,) if frozen_spec is None else (self.cache_key, frozen_spec)

    @cached_property
    def parallel_episodes(self) -> int:
        """Episodes that run in parallel: as configured, or as many as keep the device busy."""
        row, tower = self.row, self.context.encoder.tower
        if isinstance(row.at_once, int):
            return row.at_once
        adapter_class = registry.load_method("adapters", row.adapter.name)
        if self.start is not None and self.is_static:
            frames, cells = row.video.frames, count_cells(self.sizes.prefix_spec.grid_sizes)
            clip_elements = (frames + 1 + frames * cells) * tower.width
        elif adapter_class.one_episode_at_a_time:
            return 1
        else:
            clip_elements = prod(self.sizes.prefix_spec.clip_shape(tower, row.video.frames))
        # not of the sampled episodes: a run that is extended keeps its batches
        _, n_support, n_query = self.context.sources[row.shot].max_shape
        trains = self.parameters and row.tuning.steps
        step_clips = row.tuning.views * min(n_support, row.tuning.batch or n_support)
        step_clips = step_clips if trains else 0
        activations = self.build_head([0]).saved_activations(step_clips) if trains else 0
        return max_parallel_episodes(
            tower.device.type,
            clip_elements=clip_elements,
            n_clips=n_support + n_query,
            step_clips=step_clips,
            trained_elements=max(self.parameters, activations),
        )

    def build_adapter(self, indices: Sequence[int]) -> Adapter:
        """Builds the adapter on the CPU, one copy per episode: fresh by its seed, or its start."""
        row, tower = self.row, self.context.encoder.tower
        adapter = build_adapter(
            row.adapter, tower, frames=row.video.frames, seeds=self._seeds("adapter", indices)
        )
        if self.start is not None:
            self.start.load_into(adapter, self.context.encoder)
        check_episode_axis(adapter, row.adapter.name)
        return adapter

    def build_encoder(
        self, indices: Sequence[int], build: AdapterBuilder | None = None
    ) -> AdaptedEncoder:
        """Builds tower and adapter on the device, one copy per episode.

        Args:
            indices: of the episodes.
            build: builds the adapter; None: `build_adapter`.
        """
        tower = self.context.encoder.tower
        adapter = (build or self.build_adapter)(indices)
        reads_frozen = resolve_options("heads", self.row.head).reads_frozen
        adapter = adapter.to(tower.device, non_blocking=True)
        encoder = AdaptedEncoder(tower, adapter, reads_frozen=reads_frozen)
        encoder.compiles = self.row.compile
        return encoder

    def build_head(self, indices: Sequence[int]) -> Head:
        """Builds the head, one copy per episode; all have equally many classes.

        It is fresh by the seed of its episode, or begins as the head of the start.
        """
        row, tower = self.row, self.context.encoder.tower
        classes = [self.episodes[i].classes for i in indices]
        head = build_head(
            row.head,
            tower,
            way=len(classes[0]),
            frames=row.video.frames,
            seeds=self._seeds("head", indices),
            class_texts=lambda options: self.context.class_text_embeddings(
                classes, options.templates
            ),
        )
        check_episode_axis(head, row.head.name)
        if self.head_start.head is not None:
            self.head_start.head.load_into(head)
        return head.to(tower.device)

    def learned_rates(self, encoder: AdaptedEncoder, head: Head) -> list[Tensor] | None:
        """Returns the start's rates of every value, where the row tunes with them; else None.

        Raises:
            CheckpointError: when they are not of this adapter and head.
        """
        if self.row.tuning.optimizer == "adamw" or self.start is None or self.start.rates is None:
            return None
        rates = self.start.rates
        return [*rates.of("adapter", encoder.adapter), *rates.of("head", head)]

    def _seeds(self, kind: str, indices: Sequence[int]) -> list[int]:
        """Seeds of the copies of adapter or head, which depend on the episode alone."""
        name = self.row.adapter.name if kind == "adapter" else self.row.head.name
        return [derive_seed(kind, name, self.row.effective_training_seed, i) for i in indices]

    def failure(self, episode: Episode) -> VideoUnreadable | None:
        """Error of the first unreadable clip of an episode; None when all can be read."""
        bad = self.context.unreadable
        if not bad:
            return None
        return next((bad[name] for name in episode.clip_names() if name in bad), None)

    def run(
        self, episodes: Sequence[Episode], build: AdapterBuilder | None = None
    ) -> list[EpisodeRecord]:
        """Fine-tunes and predicts for several episodes; those of one shape run in parallel.

        Args:
            episodes: any of the row.
            build: as for `build_encoder`.
        """
        records: list[EpisodeRecord] = []
        for group in group_by_shape(episodes):
            for part in self.run_in_parts(len(group), partial(self._records_of, group, build)):
                records += part
        return sorted(records, key=lambda record: record.index)

    @cached_property
    def first_limit(self) -> FirstLimit | None:
        """How many episodes fit into the memory that the GPU had free at the start; None: all."""
        return find_first_limit(self)

    def run_in_parts(self, count: int, compute: Callable[[slice], _Part]) -> list[_Part]:
        """Computes episodes in as few parts as the memory of the device allows.

        Args:
            count: number of episodes.
            compute: as for `PartSize.run`.
        """
        if self.part_size.limit is None and self.first_limit is not None:
            self.part_size.limit = self.first_limit.episodes
        return self.part_size.run(count, compute)

    def _records_of(
        self, group: Sequence[Episode], build: AdapterBuilder | None, part: slice
    ) -> list[EpisodeRecord]:
        return self.run_group(group[part], build).records

    def run_group(
        self, group: Sequence[Episode], build: AdapterBuilder | None = None
    ) -> TunedGroup:
        """Fine-tunes and predicts for episodes of one shape in parallel.

        Args:
            group: the episodes.
            build: as for `build_encoder`.

        Raises:
            TuningError: naming the row and the episodes; DeviceMemoryError when one episode alone
                is too large for the memory of the device.
            torch.OutOfMemoryError: when several are.
        """
        if len(group) > 1:  # fewer at once may fit
            return self._run_group(group, build)
        return self.context.caches.compute_or_make_room(
            lambda: self._run_group(group, build),
            f"{self.row.slug}, episode {group[0].index}: the device is out of memory with one "
            "episode at a time; give fewer frames, --precision bf16 or tuning.batch",
        )

    def _run_group(self, group: Sequence[Episode], build: AdapterBuilder | None) -> TunedGroup:
        """Runs a group, and raises `torch.OutOfMemoryError` whatever its size."""
        device = self.context.encoder.tower.device
        if device.type == "cuda":  # the share of an episode is that of its batch
            reset_peak_memory(device)
        start_time = perf_counter()
        indices = [episode.index for episode in group]
        try:
            encoder = self.build_encoder(indices[:1] if self.is_static else indices, build)
            head = self.build_head(indices)
            with deterministic(self.row.deterministic):
                result = self._predict(group, encoder, head)
                probabilities = result.logits.softmax(-1).cpu()  # waits for the device
        except TuningError as error:
            raise TuningError(
                f"{self.row.slug}, episodes {indices[0]} to {indices[-1]}: {error}"
            ) from error
        seconds = (perf_counter() - start_time) / len(group)
        memory = peak_memory_mb(device, len(group))
        records = [
            record_of(episode, probabilities[e], result.losses_of(e), seconds, memory)
            for e, episode in enumerate(group)
        ]
        logits = result.logits.cpu()
        tuned_logits = logits if result.tuned_logits is None else result.tuned_logits.cpu()
        return TunedGroup(records, logits, tuned_logits, encoder, head)

    def _predict(
        self, group: Sequence[Episode], encoder: AdaptedEncoder, head: Head
    ) -> FinetuneResult:
        """Loads what the episodes read, fine-tunes where the row does, and predicts."""
        row, context = self.row, self.context
        if not self.is_static:
            inputs = load_inputs(
                row,
                context,
                group,
                encoder,
                grid_sizes=head.grid_sizes,
                part_size=self.prediction_size,
            )
            rates = self.learned_rates(encoder, head)
            return finetune_and_predict(encoder, head, inputs, self.tuning, rates)
        frames = row.video.frames
        cache = context.feature_cache(encoder, self.cache_key, head)
        support = unpack_features(cache.gather([e.support_clips for e in group]), frames)
        chunks = chunked_features(cache, [e.query_clips for e in group])()
        query = (unpack_features(chunk, frames) for chunk in chunks)
        labels = support_labels(group, encoder.tower.device)
        return predict_from_features(head, support, query, labels, part_size=self.prediction_size)
