"""The schema of split files fits what is shipped and refuses what the reader refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fewshot_i2v.cli._root import cli
from fewshot_i2v.data.splits.split_fields import SPLIT_FIELDS, split_schema
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import SplitError
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.yaml import load_yaml, parse_yaml
from tests.data.splits.json_schema import KEYWORDS, fits, subschemas

SCHEMA = split_schema()
GOOD = [
    "subsets: {base: {a: [x]}}",
    "root: null\ngroup: null\nversion: 2\nsubsets: {novel: {a: [{clip: x, group: 3}, y]}}",
    "find: youtube\ndefects: [one]\nsubsets: {novel: {a: {id: '1', folder: f/g, clips: x y}}}",
    "subsets: {train: {a: [x], folder: [z]}, test: {a: [y], folder: [w]}}\n"
    "draws: {p: [{a: x, folder: [z]}]}",
    "generator: {name: motions, clips: 3}\nsubsets: {novel: [grows, shrinks]}",
]
WITH_FILES = [
    "root: .\nsubsets: {novel: [a]}",
    "root: .\nsubsets: {novel: {folder: sub/}}",
    "root: .\nsubsets: {base: {folder: ., classes: [a]}, val: {csv: t.csv}}",
]
BAD = [
    "subset: {base: {a: [x]}}\nsubsets: {base: {a: [x]}}",
    "source: x",
    "subsets: {}",
    "subsets: {novell: {a: [x]}}",
    "subsets: {base: 3}",
    "subsets: {base: {}}",
    "subsets: {base: {a: x.mp4}}",
    "subsets: {base: {a: []}}",
    "subsets: {base: {a: [1.5]}}",
    "subsets: {base: {a: [7]}}",
    "subsets: {base: {' ': [x]}}",
    "subsets: {base: {a: [{clip: x, grup: y}]}}",
    "subsets: {base: {a: [{group: y}]}}",
    "subsets: {base: {a: [{clip: x, group: [y]}]}}",
    "subsets: {base: {a: [/x]}}",
    "subsets: {base: {a: [b/../../x]}}",
    "subsets: {base: {a: ['..\\x']}}",
    "subsets: {base: {a: ['C:/x']}}",
    "subsets: {base: {a: [b//x]}}",
    "subsets: {base: {a: ['']}}",
    "subsets: {base: {a: {folder: ../f, clips: x}}}",
    "subsets: {base: {a: {clip: x}}}",
    "subsets: {base: {a: {clips: ' '}}}",
    "subsets: {base: {a: {id: 4, clips: x}}}",
    "subsets: {base: {csv: ../x.csv}}",
    "subsets: {base: {csv: x.csv, root: y}}",
    "subsets: {base: {folder: ., clases: [a]}}",
    "subsets: {base: [a, a]}",
    "subsets: {base: [a, 1]}",
    "subsets: {train: {a: [x]}}",
    "subsets: {train: {a: [x]}, test: {a: [y]}, novel: {b: [z]}}",
    "version: 0\nsubsets: {base: {a: [x]}}",
    "version: true\nsubsets: {base: {a: [x]}}",
    "source: 1\nsubsets: {base: {a: [x]}}",
    "defects: none\nsubsets: {base: {a: [x]}}",
    "digest: abc\nsubsets: {base: {a: [x]}}",
    "root: 1\nsubsets: {base: {a: [x]}}",
    "find: names\nsubsets: {base: {a: [x]}}",
    "group: 1\nsubsets: {base: {a: [x]}}",
    "group_scope: all\nsubsets: {base: {a: [x]}}",
    "generator: motions\nsubsets: {base: [a]}",
    "generator: {seed: 1}\nsubsets: {base: [a]}",
    "generator: {name: m, clip: 1}\nsubsets: {base: [a]}",
    "generator: {name: m, fps: 0}\nsubsets: {base: [a]}",
    "generator: {name: m, size: 6.5}\nsubsets: {base: [a]}",
    "generator: {name: ' '}\nsubsets: {base: [a]}",
    "generator: {name: m, clips: 100001}\nsubsets: {base: [a]}",
    "generator: {name: m}\nsubsets: {base: {a: [x]}}",
    "subsets: {train: {a: [x]}, test: {a: [y]}}\ndraws: {p: {a: x}}",
    "subsets: {train: {a: [x]}, test: {a: [y]}}\ndraws: {p: []}",
    "subsets: {train: {a: [x]}, test: {a: [y]}}\ndraws: {p: [{a: 3}]}",
]


def matches(data: object) -> bool:
    return fits(data, SCHEMA, SCHEMA)


@pytest.mark.parametrize("name", resources.data_names("episodes"))
def test_every_shipped_split_fits(name: str) -> None:
    assert matches(load_yaml(resources.data_file("episodes", name)))


@pytest.mark.parametrize("text", [*GOOD, *WITH_FILES])
def test_what_can_be_read_fits(tmp_path: Path, text: str) -> None:
    for folder in ("a", "sub/c"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.mp4").touch()
    (tmp_path / "t.csv").write_text("path,class\nb/x.mp4,b\n")
    path = tmp_path / "split.yaml"
    path.write_text(f"name: x\n{text}\n")
    load_split(path)
    assert matches(load_yaml(path))


@pytest.mark.parametrize("text", BAD)
def test_what_does_not_fit_cannot_be_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "split.yaml"
    path.write_text(f"name: x\nroot: .\n{text}\n" if "root" not in text else f"name: x\n{text}\n")
    with pytest.raises(SplitError):
        load_split(path)
    assert not matches(load_yaml(path))


@pytest.mark.parametrize("text", ["- a", "", "subsets: {base: {a: [x]}}", "name: x"])
def test_name_and_subsets_are_required(text: str) -> None:
    assert not matches(parse_yaml(text, "here"))


def test_it_knows_every_key_and_explains_it() -> None:
    assert list(SCHEMA["properties"]) == list(SPLIT_FIELDS)
    for key, value in SCHEMA["properties"].items():
        assert value["description"], key


def test_every_keyword_it_uses_is_checked_here() -> None:
    used = {key for schema in subschemas(SCHEMA) for key in schema}
    assert used <= KEYWORDS
    references = [schema["$ref"] for schema in subschemas(SCHEMA) if "$ref" in schema]
    assert {ref.removeprefix("#/$defs/") for ref in references} == set(SCHEMA["$defs"])


def test_the_command_writes_it() -> None:
    result = CliRunner().invoke(cli, ["episodes", "schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == SCHEMA
