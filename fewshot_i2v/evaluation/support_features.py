"""What heads read of the support clips of episodes, to be stored with a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.evaluation.batching import chunked_features
from fewshot_i2v.evaluation.inputs import cached_prefixes, support_labels
from fewshot_i2v.evaluation.missing_support import reads_support
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import (
    concat_features,
    pack_features,
    unpack_features,
)
from fewshot_i2v.models.checkpoints.model_file import SUPPORT_FEATURES, SUPPORT_LABELS
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.tuning.finetune import encode_in_chunks


def encode_support(
    runner: RowRunner, encoder: AdaptedEncoder, head: Head, episodes: Sequence[Episode]
) -> Tensor:
    """Computes what a head reads of support clips, packed: (E, S, ...).

    Args:
        runner: of the row.
        encoder: with a copy of the adapter per episode.
        head: likewise.
        episodes: E of them, of one shape, whose clips were decoded.
    """
    prefixes = cached_prefixes(runner.context, encoder, head.grid_sizes)
    encode = partial(
        encode_in_chunks,
        encoder,
        grid_sizes=head.grid_sizes,
        part_size=runner.prediction_size,
    )
    chunks = chunked_features(prefixes, [episode.support_clips for episode in episodes])()
    features = concat_features([encode(tokens) for tokens in chunks])
    return pack_features(head.select_tokens(features))


def support_tensors(packed: Tensor, episode: Episode) -> dict[str, Tensor]:
    """Names what is stored of the support clips of an episode, on the CPU.

    Args:
        packed: features of its clips, (S, ...).
        episode: which says their classes.
    """
    labels = support_labels([episode], torch.device("cpu"))[0]
    return {SUPPORT_FEATURES: packed.detach().float().cpu().clone(), SUPPORT_LABELS: labels}


@torch.no_grad()
def needed_support_tensors(
    runner: RowRunner,
    encoder: AdaptedEncoder,
    head: Head,
    episodes: Sequence[Episode],
    position: int,
) -> dict[str, Tensor]:
    """Computes what is stored of the support clips of one of several episodes.

    The arguments are those of `encode_support`, and the position of the episode.

    Returns:
        The tensors by name; none where the head does not read support clips to predict.
    """
    packed = encode_support(runner, encoder, head, episodes)
    query = unpack_features(packed[:, :1], head.frames)
    labels = support_labels(episodes, packed.device)
    if not reads_support(head, runner.row.head.name, query, labels):
        return {}
    return support_tensors(packed[position], episodes[position])
