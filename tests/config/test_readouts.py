"""Names of readouts: what they mean, and which are refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fewshot_i2v.config.readouts import Readout, parse_readouts
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.models.heads.base.head import HeadOptions

BASE = {"split": "motions", "adapter": "frozen", "head": "prototype"}


def test_names_say_kind_and_cells() -> None:
    assert parse_readouts("summary+grid4+motion3", 8) == (
        Readout("summary"),
        Readout("grid", 4, 4),
        Readout("motion", 3, 8),
    )


def test_readouts_of_the_frozen_encoder_have_a_prefix() -> None:
    assert parse_readouts("grid4+frozen-motion+frozen-summary", 8) == (
        Readout("grid", 4, 4),
        Readout("motion", 8, 8, frozen=True),
        Readout("summary", frozen=True),
    )


def test_motion_is_of_all_patches_unless_cells_are_named() -> None:
    assert parse_readouts("motion", 14) == (Readout("motion", 14, 14),)


def test_widths_are_channels_of_a_frame() -> None:
    readouts = parse_readouts("summary+grid4+motion3+motion+projected", 7, 6)
    assert [readout.width(10) for readout in readouts] == [10, 160, 9, 49, 6]


@pytest.mark.parametrize(
    "value",
    [
        "moton",
        "motion0",
        "motion100",
        "grid4+",
        "+grid4",
        "grid4,motion",
        "summary2",
        "",
        "frozen-",
        "frozen-frozen-grid4",
    ],
)
def test_other_names_are_refused_with_those_that_exist(value: str) -> None:
    said = (
        r"tokens: got .*expected 'summary', 'projected', 'gridN', 'motion' or 'motionN' .*"
        r"joined by '\+'"
    )
    with pytest.raises(ConfigError, match=said):
        load_config({**BASE, "tokens": value})


@pytest.mark.parametrize(
    "value", ["grid4+grid4", "frozen-grid4+motion+frozen-grid4", "motion+grid2+motion"]
)
def test_each_readout_is_read_once(value: str) -> None:
    with pytest.raises(ConfigError, match=r"tokens: got .*expected each readout once"):
        load_config({**BASE, "tokens": value})


def test_both_names_of_the_option_in_one_head_are_refused() -> None:
    with pytest.raises(ConfigError, match="tokens=summary and readouts=motion, two names of one"):
        load_config({**BASE, "head": "otam:readouts=motion,tokens=summary"})
    with pytest.raises(ValidationError, match="two names of one option; give one of them"):
        HeadOptions.model_validate({"tokens": "summary", "readouts": "motion"})


def test_the_tokens_of_an_evaluation_are_those_of_heads_that_say_none() -> None:
    heads = ["prototype", "nearest:tokens=summary", "otam:readouts=grid2+motion"]
    config = load_config({**BASE, "head": heads, "tokens": "grid4+motion"})
    assert [row.head.options for row in expand_rows(config)] == [
        {"tokens": "grid4+motion"},
        {"tokens": "summary"},
        {"tokens": "grid2+motion"},
    ]
