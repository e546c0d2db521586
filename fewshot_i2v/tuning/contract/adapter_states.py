"""Checks of the state of an adapter: it can be taken out, put back, saved, loaded and merged."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.checkpoints.adapter_checkpoint import load_adapter, save_adapter
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.tuning.contract.adapter_subject import (
    CELLS,
    AdapterSubject,
    features_of_episode,
    require_same_features,
    run_encoder,
    shared_pixels,
    shared_tower,
)
from fewshot_i2v.tuning.contract.check import Check, fail, require
from fewshot_i2v.tuning.contract.tiny_encoder import tower_tensors

_STATE_ADVICE = (
    "What is trained must be an nn.Parameter of the module (in nn.ParameterList, not in a plain "
    "list); what can be computed from the options is a buffer with persistent=False."
)
_MERGE_ADVICE = "Correct merge, or set mergeable = False."


def _restores_its_state(subject: AdapterSubject) -> None:
    trained, fresh = subject.build(1, 2, moved=True), subject.build(8, 9)
    fresh.adapter.load_state_dict(trained.adapter.state_dict())
    require_same_features(
        run_encoder(fresh, shared_pixels(), cells=CELLS),
        run_encoder(trained, shared_pixels(), cells=CELLS),
        "with the state of a trained adapter, a new one gives other features",
        _STATE_ADVICE,
        limit=0.0,
    )


def _saves_and_loads(subject: AdapterSubject) -> None:
    encoder = Encoder(
        "tiny", shared_tower(), "0" * 64, "random (seed 0)", has_text_tower=False, parameters=1
    )
    trained = subject.build(1, 2, moved=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "saved"
        save_adapter(path, encoder, subject.name, trained.adapter, episode=1)
        loaded = load_adapter(path, encoder, adapter=subject.name).adapter
    require(
        type(loaded) is type(trained.adapter),
        f"loaded, it is a {type(loaded).__name__}",
        "Keep one adapter class in the file.",
    )
    require_same_features(
        run_encoder(AdaptedEncoder(shared_tower(), loaded), shared_pixels(), cells=CELLS),
        features_of_episode(run_encoder(trained, shared_pixels(), cells=CELLS), 1),
        "saved and loaded, it gives other features",
        _STATE_ADVICE,
    )


def _merges(subject: AdapterSubject) -> None:
    encoder = subject.build(1, 2, moved=True)
    if not encoder.adapter.mergeable:
        try:
            encoder.adapter.merge(encoder.tower)
        except AdapterError:
            return
        fail("mergeable is False, and merge does something", "Set mergeable = True.")
    expected = run_encoder(encoder, shared_pixels(), cells=CELLS)
    for episode in range(2):
        tower, remaining = encoder.adapter.merge(encoder.tower, episode)
        require(
            isinstance(remaining, Adapter),
            f"merge returns {type(remaining).__name__} beside the tower; expected an Adapter",
            "Return the adapter frozen where nothing remains.",
        )
        size, before = (
            sum(p.numel() for p in adapter.parameters()) for adapter in (remaining, encoder.adapter)
        )
        require(
            size * 2 < before,
            f"after merging {size} values remain of {before}",
            _MERGE_ADVICE,
        )
        require_same_features(
            run_encoder(AdaptedEncoder(tower, remaining), shared_pixels(), cells=CELLS),
            features_of_episode(expected, episode),
            "merged into the encoder, it gives other features",
            _MERGE_ADVICE,
            limit=1e-4,
        )


def _merges_without_a_trace(subject: AdapterSubject) -> None:
    encoder = subject.build(1, 2, moved=True)
    if not encoder.adapter.mergeable:
        return
    before = [tensor.clone() for tensor in tower_tensors(shared_tower())]
    trained = [p.detach().clone() for p in encoder.adapter.parameters()]
    (tower, remaining), (again, remaining_again) = (
        encoder.adapter.merge(shared_tower(), 1) for _ in range(2)
    )
    pairs = [
        *zip(tower_tensors(tower), tower_tensors(again), strict=True),
        *zip(remaining.parameters(), remaining_again.parameters(), strict=True),
        *zip(tower_tensors(shared_tower()), before, strict=True),
        *zip(encoder.adapter.parameters(), trained, strict=True),
    ]
    require(
        all(torch.equal(first, second) for first, second in pairs),
        "merging twice gives two results, or changes the adapter or the frozen encoder",
        "Make new tensors in merge.",
    )
    if remaining.mergeable:
        last, nothing_more = remaining.merge(tower)
        require_same_features(
            run_encoder(AdaptedEncoder(last, nothing_more), shared_pixels(), cells=CELLS),
            run_encoder(AdaptedEncoder(tower, remaining), shared_pixels(), cells=CELLS),
            "merging what remains changes the features",
            _MERGE_ADVICE,
            limit=1e-6,
        )


ADAPTER_STATE_CHECKS: tuple[Check[AdapterSubject], ...] = (
    Check("a new copy with its state is the same", _restores_its_state),
    Check("it can be saved and loaded", _saves_and_loads),
    Check("merging changes nothing but the cost", _merges),
    Check("merging leaves adapter and encoder as they are", _merges_without_a_trace),
)
