"""Notes and flags of a row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.identity import display_flags, row_notes
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.runs.row_summary import display_facts


@pytest.mark.parametrize(
    ("encoder", "generator", "toy"),
    [("demo", None, True), ("demo", "motions", False), ("ViT-B-16", None, False)],
)
def test_the_toy_encoder_on_files_is_flagged_and_the_way_out_is_named(
    encoder: str, generator: str | None, toy: bool
) -> None:
    row = expand_rows(load_config({"split": "motions", "encoder": encoder}))[0]
    split = SimpleNamespace(generator=generator)
    context = cast("EvaluationContext", SimpleNamespace(split=split, trials=None, encoder=None))
    flags: dict[str, Any] = display_flags(row, context, None, 0)
    assert flags.get("toy_encoder", False) is toy
    assert display_facts(flags)["toy_encoder"] is toy
    # the command says it before the run, and the table says it below: a note would be a third time
    assert not any("toy" in note for note in row_notes(row, context, None))
