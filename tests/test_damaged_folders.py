"""Run folders and starting points that are damaged or forged: an error that names the file."""

from __future__ import annotations

import json
import random
import shutil
import traceback
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fewshot_i2v.cli._root import cli
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.run_folder import RunFolder
from tests.mutants import mutate_run, mutate_start
from tests.training.training_samples import settings, training_folder

STATUSES = {0, 1, 2, 3, 4}
READERS = (
    *(("show",), ("show", "--json"), ("show", "--matrix"), ("show", "--intervals")),
    *(("compare",), ("compare", "--json"), ("compare", "--all-pairs"), ("plan",)),
    *(("report", ".csv"), ("report", ".json"), ("report", ".tex"), ("report", ".md")),
    ("report", ".bib"),
)


def record(index: int, skill: float, draws: random.Random) -> EpisodeRecord:
    """An episode of two classes."""
    labels = [0, 0, 1, 1]
    predictions = [c if draws.random() < skill else 1 - c for c in labels]
    clips = [[f"{name}/{draws.randrange(9)}.mp4" for _ in range(3)] for name in ("jump", "run")]
    return EpisodeRecord(
        index=index,
        status="ok",
        classes=["jump", "run"],
        support=[row[:1] for row in clips],
        query=[row[1:] for row in clips],
        labels=labels,
        predictions=predictions,
        probabilities=[[0.9, 0.1] if p == 0 else [0.1, 0.9] for p in predictions],
        accuracy=sum(a == b for a, b in zip(labels, predictions, strict=True)) / 4,
        losses=[0.5, 0.25],
        seconds=0.5,
        peak_memory_mb=100.0,
    )


def write_runs(output: Path) -> list[Path]:
    """An evaluation of three rows, one of them from a starting point, with a failed episode."""
    until = {"points": 5.0, "episodes": 6, "met": True, "half_widths": [0.04, None], "looks": 2}
    folders = []
    for place, (adapter, skill) in enumerate([("frozen", 0.5), ("aim", 0.8), ("lora", 0.9)]):
        given = {"split": "motions", "way": 2, "query": 2, "adapter": adapter}
        (row,) = expand_rows(load_config(given | {"training_seeds": [0]} if place == 2 else given))
        identity = {
            "config": row.identity(),
            "split": {"digest": "d"},
            "encoder": {"digest": "e"},
            **{"at_once": 2, "device": "cpu", "versions": {"torch": "2"}},
        }
        start = {"kind": "base-trained", "name": "x", "digest": "d", "seen": None}
        header: dict[str, Any] = {
            "name": "sample",
            "position": place,
            "marks": {"note": "", "uses_names": False, "start": start if place == 1 else None},
            "split": {"name": "motions", "version": 1, "path": "motions.yaml"},
            "encoder": {"name": "demo", "pretrained": None, "architecture": None},
            **({"start": {"path": "x"}} if place == 1 else {}),
            **{"parameters": 10, "macs_per_clip": 1000, "threads": 1},
        }
        with RunFolder.open(output / row.slug, header, identity=identity) as run:
            draws, lost = random.Random(7), {"path": "jump/1.mp4", "reason": "empty"}
            run.append([record(i, skill, draws) for i in range(5)])
            run.append([EpisodeRecord(5, "failed", ["a"], [["a/1"]], [["a/2"]], error=lost)])
            run.write_summary({"until": until})
        folders.append(output / row.slug)
    return folders


def ended_well(args: list[str], file: Path) -> int:
    """Runs a command that reads a mutant; the status."""
    result = CliRunner().invoke(cli, args, prog_name="fewshot-i2v")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        told = "".join(traceback.format_exception(result.exception)[-4:])
        pytest.fail(f"{args}\n{file.read_bytes()[:3000]!r}\n{told}")
    assert result.exit_code in STATUSES
    if result.exit_code:
        assert file.parent.parent.name in result.output, f"{args}: {result.output}"
        assert len(result.output) < 8000
    return result.exit_code


def readings(folder: Path, count: int, seed: int) -> list[int]:
    """Commands over mutants of a run folder; their statuses."""
    whole, draws, found = folder / "whole", random.Random(seed), []
    rows = write_runs(whole)
    for number in range(count):
        place = folder / f"mutant-{seed}"
        shutil.copytree(whole, place)
        file = mutate_run(place / draws.choice(rows).name, draws)
        name, *flags = READERS[number % len(READERS)]
        out = ["--out", str(folder / f"out{flags[0]}")] if name == "report" else flags
        found.append(ended_well([name, str(place), *out], file))
        shutil.rmtree(place)
    return found


def test_the_whole_folder_is_read_by_all(tmp_path: Path) -> None:
    (first, *_) = write_runs(tmp_path / "whole")
    for name, *flags in READERS:
        out = ["--out", str(tmp_path / f"out{flags[0]}")] if name == "report" else flags
        assert ended_well([name, str(first.parent), *out], first / "run.json") == 0


def test_a_mutant_is_an_error_that_names_its_folder(tmp_path: Path) -> None:
    statuses = readings(tmp_path, 48, seed=0)
    assert 18 < sum(status == 2 for status in statuses) < 45


@pytest.mark.parametrize("key", ["precision", "frame_order", "split", "subset"])
def test_a_value_of_another_type_in_the_configuration_is_named(tmp_path: Path, key: str) -> None:
    (first, *_) = write_runs(tmp_path / "run")
    header = json.loads((first / "run.json").read_text(encoding="utf-8"))
    header["identity"]["config"][key] = [[]]
    (first / "run.json").write_text(json.dumps(header), encoding="utf-8")
    for name, *flags in READERS:
        out = ["--out", str(tmp_path / f"out{flags[0]}")] if name == "report" else flags
        result = CliRunner().invoke(cli, [name, str(first.parent), *out], prog_name="fewshot-i2v")
        assert result.exit_code == 2
        assert f"identity.config.{key} is [[]]; expected text" in result.output


@pytest.mark.slow
def test_many_mutants(tmp_path: Path) -> None:
    statuses = readings(tmp_path, 1700, seed=1)
    assert 700 < sum(status == 2 for status in statuses) < 1600


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A starting point trained on generated clips, and an evaluation that begins with it."""
    folder = training_folder(tmp_path_factory.mktemp("workshop"))
    given = settings(folder, folder / "start", adapter="temporal-embedding", steps=1, save_every=1)
    shared = ("split", "encoder", "video", "adapter", "head", "workers", "device", "cache")
    row = {key: given[key] for key in shared} | {"way": 2, "shot": 1, "query": 2, "episodes": 3}
    row |= {"start": str(folder / "start"), "tuning": {"steps": 1}, "output": str(folder / "run")}
    for name, config in (("train", given), ("evaluate", row)):
        (folder / f"{name}.yaml").write_text(json.dumps(config))
        result = CliRunner().invoke(cli, [name, str(folder / f"{name}.yaml"), "--quiet"])
        assert result.exit_code == 0, result.output
    return folder


def writings(folder: Path, kept: Path, count: int, seed: int) -> list[int]:
    """Evaluations and trainings that go on from mutants; their statuses."""
    draws, found = random.Random(seed), []
    shutil.copytree(folder / "start", kept / "start")
    shutil.copytree(folder / "run", kept / "run")
    for number in range(count):
        name = ("evaluate", "train")[number % 2]
        begun, run = folder / "start", next((folder / "run").glob("*/run.json")).parent
        mutant = draws.random() < 0.6 and name == "evaluate"
        file = mutate_run(run, draws) if mutant else mutate_start(begun, draws)
        found.append(ended_well([name, str(folder / f"{name}.yaml"), "--quiet"], file))
        for one in ("start", "run"):
            shutil.rmtree(folder / one)
            shutil.copytree(kept / one, folder / one)
    return found


def test_runs_and_trainings_do_not_go_on_from_mutants(workshop: Path, tmp_path: Path) -> None:
    statuses = writings(workshop, tmp_path, 12, seed=2)
    assert 6 <= sum(status == 2 for status in statuses) < 12


@pytest.mark.slow
def test_runs_and_trainings_do_not_go_on_from_many_mutants(workshop: Path, tmp_path: Path) -> None:
    statuses = writings(workshop, tmp_path, 300, seed=1)
    assert 150 < sum(status == 2 for status in statuses) < 300
