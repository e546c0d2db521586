"""Heads that read class names, end to end on the shipped encoder and generated clips."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import ConfigError, EncoderError, HeadError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.models.encoders.text_tower import load_text_tower
from tests.tiny import tiny_architecture, tiny_split

READERS = ["zero-shot", "tip", "text-prototype"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Split and decoded clips that the tests of this file share."""
    folder = tmp_path_factory.mktemp("text")
    tiny_architecture(folder)
    tiny_split(folder)
    return folder


def _config(folder: Path, output: Path, **changes: Any) -> EvaluationConfig:
    settings: dict[str, Any] = {
        "split": str(folder / "tiny.yaml"),
        "encoder": {"name": "demo"},
        "video": {"frames": 2, "crop": 1.0},
        "adapter": ["frozen"],
        "head": READERS,
        "way": 3,
        "shot": [1],
        "query": 2,
        "episodes": 3,
        "tuning": {"steps": 0},
        "at_once": 2,
        "workers": 1,
        "cache": str(folder / "cache"),
        "output": str(output),
    }
    return load_config(settings | changes, {})


def _random(folder: Path) -> dict[str, str]:
    return {
        "name": "tiny",
        "architecture": str(folder / "tiny.json"),
        "pretrained": "random",
    }


def _header(path: Path) -> dict[str, Any]:
    header: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
    return header


def _records(path: Path) -> list[dict[str, Any]]:
    lines = (path / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_rows_that_read_names_are_marked_and_carry_the_text_towers_digest(
    folder: Path, tmp_path: Path
) -> None:
    result = evaluate.run(_config(folder, tmp_path, head=[*READERS, "prototype"]))
    assert [row.uses_names for row in result.rows] == [True, True, True, False]
    assert [row.episodes for row in result.rows] == [3] * 4
    digest = load_text_tower("demo").digest
    for row in result.rows:
        identity = _header(row.folder)["identity"]
        assert identity.get("text") == ({"digest": digest} if row.uses_names else None)
        for record in _records(row.folder):
            assert all(abs(sum(p) - 1) < 1e-4 for p in record["probabilities"])
    assert "names" in _heading(result.table())
    alone = evaluate.run(_config(folder, tmp_path, head="prototype"))
    assert "names" not in _heading(alone.table())


def _heading(table: str) -> list[str]:
    return next(line for line in table.splitlines() if "accuracy %" in line).split()


def test_names_decide_and_support_clips_do_not_where_the_head_says_so(
    folder: Path, tmp_path: Path
) -> None:
    both = _config(folder, tmp_path, head="zero-shot", shot=[1, 2], query=1)
    one, two = (_records(row.folder) for row in evaluate.run(both).rows)
    assert [r["probabilities"] for r in one] == [r["probabilities"] for r in two]
    other = _config(folder, tmp_path / "other", head="zero-shot:templates='not a {}'", query=1)
    said = _records(evaluate.run(other).rows[0].folder)
    assert [r["probabilities"] for r in one] != [r["probabilities"] for r in said]


def test_an_adapter_is_tuned_through_a_head_that_reads_names(folder: Path, tmp_path: Path) -> None:
    few: dict[str, Any] = {"shot": 2, "episodes": 2, "tuning": {"steps": 3}}
    config = _config(folder, tmp_path, adapter="st-adapter", **few)
    for row in evaluate.run(config).rows:
        for record in _records(row.folder):
            assert record["losses"][-1] < record["losses"][0]


def test_a_run_cut_short_continues_to_the_same_records(folder: Path, tmp_path: Path) -> None:
    whole = evaluate.run(_config(folder, tmp_path / "whole", head="tip", episodes=4)).rows[0]
    cut = tmp_path / "cut" / whole.folder.name
    shutil.copytree(whole.folder, cut)
    path = cut / "episodes.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    evaluate.run(_config(folder, tmp_path / "cut", head="tip", episodes=4))
    after, before = (
        [(r["index"], r["probabilities"]) for r in _records(p)] for p in (cut, whole.folder)
    )
    assert after == before


@pytest.mark.parametrize("head", READERS)
def test_without_a_text_tower_nothing_is_decoded_or_written(
    head: str, folder: Path, tmp_path: Path
) -> None:
    changes = {"encoder": _random(folder), "cache": str(tmp_path / "cache")}
    config = _config(folder, tmp_path / "out", head=["prototype", head], **changes)
    message = r"encoder 'tiny' has no text tower: its weights are random .*need one: use a head"
    for call in (evaluate.run, evaluate.dry_run):
        with pytest.raises(EncoderError, match=message):
            call(config)
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "cache").rglob("*"))


def test_other_heads_need_no_text_tower(folder: Path, tmp_path: Path) -> None:
    config = _config(folder, tmp_path, head="prototype", encoder=_random(folder), episodes=2)
    (row,) = evaluate.run(config).rows
    assert row.episodes == 2
    assert "text" not in _header(row.folder)["identity"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"head": "tip:templates='a video'"}, ConfigError, r"'tip': templates.*exactly one \{\}"),
        ({"head": "tip:templates=[]"}, ConfigError, "'tip': templates"),
        ({"head": "tip:tokens=grid2"}, HeadError, "use tokens=summary"),
        (
            {"head": f"tip:templates='{'very ' * 40}long {{}}'"},
            EncoderError,
            "at most 30. Shorten",
        ),
    ],
)
def test_wrong_prompts_show_before_any_clip_is_touched(
    changes: dict[str, Any], error: type[Exception], message: str, folder: Path, tmp_path: Path
) -> None:
    cache = {"cache": str(tmp_path / "cache")}
    with pytest.raises(error, match=message):
        evaluate.run(_config(folder, tmp_path / "out", **changes, **cache))
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "cache").rglob("*"))


def test_the_text_tower_is_loaded_for_rows_that_read_names_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: EvaluationContext) -> None:
        raise AssertionError("the text tower was loaded")

    monkeypatch.setattr(EvaluationContext, "text_tower", property(refuse))
    assert evaluate.run(_config(folder, tmp_path, head="prototype")).rows[0].episodes == 3
