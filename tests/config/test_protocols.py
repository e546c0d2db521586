"""The published protocols as configurations: their episodes can be drawn without any video."""

from __future__ import annotations

import re

import pytest

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.evaluation.context import make_episode_source, take_episodes
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.utils import resources
from tests.data.splits.published import published

EPISODIC = ("protocols/clip-fsar", "protocols/trx", "protocols/d2st-adapter")
ALL_WAY = "protocols/vifi-clip"


def config_of(name: str, **over: object) -> EvaluationConfig:
    return load_config(name, over)


def specs_of(config: EvaluationConfig, split: Split) -> dict[object, list[Episode]]:
    return {
        shot: take_episodes(make_episode_source(split, config, shot), config.episodes)
        for shot in config.shot
    }


def test_these_are_all() -> None:
    names = [n for n in resources.data_names("configs") if n.startswith("protocols/")]
    assert sorted(names) == sorted([*EPISODIC, ALL_WAY])


@pytest.mark.parametrize("name", EPISODIC)
def test_episodic_ones_ask_ten_thousand_tasks_of_one_query(name: str) -> None:
    config = config_of(name)
    assert (config.way, config.query, config.episodes, config.subset) == (5, 1, 10_000, "novel")
    assert (config.video.frames, config.video.crop) == (8, 224 / 256)
    few = config_of(name, episodes=20)
    for shot, specs in specs_of(few, published()[few.split]).items():
        assert len(specs) == 20
        assert all(spec.shape == (5, 5 * int(str(shot)), 5) for spec in specs)


@pytest.mark.parametrize("name", EPISODIC)
def test_the_splits_that_are_named_can_give_them(name: str) -> None:
    text = resources.data_file("configs", name).read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("split:"))
    named = re.findall(r"[a-z0-9]+-[a-z0-9-]+", line.replace("--split", ""))
    assert len(named) >= 4
    for split in named:
        config = config_of(name, split=split, episodes=3)
        assert all(len(specs) == 3 for specs in specs_of(config, published()[split]).values())


@pytest.mark.parametrize(
    ("split", "way", "asked"),
    [("hmdb51-kshot", 51, 1530), ("ucf101-kshot", 101, 3783), ("ssv2-kshot", 174, 24_777)],
)
def test_all_classes_learn_from_the_published_clips(split: str, way: int, asked: int) -> None:
    listed = published()[split]
    for shot, specs in specs_of(config_of(ALL_WAY, split=split), listed).items():
        (spec,) = specs
        assert spec.shape == (way, way * int(str(shot)), asked)
        (drawn,) = [d for d in listed.draws["vificlip"] if d.shot == shot]
        assert dict(zip(spec.classes, spec.support, strict=True)) == {
            name: tuple(sorted(clips)) for name, clips in drawn.clips.items()
        }


@pytest.mark.parametrize("name", [*EPISODIC, ALL_WAY])
def test_each_says_where_it_was_read_and_how_we_differ(name: str) -> None:
    text = resources.data_file("configs", name).read_text(encoding="utf-8")
    assert "# Where we differ" in text
    read = next(line for line in text.splitlines() if line.startswith("# Read in: "))
    repository = read.split()[3]
    assert config_of(name).source == f"https://github.com/{repository}"
    assert re.search(r" at [0-9a-f]{8,40}", text)
