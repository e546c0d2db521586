"""`fewshot-i2v compare`: tables of differences from run folders, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.run_folder import RunFolder
from tests.cli.conftest import Invoke

FROZEN = [0.5, 0.25, 0.5, 0.75, 0.0, 0.25, 0.5]
BETTER = [0.75, 0.5, 1.0, 1.0, 0.25, 0.5, 0.75]


def record(index: int, accuracy: float | None, shot: int, clips: str) -> EpisodeRecord:
    """An episode of two classes with two queries each; None is one that failed."""
    ok = accuracy is not None
    labels = [0, 0, 1, 1]
    right = round(4 * (accuracy or 0))
    predictions = [label if i < right else 1 - label for i, label in enumerate(labels)]
    return EpisodeRecord(
        index=index,
        status="ok" if ok else "failed",
        classes=["a", "b"],
        support=[[f"{c}/s{k}" for k in range(shot)] for c in "ab"],
        query=[[f"{c}/{clips}{index}", f"{c}/{clips}{index}+"] for c in "ab"],
        labels=labels,
        predictions=predictions if ok else [],
        probabilities=[[1.0 - p, float(p)] for p in predictions] if ok else [],
        accuracy=accuracy,
        error=None if ok else {"path": "a/1.mp4", "reason": "empty"},
    )


def write(
    output: Path,
    adapter: str,
    accuracies: list[float | None] | list[float],
    *,
    clips: str = "q",
    digest: str = "d",
    encoder: str = "e",
    marks: dict[str, Any] | None = None,
    **config: Any,
) -> list[Path]:
    """Run folders as an evaluation writes them, one for each row of the configuration."""
    run = load_config({"split": "motions", "adapter": adapter, "way": 2, "query": 2, **config})
    folders = []
    for position, row in enumerate(expand_rows(run)):
        identity = {
            "config": row.identity(),
            "split": {"digest": digest},
            "encoder": {"digest": encoder},
            "device": "cpu",
        }
        about = {"marks": marks or {}, "position": position}
        shot = row.shot if isinstance(row.shot, int) else 1
        shift = 0.25 * (row.training_seed or 0)
        with RunFolder.open(output / row.slug, about, identity=identity) as folder:
            folder.append(
                [
                    record(i, None if x is None else max(0.0, x - shift), shot, clips)
                    for i, x in enumerate(accuracies)
                ]
            )
        folders.append(output / row.slug)
    return folders


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write(tmp_path / "runs", "aim:scale=0.5", BETTER)
    write(tmp_path / "runs", "frozen", FROZEN)
    return tmp_path / "runs"


def comparisons(invoke: Invoke, *args: object) -> list[dict[str, Any]]:
    result = invoke("compare", *map(str, args), "--json")
    assert result.exit_code == 0, result.output
    data: list[dict[str, Any]] = json.loads(result.stdout)["comparisons"]
    return data


def refused(invoke: Invoke, *args: object) -> str:
    result = invoke("compare", *map(str, args))
    assert result.exit_code == 2, result.output
    return str(result.stderr)


def test_rows_are_compared_with_frozen(invoke: Invoke, runs: Path) -> None:
    result = invoke("compare", str(runs))
    assert result.exit_code == 0
    header, table, *_ = result.stdout.split("\n\n")
    said = " ".join(header.split())
    assert said.startswith("split motions (novel), 2-way, 2 query clips per class, seed 0")
    assert said.endswith("head linear over 7 episodes, against frozen")
    assert re.fullmatch(r"aim:scale=0\.5 +1 +\+28\.6 \[.*\] +0\.0156", table.splitlines()[2])
    assert max(map(len, result.stdout.splitlines())) <= 80
    verdict = "aim:scale=0.5 beats frozen on these clips at 1 shot, by 28.6 points (Holm p 0.0156)"
    assert verdict in " ".join(result.stdout.split())
    assert len(result.stdout.strip().split("\n\n")[3].splitlines()) <= 3
    assert f"next: fewshot-i2v recommend {runs}" in result.stderr
    full = invoke("compare", str(runs), "--wide", "--notes").stdout
    cells = full.splitlines()[4].split()
    assert cells[:4] == ["aim:scale=0.5", "frozen", "1", "7"]
    assert cells[-1] == "7/0/0"
    assert "does not cover new clips" in " ".join(full.split())


def test_json_has_the_same(invoke: Invoke, runs: Path) -> None:
    data = json.loads(invoke("compare", str(runs), "--json", "--level", "0.9").stdout)
    assert (data["level"], data["not_compared"]) == (0.9, [])
    (got,) = data["comparisons"]
    assert (got["name"], got["baseline_name"], got["verdict"]) == (
        "aim:scale=0.5",
        "frozen",
        "beats",
    )
    assert got["p"] == pytest.approx(2 / 2**7)
    assert got["difference"]["level"] == 0.9
    assert got["baseline_folder"] == str(runs / "frozen-linear-1shot")
    assert got["sentence"].startswith("aim:scale=0.5 beats frozen on these clips at 1 shot")


def test_run_folders_can_be_given_one_by_one(invoke: Invoke, runs: Path, tmp_path: Path) -> None:
    (lora,) = write(tmp_path / "other", "lora", FROZEN)
    found = comparisons(invoke, runs / "frozen-linear-1shot", lora, runs, runs)
    assert [c["name"] for c in found] == ["lora", "aim:scale=0.5"], "each once, in the order given"
    assert [c["p_holm"] for c in found] == [1.0, pytest.approx(4 / 2**7)]


def test_any_row_can_be_the_baseline(invoke: Invoke, runs: Path, tmp_path: Path) -> None:
    (named,) = comparisons(invoke, runs, "--baseline", "aim")
    assert (named["name"], named["verdict"]) == ("frozen", "is worse than")
    (lora,) = write(tmp_path / "other", "lora", FROZEN)
    found = comparisons(invoke, runs, "--baseline", lora)
    assert [(c["name"], c["baseline_name"]) for c in found] == [
        ("frozen", "lora"),
        ("aim:scale=0.5", "lora"),
    ], "a folder need not be among the runs"
    assert "unknown baseline 'aimm'; did you mean 'aim" in refused(
        invoke, runs, "--baseline", "aimm"
    )


def test_all_pairs(invoke: Invoke, runs: Path) -> None:
    write(runs, "lora", FROZEN)
    found = comparisons(invoke, runs, "--all-pairs")
    assert {(c["name"], c["baseline_name"]) for c in found} == {
        ("aim:scale=0.5", "frozen"),
        ("lora", "frozen"),
        ("lora", "aim:scale=0.5"),
    }
    both = invoke("compare", str(runs), "--all-pairs", "--baseline", "aim")
    assert both.exit_code == 2
    assert "give either" in both.stderr


def test_shots_are_not_mixed(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "frozen", FROZEN, shot=[1, 5])
    write(tmp_path, "aim", BETTER, shot=[1, 5])
    assert [(c["name"], c["shot"]) for c in comparisons(invoke, tmp_path)] == [
        ("aim", 1),
        ("aim", 5),
    ]
    assert "aim beats frozen on these clips at 5 shots" in " ".join(
        invoke("compare", str(tmp_path)).stdout.split()
    )
    (five,) = comparisons(invoke, tmp_path, "--baseline", tmp_path / "frozen-linear-5shot")
    assert five["shot"] == 5
    five_shots = ("compare", str(tmp_path), "--baseline", str(tmp_path / "frozen-linear-5shot"))
    assert "Not compared: 2 rows that no other row has the head" in invoke(*five_shots).stdout
    full = " ".join(invoke(*five_shots, "--notes").stdout.split())
    assert "Not compared, for no other row has their head, shot" in full


def test_other_episodes_are_refused_and_the_key_is_named(invoke: Invoke, runs: Path) -> None:
    (other,) = write(runs.parent / "other", "aim", BETTER, seed=3, clips="z")
    said = refused(invoke, runs / "frozen-linear-1shot", other)
    assert (
        f"{other} and {runs / 'frozen-linear-1shot'} cannot be compared, for these differ" in said
    )
    assert "seed: 3 and 0" in said
    assert "episodes: 7 of 7 differ; the first in query" in said
    (frames,) = write(runs.parent / "frames", "aim", BETTER, video={"frames": 4})
    said = refused(invoke, runs / "frozen-linear-1shot", frames)
    assert "video.frames: 4 and 8" in said
    assert "--across video" in said
    (got,) = comparisons(invoke, runs / "frozen-linear-1shot", frames, "--across", "video.frames")
    assert got["across"] == ["video.frames: 4 and 8"]
    (split,) = write(runs.parent / "split", "aim", BETTER, digest="other")
    assert "split.digest: other and d" in refused(invoke, runs / "frozen-linear-1shot", split)


def test_common_episodes_on_demand(invoke: Invoke, runs: Path) -> None:
    (more,) = write(runs.parent / "more", "lora", [*BETTER[:6], None, 0.5])
    said = refused(invoke, runs / "frozen-linear-1shot", more)
    assert "episodes: 1 in the first only (number 7)" in said
    assert "episodes: 1 failed in one of the two (number 6)" in said
    assert "--common (they have 6 episodes in common)" in said
    (got,) = comparisons(invoke, runs / "frozen-linear-1shot", more, "--common")
    assert (got["episodes"], got["left_out"]) == (6, 2)
    text = invoke("compare", str(runs / "frozen-linear-1shot"), str(more), "--common").stdout
    assert "Up to 2 episodes of a comparison are left out" in text


def test_training_seeds_are_one_row(invoke: Invoke, runs: Path) -> None:
    write(runs, "lora", BETTER, training_seeds=[0, 1])
    found = {c["name"]: c for c in comparisons(invoke, runs)}
    assert set(found) == {"aim:scale=0.5", "lora"}
    assert found["lora"]["training_seeds"] == 2
    halves = [(x + max(0.0, x - 0.25)) / 2 for x in BETTER]
    assert found["lora"]["mean"] == pytest.approx(sum(halves) / 7)
    assert "Rows of 2 training seeds" in invoke("compare", str(runs), "--notes").stdout


def test_starts_are_told_from_fresh_rows(invoke: Invoke, runs: Path) -> None:
    folder = runs.parent / "starts" / "mine"
    folder.mkdir(parents=True)
    about = {"adapter": {"name": "aim"}, "tensors": {"sha256": "d"}}
    (folder / "adapter.json").write_text(json.dumps(about))
    begun = {"kind": "base-trained", "name": "mine", "digest": "d", "seen": None}
    write(runs, "aim:scale=0.5", BETTER, start=str(folder), marks={"start": begun})
    text = invoke("compare", str(runs), "--notes").stdout
    assert "aim:scale=0.5 fresh and aim:scale=0.5 from mine beat frozen" in " ".join(text.split())
    assert "start: what each episode's adapter begins as" in text


def test_a_single_episode_is_compared_by_clips(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "frozen", [0.0])
    write(tmp_path, "aim", [1.0])
    (got,) = comparisons(invoke, tmp_path)
    assert (got["unit"], got["wins"], got["test"]) == ("clip", 4, "McNemar, exact binomial")
    assert got["p"] == pytest.approx(2 / 2**4)
    assert "too few for any verdict" in got["sentence"]


def test_without_frozen_the_way_on_is_named(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "aim", BETTER)
    assert "no row of the adapter frozen" in refused(invoke, tmp_path)
    write(tmp_path, "lora", FROZEN)
    (got,) = comparisons(invoke, tmp_path / "lora-linear-1shot", tmp_path / "aim-linear-1shot")
    assert (got["name"], got["baseline_name"]) == ("aim", "lora"), "two alone: the first is it"


def test_a_folder_without_runs_and_damage_are_named(invoke: Invoke, runs: Path) -> None:
    empty = runs.parent / "empty"
    empty.mkdir()
    assert f"{empty}: no run.json" in refused(invoke, empty)
    assert refused(invoke, runs.parent / "absent")
    path = runs / "frozen-linear-1shot" / "episodes.jsonl"
    path.write_bytes(path.read_bytes().replace(b"q3", b"q4"))
    assert f"{path}:4: damaged" in refused(invoke, runs)
    assert "0<x<1" in refused(invoke, runs, "--level", "95")


def test_commands_that_read_runs_need_no_torch(runs: Path) -> None:
    program = (
        "import sys\nfrom fewshot_i2v.cli import cli\n"
        "for command in ('show', 'compare', 'recommend', 'plan'):\n"
        "    cli([command, sys.argv[1]], standalone_mode=False)\n"
        "    loaded = sorted({'torch', 'scipy.stats'} & sys.modules.keys())\n"
        "    print(command, *loaded, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(runs)], capture_output=True, text=True
    )
    assert (done.returncode, "beats frozen" in done.stdout) == (0, True), done.stderr
    loaded = [line.split() for line in done.stderr.splitlines()]
    assert ["show"] in loaded
    assert ["compare"] in loaded
    assert not any("torch" in line for line in loaded)
    assert {line[0] for line in loaded if line} >= {"recommend", "plan"}


def test_heads_that_differ_have_a_column_and_are_written_out(invoke: Invoke, runs: Path) -> None:
    for adapter, accuracies in (("frozen", FROZEN), ("aim:scale=0.5", BETTER)):
        write(runs, adapter, accuracies, head="prototype")
    header, table, *_ = invoke("compare", str(runs)).stdout.split("\n\n")
    lines = header.splitlines()
    assert {"head A: linear", "head B: prototype"} <= set(lines)
    assert "against frozen with the same head" in header
    notes = " ".join(invoke("compare", str(runs)).stdout.split())
    # a row that beats a weaker readout of the same encoder gains nothing
    assert "Best frozen row: head A at 1 shot; --baseline compares all rows with it." in notes
    assert invoke("compare", str(runs), "--baseline", "frozen with linear").exit_code == 0
    assert {tuple(line.split()[:2]) for line in table.splitlines()[2:]} == {
        ("aim:scale=0.5", "A"),
        ("aim:scale=0.5", "B"),
    }


def test_rows_of_one_verdict_share_a_sentence(invoke: Invoke, runs: Path) -> None:
    write(runs, "lora", BETTER)
    write(runs, "bitfit", FROZEN)
    said = " ".join(invoke("compare", str(runs)).stdout.split())
    assert said.count(" beat frozen on these clips at 1 shot, by 28.6 points") == 1
    assert said.count("cannot be told apart from frozen") == 1
    assert said.count("what other clips would show") == 1
    sentences = [c["verdict"] for c in comparisons(invoke, runs)]
    assert sentences.count("beats") == 2


def test_the_tuning_of_a_frozen_row_is_no_part_of_its_name(invoke: Invoke, tmp_path: Path) -> None:
    head = {"head": "prototype"}
    write(tmp_path / "a", "frozen", FROZEN, tuning={"steps": 5}, **head)
    write(tmp_path / "a", "aim", BETTER, tuning={"steps": 5}, **head)
    # with equal records they would be one row
    write(tmp_path / "b", "frozen", [*FROZEN[:-1], 0.75], tuning={"steps": 2}, **head)
    write(tmp_path / "b", "lora", BETTER, tuning={"steps": 2}, **head)
    found = comparisons(invoke, tmp_path)
    assert {c["baseline_name"] for c in found} == {
        f"frozen ({tmp_path / name})" for name in ("a", "b")
    }
    text = invoke("compare", str(tmp_path)).stdout
    assert "steps" not in text
    assert "untuned" not in text


def test_only_words_of_the_table_are_explained(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "frozen", FROZEN)
    write(tmp_path, "bitfit", FROZEN)
    for command in ("compare", "show"):
        text = invoke(command, str(tmp_path)).stdout
        assert "(all equal)" in text
        assert "few differ" not in text


def test_heads_of_other_tables_are_in_no_name(invoke: Invoke, tmp_path: Path) -> None:
    for way, head in ((2, "linear"), (3, "prototype")):
        for adapter, values in (("frozen", FROZEN), ("aim", BETTER)):
            write(tmp_path / head, adapter, values, head=head, way=way)
    assert " with " not in invoke("compare", str(tmp_path)).stdout
