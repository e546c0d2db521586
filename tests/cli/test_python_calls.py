"""What a command prints as JSON, its Python call returns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import fewshot_i2v
from fewshot_i2v.errors import UnknownNameError, UsageError
from tests.cli.conftest import Invoke
from tests.cli.test_compare import BETTER, FROZEN, write
from tests.cli.test_episodes_check import SPLIT
from tests.data.video.made_videos import write_video


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write(tmp_path / "runs", "aim:scale=0.5", BETTER)
    write(tmp_path / "runs", "frozen", FROZEN)
    return tmp_path / "runs"


def _printed(invoke: Invoke, *arguments: object) -> Any:  # noqa: ANN401 - JSON
    result = invoke(*map(str, arguments), "--json")
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout)


def _plain(data: object) -> object:
    return json.loads(json.dumps(data))


def test_compare(invoke: Invoke, runs: Path) -> None:
    table = fewshot_i2v.compare(str(runs), level=0.9)
    assert _plain(table.to_dict()) == _printed(invoke, "compare", runs, "--level", 0.9)
    assert table.comparisons[0].verdict == "beats"
    assert invoke("compare", str(runs)).stdout == fewshot_i2v.compare(runs).table() + "\n"
    by_baseline = fewshot_i2v.compare(runs, baseline="aim")
    assert [c.name for c in by_baseline.comparisons] == ["frozen"]
    with pytest.raises(UsageError, match="needs no baseline"):
        fewshot_i2v.compare(runs, baseline="aim", all_pairs=True)


def test_recommend(invoke: Invoke, runs: Path) -> None:
    (table,) = fewshot_i2v.recommend(runs)
    assert _plain([table.to_dict()]) == _printed(invoke, "recommend", runs)
    row = table.section.summaries[table.recommendations[0].row]
    assert row.adapter in table.sentences[0]


def test_plan(invoke: Invoke, runs: Path) -> None:
    plan = fewshot_i2v.plan(str(runs), half_width=2, shot=1)
    assert _plain(plan.to_dict()) == _printed(invoke, "plan", runs, "--half-width", 2, "--shot", 1)
    assumed = fewshot_i2v.plan(accuracy=0.9, split="motions")
    printed = _printed(invoke, "plan", "--accuracy", 0.9, "--split", "motions")
    assert _plain(assumed.to_dict()) == printed
    assert assumed.rows[0].episodes < fewshot_i2v.plan(accuracy=0.6).rows[0].episodes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"half_width": 0.01}, "half_width: got 0.01; expected 0.05 to 50 points"),
        ({"level": 95}, "level is 95"),
        ({"power": 0.01}, "power: got 0.01; expected more than 0.05"),
    ],
)
def test_a_plan_of_values_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fewshot_i2v.plan(**options)


def test_a_mistyped_key_of_a_plan_is_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'accuracy'"):
        fewshot_i2v.plan(acuracy=0.9)


@pytest.mark.parametrize("ending", [".json", ".html", ".tex", ".bib"])
def test_write_report(invoke: Invoke, runs: Path, ending: str) -> None:
    by_command, by_call = runs.parent / f"command{ending}", runs.parent / f"call{ending}"
    assert invoke("report", str(runs), "--out", str(by_command)).exit_code == 0
    (section,) = fewshot_i2v.write_report(runs, out=str(by_call))
    assert by_call.read_bytes() == by_command.read_bytes()
    assert {row.adapter for row in section.summaries} == {"frozen", "aim:scale=0.5"}


def test_another_ending_of_a_report_is_refused(runs: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a file that ends in \.html"):
        fewshot_i2v.write_report(runs, out=runs.parent / "report.doc")


@pytest.mark.parametrize("call", ["compare", "recommend", "write_report"])
def test_calls_without_a_run_are_refused(call: str) -> None:
    with pytest.raises(UsageError, match="runs: got none; expected run folders"):
        getattr(fewshot_i2v, call)()


def test_check(invoke: Invoke, tmp_path: Path) -> None:
    split, root, cache = tmp_path / "moves.yaml", tmp_path / "clips", tmp_path / "cache"
    split.write_text(SPLIT)
    for name in ("wave/a", "wave/b", "run/a"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(root / f"{name}.mp4", "mpeg4", 9, size=(32, 32))
    shutil.rmtree(root / "run")
    check = fewshot_i2v.check(str(split), root=str(root), cache=str(cache), workers=1, verify=True)
    options = ("--root", root, "--cache", cache, "--workers", 1, "--verify")
    printed = _printed(invoke, "episodes", "check", split, *options)
    changing = {"seconds", "written"}
    found = {k: v for k, v in check.to_dict().items() if k not in changing}
    assert _plain(found) == {k: v for k, v in printed.items() if k not in changing}
    kinds = [problem.kind for problem in check.problems]
    assert (kinds.count("missing"), kinds.count("duplicate")) == (2, 1)


def test_audit(invoke: Invoke) -> None:
    splits = ("kinetics100-cmn", "motions")
    audit = fewshot_i2v.audit(*splits, seen_by="kinetics400")
    printed = _printed(invoke, "episodes", "audit", *splits, "--seen-by", "kinetics400")
    assert _plain(audit.to_dict()) == printed
    assert audit.is_grave
    split = fewshot_i2v.load_split("motions")
    assert fewshot_i2v.audit(split).splits == (split,)
    with pytest.raises(UsageError, match="splits: got none"):
        fewshot_i2v.audit()
