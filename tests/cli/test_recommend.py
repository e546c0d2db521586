"""`fewshot-i2v recommend`: the sentence, the same as JSON, and no torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewshot_i2v
from tests.cli.conftest import Invoke
from tests.cli.pilots import plain, some
from tests.cli.pilots import write as write_pilot
from tests.cli.test_show import write


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write(tmp_path, "aim:scale=0.5", [1.0, 1.0, 0.75] * 3)
    write(tmp_path, "frozen", [0.5, 0.75, 0.25] * 3)
    return tmp_path


def test_it_recommends_and_says_what_to_do_next(invoke: Invoke, runs: Path) -> None:
    done = invoke("recommend", str(runs))
    assert done.exit_code == 0, done.output
    assert "encoder demo" in done.stdout
    assert "Use aim:scale=0.5: it beats frozen by 41.7" in done.stdout
    assert "with 325 trained parameters and 1.2 s an episode." in " ".join(done.stdout.split())
    assert "\nWhat would change that:\n- " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert f" fewshot-i2v report {runs} --out report.html\n" in done.stderr


@pytest.mark.parametrize("command", ["recommend", "report"])
def test_a_run_in_progress_is_incomplete(invoke: Invoke, tmp_path: Path, command: str) -> None:
    write(tmp_path, "aim", [1.0, 1.0, 0.75] * 3, planned=12)
    write(tmp_path, "frozen", [0.5, 0.75, 0.25] * 3, planned=9)
    out = ["--out", str(tmp_path / "t.md")] if command == "report" else []
    said = " ".join(invoke(command, str(tmp_path), *out).stdout.split())
    note = "INCOMPLETE: 3 episodes are missing; the command of the run continues it."
    assert f"{note} Use aim" in said
    write(tmp_path / "done", "frozen", [0.5, 0.75, 0.25] * 3, planned=9)
    assert "INCOMPLETE" not in invoke("recommend", str(tmp_path / "done")).stdout


def test_json_has_the_same(invoke: Invoke, runs: Path) -> None:
    (table,) = json.loads(invoke("recommend", str(runs), "--json").stdout)
    (answer,) = table["recommendations"]
    assert (answer["adapter"], answer["shot"], answer["start"]) == ("aim:scale=0.5", 1, "fresh")
    assert answer["gain"]["mean"] == pytest.approx(5 / 12)
    assert Path(answer["baseline_folder"]).name == "frozen-linear-1shot"
    assert answer["may_be_as_good"] == []
    assert " ".join(table["sentences"]).startswith("Use aim:scale=0.5")


def test_terminal_report_and_python_show_the_same_list(
    invoke: Invoke, runs: Path, tmp_path: Path
) -> None:
    (table,) = fewshot_i2v.recommend(runs)
    text = table.text()
    assert "\n- " in text
    assert invoke("recommend", str(runs)).stdout.endswith(f"\n\n{text}\n")
    page, guide = tmp_path / "t.html", tmp_path / "t.md"
    assert invoke("report", str(runs), "--out", str(page)).stdout.endswith(f"\n\n{text}\n")
    points = [point for paragraph in table.paragraphs for point in paragraph.points]
    answer = re.search(r'<div class="summary">(.*?)</div>', page.read_text(), re.DOTALL)
    assert answer is not None
    items = re.findall(r"<li>(.*?)</li>", answer[1].replace("\u00a0", " "))
    assert [re.sub("<.*?>", "", item) for item in items] == points
    invoke("report", str(runs), "--out", str(guide))
    listed = "What would change that:\n\n" + "\n".join(f"- {point}" for point in points)
    assert f"{listed}\n" in guide.read_text().replace("\\", "")


def test_a_page_of_several_evaluations_lists_the_points_in_its_contents(
    invoke: Invoke, tmp_path: Path
) -> None:
    for way in (3, 5):
        write(tmp_path / str(way), "aim", [1.0, 1.0, 0.75] * 3, way=way)
        write(tmp_path / str(way), "frozen", [0.5, 0.75, 0.25] * 3, way=way)
    page = tmp_path / "t.html"
    invoke("report", str(tmp_path), "--out", str(page))
    text = page.read_text()
    contents = text[text.index("<nav") : text.index("</nav>")]
    assert contents.count("<p>What would change that:</p>\n<ul>\n<li>") == 2


def _differing(seed: int, n_changed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Answers of 14 episodes, and the same with a wrong one for a right one in some of them."""
    base = some(seed, 0.9, episodes=14)
    other = base.copy()
    for i in range(n_changed):
        other[i, 0, 0] ^= True
    return base, other


def test_the_episodes_are_those_of_plan_and_compare(invoke: Invoke, tmp_path: Path) -> None:
    """One row differs from frozen in 2 of 14 episodes: no number is made up for it."""
    base, nearly = _differing(1, 2)
    write_pilot(tmp_path, "frozen", base)
    write_pilot(tmp_path, "temporal-embedding", nearly)
    write_pilot(tmp_path, "bitfit", some(1, 0.85, episodes=14))
    done = invoke("recommend", str(tmp_path))
    said = " ".join(done.stdout.split())
    assert "temporal-embedding differs from frozen in 2 of 14 episodes: too few to say" in said
    pairs = {pair["name"].split(" ")[0]: pair for pair in plain(invoke, str(tmp_path))["pairs"]}
    n_needed = pairs["bitfit"]["together"]
    assert pairs["temporal-embedding"]["together"] is None
    number = f"About {n_needed:,} episodes would show a difference of 2 points between bitfit"
    assert number in said
    assert f"--episodes {n_needed}" in done.stderr
    compared = json.loads(invoke("compare", str(tmp_path), "--json").stdout)
    visible = {row["name"].split(" ")[0]: row["visible"] for row in compared["comparisons"]}
    assert visible["temporal-embedding"] is None
    assert visible["bitfit"] == pytest.approx(pairs["bitfit"]["visible"])
    page = tmp_path / "t.md"
    invoke("report", str(tmp_path), "--out", str(page))
    assert number in " ".join(page.read_text(encoding="utf-8").split())


def test_a_difference_that_would_have_shown_is_one_that_compare_would_see(
    invoke: Invoke, tmp_path: Path
) -> None:
    """`recommend`, `plan` and `compare` turn at the same episode, also where rows hardly differ."""
    base = some(2, 0.9, episodes=60)
    other = base.copy()
    other[:6, 0, 0] ^= True
    for n in (16, 24, 40, 60):
        folder = tmp_path / str(n)
        write_pilot(folder, "frozen", base[:n])
        write_pilot(folder, "aim", other[:n])
        (pair,) = plain(invoke, str(folder))["pairs"]
        assert (pair["together"] <= n) == (pair["visible"] <= 0.02)
        said = " ".join(invoke("recommend", str(folder)).stdout.split())
        has_shown = f"would mostly have shown in these {n} episodes" in said
        assert has_shown == (pair["together"] <= n)


def test_it_proposes_more_episodes_where_rows_cannot_be_told_apart(
    invoke: Invoke, tmp_path: Path
) -> None:
    write(tmp_path, "aim", [1.0, 0.75, 1.0])
    write(tmp_path, "frozen", [0.5, 0.5, 0.25])
    done = invoke("recommend", str(tmp_path))
    said = " ".join(done.stdout.split())
    assert "aim may be better (+50.0 points so far)" in said
    assert "as good" not in said
    assert "50 episodes tell more (--episodes 50)" in said
    assert f"--output {tmp_path} --episodes 50\n" in done.stderr
    (table,) = json.loads(invoke("recommend", str(tmp_path), "--json").stdout)
    assert [answer["next_episodes"] for answer in table["recommendations"]] == [50]


def test_it_proposes_no_more_where_they_tell_nothing(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "frozen", [0.5, 0.75, 0.25] * 3)
    done = invoke("recommend", str(tmp_path))
    assert done.exit_code == 0
    assert "--episodes" not in done.output


def test_an_untuned_row_trains_nothing(invoke: Invoke, tmp_path: Path) -> None:
    start = {"kind": "base-trained", "name": "demo-motions", "digest": "x"}
    write(tmp_path, "aim", [1.0, 1.0, 0.75] * 3, begin="demo-motions", steps=0, start=start)
    write(tmp_path, "frozen", [0.5, 0.75, 0.25] * 3)
    said = " ".join(invoke("recommend", str(tmp_path)).stdout.split())
    assert "points at 1 shot, without fine-tuning and with 1.2 s an episode." in said
    assert "trained parameters" not in said


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    """Two evaluations, each of an adapter beside the same row of the frozen encoder."""
    frozen = [0.5, 0.75, 0.25] * 4
    for name, adapter, accuracies in (("a", "aim", [1.0] * 12), ("b", "st-adapter", [0.75] * 12)):
        write(tmp_path / name, adapter, accuracies)
        write(tmp_path / name, "frozen", frozen, parameters=0)
    return [str(tmp_path / "a"), str(tmp_path / "b")]


REPEATED = "frozen has equal records in 2 runs: it is one row and counts once."


def test_a_frozen_row_that_two_runs_have_alike_is_one_baseline(
    invoke: Invoke, two: list[str], tmp_path: Path
) -> None:
    said = " ".join(invoke("recommend", *two).stdout.split())
    assert "Use aim: it beats frozen by 50.0" in said
    assert REPEATED in said
    invoke("report", *two, "--out", str(tmp_path / "t.json"))
    (table,) = json.loads((tmp_path / "t.json").read_text())["tables"]
    assert [row["adapter"] for row in table["rows"]] == ["frozen", "aim", "st-adapter"]
    assert REPEATED in " ".join(table["notes"])


def test_compare_names_the_one_baseline_once(invoke: Invoke, two: list[str]) -> None:
    shown = " ".join(invoke("compare", *two).stdout.split())
    assert "against frozen" in shown
    assert "frozen (" not in shown
    assert REPEATED in shown
    assert REPEATED in " ".join(invoke("compare", *two, "--notes").stdout.split())
    pairs = json.loads(invoke("compare", *two, "--all-pairs", "--json").stdout)["comparisons"]
    assert len(pairs) == 3
    # the baseline that a folder names stays
    folder = str(Path(two[1]) / "frozen-linear-1shot")
    named = json.loads(invoke("compare", *two, "--baseline", folder, "--json").stdout)
    assert {pair["baseline_folder"] for pair in named["comparisons"]} == {folder}


def test_frozen_rows_with_other_records_stay_two(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path / "a", "aim", [1.0] * 12)
    write(tmp_path / "a", "frozen", [0.5, 0.75, 0.25] * 4, parameters=0)
    write(tmp_path / "b", "frozen", [0.5, 0.75, 0.5] * 4, parameters=0)
    said = " ".join(invoke("recommend", str(tmp_path)).stdout.split())
    assert "the best of 2 frozen rows" in said
    assert "equal records" not in said


def test_a_folder_without_runs_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("recommend", str(tmp_path))
    assert done.exit_code == 2
    assert "no run.json in it" in done.stderr


def test_help_shows_an_example_on_a_line_of_its_own(invoke: Invoke) -> None:
    lines = invoke("recommend", "--help").stdout.splitlines()
    assert "fewshot-i2v recommend runs/quickstart" in map(str.strip, lines)
