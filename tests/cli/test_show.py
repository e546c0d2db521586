"""`fewshot-i2v show`: a table from records, while or after they are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.run_folder import RunFolder
from tests.cli.conftest import Invoke


def record(index: int, accuracy: float | None) -> EpisodeRecord:
    """An episode of two classes with two queries each; None is one that failed."""
    ok = accuracy is not None
    labels = [0, 0, 1, 1]
    right = round(4 * (accuracy or 0))
    predictions = [label if i < right else 1 - label for i, label in enumerate(labels)]
    return EpisodeRecord(
        index=index,
        status="ok" if ok else "failed",
        classes=["a", "b"],
        support=[["a/1"], ["b/1"]],
        query=[["a/2", "a/3"], ["b/2", "b/3"]],
        labels=labels,
        predictions=predictions if ok else [],
        probabilities=[[1.0 - p, float(p)] for p in predictions] if ok else [],
        accuracy=accuracy,
        losses=[],
        seconds=0.25 * (index + 1) if ok else 0.0,
        peak_memory_mb=10.0 + index,
        error=None if ok else {"path": "a/1.mp4", "reason": "empty"},
    )


def write(
    output: Path,
    adapter: str,
    accuracies: list[float | None],
    way: int = 5,
    begin: str = "fresh",
    steps: int = 20,
    parameters: int = 325,
    planned: int = 0,
    **marks: object,
) -> None:
    config = load_config(
        {
            "split": "motions",
            "adapter": adapter,
            "way": way,
            "start": begin,
            "tuning": {"steps": steps},
        }
    )
    row = expand_rows(config)[0]
    identity = {
        "config": row.identity(),
        "split": {"digest": "d"},
        "encoder": {"digest": "e"},
        "device": "cpu",
    }
    about = {"parameters": parameters, "marks": marks, "planned": planned}
    with RunFolder.open(output / row.slug, about, identity=identity) as folder:
        folder.append([record(i, accuracy) for i, accuracy in enumerate(accuracies)])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write(tmp_path, "aim:scale=0.5", [0.5, 1.0, None])
    write(tmp_path, "frozen", [0.5, 0.75, 0.25])
    return tmp_path


def test_rows_of_one_evaluation_share_a_table(invoke: Invoke, runs: Path) -> None:
    result = invoke("show", str(runs))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("split motions (novel), 5-way, 5 query clips per class, seed 0")
    frozen = next(i for i, line in enumerate(lines) if line.startswith("frozen"))
    assert lines[frozen + 1].startswith("aim:scale=0.5")
    assert "50.0" in lines[frozen]
    assert "3/0" in lines[frozen]
    assert "75.0" in lines[frozen + 1]
    assert "2/1" in lines[frozen + 1]
    assert "+12.5" in lines[frozen + 1], "gain over frozen, paired on episodes 0 and 1"


@pytest.mark.parametrize("command", ["show", "report", "compare", "plan", "export"])
def test_the_usual_folder_is_proposed_for_one_that_is_not_there(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    wrong = invoke(command, "mine")
    assert wrong.exit_code == 2
    assert "mine: no such folder; expected the --output of an evaluation; " in wrong.stderr
    assert f"did you mean {Path('runs', 'mine')}?" in wrong.stderr
    other = invoke(command, "others")
    assert "others: no such folder" in other.stderr
    assert "did you mean" not in other.stderr


def test_one_run_folder_is_one_row(invoke: Invoke, runs: Path) -> None:
    data = json.loads(invoke("show", str(runs / "frozen-linear-1shot"), "--json").stdout)
    assert len(data) == 1
    row = data[0]["rows"][0]
    assert (row["adapter"], row["head"], row["shot"]) == ("frozen", "linear", 1)
    assert (row["episodes"], row["failed"], row["parameters"]) == (3, 0, 325)
    assert (row["seconds_per_episode"], row["peak_memory_mb"]) == (0.5, 12.0)
    assert row["interval"]["mean"] == 0.5


def test_other_episodes_are_another_table(invoke: Invoke, runs: Path) -> None:
    write(runs / "other", "frozen", [0.5], way=2)
    data = json.loads(invoke("show", str(runs), "--json").stdout)
    assert sorted((table["way"], len(table["rows"])) for table in data) == [(2, 1), (5, 2)]
    text = " ".join(invoke("show", str(runs)).stdout.split())
    assert text.count("split motions") == 2


def test_marks_of_the_header_are_shown(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "frozen", [0.5], note="reconstruction", uses_names=True)
    shown = invoke("show", str(tmp_path)).output
    assert "frozen (reconstruction)  read" in shown
    assert "names read: the head knew the names of the classes: do not rank it" in shown
    full = " ".join(invoke("show", str(tmp_path), "--notes").output.split())
    assert "given the names of the classes" in full


def test_starts_share_a_table_with_fresh_rows(invoke: Invoke, runs: Path) -> None:
    begun = {"kind": "base-trained", "name": "mine", "digest": "d", "seen": None}
    folder = runs / "starts" / "mine"
    folder.mkdir(parents=True)
    plain = {"adapter": {"name": "aim"}, "tensors": {"sha256": "d"}}
    (folder / "adapter.json").write_text(json.dumps(plain))
    write(runs, "aim:scale=0.5", [1.0, 1.0], begin=str(folder), start=begun)
    assert (runs / "aim_scale=0.5-linear-1shot-from-mine").is_dir()
    shown = invoke("show", str(runs)).stdout
    assert shown.count("split motions") == 1
    lines = [line.split() for line in shown.splitlines() if "scale=0.5" in line]
    assert [line[1] for line in lines] == ["fresh", "base"]
    assert "+37.5" in lines[1], "gain over frozen, paired on episodes 0 and 1"
    matrix = invoke("show", str(runs), "--matrix").stdout
    assert "| adapter | start | linear |" in matrix
    assert "| aim:scale=0.5 | base-trained | 100.0 |" in matrix
    rows = json.loads(invoke("show", str(runs), "--json").stdout)[0]["rows"]
    assert [(row["start"], row["start_name"]) for row in rows][-1] == ("base-trained", "mine")


def test_what_a_start_had_seen_is_shown(invoke: Invoke, tmp_path: Path) -> None:
    seen = {"classes": ["up"], "clips": 3}
    begun = {"kind": "base-trained", "name": "mine", "digest": "d", "seen": seen}
    write(tmp_path, "frozen", [0.5], start=begun)
    assert "base-trained, seen" in invoke("show", str(tmp_path)).stdout


def test_adapters_against_heads(invoke: Invoke, runs: Path) -> None:
    shown = invoke("show", str(runs), "--matrix").output
    assert "| adapter | linear |" in shown
    assert "| frozen | 50.0 |" in shown
    assert "| aim:scale=0.5 | 75.0* |" in shown


def test_markdown_and_json_at_once_are_refused(invoke: Invoke, runs: Path) -> None:
    result = invoke("show", str(runs), "--matrix", "--json")
    assert result.exit_code == 2
    assert "either --matrix or --json" in result.stderr


def test_several_tables_say_which_folder_they_are_of(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path / "one", "frozen", [0.5])
    write(tmp_path / "two", "frozen", [0.5])
    shown = invoke("show", str(tmp_path)).output
    assert f"{tmp_path / 'one'}:\nsplit motions" in shown
    assert f"{tmp_path / 'two'}:\nsplit motions" in shown


def test_a_run_without_a_finished_episode_is_shown(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "frozen", [])
    write(tmp_path, "aim", [None])
    result = invoke("show", str(tmp_path))
    assert result.exit_code == 0
    assert "0/1" in result.stdout


def test_a_folder_without_runs_is_wrong_use(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("show", str(tmp_path))
    assert result.exit_code == 2
    assert f"{tmp_path}: no run.json" in result.stderr
    assert invoke("show", str(tmp_path / "absent")).exit_code == 2


def test_a_damaged_run_names_the_file(invoke: Invoke, runs: Path) -> None:
    path = runs / "frozen-linear-1shot" / "episodes.jsonl"
    path.write_bytes(b"{}\n" + path.read_bytes())
    result = invoke("show", str(runs))
    assert result.exit_code == 2
    assert f"{path}:1" in result.stderr


def test_intervals_for_other_clips_classes_and_seeds(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "frozen", [0.5, 0.75, 0.5])
    write(tmp_path, "aim", [0.75, 1.0, None, 0.75])
    done = invoke("show", str(tmp_path), "--intervals")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["frozen", "1", "58.33"] in [line[:3] for line in lines]
    assert ["aim", "1", "83.33"] in [line[:3] for line in lines]
    assert ["aim", "1", "+25.00"] in [line[:3] for line in lines], "episodes 0 and 1 are common"
    assert "groups of clips are not looked at; name it with --split" in done.stderr
    assert "Warning" not in done.stderr
    assert "'a/1' is in every episode of its class" in " ".join(done.stdout.split())
    (table,) = json.loads(invoke("show", str(tmp_path), "--intervals", "--json").stdout)
    assert [row["row"] for row in table["rows"]] == ["frozen", "aim"]
    assert table["over_frozen"][0]["intervals"]["these clips"]["mean"] == pytest.approx(0.25)


def test_intervals_where_nothing_has_succeeded_yet(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "frozen", [None])
    assert "no episode succeeded yet" in invoke("show", str(tmp_path), "--intervals").stdout


def test_what_does_not_go_together_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "frozen", [0.5])
    both = invoke("show", str(tmp_path), "--intervals", "--matrix")
    assert (both.exit_code, "leave out --matrix" in both.stderr) == (2, True)
    alone = invoke("show", str(tmp_path), "--split", "motions")
    assert (alone.exit_code, "--split is for --intervals" in alone.stderr) == (2, True)
    other = invoke("show", str(tmp_path), "--intervals", "--split", "shapes")
    assert (other.exit_code, "another list of clips" in other.stderr) == (2, True)
