"""Starts of one run whose folders have the same name: every command tells their rows apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.runs.run_folder import RunFolder
from tests.cli.conftest import Invoke
from tests.cli.test_show import record


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Rows of two starts, `seed-0/aim` and `seed-1/aim`, with two heads, and frozen ones."""
    for head in ("linear", "prototype"):
        _write(tmp_path / "runs", "frozen", head, [0.5, 0.25])
        for seed in (0, 1):
            _write(tmp_path / "runs", "aim", head, [0.75, 0.5 + 0.25 * seed], f"seed-{seed}")
    return tmp_path / "runs"


def _write(output: Path, adapter: str, head: str, accuracies: list[float], seed: str = "") -> None:
    config = load_config({"split": "motions", "adapter": adapter, "head": head, "way": 2})
    (row,) = expand_rows(config)
    identity = {"config": row.identity(), "split": {"digest": "d"}, "encoder": {"digest": "e"}}
    identity["device"] = "cpu"
    about: dict[str, object] = {"parameters": 1}
    if seed:
        start = {"kind": "base-trained", "name": "aim", "digest": seed, "seen": None}
        about |= {"marks": {"start": start}, "start": {"path": f"/x/{seed}/aim"}}
        identity["config"]["start"] = "aim"
        identity["start"] = {"kind": "base-trained", "digest": seed}
    with RunFolder.open(output / f"{row.slug}{seed}", about, identity=identity) as folder:
        folder.append([record(i, accuracy) for i, accuracy in enumerate(accuracies)])


def test_a_table_names_their_folders(invoke: Invoke, runs: Path) -> None:
    shown = invoke("show", str(runs)).stdout.split("\n\n")[1]
    for seed in (0, 1):
        assert shown.count(f"base (seed-{seed}/aim)") == 2
    assert "aim (" not in shown.replace("base (", ""), "nothing else has to tell them apart"
    plain = json.loads(invoke("show", str(runs), "--json").stdout)[0]["rows"]
    assert {row["start_name"] for row in plain} == {"", "seed-0/aim", "seed-1/aim"}


def test_a_matrix_has_a_row_for_each(invoke: Invoke, runs: Path) -> None:
    shown = invoke("show", str(runs), "--matrix").stdout
    rows = [line.split(" | ") for line in shown.splitlines() if line.startswith("| aim")]
    assert [row[1] for row in rows] == [f"base-trained (seed-{seed}/aim)" for seed in (0, 1)]
    assert [[cell.split()[0] for cell in row[2:]] for row in rows] == [["62.5"] * 2, ["75.0"] * 2]


def test_comparison_intervals_and_report_name_them(
    invoke: Invoke, runs: Path, tmp_path: Path
) -> None:
    compared = invoke("compare", str(runs)).stdout
    intervals = invoke("show", str(runs), "--intervals").stdout
    out = tmp_path / "table.json"
    invoke("report", str(runs), "--out", str(out))
    (table,) = json.loads(out.read_text())["tables"]
    for seed in (0, 1):
        assert f"aim from seed-{seed}/aim" in compared
        assert f"aim from seed-{seed}/aim" in intervals
        assert [
            row["note"] for row in table["rows"] if row["start_name"] == f"seed-{seed}/aim"
        ] == [
            "",
            "",
        ]
