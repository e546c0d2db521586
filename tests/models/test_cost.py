"""What adapters cost: published parameter counts, and products added up by hand."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError, EncoderError, UnknownNameError
from fewshot_i2v.models.cost import Cost, compare_costs, count_adapter_cost, macs_per_clip
from fewshot_i2v.models.encoders.loading import meta_tower
from fewshot_i2v.models.encoders.tower import Tower
from tests.tiny import tiny_tower

TOWERS = ("ViT-B-16", "ViT-L-14", "demo")
GIGA = 1e9
AIM, ST, ZERO, FORMER, SIDE = "aim", "st-adapter", "zeroi2v", "adaptformer", "m-adapter"

# Parameters for clips of 8 frames and 10^9 multiply-accumulates of a frame, as they follow from the
# equations of the papers; None where only the former was worked out.
PUBLISHED: list[tuple[str, str, dict[str, Any], int, float | None]] = [
    ("ViT-B-16", "frozen", {}, 0, 17.563),
    ("ViT-B-16", AIM, {}, 10_659_072, 25.261),
    ("ViT-B-16", ST, {}, 7_110_144, 18.953),
    ("ViT-B-16", ZERO, {}, 14_209_536, 20.35),
    ("ViT-B-16", FORMER, {}, 1_189_632, 17.563 + 0.232),
    ("ViT-B-16", SIDE, {}, 4_178_316, 17.563 + 0.786),
    ("ViT-B-16", SIDE, {"every": 2}, 2_163_462, 17.563 + 0.393),
    ("ViT-L-14", "frozen", {}, 0, 81.012),
    ("ViT-L-14", AIM, {}, 37_840_896 + 8_192 + 2_048, 2800 / 24),
    ("ViT-L-14", ST, {}, 18_945_024, 85.851),
]
# By the same equations, and slow: other options of the methods above, and most of ViT-L/14, which
# takes seconds to count. Its frozen one, the method that attends over frames and the one whose
# width is bounded there stand above.
SLOW: list[tuple[str, str, dict[str, Any], int, float | None]] = [
    ("ViT-B-16", SIDE, {"width": 256}, 6_547_724, 17.563 + 1.241),
    ("ViT-B-16", SIDE, {"width": 128}, 2_300_428, 17.563 + 0.427),
    ("ViT-B-16", ST, {"sites": "both"}, 14_220_288, 20.343),
    ("ViT-B-16", AIM, {"temporal_adapters": 2}, 14_209_536, 25.958),
    ("ViT-L-14", AIM, {"temporal_adapters": 2}, 50_454_528 + 8_192 + 2_048, 2878 / 24),
    ("ViT-L-14", ZERO, {}, 50_454_528 + 8_192 + 2_048, 93.95),
    ("ViT-L-14", FORMER, {}, 3_171_840, None),
    ("ViT-L-14", SIDE, {}, 14_548_504, 81.012 + 3.643),
]


@pytest.fixture(scope="module")
def towers() -> Mapping[str, Tower]:
    return {name: meta_tower(name) for name in TOWERS}


@pytest.fixture(scope="module")
def default_cost(towers: Mapping[str, Tower]) -> Callable[[str, str], Cost]:
    """Cost of an adapter's default options on a tower, for clips of 8 frames, counted once."""
    return functools.cache(lambda encoder, adapter: count_adapter_cost(towers[encoder], adapter))


def plain_macs(tower: Tower) -> int:
    """Products of the frozen encoder, per frame."""
    d, tokens = tower.width, tower.tokens
    patches = (tokens - 1) * 3 * tower.patch**2 * d
    linear = tokens * 3 * d * d + tokens * d * d + tokens * 8 * d * d
    return patches + tower.layers * (linear + 2 * tokens * tokens * d)


def extra_macs(tower: Tower, adapter: str, frames: int) -> int:
    """What the defaults of a method add, per frame."""
    d, tokens, layers = tower.width, tower.tokens, tower.layers
    bottleneck = tokens * 2 * d * (d // 4)
    if adapter == AIM:
        over_time = 4 * tokens * d * d + 2 * tokens * frames * d
        return layers * (over_time + 3 * bottleneck)
    if adapter == ST:
        c = min(d // 2, 384)  # the class token is computed too, and masked
        return layers * tokens * (2 * d * c + 3 * c)
    if adapter == SIDE:
        r = d // 4
        return tokens * (layers * (d * r + 3 * r + 5 * r * r) + r * d)
    others = {ZERO: 4 * bottleneck, FORMER: tokens * 2 * d * 64}
    return layers * others.get(adapter, 0)


@pytest.mark.parametrize(
    ("encoder", "adapter", "options", "parameters", "giga"),
    [*PUBLISHED, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_published_numbers(
    towers: Mapping[str, Tower],
    default_cost: Callable[[str, str], Cost],
    encoder: str,
    adapter: str,
    options: dict[str, Any],
    parameters: int,
    giga: float | None,
) -> None:
    if options:
        cost = count_adapter_cost(towers[encoder], adapter, options, frames=8)
    else:
        cost = default_cost(encoder, adapter)
    assert cost.parameters == parameters
    if giga is not None:
        assert cost.macs_per_frame / GIGA == pytest.approx(giga, rel=0.005)


@pytest.mark.parametrize("adapter", ["frozen", AIM, ST, ZERO, FORMER, SIDE, "bitfit", "full"])
def test_products_added_up_by_hand(adapter: str) -> None:
    tower = tiny_tower(layers=2)
    for frames in (1, 5):
        expected = plain_macs(tower) + extra_macs(tower, adapter, frames)
        assert count_adapter_cost(tower, adapter, frames=frames).macs_per_frame == expected


@pytest.mark.parametrize("encoder", TOWERS)
def test_products_of_the_frozen_encoder(
    towers: Mapping[str, Tower], default_cost: Callable[[str, str], Cost], encoder: str
) -> None:
    assert default_cost(encoder, "frozen").macs_per_frame == plain_macs(towers[encoder])


def test_a_larger_image_has_more_tokens() -> None:
    large = meta_tower("ViT-B-16", image_size=336)
    assert large.tokens == 442
    assert count_adapter_cost(large, "frozen").macs_per_frame == plain_macs(large)


@pytest.mark.parametrize(
    ("encoder", "left"),
    [
        ("ViT-B-16", 7_680),
        pytest.param("ViT-L-14", 8_192 + 2_048, marks=pytest.mark.slow),
    ],
)
def test_what_remains_of_zeroi2v(
    towers: Mapping[str, Tower],
    default_cost: Callable[[str, str], Cost],
    encoder: str,
    left: int,
) -> None:
    cost = default_cost(encoder, ZERO)
    assert cost.parameters_merged == left
    assert cost.macs_per_frame_merged == plain_macs(towers[encoder])


def test_what_cannot_be_merged_says_so() -> None:
    cost = count_adapter_cost(tiny_tower(layers=1), ST)
    assert (cost.parameters_merged, cost.macs_per_frame_merged) == (None, None)


@pytest.mark.parametrize("adapter", registry.method_names("adapters"))
def test_every_adapter_is_counted_and_agrees_with_a_real_one(adapter: str) -> None:
    found = registry.load_method("adapters", adapter)
    tower = tiny_tower()
    cost = count_adapter_cost(tower, adapter, frames=3)
    assert cost.macs_per_frame >= plain_macs(tower)
    assert (cost.parameters_merged is None) is not found.mergeable
    if cost.macs_per_frame_merged is not None:
        assert plain_macs(tower) <= cost.macs_per_frame_merged <= cost.macs_per_frame
    real = found(tower, found.parse({}), frames=3, seeds=[0])
    assert cost.parameters == sum(p.numel() for p in real.parameters())
    assert (cost.order, cost.reach, cost.note) == (
        real.frame_order,
        real.temporal_radius,
        real.display_note,
    )
    assert cost.source


@pytest.mark.parametrize(
    ("adapter", "frames", "order", "neighbours"),
    [
        ("frozen", 8, "no", "none"),
        (AIM, 8, "through the embedding", "every frame"),
        (ST, 8, "yes", "±1 per block"),
        (ST, 2, "yes", "every frame"),
        (ST, 1, "yes", "none"),
    ],
)
def test_order_and_neighbours_in_words(
    adapter: str, frames: int, order: str, neighbours: str
) -> None:
    cost = count_adapter_cost(tiny_tower(layers=1), adapter, frames=frames)
    assert (cost.order_in_words, cost.neighbours) == (order, neighbours)


def test_towers_have_shapes_alone(tmp_path: Path) -> None:
    tower = meta_tower("ViT-L/14")
    assert tower.device.type == "meta"
    assert (tower.width, tower.layers, tower.heads, tower.tokens) == (1024, 24, 16, 257)
    state = torch.random.get_rng_state()
    count_adapter_cost(tiny_tower(), AIM)
    assert torch.equal(state, torch.random.get_rng_state())
    config = tmp_path / "own.json"
    config.write_text('{"embed_dim": 8, "vision_cfg": {"layers": 2, "width": 64}}')
    assert meta_tower(architecture=config).layers == 2


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("RN50", "no blocks that can be adapted: it is a ResNet"),
        ("ViT-B-16-SigLIP", "no blocks that can be adapted: it is built by timm"),
        ("coca_ViT-B-32", "no blocks that can be adapted: it pools by attention"),
    ],
)
def test_encoders_without_blocks(encoder: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        meta_tower(encoder)


def test_unknown_names_and_impossible_values(towers: Mapping[str, Tower]) -> None:
    tower = towers["demo"]
    with pytest.raises(UnknownNameError, match="'ViT-B-16'"):
        meta_tower("ViT-B16")
    with pytest.raises(UnknownNameError, match="'st-adapter'"):
        count_adapter_cost(tower, "st-adaptor")
    with pytest.raises(UnknownNameError, match="preset"):
        count_adapter_cost(tower, ST, {"preset": "nothing"})
    with pytest.raises(ValidationError):
        count_adapter_cost(tower, ST, {"widht": 3})
    with pytest.raises(AdapterError, match="at least 1 frame"):
        count_adapter_cost(tower, ST, frames=0)


PLUGIN = '''"""Plugin."""

from fewshot_i2v.models.adapters.base.adapter import Adapter, AdapterOptions, Preset
from fewshot_i2v.errors import AdapterError


class Options(AdapterOptions):
    heads: int = 1
    reads: bool = False


class Plugin(Adapter):
    Options = Options
    source = "a paper"
    identity_at_init = True
    frame_order = "no"
    display_note = "a note"
    presets = {
        "small": Preset({"heads": 1}, "table 1"),
        "wide": Preset({"heads": 9}, "table 2"),
        "curious": Preset({"reads": True}, "table 3"),
    }

    def __init__(self, tower, options, *, frames, seeds):
        super().__init__(tower, options, frames=frames, seeds=seeds)
        if options.heads > tower.heads:
            raise AdapterError("more heads than there are")

    def block(self, i, frozen, x):
        if self.options.reads and float(x.sum()) > 0:
            return x
        return frozen.forward(x)
'''


def test_rows_of_presets_and_of_what_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = tiny_tower()
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "my_plugin.py").write_text(PLUGIN)
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(tmp_path))
    monkeypatch.setattr(registry, "method_names", lambda _: ["my-plugin", "st-adapter"])
    rows = {row.label: row for row in compare_costs(tower, frames=2, presets=True)}
    without = [row.label for row in compare_costs(tower, frames=2)]
    assert without == ["my-plugin", "st-adapter"]
    assert without == [label for label, row in rows.items() if not row.preset]
    plain, small = rows["my-plugin"], rows["my-plugin:preset=small"]
    assert plain.cost is not None
    assert small.cost is not None
    assert plain.cost.macs_per_frame == small.cost.macs_per_frame == plain_macs(tower)
    assert (plain.source, small.source, plain.cost.note) == ("a paper", "table 1", "a note")
    wide, curious = rows["my-plugin:preset=wide"], rows["my-plugin:preset=curious"]
    assert (wide.cost, wide.reason) == (None, "more heads than there are")
    assert curious.cost is None
    assert "cannot be counted without weights" in curious.reason
    counted = macs_per_clip(tower, "my-plugin", {}, frames=2)
    assert counted == 2 * plain_macs(tower)
    assert macs_per_clip(tower, "my-plugin", {"reads": True}, frames=2) is None


@pytest.mark.parametrize("adapter", [AIM, ST, "frozen"])
def test_a_clip_costs_what_its_frames_do(adapter: str) -> None:
    tower = tiny_tower()
    frame = count_adapter_cost(tower, adapter, frames=4).macs_per_frame
    assert macs_per_clip(tower, adapter, {}, frames=4) == pytest.approx(4 * frame)
