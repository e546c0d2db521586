"""`fewshot-i2v export`: from a run folder to files."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.utils.yaml import dump_yaml
from tests.cli.conftest import Invoke
from tests.tiny import tiny_architecture, tiny_split


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of four rows."""
    from fewshot_i2v import evaluate

    folder = tmp_path_factory.mktemp("export")
    tiny_architecture(folder)
    tiny_split(folder)
    encoder = {"name": "tiny", "architecture": "tiny.json", "pretrained": "random"}
    config = {
        "split": "tiny.yaml",
        "encoder": encoder | {"mean": 0.5, "std": 0.5},
        "video": {"frames": 2, "crop": 1},
        "adapter": ["st-adapter", "lora"],
        "head": ["linear", "prototype"],
        "way": 2,
        "query": 1,
        "episodes": 2,
        "tuning": {"steps": 1},
        "workers": 1,
        "cache": "cache",
        "output": "out",
    }
    (folder / "mine.yaml").write_text(dump_yaml(config))
    evaluate(folder / "mine.yaml")
    return folder


def _places(folder: Path) -> list[str]:
    return ["--architecture", str(folder / "tiny.json"), "--cache", str(folder / "cache")]


def test_files_and_how_to_load_them_are_named(folder: Path, tmp_path: Path, invoke: Invoke) -> None:
    out, row = tmp_path / "lora", folder / "out" / "lora-linear-1shot"
    done = invoke("export", str(row), "--episode", "1", "--out", str(out), *_places(folder))
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("lora with linear, episode 1: tuned again, same predictions")
    names = ["adapter.json", "adapter.safetensors"]
    names += ["open_clip_config.json", "open_clip_model.safetensors"]
    assert lines[1:5] == [str(out / name) for name in names]
    assert f"fewshot_i2v.load_merged({out})" in lines[5]
    words = shlex.split(done.stderr.splitlines()[-1])
    assert words == ["next:", "fewshot-i2v", "predict", str(out), "CLIP.mp4"]
    again = invoke("export", str(row), "--episode", "1", "--out", str(out), *_places(folder))
    assert again.exit_code == 2
    assert again.stderr == f"error: {out}: exists, and nothing is written over; give a new folder\n"


@pytest.mark.parametrize("adapter", ["lora", "st-adapter"])
def test_the_next_command_classifies_clips(
    folder: Path, tmp_path: Path, invoke: Invoke, adapter: str
) -> None:
    """Also with a head that compares with support clips, and an adapter that was not merged."""
    out, row = tmp_path / adapter, folder / "out" / f"{adapter}-prototype-1shot"
    done = invoke("export", str(row), "--episode", "1", "--out", str(out), *_places(folder))
    assert done.exit_code == 0, done.stderr
    words = shlex.split(done.stderr.splitlines()[-1])
    assert words[:4] == ["next:", "fewshot-i2v", "predict", str(out)]
    record = read_run(row).records[1]
    clip = next(folder.rglob(record.query[0][0]))
    words = [str(clip) if word == "CLIP.mp4" else word for word in words]
    found = invoke(*words[2:], "--cache", str(folder / "cache"), "--workers", "1")
    assert found.exit_code == 0, found.stderr
    probabilities = list(json.loads(found.stdout)["probabilities"].values())
    assert probabilities == pytest.approx(record.probabilities[0], abs=1e-4)


def test_json_and_no_merging(folder: Path, tmp_path: Path, invoke: Invoke) -> None:
    args = ["--episode", "0", "--json", *_places(folder)]
    for name in ("lora", "st-adapter"):
        row, out = folder / "out" / f"{name}-linear-1shot", tmp_path / name
        done = invoke("export", str(row), "--out", str(out), "--no-merge", *args)
        assert done.exit_code == 0, done.stderr
        data = json.loads(done.stdout)
        assert (data["adapter"], data["merged"], data["episode"]) == (name, False, 0)
        assert data["files"] == ["adapter.json", "adapter.safetensors"]
    done = invoke("export", str(row), "--out", str(tmp_path / "x"), "--merge", *args)
    assert done.exit_code == 2
    assert "st-adapter cannot be merged" in done.stderr


def test_wrong_use(folder: Path, tmp_path: Path, invoke: Invoke) -> None:
    out = ["--out", str(tmp_path / "x")]
    row = str(folder / "out" / "lora-linear-1shot")
    assert "--episode: missing" in invoke("export", row, *out).stderr
    assert invoke("export", row, "--episode", "-1", *out).exit_code == 2
    assert invoke("export", str(tmp_path / "absent"), "--episode", "0", *out).exit_code == 2
    whole = invoke("export", str(folder / "out"), "--episode", "0", *out)
    assert whole.exit_code == 2
    assert "give the folder of one row" in whole.stderr


def test_help_needs_no_torch() -> None:
    program = (
        "import sys\nfrom fewshot_i2v.cli import main\n"
        "try:\n    main(['export', '--help'])\n"
        "finally:\n    sys.exit('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, "--no-merge" in done.stdout) == (0, True)
