"""Evaluations of episodes of every kind: uneven, disjoint, all classes, published draws, frozen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.episode_file import make_episode_file, write_episode_file
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import ConfigError, EpisodeError, RecordError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.batching import group_by_shape, mini_batch_indices
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.export import export_episode
from fewshot_i2v.evaluation.row_execution import EpisodeSelection
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.runs.run_folder import RunData, read_run
from fewshot_i2v.runs.shards import Shard
from tests.tiny import tiny_architecture, tiny_folder, tiny_run, tiny_split

UNEVEN: dict[str, Any] = {"way": "2-4", "shot": "1-3", "uneven_shots": True, "query": 2}


@dataclass
class Runs:
    """Small evaluations of one split of generated clips."""

    folder: Path

    def config(self, name: str, **changes: Any) -> EvaluationConfig:
        given = {"episodes": 6, "adapter": "st-adapter", "head": "linear", **changes}
        return tiny_run(self.folder, self.folder / "runs" / name, **given)

    def records(self, name: str, **changes: Any) -> RunData:
        return read_run(evaluate.run(self.config(name, **changes)).rows[0].folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("kinds")
    tiny_split(folder)
    tiny_architecture(folder)
    return Runs(folder)


def probabilities(data: RunData) -> dict[int, np.ndarray]:
    return {i: np.array(record.probabilities) for i, record in data.records.items()}


def test_uneven_episodes_side_by_side_equal_each_alone(runs: Runs) -> None:
    together = runs.records("together", **UNEVEN, at_once=6)
    alone = runs.records("alone", **UNEVEN, at_once=1)
    assert list(together.records) == list(range(6))
    shapes = {tuple(map(len, record.support)) for record in together.records.values()}
    assert len(shapes) > 2
    for i, found in probabilities(together).items():
        np.testing.assert_allclose(found, probabilities(alone)[i], atol=1e-5)


def test_guessing_is_the_mean_over_episodes(runs: Runs) -> None:
    result = evaluate.run(runs.config("together", **UNEVEN, at_once=6))
    ways = [len(record.classes) for record in read_run(result.rows[0].folder).records.values()]
    assert result.way == f"{min(ways)}-{max(ways)}"
    assert result.rows[0].chance == pytest.approx(np.mean([1 / way for way in ways]))
    assert f"{100 * np.mean([1 / way for way in ways]):.1f} %" in result.table()
    assert result.rows[0].shot == "1-3"


def test_an_uneven_episode_is_exported_as_recorded(runs: Runs, tmp_path: Path) -> None:
    runs.records("together", **UNEVEN, at_once=6)
    folder = next((runs.folder / "runs" / "together").iterdir())
    exported = export_episode(folder, 3, tmp_path / "out", cache=str(runs.folder / "cache"))
    assert exported.difference < 1e-5


def test_disjoint_episodes_share_no_clip_and_the_table_says_so(runs: Runs) -> None:
    result = evaluate.run(runs.config("disjoint", sampling="disjoint", episodes="all", way=2))
    records = read_run(result.rows[0].folder).records.values()
    names = [n for r in records for part in (r.support, r.query) for row in part for n in row]
    assert len(names) == len(set(names))
    assert len(list(records)) == result.rows[0].episodes > 1
    assert not result.rows[0].shared
    assert "Fewer than 6 episodes: no interval." in result.table(notes=True)
    shared = evaluate.run(runs.config("shared", episodes=20, way=2, adapter="frozen"))
    assert "episodes share clips" in " ".join(shared.table(notes=True).split())


def test_all_other_clips_of_all_classes_are_asked(runs: Runs) -> None:
    config = runs.config("all", way="all", query="all", shot=2, episodes=1)
    record = read_run(evaluate.run(config).rows[0].folder).records[0]
    split = load_split(runs.folder / "tiny.yaml")
    assert sorted(record.classes) == list(split.classes("novel"))
    assert len(record.predictions) == sum(
        len(split.clips("novel", name)) - 2 for name in split.classes("novel")
    )


def test_many_queries_are_asked_in_parts_with_the_same_answers(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"way": "all", "query": "all", "episodes": 2, "at_once": 2}
    whole = runs.records("whole", **asked)
    monkeypatch.setattr("fewshot_i2v.evaluation.batching._GATHER_ELEMENT_BUDGET", 1)
    parts = runs.records("parts", **asked)
    for i, found in probabilities(whole).items():
        np.testing.assert_allclose(found, probabilities(parts)[i], atol=1e-5)


def test_steps_on_some_support_clips_see_each_as_often() -> None:
    spec = Episode(7, (), (), ())
    pick = mini_batch_indices([[str(i) for i in range(6)]], [spec], 4, 0)
    steps = [pick(step)[0].tolist() for step in range(6)]
    flat = [place for step in steps for place in step]
    for turn in range(4):
        assert sorted(flat[6 * turn : 6 * turn + 6]) == list(range(6))
    assert flat[:6] != flat[6:12]
    assert pick(3).tolist() == [steps[3]]


def test_a_batch_of_all_clips_is_no_batch_and_a_smaller_one_learns_otherwise(runs: Runs) -> None:
    steps = {"steps": 4, "warmup": 0.0}
    plain = probabilities(runs.records("plain", shot=3, tuning=steps))
    full = probabilities(runs.records("full", shot=3, tuning=steps | {"batch": 99}))
    small = probabilities(runs.records("small", shot=3, tuning=steps | {"batch": 2}))
    again = probabilities(runs.records("again", shot=3, tuning=steps | {"batch": 2}, at_once=1))
    for i in plain:
        np.testing.assert_allclose(plain[i], full[i], atol=1e-6)
        np.testing.assert_allclose(small[i], again[i], atol=1e-5)
        assert not np.allclose(plain[i], small[i], atol=1e-4)


def test_a_batch_needs_a_head_that_learns_clip_by_clip(runs: Runs) -> None:
    config = runs.config("refused", head="prototype", tuning={"steps": 2, "batch": 2})
    with pytest.raises(ConfigError, match=r"tuning\.batch: head prototype compares support clips"):
        evaluate.run(config)


def all_way(folder: Path) -> Path:
    """The tiny split's clips in train and test, with two published draws of two clips."""
    names = load_split(folder / "tiny.yaml").classes("novel")
    clips = {name: [f"{name}/{name}-{i:03d}.mp4" for i in range(8)] for name in names}
    root = folder / "files"
    work = EvaluationContext.of(tiny_run(folder, folder / "runs" / "made", episodes=1))
    work.decode_clips([clip for row in clips.values() for clip in row], progress=False)
    root.symlink_to(work.folder)
    data = {
        "name": "ways",
        "subsets": {
            "train": {name: row[:4] for name, row in clips.items()},
            "test": {name: row[4:] for name, row in clips.items()},
        },
        "draws": {
            "paper": [
                {name: row[:2] for name, row in clips.items()},
                {name: row[2:4] for name, row in clips.items()},
            ]
        },
    }
    path = folder / "ways.yaml"
    path.write_text(json.dumps(data))
    return path


def test_published_draws_are_learned_from_and_the_test_list_is_asked(runs: Runs) -> None:
    path = all_way(runs.folder)
    asked = {"subset": "test", "way": "all", "query": "all", "shot": 2, "draws": "paper"}
    config = runs.config(
        "draws", split=str(path), root=str(runs.folder / "files"), episodes="all", **asked
    )
    records = read_run(evaluate.run(config).rows[0].folder).records
    split = load_split(path)
    assert len(records) == 2
    for record, draw in zip(records.values(), split.draws["paper"], strict=True):
        given = dict(zip(record.classes, map(tuple, record.support), strict=True))
        assert given == dict(draw.clips)
        assert len(record.predictions) == 16


@dataclass
class Frozen:
    """Episodes that were drawn, written to a file and evaluated from it."""

    episodes: list[Episode]
    path: Path
    row: Path


@pytest.fixture(scope="module")
def frozen(runs: Runs) -> Frozen:
    split = load_split(runs.folder / "tiny.yaml")
    drawn = EvaluationContext.of(runs.config("drawn", **UNEVEN)).episodes["1-3"]
    path = runs.folder / "frozen.jsonl"
    write_episode_file(make_episode_file(split, "novel", drawn, {}), path)
    config = load_config({**tiny_source(runs), "trials": str(path)})
    return Frozen(drawn, path, evaluate.run(config).rows[0].folder)


def test_frozen_episodes_are_asked_and_no_others(runs: Runs, frozen: Frozen) -> None:
    records = read_run(frozen.row)
    assert [r.support for r in records.records.values()] == [
        [list(names) for names in spec.support] for spec in frozen.episodes
    ]
    assert records.header["identity"]["trials"]["digest"]
    assert records.header["trials"]["path"] == str(frozen.path)
    usual = runs.records("usual", **UNEVEN)
    for i, found in probabilities(usual).items():
        np.testing.assert_allclose(found, probabilities(records)[i], atol=1e-6)


def tiny_source(runs: Runs) -> dict[str, Any]:
    """The configuration of a tiny run without any word of its episodes."""
    plain = runs.config("trials").model_dump(mode="json", exclude_unset=True)
    return {k: v for k, v in plain.items() if k not in {"way", "shot", "query", "episodes"}}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"way": 4}, "way: got 4 beside trials '.*frozen.jsonl': '2-4' in the file; leave it out"),
        ({"sampling": "disjoint"}, "sampling: got 'disjoint' beside trials .*: nothing is drawn"),
        ({"disjoint_groups": True}, "disjoint_groups: got True beside trials"),
        ({"subset": "val"}, "subset: got 'val' beside trials .*: 'novel' in the file"),
    ],
)
def test_what_frozen_episodes_contradict_is_refused(
    runs: Runs, frozen: Frozen, said: dict[str, Any], message: str
) -> None:
    config = load_config({**tiny_source(runs), "trials": str(frozen.path), **said})
    with pytest.raises(ConfigError, match=message):
        evaluate.run(config)


def test_a_frozen_episode_is_exported_as_recorded(
    runs: Runs, frozen: Frozen, tmp_path: Path
) -> None:
    exported = export_episode(frozen.row, 2, tmp_path / "out", cache=str(runs.folder / "cache"))
    assert exported.difference < 1e-5


@pytest.mark.usefixtures("frozen")
def test_other_frozen_episodes_in_the_same_folder_are_another_run(runs: Runs) -> None:
    split = load_split(runs.folder / "tiny.yaml")
    drawn = EvaluationContext.of(runs.config("drawn", **UNEVEN, seed=9)).episodes["1-3"]
    path = runs.folder / "others.jsonl"
    write_episode_file(make_episode_file(split, "novel", drawn, {}), path, overwrite=True)
    with pytest.raises((RecordError, ConfigError), match=r"trials\.digest|holds another run"):
        evaluate.run(load_config({**tiny_source(runs), "trials": str(path)}))


@pytest.mark.parametrize("shard", [None, Shard(1, 2)])
def test_a_run_that_is_refused_has_written_nothing(
    tmp_path_factory: pytest.TempPathFactory, shard: Shard | None
) -> None:
    """Also where another row of it is that of the folder, and comes first."""
    folder = tiny_folder(tmp_path_factory.mktemp("refused"))
    keys: dict[str, Any] = {"adapter": ["frozen", "lora"], "head": "prototype"}
    evaluate.run(tiny_run(folder, folder / "run", episodes=2, **keys))
    before = {path: path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file()}
    changed = tiny_run(
        folder, folder / "run", episodes=4, recipes={"lora": {"min_loss": 0.3}}, **keys
    )
    with pytest.raises(RecordError, match=r"lora.*\n.*min_loss"):
        evaluate.run(changed, selection=EpisodeSelection(shard))
    after = {path: path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file()}
    assert after == before


def test_more_episodes_than_there_are_is_an_error(runs: Runs) -> None:
    config = runs.config("many", sampling="disjoint", episodes=999)
    with pytest.raises(EpisodeError, match="episodes: got 999, and there are"):
        evaluate.run(config)
    with pytest.raises(EpisodeError, match="all is for episodes whose number is limited"):
        evaluate.run(runs.config("endless", episodes="all"))


def test_episodes_of_one_shape_are_grouped_in_order(runs: Runs) -> None:
    specs = EvaluationContext.of(runs.config("drawn", **UNEVEN)).episodes["1-3"]
    groups = group_by_shape(specs)
    assert sorted(spec.index for group in groups for spec in group) == list(range(6))
    for group in groups:
        assert len({spec.shape for spec in group}) == 1
        assert [s.index for s in group] == sorted(s.index for s in group)


def test_clips_are_found_by_name_wherever_they_lie(runs: Runs, tmp_path: Path) -> None:
    work = EvaluationContext.of(tiny_run(runs.folder, runs.folder / "runs" / "made", episodes=1))
    names = load_split(runs.folder / "tiny.yaml").classes("novel")[:3]
    clips = {name: [f"{name}/{name}-{i:03d}.mp4" for i in range(4)] for name in names}
    work.decode_clips([clip for row in clips.values() for clip in row], progress=False)
    flat = tmp_path / "root" / "videos"
    flat.mkdir(parents=True)
    for row in clips.values():
        for clip in row:
            data = (work.folder / clip).read_bytes()
            (flat / Path(clip).name.upper().replace("-", "_")).with_suffix(".MKV").write_bytes(data)
    listed = {"name": "flat", "find": "name", "subsets": {"novel": {
        name: [clip.removesuffix(".mp4").replace("-", "_") for clip in row]
        for name, row in clips.items()
    }}}  # fmt: skip
    path = tmp_path / "flat.yaml"
    path.write_text(json.dumps(listed))
    asked: dict[str, Any] = {"split": str(path), "root": str(tmp_path / "root"), "shot": 1}
    good = runs.records("found", **asked, episodes=3)
    assert [record.status for record in good.records.values()] == ["ok"] * 3
    next(flat.iterdir()).unlink()
    result = evaluate.run(runs.config("missing", **asked, episodes=6, max_failed=6))
    reasons = {
        record.error["reason"]
        for record in read_run(result.rows[0].folder).records.values()
        if record.error
    }
    assert reasons == {"does not exist"}
