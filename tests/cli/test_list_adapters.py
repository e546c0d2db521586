"""`fewshot-i2v list adapters --encoder NAME`: what adapters cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewshot_i2v import plugins
from fewshot_i2v.cli._costs import giga
from tests.cli.conftest import Invoke
from tests.test_cost import PLUGIN
from tests.tiny import tiny_architecture

CELLS = ["0", "0.0221", "-", "-", "no", "none", "a note"]
B16 = ("list", "adapters", "--encoder", "ViT-B-16", "--frames", "8")


def row_of(text: str, name: str) -> list[str]:
    """The cells of a row, which two spaces part."""
    line = next(line for line in text.splitlines() if line.split()[:1] == [name])
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_table_of_vit_b_16(invoke: Invoke) -> None:
    text = invoke(*B16).stdout
    lines = text.splitlines()
    assert lines[0] == "encoder ViT-B-16, 224 pixels, clips of 8 frames"
    assert lines[2].split()[:2] == ["adapter", "parameters"]
    assert [line.split()[0] for line in lines[4:-5]] == plugins.names("adapters")
    assert row_of(text, "frozen") == ["frozen", "0", "17.56", "-", "-", "no", "none"]
    assert row_of(text, "aim") == [
        "aim", "10,659,072", "25.26", "-", "-", "through the embedding", "every frame",
    ]  # fmt: skip
    assert row_of(text, "zeroi2v") == [
        "zeroi2v", "14,209,536", "20.35", "7,680", "17.56", "yes", "±1 per block",
    ]  # fmt: skip


def test_json_has_every_number(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "names", lambda _: ["frozen", "zeroi2v"])
    rows = {row["name"]: row for row in json.loads(invoke(*B16, "--json").stdout)}
    assert list(rows) == ["frozen", "zeroi2v"]
    row = rows["zeroi2v"]
    assert (row["parameters"], row["parameters_merged"]) == (14_209_536, 7_680)
    assert row["macs_per_frame_merged"] == rows["frozen"]["macs_per_frame"] == 17_563_060_224
    assert (row["order"], row["reach"], row["frames"]) == ("yes", 1, 8)
    assert row["preset"] is row["reason"] is None
    assert "ZeroI2V" in row["source"]


def test_presets_have_rows_and_what_does_not_fit_says_why(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "my_plugin.py").write_text(PLUGIN)
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(tmp_path))
    monkeypatch.setattr(plugins, "names", lambda _: ["my-plugin"])
    demo = ("list", "adapters", "--encoder", "demo")
    text = invoke(*demo, "--presets").stdout
    assert row_of(invoke(*demo).stdout, "my-plugin") == ["my-plugin", *CELLS]
    assert row_of(text, "my-plugin:preset=small") == ["my-plugin:preset=small", *CELLS]
    assert ":preset=" not in invoke(*demo).stdout
    reason = "does not fit: more heads than there are"
    assert row_of(text, "my-plugin:preset=wide")[1:] == ["-"] * 6 + [reason]
    rows = json.loads(invoke(*demo, "--presets", "--json").stdout)
    row = next(row for row in rows if (row["name"], row["preset"]) == ("my-plugin", "wide"))
    assert (row["parameters"], row["order"], row["source"]) == (None, None, "table 2")
    assert row["reason"] == "more heads than there are"


def test_the_shipped_encoder_is_meant_when_none_is_named(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "names", lambda _: ["frozen"])
    text = invoke("list", "adapters", "--frames", "4", "--image-size", "32").stdout
    assert text.startswith("encoder demo, 32 pixels, clips of 4 frames\n")
    assert row_of(text, "frozen")[2] < "0.0221"


def test_an_architecture_of_the_users_own(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "names", lambda _: ["frozen"])
    text = invoke("list", "adapters", "--architecture", str(tiny_architecture(tmp_path))).stdout
    assert text.startswith("encoder tiny, 32 pixels, clips of 8 frames\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("adapters --encoder ViT-B16", "did you mean 'ViT-B-16'"),
        ("adapters --encoder RN50", "'RN50' has no blocks that can be adapted"),
        ("adapters --encoder ViT-B-16 --image-size 100", "the nearest that is: 96"),
        ("adapters --image-size 0", "image size 0"),
        ("adapters --frames 0", "'--frames'"),
        ("adapters --architecture nowhere.json", "nowhere.json: no such file"),
        ("heads --encoder ViT-B-16 --presets", "--encoder, --presets: goes with `list adapters`"),
        ("--frames 4", "not with `list` alone"),
    ],
)
def test_wrong_use(invoke: Invoke, args: str, message: str) -> None:
    result = invoke("list", *args.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_small_numbers_keep_their_digits() -> None:
    assert [giga(v) for v in (None, 0.0220708e9, 17.56306e9)] == ["-", "0.0221", "17.56"]
