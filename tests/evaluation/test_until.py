"""`until`: episodes are drawn until the means are known well enough, and no further."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fewshot_i2v.cli._root import cli
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.runs.stopping_record import StoppingRecord
from fewshot_i2v.statistics.sequential_stopping import PILOT_EPISODES, decide_stopping
from tests.tiny import tiny_architecture, tiny_run, tiny_split


@dataclass
class Runs:
    folder: Path

    def config(self, name: str, **changes: Any) -> EvaluationConfig:
        given = {"adapter": "frozen", "head": "prototype", "query": 2, **changes}
        return tiny_run(self.folder, self.folder / "runs" / name, **given)

    def run(self, name: str, **changes: Any) -> EvaluationResult:
        return evaluate.run(self.config(name, **changes))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("until")
    tiny_split(folder)
    tiny_architecture(folder)
    return Runs(folder)


def stopped(result: EvaluationResult) -> StoppingRecord:
    assert result.stopped is not None
    return result.stopped


def outcomes(result: EvaluationResult) -> list[dict[int, Any]]:
    return [
        {i: (r.support, r.query, r.probabilities) for i, r in read_run(row.folder).records.items()}
        for row in result.rows
    ]


def test_it_stops_where_the_rule_says_with_the_records_of_a_fixed_number(runs: Runs) -> None:
    result = runs.run("met", until=8, head=["prototype", "nearest"])
    end = stopped(result)
    assert end.met
    assert end.episodes > PILOT_EPISODES
    values = [[row.accuracies[i] for i in range(end.episodes)] for row in result.rows]
    again = decide_stopping(values, 0.08, cap=10_000)
    assert (again.stop, again.episodes) == (True, end.episodes)
    assert not decide_stopping([row[:-1] for row in values], 0.08, cap=10_000).stop
    for row in result.rows:
        assert row.episodes == end.episodes
        half = row.interval.half_width if row.interval else None
        assert half is not None
        assert half <= 0.08
    fixed = runs.run("fixed", episodes=end.episodes, head=["prototype", "nearest"])
    assert outcomes(fixed) == outcomes(result)
    assert fixed.stopped is None
    assert f"known to ± 8 points at 95 %: {end.episodes} of them" in " ".join(
        result.table().split()
    )
    assert result.to_dict()["until"]["episodes"] == end.episodes
    assert fixed.to_dict()["until"] is None
    summary = json.loads((result.rows[0].folder / "summary.json").read_text())
    assert summary["until"]["points"] == 8
    shown = CliRunner().invoke(cli, ["show", str(result.output)]).output
    assert f"known to ± 8 points at 95 %: {end.episodes} of them" in " ".join(shown.split())
    page = runs.folder / "table.md"
    CliRunner().invoke(cli, ["report", str(result.output), "--out", str(page)])
    assert f"known to ± 8 points at 95 %: {end.episodes} of them" in page.read_text("utf-8")
    shown = CliRunner().invoke(cli, ["show", str(fixed.output)]).output
    assert "Episodes were drawn until" not in shown
    CliRunner().invoke(cli, ["report", str(fixed.output), "--out", str(page)])
    assert "Episodes were drawn until" not in page.read_text("utf-8")


def test_run_again_it_does_nothing_and_a_smaller_target_goes_on(runs: Runs) -> None:
    first = runs.run("again", until=9)
    written = (first.rows[0].folder / "episodes.jsonl").read_bytes()
    second = runs.run("again", until=9)
    assert (first.rows[0].folder / "episodes.jsonl").read_bytes() == written
    assert stopped(second) == stopped(first)
    third = runs.run("again", until=7)
    assert stopped(third).episodes > stopped(first).episodes
    assert (first.rows[0].folder / "episodes.jsonl").read_bytes().startswith(written)
    fourth = runs.run("again", until=9)
    assert stopped(fourth) == stopped(first), "what is there beyond the stop does not count"
    assert fourth.rows[0].episodes == stopped(first).episodes


def test_an_end_without_reaching_it_says_so(runs: Runs) -> None:
    result = runs.run("cap", until=1, max_episodes=40)
    end = stopped(result)
    assert (end.met, end.episodes) == (False, 40)
    said = " ".join(result.table().split())
    assert "± 1 points were not reached: the widest row is at ± " in said
    assert "after 40 episodes" in said


def test_episodes_that_end_end_it(runs: Runs) -> None:
    result = runs.run("apart", until=1, sampling="disjoint", shot=1, query=1)
    end = stopped(result)
    assert not end.met
    every = runs.run("all", episodes="all", sampling="disjoint", shot=1, query=1)
    assert end.episodes == every.rows[0].episodes < PILOT_EPISODES


def test_training_seeds_count_as_one_row(runs: Runs) -> None:
    given: dict[str, Any] = {"head": "linear", "tuning": {"steps": 1}, "training_seeds": [0, 1]}
    end = stopped(runs.run("seeds", until=10, **given))
    assert len(end.half_widths) == 1
    assert end.met


def test_the_number_of_episodes_is_not_given_twice(runs: Runs) -> None:
    with pytest.raises(ConfigError, match=r"^[^:]+: episodes: got 5 beside until 2; expected one"):
        load_config({"adapter": "frozen", "split": "motions", "episodes": 5, "until": 2})
    with pytest.raises(ConfigError, match=r"; from flags or overrides: episodes, until$"):
        load_config("quickstart", {"episodes": 5, "until": 2})
    with pytest.raises(ConfigError, match="max_episodes: got 5 without until"):
        load_config({"adapter": "frozen", "split": "motions", "max_episodes": 5})


def test_flags_drop_the_other_key_of_the_file() -> None:
    plain = load_config("quickstart", {"until": 3})
    assert (plain.until, "episodes" in plain.model_fields_set) == (3, False)
    source = {"adapter": "frozen", "split": "motions", "until": 2, "max_episodes": 50}
    fixed = load_config(source, {"episodes": 7})
    assert (fixed.until, fixed.episodes) == (None, 7)
    trials = load_config(source, {"trials": "hmdb51-a5"})
    assert trials.until is None
    drawn = load_config(source, {"draws": "vificlip"})
    assert (drawn.until, "episodes" in drawn.model_fields_set) == (2, False)


@pytest.mark.parametrize("until", [0, -1, 50, "x"])
def test_targets_out_of_range_are_refused(until: object) -> None:
    with pytest.raises(ConfigError, match="until: got"):
        load_config("quickstart", {"until": until})


def test_what_a_dry_run_shows_can_be_run(runs: Runs) -> None:
    for changes in ({"until": 3, "max_episodes": 50}, {"episodes": 4}):
        found = evaluate.dry_run(runs.config("dry", **changes))
        again = load_config(found["config"])
        assert (again.until, again.max_episodes) == (
            changes.get("until"),
            50 if again.until else 10_000,
        )
    assert found["cost"]["rows"][0]["episodes"] == 4
