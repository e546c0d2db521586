"""Choices of adapters and heads, the rows of a run, and what makes two rows the same."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v.config.method import MethodSpec, parse_value
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config

BASE: dict[str, Any] = {"split": "motions", "adapter": "frozen"}


# --- choices ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("st-adapter", {}),
        ("st-adapter:sites=both,width=64", {"sites": "both", "width": 64}),
        ("aim:scale=1e-3, temporal=false", {"scale": 0.001, "temporal": False}),
        ("a:x=no,y=null,z=[1, 2],w='a,b'", {"x": "no", "y": None, "z": [1, 2], "w": "a,b"}),
        ("a:x=010", {"x": "010"}),
        ("a:x=don't,y=isn't", {"x": "don't", "y": "isn't"}),
        (r'a:x="\"",y="a\\",z={b: "1,2"}', {"x": '"', "y": "a\\", "z": {"b": "1,2"}}),
    ],
)
def test_options_are_read_as_yaml_scalars(text: str, options: dict[str, Any]) -> None:
    assert MethodSpec.parse(text).options == options


def test_the_three_forms_of_a_choice_are_equal() -> None:
    text = MethodSpec.parse("st-adapter:width=64,sites=both")
    flat = MethodSpec.model_validate({"name": "st-adapter", "sites": "both", "width": 64})
    long = MethodSpec.model_validate(
        {"name": "st-adapter", "options": {"sites": "both", "width": 64}}
    )
    assert text == flat == long
    assert text.label == long.label == "st-adapter:sites=both,width=64"
    assert hash(text) == hash(long)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z_]{0,5}", fullmatch=True),
        st.one_of(
            st.booleans(),
            st.none(),
            st.integers(-(10**6), 10**6),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(
                st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), max_size=8
            ),
        ),
        max_size=3,
    )
)
def test_a_label_reads_back_as_the_same_choice(options: dict[str, Any]) -> None:
    choice = MethodSpec(name="x", options=options)
    assert MethodSpec.parse(choice.label) == choice


@pytest.mark.parametrize(
    "text", ["", ":", "a:", "a:b", "a:=1", "a:b=", "a:b=[1", "a b", "a:b=!x 1"]
)
def test_malformed_choices_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        MethodSpec.parse(text)


def test_values_of_set_are_yaml_and_one_line() -> None:
    assert parse_value("1e-3", "x") == 0.001
    assert parse_value("[a, 2]", "x") == ["a", 2]
    with pytest.raises(ConfigError, match="line break"):
        parse_value("1\nway: 2", "x")


# --- rows ---------------------------------------------------------------------------------------


def test_rows_nest_shots_in_heads_in_adapters() -> None:
    rows = expand_rows(
        load_config(
            BASE,
            {"adapter": ["frozen", "aim"], "head": ["linear", "prototype"], "shot": [1, 5]},
        )
    )
    triples = [(row.adapter.name, row.head.name, row.shot) for row in rows]
    assert triples == [
        (a, h, k) for a in ("frozen", "aim") for h in ("linear", "prototype") for k in (1, 5)
    ]
    assert rows[1].slug == "frozen-linear-5shot"


def test_untuned_rows_stand_beside_tuned_rows_of_trained_starts() -> None:
    keys = {
        "encoder": "demo",
        "video.frames": 8,
        "adapter": ["frozen", "aim"],
        "start": ["fresh", "demo-motions"],
        "head": "prototype",
    }
    tuned = expand_rows(load_config(BASE, keys))
    rows = expand_rows(load_config(BASE, {**keys, "untuned": True}))
    assert [(row.slug, row.start, row.tuning.steps > 0) for row in rows] == [
        ("frozen-prototype-1shot", "fresh", True),
        ("aim-prototype-1shot", "fresh", True),
        ("aim-prototype-1shot-untuned-from-demo-motions", "demo-motions", False),
        ("aim-prototype-1shot-from-demo-motions", "demo-motions", True),
    ]
    assert [row for row in rows if row.tuning.steps] == tuned
    # a row of a run with --steps 0 is the same row
    alone = expand_rows(load_config(BASE, {**keys, "tuning.steps": 0, "tuning.recipe": "none"}))
    assert rows[2].identity() == alone[2].identity()


def test_a_row_without_steps_has_no_untuned_row_beside_it() -> None:
    keys = {"encoder": "demo", "adapter": "aim", "start": "demo-motions", "tuning.steps": 0}
    rows = expand_rows(load_config(BASE, {**keys, "untuned": True}))
    assert [row.slug for row in rows] == ["aim-linear-1shot-from-demo-motions"]
    assert rows == expand_rows(load_config(BASE, keys))


def test_slugs_are_safe_unique_and_do_not_depend_on_other_rows() -> None:
    options = ["x=1", "x='1'", "x='a/b'", "x='A/b'", "x='a b'", f"x={'y' * 300}", f"x={'y' * 301}"]
    adapters = [*(f"aim:{o}" for o in options), "aim"]
    rows = expand_rows(load_config(BASE, {"adapter": adapters}))
    slugs = [row.slug for row in rows]
    assert len({slug.casefold() for slug in slugs}) == len(adapters)
    assert all(re.fullmatch(r"[A-Za-z0-9_.,=+-]{1,120}", slug) for slug in slugs)
    assert slugs[0] == "aim_x=1-linear-1shot"
    for adapter, slug in zip(adapters, slugs, strict=True):
        assert expand_rows(load_config(BASE, {"adapter": adapter}))[0].slug == slug


def test_identity_is_what_decides_the_results() -> None:
    row = expand_rows(load_config(BASE))[0]
    same = {
        "episodes": 3,
        "output": "x",
        "workers": 2,
        "cache": "c",
        "max_failed": 9,
        "name": "other",
        "source": "elsewhere",
        "root": "r",
        "device": "cpu",
        "at_once": 2,
        "limits.frames": 9,
        "limits.pixels": 9,
        "limits.seconds": 9.0,
        "limits.memory": 9.0,
    }
    for key, value in same.items():
        assert expand_rows(load_config(BASE, {key: value}))[0].identity() == row.identity(), key
    different = {
        "seed": 1,
        "way": 3,
        "shot": 2,
        "query": 1,
        "subset": "base",
        "disjoint_groups": True,
        "head": "prototype",
        "adapter": "frozen:x=1",
        "precision": "bf16",
        "encoder.mean": 0.5,
        "video.frames": 4,
        "tuning.lr": 0.5,
        "recipes.frozen.lr": 0.5,
    }
    for key, value in different.items():
        assert expand_rows(load_config(BASE, {key: value}))[0].identity() != row.identity(), key
    assert json.loads(json.dumps(row.identity())) == row.identity()


def test_identity_does_not_depend_on_where_files_lie() -> None:
    one = {"split": "a/mine.yaml", "encoder": {"pretrained": "a/w.pt", "architecture": "a/m.json"}}
    two = {"split": "b/mine.yaml", "encoder": {"pretrained": "b/w.pt", "architecture": "b/m.json"}}
    first, second = (expand_rows(load_config(BASE, over))[0].identity() for over in (one, two))
    assert first == second
    assert first["split"] == "mine"
    assert first["encoder"]["pretrained"] == "w.pt"


# --- starting points ----------------------------------------------------------------------------


def _start(folder: Path, adapter: str, digest: str = "d") -> str:
    """What of a starting point is looked at before it is loaded."""
    folder.mkdir(parents=True)
    plain = {"adapter": {"name": adapter}, "tensors": {"sha256": digest}}
    (folder / "adapter.json").write_text(json.dumps(plain))
    return str(folder)


@pytest.mark.parametrize(
    ("slug", "sha256"),
    [
        ("frozen-linear-1shot", "9a0b8b3a675cfe3b"),
        ("aim_scale=0.5-linear-5shot", "37483b1f4936de55"),
        ("aim_scale=_0_5_-linear-5shot-ea09f0ba", "89e480c9f3811941"),
    ],
)
@pytest.mark.parametrize("over", [{}, {"start": "fresh"}, {"allow_seen": True}])
def test_fresh_rows_are_what_they_were_before_there_were_starts(
    slug: str, sha256: str, over: dict[str, Any]
) -> None:
    adapters = ["frozen", "aim:scale=0.5", "aim:scale='0/5'"]
    config = {**BASE, "adapter": adapters, "head": ["linear"], "shot": [1, 5]}
    # a run resolves the precision "auto" to one of these before it makes its rows
    config |= {"tuning": {"recipe": "none"}, "precision": "fp32"}
    rows = load_config(config, over)
    row = {row.slug: row for row in expand_rows(rows)}[slug]
    text = json.dumps(row.identity(), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest().startswith(sha256)


def test_starts_nest_between_adapters_and_heads(tmp_path: Path) -> None:
    start = _start(tmp_path / "mine", "aim")
    over = {"adapter": ["frozen", "aim"], "start": ["fresh", start], "head": ["linear", "otam"]}
    rows = expand_rows(load_config(BASE, over))
    assert [row.slug for row in rows] == [
        "frozen-linear-1shot",
        "frozen-otam-1shot",
        "aim-linear-1shot",
        "aim-otam-1shot",
        "aim-linear-1shot-from-mine",
        "aim-otam-1shot-from-mine",
    ]
    assert [row.start for row in rows] == ["fresh"] * 4 + [start] * 2
    fresh, started = rows[2].identity(), rows[4].identity()
    assert started["tuning"] != fresh["tuning"]  # another recipe
    assert started == {**fresh, "start": "mine", "tuning": started["tuning"]}


def test_starts_of_one_name_have_slugs_of_their_own(tmp_path: Path) -> None:
    starts = [_start(tmp_path / name / "mine", "aim", name) for name in ("a", "b")]
    rows = expand_rows(load_config(BASE, {"adapter": "aim", "start": starts}))
    assert len({row.slug for row in rows}) == 2
    elsewhere = [_start(tmp_path / "x" / name / "mine", "aim", name) for name in ("a", "b")]
    again = expand_rows(load_config(BASE, {"adapter": "aim", "start": elsewhere}))
    assert [row.slug for row in again] == [row.slug for row in rows]


def test_starts_can_be_given_as_paths_and_read_back(tmp_path: Path) -> None:
    start = _start(tmp_path / "mine", "aim")
    config = load_config(BASE, {"adapter": "aim", "start": Path(start)})
    assert config.start == (start,)
    assert load_config(config.model_dump()) == config
    for wrong in ([], ["fresh", "fresh"], [""], 3):
        with pytest.raises(ConfigError, match="start"):
            load_config(BASE, {"start": wrong})


# --- what heads see -----------------------------------------------------------------------------


def test_tokens_go_to_the_heads_that_do_not_say_themselves() -> None:
    heads = ["linear", "prototype:tokens=summary"]
    config = load_config({**BASE, "head": heads, "tokens": "grid4"})
    labels = [row.head.label for row in expand_rows(config)]
    assert labels == ["linear:tokens=grid4", "prototype:tokens=summary"]
    assert [row.head.label for row in expand_rows(load_config({**BASE, "head": heads}))] == heads


@pytest.mark.parametrize("value", ["grid", "grid0", "patches", "grid100"])
def test_other_tokens_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="tokens"):
        load_config({**BASE, "tokens": value})
