"""The summary after the encoder's projection, as `encode_image` of CLIP gives it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewshot_i2v import registry
from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.head import Head
from tests.models.heads.samples import EPISODES, FRAMES, LABELS, ONE_SHOT, WAY, WIDTH, clips

JOINT = 7
PROJECTION = torch.randn(WIDTH, JOINT, generator=torch.Generator().manual_seed(5))
SUPPORT, QUERY = clips(6, 0), clips(5, 1)
COMPARING = ("prototype", "nearest", "otam", "bi-mhm", "logistic", "trx", "linear")


def build(
    name: str, tokens: str, *, width: int = WIDTH, joint: int = JOINT, **options: Any
) -> Head:
    cls = registry.load_method("heads", name)
    chosen = cls.Options.model_validate({"tokens": tokens, **options}).for_encoder(3, joint)
    head: Head = cls(chosen, width=width, way=WAY, frames=FRAMES, seeds=[0] * EPISODES)
    if "projected" in tokens:
        head.set_projection(PROJECTION)
    return head


def projected(features: Features) -> Features:
    return features.map(lambda x: x @ PROJECTION)


@pytest.mark.parametrize("name", COMPARING)
def test_a_head_reads_it_as_features_of_that_width(name: str) -> None:
    of_readout = build(name, "projected")
    of_features = build(name, "summary", width=JOINT)
    assert of_readout.width == JOINT
    expected = of_features(projected(QUERY), projected(SUPPORT), LABELS)
    torch.testing.assert_close(of_readout(QUERY, SUPPORT, LABELS), expected)
    assert not torch.allclose(expected, build(name, "summary")(QUERY, SUPPORT, LABELS))


def test_it_stands_beside_other_readouts() -> None:
    head = build("prototype", "summary+projected")
    assert head.readout_widths == [WIDTH, JOINT]
    both = head.select_tokens(SUPPORT)
    assert torch.equal(both.frames[..., :WIDTH], SUPPORT.frames)
    torch.testing.assert_close(both.frames[..., WIDTH:], SUPPORT.frames @ PROJECTION)
    torch.testing.assert_close(both.clip[..., WIDTH:], SUPPORT.clip @ PROJECTION)


def test_it_is_read_of_the_frozen_encoder_too() -> None:
    features = Features(SUPPORT.frames, SUPPORT.clip, frozen=clips(6, 3))
    seen = build("prototype", "frozen-projected").select_tokens(features)
    torch.testing.assert_close(seen.frames, clips(6, 3).frames @ PROJECTION)


def test_a_layer_over_time_has_its_width() -> None:
    head = build("context-prototype", "projected+grid2+motion3", heads=1)
    widths = [layer.embedding.shape[-1] for layer in head.layers]  # type: ignore[union-attr]
    assert widths == [JOINT, WIDTH]
    grids = {n: torch.randn(EPISODES, 6, FRAMES, n * n, WIDTH) for n in (2, 3)}
    support = Features(SUPPORT.frames, SUPPORT.clip, grids)
    plain = build("prototype", "projected+grid2+motion3", pooling="ordered", center=True)
    # untrained, the layers change nothing
    torch.testing.assert_close(
        head(support, support, LABELS), plain(support, support, LABELS), rtol=1e-4, atol=1e-4
    )


def test_it_is_the_encoders_and_neither_saved_nor_trained() -> None:
    head = build("prototype", "projected")
    assert head.state_dict().keys() == build("prototype", "summary").state_dict().keys()
    assert all(parameter is not head.projection for parameter in head.parameters())
    trained = nn.Parameter(PROJECTION.clone())
    head.set_projection(trained)
    assert head.projection is not None
    assert not head.projection.requires_grad


def test_gradients_pass_through_it() -> None:
    frames = SUPPORT.frames[:, :WAY].clone().requires_grad_()
    head = build("prototype", "projected", pooling="ordered")
    features = Features(frames, frames.mean(-2))
    head(features, clips(WAY, 4), ONE_SHOT).square().sum().backward()
    assert frames.grad is not None
    assert frames.grad.abs().sum() > 0


def test_it_is_exact_within_mixed_precision() -> None:
    head = build("prototype", "projected")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen: Tensor = head.select_tokens(SUPPORT).frames
    assert torch.equal(seen, SUPPORT.frames @ PROJECTION)


def test_what_is_missing_is_said() -> None:
    cls = registry.load_method("heads", "prototype")
    options = cls.Options(tokens="projected")
    with pytest.raises(HeadError, match="no projection into a space shared with text; use summary"):
        options.for_encoder(3, 0)
    with pytest.raises(HeadError, match="depends on the encoder"):
        options.parsed_readouts()
    head = cls(
        options.for_encoder(3, JOINT), width=WIDTH, way=WAY, frames=FRAMES, seeds=[0] * EPISODES
    )
    with pytest.raises(HeadError, match=r"set_projection\(tower.projection\)"):
        head.select_tokens(SUPPORT)
