"""Episodes of another kind than the configuration's, runs that grow, and what intervals cover."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.cli._root import cli
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.data.episodes.episode_file import make_episode_file, write_episode_file
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import ConfigError, EpisodeError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.runs.episode_record import TIMING_KEYS
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.runs.run_folder import RunData, read_run
from tests.tiny import tiny_folder, tiny_run

OTHER: dict[str, Any] = {
    "subset": "test",
    "way": "all",
    "query": "all",
    "shot": [2, 4],
    "episodes": 7,
    "draws": "vificlip",
    "sampling": "disjoint",
    "partitions": 3,
    "disjoint_groups": True,
    "uneven_shots": True,
}
"""Keys of a configuration, none of which the frozen episodes below have."""
RANGED: dict[str, Any] = {
    "way": "2-4",
    "shot": "1-3",
    "uneven_shots": True,
    "seed": 9,
    "adapter": "st-adapter",
    "head": "linear",
    "tuning": {"recipe": "none", "steps": 2},
}
APART = "No clip is in two episodes"


@dataclass
class Runs:
    """Small evaluations of one split of generated clips."""

    folder: Path

    def config(self, name: str, **changes: Any) -> EvaluationConfig:
        given = {"adapter": "frozen", "head": "nearest", "query": 2, **changes}
        return tiny_run(self.folder, self.folder / "runs" / name, **given)

    def row(self, name: str, **changes: Any) -> RowSummary:
        return evaluate.run(self.config(name, **changes)).rows[0]

    def trials(self, name: str, **changes: Any) -> Path:
        """A file of the episodes that a run with some changes asks."""
        config = self.config("frozen", **changes)
        drawn = EvaluationContext.of(config).episodes[config.shot[0]]
        split, path = load_split(self.folder / "tiny.yaml"), self.folder / f"{name}.jsonl"
        settings = {"sampling": config.sampling}
        write_episode_file(make_episode_file(split, "novel", drawn, settings), path, overwrite=True)
        return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tiny_folder(tmp_path_factory.mktemp("other-kinds")))


def supports(data: RunData) -> list[list[list[str]]]:
    return [record.support for record in data.records.values()]


def test_frozen_episodes_over_a_configuration_of_another_kind(runs: Runs) -> None:
    path = runs.trials("over", way=2, shot=2, episodes=3)
    base = runs.config("over").model_dump(mode="json", exclude_unset=True) | OTHER
    config = load_config(base, {"trials": str(path)})
    row = evaluate.run(config).rows[0]
    drawn = EvaluationContext.of(runs.config("frozen", way=2, shot=2, episodes=3)).episodes[2]
    assert supports(read_run(row.folder)) == [[list(n) for n in s.support] for s in drawn]
    assert (row.shot, row.ways, row.episodes) == (2, (2, 2), 3)
    for key, value in {"way": 2, "shot": 2, "query": 2, "subset": "novel"}.items():
        EvaluationContext.of(load_config(base, {"trials": str(path), key: value}))
    with pytest.raises(ConfigError, match=r"way: got 4 beside trials .*: 2 in the file"):
        EvaluationContext.of(load_config(base, {"trials": str(path), "way": 4}))


def test_a_run_made_in_python_takes_frozen_episodes(runs: Runs) -> None:
    path = runs.trials("python", way=2, shot=1, episodes=2)
    result = evaluate.evaluate(runs.config("python", way=4, shot=3), trials=str(path))
    assert (result.way, result.rows[0].shot, result.rows[0].episodes) == (2, 1, 2)
    plain = runs.config("python").model_dump(mode="json", exclude_unset=True)
    config = load_config({k: v for k, v in plain.items() if k not in OTHER} | {"trials": str(path)})
    assert evaluate.evaluate(config).rows[0].accuracies == result.rows[0].accuracies


@pytest.mark.parametrize(
    ("flags", "counts"),
    [
        ("--split hmdb51-arn --trials hmdb51-a5", {5: 200}),
        ("--split hmdb51-kshot --subset test --way all --query all --draws a5 --shot 5", {5: 10}),
        (
            "--split hmdb51-kshot --subset test --way all --query all --shot 2 --shot 4 "
            "--draws vificlip --seed 1",
            {2: 1, 4: 1},
        ),
    ],
)
def test_flags_of_the_readme_over_the_shipped_configuration(
    monkeypatch: pytest.MonkeyPatch, flags: str, counts: dict[int, int]
) -> None:
    planned = []
    monkeypatch.setattr(evaluate, "build_row_runners", lambda work: planned.append(work) or [])
    cli.main(["evaluate", *flags.split(), "--dry-run", "--quiet"], standalone_mode=False)
    assert {shot: len(specs) for shot, specs in planned[0].episodes.items()} == counts


@pytest.mark.parametrize("over", [{}, {"draws": "a5"}, {"draws": "a5", "seed": 1}])
def test_all_published_draws_are_asked_where_no_number_is_given(over: dict[str, Any]) -> None:
    kept = {"adapter": "frozen", "split": "hmdb51-kshot", "subset": "test"}
    config = load_config(kept | {"way": "all", "query": "all", "shot": 5, "draws": "a5"}, over)
    assert config.episodes == "all"
    some = load_config(kept | {"draws": "a5", "episodes": 4}, {})
    assert (some.episodes, load_config(kept | {"draws": "a5"}, {"episodes": 4}).episodes) == (4, 4)
    assert load_config(kept | {"draws": "a5", "episodes": 4}, over | {"draws": "a5"}).episodes == (
        "all"
    )
    assert load_config(kept | {"draws": "a5"}, {"draws": None, "episodes": 3}).episodes == 3
    assert load_config(kept | {"draws": "a5"}, {"until": 3}).until == 3


def test_most_episodes_beside_a_number_of_them_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_episodes: got 9 without until"):
        load_config("quickstart", {"episodes": 5, "max_episodes": 9})


def test_all_frozen_episodes_are_asked_or_the_first_ones(runs: Runs) -> None:
    path = str(runs.trials("some", way=2, shot=1, episodes=4))
    base = runs.config("some", episodes=2).model_dump(mode="json", exclude_unset=True)
    for over, count in (({}, 4), ({"episodes": 3}, 3), ({"episodes": "all"}, 4)):
        assert (
            len(EvaluationContext.of(load_config(base, {"trials": path, **over})).episodes[1])
            == count
        )
    with pytest.raises(EpisodeError, match="episodes: got 5, and there are 4"):
        EvaluationContext.of(load_config(base, {"trials": path, "episodes": 5}))


def untimed(folder: Path) -> str:
    """All records as text, without what another run of the same does not repeat."""
    plain = [asdict(record) for record in read_run(folder).records.values()]
    return json.dumps([{k: v for k, v in r.items() if k not in TIMING_KEYS} for r in plain])


def support_clips(runs: Runs, episodes: int) -> list[int]:
    """Of each of the first episodes with ranges."""
    specs = EvaluationContext.of(runs.config("x", **RANGED, episodes=episodes)).episodes["1-3"]
    return [sum(map(len, spec.support)) for spec in specs]


def at_once(folder: Path) -> int:
    return int(read_run(folder).header["identity"]["at_once"])


def test_a_run_that_grows_keeps_its_batches(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    # a clip is 640 values, and 12 of them the most in an episode: 2 side by side; by the first two
    # episodes alone, of 6 and 4 clips, it would be 4
    monkeypatch.setattr(
        "fewshot_i2v.evaluation.batching._STEP_ELEMENT_BUDGET", {"cpu": 2 * 12 * 640}
    )
    first = support_clips(runs, episodes=2)
    assert (max(first), max(support_clips(runs, episodes=6))) == (6, 9)
    whole = runs.row("whole", **RANGED, episodes=6)
    for count in (2, 4, 6):
        grown = runs.row("grown", **RANGED, episodes=count)
        assert (grown.episodes, at_once(grown.folder)) == (count, 2)
    assert untimed(grown.folder) == untimed(whole.folder)


def test_asking_more_of_a_file_keeps_the_batches(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(runs.trials("growing", **RANGED, episodes=6))
    monkeypatch.setattr(
        "fewshot_i2v.evaluation.batching._STEP_ELEMENT_BUDGET", {"cpu": 2 * 9 * 640}
    )
    keys = RANGED.keys() - {"way", "shot", "uneven_shots"}
    base = runs.config("file", **{k: RANGED[k] for k in keys})
    plain = base.model_dump(mode="json", exclude_unset=True)
    for count in (2, 6):
        folder = (
            evaluate.run(load_config(plain, {"trials": path, "episodes": count})).rows[0].folder
        )
        assert at_once(folder) == 2
    again = load_config(plain, {"trials": path, "output": str(runs.folder / "runs" / "file-once")})
    assert untimed(folder) == untimed(evaluate.run(again).rows[0].folder)


def mark(row: RowSummary) -> object:
    """What the run's header says of disjoint episodes."""
    return read_run(row.folder).header["marks"].get("disjoint")


def covers(row: RowSummary) -> str:
    assert row.interval is not None
    return row.interval.covers


def test_only_disjoint_sampling_claims_other_clips(runs: Runs) -> None:
    asked: dict[str, Any] = {"way": 2, "shot": 1, "query": 1, "episodes": 2}
    seed = next(seed for seed in range(99) if _apart_by_chance(runs, **asked, seed=seed))
    row = runs.row("chance", **asked, seed=seed)
    assert row.shared
    assert mark(row) is None
    assert APART not in covers(row)
    drawn = runs.row("disjoint", **asked, sampling="disjoint")
    assert mark(drawn) is True
    assert not drawn.shared


def _apart_by_chance(runs: Runs, **asked: Any) -> bool:
    first, second = EvaluationContext.of(runs.config("x", **asked)).episodes[1]
    return not set(first.clip_names()) & set(second.clip_names())


def test_clips_that_come_again_in_another_partition_are_shared(runs: Runs) -> None:
    asked: dict[str, Any] = {"way": 2, "shot": 2, "sampling": "disjoint", "episodes": "all"}
    once, twice = runs.row("once", **asked), runs.row("twice", **asked, partitions=2)
    assert twice.episodes == 2 * once.episodes
    assert (once.shared, twice.shared) == (False, True)
    assert mark(twice) is True
    assert APART not in covers(twice)


def test_frozen_episodes_claim_what_they_were_drawn_as(runs: Runs) -> None:
    asked: dict[str, Any] = {"way": 2, "shot": 1, "query": 1, "episodes": 2}
    asked["seed"] = next(seed for seed in range(99) if _apart_by_chance(runs, **asked, seed=seed))
    for sampling, apart in (("disjoint", True), ("independent", False)):
        path = runs.trials(sampling, **asked, sampling=sampling)
        plain = runs.config(f"of-{sampling}").model_dump(mode="json", exclude_unset=True)
        row = evaluate.run(load_config(plain, {"trials": str(path)})).rows[0]
        assert (mark(row) is True, row.shared) == (apart, not apart)
