"""`fewshot-i2v export` and `card` of a fitted model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fewshot_i2v.cli._root import cli
from fewshot_i2v.evaluation.deployment import hub, onnx_export
from fewshot_i2v.evaluation.deployment.hub import HubPlan
from fewshot_i2v.evaluation.deployment.onnx_export import OnnxExport
from tests.evaluation.deployment.conftest import Models

PLAN = HubPlan("me/gestures", False, False, ("m.safetensors", "README.md"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Models(tmp_path_factory.mktemp("export-model")).path("lora", "linear")


def _run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], input=stdin)


def test_onnx_says_size_opset_and_difference(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export itself is tested beside its function."""
    calls: list[tuple[object, ...]] = []

    def export(source: Path, out: Path, **more: Any) -> OnnxExport:
        calls.append((source, out, more["pretrained"], more["force"]))
        return OnnxExport(out, 12_345_678, 20, True, 3e-7, 1e-6)

    monkeypatch.setattr(onnx_export, "export_onnx", export)
    out = tmp_path / "x.onnx"
    result = _run("export", model, "--onnx", out, "--force", "--pretrained", "there.pt")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == (
        f"{out}: 12 MB, opset 20, adapter merged; with 1, 3, 8 clips probabilities are within "
        "3e-07 of PyTorch\n"
    )
    assert calls == [(model, out, "there.pt", True)]
    plain = json.loads(_run("export", model, "--onnx", out, "--json").stdout)
    assert plain["onnx"]["opset"] == 20
    assert plain["onnx"]["batches"] == [1, 3, 8]


def test_open_clip_names_its_files(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    result = _run("export", model, "--open-clip", out)
    assert result.exit_code == 0, result.stderr
    assert str(out / "open_clip_model.safetensors") in result.stdout
    assert f"fewshot_i2v.load_merged({out})" in result.stdout


def test_flags_of_the_other_kind_are_refused(model: Path, tmp_path: Path) -> None:
    result = _run("export", model)
    assert "give --onnx, --open-clip or --hub" in result.stderr
    result = _run("export", model, "--onnx", tmp_path / "x.onnx", "--episode", 0)
    assert f"--episode: {model} is a fitted model" in result.stderr
    result = _run("export", model, "--onnx", tmp_path / "x.onnx", "--max-clip-frames", 9)
    assert result.exit_code == 2
    result = _run("export", tmp_path, "--onnx", tmp_path / "x.onnx")
    assert f"--onnx: {tmp_path} is a run" in result.stderr
    result = _run("export", tmp_path / "absent.safetensors", "--onnx", tmp_path / "x.onnx")
    assert "no such file; `fewshot-i2v fit" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was uploaded to a stand-in, which asks as the real function does."""
    uploads: list[dict[str, Any]] = []

    def upload(
        model: Path, name: str, *, confirm: Callable[[HubPlan], bool], **more: Any
    ) -> str | None:
        if not confirm(PLAN):
            return None
        uploads.append({"model": model, "name": name, **more})
        return f"https://huggingface.co/{name}"

    monkeypatch.setattr(hub, "upload_model", upload)
    return uploads


def test_hub_asks_first(model: Path, uploads: list[dict[str, Any]]) -> None:
    arguments = ("export", model, "--hub", "me/gestures")
    refused = _run(*arguments, stdin="n\n")
    assert refused.exit_code == 1
    assert "a new repository, private" in refused.stderr
    assert "nothing was uploaded" in refused.stderr
    unanswered = _run(*arguments, stdin="")
    assert unanswered.exit_code == 2
    assert "give --yes" in unanswered.stderr
    assert uploads == []
    done = _run(*arguments, stdin="y\n")
    assert done.exit_code == 0
    assert done.stdout == "https://huggingface.co/me/gestures\n"
    assert uploads == [{"model": model, "name": "me/gestures", "more": [], "public": False}]


def test_hub_with_yes_does_not_ask(model: Path, uploads: list[dict[str, Any]]) -> None:
    done = _run("export", model, "--hub", "me/gestures", "--yes", "--public", "--json")
    assert json.loads(done.stdout) == {"hub": "https://huggingface.co/me/gestures"}
    assert uploads[0]["public"] is True


def test_a_card_is_printed_or_written(model: Path, tmp_path: Path) -> None:
    printed = _run("card", model)
    assert printed.exit_code == 0
    assert printed.stdout.startswith("---\nlicense: unknown\n")
    out = tmp_path / "README.md"
    assert _run("card", model, "--out", out).stdout == f"{out}\n"
    assert out.read_text(encoding="utf-8") == printed.stdout
    again = _run("card", model, "--out", out)
    assert again.exit_code == 2
    assert "already there" in again.stderr
    assert _run("card", model, "--out", out, "--force").exit_code == 0
    assert "no such file" in _run("card", tmp_path / "absent.safetensors").stderr
