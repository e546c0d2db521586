"""Losses of base training: few-shot episodes, classification of all classes, or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fewshot_i2v.errors import ConfigError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.factory import Workshop
from fewshot_i2v.training.objective import Objective, Part, by_episode, clips_of, training_free
from fewshot_i2v.utils.seeding import derive_seed


class Episodic(Objective):
    """Cross-entropy of the query clips of few-shot episodes, as a head without parameters scores.

    Source: Vinyals et al., Matching Networks for One Shot Learning, NeurIPS 2016,
    https://arxiv.org/abs/1606.04080; with the prototype head Snell et al., NeurIPS 2017.
    """

    wants_episodes: ClassVar[bool] = True

    def __init__(self, workshop: Workshop, encoder: AdaptedEncoder) -> None:
        super().__init__(workshop, encoder)
        config = workshop.config
        advice = ', or objective "classify", or a meta objective, which fine-tunes heads'
        head = workshop.head(config.head, way=config.way)
        self.head = training_free(head, config.head, "head", advice)

    @property
    def cells(self) -> int:
        """As the head asks for."""
        return self.head.cells

    def backward(self, part: Part) -> Tensor:
        """Support and query clips of all episodes go through the encoder at once."""
        batch = part.episodes
        if batch is None:
            raise ValueError("an episodic part without episodes")
        shots = batch.support.shape[1]
        kept = torch.cat([batch.support, batch.query], 1)
        features = self.encoder(kept.flatten(0, 1).unsqueeze(0), cells=self.cells)
        features = by_episode(features, len(kept))
        support, query = clips_of(features, slice(shots)), clips_of(features, slice(shots, None))
        scores = self.head(query, support, batch.support_labels)
        loss = functional.cross_entropy(scores.flatten(0, 1), batch.query_labels.flatten())
        return _sent_back(part.weight * loss)


class Classify(Objective):
    """Cross-entropy of all training classes, by a linear classifier that is thrown away."""

    wants_clips: ClassVar[bool] = True

    def __init__(self, workshop: Workshop, encoder: AdaptedEncoder) -> None:
        super().__init__(workshop, encoder)
        choice, way = workshop.config.classifier, len(workshop.classes)
        seed = derive_seed("classifier", workshop.config.seed)
        self.classifier = workshop.head(choice, way=way, seeds=[seed])
        self.extra = self.classifier

    @property
    def cells(self) -> int:
        """As the classifier asks for."""
        return self.classifier.cells

    def backward(self, part: Part) -> Tensor:
        """All clips of the part at once."""
        batch = part.clips
        if batch is None:
            raise ValueError("a part for classification without clips")
        features = self.encoder(batch.clips.unsqueeze(0), cells=self.cells)
        scores = self.classifier.training_logits(features, batch.labels.unsqueeze(0))
        loss = functional.cross_entropy(scores.squeeze(0), batch.labels)
        return _sent_back(part.weight * loss)


class Both(Objective):
    """The losses of `Episodic` and `Classify`, summed."""

    wants_episodes: ClassVar[bool] = True
    wants_clips: ClassVar[bool] = True

    def __init__(self, workshop: Workshop, encoder: AdaptedEncoder) -> None:
        super().__init__(workshop, encoder)
        self.episodic, self.classify = Episodic(workshop, encoder), Classify(workshop, encoder)
        self.extra = self.classify.extra
        if self.episodic.cells != self.classify.cells:
            raise ConfigError(
                f"objective both: head {workshop.config.head.label} and classifier "
                f"{workshop.config.classifier.label} see different tokens; give both the same"
            )

    @property
    def cells(self) -> int:
        """Of both heads."""
        return self.episodic.cells

    def backward(self, part: Part) -> Tensor:
        """One after the other; the gradients add up."""
        return self.episodic.backward(part) + self.classify.backward(part)


def _sent_back(loss: Tensor) -> Tensor:
    torch.autograd.backward(loss)
    return loss.detach()


_BASE: Mapping[str, type[Objective]] = {
    "episodic": Episodic,
    "classify": Classify,
    "both": Both,
}


def base_objective(workshop: Workshop, encoder: AdaptedEncoder) -> Objective:
    """The objective of a training that is no meta-training.

    Raises:
        ConfigError: when its head has parameters or reads class names.
    """
    return _BASE[workshop.config.objective](workshop, encoder)
