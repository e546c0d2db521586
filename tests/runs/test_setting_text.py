"""The setting of a table in words."""

from __future__ import annotations

import pytest

from fewshot_i2v.runs.run_index import setting_text

CONFIG = {
    "split": "motions",
    "subset": "novel",
    "query": 5,
    "seed": 0,
    "encoder": {"name": "demo"},
    "video": {"frames": 8},
}


@pytest.mark.parametrize(
    ("precision", "end"),
    [
        ("fp32", "8 frames"),
        (None, "8 frames"),
        ("bf16", "8 frames, bf16"),
        ("mixed", "8 frames, mixed precision"),
    ],
)
def test_the_precision_is_named_where_it_is_not_fp32(precision: str | None, end: str) -> None:
    config = CONFIG if precision is None else CONFIG | {"precision": precision}
    assert setting_text(config, 5) == (
        f"split motions (novel), 5-way, 5 query clips per class, seed 0, encoder demo, {end}"
    )
