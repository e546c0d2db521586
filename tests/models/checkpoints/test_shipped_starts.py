"""The starting points that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_i2v import load_encoder, load_split, registry
from fewshot_i2v.config.start_names import names_of_starts, shipped_starts_folder
from fewshot_i2v.evaluation.evaluate import evaluate
from fewshot_i2v.models.checkpoints.starting_point import read_start

ADAPTERS = ("adaptformer", "aim", "m-adapter", "st-adapter", "zeroi2v")
LIMIT = 1_500_000
NAME = "demo-motions"


def test_there_is_one_for_each_published_method() -> None:
    assert NAME in names_of_starts()
    folders = sorted(
        path.name for path in (shipped_starts_folder() / NAME).iterdir() if path.is_dir()
    )
    assert folders == sorted(ADAPTERS)


@pytest.mark.parametrize("name", ADAPTERS)
def test_it_fits_the_shipped_encoder_and_split(name: str) -> None:
    start = read_start(NAME, name)
    facts, split, encoder = start.facts, load_split("motions"), load_encoder("demo")
    assert (facts.kind, facts.stored, facts.subset) == ("base-trained", "float16", "base")
    assert facts.split.digest == split.digest
    assert set(facts.classes) == set(split.classes("base"))
    assert not start.facts.overlap_with(split, "novel")
    assert start.facts.overlap_with(split, "base")
    cls = registry.load_method("adapters", name)
    adapter = cls(
        encoder.tower,
        cls.parse(start.metadata.adapter.options),
        frames=start.metadata.frames,
        seeds=[0, 1],
    )
    start.load_into(adapter, encoder)
    trained = [p for p in adapter.parameters() if p.detach().abs().sum() > 0]
    assert trained
    assert sum(path.stat().st_size for path in start.folder.iterdir()) <= LIMIT


@pytest.mark.slow
def test_a_temporal_one_sees_the_motion(tmp_path: Path) -> None:
    result = evaluate(
        "quickstart",
        adapter=["frozen", "st-adapter"],
        start=["fresh", NAME],
        tuning={"steps": 0},
        shot=[5],
        episodes=40,
        output=str(tmp_path / "run"),
        cache=str(tmp_path / "cache"),
    )
    means = {(row.adapter, row.start): row.interval.mean for row in result.rows if row.interval}
    assert means["st-adapter", "base-trained"] > 0.9
    assert means["st-adapter", "base-trained"] - means["frozen", "fresh"] > 0.08
