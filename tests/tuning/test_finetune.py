"""Fine-tuning: independence of episodes, clipping, schedule, failure."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from fewshot_i2v import registry
from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.errors import TuningError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.heads.base.head import ClassTexts, Head
from fewshot_i2v.tuning.finetune import (
    EpisodeInputs,
    clip_episode_gradients,
    encode_in_chunks,
    finetune,
    finetune_and_predict,
    lr_factor,
    parameter_groups,
)
from fewshot_i2v.utils.seeding import derive_seed, deterministic
from tests.tiny import tiny_tower

FRAMES, WAY, SHOT, QUERY = 4, 3, 2, 2
RECIPE = FinetuneConfig(steps=3, lr=1e-2, head_lr=1e-2)
ADAPTERS, HEADS = registry.method_names("adapters"), registry.method_names("heads")
PAIRS = [(adapter, "linear") for adapter in ADAPTERS] + [("st-adapter", head) for head in HEADS]
every_adapter_and_head = pytest.mark.parametrize(("adapter", "head"), sorted(set(PAIRS)))


def _pixels(tower: Tower, episodes: int, clips: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (episodes, clips, FRAMES, tower.image_size, tower.image_size, 3)
    return tower.normalize(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8))


def _build(
    tower: Tower, seeds: list[int], adapter: str = "st-adapter", head: str = "linear"
) -> tuple[AdaptedEncoder, Head]:
    cls, head_cls = registry.load_method("adapters", adapter), registry.load_method("heads", head)
    encoder = AdaptedEncoder(tower, cls(tower, cls.Options(), frames=FRAMES, seeds=seeds))
    more = {"texts": _texts(tower, seeds)} if head_cls.uses_class_names else {}
    built: Head = head_cls(
        head_cls.Options(), width=tower.width, way=WAY, frames=FRAMES, seeds=seeds, **more
    )
    return encoder, built


def _texts(tower: Tower, seeds: list[int]) -> ClassTexts:
    """Names of the classes of each episode, in the space of the features."""
    drawn = [
        torch.randn(WAY, tower.width, generator=torch.Generator().manual_seed(s)) for s in seeds
    ]
    return ClassTexts(nn.functional.normalize(torch.stack(drawn), dim=-1), None, 10.0)


def _episodes(tower: Tower, encoder: AdaptedEncoder, rows: list[int]) -> EpisodeInputs:
    support = encoder.compute_prefix(_pixels(tower, 4, WAY * SHOT, 1)[rows])
    query = encoder.compute_prefix(_pixels(tower, 4, WAY * QUERY, 2)[rows])
    labels = torch.arange(WAY).repeat_interleave(SHOT).expand(len(rows), -1).contiguous()
    return EpisodeInputs(lambda _step: support, labels, query)


@every_adapter_and_head
def test_an_episode_is_the_same_alone_and_beside_others(adapter: str, head: str) -> None:
    tower = tiny_tower()
    seeds = [derive_seed("x", i) for i in range(3)]
    encoder, built = _build(tower, seeds, adapter, head)
    together = finetune_and_predict(encoder, built, _episodes(tower, encoder, [0, 1, 2]), RECIPE)
    for e in (0, 2):
        encoder, built = _build(tower, [seeds[e]], adapter, head)
        alone = finetune_and_predict(encoder, built, _episodes(tower, encoder, [e]), RECIPE)
        torch.testing.assert_close(alone.logits[0], together.logits[e], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alone.losses[0], together.losses[e], atol=1e-4, rtol=1e-4)


def test_tuning_fits_the_support_and_leaves_the_tower_alone() -> None:
    tower = tiny_tower()
    before = [t.clone() for b in tower.blocks for t in vars(b).values() if isinstance(t, Tensor)]
    encoder, head = _build(tower, [1, 2])
    losses = finetune(
        encoder,
        head,
        _episodes(tower, encoder, [0, 1]),
        FinetuneConfig(steps=30, lr=1e-2, head_lr=3e-2),
    )
    assert losses.shape == (2, 30)
    assert (losses[:, -1] < 0.3 * losses[:, 0]).all()
    after = [t for b in tower.blocks for t in vars(b).values() if isinstance(t, Tensor)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_nothing_to_train_gives_an_empty_trace() -> None:
    tower = tiny_tower()
    encoder, head = _build(tower, [1], "frozen", "prototype")
    result = finetune_and_predict(encoder, head, _episodes(tower, encoder, [0]), RECIPE)
    assert result.losses.shape == (1, 0)
    assert result.logits.shape == (1, WAY * QUERY, WAY)


# what is never decayed, by name: biases, norms, and the image model's class token and positions
VECTORS = r"(^|[._])(\w*bias|\w*norm(_\w+)?|ln_post|class_token|positions|gates)([._]|$)"
# temporal embeddings: AIM's configurations for CLIP decay them, ZeroI2V's exempt them
ALSO = {"zeroi2v": r"^temporal_embedding\.", "temporal-embedding": r"^embedding\."}


def _without_decay(encoder: AdaptedEncoder, head: Head, module: nn.Module) -> set[str]:
    rates = ((encoder.adapter, RECIPE.lr), (head, RECIPE.head_lr))
    groups = parameter_groups(rates, RECIPE.weight_decay)
    assert {g["weight_decay"] for g in groups} <= {0.0, RECIPE.weight_decay}
    free = {id(p) for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    every = [id(p) for g in groups for p in g["params"]]
    trained = [id(p) for part in (encoder.adapter, head) for p in part.parameters()]
    assert sorted(every) == sorted(trained)
    return {name for name, p in module.named_parameters() if id(p) in free}


@every_adapter_and_head
def test_biases_norms_and_what_the_method_exempts_are_not_decayed(adapter: str, head: str) -> None:
    encoder, built = _build(tiny_tower(), [1, 2], adapter, head)
    for module, also in ((encoder.adapter, ALSO.get(adapter, "^$")), (built, "^$")):
        named = list(module.named_parameters())
        by_name = {n for n, _ in named if re.search(VECTORS, n) or re.search(also, n)}
        assert by_name | {n for n, p in named if p.ndim < 3} == _without_decay(
            encoder, built, module
        )


@pytest.mark.parametrize(
    ("adapter", "free", "decayed"),
    [
        ("full", {"class_token", "positions"}, {"patch_weight"}),
        ("zeroi2v", {"temporal_embedding.table"}, {"mlp_in.0.down.weight"}),
        ("temporal-embedding", {"embedding.table"}, set()),
        ("aim", {"ln_post.weight"}, {"temporal_embedding.table", "joint.0.up.weight"}),
        ("st-adapter", {"pre_mlp.0.conv.bias"}, {"pre_mlp.0.conv.weight"}),
    ],
)
def test_published_exemptions(adapter: str, free: set[str], decayed: set[str]) -> None:
    encoder, head = _build(tiny_tower(), [1, 2], adapter)
    without = _without_decay(encoder, head, encoder.adapter)
    assert free <= without
    assert not decayed & without
    assert free | decayed <= {name for name, _ in encoder.adapter.named_parameters()}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_what_is_exempt_from_decay_exists(adapter: str) -> None:
    built = _build(tiny_tower(), [1, 2], adapter)[0].adapter
    names = [name for name, _ in built.named_parameters()]
    assert all(any(name.startswith(start) for name in names) for start in built.no_weight_decay)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_pooling_is_in_float32_also_for_a_bfloat16_tower(adapter: str) -> None:
    tower = tiny_tower().to("cpu", torch.bfloat16)
    encoder, _ = _build(tower, [1], adapter)
    features = encoder(encoder.compute_prefix(_pixels(tower, 1, 3, 5)))
    assert not torch.equal(features.clip, features.clip.bfloat16().float())
    assert not torch.equal(features.frames, features.frames.bfloat16().float())


def test_clipping_is_per_episode() -> None:
    a, b = nn.Parameter(torch.zeros(2, 3, 4)), nn.Parameter(torch.zeros(2, 5))
    a.grad, b.grad = torch.ones(2, 3, 4), torch.ones(2, 5)
    a.grad[1] *= 0.01
    b.grad[1] *= 0.01
    clip_episode_gradients([a, b], 1.0)
    norms = (a.grad.flatten(1).square().sum(1) + b.grad.flatten(1).square().sum(1)).sqrt()
    torch.testing.assert_close(norms, torch.tensor([1.0, 0.01 * 17**0.5]), atol=1e-5, rtol=1e-4)


def test_schedule_warms_up_and_ends_near_zero() -> None:
    recipe = FinetuneConfig(steps=10, warmup=0.2, schedule="cosine")
    factors = [lr_factor(step, recipe) for step in range(10)]
    assert factors[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert all(a >= b for a, b in pairwise(factors[2:]))
    assert 0 < factors[-1] < 0.1
    flat = FinetuneConfig(steps=10, warmup=0.0, schedule="constant")
    assert {lr_factor(step, flat) for step in range(10)} == {1.0}


def test_a_loss_that_is_not_finite_stops_with_the_step() -> None:
    tower = tiny_tower()
    encoder, head = _build(tower, [1], "aim")
    with pytest.raises(TuningError, match="finite"):
        finetune(
            encoder,
            head,
            _episodes(tower, encoder, [0]),
            FinetuneConfig(steps=20, lr=1e30, head_lr=1e30, clip_norm=None, warmup=0.0),
        )


def test_chunked_features_equal_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = tiny_tower()
    encoder, _ = _build(tower, [1, 2], "aim")
    tokens = encoder.compute_prefix(_pixels(tower, 2, 5, 3))
    whole = encode_in_chunks(encoder, tokens, grid_sizes=(2,))
    monkeypatch.setattr("fewshot_i2v.tuning.finetune._QUERY_ELEMENT_BUDGET", 1)
    parts = encode_in_chunks(encoder, tokens, grid_sizes=(2,))
    torch.testing.assert_close(whole.frames, parts.frames)
    torch.testing.assert_close(whole.clip, parts.clip)
    assert whole.grids.keys() == parts.grids.keys() == {2}
    torch.testing.assert_close(whole.grids[2], parts.grids[2])


def test_seeds_depend_on_every_part() -> None:
    assert derive_seed("a", 1, 2) == 7464294545042451661
    seeds = {derive_seed(*p) for p in [("a", 1, 2), ("a", 12), ("a", 1, 3), ("b", 1, 2)]}
    assert len(seeds) == 4


def test_deterministic_mode_is_restored() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.are_deterministic_algorithms_enabled() == before


def test_bfloat16_tower_keeps_masters_and_loss_in_float32() -> None:
    tower = tiny_tower().to("cpu", torch.bfloat16)
    encoder, head = _build(tower, [1, 2])
    episodes = _episodes(tower, encoder, [0, 1])
    assert episodes.query.dtype == torch.bfloat16
    result = finetune_and_predict(encoder, head, episodes, RECIPE)
    assert result.logits.dtype == result.losses.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in encoder.parameters())
    full = tiny_tower()
    encoder, head = _build(full, [1, 2])
    exact = finetune_and_predict(encoder, head, _episodes(full, encoder, [0, 1]), RECIPE)
    torch.testing.assert_close(result.losses, exact.losses, atol=3e-2, rtol=3e-2)


@pytest.mark.gpu
@every_adapter_and_head
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_agrees_with_the_cpu(adapter: str, head: str, dtype: torch.dtype) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    losses = []
    for device in ("cpu", "cuda"):
        tower = tiny_tower().to(device, dtype)
        encoder, built = _build(tower, [1, 2], adapter, head)
        encoder.adapter.to(device)
        built.to(device)
        support = encoder.compute_prefix(_pixels(tower, 2, WAY * SHOT, 1))
        labels = torch.arange(WAY).repeat_interleave(SHOT).expand(2, -1).contiguous().to(device)
        episodes = EpisodeInputs(lambda _step, s=support: s, labels, support)  # type: ignore[misc]
        losses.append(finetune_and_predict(encoder, built, episodes, RECIPE).losses)
    limit = 1e-3 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(losses[0], losses[1], atol=limit, rtol=limit)
