"""Objectives of base training: few-shot episodes, classification of all classes, or both."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

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

    def build(self) -> None:
        """Builds the head."""
        advice = ', or objective "classify", or a meta objective, which fine-tunes heads'
        method = self.config.head
        head = self.new_head(method, way=self.config.way)
        self.head = require_parameter_free(head, method, "head", advice)
        self.grid_sizes = head.grid_sizes

    def backward(self, micro_batch: MicroBatch) -> Tensor:
        """Encodes support and query clips of all episodes in one pass."""
        batch = micro_batch.require_episodes()
        support, query = encode_episodes(self.encoder, batch, self.grid_sizes)
        scores = self.head(query, support, batch.support_labels)
        # episodes have the same number of query clips: the mean over clips is that over episodes
        loss = functional.cross_entropy(scores.flatten(0, 1), batch.query_labels.flatten())
        return backpropagate(micro_batch.weight * loss)


class Classification(Objective):
    """Cross-entropy of all training classes by a linear classifier, which is then discarded."""

    wants_clips: ClassVar[bool] = True

    def build(self) -> None:
        """Builds the classifier."""
        seed, method = derive_seed("classifier", self.config.seed), self.config.classifier
        self.classifier = self.new_head(method, way=len(self.classes), seeds=[seed])
        self.extra, self.grid_sizes = self.classifier, self.classifier.grid_sizes

    def backward(self, micro_batch: MicroBatch) -> Tensor:
        """Encodes all clips of the micro-batch in one pass."""
        batch = micro_batch.clips
        if batch is None:
            raise ValueError("a micro-batch without clips")
        features = self.encoder(batch.clips.unsqueeze(0), grid_sizes=self.grid_sizes)
        scores = self.classifier.compute_support_logits(features, batch.labels.unsqueeze(0))
        loss = functional.cross_entropy(scores.squeeze(0), batch.labels)
        return backpropagate(micro_batch.weight * loss)


class EpisodicPlusClassification(Objective):
    """The sum of the losses of `Episodic` and `Classification`."""

    wants_episodes: ClassVar[bool] = True
    wants_clips: ClassVar[bool] = True

    def build(self) -> None:
        """Builds both objectives."""
        config = self.config
        self.episodic = Episodic(config, self.encoder, self.classes)
        self.classification = Classification(config, self.encoder, self.classes)
        self.extra = self.classification.extra
        # clips are encoded up to the prefix once, for what both losses read
        both = {*self.episodic.grid_sizes, *self.classification.grid_sizes}
        self.grid_sizes = tuple(sorted(both))
        self.episodic.grid_sizes = self.classification.grid_sizes = self.grid_sizes

    def backward(self, micro_batch: MicroBatch) -> Tensor:
        """Runs both backward passes in turn; the gradients add up."""
        return self.episodic.backward(micro_batch) + self.classification.backward(micro_batch)
