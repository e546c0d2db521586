"""Texts of classes: what a file may say, what is refused, and where they are in a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.config import class_texts
from fewshot_i2v.config.class_texts import TextsByClass, TextsOfClass, read_class_texts
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.config.loading import config_schema
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.utils.yaml import dump_yaml, parse_yaml

TEXTS: dict[str, Any] = {
    "one": "waving  with\n one hand",
    "two": ["push-up", "press-up"],
    "three": {"prompts": "A person squats."},
    "four": {"names": ["a_jump"], "prompts": ["Someone jumps.", "A jump, 50 % {of} height."]},
}
READ = {
    "one": TextsOfClass(("waving with one hand",)),
    "two": TextsOfClass(("push-up", "press-up")),
    "three": TextsOfClass((), ("A person squats.",)),
    "four": TextsOfClass(("a_jump",), ("Someone jumps.", "A jump, 50 % {of} height.")),
}
BASE: dict[str, Any] = {"split": "motions", "adapter": "frozen", "head": "zero-shot"}


def _write(folder: Path, content: object, name: str = "texts.yaml") -> Path:
    path = folder / name
    text = json.dumps(content) if name.lower().endswith(".json") else dump_yaml(content)
    path.write_text(content if isinstance(content, str) else text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["texts.yaml", "texts.json", "TEXTS.JSON"])
def test_texts_of_a_file_are_those_of_a_mapping(name: str, tmp_path: Path) -> None:
    path = _write(tmp_path, TEXTS, name)
    assert read_class_texts(path) == TextsByClass(READ, path)
    assert read_class_texts(TEXTS) == TextsByClass(READ)
    assert read_class_texts(None) is None


def test_each_name_stands_in_each_template_and_prompts_stay_as_they_are() -> None:
    templates = ("a video of {}", "{}, slowly")
    assert READ["two"].fill(templates) == [
        *("a video of push-up", "push-up, slowly"),
        *("a video of press-up", "press-up, slowly"),
    ]
    assert READ["four"].fill(templates[:1]) == ["a video of a_jump", *READ["four"].prompts]


def test_what_is_written_reads_back_as_the_same() -> None:
    texts = TextsByClass(READ)
    again = parse_yaml(dump_yaml(texts.to_plain()), "again")
    assert read_class_texts(again) == texts
    assert texts.counts() == {"classes": 4, "names": 4, "prompts": 3}
    few = texts.of_classes(["two", "four"])
    assert list(few.by_class) == ["four", "two"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, r"got 3; expected a text, a list .*needs quotes"),
        (True, "got True; .*needs quotes"),
        (None, "has no text; expected a text"),
        ([], "has no text; expected a text"),
        ({}, "has no text; expected a text"),
        ({"prompts": []}, "has no text"),
        (["fine", 2], "got 2; expected a text"),
        (["fine", ["nested"]], r"got \['nested'\]; expected a text"),
        (" \t", "got an empty text"),
        ({"promts": "x"}, "unknown key 'promts'; did you mean 'prompts'"),
        ("a video of {}", r"got 'a video of \{\}'; expected a text without \{\}"),
        ("x" * 2001, "got a text of 2001 characters, 'xxx.*expected at most 2000"),
        ("bad \x07 bell", "got 'bad .*expected a text without control characters"),
        ("bad \ud83d half", "got 'bad .*expected a text without control characters"),
    ],
)
def test_a_bad_entry_names_file_class_value_and_what_was_expected(
    entry: object, message: str, tmp_path: Path
) -> None:
    path = _write(tmp_path, {"fine": "x", "class_07": entry}, "bad.json")
    with pytest.raises(ConfigError, match=rf"bad\.json: class 'class_07': {message}"):
        read_class_texts(path)
    with pytest.raises(ConfigError, match=rf"class_texts: got \{{.*class 'class_07': {message}"):
        load_config({**BASE, "class_texts": {"class_07": entry}})


def test_all_bad_entries_are_listed_up_to_ten(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_class_texts(_write(tmp_path, {f"c{i}": i for i in range(13)}))
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert lines[-1].strip() == "... and 3 more"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "", r"a\.yaml: is empty; expected a mapping of class names"),
        ("a.yaml", "{}", r"a\.yaml: has no class; expected"),
        ("a.yaml", "- x\n", r"a\.yaml: got \['x'\]; expected a mapping"),
        ("a.yaml", "a: x\na: y\n", r"a\.yaml:2:1: key 'a' is there twice"),
        ("a.yaml", "a: [x\n", r"a\.yaml.*not valid YAML"),
        ("a.json", "", r"a\.json: not valid JSON"),
        ("a.json", '{"a": "x", "a": "y"}', r"a\.json: not valid JSON: key 'a' is there twice"),
        ("a.json", "[" * 100_000, r"a\.json: not valid JSON: is nested too deep"),
    ],
)
def test_a_bad_file_is_named(name: str, content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_class_texts(_write(tmp_path, content, name))


def test_what_is_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file"):
        read_class_texts(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match=r"gone\.json: No such file.*expected a JSON file"):
        read_class_texts(tmp_path / "gone.json")
    with pytest.raises(ConfigError, match="is a folder, not a file"):
        read_class_texts(tmp_path)
    latin = tmp_path / "latin.json"
    latin.write_bytes('{"a": "é"}'.encode("latin-1"))
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        read_class_texts(latin)
    monkeypatch.setattr(class_texts, "MAX_BYTES", 10)
    with pytest.raises(ConfigError, match="has more than 10 bytes"):
        read_class_texts(_write(tmp_path, {"a": "a long text"}, "large.json"))
    for value in ("", 3, ["texts.yaml"]):
        with pytest.raises(ConfigError, match=r"class_texts: got .*expected the path of a YAML"):
            load_config({**BASE, "class_texts": value})
    with pytest.raises(ConfigError, match="class 1: expected the name of a class as text"):
        load_config({**BASE, "class_texts": {1: "x"}})


def test_a_path_in_a_configuration_is_relative_to_it(tmp_path: Path) -> None:
    path = _write(tmp_path, TEXTS)
    run = _write(tmp_path, {**BASE, "class_texts": "texts.yaml"}, "run.yaml")
    config = load_config(run)
    assert config.class_texts == TextsByClass(READ, path)
    assert str(config.class_texts) == str(path)
    assert config.model_dump(mode="json")["class_texts"] == str(path)
    assert load_config(run, {"class_texts": {"one": "x"}}).class_texts == TextsByClass(
        {"one": TextsOfClass(("x",))}
    )
    assert load_config(run, {"class_texts": None, "head": "linear"}).class_texts is None


def test_a_mapping_is_written_as_one() -> None:
    config = load_config({**BASE, "class_texts": TEXTS})
    assert str(config.class_texts) == "of 4 classes"
    plain = config.model_dump(mode="json")
    assert plain["class_texts"] == TextsByClass(READ).to_plain()
    assert EvaluationConfig.model_validate(config.model_dump()).class_texts == config.class_texts
    schema = config_schema()["properties"]["class_texts"]
    assert [option["type"] for option in schema["anyOf"]] == ["string", "object", "null"]


def test_texts_decide_a_row_by_their_content_and_only_rows_that_read_them(tmp_path: Path) -> None:
    heads = {**BASE, "head": ["zero-shot", "prototype"]}
    path, copy = _write(tmp_path, TEXTS), _write(tmp_path, TEXTS, "copy.json")
    plain, of_file, of_copy, of_mapping, other = (
        [row.identity() for row in expand_rows(load_config({**heads, **more}))]
        for more in (
            {},
            *({"class_texts": texts} for texts in (str(path), copy, TEXTS)),
            {"class_texts": {**TEXTS, "one": "waving"}},
        )
    )
    assert of_file == of_copy == of_mapping
    assert of_file[0]["class_texts"] == TextsByClass(READ).to_plain()
    assert other[0] != of_file[0] != plain[0]
    assert "class_texts" not in plain[0]
    assert plain[1] == of_file[1] == other[1]


def test_texts_that_no_head_reads_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, TEXTS)
    with pytest.raises(ConfigError, match=r"got texts .*texts\.yaml, and no head .*linear, otam"):
        load_config({**BASE, "class_texts": str(path), "head": ["otam", "linear"]})


def test_the_example_of_the_guide_can_be_read() -> None:
    guide = Path(__file__).parents[2] / "fewshot_i2v" / "models" / "README.md"
    section = guide.read_text(encoding="utf-8").split("### Texts of classes")[1]
    example = section.split("```yaml\n")[1].split("```")[0]
    texts = read_class_texts(parse_yaml(example, "guide"))
    assert texts is not None
    assert texts.counts() == {"classes": 4, "names": 4, "prompts": 3}
