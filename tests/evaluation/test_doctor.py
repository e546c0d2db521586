"""Checks of an installation: what is missing or broken is said with what to do."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
import torch

from fewshot_i2v.evaluation import doctor
from fewshot_i2v.evaluation.doctor import HealthCheck, run_checks

BROKEN = '"""Broken."""\nimport no_such_module\n'


def _checks(cache: Path) -> dict[str, HealthCheck]:
    return {check.name: check for check in run_checks(cache)}


def test_of_an_installation_that_works(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    entry = cache / "clips" / "ab" / f"{'a' * 64}.npy"
    entry.parent.mkdir(parents=True)
    entry.write_bytes(bytes(1500))
    checks = _checks(cache)
    assert not [check for check in checks.values() if check.status == "problem"]
    assert checks["torch"].values["version"] == torch.__version__
    assert checks["video"].values["pyav"] == av.__version__
    assert checks["video"].values["used"] == "pyav"
    assert checks["packages"].values["versions"]["numpy"]
    assert checks["decoding"].fact == "a generated clip was decoded to 8 frames of 64 pixels"
    assert len(checks["encoder"].values["digest"]) == 64
    assert {key: checks["cache"].values[key] for key in ("folder", "files", "size")} == {
        "folder": str(cache),
        "files": 1,
        "size": 1500,
    }
    assert "1.5 kB in 1 files" in checks["cache"].fact


def test_a_broken_torch_is_a_finding_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    checks = _checks(tmp_path)
    assert checks["torch"].status == checks["encoder"].status == "problem"
    assert checks["torch"].fact.startswith("cannot be imported: ")
    assert checks["torch"].advice == "python -m pip install --force-reinstall torch"
    assert checks["decoding"].status == checks["cache"].status == "ok"


def test_packages_that_do_not_fit_are_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["numpy>=999", "no-such-package>=1", "other>=1; extra == 'dev'", "click>=1"]
    monkeypatch.setattr(doctor, "requires", lambda _: lines)
    check = _checks(tmp_path)["packages"]
    assert check.status == "problem"
    assert "expected >=999; no-such-package is not installed, expected >=1" in check.fact
    assert check.advice == "python -m pip install 'numpy>=999' 'no-such-package>=1'"


def test_a_reader_that_fails_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "encode", lambda *_: b"no video")
    check = _checks(tmp_path)["decoding"]
    assert check.status == "problem"
    assert check.fact.startswith("a generated clip: ")
    assert check.advice.endswith("av")


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = _checks(tmp_path / "file" / "cache")["cache"]
    assert check.status == "problem"
    assert "Not a directory" in check.fact
    assert "export FEWSHOT_I2V_HOME=FOLDER" in check.advice


def test_a_driver_whose_gpu_torch_does_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    check = _checks(tmp_path)["devices"]
    assert check.status == "note"
    assert check.advice == "install torch for CUDA, as pytorch.org says"


def test_gpus_are_listed_with_their_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(name="NVIDIA X", total_memory=141 * 10**9)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    check = _checks(tmp_path)["devices"]
    assert check.status == "ok"
    assert check.fact.startswith("cuda:0 NVIDIA X, 141 GB; cuda:1 NVIDIA X, 141 GB; cpu, ")
    assert "; auto is cuda; precision auto is " in check.fact


def test_own_adapters_are_loaded_and_broken_ones_are_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(doctor.registry.__file__).parent / "models" / "heads" / "nearest.py"
    for name, text in (("mine", source.read_text()), ("broken", BROKEN)):
        path = tmp_path / "heads" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(tmp_path))
    check = _checks(tmp_path)["plug-ins"]
    assert check.status == "note"
    assert check.fact.startswith("1 of 2 are broken: ")
    assert check.advice == f"fewshot-i2v check-head {tmp_path}/heads/broken.py"
    assert [m["name"] for m in check.values["methods"] if not m["problem"]] == ["mine"]


def test_a_variable_that_names_no_folder_stops_every_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(tmp_path / "absent"))
    check = _checks(tmp_path)["plug-ins"]
    assert check.status == "problem"
    assert "absent: not a folder" in check.fact
