"""Adding an adapter, a head, a split or a configuration is adding one file."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from fewshot_i2v import registry
from fewshot_i2v.errors import UnknownNameError, UsageError
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.utils import resources

HEAD = '''"""A head for a test.

More about it.
"""
from fewshot_i2v.models.heads.prototype import {base}


class Mine({base}):
    source = "a test"
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one head, named in the environment."""
    (tmp_path / "more" / "heads").mkdir(parents=True)
    base = registry.load_method("heads", "prototype").__name__
    (tmp_path / "more" / "heads" / "my_head.py").write_text(HEAD.format(base=base))
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(tmp_path / "more"))
    return tmp_path / "more" / "heads"


def test_shipped_adapters_and_heads_are_found_with_a_summary() -> None:
    for kind in ("adapters", "heads"):
        rows = registry.list_methods(kind)
        assert rows == sorted(rows, key=lambda row: row.name)
        assert all(row.summary for row in rows)
        assert not any(row.name.startswith(("_", "-")) for row in rows)
    assert {"frozen", "st-adapter"} <= set(registry.method_names("adapters"))
    assert {"linear", "prototype"} <= set(registry.method_names("heads"))


@pytest.mark.parametrize("kind", ["adapters", "heads"])
def test_every_shipped_one_loads_as_a_subclass_of_its_contract(kind: registry.MethodKind) -> None:
    base = {"adapters": "Adapter", "heads": "Head"}[kind]
    for name in registry.method_names(kind):
        assert base in [c.__name__ for c in registry.load_method(kind, name).__mro__]


def test_a_file_in_an_added_folder_is_a_head(folder: Path) -> None:
    row = next(row for row in registry.list_methods("heads") if row.name == "my-head")
    assert row.summary == "A head for a test"
    assert row.origin == str(folder / "my_head.py")
    assert issubclass(registry.load_method("heads", "my-head"), Head)
    assert "my-head" not in registry.method_names("adapters")


def test_an_unchanged_file_is_parsed_once_and_a_changed_one_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "my_head.py"
    registry.list_methods("heads")
    parsed: list[bytes] = []
    real = registry.ast.parse
    monkeypatch.setattr(registry.ast, "parse", lambda text: parsed.append(text) or real(text))
    again = registry.list_methods("heads")
    assert parsed == []
    path.write_text(path.read_text().replace("A head", "Another head"))
    (row,) = (row for row in registry.list_methods("heads") if row.name == "my-head")
    assert row.summary == "Another head for a test"
    assert parsed == [path.read_bytes()]
    assert [r for r in registry.list_methods("heads") if r != row] == [
        r for r in again if r.name != "my-head"
    ]


def test_add_folder_does_the_same_from_python(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEWSHOT_I2V_PLUGINS")
    monkeypatch.setattr(registry, "_extra_folders", {"adapters": [], "heads": []})
    assert "my-head" not in registry.method_names("heads")
    registry.add_plugin_folder("heads", folder)
    assert "my-head" in registry.method_names("heads")


def test_a_missing_folder_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", os.pathsep.join(["", "/no/such/folder"]))
    with pytest.raises(UsageError, match="/no/such/folder: not a folder; FEWSHOT_I2V_PLUGINS"):
        registry.method_names("heads")
    with pytest.raises(UsageError, match="not a folder"):
        registry.add_plugin_folder("heads", Path("/no/such/folder"))


def test_two_of_one_name_are_refused(folder: Path) -> None:
    (folder / "linear.py").write_text('"""Another one."""\n')
    with pytest.raises(UsageError, match=r"two heads are called 'linear': .*linear\.py and .*"):
        registry.load_method("heads", "linear")
    assert registry.load_method("heads", "prototype"), "the others can be used"
    rows = [row for row in registry.list_methods("heads") if row.name == "linear"]
    assert len(rows) == 2
    for row in rows:
        assert row.problem.startswith(f"{row.origin} and ")
        assert row.problem.endswith(" have the same name; rename one")
    assert rows[0].problem != rows[1].problem


def test_one_folder_named_twice_is_one_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", os.pathsep.join([str(folder.parent)] * 2))
    assert registry.load_method("heads", "my-head")


def test_a_folder_that_is_one_level_off_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = folder.parent
    for off in (folder, top.parent):
        monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(off))
        pattern = f"{off}: has neither adapters/ nor heads/ inside: give {top}; FEWSHOT"
        with pytest.raises(UsageError, match=re.escape(pattern)):
            registry.method_names("heads")
    (top.parent / "empty" / "deep").mkdir(parents=True)
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(top.parent / "empty" / "deep"))
    with pytest.raises(UsageError, match="has neither adapters/ nor heads/ inside; FEWSHOT"):
        registry.method_names("heads")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("x = 1\nx = 1 / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("import no_such_module_x\n", 1, "ModuleNotFoundError: No module named 'no_such_"),
        ("x = 1\n\ndef (\n", 3, "SyntaxError: invalid syntax"),
        ("import sys\nsys.exit('bye')\n", 2, "SystemExit: bye"),
        ("import json\n\n\njson.loads('')\n", 4, "JSONDecodeError: Expecting value"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_the_line(
    folder: Path, text: str, line: int, said: str
) -> None:
    (folder / "bad.py").write_text(text)
    for _ in range(2):
        with pytest.raises(UsageError) as error:
            registry.load_method("heads", "bad")
        message = f"{folder / 'bad.py'}, line {line}: cannot be imported: {said}"
        assert str(error.value).startswith(message)
    assert registry.load_method("heads", "my-head"), "the others can be used"


def test_a_file_that_is_no_text_is_listed(folder: Path) -> None:
    (folder / "bytes.py").write_bytes(b"x = 1\n\0\xff")
    row = next(row for row in registry.list_methods("heads") if row.name == "bytes")
    assert row.problem
    with pytest.raises(UsageError, match=r"bytes\.py.*: cannot be imported: "):
        registry.load_method("heads", "bytes")


ADAPTER = '''"""An adapter for a test."""
from fewshot_i2v.models.adapters.base.adapter import Adapter


class Mine(Adapter):
    source = "a test"
    identity_at_init = True
    frame_order = "no"

    def block(self, i, frozen, x):
        return x
'''


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('    source = "a test"\n', "", "Mine lacks source, which every adapter has"),
        ('    frame_order = "no"\n', "", "Mine lacks frame_order, which"),
        ("    identity_at_init = True\n", "", "Mine lacks identity_at_init, which"),
        ("def block", "def blok", r"Mine lacks block(), which"),
        ('"no"', '"maybe"', "Mine.frame_order is 'maybe'; expected 'no', 'embedding', 'yes'"),
    ],
)
def test_an_adapter_that_lacks_something_is_refused(
    folder: Path, old: str, new: str, said: str
) -> None:
    (folder.parent / "adapters").mkdir()
    path = folder.parent / "adapters" / f"mine_{abs(hash(said))}.py"
    path.write_text(ADAPTER.replace(old, new))
    with pytest.raises(UsageError, match=re.escape(f"{path}: {said}")):
        registry.load_method("adapters", path.stem.replace("_", "-"))


def test_a_head_needs_a_source(folder: Path) -> None:
    text = "from fewshot_i2v.models.heads.base.head import Head\n\n\nclass Bare(Head):\n    pass\n"
    (folder / "bare.py").write_text(text)
    with pytest.raises(
        UsageError, match=r"Bare lacks source, query_logits\(\), support_logits\(\)"
    ):
        registry.load_method("heads", "bare")


def test_classes_know_their_command_line_names(folder: Path) -> None:
    assert folder.is_dir()
    for name in ("my-head", "text-prototype"):
        assert registry.method_name(registry.load_method("heads", name)) == name
    for name in ("st-adapter", "m-adapter", "frozen"):
        assert registry.method_name(registry.load_method("adapters", name)) == name
    assert registry.method_name(Path) == "Path"


def test_a_file_without_its_class_is_refused(folder: Path) -> None:
    (folder / "empty.py").write_text('"""Nothing here."""\n')
    with pytest.raises(UsageError, match="exactly one subclass of Head, found none"):
        registry.load_method("heads", "empty")


def test_a_file_that_is_not_python_is_listed_with_its_line(folder: Path) -> None:
    (folder / "broken.py").write_text("x = 1\ndef (\n")
    row = next(row for row in registry.list_methods("heads") if row.name == "broken")
    assert row.problem == f"{folder / 'broken.py'}, line 2: is not valid Python: invalid syntax"


def test_unknown_adapter_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown adapter 'frozn'; did you mean 'frozen'\?"):
        registry.load_method("adapters", "frozn")
    with pytest.raises(UnknownNameError, match=r"adapters/frozn\.py in .*FEWSHOT_I2V_PLUGINS"):
        registry.load_method("adapters", "frozn")
    with pytest.raises(UnknownNameError, match=r"'LORA'; did you mean 'lora'\?"):
        registry.load_method("adapters", "LORA")
    with pytest.raises(UnknownNameError, match=r"'Zero-Shot'; did you mean 'zero-shot'"):
        registry.load_method("heads", "Zero-Shot")


def install_head(target: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installs a package with a head `theirs`, as pip would write it."""
    info = folder / "site/theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fewshot_i2v.heads]\ntheirs = {target}\n")
    monkeypatch.syspath_prepend(info.parent)


def test_entry_points_of_other_packages_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = "fewshot_i2v.models.heads.prototype:PrototypeHead"
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "site").mkdir()
    assert "theirs" not in registry.method_names("heads")
    install_head(target, tmp_path, monkeypatch)  # also while this process runs
    assert registry.load_method("heads", "theirs") is registry.load_method("heads", "prototype")
    assert registry.method_name(registry.load_method("heads", "theirs")) == "theirs"
    row = next(row for row in registry.list_methods("heads") if row.name == "theirs")
    assert row.origin == target


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("fewshot_i2v.errors:UsageError", "expected a subclass of Head, found <class"),
        ("fewshot_i2v.models.heads.prototype:Nothing", "cannot be imported: AttributeError"),
        ("fewshot_i2v.models.heads.base.head:Head", "Head lacks source"),
    ],
)
def test_entry_points_that_are_none_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, said: str
) -> None:
    install_head(target, tmp_path, monkeypatch)
    with pytest.raises(UsageError, match=f"{target}: {said}"):
        registry.load_method("heads", "theirs")


def test_shipped_data_is_found_by_name() -> None:
    assert "quickstart" in resources.data_names("configs")
    path = resources.data_file("episodes", "motions")
    assert path.is_file()
    assert path.name == "motions.yaml"


def test_unknown_data_names_what_exists() -> None:
    with pytest.raises(UnknownNameError, match="unknown split 'motion'; did you mean 'motions'"):
        resources.data_file("episodes", "motion")
    with pytest.raises(UnknownNameError, match="A path to a YAML file works too"):
        resources.data_file("configs", "../configs/quickstart")


def test_a_broken_plug_in_has_a_problem_and_others_have_none(folder: Path) -> None:
    (folder / "bad.py").write_text('"""Bad."""\n\nraise ValueError("x")\n')
    problems = {i.name: registry.find_problem("heads", i) for i in registry.list_methods("heads")}
    message = f"{folder / 'bad.py'}, line 3: cannot be imported: ValueError: x"
    assert {name: text for name, text in problems.items() if text} == {"bad": message}
    assert "my-head" in problems
