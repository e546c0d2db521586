"""Objectives of base training: few-shot episodes, classification of all classes, or both."""

from __future__ import annotations

from typing import ClassVar

from torch import nn
from torch.nn import functional

from fewshot_i2v.models.factory import depends_on_way
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.training.objective import (
    MicroBatch,
    MicroBatchLoss,
    Objective,
    backpropagate,
    encode_episodes,
    has_parameters,
    require_parameter_free,
)
from fewshot_i2v.training.parameter_copies import shared_view, with_parameters
from fewshot_i2v.utils.seeding import derive_seed

_HEAD_ADVICE = (
    ", or one whose parameters are for any classes, such as trx or context-prototype, which are "
    'trained and held by the starting point, or objective "classify", or a meta objective, which '
    "fine-tunes heads"
)


class Episodic(Objective):
    """Cross-entropy of the query clips of few-shot episodes.

    Parameters of the head, if any, are trained with the adapter at the rate `head_lr`, and the
    starting point holds them. They must not depend on the number of classes: a linear classifier of
    training classes says nothing about others.

    Source: Vinyals et al., Matching Networks for One Shot Learning, NeurIPS 2016,
    https://arxiv.org/abs/1606.04080; with the prototype head Snell et al., NeurIPS 2017.
    """

    wants_episodes: ClassVar[bool] = True
    takes_any_way: ClassVar[bool] = True

    def build(self) -> None:
        """Builds the head.

        Raises:
            ConfigError: when it has parameters for its classes.
        """
        method = self.config.head
        self.head = self._new_head(1, self.config.way)
        self.grid_sizes = self.head.grid_sizes
        self._heads: dict[tuple[int, int], Head] = {(1, self.config.way): self.head}
        if not has_parameters(self.head):
            return
        if depends_on_way(method, self.encoder.tower, frames=self.config.video.frames):
            require_parameter_free(self.head, method, "head", _HEAD_ADVICE)
        self.extra = self.start_extra = nn.ModuleDict({"head": self.head})

    def trained_head(self) -> Head | None:
        """Returns the head; None where it has no parameters."""
        return self.head if has_parameters(self.head) else None

    def head_copies(self, count: int, way: int) -> Head:
        """Returns the head for `count` episodes of `way` classes, all with its parameters."""
        if (count, way) not in self._heads:
            self._heads[count, way] = self._new_head(count, way)
        return with_parameters(self._heads[count, way], self.head, shared_view(count))

    def backward(self, micro_batch: MicroBatch) -> MicroBatchLoss:
        """Encodes support and query clips of all episodes in one pass."""
        batch = micro_batch.require_episodes()
        support, query = encode_episodes(self.encoder, batch, self.grid_sizes)
        head = self.head_copies(len(batch.support), len(batch.classes[0]))
        scores = head(query, support, batch.support_labels)
        # episodes have the same number of query clips: the mean over clips is that over episodes
        loss = functional.cross_entropy(scores.flatten(0, 1), batch.query_labels.flatten())
        return MicroBatchLoss(backpropagate(micro_batch.weight * loss))

    def _new_head(self, copies: int, way: int) -> Head:
        head = self.config.head
        seed = derive_seed("head", head.name, self.config.seed, "train")
        return self.new_head(head, way=way, seeds=[seed] * copies)


class Classification(Objective):
    """Cross-entropy of all training classes by a linear classifier, which is then discarded."""

    wants_clips: ClassVar[bool] = True

    def build(self) -> None:
        """Builds the classifier."""
        seed, method = derive_seed("classifier", self.config.seed), self.config.classifier
        self.classifier = self.new_head(method, way=len(self.classes), seeds=[seed])
        self.extra, self.grid_sizes = self.classifier, self.classifier.grid_sizes

    def backward(self, micro_batch: MicroBatch) -> MicroBatchLoss:
        """Encodes all clips of the micro-batch in one pass."""
        batch = micro_batch.clips
        if batch is None:
            raise ValueError("a micro-batch without clips")
        features = self.encoder(batch.clips.unsqueeze(0), grid_sizes=self.grid_sizes)
        scores = self.classifier.compute_support_logits(features, batch.labels.unsqueeze(0))
        loss = functional.cross_entropy(scores.squeeze(0), batch.labels)
        return MicroBatchLoss(backpropagate(micro_batch.weight * loss))


class EpisodicPlusClassification(Objective):
    """The sum of the losses of `Episodic` and `Classification`."""

    wants_episodes: ClassVar[bool] = True
    wants_clips: ClassVar[bool] = True
    takes_any_way: ClassVar[bool] = True

    def build(self) -> None:
        """Builds both objectives."""
        config = self.config
        self.episodic = Episodic(config, self.encoder, self.classes)
        self.classification = Classification(config, self.encoder, self.classes)
        classifier, self.start_extra = self.classification.extra, self.episodic.start_extra
        self.extra = classifier
        if self.trained_head() is not None:
            self.extra = nn.ModuleDict({"classifier": classifier, "head": self.episodic.head})
        # clips are encoded up to the prefix once, for what both losses read
        both = {*self.episodic.grid_sizes, *self.classification.grid_sizes}
        self.grid_sizes = tuple(sorted(both))
        self.episodic.grid_sizes = self.classification.grid_sizes = self.grid_sizes

    def trained_head(self) -> Head | None:
        """Returns the head of the episodes; None where it has no parameters."""
        return self.episodic.trained_head()

    def head_copies(self, count: int, way: int) -> Head:
        """Returns the head of the episodes, as `Episodic.head_copies`."""
        return self.episodic.head_copies(count, way)

    def backward(self, micro_batch: MicroBatch) -> MicroBatchLoss:
        """Runs both backward passes in turn; the gradients add up."""
        losses = [part.backward(micro_batch) for part in (self.episodic, self.classification)]
        return MicroBatchLoss(losses[0].value + losses[1].value)
