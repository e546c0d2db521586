"""What a fine-tuning step costs, counted without a device: it may not become dearer unnoticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from fewshot_i2v import registry
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.encoders.transfer import send
from fewshot_i2v.models.heads.base import labels
from fewshot_i2v.tuning.contract.tiny_encoder import make_clips, perturb
from tests.counted import SCRIPT
from tests.tiny import tiny_tower

BENCHMARKS = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"

# kernels, MB and MFLOP of a step: the tiny tower, 2 episodes of 5 clips of 8 frames
CEILINGS = {
    "adaptformer": (141, 21.90, 191.9),
    "aim": (370, 51.96, 278.6),
    "bitfit": (161, 26.86, 174.7),
    "full": (266, 50.60, 282.8),
    "lora": (269, 36.38, 253.4),
    "m-adapter": (377, 12.84, 14.1),
    "st-adapter": (163, 23.07, 166.2),
    "temporal-embedding": (87, 20.46, 169.4),
    "zeroi2v": (406, 36.62, 207.8),
}
_SLACK = 1.03  # versions of torch differ in a few small operations


def _assert_close_below(ceilings: tuple[float, float, float], **step: object) -> None:
    count = SCRIPT["count_step"](**step)
    found = (count.kernels, count.bytes / 1e6, count.flop / 1e6)
    for value, ceiling in zip(found, ceilings, strict=True):
        assert value <= _SLACK * ceiling
        # far below it, the ceiling would not notice that the gain is lost again
        assert value > 0.9 * ceiling, "cheaper than before: lower the ceiling"


@pytest.mark.parametrize("adapter", CEILINGS)
def test_a_step_is_no_dearer_than_it_was(adapter: str) -> None:
    _assert_close_below(CEILINGS[adapter], tower=tiny_tower(), adapter=adapter, episodes=2)


def test_nor_is_one_of_st_adapter_on_vit_b16() -> None:
    ceilings = (748, 17_199, 2_928_860)
    _assert_close_below(ceilings, tower=SCRIPT["vit_b16"](), adapter="st-adapter")


def test_what_is_counted() -> None:
    weight = torch.empty(1, 4, 3, device="meta", requires_grad=True)
    x = torch.empty(1, 5, 4, device="meta")
    with SCRIPT["counting"]() as count:
        torch.autograd.backward(torch.bmm(x, weight).transpose(1, 2).sum())
    # product, sum, the gradient 1 of the sum, and the product for the weight; views cost nothing
    assert count.by_operation == {"bmm": 2, "sum": 1, "ones_like": 1}
    assert count.kernels == 4
    assert count.flop == 2 * (2 * 5 * 4 * 3)
    values = (20 + 12 + 15) + (15 + 1) + 2 + (20 + 15 + 12)
    assert count.bytes == 4 * values


# what dearer operations cost at least, of bytes, for an adapter that has the saving
SAVED = {
    "class-token": ("st-adapter", 1.03),
    "temporal-convolution": ("st-adapter", 1.05),
    "head-shift": ("zeroi2v", 1.05),
    "scales": ("aim", 1.0),
    "norms": ("m-adapter", 1.3),
}


@pytest.mark.parametrize("saving", SCRIPT["SAVINGS"])
def test_a_step_without_a_saving_is_dearer_and_computes_the_same(saving: str) -> None:
    adapter, factor = SAVED[saving]
    tower = tiny_tower()
    with_it, without = (
        SCRIPT["count_step"](tower, adapter, episodes=2, without=names) for names in ((), (saving,))
    )
    assert without.bytes > factor * with_it.bytes
    results = []
    for names in ((), (saving,)):
        method = registry.load_method("adapters", adapter)
        built = perturb(method(tower, method.parse({}), frames=5, seeds=[0, 1]), [2, 3])
        with SCRIPT["savings_left_out"](names):
            encoder = AdaptedEncoder(tower, built)
            prefix = encoder.compute_prefix(make_clips(tower, 2, 3))
            clip = encoder(prefix).clip
            torch.autograd.backward(clip.square().sum())
        gradients = {n: p.grad for n, p in built.named_parameters() if p.grad is not None}
        results.append({"clip": clip, **gradients})
    ours, plain = results
    assert ours.keys() <= plain.keys()  # where all tokens are computed, each parameter has one
    for name, value in ours.items():
        torch.testing.assert_close(value, plain[name], atol=2e-4, rtol=2e-4)


def test_the_waits_of_a_step_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _waits

    cases = {"mini-batches": _waits.CASES["mini-batches"]}
    monkeypatch.setattr(_waits, "CASES", cases)
    assert _waits.waits_of_a_step("bitfit") == {"mini-batches": 0}

    def _waiting(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        tensor.to(device)  # without pinned memory, as one would write it
        return send(tensor, device)

    monkeypatch.setattr(labels, "send", _waiting)
    assert _waits.waits_of_a_step("bitfit")["mini-batches"] > 0


def test_the_figures_are_written(tmp_path: Path) -> None:
    out = tmp_path / "counts.json"
    asked = ["--adapter", "temporal-embedding", "--episodes", "1", "--grid", "4", "--out", str(out)]
    result = CliRunner().invoke(SCRIPT["main"], asked)
    assert result.exit_code == 0, result.output
    written = json.loads(out.read_text(encoding="utf-8"))
    (row,) = written["rows"]
    assert f"{row['kernels']:>9}" in result.output
    assert sum(row["by_operation"].values()) == row["kernels"]
    assert written["shape"] == "5-way 1-shot, 8 frames, grid4"


def test_the_record_has_the_counts_and_waits_of_every_adapter() -> None:
    """And no adapter waits in a step, but for what is computed once per clip."""
    record = BENCHMARKS / "results" / "step-counts-vit-b16.json"
    rows = json.loads(record.read_text(encoding="utf-8"))["rows"]
    assert {row["adapter"] for row in rows} == set(CEILINGS)
    for row in rows:
        for case, count in row["waits"].items():
            is_levels = row["adapter"] == "m-adapter" and case == "mini-batches"
            assert bool(count) == is_levels
