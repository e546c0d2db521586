"""The YAML loader: its rules, its messages, and what hostile files get."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from time import process_time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v.errors import ConfigError
from fewshot_i2v.utils import yaml as yaml_module
from fewshot_i2v.utils.yaml import dump_yaml, load_yaml, parse_yaml


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both parsers: the rules must not depend on how PyYAML was built."""
    if request.param == "python":
        monkeypatch.setattr(yaml_module, "_Parser", yaml.SafeLoader)
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")
    return str(request.param)


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2.5E+2", -250.0),
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("10", 10),
        ("-3", -3),
        ("+3", 3),
        ("010", "010"),
        ("0", 0),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("0b11", "0b11"),
        ("-", [None]),
        (".", "."),
        ("'1'", "1"),
        ('"true"', "true"),
        ('"\\u00e9\\0"', "\u00e9\0"),
        ("a b", "a b"),
        ("--- 5\n...", 5),
        ("\ufeff5", 5),
        ("# nothing", None),
        ("{a: [1, {b: 2}], c: }", {"a": [1, {"b": 2}], "c": None}),
        (
            "1: x\nno: y\n010: z\nnull: n\n'': e",
            {"1": "x", "no": "y", "010": "z", "null": "n", "": "e"},
        ),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("'<<': 1", {"<<": 1}),
    ],
)
def test_values_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse_yaml(text, "f.yaml")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: !!python/object/apply:os.system [ls]", "f.yaml:1:4", "tag"),
        ("a: ! x", "f.yaml:1:4", "tag"),
        ("a: !!str 1", "f.yaml:1:4", "tag"),
        ("a: !local {}", "f.yaml:1:4", "tag"),
        ("a: &x 1", "f.yaml:1:4", "anchor &x"),
        ("&x a: 1", "f.yaml:1:1", "anchor &x"),
        ("a: 1\nb: *a", "f.yaml:2:4", "alias *a"),
        ("a:\n  <<: {b: 1}", "f.yaml:2:3", "merge key"),
        ("a: 1\nb: 2\na: 3", "f.yaml:3:1", "key 'a' is there twice (first in line 1)"),
        ("{1: a, '1': b}", "f.yaml:1:8", "key '1' is there twice"),
        ("? [a]\n: b", "f.yaml:1:3", "as key"),
        ("{{a: 1}: 2}", "f.yaml:1:2", "as key"),
        ("? : b", "f.yaml:1:3", ""),
        ("a: .nan", "f.yaml:1:4", "finite"),
        ("a: -.INF", "f.yaml:1:4", "finite"),
        ("a: 1e999", "f.yaml:1:4", "too large"),
        ("a: " + "9" * 5000, "f.yaml:1:4", "5000 characters"),
        ("a: 0x" + "f" * 5000, "f.yaml:1:4", "5002 characters"),
        ("--- 1\n--- 2", "f.yaml:2:1", "second document"),
        ("a: 1\n%YAML 1.1\n", "f.yaml:2:1", "directive"),
        ("a: 1\nb: \x00", "f.yaml:2:4", "U+0000"),
        ("a: \x07", "f.yaml:1:4", "U+0007"),
        ("a: \ud800", "f.yaml:1:4", "U+D800"),
        ("a:\n\tb: 1", "f.yaml:2:1", "spaces, not tabs"),
        ("a: [1", "f.yaml:", "not valid YAML"),
        ("a: b: c", "f.yaml:1:5", "not valid YAML"),
        ("'a", "f.yaml:", "quoted scalar"),
        ("a: " + "[" * 60, "f.yaml:1:53", "more than 50 levels"),
    ],
)
def test_what_is_refused_names_the_place(text: str, place: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f.yaml")
    message = str(caught.value)
    assert message.startswith(place)
    assert words in message
    assert caught.value.exit_code == 2


def _alias_bomb() -> str:
    lines = ["a0: &a0 [x, x]", *(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]" for i in range(40))]
    return "\n".join(lines)


# a second on a machine that does nothing else; without limits they take minutes
_SECONDS = 5.0

_BOMBS: dict[str, Callable[[], str]] = {
    "alias bomb": _alias_bomb,
    "merge bomb": lambda: "a: {x: 1}\n" + "".join(f"k{i}: {{<<: [a, a]}}\n" for i in range(20)),
    "deep lists": lambda: "[" * 1_000_000,
    "deep mappings": lambda: "{a: " * 1_000_000,
    "deep blocks": lambda: "- " * 1_000_000,
    "deep keys": lambda: "? " * 1_000_000,
    "many values": lambda: "[" + "1," * 4_000_000 + "]",
    "many keys": lambda: "{" + "".join(f"k{i}: 1.5," for i in range(600_000)) + "}",
    "same key": lambda: "a: 1\n" * 1_000_000,
    "tag directives": lambda: "".join(f"%TAG !a{i}! b\n" for i in range(400_000)) + "--- a",
    "long tag": lambda: "!" * 8_000_000,
    "long anchor": lambda: "&" + "a" * 8_000_000,
    "long key": lambda: "? " + "a" * 8_000_000 + "\n: 1\n<<: 2",
    "long number": lambda: "1" * 8_000_000,
    "open quote": lambda: "'" + "''" * 4_000_000,
    "open escape": lambda: '"' + "\\n" * 4_000_000,
    "too long": lambda: "a" * 60_000_000,
    "anchors": lambda: "".join(f"- &a{i} x\n" for i in range(500_000)),
    "nul": lambda: "a: b\n" * 1_000_000 + "\0",
}


@pytest.mark.parametrize("name", _BOMBS)
def test_hostile_text_is_refused_at_once(name: str) -> None:
    text = _BOMBS[name]()
    start = process_time()
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f.yaml")
    assert process_time() - start < _SECONDS
    assert len(str(caught.value)) < 600


_LARGE: dict[str, Callable[[], str]] = {
    "comment": lambda: "#" * 8_000_000,
    "empty lines": lambda: "\n" * 8_000_000,
    "text": lambda: "a\n" * 4_000_000,
    "nearly a number": lambda: "1" * 4_000_000 + "." + "1" * 4_000_000 + "x",
}


@pytest.mark.parametrize("name", _LARGE)
def test_large_harmless_text_is_read_at_once(name: str) -> None:
    text = _LARGE[name]()
    start = process_time()
    assert parse_yaml(text, "f.yaml") in (None, text.strip().replace("\n", " "))
    assert process_time() - start < _SECONDS


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("MAX_BYTES", 8, "8 bytes; expected at most 7"),
        ("MAX_DEPTH", 2, "more than 1 levels"),
        ("MAX_VALUES", 4, "more than 3 values"),
    ],
)
def test_limits_are_the_last_that_is_read(
    limit: str, value: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml_module, limit, value)
    assert parse_yaml("[1, [2]]", "f.yaml") == [1, [2]]
    monkeypatch.setattr(yaml_module, limit, value - 1)
    with pytest.raises(ConfigError, match=words):
        parse_yaml("[1, [2]]", "f.yaml")


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: [x]\r\n")
    assert load_yaml(path) == {"a": 1, "b": ["x"]}
    with monkeypatch.context() as patch:
        patch.setattr(yaml_module, "MAX_BYTES", 5)
        with pytest.raises(ConfigError, match="larger than 5 bytes"):
            load_yaml(path)
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:2: not UTF-8"):
        load_yaml(path)
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:2:1: key 'a'"):
        load_yaml(path)


def test_what_is_not_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, words in (
        ("none.yaml", "no such file"),
        (".", "is a folder, not a file"),
        ("fifo", "is a named pipe, not a file"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_yaml(tmp_path / name)


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    (
        *("1e-3", "010", "0o7", "no", "null", "~", "<<", "%a", "- a", "a: b", "# c", " x ", "\t"),
        *("1_0", "a: {\n  b\n}\n", "\n", " a\nb\n", "a \n", "# a\n- b\n\n", "a\u2028b\n"),
    )
)
_scalars = (
    _texts
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none()
)
_data = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)


@given(_data)
def test_what_is_dumped_is_read_back(data: object) -> None:
    found = parse_yaml(dump_yaml({"data": [data]}), "dumped")["data"][0]
    assert found == data
    assert repr(found) == repr(data)


def test_dump_keeps_order_and_writes_repeats_out() -> None:
    shared = [1, 2]
    text = dump_yaml({"b": shared, "a": (shared, Path("x/y")), "c": "no"})
    assert text == "b:\n- 1\n- 2\na:\n- - 1\n  - 2\n- x/y\nc: 'no'\n"


def test_dump_writes_a_text_of_several_lines_as_a_block() -> None:
    assert dump_yaml({"a": "b:\n  {c}\n", "d": "e"}) == "a: |\n  b:\n    {c}\nd: e\n"


@pytest.mark.parametrize("bad", [math.nan, math.inf, {1: 2}, b"x", {1, 2}, object()])
def test_dump_refuses_what_could_not_be_read_back(bad: object) -> None:
    with pytest.raises(ConfigError, match=r"data\.a\[1\]"):
        dump_yaml({"a": [0, bad]})


@given(st.text(max_size=60) | st.text("[]{}&*!|>'\"%#:-?, \n\ta1", max_size=60))
def test_any_text_gives_data_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        value = parse_yaml(text, "f.yaml")
        assert isinstance(value, dict | list | str | int | float | None)
