"""One row of an evaluation: one adapter, start, head and shot over all episodes."""

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
from fewshot_i2v.config.method import options_of
from fewshot_i2v.config.start_names import FRESH
from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.errors import TuningError, VideoUnreadable
from fewshot_i2v.evaluation.batching import by_shape, episodes_at_once, parts_of, picked_clips
from fewshot_i2v.evaluation.context import Workspace
from fewshot_i2v.evaluation.episode_results import record_of
from fewshot_i2v.evaluation.identity import about_of, identity_of
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.features import unpacked
from fewshot_i2v.models.adapters.base.frozen_prefix import Reading, check_cells
from fewshot_i2v.models.checkpoints.starting_point import Start
from fewshot_i2v.models.factory import check_built
from fewshot_i2v.models.heads.base.head import ClassTexts, Head
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.row_summary import READ_OTHERWISE
from fewshot_i2v.tuning.augmentation import Augmenter, is_active
from fewshot_i2v.tuning.finetune import Episodes, Tuned, compare, tune_and_predict
from fewshot_i2v.utils.environment import peak_memory_mb
from fewshot_i2v.utils.seeding import derive_seed, deterministic


@dataclass(frozen=True)
class RowRunner:
    """Builds, tunes and predicts for the episodes of one row.

    Args:
        row: what to run.
        work: what the rows share.
        position: place of the row among those of its run.
    """

    row: RowConfig
    work: Workspace
    position: int = 0

    def build(self, indices: Sequence[int]) -> tuple[AdaptedEncoder, Head]:
        """Adapter and head, one copy per episode: fresh from its own seed, or from the start."""
        return self.encoder(indices), self.head(indices)

    def encoder(self, indices: Sequence[int]) -> AdaptedEncoder:
        """Tower and adapter, one copy per episode."""
        row, tower = self.row, self.work.encoder.tower
        adapter_class = registry.load("adapters", row.adapter.name)
        adapter: Adapter = adapter_class(
            tower,
            options_of(row.adapter, adapter_class, "adapter"),
            frames=row.video.frames,
            seeds=[derive_seed("adapter", row.adapter.name, row.drawn_from, i) for i in indices],
        )
        if self.start is not None:
            self.start.fill(adapter, self.work.encoder)
        check_built(adapter, row.adapter.name)
        return AdaptedEncoder(tower, adapter.to(tower.device))

    def head(self, indices: Sequence[int]) -> Head:
        """The head, one copy per episode."""
        row, tower = self.row, self.work.encoder.tower
        head_class = registry.load("heads", row.head.name)
        options = options_of(row.head, head_class, "head")
        more = {"texts": self._texts(indices, options)} if head_class.uses_names else {}
        head: Head = head_class(
            options,
            width=tower.width,
            way=len(self.specs[indices[0]].classes),
            frames=row.video.frames,
            seeds=[derive_seed("head", row.head.name, row.drawn_from, i) for i in indices],
            **more,
        )
        check_cells(tower, head.cells)
        check_built(head, row.head.name)
        return head.to(tower.device)

    def _texts(self, indices: Sequence[int], options: Any) -> ClassTexts:  # noqa: ANN401 - any head's
        """Embeddings of the class names of some episodes."""
        return self.work.texts([self.specs[i].classes for i in indices], options.templates)

    @property
    def specs(self) -> list[EpisodeSpec]:
        """The row's episodes."""
        return self.work.specs[self.row.shot]

    @cached_property
    def start(self) -> Start | None:
        """What the adapters begin as; None: fresh.

        Raises:
            ConfigError: when it was trained or chosen on what the row evaluates, unless that is
                allowed.
        """
        row, work = self.row, self.work
        if row.start == FRESH:
            return None
        start = work.start(row.start, row.adapter.name)
        if not row.allow_seen:
            start.check_unseen(work.split, row.subset)
        return start

    @property
    def _apart(self) -> bool:
        """Whether episodes were drawn so that they share no clip."""
        trials = self.work.trials
        drawn = self.row.sampling if trials is None else trials.settings.get("sampling")
        return drawn == "disjoint"

    @cached_property
    def marks(self) -> dict[str, Any]:
        """What must be said beside the row's results: note, names read, and the start if any."""
        adapter = registry.load("adapters", self.row.adapter.name)
        head = registry.load("heads", self.row.head.name)
        order = self.row.frame_order
        said = [adapter.note, "" if order == "natural" else f"frames {order}"]
        said += [READ_OTHERWISE] if self.read_otherwise else []
        marks: dict[str, Any] = {
            "note": ", ".join(filter(None, said)),
            "uses_names": head.uses_names,
        }
        if self._apart:
            marks["disjoint"] = True
        if self.learns_nothing:
            marks["learns_nothing"] = True
        if self.start is None:
            return marks
        seen = self.start.seen(self.work.split, self.row.subset)
        facts = {key: getattr(self.start, key) for key in ("kind", "name", "digest")}
        named = {"classes": list(seen.classes), "watched": list(seen.watched)}
        clips = {"clips": len(seen.clips), "watched_clips": len(seen.watched_clips)}
        counts = named | clips if seen else None
        return marks | {"start": facts | {"seen": counts}}

    @property
    def learns_nothing(self) -> bool:
        """Whether it is tuned on clips that are compared with nothing but themselves."""
        head = registry.load("heads", self.row.head.name)
        alone = str(self.row.shot).split("-")[0] == "1"  # a range such as 1-5 has such classes
        return bool(
            head.compares_with_itself and alone and self.row.tuning.steps and self.parameters
        )

    @cached_property
    def _one(self) -> tuple[int, Reading]:
        encoder, head = self.build([0])
        count = sum(p.numel() for module in (encoder, head) for p in module.parameters())
        return count, encoder.adapter.reading(head.cells)

    @property
    def parameters(self) -> int:
        """Trained parameters of one episode."""
        return self._one[0]

    @property
    def reading(self) -> Reading:
        """What of the frozen tower the row reads."""
        return self._one[1]

    @property
    def untuned(self) -> bool:
        """Whether all episodes share the adapter of the start: its features are kept by clip."""
        return self.start is not None and not self.row.tuning.steps

    @property
    def bank_key(self) -> Hashable:
        """What the bank of the row is kept under; rows with the same share it."""
        if self.start is None or not self.untuned:
            return self.reading.key(self.work.encoder.tower)
        options = self.method("adapters")["options"]
        return (self.row.adapter.name, repr(options), self.start.digest, self.reading.cells)

    @cached_property
    def at_once(self) -> int:
        """Episodes side by side: as asked, or as many as keep the device busy."""
        asked = self.row.at_once
        return asked if isinstance(asked, int) else episodes_at_once(self)

    @property
    def read_otherwise(self) -> str:
        """How clips are read otherwise than in the start's training; empty when they are not."""
        if self.start is None:
            return ""
        row = self.row
        return self.start.read_otherwise(row.video, row.precision, self.work.encoder)

    @property
    def remarks(self) -> list[str]:
        """What a user should know about how the row runs."""
        name, found = self.row.adapter.name, []
        if self.start is not None and self.read_otherwise:
            place = self.start.folder
            found.append(f"{name}: clips are read unlike its start, {place}: {self.read_otherwise}")
        if self.row.encoder.name == "demo" and not self.work.split.generator:
            found.append(
                "encoder demo is a toy that was trained on generated pictures of 64 pixels: on "
                "these clips give --encoder ViT-B-16 --pretrained openai, or another one of "
                "`fewshot-i2v list encoders`"
            )
        alone = registry.load("adapters", name).alone and not self.untuned
        if self.row.at_once == "auto" and alone:
            found.append(f"{name}: episodes run one at a time, each copy is large; see --at-once")
        return found

    def labels(self, specs: Sequence[EpisodeSpec]) -> Tensor:
        """Class of each support clip of some episodes, (E, S) int64, on the device."""
        rows = [[c for c, clips in enumerate(spec.support) for _ in clips] for spec in specs]
        return torch.tensor(rows).to(self.work.encoder.tower.device)

    @property
    def features_of_a_clip(self) -> int:
        """Rows of a clip's features, as `packed` puts them into one tensor."""
        frames = self.row.video.frames
        return frames + 1 + frames * self.reading.cells**2

    def failure(self, spec: EpisodeSpec) -> VideoUnreadable | None:
        """Why an episode cannot run: its first unreadable clip."""
        bad = self.work.unreadable
        return next((bad[name] for name in spec.clips() if name in bad), None) if bad else None

    def run(self, specs: Sequence[EpisodeSpec]) -> list[EpisodeRecord]:
        """Tunes and predicts for several episodes, those of one shape side by side."""
        records = [record for group in by_shape(specs) for record in self._run(group)[0]]
        return sorted(records, key=lambda record: record.index)

    def run_and_keep(
        self, specs: Sequence[EpisodeSpec]
    ) -> tuple[list[EpisodeRecord], AdaptedEncoder, Head]:
        """Tunes and predicts for episodes of one shape; also what was tuned, one copy of each."""
        records, encoder, head = self._run(specs)
        if self.untuned:
            encoder = self.encoder([spec.index for spec in specs])
        return records, encoder, head

    def _run(
        self, specs: Sequence[EpisodeSpec]
    ) -> tuple[list[EpisodeRecord], AdaptedEncoder, Head]:
        device = self.work.encoder.tower.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        start = perf_counter()
        indices = [spec.index for spec in specs]
        encoder, head = self.encoder(indices[:1] if self.untuned else indices), self.head(indices)
        with deterministic(self.row.deterministic):
            tuned = self._tune(encoder, head, specs)
            scores = tuned.logits.softmax(-1).cpu()  # waits for the device
        seconds = (perf_counter() - start) / len(specs)
        memory = peak_memory_mb(device, len(specs))
        records = [
            record_of(spec, scores[e], tuned.losses[e].tolist(), seconds, memory)
            for e, spec in enumerate(specs)
        ]
        return records, encoder, head

    def _tune(self, encoder: AdaptedEncoder, head: Head, specs: Sequence[EpisodeSpec]) -> Tuned:
        row = self.row
        support = [[name for clips in spec.support for name in clips] for spec in specs]
        query = [[name for clips in spec.query for name in clips] for spec in specs]
        labels = self.labels(specs)
        try:
            if self.untuned:
                bank = self.work.features(encoder, self.bank_key, cells=head.cells)
                frames = row.video.frames
                given = unpacked(bank.tokens(support), frames)
                asked = (unpacked(part, frames) for part in parts_of(bank, query)())
                return compare(head, given, asked, labels)
            bank = self.work.bank(encoder, cells=head.cells)
            given_parts, asked_parts = parts_of(bank, support), parts_of(bank, query)
            picked = self._picked(support, specs)
            trained = self._support(encoder, support, specs, head.cells, picked)
            episodes = Episodes(trained, labels, asked_parts, given=given_parts, picked=picked)
            return tune_and_predict(encoder, head, episodes, row.tuning)
        except TuningError as error:
            first, last = specs[0].index, specs[-1].index
            raise TuningError(f"{row.slug}, episodes {first} to {last}: {error}") from error

    def _picked(
        self, names: list[list[str]], specs: Sequence[EpisodeSpec]
    ) -> Callable[[int], Tensor] | None:
        """Which support clips a step sees, where it is not all of them."""
        batch = self.row.tuning.batch
        if batch is None or batch >= len(names[0]):
            return None
        return picked_clips(names, specs, batch, self.row.drawn_from)

    def _support(
        self,
        encoder: AdaptedEncoder,
        names: list[list[str]],
        specs: Sequence[EpisodeSpec],
        cells: int,
        picked: Callable[[int], Tensor] | None,
    ) -> Callable[[int], Tensor]:
        """What is kept of the support clips that a step sees."""
        bank = self.work.bank(encoder, cells=cells)

        def _seen(step: int) -> list[list[str]]:
            if picked is None:
                return names
            rows = picked(step).tolist()
            return [[row[i] for i in places] for row, places in zip(names, rows, strict=True)]

        if not is_active(self.row.tuning) or not self.parameters:
            if picked is not None:
                return lambda step: bank.tokens(_seen(step))
            plain = bank.tokens(names) if self.parameters and self.row.tuning.steps else None
            return lambda _step: bank.tokens(names) if plain is None else plain
        seeds = [derive_seed("augment", self.row.drawn_from, spec.index) for spec in specs]
        augment = Augmenter(self.row.tuning, [spec.classes for spec in specs], seeds)
        kept = self._pixels(encoder, names) if picked is None else None

        def _step_tokens(step: int) -> Tensor:
            pixels = self._pixels(encoder, _seen(step)) if kept is None else kept
            with torch.no_grad():
                return encoder.prefix(augment(pixels), cells=cells)

        return _step_tokens

    def _pixels(self, encoder: AdaptedEncoder, names: list[list[str]]) -> Tensor:
        frames = [[torch.from_numpy(self.work.frames(n).copy()) for n in row] for row in names]
        return encoder.tower.pixels(torch.stack([torch.stack(row) for row in frames]))

    def header(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The run's header, and the part of it that decides the results."""
        return about_of(self), identity_of(self)

    def method(self, kind: registry.Kind) -> dict[str, Any]:
        """Options as they were resolved, and the code where it is not this package's own."""
        choice = self.row.adapter if kind == "adapters" else self.row.head
        cls = registry.load(kind, choice.name)
        options = options_of(choice, cls, kind[:-1]).model_dump(mode="json")
        return {"options": options, "code": registry.code_digest(kind, choice.name)}
