"""What every adapter promises about its state: it can be taken out, put back, and told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fewshot_i2v.errors import CheckpointError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.checkpoints.adapter_checkpoint import load_adapter, save_adapter
from fewshot_i2v.models.encoders.loading import Encoder
from tests.contracts._adapters import (
    CELLS,
    assert_same,
    build,
    every_adapter,
    of_episode,
    run,
    the_pixels,
    the_tower,
)


def _other(name: str) -> str:
    return "st-adapter" if name != "st-adapter" else "aim"


@every_adapter
def test_state_round_trip(name: str) -> None:
    trained = build(name, 1, 2, moved=True)
    fresh = build(name, 8, 9)
    fresh.adapter.load_state_dict(trained.adapter.state_dict())
    got, expected = (run(encoder, the_pixels(), cells=CELLS) for encoder in (fresh, trained))
    assert torch.equal(got.frames, expected.frames)
    assert torch.equal(got.clip, expected.clip)
    assert torch.equal(got.grids[CELLS], expected.grids[CELLS])


@every_adapter
def test_the_state_of_another_method_is_refused(name: str) -> None:
    state = build(_other(name)).adapter.state_dict()
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\)"):
        build(name).adapter.load_state_dict(state)


@every_adapter
def test_saved_and_loaded_it_is_the_same_and_another_method_is_refused_by_name(
    name: str, tmp_path: Path
) -> None:
    encoder = Encoder(
        "tiny", the_tower(), "0" * 64, "random (seed 0)", has_text_tower=False, parameters=1
    )
    trained = build(name, 1, 2, moved=True)
    save_adapter(tmp_path / "saved", encoder, name, trained.adapter, episode=1)
    loaded = load_adapter(tmp_path / "saved", encoder, adapter=name)
    assert type(loaded.adapter) is type(trained.adapter)
    expected = of_episode(run(trained, the_pixels(), cells=CELLS), 1)
    got = run(AdaptedEncoder(the_tower(), loaded.adapter), the_pixels(), cells=CELLS)
    assert_same(got, expected)
    with pytest.raises(CheckpointError, match=f"{name!r}; {_other(name)!r} is asked for"):
        load_adapter(tmp_path / "saved", encoder, adapter=_other(name))
