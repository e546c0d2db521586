"""`fit`, `predict` and `test` as commands."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result

from fewshot_i2v import check_labels
from fewshot_i2v.cli._root import cli
from tests.evaluation.fitting.conftest import Material


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("fit-cli"))


def _run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], input=stdin)


@pytest.fixture(scope="module")
def model(material: Material) -> Path:
    path = material.folder / "shapes.safetensors"
    result = _run("fit", material.train, "--out", path, *_flags(material), "--head", "prototype")
    assert result.exit_code == 0, result.output
    assert "Clips held out in 20 parts" in result.stdout
    assert f"fewshot-i2v predict {path} NEW_CLIPS" in result.stderr
    return path


def _flags(material: Material) -> list[object]:
    encoder = ["--encoder", "tiny", "--architecture", material.folder / "tiny.json"]
    weights = ["--pretrained", "random", "--mean", "0.5", "--std", "0.5"]
    running = ["--frames", 4, "--crop", 1.0, "--workers", 1, "--device", "cpu"]
    return [*encoder, *weights, *running, "--cache", material.folder / "cache"]


def _cache(material: Material) -> list[object]:
    return ["--cache", material.folder / "cache", "--workers", 1]


def test_clips_become_json_lines(material: Material, model: Path) -> None:
    result = _run("predict", model, material.test, "--top", 2, *_cache(material))
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 10
    assert all(len(row["probabilities"]) == 2 for row in rows)
    assert all(row["probability"] == max(row["probabilities"].values()) for row in rows)


def test_names_from_standard_input_and_errors(material: Material, model: Path) -> None:
    clip = next(material.test.rglob("*.mp4"))
    text = f"{clip}\n\n{material.folder / 'tiny.json'}\n"
    result = _run("predict", model, "-", *_cache(material), stdin=text)
    assert result.exit_code == 3
    good, bad = map(json.loads, result.stdout.splitlines())
    assert good["path"] == str(clip)
    assert bad.keys() == {"path", "error"}
    assert "1 of 2 clips cannot be read" in result.stderr


def test_names_of_windows_programs_are_read(material: Material, model: Path) -> None:
    clips = sorted(material.test.rglob("*.mp4"))[:2]
    text = "\ufeff" + "".join(f"{clip}\r\n" for clip in clips)
    result = _run("predict", model, "-", *_cache(material), stdin=text)
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["path"] for line in result.stdout.splitlines()] == [*map(str, clips)]


def test_a_csv_has_a_column_for_each_class(material: Material, model: Path) -> None:
    result = _run("predict", model, material.test, "--format", "csv", *_cache(material))
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 10
    for row in rows:
        assert sum(float(row[name]) for name in material.classes) == pytest.approx(1)


def test_a_table_is_read_at_a_glance(material: Material, model: Path) -> None:
    result = _run("predict", model, material.test, "--format", "table", *_cache(material))
    lines = result.stdout.splitlines()
    assert all(line.endswith(" %") for line in lines)
    assert len({line.rindex(" %") for line in lines if "nearest" not in line}) == 1


def test_a_newline_in_a_name_breaks_no_line(model: Path, tmp_path: Path) -> None:
    bad = tmp_path / "a\nb.mp4"
    bad.write_bytes(b"x")
    table = _run("predict", model, bad, "--format", "table", "--cache", tmp_path / "cache")
    assert len(table.stdout.splitlines()) == 1
    assert "a\\nb.mp4  error: " in table.stdout
    rows = _run("predict", model, bad, "--format", "csv", "--cache", tmp_path / "cache")
    assert len(rows.stdout.splitlines()) == 2


@pytest.mark.parametrize("flags", [("--format", "csv"), ("--window", "2")])
def test_top_without_an_effect_is_refused(model: Path, flags: tuple[str, ...]) -> None:
    result = _run("predict", model, "a.mp4", "--top", "2", *flags)
    assert result.exit_code == 2
    assert "--top 2: a " in result.stderr
    assert "leave it out" in result.stderr


def test_a_folder_without_clips_is_an_error(
    material: Material, model: Path, tmp_path: Path
) -> None:
    result = _run("predict", model, tmp_path, *_cache(material))
    assert result.exit_code != 0
    assert "no video in this folder" in result.stderr


def test_a_labelled_folder_is_tested(material: Material, model: Path) -> None:
    result = _run("test", model, material.test, *_cache(material))
    assert result.exit_code == 0, result.output
    assert "of 10 clips right" in result.stdout
    assert "fit said" in result.stdout
    assert f"next: fewshot-i2v predict {model} NEW_CLIPS" in result.stderr
    plain = json.loads(_run("test", model, material.test, "--json", *_cache(material)).stdout)
    assert plain["accuracy"]["clips"] == len(plain["clips"]) == 10


def test_a_model_that_is_there_is_not_replaced(material: Material, model: Path) -> None:
    before = model.read_bytes()
    arguments = ("fit", material.train, "--out", model, *_flags(material), "--head", "nearest")
    result = _run(*arguments)
    assert "already there" in result.stderr
    assert model.read_bytes() == before
    forced = _run(*arguments, "--force", "--folds", 2, "--json")
    assert forced.exit_code == 0, forced.output
    assert json.loads(forced.stdout)["folds"] == 2
    model.write_bytes(before)


def test_mistyped_settings_are_named(material: Material, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    result = _run("fit", material.train, "--out", out, "--head", "protoype")
    assert "did you mean" in result.stderr
    result = _run("fit", tmp_path / "absent", "--out", out)
    assert "absent" in result.stderr
    assert not out.exists()


def test_options_of_a_fit_are_no_settings(material: Material, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    result = _run("fit", material.train, "--out", out, "--set", "folds=3")
    assert result.exit_code == 2
    assert "folds: has no meaning for a fit" in result.stderr
    assert not out.exists()


def test_a_class_is_added_by_a_pattern(material: Material, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "more.safetensors"
    pattern = material.test / material.classes[0] / "*.mp4"
    result = _run("update", model, "--add", f"new={pattern}", "--out", out, *_cache(material))
    assert result.exit_code == 0, result.output
    assert "6 classes, 22 clips (2 to 4 each)" in result.stdout
    assert f"fewshot-i2v predict {out} NEW_CLIPS" in result.stderr
    again = _run("update", out, "--remove", "new", "--out", out, *_cache(material))
    assert "already there" in again.stderr
    wrong = _run(
        "update", model, "--add", "new", "--out", tmp_path / "x.safetensors", *_cache(material)
    )
    assert "expected CLASS=FILES" in wrong.stderr


def test_labels_of_a_split_are_checked(material: Material, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    shutil.copytree(material.train, clips)
    first, second = material.classes[:2]
    wrong = clips / first / "wrong.mp4"
    shutil.copy(sorted((material.test / second).iterdir())[0], wrong)
    split = tmp_path / "s.yaml"
    assert _run("episodes", "new", split, "--root", clips).exit_code == 0
    encoder = _flags(material)[:10]
    options = ("--root", clips, "--cache", tmp_path / "cache", "--workers", 1, "--frames", 4)
    arguments = ("episodes", "check", split, *options, "--labels", "--device", "cpu", *encoder)
    result = _run(*arguments)
    assert result.exit_code == 0, result.output
    assert "labels of novel: " in result.stdout
    plain = json.loads(_run(*arguments, "--json").stdout)
    (labels,) = plain["labels"]
    assert labels["accuracy"]["clips"] == 21
    by_call = check_labels(
        str(split),
        root=clips,
        video={"frames": 4},
        **{k: v for k, v in material.keys().items() if k != "video"},
    )
    assert json.loads(json.dumps(by_call.to_dict())) == labels
    for suspect in labels["suspects"]:
        assert f"{suspect['clip']}: labelled {suspect['label']}, looks like" in result.stdout
    without = json.loads(_run("episodes", "check", split, *options, "--json").stdout)
    assert "labels" not in without
    refused = _run("episodes", "check", split, *options, "--encoder", "tiny")
    assert refused.exit_code != 0
    assert "go with --labels" in refused.stderr


def test_a_clip_with_the_label_of_another_class_is_named(
    material: Material, tmp_path: Path
) -> None:
    """Classes are corners of the picture, so a wrong label is seen."""
    random = np.random.default_rng(0)
    for number in range(24):
        pictures = random.integers(0, 60, (8, 32, 32, 3), np.uint8)
        corner = number % 4
        pictures[:, 16 * (corner // 2) :, 16 * (corner % 2) :][:, :16, :16] = 250
        label = 1 if number == 0 else corner
        path = tmp_path / f"corner-{label}" / f"{number}.mkv"
        path.parent.mkdir(exist_ok=True)
        with av.open(str(path), "w") as out:
            stream = out.add_stream("ffv1", rate=8)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for picture in pictures:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(stream.encode())
    keys = material.keys(head="prototype") | {"encoder": "pixels"}
    check = check_labels(tmp_path, **keys)
    (suspect,) = check.suspects
    assert (suspect.clip, suspect.label) == ("corner-1/0.mkv", "corner-1")
    assert suspect.predicted == "corner-0"
    assert check.accuracy.count == 23
    assert check.confused == ()
