"""Objectives of base training: few-shot episodes, classification of all classes, or both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.training.objective import (
    MicroBatch,
    Objective,
    backpropagate,
    encode_episodes,
    require_parameter_free,
)
from fewshot_i2v.utils.seeding import derive_seed


class Episodic(Objective):
    """Cross-entropy of the query clips of few-shot episodes, scored by a head without parameters.

    Source: Vinyals et al., Matching Networks for One Shot Learning, NeurIPS 2016,
    https://arxiv.org/abs/1606.04080; with the prototype head Snell et al., NeurIPS 2017.
    """

    wants_episodes: ClassVar[bool] = True

    def __init__(
        self, config: TrainingConfig, encoder: AdaptedEncoder, classes: Sequence[str]
    ) -> None:
        super().__init__(config, encoder, classes)
        advice = ', or objective "classify", or a meta objective, which fine-tunes heads'
        head = self.new_head(config.head, way=config.way)
        self.head = require_parameter_free(head, config.head, "head", advice)

    @property
    def grid_size(self) -> int:
        """Grid size of the head."""
        return self.head.grid_size

    def backward(self, micro_batch: MicroBatch) -> Tensor:
        """Encodes support and query clips of all episodes in one pass."""
        batch = micro_batch.episodes
        if batch is None:
            raise ValueError("an episodic part without episodes")
        support, query = encode_episodes(self.encoder, batch, self.grid_size)
        scores = self.head(query, support, batch.support_labels)
        loss = functional.cross_entropy(scores.flatten(0, 1), batch.query_labels.flatten())
        return backpropagate(micro_batch.weight * loss)


class Classification(Objective):
    """Cross-entropy of all training classes by a linear classifier, which is then discarded."""

    wants_clips: ClassVar[bool] = True

    def __init__(
        self, config: TrainingConfig, encoder: AdaptedEncoder, classes: Sequence[str]
    ) -> None:
        super().__init__(config, encoder, classes)
        seed = derive_seed("classifier", config.seed)
        self.classifier = self.new_head(config.classifier, way=len(classes), seeds=[seed])
        self.extra = self.classifier

    @property
    def grid_size(self) -> int:
        """Grid size of the classifier."""
        return self.classifier.grid_size

    def backward(self, micro_batch: MicroBatch) -> Tensor:
        """Encodes all clips of the micro-batch in one pass."""
        batch = micro_batch.clips
        if batch is None:
            raise ValueError("a part for classification without clips")
        features = self.encoder(batch.clips.unsqueeze(0), grid_size=self.grid_size)
        scores = self.classifier.compute_support_logits(features, batch.labels.unsqueeze(0))
        loss = functional.cross_entropy(scores.squeeze(0), batch.labels)
        return backpropagate(micro_batch.weight * loss)


class EpisodicPlusClassification(Objective):
    """The sum of the losses of `Episodic` and `Classification`."""

    wants_episodes: ClassVar[bool] = True
    wants_clips: ClassVar[bool] = True

    def __init__(
        self, config: TrainingConfig, encoder: AdaptedEncoder, classes: Sequence[str]
    ) -> None:
        super().__init__(config, encoder, classes)
        self.episodic = Episodic(config, encoder, classes)
        self.classification = Classification(config, encoder, classes)
        self.extra = self.classification.extra
        if self.episodic.grid_size != self.classification.grid_size:
            raise ConfigError(
                f"objective both: head {config.head.label} and classifier "
                f"{config.classifier.label} see different tokens; give both the same"
            )

    @property
    def grid_size(self) -> int:
        """Grid size of both heads."""
        return self.episodic.grid_size

    def backward(self, micro_batch: MicroBatch) -> Tensor:
        """Runs both backward passes in turn; the gradients add up."""
        return self.episodic.backward(micro_batch) + self.classification.backward(micro_batch)
