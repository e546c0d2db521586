"""How a training is watched: accuracy on the same un-augmented episodes every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot_i2v.config.training import TrainConfig
from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.factory import Workshop
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.statistics import Interval, mean_interval
from fewshot_i2v.training.batches import class_by_class, refuse_unreadable
from fewshot_i2v.training.class_split import Roster
from fewshot_i2v.training.objective import NotFiniteError, Objective, training_free
from fewshot_i2v.tuning.finetune import embed
from fewshot_i2v.tuning.run_context import Material

# Clips whose prefixes are gathered, and episodes that are scored, at once: bounds the memory.
_CLIPS_AT_ONCE = 64
_EPISODES_AT_ONCE = 25


@dataclass(frozen=True)
class Validation:
    """Scores few-shot episodes of classes that are not trained on.

    Attributes:
        specs: the episodes, all of one shape.
        head: without parameters.
        material: split, encoder and clips.
        objective: may fine-tune on the support clips first.
    """

    specs: Sequence[EpisodeSpec]
    head: Head
    material: Material
    objective: Objective

    @classmethod
    def of(
        cls, material: Material, roster: Roster, workshop: Workshop, objective: Objective
    ) -> Validation | None:
        """The validation that the configuration asks for; None where it asks for none.

        Raises:
            ConfigError: when its head has parameters.
            EpisodeError: when the classes cannot give such episodes.
        """
        config: TrainConfig = workshop.config
        specs = roster.validation_episodes(config)
        if not specs:
            return None
        choice = config.validation.head
        head = workshop.head(choice, way=len(specs[0].classes))
        return cls(specs, training_free(head, choice, "validation.head", ""), material, objective)

    @property
    def clips(self) -> list[str]:
        """Names of the clips of all episodes, sorted."""
        return sorted({name for spec in self.specs for name in spec.clips()})

    def prepare(self, *, progress: bool) -> None:
        """Decodes the clips.

        Raises:
            TuningError: naming those that cannot be read.
        """
        self.material.prepare(self.clips, progress=progress)
        refuse_unreadable(self.material)

    def accuracy(self) -> Interval:
        """Mean accuracy over the episodes, with its interval.

        Raises:
            NotFiniteError: when a score is not finite.
        """
        names = self.clips
        encoder, known = self.objective.encoder, None
        out: list[float] = []
        for start in range(0, len(self.specs), _EPISODES_AT_ONCE):
            specs = self.specs[start : start + _EPISODES_AT_ONCE]
            rows = [[_names(spec, side) for spec in specs] for side in ("support", "query")]
            labels = self._labels(specs, len(specs[0].support[0]))
            tuned = self._fine_tuned(rows[0], labels)
            if tuned is not None:
                sides = [self._features(tuned, clips) for clips in rows]
            else:
                known = known or self._of_all(encoder, names)
                sides = [_gathered(known, names, clips) for clips in rows]
            answers = self._labels(specs, len(specs[0].query[0]))
            with torch.inference_mode():
                scores = self.head(sides[1], sides[0], labels)
                if not bool(scores.isfinite().all()):
                    raise NotFiniteError("a score of the validation is not finite")
                right = scores.argmax(-1) == answers
            out += right.double().mean(-1).tolist()
        return mean_interval(out)

    def _labels(self, specs: Sequence[EpisodeSpec], each: int) -> Tensor:
        device = self.material.encoder.tower.device
        return class_by_class(len(specs[0].classes), each, len(specs), device)

    def _fine_tuned(self, support: list[list[str]], labels: Tensor) -> AdaptedEncoder | None:
        if type(self.objective).fine_tuned is Objective.fine_tuned:
            return None
        bank = self.material.bank(self.objective.encoder, cells=self.objective.cells)
        return self.objective.fine_tuned(bank.tokens(support), labels)

    def _features(self, encoder: AdaptedEncoder, rows: list[list[str]]) -> Features:
        """Features of the clips of E episodes, by an adapter of E copies."""
        bank = self.material.bank(encoder, cells=self.head.cells)
        return embed(encoder, bank.tokens(rows), cells=self.head.cells)

    def _of_all(self, encoder: AdaptedEncoder, names: list[str]) -> Features:
        """Features of clips by the adapter as it stands, each computed once, (1, clips, ...)."""
        starts = range(0, len(names), _CLIPS_AT_ONCE)
        parts = [self._features(encoder, [names[i : i + _CLIPS_AT_ONCE]]) for i in starts]
        grids = [part.grid for part in parts if part.grid is not None]
        with torch.inference_mode():
            return Features(
                torch.cat([part.frames for part in parts], 1),
                torch.cat([part.clip for part in parts], 1),
                torch.cat(grids, 1) if grids else None,
            )


def _names(spec: EpisodeSpec, side: str) -> list[str]:
    """Clips of one side of an episode, class by class."""
    rows: tuple[tuple[str, ...], ...] = getattr(spec, side)
    return [name for row in rows for name in row]


def _gathered(known: Features, names: list[str], rows: list[list[str]]) -> Features:
    """Features of the clips of some episodes out of those of all clips, (episodes, clips, ...)."""
    places = {name: i for i, name in enumerate(names)}
    index = torch.tensor([[places[name] for name in row] for row in rows])
    index = index.to(known.clip.device)
    with torch.inference_mode():
        return Features(
            known.frames[0][index],
            known.clip[0][index],
            None if known.grid is None else known.grid[0][index],
        )
