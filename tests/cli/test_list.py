"""`fewshot-i2v list`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewshot_i2v import registry
from fewshot_i2v.cli.list import head_summary
from fewshot_i2v.config.start_names import names_of_starts
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.text_table import WIDTH
from tests.cli.conftest import Invoke

KINDS = ("adapters", "heads", "splits", "encoders", "configs")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_names_and_summaries(invoke: Invoke, kind: str) -> None:
    rows = json.loads(invoke("list", kind, "--json").stdout)
    assert rows
    assert all(row["name"] and row["summary"] for row in rows)
    text = invoke("list", kind).stdout
    lines = text.splitlines()
    assert [line.split()[0] for line in lines if line[0] != " "] == [row["name"] for row in rows]
    assert max(map(len, lines)) <= WIDTH


def test_what_is_listed_is_what_can_be_used(invoke: Invoke) -> None:
    listed = json.loads(invoke("list", "--json").stdout)
    assert [row["name"] for row in listed["adapters"]] == registry.method_names("adapters")
    assert [row["name"] for row in listed["heads"]] == registry.method_names("heads")
    assert [row["name"] for row in listed["splits"]] == resources.data_names("episodes")
    assert [row["name"] for row in listed["configs"]] == resources.data_names("configs")
    assert [row["name"] for row in listed["starts"]] == names_of_starts()


def test_without_a_kind_everything_is_listed_under_headings(invoke: Invoke) -> None:
    lines = invoke("list").stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "adapters:",
        "heads:",
        "splits:",
        "configs:",
        "starts:",
    ]
    assert any(line.split()[0] == "quickstart" for line in lines)


def test_shipped_starting_points_and_the_adapters_they_are_for(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "data_folder", lambda _kind: tmp_path)
    said = invoke("list", "starts").stderr
    assert said == "(no starts are shipped)\n\nnext: fewshot-i2v train\n"
    assert json.loads(invoke("list", "starts", "--json").stdout) == []
    assert "starts:\n  (no starts are shipped)\n" in invoke("list").stdout
    for place, adapter in (("a/one", "aim"), ("a/two", "st-adapter"), ("b/maml/x", "aim")):
        folder = tmp_path / "starts" / place
        folder.mkdir(parents=True)
        plain = {"adapter": {"name": adapter}, "tensors": {"sha256": place}}
        (folder / "adapter.json").write_text(json.dumps(plain))
    rows = json.loads(invoke("list", "starts", "--json").stdout)
    assert [(row["name"], row["summary"]) for row in rows] == [
        ("a", "for aim, st-adapter"),
        ("b/maml", "for aim"),
    ]
    assert rows[0]["origin"] == str(tmp_path / "starts" / "a")


def test_an_unknown_kind_is_wrong_use(invoke: Invoke) -> None:
    result = invoke("list", "adapter")
    assert result.exit_code == 2
    assert "'adapters'" in result.stderr


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("description: One line. And another.\n", "One line"),
        ('description: "Quoted."\n', "Quoted"),
        ("name: x\ndescription: >-\n  Folded over\n  lines. More.\nway: 5\n", "Folded over lines"),
        ("# A comment that goes\n# on. More.\nname: x\n", "A comment that goes on"),
        ("name: x\n", ""),
    ],
)
def test_a_summary_is_the_first_sentence_of_the_head(
    tmp_path: Path, text: str, summary: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert head_summary(path) == summary


def test_a_summary_reads_only_the_head_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_text("name: x\n" + "  - clip.webm\n" * 10_000 + "description: too far down\n")
    assert head_summary(path) == ""


def test_a_broken_plug_in_is_shown_as_broken_with_its_reason(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "adapters"
    folder.mkdir()
    (folder / "no_import.py").write_text('"""An adapter."""\n\nimport no_such_module_x\n')
    (folder / "no_syntax.py").write_text("def (\n")
    (folder / "no_class.py").write_text('"""Nothing."""\n')
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(tmp_path))
    done = invoke("list", "adapters")
    assert done.exit_code == 0
    for name, reason in (
        ("no-import", "no_import.py, line 3: cannot be imported: ModuleNotFoundError"),
        ("no-syntax", "no_syntax.py, line 1: is not valid Python"),
        ("no-class", "no_class.py: expected exactly one subclass of Adapter, found none"),
    ):
        _, _, line = " ".join(done.stdout.split()).partition(f"{name} ")
        assert f"broken: {folder / reason.partition(':')[0]}" in line
        assert reason in line
    assert "3 of the adapters are broken; `fewshot-i2v check-adapter FILE`" in done.stderr
    entries = {
        entry["name"]: entry for entry in json.loads(invoke("list", "adapters", "--json").stdout)
    }
    assert entries["frozen"]["problem"] is None
    assert "no_such_module_x" in entries["no-import"]["problem"]
