"""Labels on the device whose values the host knows."""

from __future__ import annotations

import pytest
import torch

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.labels import (
    clips_per_class,
    derive_labels,
    labels_on_host,
    send_labels,
)
from fewshot_i2v.models.heads.trx import TrxHead, TrxOptions
from tests.pretended_cuda import CUDA, pretended_cuda

LABELS = torch.tensor([[0, 0, 1, 2], [2, 1, 1, 0]])


def test_the_host_knows_what_it_sent_and_what_is_made_of_it() -> None:
    with pretended_cuda() as log:
        sent = send_labels(LABELS, CUDA)
        derived = derive_labels(lambda a, b: torch.cat([a[:, 1:], b], 1).repeat(1, 2), sent, sent)
        assert derived.device == CUDA
        assert torch.equal(labels_on_host(sent), LABELS)
        known = labels_on_host(derived)
        assert clips_per_class(sent, 4).tolist() == [[2, 1, 1, 0], [1, 2, 1, 0]]
        assert not log.waits
        assert torch.equal(derived.cpu(), known)


def test_what_it_does_not_know_is_waited_for_once() -> None:
    with pretended_cuda() as log:
        here = LABELS.to("cuda", non_blocking=True)
        mixed = derive_labels(lambda a, b: a + b, here, send_labels(LABELS, CUDA))
        for _ in range(2):
            assert torch.equal(labels_on_host(here), LABELS)
        assert sum(log.waits.values()) == 1
        assert torch.equal(labels_on_host(mixed), 2 * LABELS)
        assert sum(log.waits.values()) == 2


def test_labels_that_were_written_to_are_read_again() -> None:
    with pretended_cuda():
        host = LABELS.clone()
        sent = send_labels(host, CUDA)
        host[0, 0] = 1
        assert torch.equal(labels_on_host(sent), LABELS)
        sent[0, 1] = 2
        assert labels_on_host(sent)[0].tolist() == [0, 2, 1, 2]


def test_a_class_without_a_clip_is_named_without_a_wait() -> None:
    with pretended_cuda() as log:
        head = TrxHead(TrxOptions(cardinalities=(2,)), width=4, way=3, frames=3, seeds=[0, 1])
        head = head.to(CUDA)
        frames = torch.ones(2, 4, 3, 4, device=CUDA)
        features = Features(frames, frames.mean(2))
        good = head(features, features, send_labels(LABELS, CUDA))
        assert good.shape == (2, 4, 3)
        bad = send_labels(torch.tensor([[0, 1, 2, 2], [0, 0, 2, 2]]), CUDA)
        log.waits.clear()
        with pytest.raises(HeadError, match="class 1 of episode 1 has no support clip"):
            head(features, features, bad)
        assert not log.waits
