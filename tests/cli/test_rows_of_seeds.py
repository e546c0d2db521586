"""Which run folders are one row: those that differ in the training seed alone, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.runs.run_folder import RunFolder
from tests.cli.conftest import Invoke
from tests.cli.test_show import record


def write(output: Path, accuracies: Sequence[float], *, adapter: str = "aim", **given: Any) -> Path:
    """A run folder of an adapter, with as many episodes as accuracies."""
    config = load_config({"split": "motions", "adapter": adapter, "way": 2, **given})
    (row,) = expand_rows(config)
    identity = {
        "config": row.identity(),
        "split": {"digest": "d"},
        "encoder": {"digest": "e"},
        "device": "cpu",
    }
    with RunFolder.open(output / row.slug, {"parameters": 1}, identity=identity) as folder:
        folder.append([record(i, accuracy) for i, accuracy in enumerate(accuracies)])
    return output / row.slug


def mixture(folder: Path) -> None:
    """One folder with two seeds of one setting and one of another, and the frozen encoder."""
    write(folder, [0.5, 0.5, 0.25], adapter="frozen")
    write(folder, [0.5, 0.75, 0.5], training_seeds=[0], tuning={"steps": 1})
    write(folder, [0.75, 0.75, 0.5], training_seeds=[1], tuning={"steps": 1})
    write(folder, [1.0, 1.0, 0.75], training_seeds=[2], tuning={"steps": 4})


def test_another_tuning_is_another_row_and_named(invoke: Invoke, tmp_path: Path) -> None:
    mixture(tmp_path)
    shown = invoke("show", str(tmp_path), "--columns", "seeds").stdout
    lines = [line for line in shown.splitlines() if line.startswith("aim")]
    assert [line.split("  ")[0] for line in lines] == ["aim (steps 1)", "aim (steps 4)"]
    assert "62.5" in lines[0]
    assert "2: ± " in lines[0]
    assert "91.7" in lines[1]
    intervals = invoke("show", str(tmp_path), "--intervals").stdout
    assert "62.50" in intervals
    assert "91.67" in intervals
    done = json.loads(invoke("compare", str(tmp_path), "--json").stdout)
    means = [round(one["mean"], 4) for one in done["comparisons"]]
    assert means == [0.625, 0.9167]


def test_a_page_keeps_them_apart_too(invoke: Invoke, tmp_path: Path) -> None:
    mixture(tmp_path / "runs")
    out = tmp_path / "table.json"
    invoke("report", str(tmp_path / "runs"), "--out", str(out))
    (table,) = json.loads(out.read_text())["tables"]
    found = {(row["note"], row["training_seeds"]): row["accuracy"] for row in table["rows"]}
    assert found[("steps 1", 2)] == pytest.approx(0.625)
    assert found[("steps 4", 1)] == pytest.approx(2.75 / 3)


def test_seeds_of_two_evaluations_are_not_mixed(invoke: Invoke, tmp_path: Path) -> None:
    for name, seeds, accuracy in (("one", (0, 1), 0.5), ("two", (1, 2), 0.75)):
        for seed in seeds:
            write(tmp_path / name, [accuracy, accuracy], training_seeds=[seed])
    out = tmp_path / "table.json"
    invoke("report", str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(out))
    (table,) = json.loads(out.read_text())["tables"]
    found = [(row["note"], row["training_seeds"], row["accuracy"]) for row in table["rows"]]
    assert found == [("one", 2, 0.5), ("two", 2, 0.75)]


@pytest.mark.parametrize("command", ["show", "compare", "report", "intervals"])
def test_a_copied_folder_does_not_count_as_another_seed(
    command: str, invoke: Invoke, tmp_path: Path
) -> None:
    write(tmp_path, [0.5, 0.5], adapter="frozen")
    first = write(tmp_path, [0.5, 0.75], training_seeds=[0])
    write(tmp_path, [0.75, 0.75], training_seeds=[1])
    shutil.copytree(first, tmp_path / "backup")
    given = {
        "report": ["--out", str(tmp_path / "x.html")],
        "intervals": ["--intervals"],
    }.get(command, [])
    name = "show" if command == "intervals" else command
    done = invoke(name, str(tmp_path), *given)
    assert done.exit_code == 2
    assert "one row with the same training seed 0" in done.stderr
    assert "backup" in done.stderr
    assert first.name in done.stderr


@pytest.mark.usefixtures("undrawn")
def test_the_row_in_detail_is_the_one_that_is_named(invoke: Invoke, tmp_path: Path) -> None:
    """A name that another one ends with, and a folder of a later training seed."""
    runs = tmp_path / "runs"
    write(runs, [1.0, 1.0], adapter="aim").rename(runs / "best")
    write(runs, [0.5, 0.75], adapter="frozen").rename(runs / "st")
    page = tmp_path / "page.html"
    invoke("report", str(runs), "--detail", "st", "--out", str(page), "--no-clips")
    assert "In detail: frozen" in page.read_text()
    write(runs, [0.5, 0.25], adapter="st-adapter", training_seeds=[0])
    later = write(runs, [0.5, 0.5], adapter="st-adapter", training_seeds=[1])
    done = invoke("report", str(runs), "--detail", later.name, "--out", str(page), "--no-clips")
    assert done.exit_code == 0, done.output
    assert "In detail: st-adapter" in " ".join(page.read_text().split())
