"""`fewshot-i2v list adapters --encoder NAME`: what adapters cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fewshot_i2v import registry
from fewshot_i2v.cli._method_details import describe_type
from fewshot_i2v.cli.list import format_giga
from fewshot_i2v.models.cost import Cost, count_adapter_cost
from fewshot_i2v.models.encoders.tower import Tower
from tests.cli.conftest import Invoke
from tests.models.test_cost import PLUGIN
from tests.tiny import tiny_architecture

CELLS = ["0", "0.0221", "-", "no", "none"]
B16 = ("list", "adapters", "--encoder", "ViT-B-16", "--frames", "8")


def row_of(text: str, name: str) -> list[str]:
    """The cells of a row, which two spaces part."""
    line = next(line for line in text.splitlines() if line.split()[:1] == [name])
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_every_adapter_has_a_row(invoke: Invoke, tmp_path: Path) -> None:
    tiny = str(tiny_architecture(tmp_path))
    lines = invoke("list", "adapters", "--architecture", tiny).stdout.splitlines()
    assert [line.split()[0] for line in lines[4 : lines.index("", 4)]] == registry.method_names(
        "adapters"
    )


@pytest.fixture(scope="module")
def costs_of_vit_b_16() -> Callable[..., Cost]:
    """Counts as `count_adapter_cost` does, the default options once."""
    counted: dict[str, Cost] = {}

    def count(tower: Tower, adapter: str, options: dict[str, object], *, frames: int) -> Cost:
        assert (tower.width, tower.layers, options, frames) == (768, 12, {}, 8)
        if adapter not in counted:
            counted[adapter] = count_adapter_cost(tower, adapter, options, frames=frames)
        return counted[adapter]

    return count


def test_the_table_of_vit_b_16(
    invoke: Invoke, costs_of_vit_b_16: Callable[..., Cost], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_i2v.models.cost.count_adapter_cost", costs_of_vit_b_16)
    monkeypatch.setattr(registry, "method_names", lambda _: ["aim", "frozen", "zeroi2v"])
    text = invoke(*B16).stdout
    lines = text.splitlines()
    assert lines[0] == "encoder ViT-B-16, 224 pixels, clips of 8 frames"
    assert lines[2].split()[:2] == ["adapter", "parameters"]
    assert [line.split()[0] for line in lines[4 : lines.index("", 4)]] == [
        "aim",
        "frozen",
        "zeroi2v",
    ]
    assert row_of(text, "frozen") == ["frozen", "0", "17.56", "-", "no", "none"]
    assert row_of(text, "aim") == [
        "aim", "10,659,072", "25.26", "-", "embedding", "every frame",
    ]  # fmt: skip
    assert row_of(text, "zeroi2v") == [
        "zeroi2v", "14,209,536", "20.35", "7,680 / 17.56", "yes", "±1 per block",
    ]  # fmt: skip


def test_json_has_every_number(
    invoke: Invoke, costs_of_vit_b_16: Callable[..., Cost], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_i2v.models.cost.count_adapter_cost", costs_of_vit_b_16)
    monkeypatch.setattr(registry, "method_names", lambda _: ["frozen", "zeroi2v"])
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
    monkeypatch.setattr(registry, "method_names", lambda _: ["my-plugin"])
    demo = ("list", "adapters", "--encoder", "demo")
    plain, text = invoke(*demo).stdout, invoke(*demo, "--presets").stdout
    assert row_of(plain, "my-plugin") == ["my-plugin", *CELLS]
    assert "\na note: my-plugin.\n" in plain
    assert row_of(text, "my-plugin:preset=small") == ["my-plugin:preset=small", *CELLS]
    assert ":preset=" not in plain
    reason = "does not fit: more heads than there are"
    assert row_of(text, "my-plugin:preset=wide")[1:] == ["-"] * 5
    assert f" my-plugin:preset=wide {reason} " in " ".join(text.split())
    rows = json.loads(invoke(*demo, "--presets", "--json").stdout)
    row = next(row for row in rows if (row["name"], row["preset"]) == ("my-plugin", "wide"))
    assert (row["parameters"], row["order"], row["source"]) == (None, None, "table 2")
    assert row["reason"] == "more heads than there are"


def test_what_does_not_fit_is_said_in_one_short_clause(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "method_names", lambda _: ["zeroi2v"])
    tiny = ("list", "adapters", "--architecture", str(tiny_architecture(tmp_path)), "--presets")
    said = " ".join(invoke(*tiny).stdout.split())
    assert "b16-k400-8 does not fit: offsets: got 12 values; this encoder has 2 heads" in said
    rows = json.loads(invoke(*tiny, "--json").stdout)
    assert "give offsets of your own" in rows[1]["reason"]


def test_a_faulty_plug_in_is_a_row_and_not_the_end(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "adapters"
    folder.mkdir()
    (folder / "broken.py").write_text('"""Broken."""\n\nraise ValueError("two\\nlines")\n')
    (folder / "crash.py").write_text(PLUGIN.replace("options.heads > tower", "options.no > tower"))
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(tmp_path))
    monkeypatch.setattr(registry, "method_names", lambda _: ["broken", "crash", "frozen"])
    done = invoke("list", "adapters", "--encoder", "demo", "--presets")
    assert done.exit_code == 0
    assert row_of(done.stdout, "broken")[1:] == ["-"] * 5
    said = " ".join(done.stdout.split())
    assert f" broken broken: {folder / 'broken.py'}, line 3: cannot be imported" in said
    assert "ValueError: two lines" in said
    assert " crash broken: AttributeError: 'Options' object has no attribute 'no'" in said
    assert row_of(done.stdout, "frozen")[1] == "0"
    assert "crash:preset" not in done.stdout


def test_options_presets_and_source_of_an_adapter(invoke: Invoke) -> None:
    text = invoke("list", "adapters", "st-adapter").stdout
    assert text.startswith("st-adapter: ST-Adapter: depthwise temporal convolution")
    assert "source: Pan, Lin, Zhu" in text
    assert "order of frames can matter: yes" in text
    assert "  width: whole number, at least 1; or null; default null\n      channels C of" in text
    assert "  sites: pre_mlp or both; default pre_mlp\n" in text
    assert "  24x384: width=384, sites=both\n      ST-Adapter with" in text
    details = json.loads(invoke("list", "adapters", "st-adapter", "--json").stdout)
    width = details["options"][0]
    assert (width["name"], width["default"], width["required"]) == ("width", None, False)
    assert details["presets"][1]["options"] == {"width": 384, "sites": "both"}
    for name in registry.method_names("adapters"):
        for option in json.loads(invoke("list", "adapters", name, "--json").stdout)["options"]:
            assert option["type"]
            assert option["description"], (name, option)


def test_options_of_a_head(invoke: Invoke) -> None:
    text = invoke("list", "heads", "zero-shot").stdout
    assert "reads the class names: yes" in text
    kinds = (
        "'summary', 'projected', 'gridN', 'motion' or 'motionN' with N from 1 to 99, or several "
        "joined by '+'; 'frozen-' may stand before a name"
    )
    assert f"  tokens: {kinds}; default summary\n" in text
    assert '  templates: text; or list of: text; default ["a video of {}"]\n' in text
    for name in registry.method_names("heads"):
        for option in json.loads(invoke("list", "heads", name, "--json").stdout)["options"]:
            assert option["description"], (name, option)
    assert "options: none\n" in invoke("list", "adapters", "frozen").stdout


def test_options_of_a_plug_in_without_words(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adapters").mkdir()
    odd = PLUGIN.replace("heads: int = 1", "heads: int\n    call: type = int")
    (tmp_path / "adapters" / "my_plugin.py").write_text(PLUGIN)
    (tmp_path / "adapters" / "odd.py").write_text(odd)
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(tmp_path))
    text = invoke("list", "adapters", "my-plugin").stdout
    assert "  heads: whole number; default 1\n  reads: true or false; default false\n" in text
    assert "  wide: heads=9\n      table 2\n" in text
    assert "  heads: <class 'int'>; required\n" in invoke("list", "adapters", "odd").stdout


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number, above 0, at most 1"),
        ({"const": "loo"}, "loo"),
        ({"enum": ["a", "b", 3]}, "a, b or 3"),
        ({"$ref": "#/$defs/X"}, "text"),
        ({"type": "array", "items": {"$ref": "#/$defs/X"}}, "list of: text"),
        ({"type": "array"}, "array"),
        ({}, "any value"),
        ({"type": "string", "pattern": "^x$"}, "text that matches ^x$"),
    ],
)
def test_types_in_words(schema: dict[str, object], said: str) -> None:
    assert describe_type(schema, {"$defs": {"X": {"type": "string"}}}) == said


def test_the_shipped_encoder_is_meant_when_none_is_named(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "method_names", lambda _: ["frozen"])
    text = invoke("list", "adapters", "--frames", "4", "--image-size", "32").stdout
    assert text.startswith("encoder demo, 32 pixels, clips of 4 frames\n")
    assert row_of(text, "frozen")[2] < "0.0221"


def test_an_architecture_of_the_users_own(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "method_names", lambda _: ["frozen"])
    text = invoke("list", "adapters", "--architecture", str(tiny_architecture(tmp_path))).stdout
    assert text.startswith("encoder tiny, 32 pixels, clips of 8 frames\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("adapters --encoder ViT-B16", "did you mean 'ViT-B-16'"),
        ("adapters --encoder RN50", "'RN50' has no blocks that can be adapted"),
        ("adapters --encoder ViT-B-16 --image-size 100", "the nearest that is: 96"),
        ("adapters --image-size 0", "image size 0"),
        ("adapters --frames 0", "--frames: got 0; expected a number, x>=1"),
        ("adapters --architecture nowhere.json", "nowhere.json: no such file"),
        ("heads --encoder ViT-B-16 --presets", "--encoder, --presets: goes with `list adapters`"),
        ("--frames 4", "not with `list` alone"),
        ("adapters lora --frames 4", "not with `list adapters NAME`"),
        ("adapters LORA", "unknown adapter 'LORA'; did you mean 'lora'?"),
        ("splits motions", "'motions': only adapters and heads have options to show"),
    ],
)
def test_wrong_use(invoke: Invoke, args: str, message: str) -> None:
    result = invoke("list", *args.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_small_numbers_keep_their_digits() -> None:
    assert [format_giga(v) for v in (None, 0.0220708e9, 17.56306e9)] == ["-", "0.0221", "17.56"]
